"""What happens in one run: everything that decides it beside the code, as one value.

A scenario is written as a command line (`command`), as JSON (`to_json`), or in a TOML file, and each of the three says
the same run. What a scenario leaves open (None) is settled before it runs: by the defaults, or, for a swarm, by its
seed, so that each seed of a swarm is another network with other faults.

    Scenario(swarm=True, seed=7)     open: "seed 7 of the swarm"
            │ settled()
            ▼
    Scenario(seed=7, profile="4g", transport="datagram", clients=5, …, faults=(…))     what runs, and what is shrunk

Invariants:
- settling depends on the scenario alone, and a settled scenario settles to itself;
- `FORMAT` is raised whenever the same seed settles to something else, or goes another way on purpose: a file of another
  format is refused, since its seed no longer means the run that it was kept for.
"""

import math
import shlex
from pathlib import Path
from random import Random
from typing import Any, Literal, Self, TypeGuard

import msgspec
import tomli

from ecsnet.errors import ArgumentError, ConfigError, did_you_mean
from ecsnet.limits import HZ_MAX, HZ_MIN
from ecsnet.sight import check_budget, check_staleness
from ecsnet.sim.faults import Fault, check_faults, swarm
from ecsnet.sim.node_disk import DURABILITIES
from ecsnet.sim.profile import profile_names

Transport = Literal["stream", "datagram", "mixed"]
TRANSPORTS: tuple[Transport, ...] = ("stream", "datagram", "mixed")

FORMAT = 4
"""Of what seeds and fields mean. See above."""

CLIENTS_MAX = 4096
"""As a cluster takes."""

ENTITIES_MAX = 1_000_000
"""Every client of a run holds them all, in one process."""

SECONDS_MAX = 86_400.0
"""A day of virtual time; the wall limit ends it long before."""

NODES_MAX = 8
"""That write the same tables: each has a place in what the others say that they see."""

SEED_MAX = 2**63 - 1

CLIENTS_DEFAULT = 8
ENTITIES_DEFAULT = 500
PROFILE_DEFAULT = "lan"

# What a swarm draws from. Few clients and few entities: a fault that needs a hundred of either to show is rare, and a
# small run is a fast one, of which more can be had in a night.
_SWARM_PROFILES = [name for name in profile_names() if name != "perfect"]
_SWARM_CLIENTS = (1, 2, 3, 4, 5, 6, 8)
_SWARM_ENTITIES = (0, 1, 10, 50, 200, 500)
_SWARM_MOVING = (0.0, 0.1, 1.0)
_SWARM_VARIETIES = {"interest": 0.6, "quantized": 0.5, "writes": 0.5, "roles": 0.5}
VARIETIES = tuple(_SWARM_VARIETIES)
"""What the default world may have or not."""

_SWARM_BUDGET_SHARE = 0.4
_SWARM_BUDGETS = (1500, 6000, 24_000)
_SWARM_STALENESS = (0.2, 0.5, 1.0, 2.0)
BOUNDS = ("budget", "staleness")
"""Of bytes, and of what waits for want of them, in the default world."""

