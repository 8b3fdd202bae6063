//! The sparse index: from an entity's index to its row in one table, in pages of 1024 entities.
//!
//! A page holds a presence bitmap and the rows of those present, found by rank, so an entity
//! without the component costs one bit. Published versions share pages with the writer: a page is
//! changed in place only while it was born in the open cut; otherwise it is cloned first, and the
//! old one is retired until no view of those cuts is left.
//!
//! Iteration goes by ascending entity index: that is the order in which blocks name rows.

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("limits.zig");
const memory = @import("memory.zig");

const page_words = limits.page_entities / 64;

pub const Page = struct {
    /// The cut in which this page was made; the writer may change it only while that is open.
    born: u64,
    bitmap: [page_words]u64,
    /// Entities present in the words before each word.
    rank: [page_words]u16,
    count: u32,
    cap: u32,
    rows: [*]u32,

    fn create(gpa: std.mem.Allocator, born: u64, cap: u32) error{OutOfMemory}!*Page {
        const page = try gpa.create(Page);
        errdefer gpa.destroy(page);
        // Only the first `count` are ever read, and each is written when the count passes it.
        const rows = try memory.take(u32, .of(u32), gpa, cap);
        page.* = .{ .born = born, .bitmap = @splat(0), .rank = @splat(0), .count = 0, .cap = cap, .rows = rows.ptr };
        return page;
    }

    pub fn destroy(page: *Page, gpa: std.mem.Allocator) void {
        memory.give(u32, .of(u32), gpa, page.rows[0..page.cap]);
        gpa.destroy(page);
    }

    fn grow(page: *Page, gpa: std.mem.Allocator, cap: u32) error{OutOfMemory}!void {
        const rows = try memory.take(u32, .of(u32), gpa, cap);
        @memcpy(rows[0..page.count], page.rows[0..page.count]);
        memory.give(u32, .of(u32), gpa, page.rows[0..page.cap]);
        page.rows = rows.ptr;
        page.cap = cap;
    }

    inline fn position(page: *const Page, at: u32) ?u32 {
        const word = page.bitmap[at >> 6];
        const bit = @as(u64, 1) << @intCast(at & 63);
        if (word & bit == 0) return null;
        return page.rank[at >> 6] + @as(u32, @popCount(word & (bit - 1)));
    }
};

pub const Directory = []const ?*Page;

/// The row of entity `index`, in a published directory or the head's.
pub inline fn find(pages: Directory, index: u32) ?u32 {
    const number = index / limits.page_entities;
    if (number >= pages.len) return null;
    const page = pages[number] orelse return null;
    const at = page.position(index % limits.page_entities) orelse return null;
    return page.rows[at];
}

/// The highest index that has a row.
pub fn last(pages: Directory) ?u32 {
    var number = pages.len;
    while (number > 0) {
        number -= 1;
        const page = pages[number] orelse continue;
        var word: usize = page_words;
        while (word > 0) {
            word -= 1;
            const bits = page.bitmap[word];
            if (bits != 0) return @intCast(number * limits.page_entities + word * 64 + 63 - @clz(bits));
        }
    }
    return null;
}

/// Rows by ascending entity index.
pub const Iterator = struct {
    pages: Directory,
    page: usize = 0,
    word: usize = 0,
    bits: u64 = 0,
    at: u32 = 0,
    started: bool = false,

    pub const Item = struct { index: u32, row: u32 };

    pub fn from(pages: Directory, first_index: u32) Iterator {
        var it: Iterator = .{ .pages = pages };
        it.page = first_index / limits.page_entities;
        if (it.page >= pages.len) return it;
        if (pages[it.page]) |page| {
            const in_page = first_index % limits.page_entities;
            it.word = in_page >> 6;
            it.bits = page.bitmap[it.word] & ~((@as(u64, 1) << @intCast(in_page & 63)) - 1);
            it.at = page.rank[it.word] + @as(u32, @popCount(page.bitmap[it.word] & ~it.bits));
            it.started = true;
        }
        return it;
    }

    pub fn next(it: *Iterator) ?Item {
        while (it.page < it.pages.len) {
            const page = it.pages[it.page] orelse {
                it.page += 1;
                it.started = false;
                continue;
            };
            if (!it.started) {
                it.word = 0;
                it.bits = page.bitmap[0];
                it.at = 0;
                it.started = true;
            }
            while (it.bits == 0) {
                it.word += 1;
                if (it.word == page_words) break;
                it.bits = page.bitmap[it.word];
            } else {
                const bit: u32 = @ctz(it.bits);
                it.bits &= it.bits - 1;
                const index: u32 = @intCast(it.page * limits.page_entities + it.word * 64 + bit);
                const row = page.rows[it.at];
                it.at += 1;
                return .{ .index = index, .row = row };
            }
            it.page += 1;
            it.started = false;
        }
        return null;
    }

    /// The next ones, as many as there is room for: fewer only at the end. Returns how many.
    pub fn fill(it: *Iterator, into: []Item) usize {
        var n: usize = 0;
        while (n < into.len) {
            // The first of a word the long way; it finds page and word.
            into[n] = it.next() orelse break;
            n += 1;
            const page = it.pages[it.page].?;
            const base: u32 = @intCast(it.page * limits.page_entities + it.word * 64);
            const count = @min(into.len - n, @popCount(it.bits));
            const rows = page.rows[it.at..][0..count];
            for (into[n..][0..count], rows) |*item, row| {
                item.* = .{ .index = base + @ctz(it.bits), .row = row };
                it.bits &= it.bits - 1;
            }
            it.at += @intCast(count);
            n += count;
        }
        return n;
    }
};

