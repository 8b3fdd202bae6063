//! Founding: a database that begins with what a store holds, in a storage that has none. This is where a restore ends: the
//! store was made of a snapshot and a log, up to the version that was wanted, and goes on from there in an epoch of its own.
//!
//! The order is that of a creation: HORIZON and the snapshot are there, synced, before a manifest says that there is a
//! database. A crash in between leaves what an opening takes for nothing.
//!
//! The snapshot is the database's origin. Versions before it are in the database it came from, and only there.

const std = @import("std");
const failure = @import("failure.zig");
const horizon = @import("horizon.zig");
const manifest_file = @import("manifest.zig");
const snapshot = @import("snapshot.zig");
const storage_file = @import("storage.zig");
const database = @import("database.zig");
const Storage = storage_file.Storage;
const Store = @import("store.zig").Store;

pub const Options = struct {
    /// The id of the database that it goes on from.
    database: [16]u8,
    /// New: neither the epoch it goes on from nor one before.
    epoch: u32,
    /// The epochs before it, oldest first; the last one ends with the store's version.
    ancestors: []const manifest_file.Ancestor,
    fingerprint: [16]u8,
    /// Canonical text.
    schema: []const u8,
    now_ns: i64,
};

/// Found a database with what `store` has published. With the store's baton, nothing open or held. It takes as long as a
/// snapshot. `Exists` where there is a database already; on any error the storage has none.
pub fn found(gpa: std.mem.Allocator, storage: Storage, store: *Store, options: *const Options) failure.Error!snapshot.Info {
    try store.needBaton();
    const last = options.ancestors;
    if (last.len == 0 or last[last.len - 1].last != store.version) return error.BadArgument;
    for (last) |of| if (of.epoch == options.epoch) return error.BadArgument;
    if (options.epoch == 0) return error.BadArgument;

    try storage.makeDir("");
    const lock = try storage.lock("LOCK");
    defer storage.close(lock);
    try refuseOther(gpa, storage);
    try writeHorizon(storage, options, store.version);
    const info = try writeSnapshot(gpa, storage, store, options);
    try storage.makeDir("wal");
    try database.writeManifest(gpa, storage, &.{
        .database = options.database,
        .number = 1,
        .epoch = options.epoch,
        .time_ns = options.now_ns,
        .fingerprint = options.fingerprint,
        .oldest = 1,
        .origin = store.version,
        .snapshots = &.{.{ .version = store.version, .bytes = info.bytes, .root = info.root }},
        .ancestors = options.ancestors,
        .schema = options.schema,
    });
    return info;
}

fn refuseOther(gpa: std.mem.Allocator, storage: Storage) failure.Error!void {
    for ([_][]const u8{ "", "wal", "snap", "archive" }) |folder| {
        const names = storage.list(gpa, folder) catch |err| switch (err) {
            error.NotFound => continue,
            else => |other| return other,
        };
        defer storage_file.freeNames(gpa, names);
        for (names) |name| {
            const ours = folder.len == 0 and manifest_file.numberOf(name) == null;
            if (!ours and !std.mem.endsWith(u8, name, ".tmp")) return error.Exists;
        }
    }
}

fn writeHorizon(storage: Storage, options: *const Options, version: u64) failure.Error!void {
    storage.remove(horizon.name) catch |err| if (err != error.NotFound) return err;
    const handle = try storage.open(horizon.name, .create);
    defer storage.close(handle);
    try storage.write(handle, 0, &horizon.fresh(options.database, options.epoch, version));
    try storage.sync(handle, .all);
}

fn writeSnapshot(gpa: std.mem.Allocator, storage: Storage, store: *Store, options: *const Options) failure.Error!snapshot.Info {
    const writer: *snapshot.Writer = try .begin(
        gpa,
        storage,
        store,
        options.database,
        options.epoch,
        options.fingerprint,
        options.now_ns,
    );
    defer writer.deinit();
    while (!try writer.step()) {}
    return writer.info;
}
