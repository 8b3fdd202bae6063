"""Strings: a cell is a `str`, a column an array of them, and nobody sees what the kernel makes of it."""

import gc
import random
import threading
import weakref

import numpy as np
import pytest

from ecsnet._kernel.kernel import KernelStore
from ecsnet.errors import ArgumentError, ConstraintError, LimitExceededError, NoRowError
from ecsnet.expressions import col, count
from ecsnet.schema import Schema, loads
from ecsnet.store import Store

TEXT = """
[database]
name = "library"
version = "1.0.0"

[tables.name]
parent_table = "entities"
fields = [{ name = "entity_id", type = "u64", foreign_key = "entities.id" },
          { name = "text", type = "string[24]" },
          { name = "title", type = "string[12]", default = "höher" },
          { name = "rank", type = "u16", default = 1 }]

[tables.item]
primary_key = "id"
fields = [{ name = "id", type = "u64", auto_increment = true },
          { name = "title", type = "string[64]", constraint = "unique" },
          { name = "note", type = "string[300]", default = "" },
          { name = "holder", type = "u64", foreign_key = "entities.id", optional = true, on_delete = "set_null" }]
"""

EVERYTHING = "a\0b \N{SNOWMAN} \N{GRINNING FACE} é"


@pytest.fixture
def schema() -> Schema:
    return loads(TEXT)


@pytest.fixture
def store(schema: Schema) -> Store:
    return Store(schema)


def test_a_string_is_read_as_it_was_written_by_every_way_there_is(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(name={"text": EVERYTHING})
        assert tx[ship, "name.text"] == EVERYTHING
        assert tx[ship, "name.title"] == "höher", "the default"
        tx[ship, "name.title"] = "new"
        assert tx[ship, "name.title"] == "new"
        tx.update(ship, "name", text="", rank=2)
        assert tx[ship, "name.text"] == ""
        tx.update(ship, "name", text=EVERYTHING)
        (rows,) = tx.query("name")
        assert rows.text.tolist() == [EVERYTHING] and rows.title.tolist() == ["new"]
    view = store.view()
    assert view[ship, "name.text"] == EVERYTHING
    column = view["name.text"]
    assert column.dtype == object and column.tolist() == [EVERYTHING]
    assert view["name"].to_dict()["text"] is column
    assert EVERYTHING in str(view["name"])
    with pytest.raises(ValueError, match="read-only"):
        column[0] = "mine"


def test_a_view_keeps_its_texts_however_many_come_after(store: Store) -> None:
    """The heap is swept again and again meanwhile, and its room is used anew."""
    with store.transaction() as tx:
        ship = tx.spawn(name={"text": "the first"})
    first = store.view()
    kept = []
    for turn in range(3000):
        with store.transaction() as tx:
            tx.update(ship, "name", text=f"text number {turn:012}")
            tx.delete(ship, "name")
            tx.insert(ship, name={"text": f"after {turn:012}", "title": f"t{turn}"})
        if turn % 700 == 0:
            kept.append((store.view(), f"after {turn:012}"))
    assert first[ship, "name.text"] == "the first" and first["name.text"].tolist() == ["the first"]
    for view, text in kept:
        assert view[ship, "name.text"] == text
    bytes_before = store.statistics().bytes_allocated
    kept.clear()
    first.close()
    for turn in range(20000):
        with store.transaction() as tx:
            tx.update(ship, "name", text=f"a longer life {turn:010}")
    assert store.statistics().bytes_allocated < bytes_before + (1 << 20), "20,000 texts went by, one is left"
    assert store.view()[ship, "name.title"] == "t2999"


def test_a_default_outlives_every_sweep(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(name={"text": "", "title": "own"})
    for turn in range(12000):
        with store.transaction() as tx:
            tx.update(ship, "name", text=f"{turn:024}")
    with store.transaction() as tx:
        other = tx.spawn(name={"text": "x"})
    assert store.view()[other, "name.title"] == "höher"


def test_a_rollback_and_a_failed_operation_leave_the_text_that_was(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(name={"text": "before"})
    tx = store.transaction()
    tx.update(ship, "name", text="after")
    tx.rollback()
    with pytest.raises(ConstraintError), store.transaction() as tx:
        tx.update_many([ship], "name", text=["many"])
        tx.insert("item", {"title": "x", "holder": 0xDEAD_BEEF})
    assert store.view()[ship, "name.text"] == "before"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "a str"),
        (b"bytes", "a str"),
        (None, "a str"),
        ("x" * 25, "at most 24 bytes of UTF-8, not 25"),
        ("é" * 13, "at most 24 bytes of UTF-8, not 26"),
        ("half \ud800", "half of a surrogate pair"),
    ],
)
def test_what_is_no_text_of_the_field_is_refused_and_nothing_changes(store: Store, value: object, said: str) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(name={"text": "before"})
        for write in (
            lambda: tx.update(ship, "name", text=value),
            lambda: tx.spawn(name={"text": value}),
            lambda: tx.update_many([ship], "name", text=[value]),
            lambda: tx.spawn_many(2, name={"text": ["fine", value]}),
            lambda: tx.spawn_many(2, name={"text": value}),
        ):
            with pytest.raises(ArgumentError, match=said):
                write()
        assert tx[ship, "name.text"] == "before"
    assert store.view().query("name").count() == 1


