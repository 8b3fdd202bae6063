"""The game's own functions in a tick, each in a transaction of its own.

A function that raises costs itself and nobody else: its transaction is undone, whatever else happened in the tick
stays. What a client is told of it is a word, never a message that might carry the node's paths or data.

Invariants:
- the effect of a command and its number in the session's row are one transaction: both or neither. A command that was
  refused has its number recorded, too, in a transaction that does nothing else, or its client would wait for ever;
- nothing here publishes: a tick is one version, made after all of it;
- a session's row is there from the transaction of `on_join` to the transaction of `on_leave`, over all its links and
  over restarts of the node in between.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ecsnet.authority.permissions import Permissions, WriteRefused, outcome_of
from ecsnet.authority.sessions import Session
from ecsnet.errors import DiskFullError, EcsnetError, InternalError, Reject
from ecsnet.ids import NULL_ENTITY, Tick
from ecsnet.session.ledger import Outcome, PendingCommand
from ecsnet.store import TickScope, Transaction
from ecsnet.wire.messages import CommandStatus, ParameterKind, Reason
from ecsnet.world import Client, CommandSpec, SystemSpec, World

log = logging.getLogger("ecsnet.authority")

ACCEPTED = Outcome(CommandStatus.ACCEPTED)
FULL = Outcome(CommandStatus.REJECTED, Reason.FULL, "the node's disk is full")
INTERNAL = Outcome(CommandStatus.REJECTED, Reason.INTERNAL, "internal")


class Step:
    """Runs hooks, commands and systems of one world, and keeps count of what went wrong."""

    __slots__ = (
        "_failure",
        "_logged",
        "_permissions",
        "_seed",
        "commands_accepted",
        "commands_failed",
        "commands_rejected",
        "commands_superseded",
        "hooks_failed",
        "systems_failed",
        "world",
    )

    def __init__(self, world: World) -> None:
        self.world = world
        self.commands_accepted = 0
        self.commands_rejected = 0
        self.commands_superseded = 0
        self.commands_failed = 0
        self.systems_failed = 0
        self.hooks_failed = 0
        self._failure: Exception | None = None
        self._permissions = Permissions(world.schema)
        # (role, name) -> the tick it was logged in, and how often it failed since without being logged.
        self._logged: dict[tuple[str, str], tuple[int, int]] = {}
        self._seed = world.seed.to_bytes(max(8, (world.seed.bit_length() + 7) // 8), "little")

    def join(self, scope: TickScope, tick: Tick, session: Session) -> Outcome:
        """Make the session's row and run `on_join`. Anything but `ACCEPTED` means that nothing of it was kept."""
        hook, client = self.world.join_hook, session.client
        name = hook.__name__ if hook is not None else "on_join"
        tx = self._begin(scope, tick, name, 1, client.session)
        try:
            client._key = tx.insert("sessions", session.row())
            if hook is not None:
                client._transaction = tx
                entity = hook(tx, client)
                if entity is not None:
                    client.entity = entity
            tx.commit()
        except Reject as reject:
            _undo(tx)
            return Outcome(CommandStatus.REJECTED, Reason.REJECTED, reject.reason)
        except DiskFullError as error:
            _undo(tx)
            self._report("disk", "full", tick, error)
            return FULL
        except Exception as error:  # noqa: BLE001  (the game's own code: whatever it raises is undone)
            _undo(tx)
            self.hooks_failed += 1
            self._report("on_join", name, tick, error)
            return INTERNAL
        finally:
            client._transaction = None
        return ACCEPTED

    def leave(self, scope: TickScope, tick: Tick, client: Client) -> None:
        """Run `on_leave` and remove the session's row; the row goes even if the hook fails."""
        hook = self.world.leave_hook
        if hook is not None:
            tx = self._begin(scope, tick, hook.__name__, 1, client.session)
            client._transaction = tx
            try:
                hook(tx, client)
                tx.delete(client._key, "sessions")
                tx.commit()
                return
            except Exception as error:  # noqa: BLE001  (the game's own code)
                _undo(tx)
                if not isinstance(error, Reject):
                    self.hooks_failed += 1
                    self._report("on_leave", hook.__name__, tick, error)
            finally:
                client._transaction = None
        self._write_row(scope, tick, client.session, lambda tx: tx.delete(client._key, "sessions"))

    def expire(self, scope: TickScope, tick: Tick, sessions: Iterable[Session]) -> None:
        """Note in the sessions' rows until when each may be away; 0 for one that is here."""

        def write(tx: Transaction) -> None:
            for session in sessions:
                if (session.client._key, "sessions") in tx:  # a game may have deleted it
                    tx.update(session.client._key, "sessions", expires_tick=session.expires_tick)

        self._write_row(scope, tick, 0, write)

    def touch(self, scope: TickScope, tick: Tick, session: Session) -> None:
        """Have the tick make a version, whatever else happens in it: the session's row is changed, and changed back."""

        def write(tx: Transaction) -> None:
            key = session.client._key
            if (key, "sessions") in tx:  # a game may have deleted it
                tx.update(key, "sessions", expires_tick=session.expires_tick ^ 1)
                tx.update(key, "sessions", expires_tick=session.expires_tick)

        self._write_row(scope, tick, 0, write)

    def command(self, scope: TickScope, tick: Tick, session: Session, pending: PendingCommand) -> Outcome:
        """Run one command, or do what the client wrote, and record its number and status beside its effect."""
        client, write = session.client, pending.write
        statuses = session.ledger.decided(CommandStatus.ACCEPTED)
        spec = None if pending.signature is None else self.world.commands[pending.signature.name]
        name = "write" if spec is None else spec.name
        tx = self._begin(scope, tick, name, 1, client.session, pending.sequence)
        sight = client._sight
        client._transaction = tx
        try:
            tx.update(
                client._key,
                "sessions",
                last_command=pending.sequence,
                last_status=int(CommandStatus.ACCEPTED),
                statuses=statuses,
            )
            if write is not None:
                self._permissions.apply(tx, client, *write)
            else:
                assert spec is not None
                arguments = _arguments(tx, spec, pending.values)
                spec.function(tx, client, **arguments)
            if tx.closed:
                raise InternalError(f"command {name!r} ended its transaction itself; it ends with the function")
            tx.commit()
        except Reject as reject:
            _undo(tx)
            self.commands_rejected += 1
            outcome = Outcome(CommandStatus.REJECTED, Reason.REJECTED, reject.reason)
        except WriteRefused as refused:
            _undo(tx)
            self.commands_rejected += 1
            outcome = refused.outcome
        except DiskFullError as error:
            _undo(tx)
            self.commands_rejected += 1
            self._report("disk", "full", tick, error)
            outcome = FULL
        except Exception as error:  # noqa: BLE001  (the game's own code, or what a client wrote)
            _undo(tx)
            told = outcome_of(error) if write is not None else None
            if told is not None:
                self.commands_rejected += 1
                outcome = told
            else:
                self.commands_failed += 1
                self._report("command", name, tick, error)
                outcome = INTERNAL
        else:
            self.commands_accepted += 1
            session.ledger.statuses = statuses
            return ACCEPTED
        finally:
            client._transaction = None
        client._sight = sight
        self.record(scope, tick, session, pending.sequence, outcome)
        return outcome

    def take_failure(self) -> Exception | None:
        """The first exception of the game's code since the last call, for a world that wants to see it raised."""
        failure, self._failure = self._failure, None
        return failure

    def count(self, outcome: Outcome) -> None:
        """A command that did not have to run: superseded, or refused for its arguments."""
        if outcome.status == CommandStatus.SUPERSEDED:
            self.commands_superseded += 1
        else:
            self.commands_rejected += 1

    def record(self, scope: TickScope, tick: Tick, session: Session, sequence: int, outcome: Outcome) -> None:
        """Note in the session's row how command `sequence` ended, without any other effect."""
        key, ledger = session.client._key, session.ledger
        ledger.statuses = ledger.decided(outcome.status)
        self._write_row(
            scope,
            tick,
            session.client.session,
            lambda tx: tx.update(
                key, "sessions", last_command=sequence, last_status=int(outcome.status), statuses=ledger.statuses
            ),
        )

    def system(self, scope: TickScope, tick: Tick, spec: SystemSpec) -> bool:
        """Run one system. False if it raised: then nothing of it was kept."""
        tx = self._begin(scope, tick, spec.name, spec.every)
        try:
            spec.function(tx)
            if not tx.closed:
                tx.commit()
        except Exception as error:  # noqa: BLE001  (the game's own code)
            _undo(tx)
            self.systems_failed += 1
            self._report("system", spec.name, tick, error)
            return False
        return True

    def _write_row(self, scope: TickScope, tick: Tick, session: int, write: Callable[[Transaction], object]) -> None:
        """Change sessions' rows and nothing else. It may be gone: nothing keeps a game from deleting it, and then the
        tick must go on for everybody else."""
        tx = self._begin(scope, tick, "sessions", 1, session)
        try:
            write(tx)
            tx.commit()
        except EcsnetError as error:
            _undo(tx)
            self.hooks_failed += 1
            self._report("session", "sessions", tick, error)

    def _begin(
        self, scope: TickScope, tick: Tick, name: str, every: int, session: int = 0, sequence: int = 0
    ) -> Transaction:
        return scope.transaction(name, dt=every / self.world.hz, random=self._random(tick, name, session, sequence))

    def _random(self, tick: Tick, name: str, session: int, sequence: int) -> Callable[[], np.random.Generator]:
        """A generator that depends on the world's seed, the tick and the function, and for a command on whose it is:
        two players who roll dice in one tick must not see the same. Made when first asked for; most never ask."""

        def make() -> np.random.Generator:
            text = f"{tick}/{name}/{session}/{sequence}".encode()
            seed = hashlib.blake2b(text, key=self._seed[:64], digest_size=16).digest()
            return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))

        return make

    def _report(self, role: str, name: str, tick: Tick, error: Exception) -> None:
        """Log with the traceback, once a second for each function: a command that can be made to fail must not let a
        client fill the node's disk."""
        if self._failure is None:
            self._failure = error
        last, more = self._logged.get((role, name), (None, 0))
        if last is not None and tick - last < self.world.hz:
            self._logged[(role, name)] = (last, more + 1)
            return
        self._logged[(role, name)] = (tick, 0)
        tail = f" ({more} more since it was last logged)" if more else ""
        log.error("%s %r raised in tick %d; its transaction was undone%s", role, name, tick, tail, exc_info=error)


def _undo(tx: Transaction) -> None:
    if not tx.closed:
        tx.rollback()


def _arguments(tx: Transaction, spec: CommandSpec, values: tuple[Any, ...]) -> dict[str, Any]:
    """The decoded values as the function wants them.

    Raises:
        Reject: an entity that is no longer alive. It was when the player aimed; that is nobody's mistake, so it is not
            the command's to find out by an exception.
    """
    arguments: dict[str, Any] = {}
    for parameter, value in zip(spec.parameters, values, strict=True):
        if parameter.kind is ParameterKind.ENUM:
            value = spec.enums[parameter.name](value)
        elif parameter.kind is ParameterKind.ENTITY and value != NULL_ENTITY and value not in tx:
            raise Reject(f"stale entity: {parameter.name}")
        arguments[parameter.name] = value
    return arguments
