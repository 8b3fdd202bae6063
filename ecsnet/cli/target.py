"""What a command line names: `MODULE:WORLD`, the TOML file of a schema, or `MODULE:FUNCTION`.

Invariant: what a module raises while it is imported is the game's own error and keeps its traceback; that the module or
the world in it does not exist is a mistake in the command line, and one line.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from typing import Any

from ecsnet.errors import ArgumentError, UnknownNameError
from ecsnet.limits import HZ_DEFAULT
from ecsnet.schema import Schema
from ecsnet.world import World


def load_world(target: str, *, hz: int | None = None, seed: int | None = None) -> World:
    """The world that `target` names: a `World` in a module, or an empty one over a schema.

    `hz` and `seed` replace the world's own where they are given. The working directory is searched for modules first,
    as `python -m` does.

    Raises:
        ArgumentError: neither form, no such module, or not a World. UnknownNameError: the module has no such name.
        SchemaError: the schema is wrong.
    """
    if target.endswith(".toml"):
        if not Path(target).is_file():
            raise ArgumentError(f"{target}: no such file; give the TOML file of a schema, or MODULE:WORLD")
        return World(target, hz=HZ_DEFAULT if hz is None else hz, seed=seed or 0)

    world = _named_world(target)
    # A world made with these would refuse what is out of range; the same must hold for replacing them.
    World(world.schema, hz=world.hz if hz is None else hz, seed=world.seed if seed is None else seed)
    if hz is not None:
        world.hz = hz
    if seed is not None:
        world.seed = seed
    return world


def load_schema(target: str) -> Schema:
    """The schema that `MODULE:NAME` names: a `Schema`, or the one of a `World`.

    Raises:
        ArgumentError: no such module, or neither of them. UnknownNameError: the module has no such name.
    """
    form = "MODULE:SCHEMA, as in arena:schema, or SCHEMA.toml"
    found = _named(target, "schema", form, lambda one: isinstance(one, Schema | World))
    if isinstance(found, World):
        return found.schema
    if not isinstance(found, Schema):
        kind = type(found).__name__
        raise ArgumentError(f"{target} is of type {kind}, not a Schema; make one with ecsnet.Schema(...)")
    return found


def load_function(target: str) -> Callable[..., Any]:
    """The function that `target` names.

    Raises:
        ArgumentError: no such module, or not a function. UnknownNameError: the module has no such name.
    """
    found = _named(target, "function", "MODULE:FUNCTION, as in arena:setup", isfunction)
    if not callable(found) or isinstance(found, World):
        raise ArgumentError(f"{target} is of type {type(found).__name__}, not a function")
    return found


def _named_world(target: str) -> World:
    found = _named(
        target, "world", "MODULE:WORLD, as in arena:world, or SCHEMA.toml", lambda one: isinstance(one, World)
    )
    if not isinstance(found, World):
        raise ArgumentError(f"{target} is of type {type(found).__name__}, not a World; make one with ecsnet.World(...)")
    return found


def _named(target: str, what: str, form: str, fits: Callable[[object], bool]) -> object:
    """What `MODULE:NAME` names. `what` and `form` are for errors; `fits` are the names to propose."""
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ArgumentError(f"{target!r} names no {what}; write {form}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # Whether it is the module itself that is missing, or one that it imports.
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise
        raise ArgumentError(
            f"no module named {error.name!r} (of {target!r}); run the command in the directory that has it"
        ) from None
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            fitting = [key for key, value in vars(module).items() if fits(value)]
            raise UnknownNameError(f"{what} in module {module_name}", name, fitting)
        found = getattr(found, part)
    return found
