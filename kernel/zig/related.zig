//! Following references from one row, in a version or in the head: breadth first, each row once.
//!
//! A *walk* is a sequence of steps, each along one foreign key, from the rows that refer to the row
//! they refer to or the other way round. A round takes every walk once; where walks end in the table
//! they began in, the rows that a round found are where the next one begins.
//!
//! In a version it reads the relation graph, in the head the writer's indexes: either way the cost is
//! what it meets. Each row is expanded once per place in a walk, so rings end.

const std = @import("std");
const assert = std.debug.assert;
const entity = @import("entity.zig");
const graph = @import("graph.zig");
const sparse = @import("sparse.zig");
const view = @import("view.zig");
const hashCell = @import("key_index.zig").hashCell;
const Head = @import("head.zig").Head;

pub const Step = struct { link: *const graph.Link, incoming: bool };

/// Where rows are looked up: a slot of the views, or null for the head.
pub const Source = struct { head: *const Head, slot: ?*const view.Slot };

pub const Found = struct { keys: std.ArrayList(u64) = .empty, depths: std.ArrayList(u32) = .empty };

const Seen = std.AutoHashMapUnmanaged(u64, void);

/// Everything within `depth` rounds of `start`, which is not in it. `walks` are sequences of one
/// length; more than one, or a depth above 1, only where they end in the table they began in, which
/// is what `loops` says.
pub fn follow(
    arena: std.mem.Allocator,
    source: Source,
    walks: []const []const Step,
    loops: bool,
    start: u64,
    depth: u32,
    found: *Found,
) error{OutOfMemory}!void {
    assert(loops or (walks.len == 1 and depth == 1));
    var ends: Seen = .empty;
    if (loops) try ends.put(arena, start, {});
    // Between two steps: a row that was met there before has been followed already.
    const between = try arena.alloc([]Seen, walks.len);
    for (between, walks) |*of, walk| {
        of.* = try arena.alloc(Seen, walk.len - 1);
        @memset(of.*, .empty);
    }
    var frontier: std.ArrayList(u64) = .empty;
    try frontier.append(arena, start);
    var round: u32 = 0;
    while (frontier.items.len > 0 and round < depth) {
        round += 1;
        const first = found.keys.items.len;
        for (walks, between) |walk, places| {
            var rows: []const u64 = frontier.items;
            for (walk, 0..) |step, i| {
                const last = i + 1 == walk.len;
                var next: std.ArrayList(u64) = .empty;
                const into = if (last) &found.keys else &next;
                const met = if (last) &ends else &places[i];
                for (rows) |key| try expand(arena, source, step, key, met, into);
                rows = next.items;
            }
        }
        std.sort.pdq(u64, found.keys.items[first..], {}, std.sort.asc(u64));
        try found.depths.appendNTimes(arena, round, found.keys.items.len - first);
        frontier.items.len = 0;
        try frontier.appendSlice(arena, found.keys.items[first..]);
    }
}

fn expand(arena: std.mem.Allocator, source: Source, step: Step, key: u64, met: *Seen, into: *std.ArrayList(u64)) error{OutOfMemory}!void {
    const link = step.link;
    var it: Neighbours = if (source.slot) |slot| .inView(slot, link, step.incoming, key) else .inHead(source.head, link, step.incoming, key);
    while (it.next()) |other| {
        if ((try met.getOrPut(arena, other)).found_existing) continue;
        try into.append(arena, other);
    }
}

/// The rows one step from a row.
pub const Neighbours = union(enum) {
    none,
    one: u64,
    chain: struct { next: []const u8, from: *const view.TableView, at: u32 },
    index: struct { head: *const Head, link: *const graph.Link, cell: []const u8, it: @import("key_index.zig").KeyIndex.Iterator },

    pub fn inView(slot: *const view.Slot, link: *const graph.Link, incoming: bool, key: u64) Neighbours {
        const from = slot.tables[link.table];
        const target = slot.tables[link.target];
        const index = entity.Key.of(key).index;
        if (incoming) {
            if (index >= target.graph_cells) return .none;
            const at = read(target.all[link.first].data, index);
            return .{ .chain = .{ .next = from.all[link.next].data, .from = from, .at = at } };
        }
        const row = from.find(key) orelse return .none;
        if (link.value == null) {
            const refers = std.mem.readInt(u64, from.columns[link.field].data[@as(usize, row) * 8 ..][0..8], .little);
            return if (refers == 0) .none else .{ .one = refers };
        }
        if (index >= from.graph_cells) return .none;
        const at = read(from.all[link.targets].data, index);
        if (at == 0) return .none;
        return .{ .one = target.keyList()[sparse.find(target.pages(), at - 1).?] };
    }

    fn inHead(head: *const Head, link: *const graph.Link, incoming: bool, key: u64) Neighbours {
        const from = &head.tables[link.table];
        const target = &head.tables[link.target];
        if (incoming) {
            // The key space of a component's entity, whose row was looked up by the caller.
            const row = target.find(key) orelse return .none;
            const cell = if (link.value) |value| target.columns[value].cell(row) else target.keys.cell(row);
            if (std.mem.allEqual(u8, cell, 0)) return .none;
            const it = from.indexes[link.field].?.with(hashCell(cell));
            return .{ .index = .{ .head = head, .link = link, .cell = cell, .it = it } };
        }
        const cell = from.columns[link.field].cell(from.find(key) orelse return .none);
        if (std.mem.allEqual(u8, cell, 0)) return .none;
        if (link.value) |value| return if (target.holder(value, cell, 0)) |other| .{ .one = other } else .none;
        const refers = std.mem.readInt(u64, cell[0..8], .little);
        // Within a transaction a reference may come before its target, or outlive it.
        return if (target.find(refers) == null) .none else .{ .one = refers };
    }

    pub fn next(self: *Neighbours) ?u64 {
        switch (self.*) {
            .none => return null,
            .one => |key| {
                self.* = .none;
                return key;
            },
            .chain => |*chain| {
                if (chain.at == 0) return null;
                const row = sparse.find(chain.from.pages(), chain.at - 1).?;
                chain.at = read(chain.next, chain.at - 1);
                return chain.from.keyList()[row];
            },
            .index => |*found| while (found.it.next()) |key| {
                const from = &found.head.tables[found.link.table];
                const cell = from.columns[found.link.field].cell(from.find(key).?);
                if (std.mem.eql(u8, cell, found.cell)) return key;
            } else return null,
        }
    }
};

fn read(cells: []const u8, index: u32) u32 {
    return std.mem.readInt(u32, cells[@as(usize, index) * 4 ..][0..4], .little);
}
