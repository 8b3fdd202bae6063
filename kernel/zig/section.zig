//! One table's part of a block (`block.zig`), from lists of rows that somebody has made: of a pinned view for a
//! peer, or of the head for the log.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const encoded = @import("encoded.zig");
const sparse = @import("sparse.zig");
const view = @import("view.zig");
const Heap = @import("heap.zig").Heap;
const Item = block.Item;

/// The rows of one column, by ascending entity index. `same` are those of the column before.
pub const Column = struct { field: u32, items: []const Item, same: bool };

/// What is said of a whole block of the wire: how it is to be written, and what came of it.
pub const Wire = struct {
    /// Somebody will compress it.
    planes: bool = false,
    /// Values in it are relative to the reference.
    relative: bool = false,
};

pub const Section = struct {
    spec: *const catalogue.Table,
    heap: *const Heap,
    /// By row, and the cells of each field that is told of, by row: of all, or of those before the stamps.
    keys: []const u64,
    cells: []const []const u8,
    removed: []const Item,
    inserted: []const Item,
    /// By ascending field; those without rows are passed over.
    columns: []const Column,
    /// How many rows the table has beside those that this block inserts, where it inserts all that there are to insert:
    /// "all" may be said of them then. Null otherwise.
    others: ?usize,
    /// On the wire only. Rows that went out of the reader's sight and may live on.
    left: []const Item = &.{},
    /// Of the inserted those that came into sight, a bit each; null where all are new.
    narrowed: ?[]const u64 = null,
    /// Of the fields those that the reader may not see, a bit each; none beyond its end. They are in no column.
    hidden: []const u64 = &.{},
    /// The table as the reader of the whole block has it: what values may be relative to.
    reference: ?*const view.TableView = null,
    wire: ?*Wire = null,
    /// Where the table's bytes are counted.
    counts: encoded.Counts = &.{},

    pub fn isEmpty(section: *const Section) bool {
        return section.removed.len == 0 and section.left.len == 0 and section.inserted.len == 0 and section.named() == 0;
    }

    pub fn named(section: *const Section) u16 {
        var count: u16 = 0;
        for (section.columns) |column| count += @intFromBool(column.items.len > 0);
        return count;
    }

    /// Append it as the log has it (`wire_section.zig` has the other). Returns how many rows are named: removed, inserted,
    /// and of the longest column.
    pub fn write(section: *const Section, w: block.Writer, arena: std.mem.Allocator) error{OutOfMemory}!u32 {
        const spec = section.spec;
        assert(section.left.len == 0 and section.narrowed == null and section.hidden.len == 0);
        try w.int(u16, spec.id);
        try w.int(u16, section.named());
        try w.int(u32, @intCast(section.removed.len));
        try w.int(u32, @intCast(section.inserted.len));
        if (section.removed.len > 0) try names(w, section.removed);
        if (section.inserted.len > 0) {
            try names(w, section.inserted);
            const generations = try arena.alloc(u32, section.inserted.len);
            const places = try arena.alloc(Item, section.inserted.len);
            for (section.inserted, generations, places, 0..) |item, *generation, *place, i| {
                generation.* = @truncate(section.keys[item.row] >> 32);
                place.* = .{ .index = 0, .row = @intCast(i) };
            }
            try w.int(u8, 0);
            try w.values(w.out.items.len - 1, 4, std.mem.sliceAsBytes(generations), places);
            for (spec.fields[0..section.cells.len], section.cells) |*field, cells| {
                try w.int(u8, 0);
                try w.cells(w.out.items.len - 1, field, section.heap, cells, section.inserted);
            }
        }
        var longest: usize = 0;
        var before: ?[]const Item = null;
        for (section.columns) |column| {
            if (column.items.len == 0) continue;
            longest = @max(longest, column.items.len);
            const form = section.formOf(&column, before);
            const field = &spec.fields[column.field];
            try w.int(u16, field.id);
            try w.int(u8, @intFromEnum(form));
            try w.int(u8, 0);
            const encoding_at = w.out.items.len - 1;
            if (form != .same) try w.int(u32, @intCast(column.items.len));
            try w.names(form, column.items);
            try w.cells(encoding_at, field, section.heap, section.cells[column.field], column.items);
            before = column.items;
        }
        return @intCast(section.removed.len + section.inserted.len + longest);
    }

    /// How the rows of a column are named, behind the column whose rows are `before`.
    pub fn formOf(section: *const Section, column: *const Column, before: ?[]const Item) block.Form {
        if (column.same and before != null and before.?.ptr == column.items.ptr) return .same;
        if (section.others == column.items.len) return .all;
        return block.Writer.pickForm(column.items);
    }
};

pub fn names(w: block.Writer, items: []const Item) error{OutOfMemory}!void {
    const form = block.Writer.pickForm(items);
    try w.int(u8, @intFromEnum(form));
    try w.names(form, items);
}

/// The rows of a bitmap by ascending entity index.
pub fn inOrder(a: std.mem.Allocator, keys: []const u64, pages: sparse.Directory, bitmap: []const u64) error{OutOfMemory}!std.ArrayList(Item) {
    var count: usize = 0;
    for (bitmap) |word| count += @popCount(word);
    var items: std.ArrayList(Item) = .empty;
    try items.ensureTotalCapacityPrecise(a, count);
    var ascending = true;
    var last: i64 = -1;
    for (bitmap, 0..) |word, w| {
        if (word == std.math.maxInt(u64)) {
            // All of them, which needs no looking at bits.
            for (items.addManyAsSliceAssumeCapacity(64), keys[w * 64 ..][0..64], w * 64..) |*item, key, row| {
                item.* = .{ .index = @truncate(key), .row = @intCast(row) };
                ascending = ascending and item.index > last;
                last = item.index;
            }
            continue;
        }
        var left = word;
        while (left != 0) : (left &= left - 1) {
            const row: u32 = @intCast(w * 64 + @ctz(left));
            const index: u32 = @truncate(keys[row]);
            ascending = ascending and index > last;
            last = index;
            items.appendAssumeCapacity(.{ .index = index, .row = row });
        }
    }
    if (ascending) return items;
    if (count * 8 > keys.len) {
        // Most rows: the sparse index has them in order, which beats sorting.
        items.clearRetainingCapacity();
        var it = sparse.Iterator.from(pages, 0);
        while (it.next()) |item| {
            if (bitmap[item.row / 64] >> @intCast(item.row & 63) & 1 == 1)
                items.appendAssumeCapacity(.{ .index = item.index, .row = item.row });
        }
    } else std.sort.pdq(Item, items.items, {}, byIndex);
    return items;
}

pub fn byIndex(_: void, x: Item, y: Item) bool {
    return x.index < y.index;
}
