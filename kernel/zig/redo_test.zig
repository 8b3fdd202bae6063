//! A log's life: random histories whose versions are held, shown late, put off and made up for, while readers hold old
//! ones; each version's body is kept, and a store that is made from them must equal the first, at every version.
//!
//! The model is what the head held when a version was made. Against it are compared: each version when it is shown, for
//! as long as it is pinned, and while it is held; the digest that is kept; a replica that follows what is shown; the
//! index of places and the relation graph; and every prefix of the log in a fresh store.

const std = @import("std");
const apply = @import("apply.zig");
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const delta = @import("delta.zig");
const digest = @import("digest.zig");
const entity = @import("entity.zig");
const failure = @import("failure.zig");
const fuzz = @import("fuzz.zig");
const graph = @import("graph.zig");
const key_index = @import("key_index.zig");
const lend = @import("lend.zig");
const nearby = @import("nearby.zig");
const redo = @import("redo.zig");
const sets = @import("sets.zig");
const spatial = @import("spatial.zig");
const sweep = @import("sweep.zig");
const view = @import("view.zig");
const Failing = @import("oom_test.zig").Failing;
const Store = @import("store.zig").Store;
const Strided = @import("head.zig").Strided;

const mix = key_index.mix;
const testing = std.testing;

const entities = 0;
const sessions = 1;
const place = 2;
const bond = 3;
const tag = 4;
const item = 5;
const note = 6;
const told = 7;

const owner_fields = [_]catalogue.FieldIn{fuzz.field(0, .u64, 1, 0)};
const session_fields = [_]catalogue.FieldIn{
    fuzz.field(0, .u64, 1, catalogue.flag_unique),
    fuzz.field(1, .u64, 1, catalogue.flag_foreign_key | catalogue.flag_optional),
    fuzz.field(2, .string, 40, 0),
};
const place_fields = [_]catalogue.FieldIn{ fuzz.field(0, .f32, 1, 0), fuzz.field(1, .f32, 1, 0), fuzz.field(2, .u8, 3, 0) };
const bond_fields = [_]catalogue.FieldIn{
    fuzz.field(0, .u64, 1, catalogue.flag_foreign_key | catalogue.flag_optional),
    fuzz.field(1, .u16, 1, catalogue.flag_maximum),
};
const item_fields = [_]catalogue.FieldIn{
    fuzz.field(0, .u32, 1, catalogue.flag_unique | catalogue.flag_auto),
    fuzz.field(1, .u16, 1, 0),
};
const note_fields = [_]catalogue.FieldIn{ fuzz.field(0, .string, 2000, 0), fuzz.field(3, .u64, 2, 0) };

/// An empty store at version 0 whose sessions are not replicated and whose last table is one of events.
fn newStore(gpa: std.mem.Allocator) !*Store {
    var tables = [_]catalogue.TableIn{
        fuzz.table(0, .entities, &owner_fields),
        fuzz.table(1, .keyed, &session_fields),
        fuzz.table(16, .component, &place_fields),
        fuzz.table(17, .component, &bond_fields),
        fuzz.table(18, .component, &.{}),
        fuzz.table(19, .keyed, &item_fields),
        fuzz.table(20, .component, &note_fields),
        fuzz.table(21, .event, &item_fields_of_events),
    };
    for (tables[2..5]) |*of| of.group = 1;
    tables[1].replicated = 0;
    const in: catalogue.CatalogueIn = .{ .tables = @intFromPtr(&tables), .table_count = tables.len, .entities_max = 4096 };
    const store = try Store.create(gpa, &in);
    errdefer store.destroy() catch unreachable;
    try store.takeBaton();
    _ = try store.publish(0, true);
    return store;
}

const item_fields_of_events = [_]catalogue.FieldIn{fuzz.field(0, .u16, 1, 0)};

/// A sum over the rows of the durable tables in whatever order they are: of the head, or of a slot.
fn sumOf(store: *Store, of: ?*const view.Slot) u64 {
    const head = &store.head;
    var sum: u64 = 0;
    for (head.tables, 0..) |*t, number| {
        if (!t.spec.durable) continue;
        const keys = if (of) |slot| slot.tables[number].keyList() else t.keyList();
        for (keys, 0..) |key, row| {
            sum +%= mix(key ^ mix(t.spec.id));
            for (t.spec.fields, 0..) |*field, f| {
                const data = if (of) |slot| slot.tables[number].columns[f].data else t.columns[f].head;
                const cell = data[row * field.width ..][0..field.width];
                const hash = if (field.type == .string)
                    std.hash.Wyhash.hash(7, head.heap.get(std.mem.readInt(u64, cell[0..8], .little)))
                else
                    std.hash.Wyhash.hash(9, cell);
                sum +%= mix(key ^ mix(hash +% f +% @as(u64, t.spec.id) << 20));
            }
        }
    }
    return sum;
}

