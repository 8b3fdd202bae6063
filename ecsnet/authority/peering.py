"""Several authorities over tables that all of them write (`conflict = "lww"`), without sockets and without a clock.

Each has a store of its own and everything in it but those tables for itself. Of those tables each tells the others what
was written, as what it is now: the stamps of the cells decide, in `kernel/zig/stamps.zig`, so it does not matter in
which order and how often that comes. What does matter is that a reader never sees an effect without its cause:

    A writes  door = open                                        version 7 of A
    B is told that, and writes  guard = asleep                   version 4 of B, whose clock is {A: 7, B: 4}
    C is told B's 4 first: it waits, until A's 7 is there        for a guard asleep at a closed door was never seen

A frame's clock names what its writer knew: per node the version up to which everything of it was there. A link that
*relays* tells what others wrote too, so that nothing it names can be missing; one that does not relies on everybody
having a link to everybody, and on waiting. Waiting has an end (`PEER_WAIT_NS_MAX`): then the one who knows more is
asked for everything, and that needs no other. A node that lost versions in a crash begins another history, across which
order is not promised; that all come to hold the same is.

Invariants:
- what is held of another node is in the store, in one transaction with what it told: a crash loses both or none, and
  the next link goes on from there;
- a frame is taken in whole or not at all, in a transaction of its own, before the commands and systems of a tick;
- nothing that another node sends changes anything but those tables, or raises out of `receive_frame` or `begin_tick`;
- nobody is told of a version before readers see it, and an ack is said when readers see what was taken in.
"""

import hashlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from ecsnet._kernel.kernel import HistoryGone, KernelStore, Pin
from ecsnet._kernel.stamps import Stamps, Whose, hlc_of
from ecsnet.authority.held import Held, clock_of
from ecsnet.authority.peer_link import NOTHING, LinkState, PeerLink
from ecsnet.authority.reports import PeeringStatistics
from ecsnet.errors import ArgumentError, EcsnetError, LimitExceededError, RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.limits import PEER_BLOCK_BYTES, PEER_WAIT_NS_MAX, PEERS_MAX, TOMBSTONES_AGE_S
from ecsnet.schema.model import Schema
from ecsnet.wire.codec import PEER_NONCE_BYTES
from ecsnet.wire.messages import RELAYED, DeltaSync, Error, Peer, Reason

log = logging.getLogger("ecsnet.authority")

_FORGET_TICKS: Final = 3600
"""How often it is looked for deletions that may be forgotten."""

_MS_PER_S: Final = 1000


@dataclass(frozen=True, slots=True)
class PeeringSettings:
    """Who a node is among those that write the same tables.

    Attributes:
        node: its number, in [1, 2**64): the same for as long as its store lives, and no other node's.
        secret: what all nodes share, b"" for none: then whoever reaches this node may write these tables.
        relays: tell others what was told here. Needed where not every two nodes have a link; otherwise it costs bytes.
        name: what it calls itself, for the others' logs.
    """

    node: int
    secret: bytes = b""
    relays: bool = False
    name: str = ""


