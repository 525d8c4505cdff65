"""`rtdscan clean`, end to end: the same as clean_table, resumable, refusing what does not fit, rows counted again."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from corpora import Ran, attributes, options, run_here, write_corpus
from test_cleaning_rows import odd_table
from workers import make_unit

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.cleaning.folder import claim
from rtdscan.pipeline.cleaning.marks import marks_by_unit
from rtdscan.pipeline.cleaning.plan import make_plan
from rtdscan.transforms import storage
from rtdscan.transforms.clean import clean_unit
from rtdscan.transforms.cleaning.job import CleanJob
from rtdscan.transforms.cleaning.rows import MARKS, REASON, clean_table
from rtdscan.transforms.cleaning.settings import CleanSettings
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.records import UnitResult

LOCAL = "rtdscan.pipeline.launchers.local.run_local"


@dataclass(frozen=True)
class Case:
    """A corpus of three files and twelve units or so, scanned; copied for each test, times of files included."""

    corpus: Path
    output: Path
    cleaned: Path


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    folder = tmp_path_factory.mktemp("scanned")
    write_corpus(folder / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LOCAL, run_here)
        command = ["scan", str(folder / "corpus"), str(folder / "out"), *options(tiny_bundle)]
        # Review half of them, and drop the worst.
        thresholds = ["thresholds.review=0.3", "thresholds.drop=0.33", "output.columns=[source]"]
        assert main([*command, *(part for one in thresholds for part in ("--set", one))]) == 0
    return folder


@pytest.fixture
def case(scanned: Path) -> Case:
    """Emptied of what the last test cleaned; the scan itself is shared, so leave it as it is."""
    shutil.rmtree(scanned / "cleaned", ignore_errors=True)
    return Case(scanned / "corpus", scanned / "out", scanned / "cleaned")


@pytest.fixture
def own(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A case that a test may change."""
    monkeypatch.setattr(LOCAL, run_here)
    case = Case(write_corpus(tmp_path / "corpus"), tmp_path / "out", tmp_path / "cleaned")
    assert main(["scan", str(case.corpus), str(case.output), *options(tiny_bundle)]) == 0
    return case


Clean = Callable[..., Ran]


@pytest.fixture
def clean(capsys: pytest.CaptureFixture[str], in_process: None) -> Clean:
    """`clean(OUTPUT, CLEANED, *options, flags...)`: options are those with a `=` that begin with no dash."""

    def run(*words: object) -> Ran:
        told = [str(word) for word in words]
        sets = [part for word in told if re.match(r"[a-z_.]+=", word) for part in ("--set", word)]
        capsys.readouterr()
        status = main(["clean", *(word for word in told if word not in sets), *sets])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(status, out, err)

    return run


def rows_of(folder: Path) -> pa.Table:
    """All rows below a folder, files and units in order."""
    paths = sorted(folder.rglob("rg*.parquet"))
    assert paths, folder
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths]).replace_schema_metadata(None)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def corpus_rows(corpus: Path) -> pa.Table:
    paths = sorted(corpus.rglob("*.parquet"), key=lambda path: str(path.relative_to(corpus)))
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths])


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("rg*.parquet")}


# ---------------------------------------------------------------------------------------------------------------------
# What is written


@pytest.mark.parametrize("keep", [("keep",), "source != 's1' and score is not None"], ids=["decision", "expression"])
def test_the_cleaning_is_clean_table(case: Case, clean: Clean, keep: Any) -> None:
    given = ["keep=[keep]"] if isinstance(keep, tuple) else ["--keep", keep]
    ran = clean(case.output, case.cleaned, *given, "personal.kinds=[email]", "spans.action=mask", "--json")
    assert ran.status == 0
    assert ran.err == ""
    settings = CleanSettings.model_validate(
        {"keep": keep, "personal": {"kinds": ["email"]}, "spans": {"action": "mask"}}
    )
    attributes = rows_of(case.output / "attributes")
    expected = clean_table(corpus_rows(case.corpus), attributes, settings)
    assert len(list((case.cleaned / "kept").rglob("rg*.parquet"))) >= 8  # units of three files
    assert expected.kept.num_rows > 10
    assert expected.rejected.num_rows > 10
    assert expected.changes.num_rows > 10
    for folder, wanted in (("kept", expected.kept), ("rejected", expected.rejected)):
        found = rows_of(case.cleaned / folder)
        assert found.schema == wanted.schema.remove_metadata()
        assert found.to_pylist() == wanted.to_pylist()
    changes = rows_of(case.cleaned / "changes")
    assert changes.drop_columns("file").to_pylist() == expected.changes.drop_columns("file").to_pylist()
    assert set(changes["file"].to_pylist()) == {"a.parquet", "news item/b.parquet", "news item/ü.parquet"}


