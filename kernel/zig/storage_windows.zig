//! The calls of Windows. Each gives 0 or what `GetLastError` said; what that means is `reason`'s.
//!
//! Names go as UTF-16 with the prefix `\\?\`, which takes paths of any length and nothing for granted: no `.`, no `/`.
//! Files are opened shared for everything, so that one that is open can be renamed and removed as elsewhere; what keeps
//! others out is the lock. `MoveFileEx` with write-through and NTFS's journal take the place of a synced directory.
//!
//! Compiled for, and not run on, Windows so far.

const std = @import("std");
const interface = @import("storage.zig");

pub const File = *anyopaque;
pub const no_file: File = @ptrFromInt(std.math.maxInt(usize));
pub const too_many: i32 = 4; // ERROR_TOO_MANY_OPEN_FILES
pub const too_long: i32 = 206; // ERROR_FILENAME_EXCED_RANGE

const Overlapped = extern struct {
    internal: usize = 0,
    internal_high: usize = 0,
    offset: u32,
    offset_high: u32,
    event: ?*anyopaque = null,

    fn at(offset: u64) Overlapped {
        return .{ .offset = @truncate(offset), .offset_high = @intCast(offset >> 32) };
    }
};

const FindData = extern struct {
    attributes: u32,
    times: [6]u32,
    size: [2]u32,
    reserved: [2]u32,
    name: [260]u16,
    short_name: [14]u16,
};

extern "kernel32" fn GetLastError() callconv(.winapi) u32;
extern "kernel32" fn CreateFileW([*:0]const u16, u32, u32, ?*anyopaque, u32, u32, ?*anyopaque) callconv(.winapi) *anyopaque;
extern "kernel32" fn CloseHandle(*anyopaque) callconv(.winapi) c_int;
extern "kernel32" fn GetFileSizeEx(*anyopaque, *i64) callconv(.winapi) c_int;
extern "kernel32" fn ReadFile(*anyopaque, [*]u8, u32, *u32, *Overlapped) callconv(.winapi) c_int;
extern "kernel32" fn WriteFile(*anyopaque, [*]const u8, u32, *u32, *Overlapped) callconv(.winapi) c_int;
extern "kernel32" fn FlushFileBuffers(*anyopaque) callconv(.winapi) c_int;
extern "kernel32" fn SetFileInformationByHandle(*anyopaque, c_int, *const anyopaque, u32) callconv(.winapi) c_int;
extern "kernel32" fn MoveFileExW([*:0]const u16, [*:0]const u16, u32) callconv(.winapi) c_int;
extern "kernel32" fn DeleteFileW([*:0]const u16) callconv(.winapi) c_int;
extern "kernel32" fn CreateDirectoryW([*:0]const u16, ?*anyopaque) callconv(.winapi) c_int;
extern "kernel32" fn GetFileAttributesW([*:0]const u16) callconv(.winapi) u32;
extern "kernel32" fn FindFirstFileW([*:0]const u16, *FindData) callconv(.winapi) *anyopaque;
extern "kernel32" fn FindNextFileW(*anyopaque, *FindData) callconv(.winapi) c_int;
extern "kernel32" fn FindClose(*anyopaque) callconv(.winapi) c_int;
extern "kernel32" fn LockFileEx(*anyopaque, u32, u32, u32, u32, *Overlapped) callconv(.winapi) c_int;
extern "kernel32" fn GetFullPathNameW([*:0]const u16, u32, [*]u16, ?*anyopaque) callconv(.winapi) u32;

const generic_read = 0x8000_0000;
const generic_write = 0x4000_0000;
const share_all = 7;
const create_new = 1;
const open_existing = 3;
const open_always = 4;
const attribute_directory = 0x10;
const attribute_normal = 0x80;
/// What makes `CreateFile` open a directory.
const backup_semantics = 0x0200_0000;
const no_attributes = std.math.maxInt(u32);

const error_no_more_files = 18;
const error_handle_eof = 38;
const error_lock_violation = 33;
const error_io_pending = 997;

