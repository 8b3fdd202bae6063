"""Bytes that abort a process when they reach the wrong reader, fed to ours in a process of its own.

Cap'n Proto's packed and stream readers end the whole process on a few hostile bytes, which no `except` catches. So what
is tested is that a process lives, and that is only seen from another one.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FEEDER = """
import faulthandler, random, sys

faulthandler.enable()
sys.path.insert(0, sys.argv[1])
from ecsnet.errors import RemoteProtocolError
from ecsnet.wire import codec, framing
from tests.wire.mutate import mutated
from tests.wire.test_vectors import NAMES, frame_of

HOSTILE = [
    bytes.fromhex("11010103e8030000"),                        # aborts from_bytes_packed
    bytes.fromhex("0100000001000000e8030000000000000000000000000000"),  # aborts read
    bytes.fromhex("00000000ffffff1f0000000001000000"),
    bytes.fromhex("ffffffff00000000") + bytes(16),
    b"\\xff" * 4096,
    bytes(4096),
]
kinds = [*range(1, 18), 0, 18, 99, 255]
counts = {"read": 0, "refused": 0}


def feed(kind, payload):
    try:
        codec.decode_untrusted(kind, payload)
        counts["read"] += 1
    except RemoteProtocolError:
        counts["refused"] += 1


def feed_stream(stream):
    reader = framing.FrameReader(1 << 20)
    reader.feed(stream)
    try:
        for frame in reader:
            feed(frame.kind, frame.payload)
    except RemoteProtocolError:
        counts["refused"] += 1


for content in HOSTILE:
    feed_stream(content)
    for kind in kinds:
        feed(kind, content)
        if len(content) % 8 == 0:
            feed_stream(framing.header(kind, len(content)) + content)

source = random.Random(int(sys.argv[2]))
frames = [frame_of(name) for name in NAMES]
for _ in range(int(sys.argv[3])):
    frame = source.choice(frames)
    payload = mutated(frame[8:], source)
    feed(source.choice((frame[4], frame[4], frame[4], source.choice(kinds))), payload)
    if source.random() < 0.1:
        feed_stream(mutated(frame, source) + source.choice(frames))
print("survived", counts["read"], counts["refused"])
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_process_that_decodes_hostile_bytes_lives(seed: int) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FEEDER, str(ROOT), str(seed), "20000"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, (result.returncode, result.stderr[-2000:])
    word, read, refused = result.stdout.split()
    assert word == "survived"
    assert int(read) > 1000 and int(refused) > 1000, "mutations must reach both ends of the decoder"


def test_the_bytes_do_abort_the_reader_that_is_forbidden() -> None:
    """The canary: without it nobody would notice that the test above had become harmless."""
    code = (
        "import capnp; schema = capnp.load('schema/ecsnet.capnp');"
        "message = schema.Ping.from_bytes_packed(bytes.fromhex('11010103e8030000')); message.nonce"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert result.returncode < 0, "pycapnp survives now: the lint may be too strict"
