//! The spatial index of a table: a grid over two or three of its columns, kept in step with the change sets.
//!
//! An index belongs to whoever made it, not to the store. It is filled from a pinned view, or from the head by whoever
//! has the baton, and then serves every view of the same rows. To serve a later one it *follows*: of the rows in the
//! change sets since, those that lie in another cell than before are moved. A version in which a million rows moved a
//! little costs a look at each and hardly more.
//!
//! Invariants:
//! - with a stamp, the grid says where the rows of exactly that state lie; without one it says nothing and is filled anew;
//! - a row outside the change sets since `cut` lies where the grid says: undone writes are marked like any other;
//! - nobody changes an index while somebody searches in it. Callers see to that: searches only read.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const grid_file = @import("grid.zig");
const nearby = @import("nearby.zig");
const view = @import("view.zig");
const Table = @import("table.zig").Table;
const Views = view.Views;

/// What rows an index was filled from: equal stamps, equal keys in the same rows at the same places.
pub const Stamp = struct {
    head: bool,
    struct_seq: u64,
    /// By axis: the cut of a buffer, or the count of writes to a head. Neither comes twice.
    columns: [3]u64 = @splat(0),
};

/// The state that an index shall serve: a table in a pinned view, or in the head.
pub const Source = struct {
    stamp: Stamp,
    rows: u32,
    keys: [*]const u64,
    columns: [3][*]const u8 = undefined,
    /// Every change since this cut is in the sets of a later source.
    cut: u64,
    newest: ?*changes.ChangeSet,
    oldest_cut: u64,
    /// The marks of the open cut, of the head alone.
    open: ?*const Table = null,

    pub fn ofSlot(slot: *const view.Slot, table: usize, fields: []const u16) Source {
        const of = slot.tables[table];
        var source: Source = .{
            .stamp = .{ .head = false, .struct_seq = of.struct_seq },
            .rows = of.rows,
            .keys = @ptrCast(of.keys.data.ptr),
            .cut = slot.cut,
            .newest = slot.newest,
            .oldest_cut = slot.oldest_cut,
        };
        for (fields, 0..) |field, axis| {
            source.stamp.columns[axis] = of.columns[field].cut;
            source.columns[axis] = of.columns[field].data.ptr;
        }
        return source;
    }

    /// Needs the baton.
    pub fn ofHead(views: *const Views, table: *const Table, open: u64, fields: []const u16) Source {
        var source: Source = .{
            .stamp = .{ .head = true, .struct_seq = table.struct_seq },
            .rows = table.rows,
            .keys = @ptrCast(@alignCast(table.keys.head.ptr)),
            // What is in the open cut is looked at again next time: its marks do not say which are new.
            .cut = open - 1,
            .newest = views.newest,
            .oldest_cut = views.oldest_cut,
            .open = table,
        };
        for (fields, 0..) |field, axis| {
            source.stamp.columns[axis] = table.columns[field].writes;
            source.columns[axis] = table.columns[field].head.ptr;
        }
        return source;
    }
};

pub const Kind = enum(u32) { near = 0, within = 1, nearest = 2 };

