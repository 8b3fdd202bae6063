//! The one checksum of everything on a disk: the AEGIS-128L MAC, 128 bit, with a zero key and nonce. It finds damage; it
//! proves nothing about who wrote the bytes, and hides nothing.
//!
//! The standard library decides at compile time whether there are instructions for AES; a library for every processor
//! would compute 0.1 GB/s for good. So the MAC is here twice, over two rounds of AES: one of tables, and one of the
//! instruction, chosen when the first checksum is wanted. Both give the bytes of `std.crypto`, which the tests compare.
//!
//! The state that a zero key and nonce begin with is a constant: twenty of a checksum's rounds are done by the compiler.

const std = @import("std");
const builtin = @import("builtin");
const compat = @import("compat.zig");

/// Which instructions compute it: those that any processor has, or those for AES.
pub const Path = enum(u8) { portable = 0, aes = 1 };

/// The checksum of the bytes of all parts, one after the other. From any thread.
pub fn checksum(parts: []const []const u8) [16]u8 {
    return if (has_instruction and path() == .aes) macOf(Instruction, parts) else macOf(Tables, parts);
}

/// The way that `checksum` takes in this process.
pub fn path() Path {
    const known = chosen.load(.monotonic);
    if (known != 0) return @enumFromInt(known - 1);
    const found: Path = if (has_instruction and processorHasIt()) .aes else .portable;
    // Whoever comes at the same time finds the same.
    chosen.store(@as(u8, @intFromEnum(found)) + 1, .monotonic);
    return found;
}

/// 0 until it was asked. A fact about the processor, the same for every store: the kernel's only variable outside one.
var chosen: compat.Atomic(u8) = .init(0);

/// The bytes of a checksum by one way or the other; for tests, and for those who measure.
pub fn checksumBy(way: Path, parts: []const []const u8) error{Absent}![16]u8 {
    if (way == .portable) return macOf(Tables, parts);
    if (path() != .aes) return error.Absent;
    return if (has_instruction) macOf(Instruction, parts) else error.Absent;
}

// The MAC.

const Block = @Vector(16, u8);
const block_bytes = 16;
const rate = 2 * block_bytes;

fn macOf(comptime Round: type, parts: []const []const u8) [16]u8 {
    var mac: Mac(Round) = .{};
    var length: u64 = 0;
    // Bytes of earlier parts that do not fill a step yet.
    var kept: [rate]u8 = undefined;
    var kept_bytes: usize = 0;
    for (parts) |part| {
        length += part.len;
        var rest = part;
        if (kept_bytes > 0) {
            const n = @min(rate - kept_bytes, rest.len);
            @memcpy(kept[kept_bytes..][0..n], rest[0..n]);
            kept_bytes += n;
            rest = rest[n..];
            if (kept_bytes < rate) continue;
            mac.absorb(&kept);
        }
        while (rest.len >= rate) : (rest = rest[rate..]) mac.absorb(rest[0..rate]);
        @memcpy(kept[0..rest.len], rest);
        kept_bytes = rest.len;
    }
    if (kept_bytes > 0) {
        @memset(kept[kept_bytes..], 0);
        mac.absorb(&kept);
    }
    return mac.finish(length);
}

fn Mac(comptime Round: type) type {
    return struct {
        blocks: [8]Block = start,

        const Self = @This();

        inline fn update(mac: *Self, first: Block, second: Block) void {
            const s = &mac.blocks;
            const last = s[7];
            comptime var i = 7;
            inline while (i > 0) : (i -= 1) s[i] = Round.encrypt(s[i - 1], s[i]);
            s[0] = Round.encrypt(last, s[0]) ^ first;
            s[4] ^= second;
        }

        inline fn absorb(mac: *Self, bytes: *const [rate]u8) void {
            mac.update(bytes[0..block_bytes].*, bytes[block_bytes..rate].*);
        }

        fn finish(mac: *Self, length: u64) [16]u8 {
            var sizes: [block_bytes]u8 = undefined;
            std.mem.writeInt(u64, sizes[0..8], length * 8, .little);
            std.mem.writeInt(u64, sizes[8..16], 128, .little);
            const mixed = mac.blocks[2] ^ @as(Block, sizes);
            for (0..7) |_| mac.update(mixed, mixed);
            const s = &mac.blocks;
            return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6];
        }
    };
}

/// The state after a zero key and a zero nonce, from the Fibonacci numbers that AEGIS begins with.
const start: [8]Block = start: {
    @setEvalBranchQuota(100_000);
    const zero: Block = @splat(0);
    const low: Block = .{ 0x00, 0x01, 0x01, 0x02, 0x03, 0x05, 0x08, 0x0d, 0x15, 0x22, 0x37, 0x59, 0x90, 0xe9, 0x79, 0x62 };
    const high: Block = .{ 0xdb, 0x3d, 0x18, 0x55, 0x6d, 0xc2, 0x2f, 0xf1, 0x20, 0x11, 0x31, 0x42, 0x73, 0xb5, 0x28, 0xdd };
    var mac: Mac(Tables) = .{ .blocks = .{ zero, high, low, high, zero, low, high, low } };
    for (0..10) |_| mac.update(zero, zero);
    break :start mac.blocks;
};

// A round of AES: of `block`, with `key` added at the end.

