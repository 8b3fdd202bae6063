//! Rows of a block that are all new: known by one look at their keys, and taken in as columns.
//!
//! A full sync names every row of a world, and nearly every list of inserted rows is of keys that nobody here has. For
//! such a list nothing has to be decided row by row. `areAll` looks and changes nothing: where it says no, each row is
//! sorted out by itself (`apply.zig`), which finds the same rows, the same errors and the same order.
//!
//! How many rows a frame of several blocks brings can be told before the first is taken in (`foresee`), so that columns
//! do not grow, and are not copied, from block to block. It is a hint: a block that cannot be walked is refused later.

const std = @import("std");
const builtin = @import("builtin");
const entity = @import("entity.zig");
const memory = @import("memory.zig");
const sparse = @import("sparse.zig");
const weigh = @import("weigh.zig");
const Column = @import("column.zig").Column;
const Head = @import("head.zig").Head;
const Table = @import("table.zig").Table;

/// Of tests: sort out each row by itself, to compare.
pub var one_by_one = false;

/// Whether none of these keys, which ascend by index, has a row in the table, each may have one, and no row has to go
/// for it. `logged`: a generation that was spent does not come back.
pub fn areAll(table: *const Table, keys: []const u64, logged: bool) bool {
    if (builtin.is_test and one_by_one) return false;
    return isRoom(table, keys) and mayLive(table, keys, logged);
}

/// Whether no row has the index of any of them.
fn isRoom(table: *const Table, keys: []const u64) bool {
    if (table.rows == 0) return true;
    const pages = table.index.pages.items;
    if (sparse.last(pages).? < entity.Key.of(keys[0]).index) return true;
    for (keys) |key| if (table.findIndex(entity.Key.of(key).index) != null) return false;
    return true;
}

fn mayLive(table: *const Table, keys: []const u64, logged: bool) bool {
    const places = table.space.places.items;
    if (table.spec.kind == .component) {
        if (entity.Key.of(keys[keys.len - 1]).index >= places.len) return false;
        var all = true;
        for (keys) |key| {
            const k = entity.Key.of(key);
            const place = places[k.index];
            all = all and place.alive and place.generation == k.generation;
        }
        return all;
    }
    for (keys) |key| {
        const k = entity.Key.of(key);
        if (k.index >= places.len) return k.index < table.space.limit; // so are all behind it
        // Alive without a row: reserved here.
        if (places[k.index].alive or (logged and k.generation < places[k.index].generation)) return false;
    }
    return true;
}

/// Make room for the rows that blocks of the wire bring, as far as there is memory for them now.
pub fn foresee(head: *Head, blocks: anytype, arena: std.mem.Allocator) void {
    if (blocks.len < 2) return;
    const counts = arena.alloc(u64, head.tables.len) catch return;
    @memset(counts, 0);
    // A count is the sender's word, and so is worth no more memory than the blocks themselves are.
    var left: usize = 0;
    for (blocks) |block| left += 2 * block.bytes.len;
    for (blocks) |block| {
        var walk: weigh.Walk = weigh.Walk.of(&head.catalogue, block.bytes) catch break;
        while (walk.next() catch break) |part| counts[part.number] += part.inserted;
    }
    for (head.tables, counts) |*table, count| {
        const n: u32 = @intCast(@min(count, table.spec.rows_max - table.rows));
        if (n == 0) continue;
        table.ensureRows(n) catch continue;
        left -= touch(&table.keys, table.rows, n, left);
        for (table.columns) |*column| left -= touch(column, table.rows, n, left);
    }
}

/// Returns how many bytes of memory were asked for.
fn touch(column: *const Column, first: u32, n: u32, most: usize) usize {
    const bytes = @min(@as(usize, n) * column.width, most);
    memory.touch(column.head[@as(usize, first) * column.width ..][0..bytes]);
    return bytes;
}
