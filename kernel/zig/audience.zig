//! One client's view of the world, as the kernel keeps it from version to version: what it sees, what came and went.

const std = @import("std");
const plan_file = @import("plan.zig");
const visible = @import("visible.zig");
const Budget = @import("budget.zig").Budget;

pub const Audience = struct {
    plan: *const plan_file.Plan,
    owner: u64,
    lists: []visible.List,
    log: visible.Log = .{},
    /// The version that the lists are of; null before the first.
    version: ?u64 = null,
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
        const turns = try gpa.alloc(u64, rules);
        @memset(turns, 0);
        audience.* = .{ .plan = plan, .owner = owner, .lists = lists, .turns = turns, .budget = .{ .gpa = gpa } };
        return audience;
    }

    pub fn destroy(audience: *Audience, gpa: std.mem.Allocator) void {
        for (audience.lists) |*list| list.deinit(gpa);
        gpa.free(audience.lists);
        audience.log.deinit(gpa);
        audience.budget.deinit();
        gpa.free(audience.focus);
        gpa.free(audience.revealed);
        gpa.free(audience.turns);
        gpa.destroy(audience);
    }

    /// Whether rows may wait, or some do.
    pub fn hasBudget(audience: *const Audience) bool {
        return audience.budget.bytes > 0 or audience.budget.frames.items.len > 0;
    }

    pub fn bytes(audience: *const Audience) u64 {
        var sum: u64 = @sizeOf(Audience) + audience.log.entries.capacity * @sizeOf(visible.Entry) +
            audience.budget.rows * @sizeOf(@import("budget.zig").Pending);
        for (audience.lists) |*list| sum += (list.keys.capacity + list.by.capacity) * 8;
        return sum + (audience.focus.len + audience.revealed.len + audience.turns.len) * 8;
    }
};
