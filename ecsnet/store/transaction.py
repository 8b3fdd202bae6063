"""A transaction: everything a game does to its world, all or nothing.

Its verbs come from six ideas, a file each: how it begins and ends (`lifecycle`), row by row (`pointwise`), prepared
for hot loops (`preparedwise`), by arrays (`bulkwise`), as the source of queries (`headsource`), and rows by what they
hold (`headlookup`).
"""

from ecsnet.store.bulkwise import BulkWrites
from ecsnet.store.headlookup import HeadLookup
from ecsnet.store.headsource import QuerySource
from ecsnet.store.preparedwise import PreparedVerbs

__all__ = ["Transaction"]


class Transaction(BulkWrites, PreparedVerbs, QuerySource, HeadLookup):
    """All or nothing. Made by `Store.transaction()`, or by the authority for each command and system.

    As a context manager it commits at the end and rolls back on an exception. Calls that give no id or key return the
    transaction, so they chain: `store.transaction().update(ship, "health", hp=90).delete(ship, "shield").commit()`.
    """

    __slots__ = ()
