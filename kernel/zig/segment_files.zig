//! The files of the log: made ahead of their use, enlarged, and put into quarantine. Every function is done, durably, when
//! it returns, or has changed nothing that an opening would see.

const std = @import("std");
const bytes = @import("bytes.zig");
const horizon = @import("horizon.zig");
const scan = @import("scan.zig");
const segment = @import("segment.zig");
const storage_file = @import("storage.zig");
const Error = storage_file.Error;
const Storage = storage_file.Storage;

/// What is written or copied at once.
const piece_bytes = 256 << 10;

/// Make segment `number`, of `file_bytes`, all zeros but for the header if it has one already. It takes the place of what
/// has its name. Zeros are written up to `written_bytes`: where they lie on the disk is then settled, and a later sync of
/// a record has nothing to do but the record. Beyond them there is room.
pub fn prepare(
    gpa: std.mem.Allocator,
    storage: Storage,
    number: u64,
    file_bytes: u64,
    written_bytes: u64,
    header: ?*const bytes.Block,
) Error!void {
    var names: [2]segment.Name = undefined;
    const temporary = segment.temporaryOf(number, &names[0]);
    const piece = try gpa.alloc(u8, piece_bytes);
    defer gpa.free(piece);
    const handle = try fresh(storage, temporary);
    {
        defer storage.close(handle);
        errdefer storage.remove(temporary) catch {};
        // First, so that a disk without room says so before work is done.
        try storage.allocate(handle, file_bytes);
        var at: u64 = 0;
        while (at < @min(file_bytes, written_bytes)) {
            @memset(piece, 0);
            if (at == 0) if (header) |block| {
                piece[0..bytes.block_bytes].* = block.*;
            };
            const n: usize = @intCast(@min(piece.len, file_bytes - at));
            try storage.write(handle, at, piece[0..n]);
            at += n;
        }
        try storage.sync(handle, .all);
    }
    try storage.rename(temporary, segment.nameOf(number, &names[1]));
    try storage.syncDir("wal");
}

/// Have room for `file_bytes` in a segment that was not begun.
pub fn enlarge(storage: Storage, number: u64, file_bytes: u64) Error!void {
    var name: segment.Name = undefined;
    const handle = try storage.open(segment.nameOf(number, &name), .write);
    defer storage.close(handle);
    try storage.allocate(handle, file_bytes);
    try storage.sync(handle, .all);
}

/// Begin a segment that was prepared by an earlier run.
pub fn begin(storage: Storage, number: u64, header: *const bytes.Block) Error!void {
    var name: segment.Name = undefined;
    const handle = try storage.open(segment.nameOf(number, &name), .write);
    defer storage.close(handle);
    try storage.write(handle, 0, header);
    try storage.sync(handle, .data);
}

/// Remove segments that were never begun. The newest first: what is left has no gap, whenever it ends.
pub fn removeStale(storage: Storage, numbers: []const u64) Error!void {
    if (numbers.len == 0) return;
    var i = numbers.len;
    while (i > 0) {
        i -= 1;
        var name: segment.Name = undefined;
        storage.remove(segment.nameOf(numbers[i], &name)) catch |err| switch (err) {
            error.NotFound => {}, // an earlier attempt got this far
            else => |other| return other,
        };
    }
    try storage.syncDir("wal");
}

pub const QuarantineName = [56]u8;

/// `quarantine/<segment>-<offset>`, of 16 digits each.
pub fn quarantineOf(torn: *const scan.Torn, temporary: bool, out: *QuarantineName) []const u8 {
    return std.fmt.bufPrint(out, "quarantine/{d:0>16}-{d:0>16}{s}", .{ torn.number, torn.offset, if (temporary) ".tmp" else "" }) catch unreachable;
}

/// Copy what was torn into `quarantine/`, where nothing of ours ever looks again.
pub fn quarantine(gpa: std.mem.Allocator, storage: Storage, torn: []const scan.Torn) Error!void {
    if (torn.len == 0) return;
    try storage.makeDir("quarantine");
    try storage.syncDir("");
    const piece = try gpa.alloc(u8, piece_bytes);
    defer gpa.free(piece);
    for (torn) |*of| {
        var names: [2]QuarantineName = undefined;
        var path: segment.Name = undefined;
        const from = storage.open(segment.nameOf(of.number, &path), .read) catch |err| switch (err) {
            error.NotFound => continue, // copied, and removed, by an earlier attempt
            else => |other| return other,
        };
        defer storage.close(from);
        const temporary = quarantineOf(of, true, &names[0]);
        const to = try fresh(storage, temporary);
        {
            defer storage.close(to);
            errdefer storage.remove(temporary) catch {};
            var at: u64 = 0;
            while (at < of.bytes) {
                const n = try storage.read(from, of.offset + at, piece[0..@intCast(@min(piece.len, of.bytes - at))]);
                if (n == 0) break;
                try storage.write(to, at, piece[0..n]);
                at += n;
            }
            try storage.sync(to, .all);
        }
        try storage.rename(temporary, quarantineOf(of, false, &names[1]));
    }
    try storage.syncDir("quarantine");
}

/// Make HORIZON of a database in which `durable` is.
pub fn makeHorizon(storage: Storage, database: [16]u8, epoch: u32, durable: u64) Error!void {
    const handle = try fresh(storage, horizon.temporary);
    {
        defer storage.close(handle);
        errdefer storage.remove(horizon.temporary) catch {};
        try storage.write(handle, 0, &horizon.fresh(database, epoch, durable));
        try storage.sync(handle, .all);
    }
    try storage.rename(horizon.temporary, horizon.name);
    try storage.syncDir("");
}

/// A new file in place of what an interrupted attempt may have left.
fn fresh(storage: Storage, path: []const u8) Error!storage_file.Handle {
    return storage.open(path, .create) catch |err| switch (err) {
        error.Exists => {
            try storage.remove(path);
            return storage.open(path, .create);
        },
        else => |other| return other,
    };
}
