"""Any message, as hypothesis makes them: for round trips, and as the material of mutations."""

from hypothesis import strategies as st

from ecsnet.limits import DELTA_PARTS_MAX
from ecsnet.wire import messages as m

u8 = st.integers(0, 2**8 - 1)
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=15)
texts = st.text(st.characters(codec="utf-8"), max_size=100)
data = st.binary(max_size=200)
fingerprints = st.binary(min_size=16, max_size=16)
reasons = st.sampled_from([reason for reason in m.Reason if reason is not m.Reason.OTHER])
versions = st.tuples(u64, u64).map(lambda pair: (min(pair), max(pair)))

parameters = st.builds(
    m.Parameter,
    names,
    st.sampled_from(list(m.ParameterKind)),
    st.lists(st.tuples(names, i64), max_size=3).map(tuple),
)
signatures = st.builds(
    m.CommandSignature,
    u16,
    names,
    st.lists(parameters, max_size=4).map(tuple),
    st.booleans(),
    st.booleans(),
)


def _delta(pair: tuple[int, int], part: tuple[int, int], **rest: object) -> m.DeltaSync:
    return m.DeltaSync(base=pair[0], version=pair[1], part=part[0], parts=part[1], **rest)  # type: ignore[arg-type]


hot = st.one_of(
    st.builds(
        lambda pair, **rest: m.SyncBegin(base=pair[0], first_version=pair[1], **rest),
        versions,
        session=u64,
        epoch=u32,
        tick=u64,
        rows=u64,
        revision=u32,
    ),
    st.builds(
        lambda pair, **rest: m.SyncChunk(base=pair[0], version=pair[1], **rest),
        versions,
        session=u64,
        epoch=u32,
        sequence=u32,
        block=data,
    ),
    st.builds(
        _delta,
        versions,
        st.integers(1, DELTA_PARTS_MAX).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))),
        session=u64,
        epoch=u32,
        tick=u64,
        digest_low=u64,
        digest_high=u64,
        entity=u64,
        command_ack=u32,
        flags=st.sampled_from([0, m.PARTIAL]),
        clock=st.lists(st.tuples(u64, u64), max_size=3).map(tuple),
        block=data,
    ),
    st.builds(m.Ack, session=u64, epoch=u32, version=u64, chunks=u32),
    st.builds(
        m.Command,
        session=u64,
        sequence=st.integers(1, 2**32 - 1),
        tick=u64,
        command=u16,
        flags=st.just(0),
        arguments=data,
    ),
    st.builds(
        m.CommandResult,
        sequence=st.integers(1, 2**32 - 1),
        status=st.sampled_from(list(m.CommandStatus)),
        version=u64,
        tick=u64,
        code=reasons,
        message=texts,
    ),
)

rare = st.one_of(
    st.builds(
        lambda wire, **rest: m.Hello(wire_min=min(wire), wire_max=max(wire), **rest),
        st.tuples(u16, u16),
        message_bytes_max=u32,
        features=u64,
        commands_hash=u64,
        fingerprint=st.one_of(st.just(b""), fingerprints),
        name=names,
        token=data,
    ),
    st.builds(
        m.Welcome,
        wire=u16,
        hz=u16,
        epoch=u32,
        features=u64,
        session=u64,
        client_id=u64,
        version=u64,
        tick=u64,
        commands_hash=u64,
        message_bytes_max=u32,
        bytes_per_s=u32,
        commands_per_s=u32,
        command_next=u32,
        fingerprint=fingerprints,
        resume_key=data,
        name=names,
        commands=st.lists(signatures, max_size=4).map(tuple),
    ),
    st.builds(m.Auth, scheme=u16, step=u16, data=data),
    st.builds(m.Schema, revision=u32, fingerprint=fingerprints, canonical=texts),
    st.builds(
        m.Event,
        session=u64,
        sequence=u64,
        version=u64,
        tick=u64,
        key=u64,
        epoch=u32,
        subscription=u32,
        table=u16,
        flags=u16,
        block=data,
    ),
    st.builds(m.Ping, nonce=u64, sent_ns=u64),
    st.builds(m.Pong, nonce=u64, sent_ns=u64, received_ns=u64, tick=u64),
    st.builds(
        lambda wire, **rest: m.Resume(wire_min=min(wire), wire_max=max(wire), **rest),
        st.tuples(u16, u16),
        session=u64,
        version=u64,
        epoch=u32,
        command_next=u32,
        message_bytes_max=u32,
        features=u64,
        fingerprint=st.one_of(st.just(b""), fingerprints),
        resume_key=data,
        commands_hash=u64,
        command_oldest=u32,
    ),
    st.builds(
        m.Resumed,
        session=u64,
        version=u64,
        tick=u64,
        epoch=u32,
        command_next=u32,
        accepted=st.booleans(),
        reason=reasons,
        resume_key=data,
        hz=u16,
        bytes_per_s=u32,
        commands_per_s=u32,
    ),
    st.builds(m.Goodbye, reason=reasons, reconnect_after_ms=u32, message=texts),
    st.builds(m.Error, code=reasons, fatal=st.booleans(), kind=u8, sequence=u32, message=texts),
)

messages = st.one_of(hot, rare)

# What mutations put in: bounds of signed and unsigned words, and shapes of pointers.
WORDS = (0, 1, 2, 3, 5, 7, 8, 0x20, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF8, 0xFFFF_FFFC, 0xFFFF_FFFD, 0xFFFF_FFFF)
