//! What each transaction changed, as whoever follows the changes is told it: net, by row, with values.
//!
//! A record is made when a transaction is kept, from its undo log and the head: a row that came is an insertion, one
//! that went a deletion, one whose cells differ in the end an update; what was undone on the way is nothing. Records
//! gather until their version is made, and then leave as one chunk that belongs to whoever takes it, on any thread.
//!
//! Only tables that somebody follows are recorded; for them the undo log carries the keys of bulk operations too. A
//! commit never fails for the sake of a record: without memory for it, or beyond `bytes_max`, the chunk says that
//! something was lost, and followers have to look at a view again.
//!
//! A record, little-endian, every part at a multiple of 8 bytes:
//!
//!     record   u64 bytes of the whole record | u32 tables | u32 zero | table*
//!     table    u16 table id | u16 fields | u32 inserted | u32 updated | u32 deleted
//!              u64 key * (inserted + updated + deleted) | field*
//!     field    u16 field id | u16 zero | u32 bytes of a cell | cells, padded | u64 changed * ceil(updated / 64)
//!
//! A field of strings has 0 bytes of a cell, and in place of the cells: u64 where each text ends * rows | UTF-8, padded.
//! References would not outlive the texts that a later version forgets.
//!
//! Tables come by ascending id. A field has a cell of each row, in the order of the keys: as the transaction left it,
//! or, for a deleted row, as it was before the transaction. Bit i of `changed` says whether the i-th updated row
//! changed there. A log on disk can leave out the cells that did not.
//!
//! Invariant: applying the records since a version, in order, to a copy of the followed tables as they were gives them
//! as they are now.

const std = @import("std");
const assert = std.debug.assert;
const compat = @import("compat.zig");
const head_file = @import("head.zig");
const limits = @import("limits.zig");
const Inbox = @import("inbox.zig").Inbox;
const Head = head_file.Head;
const Heap = @import("heap.zig").Heap;
const Table = @import("table.zig").Table;

pub const record_header_bytes = 16;
pub const table_header_bytes = 16;
pub const field_header_bytes = 8;

/// The records of one version. Its memory is one piece: this, then `length` bytes of records.
pub const Chunk = extern struct {
    next: ?*Chunk,
    version: u64,
    tick: u64,
    length: u64,
    /// Not 0: records of this version, or of one before it, could not be kept.
    lost: u64,
    /// The version that has to be on disk before anybody is told of this one.
    demanded: u64,

    fn create(gpa: std.mem.Allocator, records: []const u8) error{OutOfMemory}!*Chunk {
        const memory = try gpa.alignedAlloc(u8, .@"64", @sizeOf(Chunk) + records.len);
        const chunk: *Chunk = @ptrCast(memory.ptr);
        chunk.length = records.len;
        @memcpy(memory[@sizeOf(Chunk)..], records);
        return chunk;
    }
    pub fn bytes(chunk: *Chunk) []u8 {
        return @as([*]u8, @ptrCast(chunk))[@sizeOf(Chunk)..][0..@intCast(chunk.length)];
    }
    pub fn destroy(chunk: *Chunk, gpa: std.mem.Allocator) void {
        const memory: [*]align(64) u8 = @ptrCast(@alignCast(chunk));
        gpa.free(memory[0 .. @sizeOf(Chunk) + @as(usize, @intCast(chunk.length))]);
    }
};

/// Which entry a row has in the record being made: as good as empty where the stamp is an older record's.
const Place = packed struct(u64) { entry: u32, stamp: u32 };

const Entry = struct {
    key: u64,
    /// Where it is now, or `gone`.
    row: u32,
    /// Before the transaction there was such a row.
    existed: bool,

    const gone = std.math.maxInt(u32);
};

const Outcome = enum { nothing, inserted, updated, deleted };

