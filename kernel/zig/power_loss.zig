//! What a loss of power leaves on a disk: the changes of a storage in memory are noted here, and any number of images are
//! made of what the machine could find afterwards.
//!
//! The model is the worst that the interface (`storage.zig`) allows, not what a good file system does:
//! - a sector (512 bytes) that was written since its file was synced is found old, new, torn (its first bytes new) or full
//!   of garbage, whatever its neighbours are; a sector that was not touched is never hurt;
//! - a file that was made longer has any length in between, and what it gained may read as zeros;
//! - a name that was made, replaced or removed since its directory was synced is found either way, each by itself;
//!   syncing a file makes no name durable;
//! - after a sync that failed, what was written before it stays in doubt for good, though later syncs succeed.
//!
//! Invariants:
//! - `base` and `names` are what every image has; `pending` and `renames` are in the order in which they came;
//! - a change that is durable is in `base` unless one that is in doubt came before it: it is applied after that one.

const std = @import("std");
const assert = std.debug.assert;
const interface = @import("storage.zig");
const Memory = @import("storage_memory.zig").Memory;

pub const sector_bytes = 512;
const page_bytes = 4096;

/// One change of a storage. A node is a file or directory by number.
pub const Change = union(enum) {
    make: struct { path: []const u8, node: u32, directory: bool },
    write: struct { node: u32, at: u64, bytes: []const u8 },
    resize: struct { node: u32, bytes: u64 },
    sync: u32,
    /// A sync failed, and the system believes that there is nothing to write any more.
    sync_lost: u32,
    /// The system's memory of a file is gone: what was lost with a sync is seen to be.
    reload: u32,
    rename: struct { node: u32, from: []const u8, to: []const u8 },
    remove: struct { node: u32, path: []const u8 },
    sync_dir: []const u8,
};

/// What becomes of everything that is in doubt.
pub const Variant = struct {
    kind: Kind = .mixed,
    seed: u64 = 0,

    pub const Kind = enum {
        /// The process died, not the machine: all is there.
        killed,
        /// The process died within its last write, of which a part is there.
        killed_within,
        /// Nothing of it.
        bare,
        /// Each by itself, as the seed says.
        mixed,
    };
};

