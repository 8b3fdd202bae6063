//! A store on a disk: its log, its snapshots and its manifests, from opening to closing.
//!
//! The store changes its head as ever; before it keeps a transaction it asks here for room (`reserve`), and a version is
//! made here (`publish`): its body goes to the log in memory, and it is shown, or held until it is on disk. Nothing of
//! that touches the disk. `flush` does, on whatever thread, and `release` shows what it made durable.
//!
//! Who may call what: `publish`, `release`, `point`, `noteDigest` and `beginSnapshot` with the baton, which `reserve` is
//! called with too; `flush` and `tend` one thread at a time, beside all others; the steps of a snapshot, `compact`,
//! `archived` one thread at a time, beside all others.
//!
//! Invariants:
//! - opening writes nothing but the lock and, of a new database, its first manifest: until the first commit of a run a
//!   directory is as it was found;
//! - a manifest is written beside, synced and renamed; the two newest are kept, and neither is ever changed;
//! - a snapshot is named by a manifest only when the log is durable up to its version, so that the log has no gap behind
//!   the older one;
//! - no segment is removed that the older of the two newest snapshots needs, and no snapshot file that a manifest names is
//!   replaced while it is good: there is one way back, always.

const std = @import("std");
const assert = std.debug.assert;
const compat = @import("compat.zig");
const crypto = @import("crypto.zig");
const failure = @import("failure.zig");
const files = @import("segment_files.zig");
const log_file = @import("log.zig");
const manifest_file = @import("manifest.zig");
const records = @import("record.zig");
const redo = @import("redo.zig");
const scan = @import("scan.zig");
const segment = @import("segment.zig");
const snapshot = @import("snapshot.zig");
const storage_file = @import("storage.zig");
const Level = records.Level;
const Statistics = @import("abi_disk_layouts.zig").DiskStatistics;
const Log = log_file.Log;
const Manifest = manifest_file.Manifest;
const Storage = storage_file.Storage;
const Store = @import("store.zig").Store;

pub const Options = struct {
    /// Random bytes, of which ids, epochs and salts are made.
    seed: [32]u8,
    now_ns: i64,
    fingerprint: [16]u8,
    /// Canonical text of the schema.
    schema: []const u8,
    /// What every version has at least.
    level: Level,
    read_only: bool = false,
    /// Whether an empty place becomes a new database.
    create: bool = true,
    /// Whether segments that are no longer needed are handed over, and not removed.
    archive: bool = false,
    segment_bytes: u64 = segment.bytes_default,
};

/// What opening found: filled in as far as it came.
pub const Report = struct {
    /// Of its lists.
    arena: std.mem.Allocator,
    created: bool = false,
    read_only: bool = false,
    database: [16]u8 = @splat(0),
    /// Of the schema that the data has.
    fingerprint: [16]u8 = @splat(0),
    epoch: u32 = 0,
    new_epoch: bool = false,
    ancestors: []const manifest_file.Ancestor = &.{},
    version: u64 = 0,
    tick: u64 = 0,
    snapshot_version: u64 = 0,
    records: u64 = 0,
    torn_bytes: u64 = 0,
    wal_bytes: u64 = 0,
    /// What was damaged; where opening failed for it, that is the last.
    damages: std.ArrayList(Place) = .empty,

    pub const Place = struct { file: []const u8, offset: u64, version: u64, durable: u64, what: []const u8 };

    fn note(report: *Report, damage: *const scan.Damage) error{OutOfMemory}!void {
        try report.damages.append(report.arena, .{
            .file = try report.arena.dupe(u8, damage.file()),
            .offset = damage.offset,
            .version = damage.version,
            .durable = damage.durable,
            .what = damage.what,
        });
    }

    fn fill(report: *Report, start: *const scan.Start) error{OutOfMemory}!void {
        report.database = start.database;
        report.epoch = start.epoch;
        report.new_epoch = start.new_epoch;
        report.ancestors = try report.arena.dupe(manifest_file.Ancestor, start.ancestors);
        report.version = start.version;
        report.tick = start.tick;
        report.records = start.records;
        report.torn_bytes = start.tornBytes();
        report.wal_bytes = start.walBytes();
        report.damages.clearRetainingCapacity();
        for (start.damage) |*damage| try report.note(damage);
    }
};

