//! The log against crashes, faults and rot: random histories, cut off after every operation of the storage, in every way
//! that the model of a loss of power knows (`power_loss.zig`).
//!
//! What must hold of every image: it opens; what is found is an exact prefix of what was logged; it has every version that
//! was durable (after the death of the process: written) before the cut; when a version that somebody may have seen is
//! gone, a new epoch begins; opening again finds the same. Then the history goes on from one of the images.

const std = @import("std");
const bytes = @import("bytes.zig");
const failure = @import("failure.zig");
const log_file = @import("log.zig");
const log_test = @import("log_test.zig");
const power_loss = @import("power_loss.zig");
const record_file = @import("record.zig");
const scan_file = @import("scan.zig");
const segment = @import("segment.zig");
const storage_file = @import("storage.zig");
const Fault = @import("storage_faulty.zig").Fault;
const Faulty = @import("storage_faulty.zig").Faulty;
const Level = log_file.Level;
const Log = log_file.Log;
const Memory = @import("storage_memory.zig").Memory;
const Storage = storage_file.Storage;

const gpa = std.heap.c_allocator;

/// Every version's body, as it was logged: a length and the seed of its bytes.
const Body = struct {
    seed: u64,
    length: u32,

    fn fill(body: Body, out: *std.ArrayList(u8)) !void {
        try out.resize(gpa, body.length);
        var prng: std.Random.DefaultPrng = .init(body.seed);
        prng.random().bytes(out.items);
    }
};

/// What was so when the storage had done `operations`.
const Mark = struct { operations: usize, written: u64, durable: u64, shown: u64, closed: bool = false };

const History = struct {
    bodies: std.ArrayList(Body) = .empty,
    marks: std.ArrayList(Mark) = .empty,
    epoch: u32 = 1,
    /// As of a snapshot: opening replays what comes after it.
    base: u64 = 0,

    fn deinit(history: *History) void {
        history.bodies.deinit(gpa);
        history.marks.deinit(gpa);
    }

    fn at(history: *const History, operations: usize) Mark {
        var found = history.marks.items[0];
        for (history.marks.items) |mark| {
            if (mark.operations <= operations) found = mark;
        }
        return found;
    }
};

/// Compares what a scan hands over with the history.
const Checker = struct {
    history: *const History,
    next: u64,
    scratch: std.ArrayList(u8) = .empty,

    fn deinit(checker: *Checker) void {
        checker.scratch.deinit(gpa);
    }

    pub fn record(checker: *Checker, header: *const record_file.Header, body: []const u8) failure.Error!void {
        if (header.kind != .version) return;
        if (header.version != checker.next or header.version > checker.history.bodies.items.len) return error.BadBlock;
        const expected = checker.history.bodies.items[@intCast(header.version - 1)];
        expected.fill(&checker.scratch) catch return error.OutOfMemory;
        if (!std.mem.eql(u8, checker.scratch.items, body)) return error.BadBlock;
        checker.next += 1;
    }
};

const Found = struct { version: u64, epoch: u32, new_epoch: bool, torn: u64 };

/// Open, and compare what is there with the history. The log, when it is wanted, goes on there.
fn open(storage: Storage, history: *const History, seed: u8, problem: *scan_file.Damage, into: ?struct { log: *Log, floor: Level }) !Found {
    var checker: Checker = .{ .history = history, .next = history.base + 1 };
    defer checker.deinit();
    var scan = (try scan_file.Scan.open(gpa, storage, .{ .seed = @splat(seed) }, problem)).?;
    defer scan.deinit();
    errdefer problem.* = scan.problem;
    var start = try scan.run(.{ .version = history.base }, &checker);
    if (start.version != checker.next - 1) return error.TestUnexpectedResult;
    const found: Found = .{ .version = start.version, .epoch = start.epoch, .new_epoch = start.new_epoch, .torn = start.tornBytes() };
    if (into) |want| {
        want.log.* = .init(gpa, storage, .{ .segment_bytes = segment.bytes_min, .floor = want.floor, .seed = @splat(seed) }, start);
    } else {
        start.deinit(gpa);
    }
    return found;
}

