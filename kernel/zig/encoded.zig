//! How many bytes of blocks were encoded for clients, by table and field: each block once, however many it goes to, and
//! before anybody compresses it. Full syncs and event rows are among them.
//!
//! Counted as a column is written, by whoever writes it on whatever thread: it is one addition, which nothing waits for.

const std = @import("std");
const block = @import("block.zig");
const catalogue = @import("catalogue.zig");
const compat = @import("compat.zig");

/// In place of a field: what a table takes beside its cells, which is the names of rows, and heads.
pub const no_field = 0xffff_ffff;

pub const Told = extern struct { table: u32, field: u32, bytes: u64 };

/// Of one table: what is no field's, then of each field that is shown.
pub const Counts = []Count;

const Count = compat.Atomic(u64);

pub const Encoded = struct {
    all: []Count,
    tables: []Counts,

    pub fn init(gpa: std.mem.Allocator, cat: *const catalogue.Catalogue) error{OutOfMemory}!Encoded {
        const tables = try gpa.alloc(Counts, cat.tables.len);
        errdefer gpa.free(tables);
        var n: usize = 0;
        for (cat.tables) |*spec| n += 1 + spec.shown;
        const all = try gpa.alloc(Count, n);
        @memset(all, .init(0));
        var at: usize = 0;
        for (cat.tables, tables) |*spec, *counts| {
            counts.* = all[at..][0 .. 1 + spec.shown];
            at += counts.len;
        }
        return .{ .all = all, .tables = tables };
    }

    pub fn deinit(encoded: *Encoded, gpa: std.mem.Allocator) void {
        gpa.free(encoded.all);
        gpa.free(encoded.tables);
    }

    /// What was counted, as many as there is room for, by table and field. Returns how many there are.
    pub fn tell(encoded: *const Encoded, cat: *const catalogue.Catalogue, into: []Told) usize {
        var n: usize = 0;
        for (cat.tables, encoded.tables) |*spec, counts| for (counts, 0..) |*count, at| {
            if (n < into.len) into[n] = .{
                .table = spec.id,
                .field = if (at == 0) no_field else spec.fields[at - 1].id,
                .bytes = count.load(.monotonic),
            };
            n += 1;
        };
        return n;
    }
};

/// The bytes of one table's part of a block as they come, from `start` on.
pub const Meter = struct {
    out: *const std.ArrayList(u8),
    /// None where nobody counts.
    counts: Counts,
    start: usize,
    fields: usize = 0,

    pub fn begin(w: block.Writer, counts: Counts) Meter {
        return .{ .out = w.out, .counts = counts, .start = w.out.items.len };
    }

    /// What was written since `from` is the cells of a field.
    pub fn field(meter: *Meter, number: usize, from: usize) void {
        const bytes = meter.out.items.len - from;
        meter.fields += bytes;
        meter.add(1 + number, bytes);
    }

    /// All of it is written.
    pub fn end(meter: *Meter) void {
        meter.add(0, meter.out.items.len - meter.start - meter.fields);
    }

    fn add(meter: *Meter, at: usize, bytes: usize) void {
        if (at < meter.counts.len) _ = meter.counts[at].fetchAdd(bytes, .monotonic);
    }
};
