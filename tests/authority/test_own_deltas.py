"""The fan-out to sessions that each see something else: one call for all, and on another thread when there are many."""

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from ecsnet import Client, Component, Entity, Schema, Transaction, World, f32, field
from ecsnet._kernel.pin import Pin
from ecsnet.authority import Batch
from ecsnet.authority.batch import ENTRY
from ecsnet.ids import EMPTY_VERSION
from ecsnet.interest import near, owned
from tests.helpers import Pair
from tests.test_interest import HZ, Body, agrees, place, settle, spawn, world_of


def with_places(clients: int = 3) -> tuple[Pair, int]:
    """Clients in one place, somebody between them, and a hub that reaches all."""
    world, _ = world_of()
    pair = Pair(world, clients=clients, digest_every_version=False)
    other = spawn(pair, 3.0)
    settle(pair)
    for number, wire in enumerate(pair.wires):
        wire.link.place = 100 + number
    return pair, other


def ticked(pair: Pair) -> None:
    """A tick of which nothing has been sent yet."""
    pair.now_ns += 1_000_000_000 // HZ
    pair.authority.tick(pair.now_ns)


def frames(batch: Batch) -> list[bytes]:
    return [batch.frame(number) for number in range(len(batch))]


def test_a_batch_has_the_bytes_that_each_session_would_be_given_alone() -> None:
    pair, other = with_places()
    with pair:
        place(pair, other, 4.0)
        ticked(pair)

        batch = pair.authority.deltas_to_send(pair.now_ns)
        alone = [pair.authority.next_transmit(wire.link, pair.now_ns) for wire in pair.wires]

        assert [batch.place(number) for number in range(len(batch))] == [100, 101, 102]
        assert batch.rest == []
        assert frames(batch) == [b"".join(map(bytes, transmit.parts)) for transmit in alone if transmit is not None]


def test_sessions_of_which_nothing_changed_are_no_entries() -> None:
    pair, other = with_places()
    with pair:
        place(pair, pair.replicas[2].entity, 500.0)
        settle_links(pair)
        place(pair, other, 5.0)
        ticked(pair)

        batch = pair.authority.deltas_to_send(pair.now_ns)

        assert [batch.place(number) for number in range(len(batch))] == [100, 101]
        assert batch.rest == []


def settle_links(pair: Pair) -> None:
    """Everybody gets what there is, over the batch; then the pair's own wires have nothing to do."""
    for _ in range(2):
        ticked(pair)
        batch = pair.authority.deltas_to_send(pair.now_ns)
        for number, link in enumerate(batch.links):
            wire = next(wire for wire in pair.wires if wire.link is link)
            assert wire.down.write(batch.frame(number), pair.steps)
        pair.authority.record_batch(batch, batch.lengths().astype(np.int32), pair.now_ns)
        for wire in pair.wires:
            wire.to_client(pair.steps, pair.now_ns)
            wire.to_node(pair.steps, pair.now_ns)


def on_another_thread(pair: Pair) -> bool:
    """Do the work of this tick as a node with many clients does. Whether there was any."""
    work = pair.authority.work_before_sending(pair.now_ns)
    if work is None:
        return False
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return True


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecsnet.authority.core.AUDIENCES_OFF_LOOP_MIN", 2)
    monkeypatch.setattr("ecsnet.authority.audiences.AUDIENCES_OFF_LOOP_MIN", 2)


@pytest.mark.usefixtures("few_are_many")
def test_what_a_thread_encodes_is_what_the_loop_would_have() -> None:
    pair, other = with_places()
    with pair:
        place(pair, other, 4.0)
        ticked(pair)
        before = pair.authority.deltas_to_send(pair.now_ns)
        expected = frames(before)

        assert on_another_thread(pair)
        batch = pair.authority.deltas_to_send(pair.now_ns)

        assert len(expected) == 3
        assert frames(batch) == expected


class Rounded(Component, spatial=["x", "y"]):
    x: f32 = field(default=0.0, quantize=0.002)
    y: f32 = field(default=0.0, quantize=0.002)


def rounded_world() -> World:
    world = World(Schema("rounded", "1.0.0", Rounded), hz=HZ, interest=[owned(), near(Rounded, radius=100.0)])

    @world.on_join
    def join(tx: Transaction, client: Client) -> Entity:
        return tx.spawn(Rounded(), owner=client)

    return world


