//! Opening: what the files of a database say its newest version is, and whether that is all that was acknowledged.
//!
//! `Scan.open` reads the newest manifest and HORIZON. The caller then loads a snapshot that the manifest names, and
//! `Scan.run` hands over the records of the log after it, in order, and says how the next run of the log begins.
//!
//! The rule. The chain of records is followed from the segment that has the first version wanted. A segment that its
//! successor seals must be whole up to its seal: it was durable before the seal was written. The last segment that was
//! begun has no seal, and ends at the first thing that is not the next record. If that was to be version e, look ahead: D
//! is the newest version that anything later, or HORIZON, says to have been durable. D < e: an end that nobody was
//! promised, torn by a crash. It is remembered, for the next run to put into quarantine and seal off. D >= e: acknowledged
//! data is damaged, which is told and never repaired.
//!
//! Invariants:
//! - nothing is written here. What is read is synced before it is believed: otherwise the page cache could show what the
//!   next loss of power takes away, after somebody was answered for it;
//! - what is handed over is a prefix of what was logged, or of it up to the damage when reading only;
//! - opening again, whatever crash came between, finds the same versions.

const std = @import("std");
const assert = std.debug.assert;
const bytes = @import("bytes.zig");
const crypto = @import("crypto.zig");
const failure = @import("failure.zig");
const horizon = @import("horizon.zig");
const manifest_file = @import("manifest.zig");
const record = @import("record.zig");
const segment = @import("segment.zig");
const storage_file = @import("storage.zig");
const Ancestor = manifest_file.Ancestor;
const Manifest = manifest_file.Manifest;
const Storage = storage_file.Storage;

pub const Error = failure.Error;

/// A damaged place.
pub const Damage = struct {
    file_bytes: [48]u8 = undefined,
    file_length: u8 = 0,
    offset: u64 = 0,
    /// The version that was expected there, or 0.
    version: u64 = 0,
    /// The newest version that was certainly durable, or 0.
    durable: u64 = 0,
    what: []const u8 = "",

    pub fn init(name: []const u8, offset: u64, what: []const u8) Damage {
        var damage: Damage = .{ .offset = offset, .what = what };
        const kept = name[name.len -| damage.file_bytes.len..];
        @memcpy(damage.file_bytes[0..kept.len], kept);
        damage.file_length = @intCast(kept.len);
        return damage;
    }

    /// Relative to the root of the storage.
    pub fn file(damage: *const Damage) []const u8 {
        return damage.file_bytes[0..damage.file_length];
    }
};

pub const Options = struct {
    /// Nothing is synced, and of damaged data the intact beginning is taken.
    read_only: bool = false,
    /// Random: a new epoch's number is made of it.
    seed: [32]u8,
};

/// Bytes of a file of the log that nobody was promised: from `offset` on, as far as any is not zero.
pub const Torn = struct { number: u64, offset: u64, bytes: u64 };

/// A segment that was begun.
pub const Segment = struct { number: u64, first_version: u64, bytes: u64 };

/// What opening found, and where the next run of the log begins.
pub const Start = struct {
    database: [16]u8,
    /// The epoch of the versions to come.
    epoch: u32,
    /// It begins with them: versions that somebody saw may be gone.
    new_epoch: bool,
    /// The epochs before it, oldest first.
    ancestors: []Ancestor,
    version: u64,
    tick: u64,
    time_ns: i64,
    /// Versions that were replayed.
    records: u64 = 0,
    /// Where the newest segment ends; null when none was begun.
    seal: ?segment.Seal,
    /// The number of the next run's first segment.
    next: u64,
    /// Bytes of the file that has that number already, prepared and unused; 0 where it is to be made.
    ready_bytes: u64 = 0,
    /// Segments behind that one, never begun.
    stale: []u64,
    torn: []Torn,
    segments: []Segment,
    /// What HORIZON says, and how often it was written.
    horizon: u64,
    horizon_sequence: u64,
    /// What was damaged and could be done without; when reading only, what could not, last.
    damage: []Damage,
    /// Acknowledged data is damaged: `version` is what is intact, for reading only.
    damaged: bool = false,

    pub fn tornBytes(start: *const Start) u64 {
        var sum: u64 = 0;
        for (start.torn) |torn| sum += torn.bytes;
        return sum;
    }

    pub fn walBytes(start: *const Start) u64 {
        var sum: u64 = 0;
        for (start.segments) |of| sum += of.bytes;
        return sum;
    }

    pub fn deinit(start: *Start, gpa: std.mem.Allocator) void {
        gpa.free(start.ancestors);
        gpa.free(start.stale);
        gpa.free(start.torn);
        gpa.free(start.segments);
        gpa.free(start.damage);
        start.* = undefined;
    }
};

