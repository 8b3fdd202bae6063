"""Queries beyond one join on keys: optional tables, references, order, limits, numbers over the rows."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from ecsnet.errors import ArgumentError, ClosedError, UnknownNameError
from ecsnet.expressions import asc, count, desc, max_, mean, min_, sum_
from ecsnet.schema import loads
from ecsnet.store import Store, col, maybe

SCHEMA = loads("""
[database]
name = "shop"
version = "1.0.0"

[tables.transform]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "x", type = "f32", default = 0.0 },
          { name = "y", type = "f64", default = 0.0 }]

[tables.health]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "hp", type = "u16", default = 100, maximum = 100 },
          { name = "bonus", type = "i8" }]

[tables.tag]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "word", type = "bytes[4]", default = "abc" },
          { name = "place", type = "[f32; 2]", default = [1.0, 2.0] },
          { name = "leader", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]

[tables.item]
primary_key = "id"
fields = [{ name = "id", type = "u64", constraint = "unique", auto_increment = true },
          { name = "kind", type = "enum", values = { SWORD = 1, POTION = 2 } },
          { name = "weight", type = "f64", default = 1.0 },
          { name = "holder", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" },
          { name = "maker", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]
""")


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(SCHEMA) as store:
        yield store


@pytest.fixture
def crew(store: Store) -> dict[str, int]:
    """Ada has everything; bob no tag; rock nothing but a place. Two swords of ada's, a potion of bob's, one of
    nobody's."""
    with store.transaction() as tx:
        crew = {
            "ada": int(tx.spawn(transform={"x": 1.0}, health={"hp": 10, "bonus": -1}, tag={"word": b"a"})),
            "bob": int(tx.spawn(transform={"x": 2.0}, health={"hp": 20, "bonus": 2})),
            "rock": int(tx.spawn(transform={"x": 3.0})),
        }
        tx.update(crew["ada"], "tag", leader=crew["bob"])
        tx.insert("item", {"kind": "SWORD", "holder": crew["ada"], "weight": 5.0})
        tx.insert("item", {"kind": "SWORD", "holder": crew["ada"], "maker": crew["rock"], "weight": 6.0})
        tx.insert("item", {"kind": "POTION", "holder": crew["bob"]})
        tx.insert("item", {"kind": "POTION"})
    return crew


# --- maybe and without ------------------------------------------------------------------------------------------------


def test_a_maybe_table_says_which_rows_it_has(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        body, tag = view.query("transform", maybe("tag"))
        found = dict(zip(body.key.tolist(), tag.present.tolist(), strict=True))
        assert found == {crew["ada"]: True, crew["bob"]: False, crew["rock"]: False}
        assert tag.key.tolist() == [key if present else 0 for key, present in found.items()]
        words = {key: bytes(word) for key, word in zip(body.key.tolist(), tag.word, strict=True)}
        assert words[crew["ada"]] == b"a\0\0\0"
        assert words[crew["rock"]] == b"abc\0", "the default, where there is no row"
        assert tag.place.shape == (3, 2)
        assert tag.place[1].tolist() == [1.0, 2.0]
        assert tag.copied
        assert not tag.present.flags.writeable


def test_a_field_without_a_default_is_zero_where_there_is_no_row(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        body, health = view.query("transform", maybe("health"))
        assert dict(zip(body.x.tolist(), health.bonus.tolist(), strict=True)) == {1.0: -1, 2.0: 2, 3.0: 0}
        assert dict(zip(body.x.tolist(), health.hp.tolist(), strict=True)) == {1.0: 10, 2.0: 20, 3.0: 100}
        assert view.query("transform", maybe("health")).where(col("health.hp") == 100).count() == 1


def test_a_maybe_table_that_all_rows_have_is_as_any_other(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(5, transform={"x": np.arange(5)}, health={"bonus": 1})
    with store.view() as view:
        body, health = view.query("transform", maybe("health"))
        assert health.present.all()
        assert not health.copied
        assert body.present.all()


def test_a_maybe_table_may_come_first_and_a_query_of_nothing_else_is_refused(
    store: Store, crew: dict[str, int]
) -> None:
    with store.view() as view:
        tag, body = view.query(maybe("tag"), "transform", without=["health"])
        assert (tag.fields, len(body)) == (view["tag"].fields, 1)
        for nothing in ((), (maybe("tag"),)):
            with pytest.raises(ArgumentError, match="at least one table that every row has"):
                view.query(*nothing)
        with pytest.raises(ArgumentError, match="twice"):
            view.query("tag", maybe("tag"))
        with pytest.raises(UnknownNameError, match="did you mean 'tag'"):
            view.query("transform", maybe("tga"))


def test_what_is_written_to_a_maybe_table_comes_back_where_there_are_rows(store: Store, crew: dict[str, int]) -> None:
    with store.transaction() as tx:
        body, health = tx.query("transform", maybe("health"))
        health.hp[health.present] += 5
        body.x += 1
        assert tx[crew["ada"], "health.hp"] == 15
    with store.view() as view:
        assert view[crew["ada"], "health.hp"] == 15
        assert view[crew["bob"], "health.hp"] == 25
        assert view[crew["rock"], "transform.x"] == 4.0
        assert (crew["rock"], "health") not in view


def test_writing_where_a_maybe_table_has_no_row_is_refused_at_the_commit(store: Store, crew: dict[str, int]) -> None:
    """Dropped silently it would be a change that somebody believes in."""
    tx = store.transaction()
    _, health = tx.query("transform", maybe("health"))
    health.hp += 5
    with pytest.raises(ArgumentError, match=r"health.hp was written where there is no row"):
        tx.commit()
    with store.view() as view:
        assert view[crew["ada"], "health.hp"] == 10


# --- joins over references --------------------------------------------------------------------------------------------


def test_a_reference_leads_to_a_row_of_an_entity(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        item, holder = view.query("item").join("transform", on="item.holder")
        assert dict(zip(item.id.tolist(), holder.x.tolist(), strict=True)) == {1: 1.0, 2: 1.0, 3: 2.0}
        assert holder.key.tolist() == item.holder.tolist()
        item, entity = view.query("item").join("entities", on=col("item.maker"))
        assert entity.key.tolist() == [crew["rock"]]
        assert item.key.tolist() == view.query("item").where(col("id") == 2).key.tolist()


def test_a_left_join_keeps_rows_without_a_partner(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        item, holder = view.query("item").join("tag", on="item.holder", left=True)
        assert dict(zip(item.id.tolist(), holder.present.tolist(), strict=True)) == {
            1: True,
            2: True,
            3: False,
            4: False,
        }
        assert holder.key[~holder.present].tolist() == [0, 0]
        assert bytes(holder.word[2]) == b"abc\0"
        assert holder.leader[~holder.present].tolist() == [0, 0]


def test_rows_are_joined_to_all_that_refer_to_them(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        body, item = view.query("transform").join("item", on="item.holder")
        assert sorted(zip(body.x.tolist(), item.id.tolist(), strict=True)) == [(1.0, 1), (1.0, 2), (2.0, 3)]
        body, item = view.query("transform").join("item", on="item.holder", left=True)
        found = sorted(zip(body.x.tolist(), item.present.tolist(), item.weight.tolist(), strict=True))
        assert found == [(1.0, True, 5.0), (1.0, True, 6.0), (2.0, True, 1.0), (3.0, False, 1.0)]


def test_joins_chain_and_a_table_may_come_twice_under_another_name(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        query = (
            view.query("item")
            .join("tag", on="item.holder")
            .join("transform", on="item.holder")
            .join("transform", on="tag.leader", name="ahead")
        )
        item, _, body, ahead = query.where(col("ahead.x") > col("transform.x")).order_by("item.id")
        assert (item.id.tolist(), body.x.tolist(), ahead.x.tolist()) == ([1, 2], [1.0, 1.0], [2.0, 2.0])
        assert "join transform as ahead on tag.leader" in query.text()
        people = view.query("tag").join("tag", on="tag.leader", name="other", left=True)
        assert people[1].present.tolist() == [False], "bob has no tag"


def test_several_references_must_be_told_apart(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        query = view.query("item")
        with pytest.raises(ArgumentError, match=r"there are item.holder, item.maker"):
            query.join("transform")
        assert view.query("tag").join("transform").count() == 1, "there is only one"
        with pytest.raises(ArgumentError, match="no reference"):
            query.join("transform", on="item.kind")
        with pytest.raises(ArgumentError, match=r"tag.leader refers to entities"):
            query.join("item", on="tag.leader", name="other")
        with pytest.raises(ArgumentError, match="there is none"):
            query.join("item", name="other")
        with pytest.raises(UnknownNameError, match="holder"):
            query.join("transform", on="item.holdr")
        with pytest.raises(UnknownNameError):
            query.join("transfrm", on="item.holder")
        joined = query.join("transform", on="item.holder")
        with pytest.raises(ArgumentError, match="name of its own"):
            joined.join("transform", on="item.maker")
        with pytest.raises(ArgumentError, match="another table's name"):
            joined.join("transform", on="item.maker", name="health")
        with pytest.raises(ArgumentError, match="a word"):
            joined.join("transform", on="item.maker", name="a b")
        with pytest.raises(ArgumentError, match="expected a column"):
            joined.join("transform", on=5, name="b")  # type: ignore[arg-type]


def test_joined_columns_are_read_only_in_a_transaction(store: Store, crew: dict[str, int]) -> None:
    with store.transaction() as tx:
        item, holder = tx.query("item").join("transform", on="item.holder")
        item.weight += 1
        with pytest.raises(ValueError, match="read-only"):
            holder.x[0] = 5
        with pytest.raises(ArgumentError, match="read-only in a join"):
            holder.x = 5
        body, theirs = tx.query("transform").join("item", on="item.holder")
        assert sorted(theirs.weight.tolist()) == [2.0, 6.0, 7.0], "it reads what was written"
        with pytest.raises(ArgumentError, match="read-only in a join"):
            body.x = 1
    with store.view() as view:
        assert sorted(view["item.weight"].tolist()) == [1.0, 2.0, 6.0, 7.0]


def test_a_transaction_joins_what_it_has_just_written(store: Store, crew: dict[str, int]) -> None:
    with store.transaction() as tx:
        fresh = tx.spawn(transform={"x": 9.0})
        tx.insert("item", {"kind": "SWORD", "holder": fresh})
        _, holder = tx.query("item").join("transform", on="item.holder").where(col("transform.x") == 9.0)
        assert holder.key.tolist() == [fresh]
        assert tx.query("transform").where(col("entity_id") == fresh).count() == 1


# --- order, limit, select ---------------------------------------------------------------------------------------------


def test_rows_are_sorted_by_several_columns_and_counted_off(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(6, transform={"x": [1, 2, 1, 2, 1, 3], "y": [5, 4, 3, 2, 1, 0]})
    with store.view() as view:
        query = view.query("transform").order_by("x", desc("y"))
        (body,) = query
        assert body.x.tolist() == [1, 1, 1, 2, 2, 3]
        assert body.y.tolist() == [5, 3, 1, 4, 2, 0]
        assert query.limit(2, offset=1)[0].y.tolist() == [3, 1]
        assert query.limit(None, 4)[0].y.tolist() == [2, 0]
        assert query.limit(0).count() == 0
        assert query.limit(5, 10).count() == 0
        assert query.limit(3).where(col("x") > 1).order_by(asc("y"))[0].y.tolist() == [0, 2, 4], "in any order of calls"
        assert not view.query("transform").limit(2)[0].copied
        assert view.query("transform").limit(2, 3)[0].x.tolist() == view["transform.x"][3:5].tolist()


def test_the_first_few_of_many_are_the_same_as_when_all_are_sorted(store: Store) -> None:
    generator = np.random.default_rng(5)
    x = generator.integers(0, 50, 2000).astype(np.float32)
    x[::97] = np.nan
    with store.transaction() as tx:
        tx.spawn_many(2000, transform={"x": x, "y": generator.integers(-9, 9, 2000)})
    with store.view() as view:
        for orders in (["x"], [desc("x")], ["y"], [desc("y")], [desc("x"), "y"]):
            whole = view.query("transform").order_by(*orders)
            for stop in (1, 7, 100, 1999):
                assert whole.limit(stop).key.tolist() == whole.key[:stop].tolist()


def test_nan_comes_last_in_either_direction_and_is_one_group(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(4, transform={"x": [2, math.nan, 1, math.nan]})
    with store.view() as view:
        assert str(view.query("transform").order_by("x")[0].x.tolist()) == "[1.0, 2.0, nan, nan]"
        assert str(view.query("transform").order_by(desc("x"))[0].x.tolist()) == "[2.0, 1.0, nan, nan]"
        groups = view.query("transform").group_by("x").count()
        assert groups["count"].tolist() == [1, 1, 2]
        assert math.isnan(view.query("transform").sum("x"))
        assert math.isnan(view.query("transform").min("x"))


def test_bytes_and_bools_and_signs_sort_too(store: Store) -> None:
    with store.transaction() as tx:
        tx.spawn_many(3, tag={"word": [b"b", b"abcd", b"a"]}, health={"bonus": [-128, 127, 0]})
    with store.view() as view:
        query = view.query("tag", "health")
        assert [bytes(word).rstrip(b"\0") for word in query.order_by("tag.word")[0].word] == [b"a", b"abcd", b"b"]
        assert query.order_by(desc("tag.word"))[1].bonus.tolist() == [-128, 127, 0]
        assert query.order_by(desc("health.bonus"))[1].bonus.tolist() == [127, 0, -128]
        with pytest.raises(ArgumentError, match="arrays"):
            query.order_by("tag.place")


def test_limits_and_orders_of_nonsense_are_refused(store: Store) -> None:
    with store.view() as view:
        query = view.query("health")
        for arguments in ((-1,), (1.5,), (True,), (1, -1), ("1",)):
            with pytest.raises(ArgumentError, match="limit takes"):
                query.limit(*arguments)
        with pytest.raises(UnknownNameError):
            query.order_by("hq")
        with pytest.raises(ArgumentError, match="add 'transform'"):
            query.order_by("transform.x")
        with pytest.raises(ArgumentError, match="expected a column"):
            query.order_by(5)  # type: ignore[arg-type]


def test_selected_columns_are_copies_that_outlive_the_view(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        query = view.query("health", "transform").order_by("health.hp")
        result = query.select("health.hp", "key", x=col("transform.x"))
    assert result.names == ("health.hp", "key", "x")
    assert result.rows() == [
        {"health.hp": 10, "key": crew["ada"], "x": 1.0},
        {"health.hp": 20, "key": crew["bob"], "x": 2.0},
    ]
    assert list(result) == result.rows()
    assert result["x"].flags.owndata
    assert not result["x"].flags.writeable
    assert result.to_numpy()["x"].tolist() == [1.0, 2.0]
    assert result.order_by(desc("x")).limit(1)["key"].tolist() == [crew["bob"]]
    assert str(result).splitlines()[0] == "2 rows"
    assert "0x" in str(result)
    with pytest.raises(UnknownNameError, match="did you mean 'x'"):
        result["X"]
    with pytest.raises(ClosedError):
        query.select("health.bonus")


def test_everything_is_selected_without_names(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        assert view.query("health").select().names == ("key", "bonus", "hp")
        both = view.query("item").join("tag", on="item.holder").select()
        assert both.names == (
            "key", "item.holder", "item.id", "item.kind", "item.maker", "item.weight", "tag.leader", "tag.place",
            "tag.word",
        )  # fmt: skip
        assert both.to_numpy()["tag.place"].shape == (2, 2)
        assert both.rows()[0]["tag.word"] == b"a\0\0\0"
        with pytest.raises(ArgumentError, match="twice"):
            view.query("health").select("hp", hp="bonus")


# --- numbers over the rows --------------------------------------------------------------------------------------------


def test_numbers_over_all_rows(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        items = view.query("item")
        assert items.count() == 4
        assert items.sum("weight") == 13.0
        assert items.mean("weight") == 3.25
        assert items.min("weight") == 1.0
        assert items.max("id") == 4
        assert type(items.sum("id")) is int
        assert items.aggregate(n=count(), least=min_("weight"), most=max_("weight"), all=sum_("id"), m=mean("id")) == {
            "n": 4, "least": 1.0, "most": 6.0, "all": 10, "m": 2.5,
        }  # fmt: skip
        none = items.where(col("weight") > 100)
        assert none.aggregate(n=count(), s=sum_("weight"), l=min_("weight"), m=mean("id")) == {
            "n": 0, "s": 0.0, "l": None, "m": None,
        }  # fmt: skip
        tags = view.query("tag")
        assert tags.min("word") == b"a\0\0\0"
        for wrong in (lambda: tags.sum("word"), lambda: tags.max("place"), lambda: tags.aggregate()):
            with pytest.raises(ArgumentError):
                wrong()
        with pytest.raises(ArgumentError, match="expected an aggregate"):
            items.aggregate(n="weight")  # type: ignore[arg-type]


def test_sums_of_integers_are_exact(store: Store) -> None:
    """A narrow column is added in 64 bits: 3000 times 100 does not fit u16."""
    with store.transaction() as tx:
        tx.spawn_many(3000, health={"hp": 100, "bonus": -100})
    with store.view() as view:
        assert view.query("health").sum("hp") == 300_000
        assert view.query("health").sum("bonus") == -300_000
        assert view.query("health").group_by("hp").aggregate(s=sum_("bonus"))["s"].tolist() == [-300_000]


def test_rows_are_grouped_by_several_columns(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        items = view.query("item")
        result = items.group_by("kind", "item.holder").aggregate(n=count(), w=sum_("weight"), top=max_("id"))
        assert result.names == ("kind", "item.holder", "n", "w", "top")
        assert result.rows() == [
            {"kind": 1, "item.holder": crew["ada"], "n": 2, "w": 11.0, "top": 2},
            {"kind": 2, "item.holder": 0, "n": 1, "w": 1.0, "top": 4},
            {"kind": 2, "item.holder": crew["bob"], "n": 1, "w": 1.0, "top": 3},
        ]
        assert "SWORD" in str(result)
        words = view.query("tag").group_by("word").aggregate(low=min_("word"), m=mean("leader"))
        assert words.rows()[0]["low"] == b"a\0\0\0"
        none = items.where(col("weight") > 100).group_by("kind").aggregate(n=count(), s=sum_("id"), m=mean("id"))
        assert len(none) == 0
        with pytest.raises(ArgumentError, match="at least one column"):
            items.group_by()
        with pytest.raises(ArgumentError, match="arrays"):
            view.query("tag").group_by("place")
        with pytest.raises(ArgumentError, match="another name"):
            items.group_by("kind").aggregate(kind=count())


# --- how they are found -----------------------------------------------------------------------------------------------


def test_explain_tells_what_was_done_and_what_is_copied(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        plain = view.query("transform").explain()
        assert [(step.action, step.considered, step.found) for step in plain.steps] == [("scan", 3, 3)]
        assert plain.copied == {"transform": False}
        query = view.query("item").join("transform", on="item.holder").where(col("item.weight") > 4).limit(1)
        told = query.explain()
        assert [(step.action, step.considered, step.found) for step in told.steps] == [
            ("scan", 4, 4), ("filter", 4, 2), ("join", 2, 2), ("limit", 2, 1),
        ]  # fmt: skip
        assert told.rows == query.count() == 1
        assert told.indexes == ()
        assert str(told).splitlines()[0] == query.text()
        assert "item: gathered into copies" in str(told)
        assert "transform: the cells themselves, no copy" in str(plain)


def test_a_key_is_looked_up_and_not_scanned_for(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        for query in (
            view.query("transform", "health", without=["tag"]).where(col("transform.entity_id") == crew["bob"]),
            view.query("transform", "health", without=["tag"]).where(
                col("health.entity_id").is_in([crew["bob"], crew["ada"], crew["rock"], 77, -1])
            ),
        ):
            assert query.key.tolist() == [crew["bob"]]
            assert query.explain().steps[0].action == "index"


def test_an_index_takes_over_once_asking_has_paid_and_finds_the_same(store: Store) -> None:
    generator = np.random.default_rng(3)
    with store.transaction() as tx:
        ships = tx.spawn_many(40, transform={}, health={"bonus": 0})
        for _ in range(200):
            tx.insert("item", {"kind": "SWORD", "holder": int(generator.choice(ships))})
    for _ in range(2):
        with store.view() as view:
            holders = view["item.holder"].copy()
            for turn in range(30):
                ship = int(ships[turn])
                query = view.query("item").where((col("holder") == ship) & (col("weight") < 2))
                assert query.key.tolist() == view["item"].key[holders == ship].tolist()
                some = view.query("item").where(col("holder").is_in(ships[:3]))
                assert some.key.tolist() == view["item"].key[np.isin(holders, ships[:3])].tolist()
            assert query.explain().indexes == (f"holder == {ship}, by the index of item.holder",)
            assert view.find("item.id", 7) == view["item"].key[6]
            assert view.find("item.id", 7777) is None
        # Other contents, another index.
        with store.transaction() as tx:
            tx.despawn(int(ships[5]))
            tx.insert("item", {"kind": "SWORD", "holder": int(ships[6])})
        ships = np.delete(ships, 5)


def test_an_index_of_counted_keys_costs_no_sort_and_outlives_its_view(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        assert [view.key("item.id", number) for number in (1, 2, 3)] == view["item"].key[:3].tolist()
        assert view.query("item").where(col("id") == 2).explain().indexes
    with store.transaction() as tx:
        tx.update(crew["ada"], "transform", x=5.0)
    with store.view() as view:
        assert view.query("item").where(col("id") == 2).explain().indexes, "the column is the same"


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_rows_of_another_tables_column_name_are_refused(store: Store, crew: dict[str, int]) -> None:
    with store.view() as view:
        (body,) = view.query("transform")
        assert body[col("transform.x")] is not None
        with pytest.raises(UnknownNameError):
            body[col("health.hp")]
        with pytest.raises(ArgumentError, match="rows are columns"):
            body[0]  # type: ignore[index]
        assert set(body.to_dict()) == {"key", "x", "y", "entity_id"}
        assert body.to_dict()["x"].flags.owndata


def test_tables_of_different_keys_and_handles_of_a_store_are_no_tables_of_a_query(
    store: Store, crew: dict[str, int]
) -> None:
    with store.view() as view, Store(SCHEMA) as other:
        with pytest.raises(ArgumentError, match="join one to the other"):
            view.query("transform", "item")
        with pytest.raises(ArgumentError, match="name of a table"):
            view.query(other["transform"])  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="one value"):
            view.query("transform").where(col("x") == other.view()["transform.x"])


def test_a_query_prints_as_its_text(store: Store) -> None:
    with store.view() as view:
        query = (
            view.query("transform", maybe("tag"), without=["health"])
            .join("item", on="item.holder", left=True)
            .where((col("transform.x") > 1.5) & col("tag.word").startswith(b"a"))
            .order_by(desc("transform.x"), "item.id")
            .limit(10, 2)
        )
        assert query.text() == (
            "from transform, maybe tag without health left join item on item.holder "
            'where transform.x > 1.5 and tag.word startswith x"61" '
            "order by transform.x desc, item.id limit 10 offset 2"
        )
        assert repr(query) == f"<query {query.text()}>"