pub const Disk = struct {
    gpa: std.mem.Allocator,
    files: std.ArrayList(File) = .empty,
    names: Names = .empty,
    renames: std.ArrayList(Rename) = .empty,
    /// The file and the index in its `pending` of the newest change, when that was a write.
    newest_write: ?struct { node: u32, index: usize } = null,

    const Names = std.StringArrayHashMapUnmanaged(u32);

    const File = struct {
        directory: bool,
        base: std.ArrayList(u8) = .empty,
        pending: std.ArrayList(Write) = .empty,
        /// Whether a name, durable or in doubt, leads here. Nothing is noted of a file that has none.
        reachable: bool = true,
    };

    const Write = struct {
        at: u64,
        /// Null for a change of length, up to `at`.
        bytes: ?[]u8,
        state: enum { doubted, durable, lost } = .doubted,
    };

    /// A change of names: of `to` to nothing, or of nothing to `from`, or both.
    const Rename = struct {
        node: u32,
        from: ?[]u8,
        to: ?[]u8,
        from_synced: bool,
        to_synced: bool,
    };

    pub fn init(gpa: std.mem.Allocator) Disk {
        return .{ .gpa = gpa };
    }

    /// A disk on which everything that is in a storage is durable.
    pub fn of(memory: *const Memory) error{OutOfMemory}!Disk {
        const gpa = memory.gpa;
        var disk: Disk = .init(gpa);
        errdefer disk.deinit();
        for (memory.nodes.items) |*node| {
            var file: File = .{ .directory = node.kind == .directory };
            try file.base.appendSlice(gpa, node.data.items);
            errdefer file.base.deinit(gpa);
            try disk.files.append(gpa, file);
        }
        for (memory.names.keys(), memory.names.values()) |name, node| {
            const kept = try gpa.dupe(u8, name);
            errdefer gpa.free(kept);
            try disk.names.put(gpa, kept, node);
        }
        return disk;
    }

    pub fn deinit(disk: *Disk) void {
        const gpa = disk.gpa;
        for (disk.files.items) |*file| disk.empty(file);
        disk.files.deinit(gpa);
        for (disk.names.keys()) |name| gpa.free(name);
        disk.names.deinit(gpa);
        for (disk.renames.items) |rename| disk.freeRename(rename);
        disk.renames.deinit(gpa);
    }

    /// The same disk once more, of which other things can be noted.
    pub fn clone(disk: *const Disk) error{OutOfMemory}!Disk {
        const gpa = disk.gpa;
        var copy: Disk = .init(gpa);
        errdefer copy.deinit();
        try copy.files.ensureTotalCapacity(gpa, disk.files.items.len);
        for (disk.files.items) |*file| {
            copy.files.appendAssumeCapacity(.{ .directory = file.directory, .reachable = file.reachable });
            const into = &copy.files.items[copy.files.items.len - 1];
            try into.base.appendSlice(gpa, file.base.items);
            try into.pending.ensureTotalCapacity(gpa, file.pending.items.len);
            for (file.pending.items) |write| {
                const bytes = if (write.bytes) |some| try gpa.dupe(u8, some) else null;
                into.pending.appendAssumeCapacity(.{ .at = write.at, .bytes = bytes, .state = write.state });
            }
        }
        try copy.names.ensureTotalCapacity(gpa, disk.names.count());
        for (disk.names.keys(), disk.names.values()) |name, node| copy.names.putAssumeCapacity(try gpa.dupe(u8, name), node);
        for (disk.renames.items) |rename| {
            try copy.noteRename(rename.node, rename.from, rename.to);
            const into = &copy.renames.items[copy.renames.items.len - 1];
            into.from_synced = rename.from_synced;
            into.to_synced = rename.to_synced;
        }
        return copy;
    }

    /// Take a change in. When memory runs out nothing of it is.
    pub fn note(disk: *Disk, change: Change) error{OutOfMemory}!void {
        disk.newest_write = null;
        switch (change) {
            .make => |made| {
                assert(made.node == disk.files.items.len);
                try disk.files.ensureUnusedCapacity(disk.gpa, 1);
                try disk.noteRename(made.node, null, made.path);
                disk.files.appendAssumeCapacity(.{ .directory = made.directory });
            },
            .write => |write| try disk.noteWrite(write.node, write.at, write.bytes),
            .resize => |size| try disk.noteWrite(size.node, size.bytes, null),
            .sync => |node| try disk.noteSync(node),
            .sync_lost => |node| for (disk.files.items[node].pending.items) |*write| {
                if (write.state == .doubted) write.state = .lost;
            },
            .reload => |node| disk.noteReload(node),
            .rename => |rename| try disk.noteRename(rename.node, rename.from, rename.to),
            .remove => |removed| try disk.noteRename(removed.node, removed.path, null),
            .sync_dir => |path| try disk.noteSyncDir(path),
        }
    }

    fn noteWrite(disk: *Disk, node: u32, at: u64, bytes: ?[]const u8) error{OutOfMemory}!void {
        const file = &disk.files.items[node];
        if (!file.reachable) return;
        try file.pending.ensureUnusedCapacity(disk.gpa, 1);
        const kept = if (bytes) |some| try disk.gpa.dupe(u8, some) else null;
        if (bytes != null) disk.newest_write = .{ .node = node, .index = file.pending.items.len };
        file.pending.appendAssumeCapacity(.{ .at = at, .bytes = kept });
    }

    fn noteSync(disk: *Disk, node: u32) error{OutOfMemory}!void {
        const file = &disk.files.items[node];
        var end: u64 = file.base.items.len;
        for (file.pending.items) |write| end = @max(end, write.at + if (write.bytes) |bytes| bytes.len else 0);
        try file.base.ensureTotalCapacity(disk.gpa, @intCast(end));
        var folded: usize = 0;
        for (file.pending.items, 0..) |*write, n| {
            if (write.state == .doubted) write.state = .durable;
            if (write.state == .lost or folded != n) continue;
            applyWhole(&file.base, write);
            if (write.bytes) |bytes| disk.gpa.free(bytes);
            folded += 1;
        }
        file.pending.replaceRangeAssumeCapacity(0, folded, &.{});
    }

    fn noteReload(disk: *Disk, node: u32) void {
        const file = &disk.files.items[node];
        var kept: usize = 0;
        for (file.pending.items) |write| {
            if (write.state == .lost) {
                if (write.bytes) |bytes| disk.gpa.free(bytes);
            } else {
                file.pending.items[kept] = write;
                kept += 1;
            }
        }
        file.pending.shrinkRetainingCapacity(kept);
    }

    /// The bytes of a file as a process sees them; the caller's.
    pub fn seen(disk: *const Disk, node: u32) error{OutOfMemory}!std.ArrayList(u8) {
        var dice: Dice = .init(.{ .kind = .killed });
        return disk.contents(node, &dice);
    }

    fn noteRename(disk: *Disk, node: u32, from: ?[]const u8, to: ?[]const u8) error{OutOfMemory}!void {
        const gpa = disk.gpa;
        try disk.renames.ensureUnusedCapacity(gpa, 1);
        const old = if (from) |path| try gpa.dupe(u8, path) else null;
        errdefer if (old) |path| gpa.free(path);
        const new = if (to) |path| try gpa.dupe(u8, path) else null;
        disk.renames.appendAssumeCapacity(.{
            .node = node,
            .from = old,
            .to = new,
            .from_synced = old == null,
            .to_synced = new == null,
        });
    }

    fn noteSyncDir(disk: *Disk, path: []const u8) error{OutOfMemory}!void {
        try disk.names.ensureUnusedCapacity(disk.gpa, disk.renames.items.len);
        var kept: usize = 0;
        for (disk.renames.items) |*rename| {
            if (rename.from) |from| rename.from_synced = rename.from_synced or std.mem.eql(u8, interface.parent(from), path);
            if (rename.to) |to| rename.to_synced = rename.to_synced or std.mem.eql(u8, interface.parent(to), path);
            if (rename.from_synced and rename.to_synced) {
                disk.settle(rename.*);
            } else {
                disk.renames.items[kept] = rename.*;
                kept += 1;
            }
        }
        disk.renames.items.len = kept;
        disk.sweep();
    }

    /// Make a change of names durable. It takes the texts over.
    fn settle(disk: *Disk, rename: Rename) void {
        const gpa = disk.gpa;
        if (rename.from) |from| {
            if (disk.names.get(from) == rename.node) gpa.free(disk.names.fetchSwapRemove(from).?.key);
            gpa.free(from);
        }
        if (rename.to) |to| {
            const entry = disk.names.getOrPutAssumeCapacity(to);
            if (entry.found_existing) gpa.free(to);
            entry.value_ptr.* = rename.node;
        }
    }

    /// Forget the bytes of files that no image will have again.
    fn sweep(disk: *Disk) void {
        for (disk.files.items) |*file| file.reachable = false;
        for (disk.names.values()) |node| disk.files.items[node].reachable = true;
        for (disk.renames.items) |rename| disk.files.items[rename.node].reachable = true;
        for (disk.files.items) |*file| if (!file.reachable) disk.empty(file);
    }

    fn empty(disk: *Disk, file: *File) void {
        for (file.pending.items) |write| if (write.bytes) |bytes| disk.gpa.free(bytes);
        file.pending.clearAndFree(disk.gpa);
        file.base.clearAndFree(disk.gpa);
    }

    fn freeRename(disk: *Disk, rename: Rename) void {
        if (rename.from) |from| disk.gpa.free(from);
        if (rename.to) |to| disk.gpa.free(to);
    }

    // Images.

    /// Whether every image is the same.
    pub fn isCertain(disk: *const Disk) bool {
        if (disk.renames.items.len > 0) return false;
        for (disk.files.items) |*file| if (file.pending.items.len > 0) return false;
        return true;
    }

    /// What is found after a crash. Files without doubt lend their bytes to the image, so this disk must stay as it is
    /// until the image is destroyed.
    pub fn image(disk: *const Disk, variant: Variant, pid: u32) error{OutOfMemory}!*Memory {
        var dice: Dice = .init(variant);
        var names: Names = try disk.names.clone(disk.gpa);
        defer names.deinit(disk.gpa);
        try names.ensureUnusedCapacity(disk.gpa, disk.renames.items.len);
        for (disk.renames.items) |rename| {
            if (!dice.happens()) continue;
            if (rename.from) |from| if (names.get(from) == rename.node) {
                _ = names.swapRemove(from);
            };
            if (rename.to) |to| names.putAssumeCapacity(to, rename.node);
        }
        const memory = try Memory.createPlain(disk.gpa, pid);
        errdefer memory.destroy();
        for (names.keys(), names.values()) |name, node| {
            const file = &disk.files.items[node];
            if (!disk.isReached(&names, name)) continue;
            if (file.directory) {
                try memory.plantDirectory(name);
                continue;
            }
            if (file.pending.items.len == 0) {
                try memory.plantShared(name, file.base.items);
                continue;
            }
            var bytes = try disk.contents(node, &dice);
            errdefer bytes.deinit(disk.gpa);
            try memory.plant(name, bytes);
        }
        return memory;
    }

    /// What lies in a directory that is not there is not there.
    fn isReached(disk: *const Disk, names: *const Names, path: []const u8) bool {
        var above = interface.parent(path);
        while (above.len > 0) : (above = interface.parent(above)) {
            const node = names.get(above) orelse return false;
            if (!disk.files.items[node].directory) return false;
        }
        return true;
    }

    fn contents(disk: *const Disk, node: u32, dice: *Dice) error{OutOfMemory}!std.ArrayList(u8) {
        const file = &disk.files.items[node];
        var end: u64 = file.base.items.len;
        for (file.pending.items) |write| end = @max(end, write.at + if (write.bytes) |bytes| bytes.len else 0);
        var bytes: std.ArrayList(u8) = try .initCapacity(disk.gpa, @intCast(end));
        bytes.appendSliceAssumeCapacity(file.base.items);
        for (file.pending.items, 0..) |*write, index| {
            if (write.state == .durable) {
                applyWhole(&bytes, write);
                continue;
            }
            switch (dice.variant.kind) {
                .bare => {},
                .killed => applyWhole(&bytes, write),
                .killed_within => {
                    var part = write.*;
                    if (disk.newest_write) |newest| if (newest.node == node and newest.index == index) {
                        part.bytes = part.bytes.?[0..dice.random().uintAtMost(usize, part.bytes.?.len)];
                    };
                    applyWhole(&bytes, &part);
                },
                .mixed => applySectors(&bytes, write, dice),
            }
        }
        return bytes;
    }
};

