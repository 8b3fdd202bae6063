//! What changed longer ago than the ring of change sets remembers: older sets, merged into coarser ones.
//!
//!     newest … one set a cut, the ring (view.zig) | 8 of one cut | 8 of two | 8 of four | … | oldest
//!
//! A base inside a merged set is served by all of it: a superset is right, since values are absolute. A merged
//! set is at most an eighth as long as it is old, so that is what a delta may say too much.
//!
//! Sets are immutable, and so is the list of them that a slot reads. A merge makes a new set and a new list; what
//! they replace stays until no slot that may read it is left, like a set that left the ring.
//!
//! Invariants:
//! - the ring's sets and the list's, newest first, follow each other without a gap: each begins where the next ends;
//! - for want of memory it forgets, from the oldest on, and never fails: a base that is not served gets a full sync;
//! - with bounds of 0 it is empty, and nothing is merged.

const std = @import("std");
const assert = std.debug.assert;
const changes = @import("changes.zig");
const limits = @import("limits.zig");
const ChangeSet = changes.ChangeSet;
const DirtySet = changes.DirtySet;
const TableChanges = changes.TableChanges;

/// Sets of one level, at least, before two of them become one of the next.
const level_sets = 8;

/// So that no publication pays for more than a few: each set that comes is one merge in the long run.
const merges_max = 2;

/// A change set of `2^level` cuts.
const Span = struct { set: *ChangeSet, level: u8 };

/// A change set, or a list of them, that views of the cuts up to `last` may still read.
pub const Retired = struct { set: *ChangeSet, last: u64 };
const RetiredList = struct { list: []*ChangeSet, first: u64, last: u64 };

pub const History = struct {
    /// Oldest first. The writer's own; slots read `list`.
    spans: std.ArrayList(Span) = .empty,
    /// The same sets, newest first, as the newest slot reads them: from the cut `born` on.
    list: []*ChangeSet = &.{},
    born: u64 = 0,
    /// Of the sets.
    bytes: usize = 0,
    versions_max: u64 = 0,
    bytes_max: usize = 0,
    retired: std.ArrayList(RetiredList) = .empty,

    pub fn deinit(history: *History, gpa: std.mem.Allocator) void {
        for (history.spans.items) |span| span.set.destroy(gpa);
        history.spans.deinit(gpa);
        gpa.free(history.list);
        for (history.retired.items) |retired| gpa.free(retired.list);
        history.retired.deinit(gpa);
    }

    /// Make room for `count` sets that may leave the ring, so that taking them cannot fail.
    pub fn ensure(history: *History, gpa: std.mem.Allocator, count: usize, sets: *std.ArrayList(Retired)) error{OutOfMemory}!void {
        try history.retired.ensureUnusedCapacity(gpa, 1);
        if (history.versions_max > 0) try history.spans.ensureUnusedCapacity(gpa, count);
        // Those that come may go at once, and a merge lets two go.
        try sets.ensureUnusedCapacity(gpa, count + history.spans.items.len + 2 * merges_max);
    }

    /// Take a set that leaves the ring, the newest so far, while the cut `cut` is published: views of cuts before may
    /// still read it. False where it is not kept: nobody asks for what came before it.
    pub fn take(history: *History, set: *ChangeSet) bool {
        if (history.versions_max == 0) return false;
        // From version 0 everything is sent anyway, and this is all that the set could say.
        if (set.version_before == 0 and set.version <= 1) return false;
        history.spans.appendAssumeCapacity(.{ .set = set, .level = 0 });
        history.bytes += set.bytes;
        return true;
    }

    /// Bring the sets within their bounds, and make the list that the slot of `cut`, which is being filled, reads.
    /// Cannot fail: `ensure` made room.
    pub fn settle(history: *History, gpa: std.mem.Allocator, cut: u64, version: u64, sets: *std.ArrayList(Retired)) void {
        const before = history.spans.items.len;
        var changed = before != history.list.len or (before > 0 and history.spans.items[before - 1].set != history.list[0]);
        for (0..merges_max) |_| {
            const at = history.crowded() orelse break;
            history.merge(gpa, at, cut, sets) catch break;
            changed = true;
        }
        while (history.spans.items.len > 0) {
            const oldest = history.spans.items[0].set;
            const is_old = oldest.version <= version -| history.versions_max;
            if (!is_old and history.bytes <= history.bytes_max) break;
            history.drop(0, cut, sets);
            changed = true;
        }
        if (!changed) return;
        const list = gpa.alloc(*ChangeSet, history.spans.items.len) catch {
            while (history.spans.items.len > 0) history.drop(history.spans.items.len - 1, cut, sets);
            return history.replace(&.{}, cut);
        };
        var at = list.len;
        for (history.spans.items) |span| {
            at -= 1;
            list[at] = span.set;
        }
        history.replace(list, cut);
    }

    /// Free the lists that no slot reads any more. `readable` says whether one does, of two cuts and those between.
    pub fn reclaim(history: *History, gpa: std.mem.Allocator, views: anytype) void {
        var kept: usize = 0;
        for (history.retired.items) |retired| {
            if (views.readable(retired.first, retired.last)) {
                history.retired.items[kept] = retired;
                kept += 1;
            } else gpa.free(retired.list);
        }
        history.retired.items.len = kept;
    }

    fn replace(history: *History, list: []*ChangeSet, cut: u64) void {
        if (history.list.len > 0)
            history.retired.appendAssumeCapacity(.{ .list = history.list, .first = history.born, .last = cut - 1 });
        history.list = list;
        history.born = cut;
    }

    /// The older of the two oldest spans of a level that has too many; null when none has.
    fn crowded(history: *const History) ?usize {
        const spans = history.spans.items;
        var end = spans.len;
        while (end > 0) {
            const level = spans[end - 1].level;
            var first = end;
            while (first > 0 and spans[first - 1].level == level) first -= 1;
            if (end - first > level_sets + 1) return first;
            end = first;
        }
        return null;
    }

    /// Two neighbours become one.
    fn merge(history: *History, gpa: std.mem.Allocator, at: usize, cut: u64, sets: *std.ArrayList(Retired)) error{OutOfMemory}!void {
        const spans = history.spans.items;
        const older, const newer = .{ spans[at], spans[at + 1] };
        assert(older.level == newer.level);
        const merged = try join(gpa, older.set, newer.set);
        for ([_]*ChangeSet{ older.set, newer.set }) |set| {
            history.bytes -= set.bytes;
            sets.appendAssumeCapacity(.{ .set = set, .last = cut - 1 });
        }
        history.bytes += merged.bytes;
        spans[at] = .{ .set = merged, .level = older.level + 1 };
        _ = history.spans.orderedRemove(at + 1);
    }

    fn drop(history: *History, at: usize, cut: u64, sets: *std.ArrayList(Retired)) void {
        const span = history.spans.orderedRemove(at);
        history.bytes -= span.set.bytes;
        sets.appendAssumeCapacity(.{ .set = span.set, .last = cut - 1 });
    }
};

