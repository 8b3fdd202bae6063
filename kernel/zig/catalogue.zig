//! The schema as the kernel knows it: tables and fields by number, widths, defaults and constraints.
//! Names stay in Python; the kernel speaks table ids and field ids.
//!
//! Invariants: fields of a table are sorted by id; table 0 is `entities`; everything here is
//! immutable for the life of a store.

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("limits.zig");
const Heap = @import("heap.zig").Heap;

pub const Type = enum(u8) { u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, bool, bytes, string };

/// The table of sessions; the others below `first_own_table` describe the schema.
pub const sessions_table = 1;
pub const first_own_table = 16;
/// Of stores with lww tables (`stamps.zig`): what this node holds of each other, and what was deleted.
pub const clocks_table = 14;
pub const tombstones_table = 15;

pub const Kind = enum(u8) {
    /// The registry of every living entity: table 0.
    entities,
    /// One row per entity at most; the entity is the key.
    component,
    /// Rows of their own, with a key space of their own.
    keyed,
    /// Rows of one version each, with a key space of their own.
    event,
};

pub const OnDelete = enum(u8) { cascade, set_null, restrict };

/// Who decides between several writing nodes: one of them, or the last write of each cell.
pub const Conflict = enum(u32) { authority, lww };

pub const flag_unique = 1;
pub const flag_foreign_key = 2;
pub const flag_optional = 4;
pub const flag_auto = 8;
pub const flag_default = 16;
pub const flag_minimum = 32;
pub const flag_maximum = 64;
pub const flag_rotation = 128;
/// Of an lww table each field has a hidden companion: who wrote its cell last, and when (`stamps.zig`). Its id is this much
/// above the field's.
pub const stamp_ids: u16 = 0x8000;
/// What a row of an lww table is named by between nodes is no wider, so that a tombstone has room for it.
pub const stamped_key_bytes_max = 32;
/// u16 table id | u8 length | that many bytes of the primary key, of a string its UTF-8, and zeros.
pub const tombstone_name_bytes = 3 + stamped_key_bytes_max;

/// How a caller describes a catalogue: addresses as u64, so that the layout is one everywhere.
pub const FieldIn = extern struct {
    id: u16,
    type: u8,
    on_delete: u8,
    flags: u32,
    /// Elements of a fixed array, bytes of `bytes[N]` and at most of a `string[N]`, 1 for a scalar.
    count: u32,
    enum_count: u32,
    /// Bits of an i64, u64 or f64, by the type's class.
    minimum: u64,
    maximum: u64,
    /// Address of `enum_count` sorted i64 values; 0 for none.
    enum_values: u64,
    /// Address of one cell; meaningful with `flag_default`. Of a string u32 length | UTF-8.
    default: u64,
    /// What a foreign key holds: a value of this field (id) of this table (id), or with `target_key`
    /// a key of that table, which is `entities` then.
    target_table: u16 = 0,
    target_field: u16 = target_key,
    reserved: u32 = 0,
    /// The step that floats are rounded to on the wire; 0 for none.
    quantize: f64 = 0,
};

/// In place of a field's id: the table's own key.
pub const target_key: u16 = 0xfff0;

pub const TableIn = extern struct {
    id: u16,
    kind: u8,
    replicated: u8,
    field_count: u32,
    rows_max: u32,
    /// Tables of one number keep their common rows in equal order; 0 for none.
    group: u16 = 0,
    unique_count: u16 = 0,
    fields: u64,
    /// Address of `unique_count` combinations of fields whose values are unique together.
    uniques: u64 = 0,
    conflict: u32 = 0,
    reserved: u32 = 0,
};

pub const UniqueIn = extern struct {
    field_count: u32,
    reserved: u32 = 0,
    /// Address of `field_count` field ids, u16, ascending.
    fields: u64,
};

pub const CatalogueIn = extern struct {
    tables: u64,
    table_count: u32,
    entities_max: u32,
};

comptime {
    assert(@sizeOf(FieldIn) == 64);
    assert(@sizeOf(TableIn) == 40);
    assert(@sizeOf(UniqueIn) == 16);
    assert(@sizeOf(CatalogueIn) == 16);
}

