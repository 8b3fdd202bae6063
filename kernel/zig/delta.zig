//! Cutting a delta: every change in `(base, version]`, from a pinned view and its sealed change sets.
//!
//! A full sync is a delta from version 0: every row is inserted. With a budget the delta is cut into
//! chunks by ranges of entity indices, table by table; a cursor says where the next one begins, and
//! the next may be cut from a newer view.
//!
//! Reads the slot and its change sets only, never the head.

const std = @import("std");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const section = @import("section.zig");
const sparse = @import("sparse.zig");
const view = @import("view.zig");
const wire_section = @import("wire_section.zig");
const Head = @import("head.zig").Head;
const Heap = @import("heap.zig").Heap;
const Item = block.Item;

pub const Cursor = extern struct {
    /// Table (by position in the catalogue) and entity index where the next chunk begins.
    table: u32 = 0,
    index: u32 = 0,
    /// 1 when nothing is left.
    done: u32 = 0,
    /// Rows named in this block: removed, inserted, and of the longest column.
    rows: u32 = 0,
};

pub const Encoder = struct {
    gpa: std.mem.Allocator,
    out: std.ArrayList(u8) = .empty,
    arena: std.heap.ArenaAllocator,
    /// A version that everybody who will read the next blocks holds, and nothing newer: values may be relative to it. It
    /// stays pinned until they are cut.
    reference: ?*const view.Slot = null,
    wire: section.Wire = .{},

    pub fn init(gpa: std.mem.Allocator) Encoder {
        return .{ .gpa = gpa, .arena = .init(gpa) };
    }
    pub fn deinit(encoder: *Encoder) void {
        encoder.out.deinit(encoder.gpa);
        encoder.arena.deinit();
    }

    /// Cut `(base, slot.version]` from the cursor on into `out`. `HistoryGone` when the change sets
    /// no longer reach back to `base`: use base 0. `budget` 0 means no budget; a block has at least one
    /// row however small it is. On failure the cursor is as it was.
    pub fn cut(
        encoder: *Encoder,
        head: *const Head,
        slot: *const view.Slot,
        base: u64,
        cursor: *Cursor,
        budget: u32,
    ) error{ OutOfMemory, HistoryGone, BadArgument }!void {
        if (base > slot.version) return error.BadArgument;
        if (base != 0 and base < slot.version and !reaches(slot, base)) return error.HistoryGone;
        encoder.out.items.len = 0;
        const start = cursor.*;
        errdefer cursor.* = start;
        const w: block.Writer = .{ .gpa = encoder.gpa, .out = &encoder.out };
        try beginBlock(w);
        encoder.wire.relative = false;
        cursor.rows = 0;
        var tables: u16 = 0;
        while (cursor.table < slot.tables.len) {
            _ = encoder.arena.reset(.retain_capacity);
            const spec = head.tables[cursor.table].spec;
            const left: u32 = if (budget == 0)
                0
            else
                @max(1, budget -| @as(u32, @intCast(@min(encoder.out.items.len, budget))));
            if (budget != 0 and tables > 0 and encoder.out.items.len >= budget) break;
            if (spec.replicated) {
                if (try encoder.table(w, head, slot, base, cursor, left)) tables += 1;
                if (cursor.index != 0) break; // the table goes on in the next chunk
            }
            cursor.table += 1;
        }
        cursor.done = @intFromBool(cursor.table >= slot.tables.len);
        finishBlock(encoder.out.items, tables, if (encoder.wire.relative) encoder.reference.?.version else 0);
    }

    /// Append one table's section; false when nothing of it changed. Sets `cursor.index` to where the
    /// table goes on, or to 0 at its end.
    fn table(
        encoder: *Encoder,
        w: block.Writer,
        head: *const Head,
        slot: *const view.Slot,
        base: u64,
        cursor: *Cursor,
        left: u32,
    ) error{OutOfMemory}!bool {
        const a = encoder.arena.allocator();
        const number = cursor.table;
        const spec = head.tables[number].spec;
        const of = slot.tables[number];
        const from = cursor.index;
        cursor.index = 0;
        const room: Room = .of(spec, &head.heap, slot.tables[number], base, left);

        var removed: std.ArrayList(Item) = .empty;
        var inserted: std.ArrayList(Item) = .empty;
        var end: u64 = std.math.maxInt(u64);
        var dirty: []?[]u64 = &.{};
        if (base == 0) {
            var it = sparse.Iterator.from(of.pages(), from);
            var used: u64 = 0;
            while (it.next()) |item| {
                used += room.needs(item.row);
                if (used > room.bytes and inserted.items.len > 0) {
                    end = item.index;
                    break;
                }
                try inserted.append(a, .{ .index = item.index, .row = item.row });
            }
        } else {
            if (!touched(slot, base, number)) return false;
            try collectKeys(a, slot, base, number, of, &removed, &inserted);
            dirty = try collectDirty(a, slot, base, number, of, spec.shown);
            for (inserted.items) |item| {
                for (dirty) |bitmap| if (bitmap) |words| {
                    words[item.row / 64] &= ~(@as(u64, 1) << @intCast(item.row & 63));
                };
            }
            clip(&removed, from, room.withoutTexts(), &end);
            clip(&inserted, from, room, &end);
        }

        var columns: std.ArrayList(section.Column) = .empty;
        var before: ?[]u64 = null;
        for (dirty, 0..) |bitmap, f| {
            const words = bitmap orelse continue;
            const same = if (before) |b| std.mem.eql(u64, b, words) else false;
            if (same) {
                const last = columns.items[columns.items.len - 1];
                try columns.append(a, .{ .field = @intCast(f), .items = last.items, .same = true });
                continue;
            }
            var items = try section.inOrder(a, of.keyList(), of.pages(), words);
            if (items.items.len == 0) continue;
            clip(&items, from, room, &end);
            before = words;
            if (items.items.len == 0) {
                before = null;
                continue;
            }
            try columns.append(a, .{ .field = @intCast(f), .items = items.items, .same = false });
        }
        // A later list may have pulled the end in: what was clipped before it is clipped again.
        for (columns.items) |*column| column.items = below(column.items, end);
        if (end != std.math.maxInt(u64)) cursor.index = @intCast(end);
        const cells = try a.alloc([]const u8, spec.shown);
        for (cells, of.columns[0..spec.shown]) |*to, buffer| to.* = buffer.data;
        const found: section.Section = .{
            .spec = spec,
            .heap = &head.heap,
            .keys = of.keyList(),
            .cells = cells,
            .removed = below(removed.items, end),
            .inserted = below(inserted.items, end),
            .columns = columns.items,
            // "all" may only be said when this block also says every inserted row of the table.
            .whole = from == 0 and end == std.math.maxInt(u64),
            .reference = if (encoder.reference) |slot_before| slot_before.tables[number] else null,
            .wire = &encoder.wire,
        };
        if (found.isEmpty()) return false;
        cursor.rows += try wire_section.write(&found, w, a);
        return true;
    }
};

