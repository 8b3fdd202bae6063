"""A schema as Python classes: what `ecsnet schema python` prints.

The text defines the classes and `schema`, which is the same schema, notes included. Structs and enums of equal members
are one class each, named after the first field that has them: a schema does not know what they were called.
"""

import json
import keyword
import textwrap
from typing import Any, Final

from ecsnet.errors import ArgumentError
from ecsnet.limits import ENTITIES_MAX_DEFAULT
from ecsnet.schema.canonical import number_text
from ecsnet.schema.fields import spelled
from ecsnet.schema.indexes import SPATIAL_CELL_DEFAULT
from ecsnet.schema.model import ENTITIES, MISSING, Field, Schema, Table
from ecsnet.schema.rules import InterestRule, Writer
from ecsnet.schema.tables import USER_TABLE_ID_MIN
from ecsnet.schema.types import SCALARS
from ecsnet.schema.write_toml import given_alike

Tree = dict[str, "Field | Tree"]
"""Fields by name, those of a struct as a tree of their own."""

_BASES: Final = {"component": "Component", "keyed": "Table", "event": "Event"}
_LINE_MAX: Final = 110


def to_python(schema: Schema) -> str:
    """The text of a module, ending in a line feed.

    Raises:
        ArgumentError: an enum has a member that Python's enums cannot have ("mro").
    """
    return _Writer(schema).module()


