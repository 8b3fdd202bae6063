//! The log of a run: records queued by the writer, written and synced by whoever flushes.
//!
//! The writer (whoever has the baton) asks for room before anything is promised (`reserve`, `ready`) and queues records in
//! memory (`append`); it says there in which segment each one goes, so that what was found to have room is what is used.
//! A flusher, one at a time, takes what is queued, makes one run of bytes of it, writes that, and syncs: as many records as
//! came together cost one write and one sync. The writer waits for it only when a segment is to be made that was not made
//! ahead.
//!
//! Opening writes nothing. A run begins with its first `reserve`: what was torn goes to quarantine, and a segment is made
//! whose header seals the one before and is durable at once. So a run that showed anything to anybody is seen by the next
//! opening, whatever is lost of it.
//!
//! Invariants:
//! - a record is written once, where nothing but zeros was, after everything before it in the queue;
//! - a segment's header, which seals the one before, is written only when all before it is durable;
//! - `durable <= written`; `horizon` is at most what was durable when it was written; none ever goes back;
//! - after a write or sync has failed nothing is written any more (`failed`): what a later sync that succeeds would say of
//!   the lost bytes is not known. A disk without room for a new segment is no failure: it refuses, and may be asked again;
//! - room for one clean close is always kept.

const std = @import("std");
const assert = std.debug.assert;
const bytes = @import("bytes.zig");
const compat = @import("compat.zig");
const crypto = @import("crypto.zig");
const failure = @import("failure.zig");
const files = @import("segment_files.zig");
const horizon_file = @import("horizon.zig");
const record = @import("record.zig");
const scan = @import("scan.zig");
const segment = @import("segment.zig");
const storage_file = @import("storage.zig");
const Inbox = @import("inbox.zig").Inbox;
const Storage = storage_file.Storage;

pub const Kind = record.Kind;
pub const Level = record.Level;

/// `DiskFull`, `Denied`, `OutOfMemory`: nothing was changed, it may work later. `Limit`: no record can be that large.
/// `Failed`: a write or sync went wrong, now or before; nothing is written any more.
pub const Error = error{ DiskFull, Denied, OutOfMemory, Limit, Failed };

pub const Options = struct {
    /// Bytes of a segment: a multiple of 4096, `segment.bytes_min` at least.
    segment_bytes: u64 = segment.bytes_default,
    /// What every version of this run has at least.
    floor: Level,
    /// Random: salts are made of it.
    seed: [32]u8,
};

/// Counts of this run, each as of its own moment.
pub const Statistics = struct {
    records: u64,
    record_bytes: u64,
    written_bytes: u64,
    queued_bytes: u64,
    writes: u64,
    syncs: u64,
    horizons: u64,
    segments: u64,
    wal_bytes: u64,
};

/// What is written at once, at most: beyond it another system call costs nothing.
const stage_bytes = 1 << 20;
/// What a clean close takes.
const close_bytes = bytes.block_bytes;
/// After the disk was found full, housekeeping leaves it alone for so long.
const full_pause_ns = std.time.ns_per_s;

const Node = struct {
    next: ?*Node = null,
    header: record.Header,
    body: std.ArrayList(u8),
    /// Of the segment that has room for it.
    segment: u64,
    file_bytes: u64,
};

