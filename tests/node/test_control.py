"""The tools and a running node: snapshots, backups and restores while the world goes on."""

import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from ecsnet.data import control
from ecsnet.data.operations import back_up, take_snapshot
from ecsnet.data.restoring import restore
from ecsnet.data.verification import verify
from ecsnet.errors import ArgumentError, DataError, DataLockedError, EcsnetError, LimitExceededError
from ecsnet.node import AuthoritativeNode, open_node
from ecsnet.store import Store
from tests.node.drivers import lively


async def ask(directory: Path, **request: Any) -> dict[str, Any]:
    return await trio.to_thread.run_sync(control.ask, directory, request)


async def ticks(node: AuthoritativeNode, count: int) -> None:
    upto = node.statistics().ticks + count
    while node.statistics().ticks < upto:
        await trio.sleep(0.01)


async def test_a_backup_of_a_running_node_is_restored_to_a_version_with_the_digest_that_the_node_reported(
    tmp_path: Path,
) -> None:
    data, copy, again = tmp_path / "data", tmp_path / "copy", tmp_path / "again"
    told: list[tuple[str, int, int]] = []
    async with open_node(lively(), data=data) as node:
        await ticks(node, 5)
        status = await ask(data, do="status")
        await ticks(node, 5)
        made = await trio.to_thread.run_sync(partial(back_up, data, copy, progress=lambda *one: told.append(one)))
        await ticks(node, 5)
        later = await ask(data, do="status")

        assert status["version"] < made["version"] < later["version"]
        assert made["problems"] == [] and made["epoch"] == status["epoch"]
        restored = await trio.to_thread.run_sync(partial(restore, copy, again, version=status["version"]))
        # The source itself can be read beside the node, too.
        beside = await trio.to_thread.run_sync(
            partial(restore, data, tmp_path / "beside", version=later["digest_version"])
        )

    assert restored.digest.hex() == status["digest"]
    assert beside.digest.hex() == later["digest"]
    assert restored.epoch != status["epoch"]
    with Store(None, data=again) as store, store.view() as view:
        assert (view.version, view.digest()) == (status["version"], status["digest"])


async def test_a_running_node_writes_snapshots_and_names_moments(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with open_node(lively(), data=data) as node:
        await ticks(node, 3)
        first = await trio.to_thread.run_sync(take_snapshot, data)
        point = await ask(data, do="point", name="before the raid")
        assert (data / first["file"]).is_file()
        assert point["version"] >= first["version"]
        with pytest.raises(LimitExceededError):
            await ask(data, do="point", name="")
        await ticks(node, 3)
        found = await trio.to_thread.run_sync(verify, str(data))
        assert found.problems == []
    made = restore(data, tmp_path / "raid", point="before the raid")
    assert made.version == point["version"]


async def test_a_wrong_request_is_answered_and_the_node_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with open_node(lively(), data=data) as node:
        await ticks(node, 1)
        with pytest.raises(ArgumentError, match="found 'explode'"):
            await ask(data, do="explode")
        with pytest.raises(ArgumentError, match="absolute"):
            await ask(data, do="backup", path="here")
        with pytest.raises(ArgumentError, match="not empty"):
            await ask(data, do="backup", path=str(data))
        for request in (b"no json\n", b"[1]\n", b"x" * (control.LINE_BYTES_MAX + 2), b""):
            assert b"one line of JSON" in await trio.to_thread.run_sync(_raw, data, request)
        await ticks(node, 2)
        assert (data / "control").stat().st_mode & 0o777 == 0o600
    assert not (data / "control").exists()


def _raw(directory: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection, control.address_of(directory) as address:
        connection.connect(address)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1 << 16)


async def test_a_long_path_and_what_a_killed_node_left_are_no_obstacles(tmp_path: Path) -> None:
    """An address of a local socket has about 100 bytes; a crash leaves the socket's name behind."""
    data = tmp_path / ("deep" * 30)
    data.mkdir()
    with socket.socket(socket.AF_UNIX) as old, control.address_of(data) as address:
        old.bind(address)
    async with open_node(lively(), data=data) as node:
        await ticks(node, 1)
        assert (await ask(data, do="status"))["clients"] == 0


def test_a_store_that_is_open_without_a_node_cannot_be_asked(tmp_path: Path) -> None:
    with Store(lively().schema, data=tmp_path / "data"):
        with pytest.raises(DataLockedError):
            take_snapshot(tmp_path / "data")
        with pytest.raises(DataError, match="cannot be asked"):
            control.ask(tmp_path / "data", {"do": "status"})


def test_an_error_arrives_as_the_class_that_it_was() -> None:
    for error in (DataLockedError("arena.db", "pid 7"), EcsnetError("else")):
        told = control.decode(control.encode(control.failure(error)))
        back = control._error_of(told)
        assert type(back) is type(error) and str(back) == str(error)
    assert type(control._error_of({"error": {"kind": "SystemExit", "message": "no"}})) is EcsnetError
