"""Expressions on columns: the same as a three-valued Python; nothing is evaluated; errors are one line."""

import datetime
import decimal
import operator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.cleaning.expressions import compile_expression, mask_of
from rtdscan.transforms.errors import UserError

NUMBERS = (None, 0.0, 0.25, 0.5, 1.0, -2.0)
TEXTS = (None, "ok", "empty", "")
TRUTHS = (None, True, False)
ROWS = [
    {"score": score, "n": None if score is None else int(score * 4), "status": status, "good": good}
    for score in NUMBERS
    for status in TEXTS
    for good in TRUTHS
]
TABLE = pa.Table.from_pylist(
    ROWS,
    schema=pa.schema(
        {"score": pa.float32(), "n": pa.int32(), "status": pa.dictionary(pa.int8(), pa.string()), "good": pa.bool_()}
    ),
)
COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


def kept(text: str, table: pa.Table = TABLE) -> list[bool]:
    return mask_of(compile_expression(text, table.schema), table).to_pylist()


# Expressions as text, beside a function that does the same in Python; None is null.

Pair = tuple[str, Any]


def numbers(depth: int) -> st.SearchStrategy[Pair]:
    names = st.sampled_from(["score", "n"]).map(lambda name: (name, lambda row: row[name]))
    values = st.sampled_from([0, 1, 0.25, -3, 2.5]).map(lambda value: (f"({value})", lambda row: value))
    leaf = names | values
    if not depth:
        return leaf
    inner = numbers(depth - 1)
    ops = st.sampled_from([("+", operator.add), ("-", operator.sub), ("*", operator.mul)])
    negated = inner.map(lambda one: (f"(-{one[0]})", lambda row: None if one[1](row) is None else -one[1](row)))
    return leaf | st.tuples(inner, ops, inner).map(_two) | negated


def _two(parts: Any) -> Pair:
    left, (sign, function), right = parts

    def value(row: Any) -> Any:
        one, other = left[1](row), right[1](row)
        return None if one is None or other is None else function(one, other)

    return f"({left[0]} {sign} {right[0]})", value


def truths(depth: int) -> st.SearchStrategy[Pair]:
    compared = st.tuples(numbers(1), st.sampled_from(list(COMPARE.items())), numbers(1)).map(_two)
    status = st.sampled_from(
        [
            ("status == 'ok'", lambda row: None if row["status"] is None else row["status"] == "ok"),
            ("'ok' != status", lambda row: None if row["status"] is None else row["status"] != "ok"),
            ("status in ('ok', '')", lambda row: None if row["status"] is None else row["status"] in ("ok", "")),
            ("status not in ['ok']", lambda row: None if row["status"] is None else row["status"] != "ok"),
            ("status is None", lambda row: row["status"] is None),
            ("score is not None", lambda row: row["score"] is not None),
            ("good", lambda row: row["good"]),
            ("True", lambda row: True),
        ]
    )
    leaf = compared | status
    if not depth:
        return leaf
    inner = truths(depth - 1)
    negated = inner.map(lambda one: (f"(not {one[0]})", lambda row: None if one[1](row) is None else not one[1](row)))
    return leaf | negated | st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(_joined)


def _joined(parts: Any) -> Pair:
    left, word, right = parts
    strong = word == "or"  # the value that decides alone

    def value(row: Any) -> Any:
        both = (left[1](row), right[1](row))
        return strong if strong in both else None if None in both else not strong

    return f"({left[0]} {word} {right[0]})", value


@given(truths(3))
def test_an_expression_is_what_a_three_valued_python_says(pair: Pair) -> None:
    text, value = pair
    assert kept(text) == [value(row) is True for row in ROWS], text


def test_the_table_of_that_test_is_not_trivial() -> None:
    assert len(ROWS) == 72
    assert 0 < sum(kept("score < 0.3 and status == 'ok'")) < sum(kept("score < 0.3")) < 72


def test_null_never_keeps_unless_asked_for() -> None:
    rows = sum(row["score"] is None for row in ROWS)
    assert sum(kept("score < 0.5")) + sum(kept("not score < 0.5")) == 72 - rows
    assert sum(kept("score is None or score < 99")) == 72


def test_chains_quotients_and_names_that_are_no_identifiers() -> None:
    table = pa.table({"a": pa.array([1, 2, 0], pa.int32()), "lang-id": ["de", "en", None]})
    assert kept("0 < a <= 1", table) == [True, False, False]
    assert kept("1 / a == 0.5", table) == [False, True, False]  # not a division of whole numbers, and 1 / 0 is inf
    assert kept("0 / a == 0", table) == [True, True, False]  # 0 / 0 is nan
    assert kept("2147483647 * a > 2147483648", table) == [False, True, False]  # would not fit int32
    assert kept("col('lang-id') == 'de'", table) == [True, False, False]


