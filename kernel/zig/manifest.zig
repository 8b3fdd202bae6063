//! The bytes of a manifest, which says what a database consists of: its id and epochs, the schema, the snapshots that
//! count, and where the log begins. It is never changed; a newer one takes its place.
//!
//!     0 "ECSMANI1" | 8 u32 format | 12 u32 total bytes | 16 [16] database | 32 u64 number | 40 u32 epoch |
//!     44 u32 ancestors | 48 i64 unix ns | 56 [16] schema fingerprint | 72 u64 oldest segment | 80 u32 snapshots |
//!     84 u32 bytes of the schema | 88 u64 origin version |
//!     96 snapshots (u64 version, u64 bytes, [16] checksum of the root), newest first |
//!     ancestors (u32 epoch, u32 zero, u64 last version), oldest first | canonical schema, UTF-8 | [16] checksum of all before

const std = @import("std");
const bytes = @import("bytes.zig");
const crypto = @import("crypto.zig");
const segment = @import("segment.zig");
const get = bytes.get;
const put = bytes.put;
const Checksum = bytes.Checksum;

pub const format = 1;
const magic = "ECSMANI1";
const fixed_bytes = 96;
const snapshot_bytes = 32;
const ancestor_bytes = 16;
const checksum_bytes = 16;
const smallest_bytes = fixed_bytes + checksum_bytes;

/// More than a schema that the catalogue's limits allow, and epochs for centuries.
pub const bytes_max = 64 << 20;

pub const Snapshot = struct { version: u64, bytes: u64, root: Checksum };

/// An epoch that ended, and its last version.
pub const Ancestor = struct { epoch: u32, last: u64 };

pub const Manifest = struct {
    database: [16]u8,
    number: u64,
    epoch: u32,
    time_ns: i64,
    fingerprint: [16]u8,
    /// The oldest segment of the log that is needed.
    oldest: u64,
    /// The version that the database began with: 0, or what it was restored from.
    origin: u64,
    /// Newest first.
    snapshots: []const Snapshot,
    /// Oldest first.
    ancestors: []const Ancestor,
    /// Canonical text.
    schema: []const u8,

    /// The whole file; the caller's.
    pub fn encode(manifest: *const Manifest, gpa: std.mem.Allocator) error{OutOfMemory}![]u8 {
        const total = smallest_bytes + manifest.snapshots.len * snapshot_bytes +
            manifest.ancestors.len * ancestor_bytes + manifest.schema.len;
        std.debug.assert(total <= bytes_max);
        const out = try gpa.alloc(u8, total);
        @memset(out[0..fixed_bytes], 0);
        out[0..8].* = magic.*;
        put(u32, out, 8, format);
        put(u32, out, 12, @intCast(total));
        out[16..32].* = manifest.database;
        put(u64, out, 32, manifest.number);
        put(u32, out, 40, manifest.epoch);
        put(u32, out, 44, @intCast(manifest.ancestors.len));
        put(i64, out, 48, manifest.time_ns);
        out[56..72].* = manifest.fingerprint;
        put(u64, out, 72, manifest.oldest);
        put(u32, out, 80, @intCast(manifest.snapshots.len));
        put(u32, out, 84, @intCast(manifest.schema.len));
        put(u64, out, 88, manifest.origin);
        var at: usize = fixed_bytes;
        for (manifest.snapshots) |*snapshot| {
            put(u64, out, at, snapshot.version);
            put(u64, out, at + 8, snapshot.bytes);
            out[at + 16 ..][0..16].* = snapshot.root;
            at += snapshot_bytes;
        }
        for (manifest.ancestors) |*ancestor| {
            put(u32, out, at, ancestor.epoch);
            put(u32, out, at + 4, 0);
            put(u64, out, at + 8, ancestor.last);
            at += ancestor_bytes;
        }
        @memcpy(out[at..][0..manifest.schema.len], manifest.schema);
        const end = total - checksum_bytes;
        out[end..][0..16].* = crypto.checksum(&.{out[0..end]});
        return out;
    }

    /// Give back what `decode` took.
    pub fn deinit(manifest: *Manifest, gpa: std.mem.Allocator) void {
        gpa.free(manifest.snapshots);
        gpa.free(manifest.ancestors);
        gpa.free(manifest.schema);
        manifest.* = undefined;
    }
};

