//! Fuzz targets over everything that reads a stranger's block, and the same as a seeded smoke test.
//!
//!     python -m ziglang build test                 the smoke, a few thousand blocks
//!     python -m ziglang build test --fuzz=1K       the fuzzer, guided by coverage
//!
//! The property: whatever the bytes, applying them either fails and leaves the head as it was, bit by
//! bit, or leaves a head that keeps every rule of the catalogue. It never reads or writes out of
//! bounds (the build is ReleaseSafe), and what it leaves can be encoded and applied again.

const std = @import("std");
const abi = @import("abi.zig");
const block_file = @import("block.zig");
const apply = @import("apply.zig");
const catalogue = @import("catalogue.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const frame = @import("frame.zig");
const hashCell = @import("key_index.zig").hashCell;
const newcomers = @import("newcomers.zig");
const mix = @import("key_index.zig").mix;
const weigh = @import("weigh.zig");
const Slot = @import("view.zig").Slot;
const Store = @import("store.zig").Store;
const Table = @import("table.zig").Table;

const gpa = std.testing.allocator;

pub fn field(id: u16, kind: catalogue.Type, count: u32, flags: u32) catalogue.FieldIn {
    return .{
        .id = id,
        .type = @intFromEnum(kind),
        .on_delete = @intFromEnum(catalogue.OnDelete.set_null),
        .flags = flags,
        .count = count,
        .enum_count = 0,
        .minimum = 0,
        .maximum = 100,
        .enum_values = 0,
        .default = 0,
    };
}

pub fn table(id: u16, kind: catalogue.Kind, fields: []const catalogue.FieldIn) catalogue.TableIn {
    return .{
        .id = id,
        .kind = @intFromEnum(kind),
        .replicated = 1,
        .field_count = @intCast(fields.len),
        .rows_max = 0,
        .fields = @intFromPtr(fields.ptr),
    };
}

const entities_fields = [_]catalogue.FieldIn{field(0, .u64, 1, 0)};
const body_fields = [_]catalogue.FieldIn{ field(0, .f32, 1, 0), field(1, .u16, 1, catalogue.flag_maximum), field(4, .u8, 3, 0) };
const bond_fields = [_]catalogue.FieldIn{
    field(0, .u64, 1, catalogue.flag_foreign_key | catalogue.flag_optional),
    field(1, .u32, 1, catalogue.flag_unique),
};

/// Cells that are packed on the wire in every way.
const place_fields = fields: {
    var fields = [_]catalogue.FieldIn{ field(0, .f32, 2, 0), field(1, .f64, 1, 0), field(2, .f32, 4, catalogue.flag_rotation), field(3, .i16, 1, 0) };
    for (fields[0..2]) |*rounded| rounded.quantize = 0.01;
    break :fields fields;
};

const note_fields = [_]catalogue.FieldIn{
    field(0, .string, 24, catalogue.flag_unique),
    field(1, .string, 300, 0),
    field(2, .u8, 1, 0),
};

fn newStore() !*Store {
    return newStoreIn(gpa);
}

/// An empty store at version 0, its memory taken from `child`.
pub fn newStoreIn(child: std.mem.Allocator) !*Store {
    var tables = [_]catalogue.TableIn{
        table(0, .entities, &entities_fields),
        table(16, .component, &body_fields),
        table(17, .component, &bond_fields),
        table(18, .component, &.{}),
        table(19, .keyed, &body_fields),
        table(20, .component, &note_fields),
        table(21, .component, &place_fields),
    };
    for (tables[1..4]) |*of| of.group = 1;
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 4096 };
    const store = try Store.create(child, &in);
    errdefer store.destroy() catch unreachable;
    try store.takeBaton();
    defer store.giveBaton();
    _ = try store.publish(0, true);
    return store;
}

/// An order-free sum over the head, so that undone and never done can be told from half done.
pub fn headSum(store: *Store) u64 {
    var sum: u64 = 0;
    for (store.head.tables) |*t| for (0..t.rows) |row| {
        const key = t.keyAt(@intCast(row));
        sum +%= mix(key ^ t.spec.id);
        for (t.columns, 0..) |*column, f| sum +%= mix(key ^ mix(hashCell(column.cell(@intCast(row))) +% f));
    };
    return sum;
}

