//! What keeps a text alive, and when the others are forgotten.
//!
//! A text is alive while a cell of the head, a cell of a version that is or may be pinned, or a default refers to it,
//! and while a refusal names it of which somebody has still to be told. Nothing else holds references from one
//! transaction to the next: the undo log is empty between them, and change sets, blocks and indexes name rows, bytes and
//! hashes. Buffers that nobody reads keep stale cells; each is overwritten before it is shown, or equals the head's.
//!
//! Called by the writer between transactions. Readers go on meanwhile: what they have pinned is marked.

const std = @import("std");
const assert = std.debug.assert;
const column = @import("column.zig");
const limits = @import("limits.zig");
const Head = @import("head.zig").Head;
const Views = @import("view.zig").Views;

/// Forget what nobody refers to, when enough was taken to be worth looking.
pub fn tidy(head: *Head, views: *const Views) void {
    if (head.heap.due()) now(head, views);
}

pub fn now(head: *Head, views: *const Views) void {
    assert(!head.in_transaction);
    head.heap.beginMark();
    for (head.tables, 0..) |*table, number| for (table.spec.fields, table.columns, 0..) |*field, *col, f| {
        if (field.type != .string) continue;
        if (field.default) |default| head.heap.mark(&.{std.mem.readInt(u64, default[0..8], .little)});
        head.heap.mark(references(col.head, table.rows));
        markViews(head, views, number, f);
    };
    markFound(head, head.info.found);
    for (head.told.items) |found| markFound(head, found);
    head.heap.sweep();
}

/// What a refusal found is a reference, or some number: one that happens to be a reference keeps a text for nothing.
fn markFound(head: *Head, found: u64) void {
    if (head.heap.valid(found)) head.heap.mark(&.{found});
}

/// The column in every version that is or may be pinned, a buffer that many share once.
fn markViews(head: *Head, views: *const Views, number: usize, field: usize) void {
    var seen: [limits.slots_max]*const column.Buffer = undefined;
    var n: usize = 0;
    var left = views.taken;
    while (left != 0) : (left &= left - 1) {
        const table = views.slots[@ctz(left)].tables[number];
        const buffer = table.columns[field];
        if (std.mem.indexOfScalar(*const column.Buffer, seen[0..n], buffer) != null) continue;
        seen[n] = buffer;
        n += 1;
        head.heap.mark(references(buffer.data, bufferRows(views, number, field, buffer)));
    }
}

/// The rows of a shared buffer: tables of equal cells may differ in length, and the longest counts.
fn bufferRows(views: *const Views, number: usize, field: usize, buffer: *const column.Buffer) u32 {
    var rows: u32 = 0;
    var left = views.taken;
    while (left != 0) : (left &= left - 1) {
        const table = views.slots[@ctz(left)].tables[number];
        if (table.columns[field] == buffer) rows = @max(rows, table.rows);
    }
    return rows;
}

fn references(memory: column.Memory, rows: u32) []const u64 {
    if (rows == 0) return &.{};
    return @as([*]const u64, @ptrCast(memory.ptr))[0..rows];
}
