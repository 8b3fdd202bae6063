"""What a schema says about who: which roles may write a table's rows, and what each client is sent.

    class Input(Component, writers=[Writer("player", ["update"])]): ...
    Schema("arena", "1.0.0", Input, ..., interest=[InterestRule("near", table="transform", radius=60.0)])

These are values only: what is wrong with one is said when the schema is made, by the same reader as a TOML file's.

A *role* is a name that authentication gives a client, "player" where it gives none; "*" among writers is every role.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Operation = Literal["insert", "update", "delete"]
Conflict = Literal["authority", "lww"]
InterestKind = Literal["always", "owned", "near", "related", "query"]
See = Literal["referring", "referred"]

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

EVERY_ROLE: Final = "*"

LEAVE_FACTOR: Final = 1.1
"""`leave_radius` where a rule gives none, in radii: who walks along the edge does not come and go with each step."""


@dataclass(frozen=True, slots=True, init=False)
class Writer:
    """One permission: clients of `role` may do `operations` to `rows` of the table, writing `fields` only.

    `rows` is "owned" (of a component those of entities that the client owns, of a keyed table those that its `owner`
    names) or "all". `fields` None are all fields, but for the primary key and the owner of a row that is there.
    """

    role: str
    operations: tuple[Operation, ...]
    rows: Literal["owned", "all"]
    fields: tuple[str, ...] | None

    def __init__(
        self,
        role: str = EVERY_ROLE,
        operations: Sequence[Operation] = ("update",),
        *,
        rows: Literal["owned", "all"] = "owned",
        fields: Sequence[Any] | None = None,
    ) -> None:
        """Say who may write what.

        Args:
            role: the clients that it is for; "*" for all.
            operations: any of "insert", "update" and "delete".
            rows: "owned" or "all". An event's rows belong to nobody: "all".
            fields: names of fields; of a struct, all its members.
        """
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "operations", tuple(operations))
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "fields", None if fields is None else tuple(fields))

    def __reduce__(self) -> tuple[Any, ...]:
        return _writer, (self.role, self.operations, self.rows, self.fields)


def _writer(
    role: str, operations: tuple[Operation, ...], rows: Literal["owned", "all"], fields: tuple[str, ...] | None
) -> Writer:
    return Writer(role, operations, rows=rows, fields=fields)


@dataclass(frozen=True, slots=True)
class InterestRule:
    """One rule of interest. A client is sent what any of the rules for its role finds; without rules, everything.

    Kinds, and what each needs:
    - "always": every row of `tables`;
    - "owned": the entities that the client owns;
    - "near": entities whose place in `table`, a component with `spatial`, is within `radius` of one that the client is
      focused on, until it is beyond `leave_radius`, 1.1 radii where 0; found again each `every`-th tick;
    - "related": along the reference `field` ("item.holder"): the rows that refer to an entity or row that the client is
      sent (`see="referring"`), or what the rows that it is sent refer to (`see="referred"`);
    - "query": rows of `table` for which `where` holds, a condition in the language of `ecsnet query`; likewise found
      each `every`-th tick.

    `roles` are those that the rule is for, None all of them.
    """

    kind: InterestKind
    tables: tuple[str, ...] = ()
    table: str = ""
    radius: float = 0.0
    leave_radius: float = 0.0
    every: int = 1
    field: str = ""
    see: See = "referring"
    where: str = ""
    roles: tuple[str, ...] | None = None
