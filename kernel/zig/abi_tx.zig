//! What a transaction asks beside reading and writing. Needs the baton and an open transaction.

const std = @import("std");
const expect = @import("expect.zig");
const failure = @import("failure.zig");
const lend = @import("lend.zig");
const Store = @import("store.zig").Store;

/// Whether a row changed after a version: 1 or 0, or `HistoryGone` where that cannot be told any more.
pub export fn ecs_tx_changed_since(store: *Store, table: u16, key: u64, version: u64) i32 {
    if (!store.head.in_transaction) return failure.code(error.NoTransaction);
    if (version > store.version) return failure.code(error.BadArgument);
    store.head.info = .{};
    const number = store.head.tableIndex(table) catch |err| return failure.code(err);
    const changed = expect.changedSince(&store.head, &store.views, number, key, version) catch |err|
        return failure.code(err);
    return @intFromBool(changed);
}

/// Take back all lent columns without looking at them: what was written to them since they were lent is undone.
pub export fn ecs_tx_discard(store: *Store) i32 {
    if (!store.head.in_transaction) return failure.code(error.NoTransaction);
    lend.discard(&store.head);
    return 0;
}
