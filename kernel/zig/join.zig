//! Joining component tables: the entities that have all of some tables and none of others, with the
//! row of each in every table.
//!
//! Where the first rows of the tables are those entities, in one order, the join is those rows as they are
//! (`aligned`), and whoever asked can use slices of whole columns without a copy. So it is where the tables hold the
//! same keys in the same order, where one holds the first of another's, and where they are all of a group.

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

/// All of a group's tables are among those to join: their first `count` rows are its members, and nobody else has a
/// row in all of them. `side` is one of them.
pub const Members = struct { count: u32, side: usize, tables: usize };

pub const Result = struct { count: u32, aligned: bool };

/// `rows[t]` receives the rows of `with[t]`; each has room for the rows of the smallest table.
/// Nothing is written when the result is aligned. Order: that of the smallest table's rows, or of the members.
pub fn join(with: []const Side, without: []const Side, rows: []const [*]u32, members: ?Members) Result {
    var smallest: usize = 0;
    for (with, 0..) |side, i| if (side.keys.len < with[smallest].keys.len) {
        smallest = i;
    };
    var first = with[smallest].keys;
    if (members) |m| {
        if (m.tables == with.len and without.len == 0) return .{ .count = m.count, .aligned = true };
        if (m.count <= first.len) {
            smallest = m.side;
            first = with[m.side].keys[0..m.count];
        }
    }
    if (without.len == 0) for (with) |side| {
        if (!std.mem.eql(u64, side.keys[0..first.len], first)) break;
    } else return .{ .count = @intCast(first.len), .aligned = true };

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
