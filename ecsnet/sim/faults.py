"""What goes wrong in a run: faults as data, from a script or a seed, and how each one is done to a cluster.

| kind | who | value | what happens |
|---|---|---|---|
| partition | player | | nothing goes through, in either direction |
| one_way | player | "down" or "up" | nothing goes through in this direction |
| drop | player | | the transport breaks; the player comes back by itself |
| stall | player | | the player's program stands still |
| slow | player | kbit/s | the line has no more bandwidth than that |
| latency_spike | player | ms | the line takes so much longer, each way |
| loss_burst | player | share | the line loses this share of its packets |
| corrupt | player | share | so many packets have bits flipped |
| duplicate | player | share | so many packets arrive twice |
| reorder | player | share | so many packets are overtaken |
| clock_jump | player | ms | somebody sets the player's clock |
| churn | player | | the player leaves; another one comes when the fault ends |
| mass_join | | players | so many come at once, and leave when the fault ends |
| node_pause | | | the node's program stands still |
| node_crash | | | the node's process is killed; another one starts when the fault ends |
| power_loss | | | as node_crash, and what is not synced to its disk may be gone |
| disk_fault | | "io", "full", "short" or "sync" | one of the next operations of the node's disk goes wrong |
| hostile | | clients | so many clients send whatever they like |

Where `who` may name a player, leaving it out means every player.

Invariants:
- a `Fault` that exists is possible: its kind is known, its numbers are in range;
- faults of one player may overlap in any way: what its line is like follows from all that are in force, so the end of
  one never ends another;
- a swarm depends on its arguments alone, and leaves the last 15 % of a run quiet.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn
from weakref import WeakKeyDictionary

import msgspec
import tomli

from ecsnet.errors import ConfigError, did_you_mean
from ecsnet.schema.positions import NestingFault, Positions, scan
from ecsnet.sim.profile import TIME_MS_MAX, Direction, Profile

if TYPE_CHECKING:
    from ecsnet.sim.cluster import Cluster
    from ecsnet.sim.hostile_side import HostileSide
    from ecsnet.sim.player import Player

__all__ = ["KINDS", "Fault", "begin", "check_faults", "end", "read_faults", "swarm"]

TIME_S_MAX = 1e6
"""Eleven days: no run is longer."""

FAULTS_MAX = 100_000
"""Of one script."""

REORDER_MS = 40.0
"""How long a packet of the kind "reorder" is held back, at most: more than two ticks at 60 Hz."""


class KindSpec(NamedTuple):
    """What a kind of fault needs. `value` is a range of numbers, the texts there are, or None if it takes none."""

    on: Literal["player", "node"]
    lasts: bool
    value: tuple[float, float] | tuple[str, ...] | None = None
    default: float | str | None = None


KINDS: dict[str, KindSpec] = {
    "partition": KindSpec("player", True),
    "one_way": KindSpec("player", True, ("down", "up"), "down"),
    "drop": KindSpec("player", False),
    "stall": KindSpec("player", True),
    "slow": KindSpec("player", True, (1.0, 1e9), 256.0),
    "latency_spike": KindSpec("player", True, (0.0, 60_000.0), 200.0),
    "loss_burst": KindSpec("player", True, (0.0, 1.0), 0.3),
    "corrupt": KindSpec("player", True, (0.0, 1.0), 0.05),
    "duplicate": KindSpec("player", True, (0.0, 1.0), 0.2),
    "reorder": KindSpec("player", True, (0.0, 1.0), 0.2),
    "clock_jump": KindSpec("player", False, (-1e9, 1e9), 1000.0),
    "churn": KindSpec("player", True),
    "mass_join": KindSpec("node", True, (1.0, 1000.0), 5.0),
    "node_pause": KindSpec("node", True),
    "node_crash": KindSpec("node", True),
    "hostile": KindSpec("node", True, (1.0, 64.0), 1.0),
    "power_loss": KindSpec("node", True),
    "disk_fault": KindSpec("node", False, ("io", "full", "short", "sync"), "io"),
}
"""Every kind there is."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault.

    Attributes:
        kind: one of `KINDS`.
        at_s: when it begins, in virtual seconds since the run began.
        for_s: how long it lasts; 0 for those that are over at once.
        who: a player's name; None for every player, and for what is done to the node.
        value: how much; None for what `KINDS` gives.

    Raises:
        ConfigError: an unknown kind, or numbers that make no fault.
    """

    kind: str
    at_s: float
    for_s: float = 0.0
    who: str | None = None
    value: float | str | None = None

    def __post_init__(self) -> None:
        wrong = _wrong_in(self.kind, self.at_s, self.for_s, self.who, self.value)
        if wrong is not None:
            raise ConfigError("fault", wrong.key, wrong.reason, hint=wrong.hint)

    @property
    def amount(self) -> float:
        """`value` as a number, or the kind's own."""
        value = KINDS[self.kind].default if self.value is None else self.value
        assert isinstance(value, int | float)
        return float(value)


