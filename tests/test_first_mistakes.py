"""What somebody new to ecsnet does wrong first: each is told what to write instead."""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

import ecsnet
from ecsnet import Component, Schema, Store, Table, auto, enum, f32, field, ref, u16, u64
from ecsnet.errors import ArgumentError, QueryError, SchemaError, StaleEntityError


class Place(Component):
    x: f32 = field(default=0.0)
    y: f32 = field(default=0.0)


class Life(Component):
    hp: u16 = field(default=100)


class Make(IntEnum):
    AXE, BOW = 1, 2


class Thing(Table):
    id: u64 = auto()
    make: enum[Make]
    holder: ref = field(to="entities.id", default=None)


SCHEMA = Schema("beginnings", "1.0.0", Place, Life, Thing)


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(SCHEMA) as made:
        yield made


def test_fields_are_given_by_name() -> None:
    # A type checker refuses it too.
    with pytest.raises(ArgumentError, match=r"by name: Place\(x=\.\.\., y=\.\.\.\); found 1\.0"):
        Place(1.0, 2.0)  # type: ignore[call-arg]


def test_a_row_in_the_wrong_verb_is_sent_to_the_right_one_in_the_words_it_was_written_in(store: Store) -> None:
    with store.transaction() as tx:
        with pytest.raises(ArgumentError, match=r"insert\(Thing\(\.\.\.\)\) makes a row"):
            tx.spawn(Thing(make=Make.AXE))  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=r'insert\("thing", \{\.\.\.\}\) makes a row'):
            tx.spawn(thing={"make": "AXE"})
        with pytest.raises(ArgumentError, match=r"insert\(entity, Place\(\.\.\.\)\)"):
            tx.insert(Place())  # type: ignore[call-overload]
        with pytest.raises(ArgumentError, match=r"insert\(entity, place=\{\.\.\.\}\)"):
            tx.insert("place", {})
        with pytest.raises(ArgumentError, match=r"insert_many\(entities, Place\(\.\.\.\)\)"):
            tx.insert_many(Place(x=[1.0, 2.0]))  # type: ignore[call-overload]


def test_a_primary_key_is_no_key_and_the_error_says_how_to_find_the_row(store: Store) -> None:
    """The first row's `id` is 1, and its key is not: whoever confuses them hears of `key`."""
    key = store[Thing].insert(make=Make.BOW)
    with store.view() as view:
        assert view[view.key(Thing.id, 1), Thing.make] == view[key, Thing.make] == Make.BOW
        with pytest.raises(StaleEntityError, match="finds a row by a field's value"):
            view[1, Thing.make]
    store[Thing].delete(key)
    with store.view() as view, pytest.raises(StaleEntityError, match="it is not alive"):
        view[key, Thing.make]


def test_conditions_without_parentheses_are_told_to_take_some() -> None:
    """`Life.hp > 1 & Life.hp < 3` asks for `1 & Life.hp` first."""
    column: Any = Life.hp
    with pytest.raises(ArgumentError, match="put parentheses around each"):
        assert column > 1 & column < 3
    with pytest.raises(ArgumentError, match="put parentheses around each"):
        assert column == 1 | column == 3


def test_a_query_says_that_it_is_to_be_unpacked(store: Store) -> None:
    with store.view() as view:
        query = view.query(Place)
        with pytest.raises(AttributeError, match=r"no attribute 'x': unpack it first"):
            query.x  # type: ignore[attr-defined]
        assert not hasattr(query, "__array__")
        with pytest.raises(QueryError, match=r"view\.query\(\.\.\.\) and tx\.query\(\.\.\.\) take tables"):
            store.query(Place)  # type: ignore[arg-type]


def test_joining_components_of_one_entity_is_told_to_name_them_side_by_side(store: Store) -> None:
    with store.view() as view, pytest.raises(ArgumentError, match="side by side, without join"):
        view.query(Place).join(Life)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("select * from place", "select comes last"),
        ("from thing where thing.make == AXE", "the name of an enum's value, stands in quotes"),
    ],
)
def test_texts_in_the_manner_of_sql_hear_what_is_different(store: Store, text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        store.query(text)


def test_an_unknown_column_on_the_left_is_not_taken_for_a_text(store: Store) -> None:
    with pytest.raises(QueryError) as refused:
        store.query("from thing where thing.mak == 'AXE'")
    assert "quotes" not in str(refused.value)


def test_hints_about_classes_are_in_the_words_of_python() -> None:
    class NoKey(Table):
        size: u16

    class Wanting(Component):
        thing: ref = field(to=Thing)

    with pytest.raises(SchemaError, match=r"id: u64 = auto\(\)"):
        Schema("beginnings", "1.0.0", NoKey)
    with pytest.raises(SchemaError, match=r"give its class to Schema\(\.\.\.\) too"):
        Schema("beginnings", "1.0.0", Wanting)
    with pytest.raises(SchemaError, match=r"write enum\[Make\]"):

        class Bare(Component):
            make: Make

    with pytest.raises(TypeError, match=r"x: f32 = field\(\.\.\.\)"):

        class Made(Component):
            x = f32()  # type: ignore[call-arg]


def test_a_misspelt_public_name_has_a_suggestion() -> None:
    with pytest.raises(AttributeError, match="did you mean 'Transaction'"):
        ecsnet.Transation  # type: ignore[attr-defined]
    assert not hasattr(ecsnet, "__wrapped__")


def test_what_is_printed_first_says_what_it_is(store: Store) -> None:
    assert repr(SCHEMA) == "<schema beginnings 1.0.0: entities, life, place, thing>"
    with store[Life].batch() as batch:
        assert repr(batch) == "<batch in <transaction 'batch of life', idle>>"
