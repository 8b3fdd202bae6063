"""Compare what a view or a transaction tells with a model: rows, joins, places, texts and relations.

Invariants:
- a check reads and never writes, neither the source nor the model;
- what is looked at is drawn from the random numbers that are given, and from nothing else.
"""

import random
from typing import Any

from ecsnet import col
from sims.histories_model import COMPONENTS, FIELDS, REFERENCES, Model

TEXTS = (("pos", "name"), ("item", "title"), ("item", "home"))


class Disagreement(Exception):
    """The store and the model differ."""


def demand(holds: bool, what: str) -> None:
    """Raise Disagreement unless it holds."""
    if not holds:
        raise Disagreement(what)


def keys_of(selection: Any, table: str) -> list[int]:
    """The keys of a query's rows, in its order."""
    keys: list[int] = (selection.entity if table in (*COMPONENTS, "entities") else selection.key).tolist()
    return keys


def check_cells(source: Any, model: Model, draw: random.Random) -> None:
    """A few rows, cell by cell."""
    for table, fields in FIELDS.items():
        rows = model.rows[table]
        for key in draw.sample(sorted(rows), min(3, len(rows))):
            demand((key, table) in source, f"{table} of {key} is missing")
            for field in fields:
                found = source[key, f"{table}.{field}"]
                demand(found == rows[key][field], f"{table}.{field} of {key}: {found!r}, not {rows[key][field]!r}")


def check_rows(source: Any, model: Model, draw: random.Random, *, some: bool) -> None:
    """Entities, tables (all, or some that are drawn) with all columns, and the join of the group."""
    found = set(keys_of(source.query("entities"), "entities"))
    demand(found == model.entities, f"entities: {sorted(found ^ model.entities)}")
    for table, fields in FIELDS.items():
        if some and draw.random() < 0.6:
            continue
        selection = source.query(table)
        keys, rows = keys_of(selection, table), model.rows[table]
        demand(sorted(keys) == sorted(rows), f"{table} has {sorted(keys)}, not {sorted(rows)}")
        (columns,) = selection
        for field in fields:
            for key, value in zip(keys, getattr(columns, field).tolist(), strict=True):
                demand(value == rows[key][field], f"{table}.{field} of {key}: {value!r}, not {rows[key][field]!r}")
    joined = source.query(*COMPONENTS)
    keys = keys_of(joined, "pos")
    demand(set(keys) == members(model, *COMPONENTS), f"the join has {sorted(keys)}")
    for places in joined.resolve().rows:
        demand(places == slice(0, len(keys)), f"the group lies at {places}, not in front")


def members(model: Model, *tables: str) -> set[int]:
    """The entities that have all these components."""
    return set.intersection(*(model.keys(table) for table in tables))


def check_places(source: Any, model: Model, draw: random.Random) -> None:
    """Who is within a circle."""
    x, y = draw.randrange(-9, 9), draw.randrange(-9, 9)
    found = set(keys_of(source.query("pos").near((x, y), 4.0), "pos"))
    expected = {key for key, row in model.rows["pos"].items() if (row["x"] - x) ** 2 + (row["y"] - y) ** 2 <= 16}
    demand(found == expected, f"near {x}, {y}: {sorted(found ^ expected)}")


def check_texts(source: Any, model: Model, text: str) -> None:
    """Rows that hold a text."""
    for table, field in TEXTS:
        found = set(keys_of(source.query(table).where(col(f"{table}.{field}") == text), table))
        expected = {key for key, row in model.rows[table].items() if row[field] == text}
        demand(found == expected, f"{table}.{field} == {text!r}: {sorted(found ^ expected)}")


def check_relations(source: Any, model: Model, draw: random.Random) -> None:
    """Each foreign key from both ends. The model must not be broken: a relation to nothing has no answer."""
    for reference in REFERENCES:
        table, field, target, target_field, _ = reference
        path, rows = f"{table}.{field}", model.rows[table]
        if target_field is None:
            values: dict[int, Any] = {key: key for key in model.entities}
        else:
            values = {key: row[target_field] for key, row in model.rows[target].items()}
        for key in draw.sample(sorted(values), min(4, len(values))):
            value = values[key]
            found = source.related(key, path).key.tolist()
            expected = sorted(
                k for k, row in rows.items() if row[field] == value and not reference.names_itself(k, key)
            )
            demand(found == expected, f"related by {path} to {key}: {found}, not {expected}")
        key_of = {value: key for key, value in values.items()}
        for key in draw.sample(sorted(rows), min(4, len(rows))):
            value = rows[key][field]
            found = source.related(key, path, direction="outgoing").key.tolist()
            expected = [key_of[value]] if value and not reference.names_itself(key, key_of[value]) else []
            demand(found == expected, f"{path} of {key} leads to {found}, not {expected}")
