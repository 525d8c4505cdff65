"""clean_table: every row once, types as they were, texts edited by their spans, duplicates by made-up vectors."""

import datetime
import decimal
import io
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_suggest import WORDS

from rtdscan.transforms.cleaning import duplicates
from rtdscan.transforms.cleaning.duplicates import (
    CENTER_FROM,
    HASHES,
    ROUNDING,
    centered,
    equal_rows,
    similar_rows,
    sketches,
    text_digests,
)
from rtdscan.transforms.cleaning.rows import REASON, clean_table, reason_kind
from rtdscan.transforms.cleaning.settings import CleanSettings
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.records import SPAN
from rtdscan.transforms.settings import SuggestSettings
from rtdscan.transforms.suggest import Suggester

Span = tuple[int, int, float, list[str]]
"""Start, end, score, suggestions; the first of these has a probability of .9, the others less."""


def attributes(
    n: int,
    *,
    decisions: list[str] | None = None,
    scores: list[float | None] | None = None,
    spans: list[list[Span] | None] | None = None,
    vectors: list[list[float] | None] | None = None,
    first: int = 100,
) -> pa.Table:
    """Attributes of n rows, from row 100 of their file."""
    names = ("start", "end", "score", "suggestions", "probabilities")
    sure = [0.9, 0.04, 0.03]
    told = [
        None if one is None else [dict(zip(names, (*span, sure[: len(span[3])]), strict=True)) for span in one]
        for one in spans or [[]] * n
    ]
    columns: dict[str, Any] = {
        "row": pa.array(range(first, first + n), pa.int64()),
        "status": ["ok"] * n,
        "score": pa.array(scores or [0.1] * n, pa.float32()),
        "spans": pa.array(told, pa.list_(SPAN)),
        "decision": pa.array(decisions or ["keep"] * n, pa.string()),
    }
    if vectors is not None:
        dims = len(next(vector for vector in vectors if vector is not None))
        flat = np.array([vector or [np.nan] * dims for vector in vectors], np.float16)
        values = pa.array(flat.ravel(), mask=np.isnan(flat).ravel())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, dims)
    return pa.table(columns)


def texts(*values: str | None) -> pa.Table:
    return pa.table({"n": range(len(values)), "text": pa.array(values, pa.string())})


def test_rows_that_have_one_number_are_told_apart() -> None:
    """Of batches put together, as of several files, row numbers repeat: both copies stayed, and another text went."""
    table = texts("the same", "the same", "a second", "a third")
    scored = pa.concat_tables([attributes(2), attributes(2)])
    found = clean_table(table, scored, settings(duplicates={"exact": True}))
    assert found.kept["text"].to_pylist() == ["the same", "a second", "a third"]
    assert found.rejected["text"].to_pylist() == ["the same"]
    vectors = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]]
    scored = pa.concat_tables([attributes(2, vectors=vectors[:2]), attributes(2, vectors=vectors[2:])])
    near = {"near": 0.99, "overlap": 0.0, "center": False}
    assert clean_table(table, scored, settings(duplicates=near)).rejected["text"].to_pylist() == ["a third"]


def test_attributes_of_other_texts_are_refused() -> None:
    """With two rows swapped, "Fine text." became "Fi[MASK][MASK]"."""
    scored = attributes(3).append_column("n_chars", pa.array([4, 2, None], pa.int32()))
    assert clean_table(texts("four", "zw", None), scored, settings()).kept.num_rows == 3
    with pytest.raises(RtdscanError, match=r"position 0 has 2 characters, .* had 4: .* in order"):
        clean_table(texts("zw", "four", None), scored, settings())
    with pytest.raises(RtdscanError, match="position 1 has 0 characters"):
        clean_table(texts("four", None, None), scored, settings())
    binary = pa.table({"text": pa.array([b"four", b"\xff", None], pa.binary())})
    with pytest.raises(RtdscanError, match="position 1 has 1 characters"):
        clean_table(binary, scored, settings(), text="text")


def settings(**options: Any) -> CleanSettings:
    return CleanSettings.model_validate(options)


# Selection

rows = st.lists(st.tuples(st.sampled_from(["keep", "review", "drop"]), st.none() | st.floats(0, 1, width=32)))


