//! What changed in `(base, version]`, table by table, as the change sets of a pinned view say it: found once, and then
//! read by all who are told something of the same base.
//!
//! Invariants:
//! - everything is a superset of what differs: a row that is named without a difference does no harm;
//! - a row that came is in no column: it is sent whole.

const std = @import("std");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const section_file = @import("section.zig");
const sets_file = @import("sets.zig");
const sparse = @import("sparse.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const wire_cells = @import("wire_cells.zig");
const Item = block.Item;

pub const Column = struct {
    /// By row: whether its cell may differ.
    marks: []u64,
    /// Their number.
    count: usize,
    /// The column before that has any is marked alike.
    same: bool,
    /// The marked rows by ascending index, once somebody asked for them.
    items: ?[]const Item = null,
};

pub const Changed = struct {
    of: *const view.TableView,
    /// Keys that were removed, those that have come back too: by index, then by generation.
    gone: []const u64,
    /// Rows that were inserted and are there: by index.
    come: []const Item,
    /// By field; null for one of which nothing changed.
    columns: []?Column,

    /// Whether exactly this row was inserted since the base.
    pub fn isNew(changed: *const Changed, index: u32) bool {
        return findItem(changed.come, index);
    }
};

pub fn findItem(items: []const Item, index: u32) bool {
    const at = std.sort.lowerBound(Item, items, index, orderItem);
    return at < items.len and items[at].index == index;
}

fn orderItem(index: u32, item: Item) std.math.Order {
    return std.math.order(index, item.index);
}

/// What is told of what many audiences share: of a log, up to a version.
const SharedTold = struct { log: *const visible.Log, last: u64, told: []const visible.Told };

/// A table's section that is the same for some audiences.
pub const Section = struct {
    pub const Name = struct { table: u32, hidden: usize, reference: usize, shared: usize };

    name: Name,
    bytes: []const u8,
    rows: u32,
    relative: bool,
};

pub const Since = struct {
    arena: std.heap.ArenaAllocator,
    slot: *const view.Slot = undefined,
    base: u64 = 0,
    /// Some who are told may not see all fields: which rows are named for one says nothing of another then.
    discreet: bool = false,
    /// By table: whether it was looked at, and what was found; null for nothing.
    known: []bool = &.{},
    tables: []?*Changed = &.{},
    shared: std.ArrayList(SharedTold) = .empty,
    /// Many will be told of one base: what is the same for some of them is kept.
    keeps: bool = false,
    sections: std.ArrayList(Section) = .empty,

    pub fn init(gpa: std.mem.Allocator) Since {
        return .{ .arena = .init(gpa) };
    }

    pub fn deinit(since: *Since) void {
        since.arena.deinit();
    }

    /// Forget what was found, and answer for another base from now on.
    pub fn begin(since: *Since, slot: *const view.Slot, base: u64) error{OutOfMemory}!void {
        _ = since.arena.reset(.{ .retain_with_limit = 1 << 20 });
        since.slot = slot;
        since.base = base;
        since.known = &.{};
        since.shared = .empty;
        since.sections = .empty;
        const a = since.arena.allocator();
        since.tables = try a.alloc(?*Changed, slot.tables.len);
        @memset(since.tables, null);
        since.known = try a.alloc(bool, slot.tables.len);
        @memset(since.known, false);
    }

    /// What is told of what is shared by those with a log, by list, up to the version `last`.
    pub fn toldOf(since: *Since, log: *const visible.Log, last: u64, lists: usize) error{OutOfMemory}![]const visible.Told {
        for (since.shared.items) |known| if (known.log == log and known.last == last) return known.told;
        const a = since.arena.allocator();
        const told = try a.alloc(visible.Told, lists);
        for (told, 0..) |*to, list| to.* = if (since.base == 0) .{} else try log.since(a, since.base, last, @intCast(list));
        try since.shared.append(a, .{ .log = log, .last = last, .told = told });
        return told;
    }

    pub fn section(since: *const Since, name: Section.Name) ?*const Section {
        for (since.sections.items) |*kept| if (std.meta.eql(kept.name, name)) return kept;
        return null;
    }

    pub fn keep(since: *Since, kept: Section) error{OutOfMemory}!void {
        const a = since.arena.allocator();
        var copy = kept;
        copy.bytes = try a.dupe(u8, kept.bytes);
        try since.sections.append(a, copy);
    }

    /// What changed of a table and of its fields that are shown; null for nothing. Not for base 0, since which everything
    /// came.
    pub fn table(since: *Since, number: usize, spec: *const catalogue.Table) error{OutOfMemory}!?*Changed {
        std.debug.assert(since.base != 0);
        if (since.known[number]) return since.tables[number];
        since.tables[number] = try since.find(number, spec);
        since.known[number] = true;
        return since.tables[number];
    }

    fn find(since: *Since, number: usize, spec: *const catalogue.Table) error{OutOfMemory}!?*Changed {
        const fields = spec.shown;
        if (!sets_file.touched(since.slot, since.base, number)) return null;
        const a = since.arena.allocator();
        const of = since.slot.tables[number];
        const changed = try a.create(Changed);
        const keys = try keysSince(a, since.slot, since.base, number);
        const come = try present(a, of, keys.come);
        const marks = try sets_file.collectDirty(a, since.slot, since.base, number, of, fields);
        const columns = try a.alloc(?Column, fields);
        for (marks) |bitmap| if (bitmap) |words_of| {
            for (come.items) |item| words_of[item.row / 64] &= ~(@as(u64, 1) << @intCast(item.row & 63));
        };
        if (!since.discreet) try join(a, spec, of.rows, marks);
        var before: ?[]const u64 = null;
        for (marks, columns) |bitmap, *column| {
            column.* = null;
            const words_of = bitmap orelse continue;
            var count: usize = 0;
            for (words_of) |word| count += @popCount(word);
            if (count == 0) continue;
            column.* = .{
                .marks = words_of,
                .count = count,
                .same = if (before) |b| std.mem.eql(u64, b, words_of) else false,
            };
            before = words_of;
        }
        changed.* = .{ .of = of, .gone = keys.gone, .come = come.items, .columns = columns };
        return changed;
    }

    /// The marked rows of a column by ascending index.
    pub fn itemsOf(since: *Since, of: *const view.TableView, column: *Column) error{OutOfMemory}![]const Item {
        return column.items orelse {
            const list = try section_file.inOrder(since.arena.allocator(), of.keyList(), of.pages(), column.marks);
            column.items = list.items;
            return list.items;
        };
    }
};

/// Mark columns whose rows are nearly the same alike: a few cells too many take less than to name other rows.
fn join(a: std.mem.Allocator, spec: *const catalogue.Table, rows: u32, marks: []const ?[]u64) error{OutOfMemory}!void {
    var all: []u64 = &.{};
    var joined: usize = 0;
    for (marks, spec.fields[0..marks.len]) |bitmap, *field| if (bitmap) |words_of| {
        if (cellBytes(field) == null) continue;
        joined += 1;
        if (all.len == 0) {
            all = try a.dupe(u64, words_of);
        } else for (all, words_of) |*word, more| {
            word.* |= more;
        }
    };
    if (joined < 2) return;
    const whole = countOf(all);
    for (marks, spec.fields[0..marks.len]) |bitmap, *field| if (bitmap) |words_of| {
        const bytes = cellBytes(field) orelse continue;
        const own = countOf(words_of);
        const named = @min(own, rows / 8);
        if (own > 0 and whole - own <= own / 8 and (whole - own) * bytes < named) @memcpy(words_of, all);
    };
}

/// About what a cell takes in a block; null where nobody knows.
fn cellBytes(field: *const catalogue.Field) ?usize {
    if (field.type == .string) return null;
    if (!wire_cells.isPackable(field)) return field.width;
    return @max(1, field.width / 4);
}

fn countOf(words_of: []const u64) usize {
    var count: usize = 0;
    for (words_of) |word| count += @popCount(word);
    return count;
}

/// The keys that change sets name, each once: by index, then by generation.
pub fn keysSince(a: std.mem.Allocator, slot: *const view.Slot, base: u64, number: usize) error{OutOfMemory}!struct { gone: []const u64, come: []const u64 } {
    var gone: std.ArrayList(u64) = .empty;
    var come: std.ArrayList(u64) = .empty;
    var sets = sets_file.Sets.of(slot, base);
    while (sets.next()) |set| {
        const changed = set.of(number) orelse continue;
        try gone.appendSlice(a, changed.removed);
        try come.appendSlice(a, changed.inserted);
    }
    view.sortUnique(&gone);
    view.sortUnique(&come);
    return .{ .gone = gone.items, .come = come.items };
}

/// The rows of those keys that are there.
pub fn present(a: std.mem.Allocator, of: *const view.TableView, keys: []const u64) error{OutOfMemory}!std.ArrayList(Item) {
    var list: std.ArrayList(Item) = .empty;
    try list.ensureTotalCapacityPrecise(a, keys.len);
    for (keys) |key| {
        const row = of.find(key) orelse continue;
        list.appendAssumeCapacity(.{ .index = @truncate(key), .row = row });
    }
    return list;
}

/// Removed keys that are not there any more, each index once: present again they are among those that came, and a newer
/// generation evicts the older.
pub fn absent(a: std.mem.Allocator, of: *const view.TableView, gone: []const u64) error{OutOfMemory}!std.ArrayList(Item) {
    var list: std.ArrayList(Item) = .empty;
    for (gone) |key| {
        const index: u32 = @truncate(key);
        if (sparse.find(of.pages(), index) != null) continue;
        if (list.items.len > 0 and list.items[list.items.len - 1].index == index) continue;
        try list.append(a, .{ .index = index, .row = 0 });
    }
    return list;
}
