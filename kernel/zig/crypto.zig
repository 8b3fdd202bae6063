//! The one checksum of everything on a disk: the AEGIS-128L MAC, 128 bit, with a zero key and nonce. It finds damage; it
//! proves nothing about who wrote the bytes.

const std = @import("std");
const Mac = std.crypto.auth.aegis.Aegis128LMac_128;

/// The checksum of the bytes of all parts, one after the other.
pub fn checksum(parts: []const []const u8) [16]u8 {
    var mac: Mac = .init(&@as([16]u8, @splat(0)));
    for (parts) |part| mac.update(part);
    var out: [16]u8 = undefined;
    mac.final(&out);
    return out;
}

/// Which instructions compute it: those that any processor has, or those for AES.
pub const Path = enum(u8) { portable = 0, aes = 1 };

pub fn path() Path {
    return if (std.crypto.core.aes.has_hardware_support) .aes else .portable;
}

test "where the bytes are cut does not matter" {
    const text = "the quick brown fox jumps over the lazy dog, twice and then once more";
    const whole = checksum(&.{text});
    for (0..text.len) |cut| try std.testing.expectEqual(whole, checksum(&.{ text[0..cut], text[cut..] }));
    try std.testing.expect(!std.mem.eql(u8, &whole, &checksum(&.{text[1..]})));
}
