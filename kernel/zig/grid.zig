//! Rows by place: a uniform grid of cells in two or three dimensions, each with the rows that lie in it.
//!
//! Only cells that have rows exist. They lie in one hash table with open addressing; the hash is taken over blocks of
//! two cells a side, and the last bit of each axis (the lowest level of Morton order) says where in the block's cache
//! line a cell lies, so that a search that looks at neighbours finds them side by side. A cell's rows are in a chain of
//! blocks of 32 bytes: seven rows and the next block. A row that moves to another cell costs two look-ups, whatever
//! the number of rows: nothing is kept sorted.
//!
//! Invariants:
//! - `codes[row]` is the cell that has the row, or `nowhere`; `spots[row]` is where in `blocks` it stands;
//! - only the first block of a chain has room; a cell without rows is no cell;
//! - a place that is no number, or infinite, is nowhere; one beyond the range of cells is in the outermost cell, so
//!   that what lies between two places lies between their cells (`at` never descends as its argument ascends);
//! - every row of the table lies in a cell within `[low, high]`.

const std = @import("std");
const assert = std.debug.assert;
const memory = @import("memory.zig");

pub const nowhere = std.math.maxInt(u64);
const none = std.math.maxInt(u32);

/// Rows of a block: with the number of the next block it is half a cache line.
const block_rows = 7;
const block_words = block_rows + 1;

/// A cell that has rows; `rows` is 0 where there is none.
pub const Slot = struct { code: u64 = 0, block: u32 = none, rows: u32 = 0 };

/// Cells on each side of the origin, by dimensions: what two or three axes leave of 64 bits, and small enough that
/// three of them add up in an i32.
fn reach(comptime dims: u2) comptime_int {
    return 1 << (bits(dims) - 1);
}

fn bits(comptime dims: u2) comptime_int {
    return if (dims == 2) 30 else 21;
}