pub const Field = struct {
    id: u16,
    type: Type,
    on_delete: OnDelete,
    unique: bool,
    foreign_key: bool,
    optional: bool,
    auto: bool,
    has_minimum: bool,
    has_maximum: bool,
    /// A cell in bytes.
    width: u32,
    count: u32,
    minimum: u64,
    maximum: u64,
    enum_values: []const i64,
    default: ?[]const u8,
    /// Of a foreign key: the place of the table whose value it holds, and of the field there; null for
    /// the key itself.
    target_table: u16 = 0,
    target_field: ?u32 = null,
    /// Foreign keys hold this field's values.
    referred: bool = false,
    /// It is one of several that are unique together.
    combined: bool = false,
    /// Floats travel rounded to multiples of it; 0 for exactly.
    quantize: f64 = 0,
    /// Four floats that are a unit quaternion, on the wire.
    rotation: bool = false,

    /// Whether a cell's bits alone can break a rule: what a lent column must be scanned for.
    pub fn constrained(field: *const Field) bool {
        return field.has_minimum or field.has_maximum or field.enum_values.len > 0 or field.type == .bool or field.type == .string;
    }
    /// The highest number a counter may reach in this field.
    pub fn autoMax(field: *const Field) u64 {
        const bits: u32 = switch (field.type) {
            .i8, .i16, .i32, .i64 => field.width * 8 - 1,
            else => field.width * 8,
        };
        return @as(u64, std.math.maxInt(u64)) >> @intCast(64 - bits);
    }
    /// Whether rows are found by its value, alone or with others: its cells are written one by one, and never lent.
    pub fn indexed(field: *const Field) bool {
        return field.unique or field.foreign_key or field.combined;
    }
};

pub const Table = struct {
    id: u16,
    kind: Kind,
    /// Part of deltas and digests.
    replicated: bool,
    /// Its rows are events that subscribers are told.
    told: bool = false,
    /// Part of the log and of snapshots.
    durable: bool,
    /// Fields of strings are among it.
    has_texts: bool,
    rows_max: u32,
    fields: []const Field,
    /// How many of them anybody sees. Those behind are companions of these, in their order: part of the log, of snapshots and
    /// of versions, of nothing that is sent or compared.
    shown: u32,
    /// Combinations of fields, by place, whose values are unique together.
    uniques: []const []const u32 = &.{},
    group: u16 = 0,
    conflict: Conflict = .authority,
    /// Of a table whose cells are stamped: the field that names a row between nodes.
    lww_key: ?u32 = null,

    pub fn visible(table: *const Table) []const Field {
        return table.fields[0..table.shown];
    }

    pub fn fieldIndex(table: *const Table, id: u16) ?u32 {
        // Ids are dense from 0 unless a schema chose its own, so try the place first.
        if (id < table.fields.len and table.fields[id].id == id) return id;
        for (table.fields, 0..) |*field, i| if (field.id == id) return @intCast(i);
        return null;
    }
};

