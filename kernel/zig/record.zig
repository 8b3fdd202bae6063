//! The bytes of a log record: a header of 128 bytes, a body, and zeros up to a multiple of 4096.
//!
//!     0 [16] checksum of 16..128 | 16 [16] checksum of the body | 32 [16] parent | 48 u64 salt | 56 u64 version |
//!     64 u64 first transaction | 72 u32 transactions | 76 u32 body bytes | 80 u64 durable version | 88 i64 unix ns |
//!     96 u64 tick | 104 u8 kind | 105 u8 codec | 106 u8 level | 107 u8 flags | 108 u32 catalogue version |
//!     112 u32 epoch | 116 u64 zero | 124 "ECR1" | 128 body
//!
//! The parent is the checksum of the record before (of a segment's first: the checksum of the segment's header), so a
//! chain of valid records is the very history that was written: none is missing, none is another's. The salt is the
//! segment's, random: bytes that a client had stored are not taken for a record. The durable version is what was known to
//! be on disk when the record was written; it tells an end that was never acknowledged from one that was lost.

const std = @import("std");
const assert = std.debug.assert;
const bytes = @import("bytes.zig");
const crypto = @import("crypto.zig");
const get = bytes.get;
const put = bytes.put;
const Checksum = bytes.Checksum;

pub const header_bytes = 128;
const magic = "ECR1";

/// A body is in memory more than once while it is written and while it is read.
pub const body_bytes_max = 1 << 30;

pub const Kind = enum(u8) {
    /// What a version changed; its version is the one after the last.
    version = 1,
    /// The log was closed cleanly: nobody saw anything that is not in it. This and the kinds below name the newest version.
    close = 2,
    /// The body is a name (UTF-8) for the newest version.
    point = 3,
    /// The body is a u64 version and the 16 bytes of its digest.
    digest = 4,
};

/// What an answer waits for. A version's is the highest of the store's and of its transactions'.
pub const Level = enum(u8) {
    /// Nothing: written behind.
    memory = 0,
    /// The operating system has it.
    relaxed = 1,
    /// The disk has it.
    strict = 2,
    /// The disk has it, and HORIZON says so.
    paranoid = 3,

    pub fn atLeast(level: Level, other: Level) bool {
        return @intFromEnum(level) >= @intFromEnum(other);
    }

    pub fn max(level: Level, other: Level) Level {
        return if (level.atLeast(other)) level else other;
    }
};

pub const Header = struct {
    body: Checksum = @splat(0),
    parent: Checksum = @splat(0),
    salt: u64,
    version: u64,
    first_transaction: u64 = 0,
    transactions: u32 = 0,
    body_bytes: u32 = 0,
    durable: u64,
    time_ns: i64,
    tick: u64 = 0,
    kind: Kind,
    level: Level,
    catalogue: u32 = 0,
    epoch: u32,

    /// Write the header; its own checksum, which is the next record's parent, is returned.
    pub fn encode(header: *const Header, out: *[header_bytes]u8) Checksum {
        out.* = @splat(0);
        out[16..32].* = header.body;
        out[32..48].* = header.parent;
        put(u64, out, 48, header.salt);
        put(u64, out, 56, header.version);
        put(u64, out, 64, header.first_transaction);
        put(u32, out, 72, header.transactions);
        put(u32, out, 76, header.body_bytes);
        put(u64, out, 80, header.durable);
        put(i64, out, 88, header.time_ns);
        put(u64, out, 96, header.tick);
        out[104] = @intFromEnum(header.kind);
        out[106] = @intFromEnum(header.level);
        put(u32, out, 108, header.catalogue);
        put(u32, out, 112, header.epoch);
        out[124..128].* = magic.*;
        const sum = crypto.checksum(&.{out[16..]});
        out[0..16].* = sum;
        return sum;
    }
};

/// What is at a place where a record may begin.
pub const Found = union(enum) {
    /// Not the header of a record, or a damaged one.
    none,
    /// A record, whole, of a kind that this program does not know.
    newer,
    header: struct { of: Header, sum: Checksum },
};

