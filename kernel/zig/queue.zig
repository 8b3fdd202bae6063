//! The queue of producers: transactions that any thread hands in, whoever is writing, and that the writer commits.
//!
//! An order is a transaction of point writes in the form of `operations.zig`, copied when it is handed in. Whoever has
//! the baton pumps: takes all orders at once, runs each as a transaction of its own, in the order in which they were
//! handed in, and publishes them as one version. Each gets a result: committed, with the keys it was handed out, or refused,
//! with where and why; the others do not notice.
//!
//! An order may also be many transactions at once, all of equally many bytes: each is kept or refused by itself, and has a
//! result of its own, in their order. Handing them in is one allocation, and nothing between two of them is more than the
//! transaction itself.
//!
//!     any thread          whoever has the baton
//!     put ──► inbox ──► pump: begin, operations, commit | rollback ──► results, keys ──► publish
//!
//! Invariants:
//! - an order that was put is run exactly once, and has one result;
//! - `put` never waits: beyond a bound it refuses, and nothing was handed in;
//! - a pump that fails for want of memory has lost no order: they wait for the next;
//! - whoever gives the baton back and whoever hands in an order cannot both miss the other: the producer puts, then tries
//!   to take the baton; the writer gives it, then looks whether something waits. All four are sequentially consistent.

const std = @import("std");
const assert = std.debug.assert;
const compat = @import("compat.zig");
const failure = @import("failure.zig");
const operations = @import("operations.zig");
const Inbox = @import("inbox.zig").Inbox;
const Store = @import("store.zig").Store;

pub const Full = enum { no, orders, bytes };

/// One piece of memory: this, then `length` bytes of operations.
pub const Order = struct {
    next: ?*Order,
    ticket: u64,
    /// Keys that its operations will be handed out at most.
    keys_max: u32,
    length: u32,
    /// How many transactions it is.
    transactions: u32,

    fn create(
        gpa: std.mem.Allocator,
        ticket: u64,
        keys_max: u32,
        transactions: u32,
        bytes: []const u8,
    ) error{OutOfMemory}!*Order {
        const memory = try gpa.alignedAlloc(u8, .of(Order), @sizeOf(Order) + bytes.len);
        const order: *Order = @ptrCast(memory.ptr);
        order.* = .{
            .next = null,
            .ticket = ticket,
            .keys_max = keys_max,
            .length = @intCast(bytes.len),
            .transactions = transactions,
        };
        @memcpy(memory[@sizeOf(Order)..], bytes);
        return order;
    }
    fn operationBytes(order: *Order) []const u8 {
        return @as([*]const u8, @ptrCast(order))[@sizeOf(Order)..][0..order.length];
    }
    fn destroy(order: *Order, gpa: std.mem.Allocator) void {
        const memory: [*]align(@alignOf(Order)) u8 = @ptrCast(order);
        gpa.free(memory[0 .. @sizeOf(Order) + order.length]);
    }
};

/// What became of an order. Its keys follow those of the one before.
pub const Result = extern struct {
    ticket: u64,
    /// 0, or the `failure.code` of what refused it.
    status: i32,
    keys: u32,
    info: failure.Info,
};

