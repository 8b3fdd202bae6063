//! What a client's profile and its rules of interest come to, table by table: made once for all clients that share both.
//!
//! A rule finds rows in the world as it is; the profile says which tables and fields of what is found may be seen. So a
//! rule may go by what the client cannot see.

const std = @import("std");
const catalogue = @import("catalogue.zig");
const graph = @import("graph.zig");
const visible = @import("visible.zig");
const Surroundings = @import("surroundings.zig").Surroundings;

pub const Kind = enum(u8) { always, owned, near, related, query };

/// Rules of one world at most: a bit each says what found an entity.
pub const rules_max = 32;

/// What one client may be focused on, or shown by hand, at most: each costs a search or a look at every update.
pub const keys_max = 4096;

/// Of `List.by`, above those of the rules: by hand, and for the sake of rows that are always seen.
pub const by_hand: u64 = 1 << 32;
pub const by_base: u64 = 1 << 33;

pub const Rule = struct {
    kind: Kind,
    /// always: tables by their places. near, query: the first alone.
    tables: []const u16 = &.{},
    radius: f64 = 0,
    leave: f64 = 0,
    every: u32 = 1,
    place: ?Surroundings = null,
    /// related
    link: ?*const graph.Link = null,
    referred: bool = false,
    /// query: what it found last, by whoever asked it.
    found: std.ArrayList(u64) = .empty,
    /// How often that was something else than before.
    answers: u64 = 0,

    /// Of a relation: the table whose rows it goes on from.
    pub fn source(rule: *const Rule) u16 {
        return if (rule.referred) rule.link.?.table else rule.link.?.target;
    }
};

pub const Plan = struct {
    profile: u32,
    mask: u32,
    /// Without rules a client sees all that its profile lets it.
    governed: bool,
    scopes: []visible.Scope,
    /// By list: the table whose keys it has. The first is the entities'; `inner` has the same.
    lists: []u16,
    /// By table: its list among `lists`, where it has one.
    list_of: []?u8,
    /// The list of components' entities where some entities are seen for the sake of other components only.
    inner: ?usize,
    /// By table: a rule sends all of it.
    always: []const bool,
    /// The rules that are relations.
    relations: []const u8,
    /// Some rules find the same for everybody.
    shares: bool,
    /// What makes an entity the client's own, and near to it, of `List.by`.
    own: u64,
    near: u64,

    pub fn init(
        a: std.mem.Allocator,
        cat: *const catalogue.Catalogue,
        profile: visible.Profile,
        profile_number: u32,
        rules: []const Rule,
        mask: u32,
    ) error{ OutOfMemory, BadArgument }!Plan {
        const tables = cat.tables;
        const always = try a.alloc(bool, tables.len);
        @memset(always, false);
        const list_of = try a.alloc(?u8, tables.len);
        @memset(list_of, null);
        var lists: std.ArrayList(u16) = .empty;
        try lists.append(a, 0);
        list_of[0] = 0;
        var split = false;
        var own: u64 = by_hand;
        var near: u64 = 0;
        var relations: std.ArrayList(u8) = .empty;
        for (rules, 0..) |*rule, r| {
            if (mask >> @intCast(r) & 1 == 0) continue;
            switch (rule.kind) {
                .always => for (rule.tables) |table| {
                    always[table] = true;
                    if (tables[table].kind != .keyed) split = true;
                },
                .query => try list(a, tables, &lists, list_of, rule.tables[0]),
                .related => {
                    try relations.append(a, @intCast(r));
                    try list(a, tables, &lists, list_of, if (rule.referred) rule.link.?.target else rule.link.?.table);
                },
                .owned => own |= @as(u64, 1) << @intCast(r),
                .near => near |= @as(u64, 1) << @intCast(r),
            }
        }
        const inner: ?usize = if (split) lists.items.len else null;
        if (split) try lists.append(a, 0);
        const scopes = try a.alloc(visible.Scope, tables.len);
        for (tables, scopes, 0..) |*table, *scope, t| {
            scope.* = if (!profile[t].visible or !table.replicated)
                .none
            else if (mask == 0 or always[t])
                .all
            else switch (table.kind) {
                .entities => .{ .listed = 0 },
                .component => .{ .listed = @intCast(inner orelse 0) },
                .keyed => if (list_of[t]) |at| .{ .listed = at } else .none,
                .event => .none,
            };
        }
        return .{
            .profile = profile_number,
            .mask = mask,
            .governed = mask != 0,
            .scopes = scopes,
            .lists = lists.items,
            .list_of = list_of,
            .inner = inner,
            .always = always,
            .relations = relations.items,
            .shares = sharesAny(tables, rules, mask, always),
            .own = own,
            .near = near,
        };
    }

    fn sharesAny(tables: []const catalogue.Table, rules: []const Rule, mask: u32, always: []const bool) bool {
        for (rules, 0..) |*rule, r| {
            if (mask >> @intCast(r) & 1 == 0) continue;
            switch (rule.kind) {
                .query => return true,
                .always => for (rule.tables) |table| if (tables[table].kind != .keyed) return true,
                // From all rows of a table.
                .related => if (always[rule.source()] and tables[rule.source()].kind == .keyed) return true,
                .owned, .near => {},
            }
        }
        return false;
    }

    /// A keyed table whose rows are found one by one has a list of its own.
    fn list(
        a: std.mem.Allocator,
        tables: []const catalogue.Table,
        lists: *std.ArrayList(u16),
        list_of: []?u8,
        table: u16,
    ) error{ OutOfMemory, BadArgument }!void {
        if (tables[table].kind != .keyed or list_of[table] != null) return;
        if (lists.items.len == 254) return error.BadArgument;
        list_of[table] = @intCast(lists.items.len);
        try lists.append(a, table);
    }

    pub fn has(plan: *const Plan, rule: usize) bool {
        return plan.mask >> @intCast(rule) & 1 == 1;
    }
};
