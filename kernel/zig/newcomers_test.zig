//! Rows that are all new: taken in as columns they leave what they leave one by one, and bytes from anywhere fail alike.

const std = @import("std");
const apply = @import("apply.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const fuzz = @import("fuzz.zig");
const newcomers = @import("newcomers.zig");
const Head = @import("head.zig").Head;
const Store = @import("store.zig").Store;

const gpa = std.testing.allocator;

/// A full sync of the newest version, in blocks of about so many bytes; with 0 in one.
fn cutInBlocks(store: *Store, arena: std.mem.Allocator, budget: u32) ![]apply.Input {
    var encoder = delta.Encoder.init(gpa);
    defer encoder.deinit();
    const slot = store.views.acquire();
    defer store.views.release(slot);
    var cursor: delta.Cursor = .{};
    var blocks: std.ArrayList(apply.Input) = .empty;
    while (cursor.done == 0) {
        try encoder.cut(&store.head, &store.views.slots[slot], 0, &cursor, budget);
        try blocks.append(arena, .{ .bytes = try arena.dupe(u8, encoder.out.items), .last = false });
    }
    blocks.items[blocks.items.len - 1].last = true;
    return blocks.items;
}

/// Apply to two replicas, of which the second sorts out each row by itself. Whatever comes of it comes of both; returns
/// whether it was taken in.
fn applyToBoth(quick: *Store, slow: *Store, base: u64, version: u64, blocks: []const apply.Input) !bool {
    const before = [_]u64{ fuzz.headSum(quick), quick.version };
    const quick_outcome = quick.applyBlocks(base, version, 0, blocks);
    newcomers.one_by_one = true;
    defer newcomers.one_by_one = false;
    const slow_outcome = slow.applyBlocks(base, version, 0, blocks);
    try std.testing.expectEqual(slow_outcome, quick_outcome);
    try fuzz.expectEqualHeads(slow, quick);
    try fuzz.checkHead(quick);
    if (quick_outcome) |_| return true else |_| {
        try std.testing.expectEqual(slow.head.info, quick.head.info);
        try std.testing.expectEqual(before, [_]u64{ fuzz.headSum(quick), quick.version });
        return false;
    }
}

test "a full sync in blocks of any size leaves what it leaves row by row, and so do the deltas behind it" {
    var prng = std.Random.DefaultPrng.init(11);
    const random = prng.random();
    for (0..8) |round| {
        var memory = std.heap.ArenaAllocator.init(gpa);
        defer memory.deinit();
        const authority = try fuzz.newStoreIn(gpa);
        defer authority.destroy() catch unreachable;
        // Several times: places that were left and taken again, and rows that are not in the order of keys.
        for (0..3) |_| try fuzz.World.grow(authority, random, 60);
        const quick = try fuzz.newStoreIn(gpa);
        defer quick.destroy() catch unreachable;
        const slow = try fuzz.newStoreIn(gpa);
        defer slow.destroy() catch unreachable;
        const blocks = try cutInBlocks(authority, memory.allocator(), if (round == 0) 0 else 200 + random.uintLessThan(u32, 3000));
        try std.testing.expect(try applyToBoth(quick, slow, 0, 3, blocks));
        for (4..8) |version| {
            const base = authority.version;
            try fuzz.World.grow(authority, random, 20);
            const block = try fuzz.World.cut(authority, base);
            defer gpa.free(block);
            try std.testing.expect(try applyToBoth(quick, slow, version - 1, version, &.{.{ .bytes = block, .last = true }}));
        }
        // Over what is held, which goes first: nobody is new then, but those who are held are.
        const again = try cutInBlocks(authority, memory.allocator(), 1000);
        try std.testing.expect(try applyToBoth(quick, slow, 0, 9, again));
    }
}

test "a full sync with wrong bytes in it is refused as row by row, and leaves nothing" {
    var prng = std.Random.DefaultPrng.init(12);
    const random = prng.random();
    var memory = std.heap.ArenaAllocator.init(gpa);
    defer memory.deinit();
    const authority = try fuzz.newStoreIn(gpa);
    defer authority.destroy() catch unreachable;
    for (0..2) |_| try fuzz.World.grow(authority, random, 50);
    const true_blocks = try cutInBlocks(authority, memory.allocator(), 900);
    try std.testing.expect(true_blocks.len > 3);
    var taken: usize = 0;
    var refused: usize = 0;
    var quick = try fuzz.newStoreIn(gpa);
    defer quick.destroy() catch unreachable;
    var slow = try fuzz.newStoreIn(gpa);
    defer slow.destroy() catch unreachable;
    for (0..2500) |_| {
        var scratch = std.heap.ArenaAllocator.init(gpa);
        defer scratch.deinit();
        const blocks = try scratch.allocator().dupe(apply.Input, true_blocks);
        for (0..1 + random.uintLessThan(usize, 2)) |_| {
            const which = &blocks[random.uintLessThan(usize, blocks.len)];
            const bytes = try scratch.allocator().dupe(u8, which.bytes);
            const at = random.uintLessThan(usize, bytes.len);
            bytes[at] = if (random.boolean()) random.int(u8) else bytes[at] ^ (@as(u8, 1) << random.int(u3));
            which.bytes = bytes;
        }
        if (random.uintLessThan(u8, 10) == 0) std.mem.swap(apply.Input, &blocks[0], &blocks[1]);
        const held = quick.version;
        if (try applyToBoth(quick, slow, 0, held + 1, blocks)) taken += 1 else refused += 1;
        if (quick.version > 20) for ([_]**Store{ &quick, &slow }) |one| {
            one.*.destroy() catch unreachable;
            one.* = try fuzz.newStoreIn(gpa);
        };
    }
    try std.testing.expect(taken > 50 and refused > 500);
}

test "what is refused behind many new keys frees them, with the generations that their places had" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    const head: *Head = &store.head;
    const first = [_]u64{ 1 << 32 | 3, 1 << 32 | 4 };
    const second = [_]u64{ 7 << 32 | 3, 7 << 32 | 4, 7 << 32 | 900 };
    head.replica = true;
    try head.begin();
    try head.occupyMany(0, &first);
    const mark = head.mark();
    for (first) |key| try head.releaseKey(0, key);
    try std.testing.expect(newcomers.areAll(&head.tables[0], &second, false));
    // Somebody's log says that 7 was handed out already, and here 9 was.
    try head.occupyMany(0, &second);
    try std.testing.expect(head.spaces[0].alive(second[2]) and !newcomers.areAll(&head.tables[0], &second, false));
    head.undoTo(mark);
    for (first) |key| try std.testing.expect(head.spaces[0].alive(key));
    for (second) |key| try std.testing.expect(!head.spaces[0].alive(key));
    try std.testing.expectEqual(2, head.spaces[0].alive_count);
    head.rollback();
    try std.testing.expectEqual(0, head.spaces[0].alive_count);
    for (head.spaces[0].places.items) |place| try std.testing.expectEqual(@as(u32, 0), @as(u32, @bitCast(place)));
}