@given(rows, st.sampled_from([("keep",), ("keep", "review"), (), "score < 0.5", "score is None", "decision == 'keep'"]))
def test_every_row_is_kept_or_rejected_once_and_in_order(rows: list[Any], keep: Any) -> None:
    table = texts(*(f"text {at}" for at in range(len(rows))))
    found = clean_table(
        table,
        attributes(len(rows), decisions=[row[0] for row in rows], scores=[row[1] for row in rows]),
        settings(keep=keep),
    )
    expected = {
        "score < 0.5": [score is not None and score < 0.5 for _, score in rows],
        "score is None": [score is None for _, score in rows],
        "decision == 'keep'": [decision == "keep" for decision, _ in rows],
    }.get(keep, [decision in keep for decision, _ in rows])
    assert found.kept["n"].to_pylist() == [at for at, keeps in enumerate(expected) if keeps]
    assert found.rejected["n"].to_pylist() == [at for at, keeps in enumerate(expected) if not keeps]
    assert found.kept.schema == table.schema
    assert all(found.rejected[REASON].to_pylist())
    assert found.changes.num_rows == 0


def test_reasons_name_decision_and_score_or_expression() -> None:
    scored = attributes(3, decisions=["drop", "keep", "review"], scores=[0.5, 0.1, None])
    found = clean_table(texts("a", "b", "c"), scored, settings(keep="keep"))
    assert found.rejected[REASON].to_pylist() == ["decision: drop, score 0.5000", "decision: review, status ok"]
    assert [reason_kind(one) for one in found.rejected[REASON].to_pylist()] == ["decision drop", "decision review"]
    found = clean_table(texts("a", "b", "c"), scored, settings(keep="score < 0.2"))
    assert found.rejected[REASON].to_pylist() == ["expression: not true: score < 0.2"] * 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RtdscanError, match="2 rows of input but 3 of attributes"):
        clean_table(texts("a", "b"), attributes(3), settings())
    taken = texts("a").append_column(REASON, pa.array(["x"]))
    with pytest.raises(UserError, match=r"has a column rtdscan_reason.*rename it"):
        clean_table(taken, attributes(1), settings(), text="text")


def through_pandas(table: pa.Table) -> pa.Table:
    """As it comes back: vectors are plain lists."""
    at = table.schema.get_field_index("embedding")
    return table if at < 0 else table.set_column(at, "embedding", table[at].cast(pa.list_(pa.float16())))


@pytest.mark.parametrize("framed", [through_pandas, pl.from_arrow])
@pytest.mark.parametrize(
    "options",
    [
        {"keep": "status == 'ok'", "duplicates": {"near": 0.95}},
        {"spans": {"action": "mask", "replace": True}, "duplicates": {"exact": True}},
    ],
)
def test_data_frames_that_a_scorer_takes_ended_with_an_attribute_error(framed: Any, options: dict[str, Any]) -> None:
    vectors = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0], None]
    told = [[(3, 7, 0.9, ["goes", "gods"])], [], None, [(0, 1, 0.8, [])], []]
    scored = attributes(5, decisions=["keep"] * 4 + ["drop"], spans=told, vectors=vectors)
    table = texts("He gose home.", "One here.", "One here.", "A b.", None)
    expected = clean_table(table, scored, settings(**options))
    assert expected.kept.num_rows
    assert expected.rejected.num_rows
    assert expected.changes.num_rows or "spans" not in options
    for whole in (table, framed(table)):
        found = clean_table(whole, framed(scored), settings(**options))
        assert [one.to_pylist() for one in found] == [one.to_pylist() for one in expected]


def test_what_is_no_table_is_told_as_such() -> None:
    for both in ((texts("a").to_pylist(), attributes(1)), (texts("a"), attributes(1).to_pydict())):
        with pytest.raises(TypeError, match=r"expected a pyarrow\.Table or a data frame, found (list|dict)"):
            clean_table(*both, settings())