/// What chance decides in one image, with odds that are drawn first: images in which nearly all, half and hardly
/// anything is there each find other mistakes.
const Dice = struct {
    prng: std.Random.DefaultPrng,
    variant: Variant,
    odds_new: f32 = 0,
    odds_torn: f32 = 0,
    odds_garbage: f32 = 0,
    odds_name: f32 = 0,
    /// Whether the sectors of a page share their fate, as where the system writes whole pages.
    by_page: bool = false,

    fn init(variant: Variant) Dice {
        var dice: Dice = .{ .prng = .init(variant.seed), .variant = variant };
        const r = dice.random();
        const some = [_]f32{ 0.05, 0.5, 0.5, 0.95 };
        dice.odds_new = some[r.uintLessThan(usize, some.len)];
        dice.odds_name = some[r.uintLessThan(usize, some.len)];
        const few = [_]f32{ 0, 0.02, 0.1, 0.3 };
        dice.odds_torn = few[r.uintLessThan(usize, few.len)];
        dice.odds_garbage = few[r.uintLessThan(usize, few.len)];
        dice.by_page = r.boolean();
        return dice;
    }

    fn random(dice: *Dice) std.Random {
        return dice.prng.random();
    }

    fn happens(dice: *Dice) bool {
        return switch (dice.variant.kind) {
            .killed, .killed_within => true,
            .bare => false,
            .mixed => dice.random().float(f32) < dice.odds_name,
        };
    }
};

