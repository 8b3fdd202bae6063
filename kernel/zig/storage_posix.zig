//! The calls of Linux, macOS and their like. Each gives 0 or an `errno`; what that means is `reason`'s.
//!
//! A call that a signal interrupted is made again, syncs too: `EINTR` says that waiting ended, not that writing failed.

const std = @import("std");
const builtin = @import("builtin");
const c = std.c;
const interface = @import("storage.zig");

pub const File = c_int;
pub const no_file: File = -1;
pub const too_many: i32 = @intFromEnum(c.E.MFILE);
pub const too_long: i32 = @intFromEnum(c.E.NAMETOOLONG);

const is_darwin = builtin.os.tag.isDarwin();
const is_linux = builtin.os.tag == .linux;

/// Nobody but the owner reads a store: sessions of players lie in it.
const file_mode = 0o600;
const directory_mode = 0o700;

extern "c" fn flock(fd: c_int, operation: c_int) c_int;
const lock_exclusive = 2;
const lock_nonblocking = 4;

pub const Path = struct {
    // Two of them fit in one guard page, on which a frame of the kernel relies.
    bytes: [1960]u8,
    length: usize,

    pub fn init(root: []const u8, path: []const u8) ?Path {
        var made: Path = .{ .bytes = undefined, .length = 0 };
        const parts: []const []const u8 = if (path.len == 0) &.{root} else &.{ root, "/", path };
        for (parts) |part| {
            if (made.length + part.len >= made.bytes.len) return null;
            if (std.mem.indexOfScalar(u8, part, 0) != null) return null;
            @memcpy(made.bytes[made.length..][0..part.len], part);
            made.length += part.len;
        }
        made.bytes[made.length] = 0;
        return made;
    }

    pub fn parentOf(path: *const Path) ?Path {
        const cut = std.mem.lastIndexOfScalar(u8, path.bytes[0..path.length], '/') orelse return null;
        return .init(path.bytes[0..@max(cut, 1)], "");
    }

    fn z(path: *const Path) [*:0]const u8 {
        return path.bytes[0..path.length :0];
    }
};

/// A path from the root of the file system, or null and why not.
pub fn absolute(gpa: std.mem.Allocator, path: []const u8, number: *i32) error{OutOfMemory}!?[]u8 {
    const trimmed = if (path.len > 1) std.mem.trimEnd(u8, path, "/") else path;
    if (trimmed.len > 0 and trimmed[0] == '/') return try gpa.dupe(u8, trimmed);
    var room: [4096]u8 = undefined;
    if (c.getcwd(&room, room.len) == null) {
        number.* = errno();
        return null;
    }
    const here = std.mem.sliceTo(&room, 0);
    if (trimmed.len == 0 or std.mem.eql(u8, trimmed, ".")) return try gpa.dupe(u8, here);
    return try std.mem.concat(gpa, u8, &.{ here, "/", trimmed });
}

pub fn open(path: *const Path, mode: interface.Mode, out: *File) i32 {
    return openWith(path, switch (mode) {
        .read => .{ .ACCMODE = .RDONLY, .CLOEXEC = true },
        .write => .{ .ACCMODE = .RDWR, .CLOEXEC = true },
        .create => .{ .ACCMODE = .RDWR, .CREAT = true, .EXCL = true, .CLOEXEC = true },
    }, out);
}

pub fn openOrCreate(path: *const Path, out: *File) i32 {
    return openWith(path, .{ .ACCMODE = .RDWR, .CREAT = true, .CLOEXEC = true }, out);
}

fn openWith(path: *const Path, flags: c.O, out: *File) i32 {
    while (true) {
        const fd = c.open(path.z(), flags, @as(c_uint, file_mode));
        if (fd >= 0) {
            out.* = fd;
            return 0;
        }
        if (errno() != @intFromEnum(c.E.INTR)) return errno();
    }
}

pub fn close(file: File) void {
    // Never again after EINTR: on Linux the number is free by then, and may be somebody else's.
    _ = c.close(file);
}

pub fn size(file: File, out: *u64) i32 {
    // The position is used by nobody: reads and writes say where.
    const end = c.lseek(file, 0, c.SEEK.END);
    if (end < 0) return errno();
    out.* = @intCast(end);
    return 0;
}

pub fn read(file: File, at: u64, into: []u8, done: *usize) i32 {
    while (true) {
        const n = c.pread(file, into.ptr, into.len, @intCast(at));
        if (n >= 0) {
            done.* = @intCast(n);
            return 0;
        }
        if (errno() != @intFromEnum(c.E.INTR)) return errno();
    }
}

pub fn write(file: File, at: u64, bytes: []const u8, done: *usize) i32 {
    while (true) {
        const n = c.pwrite(file, bytes.ptr, bytes.len, @intCast(at));
        if (n >= 0) {
            done.* = @intCast(n);
            return 0;
        }
        if (errno() != @intFromEnum(c.E.INTR)) return errno();
    }
}

