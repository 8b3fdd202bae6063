//! Cells of several writers where memory runs out, where bytes are anything, and what a catalogue may ask for. That all
//! nodes come to hold the same is tried out against a model in `tests/kernel/test_stamps.py`.

const std = @import("std");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const fuzz = @import("fuzz.zig");
const stamps = @import("stamps.zig");
const stamps_cut = @import("stamps_cut.zig");
const Failing = @import("oom_test.zig").Failing;
const Store = @import("store.zig").Store;

const gpa = std.testing.allocator;

const zeros: [8]u8 = @splat(0);

fn withDefault(of: catalogue.FieldIn) catalogue.FieldIn {
    var field = of;
    field.flags |= catalogue.flag_default;
    field.default = @intFromPtr(&zeros);
    return field;
}

const entities_fields = [_]catalogue.FieldIn{fuzz.field(0, .u64, 1, 0)};
const clocks_fields = [_]catalogue.FieldIn{ fuzz.field(0, .u64, 1, 0), fuzz.field(1, .u32, 1, 0), fuzz.field(2, .u64, 1, catalogue.flag_unique) };
const tombstones_fields = [_]catalogue.FieldIn{
    fuzz.field(0, .u64, 1, 0),
    fuzz.field(1, .u64, 1, 0),
    fuzz.field(2, .bytes, catalogue.tombstone_name_bytes, catalogue.flag_unique),
};

fn create(child: std.mem.Allocator, own: []const catalogue.FieldIn) !*Store {
    var tables = [_]catalogue.TableIn{
        fuzz.table(0, .entities, &entities_fields),
        fuzz.table(14, .keyed, &clocks_fields),
        fuzz.table(15, .keyed, &tombstones_fields),
        fuzz.table(16, .keyed, own),
    };
    tables[3].conflict = @intFromEnum(catalogue.Conflict.lww);
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 64 };
    const store = try Store.create(child, &in);
    errdefer store.destroy() catch unreachable;
    try store.takeBaton();
    _ = try store.publish(0, true);
    return store;
}

fn open(child: std.mem.Allocator, node: u64) !*Store {
    const own = [_]catalogue.FieldIn{
        fuzz.field(0, .u32, 1, catalogue.flag_unique),
        withDefault(fuzz.field(1, .u16, 1, catalogue.flag_maximum)),
        withDefault(fuzz.field(2, .string, 12, 0)),
    };
    const store = try create(child, &own);
    stamps.become(&store.head, node);
    store.head.clock.now_ms = 1000;
    return store;
}

fn insert(store: *Store, name: u32, count: u16, text: []const u8) !void {
    try store.begin();
    errdefer store.rollback() catch unreachable;
    const head = &store.head;
    var key: [1]u64 = undefined;
    try head.reserve(3, 1, &key);
    const reference = try head.heap.intern(text);
    const cells = [_]?[*]const u8{ @ptrCast(&name), @ptrCast(&count), @ptrCast(&reference), null, null, null };
    try head.insert(3, key[0], &cells);
    try store.commit();
}

fn delete(store: *Store, row: u32) !void {
    try store.begin();
    errdefer store.rollback() catch unreachable;
    try store.head.delete(3, store.head.tables[3].keyAt(row));
    try store.commit();
}

fn merge(store: *Store, bytes: []const u8) !void {
    try store.begin();
    errdefer store.rollback() catch unreachable;
    var arena: std.heap.ArenaAllocator = .init(store.counting.child);
    defer arena.deinit();
    _ = try stamps.merge(&store.head, arena.allocator(), bytes);
    try store.commit();
}

fn cutAll(store: *Store) ![]u8 {
    _ = try store.publish(store.version + 1, false);
    const slot = store.views.acquire();
    defer store.views.release(slot);
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    var out: std.ArrayList(u8) = .empty;
    errdefer out.deinit(gpa);
    var cutter: stamps_cut.Cutter = .{
        .head = &store.head,
        .slot = &store.views.slots[slot],
        .base = 0,
        .whose = .all,
        .other = 0,
        .arena = arena.allocator(),
        .out = &out,
        .w = .{ .gpa = gpa, .out = &out },
    };
    var cursor: stamps_cut.Cursor = .{};
    try cutter.cut(&cursor, 0);
    return out.toOwnedSlice(gpa);
}

fn close(store: *Store) void {
    store.giveBaton();
    store.destroy() catch unreachable;
}

