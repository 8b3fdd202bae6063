//! The cells of a column in a block of the wire: which packing is the shortest, and back.
//!
//! Integers are packed as they are, floats with a step as their quanta, rotations as their three smallest components.
//! An array's elements are lanes of their own: the first elements of all rows, then the second. Relative to a version
//! that the reader holds, the integers are differences to the reader's own. Everything else, and a column with a cell
//! that has no quantum, is raw, each cell as it is on the wire (`quantize.zig`); where somebody will compress the block,
//! its bytes lie in planes then.
//!
//! A reader believes nothing: what would not fit its cell is refused.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const head_file = @import("head.zig");
const memory = @import("memory.zig");
const packing = @import("packing.zig");
const quantize = @import("quantize.zig");
const Field = catalogue.Field;
const Heap = @import("heap.zig").Heap;
const Item = block.Item;
const Reader = block.Reader;
const Steps = quantize.Steps;
const Rotation = quantize.Rotation;

/// Lanes that a writer looks at: beyond it an array is raw.
const lanes_max = 16;

/// Bytes of cells from which planes are worth their turning.
const planes_bytes_min = 64;
const planes_width_max = 64;

/// The cells that values are relative to, and which row of them each item has.
pub const Base = struct { data: []const u8, rows: []const u32 };

/// How a column was written.
pub const Written = struct { packing: block.Packing, relative: bool };

