//! What queries ask of many rows at once, beside joins on keys: where the rows of given keys are, and
//! whether a column is still the one that an index was made from.
//!
//! Calls on a slot come from any thread that holds a pin on it; on the head (a slot below zero) only
//! from whoever took the baton. Nothing is changed.

const std = @import("std");
const abi = @import("abi.zig");
const failure = @import("failure.zig");
const fuzz = @import("fuzz.zig");
const Strided = @import("head.zig").Strided;
const Store = @import("store.zig").Store;

/// A row that is not there. No table has as many rows.
pub const no_row: u32 = std.math.maxInt(u32);

/// The row of each of `n` keys in a view, or in the head when `slot` is below zero; `no_row` where the
/// table has none for exactly that key. Result: how many keys have a row.
export fn ecs_rows(store: *Store, slot: i32, table: u32, keys: u64, n: u32, rows: u64) i64 {
    const side = abi.side(store, slot, abi.narrow(table)) catch |err| return failure.code(err);
    const wanted = abi.at(u64, keys, n) catch |err| return failure.code(err);
    const into = abi.at(u32, rows, n) catch |err| return failure.code(err);
    var found: u32 = 0;
    for (wanted, into) |key, *row| {
        if (side.find(key)) |at| {
            row.* = at;
            found += 1;
        } else row.* = no_row;
    }
    return found;
}

/// For each column of a table in a view, the cut whose contents it holds. While a column's number and
/// the count of its rows stay the same, so do its cells.
export fn ecs_view_cuts(store: *Store, slot: u32, table: u32, cuts: u64) i32 {
    const number = store.head.catalogue.tableIndex(abi.narrow(table)) orelse return failure.code(error.UnknownTable);
    const of = (abi.slotAt(store, slot) catch |err| return failure.code(err)).tables[number];
    const shown = of.columns[0..store.head.tables[number].spec.shown];
    const into = abi.at(u64, cuts, shown.len) catch |err| return failure.code(err);
    for (shown, into) |buffer, *cut| cut.* = buffer.cut;
    return 0;
}

test "the rows of many keys are found in a view and in the head, and others are not" {
    const testing = std.testing;
    const store = try fuzz.newStoreIn(testing.allocator);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    const zero: u64 = 0;
    const cell: Strided = .{ .base = @ptrCast(&zero), .stride = 0 };
    var keys: [4]u64 = undefined;
    try store.begin();
    try store.head.reserve(0, 4, &keys);
    try store.head.insertMany(0, &keys, &.{cell});
    try store.head.insertMany(1, keys[1..], &.{ cell, cell, cell });
    try store.commit();
    _ = try store.publish(1, false);
    const slot = store.views.acquire();
    defer store.views.release(slot);

    const asked = [_]u64{ keys[3], keys[0], keys[1], keys[2] ^ (1 << 40), 0, std.math.maxInt(u64) };
    var rows: [asked.len]u32 = undefined;
    for ([_]i32{ @intCast(slot), -1 }) |where| {
        @memset(&rows, 77);
        try testing.expectEqual(2, ecs_rows(store, where, 16, @intFromPtr(&asked), asked.len, @intFromPtr(&rows)));
        try testing.expectEqualSlices(u32, &.{ 2, no_row, 0, no_row, no_row, no_row }, &rows);
    }
    try testing.expectEqual(0, ecs_rows(store, -1, 16, 0, 0, 0));

    const bad = failure.code(error.BadArgument);
    try testing.expectEqual(bad, ecs_rows(store, -1, 16, 0, 1, @intFromPtr(&rows)));
    try testing.expectEqual(bad, ecs_rows(store, 500, 16, @intFromPtr(&asked), 1, @intFromPtr(&rows)));
    try testing.expectEqual(failure.code(error.UnknownTable), ecs_rows(store, -1, 1 << 16 | 16, 0, 0, 0));
    var cuts: [8]u64 = undefined;
    try testing.expectEqual(0, ecs_view_cuts(store, @intCast(slot), 16, @intFromPtr(&cuts)));
    try testing.expectEqual(bad, ecs_view_cuts(store, 500, 16, @intFromPtr(&cuts)));
    try testing.expectEqual(bad, ecs_view_cuts(store, @intCast(slot), 16, 0));
    try testing.expectEqual(failure.code(error.UnknownTable), ecs_view_cuts(store, @intCast(slot), 999, @intFromPtr(&cuts)));
}