def test_counts_add_up_and_are_said(case: Case, clean: Clean) -> None:
    ran = clean(case.output, case.cleaned, "keep=[keep, review]")
    told = ran.json if ran.out else json.loads((case.cleaned / "clean.json").read_text())["summary"]
    assert ran.out == ""  # the table is for people
    assert told["kept"] + told["rejected"] == told["rows"] == 82
    assert told["reasons"] == {"decision drop": told["rejected"]}
    assert f"82 = {told['kept']} kept + {told['rejected']} rejected" in ran.err
    assert told["rejected"] == rows_of(case.cleaned / "rejected").num_rows > 0
    assert told["kept"] == rows_of(case.cleaned / "kept").num_rows > 0
    for path in (case.cleaned / "kept").rglob("rg*.parquet"):
        both = [pq.read_metadata(case.cleaned / folder / path.relative_to(case.cleaned / "kept")).num_rows
                for folder in ("kept", "rejected")]  # fmt: skip
        shard = case.output / "attributes" / path.relative_to(case.cleaned / "kept")
        assert sum(both) == pq.read_metadata(shard).num_rows


def test_other_programs_read_it(case: Case, clean: Clean) -> None:
    assert clean(case.output, case.cleaned, "keep=[keep]").status == 0
    kept, rejected = (f"'{case.cleaned}/{folder}/**/rg*.parquet'" for folder in ("kept", "rejected"))
    assert duckdb.sql(f"select count(*) from (from {kept} union all by name from {rejected})").fetchall() == [(82,)]
    by = duckdb.sql(f"select split_part({REASON}, ',', 1), count(*) from {rejected} group by 1 order by 1").fetchall()
    assert [reason for reason, _ in by] == ["decision: drop", "decision: review"]


@pytest.mark.parametrize("text", ["text", "doc.text"])
def test_every_type_comes_through_with_its_metadata(tmp_path: Path, tiny_bundle: Path, clean: Clean, text: str) -> None:
    table = pa.concat_tables([odd_table()] * 3).combine_chunks()
    (tmp_path / "corpus").mkdir()
    pq.write_table(table, tmp_path / "corpus" / "a.parquet", row_group_size=7)
    table = pq.read_table(tmp_path / "corpus" / "a.parquet")
    sets = [f"input.text={text}", "input.id=null", "thresholds.not_ok=drop", "thresholds.review=1", "thresholds.drop=1"]
    sets = [part for one in sets for part in ("--set", one)]
    assert main(["scan", str(tmp_path / "corpus"), str(tmp_path / "out"), *options(tiny_bundle), *sets]) == 0
    ran = clean(tmp_path / "out", tmp_path / "cleaned", "personal.kinds=[email]", "--json")
    assert ran.json["rejected"] == (3 if text == "text" else 6)
    assert ran.json["changes"]["email"] == (15 if text == "text" else 12)
    for folder in ("kept", "rejected"):
        for path in (tmp_path / "cleaned" / folder).rglob("rg*.parquet"):
            schema = pq.read_schema(path)
            if folder == "rejected":
                schema = schema.remove(schema.get_field_index(REASON))
            assert schema.metadata.pop(b"rtdscan.clean", None) or b"rtdscan.clean" in schema.metadata
            own = {key: value for key, value in schema.metadata.items() if key != b"rtdscan.clean"}
            assert own == {b"owner": b"somebody"}
            assert schema.with_metadata(own).equals(table.schema, check_metadata=True)
    back = rows_of(tmp_path / "cleaned" / "kept").drop_columns([text.partition(".")[0]]).to_pylist()
    kept = [row for row in table.to_pylist() if (row["text"] if text == "text" else (row["doc"] or {}).get("text"))]
    assert back == [{name: value for name, value in row.items() if name != text.partition(".")[0]} for row in kept]


