//! What floats become on the wire: multiples of a step, and unit quaternions as their smallest three components.
//!
//! A field with a step travels as the quantum q = round half to even (v × (1 / step)), in f64, and a reader holds
//! q × step. It is the same number wherever it is worked out: only IEEE operations that round in one way are used.
//! What has no quantum (infinities, NaN, |v / step| of 2^31 and above) travels as it is.
//!
//! Invariants:
//! - |wire(v) − v| is at most half a step, beside what the type itself rounds;
//! - where |q| is below `recoverable`, the quantum of wire(v) is q: what is relative to a cell needs no more than it;
//! - wire(v) is within the field's bounds if v is: it is drawn in to them, and its quantum stays q.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const Field = catalogue.Field;

/// Added and taken off again it leaves the nearest integer, the even one of two, in the low bits of an f64.
const magic: f64 = 6755399441055744.0;
const magic_bits: i64 = @bitCast(magic);

comptime {
    // What is cut off to 32 bits needs no taking off.
    assert(@as(u32, @truncate(@as(u64, @bitCast(magic)))) == 0);
}

/// Quanta are below this in magnitude.
pub const quanta_max: f64 = 2147483648.0;

/// Whether a cell of it may be another one on the wire.
pub fn isRounded(field: *const Field) bool {
    return field.quantize != 0 or field.rotation;
}

/// Floats of one type and step.
pub fn Steps(comptime F: type) type {
    return struct {
        const Self = @This();

        /// Quanta below this can be told from wire(v) again.
        pub const recoverable: f64 = if (F == f32) 4194304.0 else quanta_max;

        step: f64,
        inverse: f64,
        low: f64,
        high: f64,

        pub fn of(field: *const Field) Self {
            assert(field.quantize > 0 and !field.rotation);
            return .{
                .step = field.quantize,
                .inverse = 1 / field.quantize,
                .low = if (field.has_minimum) inside(field.minimum, .up) else -std.math.inf(f64),
                .high = if (field.has_maximum) inside(field.maximum, .down) else std.math.inf(f64),
            };
        }

        /// The bound, or the next number of the type that keeps it.
        fn inside(bits: u64, comptime to: enum { up, down }) f64 {
            const bound: f64 = @bitCast(bits);
            var near: F = @floatCast(bound);
            if (to == .up and near < bound) near = std.math.nextAfter(F, near, std.math.inf(F));
            if (to == .down and near > bound) near = std.math.nextAfter(F, near, -std.math.inf(F));
            return near;
        }

        pub inline fn quantum(steps: *const Self, v: F) ?i64 {
            const x = @as(f64, v) * steps.inverse;
            if (!(@abs(x) < quanta_max)) return null;
            return @as(i64, @bitCast(x + magic)) - magic_bits;
        }

        /// The quanta of `cells`, which are values one behind the other. False if one of them is not below `bound`, which is at
        /// most 2^30 for i32; then they are not to be used.
        pub fn quanta(steps: *const Self, comptime V: type, cells: []const u8, into: []V, bound: f64) bool {
            const size = @sizeOf(F);
            assert(cells.len == into.len * size and (V == i64 or bound <= 1 << 30));
            @setRuntimeSafety(false);
            const n = 8;
            const U = std.meta.Int(.unsigned, @bitSizeOf(F));
            const Floats = @Vector(n, F);
            const Bits = @Vector(n, U);
            const inverse: @Vector(n, f64) = @splat(steps.inverse);
            const add: @Vector(n, f64) = @splat(magic);
            // The bits of a magnitude go up with it, and those of infinity and NaN are beyond all numbers'.
            const magnitude: Bits = @splat(~(@as(U, 1) << (@bitSizeOf(F) - 1)));
            var most: Bits = @splat(0);
            var i: usize = 0;
            while (i + n <= into.len) : (i += n) {
                const v: Floats = @bitCast(cells[i * size ..][0 .. n * size].*);
                most = @max(most, @as(Bits, @bitCast(v)) & magnitude);
                const x: @Vector(n, i64) = @bitCast(@as(@Vector(n, f64), v) * inverse + add);
                into[i..][0..n].* = if (V == i32) @as(@Vector(n, i32), @truncate(x)) else x -% @as(@Vector(n, i64), @splat(magic_bits));
            }
            var all: U = @reduce(.Max, most);
            while (i < into.len) : (i += 1) {
                const bits: U = @bitCast(cells[i * size ..][0..size].*);
                all = @max(all, bits & magnitude[0]);
                const x: i64 = @bitCast(@as(f64, @as(F, @bitCast(bits))) * steps.inverse + magic);
                into[i] = if (V == i32) @truncate(x) else x -% magic_bits;
            }
            return @as(f64, @as(F, @bitCast(all))) * steps.inverse < bound;
        }

        pub inline fn value(steps: *const Self, q: i64) F {
            return @floatCast(@min(@max(@as(f64, @floatFromInt(q)) * steps.step, steps.low), steps.high));
        }

        /// What `value` says, of many; each is at most `quanta_max` in magnitude.
        pub fn values(steps: *const Self, qs: []const i64, into: []F) void {
            assert(qs.len == into.len);
            @setRuntimeSafety(false);
            const n = 4;
            const bounded = steps.low != -std.math.inf(f64) or steps.high != std.math.inf(f64);
            var i: usize = 0;
            if (!bounded) while (i + n <= qs.len) : (i += n) {
                const q: @Vector(n, i64) = qs[i..][0..n].*;
                const x = @as(@Vector(n, f64), @bitCast(q +% @as(@Vector(n, i64), @splat(magic_bits)))) - @as(@Vector(n, f64), @splat(magic));
                into[i..][0..n].* = @as(@Vector(n, F), @floatCast(x * @as(@Vector(n, f64), @splat(steps.step))));
            };
            for (into[i..], qs[i..]) |*to, q| to.* = steps.value(q);
        }

        pub fn wire(steps: *const Self, v: F) F {
            return if (steps.quantum(v)) |q| steps.value(q) else v;
        }
    };
}