class _Wrong(NamedTuple):
    key: str
    reason: str
    hint: str | None = None


def _wrong_in(kind: Any, at_s: Any, for_s: Any, who: Any, value: Any) -> _Wrong | None:
    """The first thing that makes this no fault."""
    if not isinstance(kind, str) or kind not in KINDS:
        meant = did_you_mean(kind, KINDS) if isinstance(kind, str) else None
        hint = f"did you mean {meant!r}?" if meant else f"known: {', '.join(KINDS)}"
        return _Wrong("kind", f"no fault is called {kind!r}", hint)
    spec = KINDS[kind]
    for key, seconds in (("at_s", at_s), ("for_s", for_s)):
        # A NaN compares as neither, and a bool is an int to isinstance.
        if type(seconds) not in (int, float) or not 0.0 <= seconds <= TIME_S_MAX:
            return _Wrong(key, f"expected seconds in [0, {TIME_S_MAX:g}], found {seconds!r}")
    if spec.lasts and for_s == 0:
        return _Wrong("for_s", f"{kind} lasts; give the seconds")
    if not spec.lasts and for_s != 0:
        return _Wrong("for_s", f"{kind} is over at once; leave it out")
    if who is not None and not isinstance(who, str):
        return _Wrong("who", f"expected a player's name, found {who!r}")
    if who is not None and spec.on == "node":
        return _Wrong("who", f"{kind} is done to the node; leave it out")
    return _wrong_value(kind, spec, value)


def _wrong_value(kind: str, spec: KindSpec, value: Any) -> _Wrong | None:
    if value is None:
        return None
    if spec.value is None:
        return _Wrong("value", f"{kind} takes none; leave it out")
    if isinstance(spec.value[0], str):
        if value not in spec.value:
            return _Wrong("value", f"expected one of {', '.join(map(str, spec.value))}, found {value!r}")
        return None
    least, most = spec.value[0], float(spec.value[1])
    if type(value) not in (int, float) or not least <= value <= most:
        return _Wrong("value", f"expected a number in [{least:g}, {most:g}], found {value!r}")
    if kind in ("mass_join", "hostile") and value != int(value):
        return _Wrong("value", f"expected a whole number, found {value!r}")
    return None


# --- from a script ----------------------------------------------------------------------------------------------------


def read_faults(path: str | Path, *, seconds: float | None = None, clients: int | None = None) -> list[Fault]:
    """The faults that a script holds, in its order: TOML with a `[[faults]]` table for each, or JSON with the same.

    Args:
        seconds, clients: of the run, to refuse a fault that begins after its end or names a player who is not there;
            None checks neither.

    Raises:
        ConfigError: the file cannot be read, or something in it makes no fault; with the line in a TOML file.
    """
    script = _Script(Path(path))
    faults = script.faults()
    for number, fault in enumerate(faults):
        wrong = _out_of_place(fault, seconds, clients)
        if wrong is not None:
            script.refuse(number, wrong)
    return faults


def check_faults(faults: Sequence[Fault], *, seconds: float, clients: int) -> None:
    """Refuse what does not fit a run of so many seconds and players.

    Raises:
        ConfigError: a fault begins after the end, or names a player who is not there.
    """
    for number, fault in enumerate(faults):
        wrong = _out_of_place(fault, seconds, clients)
        if wrong is not None:
            raise ConfigError("faults", f"faults[{number}].{wrong.key}", wrong.reason, hint=wrong.hint)


def _out_of_place(fault: Fault, seconds: float | None, clients: int | None) -> _Wrong | None:
    if seconds is not None and fault.at_s >= seconds:
        return _Wrong("at_s", f"it would begin at {fault.at_s:g} s; the run has {seconds:g} s")
    if clients is not None and fault.who is not None:
        names = [f"client-{number}" for number in range(clients)]
        if fault.who not in names:
            meant = did_you_mean(fault.who, names)
            last = f"the players are client-0 to client-{clients - 1}" if clients else "the run has no players"
            return _Wrong("who", f"no player is called {fault.who!r}", f"did you mean {meant!r}?" if meant else last)
    return None


