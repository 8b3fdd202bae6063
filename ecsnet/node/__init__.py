"""Drivers: they own sockets, clock and loop around the cores. `AuthoritativeNode` serves an `Authority` under Trio,
`open_client` runs a `Replica` there; `ecsnet.embed` runs one in a game's own loop.

Names are imported when first used: a game that only connects never loads the node.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecsnet.node.client import AsyncClient as AsyncClient
    from ecsnet.node.client import open_client as open_client
    from ecsnet.node.json_log import JsonFormatter as JsonFormatter
    from ecsnet.node.server import AuthoritativeNode as AuthoritativeNode
    from ecsnet.node.server import NodeStatistics as NodeStatistics
    from ecsnet.node.server import open_node as open_node
    from ecsnet.node.server import run as run

_HOMES = {
    "AsyncClient": "ecsnet.node.client",
    "AuthoritativeNode": "ecsnet.node.server",
    "JsonFormatter": "ecsnet.node.json_log",
    "NodeStatistics": "ecsnet.node.server",
    "open_client": "ecsnet.node.client",
    "open_node": "ecsnet.node.server",
    "run": "ecsnet.node.server",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ecsnet.node' has no attribute {name!r}")
    # Imported here: `importlib` is loaded anyway, the name would otherwise be public.
    from importlib import import_module

    return getattr(import_module(home), name)