/// What a version is: its rows, and the counters behind them.
const Made = struct { sum: u64, auto: u64, tick: u64 };

const Pinned = struct { slot: usize, version: u64 };

const Life = struct {
    gpa: std.mem.Allocator,
    /// What its stores take their memory from, and whether that may fail.
    child: std.mem.Allocator,
    failing: ?*Failing = null,
    random: std.Random,
    store: *Store,
    /// By version.
    made: std.ArrayList(Made) = .empty,
    bodies: std.ArrayList([]u8) = .empty,
    /// Each key ever handed out, and the version that it belongs to.
    handed: [2]std.AutoHashMapUnmanaged(u64, u64) = @splat(.empty),
    pinned: std.ArrayList(Pinned) = .empty,
    /// What the log was promised of the version that is open, and whether it has room.
    promised: u64 = 0,
    full: bool = false,
    refusals: u64 = 0,
    /// Newest version that is on disk, and whether some version was to be held until then.
    durable: u64 = 0,
    strict: u64 = 0,
    replica: *Store,
    index: spatial.Index,
    head_index: spatial.Index,
    encoder: delta.Encoder,
    held_most: u64 = 0,
    texts: u64 = 0,

    fn init(gpa: std.mem.Allocator, child: std.mem.Allocator, random: std.Random) !*Life {
        const store = try newStore(child);
        errdefer store.destroy() catch unreachable;
        try redo.finish(store);
        const replica = try newStore(gpa);
        replica.giveBaton();
        const life = try gpa.create(Life);
        life.* = .{
            .gpa = gpa,
            .child = child,
            .random = random,
            .store = store,
            .replica = replica,
            .index = try .init(gpa, &store.head.catalogue, 16, &.{ 0, 1 }, 4),
            .head_index = try .init(gpa, &store.head.catalogue, 16, &.{ 0, 1 }, 4),
            .encoder = .init(gpa),
        };
        store.keeps_digest = random.boolean();
        store.durable = .{ .context = life, .reserve = reserve };
        try life.made.append(gpa, .{ .sum = sumOf(store, null), .auto = 0, .tick = 0 });
        return life;
    }

    fn deinit(life: *Life) void {
        for (life.bodies.items) |body| life.gpa.free(body);
        life.bodies.deinit(life.gpa);
        life.made.deinit(life.gpa);
        for (&life.handed) |*handed| handed.deinit(life.gpa);
        for (life.pinned.items) |pin| life.store.views.release(pin.slot);
        life.pinned.deinit(life.gpa);
        life.index.deinit();
        life.head_index.deinit();
        life.encoder.deinit();
        life.store.destroy() catch unreachable;
        life.replica.destroy() catch unreachable;
        life.gpa.destroy(life);
    }

    fn reserve(context: *anyopaque, bytes: u64) failure.Error!void {
        const life: *Life = @ptrCast(@alignCast(context));
        if (life.full) return error.Limit;
        life.promised += bytes;
    }

    // What a history is made of.

    fn anyKey(life: *Life, table: usize) ?u64 {
        const t = &life.store.head.tables[table];
        if (t.rows == 0) return null;
        return t.keyAt(life.random.uintLessThan(u32, t.rows));
    }

    fn handOut(life: *Life, table: u16, keys: []u64) !void {
        try life.store.head.reserve(table, keys.len, keys);
        if (table == told) return;
        const of = &life.handed[@intFromBool(table == item)];
        for (keys) |key| {
            const found = try of.getOrPut(life.gpa, if (table == sessions) mix(key) else key);
            try testing.expect(!found.found_existing or found.value_ptr.* == 0);
            found.value_ptr.* = life.store.version + 1;
        }
    }

    fn text(life: *Life) !u64 {
        var room: [2000]u8 = undefined;
        const length = if (life.random.uintLessThan(u8, 8) == 0) life.random.uintLessThan(usize, 2000) else 12;
        @memset(&room, 'x');
        const said = try std.fmt.bufPrint(&room, "{d}", .{life.random.uintLessThan(u32, 5000)});
        return life.store.head.heap.intern(room[0..@max(length, said.len)]);
    }

    fn spawn(life: *Life) !void {
        const head = &life.store.head;
        const random = life.random;
        var keys: [20]u64 = undefined;
        const n = 1 + random.uintLessThan(usize, keys.len);
        try life.handOut(entities, keys[0..n]);
        const zero: u64 = 0;
        try head.insertMany(entities, keys[0..n], &.{Strided{ .base = @ptrCast(&zero), .stride = 0 }});
        var where: [20]f32 = undefined;
        for (&where) |*x| x.* = random.float(f32) * 40;
        const points: Strided = .{ .base = @ptrCast(&where), .stride = 4 };
        const white: [3]u8 = @splat(7);
        try head.insertMany(place, keys[0..n], &.{ points, points, Strided{ .base = &white, .stride = 0 } });
        var texts: [20]u64 = undefined;
        for (texts[0..n]) |*reference| reference.* = try life.text();
        const numbers: [2]u64 = .{ 1, 2 };
        if (random.boolean()) try head.insertMany(note, keys[0..n], &.{
            Strided{ .base = @ptrCast(&texts), .stride = 8 },
            Strided{ .base = @ptrCast(&numbers), .stride = 0 },
        });
        for (keys[0..n]) |key| {
            const friend = if (random.boolean()) life.anyKey(entities).? else 0;
            const hp = random.uintAtMost(u16, 100);
            if (random.boolean()) try head.insert(bond, key, &.{ std.mem.asBytes(&friend), std.mem.asBytes(&hp) });
            if (random.boolean()) try head.insert(tag, key, &.{});
        }
    }

    fn act(life: *Life) !void {
        const head = &life.store.head;
        const random = life.random;
        switch (random.uintLessThan(u8, 16)) {
            0, 1 => try life.spawn(),
            2 => for (0..random.uintLessThan(usize, 8)) |_| {
                if (life.anyKey(entities)) |key| try head.delete(entities, key);
            },
            3 => for ([_]u16{ place, bond, tag, note }) |number| {
                if (life.anyKey(number)) |key| try head.delete(number, key);
            },
            4, 5 => for (0..5) |_| {
                const key = life.anyKey(place) orelse return;
                const x = random.float(f32) * 40;
                try head.writeCell(place, head.tables[place].find(key).?, random.uintLessThan(usize, 2), key, std.mem.asBytes(&x));
            },
            6 => {
                const key = life.anyKey(bond) orelse return;
                const friend = life.anyKey(entities) orelse return;
                try head.writeCell(bond, head.tables[bond].find(key).?, 0, key, std.mem.asBytes(&friend));
            },
            7 => {
                var key: [1]u64 = undefined;
                try life.handOut(item, &key);
                const kind = random.int(u16);
                try head.insert(item, key[0], &.{ null, std.mem.asBytes(&kind) });
                if (random.boolean()) try head.delete(item, key[0]);
            },
            8 => if (life.anyKey(item)) |key| try head.delete(item, key),
            // Reserved, and its row never comes.
            9 => {
                var keys: [2]u64 = undefined;
                try life.handOut(if (random.boolean()) entities else item, &keys);
            },
            10 => {
                const rows = head.tables[note].rows;
                if (rows == 0) return;
                var some: [30]u32 = undefined;
                var references: [30]u64 = undefined;
                for (&some, &references) |*row, *reference| {
                    row.* = random.uintLessThan(u32, rows);
                    reference.* = try life.text();
                }
                _ = try head.writeCells(note, 0, &some, @ptrCast(&references), 8);
            },
            11 => {
                const rows = head.tables[place].rows;
                if (rows == 0) return;
                var some: [200]u32 = undefined;
                for (&some) |*row| row.* = random.uintLessThan(u32, rows);
                const rgb: [3]u8 = .{ random.int(u8), 0, 1 };
                _ = try head.writeCells(place, 2, &some, &rgb, 0);
            },
            12 => {
                const client = random.int(u64);
                const who = life.anyKey(entities) orelse 0;
                const name = try life.text() & 0;
                var key: [1]u64 = undefined;
                try life.handOut(sessions, &key);
                try head.insert(sessions, key[0], &.{ std.mem.asBytes(&client), std.mem.asBytes(&who), std.mem.asBytes(&name) });
            },
            13 => if (life.anyKey(sessions)) |key| try head.delete(sessions, key),
            14 => {
                var key: [1]u64 = undefined;
                try life.handOut(told, &key);
                const what = random.int(u16);
                try head.insert(told, key[0], &.{std.mem.asBytes(&what)});
            },
            else => {
                const key = life.anyKey(note) orelse return;
                const said = try life.text();
                try head.writeCell(note, head.tables[note].find(key).?, 0, key, std.mem.asBytes(&said));
            },
        }
    }

    fn transact(life: *Life) !void {
        const store = life.store;
        const random = life.random;
        const before = sumOf(store, null);
        try store.begin();
        for (0..1 + random.uintLessThan(usize, 6)) |_| {
            const mark = store.head.mark();
            try life.act();
            if (random.uintLessThan(u8, 5) == 0) store.head.undoTo(mark);
        }
        if (random.uintLessThan(u8, 4) == 0 and store.head.tables[place].rows > 0) {
            const rows = store.head.tables[place].rows;
            const column = try lend.lend(&store.head, &store.views, place, 1);
            for (0..1 + random.uintLessThan(u32, rows)) |_| {
                const x = random.float(f32) * 40;
                @memcpy(column.lentCell(random.uintLessThan(u32, rows)), std.mem.asBytes(&x));
            }
            if (random.boolean()) try lend.settle(&store.head, true);
        }
        life.full = random.uintLessThan(u8, 12) == 0;
        if (random.uintLessThan(u8, 6) == 0) {
            try store.rollback();
        } else if (life.full) {
            try testing.expectError(error.Limit, store.commit());
            life.full = false;
            try store.rollback();
            life.refusals += 1;
        } else return store.commit();
        try testing.expectEqual(before, sumOf(store, null));
    }

    /// Make a version of what was committed, as a database does.
    fn seal(life: *Life) !void {
        const store = life.store;
        if (!store.head.pending) return;
        var body: std.ArrayList(u8) = .empty;
        defer body.deinit(life.gpa);
        try redo.encode(&store.head, life.gpa, &body);
        // A set of marks that there was no memory for says more than could be foreseen.
        if (life.failing == null) try testing.expect(body.items.len <= life.promised);
        const tick = life.random.int(u32);
        const hold = life.random.boolean();
        const version = (try store.seal(tick, hold)).?;
        life.promised = 0;
        try testing.expectEqual(life.made.items.len, version);
        if (hold) life.strict = version;
        try life.made.append(life.gpa, .{ .sum = sumOf(store, null), .auto = store.head.tables[item].auto, .tick = tick });
        try life.bodies.append(life.gpa, try life.gpa.dupe(u8, body.items));
        try testing.expect(!store.head.pending);
        try life.checkShown();
    }

    fn release(life: *Life) !void {
        const store = life.store;
        life.durable = life.random.intRangeAtMost(u64, life.durable, store.version);
        const shown = try store.release(life.durable);
        try testing.expectEqual(store.publishedVersion(), shown);
        // With everything on disk and nobody in the way there is nothing that readers do not see.
        const may_fail = if (life.failing) |failing| failing.failed else false;
        if (life.durable == store.version and !store.head.pending and life.pinned.items.len == 0 and !may_fail)
            try testing.expectEqual(store.version, shown);
        try life.checkShown();
    }

    // What must hold.

    fn checkSlot(life: *Life, slot: *const view.Slot) !void {
        const model = life.made.items[slot.version];
        try testing.expectEqual(model.sum, sumOf(life.store, slot));
        try testing.expectEqual(model.tick, slot.tick);
        if (slot.kept) |kept| try testing.expectEqual(digest.scan(&life.store.head, slot).halves(), kept);
        try life.checkGraph(slot);
    }

    fn checkShown(life: *Life) !void {
        const store = life.store;
        const shown = store.views.shown().?;
        try life.checkSlot(shown);
        if (store.views.held) |at| {
            const held = &store.views.slots[at];
            try life.checkSlot(held);
            try testing.expect(held.version > shown.version);
            try testing.expect(store.durable_version < life.strict);
            life.held_most = @max(life.held_most, store.version - held.version);
        }
        // Nobody sees what demanded the disk before it is there.
        if (shown.version > life.durable) try testing.expect(life.strict > shown.version or life.strict <= life.durable);
        try fuzz.checkHead(store);
        try life.checkPlaces();
    }

    /// Whom each entity's chain of bonds names is who refers to it.
    fn checkGraph(life: *Life, slot: *const view.Slot) !void {
        const link = life.store.head.graph.find(bond, 0).?;
        const from = slot.tables[bond];
        const target = slot.tables[link.target];
        const friends = @as([*]const u64, @ptrCast(from.columns[0].data.ptr))[0..from.rows];
        var referring: usize = 0;
        for (friends) |friend| referring += @intFromBool(friend != 0);
        var chained: usize = 0;
        if (target.graph_cells == 0) return testing.expectEqual(0, referring);
        const first = @as([*]const u32, @ptrCast(target.all[link.first].data.ptr))[0..target.graph_cells];
        for (target.keyList()) |key| {
            var at = first[entity.Key.of(key).index];
            while (at != 0) {
                const row = @import("sparse.zig").find(from.pages(), at - 1).?;
                try testing.expectEqual(key, friends[row]);
                chained += 1;
                at = @as([*]const u32, @ptrCast(from.all[link.next].data.ptr))[at - 1];
            }
        }
        try testing.expectEqual(referring, chained);
    }

    fn checkPlaces(life: *Life) !void {
        const store = life.store;
        const shown = spatial.Source.ofSlot(store.views.shown().?, place, &.{ 0, 1 });
        const newest = spatial.Source.ofHead(&store.views, &store.head.tables[place], store.head.open, &.{ 0, 1 });
        for ([_]*spatial.Index{ &life.index, &life.head_index }, [_]*const spatial.Source{ &shown, &newest }) |index, source| {
            if (life.random.boolean()) continue;
            try index.follow(source);
            if (source.rows == 0) continue;
            const point: [2]f64 = .{ life.random.float(f64) * 40, life.random.float(f64) * 40 };
            var found: nearby.Found = .empty;
            defer found.deinit(life.gpa);
            var ends: [1]u64 = undefined;
            const radius = life.random.float(f64) * 10;
            try index.search(source, .{ .kind = .near, .points = &point, .others = &.{radius}, .k = 0, .allowed = null }, &ends, &found);
            var expected: usize = 0;
            const xs = @as([*]const f32, @ptrCast(@alignCast(source.columns[0])))[0..source.rows];
            const ys = @as([*]const f32, @ptrCast(@alignCast(source.columns[1])))[0..source.rows];
            for (xs, ys) |x, y| {
                const dx = @as(f64, x) - point[0];
                const dy = @as(f64, y) - point[1];
                expected += @intFromBool(dx * dx + dy * dy <= radius * radius);
            }
            try testing.expectEqual(expected, found.items.len);
        }
    }

    /// A replica takes what is shown as deltas, some of them over many versions.
    fn replicate(life: *Life) !void {
        const store = life.store;
        const slot = store.views.acquire();
        defer store.views.release(slot);
        const shown = &store.views.slots[slot];
        if (shown.version <= life.replica.version) return;
        const base = if (sets.reaches(shown, life.replica.version)) life.replica.version else 0;
        var cursor: delta.Cursor = .{};
        try life.encoder.cut(&store.head, shown, base, &cursor, 0);
        _ = try life.replica.applyBlocks(base, shown.version, shown.tick, &.{.{ .bytes = life.encoder.out.items, .last = true }});
        try testing.expectEqual(
            digest.scan(&store.head, shown),
            digest.ofSlot(&life.replica.head, &life.replica.views, life.replica.views.current),
        );
    }

    fn read(life: *Life) !void {
        if (life.pinned.items.len > 0 and life.random.boolean()) {
            const pin = life.pinned.swapRemove(life.random.uintLessThan(usize, life.pinned.items.len));
            try testing.expectEqual(pin.version, life.store.views.slots[pin.slot].version);
            try life.checkSlot(&life.store.views.slots[pin.slot]);
            life.store.views.release(pin.slot);
            try life.store.catchUp();
            return;
        }
        const slot = life.store.views.acquire();
        try life.pinned.append(life.gpa, .{ .slot = slot, .version = life.store.views.slots[slot].version });
    }

    /// A fresh store with the first `versions` bodies.
    fn recover(life: *Life, versions: usize) !*Store {
        const store = try newStore(life.child);
        errdefer store.destroy() catch unreachable;
        for (life.bodies.items[0..versions], 1..) |body, version| {
            redo.replay(store, version, life.made.items[version].tick, body) catch |err| {
                try testing.expectEqual(error.OutOfMemory, err);
                try testing.expectEqual(life.made.items[version - 1].sum, sumOf(store, null));
                life.failing.?.back();
                try redo.replay(store, version, life.made.items[version].tick, body);
            };
            try testing.expectEqual(life.made.items[version].sum, sumOf(store, null));
        }
        try redo.finish(store);
        try testing.expectEqual(versions, store.version);
        try testing.expectEqual(versions, store.publishedVersion());
        try testing.expectEqual(life.made.items[versions].sum, sumOf(store, store.views.shown().?));
        try testing.expectEqual(life.made.items[versions].auto, store.head.tables[item].auto);
        try fuzz.checkHead(store);
        try life.checkGraphOf(store);
        return store;
    }

    fn checkGraphOf(life: *Life, store: *Store) !void {
        const mine = life.store;
        life.store = store;
        defer life.store = mine;
        try life.checkGraph(store.views.shown().?);
    }

    /// No key that belongs to the first `versions` comes back.
    fn checkKeys(life: *Life, store: *Store, versions: u64) !void {
        try store.begin();
        defer store.rollback() catch unreachable;
        for ([_]u16{ entities, sessions, item }) |table| {
            var keys: [300]u64 = undefined;
            try store.head.reserve(table, keys.len, &keys);
            const of = &life.handed[@intFromBool(table == item)];
            for (keys) |key| {
                const version = of.get(if (table == sessions) mix(key) else key) orelse continue;
                try testing.expect(version > versions);
            }
        }
    }

    /// A turn in which memory may run out: then nothing has happened.
    fn tryTurn(life: *Life) !void {
        const store = life.store;
        const before = sumOf(store, null);
        const version = store.version;
        life.turn() catch |err| {
            try testing.expectEqual(error.OutOfMemory, err);
            try testing.expect(life.failing.?.failed);
            life.failing.?.back();
            if (store.head.in_transaction) try store.rollback();
            try testing.expectEqual(before, sumOf(store, null));
            try testing.expectEqual(version, store.version);
            try life.checkShown();
        };
    }

    fn turn(life: *Life) !void {
        switch (life.random.uintLessThan(u8, 12)) {
            0...3 => try life.transact(),
            4...7 => try life.seal(),
            8 => try life.release(),
            9 => try life.read(),
            10 => try life.replicate(),
            else => if (life.random.boolean()) sweep.now(&life.store.head, &life.store.views),
        }
    }
};

