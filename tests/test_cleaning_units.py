"""Units joined with their attributes by position: however a file is cut, and never with those of other rows."""

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cleaning_rows import attributes

from rtdscan.transforms import storage
from rtdscan.transforms.clean import clean_unit, hash_unit
from rtdscan.transforms.cleaning.files import read_clean_stamp, read_rows
from rtdscan.transforms.cleaning.job import CleanJob, changes_path, kept_path, rejected_path
from rtdscan.transforms.cleaning.rows import REASON, clean_table
from rtdscan.transforms.cleaning.settings import CleanSettings
from rtdscan.transforms.cutting import cut_file
from rtdscan.transforms.records import Fingerprint, InputFile, ScoredBatch, WorkUnit
from rtdscan.transforms.shards import write_shard
from rtdscan.transforms.tally import Tally
from rtdscan.transforms.units import FileProblem, content_digest, read_footer, read_unit


def make(folder: Path, decisions: list[str], groups: list[int], cuts: list[int]) -> tuple[list[WorkUnit], pa.Table]:
    """A file with row groups of these sizes, cut again at `cuts`; a shard for each unit; and all attributes."""
    n = len(decisions)
    table = pa.table({"n": range(n), "text": [f"text {at} to p{at}@example.org" for at in range(n)]})
    path = folder / "a.parquet"
    with pq.ParquetWriter(path, table.schema) as writer:
        for first, end in itertools.pairwise(groups):
            writer.write_table(table.slice(first, end - first), row_group_size=max(1, end - first))
    size, version = storage.stat(str(path)) or (0, "")
    file = InputFile(str(path), "a.parquet", size, version, "footer")
    scored = attributes(n, decisions=decisions, first=0)
    units = []
    for number, (first, end) in enumerate(itertools.pairwise(groups)):
        edges = sorted({first, end, *(cut for cut in cuts if first < cut < end)})
        units += [
            WorkUnit(file, number, start - first, start, stop - start, 100) for start, stop in itertools.pairwise(edges)
        ]
    for unit in units:
        put(folder, unit, table, scored.slice(unit.first_row, unit.rows))
    return units, scored


def put(folder: Path, unit: WorkUnit, table: pa.Table, scored: pa.Table) -> None:
    """A shard of these attributes for a unit."""
    digest = content_digest(table["text"].slice(unit.first_row, unit.rows))
    print_ = Fingerprint(unit.file.size, unit.file.version, "footer", "0:0", digest, "s", 0.1, "p")
    batch = ScoredBatch(unit, print_, "scored", scored, Tally.zero())
    write_shard(batch, output=str(folder / "out"))


def job_of(folder: Path, **options: Any) -> CleanJob:
    chosen = CleanSettings.model_validate({"personal": {"kinds": ["email"]}, **options})
    return CleanJob(
        output=str(folder / "cleaned"), run="r", attributes=str(folder / "out"), text="text", settings=chosen
    )


def read(folder: Path, paths: list[str]) -> pa.Table:
    tables = [pq.read_table(folder / "cleaned" / path, partitioning=None) for path in paths]
    return pa.concat_tables(tables).replace_schema_metadata(None)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from(["keep", "review", "drop"]), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=3),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_however_a_file_is_cut_the_units_are_its_rows(decisions: list[str], inner: list[int], cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups = sorted({0, len(decisions), *(cut for cut in inner if cut < len(decisions))})
        units, scored = make(folder, decisions, groups, cuts)
        job = job_of(folder)
        assert [clean_unit(unit, job).outcome for unit in units] == ["cleaned"] * len(units)
        expected = clean_table(pq.read_table(folder / "a.parquet"), scored, job.settings, file="a.parquet")
        assert read(folder, [kept_path(unit) for unit in units]).to_pylist() == expected.kept.to_pylist()
        assert read(folder, [rejected_path(unit) for unit in units]).to_pylist() == expected.rejected.to_pylist()
        assert read(folder, [changes_path(unit) for unit in units]).to_pylist() == expected.changes.to_pylist()
        stamps = [read_clean_stamp(unit, job) for unit in units]
        assert [stamp.kept + stamp.rejected for stamp in stamps if stamp] == [unit.rows for unit in units]
        assert [clean_unit(unit, job).outcome for unit in units] == ["current"] * len(units)
        assert not list((folder / "cleaned" / ".attempts").rglob("*.json"))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, list[WorkUnit], pa.Table]:
    units, scored = make(tmp_path, ["keep", "drop"] * 10, [0, 20], [5, 12])
    return tmp_path, units, scored


