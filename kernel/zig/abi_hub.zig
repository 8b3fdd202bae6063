//! A hub of sockets, as C sees it (`hub.zig`): on one thread at a time. Here below zero is minus an `errno`.

const compat = @import("compat.zig");
const hub_file = @import("hub.zig");
const Arrived = hub_file.Arrived;
const Block = hub_file.Block;
const Entry = hub_file.Entry;
const Head = hub_file.Head;
const Hub = hub_file.Hub;

/// Bytes of an entry, a block, a head and of what is told of an arrival, for callers to compare, a byte each.
export fn ecs_hub_layout() u32 {
    return @sizeOf(Entry) | @sizeOf(Block) << 8 | @sizeOf(Head) << 16 | @sizeOf(Arrived) << 24;
}

export fn ecs_hub_create(out: *?*Hub) i32 {
    var number: i32 = 0;
    out.* = Hub.create(compat.allocator, &number);
    return -number;
}

/// Every member was removed.
export fn ecs_hub_destroy(hub: *Hub) void {
    hub.destroy();
}

/// A descriptor that can be read while a member can; the hub's own.
export fn ecs_hub_descriptor(hub: *const Hub) i32 {
    return hub.epoll;
}

export fn ecs_hub_add(hub: *Hub, descriptor: i32, place: *u64) i32 {
    return -hub.add(descriptor, place);
}

export fn ecs_hub_remove(hub: *Hub, place: u64) i32 {
    return -hub.remove(place);
}

export fn ecs_hub_mark(hub: *Hub, place: u64, armed: u32, at_frame: u32) i32 {
    return -hub.mark(place, armed != 0, at_frame != 0);
}

/// 0, or the number of the first wrong entry, counted from 1.
export fn ecs_hub_send_deltas(
    hub: *Hub,
    head: *const Head,
    entries: [*]const Entry,
    count: u32,
    blocks: [*]const Block,
    block_count: u32,
    taken: [*]i32,
) u32 {
    return @intCast(hub.sendDeltas(head, entries[0..count], blocks[0..block_count], taken[0..count]));
}

/// What each entry's place is to be sent, one after the other; no hub is needed. 0, or the number of the first wrong entry,
/// counted from 1.
export fn ecs_deltas_compose(
    head: *const Head,
    entries: [*]const Entry,
    count: u32,
    blocks: [*]const Block,
    block_count: u32,
    out: [*]u8,
    out_bytes: u64,
) u32 {
    return @intCast(hub_file.compose(head, entries[0..count], blocks[0..block_count], out[0..@intCast(out_bytes)]));
}

export fn ecs_hub_poll(hub: *Hub) i32 {
    return -hub.poll();
}

export fn ecs_hub_receive(hub: *Hub, buffer: [*]u8, buffer_bytes: u32, chunk: u32, out: [*]Arrived, out_count: u32) u32 {
    return @intCast(hub.receive(buffer[0..buffer_bytes], chunk, out[0..out_count]));
}
