"""Arguments of commands: what one side encodes the other takes, and nothing else gets through."""

import math
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.errors import ArgumentError, RemoteProtocolError, UnknownNameError
from ecsnet.session.commands import (
    decode_arguments_untrusted,
    encode_arguments,
    signatures_hash,
    signatures_text,
)
from ecsnet.wire.messages import CommandSignature, Parameter, ParameterKind, Reason

VALUES = (("SWORD", 1), ("POTION", -2))

kinds = st.sampled_from(list(ParameterKind))
signatures = st.lists(kinds, max_size=8).map(
    lambda found: tuple(
        Parameter(f"p{at}", kind, VALUES if kind is ParameterKind.ENUM else ()) for at, kind in enumerate(found)
    )
)


def value_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    return {
        ParameterKind.BOOL: st.booleans(),
        ParameterKind.INT: st.integers(-(2**63), 2**63 - 1),
        ParameterKind.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
        ParameterKind.STR: st.text(st.characters(codec="utf-8"), max_size=200),
        ParameterKind.ENTITY: st.one_of(st.just(0), st.integers(2**32, 2**64 - 1)),
        ParameterKind.ENUM: st.sampled_from([1, -2]),
    }[parameter.kind]


def one(kind: ParameterKind) -> tuple[Parameter, ...]:
    return (Parameter("x", kind, VALUES if kind is ParameterKind.ENUM else ()),)


@given(signatures, st.data())
def test_what_is_encoded_is_decoded(parameters: tuple[Parameter, ...], draw: st.DataObject) -> None:
    values = {parameter.name: draw.draw(value_of(parameter)) for parameter in parameters}
    data = encode_arguments(parameters, values)
    found = decode_arguments_untrusted(parameters, data)
    assert found == tuple(values.values())
    assert [type(value) for value in found] == [type(value) for value in values.values()]


@given(signatures, st.data())
def test_arguments_that_are_cut_off_or_too_long_are_refused(
    parameters: tuple[Parameter, ...], draw: st.DataObject
) -> None:
    values = {parameter.name: draw.draw(value_of(parameter)) for parameter in parameters}
    data = encode_arguments(parameters, values)
    with pytest.raises(RemoteProtocolError):
        decode_arguments_untrusted(parameters, data + b"\0")
    if data:
        with pytest.raises(RemoteProtocolError):
            decode_arguments_untrusted(parameters, data[: draw.draw(st.integers(0, len(data) - 1))])


@given(signatures, st.binary(max_size=100))
def test_any_bytes_are_arguments_or_refused(parameters: tuple[Parameter, ...], data: bytes) -> None:
    try:
        values = decode_arguments_untrusted(parameters, data)
    except RemoteProtocolError as error:
        assert error.reason == Reason.BAD_ARGUMENTS
        return
    named = {parameter.name: value for parameter, value in zip(parameters, values, strict=True)}
    assert encode_arguments(parameters, named) == data, "there is one encoding of each value"


class Kind(IntEnum):
    SWORD = 1


class PlainKind(Enum):
    POTION = -2


