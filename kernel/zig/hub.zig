//! A batch of connected stream sockets: one call sends each its delta, one call reads what has arrived. Linux only; where
//! there is no epoll, `create` says so and a caller does the same with its own sockets.
//!
//! A delta's head is composed here from an entry of 72 bytes, beside a block that many entries share; the frame goes out
//! by one system call. What arrives is read into one buffer, and frames that are nothing but acks, which is most of what
//! clients of a game send, are told as numbers.
//!
//! Invariants:
//! - nothing waits: what a socket does not take is the caller's to know;
//! - a batch is looked at whole before a byte of it is sent: an entry that names what is not there stops all of it;
//! - a place is never used twice, and members stay in the order of their places, so that who is heard first is a matter of
//!   who came first, and not of descriptors;
//! - descriptors are the caller's: a member is removed before its descriptor is closed;
//! - bytes are taken for acks only where a frame may begin, which the caller says.

const std = @import("std");
const builtin = @import("builtin");
const assert = std.debug.assert;
const frame = @import("frame.zig");

pub const supported = builtin.os.tag == .linux;
const linux = std.os.linux;

/// `errno` of what is not to be had here: a hub at all, memory.
const not_supported = 38;
const out_of_memory = 12;

extern "c" fn epoll_create1(flags: c_int) c_int;
extern "c" fn epoll_ctl(epoll: c_int, operation: c_int, descriptor: c_int, event: ?*linux.epoll_event) c_int;
extern "c" fn epoll_wait(epoll: c_int, events: [*]linux.epoll_event, count: c_int, timeout_ms: c_int) c_int;
extern "c" fn send(descriptor: c_int, bytes: [*]const u8, length: usize, flags: c_int) isize;
extern "c" fn recv(descriptor: c_int, bytes: [*]u8, length: usize, flags: c_int) isize;
extern "c" fn sendmsg(descriptor: c_int, message: *const Message, flags: c_int) isize;
extern "c" fn close(descriptor: c_int) c_int;

const Vector = extern struct { base: [*]const u8, length: usize };
/// `struct msghdr` of Linux with a libc of 64 bits.
const Message = extern struct {
    name: ?*const anyopaque = null,
    name_length: u32 = 0,
    vectors: [*]const Vector,
    vector_count: usize,
    control: ?*const anyopaque = null,
    control_length: usize = 0,
    flags: c_int = 0,
};

/// One delta for one place; `ecsnet/authority/batch.py` packs it.
pub const Entry = extern struct {
    place: u64,
    session: u64,
    entity: u64,
    base: u64,
    digest_low: u64,
    digest_high: u64,
    command_ack: u32,
    flags: u32,
    block: u32,
    offset: u32,
    length: u32,
    /// The number of a block that goes before, whole, plus 1; 0: none does.
    before: u32,
};

/// Bytes that entries name by their number.
pub const Block = extern struct { bytes: ?[*]const u8, length: u64 };

/// What all entries of a batch lead to.
pub const Head = extern struct { version: u64, tick: u64, epoch: u32, reserved: u32 = 0 };

pub const Arrived = extern struct {
    place: u64,
    /// Of an ack; else 0.
    session: u64 = 0,
    version: u64 = 0,
    epoch: u32 = 0,
    chunks: u32 = 0,
    /// Where the bytes begin in the caller's buffer.
    offset: u32 = 0,
    /// How many there are; of `ended` 0 when the peer ended its stream, else the `errno`.
    length: u32 = 0,
    kind: u32,
    reserved: u32 = 0,

    pub const bytes = 0;
    pub const ack = 1;
    pub const ended = 2;
};

const Member = struct {
    place: u64,
    descriptor: c_int,
    armed: bool,
    /// What arrives next begins a frame.
    at_frame: bool,
};

const ack_bytes = frame.headBytes(frame.Ack);
const delta_head_bytes = frame.headBytes(frame.DeltaSync);
/// Frames up to this are sent from one piece: copying them costs less than a vector of four does.
const together_bytes = 4096;