pub const Database = struct {
    /// Of any thread.
    gpa: std.mem.Allocator,
    storage: Storage,
    store: *Store,
    level: Level,
    archive: bool,
    lock: storage_file.Handle,
    /// Null when reading only.
    log: ?Log,
    epoch: u32,
    /// The epochs before it, oldest first.
    ancestors: []const manifest_file.Ancestor,
    /// The newest manifest. Whoever takes snapshots has it.
    manifest: Manifest,
    /// How many of its snapshots, the newest first, opening found damaged and did without.
    unusable: usize,
    /// Transactions of the store that versions were made of.
    told_transactions: u64,
    /// The time as it was told last: the store's commits bring none.
    now_ns: compat.Atomic(i64),
    /// Snapshots of this run, the bytes of the newest,
    snapshots: compat.Atomic(u64) = .init(0),
    snapshot_bytes: compat.Atomic(u64) = .init(0),
    /// and those of the log's records when it began.
    snapshot_at: compat.Atomic(u64) = .init(0),
    /// Whether a newer manifest may have its name, and may not: one that could not be written to the end.
    in_doubt: bool = false,
    /// The version after that of the snapshot on its way; 0 while there is none. Its file is nobody's leftover.
    taken: compat.Atomic(u64) = .init(0),

    /// Open the database in a storage, or create it, and recover it into a store that has published its version 0 and
    /// nothing else. With the store's baton. What the storage has is unchanged where it fails, and the store is good for
    /// nothing but to be destroyed.
    ///
    /// Errors: `Locked`; `NotFound` where there is none and none is to be made; `Foreign` and `Corrupt`, of which
    /// `report.damages` has the place last; `SchemaDiffers`, of which `report.fingerprint` has the data's; and what the
    /// storage fails with.
    pub fn open(gpa: std.mem.Allocator, storage: Storage, store: *Store, options: Options, report: *Report) failure.Error!*Database {
        try store.needBaton();
        const head = &store.head;
        if (store.version != 0 or !store.views.published or head.in_transaction or head.pending or head.logged) return error.BadArgument;
        var opening: Opening = .{ .gpa = gpa, .storage = storage, .store = store, .options = &options, .report = report };
        return opening.run();
    }

    /// Give everything back without writing: what a crash would leave is what is left. The store refuses commits then.
    pub fn destroy(db: *Database) void {
        db.store.durable = .{ .context = db.store, .reserve = refuse };
        db.destroyAlone();
    }

    /// The same after the store was destroyed.
    pub fn destroyAlone(db: *Database) void {
        if (db.log) |*log| log.deinit();
        db.storage.close(db.lock);
        db.gpa.free(db.ancestors);
        db.manifest.deinit(db.gpa);
        db.gpa.destroy(db);
    }

    /// Flush, and end the log cleanly. Whatever comes of it, the database is to be destroyed then.
    pub fn close(db: *Database, now_ns: i64) failure.Error!void {
        if (db.log) |*log| try log.close(now_ns);
    }

    // Committing.

    /// What the store asks before it keeps a transaction.
    fn reserve(context: *anyopaque, bytes: u64) failure.Error!void {
        const db: *Database = @ptrCast(@alignCast(context));
        try (try db.writing()).reserve(bytes, db.now_ns.load(.monotonic));
    }

    fn refuse(_: *anyopaque, _: u64) failure.Error!void {
        return error.Failed;
    }

    fn writing(db: *Database) error{ReadOnly}!*Log {
        return if (db.log) |*log| log else error.ReadOnly;
    }

    /// Make a version of what was committed since the last one. It is shown at once, or, where its level is strict or
    /// above, by `release` when it is durable. Null when there was nothing. `Failed` when nothing is written any more.
    pub fn publish(db: *Database, tick: u64, now_ns: i64, level: Level) failure.Error!?u64 {
        const store = db.store;
        try store.needBaton();
        db.now_ns.store(now_ns, .monotonic);
        if (store.head.in_transaction) return error.InTransaction;
        if (!store.head.pending) return null;
        const log = try db.writing();
        try log.check();
        const of = level.max(db.level);
        var body: std.ArrayList(u8) = .empty;
        errdefer body.deinit(db.gpa);
        try redo.encode(&store.head, db.gpa, &body);
        // Reserved before each of its transactions was kept, so this finds it there.
        try log.ready(body.items.len, now_ns);
        const version = (try store.seal(tick, of.atLeast(.strict))).?;
        const first = db.told_transactions;
        db.told_transactions = store.transactions;
        log.append(.version, version, tick, now_ns, of, first, @intCast(store.transactions - first), body);
        return version;
    }

    /// Show what is durable, and make up for what was put off. Returns the version that readers see.
    pub fn release(db: *Database) failure.Error!u64 {
        return db.store.release(if (db.log) |*log| log.durable.load(.acquire) else db.store.version);
    }

    pub fn flush(db: *Database, level: Level, now_ns: i64) failure.Error!void {
        const log = if (db.log) |*log| log else return;
        db.now_ns.store(now_ns, .monotonic);
        try log.flush(level, now_ns);
    }

    pub fn tend(db: *Database, now_ns: i64) failure.Error!void {
        const log = if (db.log) |*log| log else return;
        db.now_ns.store(now_ns, .monotonic);
        try log.tend(now_ns);
    }

    pub const Mark = enum { written, durable, horizon };

    /// The newest version that the operating system has, the disk has, HORIZON says. From any thread.
    pub fn mark(db: *const Database, which: Mark) u64 {
        const log = if (db.log) |*log| log else return db.store.durable_version;
        return switch (which) {
            inline else => |name| @field(log, @tagName(name)).load(.acquire),
        };
    }

    /// Nothing is written any more. From any thread.
    pub fn failed(db: *const Database) bool {
        if (db.log) |*log| log.check() catch return true;
        return false;
    }

    pub fn statistics(db: *Database) Statistics {
        var out: Statistics = .{
            .written = db.mark(.written),
            .durable = db.mark(.durable),
            .horizon = db.mark(.horizon),
            .snapshots = db.snapshots.load(.monotonic),
            .snapshot_bytes = db.snapshot_bytes.load(.monotonic),
        };
        const log = if (db.log) |*log| log else return out;
        const counts = log.statistics();
        inline for (.{ "records", "record_bytes", "written_bytes", "queued_bytes", "writes", "syncs", "segments", "wal_bytes" }) |name|
            @field(out, name) = @field(counts, name);
        out.since_snapshot_bytes = counts.record_bytes - db.snapshot_at.load(.monotonic);
        return out;
    }

    /// Queue a name for the newest version.
    pub fn point(db: *Database, name: []const u8, now_ns: i64) failure.Error!void {
        try db.note(.point, name, now_ns);
    }

    /// Queue the digest of a version that was published.
    pub fn noteDigest(db: *Database, version: u64, sum: [16]u8, now_ns: i64) failure.Error!void {
        var body: [24]u8 = undefined;
        std.mem.writeInt(u64, body[0..8], version, .little);
        body[8..24].* = sum;
        try db.note(.digest, &body, now_ns);
    }

    fn note(db: *Database, kind: records.Kind, body: []const u8, now_ns: i64) failure.Error!void {
        try db.store.needBaton();
        const log = try db.writing();
        db.now_ns.store(now_ns, .monotonic);
        // Beside what was promised to the open version, which may be long in coming: many notes are not to add up.
        const span = records.span(body.len);
        try log.reserve(span, now_ns);
        defer log.unreserve(span);
        var owned: std.ArrayList(u8) = .empty;
        errdefer owned.deinit(db.gpa);
        try owned.appendSlice(db.gpa, body);
        try log.ready(body.len, now_ns);
        log.append(kind, db.store.version, db.store.tick, now_ns, db.level, db.told_transactions, 0, owned);
    }

    // Snapshots.

    /// Begin a snapshot of the newest version. With the baton; `Busy` where there is no moment between two versions.
    pub fn beginSnapshot(db: *Database, now_ns: i64) failure.Error!*Taking {
        const log = try db.writing();
        const taking = try db.gpa.create(Taking);
        errdefer db.gpa.destroy(taking);
        const writer: *snapshot.Writer = try .begin(
            db.gpa,
            db.storage,
            db.store,
            db.manifest.database,
            db.epoch,
            db.manifest.fingerprint,
            now_ns,
        );
        const named = db.manifest.snapshots;
        taking.* = .{
            .db = db,
            .log = log,
            .writer = writer,
            .began_at = log.counts.record_bytes.load(.monotonic),
            .repeated = named.len > 0 and named[0].version == writer.header.version,
        };
        db.taken.store(writer.header.version + 1, .release);
        return taking;
    }

    /// Put a newer manifest in the place of the newest.
    fn replaceManifest(db: *Database, snapshots: []const manifest_file.Snapshot, oldest: u64, now_ns: i64) failure.Error!void {
        const gpa = db.gpa;
        var next = db.manifest;
        next.number += 1;
        next.time_ns = now_ns;
        next.epoch = db.epoch;
        next.oldest = oldest;
        next.snapshots = try gpa.dupe(manifest_file.Snapshot, snapshots);
        errdefer gpa.free(next.snapshots);
        next.ancestors = try gpa.dupe(manifest_file.Ancestor, db.ancestors);
        errdefer gpa.free(next.ancestors);
        db.in_doubt = true;
        try writeManifest(gpa, db.storage, &next);
        db.in_doubt = false;
        gpa.free(db.manifest.snapshots);
        gpa.free(db.manifest.ancestors);
        db.manifest = next;
        db.unusable = 0;
        db.removeManifests();
    }

    /// The two newest are kept. What cannot be removed now is when the next one comes.
    fn removeManifests(db: *Database) void {
        const names = db.storage.list(db.gpa, "") catch return;
        defer storage_file.freeNames(db.gpa, names);
        for (names) |name| {
            const whole = if (std.mem.endsWith(u8, name, ".tmp")) name[0 .. name.len - 4] else name;
            const number = manifest_file.numberOf(whole) orelse continue;
            if (number + 1 < db.manifest.number or whole.len < name.len) db.storage.remove(name) catch {};
        }
    }

    // Compaction.

    /// Remove snapshots that the newest manifest does not name, those that a crash left half written, and the segments before the oldest it needs; with an
    /// archive these are named in `numbers`, oldest first, and stay. Returns how many were named.
    pub fn compact(db: *Database, numbers: []u64) failure.Error!usize {
        const log = try db.writing();
        const gpa = db.gpa;
        const storage = db.storage;
        if (storage.list(gpa, "snap")) |names| {
            defer storage_file.freeNames(gpa, names);
            var removed = false;
            for (names) |name| {
                const version, const temporary = snapshot.versionOf(name) orelse continue;
                if (db.taken.load(.acquire) == version + 1) continue;
                // A manifest that we believe was not written may be found, and name it.
                if (db.in_doubt and !temporary) continue;
                for (db.manifest.snapshots) |*kept| {
                    if (kept.version == version and !temporary) break;
                } else {
                    var room: [40]u8 = undefined;
                    try storage.remove(snapshot.nameOf(version, temporary, &room));
                    removed = true;
                }
            }
            if (removed) try storage.syncDir("snap");
        } else |err| if (err != error.NotFound) return err;

        const names = storage.list(gpa, "wal") catch |err| return if (err == error.NotFound) 0 else err;
        defer storage_file.freeNames(gpa, names);
        var named: usize = 0;
        var removed = false;
        // Ascending, so that what a crash leaves has no gap.
        for (names) |name| {
            const number = segment.numberOf(name) orelse continue;
            if (number >= db.manifest.oldest) break;
            if (db.archive) {
                if (named == numbers.len) break;
                numbers[named] = number;
                named += 1;
                continue;
            }
            var room: segment.Name = undefined;
            try storage.remove(segment.nameOf(number, &room));
            log.forget(number);
            removed = true;
        }
        if (removed) try storage.syncDir("wal");
        return named;
    }

    /// Remove a segment that `compact` named.
    pub fn archived(db: *Database, number: u64) failure.Error!void {
        const log = try db.writing();
        if (number >= db.manifest.oldest) return error.BadArgument;
        var room: segment.Name = undefined;
        try db.storage.remove(segment.nameOf(number, &room));
        log.forget(number);
        try db.storage.syncDir("wal");
    }
};