class _Writer:
    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        words = {part for table in schema.user_tables for field in table.fields for part in field.name.split(".")}
        # A field hides a name of the same spelling from those below it in its class.
        self.prefix = "_ecsnet." if words & {"field", "auto", "array", "enum", "ref", "string", *SCALARS} else ""
        self.used: set[str] = set()
        self.taken = {"Component", "Event", "IntEnum", "InterestRule", "Schema", "Spatial", "Struct", "Table", "Writer"}
        self.tables = {table.name: self._class_name(table.name, "") for table in schema.user_tables}
        self.shared: dict[str, str] = {}
        """The body of a struct or an enum → its class's name."""
        self.above: list[str] = []

    def module(self) -> str:
        tables = [self._table(table) for table in self.schema.user_tables]
        schema = self._schema()
        enums = any("(IntEnum)" in text or "IntEnum(" in text for text in self.above)
        if self.prefix:
            imports = ["import ecsnet as _ecsnet"]
        else:
            names = ", ".join(sorted(self.used, key=lambda name: (name.islower(), name)))
            imports = [f"from ecsnet import {names}"]
            if len(imports[0]) > _LINE_MAX:
                wrapped = textwrap.fill(f"{names},", _LINE_MAX, initial_indent="    ", subsequent_indent="    ")
                imports = [f"from ecsnet import (\n{wrapped}\n)"]
        if enums:
            imports = ["from enum import IntEnum", "", *imports]
        head = f'"""The schema of {self.schema.name} {self.schema.version}."""\n\n' + "\n".join(imports)
        return "\n\n\n".join([head, *self.above, *tables]) + "\n\n\n" + schema + "\n"

    def _name(self, name: str) -> str:
        """A name of ecsnet's, noted as used."""
        self.used.add(name)
        return self.prefix + name

    def _class_name(self, name: str, within: str) -> str:
        """A free name for a class: its own, with the table's before it, or numbered."""
        base = "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "X"
        wanted, number = base, 1
        while wanted in self.taken or keyword.iskeyword(wanted):
            wanted = f"{within}{base}" if number == 1 and within else f"{base}_{max(2, number)}"
            number += 1
        self.taken.add(wanted)
        return wanted

    def _schema(self) -> str:
        schema, entities = self.schema, self.schema.table(ENTITIES)
        arguments = [_quoted(schema.name), _quoted(schema.version), *self.tables.values()]
        if schema.doc:
            arguments.append(f"doc={_quoted(schema.doc)}")
        if entities.rows_max != ENTITIES_MAX_DEFAULT:
            arguments.append(f"entities_max={entities.rows_max}")
        if schema.interest:
            rules = ",\n        ".join(self._rule(rule) for rule in schema.interest)
            arguments.append(f"interest=[\n        {rules},\n    ]")
        return _call(f"schema = {self._name('Schema')}", arguments)

    # --- tables -------------------------------------------------------------------------------------------------------

    def _table(self, table: Table) -> str:
        name = self.tables[table.name]
        head = _call(f"class {name}", [self._name(_BASES[table.kind]), *self._keywords(table, name)]) + ":"
        plain = given_alike({field.name: field.id for field in table.fields}, 0)
        lines = []
        if table.doc and _is_docstring(table.doc):
            lines.append(f'"""{table.doc}"""')
            lines += [""] if table.fields else []
        lines += self._body(_tree(table), table, name, not plain)
        return "\n".join([head, *(f"    {line}" if line else "" for line in lines or ["pass"])])

    def _keywords(self, table: Table, name: str) -> list[str]:
        keys: list[str] = []
        if spelled(name) != table.name:
            keys.append(f"name={_quoted(table.name)}")
        if table.kind == "component" and table.key != "entity_id":
            keys.append(f"key={_quoted(table.key)}")
        if table.primary_key is not None and table.primary_key != self._guessed(table):
            keys.append(f"primary_key={_quoted(table.primary_key)}")
        if not given_alike({one.name: one.id for one in self.schema.user_tables}, USER_TABLE_ID_MIN):
            keys.append(f"id={table.id}")
        if table.group is not None:
            keys.append(f"group={_quoted(table.group)}")
        if table.spatial is not None:
            place = _plain(table.spatial.fields)
            if table.spatial.cell != SPATIAL_CELL_DEFAULT:
                place = f"{self._name('Spatial')}({place}, {table.spatial.cell!r})"
            keys.append(f"spatial={place}")
        if table.uniques:
            keys.append(f"unique={_plain(list(table.uniques))}")
        if table.tied:
            keys.append(f"tied={_quoted(table.tied)}")
        if table.owner:
            keys.append(f"owner={_quoted(table.owner)}")
        if table.visible_to is not None:
            keys.append(f"visible_to={_plain(list(table.visible_to))}")
        if table.writers:
            keys.append(f"writers=[{', '.join(self._writer(writer) for writer in table.writers)}]")
        if table.conflict != "authority":
            keys.append(f"conflict={_quoted(table.conflict)}")
        if not table.replicated:
            keys.append("replicated=False")
        if table.rows_max:
            keys.append(f"rows_max={table.rows_max}")
        if table.rows_expected:
            keys.append(f"rows_expected={table.rows_expected}")
        if table.doc and not _is_docstring(table.doc):
            keys.append(f"doc={_quoted(table.doc)}")
        return keys

    def _writer(self, writer: Writer) -> str:
        said = [_quoted(writer.role), _plain(list(writer.operations))]
        if writer.rows != "owned":
            said.append(f"rows={_quoted(writer.rows)}")
        if writer.fields is not None:
            said.append(f"fields={_plain(list(writer.fields))}")
        return f"{self._name('Writer')}({', '.join(said)})"

    def _rule(self, rule: InterestRule) -> str:
        said = [_quoted(rule.kind)]
        plain = InterestRule(rule.kind)
        for name in ("tables", "table", "radius", "leave_radius", "every", "field", "see", "where", "roles"):
            value = getattr(rule, name)
            if value != getattr(plain, name):
                said.append(f"{name}={_quoted(value) if isinstance(value, str) else _plain(value)}")
        return f"{self._name('InterestRule')}({', '.join(said)})"

    def _guessed(self, table: Table) -> str | None:
        """The primary key that a class without the keyword has."""
        automatic = [field.name for field in table.fields if field.auto_increment]
        return automatic[0] if automatic else "id" if "id" in table else None

    # --- fields -------------------------------------------------------------------------------------------------------

    def _body(self, tree: Tree, table: Table, within: str, with_ids: bool) -> list[str]:
        lines = []
        for name, field in tree.items():
            if isinstance(field, Field):
                kind, said = self._field(field, name, table, within)
                said += [f"id={field.id}"] if with_ids else []
            else:
                kind, said = self._struct(name, field, table, within), []
                said += [f"id={_plain(_ids(field))}"] if with_ids else []
            if said == ["auto_increment=True"]:
                lines.append(f"{name}: {kind} = {self._name('auto')}()")
            elif said:
                lines += _call(f"{name}: {kind} = {self._name('field')}", said).split("\n")
            else:
                lines.append(f"{name}: {kind}")
        return lines

    def _struct(self, name: str, tree: Tree, table: Table, within: str) -> str:
        body = "\n".join(f"    {line}" for line in self._body(tree, table, within, False))
        found = self.shared.get(body)
        if found is None:
            found = self.shared[body] = self._class_name(name, within)
            self.above.append(f"class {found}({self._name('Struct')}):\n{body}")
        return found

    def _field(self, field: Field, name: str, table: Table, within: str) -> tuple[str, list[str]]:
        said: list[str] = []
        members = ""
        if field.foreign_key is not None:
            kind = self._name("ref")
        elif field.enum is not None:
            members = self._enum(name, field, within)
            kind = f"{self._name('enum')}[{members}]"
        elif field.type in ("string", "bytes"):
            kind = self._name("string" if field.type == "string" else "bytes_")
            said.append(f"length={field.count}")
        else:
            kind = self._name("bool_" if field.type == "bool" else field.type)
            if field.shape:
                kind = f"{self._name('array')}[{kind}]"
                said.append(f"shape={field.shape[0] if len(field.shape) == 1 else field.shape}")
        if field.default is not MISSING and field.foreign_key is None:
            said.append(f"default={_value(field, members)}")
        if field.enum is not None and field.type != "u8":
            said.append(f"storage={_quoted(field.type)}")
        said += [
            f"{key}={number_text(field, bound)}"
            for key, bound in (("minimum", field.minimum), ("maximum", field.maximum))
            if bound is not None
        ]
        if field.foreign_key is not None:
            target = field.foreign_key
            if target.table != ENTITIES:
                said.append(f'to="{target.table}.{target.field}"')
            if field.optional:
                said.append("default=None")
            if table.kind != "event" and target.on_delete != ("set_null" if field.optional else "restrict"):
                said.append(f"on_delete={_quoted(target.on_delete)}")
        if field.unique and field.name != table.primary_key:
            said.append("unique=True")
        if field.auto_increment:
            said.append("auto_increment=True")
        if field.quantize:
            said.append(f"quantize={field.quantize!r}")
        if field.rotation:
            said.append("rotation=True")
        if field.visible_to is not None:
            said.append(f"visible_to={_plain(list(field.visible_to))}")
        if field.doc:
            said.append(f"doc={_quoted(field.doc)}")
        return kind, said

    def _enum(self, name: str, field: Field, within: str) -> str:
        assert field.enum is not None
        if "mro" in field.enum:
            raise ArgumentError(f"{within}.{name}: an enum of Python has no member mro")
        body = repr(dict(field.enum))
        found = self.shared.get(body)
        if found is not None:
            return found
        found = self.shared[body] = self._class_name(name, within)
        if any(keyword.iskeyword(member) for member in field.enum):
            self.above.append(f"{found} = IntEnum({_quoted(found)}, {_plain(dict(field.enum))})")
        else:
            lines = "\n".join(f"    {member} = {number}" for member, number in field.enum.items())
            self.above.append(f"class {found}(IntEnum):\n{lines}")
        return found


