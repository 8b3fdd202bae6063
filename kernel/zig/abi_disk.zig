//! A database, as C sees it (`database.zig`, which says who may call what), and the reading of snapshots and bodies of the
//! log by whoever has them.

const std = @import("std");
const abi = @import("abi.zig");
const compat = @import("compat.zig");
const database = @import("database.zig");
const failure = @import("failure.zig");
const layouts = @import("abi_disk_layouts.zig");
const record = @import("record.zig");
const snapshot = @import("snapshot.zig");
const AncestorOut = layouts.AncestorOut;
const DamageOut = layouts.DamageOut;
const Database = database.Database;
const DiskIn = layouts.DiskIn;
const Place = @import("abi_storage.zig").Place;
const RecoveryOut = layouts.RecoveryOut;
const SnapshotOut = layouts.SnapshotOut;
const Store = @import("store.zig").Store;
const TextOut = layouts.TextOut;

fn textAt(address: [*]const u8, length: u64) []const u8 {
    return address[0..@intCast(length)];
}

fn status(result: failure.Error!void) i32 {
    result catch |err| return failure.code(err);
    return 0;
}

// A database.

/// The canonical text of the schema of the data in a storage.
export fn ecs_disk_schema(place: *Place, out: *TextOut) i32 {
    const text = database.storedSchema(compat.allocator, place.storage()) catch |err| return failure.code(err);
    place.tell(text, out);
    return 0;
}

/// Open or create a database in a storage and recover it into a store that has only its version 0. Needs the baton. What
/// `report` names stays until the storage is destroyed, or opened in again; it is filled in where opening fails, too.
export fn ecs_disk_open(store: *Store, place: *Place, in: *const DiskIn, report: *RecoveryOut, out: *?*Database) i32 {
    report.* = .{};
    out.* = null;
    _ = place.report.reset(.free_all);
    var found: database.Report = .{ .arena = place.report.allocator() };
    const level = std.enums.fromInt(record.Level, std.math.cast(u8, in.level) orelse 255) orelse return failure.code(error.BadArgument);
    const schema = abi.at(u8, in.schema, in.schema_bytes) catch |err| return failure.code(err);
    const options: database.Options = .{
        .seed = in.seed,
        .now_ns = in.now_ns,
        .fingerprint = in.fingerprint,
        .schema = schema,
        .level = level,
        .read_only = in.flags & layouts.flag_read_only != 0,
        .create = in.flags & layouts.flag_create != 0,
        .archive = in.flags & layouts.flag_archive != 0,
        .segment_bytes = in.segment_bytes,
    };
    const result = Database.open(compat.allocator, place.storage(), store, options, &found);
    tell(&found, report);
    out.* = result catch |err| return failure.code(err);
    return 0;
}

fn tell(found: *const database.Report, out: *RecoveryOut) void {
    out.* = .{
        .database = found.database,
        .fingerprint = found.fingerprint,
        .version = found.version,
        .tick = found.tick,
        .snapshot_version = found.snapshot_version,
        .records = found.records,
        .torn_bytes = found.torn_bytes,
        .wal_bytes = found.wal_bytes,
        .epoch = found.epoch,
        .flags = @as(u32, if (found.created) layouts.flag_created else 0) | @as(u32, if (found.new_epoch) layouts.flag_new_epoch else 0) |
            @as(u32, if (found.read_only) layouts.flag_is_read_only else 0),
    };
    const arena = found.arena;
    // Without memory for it a report says less.
    const ancestors = arena.alloc(AncestorOut, found.ancestors.len) catch return;
    for (found.ancestors, ancestors) |from, *to| to.* = .{ .epoch = from.epoch, .version = from.last };
    out.ancestors = @intFromPtr(ancestors.ptr);
    out.ancestor_count = ancestors.len;
    const damages = arena.alloc(DamageOut, found.damages.items.len) catch return;
    for (found.damages.items, damages) |*from, *to| to.* = .{
        .file = .of(from.file),
        .what = .of(from.what),
        .offset = from.offset,
        .version = from.version,
        .durable = from.durable,
    };
    out.damages = @intFromPtr(damages.ptr);
    out.damage_count = damages.len;
}

/// Let go of everything without writing. `store_gone`: not 0 after the store was destroyed.
export fn ecs_disk_destroy(db: *Database, store_gone: u32) void {
    if (store_gone != 0) db.destroyAlone() else db.destroy();
}

/// Flush, and end the log cleanly; `ecs_disk_destroy` is to follow whatever comes of it.
export fn ecs_disk_close(db: *Database, now_ns: i64) i32 {
    return status(db.close(now_ns));
}