test "cells that are compared all at once keep a rule exactly when each does" {
    var prng = std.Random.DefaultPrng.init(13);
    const random = prng.random();
    const kinds = [_]catalogue.Type{ .u8, .u16, .u32, .u64, .i8, .i16, .i32, .i64, .f32, .f64, .bool };
    for (0..4000) |round| {
        var field = std.mem.zeroInit(catalogue.Field, .{ .type = kinds[random.uintLessThan(usize, kinds.len)], .on_delete = .cascade, .count = 1 });
        field.width = switch (field.type) {
            inline else => |kind| @sizeOf(catalogue.Native(kind)),
        };
        field.has_minimum = random.boolean() and field.type != .bool;
        field.has_maximum = random.boolean() and field.type != .bool;
        switch (field.type) {
            .f32, .f64 => {
                field.minimum = @bitCast(@as(f64, -2));
                field.maximum = @bitCast(@as(f64, 2));
            },
            else => {
                field.minimum = if (random.boolean() and @intFromEnum(field.type) >= @intFromEnum(catalogue.Type.i8)) @bitCast(@as(i64, -3)) else 1;
                field.maximum = 100;
            },
        }
        var cells: [24 * 8]u8 align(8) = @splat(0);
        const n = 1 + random.uintLessThan(usize, 24);
        for (0..n) |i| {
            const cell = cells[i * field.width ..][0..field.width];
            // Mostly what keeps the rule.
            if (random.uintLessThan(u8, 12) == 0) random.bytes(cell) else if (field.type == .f32) {
                const value: f32 = if (round % 9 == 0 and i == 3) std.math.nan(f32) else random.float(f32);
                cell[0..4].* = @bitCast(value);
            } else if (field.type == .f64) {
                cell[0..8].* = @bitCast(random.float(f64));
            } else cell[0] = if (field.type == .bool) 1 else 1 + random.uintLessThan(u8, 100);
        }
        const each = for (0..n) |i| {
            if (catalogue.checkCell(&field, cells[i * field.width ..][0..field.width]) != null) break false;
        } else true;
        const all = catalogue.keepAll(&field, cells[0 .. n * field.width]);
        // Without a rule nobody asks.
        if (field.constrained()) try std.testing.expectEqual(each, all);
    }
}
