"""The game in `clients/pygame`: bots have the helm, nobody looks at the window."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecsnet.sim import Cluster, Player

pygame = pytest.importorskip("pygame")

GAME = Path(__file__).parents[2] / "clients" / "pygame"
MODULES = ("bots", "play", "player", "poses", "rules", "screen")


@pytest.fixture
def game(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The game's files can be imported, and are forgotten afterwards: others may have a `rules` of their own."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.syspath_prepend(str(GAME))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def test_two_players_on_bad_wifi_play_and_see_something(tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    options = ("--headless", "--players", "2", "--bots", "2", "--line", "bad-wifi", "--seconds", "4", "--screenshot")

    done = subprocess.run(
        [sys.executable, str(GAME / "play.py"), *options, str(shot)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    versions = [int(count) for count in re.findall(r"live, version \d+, (\d+) versions", done.stdout)]
    assert len(versions) == 2 and min(versions) > 10, done.stdout
    picture = pygame.surfarray.array3d(pygame.image.load(shot))
    assert picture.shape == (1280, 720, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200, "a screen with something on it"


def test_where_nobody_listens_is_said_in_one_line() -> None:
    """And not by a traceback: whoever plays has not written the program."""
    done = subprocess.run(
        [sys.executable, str(GAME / "play.py"), "--headless", "tcp://127.0.0.1:1"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith("error: tcp://127.0.0.1:1: nobody listens there"), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_fight_in_virtual_time_comes_out_the_same_for_everybody(
    game: None, ecsnet_cluster: Callable[..., Cluster]
) -> None:
    from bots import Bot
    from rules import Blast, Blip, Hit, Item, world

    cluster = ecsnet_cluster(world, clients=4, profile="bad-wifi", seed=11)
    bots: dict[Player, Bot] = {}
    told: list[Any] = []

    def play(player: Player) -> None:
        told.extend(player.poll())
        bots.setdefault(player, Bot(player, len(bots))).act(cluster.now_s)

    cluster.each_tick(play)
    cluster.run(seconds=20)
    cluster.assert_converged()

    view = cluster.players[0].view
    (blip,) = view.query(Blip)
    assert len(blip.score) == 4
    assert any(isinstance(event, Hit) for event in told)
    assert view.query(Item).count() > 0, "somebody carries something"
    # Each of the four is told each of them; what a player could not be told is none of these.
    blasts = sum(isinstance(event, Blast) for event in told)
    assert int(blip.score.sum()) * 4 >= blasts > 0


def test_a_simulated_players_screen_can_be_drawn(game: None, ecsnet_cluster: Callable[..., Cluster]) -> None:
    from rules import world
    from screen import Screen

    pygame.display.init()
    pygame.font.init()
    cluster = ecsnet_cluster(world, clients=1, profile="lan", seed=1)
    cluster.run(seconds=2)
    player = cluster.players[0]
    surface = pygame.Surface((640, 360))
    screen = Screen(surface, world.hz)

    screen.draw(player.view, player.entity, cluster.now_s, 1 / 60)
    empty = pygame.surfarray.array3d(surface)
    screen.say("hello", cluster.now_s)
    screen.draw(player.view, player.entity, cluster.now_s, 1 / 60)

    assert (pygame.surfarray.array3d(surface) != empty).any(), "what is said is seen"
    pygame.quit()


def test_a_body_is_drawn_between_two_places_that_it_has_been_at(game: None) -> None:
    from poses import Poses

    poses = Poses(hz=10)
    keys = np.array([7, 3], np.uint64)
    poses.take(keys, np.array([[0, 0, 3.0], [50, 0, 0]], np.float32), 0.0)
    poses.take(keys, np.array([[10, 0, -3.0], [50, 20, 0]], np.float32), 0.1)

    halfway = poses.at(0.15)

    assert poses.entities.tolist() == [3, 7]
    np.testing.assert_allclose(halfway[0], [50, 10, 0], atol=1e-4)
    np.testing.assert_allclose(halfway[1, :2], [5, 0], atol=1e-4)
    assert abs(abs(halfway[1, 2]) - np.pi) < 0.01, "it turns the shorter way round"
    np.testing.assert_allclose(poses.at(9.0)[1], [10, 0, 3.0 + (2 * np.pi - 6.0)], atol=1e-4)
