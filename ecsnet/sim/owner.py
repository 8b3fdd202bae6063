"""Does a player's own write change only what the schema leaves to it? What was accepted is looked at in plain Python,
beside `Table.writers` and the owners that the node's views show.

A row may have another owner in the version in which a write took effect than in the one before. So a write is held
against both, and only what neither allows is a violation.

Invariant: this reads views and draws no random number.
"""

from collections.abc import Callable

import numpy as np

from ecsnet.schema import Schema, Writer
from ecsnet.schema.rules import EVERY_ROLE
from ecsnet.store import View
from ecsnet.wire.writes import DirectWrite
from ecsnet.world import Client

__all__ = ["Owners"]


class Owners:
    """See the file."""

    def __init__(self, schema: Schema, violated: Callable[[str], None]) -> None:
        self._violated = violated
        self.is_asked = any(table.writers for table in schema)
        """Somebody may write."""
        self.looked_at = 0
        """Writes that were accepted."""
        self._owners: dict[int, int] = {}
        self._suspects: list[tuple[int, list[int], str]] = []

    def note(self, view: View) -> None:
        """The node has made a version."""
        entities = view["entities"]
        self._owners = dict(zip(entities.key.tolist(), np.array(entities["owner"]).tolist(), strict=True))
        for client, keys, what in self._suspects:
            if any(self._owners.get(key, client) != client for key in keys):
                self._violated(what)
        self._suspects = []

    def written(self, client: Client, write: DirectWrite) -> None:
        """A write was accepted."""
        self.looked_at += 1
        table, wrote = write.table, set(write.columns)
        where = f"{client.name}, a {client.role}, was let {write.operation} {table.name}"
        allowed = [
            one for one in table.writers if one.role in (EVERY_ROLE, client.role) and write.operation in one.operations
        ]
        if not allowed:
            self._violated(where)
            return
        if write.operation == "update":
            # Any of them may allow each field by itself.
            free = [name for one in allowed for name in _fields(one, wrote)]
            if not wrote <= set(free):
                self._violated(f"{where}: {', '.join(sorted(wrote - set(free)))}")
        if table.kind != "component" or write.keys is None or any(one.rows == "all" for one in allowed):
            return
        keys = write.keys.tolist()
        strange = [key for key in keys if self._owners.get(key, client.client_id) != client.client_id]
        if strange:
            what = f"{where} of {', '.join(f'{key:#x}' for key in strange[:3])}, which it does not own"
            self._suspects.append((client.client_id, strange, what))


def _fields(writer: Writer, wrote: set[str]) -> set[str]:
    return wrote if writer.fields is None else set(writer.fields)