/// Room for it is there.
fn grow(bytes: *std.ArrayList(u8), end: u64) void {
    const old = bytes.items.len;
    if (end <= old) return;
    bytes.items.len = @intCast(end);
    @memset(bytes.items[old..], 0);
}

fn applyWhole(bytes: *std.ArrayList(u8), write: *const Disk.Write) void {
    const new = write.bytes orelse return grow(bytes, write.at);
    grow(bytes, write.at + new.len);
    @memcpy(bytes.items[@intCast(write.at)..][0..new.len], new);
}

fn applySectors(bytes: *std.ArrayList(u8), write: *const Disk.Write, dice: *Dice) void {
    const random = dice.random();
    const length = if (write.bytes) |new| new.len else 0;
    const end = write.at + length;
    const before = bytes.items.len;
    if (end > before) {
        const gained = end - before;
        const chance = random.float(f32);
        if (chance < dice.odds_new) {
            grow(bytes, end);
        } else if (chance < dice.odds_new + 0.2) {
            grow(bytes, @min(end, before + random.uintAtMost(u64, gained / sector_bytes) * sector_bytes));
        }
    }
    const new = write.bytes orelse return;
    const start: usize = @intCast(write.at);
    const stop = @min(start + length, bytes.items.len);
    var sector = start / sector_bytes * sector_bytes;
    var fate: f32 = 0;
    var fresh = false;
    while (sector < stop) : (sector += sector_bytes) {
        if (!dice.by_page or sector % page_bytes == 0 or sector <= start) {
            fate = random.float(f32);
            fresh = random.float(f32) < dice.odds_new;
        }
        const from = @max(sector, start);
        const to = @min(sector + sector_bytes, stop);
        const part = new[from - start .. to - start];
        if (fate < dice.odds_garbage) {
            // All of the sector: a drive writes no less.
            random.bytes(bytes.items[sector..@min(sector + sector_bytes, bytes.items.len)]);
        } else if (fate < dice.odds_garbage + dice.odds_torn) {
            const kept = random.uintAtMost(usize, part.len);
            @memcpy(bytes.items[from..][0..kept], part[0..kept]);
        } else if (fresh) {
            @memcpy(bytes.items[from..to], part);
        }
    }
}

