//! Snapshots: the bytes of a whole version in one file, in chunks that each have a checksum.
//!
//!     header     4096 B   0 "ECSSNAP1" | 8 u32 format | 12 u32 zero | 16 [16] database | 32 u32 epoch | 36 u32 zero |
//!                         40 u64 version | 48 u64 tick | 56 i64 unix ns | 64 [16] schema fingerprint |
//!                         80 [16] digest of the replicated tables | zeros | 4080 [16] checksum of 0..4080
//!     chunks              up to 1 MiB of content each, from a multiple of 64 on, zeros between
//!     index               entries of 56 B: u16 kind | u16 table id | u16 field id | u16 zero | u64 first row |
//!                         u64 rows | u64 offset | u32 bytes | u32 zero | [16] checksum
//!     root       4096 B   the last of the file: 0 "ECSROOT1" | 8 u64 index offset | 16 u32 entries | 20 u32 zero |
//!                         24 [16] checksum of the index | 40 [16] the header's checksum | 56 u64 version | zeros |
//!                         4080 [16] checksum of 0..4080
//!
//! Kinds: 1 the keys of rows (u64); 2 the cells of a column as they are in memory; 3 those of a string: the u32 lengths
//! of all rows of the chunk, and then their UTF-8; 4 the places of a key space (u32: generation:31 | alive:1), where rows
//! count indices; 5 the counter of an auto increment (u64, one row). Fields of kinds that have none are 0.
//!
//! Entries follow the catalogue: of each durable table its places, if it owns keys, its counter, if it has one, its keys,
//! and its columns by field; of each of these the chunks ascending without a gap. What is empty has no entry.
//!
//! Invariants:
//! - the root names the checksum of everything else, so a manifest that names the root's names every byte that counts;
//! - a file is complete, synced and read back before it has its name; one that ends in `.tmp` is nothing;
//! - places and counters are those of the version: it begins only between two versions, and with the newest.

const std = @import("std");
const assert = std.debug.assert;
const compat = @import("compat.zig");
const crypto = @import("crypto.zig");
const digest = @import("digest.zig");
const entity = @import("entity.zig");
const failure = @import("failure.zig");
const limits = @import("limits.zig");
const storage_file = @import("storage.zig");
const view = @import("view.zig");
const head_file = @import("head.zig");
const Heap = @import("heap.zig").Heap;
const Storage = storage_file.Storage;
const Store = @import("store.zig").Store;

pub const format = 1;
const block_bytes = 4096;
pub const chunk_bytes_max = 1 << 20;
const chunk_alignment = 64;
pub const entry_bytes = 56;
/// Entries that an index may have: 2^20 chunks of 1 MiB are more than memory holds.
const entries_max = 1 << 20;
/// Chunks from here on are written from where they lie, at a multiple of a page; smaller ones are gathered.
const direct_bytes = 64 << 10;
/// What one step reads or writes, about: a millisecond, so that progress moves and whoever stops it need not wait.
const step_bytes = 4 << 20;

pub const Block = [block_bytes]u8;

pub const Kind = enum(u16) { keys = 1, cells = 2, strings = 3, places = 4, counter = 5 };

/// What is wrong with a snapshot, and at which byte of its file.
pub const Problem = struct { offset: u64 = 0, what: []const u8 = "" };

pub const Header = struct {
    database: [16]u8,
    epoch: u32,
    version: u64,
    tick: u64,
    time_ns: i64,
    fingerprint: [16]u8,
    digest: [16]u8,

    pub fn encode(header: *const Header, out: *Block) void {
        out.* = @splat(0);
        out[0..8].* = "ECSSNAP1".*;
        put(u32, out, 8, format);
        out[16..32].* = header.database;
        put(u32, out, 32, header.epoch);
        put(u64, out, 40, header.version);
        put(u64, out, 48, header.tick);
        put(i64, out, 56, header.time_ns);
        out[64..80].* = header.fingerprint;
        out[80..96].* = header.digest;
        sealBlock(out);
    }

    pub fn decode(in: *const Block, problem: *Problem) error{ Corrupt, Foreign }!Header {
        if (!std.mem.eql(u8, in[0..8], "ECSSNAP1")) return fail(problem, 0, "it does not begin as a snapshot does");
        if (!sealed(in)) return fail(problem, 0, "the header fails its checksum");
        if (get(u32, in, 8) != format) {
            problem.* = .{ .offset = 8, .what = "the snapshot is of a newer format" };
            return error.Foreign;
        }
        return .{
            .database = in[16..32].*,
            .epoch = get(u32, in, 32),
            .version = get(u64, in, 40),
            .tick = get(u64, in, 48),
            .time_ns = get(i64, in, 56),
            .fingerprint = in[64..80].*,
            .digest = in[80..96].*,
        };
    }
};

