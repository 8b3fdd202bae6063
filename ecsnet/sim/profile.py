"""What a line is like: the numbers of a link's two directions, by name, from a TOML file, or from values.

A **direction** is one way of a link, a **profile** both ways and how far a client's clock may be off. The built-in ones
are in `profiles.toml`, each with the source of its numbers. A file of one's own has the same tables:

    name = "our-office"
    source = "ping of our own, March"
    [both]
    latency_ms = 12.0
    loss = 0.001
    [down]
    latency_trace_file = "office.csv"       # at_s,latency_ms; beside this file

Invariants:
- a `Direction` or `Profile` that exists is possible: shares are in [0, 1], times and rates are finite and not negative,
  and what needs another number has it;
- everything wrong is a `ConfigError` with the key, and with the file and the line where there are any.
"""

import csv
import functools
import math
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import msgspec
import tomli

from ecsnet.errors import ConfigError, UnknownNameError, did_you_mean
from ecsnet.schema.positions import NestingFault, Positions, scan

Jitter = Literal["uniform", "normal", "pareto", "exponential"]
DropPolicy = Literal["tail", "head", "random_early"]

TIME_MS_MAX = 600_000.0
"""Ten minutes: no line is slower, and sums of nanoseconds stay far below `link.NEVER`."""

TRACE_SAMPLES_MAX = 1_000_000

MTU_BYTES_MIN = 576
"""What every IPv4 host must take in (RFC 791)."""

MTU_BYTES_MAX = 65_535


