//! Where everybody is, for one version: places side by side by cell, so that who asks what is around looks at runs of
//! memory and not at rows here and there.
//!
//! Made anew for each version, at a few nanoseconds a row: worth it where many ask, which is when `interest.zig` does. Cells
//! lie on a torus of a power of two on each axis: what is far away shares cells with what is near, and is told apart by
//! its distance. So no place is beyond it, and memory goes by rows.
//!
//! Distances are those of `nearby.zig`, to the last bit.

const std = @import("std");
const assert = std.debug.assert;

/// What rounding may move a border by, for its size and that of the place.
const slack = 1e-14;

/// So that all cell numbers of a place fit an i32, and neighbours of the outermost too.
const reach = 1 << 29;

/// Places that are compared at once.
const lanes = 4;

/// Who a search has met: keys, and beside each the square of its distance.
pub const Met = struct {
    keys: std.ArrayList(u64) = .empty,
    squares: std.ArrayList(f64) = .empty,

    pub fn deinit(met: *Met, gpa: std.mem.Allocator) void {
        met.keys.deinit(gpa);
        met.squares.deinit(gpa);
    }

    pub fn clear(met: *Met) void {
        met.keys.items.len = 0;
        met.squares.items.len = 0;
    }

    pub fn add(met: *Met, gpa: std.mem.Allocator, key: u64, square: f64) error{OutOfMemory}!void {
        try met.reserve(gpa, 1);
        met.keys.appendAssumeCapacity(key);
        met.squares.appendAssumeCapacity(square);
    }

    fn reserve(met: *Met, gpa: std.mem.Allocator, n: usize) error{OutOfMemory}!void {
        try met.keys.ensureUnusedCapacity(gpa, n);
        try met.squares.ensureUnusedCapacity(gpa, n);
    }
};

pub fn Crowd(comptime dims: u2) type {
    return struct {
        gpa: std.mem.Allocator,
        /// Cells for one unit of length.
        scale: f64,
        /// Cells on each axis: a power of two, 8 at least.
        side: u32 = 0,
        /// By cell, one more than there are: where its rows begin.
        starts: std.ArrayList(u32) = .empty,
        /// By rank: the place on each axis, and whose it is.
        places: [dims]std.ArrayList(f64) = @splat(.empty),
        keys: std.ArrayList(u64) = .empty,
        /// By row, while it is made: its cell.
        cells: std.ArrayList(u32) = .empty,

        const Self = @This();
        pub const Place = [dims]f64;

        pub fn deinit(self: *Self) void {
            self.starts.deinit(self.gpa);
            for (&self.places) |*axis| axis.deinit(self.gpa);
            self.keys.deinit(self.gpa);
            self.cells.deinit(self.gpa);
        }

        inline fn at(self: *const Self, value: f64) i32 {
            const scaled = @floor(value * self.scale);
            return @intFromFloat(@max(@min(scaled, reach), -reach));
        }

        inline fn wrap(self: *const Self, number: i32) u32 {
            return @as(u32, @bitCast(number)) & (self.side - 1);
        }

        /// Take the places of all rows. One that is no finite number is nowhere.
        pub fn fill(self: *Self, comptime T: type, columns: [dims][*]const T, keys: []const u64) error{OutOfMemory}!void {
            const gpa = self.gpa;
            const rows = keys.len;
            var side: u32 = 8;
            // About two rows a cell, were they spread evenly.
            while (std.math.pow(u64, side, dims) * 2 < rows and side < 1 << 12) side *= 2;
            self.side = side;
            const count: usize = @intCast(std.math.pow(u64, side, dims));
            try self.starts.resize(gpa, count + 2);
            try self.cells.resize(gpa, rows);
            try self.keys.resize(gpa, rows + lanes);
            for (&self.places) |*axis| try axis.resize(gpa, rows + lanes);
            const starts = self.starts.items;
            @memset(starts, 0);
            const nowhere: u32 = @intCast(count);
            const cells = self.cells.items;
            const bits: u5 = @intCast(std.math.log2_int(u32, side));
            assert(starts.len == count + 2 and count == @as(usize, 1) << @intCast(@as(usize, bits) * dims));
            for (cells, 0..) |*cell, row| {
                // A number is below `count`, of `bits` for each axis, and nowhere is the one behind.
                @setRuntimeSafety(false);
                var number: u32 = 0;
                var far: f64 = 0;
                inline for (0..dims) |axis| {
                    // The first axis is the one whose cells are side by side.
                    const value: f64 = columns[dims - 1 - axis][row];
                    number = number << bits | self.wrap(self.at(value));
                    // Only what is no finite number leaves anything of itself times nothing.
                    far += value * 0;
                }
                cell.* = if (far == 0) number else nowhere;
                starts[cell.* + 1] += 1;
            }
            var sum: u32 = 0;
            for (starts[0 .. count + 1]) |*start| {
                sum += start.*;
                start.* = sum;
            }
            assert(sum <= rows and cells.len == rows and self.keys.items.len == rows + lanes);
            inline for (self.places) |axis| assert(axis.items.len == rows + lanes);
            // Each start is that of the next cell's rows now, shifted while they are put in: `starts[c]` ends as its begin.
            var row = rows;
            while (row > 0) {
                // Every rank is below `sum`.
                @setRuntimeSafety(false);
                row -= 1;
                const cell = cells[row];
                if (cell == nowhere) continue;
                starts[cell + 1] -= 1;
                const rank = starts[cell + 1];
                self.keys.items[rank] = keys[row];
                inline for (&self.places, columns) |*axis, values| axis.items[rank] = values[row];
            }
            // Now `starts[c + 1]` is where cell c begins.
            std.mem.copyForwards(u32, starts[0..count], starts[1 .. count + 1]);
            starts[count] = sum;
        }

        /// Add to `met` who is at most `radius` from `centre`. `met` takes its memory from the `gpa` of the crowd.
        pub fn around(self: *const Self, centre: Place, radius: f64, met: *Met) error{OutOfMemory}!void {
            var from: [dims]i32 = undefined;
            var to: [dims]i32 = undefined;
            for (centre, &from, &to) |value, *low, *high| {
                const more = (@abs(value) + radius) * slack;
                low.* = self.at(value - radius - more);
                high.* = self.at(value + radius + more);
                // As far as the torus goes round, everybody is looked at once.
                if (@as(i64, high.*) - low.* >= self.side) high.* = low.* + @as(i32, @intCast(self.side)) - 1;
            }
            const square = radius * radius;
            if (dims == 2) {
                var y = from[1];
                while (y <= to[1]) : (y += 1) try self.run(self.wrap(y) * self.side, from[0], to[0], centre, square, met);
                return;
            }
            var z = from[dims - 1];
            while (z <= to[dims - 1]) : (z += 1) {
                var y = from[1];
                while (y <= to[1]) : (y += 1)
                    try self.run((self.wrap(z) * self.side + self.wrap(y)) * self.side, from[0], to[0], centre, square, met);
            }
        }

        /// Cells side by side, which the torus may cut in two.
        inline fn run(self: *const Self, line: u32, from: i32, to: i32, centre: Place, square: f64, met: *Met) error{OutOfMemory}!void {
            const first = self.wrap(from);
            const last = self.wrap(to);
            if (first <= last) return self.look(line + first, line + last, centre, square, met);
            try self.look(line + first, line + self.side - 1, centre, square, met);
            try self.look(line, line + last, centre, square, met);
        }

        fn look(self: *const Self, first: u32, last: u32, centre: Place, square: f64, met: *Met) error{OutOfMemory}!void {
            const begin = self.starts.items[first];
            const end = self.starts.items[last + 1];
            const count = self.keys.items.len - lanes;
            // Every rank below is one of the keys. There is room for as many lanes behind the last of each list.
            assert(begin <= end and end <= count);
            inline for (self.places) |axis| assert(axis.items.len == count + lanes);
            try met.reserve(self.gpa, end - begin + lanes);
            const keys = met.keys.items.ptr;
            const squares = met.squares.items.ptr;
            var n = met.keys.items.len;
            {
                @setRuntimeSafety(false);
                var rank = begin;
                while (rank < end) : (rank += lanes) {
                    var sum: @Vector(lanes, f64) = @splat(0);
                    inline for (0..dims) |axis| {
                        // Behind `end` are others, or nobody, who are masked.
                        const values: @Vector(lanes, f64) = self.places[axis].items.ptr[rank..][0..lanes].*;
                        const apart = values - @as(@Vector(lanes, f64), @splat(centre[axis]));
                        sum += apart * apart;
                    }
                    const near: u4 = @bitCast(sum <= @as(@Vector(lanes, f64), @splat(square)));
                    const ours = @as(u8, 0xF) >> @intCast(lanes - @min(lanes, end - rank));
                    const whom: u8 = near & ours;
                    const sums: [lanes]f64 = sum;
                    // Each is written and only counted where it is met: which are is a toss, and not to be guessed.
                    inline for (0..lanes) |i| {
                        keys[n] = self.keys.items.ptr[rank + i];
                        squares[n] = sums[i];
                        n += whom >> i & 1;
                    }
                }
            }
            met.keys.items.len = n;
            met.squares.items.len = n;
        }
    };
}