pub const Entry = struct {
    kind: Kind,
    table: u16,
    field: u16,
    first: u64,
    rows: u64,
    offset: u64,
    bytes: u32,
    checksum: [16]u8,

    fn encode(entry: *const Entry, out: *[entry_bytes]u8) void {
        out.* = @splat(0);
        put(u16, out, 0, @intFromEnum(entry.kind));
        put(u16, out, 2, entry.table);
        put(u16, out, 4, entry.field);
        put(u64, out, 8, entry.first);
        put(u64, out, 16, entry.rows);
        put(u64, out, 24, entry.offset);
        put(u32, out, 32, entry.bytes);
        out[40..56].* = entry.checksum;
    }

    fn decode(in: *const [entry_bytes]u8) ?Entry {
        return .{
            .kind = std.enums.fromInt(Kind, get(u16, in, 0)) orelse return null,
            .table = get(u16, in, 2),
            .field = get(u16, in, 4),
            .first = get(u64, in, 8),
            .rows = get(u64, in, 16),
            .offset = get(u64, in, 24),
            .bytes = get(u32, in, 32),
            .checksum = in[40..56].*,
        };
    }
};

const Root = struct {
    index: u64,
    entries: u32,
    index_checksum: [16]u8,
    header_checksum: [16]u8,
    version: u64,

    fn encode(root: *const Root, out: *Block) void {
        out.* = @splat(0);
        out[0..8].* = "ECSROOT1".*;
        put(u64, out, 8, root.index);
        put(u32, out, 16, root.entries);
        out[24..40].* = root.index_checksum;
        out[40..56].* = root.header_checksum;
        put(u64, out, 56, root.version);
        sealBlock(out);
    }
};

fn put(comptime T: type, out: []u8, at: usize, value: T) void {
    std.mem.writeInt(T, out[at..][0..@sizeOf(T)], value, .little);
}

fn get(comptime T: type, in: []const u8, at: usize) T {
    return std.mem.readInt(T, in[at..][0..@sizeOf(T)], .little);
}

fn sealBlock(block: *Block) void {
    block[4080..4096].* = crypto.checksum(&.{block[0..4080]});
}

fn sealed(block: *const Block) bool {
    return std.mem.eql(u8, block[4080..4096], &crypto.checksum(&.{block[0..4080]}));
}

fn fail(problem: *Problem, offset: u64, what: []const u8) error{Corrupt} {
    problem.* = .{ .offset = offset, .what = what };
    return error.Corrupt;
}

/// What a snapshot that is finished is called and named by.
pub const Info = struct { header: Header, bytes: u64, root: [16]u8 };

/// `snap/%020d.snap`, or with `.tmp` behind it while it is being written.
pub fn nameOf(version: u64, temporary: bool, out: *[40]u8) []const u8 {
    return std.fmt.bufPrint(out, "snap/{d:0>20}.snap{s}", .{ version, if (temporary) ".tmp" else "" }) catch unreachable;
}

/// The version of a snapshot by its name in `snap/`, and whether it is being written; null for anything else.
pub fn versionOf(name: []const u8) ?struct { u64, bool } {
    const temporary = std.mem.endsWith(u8, name, ".tmp");
    const whole = if (temporary) name[0 .. name.len - 4] else name;
    if (whole.len != 25 or !std.mem.endsWith(u8, whole, ".snap")) return null;
    for (whole[0..20]) |digit| if (!std.ascii.isDigit(digit)) return null;
    return .{ std.fmt.parseInt(u64, whole[0..20], 10) catch return null, temporary };
}

/// The key space and the counter of a table, as they were when the snapshot began.
const Copied = struct { places: []u32 = &.{}, counter: u64 = 0 };

