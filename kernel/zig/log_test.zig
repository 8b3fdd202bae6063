//! The log from its first commit to the next opening: what is written is found, in order, however it ended.

const std = @import("std");
const bytes = @import("bytes.zig");
const failure = @import("failure.zig");
const files = @import("segment_files.zig");
const log_file = @import("log.zig");
const manifest_file = @import("manifest.zig");
const record_file = @import("record.zig");
const scan_file = @import("scan.zig");
const segment = @import("segment.zig");
const storage_file = @import("storage.zig");
const Level = log_file.Level;
const Log = log_file.Log;
const Memory = @import("storage_memory.zig").Memory;
const Storage = storage_file.Storage;

const gpa = std.testing.allocator;
const expectEqual = std.testing.expectEqual;
const expectError = std.testing.expectError;

pub const database: [16]u8 = @splat(0xdb);

/// The directories and the manifest of a new database.
pub fn createDatabase(storage: Storage) !void {
    for ([_][]const u8{ "wal", "snap" }) |name| try storage.makeDir(name);
    try storage.syncDir("");
    try files.makeHorizon(storage, database, 1, 0);
    try writeManifest(storage, first_manifest);
}

pub const first_manifest: manifest_file.Manifest = .{
    .database = database,
    .number = 1,
    .epoch = 1,
    .time_ns = 0,
    .fingerprint = @splat(0),
    .oldest = 1,
    .origin = 0,
    .snapshots = &.{},
    .ancestors = &.{},
    .schema = "",
};

pub fn writeManifest(storage: Storage, manifest: manifest_file.Manifest) !void {
    const file = try manifest.encode(gpa);
    defer gpa.free(file);
    var name: manifest_file.Name = undefined;
    const handle = try storage.open(manifest_file.nameOf(manifest.number, false, &name), .create);
    defer storage.close(handle);
    try storage.write(handle, 0, file);
    try storage.sync(handle, .all);
    try storage.syncDir("");
}

/// Keeps what a scan hands over.
pub const Sink = struct {
    versions: std.ArrayList(u64) = .empty,
    bodies: std.ArrayList([]u8) = .empty,
    notes: std.ArrayList(record_file.Kind) = .empty,

    pub fn deinit(sink: *Sink) void {
        for (sink.bodies.items) |body| gpa.free(body);
        sink.versions.deinit(gpa);
        sink.bodies.deinit(gpa);
        sink.notes.deinit(gpa);
    }

    pub fn record(sink: *Sink, header: *const record_file.Header, body: []const u8) failure.Error!void {
        if (header.kind != .version) return sink.notes.append(gpa, header.kind);
        try sink.versions.append(gpa, header.version);
        const kept = try gpa.dupe(u8, body);
        errdefer gpa.free(kept);
        try sink.bodies.append(gpa, kept);
    }
};

/// A database of nothing but its log.
pub const Run = struct {
    log: Log,
    sink: Sink,
    start: scan_file.Start,

    pub fn open(storage: Storage, floor: Level, seed: u8) !Run {
        return openFrom(storage, floor, seed, 0);
    }

    pub fn openFrom(storage: Storage, floor: Level, seed: u8, base: u64) !Run {
        return openWith(gpa, storage, floor, seed, base);
    }

    fn openWith(of: std.mem.Allocator, storage: Storage, floor: Level, seed: u8, base: u64) !Run {
        var sink: Sink = .{};
        errdefer sink.deinit();
        var problem: scan_file.Damage = .{};
        var scan = (try scan_file.Scan.open(of, storage, .{ .seed = @splat(seed) }, &problem)).?;
        defer scan.deinit();
        errdefer if (scan.problem.what.len > 0) std.debug.print("{s} at {d}: {s}\n", .{ scan.problem.file(), scan.problem.offset, scan.problem.what });
        const start = try scan.run(.{ .version = base }, &sink);
        return .{
            .start = start,
            .sink = sink,
            .log = .init(of, storage, .{ .segment_bytes = 64 << 10, .floor = floor, .seed = @splat(seed) }, start),
        };
    }

    pub fn deinit(run: *Run) void {
        run.log.deinit();
        run.sink.deinit();
    }

    /// Queue the next version, with a body that says which it is.
    pub fn commit(run: *Run, level: Level, extra: usize) !u64 {
        const version = run.log.newest + 1;
        var body: std.ArrayList(u8) = .empty;
        errdefer body.deinit(run.log.gpa);
        try body.appendNTimes(run.log.gpa, @truncate(version), 8 + extra);
        bytes.put(u64, body.items, 0, version);
        try run.log.reserve(body.items.len + 100, 5);
        try run.log.ready(body.items.len, 5);
        run.log.append(.version, version, version * 10, 5, level, version, 1, body);
        return version;
    }

    fn expectWhole(run: *const Run, versions: u64) !void {
        try expectEqual(versions, run.start.version);
        try expectEqual(versions, run.sink.versions.items.len);
        for (run.sink.versions.items, run.sink.bodies.items, 1..) |version, body, expected| {
            try expectEqual(expected, version);
            try expectEqual(expected, bytes.get(u64, body, 0));
        }
    }
};

