//! The string heap: every distinct text of a store once, so that a cell is eight bytes and two cells are equal
//! exactly when their texts are.
//!
//! A cell holds a reference: 0 is the empty text, any other names the chunk and the place in it where an entry
//! begins. References never leave the process; elsewhere a string is its bytes.
//!
//!     reference   (chunk + 1) << 16 | offset
//!     entry       u32 length | u32 hash | UTF-8 | up to 7 bytes of nothing; begins at a multiple of 8
//!
//! Nothing counts references: a cell is written at the price of any other. What nobody refers to any more is found
//! by mark and sweep instead (`sweep.zig` says what is marked, and when), once as much was taken as lived.
//!
//! Invariants:
//! - a chunk never moves, and an entry that is marked never changes: whoever reads a pinned version decodes its
//!   references without a lock, whatever the writer does. `get` is for everybody, all else is the writer's own;
//! - two entries never hold the same text;
//! - after `sweep` exactly the entries that were marked are left.

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("limits.zig");
const memory = @import("memory.zig");

/// A page of memory in units large enough that their count stays small: 4 GiB of text are 65,536 chunks.
pub const chunk_bytes = 64 << 10;
const unit = 8;
const words = chunk_bytes / unit / 64;
/// Chunks are found by a directory of two levels whose parts do not move either.
const level = 256;
const chunks_max = level * level;
const header_bytes = 8;
/// The smallest entry there is.
const hole_bytes_min = 2 * unit;
/// Larger texts do not look for a hole: they would pass over many that smaller ones fit in.
const hole_text_max = 256;
/// Below this much nothing is swept: a store with few texts never marks.
const garbage_bytes_min = 256 << 10;

comptime {
    assert(limits.string_bytes_max + header_bytes <= chunk_bytes);
    assert(chunk_bytes == 1 << 16); // the low half of a reference
}

const Bitmap = [words]u64;

const Chunk = struct {
    bytes: [chunk_bytes]u8 align(64),
    /// Where entries begin, a bit a unit, and which of them were marked.
    starts: Bitmap,
    marks: Bitmap,
};

const Run = struct { chunk: u32 = 0, at: u32 = 0, end: u32 = 0 };

