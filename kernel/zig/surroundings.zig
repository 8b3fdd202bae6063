//! Who is around an entity, for a rule that many clients have: from a crowd made for the version (`crowd.zig`) where so
//! many ask that it pays, else from an index that follows the changes (`spatial.zig`). Both find the same.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const crowd_file = @import("crowd.zig");
const failure = @import("failure.zig");
const nearby = @import("nearby.zig");
const spatial = @import("spatial.zig");
const view = @import("view.zig");

/// A search among cells that are made anew costs this many rows less than one in the index, about.
const rows_a_search = 24;

pub const Surroundings = struct {
    gpa: std.mem.Allocator,
    index: spatial.Index,
    crowd: union(enum) { two: crowd_file.Crowd(2), three: crowd_file.Crowd(3) },
    /// The stamp of what the crowd has; null for nothing.
    filled: ?spatial.Stamp = null,
    crowded: bool = false,

    pub fn init(gpa: std.mem.Allocator, cat: *const catalogue.Catalogue, table: u16, fields: []const u16, reach: f64) failure.Error!Surroundings {
        const index = try spatial.Index.init(gpa, cat, table, fields, reach);
        const scale = 2 / reach;
        return .{
            .gpa = gpa,
            .index = index,
            .crowd = if (index.dims == 2) .{ .two = .{ .gpa = gpa, .scale = scale } } else .{ .three = .{ .gpa = gpa, .scale = scale } },
        };
    }

    pub fn deinit(around_of: *Surroundings) void {
        around_of.index.deinit();
        switch (around_of.crowd) {
            inline else => |*crowd| crowd.deinit(),
        }
    }

    /// Serve `slot` from now on, of which about so many searches are asked.
    pub fn follow(around_of: *Surroundings, slot: *const view.Slot, searches: usize) error{OutOfMemory}!void {
        const index = &around_of.index;
        const source = spatial.Source.ofSlot(slot, index.table, index.fields[0..index.dims]);
        around_of.crowded = searches * rows_a_search >= source.rows;
        if (!around_of.crowded) return index.follow(&source);
        if (around_of.filled) |stamp| if (std.meta.eql(stamp, source.stamp)) return;
        around_of.filled = null;
        switch (around_of.crowd) {
            inline else => |*crowd| if (index.wide) try fill(f64, crowd, index, slot) else try fill(f32, crowd, index, slot),
        }
        around_of.filled = source.stamp;
    }

    fn fill(comptime T: type, crowd: anytype, index: *const spatial.Index, slot: *const view.Slot) error{OutOfMemory}!void {
        const dims = @typeInfo(@TypeOf(crowd.*).Place).array.len;
        const of = slot.tables[index.table];
        try crowd.fill(T, cellsOf(T, dims, index, of), of.keyList());
    }

    fn cellsOf(comptime T: type, comptime dims: u2, index: *const spatial.Index, of: *const view.TableView) [dims][*]const T {
        var cells: [dims][*]const T = undefined;
        for (&cells, index.fields[0..dims]) |*to, field| to.* = @ptrCast(@alignCast(of.columns[field].data.ptr));
        return cells;
    }

    /// Add to `met` who is at most `radius` from an entity, itself too. Nobody where it has no place. `met` takes its
    /// memory from this `gpa`.
    pub fn around(around_of: *const Surroundings, slot: *const view.Slot, key: u64, radius: f64, met: *crowd_file.Met) error{OutOfMemory}!void {
        const index = &around_of.index;
        const of = slot.tables[index.table];
        const row = of.find(key) orelse return;
        switch (around_of.crowd) {
            inline else => |*crowd| {
                if (index.wide) return around_of.search(f64, crowd, of, row, radius, met);
                return around_of.search(f32, crowd, of, row, radius, met);
            },
        }
    }

    fn search(around_of: *const Surroundings, comptime T: type, crowd: anytype, of: *const view.TableView, row: u32, radius: f64, met: *crowd_file.Met) error{OutOfMemory}!void {
        const dims = @typeInfo(@TypeOf(crowd.*).Place).array.len;
        const cells = cellsOf(T, dims, &around_of.index, of);
        var centre: [dims]f64 = undefined;
        for (&centre, cells) |*to, values| to.* = values[row];
        // It is nowhere, and so near nothing.
        for (centre) |value| if (!std.math.isFinite(value)) return;
        if (around_of.crowded) return crowd.around(centre, radius, met);
        const grid = if (dims == 2) &around_of.index.grid.two else &around_of.index.grid.three;
        const keys = of.keyList();
        var searching: nearby.Nearby(T, dims) = .{ .gpa = around_of.gpa, .grid = grid, .cells = cells, .keys = keys.ptr, .found = undefined };
        try searching.show(centre, radius, Cells(T, dims){
            .of = &searching,
            .centre = centre,
            .square = radius * radius,
            .met = met,
        });
    }

    fn Cells(comptime T: type, comptime dims: u2) type {
        return struct {
            of: *const nearby.Nearby(T, dims),
            centre: [dims]f64,
            square: f64,
            met: *crowd_file.Met,

            pub fn take(cells: *const @This(), slot: anytype, _: bool) error{OutOfMemory}!void {
                var it = cells.of.grid.rowsOf(slot);
                while (it.next()) |rows| for (rows) |row| {
                    const apart = cells.of.distance(row, cells.centre);
                    if (apart <= cells.square) try cells.met.add(cells.of.gpa, cells.of.keys[row], apart);
                };
            }
        };
    }
};
