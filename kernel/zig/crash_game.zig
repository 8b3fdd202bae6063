//! The game that is played while disks crash: a small schema, random transactions, and what a version of it is.
//!
//! Every kind of table and field that a log or a snapshot treats in its own way has one here: entities and components,
//! rows with keys of their own and an auto-increment, references, strings, a table that is not replicated.

const std = @import("std");
const catalogue = @import("catalogue.zig");
const entity = @import("entity.zig");
const failure = @import("failure.zig");
const key_index = @import("key_index.zig");
const Head = @import("head.zig").Head;
const Store = @import("store.zig").Store;

const mix = key_index.mix;

// Tables by their number.
const entities = 0;
const sessions = 1;
const place = 2;
const bond = 3;
const item = 4;
const note = 5;

fn field(id: u16, kind: catalogue.Type, count: u32, flags: u32) catalogue.FieldIn {
    return .{
        .id = id,
        .type = @intFromEnum(kind),
        .on_delete = @intFromEnum(catalogue.OnDelete.set_null),
        .flags = flags,
        .count = count,
        .enum_count = 0,
        .minimum = 0,
        .maximum = 0,
        .enum_values = 0,
        .default = 0,
    };
}

fn table(id: u16, kind: catalogue.Kind, fields: []const catalogue.FieldIn) catalogue.TableIn {
    return .{
        .id = id,
        .kind = @intFromEnum(kind),
        .replicated = @intFromBool(id != 1),
        .field_count = @intCast(fields.len),
        .rows_max = 0,
        .fields = @intFromPtr(fields.ptr),
    };
}

const session_fields = [_]catalogue.FieldIn{
    field(0, .u64, 1, catalogue.flag_unique),
    field(1, .u64, 1, catalogue.flag_foreign_key | catalogue.flag_optional),
};
const place_fields = [_]catalogue.FieldIn{ field(0, .f32, 1, 0), field(1, .f32, 1, 0), field(2, .u8, 3, 0) };
const bond_fields = [_]catalogue.FieldIn{
    field(0, .u64, 1, catalogue.flag_foreign_key | catalogue.flag_optional),
    field(1, .u16, 1, 0),
};
const item_fields = [_]catalogue.FieldIn{
    field(0, .u32, 1, catalogue.flag_unique | catalogue.flag_auto),
    field(1, .u16, 1, 0),
};
const note_fields = [_]catalogue.FieldIn{field(0, .string, 2000, 0)};

/// An empty store at version 0, whose baton the caller has.
pub fn newStore(gpa: std.mem.Allocator) failure.Error!*Store {
    const tables = [_]catalogue.TableIn{
        table(0, .entities, &.{}),
        table(1, .keyed, &session_fields),
        table(16, .component, &place_fields),
        table(17, .component, &bond_fields),
        table(18, .keyed, &item_fields),
        table(19, .component, &note_fields),
    };
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 4096 };
    const store = try Store.create(gpa, &in);
    errdefer store.destroy() catch unreachable;
    try store.takeBaton();
    _ = try store.publish(0, true);
    return store;
}

/// The newest number that the items' auto-increment handed out.
pub fn counterOf(store: *const Store) u64 {
    return store.head.tables[item].auto;
}

/// What two stores share at one version exactly when they are equal: rows in whatever order, and texts.
pub fn sumOf(store: *Store) u64 {
    const head = &store.head;
    var sum: u64 = 0;
    for (head.tables) |*t| {
        if (t.rows == 0) continue;
        for (t.keyList(), 0..) |key, row| {
            sum +%= mix(key ^ mix(t.spec.id));
            for (t.spec.fields, 0..) |*one, f| {
                const cell = t.columns[f].head[row * one.width ..][0..one.width];
                const hash = if (one.type == .string)
                    std.hash.Wyhash.hash(7, head.heap.get(std.mem.readInt(u64, cell[0..8], .little)))
                else
                    std.hash.Wyhash.hash(9, cell);
                sum +%= mix(key ^ mix(hash +% f +% @as(u64, t.spec.id) << 20));
            }
        }
    }
    return sum;
}

/// A key that a committed transaction handed out, whatever became of its row. It never comes back.
pub const Handed = struct {
    space: u16,
    key: u64,

    /// Whether a store knows that it was handed out.
    pub fn isKnown(handed: Handed, store: *const Store) bool {
        const places = store.head.spaces[handed.space].places.items;
        const key: entity.Key = .of(handed.key);
        return key.index < places.len and key.generation <= places[key.index].generation;
    }
};

