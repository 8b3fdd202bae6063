"""What a type checker must find. Each `# E:` is its error in that line, and there is no other."""

from typing import Any

from arena import Health, Hit, Item, Kind, Pose, Shield, Transform, Vec3, Velocity, schema, steer, world
from ecsnet import Client, Component, Store, Struct, Transaction, connect, f32, field, maybe, u16

Shield()  # E: Missing named argument "strength" for "Shield"
Shield(strength="much")  # E: Argument "strength" to "Shield" has incompatible type "str"
Shield(stength=3)  # E: Unexpected keyword argument "stength" for "Shield"; did you mean "strength"?
Shield(3)  # E: Too many positional arguments for "Shield"
Item(id=7, kind=Kind.SWORD, holder=None)  # E: Unexpected keyword argument "id" for "Item"
Item(kind="SWORD", holder=None)  # E: Argument "kind" to "Item" has incompatible type "str"
Pose(place=3)  # E: Argument "place" to "Pose" has incompatible type "int"
Vec3(w=1.0)  # E: Unexpected keyword argument "w" for "Vec3"

Health.hq  # E: "type[Health]" has no attribute "hq"
Pose.place.w  # E: "type[Vec3]" has no attribute "w"
low = Health.hp < "x"  # E: Unsupported operand types for < ("Field[int, unsignedinteger[_16Bit]]" and "str")


class Frozen(Component, gruop="body"):  # E: Unexpected keyword argument "gruop" for "__init_subclass__" of "Component"
    x: f32 = 0.0  # E: Incompatible types in assignment (expression has type "float", variable has type "f32")
    y: f32 = field(defualt=0.0)  # E: Unexpected keyword argument "defualt" for "field"; did you mean "default"?


def write(tx: Transaction) -> None:
    sword = Item(kind=Kind.SWORD, holder=None)
    tx.spawn(sword)  # E: Argument 1 to "spawn" of "PointWrites" has incompatible type "Item"; expected "Component"
    tx.insert(Health())  # E: No overload variant of "insert" of "PointWrites" matches argument type "Health"
    tx.spawn(Health)  # E: Argument 1 to "spawn" of "PointWrites" has incompatible type "type[Health]"
    tx[3, Health.hp] = "x"  # E: Cannot infer value of type parameter "Cell" of "__setitem__" of "PointWrites"
    tx[3, Pose.title] + 1  # E: Unsupported operand types for + ("str" and "int")


def ask(tx: Transaction) -> None:
    tx.query(int)  # E: Value of type variable "A" of "query" of "Querying" cannot be "int"
    tx.query(Health).where(Health.hp == "x")  # E: Argument 1 to "where" of "Query" has incompatible type "bool"
    tx.query(Health).where(True)  # E: Argument 1 to "where" of "Query" has incompatible type "bool"
    _body, _speed = tx.query(Transform)  # E: Need more than 1 value to unpack (2 expected)
    one, two = tx.query(Transform, Velocity)
    one.z  # E: "Transform" has no attribute "z"
    one.x = "far"  # E: Incompatible types in assignment (expression has type "str"
    two.x.hp  # E: has no attribute "hp"
    _item, holder = tx.query(Item).join(Transform, on=Item.holder)
    holder.hp  # E: "Transform" has no attribute "hp"
    _body, shield = tx.query(Transform, maybe(Shield))
    shield.presnt  # E: "Shield" has no attribute "presnt"


def read(store: Store) -> None:
    with store.view() as view:
        view[3, Health.hp].lower()  # E: "int" has no attribute "lower"
        view[Health.hp].lower()  # E: has no attribute "lower"
        view[Kind]  # E: Invalid index type "type[Kind]" for "View"
        view.reader(Health.hp)(3).lower()  # E: "int" has no attribute "lower"


@world.command  # E: Argument 1 to "command" of "World" has incompatible type
def backwards(client: Client, tx: Transaction) -> None: ...


@world.system  # E: Value of type variable "System" of "system" of "World" cannot be
def alone() -> None: ...


def play() -> None:
    with connect("tcp://localhost:7777", world) as client:
        client.send(steer, dx=1.0, dy=0.0)
        client.send(steer, dx=1.0)  # E: No overload variant of "send" of "BaseClient" matches argument types
        client.send(steer, dx="left", dy=0.0)  # E: No overload variant of "send" of "BaseClient" matches argument types
        client.send(steer, dz=1.0)  # E: No overload variant of "send" of "BaseClient" matches argument types


def hit(event: Hit) -> Any:
    return event.harm  # E: "Hit" has no attribute "harm"


class Deep(Struct):
    a: u16 = field(default=0)


Deep(a="x")  # E: Argument "a" to "Deep" has incompatible type "str"
schema.tabel("health")  # E: "Schema" has no attribute "tabel"