test "whatever is held, put off and made up for, the log gives back every version" {
    var most: u64 = 0;
    var refusals: u64 = 0;
    for (0..40) |seed| {
        var prng = std.Random.DefaultPrng.init(seed);
        const life = try Life.init(testing.allocator, testing.allocator, prng.random());
        defer life.deinit();
        for (0..300) |_| try life.turn();
        for ([_]usize{ life.bodies.items.len, life.bodies.items.len / 2 }) |versions| {
            const store = try life.recover(versions);
            defer store.destroy() catch unreachable;
            try life.checkKeys(store, versions);
        }
        // The log goes on in the store that was made from it.
        while (life.pinned.pop()) |pin| life.store.views.release(pin.slot);
        while (life.store.head.pending) try life.seal();
        const versions = life.bodies.items.len;
        const next = try life.recover(versions);
        next.keeps_digest = life.store.keeps_digest;
        next.durable = life.store.durable;
        life.store.destroy() catch unreachable;
        life.store = next;
        life.promised = 0;
        life.strict = 0;
        life.durable = versions;
        // What was handed out after the last version is in no log: nobody who lives on has seen it.
        for (&life.handed) |*handed| {
            var it = handed.iterator();
            while (it.next()) |entry| if (entry.value_ptr.* > versions) {
                entry.value_ptr.* = 0;
            };
        }
        life.index.stamp = null;
        life.head_index.stamp = null;
        for (0..100) |_| try life.turn();
        const store = try life.recover(life.bodies.items.len);
        defer store.destroy() catch unreachable;
        try life.checkKeys(store, life.bodies.items.len);
        most = @max(most, life.held_most);
        refusals += life.refusals;
    }
    // It was about something.
    try testing.expect(most > 5);
    try testing.expect(refusals > 20);
}

