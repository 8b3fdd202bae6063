//! Integers in few bytes: one lane of a column of a block of the wire, in one of three ways.
//!
//!     3 bits       zigzag LEB128 minimum | u8 bits | each value minus the minimum, `bits` wide, lowest bit first
//!     4 two class  zigzag LEB128 centre | u8 small bits | zigzag LEB128 minimum | u8 large bits
//!                  | a bit per value: it is large | zigzag (value − centre) of the small | value − minimum of the large
//!     5 runs       LEB128 runs | (LEB128 length − 1 | zigzag LEB128 value minus the one of the run before, or 0)*
//!
//! Each of the packed lists begins at a whole byte, and the bits behind its last value are 0. All arithmetic is of 64
//! bits and wraps, so that a u64 is packed by its bits like an i64. LEB128 has at most 10 bytes here.
//!
//! `weigh` tells what each way would take; `write` and `read` do it. A writer's values are i64, or i32 where all of them are
//! `narrow`, which is several times as quick and gives the same bytes. A reader believes nothing: it stays in bounds, and
//! the caller says how many values there are.

const std = @import("std");
const assert = std.debug.assert;
const bits_file = @import("bits.zig");
const block = @import("block.zig");
const Reader = block.Reader;
const Writer = block.Writer;

const bits_max = bits_file.bits_max;
const packedBytes = bits_file.bytesFor;

/// Packing of so few is not looked for in two classes.
const two_class_rows_min = 24;

pub const Way = union(enum) {
    /// Not at all: the values are too far apart.
    none,
    bits: struct { minimum: i64, bits: u6 },
    two_class: struct { centre: i64, small: u6, minimum: i64, large: u6, larges: usize },
    runs: usize,

    pub fn packing(way: Way) block.Packing {
        return switch (way) {
            .none => .raw,
            .bits => .bits,
            .two_class => .two_class,
            .runs => .runs,
        };
    }
};

/// Values below this in magnitude may be i32: their differences, and the zigzag of those, are positive as i32 then.
pub const narrow = 1 << 29;

/// Values that are looked at together.
const chunk = 256;

/// What a lane is like.
pub const Lane = struct {
    minimum: i64,
    maximum: i64,
    changes: usize,

    pub fn of(comptime V: type, values: []const V) Lane {
        assert(values.len > 0);
        @setRuntimeSafety(false);
        const n = 8;
        var minimum: @Vector(n, V) = @splat(values[0]);
        var maximum = minimum;
        // Counted down from zero: what is true is −1.
        var changes: @Vector(n, V) = @splat(0);
        var i: usize = 1;
        while (i + n <= values.len) : (i += n) {
            const some: @Vector(n, V) = values[i..][0..n].*;
            const before: @Vector(n, V) = values[i - 1 ..][0..n].*;
            minimum = @min(minimum, some);
            maximum = @max(maximum, some);
            changes -= @as(@Vector(n, V), @intFromBool(some != before));
        }
        var like: Lane = .{
            .minimum = @reduce(.Min, minimum),
            .maximum = @reduce(.Max, maximum),
            .changes = @intCast(-@reduce(.Add, changes)),
        };
        while (i < values.len) : (i += 1) {
            like.minimum = @min(like.minimum, values[i]);
            like.maximum = @max(like.maximum, values[i]);
            like.changes += @intFromBool(values[i] != values[i - 1]);
        }
        return like;
    }

    pub fn isConstant(lane: *const Lane) bool {
        return lane.minimum == lane.maximum;
    }

    /// What bits alone take, or the most there is.
    pub fn bitsBytes(lane: *const Lane, n: usize) usize {
        const wide = bitsOf(lane.span());
        return if (wide > bits_max) std.math.maxInt(usize) else packedBytes(n, wide);
    }

    fn span(lane: *const Lane) u64 {
        return @as(u64, @bitCast(lane.maximum)) -% @as(u64, @bitCast(lane.minimum));
    }
};

pub const Weighed = struct { way: Way, bytes: usize };

