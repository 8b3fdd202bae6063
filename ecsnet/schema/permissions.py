"""Who may see and who may write: `visible_to`, `writers` and `owner` of one table.

Each is checked against the table's own fields; none looks at other tables.

Invariants: nothing that names a row can be hidden, or a client could not tell rows apart; a writer that may insert may
give every field that must be given, or it could insert nothing.
"""

import re
from typing import Final, Literal, cast

from ecsnet.errors import SchemaError, did_you_mean
from ecsnet.limits import ROLES_MAX, WRITERS_MAX
from ecsnet.schema.declared import Declared
from ecsnet.schema.model import ENTITIES, MISSING
from ecsnet.schema.positions import Path
from ecsnet.schema.rules import EVERY_ROLE, OPERATIONS, Operation, Writer
from ecsnet.schema.source import Node, shorten, type_name

ROLE: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
_WRITER_KEYS: Final = ("role", "operations", "rows", "fields")


def names_of(node: Node, key: str, what: str) -> list[tuple[Path, str]]:
    """The texts of the array at `key`, each with its path, none twice.

    Raises:
        SchemaError: it is no array of texts, or one stands in it twice.
    """
    raw = node.data[key]
    if not isinstance(raw, list):
        raise node.wrong_type(key, f"an array of {what}", raw)
    found: list[tuple[Path, str]] = []
    seen: set[str] = set()
    for index, value in enumerate(raw):
        path = (*node.path, key, index)
        if not isinstance(value, str):
            raise node.source.error("wrong-type", path, f"expected a string, found {type_name(value)}")
        if value in seen:
            raise node.source.error("key-conflict", path, f'"{shorten(value)}" is named twice')
        seen.add(value)
        found.append((path, value))
    return found


def read_roles(node: Node, key: str) -> tuple[str, ...] | None:
    """The roles of `key`, sorted; None where the key is missing, which means every role.

    Raises:
        SchemaError: it is no array of roles, or names one twice, or too many.
    """
    if key not in node:
        return None
    roles = names_of(node, key, "roles")
    if len(roles) > ROLES_MAX:
        raise node.error("too-many", key, f"{len(roles)} roles are above the limit of {ROLES_MAX}", at="key")
    for path, role in roles:
        if not ROLE.fullmatch(role):
            hint = "leave the key out for every role" if role == EVERY_ROLE else 'e.g. "player"'
            raise _no_role(node, path, role, hint)
    return tuple(sorted(role for _, role in roles))


def _no_role(node: Node, path: Path, role: str, hint: str) -> SchemaError:
    reason = f'"{shorten(role)}" is no role: lower-case letters, digits and _, at most 31'
    return node.source.error("bad-name", path, reason, hint)


def read_table_roles(node: Node) -> tuple[str, ...] | None:
    """`visible_to` of a table.

    Raises:
        SchemaError: it names no roles, or stands in a table that no client is sent.
    """
    roles = read_roles(node, "visible_to")
    if roles is not None and not node.flag("replicated", True):
        reason = "no client is sent a row of this table"
        raise node.error(
            "key-conflict", "visible_to", reason, "leave it out, or leave out replicated = false", at="key"
        )
    return roles


def check_key_is_visible(field: Declared) -> None:
    """Check that a field which names its row is hidden from nobody.

    Raises:
        SchemaError: it has `visible_to`.
    """
    if field.visible_to is not None:
        reason = f'"{field.name}" names the row, and whoever is sent the row must know it'
        hint = "give the table visible_to"
        raise field.node.error("key-conflict", "visible_to", reason, hint, at="key")


def read_owner(node: Node, fields: tuple[Declared, ...]) -> str:
    """The field that says whose a keyed table's row is; "" for none.

    Raises:
        SchemaError: the table is not keyed, or the field holds neither an entity nor a client id.
    """
    if "owner" not in node:
        return ""
    written = node.text("owner")
    if "primary_key" not in node or "parent_table" in node:
        reason = "a component belongs to its entity's owner, and an event to nobody"
        raise node.error("key-conflict", "owner", reason, "leave it out", at="key")
    field = _field(node, (*node.path, "owner"), written, fields)
    entity = field.foreign_key == (ENTITIES, "id")
    plain = field.foreign_key is None and (field.cell.element, field.cell.shape, field.enum) == ("u64", (), None)
    if not entity and not plain:
        reason = f'"{written}" is neither a reference to entities.id nor a u64 with a client id'
        raise node.error("key-conflict", "owner", reason)
    return written