class Peering:
    """This node among others that write the same tables. Used by one thread, the authority's.

    In each tick, with the store's baton: `begin_tick` first, then whatever the tick does; after its version was
    published `end_tick`. Between ticks what arrives goes to `receive_frame`, and `frames_to_send` is written.

    Args:
        kernel: the store's. Its baton must be had.
        settings: who this node is.
        epoch: the history that the store continues.
        seed: bytes that nobody can guess, at most 64: nonces are made of it.

    Raises:
        ArgumentError: `node`; or the schema has no table that several nodes write.
    """

    def __init__(self, kernel: KernelStore, settings: PeeringSettings, *, epoch: int, seed: bytes) -> None:
        self.stamps = Stamps(kernel, settings.node)
        self.node = settings.node
        self.epoch = epoch
        self._settings = settings
        self._kernel = kernel
        self._schema: Schema = kernel.schema
        self._seed = seed
        self._links: dict[int, PeerLink] = {}
        self._opened = 0
        self._ticks = 0
        self._unix_ms = 0
        self._pin: Pin = kernel.acquire()
        self.held = Held(kernel, self._pin)
        self._acks: deque[tuple[int, PeerLink]] = deque()
        """Links whose frames were taken in, and the version that readers must see before that is said."""
        self._counts = dict.fromkeys(
            (
                "frames_told", "bytes_told", "frames_taken", "cells_told", "cells_taken", "waited", "resyncs_asked",
                "resyncs_told", "links_refused", "stamps_ahead", "tombstones_forgotten",
            ),
            0,
        )  # fmt: skip

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def links(self) -> tuple[PeerLink, ...]:
        """The links that are open, in the order in which they were opened."""
        return tuple(self._links.values())

    def statistics(self) -> PeeringStatistics:
        """Counts and sizes."""
        links = self._links.values()
        return PeeringStatistics(
            links=len(links),
            live=sum(link.state is LinkState.LIVE for link in links),
            waiting_frames=sum(len(link.waiting) for link in links),
            waiting_bytes=sum(link.waiting_bytes for link in links),
            **self._counts,
        )

    def digest(self) -> bytes:
        """16 bytes that two nodes share exactly when they hold the same of these tables, in the version that readers
        saw at the end of the last tick."""
        return self.stamps.digest(self._pin)

    # --- what arrives -------------------------------------------------------------------------------------------------

    def open_link(self, now_ns: int, *, address: str = "?", dialled: bool) -> PeerLink:
        """There is a transport to another node, an ordered and reliable one. Where there are enough of those that have
        not said who they are, the oldest goes.

        Args:
            dialled: this side opened it.

        Raises:
            LimitExceededError: enough links. Nothing was made; close the transport.
        """
        open_links = [link for link in self._links.values() if link.state is not LinkState.CLOSED]
        strangers = [link for link in open_links if link.state is not LinkState.LIVE]
        if len(open_links) >= PEERS_MAX:
            if not strangers or len(self._links) >= 2 * PEERS_MAX:
                raise LimitExceededError("PEERS_MAX", PEERS_MAX, len(open_links) + 1)
            strangers[0].part(Reason.FULL, "another came before this said who it is")
        self._opened += 1
        nonce = hashlib.blake2b(f"nonce/{self._opened}".encode(), key=self._seed, digest_size=PEER_NONCE_BYTES)
        own = Peer(
            node=self.node,
            epoch=self.epoch,
            fingerprint=self._schema.fingerprint,
            nonce=nonce.digest(),
            name=self._settings.name,
        )
        link = PeerLink(self._opened, address, own, secret=self._settings.secret, dialled=dialled, now_ns=now_ns)
        self._links[link.number] = link
        return link

    def close_link(self, link: PeerLink) -> None:
        """The transport is gone. What waits of it is dropped: it is told again. Closing twice is closing once."""
        link.state = LinkState.CLOSED
        self._links.pop(link.number, None)

    def receive_frame(self, link: PeerLink, kind: int, payload: bytes | bytearray | memoryview, now_ns: int) -> None:
        """One whole frame of another node. Whatever is wrong with it ends this link, which is told why; nothing else
        changes."""
        if link.state is LinkState.CLOSED:
            return
        was = link.state
        try:
            link.receive_frame(kind, payload, now_ns)
        except RemoteProtocolError as error:
            self._refuse(link, error)
            return
        if link.state is LinkState.LIVE and was is not LinkState.LIVE:
            self._greeted(link)

    def receive_error(self, link: PeerLink, error: RemoteProtocolError) -> None:
        """What came over the transport is no frame."""
        self._refuse(link, error)

    def _greeted(self, link: PeerLink) -> None:
        assert link.them is not None
        for other in self._links.values():
            if other is link or other.node != link.node or other.state is not LinkState.LIVE:
                continue
            # Both dialled: both ends keep the link that the lower number dialled. Dialled anew, the older one is dead.
            mine = self.node if link.dialled else link.node
            theirs = self.node if other.dialled else other.node
            loser = link if mine > theirs else other
            loser.part(Reason.FULL, "there is another link between these nodes")
            if loser is link:
                return
        log.info("linked with node %#x %s (%s)", link.node, link.them.name, link.address)
        held = self.held.of(link.node)
        link.acknowledge(held if held[0] == link.them.epoch else NOTHING)

    def _refuse(self, link: PeerLink, error: EcsnetError) -> None:
        self._counts["links_refused"] += 1
        log.warning("the link with %s (node %#x) is closed: %s", link.address, link.node, error)
        reason = getattr(error, "reason", None)
        reason = Reason.BAD_FRAME if reason is None else Reason(reason)
        if link.state is not LinkState.CLOSED:
            link.say(Error(code=reason, fatal=True, message=str(error)[:200]))
            link.part(reason, "see the error before this")

    # --- the tick -----------------------------------------------------------------------------------------------------

    def tell_time(self, unix_ms: int) -> None:
        """It is so many milliseconds since 1970 (UTC); the next tick writes with it. Between ticks.

        Raises:
            ArgumentError: it is not in [0, 2**47).
        """
        if not 0 <= unix_ms < 1 << 47:
            raise ArgumentError(f"unix_ms is {unix_ms}; it must be in [0, 2**47)")
        self._unix_ms = unix_ms

    def begin_tick(self, now_ns: int) -> int:
        """Take in what came, as far as what it names is here. With the baton, outside a transaction, before anything
        else of the tick. Returns how many frames were taken in."""
        self.stamps.tell_time(self._unix_ms)
        taken, before = 0, -1
        while taken != before:
            # What one told may be what another's frame waits for.
            before = taken
            for link in list(self._links.values()):
                taken += self._take_in(link, now_ns)
        self._ticks += 1
        if self._ticks % _FORGET_TICKS == 0:
            self._forget()
        return taken

    def _take_in(self, link: PeerLink, now_ns: int) -> int:
        taken = 0
        while link.waiting and link.state is LinkState.LIVE:
            delta = link.waiting[0]
            if not delta.flags & RELAYED and self._missing(link, delta):
                if link.waiting_since_ns is None:
                    link.waiting_since_ns = now_ns
                    self._counts["waited"] += 1
                elif now_ns - link.waiting_since_ns >= PEER_WAIT_NS_MAX:
                    self._counts["resyncs_asked"] += 1
                    link.ask_for_everything()
                break
            try:
                self._merge(link, delta)
            except EcsnetError as error:
                self._counts["stamps_ahead"] += getattr(error, "found_ms", None) is not None
                self._refuse(link, error)
                break
            link.take()
            self._acks.append((self._kernel.head_version + 1, link))
            taken += 1
        self._counts["frames_taken"] += taken
        return taken

    def _missing(self, link: PeerLink, delta: DeltaSync) -> bool:
        """Whether the frame's writer knew something that is not here."""
        for node, counter in delta.clock:
            here = self._kernel.head_version if node == self.node else self.held.of(node)[1]
            if node != link.node and counter > here:
                return True
        return False

    def _merge(self, link: PeerLink, delta: DeltaSync) -> None:
        """Take in a frame, and what is held with it, in one transaction; nothing of it where that fails."""
        epoch, version = self.held.of(link.node)
        if epoch != delta.epoch:
            version = 0
        if delta.base > version:
            what = f"changes ({delta.base}, {delta.version}] of node {link.node:#x}, of which version {version} is held"
            raise RemoteProtocolError(what, Reason.BAD_STATE)
        held = {}
        if delta.version > max(delta.base, version):
            held[link.node] = (delta.epoch, delta.version)
        if delta.flags & RELAYED and delta.version > delta.base:
            for node, counter in delta.clock:
                known = self.held.of(node)
                if node not in (self.node, link.node) and counter > known[1]:
                    held[node] = (known[0], counter)
        block = bytes(delta.block)
        if not block and not held:
            return
        kernel = self._kernel
        kernel.begin()
        try:
            if block:
                merged = self.stamps.merge(block)
            rows = self.held.write(held)
            kernel.commit()
        except BaseException:
            kernel.rollback()
            raise
        self.held.take(held, rows)
        if block:
            self._counts["cells_told"] += merged.cells
            self._counts["cells_taken"] += merged.taken

    def _forget(self) -> None:
        before = max(0, self._unix_ms - TOMBSTONES_AGE_S * _MS_PER_S)
        kernel = self._kernel
        kernel.begin()
        try:
            forgotten = self.stamps.forget(hlc_of(before))
            kernel.commit()
        except EcsnetError:
            kernel.rollback()  # a full disk: another time
            log.exception("old deletions could not be forgotten")
            return
        if forgotten:
            self._counts["tombstones_forgotten"] += forgotten
            log.info(
                "%d deletions are forgotten; a node that was away for %d s brings them back",
                forgotten,
                TOMBSTONES_AGE_S,
            )

    def end_tick(self) -> None:
        """The tick's version was published, or put off: tell the others what readers see now."""
        if self._kernel.published_version != self._pin.version:
            old = self._pin
            self._pin = self._kernel.acquire()
            old.release()
        version = self._pin.version
        # What was taken in and changed nothing is in the version before.
        nothing_pends = self._kernel.head_version == version
        seen: dict[int, PeerLink] = {}
        while self._acks and (nothing_pends or self._acks[0][0] <= version):
            link = self._acks.popleft()[1]
            seen[link.number] = link
        for link in seen.values():
            if link.state is LinkState.LIVE:
                self._acknowledge(link)
        for link in self._links.values():
            if link.state is LinkState.LIVE and link.ready and link.has_room:
                self._tell(link)

    def _acknowledge(self, link: PeerLink) -> None:
        assert link.them is not None
        epoch, version = self.held.of(link.node)
        link.acknowledge((link.them.epoch, version if epoch == link.them.epoch else 0))

    def _tell(self, link: PeerLink) -> None:
        pin = self._pin
        if link.told > pin.version:
            # It holds what this history does not have, or not any more.
            link.told = link.seen = Version(0)
            link.whole = True
        if link.seen == pin.version and not link.whole:
            return
        whose = Whose.NOT_THEIRS if self._settings.relays else Whose.OWN
        try:
            blocks = self._cut(pin, 0 if link.whole else link.seen, Whose.ALL if link.whole else whose, link.node)
        except HistoryGone:
            link.whole = True
            blocks = self._cut(pin, 0, Whose.ALL, link.node)
        if pin.version == 0:
            return
        if not blocks and not link.whole:
            link.seen = Version(pin.version)
            return
        flags = RELAYED if link.whole or self._settings.relays else 0
        base = 0 if link.whole else link.told
        self._counts["resyncs_told"] += link.whole
        clock = ((self.node, pin.version), *clock_of(pin))
        blocks = blocks or [b""]
        deltas = [
            DeltaSync(
                session=self.node,
                epoch=self.epoch,
                base=base,
                # Only the last says how far it goes: the others are a part of that.
                version=pin.version if block is blocks[-1] else base,
                tick=pin.tick,
                flags=flags,
                clock=clock,
                block=block,
            )
            for block in blocks
        ]
        self._counts["frames_told"] += len(deltas)
        self._counts["bytes_told"] += sum(map(len, blocks))
        link.tell(deltas, Version(pin.version))

    def _cut(self, pin: Pin, base: int, whose: Whose, other: int) -> list[bytes]:
        blocks: list[bytes] = []
        cursor = None
        while True:
            told = self.stamps.cut(pin, base, whose, other, cursor, PEER_BLOCK_BYTES)
            if told.block:
                blocks.append(told.block)
            cursor = told.cursor
            if cursor is None:
                return blocks

    # --- what must go out ---------------------------------------------------------------------------------------------

    def frames_to_send(self, link: PeerLink, now_ns: int) -> list[bytes]:
        """Whole frames to write to a link now, in this order. They are not given again: a transport that cannot take
        all of them keeps the rest, or is closed."""
        return link.frames_to_send(now_ns)

    def links_to_close(self) -> list[PeerLink]:
        """Links that are over: write what `frames_to_send` has, close the transport, and say so by `close_link`."""
        return [link for link in self._links.values() if link.state is LinkState.CLOSED]

    def next_timeout_ns(self) -> int | None:
        """When `handle_timeout` has something to do; None without links."""
        return min((link.next_timeout_ns() for link in self._links.values()), default=None)

    def handle_timeout(self, now_ns: int) -> None:
        """Part from those who are silent, and ask those who may be."""
        for link in self._links.values():
            link.handle_timeout(now_ns)

    def close(self, reason: Reason = Reason.SHUTDOWN) -> None:
        """Part from all. `frames_to_send` has the goodbyes; nothing else may be called after."""
        for link in self._links.values():
            link.part(reason)
        self._pin.release()
        self.stamps.close()