/// A manifest from the bytes of a file; its lists are the caller's (`deinit`). `Corrupt`: not a whole manifest.
/// `Foreign`: a whole one of a newer format.
pub fn decode(gpa: std.mem.Allocator, in: []const u8) error{ OutOfMemory, Corrupt, Foreign }!Manifest {
    if (in.len < smallest_bytes or !std.mem.eql(u8, in[0..8], magic)) return error.Corrupt;
    if (get(u32, in, 12) != in.len) return error.Corrupt;
    const end = in.len - checksum_bytes;
    if (!std.mem.eql(u8, in[end..], &crypto.checksum(&.{in[0..end]}))) return error.Corrupt;
    if (get(u32, in, 8) != format) return error.Foreign;
    const snapshot_count = get(u32, in, 80);
    const ancestor_count = get(u32, in, 44);
    const schema_bytes = get(u32, in, 84);
    const total = @as(u64, smallest_bytes) + @as(u64, snapshot_count) * snapshot_bytes +
        @as(u64, ancestor_count) * ancestor_bytes + schema_bytes;
    if (total != in.len) return error.Corrupt;
    const oldest = get(u64, in, 72);
    if (oldest == 0 or oldest > segment.number_max) return error.Corrupt;
    if (get(u64, in, 88) > segment.version_max or get(u64, in, 32) > segment.number_max) return error.Corrupt;

    const snapshots = try gpa.alloc(Snapshot, snapshot_count);
    errdefer gpa.free(snapshots);
    const ancestors = try gpa.alloc(Ancestor, ancestor_count);
    errdefer gpa.free(ancestors);
    var at: usize = fixed_bytes;
    for (snapshots, 0..) |*snapshot, i| {
        snapshot.* = .{ .version = get(u64, in, at), .bytes = get(u64, in, at + 8), .root = in[at + 16 ..][0..16].* };
        const newer = if (i > 0) snapshots[i - 1].version else segment.version_max;
        if (snapshot.version >= newer) return error.Corrupt;
        at += snapshot_bytes;
    }
    for (ancestors) |*ancestor| {
        ancestor.* = .{ .epoch = get(u32, in, at), .last = get(u64, in, at + 8) };
        at += ancestor_bytes;
    }
    const schema = try gpa.dupe(u8, in[at..end]);
    return .{
        .database = in[16..32].*,
        .number = get(u64, in, 32),
        .epoch = get(u32, in, 40),
        .time_ns = get(i64, in, 48),
        .fingerprint = in[56..72].*,
        .oldest = oldest,
        .origin = get(u64, in, 88),
        .snapshots = snapshots,
        .ancestors = ancestors,
        .schema = schema,
    };
}

pub const Name = [32]u8;

/// `MANIFEST-%016d`, or with `.tmp` behind it while it is being written.
pub fn nameOf(number: u64, temporary: bool, out: *Name) []const u8 {
    return std.fmt.bufPrint(out, "MANIFEST-{d:0>16}{s}", .{ number, if (temporary) ".tmp" else "" }) catch unreachable;
}

/// The number of a manifest by its name, or null for anything else.
pub fn numberOf(name: []const u8) ?u64 {
    const before = "MANIFEST-";
    if (name.len != before.len + 16 or !std.mem.startsWith(u8, name, before)) return null;
    for (name[before.len..]) |digit| if (!std.ascii.isDigit(digit)) return null;
    return std.fmt.parseInt(u64, name[before.len..], 10) catch null;
}

const expectEqual = std.testing.expectEqual;
const test_gpa = std.testing.allocator;

fn sample() Manifest {
    return .{
        .database = @splat(2),
        .number = 9,
        .epoch = 77,
        .time_ns = 55,
        .fingerprint = @splat(8),
        .oldest = 4,
        .origin = 3,
        .snapshots = &.{ .{ .version = 50, .bytes = 8192, .root = @splat(1) }, .{ .version = 20, .bytes = 4096, .root = @splat(2) } },
        .ancestors = &.{.{ .epoch = 5, .last = 12 }},
        .schema = "[tables.a]\n",
    };
}

test "what is written is read, and any flipped bit or missing byte of it is damage" {
    const manifest = sample();
    const file = try manifest.encode(test_gpa);
    defer test_gpa.free(file);
    var found = try decode(test_gpa, file);
    defer found.deinit(test_gpa);
    try std.testing.expectEqualDeep(manifest, found);
    for (0..file.len * 8) |bit| {
        file[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
        try std.testing.expectError(error.Corrupt, decode(test_gpa, file));
        file[bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
    }
    for (0..file.len) |length| try std.testing.expectError(error.Corrupt, decode(test_gpa, file[0..length]));
}

fn resealed(file: []u8, at: usize, value: u32) error{ OutOfMemory, Corrupt, Foreign }!void {
    const before = get(u32, file, at);
    put(u32, file, at, value);
    const end = file.len - checksum_bytes;
    file[end..][0..16].* = crypto.checksum(&.{file[0..end]});
    defer put(u32, file, at, before);
    var found = try decode(test_gpa, file);
    found.deinit(test_gpa);
}

test "a newer format is told from damage, and no count leads out of the file" {
    const file = try sample().encode(test_gpa);
    defer test_gpa.free(file);
    try std.testing.expectError(error.Foreign, resealed(file, 8, 2));
    for ([_]usize{ 44, 80, 84 }) |at| for ([_]u32{ 0, 7, 1 << 27, std.math.maxInt(u32) }) |value| {
        try std.testing.expectError(error.Corrupt, resealed(file, at, value));
    };
    // Numbers that a name or the next version could not be made of.
    for ([_]usize{ 36, 76, 92 }) |at| try std.testing.expectError(error.Corrupt, resealed(file, at, 1 << 31));
    // Snapshots that are not newest first.
    try std.testing.expectError(error.Corrupt, resealed(file, fixed_bytes, 20));
}

test "a manifest is named by its number" {
    var name: Name = undefined;
    try std.testing.expectEqualStrings("MANIFEST-0000000000000003", nameOf(3, false, &name));
    try expectEqual(3, numberOf("MANIFEST-0000000000000003"));
    try std.testing.expectEqualStrings("MANIFEST-0000000000000003.tmp", nameOf(3, true, &name));
    try expectEqual(null, numberOf(nameOf(3, true, &name)));
    try expectEqual(null, numberOf("MANIFEST-"));
}
