"""Many transactions written down at once, from arrays: what `Store.queue_each` makes.

Row i of every array belongs to transaction i, and each transaction is kept or refused by itself: the bulk form of many
`store.queue()`, for who has a thousand small transactions at a time (transfers, orders of a market, hits).

Invariants:
- all transactions have the same operations in the same order, one of each call, and so equally many bytes;
- nothing here touches the head; a call that raises has written nothing down.
"""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecsnet.errors import ArgumentError, ClosedError
from ecsnet.store import packing
from ecsnet.store.bulk import Columns, columns_of, keys_of
from ecsnet.store.levels import MEMORY
from ecsnet.store.shapes import writable
from ecsnet.store.tickets import EachTicket
from ecsnet.store.typed import Selector

if TYPE_CHECKING:
    from ecsnet.store.store import Store

__all__ = ["QueuedEach"]


class QueuedEach:
    """As many transactions as its arrays have rows. Made by `Store.queue_each()`.

    ```python
    transfers = store.queue_each("transfers")
    transfers.add(payers, Account, coins=-amounts).add(payees, Account, coins=amounts)
    ticket = transfers.commit()
    ticket.wait()                                      # or `await ticket`
    for number, error in ticket.refused.items():       # the others are committed
        print(payers[number], error)
    ```

    Every verb returns it. For one thread at a time.
    """

    __slots__ = ("_closed", "_count", "_level", "_parts", "_store", "label")

    def __init__(self, store: "Store", label: str, level: int = MEMORY):
        self._store = store
        self._level = level
        self._parts: list[NDArray[np.void]] = []
        self._count: int | None = None
        self._closed = False
        self.label = label
        """What errors call it."""

    def __len__(self) -> int:
        return self._count or 0

    def update(self, keys: Any, table: Selector, columns: Columns | None = None, /, **fields: ArrayLike) -> Self:
        """In transaction i change the named fields of the row `keys[i]`.

        Raises:
            UnknownNameError, ArgumentError: as `Transaction.update_many`; other calls had arrays of another length.
        """
        array = self._take(keys)
        name = writable(self._store.names.table(table))
        if columns is not None and fields:
            raise ArgumentError(f"update of {name.name}: give the columns as one object or by name, not both")
        given = columns_of(name, fields if columns is None else columns)
        recipe = self._store.recipes.update(name.name, tuple(given))
        checked = {field: name.stored_field(field).column(cells, len(array)) for field, cells in given.items()}
        shape = self._store.kernel.shape(name.id, tuple([field.id for field in recipe.fields]))
        return self._note(packing.records(shape, shape.update, array, packing.bulk(recipe, checked), len(array)))

    def add(self, keys: Any, table: Selector, /, **amounts: ArrayLike) -> Self:
        """In transaction i add to numbers of the row `keys[i]`; as `QueuedTransaction.add`."""
        array = self._take(keys)
        return self._note(packing.additions(self._store.names.table(table), array, amounts))

    def delete(self, keys: Any, table: Selector, /) -> Self:
        """In transaction i remove the row `keys[i]`; of the table `entities`, the entity with all its rows."""
        array = self._take(keys)
        return self._note(packing.deletions(writable(self._store.names.table(table)), array))

    def commit(self) -> EachTicket:
        """Hand all of them in. Where nobody is writing they are committed before this returns, as one version.

        Returns:
            their ticket, which is done when all are kept or refused.

        Raises:
            QueueFullError: too much waits; it may be committed again later. LimitExceededError: it is too long to ever
            fit: hand it in in parts. ClosedError: it was handed in before, or the store is closed.
        """
        self._demand_open()
        ticket = self._store.producers.put_each(
            self.label, packing.interleaved(self._parts, len(self)) if self._parts else b"", len(self), self._level
        )
        self._closed = True
        self._parts = []
        return ticket

    def __repr__(self) -> str:
        return f"<{len(self)} queued transactions {self.label!r}, {'handed in' if self._closed else 'open'}>"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _demand_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.label!r} was handed in; begin another with store.queue_each()")

    def _take(self, keys: Any) -> NDArray[np.uint64]:
        self._demand_open()
        array = keys_of(keys)
        if self._count is not None and len(array) != self._count:
            raise ArgumentError(
                f"{self.label!r} is {self._count} transactions, one for each row; found {len(array)} keys: nothing was "
                f"written down"
            )
        return array

    def _note(self, operations: NDArray[np.void]) -> Self:
        self._count = len(operations)
        self._parts.append(operations)
        return self
