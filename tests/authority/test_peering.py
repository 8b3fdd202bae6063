"""Authorities that write the same tables: they come to hold the same, and nobody sees an effect before its cause."""

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ecsnet._kernel.stamps import Whose
from ecsnet.authority import Authority, PeeringSettings
from ecsnet.authority.peer_link import LinkState
from ecsnet.errors import ArgumentError, LimitExceededError
from ecsnet.limits import PEER_SILENCE_NS_MAX, PEER_WAIT_NS_MAX, PEERS_MAX
from ecsnet.schema import loads
from ecsnet.store import Store
from ecsnet.wire import codec, messages
from ecsnet.wire.framing import split_frames_untrusted
from ecsnet.wire.messages import RELAYED, Reason
from ecsnet.world import World
from tests.authority.peers import HZ, SCHEMA, TICK_NS, Node, Peers

OTHER_SCHEMA = loads("""
[database]
name = "other"
version = "1.0.0"

[tables.note]
primary_key = "name"
conflict = "lww"
fields = [{ name = "name", type = "string[16]" }]
""")


@pytest.fixture
def made() -> Iterator[list[Peers]]:
    """Whoever makes nodes puts them here, to be closed."""
    all_of_them: list[Peers] = []
    yield all_of_them
    for peers in all_of_them:
        peers.close()


def among(made: list[Peers], *nodes: Node, **options: Any) -> Peers:
    made.append(Peers(*nodes, **options))
    return made[-1]


def test_what_two_nodes_write_is_the_same_on_both(made: list[Peers]) -> None:
    """Of one cell the later write wins, of one row each cell by itself."""
    a, b = Node(1), Node(2)
    peers = among(made, a, b)
    peers.connect_all()
    a.put("door", text="oak", count=1)
    peers.settle()
    a.put("door", text="pine")
    b.put("door", count=5)
    b.put("gate", count=9)
    peers.settle()
    assert a.rows() == b.rows() == {"door": ("pine", 5), "gate": ("", 9)}
    a.drop("gate")
    peers.settle()
    assert b.rows() == {"door": ("pine", 5)}
    assert a.peering.statistics().resyncs_told == 1, "only the first that a node is told is everything"