def odd_table() -> pa.Table:
    """Six rows of every type that Parquet brings back as it was, with metadata, as read from a file."""
    when = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    nested = pa.struct(
        [pa.field("x", pa.int8(), nullable=False, metadata={"unit": "cm"}), ("y", pa.large_list(pa.large_string()))]
    )
    doc = pa.struct(
        [
            ("text", pa.string()),
            ("meta", pa.struct([("lang", pa.dictionary(pa.int32(), pa.string()))])),
            ("n", pa.int8()),
        ]
    )
    columns = {
        "text": (pa.string(), [f"bob{at}@example.org wrote" for at in range(5)] + [None]),
        "dict": (pa.dictionary(pa.int8(), pa.string()), ["a", "b", None, "a", "b", "c"]),
        "large": (pa.large_string(), [*"abcde", None]),
        "view": (pa.string_view(), ["a string view longer than twelve bytes", None, *"abcd"]),
        "bytes": (pa.binary_view(), [b"\xff"] * 6),
        "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)], None, [], [("b", 2), ("c", None)], [], []]),
        "structs": (pa.list_(nested), [[{"x": 1, "y": ["a", None]}], None, [], [{"x": 2, "y": None}], [], []]),
        "views": (pa.list_(pa.string_view()), [["a"], None, [], ["b", None], [], []]),
        "dicts": (pa.list_(pa.dictionary(pa.int32(), pa.string())), [["a"], None, [], ["b"], [], []]),
        "doc": (doc, [{"text": f"p{at}@example.org", "meta": {"lang": "en"}, "n": at} for at in range(4)] + [None, {}]),
        "decimal": (pa.decimal128(20, 2), [decimal.Decimal("1.20")] * 6),
        "wide": (pa.decimal256(50, 2), [decimal.Decimal("-1.20")] * 6),
        "zoned": (pa.timestamp("us", tz="Europe/Berlin"), [when] * 6),
        "nanos": (pa.timestamp("ns"), [1, 2, 3, None, 5, 6]),
        "took": (pa.duration("ms"), [1] * 6),
        "half": (pa.float16(), [1.0, None] * 3),
        "fixed": (pa.list_(pa.float32(), 2), [[1, 2]] * 6),
        "nothing": (pa.null(), [None] * 6),
        "uuid": (pa.uuid(), [bytes(range(16))] * 6),
        "u64": (pa.uint64(), [2**64 - 1] * 6),
    }
    fields = [pa.field(name, type_, metadata={"of": name}) for name, (type_, _) in columns.items()]
    made = pa.Table.from_arrays(
        [pa.array(values, type_) for type_, values in columns.values()],
        schema=pa.schema(fields, metadata={"owner": "somebody"}),
    )
    return through_parquet(made, row_group_size=4)


def through_parquet(table: pa.Table, **options: Any) -> pa.Table:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return pq.read_table(sink)


@pytest.mark.parametrize("text", ["text", "doc.text", "dict", "large", "view", "bytes"])
@pytest.mark.parametrize("personal", [(), ("email",)])
def test_types_and_metadata_stay_through_parquet(text: str, personal: tuple[str, ...]) -> None:
    table = odd_table()
    decisions = ["keep", "drop", "keep", "keep", "drop", "keep"]
    found = clean_table(table, attributes(6, decisions=decisions), settings(personal={"kinds": personal}), text=text)
    kept, rejected = through_parquet(found.kept), through_parquet(found.rejected)
    assert kept.schema.equals(table.schema, check_metadata=True)
    assert rejected.schema.remove(len(rejected.schema) - 1).equals(table.schema, check_metadata=True)
    where = [at for at, decision in enumerate(decisions) if decision == "keep"]
    assert rejected.drop_columns([REASON]).to_pylist() == [table.to_pylist()[at] for at in (1, 4)]
    expected = [table.to_pylist()[at] for at in where]
    for row in expected:
        if personal and text == "text" and row["text"]:
            row["text"] = "[EMAIL] wrote"
        if personal and text == "doc.text" and row["doc"] and row["doc"]["text"]:
            row["doc"]["text"] = "[EMAIL]"
    assert kept.to_pylist() == expected
    edited = personal and text in ("text", "doc.text")
    assert found.changes.num_rows == (3 if edited else 0)