/// What must hold of any head, whatever was applied to it.
pub fn checkHead(store: *Store) !void {
    const head = &store.head;
    for (head.tables) |*t| {
        for (0..t.rows) |r| {
            const row: u32 = @intCast(r);
            const key = t.keyAt(row);
            try std.testing.expectEqual(@as(?u32, row), t.find(key));
            try std.testing.expect(t.space.alive(key));
            for (t.spec.fields, t.columns) |*spec, *column| {
                try std.testing.expect(catalogue.checkCell(spec, column.cell(row)) == null);
                if (spec.type == .string) {
                    const reference = std.mem.readInt(u64, column.cell(row)[0..8], .little);
                    try std.testing.expect(head.heap.valid(reference));
                    const text = head.heap.get(reference);
                    try std.testing.expect(text.len <= spec.count and std.unicode.utf8ValidateSlice(text));
                    try std.testing.expectEqual(reference, head.heap.find(text).?);
                }
                if (!spec.foreign_key) continue;
                const target = std.mem.readInt(u64, column.cell(row)[0..8], .little);
                // A replica may hold rows that refer to what it may not see.
                try std.testing.expect(head.replica or target == 0 or head.tables[0].find(target) != null);
            }
        }
    }
    for (head.groups.all) |group| {
        var members: u32 = 0;
        for (head.tables[group.tables[0]].keyList()) |key| {
            for (group.tables) |number| {
                if (head.tables[number].find(key) == null) break;
            } else members += 1;
        }
        try std.testing.expectEqual(members, group.members);
        for (group.tables) |number| try std.testing.expectEqualSlices(
            u64,
            head.tables[group.tables[0]].keyList()[0..members],
            head.tables[number].keyList()[0..members],
        );
    }
}

/// A world with rows in every table, and the delta that leads to it from `base`.
pub const World = struct {
    authority: *Store,
    base: []u8,
    block: []u8,

    fn init(random: std.Random) !World {
        const store = try newStore();
        try grow(store, random, 40);
        const base = try cut(store, 0);
        // As on a stream: who is told holds the base.
        const held = store.views.acquire();
        defer store.views.release(held);
        try grow(store, random, 25);
        return .{ .authority = store, .base = base, .block = try cutFrom(store, 1, &store.views.slots[held]) };
    }

    fn deinit(world: *World) void {
        gpa.free(world.base);
        gpa.free(world.block);
        world.authority.destroy() catch unreachable;
    }

    pub fn grow(store: *Store, random: std.Random, n: u32) !void {
        try store.takeBaton();
        defer store.giveBaton();
        try change(store, random, n);
        _ = try store.publish(0, false);
    }

    /// The same, kept and not made a version of, for whoever has the baton.
    pub fn change(store: *Store, random: std.Random, n: u32) !void {
        const head = &store.head;
        try store.begin();
        for (0..n) |_| {
            var key: [1]u64 = undefined;
            try head.reserve(0, 1, &key);
            const owner = random.int(u64);
            try head.insert(0, key[0], &.{std.mem.asBytes(&owner)});
            const x: f32 = @floatFromInt(random.int(u8));
            const hp: u16 = random.uintAtMost(u16, 100);
            const rgb = [3]u8{ 1, 2, random.int(u8) };
            const body = [_]?[*]const u8{ std.mem.asBytes(&x), std.mem.asBytes(&hp), &rgb };
            if (random.boolean()) try head.insert(1, key[0], &body);
            const friend: u64 = if (random.boolean()) key[0] else 0;
            const badge = random.int(u32);
            if (random.boolean()) try head.insert(2, key[0], &.{ std.mem.asBytes(&friend), std.mem.asBytes(&badge) });
            if (random.boolean()) try head.insert(3, key[0], &.{});
            var room: [24]u8 = undefined;
            const title = try head.heap.intern(try std.fmt.bufPrint(&room, "no. {d}", .{random.int(u32)}));
            const text = try head.heap.intern(([_][]const u8{ "", "kept", "höher", "a longer text that says nothing at all" })[random.int(u2)]);
            const flag: u8 = random.int(u1);
            const note = [_]?[*]const u8{ std.mem.asBytes(&title), std.mem.asBytes(&text), std.mem.asBytes(&flag) };
            if (random.boolean()) try head.insert(5, key[0], &note);
            const place = placeOf(random);
            if (random.boolean()) try head.insert(6, key[0], &.{ std.mem.asBytes(&place.at), std.mem.asBytes(&place.far), std.mem.asBytes(&place.turned), std.mem.asBytes(&place.level) });
            var own: [1]u64 = undefined;
            try head.reserve(4, 1, &own);
            try head.insert(4, own[0], &body);
        }
        for (0..n / 4) |_| {
            const entities = &head.tables[0];
            try head.delete(0, entities.keyAt(random.uintLessThan(u32, entities.rows)));
            const keyed = &head.tables[4];
            try head.delete(4, keyed.keyAt(random.uintLessThan(u32, keyed.rows)));
        }
        const places = &head.tables[6];
        for (0..places.rows) |r| {
            const row: u32 = @intCast(r);
            if (random.uintLessThan(u8, 8) == 0) continue;
            var at: [2]f32 = @bitCast(places.columns[0].cell(row)[0..8].*);
            at[0] += 0.07 * random.floatNorm(f32);
            try head.writeCell(6, row, 0, places.keyAt(row), std.mem.asBytes(&at));
            const other = placeOf(random);
            if (random.boolean()) try head.writeCell(6, row, 3, places.keyAt(row), std.mem.asBytes(&other.level));
            if (random.boolean()) try head.writeCell(6, row, 2, places.keyAt(row), std.mem.asBytes(&other.turned));
        }
        const notes = &head.tables[5];
        for (0..notes.rows / 3) |_| {
            const row = random.uintLessThan(u32, notes.rows);
            const text = try head.heap.intern("changed");
            try head.writeCell(5, row, 1, notes.keyAt(row), std.mem.asBytes(&text));
        }
        try store.commit();
    }

    fn placeOf(random: std.Random) struct { at: [2]f32, far: f64, turned: [4]f32, level: i16 } {
        return .{
            .at = .{ random.float(f32) * 100, if (random.uintLessThan(u8, 50) == 0) std.math.inf(f32) else 7 },
            .far = random.floatNorm(f64) * 1000,
            .turned = .{ random.floatNorm(f32), random.floatNorm(f32), random.floatNorm(f32), 1 },
            .level = if (random.uintLessThan(u8, 20) == 0) random.int(i16) else random.uintLessThan(u7, 20),
        };
    }

    pub fn cut(store: *Store, base: u64) ![]u8 {
        return cutFrom(store, base, null);
    }

    fn cutFrom(store: *Store, base: u64, reference: ?*const Slot) ![]u8 {
        var encoder = delta.Encoder.init(gpa);
        defer encoder.deinit();
        encoder.reference = reference;
        const slot = store.views.acquire();
        defer store.views.release(slot);
        var cursor: delta.Cursor = .{};
        try encoder.cut(&store.head, &store.views.slots[slot], base, &cursor, 0);
        return gpa.dupe(u8, encoder.out.items);
    }
};