_DURABILITIES = ("none", *DURABILITIES)
_SWARM_DURABILITIES = ("none", "memory", "relaxed", "strict", "paranoid")


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """See the file.

    Attributes:
        seed: decides everything that is random: the world, the network, what players do, and in a swarm the rest.
        profile: of every link, a name or a TOML file.
        entities, moving: of the default world, beside the players' own, and the share of them that moves.
        seconds: of virtual time, before the run comes to rest.
        hz: ticks a second, in place of the world's own.
        durability: of the node's disk; None, or "none", which a swarm is told by, is a world that ends with its node.
        faults: what goes wrong and when. Of a swarm they are drawn.
        swarm: the seed settles what is None, and draws faults.
        hostile: clients beside the players that send whatever they like.
        interest: in the default world players are sent what is near them, what they own, and what those hold.
        quantized: places in it are sent rounded to a step.
        writes: players write their own speeds beside their commands, and now and then what is not theirs.
        roles: some players are admins, who see what others do not.
        nodes: so many nodes that write the same tables, in place of one and its players: see `ecsnet.sim.nodes`. What
            is of players and of their world cannot be given then; in a swarm links break and nodes die.
        budget: bytes of rows a second that a player is sent at most in the default world; 0 is no bound.
        staleness: seconds that a row waits at most where there is a budget.
        world, setup, play: `MODULE:NAME` of a World, of `setup(store)` that fills it and of `play(player)` that is
            called for every live player once per tick. Empty is the default world with its own.
    """

    format: int = FORMAT
    seed: int = 0
    profile: str | None = None
    transport: Transport | None = None
    clients: int | None = None
    entities: int | None = None
    moving: float | None = None
    seconds: float = 30.0
    hz: int | None = None
    durability: str | None = None
    faults: tuple[Fault, ...] = ()
    swarm: bool = False
    hostile: int = 0
    nodes: int = 0
    interest: bool | None = None
    quantized: bool | None = None
    writes: bool | None = None
    roles: bool | None = None
    budget: int | None = None
    staleness: float | None = None
    world: str = ""
    setup: str = ""
    play: str = ""

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ArgumentError(
                f"this scenario is of format {self.format}, and ecsnet here has {FORMAT}: its seed goes another way "
                "now; run it with the version that wrote it, or write it anew without `format`"
            )
        _check("seed", self.seed, 0, SEED_MAX)
        _check("clients", self.clients, 0, CLIENTS_MAX)
        _check("entities", self.entities, 0, ENTITIES_MAX)
        _check("hostile", self.hostile, 0, CLIENTS_MAX)
        _check("hz", self.hz, HZ_MIN, HZ_MAX)
        _check("moving", self.moving, 0.0, 1.0)
        _check("seconds", self.seconds, 0.0, SECONDS_MAX)
        if self.transport is not None and self.transport not in TRANSPORTS:
            raise ArgumentError(f"transport is {self.transport!r}; it may be {', '.join(map(repr, TRANSPORTS))}")
        if self.durability is not None and self.durability not in _DURABILITIES:
            raise ArgumentError(f"durability is {self.durability!r}; it may be {', '.join(_DURABILITIES)}")
        if self.swarm and self.faults:
            raise ArgumentError("a swarm draws its faults; give faults without swarm, or a swarm without faults")
        if self.world and any(getattr(self, name) is not None for name in (*VARIETIES, *BOUNDS)):
            ours = ", ".join((*VARIETIES, *BOUNDS))
            raise ArgumentError(f"{ours} are of the default world; a world of your own is as it is")
        if self.nodes:
            _check("nodes", self.nodes, 2, NODES_MAX)
            given = [name for name in _OF_PLAYERS if getattr(self, name) not in (None, "", 0, ())]
            if given:
                raise ArgumentError(f"{', '.join(given)}: of one node and its players, and nodes are {self.nodes}")
        if self.budget:
            check_budget(self.budget)
        if self.staleness is not None:
            check_staleness(self.staleness)
        if (self.setup or self.play) and not self.world:
            raise ArgumentError("setup and play belong to a world; the default world has its own")

    # --- settling ----------------------------------------------------------------------------------------------------

    def settled(self) -> "Scenario":
        """The same run with nothing left open, but for `hz`, where None is the world's own, for what the default world
        may have, where None is without, and for what is of that world alone, where there is another.

        Raises:
            ConfigError: a fault does not fit the run.
        """
        if self.nodes:
            drawn_profile = Random(f"{self.seed}/scenario").choice(_SWARM_PROFILES) if self.swarm else PROFILE_DEFAULT
            return self.with_(profile=_or(self.profile, drawn_profile), clients=0)
        if not self.swarm:
            clients = _or(self.clients, CLIENTS_DEFAULT)
            check_faults(self.faults, seconds=self.seconds, clients=clients)
            return self.with_(
                profile=_or(self.profile, PROFILE_DEFAULT),
                transport=_or(self.transport, "stream"),
                clients=clients,
                entities=self.entities if self.world else _or(self.entities, ENTITIES_DEFAULT),
                moving=self.moving if self.world else _or(self.moving, 1.0),
            )
        # Everything is drawn, also what was given, so that giving one thing does not change the others.
        random = Random(f"{self.seed}/scenario")
        drawn = {
            "profile": random.choice(_SWARM_PROFILES),
            "transport": random.choice(TRANSPORTS),
            "clients": random.choice(_SWARM_CLIENTS),
            "entities": random.choice(_SWARM_ENTITIES),
            "moving": random.choice(_SWARM_MOVING),
            "durability": Random(f"{self.seed}/scenario/durability").choice(_SWARM_DURABILITIES),
        }
        varied = Random(f"{self.seed}/scenario/varieties")
        drawn |= {name: True if varied.random() < share else None for name, share in _SWARM_VARIETIES.items()}
        bounded = Random(f"{self.seed}/scenario/budget")
        has_budget = bounded.random() < _SWARM_BUDGET_SHARE
        bounds = {"budget": bounded.choice(_SWARM_BUDGETS), "staleness": bounded.choice(_SWARM_STALENESS)}
        drawn |= {name: value if has_budget else None for name, value in bounds.items()}
        if self.world:
            for name in ("entities", "moving", *VARIETIES, *BOUNDS):
                del drawn[name]
        if drawn["durability"] == "none":
            del drawn["durability"]
        settled = {name: _or(getattr(self, name), value) for name, value in drawn.items()}
        faults = swarm(self.seed, seconds=self.seconds, clients=settled["clients"])
        return self.with_(swarm=False, faults=tuple(faults), **settled)

    def with_(self, **changes: Any) -> Self:
        """A copy with some things changed, checked like a new one."""
        return msgspec.structs.replace(self, **changes)

    # --- as text -----------------------------------------------------------------------------------------------------

    def command(self) -> str:
        """The command line that runs it."""
        words = ["ecsnet", "sim"]
        for name in _OPTIONS:
            value = getattr(self, name)
            if value is None or (name != "seed" and value == _DEFAULTS[name]):
                continue
            option = f"--{name}"
            if value is True:
                words.append(option)
            elif value is False:
                words.append(f"--no-{name}")
            elif name == "faults":
                words += [option, faults_text(value)]
            else:
                words += [option, _number_text(value) if isinstance(value, float) else str(value)]
        return shlex.join(words)

    def to_json(self) -> str:
        """One line, with the format that it was written in."""
        fields = {"format": self.format, **msgspec.to_builtins(self)}
        return msgspec.json.encode(fields).decode()


