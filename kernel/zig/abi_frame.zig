//! The hot frames as C sees them: three functions for all kinds, records as bytes.
//!
//! `ecs_frame_read` fills a record of `ecs_frame_read_bytes(kind)` bytes:
//!
//!     SyncBegin, Ack      the data section
//!     SyncChunk, Command, CommandResult
//!                         the data section, then u32 offset and u32 bytes of the block (the arguments, the text)
//!     DeltaSync           the data section, the block likewise, then of the clock: u32 offset, u32 count, u32 bytes from
//!                         one entry to the next, u32 bytes of data in an entry
//!
//! Sizes are u32, so that a caller without prototypes (ctypes passes a Python int as a C int) passes them whole.
//!
//! Offsets count from the payload's first byte. Statuses are appended, never renumbered; nothing is changed unless
//! the status is 0.

const std = @import("std");
const frame = @import("frame.zig");

pub const Status = enum(u32) {
    ok = 0,
    length = 1,
    segment = 2,
    root = 3,
    block = 4,
    clock = 5,
    /// The kind is not a hot one.
    kind = 6,
    /// The caller's buffer is not exactly as long as the record or head of this kind.
    buffer = 7,
};

fn statusOf(err: frame.Error) Status {
    // No `else`: a new error does not compile until it has a number.
    return switch (err) {
        error.Length => .length,
        error.Segment => .segment,
        error.Root => .root,
        error.Block => .block,
        error.Clock => .clock,
    };
}

comptime {
    std.debug.assert(@sizeOf(frame.Received(frame.SyncBegin)) == 48);
    std.debug.assert(@sizeOf(frame.Received(frame.SyncChunk)) == 40);
    std.debug.assert(@sizeOf(frame.Received(frame.DeltaSync)) == 96);
    std.debug.assert(@sizeOf(frame.Received(frame.Ack)) == 24);
    std.debug.assert(@sizeOf(frame.Received(frame.Command)) == 32);
    std.debug.assert(@sizeOf(frame.Received(frame.CommandResult)) == 32);
}

/// Bytes of what `ecs_frame_read` fills for this kind; 0 for a kind that is not hot.
pub export fn ecs_frame_read_bytes(kind: u32) u32 {
    return switch (kindOf(kind)) {
        .sync_begin => @sizeOf(frame.Received(frame.SyncBegin)),
        .sync_chunk => @sizeOf(frame.Received(frame.SyncChunk)),
        .delta_sync => @sizeOf(frame.Received(frame.DeltaSync)),
        .ack => @sizeOf(frame.Received(frame.Ack)),
        .command => @sizeOf(frame.Received(frame.Command)),
        .command_result => @sizeOf(frame.Received(frame.CommandResult)),
        _ => 0,
    };
}

/// Bytes of a frame before its block; 0 for a kind that is not hot.
pub export fn ecs_frame_head_bytes(kind: u32) u32 {
    return switch (kindOf(kind)) {
        .sync_begin => frame.headBytes(frame.SyncBegin),
        .sync_chunk => frame.headBytes(frame.SyncChunk),
        .delta_sync => frame.headBytes(frame.DeltaSync),
        .ack => frame.headBytes(frame.Ack),
        .command => frame.headBytes(frame.Command),
        .command_result => frame.headBytes(frame.CommandResult),
        _ => 0,
    };
}

/// Write header, segment table, root, data and pointers of a frame whose block has `block_bytes` bytes.
pub export fn ecs_frame_write_head(
    kind: u32,
    record: [*]const u8,
    record_bytes: u32,
    block_bytes: u32,
    out: [*]u8,
    out_bytes: u32,
) u32 {
    return @intFromEnum(switch (kindOf(kind)) {
        .sync_begin => writeHead(frame.SyncBegin, record, record_bytes, block_bytes, out, out_bytes),
        .sync_chunk => writeHead(frame.SyncChunk, record, record_bytes, block_bytes, out, out_bytes),
        .delta_sync => writeHead(frame.DeltaSync, record, record_bytes, block_bytes, out, out_bytes),
        .ack => writeHead(frame.Ack, record, record_bytes, block_bytes, out, out_bytes),
        .command => writeHead(frame.Command, record, record_bytes, block_bytes, out, out_bytes),
        .command_result => writeHead(frame.CommandResult, record, record_bytes, block_bytes, out, out_bytes),
        _ => Status.kind,
    });
}

