//! Audiences where memory runs out, at every single allocation: who fails sees what it saw, and what is asked again comes
//! to what it would have come to.

const std = @import("std");
const audiences_file = @import("audiences.zig");
const delta = @import("delta.zig");
const fuzz = @import("fuzz.zig");
const visible = @import("visible.zig");
const Audiences = audiences_file.Audiences;
const RuleIn = audiences_file.RuleIn;
const Store = @import("store.zig").Store;
const Strided = @import("head.zig").Strided;

const gpa = std.testing.allocator;
const clients = 3;

/// A world of bonds that changes, always in the same way.
const World = struct {
    store: *Store,
    keys: [12]u64 = undefined,
    random: std.Random.DefaultPrng = .init(5),

    fn init() !World {
        var world: World = .{ .store = try fuzz.newStoreIn(gpa) };
        const store = world.store;
        try store.takeBaton();
        defer store.giveBaton();
        try store.begin();
        try store.head.reserve(0, world.keys.len, &world.keys);
        var owners: [world.keys.len]u64 = undefined;
        for (&owners, 0..) |*owner, i| owner.* = i % 3;
        const zero: u64 = 0;
        const cell: Strided = .{ .base = @ptrCast(&zero), .stride = 0 };
        try store.head.insertMany(0, &world.keys, &.{.{ .base = @ptrCast(&owners), .stride = 8 }});
        try store.head.insertMany(1, world.keys[0..9], &.{ cell, cell, cell });
        var numbers: [world.keys.len]u32 = undefined;
        for (&numbers, 0..) |*number, i| number.* = @intCast(i + 1);
        try store.head.insertMany(2, world.keys[2..10], &.{ .{ .base = @ptrCast(&world.keys), .stride = 8 }, .{ .base = @ptrCast(&numbers), .stride = 4 } });
        try store.head.insertMany(3, world.keys[5..8], &.{});
        try store.commit();
        _ = try store.publish(1, false);
        return world;
    }

    /// Bonds and owners change, and one entity goes.
    fn step(world: *World, n: u64) !void {
        const store = world.store;
        const random = world.random.random();
        try store.takeBaton();
        defer store.giveBaton();
        try store.begin();
        for (0..4) |_| {
            const key = world.keys[random.uintLessThan(usize, world.keys.len)];
            const other = world.keys[random.uintLessThan(usize, world.keys.len)];
            if (store.head.tables[2].find(key)) |row| if (store.head.tables[0].find(other) != null)
                try store.head.writeCell(2, row, 0, key, std.mem.asBytes(&other));
            if (store.head.tables[1].find(key)) |row| try store.head.writeCell(1, row, 1, key, std.mem.asBytes(&random.int(u8)) ++ "\x00");
            const owner = random.uintLessThan(u64, 3);
            if (store.head.tables[0].find(key)) |row| try store.head.writeCell(0, row, 0, key, std.mem.asBytes(&owner));
        }
        if (n == 2) if (store.head.tables[0].find(world.keys[4]) != null) try store.head.delete(0, world.keys[4]);
        try store.commit();
        _ = try store.publish(n, false);
    }
};

const bodies = [_]u16{16};
const bonds = [_]u16{17};
const tags = [_]u16{18};
const seen = [_]u16{ 0, 16, 17, 18 };
const hidden = [_][2]u16{.{ 16, 1 }};

fn rule(kind: u8, tables: []const u16, referred: bool) RuleIn {
    return .{
        .radius = 0,
        .leave = 0,
        .tables = if (tables.len == 0) 0 else @intFromPtr(tables.ptr),
        .table_count = @intCast(tables.len),
        .every = 1,
        .axes = 0,
        .fields = @splat(0),
        .kind = kind,
        .referred = @intFromBool(referred),
    };
}