/// The way with the fewest bytes. `centre` is where most values are thought to be.
pub fn weigh(comptime V: type, values: []const V, lane: Lane, centre: i64) Weighed {
    const wide = bitsOf(lane.span());
    var best: Weighed = .{ .way = .none, .bytes = std.math.maxInt(usize) };
    if (wide <= bits_max) best = .{
        .way = .{ .bits = .{ .minimum = lane.minimum, .bits = @intCast(wide) } },
        .bytes = signedBytes(lane.minimum) + 1 + packedBytes(values.len, wide),
    };
    // A run takes two bytes at least, and mostly more.
    if ((lane.changes + 1) * 2 < best.bytes and (lane.changes + 1) * 3 <= @max(values.len, 6)) {
        const bytes = runsBytes(V, values, lane.changes + 1);
        if (bytes < best.bytes) best = .{ .way = .{ .runs = lane.changes + 1 }, .bytes = bytes };
    }
    if (values.len >= two_class_rows_min and wide >= 3 and wide <= bits_max) {
        if (twoClass(V, values, lane, centre, wide, best.bytes)) |found| best = found;
    }
    return best;
}

/// The same in one way that another lane of the column has taken; `none` where it cannot be.
pub fn weighAs(comptime V: type, how: block.Packing, values: []const V, lane: Lane, centre: i64) Weighed {
    const wide = bitsOf(lane.span());
    const none: Weighed = .{ .way = .none, .bytes = std.math.maxInt(usize) };
    if (how == .runs) return .{ .way = .{ .runs = lane.changes + 1 }, .bytes = runsBytes(V, values, lane.changes + 1) };
    if (wide > bits_max) return none;
    if (how == .two_class) return twoClass(V, values, lane, centre, wide, std.math.maxInt(usize)) orelse none;
    return .{
        .way = .{ .bits = .{ .minimum = lane.minimum, .bits = @intCast(wide) } },
        .bytes = signedBytes(lane.minimum) + 1 + packedBytes(values.len, wide),
    };
}

/// Two classes, where that is less than `bytes`.
fn twoClass(comptime V: type, values: []const V, lane: Lane, centre: i64, large: u7, bytes: usize) ?Weighed {
    // A few of them say whether it is worth counting all.
    const samples = 256;
    if (values.len > samples * 4) {
        var some: [samples]V = undefined;
        for (&some, 0..) |*to, i| to.* = values[i * values.len / samples];
        const guess: Split = .of(V, &some, centre, large);
        const all = @as(f64, @floatFromInt(guess.bits())) / samples * @as(f64, @floatFromInt(values.len));
        if (all / 8 > @as(f64, @floatFromInt(bytes)) * 0.97) return null;
    }
    const split: Split = .of(V, values, centre, large);
    const needed = signedBytes(centre) + 1 + signedBytes(lane.minimum) + 1 + (values.len + 7) / 8 +
        packedBytes(values.len - split.larges, split.small) + packedBytes(split.larges, large);
    if (needed >= bytes) return null;
    return .{ .bytes = needed, .way = .{ .two_class = .{
        .centre = centre,
        .small = @intCast(split.small),
        .minimum = lane.minimum,
        .large = @intCast(large),
        .larges = split.larges,
    } } };
}

