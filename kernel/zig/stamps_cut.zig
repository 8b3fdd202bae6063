//! What a node tells another of its lww tables: cells with their stamps, of rows that are named by their primary keys.
//!
//!     u8 version 1 | u8 0 | u16 tables | u16 nodes | u16 0 | u64 node * nodes
//!     per table   u16 table id | u16 columns | u32 rows | u32 graves | primary key * rows
//!                 per column  u16 field id | which rows, a bit each, LSB first | stamp * those | cell * those, but of the primary key none
//!                 primary key * graves | stamp * graves
//!     stamp       u64 hybrid logical clock | u16 which of the nodes
//!
//! Tables, and fields in a table, ascend by id. A string, a primary key too, is LEB128 length | UTF-8. All values are absolute, so a
//! block may be merged again and in any order (`stamps.zig`).
//!
//! Reads the slot and its change sets only, never the head.

const std = @import("std");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const limits = @import("limits.zig");
const sets = @import("sets.zig");
const since = @import("since.zig");
const sparse = @import("sparse.zig");
const stamps = @import("stamps.zig");
const view = @import("view.zig");
const Head = @import("head.zig").Head;
const Stamp = stamps.Stamp;

/// Whose writes are told.
pub const Whose = enum(u32) {
    /// This node's own.
    own,
    /// All but the other's.
    not_theirs,
    all,
};

/// Where the next part begins: a table by its position, a row's and a grave's index in their tables.
pub const Cursor = extern struct { table: u32 = 0, row: u32 = 0, grave: u32 = 0, done: u32 = 0 };

const header_bytes = 8;

