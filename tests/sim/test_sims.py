"""What lies in `sims/`: the market keeps its rules and its checks see when they are broken, scenarios pass, the museum
stays mended, mutants can be made, and the night runner keeps what fails."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ecsnet.errors import UnknownNameError
from ecsnet.sim.cluster import Cluster
from ecsnet.sim.faults import KINDS
from ecsnet.sim.run import run_scenario
from ecsnet.sim.scenario import read_scenario
from ecsnet.store import Store
from sims import mutants, night, run, world
from sims.world import Market

ROOT = Path(__file__).resolve().parents[2]
MUSEUM = sorted((ROOT / "sims" / "museum").glob("*.toml"))

# --- scenarios --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in run.names() if name != "swarm"])
def test_a_scenario_passes(name: str) -> None:
    one = run.scenario(name, seed=1)

    outcome = run_scenario(one, run.game_of(one))

    assert outcome.ok, outcome.reasons()


@pytest.mark.parametrize("seed", range(1, 7))
def test_the_swarm_passes(seed: int) -> None:
    """A few seeds of it; `sims/run.py swarm --seeds 100` runs more."""
    one = run.scenario("swarm", seed=seed)

    outcome = run_scenario(one, run.game_of(one))

    assert outcome.ok, outcome.reasons()


@pytest.mark.parametrize("path", MUSEUM, ids=lambda path: path.stem)
def test_what_was_mended_stays_mended(path: Path) -> None:
    one = read_scenario(path)

    outcome = run_scenario(one, run.game_of(one))

    assert outcome.ok, outcome.reasons()


def test_scenarios_have_every_kind_of_fault() -> None:
    """Beside the swarm, in which kinds hide each other."""
    written = {fault.kind for name in run.names() for fault in run.scenario(name, seed=1).faults}

    assert written >= KINDS.keys() - {"clock_jump", "hostile"}
    assert run.scenario("hostile", seed=1).hostile > 0


def test_a_run_tells_how_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["hostile", "--seed", "3", "--seconds", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and told["seed"] == 3 and told["faults"] == {}

    assert run.main(["hostile", "--seed", "3", "--seconds", "1"]) == 0
    assert "ok     hostile seed 3: lan, mixed, 3 clients" in capsys.readouterr().out

    with pytest.raises(SystemExit):
        run.main(["hostile", "--seeds", "0"])
    assert "--seeds is 0; at least one" in capsys.readouterr().err

    assert run.main(["chrun"]) == 2
    assert "did you mean 'churn'" in capsys.readouterr().err
    with pytest.raises(UnknownNameError):
        run.scenario("chrun")


def test_a_run_that_failed_is_replayed_for_as_long_as_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad_play(player: Any) -> None:
        raise LookupError("no play")

    monkeypatch.setattr(run, "play", bad_play)

    assert run.main(["hostile", "--seed", "3", "--seconds", "1"]) == 1

    assert "replay: python sims/run.py hostile --seed 3 --seconds 1.0\n" in capsys.readouterr().out


def test_the_canary_says_what_it_takes() -> None:
    command = [sys.executable, str(ROOT / "sims" / "canary.py"), "--help"]

    assert "usage: canary.py" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


# --- the market -------------------------------------------------------------------------------------------------------


def market() -> Store:
    """Three players who were made by hand, an item and a spark."""
    store = Store(world.world.schema)
    world.setup(store)
    with store.transaction() as tx:
        bank = int(tx[tx.key("clock.id", 1), "clock.bank"])
        players = [tx.spawn(purse={"coins": 100}, counter={}, body={}) for _ in range(3)]
        tx[bank, "purse.coins"] = world.COINS - 300
        tx.insert("item", {"id": 1, "kind": world.Kind.SWORD, "holder": players[0]})
        tx.spawn(spark={"serial": 4, "born": 1}, glow={"pair": 4})
        tx.update(tx.key("clock.id", 1), "clock", sparks=1, made=1)
    return store


def first(tx: Any, table: str) -> int:
    return int(tx.query(table).key[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tx: tx.update(first(tx, "counter"), "purse", coins=99), "999999 coins"),
        (lambda tx: tx.update(first(tx, "spark"), "spark", serial=5), "sparks and glows are not the same"),
        (lambda tx: tx.delete(first(tx, "spark"), "glow"), "sparks and glows are not the same"),
        (lambda tx: tx.despawn(first(tx, "spark")), "0 sparks, the clock counts 1"),
        (lambda tx: tx.spawn(spark={"serial": 8, "born": 1}, glow={"pair": 8}), "2 sparks, the clock counts 1"),
        (lambda tx: tx.update(first(tx, "counter"), "counter", again=1), "numbers that did not grow, 1 times"),
        (lambda tx: tx.update(first(tx, "item"), "item", holder=first(tx, "spark")), "have no purse"),
        (lambda tx: tx.delete(first(tx, "clock"), "clock"), "the clock shows tick []"),
    ],
)
def test_the_market_sees_when_a_rule_is_broken(change: Any, says: str) -> None:
    with market() as store:
        with store.view() as view:
            assert Market().check(view) is None

        with store.transaction() as tx:
            change(tx)

        with store.view() as view:
            assert says in str(Market().check(view))


def test_a_version_of_another_tick_is_seen() -> None:
    with market() as store, store.tick(store.tick_number + 5) as scope:  # type: ignore[arg-type]
        with scope.transaction("late") as tx:
            tx.update(first(tx, "clock"), "clock", tick=3)
        scope.publish()
        with store.view() as view:
            assert "shows tick [3] in a version of tick 5" in str(Market().check(view))


def test_the_market_is_a_lively_one() -> None:
    """What nobody does is not checked: every command is accepted, indices are reused, items come and go."""
    model = Market()
    with Cluster(world.world, clients=5, profile="wifi", seed=3, setup=world.setup, model=model) as cluster:
        cluster.each_tick(world.play)
        cluster.run(15)

        assert not cluster.violations
        assert model.made > world.ITEMS_KEPT
        assert len({key & 0xFFFF_FFFF for key in model.seen}) < len(model.seen), "no index was reused"
        assert any(counter["done"] > 50 for counter in model.counters.values())
        assert any(counter["word"] for counter in model.counters.values())
        assert any(item["uses"] for item in model.items.values())
        assert len({coins for entity, coins in model.coins.items() if entity != model.bank}) > 1
        assert len({body["team"] for body in model.bodies.values()}) > 1


# --- mutants ----------------------------------------------------------------------------------------------------------


def test_every_mutant_can_be_made_and_is_a_change() -> None:
    """Whoever changes a line that a mutant replaces is told here."""
    found = mutants.read()

    for mutant in found:
        mutants.check(mutant)
        assert mutant.old != mutant.new
        assert mutant.breaks
    assert len({mutant.name for mutant in found}) == len(found) >= 12


def test_a_mutant_whose_text_is_gone_is_an_error() -> None:
    gone = mutants.Mutant("gone", "nothing", "ecsnet/ids.py", "no such text\n", "\n")
    twice = mutants.Mutant("twice", "nothing", "ecsnet/errors.py", "    ", "")

    for mutant in (gone, twice):
        with pytest.raises(mutants.BrokenMutantError, match="not once"):
            mutants.check(mutant)
    with pytest.raises(mutants.BrokenMutantError, match="no mutant is called"):
        mutants.chosen(["such"])


def test_a_mutant_may_name_its_own_proof(tmp_path: Path) -> None:
    """A program that says by its exit status whether something failed, and what in a line."""
    (tmp_path / "well.py").write_text("")
    (tmp_path / "wrong.py").write_text("import sys; print('x\\nFAILED it', file=sys.stderr); sys.exit(1)")
    (tmp_path / "mute.py").write_text("import sys; sys.exit(1)")
    (tmp_path / "dead.py").write_text("import os; os.kill(os.getpid(), 9)")
    (tmp_path / "broken.py").write_text("import sys; sys.exit(2)")

    assert mutants.prove(tmp_path, "well.py --seeds 3") == ""
    assert mutants.prove(tmp_path, "wrong.py") == "FAILED it"
    assert mutants.program("-m pytest tests/some.py") == "some"
    assert mutants.prove(tmp_path, "dead.py") == "its process ended by signal 9"
    for name in ("mute.py", "broken.py"):
        with pytest.raises(mutants.BrokenMutantError, match=name):
            mutants.prove(tmp_path, name)


def test_the_canary_is_caught() -> None:
    """A build that answers commands before what they did can be read. A suite that passes it would be blind."""
    result = subprocess.run([sys.executable, "sims/canary.py"], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    (verdict,) = json.loads(result.stdout).values()
    assert verdict["caught"]


# --- the night --------------------------------------------------------------------------------------------------------


def test_a_night_ends_in_time_and_keeps_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = read_scenario(ROOT / "sims" / "scenarios" / "churn.toml").with_(seconds=1.0, faults=(), clients=1)
    bad = short.with_(profile="no such line")
    monkeypatch.setattr(night, "seeds", lambda seed: iter([("good", short), ("bad", bad)] * 100))

    ran, failed = night.night(deadline=time.monotonic() + 0.1, first=1, jobs=1, folder=tmp_path)

    assert (ran, failed) == (4, 2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["bad-0.json", "bad-0.why"]
    assert night.kept(tmp_path) == [("bad", bad)]
    assert "no such line" in (tmp_path / "bad-0.why").read_text()


def test_what_failed_before_comes_first_and_is_told_when_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = read_scenario(ROOT / "sims" / "scenarios" / "churn.toml").with_(seconds=1.0, faults=(), clients=1)
    (tmp_path / "churn-0.json").write_text(short.to_json())
    monkeypatch.setattr(night, "seeds", lambda seed: iter([("other", short.with_(seed=9))] * 100))

    ran, failed = night.night(deadline=time.monotonic() + 0.1, first=1, jobs=1, folder=tmp_path)

    assert (ran, failed) == (4, 0)
    assert f"mended churn seed 0: move {tmp_path / 'churn-0.json'} to sims/museum" in capsys.readouterr().out


def test_nights_try_the_swarm_and_everything_else() -> None:
    seeds = night.seeds(5)
    tried = [next(seeds) for _ in range(2 * (len(run.names()) - 1))]

    assert {name for name, _ in tried} == set(run.names())
    assert sum(name == "swarm" for name, _ in tried) == len(tried) // 2
    assert len({(name, one.seed) for name, one in tried}) == len(tried)
