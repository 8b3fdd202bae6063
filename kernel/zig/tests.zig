//! Everything that has tests.

comptime {
    _ = @import("abi.zig");
    _ = @import("abi_frame.zig");
    _ = @import("abi_journal.zig");
    _ = @import("abi_queue.zig");
    _ = @import("abi_text.zig");
    _ = @import("abi_query.zig");
    _ = @import("block.zig");
    _ = @import("catalogue.zig");
    _ = @import("changes.zig");
    _ = @import("column.zig");
    _ = @import("crypto.zig");
    _ = @import("edge_test.zig");
    _ = @import("entity.zig");
    _ = @import("events_test.zig");
    _ = @import("frame.zig");
    _ = @import("fuzz.zig");
    _ = @import("grid.zig");
    _ = @import("heap.zig");
    _ = @import("inbox.zig");
    _ = @import("journal.zig");
    _ = @import("key_index.zig");
    _ = @import("nearby.zig");
    _ = @import("oom_test.zig");
    _ = @import("prepared.zig");
    _ = @import("queue_test.zig");
    _ = @import("redo.zig");
    _ = @import("redo_test.zig");
    _ = @import("snapshot_test.zig");
    _ = @import("sparse.zig");
    _ = @import("storage.zig");
    _ = @import("power_loss.zig");
    _ = @import("storage_faulty.zig");
    _ = @import("storage_memory.zig");
    _ = @import("storage_os_test.zig");
    _ = @import("text_test.zig");
    _ = @import("view_test.zig");
    _ = @import("weigh.zig");
}
