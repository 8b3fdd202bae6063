//! What the rules find that find the same for everybody: all rows of a table, what a query found, and what is related to
//! those. Found once for all audiences with the same rules; what an audience sees is its own and this together.
//!
//! What is shared goes from state to state. A state is never changed, and stays while an audience sees it: so one that was
//! not updated for some versions may still be cut for in the version that it is of. Where nothing that the rules go by
//! has changed the next version has the same state, and costs nothing.
//!
//! Invariants:
//! - a state is what the rules find in each of its versions;
//! - the log has every key that came or went between two states, as an audience's has its own. Its entries may be of
//!   versions after the one that an audience is of.

const std = @import("std");
const assert = std.debug.assert;
const finding_file = @import("finding.zig");
const plan_file = @import("plan.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Audience = @import("audience.zig").Audience;
const Finding = finding_file.Finding;
const Plan = plan_file.Plan;
const Rule = plan_file.Rule;
const Scene = finding_file.Scene;

pub const State = struct {
    /// By list of the plan.
    lists: []visible.List,
    /// The versions that it is of, both included.
    first: u64,
    last: u64,
    users: u32 = 1,

    fn create(gpa: std.mem.Allocator, before: ?*const State, lists: usize, version: u64) error{OutOfMemory}!*State {
        const state = try gpa.create(State);
        errdefer gpa.destroy(state);
        state.* = .{ .lists = try gpa.alloc(visible.List, lists), .first = version, .last = version };
        @memset(state.lists, .{});
        errdefer state.deinit(gpa);
        if (before) |other| for (state.lists, other.lists) |*to, *from| {
            try to.keys.appendSlice(gpa, from.keys.items);
            try to.by.appendSlice(gpa, from.by.items);
            to.struct_seq = from.struct_seq;
        };
        return state;
    }

    fn deinit(state: *State, gpa: std.mem.Allocator) void {
        for (state.lists) |*list| list.deinit(gpa);
        gpa.free(state.lists);
    }

    pub fn release(state: *State, gpa: std.mem.Allocator) void {
        state.users -= 1;
        if (state.users > 0) return;
        state.deinit(gpa);
        gpa.destroy(state);
    }
};

/// Entries of a log that nobody needs are looked for when it has so many.
const trim_entries_min = 1024;

pub const Shared = struct {
    gpa: std.mem.Allocator,
    /// Of those who share it one's; all of them have the same rules.
    plan: *const Plan,
    /// The newest.
    state: ?*State = null,
    log: visible.Log = .{},
    /// What the newest state was found from.
    stamp: std.ArrayList(u64) = .empty,
    stamp_room: std.ArrayList(u64) = .empty,
    users: u32 = 0,
    trim_at: usize = trim_entries_min,

    pub fn create(gpa: std.mem.Allocator, plan: *const Plan) error{OutOfMemory}!*Shared {
        assert(plan.shares);
        const shared = try gpa.create(Shared);
        shared.* = .{ .gpa = gpa, .plan = plan };
        return shared;
    }

    pub fn destroy(shared: *Shared) void {
        assert(shared.users == 0);
        const gpa = shared.gpa;
        if (shared.state) |state| state.release(gpa);
        shared.log.deinit(gpa);
        shared.stamp.deinit(gpa);
        shared.stamp_room.deinit(gpa);
        gpa.destroy(shared);
    }

    /// Whether it can be of a version: none that is before its newest state.
    pub fn serves(shared: *const Shared, plan: *const Plan, version: u64) bool {
        if (shared.plan.mask != plan.mask) return false;
        return if (shared.state) |state| version >= state.first else true;
    }

    /// Be of a version. On failure it is of those that it was of.
    pub fn follow(shared: *Shared, in: Scene) error{OutOfMemory}!void {
        const version = in.slot.version;
        assert(shared.serves(shared.plan, version));
        if (shared.state) |state| if (version <= state.last) return;
        try shared.readStamp(in.rules, in.slot);
        if (shared.state) |state| if (std.mem.eql(u64, shared.stamp.items, shared.stamp_room.items)) {
            state.last = version;
            return;
        };
        const state: *State = try .create(shared.gpa, shared.state, shared.plan.lists.len, version);
        errdefer state.release(shared.gpa);
        var finding: Finding = .{
            .in = in,
            .plan = shared.plan,
            .lists = state.lists,
            .log = &shared.log,
            .version = if (shared.state) |before| before.last else null,
            .one = null,
        };
        try finding.run();
        if (shared.state) |before| before.release(shared.gpa);
        shared.state = state;
        std.mem.swap(std.ArrayList(u64), &shared.stamp, &shared.stamp_room);
    }

    /// Everything that the rules go by: the rows of tables, what queries have found, and the references that relations follow.
    fn readStamp(shared: *Shared, rules: []const Rule, slot: *const view.Slot) error{OutOfMemory}!void {
        const plan = shared.plan;
        const stamp = &shared.stamp_room;
        stamp.items.len = 0;
        for (plan.lists) |table| try stamp.append(shared.gpa, slot.tables[table].struct_seq);
        for (rules, 0..) |*rule, r| if (plan.has(r)) switch (rule.kind) {
            .always => for (rule.tables) |table| try stamp.append(shared.gpa, slot.tables[table].struct_seq),
            .query => try stamp.append(shared.gpa, rule.answers),
            .related => {
                const link = rule.link.?;
                const from = slot.tables[link.table];
                const target = slot.tables[link.target];
                try stamp.appendSlice(shared.gpa, &.{ from.struct_seq, target.struct_seq, from.columns[link.field].cut });
                if (link.value) |value| try stamp.append(shared.gpa, target.columns[value].cut);
            },
            .owned, .near => {},
        };
    }

    /// Forget what none of its users may ask for any more.
    pub fn trim(shared: *Shared, audiences: []const ?*Audience) void {
        if (shared.log.entries.items.len < shared.trim_at) return;
        var floor: u64 = std.math.maxInt(u64);
        for (audiences) |maybe| if (maybe) |audience| {
            if (audience.shared == shared) floor = @min(floor, audience.log.floor);
        };
        shared.log.settle(@min(floor, shared.state.?.first));
        shared.trim_at = @max(trim_entries_min, 2 * shared.log.entries.items.len);
    }
};
