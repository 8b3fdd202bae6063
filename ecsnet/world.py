"""What a game declares about its world: the schema, the pace, and which functions run when.

A world is a description. It opens nothing, starts nothing and may be imported by everybody: the authority runs its
hooks, commands and systems; a client reads the signatures of its commands from it.

Invariants:
- a decorator returns the function it was given, so that game code can go on calling it and tests can call it alone;
- systems run in the order of registration; commands are numbered by name, so the order in a file is not part of the
  wire; a name is given once;
- everything that can be wrong with a function is found when it is registered, not in the first tick that runs it;
- while an authority runs a world, nothing more is registered: its clients have been told what there is.
"""

import enum
import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar, overload

from ecsnet.auth.account import PLAYER, Authenticate, check_authenticate
from ecsnet.errors import ArgumentError, LocalProtocolError, NotBuiltError, UnknownNameError
from ecsnet.ids import ClientId, Entity, SessionId
from ecsnet.interest import check_rules
from ecsnet.limits import COMMAND_NAMES_MAX, COMMAND_PARAMETERS_MAX, HZ_DEFAULT, HZ_MAX, HZ_MIN, NAME_BYTES_MAX
from ecsnet.schema import InterestRule, Schema
from ecsnet.sight import Sight, check_budget, check_staleness
from ecsnet.wire.messages import CommandSignature, Parameter, ParameterKind

if TYPE_CHECKING:
    from ecsnet.store import Transaction

__all__ = ["Client", "CommandSpec", "SystemSpec", "World"]

Given = ParamSpec("Given")
Returned = TypeVar("Returned")
System = TypeVar("System", bound="Callable[[Transaction], Any]")
Who = TypeVar("Who", bound=Authenticate)
JoinHook = TypeVar("JoinHook", bound="Callable[[Transaction, Client], Any]")
if TYPE_CHECKING:
    Command: TypeAlias = Callable[Concatenate[Transaction, "Client", Given], Any]
    """A function that is a command: what follows the first two parameters is what a client gives."""

OnError = Literal["log", "raise"]

_KIND_OF_TYPE: dict[Any, ParameterKind] = {
    bool: ParameterKind.BOOL,
    int: ParameterKind.INT,
    float: ParameterKind.FLOAT,
    str: ParameterKind.STR,
    Entity: ParameterKind.ENTITY,
}


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command: its name, the parameters that a client gives, and the function that runs."""

    name: str
    parameters: tuple[Parameter, ...]
    latest: bool
    function: Callable[..., Any]
    enums: dict[str, type[enum.Enum]]
    """The Python enum of each enum parameter, so that the function receives a member and not a number."""


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """One system: runs in each tick whose number is a multiple of `every`."""

    name: str
    every: int
    function: Callable[..., Any]


class Client:
    """A session as the game's code sees it, on the authority.

    The game never makes one: hooks and commands are handed it. It may be kept for as long as the session lasts.
    """

    __slots__ = (
        "_bounded",
        "_entity",
        "_key",
        "_looks",
        "_sight",
        "_transaction",
        "client_id",
        "name",
        "role",
        "session",
    )

    def __init__(self, session: SessionId, client_id: ClientId, name: str, role: str = PLAYER) -> None:
        self.session = session
        self.client_id = client_id
        """The account. Without authentication it is the session's number, and lasts as long."""
        self.name = name
        self.role = role
        """What the schema's rules go by: the account's role, "player" unless authentication says otherwise."""
        self._key = 0
        self._entity = Entity(0)
        self._sight = Sight()
        self._bounded: Callable[[Client], object] | None = None
        """Told when a budget was set."""
        self._looks: Callable[[], object] | None = None
        """Told when anything else was said of what it sees."""
        self._transaction: Transaction | None = None

    @property
    def entity(self) -> Entity:
        """The client's own entity, 0 for none. It is a cell of the session's row: inside a hook or a command it is
        read and written in that transaction, so it is undone with it; a despawned entity becomes 0.

        Outside of one it is what the newest published version says, and cannot be set.

        Raises:
            LocalProtocolError: set outside of a hook or a command. Nothing changed.
            ConstraintError: at the commit, when what was set is not alive. The transaction changed nothing.
        """
        if self._transaction is None:
            return self._entity
        return Entity(int(self._transaction[self._key, "sessions.entity"]))

    @entity.setter
    def entity(self, entity: int) -> None:
        if self._transaction is None:
            raise LocalProtocolError(
                "client.entity can be set inside on_join, on_leave and this client's commands only: "
                "it belongs to their transaction"
            )
        self._transaction.update(self._key, "sessions", entity=int(entity))

    def focus(self, *entities: int) -> None:
        """Let near rules look around these entities from now on, instead of around `client.entity`; without any, around
        that again. One that is despawned has nothing around it.

        This, `reveal`, `conceal` and `budget_bytes_s` may be called in hooks, commands, systems, and between ticks, and
        hold from this tick's version on, or the next one's, whether or not anything else changes in it. A command that
        is undone takes back what it said. They are not in the store: a session that goes on after the node was started
        again begins as it did at first.

        Raises:
            ArgumentError: one is no entity. LimitExceededError: more than `FOCUS_ENTITIES_MAX`. Nothing changed.
        """
        self._see(self._sight.focused(entities))

    def reveal(self, *entities: int) -> None:
        """Send these entities to the client whatever the rules find, until `conceal` or their end. A table or field
        that its role may not see stays hidden. In a world without rules of interest nothing is to be revealed.

        Raises:
            ArgumentError: one is no entity. LimitExceededError: more than `REVEALED_ENTITIES_MAX`. Nothing changed.
        """
        self._see(self._sight.revealing(entities))

    def conceal(self, *entities: int) -> None:
        """Take `reveal` back. An entity that a rule finds is sent nevertheless.

        Raises:
            ArgumentError: one is no entity. Nothing changed.
        """
        self._see(self._sight.concealing(entities))

    def _see(self, sight: Sight) -> None:
        if sight != self._sight:
            self._sight = sight
            if self._looks is not None:
                self._looks()

    @property
    def budget_bytes_s(self) -> int | None:
        """How many bytes of rows a second this client is sent at most; None is no bound. What does not fit waits, the
        important first, for at most the world's `staleness_max_s`, reckoned in versions: a version is no longer sent
        whole then, but row by row, each row whole, and what waits goes with versions to come. Begins as the world's.

        Raises:
            ArgumentError: set to what is no number of bytes, or too few of them.
        """
        return self._sight.budget_bytes_s

    @budget_bytes_s.setter
    def budget_bytes_s(self, budget_bytes_s: int | None) -> None:
        self._sight = self._sight._replace(budget_bytes_s=check_budget(budget_bytes_s))
        if self._bounded is not None:
            self._bounded(self)

    def __repr__(self) -> str:
        role = "" if self.role == PLAYER else f", role={self.role!r}"
        return f"Client({self.name!r}, session={self.session:#x}, client_id={self.client_id:#x}{role})"