pub const Cutter = struct {
    head: *const Head,
    slot: *const view.Slot,
    base: u64,
    whose: Whose,
    other: u64,
    arena: std.mem.Allocator,
    out: *std.ArrayList(u8),
    w: block.Writer,
    nodes: std.ArrayList(u64) = .empty,

    /// Cut what was written in `(base, slot.version]` from the cursor on. `HistoryGone` when that is not kept any more: use
    /// base 0. `budget` 0 means none; a part has at least one row. Empty where there is nothing to tell.
    pub fn cut(c: *Cutter, cursor: *Cursor, budget: u32) error{ OutOfMemory, HistoryGone, BadArgument }!void {
        if (c.base > c.slot.version) return error.BadArgument;
        if (c.base != 0 and c.base < c.slot.version and !sets.reaches(c.slot, c.base)) return error.HistoryGone;
        const start = cursor.*;
        errdefer cursor.* = start;
        c.out.items.len = 0;
        var tables: u16 = 0;
        while (cursor.table < c.slot.tables.len) : (cursor.table += 1) {
            if (c.head.tables[cursor.table].spec.lww_key == null) continue;
            if (budget != 0 and c.out.items.len >= budget) break;
            const left: u32 = if (budget == 0) 0 else budget - @as(u32, @intCast(c.out.items.len));
            if (try c.table(cursor, left)) tables += 1;
            if (cursor.row != 0 or cursor.grave != 0) break;
        }
        cursor.done = @intFromBool(cursor.table >= c.slot.tables.len);
        if (tables == 0) return;
        // The nodes are known now: they go in front.
        const body = c.out.items.len;
        try c.out.appendNTimes(c.w.gpa, 0, header_bytes + c.nodes.items.len * 8);
        std.mem.copyBackwards(u8, c.out.items[c.out.items.len - body ..], c.out.items[0..body]);
        const into = c.out.items;
        into[0..2].* = .{ stamps.block_version, 0 };
        std.mem.writeInt(u16, into[2..4], tables, .little);
        std.mem.writeInt(u16, into[4..6], @intCast(c.nodes.items.len), .little);
        std.mem.writeInt(u16, into[6..8], 0, .little);
        for (c.nodes.items, 0..) |node, i| std.mem.writeInt(u64, into[header_bytes + i * 8 ..][0..8], node, .little);
    }

    const Row = struct { index: u32, row: u32 };

    fn tells(c: *const Cutter, node: u64) bool {
        return switch (c.whose) {
            .own => node == c.head.clock.node,
            .not_theirs => node != c.other,
            .all => true,
        };
    }

    fn table(c: *Cutter, cursor: *Cursor, left: u32) error{OutOfMemory}!bool {
        const number = cursor.table;
        const spec = c.head.tables[number].spec;
        const of = c.slot.tables[number];
        const key_field = spec.lww_key.?;
        const width = spec.fields[key_field].width;
        const shown = spec.shown;
        const most = Most.of(spec, left);

        // By field, which rows are told, by their places among `rows`.
        const marks = try c.marked(number, of, spec);
        var rows: std.ArrayList(Row) = .empty;
        var end_row: u32 = 0;
        if (cursor.grave == 0) {
            var it = sparse.Iterator.from(of.pages(), cursor.row);
            while (it.next()) |item| {
                if (!c.hasAny(of, spec, marks, item.row)) continue;
                if (rows.items.len == most.rows) {
                    end_row = item.index;
                    break;
                }
                try rows.append(c.arena, .{ .index = item.index, .row = item.row });
            }
        }
        var graves: std.ArrayList(u32) = .empty;
        var end_grave: u32 = 0;
        if (end_row == 0) end_grave = try c.gather(spec.id, cursor.grave, most.graves, &graves);
        cursor.row = end_row;
        cursor.grave = end_grave;
        if (rows.items.len == 0 and graves.items.len == 0) return false;

        const w = c.w;
        try w.int(u16, spec.id);
        try w.int(u16, @intCast(shown));
        try w.int(u32, @intCast(rows.items.len));
        try w.int(u32, @intCast(graves.items.len));
        for (rows.items) |row| try c.putCell(&spec.fields[key_field], cellAt(of, key_field, width, row.row));
        for (spec.visible(), 0..) |*field, f| {
            try w.int(u16, field.id);
            const present = try c.arena.alloc(bool, rows.items.len);
            const bitmap_at = c.out.items.len;
            try c.out.appendNTimes(w.gpa, 0, (rows.items.len + 7) / 8);
            for (rows.items, present, 0..) |row, *is, i| {
                is.* = c.has(of, spec, marks, f, row.row);
                if (is.*) c.out.items[bitmap_at + i / 8] |= @as(u8, 1) << @intCast(i % 8);
            }
            for (rows.items, present) |row, is| if (is) {
                try c.putStamp(Stamp.of(cellAt(of, shown + f, stamps.bytes, row.row)));
            };
            if (f == key_field) continue;
            for (rows.items, present) |row, is| if (is) {
                try c.putCell(field, cellAt(of, f, field.width, row.row));
            };
        }
        const tombs = c.slot.tables[c.tombstones()];
        for (graves.items) |row| {
            const name = nameAt(tombs, row);
            if (spec.fields[key_field].type == .string) try w.varint(name[2]);
            try c.put(name[3..][0..name[2]]);
        }
        for (graves.items) |row| try c.putStamp(entombed(tombs, row));
        return true;
    }

    /// By field the rows whose stamps changed since the base; null where all rows count.
    const Marks = struct { words: []?[]u64, fresh: []u64 };

    fn marked(c: *Cutter, number: usize, of: *const view.TableView, spec: *const catalogue.Table) error{OutOfMemory}!?Marks {
        if (c.base == 0) return null;
        const all = try sets.collectDirty(c.arena, c.slot, c.base, number, of, spec.fields.len);
        return .{ .words = all[spec.shown..], .fresh = try c.inserted(number, of) };
    }

    fn inserted(c: *Cutter, number: usize, of: *const view.TableView) error{OutOfMemory}![]u64 {
        const keys = try since.keysSince(c.arena, c.slot, c.base, number);
        const came = try since.present(c.arena, of, keys.come);
        const words = try c.arena.alloc(u64, (of.rows + 63) / 64);
        @memset(words, 0);
        for (came.items) |item| words[item.row / 64] |= @as(u64, 1) << @intCast(item.row & 63);
        return words;
    }

    fn has(c: *const Cutter, of: *const view.TableView, spec: *const catalogue.Table, marks: ?Marks, f: usize, row: u32) bool {
        if (marks) |m| if (!bit(m.fresh, row)) {
            const words = m.words[f] orelse return false;
            if (!bit(words, row)) return false;
        };
        const found = Stamp.of(cellAt(of, spec.shown + f, stamps.bytes, row));
        return !found.isNone() and c.tells(found.node);
    }

    fn hasAny(c: *const Cutter, of: *const view.TableView, spec: *const catalogue.Table, marks: ?Marks, row: u32) bool {
        for (0..spec.shown) |f| if (c.has(of, spec, marks, f, row)) return true;
        return false;
    }

    fn tombstones(c: *const Cutter) usize {
        return c.head.catalogue.tableIndex(catalogue.tombstones_table).?;
    }

    /// Graves of a table, from an index on. Returns where the next part begins; 0 at the end.
    fn gather(c: *Cutter, id: u16, from: u32, most: usize, into: *std.ArrayList(u32)) error{OutOfMemory}!u32 {
        const number = c.tombstones();
        const of = c.slot.tables[number];
        var dirty: []?[]u64 = &.{};
        var fresh: []u64 = &.{};
        if (c.base != 0) {
            if (!sets.touched(c.slot, c.base, number)) return 0;
            dirty = try sets.collectDirty(c.arena, c.slot, c.base, number, of, 2);
            fresh = try c.inserted(number, of);
        }
        var it = sparse.Iterator.from(of.pages(), from);
        while (it.next()) |item| {
            if (std.mem.readInt(u16, nameAt(of, item.row)[0..2], .little) != id) continue;
            if (c.base != 0 and !bit(fresh, item.row)) {
                for (dirty) |words| {
                    if (words) |w| if (bit(w, item.row)) break;
                } else continue;
            }
            if (!c.tells(entombed(of, item.row).node)) continue;
            if (into.items.len == most) return item.index;
            try into.append(c.arena, item.row);
        }
        return 0;
    }

    fn putCell(c: *Cutter, field: *const catalogue.Field, cell: []const u8) error{OutOfMemory}!void {
        if (field.type != .string) return c.put(cell);
        const text = c.head.heap.get(std.mem.readInt(u64, cell[0..8], .little));
        try c.w.varint(@intCast(text.len));
        try c.put(text);
    }

    fn put(c: *Cutter, data: []const u8) error{OutOfMemory}!void {
        try c.out.appendSlice(c.w.gpa, data);
    }

    fn putStamp(c: *Cutter, of: Stamp) error{OutOfMemory}!void {
        const known = std.mem.indexOfScalar(u64, c.nodes.items, of.node);
        if (known == null) try c.nodes.append(c.arena, of.node);
        try c.w.int(u64, of.hlc);
        try c.w.int(u16, @intCast(known orelse c.nodes.items.len - 1));
    }
};

