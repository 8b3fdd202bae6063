//! Blocks: the columnar bytes of a set of changes. There are two forms of them with the same parts: the log's
//! (version 1), and the wire's (version 2), whose tables and columns have shorter heads and whose cells may be packed.
//!
//! All integers little-endian, nothing aligned. A number of rows names them by entity index,
//! ascending. The log's:
//!
//!     block    u8 version = 1 | u8 compression = 0 | u16 tables | u32 bytes that follow | table*
//!     table    u16 table id | u16 columns | u32 removed | u32 inserted
//!              [removed > 0]  rows
//!              [inserted > 0] rows | generations: cells of u32 | cells of each field, by field id
//!              column*
//!     column   u16 field id | u8 form | u8 encoding | [form != same] u32 count | names | values
//!     rows     u8 form | names
//!     cells    u8 encoding | values
//!
//!     form     0 all: every row of the table after removal, but the inserted ones; no names
//!              1 deltas: LEB128 of the gap to the one before, minus one (the first from -1)
//!              2 bitmap: LEB128 first index | LEB128 bits | ceil(bits / 8) bytes, lowest bit first
//!              3 ranges: LEB128 ranges | (LEB128 gap since the range before | LEB128 length - 1)*
//!              4 same: the rows of the column before; no count
//!     encoding 0 raw: the cells one after another; a string is LEB128 bytes | UTF-8
//!              1 constant: one cell that all rows have
//!
//! The wire's, where it is another:
//!
//!     block    u8 version = 2 | u8 compression = 0 | u16 tables | u32 bytes that follow | u64 reference | table*
//!     table    u16 table id | LEB128 columns | u8 flags
//!              [removed]  LEB128 count | rows
//!              [left]     LEB128 count | rows
//!              [inserted] LEB128 count | rows | [narrowed] bitmap of those that came into sight, lowest bit first
//!                         | generations: cells of u32 | cells of each field, by field id
//!              column*
//!     column   u16 field id | u8 form | u8 encoding | [form != same] LEB128 count | names | values
//!     flags    1 removed, 2 left, 4 inserted, 8 narrowed (only with 4)
//!     encoding of `packing.zig`; bit 7: the values are differences to the cells of version `reference`. Of cells of an
//!              inserted row's field also 15 hidden: no values, the reader keeps zeros and checks no rule on them
//!
//! Tables come by ascending id and columns by ascending field id. Table 0, the entities, is first,
//! so a component row always finds its entity. A reader refuses anything else.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const sparse = @import("sparse.zig");
const Heap = @import("heap.zig").Heap;

pub const version = 1;
pub const header_bytes = 8;

pub const wire_version = 2;
pub const wire_header_bytes = 16;

pub const flag_removed = 1;
pub const flag_left = 2;
pub const flag_inserted = 4;
pub const flag_narrowed = 8;
pub const flags_all = 15;

pub const Form = enum(u8) { all, deltas, bitmap, ranges, same };
/// Of the log.
pub const Encoding = enum(u8) { raw, constant };

/// Of the wire.
pub const Packing = enum(u8) { raw, constant, planes, bits, two_class, runs, adaptive, hidden = 15, _ };

/// In the byte of a packing: its values are differences to the reader's cells.
pub const relative_bit = 0x80;

pub const Packed = struct { packing: Packing, relative: bool };

/// What a block got wrong; `failure.Info.reason`. Appended, never reused.
pub const Reason = enum(u16) {
    none,
    truncated,
    version,
    compression,
    length,
    table_unknown,
    table_order,
    field_unknown,
    field_order,
    form,
    encoding,
    names,
    count,
    generation,
    row_missing,
    entity_missing,
    trailing,
    encoding_not_built,
    text,
    flags,
    reference,
    packing,
};

pub const Item = sparse.Iterator.Item;

const varint_bytes_max = 5;

