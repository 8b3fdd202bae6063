//! Event rows: they live in one version, and whoever follows is told each of them once.
//!
//! An event table is a table like any other, with keys of its own; what is different is here. Its rows
//! leave the head when the next transaction after their version begins: outside of any transaction, so
//! that no log undoes it and nobody is told of a removal. A version is made of what was inserted in it
//! and nothing is netted, so rows are told in the order in which they came, across all event tables.
//!
//!     events   u8 version = 1 | u8 zero | u16 tables | u32 bytes that follow | table* | [tables > 1] order
//!     table    u16 table id | u32 rows | cells of every field, by ascending field id
//!     order    (LEB128 place of a table among those above | LEB128 rows)*, until all rows are named
//!
//! Cells are a block's (`block.zig`), those that somebody may not see of encoding 15, without a byte. Tables come by ascending id, their rows as they were inserted.
//!
//! Invariants:
//! - rows of an event table stand in the order of their insertion: nothing but undoing and clearing
//!   ever takes one away, and both go from the end;
//! - `runs` names each row of the head once;
//! - event tables are no part of deltas, digests or applied blocks, and their references hold nobody back: whom a
//!   row names was there when it was inserted, or when its transaction was committed.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const references = @import("references.zig");
const Head = @import("head.zig").Head;
const Meter = @import("encoded.zig").Meter;

pub const version = 1;

/// What somebody may not see: a field of a table by their ids, or with `whole_table` all of it.
pub const Hidden = extern struct { table: u16, field: u16 };
pub const whole_table: u16 = 0xFFFF;

fn isHidden(hidden: []const Hidden, table: u16, field: u16) bool {
    for (hidden) |one| if (one.table == table and one.field == field) return true;
    return false;
}

/// Rows that came one after another in one table, by its place in the catalogue.
const Run = struct { table: u16, rows: u32 };

pub const Order = struct {
    runs: std.ArrayList(Run) = .empty,

    pub fn deinit(order: *Order, gpa: std.mem.Allocator) void {
        order.runs.deinit(gpa);
    }

    /// Make room, so that noting cannot fail.
    pub fn ensure(order: *Order, gpa: std.mem.Allocator) error{OutOfMemory}!void {
        try order.runs.ensureUnusedCapacity(gpa, 1);
    }

    fn note(order: *Order, table: u16, rows: u32) void {
        assert(rows > 0);
        const runs = order.runs.items;
        if (runs.len > 0 and runs[runs.len - 1].table == table) {
            runs[runs.len - 1].rows += rows;
        } else order.runs.appendAssumeCapacity(.{ .table = table, .rows = rows });
    }

    /// Take back the newest `rows`, which are of `table`.
    pub fn undo(order: *Order, table: u16, rows: u32) void {
        const last = &order.runs.items[order.runs.items.len - 1];
        assert(last.table == table and last.rows >= rows);
        last.rows -= rows;
        if (last.rows == 0) order.runs.items.len -= 1;
    }
};

/// The newest `rows` of a table are event rows. Of what `touched` says since their insertion began, it keeps
/// what must still be judged at commit: references to rows that are not there yet. Who is there now may go
/// in the very transaction that tells of it.
pub fn came(head: *Head, table: u16, rows: u32, from: usize) void {
    head.events.note(table, rows);
    const t = &head.tables[table];
    const touched = &head.references.touched;
    var kept = from;
    for (touched.items[from..]) |entry| {
        const field = &t.spec.fields[entry.field];
        const cell = t.columns[entry.field].cell(t.find(entry.key).?);
        if (references.has(head, field.target_table, field.target_field, cell)) continue;
        touched.items[kept] = entry;
        kept += 1;
    }
    touched.items.len = kept;
}

/// Take the event rows of the version that was made out of the head. Where memory fails some are left,
/// and the next call takes those.
pub fn clear(head: *Head) error{OutOfMemory}!void {
    assert(!head.in_transaction and !head.pending);
    if (head.events.runs.items.len == 0) return;
    for (head.tables) |*table| {
        if (table.spec.kind != .event) continue;
        while (table.rows > 0) {
            const row = table.rows - 1;
            const key = table.keyAt(row);
            try table.ensureRemove(row, head.open, &head.retired);
            table.removeRow(row);
            table.space.release(key);
            head.freed = true;
        }
    }
    head.events.runs.items.len = 0;
}

