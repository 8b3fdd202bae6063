//! Strings through a store's life: who keeps a text alive, what a transaction and a peer may bring, how much a block of
//! long texts weighs.

const std = @import("std");
const apply = @import("apply.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const fuzz = @import("fuzz.zig");
const lend = @import("lend.zig");
const operations = @import("operations.zig");
const sweep = @import("sweep.zig");
const Store = @import("store.zig").Store;

const gpa = std.testing.allocator;
/// The table of notes in the fuzzer's catalogue: a unique title of 24 bytes, a text of 300, a flag.
const notes = 5;
const notes_id = 20;

fn spawn(store: *Store) !u64 {
    const head = &store.head;
    var key: [1]u64 = undefined;
    try head.reserve(0, 1, &key);
    const zero: u64 = 0;
    try head.insert(0, key[0], &.{std.mem.asBytes(&zero)});
    return key[0];
}

fn note(store: *Store, key: u64, title: []const u8, text: []const u8) !void {
    const head = &store.head;
    const cells = [_]u64{ try head.heap.intern(title), try head.heap.intern(text) };
    const flag: u8 = 0;
    try head.insert(notes, key, &.{ std.mem.asBytes(&cells[0]), std.mem.asBytes(&cells[1]), std.mem.asBytes(&flag) });
}

fn setText(store: *Store, key: u64, text: []const u8) !void {
    const head = &store.head;
    const cell = try head.heap.intern(text);
    try head.writeCell(notes, head.tables[notes].find(key).?, 1, key, std.mem.asBytes(&cell));
}

fn textIn(store: *Store, slot: usize, key: u64) []const u8 {
    const table = store.views.slots[slot].tables[notes];
    const cells: [*]const u64 = @ptrCast(table.columns[1].data.ptr);
    return store.head.heap.get(cells[table.find(key).?]);
}

fn publish(store: *Store) !void {
    try store.commit();
    _ = try store.publish(0, false);
}

test "a text lives as long as a version that somebody may read has it, and no longer" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const key = try spawn(store);
    try note(store, key, "title", "what it was");
    try publish(store);
    const held = store.views.acquire();

    for (0..5000) |i| {
        try store.begin();
        var room: [200]u8 = @splat('x');
        try setText(store, key, try std.fmt.bufPrint(&room, "text {d:0>180}", .{i}));
        try publish(store);
    }
    // A megabyte went by, and most of it was forgotten on the way.
    try std.testing.expect(store.head.heap.chunks <= 12);
    try std.testing.expectEqualStrings("what it was", textIn(store, held, key));
    store.views.release(held);
    try store.begin();
    try setText(store, key, "what it is");
    try publish(store);
    store.views.reclaim(&store.head);
    sweep.now(&store.head, &store.views);
    try std.testing.expectEqual(null, store.head.heap.find("what it was"));
    try std.testing.expectEqualStrings("what it is", textIn(store, store.views.current, key));
    try std.testing.expectEqual(2, store.head.heap.count);
    try std.testing.expectEqual(16 + 24, store.head.heap.lived);
}

test "what a rolled back transaction overwrote is there again, its own texts are forgotten" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const key = try spawn(store);
    try note(store, key, "title", "before");
    try store.commit();
    for (0..40) |i| {
        try store.begin();
        for (0..100) |j| {
            var room: [300]u8 = @splat('y');
            try setText(store, key, try std.fmt.bufPrint(&room, "{d:0>290}", .{i * 100 + j}));
        }
        try store.rollback();
    }
    const cell = store.head.tables[notes].columns[1].cell(0);
    try std.testing.expectEqualStrings("before", store.head.heap.get(std.mem.readInt(u64, cell[0..8], .little)));
    try std.testing.expect(store.head.heap.chunks <= 8);
}

/// An operation that gives the title a text.
fn operation(buffer: []u8, key: u64, length: u32, text: []const u8) []const u8 {
    const whole = 16 + 2 + 2 + 4 + 24;
    buffer[0] = @intFromEnum(operations.Kind.update);
    buffer[1] = 0;
    std.mem.writeInt(u16, buffer[2..4], notes_id, .little);
    std.mem.writeInt(u32, buffer[4..8], @intCast(whole), .little);
    std.mem.writeInt(u64, buffer[8..16], key, .little);
    std.mem.writeInt(u16, buffer[16..18], 1, .little);
    std.mem.writeInt(u16, buffer[18..20], 0, .little);
    std.mem.writeInt(u32, buffer[20..24], length, .little);
    @memset(buffer[24..48], 0);
    @memcpy(buffer[24..][0..text.len], text);
    return buffer[0..whole];
}