@pytest.mark.usefixtures("few_are_many")
def test_what_each_sees_is_sent_as_differences_to_what_it_holds_whoever_encodes_it() -> None:
    """Half of the bytes and less, and most of all for those who see little."""
    with Pair(rounded_world(), clients=3, digest_every_version=False) as pair:
        with pair.authority.store.transaction() as tx:
            others = [tx.spawn(Rounded(x=10.0 + number)) for number in range(40)]
        settle(pair)
        for number, wire in enumerate(pair.wires):
            wire.link.place = 100 + number
        settle_links(pair)
        for step in range(1, 4):
            with pair.authority.store.transaction() as tx:
                for number, other in enumerate(others):
                    tx.update(other, Rounded, x=10.0 + number + 0.1 * step)
            ticked(pair)
            expected = frames(pair.authority.deltas_to_send(pair.now_ns))

            assert on_another_thread(pair)
            batch = pair.authority.deltas_to_send(pair.now_ns)

            assert frames(batch) == expected
            for number, link in enumerate(batch.links):
                entry = ENTRY.unpack_from(batch.entries, ENTRY.size * number)
                block, offset, length = entry[8:11]
                head = bytes(batch.blocks[block][offset : offset + 16])
                assert int.from_bytes(head[8:], "little") == link.base > 0
                assert length < 4 * len(others), "an x alone would be as much"
            for number, wire in enumerate(pair.wires):
                assert wire.down.write(batch.frame(number), pair.steps)
            pair.authority.record_batch(batch, batch.lengths().astype(np.int32), pair.now_ns)
            for wire in pair.wires:
                wire.to_client(pair.steps, pair.now_ns)
                wire.to_node(pair.steps, pair.now_ns)
        agrees(pair)


@pytest.mark.usefixtures("few_are_many")
def test_what_happens_while_a_thread_encodes_is_not_lost() -> None:
    """A link that goes, one that was served meanwhile, a version that somebody else made: each is cut anew."""
    pair, other = with_places(4)
    with pair:
        place(pair, other, 4.0)
        ticked(pair)
        assert on_another_thread(pair)

        pair.wires[0].lose(pair.now_ns)
        transmit = pair.authority.next_transmit(pair.wires[1].link, pair.now_ns)
        assert transmit is not None
        pair.authority.record_sent(pair.wires[1].link, transmit, pair.now_ns)
        batch = pair.authority.deltas_to_send(pair.now_ns)
        assert [batch.place(number) for number in range(len(batch))] == [102, 103]

        ticked(pair)
        assert on_another_thread(pair)
        with pair.authority.store.transaction() as tx:
            tx.update(other, Body, x=6.0)
        batch = pair.authority.deltas_to_send(pair.now_ns)
        assert batch.version == pair.authority.version
        assert [ENTRY.unpack_from(batch.entries, ENTRY.size * n)[3] for n in range(len(batch))] == [
            wire.link.base for wire in pair.wires[1:]
        ]


@pytest.mark.usefixtures("few_are_many")
def test_a_delta_that_is_cut_alone_does_not_reach_into_what_a_thread_encoded() -> None:
    """A connection's own task may send a sync between the thread and the batch."""
    pair, other = with_places()
    with pair:
        for n in range(50):
            spawn(pair, 2.0 + n / 50)
        settle_links(pair)
        place(pair, other, 4.0)
        ticked(pair)
        expected = frames(pair.authority.deltas_to_send(pair.now_ns))
        assert on_another_thread(pair)

        pair.wires[1].link.audience.blocks.whole(EMPTY_VERSION)

        assert frames(pair.authority.deltas_to_send(pair.now_ns)) == expected
        assert len(expected) == 3


@pytest.mark.usefixtures("few_are_many")
def test_a_session_that_returns_while_a_thread_looks_is_looked_for_in_the_next_look() -> None:
    pair, other = with_places()
    with pair:
        audience = pair.wires[0].link.audience
        pair.wires[0].lose(pair.now_ns)
        place(pair, other, 4.0)
        ticked(pair)
        audiences = pair.authority._audiences
        kernel = audiences._kernel
        assert kernel is not None
        update = kernel.update

        def update_and_return(pin: Pin, handles: NDArray[np.uint32] | None = None) -> None:
            update(pin, handles)
            audiences.returned(audience)

        kernel.update = update_and_return  # type: ignore[method-assign]  # it comes back while another thread looks
        assert on_another_thread(pair)
        kernel.update = update  # type: ignore[method-assign]  # as it was

        assert other in audiences.keys_seen(audience, pair.world.schema["body"])


def test_a_few_sessions_are_not_worth_a_thread() -> None:
    pair, other = with_places()
    with pair:
        place(pair, other, 4.0)
        ticked(pair)

        assert pair.authority.work_before_sending(pair.now_ns) is None


def test_a_session_too_far_behind_is_served_by_itself() -> None:
    """What changed since its base is not kept any more: it is sent a whole view, by the path of full syncs."""
    pair, other = with_places(2)
    with pair:
        pair.wires[1].link.base = 1
        place(pair, other, 4.0)
        ticked(pair)

        batch = pair.authority.deltas_to_send(pair.now_ns)

        assert [batch.place(number) for number in range(len(batch))] == [100]
        assert batch.rest == [pair.wires[1].link]
