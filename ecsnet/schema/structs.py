"""The types that a schema gives names to: `[enums.NAME]` and `[structs.NAME]`.

A struct is read into the members that it comes to in the end, those of structs within it under dotted names, so that a
field of its type needs no second look at it.

Invariants: a struct does not contain itself; nesting ends at `STRUCT_NESTING_MAX`, so that reading it may recurse; a
struct has at most `FIELDS_MAX` members in the end, checked at each level, so that no small file makes a large schema.
"""

from ecsnet.errors import SchemaError
from ecsnet.limits import FIELDS_MAX, STRUCT_NESTING_MAX, TABLES_MAX
from ecsnet.schema.declared import Declared, Types
from ecsnet.schema.enums import read_enum
from ecsnet.schema.fields import read_field, read_name
from ecsnet.schema.language import ENUM_KEYS, STRUCT_KEYS
from ecsnet.schema.source import Node, shorten
from ecsnet.schema.types import TYPE_WORDS


def read_types(root: Node) -> Types:
    """Read both tables of types; either may be missing.

    Raises:
        SchemaError: a name is taken, a key unknown, an enum or a member wrong, or a struct contains itself.
    """
    enums = {}
    for node in _named(root, "enums", "enum"):
        node.check_keys("an enum", ENUM_KEYS, {})
        node.text("doc", "")
        enums[str(node.path[-1])] = read_enum(node)
    waiting = {str(node.path[-1]): node for node in _named(root, "structs", "struct")}
    structs: dict[str, tuple[Declared, ...]] = {}
    types = Types(enums, structs)
    for name, node in waiting.items():
        if name in enums:
            raise node.error("reserved-name", None, f'"{name}" is an enum already', "choose another name", at="key")
    for name in waiting:
        _read(name, waiting, types, structs, ())
    return types


def _named(root: Node, key: str, what: str) -> list[Node]:
    if key not in root:
        return []
    group = root.child(key)
    if len(group.data) > TABLES_MAX:
        raise group.error("too-many", None, f"{len(group.data)} {key} are above the limit of {TABLES_MAX}", at="key")
    nodes = []
    for name in group.data:
        node = group.child(name)
        read_name(node, what, name, None)
        if name in TYPE_WORDS:
            reason = f'"{name}" is a type of the language'
            raise node.error("reserved-name", None, reason, "choose another name", at="key")
        nodes.append(node)
    return nodes


def _read(
    name: str, nodes: dict[str, Node], types: Types, done: dict[str, tuple[Declared, ...]], trail: tuple[str, ...]
) -> None:
    """Read one struct, and before it those that it contains."""
    if name in done:
        return
    node = nodes[name]
    trail = (*trail, name)
    if len(trail) > STRUCT_NESTING_MAX:
        raise node.error("too-many", None, f"structs nest deeper than {STRUCT_NESTING_MAX} levels", at="key")
    node.check_keys("a struct", STRUCT_KEYS, {})
    node.text("doc", "")
    children = node.children("fields")
    for child in children:
        written = child.data.get("type")
        inner = written.strip("[ ").partition(";")[0].strip() if isinstance(written, str) else ""
        if inner in trail:
            chain = " contains ".join(f'"{shorten(one)}"' for one in (*trail[trail.index(inner) :], inner))
            raise child.error("struct-cycle", "type", f"a struct cannot contain itself: {chain}")
        if inner in nodes:
            _read(inner, nodes, types, done, trail)
    members: list[Declared] = []
    for child in children:
        members += read_field(child, types, member=True)
        if len(members) > FIELDS_MAX:
            reason = f"more than {FIELDS_MAX} members, those of structs within it counted"
            raise node.error("too-many", "fields", reason, at="key")
    if not members:
        reason = f'the struct "{name}" has no members'
        raise node.error("missing-key", None, reason, 'fields = [{ name = "x", type = "f32" }]', at="key")
    check_names(members)
    done[name] = tuple(members)


def check_names(fields: list[Declared], what: str = "struct") -> None:
    """Check that no two fields have one name, and that none stands where another has members.

    Raises:
        SchemaError: "duplicate-field".
    """
    seen: dict[str, Declared] = {}
    for field in fields:
        if field.name in seen:
            raise _twice(field, field.name, seen[field.name], what)
        seen[field.name] = field
    for field in fields:
        parts = field.name.split(".")
        for end in range(1, len(parts)):
            if (other := seen.get(".".join(parts[:end]))) is not None:
                raise _twice(field, other.name, other, what)


def _twice(field: Declared, name: str, other: Declared, what: str) -> SchemaError:
    line = field.node.source.line((*other.node.path, "name"))
    return field.node.error(
        "duplicate-field", "name", f'the {what} has a field "{name}" already', f"it is in line {line}"
    )