pub const Path = struct {
    units: [2040]u16,
    length: usize,

    pub fn init(root: []const u8, path: []const u8) ?Path {
        var made: Path = .{ .units = undefined, .length = 0 };
        // `\\server\share` has a prefix of its own.
        const is_share = std.mem.startsWith(u8, root, "\\\\");
        if (!made.add(if (is_share) "\\\\?\\UNC" else "\\\\?\\")) return null;
        if (!made.add(if (is_share) root[1..] else root)) return null;
        if (path.len > 0 and !(made.add("\\") and made.add(path))) return null;
        return made;
    }

    fn add(made: *Path, text: []const u8) bool {
        // No text has more units than bytes; one is kept for the end.
        if (made.length + text.len >= made.units.len) return false;
        const n = std.unicode.wtf8ToWtf16Le(made.units[made.length..], text) catch return false;
        for (made.units[made.length..][0..n]) |*unit| {
            if (unit.* == 0) return false;
            if (unit.* == '/') unit.* = '\\';
        }
        made.length += n;
        made.units[made.length] = 0;
        return true;
    }

    /// NTFS's journal has the names of all directories: there is nothing to sync above the root.
    pub fn parentOf(_: *const Path) ?Path {
        return null;
    }

    fn z(path: *const Path) [*:0]const u16 {
        return path.units[0..path.length :0];
    }
};

pub fn absolute(gpa: std.mem.Allocator, path: []const u8, number: *i32) error{OutOfMemory}!?[]u8 {
    number.* = too_long;
    const given = if (path.len == 0) "." else path;
    var wide: [4096]u16 = undefined;
    if (given.len >= wide.len) return null;
    const n = std.unicode.wtf8ToWtf16Le(&wide, given) catch return null;
    wide[n] = 0;
    var room: [4096]u16 = undefined;
    const length = GetFullPathNameW(wide[0..n :0], room.len, &room, null);
    if (length == 0) {
        number.* = lastError();
        return null;
    }
    if (length >= room.len) return null;
    const whole = try std.unicode.wtf16LeToWtf8Alloc(gpa, room[0..length]);
    defer gpa.free(whole);
    // A name from elsewhere may have the prefix, which `Path` adds.
    var kept: []const u8 = whole;
    if (std.mem.startsWith(u8, kept, "\\\\?\\UNC\\")) {
        return try std.mem.concat(gpa, u8, &.{ "\\\\", std.mem.trimEnd(u8, kept[8..], "\\") });
    }
    if (std.mem.startsWith(u8, kept, "\\\\?\\")) kept = kept[4..];
    if (kept.len > 3) kept = std.mem.trimEnd(u8, kept, "\\"); // "C:\" keeps its own
    return try gpa.dupe(u8, kept);
}

pub fn open(path: *const Path, mode: interface.Mode, out: *File) i32 {
    return openWith(path, switch (mode) {
        .read => generic_read,
        .write, .create => generic_read | generic_write,
    }, if (mode == .create) create_new else open_existing, attribute_normal, out);
}

pub fn openOrCreate(path: *const Path, out: *File) i32 {
    return openWith(path, generic_read | generic_write, open_always, attribute_normal, out);
}

fn openWith(path: *const Path, access: u32, how: u32, attributes: u32, out: *File) i32 {
    const file = CreateFileW(path.z(), access, share_all, null, how, attributes, null);
    if (file == no_file) return lastError();
    out.* = file;
    return 0;
}

pub fn close(file: File) void {
    _ = CloseHandle(file);
}

pub fn size(file: File, out: *u64) i32 {
    var bytes: i64 = 0;
    if (GetFileSizeEx(file, &bytes) == 0) return lastError();
    out.* = @intCast(bytes);
    return 0;
}

pub fn read(file: File, offset: u64, into: []u8, done: *usize) i32 {
    var where: Overlapped = .at(offset);
    var n: u32 = 0;
    if (ReadFile(file, into.ptr, @intCast(into.len), &n, &where) == 0) {
        if (GetLastError() != error_handle_eof) return lastError();
        n = 0;
    }
    done.* = n;
    return 0;
}

pub fn write(file: File, offset: u64, bytes: []const u8, done: *usize) i32 {
    var where: Overlapped = .at(offset);
    var n: u32 = 0;
    if (WriteFile(file, bytes.ptr, @intCast(bytes.len), &n, &where) == 0) return lastError();
    done.* = n;
    return 0;
}

