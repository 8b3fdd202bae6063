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
        return openWith(gpa, storage, choice);
    }

    fn openWith(allocator: std.mem.Allocator, storage: Storage, choice: Choice) !Node {
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
        node.db = Database.open(allocator, storage, store, .{
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

test "after a crash at any moment the store is a version that was made, with all that was durable" {
    var prng = std.Random.DefaultPrng.init(2);
    const random = prng.random();
    for ([_]record.Level{ .memory, .strict }) |level| {
        var memory = try Memory.create(gpa, 1);
        defer memory.destroy();
        // By version: what it shares with the one that is recovered.
        var sums: std.ArrayList([2]u64) = .empty;
        defer sums.deinit(gpa);
        for (0..5) |run| {
            const left = left: {
                var node = try Node.open(memory.storage(), .{ .level = level, .seed = @intCast(run + 1) });
                defer node.drop();
                if (sums.items.len == 0) try sums.append(gpa, sum(node.store));
                sums.items.len = @intCast(node.store.version + 1);
                try std.testing.expectEqual(sums.getLast(), sum(node.store));
                for (0..6) |_| {
                    try node.write(random, 8, level);
                    // A held version is not seen here, so its sum is that of the head when it is shown.
                    if (level == .strict) try node.flush(.strict);
                    try sums.append(gpa, sum(node.store));
                    if (random.boolean()) try node.flush(.relaxed);
                    if (random.uintLessThan(u8, 5) == 0) try node.snapshot();
                }
                const durable = node.db.mark(.durable);
                const left = try memory.image(.{ .seed = run });
                errdefer left.destroy();
                var again = try Node.open(left.storage(), .{ .level = level, .seed = 99 });
                defer again.drop();
                try std.testing.expect(again.store.version >= durable);
                try std.testing.expectEqual(sums.items[@intCast(again.store.version)], sum(again.store));
                try std.testing.expectEqual(level == .memory, again.report.new_epoch);
                break :left left;
            };
            memory.destroy();
            memory = left;
        }
    }
}

test "a second opening, another schema and a place with nothing are refused" {
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    try std.testing.expectError(error.NotFound, Node.open(memory.storage(), .{ .create = false }));
    try std.testing.expectError(error.NotFound, Node.open(memory.storage(), .{ .read_only = true }));
    try std.testing.expectEqual(0, memory.names.count());
    var node = try Node.open(memory.storage(), .{});
    try std.testing.expectError(error.Locked, Node.open(memory.storage(), .{}));
    try node.close();
    try std.testing.expectError(error.SchemaDiffers, Node.open(memory.storage(), .{ .fingerprint = 6 }));
    const text = try database.storedSchema(gpa, memory.storage());
    defer gpa.free(text);
    try std.testing.expectEqualStrings("[schema]\n", text);
}

/// One thread flushes, one takes snapshots, while a third commits.
const Crowd = struct {
    node: *Node,
    done: std.atomic.Value(bool) = .init(false),
    wrong: std.atomic.Value(u32) = .init(0),
    snapshots: u32 = 0,

    fn flushes(crowd: *Crowd) void {
        const db = crowd.node.db;
        var now: i64 = 1 << 20;
        while (!crowd.done.load(.acquire)) : (now += 1) {
            db.flush(if (@rem(now, 3) == 0) .relaxed else .strict, now) catch return crowd.fail();
            db.tend(now) catch return crowd.fail();
            crowd.show() catch return crowd.fail();
        }
    }

    fn show(crowd: *Crowd) !void {
        crowd.node.store.takeBaton() catch return;
        defer crowd.node.store.giveBaton();
        _ = try crowd.node.db.release();
    }

    fn takes(crowd: *Crowd) void {
        while (!crowd.done.load(.acquire)) crowd.take() catch return crowd.fail();
    }

    fn take(crowd: *Crowd) !void {
        const taking = taking: {
            crowd.node.store.takeBaton() catch return;
            defer crowd.node.store.giveBaton();
            break :taking crowd.node.db.beginSnapshot(5) catch |err| return if (err == error.Busy) {} else err;
        };
        defer taking.deinit();
        while (true) switch (try taking.step()) {
            .going => {},
            // The other thread flushes.
            .waits => if (crowd.done.load(.acquire)) return,
            .done => break,
        };
        crowd.snapshots += 1;
        var numbers: [8]u64 = undefined;
        _ = try crowd.node.db.compact(&numbers);
    }

    fn fail(crowd: *Crowd) void {
        _ = crowd.wrong.fetchAdd(1, .monotonic);
    }
};

test "one commits, one flushes and one takes snapshots, and nothing is lost" {
    const memory = try Memory.createPlain(gpa, 1);
    defer memory.destroy();
    var prng = std.Random.DefaultPrng.init(7);
    var before: [2]u64 = undefined;
    var version: u64 = 0;
    {
        // Three threads allocate.
        var node = try Node.openWith(std.heap.c_allocator, memory.storage(), .{ .level = .memory });
        errdefer node.drop();
        var crowd: Crowd = .{ .node = &node };
        const threads = [_]std.Thread{
            try .spawn(.{}, Crowd.flushes, .{&crowd}),
            try .spawn(.{}, Crowd.takes, .{&crowd}),
        };
        var made: u32 = 0;
        while (made < 120) {
            node.write(prng.random(), 6, if (made % 4 == 0) .strict else .relaxed) catch |err| {
                if (err != error.Busy) crowd.fail();
                continue;
            };
            made += 1;
        }
        crowd.done.store(true, .release);
        for (threads) |thread| thread.join();
        try std.testing.expectEqual(0, crowd.wrong.load(.monotonic));
        try node.flush(.strict);
        version = node.store.version;
        try std.testing.expectEqual(version, node.store.publishedVersion());
        before = sum(node.store);
        try node.close();
    }
    var node = try Node.open(memory.storage(), .{ .seed = 2 });
    defer node.drop();
    try std.testing.expectEqual(version, node.report.version);
    try std.testing.expectEqual(before, sum(node.store));
    try std.testing.expectEqual(0, node.report.damages.items.len);
}