/// The width of the small class that takes the fewest bits.
const Split = struct {
    n: usize,
    large: u7,
    small: u7,
    larges: usize,

    /// Widths that are looked at together.
    const window = 4;

    fn of(comptime V: type, values: []const V, centre: i64, large: u7) Split {
        var best: Split = .{ .n = values.len, .large = large, .small = 0, .larges = values.len };
        var from: u7 = 0;
        while (from < @max(1, large)) : (from += window) {
            for (countBeyond(V, values, @intCast(centre), from), from..) |larges, small| {
                if (small > 0 and small >= large) break;
                const other: Split = .{ .n = values.len, .large = large, .small = @intCast(small), .larges = larges };
                if (other.bits() < best.bits()) best = other;
            }
        }
        return best;
    }

    fn bits(split: *const Split) u64 {
        return split.n + (split.n - split.larges) * split.small + split.larges * split.large;
    }

    /// How many values are too far from the centre for `from` bits of zigzag, for one more, and so on.
    fn countBeyond(comptime V: type, values: []const V, centre: V, from: u7) [window]usize {
        @setRuntimeSafety(false);
        const n = 8;
        // What is narrow is positive, for which there is a comparison in one step.
        const Z = if (V == i32) i32 else u64;
        const Many = @Vector(n, Z);
        var most: [window]Z = undefined;
        for (&most, from..) |*to, small|
            to.* = if (small < @bitSizeOf(Z) - 1) (@as(Z, 1) << @intCast(small)) - 1 else std.math.maxInt(Z);
        var counts: [window]Many = @splat(@splat(0));
        var i: usize = 0;
        while (i + n <= values.len) : (i += n) {
            const away = @as(@Vector(n, V), values[i..][0..n].*) -% @as(@Vector(n, V), @splat(centre));
            const z: Many = @bitCast((away << @splat(1)) ^ (away >> @splat(@bitSizeOf(V) - 1)));
            inline for (&counts, most) |*count, limit| count.* += @intFromBool(z > @as(Many, @splat(limit)));
        }
        var all: [window]usize = undefined;
        for (&all, counts) |*to, count| to.* = @intCast(@reduce(.Add, count));
        for (values[i..]) |value| {
            const z = zigzag(@as(i64, value) -% centre);
            for (&all, most) |*to, limit| to.* += @intFromBool(z > @as(u64, @intCast(limit)));
        }
        return all;
    }
};

/// A value that many of `values` are near to: the median of some.
pub fn centreOf(comptime V: type, values: []const V) i64 {
    var some: [15]i64 = undefined;
    const n = @min(some.len, values.len);
    for (some[0..n], 0..) |*to, i| to.* = values[i * values.len / n];
    std.sort.insertion(i64, some[0..n], {}, std.sort.asc(i64));
    return some[n / 2];
}

/// Append a lane in a way that `weigh` found.
pub fn write(comptime V: type, w: Writer, values: []const V, way: Way) error{OutOfMemory}!void {
    const List = if (V == i32) bits_file.Narrow else bits_file.Wide;
    switch (way) {
        .none => unreachable, // the caller writes cells then
        .bits => |how| {
            try signed(w, how.minimum);
            try w.int(u8, how.bits);
            var list: List = .{
                .out = try w.out.addManyAsSlice(w.gpa, packedBytes(values.len, how.bits)),
                .bits = @intCast(how.bits),
            };
            list.put(values, @intCast(how.minimum));
            if (V == i64) list.finish();
        },
        .two_class => |how| {
            try signed(w, how.centre);
            try w.int(u8, how.small);
            try signed(w, how.minimum);
            try w.int(u8, how.large);
            const mark_bytes = (values.len + 7) / 8;
            const small_bytes = packedBytes(values.len - how.larges, how.small);
            const out = try w.out.addManyAsSlice(w.gpa, mark_bytes + small_bytes + packedBytes(how.larges, how.large));
            var smalls: Kept(V) = .{ .list = .{ .out = out[mark_bytes..][0..small_bytes], .bits = @intCast(how.small) } };
            var larges: Kept(V) = .{ .list = .{ .out = out[mark_bytes + small_bytes ..], .bits = @intCast(how.large) } };
            const limit = (@as(V, 1) << @intCast(how.small)) - 1;
            const centre: V = @intCast(how.centre);
            const minimum: V = @intCast(how.minimum);
            @setRuntimeSafety(false); // undefined memory is not filled then
            var at: usize = 0;
            while (at < values.len) : (at += chunk) {
                const some = values[at..@min(at + chunk, values.len)];
                deal(V, some, centre, minimum, limit, out[at / 8 ..], &smalls, &larges);
                smalls.goOn();
                larges.goOn();
            }
            smalls.finish();
            larges.finish();
        },
        .runs => |runs| {
            try w.varint(@intCast(runs));
            var before: i64 = 0;
            var i: usize = 0;
            while (i < values.len) {
                var after = i + 1;
                while (after < values.len and values[after] == values[i]) after += 1;
                try w.varint(@intCast(after - i - 1));
                try signed(w, @as(i64, values[i]) -% before);
                before = values[i];
                i = after;
            }
        },
    }
}

