//! Event rows: how long they live, in which order they are told, and what they are no part of.

const std = @import("std");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const events = @import("events.zig");
const fuzz = @import("fuzz.zig");
const references = @import("references.zig");
const operations = @import("operations.zig");
const Store = @import("store.zig").Store;

const testing = std.testing;

/// Tables 16 to 18: two of events, one of which refers to an entity, and one that nobody is told of.
fn newStore() !*Store {
    return newStoreIn(testing.allocator);
}

fn newStoreIn(child: std.mem.Allocator) !*Store {
    const hit_fields = [_]catalogue.FieldIn{
        fuzz.field(0, .u64, 1, catalogue.flag_foreign_key | catalogue.flag_optional),
        fuzz.field(1, .u16, 1, 0),
    };
    const sound_fields = [_]catalogue.FieldIn{fuzz.field(0, .u8, 1, 0)};
    var secret = fuzz.table(18, .event, &sound_fields);
    secret.replicated = 0;
    const tables = [_]catalogue.TableIn{
        fuzz.table(0, .entities, &.{}),
        fuzz.table(16, .event, &hit_fields),
        fuzz.table(17, .event, &sound_fields),
        secret,
    };
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 64 };
    const store = try Store.create(child, &in);
    try store.takeBaton();
    _ = try store.publish(0, true);
    return store;
}

fn sounds(store: *Store, table: u16, first: u8, n: u8) !void {
    for (first..first + n) |number| {
        var key: [1]u64 = undefined;
        try store.head.reserve(table, 1, &key);
        const cell: u8 = @intCast(number);
        try store.head.insert(table, key[0], &.{@ptrCast(&cell)});
    }
}

fn hit(store: *Store, target: u64, damage: u16) !void {
    var key: [1]u64 = undefined;
    try store.head.reserve(1, 1, &key);
    try store.head.insert(1, key[0], &.{ @ptrCast(&target), @ptrCast(&damage) });
}

test "an event row is in its version, in the transactions that make it, and in no later one" {
    const store = try newStore();
    defer store.destroy() catch unreachable;
    try store.begin();
    try sounds(store, 2, 1, 2);
    try store.commit();
    try store.begin();
    try testing.expectEqual(@as(u32, 2), store.head.tables[2].rows);
    try sounds(store, 2, 3, 1);
    try store.commit();
    try testing.expect(try store.publish(1, false));
    const slot = store.views.acquire();
    defer store.views.release(slot);
    try testing.expectEqual(@as(u32, 3), store.views.slots[slot].tables[2].rows);

    // A transaction that comes to nothing makes no version of it.
    try store.begin();
    try testing.expectEqual(@as(u32, 0), store.head.tables[2].rows);
    try store.rollback();
    try testing.expect(!try store.publish(2, false));
    try store.begin();
    try sounds(store, 2, 9, 1);
    try store.commit();
    try testing.expect(try store.publish(3, false));
    const next = store.views.acquire();
    defer store.views.release(next);
    try testing.expectEqual(@as(u32, 1), store.views.slots[next].tables[2].rows);
    try testing.expectEqual(@as(u8, 9), store.views.slots[next].tables[2].columns[0].data[0]);
    try testing.expectEqual(@as(u32, 3), store.views.slots[slot].tables[2].rows);
}

test "rows are told in the order in which they came, whatever was undone between" {
    const store = try newStore();
    defer store.destroy() catch unreachable;
    var encoder = delta.Encoder.init(testing.allocator);
    defer encoder.deinit();
    try store.begin();
    try sounds(store, 2, 1, 1);
    try hit(store, 0, 7);
    const mark = store.head.mark();
    try hit(store, 0, 8);
    try sounds(store, 2, 2, 3);
    store.head.undoTo(mark);
    try sounds(store, 3, 90, 1);
    try hit(store, 0, 9);
    try sounds(store, 2, 2, 2);
    try store.commit();
    try store.begin();
    try hit(store, 0, 99);
    try store.rollback();

    var cursor: delta.Cursor = .{};
    try events.encode(&store.head, &encoder, &cursor, 0, &.{});
    try testing.expectEqual(@as(u32, 5), cursor.rows);
    try testing.expectEqualSlices(u8, &([_]u8{ events.version, 0, 2, 0, 36, 0, 0, 0 } ++
        // hits: targets all null, damage 7 and 9
        [_]u8{ 16, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 9, 0 } ++
        // sounds 1, 2, 3, of which none is told of the secret table's
        [_]u8{ 17, 0, 3, 0, 0, 0, 0, 1, 2, 3 } ++
        // sound, two hits, two sounds
        [_]u8{ 1, 1, 0, 2, 1, 2 }), encoder.out.items);

    // In pieces of one row each it is the same five rows.
    cursor = .{};
    var pieces: u32 = 0;
    while (cursor.done == 0) {
        try events.encode(&store.head, &encoder, &cursor, 1, &.{});
        if (cursor.rows == 0) break;
        pieces += 1;
        try testing.expectEqual(@as(u32, 1), cursor.rows);
        try testing.expectEqual(@as(u16, 1), std.mem.readInt(u16, encoder.out.items[2..4], .little));
    }
    try testing.expectEqual(@as(u32, 5), pieces);
}

