//! The writer's private state: every table's head, the key spaces, and the log that undoes what the
//! open transaction has done to them.
//!
//! A transaction is applied to the head as it goes, which makes its own writes readable, and undone
//! from the log if it is refused. Nobody else sees the head: readers see published versions only.
//!
//! The undo log is strictly last in, first out, and undoing restores rows to their very places, so
//! an entry may name rows.

const std = @import("std");
const assert = std.debug.assert;
const catalogue = @import("catalogue.zig");
const changes = @import("changes.zig");
const encoded_file = @import("encoded.zig");
const entity = @import("entity.zig");
const events = @import("events.zig");
const failure = @import("failure.zig");
const graph = @import("graph.zig");
const group = @import("group.zig");
const limits = @import("limits.zig");
const memory = @import("memory.zig");
const redo = @import("redo.zig");
const references = @import("references.zig");
const sparse = @import("sparse.zig");
const stamps = @import("stamps.zig");
const Heap = @import("heap.zig").Heap;
const Column = @import("column.zig").Column;
const Table = @import("table.zig").Table;

pub const Undo = enum(u8) { write, insert, remove, reserve, release, occupy, cells, insert_many, lent, swap, members, occupy_many };

/// Follows its payload in the log, so that the log is read backwards.
pub const UndoEntry = extern struct {
    key: u64,
    payload: u64,
    row: u32,
    table: u16,
    field: u16,
    kind: Undo,
    reserved: [7]u8 = @splat(0),

    const bytes = @sizeOf(UndoEntry);
};

/// What an entry of many occupied keys leaves out of its payload; in place of a field.
const Occupied = packed struct(u16) {
    /// Each key is one more than the one before.
    run: bool,
    /// Their places had a generation before.
    used: bool,
    zero: u14 = 0,

    fn of(number: u16) Occupied {
        return @bitCast(number);
    }
    fn bits(said: Occupied) u16 {
        return @bitCast(said);
    }
};

/// The undo log, read from its end.
pub const Log = struct {
    bytes: []const u8,

    pub const Item = struct { entry: UndoEntry, payload: []const u8 };

    pub fn previous(left: *Log) ?Item {
        if (left.bytes.len == 0) return null;
        var at = left.bytes.len - UndoEntry.bytes;
        const entry = std.mem.bytesToValue(UndoEntry, left.bytes[at..]);
        const end = at;
        at -= @intCast(entry.payload);
        defer left.bytes = left.bytes[0..at];
        return .{ .entry = entry, .payload = left.bytes[at..end] };
    }
};

