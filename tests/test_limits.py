"""Limits: each is kept by somebody, says where it came from, and is the same in both languages."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from ecsnet import limits

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "ecsnet" / "limits.py").read_text(encoding="utf-8")
UNITS = {"KIB", "MIB", "NS_PER_MS", "NS_PER_S"}


def names() -> list[str]:
    return [name for name in vars(limits) if name.isupper()]


def documented() -> set[str]:
    """The names that a docstring follows."""
    found = set()
    for statement, following in pairwise(ast.parse(SOURCE).body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found.add(statement.target.id)
    return found


def test_every_limit_is_kept_by_somebody() -> None:
    """A number that nothing reads is a promise that nobody keeps."""
    package = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "ecsnet").rglob("*.py") if path.name != "limits.py"
    )

    idle = [name for name in names() if name not in UNITS and not re.search(rf"\b{name}\b", package)]

    assert idle == []


def test_every_limit_says_where_it_came_from() -> None:
    unexplained = set(names()) - UNITS - documented()

    assert {name for name in unexplained if not name.endswith("_MIN")} == set()


@pytest.mark.parametrize(
    ("python", "zig"),
    [
        ("TABLES_MAX", "tables_max"),
        ("FIELDS_MAX", "fields_max"),
        ("CELL_BYTES_MAX", "cell_bytes_max"),
        ("ENUM_VALUES_MAX", "enum_values_max"),
        ("ROWS_MAX", "entities_max"),
    ],
)
def test_a_limit_that_both_sides_know_is_one_number(python: str, zig: str) -> None:
    """A schema that Python accepts and the kernel refuses would fail far from the file that has the fault."""
    text = (ROOT / "kernel" / "zig" / "limits.zig").read_text(encoding="utf-8")
    stated = re.search(rf"^pub const {zig} = (\d+)(?: << (\d+))?;", text, re.MULTILINE)

    assert stated is not None
    assert getattr(limits, python) == int(stated[1]) << int(stated[2] or 0)


def test_limits_that_depend_on_each_other_agree() -> None:
    assert limits.SYNC_CHUNK_BYTES <= limits.FULL_SYNC_BYTES_MIN < limits.MESSAGE_TO_CLIENT_BYTES_MAX
    assert limits.SCHEMA_TEXT_BYTES_MAX < limits.MESSAGE_TO_CLIENT_BYTES_MAX
    assert limits.MESSAGE_TO_NODE_BYTES_MAX <= limits.COMMAND_BYTES_PER_S_MAX, "a whole message fits the bucket"
    assert limits.NAME_BYTES_MAX < 64, "names fit the bytes[64] of the metadata tables"
    assert limits.HZ_MIN <= limits.HZ_DEFAULT <= limits.HZ_MAX
    assert limits.ENTITIES_MAX_DEFAULT <= limits.ROWS_MAX