test "whoever may not see a table or a field is told of neither, and of the rest in the same order" {
    const store = try newStore();
    defer store.destroy() catch unreachable;
    var encoder = delta.Encoder.init(testing.allocator);
    defer encoder.deinit();
    try store.begin();
    try hit(store, 0, 7);
    try sounds(store, 2, 1, 2);
    try hit(store, 0, 9);
    try store.commit();

    var cursor: delta.Cursor = .{};
    try events.encode(&store.head, &encoder, &cursor, 0, &.{ .{ .table = 17, .field = events.whole_table }, .{ .table = 16, .field = 1 } });
    try testing.expectEqual(@as(u32, 2), cursor.rows);
    try testing.expectEqualSlices(u8, &([_]u8{ events.version, 0, 1, 0, 16, 0, 0, 0 } ++
        // two hits: targets all null, and nothing of the damage
        [_]u8{ 16, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 15 }), encoder.out.items);

    // In pieces, too, and nothing at all for whom both are hidden.
    cursor = .{};
    var rows: u32 = 0;
    while (cursor.done == 0) {
        try events.encode(&store.head, &encoder, &cursor, 1, &.{.{ .table = 16, .field = events.whole_table }});
        rows += cursor.rows;
    }
    try testing.expectEqual(@as(u32, 2), rows);
    cursor = .{};
    try events.encode(&store.head, &encoder, &cursor, 0, &.{ .{ .table = 16, .field = events.whole_table }, .{ .table = 17, .field = events.whole_table } });
    try testing.expectEqual(@as(u8, 1), cursor.done);
    try testing.expectEqual(@as(usize, 0), encoder.out.items.len);
}

test "whom an event names may go, and deltas and digests know nothing of events" {
    const store = try newStore();
    defer store.destroy() catch unreachable;
    var encoder = delta.Encoder.init(testing.allocator);
    defer encoder.deinit();
    var target: [1]u64 = undefined;
    try store.begin();
    try store.head.reserve(0, 1, &target);
    try store.head.insert(0, target[0], &.{});
    try store.commit();
    _ = try store.publish(1, false);
    const before = digest.ofSlot(&store.head, &store.views, store.views.current);
    try store.begin();
    try hit(store, target[0], 1);
    try store.commit();
    _ = try store.publish(2, false);
    try testing.expectEqual(before, digest.ofSlot(&store.head, &store.views, store.views.current));
    var cursor: delta.Cursor = .{};
    try encoder.cut(&store.head, &store.views.slots[store.views.current], 1, &cursor, 0);
    try testing.expectEqual(block.wire_header_bytes, encoder.out.items.len);

    try store.begin();
    try hit(store, target[0], 2);
    try store.commit();
    try store.begin();
    try hit(store, target[0], 3);
    try references.delete(&store.head, 0, target[0]);
    try store.commit();
    try testing.expectEqual(@as(u32, 2), store.head.tables[1].rows);
    // But who is not there when it is told cannot be named.
    try store.begin();
    try hit(store, target[0], 3);
    try testing.expectError(error.ForeignKey, store.commit());
    try store.rollback();
    // And what has happened stays so.
    try store.begin();
    try testing.expectError(error.EventRow, operations.deleteMany(&store.head, 16, &.{store.head.tables[1].keyAt(0)}));
    try store.rollback();
}

test "where memory fails nothing is lost, told twice or left behind" {
    // Each allocation of this life fails once; what it was for is done again.
    var number: usize = 0;
    while (true) : (number += 1) {
        var failing = std.testing.FailingAllocator.init(testing.allocator, .{});
        const store = try newStoreIn(failing.allocator());
        defer store.destroy() catch unreachable;
        var encoder = delta.Encoder.init(failing.allocator());
        defer encoder.deinit();
        failing.fail_index = failing.alloc_index + number;
        var version_number: u8 = 1;
        while (version_number <= 3) : (version_number += 1) {
            try again(Store.begin, .{store}, &failing);
            try testing.expectEqual(@as(usize, 0), store.head.events.runs.items.len);
            for (0..40) |i| {
                if (i % 3 == 0) {
                    try again(hit, .{ store, 0, @as(u16, @intCast(i)) }, &failing);
                } else try again(sounds, .{ store, 2, @as(u8, @intCast(i)), 1 }, &failing);
            }
            try again(Store.commit, .{store}, &failing);
            var cursor: delta.Cursor = .{};
            try again(events.encode, .{ &store.head, &encoder, &cursor, 0, @as([]const events.Hidden, &.{}) }, &failing);
            try testing.expectEqual(@as(u32, 40), cursor.rows);
            try again(Store.publish, .{ store, version_number, false }, &failing);
            const shown = store.views.slots[store.views.current].tables;
            try testing.expectEqual(@as(u32, 14), shown[1].rows);
            try testing.expectEqual(@as(u32, 26), shown[2].rows);
        }
        if (!failing.has_induced_failure) break;
    }
    try testing.expect(number > 20);
}

/// Do it; where memory failed, there is some again, and it is done again.
fn again(comptime call: anytype, arguments: anytype, failing: *std.testing.FailingAllocator) !void {
    _ = @call(.auto, call, arguments) catch |err| {
        try testing.expectEqual(error.OutOfMemory, @as(anyerror, err));
        try testing.expect(failing.has_induced_failure);
        failing.fail_index = std.math.maxInt(usize);
        _ = try @call(.auto, call, arguments);
    };
}
