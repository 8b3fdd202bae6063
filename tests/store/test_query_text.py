"""Queries as text mean what the same verbs mean, and an error says where."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.errors import QueryError, UnknownNameError
from ecsnet.expressions import DEPTH_MAX, KEYWORDS, Condition, col, desc, spell
from ecsnet.store import Store, maybe
from ecsnet.store.parser import parse
from tests.store.test_queries import SCHEMA
from tests.test_expressions import conditions


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store(SCHEMA) as store, store.transaction() as tx:
        ships = tx.spawn_many(20, transform={"x": np.arange(20) % 7, "y": np.arange(20)})
        tx.insert_many(ships[:12], health={"hp": np.arange(12) * 5, "bonus": np.arange(12) - 6})
        tx.insert_many(ships[5:9], tag={"word": [b"a", b"b", b"ab", b""]})
        for number in range(15):
            holder = int(ships[number % 4]) if number % 5 else 0
            tx.insert("item", {"kind": "SWORD" if number % 2 else "POTION", "holder": holder, "weight": number / 2})
        tx.commit()
        yield store


def fluent(view: Any) -> dict[str, Any]:
    """The same queries as verbs, by their texts."""
    return {
        "from transform": view.query("transform"),
        "FROM transform, health WHERE health.hp < 20 AND transform.x > 1": (
            view.query("transform", "health").where((col("health.hp") < 20) & (col("transform.x") > 1))
        ),
        "from transform, maybe tag without health where tag.word = x'61' or transform.y >= 1.5e1": (
            view.query("transform", maybe("tag"), without=["health"]).where(
                (col("tag.word") == b"a") | (col("transform.y") >= 15.0)
            )
        ),
        "from item join transform on item.holder left join health on item.holder "
        "order by item.id desc limit 4 offset 2": (
            view.query("item")
            .join("transform", on="item.holder")
            .join("health", on="item.holder", left=True)
            .order_by(desc("item.id"))
            .limit(4, 2)
        ),
        "from transform join item as thing on thing.holder "
        "where thing.kind in ('SWORD') and not thing.id in (2, 0x4)": (
            view.query("transform")
            .join("item", on="thing.holder", name="thing")
            .where(col("thing.kind").is_in(["SWORD"]) & ~col("thing.id").is_in([2, 4]))
        ),
        "from item where holder is null and weight between 1 and 3 and id not in (77)": (
            view.query("item").where(
                (col("holder") == None) & col("weight").between(1, 3) & ~col("id").is_in([77])  # noqa: E711
            )
        ),
        "from health where not (hp <= 10 or bonus <> -1) and hp is not null": None,
        "from tag where word startswith x\"61\" and tag.entity_id != 0": (
            view.query("tag").where(col("word").startswith(b"a") & (col("tag.entity_id") != 0))
        ),
    }  # fmt: skip


def test_text_and_verbs_find_the_same_rows(store: Store) -> None:
    with store.view() as view:
        for text, query in fluent(view).items():
            if query is None:
                continue
            read = parse(text).query(view)
            assert read.text() == query.text()
            assert read.key.tolist() == query.key.tolist()
            assert parse(query.text()).query(view).text() == query.text()


@given(conditions)
def test_a_conditions_text_is_read_back(condition: Condition) -> None:
    assert parse(f"from t where {condition.text()}").condition == condition


@given(st.sampled_from(sorted(KEYWORDS)) | st.sampled_from(["a.limit", "a.b", "count", "Order", "x.in.y"]))
def test_any_name_can_be_written(name: str) -> None:
    assert parse(f"from {spell(name)} where {spell(name)} < 1 select {spell(name)} as `from`").text() == (
        f"from {spell(name)} where {spell(name)} < 1 select {spell(name)} as `from`"
    )


@pytest.mark.parametrize(
    "text",
    [
        "from a, maybe b without c, d left join e as f on a.g join h where a.x < 1 order by a.x desc, b.y limit 3 "
        "offset 1 group by a.x, b.y select a.x as one, count(), sum(b.y) as s order by s desc limit 2",
        "from a limit 0",
        "from a offset 5",
        "from a order by x select * order by y limit 1",
        "from a select count()",
        "from a group by x order by x desc",
    ],
)
def test_a_statement_prints_as_what_was_read(text: str) -> None:
    statement = parse(text)
    assert parse(statement.text()) == statement
    assert parse(statement.text()).text() == statement.text()


def test_columns_are_selected_under_their_names(store: Store) -> None:
    result = store.query("from item order by id limit 2 select id, kind as what, key")
    assert result.names == ("id", "what", "key")
    assert result["id"].tolist() == [1, 2]
    assert store.query("from item select id order by id desc limit 1").rows() == [{"id": 15}]
    with store.transaction() as tx:
        assert len(tx.query_text("from item where id = 3")) == 1


def test_groups_and_functions(store: Store) -> None:
    result = store.query(
        "from item group by kind select kind, count(*) as n, max(weight), sum(id) order by n desc limit 1"
    )
    assert result.rows() == [{"kind": 2, "n": 8, "max(weight)": 7.0, "sum(id)": 64}]
    assert store.query("from item select count(), mean(weight) as m").rows() == [{"count()": 15, "m": 3.5}]
    assert store.query("from item group by kind").names == ("kind", "count()")
    assert store.query("from item group by kind select kind").names == ("kind",)
    assert store.query("from item where id > 99 select min(weight)").rows() == [{"min(weight)": None}]
    assert len(store.query("from item where id > 99 group by kind")) == 0
    assert store.query("from item order by id limit 4 select count() as n")["n"].tolist() == [4]
    by_count = store.query("from item group by holder select holder, count() order by count() desc")
    assert sorted(by_count["count()"].tolist(), reverse=True) == by_count["count()"].tolist()


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", "", "expected 'from', found the end"),
        ("select x from health", "select", "expected 'from'"),
        ("from", "", "expected a table, found the end"),
        ("from order", "order", "backticks"),
        ("from helth", "helth", "did you mean 'health'"),
        ("from health, helth", "helth", "did you mean 'health'"),
        ("from health without helth", "helth", "did you mean 'health'"),
        ("from health, health", "health, health", "twice"),
        ("from health, item", "health", "different keys"),
        ("from health where", "", "expected a column, found the end"),
        ("from health where hp", "", "expected a comparison such as hp < 20, found the end"),
        ("from health where hp <", "", "expected a value, found the end"),
        ("from health where hp < 20 hp", "hp", "expected a clause or the end"),
        ("from health where hp < 20 lmit 3", "lmit", "expected 'limit' or the end"),
        ("from health where (hp < 20", "", "expected ')'"),
        ("from health where hq < 20", "hq", "no field of health named 'hq'"),
        ("from health where hp < 20 and transform.x > 1", "transform.x", "add 'transform' to the query"),
        ("from health where hp < 'x'", "hp < 'x'", "expected an integer"),
        ("from item where kind = 'SWRD'", "kind", "did you mean 'SWORD'"),
        ("from tag where word < x'61'", "word", "compare by =="),
        ("from tag where word startswith 5", "5", "expected a text"),
        ("from tag where word = x'6'", "x'6'", "is no value"),
        ("from health where hp in 5", "5", "expected '('"),
        ("from health where hp between 1 or 2", "or", "expected 'and'"),
        ("from health where hp < SWORD.x.y or hp", "", "expected a comparison"),
        ("from health limit -1", "-1", "expected a number of rows"),
        ("from health limit 1.5", "1.5", "expected a number of rows"),
        ("from health order by hq", "hq", "no field of health named 'hq'"),
        ("from tag order by place", "place", "arrays"),
        ("from health select hp, hq", "hq", "no field of health named 'hq'"),
        ("from health select hp, hp", "hp", "selected twice"),
        ("from health select avrage(hp)", "avrage", "no function named 'avrage'"),
        ("from health select summ(hp)", "summ", "did you mean 'sum'"),
        ("from health select sum()", ")", "expected a column"),
        ("from health select hp, count()", "hp, count()", "neither grouped by nor in a function"),
        ("from health group by hq", "hq", "no field of health named 'hq'"),
        ("from tag group by word select sum(leader), sum(word)", "sum(word)", "holds bytes"),
        ("from health select hp order by bonus", "bonus", "no column named 'bonus'"),
        ("from item join transform", "transform", "there are item.holder, item.maker"),
        ("from item join transform on item.kind", "item.kind", "no reference"),
        ("from item join trnsform on item.holder", "trnsform", "did you mean 'transform'"),
        ("from health select hp where hp < 1", "where", "clauses stand in the order"),
        ("from health where hp ; 1", "; 1", "';' is no part of a query"),
        ("from health where word = 'abc", "'abc", "does not end"),
        ("from health where 20 < hp", "20 < hp", "expected a column, found '20'"),
    ],
)
def test_what_is_wrong_is_pointed_at(store: Store, text: str, place: str, reason: str) -> None:
    with pytest.raises(QueryError) as caught:
        store.query(text)
    error = caught.value
    assert reason in error.reason
    at = len(text) if not place else text.rindex(place) if text.count(place) > 1 else text.index(place)
    if place in ("hp", "hp, count()", "health", "health, health", "hp < 'x'", "kind", "word"):
        at = error.position
        assert text[at:].startswith(place.split()[0].rstrip(","))
    assert error.position == at
    lines = str(error).splitlines()
    assert lines[-1].index("^") == 2 + at
    assert lines[-2] == f"  {text}".rstrip() or not text


def test_the_caret_finds_its_place_in_long_and_broken_text() -> None:
    text = "from health\nwhere " + " and ".join(["hp < 20"] * 40) + "\n  and ! hp < 5\nlimit 3"
    with pytest.raises(QueryError) as caught:
        parse(text)
    shown, caret = str(caught.value).splitlines()[-2:]
    assert shown.strip() == "and ! hp < 5"
    assert shown[caret.index("^")] == "!"
    with pytest.raises(QueryError) as caught:
        parse("from health where " + " and ".join(["hp < 20"] * 40) + " ! " + "x" * 200)
    shown, caret = str(caught.value).splitlines()[-2:]
    assert shown[caret.index("^")] == "!"
    assert len(shown) < 130


def test_nesting_without_end_is_refused() -> None:
    """Deeper than Python's stack it would take the process with it."""
    deep = "(" * DEPTH_MAX + "a < 1" + ")" * DEPTH_MAX
    parse(f"from t where {deep}")
    for text in ("(" * 100_000, "not " * 100_000 + "a < 1", f"({deep})"):
        with pytest.raises(QueryError, match="nested deeper"):
            parse(f"from t where {text}")
    with pytest.raises(QueryError, match="expected the text"):
        parse(5)  # type: ignore[arg-type]


TOKENS = """
from health hp where < 20 and or not ( ) , in 'a' select count * join on item.holder order by limit group is null x'6'
`a` as maybe
""".split()  # noqa: SIM905  (a line of words is what it is about)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join) | st.text(max_size=30))
def test_any_text_is_a_query_or_a_typed_error(store: Store, text: str) -> None:
    try:
        result = store.query(text)
    except QueryError as error:
        assert 0 <= error.position <= len(text)
        assert "^" in str(error)
    else:
        json.dumps([{name: str(cell) for name, cell in row.items()} for row in result.rows()])


def test_verbs_report_the_same_mistakes_by_their_own_errors(store: Store) -> None:
    with store.view() as view, pytest.raises(UnknownNameError):
        view.query("health").check("hq")
