"""Held views crowd a store: what it says of that, and that commits go on."""

from pathlib import Path

import pytest

from ecsnet.errors import ArgumentError, BusyError
from ecsnet.schema import loads
from ecsnet.store import Pressure, Store

SCHEMA = loads("""
[database]
name = "crowd"
version = "1.0.0"
[tables.health]
parent_table = "entities"
fields = [{ name = "entity", type = "u64", foreign_key = "entities.id" }, { name = "hp", type = "u16", default = 0 }]
""")


def crowd(store: Store, versions: int) -> list[object]:
    """Write versions that are all held."""
    with store.transaction() as tx:
        who = tx.spawn(health={"hp": 0})
    held: list[object] = []
    for hp in range(1, versions):
        held.append(store.view())
        with store.transaction() as tx:
            tx[who, "health.hp"] = hp
    return held


def test_who_holds_too_many_versions_is_told_and_commits_go_on() -> None:
    told: list[Pressure] = []
    with Store(SCHEMA) as store:
        store.on_pressure = told.append
        store.limit_views(versions=5)
        held = crowd(store, 12)
        stale = store.staleness
        assert stale > 3
        assert [pressure.reason for pressure in told] == ["versions"] * len(told)
        assert [pressure.staleness for pressure in told[:3]] == [1, 2, 4]

        held.clear()
        with store.view() as view:
            assert view["health.hp"].tolist() == [11]
        assert store.staleness == 0
        assert told[-1].staleness == 0


def test_a_version_that_waits_for_its_disk_crowds_nobody(tmp_path: Path) -> None:
    told: list[Pressure] = []
    with Store(SCHEMA, data=tmp_path / "data", durability="strict", debug=True) as store:
        store.on_pressure = told.append
        held = crowd(store, 10)
        assert store.staleness == 0
        held.clear()
    assert told == []
    with Store(SCHEMA, data=tmp_path / "data") as store, store.view() as view:
        assert view["health.hp"].tolist() == [9]


def test_limits_are_checked_and_nobody_is_interrupted() -> None:
    with Store(SCHEMA, debug=True) as store:
        for wrong in ({"versions": 2}, {"versions": 65}, {"buffers": 2}):
            with pytest.raises(ArgumentError):
                store.limit_views(**wrong)
        with store.transaction() as tx:
            tx.spawn(health={"hp": 1})
            with pytest.raises(BusyError):
                store.limit_views(versions=10)
        store.limit_views(versions=10, buffers=10)