pub const Hub = struct {
    gpa: std.mem.Allocator,
    epoll: c_int,
    members: std.ArrayList(Member) = .empty,
    events: std.ArrayList(linux.epoll_event) = .empty,
    /// Places with something to read, in their order; `[next..]` have not been read since the last `poll`.
    ready: std.ArrayList(u64) = .empty,
    next: usize = 0,
    places: u64 = 0,
    turns: u64 = 0,

    /// An `errno` instead of a hub where there can be none.
    pub fn create(gpa: std.mem.Allocator, number: *i32) ?*Hub {
        if (!supported) {
            number.* = not_supported;
            return null;
        }
        const hub = gpa.create(Hub) catch {
            number.* = out_of_memory;
            return null;
        };
        const close_on_exec = 0o2000000;
        const epoll = epoll_create1(close_on_exec);
        if (epoll < 0) {
            number.* = errno();
            gpa.destroy(hub);
            return null;
        }
        hub.* = .{ .gpa = gpa, .epoll = epoll };
        return hub;
    }

    pub fn destroy(hub: *Hub) void {
        if (!supported) unreachable;
        _ = close(hub.epoll);
        hub.members.deinit(hub.gpa);
        hub.events.deinit(hub.gpa);
        hub.ready.deinit(hub.gpa);
        hub.gpa.destroy(hub);
    }

    /// Take a connected, non-blocking socket in, armed. 0 or an `errno`, and then nothing changed.
    pub fn add(hub: *Hub, descriptor: c_int, place: *u64) i32 {
        if (!supported) unreachable;
        const count = hub.members.items.len + 1;
        hub.members.ensureTotalCapacity(hub.gpa, count) catch return out_of_memory;
        hub.events.ensureTotalCapacity(hub.gpa, count) catch return out_of_memory;
        hub.ready.ensureTotalCapacity(hub.gpa, count) catch return out_of_memory;
        var event: linux.epoll_event = .{ .events = linux.EPOLL.IN, .data = .{ .u64 = hub.places + 1 } };
        if (epoll_ctl(hub.epoll, linux.EPOLL.CTL_ADD, descriptor, &event) != 0) return errno();
        hub.places += 1;
        place.* = hub.places;
        hub.members.appendAssumeCapacity(.{ .place = hub.places, .descriptor = descriptor, .armed = true, .at_frame = true });
        return 0;
    }

    /// Let a socket go. 0 or an `errno`; gone it is in any case. One that is no member: ENOENT.
    pub fn remove(hub: *Hub, place: u64) i32 {
        if (!supported) unreachable;
        const index = hub.find(place, 0) orelse return 2;
        const member = hub.members.orderedRemove(index);
        return if (epoll_ctl(hub.epoll, linux.EPOLL.CTL_DEL, member.descriptor, null) != 0) errno() else 0;
    }

    /// Whether a member may be sent to, and whether what it sends next begins a frame. 0 or ENOENT.
    pub fn mark(hub: *Hub, place: u64, armed: bool, at_frame: bool) i32 {
        const index = hub.find(place, 0) orelse return 2;
        hub.members.items[index].armed = armed;
        hub.members.items[index].at_frame = at_frame;
        return 0;
    }

    /// Offer each entry's delta to its place, once, beginning with another one each time: who is last waits for all others.
    ///
    /// Returns 0, and in `taken`, by entry, how many bytes were taken (0: nothing now) or minus an `errno`. Or the number of
    /// the first entry, counted from 1, that is wrong: its place is not armed or no member, or its bytes are not there. Then
    /// nothing was sent.
    pub fn sendDeltas(hub: *Hub, head: *const Head, entries: []const Entry, blocks: []const Block, taken: []i32) usize {
        if (!supported) unreachable;
        assert(entries.len == taken.len);
        var hint: usize = 0;
        for (entries, taken, 1..) |*entry, *slot, number| {
            const index = hub.find(entry.place, hint) orelse return number;
            hint = index + 1;
            const member = &hub.members.items[index];
            if (!member.armed) return number;
            if (!isThere(entry, blocks)) return number;
            slot.* = member.descriptor;
        }
        if (entries.len == 0) return 0;
        hub.turns +%= 1;
        // Spread evenly, so that nobody is late for many ticks in a row.
        const spread: u64 = (hub.turns *% 0x9e3779b97f4a7c15) >> 32;
        const first: usize = @intCast((spread * entries.len) >> 32);
        for (0..entries.len) |count| {
            const index = if (first + count < entries.len) first + count else first + count - entries.len;
            taken[index] = sendDelta(taken[index], head, &entries[index], blocks);
        }
        return 0;
    }

    /// Ask which members have something to read; 0 or an `errno`. `receive` then reads each of them once.
    pub fn poll(hub: *Hub) i32 {
        if (!supported) unreachable;
        hub.next = 0;
        hub.ready.clearRetainingCapacity();
        const room = hub.members.items.len;
        if (room == 0) return 0;
        const events = hub.events.allocatedSlice();
        const found = epoll_wait(hub.epoll, events.ptr, @intCast(room), 0);
        if (found < 0) {
            const number = errno();
            return if (number == interrupted) 0 else number;
        }
        for (events[0..@intCast(found)]) |*event| hub.ready.appendAssumeCapacity(event.data.u64);
        std.mem.sort(u64, hub.ready.items, {}, std.sort.asc(u64));
        return 0;
    }

    /// Read from the members that `poll` found, in the order of their places, `chunk` bytes at most from each, until none is
    /// left or there is no room for another chunk or another `ack_bytes`-th of one. How many of `out` were filled.
    pub fn receive(hub: *Hub, buffer: []u8, chunk: usize, out: []Arrived) usize {
        if (!supported) unreachable;
        assert(chunk > 0 and chunk <= buffer.len and chunk / ack_bytes < out.len);
        var used: usize = 0;
        var count: usize = 0;
        var hint: usize = 0;
        while (hub.next < hub.ready.items.len) {
            if (buffer.len - used < chunk or out.len - count <= chunk / ack_bytes) break;
            const place = hub.ready.items[hub.next];
            hub.next += 1;
            // Removed since it was found.
            const index = hub.find(place, hint) orelse continue;
            hint = index + 1;
            const member = &hub.members.items[index];
            const into = buffer[used..][0..chunk];
            const got = recv(member.descriptor, into.ptr, chunk, no_waiting);
            if (got < 0) {
                const number = errno();
                if (number == again or number == interrupted) continue;
                out[count] = .{ .place = place, .kind = Arrived.ended, .length = @intCast(number) };
                count += 1;
            } else if (got == 0) {
                out[count] = .{ .place = place, .kind = Arrived.ended };
                count += 1;
            } else {
                const data = into[0..@intCast(got)];
                const acks = if (member.at_frame) takeAcks(place, data, out[count..]) else 0;
                if (acks == 0) {
                    out[count] = .{ .place = place, .kind = Arrived.bytes, .offset = @intCast(used), .length = @intCast(data.len) };
                    count += 1;
                    used += data.len;
                } else count += acks;
            }
        }
        return count;
    }

    /// Where a place is among the members; `hint` is where it is looked for first.
    fn find(hub: *const Hub, place: u64, hint: usize) ?usize {
        const members = hub.members.items;
        if (hint < members.len and members[hint].place == place) return hint;
        var low: usize = 0;
        var high = members.len;
        while (low < high) {
            const middle = low + (high - low) / 2;
            if (members[middle].place < place) low = middle + 1 else high = middle;
        }
        return if (low < members.len and members[low].place == place) low else null;
    }
};

