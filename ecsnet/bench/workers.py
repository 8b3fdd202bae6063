"""Processes of a benchmark and how they are asked: the parent writes "mark", a worker answers with one JSON line of
what it has counted since the last mark.

Invariants:
- a worker ends when its standard input does, so none outlives the benchmark, however that ends;
- a worker that dies or does not answer in time is an error that carries what it wrote to standard error.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ecsnet.errors import EcsnetError

__all__ = ["CpuMeter", "Worker", "WorkerError", "allow_descriptors", "answer_marks"]

Counts = dict[str, Any]


class WorkerError(EcsnetError):
    """A process of the benchmark failed."""


class Worker:
    """The parent's end: `python -m MODULE ARGUMENTS`. A context manager that ends the process."""

    def __init__(self, module: str, *arguments: object, wait_s: float = 30.0) -> None:
        self._name = module.rpartition(".")[2]
        self._wait_s = wait_s
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._unread = b""

    def ask(self) -> None:
        """Ask for the counts; `answer` reads them."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"mark\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure("has ended") from error

    def answer(self) -> Counts:
        """The next line that the worker writes. Raises WorkerError."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + self._wait_s
        handle = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            readable, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise self._failure(f"gave no answer in {self._wait_s:g} s")
            data = os.read(handle, 1 << 20)
            if not data:
                raise self._failure("has ended")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        counts: Counts = json.loads(line)
        return counts

    def _failure(self, what: str) -> WorkerError:
        self._errors.seek(0)
        told = self._errors.read().decode(errors="replace").strip()
        return WorkerError(f"the benchmark's process {self._name} {what}" + (f":\n{told[-2000:]}" if told else ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        for end in (process.stdin, process.stdout):
            if end is not None:
                try:
                    end.close()
                except OSError:
                    pass
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()


class CpuMeter:
    """CPU of this process, and the wall's time, since the last time it was asked."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def take(self) -> Counts:
        cpu, wall = time.process_time(), time.monotonic()
        taken = {"cpu_s": cpu - self._cpu, "wall_s": wall - self._wall}
        self._cpu, self._wall = cpu, wall
        return taken


def allow_descriptors() -> None:
    """Let this process open as many sockets as it may at all: a thousand clients are more than many a default."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def answer_marks(ready: Counts, counts: Callable[[], Counts]) -> None:
    """The worker's end: write `ready`, then, from a thread, what `counts` gives for each mark. The end of standard
    input ends the process.
    """
    meter = CpuMeter()

    def listen() -> None:
        for _ in sys.stdin:
            print(json.dumps({**meter.take(), **counts()}), flush=True)
        os._exit(0)

    print(json.dumps(ready), flush=True)
    threading.Thread(target=listen, name="marks", daemon=True).start()
