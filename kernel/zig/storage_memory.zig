//! A storage in memory: for tests, and for a database that needs no disk. It knows what a loss of power would leave of it
//! (`image`), for it notes each change in a model of a disk (`power_loss.zig`).
//!
//! Invariants:
//! - a node (a file or a directory) is named by its number, which is never used again; a name leads to a node;
//! - a file lives while it has a name or a handle;
//! - a change is noted before it is made, and not made when that fails; node numbers here and in the model are the same.
//!
//! One lock around every call: this storage is for being right, not for being used by many threads at once.

const std = @import("std");
const assert = std.debug.assert;
const compat = @import("compat.zig");
const interface = @import("storage.zig");
const power_loss = @import("power_loss.zig");
const Error = interface.Error;
const Failure = interface.Failure;
const Handle = interface.Handle;
const Mode = interface.Mode;
const Operation = interface.Operation;
const Storage = interface.Storage;

pub const Memory = struct {
    gpa: std.mem.Allocator,
    lock_: compat.Lock = .{},
    names: std.StringArrayHashMapUnmanaged(u32) = .empty,
    nodes: std.ArrayList(Node) = .empty,
    /// By handle: the node, or null for a handle that was given back.
    handles: std.ArrayList(?u32) = .empty,
    bytes: u64 = 0,
    /// Room on the device: growing beyond it is `DiskFull`.
    capacity: u64 = std.math.maxInt(u64),
    pid: u32,
    last: Failure = .{},
    /// What a loss of power would leave. Null in a storage that is itself what one left.
    model: ?power_loss.Disk = null,
    /// Where changes are kept for images of earlier moments, while somebody wants that.
    recording: ?*power_loss.Recording = null,

    pub const Node = struct {
        kind: enum { file, directory },
        data: std.ArrayList(u8) = .empty,
        /// Whether `data` is borrowed, and is copied before it is changed.
        shared: bool = false,
        names: u32 = 1,
        handles: u32 = 0,
        locked: bool = false,
    };

    /// An empty storage. `pid` is what the text of a lock names.
    pub fn create(gpa: std.mem.Allocator, pid: u32) error{OutOfMemory}!*Memory {
        const memory = try createPlain(gpa, pid);
        memory.model = .init(gpa);
        return memory;
    }

    /// One without a model of a disk: half the memory, and no images.
    pub fn createPlain(gpa: std.mem.Allocator, pid: u32) error{OutOfMemory}!*Memory {
        const memory = try gpa.create(Memory);
        memory.* = .{ .gpa = gpa, .pid = pid };
        return memory;
    }

    /// No handle may be used any more.
    pub fn destroy(memory: *Memory) void {
        const gpa = memory.gpa;
        for (memory.names.keys()) |name| gpa.free(name);
        memory.names.deinit(gpa);
        for (memory.nodes.items) |*node| memory.discard(node);
        memory.nodes.deinit(gpa);
        memory.handles.deinit(gpa);
        if (memory.model) |*model| model.deinit();
        gpa.destroy(memory);
    }

    /// What a crash at this moment leaves, as a storage of its own: without locks, and with a model from there on.
    pub fn image(memory: *Memory, variant: power_loss.Variant) error{OutOfMemory}!*Memory {
        memory.lock_.take();
        defer memory.lock_.give();
        const left = try memory.model.?.image(variant, memory.pid);
        errdefer left.destroy();
        for (left.nodes.items) |*node| try left.own(node);
        try left.watch();
        return left;
    }

    /// What the death of the process at this moment leaves, as a storage of its own: all of it, without locks and handles,
    /// and as durable as it is here. A loss of power may follow. This one goes on.
    pub fn killed(memory: *Memory) error{OutOfMemory}!*Memory {
        memory.lock_.take();
        defer memory.lock_.give();
        const gpa = memory.gpa;
        const left = try createPlain(gpa, memory.pid);
        errdefer left.destroy();
        try left.nodes.ensureTotalCapacity(gpa, memory.nodes.items.len);
        for (memory.nodes.items) |*node| {
            var copy: std.ArrayList(u8) = .empty;
            if (node.names > 0) try copy.appendSlice(gpa, node.data.items);
            left.nodes.appendAssumeCapacity(.{ .kind = node.kind, .data = copy, .names = node.names });
            left.bytes += copy.items.len;
        }
        try left.names.ensureTotalCapacity(gpa, memory.names.count());
        for (memory.names.keys(), memory.names.values()) |name, number| {
            left.names.putAssumeCapacity(try gpa.dupe(u8, name), number);
        }
        left.capacity = memory.capacity;
        if (memory.model) |*model| left.model = try model.clone();
        return left;
    }

    /// Begin to keep a model: everything is durable now.
    pub fn watch(memory: *Memory) error{OutOfMemory}!void {
        assert(memory.model == null);
        memory.model = try .of(memory);
    }

    /// Let the pages of a file be marked clean though they are not on the disk: what a failed sync does on Linux.
    pub fn loseSync(memory: *Memory, handle: Handle) error{OutOfMemory}!void {
        memory.lock_.take();
        defer memory.lock_.give();
        try memory.note(.{ .sync_lost = memory.handles.items[handle].? });
    }

    // Files that are put there, durable at once: an image's, and a test's. Not beside anybody who writes.

    pub fn plant(memory: *Memory, path: []const u8, bytes: std.ArrayList(u8)) error{OutOfMemory}!void {
        assert(memory.model == null);
        const number = try memory.makeNode(path, .file);
        memory.nodes.items[number].data = bytes;
        memory.bytes += bytes.items.len;
    }

    /// A file whose bytes are somebody else's, and stay as they are until the storage is destroyed.
    pub fn plantShared(memory: *Memory, path: []const u8, bytes: []const u8) error{OutOfMemory}!void {
        try memory.plant(path, .{ .items = @constCast(bytes), .capacity = 0 });
        memory.nodes.items[memory.nodes.items.len - 1].shared = true;
    }

    pub fn plantDirectory(memory: *Memory, path: []const u8) error{OutOfMemory}!void {
        assert(memory.model == null);
        _ = try memory.makeNode(path, .directory);
    }

    /// The bytes of a file, until the next change.
    pub fn contents(memory: *Memory, path: []const u8) ?[]const u8 {
        const node = &memory.nodes.items[memory.names.get(path) orelse return null];
        return if (node.kind == .file) node.data.items else null;
    }

    /// Have a file with these bytes, synced, with its name.
    pub fn put(memory: *Memory, path: []const u8, bytes: []const u8) Error!void {
        const disk = memory.storage();
        disk.remove(path) catch |err| if (err != error.NotFound) return err;
        const handle = try disk.open(path, .create);
        defer disk.close(handle);
        try disk.write(handle, 0, bytes);
        try disk.sync(handle, .all);
        try disk.syncDir(interface.parent(path));
    }

    pub fn storage(memory: *Memory) Storage {
        return .{ .context = memory, .vtable = &vtable };
    }

    const vtable: interface.VTable = .{
        .open = Locked("open").call,
        .close = Locked("close").call,
        .size = Locked("size").call,
        .read = Locked("read").call,
        .write = Locked("write").call,
        .sync = Locked("sync").call,
        .reload = Locked("reload").call,
        .allocate = Locked("allocate").call,
        .rename = Locked("rename").call,
        .remove = Locked("remove").call,
        .makeDir = Locked("makeDir").call,
        .syncDir = Locked("syncDir").call,
        .list = Locked("list").call,
        .lock = Locked("lock").call,
        .failure = Locked("failure").call,
    };

    // What the calls do, under the lock.

    fn open(memory: *Memory, path: []const u8, mode: Mode) Error!Handle {
        const found = memory.names.get(path);
        const number = switch (mode) {
            .create => number: {
                if (found != null) return memory.fail(error.Exists, .open, path);
                try memory.needParent(path, .open);
                break :number try memory.makeNode(path, .file);
            },
            .read, .write => found orelse return memory.fail(error.NotFound, .open, path),
        };
        if (memory.nodes.items[number].kind == .directory) return memory.fail(error.Io, .open, path);
        return memory.makeHandle(number);
    }

    fn close(memory: *Memory, handle: Handle) void {
        const number = memory.handles.items[handle].?;
        memory.handles.items[handle] = null;
        const node = &memory.nodes.items[number];
        node.handles -= 1;
        if (node.handles == 0) node.locked = false;
        memory.bury(number);
    }

    fn size(memory: *Memory, handle: Handle) Error!u64 {
        return memory.nodeOf(handle).data.items.len;
    }

    fn read(memory: *Memory, handle: Handle, at: u64, into: []u8) Error!usize {
        const data = memory.nodeOf(handle).data.items;
        if (at >= data.len) return 0;
        const from = data[@intCast(at)..];
        const n = @min(from.len, into.len);
        @memcpy(into[0..n], from[0..n]);
        return n;
    }

    fn write(memory: *Memory, handle: Handle, at: u64, bytes: []const u8) Error!void {
        if (bytes.len == 0) return;
        const number = memory.handles.items[handle].?;
        const node = &memory.nodes.items[number];
        try memory.makeRoom(number, at + bytes.len, .write);
        try memory.note(.{ .write = .{ .node = number, .at = at, .bytes = bytes } });
        memory.grow(node, at + bytes.len);
        @memcpy(node.data.items[@intCast(at)..][0..bytes.len], bytes);
    }

    fn sync(memory: *Memory, handle: Handle, _: interface.Sync) Error!void {
        try memory.note(.{ .sync = memory.handles.items[handle].? });
    }

    /// Where memory runs out, what was seen goes on being seen.
    fn reload(memory: *Memory, handle: Handle) void {
        const number = memory.handles.items[handle].?;
        const model = if (memory.model) |*model| model else return;
        memory.note(.{ .reload = number }) catch return;
        const bytes = model.seen(number) catch return;
        const node = &memory.nodes.items[number];
        memory.bytes = memory.bytes - node.data.items.len + bytes.items.len;
        memory.discard(node);
        node.data = bytes;
    }

    fn allocate(memory: *Memory, handle: Handle, bytes: u64) Error!void {
        const number = memory.handles.items[handle].?;
        const node = &memory.nodes.items[number];
        if (bytes <= node.data.items.len) return;
        try memory.makeRoom(number, bytes, .allocate);
        try memory.note(.{ .resize = .{ .node = number, .bytes = bytes } });
        memory.grow(node, bytes);
    }

    fn rename(memory: *Memory, from: []const u8, to: []const u8) Error!void {
        const number = memory.names.get(from) orelse return memory.fail(error.NotFound, .rename, from);
        if (memory.nodes.items[number].kind == .directory) return memory.fail(error.Denied, .rename, from);
        try memory.needParent(to, .rename);
        if (std.mem.eql(u8, from, to)) return;
        const replaced = memory.names.get(to);
        if (replaced) |other| if (memory.nodes.items[other].kind == .directory) return memory.fail(error.Exists, .rename, to);
        try memory.names.ensureUnusedCapacity(memory.gpa, 1);
        const name = try memory.gpa.dupe(u8, to);
        errdefer memory.gpa.free(name);
        try memory.note(.{ .rename = .{ .node = number, .from = from, .to = to } });
        if (replaced) |other| {
            memory.forget(to);
            memory.nodes.items[other].names -= 1;
            memory.bury(other);
        }
        memory.forget(from);
        memory.names.putAssumeCapacity(name, number);
    }

    fn remove(memory: *Memory, path: []const u8) Error!void {
        const number = memory.names.get(path) orelse return memory.fail(error.NotFound, .remove, path);
        if (memory.nodes.items[number].kind == .directory) return memory.fail(error.Denied, .remove, path);
        try memory.note(.{ .remove = .{ .node = number, .path = path } });
        memory.forget(path);
        memory.nodes.items[number].names -= 1;
        memory.bury(number);
    }

    fn makeDir(memory: *Memory, path: []const u8) Error!void {
        if (path.len == 0) return;
        if (memory.names.get(path)) |number| {
            if (memory.nodes.items[number].kind == .directory) return;
            return memory.fail(error.Exists, .make_dir, path);
        }
        try memory.needParent(path, .make_dir);
        _ = try memory.makeNode(path, .directory);
    }

    fn syncDir(memory: *Memory, path: []const u8) Error!void {
        if (!memory.isDirectory(path)) return memory.fail(error.NotFound, .sync_dir, path);
        try memory.note(.{ .sync_dir = path });
    }

    fn list(memory: *Memory, gpa: std.mem.Allocator, path: []const u8) Error![][]u8 {
        if (!memory.isDirectory(path)) return memory.fail(error.NotFound, .list, path);
        var found: std.ArrayList([]u8) = .empty;
        errdefer {
            for (found.items) |name| gpa.free(name);
            found.deinit(gpa);
        }
        for (memory.names.keys()) |name| {
            if (!std.mem.eql(u8, interface.parent(name), path)) continue;
            try found.ensureUnusedCapacity(gpa, 1);
            const start = if (path.len == 0) 0 else path.len + 1;
            found.appendAssumeCapacity(try gpa.dupe(u8, name[start..]));
        }
        std.mem.sort([]u8, found.items, {}, interface.lessName);
        return found.toOwnedSlice(gpa);
    }

    fn lock(memory: *Memory, path: []const u8) Error!Handle {
        const number = memory.names.get(path) orelse number: {
            try memory.needParent(path, .lock);
            break :number try memory.makeNode(path, .file);
        };
        const node = &memory.nodes.items[number];
        if (node.kind == .directory) return memory.fail(error.Io, .lock, path);
        if (node.locked) return memory.fail(error.Locked, .lock, path);
        const handle = try memory.makeHandle(number);
        errdefer memory.close(handle);
        var text: [24]u8 = undefined;
        const said = std.fmt.bufPrint(&text, "pid {d}\n", .{memory.pid}) catch unreachable;
        try memory.write(handle, 0, said);
        memory.nodes.items[number].locked = true;
        return handle;
    }

    fn failure(memory: *Memory) Failure {
        return memory.last;
    }

    // What they are made of.

    fn nodeOf(memory: *Memory, handle: Handle) *Node {
        return &memory.nodes.items[memory.handles.items[handle].?];
    }

    fn note(memory: *Memory, change: power_loss.Change) error{OutOfMemory}!void {
        if (memory.recording) |recording| try recording.note(change);
        if (memory.model) |*model| try model.note(change);
    }

    /// Have memory for a file of `end` bytes, its own.
    fn makeRoom(memory: *Memory, number: u32, end: u64, operation: Operation) Error!void {
        const node = &memory.nodes.items[number];
        const more = end -| node.data.items.len;
        if (more > memory.capacity -| memory.bytes) return memory.fail(error.DiskFull, operation, memory.nameOf(number));
        try memory.own(node);
        try node.data.ensureTotalCapacity(memory.gpa, @intCast(end));
    }

    /// There is room.
    fn grow(memory: *Memory, node: *Node, end: u64) void {
        const old = node.data.items.len;
        if (end <= old) return;
        node.data.items.len = @intCast(end);
        @memset(node.data.items[old..], 0);
        memory.bytes += end - old;
    }

    fn own(memory: *Memory, node: *Node) error{OutOfMemory}!void {
        if (!node.shared) return;
        var copy: std.ArrayList(u8) = try .initCapacity(memory.gpa, node.data.items.len);
        copy.appendSliceAssumeCapacity(node.data.items);
        node.data = copy;
        node.shared = false;
    }

    fn discard(memory: *Memory, node: *Node) void {
        if (!node.shared) node.data.deinit(memory.gpa);
        node.data = .empty;
        node.shared = false;
    }

    fn makeNode(memory: *Memory, path: []const u8, kind: @FieldType(Node, "kind")) error{OutOfMemory}!u32 {
        const number: u32 = @intCast(memory.nodes.items.len);
        try memory.nodes.ensureUnusedCapacity(memory.gpa, 1);
        try memory.names.ensureUnusedCapacity(memory.gpa, 1);
        const name = try memory.gpa.dupe(u8, path);
        errdefer memory.gpa.free(name);
        try memory.note(.{ .make = .{ .path = path, .node = number, .directory = kind == .directory } });
        memory.names.putAssumeCapacity(name, number);
        memory.nodes.appendAssumeCapacity(.{ .kind = kind });
        return number;
    }

    fn makeHandle(memory: *Memory, number: u32) error{OutOfMemory}!Handle {
        const handle = for (memory.handles.items, 0..) |held, n| {
            if (held == null) break n;
        } else memory.handles.items.len;
        if (handle == memory.handles.items.len) try memory.handles.append(memory.gpa, null);
        memory.handles.items[handle] = number;
        memory.nodes.items[number].handles += 1;
        return @intCast(handle);
    }

    /// Forget a name; what it led to stays.
    fn forget(memory: *Memory, path: []const u8) void {
        const gone = memory.names.fetchSwapRemove(path).?;
        memory.gpa.free(gone.key);
    }

    /// Give the bytes of a file back that nothing leads to any more.
    fn bury(memory: *Memory, number: u32) void {
        const node = &memory.nodes.items[number];
        if (node.names > 0 or node.handles > 0) return;
        memory.bytes -= node.data.items.len;
        memory.discard(node);
    }

    pub fn isDirectory(memory: *const Memory, path: []const u8) bool {
        if (path.len == 0) return true;
        const number = memory.names.get(path) orelse return false;
        return memory.nodes.items[number].kind == .directory;
    }

    fn needParent(memory: *Memory, path: []const u8, operation: Operation) Error!void {
        if (!memory.isDirectory(interface.parent(path))) return memory.fail(error.NotFound, operation, path);
    }

    pub fn nameOf(memory: *const Memory, number: u32) []const u8 {
        for (memory.names.keys(), memory.names.values()) |name, node| if (node == number) return name;
        return "(removed)";
    }

    fn fail(memory: *Memory, err: Error, operation: Operation, path: []const u8) Error {
        memory.last = .init(operation, 0, path);
        return err;
    }
};

