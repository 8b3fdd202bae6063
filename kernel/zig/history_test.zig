//! What left the ring is remembered: replicas that lag by thousands of versions catch up by one delta, to the bit, and are
//! told little more than what they missed.
//!
//! In each version one cell of a clock is written, by turns, so that the rows a delta names are the versions that it goes
//! back by; and entities come and go, so that rows move.

const std = @import("std");
const apply = @import("apply.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const fuzz = @import("fuzz.zig");
const limits = @import("limits.zig");
const Failing = @import("oom_test.zig").Failing;
const Store = @import("store.zig").Store;

const testing = std.testing;

const hands = 5000;
const clock = 1;
const body = 2;
const owner_fields = [_]catalogue.FieldIn{fuzz.field(0, .u64, 1, 0)};
const cell_fields = [_]catalogue.FieldIn{fuzz.field(0, .u64, 1, 0)};

fn newStore(gpa: std.mem.Allocator) !*Store {
    const tables = [_]catalogue.TableIn{
        fuzz.table(0, .entities, &owner_fields),
        fuzz.table(16, .component, &cell_fields),
        fuzz.table(17, .component, &cell_fields),
    };
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 1 << 16 };
    const store = try Store.create(gpa, &in);
    errdefer store.destroy() catch unreachable;
    try store.takeBaton();
    _ = try store.publish(0, true);
    return store;
}

/// The world of the tests: its store and who is alive beside the clock.
const World = struct {
    gpa: std.mem.Allocator,
    store: *Store,
    encoder: delta.Encoder,
    random: std.Random,
    clock_keys: [hands]u64 = undefined,
    bodies: std.ArrayList(u64) = .empty,

    fn deinit(world: *World) void {
        world.encoder.deinit();
        world.bodies.deinit(world.gpa);
        world.store.giveBaton();
        world.store.destroy() catch unreachable;
    }

    fn begin(world: *World) !void {
        try world.store.begin();
        const head = &world.store.head;
        try head.reserve(0, hands, &world.clock_keys);
        for (world.clock_keys) |key| {
            try head.insert(0, key, &.{std.mem.asBytes(&no_owner)});
            try head.insert(clock, key, &.{std.mem.asBytes(&no_owner)});
        }
        try world.store.commit();
        _ = try world.store.publish(0, false);
    }

    /// Make the changes of the next version, without publishing it.
    fn change(world: *World) !void {
        const store = world.store;
        const head = &store.head;
        try store.begin();
        errdefer store.rollback() catch unreachable;
        const version = store.version + 1;
        const key = world.clock_keys[version % hands];
        try head.writeCell(clock, head.tables[clock].find(key).?, 0, key, std.mem.asBytes(&version));
        if (version % 3 == 0) {
            var fresh: [1]u64 = undefined;
            try head.reserve(0, 1, &fresh);
            try head.insert(0, fresh[0], &.{std.mem.asBytes(&no_owner)});
            try head.insert(body, fresh[0], &.{std.mem.asBytes(&version)});
            try world.bodies.append(world.gpa, fresh[0]);
        }
        if (world.bodies.items.len > 40) {
            const at = world.random.uintLessThan(usize, world.bodies.items.len);
            const gone = world.bodies.items[at];
            // A component that goes and comes back, with an entity that stays.
            if (version % 2 == 0) {
                if (head.tables[body].find(gone) != null) {
                    try head.delete(body, gone);
                } else try head.insert(body, gone, &.{std.mem.asBytes(&version)});
            } else {
                try head.delete(0, gone);
                _ = world.bodies.swapRemove(at);
            }
        }
        try store.commit();
    }

    fn step(world: *World) !void {
        try world.change();
        _ = try world.store.publish(0, false);
    }

    const no_owner: u64 = 0;

    /// Bring a replica to the version of a slot, and compare. Gives the rows that the delta names.
    fn catchUp(world: *World, replica: *Store, slot: usize) !u32 {
        const views = &world.store.views;
        const of = &views.slots[slot];
        var cursor: delta.Cursor = .{};
        try world.encoder.cut(&world.store.head, of, replica.version, &cursor, 0);
        _ = try replica.applyAndShow(replica.version, of.version, 0, &.{.{ .bytes = world.encoder.out.items, .last = true }}, false);
        try testing.expectEqual(
            digest.ofSlot(&world.store.head, views, slot),
            digest.ofSlot(&replica.head, &replica.views, replica.views.current),
        );
        return cursor.rows;
    }
};

fn newWorld(gpa: std.mem.Allocator, child: std.mem.Allocator, random: std.Random) !World {
    return .{ .gpa = gpa, .store = try newStore(child), .encoder = .init(gpa), .random = random };
}

