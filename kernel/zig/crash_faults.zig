//! Faults: one operation of the disk fails in a life, each in turn and in each way. The database refuses what it cannot do
//! and goes on, or stops writing for good; then the process is killed, or power is lost.
//!
//! Of each life must hold: an error is one that fits; after the database has stopped nothing more is acknowledged; what it
//! had acknowledged is there afterwards, as after any crash, also where a failed sync had marked pages clean.

const std = @import("std");
const failure = @import("failure.zig");
const history = @import("crash_history.zig");
const power_loss = @import("power_loss.zig");
const storage_faulty = @import("storage_faulty.zig");
const Disk = power_loss.Disk;
const Fault = storage_faulty.Fault;
const Faulty = storage_faulty.Faulty;
const Judge = @import("crash_judge.zig").Judge;
const Life = history.Life;
const Memory = @import("storage_memory.zig").Memory;
const Model = history.Model;
const Recording = power_loss.Recording;
const Variant = power_loss.Variant;

/// Every operation of one life, failing in every way.
pub fn enumerate(judge: *Judge, steps: u64, seed: u64, until: anytype) !void {
    judge.seed = seed;
    judge.counts.lives += 1;
    var model: Model = try .init(judge.gpa);
    defer model.deinit();
    const operations = try one(judge, &model, steps, seed, 0, .io, false);
    for (1..operations + 1) |nth| {
        for (std.enums.values(Fault)) |fault| {
            for ([_]bool{ false, true }) |goes_on| {
                // A disk that is gone is one in every way.
                if (goes_on and fault != .io and fault != .full) continue;
                judge.counts.faults += 1;
                _ = try one(judge, &model, steps, seed, nth, fault, goes_on);
                if (until.isOver()) return;
            }
        }
    }
}

/// One life, in which the n-th operation fails (none, of 0). Returns how many there were.
fn one(judge: *Judge, before: *const Model, steps: u64, seed: u64, nth: u64, fault: Fault, goes_on: bool) !u64 {
    const gpa = judge.gpa;
    var prng: std.Random.DefaultPrng = .init(seed);
    var recording: Recording = .init(gpa);
    defer recording.deinit();
    const memory = try Memory.create(gpa, 1);
    memory.recording = &recording;
    const faulty = Faulty.create(gpa, memory) catch |err| {
        memory.destroy();
        return err;
    };
    defer faulty.destroy();
    if (nth > 0) faulty.fail(nth, fault);
    faulty.goes_on = goes_on;
    var life: Life = try .init(gpa, prng.random(), memory, faulty.storage(), &recording, before);
    defer life.deinit();
    var detail_room: [64]u8 = undefined;
    const detail = std.fmt.bufPrint(&detail_room, "{s}{s}", .{ @tagName(fault), if (goes_on) " from there on" else "" }) catch unreachable;
    live(judge, &life, faulty, steps) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.Violation => judge.violation(life.complaint, "life", nth, detail),
        else => judge.violation(@errorName(err), "life", nth, detail),
    };
    const operations = faulty.operations;

    var disk: Disk = .init(gpa);
    defer disk.deinit();
    for (recording.changes.items) |change| try disk.note(change);
    const progress = &life.model.progress;
    for ([_]Variant{
        .{ .kind = .killed },
        .{ .kind = .bare },
        .{ .seed = seed +% nth },
        .{ .seed = seed +% nth +% 1 << 32 },
    }) |variant| {
        const left = try disk.image(variant, 2);
        defer left.destroy();
        judge.counts.images += 1;
        const found = try judge.open(left, &life.model, .{
            .floor = if (variant.kind == .killed) floorOf(&life, faulty) else progress.durable,
            .create = !progress.created,
        });
        if (found.complaint) |complaint| {
            judge.keep(left) catch {};
            judge.violation(complaint, @tagName(variant.kind), nth, detail);
        }
    }
    return operations;
}

/// What a process that begins must find: all that was written, or, where the disk lost some of that, what is durable.
fn floorOf(life: *const Life, faulty: *const Faulty) u64 {
    const progress = &life.model.progress;
    const loses = faulty.fault == .full or faulty.fault == .sync_lost;
    return if (loses and faulty.failed > 0) progress.durable else progress.written;
}

fn live(judge: *Judge, life: *Life, faulty: *const Faulty, steps: u64) (failure.Error || history.Violation)!void {
    try openAgain(life, faulty);
    var stopped: ?history.Progress = null;
    for (0..steps) |n| {
        // Nothing to be done on a disk that is gone.
        if (life.db == null) return;
        const restarts = life.random.uintLessThan(u8, 24) == 0;
        const clean = life.random.boolean();
        life.step() catch |err| try forgive(life, err);
        const db = life.db.?;
        if (db.log.?.failed.load(.acquire) != 0) {
            if (stopped) |before| {
                const now = &life.model.progress;
                if (now.written != before.written or now.durable != before.durable or now.horizon != before.horizon) {
                    life.complaint = "something was acknowledged after a write had failed";
                    return error.Violation;
                }
            } else {
                judge.counts.stopped += 1;
                stopped = life.model.progress;
            }
            if (n % 4 != 0) continue;
            return;
        }
        if (!restarts) continue;
        life.restart(clean) catch |err| {
            try forgive(life, err);
            life.abandon();
            try openAgain(life, faulty);
        };
    }
}

/// Open, and once more where a fault was in the way; not where the disk is gone.
fn openAgain(life: *Life, faulty: *const Faulty) (failure.Error || history.Violation)!void {
    for (0..2) |_| {
        return life.open(floorOf(life, faulty)) catch |err| {
            try forgive(life, err);
            continue;
        };
    }
}

/// An error that may come of a fault. What was on its way is given up.
fn forgive(life: *Life, err: (failure.Error || history.Violation)) (failure.Error || history.Violation)!void {
    switch (err) {
        error.Io, error.DiskFull, error.Failed => {},
        else => return err,
    }
    if (life.taking) |taking| taking.deinit();
    life.taking = null;
    try life.observe();
}
