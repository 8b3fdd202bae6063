"""Any bytes, from anybody: does the node go on, does a client, and does nobody else notice?

    python sims/fuzz.py [TARGET ...] [--seconds S] [--first-seed N] [--seeds N] [--json]

The targets, each on a whole authority with a witness beside it, in memory and without sockets:

    handshake   strangers: hellos, resumes and other frames that are nearly right, noise, in pieces of any size
    node        a player in the middle of its session begins to lie: frames changed, repeated, from the past, made up
    client      what the node says is changed on its way: a replica refuses it with a typed error, or takes it whole
    session     whole sessions as scripts: lines that drop, resumes with right and wrong keys, frames of others, floods

Nothing may raise; the witness holds what the node holds, and each of its commands has had its effect once; what waits
for anybody is bounded. Equal seeds do equal things: one that failed is run again by
`TARGET --first-seed N --seeds 1`.

Bytes of blocks are `kernel/zig/fuzz.zig`'s, guided by coverage; here is all that lies around them.
"""

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Run as a program, from any folder: of this clone, whatever else is installed.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ecsnet.errors import EcsnetError  # noqa: E402
from ecsnet.sim.hostile import mutated  # noqa: E402
from ecsnet.wire.codec import encode  # noqa: E402
from ecsnet.wire.framing import header  # noqa: E402
from ecsnet.wire.messages import Ack, Command, Goodbye, Hello, Ping, Pong, Reason, Resume  # noqa: E402
from sims.fuzz_world import SCHEMA, Node, Seat, any_bytes, demand  # noqa: E402

STEPS = 40


def handshake(seed: int) -> None:
    """Strangers."""
    source = random.Random(f"handshake/{seed}")
    node = Node(seed)
    try:
        witness = _joined(node, "witness")
        other = _joined(node, "other")
        corpus = [
            encode(Hello(fingerprint=SCHEMA.fingerprint, wire_min=1, wire_max=1, name="eve")),
            encode(Hello(name="", wire_min=0, wire_max=0xFFFF, token=source.randbytes(64))),
            encode(_resume(node, other, source)),
            *other.said[:8],
            *witness.said[-4:],
        ]
        for _ in range(STEPS):
            for _ in range(source.randrange(1, 6)):
                try:
                    link, reader = node.stranger()
                except EcsnetError:
                    break
                for _ in range(source.randrange(1, 5)):
                    data = source.choice(corpus) if source.random() < 0.9 else any_bytes(source)
                    data = data if source.random() < 0.2 else mutated(data, source)
                    for piece in _pieces(data, source):
                        node.take_in(link, reader, piece)
                if source.random() < 0.3:
                    node.authority.close_link(link, node.now_ns)
                    node.links_of_strangers.remove(link)
            witness.count()
            node.step()
            node.check_bounds()
        # What never became a client is gone when its time is over.
        node.now_ns += 20_000_000_000
        for _ in range(3):
            node.step()
        demand(witness.replica.error is None, f"the witness: {witness.replica.error}")
    finally:
        node.close()


def node(seed: int) -> None:
    """A player that begins to lie."""
    source = random.Random(f"node/{seed}")
    node = Node(seed)
    try:
        witness = _joined(node, "witness")
        liar = _joined(node, "liar")
        for _ in range(STEPS):
            if liar.link is None:
                liar = _joined(node, "liar")
            for _ in range(source.randrange(8)):
                liar.bytes_to_node(_lie(liar, source))
            if source.random() < 0.5:
                liar.count()
            witness.count()
            node.step()
            node.check_bounds()
        node.check_witness(witness)
    finally:
        node.close()


def client(seed: int) -> None:
    """A line that changes what the node says."""
    source = random.Random(f"client/{seed}")
    node = Node(seed)
    try:
        witness = _joined(node, "witness")
        rate = source.choice((0.02, 0.1, 0.5))

        def change(seat: Seat, frame: bytes) -> list[bytes]:
            if seat is witness or source.random() >= rate:
                return [frame]
            past = source.choice(seat.heard)
            told = source.choice(witness.heard)
            lied = mutated(source.choice((frame, frame, past, told)), source)
            return source.choice(([], [frame, frame], [past], [frame, past], [told, frame], [lied], [lied, frame]))

        victims = [node.seat(f"victim {number}") for number in range(3)]
        shown = {id(victim): (0, 0) for victim in victims}
        for _ in range(STEPS):
            for victim in victims:
                if victim.link is None and victim.replica.reconnecting and source.random() < 0.5:
                    victim.connect()
                victim.count()
            witness.count()
            node.step(change)
            for victim in victims:
                replica = victim.replica
                before, now = shown[id(victim)], (replica.epoch, replica.version)
                demand(
                    now[0] != before[0] or now[1] >= before[1] or replica.state != "live", f"back to {now}, {before}"
                )
                shown[id(victim)] = now
                with replica.view() as view:
                    (body,) = view.query("body")
                    body.x.sum(), list(body.name)  # whatever happened, what it has can be read
            node.check_bounds()
        node.check_witness(witness)
        for victim in victims:
            # One that took a lie has noticed it by now: each version has a digest.
            _check_if_honest(node, victim)
    finally:
        node.close()


