"""Arguments of a command: values by name on the sending side, a tuple in the order of the signature on the receiving.

    bool    u8, 0 or 1
    int     i64
    float   f64, finite
    str     u16 bytes of UTF-8, then those
    entity  u64: 0, or an index with a generation that is not 0
    enum    i64, one of the values in the signature

little-endian, one behind the other without padding, in the order of the signature, and nothing after the last.

Invariants:
- both sides check every value against the same signature, so what one encodes the other takes, and NaN, infinities and
  numbers outside an enum never reach a game's function;
- decoding raises RemoteProtocolError or returns exactly one value per parameter.
"""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from ecsnet.errors import ArgumentError, RemoteProtocolError, UnknownNameError
from ecsnet.ids import generation_of
from ecsnet.limits import COMMAND_TEXT_BYTES_MAX
from ecsnet.wire.messages import CommandSignature, Parameter, ParameterKind, Reason

_I64: Final = Struct("<q")
_U64: Final = Struct("<Q")
_F64: Final = Struct("<d")
_U16: Final = Struct("<H")


def encode_arguments(parameters: Sequence[Parameter], values: Mapping[str, object]) -> bytes:
    """The arguments of one command as bytes.

    Args:
        values: one per parameter, by name. An `enum` takes a member, a name of the signature or a number.

    Raises:
        ArgumentError: one is missing, or has the wrong type or range.
        UnknownNameError: one that the command does not have.
    """
    out = bytearray()
    for parameter in parameters:
        try:
            value = values[parameter.name]
        except KeyError:
            raise ArgumentError(f"argument {parameter.name!r} ({parameter.kind.value}) is missing") from None
        out += _ENCODERS[parameter.kind](parameter, value)
    if len(values) != len(parameters):
        known = [parameter.name for parameter in parameters]
        for name in values:
            if name not in known:
                raise UnknownNameError("argument", name, known)
    return bytes(out)


def decode_arguments_untrusted(parameters: Sequence[Parameter], data: bytes) -> tuple[Any, ...]:
    """The values of one command in the order of its parameters: bool, int, float, str, and ints for entity and enum.

    Raises:
        RemoteProtocolError: the bytes do not fit the signature. Nothing else, for any bytes.
    """
    values: list[Any] = []
    at = 0
    for parameter in parameters:
        try:
            value, at = _DECODERS[parameter.kind](parameter, data, at)
        except StructError:
            raise _bad(parameter, f"is cut off: {len(data)} bytes of arguments") from None
        values.append(value)
    if at != len(data):
        raise RemoteProtocolError(f"{len(data) - at} bytes follow the last argument", Reason.BAD_ARGUMENTS)
    return tuple(values)


def signatures_hash(signatures: Sequence[CommandSignature]) -> int:
    """u64 that is equal where the signatures are: MurmurHash3 x64-128, low half, over `signatures_text`; 0 for none."""
    if not signatures:
        return 0
    import mmh3

    low: int = mmh3.hash64(signatures_text(signatures).encode(), signed=False)[0]
    return low or 1


def signatures_text(signatures: Sequence[CommandSignature]) -> str:
    """What `signatures_hash` hashes: a line per command, by id, and one per parameter."""
    lines = []
    for signature in sorted(signatures, key=lambda signature: signature.id):
        flags = ("latest " if signature.latest else "") + ("predict " if signature.predict else "")
        lines.append(f"command {signature.id} {flags}{signature.name}\n")
        for parameter in signature.parameters:
            values = "".join(f" {name}={number}" for name, number in parameter.values)
            lines.append(f"  {parameter.kind.value} {parameter.name}{values}\n")
    return "".join(lines)


# --- one value at a time ----------------------------------------------------------------------------------------------


def _wrong(parameter: Parameter, expected: str, value: object) -> ArgumentError:
    return ArgumentError(f"argument {parameter.name!r} must be {expected}, not {value!r} ({type(value).__name__})")


def _bad(parameter: Parameter, what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"argument {parameter.name!r} ({parameter.kind.value}) {what}", Reason.BAD_ARGUMENTS)


def _is_bool(value: object) -> bool:
    # numpy's bool is no bool and no number; asking its dtype spares importing numpy here.
    return isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", None) == "b"


def _encode_bool(parameter: Parameter, value: object) -> bytes:
    if not _is_bool(value):
        raise _wrong(parameter, "a bool", value)
    return b"\x01" if value else b"\x00"


def _encode_int(parameter: Parameter, value: object) -> bytes:
    if _is_bool(value) or not isinstance(value, numbers.Integral):
        raise _wrong(parameter, "an int", value)
    try:
        return _I64.pack(operator.index(value))
    except StructError:
        raise _wrong(parameter, "an int of 64 bits", value) from None


