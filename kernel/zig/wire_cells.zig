//! The cells of a column in a block of the wire: which packing is the shortest, and back.
//!
//! What has integers (`integers.zig`) is packed, an array's elements in lanes: the first elements of all rows, then the second.
//! Relative to a version that the reader holds, the integers are differences to the reader's own. Everything else, and a column with a cell
//! that has no quantum, is raw, each cell as it is on the wire (`quantize.zig`); where somebody will compress the block,
//! its bytes lie in planes then.
//!
//! A reader believes nothing: what would not fit its cell is refused.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const head_file = @import("head.zig");
const integers = @import("integers.zig");
const memory = @import("memory.zig");
const packing = @import("packing.zig");
const quantize = @import("quantize.zig");
const Field = catalogue.Field;
const Heap = @import("heap.zig").Heap;
const Item = block.Item;
const Places = integers.Places;
const Reader = block.Reader;

pub const isPackable = integers.isPackable;

/// Lanes that a writer looks at: beyond it an array is raw.
const lanes_max = 16;

/// Bytes of cells from which planes are worth their turning.
const planes_bytes_min = 64;
const planes_width_max = 64;

/// The cells that values are relative to, and which row of them each item has.
pub const Base = struct { data: []const u8, places: Places };

/// How a column was written.
pub const Written = struct { packing: block.Packing, relative: bool };

pub const Writer = struct {
    w: block.Writer,
    arena: std.mem.Allocator,
    heap: *const Heap,
    /// Raw cells in planes, for whoever compresses.
    planes: bool,

    /// Append the cells of `items`, which are at `places`; their packing goes to the byte at `packing_at`.
    pub fn write(writer: Writer, packing_at: usize, field: *const Field, data: []const u8, items: []const Item, places: Places, base: ?Base) error{OutOfMemory}!Written {
        const how: Written = if (field.type == .string) texts: {
            try writer.w.cells(packing_at, field, writer.heap, data, items);
            break :texts .{ .packing = @enumFromInt(writer.w.out.items[packing_at]), .relative = false };
        } else try writer.packed_(field, data, places, base) orelse try writer.raw(packing_at, field, data, items);
        writer.w.out.items[packing_at] = @intFromEnum(how.packing) | if (how.relative) @as(u8, block.relative_bit) else 0;
        return how;
    }

    /// Null where raw is as short.
    fn packed_(writer: Writer, field: *const Field, data: []const u8, places: Places, base: ?Base) error{OutOfMemory}!?Written {
        if (!isPackable(field) or integers.lanesOf(field) > lanes_max) return null;
        // A rotation's are wide.
        if (!field.rotation) return writer.packedAs(i32, field, data, places, base) catch |err| switch (err) {
            error.TooFar => writer.packedWide(field, data, places, base),
            error.OutOfMemory => error.OutOfMemory,
        };
        return writer.packedWide(field, data, places, base);
    }

    fn packedWide(writer: Writer, field: *const Field, data: []const u8, places: Places, base: ?Base) error{OutOfMemory}!?Written {
        return writer.packedAs(i64, field, data, places, base) catch |err| switch (err) {
            error.TooFar => null,
            error.OutOfMemory => error.OutOfMemory,
        };
    }

    /// `TooFar` where an integer is not one of `V`, or there is none.
    fn packedAs(writer: Writer, comptime V: type, field: *const Field, data: []const u8, places: Places, base: ?Base) error{ OutOfMemory, TooFar }!?Written {
        const n = places.len();
        const lanes = integers.lanesOf(field);
        const recoverable = integers.recoverable(field);
        const values = try integers.take(V, writer.arena, n * lanes);
        // With another version to look at, that the quanta can be told again is the usual case.
        const known = base != null and integers.gather(V, field, data, places, values, recoverable);
        if (!known and !integers.gather(V, field, data, places, values, quantize.quanta_max)) return error.TooFar;

        var best: struct { choice: *const Choice, bytes: usize, values: []const V, relative: bool } = undefined;
        best.bytes = std.math.maxInt(usize);
        var differences: Choice = undefined;
        if (base) |b| if (known and !field.rotation) {
            const before = try integers.take(V, writer.arena, values.len);
            if (integers.gather(V, field, b.data, b.places, before, recoverable)) {
                subtract(V, before, values);
                const found = differences.make(V, before, lanes, 0, best.bytes);
                best = .{ .choice = &differences, .bytes = found.bytes, .values = before, .relative = true };
            } else if (V == i32) return error.TooFar;
        };
        var absolute: Choice = undefined;
        const whole = absolute.make(V, values, lanes, null, best.bytes);
        if (whole.constant and n > 1 and field.width <= whole.bytes) return null; // raw says it is constant
        if (whole.bytes < best.bytes) best = .{ .choice = &absolute, .bytes = whole.bytes, .values = values, .relative = false };
        if (best.bytes >= n * field.width) return null;
        for (best.choice.ways[0..lanes], 0..) |way, lane| try packing.write(V, writer.w, best.values[lane * n ..][0..n], way);
        return .{ .packing = best.choice.packing, .relative = best.relative };
    }

    fn raw(writer: Writer, packing_at: usize, field: *const Field, data: []const u8, items: []const Item) error{OutOfMemory}!Written {
        const w = writer.w;
        const start = w.out.items.len;
        // Constant is found among cells as they are here. Two that differ may still be one on the wire: raw then.
        try w.values(packing_at, field.width, data, items);
        const cells = w.out.items[start..];
        if (quantize.isRounded(field)) quantize.wireCells(field, cells, cells);
        const how: block.Packing = @enumFromInt(w.out.items[packing_at]);
        if (how == .raw and writer.planes and cells.len >= planes_bytes_min and field.width > 1 and field.width <= planes_width_max) {
            const copy = try writer.arena.dupe(u8, cells);
            packing.toPlanes(copy, field.width, cells);
            return .{ .packing = .planes, .relative = false };
        }
        return .{ .packing = how, .relative = false };
    }
};