/// The way from a directory to a store.
const Opening = struct {
    gpa: std.mem.Allocator,
    storage: Storage,
    store: *Store,
    options: *const Options,
    report: *Report,
    /// Snapshots, the newest first, that were done without.
    unusable: usize = 0,

    fn run(opening: *Opening) failure.Error!*Database {
        const gpa = opening.gpa;
        const options = opening.options;
        const report = opening.report;
        report.read_only = options.read_only;
        const db = try gpa.create(Database);
        errdefer gpa.destroy(db);
        try opening.look();
        const lock = try opening.storage.lock("LOCK");
        errdefer opening.storage.close(lock);

        var found = try opening.scanAll() orelse try opening.create();
        defer found.deinit();
        report.database = found.manifest.database;
        report.fingerprint = found.manifest.fingerprint;
        if (!std.mem.eql(u8, &found.manifest.fingerprint, &options.fingerprint)) return error.SchemaDiffers;
        var manifest = try copyManifest(gpa, &found.manifest);
        errdefer manifest.deinit(gpa);

        var start = try opening.recover(&found);
        errdefer start.deinit(gpa);
        try report.fill(&start);
        const ancestors = try gpa.dupe(manifest_file.Ancestor, start.ancestors);
        errdefer gpa.free(ancestors);
        try redo.finish(opening.store);
        assert(opening.store.version == start.version);

        db.* = .{
            .gpa = gpa,
            .storage = opening.storage,
            .store = opening.store,
            .level = options.level,
            .archive = options.archive,
            .lock = lock,
            .log = null,
            .epoch = start.epoch,
            .ancestors = ancestors,
            .manifest = manifest,
            .unusable = opening.unusable,
            .told_transactions = opening.store.transactions,
            .now_ns = .init(options.now_ns),
        };
        if (options.read_only) {
            start.deinit(gpa);
        } else db.log = .init(gpa, opening.storage, .{
            .segment_bytes = options.segment_bytes,
            .floor = options.level,
            .seed = options.seed,
        }, start);
        opening.store.durable = .{ .context = db, .reserve = Database.reserve };
        return db;
    }

    /// Before anything is written, the lock too: whether there is a place for a database.
    fn look(opening: *Opening) failure.Error!void {
        const may_create = opening.options.create and !opening.options.read_only;
        const names = opening.storage.list(opening.gpa, "") catch |err| {
            if (err != error.NotFound or !may_create) return err;
            return opening.storage.makeDir("");
        };
        defer storage_file.freeNames(opening.gpa, names);
        for (names) |name| if (manifest_file.numberOf(name) != null) return;
        // Not even a lock is left where strangers live.
        var found = try opening.scanAll() orelse return if (may_create) {} else error.NotFound;
        found.deinit();
    }

    fn scanAll(opening: *Opening) failure.Error!?scan.Scan {
        var problem: scan.Damage = .{};
        return scan.Scan.open(opening.gpa, opening.storage, .{
            .read_only = opening.options.read_only,
            .seed = opening.options.seed,
        }, &problem) catch |err| {
            if (err == error.Corrupt or err == error.Foreign) try opening.report.note(&problem);
            return err;
        };
    }

    /// A new database: HORIZON first, since a manifest says that there is one.
    fn create(opening: *Opening) failure.Error!scan.Scan {
        const options = opening.options;
        if (!options.create or options.read_only) return error.NotFound;
        const storage = opening.storage;
        const id = crypto.checksum(&.{ &options.seed, "database" });
        var epoch = std.mem.readInt(u32, crypto.checksum(&.{ &options.seed, "first epoch" })[0..4], .little);
        epoch = @max(epoch, 1);
        try storage.makeDir("wal");
        try files.makeHorizon(storage, id, epoch, 0);
        try writeManifest(opening.gpa, storage, &.{
            .database = id,
            .number = 1,
            .epoch = epoch,
            .time_ns = options.now_ns,
            .fingerprint = options.fingerprint,
            .oldest = 1,
            .origin = 0,
            .snapshots = &.{},
            .ancestors = &.{},
            .schema = options.schema,
        });
        opening.report.created = true;
        return (try opening.scanAll()).?;
    }

    /// Load the newest snapshot that is intact, and replay the log behind it.
    fn recover(opening: *Opening, found: *scan.Scan) failure.Error!scan.Start {
        var base: scan.Base = .{ .version = found.manifest.origin };
        const loaded = for (found.manifest.snapshots) |*named| {
            if (try opening.loadSnapshot(found, named, &base)) break true;
            opening.unusable += 1;
        } else false;
        // What it was restored from is nowhere else.
        if (!loaded and found.manifest.origin != 0) {
            const notes = found.notes.items;
            if (notes.len > 0) try opening.report.note(&notes[notes.len - 1]);
            return error.Corrupt;
        }
        var sink: Sink = .{ .store = opening.store };
        return found.run(base, &sink) catch |err| {
            if (err == error.Corrupt or err == error.Foreign) try opening.report.note(&found.problem);
            return err;
        };
    }

    /// False where it is damaged, which is noted: an older one and the log may do.
    fn loadSnapshot(opening: *Opening, found: *scan.Scan, named: *const manifest_file.Snapshot, base: *scan.Base) failure.Error!bool {
        var room: [40]u8 = undefined;
        const name = snapshot.nameOf(named.version, false, &room);
        var reader: snapshot.Reader = .{ .gpa = opening.gpa, .storage = opening.storage };
        defer reader.deinit();
        const mode: storage_file.Mode = if (opening.options.read_only) .read else .write;
        checkSnapshot(&reader, &found.manifest, named, name, mode) catch |err| switch (err) {
            error.Corrupt, error.NotFound => {
                const what = if (err == error.NotFound) "the snapshot is missing" else reader.problem.what;
                var damage: scan.Damage = .init(name, reader.problem.offset, what);
                damage.version = named.version;
                damage.durable = named.version;
                try found.note(damage);
                return false;
            },
            error.Foreign => {
                try opening.report.note(&.init(name, reader.problem.offset, reader.problem.what));
                return err;
            },
            else => return err,
        };
        snapshot.load(&reader, opening.store) catch |err| {
            if (err == error.Corrupt) try opening.report.note(&.init(name, reader.problem.offset, reader.problem.what));
            return err;
        };
        opening.report.snapshot_version = named.version;
        base.* = .{ .version = named.version, .tick = reader.header.tick, .time_ns = reader.header.time_ns };
        return true;
    }
};

