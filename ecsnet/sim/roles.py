"""Who is there, and what each role may see, as checkers read it: from the node's own rows and the schema."""

from ecsnet.auth.account import PLAYER
from ecsnet.schema import Field, Table
from ecsnet.store import View

__all__ = ["may_see", "sessions_of"]


def may_see(what: Table | Field, role: str) -> bool:
    """Whether `visible_to` lets a role see a table or a field."""
    return what.visible_to is None or role in what.visible_to


def sessions_of(view: View) -> dict[int, tuple[int, int, str]]:
    """(client, entity, role) by session, of all that a version has."""
    rows = view["sessions"].to_dict()
    roles = [bytes(role).rstrip(b"\0").decode() or PLAYER for role in rows["role"]]
    return {
        int(session): (int(client), int(entity or 0), role)
        for session, client, entity, role in zip(rows["session"], rows["client_id"], rows["entity"], roles, strict=True)
    }
