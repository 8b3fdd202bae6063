//! Groups: components whose entities are so often asked for together that their rows are kept in one order.
//!
//! Entities that have a row in every table of a group are its members. They lie in the first rows of each of those
//! tables, in equal order, so that a join of the tables is whole slices, and nothing is gathered. Who becomes a member
//! changes places with the first row behind them, who ceases to be one with the last of them, in every table: two
//! rows a table, whatever their number. Where all rows of the tables are members, as in most games, nobody moves.
//!
//! The order of rows is never state: it is undone with everything else, and in no digest and no block. A moved
//! row is marked like any other, so it travels again with the next delta.
//!
//! Invariants:
//! - `members` is how many entities have a row in all the group's tables;
//! - below it, row i of each of them is of the same entity.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const entity = @import("entity.zig");
const Head = @import("head.zig").Head;

const none = std.math.maxInt(u16);

pub const Group = struct {
    /// By their places in the catalogue, ascending.
    tables: []u16,
    members: u32 = 0,
};

pub const Groups = struct {
    all: []Group,
    /// By table: its place in `all`, or `none`.
    by_table: []u16,

    pub fn init(gpa: std.mem.Allocator, cat: *const catalogue.Catalogue) error{ OutOfMemory, BadCatalogue }!Groups {
        const by_table = try gpa.alloc(u16, cat.tables.len);
        errdefer gpa.free(by_table);
        @memset(by_table, none);
        var all: std.ArrayList(Group) = .empty;
        errdefer {
            for (all.items) |group| gpa.free(group.tables);
            all.deinit(gpa);
        }
        for (cat.tables, 0..) |*first, at| {
            if (first.group == 0) continue;
            // Only what has one key space can have one order.
            if (first.kind != .component) return error.BadCatalogue;
            if (by_table[at] != none) continue;
            var tables: std.ArrayList(u16) = .empty;
            errdefer tables.deinit(gpa);
            for (cat.tables, 0..) |*table, number| {
                if (table.group != first.group) continue;
                by_table[number] = @intCast(all.items.len);
                try tables.append(gpa, @intCast(number));
            }
            try all.ensureUnusedCapacity(gpa, 1);
            all.appendAssumeCapacity(.{ .tables = try tables.toOwnedSlice(gpa) });
        }
        return .{ .all = try all.toOwnedSlice(gpa), .by_table = by_table };
    }

    pub fn deinit(groups: *Groups, gpa: std.mem.Allocator) void {
        for (groups.all) |group| gpa.free(group.tables);
        gpa.free(groups.all);
        gpa.free(groups.by_table);
    }

    pub fn of(groups: *const Groups, table: usize) ?*Group {
        const at = groups.by_table[table];
        return if (at == none) null else &groups.all[at];
    }

    pub fn membersOf(groups: *const Groups, table: usize) u32 {
        return if (groups.of(table)) |group| group.members else 0;
    }

    /// The group of which `tables` has every table, if there is one: which of them is the first of it.
    pub fn covered(groups: *const Groups, tables: []const u16) ?usize {
        for (tables, 0..) |table, i| {
            const group = groups.of(table) orelse continue;
            for (group.tables) |needed| {
                if (std.mem.indexOfScalar(u16, tables, needed) == null) break;
            } else return i;
        }
        return null;
    }
};

/// `keys` have a row in `table` since now: make members of those that have one in every table of its group. Where it
/// fails some are; the caller undoes that with the insertion.
pub fn admit(head: *Head, table: u16, keys: []const u64) error{OutOfMemory}!void {
    const group = head.groups.of(table) orelse return;
    // A new member has a row behind the members in each.
    for (group.tables) |number| if (head.tables[number].rows == group.members) return;
    if (inOrder(head, group, keys)) {
        try head.ensureUndo(0);
        return setMembers(head, group, group.members + @as(u32, @intCast(keys.len)));
    }
    next: for (keys) |key| {
        for (group.tables) |number| if (head.tables[number].find(key) == null) continue :next;
        try admitOne(head, group, key);
    }
}

/// Whether the rows behind the members are those of `keys` in every table.
fn inOrder(head: *const Head, group: *const Group, keys: []const u64) bool {
    for (group.tables) |number| {
        const table = &head.tables[number];
        if (table.rows < group.members + keys.len) return false;
        if (!std.mem.eql(u64, table.keyList()[group.members..][0..keys.len], keys)) return false;
    }
    return true;
}

fn admitOne(head: *Head, group: *Group, key: u64) error{OutOfMemory}!void {
    const to = group.members;
    for (group.tables) |number| {
        const row = head.tables[number].find(key).?;
        assert(row >= to);
        try ensureSwap(head, number, row, to);
    }
    try head.ensureUndoEntries(group.tables.len + 1);
    for (group.tables) |number| swap(head, number, head.tables[number].find(key).?, to);
    setMembers(head, group, to + 1);
}

/// The entity at `row` of `table` is about to lose it: it is no member from now on. Returns its row.
pub fn dismiss(head: *Head, table: u16, row: u32) error{OutOfMemory}!u32 {
    const group = head.groups.of(table) orelse return row;
    if (row >= group.members) return row;
    const to = group.members - 1;
    for (group.tables) |number| try ensureSwap(head, number, row, to);
    try head.ensureUndoEntries(group.tables.len + 1);
    for (group.tables) |number| swap(head, number, row, to);
    setMembers(head, group, to);
    return to;
}

fn ensureSwap(head: *Head, number: u16, a: u32, b: u32) error{OutOfMemory}!void {
    if (a == b) return;
    const table = &head.tables[number];
    table.note();
    for ([_]u32{ a, b }) |row|
        try table.index.ensure(head.gpa, entity.Key.of(table.keyAt(row)).index, head.open, &head.retired);
}

fn swap(head: *Head, number: u16, a: u32, b: u32) void {
    if (a == b) return;
    head.tables[number].swapRows(a, b);
    head.pushUndo(.swap, number, 0, a, b, 0);
}

fn setMembers(head: *Head, group: *Group, members: u32) void {
    head.pushUndo(.members, group.tables[0], 0, group.members, 0, 0);
    group.members = members;
    noteAll(head, group);
}

/// Undo `setMembers`.
pub fn undoMembers(head: *Head, table: u16, members: u32) void {
    const group = head.groups.of(table).?;
    group.members = members;
    noteAll(head, group);
}

/// Views know the members by table, also of those whose rows are as they were.
fn noteAll(head: *Head, group: *const Group) void {
    for (group.tables) |number| head.tables[number].note();
}
