//! Finding what the rules find in one version, and what of it came and went since the version before.
//!
//! Rules of two sorts are asked separately. Those that find for one client (owned, near, shown by hand) are asked for each
//! audience; those that find the same for everybody (always, query) once for all that have them (`shared.zig`). What is
//! related to what was found is followed from either, until nothing is added; where an audience meets what is shared,
//! everything behind it is shared too.
//!
//! Marks make it cheap. `new` says of a key's index which rules have found it, so nothing is found twice; `old` says what
//! found it last time, which is what hysteresis asks, and whether it was found at all, which is the difference.
//!
//! Invariants:
//! - marks are zero between two findings;
//! - one that fails leaves the lists and the log as they were, and has to be followed by `Workspace.wipe`;
//! - what several rules find is there while one of them finds it.

const std = @import("std");
const assert = std.debug.assert;
const plan_file = @import("plan.zig");
const related = @import("related.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Audience = @import("audience.zig").Audience;
const Head = @import("head.zig").Head;
const Met = @import("crowd.zig").Met;
const Owners = @import("owners.zig").Owners;
const Plan = plan_file.Plan;
const Rule = plan_file.Rule;
const State = @import("shared.zig").State;

/// In `Mark.old`, beside what found it: it was found.
const seen: u64 = 1 << 63;

pub const Mark = struct { old: u64 = 0, new: u64 = 0 };

/// What was found of one list.
const Found = struct {
    /// Those that were not found before, each once.
    came: std.ArrayList(u64) = .empty,
    /// Those whose relations are still to be followed.
    work: std.ArrayList(u64) = .empty,
};

/// Memory that one finding after the other works in.
pub const Workspace = struct {
    gpa: std.mem.Allocator,
    /// By table, by the index of a key.
    marks: []std.ArrayList(Mark),
    /// By list.
    found: std.ArrayList(Found) = .empty,
    /// Of a search.
    met: Met = .{},
    scratch: std.heap.ArenaAllocator,

    pub fn init(gpa: std.mem.Allocator, tables: usize) error{OutOfMemory}!Workspace {
        const marks = try gpa.alloc(std.ArrayList(Mark), tables);
        @memset(marks, .empty);
        return .{ .gpa = gpa, .marks = marks, .scratch = .init(gpa) };
    }

    pub fn deinit(space: *Workspace) void {
        const gpa = space.gpa;
        for (space.marks) |*marks| marks.deinit(gpa);
        gpa.free(space.marks);
        for (space.found.items) |*found| {
            found.came.deinit(gpa);
            found.work.deinit(gpa);
        }
        space.found.deinit(gpa);
        space.met.deinit(gpa);
        space.scratch.deinit();
    }

    /// Have room for so many lists.
    pub fn ensureLists(space: *Workspace, lists: usize) error{OutOfMemory}!void {
        while (space.found.items.len < lists) try space.found.append(space.gpa, .{});
    }

    /// Have a mark for every key of a version.
    pub fn follow(space: *Workspace, head: *const Head, slot: *const view.Slot) error{OutOfMemory}!void {
        for (space.marks, slot.tables, head.tables) |*marks, of, *table| {
            if (table.spec.kind != .entities and table.spec.kind != .keyed) continue;
            const cells = of.pages().len * @import("limits.zig").page_entities;
            if (cells > marks.items.len) try marks.appendNTimes(space.gpa, .{}, cells - marks.items.len);
        }
    }

    /// Take back the marks of a finding that failed.
    pub fn wipe(space: *Workspace) void {
        for (space.marks) |*marks| @memset(marks.items, .{});
    }
};

/// Of what is found, and where: the same for all findings of an update.
pub const Scene = struct {
    space: *Workspace,
    rules: []Rule,
    owners: *const Owners,
    head: *const Head,
    slot: *const view.Slot,
};

pub const Finding = struct {
    in: Scene,
    plan: *const Plan,
    /// By list, as they were in the version before; the first is that of the entities.
    lists: []visible.List,
    log: *visible.Log,
    /// The version before; null where there was none, and nobody is told what came.
    version: ?u64,
    /// For whom, and what is shared with others. Null to find what is shared.
    one: ?struct { audience: *Audience, handle: u32, shared: ?*const State },

    /// Find anew. The lists are of `slot` then, and the log says what came and went.
    pub fn run(f: *Finding) error{OutOfMemory}!void {
        for (f.in.space.found.items) |*found| {
            found.came.items.len = 0;
            found.work.items.len = 0;
        }
        for (f.plan.lists, f.lists, 0..) |table, *list, at| if (at != f.plan.inner) f.recall(table, list);
        for (f.in.rules, 0..) |*rule, r| if (f.plan.has(r)) {
            const by = @as(u64, 1) << @intCast(r);
            if (f.one == null) try f.rootOfAll(rule, by) else try f.rootOfOne(rule, r, by);
        };
        if (f.one) |one| for (one.audience.revealed) |key| try f.addLiving(0, key, plan_file.by_hand);
        try f.relate();
        try f.settle();
        f.log.bound();
    }

    /// Mark what a list has and what found it, but for what is gone.
    fn recall(f: *Finding, table: u16, list: *const visible.List) void {
        const of = f.in.slot.tables[table];
        const marks = f.in.space.marks[table].items;
        if (list.struct_seq == of.struct_seq) {
            for (list.keys.items, list.by.items) |key, by| marks[@as(u32, @truncate(key))].old = by | seen;
            return;
        }
        for (list.keys.items, list.by.items) |key, by| {
            if (of.find(key) != null) marks[@as(u32, @truncate(key))].old = by | seen;
        }
    }

    inline fn add(f: *Finding, list: u8, key: u64, by: u64) error{OutOfMemory}!void {
        return f.addTo(list, &f.in.space.marks[f.plan.lists[list]].items[@as(u32, @truncate(key))], key, by);
    }

    inline fn addTo(f: *Finding, list: u8, mark: *Mark, key: u64, by: u64) error{OutOfMemory}!void {
        const before = mark.new;
        if (before & by != 0) return;
        mark.new = before | by;
        const found = &f.in.space.found.items[list];
        if (before == 0 and mark.old == 0) try found.came.append(f.in.space.gpa, key);
        // Found for the sake of another row first, it has relations of its own now.
        if (f.plan.relations.len > 0 and (before == 0 or before == plan_file.by_base) and !f.isFollowed(list, key))
            try found.work.append(f.in.space.gpa, key);
    }

    /// Whether everything that is related to it is shared.
    fn isFollowed(f: *const Finding, list: u8, key: u64) bool {
        const one = f.one orelse return false;
        const state = one.shared orelse return false;
        return state.lists[list].foundBy(key) & ~plan_file.by_base != 0;
    }

    fn addLiving(f: *Finding, list: u8, key: u64, by: u64) error{OutOfMemory}!void {
        if (f.in.slot.tables[f.plan.lists[list]].find(key) != null) try f.add(list, key, by);
    }

    // The rules.

    fn rootOfOne(f: *Finding, rule: *Rule, r: usize, by: u64) error{OutOfMemory}!void {
        const one = f.one.?;
        const audience = one.audience;
        switch (rule.kind) {
            .owned => for (f.in.owners.of(audience.owner)) |key| try f.add(0, key, by),
            .near => {
                const turn = (f.in.slot.version + one.handle) / rule.every;
                const again = audience.due or turn != audience.turns[r];
                audience.turns[r] = turn;
                if (again) try f.near(rule, by) else try f.stay(by);
            },
            .query, .always, .related => {},
        }
    }

    fn rootOfAll(f: *Finding, rule: *Rule, by: u64) error{OutOfMemory}!void {
        switch (rule.kind) {
            .query => {
                const list = f.plan.list_of[rule.tables[0]] orelse 0;
                for (rule.found.items) |key| try f.addLiving(list, key, by);
            },
            .always => for (rule.tables) |table| {
                if (f.in.head.tables[table].spec.kind == .keyed) continue;
                for (f.in.slot.tables[table].keyList()) |key| try f.add(0, key, plan_file.by_base);
            },
            .owned, .near, .related => {},
        }
    }

    /// What a rule found before, since it is not its turn.
    fn stay(f: *Finding, by: u64) error{OutOfMemory}!void {
        const marks = f.in.space.marks[0].items;
        for (f.lists[0].keys.items, f.lists[0].by.items) |key, known| {
            // Where the mark is not of this key, it is gone.
            if (known & by != 0 and marks[@as(u32, @truncate(key))].old & by != 0) try f.add(0, key, by);
        }
    }

    /// Who is near enough to stay, and of those who is near enough to come or was here before.
    fn near(f: *Finding, rule: *Rule, by: u64) error{OutOfMemory}!void {
        const met = &f.in.space.met;
        met.clear();
        for (f.one.?.audience.focus) |key| try rule.place.?.around(f.in.slot, key, rule.leave, met);
        const enter = rule.radius * rule.radius;
        const marks = f.in.space.marks[0].items;
        if (f.plan.relations.len > 0) {
            for (met.keys.items, met.squares.items) |key, apart| {
                const mark = &marks[@as(u32, @truncate(key))];
                if (apart <= enter or mark.old & by != 0) try f.addTo(0, mark, key, by);
            }
            return;
        }
        const found = &f.in.space.found.items[0];
        try found.came.ensureUnusedCapacity(f.in.space.gpa, met.keys.items.len);
        const came = found.came.items.ptr;
        var n = found.came.items.len;
        for (met.keys.items, met.squares.items) |key, apart| {
            const mark = &marks[@as(u32, @truncate(key))];
            // No branches: which way they go would be guessed wrong too often.
            const here = @intFromBool(apart <= enter) | @intFromBool(mark.old & by != 0);
            came[n] = key;
            n += here & @intFromBool(mark.new | mark.old == 0);
            mark.new |= by & (0 -% @as(u64, here));
        }
        found.came.items.len = n;
    }

    // Relations.

    fn relate(f: *Finding) error{OutOfMemory}!void {
        const plan = f.plan;
        if (f.one == null) for (plan.relations) |r| {
            // Of a table that is always seen every row counts, found or not.
            const source = f.in.rules[r].source();
            if (!plan.always[source] or f.in.head.tables[source].spec.kind != .keyed) continue;
            for (f.in.slot.tables[source].keyList()) |key| try f.along(r, key);
        };
        var more = true;
        while (more) {
            more = false;
            for (f.in.space.found.items[0..plan.lists.len], 0..) |*found, list| {
                while (found.work.pop()) |key| {
                    more = true;
                    for (plan.relations) |r| if (f.starts(r, @intCast(list), key)) try f.along(r, key);
                }
            }
        }
    }

    /// Whether a rule goes on from what a list has found.
    fn starts(f: *const Finding, r: u8, list: u8, key: u64) bool {
        const plan = f.plan;
        const source = f.in.rules[r].source();
        const kind = f.in.head.tables[source].spec.kind;
        if (kind == .keyed) return plan.list_of[source] == list;
        if (list != 0) return false;
        // A component row that is seen: with its entity, or always.
        if (kind == .entities or plan.always[source]) return true;
        return f.in.space.marks[0].items[@as(u32, @truncate(key))].new != plan_file.by_base;
    }

    fn along(f: *Finding, r: u8, key: u64) error{OutOfMemory}!void {
        const rule = &f.in.rules[r];
        const link = rule.link.?;
        const to = if (rule.referred) link.target else link.table;
        const list = f.plan.list_of[to] orelse 0;
        const by = @as(u64, 1) << @intCast(r);
        var it: related.Neighbours = .inView(f.in.slot, link, !rule.referred, key);
        while (it.next()) |other| try f.addLiving(list, other, by);
    }

    // The difference.

    fn settle(f: *Finding) error{OutOfMemory}!void {
        const plan = f.plan;
        const gpa = f.in.space.gpa;
        // Everything that can fail comes first.
        var changes: usize = 0;
        for (f.lists, f.in.space.found.items[0..plan.lists.len], 0..) |*list, *found, at| {
            // Of one client everything that is found counts: what is seen for the sake of other rows is shared.
            if (at == plan.inner and f.one != null) continue;
            const of = if (at == plan.inner) 0 else at;
            const most = f.lists[of].keys.items.len + f.in.space.found.items[of].came.items.len;
            changes += list.keys.items.len + most;
            try list.keys.ensureTotalCapacity(gpa, most);
            try list.by.ensureTotalCapacity(gpa, most);
            try found.work.ensureTotalCapacity(gpa, list.keys.items.len + 1);
        }
        const log = &f.log.entries;
        // Most of it would be for a crowd that came and went at once.
        if (log.capacity - log.items.len < changes) try log.ensureUnusedCapacity(gpa, changes);
        defer _ = f.in.space.scratch.reset(.retain_capacity);
        const before: []const u64 = if (plan.inner) |inner| try f.in.space.scratch.allocator().dupe(u64, f.lists[inner].keys.items) else &.{};

        if (f.version == null) f.log.floor = f.in.slot.version;
        for (plan.lists, 0..) |table, at| if (at != plan.inner) f.settleList(table, @intCast(at));
        if (f.one == null) if (plan.inner) |inner| f.settleInner(@intCast(inner), before);
    }

    fn settleList(f: *Finding, table: u16, at: u8) void {
        const list = &f.lists[at];
        const marks = f.in.space.marks[table].items;
        const found = &f.in.space.found.items[at];
        const went = sift(list, marks, &found.work);
        const of = f.in.slot.tables[table];
        for (went) |key| {
            const gone = list.struct_seq != of.struct_seq and of.find(key) == null;
            f.note(at, key, if (gone) .removed else .left);
        }
        const came = found.came.items;
        if (came.len > 0) {
            std.sort.pdq(u64, came, {}, byIndex);
            merge(&list.keys, &list.by, came, marks);
            for (came) |key| {
                f.note(at, key, .entered);
                marks[@as(u32, @truncate(key))].new = 0;
            }
        }
        list.struct_seq = of.struct_seq;
    }

    /// Those of the first list that are not seen for the sake of other rows alone. `before` are those it had.
    fn settleInner(f: *Finding, at: u8, before: []const u64) void {
        const all = &f.lists[0];
        const list = &f.lists[at];
        const of = f.in.slot.tables[0];
        list.keys.items.len = 0;
        list.by.items.len = 0;
        var next: usize = 0;
        for (all.keys.items, all.by.items) |key, by| {
            if (by & ~plan_file.by_base == 0) continue;
            list.keys.appendAssumeCapacity(key);
            list.by.appendAssumeCapacity(by);
            while (next < before.len and byIndex({}, before[next], key)) : (next += 1) f.noteGone(at, of, before[next]);
            if (next < before.len and before[next] == key) {
                next += 1;
                continue;
            }
            f.note(at, key, .entered);
        }
        for (before[next..]) |key| f.noteGone(at, of, key);
    }

    fn noteGone(f: *Finding, list: u8, of: *const view.TableView, key: u64) void {
        f.note(list, key, if (of.find(key) == null) .removed else .left);
    }

    fn note(f: *Finding, list: u8, key: u64, change: visible.Change) void {
        // Before the first version nobody was told anything.
        if (f.version == null) return;
        f.log.entries.appendAssumeCapacity(.{ .version = f.in.slot.version, .key = key, .list = list, .change = change });
    }
};

/// Keep in a list what was found again, and forget its marks. Returns who went, in memory of `room`, which has room for
/// one more than the list. The mark of one that is gone was not set, and what its index has found is somebody else, who came.
fn sift(list: *visible.List, marks: []Mark, room: *std.ArrayList(u64)) []const u64 {
    const keys = list.keys.items;
    const by = list.by.items;
    assert(room.items.len == 0 and room.capacity > keys.len);
    const went = room.items.ptr;
    var kept: usize = 0;
    var lost: usize = 0;
    // Up to the first that is not found as before nothing is written: lists of a thousand clients are memory to carry.
    while (kept < keys.len) : (kept += 1) {
        const mark = &marks[@as(u32, @truncate(keys[kept]))];
        if (mark.old == 0 or mark.new != by[kept]) break;
        mark.* = .{};
    }
    for (keys[kept..], kept..) |key, i| {
        const mark = &marks[@as(u32, @truncate(key))];
        const here = mark.old != 0 and mark.new != 0;
        keys[kept] = key;
        by[kept] = mark.new;
        went[lost] = key;
        kept += @intFromBool(here);
        lost += @intFromBool(!here);
        assert(kept + lost == i + 1);
        mark.new = if (mark.old != 0) 0 else mark.new;
        mark.old = 0;
    }
    list.keys.items.len = kept;
    list.by.items.len = kept;
    return went[0..lost];
}

/// Put what came between what stayed, both by index.
fn merge(keys: *std.ArrayList(u64), by: *std.ArrayList(u64), came: []const u64, marks: []const Mark) void {
    var from = keys.items.len;
    var next = came.len;
    keys.items.len += came.len;
    by.items.len += came.len;
    var to = keys.items.len;
    while (next > 0) {
        to -= 1;
        if (from > 0 and byIndex({}, came[next - 1], keys.items[from - 1])) {
            from -= 1;
            keys.items[to] = keys.items[from];
            by.items[to] = by.items[from];
        } else {
            next -= 1;
            keys.items[to] = came[next];
            by.items[to] = marks[@as(u32, @truncate(came[next]))].new;
        }
    }
}

fn byIndex(_: void, a: u64, b: u64) bool {
    return @as(u32, @truncate(a)) < @as(u32, @truncate(b));
}
