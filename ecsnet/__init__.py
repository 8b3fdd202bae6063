"""ecsnet: a relational, transactional, in-memory database for entity-component games, whose committed changes replicate
themselves to every player.

The public names, and nothing else. Each is imported when it is first used, so `import ecsnet` costs a few milliseconds
and a tool that only checks a schema never loads the kernel, numpy or Trio.
"""

from typing import TYPE_CHECKING, Any

from ecsnet._version import __version__

if TYPE_CHECKING:
    from ecsnet import errors as errors
    from ecsnet.embed import connect as connect
    from ecsnet.errors import EcsnetError as EcsnetError
    from ecsnet.errors import Reject as Reject
    from ecsnet.expressions import col as col
    from ecsnet.ids import Entity as Entity
    from ecsnet.node import open_client as open_client
    from ecsnet.node import open_node as open_node
    from ecsnet.node import run as run
    from ecsnet.schema import Schema as Schema
    from ecsnet.store import Store as Store
    from ecsnet.store import Transaction as Transaction
    from ecsnet.store import View as View
    from ecsnet.store import maybe as maybe
    from ecsnet.world import Client as Client
    from ecsnet.world import World as World

# public name -> the module that has it ("" means: the name is a module of the package itself)
_HOMES = {
    "Client": "ecsnet.world",
    "EcsnetError": "ecsnet.errors",
    "Entity": "ecsnet.ids",
    "Reject": "ecsnet.errors",
    "Schema": "ecsnet.schema",
    "Store": "ecsnet.store",
    "Transaction": "ecsnet.store",
    "View": "ecsnet.store",
    "World": "ecsnet.world",
    "col": "ecsnet.expressions",
    "connect": "ecsnet.embed",
    "errors": "",
    "maybe": "ecsnet.store",
    "open_client": "ecsnet.node",
    "open_node": "ecsnet.node",
    "run": "ecsnet.node",
}

# The names of a schema written as Python classes. `from ecsnet import Component` is how a reader of the design begins,
# and shall hear more than that there is no such name.
_PLANNED = {"Component", "Event", "Table", "auto", "enum", "field", "read", "ref"} | {
    f"{kind}{bits}"
    for kind, widths in (("u", (8, 16, 32, 64)), ("i", (8, 16, 32, 64)), ("f", (32, 64)))
    for bits in widths
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604  (all of them are strings)


if not TYPE_CHECKING:  # a type checker knows the names from above, and shall not take any other for one

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if name in _PLANNED:
            from ecsnet.errors import NotBuiltError

            raise NotBuiltError(
                f"ecsnet.{name} (a schema of Python classes)",
                "write the schema in TOML and name tables and fields by strings, as in query('transform')",
            )
        if home is None:
            raise AttributeError(f"module 'ecsnet' has no attribute {name!r}")
        # Imported here: `importlib` is loaded anyway, the name would otherwise be public.
        from importlib import import_module

        value = getattr(import_module(home), name) if home else import_module(f"ecsnet.{name}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
