"""The authority: takes in what clients send, steps the world, and hands out what they are to be sent.

A tick, in this order: sessions that ended leave, those that lost their links are noted or have been away for too long,
new ones join, commands run, systems run, one version is published.
Each function has a transaction of its own; clients are answered only once a version that contains the answer's reason
is published, so that nobody is told of something that the next delta might not have.

Invariants:
- it reads no clock, opens no socket, starts no thread: equal calls with equal seeds give equal bytes;
- nothing that a client sends raises out of `receive_frame`, or touches another client's link;
- a tick publishes at most one version; the entity and the command entry that ride in a delta are of its version;
- all that a session is, is in the store: another authority over the same store, now or after a crash, goes on with it.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ecsnet.auth.account import PLAYER, Account, Authenticate, Login, audience_of
from ecsnet.authority.audiences import Audience, Audiences
from ecsnet.authority.batch import Batch
from ecsnet.authority.datagram_link import DatagramLink
from ecsnet.authority.event_logs import event_logs
from ecsnet.authority.fan_out import FanOut
from ecsnet.authority.head import Head
from ecsnet.authority.in_step import InStep
from ecsnet.authority.link import Link, Transmit
from ecsnet.authority.logins import Logins, Refusal
from ecsnet.authority.noted import Noted
from ecsnet.authority.peering import Peering, PeeringSettings
from ecsnet.authority.reports import AuthorityStatistics, Observer, TickReport
from ecsnet.authority.resuming import going_on
from ecsnet.authority.sessions import Session, Sessions, hash_of_key
from ecsnet.authority.step import ACCEPTED, Step
from ecsnet.errors import (
    ArgumentError,
    ClosedError,
    EcsnetError,
    LimitExceededError,
    RemoteProtocolError,
)
from ecsnet.ids import EMPTY_VERSION, ClientId, Entity, Epoch, SessionId, Tick, Version
from ecsnet.limits import (
    AUDIENCES_OFF_LOOP_MIN,
    CLIENTS_MAX,
    FRAME_HEADER_BYTES,
    HANDSHAKES_AT_ONCE_MAX,
    LINGER_S_DEFAULT,
    LINGER_S_MAX,
    NS_PER_S,
    QUEUED_BYTES_MAX,
    RESUME_KEY_BYTES,
    SHUTDOWN_NS_MAX,
)
from ecsnet.schema import Table
from ecsnet.session.server import (
    AckReceived,
    HelloReceived,
    Offer,
    Outcome,
    PeerLeft,
    ResumeReceived,
    ServerSession,
)
from ecsnet.session.states import MAY_PASS
from ecsnet.sight import Sight
from ecsnet.store import Store, TickScope
from ecsnet.wire.codec import ACK_BYTES, ack_frame
from ecsnet.wire.messages import COMPRESSION, WAITING, Kind, Reason, Resume
from ecsnet.world import Client, World

log = logging.getLogger("ecsnet.authority")

_ACK = int(Kind.ACK)


class Authority:
    """One world and its clients.

    Args:
        world: what runs.
        store: where it lives; None makes one in memory, which `close` closes.
        seed: session ids and the keys that resume them, and the epoch where none is given. A driver gives one that
            nobody can guess.
        epoch: the history that this store continues; None is the store's own, or a new one for a store that has none.
        digest_every_version: every delta carries a digest, for tests and simulations; else one a second does.
        linger_s: how long a session waits for a client that lost its link; 0 ends it with the link.
        authenticate: who strangers are; None is the world's own, and where that has none everybody is a player.
        peering: who this node is among several that write the same tables; None where there is no other.
        compress: whether blocks are compressed for clients that can read that, where it makes them smaller.

    Raises:
        LimitExceededError: a row of an event table may be too large for a message.
        ArgumentError: `linger_s`; or the node's number, or no table of the schema is written by several nodes.
    """

    def __init__(
        self,
        world: World,
        store: Store | None = None,
        *,
        seed: int = 0,
        epoch: int | None = None,
        digest_every_version: bool = False,
        linger_s: float = LINGER_S_DEFAULT,
        authenticate: Authenticate | None = None,
        peering: PeeringSettings | None = None,
        compress: bool = True,
    ) -> None:
        if not 0 <= linger_s <= LINGER_S_MAX:
            raise ArgumentError(f"linger_s is {linger_s!r}; it must be in [0, {LINGER_S_MAX:g}]")
        self.world = world
        world.seal()
        self._owns_store = store is None
        self.store = Store(world.schema) if store is None else store
        self._seed = seed.to_bytes(max(8, (seed.bit_length() + 7) // 8), "little")[:64]
        if epoch is None:
            epoch = self.store.epoch or (self._number("epoch", 0) & 0xFFFF_FFFF) or 1
        self.epoch = Epoch(epoch)
        self.store.epoch = self.epoch
        self.tick_number = Tick(self.store.tick_number)
        if self.tick_number:
            # Of a store that was used before: with an equal seed, too, this authority gives other numbers.
            self._seed = self._secret(f"from tick {self.tick_number}", 64)
        # At least a tick, or who is to linger would be gone before it is looked for.
        self._linger_ticks = max(1, round(linger_s * world.hz)) if linger_s else 0
        self.digest_every_version = digest_every_version
        self.observer: Observer | None = None
        self.on_durable: Callable[[], object] | None = None
        """Of a store on disk: called on any thread when there is something to do for `handle_durable`."""
        self._disk = self.store.disk
        self._offer = Offer(
            fingerprint=world.schema.fingerprint,
            canonical=world.schema.canonical,
            commands=world.signatures,
            hz=world.hz,
            name=world.schema.name,
            features=COMPRESSION if compress else 0,
        )
        self.store.retain_for_clients()
        self._step = Step(world)
        self._kernel = self.store.kernel
        self.peering: Peering | None = None
        """The links to other nodes that write the same tables."""
        if peering is not None:
            self.store.baton.take()
            try:
                self.peering = Peering(self._kernel, peering, epoch=self.epoch, seed=self._secret("peering", 64))
            finally:
                self.store.baton.give()
        self._head = Head(self._kernel)
        self._audiences = Audiences(self.store, self._head, world)
        self._first_sight = Sight(budget_bytes_s=world.budget_bytes_s)
        self._bounded: list[Client] = []
        """Clients of whose budgets the game has said something."""
        self._events = event_logs(self.store, self._audiences.profiles, self.epoch)
        self._digest_window = 0
        self._in_step = InStep()
        self._fan_out = FanOut(
            self._head,
            self._audiences,
            self._events,
            self._in_step,
            window_of=self._window_of,
            part=self._part_soon,
        )
        self._sessions_table = world.schema.table("sessions")
        self._entity_field = world.schema["sessions.entity"]
        self._session_rows = (b"", b"")
        """Keys and entities of the sessions' rows as they were looked at last: in most ticks nobody gets another."""
        self._links: dict[int, Link] = {}
        self._sessions = Sessions()
        self._joining: list[Link] = []
        self._leaving: list[Session] = []
        self._moved: dict[int, Session] = {}
        """By number, those that lost a link or found one since the last tick: their rows are to say so."""
        with self.store.view() as view:
            recovered = self._sessions.recover(view, self.version, self.tick_number)
        for session in recovered:
            self._begin_sight(session.client)
            session.audience = self._audiences.of(session.client)
            session.audience.here = not session.audience.own
            if self._linger_ticks:
                self._moved[session.client.session] = session
            else:
                self._leaving.append(session)
        # What is told once a version is there, by that version: views that somebody holds, and a disk, can defer it.
        self._answers: deque[tuple[Version, int, Session, int, Outcome]] = deque()
        self._arrivals: deque[tuple[Version, int, Link]] = deque()
        self._undated: list[tuple[Session, int, Outcome]] = []
        """Answers of a tick whose version has not been made yet."""
        self._links_opened = 0
        self._sessions_made = 0
        self._next_timeout_ns: int | None = None
        self._noted = Noted(log)
        hook = world.authenticate_hook if authenticate is None else authenticate
        self._logins = Logins(hook, audience_of(world.schema.name, world.schema.fingerprint), self._noted)
        self._shutting_down = False
        self._closed = False
        self._joins = 0
        self._resumes = 0
        self._resumes_in_place = 0
        self._leaves = 0
        self._links_failed = 0
        self._links_too_slow = 0
        self._past = [0, 0, 0, 0, 0]
        """Counts of links that are gone: full syncs, bytes sent, sync bytes sent, bytes and frames received."""

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        """The newest published version."""
        return self.store.version

    @property
    def links(self) -> tuple[Link, ...]:
        """The links that are open, in the order in which they were opened."""
        return tuple(self._links.values())

    @property
    def newest_block(self) -> bytes | None:
        """The block of the newest ordinary delta that several clients share, for figures; None before the first."""
        return self._audiences.newest

    @property
    def event_log_bytes(self) -> int:
        """What event rows take up that are kept for links that are behind."""
        return 0 if self._events is None else self._events.kept_bytes

    @property
    def clients(self) -> tuple[Client, ...]:
        """The clients that have joined, in the order of their links."""
        return tuple(link.client for link in self._links.values() if link.joined and link.client is not None)

    def statistics(self) -> AuthorityStatistics:
        """Counts and sizes; costs a pass over the links."""
        totals = list(self._past)
        for link in self._links.values():
            for number, value in enumerate(_counts(link)):
                totals[number] += value
        return AuthorityStatistics(
            tick=self.tick_number,
            version=self.version,
            staleness=self._kernel.staleness,
            epoch=self.epoch,
            links=len(self._links),
            sessions=len(self._sessions.by_key),
            away=self._sessions.away,
            joins=self._joins,
            resumes=self._resumes,
            resumes_in_place=self._resumes_in_place,
            leaves=self._leaves,
            links_failed=self._links_failed,
            links_too_slow=self._links_too_slow,
            commands_accepted=self._step.commands_accepted,
            commands_rejected=self._step.commands_rejected,
            commands_superseded=self._step.commands_superseded,
            commands_failed=self._step.commands_failed,
            systems_failed=self._step.systems_failed,
            hooks_failed=self._step.hooks_failed,
            deltas_encoded=self._head.encoded,
            deltas_encoded_bytes=self._head.encoded_bytes,
            deltas_shared=self._head.shared,
            digests_computed=self._head.digests_computed,
            full_syncs=totals[0],
            bytes_sent=totals[1],
            sync_bytes_sent=totals[2],
            bytes_received=totals[3],
            frames_received=totals[4],
            logins_refused=self._logins.refused,
            logins_failed=self._logins.failed,
            bytes_by_field=self._bytes_by_field(),
        )

    def _bytes_by_field(self) -> dict[str, int]:
        names: dict[tuple[int, int | None], str] = {}
        for table in self.world.schema.tables:
            names[table.id, None] = table.name
            for field in table.fields:
                names[table.id, field.id] = f"{table.name}.{field.name}"
        return {names[table, field]: length for table, field, length in self._kernel.encoded_bytes() if length}

    def digest_for(self, link: Link) -> str:
        """The digest of what a link's session may see in the newest published version, 32 hex digits: what the view of
        a client has that holds it. Scans what it sees."""
        self._refresh()
        return link.audience.blocks.digest().hex()

    def seen_by(self, link: Link, table: Table) -> NDArray[np.uint64]:
        """The keys of the rows of a table that a link's session may see in the newest published version: read-only, or
        the caller's own."""
        self._refresh()
        return self._audiences.keys_seen(link.audience, table)

    # --- what arrives ------------------------------------------------------------------------------------------------

    def open_link(self, now_ns: int, *, peer: str = "?", datagrams: bool = False, local: bool = False) -> Link:
        """A transport was accepted. The stranger behind it has until the handshake deadline to become a client.

        Args:
            datagrams: what is sent may be lost, unless `Transmit.reliable` says that it must not.
            local: the stranger is on this machine, which no line is between.

        Raises:
            LimitExceededError: enough links, or enough unfinished handshakes. Nothing was made; close the transport.
            ClosedError: the authority is shutting down.
        """
        if self._shutting_down or self._closed:
            raise ClosedError("the authority is shutting down; it takes no new links")
        if len(self._links) >= CLIENTS_MAX:
            raise LimitExceededError("CLIENTS_MAX", CLIENTS_MAX, len(self._links) + 1)
        handshakes = sum(link.client is None for link in self._links.values())
        if handshakes >= HANDSHAKES_AT_ONCE_MAX:
            raise LimitExceededError("HANDSHAKES_AT_ONCE_MAX", HANDSHAKES_AT_ONCE_MAX, handshakes + 1)
        self._links_opened += 1
        kind = DatagramLink if datagrams else Link
        server = ServerSession(self._offer, now_ns=now_ns, datagrams=datagrams)
        link = kind(self._links_opened, peer, server, local=local)
        link.audience = self._audiences.everybody
        self._links[link.number] = link
        self._in_step.opened(link)
        self._arm(link)
        return link

    def close_link(self, link: Link, now_ns: int) -> None:
        """The transport is gone. Its session waits for another one, for `linger_s`, or ends in the next tick where
        either side has said that it is over. Closing twice is closing once."""
        if self._links.pop(link.number, None) is None:
            return
        self._in_step.closed(link)
        link.transport_open = False
        for number, value in enumerate(_counts(link)):
            self._past[number] += value
        if link in self._joining:
            self._joining.remove(link)
        session = link.session_of
        if session is None or session.link is not link:
            return  # nobody's, or it has another by now
        session.link = None
        self._audiences.lost(session.audience)
        if not session.joined:
            self._sessions.remove(session)
        elif self._linger_ticks and (link.server.farewell is None or link.server.farewell in MAY_PASS):
            self._moved[session.client.session] = session
            longest = self._sessions.lost(session)
            if longest is not None:
                self._leaving.append(longest)
        else:
            self._leaving.append(session)

    def receive_frame(
        self,
        link: Link,
        kind: int,
        payload: bytes | bytearray | memoryview,
        now_ns: int,
        *,
        reliable: bool = True,
    ) -> None:
        """One whole frame from a client. Whatever is wrong with it ends this link, with an Error that says why, and
        changes nothing else. Not `reliable`: a datagram brought it outside of the lane."""
        if kind == _ACK and link.row is not None and self._in_step.take_ack(link, payload, now_ns):
            return
        if not link.transport_open or link.server.closed or link.cut:
            return
        link.frames_received += 1
        link.bytes_received += len(payload)
        try:
            if kind == _ACK and (ack := link.server.take_ack(payload, now_ns)) is not None:
                link.window.ack_untrusted(*ack, now_ns)
                return
            link.server.receive_frame(kind, payload, now_ns, reliable=reliable)
            self._drain(link, now_ns)
        except RemoteProtocolError as error:
            self.receive_error(link, error, now_ns)
        except Exception as error:  # noqa: BLE001  (the last line: a bug in here must cost a link, not the node)
            text = "a frame of kind %d from %s found a bug; its link is closed"
            self._noted.tell(now_ns, logging.ERROR, text, kind, link.peer, error=error)
            self.receive_error(link, RemoteProtocolError("internal error", reason=Reason.INTERNAL), now_ns)

    def receive_ack(self, link: Link, session: int, version: int, epoch: int, chunks: int, now_ns: int) -> None:
        """The same for an ack that a hub has read already."""
        server = link.server
        if not link.transport_open or server.closed or link.cut:
            return
        if not server.take_ack_of(session, epoch, now_ns):
            self.receive_frame(link, _ACK, ack_frame(session, version, epoch, chunks)[FRAME_HEADER_BYTES:], now_ns)
            return
        link.frames_received += 1
        link.bytes_received += ACK_BYTES - FRAME_HEADER_BYTES
        try:
            link.window.ack_untrusted(version, chunks, now_ns)
        except RemoteProtocolError as error:
            self.receive_error(link, error, now_ns)

    def receive_acks(self, acks: NDArray[np.void], now_ns: int) -> NDArray[np.void]:
        """The same for all acks that a hub has read at a time, by the places of their links. Those that are not
        ordinary are given back: they are for `receive_ack`."""
        return self._in_step.take_acks(acks, now_ns)

    def receive_error(self, link: Link, error: RemoteProtocolError, now_ns: int) -> None:
        """What arrived on the link are not frames, or not ours: tell the client why, and close."""
        if not link.transport_open or link.server.closed:
            return
        self._links_failed += 1
        self._noted.tell(now_ns, logging.INFO, "link of %s failed: %s", link.peer, error)
        link.server.fail(error)
        self._ending(link, now_ns)

    def next_timeout_ns(self) -> int | None:
        """When `handle_timeout` wants to be called, at the latest; None while there is nothing to wait for."""
        return self._next_timeout_ns

    def handle_timeout(self, now_ns: int) -> None:
        """Deadlines: unfinished handshakes, silent links, clients that take nothing. May be called at any time."""
        due_ns, self._next_timeout_ns = self._next_timeout_ns, None
        if due_ns is not None and now_ns - due_ns > NS_PER_S:
            # We were away: a debugger, a suspended machine. What the clients said meanwhile lies unread in the sockets,
            # so their silence is ours. Look again when there was time to read.
            for link in self._links.values():
                link.forgive(now_ns)
            self._arm_at(now_ns + NS_PER_S)
            return
        self._in_step.look(now_ns)
        for link in self._in_step.others:
            deadline = link.server.next_timeout_ns()
            if deadline is not None and deadline <= now_ns and not link.server.closed:
                link.server.handle_timeout(now_ns)
                try:
                    self._drain(link, now_ns)
                except RemoteProtocolError as error:
                    self.receive_error(link, error, now_ns)
            if not link.server.closed and (link.is_too_slow(now_ns) or link.control_bytes() > QUEUED_BYTES_MAX):
                self._links_too_slow += 1
                text = "link of %s is too slow: %d frames unacked"
                self._noted.tell(now_ns, logging.INFO, text, link.peer, link.window.unacked)
                link.server.goodbye(Reason.TOO_SLOW, "the link took too little for too long")
                self._ending(link, now_ns)
                # What blocks the link blocks the goodbye.
                link.cut = link.cut or link.blocked_since_ns is not None
            if link.server.closed and link.close_by_ns is None:
                self._ending(link, now_ns)
            if link.close_by_ns is not None and link.close_by_ns <= now_ns:
                link.cut = True
            self._arm(link)
        if self._links:
            # Slowness has no deadline of its own in a session: look once a second.
            self._arm_at(now_ns + NS_PER_S)

    # --- commands of the driver --------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> TickReport:
        """Step the world once and publish what changed as one version.

        Raises:
            BusyError: somebody else holds the writer's baton. Nothing was done, not even the tick counted.
            Exception: with `on_error="raise"`, the first one that the game's code raised. Its transaction is undone,
                the rest of the tick is done and published.
            DataFailedError: the disk has failed. What was told is durable; nothing more is told, and nothing was done.
        """
        if self._closed:
            raise ClosedError("the authority is closed")
        if self._disk is not None and self._disk.failure is not None:
            raise self._disk.failure
        tick = Tick(self.tick_number + 1)
        step = self._step
        failed_before = step.systems_failed
        commands = 0
        joins: list[Link] = []
        with self.store.tick(tick) as scope:
            self.tick_number = tick
            if self.peering is not None:
                self.peering.begin_tick(now_ns)
            leaving, self._leaving = self._leaving, []
            for session in leaving:
                commands += self._run_commands(scope, tick, session)
                self._leave(scope, tick, session)
            if self._moved:
                commands += self._note_moved(scope, tick)
            if self._sessions.away:
                for session in self._sessions.expired(tick):
                    self._leave(scope, tick, session)
            joining, self._joining = self._joining, []
            for link in joining:
                if self._join(scope, tick, link, now_ns):
                    joins.append(link)
            for link in self._in_step.others:
                if link.joined and link.server.ledger.waiting:
                    assert link.session_of is not None
                    commands += self._run_commands(scope, tick, link.session_of)
            for system in self.world.systems:
                if tick % system.every == 0:
                    ok = step.system(scope, tick, system)
                    if self.observer is not None:
                        self.observer.system(tick, system.name, ok)
            if self._audiences.wants_version:
                # A world that stands still makes none.
                self._audiences.wants_version = False
                if self._sessions.by_key:
                    step.touch(scope, tick, next(iter(self._sessions.by_key.values())))
            level = 0 if self._disk is None else self._disk.next_level
            version = scope.publish()
            made = Version(self._kernel.head_version)
            self._answers.extend((made, level, *answer) for answer in self._undated)
            self._undated.clear()
            self._arrivals.extend((made, level, link) for link in joins)
        self._tell_what_is_there()
        if self.peering is not None:
            self.peering.end_tick()
        if self._disk is not None and version is not None and not self._disk.reached(made, level):
            self._disk.expect(made, level, self._on_durable)
        if self._next_timeout_ns is not None and self._next_timeout_ns <= now_ns:
            self.handle_timeout(now_ns)
        failure = step.take_failure()
        if failure is not None and self.world.on_error == "raise":
            raise failure
        return TickReport(tick, version, commands, step.systems_failed - failed_before)

    async def log_in(self, login: Login) -> object:
        """Ask an `authenticate` that waits. For the driver, where a link has a `login`: it hands what comes of it to
        `settle_login`. Nothing is raised, and it may be cancelled."""
        return await self._logins.wait(login)

    def settle_login(self, link: Link, said: object, now_ns: int) -> None:
        """What `log_in` said of a link's `login`. Nothing happens if the link is gone by now."""
        if link.login is None or not link.transport_open or link.server.closed:
            return
        self._settle(link, link.login, said, now_ns)
        self._drain(link, now_ns)

    def handle_durable(self) -> None:
        """Of a store on disk, between two ticks: what became durable may be told now. Ask for what there is to send."""
        if not self._closed:
            self._tell_what_is_there()

    def kick(self, link: Link, reason: str, now_ns: int) -> None:
        """End a client's session; it is told the reason."""
        if link.transport_open and not link.server.closed:
            link.server.goodbye(Reason.KICKED, reason)
            self._ending(link, now_ns)

    def shutdown(self, now_ns: int, reason: str = "the node shuts down") -> None:
        """Say goodbye to everybody and take no new links. Go on serving until no link is left, at most
        `SHUTDOWN_NS_MAX`; then `links_to_close` names the rest."""
        self._shutting_down = True
        for link in self._links.values():
            if not link.server.closed:
                link.server.goodbye(Reason.SHUTDOWN, reason)
            self._ending(link, now_ns)

    def close(self) -> None:
        """Let go of the store, and close it if it was made here. Views that somebody holds stay valid."""
        if self._closed:
            return
        self._closed = True
        if self.peering is not None:
            self.peering.close()
        self._head.close()
        if not self.store.closed:
            self.store.follow_events(None)
        if self._owns_store:
            self.store.close()

    # --- what must go out --------------------------------------------------------------------------------------------

    def block(self, base: Version) -> bytes:
        """Everything that changed in `(base, version]`, as those are sent it who hold `base`; cut once for all of them.

        Raises:
            HistoryGone: what changed since `base` is not kept any more.
        """
        self._refresh()
        return self._audiences.everybody.blocks.whole(base).block

    def links_to_serve(self, now_ns: int) -> list[Link]:
        """Links with something to send now, in the order in which they were opened."""
        self._refresh()
        return [link for link in self._links.values() if not link.cut and link.wants(now_ns)]

    def deltas_to_send(self, now_ns: int) -> Batch:
        """The ordinary fan-out: one delta for each live link that has a place and nothing else to say. Offer what the
        batch has to the places, say by `record_batch` what came of it, then serve `batch.rest`.

        Nothing has happened until then; asking again gives it again, cut from the newest version.
        """
        self._refresh()
        return self._fan_out.deltas(self.epoch, now_ns)

    def work_before_sending(self, now_ns: int) -> Callable[[], None] | None:
        """What a driver may call on another thread after a tick, and before `deltas_to_send`, while its own goes on: to
        find out what each of many sessions sees, and to encode it. None where there is little of it.

        The driver waits for it before the next tick. Whatever it asks of the authority meanwhile is right, and waits
        for as long as that takes where it must.
        """
        if self._audiences.own < AUDIENCES_OFF_LOOP_MIN:
            return None
        self._refresh()
        return self._fan_out.work()

    def record_batch(self, batch: Batch, taken: NDArray[np.int32], now_ns: int) -> None:
        """What came of a batch, by entry: how many bytes its place took (0: nothing now), or less than nothing where
        the connection is gone. Of a frame that was begun the rest follows before anything else."""
        self._fan_out.record(batch, taken, now_ns)

    def links_to_close(self) -> list[Link]:
        """Links that the driver is to cut now, and then to report by `close_link`."""
        return [link for link in self._in_step.others if link.cut or (link.server.closed and link.control_bytes() == 0)]

    def next_transmit(self, link: Link, now_ns: int) -> Transmit | None:
        """The next frame for a link, or None. Nothing has happened until `record_sent`; asking again gives it again,
        cut from the newest version. The parts belong to the caller and are shared with other links: do not change them.
        """
        if not link.transport_open or link.cut:
            return None
        if self._kernel.published_version != self._head.version:
            self._refresh()
        transmit = link.next_transmit(now_ns, self._window_of(link.audience))
        if transmit is None and link.misses_events:
            self._part_soon(link, now_ns)
        return transmit

    def record_sent(self, link: Link, transmit: Transmit, now_ns: int) -> None:
        """The driver wrote the frame, or wrote a part of it and will write the rest before anything else."""
        link.record_sent(transmit, now_ns)

    def record_blocked(self, link: Link, now_ns: int) -> None:
        """The link took nothing. Ask again when it may."""
        link.record_blocked(now_ns)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _window_of(self, audience: Audience) -> int:
        """Digests go once a window. Where each audience needs one of its own, not all in one tick."""
        if self.digest_every_version or not audience.own:
            return self._digest_window
        assert audience.handle is not None
        return (self._head.tick + audience.handle) // self.world.hz

    def _part_soon(self, link: Link, now_ns: int) -> None:
        """The link was too slow for its event rows. It may have room again, and is told goodbye."""
        link.blocked_since_ns = None
        self._arm_at(now_ns)

    def _drain(self, link: Link, now_ns: int) -> None:
        while (event := link.server.next_event()) is not None:
            match event:
                case AckReceived():
                    link.window.ack_untrusted(event.version, event.chunks, now_ns)
                case HelloReceived():
                    self._ask_who(link, now_ns)
                case ResumeReceived():
                    self._resume(link, event.resume)
                case PeerLeft():
                    log.debug("%s left: %s %s", link.peer, event.reason.words, event.message)
        if link.server.closed:
            self._ending(link, now_ns)

    def _ask_who(self, link: Link, now_ns: int) -> None:
        """The stranger said hello: find out who it is, or let the driver wait for that."""
        if self._shutting_down:
            link.server.refuse(Reason.SHUTDOWN, "the node shuts down")
        elif self._logins.is_open:
            self._admit(link, None)
        else:
            link.login = self._logins.login(link)
            if not self._logins.waits:
                self._settle(link, link.login, self._logins.ask(link.login), now_ns)

    def _settle(self, link: Link, login: Login, said: object, now_ns: int) -> None:
        link.login = None
        answer = self._logins.judge(login, said, now_ns)
        if isinstance(answer, Refusal):
            link.server.refuse(answer.reason, answer.message)
        elif self._shutting_down:
            link.server.refuse(Reason.SHUTDOWN, "the node shuts down")
        else:
            self._admit(link, answer)

    def _admit(self, link: Link, account: Account | None) -> None:
        """Give the stranger a session. It joins the world in the next tick."""
        number = 0
        while number == 0 or number in self._sessions:
            self._sessions_made += 1
            number = self._number("session", self._sessions_made)
        key = self._secret(f"resume/{number}", RESUME_KEY_BYTES) if self._linger_ticks else b""
        # Without authentication an account lasts as long as its session.
        client_id = number if account is None else account.client_id
        name = link.server.peer_name if account is None else account.name or link.server.peer_name
        client = Client(SessionId(number), ClientId(client_id), name, PLAYER if account is None else account.role)
        self._begin_sight(client)
        session = Session(client, hash_of_key(key), link.server.ledger)
        link.client, link.session_of, session.link = client, session, link
        self._sessions.add(session)
        link.server.welcome(
            session=number,
            client_id=client_id,
            epoch=self.epoch,
            version=self.version,
            tick=self.tick_number,
            resume_key=key,
        )
        if not link.server.closed:
            self._joining.append(link)
            self._note_features(link)

    def _note_features(self, link: Link) -> None:
        if link.server.features & COMPRESSION:
            self._head.compresses = True

    def _resume(self, link: Link, resume: Resume) -> None:
        """The stranger says that it has been here before: if it can prove it, it goes on where it was."""
        if self._shutting_down:
            link.server.refuse(Reason.SHUTDOWN, "the node shuts down")
            return
        session = self._sessions.find_untrusted(resume.session, resume.resume_key)
        if session is None or not session.joined or session in self._leaving:
            link.server.refuse_resume(resume, Reason.AUTH_FAILED)
            return
        self._refresh()
        held = (resume.epoch, resume.version)
        assert session.audience is not None
        born = session.audience.born
        if resume.features & WAITING:
            # What waits is remembered by who left it waiting, and by nobody else: no other process, no shared audience.
            born = session.audience.made if session.audience.own else self._head.version
        events = None if self._events is None else self._events.of(session.client.role)
        base, events_from = going_on(held, self.epoch, self.store.ancestors, self._head.pin, events, born)
        resumed = link.server.resumed(
            resume,
            session.ledger,
            client_id=session.client.client_id,
            epoch=self.epoch,
            version=base,
            tick=self.tick_number,
            events_from=events_from,
        )
        if not resumed:
            link.server.refuse_resume(resume, Reason.BAD_STATE)
            return
        self._note_features(link)
        before = session.link
        if before is not None:
            # The client knows that it lost it, and the node does not yet. Nobody listens there.
            before.cut, before.live, before.joined = True, False, False
        self._sessions.returned(session, link)
        assert session.audience is not None
        link.audience = session.audience
        link.events = events
        self._audiences.returned(session.audience)
        self._moved[session.client.session] = session
        link.client, link.session_of, link.joined = session.client, session, True
        link.entity = session.client._entity
        if base != EMPTY_VERSION:
            link.go_on_from(base, events_from)
        self._resumes += 1
        self._resumes_in_place += base != EMPTY_VERSION
        # Its row may be in a version that is not there yet.
        level = 0 if self._disk is None else self._disk.level
        self._arrivals.append((Version(self._kernel.head_version), level, link))
        self._tell_what_is_there()

    def _join(self, scope: TickScope, tick: Tick, link: Link, now_ns: int) -> bool:
        session = link.session_of
        assert session is not None
        if link.server.closed:
            return False
        outcome = self._step.join(scope, tick, session)
        if outcome is not ACCEPTED:
            link.server.refuse(outcome.code, outcome.message)
            self._sessions.remove(session)
            self._ending(link, now_ns)
            return False
        link.joined = True
        session.audience = link.audience = self._audiences.of(session.client)
        link.events = None if self._events is None else self._events.of(session.client.role)
        self._sessions.joined(session)
        self._joins += 1
        if self.observer is not None:
            self.observer.joined(tick, session.client)
        return True

    def _leave(self, scope: TickScope, tick: Tick, session: Session) -> None:
        self._step.leave(scope, tick, session.client)
        if self.observer is not None:
            self.observer.left(tick, session.client)
        self._sessions.remove(session)
        assert session.audience is not None
        self._audiences.close(session.audience)
        self._moved.pop(session.client.session, None)
        self._leaves += 1

    def _note_moved(self, scope: TickScope, tick: Tick) -> int:
        """Rows say who is away, and until when. What those have asked for before they lost their links is done."""
        moved, self._moved = self._moved, {}
        commands = 0
        for session in moved.values():
            if session.link is None:
                session.expires_tick = Tick(tick + self._linger_ticks)
                commands += self._run_commands(scope, tick, session)
            else:
                session.expires_tick = Tick(0)
        self._step.expire(scope, tick, moved.values())
        return commands

    def _run_commands(self, scope: TickScope, tick: Tick, session: Session) -> int:
        taken = session.ledger.take()
        for command in taken:
            if command.verdict is None:
                outcome = self._step.command(scope, tick, session, command)
            else:
                outcome = command.verdict
                self._step.count(outcome)
                # One row keeps one number: the next command of this tick that runs writes a higher one.
                if command is taken[-1]:
                    self._step.record(scope, tick, session, command.sequence, outcome)
                else:
                    session.ledger.statuses = session.ledger.decided(outcome.status)
            self._undated.append((session, command.sequence, outcome))
            if self.observer is not None:
                self.observer.command(tick, session.client, command, outcome)
        return len(taken)

    def _tell_what_is_there(self) -> None:
        """After a publication: what was waiting for it may be told. What is not published yet waits with its data, and
        an answer for as long as its version may still be lost in a crash that the store's durability survives. To be
        let in is an answer, too: whoever sees the world has a session that such a crash does not end."""
        self._refresh()
        answers, arrivals = self._answers, self._arrivals
        while answers and self._is_there(answers[0][0], answers[0][1]):
            version, _, session, sequence, outcome = answers.popleft()
            session.answer(sequence, outcome, version=version, tick=self.tick_number)
        while arrivals and self._is_there(*arrivals[0][:2]):
            *_, link = arrivals.popleft()
            link.live = link.session_of is not None and link.session_of.link is link

    def _is_there(self, version: Version, level: int) -> bool:
        return version <= self._head.version and (self._disk is None or self._disk.reached(version, level))

    def _on_durable(self, error: EcsnetError | None) -> None:
        """A version is as durable as it is to be, or never will be. On any thread."""
        if self.on_durable is not None:
            self.on_durable()

    def _refresh(self) -> None:
        """Go on with the newest published version, and with what its sessions' rows say."""
        if self._bounded:
            self._bound()
        refreshed = self._audiences.refresh()
        if self._events is not None:
            self._events.take_in()
        if not refreshed:
            return
        self._digest_window = self._head.version if self.digest_every_version else self._head.tick // self.world.hz
        pin, table = self._head.pin, self._sessions_table
        entities, keys = pin.column(table.id, self._entity_field.id), pin.keys(table.id)
        rows = (keys.tobytes(), entities.tobytes())
        if rows == self._session_rows:
            return
        self._session_rows = rows
        for key, entity in zip(keys.tolist(), entities.tolist(), strict=True):
            session = self._sessions.by_key.get(key)
            if session is not None:
                session.client._entity = Entity(entity)
                if session.link is not None:
                    session.link.entity = session.client._entity

    def _begin_sight(self, client: Client) -> None:
        """What the game says of the client's sight from now on is heard."""
        client._sight, client._bounded = self._first_sight, self._bounded.append
        client._looks = self._audiences.sight_changed

    def _bound(self) -> None:
        """A session that has a budget has an audience of its own: what waits for it waits for nobody else."""
        clients, self._bounded[:] = list(self._bounded), []
        for client in clients:
            session = self._sessions.by_key.get(client._key)
            if session is None or session.client is not client or session.audience is None or session.audience.own:
                continue
            if client._sight.budget_bytes_s is not None:
                session.audience = self._audiences.of(client)
                if session.link is None:
                    self._audiences.lost(session.audience)
                else:
                    session.link.leave_step()
                    session.link.audience = session.audience

    def _ending(self, link: Link, now_ns: int) -> None:
        """The session is over; the link has a moment to carry the goodbye."""
        if link.close_by_ns is None:
            link.close_by_ns = now_ns + SHUTDOWN_NS_MAX
            self._arm_at(link.close_by_ns)

    def _arm(self, link: Link) -> None:
        if not link.server.closed:
            self._arm_at(link.server.next_timeout_ns())
        elif not link.cut:
            self._arm_at(link.close_by_ns)

    def _arm_at(self, deadline_ns: int | None) -> None:
        # Deadlines only move back by what arrives, so the earliest known is at worst a call too many.
        if deadline_ns is not None and (self._next_timeout_ns is None or deadline_ns < self._next_timeout_ns):
            self._next_timeout_ns = deadline_ns

    def _number(self, what: str, count: int) -> int:
        """A u64 that follows from the seed, and from which neither the seed nor another number follows."""
        return int.from_bytes(self._secret(f"{what}/{count}", 8), "little")

    def _secret(self, what: str, length: int) -> bytes:
        return hashlib.blake2b(what.encode(), key=self._seed, digest_size=length).digest()


def _counts(link: Link) -> tuple[int, int, int, int, int]:
    return link.full_syncs, link.bytes_sent, link.sync_bytes_sent, link.bytes_received, link.frames_received
