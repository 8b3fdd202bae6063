"""One small world for the tests of the store: three components, one of every type, and a table with keys of its own."""

from collections.abc import Iterator

import pytest

from ecsnet.schema import Schema, loads
from ecsnet.store import Store

ARENA = """
[database]
name = "arena"
version = "1.0.0"

[tables.transform]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "y", type = "f32", default = 0.0 }]

[tables.velocity]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "y", type = "f32", default = 0.0 }]

[tables.health]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "u16", default = 100, maximum = 100 }]

[tables.target]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "whom", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]

[tables.everything]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "a_u8", type = "u8", default = 0 },
          { name = "a_u64", type = "u64", default = 0 },
          { name = "an_i8", type = "i8", default = 0 },
          { name = "an_i64", type = "i64", default = 0 },
          { name = "an_f64", type = "f64", default = 0.0 },
          { name = "a_bool", type = "bool", default = false },
          { name = "an_array", type = "[f32; 3]", default = [0.0, 0.0, 0.0] },
          { name = "some_bytes", type = "bytes[4]", default = "" },
          { name = "an_enum", type = "enum", values = { RED = 1, GREEN = 2 }, default = "RED" }]

[tables.item]
primary_key = "id"
fields = [{ name = "id", type = "u64", constraint = "unique", auto_increment = true },
          { name = "kind", type = "enum", values = { SWORD = 1, POTION = 2 } },
          { name = "holder", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]
"""


@pytest.fixture(scope="session")
def schema() -> Schema:
    return loads(ARENA)


@pytest.fixture
def store(schema: Schema) -> Iterator[Store]:
    with Store(schema) as store:
        yield store
