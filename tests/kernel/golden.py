"""A small fixed world whose blocks are checked in, so that every build of the kernel reads and writes the same bytes.

`python -m tests.kernel.golden` writes them anew. A change in which rows a delta names (a superset is always right)
needs no more than that; a change in what the bytes mean is a change of the wire, and wants a new block version.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ecsnet._kernel.kernel import KernelStore
from ecsnet.schema import load, loads
from ecsnet.schema.model import Schema
from ecsnet.store import Store

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "schema" / "vectors"
SCHEMA_FILE = ROOT / "schema" / "examples" / "arena.toml"


def schema() -> Schema:
    return load(SCHEMA_FILE)


def new_store(of: Schema) -> KernelStore:
    """An empty store at version 0, its baton taken."""
    kernel = KernelStore(of, entities_max=10_000)
    kernel.take_baton()
    kernel.begin()
    kernel.commit()
    kernel.publish(0, genesis=True)
    return kernel


def make() -> dict[str, Any]:
    """Two blocks, a full sync of version 1 and the delta to version 2, with the digests after each."""
    of = schema()
    kernel = new_store(of)
    transform, velocity, health = (of.table(name) for name in ("transform", "velocity", "health"))
    x, y = transform.field("x").id, transform.field("y").id
    kernel.begin()
    keys = kernel.reserve(0, 200)
    kernel.insert_many(0, keys, {0: np.arange(200) % 3})
    kernel.insert_many(transform.id, keys, {x: np.arange(200) / 4, y: np.zeros(200)})
    kernel.insert_many(velocity.id, keys[::2].copy(), {field.id: np.ones(100) for field in velocity.fields})
    kernel.insert_many(health.id, keys[50:80].copy(), {health.field("hp").id: np.full(30, 90)})
    kernel.commit()
    kernel.publish(1)
    full = kernel.acquire()

    kernel.begin()
    kernel.lend(transform.id, x, True)[10:60] += np.float32(0.5)
    kernel.settle()
    kernel.update_many(health.id, keys[55:60].copy(), {health.field("hp").id: np.arange(5)})
    kernel.despawn_many(keys[[3, 4, 5, 120]])
    kernel.delete(velocity.id, int(keys[6]))
    fresh = kernel.reserve(0, 2)
    kernel.insert_many(0, fresh, {0: np.zeros(2)})
    kernel.commit()
    kernel.publish(2)
    kernel.begin()
    again = kernel.reserve(0, 1)
    kernel.insert_many(0, again, {0: np.full(1, 9)})
    kernel.insert_many(transform.id, again, {x: np.full(1, -0.0), y: np.full(1, np.nan)})
    kernel.commit()
    kernel.publish(3)
    newest = kernel.acquire()
    kernel.release_baton()
    return {
        "fingerprint": of.fingerprint_hex,
        "blocks": [
            {"base": 0, "version": 1, "block": kernel.delta(full, 0).block.hex(), "digest": full.digest().hex()},
            {"base": 1, "version": 3, "block": kernel.delta(newest, 1).block.hex(), "digest": newest.digest().hex()},
        ],
    }


EVENTS = """[database]
name = "events"
version = "1.0.0"

[tables.hit]
event = true
fields = [{ name = "target", type = "u64", foreign_key = "entities.id", optional = true },
          { name = "damage", type = "u16" },
          { name = "at", type = "[f32; 2]" }]

[tables.word]
event = true
fields = [{ name = "loud", type = "bool" },
          { name = "what", type = "bytes[3]" }]
"""


def make_events() -> dict[str, Any]:
    """One block of event rows: two tables, in turns, with a column whose cells are equal."""
    rows: list[list[Any]] = [
        ["hit", {"target": 0, "damage": 7, "at": [0.5, -1.0]}],
        ["word", {"loud": True, "what": "616800"}],
        ["word", {"loud": True, "what": "6f6800"}],
        ["hit", {"target": 0, "damage": 65535, "at": [0.0, 2.0]}],
    ]
    blocks: list[bytes] = []
    with Store(loads(EVENTS)) as store:
        store.follow_events(lambda version, tick, made: blocks.extend(made[0]))
        with store.transaction() as tx:
            for table, cells in rows:
                tx.insert(table, {**cells, "what": bytes.fromhex(cells["what"])} if "what" in cells else cells)
        ids = {table.name: table.id for table in store.schema.tables if table.kind == "event"}
    (block,) = blocks
    return {"schema": EVENTS, "tables": ids, "rows": rows, "block": block.hex()}


STRINGS = """[database]
name = "strings"
version = "1.0.0"

[tables.name]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "text", type = "string[200]" },
          { name = "rank", type = "u8", default = 1 },
          { name = "title", type = "string[16]", default = "none" }]
