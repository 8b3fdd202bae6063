"""A second reader of the wire, which knows `schema/wire.md` and nothing else.

It takes the layout from the page's tables and the rules from its prose; it imports neither ecsnet nor a Cap'n Proto
library. Its errors are `Refused`, for the reasons the page gives. Values come out as the vectors' JSON has them.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "schema" / "wire.md"


class Refused(Exception):
    """What the page says is refused."""


@dataclass(frozen=True)
class Span:
    """A struct in a segment, with the sizes its pointer gave."""

    data_at: int
    data_bytes: int
    pointers: int


class PageReader:
    def __init__(self, page: str = "") -> None:
        text = page or PAGE.read_text(encoding="utf-8")
        self.kinds: dict[int, str] = {}
        self.structs: dict[str, list[tuple[str, str, str]]] = {}
        self.enums: dict[str, dict[int, str]] = {}
        for section in re.split(r"^#### ", text, flags=re.M)[1:]:
            title, _, body = section.partition("\n")
            name, _, about = title.partition(": ")
            if about == "u16":
                entries = body.strip().splitlines()[0].split(", ")
                self.enums[name] = {int(n): word for n, word in (entry.split(" ") for entry in entries)}
                continue
            if match := re.match(r"kind (\d+)", about):
                self.kinds[int(match[1])] = name
            rows = re.findall(r"^\| (\w+) \| ([\w ]+) \| ((?:data|pointer) \d+(?: bit \d)?) \|$", body, flags=re.M)
            self.structs[name] = [(field, kind, place) for field, kind, place in rows]

    def frames(self, stream: bytes, payload_bytes_max: int = 1 << 20) -> list[tuple[int, bytes]]:
        """(kind, payload) of all frames of a stream that ends with a whole one."""
        out = []
        at = 0
        while at < len(stream):
            if at + 8 > len(stream):
                raise Refused("half a header")
            length, kind, flags, version = struct.unpack_from("<IBBH", stream, at)
            if length > payload_bytes_max or length % 8 or flags & ~2 or version != 1:
                raise Refused(f"a header {stream[at : at + 8].hex()}")
            if at + 8 + length > len(stream):
                raise Refused("a stream that ends inside a frame")
            out.append((kind, stream[at + 8 : at + 8 + length]))
            at += 8 + length
        return out

    def datagram(self, data: bytes) -> tuple[int, int, int, list[tuple[int, bytes]]]:
        """Sequence, ack, ack bits and frames of one datagram."""
        if not 16 <= len(data) <= 1200:
            raise Refused("no datagram's length")
        if murmur3_x86_32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise Refused("the checksum")
        sequence, ack, bits = struct.unpack_from("<III", data)
        if sequence == 0 and len(data) != 16:
            raise Refused("a reset with frames")
        frames = self.frames(data[12:-4])
        if any(kind == 240 and len(payload) < 16 for kind, payload in frames):
            raise Refused("a piece of the lane without bytes")
        return sequence, ack, bits, frames

    def message(self, kind: int, payload: bytes) -> tuple[str, dict[str, Any]]:
        """Name and fields of one message."""
        name = self.kinds[kind]
        if len(payload) < 16 or len(payload) % 8:
            raise Refused("fewer than two words, or no whole words")
        more, words = struct.unpack_from("<II", payload)
        if more or words * 8 + 8 != len(payload):
            raise Refused("not one segment of the payload's length")
        segment = payload[8:]
        root = self._struct_pointer(segment, 0)
        if root is None:
            raise Refused("a null root")
        return name, self._struct(segment, name, root)

    def _word(self, segment: bytes, at: int) -> int:
        return int.from_bytes(segment[at : at + 8], "little")

    def _target(self, segment: bytes, at: int, word: int, size: int) -> int:
        offset = (word >> 2) & 0x3FFF_FFFF
        if offset >= 1 << 29:
            offset -= 1 << 30
        target = at + 8 + offset * 8
        if target < 0 or target + size > len(segment):
            raise Refused("a pointer outside the segment")
        return target

    def _struct_pointer(self, segment: bytes, at: int) -> Span | None:
        word = self._word(segment, at)
        if word == 0:
            return None
        if word & 3 != 0:
            raise Refused("a pointer that is no struct")
        data, pointers = word >> 32 & 0xFFFF, word >> 48
        return Span(self._target(segment, at, word, (data + pointers) * 8), data * 8, pointers)

    def _list(self, segment: bytes, span: Span, index: int, size: int) -> tuple[int, int]:
        """(target, length) of the list that a pointer names; (0, 0) for none."""
        if index >= span.pointers:
            return 0, 0
        at = span.data_at + span.data_bytes + index * 8
        word = self._word(segment, at)
        if word == 0:
            return 0, 0
        if word & 3 != 1 or word >> 32 & 7 != size:
            raise Refused("a pointer that is not the list it should be")
        length = word >> 35
        taken = (length + 1) * 8 if size == 7 else (length + 7) // 8 * 8
        return self._target(segment, at, word, taken), length

    def _struct(self, segment: bytes, name: str, span: Span) -> dict[str, Any]:
        return {field: self._field(segment, span, kind, place) for field, kind, place in self.structs[name]}

    def _field(self, segment: bytes, span: Span, kind: str, place: str) -> Any:
        section, where, *bit = place.replace("bit ", "").split(" ")
        index = int(where)
        if section == "data":
            width = {"bool": 1, "u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8}.get(kind, 2)
            raw = bytes(width)
            if index + width <= span.data_bytes:
                raw = segment[span.data_at + index : span.data_at + index + width]
            number = int.from_bytes(raw, "little", signed=kind == "i64")
            if kind == "bool":
                return bool(number >> int(bit[0]) & 1)
            if kind in self.enums:
                if number not in self.enums[kind] and kind != "Reason":
                    raise Refused(f"{kind} {number}")
                return self.enums[kind].get(number, "other")
            return str(number) if kind in ("u64", "i64") else number
        if kind.startswith("list of "):
            return self._structs(segment, span, index, kind.removeprefix("list of "))
        target, length = self._list(segment, span, index, 2)
        content = segment[target : target + length]
        if kind == "data":
            return content.hex()
        if length == 0:
            return ""
        if content[-1] != 0:
            raise Refused("a text without its NUL")
        try:
            return content[:-1].decode()
        except UnicodeDecodeError:
            raise Refused("a text that is no UTF-8") from None

    def _structs(self, segment: bytes, span: Span, index: int, name: str) -> list[dict[str, Any]]:
        target, words = self._list(segment, span, index, 7)
        if words == 0:
            return []
        tag = self._word(segment, target)
        count, data, pointers = (tag & 0xFFFF_FFFF) >> 2, tag >> 32 & 0xFFFF, tag >> 48
        if tag & 3 or count * (data + pointers) > words or (count and not data + pointers):
            raise Refused("a list whose elements are not inside it")
        stride = (data + pointers) * 8
        return [
            self._struct(segment, name, Span(target + 8 + stride * number, data * 8, pointers))
            for number in range(count)
        ]


def murmur3_x86_32(data: bytes) -> int:
    """MurmurHash3 x86-32 with seed 0, as its author wrote it down."""

    def turned(word: int, bits: int) -> int:
        return (word << bits | word >> (32 - bits)) & 0xFFFF_FFFF

    def mixed(word: int) -> int:
        return turned(word * 0xCC9E2D51 & 0xFFFF_FFFF, 15) * 0x1B873593 & 0xFFFF_FFFF

    hashed = 0
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        hashed = (
            turned(hashed ^ mixed(int.from_bytes(data[at : at + 4], "little")), 13) * 5 + 0xE6546B64
        ) & 0xFFFF_FFFF
    if whole < len(data):
        hashed ^= mixed(int.from_bytes(data[whole:], "little"))
    hashed ^= len(data)
    hashed = (hashed ^ hashed >> 16) * 0x85EBCA6B & 0xFFFF_FFFF
    hashed = (hashed ^ hashed >> 13) * 0xC2B2AE35 & 0xFFFF_FFFF
    return hashed ^ hashed >> 16