/// Random work on a log, from its opening to a close or to nothing.
const Worker = struct {
    random: std.Random,
    history: *History,
    log: Log,
    floor: Level,
    /// Null where nobody asks for the past.
    recording: ?*const power_loss.Recording = null,
    strict_shown: u64 = 0,

    fn mark(worker: *Worker, closed: bool) !void {
        const durable = worker.log.durable.raw;
        const shown = if (worker.floor.atLeast(.strict)) durable else worker.log.newest;
        worker.strict_shown = @max(worker.strict_shown, shown);
        try worker.history.marks.append(gpa, .{
            .operations = if (worker.recording) |recording| recording.changes.items.len else 0,
            .written = worker.log.written.raw,
            .durable = durable,
            .shown = worker.strict_shown,
            .closed = closed,
        });
    }

    fn commit(worker: *Worker, level: Level) !void {
        const random = worker.random;
        const body: Body = .{ .seed = random.int(u64), .length = switch (random.uintLessThan(u8, 12)) {
            0...6 => random.uintLessThan(u32, 300),
            7...10 => random.uintLessThan(u32, 9_000),
            else => random.uintLessThan(u32, 90_000),
        } };
        var out: std.ArrayList(u8) = .empty;
        errdefer out.deinit(gpa);
        try body.fill(&out);
        try worker.log.reserve(body.length, 1);
        if (random.boolean()) try worker.log.reserve(random.uintLessThan(u64, 5000), 1);
        try worker.log.ready(body.length, 1);
        try worker.history.bodies.append(gpa, body);
        worker.log.append(.version, worker.log.newest + 1, 0, 1, level.max(worker.floor), 0, 1, out);
    }

    fn step(worker: *Worker) !void {
        const random = worker.random;
        const levels = [_]Level{ .memory, .relaxed, .strict, .paranoid };
        switch (random.uintLessThan(u8, 10)) {
            0...5 => try worker.commit(levels[random.weightedIndex(u8, &.{ 4, 4, 4, 1 })]),
            6 => {
                if (worker.log.begun) {
                    try worker.log.ready(0, 1);
                    worker.log.append(.point, worker.log.newest, 0, 1, .memory, 0, 0, .empty);
                }
            },
            7, 8 => try worker.log.flush(levels[random.weightedIndex(u8, &.{ 4, 4, 2, 1 })], 1),
            else => try worker.log.tend(1),
        }
    }

    fn work(worker: *Worker, steps: usize) !void {
        try worker.mark(false);
        for (0..steps) |_| {
            try worker.step();
            try worker.mark(false);
        }
        if (worker.random.boolean()) {
            try worker.log.close(1);
            try worker.mark(true);
        }
    }
};

const Counts = struct { images: u64 = 0, torn: u64 = 0, lost: u64 = 0, epochs: u64 = 0 };

fn check(image: *Memory, history: *const History, mark: Mark, killed: bool, counts: *Counts) !void {
    var problem: scan_file.Damage = .{};
    errdefer std.debug.print("{s} at {d}: {s} (version {d}, durable {d})\n", .{
        problem.file(), problem.offset, problem.what, problem.version, problem.durable,
    });
    const storage = image.storage();
    const found = try open(storage, history, 7, &problem, null);
    errdefer std.debug.print("found {}, was {}\n", .{ found, mark });
    counts.images += 1;
    counts.torn += @intFromBool(found.torn > 0);
    counts.lost += @intFromBool(found.version < mark.shown);
    counts.epochs += @intFromBool(found.new_epoch);
    if (found.version < if (killed) mark.written else mark.durable) return error.AcknowledgedIsLost;
    if (found.version < mark.shown and found.epoch == history.epoch) return error.EpochGoesOn;
    if (mark.closed and (found.version != mark.shown or found.new_epoch)) return error.CloseIsNotClean;
    const again = try open(storage, history, 7, &problem, null);
    if (!std.meta.eql(found, again)) return error.OpeningsDiffer;
}

