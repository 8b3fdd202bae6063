"""Processes that write to a store are killed, and nothing that they acknowledged is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_what_a_killed_process_acknowledged_is_there() -> None:
    """Some kills; `sims/kill.py --kills 5000` does more. In a process of its own, since it forks."""
    command = [sys.executable, "sims/kill.py", "--kills", "16", "--seconds", "15", "--json"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["failed"] == 0
    assert summary["kills"] >= 4
    assert summary["acknowledged"] > 20
