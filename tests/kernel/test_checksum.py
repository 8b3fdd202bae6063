"""The checksum of what lies on a disk, as a foreign caller sees it. Its bytes are a format: they never change."""

import ctypes

from ecsnet._kernel.library import load


def _checksum(content: bytes) -> str:
    into = ctypes.create_string_buffer(16)
    load().ecs_checksum(content, len(content), into)
    return into.raw.hex()


def test_the_bytes_of_a_checksum_never_change() -> None:
    """A store that was written years ago is read by what is compiled today. The numbers are another implementation's:
    of Zig's standard library, with a zero key and nonce."""
    assert _checksum(b"") == "ada15a2a09d214f19b1eb8b2db375063"
    assert _checksum(b"ecsnet") == "986fdbe36fbc0c64fc1cb0067436c55e"
    assert _checksum(bytes(range(256)) * 17) == "ba60fef17b46496fd25e918fadb3ccdb"


def test_the_library_says_which_instructions_it_uses() -> None:
    assert load().ecs_checksum_path() in (0, 1)
