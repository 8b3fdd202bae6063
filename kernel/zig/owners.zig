//! Who owns what, for those that have an audience: looked up once where the owners or the rows have changed.

const std = @import("std");
const view = @import("view.zig");
const Audience = @import("audience.zig").Audience;

pub const Owners = struct {
    gpa: std.mem.Allocator,
    /// The entities of each client that has an audience.
    entities: std.AutoHashMapUnmanaged(u64, std.ArrayList(u64)) = .empty,
    /// What of the entities it was made from; null for nothing.
    stamp: ?[2]u64 = null,

    pub fn deinit(owners: *Owners) void {
        owners.clear();
    }

    pub fn of(owners: *const Owners, owner: u64) []const u64 {
        if (owner == 0) return &.{};
        return if (owners.entities.get(owner)) |keys| keys.items else &.{};
    }

    /// Serve a version from now on. What fails leaves nothing, and is made the next time.
    pub fn follow(owners: *Owners, slot: *const view.Slot, audiences: []const ?*Audience) error{OutOfMemory}!void {
        const table = slot.tables[0];
        const stamp: [2]u64 = .{ table.struct_seq, table.columns[0].cut };
        if (owners.stamp) |known| if (std.meta.eql(known, stamp)) return;
        owners.stamp = null;
        owners.clear();
        for (audiences) |maybe| if (maybe) |audience| {
            if (audience.owner != 0) try owners.entities.put(owners.gpa, audience.owner, .empty);
        };
        const cells = @as([*]const u64, @ptrCast(table.columns[0].data.ptr))[0..table.rows];
        for (table.keyList(), cells) |key, owner| {
            if (owner == 0) continue;
            const keys = owners.entities.getPtr(owner) orelse continue;
            try keys.append(owners.gpa, key);
        }
        owners.stamp = stamp;
    }

    fn clear(owners: *Owners) void {
        var it = owners.entities.valueIterator();
        while (it.next()) |keys| keys.deinit(owners.gpa);
        owners.entities.clearAndFree(owners.gpa);
    }
};