/// Open the snapshot that a manifest names, and look at every byte of it: there is no way back from loading it.
fn checkSnapshot(
    reader: *snapshot.Reader,
    manifest: *const Manifest,
    named: *const manifest_file.Snapshot,
    name: []const u8,
    mode: storage_file.Mode,
) failure.Error!void {
    try reader.open(name, mode);
    const header = &reader.header;
    const whole = std.mem.eql(u8, &header.database, &manifest.database) and header.version == named.version and
        std.mem.eql(u8, &header.fingerprint, &manifest.fingerprint);
    if (!whole or reader.bytes != named.bytes or !std.mem.eql(u8, &reader.root, &named.root)) {
        reader.problem = .{ .offset = 0, .what = "it is not the snapshot that the manifest names" };
        return error.Corrupt;
    }
    try reader.verify();
}

/// Replays what the log hands over.
const Sink = struct {
    store: *Store,

    pub fn record(sink: *Sink, header: *const records.Header, body: []const u8) failure.Error!void {
        if (header.kind != .version) return;
        redo.replay(sink.store, header.version, header.tick, body) catch |err| return switch (err) {
            error.OutOfMemory => error.OutOfMemory,
            else => error.Corrupt,
        };
    }
};

fn copyManifest(gpa: std.mem.Allocator, from: *const Manifest) error{OutOfMemory}!Manifest {
    var copy = from.*;
    copy.snapshots = try gpa.dupe(manifest_file.Snapshot, from.snapshots);
    errdefer gpa.free(copy.snapshots);
    copy.ancestors = try gpa.dupe(manifest_file.Ancestor, from.ancestors);
    errdefer gpa.free(copy.ancestors);
    copy.schema = try gpa.dupe(u8, from.schema);
    return copy;
}