/// Returns whether an allocation failed.
fn liveWithout(left: usize, for_good: bool) !bool {
    var debug: std.heap.DebugAllocator(.{ .stack_trace_frames = 0 }) = .init;
    defer testing.expectEqual(.ok, debug.deinit()) catch @panic("leak");
    var failing: Failing = .{ .child = debug.allocator(), .left = left, .for_good = for_good };
    var prng = std.Random.DefaultPrng.init(11);
    const life = Life.init(testing.allocator, failing.allocator(), prng.random()) catch |err| retry: {
        try testing.expectEqual(error.OutOfMemory, err);
        failing.back();
        break :retry try Life.init(testing.allocator, failing.allocator(), prng.random());
    };
    defer life.deinit();
    life.failing = &failing;
    for (0..150) |_| try life.tryTurn();
    const store = life.recover(life.bodies.items.len) catch |err| retry: {
        try testing.expectEqual(error.OutOfMemory, err);
        failing.back();
        break :retry try life.recover(life.bodies.items.len);
    };
    defer store.destroy() catch unreachable;
    failing.back();
    try life.checkKeys(store, life.bodies.items.len);
    return failing.failed;
}

test "wherever memory runs out, versions are made and come back whole" {
    var left: usize = 0;
    // Every one of the first, where a store is made and first written to; then one in seven.
    while (try liveWithout(left, left % 3 == 0)) left += if (left < 250) 1 else 7;
    try testing.expect(left > 1000);
}