def test_a_corpus_without_rows(tmp_path: Path, tiny_bundle: Path, clean: Clean) -> None:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "corpus" / "a.parquet")
    sets = ["--set", "input.id=null"]
    assert main(["scan", str(tmp_path / "corpus"), str(tmp_path / "out"), *options(tiny_bundle), *sets]) == 0
    told = clean(tmp_path / "out", tmp_path / "cleaned", "duplicates.near=0.9", "duplicates.exact=true", "--json").json
    assert (told["rows"], told["kept"], told["rejected"], told["finished"]) == (0, 0, 0, True)


def test_wrong_options_passed_where_there_are_no_rows(tmp_path: Path, tiny_bundle: Path, clean: Clean) -> None:
    (tmp_path / "corpus").mkdir()
    empty = pa.schema({"key": pa.int64(), "text": pa.string(), "doc": pa.struct({"lang": pa.string()})}).empty_table()
    pq.write_table(empty, tmp_path / "corpus" / "a.parquet")
    sets = ["--set", "output.columns=[doc.lang]", "--set", "output.embedding=none"]
    assert main(["scan", str(tmp_path / "corpus"), str(tmp_path / "out"), *options(tiny_bundle), *sets]) == 0
    output, cleaned = tmp_path / "out", tmp_path / "cleaned"
    for wrong, told in {
        "scoer < 1": "did you mean score",
        "score <": "is no expression",
        "id == 'a'": "a text",
    }.items():
        ran = clean(output, cleaned, "--keep", wrong)
        assert ran.status == 2
        assert told in ran.told
    assert "needs embeddings" in clean(output, cleaned, "duplicates.near=0.9").told
    assert not cleaned.exists()
    keep = "score < 1 and id == 5 and col('doc.lang') == 'de'"
    assert clean(output, cleaned, "--keep", keep, "--json").json["finished"]


# ---------------------------------------------------------------------------------------------------------------------
# Duplicates


def test_equal_texts_across_files_and_units(case: Case, clean: Clean) -> None:
    ran = clean(case.output, case.cleaned, "duplicates.exact=true", "keep=[keep, review, drop]", "--json")
    texts = corpus_rows(case.corpus)["text"].to_pylist()
    repeated = [at for at, text in enumerate(texts) if text is not None and texts.index(text) < at]
    assert ran.json["reasons"] == {"duplicate": len(repeated)}
    rejected = rows_of(case.cleaned / "rejected")
    assert rejected["key"].to_pylist() == repeated
    # Every fifth text is one of three: those of rows 0, 5 and 10 of the first file.
    told = dict(zip(rejected["key"].to_pylist(), rejected[REASON].to_pylist(), strict=True))
    assert told[15] == "duplicate: a.parquet row 0"
    assert told[70] == "duplicate: a.parquet row 10"
    listed = pq.read_table(case.cleaned / "duplicates.parquet")
    assert listed.num_rows == len(repeated)
    assert listed["cosine"].null_count == len(repeated)


def test_near_duplicates_across_files_and_units(case: Case, clean: Clean) -> None:
    ran = clean(case.output, case.cleaned, "duplicates.near=0.999", "keep=[keep, review, drop]", "--json")
    attributes = rows_of(case.output / "attributes")
    texts = corpus_rows(case.corpus)["text"].to_pylist()
    there = [vector[0] is not None for vector in attributes["embedding"].to_pylist()]
    repeated = {at for at, text in enumerate(texts) if there[at] and texts.index(text) < at}
    found = set(rows_of(case.cleaned / "rejected")["key"].to_pylist())
    assert repeated <= found
    assert not {at for at in found if not there[at]}
    assert ran.json["reasons"] == {"near duplicate": len(found)}
    settings = CleanSettings.model_validate({"keep": ("keep", "review", "drop"), "duplicates": {"near": 0.999}})
    # The in-memory twin does not know of files, so its rows must be numbered through.
    numbered = attributes.set_column(
        attributes.schema.get_field_index("row"), "row", pa.array(range(len(texts)), pa.int64())
    )
    twin = clean_table(corpus_rows(case.corpus), numbered, settings)
    assert set(twin.rejected["key"].to_pylist()) == found


