"""Savepoints: a part of a transaction that can be undone by itself.

The kernel logs what a transaction does, to undo it; a savepoint is a place in that log. What is not in the log (calls
of prepared writers that are held back, cells of lent columns, operations that wait for those to come back) is handed
over before a savepoint begins or refuses it, so all of it that there is at the end of the block was done within it.

Invariants:
- going back to a savepoint ends those that were begun within it;
- after going back the transaction is what it was when the savepoint began, but for ids: none is handed out twice.
"""

from typing import TYPE_CHECKING, Self

from ecsnet.errors import BorrowError, ClosedError

if TYPE_CHECKING:
    from ecsnet.store.lifecycle import Lifecycle

__all__ = ["Savepoint"]


class Savepoint:
    """Made by `Transaction.savepoint`, for one `with`."""

    __slots__ = ("_mark", "_tx")

    def __init__(self, tx: "Lifecycle"):
        self._tx = tx
        self._mark: int | None = None

    @property
    def open(self) -> bool:
        """Whether its block runs, and what it did has not been kept or undone."""
        return self in self._tx._savepoints and not self._tx.closed

    def rollback(self) -> None:
        """Undo what was done since the block began, without leaving it. Savepoints within it have ended.

        Raises:
            ClosedError: the block or the transaction has ended.
        """
        if not self.open:
            raise ClosedError("this savepoint has ended: its block was left, or what it stood in was undone")
        assert self._mark is not None
        stack = self._tx._savepoints
        del stack[stack.index(self) + 1 :]
        self._tx._go_back(self._mark)

    def __enter__(self) -> Self:
        if self._mark is not None:
            raise ClosedError("a savepoint is for one block: ask the transaction for another")
        if self._tx._lends():
            raise BorrowError(
                f"{self._tx.label!r} has columns lent, whose cells have no history: take the savepoint before the "
                f"first column, or split the work into two transactions"
            )
        self._mark = self._tx._kernel.mark()
        self._tx._savepoints.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not self.open:
            return
        if kind is not None:
            self.rollback()
        stack = self._tx._savepoints
        del stack[stack.index(self) :]
