//! The bytes at the head of a segment of the log, and its name.
//!
//!     0 "ECSWAL01" | 8 [16] database | 24 u32 epoch | 28 u32 format | 32 u64 number | 40 u64 salt | 48 u64 first version |
//!     56 u64 file bytes | 64 u64 predecessor | 72 u64 its end | 80 [16] its last checksum | 96 u32 its epoch |
//!     100 u32 floor | 104 i64 unix ns | 112 u32 flags | 116 u64 last version of the predecessor's epoch | zeros |
//!     4080 [16] checksum of 0..4080
//!
//! Segments are numbered from 1 without a gap. The predecessor's end and last checksum seal it: it validly ended there,
//! and whatever lies behind is nothing. A seal is written only when all before it is durable, so a sealed segment that
//! does not reach its seal is damaged.
//!
//! A segment whose header is all zeros was prepared and not begun.

const std = @import("std");
const bytes = @import("bytes.zig");
const get = bytes.get;
const put = bytes.put;
const Block = bytes.Block;
const Checksum = bytes.Checksum;
const Level = @import("record.zig").Level;

pub const format = 1;
/// Where the first record is.
pub const records_at = bytes.block_bytes;
/// A segment has room for its header, a record and a clean close at least; 64 KiB are what tests use.
pub const bytes_min = 64 << 10;
pub const bytes_default = 16 << 20;

const magic = "ECSWAL01";
const flag_run = 1;
const flag_epoch = 2;

/// Where the segment before validly ended.
pub const Seal = struct {
    number: u64,
    end: u64,
    /// Of its last record's header, or of its own where it has no record.
    checksum: Checksum,
    epoch: u32,
};

pub const Header = struct {
    database: [16]u8,
    epoch: u32,
    number: u64,
    salt: u64,
    /// The version that the first version record here has.
    first_version: u64,
    file_bytes: u64,
    predecessor: ?Seal,
    /// The durability of the store in this run: what its versions have at least.
    floor: Level,
    time_ns: i64,
    /// Whether a run begins here, after an opening.
    run: bool,
    /// Where an epoch begins here: the last version of the predecessor's.
    ancestor_version: ?u64,

    pub fn encode(header: *const Header, out: *Block) void {
        out.* = @splat(0);
        out[0..8].* = magic.*;
        out[8..24].* = header.database;
        put(u32, out, 24, header.epoch);
        put(u32, out, 28, format);
        put(u64, out, 32, header.number);
        put(u64, out, 40, header.salt);
        put(u64, out, 48, header.first_version);
        put(u64, out, 56, header.file_bytes);
        if (header.predecessor) |*before| {
            put(u64, out, 64, before.number);
            put(u64, out, 72, before.end);
            out[80..96].* = before.checksum;
            put(u32, out, 96, before.epoch);
        }
        put(u32, out, 100, @intFromEnum(header.floor));
        put(i64, out, 104, header.time_ns);
        put(u32, out, 112, @as(u32, if (header.run) flag_run else 0) | @as(u32, if (header.ancestor_version != null) flag_epoch else 0));
        put(u64, out, 116, header.ancestor_version orelse 0);
        bytes.seal(out);
    }
};

/// What a segment's first block says.
pub const Found = union(enum) {
    /// All zeros: not begun, if the rest is as well.
    empty,
    /// Not a header, or a damaged one.
    none,
    /// A header, whole, of a format that this program does not know.
    newer,
    header: struct { of: Header, sum: Checksum },
};