test "opening writes nothing, and neither does closing what never began" {
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const storage = memory.storage();
    try createDatabase(storage);
    for (0..2) |_| {
        var run: Run = try .open(storage, .strict, 1);
        defer run.deinit();
        try run.log.tend(1);
        try run.log.flush(.paranoid, 1);
        try run.log.close(1);
        try expectEqual(1, run.log.start.epoch);
        const names = try storage.list(gpa, "wal");
        defer storage_file.freeNames(gpa, names);
        try expectEqual(0, names.len);
    }
}

test "what was written is found in order, over many segments and runs" {
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const storage = memory.storage();
    try createDatabase(storage);
    var versions: u64 = 0;
    var epoch: u32 = 1;
    for (0..6) |n| {
        const clean = n % 2 == 1;
        var run: Run = try .open(storage, .relaxed, @intCast(n + 1));
        defer run.deinit();
        try run.expectWhole(versions);
        // A run that did not end cleanly may have shown more than it wrote.
        try expectEqual(n > 0 and clean, run.start.new_epoch);
        try expectEqual(n > 0 and clean, run.start.epoch != epoch);
        epoch = run.start.epoch;
        for (0..30) |i| {
            _ = try run.commit(.memory, i * 300);
            if (i % 7 == 0) try run.log.flush(if (i % 2 == 0) .memory else .strict, 5);
            if (i % 5 == 0) try run.log.tend(5);
            // One larger than a segment.
            if (i == 20) _ = try run.commit(.strict, 100_000);
        }
        versions += 31;
        try run.log.flush(.relaxed, 5);
        try expectEqual(versions, run.log.written.raw);
        if (clean) {
            try run.log.close(9);
            try expectEqual(versions, run.log.durable.raw);
            try expectEqual(versions, run.log.horizon.raw);
        }
        try expectEqual(0, run.log.statistics().queued_bytes);
    }
    var last: Run = try .open(storage, .strict, 99);
    defer last.deinit();
    try last.expectWhole(versions);
    try expectEqual(3, last.start.ancestors.len - @intFromBool(last.start.new_epoch));
    try expectEqual(versions * 10, last.start.tick);
    // From the middle, too, when the manifest knows of the epochs.
    var manifest = first_manifest;
    manifest.number = 2;
    manifest.epoch = last.start.epoch;
    manifest.ancestors = last.log.start.ancestors;
    try writeManifest(storage, manifest);
    var part: Run = try .openFrom(storage, .strict, 99, 77);
    defer part.deinit();
    try expectEqual(78, part.sink.versions.items[0]);
    try expectEqual(versions - 77, part.start.records);
}

test "many records are one write and one sync" {
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const storage = memory.storage();
    try createDatabase(storage);
    var run: Run = try .open(storage, .strict, 1);
    defer run.deinit();
    for (0..10) |_| _ = try run.commit(.strict, 0);
    try run.log.flush(.memory, 1);
    const of = run.log.statistics();
    try expectEqual(1, of.writes);
    try expectEqual(1, of.syncs);
    try expectEqual(10 * 4096, of.written_bytes);
    try expectEqual(10, run.log.durable.raw);
}

/// What a disk thread does, until it is told that no more comes.
const Flusher = struct {
    log: *Log,
    over: std.atomic.Value(bool) = .init(false),
    wrong: std.atomic.Value(u32) = .init(0),

    fn run(flusher: *Flusher) void {
        var last: u64 = 0;
        while (true) {
            const over = flusher.over.load(.acquire);
            flusher.log.flush(if (last % 3 == 0) .strict else .memory, 1) catch {
                _ = flusher.wrong.fetchAdd(1, .monotonic);
                return;
            };
            flusher.log.tend(1) catch {
                _ = flusher.wrong.fetchAdd(1, .monotonic);
            };
            const durable = flusher.log.durable.load(.acquire);
            const written = flusher.log.written.load(.acquire);
            if (durable < last or durable > written) _ = flusher.wrong.fetchAdd(1, .monotonic);
            last = durable;
            if (over) return;
        }
    }
};

