"""What a query found, as columns of its own: it holds no version and belongs to no store any more.

Invariants: every column has the same length and owns its memory; names are unique; a result is never changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecsnet.errors import ArgumentError, UnknownNameError
from ecsnet.expressions import Column, Order, column_path
from ecsnet.store.fields import FieldName
from ecsnet.store.names import Names
from ecsnet.store.ordering import sort_key, sorted_rows
from ecsnet.store.selection import Selection
from ecsnet.store.terms import Term, Terms

if TYPE_CHECKING:
    from ecsnet.store.query import Source

__all__ = [
    "Result",
    "ResultColumn",
    "demand_column",
    "python_values",
    "result_of",
    "structured",
    "text_of",
    "text_table",
]

_PRINTED_ROWS = 20


class ResultColumn:
    """One column: its name, its cells, and the field they are of, None for counts, sums and means. `key`: they are keys
    of rows."""

    __slots__ = ("cells", "field", "key", "name")

    def __init__(self, name: str, cells: NDArray[Any], field: FieldName | None, *, key: bool = False):
        self.name = name
        self.cells = cells
        self.field = field
        self.key = key
        cells.flags.writeable = False

    def take(self, rows: Any) -> "ResultColumn":
        """The same column over fewer rows, or in another order."""
        return ResultColumn(self.name, self.cells[rows], self.field, key=self.key)


class Result:
    """Columns of a query. `result["health.hp"]` is a read-only array, `len(result)` counts rows, iterating gives each
    row as a dict of Python values, and `print` shows the first as text."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[ResultColumn]):
        self._columns = {column.name: column for column in columns}
        assert len(self._columns) == len(columns), "names are unique"
        assert len({len(column.cells) for column in columns}) <= 1, "columns are equally long"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return tuple(self._columns)

    def __getitem__(self, name: Column | str) -> NDArray[Any]:
        return self._column(column_path(name)).cells

    def __len__(self) -> int:
        return next((len(column.cells) for column in self._columns.values()), 0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Every row as a dict of Python values: int, float, bool, str, `bytes`, lists for arrays, None where an
        aggregate is over nothing."""
        columns = [python_values(column.field, column.cells) for column in self._columns.values()]
        return [dict(zip(self._columns, cells, strict=True)) for cells in zip(*columns, strict=True)]

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Every column by its name: read-only arrays, which pandas and polars make a frame of."""
        return {name: column.cells for name, column in self._columns.items()}

    def to_numpy(self) -> NDArray[Any]:
        """One structured array, a record per row."""
        return structured(self.to_dict())

    def order_by(self, *columns: Order | Column | str) -> "Result":
        """The same rows sorted by columns of the result, the first counting most: `order_by(desc("n"))`.

        Raises:
            UnknownNameError: no such column. ArgumentError: one of arrays, or none at all.
        """
        orders = [Order.of(column) for column in columns]
        if not orders:
            raise ArgumentError("order_by names at least one column")
        keys = [sort_key(*self._values(order.path), order.descending) for order in orders]
        return self._take(sorted_rows(keys, None))

    def limit(self, rows: int | None, offset: int = 0) -> "Result":
        """Only the first `rows` rows (None: all) after the first `offset`."""
        if (rows is not None and rows < 0) or offset < 0:
            raise ArgumentError("limit takes a number of rows, and an offset: integers from 0 on")
        return self._take(slice(offset, None if rows is None else offset + rows))

    def renamed(self, names: Mapping[str, str]) -> "Result":
        """Some of the columns under other names: new name → name.

        Raises:
            UnknownNameError: no such column.
        """
        found = [(new, self._column(name)) for new, name in names.items()]
        return Result([ResultColumn(new, column.cells, column.field, key=column.key) for new, column in found])

    @staticmethod
    def of_values(values: Mapping[str, Any]) -> "Result":
        """One row of Python values."""
        # numpy's own texts leave out zeros at the end.
        return Result(
            [
                ResultColumn(name, np.array([value], object if isinstance(value, str) else None), None)
                for name, value in values.items()
            ]
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The columns for pyarrow, polars, pandas and DuckDB, by the Arrow C stream interface. Numbers are not
        copied."""
        from ecsnet._kernel.arrow import stream

        return stream(self.to_dict())

    def text_table(self, rows: int) -> str:
        """The first `rows` rows as text, under the names of the columns."""
        shown = [
            (column.name, [text_of(column.field, cell, key=column.key) for cell in column.cells[:rows]])
            for column in self._columns.values()
        ]
        return text_table(f"{len(self)} rows", shown, len(self))

    def __str__(self) -> str:
        return self.text_table(_PRINTED_ROWS)

    def __repr__(self) -> str:
        return f"<result of {len(self)} rows: {', '.join(self._columns)}>"

    def _column(self, name: str) -> ResultColumn:
        found = self._columns.get(name)
        if found is None:
            raise UnknownNameError("column", name, self._columns)
        return found

    def _values(self, name: str) -> tuple[str, NDArray[Any]]:
        column = self._column(name)
        cells = column.cells
        if column.field is not None and column.field.text and cells.dtype.kind != "S":
            cells = np.ascontiguousarray(cells).view(f"S{cells.shape[1]}").reshape(len(cells))
        return name, cells

    def _take(self, rows: Any) -> "Result":
        return Result([column.take(rows) for column in self._columns.values()])


def result_of(
    source: "Source",
    terms: Terms,
    selection: Selection,
    columns: Sequence[Column | str],
    named: Mapping[str, Column | str],
) -> Result:
    """The cells of a resolved query. See `Query.select`."""
    wanted: list[tuple[str, str]] = [(column_path(column), column_path(column)) for column in columns]
    wanted += [(name, column_path(column)) for name, column in named.items()]
    if len({name for name, _ in wanted}) < len(wanted):
        raise ArgumentError(f"the same name twice in one result: {', '.join([name for name, _ in wanted])}")
    if wanted:
        return Result([_selected(source, terms, selection, name, path) for name, path in wanted])
    found = [ResultColumn("key", selection.keys.copy(), None, key=True)]
    for position, term in enumerate(terms.tables):
        for field in term.table.fields.values():
            name = field.name if len(terms.tables) == 1 else f"{term.name}.{field.name}"
            if field.kind != "key" and name != "key":
                found.append(_column(source, selection, position, field, name))
    return Result(found)


def demand_column(names: Names, terms: Terms, path: str) -> None:
    """Check that a query has a column of that path, as `select` takes it.

    Raises:
        ArgumentError, UnknownNameError: it has none.
    """
    if not any(_is_key(term, path) for term in terms.tables):
        terms.locate(names, path)


def _is_key(term: Term, path: str) -> bool:
    """Whether a path means what names the rows, which has no field of its own in a table with keys of its own."""
    return path in ("key", f"{term.name}.key") and "key" not in term.table.fields


def _selected(source: "Source", terms: Terms, selection: Selection, name: str, path: str) -> ResultColumn:
    for position, term in enumerate(terms.tables):
        if _is_key(term, path):
            return ResultColumn(name, selection.keys_of(position).copy(), None, key=True)
    position, field = terms.locate(source.names, path)
    return _column(source, selection, position, field, name)


def _column(source: "Source", selection: Selection, position: int, field: FieldName, name: str) -> ResultColumn:
    return ResultColumn(name, np.array(source.read(selection, position, field)), field, key=field.kind == "key")


def structured(columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Columns of equal length as one structured array."""
    rows = next((len(cells) for cells in columns.values()), 0)
    array = np.empty(rows, [(name, cells.dtype, cells.shape[1:]) for name, cells in columns.items()])
    for name, cells in columns.items():
        array[name] = cells
    return array


def python_values(field: FieldName | None, cells: NDArray[Any]) -> list[Any]:
    """A column as Python values."""
    if field is not None and field.text and cells.dtype.kind != "S":
        return [cell.tobytes() for cell in cells]
    values: list[Any] = cells.tolist()
    return values


def text_of(field: FieldName | None, cell: Any, *, key: bool = False) -> str:
    """A cell for people: keys in hex, enums by name."""
    if key:
        return f"{int(cell):#x}"
    if isinstance(cell, bytes) or (field is not None and field.text):
        return repr(bytes(cell).rstrip(b"\0"))[1:]
    if field is not None and field.enum is not None:
        return next((name for name, value in field.enum.items() if value == int(cell)), str(cell))
    if isinstance(cell, np.ndarray):
        return _text_of_array(cell.tolist())
    return f"{cell:g}" if isinstance(cell, float | np.floating) else str(cell)


def _text_of_array(parts: Any) -> str:
    if isinstance(parts, list):
        return "[" + " ".join([_text_of_array(part) for part in parts]) + "]"
    return f"{parts:g}" if isinstance(parts, float) else str(parts)


def text_table(title: str, columns: Sequence[tuple[str, list[str]]], rows: int) -> str:
    """Columns side by side under their names, and how many of `rows` are not shown."""
    shown = max([len(cells) for _, cells in columns], default=0)
    widths = [max([len(name), *map(len, cells)]) for name, cells in columns]
    lines = [title]
    lines.append("  ".join([name.rjust(width) for (name, _), width in zip(columns, widths, strict=True)]).rstrip())
    for row in range(shown):
        lines.append("  ".join([cells[row].rjust(width) for (_, cells), width in zip(columns, widths, strict=True)]))
    if rows > shown:
        lines.append(f"... {rows - shown} more")
    return "\n".join(lines)
