"""A schema from Python classes: what they say, put into the words of the language and read by the reader of TOML.

So there is one set of rules and one set of errors, and a schema has one fingerprint however it is written. An error
names the file, the line and the field of the class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

from ecsnet.errors import SchemaError
from ecsnet.expressions import Column
from ecsnet.schema.annotations import ClassField, place_of
from ecsnet.schema.columns import array, bytes_, enum, ref, string
from ecsnet.schema.document import read_schema
from ecsnet.schema.fields import spelled
from ecsnet.schema.model import ENTITIES, Schema, Spatial
from ecsnet.schema.positions import Path, Positions
from ecsnet.schema.python import Row, Struct
from ecsnet.schema.rules import InterestRule, Writer
from ecsnet.schema.source import Node, Source, dotted


def schema_of(
    name: str,
    version: str,
    classes: Iterable[type[Row]],
    *,
    doc: str = "",
    entities_max: int | None = None,
    interest: Iterable[InterestRule] = (),
) -> Schema:
    """The schema of these tables.

    Raises:
        SchemaError: any of them is no table's class, or says what the language does not allow.
    """
    by_table: dict[str, type[Row]] = {}
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Row) and cls.ecsnet_table):
            reason = f"expected the classes of tables, found {cls!r}"
            raise SchemaError("wrong-type", "Schema(...)", None, None, "", reason, "class Health(Component): ...")
        other = by_table.setdefault(cls.ecsnet_table, cls)
        if other is not cls:
            reason = f'{other.__name__} is the table "{cls.ecsnet_table}" already'
            raise SchemaError("duplicate-table", *place_of(cls), cls.__name__, reason, 'give it another name="..."')
    database: dict[str, Any] = {"name": name, "version": version}
    if doc:
        database["doc"] = doc
    structs: dict[str, type[Struct]] = {}
    tables = {table: _table(cls, by_table, structs) for table, cls in by_table.items()}
    if entities_max is not None:
        tables[ENTITIES] = {"rows_max": entities_max}
    data: dict[str, Any] = {"database": database, "tables": tables}
    written: dict[str, Any] = {}
    while len(written) < len(structs):
        # A struct may name further ones.
        for key in list(structs)[len(written) :]:
            written[key] = {"fields": _fields(structs[key], by_table, structs)}
    if written:
        data["structs"] = written
    if rules := [_rule(rule) for rule in interest]:
        data["interest"] = rules
    source = ClassSource("Schema(...)", Positions("", {}, {}), data, by_table | structs)
    return read_schema(Node(source, (), data), by_table)


_HINTS = {
    "no-key": "give it a key, as in id: u64 = auto(), or class keyword primary_key=...",
    "unknown-table": "give its class to Schema(...) too",
}
"""What to do, in Python's words, where the words of TOML would be of no use."""


@dataclass(frozen=True, slots=True)
class ClassSource(Source):
    """Where errors of classes are said to be: in the class and the field, as Python names them."""

    data: dict[str, Any]
    classes: Mapping[str, type[Any]]

    def error(self, code: str, path: Path, reason: str, hint: str | None = None, *, at: str = "value") -> SchemaError:
        """The error about what the key or value at `path` was made of."""
        here = _HINTS.get(code)
        if here is not None:
            hint = f"{hint} If not, {here}" if hint and hint.startswith("did you mean") else here
        cls = self.classes.get(str(path[1])) if len(path) > 1 and path[0] in ("tables", "structs") else None
        if cls is None:
            key = ".".join(str(part) for part in path[1:]) if path[:1] == ("database",) else ""
            if path[:1] == ("interest",):
                key = dotted(path)
            return SchemaError(code, self.file, None, None, key, reason, hint)
        field, rest = self._field(path)
        key = ".".join([cls.__name__, *([field] if field else []), *(str(part) for part in rest)])
        return SchemaError(code, *place_of(cls, field), key, reason, hint)

    def line(self, path: Path) -> int | None:
        """The line of the class or field at `path`."""
        cls = self.classes.get(str(path[1])) if len(path) > 1 else None
        return None if cls is None else place_of(cls, self._field(path)[0])[1]

    def _field(self, path: Path) -> tuple[str | None, Path]:
        """The field's name in `(tables, NAME, fields, INDEX, ...)`, and what follows."""
        if len(path) >= 4 and path[2] == "fields" and isinstance(path[3], int):
            name: str = self.data[str(path[0])][path[1]]["fields"][path[3]]["name"]
            return name, path[4:]
        return None, path[2:]


