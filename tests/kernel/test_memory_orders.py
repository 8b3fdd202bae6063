"""The atomics of views, the queue and the baton: right as they are, and wrong when any of them is one step weaker.

A thread sanitizer sees only what happened to go wrong; a model tries everything, in small. What keeps model and code
together is that the model's orders are those in the source.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel import queue_model, view_model
from tests.kernel.queue_model import queue_holds
from tests.kernel.view_model import views_hold
from tests.kernel.weak_memory import Caught

ZIG = Path(__file__).parent.parent.parent / "kernel" / "zig"


def source(name: str) -> str:
    return re.sub(r"\s+", " ", (ZIG / name).read_text(encoding="utf-8"))


def test_views_hold_whatever_readers_and_the_writer_do() -> None:
    assert views_hold(view_model.Orders(), versions=4, readers=2, reads=1) > 1000
    assert views_hold(view_model.Orders(), versions=3, readers=2, reads=2) > 1000


@pytest.mark.parametrize(
    "weaker",
    [
        {"acquire": "monotonic"},
        {"release": "monotonic"},
        {"publish": "monotonic"},
        {"reclaim": "monotonic"},
        {"pins_looked_at": False},
        {"shared_buffers_looked_at": False},
        {"pin_in_one": False},
    ],
    ids=str,
)
def test_views_need_each_of_their_orders(weaker: dict[str, object]) -> None:
    with pytest.raises(Caught):
        views_hold(replace(view_model.Orders(), **weaker), versions=4, readers=2, reads=2)  # type: ignore[arg-type]


def test_the_queue_holds_whatever_producers_do() -> None:
    assert queue_holds(queue_model.Orders(), producers=2, each=2) > 500
    assert queue_holds(queue_model.Orders(), producers=3, each=1) > 500


@pytest.mark.parametrize(
    "weaker",
    [
        {"put": "acq_rel"},
        {"put": "monotonic"},
        {"take_all": "monotonic"},
        {"waits": "acquire"},
        # The compiler demands that success is no weaker than failure, which is where the order is needed.
        {"take": "monotonic"},
        {"take_failed": "acquire"},
        {"give": "acq_rel"},
        {"give": "monotonic"},
        {"looks_again": False},
    ],
    ids=str,
)
def test_the_queue_needs_each_of_its_orders(weaker: dict[str, object]) -> None:
    with pytest.raises(Caught):
        queue_holds(replace(queue_model.Orders(), **weaker), producers=2, each=2)  # type: ignore[arg-type]


def test_the_models_have_the_orders_of_the_source() -> None:
    views, queue = view_model.Orders(), queue_model.Orders()
    view, inbox, store = source("view.zig"), source("inbox.zig"), source("store.zig")
    for text, line in (
        (view, f"root = views.root.fetchAdd(1, .{views.acquire});"),
        (view, f"released.fetchAdd(1, .{views.release});"),
        (view, f"views.root.swap(@as(u64, at) << count_bits, .{views.publish});"),
        (view, f"slot.released.load(.{views.reclaim}) != slot.acquired"),
        (inbox, f"inbox.newest.cmpxchgStrong(seen, node, .{queue.put}, .monotonic)"),
        (inbox, f"inbox.newest.swap(null, .{queue.take_all});"),
        (inbox, f"inbox.newest.load(.{queue.waits}) == null"),
        (store, f"store.baton.cmpxchgStrong(0, 1, .{queue.take}, .{queue.take_failed})"),
        (store, f"store.baton.swap(0, .{queue.give});"),
    ):
        assert text.count(line) == 1, line
    # Nothing else writes them: a plain store would break the release sequences that the models count on.
    assert not re.search(r"(root|released|newest|baton)\.store\(", view + inbox + store)
