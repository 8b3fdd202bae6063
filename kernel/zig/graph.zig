//! The relation graph: foreign keys read from their other end, in every version at the cost of what
//! is found.
//!
//! Each foreign key is a forest of chains. `first`, with a cell per key index of the table that is
//! referred to, names a row that refers to that key's row; `next`, with a cell per key index of the
//! table that refers, names another one of the same target. Where the reference is a value and no key,
//! `target` names who has it. Cells are key indices plus one, 0 is none. They are columns of their
//! tables behind those of the fields, so a version has them by the means that it has any column by:
//! marked cells, shared buffers. They are in no block, no digest and no query.
//!
//! By key index and not by row: a row that moves, as rows do when another is deleted, changes nothing.
//!
//! The writer does not keep the chains as it goes but follows at publication, from the marks of the
//! open cut: what a transaction undid was never linked. `to` and `prev` are the writer's own.
//!
//! Invariants, after `follow`:
//! - a row with a reference is in exactly the chain of its target, and every other row is in none. What was committed has
//!   its targets; only where rows came from a peer (`Head.partial`) may one refer to a row that is not there, until it is;
//! - chains have no order that means anything;
//! - all cells below `graph_cells` of a table's columns are initialised, and links name cells below it.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const entity = @import("entity.zig");
const sparse = @import("sparse.zig");
const hashCell = @import("key_index.zig").hashCell;
const Column = @import("column.zig").Column;
const Head = @import("head.zig").Head;
const Table = @import("table.zig").Table;

pub const Link = struct {
    table: u16,
    field: u16,
    /// Whom it refers to, and by which field's value; null for the key of an entity.
    target: u16,
    value: ?u32,
    /// Places in `Table.all`: of the table that refers, and (`first`) of its target.
    next: u16,
    targets: u16,
    first: u16,
    /// By key index of the table that refers.
    to: []u32 = &.{},
    prev: []u32 = &.{},
    /// By key index of the target: the value under which its chain was linked.
    seen: []u8 = &.{},

    fn columnOf(link: *const Link, head: *Head, comptime which: enum { next, targets, first }) *Column {
        return switch (which) {
            .next => &head.tables[link.table].all[link.next],
            .targets => &head.tables[link.table].all[link.targets],
            .first => &head.tables[link.target].all[link.first],
        };
    }
};

