//! The digest: 128 bits that two stores share exactly when their replicated tables hold the same
//! rows with the same bits, in whatever order.
//!
//! It is a wrapping sum over cells, in two lanes of 64 bits, so it needs no sorting and the order of
//! rows does not matter. Per cell, with `mix` the finalizer of MurmurHash3:
//!
//!     seed  = mix((table id << 16 | field id) + 1)
//!     h     = mix(seed ^ key), then for each 8-byte word w of the cell (little-endian, the last one
//!             padded with zeros): h = mix(h +% w +% 0x9e3779b97f4a7c15)
//!     low  += h
//!     high += mix(h ^ 0xd6e8feb86659fd93)
//!
//! Each row also counts once with field id 0xffff and no words, so a row without fields counts too.
//! It finds divergence; it does not authenticate anything.

const std = @import("std");
const Views = @import("view.zig").Views;
const Head = @import("head.zig").Head;
const mix = @import("key_index.zig").mix;

pub const Digest = struct {
    low: u64 = 0,
    high: u64 = 0,

    fn add(digest: *Digest, h: u64) void {
        digest.low +%= h;
        digest.high +%= mix(h ^ 0xd6e8feb86659fd93);
    }
};

const step: u64 = 0x9e3779b97f4a7c15;

/// Scan a pinned slot. Off the writer: it reads the slot only.
pub fn ofSlot(head: *const Head, views: *const Views, slot: usize) Digest {
    var digest: Digest = .{};
    for (head.tables, views.slots[slot].tables) |*table, *view| {
        if (!table.spec.replicated) continue;
        const keys = view.keyList();
        const table_id: u64 = table.spec.id;
        const row_seed = mix((table_id << 16 | 0xffff) + 1);
        for (keys) |key| digest.add(mix(row_seed ^ key));
        for (table.spec.fields, view.columns) |*field, buffer| {
            const seed = mix((table_id << 16 | field.id) + 1);
            switch (field.width) {
                1 => narrow(u8, &digest, seed, keys, buffer.data),
                2 => narrow(u16, &digest, seed, keys, buffer.data),
                4 => narrow(u32, &digest, seed, keys, buffer.data),
                8 => narrow(u64, &digest, seed, keys, buffer.data),
                else => wide(field.width, &digest, seed, keys, buffer.data),
            }
        }
    }
    return digest;
}

fn narrow(comptime T: type, digest: *Digest, seed: u64, keys: []const u64, data: []align(64) const u8) void {
    const cells = @as([*]const T, @ptrCast(data.ptr))[0..keys.len];
    for (keys, cells) |key, cell| digest.add(mix(mix(seed ^ key) +% cell +% step));
}

fn wide(width: u32, digest: *Digest, seed: u64, keys: []const u64, data: []const u8) void {
    for (keys, 0..) |key, row| {
        const cell = data[row * width ..][0..width];
        var h = mix(seed ^ key);
        var at: usize = 0;
        while (at < width) : (at += 8) {
            var word: [8]u8 = @splat(0);
            const n = @min(8, width - at);
            @memcpy(word[0..n], cell[at..][0..n]);
            h = mix(h +% std.mem.readInt(u64, &word, .little) +% step);
        }
        digest.add(h);
    }
}