/// Appends a block's parts to a list. Memory failures surface as errors; the list is the caller's.
pub const Writer = struct {
    gpa: std.mem.Allocator,
    out: *std.ArrayList(u8),

    pub fn int(w: Writer, comptime T: type, value: T) error{OutOfMemory}!void {
        var bytes: [@sizeOf(T)]u8 = undefined;
        std.mem.writeInt(T, &bytes, value, .little);
        try w.out.appendSlice(w.gpa, &bytes);
    }

    pub fn varint(w: Writer, value: u32) error{OutOfMemory}!void {
        try w.out.ensureUnusedCapacity(w.gpa, varint_bytes_max);
        w.varintAssumeCapacity(value);
    }

    inline fn varintAssumeCapacity(w: Writer, value: u32) void {
        var left = value;
        while (left >= 0x80) : (left >>= 7) w.out.appendAssumeCapacity(@as(u8, @truncate(left)) | 0x80);
        w.out.appendAssumeCapacity(@intCast(left));
    }

    /// Names of `items` in whichever form is smallest. The form is returned, not written.
    pub fn pickForm(items: []const Item) Form {
        assert(items.len > 0);
        if (isConsecutive(items)) {
            const n: u32 = @intCast(items.len);
            // One range; every gap but the first is a zero.
            const first = varintBytes(items[0].index);
            const ranges = 1 + first + varintBytes(n - 1);
            const bitmap = first + varintBytes(n) + (n + 7) / 8;
            const deltas = first + n - 1;
            if (ranges <= deltas and ranges <= bitmap) return .ranges;
            return if (bitmap < deltas) .bitmap else .deltas;
        }
        var deltas: usize = 0;
        var ranges: usize = 0;
        var range_count: u32 = 0;
        var next: u32 = 0;
        var length: u32 = 0;
        for (items) |item| {
            const gap = item.index - next;
            deltas += varintBytes(gap);
            if (gap != 0 or length == 0) {
                if (length > 0) ranges += varintBytes(length - 1);
                ranges += varintBytes(gap);
                range_count += 1;
                length = 0;
            }
            length += 1;
            next = item.index + 1;
        }
        ranges += varintBytes(length - 1) + varintBytes(range_count);
        const bits = items[items.len - 1].index - items[0].index + 1;
        const bitmap = varintBytes(items[0].index) + varintBytes(bits) + (bits + 7) / 8;
        if (ranges <= deltas and ranges <= bitmap) return .ranges;
        return if (bitmap < deltas) .bitmap else .deltas;
    }

    pub fn names(w: Writer, form: Form, items: []const Item) error{OutOfMemory}!void {
        switch (form) {
            .all, .same => {},
            .deltas => {
                try w.out.ensureUnusedCapacity(w.gpa, items.len * varint_bytes_max);
                var next: u32 = 0;
                for (items) |item| {
                    w.varintAssumeCapacity(item.index - next);
                    next = item.index + 1;
                }
            },
            .bitmap => {
                const first = items[0].index;
                const bits = items[items.len - 1].index - first + 1;
                try w.varint(first);
                try w.varint(bits);
                const bytes = try w.out.addManyAsSlice(w.gpa, (bits + 7) / 8);
                @memset(bytes, 0);
                for (items) |item| {
                    const bit = item.index - first;
                    bytes[bit / 8] |= @as(u8, 1) << @intCast(bit & 7);
                }
            },
            .ranges => {
                if (isConsecutive(items)) {
                    try w.varint(1);
                    try w.varint(items[0].index);
                    return w.varint(@intCast(items.len - 1));
                }
                var count: u32 = 0;
                for (items, 0..) |item, i| count += @intFromBool(i == 0 or item.index != items[i - 1].index + 1);
                try w.varint(count);
                var next: u32 = 0;
                var i: usize = 0;
                while (i < items.len) {
                    var end = i + 1;
                    while (end < items.len and items[end].index == items[end - 1].index + 1) end += 1;
                    try w.varint(items[i].index - next);
                    try w.varint(@intCast(end - i - 1));
                    next = items[end - 1].index + 1;
                    i = end;
                }
            },
        }
    }

    /// The cells of `items` in a field's column, strings too. `heap` is whose references the cells are.
    pub fn cells(
        w: Writer,
        encoding_at: usize,
        field: *const catalogue.Field,
        heap: *const Heap,
        data: []const u8,
        items: []const Item,
    ) error{OutOfMemory}!void {
        if (field.type == .string) return w.texts(encoding_at, heap, data, items);
        return w.values(encoding_at, field.width, data, items);
    }

    fn texts(w: Writer, encoding_at: usize, heap: *const Heap, data: []const u8, items: []const Item) error{OutOfMemory}!void {
        const first = referenceAt(data, items[0].row);
        const constant = items.len > 1 and for (items[1..]) |item| {
            if (referenceAt(data, item.row) != first) break false;
        } else true;
        w.out.items[encoding_at] = @intFromEnum(if (constant) Encoding.constant else Encoding.raw);
        for (if (constant) items[0..1] else items) |item| {
            const text = heap.get(referenceAt(data, item.row));
            try w.varint(@intCast(text.len));
            try w.out.appendSlice(w.gpa, text);
        }
    }

    /// Fixed cells of `items` in a column: encoding byte at `encoding_at`, then the values.
    pub fn values(w: Writer, encoding_at: usize, width: u32, data: []const u8, items: []const Item) error{OutOfMemory}!void {
        const start = w.out.items.len;
        const first = data[@as(usize, items[0].row) * width ..][0..width];
        try w.out.ensureUnusedCapacity(w.gpa, items.len * width);
        const consecutive = isRun(items);
        if (consecutive) {
            w.out.appendSliceAssumeCapacity(data[@as(usize, items[0].row) * width ..][0 .. items.len * width]);
        } else switch (width) {
            inline 1, 2, 4, 8 => |fixed| {
                // Checked for all of them at once; the loop below goes without.
                var last: u32 = 0;
                for (items) |item| last = @max(last, item.row);
                assert((@as(usize, last) + 1) * fixed <= data.len);
                const to = w.out.addManyAsSliceAssumeCapacity(items.len * fixed);
                @setRuntimeSafety(false);
                for (items, 0..) |item, i| to[i * fixed ..][0..fixed].* = data[@as(usize, item.row) * fixed ..][0..fixed].*;
            },
            else => for (items) |item| w.out.appendSliceAssumeCapacity(data[@as(usize, item.row) * width ..][0..width]),
        }
        const written = w.out.items[start..];
        if (items.len > 1 and allEqual(written, first.len)) {
            w.out.items.len = start + width;
            w.out.items[encoding_at] = @intFromEnum(Encoding.constant);
        } else w.out.items[encoding_at] = @intFromEnum(Encoding.raw);
    }
};