def _encode_float(parameter: Parameter, value: object) -> bytes:
    if _is_bool(value) or not isinstance(value, numbers.Real):
        raise _wrong(parameter, "a float", value)
    try:
        number = float(value)
    except OverflowError:
        raise _wrong(parameter, "a float", value) from None
    if not math.isfinite(number):
        raise _wrong(parameter, "a finite float", value)
    return _F64.pack(number)


def _encode_str(parameter: Parameter, value: object) -> bytes:
    if not isinstance(value, str):
        raise _wrong(parameter, "a str", value)
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise _wrong(parameter, "a str that UTF-8 can carry", value) from None
    if len(data) > COMMAND_TEXT_BYTES_MAX:
        raise ArgumentError(
            f"argument {parameter.name!r} has {len(data)} bytes of UTF-8; the limit is {COMMAND_TEXT_BYTES_MAX}"
        )
    return _U16.pack(len(data)) + data


def _encode_entity(parameter: Parameter, value: object) -> bytes:
    if _is_bool(value) or not isinstance(value, numbers.Integral):
        raise _wrong(parameter, "an entity", value)
    entity = operator.index(value)
    if entity and not 0 < generation_of(entity) < 1 << 32:
        raise _wrong(parameter, "an entity", value)
    return _U64.pack(entity)


def _encode_enum(parameter: Parameter, value: object) -> bytes:
    if isinstance(value, str):
        by_name = dict(parameter.values)
        if value not in by_name:
            raise UnknownNameError(f"value of argument {parameter.name!r}", value, by_name)
        return _I64.pack(by_name[value])
    number = getattr(value, "value", value)  # a member of an Enum that is no IntEnum
    if _is_bool(number) or not isinstance(number, numbers.Integral):
        raise _wrong(parameter, "one of " + ", ".join(name for name, _ in parameter.values), value)
    discriminant = operator.index(number)
    if all(discriminant != known for _, known in parameter.values):
        raise _wrong(parameter, "one of " + ", ".join(f"{name}={known}" for name, known in parameter.values), value)
    return _I64.pack(discriminant)


def _decode_bool(parameter: Parameter, data: bytes, at: int) -> tuple[bool, int]:
    byte = data[at : at + 1]
    if byte not in (b"\x00", b"\x01"):
        raise _bad(parameter, f"is {byte.hex() or 'cut off'}, neither 0 nor 1")
    return byte == b"\x01", at + 1


def _decode_int(_parameter: Parameter, data: bytes, at: int) -> tuple[int, int]:
    return _I64.unpack_from(data, at)[0], at + 8


def _decode_float(parameter: Parameter, data: bytes, at: int) -> tuple[float, int]:
    (number,) = _F64.unpack_from(data, at)
    if not math.isfinite(number):
        raise _bad(parameter, f"is {number}, not finite")
    return number, at + 8


def _decode_str(parameter: Parameter, data: bytes, at: int) -> tuple[str, int]:
    (size,) = _U16.unpack_from(data, at)
    if size > COMMAND_TEXT_BYTES_MAX:
        raise _bad(parameter, f"announces {size} bytes; the limit is {COMMAND_TEXT_BYTES_MAX}")
    end = at + 2 + size
    if end > len(data):
        raise _bad(parameter, f"announces {size} bytes and has {len(data) - at - 2}")
    try:
        return data[at + 2 : end].decode(), end
    except UnicodeDecodeError:
        raise _bad(parameter, "is no UTF-8") from None


def _decode_entity(parameter: Parameter, data: bytes, at: int) -> tuple[int, int]:
    (entity,) = _U64.unpack_from(data, at)
    if entity and not generation_of(entity):
        raise _bad(parameter, f"is {entity:#x}, an index without a generation")
    return entity, at + 8


def _decode_enum(parameter: Parameter, data: bytes, at: int) -> tuple[int, int]:
    (number,) = _I64.unpack_from(data, at)
    if all(number != known for _, known in parameter.values):
        raise _bad(parameter, f"is {number}, none of its values")
    return number, at + 8


_ENCODERS: Final = {
    ParameterKind.BOOL: _encode_bool,
    ParameterKind.INT: _encode_int,
    ParameterKind.FLOAT: _encode_float,
    ParameterKind.STR: _encode_str,
    ParameterKind.ENTITY: _encode_entity,
    ParameterKind.ENUM: _encode_enum,
}
_DECODERS: Final[dict[ParameterKind, Any]] = {
    ParameterKind.BOOL: _decode_bool,
    ParameterKind.INT: _decode_int,
    ParameterKind.FLOAT: _decode_float,
    ParameterKind.STR: _decode_str,
    ParameterKind.ENTITY: _decode_entity,
    ParameterKind.ENUM: _decode_enum,
}
