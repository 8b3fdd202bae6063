//! Tables that several nodes write (`conflict = "lww"`): who wrote each cell last and when, and what becomes of it when the
//! writes of two nodes meet.
//!
//! A *stamp* is a time of a hybrid logical clock and the node that wrote; the greater one wins, cell by cell. Each field of
//! such a table has a hidden companion (`catalogue.flag_stamp`) with the stamps of its cells. A transaction has one stamp,
//! which its commit gives to every cell that it wrote, as its undo log tells: what is not in such a table costs nothing, and
//! an operation does not know of it.
//!
//! A row is named between nodes by its primary key, which never changes; its kernel key is each node's own. To delete a row
//! is to write all of its cells: a *tombstone* keeps that stamp, and a row is there as long as one of its cells has a greater
//! one. Its other cells are their fields' defaults then, with no stamp.
//!
//! So what a store holds of a row is a greatest stamp of deletion and per field a greatest stamp with its value, and merging
//! takes the greater of each: in whatever order, and however often.
//!
//! Invariants, outside a transaction:
//! - no cell of a row has a stamp that is not above its tombstone's, but the stamp 0 of a default;
//! - a row has a stamp that is not 0; a row all of whose cells are above its tombstone has none;
//! - the clock is not behind any stamp of the store.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const Head = @import("head.zig").Head;
const Table = @import("table.zig").Table;

pub const bytes = 16;
pub const block_version = 1;

/// When and by whom a cell was written. 48 bits of unix ms, and 16 that count within one.
pub const Stamp = struct {
    hlc: u64 = 0,
    node: u64 = 0,

    pub fn of(cell: []const u8) Stamp {
        return .{ .hlc = std.mem.readInt(u64, cell[0..8], .little), .node = std.mem.readInt(u64, cell[8..16], .little) };
    }
    pub fn cellOf(s: Stamp) [bytes]u8 {
        var cell: [bytes]u8 = undefined;
        std.mem.writeInt(u64, cell[0..8], s.hlc, .little);
        std.mem.writeInt(u64, cell[8..16], s.node, .little);
        return cell;
    }
    pub fn order(a: Stamp, b: Stamp) std.math.Order {
        if (a.hlc != b.hlc) return std.math.order(a.hlc, b.hlc);
        return std.math.order(a.node, b.node);
    }
    pub fn above(a: Stamp, b: Stamp) bool {
        return a.order(b) == .gt;
    }
    pub fn isNone(s: Stamp) bool {
        return s.hlc == 0 and s.node == 0;
    }
};

pub const ms_max = (1 << 47) - 1;

/// The hybrid logical clock of one node. It follows the time it is told, never runs back, and is never behind what it saw.
pub const Clock = struct {
    node: u64 = 0,
    /// The newest time given or seen.
    last: u64 = 0,
    /// What it was told: unix ms.
    now_ms: u64 = 0,
    /// The open transaction takes in what others wrote: nothing of it is this node's own.
    merging: bool = false,

    fn next(clock: *Clock) Stamp {
        clock.last = @max(clock.last + 1, clock.now_ms << 16);
        return .{ .hlc = clock.last, .node = clock.node };
    }
    fn highest(clock: *const Clock) u64 {
        return (clock.now_ms + limits.stamp_ahead_ms_max) << 16 | 0xffff;
    }
};

/// Begin to write as `node`. The clock goes on after everything that the store holds.
pub fn become(head: *Head, node: u64) void {
    head.clock.node = node;
    for (head.tables) |*table| if (table.spec.lww_key != null) {
        for (table.columns[table.spec.shown..]) |*column| for (0..table.rows) |row| {
            head.clock.last = @max(head.clock.last, Stamp.of(column.cell(@intCast(row))).hlc);
        };
    };
    const tombs = tombstones(head) orelse return;
    for (0..tombs.rows) |row| head.clock.last = @max(head.clock.last, entombed(tombs, @intCast(row)).hlc);
}

pub fn tombstones(head: *const Head) ?*Table {
    if (!head.catalogue.has_lww) return null;
    return &head.tables[head.catalogue.tableIndex(catalogue.tombstones_table).?];
}

