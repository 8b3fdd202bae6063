"""Rows along references, as far as they lead.

A view reads the relation graph that each version carries, a transaction the head's own indexes, which are exact at any
moment, also for what it has written itself. Either way it costs what is found and nothing else.

    who holds what       related(ship, Item.holder)                              rows that refer to the ship
    whose it is          related(item, Item.holder, direction="outgoing")        the row that the item refers to
    everyone below       related(boss, Worker.boss, depth=None)                  those too who refer to those
    friends of friends   related(ada, Friend.a, Friend.b, depth=2)               through rows of a table between
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ecsnet._kernel.relations import Step, related
from ecsnet.errors import ArgumentError
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names, as_key
from ecsnet.store.typed import Path

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet._kernel.pin import Pin

__all__ = ["Direction", "Related", "related_rows"]

Direction = Literal["incoming", "outgoing", "both"]


class Related:
    """Rows that references lead to: breadth first, those of one depth by key, each row once.

    `key` is their keys (u64, read-only), `depth` after how many rounds each was found (u32, read-only, 1 and up), and
    `table` whose keys they are: "entities", or a table with keys of its own.
    """

    __slots__ = ("depth", "key", "table")

    def __init__(self, table: str, key: NDArray[np.uint64], depth: NDArray[np.uint32]):
        self.table = table
        self.key = key
        self.depth = depth

    def __len__(self) -> int:
        return len(self.key)

    def __repr__(self) -> str:
        deepest = f", at most {self.depth[-1]} deep" if len(self.depth) else ""
        return f"<{len(self.key)} related rows of {self.table}{deepest}>"


def related_rows(
    names: Names,
    where: "KernelStore | Pin",
    key: int,
    paths: Sequence[Path],
    depth: int | None,
    direction: Direction,
) -> Related:
    """What `related` of a view and of a transaction answers."""
    if not isinstance(direction, str) or direction not in ("incoming", "outgoing", "both"):
        raise ArgumentError(f"direction is 'incoming', 'outgoing' or 'both', not {direction!r}")
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
        raise ArgumentError(f"depth is a number of rounds from 1 on, or None for all of them, not {depth!r}")
    if not paths:
        raise ArgumentError("related(key, ...) needs the foreign keys to follow: related(ship, Item.holder)")
    fields = [_reference(names, path) for path in paths]
    begin, end, walk = _walk(names, fields, direction != "outgoing")
    loops = begin == end
    walks = [walk]
    if direction == "both":
        walks.append([(table, field, not incoming) for table, field, incoming in reversed(walk)])
    if not loops and (direction == "both" or (depth is not None and depth > 1)):
        asked = "both directions" if direction == "both" else f"a depth of {depth}"
        steps = ", ".join(field.path for field in fields)
        raise ArgumentError(
            f"{asked} of {steps} would go on from rows of {end}, where it begins at rows of {begin}: "
            f"name fields that lead back to {begin}"
        )
    start = as_key(key)
    table = names.table(begin)
    # Asked for its own sake: a stale key is an error, and not somebody else's rows.
    where.row(table.id, start)
    keys, depths = related(where, walks, start, depth, loops)
    return Related(end, keys, depths)


def _reference(names: Names, path: Path) -> FieldName:
    field = names.path(path)
    if field.field is None or field.field.foreign_key is None:
        raise ArgumentError(f"{field.path} is no foreign key, so it leads to no row")
    if field.table.table.system or field.table.event:
        raise ArgumentError(
            f"{field.path} is not in the relation graph: {field.table.name} is no table of the game's own"
        )
    return field


def _walk(names: Names, fields: Sequence[FieldName], incoming: bool) -> tuple[str, str, list[Step]]:
    """Whose keys it begins with, whose it ends with, and the steps between. The first step's way is given; each that
    follows goes the way that the rows it is asked of leave, and where both would do, the way of the first."""
    begin = current = ""
    walk: list[Step] = []
    for number, field in enumerate(fields):
        assert field.field is not None and field.field.foreign_key is not None
        own, target = field.table.key_space, names.table(field.field.foreign_key.table).key_space
        way = incoming
        if number == 0:
            begin = current = target if incoming else own
        elif own == current != target:
            way = False
        elif target == current != own:
            way = True
        elif current not in (own, target):
            raise ArgumentError(
                f"{field.path} leads from {own} to {target}, and the fields before it to rows of {current}"
            )
        walk.append((field.table.id, field.id, way))
        current = own if way else target
    return begin, current, walk
