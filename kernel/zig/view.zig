//! Views: how readers see one version while the writer makes the next, and neither waits.
//!
//! `root` holds the newest slot and counts who acquired it: slot in the high 16 bits, acquires in the
//! low 48. Acquire is one `fetch_add`, which returns the slot and takes the pin in the same
//! instruction. Release adds one to the slot's own `released`: it frees nothing and may run in a
//! finaliser on any thread. Publish swaps `root`; the old slot's last acquire count comes out of
//! the same swap. A slot whose releases equal its acquires is nobody's, and the writer takes its
//! parts back.
//!
//! Obligations (each has a weakened twin that the model checker must catch):
//! 1. pin and slot come from one read-modify-write;
//! 2. `root` and `released` are only ever read-modify-written, so release sequences are not broken;
//! 3. reuse only after all releases were observed with acquire;
//! 4. a row outside the change sets equals the head's;
//! 5. no loop on reader state in acquire, release or publish;
//! 6. closing with live views keeps their memory.

const std = @import("std");
const builtin = @import("builtin");
const assert = std.debug.assert;
const changes = @import("changes.zig");
const column = @import("column.zig");
const compat = @import("compat.zig");
const guard = @import("guard.zig");
const history_file = @import("history.zig");
const limits = @import("limits.zig");
const memory = @import("memory.zig");
const sparse = @import("sparse.zig");
const Head = @import("head.zig").Head;
const Table = @import("table.zig").Table;
const Buffer = column.Buffer;
const ChangeSet = changes.ChangeSet;
const History = history_file.History;

const count_bits = 48;
const count_mask: u64 = (1 << count_bits) - 1;

/// Page pointers of one table at one cut, shared by its views until the table's structure changes.
const Directory = struct { refs: u32, pages: []?*sparse.Page };

/// One table in a run of versions that nothing of it changed in: their slots share it.
pub const TableView = struct {
    rows: u32,
    /// The first rows that are those of its group's members.
    members: u32,
    struct_seq: u64,
    keys: *Buffer,
    directory: *Directory,
    columns: []*Buffer,
    /// The same, and behind them those of the relation graph, with `graph_cells` cells each.
    all: []*Buffer,
    graph_cells: u32,
    /// The first cut it belongs to.
    born: u64,

    pub fn keyList(table: *const TableView) []const u64 {
        return @as([*]const u64, @ptrCast(table.keys.data.ptr))[0..table.rows];
    }
    pub fn pages(table: *const TableView) sparse.Directory {
        return table.directory.pages;
    }
    /// The row of exactly this key.
    pub fn find(table: *const TableView, key: u64) ?u32 {
        const row = sparse.find(table.directory.pages, @truncate(key)) orelse return null;
        return if (table.keyList()[row] == key) row else null;
    }
};

pub const Slot = struct {
    /// Cumulative over all versions this slot has ever held; never reset (obligation 2).
    released: compat.Atomic(u64) = .init(0),
    /// Acquires of all versions it held before the current one, and of that one once it is retired.
    acquired: u64 = 0,
    state: enum { free, held, current, retired } = .free,
    version: u64 = 0,
    tick: u64 = 0,
    cut: u64 = 0,
    /// Empty while it is free.
    tables: []*TableView = &.{},
    /// Memory for `tables`.
    room: []*TableView = &.{},
    /// The newest change set, and the oldest cut whose set this view may read.
    newest: ?*ChangeSet = null,
    oldest_cut: u64 = 0,
    /// Those before it, merged: newest first.
    older: []const *ChangeSet = &.{},
    /// The digest of its replicated tables, low and high, in a store that keeps it up to date.
    kept: ?[2]u64 = null,
};

/// Why a publication was put off. Appended, never reused.
pub const Pressure = enum(u8) { none, slots, buffers, memory };

/// A table's view that a newer one replaced, which views of the cuts up to `last` may still read.
const RetiredTable = struct { view: *TableView, number: usize, last: u64 };

