//! Snapshots: what is written is what is loaded, and bytes that are anything else are refused or harmless.

const std = @import("std");
const crypto = @import("crypto.zig");
const digest = @import("digest.zig");
const fuzz = @import("fuzz.zig");
const redo = @import("redo.zig");
const snapshot = @import("snapshot.zig");
const storage_file = @import("storage.zig");
const Memory = @import("storage_memory.zig").Memory;
const Storage = storage_file.Storage;
const Store = @import("store.zig").Store;

const gpa = std.testing.allocator;
const database: [16]u8 = @splat(7);
const fingerprint: [16]u8 = @splat(9);

fn begin(storage: Storage, store: *Store) !*snapshot.Writer {
    try store.takeBaton();
    defer store.giveBaton();
    return .begin(gpa, storage, store, database, 3, fingerprint, 1234);
}

/// A snapshot of the newest version. Its name belongs to `room`.
fn take(storage: Storage, store: *Store, room: *[40]u8) !snapshot.Info {
    const writer = try begin(storage, store);
    defer writer.deinit();
    while (!try writer.step()) {}
    _ = snapshot.nameOf(writer.info.header.version, false, room);
    return writer.info;
}

/// Load a file into a fresh store that goes on from there.
fn load(storage: Storage, path: []const u8) !*Store {
    var reader: snapshot.Reader = .{ .gpa = gpa, .storage = storage };
    defer reader.deinit();
    try reader.open(path, .write);
    try reader.verify();
    const store = try fuzz.newStoreIn(gpa);
    errdefer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try snapshot.load(&reader, store);
    try redo.finish(store);
    return store;
}

fn sum(store: *Store) digest.Digest {
    return digest.ofSlot(&store.head, &store.views, store.views.current);
}

fn same(a: *Store, b: *Store) !void {
    try std.testing.expectEqual(sum(a), sum(b));
    for (a.head.tables, b.head.tables) |*one, *other| {
        try std.testing.expectEqual(one.auto, other.auto);
        try std.testing.expectEqual(one.space.alive_count, other.space.alive_count);
        const places: []const u32 = @ptrCast(one.space.places.items);
        try std.testing.expectEqualSlices(u32, places, @ptrCast(other.space.places.items));
    }
    try fuzz.checkHead(b);
}

fn fileOf(storage: Storage, path: []const u8) ![]u8 {
    const handle = try storage.open(path, .read);
    defer storage.close(handle);
    const bytes = try gpa.alloc(u8, @intCast(try storage.size(handle)));
    errdefer gpa.free(bytes);
    try std.testing.expectEqual(bytes.len, try storage.read(handle, 0, bytes));
    return bytes;
}

fn put(storage: Storage, path: []const u8, bytes: []const u8) !void {
    storage.remove(path) catch {};
    const handle = try storage.open(path, .create);
    defer storage.close(handle);
    try storage.write(handle, 0, bytes);
}

/// A memory with one snapshot of a random world.
const Fixture = struct {
    memory: *Memory,
    store: *Store,
    info: snapshot.Info,
    name_bytes: [40]u8 = undefined,

    fn init(seed: u64, rounds: u32, rows: u32) !Fixture {
        var prng = std.Random.DefaultPrng.init(seed);
        const memory = try Memory.create(gpa, 1);
        errdefer memory.destroy();
        const store = try fuzz.newStoreIn(gpa);
        errdefer store.destroy() catch unreachable;
        for (0..rounds) |_| try fuzz.World.grow(store, prng.random(), rows);
        var fixture: Fixture = .{ .memory = memory, .store = store, .info = undefined };
        fixture.info = try take(memory.storage(), store, &fixture.name_bytes);
        return fixture;
    }
    fn deinit(fixture: *Fixture) void {
        fixture.store.destroy() catch unreachable;
        fixture.memory.destroy();
    }
    fn name(fixture: *Fixture) []const u8 {
        return fixture.name_bytes[0 .. fixture.name_bytes.len - 10];
    }
};

