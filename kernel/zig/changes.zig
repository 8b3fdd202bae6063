//! What changed: the one tracker that catching up a buffer, cutting a delta and (later) indexes
//! and events all read.
//!
//! While a cut is open the writer marks rows; at publication the marks are sealed into a
//! `ChangeSet`, which is immutable, linked to the one before, and lives until no view of a cut that
//! may read it is left. Marks name rows, not keys: a row moved by a delete is marked in every
//! column. A superset is always right, since values are absolute; a missing row never is.

const std = @import("std");
const assert = std.debug.assert;

/// Rows of one column that changed. A list while few, a bitmap when many, or simply all of them.
pub const DirtySet = struct {
    all: bool = false,
    /// Unsorted, with repeats, while the set is open; sorted and unique once sealed.
    list: std.ArrayList(u32) = .empty,
    words: []u64 = &.{},

    pub fn deinit(set: *DirtySet, gpa: std.mem.Allocator) void {
        set.list.deinit(gpa);
        gpa.free(set.words);
        set.* = .{};
    }

    pub fn isEmpty(set: *const DirtySet) bool {
        return !set.all and set.list.items.len == 0 and set.words.len == 0;
    }

    /// Whether a row is marked, in an open set or a sealed one.
    pub fn contains(set: *const DirtySet, row: u32) bool {
        if (set.all) return true;
        if (row / 64 < set.words.len) return set.words[row / 64] >> @intCast(row & 63) & 1 == 1;
        return std.mem.indexOfScalar(u32, set.list.items, row) != null;
    }

    /// Mark one row of a column with `rows` rows. Never fails: without memory the set becomes `all`.
    pub inline fn mark(set: *DirtySet, gpa: std.mem.Allocator, row: u32, rows: u32) void {
        if (row / 64 < set.words.len) {
            set.words[row / 64] |= @as(u64, 1) << @intCast(row & 63);
            return;
        }
        set.markSlow(gpa, row, rows);
    }

    fn markSlow(set: *DirtySet, gpa: std.mem.Allocator, row: u32, rows: u32) void {
        if (set.all) return;
        if (set.words.len == 0) {
            const items = set.list.items;
            if (items.len > 0 and items[items.len - 1] == row) return;
            if (items.len < @max(64, rows / 32)) {
                set.list.append(gpa, row) catch set.markAll(gpa);
                return;
            }
            set.toBitmap(gpa, @max(rows, row + 1)) catch return set.markAll(gpa);
        }
        if (row / 64 >= set.words.len) {
            set.widen(gpa, row + 1) catch return set.markAll(gpa);
        }
        set.words[row / 64] |= @as(u64, 1) << @intCast(row & 63);
    }

    /// `n` marks are coming: many of them go to a bitmap from the start.
    pub fn expect(set: *DirtySet, gpa: std.mem.Allocator, n: u32, rows: u32) void {
        if (set.all or set.words.len > 0) return;
        if (set.list.items.len + n < @max(64, rows / 32)) return;
        set.toBitmap(gpa, rows) catch set.markAll(gpa);
    }

    /// Mark the rows `[first, first + n)`.
    pub fn markRange(set: *DirtySet, gpa: std.mem.Allocator, first: u32, n: u32, rows: u32) void {
        if (set.all or n == 0) return;
        if (n < 64 and set.words.len == 0) {
            for (first..first + n) |row| set.mark(gpa, @intCast(row), rows);
            return;
        }
        set.toBitmap(gpa, @max(rows, first + n)) catch return set.markAll(gpa);
        var at = first;
        while (at < first + n) {
            const bits = @min(64 - (at & 63), first + n - at);
            const ones = if (bits == 64) ~@as(u64, 0) else (@as(u64, 1) << @intCast(bits)) - 1;
            set.words[at / 64] |= ones << @intCast(at & 63);
            at += bits;
        }
    }

    /// Mark 64 rows at once, from a comparison.
    pub fn markWord(set: *DirtySet, gpa: std.mem.Allocator, word: usize, bits: u64, rows: u32) void {
        if (set.all or bits == 0) return;
        if (set.words.len == 0 and @popCount(bits) < 4 and set.list.items.len < rows / 32) {
            var left = bits;
            while (left != 0) : (left &= left - 1) set.mark(gpa, @intCast(word * 64 + @ctz(left)), rows);
            return;
        }
        set.toBitmap(gpa, @max(rows, @as(u32, @intCast(word * 64 + 64)))) catch return set.markAll(gpa);
        set.words[word] |= bits;
    }

    pub fn markAll(set: *DirtySet, gpa: std.mem.Allocator) void {
        set.deinit(gpa);
        set.all = true;
    }

    fn widen(set: *DirtySet, gpa: std.mem.Allocator, rows: u32) error{OutOfMemory}!void {
        const need = (rows + 63) / 64;
        if (need <= set.words.len) return;
        const old = set.words.len;
        const len = if (old == 0) need else @max(need, old + old / 2);
        set.words = try gpa.realloc(set.words, len);
        @memset(set.words[old..], 0);
    }

    fn toBitmap(set: *DirtySet, gpa: std.mem.Allocator, rows: u32) error{OutOfMemory}!void {
        var highest: u32 = rows;
        for (set.list.items) |row| highest = @max(highest, row + 1);
        try set.widen(gpa, highest);
        for (set.list.items) |row| set.words[row / 64] |= @as(u64, 1) << @intCast(row & 63);
        set.list.clearAndFree(gpa);
    }

    /// Make the set of a column with `rows` rows final: all, or whichever of list and bitmap is
    /// smaller, sorted and unique.
    pub fn seal(set: *DirtySet, gpa: std.mem.Allocator, rows: u32) void {
        if (set.all) return;
        if (set.words.len > 0) {
            var marked: usize = 0;
            for (set.words) |word| marked += @popCount(word);
            if (set.coversAll(rows)) return set.markAll(gpa);
            if (marked * 4 >= set.words.len * 8) return;
            var list: std.ArrayList(u32) = .empty;
            list.ensureTotalCapacityPrecise(gpa, marked) catch return;
            for (set.words, 0..) |word, w| {
                var left = word;
                while (left != 0) : (left &= left - 1) list.appendAssumeCapacity(@intCast(w * 64 + @ctz(left)));
            }
            gpa.free(set.words);
            set.words = &.{};
            set.list = list;
            return;
        }
        const items = set.list.items;
        if (items.len < 2) return;
        if (!std.sort.isSorted(u32, items, {}, std.sort.asc(u32))) std.sort.pdq(u32, items, {}, std.sort.asc(u32));
        var kept: usize = 1;
        for (items[1..]) |row| {
            if (row == items[kept - 1]) continue;
            items[kept] = row;
            kept += 1;
        }
        set.list.items.len = kept;
    }

    /// Take over the marks of another open set, which is empty then. Never fails: without memory the set becomes `all`.
    pub fn absorb(set: *DirtySet, gpa: std.mem.Allocator, other: *DirtySet, rows: u32) void {
        if (set.isEmpty()) {
            std.mem.swap(DirtySet, set, other);
            return;
        }
        if (other.all) {
            set.markAll(gpa);
            other.all = false;
            return;
        }
        for (other.list.items) |row| set.mark(gpa, row, rows);
        other.list.items.len = 0;
        if (other.words.len == 0) return;
        if (!set.all) {
            if (set.toBitmap(gpa, @intCast(other.words.len * 64))) {
                for (set.words[0..other.words.len], other.words) |*to, from| to.* |= from;
            } else |_| set.markAll(gpa);
        }
        gpa.free(other.words);
        other.words = &.{};
    }

    /// The marks of two sealed sets in a new one, as if sealed: all, a list or a bitmap.
    pub fn either(gpa: std.mem.Allocator, a: *const DirtySet, b: *const DirtySet) error{OutOfMemory}!DirtySet {
        if (a.all or b.all) return .{ .all = true };
        var set: DirtySet = .{};
        if (a.isEmpty() and b.isEmpty()) return set;
        const listed = a.list.items.len + b.list.items.len;
        var words = @max(a.words.len, b.words.len);
        for ([_]*const DirtySet{ a, b }) |of| {
            const items = of.list.items;
            if (items.len > 0) words = @max(words, items[items.len - 1] / 64 + 1);
        }
        if (a.words.len == 0 and b.words.len == 0 and listed * 4 < words * 8) {
            try set.list.ensureTotalCapacityPrecise(gpa, listed);
            var x = a.list.items;
            var y = b.list.items;
            while (x.len > 0 and y.len > 0) {
                const row = @min(x[0], y[0]);
                set.list.appendAssumeCapacity(row);
                x = x[@intFromBool(x[0] == row)..];
                y = y[@intFromBool(y[0] == row)..];
            }
            set.list.appendSliceAssumeCapacity(x);
            set.list.appendSliceAssumeCapacity(y);
            return set;
        }
        set.words = try gpa.alloc(u64, words);
        @memset(set.words, 0);
        for ([_]*const DirtySet{ a, b }) |of| {
            for (set.words[0..of.words.len], of.words) |*to, from| to.* |= from;
            for (of.list.items) |row| set.words[row / 64] |= @as(u64, 1) << @intCast(row & 63);
        }
        // How many rows there were is not known here, so a bitmap that has all of them stays one.
        return set;
    }

    fn coversAll(set: *const DirtySet, rows: u32) bool {
        if (rows == 0 or set.words.len * 64 < rows) return false;
        for (set.words[0 .. rows / 64]) |word| if (word != ~@as(u64, 0)) return false;
        if (rows & 63 == 0) return true;
        const tail = (@as(u64, 1) << @intCast(rows & 63)) - 1;
        return set.words[rows / 64] & tail == tail;
    }

    pub fn bytes(set: *const DirtySet) usize {
        return set.list.capacity * 4 + set.words.len * 8;
    }

    /// Marks of rows below `rows`, or more where some are above it.
    pub fn count(set: *const DirtySet, rows: u32) usize {
        if (set.all) return rows;
        var n = set.list.items.len;
        for (set.words) |word| n += @popCount(word);
        return n;
    }

    /// The marked rows below `rows`, ascending and each once, of a sealed set.
    pub fn iterate(set: *const DirtySet, rows: u32) Iterator {
        // Sealed it is one of the three: a row in a list and in a bitmap would come twice.
        assert(set.words.len == 0 or set.list.items.len == 0);
        return .{ .set = set, .rows = rows };
    }

    pub const Iterator = struct {
        set: *const DirtySet,
        rows: u32,
        at: usize = 0,
        bits: u64 = 0,

        /// The next rows, as many as there is room for; none at the end. Many at once: whoever works on rows between
        /// the bits of a bitmap waits for each.
        pub fn fill(it: *Iterator, into: []u32) []const u32 {
            if (it.set.words.len > 0) return it.fillFromWords(into);
            const list = it.set.list.items;
            const end = if (it.set.all) it.rows else list.len;
            const n = @min(into.len, end - it.at);
            for (into[0..n], it.at..) |*row, i| {
                row.* = if (it.set.all) @intCast(i) else list[i];
                if (row.* < it.rows) continue;
                // A list ascends: from here on all are too high.
                const found = into[0 .. i - it.at];
                it.at = end;
                return found;
            }
            it.at += n;
            return into[0..n];
        }

        fn fillFromWords(it: *Iterator, into: []u32) []const u32 {
            const words = it.set.words;
            var bits = it.bits;
            var at = it.at;
            var n: usize = 0;
            while (n < into.len) {
                if (bits == 0) {
                    if (at == words.len) break;
                    bits = words[at];
                    at += 1;
                    continue;
                }
                const row = (at - 1) * 64 + @ctz(bits);
                bits &= bits - 1;
                if (row >= it.rows) {
                    at = words.len;
                    bits = 0;
                    break;
                }
                into[n] = @intCast(row);
                n += 1;
            }
            it.bits = bits;
            it.at = at;
            return into[0..n];
        }
    };

    /// OR this set into a bitmap over `rows` rows.
    pub fn orInto(set: *const DirtySet, bitmap: []u64, rows: u32) void {
        assert(bitmap.len >= (rows + 63) / 64);
        if (set.all) {
            fill(bitmap, rows);
            return;
        }
        if (set.words.len > 0) {
            const n = @min(set.words.len, (rows + 63) / 64);
            for (bitmap[0..n], set.words[0..n]) |*to, from| to.* |= from;
        }
        for (set.list.items) |row| {
            if (row < rows) bitmap[row / 64] |= @as(u64, 1) << @intCast(row & 63);
        }
        trim(bitmap, rows);
    }
};