@pytest.mark.parametrize(
    "type_",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.json_(),
    ],
    ids=str,
)
def test_edited_texts_keep_their_type(type_: pa.DataType) -> None:
    values = ["to bob@example.org", None, "", "to eve@example.org", "plain"]
    column = pa.array(values, pa.string())
    column = column.dictionary_encode().cast(type_) if pa.types.is_dictionary(type_) else column.cast(type_)
    table = pa.table({"text": pa.chunked_array([column.slice(0, 2), column.slice(2)])})
    found = clean_table(table, attributes(5), settings(personal={"kinds": ["email"]}), text="text")
    assert found.kept.schema == table.schema
    texts = [one.decode() if isinstance(one, bytes) else one for one in found.kept["text"].to_pylist()]
    assert texts == ["to [EMAIL]", None, "", "to [EMAIL]", "plain"]


def test_a_carried_view_ended_an_edited_cleaning() -> None:
    scored = attributes(2, decisions=["keep", "drop"]).append_column("id", pa.array(["a", "b"], pa.string_view()))
    found = clean_table(texts("to bob@example.org", "b"), scored, settings(keep="keep", personal={"kinds": ["email"]}))
    assert found.kept["text"].to_pylist() == ["to [EMAIL]"]


def test_bytes_that_are_not_utf8_are_edited_around() -> None:
    raw = pa.array([b"\xff to bob@example.org \xfe"], pa.large_binary()).view(pa.large_string())
    found = clean_table(pa.table({"text": raw}), attributes(1), settings(personal={"kinds": ["email"]}))
    assert found.kept["text"].cast(pa.large_binary()).to_pylist() == [b"\xff to [EMAIL] \xfe"]


# Spans

SENTENCE = "I recieved teh letter form him."
SPANS: list[Span] = [(2, 10, 0.95, ["received", "relieved"]), (11, 14, 0.6, ["the"]), (22, 26, 0.99, [])]


def edited(text: str = SENTENCE, flagged: list[Span] = SPANS, **options: Any) -> tuple[str, list[Any]]:
    """The text after an edit, and the changes as (start, end, before, after, kind)."""
    found = clean_table(texts(text), attributes(1, spans=[flagged]), settings(**options), file="a.parquet")
    listed = found.changes.to_pylist()
    assert all((one["file"], one["row"]) == ("a.parquet", 100) for one in listed)
    return found.kept["text"][0].as_py(), [tuple(one.values())[2:] for one in listed]


def test_nothing_is_edited_unless_asked_for() -> None:
    assert edited() == (SENTENCE, [])


def test_spans_are_masked() -> None:
    text, changes = edited(spans={"action": "mask"})
    assert text == "I [MASK] [MASK] letter [MASK] him."
    assert changes[0] == (2, 10, "recieved", "[MASK]", "mask")
    assert edited(spans={"action": "mask", "above": 0.9, "mask": "_"})[0] == "I _ teh letter _ him."


def test_spans_are_removed_with_one_space() -> None:
    text, changes = edited(spans={"action": "remove"})
    assert text == "I letter him."
    assert changes == [
        (2, 11, "recieved ", "", "remove"),
        (11, 15, "teh ", "", "remove"),
        (22, 27, "form ", "", "remove"),
    ]


def test_confident_spans_with_a_suggestion_are_replaced() -> None:
    text, changes = edited(spans={"replace": True})
    assert text == "I received teh letter form him."  # teh: too low; form: no suggestion
    assert changes == [(2, 10, "recieved", "received", "replace")]
    assert edited(spans={"replace": True, "replace_above": 0.5})[0] == "I received the letter form him."
    both = edited(spans={"replace": True, "action": "mask"})[0]
    assert both == "I received [MASK] letter [MASK] him."


def test_what_stands_for_damage_got_the_capitals_of_the_damage() -> None:
    # Suggestions are stored in the case of what was written; the case of what machines leave says nothing.
    for written, meant in {"Ã©tÃ©": "été", "&Ouml;l": "Öl", "TEH": "THE", "Teh": "The"}.items():
        (found,) = Suggester(WORDS, SuggestSettings()).suggest([(written, 0, len(written))])
        assert found[0].text == meant
        assert edited(written, [(0, len(written), 1.0, [meant])], spans={"replace": True})[0] == meant
    assert edited("the", [(0, 3, 1.0, ["the"])], spans={"replace": True}) == ("the", [])


