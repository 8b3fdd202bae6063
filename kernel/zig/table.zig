//! One table's head: dense rows by column, the sparse index, and the marks of the open cut.
//!
//! Everything here changes the private head only; nobody but the writer sees it. Operations come in
//! two steps: `ensure…` may fail and changes nothing that can be seen, then the change itself cannot
//! fail. Delete moves the last row into the hole: the order of rows is never state, digest or wire.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const sparse = @import("sparse.zig");
const entity = @import("entity.zig");
const limits = @import("limits.zig");
const memory = @import("memory.zig");
const Column = @import("column.zig").Column;
const KeyIndex = @import("key_index.zig").KeyIndex;
const hashCell = @import("key_index.zig").hashCell;
const mix = @import("key_index.zig").mix;

pub const Table = struct {
    gpa: std.mem.Allocator,
    spec: *const catalogue.Table,
    /// Whose keys name the rows: the entities' space, or the table's own.
    space: *entity.Space,
    rows: u32 = 0,
    cap: u32 = 0,
    keys: Column = .{ .width = 8 },
    columns: []Column,
    /// The same, and behind them the columns of the relation graph: `graph_cells` each, by key index.
    all: []Column,
    graph_cells: u32 = 0,
    /// One per field; present where a field is unique or a foreign key.
    indexes: []?KeyIndex,
    /// One per combination of fields that is unique together.
    combined: []KeyIndex,
    index: sparse.Index = .{},
    /// Counts changes of which keys the table has and where: equal numbers mean equal row order.
    struct_seq: u64 = 1,
    /// The newest number of its auto-increment field, if it has one.
    auto: u64 = 0,
    has_auto: bool,
    /// Keys removed from and inserted into this table in the open cut, in order, with repeats.
    removed: std.ArrayList(u64) = .empty,
    inserted: std.ArrayList(u64) = .empty,
    /// The same of the open cut's versions that are made already; see `Column.aside`.
    removed_aside: std.ArrayList(u64) = .empty,
    inserted_aside: std.ArrayList(u64) = .empty,
    /// Its counter as the newest version says.
    auto_told: u64 = 0,
    /// This table's place in the head's list of tables that a publication has to look at.
    noted: *bool,
    /// Fields that have zeros in place of what may not be seen here, a bit each.
    hidden: [limits.fields_max / 64]u64 = @splat(0),
    /// Somebody follows its changes.
    journaled: bool = false,

    pub fn init(gpa: std.mem.Allocator, spec: *const catalogue.Table, space: *entity.Space, noted: *bool, graph_columns: usize) error{OutOfMemory}!Table {
        const all = try gpa.alloc(Column, spec.fields.len + graph_columns);
        errdefer gpa.free(all);
        @memset(all, .{ .width = 4 });
        const columns = all[0..spec.fields.len];
        const indexes = try gpa.alloc(?KeyIndex, spec.fields.len);
        errdefer gpa.free(indexes);
        const combined = try gpa.alloc(KeyIndex, spec.uniques.len);
        @memset(combined, .{});
        var has_auto = false;
        for (spec.fields, columns, indexes) |*field, *column, *index| {
            has_auto = has_auto or field.auto;
            column.* = .{ .width = field.width };
            // Whom an event names may go: nobody looks for the event then.
            index.* = if ((field.unique or field.foreign_key) and spec.kind != .event) .{} else null;
        }
        return .{
            .gpa = gpa,
            .spec = spec,
            .space = space,
            .columns = columns,
            .all = all,
            .indexes = indexes,
            .combined = combined,
            .has_auto = has_auto,
            .noted = noted,
        };
    }

    pub fn deinit(table: *Table) void {
        table.keys.deinit(table.gpa);
        for (table.all) |*column| column.deinit(table.gpa);
        for (table.indexes) |*index| if (index.*) |*i| i.deinit(table.gpa);
        table.gpa.free(table.all);
        table.gpa.free(table.indexes);
        for (table.combined) |*index| index.deinit(table.gpa);
        table.gpa.free(table.combined);
        table.index.deinit(table.gpa);
        table.removed.deinit(table.gpa);
        table.inserted.deinit(table.gpa);
        table.removed_aside.deinit(table.gpa);
        table.inserted_aside.deinit(table.gpa);
    }

    pub fn hide(table: *Table, field: usize) void {
        table.hidden[field / 64] |= @as(u64, 1) << @intCast(field % 64);
    }

    pub fn isHidden(table: *const Table, field: usize) bool {
        return table.hidden[field / 64] >> @intCast(field % 64) & 1 == 1;
    }

    pub fn hidesAny(table: *const Table, fields: []const u32) bool {
        for (fields) |field| if (table.isHidden(field)) return true;
        return false;
    }

    /// Whether the undo log says whose cells a bulk operation wrote: somebody will ask it.
    pub inline fn namesRows(table: *const Table) bool {
        return table.journaled or table.spec.lww_key != null;
    }

    /// How many cells column `i` of `all` has.
    pub fn cellsOf(table: *const Table, i: usize) u32 {
        return if (i < table.columns.len) table.rows else table.graph_cells;
    }

    pub inline fn keyAt(table: *const Table, row: u32) u64 {
        return std.mem.readInt(u64, table.keys.head[@as(usize, row) * 8 ..][0..8], .little);
    }

    pub fn keyList(table: *const Table) []const u64 {
        return @as([*]const u64, @ptrCast(@alignCast(table.keys.head.ptr)))[0..table.rows];
    }

    /// The row of exactly this key: index and generation.
    pub inline fn find(table: *const Table, key: u64) ?u32 {
        const row = sparse.find(table.index.pages.items, entity.Key.of(key).index) orelse return null;
        return if (table.keyAt(row) == key) row else null;
    }

    /// Whatever row the index of a key has, of any generation.
    pub inline fn findIndex(table: *const Table, index: u32) ?u32 {
        return sparse.find(table.index.pages.items, index);
    }

    /// Something may change. Whatever makes a mark or a page of the open cut says so first, or it is not published.
    pub inline fn note(table: *Table) void {
        table.noted.* = true;
    }

    pub fn changed(table: *const Table) bool {
        for (table.all[table.columns.len..]) |*column| if (!column.dirty.isEmpty()) return true;
        return table.rowsChanged();
    }

    /// The same of what is more than the relation graph.
    pub fn rowsChanged(table: *const Table) bool {
        if (table.removed.items.len > 0 or table.inserted.items.len > 0) return true;
        if (!table.keys.dirty.isEmpty()) return true;
        for (table.columns) |*column| if (!column.dirty.isEmpty()) return true;
        return false;
    }

    pub fn hasAside(table: *const Table) bool {
        if (table.removed_aside.items.len > 0 or table.inserted_aside.items.len > 0 or !table.keys.aside.isEmpty()) return true;
        for (table.all) |*column| if (!column.aside.isEmpty()) return true;
        return false;
    }

    /// The open marks belong to a version that is made. Without memory some of them stay open.
    pub fn putAside(table: *Table) error{OutOfMemory}!void {
        if (!table.changed()) return;
        try join(table.gpa, &table.removed_aside, &table.removed);
        // A key that is in both lists is netted when the cut is sealed, like one that is twice in one.
        try join(table.gpa, &table.inserted_aside, &table.inserted);
        table.keys.aside.absorb(table.gpa, &table.keys.dirty, table.rows);
        for (table.all, 0..) |*column, i| column.aside.absorb(table.gpa, &column.dirty, table.cellsOf(i));
    }

    /// What was put aside is about to be published with what came since. Without memory some of it is taken up.
    pub fn takeUp(table: *Table) error{OutOfMemory}!void {
        try join(table.gpa, &table.removed, &table.removed_aside);
        try join(table.gpa, &table.inserted, &table.inserted_aside);
        table.keys.dirty.absorb(table.gpa, &table.keys.aside, table.rows);
        for (table.all, 0..) |*column, i| column.dirty.absorb(table.gpa, &column.aside, table.cellsOf(i));
    }

    fn join(gpa: std.mem.Allocator, to: *std.ArrayList(u64), from: *std.ArrayList(u64)) error{OutOfMemory}!void {
        if (to.items.len == 0) {
            std.mem.swap(std.ArrayList(u64), to, from);
            return;
        }
        try to.appendSlice(gpa, from.items);
        from.items.len = 0;
    }

    /// Make room for `n` more rows with the head, the lists and the indexes; not for the sparse index.
    pub fn ensureRows(table: *Table, n: u32) error{ OutOfMemory, Limit }!void {
        if (table.rows + @as(u64, n) > table.spec.rows_max) return error.Limit;
        const need = table.rows + n;
        if (need > table.cap) {
            const cap = @max(need, table.cap +| table.cap, 16);
            try table.keys.grow(table.gpa, cap, table.rows);
            for (table.columns) |*column| try column.grow(table.gpa, cap, table.rows);
            table.cap = cap;
        }
        try memory.reserve(u64, table.gpa, &table.inserted, table.inserted.items.len + n);
        try table.ensureIndexes(n);
    }

    fn ensureIndexes(table: *Table, n: u32) error{OutOfMemory}!void {
        for (table.indexes) |*index| if (index.*) |*i| try i.ensure(table.gpa, n);
        for (table.combined) |*index| try index.ensure(table.gpa, n);
    }

    pub fn ensureRemove(table: *Table, row: u32, open: u64, retired: *std.ArrayList(sparse.Retired)) error{OutOfMemory}!void {
        table.note();
        try table.index.ensure(table.gpa, entity.Key.of(table.keyAt(row)).index, open, retired);
        try table.index.ensure(table.gpa, entity.Key.of(table.keyAt(table.rows - 1)).index, open, retired);
        try table.removed.ensureUnusedCapacity(table.gpa, 1);
        // Undoing a removal adds the row to the indexes again.
        try table.ensureIndexes(1);
    }

    /// Append a row. `cells` has one pointer per field. Call `ensureRows` and `index.ensure` first.
    pub fn insertRow(table: *Table, key: u64, cells: []const [*]const u8) void {
        table.note();
        const row = table.appendKey(key);
        for (table.columns, cells, 0..) |*column, from, f| {
            column.write(table.gpa, row, table.rows, from[0..column.width]);
            table.indexAdd(f, key, column.cell(row));
        }
        table.combinedAdd(row, key);
        table.inserted.appendAssumeCapacity(key);
    }

    fn appendKey(table: *Table, key: u64) u32 {
        const row = table.rows;
        assert(row < table.cap);
        table.rows += 1;
        table.keys.write(table.gpa, row, table.rows, std.mem.asBytes(&key));
        table.index.insert(entity.Key.of(key).index, row);
        table.struct_seq += 1;
        return row;
    }

    /// Take back the newest `insertRow`.
    pub fn undoInsert(table: *Table) void {
        const row = table.rows - 1;
        const key = table.keyAt(row);
        table.indexRemove(key);
        table.index.remove(entity.Key.of(key).index);
        table.rows = row;
        table.struct_seq += 1;
        const newest = table.inserted.pop();
        assert(newest == key);
    }

    /// Remove a row; the last one moves into its place. Call `ensureRemove` first.
    pub fn removeRow(table: *Table, row: u32) void {
        const key = table.keyAt(row);
        table.indexRemove(key);
        table.index.remove(entity.Key.of(key).index);
        const last = table.rows - 1;
        if (row != last) {
            const moved = table.keyAt(last);
            table.keys.write(table.gpa, row, table.rows, std.mem.asBytes(&moved));
            for (table.columns) |*column| column.write(table.gpa, row, table.rows, column.cell(last));
            table.index.move(entity.Key.of(moved).index, row);
        }
        table.rows = last;
        table.struct_seq += 1;
        table.removed.appendAssumeCapacity(key);
    }

    /// Take back the newest `removeRow`: the row returns to its place, and what had moved to the end.
    pub fn undoRemove(table: *Table, row: u32, key: u64, cells: []const u8) void {
        const last = table.rows;
        table.rows += 1;
        if (row != last) {
            const moved = table.keyAt(row);
            table.keys.write(table.gpa, last, table.rows, std.mem.asBytes(&moved));
            for (table.columns) |*column| column.write(table.gpa, last, table.rows, column.cell(row));
            table.index.move(entity.Key.of(moved).index, last);
        }
        table.keys.write(table.gpa, row, table.rows, std.mem.asBytes(&key));
        table.index.insert(entity.Key.of(key).index, row);
        var at: usize = 0;
        for (table.columns, 0..) |*column, f| {
            column.write(table.gpa, row, table.rows, cells[at..][0..column.width]);
            at += column.width;
            table.indexAdd(f, key, column.cell(row));
        }
        table.combinedAdd(row, key);
        table.struct_seq += 1;
        const newest = table.removed.pop();
        assert(newest == key);
    }

    /// Two rows change places. Call `index.ensure` for both keys first.
    pub fn swapRows(table: *Table, a: u32, b: u32) void {
        assert(a != b and a < table.rows and b < table.rows);
        table.note();
        const keys = [2]u64{ table.keyAt(a), table.keyAt(b) };
        table.keys.write(table.gpa, a, table.rows, std.mem.asBytes(&keys[1]));
        table.keys.write(table.gpa, b, table.rows, std.mem.asBytes(&keys[0]));
        var room: [limits.cell_bytes_max]u8 = undefined;
        for (table.columns) |*column| {
            const cell = room[0..column.width];
            @memcpy(cell, column.cell(a));
            column.write(table.gpa, a, table.rows, column.cell(b));
            column.write(table.gpa, b, table.rows, cell);
        }
        table.index.move(entity.Key.of(keys[0]).index, b);
        table.index.move(entity.Key.of(keys[1]).index, a);
        table.struct_seq += 1;
    }

    /// Make room so that writing one cell of a field, and undoing it, cannot fail.
    pub fn ensureWrite(table: *Table, field: usize) error{OutOfMemory}!void {
        if (table.indexes[field]) |*index| try index.ensure(table.gpa, 1);
        if (table.spec.fields[field].combined) for (table.combined) |*index| try index.ensure(table.gpa, 1);
    }

    /// Overwrite one cell. For an indexed field call `ensureWrite` first.
    pub fn writeCell(table: *Table, row: u32, field: usize, from: []const u8) void {
        table.note();
        const column = &table.columns[field];
        column.write(table.gpa, row, table.rows, from);
        if (table.indexes[field]) |*index| {
            const key = table.keyAt(row);
            index.remove(key);
            table.indexAdd(field, key, column.cell(row));
        }
        if (table.spec.fields[field].combined) {
            const key = table.keyAt(row);
            for (table.spec.uniques, table.combined) |fields, *index| {
                if (std.mem.indexOfScalar(u32, fields, @intCast(field)) == null) continue;
                index.remove(key);
                if (table.combinedHash(fields, row)) |hash| index.add(hash, key);
            }
        }
    }

    /// The key of a row, not `but`, whose cell of an indexed field is exactly this. Keys are never 0.
    pub fn holder(table: *const Table, field: usize, cell: []const u8, but: u64) ?u64 {
        var it = table.indexes[field].?.with(hashCell(cell));
        while (it.next()) |key| {
            if (key != but and std.mem.eql(u8, cell, table.columns[field].cell(table.find(key).?))) return key;
        }
        return null;
    }

    /// The key of another row with the same values in a combination of fields.
    pub fn combinedTwin(table: *const Table, number: usize, row: u32) ?u64 {
        const fields = table.spec.uniques[number];
        var it = table.combined[number].with(table.combinedHash(fields, row) orelse return null);
        search: while (it.next()) |key| {
            const other = table.find(key).?;
            if (other == row) continue;
            for (fields) |f| {
                if (!std.mem.eql(u8, table.columns[f].cell(row), table.columns[f].cell(other))) continue :search;
            }
            return key;
        }
        return null;
    }

    /// Null where a reference in it is null: an absent value is like no other.
    fn combinedHash(table: *const Table, fields: []const u32, row: u32) ?u64 {
        var hash: u64 = 0;
        for (fields) |f| {
            const cell = table.columns[f].cell(row);
            if (table.spec.fields[f].foreign_key and std.mem.allEqual(u8, cell, 0)) return null;
            hash = mix(hash ^ hashCell(cell)) +% f;
        }
        return hash;
    }

    fn combinedAdd(table: *Table, row: u32, key: u64) void {
        for (table.spec.uniques, table.combined) |fields, *index| {
            if (table.combinedHash(fields, row)) |hash| index.add(hash, key);
        }
    }

    pub fn rowBytes(table: *const Table) u32 {
        var bytes: u32 = 0;
        for (table.columns) |*column| bytes += column.width;
        return bytes;
    }

    fn indexAdd(table: *Table, field: usize, key: u64, cell: []const u8) void {
        const index = &(table.indexes[field] orelse return);
        // A null reference refers to nothing, and an absent optional value is like no other.
        if (table.spec.fields[field].foreign_key and std.mem.allEqual(u8, cell, 0)) return;
        index.add(hashCell(cell), key);
    }

    fn indexRemove(table: *Table, key: u64) void {
        for (table.indexes) |*index| if (index.*) |*i| i.remove(key);
        for (table.combined) |*index| index.remove(key);
    }

    /// Append `n` rows whose keys are in the sparse index already: bulk insertion.
    pub fn finishBulk(table: *Table, keys: []const u64) void {
        const n: u32 = @intCast(keys.len);
        const first = table.rows;
        @memcpy(table.keys.head[@as(usize, first) * 8 ..][0 .. keys.len * 8], std.mem.sliceAsBytes(keys));
        table.rows += n;
        table.keys.dirty.markRange(table.gpa, first, n, table.rows);
        table.keys.writes += 1;
        for (table.columns, 0..) |*column, f| {
            column.dirty.markRange(table.gpa, first, n, table.rows);
            column.writes += 1;
            if (table.indexes[f] != null) for (keys, first..) |key, row| table.indexAdd(f, key, column.cell(@intCast(row)));
        }
        if (table.combined.len > 0) for (keys, first..) |key, row| table.combinedAdd(@intCast(row), key);
        table.inserted.appendSliceAssumeCapacity(keys);
        table.struct_seq += 1;
    }
};
