//! Every bound of the kernel, each with the reason for its number. Python's `ecsnet/limits.py` holds
//! the bounds of connections; a number that both sides need is in the manifest of `abi.zig`.

const std = @import("std");
const assert = std.debug.assert;

/// Entities a sparse index page covers. The bitmap of a page is 128 bytes, so an entity without the
/// component costs one bit, and a full page's rows (4 KiB) are what one copy-on-write costs.
pub const page_entities = 1024;

/// Published versions that may be pinned or current at once, at most and by default. A held view costs one slot; when all
/// are held, publication is deferred. 64 is far above what a game holds (one a frame, one a report).
pub const slots_max = 64;

/// Buffers of one column by default: current, being written, and those that held views keep. Beyond it
/// publication is deferred rather than memory grown without end.
pub const buffers_max = 24;

/// Retired buffers kept for reuse per column; more are freed. Two are what a steady tick alternates.
pub const buffers_spare = 2;

/// Change sets kept for deltas: four seconds at 60 Hz. A base older than that gets a full sync.
pub const ring_cuts_max = 256;

/// ... and at most this many bytes of them, whichever is reached first.
pub const ring_bytes_max = 8 << 20;

/// Index and generation are 32 bits each; an index bounds memory (a place is 4 bytes, a page
/// pointer 8 per 1024), so a hostile frame that names index 2^32-1 must not allocate 16 GiB.
pub const entities_max = 1 << 24;

/// Rows of one table can never be more than entities or keys there are.
pub const rows_max = entities_max;

/// Tables and fields are u16 on the wire; these keep a catalogue small enough to copy per slot.
pub const tables_max = 1024;
pub const fields_max = 256;

/// Cell width in bytes: `[f64; 512]` or `bytes[4096]`. A delta carries cells whole.
pub const cell_bytes_max = 4096;

/// Bytes of UTF-8 in one text, for the same reason; a text lies in one chunk of the heap.
pub const string_bytes_max = 4096;

/// Values an enum may name: they are searched per changed cell.
pub const enum_values_max = 256;

/// The operation buffer shared with a foreign caller: one spawn with every field fits.
pub const operations_bytes = 256 << 10;

/// Memory that applying keeps for the next time: what a delta of some ten thousand rows needs. A full sync's goes back.
pub const scratch_bytes_kept = 256 << 10;

/// How far in the future another node may say that it wrote, in ms: clocks that are set by NTP differ by far less, and a
/// stamp that is believed wins over everything that is written until then.
pub const stamp_ahead_ms_max = 60_000;

/// Longest block a replica takes in one piece; longer ones travel as chunks (256 KiB each).
pub const block_bytes_max = 64 << 20;

comptime {
    assert(page_entities % 64 == 0);
    assert(entities_max % page_entities == 0);
    assert(slots_max == 64); // one bit each in `Views.taken`
    assert(buffers_spare >= 2 and buffers_spare < buffers_max);
    assert(fields_max <= 0xfff0); // field ids from 0xfff0 are kept for virtual columns
    assert(cell_bytes_max <= operations_bytes / 4);
    assert(string_bytes_max == cell_bytes_max); // a catalogue bounds both by `count`
}