def test_spans_without_suggestions_crashed_where_any_suggestion_is_sure() -> None:
    options: dict[str, Any] = {"replace": True, "replace_above": 0.5, "replace_sure": 0}
    assert edited(spans=options)[0] == "I received the letter form him."
    assert edited(spans={**options, "action": "mask"})[0] == "I received the letter [MASK] him."


def test_personal_data_win_over_spans() -> None:
    text = "Mail bob@example.org now"
    flagged: list[Span] = [(0, 8, 1.0, ["x"]), (9, 12, 1.0, ["y"]), (21, 24, 1.0, ["z"])]
    options: dict[str, Any] = {"personal": {"kinds": ["email"], "mask": "<{kind}>"}, "spans": {"action": "mask"}}
    text, changes = edited(text, flagged, **options)
    assert text == "Mail <EMAIL> [MASK]"
    assert [change[4] for change in changes] == ["email", "mask"]
    assert edited("Mail bob@example.org", [], changes={"text": False}, **options)[1] == [
        (5, 20, None, "<EMAIL>", "email")
    ]


def test_replacements_were_quoted_where_no_text_may_be() -> None:
    _, changes = edited(spans={"replace": True, "action": "mask"}, changes={"text": False})
    assert changes == [
        (2, 10, None, None, "replace"),
        (11, 14, None, "[MASK]", "mask"),
        (22, 26, None, "[MASK]", "mask"),
    ]


def test_rejected_rows_are_not_edited() -> None:
    scored = attributes(2, decisions=["drop", "keep"])
    found = clean_table(texts("a@b.org", "c@d.org"), scored, settings(personal={"kinds": ["email"]}))
    assert found.rejected["text"].to_pylist() == ["a@b.org"]
    assert found.kept["text"].to_pylist() == ["[EMAIL]"]
    assert found.changes["row"].to_pylist() == [101]


@given(
    st.text(min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8), st.booleans()), max_size=6),
    st.sampled_from(["mask", "remove", "none"]),
)
def test_changes_lead_from_the_text_to_the_edited_one(text: str, drawn: list[Any], action: str) -> None:
    flagged: list[Span] = []
    at = 0
    for skip, size, suggested in drawn:
        start = at + skip
        if start + size <= len(text):
            flagged.append((start, start + size, 0.95, ["word"] if suggested else []))
            at = start + size
    after, changes = edited(text, flagged, spans={"action": action, "replace": True}, personal={"kinds": ["email"]})
    rebuilt = text
    for start, end, before, put, _ in reversed(changes):
        assert text[start:end] == before
        rebuilt = rebuilt[:start] + put + rebuilt[end:]
    assert rebuilt == after


# Duplicates


def test_equal_texts_keep_the_first_that_is_kept() -> None:
    table = texts("a", "b", "a", None, None, "", "a", "")
    scored = attributes(8, decisions=["drop"] + ["keep"] * 7)
    found = clean_table(table, scored, settings(duplicates={"exact": True}), file="f.parquet")
    assert found.kept["n"].to_pylist() == [1, 2, 3, 4, 5]  # nulls are nobody's duplicates
    assert found.rejected[REASON].to_pylist() == [
        "decision: drop, score 0.1000", "duplicate: f.parquet row 102", "duplicate: f.parquet row 105",
    ]  # fmt: skip


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 8), st.integers(1, 20))
def test_equal_rows_are_found_in_any_number_of_parts_and_pieces(values: list[int], part: int, piece: int) -> None:
    digests = text_digests(pa.array([str(value) for value in values], pa.string()))
    numbers = np.arange(len(values)) * 3  # rows that were not selected lie between them

    def read() -> list[Any]:
        return [(numbers[at : at + piece], digests[at : at + piece]) for at in range(0, len(values), piece)]

    found = equal_rows(read, rows=len(values), part_rows=part)
    expected = [(at * 3, values.index(value) * 3) for at, value in enumerate(values) if values.index(value) < at]
    assert list(zip(found.row_K.tolist(), found.first_K.tolist(), strict=True)) == expected


def test_digests_do_not_depend_on_the_type() -> None:
    plain = text_digests(pa.array(["a", None, "b"], pa.string()))
    assert (plain == text_digests(pa.array(["a", None, "b"]).dictionary_encode())).all()
    assert (plain[1] == 0).all()
    assert (text_digests(pa.array([""])) != 0).any()