class _Script:
    """One file: its values, and where in it they stand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._positions: Positions | None = None
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(str(path), "", f"cannot read the faults: {why}") from error
        try:
            document: Any
            if path.suffix == ".json":
                document = json.loads(text)
            else:
                document = tomli.loads(text)
                self._positions = scan(text)
        except json.JSONDecodeError as error:
            raise ConfigError(str(path), "", f"not JSON: {error.msg}", line=error.lineno) from error
        except tomli.TOMLDecodeError as error:
            raise ConfigError(str(path), "", f"not TOML: {error.msg}", line=error.lineno) from error
        except (NestingFault, RecursionError) as error:
            raise ConfigError(str(path), "", "nested too deeply to be a script of faults") from error
        if isinstance(document, list):
            document = {"faults": document}
        if not isinstance(document, dict) or not isinstance(document.get("faults"), list):
            raise ConfigError(str(path), "faults", "expected a list of faults, in TOML as [[faults]]")
        for key in document:
            if key != "faults":
                raise ConfigError(str(path), key, "unknown key", line=self._line((key,)), hint="known: faults")
        self._given: list[Any] = document["faults"]
        if len(self._given) > FAULTS_MAX:
            raise ConfigError(str(path), "faults", f"{len(self._given)} faults; at most {FAULTS_MAX}")

    def faults(self) -> list[Fault]:
        return [self._fault(number, given) for number, given in enumerate(self._given)]

    def _fault(self, number: int, given: Any) -> Fault:
        if not isinstance(given, dict):
            self.refuse(number, _Wrong("", f"expected a table, found {given!r}"))
        known = Fault.__struct_fields__
        for key in given:
            if key not in known:
                meant = did_you_mean(key, known)
                self.refuse(number, _Wrong(key, "unknown key", f"did you mean {meant!r}?" if meant else None))
        for key in ("kind", "at_s"):
            if key not in given:
                self.refuse(number, _Wrong(key, "missing; every fault has a kind and a time"))
        wrong = _wrong_in(given["kind"], given["at_s"], given.get("for_s", 0.0), given.get("who"), given.get("value"))
        if wrong is not None:
            self.refuse(number, wrong)
        return Fault(**given)

    def refuse(self, number: int, wrong: _Wrong) -> NoReturn:
        key = f"faults[{number}]" + (f".{wrong.key}" if wrong.key else "")
        line = self._line(("faults", number, wrong.key)) or self._line(("faults", number))
        raise ConfigError(str(self.path), key, wrong.reason, line=line, hint=wrong.hint)

    def _line(self, path: tuple[str | int, ...]) -> int | None:
        found = None if self._positions is None else self._positions.key(path)
        return None if found is None else found.line


# --- from a seed ------------------------------------------------------------------------------------------------------

KIND_SHARE = 0.45
"""A swarm has each kind with this probability: a run with some kinds only finds what a run with all of them hides."""

QUIET_SHARE = 0.15
"""Of a run, at its end."""

FIRST_S = 0.5
"""Before that nobody has a world yet."""


class _Draw(NamedTuple):
    """How often a kind comes in a run that has it, how long it lasts, and how much it does."""

    times: int
    for_s: tuple[float, float] = (0.0, 0.0)
    value: Callable[[Random], float | str] | None = None
    everybody: float = 0.0
    """The probability that it is done to every player at once."""


_DRAWS: dict[str, _Draw] = {
    "partition": _Draw(2, (0.2, 4.0), everybody=0.1),
    "one_way": _Draw(2, (0.2, 3.0), lambda random: random.choice(("down", "up"))),
    "drop": _Draw(4, everybody=0.1),
    "stall": _Draw(3, (0.2, 3.0)),
    "slow": _Draw(2, (1.0, 5.0), lambda random: round(2.0 ** random.uniform(5.0, 10.0))),
    "latency_spike": _Draw(3, (0.3, 4.0), lambda random: round(random.uniform(50.0, 600.0)), 0.2),
    "loss_burst": _Draw(3, (0.3, 4.0), lambda random: round(random.uniform(0.1, 0.7), 2), 0.2),
    "corrupt": _Draw(2, (0.5, 4.0), lambda random: round(random.uniform(0.01, 0.2), 3), 0.2),
    "duplicate": _Draw(2, (0.5, 5.0), lambda random: round(random.uniform(0.05, 0.6), 2), 0.3),
    "reorder": _Draw(2, (0.5, 5.0), lambda random: round(random.uniform(0.05, 0.6), 2), 0.3),
    "clock_jump": _Draw(3, (0.0, 0.0), lambda random: round(random.uniform(-1.0, 1.0) * 10 ** random.uniform(1, 6))),
    "churn": _Draw(4, (0.1, 2.0)),
    "mass_join": _Draw(1, (1.0, 5.0), lambda random: random.randint(2, 8)),
    "node_pause": _Draw(2, (0.05, 1.5)),
    "node_crash": _Draw(1, (0.1, 1.5)),
    "hostile": _Draw(1, (1.0, 8.0), lambda random: random.randint(1, 3)),
    "power_loss": _Draw(1, (0.1, 1.5)),
    "disk_fault": _Draw(2, (0.0, 0.0), lambda random: random.choice(("io", "full", "short", "sync"))),
}
assert _DRAWS.keys() == KINDS.keys()


def swarm(seed: int, *, seconds: float, clients: int) -> list[Fault]:
    """Faults of a seed: each kind is in it or not, and those that are come at random times.

    Args:
        seconds: of the run. Everything begins and ends in its first 85 %; a run too short for that has no faults.
        clients: players `client-0` and on, who are there from the beginning.

    Returns:
        The faults in the order of their beginning.
    """
    random = Random(f"{seed}/swarm")
    last_s = seconds * (1.0 - QUIET_SHARE)
    # A kind that is off draws nothing, but it does not shift what the others draw: each has a generator of its own.
    chosen = [kind for kind in KINDS if random.random() < KIND_SHARE]
    faults: list[Fault] = []
    for kind in chosen:
        faults += _drawn(kind, Random(f"{seed}/swarm/{kind}"), last_s, clients)
    return sorted(faults, key=lambda fault: (fault.at_s, fault.kind, fault.who or ""))


def _drawn(kind: str, random: Random, last_s: float, clients: int) -> Iterable[Fault]:
    spec, draw = KINDS[kind], _DRAWS[kind]
    if not math.isfinite(last_s) or last_s <= FIRST_S + draw.for_s[0] or (spec.on == "player" and clients < 1):
        return
    for _ in range(random.randint(1, draw.times)):
        at_s = round(random.uniform(FIRST_S, last_s - draw.for_s[0]), 3)
        # Rounded down, or the end might be a little after the quiet time began.
        for_s = math.floor(min(random.uniform(*draw.for_s), last_s - at_s) * 1000) / 1000
        if spec.lasts and for_s <= 0:
            continue
        who = None
        if spec.on == "player" and random.random() >= draw.everybody:
            who = f"client-{random.randrange(clients)}"
        yield Fault(kind, at_s, for_s, who, draw.value(random) if draw.value is not None else None)


# --- done to a cluster ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Effects:
    """What the faults that are in force have done to one cluster."""

    in_force: list[Fault] = field(default_factory=list)
    churned: dict[int, list[str]] = field(default_factory=dict)
    """Names of the players that a fault made leave; by the fault's `id`, since two may be equal."""
    guests: dict[int, "list[Player]"] = field(default_factory=dict)
    intruders: dict[int, "list[HostileSide]"] = field(default_factory=dict)