/// Unit quaternions: two bits say which component is largest, and the other three, each with `bits`, follow.
pub const Rotation = struct {
    bits: u6,
    most: f64,

    const reach: f64 = 0.70710678118654752440;

    pub fn of(field: *const Field) Rotation {
        assert(field.rotation);
        var bits: u6 = bits_default;
        if (field.quantize != 0) {
            bits = bits_min;
            while (bits < bits_max and reach / mostOf(bits) > field.quantize) bits += 1;
        }
        return .{ .bits = bits, .most = mostOf(bits) };
    }

    const bits_default = 10;
    const bits_min = 2;
    const bits_max = 20;

    /// As many on either side of zero, so that zero is zero.
    fn mostOf(bits: u6) f64 {
        return @floatFromInt((@as(u64, 1) << (bits - 1)) - 1);
    }

    /// Null where it has no direction.
    pub fn pack(rotation: Rotation, cell: [4]f32) ?i64 {
        var norm: f64 = 0;
        for (cell) |c| norm += @as(f64, c) * c;
        if (!(norm > 1e-24 and norm < 1e24)) return null;
        var largest: usize = 0;
        for (cell, 0..) |c, i| if (@abs(c) > @abs(cell[largest])) {
            largest = i;
        };
        const scale = std.math.copysign(rotation.most / (reach * @sqrt(norm)), @as(f64, cell[largest]));
        var whole: u64 = largest;
        var at: u6 = 2;
        for (cell, 0..) |c, i| {
            if (i == largest) continue;
            const x = @min(@max(@as(f64, c) * scale, -rotation.most), rotation.most) + rotation.most;
            whole |= @as(u64, @bitCast(@as(i64, @bitCast(x + magic)) -% magic_bits)) << at;
            at += rotation.bits;
        }
        return @bitCast(whole);
    }

    /// Of any bits; those beyond what `pack` gives count for nothing.
    pub fn unpack(rotation: Rotation, bits: i64) [4]f32 {
        const whole: u64 = @bitCast(bits);
        const largest: usize = @intCast(whole & 3);
        const mask = (@as(u64, 1) << rotation.bits) - 1;
        var cell: [4]f32 = undefined;
        var rest: f64 = 1;
        var at: u6 = 2;
        for (&cell, 0..) |*c, i| {
            if (i == largest) continue;
            const q: f64 = @floatFromInt(whole >> at & mask);
            const x = (q - rotation.most) * (reach / rotation.most);
            c.* = @floatCast(x);
            rest -= x * x;
            at += rotation.bits;
        }
        cell[largest] = @floatCast(@sqrt(@max(rest, 0)));
        return cell;
    }

    pub fn wire(rotation: Rotation, cell: [4]f32) [4]f32 {
        return if (rotation.pack(cell)) |bits| rotation.unpack(bits) else cell;
    }
};

