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
const abi_interest = @import("abi_interest.zig");
const abi_relations = @import("abi_relations.zig");
const abi_spatial = @import("abi_spatial.zig");
const abi_journal = @import("abi_journal.zig");
const abi_queue = @import("abi_queue.zig");
const apply = @import("apply.zig");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const compat = @import("compat.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const encoded = @import("encoded.zig");
const disk_layouts = @import("abi_disk_layouts.zig");
const frame = @import("frame.zig");
const failure = @import("failure.zig");
const head_file = @import("head.zig");
const join = @import("join.zig");
const lend = @import("lend.zig");
const limits = @import("limits.zig");
const operations = @import("operations.zig");
const prepared = @import("prepared.zig");
const queue = @import("queue.zig");
const sets = @import("sets.zig");
const stamps = @import("stamps.zig");
const stamps_cut = @import("stamps_cut.zig");
const view = @import("view.zig");
const weigh = @import("weigh.zig");
const Store = @import("store.zig").Store;

pub const abi_version = 1;

/// Release builds say a bug in one line; debug builds keep the standard traces.
pub const panic = if (@import("builtin").mode == .Debug)
    std.debug.FullPanic(std.debug.defaultPanic)
else
    std.debug.FullPanic(compat.smallPanic);

comptime {
    _ = @import("abi_frame.zig");
    _ = @import("abi_prepared.zig");
    _ = abi_interest;
    _ = abi_relations;
    _ = @import("abi_redo.zig");
    _ = @import("abi_stamps.zig");
    _ = @import("abi_tx.zig");
    _ = @import("abi_text.zig");
    _ = abi_spatial;
    _ = @import("abi_events.zig");
    _ = @import("abi_query.zig");
    _ = @import("abi_in_step.zig");
    if (compat.has_os) {
        _ = @import("abi_crypto.zig");
        _ = @import("abi_storage.zig");
        _ = @import("abi_disk.zig");
        _ = @import("abi_founding.zig");
        _ = @import("abi_hub.zig");
    }
}

fn status(result: failure.Error!void) i32 {
    result catch |err| return failure.code(err);
    return 0;
}

/// Where an earlier call went wrong says nothing about the one that begins. Needs the baton.
fn forget(store: *Store) void {
    store.head.info = .{};
}

/// `n` elements at a caller's address. None may lie anywhere, at 0 too; any must be aligned as their type is.
pub fn at(comptime T: type, address: u64, n: u64) error{BadArgument}![]T {
    if (n == 0) return &.{};
    const place = std.math.cast(usize, address) orelse return error.BadArgument;
    const count = std.math.cast(usize, n) orelse return error.BadArgument;
    if (place == 0 or place % @alignOf(T) != 0) return error.BadArgument;
    return @as([*]T, @ptrFromInt(place))[0..count];
}

/// A slot that holds a version. Any other number is a mistake of the caller.
pub fn slotAt(store: *Store, slot: u64) error{BadArgument}!*view.Slot {
    if (slot >= limits.slots_max) return error.BadArgument;
    const found = &store.views.slots[@intCast(slot)];
    if (found.tables.len == 0) return error.BadArgument;
    return found;
}

/// An id that came as u32. Cut to 16 bits a wrong one would name another table; 0xffff names none.
pub fn narrow(id: u32) u16 {
    return std.math.cast(u16, id) orelse 0xffff;
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
    /// Buffers of all columns, spare ones too.
    buffers: u64,
    /// What the newest publication was put off for: a `view.Pressure`.
    pressure: u64,
    /// Change sets that left the ring and were merged, their bytes, and the oldest version that deltas can be cut from.
    history_sets: u64,
    history_bytes: u64,
    oldest_base: u64,
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
    var buffers: u64 = 0;
    for (store.head.tables) |*table| {
        rows += table.rows;
        buffers += table.keys.buffers;
        for (table.all) |*column| buffers += column.buffers;
    }
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
        .slots_used = @popCount(store.views.taken),
        .buffers = buffers,
        .pressure = @intFromEnum(store.views.pressure),
        .history_sets = store.views.history.spans.items.len,
        .history_bytes = store.views.history.bytes,
        .oldest_base = store.views.oldest_base,
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

/// Give the baton back. 1 when orders wait in the queue, which whoever has it next should pump.
export fn ecs_baton_give(store: *Store) i32 {
    store.giveBaton();
    return @intFromBool(store.queue.waits());
}

export fn ecs_tx_begin(store: *Store) i32 {
    return status(store.begin());
}

export fn ecs_tx_commit(store: *Store) i32 {
    forget(store);
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
    if (!store.head.isMark(mark)) return failure.code(error.BadArgument);
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
    forget(store);
    return status(operations.run(&store.head, store.operations[0..bytes], key));
}

export fn ecs_tx_reserve(store: *Store, table: u16, n: u64, keys: [*]u64) i32 {
    forget(store);
    return status(reserve(store, table, n, keys));
}

fn reserve(store: *Store, table: u16, n: u64, keys: [*]u64) failure.Error!void {
    try store.needTransaction();
    const number = try store.head.tableIndex(table);
    if (n > limits.entities_max) return store.head.failKey(error.Limit, number, 0);
    try store.head.reserve(number, @intCast(n), keys[0..@intCast(n)]);
}

export fn ecs_tx_insert_many(store: *Store, table: u16, n: u64, keys: [*]const u64, columns: [*]const ColumnIn, column_count: u32) i32 {
    forget(store);
    return status(insertMany(store, table, n, keys, columns[0..column_count]));
}

fn insertMany(store: *Store, table: u16, n: u64, keys: [*]const u64, columns: []const ColumnIn) failure.Error!void {
    try store.needTransaction();
    const head = &store.head;
    const number = try head.tableIndex(table);
    if (n > limits.rows_max) return head.failKey(error.Limit, number, 0);
    const spec = head.tables[number].spec;
    var cells: [limits.fields_max]?head_file.Strided = @splat(null);
    for (columns) |column| cells[try head.fieldIndex(number, column.field)] = try strided(column, n);
    try head.insertMany(number, keys[0..@intCast(n)], cells[0..spec.fields.len]);
}

/// The cells of a column for `n` rows; their alignment does not matter.
pub fn strided(column: ColumnIn, n: u64) error{BadArgument}!head_file.Strided {
    return .{ .base = (try at(u8, column.cells, @min(n, 1))).ptr, .stride = column.stride };
}

export fn ecs_tx_update_many(store: *Store, table: u16, n: u64, keys: [*]const u64, columns: [*]const ColumnIn, column_count: u32) i32 {
    forget(store);
    return status(operations.updateMany(&store.head, table, keys[0..@intCast(n)], columns[0..column_count]));
}

export fn ecs_tx_delete_many(store: *Store, table: u16, n: u64, keys: [*]const u64) i32 {
    forget(store);
    return status(operations.deleteMany(&store.head, table, keys[0..@intCast(n)]));
}

/// The head's row of a key, or a status below zero.
export fn ecs_tx_row(store: *Store, table: u16, key: u64) i64 {
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    return store.head.rowOf(number, key) catch |err| failure.code(err);
}

/// The address of a cell as the transaction sees it: lent memory where the column is lent.
export fn ecs_tx_cell(store: *Store, table: u16, field: u16, key: u64, address: *u64) i32 {
    forget(store);
    return status(txCell(store, table, field, key, address));
}

fn txCell(store: *Store, table: u16, field: u16, key: u64, address: *u64) failure.Error!void {
    try store.needTransaction();
    const head = &store.head;
    const number = try head.tableIndex(table);
    const f = try head.fieldIndex(number, field);
    const row = try head.rowOf(number, key);
    const column = &head.tables[number].columns[f];
    const memory = if (column.scratch.lent) column.scratch.data else column.head;
    address.* = @intFromPtr(memory.ptr) + @as(usize, row) * column.width;
}

export fn ecs_tx_table(store: *Store, table: u16, out: *TableOut) i32 {
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    const t = &store.head.tables[number];
    out.* = .{
        .rows = t.rows,
        .columns = t.spec.shown,
        .struct_seq = t.struct_seq,
        .keys = @intFromPtr(t.keys.head.ptr),
    };
    return 0;
}

/// A whole column as the transaction sees it, for reading at once.
export fn ecs_tx_column(store: *Store, table: u32, field: u32, out: *LentOut) i32 {
    const number = store.head.tableIndex(narrow(table)) catch |err| return failure.code(err);
    const f = store.head.fieldIndex(number, narrow(field)) catch |err| return failure.code(err);
    const column = &store.head.tables[number].columns[f];
    const memory = if (column.scratch.lent) column.scratch.data else column.head;
    out.* = .{ .address = @intFromPtr(memory.ptr), .bytes = memory.len, .rows = store.head.tables[number].rows };
    return 0;
}

/// What was lent: where, how many rows, and how much memory is behind it.
pub const LentOut = extern struct { address: u64, bytes: u64, rows: u64 };

/// Lend a whole column to the transaction as private, writable memory.
export fn ecs_tx_lend(store: *Store, table: u32, field: u32, out: *LentOut) i32 {
    forget(store);
    return status(txLend(store, narrow(table), narrow(field), out));
}

fn txLend(store: *Store, table: u16, field: u16, out: *LentOut) failure.Error!void {
    try store.needTransaction();
    const number = try store.head.tableIndex(table);
    const f = try store.head.fieldIndex(number, field);
    const column = try lend.lend(&store.head, &store.views, number, f);
    out.* = .{
        .address = @intFromPtr(column.scratch.data.ptr),
        .bytes = column.scratch.data.len,
        .rows = store.head.tables[number].rows,
    };
}

/// Apply what was lent now, since operations that were queued behind it follow.
export fn ecs_tx_settle(store: *Store) i32 {
    if (!store.head.in_transaction) return failure.code(error.NoTransaction);
    forget(store);
    return status(lend.settle(&store.head, true));
}

/// Give a column's scratch away after its transaction ended; the caller frees it with `ecs_memory_free`.
export fn ecs_tx_orphan(store: *Store, table: u16, field: u16, address: *u64, bytes: *u64) i32 {
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    const f = store.head.fieldIndex(number, field) catch |err| return failure.code(err);
    if (store.head.tables[number].columns[f].scratch.lent) return failure.code(error.InTransaction);
    const memory = lend.orphan(&store.head, number, f);
    // It leaves the store's account: the holder frees it with the plain allocator.
    store.counting.count(0, memory.len);
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

export fn ecs_view_limits(store: *Store, slots_max: u32, buffers_max: u32) i32 {
    return status(store.limitViews(slots_max, buffers_max));
}

/// Keep what changed for deltas from older bases, merged. Needs the baton.
export fn ecs_view_retain(store: *Store, versions: u64, bytes: u64) i32 {
    return status(store.retain(versions, bytes));
}

/// Publish into pages that nobody can write to. Needs the baton.
export fn ecs_view_guard(store: *Store) i32 {
    return status(store.guardViews());
}

// Reading.

export fn ecs_view_acquire(store: *Store) i32 {
    return @intCast(store.views.acquire());
}

export fn ecs_view_release(store: *Store, slot: u32) void {
    if (slot < limits.slots_max) store.views.release(slot);
}

export fn ecs_view_info(store: *Store, slot: u32, out: *ViewOut) void {
    const s = slotAt(store, slot) catch {
        out.* = std.mem.zeroes(ViewOut);
        return;
    };
    out.* = .{ .version = s.version, .tick = s.tick, .cut = s.cut, .tables = s.tables.len };
}

/// A table in a view; `columns` receives one address per field, in field order.
export fn ecs_view_table(store: *Store, slot: u32, table: u16, out: *TableOut, columns: [*]u64) i32 {
    const number = store.head.catalogue.tableIndex(table) orelse return failure.code(error.UnknownTable);
    const s = slotAt(store, slot) catch |err| return failure.code(err);
    const of = s.tables[number];
    out.* = .{
        .rows = of.rows,
        .columns = store.head.tables[number].spec.shown,
        .struct_seq = of.struct_seq,
        .keys = @intFromPtr(of.keys.data.ptr),
    };
    for (of.columns[0..out.columns], 0..) |buffer, f| columns[f] = @intFromPtr(buffer.data.ptr);
    return 0;
}

/// The row of a key in a view, `NoRow`, or `StaleKey` when the entity is not alive there.
export fn ecs_view_row(store: *Store, slot: u32, table: u16, key: u64) i64 {
    const number = store.head.catalogue.tableIndex(table) orelse return failure.code(error.UnknownTable);
    const tables = (slotAt(store, slot) catch |err| return failure.code(err)).tables;
    if (tables[number].find(key)) |row| return row;
    const is_component = store.head.tables[number].spec.kind == .component;
    if (is_component and tables[0].find(key) != null) return failure.code(error.NoRow);
    return failure.code(error.StaleKey);
}

/// Join tables in a view, or in the head when `slot` is below zero. `rows` are addresses of u32
/// arrays, one per table in `with`, each with room for the smallest table. Result: how many, and
/// whether they are the first rows of each table, in its own order (nothing was written then).
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
    var room = sides[0].keys.len;
    for (sides[0..with_count]) |s| room = @min(room, s.keys.len);
    for (0..with_count) |i| into[i] = (at(u32, rows[i], room) catch |err| return failure.code(err)).ptr;
    const members = membersAmong(store, slot, with[0..with_count]) catch |err| return failure.code(err);
    const result = join.join(sides[0..with_count], sides[64..][0..without_count], into[0..with_count], members);
    count.* = result.count;
    aligned.* = @intFromBool(result.aligned);
    return 0;
}

/// The members of the group whose tables are all in `with`, if there is one.
fn membersAmong(store: *Store, slot: i32, with: []const u16) error{ UnknownTable, BadArgument }!?join.Members {
    const head = &store.head;
    if (head.groups.all.len == 0) return null;
    var room: [64]u16 = undefined;
    const tables = room[0..with.len];
    for (with, tables) |id, *number| number.* = head.catalogue.tableIndex(id) orelse return error.UnknownTable;
    const of = head.groups.covered(tables) orelse return null;
    const group = head.groups.of(tables[of]).?;
    return .{
        .count = if (slot < 0) group.members else (try slotAt(store, @intCast(slot))).tables[tables[of]].members,
        .side = of,
        .tables = group.tables.len,
    };
}

pub fn side(store: *Store, slot: i32, table: u16) error{ UnknownTable, BadArgument }!join.Side {
    const number = store.head.catalogue.tableIndex(table) orelse return error.UnknownTable;
    if (slot < 0) {
        const t = &store.head.tables[number];
        return .{ .keys = if (t.rows == 0) &.{} else t.keyList(), .pages = t.index.pages.items };
    }
    const of = (try slotAt(store, @intCast(slot))).tables[number];
    return .{ .keys = of.keyList(), .pages = of.pages() };
}

/// The ids of tables with changes in `(base, the view's version]`: how many. `tables` has room for as many
/// as there are in the view. `HistoryGone` when the change sets do not reach back to `base`.
export fn ecs_view_touched(store: *Store, slot: u32, base: u64, tables: [*]u16) i32 {
    const s = slotAt(store, slot) catch |err| return failure.code(err);
    if (base > s.version) return failure.code(error.BadArgument);
    if (base < s.version and !sets.reaches(s, base)) return failure.code(error.HistoryGone);
    var n: u31 = 0;
    for (store.head.tables, 0..) |*table, number| {
        if (!sets.touched(s, base, number)) continue;
        tables[n] = table.spec.id;
        n += 1;
    }
    return n;
}

/// How many bytes of a block each table takes: how many tables, with room for all of the catalogue in `weights`.
/// From any thread: it reads the catalogue only.
export fn ecs_block_weigh(store: *Store, bytes: [*]const u8, length: u32, weights: [*]weigh.Weight) i32 {
    const of = &store.head.catalogue;
    const n = weigh.weigh(of, bytes[0..length], weights[0..of.tables.len]) catch |err| return failure.code(err);
    return @intCast(n);
}

/// Bytes that were encoded, by table and field, as many as there is `room` for. Returns how many there are. From any thread.
export fn ecs_store_encoded(store: *Store, into: [*]encoded.Told, room: u32) u32 {
    return @intCast(store.head.encoded.tell(&store.head.catalogue, into[0..room]));
}

export fn ecs_view_digest(store: *Store, slot: u32, out: *[2]u64) void {
    out.* = .{ 0, 0 };
    _ = slotAt(store, slot) catch return;
    const sum = digest.ofSlot(&store.head, &store.views, slot);
    out.* = .{ sum.low, sum.high };
}

/// The digest of a replica that was told all of a view.
export fn ecs_view_digest_wire(store: *Store, slot: u32, out: *[2]u64) void {
    out.* = .{ 0, 0 };
    const s = slotAt(store, slot) catch return;
    out.* = digest.scanWire(&store.head, s).halves();
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

/// Cut `(base, the view's version]` into the encoder's memory, which is valid until its next call. `reference` is the slot
/// of a version that values may be relative to, pinned like the other, or below zero; `planes` is 1 where somebody will
/// compress the block.
export fn ecs_delta(
    store: *Store,
    slot: u32,
    base: u64,
    cursor: *delta.Cursor,
    budget: u32,
    reference: i32,
    planes: u32,
    encoder: *delta.Encoder,
    bytes: *u64,
    length: *u64,
) i32 {
    const s = slotAt(store, slot) catch |err| return failure.code(err);
    encoder.reference = if (reference < 0) null else slotAt(store, @intCast(reference)) catch |err| return failure.code(err);
    defer encoder.reference = null;
    encoder.wire.planes = planes != 0;
    encoder.cut(&store.head, s, base, cursor, budget) catch |err| return failure.code(err);
    bytes.* = @intFromPtr(encoder.out.items.ptr);
    length.* = encoder.out.items.len;
    return 0;
}

/// Apply blocks that carry `(base, version]`, whole or not at all. Takes and gives the baton.
export fn ecs_apply(store: *Store, base: u64, version: u64, tick: u64, blocks: [*]const BlockIn, count: u32) i32 {
    // A delta is one block; chunks that are closed by it are many.
    var few: [4]apply.Input = undefined;
    const inputs = if (count <= few.len) few[0..count] else compat.allocator.alloc(apply.Input, count) catch
        return failure.code(error.OutOfMemory);
    defer if (count > few.len) compat.allocator.free(inputs);
    for (inputs, blocks[0..count], 1..) |*input, from, number| {
        if (from.length > limits.block_bytes_max) return failure.code(error.Limit);
        const bytes = at(u8, from.bytes, from.length) catch |err| return failure.code(err);
        input.* = .{ .bytes = bytes, .last = number == count };
    }
    const shown = store.applyBlocks(base, version, tick, inputs) catch |err| return failure.code(err);
    return @intFromBool(shown);
}

/// Keep each version's digest from the next publication on (1), or no longer (0). Needs the baton.
export fn ecs_digest_keep(store: *Store, on: u32) i32 {
    store.keepDigest(on != 0) catch |err| return failure.code(err);
    return 0;
}

/// The digest that was kept of a view's version: 1 when there is one.
export fn ecs_view_digest_kept(store: *Store, slot: u32, out: *[2]u64) i32 {
    const s = slotAt(store, slot) catch |err| return failure.code(err);
    out.* = s.kept orelse return 0;
    return 1;
}

/// What a replica is in the middle of, and then what it took: one memory for both, so that a caller makes it once.
pub const Taken = extern struct {
    /// In: the replica's session, epoch and held version, and whether a digest in the frame is compared.
    session: u64,
    held: u64,
    epoch: u32,
    check: u32,
    /// Out.
    base: u64,
    version: u64,
    tick: u64,
    entity: u64,
    command_ack: u32,
    /// 0 there was none to compare, or publication was put off; 1 equal; 2 they differ.
    digest: u32,
    /// The version that readers see.
    published: u64,
};

/// Take a DeltaSync's payload in and publish it, where that is all there is to do: the replica's session and
/// epoch, one part, no flags, no clock, a base above 0 that is held. 0 when it was taken; 1 when there is more
/// to it, and below zero when it was refused: nothing has changed then.
pub export fn ecs_take_delta(store: *Store, payload: [*]const u8, payload_bytes: u32, taken: *Taken) i32 {
    const got = frame.read(frame.DeltaSync, payload[0..payload_bytes]) catch return 1;
    const sync = &got.record;
    if (sync.session != taken.session or sync.epoch != taken.epoch) return 1;
    // 0 parts, of a sender that does not know them, is one.
    if (sync.part != 0 or sync.parts > 1 or sync.flags != 0 or got.clock.count != 0) return 1;
    if (sync.base == 0 or sync.base > taken.held or sync.version <= taken.held) return 1;
    // A compressed block is another's to undo.
    if (got.block.bytes > 1 and payload[got.block.offset + 1] != 0) return 1;
    store.takeBaton() catch return 1;
    defer store.giveBaton();
    if (store.version != taken.held) return 1;
    const block_in: apply.Input = .{ .bytes = payload[got.block.offset..][0..got.block.bytes], .last = true };
    // Where every version's is compared, each follows from the one before; where few are, each is a scan.
    const compared = taken.check != 0 and (sync.digest_low | sync.digest_high) != 0;
    const keep = compared or store.keeps_digest;
    const shown = store.applyAndShow(sync.base, sync.version, sync.tick, &.{block_in}, keep) catch |err|
        return failure.code(err);
    taken.base = sync.base;
    taken.version = sync.version;
    taken.tick = sync.tick;
    taken.entity = sync.entity;
    taken.command_ack = sync.command_ack;
    taken.published = store.publishedVersion();
    taken.digest = 0;
    if (shown and compared) {
        const ours = store.views.shown().?.kept.?;
        taken.digest = if (ours[0] == sync.digest_low and ours[1] == sync.digest_high) 1 else 2;
    }
    return 0;
}

// The manifest.

const manifest: []const u8 = text: {
    @setEvalBranchQuota(100_000);
    var out: []const u8 = std.fmt.comptimePrint("abi={d}\n", .{abi_version});
    for (.{
        .{ "FieldIn", catalogue.FieldIn },
        .{ "TableIn", catalogue.TableIn },
        .{ "UniqueIn", catalogue.UniqueIn },
        .{ "CatalogueIn", catalogue.CatalogueIn },
        .{ "Info", failure.Info },
        .{ "TableOut", TableOut },
        .{ "LentOut", LentOut },
        .{ "ViewOut", ViewOut },
        .{ "ColumnIn", ColumnIn },
        .{ "PreparedIn", prepared.PreparedIn },
        .{ "BlockIn", BlockIn },
        .{ "Cursor", delta.Cursor },
        .{ "Statistics", Statistics },
        .{ "Taken", Taken },
        .{ "StepIn", abi_relations.StepIn },
        .{ "WalkIn", abi_relations.WalkIn },
        .{ "RelatedOut", abi_relations.RelatedOut },
        .{ "SpatialIn", abi_spatial.SpatialIn },
        .{ "SearchIn", abi_spatial.SearchIn },
        .{ "FoundOut", abi_spatial.FoundOut },
        .{ "SpatialOut", abi_spatial.SpatialOut },
        .{ "RuleIn", abi_interest.RuleIn },
        .{ "ProfileIn", abi_interest.ProfileIn },
        .{ "AudienceOut", abi_interest.AudienceOut },
        .{ "ChunkOut", abi_journal.ChunkOut },
        .{ "Merged", stamps.Merged },
        .{ "StampsCursor", stamps_cut.Cursor },
        .{ "PumpOut", abi_queue.PumpOut },
        .{ "Result", queue.Result },
        .{ "TextOut", disk_layouts.TextOut },
        .{ "FailureOut", disk_layouts.FailureOut },
        .{ "DamageOut", disk_layouts.DamageOut },
        .{ "AncestorOut", disk_layouts.AncestorOut },
        .{ "DiskIn", disk_layouts.DiskIn },
        .{ "RecoveryOut", disk_layouts.RecoveryOut },
        .{ "SnapshotOut", disk_layouts.SnapshotOut },
        .{ "DiskStatistics", disk_layouts.DiskStatistics },
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

test "numbers that name nothing and addresses of nothing are refused" {
    const none: catalogue.CatalogueIn = .{ .tables = 0, .table_count = 1, .entities_max = 4 };
    var store_out: ?*Store = null;
    try std.testing.expectEqual(failure.code(error.BadCatalogue), ecs_store_create(&none, &store_out));
    const fields = [_]catalogue.FieldIn{std.mem.zeroInit(catalogue.FieldIn, .{ .id = 0, .type = 4, .count = 1 })};
    const tables = [_]catalogue.TableIn{
        .{ .id = 0, .kind = 0, .replicated = 1, .field_count = 0, .rows_max = 0, .fields = 0 },
        .{ .id = 16, .kind = 1, .replicated = 1, .field_count = 1, .rows_max = 0, .fields = @intFromPtr(&fields) },
    };
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = 2, .entities_max = 64 };
    try std.testing.expectEqual(0, ecs_store_create(&in, &store_out));
    const store = store_out.?;
    defer std.testing.expectEqual(0, ecs_store_destroy(store)) catch unreachable;
    const bad = failure.code(error.BadArgument);

    // Slots: out of range, and never published.
    const encoder = ecs_encoder_create().?;
    defer ecs_encoder_destroy(encoder);
    for ([_]u32{ 0, 1, limits.slots_max, std.math.maxInt(u32) }) |slot| {
        var table: TableOut = undefined;
        var columns: [1]u64 = undefined;
        try std.testing.expectEqual(bad, ecs_view_table(store, slot, 16, &table, &columns));
        try std.testing.expectEqual(bad, ecs_view_row(store, slot, 16, 1));
        var info: ViewOut = undefined;
        ecs_view_info(store, slot, &info);
        try std.testing.expectEqual(0, info.tables);
        var sum: [2]u64 = undefined;
        ecs_view_digest(store, slot, &sum);
        var cursor: delta.Cursor = .{};
        var address: u64 = 0;
        var length: u64 = 0;
        try std.testing.expectEqual(bad, ecs_delta(store, slot, 0, &cursor, 0, -1, 0, encoder, &address, &length));
    }
    ecs_view_release(store, limits.slots_max);
    const with = [_]u16{16};
    var rows = [_]u64{2};
    var count: u32 = 0;
    var aligned: u32 = 0;
    try std.testing.expectEqual(bad, ecs_join(store, limits.slots_max, &with, 1, &with, 0, &rows, &count, &aligned));

    // Ids that are no u16: cut to 16 bits they would name what is there.
    try std.testing.expectEqual(0, ecs_baton_take(store));
    defer _ = ecs_baton_give(store);
    try std.testing.expectEqual(0, ecs_tx_begin(store));
    var lent: LentOut = undefined;
    try std.testing.expectEqual(failure.code(error.UnknownTable), ecs_tx_lend(store, 1 << 16 | 16, 0, &lent));
    try std.testing.expectEqual(failure.code(error.UnknownField), ecs_tx_column(store, 16, 1 << 16, &lent));

    // A refusal says nothing about an older one.
    try std.testing.expectEqual(16, ecs_store_failure(store).table);
    var newest: u64 = 0;
    try std.testing.expectEqual(bad, ecs_tx_apply(store, 1, &newest));
    try std.testing.expectEqual(0xffff, ecs_store_failure(store).table);

    // Columns nowhere are as good as any when there are no rows, and refused when there are.
    var keys: [2]u64 = undefined;
    try std.testing.expectEqual(0, ecs_tx_reserve(store, 0, 2, &keys));
    try std.testing.expectEqual(0, ecs_tx_insert_many(store, 0, 2, &keys, &[_]ColumnIn{}, 0));
    const nowhere = [_]ColumnIn{.{ .cells = 0, .stride = 1, .field = 0 }};
    try std.testing.expectEqual(0, ecs_tx_insert_many(store, 16, 0, &keys, &nowhere, 1));
    try std.testing.expectEqual(bad, ecs_tx_insert_many(store, 16, 2, &keys, &nowhere, 1));
    const somewhere = [_]ColumnIn{.{ .cells = @intFromPtr(&keys), .stride = 1, .field = 0 }};
    const too_many = @as(u64, limits.rows_max) + 1;
    try std.testing.expectEqual(failure.code(error.Limit), ecs_tx_insert_many(store, 16, too_many, &keys, &somewhere, 1));
    try std.testing.expectEqual(0, ecs_tx_insert_many(store, 16, 2, &keys, &somewhere, 1));
    try std.testing.expectEqual(0, ecs_tx_update_many(store, 16, 0, &keys, &nowhere, 1));
    try std.testing.expectEqual(bad, ecs_tx_update_many(store, 16, 2, &keys, &nowhere, 1));

    // A mark is a place that the log had: not one between.
    const mark = ecs_tx_mark(store);
    try std.testing.expectEqual(bad, ecs_tx_undo_to(store, mark + 1));
    try std.testing.expectEqual(bad, ecs_tx_undo_to(store, mark - 1));
    try std.testing.expectEqual(0, ecs_tx_undo_to(store, mark));
    try std.testing.expectEqual(0, ecs_tx_undo_to(store, 0));
    try std.testing.expectEqual(0, ecs_tx_rollback(store));

    // A block of nothing is malformed, wherever it does not lie.
    const empty = [_]BlockIn{.{ .bytes = 0, .length = 0 }};
    try std.testing.expectEqual(failure.code(error.InTransaction), blk: {
        try std.testing.expectEqual(0, ecs_tx_begin(store));
        _ = ecs_baton_give(store);
        const refused = ecs_apply(store, 0, 1, 0, &empty, 1);
        try std.testing.expectEqual(0, ecs_baton_take(store));
        try std.testing.expectEqual(0, ecs_tx_rollback(store));
        break :blk refused;
    });
    _ = ecs_baton_give(store);
    try std.testing.expectEqual(failure.code(error.BadBlock), ecs_apply(store, 0, 1, 0, &empty, 1));
    const missing = [_]BlockIn{.{ .bytes = 0, .length = 8 }};
    try std.testing.expectEqual(bad, ecs_apply(store, 0, 1, 0, &missing, 1));
    try std.testing.expectEqual(0, ecs_baton_take(store));
}