def test_similar_rows_name_the_first_kept_one() -> None:
    a, near_a, nearer_a, b = [1, 0, 0], [0.96, 0.28, 0], [0.99, 0.141, 0], [0, 1, 0]
    vectors = np.array([a, b, near_a, [np.nan] * 3, nearer_a, b, [np.nan] * 3], np.float16)
    found = similar_rows(vectors, threshold=0.95, center=False)
    assert found.row_K.tolist() == [2, 4, 5]
    assert found.first_K.tolist() == [0, 0, 1]  # 4 is nearer to 2, which is not kept
    assert found.cosine_K == pytest.approx([0.96, 0.99, 1.0], abs=0.001)


def test_equal_vectors_fell_below_a_cosine_of_one() -> None:
    random = np.random.default_rng(3)
    vectors = np.repeat(random.normal(size=(50, 384)), 2, axis=0).astype(np.float16)  # 50 pairs
    for center in (False, True):
        assert similar_rows(vectors, threshold=1.0, center=center).row_K.tolist() == list(range(1, 100, 2))


def test_a_row_that_is_like_a_rejected_one_only_is_kept() -> None:
    vectors = np.array([[np.cos(angle), np.sin(angle)] for angle in (0.0, 0.3, 0.6)], np.float32)
    found = similar_rows(vectors, threshold=float(np.cos(0.4)), center=False)
    assert found.row_K.tolist() == [1]


@pytest.mark.parametrize("n", [1, 1023, 1025, 2500])
def test_blocks_find_what_one_comparison_finds(n: int) -> None:
    random = np.random.default_rng(n)
    vectors = random.normal(size=(n, 8)).astype(np.float16)
    vectors[random.random(n) < 0.1] = np.nan
    found = similar_rows(vectors, threshold=0.9, center=False)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = unit.astype(np.float16).astype(np.float64)
    kept: list[int] = []
    expected: list[tuple[int, int]] = []
    for row in np.flatnonzero(~np.isnan(unit[:, 0])).tolist():
        cosines = unit[kept] @ unit[row] if kept else np.zeros(0)
        first = next((kept[at] for at in np.flatnonzero(cosines >= 0.9 - ROUNDING)), None)
        if first is None:
            kept.append(row)
        else:
            expected.append((row, first))
    got = dict(zip(found.row_K.tolist(), found.first_K.tolist(), strict=True))
    assert n < 1000 or len(expected) > 50
    # float32 and float64 may differ for a pair right at the threshold
    assert len(set(got.items()) ^ set(expected)) <= len(expected) // 50


def test_centering_tells_apart_what_has_much_in_common() -> None:
    """As with real embeddings: cosines of .99 between any two, and two rows that are really alike."""
    random = np.random.default_rng(1)
    own = random.normal(size=(400, 64))
    own[300] = own[7] + 0.05 * random.normal(size=64)
    vectors = own + 80 * np.ones(64)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert len(similar_rows(vectors, threshold=0.95, center=False).row_K) == 399
    found = similar_rows(vectors, threshold=0.95, center=True)
    assert (found.row_K.tolist(), found.first_K.tolist()) == ([300], [7])
    few = vectors[[7, 300]]  # their mean says nothing: less it, they would point in opposite directions
    assert len(few) < CENTER_FROM
    assert len(similar_rows(few, threshold=0.95, center=True).row_K) == 1


def test_sketches_estimate_the_share_of_word_triples() -> None:
    words = [f"word{at}" for at in range(400)]
    one, half = " ".join(words[:300]), " ".join(words[100:])
    sketch = sketches(
        pa.array([one, one.upper(), half, " ".join(f"other{at}" for at in range(300)), None, "...", "a b"])
    )
    shares = (sketch == sketch[0]).mean(axis=1)
    assert shares[:2].tolist() == [1, 1]
    assert shares[2] == pytest.approx(198 / 398, abs=0.2)  # triples 100..297 of 0..397; three sigmas of 64 draws
    assert shares[3:].tolist() == [0, 0, 0, 0]
    assert not sketch[4:6].any()
    assert sketch[6].all()
    assert sketch.shape == (7, HASHES)
    long = sketches(pa.array([" ".join(words * 50), "我们学习中文" * 3, "我们学习中文" * 4]))
    assert (long[1] == long[2]).all()


