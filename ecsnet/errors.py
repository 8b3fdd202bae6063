"""Every error that ecsnet raises on purpose. The class says whose fault it is; the message what, where, expected and
found, what is unchanged, and what to do next; the attributes carry the numbers of the message.

Invariants:
- all derive from `EcsnetError`; where Python has a class of the same meaning they derive from that too, so
  `except LookupError` and `except ValueError` work as a Python programmer expects;
- an error raised by an operation means that the operation changed nothing, unless its docstring says more;
- errors survive pickling with message and attributes, since processes of a demo or a test send them to each other.
"""

from collections.abc import Iterable
from typing import Any

__all__ = [
    "ArgumentError",
    "AuthenticationError",
    "BorrowError",
    "BusyError",
    "CertificateError",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "ConnectError",
    "ConstraintError",
    "DataCorruptError",
    "DataError",
    "DataFailedError",
    "DataForeignError",
    "DataLockedError",
    "DataMissingError",
    "DiskFullError",
    "DivergedError",
    "EcsnetError",
    "HistoryGoneError",
    "InternalError",
    "LimitExceededError",
    "ListenError",
    "LocalProtocolError",
    "MissingExtraError",
    "NoRowError",
    "NotBuiltError",
    "ProtocolError",
    "QueryError",
    "QueueFullError",
    "Reject",
    "RemoteProtocolError",
    "RowExistsError",
    "SchemaError",
    "SchemaMismatchError",
    "StaleEntityError",
    "StampAheadError",
    "StorageError",
    "TokenError",
    "UnknownNameError",
    "UntrustedNodeError",
]


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was most likely meant to be, or None when nothing is close."""
    # Imported here: only an error needs it, and `import ecsnet` should not pay for it.
    import difflib

    lowered = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return lowered[close[0]]
    # The end of one path, as "hp" of "health.hp", is far from it by letters.
    ends = [whole for low, whole in lowered.items() if name and low.endswith("." + name.lower())]
    return ends[0] if len(ends) == 1 else None


class EcsnetError(Exception):
    """The base of all errors of ecsnet."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is rebuilt by calling its class with `args`, which here are the finished message and not
        # the constructor's own parameters: rebuild without the constructor.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[EcsnetError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> EcsnetError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


# --- by whoever writes the game or its configuration --------------------------------------------------------------


class SchemaError(EcsnetError):
    """A schema is wrong. Nothing was loaded.

    `code` is a stable word such as "unknown-type" (for programs and tests); `line` and `column` count from 1 and are
    None where the fault has no place in the text; `key` is the dotted key, e.g. "tables.health.fields[1].type".
    """

    def __init__(
        self,
        code: str,
        file: str,
        line: int | None,
        column: int | None,
        key: str,
        reason: str,
        hint: str | None = None,
    ) -> None:
        place = file
        if line is not None:
            place += f":{line}"
            if column is not None:
                place += f":{column}"
        where = f"{key}: " if key else ""
        tail = f"\n  hint: {hint}" if hint else ""
        super().__init__(f"{place}: {where}{reason} [{code}]{tail}")
        self.code = code
        self.file = file
        self.line = line
        self.column = column
        self.key = key
        self.reason = reason
        self.hint = hint


