//! Lists of equally wide unsigned integers, each behind the other from the lowest bit of the first byte on; the bits behind
//! the last of a list are 0.
//!
//! Eight of them fill whole bytes, so that groups of eight need not know of each other: each is put together in registers
//! and stored at once. What a store writes beyond its group the next one overwrites, and the last ones go by way of a
//! buffer, so nothing beyond a list's end is touched.

const std = @import("std");
const builtin = @import("builtin");
const assert = std.debug.assert;
const block = @import("block.zig");
const Reader = block.Reader;

/// Wider than that raw cells are hardly longer, and one load of eight bytes reads any value.
pub const bits_max = 56;

/// What `Narrow` takes.
pub const narrow_bits_max = 31;

/// Values that are put together.
const group = 8;

pub fn bytesFor(n: usize, bits: u7) usize {
    return @intCast((@as(u64, n) * bits + 7) / 8);
}

/// Writes a list of values of at most 31 bits, whose length is known, in pieces of any length but the last of whole groups.
pub const Narrow = struct {
    out: []u8,
    bits: u5,
    at: usize = 0,

    /// Append `values` minus `minimum`, each of which has at most `bits`.
    pub fn put(list: *Narrow, values: []const i32, minimum: i32) void {
        if (list.bits == 0) return;
        if (list.bits <= 8) list.putOf(.byte, values, minimum) else if (list.bits <= 16) list.putOf(.word, values, minimum) else list.putOf(.long, values, minimum);
    }

    fn putOf(list: *Narrow, comptime width: Width, values: []const i32, minimum: i32) void {
        const bits: u7 = list.bits;
        assert(list.at + bytesFor(values.len, bits) <= list.out.len);
        @setRuntimeSafety(false); // the group that is written in haste ends within the list
        const less: @Vector(4, i32) = @splat(minimum);
        var at = list.at;
        var i: usize = 0;
        while (i + group <= values.len and at + 32 <= list.out.len) : (i += group) {
            join(width, list.out[at..][0..32], values[i..][0..4].* -% less, values[i + 4 ..][0..4].* -% less, bits);
            at += bits;
        }
        while (i < values.len) : (i += group) {
            var some: [group]i32 = @splat(minimum);
            const n = @min(group, values.len - i);
            @memcpy(some[0..n], values[i..][0..n]);
            var room: [32]u8 = undefined;
            join(width, &room, some[0..4].* -% less, some[4..8].* -% less, bits);
            const bytes = bytesFor(n, bits);
            @memcpy(list.out[at..][0..bytes], room[0..bytes]);
            at += bytes;
        }
        list.at = at;
    }
};

const Width = enum { byte, word, long };

/// Eight values in the first `bits` bytes of `to`; what is behind those is anything.
inline fn join(comptime width: Width, to: *[32]u8, low: @Vector(4, i32), high: @Vector(4, i32), bits: u7) void {
    const a = pairs(@bitCast(low), @intCast(bits));
    const b = pairs(@bitCast(high), @intCast(bits));
    const two: u6 = @intCast(2 * bits);
    switch (width) {
        .byte => {
            const four: u6 = @intCast(4 * bits);
            const whole = a[0] | a[1] << two | (b[0] | b[1] << two) << four;
            std.mem.writeInt(u64, to[0..8], whole, .little);
        },
        .word => {
            const four: u7 = 4 * bits;
            const first: u128 = a[0] | a[1] << two;
            const second: u128 = b[0] | b[1] << two;
            std.mem.writeInt(u128, to[0..16], first | second << four, .little);
        },
        .long => {
            const four: u7 = 4 * bits;
            const first = a[0] | @as(u128, a[1]) << two;
            const second = b[0] | @as(u128, b[1]) << two;
            // Half a group may end within a byte, which both halves have.
            const odd: u3 = @intCast(four & 7);
            std.mem.writeInt(u128, to[0..16], first, .little);
            std.mem.writeInt(u128, to[four >> 3 ..][0..16], second << odd | (first >> (four - odd)), .little);
        },
    }
}

/// Four values as two of twice the bits.
inline fn pairs(values: @Vector(4, u32), bits: u6) @Vector(2, u64) {
    const two: @Vector(2, u64) = @bitCast(values);
    const even = two & @as(@Vector(2, u64), @splat(0xffff_ffff));
    const odd = two >> @splat(32);
    return even | odd << @as(@Vector(2, u6), @splat(bits));
}

/// Whether there is `together`: a shuffle whose order is known only when it runs, for which the language has no word. All
/// x86-64 that the kernel is built for have it.
pub const can_shuffle = builtin.zig_backend == .stage2_llvm and builtin.cpu.arch == .x86_64 and
    std.Target.x86.featureSetHas(builtin.cpu.features, .ssse3);

/// Those of four values whose bit is set in `mask`, in order, at the front; the rest is anything.
pub inline fn together(values: @Vector(4, i32), mask: u4) [4]i32 {
    const order: @Vector(16, u8) = orders[mask];
    var moved = values;
    asm ("pshufb %[order], %[moved]"
        : [moved] "+x" (moved),
        : [order] "x" (order),
    );
    return moved;
}

