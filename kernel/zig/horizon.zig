//! The bytes of HORIZON: two sectors, at 0 and 4096, that are written in turn, each with the newest version that was
//! durable. A crash while one is written leaves the other; the later of those that are whole counts.
//!
//!     0 "ECSHORZ1" | 8 [16] database | 24 u32 epoch | 28 u32 zero | 32 u64 durable version | 40 u64 sequence |
//!     48 [16] checksum of 0..48

const std = @import("std");
const bytes = @import("bytes.zig");
const crypto = @import("crypto.zig");
const get = bytes.get;
const put = bytes.put;

pub const name = "HORIZON";
pub const temporary = "HORIZON.tmp";
pub const file_bytes = 2 * bytes.block_bytes;
pub const sector_bytes = 512;
const filled = 64;
const magic = "ECSHORZ1";

pub const Mark = struct {
    database: [16]u8,
    epoch: u32,
    durable: u64,
    /// Counts the marks; its parity is the sector.
    sequence: u64,

    pub fn encode(mark: *const Mark, out: *[sector_bytes]u8) void {
        out.* = @splat(0);
        out[0..8].* = magic.*;
        out[8..24].* = mark.database;
        put(u32, out, 24, mark.epoch);
        put(u64, out, 32, mark.durable);
        put(u64, out, 40, mark.sequence);
        out[48..filled].* = crypto.checksum(&.{out[0..48]});
    }

    /// Where in the file it belongs.
    pub fn offset(mark: *const Mark) u64 {
        return (mark.sequence & 1) * bytes.block_bytes;
    }
};

/// What one sector says; null for anything but a whole mark.
pub fn decode(in: []const u8) ?Mark {
    if (in.len < filled or !std.mem.eql(u8, in[0..8], magic)) return null;
    if (!std.mem.eql(u8, in[48..filled], &crypto.checksum(&.{in[0..48]}))) return null;
    return .{
        .database = in[8..24].*,
        .epoch = get(u32, in, 24),
        .durable = get(u64, in, 32),
        .sequence = get(u64, in, 40),
    };
}

/// The file of a database in which nothing was durable yet but `durable`.
pub fn fresh(database: [16]u8, epoch: u32, durable: u64) [file_bytes]u8 {
    var out: [file_bytes]u8 = @splat(0);
    const mark: Mark = .{ .database = database, .epoch = epoch, .durable = durable, .sequence = 0 };
    mark.encode(out[0..sector_bytes]);
    return out;
}

/// The marks of a file, as far as they are whole: sector by sector.
pub fn marks(file: []const u8) [2]?Mark {
    return .{
        decode(file[0..@min(file.len, sector_bytes)]),
        if (file.len > bytes.block_bytes) decode(file[bytes.block_bytes..]) else null,
    };
}

const expectEqual = std.testing.expectEqual;

test "what is written is read, and any flipped bit of it is not" {
    const mark: Mark = .{ .database = @splat(1), .epoch = 2, .durable = 3, .sequence = 5 };
    var out: [sector_bytes]u8 = undefined;
    mark.encode(&out);
    try expectEqual(mark, decode(&out).?);
    try expectEqual(4096, mark.offset());
    for (0..filled * 8) |bit| {
        out[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
        try expectEqual(null, decode(&out));
        out[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
    }
    for (0..filled) |length| try expectEqual(null, decode(out[0..length]));
}

test "a new file has one mark" {
    const file = fresh(@splat(4), 6, 0);
    try expectEqual(Mark{ .database = @splat(4), .epoch = 6, .durable = 0, .sequence = 0 }, marks(&file)[0].?);
    try expectEqual(null, marks(&file)[1]);
    try expectEqual([2]?Mark{ null, null }, marks(""));
}
