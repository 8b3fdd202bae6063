"""Which rows lie near a place: searches over the fields that a table declares as `spatial`.

The kernel's index (a uniform grid) is made when it is first asked for and then follows the changes: what it costs is
the rows that moved since, not the rows there are. Views of equal rows share one. Where a transaction has lent out the
columns that say where rows lie, what the game has written in them is known to nobody yet, and every row is looked at
instead, with numpy; both find the same rows, bit for bit.

A distance is the sum of the squared differences in f64, compared with the squared radius. A row with a NaN or an
infinite coordinate lies nowhere: no search finds it.

Invariants:
- an index is brought to another version only where nobody searches in it and no open view asked for the version it
  serves; else another one is made, of which a table has at most `_INDEXES`;
- rows come ascending, those of `nearest` by distance and then by key.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet._kernel.spatial import Kind, SpatialIndex, SpatialStatistics
from ecsnet.errors import ArgumentError
from ecsnet.store.fields import FieldName
from ecsnet.store.names import TableName

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore
    from ecsnet._kernel.pin import Pin

__all__ = [
    "Axes",
    "Found",
    "Search",
    "SpatialIndexes",
    "axes_of",
    "scan",
    "search_near",
    "search_nearest",
    "search_within",
]

# A game has the version before in the view it draws, and the newest in the one it works on; a report holds a third.
_INDEXES: Final = 4

# Rows of one search after the other, and how many the searches up to each have found.
Found = tuple[NDArray[np.intp], NDArray[np.uint64]]


class Axes:
    """The fields of a table that say where its rows lie."""

    __slots__ = ("cell", "fields", "table")

    def __init__(self, table: TableName, fields: tuple[FieldName, ...], cell: float):
        self.table = table
        self.fields = fields
        self.cell = cell

    def __len__(self) -> int:
        return len(self.fields)


class Search:
    """Searches of one kind, checked: what `search_near`, `search_within` and `search_nearest` make."""

    __slots__ = ("axes", "k", "kind", "others", "points", "single", "text")

    def __init__(
        self,
        axes: Axes,
        kind: Kind,
        points: NDArray[np.float64],
        others: NDArray[np.float64] | None,
        k: int,
        single: bool,
        text: str,
    ):
        self.axes = axes
        self.kind = kind
        self.points = points
        self.others = others
        self.k = k
        self.single = single
        """One place was asked for, and not an array of them."""
        self.text = text
        """As the language of queries writes it, where it is single."""

    def __repr__(self) -> str:
        return self.text


def axes_of(table: TableName) -> Axes:
    """The axes of a table.

    Raises:
        ArgumentError: it declares none.
    """
    declared = table.table.spatial
    if declared is None:
        raise ArgumentError(
            f'{table.name} does not say where its rows lie: declare spatial = ["x", "y"] (two or three of its float '
            f"fields) in the schema"
        )
    return Axes(table, tuple([table.stored_field(name) for name in declared.fields]), float(declared.cell))


# --- making searches --------------------------------------------------------------------------------------------------


def search_near(table: TableName, centre: ArrayLike, radius: ArrayLike) -> Search:
    """Rows at most `radius` from `centre`, or from each of many centres.

    Args:
        centre: a number for each axis, or an array of shape (searches, axes).
        radius: one for all, or one for each centre; at least 0. Infinity finds every row that lies somewhere.

    Raises:
        ArgumentError: wrong shape, NaN or an infinite centre, a radius below 0, or a table without axes.
    """
    axes = axes_of(table)
    centres = _finite("the centre", _places(axes, "the centre", centre))
    radii = _numbers("the radius", radius)
    if radii.ndim > 1 or (radii.ndim == 1 and len(radii) != len(centres)):
        raise ArgumentError(f"the radius: expected one, or one for each of {len(centres)} centres, found {radii.shape}")
    if len(radii.ravel()) and not bool((radii >= 0).all()):
        raise ArgumentError(f"the radius: expected at least 0, found {float(radii.min())}")
    each = np.ascontiguousarray(np.broadcast_to(radii, (len(centres),)))
    return Search(
        axes,
        Kind.NEAR,
        centres,
        each,
        0,
        np.ndim(centre) == 1,
        f"near {_text(centres)} radius {float(radii.ravel()[0]) if radii.size == 1 else radii.shape}",
    )


def search_within(table: TableName, low: ArrayLike, high: ArrayLike) -> Search:
    """Rows from `low` to `high` on every axis, both included; or in each of many boxes.

    Args:
        low, high: a number for each axis, or arrays of shape (searches, axes). A box whose high is below its low on an
            axis has no rows.

    Raises:
        ArgumentError: wrong shape, NaN, or a table without axes.
    """
    axes = axes_of(table)
    lows, highs = _places(axes, "the low corner", low), _places(axes, "the high corner", high)
    if lows.shape != highs.shape:
        raise ArgumentError(f"the corners: expected as many low as high, found {len(lows)} and {len(highs)}")
    return Search(axes, Kind.WITHIN, lows, highs, 0, np.ndim(low) == 1, f"within {_text(lows)} to {_text(highs)}")


def search_nearest(table: TableName, centre: ArrayLike, k: int) -> Search:
    """The `k` rows nearest to `centre`, or to each of many centres; fewer where there are fewer.

    Raises:
        ArgumentError: wrong shape, NaN or an infinite centre, `k` no number or below 0, or a table without axes.
    """
    axes = axes_of(table)
    centres = _finite("the centre", _places(axes, "the centre", centre))
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 0:
        raise ArgumentError(f"nearest: expected how many rows, an integer of at least 0, found {k!r}")
    return Search(axes, Kind.NEAREST, centres, None, int(k), np.ndim(centre) == 1, f"nearest {k} to {_text(centres)}")


def _numbers(what: str, given: ArrayLike) -> NDArray[np.float64]:
    try:
        numbers = np.ascontiguousarray(given, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{what}: expected numbers, found {_show(given)}") from None
    if bool(np.isnan(numbers).any()):
        raise ArgumentError(f"{what}: NaN compares with nothing, found {_show(given)}")
    # A lone number was made an array of one.
    return numbers.reshape(np.shape(given))


def _places(axes: Axes, what: str, given: ArrayLike) -> NDArray[np.float64]:
    places = _numbers(what, given)
    if places.ndim == 1:
        places = places[np.newaxis]
    if places.ndim != 2 or places.shape[1] != len(axes):
        names = ", ".join(field.name for field in axes.fields)
        raise ArgumentError(
            f"{what}: expected ({names}), or an array of shape (searches, {len(axes)}), found {_show(given)}"
        )
    return places


def _finite(what: str, places: NDArray[np.float64]) -> NDArray[np.float64]:
    if not bool(np.isfinite(places).all()):
        raise ArgumentError(f"{what}: expected a place, found infinity (a radius and the corners of a box may be)")
    return places


def _text(places: NDArray[np.float64]) -> str:
    if len(places) != 1:
        return f"{len(places)} places"
    return f"({', '.join([repr(value) for value in places[0].tolist()])})"


def _show(given: object) -> str:
    if isinstance(given, np.ndarray) and given.ndim > 1:
        return f"an array of shape {given.shape}"
    return str(given)


# --- finding ----------------------------------------------------------------------------------------------------------


class _Served:
    """One index, who searches in it now, and which views asked for what it serves."""

    __slots__ = ("index", "searching", "version", "views")

    def __init__(self, index: SpatialIndex):
        self.index = index
        self.searching = 0
        self.version = -1
        self.views: WeakSet[Any] = WeakSet()

    def wanted(self) -> bool:
        """Whether it must stay at its version."""
        return self.searching > 0 or any(not view.closed for view in self.views)


class _TableIndexes:
    """The indexes of one table."""

    __slots__ = ("head", "lock", "served")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.served: list[_Served] = []
        """Of versions; the one asked last at the end."""
        self.head: SpatialIndex | None = None
        """Of the head: whoever has the baton alone uses it."""


class SpatialIndexes:
    """The spatial indexes of one store. Searches in views may come from any thread."""

    __slots__ = ("_kernel", "_tables")

    def __init__(self, kernel: "KernelStore"):
        self._kernel = kernel
        self._tables: dict[int, _TableIndexes] = {}

    def in_view(self, view: Any, pin: "Pin", search: Search, allowed: NDArray[np.bool_] | None) -> Found:
        """Search in a version. `view` is whoever has it open and has `.closed`."""
        indexes = self._of(search.axes)
        with indexes.lock:
            served = self._bring(indexes, search.axes, pin)
            served.views.add(view)
            served.searching += 1
        try:
            return served.index.search(pin, search.kind, search.points, search.others, search.k, allowed)
        finally:
            with indexes.lock:
                served.searching -= 1

    def in_head(self, search: Search, allowed: NDArray[np.bool_] | None) -> Found:
        """Search in the head, of which no column that says where rows lie is lent. Needs the baton."""
        indexes = self._of(search.axes)
        if indexes.head is None:
            indexes.head = self._make(search.axes)
        indexes.head.follow(None)
        return indexes.head.search(None, search.kind, search.points, search.others, search.k, allowed)

    def statistics(self, table_id: int) -> list[SpatialStatistics]:
        """Of the indexes that serve versions of a table, the one asked last at the end."""
        indexes = self._tables.get(table_id)
        if indexes is None:
            return []
        with indexes.lock:
            return [served.index.statistics() for served in indexes.served]

    def _of(self, axes: Axes) -> _TableIndexes:
        # One step, so that two threads that come first get the same.
        return self._tables.setdefault(axes.table.id, _TableIndexes())

    def _make(self, axes: Axes) -> SpatialIndex:
        return SpatialIndex(self._kernel, axes.table.id, [field.id for field in axes.fields], axes.cell)

    def _bring(self, indexes: _TableIndexes, axes: Axes, pin: "Pin") -> _Served:
        """An index that fits the version: one that does, else the nearest older one brought there."""
        for served in indexes.served:
            if served.index.fits(pin):
                break
        else:
            older = [one for one in indexes.served if one.version <= pin.version]
            newest = max(older, key=_version, default=None)
            free = [one for one in older if not one.wanted()]
            if free:
                served = max(free, key=_version)
            else:
                served = _Served(newest.index.copy() if newest is not None else self._make(axes))
                indexes.served.append(served)
            served.views = WeakSet()
            served.index.follow(pin)
            served.version = pin.version
        indexes.served.remove(served)
        indexes.served.append(served)
        if len(indexes.served) > _INDEXES:
            # Whoever searches in it keeps it until the search has ended.
            del indexes.served[0]
        return served


def _version(served: _Served) -> int:
    return served.version


def scan(
    search: Search,
    columns: Sequence[NDArray[Any]],
    keys: NDArray[np.uint64],
    allowed: NDArray[np.bool_] | None,
) -> Found:
    """The same by looking at every row: for cells that no index knows yet."""
    cells = [column.astype(np.float64) for column in columns]
    listed = np.logical_and.reduce([np.isfinite(column) for column in cells])
    if allowed is not None:
        listed &= allowed
    rows = np.flatnonzero(listed)
    cells = [column[rows] for column in cells]
    found = [rows[_scan_one(search, i, cells, keys, rows)] for i in range(len(search.points))]
    ends = np.cumsum([len(one) for one in found]).astype(np.uint64)
    return (np.concatenate(found) if found else np.empty(0, np.intp)), ends


def _scan_one(
    search: Search, i: int, cells: list[NDArray[np.float64]], keys: NDArray[np.uint64], rows: NDArray[np.intp]
) -> NDArray[np.intp]:
    point = search.points[i]
    if search.kind is Kind.WITHIN:
        assert search.others is not None
        inside = np.ones(len(rows), np.bool_)
        for column, low, high in zip(cells, point, search.others[i], strict=True):
            inside &= (column >= low) & (column <= high)
        return np.flatnonzero(inside)
    # Axis by axis, as the kernel adds them up: another order would round otherwise.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.zeros(len(rows))
        for column, value in zip(cells, point, strict=True):
            difference = column - value
            squares += difference * difference
        if search.kind is Kind.NEAR:
            assert search.others is not None
            return np.flatnonzero(squares <= search.others[i] * search.others[i])
    k = min(search.k, len(rows))
    if k == 0:
        return np.empty(0, np.intp)
    candidates = np.flatnonzero(squares <= np.partition(squares, k - 1)[k - 1])
    return candidates[np.lexsort((keys[rows[candidates]], squares[candidates]))[:k]]