pub fn entombed(tombs: *const Table, row: u32) Stamp {
    return .{
        .hlc = std.mem.readInt(u64, tombs.columns[0].cell(row)[0..8], .little),
        .node = std.mem.readInt(u64, tombs.columns[1].cell(row)[0..8], .little),
    };
}

fn nameOf(head: *const Head, spec: *const catalogue.Table, cell: []const u8) [catalogue.tombstone_name_bytes]u8 {
    const is_text = spec.fields[spec.lww_key.?].type == .string;
    const key = if (is_text) head.heap.get(std.mem.readInt(u64, cell[0..8], .little)) else cell;
    var name: [catalogue.tombstone_name_bytes]u8 = @splat(0);
    std.mem.writeInt(u16, name[0..2], spec.id, .little);
    name[2] = @intCast(key.len);
    @memcpy(name[3..][0..key.len], key);
    return name;
}

fn buried(head: *const Head, spec: *const catalogue.Table, cell: []const u8) ?u32 {
    const tombs = tombstones(head).?;
    const name = nameOf(head, spec, cell);
    return tombs.find(tombs.holder(2, &name, 0) orelse return null);
}

fn bury(head: *Head, spec: *const catalogue.Table, cell: []const u8, at: Stamp) failure.Error!void {
    const number = head.catalogue.tableIndex(catalogue.tombstones_table).?;
    const tombs = &head.tables[number];
    const words = at.cellOf();
    if (buried(head, spec, cell)) |row| {
        if (!at.above(entombed(tombs, row))) return;
        const key = tombs.keyAt(row);
        try head.writeCell(number, row, 0, key, words[0..8]);
        return head.writeCell(number, row, 1, key, words[8..16]);
    }
    var fresh: [1]u64 = undefined;
    try head.reserve(number, 1, &fresh);
    const name = nameOf(head, spec, cell);
    try head.insert(number, fresh[0], &.{ words[0..8].ptr, words[8..16].ptr, &name });
}

fn unbury(head: *Head, spec: *const catalogue.Table, cell: []const u8) failure.Error!void {
    const row = buried(head, spec, cell) orelse return;
    const number = head.catalogue.tableIndex(catalogue.tombstones_table).?;
    try head.delete(number, head.tables[number].keyAt(row));
}

// Own writes.

const Written = struct { key: u64, table: u16, field: u16 };
const every_field = 0xffff;

/// Stamp what the open transaction wrote to lww tables. `ReadOnly` where it changed a primary key: it is to be rolled back.
pub fn stampWritten(head: *Head, arena: std.mem.Allocator) failure.Error!void {
    if (head.clock.merging) return;
    for (head.tables, head.noted) |*table, noted| {
        if (noted and table.spec.lww_key != null) break;
    } else return;
    var written: std.ArrayList(Written) = .empty;
    var gone: std.ArrayList(struct { table: u16, key: []const u8 }) = .empty;
    var log = head.log();
    while (log.previous()) |item| {
        const entry = item.entry;
        const t = &head.tables[entry.table];
        const key_field = t.spec.lww_key orelse continue;
        switch (entry.kind) {
            .write => {
                if (entry.field == key_field) {
                    defer head.info.reason = 1;
                    return head.failCell(@as(failure.Error, error.ReadOnly), entry.table, entry.field, entry.key, 0, 0);
                }
                try written.append(arena, .{ .key = entry.key, .table = entry.table, .field = entry.field });
            },
            .cells => {
                const keys = item.payload[item.payload.len - @as(usize, entry.row) * 8 ..];
                for (0..entry.row) |i| try written.append(arena, .{
                    .key = std.mem.readInt(u64, keys[i * 8 ..][0..8], .little),
                    .table = entry.table,
                    .field = entry.field,
                });
            },
            .insert => try written.append(arena, .{ .key = entry.key, .table = entry.table, .field = every_field }),
            .insert_many => for (0..entry.row) |i| try written.append(arena, .{
                .key = std.mem.readInt(u64, item.payload[i * 8 ..][0..8], .little),
                .table = entry.table,
                .field = every_field,
            }),
            .remove => {
                var at: usize = 0;
                for (t.columns[0..key_field]) |*column| at += column.width;
                const cell = item.payload[at..][0..t.columns[key_field].width];
                // The log may move as stamps are written.
                try gone.append(arena, .{ .table = entry.table, .key = try arena.dupe(u8, cell) });
            },
            .reserve, .release, .occupy, .occupy_many, .lent, .swap, .members => {},
        }
    }
    if (written.items.len == 0 and gone.items.len == 0) return;
    const now = head.clock.next();
    const cell = now.cellOf();
    for (written.items) |one| {
        const t = &head.tables[one.table];
        const row = t.find(one.key) orelse continue;
        const shown = t.spec.shown;
        if (one.field != every_field) {
            try head.writeCell(one.table, row, shown + one.field, one.key, &cell);
        } else {
            for (shown..2 * shown) |f| try head.writeCell(one.table, row, f, one.key, &cell);
        }
        try settle(head, one.table, row);
    }
    for (gone.items) |one| {
        const t = &head.tables[one.table];
        if (t.holder(t.spec.lww_key.?, one.key, 0) == null) try bury(head, t.spec, one.key, now);
    }
}

