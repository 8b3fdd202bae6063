"""Arguments that make no sense: every one is refused by an error of ecsnet's own, and nothing has changed."""

import math
from typing import Any

import numpy as np
import pytest

from ecsnet.errors import (
    ArgumentError,
    ConstraintError,
    EcsnetError,
    InternalError,
    LimitExceededError,
    LocalProtocolError,
    UnknownNameError,
)
from ecsnet.schema import Schema, loads
from ecsnet.store import Store, Transaction, col

JUNK: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        2**32,
        2**63,
        2**64,
        10**400,
        1.5,
        math.nan,
        math.inf,
        1j,
        "",
        "helth",
        "health.",
        ".hp",
        "\ud800",
    ),
    *(
        b"",
        b"abc",
        [],
        [1, "x"],
        [[1, 2], [3]],
        (),
        (1, 2, 3),
        {},
        {"hpp": 1},
        {1: 2},
        {"hp": None},
        {"hp": [[1]]},
        set(),
    ),
    *(object(), int, Ellipsis, slice(0, 1), len, np.array(["x", "y"]), np.array("x"), np.array([[1, 2], [3, 4]])),
    *(np.array([object()]), np.array([math.nan]), np.zeros(2, [("q", "f4")]), np.timedelta64(3), np.datetime64("2020")),
    *(col("health.hp"), col("helth.hp") < 5, memoryview(b"abc"), bytearray(b"xy"), NotImplemented),
]
VERBS = [
    *("spawn", "despawn", "insert", "update", "delete", "expect", "spawn_many", "insert_many", "update_many"),
    *("delete_many", "writer", "inserter", "deleter", "reader", "query", "find", "key", "related"),
    *("__getitem__", "__contains__"),
]


def refused(call: Any, *arguments: Any, **named: Any) -> bool:
    """Whether it was refused, as it may only be: by a typed error, or by Python for the number of arguments."""
    try:
        call(*arguments, **named)
    except InternalError:
        raise
    except EcsnetError as error:
        assert str(error)
        return True
    except TypeError as error:
        inside = error.__traceback__.tb_next if error.__traceback__ else None
        assert inside is None, "not from a signature"
        return True
    return False


def populated(schema: Schema) -> tuple[Store, int]:
    store = Store(schema)
    with store.transaction() as tx:
        ship = int(tx.spawn(health={}, transform={}, everything={}))
        tx.insert("item", {"kind": "SWORD", "holder": ship})
    return store, ship


@pytest.mark.parametrize("lent", [False, True], ids=["direct", "lent"])
@pytest.mark.parametrize("verb", VERBS)
def test_no_junk_gets_past_a_verb_as_anything_but_a_typed_error(schema: Schema, verb: str, lent: bool) -> None:
    """With nothing lent a verb acts at once and refuses by the cell's own packing; with columns out it waits."""
    store, ship = populated(schema)
    digest = store.view().digest()

    def attempt(*arguments: Any, **named: Any) -> None:
        tx = store.transaction()
        held = tx.query("health")[0].hp if lent else None
        before = store.version
        if refused(getattr(tx, verb), *arguments, **named):
            del held
            tx.commit()
            assert store.version == before
        else:
            del held
            tx.rollback()

    for junk in JUNK:
        attempt(junk)
        attempt(ship, junk)
        attempt(junk, "health")
        attempt(ship, "health", junk)
        attempt("item", junk)
        attempt(ship, health=junk)
        attempt(ship, "health", hp=junk)
        attempt(ship, "everything", an_array=junk)
        attempt(health={"hp": junk})
        attempt(ship, everything={"some_bytes": junk})
    with store.view() as view:
        assert view.digest() == digest


@pytest.mark.parametrize("lent", [False, True], ids=["direct", "lent"])
def test_a_cell_takes_no_junk(schema: Schema, lent: bool) -> None:
    """As the second of its kind, too: the first prepares what the others go through."""
    store, ship = populated(schema)
    for path in ("health.hp", "transform.x", "everything.an_array", "everything.some_bytes", "everything.a_bool"):
        tx = store.transaction()
        held = tx.query("health")[0].hp if lent else None
        tx[ship, path] = tx[ship, path]
        for junk in JUNK:
            before = tx[ship, path]
            if refused(tx.__setitem__, (ship, path), junk):
                assert np.array_equal(tx[ship, path], before)
            refused(tx.__getitem__, (ship, junk))
            refused(tx.__getitem__, (junk, path))
        del held
        tx.rollback()


def test_what_looks_like_a_component_and_is_none_is_refused_each_time(store: Store) -> None:
    """The first insertion of a kind prepares the next ones, which used to take anything with the same names in it."""
    with store.transaction() as tx:
        tx.spawn(health={}, transform={"x": 1.0})
        tx.insert(tx.spawn(), health={})
        tx.insert(tx.spawn(), health={"hp": 1})
        bare = tx.spawn()
        for almost in ([], (), ["hp"], np.array(["hp"]), set()):
            with pytest.raises(ArgumentError):
                tx.spawn(health=almost)
            with pytest.raises(ArgumentError):
                tx.insert(bare, health=almost)
        assert (bare, "health") not in tx