"""

TEXTS = ["", "ASCII", "h\N{LATIN SMALL LETTER O WITH STROKE}her", "x" * 130, "\N{GRINNING FACE} and \0"]


def make_strings() -> dict[str, Any]:
    """Two blocks of strings: of all lengths, equal ones, none; and after some of them were changed."""
    of = loads(STRINGS)
    kernel = new_store(of)
    name = of.table("name")
    text, title = name.field("text").id, name.field("title").id
    kernel.begin()
    keys = kernel.reserve(0, 5)
    kernel.insert_many(0, keys, {0: np.zeros(5)})
    kernel.insert_many(name.id, keys, {text: TEXTS})
    kernel.commit()
    kernel.publish(1)
    full = kernel.acquire()
    kernel.begin()
    kernel.update_many(name.id, keys[1:4].copy(), {text: ["same"] * 3})
    kernel.update_many(name.id, keys[:2].copy(), {title: ["king", ""]})
    kernel.commit()
    kernel.publish(2)
    newest = kernel.acquire()
    kernel.release_baton()
    return {
        "schema": STRINGS,
        "fingerprint": of.fingerprint_hex,
        "blocks": [
            {"base": 0, "version": 1, "block": kernel.delta(full, 0).block.hex(), "digest": full.digest().hex()},
            {"base": 1, "version": 2, "block": kernel.delta(newest, 1).block.hex(), "digest": newest.digest().hex()},
        ],
    }


PACKED = """[database]
name = "packed"
version = "1.0.0"

[tables.thing]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" },
          { name = "bits", type = "i32", default = 0 },
          { name = "classes", type = "u16", default = 0 },
          { name = "runs", type = "u64", default = 0 },
          { name = "place", type = "[f32; 2]", quantize = 0.5, default = [0.0, 0.0] },
          { name = "turned", type = "[f32; 4]", rotation = true, default = [0.0, 0.0, 0.0, 1.0] },
          { name = "exact", type = "f32", default = 0.0 }]
"""
PACKED_ROWS = 40


def make_packed() -> dict[str, Any]:
    """Cells in every encoding: a full sync, a delta to the same version, and one relative to that. `cells` are what a
    reader holds in the end."""
    of = loads(PACKED)
    kernel = new_store(of)
    thing, n = of.table("thing"), PACKED_ROWS
    field = {each.name: each.id for each in thing.fields}
    row = np.arange(n)
    kernel.begin()
    keys = kernel.reserve(0, n)
    kernel.insert_many(0, keys, {0: np.zeros(n)})
    kernel.insert_many(thing.id, keys, {})
    kernel.commit()
    kernel.publish(1)
    kernel.begin()
    some = {
        field["bits"]: -1000 + row * 7 % 50,
        field["classes"]: np.where(row % 13 == 5, 60_000, row % 3),
        field["runs"]: np.where(row < 25, 2**64 - 5, 7),
        field["place"]: np.stack([row * 1.3 - 20, 100 - row * 0.4], 1).astype(np.float32),
        field["turned"]: np.stack([np.sin(row), np.zeros(n), np.cos(row), 0.1 * row], 1).astype(np.float32),
        field["exact"]: (1 / (row + 1)).astype(np.float32),
    }
    for id_, cells in some.items():
        kernel.update_many(thing.id, keys, {id_: cells})
    kernel.commit()
    kernel.publish(2)
    first = kernel.acquire()
    kernel.begin()
    kernel.update_many(thing.id, keys, {field["place"]: some[field["place"]] + np.float32(0.75)})
    kernel.update_many(thing.id, keys[:30].copy(), {field["bits"]: some[field["bits"]][:30] + row[:30] % 2})
    kernel.commit()
    kernel.publish(3)
    second = kernel.acquire()
    kernel.release_baton()
    cuts = [
        (0, first, kernel.delta(first, 0)),
        (1, first, kernel.delta(first, 1, planes=True)),
        (2, second, kernel.delta(second, 2, reference=first)),
    ]
    replica = new_store(of)
    replica.release_baton()
    for base, pin, cut in (cuts[0], cuts[2]):
        replica.apply([cut.block], base, pin.version, 0)
    held = replica.acquire()
    order = np.argsort(held.keys(thing.id))
    return {
        "schema": PACKED,
        "fingerprint": of.fingerprint_hex,
        "blocks": [
            {
                "base": base,
                "version": pin.version,
                "block": cut.block.hex(),
                "digest": pin.digest(wire=True).hex(),
            }
            for base, pin, cut in cuts
        ],
        "cells": {name: held.column(thing.id, id_)[order].tolist() for name, id_ in field.items()},
    }


def read_packed() -> dict[str, Any]:
    result: dict[str, Any] = json.loads((VECTORS / "packed.json").read_text())
    return result


def read_strings() -> dict[str, Any]:
    result: dict[str, Any] = json.loads((VECTORS / "strings.json").read_text())
    return result


def read_events() -> dict[str, Any]:
    result: dict[str, Any] = json.loads((VECTORS / "events.json").read_text())
    return result


def read() -> dict[str, Any]:
    result: dict[str, Any] = json.loads((VECTORS / "blocks.json").read_text())
    return result


if __name__ == "__main__":
    (VECTORS / "blocks.json").write_text(json.dumps(make(), indent=1) + "\n")
    (VECTORS / "events.json").write_text(json.dumps(make_events(), indent=1) + "\n")
    (VECTORS / "packed.json").write_text(json.dumps(make_packed(), indent=1) + "\n")
    (VECTORS / "strings.json").write_text(json.dumps(make_strings(), indent=1) + "\n")