/// A method of `Memory` as the interface calls it: with the lock held.
fn Locked(comptime method: []const u8) type {
    const function = @field(Memory, method);
    const parameters = @typeInfo(@TypeOf(function)).@"fn".params;
    const Result = @typeInfo(@TypeOf(function)).@"fn".return_type.?;
    return switch (parameters.len) {
        1 => struct {
            fn call(context: *anyopaque) Result {
                const memory: *Memory = @ptrCast(@alignCast(context));
                memory.lock_.take();
                defer memory.lock_.give();
                return function(memory);
            }
        },
        2 => struct {
            fn call(context: *anyopaque, a: parameters[1].type.?) Result {
                const memory: *Memory = @ptrCast(@alignCast(context));
                memory.lock_.take();
                defer memory.lock_.give();
                return function(memory, a);
            }
        },
        3 => struct {
            fn call(context: *anyopaque, a: parameters[1].type.?, b: parameters[2].type.?) Result {
                const memory: *Memory = @ptrCast(@alignCast(context));
                memory.lock_.take();
                defer memory.lock_.give();
                return function(memory, a, b);
            }
        },
        4 => struct {
            fn call(context: *anyopaque, a: parameters[1].type.?, b: parameters[2].type.?, c: parameters[3].type.?) Result {
                const memory: *Memory = @ptrCast(@alignCast(context));
                memory.lock_.take();
                defer memory.lock_.give();
                return function(memory, a, b, c);
            }
        },
        else => unreachable,
    };
}

