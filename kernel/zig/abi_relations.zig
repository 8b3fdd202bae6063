//! Rows by what they hold, and along references, across the boundary.

const std = @import("std");
const abi = @import("abi.zig");
const compat = @import("compat.zig");
const failure = @import("failure.zig");
const related = @import("related.zig");
const Store = @import("store.zig").Store;

/// One step along a foreign key: from the row it refers to (`incoming`) or from the row that refers.
pub const StepIn = extern struct { table: u16, field: u16, incoming: u32 };

pub const WalkIn = extern struct {
    /// Address of `walk_count` sequences of `step_count` steps each, one after another.
    steps: u64,
    start: u64,
    step_count: u32,
    walk_count: u32,
    /// Rounds at most.
    depth: u32,
    /// Walks end in the table that they begin in.
    loops: u32,
};

/// `count` keys, u64, and behind them as many depths, u32, in memory that the caller frees.
pub const RelatedOut = extern struct { address: u64, bytes: u64, count: u64 };

/// The key of the row of the head whose cell of a unique field is exactly this: 1 when there is one, 0 when not. The
/// cell has the field's width. Needs the baton.
export fn ecs_tx_find(store: *Store, table: u16, field: u16, cell: [*]const u8, key: *u64) i32 {
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    const f = store.head.fieldIndex(number, field) catch |err| return failure.code(err);
    const t = &store.head.tables[number];
    if (!t.spec.fields[f].unique) return failure.code(error.BadArgument);
    key.* = t.holder(f, cell[0..t.spec.fields[f].width], 0) orelse return 0;
    return 1;
}

/// Follow references from a row of a pinned slot, or of the head where `slot` is below zero, which needs the baton.
export fn ecs_related(store: *Store, slot: i32, in: *const WalkIn, out: *RelatedOut) i32 {
    follow(store, slot, in, out) catch |err| return failure.code(err);
    return 0;
}

fn follow(store: *Store, slot: i32, in: *const WalkIn, out: *RelatedOut) failure.Error!void {
    const max = 64;
    if (in.step_count == 0 or in.step_count > max or in.walk_count == 0 or in.walk_count > 2) return error.BadArgument;
    const given = try abi.at(StepIn, in.steps, in.step_count * in.walk_count);
    if (in.loops == 0 and (in.walk_count > 1 or in.depth > 1)) return error.BadArgument;
    // Not the store's own allocator: that is the writer's, and this may be any thread.
    var arena = std.heap.ArenaAllocator.init(compat.allocator);
    defer arena.deinit();
    const a = arena.allocator();
    const catalogue = &store.head.catalogue;
    const steps = try a.alloc(related.Step, given.len);
    for (given, steps) |from, *step| {
        const table = catalogue.tableIndex(from.table) orelse return error.UnknownTable;
        const field = catalogue.tables[table].fieldIndex(from.field) orelse return error.UnknownField;
        step.* = .{
            .link = store.head.graph.find(table, field) orelse return error.BadArgument,
            .incoming = from.incoming != 0,
        };
    }
    var walks: [2][]const related.Step = undefined;
    for (walks[0..in.walk_count], 0..) |*walk, i| walk.* = steps[i * in.step_count ..][0..in.step_count];
    const source: related.Source = .{
        .head = &store.head,
        .slot = if (slot < 0) null else try abi.slotAt(store, @intCast(slot)),
    };
    var found: related.Found = .{};
    const depth = if (in.loops == 0) 1 else in.depth;
    try related.follow(a, source, walks[0..in.walk_count], in.loops != 0, in.start, depth, &found);
    const n = found.keys.items.len;
    const memory = try compat.allocator.alignedAlloc(u8, .@"64", @max(n * 12, 1));
    @memcpy(memory[0 .. n * 8], std.mem.sliceAsBytes(found.keys.items));
    @memcpy(memory[n * 8 ..][0 .. n * 4], std.mem.sliceAsBytes(found.depths.items));
    out.* = .{ .address = @intFromPtr(memory.ptr), .bytes = memory.len, .count = n };
}
