"""The arena of a demo whose node is killed: beside the effect of each command a row that says so, in one transaction.

What a client was told is held against what the store has after the last restart, and nothing else would do: a count in
the node's memory dies with it, and most effects are written over by the next.

Invariant: clients see the world of the README and no row more, with interest less; receipts are not replicated.
"""

import functools
from dataclasses import replace
from typing import Any

from ecsnet import Schema, Table, Transaction, World, auto, u32, u64
from ecsnet.demo import arena, sighted
from ecsnet.demo.options import Options
from ecsnet.store import Store
from ecsnet.world import Client, CommandSpec


class Receipt(Table, replicated=False):
    """One command of one session has had its effect."""

    id: u64 = auto()
    session: u64
    sequence: u32


def world_of(options: Options) -> World:
    """The world that node and bots of this demo share."""
    world, of_readme = arena.world, arena.schema
    if options.data or options.interest:
        place = sighted.Place if options.interest else arena.Transform
        tables = [place, arena.Velocity, arena.Health, arena.Item, arena.Hit, *([Receipt] if options.data else [])]
        schema = Schema(of_readme.name, of_readme.version, *tables)
        world = World(schema, interest=sighted.rules_of(options) if options.interest else ())
        world.join_hook = sighted.enter if options.interest else arena.world.join_hook
        world.leave_hook = arena.world.leave_hook
        noted = _with_receipt if options.data else _as_it_is
        world.commands.update({name: noted(spec) for name, spec in arena.world.commands.items()})
        world.systems[:] = arena.world.systems
    world.hz, world.seed = options.hz, options.seed
    return world


def receipts_in(store: Store) -> list[tuple[int, int]]:
    """(session, sequence) of every command that had its effect, as often as it had."""
    with store.view() as view:
        return list(zip(view["receipt.session"].tolist(), view["receipt.sequence"].tolist(), strict=True))


def _as_it_is(spec: CommandSpec) -> CommandSpec:
    return spec


def _with_receipt(spec: CommandSpec) -> CommandSpec:
    function = spec.function

    @functools.wraps(function)
    def noted(tx: Transaction, client: Client, **arguments: Any) -> None:
        function(tx, client, **arguments)
        sequence = tx[client._key, "sessions.last_command"]
        tx.insert(Receipt(session=client.session, sequence=sequence))

    return replace(spec, function=noted)