/// One of two lists that values are dealt to: what comes goes on in groups of eight, and the rest waits.
fn Kept(comptime V: type) type {
    return struct {
        list: if (V == i32) bits_file.Narrow else bits_file.Wide,
        /// Behind those that are kept is anything: whole groups are written.
        room: [chunk + 16]V = undefined,
        n: usize = 0,

        const Self = @This();

        inline fn goOn(kept: *Self) void {
            @setRuntimeSafety(false);
            const whole = kept.n / 8 * 8;
            kept.list.put(kept.room[0..whole], 0);
            kept.n -= whole;
            const rest: [8]V = kept.room[whole..][0..8].*;
            kept.room[0..8].* = rest;
        }

        fn finish(kept: *Self) void {
            kept.list.put(kept.room[0..kept.n], 0);
            if (V == i64) kept.list.finish();
        }
    };
}

/// Deal `values` to two lists, and say in the bits of `marks` which went to the large one.
inline fn deal(comptime V: type, values: []const V, centre: V, minimum: V, limit: V, marks: []u8, smalls: *Kept(V), larges: *Kept(V)) void {
    @setRuntimeSafety(false);
    const U = std.meta.Int(.unsigned, @bitSizeOf(V));
    var i: usize = 0;
    // Without a branch, which nothing could foretell: each goes to both lists, and one of them keeps it.
    if (V == i32 and bits_file.can_shuffle) while (i + 8 <= values.len) : (i += 8) {
        var byte: u8 = 0;
        inline for (0..2) |half| {
            const value: @Vector(4, i32) = values[i + half * 4 ..][0..4].*;
            const away = value -% @as(@Vector(4, i32), @splat(centre));
            const z = (away << @splat(1)) ^ (away >> @splat(31));
            const mask: u4 = @bitCast(z > @as(@Vector(4, i32), @splat(limit)));
            smalls.room[smalls.n..][0..4].* = bits_file.together(z, ~mask);
            larges.room[larges.n..][0..4].* = bits_file.together(value -% @as(@Vector(4, i32), @splat(minimum)), mask);
            const n = @popCount(mask);
            larges.n += n;
            smalls.n += 4 - @as(usize, n);
            byte |= @as(u8, mask) << (half * 4);
        }
        marks[i / 8] = byte;
    };
    while (i < values.len) : (i += 8) {
        var byte: usize = 0;
        for (values[i..@min(i + 8, values.len)], 0..) |value, bit| {
            const away = value -% centre;
            const z = (away << 1) ^ (away >> @bitSizeOf(V) - 1);
            const is_large = @intFromBool(@as(U, @bitCast(z)) > @as(U, @bitCast(limit)));
            byte |= @as(usize, is_large) << @intCast(bit);
            smalls.room[smalls.n] = z;
            larges.room[larges.n] = value -% minimum;
            larges.n += is_large;
            smalls.n += 1 - @as(usize, is_large);
        }
        marks[i / 8] = @intCast(byte);
    }
}