/// What cells one behind the other are on the wire. `from` and `into` may be the same memory.
pub fn wireCells(field: *const Field, from: []const u8, into: []u8) void {
    assert(from.len == into.len and from.len % field.width == 0);
    if (field.rotation) {
        const rotation: Rotation = .of(field);
        var at: usize = 0;
        while (at < from.len) : (at += 16) into[at..][0..16].* = @bitCast(rotation.wire(@bitCast(from[at..][0..16].*)));
        return;
    }
    if (field.quantize == 0) {
        if (from.ptr != into.ptr) @memcpy(into, from);
        return;
    }
    switch (field.type) {
        inline .f32, .f64 => |kind| {
            const F = catalogue.Native(kind);
            const steps: Steps(F) = .of(field);
            const size = @sizeOf(F);
            var at: usize = 0;
            while (at < from.len) : (at += size)
                into[at..][0..size].* = @bitCast(steps.wire(@bitCast(from[at..][0..size].*)));
        },
        else => unreachable, // a catalogue has steps of floats only
    }
}

/// A field as a test needs it.
pub fn testField(kind: catalogue.Type, count: u32, step: f64) Field {
    return .{
        .id = 0,
        .type = kind,
        .on_delete = .cascade,
        .unique = false,
        .foreign_key = false,
        .optional = false,
        .auto = false,
        .has_minimum = false,
        .has_maximum = false,
        .width = catalogue.elementBytes(kind) * count,
        .count = count,
        .minimum = 0,
        .maximum = 0,
        .enum_values = &.{},
        .default = null,
        .quantize = step,
    };
}

test "a float is half a step away at most, and its quantum can be told again" {
    var prng = std.Random.DefaultPrng.init(3);
    const random = prng.random();
    inline for (.{ f32, f64 }) |F| {
        for (0..20_000) |_| {
            const step = std.math.pow(f64, 10, random.float(f64) * 8 - 6);
            const steps: Steps(F) = .of(&testField(if (F == f32) .f32 else .f64, 1, step));
            const reach = step * @min(Steps(F).recoverable, std.math.pow(f64, 10, random.float(f64) * 7));
            const v: F = @floatCast((random.float(f64) * 2 - 1) * reach);
            const q = steps.quantum(v).?;
            const w = steps.value(q);
            const eps: f64 = std.math.floatEps(F);
            try std.testing.expect(@abs(@as(f64, w) - v) <= step * 0.5000001 + @abs(@as(f64, v)) * eps);
            if (@abs(@as(f64, @floatFromInt(q))) < Steps(F).recoverable) try std.testing.expectEqual(q, steps.quantum(w).?);
            try std.testing.expectEqual(w, steps.wire(w));
            var many: [7]i64 = undefined;
            const values: [7]F = .{ v, 0, w, -v, -0.0, 0.4 * v, v };
            try std.testing.expect(steps.quanta(i64, std.mem.asBytes(&values), &many, quanta_max));
            for (values, many) |value, got| try std.testing.expectEqual(steps.quantum(value).?, got);
            var few: [19]i32 = undefined;
            const narrow: [19]F = .{v} ** 11 ++ values ++ .{w};
            const fits = @abs(@as(f64, v) * steps.inverse) < 1 << 30;
            try std.testing.expectEqual(fits, steps.quanta(i32, std.mem.asBytes(&narrow), &few, 1 << 30));
            if (fits) for (narrow, few) |value, got| try std.testing.expectEqual(steps.quantum(value).?, got);
            var back: [7]F = undefined;
            steps.values(&many, &back);
            for (back, many) |got, quantum_| try std.testing.expectEqual(steps.value(quantum_), got);
        }
    }
}