class Direction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way of a link. Without arguments: nothing is lost, and everything arrives at once.

    Attributes:
        latency_ms: one way, of a packet that waits for nothing.
        jitter_ms: what changes in it. `uniform`: up to as much less or more. `normal`: the standard deviation.
            `exponential` and `pareto`: only ever more, and as much on average; `pareto` with a heavy tail.
        jitter_correlation: of one packet's jitter with the next one's, in [0, 1).
        loss: share of packets lost, each for itself.
        burst_begins, burst_ends, burst_loss: Gilbert and Elliott's two states. Before each packet a burst begins or
            ends with the first two probabilities; within it, this share is lost. Without a burst `loss` holds.
        duplicate: share of packets that arrive twice.
        reorder, reorder_ms: share of packets that are held back by half of that time to all of it, so that later ones
            overtake them. Jitter alone overtakes nothing.
        corrupt: share of packets that arrive with one to three bits flipped.
        bandwidth_kbit_s: headers included; None for no bound.
        queue_ms: what waits for the bandwidth, at most; more is dropped. `queue_bytes` says it in bytes, and wins.
            Of datagrams: what a stream sends waits in its sender's own buffer.
        drop_policy: the newest (`tail`), the oldest (`head`), or the newest with a probability that rises from half a
            queue to a whole one (`random_early`).
        mtu_bytes: of an IP packet. Datagrams that do not fit are refused; streams are cut into segments that do.
        outage_every_s, outage_s: on average every so many seconds nothing comes through for about so long.
        latency_trace: (at_s, latency_ms), from 0 s on: a recorded line in place of `latency_ms`, repeated at its end;
            the last sample holds for as long as the one before it.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    jitter: Jitter = "uniform"
    jitter_correlation: float = 0.0
    loss: float = 0.0
    burst_begins: float = 0.0
    burst_ends: float = 1.0
    burst_loss: float = 1.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 0.0
    corrupt: float = 0.0
    bandwidth_kbit_s: float | None = None
    queue_ms: float = 200.0
    queue_bytes: int | None = None
    drop_policy: DropPolicy = "tail"
    mtu_bytes: int = 1500
    outage_every_s: float = 0.0
    outage_s: float = 0.0
    latency_trace: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        wrong = _wrong_in(self)
        if wrong is not None:
            raise ConfigError("Direction", *wrong)


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link, both ways.

    Attributes:
        source: where the numbers come from.
        down, up: to the client, and from it.
        clock_offset_ms, clock_drift_ppm: how far a client's clock is off, at most, either way; each draws its own.
    """

    name: str
    source: str = ""
    down: Direction = msgspec.field(default_factory=Direction)
    up: Direction = msgspec.field(default_factory=Direction)
    clock_offset_ms: float = 0.0
    clock_drift_ppm: float = 0.0

    def __post_init__(self) -> None:
        for key, most in (("clock_offset_ms", 1e9), ("clock_drift_ppm", 1e5)):
            if (reason := _not_within(getattr(self, key), 0.0, most)) is not None:
                raise ConfigError("Profile", key, reason)


# --- what is possible -------------------------------------------------------------------------------------------------

_SHARES = ("loss", "burst_begins", "burst_ends", "burst_loss", "duplicate", "reorder", "corrupt")
_RANGES: dict[str, tuple[float, float]] = {
    "latency_ms": (0.0, TIME_MS_MAX),
    "jitter_ms": (0.0, TIME_MS_MAX),
    **dict.fromkeys(_SHARES, (0.0, 1.0)),
    "reorder_ms": (0.0, TIME_MS_MAX),
    "queue_ms": (0.0, TIME_MS_MAX),
    "outage_every_s": (0.0, 1e6),
    "outage_s": (0.0, TIME_MS_MAX / 1e3),
}


def _wrong_in(direction: Direction) -> tuple[str, str] | None:
    """The first key that is impossible, and why; None when all is well."""
    for key, (least, most) in _RANGES.items():
        if (reason := _not_within(getattr(direction, key), least, most)) is not None:
            return key, reason
    if (reason := _not_within(direction.jitter_correlation, 0.0, 1.0)) is not None:
        return "jitter_correlation", reason
    if direction.jitter_correlation == 1.0:
        return "jitter_correlation", "it must be below 1: at 1 nothing would ever change"
    for key, choices in (("jitter", get_args(Jitter)), ("drop_policy", get_args(DropPolicy))):
        value = getattr(direction, key)
        if value not in choices:
            return key, f"expected one of {', '.join(choices)}, found {value!r}"
    kbit_s = direction.bandwidth_kbit_s
    if kbit_s is not None and (reason := _not_within(kbit_s, 1.0, 1e9)) is not None:
        return "bandwidth_kbit_s", reason
    if kbit_s is None and direction.queue_bytes is not None:
        return "queue_bytes", "nothing waits without bandwidth_kbit_s"
    mtu_bytes, queue_bytes = direction.mtu_bytes, direction.queue_bytes
    if type(mtu_bytes) is not int or not MTU_BYTES_MIN <= mtu_bytes <= MTU_BYTES_MAX:
        return "mtu_bytes", f"expected a whole number in [{MTU_BYTES_MIN}, {MTU_BYTES_MAX}], found {mtu_bytes!r}"
    if queue_bytes is not None and (type(queue_bytes) is not int or not mtu_bytes <= queue_bytes <= 1 << 30):
        return "queue_bytes", f"expected a whole number from one packet ({mtu_bytes}) to 1 GiB, found {queue_bytes!r}"
    if kbit_s is not None and queue_bytes is None and direction.queue_ms == 0.0:
        return "queue_ms", "a queue of nothing drops everything that does not come at the right moment; give it some ms"
    return _wrong_together(direction)


def _wrong_together(direction: Direction) -> tuple[str, str] | None:
    if direction.reorder and not direction.reorder_ms:
        return "reorder", "a packet is overtaken only if it is held back; give reorder_ms, too"
    if direction.burst_begins and not direction.burst_ends:
        return "burst_ends", "a burst that never ends is a dead line"
    if direction.jitter == "uniform" and not direction.latency_trace and direction.jitter_ms > direction.latency_ms:
        return "jitter_ms", (
            f"up to {direction.jitter_ms:g} ms less than a latency of {direction.latency_ms:g} ms is before it was sent"
        )
    if bool(direction.outage_s) != bool(direction.outage_every_s):
        return "outage_s", "outages need both outage_every_s and outage_s"
    if direction.outage_s and direction.outage_s >= direction.outage_every_s:
        return "outage_s", (
            f"outages of {direction.outage_s:g} s every {direction.outage_every_s:g} s leave no time for the line"
        )
    return _wrong_in_trace(direction.latency_trace)


def _wrong_in_trace(trace: tuple[Any, ...]) -> tuple[str, str] | None:
    if len(trace) > TRACE_SAMPLES_MAX:
        return "latency_trace", f"{len(trace)} samples; at most {TRACE_SAMPLES_MAX}"
    before_s: float | None = None
    for number, sample in enumerate(trace):
        if not isinstance(sample, tuple) or len(sample) != 2:
            return "latency_trace", f"sample {number} is no pair of at_s and latency_ms: {sample!r}"
        if (wrong := _wrong_in_sample(sample, before_s)) is not None:
            return "latency_trace", f"sample {number}, {wrong[0]}: {wrong[1]}"
        before_s = sample[0]
    return None


def _wrong_in_sample(sample: tuple[Any, Any], before_s: float | None) -> tuple[str, str] | None:
    """The key that is impossible, and why, in a sample that follows one at `before_s`."""
    for key, value, most in (("at_s", sample[0], 1e6), ("latency_ms", sample[1], TIME_MS_MAX)):
        if (reason := _not_within(value, 0.0, most)) is not None:
            return key, reason
    if before_s is None and sample[0] != 0.0:
        return "at_s", f"the first sample must be at 0 s, found {sample[0]:g}"
    if before_s is not None and sample[0] <= before_s:
        return "at_s", f"{sample[0]:g} s is not after the sample before it ({before_s:g} s)"
    return None


def _not_within(value: object, least: float, most: float) -> str | None:
    # Written so that a NaN, which compares as neither, is refused; a bool is an int to isinstance.
    if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
        return f"expected a number in [{least:g}, {most:g}], found {value!r}"
    return None


# --- by name, and from a file -----------------------------------------------------------------------------------------

_BUILT_IN = Path(__file__).with_name("profiles.toml")


def profile(given: str | Path | Profile) -> Profile:
    """The profile that `given` means: a built-in name, the path of a TOML file, or a profile already.

    A text is a path if it ends in `.toml` or holds a separator.

    Raises:
        UnknownNameError: no built-in profile has this name.
        ConfigError: the file cannot be read, or says something impossible.
    """
    if isinstance(given, Profile):
        return given
    if isinstance(given, Path) or given.endswith(".toml") or "/" in given or "\\" in given:
        return _read(Path(given))
    built_in = _built_in()
    if given not in built_in:
        raise UnknownNameError("link profile", given, built_in)
    return built_in[given]


def profile_names() -> tuple[str, ...]:
    """The built-in profiles, from the best line to the worst, with "perfect" (no delay at all) first."""
    return tuple(_built_in())


@functools.cache
def _built_in() -> dict[str, Profile]:
    reader = _Reader(_BUILT_IN)
    return {name: reader.profile((name,), {"name": name, **table}) for name, table in reader.document.items()}


def _read(path: Path) -> Profile:
    reader = _Reader(path)
    return reader.profile((), reader.document)


class _Reader:
    """One file: its values, and where in it they stand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(str(path), "", f"cannot read the profile: {why}") from error
        try:
            self.document: dict[str, Any] = tomli.loads(text)
        except tomli.TOMLDecodeError as error:
            raise ConfigError(str(path), "", f"not TOML: {error.msg}", line=error.lineno) from error
        try:
            self._positions: Positions | None = scan(text)
        except NestingFault:
            # Whatever is in there so deep is no profile, and is refused by its key.
            self._positions = None

    def profile(self, at: tuple[str, ...], table: dict[str, Any]) -> Profile:
        known = {"name", "source", "both", "down", "up", "clock_offset_ms", "clock_drift_ppm"}
        self.demand_known(at, table, known)
        if "name" not in table:
            self.refuse((*at, "name"), f"missing; a line is called by it in reports, as in name = {self.path.stem!r}")
        for key in ("name", "source"):
            if not isinstance(table.get(key, ""), str):
                self.refuse((*at, key), f"expected a text, found {table.get(key)!r}")
        both = self.direction_table((*at, "both"), table.get("both", {}))
        down, up = (
            self.direction((*at, way), both, self.direction_table((*at, way), table.get(way, {})))
            for way in ("down", "up")
        )
        rest = {key: table[key] for key in ("clock_offset_ms", "clock_drift_ppm") if key in table}
        try:
            return Profile(name=table["name"], source=table.get("source", ""), down=down, up=up, **rest)
        except ConfigError as error:
            self.refuse((*at, error.key), error.reason)

    def direction_table(self, at: tuple[str, ...], table: Any) -> dict[str, Any]:
        if not isinstance(table, dict):
            self.refuse(at, "expected a table, such as [both]")
        fields = set(Direction.__struct_fields__)
        self.demand_known(at, table, fields | {"latency_trace_file"})
        given = dict(table)
        if "latency_trace" in given and "latency_trace_file" in given:
            self.refuse((*at, "latency_trace_file"), "the samples are given already; give one of the two")
        if "latency_trace_file" in given:
            given["latency_trace"] = self.trace((*at, "latency_trace_file"), given.pop("latency_trace_file"))
        elif "latency_trace" in given:
            samples = given["latency_trace"]
            if not isinstance(samples, list) or not samples:
                self.refuse((*at, "latency_trace"), "expected samples, each [at_s, latency_ms]")
            given["latency_trace"] = tuple(tuple(one) if isinstance(one, list) else one for one in samples)
        return given

    def direction(self, at: tuple[str, ...], both: dict[str, Any], own: dict[str, Any]) -> Direction:
        try:
            return Direction(**{**both, **own})
        except ConfigError as error:
            where = at if error.key in own or error.key not in both else (*at[:-1], "both")
            self.refuse((*where, error.key), error.reason)

    def trace(self, at: tuple[str, ...], name: Any) -> tuple[tuple[float, float], ...]:
        """The samples of a recorded line."""
        if not isinstance(name, str):
            self.refuse(at, f"expected the name of a file, found {name!r}")
        path = self.path.parent / name
        samples: list[tuple[float, float]] = []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for number, row in enumerate(csv.reader(file), start=1):
                    if not row or row[0].lstrip().startswith("#") or (not samples and row[0].strip() == "at_s"):
                        continue
                    sample = _sample(path, number, row)
                    wrong = _wrong_in_sample(sample, samples[-1][0] if samples else None)
                    if wrong is None and len(samples) == TRACE_SAMPLES_MAX:
                        wrong = "", f"more than {TRACE_SAMPLES_MAX} samples"
                    if wrong is not None:
                        raise ConfigError(str(path), *wrong, line=number)
                    samples.append(sample)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.refuse(at, f"cannot read {path}: {why}")
        if not samples:
            self.refuse(at, f"{path} holds no sample")
        return tuple(samples)

    def demand_known(self, at: tuple[str, ...], table: dict[str, Any], known: set[str]) -> None:
        for key in table:
            if key not in known:
                meant = did_you_mean(key, sorted(known))
                hint = f"did you mean {meant}?" if meant else f"known: {', '.join(sorted(known))}"
                self.refuse((*at, key), "unknown key", hint)

    def position(self, path: tuple[str, ...]) -> int | None:
        if self._positions is None:
            return None
        found = self._positions.key(path)
        return None if found is None else found.line

    def refuse(self, path: tuple[str, ...], reason: str, hint: str | None = None) -> NoReturn:
        line = self.position(path)
        raise ConfigError(str(self.path), ".".join(path), reason, line=line, hint=hint)


def _sample(path: Path, number: int, row: list[str]) -> tuple[float, float]:
    if len(row) != 2:
        raise ConfigError(str(path), "", f"expected at_s,latency_ms, found {','.join(row)!r}", line=number)
    values = []
    for key, text in zip(("at_s", "latency_ms"), row, strict=True):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(str(path), key, f"expected a number, found {text.strip()!r}", line=number)
        values.append(value)
    return values[0], values[1]
