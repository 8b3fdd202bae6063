//! References and uniqueness: what deleting a row does to the rows that refer to it, and what a
//! transaction must keep as a whole.
//!
//! A foreign key holds a value: the key of an entity, or that of a field which names rows of another
//! table. Deleting the last row that has a value settles whoever refers to it at once, as declared:
//! cascade deletes them in turn, set null clears the reference. Restrict, and a value that was
//! overwritten, are judged when the transaction commits: whoever refers may have gone or followed by
//! then, and another row may have taken the value.
//!
//! Deleting works through a list, never by recursion: a chain of a million rows, or a ring, ends.
//!
//! Invariants:
//! - the lists of a transaction are supersets: each entry is judged against the head as it is at
//!   commit, so what was undone in between does no harm;
//! - zero is null: it refers to nothing, and no row that may be referred to has it.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const Head = @import("head.zig").Head;
const hashCell = @import("key_index.zig").hashCell;

/// One foreign key, as its target sees it.
const Link = struct {
    /// The target's field whose value is held; null for the key.
    value: ?u32,
    table: u16,
    field: u16,
    on_delete: catalogue.OnDelete,
};

/// A row whose field, or (from `fields_max` on) combination of fields, this transaction wrote.
const Touched = struct { key: u64, table: u16, field: u16 };

/// A value that may be gone, since a row that had it was deleted or changed: its bytes are `values[at..]`.
const Gone = struct { at: usize, table: u16, value: ?u32 };

const Row = struct { key: u64, table: u16 };

pub const References = struct {
    gpa: std.mem.Allocator,
    /// By table: who refers to it, those to one field side by side.
    links: []const []const Link,
    touched: std.ArrayList(Touched) = .empty,
    gone: std.ArrayList(Gone) = .empty,
    values: std.ArrayList(u8) = .empty,
    /// Rows still to be deleted.
    work: std.ArrayList(Row) = .empty,

    pub fn init(gpa: std.mem.Allocator, cat: *const catalogue.Catalogue) error{OutOfMemory}!References {
        const links = try gpa.alloc([]const Link, cat.tables.len);
        var made: usize = 0;
        errdefer {
            for (links[0..made]) |of| gpa.free(of);
            gpa.free(links);
        }
        for (links, 0..) |*of, target| {
            var list: std.ArrayList(Link) = .empty;
            errdefer list.deinit(gpa);
            for (cat.tables, 0..) |*table, t| for (table.fields, 0..) |*field, f| {
                if (!field.foreign_key or field.target_table != target) continue;
                // What happened to a row holds nobody back, and is not undone by its going.
                if (table.kind == .event) continue;
                try list.append(gpa, .{
                    .value = field.target_field,
                    .table = @intCast(t),
                    .field = @intCast(f),
                    .on_delete = field.on_delete,
                });
            };
            std.sort.insertion(Link, list.items, {}, struct {
                fn before(_: void, a: Link, b: Link) bool {
                    return (a.value orelse 0) < (b.value orelse 0);
                }
            }.before);
            of.* = try list.toOwnedSlice(gpa);
            made += 1;
        }
        return .{ .gpa = gpa, .links = links };
    }

    pub fn deinit(refs: *References) void {
        for (refs.links) |of| refs.gpa.free(of);
        refs.gpa.free(refs.links);
        refs.touched.deinit(refs.gpa);
        refs.gone.deinit(refs.gpa);
        refs.values.deinit(refs.gpa);
        refs.work.deinit(refs.gpa);
    }

    /// The transaction has ended: nothing is left to judge.
    pub fn forget(refs: *References) void {
        // Lengths, not `clearRetainingCapacity`, which overwrites what it clears.
        refs.touched.items.len = 0;
        refs.gone.items.len = 0;
        refs.values.items.len = 0;
        refs.work.items.len = 0;
        if (refs.work.capacity > 1 << 16) refs.work.clearAndFree(refs.gpa);
    }

    /// A field was written that has an index of its own or a part in one.
    pub fn touch(refs: *References, spec: *const catalogue.Table, table: u16, field: usize, key: u64) error{OutOfMemory}!void {
        const of = &spec.fields[field];
        if (of.unique or of.foreign_key) try refs.touched.append(refs.gpa, .{ .key = key, .table = table, .field = @intCast(field) });
        if (!of.combined) return;
        for (spec.uniques, 0..) |fields, u| {
            if (std.mem.indexOfScalar(u32, fields, @intCast(field)) == null) continue;
            try refs.touched.append(refs.gpa, .{ .key = key, .table = table, .field = @intCast(limits.fields_max + u) });
        }
    }

    /// All fields of new rows were written.
    pub fn touchRows(refs: *References, spec: *const catalogue.Table, table: u16, keys: []const u64) error{OutOfMemory}!void {
        for (spec.fields, 0..) |*field, f| {
            if (field.unique or field.foreign_key) try refs.touchAll(table, @intCast(f), keys);
        }
        for (0..spec.uniques.len) |u| try refs.touchAll(table, @intCast(limits.fields_max + u), keys);
    }

    fn touchAll(refs: *References, table: u16, field: u16, keys: []const u64) error{OutOfMemory}!void {
        try refs.touched.ensureUnusedCapacity(refs.gpa, keys.len);
        for (keys) |key| refs.touched.appendAssumeCapacity(.{ .key = key, .table = table, .field = field });
    }

    /// A row that has this value is about to lose it. `value` is null for the key of the row.
    pub fn lose(refs: *References, table: u16, value: ?u32, cell: []const u8) error{OutOfMemory}!void {
        try refs.values.ensureUnusedCapacity(refs.gpa, cell.len);
        try refs.gone.append(refs.gpa, .{ .at = refs.values.items.len, .table = table, .value = value });
        refs.values.appendSliceAssumeCapacity(cell);
    }
};

