"""The node of a demo: the arena behind an ordinary node, filled with entities that fly."""

import logging
import time
from pathlib import Path

import numpy as np
import trio

from ecsnet.demo.certificate import files_in
from ecsnet.demo.child import Parent, run_child
from ecsnet.demo.messages import Compare, Compared, Count, Counted, End, Held, NodeStatus, Play, Ready, Rest, SetUp
from ecsnet.demo.options import STATUS_S, Options
from ecsnet.demo.receipts import receipts_in, world_of
from ecsnet.demo.sighted import astray, radius_of
from ecsnet.demo.watch import Watch
from ecsnet.ids import Version
from ecsnet.node import AuthoritativeNode, open_node
from ecsnet.store import Store

SPEED_MIN, SPEED_MAX = 1.0, 5.0


def populate(store: Store, options: Options) -> None:
    """Spawn the entities that fly by themselves, and those that stand."""
    if not options.entities:
        return
    random = np.random.default_rng(options.seed)
    angle = random.uniform(0.0, 2 * np.pi, options.entities)
    speed = random.uniform(SPEED_MIN, SPEED_MAX, options.entities)
    speed[round(options.entities * options.moving) :] = 0.0
    x, y = random.uniform(-50.0, 50.0, (2, options.entities))
    with store.transaction("populate") as tx:
        tx.spawn_many(
            options.entities,
            transform={"x": x, "y": y},
            velocity={"x": np.cos(angle) * speed, "y": np.sin(angle) * speed},
            health=None,
        )


async def main(parent: Parent) -> None:
    set_up = await parent.receive()
    assert isinstance(set_up, SetUp)
    options = set_up.options
    # Its warnings are of ticks that came too late, which the parent counts and tells.
    logging.getLogger("ecsnet.node").setLevel(logging.ERROR)
    world = world_of(options)
    durability = options.durability if options.data else "memory"
    with Store(world.schema, data=options.data or None, durability=durability) as store:
        if store.version == 0:
            populate(store, options)
        watch = Watch(world, store)
        listen = set_up.address or ("tls://127.0.0.1:0" if options.tls else "tcp://127.0.0.1:0")
        certificate = files_in(Path(options.tls)).certificate if options.tls else None
        async with open_node(world, listen=listen, store=store, certificate=certificate, on_tick=watch.on_tick) as node:
            parent.tell(Ready(node.addresses[0]))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_report_for_ever, parent, node, watch)
                await _serve_parent(parent, node, watch, options)
                nursery.cancel_scope.cancel()


async def _serve_parent(parent: Parent, node: AuthoritativeNode, watch: Watch, options: Options) -> None:
    while True:
        match await parent.receive():
            case Play():
                parent.tell(_status(node, watch))
            case Rest():
                watch.standing = True
                parent.tell(_status(node, watch))
            case Compare(version):
                parent.tell(_status(node, watch))
                held = [_held(node, Version(version))]
                parent.tell(Compared(held + (_held_by_each(node, options) if options.interest else [])))
            case Count():
                parent.tell(Counted(receipts_in(node.store)))
            case End():
                return


async def _report_for_ever(parent: Parent, node: AuthoritativeNode, watch: Watch) -> None:
    while True:
        await trio.sleep(STATUS_S)
        parent.tell(_status(node, watch))


def _status(node: AuthoritativeNode, watch: Watch) -> NodeStatus:
    statistics = node.statistics()
    of_world = statistics.authority
    cuts, applied = watch.take()
    return NodeStatus(
        now_ns=time.monotonic_ns(),
        cpu_s=time.process_time(),
        tick=of_world.tick,
        version=of_world.version,
        clients=of_world.sessions - of_world.away,
        joins=of_world.joins,
        full_syncs=of_world.full_syncs,
        ticks_dropped=statistics.ticks_dropped,
        systems_failed=of_world.systems_failed,
        cuts=cuts,
        applied=applied,
    )


def _held(node: AuthoritativeNode, asked: Version) -> Held:
    """What the authority holds, and whether every client has acked `asked`."""
    authority = node.authority
    acked = bool(authority.links) and all(link.acked >= asked for link in authority.links)
    with node.store.view() as view:
        return Held(
            "the authority", view.version, view.digest(wire=True), acked, authority.tick_number, authority.epoch
        )


def _held_by_each(node: AuthoritativeNode, options: Options) -> list[Held]:
    """What each session is to hold: the digest of what it may see, and whether that is what lies near it."""
    authority, found = node.authority, []
    radius = radius_of(options)
    entities = authority.world.schema.table("entities")
    with node.store.view() as view:
        for link in authority.links:
            if link.joined and link.client is not None:
                seen = authority.seen_by(link, entities)
                wrong = astray(view, link.client.entity, seen, radius)
                digest = authority.digest_for(link)
                found.append(Held(link.name, view.version, digest, session=link.session, astray=wrong))
    return found


if __name__ == "__main__":
    run_child(main)
