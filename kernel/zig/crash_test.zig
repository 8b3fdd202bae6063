//! A small part of what `crash.zig` tries, small enough for every run of the tests.

const std = @import("std");
const crash_faults = @import("crash_faults.zig");
const crash_moments = @import("crash_moments.zig");
const crash_rot = @import("crash_rot.zig");
const Judge = @import("crash_judge.zig").Judge;

const Never = struct {
    pub fn isOver(_: Never) bool {
        return false;
    }
};

test "of no moment of some lives anything acknowledged is lost" {
    var judge: Judge = .{ .gpa = std.heap.c_allocator };
    // With 7 a run began an epoch and died before its first version.
    for ([_]u64{ 1, 7 }) |seed| try crash_moments.enumerate(&judge, &.{}, seed);
    try std.testing.expectEqual(0, judge.counts.violations);
    try std.testing.expect(judge.counts.images > 1000 and judge.counts.lived_on > 10);
}

test "whichever operation fails, what was acknowledged is there" {
    var judge: Judge = .{ .gpa = std.heap.c_allocator };
    try crash_faults.enumerate(&judge, 8, 1, Never{});
    try std.testing.expectEqual(0, judge.counts.violations);
    try std.testing.expect(judge.counts.stopped > 10);
}

test "rot is found, or harms nothing" {
    var judge: Judge = .{ .gpa = std.heap.c_allocator };
    // How many places are seen from outside is the luck of a life: some end with a segment that says little.
    for ([_]u64{ 1, 2, 3 }) |seed| try crash_rot.enumerate(&judge, 40, seed, 16);
    try std.testing.expectEqual(0, judge.counts.violations);
    try std.testing.expect(judge.counts.refused > 10);
}
