//! The boundary: everything a foreign caller can do. Integers, addresses and lengths, opaque
//! handles, one status: 0 or above is success, below zero is a `failure.code`.
//!
//! Addresses in structures are u64, so that a layout is the same on every target; `ecs_manifest`
//! says sizes and offsets in text, and callers refuse to start on a mismatch.
//!
//! Who may call what: `ecs_view_acquire` and `ecs_view_release` from any thread; calls on a slot from
//! any thread that holds a pin on it; everything named `tx`, `publish` and `lend` only by whoever
//! took the baton. The kernel trusts pointers and lengths, and checks every number in them.

const std = @import("std");
const apply = @import("apply.zig");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const compat = @import("compat.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const failure = @import("failure.zig");
const head_file = @import("head.zig");
const join = @import("join.zig");
const lend = @import("lend.zig");
const limits = @import("limits.zig");
const operations = @import("operations.zig");
const Store = @import("store.zig").Store;

pub const abi_version = 1;

/// Release builds say a bug in one line; debug builds keep the standard traces.
pub const panic = if (@import("builtin").mode == .Debug)
    std.debug.FullPanic(std.debug.defaultPanic)
else
    std.debug.FullPanic(compat.smallPanic);

comptime {
    _ = @import("abi_frame.zig");
}

fn status(result: failure.Error!void) i32 {
    result catch |err| return failure.code(err);
    return 0;
}

fn at(comptime T: type, address: u64) [*]T {
    return @ptrFromInt(@as(usize, @intCast(address)));
}

// Structures that cross the boundary.

pub const TableOut = extern struct {
    rows: u32,
    columns: u32,
    struct_seq: u64,
    /// Address of `rows` u64 keys.
    keys: u64,
};

pub const ViewOut = extern struct { version: u64, tick: u64, cut: u64, tables: u64 };

pub const ColumnIn = extern struct {
    /// Address of the cells.
    cells: u64,
    /// Bytes from one cell to the next; 0 for one cell for all rows.
    stride: u32,
    field: u16,
    reserved: u16 = 0,
};

pub const BlockIn = extern struct { bytes: u64, length: u64 };

pub const Statistics = extern struct {
    version: u64,
    published_version: u64,
    transactions: u64,
    bytes_allocated: u64,
    entities: u64,
    rows: u64,
    pins: u64,
    deferred: u64,
    change_sets: u64,
    change_bytes: u64,
    retired_pages: u64,
    slots_used: u64,
};

// Life.

export fn ecs_abi_version() u32 {
    return abi_version;
}

export fn ecs_manifest(length: *u64) [*]const u8 {
    length.* = manifest.len;
    return manifest.ptr;
}

export fn ecs_store_create(in: *const catalogue.CatalogueIn, out: *?*Store) i32 {
    out.* = Store.create(compat.allocator, in) catch |err| {
        out.* = null;
        return failure.code(err);
    };
    return 0;
}

export fn ecs_store_destroy(store: *Store) i32 {
    return status(store.destroy());
}

export fn ecs_store_failure(store: *Store) *failure.Info {
    return &store.head.info;
}

export fn ecs_store_statistics(store: *Store, out: *Statistics) void {
    var rows: u64 = 0;
    for (store.head.tables) |*table| rows += table.rows;
    var slots: u64 = 0;
    for (&store.views.slots) |*slot| slots += @intFromBool(slot.state != .free);
    out.* = .{
        .version = store.version,
        .published_version = store.publishedVersion(),
        .transactions = store.transactions,
        .bytes_allocated = store.counting.bytes.load(.monotonic),
        .entities = store.head.spaces[0].alive_count,
        .rows = rows,
        .pins = store.views.pins(),
        .deferred = store.views.deferred,
        .change_sets = store.head.open - store.views.oldest_cut,
        .change_bytes = store.views.ring_bytes,
        .retired_pages = store.head.retired.items.len,
        .slots_used = slots,
    };
}

/// Memory for callers without an allocator of their own (wasm).
export fn ecs_memory_take(bytes: u64) ?[*]u8 {
    const memory = compat.allocator.alignedAlloc(u8, .@"64", @intCast(bytes)) catch return null;
    return memory.ptr;
}

export fn ecs_memory_free(memory: [*]align(64) u8, bytes: u64) void {
    compat.allocator.free(memory[0..@intCast(bytes)]);
}

// Writing.

export fn ecs_baton_take(store: *Store) i32 {
    return status(store.takeBaton());
}

export fn ecs_baton_give(store: *Store) void {
    store.giveBaton();
}

export fn ecs_tx_begin(store: *Store) i32 {
    return status(store.begin());
}

export fn ecs_tx_commit(store: *Store) i32 {
    return status(store.commit());
}

export fn ecs_tx_rollback(store: *Store) i32 {
    return status(store.rollback());
}

/// A point in the open transaction to go back to.
export fn ecs_tx_mark(store: *Store) u64 {
    return store.head.mark();
}

export fn ecs_tx_undo_to(store: *Store, mark: u64) i32 {
    if (!store.head.in_transaction) return failure.code(error.NoTransaction);
    if (mark > store.head.mark()) return failure.code(error.BadArgument);
    store.head.undoTo(@intCast(mark));
    return 0;
}

export fn ecs_tx_operations(store: *Store, bytes: *u64) [*]u8 {
    bytes.* = store.operations.len;
    return store.operations.ptr;
}

/// Run the operations in the buffer, all or none. `key` receives the newest key that a spawn or an
/// insertion handed out.
export fn ecs_tx_apply(store: *Store, bytes: u32, key: *u64) i32 {
    if (!store.head.in_transaction) return failure.code(error.NoTransaction);
    if (bytes > store.operations.len) return failure.code(error.BadArgument);
    key.* = 0;
    return status(operations.run(&store.head, store.operations[0..bytes], key));
}

export fn ecs_tx_reserve(store: *Store, table: u16, n: u64, keys: [*]u64) i32 {
    return status(reserve(store, table, n, keys));
}

fn reserve(store: *Store, table: u16, n: u64, keys: [*]u64) failure.Error!void {
    try store.needTransaction();
    const number = try store.head.tableIndex(table);
    if (n > limits.entities_max) return error.Limit;
    try store.head.reserve(number, @intCast(n), keys[0..@intCast(n)]);
}

export fn ecs_tx_insert_many(store: *Store, table: u16, n: u64, keys: [*]const u64, columns: [*]const ColumnIn, column_count: u32) i32 {
    return status(insertMany(store, table, n, keys, columns[0..column_count]));
}

fn insertMany(store: *Store, table: u16, n: u64, keys: [*]const u64, columns: []const ColumnIn) failure.Error!void {
    try store.needTransaction();
    const head = &store.head;
    const number = try head.tableIndex(table);
    const spec = head.tables[number].spec;
    var cells: [limits.fields_max]?head_file.Strided = @splat(null);
    for (columns) |column| cells[try head.fieldIndex(number, column.field)] = strided(column);
    try head.insertMany(number, keys[0..@intCast(n)], cells[0..spec.fields.len]);
}

fn strided(column: ColumnIn) head_file.Strided {
    return .{ .base = at(u8, column.cells), .stride = column.stride };
}

export fn ecs_tx_update_many(store: *Store, table: u16, n: u64, keys: [*]const u64, columns: [*]const ColumnIn, column_count: u32) i32 {
    return status(operations.updateMany(&store.head, table, keys[0..@intCast(n)], columns[0..column_count]));
}

export fn ecs_tx_delete_many(store: *Store, table: u16, n: u64, keys: [*]const u64) i32 {
    return status(operations.deleteMany(&store.head, table, keys[0..@intCast(n)]));
}

/// The head's row of a key, or a status below zero.
export fn ecs_tx_row(store: *Store, table: u16, key: u64) i64 {
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    return store.head.rowOf(number, key) catch |err| failure.code(err);
}

/// The address of a cell as the transaction sees it: lent memory where the column is lent.
export fn ecs_tx_cell(store: *Store, table: u16, field: u16, key: u64, address: *u64) i32 {
    return status(txCell(store, table, field, key, address));
}

fn txCell(store: *Store, table: u16, field: u16, key: u64, address: *u64) failure.Error!void {
    try store.needTransaction();
    const head = &store.head;
    const number = try head.tableIndex(table);
    const f = try head.fieldIndex(number, field);
    const row = try head.rowOf(number, key);
    const column = &head.tables[number].columns[f];
    const memory = if (column.scratch.lent != .no) column.scratch.data else column.head;
    address.* = @intFromPtr(memory.ptr) + @as(usize, row) * column.width;
}

export fn ecs_tx_table(store: *Store, table: u16, out: *TableOut) i32 {
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    const t = &store.head.tables[number];
    out.* = .{
        .rows = t.rows,
        .columns = @intCast(t.columns.len),
        .struct_seq = t.struct_seq,
        .keys = @intFromPtr(t.keys.head.ptr),
    };
    return 0;
}

/// A whole column as the transaction sees it, for reading at once.
export fn ecs_tx_column(store: *Store, table: u32, field: u32, out: *LentOut) i32 {
    const number = store.head.tableIndex(@truncate(table)) catch |err| return failure.code(err);
    const f = store.head.fieldIndex(number, @truncate(field)) catch |err| return failure.code(err);
    const column = &store.head.tables[number].columns[f];
    const memory = if (column.scratch.lent != .no) column.scratch.data else column.head;
    out.* = .{ .address = @intFromPtr(memory.ptr), .bytes = memory.len, .rows = store.head.tables[number].rows };
    return 0;
}

/// What was lent: where, how many rows, and how much memory is behind it.
pub const LentOut = extern struct { address: u64, bytes: u64, rows: u64 };

/// Lend a whole column to the transaction as private, writable memory.
export fn ecs_tx_lend(store: *Store, table: u32, field: u32, out: *LentOut) i32 {
    return status(txLend(store, @truncate(table), @truncate(field), out));
}

fn txLend(store: *Store, table: u16, field: u16, out: *LentOut) failure.Error!void {
    try store.needTransaction();
    const number = try store.head.tableIndex(table);
    const f = try store.head.fieldIndex(number, field);
    const column = try lend.lend(&store.head, &store.views, number, f, true);
    out.* = .{
        .address = @intFromPtr(column.scratch.data.ptr),
        .bytes = column.scratch.data.len,
        .rows = store.head.tables[number].rows,
    };
}

/// Apply what was lent now, since operations that were queued behind it follow.
export fn ecs_tx_settle(store: *Store) i32 {
    if (!store.head.in_transaction) return failure.code(error.NoTransaction);
    return status(lend.settle(&store.head, true));
}

/// Give a column's scratch away after its transaction ended; the caller frees it with `ecs_memory_free`.
export fn ecs_tx_orphan(store: *Store, table: u16, field: u16, address: *u64, bytes: *u64) i32 {
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    const f = store.head.fieldIndex(number, field) catch |err| return failure.code(err);
    if (store.head.tables[number].columns[f].scratch.lent != .no) return failure.code(error.InTransaction);
    const memory = lend.orphan(&store.head, number, f);
    // It leaves the store's account: the holder frees it with the plain allocator.
    _ = store.counting.bytes.fetchSub(memory.len, .monotonic);
    address.* = @intFromPtr(memory.ptr);
    bytes.* = memory.len;
    return 0;
}

/// Make a version. 1 when there was something to publish, 0 when not. Readers see up to `published`,
/// which is behind `version` while held views defer publication.
export fn ecs_publish(store: *Store, tick: u64, genesis: u32, version: *u64, published: *u64) i32 {
    const made = store.publish(tick, genesis != 0) catch |err| return failure.code(err);
    version.* = store.version;
    published.* = store.publishedVersion();
    return @intFromBool(made);
}

/// Publish what was put off, if anything was. Needs the baton.
export fn ecs_catch_up(store: *Store, published: *u64) i32 {
    store.catchUp() catch |err| return failure.code(err);
    published.* = store.publishedVersion();
    return 0;
}

// Reading.

export fn ecs_view_acquire(store: *Store) i32 {
    return @intCast(store.views.acquire());
}

export fn ecs_view_release(store: *Store, slot: u32) void {
    store.views.release(slot);
}

export fn ecs_view_info(store: *Store, slot: u32, out: *ViewOut) void {
    const s = &store.views.slots[slot];
    out.* = .{ .version = s.version, .tick = s.tick, .cut = s.cut, .tables = s.tables.len };
}

/// A table in a view; `columns` receives one address per field, in field order.
export fn ecs_view_table(store: *Store, slot: u32, table: u16, out: *TableOut, columns: [*]u64) i32 {
    const number = store.head.catalogue.tableIndex(table) orelse return failure.code(error.UnknownTable);
    const of = &store.views.slots[slot].tables[number];
    out.* = .{
        .rows = of.rows,
        .columns = @intCast(of.columns.len),
        .struct_seq = of.struct_seq,
        .keys = @intFromPtr(of.keys.data.ptr),
    };
    for (of.columns, 0..) |buffer, f| columns[f] = @intFromPtr(buffer.data.ptr);
    return 0;
}

/// The row of a key in a view, `NoRow`, or `StaleKey` when the entity is not alive there.
export fn ecs_view_row(store: *Store, slot: u32, table: u16, key: u64) i64 {
    const number = store.head.catalogue.tableIndex(table) orelse return failure.code(error.UnknownTable);
    const tables = store.views.slots[slot].tables;
    if (tables[number].find(key)) |row| return row;
    const is_component = store.head.tables[number].spec.kind == .component;
    if (is_component and tables[0].find(key) != null) return failure.code(error.NoRow);
    return failure.code(error.StaleKey);
}

/// Join tables in a view, or in the head when `slot` is below zero. `rows` are addresses of u32
/// arrays, one per table in `with`, each with room for the smallest table. Result: how many, and
/// whether rows equal the tables' own order (nothing was written then).
export fn ecs_join(
    store: *Store,
    slot: i32,
    with: [*]const u16,
    with_count: u32,
    without: [*]const u16,
    without_count: u32,
    rows: [*]const u64,
    count: *u32,
    aligned: *u32,
) i32 {
    if (with_count == 0 or with_count > 64 or without_count > 64) return failure.code(error.BadArgument);
    var sides: [128]join.Side = undefined;
    for (0..with_count) |i| sides[i] = side(store, slot, with[i]) catch |err| return failure.code(err);
    for (0..without_count) |i| sides[64 + i] = side(store, slot, without[i]) catch |err| return failure.code(err);
    var into: [64][*]u32 = undefined;
    for (0..with_count) |i| into[i] = at(u32, rows[i]);
    const result = join.join(sides[0..with_count], sides[64..][0..without_count], into[0..with_count]);
    count.* = result.count;
    aligned.* = @intFromBool(result.aligned);
    return 0;
}

fn side(store: *Store, slot: i32, table: u16) error{UnknownTable}!join.Side {
    const number = store.head.catalogue.tableIndex(table) orelse return error.UnknownTable;
    if (slot < 0) {
        const t = &store.head.tables[number];
        return .{ .keys = if (t.rows == 0) &.{} else t.keyList(), .pages = t.index.pages.items };
    }
    const of = &store.views.slots[@intCast(slot)].tables[number];
    return .{ .keys = of.keyList(), .pages = of.pages() };
}

export fn ecs_view_digest(store: *Store, slot: u32, out: *[2]u64) void {
    const sum = digest.ofSlot(&store.head, &store.views, slot);
    out.* = .{ sum.low, sum.high };
}

// Replication.

export fn ecs_encoder_create() ?*delta.Encoder {
    const encoder = compat.allocator.create(delta.Encoder) catch return null;
    encoder.* = .init(compat.allocator);
    return encoder;
}

export fn ecs_encoder_destroy(encoder: *delta.Encoder) void {
    encoder.deinit();
    compat.allocator.destroy(encoder);
}

/// Cut `(base, the view's version]` into the encoder's memory, which is valid until its next call.
export fn ecs_delta(
    store: *Store,
    slot: u32,
    base: u64,
    cursor: *delta.Cursor,
    budget: u32,
    encoder: *delta.Encoder,
    bytes: *u64,
    length: *u64,
) i32 {
    encoder.cut(&store.head, &store.views.slots[slot], base, cursor, budget) catch |err| return failure.code(err);
    bytes.* = @intFromPtr(encoder.out.items.ptr);
    length.* = encoder.out.items.len;
    return 0;
}

/// Apply blocks that carry `(base, version]`, whole or not at all. Takes and gives the baton.
export fn ecs_apply(store: *Store, base: u64, version: u64, tick: u64, blocks: [*]const BlockIn, count: u32) i32 {
    const inputs = compat.allocator.alloc(apply.Input, count) catch return failure.code(error.OutOfMemory);
    defer compat.allocator.free(inputs);
    for (inputs, blocks[0..count], 1..) |*input, from, number| {
        if (from.length > limits.block_bytes_max) return failure.code(error.Limit);
        input.* = .{ .bytes = at(u8, from.bytes)[0..@intCast(from.length)], .last = number == count };
    }
    return status(store.applyBlocks(base, version, tick, inputs));
}

// The manifest.

const manifest: []const u8 = text: {
    @setEvalBranchQuota(100_000);
    var out: []const u8 = std.fmt.comptimePrint("abi={d}\n", .{abi_version});
    for (.{
        .{ "FieldIn", catalogue.FieldIn },
        .{ "TableIn", catalogue.TableIn },
        .{ "CatalogueIn", catalogue.CatalogueIn },
        .{ "Info", failure.Info },
        .{ "TableOut", TableOut },
        .{ "LentOut", LentOut },
        .{ "ViewOut", ViewOut },
        .{ "ColumnIn", ColumnIn },
        .{ "BlockIn", BlockIn },
        .{ "Cursor", delta.Cursor },
        .{ "Statistics", Statistics },
    }) |entry| {
        out = out ++ std.fmt.comptimePrint("{s}={d}", .{ entry[0], @sizeOf(entry[1]) });
        for (@typeInfo(entry[1]).@"struct".fields) |field| {
            out = out ++ std.fmt.comptimePrint(",{s}@{d}", .{ field.name, @offsetOf(entry[1], field.name) });
        }
        out = out ++ "\n";
    }
    for (@typeInfo(failure.Error).error_set.?) |err| {
        const number = failure.code(@field(failure.Error, err.name));
        out = out ++ std.fmt.comptimePrint("status.{s}={d}\n", .{ err.name, number });
    }
    for (std.enums.values(block.Reason)) |reason| {
        out = out ++ std.fmt.comptimePrint("reason.{s}={d}\n", .{ @tagName(reason), @intFromEnum(reason) });
    }
    const final = out[0..out.len].*;
    break :text &final;
};
