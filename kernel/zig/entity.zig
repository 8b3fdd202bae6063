//! Key spaces: which keys are alive, and which generation an index is in. The writer's own; views
//! check against the key columns of their tables.
//!
//! A key is an index and a generation. The index names a place; the generation counts how often
//! that place has been reused, so an id held across a despawn goes stale instead of silently
//! naming the place's next tenant. Entities have one space, which component tables share; every
//! other table owns one.
//!
//! Invariants:
//! - generations only grow at an authority and 0 is never handed out, so all-zero bytes are no key;
//! - an index freed since the last cut is not handed out before the next (`freed` remembers);
//! - a place whose generation would wrap is retired.

const std = @import("std");
const memory = @import("memory.zig");
const assert = std.debug.assert;

/// One u64 everywhere: in memory, in the WAL, on the wire and across the C ABI.
pub const Key = packed struct(u64) {
    index: u32,
    generation: u32,

    comptime {
        assert(@bitOffsetOf(Key, "generation") == 32);
    }

    pub fn of(key: u64) Key {
        return @bitCast(key);
    }
    pub fn bits(key: Key) u64 {
        return @bitCast(key);
    }
};

const Place = packed struct(u32) {
    generation: u31 = 0,
    alive: bool = false,
};

pub const Space = struct {
    places: std.ArrayList(Place) = .empty,
    /// Indices that may be handed out again, newest last.
    free: std.ArrayList(u32) = .empty,
    /// Indices freed since the last cut. They join `free` at the next one.
    freed: std.ArrayList(u32) = .empty,
    /// Indices whose reservation was undone. Apart from `freed`, which undoing pops in order.
    abandoned: std.ArrayList(u32) = .empty,
    /// Keys handed out in the open version, where a log has to know them: a generation never comes back, whatever
    /// became of its row.
    spent: std.ArrayList(u64) = .empty,
    logged: bool = false,
    limit: u32,
    alive_count: u32 = 0,

    pub fn deinit(space: *Space, gpa: std.mem.Allocator) void {
        space.places.deinit(gpa);
        space.free.deinit(gpa);
        space.freed.deinit(gpa);
        space.abandoned.deinit(gpa);
        space.spent.deinit(gpa);
    }

    pub fn alive(space: *const Space, key: u64) bool {
        const k = Key.of(key);
        if (k.index >= space.places.items.len) return false;
        const place = space.places.items[k.index];
        return place.alive and place.generation == k.generation;
    }

    /// Whether a place has seen a newer generation than this.
    pub fn isSpent(space: *const Space, key: u64) bool {
        const k = Key.of(key);
        return k.index < space.places.items.len and k.generation < space.places.items[k.index].generation;
    }

    /// Make room so that `n` reserves, and as many frees, cannot fail.
    pub fn ensure(space: *Space, gpa: std.mem.Allocator, n: usize) error{ OutOfMemory, Limit }!void {
        const reusable = space.free.items.len;
        const fresh = if (n > reusable) n - reusable else 0;
        if (space.places.items.len + fresh > space.limit) return error.Limit;
        try space.places.ensureUnusedCapacity(gpa, fresh);
        // Every place may be freed once, and `free` may hold all of them: sized here, where failing
        // is still allowed, so that a free cannot fail in the middle of an operation.
        const places = space.places.items.len + fresh;
        try space.freed.ensureTotalCapacity(gpa, places);
        try space.free.ensureTotalCapacity(gpa, places);
        try space.abandoned.ensureTotalCapacity(gpa, places);
        if (space.logged) try space.spent.ensureUnusedCapacity(gpa, n);
    }

    /// Hand out a key that no living row has. Call `ensure` first.
    pub fn reserve(space: *Space) u64 {
        const index: u32 = space.free.pop() orelse fresh: {
            space.places.appendAssumeCapacity(.{});
            break :fresh @intCast(space.places.items.len - 1);
        };
        const place = &space.places.items[index];
        assert(!place.alive);
        place.generation += 1;
        place.alive = true;
        space.alive_count += 1;
        const key: Key = .{ .index = index, .generation = place.generation };
        assert(key.bits() != 0);
        if (space.logged) space.spent.appendAssumeCapacity(key.bits());
        return key.bits();
    }

    /// Free a living key's index. It is stale from now on.
    pub fn release(space: *Space, key: u64) void {
        assert(space.alive(key));
        const k = Key.of(key);
        const place = &space.places.items[k.index];
        place.alive = false;
        space.alive_count -= 1;
        // A place whose generation would wrap stays out of both lists for ever.
        if (place.generation == std.math.maxInt(u31)) return;
        space.freed.appendAssumeCapacity(k.index);
    }

    /// Take back a `reserve`: the key is stale, and its index waits for the next cut like a freed one.
    pub fn abandon(space: *Space, key: u64) void {
        assert(space.alive(key));
        const k = Key.of(key);
        const place = &space.places.items[k.index];
        place.alive = false;
        space.alive_count -= 1;
        if (place.generation == std.math.maxInt(u31)) return;
        space.abandoned.appendAssumeCapacity(k.index);
    }

    /// Take back the newest `release`: the same key lives again.
    pub fn undoRelease(space: *Space, key: u64) void {
        const k = Key.of(key);
        const place = &space.places.items[k.index];
        assert(!place.alive and place.generation == k.generation);
        if (place.generation != std.math.maxInt(u31)) {
            const index = space.freed.pop();
            assert(index == k.index);
        }
        place.alive = true;
        space.alive_count += 1;
    }

    /// Take in a key that an authority handed out; its index is free. Replicas never reserve, so they
    /// keep no free list. Returns the generation the place had, for `undoOccupy`.
    pub fn occupy(space: *Space, gpa: std.mem.Allocator, key: u64) error{ OutOfMemory, Limit, RowExists }!u32 {
        const k = Key.of(key);
        if (k.index >= space.limit) return error.Limit;
        const len = space.places.items.len;
        if (k.index >= len) try space.places.appendNTimes(gpa, .{}, k.index + 1 - len);
        // A peer may free an index and take it in again as often as it likes before the next cut: what counts is who is
        // alive, and may be freed from here on.
        const freed = @max(space.places.items.len, space.freed.items.len + space.alive_count + 1);
        try space.freed.ensureTotalCapacity(gpa, freed);
        try space.free.ensureTotalCapacity(gpa, space.places.items.len);
        const place = &space.places.items[k.index];
        // Reserved here and never given a row: not a replica's doing, and not to be overwritten.
        if (place.alive) return error.RowExists;
        const before = place.generation;
        place.generation = @intCast(k.generation);
        place.alive = true;
        space.alive_count += 1;
        return before;
    }

    /// Make room to take in keys that an authority handed out, whose indices ascend: `occupyMany` cannot fail then.
    pub fn ensureOccupy(space: *Space, gpa: std.mem.Allocator, keys: []const u64) error{ OutOfMemory, Limit }!void {
        const most = Key.of(keys[keys.len - 1]).index;
        if (most >= space.limit) return error.Limit;
        const len = space.places.items.len;
        if (most >= len) {
            try memory.reserve(Place, gpa, &space.places, most + 1);
            space.places.appendNTimesAssumeCapacity(.{}, most + 1 - len);
        }
        const freed = @max(space.places.items.len, space.freed.items.len + space.alive_count + keys.len);
        try memory.reserve(u32, gpa, &space.freed, freed);
        try memory.reserve(u32, gpa, &space.free, space.places.items.len);
    }

    /// Take in keys whose indices are free, all at once. Call `ensureOccupy` first.
    pub fn occupyMany(space: *Space, keys: []const u64) void {
        const places = space.places.items;
        for (keys) |key| {
            const k = Key.of(key);
            assert(!places[k.index].alive);
            places[k.index] = .{ .generation = @intCast(k.generation), .alive = true };
        }
        space.alive_count += @intCast(keys.len);
    }

    /// Take in what a log or a snapshot says of a key that nobody has any more: its generation does not come back.
    /// False where it contradicts what is there. Make room for the place first.
    pub fn spend(space: *Space, key: u64) bool {
        const k = Key.of(key);
        const place = &space.places.items[k.index];
        if (place.alive or place.generation > k.generation) return false;
        place.generation = @intCast(k.generation);
        return true;
    }

    /// Hand out keys from now on, where they were taken in until now: whatever is not alive is free. Whole, or
    /// nothing has changed.
    pub fn settle(space: *Space, gpa: std.mem.Allocator) error{OutOfMemory}!void {
        const places = space.places.items;
        try space.freed.ensureTotalCapacity(gpa, places.len);
        try space.free.ensureTotalCapacity(gpa, places.len);
        try space.abandoned.ensureTotalCapacity(gpa, places.len);
        space.freed.items.len = 0;
        space.abandoned.items.len = 0;
        space.free.items.len = 0;
        space.alive_count = 0;
        // Popped from its end: the lowest first.
        var index = places.len;
        while (index > 0) {
            index -= 1;
            if (places[index].alive) space.alive_count += 1 else if (places[index].generation != std.math.maxInt(u31))
                space.free.appendAssumeCapacity(@intCast(index));
        }
    }

    /// Take back the newest `occupy`.
    pub fn undoOccupy(space: *Space, key: u64, before: u32) void {
        const place = &space.places.items[Key.of(key).index];
        assert(place.alive and place.generation == Key.of(key).generation);
        place.* = .{ .generation = @intCast(before), .alive = false };
        space.alive_count -= 1;
    }

    /// A version was published: what was freed before it may be handed out again.
    pub fn cut(space: *Space, replica: bool) void {
        if (!replica) {
            // `free` is popped from its end. Descending there is ascending when handed out, and then bulk
            // insertion goes into the sparse index by runs.
            for ([_]*std.ArrayList(u32){ &space.abandoned, &space.freed }) |list| {
                const items = list.items;
                if (items.len > 1 and items[0] < items[items.len - 1]) std.mem.reverse(u32, items);
                space.free.appendSliceAssumeCapacity(items);
            }
        }
        space.freed.items.len = 0;
        space.abandoned.items.len = 0;
    }
};