/// Everything that a body can change: rows, counters, and which generations are spent.
fn stateOf(store: *Store) u64 {
    var sum = sumOf(store, null) +% store.version;
    for (store.head.tables, store.head.spaces, 0..) |*table, *space, number| {
        sum +%= mix(table.auto +% mix(number));
        for (space.places.items, 0..) |of, index| {
            // Places that nobody has named yet are none.
            const bits: u32 = @bitCast(of);
            if (bits != 0) sum +%= mix(mix(bits) +% mix(index << 8 | number));
        }
    }
    return sum;
}

/// A store that is one version behind a log, and that version's body.
const Behind = struct {
    life: *Life,

    fn init(seed: u64, turns: usize) !Behind {
        var prng = std.Random.DefaultPrng.init(seed);
        const life = try Life.init(testing.allocator, testing.allocator, prng.random());
        errdefer life.deinit();
        for (0..turns) |_| try life.turn();
        while (life.bodies.items.len < 2) try life.turn();
        return .{ .life = life };
    }

    fn store(behind: Behind) !*Store {
        const bodies = behind.life.bodies.items;
        const made = try newStore(testing.allocator);
        errdefer made.destroy() catch unreachable;
        for (bodies[0 .. bodies.len - 1], 1..) |before, version| try redo.replay(made, version, 0, before);
        return made;
    }

    fn body(behind: Behind) []const u8 {
        const bodies = behind.life.bodies.items;
        return bodies[bodies.len - 1];
    }
};

