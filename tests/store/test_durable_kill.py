"""A process with a store on a disk is killed by SIGKILL at any moment: what it was answered is there afterwards.

`sims/kill.py` does this at length and at random; here is one kill for each way in which a commit is answered.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ecsnet.errors import DataLockedError
from ecsnet.schema import loads
from ecsnet.store import Store
from tests.store.conftest import ARENA

if sys.platform == "win32":
    pytest.skip("there is no SIGKILL", allow_module_level=True)

CHILD = """
import sys
from ecsnet.store import Store
from ecsnet.ids import Tick
from tests.store.conftest import ARENA
from ecsnet.schema import loads

data, durability, way = sys.argv[1:]
store = Store(loads(ARENA), data=data, durability=durability, segment_bytes=64 << 10, snapshot_every_bytes=64 << 10)
with store.transaction() as tx:
    ship = tx.spawn(everything={})
print(ship, flush=True)

def answered(number):
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()

number = 0
waiting = []
while True:
    number += 1
    if way == "blocking":
        with store.transaction() as tx:
            tx.update(ship, "everything", a_u64=number)
        answered(number)
    elif way == "ticket":
        ticket = store.transaction().update(ship, "everything", a_u64=number).commit(wait=False)
        waiting.append((number, ticket))
        if len(waiting) == 8:
            for done, ticket in waiting:
                ticket.wait()
                answered(done)
            waiting.clear()
    elif way == "queue":
        store.queue().update(ship, "everything", a_u64=number).commit().wait()
        answered(number)
    else:
        with store.tick(Tick(number)) as tick:
            with tick.transaction("count") as tx:
                tx.update(ship, "everything", a_u64=number)
            version = tick.publish()
        store.promise(version).wait()
        answered(number)
"""


@pytest.mark.parametrize("durability", ["relaxed", "strict"])
@pytest.mark.parametrize("way", ["blocking", "ticket", "queue", "tick"])
def test_what_was_answered_survives_kill_9(tmp_path: Path, durability: str, way: str) -> None:
    data = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, os.fspath(data), durability, way],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(Path(__file__).parents[2])])},
    ) as child:
        assert child.stdout is not None
        ship = int(child.stdout.readline())
        # More than a segment and a snapshot take.
        answered = [int(child.stdout.readline()) for _ in range(60)]
        with pytest.raises(DataLockedError, match=f"pid {child.pid}"):
            Store(loads(ARENA), data=data)
        child.send_signal(signal.SIGKILL)
        # What it was answered before it died is in the pipe still.
        answered += [int(line) for line in child.stdout.read().split("\n") if line][:-1]
    with Store.open(data) as store:
        found = store.view()[ship, "everything.a_u64"]
        assert found >= answered[-1]
        assert answered == list(range(1, len(answered) + 1))
        assert store.version == found + 1, "version 1 made the ship, and each after it counted one"
        assert store.recovery is not None
        assert not store.recovery.damage
        assert store.recovery.new_epoch == (durability == "relaxed"), "somebody may have seen what is gone"