/// By tables of what a byte becomes and where it goes. A table tells a neighbour on the same processor what was looked
/// up; nothing here is secret.
const Tables = struct {
    fn encrypt(block: Block, key: Block) Block {
        const b: [16]u8 = block;
        var out: [4]u32 = undefined;
        inline for (&out, 0..) |*column, c| {
            column.* = tables[0][b[4 * c]] ^ tables[1][b[(4 * c + 5) % 16]] ^
                tables[2][b[(4 * c + 10) % 16]] ^ tables[3][b[(4 * c + 15) % 16]];
        }
        var bytes: [16]u8 = undefined;
        inline for (out, 0..) |column, c| std.mem.writeInt(u32, bytes[4 * c ..][0..4], column, .little);
        return @as(Block, bytes) ^ key;
    }

    const tables: [4][256]u32 = tables: {
        @setEvalBranchQuota(100_000);
        var made: [4][256]u32 = undefined;
        for (0..256) |byte| {
            const s: u32 = substitute(byte);
            const column = double(s) | s << 8 | s << 16 | (double(s) ^ s) << 24;
            for (0..4) |row| made[row][byte] = std.math.rotl(u32, column, 8 * row);
        }
        break :tables made;
    };

    fn double(value: u32) u32 {
        return (value << 1 ^ (value >> 7) * 0x11b) & 0xff;
    }

    /// The S-box: the inverse in GF(2^8), then an affine map.
    fn substitute(byte: u8) u8 {
        var inverse: u32 = 1;
        // byte^254, by square and multiply.
        var power: u32 = byte;
        for (1..8) |_| {
            power = product(power, power);
            inverse = product(inverse, power);
        }
        const x: u8 = @intCast(inverse);
        return x ^ std.math.rotl(u8, x, 1) ^ std.math.rotl(u8, x, 2) ^ std.math.rotl(u8, x, 3) ^ std.math.rotl(u8, x, 4) ^ 0x63;
    }

    fn product(a: u32, b: u32) u32 {
        var sum: u32 = 0;
        var shifted = a;
        for (0..8) |bit| {
            if (b >> bit & 1 != 0) sum ^= shifted;
            shifted = double(shifted);
        }
        return sum;
    }
};

const has_instruction = builtin.zig_backend == .stage2_llvm and switch (builtin.cpu.arch) {
    .x86_64, .aarch64 => builtin.os.tag != .freestanding,
    else => false,
};

/// By the processor's. The compiler is not asked for leave: `path` has asked the processor.
const Instruction = struct {
    inline fn encrypt(block: Block, key: Block) Block {
        return switch (builtin.cpu.arch) {
            // Beside AVX in its VEX form: the old one stalls for hundreds of cycles where upper halves are in use.
            .x86_64 => if (comptime std.Target.x86.featureSetHas(builtin.cpu.features, .avx)) asm ("vaesenc %[key], %[block], %[out]"
                : [out] "=x" (-> Block),
                : [block] "x" (block),
                  [key] "x" (key),
            ) else asm ("aesenc %[key], %[out]"
                : [out] "=x" (-> Block),
                : [block] "0" (block),
                  [key] "x" (key),
            ),
            .aarch64 => asm (
                \\.arch_extension aes
                \\aese %[out].16b, %[zero].16b
                \\aesmc %[out].16b, %[out].16b
                : [out] "=w" (-> Block),
                : [block] "0" (block),
                  [zero] "w" (@as(Block, @splat(0))),
            ) ^ key,
            else => unreachable,
        };
    }
};

fn processorHasIt() bool {
    return switch (builtin.cpu.arch) {
        .x86_64 => aes: {
            var a: u32 = undefined;
            var b: u32 = undefined;
            var features: u32 = undefined;
            var d: u32 = undefined;
            asm volatile ("cpuid"
                : [a] "={eax}" (a),
                  [b] "={ebx}" (b),
                  [features] "={ecx}" (features),
                  [d] "={edx}" (d),
                : [leaf] "{eax}" (@as(u32, 1)),
                  [sub] "{ecx}" (@as(u32, 0)),
            );
            break :aes features >> 25 & 1 != 0;
        },
        .aarch64 => switch (builtin.os.tag) {
            .macos => true, // every Mac of this kind
            .linux => getauxval(16) >> 3 & 1 != 0, // AT_HWCAP, HWCAP_AES
            else => false,
        },
        else => false,
    };
}

extern "c" fn getauxval(kind: c_ulong) c_ulong;

const Reference = std.crypto.auth.aegis.Aegis128LMac_128;

test "both ways give the bytes of the standard library, however they are cut" {
    var bytes: [1100]u8 = undefined;
    var random: std.Random.DefaultPrng = .init(5);
    random.random().bytes(&bytes);
    for (0..bytes.len) |length| {
        const whole = bytes[0..length];
        var expected: [16]u8 = undefined;
        Reference.create(&expected, whole, &@splat(0));
        const first = random.random().uintAtMost(usize, length);
        const second = first + random.random().uintAtMost(usize, length - first);
        const parts = [_][]const u8{ whole[0..first], whole[first..second], "", whole[second..] };
        try std.testing.expectEqual(expected, checksum(&parts));
        try std.testing.expectEqual(expected, try checksumBy(.portable, &.{whole}));
        try std.testing.expectEqual(expected, try checksumBy(.portable, &parts));
        const other = checksumBy(.aes, &parts) catch continue;
        try std.testing.expectEqual(expected, other);
    }
}

test "any single bit changes it" {
    var bytes: [100]u8 = @splat(0);
    const before = checksum(&.{&bytes});
    for (0..800) |bit| {
        bytes[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
        try std.testing.expect(!std.mem.eql(u8, &before, &checksum(&.{&bytes})));
        bytes[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
    }
    // Zeros at the end are bytes as well.
    try std.testing.expect(!std.mem.eql(u8, &before, &checksum(&.{bytes[0..99]})));
}
