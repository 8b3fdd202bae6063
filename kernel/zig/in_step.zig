//! Links that keep up, which in a game are nearly all of them in nearly all ticks: what a tick does with each, done for all
//! in one loop. A row is what `Link` and `Window` (`ecsnet/authority`) know of one link while nothing happens to it but
//! deltas and acks; whatever else happens to a link, it is taken out first, and goes on there.
//!
//! Invariants:
//! - a row that goes through this file ends as the same link would have in Python (a property test compares them); what
//!   is not ordinary is left as it was, and named to the caller;
//! - versions in `sent` grow strictly; `acked` is older than all of them; nothing here reads a clock or calls a system.

const std = @import("std");
const frame = @import("frame.zig");
const hub = @import("hub.zig");
const Arrived = hub.Arrived;
const Entry = hub.Entry;

/// As many deltas may be under way to one link (`UNACKED_VERSIONS_MAX`).
pub const sent_max = 64;
pub const none: i64 = -1;

pub const Limits = extern struct {
    unacked_bytes_max: i64,
    unacked_bytes_min: i64,
    unacked_ns_max: i64,
    queue_ns: i64,
    fastest_for_ns: i64,
    blocked_ns_max: i64,
};

pub const Sent = extern struct { version: u64, at_ns: i64, length: i64 };

pub const Row = extern struct {
    /// 0: nobody's.
    place: u64,
    session: u64,
    entity: u64,
    base: u64,
    acked: u64,
    newest: u64,
    shrunk_at: u64,
    /// `none` before the first ack.
    lag_ns: i64,
    bytes: i64,
    fullest: i64,
    bytes_max: i64,
    overdue_ns: i64,
    fastest_ns: i64,
    fastest_next_ns: i64,
    fastest_since_ns: i64,
    progress_ns: i64,
    /// `none` while it takes what it is offered.
    blocked_since_ns: i64,
    digest_window: i64,
    /// Messages of event rows: the next that is to be told.
    event_next: i64,
    /// When it has been silent for too long, and how long that is.
    deadline_ns: i64,
    silence_ns: i64,
    /// When the last ack was taken here.
    heard_ns: i64,
    deltas_sent: u64,
    bytes_sent: u64,
    acks: u64,
    epoch: u32,
    command_ack: u32,
    /// Links of one group that hold the same are sent the same.
    group: u32,
    first: u32,
    count: u32,
    reserved: u32 = 0,
    sent: [sent_max]Sent,

    fn at(row: *Row, index: usize) *Sent {
        return &row.sent[(row.first + index) % sent_max];
    }

    fn hasRoom(row: *Row, now_ns: i64, limits: *const Limits) bool {
        if (row.count >= sent_max) return false;
        if (row.bytes <= row.bytes_max) return true;
        return row.bytes_max == limits.unacked_bytes_max and now_ns - row.at(0).at_ns <= row.overdue_ns;
    }

    fn recordDelta(row: *Row, version: u64, length: i64, now_ns: i64) void {
        if (row.count == 0) row.progress_ns = now_ns;
        row.at(row.count).* = .{ .version = version, .at_ns = now_ns, .length = length };
        row.count += 1;
        row.newest = version;
        row.bytes += length;
        row.fullest = @max(row.fullest, row.bytes);
        row.blocked_since_ns = none;
        row.bytes_sent += @intCast(length);
        row.deltas_sent += 1;
        row.base = version;
    }

    /// False, and nothing has happened, where it is no ordinary ack.
    fn takeAck(row: *Row, ack: *const Arrived, now_ns: i64, limits: *const Limits) bool {
        if (ack.session != row.session or ack.epoch != row.epoch) return false;
        if (ack.chunks != 0 and ack.version == row.newest) return false;
        // More than one at a time is worth a look at its rate.
        if (row.heard_ns == now_ns) return false;
        if (ack.version > row.acked) {
            var found: usize = 0;
            while (found < row.count and row.at(found).version != ack.version) found += 1;
            if (found == row.count) return false;
            for (0..found + 1) |index| {
                const one = row.at(index);
                row.bytes -= one.length;
                row.lag_ns = now_ns - one.at_ns;
            }
            row.first = @intCast((row.first + found + 1) % sent_max);
            row.count -= @intCast(found + 1);
            row.acked = ack.version;
            row.learn(now_ns, limits);
            row.progress_ns = now_ns;
        }
        row.heard_ns = now_ns;
        row.deadline_ns = now_ns + row.silence_ns;
        row.acks += 1;
        return true;
    }

    /// What an ack tells of the line; `Window._learn` says why.
    fn learn(row: *Row, now_ns: i64, limits: *const Limits) void {
        if (now_ns - row.fastest_since_ns > limits.fastest_for_ns) {
            row.fastest_ns = row.fastest_next_ns;
            row.fastest_next_ns = limits.blocked_ns_max;
            row.fastest_since_ns = now_ns;
        }
        row.fastest_next_ns = @min(row.fastest_next_ns, row.lag_ns);
        row.fastest_ns = @min(row.fastest_ns, row.lag_ns);
        const half_more = @max(limits.unacked_ns_max, @divFloor(row.fastest_ns * 3, 2));
        const queued_ns = @min(2 * row.fastest_ns, half_more) + limits.queue_ns;
        row.overdue_ns = @min(limits.unacked_ns_max, queued_ns);
        if (row.lag_ns <= queued_ns) {
            if (row.fullest * 2 > row.bytes_max) {
                row.bytes_max = @min(limits.unacked_bytes_max, row.bytes_max + @divFloor(row.bytes_max, 8));
                row.fullest = row.bytes;
            }
        } else if (row.acked > row.shrunk_at) {
            row.bytes_max = @max(limits.unacked_bytes_min, @divFloor(row.bytes_max * 3, 4));
            row.shrunk_at = row.newest;
        }
    }

    fn wantsALook(row: *const Row, now_ns: i64, limits: *const Limits) bool {
        if (row.deadline_ns <= now_ns) return true;
        if (row.blocked_since_ns != none and now_ns - row.blocked_since_ns > limits.blocked_ns_max) return true;
        return row.count > 0 and now_ns - row.progress_ns > limits.blocked_ns_max;
    }
};