def test_only_units_whose_duplicates_changed_are_cleaned_again(own: Case, clean: Clean, tiny_bundle: Path) -> None:
    keep = ["keep=[keep, review, drop]", "duplicates.exact=true", "--json"]
    assert clean(own.output, own.cleaned, *keep).json["units"] == {"cleaned": len(times(own.cleaned / "kept"))}
    before = times(own.cleaned)
    assert set(clean(own.output, own.cleaned, *keep).json["units"]) == {"current"}
    assert times(own.cleaned) == before
    # A new first file holds a text of the others: theirs become duplicates, and nothing else changes.
    texts = pq.read_table(own.corpus / "a.parquet").slice(7, 1)
    pq.write_table(texts, own.corpus / "0.parquet")
    assert main(["scan", str(own.corpus), str(own.output), *options(tiny_bundle)]) == 0
    told = clean(own.output, own.cleaned, *keep).json
    assert told["units"]["cleaned"] == 2
    rejected = rows_of(own.cleaned / "rejected")
    assert "duplicate: 0.parquet row 0" in rejected[REASON].to_pylist()


def test_duplicates_in_a_renamed_file_were_kept(own: Case, clean: Clean, tiny_bundle: Path) -> None:
    options_ = ["keep=[keep, review, drop]", "duplicates.exact=true", "--json"]
    first = clean(own.output, own.cleaned, *options_).json
    assert first["reasons"]["duplicate"] > 10
    (own.corpus / "a.parquet").rename(own.corpus / "aa.parquet")  # at the same place in the order
    assert main(["scan", str(own.corpus), str(own.output), *options(tiny_bundle)]) == 0
    again = clean(own.output, own.cleaned, *options_).json
    assert again["reasons"] == first["reasons"]
    told = rows_of(own.cleaned / "rejected")[REASON].to_pylist()
    assert not [reason for reason in told if "duplicate: a.parquet" in reason]


def test_marks_of_no_unit_are_refused() -> None:
    marks = pa.Table.from_pylist([{"file": "gone.parquet", "row": 3}], schema=MARKS)
    with pytest.raises(RtdscanError, match=r"names row 3 of gone\.parquet"):
        list(marks_by_unit([make_unit("a.parquet", rows=4)], marks))


def test_too_many_for_near_duplicates(case: Case, clean: Clean) -> None:
    ran = clean(case.output, case.cleaned, "duplicates.near=0.9", "duplicates.limit=10")
    assert ran.status == 2
    assert "are more than duplicates.limit, 10" in ran.told
    assert not (case.cleaned / "clean.json").exists()
    assert not list(case.cleaned.rglob("kept/**/rg*.parquet"))


# ---------------------------------------------------------------------------------------------------------------------
# Again


def test_warnings_of_the_scan_are_repeated_and_an_empty_corpus_is_one(
    own: Case, clean: Clean, tiny_bundle: Path
) -> None:
    """A bundle that nobody had calibrated dropped all rows, and `clean` kept none without a word."""
    assert clean(own.output, own.cleaned, "--json").json["warnings"] == []
    run = json.loads((own.output / "run.json").read_text())
    run["summary"]["warnings"] = ["the model is not calibrated"]
    (own.output / "run.json").write_text(json.dumps(run))
    ran = clean(own.output, own.cleaned, "--keep", "score > 2")
    assert ran.status == 0
    assert "warning: the model is not calibrated\nwarning: no row was kept, 82 were rejected: do model" in ran.err
    record = json.loads((own.cleaned / "clean.json").read_text())
    assert record["summary"]["warnings"][0] == "the model is not calibrated"


def test_kept_rows_without_a_score_are_told(own: Case, clean: Clean, tiny_bundle: Path) -> None:
    """Null and empty rows were kept without a word: their decision is `review`, and `keep` has that."""
    ran = clean(own.output, own.cleaned, "--json")
    rows = attributes(own.output)
    assert ran.json["unscored"] == {status: rows["status"].to_pylist().count(status) for status in ("empty", "null")}
    assert ran.json["kept"] >= sum(ran.json["unscored"].values()) > 0
    assert "thresholds.not_ok=drop" in clean(own.output, own.cleaned).err
    assert clean(own.output, own.cleaned, "keep=[keep]", "--json").json["unscored"] == {}
    assert clean(own.output, own.cleaned, "--keep", "score < 2", "--json").json["unscored"] == {}
    assert main(["scan", str(own.corpus), str(own.output), *options(tiny_bundle, "thresholds.not_ok=drop")]) == 0
    ran = clean(own.output, own.cleaned, "--json")
    assert (ran.json["unscored"], ran.json["kept"]) == ({}, 82 - ran.json["rejected"])


