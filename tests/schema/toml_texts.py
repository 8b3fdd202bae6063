"""Random TOML for property tests: texts in every spelling TOML has, and whole schemas.

`documents()` writes a random nest of tables in random styles (headers, dotted keys, inline tables, arrays of tables,
quoted keys, multi-line strings, comments). `schemas()` writes valid schemas in random order and spelling.
"""

import keyword
import math
from typing import Any

from hypothesis import strategies as st

bare_keys = st.text("abcXYZ019_-", min_size=1, max_size=5)
any_keys = st.one_of(bare_keys, st.text(max_size=4).filter(lambda text: _is_utf8(text)))


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def basic(text: str) -> str:
    """A TOML basic string, escaping what must be."""
    out = ""
    for character in text:
        if character in '"\\' or character < " " or character == "\x7f":
            out += f"\\u{ord(character):04X}"
        else:
            out += character
    return f'"{out}"'


@st.composite
def key_texts(draw: st.DrawFn, key: str) -> str:
    """One key as some writer would spell it."""
    choices = [basic(key)]
    if key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key):
        choices.append(key)
    if "'" not in key and key.isprintable():
        choices.append(f"'{key}'")
    return draw(st.sampled_from(choices))


@st.composite
def scalar_texts(draw: st.DrawFn) -> str:
    """A value that nests nothing."""
    text = draw(st.text(max_size=6).filter(_is_utf8))
    choices = [
        basic(text), "true", "false", "-17", "+0", "1_000", "0xff", "3.25", "-1e-3", "inf", "nan",
        "1979-05-27T07:32:00Z", "1979-05-27 07:32:00.5", "07:32:00", '""', "''",
        '"""\n# no comment\n[no.table]\nx = 1"""', '"""a "quote" and two: """""', "'''it's\n\"\"\" fine''''",
        '"a # b ] } , ="',
        '"""tail \\\n   joined\\""""',
    ]  # fmt: skip
    return draw(st.sampled_from(choices))


blanks = st.sampled_from(["", " ", "\t", "  "])
line_ends = st.sampled_from(["\n", " \n", " # a comment = [x]\n", "\r\n", "\n\n# '\"\n"])


@st.composite
def value_texts(draw: st.DrawFn, depth: int = 2) -> str:
    """Any value: a scalar, an array over several lines, an inline table on one."""
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "table"])) if depth else "scalar"
    if kind == "array":
        out = "["
        for element in draw(st.lists(value_texts(depth - 1), max_size=3)):
            out += draw(st.sampled_from(["", "\n", " # x\n"])) + element + draw(blanks) + ","
        return out + draw(st.sampled_from(["", "\n", " "])) + "]"
    if kind == "table":
        keys = draw(st.lists(any_keys, max_size=3, unique=True))
        parts = []
        for key in keys:
            value = draw(value_texts(depth - 1))
            parts.append(f"{draw(key_texts(key))}{draw(blanks)}={draw(blanks)}{value}")
        return "{" + draw(blanks) + ", ".join(parts) + draw(blanks) + "}"
    return draw(scalar_texts())


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A whole text. Most are valid TOML; some declare a key twice, and the parser refuses them."""
    out = draw(st.sampled_from(["", "# head\n", "\n\n"]))
    for key in draw(st.lists(bare_keys, max_size=2, unique=True)):
        out += f"{draw(key_texts(key))} = {draw(value_texts())}{draw(line_ends)}"
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.lists(st.sampled_from(["a", "b", "c d", "é"]), min_size=1, max_size=3))
        spelled = draw(st.sampled_from([".", " . "])).join([draw(key_texts(part)) for part in path])
        out += draw(blanks)
        out += f"[[{spelled}]]" if draw(st.booleans()) else f"[ {spelled} ]"
        out += draw(line_ends)
        for key in draw(st.lists(bare_keys, max_size=3, unique=True)):
            dotted = f"{draw(key_texts(key))}.{draw(key_texts('sub'))}" if draw(st.booleans()) else draw(key_texts(key))
            out += f"{draw(blanks)}{dotted} = {draw(value_texts())}{draw(line_ends)}"
    return out


# --- schemas ----------------------------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: (
        name not in ("owner", "entities", "sessions", "copied", "present")
        and not name.startswith(("schema_", "ecsnet_"))
        and not keyword.iskeyword(name)
    )
)
INTEGERS = {
    f"{s}{8 * w}": (0 if s == "u" else -(1 << 8 * w - 1), (1 << 8 * w - (s == "i")) - 1)
    for s in "ui"
    for w in (1, 2, 4, 8)
}


def number(draw: st.DrawFn, kind: str, low: Any = None, high: Any = None) -> Any:
    """A value of that type, between the bounds."""
    if kind in INTEGERS:
        type_low, type_high = INTEGERS[kind]
        return draw(st.integers(type_low if low is None else low, type_high if high is None else high))
    if kind == "bool":
        return draw(st.booleans())
    bits = 32 if kind == "f32" else 64
    return draw(st.floats(low, high, width=bits, allow_nan=False, allow_infinity=False))


def written(value: Any) -> str:
    """As TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return basic(value)
    if isinstance(value, list):
        return "[" + ", ".join(written(element) for element in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{basic(key)} = {written(element)}" for key, element in value.items()) + " }"
    return repr(value)