/// 1 when a version was made, 0 when there was nothing to make one of.
export fn ecs_disk_publish(db: *Database, tick: u64, now_ns: i64, level: u32, version: *u64, published: *u64) i32 {
    const of = std.enums.fromInt(record.Level, std.math.cast(u8, level) orelse 255) orelse return failure.code(error.BadArgument);
    const made = db.publish(tick, now_ns, of) catch |err| return failure.code(err);
    version.* = db.store.version;
    published.* = db.store.publishedVersion();
    return @intFromBool(made != null);
}

export fn ecs_disk_release(db: *Database, published: *u64) i32 {
    published.* = db.release() catch |err| return failure.code(err);
    return 0;
}

export fn ecs_disk_flush(db: *Database, level: u32, now_ns: i64) i32 {
    const of = std.enums.fromInt(record.Level, std.math.cast(u8, level) orelse 255) orelse return failure.code(error.BadArgument);
    return status(db.flush(of, now_ns));
}

export fn ecs_disk_tend(db: *Database, now_ns: i64) i32 {
    return status(db.tend(now_ns));
}

/// The newest version that was written (0), synced (1), said to be by HORIZON (2); whether writing failed (3). From any
/// thread.
export fn ecs_disk_mark(db: *Database, which: u32) u64 {
    return switch (which) {
        0 => db.mark(.written),
        1 => db.mark(.durable),
        2 => db.mark(.horizon),
        else => @intFromBool(db.failed()),
    };
}

export fn ecs_disk_statistics(db: *Database, out: *layouts.DiskStatistics) void {
    out.* = db.statistics();
}

export fn ecs_disk_point(db: *Database, name: [*]const u8, length: u64, now_ns: i64) i32 {
    return status(db.point(textAt(name, length), now_ns));
}

export fn ecs_disk_note_digest(db: *Database, version: u64, sum: *const [16]u8, now_ns: i64) i32 {
    return status(db.noteDigest(version, sum.*, now_ns));
}

/// How many segments are named in `numbers`, which are to be archived, or below zero.
export fn ecs_disk_compact(db: *Database, numbers: [*]u64, most: u64) i32 {
    const named = db.compact(numbers[0..@intCast(@min(most, std.math.maxInt(i32)))]) catch |err| return failure.code(err);
    return @intCast(named);
}

export fn ecs_disk_archived(db: *Database, number: u64) i32 {
    return status(db.archived(number));
}

// Snapshots.

/// Begin a snapshot of the newest version. Needs the baton. `Busy` while there is no moment between two versions.
export fn ecs_snapshot_begin(db: *Database, now_ns: i64, out: *?*database.Taking) i32 {
    out.* = null;
    out.* = db.beginSnapshot(now_ns) catch |err| return failure.code(err);
    return 0;
}

/// 0 when there is more to do, 1 when the snapshot is part of the database, 2 when the log has to be flushed first.
export fn ecs_snapshot_step(taking: *database.Taking, out: *SnapshotOut) i32 {
    const state = taking.step() catch |err| return failure.code(err);
    const writer = taking.writer;
    const header = &writer.header;
    out.* = .{
        .version = header.version,
        .tick = header.tick,
        .time_ns = header.time_ns,
        .done = writer.done,
        .total = writer.total,
        .name = .of(writer.name()),
    };
    if (state == .done) {
        out.bytes = writer.info.bytes;
        out.digest = header.digest;
    }
    return @intFromEnum(state);
}

export fn ecs_snapshot_end(taking: *database.Taking) void {
    taking.deinit();
}

/// Load a snapshot into a store that has only its version 0. Needs the baton. Where it is refused, `problem` says why; the
/// store is to be destroyed then.
export fn ecs_snapshot_load(store: *Store, place: *Place, path: [*]const u8, length: u64, out: *SnapshotOut, problem: *DamageOut) i32 {
    var reader: snapshot.Reader = .{ .gpa = compat.allocator, .storage = place.storage() };
    defer reader.deinit();
    const name = textAt(path, length);
    loadFile(&reader, name, store) catch |err| {
        problem.* = .{
            .file = .of(name),
            .what = .of(reader.problem.what),
            .offset = reader.problem.offset,
            .version = 0,
            .durable = 0,
        };
        return failure.code(err);
    };
    out.* = .{
        .version = reader.header.version,
        .tick = reader.header.tick,
        .time_ns = reader.header.time_ns,
        .bytes = reader.bytes,
        .digest = reader.header.digest,
        .name = .of(name),
    };
    return 0;
}

fn loadFile(reader: *snapshot.Reader, name: []const u8, store: *Store) failure.Error!void {
    try reader.open(name, .read);
    try snapshot.load(reader, store);
}
