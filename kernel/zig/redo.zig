//! Redo: what a version changed, as the log keeps it, and the way back from the log to a store.
//!
//!     body     u32 length of the block | block (`block.zig`) | u16 tables | table*
//!     table    u16 table id | u16 zero | u64 auto counter | u32 n | u64 key * n
//!
//! The block names every durable table, the entities first: values are absolute, so it says what is, not what was done.
//! Behind it come, by ascending id, the tables whose counter moved or that handed out keys which have no row: a counter
//! says its newest number, a key that its generation is spent. So a store that is made from the log hands out no key
//! that was ever seen, not even one whose row came and went within a version, or whose transaction was undone.
//!
//! A body is made from the head and the marks of the open version, before the version is staged. Marks are a superset:
//! a body may say again what was so before, and never leaves anything out.
//!
//! How large a body can get is said before a transaction is kept (`bound`), so that a disk without room refuses it
//! while nothing has happened: the sum of what was said of a version's transactions is at least its body.
//!
//! Invariants:
//! - replaying all bodies since a state, in order, gives the rows, the counters and the generations of the last;
//! - a body is replayed whole, or refused with nothing changed, whatever its bytes;
//! - the sum of the bounds of a version is not less than its body.

const std = @import("std");
const assert = std.debug.assert;
const apply = @import("apply.zig");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const entity = @import("entity.zig");
const failure = @import("failure.zig");
const head_file = @import("head.zig");
const lend = @import("lend.zig");
const limits = @import("limits.zig");
const section = @import("section.zig");
const sweep = @import("sweep.zig");
const Head = head_file.Head;
const Heap = @import("heap.zig").Heap;
const Item = block.Item;
const Store = @import("store.zig").Store;
const Table = @import("table.zig").Table;

const length_bytes = 4;
const table_bytes = 2 + 2 + 8 + 4;

/// LEB128 of a gap between two indices, at most; other forms of names are picked where they are shorter.
const name_bytes = 4;
/// LEB128 of a text's length.
const text_length_bytes = 2;

comptime {
    assert(limits.entities_max <= 1 << 28);
    assert(limits.string_bytes_max < 1 << 14);
}

// Writing.

/// Append the body of the open version to `out`. With the baton, outside a transaction, before it is staged. Nothing of
/// the head changes; on failure `out` is as it was.
pub fn encode(head: *Head, gpa: std.mem.Allocator, out: *std.ArrayList(u8)) error{OutOfMemory}!void {
    assert(!head.in_transaction);
    const start = out.items.len;
    errdefer out.items.len = start;
    var arena = std.heap.ArenaAllocator.init(gpa);
    defer arena.deinit();
    const w: block.Writer = .{ .gpa = gpa, .out = out };
    try w.int(u32, 0);
    const block_at = out.items.len;
    try w.int(u8, block.version);
    try w.int(u8, 0);
    try w.int(u16, 0);
    try w.int(u32, 0);
    var tables: u16 = 0;
    for (head.tables, head.noted) |*table, noted| {
        if (!noted or !table.spec.durable or !table.rowsChanged()) continue;
        if (try encodeTable(head, table, w, arena.allocator())) tables += 1;
        _ = arena.reset(.retain_capacity);
    }
    const block_length: u32 = @intCast(out.items.len - block_at);
    std.mem.writeInt(u32, out.items[start..][0..4], block_length, .little);
    std.mem.writeInt(u16, out.items[block_at + 2 ..][0..2], tables, .little);
    std.mem.writeInt(u32, out.items[block_at + 4 ..][0..4], block_length - block.header_bytes, .little);

    const spaces_at = out.items.len;
    var spaces: u16 = 0;
    try w.int(u16, 0);
    for (head.tables, head.spaces) |*table, *space| {
        if (!table.spec.durable) continue;
        const told = table.auto == table.auto_told;
        if (told and space.spent.items.len == 0) continue;
        const spent = try spentKeys(table, space, arena.allocator());
        if (told and spent.len == 0) continue;
        try w.int(u16, table.spec.id);
        try w.int(u16, 0);
        try w.int(u64, table.auto);
        try w.int(u32, @intCast(spent.len));
        for (spent) |key| try w.int(u64, key);
        spaces += 1;
    }
    std.mem.writeInt(u16, out.items[spaces_at..][0..2], spaces, .little);
}

