//! Prepared writes: what to write is described once, and then each call says which rows and what cells.
//!
//! The description and the records are the caller's memory, and stay it. A record is
//!
//!     u64 key | cell * fields, each as in the operation buffer, without padding
//!
//! and one record follows another after `stride` bytes. The description names its store, so that a call takes one
//! argument: to a caller through ctypes an argument costs as much as the write itself.

const std = @import("std");
const abi = @import("abi.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const operations = @import("operations.zig");
const head_file = @import("head.zig");
const Head = head_file.Head;

pub const Kind = enum(u8) { insert = 2, update = 3, delete = 4, read = 5 };

pub const PreparedIn = extern struct {
    /// Address of the store.
    store: u64,
    /// Address of the first record.
    records: u64,
    /// Address of `fields` u16 ids.
    ids: u64,
    count: u32,
    stride: u32,
    table: u16,
    fields: u16,
    kind: u8,
    reserved: [3]u8 = @splat(0),
};

const key_bytes = 8;

/// From so many rows on, going column by column pays for finding all rows first.
const columnwise_rows = 4;

/// Do it for every record, all or none. `read` fills the cells of the records in; strings are not read this way.
pub fn run(head: *Head, in: *const PreparedIn, records: []u8, ids: []const u8) failure.Error!void {
    if (!head.in_transaction) return error.NoTransaction;
    const table = try head.tableIndex(in.table);
    const kind = std.enums.fromInt(Kind, in.kind) orelse return error.BadArgument;
    if (in.stride < key_bytes) return error.BadArgument;
    if (kind == .update and in.count >= columnwise_rows and in.fields <= limits.fields_max) {
        var columns: [limits.fields_max]abi.ColumnIn = undefined;
        if (try describe(head, table, in, records, ids, &columns)) |described| {
            const keys: head_file.Strided = .{ .base = records.ptr, .stride = in.stride };
            return operations.updateStrided(head, in.table, in.count, keys, described);
        }
    }
    if (kind == .update or kind == .delete) try head.demandLasting(table, 0);
    const from = head.mark();
    errdefer head.undoTo(from);
    for (0..in.count) |i| {
        errdefer head.info.offset = i;
        const record = records[i * in.stride ..][0..in.stride];
        const key = std.mem.readInt(u64, record[0..key_bytes], .little);
        const cells: operations.Cells = .{ .head = head, .table = table, .ids = ids, .cells = record[key_bytes..] };
        switch (kind) {
            .insert => try operations.insert(head, table, key, cells),
            .update => try operations.update(head, table, key, cells),
            .delete => try head.delete(table, key),
            .read => try read(head, table, key, ids, record[key_bytes..]),
        }
    }
}

/// The records as columns; null where they are not laid out as columns are, or an index must follow each cell.
fn describe(
    head: *Head,
    table: u16,
    in: *const PreparedIn,
    records: []u8,
    ids: []const u8,
    columns: *[limits.fields_max]abi.ColumnIn,
) failure.Error!?[]const abi.ColumnIn {
    var at: usize = key_bytes;
    for (columns[0..in.fields], 0..) |*column, i| {
        const id = std.mem.readInt(u16, ids[i * 2 ..][0..2], .little);
        const spec = &head.tables[table].spec.fields[try head.fieldIndex(table, id)];
        if (spec.type == .string or spec.indexed()) return null;
        if (at + spec.width > in.stride) return error.BadArgument;
        column.* = .{ .cells = @intFromPtr(records.ptr) + at, .stride = in.stride, .field = id };
        at += spec.width;
    }
    return columns[0..in.fields];
}

fn read(head: *Head, table: u16, key: u64, ids: []const u8, into: []u8) failure.Error!void {
    const row = try head.rowOf(table, key);
    var at: usize = 0;
    var i: usize = 0;
    while (i < ids.len) : (i += 2) {
        const field = try head.fieldIndex(table, std.mem.readInt(u16, ids[i..][0..2], .little));
        const column = &head.tables[table].columns[field];
        if (at + column.width > into.len) return error.BadArgument;
        const cell = if (column.scratch.lent) column.lentCell(row) else column.cell(row);
        @memcpy(into[at..][0..column.width], cell);
        at += column.width;
    }
}
