//! One table's part of a block of the wire (`block.zig`), from lists of rows that somebody has made.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const section_file = @import("section.zig");
const view = @import("view.zig");
const wire_cells = @import("wire_cells.zig");
const Item = block.Item;
const Section = section_file.Section;

/// Append it. Returns how many rows are named: removed, left, inserted, and of the longest column.
pub fn write(section: *const Section, w: block.Writer, arena: std.mem.Allocator) error{OutOfMemory}!u32 {
    const spec = section.spec;
    try w.int(u16, spec.id);
    try w.varint(section.named());
    var flags: u8 = 0;
    if (section.removed.len > 0) flags |= block.flag_removed;
    if (section.left.len > 0) flags |= block.flag_left;
    if (section.inserted.len > 0) flags |= block.flag_inserted;
    if (section.inserted.len > 0 and section.narrowed != null) flags |= block.flag_narrowed;
    try w.int(u8, flags);
    for ([_][]const Item{ section.removed, section.left }) |items| if (items.len > 0) {
        try w.varint(@intCast(items.len));
        try section_file.names(w, items);
    };
    if (section.inserted.len > 0) try inserted(section, w, arena);

    const cells = cellsOf(section, w, arena);
    var longest: usize = 0;
    var before: ?[]const Item = null;
    var rows: ?[]const u32 = null;
    for (section.columns) |column| {
        if (column.items.len == 0) continue;
        assert(!isHidden(section.hidden, column.field));
        longest = @max(longest, column.items.len);
        const same = column.same and before != null and before.?.ptr == column.items.ptr;
        const form: block.Form = if (same)
            .same
        else if (section.others == column.items.len)
            .all
        else
            block.Writer.pickForm(column.items);
        const field = &spec.fields[column.field];
        try w.int(u16, field.id);
        try w.int(u8, @intFromEnum(form));
        try w.int(u8, 0);
        const packing_at = w.out.items.len - 1;
        if (form != .same) try w.varint(@intCast(column.items.len));
        try w.names(form, column.items);
        if (section.reference) |reference| if (!same) {
            rows = try rowsIn(reference, section.keys, column.items, arena);
        };
        const base: ?wire_cells.Base = if (rows) |known|
            .{ .data = section.reference.?.columns[column.field].data, .rows = known }
        else
            null;
        const written = try cells.write(packing_at, field, section.cells[column.field], column.items, base);
        if (written.relative) section.wire.?.relative = true;
        before = column.items;
    }
    return @intCast(section.removed.len + section.left.len + section.inserted.len + longest);
}

fn inserted(section: *const Section, w: block.Writer, arena: std.mem.Allocator) error{OutOfMemory}!void {
    const items = section.inserted;
    try w.varint(@intCast(items.len));
    try section_file.names(w, items);
    if (section.narrowed) |bitmap| {
        const bytes = try w.out.addManyAsSlice(w.gpa, (items.len + 7) / 8);
        for (bytes, 0..) |*byte, i| byte.* = @truncate(bitmap[i / 8] >> @intCast(i % 8 * 8));
    }
    const generations = try arena.alloc(u32, items.len);
    const places = try arena.alloc(Item, items.len);
    for (items, generations, places, 0..) |item, *generation, *place, i| {
        generation.* = @truncate(section.keys[item.row] >> 32);
        place.* = .{ .index = 0, .row = @intCast(i) };
    }
    try w.int(u8, 0);
    try w.values(w.out.items.len - 1, 4, std.mem.sliceAsBytes(generations), places);
    const cells = cellsOf(section, w, arena);
    for (section.spec.fields[0..section.cells.len], section.cells, 0..) |*field, data, f| {
        if (isHidden(section.hidden, f)) {
            try w.int(u8, @intFromEnum(block.Packing.hidden));
            continue;
        }
        try w.int(u8, 0);
        _ = try cells.write(w.out.items.len - 1, field, data, items, null);
    }
}

fn cellsOf(section: *const Section, w: block.Writer, arena: std.mem.Allocator) wire_cells.Writer {
    const planes = if (section.wire) |wire| wire.planes else false;
    return .{ .w = w, .arena = arena, .heap = section.heap, .planes = planes };
}

/// The rows that the keys of `items` have in the reference; null where one has none.
fn rowsIn(reference: *const view.TableView, keys: []const u64, items: []const Item, arena: std.mem.Allocator) error{OutOfMemory}!?[]const u32 {
    const rows = try arena.alloc(u32, items.len);
    const before = reference.keyList();
    for (rows, items) |*row, item| {
        const key = keys[item.row];
        // Mostly it is where it was.
        row.* = if (item.row < before.len and before[item.row] == key)
            item.row
        else
            reference.find(key) orelse return null;
    }
    return rows;
}

pub fn isHidden(hidden: []const u64, field: usize) bool {
    return field / 64 < hidden.len and hidden[field / 64] >> @intCast(field % 64) & 1 == 1;
}
