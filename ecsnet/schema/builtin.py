"""The tables that every store has: the registry of entities, the sessions, and the metadata of its own schema.

Invariants: ids and names here are part of the format of a store and of the wire, appended and never changed. Only
`entities` is replicated; a session row is between a client and its node, and a replica knows its schema from the
handshake.
"""

from types import MappingProxyType
from typing import Final

from ecsnet.limits import ENTITIES_MAX_DEFAULT, NAME_BYTES_MAX, ROLE_BYTES_MAX
from ecsnet.schema.model import ENTITIES, Field, ForeignKey, Table
from ecsnet.schema.types import SCALARS

ROLE_BYTES: Final = ROLE_BYTES_MAX + 1
"""Width of a role in the sessions' rows; the last byte is always 0."""

TEXT_BYTES: Final = NAME_BYTES_MAX + 1
"""Width of names in the metadata tables; the last byte is always 0, so C may read them in place."""

TABLE_KINDS: Final = MappingProxyType({"entities": 0, "component": 1, "keyed": 2, "event": 3})
FIELD_TYPES: Final = MappingProxyType({name: number for number, name in enumerate(SCALARS)})
RULES: Final = MappingProxyType(
    {
        "unique": 0, "minimum": 1, "maximum": 2, "enum": 3, "foreign_key": 4, "default": 5, "auto_increment": 6,
        "primary_key": 7, "key": 8, "generation": 9, "unique_together": 10, "spatial": 11, "group": 12,
        "quantize": 13, "rotation": 14, "visible_to": 15, "writer": 16, "conflict": 17, "with": 18, "owner": 19,
        "interest": 20,
    }
)  # fmt: skip
MIGRATION_KINDS: Final = MappingProxyType({"created": 0})

ENTITIES_TABLE: Final = Table(
    id=0,
    name=ENTITIES,
    kind="entities",
    fields=(Field(0, "owner", "u64", default=0, doc="client id of the owner; 0 is the authority"),),
    virtual=MappingProxyType({"id": "key", "version": "generation"}),
    rows_max=ENTITIES_MAX_DEFAULT,
    doc="the registry of every living entity",
)


def _text(name: str, doc: str = "") -> Field:
    return Field(0, name, "bytes", TEXT_BYTES, (TEXT_BYTES,), doc=doc)


def _system(number: int, name: str, primary_key: str, doc: str, *fields: Field, later: tuple[Field, ...] = ()) -> Table:
    """A system table; its fields get their ids by sorted name, as in any table. Those that came `later` follow, so that
    the others keep the ids under which data directories have them."""
    ordered = [*sorted(fields, key=lambda field: field.name), *later]
    numbered = tuple(
        Field(
            id=index, name=f.name, type=f.type, count=f.count, shape=f.shape, default=f.default, unique=f.unique,
            optional=f.optional, foreign_key=f.foreign_key, enum=f.enum, doc=f.doc,
        )
        for index, f in enumerate(ordered)
    )  # fmt: skip
    return Table(
        id=number, name=name, kind="keyed", fields=numbered, primary_key=primary_key, replicated=False, system=True,
        doc=doc,
    )  # fmt: skip


SYSTEM_TABLES: Final = (
    _system(
        1, "sessions", "session", "one row per client's conversation; survives a restart of the node",
        Field(0, "session", "u64", unique=True, doc="random, never 0"),
        Field(0, "client_id", "u64", doc="the account behind it"),
        Field(0, "entity", "u64", default=0, optional=True, foreign_key=ForeignKey(ENTITIES, "id", "set_null"),
              doc="the client's own entity; 0 is none"),
        Field(0, "last_command", "u32", default=0, doc="sequence of the newest command decided"),
        Field(0, "last_status", "u8", default=0, doc="what was decided"),
        Field(0, "statuses", "bytes", 32, (32,), default=bytes(32),
              doc="what was decided about the newest commands, two bits each, the newest lowest"),
        Field(0, "key_hash", "bytes", 16, (16,), default=bytes(16), doc="of what resumes it; zeros: nothing does"),
        _text("name", "what the client calls itself"),
        Field(0, "expires_tick", "u64", default=0, doc="tick after which an absent client's session ends; 0 is never"),
        later=(Field(0, "role", "bytes", ROLE_BYTES, (ROLE_BYTES,), default=bytes(ROLE_BYTES),
                     doc="what the account may do; zeros: a player"),),
    ),
    _system(
        2, "schema_tables", "table_id", "one row per table of this schema",
        Field(0, "table_id", "u16", unique=True),
        _text("name"),
        Field(0, "kind", "u8", enum=TABLE_KINDS),
        Field(0, "replicated", "bool"),
        Field(0, "system", "bool"),
        Field(0, "field_count", "u16", doc="stored fields"),
        Field(0, "row_bytes", "u32", doc="bytes of one row's stored fields"),
        Field(0, "rows_max", "u32", doc="0: no bound of its own"),
        Field(0, "rows_expected", "u32", doc="cardinality hint; 0: unknown"),
    ),
    _system(
        3, "schema_fields", "id", "one row per field, virtual ones included",
        Field(0, "id", "u32", unique=True, doc="table_id << 16 | field_id"),
        Field(0, "table_id", "u16"),
        Field(0, "field_id", "u16", doc="from 0xfff0: a virtual field"),
        _text("name"),
        Field(0, "type", "u8", enum=FIELD_TYPES, doc="of one element"),
        Field(0, "count", "u32", doc="elements of a cell; of a string its most bytes"),
        Field(0, "optional", "bool"),
        Field(0, "virtual", "bool", doc="names the row; not stored"),
    ),
    _system(
        4, "schema_constraints", "id", "one row per rule of a field; an enum has one per member",
        Field(0, "id", "u32", unique=True, doc="counts from 1"),
        Field(0, "table_id", "u16"),
        Field(0, "field_id", "u16"),
        Field(0, "rule", "u8", enum=RULES),
        _text("name", "of an enum's member or a group; what a delete does; which unique_together"),
        _text("value", "as the schema writes it, cut to 63 bytes"),
    ),
    _system(
        5, "schema_migrations", "id", "one row per schema that this store has had",
        Field(0, "id", "u32", unique=True, doc="counts from 1"),
        Field(0, "kind", "u8", enum=MIGRATION_KINDS),
        _text("name", "of the database"),
        _text("version", "of the schema"),
        Field(0, "fingerprint", "bytes", 16, (16,)),
    ),
)  # fmt: skip

LWW_TABLES: Final = (
    _system(
        14, "lww_clocks", "node", "what of each other node's writes is here, of tables that several nodes write",
        Field(0, "node", "u64", unique=True, doc="the other node"),
        Field(0, "epoch", "u32", doc="the history that its counter belongs to"),
        Field(0, "counter", "u64", doc="its version up to which everything is here"),
    ),
    _system(
        15, "lww_tombstones", "row", "rows that were deleted from tables that several nodes write",
        Field(0, "row", "bytes", 35, (35,), unique=True,
              doc="u16 table id, u8 length, that many bytes of the primary key"),
        Field(0, "hlc", "u64", doc="when: unix ms * 65536 + a count"),
        Field(0, "node", "u64", doc="who deleted it"),
    ),
)  # fmt: skip
"""Of a schema that has a table with `conflict = "lww"`; other schemas do not have them."""

BUILTIN_NAMES: Final = frozenset({ENTITIES, *(table.name for table in (*SYSTEM_TABLES, *LWW_TABLES))})
