//! A database's life on a disk in memory, and what it acknowledged on the way: what an image of any moment is judged by.
//!
//! The life is random and one thread's: transactions, versions of every level, flushes, housekeeping, snapshots while it
//! goes on, compaction, restarts with and without a clean close. What it said is kept as events beside the changes of the
//! disk, each with how many changes there had been: an acknowledgement counts from that change on.

const std = @import("std");
const assert = std.debug.assert;
const database = @import("database.zig");
const failure = @import("failure.zig");
const game = @import("crash_game.zig");
const power_loss = @import("power_loss.zig");
const record = @import("record.zig");
const segment = @import("segment.zig");
const Database = database.Database;
const Memory = @import("storage_memory.zig").Memory;
const Storage = @import("storage.zig").Storage;
const Store = @import("store.zig").Store;

/// What a version is.
pub const Version = struct { sum: u64, counter: u64, tick: u64 };

/// What the database said of how far it is.
pub const Progress = struct {
    /// It was opened: what is there is a database.
    created: bool = false,
    written: u64 = 0,
    durable: u64 = 0,
    horizon: u64 = 0,
    /// The newest version that readers saw.
    shown: u64 = 0,
    epoch: u32 = 0,
};

pub const Handed = struct { of: game.Handed, version: u64 };

pub const Event = struct {
    /// Changes of the disk that came before it.
    at: usize,
    what: union(enum) {
        made: Version,
        handed: Handed,
        progress: Progress,
        /// It was opened again, at this version: what came after it is rejected for good.
        reopened: u64,
    },
};

/// What is known at one moment of a life.
pub const Model = struct {
    gpa: std.mem.Allocator,
    /// By number; 0 is the empty world.
    versions: std.ArrayList(Version) = .empty,
    handed: std.ArrayList(Handed) = .empty,
    progress: Progress = .{},

    pub fn init(gpa: std.mem.Allocator) !Model {
        var model: Model = .{ .gpa = gpa };
        const store = try game.newStore(gpa);
        defer store.destroy() catch unreachable;
        try model.versions.append(gpa, .{ .sum = game.sumOf(store), .counter = 0, .tick = 0 });
        return model;
    }

    pub fn deinit(model: *Model) void {
        model.versions.deinit(model.gpa);
        model.handed.deinit(model.gpa);
    }

    pub fn clone(model: *const Model) !Model {
        var copy = model.*;
        copy.versions = try model.versions.clone(model.gpa);
        copy.handed = try model.handed.clone(model.gpa);
        return copy;
    }

    pub fn newest(model: *const Model) u64 {
        return model.versions.items.len - 1;
    }

    pub fn take(model: *Model, event: *const Event) !void {
        switch (event.what) {
            .made => |version| try model.versions.append(model.gpa, version),
            .handed => |handed| try model.handed.append(model.gpa, handed),
            .progress => |progress| model.progress = progress,
            .reopened => |version| model.forgetAfter(version),
        }
    }

    /// Of what came after a version nothing is kept.
    pub fn forgetAfter(model: *Model, version: u64) void {
        model.versions.shrinkRetainingCapacity(@intCast(version + 1));
        var kept: usize = 0;
        for (model.handed.items) |handed| if (handed.version <= version) {
            model.handed.items[kept] = handed;
            kept += 1;
        };
        model.handed.shrinkRetainingCapacity(kept);
        const progress = &model.progress;
        for ([_]*u64{ &progress.written, &progress.durable, &progress.horizon, &progress.shown }) |of| of.* = @min(of.*, version);
    }

    /// What is wrong with a store that was recovered, where at least `floor` had to be. Null when nothing is.
    pub fn judge(model: *const Model, store: *Store, floor: u64) ?[]const u8 {
        const version = store.version;
        if (version < floor) return "an acknowledged version is lost";
        if (version > model.newest()) return "there is a version that never was";
        const expected = model.versions.items[@intCast(version)];
        if (game.sumOf(store) != expected.sum) return "the rows are not those of that version";
        // What a transaction that was rolled back took is not given back: a snapshot may know of more than its version.
        if (game.counterOf(store) < expected.counter) return "a number that was handed out may come back";
        if (store.tick != expected.tick) return "the tick is not that version's";
        if (store.publishedVersion() != version) return "readers do not see the recovered version";
        for (model.handed.items) |handed| {
            if (handed.version <= version and !handed.of.isKnown(store)) return "a key that was handed out may come back";
        }
        return null;
    }
};