/// What one entry becomes: what goes before it, the head, the block and its padding, in this order.
const Delta = struct {
    before: []const u8,
    first: [delta_head_bytes]u8,
    block: []const u8,
    tail: []const u8,

    fn of(delta: *Delta, head: *const Head, entry: *const Entry, blocks: []const Block) void {
        const record: frame.DeltaSync = .{
            .session = entry.session,
            .base = entry.base,
            .version = head.version,
            .tick = head.tick,
            .digest_low = entry.digest_low,
            .digest_high = entry.digest_high,
            .entity = entry.entity,
            .epoch = head.epoch,
            .command_ack = entry.command_ack,
            .part = 0,
            .parts = 1,
            .flags = entry.flags,
        };
        delta.before = if (entry.before == 0) "" else bytesOf(&blocks[entry.before - 1]);
        delta.block = bytesOf(&blocks[entry.block])[entry.offset..][0..entry.length];
        delta.tail = padding[0..frame.paddingBytes(delta.block.len)];
        frame.writeHead(frame.DeltaSync, &record, delta.block.len, &delta.first);
    }

    fn parts(delta: *const Delta) [4][]const u8 {
        return .{ delta.before, &delta.first, delta.block, delta.tail };
    }

    fn length(delta: *const Delta) usize {
        return delta.before.len + delta.first.len + delta.block.len + delta.tail.len;
    }

    /// Into the beginning of `out`, which has room.
    fn write(delta: *const Delta, out: []u8) void {
        var end: usize = 0;
        for (delta.parts()) |part| {
            @memcpy(out[end..][0..part.len], part);
            end += part.len;
        }
    }
};

