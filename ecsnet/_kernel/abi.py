"""What crosses the boundary to the kernel: structures, status numbers and signatures.

The kernel says its layouts in a manifest (`ecs_manifest`); `declare` compares it with what is declared here, so a drift
is found at start and not as a wild pointer. ctypes accepts misspelt fields and cuts integers silently: every structure
has `__slots__ = ()`, and `kernel.py` checks ranges before it fills one in.
"""

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any, Final

ABI_VERSION: Final = 1

STATUS: Final = {
    "OutOfMemory": -1,
    "Busy": -2,
    "NoBaton": -3,
    "NoTransaction": -4,
    "InTransaction": -5,
    "UnknownTable": -6,
    "UnknownField": -7,
    "StaleKey": -8,
    "NoRow": -9,
    "RowExists": -10,
    "Range": -11,
    "Enum": -12,
    "Unique": -13,
    "ForeignKey": -14,
    "Required": -15,
    "Restrict": -16,
    "ReadOnly": -17,
    "Limit": -18,
    "BadArgument": -19,
    "BadCatalogue": -20,
    "BadBlock": -21,
    "BaseAhead": -23,
    "StaleVersion": -24,
    "HistoryGone": -25,
    "ViewsHeld": -26,
    "Text": -27,
    "HeapFull": -28,
    "Reference": -29,
    "EventRow": -30,
    "Io": -31,
    "DiskFull": -32,
    "NotFound": -33,
    "Exists": -34,
    "Locked": -35,
    "Denied": -36,
    "Corrupt": -37,
    "Foreign": -38,
    "Failed": -39,
    "SchemaDiffers": -40,
    "Unreachable": -41,
    "StampAhead": -42,
}
"""Names of `failure.zig`; appended, never reused."""

REASONS: Final = (
    "none",
    "truncated",
    "version",
    "compression",
    "length",
    "table_unknown",
    "table_order",
    "field_unknown",
    "field_order",
    "form",
    "encoding",
    "names",
    "count",
    "generation",
    "row_missing",
    "entity_missing",
    "trailing",
    "encoding_not_built",
    "text",
    "flags",
    "reference",
    "packing",
)
"""What a block got wrong, by `block.Reason`."""

# Field flags of `catalogue.zig`.
UNIQUE: Final = 1
FOREIGN_KEY: Final = 2
OPTIONAL: Final = 4
AUTO: Final = 8
DEFAULT: Final = 16
MINIMUM: Final = 32
MAXIMUM: Final = 64
ROTATION: Final = 128

TYPES: Final = ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "bool", "bytes", "string")
KINDS: Final = ("entities", "component", "keyed", "event")
ON_DELETE: Final = ("cascade", "set_null", "restrict")
CONFLICTS: Final = ("authority", "lww")


class FieldIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("id", c_uint16),
        ("type", ctypes.c_uint8),
        ("on_delete", ctypes.c_uint8),
        ("flags", c_uint32),
        ("count", c_uint32),
        ("enum_count", c_uint32),
        ("minimum", c_uint64),
        ("maximum", c_uint64),
        ("enum_values", c_uint64),
        ("default", c_uint64),
        ("target_table", c_uint16),
        ("target_field", c_uint16),
        ("reserved", c_uint32),
        ("quantize", ctypes.c_double),
    )


class TableIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("id", c_uint16),
        ("kind", ctypes.c_uint8),
        ("replicated", ctypes.c_uint8),
        ("field_count", c_uint32),
        ("rows_max", c_uint32),
        ("group", c_uint16),
        ("unique_count", c_uint16),
        ("fields", c_uint64),
        ("uniques", c_uint64),
        ("conflict", c_uint32),
        ("reserved", c_uint32),
    )


class UniqueIn(Structure):
    __slots__ = ()
    _fields_ = (("field_count", c_uint32), ("reserved", c_uint32), ("fields", c_uint64))


class CatalogueIn(Structure):
    __slots__ = ()
    _fields_ = (("tables", c_uint64), ("table_count", c_uint32), ("entities_max", c_uint32))


