"""The 16 bytes by which two nodes know that they mean the same schema.

mmh3 x64-128 (seed 0) of the canonical text's UTF-8 bytes; the two u64 halves little-endian, the low half first. It
identifies; it never authenticates: whoever wants a collision can make one.
"""

import mmh3


def fingerprint_of(canonical: str) -> bytes:
    """The fingerprint of a canonical text."""
    digest = mmh3.mmh3_x64_128_digest(canonical.encode())
    assert len(digest) == 16
    return digest