pub const Views = struct {
    gpa: std.mem.Allocator,
    root: compat.Atomic(u64) = .init(0),
    slots: [limits.slots_max]Slot = @splat(.{}),
    /// The slots that are not free, a bit each: nobody looks through all of them for the two or three there are.
    taken: u64 = 0,
    current: usize = 0,
    published: bool = false,
    /// A slot that is filled and that nobody may see yet: its version is made, and is not on disk.
    held: ?usize = null,
    newest: ?*ChangeSet = null,
    /// Change sets of the cuts `[oldest_cut, open)`, at their cut modulo the length.
    ring: [limits.ring_cuts_max + 1]?*ChangeSet = @splat(null),
    oldest_cut: u64 = 1,
    ring_bytes: usize = 0,
    /// Those that left the ring, merged.
    history: History = .{},
    /// The oldest version that deltas to the newest can be cut from, but for 0.
    oldest_base: u64 = 0,
    /// The first publication says nothing of versions before this one: the store was loaded, and they never were here.
    floor: u64 = 0,
    retired_sets: std.ArrayList(history_file.Retired) = .empty,
    retired_tables: std.ArrayList(RetiredTable) = .empty,
    /// By table: a view that is nobody's, for the next publication.
    spare: []?*TableView = &.{},
    deferred: u64 = 0,
    /// Versions that may be pinned, current or held at once, and buffers of one column.
    slots_max: u32 = limits.slots_max,
    buffers_max: u32 = limits.buffers_max,
    /// What the newest publication was put off for.
    pressure: Pressure = .none,

    pub fn deinit(views: *Views, head: *Head) void {
        // What was replaced by a version that is held is among the retired already.
        const newest: ?*Slot = if (views.held) |at| &views.slots[at] else views.shown();
        if (newest) |slot| for (slot.tables, 0..) |view, number| views.dismantle(head, number, view);
        for (views.retired_tables.items) |retired| views.dismantle(head, retired.number, retired.view);
        views.retired_tables.deinit(views.gpa);
        for (views.spare) |spare| if (spare) |view| views.destroyView(view);
        views.gpa.free(views.spare);
        for (&views.slots) |*slot| views.gpa.free(slot.room);
        var set = views.newest;
        while (set) |s| {
            set = if (s.cut > views.oldest_cut) s.prev else null;
            s.destroy(views.gpa);
        }
        for (views.retired_sets.items) |retired| retired.set.destroy(views.gpa);
        views.retired_sets.deinit(views.gpa);
        views.history.deinit(views.gpa);
    }

    /// Pin the newest version. Never waits; call from any thread once something was published.
    pub fn acquire(views: *Views) usize {
        const root = views.root.fetchAdd(1, .acquire);
        assert(root & count_mask != count_mask);
        return @intCast(root >> count_bits);
    }

    /// The slot of the newest version that has one.
    pub fn newestSlot(views: *const Views) usize {
        return views.held orelse views.current;
    }

    /// Pin a slot that is shown or held, as its writer: readers count in `root`, which a held one is not in.
    pub fn pin(views: *Views, slot: usize) void {
        assert(views.slots[slot].tables.len > 0);
        views.slots[slot].acquired += 1;
    }

    /// Let go of one pin. Never waits, frees nothing; call from any thread.
    pub fn release(views: *Views, slot: usize) void {
        assert(slot < limits.slots_max);
        _ = views.slots[slot].released.fetchAdd(1, .release);
    }

    /// Pins that are out. Exact while nobody acquires, and too few otherwise.
    pub fn pins(views: *Views) u64 {
        if (!views.published) return 0;
        var total: u64 = 0;
        var left = views.taken;
        while (left != 0) : (left &= left - 1) {
            const i = @ctz(left);
            const slot = &views.slots[i];
            var acquired = slot.acquired;
            if (i == views.current) acquired += views.root.fetchAdd(0, .acquire) & count_mask;
            // A reader that comes and goes between the two reads has been seen to leave only.
            total += acquired -| slot.released.fetchAdd(0, .acquire);
        }
        return total;
    }

    /// Take back what retired slots referred to, where nobody reads it any more.
    pub fn reclaim(views: *Views, head: *Head) void {
        var freed = false;
        var left = views.taken;
        while (left != 0) : (left &= left - 1) {
            const slot = &views.slots[@ctz(left)];
            if (slot.state != .retired) continue;
            if (slot.released.load(.acquire) != slot.acquired) continue;
            slot.state = .free;
            slot.tables = &.{};
            slot.older = &.{};
            views.taken &= ~(@as(u64, 1) << @intCast(@ctz(left)));
            freed = true;
        }
        if (!freed) return;
        var kept: usize = 0;
        for (views.retired_tables.items) |retired| {
            if (views.readable(retired.view.born, retired.last)) {
                views.retired_tables.items[kept] = retired;
                kept += 1;
            } else views.dismantle(head, retired.number, retired.view);
        }
        views.retired_tables.items.len = kept;
        kept = 0;
        for (head.retired.items) |retired| {
            if (views.readable(retired.page.born, retired.last)) {
                head.retired.items[kept] = retired;
                kept += 1;
            } else retired.page.destroy(head.gpa);
        }
        head.retired.items.len = kept;
        kept = 0;
        for (views.retired_sets.items) |retired| {
            if (views.readable(retired.set.cut, retired.last)) {
                views.retired_sets.items[kept] = retired;
                kept += 1;
            } else retired.set.destroy(views.gpa);
        }
        views.retired_sets.items.len = kept;
        views.history.reclaim(views.gpa, views);
    }

    /// Whether any slot holds a cut in `[first, last]`.
    pub fn readable(views: *const Views, first: u64, last: u64) bool {
        var left = views.taken;
        while (left != 0) : (left &= left - 1) {
            const cut = views.slots[@ctz(left)].cut;
            if (cut >= first and cut <= last) return true;
        }
        return false;
    }

    /// Give back what a table's view that nobody reads referred to, and the view itself.
    fn dismantle(views: *Views, head: *Head, number: usize, view: *TableView) void {
        const table = &head.tables[number];
        dropBuffer(views.gpa, &table.keys, view.keys, head.open);
        for (view.all, table.all) |buffer, *col| dropBuffer(views.gpa, col, buffer, head.open);
        dropDirectory(views.gpa, view.directory);
        if (views.spare[number] == null) views.spare[number] = view else views.destroyView(view);
    }

    fn takeView(views: *Views, number: usize, table: *const Table) error{OutOfMemory}!*TableView {
        if (views.spare[number]) |view| {
            views.spare[number] = null;
            return view;
        }
        const view = try views.gpa.create(TableView);
        errdefer views.gpa.destroy(view);
        view.all = try views.gpa.alloc(*Buffer, table.all.len);
        view.columns = view.all[0..table.columns.len];
        return view;
    }

    fn destroyView(views: *Views, view: *TableView) void {
        views.gpa.free(view.all);
        views.gpa.destroy(view);
    }

    /// Collect the dirty sets of one column since `cut`: sealed ones and those of the open cut. Null when the
    /// ring does not reach back that far.
    pub fn setsSince(
        views: *const Views,
        table: usize,
        field: ?usize,
        open: []const *const changes.DirtySet,
        cut: u64,
        into: *[limits.ring_cuts_max + 1]*const changes.DirtySet,
    ) ?[]*const changes.DirtySet {
        if (cut + 1 < views.oldest_cut) return null;
        var n: usize = 0;
        for (open) |dirty| if (!dirty.isEmpty()) {
            into[n] = dirty;
            n += 1;
        };
        var next = views.newest;
        while (next) |set| {
            if (set.cut <= cut) break;
            if (n == into.len) return null;
            if (set.of(table)) |of| {
                const dirty: *const changes.DirtySet = if (field) |f| &of.all[f] else &of.keys;
                if (!dirty.isEmpty()) {
                    into[n] = dirty;
                    n += 1;
                }
            }
            next = if (set.cut > views.oldest_cut) set.prev else null;
        }
        return into[0..n];
    }

    /// Publish the head as `version`. False when held views leave no slot or buffer to publish into:
    /// the head keeps its marks, and a later publication carries them too.
    pub fn publish(views: *Views, head: *Head, version: u64, tick: u64) error{OutOfMemory}!bool {
        views.show(try views.stage(head, version, tick) orelse return false);
        return true;
    }

    /// The newest slot that readers see, and what `stage` was filled after. Null before the first.
    pub fn shown(views: *Views) ?*Slot {
        return if (views.published) &views.slots[views.current] else null;
    }

    /// Fill a slot with the head as `version`, which is held: nobody sees it before `show`, and no other is
    /// staged meanwhile. What changes from now on belongs to the next cut. Null as `publish` says false.
    pub fn stage(views: *Views, head: *Head, version: u64, tick: u64) error{OutOfMemory}!?usize {
        assert(!head.in_transaction);
        assert(views.held == null);
        views.reclaim(head);
        try head.takeUp();
        if (@popCount(views.taken) >= views.slots_max) {
            views.putOff(.slots);
            return null;
        }
        const at = @ctz(~views.taken);
        const slot = &views.slots[at];
        if (slot.room.len == 0) slot.room = try views.gpa.alloc(*TableView, head.tables.len);
        if (views.spare.len == 0) {
            views.spare = try views.gpa.alloc(?*TableView, head.tables.len);
            @memset(views.spare, null);
        }
        try views.history.ensure(views.gpa, views.ring.len, &views.retired_sets);
        try views.retired_tables.ensureUnusedCapacity(views.gpa, head.tables.len);
        const before = views.shown();
        if (before == null) @memset(head.noted, true);

        // The graph follows the marks that sealing takes away; its own come along.
        try head.graph.follow(head);

        // Seal first: a failure here leaves the marks open and nothing else changed.
        const set = try views.seal(head, version, @max(views.floor, if (before) |b| b.version else 0));
        var done: usize = 0;
        errdefer {
            views.unfill(head, slot.room[0..done]);
            reopen(head, set);
            set.destroy(views.gpa);
        }
        const old_newest = views.newest;
        set.prev = old_newest;
        views.newest = set;
        errdefer views.newest = old_newest;

        // What nobody noted is as it was.
        if (before) |b| @memcpy(slot.room, b.tables);
        for (slot.room, head.noted, 0..) |*view, noted, i| {
            if (!noted) {
                // Off the tests this would read every table, to spare which it is there.
                if (builtin.is_test) assert(!head.tables[i].changed() and !head.tables[i].index.changed and !head.tables[i].hasAside());
                done += 1;
                continue;
            }
            const prior: ?*TableView = if (before) |b| b.tables[i] else null;
            view.* = try views.fillTable(head, i, prior, set.of(i)) orelse {
                views.newest = old_newest;
                views.unfill(head, slot.room[0..done]);
                reopen(head, set);
                set.destroy(views.gpa);
                views.putOff(.buffers);
                return null;
            };
            done += 1;
        }

        // Nothing can fail from here on.
        for (slot.room, head.noted, 0..) |view, *noted, i| {
            if (!noted.*) continue;
            noted.* = false;
            const table = &head.tables[i];
            table.keys.current = view.keys;
            for (table.all, view.all) |*col, buffer| col.current = buffer;
            table.index.changed = false;
            if (before) |b|
                views.retired_tables.appendAssumeCapacity(.{ .view = b.tables[i], .number = i, .last = head.open - 1 });
        }
        slot.tables = slot.room;
        views.taken |= @as(u64, 1) << @intCast(at);
        views.ring_bytes += set.bytes;
        views.ring[@intCast(set.cut % views.ring.len)] = set;
        slot.version = version;
        slot.tick = tick;
        slot.cut = head.open;
        slot.newest = set;
        slot.kept = null;
        slot.state = .held;
        views.trimRing(head.open);
        slot.oldest_cut = views.oldest_cut;
        views.history.settle(views.gpa, head.open, version, &views.retired_sets);
        slot.older = views.history.list;
        const oldest = if (slot.older.len > 0) slot.older[slot.older.len - 1] else views.ring[@intCast(views.oldest_cut % views.ring.len)].?;
        views.oldest_base = @max(views.floor, oldest.version_before);
        views.held = at;
        views.pressure = .none;
        // The cut is sealed, whenever it is shown: a page of it is not written again, and what was freed in
        // it may be handed out in the next, of which it is named as removed before it is named again.
        head.open += 1;
        if (head.freed) for (head.spaces) |*space| space.cut(head.replica);
        head.freed = false;
        return at;
    }

    /// A version was made, and there is no room to show it in.
    pub fn putOff(views: *Views, pressure: Pressure) void {
        views.deferred += 1;
        views.pressure = pressure;
    }

    /// Let readers have the slot that was staged. It is one swap and cannot fail.
    pub fn show(views: *Views, at: usize) void {
        assert(views.held == at);
        const before = views.shown();
        const old = views.root.swap(@as(u64, at) << count_bits, .release);
        if (before) |b| {
            assert(old >> count_bits == views.current);
            b.acquired += old & count_mask;
            b.state = .retired;
        } else {
            // Nobody may acquire before the first publication.
            assert(old & count_mask == 0);
        }
        views.slots[at].state = .current;
        views.held = null;
        views.current = at;
        views.published = true;
    }

    /// Take back the views that were made of noted tables, the first of them.
    fn unfill(views: *Views, head: *Head, tables: []const *TableView) void {
        for (tables, head.noted[0..tables.len], 0..) |view, noted, i| if (noted) views.dismantle(head, i, view);
    }

    /// A view of a table for the cut being published. Null when held views keep too many buffers.
    fn fillTable(
        views: *Views,
        head: *Head,
        number: usize,
        prior: ?*TableView,
        sealed: ?*changes.TableChanges,
    ) error{OutOfMemory}!?*TableView {
        const table = &head.tables[number];
        const view = try views.takeView(number, table);
        const filled = views.fillView(head, number, view, prior, sealed) catch |err| {
            views.destroyView(view);
            return err;
        };
        if (filled) return view;
        views.destroyView(view);
        return null;
    }

    fn fillView(
        views: *Views,
        head: *Head,
        number: usize,
        view: *TableView,
        prior: ?*TableView,
        sealed: ?*changes.TableChanges,
    ) error{OutOfMemory}!bool {
        const table = &head.tables[number];
        const directory = if (prior != null and !table.index.changed) prior.?.directory else fresh: {
            const made = try views.gpa.create(Directory);
            errdefer views.gpa.destroy(made);
            made.* = .{ .refs = 0, .pages = try views.gpa.dupe(?*sparse.Page, table.index.pages.items) };
            break :fresh made;
        };
        directory.refs += 1;
        errdefer dropDirectory(views.gpa, directory);
        const dirty_keys = if (sealed) |changed| &changed.keys else &nothing;
        const keys = try views.fillColumn(head, &table.keys, number, null, table.rows, dirty_keys) orelse {
            dropDirectory(views.gpa, directory);
            return false;
        };
        var filled: usize = 0;
        errdefer {
            for (view.all[0..filled], table.all[0..filled]) |buffer, *col| dropBuffer(views.gpa, col, buffer, head.open);
            dropBuffer(views.gpa, &table.keys, keys, head.open);
        }
        for (table.all, view.all, 0..) |*col, *buffer, f| {
            const dirty = if (sealed) |changed| &changed.all[f] else &nothing;
            buffer.* = try views.fillColumn(head, col, number, f, table.cellsOf(f), dirty) orelse {
                for (view.all[0..filled], table.all[0..filled]) |b, *c| dropBuffer(views.gpa, c, b, head.open);
                dropBuffer(views.gpa, &table.keys, keys, head.open);
                dropDirectory(views.gpa, directory);
                return false;
            };
            filled += 1;
        }
        view.rows = table.rows;
        view.members = head.groups.membersOf(number);
        view.struct_seq = table.struct_seq;
        view.graph_cells = table.graph_cells;
        view.keys = keys;
        view.directory = directory;
        view.born = head.open;
        return true;
    }

    /// The buffer of a column for the cut being published: the current one if nothing changed, else
    /// a spare one brought up to the head by the change sets since it was current.
    fn fillColumn(
        views: *Views,
        head: *Head,
        col: *column.Column,
        table: usize,
        field: ?usize,
        rows: u32,
        dirty: *const changes.DirtySet,
    ) error{OutOfMemory}!?*Buffer {
        if (dirty.isEmpty()) if (col.current) |buffer| {
            buffer.refs += 1;
            return buffer;
        };
        const buffer = try col.takeBuffer(views.gpa, rows, views.buffers_max) orelse return null;
        var room: [limits.ring_cuts_max + 1]*const changes.DirtySet = undefined;
        // The set of this cut is sealed and in the ring already, so the open one is empty.
        const sets = if (buffer.cut == 0) null else views.setsSince(table, field, &.{}, buffer.cut, &room);
        if (sets) |s| col.catchUp(buffer.data, rows, s) else col.copyAll(buffer.data, rows);
        if (buffer.guarded) guard.close(buffer.data, col.head, @as(usize, rows) * col.width);
        buffer.cut = head.open;
        buffer.refs = 1;
        return buffer;
    }

    fn trimRing(views: *Views, newest_cut: u64) void {
        while (true) {
            const kept = newest_cut + 1 - views.oldest_cut;
            if (kept <= 1) return;
            if (kept <= limits.ring_cuts_max and views.ring_bytes <= limits.ring_bytes_max) return;
            const oldest = views.ring[@intCast(views.oldest_cut % views.ring.len)].?;
            // Room was made before publication began: a set that stays in the ring would be lost.
            if (!views.history.take(oldest)) views.retired_sets.appendAssumeCapacity(.{ .set = oldest, .last = newest_cut - 1 });
            views.ring_bytes -= oldest.bytes;
            views.oldest_cut += 1;
        }
    }

    /// Move the open marks of every table into one immutable set.
    fn seal(views: *Views, head: *Head, version: u64, version_before: u64) error{OutOfMemory}!*ChangeSet {
        const set = try views.gpa.create(ChangeSet);
        errdefer views.gpa.destroy(set);
        var changed: usize = 0;
        for (head.noted, head.tables) |noted, *table| changed += @intFromBool(noted and table.changed());
        const tables = try views.gpa.alloc(changes.TableChanges, changed);
        changed = 0;
        for (head.noted, head.tables, 0..) |noted, *table, number| if (noted and table.changed()) {
            tables[changed] = .{ .number = @intCast(number) };
            changed += 1;
        };
        set.* = .{
            .cut = head.open,
            .version = version,
            .version_before = version_before,
            .tables = tables,
            .bytes = @sizeOf(ChangeSet) + tables.len * @sizeOf(changes.TableChanges),
            .prev = null,
        };
        errdefer {
            for (tables) |*table| {
                views.gpa.free(table.removed);
                views.gpa.free(table.inserted);
                views.gpa.free(table.all);
            }
            views.gpa.free(tables);
        }
        for (tables) |*into| {
            const table = &head.tables[into.number];
            into.all = try views.gpa.alloc(changes.DirtySet, table.all.len);
            @memset(into.all, .{});
            into.columns = into.all[0..table.columns.len];
            into.shown = table.rowsChanged();
        }
        for (tables) |*into| {
            const table = &head.tables[into.number];
            into.removed = try netKeys(views.gpa, table, table.removed.items, false);
            into.inserted = try netKeys(views.gpa, table, table.inserted.items, true);
        }
        // Nothing can fail from here on.
        for (tables) |*into| {
            const table = &head.tables[into.number];
            for (table.all, into.all, 0..) |*col, *dirty, i| {
                dirty.* = col.dirty;
                col.dirty = .{};
                dirty.seal(views.gpa, table.cellsOf(i));
                set.bytes += dirty.bytes() + @sizeOf(changes.DirtySet);
            }
            into.keys = table.keys.dirty;
            table.keys.dirty = .{};
            into.keys.seal(views.gpa, table.rows);
            set.bytes += into.keys.bytes() + (into.removed.len + into.inserted.len) * 8;
            table.removed.items.len = 0;
            table.inserted.items.len = 0;
            if (table.removed.capacity > 1 << 16) table.removed.clearAndFree(views.gpa);
            if (table.inserted.capacity > 1 << 16) table.inserted.clearAndFree(views.gpa);
        }
        return set;
    }
};

