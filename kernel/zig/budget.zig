//! A byte budget for one client: how many bytes a delta may have, and which rows wait for the next ones (`choice.zig` says
//! which those are).
//!
//! What waits is remembered for each version that was handed out, since nobody knows yet which of them the client will
//! say it has: a delta from base b says what changed since b, and what waited when b was handed out. So a frame that is
//! lost loses nothing.
//!
//! Invariants:
//! - where what waited at a base was forgotten, that base is refused: `HistoryGone`.

const std = @import("std");
const catalogue = @import("catalogue.zig");
const visible = @import("visible.zig");

/// Versions in flight, and rows that wait in all of them; beyond either the oldest is forgotten.
const frames_max = 128;
const rows_max = 1 << 16;

/// A row that waits: since which version, and what of it.
pub const Pending = struct { table: u32, key: u64, since: u64, fields: u64 };

const Frame = struct { version: u64, rows: []const Pending };

/// How much a row matters to a client: its own before what is near it, and that before the rest.
pub const Weights = struct {
    /// The entities that were found for this client, and of what found them what makes them its own, and near.
    entities: *const visible.List,
    own: u64,
    near: u64,

    pub fn of(weights: *const Weights, kind: catalogue.Kind, key: u64) u64 {
        if (kind == .keyed) return 2;
        const list = weights.entities;
        const place = visible.place(list.keys.items, @truncate(key));
        if (place == list.keys.items.len or list.keys.items[place] != key) return 1;
        const by = list.by.items[place];
        return if (by & weights.own != 0) 8 else if (by & weights.near != 0) 4 else 1;
    }
};

pub const Budget = struct {
    gpa: std.mem.Allocator,
    /// Of a delta; 0 for no bound.
    bytes: u32 = 0,
    /// In versions.
    staleness: u64 = 1,
    /// By version, oldest first: those at which something waited.
    frames: std.ArrayList(Frame) = .empty,
    rows: usize = 0,
    /// Bases below it are refused.
    floor: u64 = 0,
    /// What the newest delta left waiting.
    waiting: usize = 0,
    /// Bytes that rows take on the wire, in 256ths of what they take here: learned from delta to delta.
    share: u64 = 256,

    pub fn deinit(budget: *Budget) void {
        for (budget.frames.items) |frame| budget.gpa.free(frame.rows);
        budget.frames.deinit(budget.gpa);
    }

    pub fn at(budget: *const Budget, base: u64) []const Pending {
        for (budget.frames.items) |frame| if (frame.version == base) return frame.rows;
        return &.{};
    }

    /// Nobody asks for a base below `version` any more.
    pub fn settle(budget: *Budget, version: u64) void {
        var gone: usize = 0;
        while (gone < budget.frames.items.len and budget.frames.items[gone].version < version) gone += 1;
        budget.forget(gone);
    }

    fn forget(budget: *Budget, n: usize) void {
        const frames = budget.frames.items;
        for (frames[0..n]) |frame| {
            budget.rows -= frame.rows.len;
            budget.gpa.free(frame.rows);
        }
        std.mem.copyForwards(Frame, frames[0 .. frames.len - n], frames[n..]);
        budget.frames.items.len -= n;
    }

    /// Remember what waits in a delta to `version`. One to the same version that was handed out before may be the one that
    /// arrives: then what waits in either of them does.
    pub fn keep(budget: *Budget, version: u64, rows: []const Pending) error{OutOfMemory}!void {
        try budget.frames.ensureUnusedCapacity(budget.gpa, 1);
        const frames = budget.frames.items;
        const again = frames.len > 0 and frames[frames.len - 1].version == version;
        const before: []const Pending = if (again) frames[frames.len - 1].rows else &.{};
        if (rows.len == 0 and before.len == 0) {
            budget.waiting = 0;
            return;
        }
        var list: std.ArrayList(Pending) = .empty;
        errdefer list.deinit(budget.gpa);
        try list.ensureTotalCapacity(budget.gpa, rows.len + before.len);
        list.appendSliceAssumeCapacity(before);
        list.appendSliceAssumeCapacity(rows);
        const owned = try list.toOwnedSlice(budget.gpa);
        if (again) {
            budget.rows -= before.len;
            budget.gpa.free(before);
            budget.frames.items.len -= 1;
        }
        budget.frames.appendAssumeCapacity(.{ .version = version, .rows = owned });
        budget.rows += owned.len;
        budget.waiting = owned.len;
        while (budget.frames.items.len > frames_max or (budget.rows > rows_max and budget.frames.items.len > 1)) {
            budget.floor = budget.frames.items[0].version + 1;
            budget.forget(1);
        }
    }
};
