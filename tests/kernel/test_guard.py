"""Guarded views: whoever writes to a published version, or reads one that is gone, is stopped where he does it.

Each crime is committed in a process of its own, which must die of it; and must live where views are not guarded, or the
test would prove nothing.
"""

import signal
import subprocess
import sys
import textwrap

import pytest

from ecsnet._kernel import redo
from tests.kernel import model
from tests.kernel.model import Driver

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process that dies says so in another way there")

PRELUDE = """
import ctypes, sys
from ecsnet._kernel.kernel import KernelStore
from ecsnet.schema import loads

schema = loads('''
[database]
name = "guard"
version = "1.0.0"
[tables.body]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" }, { name = "x", type = "f64", default = 0.0 }]
''')
kernel = KernelStore(schema, guarded=GUARDED)
body = schema.table("body")
field = body.fields[-1].id
kernel.take_baton()

def version(n):
    kernel.begin()
    shape = kernel.shape(body.id, (field,))
    kernel.spawn(0, [])
    for i in range(n):
        kernel.spawn(0, [(shape, (float(i),))])
    kernel.commit()
    kernel.publish(0)

kernel.begin()
kernel.commit()
kernel.publish(0, genesis=True)
version(5)
address = kernel.acquire().column(body.id, field).ctypes.data
"""


def run(crime: str, guarded: bool) -> int:
    script = f"GUARDED = {guarded}\n{PRELUDE}\n{textwrap.dedent(crime)}\nprint('lived')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ("lived" in done.stdout) == (done.returncode == 0), done.stderr
    return done.returncode


@pytest.mark.parametrize(
    "crime",
    [
        # Into the version that everybody sees.
        "ctypes.memset(address, 7, 8)",
        # Behind its last row.
        "ctypes.memset(address + 40, 7, 8)",
        # Into a version that is held, while others are made.
        "pin = kernel.acquire(); version(2); version(2); ctypes.memset(pin.column(body.id, field).ctypes.data, 7, 8)",
        # From a version that nobody holds, by an address that somebody kept.
        "version(1); version(0); ctypes.string_at(address, 8)",
    ],
)
def test_whoever_touches_what_is_not_his_is_stopped(crime: str) -> None:
    assert run(crime, guarded=True) in (-signal.SIGSEGV, -signal.SIGBUS)
    assert run(crime, guarded=False) == 0


def test_guarded_views_are_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but wild accesses shows: the same random life as without, versions that wait for a disk included."""
    monkeypatch.setenv("ECSNET_DEBUG_VIEWS", "1")
    driver = Driver(5)
    driver.kernel.take_baton()
    driver.run(25)
    assert driver.version > 10

    logged = model.new_store()
    logged.take_baton()
    redo.finish(logged)
    for version in range(1, 8):
        logged.begin()
        shape = logged.shape(model.SCHEMA.table("frozen").id, ())
        logged.spawn(version, [(shape, ())])
        logged.commit()
        assert redo.seal(logged, 0, True) == version
        redo.release(logged, version - 3)
    redo.release(logged, 7)
    assert logged.acquire().keys(0).size == 7