def test_a_cleaning_that_another_one_overtook_is_busy(
    case: Case, clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on without the lock where the other had made CLEANED while this one planned."""
    with contextlib.ExitStack() as other:

        def planned(output: str, settings: CleanSettings) -> object:
            plan = make_plan(output, settings)
            other.enter_context(storage.lock(str(case.cleaned)))
            claim(str(case.cleaned), output, [str(case.corpus)], moved=False)
            return plan

        monkeypatch.setattr("rtdscan.pipeline.cleaning.run.make_plan", planned)
        assert clean(case.output, case.cleaned).status == 4


def test_what_was_not_cleaned_is_not_told_as_current(own: Case, clean: Clean) -> None:
    first = next(path for path in sorted((own.output / "attributes").rglob("*.parquet")) if path.is_file())
    whole = first.read_bytes()
    ran_whole = clean(own.output, own.cleaned, "duplicates.exact=true", "--json").json
    shutil.rmtree(own.cleaned)
    damaged = bytearray(whole)
    damaged[10:60] = bytes(50)  # rows; the footer is sound
    first.write_bytes(damaged)
    ran = clean(own.output, own.cleaned, "duplicates.exact=true", "--json")
    assert ran.status == 1
    assert ran.json["units"] == {"bad": 1, "hashed": ran_whole["units"]["cleaned"] - 1}


def test_a_second_run_does_only_what_is_not_current(own: Case, clean: Clean, tiny_bundle: Path) -> None:
    first = clean(own.output, own.cleaned, "spans.action=mask", "--json").json
    before = files_of(own.cleaned)
    stamps = times(own.cleaned)
    again = clean(own.output, own.cleaned, "spans.action=mask", "--json").json
    assert again["units"] == {"current": first["units"]["cleaned"]}
    assert times(own.cleaned) == stamps
    assert {name: again[name] for name in ("rows", "kept", "rejected", "reasons", "changes")} == {
        name: first[name] for name in ("rows", "kept", "rejected", "reasons", "changes")
    }

    def lose_a_row(path: Path) -> None:
        rows = pq.read_table(path)
        assert rows.num_rows
        pq.write_table(rows[1:], path)  # its stamp stays

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1])

    for folder, damage in (("kept", Path.unlink), ("rejected", cut), ("changes", cut), ("changes", lose_a_row)):
        largest = max((own.cleaned / folder).rglob("rg*.parquet"), key=lambda path: path.stat().st_size)
        damage(largest)
        assert clean(own.output, own.cleaned, "spans.action=mask", "--json").json["units"]["cleaned"] == 1
        found = files_of(own.cleaned)
        assert {name: found[name] for name in found if name.endswith(".parquet")} == {
            name: before[name] for name in before if name.endswith(".parquet")
        }
    other = clean(own.output, own.cleaned, "keep=[]", "--json").json
    assert (other["kept"], other["changes"]) == (0, {})
    assert not (own.cleaned / "changes").exists() or not list((own.cleaned / "changes").rglob("rg*.parquet"))
    (own.corpus / "news item" / "b.parquet").unlink()
    assert main(["scan", str(own.corpus), str(own.output), *options(tiny_bundle)]) == 0
    third = clean(own.output, own.cleaned, "--json").json
    assert third["rows"] == 52
    assert [path.name for path in (own.cleaned / "kept" / "news item").iterdir()] == ["ü.parquet"]


def test_a_scan_of_part_of_the_corpus_says_so(tmp_path: Path, tiny_bundle: Path, clean: Clean) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    sets = options(tiny_bundle, "input.sample=0.4", "on_bad_file=quarantine")
    (corpus / "bad.parquet").write_bytes(b"PAR1 but no more")
    assert main(["scan", str(corpus), str(tmp_path / "out"), *sets]) == 0
    ran = clean(tmp_path / "out", tmp_path / "cleaned")
    assert ran.status == 0
    told = json.loads((tmp_path / "cleaned" / "clean.json").read_text())["summary"]
    assert told["kept"] + told["rejected"] == told["rows"] == 82 - told["not_scanned"] < 82
    assert [one["path"] for one in told["left_out"]] == ["bad.parquet"]
    assert "not scanned" in ran.err
    assert "left out by the scan" in ran.err


def test_a_file_that_was_mended_since_the_scan_is_told(own: Case, clean: Clean, tiny_bundle: Path) -> None:
    """It was left out for a reason that was no longer true."""
    corpus, sets = own.corpus, options(tiny_bundle, "on_bad_file=quarantine")
    whole = pq.read_table(corpus / "a.parquet")
    (corpus / "torn.parquet").write_bytes(b"PAR1 but no more")
    pq.write_table(whole.drop(["key"]), corpus / "narrow.parquet")
    assert main(["scan", str(corpus), str(own.output), *sets]) == 0
    ran = clean(own.output, own.cleaned, "--json")
    assert (ran.status, len(ran.json["left_out"])) == (0, 2)
    pq.write_table(whole.drop(["key"]), corpus / "torn.parquet")  # as bad, for another reason
    assert clean(own.output, own.cleaned).status == 0
    pq.write_table(whole, corpus / "torn.parquet")
    ran = clean(own.output, own.cleaned)
    assert (ran.status, "since the scan: torn.parquet can be read; run the scan again" in ran.told) == (2, True)
    pq.write_table(whole, corpus / "narrow.parquet")
    assert "torn.parquet can be read" in clean(own.output, own.cleaned).told
    assert main(["scan", str(corpus), str(own.output), *sets]) == 0
    assert clean(own.output, own.cleaned, "--json").json["left_out"] == []


def test_one_damaged_unit_leaves_the_rest(own: Case, clean: Clean) -> None:
    """Damage in a column that the scan did not read; size and time are as they were."""
    path = own.corpus / "a.parquet"
    chunk = pq.read_metadata(path).row_group(0).column(1)
    at = chunk.dictionary_page_offset or chunk.data_page_offset
    data, stamp = bytearray(path.read_bytes()), path.stat()
    data[at : at + 40] = b"\xff" * 40
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    ran = clean(own.output, own.cleaned, "--json")
    assert ran.status == 1
    assert not ran.json["finished"]
    assert ran.json["units"]["bad"] >= 1
    assert ran.json["units"]["cleaned"] >= 5
    assert all(str(path) in one["reason"] for one in ran.json["bad"])
    assert not (own.cleaned / "clean.json").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Refused


@pytest.fixture
def refused(own: Case, clean: Clean, tmp_path: Path) -> Callable[..., str]:
    """A cleaning that ends with status 2, one line, and not a byte changed."""

    def run(*words: object) -> str:
        before = files_of(tmp_path)
        ran = clean(*(words or (own.output, own.cleaned)))
        assert ran.status == 2, ran
        assert ran.out == ""
        assert files_of(tmp_path) == before
        assert not own.cleaned.exists() or list(own.cleaned.iterdir())
        return ran.told

    return run


def test_an_output_that_is_not_finished_or_none(own: Case, refused: Callable[..., str], tmp_path: Path) -> None:
    (own.output / "run.json").rename(tmp_path / "run.json")
    assert "is not finished: run its scan again" in refused()
    assert "is not an rtdscan output" in refused(own.corpus, own.cleaned)
    assert "CLEANED" in refused(own.output)


def test_inputs_that_changed(own: Case, refused: Callable[..., str], clean: Clean, tmp_path: Path) -> None:
    victim = own.corpus / "news item" / "b.parquet"
    stamp = victim.stat()
    os.utime(victim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))
    told = refused()
    assert "INPUT has changed since the scan: news item/b.parquet has changed; run the scan again" in told
    victim.rename(tmp_path / "gone")
    assert "news item/b.parquet has gone" in refused()
    (tmp_path / "gone").rename(victim)
    os.utime(victim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    shutil.copy(victim, own.corpus / "new.parquet")
    assert "new.parquet is new" in refused()
    shutil.copy(victim, own.corpus / "newer.parquet")
    assert "new.parquet, newer.parquet are new" in refused()
    (own.corpus / "new.parquet").unlink()
    (own.corpus / "newer.parquet").unlink()
    pq.write_table(pq.read_table(victim).slice(0, 0), own.corpus / "empty.parquet")  # no rows: nothing to scan
    assert clean(own.output, own.cleaned).status == 0
    own.corpus.rename(tmp_path / "moved")
    assert "INPUT of this scan is gone or moved" in refused()


def test_other_text_under_the_same_size_and_time(own: Case, clean: Clean) -> None:
    """The same footer too: only the texts' digest tells."""
    path = own.corpus / "news item" / "ü.parquet"
    stamp, table = path.stat(), pq.read_table(path)
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, path, **plain)
    assert main(["scan", str(own.corpus), str(own.output), *options_of(own)]) == 0
    data, stamp = path.read_bytes(), path.stat()
    path.write_bytes(data.replace(b"Number 71", b"Number 17", 1))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    ran = clean(own.output, own.cleaned, "--json")
    assert ran.status == 1
    assert "has changed since the scan: scan again, then clean" in ran.json["bad"][0]["reason"]


