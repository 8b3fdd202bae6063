//! The digest: 128 bits that two stores share exactly when their replicated tables hold the same
//! rows with the same bits, in whatever order.
//!
//! It is a wrapping sum over cells, in two lanes of 64 bits, so it needs no sorting and the order of
//! rows does not matter. Per cell, with `mix` the finalizer of MurmurHash3:
//!
//!     seed  = mix((table id << 16 | field id) + 1)
//!     h     = mix(seed ^ key), then for each 8-byte word w of the cell (little-endian, the last one
//!             padded with zeros): h = mix(h +% w +% 0x9e3779b97f4a7c15)
//!     low  += h
//!     high += mix(h ^ 0xd6e8feb86659fd93)
//!
//! A string's words are its length, and then its bytes likewise.
//!
//! Each row also counts once with field id 0xffff and no words, so a row without fields counts too.
//! It finds divergence; it does not authenticate anything.
//!
//! A sum can also follow the changes: what a row was is taken off, what it is now is added. Rows by their places
//! serve as well as rows by their keys, since the marks of a cut name every place where two versions next to each
//! other may differ, and a place that is marked without a difference takes off what it adds.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const column = @import("column.zig");
const limits = @import("limits.zig");
const quantize = @import("quantize.zig");
const view = @import("view.zig");
const visible = @import("visible.zig");
const Heap = @import("heap.zig").Heap;
const Views = view.Views;
const Head = @import("head.zig").Head;
const isHidden = @import("wire_section.zig").isHidden;
const mix = @import("key_index.zig").mix;

pub const Digest = struct {
    low: u64 = 0,
    high: u64 = 0,

    fn add(digest: *Digest, h: u64) void {
        digest.low +%= h;
        digest.high +%= mix(h ^ high_seed);
    }

    fn subtract(digest: *Digest, h: u64) void {
        digest.low -%= h;
        digest.high -%= mix(h ^ high_seed);
    }

    pub fn halves(digest: Digest) [2]u64 {
        return .{ digest.low, digest.high };
    }
};

const high_seed: u64 = 0xd6e8feb86659fd93;
const step: u64 = 0x9e3779b97f4a7c15;
/// The field id that a row itself counts under.
const rows_field = 0xffff;

fn seedOf(table: u64, field: u64) u64 {
    return mix((table << 16 | field) + 1);
}

/// Scan a pinned slot. Off the writer: it reads the slot only.
pub fn ofSlot(head: *const Head, views: *const Views, slot: usize) Digest {
    return scan(head, &views.slots[slot]);
}

/// The same for a slot that is known not to be given back.
pub fn scan(head: *const Head, slot: *const view.Slot) Digest {
    return scanAs(.held, head, slot);
}

/// The digest of a replica that was told all of it: of the cells as they are on the wire (`quantize.zig`).
pub fn scanWire(head: *const Head, slot: *const view.Slot) Digest {
    return scanAs(.wire, head, slot);
}

fn scanAs(comptime how: enum { held, wire }, head: *const Head, slot: *const view.Slot) Digest {
    var digest: Digest = .{};
    for (head.tables, slot.tables) |*table, of| {
        if (!table.spec.replicated) continue;
        const keys = of.keyList();
        const row_seed = seedOf(table.spec.id, rows_field);
        for (keys) |key| digest.add(mix(row_seed ^ key));
        for (table.spec.visible(), of.columns[0..table.spec.shown]) |*field, buffer| {
            const seed = seedOf(table.spec.id, field.id);
            if (field.type == .string) {
                for (keys, texts(buffer)[0..keys.len]) |key, cell| digest.add(textHash(mix(seed ^ key), head.heap.get(cell)));
                continue;
            }
            if (how == .wire and quantize.isRounded(field)) {
                rounded(&digest, seed, field, keys, buffer.data);
            } else fixed(&digest, seed, field.width, keys, buffer.data);
        }
    }
    return digest;
}

fn fixed(digest: *Digest, seed: u64, width: u32, keys: []const u64, data: []align(64) const u8) void {
    switch (width) {
        1 => narrow(u8, digest, seed, keys, data),
        2 => narrow(u16, digest, seed, keys, data),
        4 => narrow(u32, digest, seed, keys, data),
        8 => narrow(u64, digest, seed, keys, data),
        else => wide(width, digest, seed, keys, data),
    }
}

/// Of what cells are on the wire, some at a time.
fn rounded(digest: *Digest, seed: u64, field: *const catalogue.Field, keys: []const u64, data: []const u8) void {
    var room: [2 * limits.cell_bytes_max]u8 align(64) = undefined;
    const width = field.width;
    const some = room.len / width;
    var row: usize = 0;
    while (row < keys.len) : (row += some) {
        const n = @min(some, keys.len - row);
        quantize.wireCells(field, data[row * width ..][0 .. n * width], room[0 .. n * width]);
        fixed(digest, seed, width, keys[row..][0..n], room[0 .. n * width]);
    }
}
/// The digest of a replica that was told what somebody sees: of cells as they are on the wire, hidden ones as zeros.
pub fn ofSight(head: *const Head, slot: *const view.Slot, sight: *const visible.Sight) Digest {
    var digest: Digest = .{};
    for (head.tables, slot.tables, sight.scopes, sight.profile) |*table, of, scope, *profile| {
        switch (scope) {
            .none => {},
            .all => for (0..of.rows) |row| addRow(&digest, head, table.spec, of, profile, row),
            .listed => |list| {
                var it = sight.lists[list].iterate();
                while (it.next()) |key| if (of.find(key)) |row| addRow(&digest, head, table.spec, of, profile, row);
            },
        }
    }
    return digest;
}