/// Read a lane of `into.len` values.
pub fn read(r: *Reader, how: block.Packing, into: []i64) error{BadBlock}!void {
    switch (how) {
        .bits => {
            const minimum = try readSigned(r);
            const bits = try width(r);
            const list = try bits_file.from(r, into.len, bits);
            for (into, 0..) |*to, i| to.* = minimum +% @as(i64, @bitCast(list.at(i)));
        },
        .two_class => {
            const centre = try readSigned(r);
            const small = try width(r);
            const minimum = try readSigned(r);
            const large = try width(r);
            const marks = try r.take((into.len + 7) / 8);
            if (into.len % 8 != 0 and marks[marks.len - 1] >> @intCast(into.len % 8) != 0) return r.fail(.packing);
            var larges: usize = 0;
            for (marks) |byte| larges += @popCount(byte);
            const low = try bits_file.from(r, into.len - larges, small);
            const high = try bits_file.from(r, larges, large);
            var highs: usize = 0;
            for (into, 0..) |*to, i| {
                const is_large = marks[i / 8] >> @intCast(i % 8) & 1;
                // Both are read, and one of them is taken: which nothing could foretell.
                const value = centre +% unzigzag(low.at(i - highs));
                const other = minimum +% @as(i64, @bitCast(high.at(highs)));
                to.* = if (is_large == 1) other else value;
                highs += is_large;
            }
        },
        .runs => {
            const runs = try r.varint();
            var n: usize = 0;
            var value: i64 = 0;
            for (0..runs) |_| {
                const length = @as(usize, try r.varint()) + 1;
                value +%= try readSigned(r);
                if (length > into.len - n) return r.fail(.packing);
                @memset(into[n..][0..length], value);
                n += length;
            }
            if (n != into.len) return r.fail(.packing);
        },
        else => unreachable, // the caller has sorted them out
    }
}

/// Go over a lane of `n` values without looking at it.
pub fn pass(r: *Reader, how: block.Packing, n: usize) error{BadBlock}!void {
    switch (how) {
        .bits => {
            _ = try readSigned(r);
            _ = try r.take(try bits_file.bytesOf(r, n, try width(r)));
        },
        .two_class => {
            _ = try readSigned(r);
            const small = try width(r);
            _ = try readSigned(r);
            const large = try width(r);
            var larges: usize = 0;
            for (try r.take((n + 7) / 8)) |byte| larges += @popCount(byte);
            if (larges > n) return r.fail(.packing);
            _ = try r.take(try bits_file.bytesOf(r, n - larges, small));
            _ = try r.take(try bits_file.bytesOf(r, larges, large));
        },
        .runs => for (0..try r.varint()) |_| {
            _ = try r.varint();
            _ = try readSigned(r);
        },
        else => unreachable,
    }
}

/// A row's cells in planes: the first byte of each, then the second.
pub fn toPlanes(cells: []const u8, size: usize, into: []u8) void {
    assert(cells.len == into.len);
    const n = cells.len / size;
    @setRuntimeSafety(false);
    for (0..size) |plane| for (0..n) |i| {
        into[plane * n + i] = cells[i * size + plane];
    };
}

pub fn fromPlanes(planes: []const u8, size: usize, into: []u8) void {
    assert(planes.len == into.len);
    const n = planes.len / size;
    @setRuntimeSafety(false);
    for (0..size) |plane| for (0..n) |i| {
        into[i * size + plane] = planes[plane * n + i];
    };
}

pub fn zigzag(value: i64) u64 {
    return @bitCast((value << 1) ^ (value >> 63));
}

pub fn unzigzag(bits: u64) i64 {
    return @as(i64, @bitCast(bits >> 1)) ^ -%@as(i64, @bitCast(bits & 1));
}

fn bitsOf(value: u64) u7 {
    return @intCast(64 - @clz(value));
}

fn signedBytes(value: i64) usize {
    return @max(1, (@as(usize, bitsOf(zigzag(value))) + 6) / 7);
}

fn runsBytes(comptime V: type, values: []const V, runs: usize) usize {
    var bytes = block.varintBytes(@intCast(runs));
    var before: i64 = 0;
    var i: usize = 0;
    while (i < values.len) {
        var after = i + 1;
        while (after < values.len and values[after] == values[i]) after += 1;
        bytes += block.varintBytes(@intCast(after - i - 1)) + signedBytes(@as(i64, values[i]) -% before);
        before = values[i];
        i = after;
    }
    return bytes;
}

fn signed(w: Writer, value: i64) error{OutOfMemory}!void {
    var left = zigzag(value);
    while (left >= 0x80) : (left >>= 7) try w.out.append(w.gpa, @as(u8, @truncate(left)) | 0x80);
    try w.out.append(w.gpa, @intCast(left));
}