pub fn Grid(comptime dims: u2) type {
    comptime assert(dims == 2 or dims == 3);
    return struct {
        gpa: std.mem.Allocator,
        /// Cells for one unit of length.
        scale: f64,
        rows: u32 = 0,
        codes: []u64 = &.{},
        spots: []u32 = &.{},
        /// A power of two of them, at least twice as many as there are cells.
        slots: []Slot = &.{},
        cells: u32 = 0,
        blocks: std.ArrayList(u32) = .empty,
        free_block: u32 = none,
        low: Cell = @splat(reach(dims)),
        high: Cell = @splat(-reach(dims)),
        /// Rows that came, went or changed cells, since it was made.
        moves: u64 = 0,

        const Self = @This();
        pub const Cell = [dims]i32;
        /// Where a row lies.
        pub const Place = [dims]f64;

        pub fn deinit(self: *Self) void {
            memory.give(u64, .of(u64), self.gpa, self.codes);
            memory.give(u32, .of(u32), self.gpa, self.spots);
            self.gpa.free(self.slots);
            self.blocks.deinit(self.gpa);
            self.* = .{ .gpa = self.gpa, .scale = self.scale };
        }

        pub fn copy(self: *const Self) error{OutOfMemory}!Self {
            var made: Self = self.*;
            made.codes = try memory.take(u64, .of(u64), self.gpa, self.codes.len);
            errdefer memory.give(u64, .of(u64), self.gpa, made.codes);
            @memcpy(made.codes[0..self.rows], self.codes[0..self.rows]);
            made.spots = try memory.take(u32, .of(u32), self.gpa, self.spots.len);
            errdefer memory.give(u32, .of(u32), self.gpa, made.spots);
            @memcpy(made.spots[0..self.rows], self.spots[0..self.rows]);
            made.slots = try self.gpa.dupe(Slot, self.slots);
            errdefer self.gpa.free(made.slots);
            made.blocks = try self.blocks.clone(self.gpa);
            return made;
        }

        pub fn bytes(self: *const Self) u64 {
            return self.codes.len * 8 + self.spots.len * 4 + self.slots.len * @sizeOf(Slot) + self.blocks.capacity * 4;
        }

        // Cells.

        /// The number of the cell on one axis. `value` is a number, and may be infinite.
        pub inline fn at(self: *const Self, value: f64) i32 {
            const scaled = @floor(value * self.scale);
            return @intFromFloat(@max(@min(scaled, reach(dims) - 1), -reach(dims)));
        }

        pub inline fn cellOf(self: *const Self, place: Place) Cell {
            var cell: Cell = undefined;
            inline for (place, &cell) |value, *to| to.* = self.at(value);
            return cell;
        }

        pub inline fn pack(cell: Cell) u64 {
            var code: u64 = 0;
            inline for (cell, 0..) |number, axis|
                code |= @as(u64, @intCast(number + reach(dims))) << (axis * bits(dims));
            return code;
        }

        pub inline fn unpack(code: u64) Cell {
            var cell: Cell = undefined;
            inline for (&cell, 0..) |*number, axis|
                number.* = @as(i32, @intCast(code >> (axis * bits(dims)) & (1 << bits(dims)) - 1)) - reach(dims);
            return cell;
        }

        /// The code of a place, `nowhere` for one that is no finite number.
        pub inline fn codeOf(self: *const Self, place: Place) u64 {
            inline for (place) |value| if (!std.math.isFinite(value)) return nowhere;
            return pack(self.cellOf(place));
        }

        /// Where the search for a cell begins.
        inline fn home(code: u64, slots: usize) usize {
            comptime var last_bits: u64 = 0;
            inline for (0..dims) |axis| last_bits |= 1 << (axis * bits(dims));
            var hash = code & ~last_bits;
            hash = (hash ^ hash >> 32) *% 0x9e3779b97f4a7c15;
            hash = (hash ^ hash >> 29) *% 0xbf58476d1ce4e5b9;
            var spot: usize = @intCast(hash >> 32);
            inline for (0..dims) |axis| spot = spot << 1 | @as(usize, @intCast(code >> (axis * bits(dims)) & 1));
            return spot & (slots - 1);
        }

        fn locate(self: *const Self, code: u64) usize {
            var i = home(code, self.slots.len);
            while (self.slots[i].rows != 0 and self.slots[i].code != code) i = (i + 1) & (self.slots.len - 1);
            return i;
        }

        pub fn find(self: *const Self, code: u64) ?*const Slot {
            if (self.cells == 0) return null;
            const slot = &self.slots[self.locate(code)];
            return if (slot.rows == 0) null else slot;
        }

        fn grow(self: *Self, slots: usize) error{OutOfMemory}!void {
            const old = self.slots;
            self.slots = try self.gpa.alloc(Slot, slots);
            @memset(self.slots, .{});
            for (old) |slot| if (slot.rows != 0) {
                self.slots[self.locate(slot.code)] = slot;
            };
            self.gpa.free(old);
        }

        // Rows.

        /// The table has `rows` rows now: those behind go, new ones are nowhere yet.
        pub fn resize(self: *Self, rows: u32) error{OutOfMemory}!void {
            var row = rows;
            while (row < self.rows) : (row += 1) self.put(row, nowhere) catch unreachable;
            if (rows > self.codes.len) {
                const cap = @max(rows, self.codes.len + self.codes.len / 2, 64);
                const codes = try memory.take(u64, .of(u64), self.gpa, cap);
                errdefer memory.give(u64, .of(u64), self.gpa, codes);
                const spots = try memory.take(u32, .of(u32), self.gpa, cap);
                @memcpy(codes[0..self.rows], self.codes[0..self.rows]);
                @memcpy(spots[0..self.rows], self.spots[0..self.rows]);
                memory.give(u64, .of(u64), self.gpa, self.codes);
                memory.give(u32, .of(u32), self.gpa, self.spots);
                self.codes, self.spots = .{ codes, spots };
            }
            if (rows > self.rows) @memset(self.codes[self.rows..rows], nowhere);
            self.rows = rows;
        }

        /// The row lies in cell `code` now. Going nowhere cannot fail.
        pub fn put(self: *Self, row: u32, code: u64) error{OutOfMemory}!void {
            const old = self.codes[row];
            if (old == code) return;
            if (old != nowhere) self.leave(row, old);
            self.codes[row] = nowhere;
            self.moves += 1;
            if (code == nowhere) return;
            try self.enter(row, code);
            self.codes[row] = code;
        }

        fn enter(self: *Self, row: u32, code: u64) error{OutOfMemory}!void {
            if (self.slots.len < (@as(usize, self.cells) + 1) * 2) try self.grow(@max(64, self.slots.len * 2));
            const slot = &self.slots[self.locate(code)];
            const used = slot.rows % block_rows;
            if (used == 0) {
                const block = try self.takeBlock();
                if (slot.rows == 0) {
                    self.cells += 1;
                    slot.code = code;
                    slot.block = none;
                    for (unpack(code), &self.low, &self.high) |number, *low, *high| {
                        low.* = @min(low.*, number);
                        high.* = @max(high.*, number);
                    }
                }
                self.blocks.items[@as(usize, block) * block_words] = slot.block;
                slot.block = block;
            }
            const to = slot.block * block_words + 1 + used;
            self.blocks.items[to] = row;
            self.spots[row] = to;
            slot.rows += 1;
        }

        fn leave(self: *Self, row: u32, code: u64) void {
            const at_slot = self.locate(code);
            const slot = &self.slots[at_slot];
            assert(slot.rows > 0);
            // The newest row of the cell takes its place.
            const last = slot.block * block_words + 1 + (slot.rows - 1) % block_rows;
            const moved = self.blocks.items[last];
            const hole = self.spots[row];
            assert(self.blocks.items[hole] == row);
            self.blocks.items[hole] = moved;
            self.spots[moved] = hole;
            slot.rows -= 1;
            if (slot.rows % block_rows == 0) {
                const block = slot.block;
                const head = &self.blocks.items[@as(usize, block) * block_words];
                slot.block = head.*;
                head.* = self.free_block;
                self.free_block = block;
            }
            if (slot.rows == 0) self.close(at_slot);
        }

        fn takeBlock(self: *Self) error{OutOfMemory}!u32 {
            if (self.free_block != none) {
                const block = self.free_block;
                self.free_block = self.blocks.items[@as(usize, block) * block_words];
                return block;
            }
            const block = self.blocks.items.len / block_words;
            // Words are addressed by u32: half of what rows there may be, each alone in its cell, fits many times.
            assert(self.blocks.items.len + block_words < none);
            _ = try self.blocks.addManyAsSlice(self.gpa, block_words);
            return @intCast(block);
        }

        /// A cell has no rows any more: those that stand behind it for want of its slot move up.
        fn close(self: *Self, hole: usize) void {
            const mask = self.slots.len - 1;
            var to = hole;
            var from = hole;
            self.cells -= 1;
            while (true) {
                from = (from + 1) & mask;
                if (self.slots[from].rows == 0) break;
                const wanted = home(self.slots[from].code, self.slots.len);
                // It may not stand before where its search begins.
                if ((from -% wanted) & mask < (from -% to) & mask) continue;
                self.slots[to] = self.slots[from];
                to = from;
            }
            self.slots[to] = .{};
        }

        /// The rows of a cell, up to seven at a time.
        pub const Rows = struct {
            blocks: []const u32,
            block: u32,
            left: u32,

            pub inline fn next(it: *Rows) ?[]const u32 {
                if (it.left == 0) return null;
                const n = (it.left - 1) % block_rows + 1;
                const words = it.blocks[@as(usize, it.block) * block_words ..][0..block_words];
                it.block = words[0];
                it.left -= n;
                return words[1..][0..n];
            }
        };

        pub inline fn rowsOf(self: *const Self, slot: *const Slot) Rows {
            return .{ .blocks = self.blocks.items, .block = slot.block, .left = slot.rows };
        }
    };
}