pub const Catalogue = struct {
    arena: std.heap.ArenaAllocator,
    tables: []const Table,
    entities_max: u32,
    /// Table id → position in `tables`, or 0xffff.
    by_id: []const u16,
    /// Some table's cells are stamped.
    has_lww: bool = false,

    pub fn tableIndex(catalogue: *const Catalogue, id: u16) ?u16 {
        if (id >= catalogue.by_id.len) return null;
        const index = catalogue.by_id[id];
        return if (index == 0xffff) null else index;
    }

    pub fn deinit(catalogue: *Catalogue) void {
        catalogue.arena.deinit();
    }

    /// Copy and check a caller's description; defaults of strings go into `heap`. `BadCatalogue` means that the schema layer let
    /// something through that the kernel cannot hold; nothing was kept.
    pub fn init(gpa: std.mem.Allocator, heap: *Heap, in: *const CatalogueIn) error{ OutOfMemory, BadCatalogue }!Catalogue {
        var arena = std.heap.ArenaAllocator.init(gpa);
        errdefer arena.deinit();
        const a = arena.allocator();
        if (in.table_count == 0 or in.table_count > limits.tables_max) return error.BadCatalogue;
        if (in.entities_max == 0 or in.entities_max > limits.entities_max) return error.BadCatalogue;
        const given = try slice(TableIn, in.tables, in.table_count);
        const tables = try a.alloc(Table, given.len);
        var id_max: u16 = 0;
        for (given, tables, 0..) |*from, *to, i| {
            if (i > 0 and from.id <= given[i - 1].id) return error.BadCatalogue;
            if (from.kind > @intFromEnum(Kind.event)) return error.BadCatalogue;
            const kind: Kind = @enumFromInt(from.kind);
            if ((from.id == 0) != (kind == .entities)) return error.BadCatalogue;
            if (from.field_count > limits.fields_max) return error.BadCatalogue;
            if (from.conflict > @intFromEnum(Conflict.lww) or (from.conflict != 0 and kind != .keyed)) return error.BadCatalogue;
            id_max = from.id;
            const shown = from.field_count;
            if (from.conflict == @intFromEnum(Conflict.lww) and shown > limits.fields_max / 2) return error.BadCatalogue;
            const fields = try a.alloc(Field, if (from.conflict == @intFromEnum(Conflict.lww)) 2 * shown else shown);
            for (try slice(FieldIn, from.fields, shown), fields[0..shown], 0..) |*field_in, *field, f| {
                field.* = try copyField(a, heap, field_in);
                if (f > 0 and field.id <= fields[f - 1].id) return error.BadCatalogue;
                // Rows that nobody looks up, changes or counts on.
                if (kind == .event and (field.unique or field.auto)) return error.BadCatalogue;
            }
            for (fields[shown..], 0..) |*field, f| field.* = try companionOf(&fields[f]);
            to.* = .{
                .id = from.id,
                .kind = kind,
                .replicated = from.replicated != 0 and kind != .event,
                .told = from.replicated != 0 and kind == .event,
                // Events live in one version, and what a store says of its own schema is its version 0.
                .durable = kind != .event and (from.id <= sessions_table or from.id >= clocks_table),
                .has_texts = for (fields) |*field| {
                    if (field.type == .string) break true;
                } else false,
                .rows_max = if (from.rows_max == 0) limits.rows_max else @min(from.rows_max, limits.rows_max),
                .fields = fields,
                .shown = shown,
                .group = from.group,
                .conflict = @enumFromInt(from.conflict),
            };
            if (kind == .event and (from.unique_count > 0 or from.group != 0)) return error.BadCatalogue;
            to.uniques = try copyUniques(a, to, from);
        }
        if (tables[0].kind != .entities) return error.BadCatalogue;
        const by_id = try a.alloc(u16, @as(usize, id_max) + 1);
        @memset(by_id, 0xffff);
        for (tables, 0..) |*table, i| by_id[table.id] = @intCast(i);
        try resolveTargets(tables, by_id);
        const has_lww = try checkStamped(tables, by_id);
        return .{ .arena = arena, .tables = tables, .entities_max = in.entities_max, .by_id = by_id, .has_lww = has_lww };
    }
};

fn companionOf(field: *const Field) error{BadCatalogue}!Field {
    if (field.id >= stamp_ids) return error.BadCatalogue;
    return .{
        .id = stamp_ids + field.id,
        .type = .bytes,
        .on_delete = .set_null,
        .unique = false,
        .foreign_key = false,
        .optional = false,
        .auto = false,
        .has_minimum = false,
        .has_maximum = false,
        .width = nobody.len,
        .count = nobody.len,
        .minimum = 0,
        .maximum = 0,
        .enum_values = &.{},
        .default = &nobody,
    };
}

/// The stamp of a cell that nobody wrote.
const nobody: [16]u8 = @splat(0);