pub const Writer = struct {
    w: block.Writer,
    arena: std.mem.Allocator,
    heap: *const Heap,
    /// Raw cells in planes, for whoever compresses.
    planes: bool,

    /// Append the cells of `items`; their packing goes to the byte at `packing_at`.
    pub fn write(writer: Writer, packing_at: usize, field: *const Field, data: []const u8, items: []const Item, base: ?Base) error{OutOfMemory}!Written {
        const how: Written = if (field.type == .string) texts: {
            try writer.w.cells(packing_at, field, writer.heap, data, items);
            break :texts .{ .packing = @enumFromInt(writer.w.out.items[packing_at]), .relative = false };
        } else try writer.packed_(field, data, items, base) orelse try writer.raw(packing_at, field, data, items);
        writer.w.out.items[packing_at] = @intFromEnum(how.packing) | if (how.relative) @as(u8, block.relative_bit) else 0;
        return how;
    }

    /// Null where raw is as short.
    fn packed_(writer: Writer, field: *const Field, data: []const u8, items: []const Item, base: ?Base) error{OutOfMemory}!?Written {
        const lanes: u32 = if (field.rotation) 1 else field.count;
        if (!isPackable(field) or lanes > lanes_max) return null;
        const n = items.len;
        const values = try integers(writer.arena, n * lanes);
        // With another version to look at, that the quanta can be told again is the usual case.
        const known = base != null and gather(field, data, .{ .items = items }, values, recoverable(field));
        if (!known and !gather(field, data, .{ .items = items }, values, quantize.quanta_max)) return null;
        const raw_bytes = n * field.width;

        var best: struct { choice: *const Choice, bytes: usize, values: []const i64, relative: bool } = undefined;
        best.bytes = std.math.maxInt(usize);
        var differences: Choice = undefined;
        if (base) |b| if (known and !field.rotation) {
            const before = try integers(writer.arena, values.len);
            if (gather(field, b.data, .{ .rows = b.rows }, before, recoverable(field))) {
                for (before, values) |*was, value| was.* = value -% was.*;
                const found = differences.make(before, lanes, 0, best.bytes);
                best = .{ .choice = &differences, .bytes = found.bytes, .values = before, .relative = true };
            }
        };
        var absolute: Choice = undefined;
        const whole = absolute.make(values, lanes, null, best.bytes);
        if (whole.constant and n > 1 and field.width <= whole.bytes) return null; // raw says it is constant
        if (whole.bytes < best.bytes) best = .{ .choice = &absolute, .bytes = whole.bytes, .values = values, .relative = false };
        if (best.bytes >= raw_bytes) return null;
        for (best.choice.ways[0..lanes], 0..) |way, lane| try packing.write(writer.w, best.values[lane * n ..][0..n], way);
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
    fn make(choice: *Choice, values: []const i64, lanes: u32, centre: ?i64, bytes_max: usize) Found {
        const n = values.len / lanes;
        var constant = true;
        var bytes: usize = 0;
        for (0..lanes) |lane| {
            const of = values[lane * n ..][0..n];
            if (isFar(of, bytes_max)) return .{ .bytes = std.math.maxInt(usize), .constant = false };
            const like: packing.Lane = .of(of);
            constant = constant and like.isConstant();
            const found = if (lane == 0)
                packing.weigh(of, like, centre orelse packing.centreOf(of))
            else
                packing.weighAs(choice.packing, of, like, centre orelse packing.centreOf(of));
            if (found.way == .none) return .{ .bytes = std.math.maxInt(usize), .constant = constant };
            if (lane == 0) choice.packing = found.way.packing();
            choice.ways[lane] = found.way;
            bytes += found.bytes;
        }
        return .{ .bytes = bytes, .constant = constant };
    }
};

/// Whether a few of many values are so different already that all of them take far more than `bytes_max`.
fn isFar(values: []const i64, bytes_max: usize) bool {
    var some: [64]i64 = undefined;
    if (values.len < 8 * some.len or bytes_max > values.len * 8) return false;
    for (&some, 0..) |*to, i| to.* = values[i * values.len / some.len];
    const like: packing.Lane = .of(&some);
    return like.changes > some.len / 2 and like.bitsBytes(values.len) / 2 > bytes_max;
}

/// Whether its cells are integers on the wire.
pub fn isPackable(field: *const Field) bool {
    return switch (field.type) {
        .f32, .f64 => quantize.isRounded(field),
        .bytes, .string => false,
        else => true,
    };
}

fn integers(arena: std.mem.Allocator, n: usize) error{OutOfMemory}![]i64 {
    return memory.take(i64, .of(i64), arena, n);
}

fn recoverable(field: *const Field) f64 {
    return if (field.type == .f32) Steps(f32).recoverable else Steps(f64).recoverable;
}

fn below(values: []const i64, bound: f64) bool {
    const most: u64 = @intFromFloat(bound);
    var largest: u64 = 0;
    for (values) |value| largest = @max(largest, @abs(value));
    return largest < most;
}

const Which = union(enum) {
    items: []const Item,
    rows: []const u32,

    inline fn at(which: Which, i: usize) usize {
        return switch (which) {
            inline else => |list| if (@TypeOf(list) == []const u32) list[i] else list[i].row,
        };
    }

    fn len(which: Which) usize {
        return switch (which) {
            inline else => |list| list.len,
        };
    }
};

/// The integers of cells, lane after lane. False where one has none, or has one that is not below `bound`.
fn gather(field: *const Field, data: []const u8, which: Which, into: []i64, bound: f64) bool {
    if (field.rotation) {
        const rotation: Rotation = .of(field);
        for (into, 0..) |*to, i|
            to.* = rotation.pack(@bitCast(data[which.at(i) * 16 ..][0..16].*)) orelse return false;
        return true;
    }
    return switch (which) {
        inline else => |list| switch (field.type) {
            inline .u8, .u16, .u32, .u64, .i8, .i16, .i32, .i64, .f32, .f64, .bool => |kind| gatherOf(kind, field, data, list, into, bound),
            .bytes, .string => unreachable, // not packable
        },
    };
}

fn gatherOf(comptime kind: catalogue.Type, field: *const Field, data: []const u8, list: anytype, into: []i64, bound: f64) bool {
    const T = catalogue.Native(kind);
    const size = @sizeOf(T);
    const width = field.width;
    const n = list.len;
    // Checked for all of them at once; the loops below go without.
    var last: u32 = 0;
    for (list) |one| last = @max(last, rowOf(one));
    assert((@as(usize, last) + 1) * width <= data.len);
    for (0..field.count) |lane| {
        const to = into[lane * n ..][0..n];
        if (kind == .f32 or kind == .f64) {
            const steps: Steps(T) = .of(field);
            @setRuntimeSafety(false); // undefined memory is not filled then
            var room: [256]T = undefined;
            var i: usize = 0;
            while (i < n) {
                const some = @min(room.len, n - i);
                for (room[0..some], list[i..][0..some]) |*cell, one|
                    cell.* = @bitCast(data[@as(usize, rowOf(one)) * width + lane * size ..][0..size].*);
                if (!steps.quanta(room[0..some], to[i..][0..some], bound)) return false;
                i += some;
            }
        } else {
            @setRuntimeSafety(false);
            for (to, list) |*value, one| {
                const cell: T = @bitCast(data[@as(usize, rowOf(one)) * width + lane * size ..][0..size].*);
                value.* = if (T == u64) @bitCast(cell) else cell;
            }
        }
    }
    return true;
}

inline fn rowOf(one: anytype) u32 {
    return if (@TypeOf(one) == u32) one else one.row;
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
    const values = try integers(arena, n);
    const lanes: u32 = if (field.rotation) 1 else field.count;
    const before: []i64 = if (relative) try integers(arena, n * lanes) else &.{};
    if (relative and !gather(field, base.?.data, .{ .rows = base.?.rows }, before, recoverable(field))) return r.fail(.packing);
    for (0..lanes) |lane| {
        try packing.read(r, how.packing, values);
        if (relative) for (values, before[lane * n ..][0..n]) |*value, was| {
            value.* +%= was;
        };
        if (field.rotation) {
            const rotation: Rotation = .of(field);
            for (values, 0..) |bits, i| cells[i * 16 ..][0..16].* = @bitCast(rotation.unpack(bits));
        } else switch (field.type) {
            inline .u8, .u16, .u32, .u64, .i8, .i16, .i32, .i64, .f32, .f64, .bool => |kind| if (!scatter(kind, field, lane, values, cells))
                return r.fail(.packing),
            .bytes, .string => unreachable,
        }
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
            for (0..if (field.rotation) 1 else field.count) |_| try packing.pass(r, how.packing, n);
        },
    }
}