fn readSigned(r: *Reader) error{BadBlock}!i64 {
    var value: u64 = 0;
    var shift: u7 = 0;
    while (true) : (shift += 7) {
        const byte = try r.int(u8);
        if (shift == 63 and byte > 1) return r.fail(.packing);
        value |= @as(u64, byte & 0x7f) << @intCast(shift);
        if (byte & 0x80 == 0) return unzigzag(value);
    }
}

fn width(r: *Reader) error{BadBlock}!u6 {
    const bits = try r.int(u8);
    if (bits > bits_max) return r.fail(.packing);
    return @intCast(bits);
}

const testing = std.testing;

/// What fits is the same as i32: what is found out about it, and its bytes.
fn alike(values: []const i64, way: Way, bytes: []const u8) !void {
    for (values) |value| if (@abs(value) >= narrow) return;
    const gpa = testing.allocator;
    const few = try gpa.alloc(i32, values.len);
    defer gpa.free(few);
    for (few, values) |*to, value| to.* = @intCast(value);
    const lane: Lane = .of(i64, values);
    try testing.expectEqual(lane, Lane.of(i32, few));
    const centre = centreOf(i64, values);
    try testing.expectEqual(centre, centreOf(i32, few));
    try testing.expectEqual(weigh(i64, values, lane, centre), weigh(i32, few, lane, centre));
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(gpa);
    try write(i32, .{ .gpa = gpa, .out = &out }, few, way);
    try testing.expectEqualSlices(u8, bytes, out.items);
}

fn roundTrip(values: []const i64, way: Way, bytes: usize) !void {
    const gpa = testing.allocator;
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(gpa);
    try write(i64, .{ .gpa = gpa, .out = &out }, values, way);
    try testing.expectEqual(bytes, out.items.len);
    try alike(values, way, out.items);
    const into = try gpa.alloc(i64, values.len);
    defer gpa.free(into);
    var r: Reader = .{ .bytes = out.items };
    try read(&r, way.packing(), into);
    try testing.expectEqual(out.items.len, r.at);
    try testing.expectEqualSlices(i64, values, into);
    var passing: Reader = .{ .bytes = out.items };
    try pass(&passing, way.packing(), values.len);
    try testing.expectEqual(out.items.len, passing.at);
    for (0..@min(out.items.len, 40)) |cut| {
        var short: Reader = .{ .bytes = out.items[0 .. out.items.len - 1 - cut] };
        try testing.expectError(error.BadBlock, read(&short, way.packing(), into));
    }
}

test "every way gives back what it took, in the bytes that were weighed" {
    var prng = std.Random.DefaultPrng.init(5);
    const random = prng.random();
    var seen: [4]usize = @splat(0);
    for (0..3000) |round| {
        var room: [300]i64 = undefined;
        const values = room[0 .. 1 + random.uintLessThan(usize, room.len)];
        const reach = random.uintLessThan(u6, 60);
        const from = if (round % 4 == 0) random.int(i64) else random.intRangeAtMost(i64, -1000, 1000);
        var last: i64 = from;
        for (values) |*value| {
            if (random.uintLessThan(u8, 20) < round % 20) {
                value.* = last;
                continue;
            }
            const far = round % 3 == 0 and random.uintLessThan(u8, 30) == 0;
            const bits: u6 = if (far) @intCast(@min(56, @as(u7, reach) + 20)) else reach;
            last = from +% random.intRangeAtMost(i64, -(@as(i64, 1) << bits), @as(i64, 1) << bits);
            value.* = last;
        }
        const lane: Lane = .of(i64, values);
        const found = weigh(i64, values, lane, centreOf(i64, values));
        seen[@intFromEnum(found.way)] += 1;
        if (found.way != .none) try roundTrip(values, found.way, found.bytes);
        // The ways that were not the shortest, too.
        const wide = bitsOf(lane.span());
        if (wide <= bits_max) {
            try roundTrip(values, .{ .bits = .{ .minimum = lane.minimum, .bits = @intCast(wide) } }, signedBytes(lane.minimum) + 1 + packedBytes(values.len, wide));
            if (twoClass(i64, values, lane, 0, wide, std.math.maxInt(usize))) |other| try roundTrip(values, other.way, other.bytes);
        }
        try roundTrip(values, .{ .runs = lane.changes + 1 }, runsBytes(i64, values, lane.changes + 1));
    }
    for (seen[1..]) |n| try testing.expect(n > 20);
}

