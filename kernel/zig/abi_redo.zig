//! The log's end of a store, as C sees it: bodies of versions, holding them, and the way back (`redo.zig`). A database
//! does all this inside the kernel; this is for who keeps, checks or restores a log in another way.

const failure = @import("failure.zig");
const delta = @import("delta.zig");
const redo = @import("redo.zig");
const Store = @import("store.zig").Store;

/// The body of the open version, in the encoder's memory until it is used again. With the baton, outside a transaction.
export fn ecs_redo_encode(store: *Store, encoder: *delta.Encoder, bytes: *u64, length: *u64) i32 {
    encode(store, encoder) catch |err| return failure.code(err);
    bytes.* = @intFromPtr(encoder.out.items.ptr);
    length.* = encoder.out.items.len;
    return 0;
}

fn encode(store: *Store, encoder: *delta.Encoder) failure.Error!void {
    try store.needBaton();
    if (store.head.in_transaction) return error.InTransaction;
    encoder.out.items.len = 0;
    try redo.encode(&store.head, encoder.gpa, &encoder.out);
}

/// How many bytes the open transaction adds to that at most.
export fn ecs_redo_bound(store: *Store) u64 {
    return redo.bound(&store.head);
}

/// Make a version whose body was taken. 1 when there was something to make it of, 0 when not. With `hold` it is shown by
/// `ecs_release`, and `published` is before it.
export fn ecs_seal(store: *Store, tick: u64, hold: u32, version: *u64, published: *u64) i32 {
    const made = store.seal(tick, hold != 0) catch |err| return failure.code(err);
    version.* = store.version;
    published.* = store.publishedVersion();
    return @intFromBool(made != null);
}

/// Everything up to `durable` is on disk: show what waited for it.
export fn ecs_release(store: *Store, durable: u64, published: *u64) i32 {
    published.* = store.release(durable) catch |err| return failure.code(err);
    return 0;
}

/// Take in the body of the version after the store's own. Whole, or refused with nothing changed.
export fn ecs_redo_replay(store: *Store, version: u64, tick: u64, body: [*]const u8, length: u64) i32 {
    redo.replay(store, version, tick, body[0..@intCast(length)]) catch |err| return failure.code(err);
    return 0;
}

/// Show what was taken in, hand out keys, and say from now on what each version changes.
export fn ecs_redo_finish(store: *Store) i32 {
    redo.finish(store) catch |err| return failure.code(err);
    return 0;
}