/// Writes the newest version, step by step: `begin` with the baton, `step` and `deinit` from any thread.
pub const Writer = struct {
    /// Not the store's: that one is the writer's own.
    gpa: std.mem.Allocator,
    storage: Storage,
    store: *Store,
    /// Pinned until all is written.
    slot: ?usize,
    header: Header,
    copied: []Copied,
    name_bytes: [40]u8 = undefined,
    temporary_bytes: [40]u8 = undefined,
    handle: ?storage_file.Handle = null,
    /// The temporary file exists.
    made: bool = false,
    entries: std.ArrayList(Entry) = .empty,
    /// What is to be written at `flushed` next.
    stage: []align(block_bytes) u8,
    staged: usize = 0,
    flushed: u64 = block_bytes,
    /// Where the walk is: a table, a part of it (places, counter, keys, and then its fields), and a row.
    table: usize = 0,
    part: usize = 0,
    row: u64 = 0,
    phase: enum { write, sum, end, verify, name, done } = .write,
    reader: Reader,
    checked: usize = 0,
    info: Info = undefined,
    done: u64 = 0,
    total: u64,

    const Parts = struct {
        const places = 0;
        const counter = 1;
        const keys = 2;
        const fields = 3;
    };

    /// Pin the newest version, shown or held, and copy what is in no slot. Needs the baton. `Busy` while more is
    /// committed than a slot has: a version is being made, or views that somebody holds put it off.
    pub fn begin(
        gpa: std.mem.Allocator,
        storage: Storage,
        store: *Store,
        database: [16]u8,
        epoch: u32,
        fingerprint: [16]u8,
        now_ns: i64,
    ) failure.Error!*Writer {
        try store.needBaton();
        if (store.head.in_transaction or store.head.pending) return error.Busy;
        const newest = store.views.newestSlot();
        if (store.views.slots[newest].version != store.version) return error.Busy;
        const writer = try gpa.create(Writer);
        errdefer gpa.destroy(writer);
        const stage = try gpa.alignedAlloc(u8, .fromByteUnits(block_bytes), chunk_bytes_max);
        errdefer gpa.free(stage);
        const copied = try gpa.alloc(Copied, store.head.tables.len);
        @memset(copied, .{});
        errdefer {
            for (copied) |of| gpa.free(of.places);
            gpa.free(copied);
        }
        for (store.head.tables, copied) |*table, *into| {
            if (!table.spec.durable) continue;
            if (table.has_auto) into.counter = table.auto;
            if (table.spec.kind != .component) into.places = try gpa.dupe(u32, @ptrCast(table.space.places.items));
        }
        const of = &store.views.slots[newest];
        store.views.pin(newest);
        writer.* = .{
            .gpa = gpa,
            .storage = storage,
            .store = store,
            .slot = newest,
            .header = .{
                .database = database,
                .epoch = epoch,
                .version = of.version,
                .tick = of.tick,
                .time_ns = now_ns,
                .fingerprint = fingerprint,
                .digest = undefined,
            },
            .copied = copied,
            .stage = stage,
            .reader = .{ .gpa = gpa, .storage = storage },
            .total = 0,
        };
        writer.total = 2 * writer.estimate();
        return writer;
    }

    /// Whatever was not finished is removed, as far as it can be; the next opening removes the rest.
    pub fn deinit(writer: *Writer) void {
        writer.unpin();
        writer.reader.deinit();
        if (writer.handle) |handle| writer.storage.close(handle);
        if (writer.made and writer.phase != .done) writer.storage.remove(writer.temporary()) catch {};
        for (writer.copied) |of| writer.gpa.free(of.places);
        writer.gpa.free(writer.copied);
        writer.entries.deinit(writer.gpa);
        writer.gpa.free(writer.stage);
        writer.gpa.destroy(writer);
    }

    fn unpin(writer: *Writer) void {
        if (writer.slot) |slot| writer.store.views.release(slot);
        writer.slot = null;
    }

    fn temporary(writer: *Writer) []const u8 {
        return nameOf(writer.header.version, true, &writer.temporary_bytes);
    }

    pub fn name(writer: *Writer) []const u8 {
        return nameOf(writer.header.version, false, &writer.name_bytes);
    }

    /// Bytes of cells, keys and places: strings count as their references.
    fn estimate(writer: *const Writer) u64 {
        var bytes: u64 = 2 * block_bytes;
        const slot = &writer.store.views.slots[writer.slot.?];
        for (writer.store.head.tables, slot.tables, writer.copied) |*table, of, copied| {
            if (!table.spec.durable) continue;
            bytes += copied.places.len * 4 + @as(u64, of.rows) * (8 + table.rowBytes());
        }
        return bytes;
    }

    /// Go on for a few milliseconds. True when the file is complete, has its name, and the name is durable.
    pub fn step(writer: *Writer) failure.Error!bool {
        switch (writer.phase) {
            .write => {
                if (writer.handle == null) try writer.create();
                const until = writer.flushed + step_bytes;
                const from = writer.flushed;
                while (writer.flushed < until) if (!try writer.chunk()) {
                    writer.phase = .sum;
                    break;
                };
                // The disk works while the next chunks are gathered.
                writer.storage.writeOut(writer.handle.?, from, writer.flushed - from);
                writer.done = @min(writer.total / 2, writer.flushed);
            },
            .sum => {
                writer.sum();
                writer.phase = .end;
            },
            .end => {
                try writer.end();
                writer.phase = .verify;
            },
            .verify => {
                var left: u64 = step_bytes;
                while (writer.checked < writer.reader.entries.len and left > 0) {
                    const entry = &writer.reader.entries[writer.checked];
                    writer.reader.read(entry, writer.stage[0..entry.bytes]) catch |err| return unreadable(err);
                    writer.checked += 1;
                    left -|= entry.bytes;
                    writer.done = @min(writer.total, writer.done + entry.bytes);
                }
                if (writer.checked == writer.reader.entries.len) writer.phase = .name;
            },
            .name => {
                writer.reader.close();
                try writer.storage.rename(writer.temporary(), writer.name());
                try writer.storage.syncDir("snap");
                writer.done = writer.total;
                writer.phase = .done;
            },
            .done => {},
        }
        return writer.phase == .done;
    }

    fn create(writer: *Writer) failure.Error!void {
        try writer.storage.makeDir("snap");
        // The manifest that names the file is beside the directory, and may be durable before it otherwise.
        try writer.storage.syncDir("");
        // What an earlier attempt left is nothing.
        writer.storage.remove(writer.temporary()) catch |err| switch (err) {
            error.NotFound => {},
            else => return err,
        };
        writer.handle = try writer.storage.open(writer.temporary(), .create);
        writer.made = true;
    }

    /// Stage the next chunk. False when there is none.
    fn chunk(writer: *Writer) failure.Error!bool {
        const slot = &writer.store.views.slots[writer.slot.?];
        const tables = writer.store.head.tables;
        while (writer.table < tables.len) {
            const table = &tables[writer.table];
            const of = slot.tables[writer.table];
            const copied = &writer.copied[writer.table];
            const durable = table.spec.durable;
            if (!durable or writer.part == Parts.fields + table.spec.fields.len) {
                writer.table += 1;
                writer.part = 0;
                continue;
            }
            const id = table.spec.id;
            switch (writer.part) {
                Parts.places => if (try writer.plain(.places, id, 0, 4, copied.places.len, std.mem.sliceAsBytes(copied.places))) return true,
                Parts.counter => {
                    const counters: u64 = @intFromBool(copied.counter != 0);
                    if (try writer.plain(.counter, id, 0, 8, counters, std.mem.asBytes(&copied.counter))) return true;
                },
                Parts.keys => if (try writer.plain(.keys, id, 0, 8, of.rows, std.mem.sliceAsBytes(of.keyList()))) return true,
                else => {
                    const field = &table.spec.fields[writer.part - Parts.fields];
                    const buffer = of.columns[writer.part - Parts.fields];
                    if (field.type == .string) {
                        const cells = @as([*]const u64, @ptrCast(buffer.data.ptr))[0..of.rows];
                        if (try writer.texts(id, field.id, cells)) return true;
                    } else if (try writer.plain(.cells, id, field.id, field.width, of.rows, buffer.data)) return true;
                },
            }
            writer.part += 1;
            writer.row = 0;
        }
        return false;
    }

    /// Stage the next rows of what lies side by side. False when all are.
    fn plain(writer: *Writer, kind: Kind, table: u16, field: u16, width: u32, rows: u64, bytes: []const u8) failure.Error!bool {
        if (writer.row == rows) return false;
        const n = @min(rows - writer.row, chunk_bytes_max / width);
        const content = bytes[@intCast(writer.row * width)..][0..@intCast(n * width)];
        try writer.note(kind, table, field, n, content.len, crypto.checksum(&.{content}));
        try writer.append(content);
        return true;
    }

    fn texts(writer: *Writer, table: u16, field: u16, cells: []const u64) failure.Error!bool {
        if (writer.row == cells.len) return false;
        const heap = &writer.store.head.heap;
        const rest = cells[@intCast(writer.row)..];
        var bytes: usize = 0;
        var n: usize = 0;
        while (n < rest.len) : (n += 1) {
            const more = 4 + heap.get(rest[n]).len;
            if (bytes + more > chunk_bytes_max) break;
            bytes += more;
        }
        const content = try writer.gpa.alloc(u8, bytes);
        defer writer.gpa.free(content);
        var at = n * 4;
        for (rest[0..n], 0..) |cell, i| {
            const text = heap.get(cell);
            put(u32, content, i * 4, @intCast(text.len));
            @memcpy(content[at..][0..text.len], text);
            at += text.len;
        }
        assert(at == bytes);
        try writer.note(.strings, table, field, n, bytes, crypto.checksum(&.{content}));
        try writer.append(content);
        return true;
    }

    /// A chunk follows.
    fn note(writer: *Writer, kind: Kind, table: u16, field: u16, rows: u64, bytes: usize, checksum: [16]u8) failure.Error!void {
        assert(bytes > 0 and bytes <= chunk_bytes_max);
        if (writer.entries.items.len == entries_max) return error.Limit;
        try writer.pad(if (bytes < direct_bytes) chunk_alignment else block_bytes);
        try writer.entries.append(writer.gpa, .{
            .kind = kind,
            .table = table,
            .field = field,
            .first = writer.row,
            .rows = rows,
            .offset = writer.flushed + writer.staged,
            .bytes = @intCast(bytes),
            .checksum = checksum,
        });
        writer.row += rows;
    }

    /// Zeros up to a multiple of `alignment`.
    fn pad(writer: *Writer, alignment: usize) failure.Error!void {
        const zeros: Block = @splat(0);
        const beyond: usize = @intCast((writer.flushed + writer.staged) % alignment);
        if (beyond != 0) try writer.append(zeros[beyond..alignment]);
    }

    fn append(writer: *Writer, bytes: []const u8) failure.Error!void {
        if (bytes.len >= direct_bytes) {
            try writer.flush();
            return writer.writeNext(bytes);
        }
        var left = bytes;
        while (left.len > 0) {
            const n = @min(left.len, writer.stage.len - writer.staged);
            @memcpy(writer.stage[writer.staged..][0..n], left[0..n]);
            writer.staged += n;
            left = left[n..];
            if (writer.staged == writer.stage.len) try writer.flush();
        }
    }

    fn flush(writer: *Writer) failure.Error!void {
        try writer.writeNext(writer.stage[0..writer.staged]);
        writer.staged = 0;
    }

    /// Write what comes next.
    fn writeNext(writer: *Writer, bytes: []const u8) failure.Error!void {
        if (bytes.len == 0) return;
        try writer.storage.write(writer.handle.?, writer.flushed, bytes);
        writer.flushed += bytes.len;
    }

    /// The last thing that the version is needed for.
    fn sum(writer: *Writer) void {
        const slot = &writer.store.views.slots[writer.slot.?];
        const halves = slot.kept orelse digest.scan(&writer.store.head, slot).halves();
        writer.unpin();
        put(u64, &writer.header.digest, 0, halves[0]);
        put(u64, &writer.header.digest, 8, halves[1]);
    }

    /// The index, the root and the header; then everything is synced, and what the file says is looked at again.
    fn end(writer: *Writer) failure.Error!void {
        try writer.pad(chunk_alignment);
        const index = writer.flushed + writer.staged;
        const bytes = try writer.gpa.alloc(u8, writer.entries.items.len * entry_bytes);
        defer writer.gpa.free(bytes);
        for (writer.entries.items, 0..) |*entry, i| entry.encode(bytes[i * entry_bytes ..][0..entry_bytes]);
        try writer.append(bytes);
        try writer.pad(block_bytes);
        var block: Block = undefined;
        writer.header.encode(&block);
        try writer.storage.write(writer.handle.?, 0, &block);
        const root: Root = .{
            .index = index,
            .entries = @intCast(writer.entries.items.len),
            .index_checksum = crypto.checksum(&.{bytes}),
            .header_checksum = block[4080..4096].*,
            .version = writer.header.version,
        };
        root.encode(&block);
        try writer.append(&block);
        try writer.flush();
        try writer.storage.sync(writer.handle.?, .all);
        writer.storage.close(writer.handle.?);
        writer.handle = null;
        writer.info = .{ .header = writer.header, .bytes = writer.flushed, .root = block[4080..4096].* };
        writer.reader.open(writer.temporary(), .write) catch |err| return unreadable(err);
        if (!std.mem.eql(u8, &writer.reader.root, &writer.info.root)) return error.Io;
        writer.done = writer.total / 2;
    }
};