/// What is wrong, found by a life itself.
pub const Violation = error{Violation};

pub const options_schema = "the schema of the crash game";

pub fn optionsOf(random: std.Random, create: bool) database.Options {
    var options: database.Options = .{
        .seed = undefined,
        .now_ns = 1,
        .fingerprint = @splat(7),
        .schema = options_schema,
        .level = .memory,
        .create = create,
        .segment_bytes = segment.bytes_min,
    };
    random.bytes(&options.seed);
    return options;
}

pub const Life = struct {
    gpa: std.mem.Allocator,
    random: std.Random,
    memory: *Memory,
    storage: Storage,
    /// Null between an opening that failed and the end.
    store: ?*Store = null,
    db: ?*Database = null,
    taking: ?*database.Taking = null,
    recording: *power_loss.Recording,
    events: std.ArrayList(Event) = .empty,
    model: Model,
    level: record.Level,
    tick: u64 = 0,
    now_ns: i64 = 1,
    /// Keys of the version that is open.
    handed: std.ArrayList(game.Handed) = .empty,
    snapshots: u64 = 0,
    /// What it said when it found something wrong.
    complaint: []const u8 = "",

    /// A life that goes on from `model`, on what is in the memory. It has neither of them.
    pub fn init(gpa: std.mem.Allocator, random: std.Random, memory: *Memory, storage: Storage, recording: *power_loss.Recording, model: *const Model) !Life {
        return .{
            .gpa = gpa,
            .random = random,
            .memory = memory,
            .storage = storage,
            .recording = recording,
            .model = try model.clone(),
            .level = random.enumValue(record.Level),
            .tick = model.versions.items[model.versions.items.len - 1].tick,
        };
    }

    pub fn deinit(life: *Life) void {
        life.abandon();
        life.events.deinit(life.gpa);
        life.handed.deinit(life.gpa);
        life.model.deinit();
    }

    fn tell(life: *Life, what: @FieldType(Event, "what")) !void {
        const event: Event = .{ .at = life.recording.changes.items.len, .what = what };
        try life.model.take(&event);
        try life.events.append(life.gpa, event);
    }

    /// Note how far the database says it is.
    pub fn observe(life: *Life) !void {
        const log = &((life.db orelse return).log.?);
        const progress: Progress = .{
            .created = true,
            .written = log.written.load(.acquire),
            .durable = log.durable.load(.acquire),
            .horizon = log.horizon.load(.acquire),
            .shown = life.store.?.publishedVersion(),
            .epoch = life.db.?.epoch,
        };
        if (!std.meta.eql(progress, life.model.progress)) try life.tell(.{ .progress = progress });
    }

    /// The process dies: whatever it has in memory is gone.
    pub fn abandon(life: *Life) void {
        if (life.taking) |taking| taking.deinit();
        life.taking = null;
        if (life.db) |db| db.destroy();
        life.db = null;
        if (life.store) |store| store.destroy() catch unreachable;
        life.store = null;
        life.handed.clearRetainingCapacity();
    }

    /// Open what is there, and hold it against the model: at least `floor`.
    pub fn open(life: *Life, floor: u64) (failure.Error || Violation)!void {
        const store = try game.newStore(life.gpa);
        errdefer {
            store.destroy() catch unreachable;
            life.store = null;
        }
        var arena: std.heap.ArenaAllocator = .init(life.gpa);
        defer arena.deinit();
        var report: database.Report = .{ .arena = arena.allocator() };
        var options = optionsOf(life.random, true);
        options.level = life.level;
        options.now_ns = life.now_ns;
        const before = life.model.progress;
        const db = try Database.open(life.gpa, life.storage, store, options, &report);
        errdefer db.destroy();
        if (life.model.judge(store, floor)) |complaint| {
            life.complaint = complaint;
            return error.Violation;
        }
        const version = store.version;
        if (before.created and version < before.shown and report.epoch == before.epoch) {
            life.complaint = "versions that were seen are lost, and the epoch goes on";
            return error.Violation;
        }
        life.store = store;
        life.db = db;
        life.tick = store.tick;
        try life.tell(.{ .reopened = version });
        try life.observe();
    }

    fn publish(life: *Life) failure.Error!void {
        const store = life.store.?;
        const db = life.db.?;
        life.tick += 1 + life.random.uintLessThan(u64, 3);
        const level = life.random.enumValue(record.Level);
        const version = try db.publish(life.tick, life.now_ns, level) orelse return;
        assert(version == life.model.versions.items.len);
        for (life.handed.items) |handed| try life.tell(.{ .handed = .{ .of = handed, .version = version } });
        life.handed.clearRetainingCapacity();
        try life.tell(.{ .made = .{ .sum = game.sumOf(store), .counter = game.counterOf(store), .tick = life.tick } });
        // What has to be on disk first is not shown.
        const demanded = @max(@intFromEnum(level), @intFromEnum(life.level)) >= @intFromEnum(record.Level.strict);
        if (demanded) assert(store.publishedVersion() < version);
    }

    /// A moment of it. An error is the disk's; the database has said what it does about it.
    pub fn step(life: *Life) (failure.Error || Violation)!void {
        const store = life.store.?;
        const db = life.db.?;
        const random = life.random;
        life.now_ns += random.uintLessThan(u32, 30_000_000);
        switch (random.uintLessThan(u8, 32)) {
            0...8 => {
                for (0..1 + random.uintLessThan(usize, 3)) |_| {
                    try game.transact(store, life.gpa, random, &life.handed);
                }
                if (random.uintLessThan(u8, 4) != 0) try life.publish();
            },
            9...12 => try life.publish(),
            13...18 => try db.flush(random.enumValue(record.Level), life.now_ns),
            19...21 => try db.tend(life.now_ns),
            22, 23 => _ = try db.release(),
            24 => try db.point("a point", life.now_ns),
            25 => try db.noteDigest(store.publishedVersion(), @splat(9), life.now_ns),
            26 => if (life.taking == null) {
                life.taking = db.beginSnapshot(life.now_ns) catch |err| if (err == error.Busy) null else return err;
            },
            27, 28 => _ = try life.stepSnapshot(),
            // Without a pause, and with what it makes room for: what rests on a snapshot is what tests one.
            29 => {
                if (life.taking == null) life.taking = db.beginSnapshot(life.now_ns) catch |err| if (err == error.Busy) null else return err;
                while (life.taking != null) {
                    try life.stepSnapshot();
                    try life.observe();
                }
                if (random.boolean()) try life.compact();
            },
            30 => try life.compact(),
            else => {},
        }
        try life.observe();
    }

    fn stepSnapshot(life: *Life) failure.Error!void {
        const taking = life.taking orelse return;
        switch (try taking.step()) {
            .going => {},
            .waits => try life.db.?.flush(.strict, life.now_ns),
            .done => {
                taking.deinit();
                life.taking = null;
                life.snapshots += 1;
            },
        }
    }

    fn compact(life: *Life) failure.Error!void {
        var numbers: [0]u64 = .{};
        _ = try life.db.?.compact(&numbers);
    }

    /// End the run, cleanly or not, and begin another.
    pub fn restart(life: *Life, clean: bool) (failure.Error || Violation)!void {
        if (life.taking) |taking| taking.deinit();
        life.taking = null;
        // What was committed and not published is in no version.
        if (clean) try life.db.?.close(life.now_ns);
        const floor = if (clean) life.model.newest() else life.model.progress.written;
        life.abandon();
        try life.open(floor);
    }
};