test "an operation brings its texts along, and one that no field may hold is refused" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    const key = try spawn(store);
    try note(store, key, "title", "");
    var room: [64]u8 = undefined;
    var made: u64 = 0;
    try operations.run(&store.head, operation(&room, key, 5, "höh!"), &made);
    const column = &store.head.tables[notes].columns[0];
    try std.testing.expectEqualStrings("höh!", store.head.heap.get(std.mem.readInt(u64, column.cell(0)[0..8], .little)));

    const before = fuzz.headSum(store);
    const too_long = operation(&room, key, 25, "longer than it could be");
    try std.testing.expectError(error.Text, operations.run(&store.head, too_long, &made));
    try std.testing.expectEqual(25, store.head.info.found);
    try std.testing.expectEqual(24, store.head.info.expected);
    // A lone half of a surrogate pair, a cut sequence, and a cell that is not all there.
    try std.testing.expectError(error.Text, operations.run(&store.head, operation(&room, key, 3, "\xed\xa0\x80"), &made));
    try std.testing.expectError(error.Text, operations.run(&store.head, operation(&room, key, 2, "a\xc3"), &made));
    std.mem.writeInt(u32, room[4..8], 47, .little);
    const short = room[0..47];
    try std.testing.expectError(error.BadArgument, operations.run(&store.head, short, &made));
    try std.testing.expectEqual(before, fuzz.headSum(store));

    // A reference is checked like any number: one of another store, and one whose text is too long for the field.
    const nowhere: u64 = 1 << 30;
    try std.testing.expectError(error.BadArgument, store.head.checkCell(notes, 0, key, std.mem.asBytes(&nowhere)));
    const long = try store.head.heap.intern("a text of more than twenty-four bytes");
    try std.testing.expectError(error.Text, store.head.checkCell(notes, 0, key, std.mem.asBytes(&long)));
    try store.head.checkCell(notes, 1, key, std.mem.asBytes(&long));
    // Equal texts are equal cells, so uniqueness needs no more than it did.
    const other = try spawn(store);
    try note(store, other, "höh!", "");
    try std.testing.expectError(error.Unique, store.head.checkDeferred());
    try std.testing.expectError(error.ReadOnly, lend.lend(&store.head, &store.views, notes, 1));
}

fn cut(store: *Store, base: u64, budget: u32, cursor: *delta.Cursor) ![]u8 {
    var encoder = delta.Encoder.init(gpa);
    defer encoder.deinit();
    const slot = store.views.acquire();
    defer store.views.release(slot);
    try encoder.cut(&store.head, &store.views.slots[slot], base, cursor, budget);
    return gpa.dupe(u8, encoder.out.items);
}

fn replicate(store: *Store, replica: *Store, base: u64, budget: u32) !usize {
    var blocks: std.ArrayList(apply.Input) = .empty;
    defer blocks.deinit(gpa);
    defer for (blocks.items) |input| gpa.free(input.bytes);
    var cursor: delta.Cursor = .{};
    var largest: usize = 0;
    while (cursor.done == 0) {
        const bytes = try cut(store, base, budget, &cursor);
        largest = @max(largest, bytes.len);
        try blocks.append(gpa, .{ .bytes = bytes, .last = cursor.done == 1 });
    }
    _ = try replica.applyBlocks(base, store.version, 0, blocks.items);
    try fuzz.checkHead(replica);
    const newest = &replica.views.slots[replica.views.current];
    try std.testing.expectEqual(
        digest.scan(&store.head, &store.views.slots[store.views.current]).halves(),
        digest.scan(&replica.head, newest).halves(),
    );
    try std.testing.expectEqual(digest.scan(&replica.head, newest).halves(), newest.kept.?);
    return largest;
}

test "blocks of texts of all lengths keep their budget, and a replica holds the same" {
    var prng = std.Random.DefaultPrng.init(17);
    const random = prng.random();
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    const replica = try fuzz.newStoreIn(gpa);
    defer replica.destroy() catch unreachable;
    replica.keeps_digest = true;
    // Its heap has other references for the same texts.
    _ = try replica.head.heap.intern("something of its own");
    try store.takeBaton();
    defer store.giveBaton();
    var keys: [200]u64 = undefined;
    var long: [300]u8 = @splat('z');
    try store.begin();
    for (&keys, 0..) |*key, i| {
        var room: [24]u8 = undefined;
        key.* = try spawn(store);
        try note(store, key.*, try std.fmt.bufPrint(&room, "{d}", .{i}), long[0..random.uintAtMost(usize, 300)]);
    }
    try publish(store);
    try std.testing.expect(try replicate(store, replica, 0, 700) <= 700);
    for ([_]u32{ 0, 700, 1200 }) |budget| {
        try store.begin();
        for (keys[0..199]) |key| if (random.boolean()) try setText(store, key, long[0..random.uintAtMost(usize, 300)]);
        for (keys[0..3], 0..) |key, i| {
            const head = &store.head;
            try head.removeRow(notes, head.tables[notes].find(key).?);
            var room: [24]u8 = undefined;
            try note(store, key, try std.fmt.bufPrint(&room, "again {d}", .{i}), long[0..290]);
        }
        try publish(store);
        const largest = try replicate(store, replica, replica.version, budget);
        try std.testing.expect(budget == 0 or largest <= budget);
    }
    // All alike is one text.
    try store.begin();
    for (keys) |key| try setText(store, key, long[0..250]);
    try publish(store);
    try std.testing.expect(try replicate(store, replica, replica.version, 0) < 400);
}

