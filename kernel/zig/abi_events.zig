//! The foreign caller's way to event rows; see `events.zig` for their bytes.

const delta = @import("delta.zig");
const events = @import("events.zig");
const failure = @import("failure.zig");
const Store = @import("store.zig").Store;

/// The event rows of the version being made, before it is published: into the encoder's memory, which
/// is valid until its next call. Needs the baton. No bytes where there is no row to tell of. `hidden` is what whoever
/// is told may not see.
pub export fn ecs_events(
    store: *Store,
    cursor: *delta.Cursor,
    budget: u32,
    hidden: ?[*]const events.Hidden,
    hidden_count: u32,
    encoder: *delta.Encoder,
    bytes: *u64,
    length: *u64,
) i32 {
    if (store.baton.load(.monotonic) == 0) return failure.code(error.NoBaton);
    if (store.head.in_transaction) return failure.code(error.InTransaction);
    const unseen = if (hidden) |pairs| pairs[0..hidden_count] else &.{};
    events.encode(&store.head, encoder, cursor, budget, unseen) catch |err| return failure.code(err);
    bytes.* = @intFromPtr(encoder.out.items.ptr);
    length.* = encoder.out.items.len;
    return 0;
}