class Info(Structure):
    __slots__ = ()
    _fields_ = (
        ("key", c_uint64),
        ("found", c_uint64),
        ("expected", c_uint64),
        ("offset", c_uint64),
        ("table", c_uint16),
        ("field", c_uint16),
        ("reason", c_uint16),
        ("reserved", c_uint16),
    )


class TableOut(Structure):
    __slots__ = ()
    _fields_ = (("rows", c_uint32), ("columns", c_uint32), ("struct_seq", c_uint64), ("keys", c_uint64))


class LentOut(Structure):
    __slots__ = ()
    _fields_ = (("address", c_uint64), ("bytes", c_uint64), ("rows", c_uint64))


class ViewOut(Structure):
    __slots__ = ()
    _fields_ = (("version", c_uint64), ("tick", c_uint64), ("cut", c_uint64), ("tables", c_uint64))


class ColumnIn(Structure):
    __slots__ = ()
    _fields_ = (("cells", c_uint64), ("stride", c_uint32), ("field", c_uint16), ("reserved", c_uint16))


class PreparedIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("store", c_uint64),
        ("records", c_uint64),
        ("ids", c_uint64),
        ("count", c_uint32),
        ("stride", c_uint32),
        ("table", c_uint16),
        ("fields", c_uint16),
        ("kind", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 3),
    )


class BlockIn(Structure):
    __slots__ = ()
    _fields_ = (("bytes", c_uint64), ("length", c_uint64))


class Cursor(Structure):
    __slots__ = ()
    _fields_ = (("table", c_uint32), ("index", c_uint32), ("done", c_uint32), ("rows", c_uint32))


class Statistics(Structure):
    __slots__ = ()
    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "version",
            "published_version",
            "transactions",
            "bytes_allocated",
            "entities",
            "rows",
            "pins",
            "deferred",
            "change_sets",
            "change_bytes",
            "retired_pages",
            "slots_used",
            "buffers",
            "pressure",
            "history_sets",
            "history_bytes",
            "oldest_base",
        )
    )


class Taken(Structure):
    __slots__ = ()
    _fields_ = (
        ("session", c_uint64),
        ("held", c_uint64),
        ("epoch", c_uint32),
        ("check", c_uint32),
        ("base", c_uint64),
        ("version", c_uint64),
        ("tick", c_uint64),
        ("entity", c_uint64),
        ("command_ack", c_uint32),
        ("digest", c_uint32),
        ("published", c_uint64),
    )


class SpatialIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("cell", ctypes.c_double),
        ("table", c_uint16),
        ("axes", c_uint16),
        ("fields", c_uint16 * 3),
        ("reserved", c_uint16 * 3),
    )


class SearchIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("kind", c_uint32),
        ("k", c_uint32),
        ("count", c_uint64),
        ("points", c_uint64),
        ("others", c_uint64),
        ("allowed", c_uint64),
        ("ends", c_uint64),
    )


class FoundOut(Structure):
    __slots__ = ()
    _fields_ = (("address", c_uint64), ("bytes", c_uint64), ("count", c_uint64))


class SpatialOut(Structure):
    __slots__ = ()
    _fields_ = tuple((name, c_uint64) for name in ("rows", "cells", "moves", "fills", "bytes"))


class RuleIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("radius", ctypes.c_double),
        ("leave", ctypes.c_double),
        ("tables", c_uint64),
        ("table_count", c_uint32),
        ("every", c_uint32),
        ("axes", c_uint16),
        ("fields", c_uint16 * 3),
        ("kind", ctypes.c_uint8),
        ("referred", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 6),
    )


class ProfileIn(Structure):
    __slots__ = ()
    _fields_ = (("tables", c_uint64), ("hidden", c_uint64), ("table_count", c_uint32), ("hidden_count", c_uint32))


class AudienceOut(Structure):
    __slots__ = ()
    _fields_ = tuple((name, c_uint64) for name in ("entities", "entries", "floor", "version", "bytes", "waiting"))


class ChunkOut(Structure):
    __slots__ = ()
    _fields_ = (
        ("version", c_uint64),
        ("tick", c_uint64),
        ("length", c_uint64),
        ("lost", c_uint64),
        ("records", c_uint64),
    )


class Merged(Structure):
    __slots__ = ()
    _fields_ = tuple((name, c_uint64) for name in ("cells", "taken", "inserted", "deleted", "tombstones", "newest"))


