"""`import ecsnet` starts nothing and loads nothing heavy."""

import json
import subprocess
import sys

import pytest

import ecsnet
from ecsnet.errors import NotBuiltError

HEAVY = ["capnp", "trio", "numpy", "msgspec", "typer", "rich", "ctypes", "ecsnet._kernel"]


def run_python(code: str) -> str:
    """Run `code` in a fresh interpreter, so that what this process has imported does not hide anything."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_a_bare_import_loads_nothing_heavy() -> None:
    """The goal is 0.3 s for the import; numpy alone is a third of that, pycapnp another."""
    loaded = json.loads(run_python("import json, sys, ecsnet; print(json.dumps(sorted(sys.modules)))"))

    assert not set(HEAVY) & set(loaded)


def test_a_bare_import_starts_no_thread() -> None:
    assert run_python("import threading, ecsnet; print(threading.active_count())").strip() == "1"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Wrold'"):
        ecsnet.Wrold  # type: ignore[attr-defined]


def test_a_planned_name_says_that_it_is_planned() -> None:
    with pytest.raises(NotBuiltError, match="read.*planned.*leave it out"):
        ecsnet.read  # type: ignore[attr-defined]


def test_the_classes_of_a_schema_load_nothing_heavy() -> None:
    """A tool that only asks for a game's schema, and a client that is about to draw, pay for no kernel."""
    code = (
        "import json, sys; from ecsnet import Component, Schema, f32; "
        "A = type('A', (Component,), {'__annotations__': {'x': f32}}); Schema('a', '1.0.0', A); "
        "print(json.dumps(sorted(sys.modules)))"
    )

    assert not set(HEAVY) & set(json.loads(run_python(code)))


@pytest.mark.parametrize("name", ecsnet.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(ecsnet, name) is not None
    assert name in dir(ecsnet)


def test_an_editor_is_offered_the_public_names_and_no_others() -> None:
    import ecsnet

    offered = {name for name in dir(ecsnet) if not name.startswith("__")}

    assert offered == set(ecsnet.__all__) - {"__version__"}
