//! One client's view of the world, as the kernel keeps it from version to version: what it sees, what came and went.

const std = @import("std");
const plan_file = @import("plan.zig");
const visible = @import("visible.zig");
const Budget = @import("budget.zig").Budget;
const Shared = @import("shared.zig").Shared;
const State = @import("shared.zig").State;

pub const Audience = struct {
    plan: *const plan_file.Plan,
    owner: u64,
    /// What is found for it alone. The list of components' entities, where it differs, is empty: it is the first one's.
    lists: []visible.List,
    /// By list, what it sees.
    seen: []visible.Seen,
    /// What it shares with others, and the state of it that it sees.
    shared: ?*Shared = null,
    state: ?*State = null,
    log: visible.Log = .{},
    /// The version that the lists are of; null before the first.
    version: ?u64 = null,
    /// The version of the update before; 0 for none.
    before: u64 = 0,
    focus: []u64 = &.{},
    revealed: []u64 = &.{},
    /// By rule: the turn in which it was found last.
    turns: []u64,
    /// Found anew whatever its turn is.
    due: bool = true,
    budget: Budget,

    pub fn create(gpa: std.mem.Allocator, plan: *const plan_file.Plan, owner: u64, rules: usize) error{OutOfMemory}!*Audience {
        const audience = try gpa.create(Audience);
        errdefer gpa.destroy(audience);
        const lists = try gpa.alloc(visible.List, plan.lists.len);
        errdefer gpa.free(lists);
        @memset(lists, .{});
        const seen = try gpa.alloc(visible.Seen, lists.len);
        errdefer gpa.free(seen);
        for (seen, 0..) |*one, at| one.* = .{ .own = &lists[if (at == plan.inner) 0 else at] };
        const turns = try gpa.alloc(u64, rules);
        @memset(turns, 0);
        audience.* = .{ .plan = plan, .owner = owner, .lists = lists, .seen = seen, .turns = turns, .budget = .{ .gpa = gpa } };
        return audience;
    }

    pub fn destroy(audience: *Audience, gpa: std.mem.Allocator) void {
        if (audience.shared) |shared| shared.users -= 1;
        if (audience.state) |state| state.release(gpa);
        gpa.free(audience.seen);
        for (audience.lists) |*list| list.deinit(gpa);
        gpa.free(audience.lists);
        audience.log.deinit(gpa);
        audience.budget.deinit();
        gpa.free(audience.focus);
        gpa.free(audience.revealed);
        gpa.free(audience.turns);
        gpa.destroy(audience);
    }

    /// Ask for the memory of the audiences that come after `n` of `handles`, so that it is near when their turn comes.
    pub inline fn fetch(all: []const ?*Audience, handles: []const u32, order: ?[]const u32, n: usize, by: bool) void {
        if (ahead(all, handles, order, n + 6)) |audience| {
            @prefetch(audience, .{});
            @prefetch(@as([*]const u8, @ptrCast(audience)) + 64, .{});
        }
        if (ahead(all, handles, order, n + 4)) |audience| {
            @prefetch(audience.lists.ptr, .{});
            @prefetch(if (by) @as([*]const u8, @ptrCast(audience.focus.ptr)) else @as([*]const u8, @ptrCast(audience.log.entries.items.ptr)), .{});
        }
        if (ahead(all, handles, order, n + 2)) |audience| audience.lists[0].fetch(by);
    }

    inline fn ahead(all: []const ?*Audience, handles: []const u32, order: ?[]const u32, n: usize) ?*const Audience {
        if (n >= handles.len) return null;
        const handle = handles[if (order) |of| of[n] else n];
        return if (handle < all.len) all[handle] else null;
    }

    /// See what is shared as it is in its newest state, `version`.
    pub fn share(audience: *Audience, gpa: std.mem.Allocator, with: ?*Shared, version: u64) void {
        const shared = with orelse return;
        if (audience.shared != shared) {
            if (audience.shared) |before| {
                before.users -= 1;
                // What came and went between the two, neither knows.
                audience.log.settle(version);
            }
            shared.users += 1;
            audience.shared = shared;
        }
        const state = shared.state.?;
        if (audience.state == state) return;
        state.users += 1;
        if (audience.state) |before| before.release(gpa);
        audience.state = state;
        for (audience.seen, state.lists) |*seen, *list| seen.shared = list.keys.items;
    }

    /// Whether rows may wait, or some do.
    pub fn hasBudget(audience: *const Audience) bool {
        return audience.budget.bytes > 0 or audience.budget.frames.items.len > 0;
    }

    pub fn bytes(audience: *const Audience) u64 {
        var sum: u64 = @sizeOf(Audience) + audience.log.entries.capacity * @sizeOf(visible.Entry) +
            audience.budget.rows * @sizeOf(@import("budget.zig").Pending);
        for (audience.lists) |*list| sum += (list.keys.capacity + list.by.capacity) * 8;
        sum += audience.seen.len * @sizeOf(visible.Seen);
        return sum + (audience.focus.len + audience.revealed.len + audience.turns.len) * 8;
    }
};