test "what has no quantum is as it was" {
    const steps: Steps(f32) = .of(&testField(.f32, 1, 0.5));
    for ([_]f32{ std.math.inf(f32), -std.math.inf(f32), std.math.nan(f32), 1.1e9, -3e38 }) |v| {
        try std.testing.expectEqual(null, steps.quantum(v));
        try std.testing.expectEqual(@as(u32, @bitCast(v)), @as(u32, @bitCast(steps.wire(v))));
        var into: [9]i64 = undefined;
        var narrow: [9]i32 = undefined;
        for (0..into.len) |at| {
            var cells: [9]f32 = @splat(1);
            cells[at] = v;
            try std.testing.expect(!steps.quanta(i64, std.mem.asBytes(&cells), &into, quanta_max));
            try std.testing.expect(!steps.quanta(i32, std.mem.asBytes(&cells), &narrow, 1 << 30));
        }
    }
    // The even one of two.
    try std.testing.expectEqual(0, steps.quantum(0.25).?);
    try std.testing.expectEqual(2, steps.quantum(0.75).?);
}

test "a bound holds on the wire too" {
    var field = testField(.f32, 1, 0.3);
    field.has_minimum = true;
    field.minimum = @bitCast(@as(f64, -1));
    field.has_maximum = true;
    field.maximum = @bitCast(@as(f64, 0.1));
    const steps: Steps(f32) = .of(&field);
    for (0..1000) |i| {
        const v = -1 + 1.1 * @as(f32, @floatFromInt(i)) / 1000;
        if (catalogue.checkCell(&field, std.mem.asBytes(&v)) != null) continue;
        const w = steps.wire(v);
        try std.testing.expect(catalogue.checkCell(&field, std.mem.asBytes(&w)) == null);
        try std.testing.expectEqual(steps.quantum(v).?, steps.quantum(w).?);
    }
}

test "a rotation keeps its direction, and none has zero for another" {
    var prng = std.Random.DefaultPrng.init(9);
    const random = prng.random();
    var field = testField(.f32, 4, 0);
    field.rotation = true;
    for ([_]f64{ 0, 0.1, 0.001, 0.00001 }) |step| {
        field.quantize = step;
        const rotation: Rotation = .of(&field);
        const worst = Rotation.reach / rotation.most / 2;
        if (step > 0.00001) try std.testing.expect(worst * 2 <= @max(step, 0.0014));
        for (0..2000) |_| {
            var cell: [4]f32 = undefined;
            var norm: f64 = 0;
            for (&cell) |*c| {
                c.* = random.floatNorm(f32);
                norm += @as(f64, c.*) * c.*;
            }
            const got = rotation.wire(cell);
            var dot: f64 = 0;
            for (cell, got) |a, b| dot += @as(f64, a) * b / @sqrt(norm);
            // q and −q are one rotation.
            for (cell, got) |a, b| {
                const off = @abs(@as(f64, a) / @sqrt(norm) * std.math.sign(dot) - b);
                try std.testing.expect(off <= worst * 4 + 1e-6);
            }
        }
        try std.testing.expectEqual([4]f32{ 0, 0, 0, 1 }, rotation.wire(.{ 0, 0, 0, 1 }));
        try std.testing.expectEqual([4]f32{ 0, 1, 0, 0 }, rotation.wire(.{ 0, -9, 0, 0 }));
        const none: [4]f32 = .{ 0, 0, 0, 0 };
        try std.testing.expectEqual(none, rotation.wire(none));
        try std.testing.expectEqual(null, rotation.pack(.{ 1, std.math.nan(f32), 0, 0 }));
        for ([_]i64{ 0, -1, std.math.maxInt(i64) }) |bits| for (rotation.unpack(bits)) |c| {
            try std.testing.expect(@abs(c) <= 1.5);
        };
    }
}
