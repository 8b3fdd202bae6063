//! What a database asks of a disk, and nothing more: files by name, bytes at offsets, and the two kinds of sync. The
//! real one is `storage_os.zig`, the one in memory with its model of a crash is `storage_memory.zig`, and the one that
//! fails on purpose is `storage_faulty.zig`.
//!
//! A path is relative to the root of the storage, in parts separated by `/`; `""` is the root.
//!
//! What a caller may count on, and nothing else:
//! - what `write` wrote is read back by this process at once, and survives its death; a crash of the machine may lose
//!   any sector (512 bytes) of it, replace it by anything, or keep it, until `sync` of that file has returned;
//! - a file's length is durable after `sync` of either kind. `.data` may leave out times and owners, nothing else;
//! - a name made, replaced or removed is durable after `syncDir` of its directory. Syncing the file is not enough;
//! - `rename` replaces an existing file in one step: afterwards, and after a crash, the name means the old file or the new;
//! - after `sync` has failed, nothing may be believed of what was written since the last one that did not: a later `sync`
//!   that succeeds says nothing about it.
//!
//! Any thread may call; the calls on one handle must not overlap, except that reads and writes of different bytes may.

const std = @import("std");

/// Every reason that has an answer of its own. `failure` of the storage has the operation, the system's number and the path.
pub const Error = error{
    /// Reading or writing failed, or anything without an answer of its own.
    Io,
    /// No room on the device, or the quota is used up.
    DiskFull,
    NotFound,
    /// `Mode.create` of what is there already.
    Exists,
    /// Another process, or another handle, holds the lock.
    Locked,
    /// No permission, or the file system is read-only.
    Denied,
    OutOfMemory,
};

pub const Mode = enum(u8) {
    /// An existing file, for reading only.
    read,
    /// An existing file, for reading and writing.
    write,
    /// A new file, for reading and writing; `Exists` when the name is taken.
    create,
};

pub const Sync = enum(u8) {
    /// The bytes, and the length where it changed: what is needed to read them back.
    data,
    /// Times and owners as well.
    all,
};

pub const Handle = u32;

/// What the storage was asked for. Numbers cross the boundary: appended, never reused.
pub const Operation = enum(u8) {
    none = 0,
    open = 1,
    size = 2,
    read = 3,
    write = 4,
    sync = 5,
    allocate = 6,
    rename = 7,
    remove = 8,
    make_dir = 9,
    sync_dir = 10,
    list = 11,
    lock = 12,
};

/// The last error of a storage, for the message that a person reads.
pub const Failure = struct {
    operation: Operation = .none,
    /// As the system has it (`errno`, or `GetLastError`); 0 where the system was not asked.
    errno: i32 = 0,
    path_bytes: [240]u8 = undefined,
    path_length: u8 = 0,

    /// A path that is longer keeps its end, which says more.
    pub fn init(operation: Operation, errno: i32, name: []const u8) Failure {
        var made: Failure = .{ .operation = operation, .errno = errno };
        const kept = name[name.len -| made.path_bytes.len..];
        @memcpy(made.path_bytes[0..kept.len], kept);
        made.path_length = @intCast(kept.len);
        return made;
    }

    pub fn path(failure: *const Failure) []const u8 {
        return failure.path_bytes[0..failure.path_length];
    }
};

pub const VTable = struct {
    open: *const fn (*anyopaque, []const u8, Mode) Error!Handle,
    close: *const fn (*anyopaque, Handle) void,
    size: *const fn (*anyopaque, Handle) Error!u64,
    read: *const fn (*anyopaque, Handle, u64, []u8) Error!usize,
    write: *const fn (*anyopaque, Handle, u64, []const u8) Error!void,
    sync: *const fn (*anyopaque, Handle, Sync) Error!void,
    /// Null where there is nothing to begin.
    writeOut: ?*const fn (*anyopaque, Handle, u64, u64) void = null,
    /// Null where nothing is kept in memory, or the system cannot be asked.
    reload: ?*const fn (*anyopaque, Handle) void = null,
    allocate: *const fn (*anyopaque, Handle, u64) Error!void,
    rename: *const fn (*anyopaque, []const u8, []const u8) Error!void,
    remove: *const fn (*anyopaque, []const u8) Error!void,
    makeDir: *const fn (*anyopaque, []const u8) Error!void,
    syncDir: *const fn (*anyopaque, []const u8) Error!void,
    list: *const fn (*anyopaque, std.mem.Allocator, []const u8) Error![][]u8,
    lock: *const fn (*anyopaque, []const u8) Error!Handle,
    failure: *const fn (*anyopaque) Failure,
};