/// What was just written does not read back: the disk's doing, and nothing that was acknowledged.
fn unreadable(err: failure.Error) failure.Error {
    return switch (err) {
        error.Corrupt, error.Foreign => error.Io,
        else => err,
    };
}

/// Reads the parts of a file, and believes none that fails its checksum.
pub const Reader = struct {
    gpa: std.mem.Allocator,
    storage: Storage,
    handle: ?storage_file.Handle = null,
    header: Header = undefined,
    root: [16]u8 = undefined,
    bytes: u64 = 0,
    entries: []Entry = &.{},
    problem: Problem = .{},

    pub fn deinit(reader: *Reader) void {
        reader.close();
        reader.gpa.free(reader.entries);
        reader.entries = &.{};
    }

    pub fn close(reader: *Reader) void {
        if (reader.handle) |handle| reader.storage.close(handle);
        reader.handle = null;
    }

    /// Header, root and index. With `write` the file is synced first, and read from the disk: a crash, or a sync that
    /// failed, may have left what only the system's memory has.
    pub fn open(reader: *Reader, path: []const u8, mode: storage_file.Mode) failure.Error!void {
        assert(reader.handle == null and reader.entries.len == 0);
        const handle = try reader.storage.open(path, mode);
        reader.handle = handle;
        if (mode == .write) {
            try reader.storage.sync(handle, .all);
            reader.storage.reload(handle);
        }
        const bytes = try reader.storage.size(handle);
        reader.bytes = bytes;
        const problem = &reader.problem;
        if (bytes < 2 * block_bytes or bytes % block_bytes != 0) return fail(problem, bytes, "the file is cut short");
        var block: Block = undefined;
        try reader.exactly(0, &block);
        reader.header = try .decode(&block, problem);
        const header_checksum = block[4080..4096].*;
        const at = bytes - block_bytes;
        try reader.exactly(at, &block);
        if (!std.mem.eql(u8, block[0..8], "ECSROOT1")) return fail(problem, at, "it does not end as a snapshot does");
        if (!sealed(&block)) return fail(problem, at, "the root fails its checksum");
        if (!std.mem.eql(u8, block[40..56], &header_checksum)) return fail(problem, at, "the root is another header's");
        if (get(u64, &block, 56) != reader.header.version) return fail(problem, at, "the root is another version's");
        reader.root = block[4080..4096].*;
        const index = get(u64, &block, 8);
        const count = get(u32, &block, 16);
        if (count > entries_max or index < block_bytes or index > at or @as(u64, count) * entry_bytes > at - index)
            return fail(problem, at, "the index lies outside the file");
        const raw = try reader.gpa.alloc(u8, @as(usize, count) * entry_bytes);
        defer reader.gpa.free(raw);
        try reader.exactly(index, raw);
        if (!std.mem.eql(u8, block[24..40], &crypto.checksum(&.{raw}))) return fail(problem, index, "the index fails its checksum");
        const entries = try reader.gpa.alloc(Entry, count);
        errdefer reader.gpa.free(entries);
        for (entries, 0..) |*entry, i| {
            const from = raw[i * entry_bytes ..][0..entry_bytes];
            const place = index + i * entry_bytes;
            entry.* = Entry.decode(from) orelse return fail(problem, place, "an entry of the index is of no kind");
            if (entry.bytes == 0 or entry.bytes > chunk_bytes_max or entry.offset < block_bytes or
                entry.offset > index or entry.bytes > index - entry.offset)
                return fail(problem, place, "an entry of the index names what is outside the file");
        }
        reader.entries = entries;
    }

    fn exactly(reader: *Reader, at: u64, into: []u8) failure.Error!void {
        if (try reader.storage.read(reader.handle.?, at, into) != into.len)
            return fail(&reader.problem, at, "the file is cut short");
    }

    /// A chunk, which is as it was written.
    pub fn read(reader: *Reader, entry: *const Entry, into: []u8) failure.Error!void {
        assert(into.len == entry.bytes);
        try reader.exactly(entry.offset, into);
        if (!std.mem.eql(u8, &entry.checksum, &crypto.checksum(&.{into})))
            return fail(&reader.problem, entry.offset, "a chunk fails its checksum");
    }

    /// Look at every chunk.
    pub fn verify(reader: *Reader) failure.Error!void {
        const room = try reader.gpa.alloc(u8, chunk_bytes_max);
        defer reader.gpa.free(room);
        for (reader.entries) |*entry| try reader.read(entry, room[0..entry.bytes]);
    }
};

