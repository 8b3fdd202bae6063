//! Layouts of what crosses the boundary about storages and databases. Beside the functions, since the manifest says them
//! also where there are no disks.

/// A text of somebody else's memory.
pub const TextOut = extern struct {
    address: u64 = 0,
    length: u64 = 0,

    pub fn of(text: []const u8) TextOut {
        return .{ .address = @intFromPtr(text.ptr), .length = text.len };
    }
};

pub const FailureOut = extern struct { operation: u32, errno: i32, path: TextOut };

pub const DamageOut = extern struct { file: TextOut, what: TextOut, offset: u64, version: u64, durable: u64 };

pub const AncestorOut = extern struct { epoch: u32, reserved: u32 = 0, version: u64 };

pub const flag_read_only = 1;
pub const flag_create = 2;
pub const flag_archive = 4;

pub const DiskIn = extern struct {
    seed: [32]u8,
    fingerprint: [16]u8,
    now_ns: i64,
    /// Address and length of the schema's canonical text.
    schema: u64,
    schema_bytes: u64,
    segment_bytes: u64,
    level: u32,
    flags: u32,
};

pub const flag_created = 1;
pub const flag_new_epoch = 2;
pub const flag_is_read_only = 4;

pub const RecoveryOut = extern struct {
    database: [16]u8 = @splat(0),
    /// Of the schema that the data has.
    fingerprint: [16]u8 = @splat(0),
    version: u64 = 0,
    tick: u64 = 0,
    snapshot_version: u64 = 0,
    records: u64 = 0,
    torn_bytes: u64 = 0,
    wal_bytes: u64 = 0,
    epoch: u32 = 0,
    flags: u32 = 0,
    ancestors: u64 = 0,
    ancestor_count: u64 = 0,
    damages: u64 = 0,
    damage_count: u64 = 0,
};

pub const SnapshotOut = extern struct {
    version: u64 = 0,
    tick: u64 = 0,
    time_ns: i64 = 0,
    bytes: u64 = 0,
    done: u64 = 0,
    total: u64 = 0,
    digest: [16]u8 = @splat(0),
    name: TextOut = .{},
};

/// Counts of a run, each as of its own moment.
pub const DiskStatistics = extern struct {
    written: u64,
    durable: u64,
    horizon: u64,
    records: u64 = 0,
    record_bytes: u64 = 0,
    written_bytes: u64 = 0,
    queued_bytes: u64 = 0,
    writes: u64 = 0,
    syncs: u64 = 0,
    segments: u64 = 0,
    wal_bytes: u64 = 0,
    since_snapshot_bytes: u64 = 0,
    snapshots: u64,
    snapshot_bytes: u64,
};
