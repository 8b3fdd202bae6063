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
const memory = @import("memory.zig");
const newcomers = @import("newcomers.zig");
const sparse = @import("sparse.zig");
const head_file = @import("head.zig");
const wire_cells = @import("wire_cells.zig");
const Head = head_file.Head;

pub const Input = struct { bytes: []const u8, last: bool };

/// Apply blocks in order inside the head's open transaction. On failure the caller rolls back.
/// `held` is the version that values may be relative to: what the head was before this transaction.
pub fn apply(head: *Head, scratch: *std.heap.ArenaAllocator, blocks: []const Input, held: u64, from_empty: bool) failure.Error!void {
    const arena = scratch.allocator();
    assert(head.in_transaction);
    head.entered.items.len = 0;
    head.left.items.len = 0;
    if (from_empty) {
        try clear(head);
        newcomers.foresee(head, blocks, arena);
    }
    for (blocks, 0..) |input, i| {
        var reader: block.Reader = .{ .bytes = input.bytes };
        // Behind another block the head is no longer what was held.
        const whole = i == 0 and !from_empty;
        var applier: Applier = .{
            .head = head,
            .arena = arena,
            .r = &reader,
            .last = input.last,
            .held = if (whole) held else 0,
        };
        try applier.runTold();
        // The next takes the same memory.
        _ = scratch.reset(.retain_capacity);
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
        table.hidden = @splat(0);
        while (table.rows > 0) {
            // From the end, so that no row has to move.
            const key = table.keyAt(table.rows - 1);
            try head.delete(@intCast(i), key);
        }
    }
}

/// What a field that may not be seen has in every row.
const hidden_cell: [limits.cell_bytes_max]u8 align(8) = @splat(0);

