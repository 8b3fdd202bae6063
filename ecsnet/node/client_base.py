"""What a game sees of its client, however the network is driven: a pinned version, events, commands.

Invariants:
- `view`, `entity`, `epoch` and `state` change in `poll` and nowhere else: what a game reads between two polls is of one
  moment;
- the game's thread waits for the network's at most as long as one frame takes to apply, and never for the network.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, overload

from ecsnet.errors import (
    AuthenticationError,
    ClosedError,
    ConnectError,
    EcsnetError,
    NotBuiltError,
    RemoteProtocolError,
    SchemaMismatchError,
)
from ecsnet.ids import EMPTY_VERSION, ClientId, Entity, Epoch, SessionId, Version
from ecsnet.node.replica_link import ReplicaLink
from ecsnet.replica import Event, Replica, ReplicaState, ReplicaStatistics, StateChanged, Ticket, is_event_row
from ecsnet.schema import Schema
from ecsnet.store import Condition, Store, Subscription, View
from ecsnet.wire.messages import Reason

if TYPE_CHECKING:
    from ecsnet.store.typed import Selector
    from ecsnet.world import Command, Given


class BaseClient:
    """A client of a node; `ecsnet.connect` and `ecsnet.open_client` make one, with a whole world in it."""

    def __init__(self, link: ReplicaLink) -> None:
        self._link = link
        self._view: View | None = None
        # What `_view` is of. After a reconnect a version's number alone does not tell: the new session shows a store of
        # its own, in which the same number may name another world.
        self._shown: tuple[Store | None, Version] = (None, EMPTY_VERSION)
        self._entity = Entity(0)
        self._epoch = Epoch(0)
        self._state: ReplicaState = "joining"
        self._reason = ""
        self._unread: list[Event] = []

    def __repr__(self) -> str:
        shown = "" if self._view is None else f", at version {self._view.version}"
        return f"<client {self.state}, entity {self._entity:#x}{shown}>"

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The authority's newest version as of the last `poll`: read-only numpy columns, consistent across tables.
        A view that is kept stays valid, and shows its version for as long as it is held. After the session's end this
        is the last one there was.

        Raises:
            ClosedError: after `close`.
        """
        if self._view is None:
            raise ClosedError("the client is closed; take a view before, and keep it")
        return self._view

    def subscribe(self, *tables: Any, where: Condition | None = None, timeout_s: float | None = None) -> Subscription:
        """What changes in this client's world from now on, as it is applied and not as it is polled: see
        `Store.subscribe`. A session that follows a lost one has a world of its own: then the subscription ends.

        Raises:
            ClosedError: after `close`. UnknownNameError, ArgumentError: as `Store.subscribe`.
        """
        store = self._replica.store
        if store is None:
            raise ClosedError("the client is closed")
        return store.subscribe(*tables, where=where, timeout_s=timeout_s)

    @property
    def version(self) -> Version:
        """The version of `view`."""
        return self.view.version

    @property
    def epoch(self) -> Epoch:
        """The history that `version` belongs to. Versions of different epochs cannot be compared; only a reconnect
        leads from one to another, and `EpochChanged` says so."""
        return self._epoch

    @property
    def entity(self) -> Entity:
        """Me: the entity that the game gave this client, as of the last `poll`; 0 for none."""
        return self._entity

    @property
    def state(self) -> ReplicaState:
        """`live` or `closed`, as of the last `poll`; without `reconnect=False` also `resuming`, from the loss of the
        connection until the session goes on."""
        return self._state

    @property
    def reason(self) -> str:
        """Why the client is closed, for people; empty before."""
        return self._reason

    @property
    def error(self) -> EcsnetError | None:
        """What ended the session, when it was neither side's goodbye."""
        return self._replica.error

    @property
    def name(self) -> str:
        return self._replica.name

    @property
    def session(self) -> SessionId:
        return self._replica.session

    @property
    def client_id(self) -> ClientId:
        return self._replica.client_id

    @property
    def reconnects(self) -> int:
        """How often another connection was found after one was lost."""
        return self._replica.connections_before

    @property
    def hz(self) -> int:
        """Ticks a second of the node."""
        return self._replica.hz

    @property
    def schema(self) -> Schema:
        schema = self._replica.schema
        assert schema is not None, "a client is handed out with a whole world"
        return schema

    def statistics(self) -> ReplicaStatistics:
        """Counts since the start; bytes are of whole frames."""
        with self._link.lock:
            return self._replica.statistics()

    # --- what it does ------------------------------------------------------------------------------------------------

    @overload
    def send(self, command: "Command[Given]", /, *nothing: "Given.args", **arguments: "Given.kwargs") -> Ticket: ...
    @overload
    def send(self, command: str, /, **arguments: Any) -> Ticket: ...

    # Arguments go by name; that they may not go by position is more than a ParamSpec can say.
    def send(self, command: str | Callable[..., Any], /, **arguments: Any) -> Ticket:  # type: ignore[misc]
        """Ask the authority to run a command, named by its function or by its name; checked here first.

        A `latest` command goes out at most once a tick, however often this is called. The ticket is `pending` and
        changes when the answer is there; `poll` returns that as an event, too.

        Raises:
            UnknownNameError, ArgumentError: no such command, or not its arguments. LimitExceededError: too many in a
            second, or too many unanswered. LocalProtocolError: the state is `resuming`. ClosedError: the session is
            over. In each case nothing was sent.
        """
        with self._link.lock:
            ticket = self._replica.send(command, **arguments)
        self._sent()
        return ticket

    def write(self, keys: Any, table: "Selector", /, **fields: Any) -> Ticket:
        """Write cells of a row, or of several, without a command: what the schema's `writers` leave to this client, as
        in `client.write(client.entity, Input, move=(1.0, 0.0))`.

        It goes out with the next tick's, and of two writes of the same cells before that only the newer one; the ticket
        of the other is `superseded`. The authority asks the rows for their owner and decides: a ticket whose `code` is
        `Reason.NOT_ALLOWED` was refused for want of a permission.

        Args:
            keys: a key, an array of them, or a query.
            fields: a value for all rows, or an array with one for each.

        Raises:
            UnknownNameError, ArgumentError: no such name, not its type, or not finite; a table that clients do not
            write. LimitExceededError: too many rows or bytes, too many in a second, or too many unanswered.
            LocalProtocolError, ClosedError: as `send`. In each case nothing was sent.
        """
        with self._link.lock:
            ticket = self._replica.write(keys, table, **fields)
        self._sent()
        return ticket

    def insert(self, what: Any, /, *rows: Any, **components: Any) -> Ticket:
        """Insert a row without a command: a component, `client.insert(entity, Shield(strength=3))`, or a row of a table
        with keys of its own, `client.insert(Mark(x=1.0))` or `client.insert("mark", {"x": 1.0})`. The key is in the
        view then, and not in the answer.

        Raises:
            ConstraintError: a field without a default is not given. Otherwise as `write`.
        """
        with self._link.lock:
            ticket = self._replica.insert(what, *rows, **components)
        self._sent()
        return ticket

    def delete(self, keys: Any, table: "Selector", /) -> Ticket:
        """Delete a row, or several, without a command: `client.delete(key, Mark)`.

        Raises:
            as `write`.
        """
        with self._link.lock:
            ticket = self._replica.delete(keys, table)
        self._sent()
        return ticket

    def cut_connection(self) -> None:
        """End the connection as a bad line does, at once and without a goodbye: for tests of what a game does then.
        With `reconnect` the client comes back. Nothing happens while there is none."""
        self._link.cut()

    def scene(self) -> NoReturn:
        """What to draw now: own entities predicted, others interpolated. Planned.

        Raises:
            NotBuiltError: always; `client.view` is the authority's newest version.
        """
        raise NotBuiltError("client.scene(): prediction and interpolation", "draw from client.view")

    def on_correction(self, function: Callable[..., Any]) -> NoReturn:
        """Hand what prediction got wrong to `function`. Planned.

        Raises:
            NotBuiltError: always.
        """
        raise NotBuiltError("client.on_correction: prediction", "client.view is never predicted")

    # --- for those that drive it -------------------------------------------------------------------------------------

    @property
    def _replica(self) -> Replica:
        return self._link.replica

    def _sent(self) -> None:
        """A command waits to be sent."""
        raise NotImplementedError

    def _start(self) -> None:
        """Show the first version. What led to it is no news to somebody who is handed it; what the game says has
        happened since is, and waits for the first `poll`."""
        self._unread = [event for event in self._swap() if is_event_row(event)]

    def _swap(self) -> list[Event]:
        """Take the newest whole version and everything that happened up to it."""
        if self._link.replica.store is None or (self._view is None and self._reason):
            return []
        events, self._unread = self._unread, []
        with self._link.lock:
            while (event := self._replica.next_event()) is not None:
                events.append(event)
            newest = self._replica.store, self._replica.version
            if newest != self._shown:
                # The old one is let go, not closed: the game may still hold it.
                self._view, self._shown = self._replica.view(), newest
                self._entity = self._replica.entity
            # A session that goes on from what is shown may do so in another epoch.
            self._epoch = self._replica.epoch
            self._state = self._replica.state
        for event in events:
            if isinstance(event, StateChanged) and event.new == "closed":
                self._reason = event.reason
        return events

    def _let_go(self) -> None:
        self._view = None
        self._state = "closed"
        self._reason = self._reason or "closed here"
        with self._link.lock:
            self._replica.release()


