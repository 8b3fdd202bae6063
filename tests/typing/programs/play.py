"""A client in a game's loop, as the API is meant to be written."""

import ecsnet
from arena import Hit, Transform, attack, steer, world


def play(address: str) -> float:
    """Steer until somebody is hit, and say how far the others are."""
    with ecsnet.connect(address, world, name="ada", wait_s=5) as client:
        while client.state != "closed":
            for event in client.poll():
                if isinstance(event, Hit):
                    print("hit for", event.damage)
                    return 0.0
            ticket = client.send(steer, dx=1.0, dy=0.0)
            client.send(attack, target=client.entity)
            client.send("steer", dx=1.0, dy=0.0)
            (body,) = client.view.query(Transform)
            for x, y in zip(body.x, body.y, strict=True):
                print(ticket.name, x, y)
    return 1.0
