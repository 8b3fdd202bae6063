//! Hot frames: the bytes of SyncBegin, SyncChunk, DeltaSync, Ack, Command and CommandResult, written and read at fixed
//! offsets.
//!
//! They are ordinary Cap'n Proto messages of `schema/ecsnet.capnp`, of one segment, never packed. A frame is
//!
//!     0    u32  payload bytes (everything after the first 8), a multiple of 8
//!     4    u8   kind
//!     5    u8   flags, 0
//!     6    u16  wire version, 1
//!     8    u32  segments - 1, always 0
//!     12   u32  words of the segment: payload bytes / 8 - 1
//!     16   u64  root pointer: a struct, directly behind, of D data words and P pointers
//!     24   D words of data, the record below, byte for byte
//!          P words of pointers; the last one points directly behind itself, at the block
//!          the block, then zeros up to a whole word
//!
//! Byte offsets in the frame; the last column is where the block begins, or the frame ends:
//!
//!     SyncBegin  D=6 P=0   session 24  base 32  first_version 40  tick 48  rows 56  epoch 64  revision 68           | 72
//!     SyncChunk  D=4 P=1   session 24  base 32  version 40  epoch 48  sequence 52  ->block 56                       | 64
//!     DeltaSync  D=9 P=2   session 24  base 32  version 40  tick 48  digest_low 56  digest_high 64  entity 72
//!                          epoch 80  command_ack 84  part 88  parts 90  flags 92  ->clock 96  ->block 104           | 112
//!     Ack        D=3 P=0   session 24  version 32  epoch 40  chunks 44                                              | 48
//!     Command    D=3 P=1   session 24  tick 32  sequence 40  command 44  flags 46  ->arguments 48                   | 56
//!     CommandResult
//!                D=3 P=1   version 24  tick 32  sequence 40  status 44  code 46  ->message 48                       | 56
//!
//! What is called the block is the arguments of a Command and the text of a CommandResult, its NUL included.
//!
//! Invariants:
//! - a writer leaves nothing undefined: every byte of a head is set;
//! - a reader touches nothing outside the payload it was given, allocates nothing, and believes no size but what it
//!   has compared with the payload's end: sizes of the root come from its pointer, so a message of an older or newer
//!   schema reads with zeros for what it lacks, and what it has more is not looked at;
//! - nothing here knows a store, a block or a clock: what the numbers mean is checked by whoever asked.

const std = @import("std");
const builtin = @import("builtin");
const assert = std.debug.assert;

pub const wire_version = 1;
pub const frame_header_bytes = 8;
/// Frame header, segment table and root pointer: what stands before the data of every message.
const prefix_bytes = 24;
/// Cap'n Proto's lists count 29 bits of elements; the limit of a frame is far below.
pub const block_bytes_max = (1 << 29) - 8;

pub const Kind = enum(u8) {
    sync_begin = 5,
    sync_chunk = 6,
    delta_sync = 7,
    ack = 8,
    command = 9,
    command_result = 10,
    _,
};

pub const SyncBegin = extern struct {
    session: u64 = 0,
    base: u64 = 0,
    first_version: u64 = 0,
    tick: u64 = 0,
    rows: u64 = 0,
    epoch: u32 = 0,
    revision: u32 = 0,

    pub const kind: Kind = .sync_begin;
    pub const pointers = 0;
};

pub const SyncChunk = extern struct {
    session: u64 = 0,
    base: u64 = 0,
    version: u64 = 0,
    epoch: u32 = 0,
    sequence: u32 = 0,

    pub const kind: Kind = .sync_chunk;
    pub const pointers = 1;
};

pub const DeltaSync = extern struct {
    session: u64 = 0,
    base: u64 = 0,
    version: u64 = 0,
    tick: u64 = 0,
    digest_low: u64 = 0,
    digest_high: u64 = 0,
    entity: u64 = 0,
    epoch: u32 = 0,
    command_ack: u32 = 0,
    part: u16 = 0,
    parts: u16 = 0,
    flags: u32 = 0,

    pub const kind: Kind = .delta_sync;
    pub const pointers = 2;
};

pub const Ack = extern struct {
    session: u64 = 0,
    version: u64 = 0,
    epoch: u32 = 0,
    chunks: u32 = 0,

    pub const kind: Kind = .ack;
    pub const pointers = 0;
};

pub const Command = extern struct {
    session: u64 = 0,
    tick: u64 = 0,
    sequence: u32 = 0,
    command: u16 = 0,
    flags: u16 = 0,

    pub const kind: Kind = .command;
    pub const pointers = 1;
};