/// Offer a block to two replicas that hold the base, of which the second sorts out each row by itself: both must come to
/// the same, whatever that is.
fn offerBoth(replica: *Store, slow: *Store, block: []const u8) !void {
    newcomers.one_by_one = true;
    const base = @max(1, slow.version);
    const outcome = slow.applyBlocks(base, slow.version + 1, 0, &.{.{ .bytes = block, .last = true }});
    newcomers.one_by_one = false;
    try offer(replica, block);
    try expectEqualHeads(slow, replica);
    if (outcome) |_| {} else |_| try std.testing.expectEqual(slow.head.info, replica.head.info);
}

/// Two stores that were told the same have the same rows in the same order, the same keys alive and spent, and the same
/// to tell the next version.
pub fn expectEqualHeads(a: *Store, b: *Store) !void {
    try std.testing.expectEqual(a.version, b.version);
    try std.testing.expectEqual(headSum(a), headSum(b));
    try std.testing.expectEqual(a.transactions, b.transactions);
    for (a.head.spaces, b.head.spaces) |*x, *y| {
        try std.testing.expectEqual(x.alive_count, y.alive_count);
        // What was made room for and never taken is nobody's.
        const least = @min(x.places.items.len, y.places.items.len);
        try std.testing.expectEqualSlices(@TypeOf(x.places.items[0]), x.places.items[0..least], y.places.items[0..least]);
        for (x.places.items[least..]) |place| try std.testing.expectEqual(@as(u32, 0), @as(u32, @bitCast(place)));
        for (y.places.items[least..]) |place| try std.testing.expectEqual(@as(u32, 0), @as(u32, @bitCast(place)));
    }
    for (a.head.tables, b.head.tables) |*x, *y| {
        try std.testing.expectEqualSlices(u64, x.keyList(), y.keyList());
        try std.testing.expectEqualSlices(u64, x.inserted.items, y.inserted.items);
        try std.testing.expectEqualSlices(u64, x.removed.items, y.removed.items);
        try std.testing.expectEqual(x.auto, y.auto);
        for (x.keyList(), 0..) |key, row| {
            for ([_]*Table{ x, y }) |t| try std.testing.expectEqual(@as(?u32, @intCast(row)), t.find(key));
        }
    }
    for (a.head.groups.all, b.head.groups.all) |x, y| try std.testing.expectEqual(x.members, y.members);
    const newest = [_]*const Slot{ &a.views.slots[a.views.current], &b.views.slots[b.views.current] };
    try std.testing.expectEqual(digest.scan(&a.head, newest[0]), digest.scan(&b.head, newest[1]));
}

