"""Which view of the world each session is sent: what a rule finds is of the version that is cut."""

import numpy as np

from ecsnet import Client
from ecsnet.authority.audiences import Audiences
from ecsnet.authority.head import Head
from ecsnet.ids import ClientId, SessionId
from ecsnet.interest import where
from ecsnet.store import Store
from tests.test_interest import SCHEMA, Body, Health, world_of


def test_a_query_is_asked_of_the_version_that_is_cut() -> None:
    """Somebody commits after the head was taken and before it is looked who sees what: on another thread, or between a
    tick and the work that is done for it. What only the newer version has is told with that."""
    world, _ = world_of(where(Health, Health.hp < 20))
    with Store(SCHEMA) as store:
        with store.transaction() as tx:
            weak, strong = (tx.spawn(Body(), Health(hp=hp)) for hp in (5, 50))
        head = Head(store.kernel)
        audiences = Audiences(store, head, world)
        audience = audiences.of(Client(SessionId(1), ClientId(1), "ada"))
        table = SCHEMA.table("health")

        with store.transaction() as tx:
            tx.update(weak, Health, hp=100)
            tx.update(strong, Health, hp=10)
        assert audiences.keys_seen(audience, table).tolist() == [weak]

        assert audiences.refresh()
        assert audiences.keys_seen(audience, table).tolist() == [strong]
        head.close()


def test_looking_who_sees_what_publishes_nothing() -> None:
    """It is done on a thread that has no business with the writer's baton."""
    world, _ = world_of(where(Health, Health.hp < 20))
    with Store(SCHEMA) as store:
        with store.transaction() as tx:
            weak = tx.spawn(Body(), Health(hp=5))
        head = Head(store.kernel)
        audiences = Audiences(store, head, world)
        audience = audiences.of(Client(SessionId(1), ClientId(1), "ada"))
        held = []
        while store.kernel.head_version == store.kernel.published_version:
            with store.transaction() as tx:
                tx.update(weak, Health, hp=len(held) % 10)
            held.append(store.view())
        published = store.kernel.published_version
        held.clear()

        assert np.array_equal(audiences.keys_seen(audience, SCHEMA.table("health")), [weak])
        assert store.kernel.published_version == published
        head.close()
