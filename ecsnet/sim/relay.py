"""What the authority's observer sees in a tick: for the checkers at once, for the model once the version is shown.

The model is told late because an entity that was spawned for a client is known to the client only then, and because a
version that is never shown, in a crash, never happened.

Invariant: the model is told in the order in which things ran.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ecsnet.ids import Tick
from ecsnet.schema import Schema
from ecsnet.session.server import Outcome, PendingCommand
from ecsnet.sim.checkers import Checkers
from ecsnet.sim.owner import Owners
from ecsnet.wire.messages import CommandStatus
from ecsnet.wire.writes import decode_write_untrusted
from ecsnet.world import Client

if TYPE_CHECKING:
    from ecsnet.sim.model import Model


class Relay:
    """An `Observer` of the authority."""

    def __init__(self, checkers: Checkers, model: "Model | None", schema: Schema) -> None:
        self._checkers = checkers
        self._model = model
        self._schema = schema
        self.owners: Owners | None = None
        self.on_left: Callable[[int], object] = lambda session: None
        self._untold: list[Callable[[], None]] = []
        self._made: deque[tuple[int, list[Callable[[], None]]]] = deque()

    def made(self, version: int, shown: int) -> None:
        """The tick is over; it has led to `version`, and everybody may see `shown`."""
        self._made.append((version, self._untold))
        self._untold = []
        self.shown(shown)

    def shown(self, version: int) -> None:
        """Everybody may see a version."""
        while self._made and self._made[0][0] <= version:
            for tell in self._made.popleft()[1]:
                tell()

    def forget(self) -> None:
        """The node is gone, and what was not shown with it."""
        self._made.clear()
        self._untold = []

    def joined(self, tick: Tick, client: Client) -> None:
        model = self._model
        if model is not None:
            self._untold.append(lambda: model.joined(client))

    def left(self, tick: Tick, client: Client) -> None:
        self.on_left(client.session)
        model = self._model
        if model is not None:
            self._untold.append(lambda: model.left(client))

    def command(self, tick: Tick, client: Client, command: PendingCommand, outcome: Outcome) -> None:
        self._checkers.command(client.session, command, outcome)
        model, signature = self._model, command.signature
        if model is not None and signature is not None and outcome.status == CommandStatus.ACCEPTED:
            arguments = dict(zip((one.name for one in signature.parameters), command.values, strict=True))
            self._untold.append(lambda: model.command(client, signature.name, arguments))
        if command.write is not None and outcome.status == CommandStatus.ACCEPTED:
            table, data = command.write
            write = decode_write_untrusted(self._schema.table_by_id(table), data)
            if self.owners is not None:
                self.owners.written(client, write)
            if model is not None:
                self._untold.append(lambda: model.written(client, write))

    def system(self, tick: Tick, name: str, ok: bool) -> None:
        model = self._model
        if model is not None and ok:
            self._untold.append(lambda: model.system(name, tick))
