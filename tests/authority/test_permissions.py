"""Whatever a client sends, and whatever the schema's writers are: what no permission covers does not change."""

import random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ecsnet.authority.permissions import Permissions, WriteRefused, outcome_of
from ecsnet.errors import EcsnetError
from ecsnet.ids import ClientId, SessionId
from ecsnet.schema import Schema, Table, Writer, loads
from ecsnet.schema.canonical import writer_text
from ecsnet.schema.rules import OPERATIONS
from ecsnet.store import Store, View
from ecsnet.wire.messages import Reason
from ecsnet.wire.writes import encode_write
from ecsnet.world import Client

TEXT = """
[database]
name = "asked"
version = "1.0.0"

[tables.body]
parent_table = "entities"
{body}
fields = [
  {{ name = "entity_id", type = "u64", foreign_key = "entities.id" }},
  {{ name = "x", type = "u8", default = 0, maximum = 200 }},
  {{ name = "y", type = "f32", default = 0.0 }},
]

[tables.mark]
primary_key = "id"
owner = "author"
{mark}
fields = [
  {{ name = "id", type = "u64", auto_increment = true }},
  {{ name = "author", type = "u64", default = 0 }},
  {{ name = "note", type = "u16", default = 0 }},
]

[tables.item]
primary_key = "id"
owner = "holder"
{item}
fields = [
  {{ name = "id", type = "u64", auto_increment = true }},
  {{ name = "holder", type = "u64", foreign_key = "entities.id", optional = true }},
  {{ name = "mark", type = "u64", foreign_key = "mark.id", optional = true }},
  {{ name = "charge", type = "u8", default = 0 }},
]

[tables.said]
event = true
{said}
fields = [{{ name = "line", type = "u8" }}]
"""
FIELDS = {"body": ("x", "y"), "mark": ("author", "note"), "item": ("holder", "mark", "charge"), "said": ("line",)}
OWNERS = {"mark": "author", "item": "holder"}
CLIENTS = (11, 12)

Rows = dict[int, dict[str, Any]]
World = dict[str, Rows]


@st.composite
def writer_lists(draw: st.DrawFn, table: str) -> list[Writer]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        operations: Any = ["insert"] if table == "said" else draw(st.sets(st.sampled_from(OPERATIONS), min_size=1))
        rows: Any = "all" if table == "said" else draw(st.sampled_from(["owned", "all"]))
        fields = None
        if operations != {"delete"} and table != "said" and draw(st.booleans()):
            fields = draw(st.lists(st.sampled_from(FIELDS[table]), unique=True))
        found.append(
            Writer(draw(st.sampled_from(["*", "*", "player", "admin"])), list(operations), rows=rows, fields=fields)
        )
    return found


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    writers = {table: draw(writer_lists(table)) for table in FIELDS}
    return loads(TEXT.format(**{name: f"writers = [{', '.join(map(writer_text, w))}]" for name, w in writers.items()}))


class Asked(NamedTuple):
    """One write, before it is bytes."""

    table: str
    operation: Any
    rows: list[int]
    cells: dict[str, list[int]]


def filled(schema: Schema) -> tuple[Store, list[int], dict[str, list[int]]]:
    """A store with entities of both clients and of nobody, and rows of each."""
    store = Store(schema)
    with store.transaction() as tx:
        owners = [0, *CLIENTS, *CLIENTS]
        entities = [int(tx.spawn(body={"x": n}, owner=owner)) for n, owner in enumerate(owners)]
        bare = [int(tx.spawn(owner=owner)) for owner in owners]
        marks = [tx.insert("mark", {"author": owner, "note": n}) for n, owner in enumerate(owners)]
        items = [tx.insert("item", {"holder": holder}) for holder in [*entities, 0]]
    gone = 4711 << 32 | 9
    return store, [*entities, *bare], {"body": [*entities, *bare, gone], "mark": [*marks, gone], "item": [*items, gone]}


def held(view: View) -> World:
    """Every row that there is."""
    found: World = {}
    for table in (*FIELDS, "entities"):
        columns = view[table].to_dict()
        keys = view[table].key.tolist() if table != "said" else range(len(columns["line"]))
        found[table] = {key: {name: cells[row] for name, cells in columns.items()} for row, key in enumerate(keys)}
    return found


def owner_in(world: World, table: str, row: dict[str, Any], key: int) -> int:
    """Whose a row is, by the page of the language."""
    if table == "body":
        return int(world["entities"][key]["owner"])
    if table == "mark":
        return int(row["author"])
    holder = int(row["holder"]) if table == "item" else 0
    return int(world["entities"][holder]["owner"]) if holder in world["entities"] else 0


def may(table: Table, role: str, operation: str, field: str | None, own: bool) -> bool:
    """Whether some writer allows it, by the page of the language: a row (no field), or a cell of one."""
    for writer in table.writers:
        if writer.role not in ("*", role) or operation not in writer.operations or not (own or writer.rows == "all"):
            continue
        if field is None or (field == "id" and operation == "insert"):
            return True
        if field == "id" or (writer.rows == "owned" and operation == "update" and field == table.owner):
            continue
        if writer.fields is None or field in writer.fields:
            return True
    return False