fn referenceAt(data: []const u8, row: u32) u64 {
    return std.mem.readInt(u64, data[@as(usize, row) * 8 ..][0..8], .little);
}

/// Whether their indices, which ascend, leave none out.
fn isConsecutive(items: []const Item) bool {
    return items[items.len - 1].index - items[0].index == items.len - 1;
}

/// Whether their rows are one behind the other.
pub fn isRun(items: []const Item) bool {
    const first = items[0].row;
    if (items[items.len - 1].row -% first != items.len - 1) return false;
    // Many at a time, which a loop that may end at any of them does not do.
    var at: usize = 0;
    while (at < items.len) {
        const some = items[at..@min(at + 512, items.len)];
        var wrong: u32 = 0;
        const expected = first +% @as(u32, @intCast(at));
        for (some, 0..) |item, i| wrong |= item.row ^ (expected +% @as(u32, @truncate(i)));
        if (wrong != 0) return false;
        at += some.len;
    }
    return true;
}

fn allEqual(cells: []const u8, width: usize) bool {
    // A run of equal cells is one that equals itself shifted by one cell.
    if (!std.mem.eql(u8, cells[0..width], cells[width..][0..width])) return false;
    return std.mem.eql(u8, cells[width..], cells[0 .. cells.len - width]);
}

pub fn varintBytes(value: u32) usize {
    // Of 32 - clz bits each seven begun, and one byte for 0.
    return (38 - @as(u32, @clz(value | 1))) / 7;
}

