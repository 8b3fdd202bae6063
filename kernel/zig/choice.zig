//! Which changed rows go with one delta to a client that has a budget of bytes, and which wait.
//!
//! What came, went or was removed always goes. Of the rows that changed, those go first that matter most and have waited
//! longest; the others are *pending*. A row goes whole or not at all: all that changed of it since it went last. Rows of
//! one entity go together, and with them the rows of tables that are tied to it (`with`).
//!
//! In this order: `take` for each table, `make`, `columns` for each table, and `finish` when the delta was cut.
//!
//! Invariants:
//! - a row waits for `staleness` versions at most, whatever it costs;
//! - what was pending at the base lives and is in sight, or is dropped when it is looked at.

const std = @import("std");
const budget_file = @import("budget.zig");
const delta = @import("delta.zig");
const graph = @import("graph.zig");
const related = @import("related.zig");
const section = @import("section.zig");
const sparse = @import("sparse.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Budget = budget_file.Budget;
const Head = @import("head.zig").Head;
const Item = @import("block.zig").Item;
const Pending = budget_file.Pending;
const Weights = budget_file.Weights;
const has = @import("since.zig").findItem;
const isHidden = @import("wire_section.zig").isHidden;

/// References that rows are tied along, one behind the other, at most: a ring of them ends.
const tied_max = 8;

/// Fields by a bit each; those from this one on share it.
const last_bit = 63;

/// A row that may go: what changed of it, and how it is with it.
const Candidate = struct {
    table: u32,
    item: Item,
    key: u64,
    since: u64,
    fields: u64,
    /// Those of one group go together.
    group: u64,
};

const Group = struct { id: u64, first: u32, count: u32, bytes: u64, priority: u64, must: bool };

/// One delta to be chosen for: the rows of its tables, whose columns are narrowed to what goes.
pub const Choice = struct {
    arena: std.mem.Allocator,
    head: *const Head,
    slot: *const view.Slot,
    base: u64,
    budget: *Budget,
    /// By table: the reference that its rows are tied along.
    ties: []const ?*const graph.Link,
    weights: Weights,
    candidates: std.ArrayList(Candidate) = .empty,
    /// Groups that have rows which came or went: the others go with them, or an entity would be of two versions.
    forced: std.AutoHashMapUnmanaged(u64, void) = .empty,
    /// What waits after this delta.
    left: std.ArrayList(Pending) = .empty,
    /// What the rows that go take here.
    bytes: u64 = 0,

    /// Whether anything waited of a table.
    pub fn waits(choice: *const Choice, number: u32) bool {
        for (choice.budget.at(choice.base)) |pending| if (pending.table == number) return true;
        return false;
    }

    /// Take in what changed of one table, and what waited of it. `seen` has the rows of it in sight; null where all are.
    pub fn take(choice: *Choice, number: u32, rows: *const delta.Rows, hidden: []const u64, seen: ?*const visible.Seen) error{OutOfMemory}!void {
        const a = choice.arena;
        const of = choice.slot.tables[number];
        const first = choice.candidates.items.len;
        for (rows.columns.items) |column| for (column.items) |item| {
            try choice.candidates.append(a, candidate(number, item, of.keyList()[item.row], choice.base, bitOf(column.field)));
        };
        for (choice.budget.at(choice.base)) |pending| {
            if (pending.table != number) continue;
            if (seen) |list| if (!list.has(pending.key)) continue;
            const row = of.find(pending.key) orelse continue;
            // It goes whole.
            if (has(rows.inserted, @truncate(pending.key))) continue;
            const item: Item = .{ .index = @truncate(pending.key), .row = row };
            try choice.candidates.append(a, candidate(number, item, pending.key, pending.since, pending.fields & ~maskOf(hidden)));
        }
        const added = choice.candidates.items[first..];
        std.sort.pdq(Candidate, added, {}, struct {
            fn before(_: void, x: Candidate, y: Candidate) bool {
                return x.item.index < y.item.index;
            }
        }.before);
        // One for each row.
        var kept: usize = 0;
        for (added) |one| {
            if (kept > 0 and added[kept - 1].item.index == one.item.index) {
                added[kept - 1].fields |= one.fields;
                added[kept - 1].since = @min(added[kept - 1].since, one.since);
                continue;
            }
            added[kept] = one;
            kept += 1;
        }
        choice.candidates.items.len = first + kept;
        for (added[0..kept]) |*one| one.group = choice.groupOf(number, one.key);
        for (rows.inserted) |item| try choice.forced.put(a, choice.groupOf(number, of.keyList()[item.row]), {});
        if (choice.head.tables[number].spec.kind != .component) return;
        const entities = choice.slot.tables[0];
        for ([_][]const Item{ rows.removed, rows.left }) |items| for (items) |item| {
            const row = sparse.find(entities.pages(), item.index) orelse continue;
            try choice.forced.put(a, entities.keyList()[row], {});
        };
    }

    fn candidate(number: u32, item: Item, key: u64, since: u64, fields: u64) Candidate {
        return .{ .table = number, .item = item, .key = key, .since = since, .fields = fields, .group = 0 };
    }

    /// Whose group a row is in: that of what it is tied to, of its entity, or its own.
    fn groupOf(choice: *const Choice, number: u32, of_key: u64) u64 {
        var table = number;
        var key = of_key;
        for (0..tied_max) |_| {
            const link = choice.ties[table] orelse break;
            var it: related.Neighbours = .inView(choice.slot, link, false, key);
            key = it.next() orelse break;
            table = link.target;
        }
        const kind = choice.head.tables[table].spec.kind;
        // Entities and their components are one; keys of other tables must not meet them.
        return if (kind == .keyed) key ^ (@as(u64, table) + 1) *% 0x9e3779b97f4a7c15 else key;
    }

    /// Choose, when all tables were taken. `spent` is what goes anyway.
    pub fn make(choice: *Choice, spent: u64) error{OutOfMemory}!void {
        const a = choice.arena;
        const budget = choice.budget;
        const version = choice.slot.version;
        const all = choice.candidates.items;
        const order = try a.alloc(u32, all.len);
        for (order, 0..) |*to, n| to.* = @intCast(n);
        std.sort.pdq(u32, order, all, struct {
            fn before(of: []const Candidate, x: u32, y: u32) bool {
                return if (of[x].group != of[y].group) of[x].group < of[y].group else x < y;
            }
        }.before);
        var groups: std.ArrayList(Group) = .empty;
        for (order, 0..) |n, place| {
            const one = &all[n];
            if (groups.items.len == 0 or groups.items[groups.items.len - 1].id != one.group) {
                const must = choice.forced.contains(one.group);
                try groups.append(a, .{ .id = one.group, .first = @intCast(place), .count = 0, .bytes = 0, .priority = 0, .must = must });
            }
            const group = &groups.items[groups.items.len - 1];
            const age = version - one.since;
            group.count += 1;
            group.bytes += choice.bytesOf(one);
            group.priority = @max(group.priority, age * choice.weights.of(choice.head.tables[one.table].spec.kind, one.key));
            group.must = group.must or age >= budget.staleness;
        }
        std.sort.pdq(Group, groups.items, {}, struct {
            fn before(_: void, x: Group, y: Group) bool {
                if (x.must != y.must) return x.must;
                return if (x.priority != y.priority) x.priority > y.priority else x.id < y.id;
            }
        }.before);
        var used = spent;
        for (groups.items) |group| {
            const bytes = group.bytes * budget.share / 256;
            const goes = group.must or budget.bytes == 0 or used + bytes <= budget.bytes;
            if (goes) {
                used += bytes;
                choice.bytes += group.bytes;
                continue;
            }
            for (order[group.first..][0..group.count]) |n| {
                const one = &all[n];
                try choice.left.append(a, .{ .table = one.table, .key = one.key, .since = one.since, .fields = one.fields });
                one.fields = 0;
            }
        }
    }

    fn bytesOf(choice: *const Choice, one: *const Candidate) u64 {
        var bytes: u64 = 1;
        for (choice.head.tables[one.table].spec.visible(), 0..) |*field, f| {
            if (one.fields & bitOf(@intCast(f)) == 0) continue;
            // Of a string its reference: most are short.
            bytes += field.width;
        }
        return bytes;
    }

    /// The columns of a table that go.
    pub fn columns(choice: *const Choice, number: u32, hidden: []const u64, into: *std.ArrayList(section.Column)) error{OutOfMemory}!void {
        const a = choice.arena;
        into.* = .empty;
        const first = std.sort.lowerBound(Candidate, choice.candidates.items, number, orderTable);
        const end = std.sort.upperBound(Candidate, choice.candidates.items, number, orderTable);
        const rows = choice.candidates.items[first..end];
        for (0..choice.head.tables[number].spec.shown) |f| {
            const bit = bitOf(@intCast(f));
            if (isHidden(hidden, f)) continue;
            var items: std.ArrayList(Item) = .empty;
            for (rows) |*one| if (one.fields & bit != 0) try items.append(a, one.item);
            if (items.items.len == 0) continue;
            const last: ?section.Column = if (into.items.len > 0) into.items[into.items.len - 1] else null;
            const same = if (last) |l| equal(l.items, items.items) else false;
            try into.append(a, .{ .field = @intCast(f), .items = if (same) last.?.items else items.items, .same = same });
        }
    }

    /// The delta was cut, and takes `written` bytes beside what went anyway: remember what waits.
    pub fn finish(choice: *Choice, written: u64) error{OutOfMemory}!void {
        const budget = choice.budget;
        try budget.keep(choice.slot.version, choice.left.items);
        if (choice.bytes == 0) return;
        const share = std.math.clamp(written * 256 / choice.bytes, 32, 512);
        budget.share = (budget.share * 3 + share) / 4;
    }
};

fn orderTable(number: u32, one: Candidate) std.math.Order {
    return std.math.order(number, one.table);
}

fn bitOf(field: u32) u64 {
    return @as(u64, 1) << @intCast(@min(field, last_bit));
}

/// Hidden fields by bits as ours, but for those that share one: of them whichever is hidden is left out of the columns.
fn maskOf(hidden: []const u64) u64 {
    return if (hidden.len == 0) 0 else hidden[0] & ~bitOf(last_bit);
}

fn equal(x: []const Item, y: []const Item) bool {
    if (x.len != y.len) return false;
    for (x, y) |a, b| if (a.index != b.index) return false;
    return true;
}