/// One life of some audiences. Every call that fails for want of memory is made again with some.
fn live(failing: *std.testing.FailingAllocator, sights: *std.ArrayList(u64)) !void {
    var world: World = try .init();
    const store = world.store;
    defer store.destroy() catch unreachable;
    const profiles = [_]audiences_file.ProfileIn{
        .{ .tables = @intFromPtr(&seen), .hidden = @intFromPtr(&hidden), .table_count = seen.len, .hidden_count = hidden.len },
    };
    const rules = [_]RuleIn{ rule(0, &tags, false), rule(1, &.{}, false), rule(3, &bonds, false), rule(3, &bonds, true), rule(4, &bodies, false) };
    const a = failing.allocator();
    var audiences = try again(failing, Audiences.init, .{ a, &store.head, &profiles, &rules, &[_][2]u16{.{ 17, 0 }} });
    defer audiences.deinit();
    var handles: [clients]u32 = undefined;
    for (&handles, 0..) |*handle, n| {
        handle.* = try again(failing, @TypeOf(audiences.interest).open, .{ &audiences.interest, &store.head, 0, n, @as(u32, @intCast((n * 7 + 2) | 8)) });
    }
    try again(failing, Audiences.set, .{ &audiences, handles[0], 1, world.keys[3..5] });
    var base: u64 = 0;
    for (2..6) |n| {
        try world.step(n);
        try again(failing, Audiences.found, .{ &audiences, 4, world.keys[n .. n + 3] });
        const at = store.views.acquire();
        defer store.views.release(at);
        const slot = &store.views.slots[at];
        again(failing, @TypeOf(audiences.interest).update, .{ &audiences.interest, &store.head, slot, &handles }) catch unreachable;
        for (audiences.interest.space.marks) |marks| for (marks.items) |mark| {
            try std.testing.expectEqual(0, mark.old | mark.new);
        };
        audiences.interest.audiences.items[handles[1]].?.budget.bytes = 60;
        var offsets: [clients]u64 = undefined;
        var lengths: [clients]i64 = undefined;
        const wanted: audiences_file.Wanted = .{
            .handles = &handles,
            .bases = &@as([clients]u64, @splat(base)),
            .references = &@as([clients]i32, @splat(-1)),
            .slots = &store.views.slots,
            .bytes_max = 1 << 20,
        };
        try again(failing, Audiences.cutAll, .{ &audiences, &store.head, slot, wanted, &offsets, &lengths });
        // With a budget what goes may be another row: a call that failed may have learned from those before it.
        for ([_]usize{ 0, 2 }) |n_of| try sights.append(gpa, @bitCast(lengths[n_of]));
        for (handles) |handle| for (0..4) |table| {
            var keys: [64]u64 = undefined;
            const count = try audiences.visibleIn(slot, handle, @intCast(table), &keys);
            try sights.appendSlice(gpa, keys[0..count]);
        };
        base = slot.version;
    }
}

fn Result(comptime call: anytype) type {
    return @typeInfo(@typeInfo(@TypeOf(call)).@"fn".return_type.?).error_union.payload;
}

fn again(failing: *std.testing.FailingAllocator, comptime call: anytype, arguments: anytype) !Result(call) {
    return @call(.auto, call, arguments) catch |err| {
        try std.testing.expectEqual(error.OutOfMemory, @as(anyerror, err));
        failing.fail_index = std.math.maxInt(usize);
        return @call(.auto, call, arguments);
    };
}

test "without memory for what clients see, they see what they saw, and then what they would have" {
    var whole: std.ArrayList(u64) = .empty;
    defer whole.deinit(gpa);
    var plenty: std.testing.FailingAllocator = .init(gpa, .{});
    try live(&plenty, &whole);
    try std.testing.expect(whole.items.len > 100);
    for (0..plenty.allocations) |n| {
        var failing: std.testing.FailingAllocator = .init(gpa, .{ .fail_index = n });
        var sights: std.ArrayList(u64) = .empty;
        defer sights.deinit(gpa);
        try live(&failing, &sights);
        try std.testing.expect(failing.has_induced_failure);
        try std.testing.expectEqualSlices(u64, whole.items, sights.items);
    }
}