pub fn sync(file: File, how: interface.Sync) i32 {
    while (true) {
        if (is_darwin) {
            // fsync hands the bytes to the drive there; only this has the drive write them. Not every file system knows it.
            if (c.fcntl(file, c.F.FULLFSYNC, @as(c_int, 1)) == 0) return 0;
            const number = errno();
            if (number == @intFromEnum(c.E.INTR)) continue;
            if (!isUnsupported(number)) return number;
        }
        const result = if (is_linux and how == .data) c.fdatasync(file) else c.fsync(file);
        if (result == 0) return 0;
        if (errno() != @intFromEnum(c.E.INTR)) return errno();
    }
}

/// Begin to write pages out. What fails of it, the next sync tells.
pub fn writeOut(file: File, at: u64, length: u64) void {
    if (is_linux) _ = sync_file_range(file, @intCast(at), @intCast(length), 2);
}

extern "c" fn sync_file_range(file: c_int, offset: i64, length: i64, flags: c_uint) c_int;

/// Forget the pages of a file, all of which are clean.
pub fn reload(file: File) void {
    if (is_linux) _ = posix_fadvise(file, 0, 0, dont_need);
}

extern "c" fn posix_fadvise(file: c_int, offset: i64, length: i64, advice: c_int) c_int;
const dont_need = 4;

/// Room for `bytes` where there were `have`, as zeros. An unsupported one has changed nothing.
pub fn allocate(file: File, have: u64, bytes: u64) i32 {
    if (is_linux) while (true) {
        if (c.fallocate(file, 0, @intCast(have), @intCast(bytes - have)) == 0) return 0;
        if (errno() != @intFromEnum(c.E.INTR)) return errno();
    };
    if (is_darwin) {
        const Store = extern struct { flags: c_uint, from: c_int, offset: i64, length: i64, allocated: i64 };
        // All of it, in as many pieces as it takes, counted from where the file's room ends.
        var wish: Store = .{ .flags = 4, .from = 3, .offset = 0, .length = @intCast(bytes - have), .allocated = 0 };
        if (c.fcntl(file, c.F.PREALLOCATE, &wish) != 0) return errno();
        return truncate(file, bytes);
    }
    return @intFromEnum(c.E.OPNOTSUPP);
}

pub fn truncate(file: File, bytes: u64) i32 {
    while (true) {
        if (c.ftruncate(file, @intCast(bytes)) == 0) return 0;
        if (errno() != @intFromEnum(c.E.INTR)) return errno();
    }
}

pub fn rename(from: *const Path, to: *const Path) i32 {
    return if (c.rename(from.z(), to.z()) == 0) 0 else errno();
}

pub fn remove(path: *const Path) i32 {
    return if (c.unlink(path.z()) == 0) 0 else errno();
}

pub fn makeDir(path: *const Path) i32 {
    return if (c.mkdir(path.z(), directory_mode) == 0) 0 else errno();
}

pub fn isDirectory(path: *const Path) bool {
    const dir = c.opendir(path.z()) orelse return false;
    _ = c.closedir(dir);
    return true;
}

pub fn syncDir(path: *const Path) i32 {
    var file: File = no_file;
    const opened = openWith(path, .{ .ACCMODE = .RDONLY, .DIRECTORY = true, .CLOEXEC = true }, &file);
    if (opened != 0) return opened;
    defer close(file);
    return sync(file, .all);
}

pub fn list(path: *const Path, gpa: std.mem.Allocator, into: *std.ArrayList([]u8)) error{OutOfMemory}!i32 {
    const dir = c.opendir(path.z()) orelse return errno();
    defer _ = c.closedir(dir);
    while (true) {
        c._errno().* = 0;
        const entry = c.readdir(dir) orelse return errno();
        const name = std.mem.sliceTo(@as([*:0]const u8, @ptrCast(&entry.name)), 0);
        if (std.mem.eql(u8, name, ".") or std.mem.eql(u8, name, "..")) continue;
        try into.ensureUnusedCapacity(gpa, 1);
        into.appendAssumeCapacity(try gpa.dupe(u8, name));
    }
}

/// Against every other opening of the file, of this process too, for as long as this one is open.
pub fn lock(file: File) i32 {
    while (true) {
        if (flock(file, lock_exclusive | lock_nonblocking) == 0) return 0;
        if (errno() != @intFromEnum(c.E.INTR)) return errno();
    }
}

pub fn isLocked(number: i32) bool {
    return number == @intFromEnum(c.E.AGAIN);
}

pub fn isUnsupported(number: i32) bool {
    return number == @intFromEnum(c.E.OPNOTSUPP) or number == @intFromEnum(c.E.NOSYS) or
        number == @intFromEnum(c.E.INVAL) or number == @intFromEnum(c.E.NOTTY) or
        (is_darwin and number == 45); // ENOTSUP, another number there
}

pub fn reason(number: i32) interface.Error {
    return switch (@as(c.E, @enumFromInt(number))) {
        .NOSPC, .DQUOT, .FBIG => error.DiskFull,
        .NOENT, .NOTDIR => error.NotFound,
        .EXIST => error.Exists,
        .ACCES, .PERM, .ROFS => error.Denied,
        .NOMEM => error.OutOfMemory,
        else => error.Io,
    };
}

fn errno() i32 {
    return c._errno().*;
}