class StampsCursor(Structure):
    __slots__ = ()
    _fields_ = tuple((name, c_uint32) for name in ("table", "row", "grave", "done"))


class PumpOut(Structure):
    __slots__ = ()
    _fields_ = tuple((name, c_uint64) for name in ("results", "count", "keys", "key_count"))


class Result(Structure):
    __slots__ = ()
    _fields_ = (("ticket", c_uint64), ("status", c_int32), ("keys", c_uint32), ("info", Info))


class StepIn(Structure):
    __slots__ = ()
    _fields_ = (("table", c_uint16), ("field", c_uint16), ("incoming", c_uint32))


class WalkIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("steps", c_uint64),
        ("start", c_uint64),
        ("step_count", c_uint32),
        ("walk_count", c_uint32),
        ("depth", c_uint32),
        ("loops", c_uint32),
    )


class RelatedOut(Structure):
    __slots__ = ()
    _fields_ = (("address", c_uint64), ("bytes", c_uint64), ("count", c_uint64))


class TextOut(Structure):
    __slots__ = ()
    _fields_ = (("address", c_uint64), ("length", c_uint64))


class FailureOut(Structure):
    __slots__ = ()
    _fields_ = (("operation", c_uint32), ("errno", c_int32), ("path", TextOut))


class DamageOut(Structure):
    __slots__ = ()
    _fields_ = (
        ("file", TextOut),
        ("what", TextOut),
        ("offset", c_uint64),
        ("version", c_uint64),
        ("durable", c_uint64),
    )


class AncestorOut(Structure):
    __slots__ = ()
    _fields_ = (("epoch", c_uint32), ("reserved", c_uint32), ("version", c_uint64))


class DiskIn(Structure):
    __slots__ = ()
    _fields_ = (
        ("seed", ctypes.c_uint8 * 32),
        ("fingerprint", ctypes.c_uint8 * 16),
        ("now_ns", c_int64),
        ("schema", c_uint64),
        ("schema_bytes", c_uint64),
        ("segment_bytes", c_uint64),
        ("level", c_uint32),
        ("flags", c_uint32),
    )


class RecoveryOut(Structure):
    __slots__ = ()
    _fields_ = (
        ("database", ctypes.c_uint8 * 16),
        ("fingerprint", ctypes.c_uint8 * 16),
        ("version", c_uint64),
        ("tick", c_uint64),
        ("snapshot_version", c_uint64),
        ("records", c_uint64),
        ("torn_bytes", c_uint64),
        ("wal_bytes", c_uint64),
        ("epoch", c_uint32),
        ("flags", c_uint32),
        ("ancestors", c_uint64),
        ("ancestor_count", c_uint64),
        ("damages", c_uint64),
        ("damage_count", c_uint64),
    )


class SnapshotOut(Structure):
    __slots__ = ()
    _fields_ = (
        ("version", c_uint64),
        ("tick", c_uint64),
        ("time_ns", c_int64),
        ("bytes", c_uint64),
        ("done", c_uint64),
        ("total", c_uint64),
        ("digest", ctypes.c_uint8 * 16),
        ("name", TextOut),
    )


class DiskStatistics(Structure):
    __slots__ = ()
    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "written",
            "durable",
            "horizon",
            "records",
            "record_bytes",
            "written_bytes",
            "queued_bytes",
            "writes",
            "syncs",
            "segments",
            "wal_bytes",
            "since_snapshot_bytes",
            "snapshots",
            "snapshot_bytes",
        )
    )


STRUCTURES: Final[tuple[type[Structure], ...]] = (
    FieldIn,
    TableIn,
    UniqueIn,
    CatalogueIn,
    Info,
    TableOut,
    LentOut,
    ViewOut,
    ColumnIn,
    PreparedIn,
    BlockIn,
    Cursor,
    Statistics,
    Taken,
    SpatialIn,
    SearchIn,
    FoundOut,
    SpatialOut,
    RuleIn,
    ProfileIn,
    AudienceOut,
    ChunkOut,
    Merged,
    StampsCursor,
    PumpOut,
    Result,
    StepIn,
    WalkIn,
    RelatedOut,
    TextOut,
    FailureOut,
    DamageOut,
    AncestorOut,
    DiskIn,
    RecoveryOut,
    SnapshotOut,
    DiskStatistics,
)