/// How many rows and graves there is room for, at their longest.
const Most = struct {
    rows: usize,
    graves: usize,

    fn of(spec: *const catalogue.Table, left: u32) Most {
        if (left == 0) return .{ .rows = limits.rows_max, .graves = limits.rows_max };
        var row: usize = spec.fields[spec.lww_key.?].width;
        const grave = row + 10;
        for (spec.visible()) |*field| row += 11 + if (field.type == .string) field.count + 5 else field.width;
        // Both kinds may be in one part.
        return .{ .rows = @max(1, left / row / 2), .graves = @max(1, left / grave / 2) };
    }
};

fn cellAt(of: *const view.TableView, column: usize, width: u32, row: u32) []const u8 {
    return of.columns[column].data[@as(usize, row) * width ..][0..width];
}

fn nameAt(tombs: *const view.TableView, row: u32) []const u8 {
    return cellAt(tombs, 2, catalogue.tombstone_name_bytes, row);
}

fn entombed(of: *const view.TableView, row: u32) Stamp {
    return .{
        .hlc = std.mem.readInt(u64, cellAt(of, 0, 8, row)[0..8], .little),
        .node = std.mem.readInt(u64, cellAt(of, 1, 8, row)[0..8], .little),
    };
}

fn bit(words: []const u64, row: u32) bool {
    return words[row / 64] >> @intCast(row & 63) & 1 == 1;
}

/// What two nodes that hold the same share: an order-free sum over the cells of lww tables and their stamps, by primary keys.
/// Tombstones are not in it: how long they are kept is each node's own.
pub fn digest(head: *const Head, slot: *const view.Slot) [2]u64 {
    var sum: [2]u64 = @splat(0);
    for (head.tables, slot.tables) |*t, of| {
        const spec = t.spec;
        const key_field = spec.lww_key orelse continue;
        const key_width = spec.fields[key_field].width;
        for (0..of.rows) |r| {
            const row: u32 = @intCast(r);
            var name = cellAt(of, key_field, key_width, row);
            if (spec.fields[key_field].type == .string) name = head.heap.get(std.mem.readInt(u64, name[0..8], .little));
            for (spec.visible(), 0..) |*field, f| {
                var cell = cellAt(of, f, field.width, row);
                if (field.type == .string) cell = head.heap.get(std.mem.readInt(u64, cell[0..8], .little));
                for (&sum, 0..) |*half, side| {
                    var hash = std.hash.Wyhash.init(@as(u64, side) << 32 | @as(u64, spec.id) << 16 | field.id);
                    hash.update(name);
                    hash.update(cellAt(of, spec.shown + f, stamps.bytes, row));
                    hash.update(cell);
                    half.* +%= hash.final();
                }
            }
        }
    }
    return sum;
}