def test_types_that_scans_carry_along() -> None:
    when = datetime.datetime(2020, 6, 1, 12, tzinfo=datetime.timezone.utc)
    table = pa.table(
        {
            "half": pa.array([0.5, None], pa.float16()),
            "money": pa.array([decimal.Decimal("0.10"), decimal.Decimal("9.00")], pa.decimal128(9, 2)),
            "view": pa.array(["a", None], pa.string_view()),
            "large": pa.array(["a", "b"], pa.large_string()),
            "at": pa.array([when, None], pa.timestamp("us", "Europe/Berlin")),
            "day": pa.array([when.date()] * 2),
            "doc": pa.array([{"meta": {"lang": "en"}}, {"meta": None}]),
        }
    )
    for text in (
        "half < 1", "money == 0.1", "view == 'a' and large == 'a'", "doc.meta.lang == 'en'",
        "at > '2020-06-01 13:59:59' and at <= '2020-06-01 14:00:00'",  # wall time of the column's zone
    ):  # fmt: skip
        assert kept(text, table) == [True, False], text
    assert kept("day == '2020-06-01'", table) == [True, True]


# Beyond 2**24 float32 and beyond 2**53 float64 has no place for every whole number.
LARGE = pa.table(
    {
        "small": pa.array([5, 20_000_001, None], pa.int32()),
        "views": pa.array([-1, 2**53 + 1, 2**63 - 1], pa.int64()),
        "u": pa.array([1, 2**63 + 5, 2**64 - 1], pa.uint64()),
        "of": pa.array([1, 2**63 + 5, 2**64 - 1], pa.uint64()).dictionary_encode(),
        "score": pa.array([0.5, 1e8, None], pa.float32()),
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "small > 1e6": [False, True, False], "small in [5, 1e6]": [True, False, False],
        "views > 0.5": [False, True, True],
        "views * 2 > 5": [False, True, True], "-views < 0": [False, True, True], "views > score": [False, True, False],
        "u != 1": [False, True, True], "u > -1": [True, True, True], "u < -1": [False] * 3, "of == u": [True] * 3,
        "u == 9223372036854775813": [False, True, False], "u == 9223372036854775814": [False] * 3,
        "u in [1, 18446744073709551615]": [True, False, True], "u > views": [True, True, True],
        "u <= 18446744073709551614": [True, True, False], "u > 0.5": [True, True, True],
        "u / 2 > 1": [False, True, True],
        "views == 9007199254740993": [False, True, False], "views < 9223372036854775808": [True] * 3,
        f"views < 1{'0' * 400}": [True] * 3, f"views < -1{'0' * 400}": [False] * 3,
        f"score < 1{'0' * 400}": [True, True, False],
        "score < 9007199254740993": [True, True, False], "9223372036854775808 > 1": [True] * 3,
    }.items(),
)  # fmt: skip
def test_ordinary_whole_numbers_crashed(text: str, expected: list[bool]) -> None:
    assert kept(text, LARGE) == expected


def test_what_arrow_cannot_compute_is_told_in_one_line() -> None:
    table = pa.table({"text": pa.array([b"\xff"]).cast(pa.string(), safe=False)})
    wrong = pc.field("text").cast(pa.int64()) > 1
    with pytest.raises(UserError, match=r"^keep: 'text > 1' can't be told of these rows: [^\n]+$"):
        mask_of(wrong, table, text="text > 1")


WRONG = {
    "scoer < 1": "no attribute column 'scoer'; did you mean score?; the columns: score (float), n (int32)",
    "score.x < 1": "no attribute column 'score.x'",
    "score": "is a number, not true or false",
    "score and good": "is a number, not true or false",
    "score <": "is no expression: invalid syntax",
    "": "is no expression",
    "score < 'a'": "compares a number with a text",
    "status + 'a' == 'b'": "'status' is a text, not a number",
    "score == None": "write `is None`",
    "status in ['ok', None]": "ask for null by `is None`",
    "status in 'ok'": "is no list",
    "status in []": "is no list",
    "score is 1": "`is` goes with None only",
    "score < 1 & n > 1": "write and, or",
    "n % 2 == 1": "there are + - * /",
    "~good": "write not",
    "good < good": "expected == or !=",
    "__import__('os').system('true')": "no functions but col('name')",
    "().__class__": "is not understood",
    "[x for x in (1,)]": "is not understood",
    "(lambda: True)()": "no functions",
    "f'{n}' == '1'": "is not understood",
    "good if good else good": "is not understood",
    "(good := True)": "is not understood",
    "b'a' == status": "there are numbers, texts",
    "a\0b": "is no expression",
    " and ".join(["good"] * 3000): "too long",
    "(" * 900 + "good" + ")" * 900: "is no expression",
    "not " * 3000 + "good": "keep: ",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:30])
def test_what_is_wrong_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as told:
        compile_expression(text, TABLE.schema)
    message = str(told.value)
    assert message.startswith("keep: ")
    assert WRONG[text] in message
    assert "\n" not in message
    assert len(message) < 500


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_a_user_error(text: str) -> None:
    try:
        compile_expression(text, TABLE.schema)
    except UserError:
        return
    assert len(kept(text)) == len(ROWS)