const padding: [8]u8 = @splat(0);

/// Whether an entry names blocks and bytes that are there.
fn isThere(entry: *const Entry, blocks: []const Block) bool {
    if (entry.block >= blocks.len or entry.before > blocks.len) return false;
    if (@as(u64, entry.offset) + entry.length > blocks[entry.block].length) return false;
    return entry.length <= frame.block_bytes_max;
}

/// Write what goes to each entry's place into `out`, one after the other: for links that no call of ours can send to.
/// Returns 0, or the number of the first entry, counted from 1, that names bytes that are not there or has no room.
pub fn compose(head: *const Head, entries: []const Entry, blocks: []const Block, out: []u8) usize {
    var end: usize = 0;
    for (entries, 1..) |*entry, number| {
        if (!isThere(entry, blocks)) return number;
        var delta: Delta = undefined;
        delta.of(head, entry, blocks);
        if (delta.length() > out.len - end) return number;
        delta.write(out[end..]);
        end += delta.length();
    }
    return 0;
}

fn sendDelta(descriptor: c_int, head: *const Head, entry: *const Entry, blocks: []const Block) i32 {
    var delta: Delta = undefined;
    delta.of(head, entry, blocks);
    const total = delta.length();
    if (total <= together_bytes) {
        var room: [together_bytes]u8 = undefined;
        delta.write(&room);
        while (true) {
            const sent = send(descriptor, &room, total, no_waiting);
            if (sent >= 0) return @intCast(sent);
            const number = errno();
            if (number != interrupted) return if (number == again) 0 else -number;
        }
    }
    var vectors: [4]Vector = undefined;
    for (delta.parts(), &vectors) |part, *vector| vector.* = .{ .base = part.ptr, .length = part.len };
    const message: Message = .{ .vectors = &vectors, .vector_count = vectors.len };
    while (true) {
        const sent = sendmsg(descriptor, &message, no_waiting);
        if (sent >= 0) return @intCast(sent);
        const number = errno();
        if (number != interrupted) return if (number == again) 0 else -number;
    }
}

fn bytesOf(block: *const Block) []const u8 {
    const bytes = block.bytes orelse return "";
    return bytes[0..@intCast(block.length)];
}

