"""Rules of interest from code: which part of the world each client is sent.

    World(schema, interest=[owned(), near(Transform, radius=60.0), related(Item.holder), always(Match)])

These are the rules of a schema's `[[interest]]`, written in Python, where tables and fields may be named by their
classes. A world has those of its schema and its own.

A client is sent what any rule for its role finds, and nothing else; in a world without rules it is sent all that its
role may see. What a role may see at all is the schema's matter (`visible_to`): no rule shows what that hides.

Invariant: a rule that a world has took the same checks as one in a schema's file; nothing here looks at rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ecsnet.errors import ArgumentError, SchemaError
from ecsnet.expressions import Column, Condition, spell
from ecsnet.schema import InterestRule, Schema, loads
from ecsnet.schema.canonical import interest_lines
from ecsnet.schema.rules import LEAVE_FACTOR, See

if TYPE_CHECKING:
    from ecsnet.schema.python import Row
    from ecsnet.store.statement import Statement

__all__ = ["always", "check_rules", "near", "owned", "query_of", "related", "where"]


def always(*tables: "str | type[Row]", roles: Sequence[str] | None = None) -> InterestRule:
    """Every row of these tables, and nothing else of the entities that have them: that there is somebody with a score
    does not tell where. They are looked at once for all clients with the same rules, when some came or went; every
    change of them is sent to everybody.

    Args:
        tables: by class or by name; "entities" is all there are, without their components.
        roles: whom the rule is for; None is every role.
    """
    return InterestRule("always", tables=tuple(_table(table) for table in tables), roles=_roles(roles))


def owned(*, roles: Sequence[str] | None = None) -> InterestRule:
    """The entities that the client owns: those spawned with `owner=client`."""
    return InterestRule("owned", roles=_roles(roles))


def near(
    table: "str | type[Row]",
    *,
    radius: float,
    leave_radius: float | None = None,
    every: int = 1,
    roles: Sequence[str] | None = None,
) -> InterestRule:
    """The entities around the client: those whose place is within `radius` of an entity that it is focused on, which is
    `client.entity` unless `client.focus` says others.

    Args:
        table: a component with `spatial`.
        radius: in the units of the place.
        leave_radius: who came in leaves only beyond this; 1.1 radii unless given.
        every: look each so many ticks.
    """
    leave = radius * LEAVE_FACTOR if leave_radius is None else leave_radius
    return InterestRule(
        "near", table=_table(table), radius=radius, leave_radius=leave, every=every, roles=_roles(roles)
    )


def related(field: "str | Column", *, see: See = "referring", roles: Sequence[str] | None = None) -> InterestRule:
    """What is tied to something that the client is sent, along the reference `field`, such as `Item.holder`.

    Args:
        field: a reference, as `Table.field` or "table.field".
        see: "referring", the rows that refer to an entity or row that the client is sent; "referred", what those rows
            that it is sent refer to.
    """
    path = field.path if isinstance(field, Column) else field
    return InterestRule("related", field=path, see=see, roles=_roles(roles))


def where(
    table: "str | type[Row]", condition: "str | Condition", *, every: int = 1, roles: Sequence[str] | None = None
) -> InterestRule:
    """The rows of a table for which a condition holds. Of a component: the entities, with all that they have.

    Args:
        condition: `Health.hp < 20`, or the same in the language of `ecsnet query`, "health.hp < 20".
        every: look each so many ticks. It is a scan of the table, once for all clients.
    """
    text = condition.text() if isinstance(condition, Condition) else condition
    return InterestRule("query", table=_table(table), where=text, every=every, roles=_roles(roles))


def check_rules(schema: Schema, rules: Iterable[InterestRule]) -> tuple[InterestRule, ...]:
    """All rules of a world: its schema's, then `rules`, as a schema that has them would have them.

    Raises:
        SchemaError: one is malformed, or names what the schema does not have. QueryError, ArgumentError: the condition
        of one is none, or is of what its table does not have. ArgumentError: one is no rule at all.
    """
    if isinstance(rules, InterestRule):
        raise ArgumentError(f"interest is one rule, {rules!r}; give a list of them, e.g. interest=[owned()]")
    given = tuple(rules)
    for number, rule in enumerate(given):
        if not isinstance(rule, InterestRule):
            raise ArgumentError(f"interest[{number}] is {rule!r}; rules are made by ecsnet.interest, e.g. owned()")
    found = schema.interest
    if given:
        whole = [_whole(rule) for rule in given]
        try:
            found = loads("\n".join([schema.canonical, *interest_lines(whole), ""]), "World(interest=...)").interest
        except SchemaError as error:
            # The line of a text that nobody wrote says nothing; the key's number counts the schema's rules, too.
            raise SchemaError(
                error.code, "World(interest=...)", None, None, error.key, error.reason, error.hint
            ) from None
    queries = [query_of(rule) for rule in found if rule.kind == "query"]
    if queries:
        from ecsnet.store import Store

        # Now, and not when the first player comes: then a name that is not there would be the node's end.
        with Store(schema) as store, store.view() as view:
            for query in queries:
                query.query(view)
    return found


def query_of(rule: InterestRule) -> "Statement":
    """A rule's condition as a query of its table.

    Raises:
        QueryError: it is not in the language of queries. ArgumentError: it is more than a condition.
    """
    # Imported here: a world is described without the store, which loads the kernel.
    from ecsnet.store.parser import parse
    from ecsnet.store.statement import Statement

    statement = parse(f"from {spell(rule.table)} where {rule.where}")
    if statement != Statement(tables=statement.tables, condition=statement.condition):
        raise ArgumentError(f"expected a condition, found more in the rule's where: {rule.where!r}")
    return statement


def _whole(rule: InterestRule) -> InterestRule:
    """With what a file may leave out."""
    if rule.kind == "near" and rule.leave_radius == 0.0:
        return replace(rule, leave_radius=rule.radius * LEAVE_FACTOR)
    return rule


def _table(table: Any) -> str:
    name = getattr(table, "ecsnet_table", table)
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"expected the class or the name of a table, found {table!r}")
    return name


def _roles(roles: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(roles, str):
        raise ArgumentError(f'roles is {roles!r}; give several or one as a list: ["{roles}"]')
    return None if roles is None else tuple(roles)