pub fn fill(bitmap: []u64, rows: u32) void {
    @memset(bitmap[0 .. (rows + 63) / 64], ~@as(u64, 0));
    trim(bitmap, rows);
}

fn trim(bitmap: []u64, rows: u32) void {
    if (rows & 63 != 0) bitmap[rows / 64] &= (@as(u64, 1) << @intCast(rows & 63)) - 1;
}

pub const TableChanges = struct {
    /// Which table, by its place in the catalogue.
    number: u32,
    /// Keys that were removed, and keys that were inserted, as sorted unique u64.
    removed: []u64 = &.{},
    inserted: []u64 = &.{},
    /// One per field, in field order.
    columns: []DirtySet = &.{},
    /// The same, and behind them those of the relation graph's columns, by key index.
    all: []DirtySet = &.{},
    /// More changed than the relation graph.
    shown: bool = true,
    /// The key column's own: for catching up its buffers, not for deltas.
    keys: DirtySet = .{},
};

/// Keys go by index first: that is the order in which blocks name rows.
pub fn keyByIndex(_: void, a: u64, b: u64) bool {
    const ai: u32 = @truncate(a);
    const bi: u32 = @truncate(b);
    return if (ai == bi) a < b else ai < bi;
}

/// Everything that changed in `(version_before, version]`.
pub const ChangeSet = struct {
    /// Dense number of the cut; `version` may jump on a replica.
    cut: u64,
    version: u64,
    version_before: u64,
    /// The tables of which anything at all changed, ascending. A table may have no fields and still gain and lose rows.
    tables: []TableChanges,
    bytes: usize,
    /// The set before, meaningful only while this one's cut is above a view's `oldest_cut`.
    prev: ?*ChangeSet,

    /// What changed of a table; null for nothing.
    pub fn of(set: *const ChangeSet, number: usize) ?*TableChanges {
        var low: usize = 0;
        var high: usize = set.tables.len;
        while (low < high) {
            const middle = low + (high - low) / 2;
            if (set.tables[middle].number < number) low = middle + 1 else high = middle;
        }
        if (low == set.tables.len or set.tables[low].number != number) return null;
        return &set.tables[low];
    }

    pub fn destroy(set: *ChangeSet, gpa: std.mem.Allocator) void {
        for (set.tables) |*table| {
            gpa.free(table.removed);
            gpa.free(table.inserted);
            for (table.all) |*column| column.deinit(gpa);
            gpa.free(table.all);
            table.keys.deinit(gpa);
        }
        gpa.free(set.tables);
        gpa.destroy(set);
    }
};