/// Reads a block that came from anywhere. Every method either stays in bounds or fails with the
/// reason noted; it allocates nothing.
pub const Reader = struct {
    bytes: []const u8,
    at: usize = 0,
    reason: Reason = .none,

    pub fn fail(r: *Reader, reason: Reason) error{BadBlock} {
        r.reason = reason;
        return error.BadBlock;
    }

    pub fn int(r: *Reader, comptime T: type) error{BadBlock}!T {
        const size = @sizeOf(T);
        if (r.bytes.len - r.at < size) return r.fail(.truncated);
        defer r.at += size;
        return std.mem.readInt(T, r.bytes[r.at..][0..size], .little);
    }

    pub fn take(r: *Reader, n: usize) error{BadBlock}![]const u8 {
        if (r.bytes.len - r.at < n) return r.fail(.truncated);
        defer r.at += n;
        return r.bytes[r.at..][0..n];
    }

    pub fn varint(r: *Reader) error{BadBlock}!u32 {
        var value: u32 = 0;
        var shift: u6 = 0;
        while (true) {
            if (r.at == r.bytes.len) return r.fail(.truncated);
            const byte = r.bytes[r.at];
            r.at += 1;
            if (shift == 28 and byte > 0x0f) return r.fail(.names);
            value |= @as(u32, byte & 0x7f) << @intCast(shift);
            if (byte & 0x80 == 0) return value;
            if (shift == 28) return r.fail(.names);
            shift += 7;
        }
    }

    /// One string of a field that holds at most `bytes_max` of UTF-8.
    pub fn text(r: *Reader, bytes_max: u32) error{BadBlock}![]const u8 {
        const length = try r.varint();
        if (length > bytes_max) return r.fail(.text);
        const bytes = try r.take(length);
        if (!std.unicode.utf8ValidateSlice(bytes)) return r.fail(.text);
        return bytes;
    }

    /// Go over one string without looking at it.
    pub fn passText(r: *Reader) error{BadBlock}!void {
        _ = try r.take(try r.varint());
    }

    pub fn form(r: *Reader) error{BadBlock}!Form {
        const number = try r.int(u8);
        if (number > @intFromEnum(Form.same)) return r.fail(.form);
        return @enumFromInt(number);
    }

    pub fn encoding(r: *Reader) error{BadBlock}!Encoding {
        const number = try r.int(u8);
        if (number > @intFromEnum(Encoding.constant)) return r.fail(.encoding);
        return @enumFromInt(number);
    }

    /// The same on the wire.
    pub fn wirePacking(r: *Reader) error{BadBlock}!Packed {
        const number = try r.int(u8);
        const packing: Packing = @enumFromInt(number & ~@as(u8, relative_bit));
        const relative = number & relative_bit != 0;
        switch (packing) {
            .raw, .constant, .planes, .hidden => if (relative) return r.fail(.encoding),
            .bits, .two_class, .runs => {},
            .adaptive => return r.fail(.encoding_not_built),
            _ => return r.fail(.encoding),
        }
        return .{ .packing = packing, .relative = relative };
    }

    /// Go over the names of `count` rows without looking at them.
    pub fn passNames(r: *Reader, how: Form, count: u32) error{BadBlock}!void {
        switch (how) {
            .all, .same => return r.fail(.form),
            .deltas => for (0..count) |_| {
                _ = try r.varint();
            },
            .bitmap => {
                _ = try r.varint();
                const bits = try r.varint();
                _ = try r.take((@as(usize, bits) + 7) / 8);
            },
            .ranges => for (0..try r.varint()) |_| {
                _ = try r.varint();
                _ = try r.varint();
            },
        }
    }

    /// Decode `count` ascending indices, all below `limit`, into `into`.
    pub fn names(r: *Reader, how: Form, count: u32, limit: u32, into: []u32) error{BadBlock}!void {
        assert(into.len == count);
        var n: usize = 0;
        var next: u64 = 0;
        switch (how) {
            .all, .same => return r.fail(.form),
            .deltas => while (n < count) : (n += 1) {
                const index = next + try r.varint();
                if (index >= limit) return r.fail(.names);
                into[n] = @intCast(index);
                next = index + 1;
            },
            .bitmap => {
                const first = try r.varint();
                const bits = try r.varint();
                if (bits == 0 or @as(u64, first) + bits > limit) return r.fail(.names);
                const bitmap = try r.take((@as(usize, bits) + 7) / 8);
                for (bitmap, 0..) |byte, b| {
                    var left = byte;
                    while (left != 0) : (left &= left - 1) {
                        const bit = b * 8 + @ctz(left);
                        if (bit >= bits or n == count) return r.fail(.names);
                        into[n] = first + @as(u32, @intCast(bit));
                        n += 1;
                    }
                }
                if (n != count) return r.fail(.names);
            },
            .ranges => {
                const ranges = try r.varint();
                for (0..ranges) |_| {
                    const first = next + try r.varint();
                    const length = @as(u64, try r.varint()) + 1;
                    if (first + length > limit or n + length > count) return r.fail(.names);
                    for (0..@intCast(length)) |i| into[n + i] = @intCast(first + i);
                    n += @intCast(length);
                    next = first + length;
                }
                if (n != count) return r.fail(.names);
            },
        }
    }
};

test "names read back as written, in the form that was picked" {
    const gpa = std.testing.allocator;
    var random = std.Random.DefaultPrng.init(11);
    var seen: [5]bool = @splat(false);
    for (0..400) |round| {
        const share = 1 + random.random().uintLessThan(u32, if (round % 3 == 0) 3 else 400);
        var items: std.ArrayList(Item) = .empty;
        defer items.deinit(gpa);
        for (0..3000) |index| {
            const in_run = round % 5 == 0 and index % 700 > 100;
            if (in_run or random.random().uintLessThan(u32, share) == 0)
                try items.append(gpa, .{ .index = @intCast(index), .row = 0 });
        }
        if (items.items.len == 0) continue;
        var out: std.ArrayList(u8) = .empty;
        defer out.deinit(gpa);
        const w: Writer = .{ .gpa = gpa, .out = &out };
        const form = Writer.pickForm(items.items);
        seen[@intFromEnum(form)] = true;
        try w.names(form, items.items);
        const into = try gpa.alloc(u32, items.items.len);
        defer gpa.free(into);
        var r: Reader = .{ .bytes = out.items };
        try r.names(form, @intCast(into.len), 3000, into);
        try std.testing.expectEqual(out.items.len, r.at);
        var passing: Reader = .{ .bytes = out.items };
        try passing.passNames(form, @intCast(into.len));
        try std.testing.expectEqual(out.items.len, passing.at);
        for (items.items, into) |item, index| try std.testing.expectEqual(item.index, index);
        var short: Reader = .{ .bytes = out.items[0 .. out.items.len - 1] };
        try std.testing.expectError(error.BadBlock, short.names(form, @intCast(into.len), 3000, into));
    }
    try std.testing.expect(seen[1] and seen[2] and seen[3]);
}
