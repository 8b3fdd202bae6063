//! Memory for large runs of plain values.
//!
//! Not through `Allocator.alloc` and `free`: in ReleaseSafe those overwrite with a pattern all that they hand
//! out and take back. That catches use of undefined memory in ordinary code; for a column about to be
//! filled, or the pages of a sparse index that each commit clones, it was a quarter of the work. What is
//! taken here must be written before it is read, and whoever takes it says why that is so.

const std = @import("std");
const builtin = @import("builtin");

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

/// From how many bytes a call of the system is less than what it spares.
const touch_bytes_min = 128 << 10;
const populate_write = 23; // MADV_POPULATE_WRITE, Linux 5.14

extern "c" fn madvise(address: *anyopaque, length: usize, advice: c_int) c_int;

/// All of this memory is about to be written: have the system bring it in at once, which takes half as long as a page
/// fault for every page. A hint, which does nothing where it is not known.
pub fn touch(bytes: []u8) void {
    if (builtin.os.tag != .linux or bytes.len < touch_bytes_min) return;
    const page = std.heap.pageSize();
    const start = std.mem.alignForward(usize, @intFromPtr(bytes.ptr), page);
    const end = std.mem.alignBackward(usize, @intFromPtr(bytes.ptr) + bytes.len, page);
    if (start < end) _ = madvise(@ptrFromInt(start), end - start, populate_write);
}

/// Give a list room for `capacity` items: for lists that may have to hold many, of which most never do. What is not
/// written is not touched, and so is no memory of the system's either.
pub fn reserve(comptime T: type, gpa: std.mem.Allocator, list: *std.ArrayList(T), capacity: usize) error{OutOfMemory}!void {
    if (capacity <= list.capacity) return;
    const fresh = try take(T, .of(T), gpa, @max(capacity, list.capacity + list.capacity / 2));
    const used = list.items.len;
    @memcpy(fresh[0..used], list.items);
    give(T, .of(T), gpa, list.allocatedSlice());
    list.items = fresh[0..used];
    list.capacity = fresh.len;
}

test "a list keeps what it has when it is given room, and frees like any other" {
    const gpa = std.testing.allocator;
    var list: std.ArrayList(u16) = .empty;
    defer list.deinit(gpa);
    try reserve(u16, gpa, &list, 3);
    for (0..3) |i| list.appendAssumeCapacity(@intCast(i));
    try reserve(u16, gpa, &list, 100);
    try std.testing.expectEqualSlices(u16, &.{ 0, 1, 2 }, list.items);
    for (3..100) |i| list.appendAssumeCapacity(@intCast(i));
    const before = list.items.ptr;
    try reserve(u16, gpa, &list, 100);
    try std.testing.expectEqual(before, list.items.ptr);
    try list.append(gpa, 7);
    try std.testing.expectError(error.OutOfMemory, reserve(u16, std.testing.failing_allocator, &list, 1000));
    try std.testing.expectEqual(101, list.items.len);
}

test "what is brought in holds what it held, wherever it begins and however short it is" {
    const gpa = std.testing.allocator;
    const bytes = try gpa.alloc(u8, 3 * touch_bytes_min);
    defer gpa.free(bytes);
    for (bytes, 0..) |*byte, i| byte.* = @truncate(i *% 31);
    for ([_]usize{ 0, 1, 4096, 4097 }) |from| for ([_]usize{ 0, 5, touch_bytes_min, 2 * touch_bytes_min + 77 }) |n| touch(bytes[from..][0..n]);
    for (bytes, 0..) |byte, i| try std.testing.expectEqual(@as(u8, @truncate(i *% 31)), byte);
}
