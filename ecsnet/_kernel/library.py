"""Finding the compiled kernel, and refusing one that does not fit.

Invariant: a library is handed out only if its manifest (sizes, offsets, status numbers) is the one this package was
written against, and, in a clone, only if it was compiled from the sources that lie there now.
"""

import ctypes
from functools import cache
from pathlib import Path

from ecsnet._kernel import source
from ecsnet.errors import InternalError, StorageError

_FOLDER = Path(__file__).resolve().parent


def _stale(folder: Path) -> str | None:
    """Why the library in `folder` does not fit the sources of the clone around it; None where it does."""
    digest = source.source_digest(folder.parents[1])
    if digest is None:
        return None
    stamp = folder / source.STAMP_NAME
    found = stamp.read_text(encoding="ascii").strip() if stamp.exists() else ""
    return None if found == digest else "it was compiled from other sources than those in kernel/zig"


@cache
def load() -> ctypes.CDLL:
    """The kernel's library, loaded once per process.

    Raises:
        StorageError: it is missing, stale or not loadable; the message names the command that mends it.
    """
    path = _FOLDER / source.library_name()
    mend = f"run `{source.REBUILD_COMMAND}` in the folder of the clone (it needs no system compiler)"
    if not path.exists():
        raise StorageError(f"the kernel's library {path} is missing; {mend}")
    why = _stale(_FOLDER)
    if why is not None:
        raise StorageError(f"the kernel's library {path} is stale: {why}; {mend}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise StorageError(f"the kernel's library {path} does not load ({error}); {mend}") from error

    from ecsnet._kernel import abi

    problem = abi.declare(library)
    if problem is not None:
        raise InternalError(f"the kernel's library {path} and this package disagree: {problem}; {mend}")
    return library


@cache
def load_fast() -> ctypes.PyDLL:
    """The same library, called with the GIL kept: for calls that take less than giving it up."""
    from ecsnet._kernel import abi

    library = load()
    fast = ctypes.PyDLL(library._name, handle=library._handle)
    problem = abi.declare(fast)
    assert problem is None, problem
    return fast