fn check(comptime dims: u2, grid: *const Grid(dims)) !void {
    var found: u32 = 0;
    var cells: u32 = 0;
    for (grid.slots) |*slot| {
        if (slot.rows == 0) continue;
        cells += 1;
        try std.testing.expectEqual(slot, grid.find(slot.code).?);
        try std.testing.expectEqual(slot.code, Grid(dims).pack(Grid(dims).unpack(slot.code)));
        for (Grid(dims).unpack(slot.code), grid.low, grid.high) |number, low, high|
            try std.testing.expect(low <= number and number <= high);
        var rows = grid.rowsOf(slot);
        var n: u32 = 0;
        while (rows.next()) |some| for (some) |row| {
            try std.testing.expectEqual(slot.code, grid.codes[row]);
            n += 1;
        };
        try std.testing.expectEqual(slot.rows, n);
        found += n;
    }
    try std.testing.expectEqual(grid.cells, cells);
    var placed: u32 = 0;
    for (grid.codes[0..grid.rows]) |code| placed += @intFromBool(code != nowhere);
    try std.testing.expectEqual(placed, found);
}

test "every row is in exactly the cell it was placed in, whatever came and went" {
    inline for (.{ 2, 3 }) |dims| {
        var grid: Grid(dims) = .{ .gpa = std.testing.allocator, .scale = 0.25 };
        defer grid.deinit();
        var prng = std.Random.DefaultPrng.init(11);
        const random = prng.random();
        for (0..60) |round| {
            const rows = random.uintLessThan(u32, 400);
            try grid.resize(rows);
            for (0..random.uintLessThan(u32, 600)) |_| {
                if (rows == 0) break;
                var place: [dims]f64 = undefined;
                const width: f64 = if (round % 2 == 0) 20 else 2000;
                for (&place) |*value| value.* = (random.float(f64) - 0.5) * width;
                if (random.uintLessThan(u8, 20) == 0) place[0] = std.math.nan(f64);
                try grid.put(random.uintLessThan(u32, rows), grid.codeOf(place));
            }
            try check(dims, &grid);
            if (round % 10 == 0) {
                var same = try grid.copy();
                defer same.deinit();
                try check(dims, &same);
            }
        }
        try grid.resize(0);
        try std.testing.expectEqual(0, grid.cells);
        // What left gave its blocks back.
        try grid.resize(1);
        const before = grid.blocks.items.len;
        try grid.put(0, 5);
        try std.testing.expectEqual(before, grid.blocks.items.len);
    }
}

