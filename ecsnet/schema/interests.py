"""`[[interest]]`: the rules by which a client is sent a part of the world, checked when every table has been read.

The order of rules is kept as it was written: it means nothing for what a client is sent, and a rule is called by its
place.
"""

import math
from typing import Final, get_args

from ecsnet.errors import did_you_mean
from ecsnet.limits import INTEREST_RULES_MAX
from ecsnet.schema.model import ENTITIES
from ecsnet.schema.permissions import names_of, read_roles
from ecsnet.schema.positions import Path
from ecsnet.schema.rules import LEAVE_FACTOR, InterestKind, InterestRule, See
from ecsnet.schema.source import Node, shorten
from ecsnet.schema.tables import Draft

_KEYS: Final[dict[InterestKind, tuple[str, ...]]] = {
    "always": ("tables",),
    "owned": (),
    "near": ("table", "radius", "leave_radius", "every"),
    "related": ("field", "see"),
    "query": ("table", "where", "every"),
}
_EVERY_MAX: Final = 65535
_WHERE_BYTES_MAX: Final = 4096
_LENGTH_MAX: Final = 2.0**100


def read_interest(root: Node, tables: dict[str, Draft]) -> tuple[InterestRule, ...]:
    """The rules of `[[interest]]`, in their order.

    Raises:
        SchemaError: one has a key that its kind does not, lacks one, or names what is not there.
    """
    children = root.children("interest")
    if len(children) > INTEREST_RULES_MAX:
        reason = f"{len(children)} rules are above the limit of {INTEREST_RULES_MAX}"
        raise root.error("too-many", "interest", reason, at="key")
    return tuple(_rule(child, tables) for child in children)


def _rule(node: Node, tables: dict[str, Draft]) -> InterestRule:
    everything = ("kind", *dict.fromkeys(key for keys in _KEYS.values() for key in keys), "roles")
    node.check_keys("a rule of interest", everything, {})
    written = node.text("kind")
    if written not in _KEYS:
        close = did_you_mean(written, _KEYS)
        hint = f'did you mean "{close}"?' if close else f"one of {', '.join(_KEYS)}"
        raise node.error("unknown-value", "kind", f'"{shorten(written)}" is not known', hint)
    kind = written
    for key in node.data:
        if key not in ("kind", "roles", *_KEYS[kind]):
            owners = " and ".join(f'"{other}"' for other, keys in _KEYS.items() if key in keys)
            raise node.error("key-conflict", key, f'"{key}" belongs to a rule of kind {owners}, not "{kind}"', at="key")
    radius = _length(node, "radius") if kind == "near" else 0.0
    leave = radius * LEAVE_FACTOR
    if "leave_radius" in node:
        leave = _length(node, "leave_radius")
        if leave < radius:
            reason = f"leave_radius {leave!r} is below the radius of {radius!r}: what enters would leave at once"
            raise node.error("empty-range", "leave_radius", reason)
    return InterestRule(
        kind,
        tables=_tables(node, tables) if kind == "always" else (),
        table=_table(node, tables, kind) if kind in ("near", "query") else "",
        radius=radius,
        leave_radius=leave,
        every=node.integer("every", 1, _EVERY_MAX, 1),
        field=_reference(node, tables) if kind == "related" else "",
        see=_see(node),
        where=_where(node) if kind == "query" else "",
        roles=read_roles(node, "roles"),
    )


def _length(node: Node, key: str) -> float:
    if key not in node:
        raise node.missing(key, f"a distance in the units of the place: {key} = 60.0")
    raw = node.data[key]
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise node.wrong_type(key, "a number", raw)
    if not (math.isfinite(raw) and 0 < raw <= _LENGTH_MAX):
        raise node.error("out-of-range", key, f"{shorten(str(raw))} is no distance")
    return float(raw)


def _tables(node: Node, tables: dict[str, Draft]) -> tuple[str, ...]:
    if "tables" not in node:
        raise node.missing("tables", 'the tables that are sent whole: tables = ["match"]')
    found = []
    for path, name in names_of(node, "tables", "names of tables"):
        _replicated(node, path, name, tables)
        found.append(name)
    if not found:
        raise node.error("key-conflict", "tables", "no table: the rule would find nothing", "leave the rule out")
    return tuple(sorted(found))


def _table(node: Node, tables: dict[str, Draft], kind: InterestKind) -> str:
    name = node.text("table")
    draft = _replicated(node, (*node.path, "table"), name, tables)
    if kind == "near" and (draft is None or draft.kind != "component" or draft.spatial is None):
        places = [other.name for other in tables.values() if other.kind == "component" and other.spatial is not None]
        hint = f"components with a place: {', '.join(places[:8])}" if places else 'give it spatial = ["x", "y"]'
        reason = f'"{shorten(name)}" is no component with a place'
        raise node.error("key-conflict", "table", reason, hint)
    if draft is not None and draft.kind == "event":
        reason = f'"{name}" is an event: its rows are gone before they could be found again'
        raise node.error("key-conflict", "table", reason)
    return name


def _replicated(node: Node, path: Path, name: str, tables: dict[str, Draft]) -> Draft | None:
    """The table of that name, which clients are sent; None for `entities`."""
    if name == ENTITIES:
        return None
    draft = tables.get(name)
    if draft is None:
        close = did_you_mean(name, (*tables, ENTITIES))
        hint = f'did you mean "{close}"?' if close else f"tables here: {', '.join((*tables, ENTITIES))}"
        raise node.source.error("unknown-table", path, f'there is no table "{shorten(name)}"', hint)
    if not draft.node.flag("replicated", True):
        reason = f'"{name}" is not replicated: no client is sent a row of it'
        raise node.source.error("key-conflict", path, reason)
    return draft


def _reference(node: Node, tables: dict[str, Draft]) -> str:
    written = node.text("field")
    table, dot, name = written.partition(".")
    path = (*node.path, "field")
    if not dot:
        reason = f'"{shorten(written)}" does not name a field'
        raise node.source.error("bad-reference", path, reason, 'write "table.field", e.g. "item.holder"')
    draft = _replicated(node, path, table, tables)
    field = None if draft is None else draft.field(name)
    if draft is None or field is None:
        known = [] if draft is None else [other.name for other in draft.fields if other.foreign_key is not None]
        close = did_you_mean(name, known)
        hint = f'did you mean "{table}.{close}"?' if close else f"references here: {', '.join(known[:8]) or 'none'}"
        raise node.source.error("unknown-field", path, f'"{table}" stores no field "{shorten(name)}"', hint)
    if field.foreign_key is None:
        raise node.source.error("bad-reference", path, f'"{shorten(written)}" is no reference', "name a foreign key")
    return written


def _see(node: Node) -> See:
    written = node.text("see", "referring")
    choices: tuple[See, ...] = get_args(See)
    for choice in choices:
        if written == choice:
            return choice
    close = did_you_mean(written, choices)
    hint = f'did you mean "{close}"?' if close else f"one of {', '.join(choices)}"
    raise node.error("unknown-value", "see", f'"{shorten(written)}" is not known', hint)


def _where(node: Node) -> str:
    written = node.text("where")
    if not written.strip():
        hint = 'a condition in the language of queries: where = "health.hp < 20"'
        raise node.error("out-of-range", "where", "a condition of no words", hint)
    if len(written.encode()) > _WHERE_BYTES_MAX:
        raise node.error("too-many", "where", f"a condition of more than {_WHERE_BYTES_MAX} bytes")
    return written
