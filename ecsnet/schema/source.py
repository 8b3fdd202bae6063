"""A schema's text beside what it parsed to, and the one way to complain about either.

`Node` is one table of the text: it hands out its keys with their types checked, and builds errors that carry the file,
line, column and dotted key, so that no rule of the language has to think about places.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Literal, TypeVar

from ecsnet.errors import SchemaError, did_you_mean
from ecsnet.schema.positions import Path, Positions

T = TypeVar("T", bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Source:
    """Where errors of one text are said to be."""

    file: str
    positions: Positions

    def error(
        self, code: str, path: Path, reason: str, hint: str | None = None, *, at: Literal["key", "value"] = "value"
    ) -> SchemaError:
        """The error about the key or the value at `path`."""
        place = self.positions.key(path) if at == "key" else self.positions.value(path)
        line, column = (None, None) if place is None else (place.line, place.column)
        return SchemaError(code, self.file, line, column, dotted(path), reason, hint)

    def line(self, path: Path) -> int | None:
        """The line of the key at `path`, to point at from another error."""
        place = self.positions.key(path)
        return None if place is None else place.line


class Node:
    """One table of the text, of which only known keys may be read."""

    __slots__ = ("data", "path", "source")

    def __init__(self, source: Source, path: Path, data: dict[str, Any]) -> None:
        self.source = source
        self.path = path
        self.data = data

    def check_keys(self, what: str, built: Iterable[str], planned: Mapping[str, str]) -> None:
        """Refuse keys that are not built, each kind with its own code."""
        known = tuple(built)
        for key in self.data:
            if key in known:
                continue
            if key in planned:
                raise self.error("not-built", key, f'"{key}" is planned and not built yet', planned[key], at="key")
            close = did_you_mean(key, (*known, *planned))
            hint = f'did you mean "{close}"?' if close else f"keys here: {', '.join(known)}"
            raise self.error("unknown-key", key, f'{what} has no key "{shorten(key)}"', hint, at="key")

    def error(
        self,
        code: str,
        key: str | None,
        reason: str,
        hint: str | None = None,
        *,
        at: Literal["key", "value"] = "value",
    ) -> SchemaError:
        """The error about `key`, or about this table as a whole."""
        path = self.path if key is None else (*self.path, key)
        return self.source.error(code, path, reason, hint, at=at)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def text(self, key: str, default: str | None = None) -> str:
        return self._get(key, str, default)

    def flag(self, key: str, default: bool = False) -> bool:
        return self._get(key, bool, default)

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer from `low` to `high`, both included."""
        value = self._get(key, int, default)
        if key in self.data and not low <= value <= high:
            raise self.error("out-of-range", key, f"{shorten(str(value))} is not between {low} and {high}")
        return value

    def child(self, key: str) -> "Node":
        """A table that must be there."""
        value = self.data.get(key)
        if value is None:
            raise self.missing(key)
        if not isinstance(value, dict):
            raise self.wrong_type(key, "a table", value)
        return Node(self.source, (*self.path, key), value)

    def children(self, key: str) -> list["Node"]:
        """An array of tables; empty where the key is missing."""
        value = self.data.get(key, [])
        if not isinstance(value, list):
            raise self.wrong_type(key, "an array of tables", value)
        path = (*self.path, key)
        for index, element in enumerate(value):
            if not isinstance(element, dict):
                reason = f"expected a table, found {type_name(element)}"
                raise self.source.error("wrong-type", (*path, index), reason)
        return [Node(self.source, (*path, index), element) for index, element in enumerate(value)]

    def missing(self, key: str, hint: str | None = None) -> SchemaError:
        return self.error("missing-key", None, f'"{key}" is missing', hint, at="key")

    def wrong_type(self, key: str, expected: str, found: object, hint: str | None = None) -> SchemaError:
        return self.error("wrong-type", key, f"expected {expected}, found {type_name(found)}", hint)

    def _get(self, key: str, kind: type[T], default: T | None) -> T:
        value = self.data.get(key)
        if value is None:
            if default is None:
                raise self.missing(key)
            return default
        # A bool is an int to Python, and not to TOML.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong_type(key, _KIND_NAMES[kind], value)
        return value


_KIND_NAMES = {str: "a string", bool: "true or false", int: "an integer", float: "a number"}


def type_name(value: object) -> str:
    """What TOML calls a value, with the value where that is short."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"the integer {shorten(str(value))}"
        case float():
            return f"the float {value!r}"
        case str():
            return f'the string "{shorten(value)}"'
        case list():
            return "an array"
        case dict():
            return "a table"
        case date() | time():
            return "a date or time"
    return type(value).__name__


def shorten(text: str, length: int = 40) -> str:
    """For messages: what a stranger wrote, cut and on one line."""
    line = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return line if len(line) <= length else line[: length - 3] + "..."


def dotted(path: Path) -> str:
    """`tables.health.fields[1].type`."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("_", "").replace("-", "").isalnum()
            shown = shorten(part) if bare else f'"{shorten(part)}"'
            out += f".{shown}" if out else shown
    return out