/// Returns whether the body was taken in.
fn offer(store: *Store, body: []const u8) !bool {
    const before = stateOf(store);
    if (redo.replay(store, store.version + 1, 0, body)) |_| {
        try fuzz.checkHead(store);
        return true;
    } else |_| {
        try testing.expectEqual(before, stateOf(store));
        return false;
    }
}

test "smoke: a mutated body is taken in whole or changes nothing" {
    var taken: usize = 0;
    for (0..8) |seed| {
        var prng = std.Random.DefaultPrng.init(seed);
        const random = prng.random();
        const behind = try Behind.init(seed, 60);
        defer behind.life.deinit();
        var store = try behind.store();
        defer store.destroy() catch unreachable;
        const body = try testing.allocator.dupe(u8, behind.body());
        defer testing.allocator.free(body);
        for (0..body.len) |length| try testing.expect(!try offer(store, body[0..length]));
        for (0..300) |_| {
            @memcpy(body, behind.body());
            for (0..1 + random.uintLessThan(usize, 3)) |_| {
                // Mostly near an end, where the counts and the keys are.
                const from_end = random.boolean();
                const at = random.uintLessThan(usize, if (random.boolean()) @min(body.len, 60) else body.len);
                const byte = &body[if (from_end) body.len - 1 - at else at];
                byte.* = switch (random.uintLessThan(u8, 4)) {
                    0 => random.int(u8),
                    1 => byte.* ^ (@as(u8, 1) << random.int(u3)),
                    2 => byte.* +% 1,
                    else => 0,
                };
            }
            if (!try offer(store, body)) continue;
            taken += 1;
            // Whatever it was, it is a state to go on from.
            try redo.finish(store);
            try store.begin();
            var keys: [50]u64 = undefined;
            for ([_]u16{ entities, sessions, item }) |table| try store.head.reserve(table, keys.len, &keys);
            try store.rollback();
            store.destroy() catch unreachable;
            store = try behind.store();
        }
        try testing.expect(try offer(store, behind.body()));
    }
    try testing.expect(taken > 20);
}

