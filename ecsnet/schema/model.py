"""The schema as the rest of ecsnet knows it: frozen, typed, checked, the same on every node.

A `Schema` is made from TOML by `ecsnet.schema.load` or `loads`, or from classes by calling it, and checked by one
reader in either case, so whoever holds one holds a valid one.

Invariants:
- tables are sorted by table id, fields by field id; neither depends on the order in a file;
- table 0 is `entities`; ids 1 to 15 are system tables, never replicated; the schema's own tables begin at 16;
- `Table.fields` are the stored fields only. An entity's `id` and `version` and a component's key field are *virtual*:
  they are what names the row, so they are never stored a second time, and read-only;
- two schemas with one fingerprint have equal tables, but for `doc` and `rows_expected`, which are notes for people
  and for the node that runs them and may differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from ecsnet.errors import ArgumentError, UnknownNameError
from ecsnet.schema.rules import Conflict, InterestRule, Writer
from ecsnet.schema.types import SCALARS, type_text

if TYPE_CHECKING:
    import numpy as np

    from ecsnet.schema.python import Row

TableKind = Literal["entities", "component", "keyed", "event"]
OnDelete = Literal["cascade", "set_null", "restrict"]
VirtualKind = Literal["key", "generation"]
Value = bool | int | float | bytes | str | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]

ENTITIES: Final = "entities"

VIRTUAL_KEY_ID: Final = 0xFFF0
"""What the metadata tables call the key in place of a field id; the kernel keeps ids from here on for such columns."""

VIRTUAL_GENERATION_ID: Final = 0xFFF1

WHOLE_TABLE_ID: Final = 0xFFFF
"""What the metadata tables say in place of a field id about a table as a whole."""


class Missing(Enum):
    """The type of `MISSING`, so that a type checker can tell it from every value."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""No default: the field must be given when a row is inserted."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Where a reference points, and what deleting its target does to the row that holds it.

    `field` is the target's key: "id" of entities, or the primary key of a keyed table. The cell has the type of that
    key and holds its value; all zero bytes are null. In an event table `on_delete` means nothing.
    """

    table: str
    field: str
    on_delete: OnDelete


@dataclass(frozen=True, slots=True)
class Field:
    """One stored column.

    `name` has dots where the field is a member of a struct: "position.x" of the table `transform`, whose path is then
    "transform.position.x". A struct is nothing but such names.

    `type` is the type of one element: "u8" to "f64", "bool", "bytes" or "string"; an enum has the type it is stored as.
    `count` is the number of elements of a cell: N for `[T; N]` and for `bytes[N]`, the product of the lengths for
    arrays of arrays, 1 for a scalar. `shape` is the shape of a cell in a numpy column: `(N,)` for those two, (4, 3) for
    `[[f32; 3]; 4]`, `()` for a scalar; the column has shape `(rows, *shape)`. Of a `string[N]`, `count` is N, the most
    bytes of UTF-8 that it may have, `shape` is `()` and the cell is a u64 reference into the store's heap, 0 for "".

    `default`, `minimum` and `maximum` are already of the element's type and range, rounded to f32 where that is the
    type: a bool, int or float, a flat tuple of `count` of them for an array (row-major), `count` bytes for `bytes[N]`,
    a str for `string[N]`. A reference that is optional has null as its default: 0, zero bytes, or "".

    `quantize` is the step to which floats are rounded on the wire, with an error of at most half of it; 0.0 is exact.
    `rotation` says that the four floats are a unit quaternion. Neither changes what a store holds. `visible_to` are the
    roles of the clients that may see it, sorted; None is every role.
    """

    id: int
    name: str
    type: str
    count: int = 1
    shape: tuple[int, ...] = ()
    default: Value | Missing = MISSING
    minimum: int | float | None = None
    maximum: int | float | None = None
    unique: bool = False
    optional: bool = False
    auto_increment: bool = False
    foreign_key: ForeignKey | None = None
    enum: Mapping[str, int] | None = field(default=None, hash=False)
    doc: str = ""
    quantize: float = 0.0
    rotation: bool = False
    visible_to: tuple[str, ...] | None = None

    @property
    def virtual(self) -> bool:
        """False: virtual fields are in `Table.virtual`, by name."""
        return False

    @property
    def width(self) -> int:
        """Bytes of one cell; of a string those of the reference, its text lies in the heap."""
        return SCALARS[self.type].width * (1 if self.type == "string" else self.count)

    @property
    def required(self) -> bool:
        """Whether an insert must give it."""
        return self.default is MISSING and not self.auto_increment

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Of one element, little-endian; "bytes" is u1, "string" u8 (the reference)."""
        import numpy as np

        return np.dtype(SCALARS[self.type].numpy)

    @property
    def type_text(self) -> str:
        """The type as the schema language writes it, e.g. "[f32; 3]"."""
        return "enum" if self.enum is not None else type_text(self.type, self.count, self.shape)


