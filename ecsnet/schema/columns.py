"""The types of fields in tables that are written as classes, and what else is said about a field.

    class Health(Component):
        hp: u16 = field(default=100, maximum=100)

A type is a descriptor, for the sake of type checkers and editors: on the class it is a `Field` (a condition, the name
of a cell or a column), on what a query returns an array, and in the constructor it takes a value or an array of values.
What it means for the schema is what its name in `schema/README.md` means.

Names: `bool_` and `bytes_` end in an underscore since a type checker would take `bool` for Python's own, which is no
column. Lengths stand in `field(length=...)` and `field(shape=...)`, since a number between brackets is no type:
`string[64]` and `array[f32, 3]` would run, and no type checker would accept them.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar, overload

from ecsnet.expressions import Column
from ecsnet.schema.handles import Cell, Element, Field, Members
from ecsnet.schema.model import MISSING, OnDelete

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ecsnet.schema.python import Event, Struct

    Floats: TypeAlias = float | np.floating[Any] | np.integer[Any] | NDArray[Any] | Sequence[float]
    Integers: TypeAlias = int | np.integer[Any] | NDArray[Any] | Sequence[int]
    Bools: TypeAlias = bool | np.bool_ | NDArray[Any] | Sequence[bool]

__all__ = [
    "Declaration", "array", "auto", "bool_", "bytes_", "enum", "f32", "f64", "field", "i8", "i16", "i32", "i64", "ref",
    "string", "u8", "u16", "u32", "u64",
]  # fmt: skip

Given = TypeVar("Given")
Member = TypeVar("Member", bound=IntEnum)
Kind = TypeVar("Kind", covariant=True)
Shape = TypeVar("Shape", bound="Struct")


class Declaration:
    """What `field(...)` says: keys of the schema language with their values, as far as they were given."""

    __slots__ = ("keys", "length", "shape")

    def __init__(self, keys: dict[str, Any], length: int | None = None, shape: tuple[int, ...] | None = None) -> None:
        self.keys = keys
        self.length = length
        self.shape = shape


def field(
    *,
    default: Any = MISSING,
    minimum: float | None = None,
    maximum: float | None = None,
    unique: bool = False,
    optional: bool = False,
    to: "str | Column | type[Any] | None" = None,
    on_delete: OnDelete | None = None,
    length: int | None = None,
    shape: int | tuple[int, ...] | None = None,
    storage: str | None = None,
    auto_increment: bool = False,
    id: int | Mapping[str, Any] | None = None,
    doc: str = "",
    quantize: float | None = None,
    rotation: bool = False,
    visible_to: Sequence[str] | None = None,
    interpolate: str | None = None,
) -> Any:
    """Say more about a field than its type. Every name but those below is a key of the schema language.

    Args:
        default: the value where an insert gives none; without one the field must be given. For an enum a member, for an
            array its elements or one for all, for a struct a dict of those members that differ from the struct's own. A
            reference has only `None`, which says the same as `optional=True`; but only what has a default may be left
            out before a type checker.
        unique: no two rows have the same value.
        to: references: "table.field", the target's class, or its key (`Item.id`); entities where it is left out.
        length: most bytes of a `string`, bytes of a `bytes_`. They must say it.
        shape: of an `array`, a number or several: `shape=(4, 3)` for four rows of three. It must say it.
        storage: enums: the integer type that holds them, "u8" by default.
        id: the field's number in its table.

    What is wrong with it is said when the schema is made: a number alone has no table yet.
    """
    keys: dict[str, Any] = {
        "default": default, "minimum": minimum, "maximum": maximum, "foreign_key": to, "on_delete": on_delete,
        "storage": storage, "id": id, "quantize": quantize, "visible_to": visible_to, "interpolate": interpolate,
    }  # fmt: skip
    keys = {key: value for key, value in keys.items() if value is not None and value is not MISSING}
    if default is None:
        keys["default"] = None
    if unique:
        keys["constraint"] = "unique"
    if optional:
        keys["optional"] = True
    if auto_increment:
        keys["auto_increment"] = True
    if rotation:
        keys["rotation"] = True
    if doc:
        keys["doc"] = doc
    return Declaration(keys, length, (shape,) if isinstance(shape, int) else shape)


def auto(*, id: int | None = None, doc: str = "", init: Literal[False] = False) -> Any:
    """A primary key that counts by itself: `id: u64 = auto()`. A row that gives none gets the next.

    `init` is for type checkers: they leave the field out of the constructor.
    """
    return field(auto_increment=True, id=id, doc=doc)


class Typed:
    """The base of all types of fields; `ecsnet_handle` is what the class shows in its place."""

    __slots__ = ("ecsnet_handle", "ecsnet_name", "ecsnet_rest")

    type_name: ClassVar[str] = ""
    """The type in the schema language; "" for a kind of types."""

    def __init__(self, name: str, handle: Field[Any, Any] | Members, rest: Callable[[], Any]) -> None:
        self.ecsnet_name = name
        self.ecsnet_handle = handle
        self.ecsnet_rest = rest

    if not TYPE_CHECKING:  # what they give depends on the type, and is said there

        def __new__(cls, *made: Any, **keys: Any) -> Any:
            if len(made) != 3:
                name = cls.__name__
                raise TypeError(f"a type stands in the annotation: write x: {name}, or x: {name} = field(...)")
            return super().__new__(cls)

        def __class_getitem__(cls, of: Any) -> Any:
            if isinstance(of, int) or (isinstance(of, tuple) and any(isinstance(one, int) for one in of)):
                raise TypeError(
                    "a number between brackets is no type: lengths stand in field(), as in title: string = "
                    "field(length=64), rotation: array[f32] = field(shape=4)"
                )
            return super().__class_getitem__(of)

        def __get__(self, row: Any, owner: type | None = None) -> Any:
            if row is None:
                return self.ecsnet_handle
            try:
                return row.ecsnet_values[self.ecsnet_name]
            except KeyError:
                pass
            # Nothing given: the default, if there is one.
            rest = self.ecsnet_rest()
            if rest is MISSING:
                raise AttributeError(f"{self.ecsnet_handle!r} was not given, and has no default")
            return rest

        def __set__(self, row: Any, value: Any) -> None:
            row.ecsnet_values[self.ecsnet_name] = value


class Scalar(Typed, Generic[Cell, Element, Given]):
    """A type of one value in each cell: `Cell` to Python, `Element` in a column, `Given` what may be given for it."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __get__(self, row: None, owner: type) -> Field[Cell, Element]: ...
        @overload
        # A row that was delivered holds values; what a query gives holds arrays. Its class cannot tell.
        def __get__(self, row: Event, owner: type) -> Any: ...
        @overload
        def __get__(self, row: object, owner: type) -> NDArray[Element]: ...
        def __get__(self, row: object, owner: type) -> Any: ...
        def __set__(self, row: object, value: Given) -> None: ...