pub const Heap = struct {
    gpa: std.mem.Allocator,
    directory: [level]?*[level]?*Chunk = @splat(null),
    /// Chunk numbers handed out so far, and those among them that are free again.
    chunks: u32 = 0,
    vacant: std.ArrayList(u32) = .empty,
    /// Text to reference: open addressing, 16 bits of the hash above the reference; 0 is empty.
    table: []u64 = &.{},
    count: u32 = 0,
    /// Where the next entries go: what the last sweep left between others, and an untouched end of a chunk.
    hole: Run = .{},
    holes: std.ArrayList(Run) = .empty,
    fresh: Run = .{},
    /// Bytes of entries: those left by the last sweep, and those taken since.
    lived: u64 = 0,
    taken: u64 = 0,
    /// References looked at by the last mark: garbage has to be worth the walk.
    marked: u64 = 0,
    /// A peer chooses the texts that a replica hashes. An address keeps it from choosing their hashes.
    salt: u64 = 0,

    pub fn deinit(heap: *Heap) void {
        for (heap.directory) |page| if (page) |chunks| {
            for (chunks) |chunk| if (chunk) |c| heap.destroyChunk(c);
            heap.gpa.destroy(chunks);
        };
        heap.vacant.deinit(heap.gpa);
        heap.holes.deinit(heap.gpa);
        heap.gpa.free(heap.table);
    }

    /// The text of a reference, as long as something that is marked has it: a pinned version, or the head for the
    /// writer. From any thread.
    pub fn get(heap: *const Heap, reference: u64) []const u8 {
        if (reference == 0) return "";
        const chunk = heap.chunkAt(@intCast((reference >> 16) - 1)).?;
        return textAt(chunk, @truncate(reference));
    }

    /// The same for a reference that a foreign caller names: null where it is none of this heap's.
    pub fn read(heap: *const Heap, reference: u64) ?[]const u8 {
        if (reference == 0) return "";
        const number = reference >> 16;
        const offset: u16 = @truncate(reference);
        if (number == 0 or number > chunks_max or offset % unit != 0) return null;
        const chunk = heap.chunkAt(@intCast(number - 1)) orelse return null;
        const length = std.mem.readInt(u32, chunk.bytes[offset..][0..4], .little);
        if (length > chunk_bytes - header_bytes - @as(usize, offset)) return null;
        return textAt(chunk, offset);
    }

    /// Whether bytes are a text that some string may hold.
    pub fn fit(text: []const u8) bool {
        return text.len <= limits.string_bytes_max and std.unicode.utf8ValidateSlice(text);
    }

    /// Whether a number is a reference of this heap, for the writer.
    pub fn valid(heap: *const Heap, reference: u64) bool {
        if (reference == 0) return true;
        const number = reference >> 16;
        const offset: u16 = @truncate(reference);
        if (number == 0 or number > chunks_max or offset % unit != 0) return false;
        const chunk = heap.chunkAt(@intCast(number - 1)) orelse return false;
        return chunk.starts[offset / unit / 64] >> @intCast(offset / unit & 63) & 1 == 1;
    }

    /// The reference of a text that the heap has.
    pub fn find(heap: *const Heap, text: []const u8) ?u64 {
        if (text.len == 0) return 0;
        if (heap.table.len == 0) return null;
        return heap.lookup(text, heap.hashOf(text));
    }

    /// The reference of a text, which is kept if it is new. Nothing holds it yet: until a cell does, no sweep may come.
    pub fn intern(heap: *Heap, text: []const u8) error{ OutOfMemory, HeapFull }!u64 {
        if (text.len == 0) return 0;
        assert(text.len <= limits.string_bytes_max);
        try heap.ensureTable();
        const hash = heap.hashOf(text);
        if (heap.lookup(text, hash)) |known| return known;
        const bytes = std.mem.alignForward(u32, header_bytes + @as(u32, @intCast(text.len)), unit);
        const place = try heap.take(bytes);
        const chunk = heap.chunkAt(place.chunk).?;
        std.mem.writeInt(u32, chunk.bytes[place.at..][0..4], @intCast(text.len), .little);
        std.mem.writeInt(u32, chunk.bytes[place.at + 4 ..][0..4], hash, .little);
        @memcpy(chunk.bytes[place.at + header_bytes ..][0..text.len], text);
        chunk.starts[place.at / unit / 64] |= @as(u64, 1) << @intCast(place.at / unit & 63);
        heap.taken += bytes;
        const reference = @as(u64, place.chunk + 1) << 16 | place.at;
        heap.put(hash, reference);
        return reference;
    }

    /// Whether so much was taken since the last sweep that another is worth its walk: as much as lived then, and a
    /// byte for each reference that has to be looked at.
    pub fn due(heap: *const Heap) bool {
        return heap.taken > @max(garbage_bytes_min, heap.lived, heap.marked);
    }

    /// Keep the texts of these cells through the sweep that follows.
    pub fn mark(heap: *Heap, cells: []const u64) void {
        heap.marked += cells.len;
        var before: u64 = 0;
        for (cells) |reference| {
            // Neighbours often say the same.
            if (reference == before) continue;
            before = reference;
            if (reference == 0) continue;
            const chunk = heap.chunkAt(@intCast((reference >> 16) - 1)).?;
            const at = @as(u16, @truncate(reference)) / unit;
            chunk.marks[at / 64] |= @as(u64, 1) << @intCast(at & 63);
        }
    }

    /// Nothing was marked yet.
    pub fn beginMark(heap: *Heap) void {
        heap.marked = 0;
    }

    /// Forget every text that was not marked. Takes no memory: where a list cannot grow, a hole stays unused.
    pub fn sweep(heap: *Heap) void {
        @memset(heap.table, 0);
        heap.count = 0;
        heap.lived = 0;
        heap.taken = 0;
        heap.hole = .{};
        heap.fresh = .{};
        heap.holes.items.len = 0;
        var kept_empty = false;
        for (0..heap.chunks) |i| {
            const number: u32 = @intCast(i);
            const chunk = heap.chunkAt(number) orelse continue;
            const before = heap.count;
            heap.sweepChunk(number, chunk);
            if (heap.count > before) continue;
            // One untouched chunk is what the next texts need; more go back.
            if (!kept_empty) {
                kept_empty = true;
                heap.fresh = .{ .chunk = number, .at = 0, .end = chunk_bytes };
            } else heap.giveChunk(number, chunk);
        }
        // `take` pops from the end, so that the first chunks fill up and the last may become empty.
        std.mem.reverse(Run, heap.holes.items);
    }

    fn sweepChunk(heap: *Heap, number: u32, chunk: *Chunk) void {
        var free_from: u32 = 0;
        for (&chunk.starts, &chunk.marks, 0..) |*starts, *marks, w| {
            // Only what was an entry can have been marked.
            assert(marks.* & ~starts.* == 0);
            starts.* = marks.*;
            marks.* = 0;
            var left = starts.*;
            while (left != 0) : (left &= left - 1) {
                const at: u32 = @intCast((w * 64 + @ctz(left)) * unit);
                heap.noteHole(number, free_from, at);
                const length = std.mem.readInt(u32, chunk.bytes[at..][0..4], .little);
                const bytes = std.mem.alignForward(u32, header_bytes + length, unit);
                heap.lived += bytes;
                free_from = at + bytes;
                heap.put(std.mem.readInt(u32, chunk.bytes[at + 4 ..][0..4], .little), @as(u64, number + 1) << 16 | at);
            }
        }
        // A whole chunk is nobody's hole.
        if (free_from > 0) heap.noteHole(number, free_from, chunk_bytes);
    }

    fn noteHole(heap: *Heap, chunk: u32, from: u32, to: u32) void {
        if (to - from < hole_bytes_min) return;
        heap.holes.append(heap.gpa, .{ .chunk = chunk, .at = from, .end = to }) catch {};
    }

    // Memory.

    fn chunkAt(heap: *const Heap, number: u32) ?*Chunk {
        const page = heap.directory[number / level] orelse return null;
        return page[number % level];
    }

    fn take(heap: *Heap, bytes: u32) error{ OutOfMemory, HeapFull }!Run {
        if (fits(&heap.hole, bytes)) |place| return place;
        if (bytes <= hole_text_max) while (heap.holes.pop()) |next| {
            heap.hole = next;
            if (fits(&heap.hole, bytes)) |place| return place;
        };
        if (fits(&heap.fresh, bytes)) |place| return place;
        const fresh = try heap.makeChunk();
        if (heap.fresh.end > heap.fresh.at) heap.noteHole(heap.fresh.chunk, heap.fresh.at, heap.fresh.end);
        heap.fresh = .{ .chunk = fresh, .at = 0, .end = chunk_bytes };
        return fits(&heap.fresh, bytes).?;
    }

    fn fits(run: *Run, bytes: u32) ?Run {
        if (run.end - run.at < bytes) return null;
        defer run.at += bytes;
        return run.*;
    }

    fn makeChunk(heap: *Heap) error{ OutOfMemory, HeapFull }!u32 {
        const number = heap.vacant.getLastOrNull() orelse heap.chunks;
        if (number == chunks_max) return error.HeapFull;
        try heap.vacant.ensureTotalCapacity(heap.gpa, heap.chunks + 1);
        if (heap.directory[number / level] == null) {
            const page = try heap.gpa.create([level]?*Chunk);
            page.* = @splat(null);
            heap.directory[number / level] = page;
        }
        const made = try memory.take(Chunk, .@"64", heap.gpa, 1);
        const chunk = &made[0];
        // The bytes are written as entries come; no bit says that there is one.
        chunk.starts = @splat(0);
        chunk.marks = @splat(0);
        heap.directory[number / level].?[number % level] = chunk;
        if (number == heap.chunks) heap.chunks += 1 else _ = heap.vacant.pop();
        return number;
    }

    fn giveChunk(heap: *Heap, number: u32, chunk: *Chunk) void {
        heap.directory[number / level].?[number % level] = null;
        heap.vacant.appendAssumeCapacity(number);
        heap.destroyChunk(chunk);
    }

    fn destroyChunk(heap: *Heap, chunk: *Chunk) void {
        const one: [*]align(64) Chunk = @ptrCast(chunk);
        memory.give(Chunk, .@"64", heap.gpa, one[0..1]);
    }

    // The table.

    /// For indexes beside the heap's own. From any thread. There is a salt as soon as there is a text that is not empty.
    pub fn longHash(heap: *const Heap, text: []const u8) u64 {
        if (text.len == 0) return 0;
        return std.hash.Wyhash.hash(heap.salt, text);
    }

    fn hashOf(heap: *const Heap, text: []const u8) u32 {
        return @truncate(heap.longHash(text));
    }

    fn lookup(heap: *const Heap, text: []const u8, hash: u32) ?u64 {
        const mask = heap.table.len - 1;
        var at = hash & mask;
        while (heap.table[at] != 0) : (at = (at + 1) & mask) {
            const reference = heap.table[at] & reference_mask;
            if (heap.table[at] >> 48 == hash >> 16 and std.mem.eql(u8, heap.get(reference), text)) return reference;
        }
        return null;
    }

    fn put(heap: *Heap, hash: u32, reference: u64) void {
        const mask = heap.table.len - 1;
        var at = hash & mask;
        while (heap.table[at] != 0) at = (at + 1) & mask;
        heap.table[at] = @as(u64, hash >> 16) << 48 | reference;
        heap.count += 1;
    }

    fn ensureTable(heap: *Heap) error{OutOfMemory}!void {
        if ((@as(usize, heap.count) + 1) * 4 <= heap.table.len * 3) return;
        const old = heap.table;
        heap.table = try heap.gpa.alloc(u64, @max(64, old.len * 2));
        @memset(heap.table, 0);
        if (old.len == 0) heap.salt = @intFromPtr(heap.table.ptr);
        heap.count = 0;
        for (old) |word| {
            if (word == 0) continue;
            const reference = word & reference_mask;
            const chunk = heap.chunkAt(@intCast((reference >> 16) - 1)).?;
            heap.put(std.mem.readInt(u32, chunk.bytes[@as(u16, @truncate(reference)) + 4 ..][0..4], .little), reference);
        }
        heap.gpa.free(old);
    }
};