def options_of(own: Case) -> list[str]:
    """The options that a scan was run with."""
    config = json.loads((own.output / "run.json").read_text())["config"]
    return options(Path(config["model"]))


def test_a_cleaned_that_is_not_ours_or_in_the_way(
    own: Case, refused: Callable[..., str], clean: Clean, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"meow")
    assert f"{photos} holds files that are not a cleaned corpus" in refused(own.output, photos)
    assert "is a file; name a folder" in refused(own.output, photos / "cat.jpg")
    assert "lies inside INPUT" in refused(own.output, own.corpus / "cleaned")
    assert "lies inside OUTPUT" in refused(own.output, own.output / "cleaned")
    assert "is OUTPUT itself" in refused(own.output, own.output)
    assert "lies inside CLEANED" in refused(own.output, tmp_path)
    (tmp_path / "link").symlink_to(own.corpus)
    assert "lies inside INPUT" in refused(own.output, tmp_path / "link" / "cleaned")
    assert clean(own.output, own.cleaned).status == 0
    shutil.copytree(own.output, tmp_path / "other")
    assert "belongs to another OUTPUT" in refused(tmp_path / "other", own.cleaned)


def test_an_output_that_moved_is_not_cleaned_again(own: Case, clean: Clean, tmp_path: Path) -> None:
    units = clean(own.output, own.cleaned, "--json").json["units"]["cleaned"]
    moved = own.output.rename(tmp_path / "moved")
    assert f"({own.output}), not {moved}; if that one has moved" in clean(moved, own.cleaned).told
    for flags in (["--moved"], []):  # once is enough
        assert clean(moved, own.cleaned, "--json", *flags).json["units"] == {"current": units}


