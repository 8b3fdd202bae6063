//! Column memory: the private head, the immutable buffers that published versions consist of, and
//! the scratch copy that is lent to a system.
//!
//! Invariants:
//! - a buffer that any slot refers to is never written;
//! - a row outside the dirty sets since a buffer's cut equals the head's;
//! - nothing writable ever aliases the head or a buffer.

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("limits.zig");
const changes = @import("changes.zig");
const guard = @import("guard.zig");
const memory = @import("memory.zig");
const DirtySet = changes.DirtySet;

/// 64 bytes: a cache line, and what the widest vector load wants.
pub const alignment: std.mem.Alignment = .@"64";
pub const Memory = []align(64) u8;

/// Cells. Written before they are read: a row is filled when it comes, a buffer when it is caught up.
pub fn take(gpa: std.mem.Allocator, bytes: usize) error{OutOfMemory}!Memory {
    return memory.take(u8, alignment, gpa, bytes);
}

pub fn give(gpa: std.mem.Allocator, cells: Memory) void {
    memory.give(u8, alignment, gpa, cells);
}

pub const Buffer = struct {
    data: Memory,
    /// The cut whose contents it holds.
    cut: u64,
    /// Live slots that refer to it. The writer's own count.
    refs: u32,
    guarded: bool = false,
};

pub const Scratch = struct {
    data: Memory = &.{},
    /// `Column.writes` at which scratch and head were equal; 0 for never.
    writes: u64 = 0,
    /// The cut that was open then: catching up reads its dirty set and all later ones.
    cut: u64 = 0,
    lent: bool = false,
    /// The table's `struct_seq` when it was lent.
    struct_seq: u64 = 0,
};