/// Delete a row, or an entity with its components, and settle every reference to it. Whole, or
/// nothing has changed.
pub fn delete(head: *Head, table: u16, key: u64) failure.Error!void {
    const row = try head.rowOf(table, key);
    const refs = &head.references;
    const from = head.mark();
    errdefer head.undoTo(from);
    if (refs.links[table].len == 0 and head.tables[table].spec.kind != .entities)
        return removeRow(head, table, row, key);
    assert(refs.work.items.len == 0);
    errdefer refs.work.items.len = 0;
    try deleteOne(head, table, row, key);
    while (refs.work.pop()) |next| {
        // Two ways may lead to one row.
        const there = head.tables[next.table].find(next.key) orelse continue;
        try deleteOne(head, next.table, there, next.key);
    }
}

fn deleteOne(head: *Head, table: u16, row: u32, key: u64) failure.Error!void {
    const t = &head.tables[table];
    const refs = &head.references;
    var before: ?Link = null;
    for (refs.links[table]) |link| {
        const value = if (link.value) |f| t.columns[f].cell(row) else std.mem.asBytes(&key);
        if (before == null or before.?.value != link.value) try refs.lose(table, link.value, value);
        before = link;
        // What a replica is sent says what became of every reference. Its own are older: to follow
        // them would remove a row whose reference had moved on before its target went.
        if (head.replica or link.on_delete == .restrict) continue;
        if (link.value) |f| if (t.holder(f, value, key) != null) continue;
        const referring = &head.tables[link.table];
        var it = referring.indexes[link.field].?.with(hashCell(value));
        while (it.next()) |other| {
            const place = referring.find(other).?;
            if (!std.mem.eql(u8, value, referring.columns[link.field].cell(place))) continue;
            if (link.on_delete == .cascade) {
                try refs.work.append(refs.gpa, .{ .table = link.table, .key = other });
                continue;
            }
            try head.writeCell(link.table, place, link.field, other, null_cell[0..value.len]);
            // It left the chain, which is another one now.
            it = referring.indexes[link.field].?.with(hashCell(value));
        }
    }
    if (t.spec.kind == .entities) for (head.tables, 0..) |*component, i| {
        if (component.spec.kind != .component) continue;
        if (component.find(key)) |at| try head.removeRow(@intCast(i), at);
    };
    // Clearing references moved nothing, and who else goes is on the list.
    assert(t.keyAt(row) == key);
    try removeRow(head, table, row, key);
}

