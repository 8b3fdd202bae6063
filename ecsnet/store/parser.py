"""Reading the language of queries. The grammar is in `ecsnet.store.statement`.

Invariants: it looks no name up; whatever the text, it ends in a statement or in a `QueryError` with a place in the
text; nesting is bounded, so that no text exhausts the stack.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from ecsnet.errors import QueryError, did_you_mean
from ecsnet.expressions import DEPTH_MAX, KEYWORDS, Aggregate, Column, Condition
from ecsnet.store.statement import Cut, Item, Join, Place, Statement, Word

__all__ = ["parse"]

_TOKENS: Final = re.compile(
    r"""\s*(?:
    (?P<bytes>[xX]"(?:[^"\n]*)"|[xX]'(?:[^'\n]*)')
  | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)(?![A-Za-z_0-9])
      |[+-](?:inf|nan)\b)
  | (?P<quoted>(?:`[^`\n]+`)(?:\.`?[A-Za-z_0-9.]+`?)?)
  | (?P<word>[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9]*)*)
  | (?P<sign><=|>=|==|!=|<>|<|>|=|\(|\)|,|\*)
    )""",
    re.VERBOSE,
)
_OPERATORS: Final = {"<": "<", "<=": "<=", "==": "==", "=": "==", "!=": "!=", "<>": "!=", ">": ">", ">=": ">="}
_FUNCTIONS: Final = ("count", "sum", "min", "max", "mean")
_VALUES: Final[dict[str, bool | float | None]] = {
    "null": None,
    "true": True,
    "false": False,
    "inf": float("inf"),
    "nan": float("nan"),
}
_CLAUSES: Final = ("where", "near", "within", "nearest", "order by", "limit", "offset", "group by", "select")


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is a group of `_TOKENS`, or "end"; `text` is as written, a word of the language in lower case."""

    kind: str
    text: str
    position: int

    @property
    def keyword(self) -> str:
        """The word of the language that this is, or ""."""
        lowered = self.text.lower()
        return lowered if self.kind == "word" and lowered in KEYWORDS else ""


def parse(text: str) -> Statement:
    """Read a query.

    Raises:
        QueryError: it is none; with the place in the text, and what would have been right there.
    """
    if not isinstance(text, str):
        raise QueryError(
            repr(text),
            0,
            f"expected the text of a query, found {type(text).__name__}; view.query(...) and tx.query(...) take tables",
        )
    return _Parser(text).statement()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = 0
        self._depth = 0
        self._where: list[tuple[int, Condition]] = []

    def _split(self, text: str) -> list[Token]:
        tokens = []
        position = 0
        end = len(text.rstrip())
        while position < end:
            match = _TOKENS.match(text, position)
            if match is None or match.lastgroup is None:
                begin = position + len(text[position:]) - len(text[position:].lstrip())
                found = text[begin]
                unended = (
                    "the text that begins here does not end" if found in "\"'`" else f"{found!r} is no part of a query"
                )
                raise QueryError(text, begin, unended)
            begin = match.start(match.lastgroup)
            tokens.append(Token(match.lastgroup, match.group(match.lastgroup), begin))
            position = match.end()
        tokens.append(Token("end", "", end))
        return tokens

    # --- tokens ------------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _accept(self, *words: str) -> bool:
        """Take these words of the language, or signs, if all of them come next."""
        tokens = self._tokens[self._at : self._at + len(words)]
        if [token.keyword or (token.text if token.kind == "sign" else "") for token in tokens] != list(words):
            return False
        self._at += len(words)
        return True

    def _demand(self, *words: str) -> None:
        if not self._accept(*words):
            self._refuse(f"expected {' '.join(words)!r}")

    def _refuse(self, expected: str, token: Token | None = None) -> NoReturn:
        token = token or self._next
        found = "the end" if token.kind == "end" else repr(token.text)
        raise QueryError(self._text, token.position, f"{expected}, found {found}")

    # --- clauses -----------------------------------------------------------------------------------------------------

    def statement(self) -> Statement:
        if self._next.keyword == "select":
            # The order of SQL.
            self._refuse("a query begins with from, and select comes last: expected 'from'")
        self._demand("from")
        tables = [self._table()]
        while self._accept(","):
            tables.append(self._table())
        without = self._names() if self._accept("without") else ()
        joins = []
        while self._next.keyword in ("join", "left"):
            joins.append(self._join())
        condition = self._either() if self._accept("where") else None
        places = []
        while self._next.kind == "word" and self._next.text.lower() in ("near", "within", "nearest"):
            places.append(self._place())
        cut = self._cut()
        group = self._names() if self._accept("group", "by") else ()
        items: tuple[Item, ...] = ()
        then = Cut()
        selected = self._accept("select")
        if selected:
            items = self._items()
            then = self._cut()
        elif group:
            then = self._cut()
        if self._next.kind != "end":
            self._refuse_rest()
        return Statement(
            tuple(tables),
            without,
            tuple(joins),
            condition,
            cut,
            group,
            items,
            then,
            tuple(places),
            self._text,
            tuple(self._where),
        )

    def _refuse_rest(self) -> NoReturn:
        token = self._next
        if token.keyword in ("where", "group", "select", "without", "join", "left", "from", "order", "limit", "offset"):
            self._refuse(f"clauses stand in the order from, without, join, {', '.join(_CLAUSES)}")
        meant = did_you_mean(token.text, [clause.split()[0] for clause in _CLAUSES])
        self._refuse(f"expected {meant!r} or the end" if meant else "expected a clause or the end")

    def _table(self) -> tuple[Word, bool]:
        optional = self._accept("maybe")
        return self._name("a table"), optional

    def _join(self) -> Join:
        left = self._accept("left")
        self._demand("join")
        table = self._name("a table")
        name = self._name("a name for the table").text if self._accept("as") else None
        on = self._name("a reference such as item.holder") if self._accept("on") else None
        return Join(table, name, on, left)

    def _place(self) -> Place:
        position = self._next.position
        verb = self._take().text.lower()
        if verb == "near":
            point = self._point()
            self._demand_word("radius")
            return Place("near", point, self._value(), self._place_of(), position)
        if verb == "within":
            point = self._point()
            self._demand_word("to")
            return Place("within", point, self._point(), self._place_of(), position)
        count = self._count()
        self._demand_word("to")
        return Place("nearest", self._point(), count, self._place_of(), position)

    def _point(self) -> tuple[object, ...]:
        self._demand("(")
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        self._demand(")")
        return tuple(values)

    def _place_of(self) -> Word | None:
        if self._next.kind != "word" or self._next.text.lower() != "of":
            return None
        self._take()
        return self._name("a table")

    def _demand_word(self, word: str) -> None:
        """A word of the language that may be a name elsewhere."""
        if self._next.kind != "word" or self._next.text.lower() != word:
            self._refuse(f"expected {word!r}")
        self._take()

    def _names(self) -> tuple[Word, ...]:
        names = [self._name("a name")]
        while self._accept(","):
            names.append(self._name("a name"))
        return tuple(names)

    def _name(self, expected: str) -> Word:
        token = self._next
        if token.kind == "quoted":
            self._take()
            return Word(token.text.replace("`", ""), token.position)
        if token.kind != "word" or token.keyword:
            tail = f" (a name that is a word of the language stands in backticks: `{token.text}`)"
            self._refuse(f"expected {expected}{tail if token.keyword else ''}")
        self._take()
        return Word(token.text, token.position)

    def _cut(self) -> Cut:
        orders: list[tuple[Word, bool]] = []
        if self._accept("order", "by"):
            orders.append(self._order())
            while self._accept(","):
                orders.append(self._order())
        limit = None
        if self._accept("limit") and not self._accept("all"):
            limit = self._count()
        offset = self._count() if self._accept("offset") else 0
        return Cut(tuple(orders), limit, offset)

    def _order(self) -> tuple[Word, bool]:
        word = self._item_name() if self._is_function() else self._name("a column to sort by")
        if self._accept("desc"):
            return word, True
        self._accept("asc")
        return word, False

    def _count(self) -> int:
        token = self._next
        if token.kind != "number" or not token.text.isdigit():
            self._refuse("expected a number of rows")
        self._take()
        return int(token.text)

    # --- items -------------------------------------------------------------------------------------------------------

    def _items(self) -> tuple[Item, ...]:
        if self._accept("*"):
            return ()
        items = [self._item()]
        while self._accept(","):
            items.append(self._item())
        return tuple(items)

    def _item(self) -> Item:
        position = self._next.position
        what = self._function() if self._is_function() else self._name("a column, a function of one, or *")
        name = self._name("a name for the column").text if self._accept("as") else None
        return Item(what, name, position)

    def _is_function(self) -> bool:
        return self._next.kind == "word" and self._tokens[self._at + 1].text == "("

    def _function(self) -> Aggregate:
        token = self._take()
        function = token.text.lower()
        if function not in _FUNCTIONS:
            meant = did_you_mean(function, _FUNCTIONS)
            hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(_FUNCTIONS)}"
            raise QueryError(self._text, token.position, f"no function named {token.text!r}; {hint}")
        self._demand("(")
        if function == "count":
            self._accept("*")
            self._demand(")")
            return Aggregate(function)
        path = self._name("a column")
        self._demand(")")
        return Aggregate(function, path.text)

    def _item_name(self) -> Word:
        position = self._next.position
        return Word(self._function().text(), position)

    # --- conditions --------------------------------------------------------------------------------------------------

    def _either(self) -> Condition:
        condition = self._both()
        while self._accept("or"):
            condition = condition | self._both()
        return condition

    def _both(self) -> Condition:
        condition = self._negation()
        while self._accept("and"):
            condition = condition & self._negation()
        return condition

    def _negation(self) -> Condition:
        opening = self._next
        if self._accept("not"):
            self._deeper(opening)
            condition = ~self._negation()
        elif self._accept("("):
            self._deeper(opening)
            condition = self._either()
            if not self._accept(")"):
                self._refuse("expected ')'")
        else:
            return self._comparison()
        self._depth -= 1
        return condition

    def _deeper(self, token: Token) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise QueryError(self._text, token.position, f"nested deeper than {DEPTH_MAX}")

    def _comparison(self) -> Condition:
        word = self._name("a column")
        column = Column(word.text)
        at = len(self._where)
        condition = self._of(column)
        # Where an error in it is shown: at the column, since a name is what is most often wrong.
        self._where[at:] = [(word.position, condition)]
        return condition

    def _of(self, column: Column) -> Condition:
        token = self._next
        if token.kind == "sign" and token.text in _OPERATORS:
            self._take()
            return _compare(column, _OPERATORS[token.text], self._operand())
        if self._accept("startswith"):
            operand = self._next
            value = self._value()
            if not isinstance(value, str | bytes):
                self._refuse("expected a text", operand)
            return column.startswith(value)
        if self._accept("between"):
            low = self._value()
            self._demand("and")
            return column.between(low, self._value())
        if self._accept("is", "not", "null"):
            return column != None  # noqa: E711
        if self._accept("is", "null"):
            return column == None  # noqa: E711
        if self._accept("not", "in"):
            return ~self._membership(column)
        if self._accept("in"):
            return self._membership(column)
        self._refuse(f"expected a comparison such as {column.path} < 20")

    def _membership(self, column: Column) -> Condition:
        self._demand("(")
        values = []
        if not self._accept(")"):
            values.append(self._value())
            while self._accept(","):
                values.append(self._value())
            self._demand(")")
        return column.is_in(values)

    def _operand(self) -> object:
        token = self._next
        if token.kind == "quoted" or (token.kind == "word" and not token.keyword):
            return Column(self._name("a column").text)
        return self._value()

    def _value(self) -> object:
        token = self._next
        try:
            value = _value_of(token)
        except ValueError as error:
            raise QueryError(self._text, token.position, f"{token.text} is no value: {error}") from None
        if value is NotImplemented:
            quoted = f'; a text stands in quotes: "{token.text}"' if token.kind == "word" and not token.keyword else ""
            self._refuse(f"expected a value{quoted}")
        self._take()
        return value


def _value_of(token: Token) -> object:
    """The value that a token is, or NotImplemented."""
    text = token.text
    match token.kind:
        case "bytes":
            return bytes.fromhex(text[2:-1])
        case "text":
            return json.loads(f'"{_double_quoted(text[1:-1])}"') if text[0] == "'" else json.loads(text)
        case "number":
            if "x" in text.lower():
                return int(text, 16)
            return float(text) if any(sign in text.lower() for sign in ".ein") else int(text)
        case "word" if token.keyword in _VALUES:
            return _VALUES[token.keyword]
    return NotImplemented


def _double_quoted(inner: str) -> str:
    """What stood between single quotes, as it stands between double ones."""
    return re.sub(r"\\(.)|\"", lambda match: {"'": "'", None: '\\"'}.get(match.group(1), match.group(0)), inner)


def _compare(column: Column, operator: str, value: object) -> Condition:
    match operator:
        case "<":
            return column < value
        case "<=":
            return column <= value
        case "==":
            return column == value
        case "!=":
            return column != value
        case ">":
            return column > value
        case _:
            return column >= value
