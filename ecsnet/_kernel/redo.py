"""What a store's versions changed, as a log keeps it, and a store made from a log again.

A database does this inside the kernel, on its own disk (`disk.py`). Here are the parts by themselves, for whoever keeps
a log in another way, restores one or checks it: a body for each version, versions that are held until their body is
safe, and the replay of bodies in a fresh store. Their bytes are described in `kernel/zig/redo.zig`.

    finish(store)                      once, on a fresh store: from now on what it changes has a body
    body = encode(store)               of what was committed since the last version
    version = seal(store, tick, hold)  make the version; with `hold` nobody sees it
    release(store, version)            it is safe: show it

    replay(other, 1, tick, body) …     into a fresh store, one version after the other
    finish(other)                      it is as the first was, and goes on from there

All of it needs the store's baton, outside a transaction; `bound` is of the open one.
"""

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecsnet._kernel.kernel import KernelStore

__all__ = ["bound", "encode", "finish", "release", "replay", "seal"]


def encode(kernel: "KernelStore") -> bytes:
    """The body of the open version. Nothing changes: `seal` follows, before anything else is committed."""
    library, address, length = kernel._library, ctypes.c_uint64(), ctypes.c_uint64()
    # Its own: the store's may be cutting a delta on another thread.
    encoder = ctypes.c_void_p(library.ecs_encoder_create())
    try:
        kernel._check(library.ecs_redo_encode(kernel._pointer, encoder, address, length))
        return ctypes.string_at(address.value, length.value)
    finally:
        library.ecs_encoder_destroy(encoder)


def bound(kernel: "KernelStore") -> int:
    """How many bytes the open transaction adds to the body at most: a log has room for them before it is kept."""
    found: int = kernel._library.ecs_redo_bound(kernel._pointer)
    return found


def seal(kernel: "KernelStore", tick: int, hold: bool) -> int | None:
    """Make a version of what was committed since the last one; None when nothing was.

    With `hold` no reader sees it before `release` says that it is safe, nor any version after it. Only one is held at a
    time; those made meanwhile are put off, and the newest of them is shown, or held in turn, when that one is shown.
    """
    version, published = ctypes.c_uint64(), ctypes.c_uint64()
    made = kernel._library.ecs_seal(kernel._pointer, tick, int(hold), version, published)
    kernel._check(made)
    kernel.head_version, kernel.published_version = version.value, published.value
    if made:
        kernel.tell_version()
    return version.value if made else None


def release(kernel: "KernelStore", durable: int) -> int:
    """Every version up to `durable` is safe: show what waited for that. Returns the newest version that readers see."""
    published = ctypes.c_uint64()
    kernel._check(kernel._library.ecs_release(kernel._pointer, durable, published))
    kernel.published_version = published.value
    kernel.tell_version()
    return published.value


def replay(kernel: "KernelStore", version: int, tick: int, body: bytes) -> None:
    """Take in the body of the version after the store's own. It is published by `finish`.

    Raises:
        EcsnetError: it is not the next version, or the body is malformed, or it breaks a rule of the schema. In all
            cases nothing of it was taken in.
    """
    kernel._check(kernel._library.ecs_redo_replay(kernel._pointer, version, tick, body, len(body)))


def finish(kernel: "KernelStore") -> None:
    """Publish what was replayed, and let the store hand out keys, none of which was ever seen before. From now on its
    versions are made by `seal`. If it fails, the store is good for nothing but to be closed."""
    kernel._check(kernel._library.ecs_redo_finish(kernel._pointer))
    statistics = kernel.statistics()
    kernel.head_version, kernel.published_version = statistics.version, statistics.published_version
