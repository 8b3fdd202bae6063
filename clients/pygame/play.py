"""Skirmish: a small arena game on ecsnet.

python clients/pygame/play.py                          a node and six bots on this machine, and you
python clients/pygame/play.py tcp://HOST:7777          somebody's node
python clients/pygame/play.py --line bad-wifi          the same over a bad line
python clients/pygame/play.py --headless --seconds 10 --screenshot shot.png
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="A small arena game on ecsnet.")
    parser.add_argument("url", nargs="?", help="the node to join; without it one is started here")
    parser.add_argument("--name", default=os.environ.get("USER", "you"), help="what you are called")
    parser.add_argument("--bots", type=int, default=6, help="bots on the node that is started here")
    parser.add_argument("--line", metavar="PROFILE", help="play over a bad line: 4g, bad-wifi, satellite, ...")
    parser.add_argument("--headless", action="store_true", help="no window: a bot has the helm")
    parser.add_argument("--players", type=int, default=1, help="headless players, each with a screen of its own")
    parser.add_argument("--seconds", type=float, default=math.inf, help="how long")
    parser.add_argument("--screenshot", metavar="FILE", type=Path, help="write the last frame as a PNG")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def started(*command: str) -> Iterator[str]:
    """A process of ours that says where it listens, and is ended with the game."""
    process = subprocess.Popen([sys.executable, "-m", "ecsnet", *command], cwd=HERE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"ecsnet {command[0]} did not start; what it said is above")
        yield json.loads(line)["listening"][0]
    finally:
        process.terminate()
        process.wait()


def main(arguments: list[str]) -> int:
    """Play until the window is closed, the node ends, or the time is over."""
    options = parse(arguments)
    for module, package in (("ecsnet", "."), ("pygame", ".[game]")):
        if find_spec(module) is None:
            raise SystemExit(f"the game needs {module}, which is not installed: pip install '{package}' in the clone")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if options.headless:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    sys.path.insert(0, str(HERE))
    with contextlib.ExitStack() as stack:
        url = options.url
        if url is None:
            url = stack.enter_context(started("serve", "rules:world", "--listen", "tcp://127.0.0.1:0", "--json"))
            print(f"the node listens at {url}")
        if options.url is None and options.bots > 0:
            bots = subprocess.Popen([sys.executable, str(HERE / "bots.py"), url, str(options.bots)])
            stack.callback(bots.wait)
            stack.callback(bots.terminate)
        if options.line:
            near = started("proxy", "--profile", options.line, "tcp://127.0.0.1:0", url, "--json")
            url = stack.enter_context(near)
        from player import play

        from ecsnet.errors import EcsnetError

        try:
            return play(url, options)
        except EcsnetError as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