const nothing: changes.DirtySet = .{};

/// Publication was put off: the sealed marks are open again. Keys come back net and sorted, which
/// is as good: the next seal nets them once more.
fn reopen(head: *Head, set: *ChangeSet) void {
    for (set.tables) |*from| {
        const table = &head.tables[from.number];
        for (table.all, from.all) |*col, *dirty| {
            if (col.dirty.isEmpty()) {
                col.dirty = dirty.*;
                dirty.* = .{};
            }
        }
        if (table.keys.dirty.isEmpty()) {
            table.keys.dirty = from.keys;
            from.keys = .{};
        }
        if (table.removed.items.len == 0) {
            table.removed.deinit(table.gpa);
            table.removed = .fromOwnedSlice(from.removed);
            from.removed = &.{};
        }
        if (table.inserted.items.len == 0) {
            table.inserted.deinit(table.gpa);
            table.inserted = .fromOwnedSlice(from.inserted);
            from.inserted = &.{};
        }
    }
}

/// Sorted, unique keys of an open list that the head confirms: inserted ones it has, removed ones it
/// has not.
fn netKeys(gpa: std.mem.Allocator, table: *const Table, list: []const u64, present: bool) error{OutOfMemory}![]u64 {
    // No delta names them: to keep them would cost those who are behind their history.
    if (table.spec.kind == .event) return &.{};
    var kept: std.ArrayList(u64) = .empty;
    errdefer kept.deinit(gpa);
    if (present and table.removed.items.len == 0) {
        // Undone insertions left the list, so without a removal all of it is there.
        try memory.reserve(u64, gpa, &kept, list.len);
        memory.touch(std.mem.sliceAsBytes(kept.allocatedSlice()));
        kept.appendSliceAssumeCapacity(list);
    } else for (list) |key| {
        if ((table.find(key) != null) == present) try kept.append(gpa, key);
    }
    sortUnique(&kept);
    return kept.toOwnedSlice(gpa);
}