pub fn decode(in: *const Block) Found {
    if (!std.mem.eql(u8, in[0..8], magic)) return if (std.mem.allEqual(u8, in, 0)) .empty else .none;
    if (!bytes.isSealed(in)) return .none;
    if (get(u32, in, 28) != format) return .newer;
    const flags = get(u32, in, 112);
    if (flags & ~@as(u32, flag_run | flag_epoch) != 0) return .newer;
    const floor = std.math.cast(u8, get(u32, in, 100)) orelse return .newer;
    if (get(u64, in, 48) == 0 or get(u64, in, 48) > version_max) return .none;
    const before = get(u64, in, 64);
    return .{ .header = .{ .sum = bytes.sumOf(in), .of = .{
        .database = in[8..24].*,
        .epoch = get(u32, in, 24),
        .number = get(u64, in, 32),
        .salt = saltOf(in),
        .first_version = get(u64, in, 48),
        .file_bytes = get(u64, in, 56),
        .predecessor = if (before == 0) null else .{
            .number = before,
            .end = get(u64, in, 72),
            .checksum = in[80..96].*,
            .epoch = get(u32, in, 96),
        },
        .floor = std.enums.fromInt(Level, floor) orelse return .newer,
        .time_ns = get(i64, in, 104),
        .run = flags & flag_run != 0,
        .ancestor_version = if (flags & flag_epoch != 0) get(u64, in, 116) else null,
    } } };
}

/// The salt in a header, of a damaged one too.
pub fn saltOf(in: *const Block) u64 {
    return get(u64, in, 40);
}

pub const Name = [24]u8;

/// `wal/%016d.wal`.
pub fn nameOf(number: u64, out: *Name) []const u8 {
    return std.fmt.bufPrint(out, "wal/{d:0>16}.wal", .{number}) catch unreachable;
}

/// `wal/%016d.tmp`: a segment while it is being prepared.
pub fn temporaryOf(number: u64, out: *Name) []const u8 {
    return std.fmt.bufPrint(out, "wal/{d:0>16}.tmp", .{number}) catch unreachable;
}

/// The number of a segment by its name in `wal/`, or null for anything else.
pub fn numberOf(name: []const u8) ?u64 {
    if (name.len != 20 or !std.mem.endsWith(u8, name, ".wal")) return null;
    for (name[0..16]) |digit| if (!std.ascii.isDigit(digit)) return null;
    const number = std.fmt.parseInt(u64, name[0..16], 10) catch return null;
    return if (number == 0 or number > number_max) null else number;
}

/// Numbers have 16 digits, and there is always a next one.
pub const number_max = 9_999_999_999_999_998;
/// No version is ever beyond it, so that one more is a number still.
pub const version_max = 1 << 62;

const expectEqual = std.testing.expectEqual;

fn sample() Header {
    return .{
        .database = @splat(7),
        .epoch = 5,
        .number = 12,
        .salt = 0xaabbccdd,
        .first_version = 300,
        .file_bytes = 1 << 24,
        .predecessor = .{ .number = 11, .end = 8192, .checksum = @splat(3), .epoch = 4 },
        .floor = .strict,
        .time_ns = 1234,
        .run = true,
        .ancestor_version = 299,
    };
}

test "what is written is read, and any flipped bit of it is not" {
    var out: Block = undefined;
    var header = sample();
    for ([_]bool{ true, false }) |whole| {
        if (!whole) {
            header.predecessor = null;
            header.ancestor_version = null;
            header.run = false;
        }
        header.encode(&out);
        const found = decode(&out).header;
        try expectEqual(header, found.of);
        try expectEqual(bytes.sumOf(&out), found.sum);
        for (0..out.len * 8) |bit| {
            out[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
            try expectEqual(.none, decode(&out));
            out[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
        }
    }
    try expectEqual(.empty, decode(&@splat(0)));
}

test "a header of a format to come is told from damage" {
    var out: Block = undefined;
    for ([_]usize{ 28, 100, 101, 112 }) |at| {
        sample().encode(&out);
        out[at] = 77;
        bytes.seal(&out);
        try expectEqual(.newer, decode(&out));
    }
}

test "a segment is named by its number" {
    var name: Name = undefined;
    try std.testing.expectEqualStrings("wal/0000000000000042.wal", nameOf(42, &name));
    try std.testing.expectEqualStrings("wal/0000000000000042.tmp", temporaryOf(42, &name));
    try expectEqual(42, numberOf("0000000000000042.wal"));
    try expectEqual(number_max, numberOf(nameOf(number_max, &name)[4..]));
    for ([_][]const u8{ "42.wal", "0000000000000042.tmp", "0000000000000000.wal", "00000000000000+2.wal", "" }) |other| {
        try expectEqual(null, numberOf(other));
    }
}
