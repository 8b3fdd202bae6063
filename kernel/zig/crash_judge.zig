//! What is asked of a disk after a crash, a fault or rot: it is opened, and held against what was known.

const std = @import("std");
const database = @import("database.zig");
const failure = @import("failure.zig");
const game = @import("crash_game.zig");
const history = @import("crash_history.zig");
const power_loss = @import("power_loss.zig");
const Database = database.Database;
const Memory = @import("storage_memory.zig").Memory;
const Model = history.Model;
const Os = @import("storage_os.zig").Os;
const Recording = power_loss.Recording;

pub const Counts = struct {
    lives: u64 = 0,
    changes: u64 = 0,
    versions: u64 = 0,
    snapshots: u64 = 0,
    images: u64 = 0,
    killed: u64 = 0,
    lost_power: u64 = 0,
    lived_on: u64 = 0,
    faults: u64 = 0,
    /// Lives that stopped writing after a fault.
    stopped: u64 = 0,
    rotten: u64 = 0,
    /// Rotten disks that were not opened, and those of which an older state could be read.
    refused: u64 = 0,
    read_only: u64 = 0,
    violations: u64 = 0,
};

pub const Judge = struct {
    gpa: std.mem.Allocator,
    counts: Counts = .{},
    seed: u64 = 0,
    /// Whether violations are printed; tests look at the count.
    tells: bool = true,
    /// A directory for the files of the first violation.
    keeps: ?[]const u8 = null,
    /// Room for what a violation was about.
    text: [256]u8 = undefined,

    /// Something that must never be. `where` and `detail` say how to find it again, with the seed.
    pub fn violation(judge: *Judge, complaint: []const u8, where: []const u8, at: u64, detail: []const u8) void {
        judge.counts.violations += 1;
        if (!judge.tells or judge.counts.violations > 20) return;
        print("{{\"violation\": \"{s}\", \"in\": \"{s}\", \"seed\": {d}, \"at\": {d}, \"detail\": \"{s}\"}}\n", .{
            complaint, where, judge.seed, at, detail,
        });
    }

    pub const Found = struct { version: u64 = 0, sum: u64 = 0, complaint: ?[]const u8 = null, refused: ?failure.Error = null };

    /// How a disk is opened.
    pub const Asked = struct {
        /// The version that has to be there at least.
        floor: u64,
        /// Whether it may become a database by being opened.
        create: bool = false,
        read_only: bool = false,
        /// Whether it may be refused, with an error that fits.
        refusable: bool = false,
    };

    /// Open a disk, once, and hold what is found against the model; the disk must be as it was, but for the lock.
    pub fn open(judge: *Judge, disk: *Memory, model: *const Model, asked: Asked) error{OutOfMemory}!Found {
        const gpa = judge.gpa;
        var recording: Recording = .init(gpa);
        defer recording.deinit();
        disk.recording = &recording;
        defer disk.recording = null;
        var found: Found = .{};
        try judge.openOnto(disk, model, asked, &found);
        // What becomes a database by being opened is written to.
        if (found.complaint == null and !asked.create and !isUntouched(disk, &recording)) found.complaint = "opening changed a file";
        return found;
    }

    fn openOnto(judge: *Judge, disk: *Memory, model: *const Model, asked: Asked, found: *Found) error{OutOfMemory}!void {
        const gpa = judge.gpa;
        const store = game.newStore(gpa) catch return error.OutOfMemory;
        defer store.destroy() catch unreachable;
        var arena: std.heap.ArenaAllocator = .init(gpa);
        defer arena.deinit();
        var report: database.Report = .{ .arena = arena.allocator() };
        var prng: std.Random.DefaultPrng = .init(judge.counts.images);
        var options = history.optionsOf(prng.random(), asked.create);
        options.read_only = asked.read_only;
        const db = Database.open(gpa, disk.storage(), store, options, &report) catch |err| switch (err) {
            error.OutOfMemory => return error.OutOfMemory,
            error.Corrupt, error.Foreign, error.NotFound => {
                found.refused = err;
                if (!asked.refusable) found.complaint = judge.explain(err, &report);
                return;
            },
            else => {
                found.complaint = judge.explain(err, &report);
                return;
            },
        };
        defer db.destroy();
        found.version = store.version;
        found.sum = game.sumOf(store);
        found.complaint = model.judge(store, asked.floor);
        if (found.complaint != null) return;
        // Rot behind HORIZON looks like a tail that was torn, in which nobody saw anything: the window that is declared.
        if (asked.refusable) return;
        // Nothing that a crash leaves is damage, also where opening finds a way around it.
        if (report.damages.items.len > 0) {
            found.complaint = judge.explain(error.Corrupt, &report);
            return;
        }
        const progress = &model.progress;
        if (progress.created and store.version < progress.shown and report.epoch == progress.epoch)
            found.complaint = "versions that were seen are lost, and the epoch goes on";
    }

    /// An error of opening, and what it was about.
    fn explain(judge: *Judge, err: failure.Error, report: *const database.Report) []const u8 {
        const damages = report.damages.items;
        if (damages.len == 0) return @errorName(err);
        const of = damages[damages.len - 1];
        return std.fmt.bufPrint(&judge.text, "{s}: {s}, byte {d}, version {d}, durable {d}: {s}", .{
            @errorName(err), of.file, of.offset, of.version, of.durable, of.what,
        }) catch @errorName(err);
    }

    /// Whether nothing of a recording changed anything but the lock.
    fn isUntouched(disk: *const Memory, recording: *const Recording) bool {
        const lock = disk.names.get("LOCK");
        for (recording.changes.items) |change| switch (change) {
            .make => |made| if (made.node != lock) return false,
            .write => |written| if (written.node != lock) return false,
            .resize => |resized| if (resized.node != lock) return false,
            .rename, .remove => return false,
            .sync, .sync_lost, .reload, .sync_dir => {},
        };
        return true;
    }

    /// Write the files of the first disk that violates something where a person can look at them.
    pub fn keep(judge: *Judge, disk: *Memory) failure.Error!void {
        const root = judge.keeps orelse return;
        judge.keeps = null;
        const os = try Os.create(judge.gpa, root, 0);
        defer os.destroy();
        const into = os.storage();
        try into.makeDir("");
        for (disk.names.keys()) |name| if (disk.contents(name) == null) try into.makeDir(name);
        for (disk.names.keys()) |name| {
            const bytes = disk.contents(name) orelse continue;
            const handle = try into.open(name, .create);
            defer into.close(handle);
            try into.write(handle, 0, bytes);
        }
    }
};

extern "c" fn write(fd: c_int, bytes: [*]const u8, len: usize) isize;

pub fn print(comptime format: []const u8, arguments: anytype) void {
    var room: [1024]u8 = undefined;
    const text = std.fmt.bufPrint(&room, format, arguments) catch return;
    _ = write(1, text.ptr, text.len);
}