/// What cells of several writers can be merged in, one by one, without asking what the others hold. Whether there is any.
fn checkStamped(tables: []Table, by_id: []const u16) error{BadCatalogue}!bool {
    var any = false;
    for (tables) |*table| if (table.conflict == .lww) {
        if (table.kind != .keyed or table.uniques.len > 0 or table.group != 0) return error.BadCatalogue;
        for (table.visible(), 0..) |*field, f| {
            if (field.foreign_key or field.auto) return error.BadCatalogue;
            if (field.unique) {
                const length = if (field.type == .string) field.count else field.width;
                if (table.lww_key != null or length > stamped_key_bytes_max) return error.BadCatalogue;
                if (field.type == .f32 or field.type == .f64) return error.BadCatalogue;
                table.lww_key = @intCast(f);
            } else if (field.default == null) return error.BadCatalogue;
        }
        if (table.lww_key == null) return error.BadCatalogue;
        any = true;
    };
    if (!any) return false;
    for ([_]u16{ clocks_table, tombstones_table }) |id| if (id >= by_id.len or by_id[id] == 0xffff) return error.BadCatalogue;
    const tombstones = &tables[by_id[tombstones_table]];
    const widths = [_]u32{ 8, 8, tombstone_name_bytes };
    if (tombstones.kind != .keyed or tombstones.fields.len != widths.len or !tombstones.fields[2].unique) return error.BadCatalogue;
    for (tombstones.fields, widths, 0..) |*field, width, id| {
        if (field.id != id or field.width != width) return error.BadCatalogue;
    }
    for (tables) |*table| for (table.fields) |*field| {
        // What another node deletes is gone, whoever refers to it.
        if (field.foreign_key and tables[field.target_table].lww_key != null and field.on_delete == .restrict) return error.BadCatalogue;
    };
    return true;
}

fn copyUniques(a: std.mem.Allocator, table: *const Table, in: *const TableIn) error{ OutOfMemory, BadCatalogue }![]const []const u32 {
    if (in.unique_count > limits.fields_max) return error.BadCatalogue;
    const uniques = try a.alloc([]const u32, in.unique_count);
    for (try slice(UniqueIn, in.uniques, in.unique_count), uniques) |*from, *to| {
        if (from.field_count < 2 or from.field_count > table.fields.len) return error.BadCatalogue;
        const fields = try a.alloc(u32, from.field_count);
        for (try slice(u16, from.fields, from.field_count), fields, 0..) |id, *field, i| {
            field.* = table.fieldIndex(id) orelse return error.BadCatalogue;
            @constCast(table.fields)[field.*].combined = true;
            if (i > 0 and field.* <= fields[i - 1]) return error.BadCatalogue;
        }
        to.* = fields;
    }
    return uniques;
}

/// Foreign keys know their target by its ids until all tables are there.
fn resolveTargets(tables: []Table, by_id: []const u16) error{BadCatalogue}!void {
    for (tables) |*table| for (@constCast(table.fields)) |*field| {
        if (!field.foreign_key) continue;
        const id = field.target_table;
        if (id >= by_id.len or by_id[id] == 0xffff) return error.BadCatalogue;
        field.target_table = by_id[id];
        const target = &tables[field.target_table];
        if (field.target_field.? == target_key) {
            if (target.kind != .entities) return error.BadCatalogue;
            if (field.type != .u64 or field.count != 1) return error.BadCatalogue;
            field.target_field = null;
            continue;
        }
        const place = target.fieldIndex(@intCast(field.target_field.?)) orelse return error.BadCatalogue;
        const to = &@constCast(target.fields)[place];
        // A value that names one row at most, and the same bytes on both sides.
        if (target.kind != .keyed or !to.unique) return error.BadCatalogue;
        if (to.type != field.type or to.count != field.count) return error.BadCatalogue;
        field.target_field = place;
        to.referred = true;
    };
}

/// A string's default is a cell like any other: the reference of its text.
fn copyText(a: std.mem.Allocator, heap: *Heap, in: *const FieldIn) error{ OutOfMemory, BadCatalogue }![]const u8 {
    const length = std.mem.readInt(u32, (try slice(u8, in.default, 4))[0..4], .little);
    if (length > in.count) return error.BadCatalogue;
    const text = (try slice(u8, in.default, 4 + length))[4..];
    if (!Heap.fit(text)) return error.BadCatalogue;
    const reference = heap.intern(text) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.HeapFull => return error.BadCatalogue,
    };
    return a.dupe(u8, std.mem.asBytes(&reference));
}