/// One history over some crashes. Every prefix of every generation is cut off in several ways.
fn enumerate(seed: u64, generations: usize, steps: usize, variants: u64, counts: *Counts) !void {
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    var history: History = .{};
    defer history.deinit();
    var memory = try Memory.create(gpa, 1);
    defer memory.destroy();
    try log_test.createDatabase(memory.storage());
    for (0..generations) |generation| {
        errdefer std.debug.print("seed {d}, generation {d}\n", .{ seed, generation });
        var recording: power_loss.Recording = .init(gpa);
        defer recording.deinit();
        const floor: Level = @enumFromInt(random.uintLessThan(u8, 4));
        const began = history.bodies.items.len;
        // What is in doubt from before stays so.
        var disk: power_loss.Disk = undefined;
        {
            var worker: Worker = .{ .random = random, .history = &history, .log = undefined, .floor = floor, .recording = &recording };
            var problem: scan_file.Damage = .{};
            const found = try open(memory.storage(), &history, @truncate(seed + generation), &problem, .{ .log = &worker.log, .floor = floor });
            defer worker.log.deinit();
            try std.testing.expectEqual(began, found.version);
            history.epoch = found.epoch;
            if (random.boolean()) {
                // As a snapshot would: the manifest learns of the epoch, and opening begins here.
                var manifest = log_test.first_manifest;
                manifest.number = 2 + generation;
                manifest.epoch = found.epoch;
                manifest.ancestors = worker.log.start.ancestors;
                try log_test.writeManifest(memory.storage(), manifest);
                history.base = began;
            }
            history.marks.clearRetainingCapacity();
            disk = try memory.model.?.clone();
            memory.recording = &recording;
            try worker.work(steps);
        }
        memory.recording = null;
        defer disk.deinit();
        for (recording.changes.items, 0..) |change, i| {
            errdefer std.debug.print("cut after operation {d} of {d}\n", .{ i + 1, recording.changes.items.len });
            try disk.note(change);
            for (0..variants + 3) |n| {
                const kind: power_loss.Variant.Kind = switch (n) {
                    0 => .killed,
                    1 => .bare,
                    2 => .killed_within,
                    else => .mixed,
                };
                // An operation that was cut off was not answered.
                const mark = history.at(if (kind == .killed_within) i else i + 1);
                const image = try disk.image(.{ .kind = kind, .seed = seed *% 1000003 +% i * 31 +% n }, 1);
                defer image.destroy();
                try check(image, &history, mark, kind == .killed or kind == .killed_within, counts);
            }
        }
        // Go on from what some crash at the end leaves.
        const left = if (random.boolean()) try memory.killed() else try memory.image(.{ .seed = random.int(u64) });
        memory.destroy();
        memory = left;
        var problem: scan_file.Damage = .{};
        const found = try open(memory.storage(), &history, 1, &problem, null);
        history.bodies.shrinkRetainingCapacity(@intCast(found.version));
    }
}

test "no crash loses what was acknowledged, finds what was not logged, or goes unnoticed" {
    var counts: Counts = .{};
    for (1..7) |seed| try enumerate(seed, 4, 16, 4, &counts);
    // The images are of the kinds that matter.
    try std.testing.expect(counts.torn > counts.images / 20);
    try std.testing.expect(counts.lost > counts.images / 20);
    try std.testing.expect(counts.epochs < counts.images);
}

/// A run in which some operation fails: what is refused is refused typed, what was acknowledged is kept.
fn runWithFault(seed: u64, nth: u64, fault: Fault, goes_on: bool) !bool {
    errdefer std.debug.print("seed {d}, operation {d}, {t}, on and on: {}\n", .{ seed, nth, fault, goes_on });
    var prng: std.Random.DefaultPrng = .init(seed);
    var history: History = .{};
    defer history.deinit();
    const faulty = try Faulty.create(gpa, try Memory.create(gpa, 1));
    defer faulty.destroy();
    try log_test.createDatabase(faulty.memory.storage());
    faulty.fail(nth, fault);
    faulty.goes_on = goes_on;
    const floor: Level = @enumFromInt(prng.random().uintLessThan(u8, 4));
    var worker: Worker = .{ .random = prng.random(), .history = &history, .log = undefined, .floor = floor };
    var problem: scan_file.Damage = .{};
    var failed = false;
    if (open(faulty.storage(), &history, 1, &problem, .{ .log = &worker.log, .floor = floor })) |_| {
        defer worker.log.deinit();
        try worker.mark(false);
        for (0..25) |_| {
            worker.step() catch |err| switch (err) {
                error.DiskFull => try std.testing.expect(fault == .full),
                error.Failed => failed = true,
                else => |other| return other,
            };
            if (failed) try std.testing.expectError(error.Failed, worker.log.reserve(1, 1));
            const durable = worker.log.durable.raw;
            try worker.mark(false);
            // Nothing is believed after a failure, whatever the disk says later.
            if (failed) try std.testing.expectError(error.Failed, worker.log.flush(.strict, 1));
            try std.testing.expectEqual(durable, if (failed) worker.log.durable.raw else durable);
        }
        if (worker.log.close(1)) |_| {
            try std.testing.expect(!failed);
            // A run that could not begin may be seen by the next opening.
            try worker.mark(worker.log.begun);
        } else |err| switch (err) {
            error.Failed => failed = true,
            error.DiskFull => {},
            else => |other| return other,
        }
    } else |err| switch (err) {
        error.Io, error.DiskFull => try history.marks.append(gpa, .{ .operations = 0, .written = 0, .durable = 0, .shown = 0 }),
        else => |other| return other,
    }
    const mark = history.marks.getLast();
    // Of what a failed sync gave up only the system's memory knew, and opening does not ask that.
    const forgotten = failed and (fault == .sync_lost or fault == .full);
    var counts: Counts = .{};
    for (0..6) |n| {
        const image = if (n == 0) try faulty.memory.killed() else try faulty.memory.image(.{ .kind = if (n == 1) .bare else .mixed, .seed = seed + n });
        defer image.destroy();
        try check(image, &history, mark, n == 0 and !forgotten, &counts);
    }
    return faulty.failed > 0;
}

