//! Searches in a grid: which rows lie within a distance, within a box, or nearest to a place.
//!
//! The grid says which rows may be meant; the cells of the columns say which are, in f64 whatever their type. So what is
//! found is what a comparison of every row would find, to the last bit: a distance is the sum of the squares of the
//! differences, axis by axis, compared with the square of the radius. Rows that lie nowhere are never found.
//!
//! Invariants:
//! - rows within a distance or a box come ascending; nearest ones by distance, and by key where that is equal;
//! - a search looks at no more cells than there are, however large or far away what it is asked for.

const std = @import("std");
const assert = std.debug.assert;
const grid_file = @import("grid.zig");

/// What is found crosses the boundary, where memory is freed by address and length.
pub const Found = std.array_list.Aligned(u32, .@"64");

/// What rounding may move a border by, for its size and that of the place: 45 units in the last place.
const slack = 1e-14;

pub fn Nearby(comptime T: type, comptime dims: u2) type {
    return struct {
        gpa: std.mem.Allocator,
        grid: *const Grid,
        /// By axis: where the rows lie.
        cells: [dims][*]const T,
        keys: [*]const u64,
        /// By row: whether it may be found. Null for all.
        allowed: ?[*]const u8 = null,
        found: *Found,
        /// The nearest so far; the farthest of them first.
        heap: std.PriorityQueue(Candidate, void, farthest) = .initContext({}),

        const Self = @This();
        const Grid = grid_file.Grid(dims);
        const Cell = Grid.Cell;
        const Place = Grid.Place;

        pub fn deinit(self: *Self) void {
            self.heap.deinit(self.gpa);
        }

        inline fn may(self: *const Self, row: u32) bool {
            return if (self.allowed) |allowed| allowed[row] != 0 else true;
        }

        /// The square of the distance.
        pub inline fn distance(self: *const Self, row: u32, centre: Place) f64 {
            var sum: f64 = 0;
            inline for (self.cells, centre) |cells, from| {
                const difference = @as(f64, cells[row]) - from;
                sum += difference * difference;
            }
            return sum;
        }

        // Within a distance, within a box.

        /// Rows at most `radius` from `centre`.
        pub fn near(self: *Self, centre: Place, radius: f64) error{OutOfMemory}!void {
            const start = self.found.items.len;
            try self.show(centre, radius, Circle{ .of = self, .centre = centre, .square = radius * radius });
            try self.ascend(start);
        }

        /// Show `what` every cell that may have rows at most `radius` from `centre`.
        pub fn show(self: *Self, centre: Place, radius: f64, what: anytype) error{OutOfMemory}!void {
            var low: Cell = undefined;
            var high: Cell = undefined;
            for (centre, &low, &high) |value, *from, *to| {
                const more = (@abs(value) + radius) * slack;
                from.* = self.grid.at(value - radius - more);
                to.* = self.grid.at(value + radius + more);
            }
            try self.visit(low, high, what);
        }

        const Circle = struct {
            of: *Self,
            centre: Place,
            square: f64,

            fn take(circle: *const Circle, slot: *const grid_file.Slot, _: bool) error{OutOfMemory}!void {
                const self = circle.of;
                try self.found.ensureUnusedCapacity(self.gpa, slot.rows);
                var it = self.grid.rowsOf(slot);
                while (it.next()) |rows| for (rows) |row| {
                    if (self.distance(row, circle.centre) <= circle.square and self.may(row)) self.found.appendAssumeCapacity(row);
                };
            }
        };

        /// Rows from `low` to `high` on every axis, both included.
        pub fn within(self: *Self, low: Place, high: Place) error{OutOfMemory}!void {
            const start = self.found.items.len;
            try self.visit(self.grid.cellOf(low), self.grid.cellOf(high), Box{ .of = self, .low = low, .high = high });
            try self.ascend(start);
        }

        const Box = struct {
            of: *Self,
            low: Place,
            high: Place,

            fn take(box: *const Box, slot: *const grid_file.Slot, inside: bool) error{OutOfMemory}!void {
                const self = box.of;
                try self.found.ensureUnusedCapacity(self.gpa, slot.rows);
                var it = self.grid.rowsOf(slot);
                while (it.next()) |rows| next: for (rows) |row| {
                    // Cells ascend with places: what lies strictly between two lies between what they were made of.
                    if (!inside) inline for (self.cells, box.low, box.high) |cells, low, high| {
                        const value: f64 = cells[row];
                        if (value < low or value > high) continue :next;
                    };
                    if (self.may(row)) self.found.appendAssumeCapacity(row);
                };
            }
        };

        /// Show `what` every cell of the box that has rows, and whether it lies strictly between its borders.
        fn visit(self: *Self, low: Cell, high: Cell, what: anytype) error{OutOfMemory}!void {
            const grid = self.grid;
            if (grid.cells == 0) return;
            var from: Cell = undefined;
            var to: Cell = undefined;
            var volume: f64 = 1;
            for (&from, &to, low, high, grid.low, grid.high) |*first, *last, l, h, lowest, highest| {
                first.* = @max(l, lowest);
                last.* = @min(h, highest);
                if (first.* > last.*) return;
                volume *= @floatFromInt(@as(i64, last.*) - first.* + 1);
            }
            if (volume > @as(f64, @floatFromInt(grid.cells)) * 2 + 16) {
                for (grid.slots) |*slot| {
                    if (slot.rows == 0) continue;
                    const cell = Grid.unpack(slot.code);
                    if (contains(from, to, cell)) try what.take(slot, between(low, high, cell));
                }
                return;
            }
            var cell = from;
            while (true) {
                if (grid.find(Grid.pack(cell))) |slot| try what.take(slot, between(low, high, cell));
                if (!advance(&cell, from, to)) return;
            }
        }

        /// The next cell of a box; false behind the last.
        inline fn advance(cell: *Cell, from: Cell, to: Cell) bool {
            inline for (cell, from, to) |*number, first, last| {
                if (number.* < last) {
                    number.* += 1;
                    return true;
                }
                number.* = first;
            }
            return false;
        }

        inline fn contains(from: Cell, to: Cell, cell: Cell) bool {
            inline for (from, to, cell) |first, last, number| if (number < first or number > last) return false;
            return true;
        }

        inline fn between(low: Cell, high: Cell, cell: Cell) bool {
            inline for (low, high, cell) |l, h, number| if (number <= l or number >= h) return false;
            return true;
        }

        /// Sort what was found from `start` on.
        fn ascend(self: *Self, start: usize) error{OutOfMemory}!void {
            const rows = self.found.items[start..];
            if (rows.len < 1024 or rows.len < self.grid.rows / 256) {
                std.mem.sortUnstable(u32, rows, {}, std.sort.asc(u32));
                return;
            }
            // Many: a bit each, and read them off in order.
            const words = try self.gpa.alloc(u64, (self.grid.rows + 63) / 64);
            defer self.gpa.free(words);
            @memset(words, 0);
            for (rows) |row| words[row / 64] |= @as(u64, 1) << @intCast(row & 63);
            var n: usize = 0;
            for (words, 0..) |word, w| {
                var left = word;
                while (left != 0) : (left &= left - 1) {
                    rows[n] = @intCast(w * 64 + @ctz(left));
                    n += 1;
                }
            }
            assert(n == rows.len);
        }

        // Nearest.

        const Candidate = struct { distance: f64, key: u64, row: u32 };

        fn farthest(_: void, a: Candidate, b: Candidate) std.math.Order {
            const order = std.math.order(b.distance, a.distance);
            return if (order == .eq) std.math.order(b.key, a.key) else order;
        }

        fn nearer(_: void, a: Candidate, b: Candidate) bool {
            return farthest({}, b, a) == .lt;
        }

        /// The `k` rows nearest to `centre`, or as many as there are.
        ///
        /// Cells are looked at in square rings around that of the centre, from the first that can have any. After a
        /// ring, what lies outside of it is farther than its nearest border; where `k` rows are nearer than that, they
        /// are the ones. Where the rings come to more cells than there are, all rows are looked at instead.
        pub fn nearest(self: *Self, centre: Place, k: u32) error{OutOfMemory}!void {
            const grid = self.grid;
            if (k == 0 or grid.cells == 0) return;
            self.heap.items.len = 0;
            try self.heap.ensureTotalCapacity(self.gpa, @min(k, grid.rows) + 1);
            const middle = grid.cellOf(centre);
            var ring: i32 = 0;
            var last: i32 = 0;
            for (middle, grid.low, grid.high) |number, low, high| {
                ring = @max(ring, low - number, number - high);
                last = @max(last, number - low, high - number);
            }
            var looked: u64 = 0;
            const enough = @as(u64, grid.cells) * 2 + 64;
            while (ring <= last) : (ring += 1) {
                if (!self.lookAtRing(middle, ring, centre, k, &looked, enough)) {
                    self.heap.items.len = 0;
                    for (grid.slots) |*slot| if (slot.rows != 0) self.consider(slot, centre, k);
                    break;
                }
                if (self.heap.items.len < k) continue;
                const border = self.borderOf(middle, ring, centre);
                if (border > 0 and self.heap.items[0].distance < border * border) break;
            }
            const best = self.heap.items;
            std.mem.sortUnstable(Candidate, best, {}, nearer);
            try self.found.ensureUnusedCapacity(self.gpa, best.len);
            for (best) |candidate| self.found.appendAssumeCapacity(candidate.row);
        }

        /// False, with some of it looked at, once `looked` comes to `enough`.
        fn lookAtRing(self: *Self, middle: Cell, ring: i32, centre: Place, k: u32, looked: *u64, enough: u64) bool {
            const grid = self.grid;
            // One side after the other: that on which `axis` is the first whose distance is the ring's.
            inline for (0..dims) |axis| for ([_]i32{ -1, 1 }) |side| {
                if (ring == 0 and (axis > 0 or side > 0)) continue;
                var from: Cell = undefined;
                var to: Cell = undefined;
                var empty = false;
                inline for (0..dims) |other| {
                    // Sides share no cell: those of earlier axes have the corners.
                    const out = if (other < axis) ring - 1 else ring;
                    from[other] = @max(middle[other] - out, grid.low[other]);
                    to[other] = @min(middle[other] + out, grid.high[other]);
                    if (other == axis) {
                        const number = middle[other] + side * ring;
                        if (number < grid.low[other] or number > grid.high[other]) empty = true;
                        from[other], to[other] = .{ number, number };
                    }
                    if (from[other] > to[other]) empty = true;
                }
                if (!empty) {
                    var cell = from;
                    while (true) {
                        if (looked.* == enough) return false;
                        looked.* += 1;
                        if (grid.find(Grid.pack(cell))) |slot| self.consider(slot, centre, k);
                        if (!advance(&cell, from, to)) break;
                    }
                }
            };
            return true;
        }

        /// A distance that every row outside of the rings up to `ring` is beyond; infinite where there are none.
        fn borderOf(self: *const Self, middle: Cell, ring: i32, centre: Place) f64 {
            var border = std.math.inf(f64);
            for (middle, self.grid.low, self.grid.high, centre) |number, lowest, highest, value| {
                const low = @as(f64, @floatFromInt(number - ring)) / self.grid.scale;
                const high = @as(f64, @floatFromInt(number + ring + 1)) / self.grid.scale;
                if (number - ring > lowest) border = @min(border, value - low - (@abs(value) + @abs(low)) * slack);
                if (number + ring < highest) border = @min(border, high - value - (@abs(value) + @abs(high)) * slack);
            }
            return border;
        }

        fn consider(self: *Self, slot: *const grid_file.Slot, centre: Place, k: u32) void {
            var it = self.grid.rowsOf(slot);
            while (it.next()) |rows| for (rows) |row| {
                const apart = self.distance(row, centre);
                const full = self.heap.items.len == k;
                if (full and apart > self.heap.items[0].distance) continue;
                if (!self.may(row)) continue;
                const candidate: Candidate = .{ .distance = apart, .key = self.keys[row], .row = row };
                if (!full) {
                    self.heap.push(self.gpa, candidate) catch unreachable; // room was made
                } else if (nearer({}, candidate, self.heap.items[0])) {
                    _ = self.heap.pop();
                    self.heap.push(self.gpa, candidate) catch unreachable;
                }
            };
        }
    };
}