def test_more_rows_than_any_table_holds_are_refused_before_memory_is_asked_for(store: Store) -> None:
    for many in (2**25, 2**40, 2**63, 2**80):
        with store.transaction() as tx, pytest.raises(LimitExceededError):
            tx.spawn_many(many, health={})
        with pytest.raises(LimitExceededError):
            store.queue().spawn_many(many, health={})
    assert store.version == 0


def test_a_query_has_as_many_tables_as_it_names(store: Store) -> None:
    with store.view() as view:
        query = view.query("transform", "health")
        assert query[-1].key is not None
        for number in (2, -3, None, "health", slice(0, 1), 1.0):
            with pytest.raises(ArgumentError, match="from 0 to 1"):
                query[number]


def test_rows_of_a_query_are_no_rows_to_be_written(store: Store) -> None:
    """They answer for their table's fields, and not for what rows to be written are known by."""

    def attempt(tx: Transaction, *verbs: str) -> None:
        (rows,) = tx.query("health")
        for verb in verbs:
            with pytest.raises(ArgumentError, match="expected"):
                getattr(tx, verb)(rows)

    with store.transaction() as tx:
        attempt(tx, "spawn", "insert", "query")


def test_nan_is_refused_wherever_a_range_is_declared() -> None:
    bounded = loads(
        """
        [database]
        name = "bounded"
        version = "1.0.0"
        [tables.heat]
        parent_table = "entities"
        fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
                  { name = "share", type = "f32", default = 0.0, minimum = 0.0, maximum = 1.0 }]
        """
    )
    store = Store(bounded)
    with store.transaction() as tx:
        one = tx.spawn(heat={})

    def lent(tx: Transaction) -> None:
        tx.query("heat")[0].share[0] = math.nan

    ways: list[Any] = [
        lambda tx: tx.update(one, "heat", share=math.nan),
        lambda tx: tx.update_many([one], "heat", share=[math.nan]),
        lambda tx: tx.spawn(heat={"share": math.nan}),
        lambda tx: tx.spawn_many(heat={"share": [0.0, math.nan]}),
        lambda tx: tx.writer("heat.share")(one, math.nan),
        lambda tx: tx.__setitem__((one, "heat.share"), math.nan),
        lent,
    ]
    for way in ways:
        with pytest.raises(ConstraintError) as caught, store.transaction() as tx:
            way(tx)
        assert (caught.value.table, caught.value.field, caught.value.rule) == ("heat", "share", "range")
    assert store.version == 1


def test_what_waits_under_trio_says_so_where_there_is_none(store: Store) -> None:
    async def begin() -> None:
        async with store.transaction():
            pass

    async def follow() -> None:
        async for _ in store.subscribe("health"):
            pass

    for wrong in (begin, follow):
        with pytest.raises(LocalProtocolError, match="Trio"):
            wrong().send(None)
    assert store.version == 0
    with store.transaction() as tx:
        assert tx.spawn()


def test_a_field_without_its_table_is_told_its_path_where_it_could_be_one_only(store: Store) -> None:
    with store.view() as view:
        query = view.query("transform", "velocity", "health")
        with pytest.raises(UnknownNameError, match=r"did you mean 'health\.hp'"):
            query.where(col("hp") < 5)
        with pytest.raises(UnknownNameError, match=r"known: transform\.x"):
            query.where(col("x") < 5)


def test_membership_is_asked_of_several_values(store: Store) -> None:
    for one in (5, "x", None, np.array(5), np.array("x")):
        with pytest.raises(ArgumentError, match="several"):
            col("health.hp").is_in(one)


def test_a_row_with_a_key_of_its_own_is_spawned_by_nobody(store: Store) -> None:
    """Not even when rows of its very fields were inserted before, and how to is known."""
    for _ in range(2):
        with store.transaction() as tx:
            tx.insert("item", {"kind": "SWORD"})
            with pytest.raises(ArgumentError, match="item is not a component"):
                tx.spawn(item={"kind": "SWORD"})
    with store.view() as view:
        assert len(view["item"]) == 2
        assert len(view["entities"]) == 0


def test_the_names_of_an_update_are_checked_where_no_row_is_found(store: Store) -> None:
    nobody = store["health"].filter(col("health.hp") > 1000)
    with pytest.raises(UnknownNameError, match="did you mean 'hp'"):
        nobody.update(hpp=1)
    assert nobody.update(hp=1) == 0
    assert store.version == 0


def test_ticks_are_counted_in_64_bits(store: Store) -> None:
    for wrong in (-1, 1 << 64, 1.5, None, "1"):
        with pytest.raises(ArgumentError, match="number of a tick"):
            store.tick(wrong)  # type: ignore[arg-type]
