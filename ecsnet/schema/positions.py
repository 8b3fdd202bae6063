"""Where in a TOML text each key and value stands.

A TOML parser gives values and forgets places, but "max_hp is above 65535" is only half an error message without the
line. So the text is parsed twice: by `tomli`, which decides what is valid TOML and what it means, and then by this
scanner, which assumes valid TOML and notes places. Tests hold the two together: on every text that tomli accepts, the
scanner names exactly the same paths, and the text between a value's two offsets parses to that value.

A path is a tuple of keys and indices: `("tables", "health", "fields", 1, "type")`.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import tomli

from ecsnet.errors import InternalError
from ecsnet.limits import SCHEMA_NESTING_MAX

Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"[ \t]*")
# Between statements and inside arrays: newlines and comments too.
_FILLER: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
# A multi-line string may end in up to two quotes of its own, right before the closing three.
_BASIC_LINES: Final = re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})', re.DOTALL)
_LITERAL_LINES: Final = re.compile(r"'''.*?'''(?:'{0,2})", re.DOTALL)
# Numbers, bools and dates (which may hold a space): up to what ends any value.
_PLAIN: Final = re.compile(r"[^,\]}#\r\n]+")


class NestingFault(Exception):
    """The text nests deeper than a schema ever does; `offset` is where."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Position:
    """Line and column, both from 1; a column counts characters."""

    line: int
    column: int


class Positions:
    """The places of one text. Look-ups of a path that the text does not have answer with its nearest parent's place."""

    __slots__ = ("_keys", "_line_starts", "_values")

    def __init__(self, text: str, keys: dict[Path, int], values: dict[Path, tuple[int, int]]) -> None:
        self._keys = keys
        self._values = values
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def key(self, path: Path) -> Position | None:
        """Where the key was written: for a table its name in the first header that has it, for an element of an
        array of tables its `[[header]]`, for an element of a plain array the element. None for the empty path."""
        for end in range(len(path), 0, -1):
            offset = self._keys.get(path[:end])
            if offset is not None:
                return self.position(offset)
        return None

    def value(self, path: Path) -> Position | None:
        """Where the value begins; where the key is, for a table that is not written as one value."""
        span = self._values.get(path)
        return self.key(path) if span is None else self.position(span[0])

    def span(self, path: Path) -> tuple[int, int] | None:
        """The half-open offsets of a value's text, or None for what was not written as one value."""
        return self._values.get(path)

    def paths(self) -> frozenset[Path]:
        """Every path that the text has."""
        return frozenset(self._keys)

    def position(self, offset: int) -> Position:
        """The line and column of an offset into the text."""
        line = bisect_right(self._line_starts, offset)
        return Position(line, offset - self._line_starts[line - 1] + 1)


def scan(text: str) -> Positions:
    """Note the places of all keys and values of `text`, which must be valid TOML.

    Raises:
        NestingFault: arrays and inline tables nest deeper than `SCHEMA_NESTING_MAX`.
    """
    scanner = _Scanner(text)
    scanner.document()
    return Positions(text, scanner.keys, scanner.values)


class _Scanner:
    """One pass over the text; `at` is the offset of what comes next."""

    __slots__ = ("array_lengths", "at", "keys", "text", "values")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, tuple[int, int]] = {}
        # Arrays of tables: how many elements have been opened. A later header that names one means its last element.
        self.array_lengths: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while True:
            self.take(_FILLER)
            if self.at == len(self.text):
                return
            if self.text.startswith("[", self.at):
                table = self.header()
            else:
                self.statement(table, depth=0)

    def header(self) -> Path:
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 2 if is_array else 1
        parts = self.dotted_key()
        self.expect("]]" if is_array else "]")

        path: Path = ()
        for part, offset in parts[:-1]:
            path = (*path, part)
            self.keys.setdefault(path, offset)
            if path in self.array_lengths:
                path = (*path, self.array_lengths[path] - 1)
        part, offset = parts[-1]
        path = (*path, part)
        self.keys.setdefault(path, offset)
        if is_array:
            index = self.array_lengths.get(path, 0)
            self.array_lengths[path] = index + 1
            path = (*path, index)
            self.keys[path] = start
        return path

    def statement(self, table: Path, depth: int) -> None:
        """`key = value`, where the key may be dotted."""
        path = table
        for part, offset in self.dotted_key():
            path = (*path, part)
            self.keys.setdefault(path, offset)
        self.expect("=")
        self.take(_BLANK)
        self.value(path, depth)

    def value(self, path: Path, depth: int) -> None:
        if depth > SCHEMA_NESTING_MAX:
            raise NestingFault(self.at)
        start = self.at
        text = self.text
        if text.startswith('"""', start):
            self.take(_BASIC_LINES)
        elif text.startswith("'''", start):
            self.take(_LITERAL_LINES)
        elif text.startswith('"', start):
            self.take(_BASIC)
        elif text.startswith("'", start):
            self.take(_LITERAL)
        elif text.startswith("[", start):
            self.array(path, depth)
        elif text.startswith("{", start):
            self.inline_table(path, depth)
        else:
            self.take(_PLAIN)
            while self.text[self.at - 1] in " \t":
                self.at -= 1
        self.values[path] = (start, self.at)

    def array(self, path: Path, depth: int) -> None:
        self.at += 1
        index = 0
        while True:
            self.take(_FILLER)
            if self.text.startswith("]", self.at):
                self.at += 1
                return
            element = (*path, index)
            self.keys[element] = self.at
            self.value(element, depth + 1)
            index += 1
            self.comma()

    def inline_table(self, path: Path, depth: int) -> None:
        self.at += 1
        while True:
            # TOML 1.0 allows no newline here, 1.1 does; tomli decides which holds.
            self.take(_FILLER)
            if self.text.startswith("}", self.at):
                self.at += 1
                return
            self.statement(path, depth + 1)
            self.comma()

    def comma(self) -> None:
        self.take(_FILLER)
        if self.text.startswith(",", self.at):
            self.at += 1

    def dotted_key(self) -> list[tuple[str, int]]:
        parts: list[tuple[str, int]] = []
        while True:
            self.take(_BLANK)
            start = self.at
            if self.text.startswith('"', start):
                token = self.take(_BASIC)
                # Escapes in a key are rare enough to let the parser that knows them do it.
                part = tomli.loads(f"k={token}")["k"] if "\\" in token else token[1:-1]
            elif self.text.startswith("'", start):
                part = self.take(_LITERAL)[1:-1]
            else:
                part = self.take(_BARE_KEY)
            parts.append((part, start))
            self.take(_BLANK)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise InternalError(f"the position scanner lost its way at offset {self.at}: {self.text[self.at :][:40]!r}")
        self.at = match.end()
        return match[0]

    def expect(self, token: str) -> None:
        if not self.text.startswith(token, self.at):
            raise InternalError(f"the position scanner expected {token!r} at offset {self.at}")
        self.at += len(token)