/// Deltas of one kind: all links of a group that hold `base` are sent the same, with a digest or without.
pub const Kind = extern struct { base: u64, group: u32, wants_digest: u32 };

pub const Tick = extern struct {
    version: u64,
    now_ns: i64,
    digest_window: i64,
    events_end: i64,
};

/// An entry for each row that has room and holds less than the tick's version, of one of `kinds`, of which the first
/// `kind_count` come out filled: `block` is the number of its kind. `row_of` says whose each entry is. Rows that are to be
/// told of events, or whose kind has no room in `kinds`, are named in `odd` instead.
///
/// How many entries, and how many odd ones.
pub fn choose(
    rows: []Row,
    tick: *const Tick,
    limits: *const Limits,
    entries: []Entry,
    row_of: []u32,
    kinds: []Kind,
    kind_count: *u32,
    odd: []u32,
) [2]u32 {
    var count: u32 = 0;
    var odd_count: u32 = 0;
    kind_count.* = 0;
    var last: u32 = 0;
    for (rows, 0..) |*row, number| {
        if (row.place == 0 or row.base >= tick.version or !row.hasRoom(tick.now_ns, limits)) continue;
        const kind: Kind = .{
            .base = row.base,
            .group = row.group,
            .wants_digest = @intFromBool(row.digest_window != tick.digest_window),
        };
        if (last >= kind_count.* or !same(&kinds[last], &kind)) {
            last = 0;
            while (last < kind_count.* and !same(&kinds[last], &kind)) last += 1;
        }
        if (row.event_next < tick.events_end or last == kinds.len) {
            odd[odd_count] = @intCast(number);
            odd_count += 1;
            last = 0;
            continue;
        }
        if (last == kind_count.*) {
            kinds[last] = kind;
            kind_count.* += 1;
        }
        entries[count] = .{
            .place = row.place,
            .session = row.session,
            .entity = row.entity,
            .base = row.base,
            .digest_low = 0,
            .digest_high = 0,
            .command_ack = row.command_ack,
            .flags = 0,
            .block = last,
            .offset = 0,
            .length = 0,
            .before = 0,
        };
        row_of[count] = @intCast(number);
        count += 1;
    }
    return .{ count, odd_count };
}

