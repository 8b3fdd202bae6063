//! Edges: numbers at their limits, calls in an order that is rare, columns that nobody touched for
//! longer than the change sets are kept.

const std = @import("std");
const abi = @import("abi.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const entity = @import("entity.zig");
const fuzz = @import("fuzz.zig");
const lend = @import("lend.zig");
const limits = @import("limits.zig");
const operations = @import("operations.zig");
const Store = @import("store.zig").Store;
const Strided = @import("head.zig").Strided;

const gpa = std.testing.allocator;

fn spawn(store: *Store, n: usize) ![]u64 {
    const keys = try gpa.alloc(u64, n);
    errdefer gpa.free(keys);
    const head = &store.head;
    try head.reserve(0, n, keys);
    const zero: u64 = 0;
    const cell: Strided = .{ .base = @ptrCast(&zero), .stride = 0 };
    try head.insertMany(0, keys, &.{cell});
    try head.insertMany(1, keys, &.{ cell, cell, cell });
    return keys;
}

fn column(field: u16, cells: anytype) abi.ColumnIn {
    return .{ .field = field, .cells = @intFromPtr(cells), .stride = @sizeOf(@TypeOf(cells[0])) };
}

test "undoing a bulk update that names a row twice restores what was there first" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const keys = try spawn(store, 3);
    defer gpa.free(keys);
    try store.commit();
    const before = fuzz.headSum(store);

    try store.begin();
    const twice = [_]u64{ keys[1], keys[1], keys[1] };
    const hps = [_]u16{ 1, 2, 3 };
    const rgbs = [_][3]u8{ .{ 1, 1, 1 }, .{ 2, 2, 2 }, .{ 3, 3, 3 } };
    try operations.updateMany(&store.head, 16, &twice, &.{ column(1, &hps), column(4, &rgbs) });
    try store.rollback();
    try std.testing.expectEqual(before, fuzz.headSum(store));
}

test "a bulk update that is refused leaves lent columns alone, too" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const keys = try spawn(store, 2);
    defer gpa.free(keys);
    try store.commit();
    const before = fuzz.headSum(store);

    try store.begin();
    _ = try lend.lend(&store.head, &store.views, 1, 0);
    const xs = [_]f32{ 5, 6 };
    const hps = [_]u16{ 1, 101 };
    const refused = operations.updateMany(&store.head, 16, keys, &.{ column(0, &xs), column(1, &hps) });
    try std.testing.expectError(error.Range, refused);
    try std.testing.expectEqual(@as(u64, 1), store.head.info.offset);
    try store.commit();
    try std.testing.expectEqual(before, fuzz.headSum(store));
}

test "an operation that is refused takes back what the ones before it wrote to lent columns" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const keys = try spawn(store, 2);
    defer gpa.free(keys);
    try store.commit();
    const before = fuzz.headSum(store);

    try store.begin();
    _ = try lend.lend(&store.head, &store.views, 1, 1);
    var bytes: [44]u8 = undefined;
    for ([_]u16{ 7, 101 }, 0..) |hp, i| {
        const operation = bytes[i * 22 ..][0..22];
        operation[0..4].* = .{ @intFromEnum(operations.Kind.update), 0, 16, 0 };
        std.mem.writeInt(u32, operation[4..8], 22, .little);
        std.mem.writeInt(u64, operation[8..16], keys[i], .little);
        std.mem.writeInt(u16, operation[16..18], 1, .little);
        std.mem.writeInt(u16, operation[18..20], 1, .little);
        std.mem.writeInt(u16, operation[20..22], hp, .little);
    }
    var key: u64 = 0;
    try std.testing.expectError(error.Range, operations.run(&store.head, &bytes, &key));
    try store.commit();
    try std.testing.expectEqual(before, fuzz.headSum(store));
}