/// The keys that were handed out in the open version and have no row, by ascending index, the newest of each.
fn spentKeys(table: *const Table, space: *const entity.Space, a: std.mem.Allocator) error{OutOfMemory}![]const u64 {
    var keys: std.ArrayList(u64) = .empty;
    for (space.spent.items) |key| {
        // Of an index that was handed out again the newer key speaks, with its row or in this list.
        if (space.places.items[entity.Key.of(key).index].generation != entity.Key.of(key).generation) continue;
        if (table.find(key) == null) try keys.append(a, key);
    }
    std.sort.pdq(u64, keys.items, {}, struct {
        fn less(_: void, x: u64, y: u64) bool {
            return entity.Key.of(x).index < entity.Key.of(y).index;
        }
    }.less);
    return keys.items;
}

fn encodeTable(head: *const Head, t: *const Table, w: block.Writer, a: std.mem.Allocator) error{OutOfMemory}!bool {
    const keys = t.keyList();
    const removed = try removedItems(t, a);
    const inserted = try insertedItems(t, a);
    const fresh = try a.alloc(u32, inserted.len);
    for (fresh, inserted) |*row, item| row.* = item.row;
    if (!std.sort.isSorted(u32, fresh, {}, std.sort.asc(u32))) std.sort.pdq(u32, fresh, {}, std.sort.asc(u32));
    var columns: std.ArrayList(section.Column) = .empty;
    const cells = try a.alloc([]const u8, t.columns.len);
    var before: ?*const changes.DirtySet = null;
    for (t.columns, cells, 0..) |*column, *to, f| {
        to.* = column.head;
        if (column.dirty.isEmpty()) continue;
        const same = if (before) |b| equal(b, &column.dirty) else false;
        const items = if (same) columns.items[columns.items.len - 1].items else try dirtyItems(t, &column.dirty, fresh, a);
        try columns.append(a, .{ .field = @intCast(f), .items = items, .same = same });
        before = &column.dirty;
    }
    const found: section.Section = .{
        .spec = t.spec,
        .heap = &head.heap,
        .keys = keys,
        .cells = cells,
        .removed = removed,
        .inserted = inserted,
        .columns = columns.items,
        .others = keys.len - inserted.len,
    };
    if (found.isEmpty()) return false;
    _ = try found.write(w, a);
    return true;
}

/// What the table has lost: an index that has a row again is among the inserted, and evicts the older row.
fn removedItems(t: *const Table, a: std.mem.Allocator) error{OutOfMemory}![]const Item {
    if (t.removed.items.len == 0) return &.{};
    var items: std.ArrayList(Item) = .empty;
    try items.ensureTotalCapacityPrecise(a, t.removed.items.len);
    for (t.removed.items) |key| {
        const index = entity.Key.of(key).index;
        if (t.findIndex(index) == null) items.appendAssumeCapacity(.{ .index = index, .row = 0 });
    }
    return unique(items.items);
}

fn insertedItems(t: *const Table, a: std.mem.Allocator) error{OutOfMemory}![]const Item {
    if (t.inserted.items.len == 0) return &.{};
    var items: std.ArrayList(Item) = .empty;
    try items.ensureTotalCapacityPrecise(a, t.inserted.items.len);
    for (t.inserted.items) |key| {
        if (t.find(key)) |row| items.appendAssumeCapacity(.{ .index = entity.Key.of(key).index, .row = row });
    }
    return unique(items.items);
}

/// Sort by index, and keep one of each.
fn unique(items: []Item) []const Item {
    if (items.len < 2) return items;
    if (!std.sort.isSorted(Item, items, {}, section.byIndex)) std.sort.pdq(Item, items, {}, section.byIndex);
    var kept: usize = 1;
    for (items[1..]) |item| {
        if (item.index == items[kept - 1].index) continue;
        items[kept] = item;
        kept += 1;
    }
    return items[0..kept];
}

/// The rows that are marked and not `fresh` (ascending), by entity index.
fn dirtyItems(t: *const Table, dirty: *const changes.DirtySet, fresh: []const u32, a: std.mem.Allocator) error{OutOfMemory}![]const Item {
    const keys = t.keyList();
    if (!dirty.all and dirty.words.len == 0) {
        var items: std.ArrayList(Item) = .empty;
        try items.ensureTotalCapacityPrecise(a, dirty.list.items.len);
        for (dirty.list.items) |row| {
            if (row >= t.rows or isAmong(fresh, row)) continue;
            items.appendAssumeCapacity(.{ .index = @truncate(keys[row]), .row = row });
        }
        return unique(items.items);
    }
    const bitmap = try a.alloc(u64, (@as(usize, t.rows) + 63) / 64);
    @memset(bitmap, 0);
    dirty.orInto(bitmap, t.rows);
    for (fresh) |row| bitmap[row / 64] &= ~(@as(u64, 1) << @intCast(row & 63));
    return (try section.inOrder(a, keys, t.index.pages.items, bitmap)).items;
}