class World:
    """Schema, pace, hooks, commands and systems of one game.

    Args:
        schema: a `Schema`, of classes or from TOML, or the path of a TOML file.
        hz: ticks a second, 1 to 1000. `tx.dt` is exactly `every / hz`.
        seed: with the tick and the function's name it seeds `tx.random`.
        on_error: "log" undoes, counts and logs what a system or command raised and goes on; "raise" undoes it and stops
            the tick with the game's own exception, which is what tests want.
        interest: rules beside those of the schema; see `ecsnet.interest`. With any, a client is sent what those for its
            role find, and nothing else.
        budget_bytes_s: how many bytes of rows a second each client is sent at most; None is no bound. See
            `Client.budget_bytes_s`.
        staleness_max_s: with a budget, how long a row that changed waits at most, in seconds.

    Raises:
        SchemaError, QueryError: a rule names what the schema does not have, or is malformed. ArgumentError.
    """

    def __init__(
        self,
        schema: Schema | str | Path,
        *,
        hz: int = HZ_DEFAULT,
        seed: int = 0,
        on_error: OnError = "log",
        interest: Sequence[InterestRule] = (),
        budget_bytes_s: int | None = None,
        staleness_max_s: float = 1.0,
    ) -> None:
        if isinstance(hz, bool) or not isinstance(hz, int):
            raise ArgumentError(f"hz is a whole number of ticks a second, not {hz!r}")
        if not HZ_MIN <= hz <= HZ_MAX:
            raise ArgumentError(f"hz is {hz}; it must be in [{HZ_MIN}, {HZ_MAX}]")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ArgumentError(f"seed is a whole number, 0 or more, not {seed!r}")
        if on_error not in ("log", "raise"):
            raise ArgumentError(f'on_error is "log" or "raise", not {on_error!r}')
        self.schema = Schema.resolve(schema)
        self.hz = hz
        self.seed = seed
        self.on_error: OnError = on_error
        self.interest = check_rules(self.schema, interest)
        """The rules of the schema, and then those given here."""
        self.budget_bytes_s = check_budget(budget_bytes_s)
        self.staleness_max_s = check_staleness(staleness_max_s)
        self.commands: dict[str, CommandSpec] = {}
        self.systems: list[SystemSpec] = []
        self.join_hook: Callable[..., Any] | None = None
        self.leave_hook: Callable[..., Any] | None = None
        self.authenticate_hook: Authenticate | None = None
        self._sealed = False

    def authenticate(self, function: Who) -> Who:
        """Ask `function(login)` who each new session is, before anything else: it returns an `ecsnet.auth.Account`, or
        raises `Reject`, and then the client is told that reason. Without one everybody is a player of a new account.

        A coroutine function may wait, until the deadline of the handshake; a plain function must be quick. What else
        it raises is logged, and the client hears "internal". A session that is resumed is not asked about again.
        """
        if self._sealed:
            raise LocalProtocolError("authenticate was registered while the world runs; register it before that")
        if self.authenticate_hook is not None:
            raise ArgumentError(f"authenticate is {self.authenticate_hook!r} already; a world has one")
        check_authenticate(function)
        self.authenticate_hook = function
        return function

    def on_join(self, function: JoinHook) -> JoinHook:
        """Run `function(tx, client)` once for each new session, in the first tick after its handshake. The entity it
        returns becomes `client.entity`. `Reject` refuses the client: it is told the reason, and nothing is kept."""
        self._check_open("on_join", function)
        if self.join_hook is not None:
            raise ArgumentError(f"on_join is {_name_of(self.join_hook)} already; a world has one")
        _check_arguments(function, "on_join", 2)
        self.join_hook = function
        return function

    def on_leave(self, function: JoinHook) -> JoinHook:
        """Run `function(tx, client)` when a session ends, in the next tick. Its row goes away with that transaction."""
        self._check_open("on_leave", function)
        if self.leave_hook is not None:
            raise ArgumentError(f"on_leave is {_name_of(self.leave_hook)} already; a world has one")
        _check_arguments(function, "on_leave", 2)
        self.leave_hook = function
        return function

    @overload
    def command(
        self, function: "Callable[Concatenate[Transaction, Client, Given], Returned]", /
    ) -> "Callable[Concatenate[Transaction, Client, Given], Returned]": ...
    @overload
    def command(
        self, /, *, latest: bool = False, predict: bool = False
    ) -> """Callable[
        [Callable[Concatenate[Transaction, Client, Given], Returned]],
        Callable[Concatenate[Transaction, Client, Given], Returned],
    ]""": ...

    def command(
        self, function: Callable[..., Any] | None = None, /, *, latest: bool = False, predict: bool = False
    ) -> Callable[..., Any]:
        """Let clients ask for `function(tx, client, ...)`. Its further parameters are annotated `bool`, `int`,
        `float`, `str`, `Entity` or an `enum.IntEnum`, and are checked on both sides before it runs.

        `latest=True`: an input, such as where a stick points. Of one client's in a tick only the newest runs.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._register_command(function, latest=latest, predict=predict)
            return function

        return register if function is None else register(function)

    @overload
    def system(self, function: System, /) -> System: ...
    @overload
    def system(self, /, *, every: int = 1, predict: bool = False) -> Callable[[System], System]: ...

    def system(
        self, function: Callable[..., Any] | None = None, /, *, every: int = 1, predict: bool = False
    ) -> Callable[..., Any]:
        """Run `function(tx)` in each tick whose number is a multiple of `every`, after the commands."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._register_system(function, every=every, predict=predict)
            return function

        return register if function is None else register(function)

    @property
    def signatures(self) -> tuple[CommandSignature, ...]:
        """The commands as the handshake names them: ids from 0 in the order of their names."""
        return tuple(
            CommandSignature(id=number, name=spec.name, parameters=spec.parameters, latest=spec.latest)
            for number, (_, spec) in enumerate(sorted(self.commands.items()))
        )

    def command_name(self, command: str | Callable[..., Any]) -> str:
        """The name of a command, given by name or by the function itself.

        Raises:
            UnknownNameError: this world has no such command.
        """
        if isinstance(command, str):
            if command in self.commands:
                return command
            raise UnknownNameError("command", command, self.commands)
        name = _name_of(command)
        spec = self.commands.get(name)
        if spec is None or spec.function is not command:
            raise UnknownNameError("command", name, self.commands)
        return name

    def seal(self) -> None:
        """Take no more registrations: an authority runs this world, and its clients were told the commands there are.
        `Authority` calls it."""
        self._sealed = True

    def __repr__(self) -> str:
        return (
            f"World({self.schema.name!r}, hz={self.hz}, commands={list(self.commands)}, "
            f"systems={[system.name for system in self.systems]})"
        )

    # --- registering --------------------------------------------------------------------------------------------------

    def _check_open(self, role: str, function: Callable[..., Any]) -> str:
        name = _name_of(function)
        if self._sealed:
            raise LocalProtocolError(f"{role} {name!r} was registered while the world runs; register it before that")
        return name

    def _register_command(self, function: Callable[..., Any], *, latest: bool, predict: bool) -> None:
        name = self._check_open("command", function)
        if predict:
            raise NotBuiltError(f"prediction (predict=True of command {name!r})", "leave it out: it runs on the node")
        if name in self.commands:
            raise ArgumentError(f"command {name!r} is registered already; names are given once")
        if len(name.encode()) > NAME_BYTES_MAX:
            raise ArgumentError(f"command name {name!r} has more than {NAME_BYTES_MAX} bytes")
        if len(self.commands) >= COMMAND_NAMES_MAX:
            raise ArgumentError(f"a world has at most {COMMAND_NAMES_MAX} commands; {name!r} is one more")
        given = _check_arguments(function, "command", 2, more=True)
        hints = _hints_of(function)
        parameters: list[Parameter] = []
        enums: dict[str, type[enum.Enum]] = {}
        for parameter in given:
            annotation = hints.get(parameter.name, inspect.Parameter.empty)
            what = f"parameter {parameter.name!r} of command {name!r}"
            if parameter.default is not inspect.Parameter.empty:
                raise NotBuiltError(f"a default for {what}", "leave the default out and send the value")
            if annotation in _KIND_OF_TYPE:
                parameters.append(Parameter(name=parameter.name, kind=_KIND_OF_TYPE[annotation]))
            elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
                members = {member.name: member.value for member in annotation}
                if not members or not all(isinstance(value, int) for value in members.values()):
                    raise ArgumentError(f"{what} is {annotation.__name__}, whose values are not all whole numbers")
                values = tuple(sorted(members.items(), key=lambda item: item[1]))
                parameters.append(Parameter(name=parameter.name, kind=ParameterKind.ENUM, values=values))
                enums[parameter.name] = annotation
            else:
                found = "not annotated" if annotation is inspect.Parameter.empty else f"annotated {annotation!r}"
                raise ArgumentError(f"{what} is {found}; use bool, int, float, str, Entity or an enum with numbers")
        if len(parameters) > COMMAND_PARAMETERS_MAX:
            raise ArgumentError(f"command {name!r} has more than {COMMAND_PARAMETERS_MAX} parameters")
        self.commands[name] = CommandSpec(name, tuple(parameters), latest, function, enums)

    def _register_system(self, function: Callable[..., Any], *, every: int, predict: bool) -> None:
        name = self._check_open("system", function)
        if predict:
            raise NotBuiltError(f"prediction (predict=True of system {name!r})", "leave it out: it runs on the node")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ArgumentError(f"every={every!r} of system {name!r}: a whole number of ticks, 1 or more")
        if any(system.name == name for system in self.systems):
            raise ArgumentError(f"system {name!r} is registered already; names are given once, they seed tx.random")
        _check_arguments(function, "system", 1)
        self.systems.append(SystemSpec(name, every, function))


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ArgumentError(f"{function!r} has no usable name; give a function made with `def`")
    return name


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise ArgumentError(
            f"an annotation of {_name_of(function)!r} names something its module does not have: {error}"
        ) from error


def _check_arguments(
    function: Callable[..., Any], role: str, first: int, *, more: bool = False
) -> list[inspect.Parameter]:
    """The parameters after the first ones (the transaction; the client), once the function has been found callable."""
    name = _name_of(function)
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise ArgumentError(f"{role} {name!r} is a coroutine or a generator; a tick runs plain functions")
    parameters = list(inspect.signature(function).parameters.values())
    shape = "(tx)" if first == 1 else "(tx, client, ...)" if more else "(tx, client)"
    if len(parameters) < first or (len(parameters) > first and not more):
        raise ArgumentError(f"{role} {name!r} takes {len(parameters)} parameters; it is called with {shape}")
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise ArgumentError(f"{role} {name!r} has *{parameter.name}; its parameters are named one by one")
    for parameter in parameters[:first]:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            raise ArgumentError(f"{role} {name!r} is called with {shape}; {parameter.name!r} is keyword-only")
    for parameter in parameters[first:]:
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise ArgumentError(
                f"parameter {parameter.name!r} of {role} {name!r} is positional-only; it is given by name"
            )
    return parameters[first:]
