//! Interest: what each client sees of the world, by rules, in one version after the other.
//!
//! An update finds a client's entities and rows anew from the rules: owned, near, found by a query, shown by hand, and
//! related to any of these, until nothing is added. It then compares with what was seen before: what came and what went
//! is in the client's log, from which deltas are narrowed (`narrow.zig`).
//!
//! Marks make both cheap. `new` says of a key's index which rules have found it, so nothing is found twice; `old` says
//! what found it last time, which is what hysteresis asks, and whether it was seen at all, which is the difference.
//!
//! Invariants:
//! - marks are zero between two clients;
//! - a client whose update fails sees what it saw, at the version that it was of;
//! - what several rules find is seen while one of them does.

const std = @import("std");
const assert = std.debug.assert;
const audience_file = @import("audience.zig");
const failure = @import("failure.zig");
const graph = @import("graph.zig");
const limits = @import("limits.zig");
const plan_file = @import("plan.zig");
const related = @import("related.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Audience = audience_file.Audience;
const Head = @import("head.zig").Head;
const Met = @import("crowd.zig").Met;
const Plan = plan_file.Plan;
const Rule = plan_file.Rule;

/// In `Marks.old`, beside what found it: it was seen.
const seen: u64 = 1 << 63;

const Mark = struct { old: u64 = 0, new: u64 = 0 };

/// By the index of a key.
const Marks = std.ArrayList(Mark);

/// What an update has found of one list.
const Found = struct {
    /// Those that were not seen before, each once.
    came: std.ArrayList(u64) = .empty,
    /// Those whose relations are still to be followed.
    work: std.ArrayList(u64) = .empty,
};

pub const Interest = struct {
    gpa: std.mem.Allocator,
    arena: std.heap.ArenaAllocator,
    profiles: []const visible.Profile,
    rules: []Rule,
    /// By table: the reference that its rows are tied along.
    ties: []const ?*const graph.Link = &.{},
    plans: std.ArrayList(*Plan) = .empty,
    audiences: std.ArrayList(?*Audience) = .empty,
    free: std.ArrayList(u32) = .empty,
    /// By table.
    marks: []Marks,
    /// By list.
    found: std.ArrayList(Found) = .empty,
    /// The entities of each client that owns any and has an audience; see `follow`.
    owners: std.AutoHashMapUnmanaged(u64, std.ArrayList(u64)) = .empty,
    owners_stamp: ?[2]u64 = null,
    /// Of a search.
    met: Met = .{},
    scratch: std.heap.ArenaAllocator,

    pub fn init(gpa: std.mem.Allocator, tables: usize) error{OutOfMemory}!Interest {
        const marks = try gpa.alloc(Marks, tables);
        @memset(marks, .empty);
        return .{
            .gpa = gpa,
            .arena = .init(gpa),
            .profiles = &.{},
            .rules = &.{},
            .marks = marks,
            .scratch = .init(gpa),
        };
    }

    pub fn deinit(interest: *Interest) void {
        const gpa = interest.gpa;
        for (interest.audiences.items) |maybe| if (maybe) |audience| audience.destroy(gpa);
        interest.audiences.deinit(gpa);
        interest.free.deinit(gpa);
        for (interest.rules) |*rule| {
            if (rule.place) |*place| place.deinit();
            rule.found.deinit(gpa);
        }
        interest.plans.deinit(gpa);
        for (interest.marks) |*marks| marks.deinit(gpa);
        gpa.free(interest.marks);
        for (interest.found.items) |*found| {
            found.came.deinit(gpa);
            found.work.deinit(gpa);
        }
        interest.found.deinit(gpa);
        interest.met.deinit(gpa);
        interest.forgetOwners();
        interest.scratch.deinit();
        interest.arena.deinit();
    }

    // Who there is.

    pub fn open(interest: *Interest, head: *const Head, profile: u32, owner: u64, wanted: u32) failure.Error!u32 {
        if (profile >= interest.profiles.len) return error.BadArgument;
        const all: u32 = @intCast((@as(u64, 1) << @intCast(interest.rules.len)) - 1);
        const plan = try interest.planOf(head, profile, wanted & all);
        try interest.free.ensureTotalCapacity(interest.gpa, interest.audiences.items.len + 1);
        if (interest.free.items.len == 0) try interest.audiences.ensureUnusedCapacity(interest.gpa, 1);
        const audience = try Audience.create(interest.gpa, plan, owner, interest.rules.len);
        interest.owners_stamp = null;
        if (interest.free.pop()) |handle| {
            interest.audiences.items[handle] = audience;
            return handle;
        }
        interest.audiences.appendAssumeCapacity(audience);
        return @intCast(interest.audiences.items.len - 1);
    }

    fn planOf(interest: *Interest, head: *const Head, profile: u32, mask: u32) failure.Error!*Plan {
        for (interest.plans.items) |plan| if (plan.profile == profile and plan.mask == mask) return plan;
        const a = interest.arena.allocator();
        const plan = try a.create(Plan);
        plan.* = try .init(a, &head.catalogue, interest.profiles[profile], profile, interest.rules, mask);
        while (interest.found.items.len < plan.lists.len) try interest.found.append(interest.gpa, .{});
        try interest.plans.append(interest.gpa, plan);
        return plan;
    }

    pub fn close(interest: *Interest, handle: u32) error{BadArgument}!void {
        const audience = try interest.at(handle);
        audience.destroy(interest.gpa);
        interest.audiences.items[handle] = null;
        interest.free.appendAssumeCapacity(handle);
        interest.owners_stamp = null;
    }

    pub fn at(interest: *const Interest, handle: u32) error{BadArgument}!*Audience {
        if (handle >= interest.audiences.items.len) return error.BadArgument;
        return interest.audiences.items[handle] orelse error.BadArgument;
    }

    // What they see.

    /// Bring one after the other to what `slot` shows. On failure those before it in `handles` are there already.
    pub fn update(interest: *Interest, head: *const Head, slot: *const view.Slot, handles: []const u32) failure.Error!void {
        for (handles) |handle| if ((try interest.at(handle)).version) |version| {
            if (version > slot.version) return error.BadArgument;
        };
        try interest.follow(head, slot, handles);
        for (handles, 0..) |handle, turn| {
            Audience.fetch(interest.audiences.items, handles, null, turn, true);
            const audience = interest.audiences.items[handle].?;
            if (audience.version == slot.version) continue;
            if (!audience.plan.governed) {
                audience.version = slot.version;
                continue;
            }
            var one: Update = .{ .interest = interest, .head = head, .slot = slot, .audience = audience, .handle = handle, .related = audience.plan.relations.len > 0 };
            one.run() catch |err| {
                for (interest.marks) |*marks| @memset(marks.items, .{});
                return err;
            };
        }
    }

    /// Bring what all share to a version: the indexes of places, who owns what, room for marks.
    fn follow(interest: *Interest, head: *const Head, slot: *const view.Slot, handles: []const u32) failure.Error!void {
        for (interest.rules) |*rule| if (rule.place) |*place| try place.follow(slot, handles.len);
        for (interest.marks, slot.tables, head.tables) |*marks, of, *table| {
            if (table.spec.kind != .entities and table.spec.kind != .keyed) continue;
            const cells = of.pages().len * limits.page_entities;
            if (cells > marks.items.len) try marks.appendNTimes(interest.gpa, .{}, cells - marks.items.len);
        }
        try interest.followOwners(slot);
    }

    fn followOwners(interest: *Interest, slot: *const view.Slot) error{OutOfMemory}!void {
        const wanted = for (interest.rules) |*rule| {
            if (rule.kind == .owned) break true;
        } else false;
        if (!wanted) return;
        const of = slot.tables[0];
        const stamp: [2]u64 = .{ of.struct_seq, of.columns[0].cut };
        if (interest.owners_stamp) |known| if (std.meta.eql(known, stamp)) return;
        interest.owners_stamp = null;
        interest.forgetOwners();
        for (interest.audiences.items) |maybe| if (maybe) |audience| {
            if (audience.owner != 0) try interest.owners.put(interest.gpa, audience.owner, .empty);
        };
        const owners = @as([*]const u64, @ptrCast(of.columns[0].data.ptr))[0..of.rows];
        for (of.keyList(), owners) |key, owner| {
            if (owner == 0) continue;
            const keys = interest.owners.getPtr(owner) orelse continue;
            try keys.append(interest.gpa, key);
        }
        interest.owners_stamp = stamp;
    }

    fn forgetOwners(interest: *Interest) void {
        var it = interest.owners.valueIterator();
        while (it.next()) |keys| keys.deinit(interest.gpa);
        interest.owners.clearAndFree(interest.gpa);
    }

    /// What a delta is narrowed to; null for one that sees everything there is, and its fields too.
    pub fn sightOf(interest: *const Interest, audience: *Audience) error{BadArgument}!visible.Sight {
        return .{
            .profile = interest.profiles[audience.plan.profile],
            .scopes = audience.plan.scopes,
            .lists = audience.lists,
            .log = &audience.log,
            .version = audience.version orelse return error.BadArgument,
            .budget = if (!audience.hasBudget()) null else .{
                .budget = &audience.budget,
                .weights = .{ .entities = &audience.lists[0], .own = audience.plan.own, .near = audience.plan.near },
                .ties = interest.ties,
            },
        };
    }
};

/// One audience brought to one version.
const Update = struct {
    interest: *Interest,
    head: *const Head,
    slot: *const view.Slot,
    audience: *Audience,
    handle: u32,
    related: bool,

    fn run(u: *Update) error{OutOfMemory}!void {
        const audience = u.audience;
        const plan = audience.plan;
        for (u.interest.found.items) |*found| {
            found.came.items.len = 0;
            found.work.items.len = 0;
        }
        for (plan.lists, audience.lists, 0..) |table, *list, at| if (at != plan.inner) u.recall(table, list);
        for (u.interest.rules, 0..) |*rule, r| if (plan.has(r)) try u.root(rule, r);
        for (audience.revealed) |key| try u.addLiving(0, key, plan_file.by_hand);
        try u.relate();
        try u.settle();
        audience.version = u.slot.version;
        audience.due = false;
        audience.log.bound();
    }

    /// Mark what a list has and what found it, but for what is gone.
    fn recall(u: *Update, table: u16, list: *const visible.List) void {
        const of = u.slot.tables[table];
        const marks = u.interest.marks[table].items;
        if (list.struct_seq == of.struct_seq) {
            for (list.keys.items, list.by.items) |key, by| marks[@as(u32, @truncate(key))].old = by | seen;
            return;
        }
        for (list.keys.items, list.by.items) |key, by| {
            if (of.find(key) != null) marks[@as(u32, @truncate(key))].old = by | seen;
        }
    }

    inline fn add(u: *Update, list: u8, key: u64, by: u64) error{OutOfMemory}!void {
        return u.addTo(&u.interest.found.items[list], &u.interest.marks[u.audience.plan.lists[list]].items[@as(u32, @truncate(key))], key, by);
    }

    inline fn addTo(u: *Update, found: *Found, mark: *Mark, key: u64, by: u64) error{OutOfMemory}!void {
        const before = mark.new;
        if (before & by != 0) return;
        mark.new = before | by;
        if (before == 0 and mark.old == 0) try found.came.append(u.interest.gpa, key);
        // Found for the sake of another row first, it has relations of its own now.
        if (u.related and (before == 0 or before == plan_file.by_base)) try found.work.append(u.interest.gpa, key);
    }

    fn addLiving(u: *Update, list: u8, key: u64, by: u64) error{OutOfMemory}!void {
        if (u.slot.tables[u.audience.plan.lists[list]].find(key) != null) try u.add(list, key, by);
    }

    fn root(u: *Update, rule: *Rule, r: usize) error{OutOfMemory}!void {
        const by = @as(u64, 1) << @intCast(r);
        switch (rule.kind) {
            .owned => if (u.audience.owner != 0) if (u.interest.owners.get(u.audience.owner)) |keys| {
                for (keys.items) |key| try u.add(0, key, by);
            },
            .near => {
                const turn = (u.slot.version + u.handle) / rule.every;
                const again = u.audience.due or turn != u.audience.turns[r];
                u.audience.turns[r] = turn;
                if (again) try u.near(rule, by) else try u.stay(by);
            },
            .query => {
                const list = u.audience.plan.list_of[rule.tables[0]] orelse 0;
                for (rule.found.items) |key| try u.addLiving(list, key, by);
            },
            .always => for (rule.tables) |table| {
                if (u.head.tables[table].spec.kind == .keyed) continue;
                for (u.slot.tables[table].keyList()) |key| try u.add(0, key, plan_file.by_base);
            },
            .related => {},
        }
    }

    /// What a rule found before, since it is not its turn.
    fn stay(u: *Update, by: u64) error{OutOfMemory}!void {
        const marks = u.interest.marks[0].items;
        for (u.audience.lists[0].keys.items, u.audience.lists[0].by.items) |key, known| {
            // Where the mark is not of this key, it is gone.
            if (known & by != 0 and marks[@as(u32, @truncate(key))].old & by != 0) try u.add(0, key, by);
        }
    }

    /// Who is near enough to stay, and of those who is near enough to come or was here before.
    fn near(u: *Update, rule: *Rule, by: u64) error{OutOfMemory}!void {
        const met = &u.interest.met;
        met.clear();
        for (u.audience.focus) |key| try rule.place.?.around(u.slot, key, rule.leave, met);
        const enter = rule.radius * rule.radius;
        const marks = u.interest.marks[0].items;
        const found = &u.interest.found.items[0];
        if (u.related) {
            for (met.keys.items, met.squares.items) |key, apart| {
                const mark = &marks[@as(u32, @truncate(key))];
                if (apart <= enter or mark.old & by != 0) try u.addTo(found, mark, key, by);
            }
            return;
        }
        try found.came.ensureUnusedCapacity(u.interest.gpa, met.keys.items.len);
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

    fn relate(u: *Update) error{OutOfMemory}!void {
        const plan = u.audience.plan;
        for (plan.relations) |r| {
            // Of a table that is always seen every row counts, found or not.
            const source = u.interest.rules[r].source();
            if (!plan.always[source] or u.head.tables[source].spec.kind != .keyed) continue;
            for (u.slot.tables[source].keyList()) |key| try u.along(r, key);
        }
        var more = true;
        while (more) {
            more = false;
            for (u.interest.found.items[0..plan.lists.len], 0..) |*found, list| {
                while (found.work.pop()) |key| {
                    more = true;
                    for (plan.relations) |r| if (u.starts(r, @intCast(list), key)) try u.along(r, key);
                }
            }
        }
    }

    /// Whether a rule goes on from what a list has found.
    fn starts(u: *const Update, r: u8, list: u8, key: u64) bool {
        const plan = u.audience.plan;
        const source = u.interest.rules[r].source();
        const kind = u.head.tables[source].spec.kind;
        if (kind == .keyed) return plan.list_of[source] == list;
        if (list != 0) return false;
        // A component row that is seen: with its entity, or always.
        if (kind == .entities or plan.always[source]) return true;
        return u.interest.marks[0].items[@as(u32, @truncate(key))].new != plan_file.by_base;
    }

    fn along(u: *Update, r: u8, key: u64) error{OutOfMemory}!void {
        const rule = &u.interest.rules[r];
        const link = rule.link.?;
        const to = if (rule.referred) link.target else link.table;
        const list = u.audience.plan.list_of[to] orelse 0;
        const by = @as(u64, 1) << @intCast(r);
        var it: related.Neighbours = .inView(u.slot, link, !rule.referred, key);
        while (it.next()) |other| try u.addLiving(list, other, by);
    }

    // The difference.

    fn settle(u: *Update) error{OutOfMemory}!void {
        const audience = u.audience;
        const plan = audience.plan;
        const gpa = u.interest.gpa;
        // Everything that can fail comes first.
        var changes: usize = 0;
        for (audience.lists, u.interest.found.items[0..plan.lists.len], 0..) |*list, *found, at| {
            const of = if (at == plan.inner) 0 else at;
            const most = audience.lists[of].keys.items.len + u.interest.found.items[of].came.items.len;
            changes += list.keys.items.len + most;
            try list.keys.ensureTotalCapacity(gpa, most);
            try list.by.ensureTotalCapacity(gpa, most);
            try found.work.ensureTotalCapacity(gpa, list.keys.items.len + 1);
        }
        const log = &audience.log.entries;
        // Most of it would be for a crowd that came and went at once.
        if (log.capacity - log.items.len < changes) try log.ensureUnusedCapacity(gpa, changes);
        defer _ = u.interest.scratch.reset(.retain_capacity);
        const before: []const u64 = if (plan.inner) |inner| try u.interest.scratch.allocator().dupe(u64, audience.lists[inner].keys.items) else &.{};

        if (audience.version == null) audience.log.floor = u.slot.version;
        for (plan.lists, 0..) |table, at| if (at != plan.inner) u.settleList(table, @intCast(at));
        if (plan.inner) |inner| u.settleInner(@intCast(inner), before);
    }

    fn settleList(u: *Update, table: u16, at: u8) void {
        const list = &u.audience.lists[at];
        const marks = u.interest.marks[table].items;
        const found = &u.interest.found.items[at];
        const went = sift(list, marks, &found.work);
        const of = u.slot.tables[table];
        for (went) |key| {
            const gone = list.struct_seq != of.struct_seq and of.find(key) == null;
            u.note(at, key, if (gone) .removed else .left);
        }
        const came = found.came.items;
        if (came.len > 0) {
            std.sort.pdq(u64, came, {}, byIndex);
            merge(&list.keys, &list.by, came, marks);
            for (came) |key| {
                u.note(at, key, .entered);
                marks[@as(u32, @truncate(key))].new = 0;
            }
        }
        list.struct_seq = of.struct_seq;
    }

    /// Those of the first list that are not seen for the sake of other rows alone. `before` are those it had.
    fn settleInner(u: *Update, at: u8, before: []const u64) void {
        const all = &u.audience.lists[0];
        const list = &u.audience.lists[at];
        const of = u.slot.tables[0];
        list.keys.items.len = 0;
        list.by.items.len = 0;
        var next: usize = 0;
        for (all.keys.items, all.by.items) |key, by| {
            if (by & ~plan_file.by_base == 0) continue;
            list.keys.appendAssumeCapacity(key);
            list.by.appendAssumeCapacity(by);
            while (next < before.len and byIndex({}, before[next], key)) : (next += 1) u.noteGone(at, of, before[next]);
            if (next < before.len and before[next] == key) {
                next += 1;
                continue;
            }
            u.note(at, key, .entered);
        }
        for (before[next..]) |key| u.noteGone(at, of, key);
    }

    fn noteGone(u: *Update, list: u8, of: *const view.TableView, key: u64) void {
        u.note(list, key, if (of.find(key) == null) .removed else .left);
    }

    fn note(u: *Update, list: u8, key: u64, change: visible.Change) void {
        // Before the first version nobody was told anything.
        if (u.audience.version == null) return;
        u.audience.log.entries.appendAssumeCapacity(.{ .version = u.slot.version, .key = key, .list = list, .change = change });
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
    for (keys, 0..) |key, i| {
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