fn isAmong(rows: []const u32, row: u32) bool {
    var low: usize = 0;
    var high = rows.len;
    while (low < high) {
        const middle = low + (high - low) / 2;
        if (rows[middle] < row) low = middle + 1 else high = middle;
    }
    return low < rows.len and rows[low] == row;
}

fn equal(x: *const changes.DirtySet, y: *const changes.DirtySet) bool {
    return x.all == y.all and std.mem.eql(u64, x.words, y.words) and std.mem.eql(u32, x.list.items, y.list.items);
}

// How large it can get.

/// What a table may add to a body besides its rows, and what a body has in any case.
fn frameBytes(head: *const Head) u64 {
    var bytes: u64 = length_bytes + block.header_bytes + 2;
    for (head.tables) |*table| {
        if (!table.spec.durable) continue;
        bytes += table_bytes + 12 + 1 + 1 + 1 + table.spec.fields.len * (1 + 2 + 1 + 1 + 4);
    }
    return bytes;
}

/// How much the open transaction adds to the body of the open version, at most; with what was undone since the last one
/// was kept. Bounds of one version add up to no less than its body.
pub fn bound(head: *const Head) u64 {
    const lent = lend.changedBytes(head, name_bytes);
    var bytes: u64 = lent + head.undone_bytes;
    if (head.kept_bytes == 0) bytes += frameBytes(head);
    var log = head.log();
    while (log.previous()) |item| bytes += entryBytes(head, &item.entry, item.payload, .kept);
    // Without memory for its marks a column says everything.
    for (head.tables, head.noted) |*table, noted| if (noted and table.spec.durable) {
        for (table.columns, table.spec.fields) |*column, *field| {
            if (column.dirty.all) bytes += columnBytes(head, table, field, column, &column.dirty);
        }
    };
    if (head.undone_bytes <= undone_bytes_max) return bytes;
    // What is undone again and again has left its marks once.
    return @min(bytes, (markedAll(head) + lent) -| head.kept_bytes);
}

/// Up to here it is cheaper to reserve what was undone than to look for what it left.
const undone_bytes_max = 64 << 10;

/// The open version's body at most, from its marks.
pub fn markedAll(head: *const Head) u64 {
    var bytes = frameBytes(head);
    for (head.tables, head.noted, head.spaces) |*table, noted, *space| {
        if (noted) bytes += markedBytes(head, table);
        bytes += space.spent.items.len * 8;
    }
    return bytes;
}

/// The open marks of a table in a body, at most.
pub fn markedBytes(head: *const Head, table: *const Table) u64 {
    if (!table.spec.durable) return 0;
    var bytes: u64 = table.removed.items.len * name_bytes + table.inserted.items.len * (name_bytes + 4);
    for (table.columns, table.spec.fields) |*column, *field| bytes += columnBytes(head, table, field, column, &column.dirty);
    return bytes;
}

fn columnBytes(
    head: *const Head,
    table: *const Table,
    field: *const catalogue.Field,
    column: anytype,
    dirty: *const changes.DirtySet,
) u64 {
    const rows = table.rows;
    if (field.type != .string) return dirty.count(rows) * (name_bytes + field.width);
    var bytes: u64 = 0;
    if (dirty.all) {
        for (0..rows) |row| bytes += name_bytes + textBytes(head, column.cell(@intCast(row)));
        return bytes;
    }
    for (dirty.list.items) |row| if (row < rows) {
        bytes += name_bytes + textBytes(head, column.cell(row));
    };
    for (dirty.words, 0..) |word, w| {
        var left = word;
        while (left != 0) : (left &= left - 1) {
            const row: u32 = @intCast(w * 64 + @ctz(left));
            if (row < rows) bytes += name_bytes + textBytes(head, column.cell(row));
        }
    }
    return bytes;
}

