//! Memory for one piece of work after another, all given back at once: the first of it from a block that stays, and what
//! that has no room for from an arena.
//!
//! An arena of the standard library may be used by several threads, which costs it two locked instructions for every piece;
//! whoever makes a thousand small blocks in a millisecond takes ten thousand pieces. This one is used by one thread.

const std = @import("std");
const Alignment = std.mem.Alignment;

const block_bytes = 32 << 10;

pub const Scratch = struct {
    arena: std.heap.ArenaAllocator,
    /// Of `block_bytes`, once it was asked for.
    block: []u8 = &.{},
    used: usize = 0,

    pub fn init(gpa: std.mem.Allocator) Scratch {
        return .{ .arena = .init(gpa) };
    }

    pub fn deinit(scratch: *Scratch) void {
        scratch.arena.child_allocator.free(scratch.block);
        scratch.arena.deinit();
    }

    /// Take back everything that was handed out.
    pub fn reset(scratch: *Scratch) void {
        scratch.used = 0;
        _ = scratch.arena.reset(.retain_capacity);
    }

    /// Valid as long as this stays where it is.
    pub fn allocator(scratch: *Scratch) std.mem.Allocator {
        return .{ .ptr = scratch, .vtable = &.{ .alloc = alloc, .resize = resize, .remap = remap, .free = free } };
    }

    fn owns(scratch: *const Scratch, memory: []const u8) bool {
        const at = @intFromPtr(memory.ptr);
        const start = @intFromPtr(scratch.block.ptr);
        return at >= start and at < start + scratch.block.len;
    }

    fn isLast(scratch: *const Scratch, memory: []const u8) bool {
        return @intFromPtr(memory.ptr) + memory.len == @intFromPtr(scratch.block.ptr) + scratch.used;
    }

    fn alloc(context: *anyopaque, bytes: usize, alignment: Alignment, from: usize) ?[*]u8 {
        const scratch: *Scratch = @ptrCast(@alignCast(context));
        // Without memory for it the arena answers, and has none either.
        if (scratch.block.len == 0) scratch.block = scratch.arena.child_allocator.alloc(u8, block_bytes) catch &.{};
        const start = @intFromPtr(scratch.block.ptr);
        const at = alignment.forward(start + scratch.used) - start;
        if (at > scratch.block.len or bytes > scratch.block.len - at)
            return scratch.arena.allocator().rawAlloc(bytes, alignment, from);
        scratch.used = at + bytes;
        return scratch.block.ptr + at;
    }

    fn resize(context: *anyopaque, memory: []u8, alignment: Alignment, bytes: usize, from: usize) bool {
        const scratch: *Scratch = @ptrCast(@alignCast(context));
        if (!scratch.owns(memory)) return scratch.arena.allocator().rawResize(memory, alignment, bytes, from);
        if (!scratch.isLast(memory)) return bytes <= memory.len;
        const at = @intFromPtr(memory.ptr) - @intFromPtr(scratch.block.ptr);
        if (bytes > scratch.block.len - at) return false;
        scratch.used = at + bytes;
        return true;
    }

    fn remap(context: *anyopaque, memory: []u8, alignment: Alignment, bytes: usize, from: usize) ?[*]u8 {
        return if (resize(context, memory, alignment, bytes, from)) memory.ptr else null;
    }

    fn free(context: *anyopaque, memory: []u8, alignment: Alignment, from: usize) void {
        const scratch: *Scratch = @ptrCast(@alignCast(context));
        if (!scratch.owns(memory)) return scratch.arena.allocator().rawFree(memory, alignment, from);
        if (scratch.isLast(memory)) scratch.used -= memory.len;
    }
};

test "what is handed out does not overlap, grows where it is last, and comes back with the reset" {
    var scratch: Scratch = .init(std.testing.allocator);
    defer scratch.deinit();
    var prng = std.Random.DefaultPrng.init(4);
    const random = prng.random();
    for (0..20) |_| {
        scratch.reset();
        const a = scratch.allocator();
        var lists: [40]std.ArrayList(u32) = @splat(.empty);
        // More than the block has room for, and most of them not the last one.
        for (0..12_000) |n| {
            const list = &lists[if (n % 5 == 0) random.uintLessThan(usize, lists.len) else n / 300];
            try list.append(a, @intCast(n));
        }
        var seen: [12_000]bool = @splat(false);
        for (&lists) |*list| {
            for (list.items) |n| {
                try std.testing.expect(!seen[n]);
                seen[n] = true;
            }
            if (random.boolean()) list.deinit(a);
        }
        for (seen) |one| try std.testing.expect(one);
        const wide = try a.alignedAlloc(u8, .@"64", 100);
        try std.testing.expectEqual(0, @intFromPtr(wide.ptr) % 64);
    }
}