class u8(Scalar[int, "np.uint8", "Integers"]):
    """An unsigned integer of 8 bits."""

    __slots__ = ()
    type_name = "u8"


class u16(Scalar[int, "np.uint16", "Integers"]):
    """An unsigned integer of 16 bits."""

    __slots__ = ()
    type_name = "u16"


class u32(Scalar[int, "np.uint32", "Integers"]):
    """An unsigned integer of 32 bits."""

    __slots__ = ()
    type_name = "u32"


class u64(Scalar[int, "np.uint64", "Integers"]):
    """An unsigned integer of 64 bits."""

    __slots__ = ()
    type_name = "u64"


class i8(Scalar[int, "np.int8", "Integers"]):
    """A signed integer of 8 bits."""

    __slots__ = ()
    type_name = "i8"


class i16(Scalar[int, "np.int16", "Integers"]):
    """A signed integer of 16 bits."""

    __slots__ = ()
    type_name = "i16"


class i32(Scalar[int, "np.int32", "Integers"]):
    """A signed integer of 32 bits."""

    __slots__ = ()
    type_name = "i32"


class i64(Scalar[int, "np.int64", "Integers"]):
    """A signed integer of 64 bits."""

    __slots__ = ()
    type_name = "i64"


class f32(Scalar[float, "np.float32", "Floats"]):
    """A float of 32 bits."""

    __slots__ = ()
    type_name = "f32"


class f64(Scalar[float, "np.float64", "Floats"]):
    """A float of 64 bits."""

    __slots__ = ()
    type_name = "f64"


class bool_(Scalar[bool, "np.bool_", "Bools"]):
    """True or false."""

    __slots__ = ()
    type_name = "bool"


class ref(Scalar[int, "np.uint64", "Integers | None"]):
    """A reference: the key of an entity or of another table's row, `field(to="item.id")`. None is null, for one that is
    optional. A cell has the type of the key that it refers to."""

    __slots__ = ()
    type_name = "ref"


class string(Scalar[str, "np.object_", "str | NDArray[Any] | Sequence[str]"]):
    """Text of at most `field(length=...)` bytes of UTF-8. A column is an array of Python's `str`."""

    __slots__ = ()
    type_name = "string"


class bytes_(Scalar[bytes, "np.uint8", "bytes | NDArray[Any] | Sequence[bytes]"]):
    """`field(length=...)` bytes, filled up with zeros. A column is an array of u8 with a row of bytes for each cell."""

    __slots__ = ()
    type_name = "bytes"


class enum(Scalar[Member, "np.int64", "Member | int | NDArray[Any] | Sequence[int]"], Generic[Member]):
    """One of the members of an `enum.IntEnum`, stored as its number: `kind: enum[Kind]`. A column holds the numbers, in
    the integer type of `field(storage=...)`, u8 by default (a type checker is told i64, as for all of them)."""

    __slots__ = ()
    type_name = "enum"


class array(Typed, Generic[Kind]):
    """Several numbers, bools or structs in each cell, inline: `array[f32]` with `field(shape=4)` or `shape=(4, 3)`. A
    column has the shape `(rows, 4)`. An array of structs is an array in each of the struct's columns."""

    __slots__ = ()
    type_name = "array"

    if TYPE_CHECKING:

        @overload
        def __get__(self: "array[Scalar[Cell, Element, Any]]", row: None, owner: type) -> Field[Any, Element]: ...
        @overload
        def __get__(self: "array[Shape]", row: None, owner: type) -> type[Shape]: ...
        @overload
        def __get__(self, row: Event, owner: type) -> Any: ...
        @overload
        def __get__(self: "array[Scalar[Cell, Element, Any]]", row: object, owner: type) -> NDArray[Element]: ...
        @overload
        def __get__(self: "array[Shape]", row: object, owner: type) -> Shape: ...
        def __get__(self, row: object, owner: type) -> Any: ...
        def __set__(
            self, row: object, value: "Struct | Mapping[str, Any] | NDArray[Any] | Sequence[Any] | float"
        ) -> None: ...


TYPES: Final = (u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, bool_, ref, string, bytes_, enum, array)
