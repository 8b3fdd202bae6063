//! Lending: a system gets whole columns as writable memory, and commit finds out what it changed.
//!
//! What is lent is a scratch copy, caught up from the head. Settling compares it with the head bit by
//! bit (NaN and −0.0 are what their bits are), checks the changed cells, and only then applies them
//! like any operation. A transaction that fails is rolled back by not applying.
//!
//! Invariant: while a column is lent, no row of its table comes, goes or moves. The transaction layer
//! queues structural operations until the columns are settled; settling refuses what broke it.

const std = @import("std");
const assert = std.debug.assert;
const changes = @import("changes.zig");
const column = @import("column.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const Column = column.Column;
const Head = @import("head.zig").Head;
const Views = @import("view.zig").Views;

/// Lend a whole column. The memory is valid until the store closes or the scratch is orphaned.
pub fn lend(head: *Head, views: *const Views, table: u16, field: u32) failure.Error!*Column {
    const t = &head.tables[table];
    const col = &t.columns[field];
    const scratch = &col.scratch;
    const spec = &t.spec.fields[field];
    if (spec.indexed() or spec.type == .string or t.spec.kind == .event or t.spec.lww_key != null)
        return head.failCell(error.ReadOnly, table, field, 0, 0, 0);
    if (scratch.lent) return col;
    const bytes = @max(@as(usize, t.rows) * col.width, 64);
    if (scratch.data.len < bytes) {
        const fresh = try column.take(head.gpa, @max(bytes, col.head.len));
        column.give(head.gpa, scratch.data);
        scratch.* = .{ .data = fresh };
    }
    if (scratch.writes != col.writes) {
        var room: [limits.ring_cuts_max + 1]*const changes.DirtySet = undefined;
        const sets = if (scratch.writes == 0)
            null
        else
            views.setsSince(table, field, &.{ &col.dirty, &col.aside }, scratch.cut - 1, &room);
        if (sets) |s| col.catchUp(scratch.data, t.rows, s) else col.copyAll(scratch.data, t.rows);
        scratch.writes = col.writes;
        scratch.cut = head.open;
    }
    scratch.lent = true;
    scratch.struct_seq = t.struct_seq;
    head.lent += 1;
    return col;
}

/// Give the scratch of a column away: somebody still holds the array. The caller owns the memory.
pub fn orphan(head: *Head, table: u16, field: u32) column.Memory {
    const scratch = &head.tables[table].columns[field].scratch;
    assert(!scratch.lent);
    const memory = scratch.data;
    scratch.* = .{};
    return memory;
}

/// Take back what was lent without looking at it: the transaction failed.
pub fn discard(head: *Head) void {
    if (head.lent == 0) return;
    head.lent = 0;
    for (head.tables) |*t| for (t.columns) |*col| {
        const scratch = &col.scratch;
        // What a failed system wrote is anywhere in the copy, so none of it can be trusted.
        if (scratch.lent) scratch.writes = 0;
        scratch.lent = false;
    };
}

/// Apply every lent column, or refuse the first broken cell with nothing applied. With `undoable`
/// the old cells are kept, since something that comes after in the transaction may still fail.
pub fn settle(head: *Head, undoable: bool) failure.Error!void {
    // Most transactions of a tick are commands, and lend nothing: they do not pay for all columns.
    if (head.lent == 0) return;
    // Rows that came, went or moved meanwhile would get each other's cells, or be read beyond the copy.
    for (head.tables, 0..) |*t, i| for (t.columns, 0..) |*col, f| {
        if (col.scratch.lent and col.scratch.struct_seq != t.struct_seq)
            return head.failCell(error.BadArgument, @intCast(i), f, 0, 0, 0);
    };
    for (head.tables, 0..) |*t, i| for (t.columns, 0..) |*col, f| {
        if (col.scratch.lent and t.spec.fields[f].constrained())
            try check(head, @intCast(i), f);
    };
    // Memory first, so that applying cannot fail in the middle.
    // Who follows a table's changes finds them in the log, so there old cells are kept in any case.
    for (head.tables, 0..) |*t, i| if (undoable or t.namesRows()) for (t.columns, 0..) |*col, f| {
        if (col.scratch.lent) try save(head, @intCast(i), f);
    };
    for (head.tables) |*t| for (t.columns, t.spec.fields) |*col, *field| {
        const scratch = &col.scratch;
        if (scratch.lent) {
            t.note();
            if (apply(head.gpa, col, t.rows)) {
                col.writes += 1;
                head.applied = true;
                if (field.auto) for (0..t.rows) |row| Head.noteAuto(t, @intCast(row));
            }
            scratch.writes = col.writes;
            scratch.cut = head.open;
        }
        scratch.lent = false;
    };
    head.lent = 0;
}

/// How many cells of lent columns differ, each at the bytes that naming and saying it takes in the log.
pub fn changedBytes(head: *const Head, name_bytes: u64) u64 {
    if (head.lent == 0) return 0;
    var bytes: u64 = 0;
    for (head.tables) |*t| if (t.spec.durable) for (t.columns) |*col| {
        // Of what rows moved under, settling refuses all.
        if (!col.scratch.lent or col.scratch.struct_seq != t.struct_seq) continue;
        const cells = switch (col.width) {
            inline 1, 2, 4, 8 => |width| countWidth(std.meta.Int(.unsigned, width * 8), col, t.rows),
            else => countAny(col, t.rows),
        };
        bytes += cells * (name_bytes + col.width);
    };
    return bytes;
}

fn countWidth(comptime T: type, col: *const Column, rows: u32) u64 {
    const head = @as([*]const T, @ptrCast(@alignCast(col.head.ptr)))[0..rows];
    const scratch = @as([*]const T, @ptrCast(@alignCast(col.scratch.data.ptr)))[0..rows];
    var n: u64 = 0;
    const full = rows / 64;
    for (0..full) |w| {
        const a: @Vector(64, T) = scratch[w * 64 ..][0..64].*;
        const b: @Vector(64, T) = head[w * 64 ..][0..64].*;
        n += @popCount(@as(u64, @bitCast(a != b)));
    }
    for (full * 64..rows) |row| n += @intFromBool(scratch[row] != head[row]);
    return n;
}

fn countAny(col: *const Column, rows: u32) u64 {
    var n: u64 = 0;
    for (0..(rows + 63) / 64) |w| n += @popCount(differ(col, w, rows));
    return n;
}

fn save(head: *Head, table: u16, field: usize) error{OutOfMemory}!void {
    const t = &head.tables[table];
    const col = &t.columns[field];
    const words = (t.rows + 63) / 64;
    const bitmap = try head.gpa.alloc(u64, words);
    defer head.gpa.free(bitmap);
    for (bitmap, 0..) |*word, w| word.* = differ(col, w, t.rows);
    try head.saveCells(table, field, bitmap);
}

fn check(head: *Head, table: u16, field: usize) Head.CellError!void {
    const t = &head.tables[table];
    const col = &t.columns[field];
    for (0..(t.rows + 63) / 64) |w| {
        var bits = differ(col, w, t.rows);
        while (bits != 0) : (bits &= bits - 1) {
            const row = w * 64 + @ctz(bits);
            const cell = col.scratch.data[row * col.width ..][0..col.width];
            try head.checkCell(table, field, t.keyAt(@intCast(row)), cell);
        }
    }
}

fn apply(gpa: std.mem.Allocator, col: *Column, rows: u32) bool {
    return switch (col.width) {
        1 => applyWidth(u8, gpa, col, rows),
        2 => applyWidth(u16, gpa, col, rows),
        4 => applyWidth(u32, gpa, col, rows),
        8 => applyWidth(u64, gpa, col, rows),
        else => applyAny(gpa, col, rows),
    };
}

/// Compare 64 cells at a time; copy the whole run where all differ, which is what a system that
/// moves everything makes.
fn applyWidth(comptime T: type, gpa: std.mem.Allocator, col: *Column, rows: u32) bool {
    // Proven in bounds: both memories hold `rows` cells, `w * 64 + 64 <= rows` in the full loop.
    @setRuntimeSafety(false);
    const head = @as([*]T, @ptrCast(@alignCast(col.head.ptr)))[0..rows];
    const scratch = @as([*]const T, @ptrCast(@alignCast(col.scratch.data.ptr)))[0..rows];
    var any = false;
    const full = rows / 64;
    for (0..full) |w| {
        const a: @Vector(64, T) = scratch[w * 64 ..][0..64].*;
        const b: @Vector(64, T) = head[w * 64 ..][0..64].*;
        const bits: u64 = @bitCast(a != b);
        if (bits == 0) continue;
        any = true;
        // Equal cells are written again with their own bits: cheaper than picking.
        head[w * 64 ..][0..64].* = a;
        col.dirty.markWord(gpa, w, bits, rows);
    }
    var bits: u64 = 0;
    for (full * 64..rows) |row| {
        if (scratch[row] == head[row]) continue;
        head[row] = scratch[row];
        bits |= @as(u64, 1) << @intCast(row & 63);
    }
    if (bits != 0) col.dirty.markWord(gpa, full, bits, rows);
    return any or bits != 0;
}

fn applyAny(gpa: std.mem.Allocator, col: *Column, rows: u32) bool {
    var any = false;
    for (0..(rows + 63) / 64) |w| {
        const bits = differ(col, w, rows);
        var left = bits;
        while (left != 0) : (left &= left - 1) {
            const at = (w * 64 + @ctz(left)) * col.width;
            @memcpy(col.head[at..][0..col.width], col.scratch.data[at..][0..col.width]);
        }
        if (bits != 0) col.dirty.markWord(gpa, w, bits, rows);
        any = any or bits != 0;
    }
    return any;
}

/// Which of the 64 rows of word `w` differ between scratch and head.
fn differ(col: *const Column, w: usize, rows: u32) u64 {
    const first = w * 64;
    const n = @min(64, rows - first);
    const width = col.width;
    const a = col.scratch.data[first * width ..][0 .. n * width];
    const b = col.head[first * width ..][0 .. n * width];
    if (std.mem.eql(u8, a, b)) return 0;
    var bits: u64 = 0;
    for (0..n) |i| {
        const same = std.mem.eql(u8, a[i * width ..][0..width], b[i * width ..][0..width]);
        bits |= @as(u64, @intFromBool(!same)) << @intCast(i);
    }
    return bits;
}