test "whatever fails first, it is told, nothing is written after it, and what was acknowledged is kept" {
    for (1..3) |seed| for ([_]Fault{ .io, .full, .short, .sync_lost }) |fault| {
        for ([_]bool{ false, true }) |goes_on| {
            var nth: u64 = 1;
            while (try runWithFault(seed, nth, fault, goes_on)) nth += 1;
            try std.testing.expect(nth > 40);
        }
    };
}

/// A closed log of three segments or more, in which all that was acknowledged is in HORIZON.
fn closedLog(history: *History, seed: u64) !*Memory {
    var prng: std.Random.DefaultPrng = .init(seed);
    const memory = try Memory.create(gpa, 1);
    errdefer memory.destroy();
    try log_test.createDatabase(memory.storage());
    for (0..2) |run| {
        var worker: Worker = .{ .random = prng.random(), .history = history, .log = undefined, .floor = .strict };
        var problem: scan_file.Damage = .{};
        _ = try open(memory.storage(), history, 1, &problem, .{ .log = &worker.log, .floor = .strict });
        defer worker.log.deinit();
        try worker.mark(false);
        while (worker.log.newest < 20 * (run + 1)) try worker.step();
        try worker.log.flush(.paranoid, 1);
        try std.testing.expectEqual(worker.log.newest, worker.log.horizon.raw);
        if (run == 0) try worker.log.close(1);
    }
    return memory;
}

test "a damaged file is the right state or an error, never another state" {
    var told: u64 = 0;
    for (1..4) |seed| {
        var history: History = .{};
        defer history.deinit();
        const memory = try closedLog(&history, seed);
        defer memory.destroy();
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        for (0..800) |round| {
            const rotten = try memory.killed();
            defer rotten.destroy();
            const what = try rot(rotten, random, round);
            errdefer std.debug.print("seed {d}, round {d}: {s}\n", .{ seed, round, what });
            var problem: scan_file.Damage = .{};
            if (open(rotten.storage(), &history, 7, &problem, null)) |found| {
                try std.testing.expectEqual(history.bodies.items.len, found.version);
            } else |err| switch (err) {
                error.Corrupt, error.Foreign => {
                    told += 1;
                    try std.testing.expect(problem.what.len > 0 and problem.file().len > 0);
                },
                else => |other| {
                    std.debug.print("seed {d}, round {d}: {s}\n", .{ seed, round, what });
                    return other;
                },
            }
        }
    }
    try std.testing.expect(told > 800);
}

/// Damage one of the files, or mix up two: what was done.
fn rot(memory: *Memory, random: std.Random, round: usize) ![]const u8 {
    const storage = memory.storage();
    var names: std.ArrayList([]const u8) = .empty;
    defer names.deinit(gpa);
    for (memory.names.keys()) |name| {
        if (memory.contents(name) != null) try names.append(gpa, name);
    }
    const name = try gpa.dupe(u8, names.items[random.uintLessThan(usize, names.items.len)]);
    defer gpa.free(name);
    const file = try gpa.dupe(u8, memory.contents(name).?);
    defer gpa.free(file);
    switch (round % 6) {
        0, 1 => {
            const at = random.uintLessThan(usize, file.len);
            file[at] ^= @as(u8, 1) << random.int(u3);
            try memory.put(name, file);
            return "a flipped bit";
        },
        2 => {
            const sector = random.uintLessThan(usize, file.len / 512 + 1) * 512;
            @memset(file[sector..@min(sector + 512, file.len)], 0);
            try memory.put(name, file);
            return "a zeroed sector";
        },
        3 => {
            try memory.put(name, file[0..random.uintLessThan(usize, file.len)]);
            return "a truncated file";
        },
        4 => {
            try storage.remove(name);
            return "a removed file";
        },
        else => {
            const other = names.items[random.uintLessThan(usize, names.items.len)];
            const theirs = try gpa.dupe(u8, memory.contents(other).?);
            defer gpa.free(theirs);
            const kept = try gpa.dupe(u8, other);
            defer gpa.free(kept);
            try memory.put(kept, file);
            try memory.put(name, theirs);
            return "two files changed places";
        },
    }
}