const reference_mask: u64 = (1 << 48) - 1;

fn textAt(chunk: *const Chunk, offset: u16) []const u8 {
    const length = std.mem.readInt(u32, chunk.bytes[offset..][0..4], .little);
    return chunk.bytes[@as(usize, offset) + header_bytes ..][0..length];
}

test "equal texts have one reference, and what was not marked is forgotten" {
    const gpa = std.testing.allocator;
    var heap: Heap = .{ .gpa = gpa };
    defer heap.deinit();
    try std.testing.expectEqual(0, try heap.intern(""));
    const a = try heap.intern("anvil");
    const b = try heap.intern("bellows");
    try std.testing.expect(a != b and a != 0);
    try std.testing.expectEqual(a, try heap.intern("anvil"));
    try std.testing.expectEqual(a, heap.find("anvil").?);
    try std.testing.expect(heap.valid(a) and heap.valid(0) and !heap.valid(a + 1) and !heap.valid(a + unit) and !heap.valid(1 << 40));

    heap.beginMark();
    heap.mark(&.{ 0, b, b });
    heap.sweep();
    try std.testing.expectEqual(null, heap.find("anvil"));
    try std.testing.expect(!heap.valid(a) and heap.valid(b));
    try std.testing.expectEqualStrings("bellows", heap.get(b));
    try std.testing.expectEqual(b, try heap.intern("bellows"));
    // The hole is used again.
    try std.testing.expectEqual(a, try heap.intern("adze"));
}