test "one writes into the queue, one from it to the disk, and others look on" {
    // Without a model of the disk, and of an allocator for many threads.
    const memory = try Memory.createPlain(std.heap.c_allocator, 1);
    defer memory.destroy();
    const storage = memory.storage();
    try createDatabase(storage);
    const commits = 600;
    {
        var run: Run = try .openWith(std.heap.c_allocator, storage, .relaxed, 1, 0);
        defer run.deinit();
        var flusher: Flusher = .{ .log = &run.log };
        const thread = try std.Thread.spawn(.{}, Flusher.run, .{&flusher});
        for (0..commits) |i| {
            _ = try run.commit(if (i % 50 == 0) .strict else .memory, i % 7 * 900);
            if (i % 100 == 99) _ = run.log.statistics();
        }
        flusher.over.store(true, .release);
        thread.join();
        try expectEqual(0, flusher.wrong.raw);
        try run.log.close(1);
        try expectEqual(commits, run.log.durable.raw);
        try expectEqual(0, run.log.statistics().queued_bytes);
    }
    var again: Run = try .open(storage, .relaxed, 2);
    defer again.deinit();
    try again.expectWhole(commits);
}

test "a disk without room refuses and stays, and goes on when there is room" {
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const storage = memory.storage();
    try createDatabase(storage);
    var run: Run = try .open(storage, .strict, 1);
    defer run.deinit();
    memory.capacity = memory.bytes + (100 << 10);
    while (run.commit(.strict, 20_000)) |_| try run.log.flush(.strict, 1) else |err| try expectEqual(error.DiskFull, err);
    const kept = run.log.newest;
    try std.testing.expect(kept > 0);
    // What was refused is as if it had not been asked for; housekeeping does not mind.
    try run.log.tend(1);
    try run.log.flush(.paranoid, 1);
    try expectEqual(kept, run.log.horizon.raw);
    try expectError(error.DiskFull, run.log.reserve(1 << 20, 1));
    try expectError(error.Limit, run.log.reserve(std.math.maxInt(u64) - 5, 1));
    memory.capacity = std.math.maxInt(u64);
    try expectEqual(kept + 1, try run.commit(.strict, 20_000));
    try run.log.close(1);
    var again: Run = try .open(storage, .strict, 2);
    defer again.deinit();
    try again.expectWhole(kept + 1);
}

test "a torn end is put aside, whole, before it is sealed off, and not before the first commit" {
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const storage = memory.storage();
    try createDatabase(storage);
    {
        var run: Run = try .open(storage, .strict, 1);
        defer run.deinit();
        for (0..3) |_| _ = try run.commit(.strict, 100);
        try run.log.flush(.strict, 1);
    }
    const first = "wal/0000000000000001.wal";
    const kept = "quarantine/0000000000000001-0000000000016384";
    const torn: [5000]u8 = @splat(0xee);
    const handle = try storage.open(first, .write);
    defer storage.close(handle);
    try storage.write(handle, 4096 * 4, &torn);
    {
        var run: Run = try .open(storage, .strict, 2);
        defer run.deinit();
        try run.expectWhole(3);
        try expectEqual(5000, run.start.tornBytes());
        try expectEqual(null, memory.contents(kept));
        _ = try run.commit(.strict, 100);
        try run.log.flush(.strict, 1);
        try std.testing.expectEqualSlices(u8, &torn, memory.contents(kept).?);
    }
    // Sealed off, it is nothing any more.
    var again: Run = try .open(storage, .strict, 3);
    defer again.deinit();
    try again.expectWhole(4);
    try expectEqual(0, again.start.tornBytes());
}

test "a record of another history, whole and of the right version, does not follow" {
    const memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    const storage = memory.storage();
    try createDatabase(storage);
    {
        var run: Run = try .open(storage, .strict, 1);
        defer run.deinit();
        for (0..3) |_| _ = try run.commit(.strict, 100);
        try run.log.flush(.strict, 1);
    }
    const handle = try storage.open("wal/0000000000000001.wal", .write);
    defer storage.close(handle);
    var head: [record_file.header_bytes]u8 = undefined;
    _ = try storage.read(handle, 4096 * 3, &head);
    var header = record_file.decode(&head).header.of;
    try expectEqual(3, header.version);
    header.parent[5] ^= 1;
    _ = header.encode(&head);
    try storage.write(handle, 4096 * 3, &head);
    var problem: scan_file.Damage = .{};
    var scan = (try scan_file.Scan.open(gpa, storage, .{ .seed = @splat(1) }, &problem)).?;
    defer scan.deinit();
    var sink: Sink = .{};
    defer sink.deinit();
    try expectError(error.Corrupt, scan.run(.{ .version = 0 }, &sink));
    try expectEqual(4096 * 3, scan.problem.offset);
    try expectEqual(3, scan.problem.version);
    try std.testing.expectEqualStrings("wal/0000000000000001.wal", scan.problem.file());
    try expectEqual(2, sink.versions.items.len);
}