/// Where replaying begins: a snapshot that was loaded, or the database's origin.
pub const Base = struct { version: u64, tick: u64 = 0, time_ns: i64 = 0 };

pub const Scan = struct {
    gpa: std.mem.Allocator,
    storage: Storage,
    options: Options,
    /// The newest that is intact; its memory is the scan's.
    manifest: Manifest,
    mark: ?horizon.Mark,
    /// What was damaged and could be done without.
    notes: std.ArrayList(Damage) = .empty,
    /// What the last `Corrupt` or `Foreign` was about.
    problem: Damage = .{},

    /// Read what the database consists of; null where there is none, and nothing that looks like one. After `Corrupt`
    /// (damaged) and `Foreign` (another's, or newer) `problem` says where. Everything is unchanged whatever comes back.
    pub fn open(gpa: std.mem.Allocator, storage: Storage, options: Options, problem: *Damage) Error!?Scan {
        var scan: Scan = .{ .gpa = gpa, .storage = storage, .options = options, .manifest = undefined, .mark = null };
        errdefer problem.* = scan.problem;
        errdefer scan.notes.deinit(gpa);
        if (!try scan.findManifest()) return null;
        errdefer scan.manifest.deinit(gpa);
        try scan.readHorizon();
        return scan;
    }

    pub fn deinit(scan: *Scan) void {
        scan.manifest.deinit(scan.gpa);
        scan.notes.deinit(scan.gpa);
        scan.* = undefined;
    }

    /// Tell of something damaged that is done without.
    pub fn note(scan: *Scan, damage: Damage) error{OutOfMemory}!void {
        try scan.notes.append(scan.gpa, damage);
    }

    /// Hand every record after `base` to `sink.record(*const record.Header, body) failure.Error!void`, in order: versions
    /// beyond it, and notes about it and later ones. An error of the sink ends it. The caller frees what is returned.
    pub fn run(scan: *Scan, base: Base, sink: anytype) Error!Start {
        var walk: Walk = .{ .scan = scan, .base = base, .version = base.version, .tick = base.tick, .time_ns = base.time_ns };
        defer walk.deinit();
        try walk.list();
        walk.follow(sink) catch |err| {
            if (err != error.Corrupt or !scan.options.read_only) return err;
            walk.damaged = true;
        };
        return walk.finish();
    }

    fn fail(scan: *Scan, damage: Damage) error{Corrupt} {
        scan.problem = damage;
        return error.Corrupt;
    }

    fn foreign(scan: *Scan, damage: Damage) error{Foreign} {
        scan.problem = damage;
        return error.Foreign;
    }

    // Manifests and HORIZON.

    fn findManifest(scan: *Scan) Error!bool {
        const names = scan.storage.list(scan.gpa, "") catch |err| switch (err) {
            error.NotFound => return false,
            else => |other| return other,
        };
        defer storage_file.freeNames(scan.gpa, names);
        try scan.syncDir("");
        var newest: ?Damage = null;
        var i = names.len;
        while (i > 0) {
            i -= 1;
            const number = manifest_file.numberOf(names[i]) orelse continue;
            const file = try scan.readFile(names[i], manifest_file.bytes_max);
            defer scan.gpa.free(file);
            const damage: Damage = .init(names[i], 0, "the manifest is damaged");
            scan.manifest = manifest_file.decode(scan.gpa, file) catch |err| switch (err) {
                error.OutOfMemory => return error.OutOfMemory,
                error.Foreign => return scan.foreign(.init(names[i], 8, "the manifest is of a newer format")),
                error.Corrupt => {
                    newest = newest orelse damage;
                    continue;
                },
            };
            if (scan.manifest.number != number) {
                scan.manifest.deinit(scan.gpa);
                newest = newest orelse damage;
                continue;
            }
            errdefer scan.manifest.deinit(scan.gpa);
            if (newest) |skipped| try scan.note(skipped);
            return true;
        }
        if (newest) |damage| return scan.fail(damage);
        try scan.refuseStrangers(names);
        return false;
    }

    /// Without a manifest there is no database: but an interrupted creation is nothing, and other files are not ours.
    fn refuseStrangers(scan: *Scan, names: []const []const u8) Error!void {
        for (names) |name| {
            if (name[0] == '.' or std.mem.eql(u8, name, "lost+found")) continue;
            if (std.mem.endsWith(u8, name, ".tmp")) continue;
            for ([_][]const u8{ "wal", "snap", "archive", "quarantine" }) |ours| {
                if (!std.mem.eql(u8, name, ours)) continue;
                const held = try scan.storage.list(scan.gpa, name);
                defer storage_file.freeNames(scan.gpa, held);
                for (held) |one| if (!std.mem.endsWith(u8, one, ".tmp")) {
                    return scan.fail(.init(name, 0, "there are data, and no manifest that says of what"));
                };
                break;
            } else {
                for ([_][]const u8{ "LOCK", "HORIZON", "control" }) |ours| {
                    if (std.mem.eql(u8, name, ours)) break;
                } else return scan.foreign(.init(name, 0, "the directory has files that are no database's"));
            }
        }
    }

    fn readHorizon(scan: *Scan) Error!void {
        const file = scan.readFile(horizon.name, horizon.file_bytes) catch |err| switch (err) {
            // Made before the first manifest, and never without a whole sector: without it nobody can say whether the
            // log's end was lost.
            error.NotFound => return scan.lostHorizon("it is missing"),
            else => |other| return other,
        };
        defer scan.gpa.free(file);
        for (horizon.marks(file)) |found| {
            const mark = found orelse continue;
            if (!std.mem.eql(u8, &mark.database, &scan.manifest.database)) {
                return scan.foreign(.init(horizon.name, mark.offset(), "it is another database's"));
            }
            if (scan.mark == null or mark.sequence > scan.mark.?.sequence) scan.mark = mark;
        }
        if (scan.mark == null) try scan.lostHorizon("neither sector of it is whole");
    }

    fn lostHorizon(scan: *Scan, what: []const u8) Error!void {
        const damage: Damage = .init(horizon.name, 0, what);
        if (!scan.options.read_only) return scan.fail(damage);
        try scan.note(damage);
    }

    // Reading.

    fn syncDir(scan: *const Scan, path: []const u8) Error!void {
        if (!scan.options.read_only) try scan.storage.syncDir(path);
    }

    fn openFile(scan: *const Scan, path: []const u8) Error!storage_file.Handle {
        if (scan.options.read_only) return scan.storage.open(path, .read);
        const handle = try scan.storage.open(path, .write);
        errdefer scan.storage.close(handle);
        try scan.storage.sync(handle, .data);
        // A process before this one may have stopped because that failed.
        scan.storage.reload(handle);
        return handle;
    }

    /// A whole file, or as much of it as `most`; the caller's.
    fn readFile(scan: *const Scan, path: []const u8, most: u64) Error![]u8 {
        const handle = try scan.openFile(path);
        defer scan.storage.close(handle);
        const size = @min(try scan.storage.size(handle), most);
        const into = try scan.gpa.alloc(u8, @intCast(size));
        errdefer scan.gpa.free(into);
        const n = try scan.storage.read(handle, 0, into);
        // What a file has lost since it was measured is missing, not zero.
        if (n < into.len) return error.Io;
        return into;
    }
};

