//! Tables of several writers, as C sees them; see `stamps.zig` and `stamps_cut.zig`.

const std = @import("std");
const abi = @import("abi.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const stamps = @import("stamps.zig");
const stamps_cut = @import("stamps_cut.zig");
const Store = @import("store.zig").Store;

/// Write as `node` from the next transaction on. Looks at every stamp of the store once. Needs the baton, outside a
/// transaction.
pub export fn ecs_stamps_node(store: *Store, node: u64) i32 {
    store.needBaton() catch |err| return failure.code(err);
    if (store.head.in_transaction) return failure.code(error.InTransaction);
    stamps.become(&store.head, node);
    return 0;
}

/// The time is `unix_ms`. Told an earlier one, the clock goes on counting from where it is. Needs the baton.
pub export fn ecs_stamps_now(store: *Store, unix_ms: u64) i32 {
    store.needBaton() catch |err| return failure.code(err);
    if (unix_ms > stamps.ms_max) return failure.code(error.BadArgument);
    store.head.clock.now_ms = unix_ms;
    return 0;
}

/// The newest time that was given or seen.
pub export fn ecs_stamps_clock(store: *Store) u64 {
    return store.head.clock.last;
}

/// Take in what another node told. Needs the baton and an open transaction that has nothing else.
pub export fn ecs_stamps_merge(store: *Store, bytes: [*]const u8, length: u64, out: *stamps.Merged) i32 {
    store.head.info = .{};
    out.* = merge(store, bytes, length) catch |err| return failure.code(err);
    return 0;
}

fn merge(store: *Store, bytes: [*]const u8, length: u64) failure.Error!stamps.Merged {
    try store.needBaton();
    if (length > limits.block_bytes_max) return error.BadArgument;
    defer _ = store.scratch.reset(.{ .retain_with_limit = limits.scratch_bytes_kept });
    return stamps.merge(&store.head, store.scratch.allocator(), bytes[0..@intCast(length)]);
}

/// What was written in `(base, version]` of a slot, into the encoder's memory, which is valid until its next call; no bytes
/// where that is nothing. `whose` is a `stamps_cut.Whose`. From any thread that holds a pin on the slot.
pub export fn ecs_stamps_cut(
    store: *Store,
    slot: u32,
    base: u64,
    whose: u32,
    other: u64,
    cursor: *stamps_cut.Cursor,
    budget: u32,
    encoder: *delta.Encoder,
    bytes: *u64,
    length: *u64,
) i32 {
    const found = abi.slotAt(store, slot) catch |err| return failure.code(err);
    if (whose > @intFromEnum(stamps_cut.Whose.all)) return failure.code(error.BadArgument);
    encoder.scratch.reset();
    var cutter: stamps_cut.Cutter = .{
        .head = &store.head,
        .slot = found,
        .base = base,
        .whose = @enumFromInt(whose),
        .other = other,
        .arena = encoder.scratch.allocator(),
        .out = &encoder.out,
        .w = .{ .gpa = encoder.gpa, .out = &encoder.out },
    };
    cutter.cut(cursor, budget) catch |err| return failure.code(err);
    bytes.* = @intFromPtr(encoder.out.items.ptr);
    length.* = encoder.out.items.len;
    return 0;
}

/// The sum that nodes compare, as two u64.
pub export fn ecs_stamps_digest(store: *Store, slot: u32, out: *[2]u64) i32 {
    const found = abi.slotAt(store, slot) catch |err| return failure.code(err);
    out.* = stamps_cut.digest(&store.head, found);
    return 0;
}

/// The address of a field's stamps in a version, 16 bytes each by row: u64 clock, u64 node. 0 where it has none.
pub export fn ecs_stamps_column(store: *Store, slot: u32, table: u16, field: u16) u64 {
    const found = abi.slotAt(store, slot) catch return 0;
    const number = store.head.catalogue.tableIndex(table) orelse return 0;
    const spec = store.head.tables[number].spec;
    if (spec.lww_key == null or field >= catalogue.stamp_ids) return 0;
    const f = spec.fieldIndex(field) orelse return 0;
    return @intFromPtr(found.tables[number].columns[spec.shown + f].data.ptr);
}