/// The acks that `data` is nothing but, in `out`; 0 where it is anything else.
fn takeAcks(place: u64, data: []const u8, out: []Arrived) usize {
    if (data.len % ack_bytes != 0) return 0;
    const count = data.len / ack_bytes;
    for (0..count) |number| {
        const one = data[number * ack_bytes ..][0..ack_bytes];
        if (!std.mem.eql(u8, one[0..ack_front.len], &ack_front)) return 0;
        var record: frame.Ack = undefined;
        @memcpy(std.mem.asBytes(&record), one[ack_front.len..]);
        out[number] = .{
            .place = place,
            .session = record.session,
            .version = record.version,
            .epoch = record.epoch,
            .chunks = record.chunks,
            .kind = Arrived.ack,
        };
    }
    return count;
}

/// What an ack begins with, byte for byte, as this build and every other that lays it out so writes it. Any other ack is
/// bytes, for whoever reads messages.
const ack_front: [ack_bytes - @sizeOf(frame.Ack)]u8 = front: {
    const record: frame.Ack = .{};
    var whole: [ack_bytes]u8 = undefined;
    frame.writeHead(frame.Ack, &record, 0, &whole);
    break :front whole[0 .. ack_bytes - @sizeOf(frame.Ack)].*;
};

const again = 11;
const interrupted = 4;
/// MSG_DONTWAIT, MSG_NOSIGNAL.
const no_waiting = 0x40 | 0x4000;

fn errno() i32 {
    return std.c._errno().*;
}

// --- tests ------------------------------------------------------------------------------------------------------------

extern "c" fn socketpair(domain: c_int, kind: c_int, protocol: c_int, out: *[2]c_int) c_int;

const Pair = struct {
    ours: c_int,
    theirs: c_int,
    place: u64,

    fn open(hub: *Hub) !Pair {
        var ends: [2]c_int = undefined;
        const unix = 1;
        const stream_that_does_not_wait = 1 | 0o4000;
        try std.testing.expectEqual(0, socketpair(unix, stream_that_does_not_wait, 0, &ends));
        var place: u64 = 0;
        try std.testing.expectEqual(0, hub.add(ends[0], &place));
        return .{ .ours = ends[0], .theirs = ends[1], .place = place };
    }

    fn leave(pair: *const Pair, hub: *Hub) void {
        std.testing.expectEqual(0, hub.remove(pair.place)) catch @panic("it was no member");
        _ = close(pair.ours);
        _ = close(pair.theirs);
    }
};

fn testHub() !*Hub {
    if (!supported) return error.SkipZigTest;
    var number: i32 = 0;
    return Hub.create(std.testing.allocator, &number) orelse error.NoHub;
}

test "a small and a large delta arrive as frames that read back" {
    const hub = try testHub();
    defer hub.destroy();
    const pair = try Pair.open(hub);
    defer pair.leave(hub);
    var large: [together_bytes + 3]u8 = undefined;
    for (&large, 0..) |*byte, index| byte.* = @truncate(index *% 7);
    const blocks = [_]Block{ .{ .bytes = &large, .length = large.len }, .{ .bytes = "12345678", .length = 8 } };
    for ([_]u32{ 0, 5, together_bytes + 1 }) |length| {
        for ([_]u32{ 0, 2 }) |before| {
            const entry: Entry = .{
                .place = pair.place,
                .session = 11,
                .entity = 12,
                .base = 13,
                .digest_low = 14,
                .digest_high = 15,
                .command_ack = 16,
                .flags = 0,
                .block = 0,
                .offset = 2,
                .length = length,
                .before = before,
            };
            var taken = [_]i32{0};
            try std.testing.expectEqual(0, hub.sendDeltas(&.{ .version = 20, .tick = 21, .epoch = 22 }, &.{entry}, &blocks, &taken));
            var got: [2 * together_bytes]u8 = undefined;
            const arrived: usize = @intCast(recv(pair.theirs, &got, got.len, no_waiting));
            try std.testing.expectEqual(arrived, @as(usize, @intCast(taken[0])));
            const skipped: usize = if (before == 0) 0 else 8;
            try std.testing.expectEqualStrings("12345678"[0..skipped], got[0..skipped]);
            const payload = got[skipped + frame.frame_header_bytes .. arrived];
            const read = try frame.read(frame.DeltaSync, payload);
            try std.testing.expectEqual(frame.DeltaSync{
                .session = 11,
                .base = 13,
                .version = 20,
                .tick = 21,
                .digest_low = 14,
                .digest_high = 15,
                .entity = 12,
                .epoch = 22,
                .command_ack = 16,
                .part = 0,
                .parts = 1,
                .flags = 0,
            }, read.record);
            try std.testing.expectEqualSlices(u8, large[2..][0..length], payload[read.block.offset..][0..read.block.bytes]);
        }
    }
}

