"""Every key of the schema language: what may stand where, and whether it is built.

This is the list that the loader refuses by and that `schema/README.md` is compared with, so a key cannot be accepted
and ignored, nor documented and unknown. A planned key maps to what to do until it is built.
"""

import re
from typing import Final

TOP_KEYS: Final = ("database", "tables", "structs", "enums", "interest")
TOP_PLANNED: Final[dict[str, str]] = {}

DATABASE_KEYS: Final = ("name", "version", "doc")
DATABASE_PLANNED: Final = {
    "accepts": "leave it out: a client needs the same schema as its node, or none",
}

TABLE_KEYS: Final = (
    "parent_table", "primary_key", "event", "fields", "id", "replicated", "rows_max", "rows_expected", "group",
    "spatial", "unique", "with", "owner", "visible_to", "writers", "conflict", "doc",
)  # fmt: skip
TABLE_PLANNED: Final = {
    "history": "leave it out: there is no as_of(tick) yet",
    "was": "leave it out: there are no migrations yet",
    "deprecated": "leave it out: there are no migrations yet",
    "retired": "leave it out: there are no migrations yet",
}

FIELD_KEYS: Final = (
    "name", "type", "values", "storage", "id", "default", "optional", "constraint", "minimum", "maximum",
    "foreign_key", "on_delete", "auto_increment", "quantize", "rotation", "visible_to", "doc",
)  # fmt: skip
STRUCT_KEYS: Final = ("fields", "doc")
MEMBER_KEYS: Final = (
    "name", "type", "values", "storage", "default", "optional", "constraint", "minimum", "maximum", "foreign_key",
    "on_delete", "quantize", "rotation", "visible_to", "doc",
)  # fmt: skip
# A field whose type is a struct: what else there is to say, its members say.
STRUCT_FIELD_KEYS: Final = ("name", "type", "id", "default", "doc")
ENUM_KEYS: Final = ("values", "storage", "doc")
FIELD_PLANNED: Final = {
    "interpolate": "leave it out: views show the newest version",
    "was": "leave it out: there are no migrations yet",
    "deprecated": "leave it out: there are no migrations yet",
}

# Lower case, because Python, C and TypeScript all make their own spelling of it; and an identifier, because names are
# keyword arguments: tx.update(ship, "health", hp=3).
NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
ENUM_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Of fields in canonical texts: a member of a struct.
DOTTED_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
VERSION: Final = re.compile(r"(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})")
VERSION_PART_MAX: Final = 0xFFFF

# Tables: `tx.spawn(health={...}, owner=client)` shares its keyword arguments with table names. The prefixes keep room
# for system tables to come.
RESERVED_TABLES: Final = {"owner": "tx.spawn(owner=...) means the owning client"}
RESERVED_TABLE_PREFIXES: Final = {"schema_": "metadata tables", "ecsnet_": "ecsnet's own tables"}
# Fields: the rows of a query have these attributes beside one per field.
RESERVED_FIELDS: Final = {
    "copied": "rows.copied says whether the rows were gathered",
    "present": "rows.present is the mask of an optional component",
}
