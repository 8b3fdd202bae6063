"""Tables as Python classes: one class is one table, one instance a row to be written.

    class Transform(Component):                  # the table "transform"
        x: f32 = field(default=0.0)              # Transform.x names a column, Transform(x=1.0) is a row

    schema = ecsnet.Schema("arena", "1.0.0", Transform)

A class is read when it is defined, as far as its annotations go; what it means is checked when a schema is made of it,
by the same rules and with the same errors as a TOML file (`classes`), so both spellings of a schema are one.

Invariants:
- a class describes and holds nothing: it belongs to no schema and no store, and may be in several;
- `Class.ecsnet_table` is the table's name, `row.ecsnet_values` what was given, members of structs by dotted names;
- a row is not checked when it is made, but for its names: the store that it is written to checks it.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform, overload

from ecsnet.errors import ArgumentError, SchemaError, UnknownNameError
from ecsnet.expressions import Column
from ecsnet.ids import Tick, Version
from ecsnet.schema.annotations import ClassField, install, place_of, read_columns
from ecsnet.schema.columns import auto, field
from ecsnet.schema.fields import spelled
from ecsnet.schema.model import Spatial
from ecsnet.schema.rules import Conflict, Writer

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Component", "Event", "Row", "Struct", "Table"]


class _Given:
    """What structs and rows share: the values that they were given."""

    __slots__ = ("ecsnet_values",)

    ecsnet_columns: ClassVar[Mapping[str, ClassField]] = {}
    """The fields as declared, in order."""
    _nested: ClassVar[bool] = False
    """Whether a field is a struct, whose members' names become dotted."""

    ecsnet_values: dict[str, Any]

    def __init__(self, *unnamed: Any, **values: Any) -> None:
        columns = self.ecsnet_columns
        if unnamed:
            example = ", ".join(f"{name}=..." for name in columns)
            raise ArgumentError(f"fields are given by name: {type(self).__name__}({example}); found {unnamed[0]!r}")
        if not values.keys() <= columns.keys():
            name = next(name for name in values if name not in columns)
            raise UnknownNameError(f"field of {type(self).__name__}", name, columns)
        self.ecsnet_values = _flat(values) if self._nested else values

    @classmethod
    def ecsnet_given(cls, values: dict[str, Any]) -> "Self":
        """One with these values, members of structs under dotted names; they are taken as they are."""
        one = cls.__new__(cls)
        one.ecsnet_values = values
        return one

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.ecsnet_values.items())
        return f"{type(self).__name__}({values})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        ours, theirs = self.ecsnet_values, other.ecsnet_values
        return ours.keys() == theirs.keys() and all(_same(value, theirs[name]) for name, value in ours.items())

    __hash__ = None  # type: ignore[assignment]  # a row may be changed until it is written


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with those of structs under dotted names."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        inner = value.ecsnet_values if isinstance(value, Struct) else value
        if isinstance(inner, Mapping):
            out.update((f"{name}.{member}", cell) for member, cell in _flat(inner).items())
        else:
            out[name] = value
    return out


def _same(one: Any, other: Any) -> bool:
    same = one == other
    # Arrays compare element by element.
    return bool(same.all()) if hasattr(same, "all") else bool(same)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field, auto))
class Struct(_Given):
    """Several members that belong together, as the type of a field: `place: Vec3 = field(default={"z": 1.0})`.

    A struct is a way of writing: each member is a column of its own, `Transform.place.x`. Members may have `default`,
    `minimum` and the like, and may be structs. In a row a struct is given as an instance or a dict of members.
    """

    __slots__ = ()

    ecsnet_is_struct: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Read the annotations.

        Raises:
            SchemaError: one is no type of a field.
        """
        super().__init_subclass__()
        if Struct not in cls.__bases__:
            hint = "give it a field of that type instead"
            raise SchemaError("key-conflict", *place_of(cls), cls.__name__, "a struct does not extend another", hint)
        cls.ecsnet_is_struct = True
        cls.ecsnet_columns, cls._nested = read_columns(cls)
        install(cls, cls.ecsnet_columns, None)

    if TYPE_CHECKING:  # where a class has a field of this type

        @overload
        def __get__(self, row: None, owner: type) -> "type[Self]": ...
        @overload
        def __get__(self, row: object, owner: type) -> Self: ...
        def __get__(self, row: object, owner: type) -> Any: ...

        # Not Self: a type checker takes that for the class that has the field.
        def __set__(self, row: object, value: "Struct | Mapping[str, Any]") -> None: ...


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field, auto))
class Row(_Given):
    """The base of `Component`, `Table` and `Event`. Of one of their classes, `Class.field` names a column, and an
    instance is a row with the values that were given; a type checker takes what a query returns for an instance too."""

    __slots__ = ()

    ecsnet_kind: ClassVar[str] = ""
    ecsnet_table: ClassVar[str] = ""
    """The table's name: the class's in lower case with underscores, or the keyword `name`."""
    ecsnet_keys: ClassVar[Mapping[str, Any]] = {}
    """The keywords of the class, by the keys of the schema language."""

    if TYPE_CHECKING:

        @property
        def present(self) -> NDArray[np.bool_]:
            """Of a query's result, where the table is `maybe(...)`: which rows have it."""

        @property
        def copied(self) -> bool:
            """Of a query's result: whether the columns had to be gathered, and are copies."""