/// The head of a block of the wire, which `finishBlock` fills in.
pub fn beginBlock(w: block.Writer) error{OutOfMemory}!void {
    try w.int(u8, block.wire_version);
    try w.out.appendNTimes(w.gpa, 0, block.wire_header_bytes - 1);
}

/// `bytes` are the whole block. `reference` is the version that values in it are relative to, 0 for none.
pub fn finishBlock(bytes: []u8, tables: u16, reference: u64) void {
    std.mem.writeInt(u16, bytes[2..4], tables, .little);
    std.mem.writeInt(u32, bytes[4..8], @intCast(bytes.len - block.wire_header_bytes), .little);
    std.mem.writeInt(u64, bytes[8..16], reference, .little);
}

/// Walk the change sets of `(base, slot.version]`, newest first: those of the ring, then those that were merged. The last one
/// may begin before `base`.
pub const Sets = struct {
    next_set: ?*changes.ChangeSet,
    oldest_cut: u64,
    base: u64,
    /// Beyond the ring.
    older: []const *changes.ChangeSet,
    in_ring: bool = true,

    pub fn of(slot: *const view.Slot, base: u64) Sets {
        return .{ .next_set = slot.newest, .oldest_cut = slot.oldest_cut, .base = base, .older = slot.older };
    }
    pub fn next(sets: *Sets) ?*changes.ChangeSet {
        const set = sets.next_set orelse return null;
        if (set.version <= sets.base) return null;
        if (sets.in_ring and set.cut > sets.oldest_cut) {
            sets.next_set = set.prev;
            return set;
        }
        sets.in_ring = false;
        sets.next_set = null;
        if (sets.older.len > 0) {
            sets.next_set = sets.older[0];
            sets.older = sets.older[1..];
        }
        return set;
    }
};

/// Whether the view's change sets cover everything since `base`.
pub fn reaches(slot: *const view.Slot, base: u64) bool {
    var sets = Sets.of(slot, base);
    var reached = false;
    while (sets.next()) |set| reached = set.version_before <= base;
    return reached;
}