/// In 64 bits: on wasm a product of two such numbers need not fit an address.
fn bytesOf(r: *Reader, n: usize, width: u32) error{BadBlock}!usize {
    return std.math.cast(usize, @as(u64, n) * width) orelse r.fail(.truncated);
}

/// False where a value does not fit.
fn scatter(comptime kind: catalogue.Type, field: *const Field, lane: usize, values: []const i64, cells: []u8) bool {
    const T = catalogue.Native(kind);
    const size = @sizeOf(T);
    const width = field.width;
    assert(cells.len == values.len * width and (lane + 1) * size <= width);
    if (kind == .f32 or kind == .f64) {
        const steps: Steps(T) = .of(field);
        if (!below(values, quantize.quanta_max + 1)) return false;
        @setRuntimeSafety(false);
        var room: [256]T = undefined;
        var from: usize = 0;
        while (from < values.len) : (from += room.len) {
            const some = values[from..@min(from + room.len, values.len)];
            steps.values(some, room[0..some.len]);
            for (room[0..some.len], from..) |cell, i| cells[i * width + lane * size ..][0..size].* = @bitCast(cell);
        }
        return true;
    }
    if (T != u64 and T != i64) {
        var least = values[0];
        var most = values[0];
        for (values) |value| {
            least = @min(least, value);
            most = @max(most, value);
        }
        if (least < std.math.minInt(T) or most > std.math.maxInt(T)) return false;
    }
    @setRuntimeSafety(false);
    for (values, 0..) |value, i| {
        const cell: T = if (T == u64) @bitCast(value) else @intCast(value);
        cells[i * width + lane * size ..][0..size].* = @bitCast(cell);
    }
    return true;
}