const expectEqual = std.testing.expectEqual;
const expectError = std.testing.expectError;

test "what is written is read back, under whatever name it has by then" {
    const gpa = std.testing.allocator;
    const memory = try Memory.create(gpa, 7);
    defer memory.destroy();
    const disk = memory.storage();
    try expectError(error.NotFound, disk.open("wal/1.tmp", .create));
    try disk.makeDir("wal");
    try disk.makeDir("wal");
    const file = try disk.open("wal/1.tmp", .create);
    try expectError(error.Exists, disk.open("wal/1.tmp", .create));
    try disk.write(file, 4, "abc");
    try disk.allocate(file, 9);
    try disk.allocate(file, 3);
    try expectEqual(9, try disk.size(file));
    try disk.rename("wal/1.tmp", "wal/1.wal");
    try expectError(error.NotFound, disk.open("wal/1.tmp", .read));
    var into: [16]u8 = undefined;
    try expectEqual(9, try disk.read(file, 0, &into));
    try std.testing.expectEqualStrings("\x00\x00\x00\x00abc\x00\x00", into[0..9]);
    try expectEqual(0, try disk.read(file, 9, &into));
    const names = try disk.list(gpa, "wal");
    defer interface.freeNames(gpa, names);
    try expectEqual(1, names.len);
    try std.testing.expectEqualStrings("1.wal", names[0]);
    // A handle outlives the name; the room is given back with the handle.
    try disk.remove("wal/1.wal");
    try expectEqual(7, try disk.read(file, 2, &into));
    try expectEqual(9, memory.bytes);
    disk.close(file);
    try expectEqual(0, memory.bytes);
}