test "either of two sealed sets has exactly the marks of both" {
    const gpa = std.testing.allocator;
    var prng = std.Random.DefaultPrng.init(8);
    const random = prng.random();
    for (0..200) |round| {
        var sets: [2]DirtySet = .{ .{}, .{} };
        defer for (&sets) |*set| set.deinit(gpa);
        var model: [3000]bool = @splat(false);
        for (&sets) |*set| {
            const rows: u32 = 1 + random.uintLessThan(u32, model.len);
            for (0..random.uintLessThan(u32, if (random.boolean()) 20 else 2000)) |_| {
                const row = random.uintLessThan(u32, rows);
                set.mark(gpa, row, rows);
                model[row] = true;
            }
            if (round % 17 == 0) set.markAll(gpa);
            set.seal(gpa, rows);
            if (set.all) @memset(model[0..], true);
        }
        var both: DirtySet = try .either(gpa, &sets[0], &sets[1]);
        defer both.deinit(gpa);
        try std.testing.expect(both.words.len == 0 or both.list.items.len == 0);
        var it = both.iterate(model.len);
        var room: [64]u32 = undefined;
        var next: u32 = 0;
        while (true) {
            const rows = it.fill(&room);
            if (rows.len == 0) break;
            for (rows) |row| {
                for (model[next..row]) |marked| try std.testing.expect(!marked);
                try std.testing.expect(model[row]);
                next = row + 1;
            }
        }
        for (model[next..]) |marked| try std.testing.expect(!marked);
    }
}

