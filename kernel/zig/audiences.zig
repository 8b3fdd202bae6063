//! All audiences of one store: described, updated, and cut for, many in one call.
//!
//! Those that see everything their profile lets them share their blocks: who has the same profile and the same base is
//! given the same bytes.

const std = @import("std");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const digest_file = @import("digest.zig");
const failure = @import("failure.zig");
const graph = @import("graph.zig");
const interest_file = @import("interest.zig");
const plan_file = @import("plan.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Audience = @import("audience.zig").Audience;
const Head = @import("head.zig").Head;
const Interest = interest_file.Interest;

pub const RuleIn = extern struct {
    radius: f64,
    leave: f64,
    /// Address of `table_count` table ids: of always all, of near and query one, of related the table that refers.
    tables: u64,
    table_count: u32,
    every: u32,
    /// Of near: the place, two or three fields.
    axes: u16,
    fields: [3]u16,
    /// A `plan.Kind`.
    kind: u8,
    /// Of related: 1 where what is referred to is found from what refers. Its field is the first of `fields`.
    referred: u8,
    reserved: [6]u8 = @splat(0),
};

pub const ProfileIn = extern struct {
    /// Address of `table_count` ids of tables that may be seen; what is not named may not.
    tables: u64,
    /// Address of `hidden_count` pairs of u16, a table's id and a field's: what may not be seen of those.
    hidden: u64,
    table_count: u32,
    hidden_count: u32,
};

pub const AudienceOut = extern struct {
    /// Entities that it sees, and entries in its own log.
    entities: u64,
    entries: u64,
    /// Since when comings and goings are remembered.
    floor: u64,
    version: u64,
    bytes: u64,
    /// Rows that the newest delta left waiting.
    waiting: u64,
};

/// For whom blocks are cut, of each the base and a slot that values may be relative to: one for each base.
pub const Wanted = struct {
    handles: []const u32,
    bases: []const u64,
    references: []const i32,
    slots: []const view.Slot,
    bytes_max: u64,
};

pub const Audiences = struct {
    gpa: std.mem.Allocator,
    interest: Interest,
    encoder: delta.Encoder,
    /// Of `cutAll`: those asked for, by base.
    order: std.ArrayList(u32) = .empty,

    pub fn init(gpa: std.mem.Allocator, head: *const Head, profiles: []const ProfileIn, rules: []const RuleIn, ties: []const [2]u16) failure.Error!Audiences {
        if (profiles.len == 0 or rules.len > plan_file.rules_max) return error.BadArgument;
        var made: Audiences = .{
            .gpa = gpa,
            .interest = try .init(gpa, head.tables.len),
            .encoder = .init(gpa),
        };
        errdefer made.deinit();
        const a = made.interest.arena.allocator();
        const copies = try a.alloc(visible.Profile, profiles.len);
        for (profiles, copies) |*from, *to| {
            to.* = try profileOf(a, &head.catalogue, from);
            if (from.hidden_count > 0) made.encoder.since.discreet = true;
        }
        made.interest.profiles = copies;
        const tied = try a.alloc(?*const graph.Link, head.tables.len);
        @memset(tied, null);
        for (ties) |pair| {
            const number = head.catalogue.tableIndex(pair[0]) orelse return error.UnknownTable;
            const field = head.tables[number].spec.fieldIndex(pair[1]) orelse return error.UnknownField;
            tied[number] = head.graph.find(number, field) orelse return error.BadArgument;
        }
        made.interest.ties = tied;
        const all = try a.alloc(plan_file.Rule, rules.len);
        // What was not made yet has nothing to be given back.
        for (rules, 0..) |*from, n| {
            all[n] = try ruleOf(a, gpa, head, from);
            made.interest.rules = all[0 .. n + 1];
        }
        return made;
    }

    pub fn deinit(audiences: *Audiences) void {
        audiences.interest.deinit();
        audiences.encoder.deinit();
        audiences.order.deinit(audiences.gpa);
    }

    pub fn set(audiences: *Audiences, handle: u32, which: u32, keys: []const u64) failure.Error!void {
        const audience = try audiences.interest.at(handle);
        if (which > 1 or keys.len > plan_file.keys_max) return error.BadArgument;
        const copy = try audiences.gpa.dupe(u64, keys);
        const list = if (which == 0) &audience.focus else &audience.revealed;
        audiences.gpa.free(list.*);
        list.* = copy;
        audience.due = true;
    }

    pub fn found(audiences: *Audiences, rule: u32, keys: []const u64) failure.Error!void {
        if (rule >= audiences.interest.rules.len) return error.BadArgument;
        const of = &audiences.interest.rules[rule];
        if (of.kind != .query) return error.BadArgument;
        if (std.mem.eql(u64, of.found.items, keys)) return;
        try of.found.ensureTotalCapacity(audiences.gpa, keys.len);
        of.answers += 1;
        of.found.items.len = 0;
        of.found.appendSliceAssumeCapacity(keys);
    }

    /// One block, in memory that is valid until the next is cut.
    pub fn cut(
        audiences: *Audiences,
        head: *const Head,
        slot: *const view.Slot,
        handle: u32,
        base: u64,
        cursor: *delta.Cursor,
        budget: u32,
    ) delta.Error![]const u8 {
        const sight = try audiences.interest.sightOf(try audiences.interest.at(handle));
        const encoder = &audiences.encoder;
        encoder.out.items.len = 0;
        try encoder.begin(slot, base);
        _ = try encoder.append(head, &sight, cursor, budget);
        return encoder.out.items;
    }

    pub fn cutAll(
        audiences: *Audiences,
        head: *const Head,
        slot: *const view.Slot,
        wanted: Wanted,
        offsets: []u64,
        lengths: []i64,
    ) failure.Error!void {
        const handles = wanted.handles;
        const bases = wanted.bases;
        const encoder = &audiences.encoder;
        encoder.out.items.len = 0;
        encoder.since.keeps = true;
        defer encoder.since.keeps = false;
        try audiences.order.resize(audiences.gpa, handles.len);
        const order = audiences.order.items;
        // Backwards: those that were updated last are still near.
        for (order, 0..) |*at, n| at.* = @intCast(handles.len - 1 - n);
        // Those with one base follow each other: what changed since is found once for them.
        if (!std.sort.isSorted(u64, bases, {}, std.sort.asc(u64))) std.sort.pdq(u32, order, bases, struct {
            fn before(of: []const u64, x: u32, y: u32) bool {
                return of[x] < of[y];
            }
        }.before);
        var begun: ?u64 = null;
        var reached = false;
        // Of those that see everything: the plan and where its block is.
        var shared: std.AutoHashMapUnmanaged(*const plan_file.Plan, [2]u64) = .empty;
        defer shared.deinit(audiences.gpa);
        for (order, 0..) |at, turn| {
            Audience.fetch(audiences.interest.audiences.items, handles, order, turn, false);
            const base = bases[at];
            offsets[at] = encoder.out.items.len;
            lengths[at] = 0;
            const audience = try audiences.interest.at(handles[at]);
            if (base == slot.version) continue;
            if (begun != base) {
                begun = base;
                shared.clearRetainingCapacity();
                reached = if (encoder.begin(slot, base)) true else |err| switch (err) {
                    error.HistoryGone => false,
                    else => |other| return other,
                };
            }
            if (!reached) {
                lengths[at] = -1;
                continue;
            }
            const alike = !audience.plan.governed and !audience.hasBudget();
            if (alike) if (shared.get(audience.plan)) |known| {
                offsets[at] = known[0];
                lengths[at] = @bitCast(known[1]);
                continue;
            };
            const reference = wanted.references[at];
            encoder.reference = if (reference < 0) null else &wanted.slots[@intCast(reference)];
            const sight = try audiences.interest.sightOf(audience);
            var cursor: delta.Cursor = .{};
            const tables = encoder.append(head, &sight, &cursor, 0) catch |err| switch (err) {
                error.HistoryGone => {
                    lengths[at] = -1;
                    continue;
                },
                else => |other| return other,
            };
            const length = encoder.out.items.len - offsets[at];
            lengths[at] = if (tables == 0) 0 else if (length > wanted.bytes_max) -2 else @intCast(length);
            if (lengths[at] <= 0) encoder.out.items.len = @intCast(offsets[at]);
            if (alike) try shared.put(audiences.gpa, audience.plan, .{ offsets[at], @bitCast(lengths[at]) });
        }
    }

    pub fn digest(audiences: *const Audiences, head: *const Head, slot: *const view.Slot, handle: u32) error{BadArgument}![2]u64 {
        const sight = try audiences.interest.sightOf(try audiences.interest.at(handle));
        if (sight.version != slot.version) return error.BadArgument;
        return digest_file.ofSight(head, slot, &sight).halves();
    }

    /// How many keys of a table it sees; copied where there is room for all of them.
    pub fn visibleIn(audiences: *const Audiences, slot: *const view.Slot, handle: u32, table: u16, into: []u64) error{BadArgument}!usize {
        const sight = try audiences.interest.sightOf(try audiences.interest.at(handle));
        if (sight.version != slot.version) return error.BadArgument;
        const of = slot.tables[table];
        switch (sight.scopes[table]) {
            .none => return 0,
            .all => {
                const keys = of.keyList();
                if (keys.len <= into.len) @memcpy(into[0..keys.len], keys);
                return keys.len;
            },
            .listed => |list| {
                var n: usize = 0;
                var it = sight.lists[list].iterate();
                while (it.next()) |key| {
                    if (of.find(key) == null) continue;
                    if (n < into.len) into[n] = key;
                    n += 1;
                }
                return n;
            },
        }
    }

    pub fn statistics(audiences: *const Audiences, handle: u32) error{BadArgument}!AudienceOut {
        const audience = try audiences.interest.at(handle);
        return .{
            .entities = audience.seen[0].count(),
            .entries = audience.log.entries.items.len,
            .floor = audience.log.floor,
            .version = audience.version orelse 0,
            .bytes = audience.bytes(),
            .waiting = audience.budget.waiting,
        };
    }
};

fn profileOf(a: std.mem.Allocator, cat: *const catalogue.Catalogue, in: *const ProfileIn) failure.Error!visible.Profile {
    const at = @import("abi.zig").at;
    const profile = try a.alloc(visible.TableProfile, cat.tables.len);
    for (profile) |*table| table.* = .{ .visible = false };
    for (try at(u16, in.tables, in.table_count)) |id| {
        profile[cat.tableIndex(id) orelse return error.UnknownTable].visible = true;
    }
    for (try at([2]u16, in.hidden, in.hidden_count)) |pair| {
        const number = cat.tableIndex(pair[0]) orelse return error.UnknownTable;
        const spec = &cat.tables[number];
        const field = spec.fieldIndex(pair[1]) orelse return error.UnknownField;
        if (profile[number].hidden.len == 0) {
            const bits = try a.alloc(u64, (spec.fields.len + 63) / 64);
            @memset(bits, 0);
            profile[number].hidden = bits;
        }
        @constCast(profile[number].hidden)[field / 64] |= @as(u64, 1) << @intCast(field % 64);
    }
    return profile;
}

fn ruleOf(a: std.mem.Allocator, gpa: std.mem.Allocator, head: *const Head, in: *const RuleIn) failure.Error!plan_file.Rule {
    const at = @import("abi.zig").at;
    const cat = &head.catalogue;
    const kind = std.enums.fromInt(plan_file.Kind, in.kind) orelse return error.BadArgument;
    if (in.every == 0) return error.BadArgument;
    const ids = try at(u16, in.tables, in.table_count);
    const tables = try a.alloc(u16, ids.len);
    for (ids, tables) |id, *number| {
        number.* = cat.tableIndex(id) orelse return error.UnknownTable;
        if (cat.tables[number.*].kind == .event) return error.BadArgument;
    }
    var rule: plan_file.Rule = .{ .kind = kind, .tables = tables, .every = in.every };
    switch (kind) {
        .always => if (tables.len == 0) return error.BadArgument,
        // Whose an entity is, is its first field.
        .owned => if (cat.tables[0].fields.len == 0 or cat.tables[0].fields[0].type != .u64 or cat.tables[0].fields[0].count != 1)
            return error.BadArgument,
        .query => if (tables.len != 1) return error.BadArgument,
        .near => {
            if (tables.len != 1 or in.axes > 3) return error.BadArgument;
            if (!(in.radius > 0) or !(in.leave >= in.radius) or !std.math.isFinite(in.leave)) return error.BadArgument;
            if (cat.tables[tables[0]].kind != .component) return error.BadArgument;
            rule.radius = in.radius;
            rule.leave = in.leave;
            rule.place = try .init(gpa, cat, ids[0], in.fields[0..in.axes], in.leave);
        },
        .related => {
            if (tables.len != 1) return error.BadArgument;
            const field = cat.tables[tables[0]].fieldIndex(in.fields[0]) orelse return error.UnknownField;
            rule.link = head.graph.find(tables[0], field) orelse return error.BadArgument;
            rule.referred = in.referred != 0;
        },
    }
    return rule;
}
