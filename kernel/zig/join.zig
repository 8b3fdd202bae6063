//! Joining component tables: the entities that have all of some tables and none of others, with the
//! row of each in every table.
//!
//! Where the tables hold the same keys in the same order, the join is the tables as they are
//! (`aligned`), and whoever asked can use whole columns without a copy.

const std = @import("std");
const sparse = @import("sparse.zig");

pub const Side = struct {
    keys: []const u64,
    pages: sparse.Directory,

    /// The row of exactly this key.
    pub fn find(side: Side, key: u64) ?u32 {
        const row = sparse.find(side.pages, @truncate(key)) orelse return null;
        return if (side.keys[row] == key) row else null;
    }
};

pub const Result = struct { count: u32, aligned: bool };

/// `rows[t]` receives the rows of `with[t]`; each has room for the rows of the smallest table.
/// Nothing is written when the result is aligned. Order: that of the smallest table's rows.
pub fn join(with: []const Side, without: []const Side, rows: []const [*]u32) Result {
    var smallest: usize = 0;
    for (with, 0..) |side, i| if (side.keys.len < with[smallest].keys.len) {
        smallest = i;
    };
    const first = with[smallest].keys;
    var aligned = without.len == 0;
    if (aligned) for (with) |side| {
        if (side.keys.ptr == first.ptr) continue;
        if (!std.mem.eql(u64, side.keys, first)) {
            aligned = false;
            break;
        }
    };
    if (aligned) return .{ .count = @intCast(first.len), .aligned = true };

    var count: u32 = 0;
    next: for (first, 0..) |key, row| {
        for (without) |side| if (side.find(key) != null) continue :next;
        for (with, rows, 0..) |side, into, i| {
            into[count] = if (i == smallest) @intCast(row) else side.find(key) orelse continue :next;
        }
        count += 1;
    }
    return .{ .count = count, .aligned = false };
}
