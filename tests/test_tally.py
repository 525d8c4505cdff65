"""Tally: a commutative monoid, and the numbers of a hand-made shard."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.records import attribute_schema
from rtdscan.transforms.settings import OutputSettings
from rtdscan.transforms.tally import LENGTH_EDGES, SCORE_EDGES, WORST, Tally, tally_attributes


def shard(scores: list[float | None], *, words: int = 10, first_row: int = 0) -> pa.Table:
    schema = attribute_schema(OutputSettings(embedding="float32"), dims=2, id_type=pa.int64())
    rows = [
        {
            "id": 1000 + first_row + at,
            "row": first_row + at,
            "status": "null" if score is None else "ok",
            "n_chars": 50,
            "n_words": 0 if score is None else words,
            "n_tokens": 0 if score is None else 2 * words,
            "n_windows": 0 if score is None else 1,
            "unk_share": None if score is None else 0.25,
            "score": score,
            "n_flagged": None if score is None else 3,
            "embedding": None if score is None else [1.0, -1.0],
            "decision": "review" if score is None else "keep",
        }
        for at, score in enumerate(scores)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def test_numbers_of_a_shard() -> None:
    tally = tally_attributes(shard([0.125, None, 0.995]), file="a.parquet")
    assert tally.rows == 3
    assert tally.documents == 2
    assert tally.statuses == {"null": 1, "ok": 2}
    assert tally.decisions == {"keep": 2, "review": 1}
    assert (tally.words, tally.tokens, tally.flagged, tally.unknown) == (20, 40, 6, 10)  # unknown: 0.25 * 20 twice
    assert tally.score_sum == pytest.approx(1.12)
    assert tally.expected == pytest.approx(11.2)  # 10 words each
    assert tally.scores[12] == 1  # 0.125 lies in [0.12, 0.13)
    assert tally.scores[99] == 1
    assert sum(tally.scores) == 2
    assert tally.lengths[LENGTH_EDGES.index(8)] == 2  # 10 words lie in [8, 16)
    assert tally.embedding_sum == (2.0, -2.0)
    assert [(w.row, w.id, w.file) for w in tally.worst] == [(2, "1002", "a.parquet"), (0, "1000", "a.parquet")]
    metrics = tally.metrics()
    assert metrics["flagged_share"] == pytest.approx(6 / 20)
    assert metrics["mean_score"] == pytest.approx(0.56)
    assert metrics["unknown_share"] == pytest.approx(0.25)


def test_an_empty_shard_is_zero() -> None:
    assert tally_attributes(shard([]), file="a") == Tally.zero()


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (pa.array(["a", "b"], pa.string_view()), "b"),
        (pa.array([b"a", b"b"], pa.binary_view()), "b'b'"),
        (pa.array([1, 1_700_000_000_123_456_789], pa.timestamp("ns", tz="UTC")), "2023-11-14 22:13:20.123456789Z"),
        (pa.array([0, 4_000_000], pa.date32()), "12921-08-18"),
        (pa.array([b"\xffx", b"\xff"], pa.large_binary()).cast(pa.large_string(), safe=False), "\\xff"),
        (pa.array([0, 5], pa.duration("ns")), "5"),
        (pa.array([0, 3_600_000_000_001], pa.time64("ns")), "01:00:00.000000001"),
        (pa.array(["a", "b"]).dictionary_encode(), "b"),
        (pa.array([1, None], pa.int8()), None),
    ],
)
def test_ids_of_any_type_name_the_worst(ids: pa.Array, told: str | None) -> None:
    table = shard([0.1, 0.9, None])
    ids = pa.concat_arrays([ids, ids.slice(0, 1)])
    table = table.set_column(0, pa.field("id", ids.type), ids)
    table = table.append_column("carried", pa.array(["x", "y", "z"], pa.string_view()))
    tally = tally_attributes(table, file="f", by=pa.table({"source": ["s", "t", "s"]}))
    assert [worst.id for worst in tally.worst][:1] == [told]
    assert tally.by["source"]["s"].documents == 1


scores = st.lists(st.none() | st.sampled_from([i / 64 for i in range(65)]), max_size=30)


@given(scores, scores, scores)
def test_adding_shards_is_tallying_all_their_rows(a: list, b: list, c: list) -> None:
    parts, first = [], 0
    for rows in (a, b, c):
        parts.append(shard(rows, first_row=first))
        first += len(rows)
    whole = tally_attributes(pa.concat_tables(parts), file="f")
    x, y, z = (tally_attributes(part, file="f") for part in parts)
    assert (x + y) + z == x + (y + z) == (z + x) + y == whole
    assert x + Tally.zero() == x
    assert len(whole.worst) == min(WORST, whole.documents)


@given(scores)
def test_json_round_trip(rows: list) -> None:
    tally = tally_attributes(shard(rows), file="f")
    assert Tally.from_json(tally.to_json()) == tally
    assert "\n" not in tally.to_json()


def test_every_score_has_a_bin() -> None:
    rows = [0.0, 1.0, *SCORE_EDGES]
    assert sum(tally_attributes(shard(rows), file="f").scores) == len(rows)
