//! Founding a database with what a store holds, as C sees it (`founding.zig`).

const std = @import("std");
const compat = @import("compat.zig");
const failure = @import("failure.zig");
const founding = @import("founding.zig");
const Ancestor = @import("manifest.zig").Ancestor;
const Place = @import("abi_storage.zig").Place;
const Store = @import("store.zig").Store;

/// Found a database in a storage that has none. Needs the baton. `ancestors` are pairs of an epoch and its last version,
/// oldest first; the fingerprint and the canonical text are those of the store's schema. `bytes` of what was written.
export fn ecs_disk_found(
    store: *Store,
    place: *Place,
    id: *const [16]u8,
    epoch: u32,
    ancestors: [*]const u64,
    ancestor_count: u64,
    fingerprint: *const [16]u8,
    schema: [*]const u8,
    schema_bytes: u64,
    now_ns: i64,
    bytes: *u64,
) i32 {
    const gpa = compat.allocator;
    const pairs = ancestors[0 .. @as(usize, @intCast(ancestor_count)) * 2];
    const known = gpa.alloc(Ancestor, pairs.len / 2) catch |err| return failure.code(err);
    defer gpa.free(known);
    for (known, 0..) |*of, i| {
        const number = std.math.cast(u32, pairs[2 * i]) orelse return failure.code(error.BadArgument);
        of.* = .{ .epoch = number, .last = pairs[2 * i + 1] };
    }
    const info = founding.found(gpa, place.storage(), store, &.{
        .database = id.*,
        .epoch = epoch,
        .ancestors = known,
        .fingerprint = fingerprint.*,
        .schema = schema[0..@intCast(schema_bytes)],
        .now_ns = now_ns,
    }) catch |err| return failure.code(err);
    bytes.* = info.bytes;
    return 0;
}