fn copyField(a: std.mem.Allocator, heap: *Heap, in: *const FieldIn) error{ OutOfMemory, BadCatalogue }!Field {
    if (in.type > @intFromEnum(Type.string) or in.on_delete > @intFromEnum(OnDelete.restrict)) return error.BadCatalogue;
    if (in.count == 0 or in.count > limits.cell_bytes_max or in.enum_count > limits.enum_values_max) return error.BadCatalogue;
    const kind: Type = @enumFromInt(in.type);
    // A string's cell is its reference, however long it may be.
    const width = if (kind == .string) 8 else elementBytes(kind) * in.count;
    if (width > limits.cell_bytes_max) return error.BadCatalogue;
    const foreign_key = in.flags & flag_foreign_key != 0;
    const auto = in.flags & flag_auto != 0;
    if (auto) switch (kind) {
        .f32, .f64, .bool, .bytes, .string => return error.BadCatalogue,
        else => if (in.count != 1) return error.BadCatalogue,
    };
    const float = kind == .f32 or kind == .f64;
    const rotation = in.flags & flag_rotation != 0;
    if (rotation and (kind != .f32 or in.count != 4)) return error.BadCatalogue;
    if (in.quantize != 0 and !(float and in.quantize > 0 and std.math.isFinite(in.quantize))) return error.BadCatalogue;
    const enum_values = try a.dupe(i64, try slice(i64, in.enum_values, in.enum_count));
    for (enum_values, 0..) |value, i| if (i > 0 and value <= enum_values[i - 1]) return error.BadCatalogue;
    const default = if (in.flags & flag_default == 0)
        null
    else if (kind == .string)
        try copyText(a, heap, in)
    else
        try a.dupe(u8, try slice(u8, in.default, width));
    return .{
        .id = in.id,
        .type = kind,
        .on_delete = @enumFromInt(in.on_delete),
        .unique = in.flags & flag_unique != 0,
        .foreign_key = foreign_key,
        .optional = in.flags & flag_optional != 0,
        .auto = auto,
        .quantize = in.quantize,
        .rotation = rotation,
        .has_minimum = in.flags & flag_minimum != 0,
        .has_maximum = in.flags & flag_maximum != 0,
        .width = width,
        .count = in.count,
        .minimum = in.minimum,
        .maximum = in.maximum,
        .enum_values = enum_values,
        .default = default,
        .target_table = in.target_table,
        .target_field = if (foreign_key) in.target_field else null,
    };
}

fn slice(comptime T: type, address: u64, count: u32) error{BadCatalogue}![]const T {
    if (count == 0) return &.{};
    const place = std.math.cast(usize, address) orelse return error.BadCatalogue;
    if (place == 0 or place % @alignOf(T) != 0) return error.BadCatalogue;
    return @as([*]const T, @ptrFromInt(place))[0..count];
}

pub fn elementBytes(kind: Type) u32 {
    return switch (kind) {
        .u8, .i8, .bool, .bytes => 1,
        .u16, .i16 => 2,
        .u32, .i32, .f32 => 4,
        .u64, .i64, .f64, .string => 8,
    };
}

pub const Broken = struct { rule: error{ Range, Enum }, found: u64, expected: u64 };

/// Check one cell against its field's own rules (range, enum, bool is 0 or 1); null when it keeps them.
/// NaN breaks any declared range: it compares false with both bounds.
pub fn checkCell(field: *const Field, cell: []const u8) ?Broken {
    assert(cell.len == field.width);
    if (!field.constrained()) return null;
    // An absent reference has no value that the rules of values could be about.
    if (field.foreign_key and field.optional and std.mem.allEqual(u8, cell, 0)) return null;
    return switch (field.type) {
        .bytes, .string => null,
        .bool => for (cell) |byte| {
            if (byte > 1) break .{ .rule = error.Range, .found = byte, .expected = 1 };
        } else null,
        inline .u8, .u16, .u32, .u64, .i8, .i16, .i32, .i64, .f32, .f64 => |kind| checkNumbers(kind, field, cell),
    };
}