fn fuzzBody(_: void, smith: *testing.Smith) anyerror!void {
    const behind = try Behind.init(3, 25);
    defer behind.life.deinit();
    const store = try behind.store();
    defer store.destroy() catch unreachable;
    var room: [8192]u8 = undefined;
    const length = @min(room.len, behind.body().len);
    @memcpy(room[0..length], behind.body()[0..length]);
    while (!smith.eos()) room[smith.index(length)] = smith.value(u8);
    _ = try offer(store, room[0..length]);
}

test "fuzz: any body is taken in whole or changes nothing" {
    try testing.fuzz({}, fuzzBody, .{});
}

test "a body of another version than the next is refused" {
    const behind = try Behind.init(1, 30);
    defer behind.life.deinit();
    const store = try behind.store();
    defer store.destroy() catch unreachable;
    const before = stateOf(store);
    try testing.expectError(error.StaleVersion, redo.replay(store, store.version, 0, behind.body()));
    try testing.expectError(error.BaseAhead, redo.replay(store, store.version + 2, 0, behind.body()));
    try testing.expectEqual(before, stateOf(store));
}

/// One empty version's body, with keys behind its block.
fn bodyOf(room: []u8, table: u16, auto: u64, keys: []const u64) []const u8 {
    const head = [_]u8{ 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0 };
    @memcpy(room[0..head.len], &head);
    std.mem.writeInt(u16, room[14..16], table, .little);
    std.mem.writeInt(u16, room[16..18], 0, .little);
    std.mem.writeInt(u64, room[18..26], auto, .little);
    std.mem.writeInt(u32, room[26..30], @intCast(keys.len), .little);
    for (keys, 0..) |key, i| std.mem.writeInt(u64, room[30 + 8 * i ..][0..8], key, .little);
    return room[0 .. 30 + 8 * keys.len];
}

