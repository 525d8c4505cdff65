import io
import json
from hashlib import blake2b

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.forecast import forecast, render
from rtdscan.pipeline.owned import claim
from rtdscan.pipeline.planning import make_plan, sample_units
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.records import InputFile, WorkUnit
from rtdscan.transforms.units import read_unit


@pytest.fixture
def corpus(tmp_path):
    """Three good files (row groups of 10: 3 + 1 + 1 units), one without rows, two bad ones."""
    for name, rows in {"a.parquet": 25, "b/a.parquet": 10, "b/c.parquet": 4, "empty.parquet": 0}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table = pa.table(
            {"key": pa.array(range(rows), pa.int64()), "text": pa.array(["word " * 20] * rows, pa.string())}
        )
        pq.write_table(table, tmp_path / name, row_group_size=10)
    (tmp_path / "b/cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-100])
    pq.write_table(pa.table({"key": [1]}), tmp_path / "z.parquet")
    return tmp_path


def test_plan_of_a_corpus(corpus):
    plan = make_plan([str(corpus)], id="key", threads=3)
    assert plan.root == str(corpus)
    assert plan.text == "text"
    assert plan.schema.field("key").type == pa.int64()
    assert [file.relative for file in plan.files] == ["a.parquet", "b/a.parquet", "b/c.parquet", "empty.parquet"]
    assert [(unit.file.relative, unit.first_row, unit.rows) for unit in plan.units] == [
        ("a.parquet", 0, 10),
        ("a.parquet", 10, 10),
        ("a.parquet", 20, 5),
        ("b/a.parquet", 0, 10),
        ("b/c.parquet", 0, 4),
    ]
    assert [one.relative for one in plan.bad] == ["b/cut.parquet", "z.parquet"]
    assert "cut short" in plan.bad[0].reason
    assert "no column 'text'" in plan.bad[1].reason
    assert plan.every == plan.units


def test_nothing_readable_names_the_first_reason(corpus):
    with pytest.raises(UserError, match=r"b/cut\.parquet is cut short"):
        make_plan([f"{corpus}/b/cut.parquet"])
    with pytest.raises(UserError, match=r"b/cut\.parquet is cut short.*none of the 2 files can be scanned"):
        make_plan([f"{corpus}/b/cut.parquet", f"{corpus}/z.parquet"], text="text")


def test_no_text_column(corpus):
    with pytest.raises(UserError, match=r"z\.parquet has no string column: .* key \(int64\)"):
        make_plan([f"{corpus}/z.parquet"])


def test_columns_that_no_file_has(corpus):
    with pytest.raises(UserError, match=r"a\.parquet has no column 'url'; its columns: key.*none of 4 files has it"):
        make_plan([str(corpus)], columns=("url",))


def test_a_column_that_some_files_have(tmp_path):
    """The others were bad files, and what had been scored of them was removed."""
    pq.write_table(pa.table({"text": ["a"], "when": ["now"]}), tmp_path / "b.parquet")
    for name in ("a.parquet", "c.parquet"):
        pq.write_table(pa.table({"text": ["a"]}), tmp_path / name)
    plan = make_plan([str(tmp_path)], columns=("when",), counted=("when",))
    assert plan.bad == ()
    assert plan.types == plan.absent == {"when": pa.string()}
    assert plan.warnings == ("2 of 3 files have no column when, which is null there (a.parquet)",)
    read = [read_unit(unit, text="text", columns=("when",), absent=plan.absent) for unit in plan.units]
    assert [rows["when"].to_pylist() for rows in read] == [[None], ["now"], [None]]
    assert {rows.schema for rows in read} == {pa.schema({"text": pa.large_binary(), "when": pa.string()})}


# --- samples


def units_of(*rows: int) -> list[WorkUnit]:
    return [
        WorkUnit(InputFile(f"/{at}", f"{at}.parquet", 1, "1", ""), 0, 0, 0, count, count * 10)
        for at, count in enumerate(rows)
    ]


SHARES = st.floats(0.001, 1.0)


@given(rows=st.lists(st.integers(1, 50), min_size=1, max_size=20), a=SHARES, b=SHARES)
def test_samples_are_nested_large_enough_and_not_larger(rows, a, b):
    units = units_of(*rows)
    small, large = sorted((a, b))
    sample = sample_units(units, sample=small)
    assert set(sample) <= set(sample_units(units, sample=large))
    assert list(sample) == [unit for unit in units if unit in sample]
    taken = sum(unit.rows for unit in sample)
    assert taken >= small * sum(rows) > taken - max(rows)


def test_a_sample_is_drawn_by_the_hash_of_the_shard():
    units = units_of(10, 10, 10, 10)
    order = sorted(units, key=lambda unit: blake2b(unit.shard.encode(), digest_size=16).hexdigest())
    assert sample_units(units, sample=0.01) == (order[0],)
    assert set(sample_units(units, sample=0.5)) == set(order[:2])
    assert sample_units(units, sample=1.0) == tuple(units)
    assert sample_units([], sample=0.5) == ()


# --- summaries


def test_summary_adds_up(corpus):
    plan = make_plan([str(corpus)], sample=0.5)
    whole = make_plan([str(corpus)])
    summary = forecast(plan, tokens_per_second=100.0, workers=2)
    assert (summary.files, summary.all_units, summary.all_rows) == (4, 5, 39)
    assert summary.units == len(plan.units) < 5
    assert 19.5 <= summary.rows < 39
    assert summary.text_bytes == sum(unit.text_bytes for unit in plan.units)
    assert summary.tokens == round(summary.text_bytes / 4.6)
    assert summary.seconds == pytest.approx((summary.tokens / 100 + 0.04 * summary.units) / 2)
    assert summary.current is None
    assert [group.text_bytes for group in summary.largest] == sorted(
        (unit.text_bytes for unit in whole.units), reverse=True
    )
    assert [bad.relative for bad in summary.bad] == ["b/cut.parquet", "z.parquet"]


def test_a_sample_that_is_much_larger_than_asked_for_is_told(corpus):
    plan = make_plan([str(corpus)], sample=0.05)
    rows = sum(unit.rows for unit in plan.units)
    assert plan.warnings == (
        f"the sample is {rows / 39:.1%} of the rows instead of 5.00%, for it is made of whole units: a lower"
        " unit.text_mb makes smaller ones",
    )
    told = io.StringIO()
    render(forecast(plan, tokens_per_second=100.0, workers=2), Console(file=told, width=200))
    assert f"warning: {plan.warnings[0]}" in told.getvalue()
    assert make_plan([str(corpus)], sample=rows / 39).warnings == make_plan([str(corpus)]).warnings == ()


def test_types_that_differ_between_files_were_not_told(tmp_path):
    ids = {"a": pa.int64(), "b": pa.string(), "c": pa.large_string(), "d": pa.int64()}
    for name, type_ in ids.items():
        table = pa.table({"id": pa.array(["1"], pa.string()).cast(type_), "text": ["word"], "n": [1]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    told = "id is int64 in a.parquet, string in b.parquet: some readers refuse such an OUTPUT"
    assert make_plan([str(tmp_path)], id="id", columns=["n"]).warnings == (told,)
    assert make_plan([str(tmp_path)], columns=["n"], counted=["id"]).warnings == ()
    assert make_plan([f"{tmp_path}/[bc].parquet"], id="id").warnings == ()


def test_current_units_need_no_work(corpus):
    plan = make_plan([str(corpus)])
    fates = ["current" if unit.file.relative == "a.parquet" else "scored" for unit in plan.units]
    summary = forecast(plan, tokens_per_second=100.0, workers=1, foreseen=fates)
    assert (summary.current, summary.rewritten, summary.touched) == (3, 0, 0)
    assert summary.units == 5
    rest = sum(unit.text_bytes for unit in plan.units[3:])
    assert summary.tokens == round(rest / 4.6) > 0


def test_the_time_of_many_small_files_was_that_of_their_tokens(corpus):
    """For 2,000 files of two short texts 30 s were told where 240 s were needed."""
    plan = make_plan([str(corpus)])

    def seconds(*foreseen):
        return forecast(plan, tokens_per_second=1e12, workers=2, foreseen=foreseen).seconds

    assert seconds(*["scored"] * 5) == pytest.approx(0.1)  # 5 units of 0.04 s, two at a time
    assert seconds("current", "rewritten", "touched", "scored", "current") == pytest.approx(0.06)
    assert seconds(*["current"] * 5) == 0


def test_what_suggestions_in_context_take_is_not_counted_and_told(corpus, capsys):
    for sets, told in (
        ((), False),
        (("suggest.in_context=true",), True),
        (("suggest.in_context=true", "suggest.top_k=0"), False),
    ):
        flags = [part for one in sets for part in ("--set", one)]
        assert main(["plan", str(corpus), "--json", *flags]) == 0
        warnings = json.loads(capsys.readouterr().out)["warnings"]
        assert any("suggest.in_context is not in these figures" in warning for warning in warnings) == told


def test_render_tells_it_to_people(corpus):
    (corpus / "b/cut.parquet").rename(corpus / "b/[red]cut.parquet")
    plan = make_plan([str(corpus)], sample=0.5)
    told = io.StringIO()
    render(
        forecast(plan, tokens_per_second=100.0, workers=2, foreseen=["scored"] * len(plan.units)),
        Console(file=told, width=200),
    )
    for expected in (
        "4, and 2 bad",
        "of 39 (sample)",
        "0 units need no work",
        "2 x 100 tokens/s, and 0.04 s a unit)",
        "[red]cut.parquet is cut",
    ):
        assert expected in told.getvalue()


@pytest.mark.parametrize("made", [False, True])
def test_an_output_that_no_scan_wrote_yet_is_told_as_such(corpus, tmp_path_factory, capsys, made):
    output = tmp_path_factory.mktemp("scans") / "out"
    if made:
        output.mkdir()
    assert main(["plan", str(corpus), str(output)]) == 2
    told = capsys.readouterr().err
    assert ("no Parquet files in" if made else "does not exist") in told
    assert "; if it is to be the OUTPUT of a first scan, leave it out" in told
    assert main(["plan", str(output), str(corpus)]) == 2
    assert "first scan" not in capsys.readouterr().err


def test_a_plan_refuses_the_output_of_another_input(corpus, tmp_path_factory, capsys):
    """It told that all was to be scored, where a scan would refuse."""
    output = str(tmp_path_factory.mktemp("scans") / "out")
    claim(output, [str(corpus / "b")])
    assert main(["plan", str(corpus), output]) == 2
    assert "belongs to another INPUT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "more", "speed"),
    [
        (["avx512_vnni", "avx512_bf16"], [], 10_000),
        (["avx512_bf16"], [], 7_000),
        (["avx2"], [], 2_500),
        (["avx512_vnni"], ["--set", "precision=float32"], 2_500),
        (["avx512_vnni"], ["--speed", "12.5"], 12.5),
    ],
)
def test_time_is_estimated_for_this_cpu(corpus, monkeypatch, capsys, flags, more, speed):
    monkeypatch.setattr("rtdscan.transforms.engines._cpu_flags", lambda: flags)
    assert main(["plan", str(corpus), "--json", *more]) == 0
    assert json.loads(capsys.readouterr().out)["tokens_per_second"] == speed
