"""Expressions on columns, as in Python: `score < 0.05 and status == 'ok'` -> an Arrow compute expression.

The text is parsed by `ast` and only what stands here is understood; nothing is ever evaluated as Python. Logic has
three values: a comparison with null is null, `not null` is null, and a row is kept only where the whole is true. Ask
for null by `is None`. Arithmetic is done in float64, so that `n_flagged / n_words` is no division of whole numbers;
dividing by 0 gives inf or nan, which fail every comparison that they should.
"""

import ast
import difflib
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from rtdscan.transforms.columns import describe, find_column, is_string_like
from rtdscan.transforms.errors import UserError

MOST_NODES = 2_000
"""Arrow goes through an expression by recursion."""

_WHOLE = pa.decimal128(38, 0)
"""Holds int64 and uint64 alike."""

Kind = Literal["number", "text", "truth", "time", "null", "other"]

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
}


@dataclass(frozen=True, slots=True)
class Term:
    """A part of an expression.

    Attributes:
        value: The Arrow expression.
        kind: Of its values.
        type: Its Arrow type where that matters (times, whole numbers); None otherwise.
        constant: The Python value of a constant; None otherwise.
    """

    value: Any
    kind: Kind
    type: pa.DataType | None = None
    constant: Any = None

    @property
    def whole(self) -> bool:
        """Whether it is a whole number as it stands, of a column or written so."""
        is_column = self.type is not None and pa.types.is_integer(self.type)
        return self.kind == "number" and (is_column or isinstance(self.constant, int))