pub fn sync(file: File, _: interface.Sync) i32 {
    return if (FlushFileBuffers(file) != 0) 0 else lastError();
}

/// NTFS gives a file that is made longer its clusters at once, and they read as zeros.
pub fn allocate(file: File, _: u64, bytes: u64) i32 {
    return truncate(file, bytes);
}

pub fn truncate(file: File, bytes: u64) i32 {
    const end: i64 = @intCast(bytes);
    const end_of_file_info = 6;
    return if (SetFileInformationByHandle(file, end_of_file_info, &end, @sizeOf(i64)) != 0) 0 else lastError();
}

pub fn rename(from: *const Path, to: *const Path) i32 {
    const replace_existing = 1;
    const write_through = 8;
    return if (MoveFileExW(from.z(), to.z(), replace_existing | write_through) != 0) 0 else lastError();
}

pub fn remove(path: *const Path) i32 {
    return if (DeleteFileW(path.z()) != 0) 0 else lastError();
}

pub fn makeDir(path: *const Path) i32 {
    return if (CreateDirectoryW(path.z(), null) != 0) 0 else lastError();
}

pub fn isDirectory(path: *const Path) bool {
    const attributes = GetFileAttributesW(path.z());
    return attributes != no_attributes and attributes & attribute_directory != 0;
}

/// Where it is allowed, it is done. Where not, the journal keeps the order of names, which is what recovery needs.
pub fn syncDir(path: *const Path) i32 {
    var directory: File = no_file;
    const number = openWith(path, generic_read | generic_write, open_existing, backup_semantics, &directory);
    if (number != 0) return if (isDirectory(path)) 0 else number;
    defer close(directory);
    _ = FlushFileBuffers(directory);
    return 0;
}

pub fn list(path: *const Path, gpa: std.mem.Allocator, into: *std.ArrayList([]u8)) error{OutOfMemory}!i32 {
    var pattern = path.*;
    if (!pattern.add("\\*")) return too_long;
    var entry: FindData = undefined;
    const search = FindFirstFileW(pattern.z(), &entry);
    if (search == no_file) return lastError();
    defer _ = FindClose(search);
    while (true) {
        const name = try std.unicode.wtf16LeToWtf8Alloc(gpa, std.mem.sliceTo(&entry.name, 0));
        if (std.mem.eql(u8, name, ".") or std.mem.eql(u8, name, "..")) {
            gpa.free(name);
        } else into.append(gpa, name) catch |err| {
            gpa.free(name);
            return err;
        };
        if (FindNextFileW(search, &entry) == 0) {
            return if (GetLastError() == error_no_more_files) 0 else lastError();
        }
    }
}

/// Against every other handle. A byte far behind the text is locked, for others must be able to read that.
pub fn lock(file: File) i32 {
    const exclusive = 2;
    const fail_immediately = 1;
    var where: Overlapped = .at(1 << 62);
    return if (LockFileEx(file, exclusive | fail_immediately, 0, 1, 0, &where) != 0) 0 else lastError();
}

pub fn isLocked(number: i32) bool {
    return number == error_lock_violation or number == error_io_pending;
}

pub fn isUnsupported(_: i32) bool {
    return false;
}

pub fn reason(number: i32) interface.Error {
    return switch (number) {
        39, 112, 1295 => error.DiskFull, // HANDLE_DISK_FULL, DISK_FULL, DISK_QUOTA_EXCEEDED
        2, 3, 267 => error.NotFound, // FILE_NOT_FOUND, PATH_NOT_FOUND, DIRECTORY
        80, 183 => error.Exists, // FILE_EXISTS, ALREADY_EXISTS
        5, 19, 32 => error.Denied, // ACCESS_DENIED, WRITE_PROTECT, SHARING_VIOLATION
        8, 14 => error.OutOfMemory, // NOT_ENOUGH_MEMORY, OUTOFMEMORY
        else => error.Io,
    };
}

/// Never 0, for 0 is success.
fn lastError() i32 {
    const number: i32 = @bitCast(GetLastError());
    return if (number == 0) std.math.maxInt(i32) else number;
}
