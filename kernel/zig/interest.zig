//! Interest: what each client sees of the world, by rules, in one version after the other.
//!
//! An update finds a client's entities and rows anew from the rules (`finding.zig`) and compares with what was seen before:
//! what came and what went is in the client's log, from which deltas are narrowed (`narrow.zig`). What rules find for
//! everybody is found once for all (`shared.zig`).
//!
//! Invariants:
//! - a client whose update fails sees what it saw, at the version that it was of;
//! - what several rules find is seen while one of them finds it.

const std = @import("std");
const finding_file = @import("finding.zig");
const failure = @import("failure.zig");
const graph = @import("graph.zig");
const plan_file = @import("plan.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Audience = @import("audience.zig").Audience;
const Finding = finding_file.Finding;
const Head = @import("head.zig").Head;
const Owners = @import("owners.zig").Owners;
const Plan = plan_file.Plan;
const Rule = plan_file.Rule;
const Shared = @import("shared.zig").Shared;

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
    /// What audiences with the same rules share. More than one of the same rules where some were asked of a version before
    /// the newest of the others.
    shared: std.ArrayList(*Shared) = .empty,
    owners: Owners,
    space: finding_file.Workspace,

    pub fn init(gpa: std.mem.Allocator, tables: usize) error{OutOfMemory}!Interest {
        return .{
            .gpa = gpa,
            .arena = .init(gpa),
            .profiles = &.{},
            .rules = &.{},
            .owners = .{ .gpa = gpa },
            .space = try .init(gpa, tables),
        };
    }

    pub fn deinit(interest: *Interest) void {
        const gpa = interest.gpa;
        for (interest.audiences.items) |maybe| if (maybe) |audience| audience.destroy(gpa);
        interest.audiences.deinit(gpa);
        interest.free.deinit(gpa);
        for (interest.shared.items) |shared| shared.destroy();
        interest.shared.deinit(gpa);
        for (interest.rules) |*rule| {
            if (rule.place) |*place| place.deinit();
            rule.found.deinit(gpa);
        }
        interest.plans.deinit(gpa);
        interest.owners.deinit();
        interest.space.deinit();
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
        interest.owners.stamp = null;
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
        try interest.space.ensureLists(plan.lists.len);
        try interest.plans.append(interest.gpa, plan);
        return plan;
    }

    pub fn close(interest: *Interest, handle: u32) error{BadArgument}!void {
        const audience = try interest.at(handle);
        audience.destroy(interest.gpa);
        interest.audiences.items[handle] = null;
        interest.free.appendAssumeCapacity(handle);
        interest.owners.stamp = null;
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
        interest.forgetShared();
        for (interest.rules) |*rule| if (rule.place) |*place| try place.follow(slot, handles.len);
        try interest.space.follow(head, slot);
        for (interest.rules) |*rule| if (rule.kind == .owned) {
            try interest.owners.follow(slot, interest.audiences.items);
            break;
        };
        const scene: finding_file.Scene = .{
            .space = &interest.space,
            .rules = interest.rules,
            .owners = &interest.owners,
            .head = head,
            .slot = slot,
        };
        for (handles, 0..) |handle, turn| {
            Audience.fetch(interest.audiences.items, handles, null, turn, true);
            const audience = interest.audiences.items[handle].?;
            if (audience.version == slot.version) continue;
            if (!audience.plan.governed) {
                audience.version = slot.version;
                continue;
            }
            interest.bring(audience, handle, scene) catch |err| {
                interest.space.wipe();
                return err;
            };
        }
        for (interest.shared.items) |shared| shared.trim(interest.audiences.items);
    }

    fn bring(interest: *Interest, audience: *Audience, handle: u32, in: finding_file.Scene) error{OutOfMemory}!void {
        const version = in.slot.version;
        const shared = if (audience.plan.shares) try interest.sharedFor(audience, version) else null;
        if (shared) |all| try all.follow(in);
        var finding: Finding = .{
            .in = in,
            .plan = audience.plan,
            .lists = audience.lists,
            .log = &audience.log,
            .version = audience.version,
            .one = .{ .audience = audience, .handle = handle, .shared = if (shared) |all| all.state.? else null },
        };
        try finding.run();
        audience.share(interest.gpa, shared, version);
        audience.before = audience.version orelse 0;
        audience.version = version;
        audience.due = false;
    }

    /// What an audience shares with others in a version: what it did before, where that can be of it.
    fn sharedFor(interest: *Interest, audience: *const Audience, version: u64) error{OutOfMemory}!*Shared {
        const plan = audience.plan;
        if (audience.shared) |shared| if (shared.serves(plan, version)) return shared;
        for (interest.shared.items) |shared| if (shared.serves(plan, version)) return shared;
        try interest.shared.ensureUnusedCapacity(interest.gpa, 1);
        const shared: *Shared = try .create(interest.gpa, plan);
        interest.shared.appendAssumeCapacity(shared);
        return shared;
    }

    /// Give up what nobody shares any more.
    fn forgetShared(interest: *Interest) void {
        var n = interest.shared.items.len;
        while (n > 0) {
            n -= 1;
            if (interest.shared.items[n].users == 0) interest.shared.swapRemove(n).destroy();
        }
    }

    /// What a delta is narrowed to.
    pub fn sightOf(interest: *const Interest, audience: *Audience) error{BadArgument}!visible.Sight {
        return .{
            .profile = interest.profiles[audience.plan.profile],
            .scopes = audience.plan.scopes,
            .lists = audience.seen,
            .tables = audience.plan.lists,
            .log = &audience.log,
            .shared = if (audience.shared) |shared| &shared.log else null,
            .version = audience.version orelse return error.BadArgument,
            .before = audience.before,
            .budget = if (!audience.hasBudget()) null else .{
                .budget = &audience.budget,
                .weights = .{ .entities = &audience.lists[0], .own = audience.plan.own, .near = audience.plan.near },
                .ties = interest.ties,
            },
        };
    }
};