/// One set that says what two that follow each other say. What only buffers and graphs are caught up by is left out.
fn join(gpa: std.mem.Allocator, older: *const ChangeSet, newer: *const ChangeSet) error{OutOfMemory}!*ChangeSet {
    assert(older.version <= newer.version_before);
    var count: usize = 0;
    var pairs = Pairs{ .older = older.tables, .newer = newer.tables };
    while (pairs.next()) |_| count += 1;

    const set = try gpa.create(ChangeSet);
    const tables = gpa.alloc(TableChanges, count) catch |err| {
        gpa.destroy(set);
        return err;
    };
    errdefer set.destroy(gpa);
    set.* = .{
        .cut = newer.cut,
        .version = newer.version,
        .version_before = older.version_before,
        .tables = tables,
        .bytes = @sizeOf(ChangeSet) + count * @sizeOf(TableChanges),
        .prev = null,
    };
    for (tables) |*table| table.* = .{ .number = 0 };
    pairs = .{ .older = older.tables, .newer = newer.tables };
    for (tables) |*table| {
        const pair = pairs.next().?;
        try joinTable(gpa, table, pair.older, pair.newer);
        set.bytes += (table.removed.len + table.inserted.len) * 8;
        for (table.all) |*column| set.bytes += column.bytes() + @sizeOf(DirtySet);
    }
    return set;
}

/// Tables of either set that show something, by ascending number.
const Pairs = struct {
    older: []const TableChanges,
    newer: []const TableChanges,

    const Pair = struct { older: ?*const TableChanges, newer: ?*const TableChanges };

    fn next(pairs: *Pairs) ?Pair {
        while (true) {
            const number = @min(first(pairs.older), first(pairs.newer));
            if (number == none) return null;
            const pair: Pair = .{ .older = take(&pairs.older, number), .newer = take(&pairs.newer, number) };
            if (pair.older != null or pair.newer != null) return pair;
        }
    }

    const none = std.math.maxInt(u32);

    fn first(list: []const TableChanges) u32 {
        return if (list.len == 0) none else list[0].number;
    }

    fn take(list: *[]const TableChanges, number: u32) ?*const TableChanges {
        if (first(list.*) != number) return null;
        const table = &list.*[0];
        list.* = list.*[1..];
        return if (table.shown) table else null;
    }
};

fn joinTable(gpa: std.mem.Allocator, into: *TableChanges, older: ?*const TableChanges, newer: ?*const TableChanges) error{OutOfMemory}!void {
    const nothing: TableChanges = .{ .number = 0 };
    const a = older orelse &nothing;
    const b = newer orelse &nothing;
    into.number = if (older) |of| of.number else newer.?.number;
    into.removed = try unite(gpa, a.removed, b.removed, &.{});
    // What the newer set removed is not there any more, or a newer one says that it came back.
    into.inserted = try unite(gpa, a.inserted, b.inserted, b.removed);
    const columns = @max(a.columns.len, b.columns.len);
    into.all = try gpa.alloc(DirtySet, columns);
    @memset(into.all, .{});
    into.columns = into.all;
    for (into.all, 0..) |*column, field| {
        const of_older = if (field < a.columns.len) &a.columns[field] else &no_rows;
        const of_newer = if (field < b.columns.len) &b.columns[field] else &no_rows;
        column.* = try DirtySet.either(gpa, of_older, of_newer);
    }
}

const no_rows: DirtySet = .{};

/// The keys of two sorted lists without those of a third, sorted and each once.
fn unite(gpa: std.mem.Allocator, a: []const u64, b: []const u64, without: []const u64) error{OutOfMemory}![]u64 {
    if (a.len + b.len == 0) return &.{};
    var kept: std.ArrayList(u64) = try .initCapacity(gpa, a.len + b.len);
    errdefer kept.deinit(gpa);
    var i: usize = 0;
    var j: usize = 0;
    var w: usize = 0;
    while (i < a.len or j < b.len) {
        const from_a = j == b.len or (i < a.len and !changes.keyByIndex({}, b[j], a[i]));
        const key = if (from_a) a[i] else b[j];
        if (i < a.len and a[i] == key) i += 1;
        if (j < b.len and b[j] == key) j += 1;
        while (w < without.len and changes.keyByIndex({}, without[w], key)) w += 1;
        if (w < without.len and without[w] == key) continue;
        kept.appendAssumeCapacity(key);
    }
    return kept.toOwnedSlice(gpa);
}
