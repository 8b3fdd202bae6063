"""Bots: players without a screen. Each is an ordinary client, and all of them are polled by one loop.

python bots.py tcp://127.0.0.1:7777 6
"""

import math
import random
import sys
import time
from typing import Any, Protocol

import numpy as np
from rules import ARENA, SHOT_SPEED, Body, Health, Item, Kind, Loot, Motion, Ship, steer, use, world

import ecsnet

NAMES = ("Vega", "Rigel", "Mira", "Altair", "Deneb", "Capella", "Spica", "Antares", "Polaris", "Castor")
THINKS_S = 0.1


class Pilot(Protocol):
    """What a bot needs of a client, real or simulated."""

    @property
    def state(self) -> str: ...
    @property
    def entity(self) -> int: ...
    @property
    def view(self) -> ecsnet.View: ...
    def poll(self) -> Any: ...
    def send(self, command: Any, /, **arguments: Any) -> Any: ...


class Bot:
    """Flies to what lies around, aims at who is near, heals when hurt."""

    def __init__(self, client: Pilot, number: int) -> None:
        self._client = client
        self._random = random.Random(number)
        self._goal = (ARENA / 2, ARENA / 2)
        self._bored_s = 0.0

    def step(self, now_s: float) -> bool:
        """Look once and act. False when the session is over."""
        self._client.poll()
        if self._client.state == "closed":
            return False
        self.act(now_s)
        return True

    def act(self, now_s: float) -> None:
        """Act on what the client's view shows."""
        client = self._client
        view, me = client.view, client.entity
        if client.state != "live" or not me or me not in view:
            return
        ships = view.query(Ship, Body, Motion, Health)
        _, body, motion, health = ships
        mine = int(np.nonzero(ships.entity == me)[0][0])
        x, y, hp = float(body.x[mine]), float(body.y[mine]), int(health.hp[mine])
        away = np.hypot(body.x - x, body.y - y)
        away[mine] = np.inf
        prey = int(np.argmin(away))
        self._choose(now_s, x, y)
        dx, dy = self._goal[0] - x, self._goal[1] - y
        far = math.hypot(dx, dy)
        dx, dy = (dx / far, dy / far) if far > 1.0 else (0.0, 0.0)
        fire, facing = False, math.atan2(dy, dx)
        if away[prey] < 480.0:
            flight_s = float(away[prey]) / SHOT_SPEED
            ahead = float(body.x[prey] + motion.x[prey] * flight_s), float(body.y[prey] + motion.y[prey] * flight_s)
            facing = math.atan2(ahead[1] - y, ahead[0] - x) + self._random.gauss(0.0, 0.09)
            fire = self._random.random() < 0.75
            # Circle rather than ram.
            side = 1.0 if self._random.random() < 0.97 else -1.0
            dx, dy = 0.6 * dx - 0.6 * side * math.sin(facing), 0.6 * dy + 0.6 * side * math.cos(facing)
        length = max(1.0, math.hypot(dx, dy))
        client.send(steer, dx=dx / length, dy=dy / length, facing=facing, fire=fire)
        (carried,) = view.query(Item).where(Item.holder == me)
        if hp < 50 and Kind.MEDKIT in carried.kind and self._random.random() < 0.3:
            client.send(use, kind=Kind.MEDKIT)
        elif fire and Kind.OVERDRIVE in carried.kind and self._random.random() < 0.05:
            client.send(use, kind=Kind.OVERDRIVE)

    def _choose(self, now_s: float, x: float, y: float) -> None:
        if now_s < self._bored_s and math.hypot(self._goal[0] - x, self._goal[1] - y) > 20.0:
            return
        self._bored_s = now_s + self._random.uniform(1.5, 5.0)
        loot = self._client.view.query(Loot, Body)
        _, lies = loot
        if len(loot.entity) and self._random.random() < 0.8:
            choice = int(np.argmin(np.hypot(lies.x - x, lies.y - y)))
            self._goal = float(lies.x[choice]), float(lies.y[choice])
        else:
            self._goal = self._random.uniform(100, ARENA - 100), self._random.uniform(100, ARENA - 100)


def main(url: str, count: int) -> None:
    """Play until the node ends."""
    clients = [
        ecsnet.connect(url, world, name=NAMES[number % len(NAMES)], threaded=False, wait_s=10)
        for number in range(count)
    ]
    bots = [Bot(client, number) for number, client in enumerate(clients)]
    try:
        while bots:
            began_s = time.monotonic()
            bots = [bot for bot in bots if bot.step(began_s)]
            time.sleep(max(0.0, began_s + THINKS_S - time.monotonic()))
    except KeyboardInterrupt:
        pass
    finally:
        for client in clients:
            client.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
