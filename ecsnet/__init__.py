"""ecsnet: a relational, transactional, in-memory database for entity-component games, whose committed changes replicate
themselves to every player.

The public names, and nothing else. Each is imported when it is first used, so `import ecsnet` costs a few milliseconds
and a tool that only checks a schema never loads the kernel, numpy or Trio.
"""

from typing import TYPE_CHECKING, Any

from ecsnet._version import __version__

if TYPE_CHECKING:
    from ecsnet import auth as auth
    from ecsnet import errors as errors
    from ecsnet import interest as interest
    from ecsnet.authority import PeeringSettings as PeeringSettings
    from ecsnet.data.restoring import restore as restore
    from ecsnet.embed import connect as connect
    from ecsnet.errors import EcsnetError as EcsnetError
    from ecsnet.errors import Reject as Reject
    from ecsnet.expressions import asc as asc
    from ecsnet.expressions import col as col
    from ecsnet.expressions import count as count
    from ecsnet.expressions import desc as desc
    from ecsnet.expressions import max_ as max_
    from ecsnet.expressions import mean as mean
    from ecsnet.expressions import min_ as min_
    from ecsnet.expressions import sum_ as sum_
    from ecsnet.ids import Entity as Entity
    from ecsnet.node import open_client as open_client
    from ecsnet.node import open_node as open_node
    from ecsnet.node import run as run
    from ecsnet.schema import InterestRule as InterestRule
    from ecsnet.schema import Schema as Schema
    from ecsnet.schema import Writer as Writer
    from ecsnet.schema.columns import array as array
    from ecsnet.schema.columns import auto as auto
    from ecsnet.schema.columns import bool_ as bool_
    from ecsnet.schema.columns import bytes_ as bytes_
    from ecsnet.schema.columns import enum as enum
    from ecsnet.schema.columns import f32 as f32
    from ecsnet.schema.columns import f64 as f64
    from ecsnet.schema.columns import field as field
    from ecsnet.schema.columns import i8 as i8
    from ecsnet.schema.columns import i16 as i16
    from ecsnet.schema.columns import i32 as i32
    from ecsnet.schema.columns import i64 as i64
    from ecsnet.schema.columns import ref as ref
    from ecsnet.schema.columns import string as string
    from ecsnet.schema.columns import u8 as u8
    from ecsnet.schema.columns import u16 as u16
    from ecsnet.schema.columns import u32 as u32
    from ecsnet.schema.columns import u64 as u64
    from ecsnet.schema.model import Spatial as Spatial
    from ecsnet.schema.python import Component as Component
    from ecsnet.schema.python import Event as Event
    from ecsnet.schema.python import Struct as Struct
    from ecsnet.schema.python import Table as Table
    from ecsnet.store import Change as Change
    from ecsnet.store import Store as Store
    from ecsnet.store import Transaction as Transaction
    from ecsnet.store import View as View
    from ecsnet.store import maybe as maybe
    from ecsnet.world import Client as Client
    from ecsnet.world import World as World

# public name -> the module that has it ("" means: the name is a module of the package itself)
_HOMES = {
    "Change": "ecsnet.store",
    "Client": "ecsnet.world",
    "Component": "ecsnet.schema.python",
    "EcsnetError": "ecsnet.errors",
    "Entity": "ecsnet.ids",
    "Event": "ecsnet.schema.python",
    "PeeringSettings": "ecsnet.authority",
    "Reject": "ecsnet.errors",
    "InterestRule": "ecsnet.schema",
    "Schema": "ecsnet.schema",
    "Writer": "ecsnet.schema",
    "Spatial": "ecsnet.schema.model",
    "Store": "ecsnet.store",
    "Struct": "ecsnet.schema.python",
    "Table": "ecsnet.schema.python",
    "Transaction": "ecsnet.store",
    "View": "ecsnet.store",
    "World": "ecsnet.world",
    "array": "ecsnet.schema.columns",
    "asc": "ecsnet.expressions",
    "auth": "",
    "auto": "ecsnet.schema.columns",
    "bool_": "ecsnet.schema.columns",
    "bytes_": "ecsnet.schema.columns",
    "col": "ecsnet.expressions",
    "connect": "ecsnet.embed",
    "count": "ecsnet.expressions",
    "desc": "ecsnet.expressions",
    "enum": "ecsnet.schema.columns",
    "errors": "",
    "f32": "ecsnet.schema.columns",
    "f64": "ecsnet.schema.columns",
    "field": "ecsnet.schema.columns",
    "i16": "ecsnet.schema.columns",
    "i32": "ecsnet.schema.columns",
    "i64": "ecsnet.schema.columns",
    "i8": "ecsnet.schema.columns",
    "interest": "",
    "max_": "ecsnet.expressions",
    "maybe": "ecsnet.store",
    "mean": "ecsnet.expressions",
    "min_": "ecsnet.expressions",
    "open_client": "ecsnet.node",
    "open_node": "ecsnet.node",
    "ref": "ecsnet.schema.columns",
    "restore": "ecsnet.data.restoring",
    "run": "ecsnet.node",
    "string": "ecsnet.schema.columns",
    "sum_": "ecsnet.expressions",
    "u16": "ecsnet.schema.columns",
    "u32": "ecsnet.schema.columns",
    "u64": "ecsnet.schema.columns",
    "u8": "ecsnet.schema.columns",
}

# What the design promises and nobody has built: a reader of it shall hear more than that there is no such name.
_PLANNED = {"read": "leave it out: columns that were not changed are not written"}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604  (all of them are strings)


if not TYPE_CHECKING:  # a type checker knows the names from above, and shall not take any other for one

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if name in _PLANNED:
            from ecsnet.errors import NotBuiltError

            raise NotBuiltError(f"ecsnet.{name}", _PLANNED[name])
        if home is None:
            from ecsnet.errors import did_you_mean

            meant = did_you_mean(name, _HOMES) if not name.startswith("_") else None
            hint = f"; did you mean {meant!r}?" if meant else ""
            raise AttributeError(f"module 'ecsnet' has no attribute {name!r}{hint}")
        # Imported here: `importlib` is loaded anyway, the name would otherwise be public.
        from importlib import import_module

        value = getattr(import_module(home), name) if home else import_module(f"ecsnet.{name}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    # What an editor without types offers: the public names, not what this file needed.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