pub const Journal = struct {
    /// Chunks are freed by their taker on its own thread, so they come from an allocator that may be shared.
    child: std.mem.Allocator,
    gpa: std.mem.Allocator,
    /// By table; rows of the head.
    places: []std.ArrayList(Place) = &.{},
    stamp: u32 = 0,
    watched: bool = false,
    bytes_max: usize = 0,
    records: std.ArrayList(u8) = .empty,
    lost: bool = false,
    sealed: Inbox(Chunk) = .{},
    /// Chunks that wait for the disk, oldest first.
    waiting: ?*Chunk = null,
    newest: ?*Chunk = null,
    arena: std.heap.ArenaAllocator,

    pub fn init(child: std.mem.Allocator, gpa: std.mem.Allocator) Journal {
        return .{ .child = child, .gpa = gpa, .arena = .init(gpa) };
    }

    pub fn deinit(journal: *Journal) void {
        for (journal.places) |*places| places.deinit(journal.gpa);
        journal.gpa.free(journal.places);
        journal.records.deinit(journal.gpa);
        journal.arena.deinit();
        for ([_]?*Chunk{ journal.takeAll(), journal.waiting }) |first| {
            var chunk = first;
            while (chunk) |one| {
                chunk = one.next;
                one.destroy(journal.child);
            }
        }
    }

    /// Record exactly these tables from the next transaction on. Outside a transaction.
    pub fn watch(journal: *Journal, head: *Head, ids: []const u16, bytes_max: usize) error{ UnknownTable, OutOfMemory, InTransaction }!void {
        if (head.in_transaction) return error.InTransaction;
        for (ids) |id| _ = try head.tableIndex(id);
        if (journal.places.len == 0 and ids.len > 0) {
            journal.places = try journal.gpa.alloc(std.ArrayList(Place), head.tables.len);
            for (journal.places) |*places| places.* = .empty;
        }
        for (head.tables) |*table| table.journaled = false;
        for (ids) |id| head.tables[head.tableIndex(id) catch unreachable].journaled = true;
        for (journal.places, head.tables) |*places, *table| if (!table.journaled) places.clearAndFree(journal.gpa);
        journal.watched = ids.len > 0;
        journal.bytes_max = bytes_max;
    }

    /// Note what the open transaction comes to. It has passed its checks and is about to be kept.
    pub fn record(journal: *Journal, head: *const Head) void {
        if (!journal.watched or head.undo.items.len == 0) return;
        const before = journal.records.items.len;
        defer _ = journal.arena.reset(.{ .retain_with_limit = limits.scratch_bytes_kept });
        const whole = journal.write(head) catch false;
        if (whole and journal.records.items.len <= journal.bytes_max) return;
        assert(before <= journal.records.items.len);
        journal.records.clearAndFree(journal.gpa);
        journal.lost = true;
    }

    /// The version that the records since the last one belong to was made. Followers are told of it when `demanded` is
    /// on disk, where `durable` is.
    pub fn seal(journal: *Journal, version: u64, tick: u64, demanded: u64, durable: u64) void {
        if (journal.records.items.len == 0 and !journal.lost) return;
        const chunk = Chunk.create(journal.child, journal.records.items) catch {
            journal.records.clearAndFree(journal.gpa);
            journal.lost = true;
            return;
        };
        chunk.version = version;
        chunk.tick = tick;
        chunk.lost = @intFromBool(journal.lost);
        journal.lost = false;
        // A bulk load's room goes back.
        if (journal.records.capacity > 1 << 20) {
            journal.records.clearAndFree(journal.gpa);
        } else journal.records.items.len = 0;
        if (demanded <= durable) {
            assert(journal.waiting == null);
            return journal.sealed.put(chunk);
        }
        chunk.demanded = demanded;
        chunk.next = null;
        if (journal.newest) |before| before.next = chunk else journal.waiting = chunk;
        journal.newest = chunk;
    }

    /// Everything up to `durable` is on disk.
    pub fn release(journal: *Journal, durable: u64) void {
        while (journal.waiting) |chunk| {
            if (chunk.demanded > durable) return;
            journal.waiting = chunk.next;
            if (chunk.next == null) journal.newest = null;
            journal.sealed.put(chunk);
        }
    }

    /// What was sealed, oldest first; the caller's now. From any thread.
    pub fn takeAll(journal: *Journal) ?*Chunk {
        return journal.sealed.takeAll();
    }

    fn write(journal: *Journal, head: *const Head) error{OutOfMemory}!bool {
        journal.stamp +%= 1;
        if (journal.stamp == 0) {
            for (journal.places) |*places| @memset(places.items, .{ .entry = 0, .stamp = 0 });
            journal.stamp = 1;
        }
        const arena = journal.arena.allocator();
        const nets = try arena.alloc(?*Net, head.tables.len);
        @memset(nets, null);

        // Backwards, so that what is learnt last about a row is how it was before the transaction.
        var log = head.log();
        while (log.previous()) |item| {
            const table = item.entry.table;
            const t = &head.tables[table];
            if (!t.journaled) continue;
            switch (item.entry.kind) {
                .write, .cells, .insert, .insert_many, .remove => {},
                // Keys that nobody has a row of; cells of a scratch, which come as `cells` once they are settled.
                .reserve, .release, .occupy, .occupy_many, .lent => continue,
                // Rows are named by their keys.
                .swap, .members => continue,
            }
            const net = nets[table] orelse made: {
                const net = try arena.create(Net);
                net.* = try .init(arena, t, &journal.places[table], journal.stamp);
                try journal.places[table].ensureTotalCapacity(journal.gpa, t.rows);
                const old = journal.places[table].items.len;
                if (old < t.rows) {
                    journal.places[table].items.len = t.rows;
                    @memset(journal.places[table].items[old..], .{ .entry = 0, .stamp = 0 });
                }
                nets[table] = net;
                break :made net;
            };
            try net.take(item);
        }
        const at = journal.records.items.len;
        var tables: u32 = 0;
        try journal.records.appendNTimes(journal.gpa, 0, record_header_bytes);
        for (nets) |maybe| if (maybe) |net| {
            if (journal.records.items.len > journal.bytes_max) return false;
            if (try net.write(journal.gpa, &head.heap, &journal.records)) tables += 1;
        };
        if (tables == 0) {
            journal.records.items.len = at;
            return true;
        }
        const header = journal.records.items[at..][0..record_header_bytes];
        std.mem.writeInt(u64, header[0..8], journal.records.items.len - at, .little);
        std.mem.writeInt(u32, header[8..12], tables, .little);
        return true;
    }
};

