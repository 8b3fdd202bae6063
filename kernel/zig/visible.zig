//! What one client may see: by table everything, nothing, or the rows of a list, and what came into those lists and
//! went out of them lately.
//!
//! Invariants:
//! - a list has its keys by ascending index, each alive in the version that it was made for, so each index once;
//! - the log has every key that came or went in a version above `floor`, in the order of versions;
//! - what is in a client's own list and in what it shares with others is seen while it is in one of them.

const std = @import("std");
const budget_file = @import("budget.zig");
const graph = @import("graph.zig");
const keyByIndex = @import("changes.zig").keyByIndex;
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

    /// What found a key; 0 where it is not in the list.
    pub fn foundBy(list: *const List, key: u64) u64 {
        const at = place(list.keys.items, @truncate(key));
        return if (at < list.keys.items.len and list.keys.items[at] == key) list.by.items[at] else 0;
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
};

/// What a client sees of one list: its own, and what it shares with others. Some keys may be in both.
pub const Seen = struct {
    own: *const List,
    shared: []const u64 = &.{},

    pub fn has(seen: *const Seen, key: u64) bool {
        return hasKey(seen.own.keys.items, key) or hasKey(seen.shared, key);
    }

    pub fn hasIndex(seen: *const Seen, index: u32) bool {
        return hasIndexIn(seen.own.keys.items, index) or hasIndexIn(seen.shared, index);
    }

    /// Whether there is nothing of its own beside what is shared.
    pub fn isShared(seen: *const Seen) bool {
        if (seen.own.keys.items.len > seen.shared.len) return false;
        return for (seen.own.keys.items) |key| {
            if (!hasKey(seen.shared, key)) break false;
        } else true;
    }

    pub fn count(seen: *const Seen) usize {
        var n = seen.shared.len;
        for (seen.own.keys.items) |key| n += @intFromBool(!hasKey(seen.shared, key));
        return n;
    }

    /// How many there are at most.
    pub fn most(seen: *const Seen) usize {
        return seen.own.keys.items.len + seen.shared.len;
    }

    /// All of them by index, in memory of `a` where no list has them.
    pub fn keys(seen: *const Seen, a: std.mem.Allocator) error{OutOfMemory}![]const u64 {
        if (seen.shared.len == 0) return seen.own.keys.items;
        if (seen.own.keys.items.len == 0) return seen.shared;
        const all = try a.alloc(u64, seen.most());
        var it = seen.iterate();
        var n: usize = 0;
        while (it.next()) |key| : (n += 1) all[n] = key;
        return all[0..n];
    }

    pub fn iterate(seen: *const Seen) Iterator {
        return .{ .own = seen.own.keys.items, .shared = seen.shared };
    }

    /// By index, each key once.
    pub const Iterator = struct {
        own: []const u64,
        shared: []const u64,

        pub fn next(it: *Iterator) ?u64 {
            if (it.own.len == 0 and it.shared.len == 0) return null;
            const from_own = it.shared.len == 0 or (it.own.len > 0 and @as(u32, @truncate(it.own[0])) <= @as(u32, @truncate(it.shared[0])));
            const key = if (from_own) it.own[0] else it.shared[0];
            if (it.own.len > 0 and it.own[0] == key) it.own = it.own[1..];
            if (it.shared.len > 0 and it.shared[0] == key) it.shared = it.shared[1..];
            return key;
        }
    };
};

/// Whether a key is among keys by index, of which several may have one index, by generation then.
pub fn hasKey(keys: []const u64, key: u64) bool {
    var at = place(keys, @truncate(key));
    while (at < keys.len and @as(u32, @truncate(keys[at])) == @as(u32, @truncate(key))) : (at += 1) {
        if (keys[at] == key) return true;
    }
    return false;
}