pub const Column = struct {
    width: u32,
    head: Memory = &.{},
    /// Counts changes of the head, so that a scratch knows whether it is still equal.
    writes: u64 = 1,
    dirty: DirtySet = .{},
    /// Marks of the open cut that belong to versions made already: publication was put off, the log was not.
    aside: DirtySet = .{},
    current: ?*Buffer = null,
    /// Buffers no slot refers to, oldest first.
    spare: std.ArrayList(*Buffer) = .empty,
    buffers: u32 = 0,
    /// Its buffers are in pages that nobody can write to while they are published.
    guarded: bool = false,
    scratch: Scratch = .{},

    pub fn deinit(column: *Column, gpa: std.mem.Allocator) void {
        give(gpa, column.head);
        column.dirty.deinit(gpa);
        column.aside.deinit(gpa);
        for (column.spare.items) |buffer| destroyBuffer(gpa, buffer);
        column.spare.deinit(gpa);
        give(gpa, column.scratch.data);
    }

    pub inline fn cell(column: *const Column, row: u32) []u8 {
        const at = @as(usize, row) * column.width;
        return column.head[at..][0..column.width];
    }

    /// A cell of the scratch copy, as wide as the column.
    pub inline fn lentCell(column: *const Column, row: u32) []u8 {
        const at = @as(usize, row) * column.width;
        return column.scratch.data[at..][0..column.width];
    }

    pub inline fn write(column: *Column, gpa: std.mem.Allocator, row: u32, rows: u32, from: []const u8) void {
        @memcpy(column.cell(row), from);
        column.touch(gpa, row, rows);
    }

    pub inline fn touch(column: *Column, gpa: std.mem.Allocator, row: u32, rows: u32) void {
        column.dirty.mark(gpa, row, rows);
        column.writes += 1;
    }

    pub fn grow(column: *Column, gpa: std.mem.Allocator, cap: u32, rows: u32) error{OutOfMemory}!void {
        const bytes = @as(usize, cap) * column.width;
        if (bytes <= column.head.len) return;
        const fresh = try take(gpa, bytes);
        const used = @as(usize, rows) * column.width;
        @memcpy(fresh[0..used], column.head[0..used]);
        give(gpa, column.head);
        column.head = fresh;
    }

    /// A buffer nobody reads that can hold `rows`: the newest spare one, or a fresh one. Null when
    /// held views keep as many as there may be.
    pub fn takeBuffer(column: *Column, gpa: std.mem.Allocator, rows: u32, buffers_max: u32) error{OutOfMemory}!?*Buffer {
        const bytes = @as(usize, rows) * column.width;
        while (column.spare.pop()) |buffer| {
            if (buffer.data.len >= bytes) {
                if (buffer.guarded) guard.open(buffer.data);
                return buffer;
            }
            destroyBuffer(gpa, buffer);
            column.buffers -= 1;
        }
        if (column.buffers >= buffers_max) return null;
        const buffer = try gpa.create(Buffer);
        errdefer gpa.destroy(buffer);
        // Sized like the head, which grows exponentially, so a growing table does not make a
        // fresh buffer at each version.
        const room = @max(bytes, column.head.len, 64);
        buffer.* = .{
            .data = if (column.guarded) try guard.take(gpa, room) else try take(gpa, room),
            .cut = 0,
            .refs = 0,
            .guarded = column.guarded,
        };
        // Caught up next, for the first time: whole.
        memory.touch(buffer.data[0..bytes]);
        column.buffers += 1;
        return buffer;
    }

    /// No slot refers to `buffer` any more.
    pub fn giveBack(column: *Column, gpa: std.mem.Allocator, buffer: *Buffer) void {
        assert(buffer.refs == 0);
        if (buffer.guarded) guard.hide(buffer.data);
        if (column.spare.items.len >= limits.buffers_spare) {
            destroyBuffer(gpa, column.spare.orderedRemove(0));
            column.buffers -= 1;
        }
        var at = column.spare.items.len;
        while (at > 0 and column.spare.items[at - 1].cut > buffer.cut) at -= 1;
        column.spare.insert(gpa, at, buffer) catch {
            destroyBuffer(gpa, buffer);
            column.buffers -= 1;
        };
    }

    /// Bring `target`, which held the head's cells at some earlier moment, up to the head: copy the
    /// rows in any of `sets`. Every row outside them is equal already.
    pub fn catchUp(column: *const Column, target: Memory, rows: u32, sets: []const *const DirtySet) void {
        for (sets) |set| if (set.all) return column.copyAll(target, rows);
        const width = column.width;
        var widest: usize = 0;
        for (sets) |set| {
            widest = @max(widest, set.words.len);
            for (set.list.items) |row| {
                if (row >= rows) continue;
                const at = @as(usize, row) * width;
                @memcpy(target[at..][0..width], column.head[at..][0..width]);
            }
        }
        const words = @min(widest, (@as(usize, rows) + 63) / 64);
        var w: usize = 0;
        while (w < words) : (w += 1) {
            var bits: u64 = 0;
            for (sets) |set| {
                if (w < set.words.len) bits |= set.words[w];
            }
            if (bits == 0) continue;
            const first = w * 64;
            if (bits == ~@as(u64, 0)) {
                const n = @min(64, rows - first);
                const at = first * width;
                @memcpy(target[at..][0 .. n * width], column.head[at..][0 .. n * width]);
                continue;
            }
            while (bits != 0) : (bits &= bits - 1) {
                const row = first + @ctz(bits);
                if (row >= rows) break;
                const at = row * width;
                @memcpy(target[at..][0..width], column.head[at..][0..width]);
            }
        }
    }

    pub fn copyAll(column: *const Column, target: Memory, rows: u32) void {
        const used = @as(usize, rows) * column.width;
        @memcpy(target[0..used], column.head[0..used]);
    }
};

pub fn destroyBuffer(gpa: std.mem.Allocator, buffer: *Buffer) void {
    if (buffer.guarded) guard.give(gpa, buffer.data) else give(gpa, buffer.data);
    gpa.destroy(buffer);
}

test "catching up copies what is marked and nothing beyond the rows" {
    const gpa = std.testing.allocator;
    var column: Column = .{ .width = 2 };
    defer column.deinit(gpa);
    try column.grow(gpa, 200, 0);
    for (0..200) |row| column.cell(@intCast(row))[0..2].* = .{ @intCast(row), 1 };
    const target = try gpa.alignedAlloc(u8, alignment, 400);
    defer gpa.free(target);
    @memset(target, 0);
    var few: DirtySet = .{};
    defer few.deinit(gpa);
    few.mark(gpa, 3, 200);
    few.mark(gpa, 199, 200);
    var many: DirtySet = .{};
    defer many.deinit(gpa);
    many.markRange(gpa, 64, 80, 200);
    column.catchUp(target, 150, &.{ &few, &many });
    for (0..200) |row| {
        const expected = row == 3 or (row >= 64 and row < 144);
        try std.testing.expectEqual(expected, target[row * 2 + 1] == 1);
    }
}