/// What an entry of the undo log adds at most: of a transaction that is to be kept, or right after it was `undone`,
/// which leaves marks. It counts places, as marks do: whatever row is there in the end is what a body says.
pub fn entryBytes(head: *const Head, entry: *const head_file.UndoEntry, payload: []const u8, comptime when: enum { kept, undone }) u64 {
    const t = &head.tables[entry.table];
    if (!t.spec.durable) return 0;
    switch (entry.kind) {
        .write => {
            if (entry.row >= t.rows) return 0;
            return name_bytes + cellBytes(head, t, entry.field, entry.row);
        },
        .cells => {
            const n: u64 = entry.row;
            const field = &t.spec.fields[entry.field];
            if (field.type != .string) return n * (name_bytes + field.width);
            var bytes: u64 = 0;
            for (0..entry.row) |i| {
                const row = std.mem.readInt(u32, payload[i * 4 ..][0..4], .little);
                if (row < t.rows) bytes += name_bytes + cellBytes(head, t, entry.field, row);
            }
            return bytes;
        },
        // Undone, they are gone from the end of the table and from its list.
        .insert => return if (when == .undone) 0 else rowBytes(head, t, entry.row),
        .insert_many => {
            if (when == .undone) return 0;
            if (!t.spec.has_texts) return @as(u64, entry.row) * fixedBytes(t);
            var bytes: u64 = 0;
            for (@intCast(entry.key)..@intCast(entry.key + entry.row)) |row| bytes += rowBytes(head, t, @intCast(row));
            return bytes;
        },
        // The last row is in its place, and if it is undone, at the end again.
        .remove => {
            const moved = rowBytes(head, t, entry.row);
            return name_bytes + moved + if (when == .undone) rowBytes(head, t, t.rows - 1) else 0;
        },
        .swap => return rowBytes(head, t, entry.row) + rowBytes(head, t, @intCast(entry.key)),
        .reserve => return payload.len,
        // A key that is taken in or freed comes or goes with its row; of what is lent the differences count.
        .release, .occupy, .occupy_many, .lent, .members => return 0,
    }
}

/// A whole row, whether it is inserted or each of its columns names it.
fn rowBytes(head: *const Head, t: *const Table, row: u32) u64 {
    if (row >= t.rows) return 0;
    if (!t.spec.has_texts) return fixedBytes(t);
    var bytes: u64 = name_bytes + 4;
    for (0..t.columns.len) |f| bytes += name_bytes + cellBytes(head, t, f, row);
    return bytes;
}

fn fixedBytes(t: *const Table) u64 {
    var bytes: u64 = name_bytes + 4;
    for (t.columns) |*column| bytes += name_bytes + column.width;
    return bytes;
}

fn cellBytes(head: *const Head, t: *const Table, f: usize, row: u32) u64 {
    const field = &t.spec.fields[f];
    if (field.type != .string) return field.width;
    return textBytes(head, t.columns[f].cell(row));
}

fn textBytes(head: *const Head, cell: []const u8) u64 {
    return text_length_bytes + head.heap.get(std.mem.readInt(u64, cell[0..8], .little)).len;
}

// Reading.

/// Take in the body of a version, which follows the store's own. Its bytes come from a disk: it is taken in whole, or
/// refused with nothing changed. But for a snapshot that was loaded nothing is published until `finish`; until then keys
/// are not handed out.
///
/// Errors: `StaleVersion` and `BaseAhead` where it is not the next version; `BadBlock` with offset and reason in the
/// head's `info` where it is no body of this catalogue, and whatever a transaction that breaks a rule is refused with.
pub fn replay(store: *Store, version: u64, tick: u64, body: []const u8) failure.Error!void {
    try store.needBaton();
    const head = &store.head;
    head.info = .{};
    if (head.in_transaction) return error.InTransaction;
    if (version <= store.version) return error.StaleVersion;
    if (version != store.version + 1) return error.BaseAhead;
    try showLoaded(store);
    const was_replica = head.replica;
    head.replica = true;
    errdefer head.replica = was_replica;
    defer _ = store.scratch.reset(.{ .retain_with_limit = limits.scratch_bytes_kept });
    try takeIn(store, body);
    for (head.tables) |*table| if (forgetHistory(table)) {
        store.views.floor = version;
    };
    if (head.freed) for (head.spaces) |*space| space.cut(true);
    head.freed = false;
    head.pending = false;
    store.version = version;
    store.tick = tick;
    store.behind = true;
    store.transactions += 1;
    sweep.tidy(head, &store.views);
}

fn takeIn(store: *Store, body: []const u8) failure.Error!void {
    const head = &store.head;
    var reader: block.Reader = .{ .bytes = body };
    const bytes = blockOf(&reader) catch return refuse(head, &reader, 0xffff);
    try head.begin();
    for (head.tables) |*table| table.auto_told = table.auto;
    errdefer {
        head.rollback();
        // Undoing a row does not take back its number.
        for (head.tables) |*table| table.auto = table.auto_told;
        sweep.tidy(head, &store.views);
    }
    try apply.applyLogged(head, store.scratch.allocator(), bytes);
    try head.checkDeferred();
    // Looked at before they are taken in: a key that is spent cannot be undone.
    const keys_at = reader.at;
    try readKeys(head, &reader, .check);
    head.keep();
    reader.at = keys_at;
    readKeys(head, &reader, .take) catch unreachable;
}

