//! What happens when memory runs out, at every single allocation of a scripted life of two stores.
//!
//! The property: an operation either does its work or fails with `OutOfMemory` and leaves heads and
//! versions as they were; nothing leaks or asserts; and once there is memory again the very same call works.

const std = @import("std");
const abi = @import("abi.zig");
const apply = @import("apply.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const fuzz = @import("fuzz.zig");
const lend = @import("lend.zig");
const operations = @import("operations.zig");
const Journal = @import("journal.zig").Journal;
const Store = @import("store.zig").Store;

/// Fails the allocation after `left` more: that one only, or all from there until memory is `back`.
/// It never grows in place, so that every growth is an allocation that may fail.
pub const Failing = struct {
    child: std.mem.Allocator,
    left: usize,
    for_good: bool,
    armed: bool = true,
    failed: bool = false,

    pub fn allocator(self: *Failing) std.mem.Allocator {
        return .{ .ptr = self, .vtable = &.{ .alloc = alloc, .resize = resize, .remap = remap, .free = free } };
    }
    pub fn back(self: *Failing) void {
        self.armed = false;
    }

    fn alloc(ctx: *anyopaque, len: usize, alignment: std.mem.Alignment, ret: usize) ?[*]u8 {
        const self: *Failing = @ptrCast(@alignCast(ctx));
        if (self.armed and self.left == 0) {
            self.failed = true;
            if (!self.for_good) self.armed = false;
            return null;
        }
        if (self.armed) self.left -= 1;
        return self.child.rawAlloc(len, alignment, ret);
    }
    fn resize(_: *anyopaque, memory: []u8, _: std.mem.Alignment, len: usize, _: usize) bool {
        return len == memory.len;
    }
    fn remap(_: *anyopaque, memory: []u8, _: std.mem.Alignment, len: usize, _: usize) ?[*]u8 {
        return if (len == memory.len) memory.ptr else null;
    }
    fn free(ctx: *anyopaque, memory: []u8, alignment: std.mem.Alignment, ret: usize) void {
        const self: *Failing = @ptrCast(@alignCast(ctx));
        self.child.rawFree(memory, alignment, ret);
    }
};

const Life = struct {
    failing: *Failing,
    authority: *Store,
    replica: *Store,
    encoder: delta.Encoder,

    /// Everything that a failed call must leave alone.
    const State = struct { heads: [2]u64, versions: [2]u64, published: [2]u64, view: digest.Digest };

    fn state(life: *Life) State {
        const a = life.authority;
        const r = life.replica;
        return .{
            .heads = .{ fuzz.headSum(a), fuzz.headSum(r) },
            .versions = .{ a.version, r.version },
            .published = .{ a.publishedVersion(), r.publishedVersion() },
            .view = digest.ofSlot(&a.head, &a.views, a.views.current),
        };
    }

    fn attempt(life: *Life, comptime call: anytype, arguments: anytype) !void {
        const before = life.state();
        if (@call(.auto, call, arguments)) |_| {} else |err| {
            try std.testing.expectEqual(error.OutOfMemory, @as(anyerror, err));
            try std.testing.expect(life.failing.failed);
            try std.testing.expectEqual(before, life.state());
            try checkPlaces(life.authority);
            try checkPlaces(life.replica);
            life.failing.back();
            _ = try @call(.auto, call, arguments);
        }
    }

    fn cut(life: *Life, slot: usize, base: u64, budget: u32, cursor: *delta.Cursor) ![]u8 {
        const start = cursor.*;
        life.encoder.cut(&life.authority.head, &life.authority.views.slots[slot], base, cursor, budget) catch |err| {
            try std.testing.expectEqual(error.OutOfMemory, err);
            try std.testing.expectEqual(start, cursor.*);
            life.failing.back();
            try life.encoder.cut(&life.authority.head, &life.authority.views.slots[slot], base, cursor, budget);
        };
        return std.testing.allocator.dupe(u8, life.encoder.out.items);
    }

    /// Bring the replica from `base` to the newest version, in one block or in chunks.
    fn replicate(life: *Life, base: u64, budget: u32) !void {
        const gpa = std.testing.allocator;
        const a = life.authority;
        const slot = a.views.acquire();
        defer a.views.release(slot);
        var blocks: std.ArrayList(apply.Input) = .empty;
        defer blocks.deinit(gpa);
        defer for (blocks.items) |input| gpa.free(input.bytes);
        var cursor: delta.Cursor = .{};
        while (cursor.done == 0)
            try blocks.append(gpa, .{ .bytes = try life.cut(slot, base, budget, &cursor), .last = false });
        blocks.items[blocks.items.len - 1].last = true;
        try life.attempt(Store.applyBlocks, .{ life.replica, base, a.version, 0, blocks.items });
        // Out of memory may have put the publication off, but not for longer than it lasted.
        try life.replica.takeBaton();
        defer life.replica.giveBaton();
        try life.attempt(Store.catchUp, .{life.replica});
        try std.testing.expectEqual(a.version, life.replica.publishedVersion());
        try fuzz.checkHead(life.replica);
        for ([_]*Store{ a, life.replica }) |store| {
            const newest = &store.views.slots[store.views.current];
            try std.testing.expectEqual(digest.scan(&store.head, newest).halves(), newest.kept.?);
        }
        try std.testing.expectEqual(
            digest.ofSlot(&a.head, &a.views, slot),
            digest.ofSlot(&life.replica.head, &life.replica.views, life.replica.views.current),
        );
    }
};

/// Rows are where the index says, whatever their references say in the middle of a transaction.
fn checkPlaces(store: *Store) !void {
    for (store.head.tables) |*t| for (0..t.rows) |row| {
        try std.testing.expectEqual(@as(?u32, @intCast(row)), t.find(t.keyAt(@intCast(row))));
    };
}

fn columnIn(field: u16, cells: anytype) abi.ColumnIn {
    return .{ .field = field, .cells = @intFromPtr(cells), .stride = @sizeOf(@TypeOf(cells[0])) };
}

fn spawnMany(life: *Life, keys: []u64) !void {
    const head = &life.authority.head;
    try life.attempt(@TypeOf(head.*).reserve, .{ head, 0, keys.len, keys });
    const owner: u64 = 3;
    const x: f32 = 1.5;
    const hp: u16 = 9;
    const rgb = [3]u8{ 1, 2, 3 };
    const entities = [_]?Strided{.{ .base = @ptrCast(&owner), .stride = 0 }};
    const body = [_]?Strided{
        .{ .base = @ptrCast(&x), .stride = 0 },
        .{ .base = @ptrCast(&hp), .stride = 0 },
        .{ .base = &rgb, .stride = 0 },
    };
    try life.attempt(@TypeOf(head.*).insertMany, .{ head, 0, keys, &entities });
    try life.attempt(@TypeOf(head.*).insertMany, .{ head, 1, keys, &body });
    // A second run behind a gap, then one before it that no run can serve.
    try life.attempt(@TypeOf(head.*).insertMany, .{ head, 3, keys[keys.len / 2 ..], &.{} });
    try life.attempt(@TypeOf(head.*).insertMany, .{ head, 3, keys[0 .. keys.len / 4], &.{} });
}

const Strided = @import("head.zig").Strided;

/// Operations of every kind on what is there.
fn disturb(life: *Life, keys: []const u64, round: u32) !void {
    const store = life.authority;
    const head = &store.head;
    const Head = @TypeOf(head.*);
    for (keys[0..12], 0..) |key, i| {
        const friend: u64 = keys[(i + 5) % keys.len];
        const badge: u32 = @intCast(1000 * round + i);
        try life.attempt(Head.insert, .{ head, 2, key, &[_]?[*]const u8{ std.mem.asBytes(&friend), std.mem.asBytes(&badge) } });
    }
    var badges: [12]u32 = undefined;
    for (&badges, 0..) |*badge, i| badge.* = @intCast(1000 * round + 500 + i);
    var friends: [12]u64 = undefined;
    for (&friends, 0..) |*friend, i| friend.* = if (i % 3 == 0) 0 else keys[i];
    try life.attempt(operations.updateMany, .{ head, 17, keys[0..12], &[_]abi.ColumnIn{ columnIn(0, &friends), columnIn(1, &badges) } });
    const xs: [20]f32 = @splat(@floatFromInt(round));
    const rgbs: [20][3]u8 = @splat(.{ 9, 9, @intCast(round) });
    try life.attempt(operations.updateMany, .{ head, 16, keys[0..20], &[_]abi.ColumnIn{ columnIn(0, &xs), columnIn(4, &rgbs) } });

    var text: [60]u8 = @splat('a' + @as(u8, @intCast(round)));
    try life.attempt(@TypeOf(head.heap).intern, .{ &head.heap, &text });
    try life.attempt(@TypeOf(head.heap).intern, .{ &head.heap, text[0..20] });
    const references = [_]u64{ head.heap.find(text[0..20]).?, head.heap.find(&text).? };
    const note = [_]?[*]const u8{ std.mem.asBytes(&references[0]), std.mem.asBytes(&references[1]), "n" };
    try life.attempt(Head.insert, .{ head, 5, keys[round], &note });

    try life.attempt(lend.lend, .{ head, &store.views, 1, 0 });
    const lent = &head.tables[1].columns[0].scratch;
    for (0..head.tables[1].rows) |row| lent.data[row * 4] +%= @intCast(1 + round);
    try life.attempt(lend.settle, .{ head, true });

    try life.attempt(Head.delete, .{ head, 0, keys[6] });
    try life.attempt(Head.delete, .{ head, 1, keys[9] });
    try life.attempt(operations.deleteMany, .{ head, 17, keys[10..12] });
    var own: [1]u64 = undefined;
    try life.attempt(Head.reserve, .{ head, 4, 1, &own });
    const x: f32 = 2;
    const hp: u16 = 3;
    try life.attempt(Head.insert, .{ head, 4, own[0], &[_]?[*]const u8{ std.mem.asBytes(&x), std.mem.asBytes(&hp), "abc" } });
}

/// Returns whether an allocation failed: when none did, all were tried.
fn live(left: usize, for_good: bool) !bool {
    // Finds leaks like the testing allocator, without the stack traces that make that one slow.
    var debug: std.heap.DebugAllocator(.{ .stack_trace_frames = 0 }) = .init;
    defer std.testing.expectEqual(.ok, debug.deinit()) catch @panic("leak");
    var failing: Failing = .{ .child = debug.allocator(), .left = left, .for_good = for_good };
    const gpa = failing.allocator();
    const authority = fuzz.newStoreIn(gpa) catch |err| retry: {
        try std.testing.expectEqual(error.OutOfMemory, err);
        failing.back();
        break :retry try fuzz.newStoreIn(gpa);
    };
    defer authority.destroy() catch unreachable;
    const replica = fuzz.newStoreIn(gpa) catch |err| retry: {
        try std.testing.expectEqual(error.OutOfMemory, err);
        failing.back();
        break :retry try fuzz.newStoreIn(gpa);
    };
    defer replica.destroy() catch unreachable;
    authority.keeps_digest = true;
    replica.keeps_digest = true;
    var life: Life = .{ .failing = &failing, .authority = authority, .replica = replica, .encoder = .init(gpa) };
    defer life.encoder.deinit();
    // Without memory for it a record is lost, and nothing else.
    for ([_]*Store{ authority, replica }) |store| {
        try life.attempt(Journal.watch, .{ &store.journal, &store.head, &[_]u16{ 0, 16, 17 }, 1 << 20 });
    }

    try authority.takeBaton();
    defer authority.giveBaton();
    var held: [3]usize = undefined;
    var sums: [3]digest.Digest = undefined;
    for (&held, &sums, 1..) |*slot, *sum, round| {
        try authority.begin();
        var keys: [30]u64 = undefined;
        try spawnMany(&life, &keys);
        try authority.commit();
        if (round != 2) try life.attempt(Store.publish, .{ authority, 1, false });

        try authority.begin();
        const before = fuzz.headSum(authority);
        try disturb(&life, &keys, 7);
        try authority.rollback();
        try std.testing.expectEqual(before, fuzz.headSum(authority));
        try fuzz.checkHead(authority);

        try authority.begin();
        try disturb(&life, &keys, @intCast(round));
        try authority.commit();
        try fuzz.checkHead(authority);
        try life.attempt(Store.publish, .{ authority, 1, false });
        slot.* = authority.views.acquire();
        sum.* = digest.ofSlot(&authority.head, &authority.views, slot.*);
        try life.replicate(if (round == 2) 0 else replica.version, if (round == 3) 300 else 0);
    }
    for (held, sums) |slot, sum| {
        try std.testing.expectEqual(sum, digest.ofSlot(&authority.head, &authority.views, slot));
        authority.views.release(slot);
    }
    return failing.failed;
}

test "wherever memory runs out, nothing is half done and the same call works later" {
    var left: usize = 0;
    while (try live(left, left % 3 == 0)) left += 1;
    try std.testing.expect(left > 300);
}
