//! What becomes of a database when disks and processes die, in one program that tries it all:
//!
//!     crash crashes|faults|rot FIRST_SEED SEEDS SECONDS [DIRECTORY]
//!
//! prints a line of JSON for each violation and one with what was done, and leaves the files of the first violation in
//! the directory. `crash_moments.zig`, `crash_faults.zig` and `crash_rot.zig` say what is tried, and what must hold.
//!
//! `sims/crash.py` builds and runs it on all processors. A small part of what it does is in `crash_test.zig`.

const std = @import("std");
const compat = @import("compat.zig");
const crash_faults = @import("crash_faults.zig");
const crash_judge = @import("crash_judge.zig");
const crash_moments = @import("crash_moments.zig");
const crash_rot = @import("crash_rot.zig");
const Judge = crash_judge.Judge;

/// One line: std's own handler would bring the compiler's memset along, which is most of the time that a store's making takes.
pub const panic = if (@import("builtin").mode == .Debug)
    std.debug.FullPanic(std.debug.defaultPanic)
else
    std.debug.FullPanic(compat.smallPanic);

const Timespec = extern struct { seconds: i64, nanoseconds: i64 };
extern "c" fn clock_gettime(clock: c_int, out: *Timespec) c_int;

fn nowNs() u64 {
    var at: Timespec = undefined;
    const monotonic = 1;
    _ = clock_gettime(monotonic, &at);
    return @intCast(at.seconds * 1_000_000_000 + at.nanoseconds);
}

const Deadline = struct {
    ns: u64,

    pub fn isOver(deadline: Deadline) bool {
        return nowNs() >= deadline.ns;
    }
};

/// The C library's entry: what Zig's own asks of a program changes with its versions.
pub export fn main(count: c_int, arguments: [*][*:0]const u8) c_int {
    const violations = run(arguments[0..@intCast(count)]) catch |err| {
        crash_judge.print("{{\"error\": \"{s}\"}}\n", .{@errorName(err)});
        return 2;
    };
    return @intFromBool(violations > 0);
}

fn run(arguments: []const [*:0]const u8) !u64 {
    if (arguments.len < 5 or arguments.len > 6) return error.Usage;
    const Mode = enum { crashes, faults, rot };
    const mode = std.meta.stringToEnum(Mode, std.mem.span(arguments[1])) orelse return error.Usage;
    const first = try std.fmt.parseInt(u64, std.mem.span(arguments[2]), 10);
    const seeds = try std.fmt.parseInt(u64, std.mem.span(arguments[3]), 10);
    const seconds = try std.fmt.parseInt(u64, std.mem.span(arguments[4]), 10);
    var judge: Judge = .{ .gpa = std.heap.c_allocator };
    if (arguments.len == 6) judge.keeps = std.mem.span(arguments[5]);
    const began = nowNs();
    const deadline: Deadline = .{ .ns = began +| seconds *| 1_000_000_000 };
    const plan: crash_moments.Plan = .{};
    var seed = first;
    while (seed < first +| seeds and !deadline.isOver()) : (seed += 1) switch (mode) {
        .crashes => try crash_moments.enumerate(&judge, &plan, seed),
        .faults => try crash_faults.enumerate(&judge, 30, seed, deadline),
        .rot => try crash_rot.enumerate(&judge, 60, seed, 64),
    };
    const took = nowNs() - began;
    crash_judge.print("{{\"mode\": \"{s}\", \"seeds\": {d}", .{ @tagName(mode), seed - first });
    inline for (@typeInfo(crash_judge.Counts).@"struct".fields) |field| {
        crash_judge.print(", \"{s}\": {d}", .{ field.name, @field(judge.counts, field.name) });
    }
    crash_judge.print(", \"ns\": {d}}}\n", .{took});
    return judge.counts.violations;
}
