"""The members of an enum: of one field, or of an `[enums.NAME]` that several fields share.

Invariant: members come out in the order of their numbers, since their order in a file is not state.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ecsnet.errors import did_you_mean
from ecsnet.limits import ENUM_VALUES_MAX, NAME_BYTES_MAX
from ecsnet.schema.language import ENUM_NAME
from ecsnet.schema.source import Node, shorten, type_name
from ecsnet.schema.types import SCALARS, CellType

_INTEGERS = tuple(name for name, scalar in SCALARS.items() if scalar.kind == "int")


def read_enum(node: Node) -> tuple[CellType, Mapping[str, int]]:
    """The type that `storage` and `values` of this table say, and the numbers by name.

    Raises:
        SchemaError: no members, too many, a number twice or beyond the storage, or a name that is none.
    """
    storage = node.text("storage", "u8")
    if storage not in _INTEGERS:
        close = did_you_mean(storage, _INTEGERS)
        hint = f'did you mean "{close}"?' if close else f"storage: {', '.join(_INTEGERS)}"
        raise node.error("unknown-type", "storage", f'"{shorten(storage)}" is no integer type', hint)
    if "values" not in node:
        raise node.missing("values", "an enum names its members: values = { SWORD = 1, POTION = 2 }")
    raw = node.data["values"]
    if isinstance(raw, list):
        reason = "members without numbers"
        raise node.error("bad-enum", "values", reason, "numbers outlive the order of a list: { SWORD = 1, POTION = 2 }")
    if not isinstance(raw, dict):
        raise node.wrong_type("values", "a table of members", raw)
    if not 1 <= len(raw) <= ENUM_VALUES_MAX:
        raise node.error("bad-enum", "values", f"{len(raw)} members; an enum has 1 to {ENUM_VALUES_MAX}")
    scalar = SCALARS[storage]
    names: dict[int, str] = {}
    for name, number in raw.items():
        path = (*node.path, "values", name)
        if not ENUM_NAME.fullmatch(name) or len(name) > NAME_BYTES_MAX:
            reason = f'"{shorten(name)}" is no name for a member: letters, digits and _, up to {NAME_BYTES_MAX}'
            raise node.source.error("bad-name", path, reason, at="key")
        if isinstance(number, bool) or not isinstance(number, int):
            raise node.source.error("wrong-type", path, f"expected an integer, found {type_name(number)}")
        if not scalar.minimum <= number <= scalar.maximum:
            reason = f"{shorten(str(number))} does not fit {storage}, which holds {scalar.minimum} to {scalar.maximum}"
            raise node.source.error("out-of-range", path, reason, 'choose a wider `storage`, e.g. storage = "u16"')
        if number > 0x7FFF_FFFF_FFFF_FFFF:
            raise node.source.error("out-of-range", path, f"{number} is above {0x7FFF_FFFF_FFFF_FFFF}")
        if number in names:
            raise node.source.error("bad-enum", path, f"{name} and {names[number]} are both {number}")
        names[number] = name
    # By number: the order of members in a file is not state.
    return CellType(storage, enum=True), MappingProxyType({names[number]: number for number in sorted(names)})