def _declare(cls: type[Row], base: type[Row], **keys: Any) -> None:
    """Read a table's class: its keywords, its docstring, its annotations."""
    if base not in cls.__bases__:
        above = next(parent for parent in cls.__mro__[1:] if base in parent.__bases__)
        hint = f"write class {cls.__name__}({base.__name__}), and a Struct for members that both have"
        raise SchemaError("key-conflict", *place_of(cls), cls.__name__, f"{above.__name__} is a table already", hint)
    given = {key: value for key, value in keys.items() if value is not None}
    cls.ecsnet_table = given.pop("name", spelled(cls.__name__))
    if cls.__doc__ and "doc" not in given:
        given["doc"] = inspect.cleandoc(cls.__doc__)
    cls.ecsnet_keys = given
    cls.ecsnet_columns, cls._nested = read_columns(cls)
    install(cls, cls.ecsnet_columns, cls.ecsnet_table)


class Component(Row):
    """A table of which each entity has at most one row: `class Health(Component): ...`.

    Keywords of the class, each a key of the schema language: `name` (the table's), `key` (what the entity is called
    in the table), `id`, `group`, `spatial`, `unique`, `replicated`, `visible_to`, `writers`, `tied` (`with` in TOML),
    `rows_max`, `rows_expected`, `doc` (or the docstring).
    """

    __slots__ = ()
    ecsnet_kind = "component"

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        key: str = "entity_id",
        id: int | None = None,
        group: str | None = None,
        spatial: Sequence[str] | Spatial | None = None,
        unique: Sequence[Sequence[str]] | None = None,
        replicated: bool | None = None,
        rows_max: int | None = None,
        rows_expected: int | None = None,
        visible_to: Sequence[str] | None = None,
        writers: Sequence[Writer] | None = None,
        tied: str | Column | None = None,
        doc: str | None = None,
    ) -> None:
        """Read the class.

        Raises:
            SchemaError: a field's annotation is no type of a field, or the class extends a table.
        """
        super().__init_subclass__()
        _declare(
            cls, Component,
            name=name, key=key, id=id, group=group, spatial=spatial, unique=unique, replicated=replicated,
            rows_max=rows_max, rows_expected=rows_expected, doc=doc,
            visible_to=visible_to, writers=writers, **{"with": tied},
        )  # fmt: skip


class Table(Row):
    """A table of rows with keys of their own: `class Item(Table): id: u64 = auto()`.

    Keywords of the class, each a key of the schema language: `name` (the table's), `primary_key` (by default the field
    that is `auto()`, or else the one called "id"), `id`, `spatial`, `unique`, `replicated`, `visible_to`, `writers`,
    `owner`, `tied` (`with` in TOML), `conflict`, `rows_max`, `rows_expected`, `doc` (or the docstring).
    """

    __slots__ = ()
    ecsnet_kind = "keyed"

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        primary_key: str | None = None,
        id: int | None = None,
        spatial: Sequence[str] | Spatial | None = None,
        unique: Sequence[Sequence[str]] | None = None,
        replicated: bool | None = None,
        rows_max: int | None = None,
        rows_expected: int | None = None,
        visible_to: Sequence[str] | None = None,
        writers: Sequence[Writer] | None = None,
        owner: str | Column | None = None,
        tied: str | Column | None = None,
        conflict: Conflict | None = None,
        doc: str | None = None,
    ) -> None:
        """Read the class.

        Raises:
            SchemaError: a field's annotation is no type of a field, or the class extends a table.
        """
        super().__init_subclass__()
        _declare(
            cls, Table,
            name=name, primary_key=primary_key, id=id, spatial=spatial, unique=unique, replicated=replicated,
            rows_max=rows_max, rows_expected=rows_expected, doc=doc,
            visible_to=visible_to, writers=writers, owner=owner, conflict=conflict, **{"with": tied},
        )  # fmt: skip


class Event(Row):
    """A table of rows that live for one tick and are delivered once: `class Hit(Event): ...`.

    What is inserted is seen by what comes later in the tick and in the view of that version, and is gone with the next.
    A client's `poll` gives each such row as an instance of the class; `row.ecsnet_version` is the version it is of.

    Keywords of the class, each a key of the schema language: `name` (the table's), `id`, `replicated`, `visible_to`,
    `writers`, `rows_max`, `rows_expected`, `doc` (or the docstring).
    """

    __slots__ = ()
    ecsnet_kind = "event"

    @classmethod
    def ecsnet_told(cls, values: dict[str, Any], version: Version, tick: Tick) -> "Self":
        """What a client is told: an instance with these values, members of structs under dotted names."""
        one = cls.ecsnet_given(values)
        one.__dict__["ecsnet_made"] = (version, tick)
        return one

    @property
    def ecsnet_version(self) -> Version | None:
        """The version that the row was made in, on a row that a client was told of; None on one to be inserted."""
        made: tuple[Version, Tick] | None = self.__dict__.get("ecsnet_made")
        return None if made is None else made[0]

    @property
    def ecsnet_tick(self) -> Tick | None:
        """That version's tick, likewise."""
        made: tuple[Version, Tick] | None = self.__dict__.get("ecsnet_made")
        return None if made is None else made[1]

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        id: int | None = None,
        replicated: bool | None = None,
        rows_max: int | None = None,
        rows_expected: int | None = None,
        visible_to: Sequence[str] | None = None,
        writers: Sequence[Writer] | None = None,
        doc: str | None = None,
    ) -> None:
        """Read the class.

        Raises:
            SchemaError: a field's annotation is no type of a field, or the class extends a table.
        """
        super().__init_subclass__()
        _declare(
            cls, Event,
            name=name, id=id, replicated=replicated, rows_max=rows_max, rows_expected=rows_expected, doc=doc,
            visible_to=visible_to, writers=writers,
        )  # fmt: skip
