//! The integers that the cells of a column are on the wire, and back: integer cells as they are, floats with a step as their
//! quanta, rotations as their three smallest components. An array's elements are lanes of their own.
//!
//! They are i64. A writer takes i32 where all of a column are `narrow`, which they nearly always are: twice as many fit a
//! register.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const memory = @import("memory.zig");
const packing = @import("packing.zig");
const quantize = @import("quantize.zig");
const Field = catalogue.Field;
const Item = block.Item;
const Rotation = quantize.Rotation;
const Steps = quantize.Steps;

/// Integers below this in magnitude are had as i32, and the differences of two of them are `packing.narrow`.
pub const narrow = packing.narrow / 2;

/// Cells that are brought together before they become integers.
const chunk = 256;

/// Which rows of a column, in order. Each is one of the column's.
pub const Places = union(enum) {
    run: struct { first: u32, n: usize },
    rows: []const u32,

    /// Those of `items`, of which there is one at least.
    pub fn of(items: []const Item, arena: std.mem.Allocator) error{OutOfMemory}!Places {
        if (block.isRun(items)) return .{ .run = .{ .first = items[0].row, .n = items.len } };
        const rows = try take(u32, arena, items.len);
        for (rows, items) |*row, item| row.* = item.row;
        return .{ .rows = rows };
    }

    pub fn len(places: Places) usize {
        return switch (places) {
            .run => |run| run.n,
            .rows => |rows| rows.len,
        };
    }

    /// A row that none of them is beyond.
    fn last(places: Places) u32 {
        switch (places) {
            .run => |run| return run.first + @as(u32, @intCast(run.n - 1)),
            .rows => |rows| {
                var most: u32 = 0;
                for (rows) |row| most = @max(most, row);
                return most;
            },
        }
    }
};

/// Room for integers, which is not filled with anything.
pub fn take(comptime V: type, arena: std.mem.Allocator, n: usize) error{OutOfMemory}![]V {
    return memory.take(V, .of(V), arena, n);
}

/// Whether a field's cells are integers on the wire.
pub fn isPackable(field: *const Field) bool {
    return switch (field.type) {
        .f32, .f64 => quantize.isRounded(field),
        .bytes, .string => false,
        else => true,
    };
}

/// Quanta below this can be told from the cell that a reader holds.
pub fn recoverable(field: *const Field) f64 {
    return if (field.type == .f32) Steps(f32).recoverable else Steps(f64).recoverable;
}

pub fn lanesOf(field: *const Field) u32 {
    return if (field.rotation) 1 else field.count;
}

/// The integers of cells, lane after lane. False where one has none, has a quantum that is not below `bound`, or does not fit:
/// then they are not to be used.
pub fn gather(comptime V: type, field: *const Field, data: []const u8, places: Places, into: []V, bound: f64) bool {
    // Checked for all of them at once; the loops go without.
    assert((@as(usize, places.last()) + 1) * field.width <= data.len);
    const n = places.len();
    assert(into.len == n * lanesOf(field));
    if (field.rotation) {
        if (V == i32) return false;
        const rotation: Rotation = .of(field);
        for (into, 0..) |*to, i| {
            const row: usize = switch (places) {
                .run => |run| run.first + i,
                .rows => |rows| rows[i],
            };
            to.* = rotation.pack(@bitCast(data[row * 16 ..][0..16].*)) orelse return false;
        }
        return true;
    }
    for (0..field.count) |lane| {
        const to = into[lane * n ..][0..n];
        const fits = switch (field.type) {
            inline .u8, .u16, .u32, .u64, .i8, .i16, .i32, .i64, .f32, .f64, .bool => |kind| gatherLane(V, kind, field, data, lane, places, to, bound),
            .bytes, .string => unreachable, // not packable
        };
        if (!fits) return false;
    }
    return true;
}