@pytest.mark.parametrize(
    ("kind", "value", "decoded"),
    [
        (ParameterKind.BOOL, np.bool_(True), True),
        (ParameterKind.INT, np.int32(-7), -7),
        (ParameterKind.FLOAT, 3, 3.0),
        (ParameterKind.FLOAT, np.float32(0.5), 0.5),
        (ParameterKind.ENTITY, np.uint64(2**32 + 1), 2**32 + 1),
        (ParameterKind.ENUM, "POTION", -2),
        (ParameterKind.ENUM, Kind.SWORD, 1),
        (ParameterKind.ENUM, PlainKind.POTION, -2),
    ],
)
def test_what_numpy_and_enums_give_is_taken(kind: ParameterKind, value: object, decoded: object) -> None:
    assert decode_arguments_untrusted(one(kind), encode_arguments(one(kind), {"x": value})) == (decoded,)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ParameterKind.BOOL, 1),
        (ParameterKind.BOOL, "yes"),
        (ParameterKind.INT, True),
        (ParameterKind.INT, np.bool_(False)),
        (ParameterKind.INT, 1.0),
        (ParameterKind.INT, 2**63),
        (ParameterKind.FLOAT, math.nan),
        (ParameterKind.FLOAT, -math.inf),
        (ParameterKind.FLOAT, 10**400),
        (ParameterKind.FLOAT, "1.0"),
        (ParameterKind.FLOAT, True),
        (ParameterKind.STR, b"bytes"),
        (ParameterKind.STR, "x" * 1025),
        (ParameterKind.STR, "\ud800"),
        (ParameterKind.ENTITY, 7),
        (ParameterKind.ENTITY, -1),
        (ParameterKind.ENTITY, 2**64),
        (ParameterKind.ENTITY, None),
        (ParameterKind.ENUM, 3),
        (ParameterKind.ENUM, True),
        (ParameterKind.ENUM, 1.0),
    ],
    ids=repr,
)
def test_a_value_that_does_not_fit_is_refused_before_it_is_sent(kind: ParameterKind, value: object) -> None:
    """The error names the argument: the game's author reads it, not the node's."""
    with pytest.raises(ArgumentError, match="'x'"):
        encode_arguments(one(kind), {"x": value})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ParameterKind.BOOL, b"\x02"),
        (ParameterKind.FLOAT, bytes.fromhex("000000000000f07f")),
        (ParameterKind.FLOAT, bytes.fromhex("000000000000f87f")),
        (ParameterKind.FLOAT, bytes.fromhex("0000000000000080")[:7]),
        (ParameterKind.STR, b"\x02\x00\xff\xfe"),
        (ParameterKind.STR, b"\xff\xff"),
        (ParameterKind.STR, b"\x01\x04" + b"x" * 1025),
        (ParameterKind.ENTITY, bytes.fromhex("0700000000000000")),
        (ParameterKind.ENUM, bytes.fromhex("0300000000000000")),
    ],
)
def test_a_value_that_does_not_fit_is_refused_when_it_arrives(kind: ParameterKind, data: bytes) -> None:
    """A client may be anybody's: the node checks everything again."""
    with pytest.raises(RemoteProtocolError, match="'x'"):
        decode_arguments_untrusted(one(kind), data)


def test_a_missing_or_misspelt_argument_is_named() -> None:
    parameters = (Parameter("target", ParameterKind.INT),)
    with pytest.raises(ArgumentError, match="'target' .* is missing"):
        encode_arguments(parameters, {})
    with pytest.raises(UnknownNameError, match="did you mean 'target'"):
        encode_arguments(parameters, {"target": 1, "targte": 2})
    with pytest.raises(UnknownNameError, match="did you mean 'SWORD'"):
        encode_arguments(one(ParameterKind.ENUM), {"x": "SWORDS"})


def test_the_hash_of_signatures_tells_every_difference_that_matters() -> None:
    base = CommandSignature(0, "steer", (Parameter("dx", ParameterKind.FLOAT),), latest=True)
    others = [
        CommandSignature(1, "steer", base.parameters, latest=True),
        CommandSignature(0, "stir", base.parameters, latest=True),
        CommandSignature(0, "steer", base.parameters),
        CommandSignature(0, "steer", base.parameters, latest=True, predict=True),
        CommandSignature(0, "steer", (), latest=True),
        CommandSignature(0, "steer", (Parameter("dy", ParameterKind.FLOAT),), latest=True),
        CommandSignature(0, "steer", (Parameter("dx", ParameterKind.INT),), latest=True),
        CommandSignature(0, "steer", (Parameter("dx", ParameterKind.ENUM, VALUES),), latest=True),
        CommandSignature(0, "steer", (Parameter("dx", ParameterKind.ENUM, VALUES[:1]),), latest=True),
    ]
    hashes = {signatures_hash([signature]) for signature in [base, *others]}
    assert len(hashes) == 1 + len(others)
    assert signatures_hash(()) == 0
    pair = (base, CommandSignature(1, "wave"))
    assert signatures_hash(pair) == signatures_hash(pair[::-1]), "the order of a list is not part of the wire"


def test_the_hashed_text_is_the_one_of_the_page() -> None:
    """wire.md describes it in words; a client of another language must come to the same number."""
    signatures = (
        CommandSignature(2, "craft", (Parameter("kind", ParameterKind.ENUM, VALUES),)),
        CommandSignature(1, "steer", (Parameter("dx", ParameterKind.FLOAT),), latest=True, predict=True),
    )
    assert signatures_text(signatures) == (
        "command 1 latest predict steer\n  float dx\ncommand 2 craft\n  enum kind SWORD=1 POTION=-2\n"
    )
    assert signatures_hash(signatures) == 0xB882_F450_669A_D308
