"""Errors: what they say, what they carry, and that they survive the way to another process."""

import pickle

import pytest

from ecsnet import errors
from ecsnet.errors import (
    ArgumentError,
    ConstraintError,
    EcsnetError,
    NotBuiltError,
    SchemaError,
    StaleEntityError,
    UnknownNameError,
)
from ecsnet.ids import entity_of, generation_of, index_of

EXAMPLES: list[EcsnetError] = [
    SchemaError("unknown-type", "a.toml", 3, 9, "tables.a", "no type u33", "did you mean u32?"),
    errors.ConfigError("ecsnet.toml", "node.seed", "expected a whole number", line=2, hint="write 7"),
    UnknownNameError("table", "helth", ["health", "transform"]),
    ArgumentError("x has shape (3,), expected (2,)"),
    NotBuiltError("a write-ahead log", "leave `data` out"),
    errors.MissingExtraError("pictures of a run", "matplotlib", "report"),
    StaleEntityError(entity_of(7, 3), "health"),
    errors.NoRowError(entity_of(7, 3), "health"),
    errors.RowExistsError(entity_of(7, 3), "health"),
    ConstraintError("health", 7, "hp", "range", "at most 100", 101),
    errors.ConflictError(entity_of(7, 3), "health", 4, 9, "it was changed since"),
    errors.LimitExceededError("MESSAGE_TO_NODE_BYTES_MAX", 65536, 65544),
    errors.SchemaMismatchError("00ff", "ff00", "the node was updated"),
    errors.RemoteProtocolError("a frame of 7 bytes", 3),
    errors.ConnectError("tcp://x:1", "refused"),
    errors.ListenError("tcp://x:1", "in use"),
    errors.Reject("too far"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_message_and_numbers(error: EcsnetError) -> None:
    """Bots of the demo and workers of a test send theirs to another process."""
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_every_error_is_one_of_the_family() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), EcsnetError)


def test_an_error_is_also_what_python_calls_it() -> None:
    assert issubclass(UnknownNameError, LookupError)
    assert issubclass(StaleEntityError, LookupError)
    assert issubclass(ArgumentError, TypeError) and issubclass(ArgumentError, ValueError)


def test_an_unknown_name_is_answered_with_the_one_that_was_meant() -> None:
    error = UnknownNameError("table", "Helth", ["health", "transform"])

    assert error.suggestion == "health"
    assert str(error) == "no table named 'Helth'; did you mean 'health'?"


def test_an_unknown_name_with_nothing_close_lists_what_there_is() -> None:
    error = UnknownNameError("table", "qqq", ["health", "transform"])

    assert error.suggestion is None
    assert str(error) == "no table named 'qqq'; known: health, transform"


def test_a_schema_error_says_where_what_and_how_to_mend_it() -> None:
    error = SchemaError("unknown-type", "a.toml", 3, 9, "tables.a", "no type u33", "did you mean u32?")

    assert str(error) == "a.toml:3:9: tables.a: no type u33 [unknown-type]\n  hint: did you mean u32?"


def test_a_constraint_error_names_table_row_field_rule_and_both_values() -> None:
    error = ConstraintError("health", 7, "hp", "range", "at most 100", 101)

    assert str(error) == "health.hp, row 0x7 breaks its rule 'range'; expected at most 100, found 101"


def test_an_entity_is_index_and_generation() -> None:
    entity = entity_of(7, 3)

    assert (index_of(entity), generation_of(entity)) == (7, 3)
    assert entity == 3 * 2**32 + 7