/// The packing with the fewest bytes for all lanes of a column: one for all of them.
const Choice = struct {
    packing: block.Packing,
    ways: [lanes_max]packing.Way,

    const Found = struct { bytes: usize, constant: bool };

    /// `bytes_max` is what is there already: what bits alone would take far more for is not looked at closely.
    fn make(choice: *Choice, comptime V: type, values: []const V, lanes: u32, centre: ?i64, bytes_max: usize) Found {
        const n = values.len / lanes;
        var constant = true;
        var bytes: usize = 0;
        for (0..lanes) |lane| {
            const of = values[lane * n ..][0..n];
            if (isFar(V, of, bytes_max)) return .{ .bytes = std.math.maxInt(usize), .constant = false };
            const like: packing.Lane = .of(V, of);
            constant = constant and like.isConstant();
            const found = if (lane == 0)
                packing.weigh(V, of, like, centre orelse packing.centreOf(V, of))
            else
                packing.weighAs(V, choice.packing, of, like, centre orelse packing.centreOf(V, of));
            if (found.way == .none) return .{ .bytes = std.math.maxInt(usize), .constant = constant };
            if (lane == 0) choice.packing = found.way.packing();
            choice.ways[lane] = found.way;
            bytes += found.bytes;
        }
        return .{ .bytes = bytes, .constant = constant };
    }
};

/// Whether a few of many values are so different already that all of them take far more than `bytes_max`.
fn isFar(comptime V: type, values: []const V, bytes_max: usize) bool {
    var some: [64]V = undefined;
    if (values.len < 8 * some.len or bytes_max > values.len * 8) return false;
    for (&some, 0..) |*to, i| to.* = values[i * values.len / some.len];
    const like: packing.Lane = .of(V, &some);
    return like.changes > some.len / 2 and like.bitsBytes(values.len) / 2 > bytes_max;
}

/// From the values before to the differences of `values` from them.
fn subtract(comptime V: type, before: []V, values: []const V) void {
    assert(before.len == values.len);
    @setRuntimeSafety(false);
    const n = 8;
    var i: usize = 0;
    while (i + n <= before.len) : (i += n) {
        const some: @Vector(n, V) = values[i..][0..n].*;
        before[i..][0..n].* = some -% @as(@Vector(n, V), before[i..][0..n].*);
    }
    while (i < before.len) : (i += 1) before[i] = values[i] -% before[i];
}

/// Read the `n` cells of a field. The memory is the arena's, or the block's own. `base` has the reader's cells where the
/// values are relative. Not for strings, nor for what is hidden.
pub fn read(r: *Reader, arena: std.mem.Allocator, field: *const Field, how: block.Packed, n: usize, base: ?Base) error{ BadBlock, OutOfMemory }!head_file.Strided {
    assert(field.type != .string);
    const width = field.width;
    switch (how.packing) {
        .raw => return .{ .base = (try r.take(try bytesOf(r, n, width))).ptr, .stride = width },
        .constant => return .{ .base = (try r.take(width)).ptr, .stride = 0 },
        .planes => {
            const planes = try r.take(try bytesOf(r, n, width));
            const cells = try memory.take(u8, .@"8", arena, planes.len);
            packing.fromPlanes(planes, width, cells);
            return .{ .base = cells.ptr, .stride = width };
        },
        .bits, .two_class, .runs => {},
        else => unreachable, // sorted out by the caller and `wirePacking`
    }
    if (!isPackable(field)) return r.fail(.packing);
    const relative = how.relative;
    if (relative and field.rotation) return r.fail(.packing);
    const cells = try memory.take(u8, .@"8", arena, try bytesOf(r, n, width));
    const values = try integers.take(i64, arena, n);
    const lanes = integers.lanesOf(field);
    const before: []i64 = if (relative) try integers.take(i64, arena, n * lanes) else &.{};
    if (relative and !integers.gather(i64, field, base.?.data, base.?.places, before, integers.recoverable(field))) return r.fail(.packing);
    for (0..lanes) |lane| {
        try packing.read(r, how.packing, values);
        if (relative) for (values, before[lane * n ..][0..n]) |*value, was| {
            value.* +%= was;
        };
        if (!integers.scatter(field, lane, values, cells)) return r.fail(.packing);
    }
    return .{ .base = cells.ptr, .stride = width };
}

/// Go over the cells of a field without looking at them.
pub fn pass(r: *Reader, field: *const Field, how: block.Packed, n: usize) error{BadBlock}!void {
    switch (how.packing) {
        .hidden => {},
        .constant, .raw => {
            const cells = if (how.packing == .constant) 1 else n;
            // Each takes a byte at least, so a count from anywhere ends with the bytes.
            if (field.type == .string) {
                for (0..cells) |_| try r.passText();
            } else _ = try r.take(try bytesOf(r, cells, field.width));
        },
        .planes => {
            if (field.type == .string) return r.fail(.packing);
            _ = try r.take(try bytesOf(r, n, field.width));
        },
        else => {
            if (!isPackable(field)) return r.fail(.packing);
            for (0..integers.lanesOf(field)) |_| try packing.pass(r, how.packing, n);
        },
    }
}

/// In 64 bits: on wasm a product of two such numbers need not fit an address.
fn bytesOf(r: *Reader, n: usize, width: u32) error{BadBlock}!usize {
    return std.math.cast(usize, @as(u64, n) * width) orelse r.fail(.truncated);
}
