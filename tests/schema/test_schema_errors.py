"""Every way to get a schema wrong has its error, word for word.

`golden/NAME.toml` is the faulty schema, `golden/NAME.txt` the message. Run this file to write the messages anew,
and read the diff.
"""

from pathlib import Path

import pytest

from ecsnet.errors import SchemaError
from ecsnet.schema import loads

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.toml"))


def message(name: str) -> str:
    """What loading the case complains about. The file's bare name stands in the message, wherever it lies."""
    text = (GOLDEN / f"{name}.toml").read_text(encoding="utf-8")
    with pytest.raises(SchemaError) as caught:
        loads(text, f"{name}.toml")
    error = caught.value
    if error.code == "toml-syntax" and error.line is not None and "\n" not in str(error):
        # The words are the TOML parser's own, and may change with it; code and place are ours.
        return f"{error.file}:{error.line}:{error.column}: ... [{error.code}]\n"
    return str(error) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_a_faulty_schema_is_refused_in_these_words(name: str) -> None:
    """The words are the product here: they are all that a person has when a schema does not load."""
    assert message(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_there_is_a_case_for_every_code() -> None:
    """A code without a case could change, or never be raised, unnoticed."""
    codes = {(GOLDEN / f"{name}.txt").read_text(encoding="utf-8").rsplit(" [", 1)[1].split("]")[0] for name in CASES}
    source = "".join(path.read_text() for path in Path(loads.__code__.co_filename).parent.glob("*.py"))
    for code in (
        "toml-syntax", "duplicate-key", "duplicate-table", "missing-key", "unknown-key", "not-built", "wrong-type",
        "out-of-range", "not-finite", "unknown-type", "array-length", "bad-name", "reserved-name", "bad-version",
        "bad-default", "bad-enum", "bad-reference", "empty-range", "unknown-value", "unknown-table", "unknown-field",
        "key-conflict", "no-key", "duplicate-field", "duplicate-id", "too-many", "entities-shape",
    ):  # fmt: skip
        assert f'"{code}"' in source
        assert code in codes, code
    assert len(CASES) >= 20


def write() -> None:
    for name in CASES:
        (GOLDEN / f"{name}.txt").write_text(message(name), encoding="utf-8")


if __name__ == "__main__":
    write()