const Applier = struct {
    head: *Head,
    arena: std.mem.Allocator,
    r: *block.Reader,
    last: bool,
    /// It comes from the log, not from a peer.
    logged: bool = false,
    /// The version that is held, and whether values may be relative to it.
    held: u64 = 0,
    relative: bool = false,
    /// Bytes of cells that were packed and of rows that are new.
    unpacked: u64 = 0,
    table_id: u16 = 0xffff,

    /// The fields that a block of this origin speaks of: stamps are in the log only.
    fn fieldsOf(a: *const Applier, spec: *const catalogue.Table) []const catalogue.Field {
        return if (a.logged) spec.fields else spec.visible();
    }

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
        if (try r.int(u8) != @as(u8, if (a.logged) block.version else block.wire_version)) return r.fail(.version);
        if (try r.int(u8) != 0) return r.fail(.compression);
        const tables = try r.int(u16);
        const length = try r.int(u32);
        const reference = if (a.logged) 0 else try r.int(u64);
        if (length != r.bytes.len - r.at) return r.fail(.length);
        if (reference != 0 and reference != a.held) return r.fail(.reference);
        a.relative = reference != 0;
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
        const limit = t.space.limit;
        var columns: u32 = undefined;
        var fresh: []u64 = &.{};
        if (a.logged) {
            columns = try r.int(u16);
            const removed = try r.int(u32);
            const inserted = try r.int(u32);
            if (removed > limit or inserted > limit) return r.fail(.count);
            if (removed > 0) try a.remove(number, removed, limit, false);
            if (inserted > 0) fresh = try a.insert(number, inserted, limit, false);
        } else {
            columns = try r.varint();
            const flags = try r.int(u8);
            if (flags & ~@as(u8, block.flags_all) != 0) return r.fail(.flags);
            if (flags & block.flag_narrowed != 0 and flags & block.flag_inserted == 0) return r.fail(.flags);
            if (flags & block.flag_removed != 0) try a.remove(number, try a.count(limit), limit, false);
            if (flags & block.flag_left != 0) try a.remove(number, try a.count(limit), limit, number == 0);
            if (flags & block.flag_inserted != 0)
                fresh = try a.insert(number, try a.count(limit), limit, flags & block.flag_narrowed != 0);
        }
        if (columns > a.fieldsOf(t.spec).len) return r.fail(.count);

        var rows: []u32 = &.{};
        var have_rows = false;
        var before: i32 = -1;
        for (0..columns) |_| {
            const field_id = try r.int(u16);
            if (field_id <= before) return r.fail(.field_order);
            before = field_id;
            const field = t.spec.fieldIndex(field_id) orelse return r.fail(.field_unknown);
            if (field >= a.fieldsOf(t.spec).len) return r.fail(.field_unknown);
            const form = try r.form();
            const how = try a.packing();
            if (how.packing == .hidden) return r.fail(.encoding);
            if (form == .same) {
                if (!have_rows) return r.fail(.form);
            } else {
                const n = try if (a.logged) r.int(u32) else r.varint();
                if (n == 0 or n > t.rows) return r.fail(.count);
                rows = try a.arena.alloc(u32, n);
                if (form == .all) {
                    try a.allRows(number, fresh, rows);
                } else {
                    try r.names(form, n, limit, rows);
                    for (rows) |*name| name.* = t.findIndex(name.*) orelse return r.fail(.row_missing);
                }
                have_rows = true;
            }
            try a.cells(number, field, rows, how);
        }
    }

    /// How many rows a list of the wire has: one at least, and no more than there may be.
    fn count(a: *Applier, limit: u32) failure.Error!u32 {
        const n = try a.r.varint();
        if (n == 0 or n > limit) return a.r.fail(.count);
        return n;
    }

    fn packing(a: *Applier) error{BadBlock}!block.Packed {
        if (!a.logged) {
            const found = try a.r.wirePacking();
            if (found.relative and !a.relative) return a.r.fail(.reference);
            return found;
        }
        return .{ .packing = if (try a.r.encoding() == .constant) .constant else .raw, .relative = false };
    }

    fn remove(a: *Applier, number: u16, n: u32, limit: u32, told: bool) failure.Error!void {
        const t = &a.head.tables[number];
        const indices = try a.arena.alloc(u32, n);
        try a.r.names(try a.r.form(), n, limit, indices);
        for (indices) |index| {
            // What was never here needs no removing: inserted and removed within one delta.
            const row = t.findIndex(index) orelse continue;
            if (told) try a.head.left.append(a.head.gpa, t.keyAt(row));
            try a.head.delete(number, t.keyAt(row));
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

    fn cells(a: *Applier, number: u16, field: u32, rows: []const u32, how: block.Packed) failure.Error!void {
        const head = a.head;
        const t = &head.tables[number];
        const spec = &t.spec.fields[field];
        const from = try a.column(number, field, how, rows.len, rows);
        if (spec.constrained()) for (rows[0..if (from.stride == 0) 1 else rows.len], 0..) |row, i| {
            try head.checkCell(number, field, t.keyAt(row), from.at(i)[0..spec.width]);
        };
        if (!spec.indexed()) {
            _ = try head.writeCells(number, field, rows, from.base, from.stride);
            return;
        }
        for (rows, 0..) |row, i| try head.writeCell(number, row, field, t.keyAt(row), from.at(i)[0..spec.width]);
    }

    /// The cells of `n` rows of a field; `rows` are the head's where they are there already. Texts are taken into the heap:
    /// should the block be refused, nothing refers to them, and the next sweep forgets them.
    fn column(
        a: *Applier,
        number: u16,
        field: usize,
        how: block.Packed,
        n: usize,
        rows: ?[]const u32,
    ) failure.Error!head_file.Strided {
        const t = &a.head.tables[number];
        const spec = &t.spec.fields[field];
        if (how.packing == .hidden) return .{ .base = &hidden_cell, .stride = 0, .hidden = true };
        if (spec.type != .string) {
            if (how.relative and rows == null) return a.r.fail(.reference);
            const base: ?wire_cells.Base = if (rows) |known| .{ .data = t.columns[field].head, .places = .{ .rows = known } } else null;
            // Packed cells take more memory than bytes, and how many rows are new is the sender's word.
            if (how.packing != .raw and how.packing != .constant and rows == null) {
                a.unpacked += @as(u64, n) * spec.width;
                if (a.unpacked > limits.block_bytes_max) return a.r.fail(.count);
            }
            return wire_cells.read(a.r, a.arena, spec, how, n, base);
        }
        if (how.packing != .raw and how.packing != .constant) return a.r.fail(.packing);
        const n_cells: usize = if (how.packing == .constant) 1 else n;
        const stride: usize = if (how.packing == .constant) 0 else spec.width;
        // Each takes a byte at least: memory for a count that cannot be true is not asked for.
        if (n_cells > a.r.bytes.len - a.r.at) return a.r.fail(.truncated);
        const references = try a.arena.alloc(u64, n_cells);
        for (references) |*reference| reference.* = try a.head.heap.intern(try a.r.text(spec.count));
        return .{ .base = @ptrCast(references.ptr), .stride = stride };
    }

    /// Read the inserted rows of a table and take them in. Returns their keys, ascending by index.
    fn insert(a: *Applier, number: u16, n: u32, limit: u32, narrowed: bool) failure.Error![]u64 {
        const r = a.r;
        const head = a.head;
        const t = &head.tables[number];
        // Both are written whole before they are read: `names` fills what it is given, or fails.
        const indices = try memory.take(u32, .of(u32), a.arena, n);
        try r.names(try r.form(), n, limit, indices);
        // Which of them came into sight. What follows is the same for all.
        const came: []const u8 = if (narrowed) try r.take((@as(usize, n) + 7) / 8) else &.{};
        const keys = try memory.take(u64, .of(u64), a.arena, n);
        const constant = try r.encoding() == .constant;
        const generations = try r.take(if (constant) 4 else @as(usize, n) * 4);
        const first = std.mem.readInt(u32, generations[0..4], .little);
        for (keys, indices, 0..) |*key, index, i| {
            const generation = if (constant) first else std.mem.readInt(u32, generations[i * 4 ..][0..4], .little);
            if (generation == 0 or generation > std.math.maxInt(u31)) return r.fail(.generation);
            const k: entity.Key = .{ .index = index, .generation = generation };
            key.* = k.bits();
        }
        if (narrowed and number == 0) for (keys, 0..) |key, i| {
            if (came[i / 8] >> @intCast(i % 8) & 1 == 1 and t.find(key) == null) try head.entered.append(head.gpa, key);
        };
        const cells_in = try a.arena.alloc(?head_file.Strided, t.spec.fields.len);
        @memset(cells_in, null);
        for (cells_in[0..a.fieldsOf(t.spec).len], 0..) |*cell, f| {
            cell.* = try a.column(number, f, try a.packing(), n, null);
            if (cell.*.?.hidden) t.hide(f);
        }

        if (newcomers.areAll(t, keys, a.logged)) {
            if (t.spec.kind != .component) try head.occupyMany(number, keys);
            try head.insertKnown(number, keys, cells_in);
            return keys;
        }
        // Sort out who is new.
        var fresh: std.ArrayList(u64) = .empty;
        try fresh.ensureTotalCapacityPrecise(a.arena, n);
        var places: std.ArrayList(u32) = .empty;
        try places.ensureTotalCapacityPrecise(a.arena, n);
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
        if (fresh.items.len == n) {
            try head.insertMany(number, keys, cells_in);
            return keys;
        }
        const one = try a.arena.alloc(?head_file.Strided, t.spec.fields.len);
        for (fresh.items, places.items) |key, i| {
            for (cells_in, one) |cell, *to| to.* = if (cell) |c| .{ .base = c.at(i), .stride = 0, .hidden = c.hidden } else null;
            try head.insertMany(number, &.{key}, one);
        }
        return keys;
    }

    fn overwrite(a: *Applier, number: u16, row: u32, key: u64, cells_in: []const ?head_file.Strided, i: usize) failure.Error!void {
        const t = &a.head.tables[number];
        for (t.spec.fields, cells_in, 0..) |*field, cell, f| {
            const told = cell orelse continue;
            const bytes = told.at(i)[0..field.width];
            if (!told.hidden) try a.head.checkCell(number, f, key, bytes);
            try a.head.writeCell(number, row, f, key, bytes);
        }
    }
};
