//! Crashes: a life is recorded once, and images are made of every prefix of its changes. The process was killed, killed
//! within its last write; power was lost with nothing unsynced there, or with each sector and name as chance has it.
//!
//! Of each image must hold: it opens; its state is exactly that of one version, not older than what had been acknowledged
//! for that kind of crash, and none that was rejected; keys that were handed out do not come back; versions that readers
//! saw are there, or another epoch begins; opening changed no file, and opening again finds the same. Some images live on
//! for a while, and the same is asked of every moment of that.

const std = @import("std");
const failure = @import("failure.zig");
const history = @import("crash_history.zig");
const power_loss = @import("power_loss.zig");
const Disk = power_loss.Disk;
const Judge = @import("crash_judge.zig").Judge;
const Life = history.Life;
const Memory = @import("storage_memory.zig").Memory;
const Model = history.Model;
const Recording = power_loss.Recording;
const Variant = power_loss.Variant;

/// How many images, and how far they live on.
pub const Plan = struct {
    steps: u64 = 40,
    /// Images of lost power as chance has it, at each prefix.
    mixed: u64 = 6,
    /// One of so many images lives on.
    lives_on: u64 = 40,
    depth: u32 = 1,
};

/// One life, and all its moments.
pub fn enumerate(judge: *Judge, plan: *const Plan, seed: u64) !void {
    const gpa = judge.gpa;
    judge.seed = seed;
    judge.counts.lives += 1;
    var prng: std.Random.DefaultPrng = .init(seed);
    var recording: Recording = .init(gpa);
    defer recording.deinit();
    const memory = try Memory.createPlain(gpa, 1);
    defer memory.destroy();
    memory.recording = &recording;
    var model: Model = try .init(gpa);
    defer model.deinit();
    var life: Life = try .init(gpa, prng.random(), memory, memory.storage(), &recording, &model);
    defer life.deinit();
    var moments: Moments = .{ .judge = judge, .plan = plan, .random = prng.random(), .depth = 0 };
    try moments.live(&life, 0, plan.steps);
    var disk: Disk = .init(gpa);
    defer disk.deinit();
    try moments.ofRecording(&disk, &model, &recording, life.events.items);
}

const Moments = struct {
    judge: *Judge,
    plan: *const Plan,
    random: std.Random,
    /// How many crashes came before.
    depth: u32,

    /// Let a life go on for some steps on a disk without faults, where nothing may fail.
    fn live(moments: *Moments, life: *Life, floor: u64, steps: u64) !void {
        const judge = moments.judge;
        liveOn(life, floor, moments.random.uintAtMost(u64, steps)) catch |err| {
            if (err == error.OutOfMemory) return error.OutOfMemory;
            const complaint = if (err == error.Violation) life.complaint else @errorName(err);
            judge.violation(complaint, moments.place("life"), life.recording.changes.items.len, "");
            judge.keep(life.memory) catch {};
        };
        judge.counts.versions += life.model.newest();
        judge.counts.snapshots += life.snapshots;
        judge.counts.changes += life.recording.changes.items.len;
    }

    fn liveOn(life: *Life, floor: u64, steps: u64) !void {
        try life.open(floor);
        for (0..steps) |_| {
            try life.step();
            if (life.random.uintLessThan(u8, 24) == 0) try life.restart(life.random.boolean());
        }
        if (life.random.boolean()) try life.restart(true);
        life.abandon();
    }

    fn place(moments: *const Moments, comptime what: []const u8) []const u8 {
        return if (moments.depth == 0) what else what ++ " after a crash";
    }

    /// Every prefix of a recording that began on `disk`, with `before` known.
    fn ofRecording(moments: *Moments, disk: *Disk, before: *const Model, recording: *const Recording, events: []const history.Event) !void {
        var model = try before.clone();
        defer model.deinit();
        var told: usize = 0;
        for (0..recording.changes.items.len + 1) |prefix| {
            if (prefix > 0) try disk.note(recording.changes.items[prefix - 1]);
            while (told < events.len and events[told].at <= prefix) : (told += 1) try model.take(&events[told]);
            try moments.ofPrefix(disk, &model, prefix);
        }
    }

    fn ofPrefix(moments: *Moments, disk: *const Disk, model: *const Model, prefix: usize) !void {
        const random = moments.random;
        try moments.image(disk, model, prefix, .{ .kind = .bare });
        if (disk.isCertain()) return;
        try moments.image(disk, model, prefix, .{ .kind = .killed });
        if (disk.newest_write != null) {
            try moments.image(disk, model, prefix, .{ .kind = .killed_within, .seed = random.int(u64) });
        }
        for (0..if (moments.depth == 0) moments.plan.mixed else 2) |_| {
            try moments.image(disk, model, prefix, .{ .kind = .mixed, .seed = random.int(u64) });
        }
    }

    fn image(moments: *Moments, disk: *const Disk, model: *const Model, prefix: usize, variant: Variant) failure.Error!void {
        const judge = moments.judge;
        const left = try disk.image(variant, 2);
        defer left.destroy();
        judge.counts.images += 1;
        switch (variant.kind) {
            .killed, .killed_within => judge.counts.killed += 1,
            .bare, .mixed => judge.counts.lost_power += 1,
        }
        const progress = &model.progress;
        const asked: Judge.Asked = .{
            .floor = switch (variant.kind) {
                .killed => progress.written,
                // What was within the last write was not acknowledged, nor was anything behind it.
                .killed_within, .bare, .mixed => progress.durable,
            },
            // What was acknowledged as a database has to be one; what was on its way may become one.
            .create = !progress.created,
        };
        var found = try judge.open(left, model, asked);
        if (found.complaint == null and moments.random.uintLessThan(u8, 4) == 0) {
            const again = try judge.open(left, model, asked);
            found.complaint = again.complaint;
            if (again.version != found.version or again.sum != found.sum) found.complaint = "opening again finds another state";
        }
        if (found.complaint) |complaint| {
            try judge.keep(left);
            var room: [64]u8 = undefined;
            const detail = std.fmt.bufPrint(&room, "{s} {d}", .{ @tagName(variant.kind), variant.seed }) catch unreachable;
            return judge.violation(complaint, moments.place("image"), prefix, detail);
        }
        if (moments.depth < moments.plan.depth and moments.random.uintLessThan(u64, moments.plan.lives_on) == 0) {
            try moments.goOn(left, model, found.version);
        }
    }

    /// Let an image live on, and ask the same of each of its moments.
    fn goOn(moments: *Moments, left: *Memory, model: *const Model, version: u64) failure.Error!void {
        const judge = moments.judge;
        const gpa = judge.gpa;
        judge.counts.lived_on += 1;
        var disk: Disk = try .of(left);
        defer disk.deinit();
        var recording: Recording = .init(gpa);
        defer recording.deinit();
        left.recording = &recording;
        defer left.recording = null;
        // That far is certain: nothing on this disk is in doubt. What readers saw beyond was judged.
        var known = try model.clone();
        defer known.deinit();
        known.forgetAfter(version);
        known.progress.durable = version;
        known.progress.written = version;
        var life: Life = try .init(gpa, moments.random, left, left.storage(), &recording, &known);
        defer life.deinit();
        var next = moments.*;
        next.depth += 1;
        try next.live(&life, version, moments.plan.steps / 4);
        try next.ofRecording(&disk, &known, &recording, life.events.items);
    }
};