test "columns whose rows moved while they were lent are refused, whole" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const keys = try spawn(store, 20);
    defer gpa.free(keys);
    try store.commit();
    const before = fuzz.headSum(store);

    try store.begin();
    const lent = try lend.lend(&store.head, &store.views, 1, 0);
    @memset(lent.scratch.data[0..8], 7);
    try store.head.delete(1, keys[0]);
    try std.testing.expectError(error.BadArgument, store.commit());
    const more = try spawn(store, 300);
    defer gpa.free(more);
    try std.testing.expectError(error.BadArgument, store.commit());
    try store.rollback();
    try std.testing.expectEqual(before, fuzz.headSum(store));
}

const Counted = struct {
    store: *Store,

    /// A keyed table (id 16) whose only field counts on, of a type and with a maximum or none.
    fn init(kind: catalogue.Type, maximum: ?u64) !Counted {
        var number = fuzz.field(0, kind, 1, catalogue.flag_auto | catalogue.flag_unique);
        if (maximum) |m| {
            number.flags |= catalogue.flag_maximum;
            number.maximum = m;
        }
        const tables = [_]catalogue.TableIn{ fuzz.table(0, .entities, &.{}), fuzz.table(16, .keyed, &.{number}) };
        const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 16 };
        const store = try Store.create(gpa, &in);
        try store.takeBaton();
        try store.begin();
        return .{ .store = store };
    }
    fn deinit(counted: Counted) void {
        counted.store.destroy() catch unreachable;
    }
    fn insert(counted: Counted, number: ?*const anyopaque) !void {
        const head = &counted.store.head;
        var key: [1]u64 = undefined;
        try head.reserve(1, 1, &key);
        try head.insert(1, key[0], &.{@ptrCast(number)});
    }
    fn insertMany(counted: Counted, n: usize) !void {
        const head = &counted.store.head;
        const keys = try gpa.alloc(u64, n);
        defer gpa.free(keys);
        try head.reserve(1, n, keys);
        try head.insertMany(1, keys, &.{null});
    }
};

test "a counter that cannot count on refuses the row, one by one and in bulk" {
    for ([_]catalogue.Type{ .u8, .i8, .u64, .i64 }) |kind| {
        const counted = try Counted.init(kind, null);
        defer counted.deinit();
        const highest: u64 = switch (kind) {
            .u8 => 255,
            .i8 => 127,
            .i64 => std.math.maxInt(i64),
            else => std.math.maxInt(u64),
        };
        const given = highest - 2;
        try counted.insert(&given);
        try std.testing.expectError(error.Range, counted.insertMany(3));
        try counted.insertMany(1);
        try counted.insert(null);
        try std.testing.expectError(error.Range, counted.insert(null));
        try std.testing.expectError(error.Range, counted.insertMany(1));
        try std.testing.expectEqual(highest +| 1, counted.store.head.info.found);
        try counted.store.commit();
    }
}

test "a counter keeps its field's own rules" {
    const counted = try Counted.init(.u32, 2);
    defer counted.deinit();
    try counted.insertMany(1);
    try std.testing.expectError(error.Range, counted.insertMany(2));
    try counted.insert(null);
    try std.testing.expectError(error.Range, counted.insert(null));
}

test "a number below zero does not move a counter, and an update does" {
    const counted = try Counted.init(.i32, null);
    defer counted.deinit();
    const below: i32 = -1;
    try counted.insert(&below);
    const head = &counted.store.head;
    const five: i32 = 5;
    try head.writeCell(1, 0, 0, head.tables[1].keyAt(0), std.mem.asBytes(&five));
    try counted.insertMany(1);
    try std.testing.expectEqual(@as(i32, 6), std.mem.bytesToValue(i32, head.tables[1].columns[0].cell(1)));
    try counted.store.commit();
}

