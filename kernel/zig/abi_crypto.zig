//! The checksum of what lies on a disk, for those who read it without the kernel's own reader.

const crypto = @import("crypto.zig");

/// The 16 bytes of the checksum of `length` bytes. From any thread.
export fn ecs_checksum(bytes: [*]const u8, length: u64, out: *[16]u8) void {
    out.* = crypto.checksum(&.{bytes[0..@intCast(length)]});
}

/// Which instructions compute it here: a `crypto.Path`.
export fn ecs_checksum_path() u32 {
    return @intFromEnum(crypto.path());
}