test "a dirty set holds exactly what was marked, in any of its forms" {
    const gpa = std.testing.allocator;
    var random = std.Random.DefaultPrng.init(3);
    for ([_]u32{ 10, 200, 5000 }) |marks| {
        var set: DirtySet = .{};
        defer set.deinit(gpa);
        var model: [5000]bool = @splat(false);
        for (0..marks) |_| {
            const row = random.random().uintLessThan(u32, 5000);
            set.mark(gpa, row, 5000);
            model[row] = true;
        }
        set.markRange(gpa, 100, 3, 5000);
        @memset(model[100..103], true);
        set.markWord(gpa, 2, 0b101, 5000);
        model[128] = true;
        model[130] = true;
        for (model, 0..) |marked, row| try std.testing.expectEqual(marked, set.contains(@intCast(row)));
        set.seal(gpa, 5000);
        for (model, 0..) |marked, row| try std.testing.expectEqual(marked, set.contains(@intCast(row)));
        var bitmap: [(5000 + 63) / 64]u64 = @splat(0);
        set.orInto(&bitmap, 5000);
        var it = set.iterate(4990);
        var room: [7]u32 = undefined;
        var rows: []const u32 = &.{};
        for (model[0..4990], 0..) |marked, row| {
            if (!marked) continue;
            if (rows.len == 0) rows = it.fill(&room);
            try std.testing.expectEqual(row, rows[0]);
            rows = rows[1..];
        }
        try std.testing.expectEqual(0, rows.len + it.fill(&room).len);
        for (model, 0..) |marked, row| {
            const bit = bitmap[row / 64] >> @intCast(row & 63) & 1;
            try std.testing.expectEqual(marked, bit == 1);
        }
    }
}