test "what is committed after a put off version is not made part of it" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    var held: [limits.slots_max]usize = undefined;
    var holds: usize = 0;
    while (store.publishedVersion() == store.version) : (holds += 1) {
        held[holds] = store.views.acquire();
        try store.begin();
        gpa.free(try spawn(store, 1));
        try store.commit();
        _ = try store.publish(0, false);
    }
    const put_off = store.version;
    try store.begin();
    gpa.free(try spawn(store, 1));
    try store.commit();
    for (held[0..holds]) |slot| store.views.release(slot);
    try store.catchUp();
    try std.testing.expect(store.publishedVersion() < put_off);
    _ = try store.publish(0, false);
    try std.testing.expectEqual(put_off + 1, store.publishedVersion());
    try store.catchUp();
    try std.testing.expectEqual(put_off + 1, store.publishedVersion());
}

test "chunks of any budget come to an end and hold the whole" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    gpa.free(try spawn(store, 5));
    try store.commit();
    _ = try store.publish(0, false);
    const slot = store.views.acquire();
    defer store.views.release(slot);
    var encoder = delta.Encoder.init(gpa);
    defer encoder.deinit();
    for ([_]u32{ 1, 7, 8, 9, 40, 100 }) |budget| {
        var cursor: delta.Cursor = .{};
        var rows: u32 = 0;
        var blocks: usize = 0;
        while (cursor.done == 0) : (blocks += 1) {
            try std.testing.expect(blocks < 100);
            try encoder.cut(&store.head, &store.views.slots[slot], 0, &cursor, budget);
            rows += cursor.rows;
        }
        try std.testing.expectEqual(@as(u32, 10), rows);
    }
}

/// Compare a published table with the head, column by column.
fn expectPublished(store: *Store, number: usize) !void {
    const view = store.views.slots[store.views.current].tables[number];
    const table = &store.head.tables[number];
    try std.testing.expectEqual(table.rows, view.rows);
    try std.testing.expectEqualSlices(u64, table.keyList(), view.keyList());
    for (table.columns, view.columns) |*col, buffer| {
        const bytes = @as(usize, table.rows) * col.width;
        try std.testing.expectEqualSlices(u8, col.head[0..bytes], buffer.data[0..bytes]);
    }
}

test "columns idle beyond the ring, lent and held, equal the head when they move again" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    var prng = std.Random.DefaultPrng.init(31);
    const random = prng.random();
    try store.begin();
    const keys = try spawn(store, 150);
    defer gpa.free(keys);
    try store.commit();
    _ = try store.publish(0, false);

    const Held = struct { slot: usize, base: u64, sum: digest.Digest, block: []u8 };
    var helds: std.ArrayList(Held) = .empty;
    defer helds.deinit(gpa);
    defer for (helds.items) |held| gpa.free(held.block);
    var encoder = delta.Encoder.init(gpa);
    defer encoder.deinit();

    for (0..900) |round| {
        try store.begin();
        // Field 0 moves always, field 1 every 300 cuts, field 4 through a scratch every 130 or 270.
        for (0..3) |_| {
            const row = random.uintLessThan(u32, store.head.tables[1].rows);
            const x: f32 = @floatFromInt(round);
            try store.head.writeCell(1, row, 0, store.head.tables[1].keyAt(row), std.mem.asBytes(&x));
        }
        if (round % 300 == 299) {
            const hp: u16 = @intCast(round % 90);
            try store.head.writeCell(1, 7, 1, store.head.tables[1].keyAt(7), std.mem.asBytes(&hp));
        }
        if (round % 400 == 130 or round % 400 == 0) {
            const col = try lend.lend(&store.head, &store.views, 1, 2);
            const bytes = @as(usize, store.head.tables[1].rows) * 3;
            try std.testing.expectEqualSlices(u8, col.head[0..bytes], col.scratch.data[0..bytes]);
            col.scratch.data[random.uintLessThan(usize, bytes)] +%= 1;
        }
        try store.commit();
        if (round % 350 == 340) {
            try store.begin();
            const table = &store.head.tables[1];
            for (0..4) |_| try store.head.delete(0, table.keyAt(random.uintLessThan(u32, table.rows)));
            gpa.free(try spawn(store, 6));
            try store.commit();
        }
        _ = try store.publish(0, false);
        try expectPublished(store, 1);
        try std.testing.expectEqual(store.version, store.publishedVersion());
        if (round % 90 == 20) {
            const slot = store.views.acquire();
            const view = &store.views.slots[slot];
            const base = @max(1, view.version -| 40);
            var cursor: delta.Cursor = .{};
            try encoder.cut(&store.head, view, base, &cursor, 0);
            try helds.append(gpa, .{
                .slot = slot,
                .base = base,
                .sum = digest.ofSlot(&store.head, &store.views, slot),
                .block = try gpa.dupe(u8, encoder.out.items),
            });
        }
        if (helds.items.len == 0) continue;
        // A held view and the change sets it may read are the same for as long as it is held.
        const held = helds.items[random.uintLessThan(usize, helds.items.len)];
        try std.testing.expectEqual(held.sum, digest.ofSlot(&store.head, &store.views, held.slot));
        var cursor: delta.Cursor = .{};
        try encoder.cut(&store.head, &store.views.slots[held.slot], held.base, &cursor, 0);
        try std.testing.expectEqualSlices(u8, held.block, encoder.out.items);
        if (random.uintLessThan(u8, 150) == 0) {
            for (helds.items, 0..) |h, i| if (h.slot == held.slot) {
                store.views.release(h.slot);
                gpa.free(h.block);
                _ = helds.swapRemove(i);
                break;
            };
        }
    }
    for (helds.items) |held| store.views.release(held.slot);
    // Nobody is left to read what the ring let go of.
    try store.begin();
    gpa.free(try spawn(store, 1));
    try store.commit();
    _ = try store.publish(0, false);
    store.views.reclaim(&store.head);
    try std.testing.expectEqual(@as(usize, 0), store.views.retired_sets.items.len);
    try std.testing.expectEqual(@as(usize, 0), store.head.retired.items.len);
}