pub const CommandResult = extern struct {
    version: u64 = 0,
    tick: u64 = 0,
    sequence: u32 = 0,
    status: u16 = 0,
    code: u16 = 0,

    pub const kind: Kind = .command_result;
    pub const pointers = 1;
};

comptime {
    // The records are copied as they lie in memory, and the wire is little-endian.
    assert(builtin.cpu.arch.endian() == .little);

    pin(SyncBegin, 72, .{ 24, 32, 40, 48, 56, 64, 68 });
    pin(SyncChunk, 64, .{ 24, 32, 40, 48, 52 });
    pin(DeltaSync, 112, .{ 24, 32, 40, 48, 56, 64, 72, 80, 84, 88, 90, 92 });
    pin(Ack, 48, .{ 24, 32, 40, 44 });
    pin(Command, 56, .{ 24, 32, 40, 44, 46 });
    pin(CommandResult, 56, .{ 24, 32, 40, 44, 46 });
}

/// Hold a record to the table at the head of this file: where each field lies in the frame, and how long its head is.
fn pin(comptime Record: type, comptime head_end: usize, comptime offsets: anytype) void {
    const fields = @typeInfo(Record).@"struct".fields;
    assert(fields.len == offsets.len);
    var bytes: usize = 0;
    for (fields, 0..) |field, index| {
        assert(prefix_bytes + @offsetOf(Record, field.name) == offsets[index]);
        bytes += @sizeOf(field.type);
    }
    // No padding: every byte of the record is a field's, so copying it leaks nothing.
    assert(bytes == @sizeOf(Record));
    assert(bytes % 8 == 0);
    assert(headBytes(Record) == head_end);
}

/// Bytes of a frame before its block; the whole frame when the message has none.
pub fn headBytes(comptime Record: type) comptime_int {
    return prefix_bytes + @sizeOf(Record) + 8 * Record.pointers;
}

/// Zero bytes after a block that end its frame on a whole word.
pub fn paddingBytes(block_bytes: usize) usize {
    return (8 - block_bytes % 8) % 8;
}

/// Write everything of a frame that stands before its block; the block and its padding follow as they are, so one
/// block can be shared by many frames. A message without a block takes `block_bytes` 0.
pub fn writeHead(comptime Record: type, record: *const Record, block_bytes: usize, out: *[headBytes(Record)]u8) void {
    assert(block_bytes <= block_bytes_max);
    assert(Record.pointers > 0 or block_bytes == 0);

    const data_bytes = @sizeOf(Record);
    const payload_bytes = headBytes(Record) - frame_header_bytes + block_bytes + paddingBytes(block_bytes);
    assert(payload_bytes % 8 == 0);

    std.mem.writeInt(u32, out[0..4], @intCast(payload_bytes), .little);
    out[4] = @intFromEnum(Record.kind);
    out[5] = 0;
    std.mem.writeInt(u16, out[6..8], wire_version, .little);
    std.mem.writeInt(u32, out[8..12], 0, .little);
    std.mem.writeInt(u32, out[12..16], @intCast(payload_bytes / 8 - 1), .little);
    const root: u64 = (data_bytes / 8) << 32 | @as(u64, Record.pointers) << 48;
    std.mem.writeInt(u64, out[16..24], root, .little);
    @memcpy(out[prefix_bytes..][0..data_bytes], std.mem.asBytes(record));

    if (Record.pointers > 0) {
        const pointers_at = prefix_bytes + data_bytes;
        @memset(out[pointers_at..], 0);
        // A list of bytes, directly behind its pointer. An absent one is null, as any Cap'n Proto writer has it.
        const block: u64 = if (block_bytes == 0) 0 else 1 | @as(u64, 2) << 32 | @as(u64, block_bytes) << 35;
        std.mem.writeInt(u64, out[headBytes(Record) - 8 ..][0..8], block, .little);
    }
}

pub const Error = error{
    /// Shorter than a segment table and a root pointer, or no whole number of words.
    Length,
    /// Another segment count than one, or a segment that does not end where the payload does.
    Segment,
    /// The root is null, no struct, or reaches outside the segment.
    Root,
    /// A pointer that is no list of bytes, or reaches outside the segment.
    Block,
    /// A clock that is no list of structs, or reaches outside the segment.
    Clock,
};

/// Where something lies in the payload; nothing at all has length 0 and begins at 0.
pub const Span = extern struct { offset: u32 = 0, bytes: u32 = 0 };

/// Where a list of structs lies in the payload: `count` elements of `stride` bytes, of which `data_bytes` are data.
pub const List = extern struct { offset: u32 = 0, count: u32 = 0, stride: u32 = 0, data_bytes: u32 = 0 };