pub fn sortUnique(list: *std.ArrayList(u64)) void {
    const items = list.items;
    if (items.len < 2) return;
    // Bulk removal goes through its keys backwards, so that no row has to move.
    if (changes.keyByIndex({}, items[items.len - 1], items[0])) std.mem.reverse(u64, items);
    if (!std.sort.isSorted(u64, items, {}, changes.keyByIndex)) std.sort.pdq(u64, items, {}, changes.keyByIndex);
    var kept: usize = 1;
    for (items[1..]) |key| {
        if (key == items[kept - 1]) continue;
        items[kept] = key;
        kept += 1;
    }
    list.items.len = kept;
}

fn dropBuffer(gpa: std.mem.Allocator, col: *column.Column, buffer: *Buffer, open: u64) void {
    buffer.refs -= 1;
    if (buffer.refs > 0) return;
    if (col.current == buffer) col.current = null;
    // Filled for a publication that was put off: the open cut goes on, so what it holds has no name.
    if (buffer.cut == open) buffer.cut = 0;
    col.giveBack(gpa, buffer);
}

fn dropDirectory(gpa: std.mem.Allocator, directory: *Directory) void {
    directory.refs -= 1;
    if (directory.refs > 0) return;
    gpa.free(directory.pages);
    gpa.destroy(directory);
}
