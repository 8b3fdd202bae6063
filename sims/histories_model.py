"""What a store should hold: the tables of `histories.toml` as plain Python dicts, with the rules between their rows.

The model knows nothing of how the kernel works: a deletion settles references by looking at every row, a commit is
judged by looking at every row again. It is slow and short, so that it can be read and believed.

Invariants:
- a row has all fields of `FIELDS` of its table, and no others; a component's key is its entity;
- between commits a model may break rules, as a transaction may: `broken` says which; a committed one breaks none;
- the model of a version is never changed again: a transaction works on a copy.
"""

from typing import Any, NamedTuple, Self

Row = dict[str, Any]

FIELDS: dict[str, Row] = {
    "pos": {"x": 0.0, "y": 0.0, "name": "anon"},
    "vel": {"dx": 0.0, "target": 0},
    "tag": {"label": "", "hp": 7, "node": 0},
    "node": {"id": 0, "note": "", "parent": 0, "friend": 0},
    "city": {"name": "", "pop": 0},
    "item": {"holder": 0, "slot": 0, "title": "", "home": ""},
    "hit": {"target": 0, "text": "ow", "n": 1},
}
"""Of each table: its fields with their defaults. The number of an item is its key, and no field here."""

COMPONENTS = ("pos", "vel", "tag")
KEYED = ("node", "city", "item")
REQUIRED = {("node", "id"), ("city", "name"), ("hit", "target")}
"""Fields without a default."""


class Reference(NamedTuple):
    """A foreign key: `target_field` is None where it names an entity."""

    table: str
    field: str
    target: str
    target_field: str | None
    on_delete: str

    def names_itself(self, row: int, target: int) -> bool:
        """Whether the row and its target are one thing; relations leave such a pair out."""
        own = self.target == self.table or (self.target == "entities" and self.table in COMPONENTS)
        return own and row == target


REFERENCES = (
    Reference("vel", "target", "entities", None, "set_null"),
    Reference("tag", "node", "node", "id", "cascade"),
    Reference("node", "parent", "node", "id", "cascade"),
    Reference("node", "friend", "node", "id", "set_null"),
    Reference("item", "holder", "entities", None, "cascade"),
    Reference("item", "home", "city", "name", "set_null"),
)


class Model:
    """Entities and rows by key. A new one is an empty store."""

    def __init__(self) -> None:
        self.entities: set[int] = set()
        self.rows: dict[str, dict[int, Row]] = {table: {} for table in FIELDS}

    def copy(self) -> Self:
        """The same once more; nothing is shared."""
        other = type(self)()
        other.entities = set(self.entities)
        other.rows = {table: {key: dict(row) for key, row in rows.items()} for table, rows in self.rows.items()}
        return other

    def keys(self, table: str) -> set[int]:
        """The keys of a table, which may be `entities`."""
        return set(self.entities) if table == "entities" else set(self.rows[table])

    def put(self, table: str, key: int, row: Row) -> None:
        """Insert a row; fields that it does not give get their default."""
        self.rows[table][key] = {**FIELDS[table], **row}

    def delete(self, table: str, key: int) -> None:
        """Delete a row or an entity with its components, and settle what refers to it. None there: nothing happens."""
        work = [(table, key)]
        while work:
            table, key = work.pop()
            if key not in self.keys(table):
                continue
            row = {} if table == "entities" else dict(self.rows[table][key])
            for reference in REFERENCES:
                if reference.target == table:
                    work += self._settle(reference, key, row)
            if table == "entities":
                self.entities.discard(key)
                for component in COMPONENTS:
                    self.rows[component].pop(key, None)
            else:
                del self.rows[table][key]

    def _settle(self, reference: Reference, key: int, row: Row) -> list[tuple[str, int]]:
        """Null what refers to a row that goes, or tell what goes with it."""
        field = reference.target_field
        value = key if field is None else row[field]
        if not value:
            return []
        # Two rows of one primary key, which is no error before the commit: the other one still holds the reference.
        if field is not None and any(o[field] == value for k, o in self.rows[reference.target].items() if k != key):
            return []
        follow = []
        for other, referrer in self.rows[reference.table].items():
            if referrer[reference.field] == value:
                if reference.on_delete == "cascade":
                    follow.append((reference.table, other))
                else:
                    referrer[reference.field] = type(value)()
        return follow

    def broken(self) -> str | None:
        """The first rule for which a commit must be refused; None if all hold."""
        for table, field in (("node", "id"), ("city", "name")):
            values = [row[field] for row in self.rows[table].values()]
            if len(set(values)) < len(values) or type(FIELDS[table][field])() in values:
                return f"{table}.{field} is a primary key"
        for table, field, target, target_field, _ in REFERENCES:
            if target_field is None:
                have: set[Any] = set(self.entities)
            else:
                have = {row[target_field] for row in self.rows[target].values()}
            for row in self.rows[table].values():
                if row[field] and row[field] not in have:
                    return f"{table}.{field} = {row[field]!r} names nothing"
        items = self.rows["item"].values()
        held = [(row["holder"], row["slot"]) for row in items if row["holder"]]
        if len(set(held)) < len(held):
            return "item is unique by holder and slot"
        named = [(row["slot"], row["title"]) for row in items]
        if len(set(named)) < len(named):
            return "item is unique by slot and title"
        return None
