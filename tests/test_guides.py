"""The guide of each use runs as it stands: its Python blocks are one program, and what stands behind a `print` is what
it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = ("ecsnet/store/README.md", "ecsnet/node/README.md", "ecsnet/replica/README.md")


def program_of(text: str) -> str:
    """The Python blocks of a page, one after the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def typed_in(folder: Path, guide: str) -> str:
    """The guide's program, put into a folder beside the README's world. Returns its text."""
    readme = README.read_text(encoding="utf-8")
    arena = re.search(r"^```python\n# arena\.py\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert arena is not None
    program = program_of((ROOT / guide).read_text(encoding="utf-8"))
    (folder / "arena.py").write_text(arena[1], encoding="utf-8")
    (folder / "guide.py").write_text(program, encoding="utf-8")
    return program


def promises_of(program: str) -> list[str]:
    """What the page says behind its prints, in order."""
    return re.findall(r"^ *print\(.*\) +# (.*)$", program, re.MULTILINE)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_prints_what_it_says(guide: str, tmp_path: Path) -> None:
    """Prints without a promise may stand between: a table, an error with its caret."""
    program = typed_in(tmp_path, guide)

    done = subprocess.run(
        [sys.executable, "-W", "error", "guide.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    printed = iter(done.stdout.splitlines())
    promised = promises_of(program)
    assert len(promised) >= 3
    for line in promised:
        assert line in printed, f"{line!r} was not printed, or not in this order:\n{done.stdout}"


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_passes_a_strict_type_checker(guide: str, tmp_path: Path) -> None:
    typed_in(tmp_path, guide)

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "guide.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


def test_the_readme_leads_to_every_guide() -> None:
    text = README.read_text(encoding="utf-8")

    assert [guide for guide in GUIDES if f"`{guide}`" not in text] == []
