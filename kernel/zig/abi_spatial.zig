//! The spatial index at the boundary. An index is the caller's: it is made, followed, searched in and destroyed by
//! whoever holds it, on any thread, and may outlive the store.
//!
//! Who may call what: `ecs_spatial_follow` while nobody else uses the index, `ecs_spatial_search` from any number of
//! threads at once; both with a pin on the slot, or (slot below zero, the head) with the baton.

const std = @import("std");
const compat = @import("compat.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const nearby = @import("nearby.zig");
const spatial = @import("spatial.zig");
const Store = @import("store.zig").Store;

pub const SpatialIn = extern struct {
    /// Length of a cell's side.
    cell: f64,
    table: u16,
    /// How many of `fields` there are, 2 or 3: both f32 or all f64.
    axes: u16,
    fields: [3]u16,
    reserved: [3]u16 = @splat(0),
};

pub const SearchIn = extern struct {
    /// Of `spatial.Kind`.
    kind: u32,
    /// How many of the nearest.
    k: u32,
    /// How many searches.
    count: u64,
    /// Address of `count` places, an f64 an axis: centres, or lowest corners.
    points: u64,
    /// Address of `count` f64 radii, or of `count` highest corners; of nothing for the nearest.
    others: u64,
    /// Address of a byte a row, 0 for those that shall not be found; 0 for all rows.
    allowed: u64,
    /// Address of room for `count` u64: how many rows the searches up to each have found.
    ends: u64,
};

/// Rows (u32) of one search after the other. The caller frees `bytes` at `address` with `ecs_memory_free`.
pub const FoundOut = extern struct { address: u64, bytes: u64, count: u64 };

pub const SpatialOut = extern struct {
    rows: u64,
    /// Cells that have rows.
    cells: u64,
    /// Rows that came, went or changed cells, since it was last filled anew, and how often it was.
    moves: u64,
    fills: u64,
    bytes: u64,
};

pub export fn ecs_spatial_create(store: *Store, in: *const SpatialIn, out: *?*spatial.Index) i32 {
    out.* = create(store, in) catch |err| {
        out.* = null;
        return failure.code(err);
    };
    return 0;
}

fn create(store: *Store, in: *const SpatialIn) failure.Error!*spatial.Index {
    if (in.axes > in.fields.len) return error.BadArgument;
    const made = try spatial.Index.init(compat.allocator, &store.head.catalogue, in.table, in.fields[0..in.axes], in.cell);
    const index = try compat.allocator.create(spatial.Index);
    index.* = made;
    return index;
}

pub export fn ecs_spatial_copy(index: *const spatial.Index, out: *?*spatial.Index) i32 {
    out.* = null;
    const made = compat.allocator.create(spatial.Index) catch return failure.code(error.OutOfMemory);
    made.* = index.copy() catch {
        compat.allocator.destroy(made);
        return failure.code(error.OutOfMemory);
    };
    out.* = made;
    return 0;
}

pub export fn ecs_spatial_destroy(index: *spatial.Index) void {
    index.deinit();
    compat.allocator.destroy(index);
}

fn sourceOf(index: *const spatial.Index, store: *Store, slot: i32) error{BadArgument}!spatial.Source {
    const fields = index.fields[0..index.dims];
    if (slot < 0) return .ofHead(&store.views, &store.head.tables[index.table], store.head.open, fields);
    if (slot >= limits.slots_max) return error.BadArgument;
    const found = &store.views.slots[@intCast(slot)];
    if (found.tables.len == 0) return error.BadArgument;
    return .ofSlot(found, index.table, fields);
}

/// 1 when a search in `slot` may use the index as it is.
pub export fn ecs_spatial_fits(index: *const spatial.Index, store: *Store, slot: i32) i32 {
    const source = sourceOf(index, store, slot) catch |err| return failure.code(err);
    return @intFromBool(index.fits(&source));
}

/// Bring the index to what `slot` shows.
pub export fn ecs_spatial_follow(index: *spatial.Index, store: *Store, slot: i32) i32 {
    const source = sourceOf(index, store, slot) catch |err| return failure.code(err);
    index.follow(&source) catch |err| return failure.code(err);
    return 0;
}

/// Search in what `slot` shows. `BadArgument` when the index does not fit it.
pub export fn ecs_spatial_search(index: *const spatial.Index, store: *Store, slot: i32, in: *const SearchIn, out: *FoundOut) i32 {
    out.* = .{ .address = 0, .bytes = 0, .count = 0 };
    search(index, store, slot, in, out) catch |err| return failure.code(err);
    return 0;
}

fn search(index: *const spatial.Index, store: *Store, slot: i32, in: *const SearchIn, out: *FoundOut) failure.Error!void {
    const source = try sourceOf(index, store, slot);
    if (!index.fits(&source)) return error.BadArgument;
    const kind = std.enums.fromInt(spatial.Kind, in.kind) orelse return error.BadArgument;
    if (in.count > limits.rows_max) return error.BadArgument;
    const places = in.count * index.dims;
    const points = try floats(in.points, places);
    const others = try floats(in.others, switch (kind) {
        .near => in.count,
        .within => places,
        .nearest => 0,
    });
    if (kind != .within) for (points) |value| if (std.math.isInf(value)) return error.BadArgument;
    // Squared, it would be as good as one above zero.
    if (kind == .near) for (others) |radius| if (radius < 0) return error.BadArgument;
    const ends = try at(u64, in.ends, in.count);
    const allowed: ?[*]const u8 = if (in.allowed == 0 or source.rows == 0) null else (try at(u8, in.allowed, source.rows)).ptr;
    var found: nearby.Found = .empty;
    errdefer found.deinit(compat.allocator);
    try index.search(&source, .{ .kind = kind, .points = points, .others = others, .k = in.k, .allowed = allowed }, ends, &found);
    out.* = .{ .address = @intFromPtr(found.items.ptr), .bytes = found.capacity * 4, .count = found.items.len };
}

/// Numbers, of which none may be missing: what compares with nothing would be found nowhere, without a word.
fn floats(address: u64, n: u64) error{BadArgument}![]const f64 {
    const values = try at(f64, address, n);
    for (values) |value| if (std.math.isNan(value)) return error.BadArgument;
    return values;
}

fn at(comptime T: type, address: u64, n: u64) error{BadArgument}![]T {
    if (n == 0) return &.{};
    const place = std.math.cast(usize, address) orelse return error.BadArgument;
    const count = std.math.cast(usize, n) orelse return error.BadArgument;
    if (place == 0 or place % @alignOf(T) != 0) return error.BadArgument;
    return @as([*]T, @ptrFromInt(place))[0..count];
}

pub export fn ecs_spatial_statistics(index: *const spatial.Index, out: *SpatialOut) void {
    switch (index.grid) {
        inline else => |*grid| out.* = .{
            .rows = grid.rows,
            .cells = grid.cells,
            .moves = grid.moves,
            .fills = index.fills,
            .bytes = grid.bytes() + index.marks.capacity * 8,
        },
    }
}
