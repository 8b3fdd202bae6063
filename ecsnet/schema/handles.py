"""What a table's class has in the place of a field: a column's name that a type checker knows the type of.

    Health.hp           Field[int, np.uint16], the column "health.hp"
    Transform.place     Members, of which Transform.place.x is the column "transform.place.x"

Invariant: at run time a `Field` is a `Column` and no more; what it adds is for type checkers alone.
"""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ecsnet.errors import did_you_mean
from ecsnet.expressions import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from ecsnet.expressions import Condition

__all__ = ["Cell", "Element", "Field", "Members"]

Cell = TypeVar("Cell")
"""The Python type of one cell."""

Element = TypeVar("Element", bound="np.generic")
"""The numpy type of a column's elements."""


class Field(Column, Generic[Cell, Element]):
    """A column of a table that is written as a class: `Health.hp`.

    Compared, it gives a condition: `Health.hp < 20`. It names a cell, `tx[ship, Health.hp]`, and a column,
    `view[Health.hp]`. Its `path` is "health.hp".
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # Narrower than a column that knows no type: comparing a number with a text is what a checker shall find.
        def __lt__(self, value: "Cell | Field[Cell, Any]") -> Condition: ...  # type: ignore[override]
        def __le__(self, value: "Cell | Field[Cell, Any]") -> Condition: ...  # type: ignore[override]
        def __gt__(self, value: "Cell | Field[Cell, Any]") -> Condition: ...  # type: ignore[override]
        def __ge__(self, value: "Cell | Field[Cell, Any]") -> Condition: ...  # type: ignore[override]
        # Conditions, and not whether two columns are one: object's signatures cannot hold.
        def __eq__(self, value: "Cell | Field[Cell, Any]") -> Condition: ...  # type: ignore[override]
        def __ne__(self, value: "Cell | Field[Cell, Any]") -> Condition: ...  # type: ignore[override]
        def __hash__(self) -> int: ...
        def is_in(self, values: Iterable[Cell]) -> Condition: ...  # type: ignore[override]
        def between(self, low: Cell, high: Cell) -> Condition: ...  # type: ignore[override]

    @property
    def table(self) -> str:
        """The name of its table."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """Its own name in the table: "hp", or "place.x" for a member of a struct."""
        return self.path.partition(".")[2]

    def __repr__(self) -> str:
        return f"<field {self.path}>"


class Members:
    """The columns of a struct: `Transform.place`, of which `Transform.place.x` is a `Field`."""

    def __init__(self, path: str, members: "dict[str, Field[Any, Any] | Members]") -> None:
        self._path = path
        self._members = members

    def __getattr__(self, name: str) -> "Field[Any, Any] | Members":
        # Python asks for dunders of its own before `__init__` has run.
        found = self.__dict__.get("_members", {}).get(name)
        if found is None:
            meant = did_you_mean(name, self.__dict__.get("_members", ()))
            hint = f"; did you mean {meant!r}?" if meant else ""
            raise AttributeError(f"{self.__dict__.get('_path')} has no member {name!r}{hint}")
        member: Field[Any, Any] | Members = found
        return member

    def __iter__(self) -> "Iterator[Field[Any, Any]]":
        """All columns, those of structs within it too."""
        for member in self._members.values():
            if isinstance(member, Members):
                yield from member
            else:
                yield member

    def __dir__(self) -> list[str]:
        return sorted(self._members)

    def __repr__(self) -> str:
        return f"<struct {self._path}: {', '.join(self._members)}>"
