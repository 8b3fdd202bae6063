"""What a player sees: a `Screen` draws one view of the world, and what has just happened, onto a pygame surface.

It knows no network: a version, the player's own entity and a time are all it is given, so that a test can draw a
simulated player's screen as well. Nothing here is a file: light, stars and ships are drawn when the screen is made.
"""

import colorsys
import math
import random
from collections import deque
from dataclasses import dataclass

import numpy as np
import pygame
from poses import Poses
from rules import (
    ARENA,
    CARRIED_MAX,
    FULL_HP,
    SHIP_RADIUS,
    Blast,
    Blip,
    Body,
    Gun,
    Health,
    Hit,
    Item,
    Kind,
    Loot,
    Motion,
    Ship,
    Shot,
    Taken,
)

import ecsnet

Colour = tuple[int, int, int]

NIGHT: Colour = (7, 8, 20)
FLOOR: Colour = (14, 17, 40)
GRID: Colour = (30, 38, 76)
EDGE: Colour = (90, 120, 255)
INK: Colour = (225, 232, 255)
FAINT: Colour = (160, 172, 208)
GOOD: Colour = (94, 230, 160)
BAD: Colour = (255, 92, 110)
NEBULAE: tuple[tuple[float, float, Colour, int], ...] = (
    (0.2, 0.25, (34, 16, 62), 420),
    (0.85, 0.6, (10, 32, 58), 480),
    (0.45, 0.95, (48, 14, 34), 360),
)
"""Light in the distance: where on the screen with the camera at the corner, its colour, and how far it reaches."""
LOOT: dict[int, Colour] = {Kind.MEDKIT: (94, 230, 160), Kind.OVERDRIVE: (255, 196, 80)}
GRID_STEP = 120
HULL = ((0.0, 23.0), (2.5, 19.0), (math.pi, 9.0), (-2.5, 19.0))
"""A ship's corners: how far turned from where it faces, and how far out."""


@dataclass(slots=True)
class _Spark:
    x: float
    y: float
    vx: float
    vy: float
    left_s: float
    lasts_s: float
    colour: Colour
    size: float