/// What a row may take at worst.
fn rowBytesMax(spec: *const catalogue.Table) u64 {
    var bytes: u64 = 1;
    for (spec.fields) |*field| bytes += if (field.type == .string) field.count + 5 else field.width;
    return bytes;
}

/// The bytes of the event rows of the version that is being made, from the cursor on, into the encoder's memory: about `budget` of
/// them, 0 for all. Nothing when there is no row to tell of. A cursor's table is a run, its index how
/// many rows of that were told before; on failure it is as it was. Of what is `hidden` no cell is written.
pub fn encode(
    head: *const Head,
    encoder: *delta.Encoder,
    cursor: *delta.Cursor,
    budget: u32,
    hidden: []const Hidden,
) error{OutOfMemory}!void {
    encoder.scratch.reset();
    const a = encoder.scratch.allocator();
    encoder.out.items.len = 0;
    // With nothing committed since, what is there was of the version before.
    const runs = if (head.pending) head.events.runs.items else &.{};

    // By table: its first row in this block, and how many.
    const first = try a.alloc(u32, head.tables.len);
    const count = try a.alloc(u32, head.tables.len);
    @memset(first, 0);
    @memset(count, 0);
    var order: std.ArrayList(Run) = .empty;
    const from = cursor.*;
    errdefer cursor.* = from;
    for (runs[0..@min(from.table, runs.len)]) |run| first[run.table] += run.rows;
    var used: u64 = block.header_bytes;
    var rows: u32 = 0;
    cursor.* = .{ .table = @intCast(runs.len), .done = 1 };
    for (runs[@min(from.table, runs.len)..], from.table..) |run, number| {
        const before = if (number == from.table) from.index else 0;
        first[run.table] += before;
        const spec = head.tables[run.table].spec;
        if (!spec.told or isHidden(hidden, spec.id, whole_table)) continue;
        const row_bytes = rowBytesMax(spec);
        const left = run.rows - before;
        const room = if (budget == 0) left else @max(@intFromBool(rows == 0), (budget -| used) / row_bytes);
        const taken: u32 = @intCast(@min(left, room));
        if (taken > 0) {
            count[run.table] += taken;
            rows += taken;
            used += taken * row_bytes;
            const last: ?*Run = if (order.items.len > 0) &order.items[order.items.len - 1] else null;
            if (last != null and last.?.table == run.table) {
                last.?.rows += taken;
            } else try order.append(a, .{ .table = run.table, .rows = taken });
        }
        if (taken < left) {
            cursor.* = .{ .table = @intCast(number), .index = before + taken };
            break;
        }
    }
    cursor.rows = rows;
    if (rows == 0) return;

    const w: block.Writer = .{ .gpa = encoder.gpa, .out = &encoder.out };
    try w.int(u8, version);
    try w.int(u8, 0);
    try w.int(u16, 0);
    try w.int(u32, 0);
    var tables: u16 = 0;
    const place = try a.alloc(u32, head.tables.len);
    for (head.tables, head.encoded.tables, first, count, place) |*table, counts, start, n, *at| {
        if (n == 0) continue;
        at.* = tables;
        tables += 1;
        var meter: Meter = .begin(w, counts);
        try w.int(u16, table.spec.id);
        try w.int(u32, n);
        const items = try a.alloc(block.Item, n);
        for (items, start..) |*item, row| item.* = .{ .index = 0, .row = @intCast(row) };
        for (table.spec.fields, table.columns, 0..) |*field, *column, f| {
            if (isHidden(hidden, table.spec.id, field.id)) {
                try w.int(u8, @intFromEnum(block.Packing.hidden));
                continue;
            }
            try w.int(u8, 0);
            const cells_at = w.out.items.len;
            try w.cells(cells_at - 1, field, &head.heap, column.head, items);
            meter.field(f, cells_at);
        }
        meter.end();
    }
    if (tables > 1) for (order.items) |run| {
        try w.varint(place[run.table]);
        try w.varint(run.rows);
    };
    std.mem.writeInt(u16, encoder.out.items[2..4], tables, .little);
    std.mem.writeInt(u32, encoder.out.items[4..8], @intCast(encoder.out.items.len - block.header_bytes), .little);
}
