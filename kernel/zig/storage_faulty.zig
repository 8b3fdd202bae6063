//! A storage in memory that fails on purpose: the n-th operation, in one of the ways in which disks do.
//!
//! Every operation counts, reading ones too, so that a run without faults says how many there are and each of them can be
//! the one that fails. A fault that does not fit the operation (a sync that loses pages, at a read) is a plain EIO.

const std = @import("std");
const compat = @import("compat.zig");
const interface = @import("storage.zig");
const Error = interface.Error;
const Failure = interface.Failure;
const Handle = interface.Handle;
const Memory = @import("storage_memory.zig").Memory;
const Operation = interface.Operation;
const Storage = interface.Storage;

/// Numbers cross the boundary: appended, never reused.
pub const Fault = enum(u8) {
    /// EIO, and nothing is done.
    io = 0,
    /// ENOSPC, and nothing is done, of what needs room: a name, bytes, length. Other operations go well.
    full = 1,
    /// A part of a write is done, and then EIO.
    short = 2,
    /// A sync fails, and the system takes the pages for clean: later syncs succeed, and the bytes are not on the disk.
    sync_lost = 3,
};

pub const Faulty = struct {
    gpa: std.mem.Allocator,
    memory: *Memory,
    lock_: compat.Lock = .{},
    /// Operations so far.
    operations: u64 = 0,
    /// Which one fails, counted like `operations`; 0 for none.
    fails_at: u64 = 0,
    /// Whether all that come after it fail too: a disk that is gone.
    goes_on: bool = false,
    fault: Fault = .io,
    /// How often something failed.
    failed: u64 = 0,
    last: Failure = .{},

    /// It owns the memory from here on.
    pub fn create(gpa: std.mem.Allocator, memory: *Memory) error{OutOfMemory}!*Faulty {
        const faulty = try gpa.create(Faulty);
        faulty.* = .{ .gpa = gpa, .memory = memory };
        return faulty;
    }

    pub fn destroy(faulty: *Faulty) void {
        const gpa = faulty.gpa;
        faulty.memory.destroy();
        gpa.destroy(faulty);
    }

    /// Let the n-th operation from now fail: 1 is the next.
    pub fn fail(faulty: *Faulty, nth: u64, fault: Fault) void {
        faulty.lock_.take();
        defer faulty.lock_.give();
        faulty.fails_at = faulty.operations + nth;
        faulty.fault = fault;
    }

    pub fn storage(faulty: *Faulty) Storage {
        return .{ .context = faulty, .vtable = &vtable };
    }

    const vtable: interface.VTable = .{
        .open = open,
        .close = close,
        .size = size,
        .read = read,
        .write = write,
        .sync = sync,
        .reload = reload,
        .allocate = allocate,
        .rename = rename,
        .remove = remove,
        .makeDir = makeDir,
        .syncDir = syncDir,
        .list = list,
        .lock = lock,
        .failure = failure,
    };

    fn of(context: *anyopaque) *Faulty {
        return @ptrCast(@alignCast(context));
    }

    /// Count an operation: the fault that it meets, if any.
    fn meet(faulty: *Faulty) ?Fault {
        faulty.lock_.take();
        defer faulty.lock_.give();
        faulty.operations += 1;
        const meets = faulty.operations == faulty.fails_at or (faulty.goes_on and faulty.fails_at != 0 and faulty.operations > faulty.fails_at);
        if (!meets) return null;
        faulty.failed += 1;
        return faulty.fault;
    }

    fn refuse(faulty: *Faulty, err: Error, operation: Operation, path: []const u8) Error {
        faulty.lock_.take();
        defer faulty.lock_.give();
        const number: i32 = switch (err) {
            error.Io => 5,
            error.DiskFull => 28,
            else => 0,
        };
        faulty.last = .init(operation, number, path);
        return err;
    }

    /// What an operation does that changes nothing it needs room for, or (`needs_room`) does.
    fn enter(faulty: *Faulty, operation: Operation, path: []const u8, needs_room: bool) Error!void {
        const fault = faulty.meet() orelse return;
        switch (fault) {
            .full => if (needs_room) return faulty.refuse(error.DiskFull, operation, path),
            .io, .short, .sync_lost => return faulty.refuse(error.Io, operation, path),
        }
    }

    fn pathOf(faulty: *Faulty, handle: Handle) []const u8 {
        return faulty.memory.nameOf(faulty.memory.handles.items[handle].?);
    }

    /// An error of the memory itself is told as its own.
    fn told(faulty: *Faulty, result: anytype) @TypeOf(result) {
        if (result) |_| {} else |_| {
            const theirs = faulty.memory.storage().failure();
            faulty.lock_.take();
            defer faulty.lock_.give();
            faulty.last = theirs;
        }
        return result;
    }

    fn open(context: *anyopaque, path: []const u8, mode: interface.Mode) Error!Handle {
        const faulty = of(context);
        try faulty.enter(.open, path, mode == .create);
        return faulty.told(faulty.memory.storage().open(path, mode));
    }

    fn close(context: *anyopaque, handle: Handle) void {
        of(context).memory.storage().close(handle);
    }

    fn size(context: *anyopaque, handle: Handle) Error!u64 {
        const faulty = of(context);
        try faulty.enter(.size, faulty.pathOf(handle), false);
        return faulty.told(faulty.memory.storage().size(handle));
    }

    fn read(context: *anyopaque, handle: Handle, at: u64, into: []u8) Error!usize {
        const faulty = of(context);
        try faulty.enter(.read, faulty.pathOf(handle), false);
        return faulty.told(faulty.memory.storage().read(handle, at, into));
    }

    fn write(context: *anyopaque, handle: Handle, at: u64, bytes: []const u8) Error!void {
        const faulty = of(context);
        const disk = faulty.memory.storage();
        if (faulty.meet()) |fault| {
            // How much of it, by its number: runs repeat.
            if (fault == .short or fault == .full) try disk.write(handle, at, bytes[0 .. faulty.operations * 997 % (bytes.len + 1)]);
            return faulty.refuse(if (fault == .full) error.DiskFull else error.Io, .write, faulty.pathOf(handle));
        }
        return faulty.told(disk.write(handle, at, bytes));
    }

    fn sync(context: *anyopaque, handle: Handle, how: interface.Sync) Error!void {
        const faulty = of(context);
        if (faulty.meet()) |fault| {
            // ENOSPC comes from a sync where the file system puts off finding room.
            if (fault == .sync_lost or fault == .full) try faulty.memory.loseSync(handle);
            return faulty.refuse(if (fault == .full) error.DiskFull else error.Io, .sync, faulty.pathOf(handle));
        }
        return faulty.told(faulty.memory.storage().sync(handle, how));
    }

    /// Asks for nothing that could fail.
    fn reload(context: *anyopaque, handle: Handle) void {
        of(context).memory.storage().reload(handle);
    }

    fn allocate(context: *anyopaque, handle: Handle, bytes: u64) Error!void {
        const faulty = of(context);
        try faulty.enter(.allocate, faulty.pathOf(handle), true);
        return faulty.told(faulty.memory.storage().allocate(handle, bytes));
    }

    fn rename(context: *anyopaque, from: []const u8, to: []const u8) Error!void {
        const faulty = of(context);
        try faulty.enter(.rename, from, true);
        return faulty.told(faulty.memory.storage().rename(from, to));
    }

    fn remove(context: *anyopaque, path: []const u8) Error!void {
        const faulty = of(context);
        try faulty.enter(.remove, path, false);
        return faulty.told(faulty.memory.storage().remove(path));
    }

    fn makeDir(context: *anyopaque, path: []const u8) Error!void {
        const faulty = of(context);
        try faulty.enter(.make_dir, path, true);
        return faulty.told(faulty.memory.storage().makeDir(path));
    }

    fn syncDir(context: *anyopaque, path: []const u8) Error!void {
        const faulty = of(context);
        try faulty.enter(.sync_dir, path, true);
        return faulty.told(faulty.memory.storage().syncDir(path));
    }

    fn list(context: *anyopaque, gpa: std.mem.Allocator, path: []const u8) Error![][]u8 {
        const faulty = of(context);
        try faulty.enter(.list, path, false);
        return faulty.told(faulty.memory.storage().list(gpa, path));
    }

    fn lock(context: *anyopaque, path: []const u8) Error!Handle {
        const faulty = of(context);
        try faulty.enter(.lock, path, true);
        return faulty.told(faulty.memory.storage().lock(path));
    }

    fn failure(context: *anyopaque) Failure {
        const faulty = of(context);
        faulty.lock_.take();
        defer faulty.lock_.give();
        return faulty.last;
    }
};

