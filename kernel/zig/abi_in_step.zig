//! Links that keep up, as C sees them (`in_step.zig`): rows that lie in the caller's memory.

const hub = @import("hub.zig");
const in_step = @import("in_step.zig");
const Index = in_step.Index;
const Kind = in_step.Kind;
const Limits = in_step.Limits;
const Row = in_step.Row;
const Tick = in_step.Tick;

/// Bytes of a row and where in it its `sent` begin, for callers to compare.
export fn ecs_in_step_layout() u32 {
    return @sizeOf(Row) | @offsetOf(Row, "sent") << 16;
}

/// Where entries, their rows, kinds and odd rows are put: room for `row_count` of each but kinds.
pub const Out = extern struct {
    entries: [*]hub.Entry,
    row_of: [*]u32,
    kinds: [*]Kind,
    odd: [*]u32,
    kinds_max: u32,
    kind_count: u32 = 0,
    count: u32 = 0,
    odd_count: u32 = 0,
};

export fn ecs_in_step_choose(rows: [*]Row, row_count: u32, tick: *const Tick, limits: *const Limits, out: *Out) void {
    const counts = in_step.choose(
        rows[0..row_count],
        tick,
        limits,
        out.entries[0..row_count],
        out.row_of[0..row_count],
        out.kinds[0..out.kinds_max],
        &out.kind_count,
        out.odd[0..row_count],
    );
    out.count, out.odd_count = counts;
}

export fn ecs_in_step_record(
    rows: [*]Row,
    row_count: u32,
    tick: *const Tick,
    entries: [*]const hub.Entry,
    row_of: [*]const u32,
    taken: [*]const i32,
    count: u32,
) void {
    in_step.record(rows[0..row_count], tick, entries[0..count], row_of[0..count], taken[0..count]);
}

export fn ecs_in_step_acks(
    rows: [*]Row,
    row_count: u32,
    index: [*]const Index,
    index_count: u32,
    acks: [*]const hub.Arrived,
    count: u32,
    now_ns: i64,
    limits: *const Limits,
    odd: [*]u32,
) u32 {
    return in_step.takeAcks(rows[0..row_count], index[0..index_count], acks[0..count], now_ns, limits, odd[0..count]);
}

export fn ecs_in_step_slow(rows: [*]const Row, row_count: u32, now_ns: i64, limits: *const Limits, odd: [*]u32) u32 {
    return in_step.slow(rows[0..row_count], now_ns, limits, odd[0..row_count]);
}
