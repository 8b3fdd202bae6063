//! What can go wrong in the kernel, and the numbers a foreign caller sees. A new error does not
//! compile until `code` gives it a number; numbers are appended, never reused.

pub const Error = error{
    OutOfMemory,
    Busy,
    NoBaton,
    NoTransaction,
    InTransaction,
    UnknownTable,
    UnknownField,
    StaleKey,
    NoRow,
    RowExists,
    Range,
    Enum,
    Unique,
    ForeignKey,
    Required,
    Restrict,
    ReadOnly,
    Limit,
    BadArgument,
    BadCatalogue,
    BadBlock,
    BaseAhead,
    StaleVersion,
    HistoryGone,
    ViewsHeld,
    Text,
    HeapFull,
    Reference,
    EventRow,
    Io,
    DiskFull,
    NotFound,
    Exists,
    Locked,
    Denied,
    /// What was acknowledged is damaged.
    Corrupt,
    /// Not ours: another format, a newer one, or another database's.
    Foreign,
    /// An earlier write or sync failed: nothing is written any more.
    Failed,
    SchemaDiffers,
    /// A moment to restore that is not kept.
    Unreachable,
    /// A stamp is further in the future than clocks may differ.
    StampAhead,
};

pub fn code(err: Error) i32 {
    return switch (err) {
        error.OutOfMemory => -1,
        error.Busy => -2,
        error.NoBaton => -3,
        error.NoTransaction => -4,
        error.InTransaction => -5,
        error.UnknownTable => -6,
        error.UnknownField => -7,
        error.StaleKey => -8,
        error.NoRow => -9,
        error.RowExists => -10,
        error.Range => -11,
        error.Enum => -12,
        error.Unique => -13,
        error.ForeignKey => -14,
        error.Required => -15,
        error.Restrict => -16,
        error.ReadOnly => -17,
        error.Limit => -18,
        error.BadArgument => -19,
        error.BadCatalogue => -20,
        error.BadBlock => -21,
        error.BaseAhead => -23,
        error.StaleVersion => -24,
        error.HistoryGone => -25,
        error.ViewsHeld => -26,
        error.Text => -27,
        error.HeapFull => -28,
        error.Reference => -29,
        error.EventRow => -30,
        error.Io => -31,
        error.DiskFull => -32,
        error.NotFound => -33,
        error.Exists => -34,
        error.Locked => -35,
        error.Denied => -36,
        error.Corrupt => -37,
        error.Foreign => -38,
        error.Failed => -39,
        error.SchemaDiffers => -40,
        error.Unreachable => -41,
        error.StampAhead => -42,
    };
}

/// Where the last failed call of a store went wrong. Read by the caller right after a status below
/// zero; the next failure overwrites it. Field numbers that do not apply are 0xffff, keys 0.
pub const Info = extern struct {
    key: u64 = 0,
    /// The cell's bits as found (first 8 bytes), and the bound or key that it broke.
    found: u64 = 0,
    expected: u64 = 0,
    /// Byte offset in a block or an operation buffer, or row of a bulk call.
    offset: u64 = 0,
    table: u16 = 0xffff,
    field: u16 = 0xffff,
    /// What kind of thing a block got wrong: a `block.Reason`.
    reason: u16 = 0,
    reserved: u16 = 0,
};