# A cluster knows nothing of kinds, and a fault is plain data: what has to be remembered between begin and end is here.
_effects: "WeakKeyDictionary[Cluster, _Effects]" = WeakKeyDictionary()


def begin(fault: Fault, cluster: "Cluster") -> None:
    """Let a fault begin now. A player who is gone, or not yet there, is left out."""
    effects = _effects.setdefault(cluster, _Effects())
    effects.in_force.append(fault)
    players = _players(fault, cluster)
    match fault.kind:
        case "partition" | "one_way":
            for player in players:
                cluster.cut(player, down=_cuts(fault, "down"), up=_cuts(fault, "up"))
        case "drop":
            for player in players:
                cluster.drop(player)
        case "stall":
            for player in players:
                cluster.stall(player, fault.for_s)
        case "clock_jump":
            for player in players:
                cluster.shift_clock(player, fault.amount)
        case "churn":
            effects.churned[id(fault)] = [player.name for player in players]
            for player in players:
                cluster.leave(player)
        case "mass_join":
            effects.guests[id(fault)] = [cluster.join(_free_name(cluster, "guest")) for _ in range(int(fault.amount))]
        case "node_pause":
            cluster.pause_node(fault.for_s)
        case "node_crash":
            cluster.crash_node(fault.for_s)
        case "power_loss":
            cluster.lose_power(fault.for_s)
        case "disk_fault":
            cluster.fail_disk(str(KINDS[fault.kind].default if fault.value is None else fault.value))
        case "hostile":
            effects.intruders[id(fault)] = [cluster.join_hostile() for _ in range(int(fault.amount))]
        case _:
            _change_lines(players, effects, cluster)