def test_options_that_do_not_fit_leave_a_cleaned_alone(own: Case, refused: Callable[..., str], clean: Clean) -> None:
    assert clean(own.output, own.cleaned).status == 0
    paths = (own.output, own.cleaned)
    assert "no attribute column 'scoer'; did you mean score?" in refused(*paths, "--keep", "scoer < 0.1")
    assert "is no expression" in refused(*paths, "--keep", "score <")
    assert 'keep is ["maybe"]; expected text or list of keep, review, drop' in refused(*paths, "keep=[maybe]")
    assert "duplicates.near is 2; expected number or null, at least 0 and at most 1" in refused(
        *paths, "duplicates.near=2"
    )
    assert "personal.kinds" in refused(*paths, "personal.kinds=[name]")
    assert "phone_region" in refused(*paths, "personal.phone_region=usa")
    assert "did you mean spans.action" in refused(*paths, "spans.acton=mask")


def test_a_column_called_like_ours(tmp_path: Path, tiny_bundle: Path, clean: Clean) -> None:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"text": ["a b c"], REASON: ["x"]}), tmp_path / "corpus" / "a.parquet")
    sets = ["--set", "input.id=null", "--set", "input.text=text"]
    assert main(["scan", str(tmp_path / "corpus"), str(tmp_path / "out"), *options(tiny_bundle), *sets]) == 0
    ran = clean(tmp_path / "out", tmp_path / "cleaned")
    assert ran.status == 2
    assert f"has a column {REASON}" in ran.told
    assert not (tmp_path / "cleaned").exists()


