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
const redo = @import("redo.zig");
const stamps = @import("stamps.zig");
const sweep = @import("sweep.zig");
const Head = @import("head.zig").Head;
const Journal = @import("journal.zig").Journal;
const Queue = @import("queue.zig").Queue;
const Views = @import("view.zig").Views;

/// A log that a store writes to, as far as the store has to know it.
pub const Durable = struct {
    context: *anyopaque,
    /// Promise room for a transaction: the sum of `bytes` since the last version was made is the most that the next can
    /// take. Refused, the transaction is not kept, and nothing has happened.
    reserve: *const fn (context: *anyopaque, bytes: u64) failure.Error!void,
};

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
    /// Whose word it takes that there is room for a transaction, before it is kept.
    durable: ?Durable = null,
    /// The newest version that must be on disk before it is shown, and the newest that is.
    demanded_version: u64 = 0,
    durable_version: u64 = 0,
    /// What was demanded when the version that is held was staged.
    held_demand: u64 = 0,
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
        if (store.head.catalogue.has_lww) {
            defer _ = store.scratch.reset(.{ .retain_with_limit = limits.scratch_bytes_kept });
            try stamps.stampWritten(&store.head, store.scratch.allocator());
        }
        const bytes = if (store.head.logged) redo.bound(&store.head) else 0;
        // Before lent cells are applied, which nothing undoes.
        if (store.durable) |log| try log.reserve(log.context, bytes);
        try lend.settle(&store.head, false);
        store.journal.record(&store.head);
        store.head.kept_bytes +|= bytes;
        store.head.undone_bytes = 0;
        store.head.keep();
        store.transactions += 1;
    }

    pub fn rollback(store: *Store) error{NoTransaction}!void {
        try store.needTransaction();
        lend.discard(&store.head);
        store.head.rollback();
        if (store.head.logged) store.setUndoneAside();
        sweep.tidy(&store.head, &store.views);
    }

    /// What was undone has left its marks. Where nothing was kept in the open version they are nobody's, and no log has to
    /// say them. Otherwise they are among those of what was kept, and want room like it. A log that has none has promised
    /// less than the version may take: one that cannot keep more than it promised has failed then.
    fn setUndoneAside(store: *Store) void {
        const head = &store.head;
        if (!head.pending) {
            head.putAside();
            head.undone_bytes = @min(head.undone_bytes, redo.markedAll(head));
            return;
        }
        const log = store.durable orelse return;
        log.reserve(log.context, head.undone_bytes) catch return;
        head.kept_bytes +|= head.undone_bytes;
        head.undone_bytes = 0;
    }

    /// Make a version of what was committed since the last one, and let readers have it. Returns
    /// whether there was anything. `genesis` publishes the empty world as version 0.
    pub fn publish(store: *Store, tick: u64, genesis: bool) failure.Error!bool {
        try store.needBaton();
        if (store.head.in_transaction) return error.InTransaction;
        // What is not in the log is not made a version of: `seal`.
        if (store.head.logged) return error.BadArgument;
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

    /// Make a version of what was committed since the last one, whose body is in the log already. With `hold` nobody
    /// sees it, or a later one, before `release` says that it is on disk. Returns its number, or null when there was
    /// nothing to make it of. One version is held at a time: while one is, and while views leave no room, publication
    /// is put off and made up for. So is one that there is no memory for.
    pub fn seal(store: *Store, tick: u64, hold: bool) failure.Error!?u64 {
        try store.needBaton();
        if (store.head.in_transaction) return error.InTransaction;
        if (!store.head.pending) return null;
        const version = store.version + 1;
        if (hold) store.demanded_version = version;
        const shown = store.showIfPossible(version, tick);
        store.made(version, tick, shown);
        return version;
    }

    /// Everything up to `durable` is on disk: show the version that is held, if it waited for that, and make up for what
    /// was put off since. Returns the newest version that readers see.
    pub fn release(store: *Store, durable: u64) failure.Error!u64 {
        try store.needBaton();
        if (store.head.in_transaction) return error.InTransaction;
        store.durable_version = @max(store.durable_version, durable);
        store.journal.release(store.durable_version);
        const views = &store.views;
        if (views.held) |at| if (store.held_demand <= store.durable_version) {
            views.show(at);
            sweep.tidy(&store.head, views);
        };
        // What was committed since belongs to a later version, which will carry what was put off too.
        if (store.behind and !store.head.pending) store.settleBehind(store.showIfPossible(store.version, store.tick));
        return store.publishedVersion();
    }

    fn showIfPossible(store: *Store, version: u64, tick: u64) bool {
        return store.show(version, tick, store.keeps_digest) catch |err| switch (err) {
            error.OutOfMemory => deferred: {
                store.views.putOff(.memory);
                break :deferred false;
            },
        };
    }

    /// The newest version is shown or held, or it was put off: then its marks are not those of the next.
    fn settleBehind(store: *Store, shown: bool) void {
        store.behind = !shown;
        if (!shown and store.head.logged) store.head.putAside();
    }

    /// Publish the head, with its digest to keep if need be, or hold it until it is on disk. False when it is put off:
    /// another version is held, or held views leave no room.
    fn show(store: *Store, version: u64, tick: u64, keep: bool) error{OutOfMemory}!bool {
        const views = &store.views;
        if (views.held != null) return false;
        const at = try views.stage(&store.head, version, tick) orelse return false;
        // Before anybody sees the slot, while the one before is still current and so in one piece.
        if (keep) views.slots[at].kept = store.digester.follow(&store.head, views.shown(), &views.slots[at]);
        store.held_demand = store.demanded_version;
        if (store.held_demand <= store.durable_version) views.show(at);
        sweep.tidy(&store.head, views);
        return true;
    }

    fn made(store: *Store, version: u64, tick: u64, shown: bool) void {
        store.version = version;
        store.tick = tick;
        store.head.endVersion();
        store.settleBehind(shown);
        store.journal.seal(version, tick, store.demanded_version, store.durable_version);
    }

    /// Put off publications are made up for when a view was released. What was committed since belongs
    /// to a later version, so with that in the head there is nothing to do: it will carry both.
    pub fn catchUp(store: *Store) failure.Error!void {
        try store.needBaton();
        if (store.head.in_transaction) return error.InTransaction;
        if (!store.behind or store.head.pending) return;
        errdefer store.settleBehind(false);
        store.settleBehind(try store.show(store.version, store.tick, store.keeps_digest));
    }

    /// How many versions may be pinned, current or held at once, and how many buffers a column may have for them. Beyond
    /// either publication is put off. What is there already stays.
    pub fn limitViews(store: *Store, slots_max: u32, buffers_max: u32) failure.Error!void {
        try store.needBaton();
        // One that is read, one that is made, and one between them that a reader has just acquired.
        if (slots_max < 3 or slots_max > limits.slots_max or buffers_max < 3) return error.BadArgument;
        store.views.slots_max = slots_max;
        store.views.buffers_max = buffers_max;
    }

    /// Keep change sets that leave the ring, merged: those of the newest `versions`, as long as they are at most `bytes`.
    /// From now on; 0 keeps none.
    pub fn retain(store: *Store, versions: u64, bytes: u64) error{NoBaton}!void {
        try store.needBaton();
        store.views.history.versions_max = versions;
        store.views.history.bytes_max = @intCast(@min(bytes, std.math.maxInt(usize)));
    }

    /// Publish into guarded buffers from now on (`guard.zig`). Those that there are stay as they are.
    pub fn guardViews(store: *Store) failure.Error!void {
        try store.needBaton();
        if (!compat.has_os) return error.BadArgument;
        for (store.head.tables) |*table| {
            table.keys.guarded = true;
            for (table.all) |*column| column.guarded = true;
        }
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
        if (store.head.logged) return error.BadArgument;
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
                store.views.putOff(.memory);
                break :deferred false;
            },
        };
        store.made(version, tick, published);
        return published;
    }

    fn applyToHead(store: *Store, blocks: []const apply.Input, from_empty: bool) failure.Error!void {
        const was_replica = store.head.replica;
        const was_partial = store.head.partial;
        store.head.replica = true;
        store.head.partial = true;
        errdefer {
            store.head.replica = was_replica;
            store.head.partial = was_partial;
        }
        try store.head.begin();
        errdefer {
            store.head.rollback();
            // Somebody else's bytes, refused: what texts they brought must not pile up.
            sweep.tidy(&store.head, &store.views);
        }
        defer _ = store.scratch.reset(.{ .retain_with_limit = limits.scratch_bytes_kept });
        try apply.apply(&store.head, &store.scratch, blocks, store.version, from_empty);
        try store.head.checkDeferred();
        store.journal.record(&store.head);
        store.head.keep();
    }
};