fn keyOf(index: u32, generation: u32) u64 {
    return (entity.Key{ .index = index, .generation = generation }).bits();
}

test "a spent generation does not come back, and no body may bring it back" {
    const store = try newStore(testing.allocator);
    defer store.destroy() catch unreachable;
    var room: [100]u8 = undefined;
    try redo.replay(store, 1, 0, bodyOf(&room, 19, 7, &.{ keyOf(0, 5), keyOf(3, 1) }));
    for ([_]struct { u16, u64, []const u64 }{
        .{ 19, 7, &.{keyOf(0, 4)} }, // older than what is spent
        .{ 19, 7, &.{keyOf(0, 0)} },
        .{ 19, 7, &.{keyOf(0, 1 << 31)} },
        .{ 19, 7, &.{ keyOf(2, 1), keyOf(1, 1) } }, // not ascending
        .{ 19, 7, &.{ keyOf(2, 1), keyOf(2, 2) } },
        .{ 19, 7, &.{keyOf(1 << 25, 1)} }, // beyond the table's limit
        .{ 19, 6, &.{} }, // a counter that went back
        .{ 0, 1, &.{} }, // one of a table that has none
        .{ 16, 0, &.{keyOf(0, 6)} }, // keys of a component
        .{ 21, 0, &.{} }, // events are not logged
        .{ 22, 0, &.{} },
    }) |wrong| {
        const before = stateOf(store);
        try testing.expectError(error.BadBlock, redo.replay(store, 2, 0, bodyOf(&room, wrong[0], wrong[1], wrong[2])));
        try testing.expectEqual(before, stateOf(store));
    }
    try redo.replay(store, 2, 0, bodyOf(&room, 0, 0, &.{keyOf(1, std.math.maxInt(u31))}));
    try redo.finish(store);
    try store.begin();
    var keys: [4]u64 = undefined;
    try store.head.reserve(item, 4, &keys);
    try testing.expectEqualSlices(u64, &.{ keyOf(0, 6), keyOf(1, 1), keyOf(2, 1), keyOf(3, 2) }, &keys);
    // A place whose generation would wrap is not handed out.
    var two: [2]u64 = undefined;
    try store.head.reserve(entities, 2, &two);
    try testing.expectEqualSlices(u64, &.{ keyOf(0, 1), keyOf(2, 1) }, &two);
    const kind: u16 = 1;
    try store.head.insert(item, keys[0], &.{ null, std.mem.asBytes(&kind) });
    try testing.expectEqual(8, store.head.tables[item].auto);
    try store.rollback();
}