def read_writers(
    node: Node, fields: tuple[Declared, ...], kind: str, primary_key: str | None, owner: str
) -> tuple[Writer, ...]:
    """The permissions of `writers = [{ role = "player", operations = ["update"], fields = ["x", "y"] }]`.

    Raises:
        SchemaError: one is malformed, names what is not there, or could never be used.
    """
    children = node.children("writers")
    if len(children) > WRITERS_MAX:
        reason = f"{len(children)} writers are above the limit of {WRITERS_MAX}"
        raise node.error("too-many", "writers", reason, at="key")
    return tuple(_writer(child, fields, kind, primary_key, owner) for child in children)


def _writer(node: Node, fields: tuple[Declared, ...], kind: str, primary_key: str | None, owner: str) -> Writer:
    node.check_keys("a writer", _WRITER_KEYS, {})
    role = node.text("role", EVERY_ROLE)
    if role != EVERY_ROLE and not ROLE.fullmatch(role):
        raise _no_role(node, (*node.path, "role"), role, '"*" is every role')
    operations = _operations(node)
    rows = node.text("rows", "owned")
    if rows not in ("owned", "all"):
        close = did_you_mean(rows, ("owned", "all"))
        hint = f'did you mean "{close}"?' if close else "one of owned, all"
        raise node.error("unknown-value", "rows", f'"{shorten(rows)}" is not known', hint)
    if kind == "event" and operations != ("insert",):
        reason = "the rows of an event are inserted, and never changed"
        raise node.error("key-conflict", "operations", reason, 'write operations = ["insert"]')
    if rows == "owned" and kind == "event":
        raise node.error("key-conflict", "rows", "the rows of an event belong to nobody", 'write rows = "all"')
    if rows == "owned" and kind == "keyed" and not owner:
        reason = "the table does not say whose a row is"
        hint = 'give it owner = "FIELD", or write rows = "all"'
        raise node.error("key-conflict", "rows", reason, hint)
    return Writer(
        role,
        operations,
        rows=cast('Literal["owned", "all"]', rows),
        fields=_fields(node, operations, fields, primary_key),
    )


def _operations(node: Node) -> tuple[Operation, ...]:
    if "operations" not in node:
        raise node.missing("operations", 'any of insert, update, delete: operations = ["update"]')
    given = names_of(node, "operations", "operations")
    if not given:
        reason = "a writer without operations may do nothing"
        raise node.error("key-conflict", "operations", reason, "leave the writer out")
    for path, name in given:
        if name not in OPERATIONS:
            close = did_you_mean(name, OPERATIONS)
            hint = f'did you mean "{close}"?' if close else f"one of {', '.join(OPERATIONS)}"
            raise node.source.error("unknown-value", path, f'"{shorten(name)}" is not known', hint)
    named = {name for _, name in given}
    return tuple(operation for operation in OPERATIONS if operation in named)


def _fields(
    node: Node, operations: tuple[Operation, ...], fields: tuple[Declared, ...], primary_key: str | None
) -> tuple[str, ...] | None:
    """What `fields` names, those of structs by their members, in the order of the table's declaration."""
    if "fields" not in node:
        return None
    if operations == ("delete",):
        reason = "a delete writes no fields"
        raise node.error("key-conflict", "fields", reason, "leave it out", at="key")
    wanted: set[str] = set()
    for path, name in names_of(node, "fields", "names of fields"):
        if name == primary_key:
            reason = f'"{name}" names the row: an insert may always give it, and nothing changes it'
            raise node.source.error("key-conflict", path, reason, "leave it out")
        inner = [field.name for field in fields if field.name.startswith(f"{name}.")]
        wanted.update(inner or [_field(node, path, name, fields).name])
    for field in fields if "insert" in operations else ():
        given = field.name in wanted or field.name == primary_key or field.optional or field.auto_increment
        if not given and field.default is MISSING:
            reason = f'an insert must give "{field.name}", which is not among the fields'
            raise node.error("key-conflict", "fields", reason, "add it, or give it a default")
    return tuple(field.name for field in fields if field.name in wanted)


def _field(node: Node, path: Path, name: str, fields: tuple[Declared, ...]) -> Declared:
    by_name = {field.name: field for field in fields}
    field = by_name.get(name)
    if field is None:
        close = did_you_mean(name, by_name)
        hint = f'did you mean "{close}"?' if close else f"stored fields here: {', '.join(list(by_name)[:8]) or 'none'}"
        raise node.source.error("unknown-field", path, f'the table stores no field "{shorten(name)}"', hint)
    return field