fn same(one: *const Kind, other: *const Kind) bool {
    return one.base == other.base and one.group == other.group and one.wants_digest == other.wants_digest;
}

/// What came of entries: how many bytes of each were taken, as `Hub.sendDeltas` says it.
pub fn record(rows: []Row, tick: *const Tick, entries: []const Entry, row_of: []const u32, taken: []const i32) void {
    for (entries, row_of, taken) |*entry, number, count| {
        const row = &rows[number];
        if (count < 0) continue;
        if (count == 0) {
            if (row.blocked_since_ns == none) row.blocked_since_ns = tick.now_ns;
            continue;
        }
        const length = frame.headBytes(frame.DeltaSync) + entry.length + frame.paddingBytes(entry.length);
        row.recordDelta(tick.version, @intCast(length), tick.now_ns);
        if (entry.digest_low | entry.digest_high != 0) row.digest_window = tick.digest_window;
    }
}

pub const Index = extern struct { place: u64, row: u64 };

/// Take acks, each for the row that `index` (in the order of places) has for its place. Those that are not ordinary, or
/// have no row, are named in `odd`; how many.
pub fn takeAcks(
    rows: []Row,
    index: []const Index,
    acks: []const Arrived,
    now_ns: i64,
    limits: *const Limits,
    odd: []u32,
) u32 {
    var count: u32 = 0;
    var hint: usize = 0;
    for (acks, 0..) |*ack, number| {
        const found = find(index, ack.place, hint);
        if (found) |at| {
            hint = at + 1;
            if (rows[@intCast(index[at].row)].takeAck(ack, now_ns, limits)) continue;
        }
        odd[count] = @intCast(number);
        count += 1;
    }
    return count;
}

fn find(index: []const Index, place: u64, hint: usize) ?usize {
    if (hint < index.len and index[hint].place == place) return hint;
    var low: usize = 0;
    var high = index.len;
    while (low < high) {
        const middle = low + (high - low) / 2;
        if (index[middle].place < place) low = middle + 1 else high = middle;
    }
    return if (low < index.len and index[low].place == place) low else null;
}

/// Rows whose clients have been silent, took nothing or acked nothing for too long; how many.
pub fn slow(rows: []const Row, now_ns: i64, limits: *const Limits, odd: []u32) u32 {
    var count: u32 = 0;
    for (rows, 0..) |*row, number| {
        if (row.place == 0 or !row.wantsALook(now_ns, limits)) continue;
        odd[count] = @intCast(number);
        count += 1;
    }
    return count;
}

// --- tests ------------------------------------------------------------------------------------------------------------

const test_limits: Limits = .{
    .unacked_bytes_max = 4096,
    .unacked_bytes_min = 512,
    .unacked_ns_max = 500,
    .queue_ns = 200,
    .fastest_for_ns = 30_000,
    .blocked_ns_max = 10_000,
};

fn testRow(place: u64) Row {
    var row = std.mem.zeroes(Row);
    row.place = place;
    row.session = place + 100;
    row.base = 1;
    row.acked = 1;
    row.newest = 1;
    row.lag_ns = none;
    row.blocked_since_ns = none;
    row.bytes_max = 4096;
    row.overdue_ns = 500;
    row.fastest_ns = 10_000;
    row.fastest_next_ns = 10_000;
    row.deadline_ns = 1 << 40;
    row.silence_ns = 1 << 40;
    row.heard_ns = none;
    return row;
}

