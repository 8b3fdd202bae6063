//! Texts as a foreign caller sees them: cells of strings are references, and these calls turn them into bytes and back.
//!
//! Many texts are handed over as one run of bytes and where each ends: text i is `bytes[ends[i - 1]..ends[i]]`.
//!
//! `ecs_text_intern` needs an open transaction, and what it gives is good until that ends. All others may be called from
//! any thread for the cells of a version that it has pinned, and by the writer for the head's.

const std = @import("std");
const compat = @import("compat.zig");
const failure = @import("failure.zig");
const Heap = @import("heap.zig").Heap;
const Store = @import("store.zig").Store;
const mix = @import("key_index.zig").mix;

/// The references of `n` texts. `Text` for one that is no UTF-8 or longer than any string may be, with its number as
/// the offset of the failure.
export fn ecs_text_intern(store: *Store, n: u64, ends: [*]const u64, bytes: [*]const u8, references: [*]u64) i32 {
    store.head.info = .{};
    intern(store, ends[0..@intCast(n)], bytes, references) catch |err| return failure.code(err);
    return 0;
}

fn intern(store: *Store, ends: []const u64, bytes: [*]const u8, references: [*]u64) failure.Error!void {
    try store.needTransaction();
    var start: u64 = 0;
    for (ends, 0..) |end, i| {
        if (end < start) return error.BadArgument;
        const text = bytes[@intCast(start)..@intCast(end)];
        if (!Heap.fit(text)) {
            store.head.info = .{ .offset = i, .found = text.len };
            return error.Text;
        }
        references[i] = try store.head.heap.intern(text);
        start = end;
    }
}

/// The bytes of one text, which stay where they are as long as its version is pinned.
export fn ecs_text_at(store: *Store, reference: u64, address: *u64, length: *u64) i32 {
    const text = store.head.heap.read(reference) orelse return failure.code(error.BadArgument);
    address.* = @intFromPtr(text.ptr);
    length.* = text.len;
    return 0;
}

/// Where each of `n` texts ends, and their bytes if `room` is enough for all. Returns how many bytes they are.
export fn ecs_text_gather(store: *Store, n: u64, references: [*]const u64, ends: [*]u64, bytes: [*]u8, room: u64) i64 {
    const heap = &store.head.heap;
    var total: u64 = 0;
    for (references[0..@intCast(n)], ends) |reference, *end| {
        total += (heap.read(reference) orelse return failure.code(error.BadArgument)).len;
        end.* = total;
    }
    if (total > room) return @intCast(total);
    var at: usize = 0;
    for (references[0..@intCast(n)]) |reference| {
        const text = heap.get(reference);
        @memcpy(bytes[at..][0..text.len], text);
        at += text.len;
    }
    return @intCast(total);
}

/// Number the distinct references among `n` cells in the order of their first occurrence: `codes` receives each cell's
/// number, `references` (room for n) what each number stands for. Returns how many there are.
export fn ecs_text_distinct(n: u64, cells: [*]const u64, codes: [*]u32, references: [*]u64) i64 {
    const count = distinct(cells[0..@intCast(n)], codes, references) catch |err| return failure.code(err);
    return count;
}

fn distinct(cells: []const u64, codes: [*]u32, references: [*]u64) error{OutOfMemory}!u32 {
    const gpa = compat.allocator;
    // Number plus one by reference; it grows with what is found, so that few texts stay in the cache.
    var places = try gpa.alloc(u32, 1024);
    defer gpa.free(places);
    @memset(places, 0);
    var count: u32 = 0;
    for (cells, 0..) |cell, i| {
        if (i > 0 and cell == cells[i - 1]) {
            codes[i] = codes[i - 1];
            continue;
        }
        var at: usize = @intCast(mix(cell) & (places.len - 1));
        while (places[at] != 0 and references[places[at] - 1] != cell) at = (at + 1) & (places.len - 1);
        if (places[at] != 0) {
            codes[i] = places[at] - 1;
            continue;
        }
        references[count] = cell;
        codes[i] = count;
        count += 1;
        places[at] = count;
        if (@as(usize, count) * 2 < places.len) continue;
        const larger = try gpa.alloc(u32, places.len * 4);
        @memset(larger, 0);
        for (references[0..count], 1..) |reference, number| {
            var to: usize = @intCast(mix(reference) & (larger.len - 1));
            while (larger[to] != 0) to = (to + 1) & (larger.len - 1);
            larger[to] = @intCast(number);
        }
        gpa.free(places);
        places = larger;
    }
    return count;
}