def test_a_text_fits_to_the_last_byte(store: Store) -> None:
    texts = ["x" * 24, "é" * 12, "\N{GRINNING FACE}" * 6]
    with store.transaction() as tx:
        keys = tx.spawn_many(name={"text": texts})
        tx.update(int(keys[0]), "name", text="\N{GRINNING FACE}" * 6)
    assert store.view()["name.text"].tolist() == [texts[2], *texts[1:]]


def test_bulk_writes_take_lists_and_arrays_of_text(store: Store) -> None:
    with store.transaction() as tx:
        keys = tx.spawn_many(name={"text": np.array(["one", "two", "drei"]), "title": "same"})
        tx.insert_many("item", {"title": ("a", "b"), "note": np.array(["x", "ü"], object), "holder": keys[:2]})
        tx.update_many(keys[1:], "name", text=["2", "3"])
        assert tx[int(keys[2]), "name.text"] == "3"
    view = store.view()
    assert view["name.text"].tolist() == ["one", "2", "3"]
    assert view["name.title"].tolist() == ["same"] * 3
    assert view["item.note"].tolist() == ["x", "ü"]
    titles = view["name.title"]
    assert titles[0] is titles[2], "equal texts are decoded once"


def test_while_columns_are_lent_strings_wait_with_their_rows(store: Store) -> None:
    with store.transaction() as tx:
        ship = tx.spawn(name={"text": "first"})
    with store.transaction() as tx:
        (rows,) = tx.query("name")
        rows.rank += 5
        second = tx.spawn(name={"text": "second"})
        tx.update(ship, "name", text="changed")
        tx.update(second, "name", title="noted")
        (many,) = tx.spawn_many(name={"text": ["third"]})
        assert tx[second, "name.text"] == "second" and tx[second, "name.title"] == "noted"
        assert tx[ship, "name.text"] == "changed" and tx[int(many), "name.title"] == "höher"
        with pytest.raises(ArgumentError, match="holds strings"):
            rows.text = "all"
        with pytest.raises(ValueError, match="read-only"):
            rows.text[0] = "mine"
    view = store.view()
    assert sorted(view["name.text"].tolist()) == ["changed", "second", "third"]
    assert view[second, "name.title"] == "noted" and view[ship, "name.rank"] == 6


