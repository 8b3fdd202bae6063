"""The rule of apply, and the staging of a sync, told message by message."""

import pytest

from ecsnet.errors import RemoteProtocolError
from ecsnet.ids import Version
from ecsnet.replica import staging
from ecsnet.replica.staging import Staging
from ecsnet.wire.messages import DeltaSync, SyncBegin, SyncChunk


def delta(base: int, version: int, block: bytes = b"delta", **given: int) -> DeltaSync:
    return DeltaSync(session=1, epoch=1, base=base, version=version, tick=1, block=block, **given)


def begin(base: int, first_version: int) -> SyncBegin:
    return SyncBegin(session=1, epoch=1, base=base, first_version=first_version, tick=1)


def chunk(sequence: int, base: int, version: int, block: bytes = b"chunk") -> SyncChunk:
    return SyncChunk(session=1, epoch=1, sequence=sequence, base=base, version=version, block=block)


@pytest.mark.parametrize("base", [0, 5, 10])
def test_a_delta_applies_to_whatever_is_held_from_its_base_on(base: int) -> None:
    """Values are absolute, so a base older than what is held is as good."""
    assert Staging().close_untrusted(delta(base, 11), Version(10)) == (base, [b"delta"])


@pytest.mark.parametrize("version", [1, 9, 10])
def test_a_delta_to_what_is_held_already_changes_nothing(version: int) -> None:
    assert Staging().close_untrusted(delta(0, version), Version(10)) is None


def test_a_delta_from_beyond_what_is_held_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        Staging().close_untrusted(delta(11, 12), Version(10))


def test_a_sender_that_does_not_know_parts_sends_one() -> None:
    assert Staging().close_untrusted(delta(0, 1, parts=0), Version(0)) == (0, [b"delta"])


def test_what_is_not_built_is_refused() -> None:
    for message in (delta(0, 1, parts=2), delta(0, 1, part=1)):
        with pytest.raises(RemoteProtocolError):
            Staging().close_untrusted(message, Version(0))


def test_chunks_come_out_in_order_with_the_delta_that_closes_them() -> None:
    stage = Staging()
    stage.begin_untrusted(begin(0, 40), Version(0))
    stage.add_untrusted(chunk(0, 0, 40, b"a"))
    stage.add_untrusted(chunk(1, 0, 43, b"b"))
    assert stage.chunks == 2
    assert stage.close_untrusted(delta(40, 57, b"c"), Version(0)) == (0, [b"a", b"b", b"c"])
    stage.applied()
    assert (stage.origin, stage.chunks) == (None, 0)


def test_a_sync_goes_on_from_where_its_closing_delta_was_too_big() -> None:
    stage = Staging()
    stage.begin_untrusted(begin(0, 40), Version(0))
    stage.add_untrusted(chunk(0, 0, 40, b"a"))
    stage.begin_untrusted(begin(40, 57), Version(0))
    stage.add_untrusted(chunk(0, 40, 58, b"b"))
    assert stage.close_untrusted(delta(57, 60, b"c"), Version(0)) == (0, [b"a", b"b", b"c"])
    assert stage.chunks == 2, "counted since something was last applied"


def test_a_sync_that_begins_anew_drops_what_was_staged() -> None:
    """The authority does not keep the changes since the first one's base any more."""
    stage = Staging()
    stage.begin_untrusted(begin(5, 40), Version(7))
    stage.add_untrusted(chunk(0, 5, 40, b"a"))
    stage.begin_untrusted(begin(0, 300), Version(7))
    stage.add_untrusted(chunk(0, 0, 300, b"b"))
    assert stage.close_untrusted(delta(300, 300, b"c"), Version(7)) == (0, [b"b", b"c"])


def test_chunks_out_of_order_of_another_sync_or_of_none_are_refused() -> None:
    stage = Staging()
    with pytest.raises(RemoteProtocolError):
        stage.add_untrusted(chunk(0, 0, 40))
    stage.begin_untrusted(begin(0, 40), Version(0))
    for message in (chunk(1, 0, 40), chunk(0, 1, 40), chunk(0, 0, 39)):
        with pytest.raises(RemoteProtocolError):
            stage.add_untrusted(message)
    stage.add_untrusted(chunk(0, 0, 44))
    with pytest.raises(RemoteProtocolError):
        stage.add_untrusted(chunk(1, 0, 43))


def test_a_sync_from_beyond_what_is_held_or_to_nowhere_is_refused() -> None:
    for message, held in ((begin(11, 12), 10), (begin(9, 8), 10), (begin(0, 0), 0)):
        stage = Staging()
        with pytest.raises(RemoteProtocolError):
            stage.begin_untrusted(message, Version(held))
        assert stage.origin is None


@pytest.mark.parametrize(("base", "version"), [(41, 60), (40, 42), (40, 7)])
def test_a_closing_delta_must_cover_what_the_chunks_left_out(base: int, version: int) -> None:
    """From after the first version it would miss changes; before the newest chunk's it would take some back."""
    stage = Staging()
    stage.begin_untrusted(begin(0, 40), Version(7))
    stage.add_untrusted(chunk(0, 0, 43))
    with pytest.raises(RemoteProtocolError):
        stage.close_untrusted(delta(base, version), Version(7))


def test_what_is_staged_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "STAGED_SYNC_BYTES_MAX", 10)
    stage = Staging()
    stage.begin_untrusted(begin(0, 40), Version(0))
    stage.add_untrusted(chunk(0, 0, 40, b"123456"))
    with pytest.raises(RemoteProtocolError, match="STAGED_SYNC_BYTES_MAX"):
        stage.add_untrusted(chunk(1, 0, 40, b"123456"))