pub const Index = struct {
    gpa: std.mem.Allocator,
    /// The table's place in the catalogue, and its columns, one for each axis.
    table: u16,
    fields: [3]u16,
    dims: u2,
    /// f64, else f32.
    wide: bool,
    grid: union(enum) { two: grid_file.Grid(2), three: grid_file.Grid(3) },
    stamp: ?Stamp = null,
    cut: u64 = 0,
    /// How often it was filled anew.
    fills: u64 = 0,
    marks: std.ArrayList(u64) = .empty,

    pub fn init(
        gpa: std.mem.Allocator,
        of: *const catalogue.Catalogue,
        table: u16,
        field_ids: []const u16,
        cell: f64,
    ) error{ UnknownTable, UnknownField, BadArgument }!Index {
        if (field_ids.len < 2 or field_ids.len > 3) return error.BadArgument;
        const scale = 1 / cell;
        // So small that its inverse has no number, or so large that it is none.
        if (!(cell > 0) or !std.math.isFinite(scale) or scale == 0) return error.BadArgument;
        const number = of.tableIndex(table) orelse return error.UnknownTable;
        const spec = &of.tables[number];
        var fields: [3]u16 = @splat(0);
        var wide = false;
        for (field_ids, 0..) |id, axis| {
            const field = spec.fieldIndex(id) orelse return error.UnknownField;
            const is_wide = spec.fields[field].type == .f64;
            const plain = (is_wide or spec.fields[field].type == .f32) and spec.fields[field].width == @as(u32, if (is_wide) 8 else 4);
            if (!plain or (axis > 0 and is_wide != wide)) return error.BadArgument;
            wide = is_wide;
            fields[axis] = @intCast(field);
        }
        return .{
            .gpa = gpa,
            .table = number,
            .fields = fields,
            .dims = @intCast(field_ids.len),
            .wide = wide,
            .grid = if (field_ids.len == 2) .{ .two = .{ .gpa = gpa, .scale = scale } } else .{ .three = .{ .gpa = gpa, .scale = scale } },
        };
    }

    pub fn deinit(index: *Index) void {
        switch (index.grid) {
            inline else => |*grid| grid.deinit(),
        }
        index.marks.deinit(index.gpa);
    }

    /// Another of the same, to follow elsewhere.
    pub fn copy(index: *const Index) error{OutOfMemory}!Index {
        var made = index.*;
        made.marks = .empty;
        switch (index.grid) {
            .two => |*grid| made.grid = .{ .two = try grid.copy() },
            .three => |*grid| made.grid = .{ .three = try grid.copy() },
        }
        return made;
    }

    pub fn fits(index: *const Index, source: *const Source) bool {
        return if (index.stamp) |stamp| std.meta.eql(stamp, source.stamp) else false;
    }

    /// Serve `source` from now on. Without memory for it the index serves nothing, until it is filled anew.
    pub fn follow(index: *Index, source: *const Source) error{OutOfMemory}!void {
        if (index.fits(source)) {
            // The same rows; and so all that happened up to the later of the two cuts is in the grid.
            index.cut = @max(index.cut, source.cut);
            return;
        }
        const known = index.stamp != null and try index.collect(source);
        index.stamp = null;
        switch (index.grid) {
            inline else => |*grid| {
                if (!known) {
                    grid.deinit();
                    index.fills += 1;
                }
                const before = grid.rows;
                try grid.resize(source.rows);
                if (index.wide) {
                    try index.step(f64, grid, source, if (known) before else 0);
                } else try index.step(f32, grid, source, if (known) before else 0);
            },
        }
        index.stamp = source.stamp;
        index.cut = source.cut;
    }

    /// Note the rows in the change sets since `cut`, of any axis. False when they do not reach back that far.
    fn collect(index: *Index, source: *const Source) error{OutOfMemory}!bool {
        if (source.cut < index.cut or index.cut + 1 < source.oldest_cut) return false;
        const words = (@as(usize, source.rows) + 63) / 64;
        try index.marks.resize(index.gpa, words);
        const marks = index.marks.items;
        @memset(marks, 0);
        if (source.open) |table| for (index.fields[0..index.dims]) |field| {
            table.columns[field].dirty.orInto(marks, source.rows);
            table.columns[field].aside.orInto(marks, source.rows);
        };
        var next = source.newest;
        while (next) |set| {
            if (set.cut <= index.cut) break;
            if (set.of(index.table)) |changed| {
                for (index.fields[0..index.dims]) |field| changed.columns[field].orInto(marks, source.rows);
            }
            next = if (set.cut > source.oldest_cut) set.prev else null;
        }
        return true;
    }

    /// Put the rows that were noted, and those from `first_new` on, where they lie.
    fn step(index: *Index, comptime T: type, grid: anytype, source: *const Source, first_new: u32) error{OutOfMemory}!void {
        // A head that never had a row has no memory, and its columns no address.
        if (source.rows == 0) return;
        const dims = @typeInfo(@TypeOf(grid.*).Cell).array.len;
        var columns: [dims][*]const T = undefined;
        inline for (&columns, 0..) |*cells, axis| cells.* = @ptrCast(@alignCast(source.columns[axis]));
        const known = @min(first_new, source.rows);
        if (known > 0) for (index.marks.items, 0..) |word, w| {
            var left = word;
            while (left != 0) : (left &= left - 1) {
                const row: u32 = @intCast(w * 64 + @ctz(left));
                if (row >= known) break;
                try place(T, dims, grid, &columns, row);
            }
        };
        for (known..source.rows) |row| try place(T, dims, grid, &columns, @intCast(row));
    }

    inline fn place(comptime T: type, comptime dims: u2, grid: *grid_file.Grid(dims), columns: *const [dims][*]const T, row: u32) error{OutOfMemory}!void {
        var where: [dims]f64 = undefined;
        inline for (columns, &where) |cells, *value| value.* = cells[row];
        try grid.put(row, grid.codeOf(where));
    }

    pub const Search = struct {
        kind: Kind,
        /// Of each search: where, and how far or the other corner or nothing.
        points: []const f64,
        others: []const f64,
        k: u32,
        allowed: ?[*]const u8,
    };

    /// Search in what `source` shows, which the index must fit. `ends[i]` receives how many rows the searches up to i
    /// have found.
    pub fn search(index: *const Index, source: *const Source, what: Search, ends: []u64, found: *nearby.Found) error{OutOfMemory}!void {
        assert(index.fits(source));
        if (source.rows == 0) return @memset(ends, found.items.len);
        switch (index.grid) {
            inline else => |*grid| if (index.wide)
                try index.searchIn(f64, grid, source, what, ends, found)
            else
                try index.searchIn(f32, grid, source, what, ends, found),
        }
    }

    fn searchIn(index: *const Index, comptime T: type, grid: anytype, source: *const Source, what: Search, ends: []u64, found: *nearby.Found) error{OutOfMemory}!void {
        const dims = @typeInfo(@TypeOf(grid.*).Cell).array.len;
        assert(what.points.len == ends.len * dims);
        var one: nearby.Nearby(T, dims) = .{
            .gpa = index.gpa,
            .grid = grid,
            .cells = undefined,
            .keys = source.keys,
            .allowed = what.allowed,
            .found = found,
        };
        defer one.deinit();
        inline for (&one.cells, 0..) |*cells, axis| cells.* = @ptrCast(@alignCast(source.columns[axis]));
        for (ends, 0..) |*end, i| {
            const point = what.points[i * dims ..][0..dims].*;
            switch (what.kind) {
                .near => try one.near(point, what.others[i]),
                .within => try one.within(point, what.others[i * dims ..][0..dims].*),
                .nearest => try one.nearest(point, what.k),
            }
            end.* = found.items.len;
        }
    }
};
