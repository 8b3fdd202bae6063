"""When may a delta be applied, and what is put together before it becomes visible?

The rule of apply. Values in a delta are absolute, and everything removed in `(base, version]` is named; so a replica
that holds anything from the base on can take it:

    base ≤ held < version     apply it; held becomes version
    version ≤ held            it came before: nothing changes
    base > held               something is missing. On a stream nothing can be: the authority is broken, or lying

A big delta comes in chunks, each cut from a newer version than the last, so none of them is a whole version. They are
kept here and become visible at once, with the delta that closes them:

    SyncBegin(base 0, first 40)   chunk (0, 40]   chunk (0, 43]   …   DeltaSync (40, 57]   → apply all as (0, 57]
    SyncBegin(base 40, first 57)  where that closing delta would itself be too big: staging goes on, and closes later

Invariants: what is staged is invisible, and is dropped whole when another sync begins elsewhere; its size has a limit.
"""

from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.limits import STAGED_SYNC_BYTES_MAX
from ecsnet.wire.messages import DeltaSync, Reason, SyncBegin, SyncChunk

Block = bytes | memoryview


class Staging:
    """The chunks of one running sync, or none."""

    __slots__ = ("_base", "_blocks", "_bytes", "_first_version", "_newest", "_sequence", "chunks", "origin")

    def __init__(self) -> None:
        self.origin: Version | None = None
        """The base of all that is staged; None while no sync runs."""
        self.chunks = 0
        """Chunks taken in since something was last applied: what an ack tells the authority."""
        self._base = Version(0)
        self._first_version = Version(0)
        self._newest = Version(0)
        self._sequence = 0
        self._blocks: list[Block] = []
        self._bytes = 0

    def begin_untrusted(self, message: SyncBegin, held: Version) -> None:
        """A sync begins, or goes on from where the last one would have closed.

        Raises:
            RemoteProtocolError: its base is beyond what is held, or it leads nowhere. Nothing is staged any more.
        """
        continues = self.origin is not None and message.base == self._first_version and message.base > 0
        if not continues:
            self._drop()
            if message.base > held:
                raise _gap("sync", message.base, held)
            self.origin = Version(message.base)
        if message.first_version < message.base or (message.base == 0 and message.first_version == 0):
            self._drop()
            raise RemoteProtocolError(
                f"a sync from version {message.base} to {message.first_version}", reason=Reason.BAD_STATE
            )
        self._base = Version(message.base)
        self._first_version = Version(message.first_version)
        self._newest = self._first_version
        self._sequence = 0

    def add_untrusted(self, message: SyncChunk) -> None:
        """Stage one chunk.

        Raises:
            RemoteProtocolError: no sync runs, or this is not its next chunk, or it has grown beyond all bounds.
        """
        if self.origin is None:
            raise RemoteProtocolError("a chunk without a sync", reason=Reason.BAD_STATE)
        if message.base != self._base or message.sequence != self._sequence or message.version < self._newest:
            raise RemoteProtocolError(
                f"chunk {message.sequence} of ({message.base}, {message.version}], where chunk {self._sequence} of "
                f"({self._base}, {self._newest} or later] was due",
                reason=Reason.BAD_STATE,
            )
        if self._bytes + len(message.block) > STAGED_SYNC_BYTES_MAX:
            raise RemoteProtocolError(
                f"a sync of more than STAGED_SYNC_BYTES_MAX = {STAGED_SYNC_BYTES_MAX} bytes", reason=Reason.TOO_LARGE
            )
        self._newest = Version(message.version)
        self._sequence += 1
        self.chunks += 1
        self._blocks.append(message.block)
        self._bytes += len(message.block)

    def close_untrusted(self, message: DeltaSync, held: Version) -> tuple[Version, list[Block]] | None:
        """What is to be applied now that this delta is here: from which base, and the blocks in order. None if it came
        before and changes nothing.

        Raises:
            RemoteProtocolError: the rule of apply forbids it. Nothing changes.
        """
        # 0 parts, of a sender that does not know them, is one.
        if message.parts > 1 or message.part != 0:
            raise RemoteProtocolError(
                f"a delta in {message.parts} parts: parts are for datagrams, outside of the lane",
                reason=Reason.NOT_BUILT,
            )
        if self.origin is None:
            if message.version <= held:
                return None
            if message.base > held:
                raise _gap("delta", message.base, held)
            return Version(message.base), [message.block]
        if message.base > self._first_version or message.version < self._newest or message.version <= held:
            raise RemoteProtocolError(
                f"a delta ({message.base}, {message.version}] cannot close a sync of ({self._base}, "
                f"{self._first_version}] whose newest chunk is of version {self._newest}, over held version {held}",
                reason=Reason.BAD_STATE,
            )
        return self.origin, [*self._blocks, message.block]

    def applied(self) -> None:
        """What was staged is visible now."""
        self._drop()
        self.chunks = 0

    def _drop(self) -> None:
        self.origin = None
        self._blocks = []
        self._bytes = 0


def _gap(what: str, base: int, held: Version) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"a {what} from version {base}, but version {held} is held: what lies between never came",
        reason=Reason.BAD_STATE,
    )
