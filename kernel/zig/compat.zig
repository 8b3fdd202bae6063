//! Everything the kernel takes from `std` that moves between Zig versions, and everything that
//! differs between a process with libc and a bare wasm module. No other file may ask which target
//! or which Zig it is built for, except `storage_os.zig` and `hub.zig`, which speak to systems, and `crypto.zig`, which
//! asks for instructions.

const std = @import("std");
const builtin = @import("builtin");

pub const is_wasm = builtin.cpu.arch.isWasm();
pub const has_os = builtin.os.tag != .freestanding;
pub const has_threads = has_os and !builtin.single_threaded;

/// An atomic where there are threads, and a plain value with the same methods where there are
/// none: wasm32 without `+atomics` rejects 64-bit read-modify-write, and needs none.
pub fn Atomic(comptime T: type) type {
    return if (has_threads) std.atomic.Value(T) else Plain(T);
}

fn Plain(comptime T: type) type {
    return struct {
        raw: T,

        const Self = @This();
        const Order = std.builtin.AtomicOrder;

        pub fn init(value: T) Self {
            return .{ .raw = value };
        }
        pub fn load(self: *const Self, comptime _: Order) T {
            return self.raw;
        }
        pub fn store(self: *Self, value: T, comptime _: Order) void {
            self.raw = value;
        }
        pub fn swap(self: *Self, value: T, comptime _: Order) T {
            defer self.raw = value;
            return self.raw;
        }
        pub fn fetchAdd(self: *Self, value: T, comptime _: Order) T {
            defer self.raw +%= value;
            return self.raw;
        }
        pub fn fetchSub(self: *Self, value: T, comptime _: Order) T {
            defer self.raw -%= value;
            return self.raw;
        }
        pub fn cmpxchgStrong(self: *Self, expected: T, value: T, comptime _: Order, comptime _: Order) ?T {
            if (self.raw != expected) return self.raw;
            self.raw = value;
            return null;
        }
    };
}

/// Let another thread of this machine run.
pub fn yield() void {
    if (has_threads) std.Thread.yield() catch {};
}

/// A lock for what is held briefly and rarely wanted by two at once: the books of a storage, never its work.
pub const Lock = struct {
    held: Atomic(bool) = .init(false),

    pub fn take(lock: *Lock) void {
        while (lock.held.swap(true, .acquire)) yield();
    }
    pub fn give(lock: *Lock) void {
        lock.held.store(false, .release);
    }
};

/// libc's allocator in a process that has libc, the page-growing one on bare wasm.
pub const allocator: std.mem.Allocator = if (builtin.link_libc)
    std.heap.c_allocator
else if (is_wasm)
    std.heap.wasm_allocator
else
    std.heap.page_allocator;

extern "c" fn abort() noreturn;
extern "c" fn write(fd: c_int, bytes: [*]const u8, len: usize) isize;

/// A panic is a bug in the kernel. Release builds say so in one line and stop: std's own handler
/// would pull a DWARF reader into the library (3.6 MB against 0.1).
pub fn smallPanic(message: []const u8, _: ?usize) noreturn {
    if (!has_os) @trap();
    const head = "ecsnet kernel: bug: ";
    _ = write(2, head.ptr, head.len);
    _ = write(2, message.ptr, message.len);
    _ = write(2, "\n", 1);
    abort();
}

pub const Access = enum { none, read, write };

/// Let whole pages be read, or written, or neither. Only where `has_os`.
pub fn protect(pages: []u8, access: Access) void {
    if (!has_os) unreachable;
    const done = if (builtin.os.tag == .windows) protectWindows(pages, access) else protectPosix(pages, access);
    if (!done) @panic("the protection of pages cannot be changed");
}

fn protectPosix(pages: []u8, access: Access) bool {
    const bits: c_int = switch (access) {
        .none => 0,
        .read => 1,
        .write => 3,
    };
    return c.mprotect(pages.ptr, pages.len, bits) == 0;
}

fn protectWindows(pages: []u8, access: Access) bool {
    const bits: u32 = switch (access) {
        .none => 1,
        .read => 2,
        .write => 4,
    };
    var before: u32 = 0;
    return windows.VirtualProtect(pages.ptr, pages.len, bits, &before) != 0;
}

const c = struct {
    extern "c" fn mprotect(address: [*]u8, bytes: usize, access: c_int) c_int;
};

const windows = struct {
    extern "kernel32" fn VirtualProtect(address: [*]u8, bytes: usize, access: u32, before: *u32) callconv(.winapi) c_int;
};

/// Counts what is allocated through it, so that a store can say how much memory it holds and a
/// test can say that it stays flat. Only the writer allocates, so the count needs no order.
pub const CountingAllocator = struct {
    child: std.mem.Allocator,
    bytes: Atomic(u64) = .init(0),

    pub fn allocator(self: *CountingAllocator) std.mem.Allocator {
        return .{ .ptr = self, .vtable = &.{
            .alloc = alloc,
            .resize = resize,
            .remap = remap,
            .free = free,
        } };
    }

    fn alloc(ctx: *anyopaque, len: usize, alignment: std.mem.Alignment, ret: usize) ?[*]u8 {
        const self: *CountingAllocator = @ptrCast(@alignCast(ctx));
        const got = self.child.rawAlloc(len, alignment, ret) orelse return null;
        self.count(len, 0);
        return got;
    }
    fn resize(ctx: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, ret: usize) bool {
        const self: *CountingAllocator = @ptrCast(@alignCast(ctx));
        if (!self.child.rawResize(memory, alignment, len, ret)) return false;
        self.count(len, memory.len);
        return true;
    }
    fn remap(ctx: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, ret: usize) ?[*]u8 {
        const self: *CountingAllocator = @ptrCast(@alignCast(ctx));
        const got = self.child.rawRemap(memory, alignment, len, ret) orelse return null;
        self.count(len, memory.len);
        return got;
    }
    fn free(ctx: *anyopaque, memory: []u8, alignment: std.mem.Alignment, ret: usize) void {
        const self: *CountingAllocator = @ptrCast(@alignCast(ctx));
        self.child.rawFree(memory, alignment, ret);
        self.count(0, memory.len);
    }

    /// Others only read it: a writer by itself needs no read-modify-write, a publication makes twenty of these.
    pub fn count(self: *CountingAllocator, more: usize, less: usize) void {
        self.bytes.store(self.bytes.load(.monotonic) + more - less, .monotonic);
    }
};