class Screen:
    """See the file."""

    def __init__(self, surface: pygame.Surface, hz: int) -> None:
        self._surface = surface
        self._poses = Poses(hz)
        self._version = -1
        self._sparks: list[_Spark] = []
        self._lights: dict[tuple[int, int, int, int], pygame.Surface] = {}
        self._told: deque[tuple[float, str, Colour]] = deque(maxlen=5)
        self._camera = np.array([ARENA / 2, ARENA / 2])
        self._shake = 0.0
        self._shaken = (0.0, 0.0)
        self._random = random.Random(7)
        width, height = surface.get_size()
        self._stars = [
            (self._random.random() * width, self._random.random() * height, depth, int(60 + 150 * depth))
            for depth in (0.15, 0.3, 0.5)
            for _ in range(90)
        ]
        self._small, self._middle, self._large = (pygame.font.Font(None, size) for size in (20, 26, 44))
        self._vignette = _vignette(width, height)

    def happened(self, event: object, view: "ecsnet.View", me: int, now_s: float) -> None:
        """An event row that was told, to be seen."""
        if isinstance(event, Hit):
            self._burst(event.x, event.y, (255, 235, 190), 9, 170.0, 0.35)
            if event.target == me:
                self._shake = 9.0
        elif isinstance(event, Blast):
            self._burst(event.x, event.y, _hue(event.hue), 60, 330.0, 0.9)
            self._burst(event.x, event.y, (255, 250, 235), 24, 190.0, 0.5)
        elif isinstance(event, Taken) and event.who == me:
            kind = Kind(event.kind)
            self._told.append((now_s, f"+ {kind.name.lower()}", LOOT[kind]))

    def say(self, text: str, now_s: float, colour: Colour = INK) -> None:
        """A line for the player, for a few seconds."""
        self._told.append((now_s, text, colour))

    def draw(self, view: "ecsnet.View", me: int, now_s: float, frame_s: float, status: str = "") -> None:
        """One frame: the version `view`, for the player whose ship is `me`, at `now_s`."""
        bodies = view.query(Body)
        if view.version != self._version:
            self._version = view.version
            (body,) = bodies
            places = np.stack([body.x, body.y, body.facing], axis=1) if len(body.x) else np.empty((0, 3), np.float32)
            self._poses.take(np.array(bodies.entity), places, now_s)
        places = self._poses.at(now_s)
        where = dict(zip(self._poses.entities.tolist(), places.tolist(), strict=True))
        if me in where:
            ahead = np.array(where[me][:2])
            self._camera += (ahead - self._camera) * min(1.0, 9.0 * frame_s)
        self._shake *= math.exp(-9.0 * frame_s)
        self._shaken = (self._random.uniform(-1, 1) * self._shake, self._random.uniform(-1, 1) * self._shake)
        surface = self._surface
        surface.fill(NIGHT)
        self._floor()
        self._sky()
        self._lines()
        self._loot(view, where, now_s)
        self._shots(view, where)
        self._fly_sparks(frame_s)
        self._ships(view, where, me, now_s)
        surface.blit(self._vignette, (0, 0))
        self._hud(view, where, me, now_s, status)

    # --- the world ---------------------------------------------------------------------------------------------------

    def _at(self, x: float, y: float) -> tuple[int, int]:
        width, height = self._surface.get_size()
        return (
            int(x - self._camera[0] + width / 2 + self._shaken[0]),
            int(y - self._camera[1] + height / 2 + self._shaken[1]),
        )

    def _is_seen(self, x: float, y: float, margin: float = 60.0) -> bool:
        width, height = self._surface.get_size()
        across, down = float(self._camera[0]), float(self._camera[1])
        return abs(x - across) < width / 2 + margin and abs(y - down) < height / 2 + margin

    def _sky(self) -> None:
        width, height = self._surface.get_size()
        for x, y, colour, radius in NEBULAE:
            # What leaves the screen on one side comes back on the other, and is nowhere cut off.
            across = (x * width - self._camera[0] * 0.1) % (width + 2 * radius) - 2 * radius
            down = (y * height - self._camera[1] * 0.1) % (height + 2 * radius) - 2 * radius
            nebula = self._light(colour, radius)
            self._surface.blit(nebula, (int(across), int(down)), special_flags=pygame.BLEND_RGB_ADD)
        for x, y, depth, light in self._stars:
            at = (int((x - self._camera[0] * depth) % width), int((y - self._camera[1] * depth) % height))
            self._surface.fill((light * 3 // 4, light * 4 // 5, light), (*at, 1 + (depth > 0.4), 1 + (depth > 0.4)))

    def _arena(self) -> pygame.Rect:
        width, height = self._surface.get_size()
        left, top = self._camera[0] - width / 2, self._camera[1] - height / 2
        return pygame.Rect(int(-left), int(-top), int(ARENA), int(ARENA))

    def _floor(self) -> None:
        self._surface.fill(FLOOR, self._arena())

    def _lines(self) -> None:
        arena = self._arena()
        x0, y0 = arena.topleft
        inside = arena.clip(self._surface.get_rect())
        for step in range(0, int(ARENA) + 1, GRID_STEP):
            if inside.left <= x0 + step <= inside.right:
                pygame.draw.line(self._surface, GRID, (x0 + step, inside.top), (x0 + step, inside.bottom))
            if inside.top <= y0 + step <= inside.bottom:
                pygame.draw.line(self._surface, GRID, (inside.left, y0 + step), (inside.right, y0 + step))
        for inset, colour in ((0, EDGE), (-4, (40, 56, 130)), (-9, (22, 30, 74))):
            pygame.draw.rect(self._surface, colour, arena.inflate(-2 * inset, -2 * inset), 2, border_radius=10)

    def _light(self, colour: Colour, radius: int) -> pygame.Surface:
        """A round light, to be added to what is there."""
        red, green, blue = colour
        key = (red // 24, green // 24, blue // 24, radius)
        if key not in self._lights:
            distance = np.hypot(*np.mgrid[-radius:radius, -radius:radius]) / radius
            fall = np.clip(1.0 - distance, 0.0, 1.0) ** 2.2
            light = pygame.Surface((2 * radius, 2 * radius))
            pygame.surfarray.blit_array(light, (fall[..., None] * np.array(colour)).astype(np.uint8))
            self._lights[key] = light
        return self._lights[key]

    def _glow(self, x: float, y: float, colour: Colour, radius: int) -> None:
        at = self._at(x, y)
        self._surface.blit(
            self._light(colour, radius), (at[0] - radius, at[1] - radius), special_flags=pygame.BLEND_RGB_ADD
        )

    def _loot(self, view: "ecsnet.View", where: dict[int, list[float]], now_s: float) -> None:
        rows = view.query(Loot)
        (loot,) = rows
        for entity, kind in zip(rows.entity.tolist(), loot.kind.tolist(), strict=True):
            x, y, _ = where.get(entity, (-1e9, 0.0, 0.0))
            if not self._is_seen(x, y):
                continue
            colour = LOOT[kind]
            bob = 3.0 * math.sin(now_s * 3.0 + entity % 7)
            self._glow(x, y + bob, _dim(colour, 0.5), 34)
            cx, cy = self._at(x, y + bob)
            turn = now_s * 1.6 + entity % 5
            corners = [_corner(cx, cy, turn + i * math.pi / 2, 10.0) for i in range(4)]
            pygame.draw.polygon(self._surface, NIGHT, corners)
            pygame.draw.polygon(self._surface, colour, corners, 2)
            _icon(self._surface, kind, cx, cy, 4, colour)

    def _shots(self, view: "ecsnet.View", where: dict[int, list[float]]) -> None:
        rows = view.query(Shot, Motion)
        shot, motion = rows
        ships = view.query(Ship)
        (ship,) = ships
        hues = dict(zip(ships.entity.tolist(), ship.hue.tolist(), strict=True))
        for entity, shooter, vx, vy in zip(
            rows.entity.tolist(), shot.shooter.tolist(), motion.x.tolist(), motion.y.tolist(), strict=True
        ):
            x, y, _ = where.get(entity, (-1e9, 0.0, 0.0))
            if not self._is_seen(x, y):
                continue
            colour = _hue(hues.get(shooter, 40))
            self._glow(x, y, colour, 22)
            tail = self._at(x - 0.035 * vx, y - 0.035 * vy)
            pygame.draw.line(self._surface, colour, tail, self._at(x, y), 3)
            pygame.draw.circle(self._surface, (255, 255, 255), self._at(x, y), 3)

    def _ships(self, view: "ecsnet.View", where: dict[int, list[float]], me: int, now_s: float) -> None:
        rows = view.query(Ship, Motion, Health, Gun)
        ship, motion, health, gun = rows
        for number, entity in enumerate(rows.entity.tolist()):
            x, y, facing = where.get(entity, (-1e9, 0.0, 0.0))
            if not self._is_seen(x, y):
                continue
            colour = _hue(int(ship.hue[number]))
            speed = math.hypot(float(motion.x[number]), float(motion.y[number]))
            self._glow(x, y, _dim(colour, 0.4), 58)
            if speed > 30.0:
                flame = 14.0 + 0.06 * speed * (0.8 + 0.2 * math.sin(now_s * 40 + entity))
                ux, uy = float(motion.x[number]) / speed, float(motion.y[number]) / speed
                self._glow(x - ux * SHIP_RADIUS, y - uy * SHIP_RADIUS, (255, 150, 60), int(flame))
            cx, cy = self._at(x, y)
            hull = [_corner(cx, cy, facing + angle, reach) for angle, reach in HULL]
            pygame.draw.polygon(self._surface, _dim(colour, 0.45), hull)
            pygame.draw.polygon(self._surface, colour, hull, 2)
            pygame.draw.aalines(self._surface, colour, True, hull)
            pygame.draw.circle(self._surface, (255, 255, 255), _corner(cx, cy, facing, 6.0), 3)
            if gun.overdrive[number] > 0.0:
                pygame.draw.circle(self._surface, LOOT[Kind.OVERDRIVE], (cx, cy), 27 + int(2 * math.sin(now_s * 14)), 1)
            share = int(health.hp[number]) / FULL_HP
            ring = pygame.Rect(cx - 30, cy - 30, 60, 60)
            pygame.draw.arc(
                self._surface, _blend(BAD, GOOD, share), ring, math.pi / 2, math.pi / 2 + math.tau * share, 2
            )
            name = str(ship.name[number]) or "?"
            text = self._small.render(name, True, INK if entity == me else FAINT)
            self._surface.blit(text, (cx - text.get_width() // 2, cy + 36))

    def _burst(self, x: float, y: float, colour: Colour, count: int, speed: float, lasts_s: float) -> None:
        for _ in range(count):
            turn, fast = self._random.uniform(0, math.tau), speed * self._random.uniform(0.2, 1.0)
            last = lasts_s * self._random.uniform(0.5, 1.0)
            self._sparks.append(
                _Spark(
                    x, y, fast * math.cos(turn), fast * math.sin(turn), last, last, colour, self._random.uniform(5, 15)
                )
            )
        del self._sparks[:-600]

    def _fly_sparks(self, frame_s: float) -> None:
        for spark in self._sparks:
            spark.x += spark.vx * frame_s
            spark.y += spark.vy * frame_s
            spark.vx *= 1.0 - 2.2 * frame_s
            spark.vy *= 1.0 - 2.2 * frame_s
            spark.left_s -= frame_s
            if spark.left_s > 0.0 and self._is_seen(spark.x, spark.y):
                share = spark.left_s / spark.lasts_s
                self._glow(spark.x, spark.y, _dim(spark.colour, share), int(spark.size) + 2)
        self._sparks = [spark for spark in self._sparks if spark.left_s > 0.0]

    # --- what is told ------------------------------------------------------------------------------------------------

    def _hud(self, view: "ecsnet.View", where: dict[int, list[float]], me: int, now_s: float, status: str) -> None:
        width, height = self._surface.get_size()
        (blip,) = view.query(Blip)
        blips = list(zip(blip.ship.tolist(), blip.name, blip.hue.tolist(), blip.score.tolist(), strict=True))
        best = sorted(blips, key=lambda one: (-one[3], one[0]))[:8]
        self._panel(pygame.Rect(width - 236, 16, 220, 34 + 24 * len(best)))
        self._surface.blit(self._small.render("SCORE", True, FAINT), (width - 222, 24))
        for line, (ship, name, hue, points) in enumerate(best):
            y = 46 + 24 * line
            pygame.draw.circle(self._surface, _hue(hue), (width - 214, y + 8), 5)
            self._surface.blit(self._middle.render(str(name), True, INK if ship == me else FAINT), (width - 200, y))
            score = self._middle.render(str(points), True, INK)
            self._surface.blit(score, (width - 32 - score.get_width(), y))

        self._panel(pygame.Rect(width // 2 - 180, height - 92, 360, 76))
        hp = int(view[me, Health.hp]) if me in view else 0
        bar = pygame.Rect(width // 2 - 164, height - 80, 328, 12)
        pygame.draw.rect(self._surface, (36, 42, 74), bar, border_radius=6)
        if hp:
            full = bar.copy()
            full.width = max(12, bar.width * hp // FULL_HP)
            pygame.draw.rect(self._surface, _blend(BAD, GOOD, hp / FULL_HP), full, border_radius=6)
        (items,) = view.query(Item).where(Item.holder == me)
        carried = items.kind.tolist()
        for slot in range(CARRIED_MAX):
            box = pygame.Rect(width // 2 - 164 + 56 * slot, height - 60, 48, 36)
            pygame.draw.rect(self._surface, (20, 25, 52), box, border_radius=7)
            pygame.draw.rect(self._surface, (52, 62, 110), box, 1, border_radius=7)
            if slot < len(carried):
                kind = carried[slot]
                _icon(self._surface, kind, *box.center, 9, LOOT[kind])

        side = 150
        chart = pygame.Rect(16, height - side - 16, side, side)
        self._panel(chart)
        scale = side / ARENA
        seen = pygame.Rect(0, 0, int(width * scale), int(height * scale))
        seen.center = (chart.x + int(self._camera[0] * scale), chart.y + int(self._camera[1] * scale))
        pygame.draw.rect(self._surface, (52, 62, 110), seen.clip(chart.inflate(-2, -2)), 1)
        for ship, hue, x, y in zip(
            blip.ship.tolist(), blip.hue.tolist(), blip.x.tolist(), blip.y.tolist(), strict=True
        ):
            # Exactly where it is seen, roughly where it is not.
            near_x, near_y, _ = where.get(ship, (x, y, 0.0))
            at = (chart.x + int(near_x * scale), chart.y + int(near_y * scale))
            pygame.draw.circle(self._surface, INK if ship == me else _hue(hue), at, 4 if ship == me else 3)
        keys = self._small.render("WASD fly   mouse aims and fires   1 medkit   2 overdrive", True, (122, 134, 176))
        self._panel(pygame.Rect(16, 16, keys.get_width() + 24, 52))
        self._surface.blit(self._small.render(status, True, FAINT), (28, 24))
        self._surface.blit(keys, (28, 46))
        for line, (at_s, text, colour) in enumerate(reversed(self._told)):
            if now_s - at_s < 3.0:
                told = self._middle.render(text, True, colour)
                self._surface.blit(told, (width // 2 - told.get_width() // 2, height - 130 - 26 * line))

    def _panel(self, box: pygame.Rect) -> None:
        panel = pygame.Surface(box.size, pygame.SRCALPHA)
        pygame.draw.rect(panel, (13, 16, 36, 228), panel.get_rect(), border_radius=10)
        pygame.draw.rect(panel, (60, 74, 140, 160), panel.get_rect(), 1, border_radius=10)
        self._surface.blit(panel, box)


def _hue(degrees: int) -> Colour:
    # Blue is dark to the eye, so it gets more light.
    blueness = max(0.0, 1.0 - abs(degrees % 360 - 245) / 45.0)
    red, green, blue = colorsys.hls_to_rgb(degrees / 360.0, 0.64 + 0.1 * blueness, 0.9)
    return int(255 * red), int(255 * green), int(255 * blue)


def _blend(low: Colour, high: Colour, share: float) -> Colour:
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _dim(colour: Colour, share: float) -> Colour:
    red, green, blue = colour
    return int(red * share), int(green * share), int(blue * share)


def _corner(x: int, y: int, turn: float, reach: float) -> tuple[float, float]:
    return x + reach * math.cos(turn), y + reach * math.sin(turn)


def _icon(surface: pygame.Surface, kind: int, x: int, y: int, size: int, colour: Colour) -> None:
    if kind == Kind.MEDKIT:
        pygame.draw.rect(surface, colour, (x - size, y - size // 3, 2 * size, 2 * size // 3 + 1))
        pygame.draw.rect(surface, colour, (x - size // 3, y - size, 2 * size // 3 + 1, 2 * size))
    else:
        bolt = [(0.2, -1), (-0.7, 0.15), (-0.05, 0.15), (-0.2, 1), (0.7, -0.2), (0.05, -0.2)]
        pygame.draw.polygon(surface, colour, [(x + size * dx, y + size * dy) for dx, dy in bolt])


def _vignette(width: int, height: int) -> pygame.Surface:
    """Darker towards the corners."""
    across, down = np.mgrid[-1 : 1 : width * 1j, -1 : 1 : height * 1j]
    shade = np.clip(np.hypot(across, down) - 0.55, 0.0, 1.0) * 190
    vignette = pygame.Surface((width, height), pygame.SRCALPHA)
    pygame.surfarray.pixels_alpha(vignette)[:] = shade.astype(np.uint8)
    return vignette