roles = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)
role_lists = st.lists(roles, max_size=3, unique=True)


@st.composite
def writer_declarations(draw: st.DrawFn, kind: str, fields: list[dict[str, Any]], owned: bool) -> list[dict[str, Any]]:
    """Permissions of a table; `fields` without what names the row."""
    writers = []
    for _ in range(draw(st.integers(1, 3))):
        every = ["insert"] if kind == "event" else ["insert", "update", "delete"]
        writer: dict[str, Any] = {"operations": draw(st.lists(st.sampled_from(every), min_size=1, unique=True))}
        if draw(st.booleans()):
            writer["role"] = draw(roles | st.just("*"))
        if not owned or draw(st.booleans()):
            writer["rows"] = "all"
        if fields and writer["operations"] != ["delete"] and draw(st.booleans()):
            given = draw(st.lists(st.sampled_from([field["name"] for field in fields]), unique=True))
            if "insert" in writer["operations"]:
                needed = [f["name"] for f in fields if "default" not in f and not f.get("optional")]
                given += [name for name in needed if name not in given]
            writer["fields"] = given
        writers.append(writer)
    return writers


@st.composite
def interest_declarations(
    draw: st.DrawFn, tables: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]
) -> list[dict[str, Any]]:
    """Rules of interest over these tables."""
    sent = {name: keys for name, (keys, _) in tables.items() if keys.get("replicated", True)}
    lengths = st.floats(1e-3, 1e6) | st.integers(1, 1000)
    rules: list[dict[str, Any]] = [{"kind": "owned"}]
    if sent:
        rules.append(
            {"kind": "always", "tables": draw(st.lists(st.sampled_from(sorted(sent)), min_size=1, unique=True))}
        )
    for name, keys in sent.items():
        if "parent_table" in keys and "spatial" in keys:
            rule = {"kind": "near", "table": name, "radius": draw(lengths)}
            if draw(st.booleans()):
                rule["leave_radius"] = rule["radius"] * 2
            rules.append(rule)
        if "event" not in keys:
            rules.append({"kind": "query", "table": name, "where": draw(st.text(min_size=1).filter(str.strip))})
            rules[-1]["where"] = rules[-1]["where"].encode("ascii", "ignore").decode() or "x"
            if not rules[-1]["where"].strip():
                rules[-1]["where"] = "x"
        own = tables[name][1][1:] if "parent_table" in keys else tables[name][1]
        for field in own:
            if "foreign_key" in field:
                rule = {"kind": "related", "field": f"{name}.{field['name']}"}
                rules.append(rule | draw(st.sampled_from([{}, {"see": "referred"}, {"see": "referring"}])))
    for rule in rules:
        if rule["kind"] in ("near", "query") and draw(st.booleans()):
            rule["every"] = draw(st.integers(1, 65535))
        if draw(st.booleans()):
            rule["roles"] = draw(role_lists)
    return draw(st.permutations(rules))[:32]


