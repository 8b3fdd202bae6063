"""Bytes changed the way a stranger or a bad line would, from a seed."""

import random

from tests.wire.strategies import WORDS


def mutated(payload: bytes, source: random.Random) -> bytes:
    """`payload` with one to eight changes; most near its head, where sizes and pointers are."""
    data = bytearray(payload)
    for _ in range(source.choice((1, 1, 1, 2, 4, 8))):
        if not data:
            break
        at = source.randrange(min(len(data), source.choice((16, 64, 256, len(data)))))
        how = source.random()
        if how < 0.3:
            data[at] ^= 1 << source.randrange(8)
        elif how < 0.45:
            data[at] = source.randrange(256)
        elif how < 0.75:
            data[at & ~3 : (at & ~3) + 4] = source.choice(WORDS).to_bytes(4, "little")
        elif how < 0.9:
            start = source.randrange(len(data)) & ~7
            data[at & ~7 : (at & ~7) + 8] = data[start : start + 8]
        else:
            del data[source.randrange(len(data)) :]
    if source.random() < 0.5 and len(data) >= 8:
        # Past the first checks: whole words, and a segment table that agrees with them.
        del data[len(data) & ~7 :]
        data[:8] = bytes(4) + (len(data) // 8 - 1).to_bytes(4, "little")
    return bytes(data)