test "cells ascend with places, and places beyond them are in the outermost" {
    inline for (.{ 2, 3 }) |dims| {
        const grid: Grid(dims) = .{ .gpa = std.testing.allocator, .scale = 1.0 / 16.0 };
        const values = [_]f64{ -std.math.inf(f64), -1e300, -1e9, -16.1, -16, -0.1, -0.0, 0, 15.9, 16, 1e9, 1e300, std.math.inf(f64) };
        for (values[0 .. values.len - 1], values[1..]) |less, more| try std.testing.expect(grid.at(less) <= grid.at(more));
        try std.testing.expectEqual(-1, grid.at(-0.1));
        try std.testing.expectEqual(0, grid.at(15.9));
        var place: [dims]f64 = @splat(1e300);
        const code = grid.codeOf(place);
        try std.testing.expectEqual(grid.at(1e300), Grid(dims).unpack(code)[dims - 1]);
        place[1] = std.math.inf(f64);
        try std.testing.expectEqual(nowhere, grid.codeOf(place));
    }
}

test "without memory a row stays out, and everything else where it was" {
    var failing = std.testing.FailingAllocator.init(std.testing.allocator, .{});
    var grid: Grid(2) = .{ .gpa = failing.allocator(), .scale = 1 };
    defer grid.deinit();
    try grid.resize(300);
    var prng = std.Random.DefaultPrng.init(5);
    var refused: u32 = 0;
    for (0..4000) |_| {
        const row = prng.random().uintLessThan(u32, 300);
        const code = grid.codeOf(.{ prng.random().float(f64) * 40, prng.random().float(f64) * 40 });
        failing.fail_index = failing.alloc_index + prng.random().uintLessThan(usize, 2);
        failing.resize_fail_index = failing.resize_index;
        grid.put(row, code) catch {
            try std.testing.expectEqual(nowhere, grid.codes[row]);
            refused += 1;
        };
        if (refused > 0 and refused % 5 == 0) try check(2, &grid);
    }
    try std.testing.expect(refused > 0);
    try check(2, &grid);
}