test "a replica that lags by thousands of versions is told what it missed, and little more" {
    const gpa = testing.allocator;
    var prng = std.Random.DefaultPrng.init(4);
    const random = prng.random();
    var world = try newWorld(gpa, gpa, random);
    defer world.deinit();
    const retained = 2000;
    try world.store.retain(retained, 64 << 20);
    try world.begin();

    const Lagging = struct { store: *Store, wakes: u64 };
    var replicas: [6]Lagging = undefined;
    for (&replicas) |*replica| {
        replica.* = .{ .store = try newStore(gpa), .wakes = 1 + random.uintLessThan(u64, 50) };
    }
    defer for (&replicas) |*replica| {
        replica.store.giveBaton();
        replica.store.destroy() catch unreachable;
    };
    var held: ?usize = null;
    var far: u64 = 0;
    var gone: u64 = 0;
    for (0..7000) |_| {
        try world.step();
        const views = &world.store.views;
        const version = world.store.version;
        // A view that is held for long reads the list that it was published with.
        if (random.uintLessThan(u32, 300) == 0) {
            if (held) |slot| views.release(slot);
            held = views.acquire();
        }
        for (&replicas) |*replica| {
            if (replica.wakes > version) continue;
            replica.wakes = version + 1 + random.uintLessThan(u64, if (random.boolean()) 100 else 2600);
            const base = replica.store.version;
            const slot = if (held != null and views.slots[held.?].version > base and random.boolean()) held.? else views.current;
            const lag = views.slots[slot].version - base;
            const rows = world.catchUp(replica.store, slot) catch |err| {
                try testing.expectEqual(error.HistoryGone, err);
                try testing.expect(lag > retained);
                gone += 1;
                replica.store.giveBaton();
                try replica.store.destroy();
                replica.store = try newStore(gpa);
                continue;
            };
            if (base == 0) continue;
            if (lag > limits.ring_cuts_max) far += 1;
            // The clock's rows, those of some bodies, and what was merged too far back.
            try testing.expect(rows >= @min(lag, hands));
            try testing.expect(rows <= lag + lag / 8 + lag + 200);
        }
        const history = &views.history;
        try testing.expect(history.spans.items.len <= (level_sets + 3) * 9);
        try testing.expect(views.oldest_base <= @max(1, version -| retained));
        try testing.expect(views.oldest_base >= version -| retained * 5 / 4);
        var bytes: usize = 0;
        for (history.spans.items) |span| bytes += span.set.bytes;
        try testing.expectEqual(bytes, history.bytes);
    }
    try testing.expect(far > 5 and gone > 0);
    if (held) |slot| world.store.views.release(slot);
}

const level_sets = 8;

test "of too many bytes the oldest are forgotten, and without a bound nothing is kept" {
    const gpa = testing.allocator;
    var prng = std.Random.DefaultPrng.init(5);
    var world = try newWorld(gpa, gpa, prng.random());
    defer world.deinit();
    try world.begin();
    const views = &world.store.views;
    for (0..400) |_| try world.step();
    try testing.expectEqual(0, views.history.spans.items.len);
    try testing.expectEqual(world.store.version - limits.ring_cuts_max, views.oldest_base);

    const bytes = 20_000;
    try world.store.retain(1 << 40, bytes);
    for (0..2000) |_| {
        try world.step();
        try testing.expect(views.history.bytes <= bytes);
    }
    try testing.expect(views.history.spans.items.len > 5);
    try testing.expect(views.oldest_base < world.store.version - limits.ring_cuts_max - 20);

    try world.store.retain(0, 0);
    try world.step();
    try testing.expectEqual(0, views.history.spans.items.len);
    try testing.expectEqual(0, views.history.bytes);
}

test "without memory it forgets, and what it still serves is right" {
    const gpa = testing.allocator;
    var prng = std.Random.DefaultPrng.init(6);
    var failing: Failing = .{ .child = gpa, .left = 0, .for_good = false, .armed = false };
    var world = try newWorld(gpa, failing.allocator(), prng.random());
    defer world.deinit();
    try world.store.retain(1000, 64 << 20);
    try world.begin();
    for (0..450) |_| try world.step();
    const views = &world.store.views;
    var forgotten: u32 = 0;
    var put_off: u32 = 0;
    for (0..300) |n| {
        const replica = try newStore(gpa);
        defer {
            replica.giveBaton();
            replica.destroy() catch unreachable;
        }
        _ = try world.catchUp(replica, views.current);
        for (0..1 + n % 5) |_| try world.step();
        try world.change();
        const spans = views.history.spans.items.len;
        failing = .{ .child = gpa, .left = n % 60, .for_good = n % 2 == 0 };
        if (world.store.publish(0, false)) |_| {} else |err| {
            try testing.expectEqual(error.OutOfMemory, err);
            put_off += 1;
        }
        failing.back();
        forgotten += @intFromBool(views.history.spans.items.len + 3 < spans);
        for (0..n % 40) |_| try world.step();
        _ = try world.catchUp(replica, views.current);
    }
    try testing.expect(put_off > 10 and forgotten > 3);
}