_u64p = POINTER(c_uint64)
_u32p = POINTER(c_uint32)

# name -> (result, arguments). Pointers to arrays go as addresses (c_void_p takes an int).
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "ecs_abi_version": (c_uint32, ()),
    "ecs_manifest": (c_void_p, (_u64p,)),
    "ecs_store_create": (c_int32, (POINTER(CatalogueIn), POINTER(c_void_p))),
    "ecs_store_destroy": (c_int32, (c_void_p,)),
    "ecs_store_failure": (POINTER(Info), (c_void_p,)),
    "ecs_store_statistics": (None, (c_void_p, POINTER(Statistics))),
    "ecs_memory_free": (None, (c_void_p, c_uint64)),
    "ecs_baton_take": (c_int32, (c_void_p,)),
    "ecs_baton_give": (c_int32, (c_void_p,)),
    "ecs_tx_begin": (c_int32, (c_void_p,)),
    "ecs_tx_commit": (c_int32, (c_void_p,)),
    "ecs_tx_rollback": (c_int32, (c_void_p,)),
    "ecs_tx_mark": (c_uint64, (c_void_p,)),
    "ecs_tx_undo_to": (c_int32, (c_void_p, c_uint64)),
    "ecs_tx_operations": (c_void_p, (c_void_p, _u64p)),
    "ecs_tx_apply": (c_int32, (c_void_p, c_uint32, _u64p)),
    "ecs_prepared_run": (c_int32, (POINTER(PreparedIn),)),
    "ecs_tx_changed_since": (c_int32, (c_void_p, c_uint16, c_uint64, c_uint64)),
    "ecs_tx_discard": (c_int32, (c_void_p,)),
    "ecs_tx_reserve": (c_int32, (c_void_p, c_uint16, c_uint64, c_void_p)),
    "ecs_tx_insert_many": (c_int32, (c_void_p, c_uint16, c_uint64, c_void_p, c_void_p, c_uint32)),
    "ecs_tx_update_many": (c_int32, (c_void_p, c_uint16, c_uint64, c_void_p, c_void_p, c_uint32)),
    "ecs_tx_delete_many": (c_int32, (c_void_p, c_uint16, c_uint64, c_void_p)),
    "ecs_tx_row": (c_int64, (c_void_p, c_uint16, c_uint64)),
    "ecs_tx_cell": (c_int32, (c_void_p, c_uint16, c_uint16, c_uint64, _u64p)),
    "ecs_related": (c_int32, (c_void_p, c_int32, POINTER(WalkIn), POINTER(RelatedOut))),
    "ecs_tx_find": (c_int32, (c_void_p, c_uint16, c_uint16, c_char_p, _u64p)),
    "ecs_tx_table": (c_int32, (c_void_p, c_uint16, POINTER(TableOut))),
    "ecs_tx_column": (c_int32, (c_void_p, c_uint32, c_uint32, POINTER(LentOut))),
    "ecs_tx_lend": (c_int32, (c_void_p, c_uint32, c_uint32, POINTER(LentOut))),
    "ecs_tx_settle": (c_int32, (c_void_p,)),
    "ecs_tx_orphan": (c_int32, (c_void_p, c_uint16, c_uint16, _u64p, _u64p)),
    "ecs_publish": (c_int32, (c_void_p, c_uint64, c_uint32, _u64p, _u64p)),
    "ecs_catch_up": (c_int32, (c_void_p, _u64p)),
    "ecs_view_limits": (c_int32, (c_void_p, c_uint32, c_uint32)),
    "ecs_view_retain": (c_int32, (c_void_p, c_uint64, c_uint64)),
    "ecs_view_guard": (c_int32, (c_void_p,)),
    "ecs_view_acquire": (c_int32, (c_void_p,)),
    "ecs_view_release": (None, (c_void_p, c_uint32)),
    "ecs_view_info": (None, (c_void_p, c_uint32, POINTER(ViewOut))),
    "ecs_view_table": (c_int32, (c_void_p, c_uint32, c_uint16, POINTER(TableOut), c_void_p)),
    "ecs_view_row": (c_int64, (c_void_p, c_uint32, c_uint16, c_uint64)),
    "ecs_join": (
        c_int32,
        (c_void_p, c_int32, c_void_p, c_uint32, c_void_p, c_uint32, c_void_p, _u32p, _u32p),
    ),
    "ecs_rows": (c_int64, (c_void_p, c_int32, c_uint32, c_void_p, c_uint32, c_void_p)),
    "ecs_view_cuts": (c_int32, (c_void_p, c_uint32, c_uint32, c_void_p)),
    "ecs_view_digest": (None, (c_void_p, c_uint32, c_void_p)),
    "ecs_encoder_create": (c_void_p, ()),
    "ecs_encoder_destroy": (None, (c_void_p,)),
    "ecs_view_digest_wire": (None, (c_void_p, c_uint32, c_void_p)),
    "ecs_delta": (
        c_int32,
        (c_void_p, c_uint32, c_uint64, POINTER(Cursor), c_uint32, c_int32, c_uint32, c_void_p, _u64p, _u64p),
    ),
    "ecs_events": (c_int32, (c_void_p, POINTER(Cursor), c_uint32, c_void_p, c_uint32, c_void_p, _u64p, _u64p)),
    "ecs_apply": (c_int32, (c_void_p, c_uint64, c_uint64, c_uint64, c_void_p, c_uint32)),
    "ecs_view_touched": (c_int32, (c_void_p, c_uint32, c_uint64, c_void_p)),
    "ecs_block_weigh": (c_int32, (c_void_p, c_char_p, c_uint32, c_void_p)),
    "ecs_store_encoded": (c_uint32, (c_void_p, c_void_p, c_uint32)),
    "ecs_digest_keep": (c_int32, (c_void_p, c_uint32)),
    "ecs_view_digest_kept": (c_int32, (c_void_p, c_uint32, c_void_p)),
    "ecs_text_intern": (c_int32, (c_void_p, c_uint64, c_void_p, c_void_p, c_void_p)),
    "ecs_text_at": (c_int32, (c_void_p, c_uint64, _u64p, _u64p)),
    "ecs_text_gather": (c_int64, (c_void_p, c_uint64, c_void_p, c_void_p, c_void_p, c_uint64)),
    "ecs_text_distinct": (c_int64, (c_uint64, c_void_p, c_void_p, c_void_p)),
    "ecs_text_hash": (c_int32, (c_void_p, c_uint64, c_void_p, c_void_p)),
    "ecs_text_hash_of": (c_int32, (c_void_p, c_uint64, c_void_p, c_void_p, c_void_p)),
    "ecs_text_test": (
        c_int32,
        (c_void_p, c_uint64, c_void_p, c_uint32, c_uint32, c_void_p, c_void_p, c_void_p),
    ),
    "ecs_journal_watch": (c_int32, (c_void_p, c_void_p, c_uint32, c_uint64)),
    "ecs_journal_take": (c_void_p, (c_void_p, POINTER(ChunkOut))),
    "ecs_journal_next": (c_void_p, (c_void_p, POINTER(ChunkOut))),
    "ecs_stamps_node": (c_int32, (c_void_p, c_uint64)),
    "ecs_stamps_now": (c_int32, (c_void_p, c_uint64)),
    "ecs_stamps_clock": (c_uint64, (c_void_p,)),
    "ecs_stamps_merge": (c_int32, (c_void_p, c_char_p, c_uint64, POINTER(Merged))),
    "ecs_stamps_cut": (
        c_int32,
        (
            *(c_void_p, c_uint32, c_uint64, c_uint32, c_uint64),
            *(POINTER(StampsCursor), c_uint32, c_void_p, _u64p, _u64p),
        ),
    ),
    "ecs_stamps_digest": (c_int32, (c_void_p, c_uint32, c_void_p)),
    "ecs_stamps_column": (c_uint64, (c_void_p, c_uint32, c_uint16, c_uint16)),
    "ecs_queue_limit": (None, (c_void_p, c_uint64, c_uint64)),
    "ecs_queue_put": (c_int32, (c_void_p, c_uint64, c_uint32, c_uint32, c_char_p, c_uint64)),
    "ecs_queue_waiting": (c_uint64, (c_void_p,)),
    "ecs_queue_pump": (c_int32, (c_void_p, POINTER(PumpOut))),
    "ecs_take_delta": (c_int32, (c_void_p, c_void_p, c_uint32, POINTER(Taken))),
    "ecs_spatial_create": (c_int32, (c_void_p, POINTER(SpatialIn), POINTER(c_void_p))),
    "ecs_spatial_copy": (c_int32, (c_void_p, POINTER(c_void_p))),
    "ecs_spatial_destroy": (None, (c_void_p,)),
    "ecs_spatial_fits": (c_int32, (c_void_p, c_void_p, c_int32)),
    "ecs_spatial_follow": (c_int32, (c_void_p, c_void_p, c_int32)),
    "ecs_spatial_search": (c_int32, (c_void_p, c_void_p, c_int32, POINTER(SearchIn), POINTER(FoundOut))),
    "ecs_spatial_statistics": (None, (c_void_p, POINTER(SpatialOut))),
    "ecs_audiences_create": (
        c_int32,
        (c_void_p, c_uint64, c_uint32, c_uint64, c_uint32, c_uint64, c_uint32, POINTER(c_void_p)),
    ),
    "ecs_audience_budget": (c_int32, (c_void_p, c_uint32, c_uint32, c_uint64)),
    "ecs_audiences_destroy": (None, (c_void_p,)),
    "ecs_audience_open": (c_int32, (c_void_p, c_void_p, c_uint32, c_uint64, c_uint32)),
    "ecs_audience_close": (c_int32, (c_void_p, c_uint32)),
    "ecs_audience_set": (c_int32, (c_void_p, c_uint32, c_uint32, c_uint64, c_uint64)),
    "ecs_audiences_found": (c_int32, (c_void_p, c_uint32, c_uint64, c_uint64)),
    "ecs_audiences_update": (c_int32, (c_void_p, c_void_p, c_uint32, c_uint64, c_uint64)),
    "ecs_audience_delta": (
        c_int32,
        (
            *(c_void_p, c_void_p, c_uint32, c_uint32, c_uint64, POINTER(Cursor), c_uint32),
            *(c_int32, c_uint32, _u64p, _u64p),
        ),
    ),
    "ecs_audiences_deltas": (
        c_int32,
        (
            *(c_void_p, c_void_p, c_uint32, c_uint64, c_uint64, c_uint64, c_uint64),
            *(c_uint32, c_uint64, c_uint64, c_uint64, _u64p, _u64p),
        ),
    ),
    "ecs_audience_settle": (c_int32, (c_void_p, c_uint32, c_uint64)),
    "ecs_audience_digest": (c_int32, (c_void_p, c_void_p, c_uint32, c_uint32, c_void_p)),
    "ecs_audience_visible": (c_int64, (c_void_p, c_void_p, c_uint32, c_uint32, c_uint32, c_uint64, c_uint64)),
    "ecs_audience_statistics": (c_int32, (c_void_p, c_uint32, POINTER(AudienceOut))),
    "ecs_sight": (c_uint32, (c_void_p, c_uint32, _u64p)),
    "ecs_redo_encode": (c_int32, (c_void_p, c_void_p, _u64p, _u64p)),
    "ecs_redo_bound": (c_uint64, (c_void_p,)),
    "ecs_redo_replay": (c_int32, (c_void_p, c_uint64, c_uint64, c_char_p, c_uint64)),
    "ecs_redo_finish": (c_int32, (c_void_p,)),
    "ecs_seal": (c_int32, (c_void_p, c_uint64, c_uint32, _u64p, _u64p)),
    "ecs_release": (c_int32, (c_void_p, c_uint64, _u64p)),
    "ecs_checksum": (None, (c_char_p, c_uint64, c_void_p)),
    "ecs_checksum_path": (c_uint32, ()),
    "ecs_storage_os": (c_int32, (c_char_p, c_uint64, c_uint32, POINTER(c_void_p))),
    "ecs_storage_memory": (c_int32, (POINTER(c_void_p),)),
    "ecs_storage_destroy": (None, (c_void_p,)),
    "ecs_storage_failure": (None, (c_void_p, POINTER(FailureOut))),
    "ecs_storage_image": (c_int32, (c_void_p, c_uint64, c_uint32, POINTER(c_void_p))),
    "ecs_storage_fail": (c_int32, (c_void_p, c_uint64, c_uint32)),
    "ecs_storage_list": (c_int32, (c_void_p, POINTER(TextOut))),
    "ecs_storage_read": (c_int32, (c_void_p, c_char_p, c_uint64, POINTER(TextOut))),
    "ecs_storage_put": (c_int32, (c_void_p, c_char_p, c_uint64, c_char_p, c_uint64)),
    "ecs_disk_schema": (c_int32, (c_void_p, POINTER(TextOut))),
    "ecs_disk_open": (c_int32, (c_void_p, c_void_p, POINTER(DiskIn), POINTER(RecoveryOut), POINTER(c_void_p))),
    "ecs_disk_publish": (c_int32, (c_void_p, c_uint64, c_int64, c_uint32, _u64p, _u64p)),
    "ecs_disk_release": (c_int32, (c_void_p, _u64p)),
    "ecs_disk_flush": (c_int32, (c_void_p, c_uint32, c_int64)),
    "ecs_disk_tend": (c_int32, (c_void_p, c_int64)),
    "ecs_disk_mark": (c_uint64, (c_void_p, c_uint32)),
    "ecs_disk_statistics": (None, (c_void_p, POINTER(DiskStatistics))),
    "ecs_disk_point": (c_int32, (c_void_p, c_char_p, c_uint64, c_int64)),
    "ecs_disk_note_digest": (c_int32, (c_void_p, c_uint64, c_char_p, c_int64)),
    "ecs_disk_compact": (c_int32, (c_void_p, c_void_p, c_uint64)),
    "ecs_disk_archived": (c_int32, (c_void_p, c_uint64)),
    "ecs_disk_close": (c_int32, (c_void_p, c_int64)),
    "ecs_disk_destroy": (None, (c_void_p, c_uint32)),
    "ecs_snapshot_begin": (c_int32, (c_void_p, c_int64, POINTER(c_void_p))),
    "ecs_snapshot_step": (c_int32, (c_void_p, POINTER(SnapshotOut))),
    "ecs_snapshot_end": (None, (c_void_p,)),
    "ecs_disk_found": (
        c_int32,
        (
            *(c_void_p, c_void_p, c_char_p, c_uint32, c_void_p, c_uint64),
            *(c_char_p, c_char_p, c_uint64, c_int64, _u64p),
        ),
    ),
    "ecs_snapshot_load": (
        c_int32,
        (c_void_p, c_void_p, c_char_p, c_uint64, POINTER(SnapshotOut), POINTER(DamageOut)),
    ),
}