pub const Head = struct {
    gpa: std.mem.Allocator,
    catalogue: catalogue.Catalogue,
    /// The texts of its cells, and of every version's.
    heap: Heap,
    tables: []Table,
    /// One key space per table that owns one; `spaces[0]` is the entities'.
    spaces: []entity.Space,
    /// By table: whether a publication has to look at it. Side by side, since most have not changed.
    noted: []bool,
    /// Keys were freed since the last cut.
    freed: bool = false,
    /// The cut being made: one more than the newest published one.
    open: u64 = 1,
    retired: std.ArrayList(sparse.Retired) = .empty,
    /// In which order the rows of event tables came.
    events: events.Order = .{},
    undo: std.ArrayList(u8) = .empty,
    references: references.References,
    /// What readers find references by, the other way round.
    graph: graph.Graph,
    groups: group.Groups,
    encoded: encoded_file.Encoded,
    in_transaction: bool = false,
    /// The open transaction changed cells that the undo log does not show.
    applied: bool = false,
    /// Columns that are lent to it.
    lent: u32 = 0,
    /// Something was committed since the last version.
    pending: bool = false,
    /// Keys are not handed out here but taken in, from an authority or from a log.
    replica: bool = false,
    /// Its rows come from a peer, who may see more: a row may refer to one that is not there.
    partial: bool = false,
    /// Entities that came into sight and went out of it with the blocks applied last, and live on whether seen or not.
    entered: std.ArrayList(u64) = .empty,
    left: std.ArrayList(u64) = .empty,
    /// Each version is written down (`redo.zig`): the open marks are those of the open version alone.
    logged: bool = false,
    /// Marks of the open cut were put aside.
    has_aside: bool = false,
    /// What the log of the open version takes at most: of transactions that were kept, and of what was undone,
    /// which left its marks.
    kept_bytes: u64 = 0,
    undone_bytes: u64 = 0,
    /// Of a store with lww tables: when this node writes.
    clock: stamps.Clock = .{},
    info: failure.Info = .{},
    /// What refusals found that somebody has still to be told of: texts among it outlive a sweep.
    told: std.ArrayList(u64) = .empty,
    /// Room for one row's cells, as many as the widest table has fields: on the stack it would be
    /// cleared for every row.
    given: []?[*]const u8,
    cells: [][*]const u8,
    /// And for the references of its strings, where an operation brings texts.
    texts: []u64,

    pub const CellError = error{ Range, Enum, Text, BadArgument };

    pub fn init(gpa: std.mem.Allocator, in: *const catalogue.CatalogueIn) (error{ OutOfMemory, BadCatalogue })!Head {
        var heap: Heap = .{ .gpa = gpa };
        errdefer heap.deinit();
        var cat = try catalogue.Catalogue.init(gpa, &heap, in);
        errdefer cat.deinit();
        const spaces = try gpa.alloc(entity.Space, cat.tables.len);
        errdefer gpa.free(spaces);
        const tables = try gpa.alloc(Table, cat.tables.len);
        errdefer gpa.free(tables);
        const noted = try gpa.alloc(bool, cat.tables.len);
        errdefer gpa.free(noted);
        @memset(noted, false);
        var relations = try graph.Graph.init(gpa, &cat);
        errdefer relations.deinit();
        var made: usize = 0;
        errdefer for (tables[0..made]) |*table| table.deinit();
        for (cat.tables, tables, spaces, noted) |*spec, *table, *space, *note| {
            space.* = .{ .limit = if (spec.kind == .entities) in.entities_max else spec.rows_max };
            table.* = try .init(gpa, spec, if (spec.kind == .component) &spaces[0] else space, note, relations.columns[made]);
            made += 1;
        }
        var widest: usize = 0;
        for (cat.tables) |*spec| widest = @max(widest, spec.fields.len);
        const given = try gpa.alloc(?[*]const u8, widest);
        errdefer gpa.free(given);
        const cells = try gpa.alloc([*]const u8, widest);
        errdefer gpa.free(cells);
        const texts = try gpa.alloc(u64, widest);
        errdefer gpa.free(texts);
        var groups = try group.Groups.init(gpa, &cat);
        errdefer groups.deinit(gpa);
        var encoded = try encoded_file.Encoded.init(gpa, &cat);
        errdefer encoded.deinit(gpa);
        return .{
            .gpa = gpa,
            .catalogue = cat,
            .heap = heap,
            .tables = tables,
            .spaces = spaces,
            .noted = noted,
            .references = try .init(gpa, &cat),
            .graph = relations,
            .groups = groups,
            .encoded = encoded,
            .given = given,
            .cells = cells,
            .texts = texts,
        };
    }

    pub fn deinit(head: *Head) void {
        for (head.tables) |*table| table.deinit();
        for (head.spaces) |*space| space.deinit(head.gpa);
        for (head.retired.items) |retired| retired.page.destroy(head.gpa);
        head.gpa.free(head.tables);
        head.gpa.free(head.spaces);
        head.gpa.free(head.noted);
        head.retired.deinit(head.gpa);
        head.events.deinit(head.gpa);
        head.undo.deinit(head.gpa);
        head.references.deinit();
        head.graph.deinit();
        head.groups.deinit(head.gpa);
        head.encoded.deinit(head.gpa);
        head.gpa.free(head.given);
        head.gpa.free(head.cells);
        head.gpa.free(head.texts);
        head.told.deinit(head.gpa);
        head.entered.deinit(head.gpa);
        head.left.deinit(head.gpa);
        head.heap.deinit();
        head.catalogue.deinit();
    }

    pub fn tableIndex(head: *Head, id: u16) error{UnknownTable}!u16 {
        return head.catalogue.tableIndex(id) orelse {
            head.info = .{ .table = id };
            return error.UnknownTable;
        };
    }

    pub fn fieldIndex(head: *Head, table: u16, id: u16) error{UnknownField}!u32 {
        const spec = head.tables[table].spec;
        const found = spec.fieldIndex(id);
        if (found != null and found.? < spec.shown) return found.?;
        head.info = .{ .table = spec.id, .field = id };
        return error.UnknownField;
    }

    // Failing, with where and what.

    pub fn failKey(head: *Head, err: anytype, table: u16, key: u64) @TypeOf(err) {
        head.info = .{ .table = head.tables[table].spec.id, .key = key };
        return err;
    }

    pub fn failCell(head: *Head, err: anytype, table: u16, field: usize, key: u64, found: u64, expected: u64) @TypeOf(err) {
        head.info = .{
            .table = head.tables[table].spec.id,
            .field = head.tables[table].spec.fields[field].id,
            .key = key,
            .found = found,
            .expected = expected,
        };
        return err;
    }

    pub fn checkCell(head: *Head, table: u16, field: usize, key: u64, cell: []const u8) CellError!void {
        const spec = &head.tables[table].spec.fields[field];
        if (spec.type == .string) return head.checkText(table, field, key, std.mem.readInt(u64, cell[0..8], .little));
        const broken = catalogue.checkCell(spec, cell) orelse return;
        return head.failCell(broken.rule, table, field, key, broken.found, broken.expected);
    }

    /// A reference that came from a caller: one of the heap's, to a text that the field may hold.
    fn checkText(head: *Head, table: u16, field: usize, key: u64, reference: u64) error{ Text, BadArgument }!void {
        if (!head.heap.valid(reference)) return head.failCell(error.BadArgument, table, field, key, reference, 0);
        const length = head.heap.get(reference).len;
        const most = head.tables[table].spec.fields[field].count;
        if (length > most) return head.failCell(error.Text, table, field, key, length, most);
    }

    /// Refuse to change or remove rows of an event table: what has happened has happened.
    pub fn demandLasting(head: *Head, table: u16, key: u64) error{EventRow}!void {
        if (head.tables[table].spec.kind == .event) return head.failKey(error.EventRow, table, key);
    }

    /// The row of a living key, or why there is none.
    pub fn rowOf(head: *Head, table: u16, key: u64) error{ StaleKey, NoRow }!u32 {
        const t = &head.tables[table];
        if (t.find(key)) |row| return row;
        if (!t.space.alive(key)) return head.failKey(error.StaleKey, table, key);
        return head.failKey(error.NoRow, table, key);
    }

    // Versions that are made and not published.

    /// The open marks belong to a version that is in the log, whose publication is put off. Those that there is no
    /// memory to put aside go into the log once more, with the next version.
    pub fn putAside(head: *Head) void {
        for (head.tables, head.noted) |*table, noted| if (noted) {
            table.putAside() catch {
                head.undone_bytes +|= redo.markedBytes(head, table);
            };
            head.has_aside = true;
        };
    }

    /// What was put aside is open again, to be published. Without memory some of it is, and the rest stays aside.
    pub fn takeUp(head: *Head) error{OutOfMemory}!void {
        if (!head.has_aside) return;
        for (head.tables, head.noted) |*table, noted| if (noted) try table.takeUp();
        head.has_aside = false;
    }

    /// A version was made of what is in the head: what comes is of the next.
    pub fn endVersion(head: *Head) void {
        head.pending = false;
        if (!head.logged) return;
        head.kept_bytes = 0;
        head.undone_bytes = 0;
        for (head.spaces) |*space| space.spent.items.len = 0;
        for (head.tables) |*table| table.auto_told = table.auto;
    }

    // The undo log.

    pub fn pushUndo(head: *Head, kind: Undo, table: u16, field: usize, row: u32, key: u64, payload: u64) void {
        const entry: UndoEntry = .{
            .key = key,
            .payload = payload,
            .row = row,
            .table = table,
            .field = @intCast(field),
            .kind = kind,
        };
        head.undo.appendSliceAssumeCapacity(std.mem.asBytes(&entry));
    }

    /// Room for `n` entries without a payload.
    pub fn ensureUndoEntries(head: *Head, n: usize) error{OutOfMemory}!void {
        try head.undo.ensureUnusedCapacity(head.gpa, n * UndoEntry.bytes);
    }

    pub fn ensureUndo(head: *Head, payload: usize) error{OutOfMemory}!void {
        try head.undo.ensureUnusedCapacity(head.gpa, payload + UndoEntry.bytes);
    }

    pub fn mark(head: *const Head) usize {
        return head.undo.items.len;
    }

    pub fn log(head: *const Head) Log {
        return .{ .bytes = head.undo.items };
    }

    /// Whether the log has an entry that ends here: a number that `mark` once gave and that still stands.
    pub fn isMark(head: *const Head, place: u64) bool {
        var at = head.undo.items.len;
        while (at > place) {
            at -= UndoEntry.bytes;
            at -= @intCast(std.mem.bytesToValue(UndoEntry, head.undo.items[at..]).payload);
        }
        return at == place;
    }

    /// Undo everything since `mark` was taken.
    pub fn undoTo(head: *Head, to: usize) void {
        while (head.undo.items.len > to) {
            var at = head.undo.items.len - UndoEntry.bytes;
            const entry = std.mem.bytesToValue(UndoEntry, head.undo.items[at..]);
            at -= @intCast(entry.payload);
            const payload = head.undo.items[at..][0..@intCast(entry.payload)];
            const table = &head.tables[entry.table];
            switch (entry.kind) {
                .write => table.writeCell(entry.row, entry.field, payload),
                .insert => {
                    if (table.spec.kind == .event) head.events.undo(entry.table, 1);
                    table.undoInsert();
                },
                .insert_many => {
                    if (table.spec.kind == .event) head.events.undo(entry.table, entry.row);
                    for (0..entry.row) |_| table.undoInsert();
                },
                .remove => table.undoRemove(entry.row, entry.key, payload),
                // The id stays spent: whoever saw it in the failed transaction holds a stale one.
                .reserve => {
                    head.freed = true;
                    var n = payload.len;
                    while (n > 0) : (n -= 8) table.space.abandon(std.mem.readInt(u64, payload[n - 8 ..][0..8], .little));
                },
                .release => table.space.undoRelease(entry.key),
                .occupy => table.space.undoOccupy(entry.key, entry.row),
                .occupy_many => {
                    // The keys, if they are not just one behind the other from the first on; and the generations that
                    // their places had, if they had any.
                    const said = Occupied.of(entry.field);
                    const keys = payload[0..if (said.run) 0 else @as(usize, entry.row) * 8];
                    const before = payload[keys.len..];
                    for (0..entry.row) |i| table.space.undoOccupy(
                        if (said.run) entry.key + i else std.mem.readInt(u64, keys[i * 8 ..][0..8], .little),
                        if (said.used) std.mem.readInt(u32, before[i * 4 ..][0..4], .little) else 0,
                    );
                },
                .cells => {
                    const width = table.columns[entry.field].width;
                    const n = entry.row;
                    const rows = payload[0 .. n * 4];
                    const cells = payload[n * 4 ..];
                    // Backwards: a caller may have named a row twice.
                    var i: usize = n;
                    while (i > 0) {
                        i -= 1;
                        const row = std.mem.readInt(u32, rows[i * 4 ..][0..4], .little);
                        table.writeCell(row, entry.field, cells[i * width ..][0..width]);
                    }
                },
                .lent => {
                    // Settled since, or discarded: then the head is what counts, and has its own entries.
                    const column = &table.columns[entry.field];
                    if (column.scratch.lent) @memcpy(column.lentCell(entry.row), payload);
                },
                .swap => table.swapRows(entry.row, @intCast(entry.key)),
                .members => group.undoMembers(head, entry.table, entry.row),
            }
            // What is undone has left its marks, and is logged as it is now.
            if (head.logged) head.undone_bytes +|= redo.entryBytes(head, &entry, payload, .undone);
            head.undo.items.len = at;
        }
        assert(head.undo.items.len == to);
    }

    // Operations. Each is whole or has changed nothing.

    pub fn reserve(head: *Head, table: u16, n: usize, keys: []u64) failure.Error!void {
        const t = &head.tables[table];
        assert(keys.len == n);
        if (t.spec.kind == .component) return head.failKey(error.BadArgument, table, 0);
        t.space.ensure(head.gpa, n) catch |err| return head.failKey(@as(failure.Error, err), table, 0);
        try head.ensureUndo(n * 8);
        for (keys) |*key| key.* = t.space.reserve();
        head.undo.appendSliceAssumeCapacity(std.mem.sliceAsBytes(keys));
        head.pushUndo(.reserve, table, 0, 0, 0, n * 8);
    }

    /// Take in a key that the authority handed out.
    pub fn occupy(head: *Head, table: u16, key: u64) failure.Error!void {
        try head.ensureUndo(0);
        const before = head.tables[table].space.occupy(head.gpa, key) catch |err|
            return head.failKey(@as(failure.Error, err), table, key);
        head.pushUndo(.occupy, table, 0, before, key, 0);
    }

    /// Take in many keys that the authority handed out, whose indices ascend and are free.
    pub fn occupyMany(head: *Head, table: u16, keys: []const u64) failure.Error!void {
        const space = &head.spaces[table];
        assert(head.tables[table].space == space);
        space.ensureOccupy(head.gpa, keys) catch |err| return head.failKey(@as(failure.Error, err), table, keys[0]);
        // Most places of a replica were never anybody's.
        const used = for (keys) |key| {
            if (space.places.items[entity.Key.of(key).index].generation != 0) break true;
        } else false;
        const run = for (keys, 0..) |key, i| {
            if (key != keys[0] + i) break false;
        } else true;
        const payload = keys.len * (@as(usize, if (run) 0 else 8) + @as(usize, if (used) 4 else 0));
        try memory.reserve(u8, head.gpa, &head.undo, head.undo.items.len + payload + UndoEntry.bytes);
        if (!run) head.undo.appendSliceAssumeCapacity(std.mem.sliceAsBytes(keys));
        if (used) for (keys) |key| {
            const before: u32 = space.places.items[entity.Key.of(key).index].generation;
            head.undo.appendSliceAssumeCapacity(std.mem.asBytes(&before));
        };
        const said: Occupied = .{ .run = run, .used = used };
        head.pushUndo(.occupy_many, table, said.bits(), @intCast(keys.len), keys[0], payload);
        space.occupyMany(keys);
    }

    /// Insert a row for a living key. `given[f]` is the cell of field f, or null for its default.
    pub fn insert(head: *Head, table: u16, key: u64, given: []const ?[*]const u8) failure.Error!void {
        const t = &head.tables[table];
        assert(given.len == t.spec.fields.len);
        if (!t.space.alive(key)) return head.failKey(error.StaleKey, table, key);
        if (t.find(key) != null) return head.failKey(error.RowExists, table, key);
        assert(t.findIndex(entity.Key.of(key).index) == null);

        const cells = head.cells;
        var auto: u64 = undefined;
        for (t.spec.fields, 0..) |*field, f| {
            if (given[f]) |cell| {
                try head.checkCell(table, f, key, cell[0..field.width]);
                cells[f] = cell;
            } else if (field.auto) {
                try head.checkAuto(table, f, key, 1);
                auto = t.auto + 1;
                cells[f] = @ptrCast(&auto);
            } else if (field.default) |default| {
                cells[f] = default.ptr;
            } else {
                return head.failCell(error.Required, table, f, key, 0, 0);
            }
        }
        t.ensureRows(1) catch |err| return head.failKey(@as(failure.Error, err), table, key);
        t.note();
        try t.index.ensure(head.gpa, entity.Key.of(key).index, head.open, &head.retired);
        try head.ensureUndo(0);
        const touched = head.references.touched.items.len;
        try head.references.touchRows(t.spec, table, &.{key});
        if (t.spec.kind == .event) try head.events.ensure(head.gpa);
        const from = head.mark();
        t.insertRow(key, cells[0..t.spec.fields.len]);
        if (t.spec.kind == .event) events.came(head, table, 1, touched);
        noteAuto(t, t.rows - 1);
        head.pushUndo(.insert, table, 0, t.rows - 1, key, 0);
        errdefer head.undoTo(from);
        try group.admit(head, table, &.{key});
    }

    /// Refuse `n` more numbers of a counter that the field has no room for.
    fn checkAuto(head: *Head, table: u16, f: usize, key: u64, n: u32) CellError!void {
        const t = &head.tables[table];
        const field = &t.spec.fields[f];
        const highest = field.autoMax();
        if (n > highest -| t.auto) return head.failCell(error.Range, table, f, key, t.auto +| n, highest);
        if (!field.constrained()) return;
        // They ascend, so the first and the last speak for all.
        for ([_]u64{ t.auto + 1, t.auto + n }) |number| try head.checkCell(table, f, key, std.mem.asBytes(&number)[0..field.width]);
    }

    /// A counter is above every value its field ever held, whoever chose it.
    pub fn noteAuto(t: *Table, row: u32) void {
        if (!t.has_auto) return;
        for (t.spec.fields, t.columns) |*field, *column| {
            if (!field.auto) continue;
            const number = references.firstWord(column.cell(row));
            // Above the highest is below zero.
            if (number <= field.autoMax()) t.auto = @max(t.auto, number);
        }
    }

    pub fn writeCell(head: *Head, table: u16, row: u32, field: usize, key: u64, cell: []const u8) error{OutOfMemory}!void {
        const t = &head.tables[table];
        const old = t.columns[field].cell(row);
        if (std.mem.eql(u8, old, cell)) return;
        try head.ensureUndo(cell.len);
        const spec = &t.spec.fields[field];
        if (spec.indexed()) {
            try t.ensureWrite(field);
            try head.references.touch(t.spec, table, field, key);
            if (spec.referred) try head.references.lose(table, @intCast(field), old);
        }
        head.undo.appendSliceAssumeCapacity(old);
        head.pushUndo(.write, table, field, row, key, old.len);
        t.writeCell(row, field, cell);
        if (spec.auto) noteAuto(t, row);
    }

    /// Overwrite one cell of a lent column, where its table's newest cells are until they are settled.
    pub fn writeLent(head: *Head, table: u16, row: u32, field: usize, cell: []const u8) error{OutOfMemory}!void {
        const column = &head.tables[table].columns[field];
        assert(column.scratch.lent);
        try head.ensureUndo(cell.len);
        head.undo.appendSliceAssumeCapacity(column.lentCell(row));
        head.pushUndo(.lent, table, field, row, 0, cell.len);
        @memcpy(column.lentCell(row), cell);
    }

    /// Delete a row, or an entity with all of its rows, and settle references to it as declared.
    pub fn delete(head: *Head, table: u16, key: u64) failure.Error!void {
        return references.delete(head, table, key);
    }

    pub fn removeRow(head: *Head, table: u16, at: u32) error{OutOfMemory}!void {
        const t = &head.tables[table];
        const from = head.mark();
        errdefer head.undoTo(from);
        const row = try group.dismiss(head, table, at);
        const key = t.keyAt(row);
        const bytes = t.rowBytes();
        try head.ensureUndo(bytes);
        try t.ensureRemove(row, head.open, &head.retired);
        for (t.columns) |*column| head.undo.appendSliceAssumeCapacity(column.cell(row));
        head.pushUndo(.remove, table, 0, row, key, bytes);
        t.removeRow(row);
    }

    pub fn releaseKey(head: *Head, table: u16, key: u64) error{OutOfMemory}!void {
        try head.ensureUndo(0);
        head.freed = true;
        head.tables[table].space.release(key);
        head.pushUndo(.release, table, 0, 0, key, 0);
    }

    /// Change cells of many rows in one column. `cells` holds them in the order of `rows`, or one
    /// cell for all. They were checked already, and the field is in no index.
    pub fn writeCells(
        head: *Head,
        table: u16,
        field: usize,
        rows: []const u32,
        cells: [*]const u8,
        stride: usize,
    ) error{OutOfMemory}!u32 {
        const t = &head.tables[table];
        const column = &t.columns[field];
        const width = column.width;
        assert(!t.spec.fields[field].indexed());
        t.note();
        const from = head.undo.items.len;
        const key_bytes: usize = if (t.namesRows()) 8 else 0;
        try head.ensureUndo(rows.len * (4 + width + key_bytes));
        // Rows first, then their old cells: written in place, trimmed to what really changed.
        const area = head.undo.allocatedSlice()[from..];
        const old = area[rows.len * 4 ..];
        column.dirty.expect(head.gpa, @intCast(rows.len), t.rows);
        const n = switch (width) {
            inline 1, 2, 4, 8 => |fixed| writeFixed(fixed, head.gpa, column, t.rows, rows, cells, stride, area, old),
            else => writeAny(head.gpa, column, t.rows, rows, cells, stride, area, old),
        };
        if (n == 0) return 0;
        if (n < rows.len) @memmove(area[n * 4 ..][0 .. n * width], old[0 .. n * width]);
        column.writes += 1;
        head.undo.items.len = from + n * (4 + width);
        // Rows may move before the transaction ends; who follows the changes needs to know whose cells these were.
        if (t.namesRows()) for (0..n) |i| {
            const row = std.mem.readInt(u32, area[i * 4 ..][0..4], .little);
            head.undo.appendSliceAssumeCapacity(std.mem.asBytes(&t.keyAt(row)));
        };
        head.pushUndo(.cells, table, field, n, 0, n * (4 + width + key_bytes));
        if (t.spec.fields[field].auto) for (rows) |row| noteAuto(t, row);
        return n;
    }

    /// Note the cells of `rows` as they are, so that a caller may overwrite them in its own way.
    pub fn saveCells(head: *Head, table: u16, field: usize, bitmap: []const u64) error{OutOfMemory}!void {
        const t = &head.tables[table];
        const column = &t.columns[field];
        const key_bytes: usize = if (t.namesRows()) 8 else 0;
        var n: usize = 0;
        for (bitmap) |word| n += @popCount(word);
        if (n == 0) return;
        try head.ensureUndo(n * (4 + column.width + key_bytes));
        for (bitmap, 0..) |word, w| {
            var left = word;
            while (left != 0) : (left &= left - 1) {
                const row: u32 = @intCast(w * 64 + @ctz(left));
                head.undo.appendSliceAssumeCapacity(std.mem.asBytes(&std.mem.nativeToLittle(u32, row)));
            }
        }
        for (bitmap, 0..) |word, w| {
            var left = word;
            while (left != 0) : (left &= left - 1) {
                head.undo.appendSliceAssumeCapacity(column.cell(@intCast(w * 64 + @ctz(left))));
            }
        }
        if (t.namesRows()) for (bitmap, 0..) |word, w| {
            var left = word;
            while (left != 0) : (left &= left - 1) {
                head.undo.appendSliceAssumeCapacity(std.mem.asBytes(&t.keyAt(@intCast(w * 64 + @ctz(left)))));
            }
        };
        head.pushUndo(.cells, table, field, @intCast(n), 0, n * (4 + column.width + key_bytes));
    }

    /// Insert many rows at once: keys alive and without a row. `cells[f]` is null for the default;
    /// its stride is 0 for one cell for all.
    pub fn insertMany(head: *Head, table: u16, keys: []const u64, cells: []const ?Strided) failure.Error!void {
        return head.insertAll(.asked, table, keys, cells);
    }

    /// The same of keys that are known to be alive, without a row, and ascending by index (`newcomers.zig`).
    pub fn insertKnown(head: *Head, table: u16, keys: []const u64, cells: []const ?Strided) failure.Error!void {
        return head.insertAll(.known, table, keys, cells);
    }

    fn insertAll(
        head: *Head,
        comptime how: enum { asked, known },
        table: u16,
        keys: []const u64,
        cells: []const ?Strided,
    ) failure.Error!void {
        const t = &head.tables[table];
        assert(cells.len == t.spec.fields.len);
        if (keys.len == 0) return;
        if (keys.len > limits.rows_max) return head.failKey(error.Limit, table, 0);
        const n: u32 = @intCast(keys.len);
        for (t.spec.fields, cells, 0..) |*field, from, f| {
            const given = from orelse {
                if (field.auto) {
                    try head.checkAuto(table, f, keys[0], n);
                    continue;
                }
                if (field.default == null) return head.failCell(error.Required, table, f, keys[0], 0, 0);
                continue;
            };
            if (!field.constrained() or given.hidden) continue;
            const checks: u32 = if (given.stride == 0) 1 else n;
            if (given.stride == field.width and catalogue.keepAll(field, given.base[0 .. @as(usize, n) * field.width])) continue;
            for (0..checks) |i| {
                head.checkCell(table, f, keys[i], given.at(i)[0..field.width]) catch |err| {
                    head.info.offset = i;
                    return err;
                };
            }
        }
        const before = head.mark();
        t.ensureRows(n) catch |err| return head.failKey(@as(failure.Error, err), table, keys[0]);
        try head.ensureUndo(if (t.namesRows()) keys.len * 8 else 0);
        const touched = head.references.touched.items.len;
        try head.references.touchRows(t.spec, table, keys);
        if (t.spec.kind == .event) try head.events.ensure(head.gpa);
        t.note();
        const first = t.rows;
        var placed: u32 = 0;
        errdefer for (keys[0..placed]) |key| t.index.remove(entity.Key.of(key).index);
        while (placed < n) {
            const run = if (how == .known) runOf(keys[placed..]) else freshRun(t, keys[placed..]);
            const start = entity.Key.of(keys[placed]).index;
            if (run > 1 and try t.index.insertRun(head.gpa, start, first + placed, run, head.open, &head.retired)) {
                placed += run;
                continue;
            }
            for (keys[placed..][0..@max(1, run)]) |key| {
                const index = entity.Key.of(key).index;
                if (how == .asked) {
                    if (!t.space.alive(key)) return head.failKey(error.StaleKey, table, key);
                    if (t.findIndex(index) != null) return head.failKey(error.RowExists, table, key);
                }
                try t.index.ensure(head.gpa, index, head.open, &head.retired);
                t.index.insert(index, first + placed);
                placed += 1;
            }
        }
        // Nothing can fail from here on.
        for (t.spec.fields, t.columns, cells) |*field, *column, from| {
            const width = column.width;
            const to = column.head[@as(usize, first) * width ..][0 .. @as(usize, n) * width];
            if (from) |given| {
                if (given.stride == width) {
                    @memcpy(to, given.at(0)[0..to.len]);
                } else if (given.stride == 0) {
                    fill(to, given.base[0..width]);
                } else for (0..n) |i| @memcpy(to[i * width ..][0..width], given.at(i)[0..width]);
            } else if (field.auto) {
                for (0..n) |i| {
                    t.auto += 1;
                    @memcpy(to[i * width ..][0..width], std.mem.asBytes(&t.auto)[0..width]);
                }
            } else fill(to, field.default.?[0..width]);
        }
        t.finishBulk(keys);
        if (t.spec.kind == .event) events.came(head, table, n, touched);
        if (t.has_auto) for (first..first + n) |row| noteAuto(t, @intCast(row));
        if (t.namesRows()) head.undo.appendSliceAssumeCapacity(std.mem.sliceAsBytes(keys));
        head.pushUndo(.insert_many, table, 0, n, first, if (t.namesRows()) keys.len * 8 else 0);
        // Behind the insertion, which undoes itself: the placed keys are no longer this function's to take back.
        group.admit(head, table, keys) catch |err| {
            head.undoTo(before);
            placed = 0;
            return err;
        };
    }

    /// How many of the first keys are alive, of consecutive indices, and in one page.
    fn freshRun(t: *const Table, keys: []const u64) u32 {
        const first = entity.Key.of(keys[0]).index;
        const room = limits.page_entities - first % limits.page_entities;
        var n: u32 = 0;
        for (keys[0..@min(keys.len, room)]) |key| {
            if (entity.Key.of(key).index != first + n or !t.space.alive(key)) break;
            n += 1;
        }
        return n;
    }

    // Ending.

    /// Check what a transaction as a whole must keep.
    pub fn checkDeferred(head: *Head) references.Refused!void {
        return references.check(head);
    }

    pub fn begin(head: *Head) error{ InTransaction, OutOfMemory }!void {
        if (head.in_transaction) return error.InTransaction;
        // Their version was made; what is begun now belongs to the next.
        if (!head.pending) try events.clear(head);
        assert(head.undo.items.len == 0);
        head.in_transaction = true;
        head.applied = false;
        head.clock.merging = false;
    }

    /// Keep what was done. Deferred checks have passed.
    pub fn keep(head: *Head) void {
        assert(head.in_transaction);
        if (head.undo.items.len > 0 or head.applied) head.pending = true;
        head.endTransaction();
    }

    pub fn rollback(head: *Head) void {
        assert(head.in_transaction);
        head.undoTo(0);
        head.endTransaction();
    }

    fn endTransaction(head: *Head) void {
        const used = head.undo.items.len;
        // Lengths, not `clearRetainingCapacity`, which overwrites what it clears.
        head.undo.items.len = 0;
        // A bulk load's log is kept for the next one, not for a life of small transactions.
        const capacity = head.undo.capacity;
        if (capacity > 16 << 20 or (capacity > 1 << 20 and used < capacity / 8)) head.undo.clearAndFree(head.gpa);
        head.references.forget();
        head.in_transaction = false;
    }
};