fn blockOf(reader: *block.Reader) error{BadBlock}![]const u8 {
    const length = try reader.int(u32);
    return reader.take(length);
}

fn refuse(head: *Head, reader: *const block.Reader, table: u16) error{BadBlock} {
    head.info = .{ .offset = reader.at, .reason = @intFromEnum(reader.reason), .table = table };
    return error.BadBlock;
}

const Pass = enum { check, take };

/// The tables behind the block.
fn readKeys(head: *Head, reader: *block.Reader, comptime pass: Pass) failure.Error!void {
    var table_id: u16 = 0xffff;
    readTables(head, reader, pass, &table_id) catch |err| switch (err) {
        error.BadBlock => return refuse(head, reader, table_id),
        else => return err,
    };
}

fn readTables(head: *Head, r: *block.Reader, comptime pass: Pass, table_id: *u16) error{ BadBlock, OutOfMemory }!void {
    const tables = try r.int(u16);
    var before: i32 = -1;
    for (0..tables) |_| {
        table_id.* = try r.int(u16);
        if (table_id.* <= before) return r.fail(.table_order);
        before = table_id.*;
        const number = head.catalogue.tableIndex(table_id.*) orelse return r.fail(.table_unknown);
        const table = &head.tables[number];
        if (!table.spec.durable) return r.fail(.table_unknown);
        if (try r.int(u16) != 0) return r.fail(.encoding);
        const auto = try r.int(u64);
        // A counter is above every value its field ever held.
        if (auto < table.auto or (!table.has_auto and auto != 0)) return r.fail(.count);
        const n = try r.int(u32);
        if (n > 0 and table.spec.kind == .component) return r.fail(.count);
        if (@as(u64, n) * 8 > r.bytes.len - r.at) return r.fail(.truncated);
        var last: i64 = -1;
        for (0..n) |_| {
            const key = entity.Key.of(try r.int(u64));
            if (key.index <= last or key.index >= table.space.limit) return r.fail(.names);
            last = key.index;
            if (key.generation == 0 or key.generation > std.math.maxInt(u31)) return r.fail(.generation);
            const places = &table.space.places;
            if (pass == .take) {
                const taken = table.space.spend(key.bits());
                assert(taken);
                continue;
            }
            if (key.index >= places.items.len) try places.appendNTimes(head.gpa, .{}, key.index + 1 - places.items.len);
            const place = places.items[key.index];
            if (place.alive or place.generation > key.generation) return r.fail(.generation);
        }
        if (pass == .take) table.auto = auto;
    }
    if (r.at != r.bytes.len) return r.fail(.trailing);
}

/// The first version of the log follows a snapshot: publish that by itself, so that the log's are one change set since,
/// from which deltas can be cut for those who have seen some of them.
fn showLoaded(store: *Store) failure.Error!void {
    if (store.version == 0 or store.views.floor != store.version or store.publishedVersion() > 0) return;
    try store.catchUp();
}

/// A long log shall not keep lists of what came and went meanwhile. What is left is what there is, and nobody can be told
/// any more what has gone before: true is said then.
fn forgetHistory(table: *Table) bool {
    if (table.removed.items.len + table.inserted.items.len < history_keys_max + 2 * @as(usize, table.rows)) return false;
    table.removed.items.len = 0;
    // There is room: it was longer, or the removed were many and these few.
    if (table.inserted.capacity < table.rows) return true;
    table.inserted.items.len = 0;
    table.inserted.appendSliceAssumeCapacity(table.keyList());
    return true;
}

const history_keys_max = 1 << 16;

/// The end of a replay, and the begin of a log: the store hands out keys from now on, what was taken in is published as
/// the version it is, and what each version changes is written down. On a store that has published its empty world.
/// On failure it is to be destroyed.
pub fn finish(store: *Store) failure.Error!void {
    try store.needBaton();
    const head = &store.head;
    if (head.in_transaction or !store.views.published) return error.BadArgument;
    for (head.tables, head.spaces) |*table, *space| {
        if (table.spec.kind == .component) continue;
        // A key is alive by its row: one that was reserved, and its row never came, is spent.
        for (space.places.items, 0..) |*place, index| place.alive = place.alive and table.findIndex(@intCast(index)) != null;
        try space.settle(head.gpa);
        space.logged = table.spec.durable;
    }
    head.replica = false;
    head.logged = true;
    head.endVersion();
    store.durable_version = store.version;
    if (store.publishedVersion() == store.version) return;
    store.behind = true;
    try store.catchUp();
}
