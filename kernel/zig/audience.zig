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

    /// Ask for the memory of the audiences that come after `n` of `handles`, so that it is near when their turn comes.
    pub inline fn fetch(all: []const ?*Audience, handles: []const u32, order: ?[]const u32, n: usize, by: bool) void {
        if (ahead(all, handles, order, n + 6)) |audience| {
            @prefetch(audience, .{});
            @prefetch(@as([*]const u8, @ptrCast(audience)) + 64, .{});
        }
        if (ahead(all, handles, order, n + 4)) |audience| @prefetch(audience.lists.ptr, .{});
        if (ahead(all, handles, order, n + 2)) |audience| audience.lists[0].fetch(by);
    }

    inline fn ahead(all: []const ?*Audience, handles: []const u32, order: ?[]const u32, n: usize) ?*const Audience {
        if (n >= handles.len) return null;
        const handle = handles[if (order) |of| of[n] else n];
        return if (handle < all.len) all[handle] else null;
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
