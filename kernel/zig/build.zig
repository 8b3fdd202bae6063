//! For developers of the kernel: `python -m ziglang build test`, `… build wasm`, `… build tsan`.
//! The wheel does not use it: `hatch_build.py` compiles `abi.zig` directly.

const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    // ReleaseSafe, as it ships; std's fuzzer does not compile in Debug on 0.16.
    const optimize = b.option(std.builtin.OptimizeMode, "optimize", "Default: ReleaseSafe") orelse .ReleaseSafe;

    const test_step = b.step("test", "Run the kernel's unit and property tests");
    test_step.dependOn(&b.addRunArtifact(tests(b, target, optimize, false)).step);

    const tsan_step = b.step("tsan", "Run the same tests under ThreadSanitizer");
    tsan_step.dependOn(&b.addRunArtifact(tests(b, target, optimize, true)).step);

    const wasm = b.addExecutable(.{
        .name = "ecsnet",
        .root_module = b.createModule(.{
            .root_source_file = b.path("abi.zig"),
            .target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .freestanding }),
            .optimize = .ReleaseSafe,
            .strip = true,
        }),
    });
    wasm.entry = .disabled;
    wasm.rdynamic = true;
    b.step("wasm", "Build the kernel for wasm32").dependOn(&b.addInstallArtifact(wasm, .{}).step);
}

fn tests(b: *std.Build, target: std.Build.ResolvedTarget, optimize: std.builtin.OptimizeMode, tsan: bool) *std.Build.Step.Compile {
    return b.addTest(.{
        // LLVM explicitly: the self-hosted backend has neither TSan nor fuzz coverage.
        .use_llvm = true,
        .root_module = b.createModule(.{
            .root_source_file = b.path("tests.zig"),
            .target = target,
            .optimize = optimize,
            .link_libc = true,
            .sanitize_thread = tsan,
        }),
    });
}