def session(seed: int) -> None:
    """Whole sessions."""
    source = random.Random(f"session/{seed}")
    node = Node(seed)
    try:
        witness = _joined(node, "witness")
        players = [_joined(node, f"player {number}") for number in range(3)]
        for _ in range(2 * STEPS):
            player = source.choice(players)
            match source.randrange(9):
                case 0:
                    player.drop()
                case 1:
                    # Half a frame, and the line is gone.
                    player.bytes_to_node(source.choice(player.said)[: source.randrange(1, 24)])
                    player.drop()
                case 2:
                    # Somebody else's frames, or its own of another link.
                    player.bytes_to_node(source.choice(source.choice([*players, witness]).said))
                case 3:
                    link, reader = node.stranger()
                    node.take_in(link, reader, encode(_resume(node, source.choice(players), source)))
                case 4:
                    for _ in range(source.randrange(300)):
                        player.bytes_to_node(encode(Ping(nonce=1, sent_ns=2)))
                case 5:
                    node.now_ns += source.choice((0, 1, 500_000_000, 2_500_000_000))
                case _:
                    for _ in range(source.randrange(4)):
                        player.count()
            for one in players:
                if one.link is None and one.replica.reconnecting and source.random() < 0.4:
                    one.connect()
            witness.count()
            node.step()
            node.check_bounds()
        node.check_witness(witness)
        for player in players:
            _check_if_honest(node, player)
    finally:
        node.close()


TARGETS: dict[str, Callable[[int], None]] = {
    "handshake": handshake,
    "node": node,
    "client": client,
    "session": session,
}


def _joined(node: Node, name: str) -> Seat:
    seat = node.seat(name)
    for _ in range(12):
        if seat.replica.state == "live":
            return seat
        node.step()
    raise AssertionError(f"{name} is {seat.replica.state}: {seat.replica.error}")


def _check_if_honest(node: Node, player: Seat) -> None:
    """One whose link was never closed for what somebody else did in its name holds the truth, too."""
    for _ in range(40):
        if player.link is None and player.replica.reconnecting:
            player.connect()
        if player.replica.state == "live" and player.replica.version == node.authority.version and not player.pending:
            break
        node.step()
    if player.replica.state == "live":
        held_version, version = player.replica.version, node.authority.version
        demand(held_version == version, f"{player.replica.name} is live and stays at {held_version} of {version}")
        with player.replica.view() as held, node.store.view() as true:
            demand(held._pin.digest() == true._pin.digest(), f"{player.replica.name} holds another world")


def _resume(node: Node, player: Seat, source: random.Random) -> Resume:
    """Of somebody else's session: without its key nothing comes of it."""
    return Resume(
        session=player.replica.session,
        resume_key=source.choice((b"", bytes(16), source.randbytes(16))),
        fingerprint=SCHEMA.fingerprint,
        wire_min=1,
        wire_max=1,
        epoch=node.authority.epoch,
        version=source.choice((0, 1, node.authority.version, 1 << 60)),
        command_next=source.choice((0, 1, 1 << 31)),
    )


def _lie(liar: Seat, source: random.Random) -> bytes:
    """A frame of one that is in a session."""
    session = liar.replica.session
    number = source.choice((0, 1, 2, 50, 1 << 31, 0xFFFF_FFFF))
    command = source.randrange(5)
    made_up = (
        Ack(session=session, version=source.choice((0, 1, liar.replica.version, 1 << 63)), epoch=liar.replica.epoch),
        Ack(session=session ^ 1, version=1, epoch=0, chunks=9),
        Command(session=session, tick=0, sequence=number, command=command, arguments=any_bytes(source, 40)),
        Command(
            session=session, tick=0, sequence=len(liar.said), command=command, flags=1, arguments=any_bytes(source, 200)
        ),
        Ping(nonce=number, sent_ns=number),
        Pong(nonce=number, sent_ns=0, received_ns=number),
        Hello(fingerprint=SCHEMA.fingerprint, wire_min=1, wire_max=1),
        Goodbye(reason=Reason.LEFT, message="x" * source.randrange(200)),
    )
    frame = encode(source.choice(made_up)) if source.random() < 0.6 else source.choice(liar.said)
    how = source.random()
    if how < 0.35:
        return mutated(frame, source)
    if how < 0.4:
        return header(source.randrange(256), 16) + any_bytes(source, 32)
    return frame


def _pieces(data: bytes, source: random.Random) -> list[bytes]:
    """The same bytes as a line may bring them."""
    if source.random() < 0.6 or len(data) < 2:
        return [data]
    at = sorted(source.sample(range(1, len(data)), min(len(data) - 1, source.randrange(1, 6))))
    return [data[begin:end] for begin, end in zip([0, *at], [*at, len(data)], strict=True)]


def main(arguments: list[str] | None = None) -> int:
    """Run the targets by turns. The exit status is 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=float, help="for each target, instead of a number of seeds")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20, help="of each target")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    runs: dict[str, int] = {}
    failed: list[dict[str, object]] = []
    began = time.monotonic()
    for name in options.targets or TARGETS:
        started = time.monotonic()
        seed = options.first_seed
        while True:
            over = time.monotonic() - started
            if over >= options.seconds if options.seconds is not None else seed >= options.first_seed + options.seeds:
                break
            try:
                TARGETS[name](seed)
            except Exception as error:  # noqa: BLE001  (whatever it is, it is what is looked for)
                failed.append({"target": name, "seed": seed, "what": f"{type(error).__name__}: {error}"})
                print(f"FAILED {name} --first-seed {seed} --seeds 1", file=sys.stderr)
                traceback.print_exc()
            seed += 1
        runs[name] = seed - options.first_seed
    wall_s = round(time.monotonic() - began, 1)
    if options.json:
        print(json.dumps({"runs": runs, "failed": len(failed), "failures": failed, "wall_s": wall_s}))
    else:
        print(
            ", ".join(f"{name}: {count} seeds" for name, count in runs.items()) + f"; {len(failed)} failed, {wall_s} s"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
