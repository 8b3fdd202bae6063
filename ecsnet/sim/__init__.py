"""A node and its clients in one process, in virtual time, on a bad network, from one seed.

Shipped to users: a game tests lag in its own suite with it, and ecsnet proves its promises with it. The cores, the
frames and the store are the real ones; only the network, the clocks and the disk are simulated. `README.md` beside this
file is the guide.

What is offered here is imported when it is first asked for: naming a profile on the command line needs no kernel.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecsnet.sim.cluster import Cluster, NotConvergedError
    from ecsnet.sim.faults import Fault, read_faults, swarm
    from ecsnet.sim.figures import LagFigures
    from ecsnet.sim.model import GameModel
    from ecsnet.sim.player import Player
    from ecsnet.sim.profile import Direction, Profile, profile_names
    from ecsnet.sim.recording import Recording, Violation

_WHERE = {
    "Cluster": "cluster",
    "Direction": "profile",
    "Fault": "faults",
    "GameModel": "model",
    "LagFigures": "figures",
    "NotConvergedError": "cluster",
    "Player": "player",
    "Profile": "profile",
    "Recording": "recording",
    "Violation": "recording",
    "profile_names": "profile",
    "read_faults": "faults",
    "swarm": "faults",
}

__all__ = [
    "Cluster",
    "Direction",
    "Fault",
    "GameModel",
    "LagFigures",
    "NotConvergedError",
    "Player",
    "Profile",
    "Recording",
    "Violation",
    "profile_names",
    "read_faults",
    "swarm",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
