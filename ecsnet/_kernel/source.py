"""What the compiled kernel is called, where it lies, and which sources it was compiled from.

Shared by the build (`hatch_build.py`, which loads this file by its path, before anything is installed) and by the
loader (`library.py`): both must mean the same file and the same digest. Standard library only, no import of ecsnet.

Invariant: beside a library in `ecsnet/_kernel` lies a stamp with the digest of the sources it came from. A clone whose
sources have another digest has a stale library; an installed wheel has no sources and nothing to compare.
"""

import hashlib
import sys
from pathlib import Path

LIBRARY_NAMES = {"linux": "libecsnet.so", "macos": "libecsnet.dylib", "windows": "ecsnet.dll"}
STAMP_NAME = "library.sha256"
REBUILD_COMMAND = "pip install -e ."
"""What the error about a missing or stale library tells a person to run, in the folder of the clone."""


def library_name() -> str:
    """The file name of the kernel's shared library on this machine."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    return LIBRARY_NAMES[system]


def kernel_sources(root: Path) -> list[Path]:
    """The Zig files of the clone at `root` that the library is compiled from; empty where there is no clone.

    They lie in one folder. `build.zig` is for tests and other targets, and no part of the library.
    """
    return sorted(path for path in (root / "kernel" / "zig").glob("*.zig") if path.name != "build.zig")


def source_digest(root: Path) -> str | None:
    """SHA-256 (hex) over names and bytes of the kernel's sources in the clone at `root`; None where there are none."""
    sources = kernel_sources(root)
    if not sources:
        return None
    digest = hashlib.sha256()
    for path in sources:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