fn addRow(digest: *Digest, head: *const Head, spec: *const catalogue.Table, of: *const view.TableView, profile: *const visible.TableProfile, row: usize) void {
    const key = of.keyList()[row];
    digest.add(mix(seedOf(spec.id, rows_field) ^ key));
    for (spec.visible(), 0..) |*field, f| {
        const seed = seedOf(spec.id, field.id);
        if (!isHidden(profile.hidden, f)) {
            if (quantize.isRounded(field)) {
                var room: [limits.cell_bytes_max]u8 align(64) = undefined;
                quantize.wireCells(field, of.columns[f].data[row * field.width ..][0..field.width], room[0..field.width]);
                digest.add(wideCell(mix(seed ^ key), room[0..field.width]));
            } else digest.add(cellHash(&head.heap, seed, of, f, spec, row));
        } else if (field.type == .string) {
            digest.add(textHash(mix(seed ^ key), ""));
        } else digest.add(wideCell(mix(seed ^ key), no_cell[0..field.width]));
    }
}

const no_cell: [limits.cell_bytes_max]u8 = @splat(0);

fn narrow(comptime T: type, digest: *Digest, seed: u64, keys: []const u64, data: []align(64) const u8) void {
    const cells = @as([*]const T, @ptrCast(data.ptr))[0..keys.len];
    // In bounds by the slices; what is left of safety would keep the sums in memory.
    @setRuntimeSafety(false);
    var low: u64 = 0;
    var high: u64 = 0;
    for (keys, cells) |key, cell| {
        const h = mix(mix(seed ^ key) +% cell +% step);
        low +%= h;
        high +%= mix(h ^ high_seed);
    }
    digest.low +%= low;
    digest.high +%= high;
}

fn wide(width: u32, digest: *Digest, seed: u64, keys: []const u64, data: []const u8) void {
    for (keys, 0..) |key, row| {
        digest.add(wideCell(mix(seed ^ key), data[row * width ..][0..width]));
    }
}

fn texts(buffer: *const column.Buffer) [*]const u64 {
    return @ptrCast(buffer.data.ptr);
}

fn textHash(start: u64, text: []const u8) u64 {
    return wideCell(mix(start +% text.len +% step), text);
}

fn wideCell(start: u64, cell: []const u8) u64 {
    var h = start;
    var at: usize = 0;
    while (at < cell.len) : (at += 8) {
        var word: [8]u8 = @splat(0);
        const n = @min(8, cell.len - at);
        @memcpy(word[0..n], cell[at..][0..n]);
        h = mix(h +% std.mem.readInt(u64, &word, .little) +% step);
    }
    return h;
}

