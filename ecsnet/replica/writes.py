"""What a game writes as a client, checked against the schema and put into bytes.

    write(keys, Input, move=(1.0, 0.0))       cells of rows that are there
    insert(entity, Shield(strength=3))        a component, or a row of a table with keys of its own
    delete(key, Shield)                       a row, or several

Types, lengths and names are checked here with the store's own rules, so that a game hears of its mistakes at once. That
a table has a writer for what is wanted is checked as well; which role and whose rows it is for only the authority
knows.

Invariant: a call that raises has sent nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError
from ecsnet.schema.rules import Operation
from ecsnet.store.bulk import columns_of, keys_of, length_of, row_cells
from ecsnet.store.names import Names, TableName, as_keys
from ecsnet.store.shapes import changeable, writable
from ecsnet.store.typed import Selector, given_by, row_parts, selects
from ecsnet.wire.writes import cells_of, encode_write

__all__ = ["PreparedWrite", "prepare_delete", "prepare_insert", "prepare_update"]


class PreparedWrite(NamedTuple):
    """What goes out. `latest` names the cells of an update, of which only the newest counts."""

    name: str
    table: int
    data: bytes
    latest: bytes | None


def prepare_update(names: Names, keys: object, table: Selector, fields: Mapping[str, Any]) -> PreparedWrite:
    """An update of the named fields of a row, or of several.

    Raises:
        UnknownNameError, ArgumentError: a name; the type, length or range of a value; no key or no field; a table that
            clients do not update. LimitExceededError: too many rows or bytes.
    """
    name = _for_clients(changeable(names.table(table)), "update")
    array = _keys(keys)
    cells = _columns(name, columns_of(name, fields), len(array))
    if not cells:
        raise ArgumentError(f"write of {name.name} names no field")
    data = encode_write(name.table, "update", array, len(array), cells)
    return PreparedWrite(f"write {name.name}", name.id, data, cells_of(name.id, data))


def prepare_insert(names: Names, what: Any, rows: tuple[Any, ...], components: Mapping[str, Any]) -> PreparedWrite:
    """An insert of one component of an entity, or of rows of a table with keys of its own.

    Raises:
        UnknownNameError, ArgumentError, LimitExceededError: as `prepare_update`; more than one table.
        ConstraintError: a field without a default is not given.
    """
    keys: NDArray[np.uint64] | None = None
    selector: Selector
    if selects(what):
        if components or len(rows) > 1:
            raise ArgumentError(f"insert({what!r}, {{...}}) takes one row; components go with an entity")
        name = names.keyed(what, "insert", "entity")
        given = columns_of(name, row_cells(what, rows[0] if rows else {}))
    elif hasattr(what, "ecsnet_values"):
        if rows or components:
            raise ArgumentError("insert(row) takes one row with a key of its own; components go with an entity")
        selector, values = row_parts(what)
        name = names.keyed(selector, "insert", "entity")
        given = columns_of(name, values)
    else:
        parts = given_by(rows, components)
        if len(parts) != 1:
            raise ArgumentError(f"a client inserts one component at a time, found {len(parts)}")
        selector, values = parts[0]
        name, keys = names.component(selector), _keys(what)
        given = columns_of(name, values)
    writable(name).demand_required(given)
    _for_clients(name, "insert")
    if keys is not None:
        count = len(keys)
    else:
        count = length_of(None, [(name, given)], 0) if _is_of_many(name, given) else 1
    data = encode_write(name.table, "insert", keys, count, _columns(name, given, count))
    return PreparedWrite(f"insert {name.name}", name.id, data, None)


def prepare_delete(names: Names, keys: object, table: Selector) -> PreparedWrite:
    """A delete of a row, or of several.

    Raises:
        UnknownNameError, ArgumentError, LimitExceededError: as `prepare_update`.
    """
    name = names.table(table)
    if name.id == 0:
        raise ArgumentError("an entity is removed by a command that despawns it")
    name = _for_clients(changeable(name), "delete")
    array = _keys(keys)
    return PreparedWrite(
        f"delete {name.name}", name.id, encode_write(name.table, "delete", array, len(array), {}), None
    )


def _for_clients(name: TableName, operation: Operation) -> TableName:
    if not any(operation in writer.operations for writer in name.table.writers):
        raise ArgumentError(f"the schema gives no client the right to {operation} rows of {name.name} (writers)")
    return name


def _keys(keys: Any) -> NDArray[np.uint64]:
    array = as_keys([keys]) if isinstance(keys, int | np.integer) else keys_of(keys)
    if not len(array):
        raise ArgumentError("no key: name at least one row")
    return array


def _is_of_many(name: TableName, given: Mapping[str, Any]) -> bool:
    """Whether a value is one cell for each of several rows."""
    for field, value in given.items():
        known = name.stored_field(field)
        if isinstance(value, np.ndarray | list | tuple) and np.ndim(known.cast(value)) > len(known.shape):
            return True
    return False


def _columns(name: TableName, given: Mapping[str, Any], rows: int) -> dict[str, NDArray[Any]]:
    cells = {field: name.stored_field(field).column(value, rows) for field, value in given.items()}
    for field, column in cells.items():
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise ArgumentError(f"{name.name}.{field}: what a client writes must be finite, found {given[field]!r}")
    return cells