const expectEqual = std.testing.expectEqual;
const expectError = std.testing.expectError;

/// A file of two sectors, synced with its name.
fn start(faulty: *Faulty) !Handle {
    const disk = faulty.storage();
    const file = try disk.open("a", .create);
    try disk.write(file, 0, "o" ** 1024);
    try disk.sync(file, .all);
    try disk.syncDir("");
    return file;
}

test "the operation that was named fails, and only that one" {
    const gpa = std.testing.allocator;
    const faulty = try Faulty.create(gpa, try Memory.create(gpa, 1));
    defer faulty.destroy();
    const file = try start(faulty);
    try expectEqual(4, faulty.operations);
    const disk = faulty.storage();
    faulty.fail(2, .io);
    try disk.sync(file, .data);
    try expectError(error.Io, disk.write(file, 0, "n" ** 1024));
    try expectEqual(5, disk.failure().errno);
    try std.testing.expectEqualStrings("a", disk.failure().path());
    try expectEqual('o', faulty.memory.contents("a").?[0]);
    try disk.write(file, 0, "n" ** 1024);
    try expectEqual(1, faulty.failed);
    // An error of the storage itself is told as its own.
    try expectError(error.NotFound, disk.open("b", .read));
    try std.testing.expectEqualStrings("b", disk.failure().path());
    disk.close(file);
}