/// The hashes of `n` cells' texts, and of `n` texts: equal for equal texts, in this store and as long as it lives.
export fn ecs_text_hash(store: *Store, n: u64, cells: [*]const u64, hashes: [*]u64) i32 {
    const heap = &store.head.heap;
    for (cells[0..@intCast(n)], hashes) |cell, *hash|
        hash.* = heap.longHash(heap.read(cell) orelse return failure.code(error.BadArgument));
    return 0;
}

export fn ecs_text_hash_of(store: *Store, n: u64, ends: [*]const u64, bytes: [*]const u8, hashes: [*]u64) i32 {
    var start: u64 = 0;
    for (ends[0..@intCast(n)], hashes) |end, *hash| {
        if (end < start) return failure.code(error.BadArgument);
        hash.* = store.head.heap.longHash(bytes[@intCast(start)..@intCast(end)]);
        start = end;
    }
    return 0;
}

const Test = enum(u32) { equal, less, less_equal, starts };

/// Compare `n` cells with texts: `mask` receives 1 where the cell equals one of them (0), is less than the first (1), at
/// most the first (2), or starts with one of them (3). By code point, which is the order of the bytes.
export fn ecs_text_test(
    store: *Store,
    n: u64,
    cells: [*]const u64,
    how: u32,
    count: u32,
    ends: [*]const u64,
    bytes: [*]const u8,
    mask: [*]u8,
) i32 {
    const kind = std.enums.fromInt(Test, how) orelse return failure.code(error.BadArgument);
    var start: u64 = 0;
    for (ends[0..count]) |end| {
        if (end < start) return failure.code(error.BadArgument);
        start = end;
    }
    // Answers by reference: cells say the same few texts again and again.
    var known: [256]u64 = @splat(0);
    var answers: [256]u8 = @splat(answer(kind, "", ends[0..count], bytes));
    for (cells[0..@intCast(n)], mask) |cell, *to| {
        const at: usize = @intCast((cell >> 3 ^ cell >> 11) & (known.len - 1));
        if (known[at] != cell) {
            const text = store.head.heap.read(cell) orelse return failure.code(error.BadArgument);
            known[at] = cell;
            answers[at] = answer(kind, text, ends[0..count], bytes);
        }
        to.* = answers[at];
    }
    return 0;
}

fn answer(kind: Test, text: []const u8, ends: []const u64, bytes: [*]const u8) u8 {
    var start: usize = 0;
    for (ends) |end| {
        const other = bytes[start..@intCast(end)];
        start = @intCast(end);
        const found = switch (kind) {
            .equal => std.mem.eql(u8, text, other),
            .less => std.mem.order(u8, text, other) == .lt,
            .less_equal => std.mem.order(u8, text, other) != .gt,
            .starts => std.mem.startsWith(u8, text, other),
        };
        if (found) return 1;
    }
    return 0;
}

test "distinct numbers come in the order of their first cell, however many there are" {
    const gpa = std.testing.allocator;
    const n = 9000;
    const cells = try gpa.alloc(u64, n);
    defer gpa.free(cells);
    const codes = try gpa.alloc(u32, n);
    defer gpa.free(codes);
    const references = try gpa.alloc(u64, n);
    defer gpa.free(references);
    for (cells, 0..) |*cell, i| cell.* = (i * 7919 % 4001) * 8;
    const count = ecs_text_distinct(n, cells.ptr, codes.ptr, references.ptr);
    try std.testing.expectEqual(4001, count);
    for (cells, codes, 0..) |cell, code, i| {
        try std.testing.expectEqual(cell, references[code]);
        try std.testing.expectEqual(i % 4001, code);
    }
}
