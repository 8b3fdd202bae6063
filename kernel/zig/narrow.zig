//! A delta narrowed to what one client sees: which rows of a table it names, from a client's lists and from what changed.
//!
//! What is said of a list's table:
//! - a row that came into sight since the base is sent whole, whether it is new or not;
//! - one that went out of sight has *left*, even if it came in since the base too: whoever reads may hold any
//!   version since; one that is gone while it was in sight is removed;
//! - of the others in sight, what changed.
//!
//! A component row goes with its entity, so nothing is said of the rows of entities that have left or are gone.

const std = @import("std");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const delta = @import("delta.zig");
const section = @import("section.zig");
const since_file = @import("since.zig");
const sparse = @import("sparse.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Changed = since_file.Changed;
const Column = since_file.Column;
const Item = block.Item;
const Since = since_file.Since;
const isHidden = @import("wire_section.zig").isHidden;

pub const Narrow = struct {
    sight: *const visible.Sight,
    /// By list: what came and went since the base.
    told: []const visible.Told,
    /// By list: what is seen and told of it is what others are told who share it.
    alike: []const bool,

    pub fn init(a: std.mem.Allocator, since: *Since, sight: *const visible.Sight) error{OutOfMemory}!Narrow {
        const told = try a.alloc(visible.Told, sight.lists.len);
        const alike = try a.alloc(bool, sight.lists.len);
        @memset(alike, false);
        const shared = if (sight.shared) |log| try since.toldOf(log, sight.version, told.len) else null;
        const asleep = if (sight.shared) |log| since.base != 0 and since.base >= sight.before and log.hasAny(since.base, sight.version - 1) else false;
        for (told, sight.lists, alike, 0..) |*to, *seen, *is_alike, list| {
            // Of the list of components' entities the client's own part is that of the first.
            const own: u8 = if (seen.own == sight.lists[0].own) 0 else @intCast(list);
            const mine: visible.Told = if (since.base == 0) .{} else try sight.log.since(a, since.base, sight.version, own);
            to.* = mine;
            const all = shared orelse continue;
            const theirs = if (asleep) try endings(a, since.slot.tables[sight.tables[list]], &all[list]) else all[list];
            to.* = try .join(a, seen, &mine, &theirs);
            is_alike.* = since.keeps and to.is(&all[list]) and seen.isShared();
        }
        return .{ .sight = sight, .told = told, .alike = alike };
    }

    /// The rows of a table whose rows are those of a list; false when there is nothing to say of it.
    pub fn rows(
        narrow: *const Narrow,
        a: std.mem.Allocator,
        since: *Since,
        number: usize,
        spec: *const catalogue.Table,
        hidden: []const u64,
        found: *delta.Rows,
    ) error{OutOfMemory}!bool {
        const at = narrow.sight.scopes[number].listed;
        const list = &narrow.sight.lists[at];
        const told = &narrow.told[at];
        const of = since.slot.tables[number];
        if (since.base == 0) {
            found.inserted = (try since_file.present(a, of, try list.keys(a))).items;
            return found.inserted.len > 0;
        }
        const changed = try since.table(number, spec);
        if (changed == null and told.entered.len == 0 and told.left.len == 0 and told.removed.len == 0) return false;
        if (spec.kind == .component) {
            found.removed = try removedRows(a, of, list, changed);
            if (at != 0) found.left = try narrow.leftRows(a, of, list, told, changed);
        } else {
            found.removed = try outOf(a, list, told.removed, told.left);
            found.left = try outOf(a, list, told.left, told.removed);
        }
        if (told.entered.len > 0 or (changed != null and changed.?.come.len > 0))
            try inserted(a, of, list, told, changed, found);
        if (changed) |c| try columns(a, since, c, list, told, hidden, found);
        return true;
    }

    /// Component rows of entities that are in sight and have lost them.
    fn removedRows(a: std.mem.Allocator, of: *const view.TableView, list: *const visible.Seen, changed: ?*const Changed) error{OutOfMemory}![]Item {
        var items: std.ArrayList(Item) = .empty;
        const gone = if (changed) |c| c.gone else return items.items;
        for (gone) |key| {
            const index: u32 = @truncate(key);
            if (!list.has(key) or sparse.find(of.pages(), index) != null) continue;
            try items.append(a, .{ .index = index, .row = 0 });
        }
        return items.items;
    }

    /// Component rows that went out of sight of entities that did not.
    fn leftRows(
        narrow: *const Narrow,
        a: std.mem.Allocator,
        of: *const view.TableView,
        list: *const visible.Seen,
        told: *const visible.Told,
        changed: ?*const Changed,
    ) error{OutOfMemory}![]Item {
        var items: std.ArrayList(Item) = .empty;
        for (told.left) |key| {
            const index: u32 = @truncate(key);
            if (list.hasIndex(index) or !narrow.sight.lists[0].has(key)) continue;
            const was = if (changed) |c| visible.hasKey(c.gone, key) else false;
            if (was or of.find(key) != null) try items.append(a, .{ .index = index, .row = 0 });
        }
        return items.items;
    }
};

/// For one who did not look meanwhile, what went out of sight and is gone by now was in sight until it was gone.
fn endings(a: std.mem.Allocator, of: *const view.TableView, told: *const visible.Told) error{OutOfMemory}!visible.Told {
    var left: std.ArrayList(u64) = .empty;
    var removed: std.ArrayList(u64) = .empty;
    try removed.appendSlice(a, told.removed);
    for (told.left) |key| try (if (of.find(key) == null) &removed else &left).append(a, key);
    std.sort.pdq(u64, removed.items, {}, changes.keyByIndex);
    return .{ .entered = told.entered, .left = left.items, .removed = removed.items };
}

/// Keys that are out of a list, and no other of their index is in it. Of several of one index the newest is told, in
/// these or in those that went the other way: rows are named by their index, and a reader may hold that one.
fn outOf(a: std.mem.Allocator, list: *const visible.Seen, keys: []const u64, others_gone: []const u64) error{OutOfMemory}![]Item {
    var items: std.ArrayList(Item) = .empty;
    for (keys) |key| {
        const index: u32 = @truncate(key);
        if (list.hasIndex(index)) continue;
        if (items.items.len > 0 and items.items[items.items.len - 1].index == index) continue;
        if (newestOf(others_gone, index) > newestOf(keys, index)) continue;
        try items.append(a, .{ .index = index, .row = 0 });
    }
    return items.items;
}

/// The highest key of an index, 0 for none.
fn newestOf(keys: []const u64, index: u32) u64 {
    var key: u64 = 0;
    for (keys[visible.place(keys, index)..]) |one| {
        if (@as(u32, @truncate(one)) != index) break;
        key = @max(key, one);
    }
    return key;
}

/// Rows that came into sight, and new rows of what was in sight: by index, each once.
fn inserted(
    a: std.mem.Allocator,
    of: *const view.TableView,
    list: *const visible.Seen,
    told: *const visible.Told,
    changed: ?*const Changed,
    found: *delta.Rows,
) error{OutOfMemory}!void {
    var items: std.ArrayList(Item) = .empty;
    var entered: std.ArrayList(u32) = .empty;
    const come = if (changed) |c| c.come else &.{};
    var next: usize = 0;
    for (told.entered) |key| {
        const index: u32 = @truncate(key);
        while (next < come.len and come[next].index < index) : (next += 1) {
            if (list.hasIndex(come[next].index)) try items.append(a, come[next]);
        }
        const new = next < come.len and come[next].index == index;
        if (new) next += 1;
        const row = of.find(key) orelse continue;
        try items.append(a, .{ .index = index, .row = row });
        if (!new) try entered.append(a, index);
    }
    for (come[next..]) |item| if (list.hasIndex(item.index)) try items.append(a, item);
    found.inserted = items.items;
    found.entered = entered.items;
}

/// What changed of the rows in sight that were in sight before.
fn columns(
    a: std.mem.Allocator,
    since: *Since,
    changed: *Changed,
    list: *const visible.Seen,
    told: *const visible.Told,
    hidden: []const u64,
    found: *delta.Rows,
) error{OutOfMemory}!void {
    var seen: ?[]const Item = null;
    var items: []const Item = &.{};
    var passed = false;
    for (changed.columns, 0..) |*maybe, f| {
        const column = if (maybe.*) |*c| c else continue;
        if (!column.same) passed = true;
        if (isHidden(hidden, f)) continue;
        if (passed) {
            // Few that changed are looked up among those in sight, and the other way round.
            if (column.count * 4 < list.most()) {
                items = try meet(a, try since.itemsOf(changed.of, column), list, told);
            } else {
                const all = seen orelse try others(a, changed, list, told);
                seen = all;
                found.others = all.len;
                // Mostly everything has moved or next to nothing.
                items = if (column.count + changed.come.len == changed.of.rows) all else try marked(a, all, column.marks);
            }
        }
        if (items.len > 0) try found.columns.append(a, .{ .field = @intCast(f), .items = items, .same = !passed });
        passed = false;
    }
}

/// The rows in sight that are not sent whole.
fn others(a: std.mem.Allocator, changed: *const Changed, list: *const visible.Seen, told: *const visible.Told) error{OutOfMemory}![]const Item {
    var items: std.ArrayList(Item) = .empty;
    const seen = try list.keys(a);
    try items.ensureTotalCapacityPrecise(a, seen.len);
    var entered: usize = 0;
    const keys = changed.of.keyList();
    var guess: u32 = 0;
    var before: u32 = 0;
    for (seen) |key| {
        const index: u32 = @truncate(key);
        if (entered < told.entered.len and told.entered[entered] == key) {
            entered += 1;
            continue;
        }
        // Rows that came together are as far from each other as their indices.
        guess +%= index - before;
        before = index;
        const row = if (guess < keys.len and keys[guess] == key) guess else sparse.find(changed.of.pages(), index) orelse continue;
        guess = row;
        if (changed.come.len > 0 and changed.isNew(index)) continue;
        items.appendAssumeCapacity(.{ .index = index, .row = row });
    }
    return items.items;
}

fn marked(a: std.mem.Allocator, all: []const Item, marks: []const u64) error{OutOfMemory}![]const Item {
    const items = try a.alloc(Item, all.len);
    var n: usize = 0;
    for (all) |item| {
        items[n] = item;
        n += @intFromBool(marks[item.row / 64] >> @intCast(item.row & 63) & 1 == 1);
    }
    return items[0..n];
}

fn meet(a: std.mem.Allocator, few: []const Item, list: *const visible.Seen, told: *const visible.Told) error{OutOfMemory}![]const Item {
    const items = try a.alloc(Item, few.len);
    var n: usize = 0;
    for (few) |item| {
        if (!list.hasIndex(item.index) or told.hasEntered(item.index)) continue;
        items[n] = item;
        n += 1;
    }
    return items[0..n];
}
