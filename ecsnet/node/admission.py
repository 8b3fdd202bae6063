"""How much of a node one address may have: links, and links that are not done with their handshake.

Without it one machine could take every place there is, and every half-open place over and over, within the rate at
which the node accepts at all.

Invariants:
- an address is a host for IPv4 and a network of 64 bits for IPv6, which is what one household is given;
- this machine's own addresses, and links within the process, are not counted: whoever is here has other ways;
- what is remembered is of links that are open, so it needs no bound of its own.
"""

import ipaddress
from collections import Counter

__all__ = ["Addresses", "network_of"]


def network_of(peer: str) -> str | None:
    """The address that a peer ("203.0.113.7:52100", "2001:db8::1:443") is counted under; None where it is not."""
    host, _, _ = peer.rpartition(":")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None  # a link within the process
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            if address.is_loopback:
                return None
            return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
        address = address.ipv4_mapped
    return None if address.is_loopback else str(address)


class Addresses:
    """Who has how much.

    Args:
        links_max: links of one address.
        handshakes_max: of those, not done with the handshake.
    """

    __slots__ = ("_handshakes", "_links", "handshakes_max", "links_max")

    def __init__(self, links_max: int, handshakes_max: int) -> None:
        self.links_max = links_max
        self.handshakes_max = handshakes_max
        self._links: Counter[str] = Counter()
        self._handshakes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._links)

    def has_room(self, network: str | None) -> bool:
        """Whether another link of the address may be opened."""
        if network is None:
            return True
        return self._links[network] < self.links_max and self._handshakes[network] < self.handshakes_max

    def opened(self, network: str | None) -> None:
        """There is another, and it begins its handshake."""
        if network is not None:
            self._links[network] += 1
            self._handshakes[network] += 1

    def shook_hands(self, network: str | None) -> None:
        """A handshake is over, for better or worse; once a link."""
        _less(self._handshakes, network)

    def closed(self, network: str | None) -> None:
        """A link is gone; its handshake was over."""
        _less(self._links, network)


def _less(counter: "Counter[str]", network: str | None) -> None:
    if network is None:
        return
    assert counter[network] > 0
    counter[network] -= 1
    if not counter[network]:
        del counter[network]
