//! Interest at the boundary: the audiences of one store, made, updated and cut for by whoever holds them.
//!
//! Who may call what: everything on one set of audiences by one thread at a time; calls that name a slot with a pin on
//! it. What a call hands out is valid until the next call that hands out anything of the same audiences.

const std = @import("std");
const abi = @import("abi.zig");
const audiences_file = @import("audiences.zig");
const compat = @import("compat.zig");
const delta = @import("delta.zig");
const failure = @import("failure.zig");
const Audiences = audiences_file.Audiences;
const Store = @import("store.zig").Store;

pub const RuleIn = audiences_file.RuleIn;
pub const ProfileIn = audiences_file.ProfileIn;
pub const AudienceOut = audiences_file.AudienceOut;

/// `ties` are `tie_count` pairs of u16, a table's id and that of a reference which its rows travel with.
pub export fn ecs_audiences_create(store: *Store, profiles: u64, profile_count: u32, rules: u64, rule_count: u32, ties: u64, tie_count: u32, out: *?*Audiences) i32 {
    out.* = create(store, profiles, profile_count, rules, rule_count, ties, tie_count) catch |err| {
        out.* = null;
        return failure.code(err);
    };
    return 0;
}

fn create(store: *Store, profiles: u64, profile_count: u32, rules: u64, rule_count: u32, ties: u64, tie_count: u32) failure.Error!*Audiences {
    const gpa = compat.allocator;
    const profiles_in = try abi.at(ProfileIn, profiles, profile_count);
    const rules_in = try abi.at(RuleIn, rules, rule_count);
    const made = try gpa.create(Audiences);
    errdefer gpa.destroy(made);
    made.* = try .init(gpa, &store.head, profiles_in, rules_in, try abi.at([2]u16, ties, tie_count));
    return made;
}

pub export fn ecs_audiences_destroy(audiences: *Audiences) void {
    audiences.deinit();
    compat.allocator.destroy(audiences);
}

/// The handle of a new audience. `rules` are those that hold for it, a bit each.
pub export fn ecs_audience_open(audiences: *Audiences, store: *Store, profile: u32, owner: u64, rules: u32) i32 {
    const handle = audiences.interest.open(&store.head, profile, owner, rules) catch |err| return failure.code(err);
    return std.math.cast(i32, handle) orelse failure.code(error.Limit);
}

pub export fn ecs_audience_close(audiences: *Audiences, handle: u32) i32 {
    audiences.interest.close(handle) catch |err| return failure.code(err);
    return 0;
}

/// What an audience is focused on (`which` 0), or is shown by hand (1), from its next update on.
pub export fn ecs_audience_set(audiences: *Audiences, handle: u32, which: u32, keys: u64, n: u64) i32 {
    const given = abi.at(u64, keys, n) catch |err| return failure.code(err);
    audiences.set(handle, which, given) catch |err| return failure.code(err);
    return 0;
}

/// What a query has found, for all audiences that it holds for, from their next update on.
pub export fn ecs_audiences_found(audiences: *Audiences, rule: u32, keys: u64, n: u64) i32 {
    const given = abi.at(u64, keys, n) catch |err| return failure.code(err);
    audiences.found(rule, given) catch |err| return failure.code(err);
    return 0;
}

/// Bring audiences to what a slot shows.
pub export fn ecs_audiences_update(audiences: *Audiences, store: *Store, slot: u32, handles: u64, n: u64) i32 {
    update(audiences, store, slot, handles, n) catch |err| return failure.code(err);
    return 0;
}

fn update(audiences: *Audiences, store: *Store, slot: u32, handles: u64, n: u64) failure.Error!void {
    try audiences.interest.update(&store.head, try abi.slotAt(store, slot), try abi.at(u32, handles, n));
}

/// As `ecs_delta`, of what an audience sees. It must have been updated to this version. `reference` below zero is none.
pub export fn ecs_audience_delta(
    audiences: *Audiences,
    store: *Store,
    slot: u32,
    handle: u32,
    base: u64,
    cursor: *delta.Cursor,
    budget: u32,
    reference: i32,
    planes: u32,
    bytes: *u64,
    length: *u64,
) i32 {
    const s = abi.slotAt(store, slot) catch |err| return failure.code(err);
    const encoder = &audiences.encoder;
    encoder.reference = if (reference < 0) null else abi.slotAt(store, @intCast(reference)) catch |err| return failure.code(err);
    defer encoder.reference = null;
    encoder.wire = .{ .planes = planes != 0 };
    const block = audiences.cut(&store.head, s, handle, base, cursor, budget) catch |err| return failure.code(err);
    bytes.* = @intFromPtr(block.ptr);
    length.* = block.len;
    return 0;
}

