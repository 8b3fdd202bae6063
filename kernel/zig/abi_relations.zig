//! Finding rows by value across the boundary.

const failure = @import("failure.zig");
const Store = @import("store.zig").Store;

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
