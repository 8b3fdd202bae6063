"""The game in plain Python, beside the real one: what reads of the node and of its players are compared with.

A model is told, in the order in which it ran, everything that changed the world: who joined and left, which commands
were accepted, which systems ran. It computes what the rows must then be, without a store, a transaction, a delta or a
column in sight, so that it can only agree with them if both are right.

    class Scores(GameModel):
        def joined(self, client):
            self.hp[client.entity] = 100
        def left(self, client):
            del self.hp[client.entity]
        def command(self, client, name, arguments):
            self.hp[arguments["target"]] -= 10
        def rows(self):
            return {"health": {entity: {"hp": hp} for entity, hp in self.hp.items()}}

Invariants:
- a model reads the store in `started` only; what it learns of entities afterwards it is told as `client.entity`;
- it compares exactly, bit for bit: whoever computes in f32 computes in numpy's f32 here, too.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecsnet.store import View
from ecsnet.wire.writes import DirectWrite
from ecsnet.world import Client

__all__ = ["GameModel", "Model", "RowsOf", "differences_of"]

RowsOf = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""table → key → field → value."""

DIFFERENCES_MAX = 8
"""Of one comparison: the first ones say what went wrong."""


class Model(Protocol):
    """What a cluster asks of a model. `GameModel` has it all but the game."""

    def started(self, view: View) -> None:
        """A node started, with a world as it was set up: forget everything, and begin from what is in there."""

    def joined(self, client: Client) -> None:
        """`on_join` was committed; `client.entity` is the client's own."""

    def left(self, client: Client) -> None:
        """`on_leave` was committed, if there is one; `client.entity` is what the client had."""

    def command(self, client: Client, name: str, arguments: Mapping[str, Any]) -> None:
        """A command was accepted. Enums come as numbers, as the wire has them."""

    def written(self, client: Client, write: DirectWrite) -> None:
        """A client's own write was accepted: its rows and columns are what the client sent. Keys of rows that it
        inserted into a table with keys of its own are the node's to give, and not told."""

    def system(self, name: str, tick: int) -> None:
        """A system ran and was committed."""

    def check(self, view: View) -> str | None:
        """What is wrong in a version, whatever the model has; None if all is well. Asked at every version of every
        player and of the node, so it must hold between any two transactions."""

    def differences(self, view: View) -> Iterable[str]:
        """What a version has otherwise than the model, in words; asked when both are at the same version."""


class GameModel:
    """A model that does nothing yet: override what the game does, and `rows`."""

    def started(self, view: View) -> None:
        pass

    def joined(self, client: Client) -> None:
        pass

    def left(self, client: Client) -> None:
        pass

    def command(self, client: Client, name: str, arguments: Mapping[str, Any]) -> None:
        pass

    def written(self, client: Client, write: DirectWrite) -> None:
        pass

    def system(self, name: str, tick: int) -> None:
        pass

    def check(self, view: View) -> str | None:
        return None

    def rows(self) -> RowsOf:
        """What the tables must hold that the model knows of: all rows of each, and of each the fields it knows."""
        raise NotImplementedError(f"{type(self).__name__} has no rows(): a model says what the tables must hold")

    def differences(self, view: View) -> Iterable[str]:
        return differences_of(self.rows(), view)


def differences_of(tables: RowsOf, view: View) -> list[str]:
    """What `view` has otherwise than `tables`: rows too many or too few, and cells that are not equal bit for bit."""
    found: list[str] = []
    for table, expected in tables.items():
        of_view = view[table]
        keys = of_view.key.tolist()
        found += [f"{table} has row {key:#x}, the model does not" for key in keys if key not in expected]
        there = set(keys)
        found += [f"{table} lacks row {key:#x}, which the model has" for key in expected if key not in there]
        rows = [row for row, key in enumerate(keys) if key in expected]
        if not rows:
            continue
        for field in next(iter(expected.values()), {}):
            theirs = of_view[field][rows]
            ours = _column([expected[keys[row]][field] for row in rows], theirs)
            for place in np.flatnonzero((_bits(theirs) != _bits(ours)).any(axis=1)).tolist():
                key, cell = keys[rows[place]], theirs[place]
                found.append(f"{table}.{field} of row {key:#x} is {cell!r}, the model has {expected[key][field]!r}")
    if len(found) > DIFFERENCES_MAX:
        found = [*found[:DIFFERENCES_MAX], f"and {len(found) - DIFFERENCES_MAX} more differences"]
    return found


def _column(values: list[Any], like: NDArray[Any]) -> NDArray[Any]:
    """Values of a model as a column of a table has them."""
    if values and isinstance(values[0], bytes):
        width = like[0].nbytes
        values = [np.frombuffer(value.ljust(width, b"\0"), np.uint8) for value in values]
    return np.array(values, like.dtype).reshape(like.shape)


def _bits(column: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)
