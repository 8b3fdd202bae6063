"""The core of an authoritative node: one world, the truth about it, and the clients who are told.

Sans-IO: bytes, the time and a seed come in; bytes, and when to call again, go out. A driver owns the sockets and the
clock, and does no more than feed, tick, drain and re-arm.

`core` has the authority itself, `step` runs the game's functions, `link` knows one client's base and what comes next,
`window` what is unacked, `blocks` the encoded deltas that clients share, `fan_out` and `batch` the deltas of one tick
for a hub.
`datagram_link` and `acked` are `link` and `window` where what is sent may be lost. `resuming` says from where a session
goes on over another link. `peering`, `peer_link` and `held` are for tables that several authorities write.
"""

from ecsnet.authority.batch import Batch
from ecsnet.authority.core import Authority
from ecsnet.authority.link import Link, LinkState, LinkStatistics, Transmit
from ecsnet.authority.peer_link import PeerLink
from ecsnet.authority.peering import Peering, PeeringSettings
from ecsnet.authority.reports import AuthorityStatistics, Observer, PeeringStatistics, TickReport

__all__ = [
    "Authority",
    "AuthorityStatistics",
    "Batch",
    "Link",
    "LinkState",
    "LinkStatistics",
    "Observer",
    "PeerLink",
    "Peering",
    "PeeringSettings",
    "PeeringStatistics",
    "TickReport",
    "Transmit",
]
