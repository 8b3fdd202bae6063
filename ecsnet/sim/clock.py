"""Virtual time: the run's own, and what a player's machine believes.

The run counts nanoseconds from `START_NS`. A player's clock is off by an offset and runs too fast or too slow by a
drift, as quartz does; everything that a replica is told as `now_ns` is its own clock's time, and its deadlines are read
by the same clock.

Invariant: a player's clock never runs backwards, except where a fault sets it.
"""

from random import Random

from ecsnet.limits import NS_PER_MS, NS_PER_S

START_NS = NS_PER_S
"""When a run begins: not 0, which would hide a time that nobody has set."""

MACHINE_UP_NS = 1_000_000 * NS_PER_S
"""How long a player's machine has been up when the run begins, eleven days: a clock that is set back must not pass the
moment from which it counts."""

_PPM = 1_000_000


class PlayerClock:
    """`local = virtual + MACHINE_UP_NS + offset + drift × (virtual - START_NS)`, in whole nanoseconds, and never below
    0."""

    __slots__ = ("drift_ppm", "offset_ns")

    def __init__(self, offset_ns: int = 0, drift_ppm: int = 0) -> None:
        self.offset_ns = MACHINE_UP_NS + offset_ns
        self.drift_ppm = drift_ppm

    @classmethod
    def drawn(cls, random: Random, offset_ms_max: float, drift_ppm_max: float) -> "PlayerClock":
        """A clock that is off by at most as much, either way."""
        offset_ns = round(random.uniform(-offset_ms_max, offset_ms_max) * NS_PER_MS) if offset_ms_max else 0
        drift_ppm = round(random.uniform(-drift_ppm_max, drift_ppm_max)) if drift_ppm_max else 0
        return cls(offset_ns, drift_ppm)

    def local(self, virtual_ns: int) -> int:
        """What this clock shows at `virtual_ns`."""
        local_ns = virtual_ns + self.offset_ns
        if self.drift_ppm:
            local_ns += (virtual_ns - START_NS) * self.drift_ppm // _PPM
        return local_ns if local_ns > 0 else 0

    def shift(self, milliseconds: float) -> None:
        """Somebody set the clock."""
        self.offset_ns += round(milliseconds * NS_PER_MS)


def seconds(virtual_ns: int) -> float:
    """Virtual seconds since the run began."""
    return (virtual_ns - START_NS) / NS_PER_S