/// One transaction of random writes. The keys that it hands out are added to `handed`.
pub fn transact(store: *Store, gpa: std.mem.Allocator, random: std.Random, handed: *std.ArrayList(Handed)) failure.Error!void {
    const before = handed.items.len;
    errdefer handed.shrinkRetainingCapacity(before);
    try store.begin();
    errdefer store.rollback() catch unreachable;
    var game: Game = .{ .head = &store.head, .gpa = gpa, .random = random, .handed = handed };
    for (0..1 + random.uintLessThan(usize, 4)) |_| try game.act();
    if (random.uintLessThan(u8, 8) == 0) {
        handed.shrinkRetainingCapacity(before);
        return store.rollback();
    }
    try store.commit();
}

const Game = struct {
    head: *Head,
    gpa: std.mem.Allocator,
    random: std.Random,
    handed: *std.ArrayList(Handed),

    fn anyKey(game: *Game, number: usize) ?u64 {
        const t = &game.head.tables[number];
        return if (t.rows == 0) null else t.keyAt(game.random.uintLessThan(u32, t.rows));
    }

    fn handOut(game: *Game, number: u16) failure.Error!u64 {
        var key: [1]u64 = undefined;
        try game.head.reserve(number, 1, &key);
        try game.handed.append(game.gpa, .{ .space = number, .key = key[0] });
        return key[0];
    }

    fn text(game: *Game) failure.Error!u64 {
        var room: [2000]u8 = undefined;
        @memset(&room, 'x');
        std.mem.writeInt(u32, room[0..4], game.random.uintLessThan(u32, 300) *% 0x01010101 & 0x7f7f7f7f, .little);
        // Few are long; those make records of several pages.
        const length = if (game.random.uintLessThan(u8, 6) == 0) 1 + game.random.uintLessThan(usize, room.len) else 8;
        return game.head.heap.intern(room[0..length]);
    }

    fn act(game: *Game) failure.Error!void {
        const head = game.head;
        const random = game.random;
        switch (random.uintLessThan(u8, 12)) {
            0, 1, 2 => {
                const key = try game.handOut(entities);
                try head.insert(entities, key, &.{});
                const x = random.float(f32);
                const rgb: [3]u8 = .{ random.int(u8), 0, 1 };
                try head.insert(place, key, &.{ std.mem.asBytes(&x), std.mem.asBytes(&x), &rgb });
                if (random.boolean()) {
                    const said = try game.text();
                    try head.insert(note, key, &.{std.mem.asBytes(&said)});
                }
                const friend = if (random.boolean()) game.anyKey(entities).? else 0;
                const hp = random.int(u16);
                if (random.boolean()) try head.insert(bond, key, &.{ std.mem.asBytes(&friend), std.mem.asBytes(&hp) });
            },
            3 => if (game.anyKey(entities)) |key| try head.delete(entities, key),
            4 => for ([_]u16{ place, bond, note }) |number| {
                if (game.anyKey(number)) |key| try head.delete(number, key);
            },
            5, 6 => {
                const key = game.anyKey(place) orelse return;
                const x = random.float(f32);
                try head.writeCell(place, head.tables[place].find(key).?, random.uintLessThan(usize, 2), key, std.mem.asBytes(&x));
            },
            7 => {
                const key = try game.handOut(item);
                const kind = random.int(u16);
                try head.insert(item, key, &.{ null, std.mem.asBytes(&kind) });
                // One that is gone within its version: only the log's body says that it ever was.
                if (random.uintLessThan(u8, 4) == 0) try head.delete(item, key);
            },
            8 => if (game.anyKey(item)) |key| try head.delete(item, key),
            9 => {
                const client = random.int(u64);
                const who = game.anyKey(entities) orelse 0;
                const key = try game.handOut(sessions);
                try head.insert(sessions, key, &.{ std.mem.asBytes(&client), std.mem.asBytes(&who) });
            },
            10 => if (game.anyKey(sessions)) |key| try head.delete(sessions, key),
            else => {
                const key = game.anyKey(note) orelse return;
                const said = try game.text();
                try head.writeCell(note, head.tables[note].find(key).?, 0, key, std.mem.asBytes(&said));
            },
        }
    }
};

test "a random game can be played, and equal games have equal sums" {
    const gpa = std.testing.allocator;
    var sums: [2]u64 = undefined;
    for (&sums) |*sum| {
        var prng: std.Random.DefaultPrng = .init(3);
        var handed: std.ArrayList(Handed) = .empty;
        defer handed.deinit(gpa);
        const store = try newStore(gpa);
        defer store.destroy() catch unreachable;
        for (0..200) |_| {
            try transact(store, gpa, prng.random(), &handed);
            if (prng.random().boolean()) _ = try store.publish(1, false);
        }
        for (handed.items) |one| try std.testing.expect(one.isKnown(store));
        for (store.head.tables) |*t| try std.testing.expect(t.rows > 0);
        sum.* = sumOf(store);
    }
    try std.testing.expectEqual(sums[0], sums[1]);
}