def test_near_duplicates_need_words_in_common_too() -> None:
    table = texts(
        "the cat sat on the mat today", "a dog ran off", "the cat sat on the mat", "the cat sat on the mat today"
    )
    vectors: list[list[float] | None] = [[1, 0], [1, 0.01], [1, 0.2], None]
    scored = attributes(4, vectors=vectors)
    found = clean_table(table, scored, settings(duplicates={"near": 0.9}), file="f")
    assert found.kept["n"].to_pylist() == [0, 1, 3]  # no embedding: no near duplicate
    assert found.rejected[REASON].to_pylist() == ["near duplicate: f row 100, cosine 0.9805"]
    found = clean_table(table, scored, settings(duplicates={"near": 0.9, "overlap": 0}), file="f")
    assert found.kept["n"].to_pylist() == [0, 3]
    found = clean_table(table, scored, settings(duplicates={"near": 0.9, "exact": True}), file="f")
    assert found.rejected[REASON].to_pylist()[1] == "duplicate: f row 100"


def test_an_equal_text_of_a_near_duplicate_names_the_kept_row() -> None:
    table = texts("one two three four five", "one two three four five six", "one two three four five six")
    scored = attributes(3, vectors=[[1, 0], [1, 0.01], [1, 0.01]])
    found = clean_table(table, scored, settings(duplicates={"near": 0.9, "exact": True}), file="f")
    assert found.kept["n"].to_pylist() == [0]
    assert {reason.partition(",")[0] for reason in found.rejected[REASON].to_pylist()} == {"near duplicate: f row 100"}


@pytest.mark.parametrize("center", [False, True])
def test_the_size_of_blocks_changes_no_duplicate(center: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    drawn = [(int(rng.integers(20)), int(rng.integers(3)), rng.random() < 0.9) for _ in range(200)]
    kinds_KD, words = rng.normal(size=(20, 16)), rng.integers(1, 99, (3, 64)).astype(np.uint32)
    vectors = np.array([kinds_KD[kind] if there else [np.nan] * 16 for kind, _, there in drawn])
    sketch = np.array([words[text] for _, text, _ in drawn])
    long = pa.array([" ".join(f"w{at * kind % 97}" for at in range(60)) for kind, _, _ in drawn], pa.string())
    monkeypatch.setattr(duplicates, "CENTER_FROM", 1)
    found = []
    for block in (1024, 1):
        monkeypatch.setattr(duplicates, "BLOCK", block)
        like = similar_rows(vectors, threshold=0.9, center=center, sketch_NH=sketch, overlap=0.5)
        numbers = like.row_K, like.first_K, sketches(long), np.nan_to_num(centered(vectors))
        found.append([array.tolist() for array in numbers])
    assert found[0] == found[1]
    assert found[0][0]


def test_an_equal_text_is_told_as_that_alone() -> None:
    table = texts("one two three four", "one two three four")
    scored = attributes(2, vectors=[[1, 0], [1, 0]])
    found = clean_table(table, scored, settings(duplicates={"near": 0.9, "exact": True}), file="f")
    assert found.rejected[REASON].to_pylist() == ["duplicate: f row 100"]


@pytest.mark.parametrize("key", ["replace_above", "replace_sure"])
def test_a_bound_is_met_by_a_number_that_is_equal_to_it(key: str) -> None:
    """Stored numbers are of 32 bits, in which .9 is less than .9 is in 64."""
    scored = attributes(1, spans=[[(0, 3, 0.9, ["the"])]])
    bounds = {"replace_above": 0, "replace_sure": 0, key: 0.9}
    assert clean_table(texts("teh end"), scored, settings(spans={"replace": True, **bounds})).kept[
        "text"
    ].to_pylist() == ["the end"]


@pytest.mark.parametrize(
    ("lacking", "options"),
    [
        ("embedding", {"duplicates": {"near": 0.9}}),
        ("spans", {"spans": {"action": "mask"}}),
        ("decision", {}),
        ("row", {"keep": "n_words > 1"}),
    ],
)
def test_attributes_without_a_column_that_is_needed(lacking: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"no column {lacking}"):
        clean_table(texts("a"), attributes(1, vectors=[[1, 0]]).drop_columns([lacking]), settings(**options))