/// Offer a block to a replica that holds the base, and check the property.
fn offer(replica: *Store, block: []const u8) !void {
    try weighed(replica, block);
    const before = headSum(replica);
    const version = replica.version + 1;
    const held = replica.version;
    if (replica.applyBlocks(@max(1, held), version, 0, &.{.{ .bytes = block, .last = true }})) |_| {
        try checkHead(replica);
        // Whoever can apply a block can weigh it.
        var weights: [8]weigh.Weight = undefined;
        _ = try weigh.weigh(&replica.head.catalogue, block, &weights);
        const newest = &replica.views.slots[replica.views.current];
        try std.testing.expectEqual(digest.scan(&replica.head, newest).halves(), newest.kept.?);
        // What was made of it is a state like any other: it can be sent on.
        const whole = try World.cut(replica, 0);
        defer gpa.free(whole);
        const second = try newStore();
        defer second.destroy() catch unreachable;
        _ = try second.applyBlocks(0, version, 0, &.{.{ .bytes = whole, .last = true }});
        const a = replica.views.acquire();
        defer replica.views.release(a);
        const b = second.views.acquire();
        defer second.views.release(b);
        try std.testing.expectEqual(
            digest.scanWire(&replica.head, &replica.views.slots[a]),
            digest.ofSlot(&second.head, &second.views, b),
        );
    } else |_| {
        try std.testing.expectEqual(before, headSum(replica));
        try std.testing.expectEqual(held, replica.version);
    }
}

/// Whatever the bytes: a block that can be weighed is as heavy as its tables.
fn weighed(replica: *Store, block: []const u8) !void {
    var weights: [8]weigh.Weight = undefined;
    const n = weigh.weigh(&replica.head.catalogue, block, &weights) catch return;
    var sum: usize = block_file.wire_header_bytes;
    for (weights[0..n]) |weight| sum += weight.bytes;
    try std.testing.expectEqual(block.len, sum);
}

fn newReplica(world: *const World) !*Store {
    const replica = try newStore();
    errdefer replica.destroy() catch unreachable;
    replica.keeps_digest = true;
    _ = try replica.applyBlocks(0, 1, 0, &.{.{ .bytes = world.base, .last = true }});
    return replica;
}

test "smoke: a mutated block is applied whole or changes nothing" {
    var prng = std.Random.DefaultPrng.init(2026);
    const random = prng.random();
    for (0..6) |_| {
        var world = try World.init(random);
        defer world.deinit();
        const block = try gpa.dupe(u8, world.block);
        defer gpa.free(block);
        var replica = try newReplica(&world);
        defer replica.destroy() catch unreachable;
        var slow = try newReplica(&world);
        defer slow.destroy() catch unreachable;
        for (0..400) |_| {
            @memcpy(block, world.block);
            for (0..1 + random.uintLessThan(usize, 3)) |_| {
                const at = random.uintLessThan(usize, block.len);
                block[at] = switch (random.uintLessThan(u8, 4)) {
                    0 => random.int(u8),
                    1 => block[at] ^ (@as(u8, 1) << random.int(u3)),
                    2 => block[at] +% 1,
                    else => 0,
                };
            }
            const held = replica.version;
            try offerBoth(replica, slow, block);
            if (replica.version != held) {
                // It took something: go on from the true base again.
                for ([_]**Store{ &replica, &slow }) |one| {
                    one.*.destroy() catch unreachable;
                    one.* = try newReplica(&world);
                }
            }
        }
    }
}

test "smoke: a truncated block changes nothing" {
    var prng = std.Random.DefaultPrng.init(7);
    var world = try World.init(prng.random());
    defer world.deinit();
    const replica = try newReplica(&world);
    defer replica.destroy() catch unreachable;
    for (0..world.block.len) |length| {
        try offer(replica, world.block[0..length]);
        try std.testing.expectEqual(@as(u64, 1), replica.version);
    }
    try offer(replica, world.block);
    try std.testing.expectEqual(@as(u64, 2), replica.version);
}