fn hasIndexIn(keys: []const u64, index: u32) bool {
    const at = place(keys, index);
    return at < keys.len and @as(u32, @truncate(keys[at])) == index;
}

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
        return hasIndexIn(told.entered, index);
    }

    pub fn isEmpty(told: *const Told) bool {
        return told.entered.len == 0 and told.left.len == 0 and told.removed.len == 0;
    }

    /// Whether it is the other itself.
    pub fn is(told: *const Told, other: *const Told) bool {
        return told.entered.ptr == other.entered.ptr and told.left.ptr == other.left.ptr and told.removed.ptr == other.removed.ptr;
    }

    /// What is to be told of what is seen, by what is told of its own part and of the shared one. What came into one of them
    /// did not come into sight where it was in the other all the time; what went out of one is still seen in the other.
    /// `shared` itself where nothing of the client's own makes a difference.
    pub fn join(a: std.mem.Allocator, seen: *const Seen, own: *const Told, shared: *const Told) error{OutOfMemory}!Told {
        const mine = seen.own.keys.items;
        if (seen.shared.len == 0 and shared.isEmpty()) return own.*;
        if (own.isEmpty()) {
            const differs = !shared.isEmpty() and for (mine) |key| {
                if (hasKey(shared.entered, key) or hasKey(shared.left, key)) break true;
            } else false;
            if (!differs) return shared.*;
        }
        var entered: std.ArrayList(u64) = .empty;
        for (own.entered) |key| {
            if (!hasKey(seen.shared, key) or hasKey(shared.entered, key)) try entered.append(a, key);
        }
        for (shared.entered) |key| if (!hasKey(mine, key)) try entered.append(a, key);
        var removed: std.ArrayList(u64) = .empty;
        try removed.appendSlice(a, own.removed);
        for (shared.removed) |key| if (!hasKey(own.removed, key)) try removed.append(a, key);
        var left: std.ArrayList(u64) = .empty;
        for (own.left) |key| {
            if (!hasKey(seen.shared, key) and !hasKey(shared.removed, key)) try left.append(a, key);
        }
        for (shared.left) |key| {
            if (!hasKey(mine, key) and !hasKey(own.left, key) and !hasKey(own.removed, key)) try left.append(a, key);
        }
        for ([_][]u64{ entered.items, left.items, removed.items }) |list| std.sort.pdq(u64, list, {}, keyByIndex);
        return .{ .entered = entered.items, .left = left.items, .removed = removed.items };
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

    /// Whether anything came or went in `(base, end]`.
    pub fn hasAny(log: *const Log, base: u64, end: u64) bool {
        return log.firstAfter(base) < log.firstAfter(end);
    }

    /// Of one list in `(base, end]`, by index, in memory of `a`.
    pub fn since(log: *const Log, a: std.mem.Allocator, base: u64, end: u64, list: u8) error{OutOfMemory}!Told {
        if (log.isQuiet(base)) return .{};
        const Last = struct { key: u64, at: u32, change: Change };
        var found: std.ArrayList(Last) = .empty;
        const from = log.firstAfter(base);
        for (log.entries.items[from..@max(from, log.firstAfter(end))], 0..) |entry, at| {
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
    lists: []const Seen,
    /// By list, whose keys it has.
    tables: []const u16,
    log: *const Log,
    /// Of what is shared, if anything is.
    shared: ?*const Log,
    /// The version that the lists are of, and the one that it was updated to before.
    version: u64,
    before: u64,
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
    const told = try log.since(a, 2, 6, 0);
    try std.testing.expectEqualSlices(u64, &.{2 << 32 | 4}, told.entered);
    try std.testing.expectEqualSlices(u64, &.{1 << 32 | 9}, told.left);
    try std.testing.expectEqualSlices(u64, &.{1 << 32 | 4}, told.removed);
    try std.testing.expect(told.hasEntered(4) and !told.hasEntered(9));
    try std.testing.expectEqualSlices(u64, &.{1 << 32 | 4}, (try log.since(a, 3, 6, 1)).entered);
    try std.testing.expectEqualSlices(u64, &.{1 << 32 | 4}, (try log.since(a, 2, 5, 0)).entered);
    try std.testing.expectEqual(0, (try log.since(a, 6, 6, 0)).entered.len);
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

test "what comes to one part of what is seen and was in the other does not come, and what is left in the other does not go" {
    const gpa = std.testing.allocator;
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    const a = arena.allocator();
    var prng = std.Random.DefaultPrng.init(11);
    const random = prng.random();
    const n = 24;
    for (0..400) |_| {
        // By key: alive or gone, and in which version, in each part before and now, and whether it moved meanwhile.
        var before: [2][n]bool = undefined;
        var now: [2][n]bool = undefined;
        var logs: [2]Log = .{ .{}, .{} };
        var alive: [n]bool = undefined;
        for (0..n) |key| {
            alive[key] = random.uintLessThan(u8, 5) > 0;
            for (&before, &now, &logs) |*was, *is, *log| {
                was[key] = random.boolean();
                is[key] = alive[key] and random.boolean();
                const stirred = was[key] != is[key] or (was[key] and random.uintLessThan(u8, 4) == 0);
                if (stirred and was[key]) try log.entries.append(a, .{ .version = 2, .key = key, .list = 0, .change = if (alive[key]) .left else .removed });
                if (stirred and is[key]) try log.entries.append(a, .{ .version = 3, .key = key, .list = 0, .change = .entered });
            }
        }
        for (&logs) |*log| std.sort.insertion(Entry, log.entries.items, {}, struct {
            fn less(_: void, x: Entry, y: Entry) bool {
                return x.version < y.version;
            }
        }.less);
        var lists: [2]List = .{ .{}, .{} };
        for (&lists, &now) |*list, *is| for (is, 0..) |in, key| if (in) {
            try list.keys.append(a, key);
            try list.by.append(a, 1);
        };
        const seen: Seen = .{ .own = &lists[0], .shared = lists[1].keys.items };
        const told: Told = try .join(a, &seen, &try logs[0].since(a, 1, 3, 0), &try logs[1].since(a, 1, 3, 0));

        var count: usize = 0;
        const keys = try seen.keys(a);
        for (0..n) |key| {
            const was = before[0][key] or before[1][key];
            const is = now[0][key] or now[1][key];
            count += @intFromBool(is);
            try std.testing.expectEqual(is, seen.has(key) and hasKey(keys, key));
            const entered = hasKey(told.entered, key);
            const left = hasKey(told.left, key);
            const removed = hasKey(told.removed, key);
            if (is and !was) try std.testing.expect(entered);
            if (!is and was) try std.testing.expect(if (alive[key]) left else removed);
            // More may be said than was needed, and never what is wrong.
            try std.testing.expect(!entered or is);
            try std.testing.expect(!(left or removed) or !is);
            try std.testing.expect(!(left and removed));
        }
        try std.testing.expectEqual(count, keys.len);
        try std.testing.expectEqual(count, seen.count());
        for ([_][]const u64{ told.entered, told.left, told.removed, keys }) |list| {
            for (list[@min(1, list.len)..], list[0..list.len -| 1]) |key, less| try std.testing.expect(less < key);
        }
    }
}