test "rows that hold the same are of one kind, and what was refused is chosen again" {
    var rows = [_]Row{ testRow(1), testRow(2), testRow(3), testRow(4) };
    rows[1].place = 0;
    rows[3].base = 2;
    const tick: Tick = .{ .version = 5, .now_ns = 10, .digest_window = 0, .events_end = 0 };
    var entries: [4]Entry = undefined;
    var row_of: [4]u32 = undefined;
    var odd: [4]u32 = undefined;
    var kinds: [4]Kind = undefined;
    var kind_count: u32 = 0;
    const first = choose(&rows, &tick, &test_limits, &entries, &row_of, &kinds, &kind_count, &odd);
    try std.testing.expectEqual([2]u32{ 3, 0 }, first);
    try std.testing.expectEqual(2, kind_count);
    try std.testing.expectEqual(entries[0].block, entries[1].block);
    try std.testing.expect(entries[2].block != entries[0].block);
    for (entries[0..3]) |*entry| entry.length = 8;
    record(&rows, &tick, entries[0..3], row_of[0..3], &.{ 120, 0, -32 });
    try std.testing.expectEqual(5, rows[0].base);
    try std.testing.expectEqual(120, rows[0].bytes);
    try std.testing.expectEqual(10, rows[2].blocked_since_ns);
    try std.testing.expectEqual(1, rows[2].base);
    try std.testing.expectEqual(none, rows[3].blocked_since_ns);
    const second = choose(&rows, &tick, &test_limits, &entries, &row_of, &kinds, &kind_count, &odd);
    try std.testing.expectEqual([2]u32{ 2, 0 }, second);

    // Events to be told of, and more kinds than there is room for, are somebody else's.
    rows[0].event_next = 3;
    const third = choose(&rows, &.{ .version = 6, .now_ns = 11, .digest_window = 0, .events_end = 3 }, &test_limits, &entries, &row_of, &kinds, &kind_count, &odd);
    try std.testing.expectEqual([2]u32{ 1, 2 }, third);
    const fourth = choose(&rows, &.{ .version = 6, .now_ns = 11, .digest_window = 0, .events_end = 0 }, &test_limits, &entries, &row_of, kinds[0..1], &kind_count, &odd);
    try std.testing.expectEqual([2]u32{ 1, 2 }, fourth);
}

test "an ack moves its row, and one that is not ordinary moves nothing" {
    var rows = [_]Row{testRow(7)};
    rows[0].recordDelta(2, 100, 50);
    rows[0].recordDelta(3, 100, 60);
    rows[0].recordDelta(5, 100, 70);
    const index = [_]Index{.{ .place = 7, .row = 0 }};
    var odd: [1]u32 = undefined;
    const before = rows[0];
    const good: Arrived = .{ .place = 7, .session = 107, .version = 3, .kind = Arrived.ack };
    var strange = [_]Arrived{ good, good, good, good, good };
    strange[0].session = 1;
    strange[1].epoch = 1;
    strange[2].version = 4;
    strange[3].place = 8;
    strange[4].version = 5;
    strange[4].chunks = 1;
    for (&strange) |*one| {
        try std.testing.expectEqual(1, takeAcks(&rows, &index, one[0..1], 80, &test_limits, &odd));
        try std.testing.expectEqual(before, rows[0]);
    }
    try std.testing.expectEqual(0, takeAcks(&rows, &index, &.{good}, 80, &test_limits, &odd));
    try std.testing.expectEqual(3, rows[0].acked);
    try std.testing.expectEqual(20, rows[0].lag_ns);
    try std.testing.expectEqual(1, rows[0].count);
    try std.testing.expectEqual(100, rows[0].bytes);
    try std.testing.expectEqual(1, takeAcks(&rows, &index, &.{good}, 80, &test_limits, &odd));
    try std.testing.expectEqual(0, slow(&rows, 80, &test_limits, &odd));
    try std.testing.expectEqual(1, slow(&rows, 80 + test_limits.blocked_ns_max + 1, &test_limits, &odd));
}