pub const Storage = struct {
    context: *anyopaque,
    vtable: *const VTable,

    pub fn open(storage: Storage, path: []const u8, mode: Mode) Error!Handle {
        return storage.vtable.open(storage.context, path, mode);
    }

    /// Give a handle back; a lock that it holds is free then. Nothing is synced.
    pub fn close(storage: Storage, handle: Handle) void {
        storage.vtable.close(storage.context, handle);
    }

    pub fn size(storage: Storage, handle: Handle) Error!u64 {
        return storage.vtable.size(storage.context, handle);
    }

    /// Fill `into` from offset `at`: how many bytes, fewer only where the file ends.
    pub fn read(storage: Storage, handle: Handle, at: u64, into: []u8) Error!usize {
        return storage.vtable.read(storage.context, handle, at, into);
    }

    /// Write all of `bytes` at offset `at`, past the end too (what lies between reads as zeros). After an error any part
    /// of it may have been written.
    pub fn write(storage: Storage, handle: Handle, at: u64, bytes: []const u8) Error!void {
        return storage.vtable.write(storage.context, handle, at, bytes);
    }

    /// Of a handle for writing: Windows syncs no other. What another handle, or a process that is gone, wrote to the file is
    /// synced as well.
    pub fn sync(storage: Storage, handle: Handle, how: Sync) Error!void {
        return storage.vtable.sync(storage.context, handle, how);
    }

    /// Begin to bring bytes that were written to the disk, so that `sync` has less to wait for. It promises nothing, and
    /// what fails of it, `sync` tells.
    pub fn writeOut(storage: Storage, handle: Handle, at: u64, length: u64) void {
        if (storage.vtable.writeOut) |call| call(storage.context, handle, at, length);
    }

    /// Let what is read next come from the disk, not from the system's memory of what was written, as far as the system can
    /// be asked to. After a sync that failed, of this process or of one before it, that memory is marked clean and holds
    /// what the disk does not: nobody who reads it, or syncs again, is told. Call `sync` first.
    pub fn reload(storage: Storage, handle: Handle) void {
        if (storage.vtable.reload) |call| call(storage.context, handle);
    }

    /// Have room for a file of at least `bytes`, which is its size then unless it was larger; what is new reads as zeros.
    /// Where the file system can promise it, writing there no longer fails for want of room.
    pub fn allocate(storage: Storage, handle: Handle, bytes: u64) Error!void {
        return storage.vtable.allocate(storage.context, handle, bytes);
    }

    /// Give a file another name in the same storage, whose directory exists; what had that name is gone.
    pub fn rename(storage: Storage, from: []const u8, to: []const u8) Error!void {
        return storage.vtable.rename(storage.context, from, to);
    }

    /// Remove a file. Handles to it stay good.
    pub fn remove(storage: Storage, path: []const u8) Error!void {
        return storage.vtable.remove(storage.context, path);
    }

    /// Have a directory, whose parent exists. Fine when it is there.
    pub fn makeDir(storage: Storage, path: []const u8) Error!void {
        return storage.vtable.makeDir(storage.context, path);
    }

    /// Make the names in a directory durable. Where a system cannot (Windows), its journal is trusted to keep their order.
    pub fn syncDir(storage: Storage, path: []const u8) Error!void {
        return storage.vtable.syncDir(storage.context, path);
    }

    /// The names in a directory, sorted by their bytes: `freeNames` gives them back.
    pub fn list(storage: Storage, gpa: std.mem.Allocator, path: []const u8) Error![][]u8 {
        return storage.vtable.list(storage.context, gpa, path);
    }

    /// Hold a file, made where it is missing, against every other process and handle until it is closed or this process
    /// ends. Its text says who holds it ("pid 4711\n").
    pub fn lock(storage: Storage, path: []const u8) Error!Handle {
        return storage.vtable.lock(storage.context, path);
    }

    /// What the last error was about. Another thread's may have come after it.
    pub fn failure(storage: Storage) Failure {
        return storage.vtable.failure(storage.context);
    }
};

pub fn freeNames(gpa: std.mem.Allocator, names: [][]u8) void {
    for (names) |name| gpa.free(name);
    gpa.free(names);
}

pub fn lessName(_: void, a: []u8, b: []u8) bool {
    return std.mem.lessThan(u8, a, b);
}

/// The directory that a path lies in: `""` for what lies in the root.
pub fn parent(path: []const u8) []const u8 {
    const cut = std.mem.lastIndexOfScalar(u8, path, '/') orelse return "";
    return path[0..cut];
}

test "the end of a long path is kept" {
    const long = "a" ** 300 ++ "/wal/7.wal";
    const failure: Failure = .init(.write, 28, long);
    try std.testing.expectEqual(240, failure.path().len);
    try std.testing.expect(std.mem.endsWith(u8, failure.path(), "/wal/7.wal"));
    try std.testing.expectEqualStrings("wal", parent("wal/7.wal"));
    try std.testing.expectEqualStrings("", parent("LOCK"));
}