@st.composite
def field_declarations(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """One stored field."""
    out: dict[str, Any] = {"name": name}
    kind = draw(st.sampled_from([*INTEGERS, "f32", "f64", "bool", "bytes", "string", "enum", "reference"]))
    if kind == "reference":
        out |= {"type": "u64", "foreign_key": "entities.id"}
        out |= draw(
            st.sampled_from(
                [{}, {"optional": True}, {"on_delete": "cascade"}, {"optional": True, "on_delete": "set_null"}]
            )
        )
    elif kind == "enum":
        storage = draw(st.sampled_from(sorted(INTEGERS)))
        low, high = INTEGERS[storage]
        members = draw(
            st.dictionaries(
                st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,6}", fullmatch=True),
                st.integers(low, min(high, 2**63 - 1)), min_size=1, max_size=5,
            ).filter(lambda members: len(set(members.values())) == len(members))
        )  # fmt: skip
        out |= {"type": "enum", "storage": storage, "values": members}
        if draw(st.booleans()):
            out["default"] = draw(st.sampled_from(sorted(members)))
    elif kind == "string":
        count = draw(st.integers(1, 40))
        out["type"] = f"string[{count}]"
        if draw(st.booleans()):
            out["default"] = draw(st.text(max_size=count // 4).filter(_is_utf8))
        elif draw(st.booleans()):
            out["constraint"] = "unique"
    elif kind == "bytes":
        count = draw(st.integers(1, 40))
        out["type"] = f"bytes[{count}]"
        if draw(st.booleans()):
            if draw(st.booleans()):
                out["default"] = draw(st.text(max_size=count // 4).filter(_is_utf8))
            else:
                out["default"] = list(draw(st.binary(max_size=count)))
        elif draw(st.booleans()):
            out["constraint"] = "unique"
    else:
        shape = draw(st.sampled_from([(), (), (1,), (3,), (16,), (3, 2), (2, 1, 2)]))
        count = math.prod(shape) if shape else 0
        out["type"] = kind
        for length in reversed(shape):
            out["type"] = f"[{out['type']}; {length}]"
        low = high = None
        if kind != "bool" and draw(st.booleans()):
            low, high = sorted([number(draw, kind) or 0, number(draw, kind) or 0])
            out |= {"minimum": low, "maximum": high}
        if draw(st.booleans()):
            if count and draw(st.booleans()):
                elements = [number(draw, kind, low, high) for _ in range(count)]
                for length in reversed(shape[1:]):
                    elements = [elements[start : start + length] for start in range(0, len(elements), length)]
                out["default"] = elements
            else:
                out["default"] = number(draw, kind, low, high)
        elif kind in INTEGERS and not count and draw(st.booleans()):
            out["constraint"] = "unique"
        if kind in ("f32", "f64") and draw(st.booleans()):
            out["quantize"] = draw(st.floats(2.0**-64, 2.0**64) | st.integers(1, 100))
    if draw(st.integers(0, 5)) == 0:
        # In place of what it was: a rotation is of one type.
        out = {"name": name, "type": "[f32; 4]", "default": [0.0, 0.0, 0.0, 1.0], "rotation": True}
    if draw(st.integers(0, 3)) == 0:
        out["visible_to"] = draw(role_lists)
    if draw(st.booleans()):
        out["doc"] = draw(st.text(max_size=8).filter(_is_utf8))
    return out


@st.composite
def index_declarations(draw: st.DrawFn, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """What a table may keep beside these fields: uniques of several, and a grid."""
    keys: dict[str, Any] = {}
    exact = [f["name"] for f in fields if f["type"][0] != "[" and f["type"] not in ("f32", "f64")]
    if len(exact) >= 2 and draw(st.booleans()):
        sets = draw(st.lists(st.sets(st.sampled_from(exact), min_size=2), max_size=2, unique_by=frozenset))
        keys["unique"] = [draw(st.permutations(sorted(one))) for one in sets]
    for kind in ("f32", "f64"):
        place = [f["name"] for f in fields if f["type"] == kind]
        if len(place) >= 2 and draw(st.booleans()):
            keys["spatial"] = place[:3]
            if draw(st.booleans()):
                keys["spatial"] = {"fields": place[:2], "cell": draw(st.floats(1e-3, 1e6))}
    return keys


@st.composite
def table_declarations(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A table's keys and its fields."""
    keys: dict[str, Any] = {}
    # "id" is the keyed tables' own.
    own = names.filter(lambda name: name != "id")
    fields = [draw(field_declarations(name)) for name in draw(st.lists(own, max_size=5, unique=True))]
    for field in fields:
        if draw(st.integers(0, 3)) == 0:
            field["name"] = f"{field['name']}.{draw(names)}"
    kind = draw(st.sampled_from(["component", "keyed", "event"]))
    auto = kind == "keyed" and draw(st.booleans())
    merged = kind == "keyed" and not auto and draw(st.integers(0, 3)) == 0
    if merged:
        # No rule may look at two rows, and every cell has a value that all nodes know.
        keys["conflict"] = "lww"
        fields = [field for field in fields if "default" in field and "foreign_key" not in field]
        for field in fields:
            field.pop("constraint", None)
    if kind != "event":
        keys |= draw(index_declarations(fields))
    if merged:
        keys.pop("unique", None)
    if kind == "event":
        keys["event"] = True
        stored = list(fields)
        for field in fields:
            for key in ("constraint", "on_delete", "quantize", "rotation"):
                field.pop(key, None)
    elif kind == "component":
        if draw(st.booleans()):
            keys["group"] = draw(names)
        keys["parent_table"] = "entities"
        # Neither another field's name nor that of one with members.
        taken = {field["name"].partition(".")[0] for field in fields}
        stored = list(fields)
        key = draw(names.filter(lambda name: name not in taken))
        fields.insert(0, {"name": key, "type": "u64", "foreign_key": "entities.id"})
    else:
        stored = list(fields)
        whose = [f["name"] for f in fields if f["type"] == "u64" and "constraint" not in f and "minimum" not in f]
        if whose and draw(st.booleans()):
            keys["owner"] = draw(st.sampled_from(whose))
        fields.append({"name": "id", "type": "u64"} | ({"auto_increment": True} if auto else {}))
        keys["primary_key"] = "id"
    references = [field["name"] for field in stored if "foreign_key" in field]
    if references and kind != "event" and draw(st.booleans()):
        keys["with"] = draw(st.sampled_from(references))
    if draw(st.booleans()):
        owned = kind == "component" or "owner" in keys
        keys["writers"] = draw(writer_declarations(kind, stored, owned))
    if draw(st.booleans()):
        keys["replicated"] = draw(st.booleans())
    if keys.get("replicated", True) and draw(st.integers(0, 3)) == 0:
        keys["visible_to"] = draw(role_lists)
    if draw(st.booleans()):
        keys["rows_max"] = draw(st.integers(1, 1 << 24))
    if draw(st.booleans()):
        keys["rows_expected"] = draw(st.integers(1, 1000))
    return keys, fields


@st.composite
def schema_declarations(draw: st.DrawFn) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Tables by name, some with explicit ids, some fields with explicit ids."""
    tables = draw(st.dictionaries(names, table_declarations(), max_size=4))
    ids = iter(draw(st.permutations(range(16, 24))))
    for keys, fields in tables.values():
        if draw(st.booleans()):
            keys["id"] = next(ids)
        field_ids = iter(draw(st.permutations(range(10))))
        is_component = "parent_table" in keys
        # A table that others refer to: the first keyed one, whose key is a u64.
        targets = [f"{other}.id" for other, (theirs, _) in tables.items() if "primary_key" in theirs]
        for field in fields:
            fixed = (is_component and field is fields[0]) or field["name"] == keys.get("owner")
            if targets and "foreign_key" in field and not fixed:
                field["foreign_key"] = draw(st.sampled_from(["entities.id", *targets]))
        for index, field in enumerate(fields):
            if not (is_component and index == 0) and draw(st.booleans()):
                field["id"] = next(field_ids)
    return tables


def schema_text(
    tables: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]],
    *,
    inline: bool = False,
    interest: list[dict[str, Any]] | None = None,
) -> str:
    """The declarations as TOML, in the given order; `inline` chooses the spelling of `fields`."""
    out = '[database]\nname = "random"\nversion = "1.2.3"\n'
    for rule in interest or []:
        out += "\n[[interest]]\n" + "".join(f"{key} = {written(value)}\n" for key, value in rule.items())
    for name, (keys, fields) in tables.items():
        out += f"\n[tables.{name}]\n"
        out += "".join(f"{key} = {written(value)}\n" for key, value in keys.items())
        if inline:
            out += "fields = [\n" + "".join(f"  {written(field)},\n" for field in fields) + "]\n"
        else:
            for field in fields:
                out += f"\n[[tables.{name}.fields]]\n"
                out += "".join(f"{key} = {written(value)}\n" for key, value in field.items())
    return out