/// Whether all of these cells keep the rules of their field, as far as that is told by a comparison of each with the
/// same two numbers. False is no answer: look at each then.
pub fn keepAll(field: *const Field, cells: []const u8) bool {
    if (field.enum_values.len > 0) return false;
    switch (field.type) {
        .bytes, .string => return false,
        .bool => {
            var most: u8 = 0;
            for (cells) |byte| most = @max(most, byte);
            return most <= 1;
        },
        inline .u8, .u16, .u32, .u64, .i8, .i16, .i32, .i64, .f32, .f64 => |kind| {
            const T = Native(kind);
            const Wide = switch (@typeInfo(T)) {
                .float => f64,
                .int => |int| if (int.signedness == .signed) i64 else u64,
                else => unreachable,
            };
            const size = @sizeOf(T);
            const minimum: Wide = if (field.has_minimum) @bitCast(field.minimum) else least(Wide);
            const maximum: Wide = if (field.has_maximum) @bitCast(field.maximum) else greatest(Wide);
            var kept = true;
            var at: usize = 0;
            while (at < cells.len) : (at += size) {
                const number: T = @bitCast(cells[at..][0..size].*);
                const wide: Wide = number;
                // Not a number is in no order, and is kept out by any rule.
                const within = (!field.has_minimum or wide >= minimum) and (!field.has_maximum or wide <= maximum);
                kept = kept and within;
            }
            return kept;
        },
    }
}

fn least(comptime T: type) T {
    return if (T == f64) -std.math.inf(f64) else std.math.minInt(T);
}

fn greatest(comptime T: type) T {
    return if (T == f64) std.math.inf(f64) else std.math.maxInt(T);
}

pub fn Native(comptime kind: Type) type {
    return switch (kind) {
        .u8, .bool, .bytes => u8,
        .u16 => u16,
        .u32 => u32,
        .u64, .string => u64,
        .i8 => i8,
        .i16 => i16,
        .i32 => i32,
        .i64 => i64,
        .f32 => f32,
        .f64 => f64,
    };
}

fn checkNumbers(comptime kind: Type, field: *const Field, cell: []const u8) ?Broken {
    const T = Native(kind);
    const Wide = switch (@typeInfo(T)) {
        .float => f64,
        .int => |int| if (int.signedness == .signed) i64 else u64,
        else => unreachable,
    };
    const size = @sizeOf(T);
    var at: usize = 0;
    while (at < cell.len) : (at += size) {
        const number: T = @bitCast(cell[at..][0..size].*);
        const wide: Wide = number;
        const bits: u64 = @bitCast(wide);
        if (field.has_minimum) {
            const minimum: Wide = @bitCast(field.minimum);
            if (!(wide >= minimum)) return .{ .rule = error.Range, .found = bits, .expected = field.minimum };
        }
        if (field.has_maximum) {
            const maximum: Wide = @bitCast(field.maximum);
            if (!(wide <= maximum)) return .{ .rule = error.Range, .found = bits, .expected = field.maximum };
        }
        if (field.enum_values.len > 0 and Wide != f64) {
            const value: i64 = @bitCast(bits);
            if (std.mem.indexOfScalar(i64, field.enum_values, value) == null)
                return .{ .rule = error.Enum, .found = bits, .expected = 0 };
        }
    }
    return null;
}

test "a cell is checked by its type's own order" {
    var field: Field = .{
        .id = 0,
        .type = .i16,
        .on_delete = .cascade,
        .unique = false,
        .foreign_key = false,
        .optional = false,
        .auto = false,
        .has_minimum = true,
        .has_maximum = true,
        .width = 2,
        .count = 1,
        .minimum = @bitCast(@as(i64, -5)),
        .maximum = @bitCast(@as(i64, 5)),
        .enum_values = &.{},
        .default = null,
    };
    try std.testing.expect(checkCell(&field, std.mem.asBytes(&@as(i16, -5))) == null);
    try std.testing.expect(checkCell(&field, std.mem.asBytes(&@as(i16, -6))).?.rule == error.Range);
    field.type = .f32;
    field.width = 4;
    field.minimum = @bitCast(@as(f64, 0));
    field.maximum = @bitCast(@as(f64, 1));
    try std.testing.expect(checkCell(&field, std.mem.asBytes(&@as(f32, 0.5))) == null);
    try std.testing.expect(checkCell(&field, std.mem.asBytes(&std.math.nan(f32))) != null);
}