/// By mask: where each byte comes from.
const orders: [16][16]u8 = orders: {
    var all: [16][16]u8 = @splat(@splat(0));
    for (&all, 0..) |*order, mask| {
        var n: usize = 0;
        for (0..4) |place| if (mask >> place & 1 == 1) {
            for (0..4) |byte| order[n * 4 + byte] = place * 4 + byte;
            n += 1;
        };
    }
    break :orders all;
};

/// Writes a list of values of at most `bits_max` bits in pieces of any length.
pub const Wide = struct {
    out: []u8,
    bits: u6,
    left: u64 = 0,
    fill: u7 = 0,
    at: usize = 0,

    /// Append `values` minus `minimum`.
    pub fn put(list: *Wide, values: []const i64, minimum: i64) void {
        @setRuntimeSafety(false);
        for (values) |each| {
            const value: u64 = @bitCast(each -% minimum);
            list.left |= value << @intCast(list.fill);
            const next = @as(u8, list.fill) + list.bits;
            if (next < 64) {
                list.fill = @intCast(next);
                continue;
            }
            std.mem.writeInt(u64, list.out[list.at..][0..8], list.left, .little);
            list.at += 8;
            // What did not fit; nothing where all did.
            list.left = if (next == 64) 0 else value >> @intCast(64 - list.fill);
            list.fill = @intCast(next - 64);
        }
    }

    pub fn finish(list: *Wide) void {
        for (list.out[list.at..]) |*byte| {
            byte.* = @truncate(list.left);
            list.left >>= 8;
        }
    }
};

/// The next `n` values of `bits` bits.
pub fn from(r: *Reader, n: usize, bits: u6) error{BadBlock}!List {
    const at = r.at;
    _ = try r.take(try bytesOf(r, n, bits));
    return .{ .bytes = r.bytes[at..], .bits = bits, .mask = (@as(u64, 1) << bits) - 1 };
}

/// In 64 bits: on wasm a product of two such numbers need not fit an address.
pub fn bytesOf(r: *Reader, n: usize, bits: u6) error{BadBlock}!usize {
    return std.math.cast(usize, (@as(u64, n) * bits + 7) / 8) orelse r.fail(.truncated);
}

/// A list that is read.
pub const List = struct {
    /// To the end of the block, so that all but the last values of it are read by one load.
    bytes: []const u8,
    bits: u6,
    mask: u64,

    pub inline fn at(list: *const List, i: usize) u64 {
        @setRuntimeSafety(false); // what there is no load of eight bytes for goes the safe way
        const bit = i * list.bits;
        const byte = bit / 8;
        if (byte + 8 > list.bytes.len) return list.last(bit);
        return std.mem.readInt(u64, list.bytes.ptr[byte..][0..8], .little) >> @intCast(bit % 8) & list.mask;
    }

    fn last(list: *const List, bit: usize) u64 {
        @branchHint(.cold);
        var word: [8]u8 = @splat(0);
        const tail = list.bytes[@min(bit / 8, list.bytes.len)..];
        @memcpy(word[0..tail.len], tail);
        return std.mem.readInt(u64, &word, .little) >> @intCast(bit % 8) & list.mask;
    }
};

const testing = std.testing;

test "narrow lists and wide ones are the same bytes, and nothing beyond them is touched" {
    var prng = std.Random.DefaultPrng.init(12);
    const random = prng.random();
    for (0..narrow_bits_max + 1) |width| for (0..60) |round| {
        const bits: u5 = @intCast(width);
        const n = if (round < 20) round else random.uintLessThan(usize, 700);
        var narrow: [700]i32 = undefined;
        var wide: [700]i64 = undefined;
        const minimum = random.intRangeAtMost(i32, -(1 << 30), 0);
        for (narrow[0..n], wide[0..n]) |*a, *b| {
            const more: i32 = @intCast(random.int(u32) & ((@as(u32, 1) << bits) - 1) & 0x7fff_ffff);
            a.* = minimum +% more;
            b.* = @as(i64, minimum) + more;
        }
        const bytes = bytesFor(n, bits);
        var one: [700 * 4]u8 = @splat(0xaa);
        var other: [700 * 4]u8 = @splat(0xaa);
        var list: Narrow = .{ .out = one[0..bytes], .bits = bits };
        const first = random.uintAtMost(usize, n) / 8 * 8;
        list.put(narrow[0..first], minimum);
        list.put(narrow[first..n], minimum);
        if (bits > 0) try testing.expectEqual(bytes, list.at);
        var slow: Wide = .{ .out = other[0..bytes], .bits = bits };
        slow.put(wide[0..n], minimum);
        slow.finish();
        try testing.expectEqualSlices(u8, &other, &one);
        var r: Reader = .{ .bytes = one[0..bytes] };
        const got = try from(&r, n, bits);
        for (wide[0..n], 0..) |value, i| try testing.expectEqual(value, minimum + @as(i64, @bitCast(got.at(i))));
    };
}

test "what is marked comes together in order" {
    if (!can_shuffle) return error.SkipZigTest;
    const values: [4]i32 = .{ 7, -8, 9, std.math.minInt(i32) };
    for (0..16) |number| {
        const mask: u4 = @intCast(number);
        var expected: [4]i32 = undefined;
        var n: usize = 0;
        for (values, 0..) |value, i| if (number >> @intCast(i) & 1 == 1) {
            expected[n] = value;
            n += 1;
        };
        try testing.expectEqualSlices(i32, expected[0..n], together(values, mask)[0..n]);
    }
}