/// Read one payload into the record described at the head of this file.
pub export fn ecs_frame_read(kind: u32, payload: [*]const u8, payload_bytes: u32, out: [*]u8, out_bytes: u32) u32 {
    return @intFromEnum(switch (kindOf(kind)) {
        .sync_begin => read(frame.SyncBegin, payload, payload_bytes, out, out_bytes),
        .sync_chunk => read(frame.SyncChunk, payload, payload_bytes, out, out_bytes),
        .delta_sync => read(frame.DeltaSync, payload, payload_bytes, out, out_bytes),
        .ack => read(frame.Ack, payload, payload_bytes, out, out_bytes),
        .command => read(frame.Command, payload, payload_bytes, out, out_bytes),
        .command_result => read(frame.CommandResult, payload, payload_bytes, out, out_bytes),
        _ => Status.kind,
    });
}

fn kindOf(kind: u32) frame.Kind {
    return @enumFromInt(std.math.cast(u8, kind) orelse 0);
}

fn writeHead(
    comptime Record: type,
    record: [*]const u8,
    record_bytes: u32,
    block_bytes: u32,
    out: [*]u8,
    out_bytes: u32,
) Status {
    const head_bytes = comptime frame.headBytes(Record);
    if (record_bytes != @sizeOf(Record) or out_bytes != head_bytes) return .buffer;
    if (block_bytes > frame.block_bytes_max) return .length;
    if (Record.pointers == 0 and block_bytes != 0) return .length;
    // The caller's bytes need not be aligned.
    var copy: Record = undefined;
    @memcpy(std.mem.asBytes(&copy), record[0..@sizeOf(Record)]);
    frame.writeHead(Record, &copy, block_bytes, out[0..head_bytes]);
    return .ok;
}

fn read(comptime Record: type, payload: [*]const u8, payload_bytes: u32, out: [*]u8, out_bytes: u32) Status {
    const Received = frame.Received(Record);
    if (out_bytes != @sizeOf(Received)) return .buffer;
    const received = frame.read(Record, payload[0..payload_bytes]) catch |err| return statusOf(err);
    @memcpy(out[0..@sizeOf(Received)], std.mem.asBytes(&received));
    return .ok;
}

test "every kind reads what it wrote" {
    const records = .{ frame.SyncBegin, frame.SyncChunk, frame.DeltaSync, frame.Ack, frame.Command, frame.CommandResult };
    inline for (records) |Record| {
        const kind: u32 = @intFromEnum(Record.kind);
        const head_bytes = comptime frame.headBytes(Record);
        const payload_bytes = head_bytes - frame.frame_header_bytes;
        const record_bytes = @sizeOf(Record);
        var sent: [record_bytes]u8 = undefined;
        for (&sent, 1..) |*byte, value| byte.* = @truncate(value);

        var out: [head_bytes]u8 = undefined;
        try std.testing.expectEqual(head_bytes, ecs_frame_head_bytes(kind));
        try std.testing.expectEqual(0, ecs_frame_write_head(kind, &sent, record_bytes, 0, &out, out.len));
        var got: [@sizeOf(frame.Received(Record))]u8 = undefined;
        try std.testing.expectEqual(got.len, ecs_frame_read_bytes(kind));
        const payload = out[frame.frame_header_bytes..].ptr;
        try std.testing.expectEqual(0, ecs_frame_read(kind, payload, payload_bytes, &got, got.len));
        try std.testing.expectEqualSlices(u8, &sent, got[0..record_bytes]);

        const wrong_buffer = ecs_frame_read(kind, payload, payload_bytes, &got, got.len - 1);
        try std.testing.expectEqual(@intFromEnum(Status.buffer), wrong_buffer);
        const cut_off = ecs_frame_read(kind, payload, 8, &got, got.len);
        try std.testing.expectEqual(@intFromEnum(Status.length), cut_off);
    }
    try std.testing.expectEqual(0, ecs_frame_read_bytes(1));
    try std.testing.expectEqual(0, ecs_frame_read_bytes(0x105));
}
