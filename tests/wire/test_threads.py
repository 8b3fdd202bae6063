"""A node and a client may share a process, each with a thread of its own."""

import threading

from ecsnet.wire import codec
from tests.wire.test_vectors import NAMES, frame_of, meaning_of, message_of


def test_threads_that_read_and_write_at_once_do_not_mix_their_frames() -> None:
    """The kernel fills scratch memory, and ctypes lets another thread run between two lines."""
    wrong: list[str] = []
    start = threading.Barrier(4)
    names = [name for name in NAMES if meaning_of(name)["canonical"]]
    expected = {name: (message_of(name), frame_of(name)) for name in names}

    def work(offset: int) -> None:
        start.wait()
        for turn in range(4000):
            name = names[(turn * 7 + offset) % len(names)]
            message, frame = expected[name]
            if codec.encode(message) != frame or codec.decode_untrusted(frame[4], frame[8:]) != message:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