const Root = struct {
    /// Offset in the payload and length of the data section.
    data_at: usize,
    data_bytes: usize,
    pointers: usize,

    fn pointerAt(self: Root, index: usize) ?usize {
        return if (index < self.pointers) self.data_at + self.data_bytes + 8 * index else null;
    }
};

/// What a payload of this message holds: the record, and where its block and its clock lie.
pub fn Received(comptime Record: type) type {
    if (Record == DeltaSync) return extern struct { record: Record, block: Span, clock: List };
    if (Record.pointers > 0) return extern struct { record: Record, block: Span };
    return extern struct { record: Record };
}

/// Read one payload: a frame without its header.
pub fn read(comptime Record: type, payload: []const u8) Error!Received(Record) {
    const root = try readRoot(payload);
    var received: Received(Record) = undefined;
    received.record = .{};
    const known = @min(root.data_bytes, @sizeOf(Record));
    @memcpy(std.mem.asBytes(&received.record)[0..known], payload[root.data_at..][0..known]);
    if (Record.pointers > 0) received.block = try readBytes(payload, root.pointerAt(Record.pointers - 1));
    if (Record == DeltaSync) received.clock = try readList(payload, root.pointerAt(0));
    return received;
}

fn readRoot(payload: []const u8) Error!Root {
    if (payload.len < 16 or payload.len % 8 != 0) return error.Length;
    if (payload.len > std.math.maxInt(u32)) return error.Length;
    if (std.mem.readInt(u32, payload[0..4], .little) != 0) return error.Segment;
    const words: u64 = std.mem.readInt(u32, payload[4..8], .little);
    if (words * 8 + 8 != payload.len) return error.Segment;

    const pointer = readWord(payload, 8);
    if (pointer == 0 or pointer & 3 != 0) return error.Root;
    const data_bytes: usize = @as(usize, @as(u16, @truncate(pointer >> 32))) * 8;
    const pointers: usize = @as(u16, @truncate(pointer >> 48));
    const at = target(payload, 8, pointer, data_bytes + pointers * 8) orelse return error.Root;
    return .{ .data_at = at, .data_bytes = data_bytes, .pointers = pointers };
}

/// A `Data` field: absent, null, or a list of bytes inside the segment.
fn readBytes(payload: []const u8, pointer_at: ?usize) Error!Span {
    const at = pointer_at orelse return .{};
    const pointer = readWord(payload, at);
    if (pointer == 0) return .{};
    if (pointer & 3 != 1) return error.Block;
    if ((pointer >> 32) & 7 != 2) return error.Block;
    const bytes: usize = @intCast(pointer >> 35);
    const rounded = bytes + paddingBytes(bytes);
    const start = target(payload, at, pointer, rounded) orelse return error.Block;
    if (bytes == 0) return .{};
    return .{ .offset = @intCast(start), .bytes = @intCast(bytes) };
}

/// A list of structs with its tag word, inside the segment. An element without any word is refused: a handful of bytes
/// could announce half a billion of them.
fn readList(payload: []const u8, pointer_at: ?usize) Error!List {
    const at = pointer_at orelse return .{};
    const pointer = readWord(payload, at);
    if (pointer == 0) return .{};
    if (pointer & 3 != 1) return error.Clock;
    if ((pointer >> 32) & 7 != 7) return error.Clock;
    // u64: half a billion words and the tag do not fit 32 bits of bytes.
    const words: u64 = pointer >> 35;
    const start = target(payload, at, pointer, 8 + words * 8) orelse return error.Clock;

    const tag = readWord(payload, start);
    if (tag & 3 != 0) return error.Clock;
    const count: u64 = @as(u32, @truncate(tag)) >> 2;
    const data_words: u64 = @as(u16, @truncate(tag >> 32));
    const stride_words: u64 = data_words + @as(u16, @truncate(tag >> 48));
    if (count == 0) return .{};
    if (stride_words == 0) return error.Clock;
    if (count * stride_words > words) return error.Clock;
    return .{
        .offset = @intCast(start + 8),
        .count = @intCast(count),
        .stride = @intCast(stride_words * 8),
        .data_bytes = @intCast(data_words * 8),
    };
}

/// Where the pointer at `at` points to, if `bytes` from there lie inside the segment (which begins at 8).
fn target(payload: []const u8, at: usize, pointer: u64, bytes: u64) ?usize {
    assert(at % 8 == 0 and at + 8 <= payload.len);
    assert(bytes % 8 == 0);
    const offset_words: i64 = @as(i32, @bitCast(@as(u32, @truncate(pointer)))) >> 2;
    const start = @as(i64, @intCast(at)) + 8 + offset_words * 8;
    if (start < 8) return null;
    if (start + @as(i64, @intCast(bytes)) > payload.len) return null;
    return @intCast(start);
}