/// Makes the digest of a version from that of the one before.
pub const Follower = struct {
    gpa: std.mem.Allocator,
    /// Places of one column to look at, where keys changed too.
    places: std.ArrayList(u64) = .empty,

    pub fn deinit(follower: *Follower) void {
        follower.places.deinit(follower.gpa);
    }

    /// The digest of `now`, which was staged after `before`. A scan where nothing is known of `before`, where so much
    /// changed that it is no more work, and where there is no memory for the places.
    pub fn follow(follower: *Follower, head: *const Head, before: ?*const view.Slot, now: *const view.Slot) [2]u64 {
        const from = if (before) |b| b.kept else null;
        const known = from orelse return scan(head, now).halves();
        var digest: Digest = .{ .low = known[0], .high = known[1] };
        if (dearer(head, before.?, now)) return scan(head, now).halves();
        for (now.newest.?.tables) |*changed| {
            const spec = head.tables[changed.number].spec;
            if (!spec.replicated) continue;
            const old = before.?.tables[changed.number];
            const new = now.tables[changed.number];
            if (changed.keys.isEmpty() and old.rows == new.rows) {
                followCells(&digest, &head.heap, spec, old, new, changed);
            } else follower.followRows(&digest, &head.heap, spec, old, new, changed) catch return scan(head, now).halves();
        }
        return digest.halves();
    }

    /// The same keys in the same rows: only marked cells can differ.
    fn followCells(
        digest: *Digest,
        heap: *const Heap,
        spec: *const catalogue.Table,
        old: *const view.TableView,
        new: *const view.TableView,
        changed: *const changes.TableChanges,
    ) void {
        const keys = new.keyList();
        const n = spec.shown;
        for (spec.visible(), changed.columns[0..n], old.columns[0..n], new.columns[0..n]) |*field, *dirty, was, is| {
            if (dirty.isEmpty()) continue;
            const seed = seedOf(spec.id, field.id);
            var room: [128]u32 = undefined;
            var it = dirty.iterate(new.rows);
            while (true) {
                const rows = it.fill(&room);
                if (rows.len == 0) break;
                if (field.type == .string) {
                    for (rows) |row| {
                        const start = mix(seed ^ keys[row]);
                        digest.subtract(textHash(start, heap.get(texts(was)[row])));
                        digest.add(textHash(start, heap.get(texts(is)[row])));
                    }
                    continue;
                }
                switch (field.width) {
                    inline 1, 2, 4, 8 => |width| {
                        const Cell = std.meta.Int(.unsigned, width * 8);
                        const before = @as([*]const Cell, @ptrCast(was.data.ptr))[0..keys.len];
                        const after = @as([*]const Cell, @ptrCast(is.data.ptr))[0..keys.len];
                        followNarrow(Cell, digest, seed, keys, before, after, rows);
                    },
                    else => |width| for (rows) |row| {
                        const start = mix(seed ^ keys[row]);
                        const at = @as(usize, row) * width;
                        digest.subtract(wideCell(start, was.data[at..][0..width]));
                        digest.add(wideCell(start, is.data[at..][0..width]));
                    },
                }
            }
        }
    }

    fn followNarrow(
        comptime Cell: type,
        digest: *Digest,
        seed: u64,
        keys: []const u64,
        before: []const Cell,
        after: []const Cell,
        rows: []const u32,
    ) void {
        // Checked for all: they ascend.
        assert(rows[rows.len - 1] < keys.len and before.len == keys.len and after.len == keys.len);
        @setRuntimeSafety(false);
        var low: u64 = 0;
        var high: u64 = 0;
        for (rows) |row| {
            const start = mix(seed ^ keys[row]) +% step;
            const was = mix(start +% before[row]);
            const is = mix(start +% after[row]);
            low +%= is -% was;
            high +%= mix(is ^ high_seed) -% mix(was ^ high_seed);
        }
        digest.low +%= low;
        digest.high +%= high;
    }

    /// Rows came, went or moved: a place counts where its cell, its key or its being there may differ.
    fn followRows(
        follower: *Follower,
        digest: *Digest,
        heap: *const Heap,
        spec: *const catalogue.Table,
        old: *const view.TableView,
        new: *const view.TableView,
        changed: *const changes.TableChanges,
    ) error{OutOfMemory}!void {
        const rows = @max(old.rows, new.rows);
        const kept = @min(old.rows, new.rows);
        const words = (@as(usize, rows) + 63) / 64;
        try follower.places.resize(follower.gpa, words);
        const places = follower.places.items;
        for (0..spec.shown + 1) |f| {
            @memset(places, 0);
            changed.keys.orInto(places, rows);
            if (f < spec.shown) changed.columns[f].orInto(places, rows);
            for (kept..rows) |row| places[row / 64] |= @as(u64, 1) << @intCast(row & 63);
            const seed = seedOf(spec.id, if (f < spec.shown) spec.fields[f].id else rows_field);
            for (places, 0..) |word, w| {
                var left = word;
                while (left != 0) : (left &= left - 1) {
                    const row = w * 64 + @ctz(left);
                    if (row < old.rows) digest.subtract(cellHash(heap, seed, old, f, spec, row));
                    if (row < new.rows) digest.add(cellHash(heap, seed, new, f, spec, row));
                }
            }
        }
    }
};

/// What one cell adds; of the field behind the last, what the row itself adds.
fn cellHash(heap: *const Heap, seed: u64, of: *const view.TableView, f: usize, spec: *const catalogue.Table, row: usize) u64 {
    const start = mix(seed ^ of.keyList()[row]);
    if (f == spec.shown) return start;
    if (spec.fields[f].type == .string) return textHash(start, heap.get(texts(of.columns[f])[row]));
    const width = spec.fields[f].width;
    return wideCell(start, of.columns[f].data[row * width ..][0..width]);
}

/// Whether so many places are marked that scanning everything is no more work.
fn dearer(head: *const Head, before: *const view.Slot, now: *const view.Slot) bool {
    var marked: usize = 0;
    var cells: usize = 0;
    for (now.newest.?.tables) |*changed| {
        const spec = head.tables[changed.number].spec;
        if (!spec.replicated) continue;
        const old = before.tables[changed.number].rows;
        const new = now.tables[changed.number].rows;
        const rows = @max(old, new);
        const keys = changed.keys.count(rows) + (rows - @min(old, new));
        marked += keys * (spec.shown + 1);
        for (changed.columns[0..spec.shown]) |*dirty| marked += dirty.count(rows);
        cells += @as(usize, new) * (spec.shown + 1);
    }
    // The usual case does not ask the tables of which nothing changed for their rows.
    if (marked * 2 <= cells) return false;
    cells = 0;
    for (head.tables, now.tables) |*table, new| {
        if (table.spec.replicated) cells += @as(usize, new.rows) * (table.spec.shown + 1);
    }
    return marked * 2 > cells;
}