pub const Queue = struct {
    /// Orders are made on one thread and freed on another.
    child: std.mem.Allocator,
    gpa: std.mem.Allocator,
    orders_max: u64,
    bytes_max: u64,
    inbox: Inbox(Order) = .{},
    orders: compat.Atomic(u64) = .init(0),
    bytes: compat.Atomic(u64) = .init(0),
    /// Taken out of the inbox, and not run for want of memory. The writer's own, as all that follows.
    backlog: ?*Order = null,
    results: std.ArrayList(Result) = .empty,
    keys: std.ArrayList(u64) = .empty,

    pub fn init(child: std.mem.Allocator, gpa: std.mem.Allocator) Queue {
        return .{ .child = child, .gpa = gpa, .orders_max = std.math.maxInt(u32), .bytes_max = std.math.maxInt(u32) };
    }

    pub fn deinit(queue: *Queue) void {
        for ([_]?*Order{ queue.backlog, queue.inbox.takeAll() }) |first| {
            var order = first;
            while (order) |one| {
                order = one.next;
                one.destroy(queue.child);
            }
        }
        queue.results.deinit(queue.gpa);
        queue.keys.deinit(queue.gpa);
    }

    /// Hand in a transaction, or so many of equal length, from any thread. `keys_max` is of all of them.
    pub fn put(
        queue: *Queue,
        ticket: u64,
        keys_max: u32,
        transactions: u32,
        bytes: []const u8,
    ) error{ OutOfMemory, BadArgument }!Full {
        if (transactions == 0 or bytes.len % transactions != 0) return error.BadArgument;
        // Counted before it is there, so that the bounds hold at every moment. Who is refused counts for that moment
        // too: another may be refused beside it that would have fitted, and none goes in that does not.
        const weight = @sizeOf(Order) + bytes.len;
        if (queue.orders.fetchAdd(1, .monotonic) >= queue.orders_max) {
            _ = queue.orders.fetchSub(1, .monotonic);
            return .orders;
        }
        if (queue.bytes.fetchAdd(weight, .monotonic) + weight > queue.bytes_max) {
            queue.forget(weight);
            return .bytes;
        }
        const order = Order.create(queue.child, ticket, keys_max, transactions, bytes) catch |err| {
            queue.forget(weight);
            return err;
        };
        queue.inbox.put(order);
        return .no;
    }

    fn forget(queue: *Queue, weight: u64) void {
        _ = queue.bytes.fetchSub(weight, .monotonic);
        _ = queue.orders.fetchSub(1, .monotonic);
    }

    /// Whether orders wait. Whoever gives the baton back looks at this afterwards.
    pub fn waits(queue: *const Queue) bool {
        return !queue.inbox.isEmpty();
    }

    /// Run everything that waits; whoever has the baton makes one version of it then. `results` and `keys` say what
    /// became of each until the next pump. Outside a transaction.
    pub fn pump(queue: *Queue, store: *Store) failure.Error!void {
        try store.needBaton();
        if (store.head.in_transaction) return error.InTransaction;
        queue.results.clearRetainingCapacity();
        queue.keys.clearRetainingCapacity();
        store.head.told.clearRetainingCapacity();
        queue.takeIn();
        // Room for all results first: after that no order can be run without having one.
        var results: usize = 0;
        var keys: usize = 0;
        var order = queue.backlog;
        while (order) |one| : (order = one.next) {
            results += one.transactions;
            keys += one.keys_max;
        }
        try queue.results.ensureTotalCapacity(queue.gpa, results);
        try queue.keys.ensureTotalCapacity(queue.gpa, keys);
        try store.head.told.ensureTotalCapacity(store.head.gpa, results);
        while (queue.backlog) |one| {
            queue.backlog = one.next;
            const each = one.length / one.transactions;
            var room = one.keys_max;
            for (0..one.transactions) |i| {
                const bytes = one.operationBytes()[i * each ..][0..each];
                queue.results.appendAssumeCapacity(queue.run(store, one.ticket, bytes, &room));
            }
            queue.forget(@sizeOf(Order) + one.length);
            one.destroy(queue.child);
        }
    }

    fn takeIn(queue: *Queue) void {
        const fresh = queue.inbox.takeAll() orelse return;
        var last = queue.backlog orelse {
            queue.backlog = fresh;
            return;
        };
        while (last.next) |next| last = next;
        last.next = fresh;
    }

    fn run(queue: *Queue, store: *Store, ticket: u64, bytes: []const u8, room: *u32) Result {
        const first = queue.keys.items.len;
        store.head.info = .{};
        var result: Result = .{ .ticket = ticket, .status = 0, .keys = 0, .info = .{} };
        queue.commit(store, bytes, room) catch |err| {
            queue.keys.items.len = first;
            store.head.told.appendAssumeCapacity(store.head.info.found);
            result.status = failure.code(err);
            result.info = store.head.info;
            return result;
        };
        result.keys = @intCast(queue.keys.items.len - first);
        return result;
    }

    fn commit(queue: *Queue, store: *Store, bytes: []const u8, room: *u32) failure.Error!void {
        try store.begin();
        errdefer store.rollback() catch unreachable;
        var key: u64 = 0;
        var at: usize = 0;
        while (at < bytes.len) {
            const length = operations.lengthAt(bytes[at..]) orelse return error.BadArgument;
            const one = bytes[at..][0..length];
            operations.run(&store.head, one, &key) catch |err| {
                store.head.info.offset += at;
                return err;
            };
            if (one[0] == @intFromEnum(operations.Kind.spawn)) {
                if (room.* == 0) return error.BadArgument;
                room.* -= 1;
                queue.keys.appendAssumeCapacity(key);
            }
            at += length;
        }
        try store.commit();
    }
};