test "who is around is who a look at everybody finds, wherever they are" {
    const gpa = std.testing.allocator;
    var prng = std.Random.DefaultPrng.init(7);
    const random = prng.random();
    inline for (.{ 2, 3 }) |dims| for (0..60) |round| {
        const rows = random.uintLessThan(usize, 700);
        const width: f64 = ([_]f64{ 1, 40, 1000, 1e12 })[round % 4];
        const radius: f64 = 5;
        var crowd: Crowd(dims) = .{ .gpa = gpa, .scale = 2 / radius };
        defer crowd.deinit();
        var columns: [dims][]f32 = undefined;
        for (&columns) |*column| column.* = try gpa.alloc(f32, rows);
        defer for (columns) |column| gpa.free(column);
        const keys = try gpa.alloc(u64, rows);
        defer gpa.free(keys);
        for (0..rows) |row| {
            keys[row] = row;
            for (columns) |column| column[row] = @floatCast((random.float(f64) - 0.5) * width);
            if (random.uintLessThan(u8, 30) == 0) columns[0][row] = std.math.inf(f32);
            if (random.uintLessThan(u8, 30) == 0) columns[1][row] = std.math.nan(f32);
        }
        var given: [dims][*]const f32 = undefined;
        for (&given, columns) |*to, column| to.* = column.ptr;
        try crowd.fill(f32, given, keys);
        var met: Met = .{};
        defer met.deinit(gpa);
        for (0..20) |_| {
            var centre: [dims]f64 = undefined;
            for (&centre) |*value| value.* = (random.float(f64) - 0.5) * width;
            const seen = try gpa.alloc(bool, rows);
            defer gpa.free(seen);
            @memset(seen, false);
            met.clear();
            try crowd.around(centre, radius, &met);
            for (met.keys.items) |key| {
                try std.testing.expect(!seen[@intCast(key)]);
                seen[@intCast(key)] = true;
            }
            for (seen, 0..) |found, row| {
                var sum: f64 = 0;
                for (columns, centre) |column, value| sum += (column[row] - value) * (column[row] - value);
                try std.testing.expectEqual(sum <= radius * radius, found);
            }
        }
    };
}