/// A row all of whose cells are above its tombstone needs it no more.
fn settle(head: *Head, table: u16, row: u32) failure.Error!void {
    const t = &head.tables[table];
    const cell = t.columns[t.spec.lww_key.?].cell(row);
    const at = buried(head, t.spec, cell) orelse return;
    const dead = entombed(tombstones(head).?, at);
    for (t.columns[t.spec.shown..]) |*column| if (!Stamp.of(column.cell(row)).above(dead)) return;
    try unbury(head, t.spec, cell);
}

// What others wrote.

pub const Merged = extern struct {
    /// Cells that came, and those of them that were newer than what was here.
    cells: u64 = 0,
    taken: u64 = 0,
    inserted: u64 = 0,
    deleted: u64 = 0,
    tombstones: u64 = 0,
    /// The greatest time among them.
    newest: u64 = 0,
};

/// Take in what another node tells (`stamps_cut.zig` has its bytes) in the open transaction, which is for nothing else. All or
/// nothing: `BadBlock` with offset and reason in `info`, `StampAhead` where a stamp is too far in the future, or the rule that
/// a value breaks. The clock is then not behind any of it.
pub fn merge(head: *Head, arena: std.mem.Allocator, data: []const u8) failure.Error!Merged {
    if (!head.in_transaction) return error.NoTransaction;
    if (!head.catalogue.has_lww) return error.BadArgument;
    if (!head.clock.merging and head.mark() > 0) return error.BadArgument;
    head.clock.merging = true;
    const from = head.mark();
    errdefer head.undoTo(from);
    var reader: block.Reader = .{ .bytes = data };
    var merger: Merger = .{ .head = head, .arena = arena, .r = &reader };
    merger.run() catch |err| {
        if (err == error.BadBlock) {
            head.info = .{ .offset = reader.at, .reason = @intFromEnum(reader.reason), .table = merger.table_id };
        } else head.info.offset = reader.at;
        return err;
    };
    head.clock.last = @max(head.clock.last, merger.out.newest);
    return merger.out;
}