test "what is written is what is loaded: rows, generations, counters and texts" {
    for ([_]struct { u32, u32 }{ .{ 1, 4 }, .{ 6, 60 }, .{ 3, 900 } }, 1..) |size, seed| {
        var fixture = try Fixture.init(seed, size[0], size[1]);
        defer fixture.deinit();
        const loaded = try load(fixture.memory.storage(), fixture.name());
        defer loaded.destroy() catch unreachable;
        try same(fixture.store, loaded);
        const halves = sum(loaded).halves();
        try std.testing.expectEqualSlices(u8, std.mem.asBytes(&halves), &fixture.info.header.digest);
        try std.testing.expectEqual(size[0], fixture.info.header.version);
    }
}

test "a store that has nothing has a snapshot too" {
    var fixture = try Fixture.init(1, 0, 0);
    defer fixture.deinit();
    const loaded = try load(fixture.memory.storage(), fixture.name());
    defer loaded.destroy() catch unreachable;
    try same(fixture.store, loaded);
}

test "commits go on while it is written, and it is of the version that it began with" {
    var prng = std.Random.DefaultPrng.init(5);
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    for (0..4) |_| try fuzz.World.grow(store, prng.random(), 200);
    const before = sum(store).halves();
    const writer = try begin(memory.storage(), store);
    defer writer.deinit();
    var last: u64 = 0;
    while (!try writer.step()) {
        try fuzz.World.grow(store, prng.random(), 20);
        try std.testing.expect(writer.done >= last and writer.done <= writer.total);
        last = writer.done;
    }
    try std.testing.expectEqual(writer.total, writer.done);
    try std.testing.expectEqual(4, writer.info.header.version);
    const loaded = try load(memory.storage(), writer.name());
    defer loaded.destroy() catch unreachable;
    try std.testing.expectEqual(before, sum(loaded).halves());
    try std.testing.expect(!std.mem.eql(u64, &before, &sum(store).halves()));
    try std.testing.expectEqual(0, store.views.pins());
}

test "a snapshot that is given up leaves no file and no pin" {
    var prng = std.Random.DefaultPrng.init(6);
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try fuzz.World.grow(store, prng.random(), 50);
    for (0..4) |steps| {
        const writer = try begin(memory.storage(), store);
        for (0..steps) |_| try std.testing.expect(!try writer.step());
        writer.deinit();
        try std.testing.expectEqual(0, store.views.pins());
        const names = memory.storage().list(gpa, "snap") catch continue;
        defer storage_file.freeNames(gpa, names);
        try std.testing.expectEqual(0, names.len);
    }
}

test "any flipped bit is refused, or of a byte that says nothing" {
    var fixture = try Fixture.init(3, 2, 6);
    defer fixture.deinit();
    const storage = fixture.memory.storage();
    const bytes = try fileOf(storage, fixture.name());
    defer gpa.free(bytes);
    var prng = std.Random.DefaultPrng.init(7);
    var refused: usize = 0;
    for (0..bytes.len) |i| {
        // Zeros between what counts are many: a sample of them will do.
        if (bytes[i] == 0 and i % 17 != 0) continue;
        const bit = @as(u8, 1) << prng.random().int(u3);
        bytes[i] ^= bit;
        defer bytes[i] ^= bit;
        try put(storage, "snap/other", bytes);
        if (load(storage, "snap/other")) |loaded| {
            defer loaded.destroy() catch unreachable;
            try same(fixture.store, loaded);
        } else |err| {
            try std.testing.expect(err == error.Corrupt);
            refused += 1;
        }
    }
    try std.testing.expect(refused > 500);
}

test "a file that ends early, or goes on, is refused" {
    var fixture = try Fixture.init(4, 2, 30);
    defer fixture.deinit();
    const storage = fixture.memory.storage();
    const bytes = try fileOf(storage, fixture.name());
    defer gpa.free(bytes);
    const longer = try gpa.alloc(u8, bytes.len + 4096);
    defer gpa.free(longer);
    @memset(longer, 0);
    @memcpy(longer[0..bytes.len], bytes);
    var length: usize = 0;
    while (length <= longer.len) : (length += 512) {
        if (length == bytes.len) continue;
        try put(storage, "snap/other", longer[0..length]);
        try std.testing.expectError(error.Corrupt, load(storage, "snap/other"));
    }
}

