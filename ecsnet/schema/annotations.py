"""From a class body to the fields that it declares: annotations read, descriptors put in their place.

Only what an annotation says is judged here, since that must be right before the class can be used at all; every rule of
the language waits for the schema (`classes`).
"""

import ast
import inspect
import linecache
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, get_args, get_origin

from ecsnet.errors import SchemaError, did_you_mean
from ecsnet.schema.columns import TYPES, Declaration, Typed, array, bytes_, enum, string
from ecsnet.schema.handles import Field, Members
from ecsnet.schema.model import MISSING

_MEANT: dict[object, str] = {
    int: "i32 (or i8 to u64)", float: "f32 or f64", bool: "bool_", str: "string with field(length=...)",
    bytes: "bytes_ with field(length=...)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClassField:
    """One field of a class. `kind` is its type's class, a struct included; `inner` what stands in brackets then."""

    name: str
    kind: type[Any]
    inner: type[Any] | None
    declaration: Declaration

    @property
    def struct(self) -> type[Any] | None:
        """The struct that this is one of, or an array of."""
        kind = self.inner if self.kind is array and self.inner is not None else self.kind
        return None if issubclass(kind, Typed) else kind


def read_columns(cls: type[Any]) -> tuple[dict[str, ClassField], bool]:
    """The fields of a class in the order of its body, and whether any is a struct.

    Raises:
        SchemaError: an annotation is no type of a field, or a value no `field(...)`.
    """
    fields: dict[str, ClassField] = {}
    for name, annotation in _annotations(cls).items():
        if get_origin(annotation) is ClassVar or annotation is ClassVar or name.startswith(("ecsnet_", "_")):
            continue
        kind, inner = _type(cls, name, annotation)
        value = cls.__dict__.get(name, MISSING)
        if value is MISSING:
            value = Declaration({})
        elif not isinstance(value, Declaration):
            hint = f"write {name}: {getattr(kind, '__name__', kind)} = field(default={value!r})"
            raise _error(cls, name, "wrong-type", f"expected field(...), found {value!r}", hint)
        fields[name] = ClassField(name, kind, inner, value)
    for name, value in cls.__dict__.items():
        if isinstance(value, Declaration) and name not in fields:
            raise _error(cls, name, "missing-key", "the field has no type", f"write {name}: u32 = field(...)")
    return fields, any(field.struct is not None for field in fields.values())


def _annotations(cls: type[Any]) -> Mapping[str, Any]:
    # A class in a function may annotate with the function's own names: those of whoever runs the class statement,
    # which is the caller above `__init_subclass__` and what that calls.
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ecsnet.schema."):
        frame = frame.f_back
    names: dict[str, Any] = {
        **frame.f_locals,
        **{key: value for key, value in vars(cls).items() if isinstance(value, type)},
    }
    try:
        return inspect.get_annotations(cls, locals=names, eval_str=True)
    except NameError as error:
        reason = f"an annotation names something that is not there: {error}"
        raise SchemaError("unknown-type", *place_of(cls), cls.__name__, reason) from error
    except (TypeError, SyntaxError) as error:
        # What the brackets hold is no type, e.g. array[f32, 3].
        hint = "lengths stand in field(): rotation: array[f32] = field(shape=4), title: string = field(length=64)"
        raise SchemaError("unknown-type", *place_of(cls), cls.__name__, str(error), hint) from error


def _type(cls: type[Any], name: str, annotation: Any) -> tuple[type[Any], type[Any] | None]:
    """The type's class, and what it is of."""
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if not isinstance(kind, type):
        raise _error(cls, name, "unknown-type", f"{annotation!r} is no type of a field")
    if not getattr(kind, "ecsnet_is_struct", False) and kind not in TYPES:
        meant = _MEANT.get(kind) or did_you_mean(kind.__name__, [one.__name__ for one in TYPES])
        if issubclass(kind, Enum):
            meant = f"enum[{kind.__name__}]"
        hint = (
            f"write {meant}" if meant else "types: u8 to i64, f32, f64, bool_, enum, ref, string, bytes_, array, Struct"
        )
        raise _error(cls, name, "unknown-type", f"{kind.__name__} is no type of a field", hint)
    if kind not in (array, enum):
        return kind, None
    if len(arguments) != 1 or not isinstance(get_origin(arguments[0]) or arguments[0], type):
        what = "of what: array[f32]" if kind is array else "of which members: enum[Kind], with class Kind(IntEnum)"
        raise _error(cls, name, "unknown-type", f"{kind.__name__} must say {what}")
    if kind is array:
        element, _ = _type(cls, name, arguments[0])
        if element in (array, enum, string, bytes_):
            reason = f"arrays hold numbers and bools, not {element.__name__}"
            advice = "for several dimensions write field(shape=(4, 3))" if element is array else None
            raise _error(cls, name, "unknown-type", reason, advice)
    return kind, arguments[0]


# --- descriptors ------------------------------------------------------------------------------------------------------


class Nested(Typed):
    """A struct's place on a class. A row keeps its members' values under dotted names, so this puts them together."""

    __slots__ = ("ecsnet_struct",)

    def __init__(self, name: str, handle: Any, struct: Any) -> None:
        super().__init__(name, handle, lambda: MISSING)
        self.ecsnet_struct = struct

    def __get__(self, row: Any, owner: Any = None) -> Any:
        if row is None:
            return self.ecsnet_handle
        start = self.ecsnet_name + "."
        values = {
            name.removeprefix(start): value for name, value in row.ecsnet_values.items() if name.startswith(start)
        }
        return self.ecsnet_struct.ecsnet_given(values)

    def __set__(self, row: Any, value: Any) -> None:
        given = value if isinstance(value, Mapping) else value.ecsnet_values
        made = self.ecsnet_struct(**given).ecsnet_values if isinstance(value, Mapping) else given
        row.ecsnet_values.update({f"{self.ecsnet_name}.{member}": cell for member, cell in made.items()})


class Unplaced:
    """What a struct's own class shows for a member, which is a column only where a table has the struct."""

    __slots__ = ("name", "struct")

    def __init__(self, struct: str, name: str) -> None:
        self.struct = struct
        self.name = name

    def __repr__(self) -> str:
        return f"<member {self.struct}.{self.name}>"


def install(cls: type[Any], fields: Mapping[str, ClassField], table: str | None) -> None:
    """Put descriptors in the place of what the class body said; `table` is None for a struct."""
    for name, field in fields.items():
        handle: Any = Unplaced(cls.__name__, name) if table is None else _handle(f"{table}.{name}", field)
        if field.struct is not None:
            setattr(cls, name, Nested(name, handle, field.struct))
        else:
            kind = field.kind if field.kind in TYPES else Typed
            setattr(cls, name, kind(name, handle, _rest(field.declaration)))


def _rest(declaration: Declaration) -> Callable[[], Any]:
    return lambda: declaration.keys.get("default", MISSING)


def _handle(path: str, field: ClassField) -> Field[Any, Any] | Members:
    if field.struct is None:
        return Field(path)
    inner: Mapping[str, ClassField] = field.struct.ecsnet_columns
    return Members(path, {name: _handle(f"{path}.{name}", member) for name, member in inner.items()})


# --- places -----------------------------------------------------------------------------------------------------------


Place = tuple[str, int | None, int | None]


def _error(cls: type[Any], name: str, code: str, reason: str, hint: str | None = None) -> SchemaError:
    return SchemaError(code, *place_of(cls, name), f"{cls.__name__}.{name}", reason, hint)


def place_of(cls: type[Any], field: str | None = None) -> Place:
    """File, line and column of a class, or of one of its fields; a place that is not known is None."""
    file: str | None = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if not file:
        return f"class {cls.__qualname__}", None, None
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # the file has changed since it was imported
        return file, None, None
    node: Any = tree
    for part in cls.__qualname__.split("."):
        if part == "<locals>":
            continue
        node = _inside(node, part)
        if node is None:
            return file, None, None
    for statement in node.body:
        target = getattr(statement, "target", None)
        if field is not None and isinstance(target, ast.Name) and target.id == field:
            return file, statement.lineno, statement.col_offset + 1
    return file, node.lineno, node.col_offset + 1


def _inside(node: Any, name: str) -> Any:
    """The class or function of that name in a body, at whatever depth of `if` and `with`."""
    waiting = list(ast.iter_child_nodes(node))
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if one.name == name:
                return one
        else:
            waiting += ast.iter_child_nodes(one)
    return None
