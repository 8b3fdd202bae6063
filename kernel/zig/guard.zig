//! Guarded buffers: a store that catches whoever writes to, or still reads, what is not his. For finding bugs; a game
//! does not pay for it unless it asks.
//!
//! The cells of a published version are in pages of their own, which nobody can write to while any slot refers to
//! them: a wild write stops the process at the instruction that makes it. While no slot refers to a buffer its pages can
//! not be read either, so that a pin that was let go too early shows at once. Whenever a buffer was caught up it is
//! compared with the head, whole: a change that nobody marked stops the process at the version that it would have been
//! missing from. Cells behind the last row are poison, and no value that was there once.
//!
//! Pages come from the store's allocator: they are counted like all other memory, and may fail likewise.

const std = @import("std");
const compat = @import("compat.zig");
const column = @import("column.zig");
const memory = @import("memory.zig");

/// What unused cells of a guarded buffer hold: no number that a game is likely to have.
pub const poison = 0xa5;

/// Cells in whole pages, open for writing.
pub fn take(gpa: std.mem.Allocator, bytes: usize) error{OutOfMemory}!column.Memory {
    const page = std.heap.pageSize();
    const rounded = std.mem.alignForward(usize, @max(bytes, 1), page);
    const pages = gpa.rawAlloc(rounded, .fromByteUnits(page), @returnAddress()) orelse return error.OutOfMemory;
    @memset(pages[0..rounded], poison);
    return @alignCast(pages[0..rounded]);
}

pub fn give(gpa: std.mem.Allocator, cells: column.Memory) void {
    open(cells);
    gpa.rawFree(cells, .fromByteUnits(std.heap.pageSize()), @returnAddress());
}

/// Somebody is about to fill it.
pub fn open(cells: column.Memory) void {
    compat.protect(cells, .write);
}

/// It was filled with the head's cells, `used` bytes of them, and is about to be published.
pub fn close(cells: column.Memory, head: []const u8, used: usize) void {
    if (!std.mem.eql(u8, cells[0..used], head[0..used]))
        @panic("a buffer that was caught up differs from the head: a change of a row was not marked");
    @memset(cells[used..], poison);
    compat.protect(cells, .read);
}

/// No slot refers to it any more.
pub fn hide(cells: column.Memory) void {
    compat.protect(cells, .none);
}
