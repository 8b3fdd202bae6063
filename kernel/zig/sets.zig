//! Which change sets say what happened in `(base, version]`: those of a pinned view's ring, then those that were merged.
//!
//! The last one may begin before `base`, so what they say is a superset: whoever goes by it names a row too many at worst.

const std = @import("std");
const changes = @import("changes.zig");
const view = @import("view.zig");

/// Walk the change sets of `(base, slot.version]`, newest first: those of the ring, then those that were merged. The last one
/// may begin before `base`.
pub const Sets = struct {
    next_set: ?*changes.ChangeSet,
    oldest_cut: u64,
    base: u64,
    /// Beyond the ring.
    older: []const *changes.ChangeSet,
    in_ring: bool = true,

    pub fn of(slot: *const view.Slot, base: u64) Sets {
        return .{ .next_set = slot.newest, .oldest_cut = slot.oldest_cut, .base = base, .older = slot.older };
    }
    pub fn next(sets: *Sets) ?*changes.ChangeSet {
        const set = sets.next_set orelse return null;
        if (set.version <= sets.base) return null;
        if (sets.in_ring and set.cut > sets.oldest_cut) {
            sets.next_set = set.prev;
            return set;
        }
        sets.in_ring = false;
        sets.next_set = null;
        if (sets.older.len > 0) {
            sets.next_set = sets.older[0];
            sets.older = sets.older[1..];
        }
        return set;
    }
};

/// Whether the view's change sets cover everything since `base`.
pub fn reaches(slot: *const view.Slot, base: u64) bool {
    var sets = Sets.of(slot, base);
    var reached = false;
    while (sets.next()) |set| reached = set.version_before <= base;
    return reached;
}

/// Whether anything of a table changed in `(base, slot.version]`.
pub fn touched(slot: *const view.Slot, base: u64, number: usize) bool {
    var sets = Sets.of(slot, base);
    while (sets.next()) |set| if (set.of(number)) |changed| if (changed.shown) return true;
    return false;
}

/// By field, for the first `fields` of them, the rows whose cells changed; null where none did.
pub fn collectDirty(
    a: std.mem.Allocator,
    slot: *const view.Slot,
    base: u64,
    number: usize,
    of: *const view.TableView,
    fields: usize,
) error{OutOfMemory}![]?[]u64 {
    const bitmaps = try a.alloc(?[]u64, fields);
    @memset(bitmaps, null);
    if (of.rows == 0) return bitmaps;
    const words = (of.rows + 63) / 64;
    var sets = Sets.of(slot, base);
    while (sets.next()) |set| {
        const changed = set.of(number) orelse continue;
        for (changed.columns[0..fields], 0..) |*dirty, f| {
            if (dirty.isEmpty()) continue;
            const bitmap = bitmaps[f] orelse fresh: {
                const made = try a.alloc(u64, words);
                @memset(made, 0);
                bitmaps[f] = made;
                break :fresh made;
            };
            dirty.orInto(bitmap, of.rows);
        }
    }
    return bitmaps;
}