test "a text as long as may be is kept whole" {
    var heap: Heap = .{ .gpa = std.testing.allocator };
    defer heap.deinit();
    const long: [limits.string_bytes_max]u8 = @splat('x');
    for (0..40) |cut| {
        const reference = try heap.intern(long[cut..]);
        try std.testing.expectEqual(long.len - cut, heap.get(reference).len);
    }
}

test "a heap that lives for long keeps its texts, and no more memory than twice what lives" {
    const gpa = std.testing.allocator;
    var heap: Heap = .{ .gpa = gpa };
    defer heap.deinit();
    var prng = std.Random.DefaultPrng.init(3);
    const random = prng.random();
    // The model: 300 cells and what each should say.
    var cells: [300]u64 = @splat(0);
    var texts: [300][]u8 = @splat(&.{});
    defer for (texts) |text| gpa.free(text);
    var sweeps: usize = 0;
    var chunks_most: usize = 0;
    for (0..60_000) |_| {
        const i = random.uintLessThan(usize, cells.len);
        const longest: usize = if (random.uintLessThan(u8, 20) == 0) 2000 else 60;
        const length = random.uintAtMost(usize, longest);
        gpa.free(texts[i]);
        texts[i] = try gpa.alloc(u8, length);
        for (texts[i]) |*byte| byte.* = "abc"[random.uintLessThan(usize, 3)];
        cells[i] = try heap.intern(texts[i]);
        if (heap.due()) {
            sweeps += 1;
            heap.beginMark();
            heap.mark(&cells);
            heap.sweep();
            for (cells, texts) |cell, text| try std.testing.expectEqualStrings(text, heap.get(cell));
        }
        chunks_most = @max(chunks_most, heap.chunks - heap.vacant.items.len);
    }
    for (cells, texts) |cell, text| {
        try std.testing.expectEqualStrings(text, heap.get(cell));
        try std.testing.expectEqual(cell, heap.find(text).?);
    }
    try std.testing.expect(sweeps > 10);
    try std.testing.expect(chunks_most * chunk_bytes < 4 * garbage_bytes_min);
}