test "a peer whose blocks are refused leaves no texts behind" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    const replica = try fuzz.newStoreIn(gpa);
    defer replica.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    var long: [300]u8 = @splat('q');
    for (0..1000) |i| {
        _ = std.fmt.printInt(&long, i, 10, .lower, .{ .width = 12, .fill = '0' });
        try note(store, try spawn(store), long[0..12], &long);
    }
    try publish(store);
    var cursor: delta.Cursor = .{};
    const block = try cut(store, 0, 0, &cursor);
    defer gpa.free(block);
    // The last byte is a flag of the last row: cut off, all texts were read before it is missed.
    std.mem.writeInt(u32, block[4..8], @intCast(block.len - 17), .little);
    for (0..50) |_| {
        const refused = replica.applyBlocks(0, 1, 0, &.{.{ .bytes = block[0 .. block.len - 1], .last = true }});
        try std.testing.expectError(error.BadBlock, refused);
    }
    try std.testing.expect(replica.head.heap.chunks <= 12);
    try std.testing.expect(replica.head.heap.taken <= 600 << 10);
}

test "a text in a block is as long as its field allows, and UTF-8" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    try store.begin();
    try note(store, try spawn(store), "title of twenty-fou bytes"[0..24], "some text that stands for others");
    try publish(store);
    var cursor: delta.Cursor = .{};
    const block = try cut(store, 0, 0, &cursor);
    defer gpa.free(block);
    const at = std.mem.indexOf(u8, block, "title of").?;
    inline for (.{ .{ at - 1, 25 }, .{ at - 1, 0xff }, .{ at, 0xff }, .{ at + 23, 0xc3 } }) |change| {
        const mutated = try gpa.dupe(u8, block);
        defer gpa.free(mutated);
        mutated[change[0]] = change[1];
        const replica = try fuzz.newStoreIn(gpa);
        defer replica.destroy() catch unreachable;
        const refused = replica.applyBlocks(0, 1, 0, &.{.{ .bytes = mutated, .last = true }});
        try std.testing.expectError(error.BadBlock, refused);
        try std.testing.expectEqual(@intFromEnum(@import("block.zig").Reason.text), replica.head.info.reason);
        try std.testing.expectEqual(notes_id, replica.head.info.table);
    }
}

/// Reads texts of pinned versions, while the writer forgets those of others.
const Reader = struct {
    store: *Store,
    key: u64,
    stop: *std.atomic.Value(bool),
    views: std.atomic.Value(u32) = .init(0),
    wrong: u32 = 0,

    fn run(reader: *Reader) void {
        while (!reader.stop.load(.monotonic)) {
            const slot = reader.store.views.acquire();
            const table = reader.store.views.slots[slot].tables[notes];
            const row = table.find(reader.key).?;
            const titles: [*]const u64 = @ptrCast(table.columns[0].data.ptr);
            const title = reader.store.head.heap.get(titles[row]);
            const text = textIn(reader.store, slot, reader.key);
            // A text is made of its title: of one version, and not overwritten meanwhile.
            reader.wrong += @intFromBool(text.len != 300 or !std.mem.startsWith(u8, text, title));
            reader.wrong += @intFromBool(!std.mem.allEqual(u8, text[title.len..], 'w'));
            reader.store.views.release(slot);
            _ = reader.views.fetchAdd(1, .monotonic);
        }
    }
};

test "readers on threads read the texts of their version, whatever the writer forgets and writes anew" {
    const store = try fuzz.newStoreIn(gpa);
    defer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    var text: [300]u8 = @splat('w');
    try store.begin();
    const key = try spawn(store);
    try note(store, key, "", &text);
    try publish(store);
    var stop: std.atomic.Value(bool) = .init(false);
    var readers: [2]Reader = undefined;
    var threads: [2]std.Thread = undefined;
    for (&readers, &threads) |*reader, *thread| {
        reader.* = .{ .store = store, .key = key, .stop = &stop };
        thread.* = try std.Thread.spawn(.{}, Reader.run, .{reader});
    }
    var sweeps: usize = 0;
    var turn: u32 = 0;
    while (turn < 6000 or readers[0].views.load(.monotonic) < 100 or readers[1].views.load(.monotonic) < 100) : (turn += 1) {
        try store.begin();
        _ = std.fmt.printInt(&text, turn, 10, .lower, .{ .width = 12, .fill = '0' });
        const head = &store.head;
        const cells = [_]u64{ try head.heap.intern(text[0..12]), try head.heap.intern(&text) };
        const row = head.tables[notes].find(key).?;
        for (&cells, 0..) |*cell, f| try head.writeCell(notes, row, f, key, std.mem.asBytes(cell));
        const before = head.heap.taken;
        try publish(store);
        sweeps += @intFromBool(head.heap.taken < before);
    }
    stop.store(true, .monotonic);
    for (&threads) |thread| thread.join();
    for (&readers) |*reader| try std.testing.expectEqual(0, reader.wrong);
    try std.testing.expect(sweeps > 3);
}