test "a reader that comes and goes while pins are counted does not count below nothing" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    // As the counter sees it when both happen between its two reads.
    store.views.release(store.views.current);
    try std.testing.expectEqual(@as(u64, 0), store.views.pins());
    store.views.release(store.views.acquire());
    try std.testing.expectEqual(store.views.current, store.views.acquire());
    try std.testing.expectEqual(@as(u64, 0), store.views.pins());
}

test "the last generation of a place, undone and not" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const keys = try spawn(store, 1);
    defer gpa.free(keys);
    try store.head.delete(0, keys[0]);
    try store.commit();
    _ = try store.publish(0, false);
    const space = &store.head.spaces[0];
    space.places.items[0].generation = std.math.maxInt(u31) - 1;

    try store.begin();
    const last = try spawn(store, 1);
    defer gpa.free(last);
    try std.testing.expectEqual(entity.Key{ .index = 0, .generation = std.math.maxInt(u31) }, entity.Key.of(last[0]));
    try store.commit();
    const before = fuzz.headSum(store);
    try store.begin();
    try store.head.delete(0, last[0]);
    const next = try spawn(store, 1);
    defer gpa.free(next);
    try std.testing.expect(entity.Key.of(next[0]).index != 0);
    try store.rollback();
    try std.testing.expectEqual(before, fuzz.headSum(store));
    try fuzz.checkHead(store);
}

test "as many entities as there may be, and not one more, however often it is undone" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    for (0..3) |_| {
        try store.begin();
        gpa.free(try spawn(store, 4096));
        try std.testing.expectError(error.Limit, spawn(store, 1));
        try store.rollback();
        try std.testing.expectEqual(@as(u32, 0), store.head.spaces[0].alive_count);
        // What was undone waits for the next cut.
        try store.begin();
        try std.testing.expectError(error.Limit, spawn(store, 1));
        try store.rollback();
        const number = [_]u8{0} ** 8;
        try store.begin();
        var own: [1]u64 = undefined;
        try store.head.reserve(4, 1, &own);
        try store.head.insert(4, own[0], &.{ &number, &number, &number });
        try store.commit();
        _ = try store.publish(0, false);
    }
}
