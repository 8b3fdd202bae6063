"""`schema/README.md` is the language: its tables are the loader's own, and its examples do as they say."""

import re
from pathlib import Path
from typing import Any

import pytest

from ecsnet import limits
from ecsnet.errors import SchemaError
from ecsnet.schema import language, load, loads
from ecsnet.schema.builtin import LWW_TABLES, SYSTEM_TABLES
from ecsnet.schema.types import SCALARS

ROOT = Path(__file__).parents[2] / "schema"
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGE.split(f"\n{heading}\n", 1)[1]
    section = re.split(r"\n#+ ", section)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("heading", "built", "planned"),
    [
        ("## The file", language.TOP_KEYS, language.TOP_PLANNED),
        ("### `[database]`", language.DATABASE_KEYS, language.DATABASE_PLANNED),
        ("## Tables", language.TABLE_KEYS, language.TABLE_PLANNED),
        ("## Fields", language.FIELD_KEYS, language.FIELD_PLANNED),
    ],
)
def test_every_key_is_documented_with_its_state(heading: str, built: tuple[str, ...], planned: dict[str, str]) -> None:
    """A key that the page promises and the loader does not know, or the other way round, is a lie."""
    found = {key.strip("`"): state for key, state, _ in rows(heading)}
    assert found == dict.fromkeys(built, "built") | dict.fromkeys(planned, "planned")


def test_every_type_is_documented() -> None:
    """The scalars by name, the compound types by their pattern."""
    built = " ".join(row[0] for row in rows("## Types") if row[1] == "built")
    assert set(re.findall(r"`([a-z]+\d*)`", built)) == (set(SCALARS) - {"bytes", "string"}) | {"enum"}
    assert all(f"`{compound}`" in built for compound in ("[T; N]", "bytes[N]", "string[N]"))


def test_limits_and_system_tables_are_those_of_the_code() -> None:
    """Numbers in prose rot; these cannot."""
    for name, number, _ in rows("## Limits"):
        assert getattr(limits, name.strip("`")) == int(number), name
    assert [(int(row[0]), row[1].strip("`")) for row in rows("## System tables")] == [
        (table.id, table.name) for table in (*SYSTEM_TABLES, *LWW_TABLES)
    ]


def test_the_fingerprints_on_the_page_are_those_of_the_examples() -> None:
    """Another implementation will compare itself with them."""
    found = dict(re.findall(r"`examples/(\w+\.toml)` has (?:the fingerprint )?`([0-9a-f]{32})`", PAGE))
    assert found == {path.name: load(path).fingerprint_hex for path in (ROOT / "examples").glob("*.toml")}


def test_the_classes_on_the_page_are_the_tables_on_the_page() -> None:
    """The first example, twice: whoever reads one learns the other."""
    names: dict[str, Any] = {"__name__": "page"}
    (written,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(written, "page.py", "exec", dont_inherit=True), names)
    first = next(text for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    assert names["schema"] == loads(first)


@pytest.mark.parametrize(
    ("state", "text"), re.findall(r"^```toml( planned)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
)
def test_the_examples_do_what_their_state_says(state: str, text: str) -> None:
    """Built examples load; planned ones are TOML, and refused as planned and for nothing else."""
    if "[database]" not in text:
        text = '[database]\nname = "page"\nversion = "1.0.0"\n' + text
    if not state:
        schema = loads(text)
        assert loads(schema.canonical).fingerprint == schema.fingerprint
        return
    with pytest.raises(SchemaError) as caught:
        loads(text)
    assert caught.value.code == "not-built"