def test_unique_strings_are_unique_by_their_text(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert("item", {"title": "sword"})
    with pytest.raises(ConstraintError) as refused, store.transaction() as tx:
        tx.insert("item", {"title": "swo" + "rd"})
    assert refused.value.found == "sword" and refused.value.rule == "unique"
    with store.transaction() as tx:
        tx.insert("item", {"title": "Sword"})
        tx.insert("item", {"title": ""})
    view = store.view()
    assert view[view.key("item.title", "Sword"), "item.title"] == "Sword"
    assert view.find("item.title", "axe") is None
    with pytest.raises(NoRowError, match="axe"):
        view.key("item.title", "axe")


WORDS = ["", "a", "ab", "abc", "b", "ba", "é", "éa", "\uffff", "\N{GRINNING FACE}", "\0", "a\0", "Z"]


@pytest.mark.parametrize("where", ["view", "transaction"])
def test_conditions_compare_texts_as_python_does(store: Store, where: str) -> None:
    """By code point: U+FFFF is below an emoji, though UTF-16 would have it otherwise."""
    chance = random.Random(5)
    texts = [chance.choice(WORDS) for _ in range(400)]
    titles = [chance.choice(WORDS) for _ in texts]
    with store.transaction() as tx:
        tx.spawn_many(name={"text": texts, "title": titles})
    tx = store.transaction()
    source = store.view() if where == "view" else tx

    def found(condition: object) -> list[int]:
        return source.query("name").where(condition).key.tolist()  # type: ignore[arg-type]

    keys = source.query("name").key.tolist()
    text = col("name.text")
    for word in [*WORDS, "not there", "aa"]:
        for condition, expected in (
            (text == word, [t == word for t in texts]),
            (text != word, [t != word for t in texts]),
            (text < word, [t < word for t in texts]),
            (text <= word, [t <= word for t in texts]),
            (text > word, [t > word for t in texts]),
            (text >= word, [t >= word for t in texts]),
            (text.startswith(word), [t.startswith(word) for t in texts]),
            (text.is_in([word, "b"]), [t in (word, "b") for t in texts]),
        ):
            assert found(condition) == [k for k, yes in zip(keys, expected, strict=True) if yes], repr(condition)
    assert found(text.is_in([])) == []
    many = [f"{n}" for n in range(40)] + ["ab", "é"]
    assert found(text.is_in(many)) == [k for k, t in zip(keys, texts, strict=True) if t in many]
    both = list(zip(keys, texts, titles, strict=True))
    assert found(text == col("name.title")) == [k for k, a, b in both if a == b]
    assert found(text < col("name.title")) == [k for k, a, b in both if a < b]
    assert found((text >= col("name.title")) & (col("name.rank") == 1)) == [k for k, a, b in both if a >= b]
    tx.rollback()


@pytest.mark.parametrize(
    "condition",
    [
        col("name.text") == 7,
        col("name.text") < b"b",
        col("name.text").is_in(["a", 7]),
        col("name.text") == col("name.rank"),
        col("name.text") == "\ud800",
    ],
)
def test_a_text_is_compared_with_text_only(store: Store, condition: object) -> None:
    with pytest.raises(ArgumentError, match=r"name\.text"):
        store.view().query("name").where(condition).key  # type: ignore[arg-type]


def test_cells_read_again_and_again_are_those_of_the_view(store: Store) -> None:
    """After some reads a view goes by an index and decodes each text once; a reader holds its version by itself."""
    with store.transaction() as tx:
        keys = tx.spawn_many(name={"text": [f"é{n % 7}" for n in range(50)], "title": "t"}).tolist()
    view = store.view()
    text, both = view.reader("name.text"), view.reader("name.text", "name.rank", "name.title")
    view.close()
    view = store.view()
    for _ in range(3):
        assert [view[key, "name.text"] for key in keys] == [f"é{n % 7}" for n in range(50)]
    with store.transaction() as tx:
        tx.delete(keys[3], "name")
    for turn in range(6000):
        with store.transaction() as tx:
            tx.update(keys[0], "name", text=f"{turn:024}", title=f"{turn:012}")
    assert [text(key) for key in keys] == [f"é{n % 7}" for n in range(50)]
    assert both(keys[3]) == ("é3", 1, "t") and view[keys[3], "name.text"] == "é3"
    newest = store.view()
    for _ in range(40):
        assert newest[keys[0], "name.text"] == f"{5999:024}"
        with pytest.raises(NoRowError):
            newest[keys[3], "name.text"]


def test_a_unique_text_is_found_by_an_index_as_by_a_scan(store: Store) -> None:
    titles = [f"title {n}" for n in range(300)] + ["", "ü"]
    with store.transaction() as tx:
        keys = tx.insert_many("item", {"title": titles}).tolist()
    view = store.view()
    for _ in range(40):
        assert [view.find("item.title", title) for title in ("title 7", "", "ü", "none")] == [
            keys[7],
            *keys[300:],
            None,
        ]
    asked = view.query("item").where(col("item.title").is_in(["title 3", "none", "ü", "title 1"]))
    assert asked.key.tolist() == [keys[1], keys[3], keys[301]]
    assert "by the index of item.title" in str(asked.explain())
    with pytest.raises(ArgumentError):
        view.find("item.title", 7)
    with store.transaction() as tx:
        tx.update(keys[7], "item", title="other")
    newest = store.view()
    for _ in range(40):
        assert newest.find("item.title", "title 7") is None and newest.find("item.title", "other") == keys[7]
        assert view.find("item.title", "title 7") == keys[7]


def test_columns_of_many_distinct_texts_decode_right(store: Store) -> None:
    texts = [f"{n:x}" * (n % 5) + "ü" * (n % 3) for n in range(30_000)]
    with store.transaction() as tx:
        keys = tx.spawn_many(name={"text": texts})
    view = store.view()
    assert view["name.text"].tolist() == texts
    rows = view.query("name").where(col("name.text").startswith("ff"))
    (names,) = rows
    assert sorted(names.text.tolist()) == sorted(t for t in texts if t.startswith("ff"))
    assert view[int(keys[777]), "name.text"] == texts[777]


def test_readers_on_other_threads_decode_what_their_view_shows(store: Store) -> None:
    """The writer fills, sweeps and frees the heap meanwhile."""
    with store.transaction() as tx:
        keys = tx.spawn_many(name={"text": ["0" * 12] * 200})
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            with store.view() as view:
                found = set(view["name.text"].tolist())
                one = view[int(keys[7]), "name.text"]
                if len(found) != 1 or one not in found:
                    wrong.append((found, one))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        # Few turns: each call into the kernel waits for the readers' turns at the interpreter afterwards.
        for turn in range(120):
            with store.transaction() as tx:
                # Nobody keeps these, so that there is something to sweep.
                tx.update_many(keys, "name", title=[f"{turn:06}.{n:05}" for n in range(200)])
                tx.update_many(keys, "name", text=f"{turn:012}", title="")
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []


def test_the_kernel_of_a_store_with_strings_is_freed_at_once(schema: Schema) -> None:
    """Not by the garbage collector: what is in a cycle keeps its memory for who knows how long."""
    gc.collect()
    gc.disable()
    try:
        kernel = KernelStore(schema)
        freed = weakref.ref(kernel)
        del kernel
        assert freed() is None
    finally:
        gc.enable()


def test_a_write_of_more_text_than_fits_a_call_is_refused() -> None:
    fields = ", ".join(f'{{ name = "f{n}", type = "string[4096]", default = "" }}' for n in range(20))
    store = Store(
        loads(f"""
[database]
name = "large"
version = "1.0.0"
[tables.page]
primary_key = "id"
fields = [{{ name = "id", type = "u64", auto_increment = true }}, {fields}]
""")
    )
    page = {f"f{n}": "x" * 4096 for n in range(20)}
    with store.transaction() as tx:
        with pytest.raises(LimitExceededError):
            tx.insert("page", page)
        tx.insert_many("page", {name: [text] for name, text in page.items()})
    assert store.view()["page.f19"].tolist() == ["x" * 4096]


def test_changes_tell_the_texts_that_were_long_after_they_are_forgotten(store: Store) -> None:
    assert list(store.changes("name")) == []
    since = store.view().version
    with store.transaction() as tx:
        first = tx.spawn(name={"text": "é first", "title": ""})
        second = tx.spawn(name={"text": "second"})
    with store.transaction() as tx:
        tx.update(first, "name", text="changed")
        tx.delete(second, "name")
    for turn in range(4000):
        with store.transaction() as tx:
            tx.update(first, "name", text=f"{turn:024}", title=f"{turn:012}")
    told = [(c.kind, c.key, dict(c.fields)) for c in store.changes("name", since=since)]
    assert told[:4] == [
        ("insert", first, {"text": "é first", "title": "", "rank": 1}),
        ("insert", second, {"text": "second", "title": "höher", "rank": 1}),
        ("update", first, {"text": "changed"}),
        ("delete", second, {"text": "second", "title": "höher", "rank": 1}),
    ]
    assert told[-1] == ("update", first, {"text": f"{3999:024}", "title": f"{3999:012}"})
    found = list(store.changes("name", where=col("name.text").startswith("é"), since=since))
    assert [(c.kind, c.key) for c in found] == [("insert", first)]


KINDS = """
[database]
name = "shop"
version = "1.0.0"

[tables.kind]
primary_key = "code"
fields = [{ name = "code", type = "string[12]" }, { name = "weight", type = "f32", default = 1.0 }]

[tables.item]
primary_key = "id"
fields = [{ name = "id", type = "u64", auto_increment = true },
          { name = "kind", type = "string[12]", foreign_key = "kind.code", optional = true, on_delete = "cascade" },
          { name = "owner", type = "string[20]", default = "nobody" },
          { name = "slot", type = "u8", default = 0 }]
"""


def test_tables_are_keyed_and_joined_by_text() -> None:
    store = Store(loads(KINDS))
    with store.transaction() as tx:
        sword = tx.insert("kind", {"code": "sword"})
        tx.insert("kind", {"code": "axe", "weight": 3.0})
        for kind, owner in (("sword", "anna"), ("axe", "bob"), ("axe", "anna")):
            tx.insert("item", {"kind": kind, "owner": owner})
        plain = tx.insert("item", {})
        assert tx[plain, "item.kind"] == "", "null"
    view = store.view()
    joined = view.query("item").join("kind").order_by("kind.code", "item.owner").select("kind.code", "item.owner")
    assert joined["kind.code"].tolist() == ["axe", "axe", "sword"]
    assert joined["item.owner"].tolist() == ["anna", "bob", "anna"]
    back = view.query("kind").join("item", left=True).where(col("item.owner") == "anna").select("kind.weight")
    assert sorted(back["kind.weight"].tolist()) == [1.0, 3.0]
    left = view.query("item").join("kind", left=True).where(col("kind.code").startswith("a")).count()
    assert left == 2
    assert view.query("item").where(col("item.kind") == None).key.tolist() == [plain]  # noqa: E711
    with pytest.raises(ConstraintError, match="bow"), store.transaction() as tx:
        tx.insert("item", {"kind": "bow"})
    with pytest.raises(ConstraintError), store.transaction() as tx:
        tx.insert("kind", {"code": ""})
    with store.transaction() as tx:
        tx.delete(sword, "kind")
    assert sorted(store.view()["item.kind"].tolist()) == ["", "axe", "axe"]
    grouped = store.view().query("item").group_by("item.owner").aggregate(n=count())
    assert dict(zip(grouped["item.owner"].tolist(), grouped["n"].tolist(), strict=True)) == {
        "anna": 1,
        "bob": 1,
        "nobody": 1,
    }


def test_a_refused_order_names_its_text_although_nothing_keeps_it() -> None:
    """Its texts are forgotten when it is undone, and those of the orders behind it take their places."""
    store = Store(loads(KINDS.replace("string[20]", "string[4000]")))
    tickets = []
    with store.transaction() as tx:
        for number in range(3):
            order = store.queue()
            for place in range(100):
                order.insert("item", {"owner": f"{number} {place} ".ljust(4000, "x")})
            order.insert("item", {"kind": f"bow {number}"})
            tickets.append(order.commit())
        tx.insert("kind", {"code": "sword"})
    for number, ticket in enumerate(tickets):
        with pytest.raises(ConstraintError, match=f"bow {number}"):
            ticket.wait(1.0)


def test_an_index_made_before_there_was_any_text_finds_the_empty_one() -> None:
    store = Store(loads(TEXT.replace("höher", "")))
    with store.transaction() as tx:
        for _ in range(5):
            tx.spawn(name={"text": ""})
    view = store.view()
    field = view._names.path("name.text")
    while (before := view.rows_with(field, [""])) is None:
        pass
    with store.transaction() as tx:
        tx.insert("item", {"title": "the first text of all"})
    found = view.rows_with(field, [""])
    assert found is not None
    assert found.tolist() == before.tolist() == [0, 1, 2, 3, 4]
