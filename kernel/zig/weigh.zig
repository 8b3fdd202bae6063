//! How many bytes of a block of the wire each table takes: for figures, not for applying.
//!
//! Bytes come from anywhere. A block is walked by its own counts and the catalogue's widths, every step is compared
//! with what is left, and nothing is allocated. What it names is not looked at: that it walks to its end does not
//! mean that it would be applied.

const std = @import("std");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const wire_cells = @import("wire_cells.zig");

pub const Weight = extern struct { table: u32, bytes: u32 };

/// One entry a table, in the block's order; the 16 bytes of the block's head belong to none.
pub fn weigh(cat: *const catalogue.Catalogue, bytes: []const u8, into: []Weight) error{BadBlock}!usize {
    var walk: Walk = try .of(cat, bytes);
    const tables = walk.left;
    if (tables > into.len) return walk.r.fail(.table_order);
    for (into[0..tables]) |*weight| {
        const part = (try walk.next()).?;
        weight.* = .{ .table = cat.tables[part.number].id, .bytes = part.bytes };
    }
    if (walk.r.at != bytes.len) return walk.r.fail(.trailing);
    return tables;
}

/// A table's part of a block: the table by its place in the catalogue, and how many inserted rows the part names.
pub const Part = struct { number: usize, bytes: u32, inserted: u32 };

/// The parts of a block, one after the other.
pub const Walk = struct {
    catalogue: *const catalogue.Catalogue,
    r: block.Reader,
    left: u16,
    before: i32 = -1,

    pub fn of(cat: *const catalogue.Catalogue, bytes: []const u8) error{BadBlock}!Walk {
        var r: block.Reader = .{ .bytes = bytes };
        if (bytes.len > std.math.maxInt(u32)) return r.fail(.length);
        if (try r.int(u8) != block.wire_version) return r.fail(.version);
        if (try r.int(u8) != 0) return r.fail(.compression);
        const tables = try r.int(u16);
        const length = try r.int(u32);
        _ = try r.int(u64);
        if (length != bytes.len - r.at) return r.fail(.length);
        return .{ .catalogue = cat, .r = r, .left = tables };
    }

    /// The next part, null behind the last: what follows is nobody's.
    pub fn next(walk: *Walk) error{BadBlock}!?Part {
        if (walk.left == 0) return null;
        walk.left -= 1;
        const r = &walk.r;
        const start = r.at;
        const id = try r.int(u16);
        if (id <= walk.before) return r.fail(.table_order);
        walk.before = id;
        const number = walk.catalogue.tableIndex(id) orelse return r.fail(.table_unknown);
        const inserted = try table(r, &walk.catalogue.tables[number]);
        return .{ .number = number, .bytes = @intCast(r.at - start), .inserted = inserted };
    }
};

/// Go over a table's part. Returns how many inserted rows it names.
fn table(r: *block.Reader, spec: *const catalogue.Table) error{BadBlock}!u32 {
    var inserted: u32 = 0;
    const columns = try r.varint();
    const flags = try r.int(u8);
    if (flags & ~@as(u8, block.flags_all) != 0) return r.fail(.flags);
    for ([_]u8{ block.flag_removed, block.flag_left }) |flag| if (flags & flag != 0) {
        const n = try r.varint();
        try r.passNames(try r.form(), n);
    };
    if (flags & block.flag_inserted != 0) {
        const n = try r.varint();
        inserted = n;
        try r.passNames(try r.form(), n);
        if (flags & block.flag_narrowed != 0) _ = try r.take((@as(usize, n) + 7) / 8);
        try generations(r, n);
        for (spec.visible()) |*field| try wire_cells.pass(r, field, try r.wirePacking(), n);
    }
    var count: u32 = 0;
    for (0..columns) |_| {
        const number = spec.fieldIndex(try r.int(u16)) orelse return r.fail(.field_unknown);
        if (number >= spec.shown) return r.fail(.field_unknown);
        const form = try r.form();
        const packing = try r.wirePacking();
        if (form != .same) count = try r.varint();
        // Of the column before, and of every row: no names.
        if (form != .same and form != .all) try r.passNames(form, count);
        try wire_cells.pass(r, &spec.fields[number], packing, count);
    }
    return inserted;
}

fn generations(r: *block.Reader, count: u32) error{BadBlock}!void {
    const n: u64 = if (try r.encoding() == .constant) 1 else count;
    // In 64 bits: on wasm a product of two such numbers need not fit an address.
    if (n * 4 > r.bytes.len - r.at) return r.fail(.truncated);
    _ = try r.take(@intCast(n * 4));
}
