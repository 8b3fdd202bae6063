//! Rot: what a life left is damaged in one place, while nobody writes. A bit is flipped, a sector zeroed or filled with
//! what was elsewhere, a file cut short, removed, put in another's place, or back to what it was earlier.
//!
//! What opens is the state of one version, not older than what HORIZON knew to be durable where that is whole, or is
//! refused with an error that says so; reading what is refused gives one version's state, or nothing. No file is changed.

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

const sector_bytes = power_loss.sector_bytes;

/// One life, and what it left, damaged in many ways.
pub fn enumerate(judge: *Judge, steps: u64, seed: u64, each: u64) !void {
    const gpa = judge.gpa;
    judge.seed = seed;
    judge.counts.lives += 1;
    var prng: std.Random.DefaultPrng = .init(seed);
    const random = prng.random();
    var recording: Recording = .init(gpa);
    defer recording.deinit();
    const memory = try Memory.createPlain(gpa, 1);
    defer memory.destroy();
    memory.recording = &recording;
    var model: Model = try .init(gpa);
    defer model.deinit();
    var life: Life = try .init(gpa, random, memory, memory.storage(), &recording, &model);
    defer life.deinit();
    life.open(0) catch return judge.violation("a life did not begin", "life", 0, "");
    for (0..steps) |_| life.step() catch |err| return judge.violation(@errorName(err), "life", 0, "");
    if (random.boolean()) {
        life.restart(true) catch |err| return judge.violation(@errorName(err), "life", 0, "");
    }
    judge.counts.snapshots += life.snapshots;
    life.abandon();
    memory.recording = null;

    // What was there at some earlier moment, for files to go back to.
    var disk: Disk = .init(gpa);
    defer disk.deinit();
    const moment = random.uintAtMost(usize, recording.changes.items.len);
    for (recording.changes.items[0..moment]) |change| try disk.note(change);
    const earlier = try disk.image(.{ .kind = .killed }, 2);
    defer earlier.destroy();

    var rot: Rot = .{ .judge = judge, .random = random, .memory = memory, .earlier = earlier, .model = &life.model };
    const names = try gpa.dupe([]const u8, memory.names.keys());
    defer gpa.free(names);
    for (names) |name| {
        if (memory.contents(name) == null or std.mem.eql(u8, name, "LOCK")) continue;
        try rot.ofFile(name, names, each);
    }
}

const Rot = struct {
    judge: *Judge,
    random: std.Random,
    memory: *Memory,
    earlier: *Memory,
    model: *const Model,

    fn ofFile(rot: *Rot, name: []const u8, names: []const []const u8, each: u64) !void {
        const gpa = rot.judge.gpa;
        const random = rot.random;
        const whole = rot.memory.contents(name).?;
        // Where there is nothing but zeros, one flip is like another.
        const used = std.mem.trimEnd(u8, whole, "\x00").len;
        const flips = @min(each, used);
        for (0..flips) |n| {
            const at = used * n / flips + random.uintLessThan(usize, used / flips);
            const bytes = try gpa.dupe(u8, whole);
            bytes[at] ^= @as(u8, 1) << random.int(u3);
            try rot.judgeWith(name, bytes, "flipped", at);
        }
        for (0..@min(each / 4, used / sector_bytes)) |_| {
            const sector = random.uintLessThan(usize, std.math.divCeil(usize, used, sector_bytes) catch unreachable) * sector_bytes;
            const end = @min(sector + sector_bytes, whole.len);
            const zeroed = try gpa.dupe(u8, whole);
            @memset(zeroed[sector..end], 0);
            try rot.judgeWith(name, zeroed, "zeroed", sector);
            const moved = try gpa.dupe(u8, whole);
            const other = random.uintLessThan(usize, whole.len / sector_bytes) * sector_bytes;
            @memcpy(moved[sector..end], whole[other..][0 .. end - sector]);
            if (!std.mem.eql(u8, moved, whole)) try rot.judgeWith(name, moved, "overwritten", sector) else gpa.free(moved);
        }
        for (0..@max(2, each / 8)) |_| {
            const length = random.uintLessThan(usize, whole.len);
            try rot.judgeWith(name, try gpa.dupe(u8, whole[0..length]), "cut short", length);
        }
        try rot.judgeWith(name, null, "removed", 0);
        for (names) |other| {
            const bytes = rot.memory.contents(other) orelse continue;
            if (std.mem.eql(u8, bytes, whole) or !isAlike(name, other)) continue;
            try rot.judgeWith(name, try gpa.dupe(u8, bytes), "another's", 0);
        }
        if (rot.earlier.contents(name)) |bytes| {
            if (!std.mem.eql(u8, bytes, whole)) try rot.judgeWith(name, try gpa.dupe(u8, bytes), "an earlier one", 0);
        }
    }

    /// Whether two files lie in one directory and begin alike.
    fn isAlike(a: []const u8, b: []const u8) bool {
        return a.len > 4 and b.len > 4 and std.mem.eql(u8, a[0..4], b[0..4]);
    }

    /// Open the disk with one file replaced by `bytes`, which it takes over, or gone.
    fn judgeWith(rot: *Rot, victim: []const u8, bytes: ?[]u8, what: []const u8, at: u64) !void {
        const judge = rot.judge;
        defer if (bytes) |some| judge.gpa.free(some);
        const disk = try Memory.createPlain(judge.gpa, 2);
        defer disk.destroy();
        for (rot.memory.names.keys()) |name| {
            const is_victim = std.mem.eql(u8, name, victim);
            const content = if (is_victim) bytes orelse continue else rot.memory.contents(name) orelse {
                try disk.plantDirectory(name);
                continue;
            };
            try disk.plantShared(name, content);
        }
        judge.counts.rotten += 1;
        const model = rot.model;
        // Everything that was written is there but for the victim. Where that is a segment, what is lost behind HORIZON
        // cannot be told from what never was.
        const is_segment = std.mem.startsWith(u8, victim, "wal/");
        const floor = if (is_segment) model.progress.horizon else model.progress.written;
        // A person has no file left that says that there was a store, or wants to see it opened.
        var found = try judge.open(disk, model, .{ .floor = floor, .refusable = true });
        if (found.refused != null and found.complaint == null) {
            judge.counts.refused += 1;
            const reading = try judge.open(disk, model, .{ .floor = 0, .read_only = true, .refusable = true });
            if (reading.refused == null) judge.counts.read_only += 1;
            found.complaint = reading.complaint;
        }
        if (found.complaint) |complaint| {
            judge.keep(disk) catch {};
            var room: [96]u8 = undefined;
            const detail = std.fmt.bufPrint(&room, "{s} {s}", .{ victim, what }) catch what;
            judge.violation(complaint, "rot", at, detail);
        }
    }
};
