//! The queue: what becomes of orders, what is refused, and many threads at once. Run under ThreadSanitizer too.

const std = @import("std");
const failure = @import("failure.zig");
const fuzz = @import("fuzz.zig");
const queue = @import("queue.zig");
const Store = @import("store.zig").Store;

/// A spawn of an entity owned by `owner`.
fn spawn(owner: u64) [28]u8 {
    var bytes: [28]u8 = @splat(0);
    bytes[0] = 1;
    std.mem.writeInt(u32, bytes[4..8], bytes.len, .little);
    std.mem.writeInt(u16, bytes[16..18], 1, .little);
    std.mem.writeInt(u64, bytes[20..28], owner, .little);
    return bytes;
}

fn despawn(key: u64) [16]u8 {
    var bytes: [16]u8 = @splat(0);
    bytes[0] = 4;
    std.mem.writeInt(u32, bytes[4..8], bytes.len, .little);
    std.mem.writeInt(u64, bytes[8..16], key, .little);
    return bytes;
}

fn pump(store: *Store) !void {
    try store.takeBaton();
    defer store.giveBaton();
    try store.queue.pump(store);
    _ = try store.publish(1, false);
}

test "orders are committed in order, each by itself, as one version" {
    const store = try fuzz.newStoreIn(std.testing.allocator);
    defer store.destroy() catch unreachable;
    const two = spawn(1) ++ spawn(2);
    const half = spawn(3) ++ despawn(0xffff);
    const cut_off = spawn(4)[0..20];
    for ([_][]const u8{ &two, &half, cut_off, &spawn(5), &.{} }, 1..) |bytes, ticket| {
        try std.testing.expectEqual(.no, try store.queue.put(ticket, 2, 1, bytes));
    }
    try std.testing.expect(store.queue.waits());
    try pump(store);

    const expected = [_]i32{ 0, failure.code(error.StaleKey), failure.code(error.BadArgument), 0, 0 };
    const results = store.queue.results.items;
    for (expected, results, 1..) |status, result, ticket| {
        try std.testing.expectEqual(ticket, result.ticket);
        try std.testing.expectEqual(status, result.status);
    }
    try std.testing.expectEqual(5, results.len);
    try std.testing.expectEqualSlices(u32, &.{ 2, 0, 0, 1, 0 }, &.{ results[0].keys, results[1].keys, results[2].keys, results[3].keys, results[4].keys });
    try std.testing.expectEqual(0xffff, results[1].info.key);
    try std.testing.expectEqual(28, results[1].info.offset);
    try std.testing.expectEqual(3, store.head.tables[0].rows);
    for (store.queue.keys.items) |key| try std.testing.expect(store.head.tables[0].find(key) != null);
    try std.testing.expectEqual(1, store.version);
    try std.testing.expect(!store.queue.waits());
    try pump(store);
    try std.testing.expectEqual(0, store.queue.results.items.len);
    try std.testing.expectEqual(1, store.version);
}

test "more than was said is refused, and more keys than were said" {
    const store = try fuzz.newStoreIn(std.testing.allocator);
    defer store.destroy() catch unreachable;
    store.queue.orders_max = 2;
    store.queue.bytes_max = 2 * (@sizeOf(queue.Order) + 28);
    try std.testing.expectEqual(.bytes, try store.queue.put(1, 1, 1, &(spawn(1) ++ spawn(2) ++ spawn(3) ++ spawn(4))));
    try std.testing.expectEqual(.no, try store.queue.put(2, 0, 1, &spawn(1)));
    try std.testing.expectEqual(.no, try store.queue.put(3, 1, 1, &spawn(1)));
    try std.testing.expectEqual(.orders, try store.queue.put(4, 1, 1, &.{}));
    try pump(store);
    try std.testing.expectEqual(2, store.queue.results.items.len);
    try std.testing.expectEqual(failure.code(error.BadArgument), store.queue.results.items[0].status);
    try std.testing.expectEqual(1, store.head.tables[0].rows);
    try std.testing.expectEqual(.no, try store.queue.put(5, 1, 1, &spawn(1)));
    // What waits at the end goes with the store.
}