/// What one transaction comes to in one table.
const Net = struct {
    arena: std.mem.Allocator,
    table: *const Table,
    places: *std.ArrayList(Place),
    stamp: u32,
    row_bytes: u32,
    /// Words of a bitmap with a bit for each field.
    words: u32,
    offsets: []u32,
    entries: std.ArrayList(Entry) = .empty,
    /// For each entry the fields whose cell before the transaction is known, and a row of cells with those in it.
    known: std.ArrayList(u64) = .empty,
    olds: std.ArrayList(u8) = .empty,
    /// Entries of rows that are not there any more.
    absent: std.AutoHashMapUnmanaged(u64, u32) = .empty,

    fn init(arena: std.mem.Allocator, table: *const Table, places: *std.ArrayList(Place), stamp: u32) error{OutOfMemory}!Net {
        const offsets = try arena.alloc(u32, table.columns.len);
        var at: u32 = 0;
        for (table.columns, offsets) |*column, *offset| {
            offset.* = at;
            at += column.width;
        }
        return .{
            .arena = arena,
            .table = table,
            .places = places,
            .stamp = stamp,
            .row_bytes = at,
            .words = @intCast((table.columns.len + 63) / 64),
            .offsets = offsets,
        };
    }

    fn take(net: *Net, item: head_file.Log.Item) error{OutOfMemory}!void {
        const entry = item.entry;
        switch (entry.kind) {
            .write => net.old(try net.of(entry.key, entry.row), entry.field, item.payload),
            .cells => {
                const width = net.table.columns[entry.field].width;
                const n: usize = entry.row;
                const cells = item.payload[n * 4 ..][0 .. n * width];
                const keys = item.payload[n * (4 + width) ..];
                assert(keys.len == n * 8);
                try net.expect(n);
                // Backwards: a caller may have named a row twice.
                var i = n;
                while (i > 0) {
                    i -= 1;
                    const row = std.mem.readInt(u32, item.payload[i * 4 ..][0..4], .little);
                    net.old(try net.of(keyOf(keys, i), row), entry.field, cells[i * width ..][0..width]);
                }
            },
            .insert => net.entries.items[try net.of(entry.key, Entry.gone)].existed = false,
            .insert_many => {
                assert(item.payload.len == @as(usize, entry.row) * 8);
                try net.expect(entry.row);
                var i: usize = entry.row;
                while (i > 0) {
                    i -= 1;
                    net.entries.items[try net.of(keyOf(item.payload, i), Entry.gone)].existed = false;
                }
            },
            .remove => {
                const at = try net.of(entry.key, Entry.gone);
                net.entries.items[at].existed = true;
                for (net.table.columns, 0..) |_, f| net.known.items[at * net.words + f / 64] |= bit(f);
                @memcpy(net.olds.items[at * net.row_bytes ..][0..net.row_bytes], item.payload);
            },
            .reserve, .release, .occupy, .occupy_many, .lent, .swap, .members => unreachable,
        }
    }

    fn old(net: *Net, at: usize, field: u16, before: []const u8) void {
        net.entries.items[at].existed = true;
        net.known.items[at * net.words + field / 64] |= bit(field);
        const to = net.olds.items[at * net.row_bytes + net.offsets[field] ..];
        switch (before.len) {
            inline 1, 2, 4, 8 => |width| to[0..width].* = before[0..width].*,
            else => @memcpy(to[0..before.len], before),
        }
    }

    /// Room at once for as many rows as there will be at most: grown bit by bit it would be copied, and left behind.
    fn expect(net: *Net, rows: usize) error{OutOfMemory}!void {
        if (net.entries.items.len > 0) return;
        try net.entries.ensureTotalCapacityPrecise(net.arena, rows);
        try net.known.ensureTotalCapacityPrecise(net.arena, rows * net.words);
        try net.olds.ensureTotalCapacityPrecise(net.arena, rows * net.row_bytes);
    }

    /// The entry of a key; `guess` is where its row was, and mostly is.
    fn of(net: *Net, key: u64, guess: u32) error{OutOfMemory}!usize {
        const next: u32 = @intCast(net.entries.items.len);
        const there = guess < net.table.rows and net.table.keyAt(guess) == key;
        if (if (there) guess else net.table.find(key)) |row| {
            const place = &net.places.items[row];
            if (place.stamp == net.stamp) return place.entry;
            try net.add(key, row);
            place.* = .{ .entry = next, .stamp = net.stamp };
        } else {
            const found = try net.absent.getOrPut(net.arena, key);
            if (found.found_existing) return found.value_ptr.*;
            found.value_ptr.* = next;
            try net.add(key, Entry.gone);
        }
        return next;
    }

    fn add(net: *Net, key: u64, row: u32) error{OutOfMemory}!void {
        try net.entries.append(net.arena, .{ .key = key, .row = row, .existed = true });
        try net.known.appendNTimes(net.arena, 0, net.words);
        // What is not `known` in it is never read.
        _ = try net.olds.addManyAsSlice(net.arena, net.row_bytes);
    }

    fn knows(net: *const Net, at: usize, field: usize) bool {
        return net.known.items[at * net.words + field / 64] & bit(field) != 0;
    }

    /// Whether a field of a row that was and is there differs in the end.
    fn differs(net: *const Net, at: usize, field: usize) bool {
        if (!net.knows(at, field)) return false;
        const now = net.table.columns[field].cell(net.entries.items[at].row);
        const before = net.olds.items[at * net.row_bytes + net.offsets[field] ..][0..now.len];
        return switch (now.len) {
            inline 1, 2, 4, 8 => |width| !std.mem.eql(u8, now[0..width], before[0..width]),
            else => !std.mem.eql(u8, now, before),
        };
    }

    /// A cell as it is now, or of a row that went, as it was.
    fn cellOf(net: *const Net, at: u32, field: usize) []const u8 {
        const column = &net.table.columns[field];
        const row = net.entries.items[at].row;
        if (row != Entry.gone) return column.cell(row);
        return net.olds.items[at * net.row_bytes + net.offsets[field] ..][0..column.width];
    }

    fn textOf(net: *const Net, heap: *const Heap, at: u32, field: usize) []const u8 {
        return heap.get(std.mem.readInt(u64, net.cellOf(at, field)[0..8], .little));
    }

    fn textBytes(net: *const Net, heap: *const Heap, rows: []const u32, field: usize) usize {
        var bytes: usize = 0;
        for (rows) |at| bytes += net.textOf(heap, at, field).len;
        return bytes;
    }

    fn outcomeOf(net: *const Net, at: usize) Outcome {
        const entry = &net.entries.items[at];
        if (entry.row == Entry.gone) {
            if (!entry.existed) return .nothing;
            for (net.table.columns, 0..) |_, f| assert(net.knows(at, f));
            return .deleted;
        }
        if (!entry.existed) return .inserted;
        for (0..net.table.spec.shown) |f| if (net.differs(at, f)) return .updated;
        return .nothing;
    }

    /// Append the table's part of the record. False when nothing is left to say.
    fn write(net: *Net, gpa: std.mem.Allocator, heap: *const Heap, out: *std.ArrayList(u8)) error{OutOfMemory}!bool {
        const t = net.table;
        const outcomes = try net.arena.alloc(Outcome, net.entries.items.len);
        for (outcomes, 0..) |*outcome, at| outcome.* = net.outcomeOf(at);
        // Entries: of inserted rows first, then of updated, then of deleted ones. What was met first was done last.
        const room = try net.arena.alloc(u32, outcomes.len);
        var counts: [3]u32 = @splat(0);
        var used: usize = 0;
        for ([_]Outcome{ .inserted, .updated, .deleted }, &counts) |which, *count| {
            const before = used;
            var at = outcomes.len;
            while (at > 0) {
                at -= 1;
                if (outcomes[at] != which) continue;
                room[used] = @intCast(at);
                used += 1;
            }
            count.* = @intCast(used - before);
        }
        const rows = room[0..used];
        if (rows.len == 0) return false;
        const updated = rows[counts[0]..][0..counts[1]];

        const changed_bytes = (updated.len + 63) / 64 * 8;
        var bytes: usize = table_header_bytes + rows.len * 8;
        for (t.spec.visible(), 0..) |*field, f| {
            const cells = if (field.type == .string)
                rows.len * 8 + padded(net.textBytes(heap, rows, f))
            else
                padded(rows.len * field.width);
            bytes += field_header_bytes + cells + changed_bytes;
        }
        try out.ensureUnusedCapacity(gpa, bytes);
        var w: Writer = .{ .to = out };
        w.int(u16, t.spec.id);
        w.int(u16, @intCast(t.spec.shown));
        for (counts) |count| w.int(u32, count);
        for (rows) |at| w.int(u64, net.entries.items[at].key);
        for (t.spec.visible(), 0..) |*field, f| {
            w.int(u16, field.id);
            w.int(u16, 0);
            if (field.type == .string) {
                w.int(u32, 0);
                var end: usize = 0;
                for (rows) |at| {
                    end += net.textOf(heap, at, f).len;
                    w.int(u64, end);
                }
                for (rows) |at| out.appendSliceAssumeCapacity(net.textOf(heap, at, f));
                out.appendNTimesAssumeCapacity(0, padded(end) - end);
            } else {
                w.int(u32, field.width);
                const to = out.addManyAsSliceAssumeCapacity(rows.len * field.width);
                switch (field.width) {
                    inline 1, 2, 4, 8 => |width| for (rows, 0..) |at, i| {
                        to[i * width ..][0..width].* = net.cellOf(at, f)[0..width].*;
                    },
                    else => |width| for (rows, 0..) |at, i| @memcpy(to[i * width ..][0..width], net.cellOf(at, f)),
                }
                out.appendNTimesAssumeCapacity(0, padded(to.len) - to.len);
            }
            var word: u64 = 0;
            for (updated, 0..) |at, i| {
                if (net.differs(at, f)) word |= bit(i);
                if (i % 64 == 63 or i + 1 == updated.len) {
                    w.int(u64, word);
                    word = 0;
                }
            }
        }
        return true;
    }
};

const Writer = struct {
    to: *std.ArrayList(u8),

    fn int(w: Writer, comptime T: type, value: T) void {
        std.mem.writeInt(T, w.to.addManyAsArrayAssumeCapacity(@sizeOf(T)), value, .little);
    }
};

fn bit(n: usize) u64 {
    return @as(u64, 1) << @intCast(n % 64);
}

fn padded(bytes: usize) usize {
    return std.mem.alignForward(usize, bytes, 8);
}

fn keyOf(keys: []const u8, i: usize) u64 {
    return std.mem.readInt(u64, keys[i * 8 ..][0..8], .little);
}