test "an id does not survive its entity, and its index waits for the next cut" {
    const gpa = std.testing.allocator;
    var space: Space = .{ .limit = 4 };
    defer space.deinit(gpa);

    try space.ensure(gpa, 2);
    const first = space.reserve();
    space.release(first);
    try std.testing.expect(!space.alive(first));

    try space.ensure(gpa, 1);
    const second = space.reserve();
    try std.testing.expect(Key.of(second).index != Key.of(first).index);

    space.cut(false);
    try space.ensure(gpa, 1);
    const third = space.reserve();
    try std.testing.expectEqual(Key.of(first).index, Key.of(third).index);
    try std.testing.expectEqual(Key.of(first).generation + 1, Key.of(third).generation);
    try std.testing.expectError(error.Limit, space.ensure(gpa, 3));
}

test "an index may be freed and taken in again more often than there are places, before the next cut" {
    const gpa = std.testing.allocator;
    var space: Space = .{ .limit = 4 };
    defer space.deinit(gpa);
    for (1..40) |generation| {
        const key: Key = .{ .index = 0, .generation = @intCast(generation) };
        _ = try space.occupy(gpa, key.bits());
        space.release(key.bits());
    }
    try std.testing.expectEqual(39, space.freed.items.len);
    space.cut(true);
    try std.testing.expectEqual(0, space.freed.items.len);
}

test "undoing a reservation does not stand in the way of undoing an older release" {
    const gpa = std.testing.allocator;
    var space: Space = .{ .limit = 8 };
    defer space.deinit(gpa);
    try space.ensure(gpa, 1);
    const first = space.reserve();
    space.cut(false);

    space.release(first);
    try space.ensure(gpa, 1);
    const second = space.reserve();
    space.abandon(second);
    space.undoRelease(first);
    try std.testing.expect(space.alive(first) and !space.alive(second));
}

test "a place whose generation would wrap is retired" {
    const gpa = std.testing.allocator;
    var space: Space = .{ .limit = 2 };
    defer space.deinit(gpa);
    const last: Key = .{ .index = 0, .generation = std.math.maxInt(u31) };
    _ = try space.occupy(gpa, last.bits());
    space.release(last.bits());
    space.cut(false);
    try space.ensure(gpa, 1);
    try std.testing.expectEqual(@as(u32, 1), Key.of(space.reserve()).index);
}