pub const Log = struct {
    /// Of any thread: what one queues another gives back.
    gpa: std.mem.Allocator,
    storage: Storage,
    options: Options,
    start: scan.Start,
    /// Of the records to come; 0 unless the owner says otherwise.
    catalogue: u32 = 0,

    // The writer's.
    begun: bool = false,
    closed: bool = false,
    /// For the next record: asked for beforehand, so that queueing it cannot fail.
    spare: ?*Node = null,
    /// Bytes of body that were reserved for the version that is open.
    open_bytes: u64 = 0,
    ready_bytes: ?u64 = null,
    /// Where the next record goes.
    plan: struct { number: u64 = 0, file_bytes: u64 = 0, at: u64 = 0 } = .{},
    newest: u64,
    tick: u64,

    // Handed from the writer to the flusher.
    inbox: Inbox(Node) = .{},
    /// What is left of the writer's segment.
    left: compat.Atomic(u64) = .init(std.math.maxInt(u64)),

    // Both, under the lock, which is never held while the disk works.
    lock: compat.Lock = .{},
    /// Somebody makes or enlarges a segment.
    preparing: bool = false,
    prepared: ?struct { number: u64, file_bytes: u64 } = null,
    /// The newest segment that has a file.
    latest: u64 = 0,
    segments: std.ArrayList(scan.Segment) = .empty,
    cause: storage_file.Failure = .{},

    // The flusher's.
    handle: ?storage_file.Handle = null,
    mark: ?storage_file.Handle = null,
    sequence: u64,
    seal: segment.Seal,
    salt: u64 = 0,
    /// The run's first segment, whose header is written when it begins.
    first: struct { number: u64 = 0, salt: u64 = 0, sum: bytes.Checksum = @splat(0) } = .{},
    stage: []u8 = &.{},
    staged: usize = 0,
    stage_at: u64 = 0,
    /// The newest version that was staged.
    reached: u64,
    unsynced: bool = false,
    full_until_ns: i64 = std.math.minInt(i64),

    // For everybody.
    /// The newest version that the operating system has, the disk has, HORIZON says.
    written: compat.Atomic(u64),
    durable: compat.Atomic(u64),
    horizon: compat.Atomic(u64),
    /// 0, or the number (`failure.code`, negated) of the error after which nothing is written.
    failed: compat.Atomic(u32) = .init(0),
    counts: Counts = .{},

    const Counts = struct {
        records: compat.Atomic(u64) = .init(0),
        record_bytes: compat.Atomic(u64) = .init(0),
        written_bytes: compat.Atomic(u64) = .init(0),
        queued_bytes: compat.Atomic(u64) = .init(0),
        writes: compat.Atomic(u64) = .init(0),
        syncs: compat.Atomic(u64) = .init(0),
        horizons: compat.Atomic(u64) = .init(0),
    };

    /// A log that goes on where opening ended. It owns `start`, whose memory is of `gpa`, from here, and writes nothing yet. It is not to be moved
    /// once it is used.
    pub fn init(gpa: std.mem.Allocator, storage: Storage, options: Options, start: scan.Start) Log {
        assert(options.segment_bytes >= segment.bytes_min and options.segment_bytes % bytes.block_bytes == 0);
        assert(!start.damaged);
        return .{
            .gpa = gpa,
            .storage = storage,
            .options = options,
            .newest = start.version,
            .tick = start.tick,
            .sequence = start.horizon_sequence,
            .seal = start.seal orelse .{ .number = 0, .end = 0, .checksum = @splat(0), .epoch = start.epoch },
            .reached = start.version,
            // Opening has synced all that it found.
            .written = .init(start.version),
            .durable = .init(start.version),
            .horizon = .init(start.horizon),
            .segments = .fromOwnedSlice(start.segments),
            .start = without: {
                var rest = start;
                rest.segments = &.{};
                break :without rest;
            },
        };
    }

    /// Let go of everything without writing. What is queued is lost, as by a crash.
    pub fn deinit(log: *Log) void {
        var node = log.inbox.takeAll();
        while (node) |one| {
            node = one.next;
            log.discard(one);
        }
        if (log.spare) |spare| log.gpa.destroy(spare);
        if (log.handle) |handle| log.storage.close(handle);
        if (log.mark) |handle| log.storage.close(handle);
        log.gpa.free(log.stage);
        log.segments.deinit(log.gpa);
        log.start.deinit(log.gpa);
        log.* = undefined;
    }

    // The writer.

    /// Whether anything can be written still. From any thread.
    pub fn check(log: *const Log) error{Failed}!void {
        if (log.failed.load(.acquire) != 0) return error.Failed;
    }

    /// Have room for `body_bytes` more in the version that is open. Asked before a transaction is kept: what is refused
    /// has changed nothing. Blocks when a run begins, or a segment must be made that was not made ahead.
    pub fn reserve(log: *Log, body_bytes: u64, now_ns: i64) Error!void {
        const wanted = std.math.add(u64, log.open_bytes, body_bytes) catch return error.Limit;
        try log.makeRoom(wanted, now_ns);
        log.open_bytes = wanted;
    }

    /// Room that was reserved beside that of the open version, for a record that is queued now, or never will be.
    pub fn unreserve(log: *Log, body_bytes: u64) void {
        log.open_bytes -= body_bytes;
    }

    /// Have room for a record of just so many bytes of body, which `append` is called with next. Blocks as `reserve` does,
    /// and not at all when that much was reserved.
    pub fn ready(log: *Log, body_bytes: u64, now_ns: i64) Error!void {
        try log.makeRoom(body_bytes, now_ns);
        log.ready_bytes = body_bytes;
    }

    /// Queue a record, for which `ready` made room; the body is the log's from here, and of its allocator. Of a version it
    /// is the one after the last; other kinds are about the last. `level` is what its answer waits for.
    pub fn append(
        log: *Log,
        kind: Kind,
        version: u64,
        tick: u64,
        now_ns: i64,
        level: Level,
        first_transaction: u64,
        transactions: u32,
        body: std.ArrayList(u8),
    ) void {
        assert(log.begun and !log.closed);
        assert(version == if (kind == .version) log.newest + 1 else log.newest);
        const room = log.ready_bytes.?;
        assert(body.items.len <= room);
        log.ready_bytes = null;
        const span = record.span(body.items.len);
        if (kind != .close and log.plan.at + span + close_bytes > log.plan.file_bytes) log.enterPrepared();
        const node = log.spare.?;
        log.spare = null;
        node.* = .{
            .body = body,
            .segment = log.plan.number,
            .file_bytes = log.plan.file_bytes,
            .header = .{
                .salt = 0,
                .version = version,
                .first_transaction = first_transaction,
                .transactions = transactions,
                .body_bytes = @intCast(body.items.len),
                .durable = 0,
                .time_ns = now_ns,
                .tick = tick,
                .kind = kind,
                .level = level,
                .catalogue = log.catalogue,
                .epoch = log.start.epoch,
            },
        };
        log.plan.at += span;
        assert(log.plan.at <= log.plan.file_bytes);
        log.left.store(log.plan.file_bytes - log.plan.at, .monotonic);
        if (kind == .version) {
            log.newest = version;
            log.tick = tick;
            log.open_bytes = 0;
        }
        _ = log.counts.records.fetchAdd(1, .monotonic);
        _ = log.counts.record_bytes.fetchAdd(span, .monotonic);
        _ = log.counts.queued_bytes.fetchAdd(span, .monotonic);
        log.inbox.put(node);
    }

    fn makeRoom(log: *Log, body_bytes: u64, now_ns: i64) Error!void {
        assert(!log.closed);
        try log.check();
        if (body_bytes > record.body_bytes_max) return error.Limit;
        if (log.spare == null) log.spare = try log.gpa.create(Node);
        const needed = record.span(body_bytes) + close_bytes;
        if (!log.begun) log.begin(segment.records_at + needed, now_ns) catch |err| return log.refused(err);
        if (needed <= log.plan.file_bytes - log.plan.at) return;
        log.prepareNext(segment.records_at + needed) catch |err| return log.refused(err);
    }

    /// Begin the run. Whatever part of it fails may be done again.
    fn begin(log: *Log, needed_bytes: u64, now_ns: i64) storage_file.Error!void {
        const start = &log.start;
        {
            log.lock.take();
            defer log.lock.give();
            try log.segments.ensureUnusedCapacity(log.gpa, 1);
        }
        if (log.stage.len == 0) log.stage = try log.gpa.alloc(u8, stage_bytes);
        if (log.mark == null) log.mark = try log.storage.open(horizon_file.name, .write);
        try files.quarantine(log.gpa, log.storage, start.torn);
        try files.removeStale(log.storage, start.stale);
        const reused = start.ready_bytes >= needed_bytes;
        const file_bytes = if (reused) start.ready_bytes else @max(log.options.segment_bytes, needed_bytes);
        const before = start.seal;
        const header: segment.Header = .{
            .database = start.database,
            .epoch = start.epoch,
            .number = start.next,
            .salt = log.saltOf(start.next),
            .first_version = start.version + 1,
            .file_bytes = file_bytes,
            .predecessor = before,
            .floor = log.options.floor,
            .time_ns = now_ns,
            .run = true,
            .ancestor_version = if (before != null and before.?.epoch != start.epoch) start.version else null,
        };
        var block: bytes.Block = undefined;
        header.encode(&block);
        if (reused) {
            try files.begin(log.storage, start.next, &block);
        } else {
            try files.prepare(log.gpa, log.storage, start.next, file_bytes, log.options.segment_bytes, &block);
        }
        log.first = .{ .number = start.next, .salt = header.salt, .sum = bytes.sumOf(&block) };
        log.plan = .{ .number = start.next, .file_bytes = file_bytes, .at = segment.records_at };
        log.lock.take();
        log.latest = start.next;
        log.segments.appendAssumeCapacity(.{ .number = start.next, .first_version = start.version + 1, .bytes = file_bytes });
        log.lock.give();
        log.begun = true;
    }

    /// Go on in the segment that was prepared.
    fn enterPrepared(log: *Log) void {
        log.lock.take();
        defer log.lock.give();
        const next = log.prepared.?;
        log.prepared = null;
        log.plan = .{ .number = next.number, .file_bytes = next.file_bytes, .at = segment.records_at };
        log.segments.appendAssumeCapacity(.{ .number = next.number, .first_version = log.newest + 1, .bytes = next.file_bytes });
    }

    /// Have the next segment, of `needed_bytes` at least. By the writer, or ahead of it by the flusher.
    fn prepareNext(log: *Log, needed_bytes: u64) storage_file.Error!void {
        while (true) {
            log.lock.take();
            if (!log.preparing) break;
            log.lock.give();
            compat.yield();
        }
        const there = log.prepared;
        const number = if (there) |next| next.number else log.latest + 1;
        if (there) |next| if (next.file_bytes >= needed_bytes) return log.lock.give();
        const room = log.segments.ensureUnusedCapacity(log.gpa, 1);
        log.preparing = room != error.OutOfMemory;
        log.lock.give();
        try room;
        const file_bytes = @max(log.options.segment_bytes, needed_bytes);
        const result = if (there != null)
            files.enlarge(log.storage, number, file_bytes)
        else
            files.prepare(log.gpa, log.storage, number, file_bytes, log.options.segment_bytes, null);
        log.lock.take();
        defer log.lock.give();
        log.preparing = false;
        try result;
        log.prepared = .{ .number = number, .file_bytes = file_bytes };
        log.latest = number;
    }

    // The flusher.

    /// Write everything that is queued, and sync it when `want`, or the level of any of it, is strict or above; with
    /// paranoid HORIZON as well. What was appended before is then as durable as that.
    pub fn flush(log: *Log, want: Level, now_ns: i64) Error!void {
        try log.check();
        log.flushQueue(want, now_ns) catch |err| return log.fail(err);
    }

    /// Housekeeping: HORIZON, when more is durable than it says, and the next segment, when the one in use is half full.
    pub fn tend(log: *Log, now_ns: i64) Error!void {
        try log.check();
        if (log.horizonIsOld()) log.writeHorizon() catch |err| return log.fail(err);
        if (log.left.load(.monotonic) > log.options.segment_bytes / 2 or now_ns < log.full_until_ns) return;
        log.lock.take();
        const there = log.prepared != null or log.preparing;
        log.lock.give();
        if (there) return;
        log.prepareNext(0) catch |err| switch (log.refused(err)) {
            error.Failed => return error.Failed,
            // Whoever needs it is told.
            else => log.full_until_ns = now_ns +| full_pause_ns,
        };
    }

    /// End the run cleanly: whoever opens next knows that nothing is missing. Nobody may call anything but `deinit` beside
    /// or after it. A run that never began has nothing to end.
    pub fn close(log: *Log, now_ns: i64) Error!void {
        try log.check();
        if (!log.begun) return;
        if (log.spare == null) log.spare = try log.gpa.create(Node);
        log.ready_bytes = 0;
        log.append(.close, log.newest, log.tick, now_ns, .strict, 0, 0, .empty);
        log.closed = true;
        log.flushQueue(.paranoid, now_ns) catch |err| return log.fail(err);
    }

    fn flushQueue(log: *Log, want: Level, now_ns: i64) storage_file.Error!void {
        var level = want;
        var node = log.inbox.takeAll();
        errdefer while (node) |one| {
            node = one.next;
            log.discard(one);
        };
        while (node) |one| {
            if (log.handle == null or one.segment != log.seal.number) try log.enter(one, now_ns);
            try log.stageRecord(one);
            level = level.max(one.header.level);
            node = one.next;
            log.discard(one);
        }
        try log.writeStage();
        if (level.atLeast(.strict) and log.unsynced) try log.syncSegment();
        if (level == .paranoid and log.horizonIsOld()) try log.writeHorizon();
    }

    /// Leave the segment in use for that of a record: all before it is durable, and its header, which says so, is staged.
    fn enter(log: *Log, node: *const Node, now_ns: i64) storage_file.Error!void {
        if (log.handle) |handle| {
            try log.writeStage();
            if (log.unsynced) try log.syncSegment();
            log.storage.close(handle);
            log.handle = null;
        }
        var name: segment.Name = undefined;
        log.handle = try log.storage.open(segment.nameOf(node.segment, &name), .write);
        if (node.segment == log.first.number) {
            log.salt = log.first.salt;
            log.seal = .{ .number = node.segment, .end = segment.records_at, .checksum = log.first.sum, .epoch = log.start.epoch };
            log.stage_at = segment.records_at;
            return;
        }
        assert(node.segment == log.seal.number + 1);
        const header: segment.Header = .{
            .database = log.start.database,
            .epoch = log.start.epoch,
            .number = node.segment,
            .salt = log.saltOf(node.segment),
            .first_version = log.reached + 1,
            .file_bytes = node.file_bytes,
            .predecessor = log.seal,
            .floor = log.options.floor,
            .time_ns = now_ns,
            .run = false,
            .ancestor_version = null,
        };
        var block: bytes.Block = undefined;
        header.encode(&block);
        log.stage_at = 0;
        try log.put(&block);
        log.salt = header.salt;
        log.seal = .{ .number = node.segment, .end = segment.records_at, .checksum = bytes.sumOf(&block), .epoch = log.start.epoch };
    }

    fn stageRecord(log: *Log, node: *Node) storage_file.Error!void {
        const header = &node.header;
        header.salt = log.salt;
        header.parent = log.seal.checksum;
        header.body = crypto.checksum(&.{node.body.items});
        header.durable = log.durable.load(.monotonic);
        var head: [record.header_bytes]u8 = undefined;
        log.seal.checksum = header.encode(&head);
        const span = record.span(node.body.items.len);
        try log.put(&head);
        try log.put(node.body.items);
        try log.putZeros(@intCast(span - head.len - node.body.items.len));
        log.seal.end += span;
        log.reached = header.version;
        _ = log.counts.queued_bytes.fetchSub(span, .monotonic);
    }

    fn put(log: *Log, what: []const u8) storage_file.Error!void {
        var rest = what;
        while (rest.len > 0) {
            if (log.staged == log.stage.len) try log.writePieces();
            const n = @min(rest.len, log.stage.len - log.staged);
            @memcpy(log.stage[log.staged..][0..n], rest[0..n]);
            log.staged += n;
            rest = rest[n..];
        }
    }

    /// Fewer than a block.
    fn putZeros(log: *Log, n: usize) storage_file.Error!void {
        const zeros: bytes.Block = @splat(0);
        try log.put(zeros[0..n]);
    }

    fn writeStage(log: *Log) storage_file.Error!void {
        try log.writePieces();
        log.written.store(log.reached, .release);
    }

    fn writePieces(log: *Log) storage_file.Error!void {
        if (log.staged == 0) return;
        log.unsynced = true;
        try log.storage.write(log.handle.?, log.stage_at, log.stage[0..log.staged]);
        _ = log.counts.writes.fetchAdd(1, .monotonic);
        _ = log.counts.written_bytes.fetchAdd(log.staged, .monotonic);
        log.stage_at += log.staged;
        log.staged = 0;
    }

    fn syncSegment(log: *Log) storage_file.Error!void {
        assert(log.staged == 0);
        try log.storage.sync(log.handle.?, .data);
        _ = log.counts.syncs.fetchAdd(1, .monotonic);
        log.unsynced = false;
        log.durable.store(log.reached, .release);
    }

    /// Whether more is durable than HORIZON says. It stays as opening found it until something of this run is written.
    fn horizonIsOld(log: *const Log) bool {
        return log.handle != null and log.horizon.load(.monotonic) < log.durable.load(.monotonic);
    }

    fn writeHorizon(log: *Log) storage_file.Error!void {
        const durable = log.durable.load(.monotonic);
        const said: horizon_file.Mark = .{
            .database = log.start.database,
            .epoch = log.start.epoch,
            .durable = durable,
            .sequence = log.sequence + 1,
        };
        var sector: [horizon_file.sector_bytes]u8 = undefined;
        said.encode(&sector);
        try log.storage.write(log.mark.?, said.offset(), &sector);
        try log.storage.sync(log.mark.?, .data);
        log.sequence = said.sequence;
        _ = log.counts.horizons.fetchAdd(1, .monotonic);
        log.horizon.store(durable, .release);
    }

    fn discard(log: *Log, node: *Node) void {
        node.body.deinit(log.gpa);
        log.gpa.destroy(node);
    }

    fn saltOf(log: *const Log, number: u64) u64 {
        var of: [8]u8 = undefined;
        bytes.put(u64, &of, 0, number);
        return bytes.get(u64, &crypto.checksum(&.{ &log.options.seed, "salt", &of }), 0);
    }

    /// What is refused for now stays refused; anything else is the end.
    fn refused(log: *Log, err: storage_file.Error) Error {
        return switch (err) {
            error.DiskFull, error.Denied, error.OutOfMemory => |kept| kept,
            error.Io, error.NotFound, error.Exists, error.Locked => log.fail(err),
        };
    }

    fn fail(log: *Log, err: storage_file.Error) error{Failed} {
        const cause = log.storage.failure();
        log.lock.take();
        defer log.lock.give();
        if (log.failed.load(.monotonic) == 0) log.cause = cause;
        log.failed.store(@intCast(-failure.code(err)), .release);
        return error.Failed;
    }

    // For everybody.

    /// What the write or sync was about that failed.
    pub fn failureCause(log: *Log) storage_file.Failure {
        log.lock.take();
        defer log.lock.give();
        return log.cause;
    }

    /// The oldest segment that is needed to go on from `version`: every one before it may be removed.
    pub fn neededFrom(log: *Log, version: u64) u64 {
        log.lock.take();
        defer log.lock.give();
        var needed: u64 = log.start.next;
        for (log.segments.items, 0..) |of, i| {
            if (i == 0 or of.first_version <= version + 1) needed = of.number;
        }
        return needed;
    }

    /// The segments that were begun and are there, oldest first; the caller's.
    pub fn segmentList(log: *Log, gpa: std.mem.Allocator) error{OutOfMemory}![]scan.Segment {
        log.lock.take();
        defer log.lock.give();
        return gpa.dupe(scan.Segment, log.segments.items);
    }

    /// Forget a segment whose file was removed, which must not be needed.
    pub fn forget(log: *Log, number: u64) void {
        log.lock.take();
        defer log.lock.give();
        for (log.segments.items, 0..) |of, i| if (of.number == number) {
            _ = log.segments.orderedRemove(i);
            return;
        };
    }

    pub fn statistics(log: *Log) Statistics {
        const counts = &log.counts;
        var of: Statistics = .{
            .records = counts.records.load(.monotonic),
            .record_bytes = counts.record_bytes.load(.monotonic),
            .written_bytes = counts.written_bytes.load(.monotonic),
            .queued_bytes = counts.queued_bytes.load(.monotonic),
            .writes = counts.writes.load(.monotonic),
            .syncs = counts.syncs.load(.monotonic),
            .horizons = counts.horizons.load(.monotonic),
            .segments = 0,
            .wal_bytes = 0,
        };
        log.lock.take();
        defer log.lock.give();
        for (log.segments.items) |one| {
            of.segments += 1;
            of.wal_bytes += one.bytes;
        }
        return of;
    }
};
