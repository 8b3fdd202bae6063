"""A world finds what is wrong with a function when it is registered, and numbers its commands by name."""

from enum import Enum, IntEnum
from typing import Any

import pytest

import ecsnet
from ecsnet.errors import ArgumentError, LocalProtocolError, NotBuiltError, UnknownNameError
from ecsnet.ids import ClientId, Entity, SessionId
from ecsnet.schema import loads
from ecsnet.wire.messages import ParameterKind
from ecsnet.world import Client, World

SCHEMA = loads(
    """
    [database]
    name = "small"
    version = "1.0.0"
    [tables.health]
    parent_table = "entities"
    fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
              { name = "hp", type = "u16", default = 100 }]
    """
)


class Weapon(IntEnum):
    SWORD = 2
    BOW = 1


def test_a_decorator_returns_the_function_itself() -> None:
    """Game code goes on calling it, and its tests call it without any world."""
    world = World(SCHEMA)

    @world.command
    def jump(tx: Any, client: Client) -> str:
        return "jumped"

    @world.system(every=2)
    def fall(tx: Any) -> str:
        return "fell"

    @world.on_join
    def enter(tx: Any, client: Client) -> str:
        return "entered"

    assert (jump(None, None), fall(None), enter(None, None)) == ("jumped", "fell", "entered")  # type: ignore[arg-type]
    assert world.command_name(jump) == world.command_name("jump") == "jump"
    assert [(system.name, system.every) for system in world.systems] == [("fall", 2)]


def test_commands_are_numbered_by_name_and_not_by_their_place_in_the_file() -> None:
    """A command that moves within a file must not become another one on the wire."""
    first, second = World(SCHEMA), World(SCHEMA)

    def walk(tx: Any, client: Client, dx: float) -> None: ...
    def attack(tx: Any, client: Client, target: Entity, weapon: Weapon) -> None: ...

    first.command(walk)
    first.command(latest=True)(attack)
    second.command(latest=True)(attack)
    second.command(walk)

    assert first.signatures == second.signatures
    assert [(signature.id, signature.name, signature.latest) for signature in first.signatures] == [
        (0, "attack", True),
        (1, "walk", False),
    ]


def test_parameters_are_what_the_annotations_say() -> None:
    """The same checks run on both sides, so the signature carries all of them."""
    world = World(SCHEMA)

    @world.command
    def everything(tx: Any, client: Client, a: bool, b: int, c: float, d: str, e: Entity, f: Weapon) -> None: ...

    parameters = world.commands["everything"].parameters
    assert [parameter.kind for parameter in parameters] == list(ParameterKind)
    assert parameters[-1].values == (("BOW", 1), ("SWORD", 2)), "by discriminant"
    assert world.commands["everything"].enums == {"f": Weapon}


def test_what_cannot_be_sent_is_refused_when_it_is_registered() -> None:
    """Not in the first tick in which somebody uses it."""
    world = World(SCHEMA)

    class Named(Enum):
        A = "a"

    async def waits(tx: Any, client: Client) -> None: ...
    def generates(tx: Any, client: Client) -> Any:
        yield

    def bare(tx: Any, client: Client, x) -> None: ...  # type: ignore[no-untyped-def]
    def listed(tx: Any, client: Client, x: list[int]) -> None: ...
    def named(tx: Any, client: Client, x: Named) -> None: ...
    def short(tx: Any) -> None: ...
    def starred(tx: Any, client: Client, *x: int) -> None: ...
    def unnamed(tx: Any, client: Client, x: int, /) -> None: ...
    def keyword(tx: Any, *, client: Client) -> None: ...

    for function in (waits, generates, bare, listed, named, short, starred, unnamed, keyword, lambda tx, client: None):
        with pytest.raises(ArgumentError):
            world.command(function)
    assert world.commands == {}


def test_planned_features_say_that_they_are_planned() -> None:
    """Ignoring `predict=True` would look as if prediction were there and bad."""
    world = World(SCHEMA)

    def steer(tx: Any, client: Client, dx: float = 0.0) -> None: ...
    def move(tx: Any) -> None: ...

    with pytest.raises(NotBuiltError):
        world.command(predict=True)(steer)
    with pytest.raises(NotBuiltError):
        world.system(predict=True)(move)
    with pytest.raises(NotBuiltError, match="default"):
        world.command(steer)


def test_names_are_given_once() -> None:
    """A second system of one name would share the first one's randomness; a second command would replace it."""
    world = World(SCHEMA)

    def act(tx: Any, client: Client) -> None: ...
    def move(tx: Any) -> None: ...

    world.command(act)
    world.system(move)
    world.on_join(act)
    world.on_leave(act)
    for register, function in (
        (world.command, act),
        (world.system, move),
        (world.on_join, act),
        (world.on_leave, act),
    ):
        with pytest.raises(ArgumentError):
            register(function)  # type: ignore[operator]


def test_an_unknown_command_suggests_the_one_that_was_meant() -> None:
    world = World(SCHEMA)

    @world.command
    def attack(tx: Any, client: Client) -> None: ...

    def other(tx: Any, client: Client) -> None: ...

    with pytest.raises(UnknownNameError) as caught:
        world.command_name("atack")
    assert caught.value.suggestion == "attack"
    with pytest.raises(UnknownNameError):
        world.command_name(other)

    def impostor(tx: Any, client: Client) -> None: ...

    impostor.__name__ = "attack"
    with pytest.raises(UnknownNameError):
        world.command_name(impostor)


@pytest.mark.parametrize("hz", [0, -1, 1001, 30.0, True, "30", None])
def test_a_pace_that_no_clock_could_keep_is_refused(hz: Any) -> None:
    with pytest.raises(ArgumentError):
        World(SCHEMA, hz=hz)


def test_other_settings_are_checked_too() -> None:
    with pytest.raises(ArgumentError):
        World(SCHEMA, seed=-1)
    with pytest.raises(ArgumentError):
        World(SCHEMA, on_error="ignore")  # type: ignore[arg-type]

    def move(tx: Any) -> None: ...

    with pytest.raises(ArgumentError):
        World(SCHEMA).system(every=0)(move)
    with pytest.raises(ArgumentError, match="takes 1"):
        World(SCHEMA).on_join(move)


def test_a_client_outside_of_its_transactions_can_be_read_and_not_written() -> None:
    """Setting it there would belong to no transaction, so nothing could undo it."""
    client = Client(SessionId(5), ClientId(7), "ada")

    assert client.entity == 0
    with pytest.raises(LocalProtocolError):
        client.entity = Entity(1)
    assert "ada" in repr(client)


def test_the_package_names_a_world_and_a_client() -> None:
    assert ecsnet.World is World
    assert ecsnet.Client is Client