/// A file of the log, and what its first block says.
const File = struct {
    number: u64,
    size: u64,
    found: segment.Found,

    fn header(file: *const File) ?*const segment.Header {
        return switch (file.found) {
            .header => |*found| &found.of,
            else => null,
        };
    }
};

/// One way through the log.
const Walk = struct {
    scan: *Scan,
    base: Base,
    files: std.ArrayList(File) = .empty,
    /// The last file that was begun.
    last: ?usize = null,
    /// What was reached.
    version: u64,
    tick: u64,
    time_ns: i64,
    records: u64 = 0,
    seal: ?segment.Seal = null,
    closed: bool = false,
    /// The newest version that anything so far says to have been durable.
    durable: u64 = 0,
    ancestors: std.ArrayList(Ancestor) = .empty,
    /// The epoch after all of them.
    epoch: u32 = 0,
    torn: std.ArrayList(Torn) = .empty,
    stale: std.ArrayList(u64) = .empty,
    ready_bytes: u64 = 0,
    damaged: bool = false,

    fn deinit(walk: *Walk) void {
        const gpa = walk.scan.gpa;
        walk.files.deinit(gpa);
        walk.ancestors.deinit(gpa);
        walk.torn.deinit(gpa);
        walk.stale.deinit(gpa);
    }

    /// The files of the log and their headers.
    fn list(walk: *Walk) Error!void {
        const scan = walk.scan;
        try walk.ancestors.appendSlice(scan.gpa, scan.manifest.ancestors);
        walk.epoch = scan.manifest.epoch;
        if (scan.mark) |mark| walk.durable = mark.durable;
        const names = scan.storage.list(scan.gpa, "wal") catch |err| switch (err) {
            error.NotFound => return,
            else => |other| return other,
        };
        defer storage_file.freeNames(scan.gpa, names);
        try scan.syncDir("wal");
        for (names) |name| {
            const number = segment.numberOf(name) orelse continue;
            var path: segment.Name = undefined;
            const handle = try scan.openFile(segment.nameOf(number, &path));
            defer scan.storage.close(handle);
            var block: bytes.Block = @splat(0);
            const n = try scan.storage.read(handle, 0, &block);
            // What is missing of a header is not zero.
            const first: segment.Found = if (n < block.len) .none else segment.decode(&block);
            const file: File = .{ .number = number, .size = try scan.storage.size(handle), .found = first };
            if (file.found == .newer) return scan.foreign(.init(path[0..], 28, "the segment is of a newer format"));
            if (file.header()) |header| {
                if (!std.mem.eql(u8, &header.database, &scan.manifest.database)) {
                    return scan.foreign(.init(path[0..], 8, "the segment is another database's"));
                }
                walk.last = walk.files.items.len;
            }
            try walk.files.append(scan.gpa, file);
        }
    }

    fn follow(walk: *Walk, sink: anytype) Error!void {
        const first = try walk.firstNeeded() orelse return walk.lookAhead(&.{}, 0);
        const last = walk.last.?;
        var content: std.ArrayList(u8) = .empty;
        defer content.deinit(walk.scan.gpa);
        for (walk.files.items[first .. last + 1], first..) |*file, i| {
            try walk.enter(file, i == first);
            try walk.read(file, &content);
            const sealed = if (i < last) try walk.sealBy(&walk.files.items[i + 1]) else null;
            const end = try walk.followRecords(file, content.items, sealed, sink);
            if (sealed == null) try walk.lookAhead(content.items[end..], end);
        }
        if (walk.version < walk.base.version) {
            return walk.fail(&walk.files.items[last], walk.seal.?.end, "the log ends before the snapshot");
        }
    }

    /// The file to begin with: the last whose first version is not after the first wanted. Null when nothing was begun.
    fn firstNeeded(walk: *Walk) Error!?usize {
        const files = walk.files.items;
        const last = walk.last orelse {
            // Before a snapshot is named, the log up to it is durable, and its last segment is never removed.
            if (walk.base.version == walk.scan.manifest.origin) return null;
            return walk.missing(walk.scan.manifest.oldest);
        };
        var i = last;
        while (true) : (i -= 1) {
            const header = files[i].header() orelse
                return walk.fail(&files[i], 0, "the segment's header is damaged, and a later segment was begun");
            if (header.number != files[i].number) {
                return walk.fail(&files[i], 32, "the segment has another's name");
            }
            const reaches = header.first_version <= walk.base.version + 1;
            // One that begins an epoch without a version of the one before says nothing of what that is: it is entered from there.
            if (reaches and walk.knows(header.epoch)) return i;
            if (header.predecessor == null) {
                if (reaches) return walk.fail(&files[i], 24, "the segment is of an unknown epoch");
                return walk.fail(&files[i], 48, "the segment begins after the version that is wanted");
            }
            if (i == 0 or files[i - 1].number != files[i].number - 1) {
                if (reaches) return walk.fail(&files[i], 24, "the segment is of an unknown epoch");
                return walk.missing(files[i].number - 1);
            }
        }
    }

    /// What a segment says of the one before.
    fn sealBy(walk: *Walk, file: *const File) Error!*const segment.Seal {
        if (file.header().?.predecessor) |*seal| return seal;
        return walk.fail(file, 64, "the segment says nothing of the one before");
    }

    /// What is between a segment and the one before.
    fn enter(walk: *Walk, file: *const File, first: bool) Error!void {
        const header = file.header().?;
        const sum = file.found.header.sum;
        if (first) {
            walk.version = header.first_version -% 1;
            if (header.first_version == 0) return walk.fail(file, 48, "the segment begins with no version");
            assert(walk.knows(header.epoch));
        } else {
            const before = &walk.seal.?;
            const said = header.predecessor.?;
            if (!std.meta.eql(said, before.*)) return walk.fail(file, 64, "the segment does not follow the one before");
            if (header.first_version != walk.version + 1) return walk.fail(file, 48, "versions are missing");
            if (header.epoch != before.epoch or header.ancestor_version != null) {
                if (header.ancestor_version != walk.version or !header.run) {
                    return walk.fail(file, 112, "the epoch does not follow the one before");
                }
                if (!try walk.turn(before.epoch, header.epoch)) {
                    return walk.fail(file, 24, "the epoch is not the one that the manifest says");
                }
            }
        }
        walk.seal = .{ .number = file.number, .end = segment.records_at, .checksum = sum, .epoch = header.epoch };
        walk.closed = false;
    }

    fn knows(walk: *const Walk, epoch: u32) bool {
        if (epoch == walk.epoch) return true;
        for (walk.ancestors.items) |of| if (of.epoch == epoch) return true;
        return false;
    }

    /// Epoch `to` began after this version of `from`: whether that is what is known, or can be added to it.
    fn turn(walk: *Walk, from: u32, to: u32) Error!bool {
        const known = walk.ancestors.items;
        for (known, 0..) |of, i| {
            if (of.epoch != from) continue;
            const next = if (i + 1 < known.len) known[i + 1].epoch else walk.epoch;
            return of.last == walk.version and next == to;
        }
        if (from != walk.epoch or to == 0) return false;
        try walk.ancestors.append(walk.scan.gpa, .{ .epoch = from, .last = walk.version });
        walk.epoch = to;
        return true;
    }

    fn read(walk: *Walk, file: *const File, into: *std.ArrayList(u8)) Error!void {
        const storage = walk.scan.storage;
        var path: segment.Name = undefined;
        // Synced when its header was read.
        const handle = try storage.open(segment.nameOf(file.number, &path), .read);
        defer storage.close(handle);
        into.clearRetainingCapacity();
        try into.resize(walk.scan.gpa, @intCast(file.size));
        const n = try storage.read(handle, 0, into.items);
        if (n < into.items.len) return error.Io;
    }

    /// Follow the records of a segment: where they end. A sealed one's must end at the seal.
    fn followRecords(walk: *Walk, file: *const File, content: []const u8, sealed: ?*const segment.Seal, sink: anytype) Error!usize {
        const header = file.header().?;
        const seal = &walk.seal.?;
        var at: usize = segment.records_at;
        const end = if (sealed) |by| @min(by.end, content.len) else content.len;
        while (at < end) {
            const found = switch (record.decode(content[at..end])) {
                .none => break,
                .newer => return walk.foreign(file, at, "the record is of a newer kind"),
                .header => |found| found,
            };
            const of = &found.of;
            // Not this segment's: whatever it is, it is not what was written here.
            if (of.salt != header.salt) break;
            const body = record.bodyOf(of, content[at..end]) orelse break;
            const version = if (of.kind == .version) walk.version + 1 else walk.version;
            if (!std.mem.eql(u8, &of.parent, &seal.checksum)) return walk.fail(file, at, "the record does not follow the one before");
            if (of.version != version) return walk.fail(file, at, "the record is of another version");
            if (of.epoch != header.epoch) return walk.fail(file, at, "the record is of another epoch");
            if (of.durable > walk.version) return walk.fail(file, at, "the record knows of later ones");
            walk.durable = @max(walk.durable, of.durable);
            const wanted = if (of.kind == .version) version > walk.base.version else version >= walk.base.version;
            if (wanted) sink.record(of, body) catch |err| {
                walk.scan.problem = walk.damageAt(file, at, "the record's body was refused");
                return err;
            };
            walk.version = version;
            if (of.kind == .version) {
                if (wanted) {
                    walk.records += 1;
                    walk.tick = of.tick;
                    walk.time_ns = of.time_ns;
                }
            }
            walk.closed = of.kind == .close;
            seal.checksum = found.sum;
            at += @intCast(record.span(of.body_bytes));
            at = @min(at, content.len);
            seal.end = at;
        }
        if (sealed) |by| {
            const next = &walk.files.items[walk.indexOf(file) + 1];
            walk.durable = @max(walk.durable, next.header().?.first_version -| 1);
            if (at != by.end) return walk.fail(file, at, "the record is damaged, or missing");
        }
        return at;
    }

    fn indexOf(walk: *const Walk, file: *const File) usize {
        return (@intFromPtr(file) - @intFromPtr(walk.files.items.ptr)) / @sizeOf(File);
    }

    /// What lies behind the last record: evidence that something is lost, an end that was torn, or nothing.
    fn lookAhead(walk: *Walk, rest: []const u8, offset: u64) Error!void {
        const gpa = walk.scan.gpa;
        if (walk.last) |last| {
            const file = &walk.files.items[last];
            const torn = bytes.used(rest);
            walk.evidence(rest[0..torn], &.{file.header().?.salt});
            if (torn > 0) try walk.torn.append(gpa, .{ .number = file.number, .offset = offset, .bytes = torn });
        }
        const next = walk.nextNumber();
        var content: std.ArrayList(u8) = .empty;
        defer content.deinit(gpa);
        for (walk.files.items[if (walk.last) |last| last + 1 else 0..]) |*file| {
            try walk.read(file, &content);
            const torn = bytes.used(content.items);
            if (torn > 0) {
                const whole = content.items[0..torn];
                var salts: [2]u64 = undefined;
                salts[0] = if (whole.len >= 48) bytes.get(u64, whole, 40) else 0;
                salts[1] = salts[0];
                if (whole.len > segment.records_at) switch (record.decode(whole[segment.records_at..])) {
                    .header => |found| salts[1] = found.of.salt,
                    else => {},
                };
                walk.evidence(whole, &salts);
                try walk.torn.append(gpa, .{ .number = file.number, .offset = 0, .bytes = torn });
            }
            if (file.number != next) {
                try walk.stale.append(gpa, file.number);
            } else if (torn == 0 and file.size >= segment.bytes_min and file.size % bytes.block_bytes == 0) {
                walk.ready_bytes = file.size;
            }
        }
        if (walk.durable > walk.version) {
            if (walk.last) |last| return walk.fail(&walk.files.items[last], offset, "an acknowledged record is damaged, or missing");
            return walk.missing(next);
        }
    }

    /// Records that lie anywhere in `rest` say what was durable when they were written.
    fn evidence(walk: *Walk, rest: []const u8, salts: []const u64) void {
        var at: usize = 0;
        while (at < rest.len) : (at += bytes.block_bytes) {
            switch (record.decode(rest[at..])) {
                .header => |found| if (std.mem.indexOfScalar(u64, salts, found.of.salt) != null) {
                    walk.durable = @max(walk.durable, found.of.durable);
                },
                else => {},
            }
        }
    }

    fn nextNumber(walk: *const Walk) u64 {
        const last = walk.last orelse return walk.scan.manifest.oldest;
        return walk.files.items[last].number + 1;
    }

    // Ending.

    fn finish(walk: *Walk) Error!Start {
        const scan = walk.scan;
        const gpa = scan.gpa;
        var new_epoch = false;
        if (!walk.damaged) {
            if (walk.seal) |seal| if (seal.epoch != walk.epoch) {
                // The manifest knows an epoch that no segment has yet; the one before must have ended here.
                const known = walk.ancestors.items;
                const before = known[known.len - 1];
                if (before.epoch != seal.epoch or before.last != walk.version) {
                    const file = &walk.files.items[walk.last.?];
                    try walk.failUnlessReading(file, seal.end, "the log does not end where the manifest says its epoch did");
                }
            } else {
                const floor = walk.files.items[walk.last.?].header().?.floor;
                const clean = walk.closed and walk.torn.items.len == 0;
                new_epoch = !clean and !floor.atLeast(.strict);
            };
            if (walk.seal == null and walk.torn.items.len > 0) new_epoch = true;
        }
        if (walk.damaged) try scan.notes.append(gpa, scan.problem);
        const version = @max(walk.version, walk.base.version);
        if (new_epoch) {
            try walk.ancestors.append(gpa, .{ .epoch = walk.epoch, .last = version });
            walk.epoch = walk.newEpoch();
        }
        var segments: std.ArrayList(Segment) = .empty;
        defer segments.deinit(gpa);
        for (walk.files.items) |*file| if (file.header()) |header| {
            try segments.append(gpa, .{ .number = file.number, .first_version = header.first_version, .bytes = file.size });
        };
        const ancestors = try walk.ancestors.toOwnedSlice(gpa);
        errdefer gpa.free(ancestors);
        const stale = try walk.stale.toOwnedSlice(gpa);
        errdefer gpa.free(stale);
        const torn = try walk.torn.toOwnedSlice(gpa);
        errdefer gpa.free(torn);
        const begun = try segments.toOwnedSlice(gpa);
        errdefer gpa.free(begun);
        return .{
            .database = scan.manifest.database,
            .epoch = walk.epoch,
            .new_epoch = new_epoch,
            .ancestors = ancestors,
            .version = version,
            .tick = walk.tick,
            .time_ns = walk.time_ns,
            .records = walk.records,
            .seal = walk.seal,
            .next = walk.nextNumber(),
            .ready_bytes = walk.ready_bytes,
            .stale = stale,
            .torn = torn,
            .segments = begun,
            .horizon = if (scan.mark) |mark| mark.durable else 0,
            .horizon_sequence = if (scan.mark) |mark| mark.sequence else 0,
            .damage = try gpa.dupe(Damage, scan.notes.items),
            .damaged = walk.damaged,
        };
    }

    fn newEpoch(walk: *const Walk) u32 {
        var tried: [4]u8 = @splat(0);
        while (true) {
            const sum = crypto.checksum(&.{ &walk.scan.options.seed, "epoch", &tried });
            const epoch = bytes.get(u32, &sum, 0);
            if (epoch != 0 and !walk.knows(epoch)) return epoch;
            tried[0] += 1;
        }
    }

    fn damageAt(walk: *const Walk, file: *const File, offset: u64, what: []const u8) Damage {
        var path: segment.Name = undefined;
        var damage: Damage = .init(segment.nameOf(file.number, &path), offset, what);
        damage.version = walk.version + 1;
        damage.durable = walk.durable;
        return damage;
    }

    fn fail(walk: *Walk, file: *const File, offset: u64, what: []const u8) error{Corrupt} {
        return walk.scan.fail(walk.damageAt(file, offset, what));
    }

    fn failUnlessReading(walk: *Walk, file: *const File, offset: u64, what: []const u8) error{Corrupt}!void {
        walk.scan.problem = walk.damageAt(file, offset, what);
        if (!walk.scan.options.read_only) return error.Corrupt;
        walk.damaged = true;
    }

    fn foreign(walk: *Walk, file: *const File, offset: u64, what: []const u8) error{Foreign} {
        return walk.scan.foreign(walk.damageAt(file, offset, what));
    }

    fn missing(walk: *Walk, number: u64) error{Corrupt} {
        return walk.fail(&.{ .number = number, .size = 0, .found = .none }, 0, "the segment is missing");
    }
};
