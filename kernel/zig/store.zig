//! A store: the writer's head, the views that readers pin, and the baton between writers.
//!
//! The writer is a role, not a thread. The baton is one atomic word: whoever takes it may begin
//! transactions and publish, and gives it back. Nothing here waits; a taken baton is `Busy`.

const std = @import("std");
const assert = std.debug.assert;
const apply = @import("apply.zig");
const catalogue = @import("catalogue.zig");
const compat = @import("compat.zig");
const digest = @import("digest.zig");
const failure = @import("failure.zig");
const lend = @import("lend.zig");
const limits = @import("limits.zig");
const sweep = @import("sweep.zig");
const Head = @import("head.zig").Head;
const Journal = @import("journal.zig").Journal;
const Queue = @import("queue.zig").Queue;
const Views = @import("view.zig").Views;

pub const Store = struct {
    counting: compat.CountingAllocator,
    head: Head,
    views: Views,
    baton: compat.Atomic(u32) = .init(0),
    /// The newest version; `views` may be behind it while publication is deferred.
    version: u64 = 0,
    tick: u64 = 0,
    /// The publication of `version` was put off.
    behind: bool = false,
    transactions: u64 = 0,
    operations: []align(64) u8,
    /// Each version's digest is made when it is published, from the one before and what changed since. Otherwise
    /// only those of versions that somebody wants to compare are.
    keeps_digest: bool = false,
    digester: digest.Follower,
    /// What transactions changed, for those who follow it.
    journal: Journal,
    /// Transactions that other threads handed in.
    queue: Queue,
    /// What applying needs for as long as it lasts.
    scratch: std.heap.ArenaAllocator,

    pub fn create(child: std.mem.Allocator, in: *const catalogue.CatalogueIn) failure.Error!*Store {
        const store = try child.create(Store);
        errdefer child.destroy(store);
        store.* = .{
            .counting = .{ .child = child },
            .head = undefined,
            .views = undefined,
            .operations = &.{},
            .digester = undefined,
            .journal = undefined,
            .queue = undefined,
            .scratch = undefined,
        };
        const gpa = store.counting.allocator();
        store.operations = try gpa.alignedAlloc(u8, .@"64", limits.operations_bytes);
        errdefer gpa.free(store.operations);
        store.head = try .init(gpa, in);
        store.views = .{ .gpa = gpa };
        store.digester = .{ .gpa = gpa };
        store.journal = .init(child, gpa);
        store.queue = .init(child, gpa);
        store.scratch = .init(gpa);
        return store;
    }

    /// Free everything. `ViewsHeld` while pins are out: their memory stays, and so does the store.
    pub fn destroy(store: *Store) error{ViewsHeld}!void {
        if (store.views.pins() > 0) return error.ViewsHeld;
        const child = store.counting.child;
        const gpa = store.counting.allocator();
        store.views.deinit(&store.head);
        store.head.deinit();
        gpa.free(store.operations);
        store.digester.deinit();
        store.journal.deinit();
        store.queue.deinit();
        store.scratch.deinit();
        // Orphaned scratch memory is its holder's and frees through the child.
        child.destroy(store);
    }

    pub fn takeBaton(store: *Store) error{Busy}!void {
        // Sequentially consistent, also where it fails: see `queue.zig`.
        if (store.baton.cmpxchgStrong(0, 1, .seq_cst, .seq_cst) != null) return error.Busy;
    }

    /// Whoever has given it back looks whether something waits in the queue: nobody else may be going to.
    pub fn giveBaton(store: *Store) void {
        const before = store.baton.swap(0, .seq_cst);
        assert(before == 1);
    }

    pub fn needBaton(store: *Store) error{NoBaton}!void {
        if (store.baton.load(.monotonic) == 0) return error.NoBaton;
    }

    pub fn begin(store: *Store) failure.Error!void {
        try store.needBaton();
        try store.head.begin();
    }

    pub fn needTransaction(store: *Store) error{NoTransaction}!void {
        if (!store.head.in_transaction) return error.NoTransaction;
    }

    /// Check what the transaction must keep as a whole, apply what was lent, and keep it. When it is
    /// refused it stays open, so that the caller can read what it did; roll it back.
    pub fn commit(store: *Store) failure.Error!void {
        try store.needTransaction();
        try store.head.checkDeferred();
        try lend.settle(&store.head, false);
        store.journal.record(&store.head);
        store.head.keep();
        store.transactions += 1;
    }

    pub fn rollback(store: *Store) error{NoTransaction}!void {
        try store.needTransaction();
        lend.discard(&store.head);
        store.head.rollback();
        sweep.tidy(&store.head, &store.views);
    }

    /// Make a version of what was committed since the last one, and let readers have it. Returns
    /// whether there was anything. `genesis` publishes the empty world as version 0.
    pub fn publish(store: *Store, tick: u64, genesis: bool) failure.Error!bool {
        try store.needBaton();
        if (store.head.in_transaction) return error.InTransaction;
        if (genesis) {
            if (store.views.published) return error.BadArgument;
        } else {
            if (!store.head.pending) return false;
        }
        const version = if (genesis) 0 else store.version + 1;
        try store.publishAs(version, tick);
        return true;
    }

    fn publishAs(store: *Store, version: u64, tick: u64) failure.Error!void {
        const published = try store.show(version, tick, store.keeps_digest);
        store.made(version, tick, published);
    }

    /// Publish the head, with its digest to keep if need be. False when held views put it off.
    fn show(store: *Store, version: u64, tick: u64, keep: bool) error{OutOfMemory}!bool {
        const views = &store.views;
        const at = try views.stage(&store.head, version, tick) orelse return false;
        // Before anybody sees the slot, while the one before is still current and so in one piece.
        if (keep) views.slots[at].kept = store.digester.follow(&store.head, views.shown(), &views.slots[at]);
        views.show(&store.head, at);
        sweep.tidy(&store.head, views);
        return true;
    }

    fn made(store: *Store, version: u64, tick: u64, published: bool) void {
        store.version = version;
        store.tick = tick;
        store.behind = !published;
        store.head.pending = false;
        store.journal.seal(version, tick);
    }

    /// Put off publications are made up for when a view was released. What was committed since belongs
    /// to a later version, so with that in the head there is nothing to do: it will carry both.
    pub fn catchUp(store: *Store) failure.Error!void {
        try store.needBaton();
        if (store.head.in_transaction) return error.InTransaction;
        if (!store.behind or store.head.pending) return;
        store.behind = !try store.show(store.version, store.tick, store.keeps_digest);
    }

    /// Keep each version's digest from the next publication on, or no longer.
    pub fn keepDigest(store: *Store, on: bool) error{NoBaton}!void {
        try store.needBaton();
        store.keeps_digest = on;
    }

    pub fn publishedVersion(store: *const Store) u64 {
        return store.views.slots[store.views.current].version;
    }

    /// Apply somebody else's change `(base, version]`. The rule: values are absolute, so a replica
    /// applies when `base <= held < version`. False when held views put its publication off.
    pub fn applyBlocks(store: *Store, base: u64, version: u64, tick: u64, blocks: []const apply.Input) failure.Error!bool {
        try store.takeBaton();
        defer store.giveBaton();
        return store.applyAndShow(base, version, tick, blocks, store.keeps_digest);
    }

    /// The same for whoever has the baton, and with a digest to keep if need be.
    pub fn applyAndShow(
        store: *Store,
        base: u64,
        version: u64,
        tick: u64,
        blocks: []const apply.Input,
        keep: bool,
    ) failure.Error!bool {
        try store.needBaton();
        store.head.info = .{};
        if (store.head.in_transaction) return error.InTransaction;
        // From nothing anything may be applied: a full sync replaces the state, whatever it was.
        if (base != 0) {
            if (version <= store.version) return error.StaleVersion;
            if (base > store.version) return error.BaseAhead;
        }
        if (version == 0) return error.StaleVersion;
        try store.applyToHead(blocks, base == 0);
        store.transactions += 1;
        // The data is in the head and has its version, so from here on the frame was applied. Without
        // memory to show it, publication is put off like one that held views stand in the way of.
        const published = store.show(version, tick, keep) catch |err| switch (err) {
            error.OutOfMemory => deferred: {
                store.views.deferred += 1;
                break :deferred false;
            },
        };
        store.made(version, tick, published);
        return published;
    }

    fn applyToHead(store: *Store, blocks: []const apply.Input, from_empty: bool) failure.Error!void {
        const was_replica = store.head.replica;
        store.head.replica = true;
        errdefer store.head.replica = was_replica;
        try store.head.begin();
        errdefer {
            store.head.rollback();
            // Somebody else's bytes, refused: what texts they brought must not pile up.
            sweep.tidy(&store.head, &store.views);
        }
        defer _ = store.scratch.reset(.{ .retain_with_limit = limits.scratch_bytes_kept });
        try apply.apply(&store.head, store.scratch.allocator(), blocks, from_empty);
        try store.head.checkDeferred();
        store.journal.record(&store.head);
        store.head.keep();
    }
};
