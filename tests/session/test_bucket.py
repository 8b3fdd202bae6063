"""A token bucket, asked about any moment."""

from ecsnet.limits import NS_PER_S
from ecsnet.session.bucket import TokenBucket


def test_it_is_never_ready_before_the_token_is_there() -> None:
    """Whoever asks about a moment before the last taking must not be told one that is over: it would ask for ever."""
    bucket = TokenBucket(10, 2, 0)
    assert bucket.take(2, NS_PER_S)
    for asked_ns in (0, NS_PER_S // 2, NS_PER_S):
        ready_ns = bucket.ready_ns(1, asked_ns)
        assert ready_ns == NS_PER_S + NS_PER_S // 10
    assert not bucket.take(1, ready_ns - 1)
    assert bucket.take(1, ready_ns)