pub const Graph = struct {
    gpa: std.mem.Allocator,
    links: []Link,
    /// By table: how many columns the graph has there.
    columns: []u16,

    pub fn init(gpa: std.mem.Allocator, cat: *const catalogue.Catalogue) error{OutOfMemory}!Graph {
        const columns = try gpa.alloc(u16, cat.tables.len);
        errdefer gpa.free(columns);
        @memset(columns, 0);
        var links: std.ArrayList(Link) = .empty;
        errdefer links.deinit(gpa);
        for (cat.tables, 0..) |*table, t| {
            // Nobody asks who hit whom: events are gone before they could be asked.
            // Below it are the tables that describe the store and its sessions, which nobody asks for relations.
            if (table.id < catalogue.first_own_table or table.kind == .event) continue;
            for (table.fields, 0..) |*field, f| {
                if (!field.foreign_key) continue;
                var link: Link = .{
                    .table = @intCast(t),
                    .field = @intCast(f),
                    .target = field.target_table,
                    .value = field.target_field,
                    .next = 0,
                    .targets = 0,
                    .first = 0,
                };
                link.next = add(cat, columns, link.table);
                if (link.value != null) link.targets = add(cat, columns, link.table);
                link.first = add(cat, columns, link.target);
                try links.append(gpa, link);
            }
        }
        return .{ .gpa = gpa, .links = try links.toOwnedSlice(gpa), .columns = columns };
    }

    fn add(cat: *const catalogue.Catalogue, columns: []u16, table: u16) u16 {
        columns[table] += 1;
        return @intCast(cat.tables[table].fields.len + columns[table] - 1);
    }

    pub fn deinit(graph: *Graph) void {
        for (graph.links) |*link| {
            graph.gpa.free(link.to);
            graph.gpa.free(link.prev);
            graph.gpa.free(link.seen);
        }
        graph.gpa.free(graph.links);
        graph.gpa.free(graph.columns);
    }

    pub fn find(graph: *const Graph, table: u16, field: u32) ?*const Link {
        for (graph.links) |*link| if (link.table == table and link.field == field) return link;
        return null;
    }

    /// Link what the open cut changed. Without memory some of it is linked, and the rest when this is
    /// called again: the marks are still there.
    pub fn follow(graph: *Graph, head: *Head) error{OutOfMemory}!void {
        for (graph.links) |*link| {
            const from = &head.tables[link.table];
            const target = &head.tables[link.target];
            if (!from.noted.* and !target.noted.*) continue;
            if (!from.rowsChanged() and !target.rowsChanged()) continue;
            // Never a reference yet.
            if (from.rows == 0 and link.to.len == 0) continue;
            try graph.grow(link, head);
            const field = &from.columns[link.field];
            for (from.removed.items) |key| settle(link, head, entity.Key.of(key).index);
            for (from.inserted.items) |key| settle(link, head, entity.Key.of(key).index);
            eachRow(&field.dirty, from.rows, Settle{ .link = link, .head = head });
            for (target.removed.items) |key| settleChain(link, head, entity.Key.of(key).index);
            // What came into sight may have been referred to all along.
            if (head.partial) for (target.inserted.items) |key| if (target.find(key)) |row| settleReferring(link, head, row);
            if (link.value) |value| eachRow(&target.columns[value].dirty, target.rows, Revalue{ .link = link, .head = head });
        }
    }

    const Settle = struct {
        link: *Link,
        head: *Head,
        fn row(s: Settle, number: u32) void {
            settle(s.link, s.head, entity.Key.of(s.head.tables[s.link.table].keyAt(number)).index);
        }
    };

    /// A row that moved is marked in every column, and has its value still.
    const Revalue = struct {
        link: *Link,
        head: *Head,
        fn row(r: Revalue, number: u32) void {
            const target = &r.head.tables[r.link.target];
            const index = entity.Key.of(target.keyAt(number)).index;
            const cell = target.columns[r.link.value.?].cell(number);
            const seen = r.link.seen[index * cell.len ..][0..cell.len];
            if (std.mem.eql(u8, cell, seen)) return;
            settleChain(r.link, r.head, index);
            @memcpy(seen, cell);
            if (r.head.partial) settleReferring(r.link, r.head, number);
        }
    };

    /// Make the tables' columns and the link's own as long as their key spaces, and the new part empty.
    fn grow(graph: *Graph, link: *Link, head: *Head) error{OutOfMemory}!void {
        for ([_]u16{ link.table, link.target }) |number| {
            const table = &head.tables[number];
            const cells: u32 = @intCast(table.space.places.items.len);
            if (cells <= table.graph_cells) continue;
            const before = table.graph_cells;
            const columns = table.all[table.columns.len..];
            // Twice as long each time, like the rows' own columns.
            for (columns) |*column| if (@as(usize, cells) * 4 > column.head.len) try column.grow(head.gpa, @max(cells, before *| 2), before);
            table.note();
            for (columns) |*column| {
                @memset(column.head[@as(usize, before) * 4 .. @as(usize, cells) * 4], 0);
                column.dirty.markRange(head.gpa, before, cells - before, cells);
            }
            table.graph_cells = cells;
        }
        const cells = head.tables[link.table].graph_cells;
        try lengthen(u32, graph.gpa, &link.prev, cells);
        try lengthen(u32, graph.gpa, &link.to, cells);
        if (link.value) |value| {
            const width = head.tables[link.target].columns[value].width;
            try lengthen(u8, graph.gpa, &link.seen, @as(usize, head.tables[link.target].graph_cells) * width);
        }
    }

    fn lengthen(comptime T: type, gpa: std.mem.Allocator, list: *[]T, n: usize) error{OutOfMemory}!void {
        if (list.len >= n) return;
        const before = list.len;
        list.* = try gpa.realloc(list.*, @max(n, before * 2));
        @memset(list.*[before..], 0);
    }

    /// Bring every row of a target's chain to where it belongs.
    fn settleChain(link: *Link, head: *Head, index: u32) void {
        if (index >= head.tables[link.target].graph_cells) return;
        var at = get(link.columnOf(head, .first), index);
        while (at != 0) {
            // Settling it unlinks this one alone, so what comes next is still next.
            const after = get(link.columnOf(head, .next), at - 1);
            settle(link, head, at - 1);
            at = after;
        }
    }

    /// Bring every row that refers to a row of the target to its chain.
    fn settleReferring(link: *Link, head: *Head, row: u32) void {
        const from = &head.tables[link.table];
        const target = &head.tables[link.target];
        const cell = if (link.value) |value| target.columns[value].cell(row) else target.keys.cell(row);
        var it = from.indexes[link.field].?.with(hashCell(cell));
        while (it.next()) |key| settle(link, head, entity.Key.of(key).index);
    }

    /// Bring one row to the chain of its target, or out of any.
    fn settle(link: *Link, head: *Head, index: u32) void {
        const from = &head.tables[link.table];
        const target = &head.tables[link.target];
        const wanted = if (from.findIndex(index)) |row| targetOf(link, target, from.columns[link.field].cell(row)) else 0;
        const linked = link.to[index];
        if (linked == wanted) return;
        const next = link.columnOf(head, .next);
        const first = link.columnOf(head, .first);
        const gpa = head.gpa;
        from.note();
        target.note();
        const after = get(next, index);
        if (linked != 0) {
            const before = link.prev[index];
            if (before != 0) {
                put(next, gpa, before - 1, after, from.graph_cells);
            } else {
                assert(get(first, linked - 1) == index + 1);
                put(first, gpa, linked - 1, after, target.graph_cells);
            }
            if (after != 0) link.prev[after - 1] = before;
        }
        const newest = if (wanted == 0) 0 else get(first, wanted - 1);
        if (newest != after) put(next, gpa, index, newest, from.graph_cells);
        link.prev[index] = 0;
        link.to[index] = wanted;
        if (link.value != null) put(link.columnOf(head, .targets), gpa, index, wanted, from.graph_cells);
        if (wanted == 0) return;
        if (newest != 0) link.prev[newest - 1] = index + 1 else if (link.value) |value| {
            // Of a chain that is not empty, the others may still be those of the value before.
            const cell = target.columns[value].cell(target.findIndex(wanted - 1).?);
            @memcpy(link.seen[(wanted - 1) * cell.len ..][0..cell.len], cell);
        }
        put(first, gpa, wanted - 1, index + 1, target.graph_cells);
    }

    /// The key index of the row that a reference leads to, plus one; 0 for null.
    fn targetOf(link: *const Link, target: *const Table, cell: []const u8) u32 {
        if (std.mem.allEqual(u8, cell, 0)) return 0;
        const key = if (link.value) |value|
            target.holder(value, cell, 0) orelse return 0
        else
            std.mem.readInt(u64, cell[0..8], .little);
        if (target.find(key) == null) return 0;
        return entity.Key.of(key).index + 1;
    }
};

pub fn get(column: *const Column, index: u32) u32 {
    return std.mem.readInt(u32, column.head[@as(usize, index) * 4 ..][0..4], .little);
}

fn put(column: *Column, gpa: std.mem.Allocator, index: u32, value: u32, cells: u32) void {
    column.write(gpa, index, cells, std.mem.asBytes(&value));
}

/// Call `with.row` for each marked row of an open set, some perhaps twice.
fn eachRow(set: *const changes.DirtySet, rows: u32, with: anytype) void {
    if (set.all) {
        for (0..rows) |row| with.row(@intCast(row));
        return;
    }
    for (set.list.items) |row| if (row < rows) with.row(row);
    for (set.words, 0..) |word, w| {
        var left = word;
        while (left != 0) : (left &= left - 1) {
            const row = w * 64 + @ctz(left);
            if (row < rows) with.row(@intCast(row));
        }
    }
}
