//! The operation buffer: how a foreign caller hands over point writes without one call per field.
//!
//! Operations follow one another without padding, little-endian, and run in order, all or none:
//!
//!     u8 kind | u8 zero | u16 table id | u32 bytes of the whole operation | u64 key
//!     [kind is not delete] u16 fields | u16 field id * fields | cell * fields, each as wide as its field
//!
//! The cell of a `string[N]` is u32 length | N bytes, which begin with that much UTF-8: it is as wide as any other of its
//! field, and may be written down where there is no heap to ask, on any thread.
//!
//! In place of cells an `add` has amounts, 8 bytes each: i64 for a field of integers, f64 for one of floats. It is how an
//! order that nobody can read beforehand changes a number by what it is then.
//!
//! Kinds: spawn hands out a key (of entities, or of a table with keys of its own) and inserts its
//! row; insert with key 0 means the key that the newest spawn of this buffer handed out.

const std = @import("std");
const catalogue = @import("catalogue.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const memory = @import("memory.zig");
const abi = @import("abi.zig");
const head_file = @import("head.zig");
const Head = head_file.Head;
const Strided = head_file.Strided;
const Heap = @import("heap.zig").Heap;

pub const Kind = enum(u8) { spawn = 1, insert, update, delete, add };

const header_bytes = 16;
const amount_bytes = 8;

pub fn run(head: *Head, bytes: []const u8, key_out: *u64) failure.Error!void {
    const from = head.mark();
    errdefer head.undoTo(from);
    var at: usize = 0;
    while (at < bytes.len) {
        errdefer head.info.offset = at;
        const length = lengthAt(bytes[at..]) orelse return error.BadArgument;
        const header = bytes[at..][0..header_bytes];
        try one(head, header, bytes[at + header_bytes .. at + length], key_out);
        at += length;
    }
}

/// How long the first operation is; null where these bytes begin with none.
pub fn lengthAt(bytes: []const u8) ?usize {
    if (bytes.len < header_bytes) return null;
    const length = std.mem.readInt(u32, bytes[4..8], .little);
    return if (length < header_bytes or length > bytes.len) null else length;
}

fn one(head: *Head, header: *const [header_bytes]u8, after: []const u8, key_out: *u64) failure.Error!void {
    const table = try head.tableIndex(std.mem.readInt(u16, header[2..4], .little));
    var key = std.mem.readInt(u64, header[8..16], .little);
    if (header[0] == 0 or header[0] > @intFromEnum(Kind.add)) return error.BadArgument;
    const kind: Kind = @enumFromInt(header[0]);
    if (kind == .update or kind == .delete or kind == .add) try head.demandLasting(table, key);
    if (kind == .delete) return head.delete(table, key);
    if (after.len < 2) return error.BadArgument;
    const fields = std.mem.readInt(u16, after[0..2], .little);
    if (kind == .add) return add(head, table, key, after[2..], fields);
    const cells = Cells.init(head, table, after[2..], fields) orelse return error.BadArgument;
    if (kind == .update) return update(head, table, key, cells);
    if (kind == .spawn) {
        var fresh: [1]u64 = undefined;
        try head.reserve(table, 1, &fresh);
        key = fresh[0];
        key_out.* = key;
    } else if (key == 0) key = key_out.*;
    try insert(head, table, key, cells);
}

/// Change some cells of one row.
pub fn update(head: *Head, table: u16, key: u64, cells: Cells) failure.Error!void {
    const row = try head.rowOf(table, key);
    // All cells are checked before the first is written, so the operation is whole.
    var checked = cells;
    while (try checked.next()) |cell| try head.checkCell(table, cell.field, key, cell.bytes);
    var written = cells;
    while (try written.next()) |cell| {
        const lent = head.tables[table].columns[cell.field].scratch.lent;
        if (lent) {
            try head.writeLent(table, row, cell.field, cell.bytes);
        } else try head.writeCell(table, row, cell.field, key, cell.bytes);
    }
}

/// Add amounts to numbers of one row. An integer that would leave its type is refused as one out of range; `Info.reason` is
/// 1 then, and `found` an i64 whatever the type, since it may be below zero. Half done when it fails: the caller undoes it.
fn add(head: *Head, table: u16, key: u64, rest: []const u8, fields: usize) failure.Error!void {
    if (rest.len != fields * (2 + amount_bytes)) return error.BadArgument;
    const row = try head.rowOf(table, key);
    for (0..fields) |i| {
        const field = try head.fieldIndex(table, std.mem.readInt(u16, rest[i * 2 ..][0..2], .little));
        const amount = rest[fields * 2 + i * amount_bytes ..][0..amount_bytes];
        const spec = &head.tables[table].spec.fields[field];
        if (spec.count != 1) return error.BadArgument;
        const column = &head.tables[table].columns[field];
        const lent = column.scratch.lent;
        const now: []const u8 = if (lent) column.lentCell(row) else column.cell(row);
        var sum: [8]u8 = undefined;
        switch (spec.type) {
            .bool, .bytes, .string => return error.BadArgument,
            inline .f32, .f64 => |kind| {
                const T = catalogue.Native(kind);
                const before: T = @bitCast(now[0..@sizeOf(T)].*);
                const more: f64 = @bitCast(amount.*);
                sum[0..@sizeOf(T)].* = @bitCast(@as(T, @floatCast(@as(f64, before) + more)));
            },
            inline else => |kind| {
                const T = catalogue.Native(kind);
                const before: T = @bitCast(now[0..@sizeOf(T)].*);
                const wide = @as(i128, before) + std.mem.readInt(i64, amount, .little);
                const fitting = std.math.cast(T, wide) orelse {
                    const found: i64 = std.math.lossyCast(i64, wide);
                    defer head.info.reason = 1;
                    return head.failCell(@as(failure.Error, error.Range), table, field, key, @bitCast(found), 0);
                };
                sum[0..@sizeOf(T)].* = @bitCast(fitting);
            },
        }
        const cell = sum[0..spec.width];
        try head.checkCell(table, field, key, cell);
        if (lent) try head.writeLent(table, row, field, cell) else try head.writeCell(table, row, field, key, cell);
    }
}

/// Make the row of a living key, of which some cells are given.
pub fn insert(head: *Head, table: u16, key: u64, cells: Cells) failure.Error!void {
    const given = head.given[0..head.tables[table].spec.fields.len];
    @memset(given, null);
    var left = cells;
    while (try left.next()) |cell| given[cell.field] = cell.bytes.ptr;
    try head.insert(table, key, given);
}

pub const Cells = struct {
    head: *Head,
    table: u16,
    ids: []const u8,
    cells: []const u8,
    at: usize = 0,
    next_field: usize = 0,

    const Cell = struct { field: u32, bytes: []const u8 };

    fn init(head: *Head, table: u16, rest: []const u8, fields: usize) ?Cells {
        if (rest.len < fields * 2) return null;
        return .{ .head = head, .table = table, .ids = rest[0 .. fields * 2], .cells = rest[fields * 2 ..] };
    }

    fn next(cells: *Cells) failure.Error!?Cell {
        if (cells.next_field * 2 == cells.ids.len) return null;
        const id = std.mem.readInt(u16, cells.ids[cells.next_field * 2 ..][0..2], .little);
        const field = try cells.head.fieldIndex(cells.table, id);
        defer cells.next_field += 1;
        const spec = &cells.head.tables[cells.table].spec.fields[field];
        if (spec.type == .string) return .{ .field = field, .bytes = try cells.text(field, spec) };
        const width = spec.width;
        if (cells.cells.len - cells.at < width) return error.BadArgument;
        defer cells.at += width;
        return .{ .field = field, .bytes = cells.cells[cells.at..][0..width] };
    }

    /// A string's cell is its reference: made here, and kept with the head until the operation is done.
    fn text(cells: *Cells, field: u32, spec: *const catalogue.Field) failure.Error![]const u8 {
        const left = cells.cells[cells.at..];
        if (left.len < 4 + spec.count) return error.BadArgument;
        const length = std.mem.readInt(u32, left[0..4], .little);
        if (length > spec.count or !Heap.fit(left[4..][0..length]))
            return cells.head.failCell(error.Text, cells.table, field, 0, length, spec.count);
        const reference = &cells.head.texts[field];
        reference.* = try cells.head.heap.intern(left[4..][0..length]);
        cells.at += 4 + spec.count;
        return std.mem.asBytes(reference);
    }
};

/// Change some fields of many rows. All or none.
pub fn updateMany(head: *Head, table_id: u16, keys: []const u64, columns: []const abi.ColumnIn) failure.Error!void {
    return updateStrided(head, table_id, keys.len, .{ .base = @ptrCast(keys.ptr), .stride = 8 }, columns);
}

/// The same for keys that lie `keys.stride` bytes apart.
pub fn updateStrided(
    head: *Head,
    table_id: u16,
    n: usize,
    keys: Strided,
    columns: []const abi.ColumnIn,
) failure.Error!void {
    if (!head.in_transaction) return error.NoTransaction;
    const table = try head.tableIndex(table_id);
    const t = &head.tables[table];
    const from = head.mark();
    errdefer head.undoTo(from);
    if (n > limits.rows_max) return error.Limit;
    try head.demandLasting(table, 0);
    const rows = try memory.take(u32, .of(u32), head.gpa, n);
    defer memory.give(u32, .of(u32), head.gpa, rows);
    for (rows, 0..) |*row, i| {
        errdefer head.info.offset = i;
        row.* = try head.rowOf(table, keyAt(keys, i));
    }
    for (columns) |column| {
        const field = try head.fieldIndex(table, column.field);
        const spec = &t.spec.fields[field];
        const cells = try abi.strided(column, n);
        if (spec.constrained()) for (0..if (column.stride == 0) @min(1, n) else n) |i| {
            errdefer head.info.offset = i;
            try head.checkCell(table, field, keyAt(keys, i), cells.at(i)[0..spec.width]);
        };
        if (t.columns[field].scratch.lent) continue;
        if (!spec.indexed()) {
            _ = try head.writeCells(table, field, rows, cells.base, cells.stride);
        } else for (rows, 0..) |row, i| {
            try head.writeCell(table, row, field, keyAt(keys, i), cells.at(i)[0..spec.width]);
        }
    }
    // Lent columns last: nothing can fail any more, so their cells need no undoing.
    for (columns) |column| {
        const field = t.spec.fieldIndex(column.field).?;
        const scratch = &t.columns[field].scratch;
        if (!scratch.lent) continue;
        const cells = abi.strided(column, n) catch unreachable;
        const width = t.spec.fields[field].width;
        for (rows, 0..) |row, i| @memcpy(t.columns[field].lentCell(row), cells.at(i)[0..width]);
    }
}

fn keyAt(keys: Strided, i: usize) u64 {
    return std.mem.readInt(u64, keys.at(i)[0..8], .little);
}

/// Delete many rows, or despawn many entities. All or none.
pub fn deleteMany(head: *Head, table_id: u16, keys: []const u64) failure.Error!void {
    if (!head.in_transaction) return error.NoTransaction;
    const table = try head.tableIndex(table_id);
    try head.demandLasting(table, 0);
    const from = head.mark();
    errdefer head.undoTo(from);
    // From the end: keys mostly come in the order of their rows and indices, and then no row moves and
    // nothing shifts in a page of the sparse index.
    var i = keys.len;
    while (i > 0) {
        i -= 1;
        errdefer head.info.offset = i;
        try head.delete(table, keys[i]);
    }
}