const Producer = struct {
    store: *Store,
    number: u64,
    orders: u64,
    seen: []std.atomic.Value(u64),
    wrong: *std.atomic.Value(u32),

    fn run(producer: *Producer) void {
        for (0..producer.orders) |i| {
            const ticket = producer.number << 32 | i;
            while ((producer.store.queue.put(ticket, 1, 1, &spawn(ticket)) catch unreachable) != .no) producer.look();
            producer.look();
        }
    }

    /// Pump unless somebody else has the baton, who will look again after giving it back.
    fn look(producer: *Producer) void {
        const store = producer.store;
        while (store.queue.waits()) {
            store.takeBaton() catch return;
            store.queue.pump(store) catch unreachable;
            _ = store.publish(1, false) catch unreachable;
            for (store.queue.results.items, store.queue.keys.items) |result, key| {
                const of = &producer.seen[@intCast(result.ticket >> 32)];
                // Plain reads and writes: only whoever has the baton is here.
                if (result.status != 0 or of.raw != @as(u32, @truncate(result.ticket))) _ = producer.wrong.fetchAdd(1, .monotonic);
                of.raw += 1;
                const t = &store.head.tables[0];
                const row = t.find(key) orelse {
                    _ = producer.wrong.fetchAdd(1, .monotonic);
                    continue;
                };
                if (!std.mem.eql(u8, t.columns[0].cell(row), std.mem.asBytes(&result.ticket))) _ = producer.wrong.fetchAdd(1, .monotonic);
            }
            store.giveBaton();
        }
    }
};

test "of many transactions in one order each is kept or refused by itself, and has its own result" {
    const store = try fuzz.newStoreIn(std.testing.allocator);
    defer store.destroy() catch unreachable;
    const bytes = spawn(1) ++ spawn(2) ++ spawn(3);
    try std.testing.expectEqual(.no, try store.queue.put(7, 2, 3, &bytes));
    try std.testing.expectError(error.BadArgument, store.queue.put(8, 2, 2, bytes[0 .. bytes.len - 1]));

    try store.takeBaton();
    defer store.giveBaton();
    try store.queue.pump(store);

    // Room was asked for two keys only, so the third is refused.
    try std.testing.expectEqual(3, store.queue.results.items.len);
    for (store.queue.results.items) |result| try std.testing.expectEqual(7, result.ticket);
    try std.testing.expectEqual(0, store.queue.results.items[1].status);
    try std.testing.expectEqual(failure.code(error.BadArgument), store.queue.results.items[2].status);
    try std.testing.expectEqual(2, store.queue.keys.items.len);
    try std.testing.expectEqual(2, store.head.tables[0].rows);
}

test "whatever threads hand in is committed once, in each one's order, and nothing is left lying" {
    // Room for four threads' spawns; the testing allocator would serialise them.
    const store = try fuzz.newStoreIn(std.heap.c_allocator);
    defer store.destroy() catch unreachable;
    store.queue.orders_max = 16;
    var seen: [4]std.atomic.Value(u64) = @splat(.init(0));
    var wrong: std.atomic.Value(u32) = .init(0);
    var producers: [4]Producer = undefined;
    var threads: [4]std.Thread = undefined;
    for (&producers, &threads, 0..) |*producer, *thread, i| {
        producer.* = .{ .store = store, .number = i, .orders = 900, .seen = &seen, .wrong = &wrong };
        thread.* = try std.Thread.spawn(.{}, Producer.run, .{producer});
    }
    for (&threads) |thread| thread.join();
    try std.testing.expectEqual(0, wrong.raw);
    for (&seen) |count| try std.testing.expectEqual(900, count.raw);
    try std.testing.expect(!store.queue.waits());
    try std.testing.expectEqual(3600, store.head.tables[0].rows);
    try std.testing.expectEqual(0, store.queue.orders.load(.monotonic));
    try std.testing.expectEqual(0, store.queue.bytes.load(.monotonic));
}