def _tree(table: Table) -> Tree:
    tree: Tree = {}
    for field in table.fields:
        *path, last = field.name.split(".")
        inner: Any = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = field
    return tree


def _ids(tree: Tree) -> dict[str, Any]:
    return {name: field.id if isinstance(field, Field) else _ids(field) for name, field in tree.items()}


def _value(field: Field, members: str) -> str:
    """A default as Python writes it."""
    value = field.default
    if field.enum is not None:
        name = next(name for name, number in field.enum.items() if number == value)
        return f"{members}[{_quoted(name)}]" if keyword.iskeyword(name) else f"{members}.{name}"
    if isinstance(value, bytes):
        return repr(value.rstrip(b"\0"))
    if isinstance(value, str):
        return _quoted(value)
    if not isinstance(value, tuple):
        assert value is not MISSING
        return repr(value) if isinstance(value, bool) else number_text(field, value)
    elements = [repr(one) if isinstance(one, bool) else number_text(field, one) for one in value]
    if len(set(elements)) == 1:
        return elements[0]
    for length in reversed(field.shape):
        rows = range(0, len(elements), length)
        elements = ["[" + ", ".join(elements[row : row + length]) + "]" for row in rows]
    return elements[0]


def _quoted(text: str) -> str:
    """A text between double quotes. What JSON escapes, Python reads in the same way."""
    return json.dumps(text, ensure_ascii=False)


def _plain(names: object) -> str:
    """A structure of names and numbers, in which no quote needs escaping."""
    return repr(names).replace("'", '"')


def _is_docstring(text: str) -> bool:
    """Whether it is itself between three quotes."""
    return text.isprintable() and not set(text) & {'"', "\\"} and text == text.strip()


def _call(head: str, arguments: list[str]) -> str:
    """`head(arguments)`, on lines of their own where one would be too long."""
    line = f"{head}({', '.join(arguments)})"
    if len(line) <= _LINE_MAX and "\n" not in line:
        return line
    return "\n".join([f"{head}(", *(f"    {argument}," for argument in arguments), ")"])