test "a short write leaves its beginning, a full disk refuses what needs room" {
    const gpa = std.testing.allocator;
    const faulty = try Faulty.create(gpa, try Memory.create(gpa, 1));
    defer faulty.destroy();
    const file = try start(faulty);
    const disk = faulty.storage();
    faulty.fail(1, .short);
    try expectError(error.Io, disk.write(file, 0, "n" ** 1024));
    const bytes = faulty.memory.contents("a").?;
    try std.testing.expect(bytes[0] == 'n' and bytes[1023] == 'o');
    faulty.goes_on = true;
    faulty.fail(1, .full);
    try expectError(error.DiskFull, disk.open("b", .create));
    try expectError(error.DiskFull, disk.allocate(file, 4096));
    try expectEqual(28, disk.failure().errno);
    try expectEqual(1024, try disk.size(file));
    var into: [4]u8 = undefined;
    try expectEqual(4, try disk.read(file, 0, &into));
    disk.close(file);
}

test "a sync that loses pages lets later ones succeed, and power loss shows it" {
    const gpa = std.testing.allocator;
    const faulty = try Faulty.create(gpa, try Memory.create(gpa, 1));
    defer faulty.destroy();
    const file = try start(faulty);
    const disk = faulty.storage();
    try disk.write(file, 0, "n" ** 512);
    faulty.fail(1, .sync_lost);
    try expectError(error.Io, disk.sync(file, .data));
    try disk.sync(file, .data);
    try expectEqual('n', faulty.memory.contents("a").?[0]);
    const left = try faulty.memory.image(.{ .kind = .bare });
    defer left.destroy();
    try expectEqual('o', left.contents("a").?[0]);
    disk.close(file);
}
