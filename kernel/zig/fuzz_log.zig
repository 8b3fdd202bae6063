//! Fuzz targets over everything that reads the files of a log, and the same as a seeded smoke test (`fuzz.zig` says how
//! they are run).
//!
//! The property: whatever the bytes, and also when every checksum over them is right, a scan ends in a state or a typed
//! error. It never reads out of bounds and never trusts a number: the build is ReleaseSafe. Where it ends in a state, the
//! log can go on there.

const std = @import("std");
const bytes = @import("bytes.zig");
const crypto = @import("crypto.zig");
const failure = @import("failure.zig");
const horizon = @import("horizon.zig");
const log_file = @import("log.zig");
const log_test = @import("log_test.zig");
const manifest = @import("manifest.zig");
const record_file = @import("record.zig");
const scan_file = @import("scan.zig");
const segment = @import("segment.zig");
const Log = log_file.Log;
const Memory = @import("storage_memory.zig").Memory;

const gpa = std.testing.allocator;

/// Takes whatever comes.
const Sink = struct {
    pub fn record(_: *Sink, _: *const record_file.Header, _: []const u8) failure.Error!void {}
};

/// A log of two segments and two runs.
fn sample() !*Memory {
    const memory = try Memory.createPlain(gpa, 1);
    errdefer memory.destroy();
    const storage = memory.storage();
    try log_test.createDatabase(storage);
    for (1..3) |seed| {
        var run: log_test.Run = try .open(storage, .relaxed, @intCast(seed));
        defer run.deinit();
        for (0..5) |i| _ = try run.commit(.strict, i * 1000);
        try run.log.flush(.paranoid, 1);
        if (seed == 1) try run.log.close(1);
    }
    return memory;
}

/// Open what is there, and go on there where that is possible.
fn offer(memory: *Memory) !void {
    const storage = memory.storage();
    for ([_]bool{ true, false }) |read_only| {
        var problem: scan_file.Damage = .{};
        const opened = scan_file.Scan.open(gpa, storage, .{ .seed = @splat(1), .read_only = read_only }, &problem) catch |err| {
            try expected(err, &problem);
            continue;
        };
        var scan = opened orelse return error.TestUnexpectedResult;
        defer scan.deinit();
        var sink: Sink = .{};
        // A snapshot is older than what is written after it.
        const base = @min(scan.manifest.origin, segment.version_max - 1);
        var start = scan.run(.{ .version = base }, &sink) catch |err| {
            try expected(err, &scan.problem);
            continue;
        };
        if (read_only or start.damaged or start.ready_bytes > 1 << 20) {
            start.deinit(gpa);
            continue;
        }
        var log: Log = .init(gpa, storage, .{ .segment_bytes = segment.bytes_min, .floor = .strict, .seed = @splat(9) }, start);
        defer log.deinit();
        try log.ready(0, 1);
        log.append(.version, log.newest + 1, 0, 1, .strict, 0, 0, .empty);
        try log.flush(.strict, 1);
        const newest = log.newest;
        var again = (try scan_file.Scan.open(gpa, storage, .{ .seed = @splat(1) }, &problem)).?;
        defer again.deinit();
        var found = try again.run(.{ .version = base }, &sink);
        defer found.deinit(gpa);
        try std.testing.expectEqual(newest, found.version);
    }
}

fn expected(err: failure.Error, problem: *const scan_file.Damage) !void {
    switch (err) {
        error.Corrupt, error.Foreign => try std.testing.expect(problem.what.len > 0 and problem.file().len > 0),
        else => return err,
    }
}

/// Change something in a structure of a file, and make its checksums right again.
fn forge(memory: *Memory, random: std.Random) !void {
    const names = memory.names.keys();
    const name = try gpa.dupe(u8, names[random.uintLessThan(usize, names.len)]);
    defer gpa.free(name);
    const file = try gpa.dupe(u8, memory.contents(name) orelse return);
    defer gpa.free(file);
    if (std.mem.eql(u8, name, horizon.name)) {
        const sector = file[random.uintLessThan(usize, 2) * bytes.block_bytes ..];
        change(sector[0..48], random);
        sector[48..64].* = crypto.checksum(&.{sector[0..48]});
    } else if (manifest.numberOf(name) != null) {
        change(file[0..@min(96, file.len)], random);
        const end = file.len - 16;
        file[end..][0..16].* = crypto.checksum(&.{file[0..end]});
    } else if (random.uintLessThan(u8, 3) == 0) {
        change(file[0..124], random);
        bytes.seal(file[0..bytes.block_bytes]);
    } else {
        // A record, wherever one may begin.
        const at = bytes.block_bytes * (1 + random.uintLessThan(usize, 6));
        const record = file[at..];
        change(record[16..record_file.header_bytes], random);
        const body_bytes = bytes.get(u32, record, 76);
        if (body_bytes <= record.len - record_file.header_bytes) {
            record[16..32].* = crypto.checksum(&.{record[record_file.header_bytes..][0..body_bytes]});
        }
        record[0..16].* = crypto.checksum(&.{record[16..record_file.header_bytes]});
    }
    try memory.put(name, file);
}

/// One number of some width, to what is likely to be wrong.
fn change(fields: []u8, random: std.Random) void {
    const width = @as(usize, 1) << random.uintLessThan(u2, 4 - 1);
    const at = random.uintLessThan(usize, fields.len / width) * width;
    const field = fields[at..][0..width];
    switch (random.uintLessThan(u8, 5)) {
        0 => @memset(field, 0),
        1 => @memset(field, 0xff),
        2 => field[0] +%= 1,
        3 => field[0] -%= 1,
        else => random.bytes(field),
    }
}

test "smoke: a log with forged fields ends in a state or an error" {
    const memory = try sample();
    defer memory.destroy();
    var prng: std.Random.DefaultPrng = .init(2026);
    for (0..1500) |round| {
        errdefer std.debug.print("round {d}\n", .{round});
        const forged = try memory.killed();
        defer forged.destroy();
        for (0..1 + prng.random().uintLessThan(usize, 2)) |_| try forge(forged, prng.random());
        try offer(forged);
    }
}

fn fuzzOne(_: void, smith: *std.testing.Smith) anyerror!void {
    const memory = try sample();
    defer memory.destroy();
    const names = memory.names.keys();
    const name = try gpa.dupe(u8, names[smith.index(names.len)]);
    defer gpa.free(name);
    const file = try gpa.dupe(u8, memory.contents(name) orelse return);
    defer gpa.free(file);
    // Where structures begin, and with right checksums, more often than chance would have it.
    const block = file[smith.index(file.len / 512 + 1) * 512 % file.len ..];
    while (!smith.eos()) block[smith.index(@min(block.len, 160))] = smith.value(u8);
    if (smith.value(bool) and block.len >= record_file.header_bytes) {
        block[0..16].* = crypto.checksum(&.{block[16..record_file.header_bytes]});
    }
    if (smith.value(bool) and file.len >= bytes.block_bytes) bytes.seal(file[0..bytes.block_bytes]);
    try memory.put(name, file);
    try offer(memory);
}

test "fuzz: any bytes of a log end in a state or an error" {
    try std.testing.fuzz({}, fuzzOne, .{});
}
