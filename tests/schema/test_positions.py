"""The position scanner and the TOML parser read the same text in the same way."""

from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.schema.positions import NestingFault, Path, Position, scan
from tests.schema.toml_texts import documents

EXAMPLE = '''\
top = 1

[database]   # a comment with = and [brackets]
name = "game"
"quoted key".sub = { a = 1, "b c" = [10, 20] }

[[tables.fields]]
name = """
x = "not a key"
"""
[[tables.fields]]
  name = 'second'   # with a comment
  [tables.fields.deep]
  list = [
    1,   # one
    { k = 2 },
  ]
'''


def paths_of(data: Any, path: Path = ()) -> set[Path]:
    """Every path of what the parser made of a text."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found: set[Path] = set()
    for key, value in children:
        child = (*path, key)
        found |= {child} | paths_of(value, child)
    return found


def value_at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def assert_agrees(text: str) -> None:
    """Every path is found, and the text of every value parses to that value."""
    data = tomli.loads(text)
    positions = scan(text)
    paths = paths_of(data)
    assert positions.paths() == paths
    for path in paths:
        span = positions.span(path)
        if span is not None:
            start, end = span
            # By repr: nan is not equal to itself.
            assert repr(tomli.loads("v = " + text[start:end])["v"]) == repr(value_at(data, path)), path
        elif not isinstance(value_at(data, path), (dict, list)):
            raise AssertionError(f"the value at {path} has no place")


def test_places_are_those_a_person_would_point_at() -> None:
    """A few by hand: tables by their name in the header, elements by their header, values by their first character."""
    positions = scan(EXAMPLE)
    assert positions.key(("top",)) == Position(1, 1)
    assert positions.value(("top",)) == Position(1, 7)
    assert positions.key(("database",)) == Position(3, 2)
    assert positions.value(("database", "name")) == Position(4, 8)
    assert positions.key(("database", "quoted key", "sub", "b c")) == Position(5, 29)
    assert positions.value(("database", "quoted key", "sub", "b c", 1)) == Position(5, 42)
    assert positions.key(("tables", "fields", 1)) == Position(11, 1)
    assert positions.value(("tables", "fields", 1, "name")) == Position(12, 10)
    assert positions.key(("tables", "fields", 1, "deep", "list", 1, "k")) == Position(16, 7)
    assert_agrees(EXAMPLE)


def test_a_path_that_is_not_there_is_placed_at_its_parent() -> None:
    """What is missing can only be shown where it belongs."""
    positions = scan(EXAMPLE)
    assert positions.key(("tables", "fields", 1, "type")) == Position(11, 1)
    assert positions.value(("nothing",)) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "# only a comment", "a = 1", 'a = ""', "a = ''", 'a = """"""', "a = ''''''",
        'a = """"x"""', 'a = """x"""""', "a = '''x'''''", 'a = """x\\""""', 'a = "\\\\"', "a.b.c = 1\na.b.d = 2",
        "a = [[], [[1]], [{}]]", "a = {}", "[a]\n[a.b]\n[c]", "[a.b]\n[a]", "[[a]]\n[[a]]\n[[a.b]]\n[a.c]\n[[a.b]]",
        "a = 1979-05-27 07:32:00 # date", "a = [1979-05-27 07:32:00 , 2]", "a=1\r\nb=2\r\n", '"" = 1', '"\\u0041" = 1',
        "3.14 = 1", "a = { b.c = 1, b.d = [1,\n2] }", "[ a . 'b' ]\nx=1", "a = 'C:\\dir'", "a = [ # c ]\n 1 # ]\n ]",
    ],
)  # fmt: skip
def test_odd_corners_of_toml_are_read_as_the_parser_reads_them(text: str) -> None:
    """Each of these broke a scanner somewhere."""
    assert_agrees(text)


@given(documents())
def test_scanner_and_parser_agree_on_random_documents(text: str) -> None:
    """Whatever the parser accepts, the scanner places completely and rightly."""
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    assert_agrees(text)


@given(st.text("ab=.[]{}\"'\\#, \n\t1", max_size=24))
def test_scanner_and_parser_agree_on_texts_made_of_punctuation(text: str) -> None:
    """Short texts of nothing but TOML's own characters reach states that no writer would."""
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    assert_agrees(text)


def test_deep_nesting_is_refused_before_it_costs_the_stack() -> None:
    """The parser allows 400 levels; a schema has no use for them, and our recursion must not meet Python's limit."""
    with pytest.raises(NestingFault):
        scan("a = " + "[" * 300 + "]" * 300)
