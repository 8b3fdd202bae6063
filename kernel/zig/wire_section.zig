//! One table's part of a block of the wire (`block.zig`), from lists of rows that somebody has made.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const encoded = @import("encoded.zig");
const integers = @import("integers.zig");
const section_file = @import("section.zig");
const view = @import("view.zig");
const wire_cells = @import("wire_cells.zig");
const Item = block.Item;
const Meter = encoded.Meter;
const Places = integers.Places;
const Section = section_file.Section;

/// Append it. Returns how many rows are named: removed, left, inserted, and of the longest column.
pub fn write(section: *const Section, w: block.Writer, arena: std.mem.Allocator) error{OutOfMemory}!u32 {
    const spec = section.spec;
    var meter: Meter = .begin(w, section.counts);
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
    if (section.inserted.len > 0) try inserted(section, w, arena, &meter);

    const cells = cellsOf(section, w, arena);
    var longest: usize = 0;
    var before: ?[]const Item = null;
    var places: Places = undefined;
    var places_before: ?Places = null;
    for (section.columns) |column| {
        if (column.items.len == 0) continue;
        assert(!isHidden(section.hidden, column.field));
        longest = @max(longest, column.items.len);
        const form = section.formOf(&column, before);
        const field = &spec.fields[column.field];
        try w.int(u16, field.id);
        try w.int(u8, @intFromEnum(form));
        try w.int(u8, 0);
        const packing_at = w.out.items.len - 1;
        if (form != .same) try w.varint(@intCast(column.items.len));
        try w.names(form, column.items);
        if (form != .same) {
            places = try .of(column.items, arena);
            places_before = if (section.reference) |reference| try placesIn(reference, section.keys, places, arena) else null;
        }
        const base: ?wire_cells.Base = if (places_before) |known|
            .{ .data = section.reference.?.columns[column.field].data, .places = known }
        else
            null;
        const cells_at = w.out.items.len;
        const written = try cells.write(packing_at, field, section.cells[column.field], column.items, places, base);
        meter.field(column.field, cells_at);
        if (written.relative) section.wire.?.relative = true;
        before = column.items;
    }
    meter.end();
    return @intCast(section.removed.len + section.left.len + section.inserted.len + longest);
}

fn inserted(section: *const Section, w: block.Writer, arena: std.mem.Allocator, meter: *Meter) error{OutOfMemory}!void {
    const items = section.inserted;
    try w.varint(@intCast(items.len));
    try section_file.names(w, items);
    if (section.narrowed) |bitmap| {
        const bytes = try w.out.addManyAsSlice(w.gpa, (items.len + 7) / 8);
        for (bytes, 0..) |*byte, i| byte.* = @truncate(bitmap[i / 8] >> @intCast(i % 8 * 8));
    }
    try generations(w, section.keys, items);
    const cells = cellsOf(section, w, arena);
    const at: Places = try .of(items, arena);
    for (section.spec.fields[0..section.cells.len], section.cells, 0..) |*field, data, f| {
        if (isHidden(section.hidden, f)) {
            try w.int(u8, @intFromEnum(block.Packing.hidden));
            continue;
        }
        try w.int(u8, 0);
        const cells_at = w.out.items.len;
        _ = try cells.write(cells_at - 1, field, data, items, at, null);
        meter.field(f, cells_at);
    }
}

/// The generations of the inserted keys: mostly they are one and the same.
fn generations(w: block.Writer, keys: []const u64, items: []const Item) error{OutOfMemory}!void {
    const first: u32 = @truncate(keys[items[0].row] >> 32);
    const constant = items.len > 1 and for (items) |item| {
        if (@as(u32, @truncate(keys[item.row] >> 32)) != first) break false;
    } else true;
    try w.int(u8, @intFromEnum(if (constant) block.Packing.constant else block.Packing.raw));
    if (constant) return w.int(u32, first);
    const to = try w.out.addManyAsSlice(w.gpa, items.len * 4);
    for (items, 0..) |item, i| std.mem.writeInt(u32, to[i * 4 ..][0..4], @truncate(keys[item.row] >> 32), .little);
}

fn cellsOf(section: *const Section, w: block.Writer, arena: std.mem.Allocator) wire_cells.Writer {
    const planes = if (section.wire) |wire| wire.planes else false;
    return .{ .w = w, .arena = arena, .heap = section.heap, .planes = planes };
}

/// Where the rows at `places` are in the reference; null where it has not one of them.
fn placesIn(reference: *const view.TableView, keys: []const u64, places: Places, arena: std.mem.Allocator) error{OutOfMemory}!?Places {
    const before = reference.keyList();
    // Mostly all are where they were.
    switch (places) {
        .run => |run| {
            const end = run.first + run.n;
            if (end <= before.len and std.mem.eql(u64, keys[run.first..end], before[run.first..end])) return places;
        },
        .rows => |rows| for (rows) |row| {
            if (row >= before.len or before[row] != keys[row]) break;
        } else return places,
    }
    const found = try integers.take(u32, arena, places.len());
    for (found, 0..) |*to, i| {
        const row = switch (places) {
            .run => |run| run.first + i,
            .rows => |rows| rows[i],
        };
        const key = keys[row];
        to.* = if (row < before.len and before[row] == key) @intCast(row) else reference.find(key) orelse return null;
    }
    return .{ .rows = found };
}

pub fn isHidden(hidden: []const u64, field: usize) bool {
    return field / 64 < hidden.len and hidden[field / 64] >> @intCast(field % 64) & 1 == 1;
}