def raise_why_not_live(replica: Replica, address: str) -> NoReturn:
    """The session ended before there was a world.

    Raises:
        SchemaMismatchError, RemoteProtocolError: what the node said or sent is at fault.
        AuthenticationError: it does not believe who we say we are. ConnectError: it refused, ended or was lost.
    """
    if isinstance(replica.error, SchemaMismatchError):
        raise replica.error
    if replica.farewell is not None:
        reason, message = replica.farewell
        kind = AuthenticationError if reason == Reason.AUTH_FAILED else ConnectError
        raise kind(address, f"the node did not let us in: {message or reason.words}") from replica.error
    if isinstance(replica.error, RemoteProtocolError):
        raise replica.error
    why = "the connection was lost"
    while (event := replica.next_event()) is not None:
        if isinstance(event, StateChanged) and event.reason:
            why = event.reason
    if replica.statistics().bytes_received == 0 and address.startswith("tcp:"):
        why += ", and without a word; is it a node, and one that listens on tcp:// rather than tls://?"
    raise ConnectError(address, why) from replica.error


def no_world_in_time(address: str, wait_s: float) -> ConnectError:
    """The error of a client that waited long enough."""
    return ConnectError(address, f"no whole world within {wait_s:g} s; is the node busy? wait_s is how long to wait")
