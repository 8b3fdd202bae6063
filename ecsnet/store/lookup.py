"""Finding a row by the value of one of its fields, in a view or inside a transaction alike."""

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ecsnet.expressions import Column
from ecsnet.store.conditions import lookup_values
from ecsnet.store.fields import FieldName
from ecsnet.store.indexes import Index, indexable
from ecsnet.store.names import Names, TableName, no_such_row
from ecsnet.store.querying import Querying
from ecsnet.store.typed import Path

if TYPE_CHECKING:
    from ecsnet.store.query import Source
    from ecsnet.store.result import Result

__all__ = ["Lookup"]


class Lookup(Querying):
    """What a view and a transaction share. Whoever has it has names."""

    __slots__ = ()

    if TYPE_CHECKING:
        _names: Names

        def index_of(self, field: FieldName, *, must: bool) -> Index | None: ...

        def keys_of(self, table: TableName) -> NDArray[np.uint64]: ...

    def query_text(self, text: str) -> "Result":
        """What a query written as text finds, as columns of their own: `view.query_text("from health where hp < 20")`.

        The language is described in `ecsnet.store.statement`.

        Raises:
            QueryError: the text is no query, or names what the schema does not have; with the place in the text.
        """
        from ecsnet.store.parser import parse

        return parse(text).run(cast("Source", self))

    def key(self, path: Path, value: object) -> int:
        """The key of the row in which the field has `value`: `tx.key(Item.id, 7)`, `view.key("item.id", 7)`.

        Raises:
            NoRowError: there is none.
        """
        found = self.find(path, value)
        if found is None:
            raise no_such_row(self._names.path(path), value)
        return found

    def find(self, path: Path, value: object) -> int | None:
        """As `key`, with None where there is no such row; of several the first. In a view, a unique field or a
        reference is looked up by an index once asking has paid for one; otherwise the column is scanned."""
        field = self._names.path(path)
        if indexable(field):
            index = self.index_of(field, must=False)
            if index is not None:
                values = lookup_values(field, (value,))
                row = index.first(values[0]) if values else None
                return None if row is None else int(self.keys_of(field.table)[row])
        keys = self.query(field.table.name).where(Column(field.path) == value).key
        return int(keys[0]) if len(keys) else None