/// A page that views of the cuts `[born, last]` may still read.
pub const Retired = struct { page: *Page, last: u64 };

pub const Index = struct {
    pages: std.ArrayList(?*Page) = .empty,
    /// The head's directory differs from the published one.
    changed: bool = true,

    pub fn deinit(self: *Index, gpa: std.mem.Allocator) void {
        for (self.pages.items) |entry| if (entry) |page| page.destroy(gpa);
        self.pages.deinit(gpa);
    }

    /// Make the page of `index` exist, belong to the open cut and have room for one more, so that
    /// the change itself cannot fail.
    pub fn ensure(
        self: *Index,
        gpa: std.mem.Allocator,
        index: u32,
        open: u64,
        retired: *std.ArrayList(Retired),
    ) error{OutOfMemory}!void {
        const number = index / limits.page_entities;
        if (number >= self.pages.items.len)
            try self.pages.appendNTimes(gpa, null, number + 1 - self.pages.items.len);
        const page = self.pages.items[number] orelse {
            self.pages.items[number] = try Page.create(gpa, open, 8);
            self.changed = true;
            return;
        };
        const room = page.count < page.cap;
        if (page.born == open and room) return;
        const cap = if (room) page.cap else @min(page.cap * 2, limits.page_entities);
        if (page.born == open) {
            return page.grow(gpa, cap);
        }
        try retired.ensureUnusedCapacity(gpa, 1);
        const clone = try Page.create(gpa, open, cap);
        clone.bitmap = page.bitmap;
        clone.rank = page.rank;
        clone.count = page.count;
        @memcpy(clone.rows[0..page.count], page.rows[0..page.count]);
        retired.appendAssumeCapacity(.{ .page = page, .last = open - 1 });
        self.pages.items[number] = clone;
        self.changed = true;
    }

    /// Call `ensure` for the index first. It must be absent.
    pub fn insert(self: *Index, index: u32, row: u32) void {
        const page = self.pages.items[index / limits.page_entities].?;
        const at = index % limits.page_entities;
        const word = at >> 6;
        const bit = @as(u64, 1) << @intCast(at & 63);
        assert(page.bitmap[word] & bit == 0);
        assert(page.count < page.cap);
        const position = page.rank[word] + @as(u32, @popCount(page.bitmap[word] & (bit - 1)));
        const rows = page.rows[0 .. page.count + 1];
        if (position < page.count) @memmove(rows[position + 1 ..], rows[position..page.count]);
        rows[position] = row;
        page.bitmap[word] |= bit;
        for (page.rank[word + 1 ..]) |*rank| rank.* += 1;
        page.count += 1;
        self.changed = true;
    }

    /// Add `n` entities with consecutive indices in one page, whose rows are consecutive too, behind all
    /// that the page has: how bulk insertion of fresh entities goes. False when it is not that case;
    /// nothing has changed then.
    pub fn insertRun(
        self: *Index,
        gpa: std.mem.Allocator,
        index: u32,
        row: u32,
        n: u32,
        open: u64,
        retired: *std.ArrayList(Retired),
    ) error{OutOfMemory}!bool {
        const first = index % limits.page_entities;
        assert(n > 0 and first + n <= limits.page_entities);
        try self.ensure(gpa, index, open, retired);
        const page = self.pages.items[index / limits.page_entities].?;
        const behind = page.bitmap[first >> 6] >> @intCast(first & 63);
        if (behind != 0) return false;
        for (page.bitmap[(first >> 6) + 1 ..]) |word| if (word != 0) return false;
        const need = page.count + n;
        if (need > page.cap) {
            const cap = @min(limits.page_entities, @max(need, page.cap * 2));
            try page.grow(gpa, cap);
        }
        for (page.rows[page.count..need], row..) |*to, r| to.* = @intCast(r);
        var at = first;
        while (at < first + n) {
            const bits = @min(64 - (at & 63), first + n - at);
            const ones = if (bits == 64) ~@as(u64, 0) else (@as(u64, 1) << @intCast(bits)) - 1;
            page.bitmap[at >> 6] |= ones << @intCast(at & 63);
            at += bits;
        }
        page.count = need;
        var before: u16 = 0;
        for (page.bitmap, &page.rank) |word, *rank| {
            rank.* = before;
            before += @popCount(word);
        }
        self.changed = true;
        return true;
    }

    /// Call `ensure` for the index first. It must be present.
    pub fn remove(self: *Index, index: u32) void {
        const page = self.pages.items[index / limits.page_entities].?;
        const at = index % limits.page_entities;
        const position = page.position(at).?;
        const rows = page.rows[0..page.count];
        @memmove(rows[position .. page.count - 1], rows[position + 1 ..]);
        page.bitmap[at >> 6] &= ~(@as(u64, 1) << @intCast(at & 63));
        for (page.rank[(at >> 6) + 1 ..]) |*rank| rank.* -= 1;
        page.count -= 1;
        self.changed = true;
    }

    /// Call `ensure` for the index first. Its row moved.
    pub fn move(self: *Index, index: u32, row: u32) void {
        const page = self.pages.items[index / limits.page_entities].?;
        page.rows[page.position(index % limits.page_entities).?] = row;
        self.changed = true;
    }
};

