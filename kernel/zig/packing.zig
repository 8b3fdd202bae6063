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
//! `weigh` tells what each way would take; `write` and `read` do it. A reader believes nothing: it stays in bounds, and
//! the caller says how many values there are.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const Reader = block.Reader;
const Writer = block.Writer;

/// Wider than that raw cells are hardly longer, and one load of eight bytes reads any value.
pub const bits_max = 56;

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

/// Values that are looked at together.
const chunk = 256;

/// What a lane is like.
pub const Lane = struct {
    minimum: i64,
    maximum: i64,
    changes: usize,

    pub fn of(values: []const i64) Lane {
        assert(values.len > 0);
        @setRuntimeSafety(false);
        var minimum = values[0];
        var maximum = values[0];
        var changes: usize = 0;
        for (values[1..], values[0 .. values.len - 1]) |value, before| {
            minimum = @min(minimum, value);
            maximum = @max(maximum, value);
            changes += @intFromBool(value != before);
        }
        return .{ .minimum = minimum, .maximum = maximum, .changes = changes };
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
pub fn weigh(values: []const i64, lane: Lane, centre: i64) Weighed {
    const wide = bitsOf(lane.span());
    var best: Weighed = .{ .way = .none, .bytes = std.math.maxInt(usize) };
    if (wide <= bits_max) best = .{
        .way = .{ .bits = .{ .minimum = lane.minimum, .bits = @intCast(wide) } },
        .bytes = signedBytes(lane.minimum) + 1 + packedBytes(values.len, wide),
    };
    // A run takes two bytes at least, and mostly more.
    if ((lane.changes + 1) * 2 < best.bytes and (lane.changes + 1) * 3 <= @max(values.len, 6)) {
        const bytes = runsBytes(values, lane.changes + 1);
        if (bytes < best.bytes) best = .{ .way = .{ .runs = lane.changes + 1 }, .bytes = bytes };
    }
    if (values.len >= two_class_rows_min and wide >= 3 and wide <= bits_max) {
        if (twoClass(values, lane, centre, wide, best.bytes)) |found| best = found;
    }
    return best;
}

/// The same in one way that another lane of the column has taken; `none` where it cannot be.
pub fn weighAs(how: block.Packing, values: []const i64, lane: Lane, centre: i64) Weighed {
    const wide = bitsOf(lane.span());
    const none: Weighed = .{ .way = .none, .bytes = std.math.maxInt(usize) };
    if (how == .runs) return .{ .way = .{ .runs = lane.changes + 1 }, .bytes = runsBytes(values, lane.changes + 1) };
    if (wide > bits_max) return none;
    if (how == .two_class) return twoClass(values, lane, centre, wide, std.math.maxInt(usize)) orelse none;
    return .{
        .way = .{ .bits = .{ .minimum = lane.minimum, .bits = @intCast(wide) } },
        .bytes = signedBytes(lane.minimum) + 1 + packedBytes(values.len, wide),
    };
}

/// Two classes, where that is less than `bytes`.
fn twoClass(values: []const i64, lane: Lane, centre: i64, large: u7, bytes: usize) ?Weighed {
    // A few of them say whether it is worth counting all.
    const samples = 256;
    if (values.len > samples * 4) {
        const found = classes(values, values.len / samples, centre, large);
        const n: f64 = @floatFromInt(found.counted);
        const all: f64 = @floatFromInt(values.len);
        if (@as(f64, @floatFromInt(found.bits)) / n * all / 8 > @as(f64, @floatFromInt(bytes)) * 0.97) return null;
    }
    const found = classes(values, 1, centre, large);
    const needed = signedBytes(centre) + 1 + signedBytes(lane.minimum) + 1 + (values.len + 7) / 8 +
        packedBytes(values.len - found.larges, found.small) + packedBytes(found.larges, large);
    if (needed >= bytes) return null;
    return .{ .bytes = needed, .way = .{ .two_class = .{
        .centre = centre,
        .small = @intCast(found.small),
        .minimum = lane.minimum,
        .large = @intCast(large),
        .larges = found.larges,
    } } };
}

const Classes = struct { small: u7, larges: usize, bits: u64, counted: usize };

/// The width of the small class that takes the fewest bits, of each `every`th value.
fn classes(values: []const i64, every: usize, centre: i64, large: u7) Classes {
    var counts: [65]u32 = @splat(0);
    var counted: usize = 0;
    var i: usize = 0;
    while (i < values.len) : (i += every) {
        counts[bitsOf(zigzag(values[i] -% centre))] += 1;
        counted += 1;
    }
    // Only what is the centre itself.
    var smalls: usize = counts[0];
    var best: Classes = .{
        .small = 0,
        .larges = counted - smalls,
        .bits = counted + (counted - smalls) * large,
        .counted = counted,
    };
    for (1..@max(1, large)) |small| {
        smalls += counts[small];
        const bits = counted + smalls * small + (counted - smalls) * large;
        if (bits < best.bits) {
            best.bits = bits;
            best.small = @intCast(small);
            best.larges = counted - smalls;
        }
    }
    return best;
}

/// A value that many of `values` are near to: the median of some.
pub fn centreOf(values: []const i64) i64 {
    var some: [15]i64 = undefined;
    const n = @min(some.len, values.len);
    for (some[0..n], 0..) |*to, i| to.* = values[i * values.len / n];
    std.sort.insertion(i64, some[0..n], {}, std.sort.asc(i64));
    return some[n / 2];
}

/// Append a lane in a way that `weigh` found.
pub fn write(w: Writer, values: []const i64, way: Way) error{OutOfMemory}!void {
    switch (way) {
        .none => unreachable, // the caller writes cells then
        .bits => |how| {
            try signed(w, how.minimum);
            try w.int(u8, how.bits);
            var bits: BitWriter = try .init(w, values.len, how.bits);
            @setRuntimeSafety(false); // undefined memory is not filled then
            var room: [chunk]u64 = undefined;
            var from: usize = 0;
            while (from < values.len) : (from += chunk) {
                const some = values[from..@min(from + chunk, values.len)];
                for (room[0..some.len], some) |*to, value| to.* = @bitCast(value -% how.minimum);
                bits.put(room[0..some.len]);
            }
            bits.finish();
        },
        .two_class => |how| {
            try signed(w, how.centre);
            try w.int(u8, how.small);
            try signed(w, how.minimum);
            try w.int(u8, how.large);
            const mark_bytes = (values.len + 7) / 8;
            const small_bytes = packedBytes(values.len - how.larges, how.small);
            const out = try w.out.addManyAsSlice(w.gpa, mark_bytes + small_bytes + packedBytes(how.larges, how.large));
            var marks: BitWriter = .{ .out = out[0..mark_bytes], .bits = 1 };
            var smalls: BitWriter = .{ .out = out[mark_bytes..][0..small_bytes], .bits = how.small };
            var larges: BitWriter = .{ .out = out[mark_bytes + small_bytes ..], .bits = how.large };
            const limit = @as(u64, 1) << how.small;
            @setRuntimeSafety(false); // undefined memory is not filled then
            var mark: [chunk]u64 = undefined;
            var small: [chunk]u64 = undefined;
            var large: [chunk]u64 = undefined;
            var from: usize = 0;
            while (from < values.len) : (from += chunk) {
                const some = values[from..@min(from + chunk, values.len)];
                var n: usize = 0;
                // Without a branch, which nothing could foretell: each goes to both lists, and one of them keeps it.
                for (some, 0..) |value, i| {
                    const z = zigzag(value -% how.centre);
                    const is_large = @intFromBool(z >= limit);
                    mark[i] = is_large;
                    small[i - n] = z;
                    large[n] = @bitCast(value -% how.minimum);
                    n += is_large;
                }
                marks.put(mark[0..some.len]);
                smalls.put(small[0 .. some.len - n]);
                larges.put(large[0..n]);
            }
            marks.finish();
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
                try signed(w, values[i] -% before);
                before = values[i];
                i = after;
            }
        },
    }
}

/// Read a lane of `into.len` values.
pub fn read(r: *Reader, how: block.Packing, into: []i64) error{BadBlock}!void {
    switch (how) {
        .bits => {
            const minimum = try readSigned(r);
            const bits = try width(r);
            const from = try bitsFrom(r, into.len, bits);
            from.all(minimum, into);
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
            const low = try bitsFrom(r, into.len - larges, small);
            const high = try bitsFrom(r, larges, large);
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
            _ = try r.take(try bytesOf(r, n, try width(r)));
        },
        .two_class => {
            _ = try readSigned(r);
            const small = try width(r);
            _ = try readSigned(r);
            const large = try width(r);
            var larges: usize = 0;
            for (try r.take((n + 7) / 8)) |byte| larges += @popCount(byte);
            if (larges > n) return r.fail(.packing);
            _ = try r.take(try bytesOf(r, n - larges, small));
            _ = try r.take(try bytesOf(r, larges, large));
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

fn packedBytes(n: usize, bits: u7) usize {
    return @intCast((@as(u64, n) * bits + 7) / 8);
}

fn signedBytes(value: i64) usize {
    return @max(1, (@as(usize, bitsOf(zigzag(value))) + 6) / 7);
}

fn runsBytes(values: []const i64, runs: usize) usize {
    var bytes = block.varintBytes(@intCast(runs));
    var before: i64 = 0;
    var i: usize = 0;
    while (i < values.len) {
        var after = i + 1;
        while (after < values.len and values[after] == values[i]) after += 1;
        bytes += block.varintBytes(@intCast(after - i - 1)) + signedBytes(values[i] -% before);
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

/// In 64 bits: on wasm a product of two such numbers need not fit an address.
fn bytesOf(r: *Reader, n: usize, bits: u6) error{BadBlock}!usize {
    return std.math.cast(usize, (@as(u64, n) * bits + 7) / 8) orelse r.fail(.truncated);
}

const BitWriter = struct {
    out: []u8,
    bits: u6,
    left: u64 = 0,
    fill: u7 = 0,
    at: usize = 0,

    /// Room for `n` values.
    fn init(w: Writer, n: usize, bits: u6) error{OutOfMemory}!BitWriter {
        return .{ .out = try w.out.addManyAsSlice(w.gpa, packedBytes(n, bits)), .bits = bits };
    }

    fn put(writer: *BitWriter, values: []const u64) void {
        @setRuntimeSafety(false);
        var left = writer.left;
        var fill: u7 = writer.fill;
        var at = writer.at;
        const bits: u7 = writer.bits;
        var i: usize = 0;
        // Four that fit a word are joined first.
        if (bits <= 16) while (i + 4 <= values.len) : (i += 4) {
            const b: u6 = @intCast(bits);
            const low = values[i] | values[i + 1] << b;
            const high = values[i + 2] | values[i + 3] << b;
            append(writer.out, &left, &fill, &at, low | high << (2 * (b & 31)), bits * 4);
        };
        for (values[i..]) |value| append(writer.out, &left, &fill, &at, value, bits);
        writer.left = left;
        writer.fill = fill;
        writer.at = at;
    }

    inline fn append(out: []u8, left: *u64, fill: *u7, at: *usize, value: u64, bits: u7) void {
        @setRuntimeSafety(false);
        left.* |= value << @intCast(fill.*);
        const next = @as(u8, fill.*) + bits;
        if (next < 64) {
            fill.* = @intCast(next);
            return;
        }
        std.mem.writeInt(u64, out.ptr[at.*..][0..8], left.*, .little);
        at.* += 8;
        // What did not fit; nothing where all did.
        left.* = if (next == 64) 0 else value >> @intCast(64 - fill.*);
        fill.* = @intCast(next - 64);
    }

    fn finish(writer: *BitWriter) void {
        var left = writer.left;
        for (writer.out[writer.at..]) |*byte| {
            byte.* = @truncate(left);
            left >>= 8;
        }
    }
};

/// The next `n` values of `bits` bits.
fn bitsFrom(r: *Reader, n: usize, bits: u6) error{BadBlock}!BitReader {
    const from = r.at;
    _ = try r.take(try bytesOf(r, n, bits));
    return .{ .bytes = r.bytes[from..], .bits = bits, .mask = (@as(u64, 1) << bits) - 1 };
}

const BitReader = struct {
    /// To the end of the block, so that all but the last values of it are read by one load.
    bytes: []const u8,
    bits: u6,
    mask: u64,

    inline fn at(reader: *const BitReader, i: usize) u64 {
        @setRuntimeSafety(false); // what there is no load of eight bytes for goes the safe way
        const bit = i * reader.bits;
        const byte = bit / 8;
        if (byte + 8 > reader.bytes.len) return reader.last(bit);
        return std.mem.readInt(u64, reader.bytes.ptr[byte..][0..8], .little) >> @intCast(bit % 8) & reader.mask;
    }

    fn last(reader: *const BitReader, bit: usize) u64 {
        @branchHint(.cold);
        var word: [8]u8 = @splat(0);
        const tail = reader.bytes[@min(bit / 8, reader.bytes.len)..];
        @memcpy(word[0..tail.len], tail);
        return std.mem.readInt(u64, &word, .little) >> @intCast(bit % 8) & reader.mask;
    }

    fn all(reader: *const BitReader, minimum: i64, into: []i64) void {
        for (into, 0..) |*to, i| to.* = minimum +% @as(i64, @bitCast(reader.at(i)));
    }
};

const testing = std.testing;

fn roundTrip(values: []const i64, way: Way, bytes: usize) !void {
    const gpa = testing.allocator;
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(gpa);
    try write(.{ .gpa = gpa, .out = &out }, values, way);
    try testing.expectEqual(bytes, out.items.len);
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
        const lane: Lane = .of(values);
        const found = weigh(values, lane, centreOf(values));
        seen[@intFromEnum(found.way)] += 1;
        if (found.way != .none) try roundTrip(values, found.way, found.bytes);
        // The ways that were not the shortest, too.
        const wide = bitsOf(lane.span());
        if (wide <= bits_max) {
            try roundTrip(values, .{ .bits = .{ .minimum = lane.minimum, .bits = @intCast(wide) } }, signedBytes(lane.minimum) + 1 + packedBytes(values.len, wide));
            if (twoClass(values, lane, 0, wide, std.math.maxInt(usize))) |other| try roundTrip(values, other.way, other.bytes);
        }
        try roundTrip(values, .{ .runs = lane.changes + 1 }, runsBytes(values, lane.changes + 1));
    }
    for (seen[1..]) |n| try testing.expect(n > 20);
}

test "the ends of the numbers" {
    const least = std.math.minInt(i64);
    const most = std.math.maxInt(i64);
    const values = [_]i64{ least, most, 0, -1, least };
    try testing.expect(weigh(&values, .of(&values), 0).way != .bits);
    try roundTrip(&values, .{ .runs = 5 }, runsBytes(&values, 5));
    for ([_]i64{ least, most, 0, 1, -1 }) |value| {
        const equal: [9]i64 = @splat(value);
        const found = weigh(&equal, .of(&equal), centreOf(&equal));
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