_OF_PLAYERS = (
    "transport", "clients", "entities", "moving", "hz", "durability", "faults", "hostile", *VARIETIES, *BOUNDS,
    "world", "setup", "play",
)  # fmt: skip

_OPTIONS = ["swarm", *(name for name in Scenario.__struct_fields__ if name not in ("format", "swarm"))]
_DEFAULTS = dict(zip(Scenario.__struct_fields__, Scenario.__struct_defaults__, strict=True))


def scenario_faults(text: str, *, source: str) -> tuple[Fault, ...]:
    """Faults from one line of JSON, as `faults_text` writes it. Raises ConfigError, which names `source`."""
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(source, "", f"is not JSON: {error}") from error
    return scenario_of({"faults": given}, source=source).faults


def faults_text(faults: tuple[Fault, ...]) -> str:
    """Faults as one line of JSON, as `--faults` takes them beside files."""
    plain = [msgspec.to_builtins(fault) for fault in faults]
    # What is over at once lasts 0 s, which nobody needs to read.
    return msgspec.json.encode(
        [{key: value for key, value in one.items() if value or key != "for_s"} for one in plain]
    ).decode()


def read_scenario(path: str | Path) -> Scenario:
    """Read a scenario from a `.json` or `.toml` file.

    Raises:
        ConfigError: no such file, not readable, an unknown key, or a value that makes no run; it names file and key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(str(path), "", f"cannot read the scenario: {why}") from error
    try:
        given = tomli.loads(text) if path.suffix == ".toml" else msgspec.json.decode(text)
    except (tomli.TOMLDecodeError, msgspec.DecodeError) as error:
        raise ConfigError(str(path), "", f"is not {'TOML' if path.suffix == '.toml' else 'JSON'}: {error}") from error
    return scenario_of(given, source=str(path))


def scenario_of(given: Any, *, source: str) -> Scenario:
    """A scenario from plain values, as JSON and TOML give them. Raises ConfigError, naming `source` and the key."""
    if not _is_table(given):
        raise ConfigError(source, "", f"a scenario is a table of options, not {type(given).__name__}")
    for key in given:
        if key not in Scenario.__struct_fields__:
            meant = did_you_mean(key, Scenario.__struct_fields__)
            raise ConfigError(source, key, "no such option of a scenario", hint=meant and f"did you mean {meant!r}?")
    try:
        return msgspec.convert(given, Scenario)
    except ConfigError as error:
        key = f"faults[{_first_wrong(given['faults'])}].{error.key}"
        raise ConfigError(source, key, error.reason, hint=error.hint) from error
    except (msgspec.ValidationError, ArgumentError) as error:
        reason, _, place = str(error).partition(" - at ")
        raise ConfigError(source, place.strip("`").removeprefix("$").removeprefix("."), reason) from error


def _first_wrong(faults: list[Any]) -> int:
    """Which of these is the first that makes no fault. One does."""
    for number, one in enumerate(faults):
        try:
            msgspec.convert(one, Fault)
        except ConfigError:
            return number
    raise AssertionError("all are faults")


def _is_table(given: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(given, dict)


def _or(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


def _number_text(value: float) -> str:
    """The shortest text that gives the same number back."""
    return str(int(value)) if value == int(value) else repr(value)


def _check(name: str, value: float | None, least: float, greatest: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= greatest):
        raise ArgumentError(f"{name} is {_plain(value)}; it must be in [{_plain(least)}, {_plain(greatest)}]")


def _plain(value: float) -> str:
    """A whole number with all its digits: a bound that is rounded looks as if it allowed what it refuses."""
    return str(value) if isinstance(value, int) else f"{value:g}"