def expected_manifest() -> str:
    """The manifest of a kernel that fits this package, line by line as the kernel writes it."""
    lines = [f"abi={ABI_VERSION}"]
    for structure in STRUCTURES:
        fields = [f"{name}@{getattr(structure, name).offset}" for name, *_ in structure._fields_]
        lines.append(",".join([f"{structure.__name__}={ctypes.sizeof(structure)}", *fields]))
    lines += [f"status.{name}={number}" for name, number in STATUS.items()]
    lines += [f"reason.{name}={number}" for number, name in enumerate(REASONS)]
    return "\n".join(lines) + "\n"


def declare(library: ctypes.CDLL | ctypes.PyDLL) -> str | None:
    """Give every function its types, and compare layouts. Returns what is wrong, or None."""
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            return f"it has no function {name}"
        function.restype, function.argtypes = result, arguments
    length = c_uint64()
    address = library.ecs_manifest(length)
    found = ctypes.string_at(address, length.value).decode("ascii")
    for ours, theirs in zip(sorted(expected_manifest().splitlines()), sorted(found.splitlines()), strict=False):
        if ours != theirs:
            return f"expected {ours!r}, found {theirs!r}"
    if len(expected_manifest().splitlines()) != len(found.splitlines()):
        return "their manifests differ in length"
    return None
