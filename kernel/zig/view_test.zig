//! Readers on threads against a writer that never waits for them. Run under ThreadSanitizer too.
//!
//! Every version fills both columns of every row with its own number, so a reader that sees two numbers
//! has seen two versions at once, and a held view whose numbers change was written under its reader.

const std = @import("std");
const catalogue = @import("catalogue.zig");
const redo = @import("redo.zig");
const Store = @import("store.zig").Store;

const rows = 300;
const versions = 3000;

const Reader = struct {
    store: *Store,
    stop: *std.atomic.Value(bool),
    ready: *std.atomic.Value(u32),
    seed: u64,
    views: u64 = 0,
    wrong: u64 = 0,

    fn check(reader: *Reader, slot: usize, version: u64) void {
        const s = &reader.store.views.slots[slot];
        if (s.version != version) reader.wrong += 1;
        const table = s.tables[1];
        for (table.columns) |buffer| {
            const cells = @as([*]const u32, @ptrCast(buffer.data.ptr))[0..table.rows];
            for (cells) |cell| if (cell != version) {
                reader.wrong += 1;
            };
        }
        for (table.keyList(), 0..) |key, row| if (table.find(key) != @as(?u32, @intCast(row))) {
            reader.wrong += 1;
        };
    }

    fn run(reader: *Reader) void {
        var prng = std.Random.DefaultPrng.init(reader.seed);
        var held: ?usize = null;
        var held_version: u64 = 0;
        var newest: u64 = 0;
        while (!reader.stop.load(.monotonic)) {
            const slot = reader.store.views.acquire();
            const version = reader.store.views.slots[slot].version;
            if (version < newest) reader.wrong += 1;
            newest = version;
            reader.check(slot, version);
            if (reader.views == 0) _ = reader.ready.fetchAdd(1, .monotonic);
            reader.views += 1;
            if (held) |h| {
                reader.check(h, held_version);
                if (prng.random().uintLessThan(u8, 8) == 0) {
                    reader.store.views.release(h);
                    held = null;
                }
            }
            if (held == null and prng.random().boolean()) {
                held = slot;
                held_version = version;
            } else reader.store.views.release(slot);
        }
        if (held) |h| reader.store.views.release(h);
    }
};

test "readers on threads see whole versions that never change and never go back" {
    try live(false);
}

test "so they do where versions are held until they are on a disk, and put off meanwhile" {
    try live(true);
}

fn live(logged: bool) !void {
    const gpa = std.testing.allocator;
    const owner = [_]catalogue.FieldIn{plain(0, .u64)};
    const cells = [_]catalogue.FieldIn{ plain(0, .u32), plain(1, .u32) };
    const tables = [_]catalogue.TableIn{
        .{ .id = 0, .kind = 0, .replicated = 1, .field_count = 1, .rows_max = 0, .fields = @intFromPtr(&owner) },
        .{ .id = 16, .kind = 1, .replicated = 1, .field_count = 2, .rows_max = 0, .fields = @intFromPtr(&cells) },
    };
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 4096 };
    const store = try Store.create(gpa, &in);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    _ = try store.publish(0, true);
    if (logged) try redo.finish(store);

    var stop: std.atomic.Value(bool) = .init(false);
    var ready: std.atomic.Value(u32) = .init(0);
    var readers: [2]Reader = undefined;
    var threads: [2]std.Thread = undefined;
    for (&readers, &threads, 0..) |*reader, *thread, i| {
        reader.* = .{ .store = store, .stop = &stop, .ready = &ready, .seed = i };
        thread.* = try std.Thread.spawn(.{}, Reader.run, .{reader});
    }
    // A busy machine may run the writer to its end before a reader has begun.
    while (ready.load(.monotonic) < readers.len) try std.Thread.yield();
    var prng = std.Random.DefaultPrng.init(9);
    var deferred: u64 = 0;
    var most: u64 = 0;
    var most_held: u64 = 0;
    for (0..versions) |_| {
        try oneVersion(store, prng.random());
        if (logged) {
            _ = try store.seal(0, prng.random().boolean());
            // The disk is some versions behind, or has all.
            _ = try store.release(store.version -| prng.random().uintLessThan(u64, 4));
            most_held = @max(most_held, store.version - store.publishedVersion());
        } else _ = try store.publish(0, false);
        if (store.publishedVersion() != store.version) deferred += 1;
        // Asked for while they come and go, it is some number near theirs: one that moves from a slot to
        // another meanwhile may count in both, or in none. On a busy machine that happens more than once.
        for (0..20) |_| most = @max(most, store.views.pins());
    }
    stop.store(true, .monotonic);
    for (&threads) |thread| thread.join();

    for (&readers) |*reader| {
        try std.testing.expectEqual(@as(u64, 0), reader.wrong);
        try std.testing.expect(reader.views > 0);
    }
    try std.testing.expect(most <= 64);
    // Two readers hold at most two views each: there is always room to publish.
    if (logged) try std.testing.expect(most_held > 2) else try std.testing.expectEqual(@as(u64, 0), deferred);
    try std.testing.expectEqual(@as(u64, 0), store.views.deferred);
    try std.testing.expectEqual(@as(u64, 0), store.views.pins());
}

/// Replace some entities, and write the version's number into every cell.
fn oneVersion(store: *Store, random: std.Random) !void {
    const head = &store.head;
    try store.begin();
    const number: u32 = @intCast(store.version + 1);
    const cell: [*]const u8 = std.mem.asBytes(&number);
    const table = &head.tables[1];
    for (0..5) |_| {
        if (table.rows > rows / 2) try head.delete(0, table.keyAt(random.uintLessThan(u32, table.rows)));
    }
    while (table.rows < rows) {
        var key: [1]u64 = undefined;
        try head.reserve(0, 1, &key);
        const owner: u64 = 0;
        try head.insert(0, key[0], &.{std.mem.asBytes(&owner)});
        try head.insert(1, key[0], &.{ cell, cell });
    }
    for (0..rows) |row| {
        for (0..2) |field| try head.writeCell(1, @intCast(row), field, table.keyAt(@intCast(row)), cell[0..4]);
    }
    try store.commit();
}

fn plain(id: u16, kind: catalogue.Type) catalogue.FieldIn {
    return .{
        .id = id,
        .type = @intFromEnum(kind),
        .on_delete = 0,
        .flags = 0,
        .count = 1,
        .enum_count = 0,
        .minimum = 0,
        .maximum = 0,
        .enum_values = 0,
        .default = 0,
    };
}