/// The canonical text of the schema of the data in a storage, which somebody else may have open; the caller's.
pub fn storedSchema(gpa: std.mem.Allocator, storage: Storage) failure.Error![]u8 {
    var problem: scan.Damage = .{};
    var found = try scan.Scan.open(gpa, storage, .{ .read_only = true, .seed = @splat(0) }, &problem) orelse return error.NotFound;
    defer found.deinit();
    return gpa.dupe(u8, found.manifest.schema);
}

/// A snapshot on its way: written, verified, named, and then part of the newest manifest.
pub const Taking = struct {
    db: *Database,
    log: *Log,
    writer: *snapshot.Writer,
    began_at: u64,
    /// The newest manifest names a snapshot of this very version.
    repeated: bool,
    named: bool = false,

    pub const State = enum(u8) {
        going,
        done,
        /// The log has to be flushed, as strict, before it goes on.
        waits,
    };

    /// Whatever was not finished is given up.
    pub fn deinit(taking: *Taking) void {
        const gpa = taking.db.gpa;
        taking.writer.deinit();
        taking.db.taken.store(0, .release);
        gpa.destroy(taking);
    }

    /// Go on for a few milliseconds.
    pub fn step(taking: *Taking) failure.Error!State {
        const db = taking.db;
        const writer = taking.writer;
        if (taking.named) return .done;
        if (taking.repeated) {
            taking.repeated = false;
            if (try taking.isThere()) {
                taking.named = true;
                return .done;
            }
        }
        const version = writer.header.version;
        if (writer.phase == .name and taking.log.durable.load(.acquire) < version) {
            try taking.log.check();
            return .waits;
        }
        if (!try writer.step()) return .going;
        const info = &writer.info;
        var kept: [2]manifest_file.Snapshot = undefined;
        kept[0] = .{ .version = version, .bytes = info.bytes, .root = info.root };
        var n: usize = 1;
        // A second one of the same version took the first one's place, and a damaged one is no way back.
        for (db.manifest.snapshots[db.unusable..]) |older| if (older.version < version and n < kept.len) {
            kept[n] = older;
            n += 1;
        };
        // With one snapshot the log begins where it did: it is the way back should that one be damaged.
        const oldest = if (n < kept.len) db.manifest.oldest else taking.log.neededFrom(kept[n - 1].version);
        try db.replaceManifest(kept[0..n], oldest, info.header.time_ns);
        taking.named = true;
        _ = db.snapshots.fetchAdd(1, .monotonic);
        db.snapshot_bytes.store(info.bytes, .monotonic);
        db.snapshot_at.store(taking.began_at, .monotonic);
        return .done;
    }

    /// Whether the snapshot that the manifest names is good: it is of the same version, and stays.
    fn isThere(taking: *Taking) failure.Error!bool {
        const db = taking.db;
        const writer = taking.writer;
        var reader: snapshot.Reader = .{ .gpa = db.gpa, .storage = db.storage };
        defer reader.deinit();
        checkSnapshot(&reader, &db.manifest, &db.manifest.snapshots[0], writer.name(), .read) catch |err| switch (err) {
            error.Corrupt, error.Foreign, error.NotFound => return false,
            else => return err,
        };
        writer.header = reader.header;
        writer.info = .{ .header = reader.header, .bytes = reader.bytes, .root = reader.root };
        writer.done = writer.total;
        return true;
    }
};

/// Write a manifest beside, sync it, and give it its name.
pub fn writeManifest(gpa: std.mem.Allocator, storage: Storage, manifest: *const Manifest) failure.Error!void {
    const content = try manifest.encode(gpa);
    defer gpa.free(content);
    var temporary_room: manifest_file.Name = undefined;
    const temporary = manifest_file.nameOf(manifest.number, true, &temporary_room);
    storage.remove(temporary) catch |err| if (err != error.NotFound) return err;
    const handle = try storage.open(temporary, .create);
    errdefer storage.remove(temporary) catch {};
    {
        defer storage.close(handle);
        try storage.write(handle, 0, content);
        try storage.sync(handle, .all);
    }
    var room: manifest_file.Name = undefined;
    try storage.rename(temporary, manifest_file.nameOf(manifest.number, false, &room));
    try storage.syncDir("");
}