test "a newer format and a header of another file are told apart from damage" {
    var fixture = try Fixture.init(4, 2, 30);
    defer fixture.deinit();
    const storage = fixture.memory.storage();
    const bytes = try fileOf(storage, fixture.name());
    defer gpa.free(bytes);
    std.mem.writeInt(u32, bytes[8..12], 2, .little);
    bytes[4080..4096].* = crypto.checksum(&.{bytes[0..4080]});
    try put(storage, "snap/other", bytes);
    try std.testing.expectError(error.Foreign, load(storage, "snap/other"));
    std.mem.writeInt(u32, bytes[8..12], 1, .little);
    std.mem.writeInt(u64, bytes[40..48], 77, .little);
    bytes[4080..4096].* = crypto.checksum(&.{bytes[0..4080]});
    try put(storage, "snap/other", bytes);
    try std.testing.expectError(error.Corrupt, load(storage, "snap/other"));
}

/// Make all checksums right again, as far as there is something to make right.
fn mend(bytes: []u8) void {
    if (bytes.len < 8192) return;
    bytes[4080..4096].* = crypto.checksum(&.{bytes[0..4080]});
    const root = bytes[bytes.len - 4096 ..];
    const index = std.mem.readInt(u64, root[8..16], .little);
    const count = std.mem.readInt(u32, root[16..20], .little);
    if (index < 4096 or index > bytes.len - 4096 or count > (bytes.len - 4096 - index) / snapshot.entry_bytes) return;
    const entries = bytes[@intCast(index)..][0 .. @as(usize, count) * snapshot.entry_bytes];
    for (0..count) |i| {
        const entry = entries[i * snapshot.entry_bytes ..][0..snapshot.entry_bytes];
        const offset = std.mem.readInt(u64, entry[24..32], .little);
        const length = std.mem.readInt(u32, entry[32..36], .little);
        if (offset > bytes.len or length > bytes.len - offset) continue;
        entry[40..56].* = crypto.checksum(&.{bytes[@intCast(offset)..][0..length]});
    }
    root[24..40].* = crypto.checksum(&.{entries});
    root[40..56].* = bytes[4080..4096].*;
    root[4080..4096].* = crypto.checksum(&.{root[0..4080]});
}

/// The property of every loader: whatever the bytes, a store that keeps its rules, or a refusal.
fn offer(storage: Storage, bytes: []const u8) !bool {
    try put(storage, "snap/other", bytes);
    const loaded = load(storage, "snap/other") catch |err| switch (err) {
        error.Corrupt, error.Foreign => return false,
        else => return err,
    };
    defer loaded.destroy() catch unreachable;
    try fuzz.checkHead(loaded);
    return true;
}

test "smoke: bytes that are wrong under right checksums are refused or make a store that keeps its rules" {
    var fixture = try Fixture.init(8, 3, 12);
    defer fixture.deinit();
    const storage = fixture.memory.storage();
    const bytes = try fileOf(storage, fixture.name());
    defer gpa.free(bytes);
    const mutated = try gpa.dupe(u8, bytes);
    defer gpa.free(mutated);
    var prng = std.Random.DefaultPrng.init(11);
    const random = prng.random();
    const root = bytes.len - 4096;
    const index: usize = @intCast(std.mem.readInt(u64, bytes[root + 8 ..][0..8], .little));
    var took: usize = 0;
    for (0..1200) |round| {
        @memcpy(mutated, bytes);
        for (0..1 + random.uintLessThan(usize, 3)) |_| {
            const at = switch (round % 3) {
                0 => 4096 + random.uintLessThan(usize, index - 4096),
                1 => index + random.uintLessThan(usize, root - index),
                else => random.uintLessThan(usize, bytes.len),
            };
            mutated[at] = if (random.boolean()) random.int(u8) else mutated[at] ^ (@as(u8, 1) << random.int(u3));
        }
        mend(mutated);
        took += @intFromBool(try offer(storage, mutated));
    }
    try std.testing.expect(took > 50 and took < 1150);
}

fn fuzzOne(fixture: *Fixture, smith: *std.testing.Smith) anyerror!void {
    const storage = fixture.memory.storage();
    const bytes = try fileOf(storage, fixture.name());
    defer gpa.free(bytes);
    while (!smith.eos()) bytes[smith.index(bytes.len)] = smith.value(u8);
    mend(bytes);
    _ = try offer(storage, bytes);
}

test "fuzz: any bytes under right checksums" {
    var fixture = try Fixture.init(8, 2, 6);
    defer fixture.deinit();
    try std.testing.fuzz(&fixture, fuzzOne, .{});
}