/// The header in the first bytes of `in`; of any bytes.
pub fn decode(in: []const u8) Found {
    if (in.len < header_bytes) return .none;
    if (!std.mem.eql(u8, in[124..128], magic)) return .none;
    const sum = crypto.checksum(&.{in[16..header_bytes]});
    if (!std.mem.eql(u8, in[0..16], &sum)) return .none;
    const kind = std.enums.fromInt(Kind, in[104]) orelse return .newer;
    const level = std.enums.fromInt(Level, in[106]) orelse return .newer;
    if (in[105] != 0 or in[107] != 0 or get(u64, in, 116) != 0) return .newer;
    return .{ .header = .{ .sum = sum, .of = .{
        .body = in[16..32].*,
        .parent = in[32..48].*,
        .salt = get(u64, in, 48),
        .version = get(u64, in, 56),
        .first_transaction = get(u64, in, 64),
        .transactions = get(u32, in, 72),
        .body_bytes = get(u32, in, 76),
        .durable = get(u64, in, 80),
        .time_ns = get(i64, in, 88),
        .tick = get(u64, in, 96),
        .kind = kind,
        .level = level,
        .catalogue = get(u32, in, 108),
        .epoch = get(u32, in, 112),
    } } };
}

/// Bytes that a record of a body takes.
pub fn span(body_bytes: u64) u64 {
    return bytes.padded(header_bytes + body_bytes);
}

/// The body of the record at the beginning of `in`, or null where it is cut off or fails its checksum.
pub fn bodyOf(header: *const Header, in: []const u8) ?[]const u8 {
    const rest = in[header_bytes..];
    if (rest.len < header.body_bytes) return null;
    const body = rest[0..header.body_bytes];
    if (!std.mem.eql(u8, &header.body, &crypto.checksum(&.{body}))) return null;
    return body;
}

comptime {
    assert(body_bytes_max + header_bytes < std.math.maxInt(u32));
    assert(std.math.maxInt(u32) % bytes.block_bytes == bytes.block_bytes - 1);
}

const expectEqual = std.testing.expectEqual;

fn sample(body: []const u8) Header {
    return .{
        .body = crypto.checksum(&.{body}),
        .parent = @splat(9),
        .salt = 0x1122334455667788,
        .version = 7,
        .first_transaction = 41,
        .transactions = 3,
        .body_bytes = @intCast(body.len),
        .durable = 6,
        .time_ns = -5,
        .tick = 120,
        .kind = .version,
        .level = .strict,
        .catalogue = 2,
        .epoch = 99,
    };
}

test "what is written is read, and any flipped bit of it is not" {
    const body = "a body";
    var whole: [header_bytes + body.len]u8 = undefined;
    const header = sample(body);
    const sum = header.encode(whole[0..header_bytes]);
    whole[header_bytes..].* = body.*;
    const found = decode(&whole).header;
    try expectEqual(header, found.of);
    try expectEqual(sum, found.sum);
    try std.testing.expectEqualStrings(body, bodyOf(&found.of, &whole).?);
    for (0..whole.len * 8) |bit| {
        whole[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
        defer whole[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
        switch (decode(&whole)) {
            .none => try std.testing.expect(bit < header_bytes * 8),
            .newer => return error.TestUnexpectedResult,
            .header => |*other| try expectEqual(null, bodyOf(&other.of, &whole)),
        }
    }
    for (0..whole.len) |length| switch (decode(whole[0..length])) {
        .none => try std.testing.expect(length < header_bytes),
        .newer => return error.TestUnexpectedResult,
        .header => |*other| try expectEqual(null, bodyOf(&other.of, whole[0..length])),
    };
}

test "a record of a kind to come is told from damage" {
    for ([_]usize{ 104, 105, 106, 107, 116 }) |at| {
        var out: [header_bytes]u8 = undefined;
        _ = sample("").encode(&out);
        out[at] = 200;
        out[0..16].* = crypto.checksum(&.{out[16..]});
        try expectEqual(.newer, decode(&out));
    }
}
