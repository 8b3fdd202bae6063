//! The real disk does what the interface promises, and says what went wrong: in a directory under the system's own.

const std = @import("std");
const builtin = @import("builtin");
const interface = @import("storage.zig");
const Os = @import("storage_os.zig").Os;

const gpa = std.testing.allocator;
const expectEqual = std.testing.expectEqual;
const expectError = std.testing.expectError;
const expectEqualStrings = std.testing.expectEqualStrings;

extern "c" fn getpid() c_int;
extern "c" fn rmdir(path: [*:0]const u8) c_int;

/// A directory of its own for one test.
const Room = struct {
    path: [:0]u8,
    os: *Os,

    fn init(name: []const u8) !Room {
        const path = try std.fmt.allocPrintSentinel(gpa, "/tmp/ecsnet-storage-{d}-{s}", .{ getpid(), name }, 0);
        errdefer gpa.free(path);
        return .{ .path = path, .os = try Os.create(gpa, path, 4711) };
    }

    fn deinit(room: Room) void {
        const disk = room.os.storage();
        for ([_][]const u8{ "wal", "" }) |dir| {
            const names = disk.list(gpa, dir) catch continue;
            defer interface.freeNames(gpa, names);
            for (names) |name| {
                const path = std.mem.concat(gpa, u8, &.{ dir, if (dir.len > 0) "/" else "", name }) catch unreachable;
                defer gpa.free(path);
                disk.remove(path) catch {};
            }
            const whole = std.mem.concatWithSentinel(gpa, u8, &.{ room.path, "/", dir }, 0) catch unreachable;
            defer gpa.free(whole);
            _ = rmdir(whole);
        }
        room.os.destroy();
        gpa.free(room.path);
    }
};

test "files are made, written, renamed, listed and read back" {
    if (builtin.os.tag == .windows) return error.SkipZigTest;
    const room: Room = try .init("files");
    defer room.deinit();
    const disk = room.os.storage();
    // Nothing is made before it is asked for.
    try expectError(error.NotFound, disk.list(gpa, ""));
    try expectError(error.NotFound, disk.open("LOCK", .create));
    try disk.makeDir("");
    try disk.makeDir("");
    try disk.makeDir("wal");
    try disk.makeDir("wal");
    const file = try disk.open("wal/1.tmp", .create);
    try expectError(error.Exists, disk.open("wal/1.tmp", .create));
    try expectEqual(17, disk.failure().errno);
    try expectEqualStrings("wal/1.tmp", disk.failure().path());
    try disk.write(file, 4, "abc");
    try disk.allocate(file, 100_000);
    try disk.allocate(file, 3);
    try expectEqual(100_000, try disk.size(file));
    try disk.sync(file, .data);
    try disk.sync(file, .all);
    try disk.rename("wal/1.tmp", "wal/1.wal");
    try disk.syncDir("wal");
    try disk.syncDir("");
    try expectError(error.NotFound, disk.open("wal/1.tmp", .read));
    var into: [16]u8 = undefined;
    try expectEqual(16, try disk.read(file, 0, &into));
    try expectEqualStrings("\x00\x00\x00\x00abc\x00", into[0..8]);
    try expectEqual(2, try disk.read(file, 99_998, &into));
    try expectEqual(0, try disk.read(file, 100_000, &into));
    disk.close(file);

    const again = try disk.open("wal/1.wal", .write);
    try disk.write(again, 0, "x");
    disk.close(again);
    const reading = try disk.open("wal/1.wal", .read);
    defer disk.close(reading);
    try expectEqual(7, try disk.read(reading, 0, into[0..7]));
    try expectEqualStrings("x\x00\x00\x00abc", into[0..7]);
    // Read-only is read-only, whoever runs the tests.
    try expectError(error.Io, disk.write(reading, 0, "y"));

    disk.close(try disk.open("wal/0.wal", .create));
    const names = try disk.list(gpa, "wal");
    defer interface.freeNames(gpa, names);
    try expectEqual(2, names.len);
    try expectEqualStrings("0.wal", names[0]);
    try expectEqualStrings("1.wal", names[1]);
    try disk.remove("wal/0.wal");
    try expectError(error.NotFound, disk.remove("wal/0.wal"));
    try expectEqual(interface.Operation.remove, disk.failure().operation);
    try expectError(error.Exists, disk.makeDir("wal/1.wal"));
    try expectError(error.NotFound, disk.open("wal/1.wal/2", .create));
}

test "a lock keeps every other handle out, says by whom it is held, and goes with its handle" {
    if (builtin.os.tag == .windows) return error.SkipZigTest;
    const room: Room = try .init("lock");
    defer room.deinit();
    const disk = room.os.storage();
    try disk.makeDir("");
    // Who held it before had a longer name.
    const before = try disk.open("LOCK", .create);
    try disk.write(before, 0, "pid 12345678901234\n");
    disk.close(before);

    const held = try disk.lock("LOCK");
    try expectError(error.Locked, disk.lock("LOCK"));
    const other = try Os.create(gpa, room.path, 1);
    try expectError(error.Locked, other.storage().lock("LOCK"));
    const reading = try other.storage().open("LOCK", .read);
    var into: [32]u8 = undefined;
    try expectEqualStrings("pid 4711\n", into[0..try other.storage().read(reading, 0, &into)]);
    disk.close(held);
    _ = try other.storage().lock("LOCK");
    try expectError(error.Locked, disk.lock("LOCK"));
    other.destroy(); // closes what it has open
    disk.close(try disk.lock("LOCK"));
}

test "more open files than a database ever has are an error, not a crash" {
    if (builtin.os.tag == .windows) return error.SkipZigTest;
    const room: Room = try .init("many");
    defer room.deinit();
    const disk = room.os.storage();
    try disk.makeDir("");
    disk.close(try disk.open("a", .create));
    var handles: [256]interface.Handle = undefined;
    for (&handles) |*handle| handle.* = try disk.open("a", .read);
    try expectError(error.Io, disk.open("a", .read));
    for (handles) |handle| disk.close(handle);
    disk.close(try disk.open("a", .read));
}
