//! An inbox: any thread puts something in, one takes everything out. Lock-free for every producer.
//!
//! A stack of linked nodes. Putting in is a compare-and-swap of its head; taking is one swap, after which the
//! taker alone owns the chain and turns it round, so that what was put in first comes out first.
//!
//! Invariants:
//! - a node belongs to whoever made it until `put` returns, then to the inbox, then to whoever took it;
//! - nothing is ever read of a node that somebody else may own: a producer writes `next` of its own node only, so a
//!   head that went away and came back (ABA) does no harm;
//! - the taker reads nodes only after a swap that saw their `put`.
//!
//! Orders, each with a weakened twin that the model (`tests/kernel/test_memory_orders.py`) must catch:
//! 1. `put` publishes with release, so that whoever takes the node sees its contents;
//! 2. the swap of `takeAll` acquires them. Every change of the head is a read-modify-write, so the nodes of earlier
//!    producers are acquired through the later one's: the release sequence is not broken.

const std = @import("std");
const compat = @import("compat.zig");

/// `Node` has a field `next: ?*Node`, which is the inbox's.
pub fn Inbox(comptime Node: type) type {
    return struct {
        newest: compat.Atomic(?*Node) = .init(null),

        const Self = @This();

        /// From any thread.
        pub fn put(inbox: *Self, node: *Node) void {
            var seen = inbox.newest.load(.monotonic);
            while (true) {
                node.next = seen;
                // The order of the success is also what `isEmpty` and a baton that is given back rely on.
                seen = inbox.newest.cmpxchgStrong(seen, node, .seq_cst, .monotonic) orelse return;
            }
        }

        /// Everything that was put in, oldest first.
        pub fn takeAll(inbox: *Self) ?*Node {
            var node = inbox.newest.swap(null, .acquire);
            var turned: ?*Node = null;
            while (node) |one| {
                node = one.next;
                one.next = turned;
                turned = one;
            }
            return turned;
        }

        /// Whether anything waits. One answer of many that were true: somebody may be putting something in.
        pub fn isEmpty(inbox: *const Self) bool {
            return inbox.newest.load(.seq_cst) == null;
        }
    };
}

test "what is put in comes out once, in order" {
    const Node = struct { next: ?*@This() = null, value: u32 };
    var inbox: Inbox(Node) = .{};
    try std.testing.expect(inbox.isEmpty());
    try std.testing.expectEqual(null, inbox.takeAll());
    var nodes: [3]Node = .{ .{ .value = 0 }, .{ .value = 1 }, .{ .value = 2 } };
    for (&nodes) |*node| inbox.put(node);
    try std.testing.expect(!inbox.isEmpty());
    var taken = inbox.takeAll();
    for (0..3) |value| {
        try std.testing.expectEqual(value, taken.?.value);
        taken = taken.?.next;
    }
    try std.testing.expectEqual(null, taken);
    try std.testing.expect(inbox.isEmpty());
}
