"""The game's loop: keys in, frames out, and the client between them."""

import argparse
import math
import time

import pygame
from bots import Bot
from rules import Kind, steer, use, world
from screen import BAD, Screen

import ecsnet
from ecsnet.replica import Ticket

SIZE = (1280, 720)
FRAMES_PER_S = 60
_KEYS = {pygame.K_w: (0, -1), pygame.K_s: (0, 1), pygame.K_a: (-1, 0), pygame.K_d: (1, 0)}
_ARROWS = {pygame.K_UP: (0, -1), pygame.K_DOWN: (0, 1), pygame.K_LEFT: (-1, 0), pygame.K_RIGHT: (1, 0)}


class Seat:
    """One player: a client, a screen, and who has the helm."""

    def __init__(self, url: str, name: str, surface: pygame.Surface, *, bot: bool, number: int) -> None:
        self.client = ecsnet.connect(url, world, name=name, wait_s=10, reconnect=True)
        self.surface = surface
        self.screen = Screen(surface, self.client.hz)
        self._bot = Bot(self.client, 100 + number) if bot else None
        self._thinks_s = 0.0
        self._tickets: list[Ticket] = []
        self._bytes = 0
        self._rate = 0.0
        self._counted_s = time.monotonic()

    def frame(self, now_s: float, frame_s: float) -> bool:
        """Take in what came, act, draw. False when the session is over."""
        client = self.client
        for event in client.poll():
            self.screen.happened(event, client.view, client.entity, now_s)
        if client.state == "closed":
            return False
        if self._bot is not None:
            if now_s >= self._thinks_s:
                self._thinks_s = now_s + 0.1
                self._bot.act(now_s)
        elif client.state == "live":
            self._steer()
        for ticket in [one for one in self._tickets if one.status != "pending"]:
            self._tickets.remove(ticket)
            if ticket.status == "rejected":
                self.screen.say(ticket.reason, now_s, BAD)
        self.screen.draw(client.view, client.entity, now_s, frame_s, self._status(now_s))
        return True

    def press(self, key: int) -> None:
        """A key that is not held but hit."""
        kind = {pygame.K_1: Kind.MEDKIT, pygame.K_2: Kind.OVERDRIVE}.get(key)
        if kind is not None and self.client.state == "live":
            self._tickets.append(self.client.send(use, kind=kind))

    def _steer(self) -> None:
        held = pygame.key.get_pressed()
        dx = dy = 0.0
        for keys in (_KEYS, _ARROWS):
            for key, (right, down) in keys.items():
                if held[key]:
                    dx, dy = dx + right, dy + down
        length = max(1.0, math.hypot(dx, dy))
        x, y = pygame.mouse.get_pos()
        facing = math.atan2(y - self.surface.get_height() / 2, x - self.surface.get_width() / 2)
        self.client.send(steer, dx=dx / length, dy=dy / length, facing=facing, fire=bool(pygame.mouse.get_pressed()[0]))

    def _status(self, now_s: float) -> str:
        statistics = self.client.statistics()
        if now_s - self._counted_s >= 1.0:
            self._rate = (statistics.bytes_received - self._bytes) / (now_s - self._counted_s)
            self._bytes, self._counted_s = statistics.bytes_received, now_s
        rtt = "" if statistics.rtt_ns is None else f"   {statistics.rtt_ns / 1e6:.0f} ms"
        return f"{self.client.state}   version {self.client.version}{rtt}   {self._rate / 1024:.1f} KiB/s"


def play(url: str, options: argparse.Namespace) -> int:
    """Run the loop. Returns the exit status: 0 unless the node ended the session."""
    # Not `init`: nothing here makes a sound.
    pygame.display.init()
    pygame.font.init()
    window = pygame.display.set_mode(SIZE)
    pygame.display.set_caption("Skirmish")
    clock = pygame.time.Clock()
    seats = [Seat(url, options.name, window, bot=options.headless, number=0)]
    for number in range(1, options.players if options.headless else 1):
        seats.append(Seat(url, f"{options.name} {number + 1}", pygame.Surface(SIZE), bot=True, number=number))
    ends_s = time.monotonic() + options.seconds
    playing, ended = True, False
    frame_s = 1.0 / FRAMES_PER_S
    try:
        while playing and time.monotonic() < ends_s:
            for event in pygame.event.get():
                if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
                    playing = False
                elif event.type == pygame.KEYDOWN:
                    seats[0].press(event.key)
            now_s = time.monotonic()
            for seat in seats:
                ended = not seat.frame(now_s, frame_s) or ended
            playing = playing and not ended
            pygame.display.flip()
            frame_s = min(0.1, clock.tick(FRAMES_PER_S) / 1000.0)
        if options.screenshot is not None:
            pygame.image.save(window, options.screenshot)
        for seat in seats:
            statistics = seat.client.statistics()
            print(
                f"{seat.client.name}: {seat.client.state}, version {seat.client.version}, "
                f"{statistics.versions_applied} versions, {statistics.bytes_received / 1024:.0f} KiB"
            )
        if ended:
            print(f"the session is over: {seats[0].client.reason}")
    finally:
        for seat in seats:
            seat.client.close()
        pygame.quit()
    return int(ended)
