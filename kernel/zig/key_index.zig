//! The writer's own index over one column: from a value to the rows that hold it. It serves unique
//! fields (is there another?) and foreign keys (who refers to this entity?).
//!
//! Rows with one value form a doubly linked chain, so that ten thousand items with one holder cost
//! no more to change than ten thousand with one each. Values are known by a 64-bit hash: whoever
//! needs exactness compares the cells. Both maps are open addressing with backward-shift deletion:
//! a table that lives for days sees no tombstones pile up.

const std = @import("std");
const assert = std.debug.assert;

/// Finalizer of MurmurHash3 (Austin Appleby, public domain): a bijection on u64.
pub fn mix(value: u64) u64 {
    var x = value;
    x ^= x >> 33;
    x *%= 0xff51afd7ed558ccd;
    x ^= x >> 33;
    x *%= 0xc4ceb9fe1a85ec53;
    x ^= x >> 33;
    return x;
}

pub fn hashCell(cell: []const u8) u64 {
    if (cell.len <= 8) {
        var word: [8]u8 = @splat(0);
        @memcpy(word[0..cell.len], cell);
        return mix(std.mem.readInt(u64, &word, .little));
    }
    return std.hash.Wyhash.hash(0, cell);
}

/// u64 → u32, no value 0xffffffff.
const Map = struct {
    const Entry = struct { key: u64, value: u32 };
    const none: u32 = 0xffff_ffff;

    entries: []Entry = &.{},
    len: usize = 0,

    fn deinit(map: *Map, gpa: std.mem.Allocator) void {
        gpa.free(map.entries);
    }

    fn ensure(map: *Map, gpa: std.mem.Allocator, more: usize) error{OutOfMemory}!void {
        const need = map.len + more;
        if (need * 4 <= map.entries.len * 3) return;
        var cap = @max(map.entries.len, 16);
        while (need * 4 > cap * 3) cap *= 2;
        const old = map.entries;
        const fresh = try gpa.alloc(Entry, cap);
        @memset(fresh, .{ .key = 0, .value = none });
        map.entries = fresh;
        map.len = 0;
        for (old) |entry| if (entry.value != none) map.put(entry.key, entry.value);
        gpa.free(old);
    }

    fn home(map: *const Map, key: u64) usize {
        return @intCast(mix(key) & (map.entries.len - 1));
    }

    fn place(map: *const Map, key: u64) ?usize {
        if (map.entries.len == 0) return null;
        var at = map.home(key);
        while (map.entries[at].value != none) : (at = (at + 1) & (map.entries.len - 1))
            if (map.entries[at].key == key) return at;
        return null;
    }

    fn get(map: *const Map, key: u64) ?u32 {
        return map.entries[map.place(key) orelse return null].value;
    }

    fn put(map: *Map, key: u64, value: u32) void {
        assert(value != none);
        var at = map.home(key);
        while (map.entries[at].value != none) : (at = (at + 1) & (map.entries.len - 1)) {
            if (map.entries[at].key == key) {
                map.entries[at].value = value;
                return;
            }
        }
        map.entries[at] = .{ .key = key, .value = value };
        map.len += 1;
    }

    fn remove(map: *Map, key: u64) void {
        const mask = map.entries.len - 1;
        var hole = map.place(key).?;
        var at = (hole + 1) & mask;
        while (map.entries[at].value != none) : (at = (at + 1) & mask) {
            // An entry may fill the hole unless its home lies cyclically in (hole, at].
            const distance = (at -% map.home(map.entries[at].key)) & mask;
            if (distance >= ((at -% hole) & mask)) {
                map.entries[hole] = map.entries[at];
                hole = at;
            }
        }
        map.entries[hole] = .{ .key = 0, .value = none };
        map.len -= 1;
    }
};

pub const KeyIndex = struct {
    const none = Map.none;
    const Node = struct { key: u64, hash: u64, prev: u32, next: u32 };

    nodes: std.ArrayList(Node) = .empty,
    free: u32 = none,
    first: Map = .{},
    by_key: Map = .{},

    pub fn deinit(index: *KeyIndex, gpa: std.mem.Allocator) void {
        index.nodes.deinit(gpa);
        index.first.deinit(gpa);
        index.by_key.deinit(gpa);
    }

    /// Make room so that `more` adds cannot fail.
    pub fn ensure(index: *KeyIndex, gpa: std.mem.Allocator, more: usize) error{OutOfMemory}!void {
        try index.nodes.ensureUnusedCapacity(gpa, more);
        try index.first.ensure(gpa, more);
        try index.by_key.ensure(gpa, more);
    }

    pub fn add(index: *KeyIndex, hash: u64, key: u64) void {
        assert(index.by_key.get(key) == null);
        const head = index.first.get(hash) orelse none;
        const node: Node = .{ .key = key, .hash = hash, .prev = none, .next = head };
        const at = if (index.free != none) reuse: {
            const at = index.free;
            index.free = index.nodes.items[at].next;
            index.nodes.items[at] = node;
            break :reuse at;
        } else append: {
            index.nodes.appendAssumeCapacity(node);
            break :append @as(u32, @intCast(index.nodes.items.len - 1));
        };
        if (head != none) index.nodes.items[head].prev = at;
        index.first.put(hash, at);
        index.by_key.put(key, at);
    }

    /// Forget a row, if it is here at all (a null reference is not).
    pub fn remove(index: *KeyIndex, key: u64) void {
        const at = index.by_key.get(key) orelse return;
        const node = index.nodes.items[at];
        if (node.next != none) index.nodes.items[node.next].prev = node.prev;
        if (node.prev != none) {
            index.nodes.items[node.prev].next = node.next;
        } else if (node.next != none) {
            index.first.put(node.hash, node.next);
        } else {
            index.first.remove(node.hash);
        }
        index.by_key.remove(key);
        index.nodes.items[at].next = index.free;
        index.free = at;
    }

    pub const Iterator = struct {
        index: *const KeyIndex,
        at: u32,

        pub fn next(it: *Iterator) ?u64 {
            if (it.at == none) return null;
            const node = it.index.nodes.items[it.at];
            it.at = node.next;
            return node.key;
        }
    };

    /// Rows whose value has this hash. Valid until the next change.
    pub fn with(index: *const KeyIndex, hash: u64) Iterator {
        return .{ .index = index, .at = index.first.get(hash) orelse none };
    }
};

test "a chain forgets exactly the row it is told to" {
    const gpa = std.testing.allocator;
    var index: KeyIndex = .{};
    defer index.deinit(gpa);
    var model: std.AutoHashMapUnmanaged(u64, u64) = .empty;
    defer model.deinit(gpa);
    var random = std.Random.DefaultPrng.init(7);
    for (0..4000) |_| {
        const key = 1 + random.random().uintLessThan(u64, 200);
        if (model.contains(key)) {
            index.remove(key);
            _ = model.remove(key);
        } else {
            const value = random.random().uintLessThan(u64, 20);
            try index.ensure(gpa, 1);
            index.add(mix(value), key);
            try model.put(gpa, key, value);
        }
        const probe = random.random().uintLessThan(u64, 20);
        var found: usize = 0;
        var it = index.with(mix(probe));
        while (it.next()) |k| {
            try std.testing.expectEqual(probe, model.get(k).?);
            found += 1;
        }
        var expected: usize = 0;
        var values = model.valueIterator();
        while (values.next()) |v| expected += @intFromBool(v.* == probe);
        try std.testing.expectEqual(expected, found);
    }
}
