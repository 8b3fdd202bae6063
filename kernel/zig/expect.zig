//! Has a row changed since a version? What a writer asks who decided on something it read a while ago.
//!
//! Where that version is still in memory, the row's cells are compared with it: an exact answer. Otherwise the change
//! sets since then answer. They are a superset (a row that a deletion moved counts as changed), so "no" is always right
//! and "yes" may be wrong; a caller who is told "yes" reads again and decides anew.
//!
//! What the open transaction itself has written counts as a change: ask before writing.

const std = @import("std");
const changes = @import("changes.zig");
const Head = @import("head.zig").Head;
const view = @import("view.zig");

/// `HistoryGone` where neither the version nor the change sets since it are in memory.
pub fn changedSince(head: *Head, views: *const view.Views, table: u16, key: u64, version: u64) error{HistoryGone}!bool {
    for (&views.slots) |*slot| {
        if (slot.state != .free and slot.version == version and slot.tables.len > 0)
            return differs(head, slot.tables[table], table, key);
    }
    const t = &head.tables[table];
    const row = t.find(key) orelse return true;
    for ([_][]const u64{ t.inserted.items, t.inserted_aside.items }) |keys| if (std.mem.indexOfScalar(u64, keys, key) != null) return true;
    for (t.columns[0..t.spec.shown]) |*column| if (column.dirty.contains(row) or column.aside.contains(row)) return true;
    var next = views.newest;
    while (next) |set| {
        if (set.version <= version) return false;
        if (set.of(table)) |of| {
            if (std.mem.indexOfScalar(u64, of.inserted, key) != null) return true;
            for (of.columns[0..t.spec.shown]) |*dirty| if (dirty.contains(row)) return true;
        }
        if (set.version_before <= version) return false;
        next = if (set.cut > views.oldest_cut) set.prev else null;
    }
    return error.HistoryGone;
}

fn differs(head: *Head, before: *const view.TableView, table: u16, key: u64) bool {
    const t = &head.tables[table];
    const row_now = t.find(key);
    const row_then = before.find(key);
    if (row_now == null or row_then == null) return (row_now == null) != (row_then == null);
    for (t.columns[0..t.spec.shown], before.columns[0..t.spec.shown]) |*column, buffer| {
        const then = buffer.data[@as(usize, row_then.?) * column.width ..][0..column.width];
        if (!std.mem.eql(u8, column.cell(row_now.?), then)) return true;
    }
    return false;
}
