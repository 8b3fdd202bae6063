//! Little-endian numbers at fixed offsets, and the 4096-byte blocks that end in the checksum of the rest: what the
//! files of a database are made of.

const std = @import("std");
const crypto = @import("crypto.zig");

/// What is written at once: an acknowledged block is never written again.
pub const block_bytes = 4096;
pub const Block = [block_bytes]u8;
pub const Checksum = [16]u8;

const sum_at = block_bytes - @sizeOf(Checksum);

pub fn put(comptime T: type, out: []u8, at: usize, value: T) void {
    std.mem.writeInt(T, out[at..][0..@sizeOf(T)], value, .little);
}

pub fn get(comptime T: type, in: []const u8, at: usize) T {
    return std.mem.readInt(T, in[at..][0..@sizeOf(T)], .little);
}

/// Write the checksum of a block into its last 16 bytes.
pub fn seal(block: *Block) void {
    block[sum_at..].* = crypto.checksum(&.{block[0..sum_at]});
}

pub fn isSealed(block: *const Block) bool {
    return std.mem.eql(u8, block[sum_at..], &crypto.checksum(&.{block[0..sum_at]}));
}

/// The checksum that a sealed block carries.
pub fn sumOf(block: *const Block) Checksum {
    return block[sum_at..].*;
}

/// `bytes` up to the end of its last block.
pub fn padded(bytes: u64) u64 {
    return std.mem.alignForward(u64, bytes, block_bytes);
}

/// Where the last byte that is not zero ends; 0 where all are.
pub fn used(bytes: []const u8) usize {
    var end = bytes.len;
    while (end >= 64 and std.mem.allEqual(u8, bytes[end - 64 .. end], 0)) end -= 64;
    while (end > 0 and bytes[end - 1] == 0) end -= 1;
    return end;
}

test "a sealed block is known by its last bytes" {
    var block: Block = @splat(3);
    seal(&block);
    try std.testing.expect(isSealed(&block));
    block[17] ^= 1;
    try std.testing.expect(!isSealed(&block));
    try std.testing.expectEqual(8192, padded(4097));
    try std.testing.expectEqual(0, used(&@as([130]u8, @splat(0))));
    try std.testing.expectEqual(66, used(&(@as([65]u8, @splat(0)) ++ [_]u8{1} ++ @as([200]u8, @splat(0)))));
}