/// Every change of a storage, in order: what images at any earlier moment are made of.
pub const Recording = struct {
    arena: std.heap.ArenaAllocator,
    changes: std.ArrayList(Change) = .empty,

    pub fn init(gpa: std.mem.Allocator) Recording {
        return .{ .arena = .init(gpa) };
    }

    pub fn deinit(recording: *Recording) void {
        recording.arena.deinit();
    }

    pub fn note(recording: *Recording, change: Change) error{OutOfMemory}!void {
        const gpa = recording.arena.allocator();
        var kept = change;
        switch (kept) {
            .make => |*made| made.path = try gpa.dupe(u8, made.path),
            .write => |*write| write.bytes = try gpa.dupe(u8, write.bytes),
            .rename => |*rename| {
                rename.from = try gpa.dupe(u8, rename.from);
                rename.to = try gpa.dupe(u8, rename.to);
            },
            .remove => |*removed| removed.path = try gpa.dupe(u8, removed.path),
            .sync_dir => |*path| path.* = try gpa.dupe(u8, path.*),
            .resize, .sync, .sync_lost, .reload => {},
        }
        try recording.changes.append(gpa, kept);
    }
};

const testing_gpa = std.testing.allocator;
const expectEqual = std.testing.expectEqual;
const expectEqualStrings = std.testing.expectEqualStrings;

/// What is in a file of an image, or "(none)".
fn found(memory: *Memory, variant: Variant, path: []const u8, into: []u8) ![]const u8 {
    const left = try memory.image(variant);
    defer left.destroy();
    const bytes = left.contents(path) orelse return "(none)";
    @memcpy(into[0..bytes.len], bytes);
    return into[0..bytes.len];
}