test "an entry that names what is not there stops the batch before a byte of it is sent" {
    const hub = try testHub();
    defer hub.destroy();
    const pair = try Pair.open(hub);
    defer pair.leave(hub);
    const good: Entry = std.mem.zeroInit(Entry, .{ .place = pair.place, .length = 4 });
    const blocks = [_]Block{.{ .bytes = "abcd", .length = 4 }};
    const head: Head = .{ .version = 1, .tick = 1, .epoch = 1 };
    const wrong = [_]Entry{
        std.mem.zeroInit(Entry, .{ .place = pair.place + 1 }),
        std.mem.zeroInit(Entry, .{ .place = pair.place, .block = 1 }),
        std.mem.zeroInit(Entry, .{ .place = pair.place, .before = 2 }),
        std.mem.zeroInit(Entry, .{ .place = pair.place, .offset = 1, .length = 4 }),
        std.mem.zeroInit(Entry, .{ .place = pair.place, .offset = 0xffff_ffff, .length = 0xffff_ffff }),
    };
    var taken = [_]i32{ 0, 0 };
    var got: [8]u8 = undefined;
    for (wrong) |bad| {
        try std.testing.expectEqual(2, hub.sendDeltas(&head, &.{ good, bad }, &blocks, &taken));
        try std.testing.expectEqual(-1, recv(pair.theirs, &got, got.len, no_waiting));
    }
    try std.testing.expectEqual(0, hub.mark(pair.place, false, true));
    try std.testing.expectEqual(1, hub.sendDeltas(&head, &.{good}, &blocks, taken[0..1]));
    try std.testing.expectEqual(-1, recv(pair.theirs, &got, got.len, no_waiting));
}

test "what is composed is what would be sent, and nothing is written beside it" {
    const hub = try testHub();
    defer hub.destroy();
    const pair = try Pair.open(hub);
    defer pair.leave(hub);
    const blocks = [_]Block{ .{ .bytes = "before, ", .length = 8 }, .{ .bytes = "0123456789", .length = 10 } };
    const head: Head = .{ .version = 20, .tick = 21, .epoch = 22 };
    const entries = [_]Entry{
        std.mem.zeroInit(Entry, .{ .place = pair.place, .session = 11, .base = 13, .block = 1, .offset = 2, .length = 5, .before = 1 }),
        std.mem.zeroInit(Entry, .{ .place = pair.place, .session = 12, .base = 14, .block = 1, .length = 8 }),
    };
    var out: [512]u8 = @splat(0xaa);
    const lengths = [_]usize{ 8 + delta_head_bytes + 8, delta_head_bytes + 8 };
    const total = lengths[0] + lengths[1];

    try std.testing.expectEqual(2, compose(&head, &entries, &blocks, out[0 .. total - 1]));
    try std.testing.expectEqual(0, compose(&head, &entries, &blocks, out[0..total]));
    var end: usize = 0;
    for (&entries, lengths) |*entry, length| {
        var taken = [_]i32{0};
        try std.testing.expectEqual(0, hub.sendDeltas(&head, entry[0..1], &blocks, &taken));
        try std.testing.expectEqual(@as(i32, @intCast(length)), taken[0]);
        var got: [256]u8 = undefined;
        try std.testing.expectEqual(@as(isize, @intCast(length)), recv(pair.theirs, &got, got.len, no_waiting));
        try std.testing.expectEqualSlices(u8, got[0..length], out[end..][0..length]);
        end += length;
    }
    try std.testing.expect(std.mem.allEqual(u8, out[total..], 0xaa));
    const wrong = std.mem.zeroInit(Entry, .{ .block = 2 });
    try std.testing.expectEqual(1, compose(&head, &.{wrong}, &blocks, &out));
}

