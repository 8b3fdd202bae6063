"""No reader of pycapnp that a stranger's bytes can abort or leak is used anywhere in the package.

`from_bytes_packed`, `read`, `read_packed` (and their list-of-messages forms) end the process on hostile bytes;
`get_data_as_view` leaks the message. `read` is a common name, so it is only forbidden on what can be a pycapnp object:
on an attribute or a subscript chain that begins at the module, its loaded schema, or a name bound to one of them.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ecsnet"

# Nothing else in Python is called so: forbidden on anything, called or only named.
ALWAYS = {
    "from_bytes_packed",
    "read_packed",
    "read_multiple",
    "read_multiple_packed",
    "read_multiple_bytes",
    "read_multiple_bytes_packed",
    "get_data_as_view",
    "to_bytes_packed",
    "write_packed",
}
# Words that other libraries use, too.
ON_CAPNP = {"read"}


class _Finder(ast.NodeVisitor):
    """Finds forbidden uses in one module: what is tainted by pycapnp is followed through plain assignments."""

    def __init__(self) -> None:
        self.tainted: set[str] = set()
        self.grew = False
        self.found: list[tuple[int, str]] = []

    def is_capnp(self, node: ast.AST) -> bool:
        """Whether an expression comes from pycapnp, as far as its text tells."""
        if isinstance(node, ast.Name):
            return node.id in self.tainted
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            return self.is_capnp(node.value)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in ("_load_schema", "_capnp"):
                return True
            if isinstance(function, ast.Name) and function.id == "getattr" and node.args:
                return self.is_capnp(node.args[0])
            return self.is_capnp(function)
        if isinstance(node, ast.Tuple):
            return any(self.is_capnp(element) for element in node.elts)
        return False

    def taint(self, target: ast.AST) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and node.id not in self.tainted:
                self.tainted.add(node.id)
                self.grew = True

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] == "capnp":
                self.taint(ast.Name(alias.asname or "capnp"))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if (node.module or "").split(".")[0] == "capnp":
            for alias in node.names:
                self.taint(ast.Name(alias.asname or alias.name))

    def visit_Assign(self, node: ast.Assign) -> None:
        if self.is_capnp(node.value):
            for target in node.targets:
                self.taint(target)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars is not None and self.is_capnp(item.context_expr):
                self.taint(item.optional_vars)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in ALWAYS or (node.attr in ON_CAPNP and self.is_capnp(node.value)):
            self.found.append((node.lineno, node.attr))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        # getattr(x, "read") hides the name from visit_Attribute.
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) >= 2:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                word = name.value
                if word in ALWAYS or (word in ON_CAPNP and self.is_capnp(node.args[0])):
                    self.found.append((node.lineno, word))
        self.generic_visit(node)


def forbidden_in(source: str) -> list[tuple[int, str]]:
    """(line, name) of each forbidden use in the text of a module."""
    tree = ast.parse(source)
    finder = _Finder()
    while True:  # a name may be used above the line that binds it
        finder.grew = False
        finder.found = []
        finder.visit(tree)
        if not finder.grew:
            return sorted(set(finder.found))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_uses_no_forbidden_reader(path: Path) -> None:
    assert forbidden_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import capnp\nschema = capnp.load('x')\nschema.Hello.read(file)",
        "import capnp as c\nc.load('x').Hello.read(file)",
        "import capnp\ndef f(name):\n    return getattr(capnp.load('x'), name).read(file)",
        "import capnp\nschema = capnp.load('x')\nhello = schema.Hello\nhello.read(file)",
        "import capnp\ngetattr(capnp.load('x').Hello, 'read')(file)",
        "_, schema = _capnp()\nschema.Hello.read(file)",
        "def f():\n    return g.read(1)\nimport capnp\ng = capnp.load('x').Hello",
        "anything.from_bytes_packed(data)",
        "reader.get_data_as_view('block')",
        "make = Hello.read_packed",
        "getattr(x, 'read_multiple_bytes')(data)",
    ],
)
def test_the_lint_sees_each_way_to_write_it(source: str) -> None:
    """A lint that finds nothing could also be a lint that looks at nothing."""
    assert forbidden_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "with open('x') as file:\n    file.read()",
        "import capnp\nschema = capnp.load('x')\nwith open('y') as file:\n    file.read()",
        "import capnp\nschema.Hello.from_bytes(data)",
        "name, read = decoder\nreturn_value = read(reader)",
        "import os\nos.read(0, 10)",
    ],
)
def test_the_lint_lets_other_reads_alone(source: str) -> None:
    assert not forbidden_in(source)