/// Whether anything of a table changed in `(base, slot.version]`.
pub fn touched(slot: *const view.Slot, base: u64, number: usize) bool {
    var sets = Sets.of(slot, base);
    while (sets.next()) |set| if (set.of(number)) |changed| if (changed.shown) return true;
    return false;
}

pub fn collectKeys(
    a: std.mem.Allocator,
    slot: *const view.Slot,
    base: u64,
    number: usize,
    of: *const view.TableView,
    removed: *std.ArrayList(Item),
    inserted: *std.ArrayList(Item),
) error{OutOfMemory}!void {
    var gone: std.ArrayList(u64) = .empty;
    var come: std.ArrayList(u64) = .empty;
    var sets = Sets.of(slot, base);
    while (sets.next()) |set| {
        const changed = set.of(number) orelse continue;
        try gone.appendSlice(a, changed.removed);
        try come.appendSlice(a, changed.inserted);
    }
    view.sortUnique(&gone);
    view.sortUnique(&come);
    for (gone.items) |key| {
        const index: u32 = @truncate(key);
        // Present again: then it is among the inserted, and a newer generation evicts the older.
        if (sparse.find(of.pages(), index) != null) continue;
        if (removed.items.len > 0 and removed.items[removed.items.len - 1].index == index) continue;
        try removed.append(a, .{ .index = index, .row = 0 });
    }
    for (come.items) |key| {
        const row = of.find(key) orelse continue;
        try inserted.append(a, .{ .index = @truncate(key), .row = row });
    }
}

/// By field, for the first `fields` of them, the rows whose cells changed; null where none did.
pub fn collectDirty(
    a: std.mem.Allocator,
    slot: *const view.Slot,
    base: u64,
    number: usize,
    of: *const view.TableView,
    fields: usize,
) error{OutOfMemory}![]?[]u64 {
    const bitmaps = try a.alloc(?[]u64, fields);
    @memset(bitmaps, null);
    if (of.rows == 0) return bitmaps;
    const words = (of.rows + 63) / 64;
    var sets = Sets.of(slot, base);
    while (sets.next()) |set| {
        const changed = set.of(number) orelse continue;
        for (changed.columns[0..fields], 0..) |*dirty, f| {
            if (dirty.isEmpty()) continue;
            const bitmap = bitmaps[f] orelse fresh: {
                const made = try a.alloc(u64, words);
                @memset(made, 0);
                bitmaps[f] = made;
                break :fresh made;
            };
            dirty.orInto(bitmap, of.rows);
        }
    }
    return bitmaps;
}

/// What one list of a table's rows may weigh, so that all lists together keep the budget.
const Room = struct {
    bytes: u64,
    /// Of any row, and for each byte of its texts.
    row: u64,
    text: u64,
    spec: *const catalogue.Table,
    heap: *const Heap,
    table: *const view.TableView,

    fn of(spec: *const catalogue.Table, heap: *const Heap, in: *const view.TableView, base: u64, left: u32) Room {
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
    fn withoutTexts(room: Room) Room {
        var bare = room;
        bare.text = 0;
        return bare;
    }

    fn needs(room: *const Room, row: u32) u64 {
        if (room.text == 0) return room.row;
        var bytes: u64 = 0;
        for (room.spec.visible(), room.table.columns[0..room.spec.shown]) |*field, buffer| {
            if (field.type != .string) continue;
            bytes += room.heap.get(@as([*]const u64, @ptrCast(buffer.data.ptr))[row]).len;
        }
        return room.row + room.text * bytes;
    }

    /// How many of the first items there is room for: one at least.
    fn rows(room: *const Room, items: []const Item) usize {
        if (room.text == 0) return @intCast(@min(items.len, @max(1, room.bytes / room.row)));
        var used: u64 = 0;
        for (items, 0..) |item, n| {
            used += room.needs(item.row);
            if (used > room.bytes and n > 0) return n;
        }
        return items.len;
    }
};

/// Keep the items from `from` on for which there is room, pulling `end` in to where they stop.
fn clip(list: *std.ArrayList(Item), from: u32, room: Room, end: *u64) void {
    var first: usize = 0;
    while (first < list.items.len and list.items[first].index < from) first += 1;
    if (first > 0) list.items = list.items[first..];
    const rows_max = room.rows(list.items);
    if (list.items.len > rows_max) {
        end.* = @min(end.*, list.items[rows_max].index);
        list.items = list.items[0..rows_max];
    }
}

fn below(items: []const Item, end: u64) []const Item {
    var n = items.len;
    while (n > 0 and items[n - 1].index >= end) n -= 1;
    return items[0..n];
}
