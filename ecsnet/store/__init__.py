"""The database by itself: transactions, queries, views and tables over the storage kernel."""

from ecsnet.expressions import Condition, col
from ecsnet.store.query import Query, maybe
from ecsnet.store.rows import Rows
from ecsnet.store.store import Store, TickScope
from ecsnet.store.table import TableHandle
from ecsnet.store.transaction import Transaction
from ecsnet.store.view import View

__all__ = ["Condition", "Query", "Rows", "Store", "TableHandle", "TickScope", "Transaction", "View", "col", "maybe"]
