"""Every way to get a schema wrong has its error, word for word.

`golden/NAME.toml` is the faulty schema, `golden/NAME.txt` the message. Run this file to write the messages anew,
and read the diff.
"""

import re
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


def documented_codes() -> set[str]:
    """The codes of the table in the language's own page."""
    text = (Path(__file__).parents[2] / "schema" / "README.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", text.split("## Errors")[1], re.MULTILINE))


def test_there_is_a_case_for_every_code() -> None:
    """A code without a case could change, or never be raised, unnoticed. Those of whole files are tested elsewhere."""
    first_lines = [(GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()[0] for name in CASES]
    codes = {line.rsplit(" [", 1)[1].rstrip("]") for line in first_lines}
    assert codes | {"unreadable", "not-utf8", "too-large"} == documented_codes()


def write() -> None:
    for name in CASES:
        (GOLDEN / f"{name}.txt").write_text(message(name), encoding="utf-8")


if __name__ == "__main__":
    write()
