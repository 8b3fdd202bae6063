//! Applying blocks on a replica: whole or not at all, through the operations that a commit uses.
//!
//! Bytes come from a peer, so nothing in them is believed: names, counts, values, keys and
//! references are checked as a transaction's would be, and a block that breaks any rule undoes all
//! that was applied of its frame. A cell equal to the head's is no operation.
//!
//! In a chunked sync each chunk may be cut from a newer version than the one before, so a chunk may
//! hold a component row whose entity an earlier chunk did not know yet. Such a row is passed over:
//! the closing delta names it, since its entity came after the sync's first version. In the last
//! block the same is an error.

const std = @import("std");
const assert = std.debug.assert;
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const entity = @import("entity.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const sparse = @import("sparse.zig");
const head_file = @import("head.zig");
const Head = head_file.Head;

pub const Input = struct { bytes: []const u8, last: bool };

/// Apply blocks in order inside the head's open transaction. On failure the caller rolls back.
pub fn apply(head: *Head, arena: std.mem.Allocator, blocks: []const Input, from_empty: bool) failure.Error!void {
    assert(head.in_transaction);
    if (from_empty) try clear(head);
    for (blocks) |input| {
        var reader: block.Reader = .{ .bytes = input.bytes };
        var applier: Applier = .{ .head = head, .arena = arena, .r = &reader, .last = input.last };
        try applier.runTold();
    }
}

/// Apply the block of a logged version likewise: it names durable tables, and a generation that was spent does not
/// come back. `info.offset` counts from the block's begin.
pub fn applyLogged(head: *Head, arena: std.mem.Allocator, bytes: []const u8) failure.Error!void {
    assert(head.in_transaction and head.replica);
    var reader: block.Reader = .{ .bytes = bytes };
    var applier: Applier = .{ .head = head, .arena = arena, .r = &reader, .last = true, .logged = true };
    try applier.runTold();
}

/// A full sync starts from nothing: what it does not name is gone.
fn clear(head: *Head) failure.Error!void {
    for (head.tables, 0..) |*table, i| {
        if (!table.spec.replicated) continue;
        while (table.rows > 0) {
            // From the end, so that no row has to move.
            const key = table.keyAt(table.rows - 1);
            try head.delete(@intCast(i), key);
        }
    }
}

const Applier = struct {
    head: *Head,
    arena: std.mem.Allocator,
    r: *block.Reader,
    last: bool,
    /// It comes from the log, not from a peer.
    logged: bool = false,
    table_id: u16 = 0xffff,

    /// Run, and say where it went wrong.
    fn runTold(a: *Applier) failure.Error!void {
        a.run() catch |err| {
            if (err == error.BadBlock) {
                a.head.info = .{ .offset = a.r.at, .reason = @intFromEnum(a.r.reason), .table = a.table_id };
            } else a.head.info.offset = a.r.at;
            return err;
        };
    }

    fn run(a: *Applier) failure.Error!void {
        const r = a.r;
        if (try r.int(u8) != block.version) return r.fail(.version);
        if (try r.int(u8) != 0) return r.fail(.compression);
        const tables = try r.int(u16);
        const length = try r.int(u32);
        if (length != r.bytes.len - r.at) return r.fail(.length);
        var before: i32 = -1;
        for (0..tables) |_| {
            a.table_id = try r.int(u16);
            if (a.table_id <= before) return r.fail(.table_order);
            before = a.table_id;
            const number = a.head.catalogue.tableIndex(a.table_id) orelse return r.fail(.table_unknown);
            const spec = a.head.tables[number].spec;
            if (!(if (a.logged) spec.durable else spec.replicated)) return r.fail(.table_unknown);
            try a.table(number);
        }
        if (r.at != r.bytes.len) return r.fail(.trailing);
    }

    fn table(a: *Applier, number: u16) failure.Error!void {
        const r = a.r;
        const head = a.head;
        const t = &head.tables[number];
        const columns = try r.int(u16);
        const removed = try r.int(u32);
        const inserted = try r.int(u32);
        const limit = t.space.limit;
        if (removed > limit or inserted > limit) return r.fail(.count);
        if (columns > t.spec.fields.len) return r.fail(.count);

        if (removed > 0) {
            const indices = try a.arena.alloc(u32, removed);
            try r.names(try r.form(), removed, limit, indices);
            for (indices) |index| {
                // What was never here needs no removing: inserted and removed within one delta.
                const row = t.findIndex(index) orelse continue;
                try head.delete(number, t.keyAt(row));
            }
        }
        const fresh: []u64 = if (inserted > 0) try a.insert(number, inserted, limit) else &.{};

        var rows: []u32 = &.{};
        var have_rows = false;
        var before: i32 = -1;
        for (0..columns) |_| {
            const field_id = try r.int(u16);
            if (field_id <= before) return r.fail(.field_order);
            before = field_id;
            const field = t.spec.fieldIndex(field_id) orelse return r.fail(.field_unknown);
            const form = try r.form();
            const encoding = try r.encoding();
            if (form == .same) {
                if (!have_rows) return r.fail(.form);
            } else {
                const count = try r.int(u32);
                if (count == 0 or count > t.rows) return r.fail(.count);
                rows = try a.arena.alloc(u32, count);
                if (form == .all) {
                    try a.allRows(number, fresh, rows);
                } else {
                    try r.names(form, count, limit, rows);
                    for (rows) |*name| name.* = t.findIndex(name.*) orelse return r.fail(.row_missing);
                }
                have_rows = true;
            }
            try a.cells(number, field, rows, encoding);
        }
    }

    /// Every row of the table but the fresh ones, by ascending entity index.
    fn allRows(a: *Applier, number: u16, fresh: []const u64, rows: []u32) failure.Error!void {
        const t = &a.head.tables[number];
        var it = sparse.Iterator.from(t.index.pages.items, 0);
        var n: usize = 0;
        var next: usize = 0;
        while (it.next()) |item| {
            while (next < fresh.len and @as(u32, @truncate(fresh[next])) < item.index) next += 1;
            if (next < fresh.len and @as(u32, @truncate(fresh[next])) == item.index) continue;
            if (n == rows.len) return a.r.fail(.count);
            rows[n] = item.row;
            n += 1;
        }
        if (n != rows.len) return a.r.fail(.count);
    }

    fn cells(a: *Applier, number: u16, field: u32, rows: []const u32, encoding: block.Encoding) failure.Error!void {
        const head = a.head;
        const t = &head.tables[number];
        const spec = &t.spec.fields[field];
        const from = try a.column(spec, encoding, rows.len);
        if (spec.constrained()) for (rows[0..if (encoding == .constant) 1 else rows.len], 0..) |row, i| {
            try head.checkCell(number, field, t.keyAt(row), from.at(i)[0..spec.width]);
        };
        if (!spec.indexed()) {
            _ = try head.writeCells(number, field, rows, from.base, from.stride);
            return;
        }
        for (rows, 0..) |row, i| try head.writeCell(number, row, field, t.keyAt(row), from.at(i)[0..spec.width]);
    }

    /// The cells of `n` rows of a field. Texts are taken into the heap: should the block be refused, nothing refers to
    /// them, and the next sweep forgets them.
    fn column(a: *Applier, spec: *const catalogue.Field, encoding: block.Encoding, n: usize) failure.Error!head_file.Strided {
        const count: usize = if (encoding == .constant) 1 else n;
        const stride: usize = if (encoding == .constant) 0 else spec.width;
        if (spec.type != .string) return .{ .base = (try a.r.take(count * spec.width)).ptr, .stride = stride };
        // Each takes a byte at least: memory for a count that cannot be true is not asked for.
        if (count > a.r.bytes.len - a.r.at) return a.r.fail(.truncated);
        const references = try a.arena.alloc(u64, count);
        for (references) |*reference| reference.* = try a.head.heap.intern(try a.r.text(spec.count));
        return .{ .base = @ptrCast(references.ptr), .stride = stride };
    }

    /// Read the inserted rows of a table and take them in. Returns their keys, ascending by index.
    fn insert(a: *Applier, number: u16, count: u32, limit: u32) failure.Error![]u64 {
        const r = a.r;
        const head = a.head;
        const t = &head.tables[number];
        const indices = try a.arena.alloc(u32, count);
        try r.names(try r.form(), count, limit, indices);
        const keys = try a.arena.alloc(u64, count);
        const constant = try r.encoding() == .constant;
        const generations = try r.take(if (constant) 4 else @as(usize, count) * 4);
        for (keys, indices, 0..) |*key, index, i| {
            const at = if (constant) 0 else i * 4;
            const generation = std.mem.readInt(u32, generations[at..][0..4], .little);
            if (generation == 0 or generation > std.math.maxInt(u31)) return r.fail(.generation);
            const k: entity.Key = .{ .index = index, .generation = generation };
            key.* = k.bits();
        }
        const cells_in = try a.arena.alloc(?head_file.Strided, t.spec.fields.len);
        for (t.spec.fields, cells_in) |*field, *cell| {
            cell.* = try a.column(field, try r.encoding(), count);
        }

        // Sort out who is new. The usual case is all of them, taken in at once.
        var fresh: std.ArrayList(u64) = .empty;
        try fresh.ensureTotalCapacityPrecise(a.arena, count);
        var places: std.ArrayList(u32) = .empty;
        try places.ensureTotalCapacityPrecise(a.arena, count);
        for (keys, 0..) |key, i| {
            if (t.findIndex(@truncate(key))) |row| {
                const present = t.keyAt(row);
                if (present == key) {
                    try a.overwrite(number, row, key, cells_in, i);
                    continue;
                }
                // A component row's entity decides; for all others the newer generation evicts.
                if (t.spec.kind != .component) try head.delete(number, present);
            }
            if (t.spec.kind == .component) {
                if (!t.space.alive(key)) {
                    if (!a.last) continue;
                    head.info = .{ .key = key };
                    return r.fail(.entity_missing);
                }
            } else {
                if (a.logged and t.space.isSpent(key)) return r.fail(.generation);
                try head.occupy(number, key);
            }
            fresh.appendAssumeCapacity(key);
            places.appendAssumeCapacity(@intCast(i));
        }
        if (fresh.items.len == count) {
            try head.insertMany(number, keys, cells_in);
            return keys;
        }
        const given = try a.arena.alloc(?[*]const u8, t.spec.fields.len);
        for (fresh.items, places.items) |key, i| {
            for (cells_in, given) |cell, *to| to.* = cell.?.at(i);
            try head.insert(number, key, given);
        }
        return keys;
    }

    fn overwrite(a: *Applier, number: u16, row: u32, key: u64, cells_in: []const ?head_file.Strided, i: usize) failure.Error!void {
        const t = &a.head.tables[number];
        for (t.spec.fields, cells_in, 0..) |*field, cell, f| {
            const bytes = cell.?.at(i)[0..field.width];
            try a.head.checkCell(number, f, key, bytes);
            try a.head.writeCell(number, row, f, key, bytes);
        }
    }
};
