//! The real disk: a directory of this machine as a storage.
//!
//! What a system calls its calls is in `storage_posix.zig` and `storage_windows.zig`; here is what they share: the table of
//! open files, paths below the root, and what an error meant.
//!
//! Invariants:
//! - the root is an absolute path from the beginning: a process that changes its directory keeps its data;
//! - an entry of the table belongs to whoever holds its handle; only taking and giving back one needs the lock.

const std = @import("std");
const assert = std.debug.assert;
const builtin = @import("builtin");
const compat = @import("compat.zig");
const interface = @import("storage.zig");
const Error = interface.Error;
const Failure = interface.Failure;
const Handle = interface.Handle;
const Mode = interface.Mode;
const Operation = interface.Operation;
const Storage = interface.Storage;

const system = if (builtin.os.tag == .windows) @import("storage_windows.zig") else @import("storage_posix.zig");

/// Files that one storage has open at once. A database has about five; a thousand would be a leak.
const open_max = 256;

pub const Os = struct {
    gpa: std.mem.Allocator,
    root: []u8,
    pid: u32,
    files: [open_max]Open = @splat(.{}),
    lock_: compat.Lock = .{},
    last: Failure = .{},

    const Open = struct {
        used: bool = false,
        file: system.File = system.no_file,
        /// For messages.
        path: []u8 = &.{},
    };

    /// A storage in the directory `root`, which need not exist yet: `makeDir("")` makes it. `gpa` is used from any thread.
    /// `pid` is what the text of a lock names. Nothing is opened.
    pub fn create(gpa: std.mem.Allocator, root: []const u8, pid: u32) Error!*Os {
        const os = try gpa.create(Os);
        errdefer gpa.destroy(os);
        os.* = .{ .gpa = gpa, .root = &.{}, .pid = pid };
        var number: i32 = 0;
        os.root = try system.absolute(gpa, root, &number) orelse return system.reason(number);
        return os;
    }

    /// Files that are still open are closed, and their locks given back.
    pub fn destroy(os: *Os) void {
        const gpa = os.gpa;
        for (&os.files) |*open_file| if (open_file.used) {
            system.close(open_file.file);
            gpa.free(open_file.path);
        };
        gpa.free(os.root);
        gpa.destroy(os);
    }

    pub fn storage(os: *Os) Storage {
        return .{ .context = os, .vtable = &vtable };
    }

    const vtable: interface.VTable = .{
        .open = open,
        .close = close,
        .size = size,
        .read = read,
        .write = write,
        .sync = sync,
        .writeOut = if (@hasDecl(system, "writeOut")) writeOut else null,
        .reload = if (@hasDecl(system, "reload")) reload else null,
        .allocate = allocate,
        .rename = rename,
        .remove = remove,
        .makeDir = makeDir,
        .syncDir = syncDir,
        .list = list,
        .lock = lock,
        .failure = failure,
    };

    fn of(context: *anyopaque) *Os {
        return @ptrCast(@alignCast(context));
    }

    fn open(context: *anyopaque, path: []const u8, mode: Mode) Error!Handle {
        const os = of(context);
        const handle = try os.take(path, .open);
        errdefer os.giveBack(handle);
        const name = try os.full(path, .open);
        try os.check(system.open(&name, mode, &os.files[handle].file), .open, path);
        return handle;
    }

    fn close(context: *anyopaque, handle: Handle) void {
        const os = of(context);
        assert(os.files[handle].used);
        system.close(os.files[handle].file);
        os.giveBack(handle);
    }

    fn size(context: *anyopaque, handle: Handle) Error!u64 {
        const os = of(context);
        const file = os.opened(handle);
        var bytes: u64 = 0;
        try os.check(system.size(file.file, &bytes), .size, file.path);
        return bytes;
    }

    fn read(context: *anyopaque, handle: Handle, at: u64, into: []u8) Error!usize {
        const os = of(context);
        const file = os.opened(handle);
        var done: usize = 0;
        while (done < into.len) {
            var n: usize = 0;
            try os.check(system.read(file.file, at + done, into[done..][0..@min(into.len - done, call_bytes_max)], &n), .read, file.path);
            if (n == 0) break;
            done += n;
        }
        return done;
    }

    fn write(context: *anyopaque, handle: Handle, at: u64, bytes: []const u8) Error!void {
        const os = of(context);
        const file = os.opened(handle);
        var done: usize = 0;
        while (done < bytes.len) {
            var n: usize = 0;
            try os.check(system.write(file.file, at + done, bytes[done..][0..@min(bytes.len - done, call_bytes_max)], &n), .write, file.path);
            if (n == 0) return os.fail(error.Io, .write, 0, file.path);
            done += n;
        }
    }

    fn sync(context: *anyopaque, handle: Handle, how: interface.Sync) Error!void {
        const os = of(context);
        const file = os.opened(handle);
        try os.check(system.sync(file.file, how), .sync, file.path);
    }

    fn writeOut(context: *anyopaque, handle: Handle, at: u64, length: u64) void {
        system.writeOut(of(context).opened(handle).file, at, length);
    }

    fn reload(context: *anyopaque, handle: Handle) void {
        system.reload(of(context).opened(handle).file);
    }

    fn allocate(context: *anyopaque, handle: Handle, bytes: u64) Error!void {
        const os = of(context);
        const file = os.opened(handle);
        var have: u64 = 0;
        try os.check(system.size(file.file, &have), .allocate, file.path);
        if (bytes <= have) return;
        const number = system.allocate(file.file, have, bytes);
        if (!system.isUnsupported(number)) return os.check(number, .allocate, file.path);
        // A file system that cannot promise room: zeros have it.
        while (have < bytes) : (have += @min(bytes - have, zeros.len)) {
            try write(context, handle, have, zeros[0..@intCast(@min(bytes - have, zeros.len))]);
        }
    }

    fn rename(context: *anyopaque, from: []const u8, to: []const u8) Error!void {
        const os = of(context);
        const old = try os.full(from, .rename);
        const new = try os.full(to, .rename);
        try os.check(system.rename(&old, &new), .rename, from);
    }

    fn remove(context: *anyopaque, path: []const u8) Error!void {
        const os = of(context);
        const name = try os.full(path, .remove);
        try os.check(system.remove(&name), .remove, path);
    }

    fn makeDir(context: *anyopaque, path: []const u8) Error!void {
        const os = of(context);
        const name = try os.full(path, .make_dir);
        const number = system.makeDir(&name);
        if (system.reason(number) == error.Exists and system.isDirectory(&name)) return;
        try os.check(number, .make_dir, path);
        if (path.len > 0) return;
        // Nobody else can make the root's own name durable: its directory is outside.
        const above = system.Path.parentOf(&name) orelse return;
        try os.check(system.syncDir(&above), .sync_dir, path);
    }

    fn syncDir(context: *anyopaque, path: []const u8) Error!void {
        const os = of(context);
        const name = try os.full(path, .sync_dir);
        try os.check(system.syncDir(&name), .sync_dir, path);
    }

    fn list(context: *anyopaque, gpa: std.mem.Allocator, path: []const u8) Error![][]u8 {
        const os = of(context);
        const name = try os.full(path, .list);
        var found: std.ArrayList([]u8) = .empty;
        errdefer {
            for (found.items) |one| gpa.free(one);
            found.deinit(gpa);
        }
        try os.check(try system.list(&name, gpa, &found), .list, path);
        std.mem.sort([]u8, found.items, {}, interface.lessName);
        return found.toOwnedSlice(gpa);
    }

    fn lock(context: *anyopaque, path: []const u8) Error!Handle {
        const os = of(context);
        const handle = try os.take(path, .lock);
        errdefer os.giveBack(handle);
        const name = try os.full(path, .lock);
        const file = &os.files[handle].file;
        try os.check(system.openOrCreate(&name, file), .lock, path);
        errdefer system.close(file.*);
        const number = system.lock(file.*);
        if (system.isLocked(number)) return os.fail(error.Locked, .lock, number, path);
        try os.check(number, .lock, path);
        // Only now is it ours to write. Who held it before may have had a longer number.
        var text: [24]u8 = @splat(' ');
        const said = std.fmt.bufPrint(&text, "pid {d}\n", .{os.pid}) catch unreachable;
        try os.check(system.truncate(file.*, said.len), .lock, path);
        try write(context, handle, 0, said);
        return handle;
    }

    fn failure(context: *anyopaque) Failure {
        const os = of(context);
        os.lock_.take();
        defer os.lock_.give();
        return os.last;
    }

    // What they are made of.

    const zeros: [64 << 10]u8 = @splat(0);

    /// Bytes of one call to the system: some take no more than an i32 says.
    const call_bytes_max = 1 << 30;

    fn opened(os: *Os, handle: Handle) *const Open {
        const file = &os.files[handle];
        assert(file.used);
        return file;
    }

    fn take(os: *Os, path: []const u8, operation: Operation) Error!Handle {
        const name = try os.gpa.dupe(u8, path);
        os.lock_.take();
        const handle = for (&os.files, 0..) |*file, n| {
            if (!file.used) break n;
        } else {
            os.lock_.give();
            os.gpa.free(name);
            return os.fail(error.Io, operation, system.too_many, path);
        };
        os.files[handle] = .{ .used = true, .path = name };
        os.lock_.give();
        return @intCast(handle);
    }

    fn giveBack(os: *Os, handle: Handle) void {
        os.gpa.free(os.files[handle].path);
        os.lock_.take();
        os.files[handle] = .{};
        os.lock_.give();
    }

    fn full(os: *Os, path: []const u8, operation: Operation) Error!system.Path {
        assert(path.len == 0 or (path[0] != '/' and path[0] != '.'));
        return system.Path.init(os.root, path) orelse os.fail(error.Io, operation, system.too_long, path);
    }

    fn check(os: *Os, number: i32, operation: Operation, path: []const u8) Error!void {
        if (number != 0) return os.fail(system.reason(number), operation, number, path);
    }

    fn fail(os: *Os, err: Error, operation: Operation, number: i32, path: []const u8) Error {
        os.lock_.take();
        defer os.lock_.give();
        os.last = .init(operation, number, path);
        return err;
    }
};
