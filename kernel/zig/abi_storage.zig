//! Storages, as C sees them (`storage.zig`): a directory of this machine, or memory that can lose power and fail on purpose.
//! What is done to one from outside is for tests and for whoever reads files by itself; a database has its own way to it.

const std = @import("std");
const compat = @import("compat.zig");
const failure = @import("failure.zig");
const faulty_file = @import("storage_faulty.zig");
const interface = @import("storage.zig");
const layouts = @import("abi_disk_layouts.zig");
const FailureOut = layouts.FailureOut;
const Faulty = faulty_file.Faulty;
const Memory = @import("storage_memory.zig").Memory;
const Os = @import("storage_os.zig").Os;
const Storage = interface.Storage;
const TextOut = layouts.TextOut;

/// A storage of either kind, and the text that was asked for last.
pub const Place = struct {
    of: union(enum) { os: *Os, memory: *Faulty },
    text: []u8 = &.{},
    /// What the last opening of a database in it found.
    report: std.heap.ArenaAllocator = .init(compat.allocator),

    pub fn storage(place: *Place) Storage {
        return switch (place.of) {
            .os => |os| os.storage(),
            .memory => |faulty| faulty.storage(),
        };
    }

    fn make(of: @FieldType(Place, "of")) error{OutOfMemory}!*Place {
        const place = try compat.allocator.create(Place);
        place.* = .{ .of = of };
        return place;
    }

    /// It owns the memory, also where it fails.
    fn makeMemory(memory: *Memory) error{OutOfMemory}!*Place {
        const faulty = Faulty.create(compat.allocator, memory) catch |err| {
            memory.destroy();
            return err;
        };
        return make(.{ .memory = faulty }) catch |err| {
            faulty.destroy();
            return err;
        };
    }

    fn needMemory(place: *Place) error{BadArgument}!*Faulty {
        return switch (place.of) {
            .memory => |faulty| faulty,
            .os => error.BadArgument,
        };
    }

    /// Keep a text until the next one is asked for.
    pub fn tell(place: *Place, text: []u8, out: *TextOut) void {
        compat.allocator.free(place.text);
        place.text = text;
        out.* = .of(text);
    }
};

fn textAt(address: [*]const u8, length: u64) []const u8 {
    return address[0..@intCast(length)];
}

/// A storage in a directory, which need not exist yet.
export fn ecs_storage_os(root: [*]const u8, length: u64, pid: u32, out: *?*Place) i32 {
    out.* = null;
    const os = Os.create(compat.allocator, textAt(root, length), pid) catch |err| return failure.code(err);
    out.* = Place.make(.{ .os = os }) catch |err| {
        os.destroy();
        return failure.code(err);
    };
    return 0;
}

/// An empty storage in memory.
export fn ecs_storage_memory(out: *?*Place) i32 {
    out.* = null;
    const memory = Memory.create(compat.allocator, 1) catch |err| return failure.code(err);
    out.* = Place.makeMemory(memory) catch |err| return failure.code(err);
    return 0;
}

/// Whatever uses it is gone.
export fn ecs_storage_destroy(place: *Place) void {
    compat.allocator.free(place.text);
    place.report.deinit();
    switch (place.of) {
        .os => |os| os.destroy(),
        .memory => |faulty| faulty.destroy(),
    }
    compat.allocator.destroy(place);
}

/// What the last operation that failed was about. Its path stays until the next text that is asked for.
export fn ecs_storage_failure(place: *Place, out: *FailureOut) void {
    const last = place.storage().failure();
    out.* = .{ .operation = @intFromEnum(last.operation), .errno = last.errno, .path = .{} };
    const path = compat.allocator.dupe(u8, last.path()) catch return;
    place.tell(path, &out.path);
}

/// Another storage: what is left of one in memory when its process dies now (`killed` not 0), or when the power goes.
export fn ecs_storage_image(place: *Place, seed: u64, killed: u32, out: *?*Place) i32 {
    out.* = null;
    const faulty = place.needMemory() catch |err| return failure.code(err);
    const memory = if (killed != 0) faulty.memory.killed() else faulty.memory.image(.{ .seed = seed });
    out.* = Place.makeMemory(memory catch |err| return failure.code(err)) catch |err| return failure.code(err);
    return 0;
}

/// Let the n-th operation from now go wrong: a `Fault`.
export fn ecs_storage_fail(place: *Place, nth: u64, kind: u32) i32 {
    const faulty = place.needMemory() catch |err| return failure.code(err);
    const fault = std.enums.fromInt(faulty_file.Fault, std.math.cast(u8, kind) orelse 255) orelse return failure.code(error.BadArgument);
    faulty.fail(nth, fault);
    return 0;
}

/// The names of all files of a storage in memory, each with a line break behind it.
export fn ecs_storage_list(place: *Place, out: *TextOut) i32 {
    const faulty = place.needMemory() catch |err| return failure.code(err);
    var names: std.ArrayList(u8) = .empty;
    for (faulty.memory.names.keys()) |name| {
        if (faulty.memory.isDirectory(name)) continue;
        for ([_][]const u8{ name, "\n" }) |part| names.appendSlice(compat.allocator, part) catch {
            names.deinit(compat.allocator);
            return failure.code(error.OutOfMemory);
        };
    }
    place.tell(names.toOwnedSlice(compat.allocator) catch |err| {
        names.deinit(compat.allocator);
        return failure.code(err);
    }, out);
    return 0;
}

/// The bytes of a file.
export fn ecs_storage_read(place: *Place, path: [*]const u8, length: u64, out: *TextOut) i32 {
    const content = readFile(compat.allocator, place.storage(), textAt(path, length)) catch |err| return failure.code(err);
    place.tell(content, out);
    return 0;
}

/// The bytes of a file; the caller's.
pub fn readFile(gpa: std.mem.Allocator, storage: Storage, path: []const u8) failure.Error![]u8 {
    const handle = try storage.open(path, .read);
    defer storage.close(handle);
    const size = std.math.cast(usize, try storage.size(handle)) orelse return error.OutOfMemory;
    const content = try gpa.alloc(u8, size);
    errdefer gpa.free(content);
    if (try storage.read(handle, 0, content) != content.len) return error.Io;
    return content;
}

/// Have a file of a storage in memory, with its directory, synced.
export fn ecs_storage_put(place: *Place, path: [*]const u8, path_length: u64, content: [*]const u8, length: u64) i32 {
    put(place, textAt(path, path_length), textAt(content, length)) catch |err| return failure.code(err);
    return 0;
}

fn put(place: *Place, path: []const u8, content: []const u8) failure.Error!void {
    const memory = (try place.needMemory()).memory;
    const parent = interface.parent(path);
    if (parent.len > 0) try memory.storage().makeDir(parent);
    try memory.put(path, content);
}
