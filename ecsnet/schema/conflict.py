"""`conflict = "lww"`: what a table must be like for several nodes to write it, each without asking the others.

Between nodes a row is named by its primary key, and each cell is merged by itself. So a row is the same on every node
only if no rule looks at two rows at once, and if every cell that nobody wrote has a value that all nodes know.
"""

from collections.abc import Sequence

from ecsnet.limits import FIELDS_MAX
from ecsnet.schema.declared import Declared
from ecsnet.schema.model import MISSING
from ecsnet.schema.source import Node

LWW_FIELDS_MAX = FIELDS_MAX // 2
"""Each field has a hidden companion that says who wrote its cells, and when."""

LWW_KEY_BYTES_MAX = 32
"""What is deleted is remembered by its primary key, in cells of one width."""


def check_mergeable(node: Node, fields: Sequence[Declared], primary_key: str | None, *, combined: bool) -> None:
    """Check the fields of a table with `conflict = "lww"`, whose keys are at `node`.

    Raises:
        SchemaError: it has no primary key that the game gives and that fits; a field is a reference, is unique, or has
            no default; or fields are unique together.
    """
    key = next((field for field in fields if field.name == primary_key), None)
    if key is None:
        reason = "several nodes must name a row alike, and an entity's number is one node's own"
        raise node.error("key-conflict", "conflict", reason, "use a table with a primary key that the game gives")
    if key.auto_increment:
        reason = f'"{key.name}" counts by itself, on each node alone: two rows would have one key'
        raise node.error("key-conflict", "conflict", reason, "leave auto_increment out and give the key")
    width = key.cell.count if key.cell.element == "string" else key.finish(0, primary=True, event=False).width
    if width > LWW_KEY_BYTES_MAX:
        reason = f'"{key.name}" is a {key.cell.text}; a key between nodes is at most {LWW_KEY_BYTES_MAX} bytes'
        raise key.node.error("key-conflict", "type", reason, "e.g. u64, bytes[16] or string[32]")
    if len(fields) > LWW_FIELDS_MAX:
        reason = f"{len(fields)} fields are above the limit of {LWW_FIELDS_MAX} where several nodes write"
        raise node.error("too-many", "fields", reason, at="key")
    if combined:
        reason = "no node knows all the rows that another is writing"
        raise node.error("key-conflict", "unique", reason, "leave it out", at="key")
    for field in fields:
        if field is key:
            continue
        if field.foreign_key is not None:
            reason = f'"{field.name}" is a reference, and what it refers to may not be on another node, or not yet'
            raise field.node.error("key-conflict", "foreign_key", reason, "hold the other row's key as a value")
        if field.unique:
            reason = f'"{field.name}" is unique, and no node knows all the rows that another is writing'
            raise field.node.error("key-conflict", "constraint", reason, "leave it out, or make it the primary key")
        if field.default is MISSING:
            reason = f'"{field.name}" has no default: what would it be in a row of which only other fields arrived?'
            raise field.node.error("missing-key", "default", reason, "give it a default")
