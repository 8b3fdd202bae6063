"""Texts for people, cut to what a message takes."""

__all__ = ["clip_text"]


def clip_text(text: str, bytes_max: int) -> str:
    """`text`, cut to at most `bytes_max` bytes of UTF-8 between characters. A lone surrogate becomes "?"."""
    assert bytes_max >= 3, bytes_max
    data = text.encode(errors="replace")
    if len(data) <= bytes_max:
        return data.decode()
    # "ignore" drops the first bytes of a character that the cut has split.
    return data[: bytes_max - 3].decode(errors="ignore") + "…"
