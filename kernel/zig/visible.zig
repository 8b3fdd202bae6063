//! What one client may see: by table everything, nothing, or the rows of a list, and what came into those lists and
//! went out of them lately.
//!
//! Invariants:
//! - a list has its keys by ascending index, each alive in the version that it was made for, so each index once;
//! - the log has every key that came or went in a version above `floor`, in the order of versions.

const std = @import("std");
const budget_file = @import("budget.zig");
const graph = @import("graph.zig");
const Budget = budget_file.Budget;

/// Of a table, for one role: whether it may be seen, and which fields may not.
pub const TableProfile = struct {
    visible: bool,
    /// Of the fields those that may not, a bit each; none beyond its end.
    hidden: []const u64 = &.{},
};

/// By table, by its place in the catalogue.
pub const Profile = []const TableProfile;

pub const Scope = union(enum) {
    none,
    all,
    /// The rows whose keys are in this list.
    listed: u8,
};

pub const Change = enum(u8) { entered, left, removed };

pub const Entry = struct { version: u64, key: u64, list: u8, change: Change };

pub const List = struct {
    keys: std.ArrayList(u64) = .empty,
    /// By key: what found it.
    by: std.ArrayList(u64) = .empty,
    /// The structure of the table that the keys are alive in.
    struct_seq: u64 = 0,

    pub fn deinit(list: *List, gpa: std.mem.Allocator) void {
        list.keys.deinit(gpa);
        list.by.deinit(gpa);
    }

    /// Ask for its memory, to have it near when it is looked at soon.
    pub inline fn fetch(list: *const List, by: bool) void {
        // A line has eight keys; what is above that comes by itself.
        var at: usize = 0;
        const end = @min(list.keys.items.len, 128);
        while (at < end) : (at += 8) {
            @prefetch(list.keys.items.ptr + at, .{});
            if (by) @prefetch(list.by.items.ptr + at, .{});
        }
    }

    pub fn has(list: *const List, key: u64) bool {
        const at = place(list.keys.items, @truncate(key));
        return at < list.keys.items.len and list.keys.items[at] == key;
    }

    pub fn hasIndex(list: *const List, index: u32) bool {
        const at = place(list.keys.items, index);
        return at < list.keys.items.len and @as(u32, @truncate(list.keys.items[at])) == index;
    }
};

/// Where a key of this index is among keys by index, or would be.
pub fn place(keys: []const u64, index: u32) usize {
    return std.sort.lowerBound(u64, keys, index, struct {
        fn order(wanted: u32, key: u64) std.math.Order {
            return std.math.order(wanted, @as(u32, @truncate(key)));
        }
    }.order);
}

/// The last that is known of each key that came or went since a base.
pub const Told = struct {
    entered: []const u64 = &.{},
    left: []const u64 = &.{},
    removed: []const u64 = &.{},

    pub fn hasEntered(told: *const Told, index: u32) bool {
        const at = place(told.entered, index);
        return at < told.entered.len and @as(u32, @truncate(told.entered[at])) == index;
    }
};

/// What an audience keeps of its comings and goings at most; what is older needs a full sync. A client that walks
/// through a crowd meets some hundred a second.
pub const log_entries_max = 1 << 14;