/// Blocks of many audiences, each from its own base: where it begins in the memory at `bytes`, and its length: 0 where
/// nothing of it changed, -1 where the base is too old, -2 where it is longer than `bytes_max`. At `references` the slot
/// of each base that values may be relative to, below zero for none.
pub export fn ecs_audiences_deltas(
    audiences: *Audiences,
    store: *Store,
    slot: u32,
    n: u64,
    handles: u64,
    bases: u64,
    references: u64,
    planes: u32,
    bytes_max: u64,
    offsets: u64,
    lengths: u64,
    bytes: *u64,
    total: *u64,
) i32 {
    audiences.encoder.wire = .{ .planes = planes != 0 };
    deltas(audiences, store, slot, n, .{ handles, bases, references, offsets, lengths }, bytes_max) catch |err| return failure.code(err);
    bytes.* = @intFromPtr(audiences.encoder.out.items.ptr);
    total.* = audiences.encoder.out.items.len;
    return 0;
}

fn deltas(audiences: *Audiences, store: *Store, slot: u32, n: u64, places: [5]u64, bytes_max: u64) failure.Error!void {
    const references = try abi.at(i32, places[2], n);
    for (references) |reference| if (reference >= 0) {
        _ = try abi.slotAt(store, @intCast(reference));
    };
    defer audiences.encoder.reference = null;
    try audiences.cutAll(
        &store.head,
        try abi.slotAt(store, slot),
        .{
            .handles = try abi.at(u32, places[0], n),
            .bases = try abi.at(u64, places[1], n),
            .references = references,
            .slots = &store.views.slots,
            .bytes_max = bytes_max,
        },
        try abi.at(u64, places[3], n),
        try abi.at(i64, places[4], n),
    );
}

/// Nobody asks for a delta from below `version` any more.
pub export fn ecs_audience_settle(audiences: *Audiences, handle: u32, version: u64) i32 {
    const audience = audiences.interest.at(handle) catch |err| return failure.code(err);
    audience.log.settle(version);
    audience.budget.settle(version);
    return 0;
}

/// How many bytes a delta may have, about, and for how many versions a row may wait. 0 bytes is no bound.
pub export fn ecs_audience_budget(audiences: *Audiences, handle: u32, bytes: u32, staleness: u64) i32 {
    const audience = audiences.interest.at(handle) catch |err| return failure.code(err);
    if (staleness == 0) return failure.code(error.BadArgument);
    audience.budget.bytes = bytes;
    audience.budget.staleness = staleness;
    return 0;
}

/// The digest of what an audience sees in a slot, hidden fields as zeros. It must have been updated to it.
pub export fn ecs_audience_digest(audiences: *Audiences, store: *Store, slot: u32, handle: u32, out: *[2]u64) i32 {
    const s = abi.slotAt(store, slot) catch |err| return failure.code(err);
    out.* = audiences.digest(&store.head, s, handle) catch |err| return failure.code(err);
    return 0;
}

/// The keys that an audience sees of a table, by index. Their number; they are copied where there is room for all.
pub export fn ecs_audience_visible(audiences: *Audiences, store: *Store, slot: u32, handle: u32, table: u32, keys: u64, n: u64) i64 {
    const into = abi.at(u64, keys, n) catch |err| return failure.code(err);
    const s = abi.slotAt(store, slot) catch |err| return failure.code(err);
    const number = store.head.catalogue.tableIndex(abi.narrow(table)) orelse return failure.code(error.UnknownTable);
    const count = audiences.visibleIn(s, handle, number, into) catch |err| return failure.code(err);
    return @intCast(count);
}

pub export fn ecs_audience_statistics(audiences: *Audiences, handle: u32, out: *AudienceOut) i32 {
    out.* = audiences.statistics(handle) catch |err| return failure.code(err);
    return 0;
}

/// On a replica: the entities that came into sight (`which` 0) or went out of it (1) with what was applied last, at
/// `keys`. Valid until the next is applied.
pub export fn ecs_sight(store: *const Store, which: u32, keys: *u64) u32 {
    const list = if (which == 0) store.head.entered.items else store.head.left.items;
    keys.* = @intFromPtr(list.ptr);
    return @intCast(list.len);
}