class ConfigError(EcsnetError):
    """A setting is wrong. `source` names where it came from (a file, an environment variable, an option); `line`
    counts from 1 and is None where unknown."""

    def __init__(self, source: str, key: str, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        place = source if line is None else f"{source}:{line}"
        where = f"{key}: " if key else ""
        tail = f"\n  hint: {hint}" if hint else ""
        super().__init__(f"{place}: {where}{reason}{tail}")
        self.source = source
        self.key = key
        self.reason = reason
        self.line = line
        self.hint = hint


class UnknownNameError(EcsnetError, LookupError):
    """A name that the schema, the world or the API does not have. `kind` says what was looked for ("table", "field",
    "command", ...), `suggestion` is the candidate that was probably meant, or None."""

    def __init__(self, kind: str, name: str, candidates: Iterable[str] = ()) -> None:
        known = tuple(candidates)
        self.kind = kind
        self.name = name
        self.candidates = known
        self.suggestion = did_you_mean(name, known)
        if self.suggestion is not None:
            tail = f"; did you mean {self.suggestion!r}?"
        elif known:
            shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            tail = f"; known: {shown}"
        else:
            tail = ""
        super().__init__(f"no {kind} named {name!r}{tail}")


class ArgumentError(EcsnetError, TypeError, ValueError):
    """A value given to the API has the wrong type, shape, length or range."""


class QueryError(EcsnetError, ValueError):
    """A query written as text is wrong. `position` counts characters of `text` from 0; the message shows the line with
    a caret under the place."""

    def __init__(self, text: str, position: int, reason: str) -> None:
        before = text[:position]
        line = text[before.rfind("\n") + 1 :].partition("\n")[0]
        column = position - (before.rfind("\n") + 1)
        # Of a long line, what is around the place.
        begin = max(0, column - 60)
        shown = ("..." if begin else "") + line[begin : begin + 110] + ("..." if len(line) > begin + 110 else "")
        caret = " " * (column - begin + (3 if begin else 0)) + "^"
        super().__init__(f"{reason}\n  {shown}\n  {caret}")
        self.text = text
        self.position = position
        self.reason = reason


class NotBuiltError(EcsnetError):
    """A planned feature that does not exist yet: refused, never ignored. `instead` says what works today."""

    def __init__(self, feature: str, instead: str = "") -> None:
        tail = f"; {instead}" if instead else ""
        super().__init__(f"{feature} is planned and not built yet{tail}")
        self.feature = feature
        self.instead = instead


class MissingExtraError(EcsnetError, ImportError):
    """A feature needs a package that ecsnet does not bring by itself. `extra` is what to install: `ecsnet[extra]`."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} need {package}, which is not installed: pip install 'ecsnet[{extra}]'")
        self.feature = feature
        self.package = package
        self.extra = extra


class BorrowError(EcsnetError):
    """The same cells cannot be lent, written or changed in this way now; the message says by what they are held."""


class BusyError(EcsnetError):
    """Somebody else is the writer (holds the baton). Nothing changed; try again when they are done."""


class HistoryGoneError(EcsnetError, LookupError):
    """Changes since a version were asked for that are not kept any more, or never were: `asked` is that version,
    `oldest` the oldest one to ask from. Nothing was handed out."""

    def __init__(self, asked: int, oldest: int, changes_bytes: int) -> None:
        super().__init__(
            f"changes since version {asked} are not kept: the oldest to go on from is {oldest}. Take a view and follow "
            f"from its version; Store(changes_bytes=...) keeps more (now {changes_bytes} bytes), from the beginning"
        )
        self.asked = asked
        self.oldest = oldest
        self.changes_bytes = changes_bytes


class ClosedError(EcsnetError):
    """The store, view, transaction, node or client was closed, by you."""


# --- by the data ------------------------------------------------------------------------------------------------------


class StaleEntityError(EcsnetError, LookupError):
    """The key names something that is no longer alive (or never was). `table` is None where none is involved."""

    def __init__(self, key: int, table: str | None = None) -> None:
        where = f" in {table}" if table else ""
        index, generation = key & 0xFFFF_FFFF, key >> 32
        # Nothing that was ever handed out has generation 0: it is a value, most likely of a primary key.
        why = (
            "it is not alive" if generation else "no key is so small; tx.key(Item.id, 7) finds a row by a field's value"
        )
        super().__init__(f"{key:#x} (index {index}, generation {generation}) is stale{where}: {why}")
        self.key = key
        self.table = table


class NoRowError(EcsnetError, LookupError):
    """The key is alive and has no row in this table."""

    def __init__(self, key: int, table: str) -> None:
        super().__init__(f"{key:#x} has no row in {table}")
        self.key = key
        self.table = table


class RowExistsError(EcsnetError):
    """The key has a row in this table already. `update` changes it."""

    def __init__(self, key: int, table: str) -> None:
        super().__init__(f"{key:#x} has a row in {table} already; update it, or delete it first")
        self.key = key
        self.table = table


class ConstraintError(EcsnetError):
    """A value breaks a rule of the schema. The transaction changed nothing.

    `rule` is one of "range", "enum", "unique", "foreign_key", "required", "restrict", "reference" (a key that others
    may refer to is not null); `key` is None for a row that does not exist yet. `field` names several, with commas
    between, where they are unique together.
    """

    def __init__(
        self,
        table: str,
        key: int | None,
        field: str,
        rule: str,
        expected: object = None,
        found: object = None,
    ) -> None:
        row = "" if key is None else f", row {key:#x}"
        details = ""
        if expected is not None:
            details += f"; expected {expected}"
        if found is not None:
            details += f", found {found}" if details else f"; found {found}"
        super().__init__(f"{table}.{field}{row} breaks its rule {rule!r}{details}")
        self.table = table
        self.key = key
        self.field = field
        self.rule = rule
        self.expected = expected
        self.found = found


class ConflictError(EcsnetError):
    """A row is no longer what it was in the version that a decision was made on (`tx.expect`). Nothing was changed by
    the call: read the row again, and decide anew. `version` is the newest one."""

    def __init__(self, key: int, table: str, since: int, version: int, reason: str) -> None:
        super().__init__(
            f"{table}, row {key:#x}: expected it as in version {since}, but {reason}; the newest version is {version}. "
            f"Read it again and decide anew"
        )
        self.key = key
        self.table = table
        self.since = since
        self.version = version


class LimitExceededError(EcsnetError):
    """A bound of `ecsnet.limits`, of the schema or of a configuration would be passed."""

    def __init__(self, limit: str, value: float, found: float | None = None) -> None:
        tail = "" if found is None else f", found {found}"
        super().__init__(f"limit {limit} is {value}{tail}")
        self.limit = limit
        self.value = value
        self.found = found


class QueueFullError(LimitExceededError):
    """As much waits to be committed as may. Nothing was handed in: try again when whoever is writing has ended, or wait
    for it (`commit(wait=True)`, `await ....committed()`)."""


class Reject(EcsnetError):
    """Raised by a command or an `on_join` to refuse it: the expected kind of failure. The command's transaction is
    undone, its client is told `reason`, and nothing is logged."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class TokenError(Reject):
    """A token proves nothing: it is malformed, forged, expired, used, or for another game. The client is told `reason`,
    which says no more than the token's own holder may know."""


# --- by a peer, the network or the machine ---------------------------------------------------------------------------


class SchemaMismatchError(EcsnetError):
    """Two sides have different schemas: their fingerprints (hex) differ."""

    def __init__(self, ours: str, theirs: str, hint: str = "") -> None:
        tail = f"; {hint}" if hint else ""
        super().__init__(f"schema fingerprints differ: ours {ours}, theirs {theirs}{tail}")
        self.ours = ours
        self.theirs = theirs
        self.hint = hint


class DivergedError(EcsnetError):
    """A replica's digest of a version is not the authority's: a bug, or memory that failed. The session is over; what
    the replica shows is not to be trusted. Digests are 32 hex digits."""

    def __init__(self, version: int, ours: str, theirs: str) -> None:
        super().__init__(
            f"version {version} differs from the authority's: digest {ours}, theirs {theirs}; "
            "connect again, and please report it"
        )
        self.version = version
        self.ours = ours
        self.theirs = theirs


class ProtocolError(EcsnetError):
    """The base of the two that say who broke the protocol."""


class LocalProtocolError(ProtocolError):
    """Our side asked for something that the state of a session does not allow. The session is unchanged."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that is malformed, out of order or against the limits. Nothing of it was applied.

    `reason` is a `Reason` of the wire (an int) when it is to be told to the peer, else None.
    """

    def __init__(self, message: str, reason: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class StampAheadError(RemoteProtocolError):
    """Another node says that it wrote further in the future than the clocks of two nodes may differ. Nothing of what it
    told was taken in: such a write would win over everything that is written until then. Set the clock of that node.

    `node` is who wrote, `found_ms` when by its own clock, `most_ms` what would still have been taken (unix ms).
    """

    def __init__(self, table: str, node: int, found_ms: int, most_ms: int) -> None:
        super().__init__(
            f"{table}: node {node:#x} wrote {found_ms - most_ms} ms beyond what clocks may differ (at {found_ms}, at "
            f"most {most_ms} unix ms); nothing was taken in. Set the clocks of both nodes"
        )
        self.node = node
        self.found_ms = found_ms
        self.most_ms = most_ms


class ConnectError(EcsnetError):
    """A node could not be reached, or did not let us in. `address` is as given."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}" if address else reason)
        self.address = address
        self.reason = reason


class AuthenticationError(ConnectError):
    """The node does not believe who we say we are, or there is no token to be had that would tell it."""


class UntrustedNodeError(ConnectError):
    """The node's certificate does not prove that it is the one that was asked for: it has expired, is for another name,
    or is of an authority that is not believed. Nothing was sent to it."""


class CertificateError(EcsnetError):
    """A certificate or a key cannot be used. `path` is the file, `reason` why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class ListenError(EcsnetError):
    """An address cannot be listened on: in use, not allowed, or not ours. `address` is as given."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address
        self.reason = reason


class StorageError(EcsnetError):
    """Memory or a disk did not do what it must, or the compiled kernel is missing, stale or not to be loaded: then the
    message names the command that builds it."""


class DataError(StorageError):
    """A data directory cannot be used as asked: the base of the errors that say why, and itself where the operating
    system refused (permissions, an I/O error while reading). `path` is the directory, or the file in it, as given."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class DataMissingError(DataError, LookupError):
    """There is no store in the directory, and none was to be made. Nothing was written."""


class DataLockedError(DataError):
    """Another process has the directory open (`holder` is what its LOCK file says). Nothing was read or changed."""

    def __init__(self, path: str, holder: str = "") -> None:
        who = f" by {holder}" if holder else ""
        super().__init__(
            path,
            f"it is open already{who}, and a store has one writer; nothing was changed. End that process, or talk to "
            f"it: the tools reach a running node through its control socket",
        )
        self.holder = holder


class DataForeignError(DataError):
    """A file is not ecsnet's, of a newer format, or of another database. Nothing was changed. `file` is relative to
    `path`."""

    def __init__(self, path: str, file: str, reason: str) -> None:
        super().__init__(path, f"{file}: {reason}; nothing was changed" if file else f"{reason}; nothing was changed")
        self.file = file


class DataCorruptError(DataError):
    """Data that was acknowledged as durable is damaged. Nothing was changed.

    `file` (relative to `path`) and `offset` say where, `version` what was expected there, `intact` up to which version
    all is well (it opens read-only), `durable` which version was certainly on the disk once.
    """

    def __init__(self, path: str, file: str, offset: int, version: int, durable: int, what: str) -> None:
        intact = max(0, version - 1)
        lost = max(0, durable - intact)
        if version:
            tail = (
                f". Versions up to {intact} are intact and open read-only. `ecsnet restore {path} NEW --to-version "
                f"{intact} --accept-loss` makes them a new epoch; {lost} versions after it would be lost"
            )
        else:
            tail = ". `ecsnet verify` says what is intact"
        super().__init__(
            path, f"{file}, byte {offset}: {what}. It was acknowledged as durable, so nothing was changed{tail}"
        )
        self.file = file
        self.offset = offset
        self.version = version
        self.intact = intact
        self.durable = durable
        self.what = what


class DataUnreachableError(DataError, LookupError):
    """A moment that a directory cannot give back: it is before what was kept, after the newest version, or lost by
    damage. `target` is as it was asked for, `oldest` and `newest` the versions that can be had. Nothing was written."""

    def __init__(self, path: str, target: str, oldest: int, newest: int, why: str) -> None:
        super().__init__(
            path,
            f"{target} cannot be had: {why}. Versions from {oldest} to {newest} can; `ecsnet inspect {path} --log` "
            f"lists them with their ticks and times. Nothing was written",
        )
        self.target = target
        self.oldest = oldest
        self.newest = newest


class DataFailedError(DataError):
    """A write or a sync failed, now or earlier: what the disk holds beyond version `durable` is not known, so nothing
    more is acknowledged and the store is read-only. Close it, mend the disk, and open it again: that finds the truth.
    """

    def __init__(self, path: str, durable: int, cause: str = "") -> None:
        why = f" ({cause})" if cause else ""
        super().__init__(
            path,
            f"a write or a sync failed{why}: versions up to {durable} are on the disk, later ones may not be. The "
            f"store is read-only; close it, mend the disk and open it again",
        )
        self.durable = durable
        self.cause = cause


class DiskFullError(DataError):
    """There is no room on the disk for what was to be committed. It was refused before anything changed; the store goes
    on, and the same commit can be tried again once there is room."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "no room on the disk; nothing changed. Make room and try again: the store goes on")


class InternalError(EcsnetError):
    """A bug in ecsnet. Please report it with the message."""