test "a table that cannot be merged cell by cell is no catalogue" {
    const key = fuzz.field(0, .u32, 1, catalogue.flag_unique);
    const plain = withDefault(fuzz.field(1, .u16, 1, 0));
    var reference = fuzz.field(1, .u64, 1, catalogue.flag_foreign_key | catalogue.flag_optional);
    reference = withDefault(reference);
    for ([_][]const catalogue.FieldIn{
        &.{plain}, // nothing names a row
        &.{ key, fuzz.field(1, .u16, 1, 0) }, // what would a cell be that did not come?
        &.{ key, withDefault(fuzz.field(1, .u16, 1, catalogue.flag_unique)) },
        &.{ key, reference },
        &.{ fuzz.field(0, .bytes, 33, catalogue.flag_unique), plain },
        &.{ fuzz.field(0, .f32, 1, catalogue.flag_unique), plain },
    }) |fields| try std.testing.expectError(error.BadCatalogue, create(gpa, fields));
    close(try create(gpa, &.{ key, plain }));
}

test "a transaction that is undone leaves stamps and tombstones as they were" {
    const store = try open(gpa, 1);
    defer close(store);
    try insert(store, 1, 5, "a");
    try insert(store, 2, 6, "b");
    const before = fuzz.headSum(store);
    try store.begin();
    try store.head.delete(3, store.head.tables[3].keyAt(0));
    try stamps.stampWritten(&store.head, store.scratch.allocator());
    try std.testing.expect(fuzz.headSum(store) != before);
    try std.testing.expectEqual(1, stamps.tombstones(&store.head).?.rows);
    try store.rollback();
    try std.testing.expectEqual(before, fuzz.headSum(store));
}

test "writing and merging are whole where memory runs out, at every single allocation" {
    const source = try open(gpa, 2);
    defer close(source);
    for (0..3) |i| try insert(source, @intCast(i), 7, "from there");
    try delete(source, 0);
    const block = try cutAll(source);
    defer gpa.free(block);
    var left: usize = 0;
    while (true) : (left += 1) {
        var failing: Failing = .{ .child = gpa, .left = left, .for_good = false, .armed = false };
        const store = try open(failing.allocator(), 1);
        defer close(store);
        failing.armed = true;
        const Step = enum { first, second, gone, merged };
        for ([_]Step{ .first, .second, .gone, .merged }) |step| {
            const before = fuzz.headSum(store);
            for (0..2) |again| {
                const done = switch (step) {
                    .first => insert(store, 0, 1, "x"),
                    .second => insert(store, 9, 2, "y"),
                    .gone => delete(store, 0),
                    .merged => merge(store, block),
                };
                done catch |err| {
                    try std.testing.expectEqual(error.OutOfMemory, @as(anyerror, err));
                    try std.testing.expectEqual(before, fuzz.headSum(store));
                    try std.testing.expectEqual(0, again);
                    continue;
                };
                break;
            }
            try fuzz.checkHead(store);
        }
        try std.testing.expectEqual(3, store.head.tables[3].rows);
        if (!failing.failed) break;
    }
    try std.testing.expect(left > 10);
}

fn strangers(_: void, smith: *std.testing.Smith) !void {
    var room: [256]u8 = undefined;
    const bytes = room[0..smith.slice(&room)];
    const store = try open(gpa, 1);
    defer close(store);
    try insert(store, 1, 5, "a");
    const before = fuzz.headSum(store);
    if (merge(store, bytes)) |_| {} else |_| try std.testing.expectEqual(before, fuzz.headSum(store));
    try fuzz.checkHead(store);
}

test "fuzz: any bytes are merged whole or not at all" {
    try std.testing.fuzz({}, strangers, .{});
}

test "what another node tells is merged whole or not at all, whichever bytes of it are damaged" {
    const source = try open(gpa, 2);
    defer close(source);
    for (0..4) |i| try insert(source, @intCast(i), 7, "from there");
    try delete(source, 0);
    const block = try cutAll(source);
    defer gpa.free(block);
    var random: std.Random.DefaultPrng = .init(5);
    var refused: usize = 0;
    for (0..400) |_| {
        const bytes = try gpa.dupe(u8, block);
        defer gpa.free(bytes);
        for (0..1 + random.random().uintLessThan(usize, 3)) |_| {
            bytes[random.random().uintLessThan(usize, bytes.len)] = random.random().int(u8);
        }
        const length = if (random.random().boolean()) bytes.len else random.random().uintLessThan(usize, bytes.len);
        const store = try open(gpa, 1);
        defer close(store);
        try insert(store, 1, 5, "a");
        const before = fuzz.headSum(store);
        if (merge(store, bytes[0..length])) |_| {} else |_| {
            refused += 1;
            try std.testing.expectEqual(before, fuzz.headSum(store));
        }
        try fuzz.checkHead(store);
    }
    try std.testing.expect(refused > 100 and refused < 400);
}
