//! A database from opening to closing, on a disk in memory.

const std = @import("std");
const database = @import("database.zig");
const digest = @import("digest.zig");
const fuzz = @import("fuzz.zig");
const record = @import("record.zig");
const storage_file = @import("storage.zig");
const Database = database.Database;
const Memory = @import("storage_memory.zig").Memory;
const Storage = storage_file.Storage;
const Store = @import("store.zig").Store;

const gpa = std.testing.allocator;

/// A store and its database on a storage.
const Node = struct {
    store: *Store,
    db: *Database,
    arena: *std.heap.ArenaAllocator,
    report: database.Report,
    now: i64 = 1,

    const Choice = struct {
        level: record.Level = .strict,
        read_only: bool = false,
        create: bool = true,
        archive: bool = false,
        seed: u8 = 1,
        fingerprint: u8 = 5,
        problem: ?*[]const u8 = null,
    };

    fn open(storage: Storage, choice: Choice) !Node {
        const store = try fuzz.newStoreIn(gpa);
        errdefer store.destroy() catch unreachable;
        const arena = try gpa.create(std.heap.ArenaAllocator);
        arena.* = .init(gpa);
        errdefer {
            arena.deinit();
            gpa.destroy(arena);
        }
        var node: Node = .{ .store = store, .db = undefined, .arena = arena, .report = .{ .arena = arena.allocator() } };
        try store.takeBaton();
        defer store.giveBaton();
        node.db = Database.open(gpa, storage, store, .{
            .seed = @splat(choice.seed),
            .now_ns = 1,
            .fingerprint = @splat(choice.fingerprint),
            .schema = "[schema]\n",
            .level = choice.level,
            .read_only = choice.read_only,
            .create = choice.create,
            .archive = choice.archive,
            .segment_bytes = 64 << 10,
        }, &node.report) catch |err| {
            if (choice.problem) |to| if (node.report.damages.getLastOrNull()) |last| {
                to.* = last.what;
            };
            return err;
        };
        return node;
    }

    /// As a crash would leave it.
    fn drop(node: *Node) void {
        node.db.destroy();
        node.store.destroy() catch unreachable;
        node.arena.deinit();
        gpa.destroy(node.arena);
    }

    fn close(node: *Node) !void {
        defer node.drop();
        try node.db.close(node.now);
    }

    /// A transaction with some rows, made a version of.
    fn write(node: *Node, random: std.Random, rows: u32, level: record.Level) !void {
        const store = node.store;
        try store.takeBaton();
        defer store.giveBaton();
        node.now += 1;
        try fuzz.World.change(store, random, rows);
        _ = try node.db.publish(store.version, node.now, level);
    }

    fn flush(node: *Node, level: record.Level) !void {
        try node.db.flush(level, node.now);
        try node.store.takeBaton();
        defer node.store.giveBaton();
        _ = try node.db.release();
    }

    fn snapshot(node: *Node) !void {
        const taking = taking: {
            try node.store.takeBaton();
            defer node.store.giveBaton();
            break :taking try node.db.beginSnapshot(node.now);
        };
        defer taking.deinit();
        while (true) switch (try taking.step()) {
            .going => {},
            .waits => try node.flush(.strict),
            .done => return,
        };
    }
};

fn sum(store: *Store) [2]u64 {
    return digest.ofSlot(&store.head, &store.views, store.views.current).halves();
}

test "what was closed is there when it is opened again" {
    var prng = std.Random.DefaultPrng.init(1);
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    var before: [2]u64 = undefined;
    {
        var node = try Node.open(memory.storage(), .{});
        errdefer node.drop();
        try std.testing.expect(node.report.created);
        for (0..30) |_| {
            try node.write(prng.random(), 20, .strict);
            try node.flush(.strict);
            try node.db.tend(node.now);
        }
        before = sum(node.store);
        try std.testing.expectEqual(30, node.store.publishedVersion());
        try node.close();
    }
    var node = try Node.open(memory.storage(), .{ .seed = 2 });
    defer node.drop();
    try std.testing.expect(!node.report.created and !node.report.new_epoch);
    try std.testing.expectEqual(30, node.report.version);
    try std.testing.expectEqual(before, sum(node.store));
    try fuzz.checkHead(node.store);
}
