//! The queue of producers, as C sees it (`queue.zig`). `ecs_queue_put` and `ecs_queue_waiting` from any thread; the others
//! need the baton.

const std = @import("std");
const failure = @import("failure.zig");
const queue = @import("queue.zig");
const Store = @import("store.zig").Store;

/// Addresses of `count` results and `keys` keys, which stay until the next pump.
pub const PumpOut = extern struct { results: u64, count: u64, keys: u64, key_count: u64 };

/// How many orders may wait, and how many bytes they may take. Before the first is put.
pub export fn ecs_queue_limit(store: *Store, orders_max: u64, bytes_max: u64) void {
    store.queue.orders_max = orders_max;
    store.queue.bytes_max = bytes_max;
}

/// Hand in a transaction, or `transactions` of equal length, each of which is kept or refused by itself. `keys_max`: how
/// many of all operations are spawns. 0; 1 or 2 when as many orders or bytes wait as may, and nothing was handed in; or a
/// status below zero.
pub export fn ecs_queue_put(
    store: *Store,
    ticket: u64,
    keys_max: u32,
    transactions: u32,
    bytes: [*]const u8,
    length: u64,
) i32 {
    if (length > std.math.maxInt(u32)) return failure.code(error.BadArgument);
    const full = store.queue.put(ticket, keys_max, transactions, bytes[0..@intCast(length)]) catch |err| return failure.code(err);
    return switch (full) {
        .no => 0,
        .orders => 1,
        .bytes => 2,
    };
}

/// How many orders wait.
pub export fn ecs_queue_waiting(store: *Store) u64 {
    return store.queue.orders.load(.monotonic);
}

/// Run everything that waits. Publishing is the caller's.
pub export fn ecs_queue_pump(store: *Store, out: *PumpOut) i32 {
    store.queue.pump(store) catch |err| return failure.code(err);
    out.* = .{
        .results = @intFromPtr(store.queue.results.items.ptr),
        .count = store.queue.results.items.len,
        .keys = @intFromPtr(store.queue.keys.items.ptr),
        .key_count = store.queue.keys.items.len,
    };
    return 0;
}