test "a lock is held by one handle, and says by whom" {
    const memory = try Memory.create(std.testing.allocator, 4711);
    defer memory.destroy();
    const disk = memory.storage();
    const held = try disk.lock("LOCK");
    try expectError(error.Locked, disk.lock("LOCK"));
    try std.testing.expectEqualStrings("LOCK", disk.failure().path());
    const reading = try disk.open("LOCK", .read);
    var into: [16]u8 = undefined;
    try std.testing.expectEqualStrings("pid 4711\n", into[0..try disk.read(reading, 0, &into)]);
    disk.close(reading);
    disk.close(held);
    disk.close(try disk.lock("LOCK"));
}

test "a full device refuses to grow, and keeps what it has" {
    const memory = try Memory.create(std.testing.allocator, 1);
    defer memory.destroy();
    memory.capacity = 8;
    const disk = memory.storage();
    const file = try disk.open("a", .create);
    try disk.write(file, 0, "12345678");
    try expectError(error.DiskFull, disk.write(file, 1, "12345678"));
    try expectError(error.DiskFull, disk.allocate(file, 9));
    try expectEqual(.allocate, disk.failure().operation);
    try disk.write(file, 0, "abcdefgh");
    try expectEqual(8, try disk.size(file));
    disk.close(file);
}