fn readWord(payload: []const u8, at: usize) u64 {
    return std.mem.readInt(u64, payload[at..][0..8], .little);
}

// --- tests ------------------------------------------------------------------------------------------------------------

test "a delta's head and block read back" {
    const sent: DeltaSync = .{
        .session = 0x0102030405060708,
        .base = 41,
        .version = 42,
        .tick = 1000,
        .digest_low = 7,
        .digest_high = 8,
        .entity = 1 << 32 | 9,
        .epoch = 3,
        .command_ack = 17,
        .part = 0,
        .parts = 1,
        .flags = 0,
    };
    const block = "thirteen bytes";
    var frame: [headBytes(DeltaSync) + block.len + paddingBytes(block.len)]u8 = @splat(0);
    writeHead(DeltaSync, &sent, block.len, frame[0..comptime headBytes(DeltaSync)]);
    @memcpy(frame[headBytes(DeltaSync)..][0..block.len], block);

    const payload = frame[frame_header_bytes..];
    try std.testing.expectEqual(payload.len, std.mem.readInt(u32, frame[0..4], .little));
    const got = try read(DeltaSync, payload);
    try std.testing.expectEqual(sent, got.record);
    try std.testing.expectEqualStrings(block, payload[got.block.offset..][0..got.block.bytes]);
    try std.testing.expectEqual(0, got.clock.count);
}

test "a shorter struct of an older sender reads with zeros, a longer one of a newer without its tail" {
    // Ack of two data words: no epoch, no chunks.
    var older: [40]u8 = @splat(0);
    older[4] = 3; // words
    older[12] = 2; // D
    older[16] = 5;
    older[24] = 6;
    const short = try read(Ack, older[0..32]);
    try std.testing.expectEqual(Ack{ .session = 5, .version = 6 }, short.record);

    // Ack of four data words and a pointer.
    var newer: [56]u8 = @splat(0xff);
    @memset(newer[0..16], 0);
    newer[4] = 6;
    newer[12] = 4;
    newer[14] = 1;
    std.mem.writeInt(u64, newer[16..24], 5, .little);
    std.mem.writeInt(u64, newer[24..32], 6, .little);
    std.mem.writeInt(u64, newer[32..40], 7 | 8 << 32, .little);
    const long = try read(Ack, &newer);
    try std.testing.expectEqual(Ack{ .session = 5, .version = 6, .epoch = 7, .chunks = 8 }, long.record);
}

test "whatever the bytes, a reader stays inside them" {
    var random_state = std.Random.DefaultPrng.init(7);
    const random = random_state.random();
    const words = [_]u32{ 0, 1, 2, 3, 0xffffffff, 0x7fffffff, 0x80000000, 0xfffffffc, 0x20000000, 0x17, 0x0a };
    var accepted: usize = 0;
    for (0..200_000) |_| {
        var payload: [160]u8 = @splat(0);
        const sent: DeltaSync = .{ .session = 1, .version = 2 };
        var head: [headBytes(DeltaSync)]u8 = undefined;
        writeHead(DeltaSync, &sent, 50, &head);
        @memcpy(payload[0 .. head.len - 8], head[8..]);
        for (0..random.intRangeAtMost(usize, 1, 6)) |_| {
            const at = random.uintLessThan(usize, payload.len / 4) * 4;
            std.mem.writeInt(u32, payload[at..][0..4], words[random.uintLessThan(usize, words.len)], .little);
        }
        var length: usize = payload.len;
        if (random.uintLessThan(u8, 8) == 0) length = random.uintAtMost(usize, payload.len);

        const got = read(DeltaSync, payload[0..length]) catch continue;
        accepted += 1;
        try expectInside(got, length);
    }
    try std.testing.expect(accepted > 0);
}

fn expectInside(got: Received(DeltaSync), length: usize) !void {
    try std.testing.expect(@as(usize, got.block.offset) + got.block.bytes <= length);
    try std.testing.expect(got.clock.offset + @as(usize, got.clock.count) * got.clock.stride <= length);
}

fn fuzzOne(_: void, smith: *std.testing.Smith) anyerror!void {
    var buffer: [256]u8 = undefined;
    const payload = buffer[0..smith.slice(&buffer)];
    const got = read(DeltaSync, payload) catch return;
    try expectInside(got, payload.len);
}

test "fuzz: any payload is refused or stays inside itself" {
    try std.testing.fuzz({}, fuzzOne, .{});
}