test "the split of many values is the best one" {
    var prng = std.Random.DefaultPrng.init(7);
    const random = prng.random();
    const gpa = testing.allocator;
    const room = try gpa.alloc(i64, 6000);
    defer gpa.free(room);
    var split: usize = 0;
    for (0..60) |round| {
        const values = room[0..random.intRangeAtMost(usize, 1030, room.len)];
        const near = random.float(f64) * 200 + 1;
        for (values) |*value| {
            const far: f64 = if (random.uintLessThan(usize, 60) < round) 30 else 1;
            value.* = @intFromFloat(random.floatNorm(f64) * near * far);
        }
        const lane: Lane = .of(i64, values);
        const wide = bitsOf(lane.span());
        const found = twoClass(i64, values, lane, 0, wide, std.math.maxInt(usize)).?;
        for (0..wide) |small| {
            var larges: usize = 0;
            for (values) |value| larges += @intFromBool(bitsOf(zigzag(value)) > small);
            const other: Split = .{ .n = values.len, .large = wide, .small = @intCast(small), .larges = larges };
            const best: Split = .{ .n = values.len, .large = wide, .small = found.way.two_class.small, .larges = found.way.two_class.larges };
            try testing.expect(best.bits() <= other.bits());
            if (small == best.small) try testing.expectEqual(larges, best.larges);
        }
        const chosen = weigh(i64, values, lane, 0);
        split += @intFromBool(chosen.way == .two_class);
        try roundTrip(values, found.way, found.bytes);
        try roundTrip(values, chosen.way, chosen.bytes);
    }
    try testing.expect(split > 20);
}

test "the ends of the numbers" {
    const least = std.math.minInt(i64);
    const most = std.math.maxInt(i64);
    const values = [_]i64{ least, most, 0, -1, least };
    try testing.expect(weigh(i64, &values, .of(i64, &values), 0).way != .bits);
    try roundTrip(&values, .{ .runs = 5 }, runsBytes(i64, &values, 5));
    for ([_]i64{ least, most, 0, 1, -1 }) |value| {
        const equal: [9]i64 = @splat(value);
        const found = weigh(i64, &equal, .of(i64, &equal), centreOf(i64, &equal));
        try roundTrip(&equal, found.way, found.bytes);
        try testing.expectEqual(value, unzigzag(zigzag(value)));
    }
}

test "any bytes are read within bounds or refused" {
    var prng = std.Random.DefaultPrng.init(6);
    const random = prng.random();
    var into: [200]i64 = undefined;
    for (0..200_000) |_| {
        var bytes: [48]u8 = undefined;
        random.bytes(&bytes);
        // Widths and counts that could be.
        bytes[1] %= 12;
        bytes[3] %= 12;
        const n = random.uintLessThan(usize, into.len);
        const length = random.uintLessThan(usize, bytes.len);
        for ([_]block.Packing{ .bits, .two_class, .runs }) |how| {
            var r: Reader = .{ .bytes = bytes[0..length] };
            var p: Reader = .{ .bytes = bytes[0..length] };
            read(&r, how, into[0..n]) catch continue;
            try testing.expect(r.at <= length);
            // Whoever can read a lane can go over it.
            try pass(&p, how, n);
            try testing.expectEqual(r.at, p.at);
        }
    }
}

test "planes are turned and turned back" {
    var cells: [60]u8 = undefined;
    for (&cells, 0..) |*byte, i| byte.* = @intCast(i);
    for ([_]usize{ 1, 2, 3, 4, 5, 12, 60 }) |size| {
        var planes: [60]u8 = undefined;
        var back: [60]u8 = undefined;
        toPlanes(&cells, size, &planes);
        try testing.expectEqual(if (60 / size > 1) size else 1, planes[1]);
        fromPlanes(&planes, size, &back);
        try testing.expectEqualSlices(u8, &cells, &back);
    }
}