def _table(cls: type[Row], tables: Mapping[str, type[Row]], structs: dict[str, type[Struct]]) -> dict[str, Any]:
    keys = {key: _plain(value) for key, value in cls.ecsnet_keys.items()}
    fields = _fields(cls, tables, structs)
    if cls.ecsnet_kind == "component":
        key = {"name": keys.pop("key"), "type": "u64", "foreign_key": f"{ENTITIES}.id"}
        return {"parent_table": ENTITIES, **keys, "fields": [key, *fields]}
    if cls.ecsnet_kind == "event":
        return {"event": True, **keys, "fields": fields}
    if "primary_key" not in keys and (primary := _primary_key(cls)) is not None:
        keys["primary_key"] = primary
    return {**keys, "fields": fields}


def _primary_key(cls: type[Row]) -> str | None:
    """The field that names a row, where the class does not say."""
    if "primary_key" in cls.ecsnet_keys:
        key: str = cls.ecsnet_keys["primary_key"]
        return key
    automatic = [name for name, field in cls.ecsnet_columns.items() if "auto_increment" in field.declaration.keys]
    return automatic[0] if automatic else "id" if "id" in cls.ecsnet_columns else None


def _fields(cls: type[Any], tables: Mapping[str, type[Row]], structs: dict[str, type[Struct]]) -> list[dict[str, Any]]:
    return [_field(cls, field, tables, structs) for field in cls.ecsnet_columns.values()]


def _field(
    cls: type[Any], field: ClassField, tables: Mapping[str, type[Row]], structs: dict[str, type[Struct]]
) -> dict[str, Any]:
    said = field.declaration
    keys = dict(said.keys)
    out: dict[str, Any] = {"name": field.name}
    if field.kind is ref or "foreign_key" in keys:
        target = _target(keys.pop("foreign_key", ENTITIES), tables)
        out["foreign_key"] = target
        if "default" in keys and keys["default"] in (None, 0):
            del keys["default"]
            keys["optional"] = True
    out["type"] = _type(cls, field, tables, structs, out.get("foreign_key", ""))
    if field.kind is enum:
        out["values"] = _members(cls, field)
        if isinstance(default := keys.get("default"), int):
            names = {number: name for name, number in out["values"].items()}
            keys["default"] = names.get(int(default), int(default))
    for wanted, given, kinds in (("length", said.length, (string, bytes_)), ("shape", said.shape, (array,))):
        if given is not None and field.kind not in kinds:
            owners = " and ".join(kind.__name__ for kind in kinds)
            raise _fault(cls, field, "key-conflict", f"{wanted} belongs to {owners}, not to {field.kind.__name__}")
        if given is None and field.kind in kinds:
            hint = f"write {field.name}: {field.kind.__name__} = field({wanted}=...)"
            raise _fault(cls, field, "missing-key", f"{field.kind.__name__} must say its {wanted}", hint)
    return out | {key: _plain(value) for key, value in keys.items()}


def _type(
    cls: type[Any],
    field: ClassField,
    tables: Mapping[str, type[Row]],
    structs: dict[str, type[Struct]],
    target: str,
) -> str:
    """The type in the words of the language."""
    if field.kind is ref:
        return _type_of_key(target, tables)
    if field.struct is not None:
        text = _named(field.struct, structs)
    else:
        element = field.inner if field.kind is array and field.inner is not None else field.kind
        text = "u64" if element is ref else element.type_name
    if field.kind in (string, bytes_):
        return f"{text}[{field.declaration.length}]"
    for length in reversed(field.declaration.shape or ()):
        text = f"[{text}; {length}]"
    return text