test "acks are told as numbers where a frame may begin, and anything else as bytes" {
    const hub = try testHub();
    defer hub.destroy();
    const pair = try Pair.open(hub);
    defer pair.leave(hub);
    var ack: [2 * ack_bytes]u8 = undefined;
    frame.writeHead(frame.Ack, &.{ .session = 5, .version = 6, .epoch = 7, .chunks = 8 }, 0, ack[0..ack_bytes]);
    frame.writeHead(frame.Ack, &.{ .session = 5, .version = 9, .epoch = 7, .chunks = 0 }, 0, ack[ack_bytes..]);
    var buffer: [1 << 16]u8 = undefined;
    var out: [2048]Arrived = undefined;

    _ = send(pair.theirs, &ack, ack.len, no_waiting);
    try std.testing.expectEqual(0, hub.poll());
    try std.testing.expectEqual(2, hub.receive(&buffer, buffer.len, &out));
    try std.testing.expectEqual(Arrived{ .place = pair.place, .session = 5, .version = 6, .epoch = 7, .chunks = 8, .kind = Arrived.ack }, out[0]);
    try std.testing.expectEqual(9, out[1].version);

    // Not where another frame goes on, not with a byte more, not with another bit in front.
    try std.testing.expectEqual(0, hub.mark(pair.place, true, false));
    _ = send(pair.theirs, &ack, ack.len, no_waiting);
    try std.testing.expectEqual(0, hub.poll());
    try std.testing.expectEqual(1, hub.receive(&buffer, buffer.len, &out));
    try std.testing.expectEqual(Arrived{ .place = pair.place, .length = ack.len, .kind = Arrived.bytes }, out[0]);
    try std.testing.expectEqual(0, hub.mark(pair.place, true, true));
    for (0..8 * ack_front.len) |bit| {
        var bent = ack;
        bent[ack_bytes + bit / 8] ^= @as(u8, 1) << @intCast(bit % 8);
        _ = send(pair.theirs, &bent, bent.len, no_waiting);
        try std.testing.expectEqual(0, hub.poll());
        try std.testing.expectEqual(1, hub.receive(&buffer, buffer.len, &out));
        try std.testing.expectEqual(Arrived.bytes, out[0].kind);
        try std.testing.expectEqualSlices(u8, &bent, buffer[0..out[0].length]);
    }
}

test "what does not fit the buffer comes with the next call, and each is read once" {
    const hub = try testHub();
    defer hub.destroy();
    var pairs: [5]Pair = undefined;
    for (&pairs) |*pair| pair.* = try Pair.open(hub);
    defer for (&pairs) |*pair| pair.leave(hub);
    // Who wrote last is heard in the turn of its place.
    var backwards = std.mem.reverseIterator(&pairs);
    while (backwards.next()) |pair| _ = send(pair.theirs, "0123456789", 10, no_waiting);
    var buffer: [20]u8 = undefined;
    var out: [16]Arrived = undefined;
    try std.testing.expectEqual(0, hub.poll());
    var heard: usize = 0;
    while (true) {
        const count = hub.receive(&buffer, 8, &out);
        if (count == 0) break;
        for (out[0..count]) |*one| {
            try std.testing.expectEqual(pairs[heard].place, one.place);
            try std.testing.expectEqual(8, one.length);
            heard += 1;
        }
    }
    try std.testing.expectEqual(pairs.len, heard);
}
