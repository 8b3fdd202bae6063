"""Compile the kernel: into the wheel as its build hook, or into a clone by `python hatch_build.py`.

The compiler is the `ziglang` wheel, so nothing but Python is needed. For this machine the library is left beside
`ecsnet/_kernel` (git-ignored) with a stamp of its sources, so that running from a clone works and a stale library is
noticed; for another platform it goes to `build/<tag>/`.

Environment, for packagers: `ECSNET_BUILD_PLATFORM` is a key of `TARGETS` (default: this machine),
`ECSNET_BUILD_OPTIMIZE` one of Zig's modes (default: ReleaseSafe).
"""

import importlib.util
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a command in a clone, where only ziglang is needed
    BuildHookInterface = object  # type: ignore[assignment,misc]


class Target(NamedTuple):
    zig: str
    cpu: str
    system: str  # a key of source.LIBRARY_NAMES


# wheel platform tag -> what Zig compiles for. x86_64_v2 (2009 and later) has SSE4.2 and popcount, which the kernel's
# bitmaps live on; newer instructions are chosen at load where they matter.
TARGETS = {
    "manylinux_2_17_x86_64": Target("x86_64-linux-gnu.2.17", "x86_64_v2", "linux"),
    "manylinux_2_17_aarch64": Target("aarch64-linux-gnu.2.17", "baseline", "linux"),
    "musllinux_1_2_x86_64": Target("x86_64-linux-musl", "x86_64_v2", "linux"),
    "musllinux_1_2_aarch64": Target("aarch64-linux-musl", "baseline", "linux"),
    "macosx_13_0_arm64": Target("aarch64-macos.13.0", "baseline", "macos"),
    "macosx_13_0_x86_64": Target("x86_64-macos.13.0", "x86_64_v2", "macos"),
    "win_amd64": Target("x86_64-windows-gnu", "x86_64_v2", "windows"),
}
OPTIMIZE = ("Debug", "ReleaseSafe", "ReleaseFast", "ReleaseSmall")


def load_source_module(root: Path) -> ModuleType:
    """`ecsnet/_kernel/source.py`, without importing the package around it (whose dependencies are not there yet)."""
    spec = importlib.util.spec_from_file_location("ecsnet_kernel_source", root / "ecsnet" / "_kernel" / "source.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def host_tag() -> str:
    """The wheel platform tag of this machine, whether or not it is in `TARGETS`."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if sys.platform == "win32":
        return "win_amd64" if machine == "x86_64" else f"win_{machine}"
    if sys.platform == "darwin":
        return "macosx_13_0_arm64" if machine == "aarch64" else "macosx_13_0_x86_64"
    musl = "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "")
    return f"{'musllinux_1_2' if musl else 'manylinux_2_17'}_{machine}"


def build_library(root: Path, tag: str, optimize: str = "ReleaseSafe") -> tuple[Path, Path]:
    """Compile the kernel of the clone at `root` for the platform `tag`.

    Returns:
        The library and its stamp: in `ecsnet/_kernel` for this machine, in `build/<tag>` for another one.

    Raises:
        SystemExit: the platform or mode is unknown, or the compiler reports errors (it has printed them). What was
            there before is unchanged.
    """
    if tag not in TARGETS:
        raise SystemExit(f"no kernel is known for platform {tag!r}; ECSNET_BUILD_PLATFORM may be: {', '.join(TARGETS)}")
    if optimize not in OPTIMIZE:
        raise SystemExit(f"ECSNET_BUILD_OPTIMIZE is {optimize!r}; it may be: {', '.join(OPTIMIZE)}")
    source = load_source_module(root)
    target = TARGETS[tag]
    name = source.LIBRARY_NAMES[target.system]
    folder = root / "ecsnet" / "_kernel" if tag == host_tag() else root / "build" / tag
    folder.mkdir(parents=True, exist_ok=True)

    # Compiled aside and renamed into place: a process that has the old library mapped keeps its file, and an
    # interrupted build leaves the old library with the old stamp.
    cache = root / ".zig-cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as scratch:
        built = Path(scratch) / name
        # Before compiling: a file saved meanwhile makes the library stale, never falsely fresh.
        digest = source.source_digest(root)
        command = [sys.executable, "-m", "ziglang", "build-lib", "-dynamic", "-lc", "-O", optimize]
        command += ["-target", target.zig, f"-mcpu={target.cpu}", "--name", "ecsnet"]
        command += ["--cache-dir", str(cache), "--global-cache-dir", str(cache / "global")]
        command += [f"-femit-bin={built}"]
        if optimize != "Debug":
            command.append("-fstrip")
            if target.zig == "x86_64-linux-gnu.2.17":
                # The C library's memset and memcpy in place of Zig's own, which take twice as long on what a store
                # does most. Its stack probe lives beside them; no frame of the kernel is larger than a guard page.
                # Only where it was tried: other targets may want more of what is left out.
                command += ["-fno-compiler-rt", "-fno-stack-check"]
        command.append(str(Path("kernel") / "zig" / "abi.zig"))
        if subprocess.run(command, cwd=root, check=False).returncode != 0:
            raise SystemExit(f"the kernel did not compile; the command was: {' '.join(command)}")
        stamp = Path(scratch) / source.STAMP_NAME
        stamp.write_text(f"{digest}\n", encoding="ascii")
        # No stamp is better than a wrong one, should we be stopped between the two renames.
        (folder / source.STAMP_NAME).unlink(missing_ok=True)
        os.replace(built, folder / name)
        os.replace(stamp, folder / source.STAMP_NAME)
    return folder / name, folder / source.STAMP_NAME


class KernelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's entry point."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        tag = os.environ.get("ECSNET_BUILD_PLATFORM") or host_tag()
        library, stamp = build_library(Path(self.root), tag, os.environ.get("ECSNET_BUILD_OPTIMIZE") or "ReleaseSafe")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"
        if version != "editable":  # an editable install runs from the clone, where the library already lies
            for path in (library, stamp):
                build_data["force_include"][str(path)] = f"ecsnet/_kernel/{path.name}"
            # A clone keeps the messages where other languages find them too; an installed codec has them beside it.
            build_data["force_include"][str(Path(self.root) / "schema" / "ecsnet.capnp")] = "ecsnet/wire/ecsnet.capnp"


def main() -> None:
    root = Path(__file__).resolve().parent
    tag = os.environ.get("ECSNET_BUILD_PLATFORM") or host_tag()
    started = time.monotonic()
    library, _ = build_library(root, tag, os.environ.get("ECSNET_BUILD_OPTIMIZE") or "ReleaseSafe")
    size = library.stat().st_size
    print(f"{library.relative_to(root)}: {size:,} bytes for {tag}, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
