"""What clients write without a command: who may, asked of the rows as they are, and the write itself.

A write is allowed where the table's `writers` say so, and nowhere else. All that a client sends beside its bytes is
known of its session: its role and its client id. The rows are asked for their owners in the transaction that takes the
write in, so a row that changed hands in the same tick is its new owner's already.

    role, operation, columns      against the writers of the table: of all rows, or of the client's own?
    owner of each row             where it is allowed of the own ones only
    cells                         types here, the rules of the schema in the store

Invariants:
- a write that is refused has changed nothing, and one that is taken changes the rows and columns that it names, and
  what the schema ties to them (`on_delete` of what refers to a row that is deleted);
- who may write own rows only learns of another's neither what it holds nor whether it is there: the answer is one word;
- nobody gives a row away or takes one by a permission for own rows: an insert makes an own row, and an update leaves
  the field that says whose it is alone.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ecsnet.errors import (
    ArgumentError,
    ConstraintError,
    LimitExceededError,
    NoRowError,
    RemoteProtocolError,
    RowExistsError,
    StaleEntityError,
)
from ecsnet.schema import Schema, Table
from ecsnet.schema.rules import EVERY_ROLE, Operation
from ecsnet.session.ledger import Outcome
from ecsnet.store import Transaction
from ecsnet.wire.messages import CommandStatus, Reason
from ecsnet.wire.writes import DirectWrite, PlainUpdate, decode_write_untrusted, head_of
from ecsnet.world import Client

__all__ = ["Permissions", "WriteRefused", "outcome_of"]

_OWNER: Final = "entities.owner"

_PLAIN_MAX: Final = 1024
"""Updates of which is remembered how they read: a game has a handful, and whoever makes up more gains nothing."""

_ROW: Final = ""
"""Among the fields that may be written: the row itself, for who writes no field of it."""


class WriteRefused(Exception):
    """A client may not write what it wrote, or its bytes are no write. `outcome` is what it is told."""

    def __init__(self, code: Reason, message: str) -> None:
        super().__init__(message)
        self.outcome = Outcome(CommandStatus.REJECTED, code, message)


class Permissions:
    """Who may write what of one schema."""

    __slots__ = ("_allowed", "_plain", "_tables")

    def __init__(self, schema: Schema) -> None:
        self._tables = {table.id: table for table in schema.user_tables if table.writers}
        # (table, role, operation) -> fields of anybody's rows, fields of own rows. Bounded by what a game's roles are.
        self._allowed: dict[tuple[int, str, Operation], tuple[frozenset[str], frozenset[str]]] = {}
        # (table, first bytes of a write) -> how it reads.
        self._plain: dict[tuple[int, bytes], PlainUpdate | None] = {}

    def apply(self, tx: Transaction, client: Client, table_id: int, data: bytes) -> None:
        """Do what a client wrote, if it may.

        Args:
            table_id: as the client said it.
            data: likewise; see `ecsnet.wire.writes`.

        Raises:
            WriteRefused, EcsnetError: it may not, or the store takes no such cells. Roll the transaction back;
                `outcome_of` has the words for the client.
        """
        table = self._tables.get(table_id)
        if table is None:
            # One answer for both: what is not for clients need not be told from what is not there.
            raise WriteRefused(Reason.NOT_ALLOWED, f"clients write no table with the number {table_id}")
        if (head := head_of(data)) is not None and self._update_row(tx, client, table, head, data):
            return
        try:
            write = decode_write_untrusted(table, data)
        except RemoteProtocolError as error:
            raise WriteRefused(Reason.BAD_ARGUMENTS, str(error)) from None
        if write.operation == "insert":
            _demand_required(write)
        if not self._is_of_all_rows(table, client.role, write.operation, write.columns):
            _demand_own(tx, client, table, write.keys, write.columns)
        _do(tx, write)

    def _update_row(self, tx: Transaction, client: Client, table: Table, head: bytes, data: bytes) -> bool:
        """The ordinary case, an update of one row's numbers, without an array. False: it is another, or something is
        wrong with it, and nothing has happened; the ordinary way finds out what.

        Raises:
            WriteRefused, EcsnetError: as `apply`.
        """
        what = (table.id, head)
        try:
            plain = self._plain[what]
        except KeyError:
            if len(self._plain) >= _PLAIN_MAX:
                self._plain.clear()
            plain = self._plain[what] = PlainUpdate.of(table, head)
        row = None if plain is None else plain.read_untrusted(data, len(head))
        if row is None:
            return False
        key, cells = row
        if not self._is_of_all_rows(table, client.role, "update", cells):
            _demand_own(tx, client, table, [key], cells)
        tx.update(key, table.name, **cells)
        return True

    def _is_of_all_rows(self, table: Table, role: str, operation: Operation, columns: Iterable[str]) -> bool:
        """Whether the write is allowed whosever the rows are; False if they must be the client's own.

        Raises:
            WriteRefused: it is allowed of no row.
        """
        what = (table.id, role, operation)
        allowed = self._allowed.get(what)
        if allowed is None:
            allowed = self._allowed[what] = _fields_allowed(table, role, operation)
        everybodys, own = allowed
        wanted = {_ROW, *columns}
        if wanted <= everybodys:
            return True
        if wanted <= own:
            return False
        if _ROW not in own:
            raise WriteRefused(Reason.NOT_ALLOWED, f"no {operation} of {table.name} for the role {role}")
        names = ", ".join(sorted(wanted - own))
        raise WriteRefused(Reason.NOT_ALLOWED, f"no {operation} of {table.name}.{names} for the role {role}")


def outcome_of(error: Exception) -> Outcome | None:
    """What a client is told of a write that the store refused; None for what is no fault of the client."""
    match error:
        case StaleEntityError() | NoRowError():
            return Outcome(CommandStatus.REJECTED, Reason.REJECTED, "the row is gone")
        case RowExistsError():
            return Outcome(CommandStatus.REJECTED, Reason.REJECTED, f"{error.table}: the row is there already")
        case ConstraintError(rule="restrict"):
            return Outcome(CommandStatus.REJECTED, Reason.REJECTED, "another row refers to it")
        case ConstraintError():
            # Without what was found: a unique value or a reference of somebody else's is not the client's to know.
            return Outcome(CommandStatus.REJECTED, Reason.BAD_ARGUMENTS, f"{error.table}.{error.field}: {error.rule}")
        case ArgumentError():
            return Outcome(CommandStatus.REJECTED, Reason.BAD_ARGUMENTS, "a cell is not of its field's type")
        case LimitExceededError():
            return Outcome(CommandStatus.REJECTED, Reason.FULL, f"{error.limit} is {error.value:g}")
    return None


def _fields_allowed(table: Table, role: str, operation: Operation) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that a role may write in rows of anybody, and in its clients' own; with `_ROW` in it if it may do this
    to a row at all."""
    everybodys: set[str] = set()
    own: set[str] = set()
    for writer in table.writers:
        if writer.role not in (EVERY_ROLE, role) or operation not in writer.operations:
            continue
        fields = {field.name for field in table.fields} if writer.fields is None else set(writer.fields)
        if table.primary_key is not None:
            fields = fields | {table.primary_key} if operation == "insert" else fields - {table.primary_key}
        if writer.rows == "all":
            everybodys |= fields | {_ROW}
        else:
            own |= (fields if operation == "insert" else fields - {table.owner}) | {_ROW}
    return frozenset(everybodys), frozenset(everybodys | own)