test "what is synced is in every image, with the name only when its directory is" {
    const memory = try Memory.create(testing_gpa, 1);
    defer memory.destroy();
    const disk = memory.storage();
    try disk.makeDir("wal");
    const file = try disk.open("wal/a.tmp", .create);
    defer disk.close(file);
    var room: [16]u8 = undefined;
    try disk.write(file, 0, "abc");
    try disk.sync(file, .data);
    try expectEqualStrings("(none)", try found(memory, .{ .kind = .bare }, "wal/a.tmp", &room));
    try expectEqualStrings("abc", try found(memory, .{ .kind = .killed }, "wal/a.tmp", &room));
    try disk.syncDir("wal");
    // The directory itself has no durable name yet.
    try expectEqualStrings("(none)", try found(memory, .{ .kind = .bare }, "wal/a.tmp", &room));
    try disk.syncDir("");
    try expectEqualStrings("abc", try found(memory, .{ .kind = .bare }, "wal/a.tmp", &room));
    try disk.write(file, 1, "xyz");
    try disk.rename("wal/a.tmp", "wal/a");
    try expectEqualStrings("abc", try found(memory, .{ .kind = .bare }, "wal/a.tmp", &room));
    try expectEqualStrings("axyz", try found(memory, .{ .kind = .killed }, "wal/a", &room));
    try disk.syncDir("wal");
    try expectEqualStrings("abc", try found(memory, .{ .kind = .bare }, "wal/a", &room));
    try disk.sync(file, .data);
    try disk.remove("wal/a");
    for (0..20) |seed| {
        const left = try found(memory, .{ .seed = seed }, "wal/a", &room);
        try std.testing.expect(std.mem.eql(u8, left, "axyz") or std.mem.eql(u8, left, "(none)"));
    }
    try disk.syncDir("wal");
    try expectEqualStrings("(none)", try found(memory, .{ .kind = .bare }, "wal/a", &room));
}

test "an unsynced sector is found old, new, torn and full of garbage; its neighbour never is" {
    const memory = try Memory.create(testing_gpa, 1);
    defer memory.destroy();
    const disk = memory.storage();
    const file = try disk.open("a", .create);
    defer disk.close(file);
    const old: [3 * sector_bytes]u8 = @splat('o');
    try disk.write(file, 0, &old);
    try disk.sync(file, .all);
    try disk.syncDir("");
    const new: [sector_bytes]u8 = @splat('n');
    try disk.write(file, sector_bytes, &new);
    var seen: [4]u32 = @splat(0);
    for (0..400) |seed| {
        const left = try memory.image(.{ .seed = seed });
        defer left.destroy();
        const bytes = left.contents("a").?;
        try expectEqualStrings(old[0..sector_bytes], bytes[0..sector_bytes]);
        try expectEqualStrings(old[0..sector_bytes], bytes[2 * sector_bytes ..]);
        const sector = bytes[sector_bytes..][0..sector_bytes];
        const fresh = std.mem.indexOfNone(u8, sector, "n") orelse sector_bytes;
        const stale = std.mem.indexOfNone(u8, sector[fresh..], "o") == null;
        seen[if (fresh == sector_bytes) 0 else if (stale and fresh == 0) 1 else if (stale) 2 else 3] += 1;
    }
    for (seen) |times| try std.testing.expect(times > 10);
}

test "a file that grows has any length in between" {
    const memory = try Memory.create(testing_gpa, 1);
    defer memory.destroy();
    const disk = memory.storage();
    const file = try disk.open("a", .create);
    defer disk.close(file);
    try disk.syncDir("");
    const new: [4 * sector_bytes]u8 = @splat('n');
    try disk.write(file, 0, &new);
    var seen: [5]u32 = @splat(0);
    for (0..400) |seed| {
        const left = try memory.image(.{ .seed = seed });
        defer left.destroy();
        seen[left.contents("a").?.len / sector_bytes] += 1;
    }
    for (seen) |times| try std.testing.expect(times > 0);
    var room: [4 * sector_bytes]u8 = undefined;
    var cut: u32 = 0;
    for (0..20) |seed| {
        const left = try found(memory, .{ .kind = .killed_within, .seed = seed }, "a", &room);
        try expectEqualStrings(new[0..left.len], left);
        cut += @intFromBool(left.len < new.len);
    }
    try std.testing.expect(cut > 0);
}

