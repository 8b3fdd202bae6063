"""The database by itself: transactions, queries, views and tables over the storage kernel."""

from ecsnet.expressions import Condition, col
from ecsnet.store.changes import Change, Subscription
from ecsnet.store.crowding import Pressure
from ecsnet.store.query import Query, maybe
from ecsnet.store.queueing import QueuedTransaction
from ecsnet.store.rows import Rows
from ecsnet.store.store import Store, TickScope
from ecsnet.store.table import TableHandle
from ecsnet.store.tickets import Ticket
from ecsnet.store.transaction import Transaction
from ecsnet.store.view import View

__all__ = [
    "Change",
    "Condition",
    "Pressure",
    "Query",
    "QueuedTransaction",
    "Rows",
    "Store",
    "Subscription",
    "TableHandle",
    "TickScope",
    "Ticket",
    "Transaction",
    "View",
    "col",
    "maybe",
]