@dataclass(frozen=True, slots=True)
class Spatial:
    """Two or three float fields of one type that are a place, and the edge of a cell of the grid that finds rows."""

    fields: tuple[str, ...]
    cell: float


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `rows_max` is 0 where the schema sets no bound of its own, `rows_expected` 0 where it does not say.

    `virtual` maps the name of each virtual field to what it stands for: "key" (the entity, u64) or "generation" (u32).
    `primary_key` is the unique field that names a row of a keyed table, None for other kinds. `uniques` are the sets of
    fields of which no two rows have the same values, each in the order of field ids, and they in the order of theirs.
    `group` is the name that components share whose rows lie together, `spatial` the place that rows are found by.

    `visible_to` are the roles of the clients that may see the table, sorted; None is every role. `writers` are the
    permissions of clients to write it without a command, in the order of the schema; none is "nobody". `conflict` says
    what decides between writing nodes: "authority", or "lww", the last write of each cell. `tied` is the reference
    whose target a row travels with (`with` in TOML), `owner` the field of a keyed table that says whose a row is, a
    reference to an entity or a client id; "" is none.
    """

    id: int
    name: str
    kind: TableKind
    fields: tuple[Field, ...]
    virtual: Mapping[str, VirtualKind] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    primary_key: str | None = None
    replicated: bool = True
    system: bool = False
    rows_max: int = 0
    rows_expected: int = 0
    doc: str = ""
    uniques: tuple[tuple[str, ...], ...] = ()
    group: str | None = None
    spatial: Spatial | None = None
    visible_to: tuple[str, ...] | None = None
    writers: tuple[Writer, ...] = ()
    conflict: Conflict = "authority"
    tied: str = ""
    owner: str = ""
    _by_name: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert all(a.id < b.id for a, b in zip(self.fields, self.fields[1:], strict=False)), self.name
        object.__setattr__(self, "_by_name", {one.name: one for one in self.fields})
        assert len(self._by_name) == len(self.fields), self.name

    @property
    def key(self) -> str:
        """The name that this schema gives the row's key: a virtual field, or the primary key. "" for an event table,
        whose rows nothing names."""
        for name, kind in self.virtual.items():
            if kind == "key":
                return name
        assert self.primary_key is not None or self.kind == "event"
        return self.primary_key or ""

    @property
    def width(self) -> int:
        """Bytes of one row, keys and bookkeeping excluded."""
        return sum(one.width for one in self.fields)

    def field(self, name: str) -> Field:
        """The stored field of that name.

        Raises:
            UnknownNameError: there is none. Virtual fields have no `Field`: look into `virtual` first.
        """
        try:
            return self._by_name[name]
        except KeyError:
            known = (f"{self.name}.{other}" for other in self._by_name)
            raise UnknownNameError("field", f"{self.name}.{name}", known) from None

    def __contains__(self, name: object) -> bool:
        """Whether a stored field has that name."""
        return name in self._by_name

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a Table is pickled with its Schema only")


@dataclass(frozen=True, slots=True, init=False)
class Schema:
    """A database's name and version, its tables (the built-in ones included), and what identifies it to others.

    Called, it makes a schema of the classes of tables: `Schema("arena", "1.0.0", Transform, Health)`. `load` reads one
    from a TOML file. `classes` are those that it was made of, by table: none for a schema from TOML. `interest` are the
    rules by which clients are sent a part of the world; without any they are sent all that they may see.
    """

    name: str
    version: str
    tables: tuple[Table, ...] = field(hash=False)
    canonical: str = field(hash=False, repr=False)
    fingerprint: bytes
    doc: str = field(hash=False)
    interest: tuple[InterestRule, ...]
    classes: "Mapping[str, type[Row]]" = field(hash=False, compare=False, repr=False)
    _by_name: dict[str, Table] = field(repr=False, compare=False)
    _by_id: dict[int, Table] = field(repr=False, compare=False)

    def __init__(
        self,
        name: str,
        version: str,
        /,
        *classes: "type[Row]",
        doc: str = "",
        entities_max: int | None = None,
        interest: Sequence[InterestRule] = (),
    ) -> None:
        """Make a schema of the classes of its tables.

        Args:
            name: of the database; lower-case letters, digits and `_`.
            version: three numbers, "1.0.0".
            classes: the tables, in any order: subclasses of `Component`, `Table` and `Event`.
            doc: a note for people.
            entities_max: how many entities may live at once; 4194304 by default.
            interest: the rules by which clients are sent a part of the world; without any they are sent all of it.

        Raises:
            SchemaError: any of them says what the schema language does not allow; it names file, line and field.
        """
        from ecsnet.schema.classes import schema_of

        made = schema_of(name, version, classes, doc=doc, entities_max=entities_max, interest=interest)
        for one in fields(made):
            object.__setattr__(self, one.name, getattr(made, one.name))

    def __repr__(self) -> str:
        # `print(schema.canonical)` has all of it, in TOML.
        return (
            f"<schema {self.name} {self.version}: {', '.join(table.name for table in self.tables if not table.system)}>"
        )

    @classmethod
    def checked(
        cls,
        name: str,
        version: str,
        tables: tuple[Table, ...],
        canonical: str,
        fingerprint: bytes,
        doc: str,
        interest: tuple[InterestRule, ...],
        classes: "Mapping[str, type[Row]]",
    ) -> "Schema":
        """The schema of tables that `document` has checked; for `build_schema` and nobody else."""
        assert all(a.id < b.id for a, b in pairwise(tables))
        assert tables[0].name == ENTITIES
        assert len(fingerprint) == 16
        values = {
            "name": name, "version": version, "tables": tables, "canonical": canonical, "fingerprint": fingerprint,
            "doc": doc, "interest": interest, "classes": MappingProxyType(dict(classes)),
            "_by_name": {table.name: table for table in tables}, "_by_id": {table.id: table for table in tables},
        }  # fmt: skip
        schema = cls.__new__(cls)
        for attribute, value in values.items():
            object.__setattr__(schema, attribute, value)
        return schema

    @staticmethod
    def resolve(schema: "Schema | str | Path") -> "Schema":
        """`schema` itself, or the one in the TOML file of that path.

        Raises:
            SchemaError: the file cannot be read or is no valid schema.
            ArgumentError: `schema` is neither a Schema nor a path.
        """
        if isinstance(schema, Schema):
            return schema
        if isinstance(schema, (str, Path)):
            from ecsnet.schema.toml import load

            return load(schema)
        raise ArgumentError(f"expected a Schema or the path of a TOML file, found {type(schema).__name__}")

    def table(self, name: str) -> Table:
        """The table of that name.

        Raises:
            UnknownNameError: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownNameError("table", name, self._by_name) from None

    def table_by_id(self, table_id: int) -> Table:
        """The table with that id.

        Raises:
            UnknownNameError: there is none.
        """
        try:
            return self._by_id[table_id]
        except KeyError:
            raise UnknownNameError("table id", str(table_id)) from None

    def field(self, name: str) -> tuple[Table, Field]:
        """The table and the stored field that a path such as "health.hp" or "transform.position.x" means.

        Raises:
            UnknownNameError: there is no such table or field, or `name` has no dot.
        """
        table_name, dot, field_name = name.partition(".")
        if not dot:
            raise UnknownNameError("field", name, (f"{t.name}.{f.name}" for t in self.tables for f in t.fields))
        table = self.table(table_name)
        return table, table.field(field_name)

    def __getitem__(self, name: str) -> Any:
        """`schema["health"]` is a Table, `schema["health.hp"]` a Field. Raises UnknownNameError."""
        return self.field(name)[1] if "." in name else self.table(name)

    def __contains__(self, name: object) -> bool:
        """Whether a table has that name."""
        return name in self._by_name

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    @property
    def user_tables(self) -> tuple[Table, ...]:
        """Without `entities` and the system tables."""
        return tuple(table for table in self.tables if not table.system and table.kind != "entities")

    @property
    def fingerprint_hex(self) -> str:
        return self.fingerprint.hex()

    def metadata_rows(self) -> dict[str, list[dict[str, int | bool | bytes]]]:
        """The rows of the metadata tables: table name → rows as field name → value, as an insert takes them."""
        from ecsnet.schema.metadata import metadata_rows

        return metadata_rows(self)

    def describe(self, *, system: bool = False) -> str:
        """Tables, fields, ids and fingerprint as plain text for people; `system` adds the built-in tables."""
        from ecsnet.schema.describe import describe

        return describe(self, system=system)

    def summary(self, *, system: bool = False) -> dict[str, Any]:
        """The same for programs: only JSON's own types."""
        from ecsnet.schema.describe import summary

        return summary(self, system=system)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # Through the canonical text: what arrives has been checked like any other schema. Notes (`doc`,
        # `rows_expected`) stay behind.
        from ecsnet.schema.toml import loads

        return loads, (self.canonical,)