const Merger = struct {
    head: *Head,
    arena: std.mem.Allocator,
    r: *block.Reader,
    nodes: []const u8 = &.{},
    table_id: u16 = 0xffff,
    out: Merged = .{},

    fn run(m: *Merger) failure.Error!void {
        const r = m.r;
        if (try r.int(u8) != block_version) return r.fail(.version);
        if (try r.int(u8) != 0) return r.fail(.compression);
        const tables = try r.int(u16);
        const nodes = try r.int(u16);
        if (try r.int(u16) != 0) return r.fail(.form);
        m.nodes = try r.take(@as(usize, nodes) * 8);
        var before: i32 = -1;
        for (0..tables) |_| {
            m.table_id = try r.int(u16);
            if (m.table_id <= before) return r.fail(.table_order);
            before = m.table_id;
            const number = m.head.catalogue.tableIndex(m.table_id) orelse return r.fail(.table_unknown);
            if (m.head.tables[number].spec.lww_key == null) return r.fail(.table_unknown);
            try m.table(number);
        }
        if (r.at != r.bytes.len) return r.fail(.trailing);
    }

    fn stampAt(m: *Merger, raw: *const [10]u8) failure.Error!Stamp {
        const node = std.mem.readInt(u16, raw[8..10], .little);
        if (@as(usize, node) * 8 >= m.nodes.len) return m.r.fail(.count);
        const found: Stamp = .{
            .hlc = std.mem.readInt(u64, raw[0..8], .little),
            .node = std.mem.readInt(u64, m.nodes[@as(usize, node) * 8 ..][0..8], .little),
        };
        if (found.hlc == 0) return m.r.fail(.generation);
        if (found.hlc > m.head.clock.highest()) {
            m.head.info = .{ .table = m.table_id, .found = found.hlc >> 16, .expected = m.head.clock.highest() >> 16, .key = found.node };
            return error.StampAhead;
        }
        m.out.newest = @max(m.out.newest, found.hlc);
        return found;
    }

    fn table(m: *Merger, number: u16) failure.Error!void {
        const r = m.r;
        const spec = m.head.tables[number].spec;
        const key_field = spec.lww_key.?;
        const width = spec.fields[key_field].width;
        const columns = try r.int(u16);
        const rows = try r.int(u32);
        const dead = try r.int(u32);
        if (columns > spec.shown or rows > limits.rows_max or dead > limits.rows_max) return r.fail(.count);
        // Each row brings a stamp at least, so what is asked for is bounded by what came.
        if (@as(usize, rows) * 10 > r.bytes.len - r.at) return r.fail(.truncated);
        const keys = try m.cells(&spec.fields[key_field], rows);

        const told = try m.arena.alloc(Told, columns);
        var before: i32 = -1;
        for (told) |*one| {
            const id = try r.int(u16);
            if (id <= before) return r.fail(.field_order);
            before = id;
            const f = spec.fieldIndex(id) orelse return r.fail(.field_unknown);
            if (f >= spec.shown) return r.fail(.field_unknown);
            try m.column(one, f, &spec.fields[f], rows, f == key_field);
        }
        for (0..rows) |i| try m.row(number, keys[i * width ..][0..width], told, i);
        if (@as(usize, dead) * 10 > r.bytes.len - r.at) return r.fail(.truncated);
        const graves = try m.cells(&spec.fields[key_field], dead);
        const when = try r.take(@as(usize, dead) * 10);
        for (0..dead) |i| {
            const at = try m.stampAt(when[i * 10 ..][0..10]);
            try m.grave(number, graves[i * width ..][0..width], at);
        }
    }

    /// A field's cells of some of the rows.
    const Told = struct {
        field: u32,
        present: []const u8,
        stamps: []const u8,
        /// Cells side by side; of texts their references. Of the primary key none: the rows' names are its cells.
        cells: []const u8,
        next: usize = 0,

        fn has(told: *const Told, i: usize) bool {
            return told.present[i / 8] >> @intCast(i % 8) & 1 == 1;
        }
    };

    fn column(m: *Merger, one: *Told, f: u32, field: *const catalogue.Field, rows: u32, is_key: bool) failure.Error!void {
        const r = m.r;
        const present = try r.take((@as(usize, rows) + 7) / 8);
        var n: usize = 0;
        for (present) |byte| n += @popCount(byte);
        if (rows % 8 != 0 and present[present.len - 1] >> @intCast(rows % 8) != 0) return r.fail(.names);
        one.* = .{ .field = f, .present = present, .stamps = try r.take(n * 10), .cells = &.{} };
        if (!is_key) one.cells = try m.cells(field, n);
    }

    /// Texts are taken into the heap: should the block be refused, nothing refers to them, and the next sweep forgets them.
    fn cells(m: *Merger, field: *const catalogue.Field, n: usize) failure.Error![]const u8 {
        if (field.type != .string) return m.r.take(n * field.width);
        if (n > m.r.bytes.len - m.r.at) return m.r.fail(.truncated);
        const references = try m.arena.alloc(u64, n);
        for (references) |*reference| reference.* = try m.head.heap.intern(try m.r.text(field.count));
        return std.mem.sliceAsBytes(references);
    }

    fn row(m: *Merger, number: u16, name: []const u8, told: []Told, i: usize) failure.Error!void {
        const head = m.head;
        const t = &head.tables[number];
        const spec = t.spec;
        const dead: Stamp = if (buried(head, spec, name)) |at| entombed(tombstones(head).?, at) else .{};
        const key: ?u64 = t.holder(spec.lww_key.?, name, 0);
        // A row that comes to be is put together first.
        const given = try m.arena.alloc(?[*]const u8, spec.fields.len);
        defer m.arena.free(given);
        @memset(given, null);
        const stamped = try m.arena.alloc([bytes]u8, spec.shown);
        defer m.arena.free(stamped);
        given[spec.lww_key.?] = name.ptr;
        var any = false;
        var said = false;
        for (told) |*one| if (one.has(i)) {
            said = true;
            const at = try m.stampAt(one.stamps[one.next * 10 ..][0..10]);
            const is_key = one.field == spec.lww_key.?;
            const field = &spec.fields[one.field];
            const cell = if (is_key) name else one.cells[one.next * field.width ..][0..field.width];
            one.next += 1;
            m.out.cells += 1;
            try head.checkCell(number, one.field, key orelse 0, cell);
            if (!at.above(dead)) continue;
            if (key) |there| {
                if (try m.overwrite(number, there, one.field, cell, at)) m.out.taken += 1;
                continue;
            }
            any = true;
            m.out.taken += 1;
            stamped[one.field] = at.cellOf();
            given[spec.shown + one.field] = &stamped[one.field];
            given[one.field] = cell.ptr;
        };
        if (!said) return m.r.fail(.count);
        if (any) {
            var fresh: [1]u64 = undefined;
            try head.reserve(number, 1, &fresh);
            try head.insert(number, fresh[0], given);
            m.out.inserted += 1;
            if (!dead.isNone()) try settle(head, number, t.find(fresh[0]).?);
        } else if (key) |there| {
            if (!dead.isNone()) try settle(head, number, t.find(there).?);
        }
    }

    /// The greater stamp wins. Two that are equal are one write, unless two nodes have one number: then the greater bytes do, so
    /// that all nodes agree.
    fn overwrite(m: *Merger, number: u16, key: u64, field: u32, cell: []const u8, at: Stamp) failure.Error!bool {
        const head = m.head;
        const t = &head.tables[number];
        const place = t.find(key).?;
        const have = Stamp.of(t.columns[t.spec.shown + field].cell(place));
        switch (at.order(have)) {
            .lt => return false,
            .eq => if (!m.greater(t, field, cell, t.columns[field].cell(place))) return false,
            .gt => {},
        }
        try head.writeCell(number, place, field, key, cell);
        try head.writeCell(number, place, t.spec.shown + field, key, &at.cellOf());
        return true;
    }

    fn greater(m: *Merger, t: *const Table, field: u32, a: []const u8, b: []const u8) bool {
        if (t.spec.fields[field].type != .string) return std.mem.order(u8, a, b) == .gt;
        const heap = &m.head.heap;
        const texts = [2]u64{ std.mem.readInt(u64, a[0..8], .little), std.mem.readInt(u64, b[0..8], .little) };
        return std.mem.order(u8, heap.get(texts[0]), heap.get(texts[1])) == .gt;
    }

    /// A row was deleted: what was written to it before is gone, and it is, if nothing was written since.
    fn grave(m: *Merger, number: u16, name: []const u8, at: Stamp) failure.Error!void {
        const head = m.head;
        const t = &head.tables[number];
        const spec = t.spec;
        try head.checkCell(number, spec.lww_key.?, 0, name);
        m.out.tombstones += 1;
        if (buried(head, spec, name)) |place| {
            if (!at.above(entombed(tombstones(head).?, place))) return;
        }
        const key = t.holder(spec.lww_key.?, name, 0) orelse return bury(head, spec, name, at);
        const place = t.find(key).?;
        var left: u32 = 0;
        for (t.columns[spec.shown..]) |*stamps| left += @intFromBool(Stamp.of(stamps.cell(place)).above(at));
        if (left == spec.shown) return; // written anew since, all of it
        try bury(head, spec, name, at);
        if (left == 0) {
            m.out.deleted += 1;
            return head.delete(number, key);
        }
        for (spec.visible(), 0..) |*field, f| {
            const stamps = &t.columns[spec.shown + f];
            if (Stamp.of(stamps.cell(place)).above(at)) continue;
            if (field.default) |default| try head.writeCell(number, place, f, key, default);
            try head.writeCell(number, place, spec.shown + f, key, &(Stamp{}).cellOf());
        }
    }
};