def end(fault: Fault, cluster: "Cluster") -> None:
    """Let a fault end now. What ends by itself, or was over at once, needs nothing."""
    effects = _effects.setdefault(cluster, _Effects())
    effects.in_force = [one for one in effects.in_force if one is not fault]
    match fault.kind:
        case "partition" | "one_way":
            for player in _players(fault, cluster):
                _heal(player, effects, cluster)
        case "churn":
            for name in effects.churned.pop(id(fault), []):
                cluster.join(_free_name(cluster, name))
        case "mass_join":
            for player in effects.guests.pop(id(fault), []):
                if not player.gone and not player.leaving:
                    cluster.leave(player)
        case "hostile":
            for side in effects.intruders.pop(id(fault), []):
                side.stop(cluster.now_ns)
        case kind if kind in _LINES:
            _change_lines(_players(fault, cluster), effects, cluster)


def _players(fault: Fault, cluster: "Cluster") -> "list[Player]":
    return [
        player
        for player in cluster.players
        if not player.gone and not player.leaving and fault.who in (None, player.name)
    ]


def _free_name(cluster: "Cluster", name: str) -> str:
    """`name`, or it with the first number that nobody has: names are seeds, so none may come twice."""
    taken = {player.name for player in cluster.players}
    base = name.partition("+")[0]
    number = 1
    while f"{base}+{number}" in taken:
        number += 1
    return f"{base}+{number}"


def _cuts(fault: Fault, way: str) -> bool:
    return fault.kind == "partition" or (KINDS[fault.kind].default if fault.value is None else fault.value) == way


def _heal(player: "Player", effects: _Effects, cluster: "Cluster") -> None:
    still = [
        fault
        for fault in effects.in_force
        if fault.kind in ("partition", "one_way") and fault.who in (None, player.name)
    ]
    down, up = (any(_cuts(fault, way) for fault in still) for way in ("down", "up"))
    if not (down and up):
        cluster.heal(player)
        if down or up:
            cluster.cut(player, down=down, up=up)


def _slow(direction: Direction, kbit_s: float) -> Direction:
    now = direction.bandwidth_kbit_s
    return msgspec.structs.replace(
        direction,
        bandwidth_kbit_s=kbit_s if now is None else min(now, kbit_s),
        # A line without a bound may have a queue of nothing; with one it needs a queue.
        queue_ms=direction.queue_ms or Direction().queue_ms,
    )


def _late(direction: Direction, more_ms: float) -> Direction:
    return msgspec.structs.replace(
        direction,
        latency_ms=min(direction.latency_ms + more_ms, TIME_MS_MAX),
        latency_trace=tuple(
            (at_s, min(latency_ms + more_ms, TIME_MS_MAX)) for at_s, latency_ms in direction.latency_trace
        ),
    )


def _reordered(direction: Direction, share: float) -> Direction:
    return msgspec.structs.replace(
        direction, reorder=max(direction.reorder, share), reorder_ms=max(direction.reorder_ms, REORDER_MS)
    )


_LINES: dict[str, Callable[[Direction, float], Direction]] = {
    "slow": _slow,
    "latency_spike": _late,
    "loss_burst": lambda direction, share: msgspec.structs.replace(direction, loss=max(direction.loss, share)),
    "corrupt": lambda direction, share: msgspec.structs.replace(direction, corrupt=max(direction.corrupt, share)),
    "duplicate": lambda direction, share: msgspec.structs.replace(direction, duplicate=max(direction.duplicate, share)),
    "reorder": _reordered,
}
"""The kinds that change what a line is like, and how."""


def _change_lines(players: "list[Player]", effects: _Effects, cluster: "Cluster") -> None:
    """Give each of the players the line that the faults in force make of the run's own."""
    for player in players:
        profile = cluster.profile
        for fault in effects.in_force:
            if fault.kind in _LINES and fault.who in (None, player.name):
                profile = _changed(profile, _LINES[fault.kind], fault.amount)
        cluster.change_profile(player, profile)


def _changed(profile: Profile, change: Callable[[Direction, float], Direction], amount: float) -> Profile:
    return msgspec.structs.replace(profile, down=change(profile.down, amount), up=change(profile.up, amount))