const null_cell: [limits.cell_bytes_max]u8 = @splat(0);

fn removeRow(head: *Head, table: u16, row: u32, key: u64) error{OutOfMemory}!void {
    try head.removeRow(table, row);
    if (head.tables[table].spec.kind != .component) try head.releaseKey(table, key);
}

pub const Refused = error{ Unique, ForeignKey, Required, Restrict, Reference };

/// Check what a transaction as a whole must keep: uniqueness, references, and that nothing refers to
/// a value that is gone.
pub fn check(head: *Head) Refused!void {
    const refs = &head.references;
    for (refs.touched.items) |touched| {
        const t = &head.tables[touched.table];
        const row = t.find(touched.key) orelse continue;
        if (touched.field >= limits.fields_max) {
            const u = touched.field - limits.fields_max;
            if (t.hidesAny(t.spec.uniques[u])) continue;
            const other = t.combinedTwin(u, row) orelse continue;
            const err = head.failCell(error.Unique, touched.table, t.spec.uniques[u][0], touched.key, 0, other);
            head.info.reason = 1 + u;
            return err;
        }
        const f = touched.field;
        const field = &t.spec.fields[f];
        const cell = t.columns[f].cell(row);
        const is_null = std.mem.allEqual(u8, cell, 0);
        // Who sees it keeps the rule.
        if (is_null and t.isHidden(f)) continue;
        if (field.referred and is_null) return head.failCell(error.Reference, touched.table, f, touched.key, 0, 0);
        if (field.unique and !(field.foreign_key and is_null)) {
            if (t.holder(f, cell, touched.key)) |other|
                return head.failCell(error.Unique, touched.table, f, touched.key, firstWord(cell), other);
        }
        if (!field.foreign_key) continue;
        if (is_null) {
            if (!field.optional) return head.failCell(error.Required, touched.table, f, touched.key, 0, 0);
        } else if (!head.partial and !has(head, field.target_table, field.target_field, cell)) {
            return head.failCell(error.ForeignKey, touched.table, f, touched.key, firstWord(cell), 0);
        }
    }
    // Of what is seen, a part may go before the rest.
    if (head.partial) return;
    for (refs.gone.items) |gone| {
        const t = &head.tables[gone.table];
        const width = if (gone.value) |f| t.columns[f].width else 8;
        const cell = refs.values.items[gone.at..][0..width];
        if (has(head, gone.table, gone.value, cell)) continue;
        for (refs.links[gone.table]) |link| {
            if (link.value != gone.value) continue;
            const referring = head.tables[link.table].holder(link.field, cell, 0) orelse continue;
            const restricted = link.on_delete == .restrict;
            if (restricted) return head.failCell(error.Restrict, link.table, link.field, referring, firstWord(cell), 0);
            return head.failCell(error.ForeignKey, link.table, link.field, referring, firstWord(cell), 0);
        }
    }
}

/// Whether a table has a row with this value, or with this key.
pub fn has(head: *const Head, table: u16, value: ?u32, cell: []const u8) bool {
    const t = &head.tables[table];
    if (value) |f| return t.holder(f, cell, 0) != null;
    return t.find(std.mem.readInt(u64, cell[0..8], .little)) != null;
}

/// The first eight bytes of a cell, for a message.
pub fn firstWord(cell: []const u8) u64 {
    var bytes: [8]u8 = @splat(0);
    const n = @min(8, cell.len);
    @memcpy(bytes[0..n], cell[0..n]);
    return std.mem.readInt(u64, &bytes, .little);
}
