"""What the package is made of: one version, one compiler, a kernel that matches its sources."""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from ecsnet import __version__
from ecsnet._kernel import source

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

sys.path.insert(0, str(ROOT))
import hatch_build  # noqa: E402  (lies beside pyproject.toml, where the build looks for it)


def test_the_compiler_is_pinned_to_one_version_everywhere() -> None:
    """Zig breaks its language between versions: a kernel is only known to compile with the one it was tested with."""
    pinned = [need for need in PROJECT["build-system"]["requires"] if need.startswith("ziglang")]

    assert len(pinned) == 1 and "==" in pinned[0]
    assert pinned[0] in PROJECT["project"]["optional-dependencies"]["dev"]


def test_the_version_stands_in_the_changelog_or_is_unreleased() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert "## Unreleased" in changelog or f"## {__version__}" in changelog


def test_the_library_here_was_compiled_from_the_sources_here() -> None:
    """Otherwise every other test tests yesterday's kernel."""
    folder = ROOT / "ecsnet" / "_kernel"

    assert (folder / source.library_name()).is_file()
    assert (folder / source.STAMP_NAME).read_text(encoding="ascii").strip() == source.source_digest(ROOT)


def test_the_digest_changes_with_any_byte_and_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "kernel" / "zig"
    folder.mkdir(parents=True)
    assert source.source_digest(tmp_path) is None

    (folder / "abi.zig").write_text("a")
    digests = {source.source_digest(tmp_path)}
    (folder / "abi.zig").write_text("b")
    digests.add(source.source_digest(tmp_path))
    (folder / "abi.zig").rename(folder / "store.zig")
    digests.add(source.source_digest(tmp_path))
    (folder / "build.zig").write_text("no part of the library")
    digests.add(source.source_digest(tmp_path))

    assert len(digests) == 3
    assert all(len(bytes.fromhex(digest or "")) == hashlib.sha256().digest_size for digest in digests)


def test_this_machine_has_a_target_and_every_target_a_library_name() -> None:
    assert hatch_build.host_tag() in hatch_build.TARGETS
    assert {target.system for target in hatch_build.TARGETS.values()} == set(source.LIBRARY_NAMES)


@pytest.mark.parametrize(("tag", "optimize"), [("amiga_68000", "ReleaseSafe"), (hatch_build.host_tag(), "ReleaseFats")])
def test_an_unknown_platform_or_mode_is_refused_with_the_known_ones(tmp_path: Path, tag: str, optimize: str) -> None:
    with pytest.raises(SystemExit, match="manylinux_2_17_x86_64|ReleaseFast"):
        hatch_build.build_library(tmp_path, tag, optimize)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a kernel of one line."""
    (tmp_path / "ecsnet" / "_kernel").mkdir(parents=True)
    (tmp_path / "kernel" / "zig").mkdir(parents=True)
    shutil.copy(ROOT / "hatch_build.py", tmp_path)
    shutil.copy(ROOT / "ecsnet" / "_kernel" / "source.py", tmp_path / "ecsnet" / "_kernel")
    (tmp_path / "kernel" / "zig" / "abi.zig").write_text("export fn answer() u32 { return 42; }\n")
    return tmp_path


def build(clone: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ECSNET_")}
    environment["PATH"] = ""  # no compiler, no linker: nothing but this Python
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.run(
        [sys.executable, "hatch_build.py"], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )


def test_the_kernel_builds_in_a_clone_without_any_tool_on_the_path(clone: Path) -> None:
    done = build(clone)

    assert done.returncode == 0, done.stderr
    folder = clone / "ecsnet" / "_kernel"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [source.library_name(), source.STAMP_NAME, "source.py"]
    )
    assert (folder / source.STAMP_NAME).read_text().strip() == source.source_digest(clone)


def test_a_kernel_that_does_not_compile_leaves_the_old_one_and_its_stamp(clone: Path) -> None:
    assert build(clone).returncode == 0
    folder = clone / "ecsnet" / "_kernel"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (clone / "kernel" / "zig" / "abi.zig").write_text("export fn answer() u32 { return 'no'")

    done = build(clone)

    assert done.returncode != 0
    assert "error:" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_wheel_has_the_kernel_and_all_that_the_package_reads(tmp_path: Path) -> None:
    """A file that only a clone has makes an installed package fail where no test looks."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.iterdir()

    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert wheel.name == f"ecsnet-{__version__}-py3-none-{hatch_build.host_tag()}.whl"
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ecsnet").rglob("*.py")}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "ecsnet").rglob("*.toml")}
    expected |= {"ecsnet/py.typed", "ecsnet/wire/ecsnet.capnp"}
    expected |= {f"ecsnet/_kernel/{name}" for name in (source.library_name(), source.STAMP_NAME)}
    assert {name for name in inside if name.startswith("ecsnet/")} == expected
