"""From checked declarations to a `Schema`: ids, the built-in tables, canonical text and fingerprint.

Invariant: ids depend on names and on explicit ids only. A name without an id gets the lowest free one in the order of
sorted names, never in the order of a file, so two files that say the same in another order are one schema.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ecsnet.schema.builtin import ENTITIES_TABLE, LWW_TABLES, SYSTEM_TABLES
from ecsnet.schema.canonical import canonical_text
from ecsnet.schema.fingerprint import fingerprint_of
from ecsnet.schema.model import Schema, Table
from ecsnet.schema.rules import InterestRule


def assign_ids(explicit: Mapping[str, int | None], first: int) -> dict[str, int]:
    """Give every name an id: its own where it has one, otherwise the lowest free one from `first`, by sorted name.

    The caller has checked that the explicit ids are in range and distinct. Ids cannot run out: there are 65,000, and at
    most a thousand names.
    """
    taken = {number for number in explicit.values() if number is not None}
    assert len(taken) == sum(number is not None for number in explicit.values())
    ids: dict[str, int] = {}
    candidate = first
    for name in sorted(explicit):
        number = explicit[name]
        if number is None:
            while candidate in taken:
                candidate += 1
            number = candidate
            candidate += 1
        ids[name] = number
    return ids


def build_schema(
    name: str,
    version: str,
    doc: str,
    entities: Table | None,
    tables: Iterable[Table],
    interest: tuple[InterestRule, ...] = (),
    classes: Mapping[str, type[Any]] = MappingProxyType({}),
) -> Schema:
    """Put a schema together from its own tables, which the caller has checked. `entities` replaces the built-in
    registry where a schema says more about it (a bound on its rows)."""
    registry = ENTITIES_TABLE if entities is None else entities
    own = tuple(tables)
    system = (*SYSTEM_TABLES, *LWW_TABLES) if any(table.conflict == "lww" for table in own) else SYSTEM_TABLES
    everything = tuple(sorted((registry, *system, *own), key=lambda table: table.id))
    text = canonical_text(name, version, everything, interest)
    return Schema.checked(name, version, everything, text, fingerprint_of(text), doc, interest, classes)
