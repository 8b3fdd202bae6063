//! The export of prepared writes: see `prepared.zig`. Needs the baton and an open transaction.

const std = @import("std");
const failure = @import("failure.zig");
const prepared = @import("prepared.zig");
const Store = @import("store.zig").Store;

/// Do what is described for every record, all or none. `offset` of the failure says which one was refused.
pub export fn ecs_prepared_run(in: *const prepared.PreparedIn) i32 {
    const store: *Store = @ptrFromInt(std.math.cast(usize, in.store) orelse return failure.code(error.BadArgument));
    store.head.info = .{};
    const bytes = @as(u64, in.count) * in.stride;
    const records = at(in.records, bytes) catch |err| return failure.code(err);
    const ids = at(in.ids, @as(u64, in.fields) * 2) catch |err| return failure.code(err);
    prepared.run(&store.head, in, records, ids) catch |err| return failure.code(err);
    return 0;
}

fn at(address: u64, n: u64) error{BadArgument}![]u8 {
    if (n == 0) return &.{};
    const place = std.math.cast(usize, address) orelse return error.BadArgument;
    const count = std.math.cast(usize, n) orelse return error.BadArgument;
    if (place == 0) return error.BadArgument;
    return @as([*]u8, @ptrFromInt(place))[0..count];
}