test "what was unsynced when a sync failed stays in doubt, though later ones succeed" {
    const memory = try Memory.create(testing_gpa, 1);
    defer memory.destroy();
    const disk = memory.storage();
    const file = try disk.open("a", .create);
    defer disk.close(file);
    try disk.syncDir("");
    const first: [sector_bytes]u8 = @splat('1');
    const second: [sector_bytes]u8 = @splat('2');
    try disk.write(file, 0, &first);
    try memory.loseSync(file);
    try disk.write(file, sector_bytes, &second);
    try disk.sync(file, .data);
    var room: [2 * sector_bytes]u8 = undefined;
    const left = try found(memory, .{ .kind = .bare }, "a", &room);
    try expectEqual(2 * sector_bytes, left.len);
    try expectEqual(0, left[0]);
    try expectEqualStrings(&second, left[sector_bytes..]);
    // A process that reads it sees what it wrote, until it asks for what is on the disk.
    var seen: [1]u8 = undefined;
    try expectEqual(1, try disk.read(file, 0, &seen));
    try expectEqual('1', seen[0]);
    disk.reload(file);
    try expectEqual(1, try disk.read(file, 0, &seen));
    try expectEqual(0, seen[0]);
    // It can be written once more, and is durable then.
    try disk.write(file, 0, &first);
    try disk.sync(file, .data);
    try expectEqual('1', (try found(memory, .{ .kind = .bare }, "a", &room))[0]);
}

test "what a killed process leaves is as durable as it was" {
    const memory = try Memory.create(testing_gpa, 1);
    defer memory.destroy();
    const disk = memory.storage();
    const file = try disk.lock("a");
    try disk.syncDir("");
    try disk.sync(file, .data);
    try disk.write(file, 0, "after");
    const left = try memory.killed();
    defer left.destroy();
    disk.close(file);
    var room: [16]u8 = undefined;
    try expectEqualStrings("after\n", left.contents("a").?);
    try expectEqualStrings("pid 1\n", try found(left, .{ .kind = .bare }, "a", &room));
    const again = try left.storage().lock("a");
    try left.storage().sync(again, .data);
    left.storage().close(again);
    try expectEqualStrings("pid 1\n", try found(left, .{ .kind = .bare }, "a", &room));
}

test "images of the past are those of a disk that the recording is played to" {
    var recording: Recording = .init(testing_gpa);
    defer recording.deinit();
    const memory = try Memory.create(testing_gpa, 1);
    defer memory.destroy();
    memory.recording = &recording;
    const disk = memory.storage();
    const file = try disk.open("a.tmp", .create);
    try disk.write(file, 0, "abc");
    try disk.sync(file, .data);
    try disk.rename("a.tmp", "a");
    try disk.syncDir("");
    disk.close(file);
    try disk.remove("a");
    var past: Disk = .init(testing_gpa);
    defer past.deinit();
    const expected = [_]?[]const u8{ null, "", "abc", "abc", null, null, null };
    for (recording.changes.items, expected[1..]) |change, bytes| {
        try past.note(change);
        const left = try past.image(.{ .kind = .killed }, 1);
        defer left.destroy();
        if (bytes) |some| try expectEqualStrings(some, left.contents("a.tmp").?) else try expectEqual(null, left.contents("a.tmp"));
    }
    // What is found may be gone on with, and lost again.
    const left = try past.image(.{ .kind = .bare }, 1);
    defer left.destroy();
    try left.watch();
    const again = try left.storage().open("a", .write);
    try left.storage().write(again, 0, "x");
    left.storage().close(again);
    var room: [16]u8 = undefined;
    try expectEqualStrings("abc", try found(left, .{ .kind = .bare }, "a", &room));
    try expectEqualStrings("xbc", try found(left, .{ .kind = .killed }, "a", &room));
}