@pytest.mark.parametrize("wrong", ["of other rows", "too few", "missing", "other text"])
def test_attributes_of_other_rows_are_never_joined(made: Any, wrong: str) -> None:
    folder, units, scored = made
    unit, table = units[1], pq.read_table(folder / "a.parquet")
    if wrong == "of other rows":
        put(folder, unit, table, scored.slice(unit.first_row + 1, unit.rows))
    elif wrong == "too few":
        put(folder, unit, table, scored.slice(unit.first_row, unit.rows - 1))
    elif wrong == "missing":
        (folder / "out" / unit.shard).unlink()
    else:
        put(folder, unit, table.set_column(1, "text", pa.array(["x"] * 20)), scored.slice(unit.first_row, unit.rows))
    done = clean_unit(unit, job_of(folder))
    assert done.outcome == "bad"
    assert "scan again" in done.reason
    assert not (folder / "cleaned" / kept_path(unit)).exists()
    assert clean_unit(units[0], job_of(folder)).outcome == "cleaned"


def test_a_unit_that_kills_its_workers_is_given_up(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, units, _ = made
    job = job_of(folder)

    class Killed(BaseException):
        """The process is gone."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("rtdscan.transforms.clean.clean_table", die)
        for _ in range(6):
            with pytest.raises(Killed):
                clean_unit(units[0], job)
    done = clean_unit(units[0], job)
    assert done.outcome == "bad"
    assert "workers died over attributes/a.parquet" in done.reason


def test_hashes_are_of_the_rows_that_are_kept(made: Any) -> None:
    folder, units, _ = made
    job = replace(job_of(folder, keep=["drop"], duplicates={"near": 0.9}), step="hash")
    assert [hash_unit(unit, job).outcome for unit in units] == ["hashed"] * 3
    found = read(folder, [f".hashes/{unit.shard.removeprefix('attributes/')}" for unit in units])
    assert found["row"].to_pylist() == list(range(1, 20, 2))
    assert found.column_names == ["row", "low", "high", "sketch"]
    assert [hash_unit(unit, job).outcome for unit in units] == ["current"] * 3
    other = replace(job, settings=job.settings.model_copy(update={"keep": ("keep",)}))
    assert [hash_unit(unit, other).outcome for unit in units] == ["hashed"] * 3


def test_the_reason_is_the_last_column(made: Any) -> None:
    folder, units, _ = made
    clean_unit(units[0], job_of(folder))
    assert read(folder, [rejected_path(units[0])]).column_names == ["n", "text", REASON]


def test_null_among_lists_of_fixed_size_could_not_be_read(tmp_path: Path) -> None:
    """1,200 rows in two row groups, so that a unit takes several batches and begins within one."""
    vectors = [[0.5, 1.0], None, [None, 2.0]] * 400
    table = pa.table(
        {
            "v": pa.array(vectors, pa.list_(pa.float32(), 2)),
            "text": pa.array([f"text {at}" for at in range(1200)], pa.large_string()),
            "h": pa.array([[1]] * 1200, pa.list_(pa.float16(), 1)),
        },
        metadata={"owner": "somebody"},
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1100)
    (entry,) = storage.expand(str(tmp_path))
    for unit in cut_file(entry, text="text", text_mb=0.01)[1]:
        mine = table.slice(unit.first_row, unit.rows)
        found = read_rows(unit, text="text", digest=content_digest(mine))
        assert found.schema.equals(read_footer(entry.path).schema, check_metadata=True)
        assert found.to_pylist() == mine.to_pylist()
    with pytest.raises(
        FileProblem, match=r"lists of fixed size with nulls among them \('v'\): leave .* out of output\.columns"
    ):
        read_unit(unit, text="text", columns=["v"])
