//! Following changes, as C sees it: which tables are recorded, and the chunks that come of it (`journal.zig`).

const std = @import("std");
const compat = @import("compat.zig");
const failure = @import("failure.zig");
const journal = @import("journal.zig");
const limits = @import("limits.zig");
const Store = @import("store.zig").Store;

/// What `ecs_journal_take` says of a chunk; then `length` bytes of records at `records`.
pub const ChunkOut = extern struct { version: u64, tick: u64, length: u64, lost: u64, records: u64 };

/// Record exactly these tables from the next transaction on; none records nothing. Needs the baton, outside a
/// transaction. Records of one version beyond `bytes_max` are not kept: their chunk says so.
pub export fn ecs_journal_watch(store: *Store, ids: [*]const u16, n: u32, bytes_max: u64) i32 {
    watch(store, ids, n, bytes_max) catch |err| return failure.code(err);
    return 0;
}

fn watch(store: *Store, ids: [*]const u16, n: u32, bytes_max: u64) failure.Error!void {
    try store.needBaton();
    if (n > limits.tables_max) return error.BadArgument;
    try store.journal.watch(&store.head, ids[0..n], std.math.cast(usize, bytes_max) orelse std.math.maxInt(usize));
}

/// Everything recorded of versions that were made since the last call: the oldest chunk, or null. They are the
/// caller's: `ecs_journal_next` gives the one after, and frees this one. From any thread.
pub export fn ecs_journal_take(store: *Store, out: *ChunkOut) ?*journal.Chunk {
    return describe(store.journal.takeAll(), out);
}

/// Free a chunk, and describe the one after it, if there is one.
pub export fn ecs_journal_next(chunk: *journal.Chunk, out: *ChunkOut) ?*journal.Chunk {
    const next = chunk.next;
    chunk.destroy(compat.allocator);
    return describe(next, out);
}

fn describe(chunk: ?*journal.Chunk, out: *ChunkOut) ?*journal.Chunk {
    out.* = std.mem.zeroes(ChunkOut);
    const found = chunk orelse return null;
    out.* = .{
        .version = found.version,
        .tick = found.tick,
        .length = found.length,
        .lost = found.lost,
        .records = @intFromPtr(found.bytes().ptr),
    };
    return found;
}
