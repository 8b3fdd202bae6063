//! What of a table's rows a chunk has room for, by a budget of bytes: reckoned with what a row may need at worst.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const view = @import("view.zig");
const Heap = @import("heap.zig").Heap;
const Item = block.Item;

/// What one list of a table's rows may weigh, so that all lists together keep the budget.
pub const Room = struct {
    bytes: u64,
    /// Of any row, and for each byte of its texts.
    row: u64,
    text: u64,
    spec: *const catalogue.Table,
    heap: *const Heap,
    table: *const view.TableView,

    pub fn of(spec: *const catalogue.Table, heap: *const Heap, in: *const view.TableView, base: u64, left: u32) Room {
        // An inserted row is its cells, a generation and a few bits of its name: `row` is above that.
        var row: u64 = 8;
        var strings: u64 = 0;
        for (spec.visible()) |*field| {
            if (field.type == .string) strings += 1 else row += field.width;
        }
        row += 2 * strings; // LEB128 of a length
        // Of changed rows each column may name its own, so their lists are cut at half. Columns of strings are
        // another third, and share that: what is long in one may be short in the next.
        const lists: u64 = if (base == 0) 1 else if (strings == 0) 2 else 3;
        return .{
            .bytes = if (left == 0) std.math.maxInt(u64) else left,
            .row = row * lists,
            .text = if (strings == 0 or left == 0) 0 else if (base == 0) 1 else lists * strings,
            .spec = spec,
            .heap = heap,
            .table = in,
        };
    }

    /// For rows that are named only.
    pub fn withoutTexts(room: Room) Room {
        var bare = room;
        bare.text = 0;
        return bare;
    }

    pub fn needs(room: *const Room, row: u32) u64 {
        if (room.text == 0) return room.row;
        var bytes: u64 = 0;
        for (room.spec.visible(), room.table.columns[0..room.spec.shown]) |*field, buffer| {
            if (field.type != .string) continue;
            bytes += room.heap.get(@as([*]const u64, @ptrCast(buffer.data.ptr))[row]).len;
        }
        return room.row + room.text * bytes;
    }

    /// How many rows there is room for, where texts do not matter: one at least.
    pub fn rowsMax(room: *const Room) u64 {
        assert(room.text == 0);
        return @max(1, room.bytes / room.row);
    }

    /// How many of the first items there is room for: one at least.
    fn rows(room: *const Room, items: []const Item) usize {
        if (room.text == 0) return @intCast(@min(items.len, room.rowsMax()));
        var used: u64 = 0;
        for (items, 0..) |item, n| {
            used += room.needs(item.row);
            if (used > room.bytes and n > 0) return n;
        }
        return items.len;
    }
};

/// Keep the items from `from` on for which there is room, pulling `end` in to where they stop.
pub fn clip(list: *[]const Item, from: u32, room: Room, end: *u64) void {
    if (from == 0 and room.bytes == std.math.maxInt(u64)) return;
    var items = list.*;
    while (items.len > 0 and items[0].index < from) items = items[1..];
    const rows_max = room.rows(items);
    if (items.len > rows_max) {
        end.* = @min(end.*, items[rows_max].index);
        items = items[0..rows_max];
    }
    list.* = items;
}

pub fn below(items: []const Item, end: u64) []const Item {
    var n = items.len;
    while (n > 0 and items[n - 1].index >= end) n -= 1;
    return items[0..n];
}
