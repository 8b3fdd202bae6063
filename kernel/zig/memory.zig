//! Memory for large runs of plain values.
//!
//! Not through `Allocator.alloc` and `free`: in ReleaseSafe those overwrite with a pattern all that they hand
//! out and take back. That catches use of undefined memory in ordinary code; for a column about to be
//! filled, or the pages of a sparse index that each commit clones, it was a quarter of the work. What is
//! taken here must be written before it is read, and whoever takes it says why that is so.

const std = @import("std");

pub fn take(comptime T: type, comptime alignment: std.mem.Alignment, gpa: std.mem.Allocator, n: usize) error{OutOfMemory}![]align(alignment.toByteUnits()) T {
    if (n == 0) return &.{};
    const bytes = std.math.mul(usize, n, @sizeOf(T)) catch return error.OutOfMemory;
    const memory = gpa.rawAlloc(bytes, alignment, @returnAddress()) orelse return error.OutOfMemory;
    return @as([*]align(alignment.toByteUnits()) T, @ptrCast(@alignCast(memory)))[0..n];
}

pub fn give(comptime T: type, comptime alignment: std.mem.Alignment, gpa: std.mem.Allocator, memory: []align(alignment.toByteUnits()) T) void {
    if (memory.len == 0) return;
    const bytes: [*]u8 = @ptrCast(memory.ptr);
    gpa.rawFree(bytes[0 .. memory.len * @sizeOf(T)], alignment, @returnAddress());
}
