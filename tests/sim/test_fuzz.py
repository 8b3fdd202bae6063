"""The smoke of `sims/fuzz.py`, and that it sees what is wrong."""

import pytest

from ecsnet.authority.window import Window
from ecsnet.replica import Replica
from ecsnet.session.ledger import CommandLedger
from sims import fuzz


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_nobody_is_hurt_by_any_bytes(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main([target, "--seconds", "4", "--json"]) == 0
    assert '"failed": 0' in capsys.readouterr().out


def test_equal_seeds_do_equal_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a seed that failed could not be run again."""
    said: list[bytes] = []
    receive = fuzz.Node.take_in
    monkeypatch.setattr(
        fuzz.Node, "take_in", lambda node, link, reader, data: (said.append(data), receive(node, link, reader, data))[1]
    )

    fuzz.session(5)
    first, said[:] = list(said), []
    fuzz.session(5)

    assert len(first) > 100
    assert said == first


def test_a_bug_that_costs_only_the_strangers_link_is_found_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = Window.ack_untrusted

    def trusting(window: Window, version: int, chunks: int, now_ns: int) -> bool:
        assert version <= 1 << 40, "believed"
        return take(window, version, chunks, now_ns)

    monkeypatch.setattr(Window, "ack_untrusted", trusting)

    assert fuzz.main(["node", "--seeds", "10"]) == 1
    assert "a bug was caught" in capsys.readouterr().err


def test_a_command_that_is_done_twice_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = CommandLedger.take
    monkeypatch.setattr(CommandLedger, "take", lambda ledger: [one for one in take(ledger) for _ in range(2)])

    assert fuzz.main(["session", "--seeds", "1"]) == 1
    capsys.readouterr()


def test_a_replica_that_swallows_a_lie_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Replica, "receive_error", lambda replica, error, now_ns: None)

    assert fuzz.main(["client", "--seeds", "20"]) == 1
    assert "is live and stays at" in capsys.readouterr().err
