"""The database alone, as the API is meant to be written."""

import ecsnet
import numpy as np
from arena import Health, Item, Kind, Pose, Shield, Transform, Vec3, Velocity, schema

with ecsnet.Store(schema) as store:
    with store.transaction() as tx:
        ship = tx.spawn(Transform(x=1.0, y=2.0), Velocity(), Health())
        fleet = tx.spawn_many(Transform(x=np.arange(1000.0), y=0.0), Health())
        sword = tx.insert(Item(kind=Kind.SWORD, holder=ship))
        tx.insert(ship, Shield(strength=3))
        tx.update_many(fleet, Health, hp=np.full(1000, 50))
        with tx.savepoint():
            tx[ship, Health.hp] -= 30
    store.transaction().update(ship, Health, hp=90).delete(ship, Shield).commit()

    health = store[Health]
    health.update(ship, hp=80)
    hurt = health.filter(Health.hp < 100).count()
    with health.batch() as batch:
        batch.update(ship, hp=70)

    with store.view() as view:
        hp = view[ship, Health.hp]
        xs = view[Transform.x]
        weak = view.query(Transform, Health).where((Health.hp < 20) & (Transform.x > 0.0))
        body, condition = weak
        item, holder = view.query(Item).join(Transform, on=Item.holder)
        body, shield = view.query(Transform, ecsnet.maybe(Shield), without=[Velocity])
        strong = body.x[shield.present]
        print(view[Item])
        version = view.version
        assert (hp, hurt, len(xs), weak.count(), item.kind.tolist(), len(strong)) == (70, 1001, 1001, 0, [1], 0)
        assert holder.x.tolist() == [1.0] and len(condition.hp) == 0

    for change in store.changes(Health, where=Health.hp == 0, since=version):
        print(change.version, change.kind, change.key, change.fields)

    with store.transaction() as tx:
        bird = tx.spawn(Pose(place=Vec3(x=1.0), title="kea", path={"x": [1.0, 2.0, 3.0, 4.0]}))
        tx.insert(bird, Transform(x=9.0))
        (pose,) = tx.query(Pose).where(Pose.place.x == 1.0)
        pose.rotation[:, 3] = 2.0
        (body,) = tx.query(Transform).where(Transform.x.between(8.0, 10.0)).limit(9)
        body.y = body.x * 2
    with store.view() as view:
        title: str = view[bird, Pose.title]
        assert (title, view[bird, Transform.y], view[bird, Pose.place.z]) == ("kea", 18.0, 1.0)
        found = view.query(Health).order_by(ecsnet.desc(Health.hp)).limit(1).entity
        counts = view.query(Health).group_by(Health.hp).aggregate(n=ecsnet.count())
        key = view.key(Item.id, view[sword, Item.id])
        by_name = view.query("transform", "health").where(ecsnet.col("health.hp") > 60)
        body, condition = by_name
        assert (key, found.tolist(), by_name.count()) == (sword, [ship], 1), counts
print("whole")