def compile_expression(text: str, schema: pa.Schema, *, name: str = "keep") -> Any:
    """Parse an expression.

    Args:
        text: Comparisons (`<`, `<=`, `==`, `!=`, `>=`, `>`, also chained), `in` and `not in` a list, `is None`,
            `is not None`, `and`, `or`, `not`, `+ - * /`, numbers, texts, True, False, names of columns (`a.b` inside
            structs, `col("any name")`).
        schema: Of the table that it is for.
        name: Of the option, for messages.

    Returns:
        A boolean `pyarrow.compute.Expression`; null where it can't be told.

    Raises:
        UserError: One line that says what is wrong; for an unknown column with those that there are.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
            raise UserError(f"{name}: the expression is too long; expected at most {MOST_NODES:,} parts")
        found = _Compiler(text, schema, name).term(tree.body)
    except SyntaxError as error:
        at = f" at character {error.offset}" if error.offset else ""
        raise UserError(
            f"{name}: {text[:80]!r} is no expression: {error.msg}{at}; expected e.g. score < 0.05 and status == 'ok'"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; brackets without end
        raise UserError(f"{name}: {text[:80]!r} is no expression: {error}") from error
    if found.kind != "truth":
        raise UserError(f"{name}: {text[:80]!r} is {_said(found.kind)}, not true or false; compare it with something")
    return found.value


def mask_of(expression: Any, table: pa.Table, *, text: str = "", name: str = "keep") -> pa.BooleanArray:
    """Which rows an expression is true for; false where it is null.

    Args:
        expression: From `compile_expression`.
        table: N rows.
        text, name: The expression as it was written and of which option, for messages.

    Returns:
        N booleans without nulls.

    Raises:
        UserError: Arrow can't compute it of these rows.
    """
    try:
        found = ds.dataset(table).scanner(columns={"is": expression}, use_threads=False).to_table()["is"]
    except pa.ArrowException as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(f"{name}: {(text or str(expression))[:80]!r} can't be told of these rows: {told}") from error
    return pc.fill_null(found, False).combine_chunks()


@dataclass(frozen=True, slots=True)
class _Compiler:
    text: str
    schema: pa.Schema
    name: str

    def term(self, node: ast.expr) -> Term:
        """The term of a node."""
        if isinstance(node, ast.Constant):
            return self._constant(node.value, node)
        if isinstance(node, ast.Name | ast.Attribute | ast.Call):
            return self._column(node)
        if isinstance(node, ast.BoolOp):
            return self._logic(node)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node)
        if isinstance(node, ast.Compare):
            return self._compare(node)
        self.refuse(node, "is not understood; there are comparisons, in, is None, and, or, not, + - * /")

    def refuse(self, node: ast.expr, wrong: str) -> NoReturn:
        part = ast.get_source_segment(self.text.strip(), node) or ast.unparse(node)
        raise UserError(f"{self.name}: {part[:80]!r} {wrong}")

    def _constant(self, value: Any, node: ast.expr) -> Term:
        if value is None:
            return Term(pc.scalar(pa.scalar(None)), "null")
        if isinstance(value, bool):
            return Term(pc.scalar(value), "truth", constant=value)
        if isinstance(value, int | float):
            small = isinstance(value, float) or _fits(value)
            return Term(pc.scalar(value if small else _float(value)), "number", constant=value)
        if isinstance(value, str):
            return Term(pc.scalar(pa.scalar(value, pa.string())), "text", constant=value)
        self.refuse(node, "is not understood; there are numbers, texts, True, False and None")

    def _column(self, node: ast.expr) -> Term:
        name = self._name(node)
        column = find_column(self.schema, name)
        if column is None:
            several = list(self.schema.names).count(name) > 1
            wrong = f"several columns called '{name}'" if several else f"no attribute column '{name}'"
            close = difflib.get_close_matches(name, self.schema.names, n=1)
            advice = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"{self.name}: there is {wrong}{advice}; the columns: {describe(self.schema)}")
        value = pc.field(*column.path) if len(column.path) > 1 else pc.field(column.path[0])
        return _column_term(value, column.type)

    def _name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            return f"{self._name(node.value)}.{node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "col":
            given = node.args[0] if len(node.args) == 1 and not node.keywords else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                return given.value
            self.refuse(node, "is not understood; expected the name of a column, as in col('lang-id')")
        self.refuse(node, "is not understood: there are no functions but col('name')")

    def _logic(self, node: ast.BoolOp) -> Term:
        terms = [self._truth(value) for value in node.values]
        joined = terms[0]
        for term in terms[1:]:  # & and | are Kleene's: null and false is false
            joined = joined & term if isinstance(node.op, ast.And) else joined | term
        return Term(joined, "truth")

    def _truth(self, node: ast.expr) -> Any:
        term = self.term(node)
        if term.kind != "truth":
            self.refuse(node, f"is {_said(term.kind)}, not true or false; compare it with something")
        return term.value

    def _unary(self, node: ast.UnaryOp) -> Term:
        if isinstance(node.op, ast.Not):
            return Term(~self._truth(node.operand), "truth")
        if isinstance(node.op, ast.Invert):
            self.refuse(node, "is not understood; write not")
        number = self._number(node.operand)
        if isinstance(node.op, ast.UAdd):
            return number
        if number.constant is not None:
            return self._constant(-number.constant, node)
        return Term(pc.negate(_floating(number)), "number")

    def _number(self, node: ast.expr) -> Term:
        term = self.term(node)
        if term.kind != "number":
            self.refuse(node, f"is {_said(term.kind)}, not a number")
        return term

    def _arithmetic(self, node: ast.BinOp) -> Term:
        function = _ARITHMETIC.get(type(node.op))
        if function is None:
            advice = "; write and, or" if isinstance(node.op, ast.BitAnd | ast.BitOr) else "; there are + - * /"
            self.refuse(node, f"is not understood{advice}")
        left, right = (_floating(self._number(side)) for side in (node.left, node.right))
        return Term(function(left, right), "number")

    def _compare(self, node: ast.Compare) -> Term:
        joined: Any = None
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            one = self._pair(node, left, op, right)
            joined = one if joined is None else joined & one
            left = right
        return Term(joined, "truth")

    def _pair(self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self.refuse(node, "is not understood; `is` goes with None only")
            null = self.term(left).value.is_null()
            return ~null if isinstance(op, ast.IsNot) else null
        if isinstance(op, ast.In | ast.NotIn):
            return self._member(self.term(left), right, negated=isinstance(op, ast.NotIn))
        one, other = self._alike(node, self.term(left), self.term(right))
        if one.kind == "truth" and not isinstance(op, ast.Eq | ast.NotEq):
            self.refuse(node, "orders true and false; expected == or !=")
        return _COMPARISONS[type(op)](one.value, other.value)

    def _member(self, term: Term, right: ast.expr, *, negated: bool) -> Any:
        if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
            self.refuse(right, "is no list; expected e.g. in ['ok', 'truncated']")
        found: Any = None
        for element in right.elts:
            if isinstance(element, ast.Constant) and element.value is None:
                self.refuse(right, "holds None; ask for null by `is None`")
            one, other = self._alike(element, term, self.term(element))
            equal = one.value == other.value
            found = equal if found is None else found | equal
        return ~found if negated else found

    def _alike(self, node: ast.expr, one: Term, other: Term) -> tuple[Term, Term]:
        """The two sides of a comparison, a text beside a time read as one."""
        if "null" in (one.kind, other.kind):
            self.refuse(node, "compares with None, which is never true; write `is None` or `is not None`")
        if one.kind == "time" and isinstance(other.constant, str):
            return one, self._time(node, other, one.type)
        if other.kind == "time" and isinstance(one.constant, str):
            return self._time(node, one, other.type), other
        for term in (one, other):
            if term.kind == "other":
                self.refuse(node, f"can't be compared: it is {term.type}")
        if one.kind != other.kind:
            self.refuse(node, f"compares {_said(one.kind)} with {_said(other.kind)}")
        return _like_numbers(one, other) if one.kind == "number" else (one, other)

    def _time(self, node: ast.expr, term: Term, type_: Any) -> Term:
        try:
            wall = pa.timestamp(type_.unit) if pa.types.is_timestamp(type_) and type_.tz else type_
            scalar = pa.scalar(term.constant, pa.string()).cast(wall)
            if wall != type_:
                scalar = pc.assume_timezone(scalar, type_.tz)
        except (pa.ArrowException, ValueError) as error:
            self.refuse(node, f"compares a {type_} with the text {term.constant!r}, which is none ({error})")
        return Term(pc.scalar(scalar), "time", type_)


def _like_numbers(one: Term, other: Term) -> tuple[Term, Term]:
    """Two numbers in a type that both have and in which Arrow compares them: left to itself it casts whole numbers to
    a type in which some have no place, and fails. Whole numbers are compared exactly."""
    if not (one.whole and other.whole):
        return Term(_floating(one), "number"), Term(_floating(other), "number")
    if any(
        term.type == pa.uint64() or (term.constant is not None and not _fits(term.constant)) for term in (one, other)
    ):
        return Term(_decimal(one), "number"), Term(_decimal(other), "number")
    return one, other


def _floating(term: Term) -> Any:
    """A number as float64, whole ones rounded where they have more than 53 bits."""
    if term.constant is not None:
        return pc.scalar(_float(term.constant))
    return term.value.cast(options=pc.CastOptions.unsafe(pa.float64()))


def _decimal(term: Term) -> Any:
    """A whole number exactly; constants beyond all columns stay beyond them."""
    if term.constant is None:
        return term.value.cast(_WHOLE)
    return pc.scalar(pa.scalar(Decimal(min(max(term.constant, -(10**30)), 10**30)), _WHOLE))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _fits(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _column_term(value: Any, type_: pa.DataType) -> Term:
    if pa.types.is_dictionary(type_):
        return _column_term(value.cast(type_.value_type), type_.value_type)
    if pa.types.is_integer(type_):
        return Term(value, "number", type_)
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):  # Arrow compares neither float16 nor decimals
        return Term(value.cast(pa.float64()), "number")
    if is_string_like(type_):
        return Term(value.cast(pa.string()), "text")
    if pa.types.is_boolean(type_):
        return Term(value, "truth")
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return Term(value, "time", type_)
    return Term(value, "other", type_)


def _said(kind: Kind) -> str:
    return {"number": "a number", "text": "a text", "truth": "true or false", "time": "a time", "null": "None"}.get(
        kind, "a value of a type that can't be compared"
    )
