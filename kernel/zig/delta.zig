//! Cutting a delta: every change in `(base, version]`, from a pinned view and its sealed change sets.
//!
//! A full sync is a delta from version 0: every row is inserted. With a budget the delta is cut into
//! chunks by ranges of entity indices, table by table; a cursor says where the next one begins, and
//! the next may be cut from a newer view.
//!
//! Reads the slot and its change sets only, never the head.

const std = @import("std");
const block = @import("block.zig");
const choice_file = @import("choice.zig");
const memory = @import("memory.zig");
const narrow = @import("narrow.zig");
const room_file = @import("room.zig");
const section = @import("section.zig");
const sets_file = @import("sets.zig");
const since_file = @import("since.zig");
const sparse = @import("sparse.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const wire_section = @import("wire_section.zig");
const Changed = since_file.Changed;
const Head = @import("head.zig").Head;
const Item = block.Item;
const Room = room_file.Room;
const Scratch = @import("scratch.zig").Scratch;
const Sight = visible.Sight;
const Since = since_file.Since;
const below = room_file.below;
const clip = room_file.clip;

pub const Cursor = extern struct {
    /// Table (by position in the catalogue) and entity index where the next chunk begins.
    table: u32 = 0,
    index: u32 = 0,
    /// 1 when nothing is left.
    done: u32 = 0,
    /// Rows named in this block: removed, inserted, and of the longest column.
    rows: u32 = 0,
};

pub const Error = error{ OutOfMemory, HistoryGone, BadArgument };

pub const Encoder = struct {
    gpa: std.mem.Allocator,
    out: std.ArrayList(u8) = .empty,
    scratch: Scratch,
    /// A version that everybody who will read the next blocks holds, and nothing newer: values may be relative to it. It
    /// stays pinned until they are cut.
    reference: ?*const view.Slot = null,
    wire: section.Wire = .{},
    since: Since,

    pub fn init(gpa: std.mem.Allocator) Encoder {
        return .{ .gpa = gpa, .scratch = .init(gpa), .since = .init(gpa) };
    }
    pub fn deinit(encoder: *Encoder) void {
        encoder.out.deinit(encoder.gpa);
        encoder.scratch.deinit();
        encoder.since.deinit();
    }

    /// Cut `(base, slot.version]` from the cursor on into `out`. `HistoryGone` when the change sets
    /// no longer reach back to `base`: use base 0. `budget` 0 means no budget; a block has at least one
    /// row however small it is. On failure the cursor is as it was.
    pub fn cut(encoder: *Encoder, head: *const Head, slot: *const view.Slot, base: u64, cursor: *Cursor, budget: u32) Error!void {
        try encoder.begin(slot, base);
        encoder.out.items.len = 0;
        _ = try encoder.append(head, null, cursor, budget);
    }

    /// From now on what is appended is cut of `(base, slot.version]`.
    pub fn begin(encoder: *Encoder, slot: *const view.Slot, base: u64) Error!void {
        if (base > slot.version) return error.BadArgument;
        if (base != 0 and base < slot.version and !sets_file.reaches(slot, base)) return error.HistoryGone;
        try encoder.since.begin(slot, base);
    }

    /// Append a block behind what is in `out`, of all tables or of what somebody sees. Returns how many tables it has. On
    /// failure the cursor and `out` are as they were.
    pub fn append(encoder: *Encoder, head: *const Head, sight: ?*const Sight, cursor: *Cursor, budget: u32) Error!u16 {
        const slot = encoder.since.slot;
        const base = encoder.since.base;
        if (sight) |s| {
            if (s.version != slot.version) return error.BadArgument;
            if (base != 0 and base < s.log.floor) return error.HistoryGone;
            if (s.shared) |log| if (base != 0 and base < log.floor) return error.HistoryGone;
            if (s.budget) |b| {
                if (base != 0 and base < b.budget.floor) return error.HistoryGone;
                const begins = cursor.table == 0 and cursor.index == 0 and budget == 0;
                if (base != 0 and begins) return encoder.appendWithin(head, s, cursor);
                // Chunks go from a version that was handed out whole.
                if (base != 0 and b.budget.at(base).len > 0) return error.HistoryGone;
            }
        }
        const start = encoder.out.items.len;
        const before = cursor.*;
        errdefer {
            encoder.out.items.len = start;
            cursor.* = before;
        }
        const w: block.Writer = .{ .gpa = encoder.gpa, .out = &encoder.out };
        try beginBlock(w);
        encoder.wire.relative = false;
        cursor.rows = 0;
        var tables: u16 = 0;
        encoder.scratch.reset();
        const narrowed: ?narrow.Narrow = if (sight) |s| try .init(encoder.scratch.allocator(), &encoder.since, s) else null;
        while (cursor.table < slot.tables.len) {
            const spec = head.tables[cursor.table].spec;
            const used = encoder.out.items.len - start;
            const left: u32 = if (budget == 0) 0 else @max(1, budget -| @as(u32, @intCast(@min(used, budget))));
            if (budget != 0 and tables > 0 and used >= budget) break;
            if (spec.replicated) {
                if (try encoder.table(w, head, if (narrowed) |*n| n else null, cursor, left)) tables += 1;
                if (cursor.index != 0) break; // the table goes on in the next chunk
            }
            cursor.table += 1;
        }
        cursor.done = @intFromBool(cursor.table >= slot.tables.len);
        finishBlock(encoder.out.items[start..], tables, if (encoder.wire.relative) encoder.reference.?.version else 0);
        return tables;
    }

    /// The same with what the client's budget lets go, and the rest waiting.
    fn appendWithin(encoder: *Encoder, head: *const Head, sight: *const Sight, cursor: *Cursor) Error!u16 {
        const slot = encoder.since.slot;
        const start = encoder.out.items.len;
        errdefer encoder.out.items.len = start;
        encoder.scratch.reset();
        const a = encoder.scratch.allocator();
        const narrowed: narrow.Narrow = try .init(a, &encoder.since, sight);
        const given = sight.budget.?;
        // Where something waits, a reader does not hold what it would be relative to.
        const reference = encoder.reference;
        defer encoder.reference = reference;
        if (reference) |r| if (r.version != encoder.since.base or given.budget.at(r.version).len > 0) {
            encoder.reference = null;
        };
        var choice: choice_file.Choice = .{
            .arena = a,
            .head = head,
            .slot = slot,
            .base = encoder.since.base,
            .budget = given.budget,
            .ties = given.ties,
            .weights = given.weights,
        };
        const found = try a.alloc(?Rows, slot.tables.len);
        var spent: u64 = block.wire_header_bytes;
        for (found, head.tables, 0..) |*rows, *of, n| {
            const number: u32 = @intCast(n);
            rows.* = null;
            if (!of.spec.replicated) continue;
            rows.* = try encoder.find(head, &narrowed, number) orelse if (choice.waits(number)) Rows{} else continue;
            const list: ?*const visible.Seen = switch (sight.scopes[n]) {
                .none => continue,
                .all => null,
                .listed => |at| &sight.lists[at],
            };
            try choice.take(number, &rows.*.?, sight.profile[n].hidden, list);
            var row: u64 = 5;
            for (of.spec.visible()) |*field| row += field.width;
            spent += 8 + rows.*.?.inserted.len * row + (rows.*.?.removed.len + rows.*.?.left.len) * 2;
        }
        try choice.make(spent);

        const w: block.Writer = .{ .gpa = encoder.gpa, .out = &encoder.out };
        try beginBlock(w);
        encoder.wire.relative = false;
        var tables: u16 = 0;
        var named: u32 = 0;
        for (found, 0..) |*maybe, n| {
            const rows = if (maybe.*) |*rows| rows else continue;
            const hidden = sight.profile[n].hidden;
            try choice.columns(@intCast(n), hidden, &rows.columns);
            const written = try encoder.write(w, head, @intCast(n), rows, hidden);
            named += written;
            tables += @intFromBool(written > 0);
        }
        finishBlock(encoder.out.items[start..], tables, if (encoder.wire.relative) reference.?.version else 0);
        try choice.finish(encoder.out.items.len - start -| spent);
        cursor.* = .{ .table = @intCast(slot.tables.len), .index = 0, .done = 1, .rows = named };
        return tables;
    }

    /// What a delta says of a table from its begin to its end, null for nothing.
    fn find(encoder: *Encoder, head: *const Head, sight: ?*const narrow.Narrow, number: u32) error{OutOfMemory}!?Rows {
        const a = encoder.scratch.allocator();
        const since = &encoder.since;
        const spec = head.tables[number].spec;
        const hidden: []const u64 = if (sight) |s| s.sight.profile[number].hidden else &.{};
        var found: Rows = .{};
        if (sight) |s| switch (s.sight.scopes[number]) {
            .none => return null,
            .listed => return if (try s.rows(a, since, number, spec, hidden, &found)) found else null,
            .all => {},
        };
        if (since.base == 0) return null;
        const of = since.slot.tables[number];
        const changed = try since.table(number, spec) orelse return null;
        found.removed = (try since_file.absent(a, of, changed.gone)).items;
        found.inserted = changed.come;
        found.others = of.rows - found.inserted.len;
        try allColumns(a, since, changed, hidden, &found.columns);
        return found;
    }

    /// Append one table's section; false when nothing of it changed. Sets `cursor.index` to where the
    /// table goes on, or to 0 at its end. What others were told alike is copied.
    fn table(
        encoder: *Encoder,
        w: block.Writer,
        head: *const Head,
        sight: ?*const narrow.Narrow,
        cursor: *Cursor,
        left: u32,
    ) error{OutOfMemory}!bool {
        const since = &encoder.since;
        const whole = since.keeps and left == 0 and cursor.index == 0;
        const name = (if (whole) encoder.nameOf(sight, cursor.table) else null) orelse
            return encoder.tableAnew(w, head, sight, cursor, left);
        if (since.section(name)) |known| {
            try w.out.appendSlice(w.gpa, known.bytes);
            cursor.rows += known.rows;
            encoder.wire.relative = encoder.wire.relative or known.relative;
            return known.rows > 0;
        }
        const start = w.out.items.len;
        const rows = cursor.rows;
        const relative = encoder.wire.relative;
        encoder.wire.relative = false;
        const any = try encoder.tableAnew(w, head, sight, cursor, left);
        try since.keep(.{
            .name = name,
            .bytes = w.out.items[start..],
            .rows = cursor.rows - rows,
            .relative = encoder.wire.relative,
        });
        encoder.wire.relative = encoder.wire.relative or relative;
        return any;
    }

    /// What makes a table's whole section the same as another; null where it is one client's own.
    fn nameOf(encoder: *const Encoder, sight: ?*const narrow.Narrow, number: u32) ?since_file.Section.Name {
        const s = sight orelse return null;
        const hidden = s.sight.profile[number].hidden;
        return .{
            .table = number,
            .hidden = if (hidden.len == 0) 0 else @intFromPtr(hidden.ptr),
            .reference = if (encoder.reference) |slot| @intFromPtr(slot) else 0,
            .shared = switch (s.sight.scopes[number]) {
                .none => return null,
                .all => 0,
                .listed => |at| if (s.alike[at]) @intFromPtr(s.sight.shared.?) else return null,
            },
        };
    }

    fn tableAnew(
        encoder: *Encoder,
        w: block.Writer,
        head: *const Head,
        sight: ?*const narrow.Narrow,
        cursor: *Cursor,
        left: u32,
    ) error{OutOfMemory}!bool {
        const a = encoder.scratch.allocator();
        const number = cursor.table;
        const spec = head.tables[number].spec;
        const of = encoder.since.slot.tables[number];
        const from = cursor.index;
        cursor.index = 0;
        const room: Room = .of(spec, &head.heap, of, encoder.since.base, left);
        const hidden: []const u64 = if (sight) |s| s.sight.profile[number].hidden else &.{};
        const all = if (sight) |s| s.sight.scopes[number] == .all else true;

        var found: Rows = .{};
        var end: u64 = std.math.maxInt(u64);
        if (all and encoder.since.base == 0) {
            found.inserted = try everything(a, of, from, room, &end);
        } else {
            found = try encoder.find(head, sight, number) orelse return false;
            clip(&found.inserted, from, room, &end);
        }
        clip(&found.removed, from, room.withoutTexts(), &end);
        clip(&found.left, from, room.withoutTexts(), &end);
        for (found.columns.items, 0..) |*column, n| {
            if (column.same) column.items = found.columns.items[n - 1].items else clip(&column.items, from, room, &end);
        }
        // A later list may have pulled the end in: what was clipped before it is clipped again.
        found.removed = below(found.removed, end);
        found.left = below(found.left, end);
        found.inserted = below(found.inserted, end);
        for (found.columns.items) |*column| column.items = below(column.items, end);
        if (end != std.math.maxInt(u64)) cursor.index = @intCast(end);
        // "all" may only be said when this block also says every inserted row of the table.
        if (from > 0 or end != std.math.maxInt(u64)) found.others = null;
        const named = try encoder.write(w, head, number, &found, hidden);
        cursor.rows += named;
        return named > 0;
    }

    /// Append a table's section. Returns how many rows it names; 0 where there is nothing to say.
    fn write(encoder: *Encoder, w: block.Writer, head: *const Head, number: u32, found: *const Rows, hidden: []const u64) error{OutOfMemory}!u32 {
        const a = encoder.scratch.allocator();
        const spec = head.tables[number].spec;
        const of = encoder.since.slot.tables[number];
        const cells = try a.alloc([]const u8, spec.shown);
        for (cells, of.columns[0..spec.shown]) |*to, buffer| to.* = buffer.data;
        const written: section.Section = .{
            .spec = spec,
            .heap = &head.heap,
            .keys = of.keyList(),
            .cells = cells,
            .removed = found.removed,
            .left = found.left,
            .inserted = found.inserted,
            .narrowed = try bitmapOf(a, found.inserted, found.entered),
            .hidden = hidden,
            .columns = found.columns.items,
            .others = found.others,
            .reference = if (encoder.reference) |slot_before| slot_before.tables[number] else null,
            .wire = &encoder.wire,
            .counts = head.encoded.tables[number],
        };
        return if (written.isEmpty()) 0 else wire_section.write(&written, w, a);
    }
};

/// A table's rows that a delta names, by ascending index.
pub const Rows = struct {
    removed: []const Item = &.{},
    left: []const Item = &.{},
    inserted: []const Item = &.{},
    /// Of the inserted, the indices of those that are not new but came into sight.
    entered: []const u32 = &.{},
    columns: std.ArrayList(section.Column) = .empty,
    /// How many rows a reader has beside the inserted; null when nobody counted.
    others: ?usize = null,
};

/// A bit for each item whose index is among `indices`, which ascend likewise; null for none.
fn bitmapOf(a: std.mem.Allocator, items: []const Item, indices: []const u32) error{OutOfMemory}!?[]const u64 {
    if (indices.len == 0) return null;
    const bitmap = try a.alloc(u64, (items.len + 63) / 64);
    @memset(bitmap, 0);
    var next: usize = 0;
    var any = false;
    for (items, 0..) |item, i| {
        while (next < indices.len and indices[next] < item.index) next += 1;
        if (next == indices.len) break;
        if (indices[next] != item.index) continue;
        bitmap[i / 64] |= @as(u64, 1) << @intCast(i & 63);
        any = true;
    }
    return if (any) bitmap else null;
}

/// The rows from `from` on for which there is room.
fn everything(a: std.mem.Allocator, of: *const view.TableView, from: u32, room: Room, end: *u64) error{OutOfMemory}![]Item {
    var list: std.ArrayList(Item) = .empty;
    var it = sparse.Iterator.from(of.pages(), from);
    if (room.text == 0) {
        const rows_max = @min(of.rows, room.rowsMax());
        const items = try memory.take(Item, .of(Item), a, rows_max);
        const n = it.fill(items);
        if (it.next()) |item| end.* = item.index;
        return items[0..n];
    }
    var used: u64 = 0;
    while (it.next()) |item| {
        used += room.needs(item.row);
        if (used > room.bytes and list.items.len > 0) {
            end.* = item.index;
            break;
        }
        try list.append(a, .{ .index = item.index, .row = item.row });
    }
    return list.items;
}

fn allColumns(
    a: std.mem.Allocator,
    since: *Since,
    changed: *Changed,
    hidden: []const u64,
    into: *std.ArrayList(section.Column),
) error{OutOfMemory}!void {
    var items: []const Item = &.{};
    var passed = false;
    for (changed.columns, 0..) |*maybe, f| {
        const column = if (maybe.*) |*c| c else continue;
        if (!column.same) {
            items = &.{};
            passed = true;
        }
        if (wire_section.isHidden(hidden, f)) continue;
        if (passed) items = try since.itemsOf(changed.of, column);
        try into.append(a, .{ .field = @intCast(f), .items = items, .same = !passed });
        passed = false;
    }
}

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
