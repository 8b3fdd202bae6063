"""Two real sessions joined by a wire that a test can stop, cut and replay."""

from ecsnet.session.client import ClientEvent, ClientSession
from ecsnet.session.server import HelloReceived, Offer, Outcome, ServerEvent, ServerSession
from ecsnet.wire import codec
from ecsnet.wire.framing import split_frames_untrusted
from ecsnet.wire.messages import CommandSignature, CommandStatus, Message, Parameter, ParameterKind

FINGERPRINT = bytes(range(16))
SESSION, CLIENT_ID, EPOCH = 0xABCD, 7, 3
ACCEPTED = Outcome(CommandStatus.ACCEPTED)
MS = 1_000_000

COMMANDS = (
    CommandSignature(0, "attack", (Parameter("target", ParameterKind.ENTITY),)),
    CommandSignature(1, "steer", (Parameter("dx", ParameterKind.FLOAT),), latest=True),
)
OFFER = Offer(fingerprint=FINGERPRINT, canonical="the schema", commands=COMMANDS, hz=30, name="arena")
TARGET = 1 << 32 | 5


class Pair:
    """A client and a node, and the time."""

    def __init__(self, client: ClientSession | None = None, offer: Offer = OFFER) -> None:
        self.now_ns = 0
        self.offer = offer
        self.client = client if client is not None else ClientSession(fingerprint=FINGERPRINT, commands=COMMANDS)
        self.server = ServerSession(offer, now_ns=0)
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.server_events: list[ServerEvent] = []
        self.client_events: list[ClientEvent] = []

    def collect(self) -> None:
        """Take what both have to say onto the wire."""
        self.to_server += self.client.frames_to_send(self.now_ns)
        while (frame := self.server.next_frame()) is not None:
            self.to_client.append(frame)

    def deliver(self) -> None:
        """Carry what is on the wire to the other end."""
        to_server, self.to_server = self.to_server, []
        to_client, self.to_client = self.to_client, []
        for frame in to_server:
            self.give_server(frame)
        for frame in to_client:
            self.give_client(frame)

    def step(self, ns: int = 10 * MS) -> None:
        self.now_ns += ns
        self.collect()
        self.deliver()

    def give_server(self, frame: bytes) -> None:
        [(kind, _, payload)] = split_frames_untrusted(frame, 1 << 20)
        self.server.receive_frame(kind, payload, self.now_ns)
        while (event := self.server.next_event()) is not None:
            self.server_events.append(event)

    def give_client(self, frame: bytes) -> None:
        [(kind, _, payload)] = split_frames_untrusted(frame, 1 << 20)
        self.client.receive_frame(kind, payload, self.now_ns)
        while (event := self.client.next_event()) is not None:
            self.client_events.append(event)

    def give_server_message(self, message: Message) -> None:
        self.give_server(codec.encode(message))

    def give_client_message(self, message: Message) -> None:
        self.give_client(codec.encode(message))

    def said(self) -> list[Message]:
        """What the node has said and nobody has taken yet, decoded."""
        out = []
        while (frame := self.server.next_frame()) is not None:
            out.append(codec.decode_untrusted(frame[4], frame[8:]))
        return out

    def shake_hands(self) -> "Pair":
        self.client.connect(self.now_ns)
        self.step()
        assert isinstance(self.server_events[-1], HelloReceived)
        self.server.welcome(session=SESSION, client_id=CLIENT_ID, epoch=EPOCH, version=10, tick=20)
        self.step()
        return self

    def run_commands(self, version: int = 11, tick: int = 21) -> list[int]:
        """One tick of the authority: the sequences that it ran."""
        ran = []
        for command in self.server.take_commands():
            if command.verdict is None:
                ran.append(command.sequence)
            self.server.answer(command.sequence, command.verdict or ACCEPTED, version=version, tick=tick)
        return ran