@pytest.mark.parametrize("relays", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_after_healing_all_hold_the_same(made: list[Peers], seed: int, relays: bool) -> None:
    """Random writes on three nodes whose links are slow, break with what is on them, and come back."""
    nodes = [Node(number, relays=relays, behind_ms=70 * number) for number in (1, 2, 3)]
    peers = among(made, *nodes, seed=seed, delay=(1, 8))
    random = Random(seed)
    pairs = [(0, 1), (1, 2)] if relays and seed % 2 else [(0, 1), (0, 2), (1, 2)]
    for _ in range(120):
        for pair in pairs:
            if pair in peers.wires:
                if random.random() < 0.03:
                    peers.cut(*pair)
            elif random.random() < 0.2:
                peers.connect(*pair)
        for node in nodes:
            name = random.choice("abcdef")
            if random.random() < 0.15:
                node.drop(name)
            elif random.random() < 0.4:
                node.put(name, **random.choice([{"count": random.randint(0, 9)}, {"text": random.choice("xyz")}]))
        peers.step(random.choice((1, 1, 3)))
    for pair in pairs:
        if pair not in peers.wires:
            peers.connect(*pair)
    peers.settle()
    assert nodes[0].rows() == nodes[1].rows() == nodes[2].rows()
    assert not any(node.peering.statistics().links_refused for node in nodes)


@pytest.mark.parametrize("relays", [False, True])
def test_no_reader_sees_an_effect_without_its_cause(made: list[Peers], relays: bool) -> None:
    """A counts; B answers with the count it saw; C, whose link to A is slow, never sees an answer above A's count."""
    a, b, c = (Node(number, relays=relays) for number in (1, 2, 3))
    peers = among(made, a, b, c, seed=3)
    peers.connect(0, 1)
    peers.connect(0, 2, delay=(20, 40))
    peers.connect(1, 2)
    for number in range(150):
        if number < 100:
            a.put("cause", count=number)
        seen = b.rows().get("cause", ("", 0))[1]
        b.put("effect", count=seen)
        peers.step()
        rows = c.rows()
        assert rows.get("effect", ("", 0))[1] <= rows.get("cause", ("", 0))[1]
    peers.settle()
    assert c.rows()["effect"][1] == 99
    assert (c.peering.statistics().waited > 0) is not relays, "a frame waited, where nobody relays"


def test_one_who_waits_for_a_node_that_is_gone_asks_for_everything(made: list[Peers]) -> None:
    """A is cut off from C: what B knows of A reaches C all the same, after the wait has ended."""
    a, b, c = (Node(number) for number in (1, 2, 3))
    peers = among(made, a, b, c)
    peers.connect_all()
    a.put("door", count=1)
    peers.settle()
    peers.cut(0, 2)
    a.put("door", count=2)
    peers.step(5)
    b.put("gate", count=3)
    peers.step(5)
    assert c.rows() == {"door": ("", 1)}, "what names what is missing waits"
    for number in range(PEER_WAIT_NS_MAX // TICK_NS + 5):
        b.put("clock", count=number)
        peers.step()
    peers.step(20)
    assert c.rows() == b.rows() and c.rows()["door"] == ("", 2) and c.rows()["gate"] == ("", 3)
    assert c.peering.statistics().resyncs_asked == 1
    assert c.peering.statistics().links_refused == 0


def test_a_chain_of_nodes_that_relay_is_as_good(made: list[Peers]) -> None:
    nodes = [Node(number, relays=True) for number in (1, 2, 3, 4)]
    peers = among(made, *nodes)
    for a in range(3):
        peers.connect(a, a + 1)
    nodes[0].put("door", count=1)
    nodes[3].put("gate", count=2)
    peers.settle()
    assert nodes[0].rows() == nodes[3].rows() == {"door": ("", 1), "gate": ("", 2)}
    told = nodes[0].peering.statistics().cells_told
    nodes[0].put("door", count=3)
    peers.settle()
    assert nodes[0].peering.statistics().cells_told == told, "nobody is told what he wrote himself"


def test_a_link_that_comes_back_costs_what_was_missed(made: list[Peers]) -> None:
    a, b = Node(1), Node(2)
    peers = among(made, a, b)
    peers.connect(0, 1)
    for number in range(40):
        a.put(f"n{number}", text="some words", count=number)
    peers.settle()
    whole = a.peering.statistics().bytes_told
    peers.cut(0, 1)
    a.put("n7", count=77)
    peers.step(10)
    peers.connect(0, 1)
    peers.settle()
    assert b.rows()["n7"] == ("some words", 77)
    assert a.peering.statistics().bytes_told - whole < whole / 10
    assert a.peering.statistics().resyncs_told == 1


def test_what_is_too_much_for_one_frame_goes_in_several(made: list[Peers]) -> None:
    a, b = Node(1), Node(2)
    peers = among(made, a, b)
    names = np.array([f"n{number}" for number in range(12_000)], object)
    texts = np.full(len(names), "forty bytes of words that say very little"[:40], object)
    a.todo.append(lambda tx: tx.insert_many("note", {"name": names, "text": texts}))
    peers.step()
    peers.connect(0, 1)
    peers.settle()
    assert a.peering.statistics().frames_told > 8 and len(b.rows()) == 12_000


def test_a_node_goes_on_from_its_disk(made: list[Peers], tmp_path: Path) -> None:
    """What it holds of the others is in its store, so it is told what it missed and no more."""
    store = Store(SCHEMA, data=tmp_path / "b")
    a, b = Node(1), Node(2, store=store)
    peers = among(made, a, b)
    peers.connect(0, 1)
    a.put("door", count=1)
    b.put("gate", count=2)
    peers.settle()
    peers.cut(0, 1)
    held, before = b.peering.held.marks, b.peering.digest()
    b.authority.close()
    store.close()
    a.put("door", count=3)
    a.put("gate", text="new")
    peers.nodes = (a,)
    peers.step(3)
    with Store(None, data=tmp_path / "b") as again:
        b = Node(2, store=again)
        assert b.peering.held.marks == held and b.peering.digest() == before
        peers.nodes = (a, b)
        peers.connect(0, 1)
        peers.settle()
        assert b.rows() == a.rows() == {"door": ("", 3), "gate": ("new", 2)}
        assert a.peering.statistics().resyncs_told == 1, "the one of the first link"
        b.authority.close()
    peers.nodes = (a,)


def test_a_node_that_lost_its_store_is_told_all_of_it_again(made: list[Peers]) -> None:
    """Its own writes too: others have them."""
    a, b = Node(1), Node(2)
    peers = among(made, a, b)
    peers.connect(0, 1)
    b.put("gate", count=2)
    peers.settle()
    peers.cut(0, 1)
    b.authority.close()
    b = Node(2)
    b.authority.epoch = b.peering.epoch = 77  # type: ignore[assignment]  # a new history
    peers.nodes = (a, b)
    peers.connect(0, 1)
    peers.settle()
    assert b.rows() == {"gate": ("", 2)}
    b.put("gate", count=3)
    peers.settle()
    assert a.rows() == {"gate": ("", 3)}, "its clock is not behind what it wrote in its former life"


def test_a_node_whose_clock_is_ahead_is_refused_and_said_so(
    made: list[Peers], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = Node(1, behind_ms=-120_000), Node(2)
    peers = among(made, a, b)
    peers.connect(0, 1)
    a.put("door", count=1)
    with caplog.at_level(logging.WARNING):
        peers.step(10)
    assert b.rows() == {} and b.peering.statistics().stamps_ahead == 1
    assert "Set the clocks of both nodes" in caplog.text
    assert not peers.wires, "the link is over"
    a.behind_ms = 0
    b.put("gate", count=1)
    peers.step(120 * HZ)
    peers.connect(0, 1)
    peers.settle()
    assert set(b.rows()) == {"door", "gate"}


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ({"secret": b"swordfish"}, {"secret": b"sword-fish"}, Reason.AUTH_FAILED),
        ({"secret": b"swordfish"}, {}, Reason.AUTH_FAILED),
        ({}, {"schema": OTHER_SCHEMA}, Reason.SCHEMA_MISMATCH),
    ],
)
def test_who_is_not_one_of_us_is_told_nothing(
    made: list[Peers], one: dict[str, Any], other: dict[str, Any], reason: Reason
) -> None:
    a, b = Node(1, **one), Node(2, **other)
    peers = among(made, a, b)
    a.put("door", count=1)
    wire = peers.connect(0, 1)
    peers.step(6 * HZ)
    assert wire.links[0].state is LinkState.CLOSED and wire.links[0].farewell is reason
    assert a.peering.statistics().frames_told == 0
    assert b.peering.held.marks == {}


def test_those_who_share_a_secret_are_linked(made: list[Peers]) -> None:
    a, b = Node(1, secret=b"swordfish"), Node(2, secret=b"swordfish")
    peers = among(made, a, b)
    peers.connect(0, 1)
    a.put("door", count=1)
    peers.settle()
    assert b.rows() == {"door": ("", 1)}


def test_two_nodes_of_one_number_are_not_linked(made: list[Peers]) -> None:
    a, b = Node(1), Node(1)
    peers = among(made, a, b)
    wire = peers.connect(0, 1)
    peers.step(5)
    assert wire.links[0].farewell is Reason.BAD_STATE


@pytest.mark.parametrize("first_dialled_by", [0, 1])
def test_of_two_links_between_two_nodes_one_is_kept(made: list[Peers], first_dialled_by: int) -> None:
    """Both dialled at the same moment: both ends must part from the same one, whichever they hear of first."""
    a, b = Node(1), Node(2)
    peers = among(made, a, b, delay=(3, 3))
    wires = {}
    for dialler in (first_dialled_by, 1 - first_dialled_by):
        peers.nodes = (a, b) if dialler == 0 else (b, a)
        wires[dialler] = peers.connect(0, 1)
        peers.wires[9, dialler] = peers.wires.pop((0, 1))
    peers.nodes = (a, b)
    a.put("door", count=1)
    peers.settle()
    peers.step(10)
    states = {dialler: {link.state for link in wire.links} for dialler, wire in wires.items()}
    assert states == {0: {LinkState.LIVE}, 1: {LinkState.CLOSED}}, "the one that the lower number dialled is kept"
    a.put("door", count=2)
    peers.settle()
    assert b.rows() == {"door": ("", 2)}


def test_a_link_that_was_away_for_too_long_is_told_everything(made: list[Peers]) -> None:
    a, b = Node(1, store=Store(SCHEMA, retain_versions=64)), Node(2)
    peers = among(made, a, b)
    peers.connect(0, 1)
    a.put("door", count=1)
    a.put("gate", count=1)
    peers.settle()
    peers.cut(0, 1)
    a.drop("gate")
    for number in range(400):
        a.put("door", count=number)
        peers.step()
    peers.connect(0, 1)
    peers.settle()
    assert b.rows() == {"door": ("", 399)}
    assert a.peering.statistics().resyncs_told == 2


def test_one_who_holds_what_is_not_there_any_more_is_told_everything(made: list[Peers]) -> None:
    """It says that it holds a version of this history which this node does not have."""
    a = Node(1)
    peers = among(made, a)
    a.put("door", count=1)
    peers.step()
    link = a.peering.open_link(peers.now_ns, dialled=False)
    hello = messages.Peer(node=2, epoch=1, fingerprint=SCHEMA.fingerprint, nonce=bytes(16))
    held = messages.Ack(session=2, epoch=a.authority.epoch, version=1_000_000)
    for message in (hello, held):
        a.peering.receive_frame(link, messages.KIND_OF[type(message)], codec.encode(message)[8:], peers.now_ns)
    peers.step()
    frame = split_frames_untrusted(a.peering.frames_to_send(link, peers.now_ns)[-1], 1 << 20)[0]
    delta = codec.decode_untrusted(frame.kind, frame.payload)
    assert isinstance(delta, messages.DeltaSync)
    assert (delta.base, delta.version, delta.flags) == (0, a.authority.version, RELAYED)


def test_silence_ends_a_link_and_pings_keep_it(made: list[Peers]) -> None:
    a, b = Node(1), Node(2)
    peers = among(made, a, b)
    wire = peers.connect(0, 1)
    peers.step(30 * HZ)
    assert wire.links[0].state is LinkState.LIVE, "nothing to tell, and still there"
    a.peering.handle_timeout(peers.now_ns + PEER_SILENCE_NS_MAX)
    assert wire.links[0].farewell is Reason.TIMEOUT


def test_a_hostile_node_costs_its_link_and_nothing_else(made: list[Peers]) -> None:
    """Any message of the protocol, and any bytes, at any moment: others notice nothing, and memory is bounded."""
    random = Random(5)
    a, b = Node(1), Node(2)
    peers = among(made, a, b)
    peers.connect(0, 1)
    a.put("door", count=1)
    peers.settle()
    block = b.peering.stamps.cut(b.peering._pin, 0, Whose.ALL).block
    refused = 0
    for _ in range(400):
        link = a.peering.open_link(peers.now_ns, dialled=False)
        if random.random() < 0.9:
            hello = messages.Peer(node=66, epoch=1, fingerprint=SCHEMA.fingerprint, nonce=bytes(16))
            a.peering.receive_frame(link, messages.Kind.PEER, codec.encode(hello)[8:], peers.now_ns)
        for _ in range(random.randint(1, 20)):
            kind = random.choice([7, 7, 7, 8, 18, 3, 12, 13, 16, 17, 1, random.randint(0, 255)])
            damaged = bytearray(block)
            for _ in range(random.randint(0, 2)):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            delta = messages.DeltaSync(
                session=random.choice([66, 66, 66, 1]), epoch=random.choice([1, 1, 2]), base=0,
                version=random.choice([0, 1, 1 << 63]), tick=0, flags=random.choice([0, RELAYED]),
                clock=random.choice([(), ((66, 1),), ((2, 1 << 63), (1, 1 << 63))]), block=bytes(damaged),
            )  # fmt: skip
            payload = codec.encode(delta)[8:] if kind == 7 else random.randbytes(8 * random.randint(0, 20))
            a.peering.receive_frame(link, kind, payload, peers.now_ns)
            if random.random() < 0.3:
                peers.step()
        refused += link.state is LinkState.CLOSED
        a.peering.close_link(link)
    assert refused > 100
    statistics = a.peering.statistics()
    assert statistics.links == 1 and statistics.waiting_frames == 0
    b.put("gate", count=4)
    peers.step(10)
    assert a.rows()["gate"] == ("", 4)


def test_links_are_bounded(made: list[Peers]) -> None:
    """Strangers push each other out, but nobody whom we know."""
    a, b = Node(1), Node(2)
    peers = among(made, a, b)
    known = peers.connect(0, 1).links[0]
    peers.step(5)
    opened = [a.peering.open_link(peers.now_ns, dialled=False) for _ in range(PEERS_MAX)]
    assert known.state is LinkState.LIVE
    assert [link.farewell for link in opened[:2]] == [Reason.FULL, None]
    with pytest.raises(LimitExceededError, match="PEERS_MAX"):
        for _ in range(2 * PEERS_MAX):
            a.peering.open_link(peers.now_ns, dialled=False)


def test_a_world_that_no_other_node_writes_has_no_peering() -> None:
    world = World(loads('[database]\nname = "own"\nversion = "1.0.0"\n'))
    with pytest.raises(ArgumentError, match="nothing that several nodes write"):
        Authority(world, peering=PeeringSettings(1))
    with Store(SCHEMA) as store, pytest.raises(ArgumentError, match="a node is a number"):
        Authority(World(SCHEMA), store, peering=PeeringSettings(0))