def changes(schema: Schema, before: World, after: World) -> list[tuple[str, str, str | None, World, int]]:
    """(table, operation, field, world whose row tells the owner, key) of everything that differs."""
    found: list[tuple[str, str, str | None, World, int]] = []
    for table in FIELDS:
        old, new = before[table], after[table]
        found += [(table, "delete", None, before, key) for key in old.keys() - new.keys()]
        for key in new.keys() - old.keys():
            found.append((table, "insert", None, after, key))
            for name in FIELDS[table]:
                if new[key][name] != schema[table].field(name).default:
                    found.append((table, "insert", name, after, key))
        for key in old.keys() & new.keys():
            found += [(table, "update", n, before, key) for n in FIELDS[table] if old[key][n] != new[key][n]]
    return found


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    table = draw(st.sampled_from(list(FIELDS)))
    operation = draw(st.sampled_from(OPERATIONS))
    rows = draw(st.lists(st.integers(0, 30), min_size=1, max_size=3, unique=True))
    least = 1 if operation == "update" else 0
    names = [] if operation == "delete" else draw(st.lists(st.sampled_from(FIELDS[table]), min_size=least, unique=True))
    numbers = st.lists(st.integers(0, 255), min_size=len(rows), max_size=len(rows))
    return Asked(table, operation, rows, {name: draw(numbers) for name in names})


def as_bytes(schema: Schema, write: Asked, entities: list[int], keys: dict[str, list[int]]) -> bytes:
    table = schema[write.table]
    known = keys.get(write.table, [1 << 32])
    named = np.array([known[row % len(known)] for row in write.rows], np.uint64)
    columns: dict[str, Any] = {}
    for name, numbers in write.cells.items():
        cells: list[Any] = list(numbers)
        if name == "holder":
            cells = [[0, *entities][number % (len(entities) + 1)] for number in numbers]
        elif name == "author":
            cells = [(0, *CLIENTS)[number % 3] for number in numbers]
        elif name == "mark":
            cells = [number % 4 for number in numbers]  # 0 is null, and the marks count from 1
        columns[name] = np.array(cells, table.field(name).dtype)
    has_keys = write.operation != "insert" or table.kind == "component"
    return encode_write(table, write.operation, named if has_keys else None, len(write.rows), columns)


@settings(max_examples=150, deadline=None)
@given(schemas(), st.lists(asked(), min_size=1, max_size=5), st.sampled_from(["player", "admin"]), st.randoms())
def test_what_no_permission_covers_never_changes(
    schema: Schema, writes: list[Asked], role: str, rng: random.Random
) -> None:
    """Of every cell that differs afterwards some writer says that this client might write it. A second opinion on each,
    written from the language's page."""
    client = Client(SessionId(1), ClientId(CLIENTS[0]), "ann", role)
    store, entities, keys = filled(schema)
    permissions = Permissions(schema)
    with store:
        for write in writes:
            data = as_bytes(schema, write, entities, keys)
            if rng.random() < 0.2:
                turned = bytearray(data)
                turned[rng.randrange(len(turned))] ^= 1 << rng.randrange(8)
                data = bytes(turned)
            with store.view() as view:
                before, version = held(view), view.version
            tx = store.transaction()
            try:
                permissions.apply(tx, client, schema[write.table].id, data)
                tx.commit()
                event(f"{write.operation} of {write.table} taken")
            except (WriteRefused, EcsnetError) as refused:
                if not tx.closed:
                    tx.rollback()
                outcome = refused.outcome if isinstance(refused, WriteRefused) else outcome_of(refused)
                assert outcome is not None, refused
                event(f"refused: {outcome.code.name}")
            with store.view() as view:
                after = held(view)
                if view.version != version:
                    before["said"] = {}  # rows of an event are gone with the next version, whoever makes it
            deleted = {
                (table, key) for table, operation, _, _, key in changes(schema, before, after) if operation == "delete"
            }
            for table, operation, field, world, key in changes(schema, before, after):
                own = owner_in(world, table, world[table][key], key) == CLIENTS[0]
                if (
                    operation == "update"
                    and table == "item"
                    and field == "mark"
                    and ("mark", _target(before, key)) in deleted
                ):
                    continue  # what the schema ties to a delete that was allowed
                assert may(schema[table], role, operation, field, own), (table, operation, field, own)


def _target(world: World, key: int) -> int | None:
    number = world["item"][key]["mark"]
    return next((mark for mark, row in world["mark"].items() if row["id"] == number), None)


@settings(max_examples=100, deadline=None)
@given(schemas(), asked(), st.sampled_from(["player", "admin"]))
def test_what_permissions_cover_is_never_refused_for_want_of_one(schema: Schema, write: Asked, role: str) -> None:
    """The other way round: NOT_ALLOWED is said only where a cell or a row is not allowed, or not there."""
    client = Client(SessionId(1), ClientId(CLIENTS[0]), "ann", role)
    store, entities, keys = filled(schema)
    with store:
        data = as_bytes(schema, write, entities, keys)
        with store.view() as view:
            before = held(view)
        tx = store.transaction()
        try:
            Permissions(schema).apply(tx, client, schema[write.table].id, data)
        except WriteRefused as refused:
            if refused.outcome.code != Reason.NOT_ALLOWED:
                return
        except EcsnetError:
            return
        else:
            return
        finally:
            tx.rollback()
    table = schema[write.table]
    covered = []
    known = keys.get(write.table, [])
    for place, row in enumerate(write.rows):
        own = True
        if write.operation == "insert" and write.table in OWNERS:
            given_cells = write.cells.get(OWNERS[write.table])
            cell = 0 if given_cells is None else given_cells[place]
            if write.table == "mark":
                own = (0, *CLIENTS)[cell % 3] == CLIENTS[0]
            else:
                holder = [0, *entities][cell % (len(entities) + 1)] if given_cells is not None else 0
                own = bool(holder) and before["entities"][holder]["owner"] == CLIENTS[0]
        elif known:
            key = known[row % len(known)]
            exists = key in before["entities" if write.table == "body" else write.table]
            if not exists:
                return
            cells = before[write.table].get(key, {})
            own = owner_in(before, write.table, cells, key) == CLIENTS[0]
        covered += [may(table, role, write.operation, name, own) for name in (None, *write.cells)]
    assert not all(covered), "every cell was allowed"
