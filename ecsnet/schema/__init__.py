"""The schema: TOML in, a frozen typed model out, the same ids and the same fingerprint on every node.

    schema = load("arena.toml")
    schema["health"].id, schema["health.hp"].maximum, schema.fingerprint_hex

The language is described in `schema/README.md`. This package reads files and nothing else: no store, no network.
"""

from ecsnet.errors import SchemaError
from ecsnet.schema.model import (
    ENTITIES,
    MISSING,
    VIRTUAL_GENERATION_ID,
    VIRTUAL_KEY_ID,
    Field,
    ForeignKey,
    Missing,
    OnDelete,
    Schema,
    Spatial,
    Table,
    TableKind,
    Value,
    VirtualKind,
)
from ecsnet.schema.rules import InterestRule, Writer
from ecsnet.schema.toml import load, loads
from ecsnet.schema.types import SCALARS, Scalar

__all__ = [
    "ENTITIES",
    "MISSING",
    "SCALARS",
    "VIRTUAL_GENERATION_ID",
    "VIRTUAL_KEY_ID",
    "Field",
    "ForeignKey",
    "InterestRule",
    "Missing",
    "OnDelete",
    "Scalar",
    "Schema",
    "SchemaError",
    "Spatial",
    "Table",
    "TableKind",
    "Value",
    "VirtualKind",
    "Writer",
    "load",
    "loads",
]
