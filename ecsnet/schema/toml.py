"""A schema from TOML: file or text → `Schema`, or one `SchemaError` that says where and why.

Whether it is TOML is asked here, and what it means in `document`. The first fault found is raised.

Invariant: on any text whatsoever, `loads` returns a Schema or raises SchemaError (tests throw arbitrary text at it).
"""

import os
import re
from pathlib import Path as FilePath
from typing import Any

import tomli

from ecsnet.errors import SchemaError
from ecsnet.limits import SCHEMA_NESTING_MAX, SCHEMA_TEXT_BYTES_MAX
from ecsnet.schema.document import read_schema
from ecsnet.schema.model import Schema
from ecsnet.schema.positions import NestingFault, scan
from ecsnet.schema.source import Node, Source, shorten


def load(path: "str | os.PathLike[str]") -> Schema:
    """The schema in a TOML file.

    Raises:
        SchemaError: the file cannot be read ("unreadable") or is no valid schema.
    """
    file = os.fspath(path)
    try:
        raw = FilePath(file).read_bytes()
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        raise SchemaError("unreadable", file, None, None, "", reason) from None
    except ValueError as error:
        raise SchemaError("unreadable", shorten(file), None, None, "", f"no path: {error}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = raw[: error.start].decode()
        line = good.count("\n") + 1
        column = len(good) - (good.rfind("\n") + 1) + 1
        reason = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise SchemaError("not-utf8", file, line, column, "", reason, "TOML is UTF-8: save the file as such") from None
    return loads(text, file)


def loads(text: str, file: str = "<string>") -> Schema:
    """The schema in a TOML text; `file` is what errors call it.

    Raises:
        SchemaError: it is no valid schema.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise SchemaError("not-utf8", file, None, None, "", "the text holds half of a surrogate pair") from None
    if size > SCHEMA_TEXT_BYTES_MAX:
        reason = f"a text of {size} bytes is above the limit of {SCHEMA_TEXT_BYTES_MAX}"
        raise SchemaError("too-large", file, None, None, "", reason)
    source, data = _parse(text, file)
    return read_schema(Node(source, (), data))


# --- TOML -------------------------------------------------------------------------------------------------------------


def _parse(text: str, file: str) -> tuple[Source, dict[str, Any]]:
    try:
        data = tomli.loads(text)
        positions = scan(text)
    except tomli.TOMLDecodeError as error:
        raise _syntax(text, file, error) from None
    except (RecursionError, NestingFault) as error:
        offset = error.offset if isinstance(error, NestingFault) else None
        reason = f"arrays and tables nest deeper than {SCHEMA_NESTING_MAX} levels"
        raise SchemaError("toml-syntax", file, *_place(text, offset), "", reason) from None
    except ValueError:
        # Python's own bound on the digits of an integer, which tomli lets through.
        match = _MANY_DIGITS.search(text)
        place = _place(text, None if match is None else match.start())
        raise SchemaError("toml-syntax", file, *place, "", "a number has too many digits") from None
    return Source(file, positions), data


_MANY_DIGITS = re.compile(r"[0-9_]{640,}")


def _place(text: str, offset: int | None) -> tuple[int | None, int | None]:
    if offset is None:
        return None, None
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _syntax(text: str, file: str, error: tomli.TOMLDecodeError) -> SchemaError:
    """tomli's message with a place; what was written twice has a code of its own."""
    message = error.msg
    line, column = error.lineno, error.colno
    lines = text.split("\n")
    written = lines[line - 1] if line <= len(lines) else ""
    if match := re.fullmatch(r"Cannot declare \(('.*'),?\) twice", message, re.DOTALL):
        name = ".".join(re.findall(r"'((?:[^'\\]|\\.)*)'", match[1]))
        first = next((n for n, other in enumerate(lines, 1) if other.strip() == written.strip()), line)
        hint = f"it is declared first in line {first}" if first < line else None
        # tomli stops behind the header; its beginning is what a person looks for.
        column = len(written) - len(written.lstrip()) + 1
        is_table = re.fullmatch(r"tables\.[^.]+", name) is not None
        code, what = ("duplicate-table", "table") if is_table else ("duplicate-key", "key")
        return SchemaError(code, file, line, column, shorten(name), f"this {what} is declared twice", hint)
    if message == "Cannot overwrite a value":
        key = written.split("=")[0].strip()
        column = len(written) - len(written.lstrip()) + 1
        return SchemaError("duplicate-key", file, line, column, shorten(key), "this key has a value already")
    if match := re.fullmatch(r"Duplicate inline table key '(.*)'", message):
        return SchemaError("duplicate-key", file, line, column, shorten(match[1]), "this key has a value already")
    reason = message[0].lower() + message[1:]
    return SchemaError("toml-syntax", file, line, column, "", shorten(reason, 120))