def _named(struct: type[Struct], structs: dict[str, type[Struct]]) -> str:
    """The name of a struct in this schema: its class's, with a number where two classes have one name."""
    base = spelled(struct.__name__)
    name, number = base, 1
    while structs.setdefault(name, struct) is not struct:
        number += 1
        name = f"{base}_{number}"
    return name


def _type_of_key(target: str, tables: Mapping[str, type[Row]]) -> str:
    """The type of what a reference holds; u64 where there is no such key, which the reader of the schema refuses."""
    table, _, name = target.partition(".")
    cls = tables.get(table)
    key = None if cls is None else cls.ecsnet_columns.get(name)
    if key is None or not key.kind.type_name or key.kind in (array, enum, ref):
        return "u64"
    length = key.declaration.length
    return key.kind.type_name if length is None else f"{key.kind.type_name}[{length}]"


def _target(to: Any, tables: Mapping[str, type[Row]]) -> str:
    """What `to` means, as "table.field"."""
    if isinstance(to, Column):
        return to.path
    table = to.ecsnet_table if isinstance(to, type) and issubclass(to, Row) else to
    if not isinstance(table, str) or "." in table:
        return str(table)
    if table == ENTITIES:
        return f"{ENTITIES}.id"
    cls = tables.get(table)
    if cls is not None and cls.ecsnet_kind == "component":
        return f"{table}.{cls.ecsnet_keys['key']}"
    return f"{table}.{(cls and _primary_key(cls)) or 'id'}"


def _members(cls: type[Any], field: ClassField) -> dict[str, int]:
    members = field.inner
    if members is None or not issubclass(members, IntEnum):
        reason = f"{members!r} is no enum of whole numbers"
        raise _fault(cls, field, "bad-enum", reason, "write class Kind(IntEnum): SWORD = 1")
    return {member.name: int(member) for member in members}


def _rule(rule: object) -> dict[str, Any]:
    """A rule of interest as TOML would have parsed it: what its kind does not have is left out."""
    if not isinstance(rule, InterestRule):
        hint = 'e.g. InterestRule("owned")'
        raise SchemaError(
            "wrong-type", "Schema(...)", None, None, "", f"expected rules of interest, found {rule!r}", hint
        )
    plain = InterestRule(rule.kind)
    given = {one.name: getattr(rule, one.name) for one in fields(rule) if one.name != "kind"}
    return {"kind": rule.kind} | {key: _plain(value) for key, value in given.items() if value != getattr(plain, key)}


def _plain(value: Any) -> Any:
    """A value of Python as TOML would have parsed it."""
    if isinstance(value, Writer):
        keys = {"role": value.role, "operations": list(value.operations), "rows": value.rows}
        return keys if value.fields is None else keys | {"fields": [_plain(name) for name in value.fields]}
    if isinstance(value, Struct):
        return _plain(value.ecsnet_values)
    if isinstance(value, Spatial):
        return {"fields": [_plain(name) for name in value.fields], "cell": value.cell}
    if isinstance(value, Column):
        # A field of the table itself, where a name is wanted.
        return value.path.partition(".")[2]
    if isinstance(value, Mapping):
        # The default of a struct: an enum among its members is given by name there.
        return {str(key): inner.name if isinstance(inner, IntEnum) else _plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes | bytearray):
        return list(value)
    if isinstance(value, IntEnum):
        return int(value)
    if hasattr(value, "tolist"):  # of numpy
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return value


def _fault(cls: type[Any], field: ClassField, code: str, reason: str, hint: str | None = None) -> SchemaError:
    return SchemaError(code, *place_of(cls, field.name), f"{cls.__name__}.{field.name}", reason, hint)