/// The payload of a DeltaSync around a block.
fn framed(record: frame.DeltaSync, block: []const u8) ![]u8 {
    const head_bytes = comptime frame.headBytes(frame.DeltaSync);
    const whole = try gpa.alloc(u8, head_bytes + block.len + frame.paddingBytes(block.len));
    defer gpa.free(whole);
    @memset(whole, 0);
    frame.writeHead(frame.DeltaSync, &record, block.len, whole[0..head_bytes]);
    @memcpy(whole[head_bytes..][0..block.len], block);
    return gpa.dupe(u8, whole[frame.frame_header_bytes..]);
}

/// Offer a frame to a replica, and check that it was taken in whole or changed nothing.
fn offerFrame(replica: *Store, payload: []const u8) !bool {
    const before = headSum(replica);
    const held = replica.version;
    var taken = std.mem.zeroInit(abi.Taken, .{ .session = 7, .held = held, .epoch = 3, .check = 1 });
    if (abi.ecs_take_delta(replica, payload.ptr, @intCast(payload.len), &taken) != 0) {
        try std.testing.expectEqual(before, headSum(replica));
        try std.testing.expectEqual(held, replica.version);
        return false;
    }
    try std.testing.expect(taken.base >= 1 and taken.base <= held and taken.version > held);
    try std.testing.expectEqual(taken.version, replica.publishedVersion());
    try checkHead(replica);
    const newest = &replica.views.slots[replica.views.current];
    try std.testing.expectEqual(digest.scan(&replica.head, newest).halves(), newest.kept.?);
    return true;
}

test "smoke: a mutated frame is taken in whole or changes nothing" {
    var prng = std.Random.DefaultPrng.init(41);
    const random = prng.random();
    var world = try World.init(random);
    defer world.deinit();
    const true_sum = digest.scanWire(&world.authority.head, &world.authority.views.slots[world.authority.views.current]);
    const record: frame.DeltaSync = .{
        .session = 7,
        .epoch = 3,
        .base = 1,
        .version = 2,
        .parts = 1,
        .digest_low = true_sum.low,
        .digest_high = true_sum.high,
    };
    const payload = try framed(record, world.block);
    defer gpa.free(payload);
    const mutated = try gpa.dupe(u8, payload);
    defer gpa.free(mutated);
    var replica = try newReplica(&world);
    defer replica.destroy() catch unreachable;
    for (0..payload.len) |length| try std.testing.expect(!try offerFrame(replica, payload[0..length]));
    var took: usize = 0;
    for (0..1500) |round| {
        @memcpy(mutated, payload);
        for (0..1 + random.uintLessThan(usize, 3)) |_| {
            // The head more often than its share of the bytes.
            const at = random.uintLessThan(usize, if (round % 2 == 0) 104 else payload.len);
            mutated[at] = if (random.boolean()) random.int(u8) else mutated[at] ^ (@as(u8, 1) << random.int(u3));
        }
        if (!try offerFrame(replica, mutated)) continue;
        took += 1;
        replica.destroy() catch unreachable;
        replica = try newReplica(&world);
    }
    try std.testing.expect(took > 0);

    var taken = std.mem.zeroInit(abi.Taken, .{ .session = 7, .held = 1, .epoch = 3, .check = 1 });
    try std.testing.expectEqual(0, abi.ecs_take_delta(replica, payload.ptr, @intCast(payload.len), &taken));
    try std.testing.expectEqual(1, taken.digest);
}

/// A block grown from the fuzzer's choices: the frame of it right more often than chance would have it.
fn fuzzOne(_: void, smith: *std.testing.Smith) anyerror!void {
    var prng = std.Random.DefaultPrng.init(1);
    var world = try World.init(prng.random());
    defer world.deinit();
    const replica = try newReplica(&world);
    defer replica.destroy() catch unreachable;
    const slow = try newReplica(&world);
    defer slow.destroy() catch unreachable;

    var block: [4096]u8 = undefined;
    var length: usize = 0;
    if (smith.value(bool)) {
        // The true block, with some bytes changed.
        length = @min(world.block.len, block.len);
        @memcpy(block[0..length], world.block[0..length]);
        while (!smith.eos()) block[smith.index(length)] = smith.value(u8);
    } else {
        length = 16 + smith.slice(block[16..]);
        block[0..4].* = .{ 2, 0, smith.value(u8), 0 };
        std.mem.writeInt(u32, block[4..8], @intCast(length - 16), .little);
        std.mem.writeInt(u64, block[8..16], if (smith.value(bool)) replica.version else 0, .little);
    }
    try offerBoth(replica, slow, block[0..length]);
}

test "fuzz: any block is applied whole or changes nothing" {
    try std.testing.fuzz({}, fuzzOne, .{});
}