def test_near_duplicates_without_embeddings(own: Case, clean: Clean, tiny_bundle: Path) -> None:
    assert main(["scan", str(own.corpus), str(own.output), *options(tiny_bundle, "output.embedding=none")]) == 0
    ran = clean(own.output, own.cleaned, "duplicates.near=0.9")
    assert (ran.status, "duplicates.near needs embeddings" in ran.told) == (2, True)


def test_a_busy_cleaned(case: Case, clean: Clean) -> None:
    assert clean(case.output, case.cleaned).status == 0
    with storage.lock(str(case.cleaned)):
        before = files_of(case.cleaned)
        ran = clean(case.output, case.cleaned, "keep=[]")
        assert ran.status == 4
        assert f"{case.cleaned} is busy" in ran.told
        assert files_of(case.cleaned) == before


def test_a_scan_that_ran_meanwhile(own: Case, clean: Clean, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*args: Any, **rest: Any) -> Any:
        run = own.output / "run.json"
        run.write_text(run.read_text() + " ")
        return run_here(*args, **rest)

    monkeypatch.setattr(LOCAL, launch)
    ran = clean(own.output, own.cleaned)
    assert (ran.status, "was scanned again meanwhile" in ran.told) == (1, True)
    assert not (own.cleaned / "clean.json").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The graph, processes


def test_no_table_leaves_the_step_that_cleans() -> None:
    """One ParDo reads, cleans and writes, and what it returns is small."""
    from rtdscan.transforms.child import graph_of

    job = CleanJob(output="c", run="r", attributes="o", text="text", settings=CleanSettings())
    assert clean_unit.__annotations__["return"] is UnitResult
    pipeline = beam.Pipeline(runner=FnApiRunner())
    pipeline | beam.Create([make_unit("a.parquet")], reshuffle=False) | "Run" >> graph_of(job)
    _, stages = FnApiRunner().create_stages(pipeline.to_runner_api())
    names = [{transform.unique_name for transform in stage.transforms} for stage in stages]
    assert sum(any("Run/Clean" in name for name in stage) for stage in names) == 1


def run_program(*words: object, **rest: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rtdscan.pipeline", "clean", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **rest)


@pytest.mark.slow
def test_as_a_user_with_child_processes(case: Case) -> None:
    done = run_program(case.output, case.cleaned, "--set", "workers=2", "--set", "duplicates.exact=true", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kept"] + told["rejected"] == 82
    assert done.stderr == ""
    assert rows_of(case.cleaned / "kept").num_rows == told["kept"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", [0, 4])
def test_killed_and_run_again_it_ends_as_if_nothing_had_happened(
    case: Case, clean: Clean, tmp_path: Path, after: int
) -> None:
    sets = ["duplicates.exact=true", "personal.kinds=[email]", "workers=2"]
    words = [part for one in sets for part in ("--set", one)]
    assert clean(case.output, tmp_path / "expected", *sets).status == 0
    command = [sys.executable, "-m", "rtdscan.pipeline", "clean", str(case.output), str(tmp_path / "killed"), *words]
    slow = "import time, rtdscan.transforms.cleaning.files as f\nwrite = f._write\n"
    slow += "def slowly(*args):\n    time.sleep(0.2)\n    write(*args)\nf._write = slowly\n"
    body = "import sys\nif '--multiprocessing-fork' in sys.orig_argv:\n" + "".join(
        f"    {line}\n" for line in slow.splitlines()
    )
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(body)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path / 'hook'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(list((tmp_path / "killed").rglob("kept/**/rg*.parquet"))) < after or not (tmp_path / "killed").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "clean.json").exists()
    for path in (tmp_path / "killed").rglob("kept/**/rg*.parquet"):
        pq.read_table(path, partitioning=None).validate(full=True)
    done = run_program(case.output, tmp_path / "killed", *words, "--json")
    assert done.returncode == 0, done.stderr
    units = json.loads(done.stdout)["units"]
    assert units.get("current", 0) >= after
    assert units.get("cleaned", 0) >= 1
    killed, expected = files_of(tmp_path / "killed"), files_of(tmp_path / "expected")
    assert killed.keys() == expected.keys()
    assert {name for name in killed if killed[name] != expected[name]} <= {"clean.json"}