fn gatherLane(comptime V: type, comptime kind: catalogue.Type, field: *const Field, data: []const u8, lane: usize, places: Places, into: []V, bound: f64) bool {
    const T = catalogue.Native(kind);
    const size = @sizeOf(T);
    const width = field.width;
    const steps: if (kind == .f32 or kind == .f64) Steps(T) else void = if (kind == .f32 or kind == .f64) .of(field) else {};
    @setRuntimeSafety(false); // undefined memory is not filled then
    var room: [chunk * size]u8 = undefined;
    var i: usize = 0;
    while (i < into.len) {
        const some: usize = @min(chunk, into.len - i);
        const cells: []const u8 = switch (places) {
            .run => |run| cells: {
                const from = data[(run.first + i) * width + lane * size ..];
                if (width == size) break :cells from[0 .. some * size];
                for (0..some) |k| room[k * size ..][0..size].* = from[k * width ..][0..size].*;
                break :cells room[0 .. some * size];
            },
            .rows => |rows| cells: {
                const from = data[lane * size ..];
                for (rows[i..][0..some], 0..) |row, k| room[k * size ..][0..size].* = from[@as(usize, row) * width ..][0..size].*;
                break :cells room[0 .. some * size];
            },
        };
        const fits = if (kind == .f32 or kind == .f64)
            steps.quanta(V, cells, into[i..][0..some], if (V == i32) @min(bound, narrow - 1) else bound)
        else
            whole(V, T, cells, into[i..][0..some]);
        if (!fits) return false;
        i += some;
    }
    return true;
}

/// Integer cells as they are. False where one does not fit.
fn whole(comptime V: type, comptime T: type, cells: []const u8, into: []V) bool {
    const size = @sizeOf(T);
    @setRuntimeSafety(false);
    var fits = true;
    for (into, 0..) |*to, i| {
        const cell: T = @bitCast(cells[i * size ..][0..size].*);
        if (V == i64) {
            to.* = if (T == u64) @bitCast(cell) else cell;
        } else if (@bitSizeOf(T) < 32) {
            to.* = cell;
        } else {
            // In one comparison: what is below in magnitude.
            const U = std.meta.Int(.unsigned, @bitSizeOf(T));
            const above = @as(U, @bitCast(cell)) +% (narrow - 1);
            fits = fits and (if (@typeInfo(T).int.signedness == .signed) above < 2 * narrow - 1 else cell < narrow);
            to.* = @truncate(@as(std.meta.Int(.signed, @bitSizeOf(T)), @bitCast(cell)));
        }
    }
    return fits;
}

/// Write a lane's integers into `cells`. False where one is none of the field's.
pub fn scatter(field: *const Field, lane: usize, values: []const i64, cells: []u8) bool {
    if (field.rotation) {
        const rotation: Rotation = .of(field);
        for (values, 0..) |bits, i| cells[i * 16 ..][0..16].* = @bitCast(rotation.unpack(bits));
        return true;
    }
    return switch (field.type) {
        inline .u8, .u16, .u32, .u64, .i8, .i16, .i32, .i64, .f32, .f64, .bool => |kind| scatterOf(kind, field, lane, values, cells),
        .bytes, .string => unreachable, // not packable
    };
}

fn scatterOf(comptime kind: catalogue.Type, field: *const Field, lane: usize, values: []const i64, cells: []u8) bool {
    const T = catalogue.Native(kind);
    const size = @sizeOf(T);
    const width = field.width;
    assert(cells.len == values.len * width and (lane + 1) * size <= width);
    if (kind == .f32 or kind == .f64) {
        const steps: Steps(T) = .of(field);
        if (!below(values, quantize.quanta_max + 1)) return false;
        @setRuntimeSafety(false);
        var room: [chunk]T = undefined;
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

fn below(values: []const i64, bound: f64) bool {
    const most: u64 = @intFromFloat(bound);
    var largest: u64 = 0;
    for (values) |value| largest = @max(largest, @abs(value));
    return largest < most;
}