test "an index finds what was put in, in any order, and iterates by entity" {
    const gpa = std.testing.allocator;
    var index: Index = .{};
    defer index.deinit(gpa);
    var retired: std.ArrayList(Retired) = .empty;
    defer retired.deinit(gpa);

    const order = [_]u32{ 5000, 3, 64, 63, 1023, 1024, 0, 70, 2 };
    for (order, 0..) |entity, row| {
        try index.ensure(gpa, entity, 1, &retired);
        index.insert(entity, @intCast(row));
    }
    for (order, 0..) |entity, row| try std.testing.expectEqual(@as(?u32, @intCast(row)), find(index.pages.items, entity));
    try std.testing.expectEqual(@as(?u32, null), find(index.pages.items, 65));

    try index.ensure(gpa, 63, 1, &retired);
    index.remove(63);
    var it = Iterator.from(index.pages.items, 3);
    const expected = [_]u32{ 3, 64, 70, 1023, 1024, 5000 };
    for (expected) |entity| try std.testing.expectEqual(entity, it.next().?.index);
    try std.testing.expect(it.next() == null);
    try std.testing.expectEqual(@as(usize, 0), retired.items.len);
}

test "many at a time are those that come one by one" {
    const gpa = std.testing.allocator;
    var random = std.Random.DefaultPrng.init(6);
    for (0..50) |round| {
        var index: Index = .{};
        defer index.deinit(gpa);
        var retired: std.ArrayList(Retired) = .empty;
        defer retired.deinit(gpa);
        var next: u32 = 0;
        for (0..random.random().uintLessThan(usize, 600)) |row| {
            next += 1 + random.random().uintLessThan(u32, if (round % 2 == 0) 2 else 90);
            try index.ensure(gpa, next, 1, &retired);
            index.insert(next, @intCast(row));
        }
        try std.testing.expectEqual(if (next == 0) null else @as(?u32, next), last(index.pages.items));
        const from = random.random().uintAtMost(u32, next);
        var one = Iterator.from(index.pages.items, from);
        var many = Iterator.from(index.pages.items, from);
        var room: [70]Iterator.Item = undefined;
        while (true) {
            const some = room[0..random.random().uintAtMost(usize, room.len)];
            const n = many.fill(some);
            for (some[0..n]) |item| try std.testing.expectEqual(one.next().?, item);
            if (n < some.len) break;
        }
        try std.testing.expectEqual(null, one.next());
    }
}

test "a run goes in at once where it can, and equals one by one" {
    const gpa = std.testing.allocator;
    var random = std.Random.DefaultPrng.init(5);
    for (0..200) |_| {
        var runs: Index = .{};
        defer runs.deinit(gpa);
        var singles: Index = .{};
        defer singles.deinit(gpa);
        var retired: std.ArrayList(Retired) = .empty;
        defer retired.deinit(gpa);
        var next: u32 = random.random().uintLessThan(u32, 900);
        var row: u32 = 0;
        while (next < limits.page_entities) {
            const n = 1 + random.random().uintLessThan(u32, limits.page_entities - next);
            try std.testing.expect(try runs.insertRun(gpa, next, row, n, 1, &retired));
            for (next..next + n, row..) |index, r| {
                try singles.ensure(gpa, @intCast(index), 1, &retired);
                singles.insert(@intCast(index), @intCast(r));
            }
            row += n;
            next += n + random.random().uintLessThan(u32, 100);
        }
        for (0..limits.page_entities) |index|
            try std.testing.expectEqual(find(singles.pages.items, @intCast(index)), find(runs.pages.items, @intCast(index)));
        try std.testing.expect(!try runs.insertRun(gpa, 0, 0, 1, 1, &retired) or find(singles.pages.items, 0) == null);
    }
}

test "a page that views may read is never changed in place" {
    const gpa = std.testing.allocator;
    var index: Index = .{};
    defer index.deinit(gpa);
    var retired: std.ArrayList(Retired) = .empty;
    defer {
        for (retired.items) |r| r.page.destroy(gpa);
        retired.deinit(gpa);
    }
    try index.ensure(gpa, 7, 1, &retired);
    index.insert(7, 0);
    const published = try gpa.dupe(?*Page, index.pages.items);
    defer gpa.free(published);

    try index.ensure(gpa, 8, 2, &retired);
    index.insert(8, 1);
    try std.testing.expectEqual(@as(?u32, null), find(published, 8));
    try std.testing.expectEqual(@as(?u32, 1), find(index.pages.items, 8));
    try std.testing.expectEqual(@as(usize, 1), retired.items.len);
}