pub const Log = struct {
    entries: std.ArrayList(Entry) = .empty,
    /// What came or went up to this version is forgotten.
    floor: u64 = 0,

    pub fn deinit(log: *Log, gpa: std.mem.Allocator) void {
        log.entries.deinit(gpa);
    }

    fn firstAfter(log: *const Log, version: u64) usize {
        return std.sort.upperBound(Entry, log.entries.items, version, struct {
            fn order(wanted: u64, entry: Entry) std.math.Order {
                return std.math.order(wanted, entry.version);
            }
        }.order);
    }

    /// Nobody asks for a base below `version` any more.
    pub fn settle(log: *Log, version: u64) void {
        if (version <= log.floor) return;
        log.floor = version;
        log.drop(log.firstAfter(version));
    }

    fn drop(log: *Log, n: usize) void {
        const items = log.entries.items;
        std.mem.copyForwards(Entry, items[0 .. items.len - n], items[n..]);
        log.entries.items.len -= n;
    }

    /// Keep it within its bound: the older half goes where it is above, and with an entry all of its version.
    pub fn bound(log: *Log) void {
        if (log.entries.items.len <= log_entries_max) return;
        log.settle(log.entries.items[log.entries.items.len / 2].version);
    }

    pub fn isQuiet(log: *const Log, base: u64) bool {
        const items = log.entries.items;
        return items.len == 0 or items[items.len - 1].version <= base;
    }

    /// Of one list, by index, in memory of `a`.
    pub fn since(log: *const Log, a: std.mem.Allocator, base: u64, list: u8) error{OutOfMemory}!Told {
        if (log.isQuiet(base)) return .{};
        const Last = struct { key: u64, at: u32, change: Change };
        var found: std.ArrayList(Last) = .empty;
        for (log.entries.items[log.firstAfter(base)..], 0..) |entry, at| {
            if (entry.list == list) try found.append(a, .{ .key = entry.key, .at = @intCast(at), .change = entry.change });
        }
        std.sort.pdq(Last, found.items, {}, struct {
            fn before(_: void, x: Last, y: Last) bool {
                const xi: u32 = @truncate(x.key);
                const yi: u32 = @truncate(y.key);
                if (xi != yi) return xi < yi;
                return if (x.key != y.key) x.key < y.key else x.at < y.at;
            }
        }.before);
        var lists: [3]std.ArrayList(u64) = @splat(.empty);
        for (found.items, 0..) |last, i| {
            if (i + 1 < found.items.len and found.items[i + 1].key == last.key) continue;
            try lists[@intFromEnum(last.change)].append(a, last.key);
        }
        return .{ .entered = lists[0].items, .left = lists[1].items, .removed = lists[2].items };
    }
};

/// One client's sight of one version: what a delta is narrowed to.
pub const Sight = struct {
    profile: Profile,
    /// By table.
    scopes: []const Scope,
    /// The first is that of the entities, the last that of components where the two differ.
    lists: []const List,
    log: *const Log,
    /// The version that the lists are of.
    version: u64,
    /// What may wait, and what matters; null where nothing does.
    budget: ?struct { budget: *Budget, weights: budget_file.Weights, ties: []const ?*const graph.Link } = null,
};

test "of what came and went the last is told, and what is settled is forgotten" {
    const gpa = std.testing.allocator;
    var log: Log = .{ .floor = 2 };
    defer log.deinit(gpa);
    const script = [_]Entry{
        .{ .version = 3, .key = 1 << 32 | 9, .list = 0, .change = .entered },
        .{ .version = 3, .key = 1 << 32 | 4, .list = 0, .change = .left },
        .{ .version = 4, .key = 1 << 32 | 9, .list = 0, .change = .left },
        .{ .version = 4, .key = 1 << 32 | 4, .list = 1, .change = .entered },
        .{ .version = 5, .key = 1 << 32 | 4, .list = 0, .change = .entered },
        .{ .version = 6, .key = 1 << 32 | 4, .list = 0, .change = .removed },
        .{ .version = 6, .key = 2 << 32 | 4, .list = 0, .change = .entered },
    };
    try log.entries.appendSlice(gpa, &script);
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    const a = arena.allocator();
    const told = try log.since(a, 2, 0);
    try std.testing.expectEqualSlices(u64, &.{2 << 32 | 4}, told.entered);
    try std.testing.expectEqualSlices(u64, &.{1 << 32 | 9}, told.left);
    try std.testing.expectEqualSlices(u64, &.{1 << 32 | 4}, told.removed);
    try std.testing.expect(told.hasEntered(4) and !told.hasEntered(9));
    try std.testing.expectEqualSlices(u64, &.{1 << 32 | 4}, (try log.since(a, 3, 1)).entered);
    try std.testing.expectEqual(0, (try log.since(a, 6, 0)).entered.len);
    log.settle(5);
    try std.testing.expectEqual(5, log.floor);
    try std.testing.expectEqual(2, log.entries.items.len);
    log.settle(3);
    try std.testing.expectEqual(5, log.floor);
}

test "a log that is too long forgets its older half, whole versions at a time" {
    const gpa = std.testing.allocator;
    var log: Log = .{};
    defer log.deinit(gpa);
    for (0..log_entries_max + 1) |i| {
        try log.entries.append(gpa, .{ .version = 1 + i / 100, .key = i, .list = 0, .change = .entered });
    }
    log.bound();
    try std.testing.expect(log.entries.items.len <= log_entries_max / 2 + 100);
    try std.testing.expectEqual(log.floor + 1, log.entries.items[0].version);
    try std.testing.expectEqual(0, log.entries.items[0].key % 100);
}