def _demand_required(write: DirectWrite) -> None:
    for field in write.table.fields:
        if field.required and field.name not in write.columns:
            raise WriteRefused(Reason.BAD_ARGUMENTS, f"{write.table.name}.{field.name}: required")


def _demand_own(
    tx: Transaction, client: Client, table: Table, keys: Iterable[int] | None, columns: Mapping[str, Any]
) -> None:
    """Raises WriteRefused: a row is another's, or nobody's, or not there."""
    owner_id = int(client.client_id)
    if owner_id:
        try:
            if _are_own(tx, owner_id, table, keys, columns):
                return
        except (StaleEntityError, NoRowError):
            pass
    raise WriteRefused(Reason.NOT_ALLOWED, f"{table.name}: a row is not yours, or is gone")


def _are_own(
    tx: Transaction, client_id: int, table: Table, keys: Iterable[int] | None, columns: Mapping[str, Any]
) -> bool:
    """Raises StaleEntityError, NoRowError: a row, or the entity that owns it, is not there."""
    if table.kind == "component":
        assert keys is not None
        return all(tx[int(key), _OWNER] == client_id for key in keys)
    assert table.owner, "the schema's reader lets own rows of a keyed table stand beside an owner only"
    field = table.field(table.owner)
    if keys is None:
        given: Any = columns.get(table.owner)
        owners: list[Any] = [field.default] if given is None else given.tolist()
    else:
        path = f"{table.name}.{table.owner}"
        owners = [tx[int(key), path] for key in keys]
    if field.foreign_key is not None:
        owners = [tx[entity, _OWNER] if entity else 0 for entity in owners]
    return all(owner == client_id for owner in owners)


def _do(tx: Transaction, write: DirectWrite) -> None:
    name, columns = write.table.name, write.columns
    if write.operation == "delete":
        tx.delete_many(write.keys, name)
    elif write.operation == "update":
        tx.update_many(write.keys, name, columns)
    elif write.keys is not None:
        tx.insert_many(write.keys, **{name: columns})
    else:
        tx.insert_many(name, columns, write.rows)
