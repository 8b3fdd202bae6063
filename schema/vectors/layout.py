"""The layout tables of `schema/wire.md`, made from the compiled `schema/ecsnet.capnp`.

    python schema/vectors/layout.py            prints them
    python schema/vectors/layout.py --write    puts them into wire.md, between its marks

A reader that knows only wire.md depends on these tables, so they are never written by hand; a test compares them.
"""

import sys
from pathlib import Path
from typing import Any

import capnp

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "schema" / "ecsnet.capnp"
PAGE = ROOT / "schema" / "wire.md"
BEGIN = "<!-- layout: made by schema/vectors/layout.py -->"
END = "<!-- end of layout -->"

BITS = {
    "bool": 1, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64, "int64": 64, "enum": 16,
}  # fmt: skip
NAMES = {"uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "int64": "i64"}


def load() -> Any:
    """The compiled schema."""
    capnp.remove_import_hook()
    return capnp.load(str(SCHEMA))


def enumerants(schema: Any, name: str) -> dict[str, int]:
    """Names and numbers of an enum."""
    module = getattr(schema, name)
    numbers = {word: getattr(module, word) for word in dir(module) if not word.startswith("_")}
    # pycapnp hangs a `schema` on the enum, unless an enumerant of that name is in its place.
    known = {word: number for word, number in numbers.items() if isinstance(number, int)}
    return dict(sorted(known.items(), key=lambda item: item[1]))


def structs(schema: Any) -> list[str]:
    """Names of all structs: those of messages by kind, then the ones inside them."""
    kinds = [name[0].upper() + name[1:] for name in enumerants(schema, "Kind") if name != "invalid"]
    return [*kinds, "CommandSignature", "Parameter", "EnumValue", "ClockEntry"]


def fields(schema: Any, struct: str) -> list[tuple[str, str, str]]:
    """(name, type, place) of each field, in the order of the schema."""
    compiled = getattr(schema, struct).schema
    rows = []
    for field in compiled.node.struct.fields:
        which = str(field.slot.type.which())
        offset = field.slot.offset
        if which in BITS:
            bits = offset * BITS[which]
            place = f"data {bits // 8}" + (f" bit {bits % 8}" if which == "bool" else "")
            kind = NAMES.get(which, which)
            if which == "enum":
                kind = compiled.fields[field.name].schema.node.displayName.partition(":")[2]
        else:
            place = f"pointer {offset}"
            kind = which
            if which == "list":
                kind = "list of " + compiled.fields[field.name].schema.elementType.node.displayName.partition(":")[2]
        rows.append((field.name, kind, place))
    return rows


def tables() -> str:
    """All tables as Markdown."""
    schema = load()
    kinds = enumerants(schema, "Kind")
    out = []
    for struct in structs(schema):
        node = getattr(schema, struct).schema.node.struct
        kind = kinds.get(struct[0].lower() + struct[1:])
        what = f"kind {kind}" if kind else "inside other messages"
        out.append(f"#### {struct}: {what}, {node.dataWordCount} data words, {node.pointerCount} pointers\n")
        out.append("| field | type | at |\n|---|---|---|")
        out += [f"| {name} | {kind} | {place} |" for name, kind, place in fields(schema, struct)]
        out.append("")
    for enum in ("Reason", "CommandStatus", "ParameterKind"):
        numbers = ", ".join(f"{number} {name}" for name, number in enumerants(schema, enum).items())
        out.append(f"#### {enum}: u16\n\n{numbers}\n")
    return "\n".join(out)


def page_with_tables(page: str) -> str:
    """`page` with the tables as they should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page_with_tables(PAGE.read_text()))
    else:
        print(tables())