/// How many of the first keys are of one generation, of consecutive indices, and in one page.
fn runOf(keys: []const u64) u32 {
    const room = limits.page_entities - entity.Key.of(keys[0]).index % limits.page_entities;
    const some = keys[0..@min(keys.len, room)];
    // An index of a page does not run over into the generation.
    for (some, 0..) |key, i| if (key != keys[0] + i) return @intCast(i);
    return @intCast(some.len);
}

/// One cell over and over: what is there is doubled until all is.
fn fill(to: []u8, cell: []const u8) void {
    @memcpy(to[0..cell.len], cell);
    var done = cell.len;
    while (done < to.len) {
        const more = @min(done, to.len - done);
        @memcpy(to[done..][0..more], to[0..more]);
        done += more;
    }
}

/// Write cells of a width known to the compiler; note rows and old cells of those that differ.
fn writeFixed(
    comptime width: u32,
    gpa: std.mem.Allocator,
    column: *Column,
    table_rows: u32,
    rows: []const u32,
    cells: [*]const u8,
    stride: usize,
    area: []u8,
    old: []u8,
) u32 {
    const Cell = std.meta.Int(.unsigned, width * 8);
    var n: u32 = 0;
    for (rows, 0..) |row, i| {
        assert(row < table_rows);
        const at = @as(usize, row) * width;
        const before: Cell = @bitCast(column.head[at..][0..width].*);
        const fresh: Cell = @bitCast(cells[i * stride ..][0..width].*);
        if (before == fresh) continue;
        std.mem.writeInt(u32, area[n * 4 ..][0..4], row, .little);
        old[n * width ..][0..width].* = @bitCast(before);
        column.head[at..][0..width].* = @bitCast(fresh);
        column.dirty.mark(gpa, row, table_rows);
        n += 1;
    }
    return n;
}

fn writeAny(
    gpa: std.mem.Allocator,
    column: *Column,
    table_rows: u32,
    rows: []const u32,
    cells: [*]const u8,
    stride: usize,
    area: []u8,
    old: []u8,
) u32 {
    const width = column.width;
    var n: u32 = 0;
    for (rows, 0..) |row, i| {
        const cell = column.cell(row);
        const fresh = cells[i * stride ..][0..width];
        if (std.mem.eql(u8, cell, fresh)) continue;
        std.mem.writeInt(u32, area[n * 4 ..][0..4], row, .little);
        @memcpy(old[n * width ..][0..width], cell);
        @memcpy(cell, fresh);
        column.dirty.mark(gpa, row, table_rows);
        n += 1;
    }
    return n;
}

/// Cells in a caller's memory, `stride` bytes apart.
pub const Strided = struct {
    base: [*]const u8,
    stride: usize,
    /// Zeros in place of what may not be seen: no rule is about them.
    hidden: bool = false,

    pub inline fn at(self: Strided, i: usize) [*]const u8 {
        return self.base + i * self.stride;
    }
};
