"""What the loader lets through, the kernel accepts: there is no second, later "no"."""

from pathlib import Path
from typing import Any

from hypothesis import given, settings

from ecsnet._kernel.kernel import KernelStore
from ecsnet.schema import loads
from ecsnet.schema.types import SCALARS
from tests.schema.toml_texts import schema_declarations, schema_text

ZIG_LIMITS = Path(__file__).parents[2] / "kernel" / "zig" / "limits.zig"


@settings(max_examples=40)
@given(schema_declarations())
def test_every_valid_schema_makes_a_store(tables: dict[str, Any]) -> None:
    """The kernel checks its catalogue again and refuses with a number only: the words are the loader's business."""
    KernelStore(loads(schema_text(tables))).close()


def test_the_widest_schema_makes_a_store() -> None:
    """At the limits themselves: 1008 tables, 256 fields, cells of 4096 bytes, ids at the end of the range."""
    key = '{ name = "entity_id", type = "u64", foreign_key = "entities.id" }'
    fields = "".join(f', {{ name = "f{n}", type = "[f64; 512]", default = 1.5 }}' for n in range(255))
    text = '[database]\nname = "wide"\nversion = "1.0.0"\n'
    text += f'[tables.wide]\nid = 65519\nparent_table = "entities"\nfields = [{key}{fields}]\n'
    text += "".join(f'[tables.t{n}]\nparent_table = "entities"\nfields = [{key}]\n' for n in range(1007))
    KernelStore(loads(text)).close()


def test_the_limits_are_the_kernels() -> None:
    """Written down on both sides of the boundary, so compared."""
    from ecsnet import limits

    source = ZIG_LIMITS.read_text(encoding="utf-8")
    for ours, theirs in {
        "TABLES_MAX": "pub const tables_max = 1024;",
        "FIELDS_MAX": "pub const fields_max = 256;",
        "CELL_BYTES_MAX": "pub const cell_bytes_max = 4096;",
        "ENUM_VALUES_MAX": "pub const enum_values_max = 256;",
        "ROWS_MAX": "pub const entities_max = 1 << 24;",
    }.items():
        assert theirs in source, ours
        expression = theirs.split("= ")[1].rstrip(";")
        assert getattr(limits, ours) == eval(expression), ours
    assert "fields_max <= 0xfff0" in source and limits.SCHEMA_ID_MAX == 0xFFF0 - 1


def test_the_order_of_types_is_the_kernels() -> None:
    """`schema_fields.type` and the kernel number types alike, so a tool needs one list."""
    from ecsnet._kernel import abi

    assert tuple(SCALARS) == abi.TYPES[: len(SCALARS)]