/// Load a snapshot into a store that has nothing but its version 0, whose version it is then: `redo.replay` goes on from
/// there, and `redo.finish` publishes it. Needs the baton. On failure the store is good for nothing but to be destroyed;
/// `reader.problem` says what is wrong with the file.
pub fn load(reader: *Reader, store: *Store) failure.Error!void {
    try store.needBaton();
    const head = &store.head;
    if (store.version != 0 or head.pending) return error.BadArgument;
    try head.begin();
    var loader: Loader = .{ .reader = reader, .head = head };
    defer loader.arena.deinit();
    loader.run() catch |err| {
        head.rollback();
        return err;
    };
    head.keep();
    head.pending = false;
    store.version = reader.header.version;
    store.tick = reader.header.tick;
    store.behind = true;
    // Of versions before it nothing is known: neither what changed since, nor what is gone.
    store.views.floor = store.version;
}

const Loader = struct {
    reader: *Reader,
    head: *head_file.Head,
    next: usize = 0,
    /// One table's cells at a time.
    arena: std.heap.ArenaAllocator = .init(compat.allocator),

    fn run(loader: *Loader) failure.Error!void {
        for (loader.head.tables, 0..) |*table, number| {
            if (!table.spec.durable) continue;
            _ = loader.arena.reset(.free_all);
            try loader.loadTable(@intCast(number));
        }
        if (loader.next != loader.reader.entries.len) return loader.wrong("the index names what the schema does not have");
        loader.head.checkDeferred() catch return loader.wrong("its rows break a rule that the schema has for all of them");
    }

    /// Something is wrong with the entry that comes next, or with the last one.
    fn wrong(loader: *Loader, what: []const u8) error{Corrupt} {
        const entries = loader.reader.entries;
        const at = if (entries.len == 0) 0 else entries[@min(loader.next, entries.len - 1)].offset;
        return fail(&loader.reader.problem, at, what);
    }

    fn loadTable(loader: *Loader, number: u16) failure.Error!void {
        const table = &loader.head.tables[number];
        const spec = table.spec;
        const a = loader.arena.allocator();
        if (spec.kind != .component) try loader.places(table.space);
        if (table.has_auto) {
            const chunks, const n = try loader.chunksOf(.counter, spec.id, 0, 8, 1);
            if (n == 1) try loader.reader.read(&chunks[0], std.mem.asBytes(&table.auto));
        }
        const key_chunks, const rows = try loader.chunksOf(.keys, spec.id, 0, 8, spec.rows_max);
        if (rows == 0) return;
        const keys = try a.alloc(u64, @intCast(rows));
        try loader.plain(key_chunks, std.mem.sliceAsBytes(keys));
        if (spec.kind != .component) try loader.occupy(table.space, keys);
        const cells = try a.alloc(?head_file.Strided, spec.fields.len);
        for (spec.fields, cells) |*field, *to| {
            const kind: Kind = if (field.type == .string) .strings else .cells;
            const chunks, const n = try loader.chunksOf(kind, spec.id, field.id, field.width, rows);
            if (n != rows) return loader.wrong("a column has another number of rows than its table");
            const column = try a.alignedAlloc(u8, .@"64", @as(usize, @intCast(rows)) * field.width);
            if (kind == .strings) {
                const references = @as([*]u64, @ptrCast(column.ptr))[0..keys.len];
                try loader.texts(chunks, field.count, references);
            } else try loader.plain(chunks, column);
            to.* = .{ .base = column.ptr, .stride = field.width };
        }
        loader.head.insertMany(number, keys, cells) catch |err| switch (err) {
            error.OutOfMemory => return err,
            else => return loader.wrong("rows of a table break a rule of the schema"),
        };
    }

    /// The entries of one part of a table, which follow each other without a gap, and how many rows they have.
    fn chunksOf(loader: *Loader, kind: Kind, table: u16, field: u16, width: u32, rows_max: u64) failure.Error!struct { []const Entry, u64 } {
        const entries = loader.reader.entries[loader.next..];
        var rows: u64 = 0;
        var n: usize = 0;
        while (n < entries.len) : (n += 1) {
            const entry = &entries[n];
            if (entry.kind != kind or entry.table != table or entry.field != field) break;
            if (entry.first != rows or entry.rows == 0 or entry.rows > rows_max - rows)
                return loader.wrong("the chunks of a table do not follow each other");
            const least = entry.rows * if (kind == .strings) 4 else width;
            if (if (kind == .strings) entry.bytes < least else entry.bytes != least)
                return loader.wrong("a chunk has another length than its rows");
            rows += entry.rows;
            loader.next += 1;
        }
        return .{ entries[0..n], rows };
    }

    fn plain(loader: *Loader, chunks: []const Entry, into: []u8) failure.Error!void {
        var at: usize = 0;
        for (chunks) |*entry| {
            try loader.reader.read(entry, into[at..][0..entry.bytes]);
            at += entry.bytes;
        }
        assert(at == into.len);
    }

    fn texts(loader: *Loader, chunks: []const Entry, bytes_max: u32, into: []u64) failure.Error!void {
        const room = try loader.arena.allocator().alloc(u8, chunk_bytes_max);
        var row: usize = 0;
        for (chunks) |*entry| {
            const content = room[0..entry.bytes];
            try loader.reader.read(entry, content);
            const n: usize = @intCast(entry.rows);
            var at = n * 4;
            for (into[row..][0..n], 0..) |*to, i| {
                const length = get(u32, content, i * 4);
                if (length > content.len - at or length > bytes_max) return loader.wrong("a string is longer than it may be");
                const text = content[at..][0..length];
                if (!Heap.fit(text)) return loader.wrong("a string is no UTF-8");
                to.* = try loader.head.heap.intern(text);
                at += length;
            }
            if (at != content.len) return loader.wrong("a chunk of strings has bytes that belong to none");
            row += n;
        }
    }

    /// The generations of a key space. Who is alive, the keys say.
    fn places(loader: *Loader, space: *entity.Space) failure.Error!void {
        const table = for (loader.head.tables) |*table| {
            if (table.spec.kind != .component and table.space == space) break table;
        } else unreachable;
        const chunks, const n = try loader.chunksOf(.places, table.spec.id, 0, 4, space.limit);
        const gpa = loader.head.gpa;
        const count: usize = @intCast(n);
        space.places.items.len = 0;
        try space.places.ensureTotalCapacity(gpa, count);
        // Every place may be freed: see `Space.ensure`.
        try space.freed.ensureTotalCapacity(gpa, count);
        try space.free.ensureTotalCapacity(gpa, count);
        try space.abandoned.ensureTotalCapacity(gpa, count);
        try loader.plain(chunks, std.mem.sliceAsBytes(space.places.allocatedSlice()[0..count]));
        space.places.items.len = count;
        for (space.places.items) |*place| place.alive = false;
        space.alive_count = 0;
    }

    fn occupy(loader: *Loader, space: *entity.Space, keys: []const u64) failure.Error!void {
        for (keys) |bits| {
            const key = entity.Key.of(bits);
            if (key.index >= space.places.items.len) return loader.wrong("a key has no place");
            const place = &space.places.items[key.index];
            if (place.alive or key.generation == 0 or key.generation > place.generation)
                return loader.wrong("two rows have one place, or a key was never handed out");
            place.* = .{ .generation = @intCast(key.generation), .alive = true };
            space.alive_count += 1;
        }
    }
};