// What every row says, without a grid.
fn Plain(comptime T: type, comptime dims: u2) type {
    return struct {
        cells: [dims][]const T,
        keys: []const u64,
        allowed: []const u8,

        const Place = [dims]f64;

        fn listed(self: *const @This(), row: usize) bool {
            inline for (self.cells) |cells| if (!std.math.isFinite(cells[row])) return false;
            return self.allowed[row] != 0;
        }

        fn distance(self: *const @This(), row: usize, centre: Place) f64 {
            var sum: f64 = 0;
            inline for (self.cells, centre) |cells, from| sum += (cells[row] - from) * (cells[row] - from);
            return sum;
        }
    };
}

fn compare(comptime T: type, comptime dims: u2, random: std.Random, width: f64, rows: u32) !void {
    const gpa = std.testing.allocator;
    var cells: [dims][]T = undefined;
    for (&cells) |*column| column.* = try gpa.alloc(T, rows);
    defer for (cells) |column| gpa.free(column);
    const keys = try gpa.alloc(u64, rows);
    defer gpa.free(keys);
    const allowed = try gpa.alloc(u8, rows);
    defer gpa.free(allowed);
    const snapped = random.boolean();
    var grid: grid_file.Grid(dims) = .{ .gpa = gpa, .scale = 1.0 / 3.0 };
    defer grid.deinit();
    try grid.resize(rows);
    const whole = random.boolean();
    for (0..rows) |row| {
        var place: [dims]f64 = undefined;
        for (cells, &place) |column, *value| {
            const raw = (random.float(f64) - 0.5) * width;
            // Places that repeat, on the borders of cells too.
            column[row] = @floatCast(if (snapped) @round(raw) else raw);
            if (random.uintLessThan(u16, 100) == 0) column[row] = std.math.nan(T);
            if (random.uintLessThan(u16, 100) == 0) column[row] = std.math.inf(T);
            if (random.uintLessThan(u16, 100) == 0) column[row] = 1e30;
            value.* = column[row];
        }
        keys[row] = random.int(u64);
        allowed[row] = if (whole) 1 else random.uintLessThan(u8, 2);
        try grid.put(@intCast(row), grid.codeOf(place));
    }
    const plain: Plain(T, dims) = .{ .cells = blk: {
        var of: [dims][]const T = undefined;
        for (&of, cells) |*to, column| to.* = column;
        break :blk of;
    }, .keys = keys, .allowed = allowed };
    var found: Found = .empty;
    defer found.deinit(gpa);
    var search: Nearby(T, dims) = .{
        .gpa = gpa,
        .grid = &grid,
        .cells = blk: {
            var of: [dims][*]const T = undefined;
            for (&of, cells) |*to, column| to.* = column.ptr;
            break :blk of;
        },
        .keys = keys.ptr,
        .allowed = if (whole) null else allowed.ptr,
        .found = &found,
    };
    defer search.deinit();
    var expected: std.ArrayList(u32) = .empty;
    defer expected.deinit(gpa);
    for (0..40) |round| {
        var centre: [dims]f64 = undefined;
        for (&centre) |*value| value.* = (random.float(f64) - 0.5) * width * 1.5;
        if (snapped) for (&centre) |*value| {
            value.* = @round(value.*);
        };
        if (round == 0) centre[0] = 1e31;
        var radius = random.float(f64) * width * 0.4;
        if (snapped) radius = @round(radius);
        if (round == 1) radius = std.math.inf(f64);

        found.clearRetainingCapacity();
        try search.near(centre, radius);
        expected.clearRetainingCapacity();
        for (0..rows) |row| if (plain.listed(row) and plain.distance(row, centre) <= radius * radius) try expected.append(gpa, @intCast(row));
        try std.testing.expectEqualSlices(u32, expected.items, found.items);

        var low = centre;
        var high = centre;
        for (&low) |*value| value.* -= radius;
        for (&high) |*value| value.* += radius * random.float(f64);
        if (std.math.isNan(high[0]) or std.math.isNan(high[dims - 1])) continue;
        found.clearRetainingCapacity();
        try search.within(low, high);
        expected.clearRetainingCapacity();
        next: for (0..rows) |row| {
            if (!plain.listed(row)) continue;
            inline for (cells, low, high) |column, l, h| if (column[row] < l or column[row] > h) continue :next;
            try expected.append(gpa, @intCast(row));
        }
        try std.testing.expectEqualSlices(u32, expected.items, found.items);

        const k = random.uintAtMost(u32, rows + 2);
        const few = if (random.boolean()) k else @min(k, 7);
        found.clearRetainingCapacity();
        try search.nearest(centre, few);
        expected.clearRetainingCapacity();
        for (0..rows) |row| if (plain.listed(row)) try expected.append(gpa, @intCast(row));
        const By = struct {
            plain: *const Plain(T, dims),
            centre: [dims]f64,
            fn less(by: @This(), a: u32, b: u32) bool {
                const da = by.plain.distance(a, by.centre);
                const db = by.plain.distance(b, by.centre);
                return if (da == db) by.plain.keys[a] < by.plain.keys[b] else da < db;
            }
        };
        std.mem.sortUnstable(u32, expected.items, By{ .plain = &plain, .centre = centre }, By.less);
        expected.items.len = @min(expected.items.len, few);
        try std.testing.expectEqualSlices(u32, expected.items, found.items);
    }
}

test "a search finds what a look at every row finds, in its order" {
    var prng = std.Random.DefaultPrng.init(2026);
    const random = prng.random();
    for (0..25) |round| {
        const width: f64 = ([_]f64{ 10, 100, 3000, 1e7, 0 })[round % 5];
        const rows = random.uintLessThan(u32, if (round % 3 == 0) 3000 else 60);
        try compare(f32, 2, random, width, rows);
        try compare(f64, 2, random, width, rows);
        try compare(f32, 3, random, width, rows);
        try compare(f64, 3, random, width, rows);
    }
}
