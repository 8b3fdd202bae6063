"""The sessions of an authority: who is there, who lost the link and may come back, and who is to leave.

    welcomed ── on_join ──► here ── link lost ──► away ── Resume ──► here …
                              │                    │ `linger` ticks
                              └── goodbye ─────────┴──► on_leave, and the session is no more

What a session is lives in its row of the table `sessions`: a store that is opened again has all of them, away, with
their entities, and each may come back until it has been away for too long.

A session is resumed by whoever has its key, which only the Welcome carries. The row has a hash of it, so that who reads
the store, or a copy of it, cannot take anybody's place.

Invariants:
- a session has at most one link; an older one that the node still had when it was resumed is cut;
- a session leaves once, and only after it has joined; one that has not joined when its link is lost never was;
- those away are at most `SESSIONS_ABSENT_MAX`: beyond it who has been away for longest leaves.
"""

import hashlib
import hmac
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ecsnet.auth.account import PLAYER
from ecsnet.ids import ClientId, Entity, SessionId, Tick
from ecsnet.limits import NAME_BYTES_MAX, SESSIONS_ABSENT_MAX
from ecsnet.session.ledger import CommandLedger, Outcome
from ecsnet.store import View
from ecsnet.wire.text import clip_text
from ecsnet.world import Client

if TYPE_CHECKING:
    from ecsnet.authority.audiences import Audience
    from ecsnet.authority.link import Link

__all__ = ["KEY_HASH_BYTES", "Session", "Sessions", "hash_of_key"]

KEY_HASH_BYTES: Final = 16
_NO_KEY: Final = bytes(KEY_HASH_BYTES)


def hash_of_key(key: bytes) -> bytes:
    """What the session's row has of a resume key. The key is random, so nothing slow is needed."""
    return hashlib.blake2b(key, digest_size=KEY_HASH_BYTES, person=b"ecsnet resume").digest() if key else _NO_KEY


class Session:
    """What the authority keeps of one session, over all its links. What the next link of one that is away must know
    belongs here and not in `Link`, which ends with the line; it begins with the Welcome and ends in `Sessions.remove`.
    From which version the next link goes on is for its client to say (`resuming`)."""

    __slots__ = ("audience", "client", "expires_tick", "joined", "key_hash", "ledger", "link")

    def __init__(self, client: Client, key_hash: bytes, ledger: CommandLedger) -> None:
        self.client = client
        self.key_hash = key_hash
        self.ledger = ledger
        self.link: Link | None = None
        """None while the client is away."""
        self.audience: Audience | None = None
        """What it sees of the world, from when it has joined."""
        self.joined = False
        """`on_join` was committed, so `on_leave` is due some day."""
        self.expires_tick = Tick(0)
        """Of one that is away: from this tick on it leaves. 0 for one that is here."""

    def answer(self, sequence: int, outcome: Outcome, *, version: int, tick: int) -> None:
        """Say what became of a command, or note it for when the client is back."""
        if self.link is not None:
            self.link.server.answer(sequence, outcome, version=version, tick=tick)
        else:
            self.ledger.answer(sequence, outcome, version=version, tick=tick)

    def row(self) -> dict[str, object]:
        """The session's row as it begins."""
        client = self.client
        return {
            "session": client.session,
            "client_id": client.client_id,
            "entity": 0,
            "last_command": self.ledger.answered,
            "last_status": 0,
            "statuses": self.ledger.statuses,
            "expires_tick": 0,
            "key_hash": self.key_hash,
            "name": clip_text(client.name, NAME_BYTES_MAX).encode(),
            "role": client.role.encode(),
        }


class Sessions:
    """See the file."""

    def __init__(self) -> None:
        self._by_number: dict[int, Session] = {}
        self.by_key: dict[int, Session] = {}
        """Those that have joined, by the keys of their rows."""
        self._away: dict[int, Session] = {}
        """By number, in the order in which they lost their links."""

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    @property
    def away(self) -> int:
        """Sessions without a link."""
        return len(self._away)

    def recover(self, view: View, version: int, tick: int) -> list[Session]:
        """Those that a store has from before: all away, and none of them expires before it is told when."""
        table = view["sessions"]
        rows, keys = table.to_dict(), table.key.tolist()
        found = []
        for number, key in enumerate(keys):
            name = bytes(rows["name"][number]).rstrip(b"\0").decode(errors="replace")
            session_id, client_id = int(rows["session"][number]), int(rows["client_id"][number])
            role = bytes(rows["role"][number]).rstrip(b"\0").decode(errors="replace") or PLAYER
            client = Client(SessionId(session_id), ClientId(client_id), name, role)
            client._key, client._entity = key, Entity(int(rows["entity"][number]))
            statuses = bytes(rows["statuses"][number])
            ledger = CommandLedger.recovered(int(rows["last_command"][number]), statuses, version=version, tick=tick)
            session = Session(client, bytes(rows["key_hash"][number]), ledger)
            session.joined = True
            self._by_number[client.session] = self.by_key[key] = self._away[client.session] = session
            found.append(session)
        return found

    def add(self, session: Session) -> None:
        """One that was just welcomed."""
        self._by_number[session.client.session] = session

    def find_untrusted(self, number: int, key: bytes) -> Session | None:
        """The session of that number, for whoever has its key."""
        session = self._by_number.get(number)
        known = _NO_KEY if session is None else session.key_hash
        # Compared also where there is none, in the same time: nobody learns which numbers there are.
        proven = hmac.compare_digest(hash_of_key(key), known)
        return session if proven and known != _NO_KEY else None

    def joined(self, session: Session) -> None:
        """It has its row."""
        session.joined = True
        self.by_key[session.client._key] = session

    def lost(self, session: Session) -> Session | None:
        """Its link is gone.

        Returns:
            One that has to leave now because there are too many, if there are.
        """
        session.link = None
        self._away[session.client.session] = session
        if len(self._away) <= SESSIONS_ABSENT_MAX:
            return None
        longest = next(iter(self._away.values()))
        del self._away[longest.client.session]
        return longest

    def returned(self, session: Session, link: "Link") -> None:
        """It has a link again."""
        self._away.pop(session.client.session, None)
        session.link = link

    def expired(self, tick: Tick) -> Iterator[Session]:
        """Those that were away for too long. They lost their links in the order of their times."""
        while self._away:
            session = next(iter(self._away.values()))
            if session.expires_tick == 0 or session.expires_tick > tick:
                return
            del self._away[session.client.session]
            yield session

    def remove(self, session: Session) -> None:
        """It has left, or never joined."""
        self._by_number.pop(session.client.session, None)
        self._away.pop(session.client.session, None)
        if session.joined:
            self.by_key.pop(session.client._key, None)
