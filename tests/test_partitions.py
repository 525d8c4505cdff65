"""Columns that are part of a path (Hive's partitions)."""

import json
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from corpora import options
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.config import ReportSettings
from rtdscan.pipeline.finished.folder import read_finished
from rtdscan.pipeline.report.collect import collect
from rtdscan.transforms import storage
from rtdscan.transforms.cutting import cut
from rtdscan.transforms.partitions import add_partitions, partitions
from rtdscan.transforms.units import read_unit


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4))
def test_what_was_written_is_read(values: dict[str, str]) -> None:
    folders = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in values.items()]
    assert partitions("/".join([*folders, "part=0.parquet"])) == values


def test_null_and_what_is_no_partition() -> None:
    assert partitions("news/lang=__HIVE_DEFAULT_PARTITION__/=x/a=1/a=2/p.parquet") == {"lang": None, "a": "2"}
    assert partitions("p.parquet") == {}


def test_a_column_of_the_file_wins() -> None:
    rows = add_partitions(pa.table({"a": [1, 2]}), "a=x/b=y/p.parquet")
    assert rows.to_pydict() == {"a": [1, 2], "b": ["y", "y"]}


def write(folder: Path, source: str, texts: list[str | None]) -> None:
    path = folder / f"source={source}" / "p.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"key": range(len(texts)), "text": texts, "z": [0.5] * len(texts)}), path)


def test_a_unit_has_its_columns_in_the_order_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "web%2Fold", ["a", "b"])
    (entry,) = storage.expand(str(tmp_path))
    _, (unit,), types = cut(entry, text="text", carried=("z",), counted=("source",), text_mb=4)
    assert types == {"z": pa.float64(), "source": pa.string()}
    for id in ("key", None):
        rows = read_unit(unit, text="text", id=id, columns=("source", "text", "z"))
        assert rows.column_names == ["text", *(["id"] if id else []), "source", "text", "z"]
        assert rows["source"].to_pylist() == ["web/old", "web/old"]
        assert rows.column(rows.num_columns - 2).to_pylist() == ["a", "b"]


@pytest.mark.usefixtures("in_process")
def test_gates_report_and_cleaning_take_them(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, output, cleaned = tmp_path / "in", str(tmp_path / "out"), str(tmp_path / "cleaned")
    write(corpus, "web", ["Some words.", None, "More words."])
    write(corpus, "news", ["Other words."])
    sets = options(tiny_bundle, "gates.rows={min: 2, by: source}", "report.by=[source]")
    scan = ["scan", str(corpus), output, *sets]
    assert main([*scan, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert {(one["of"], one["value"], one["verdict"]) for one in told["gates"]} == {
        ("web", 3, "passed"),
        ("news", 1, "failed"),
    }
    assert main([*scan, "--set", "gates={}"]) == 0  # nothing is counted by source now
    (by,) = collect(read_finished(output), ReportSettings(by=["source"], text=False)).grouped
    assert {value: group.rows for value, group in by.groups} == {"web": 3, "news": 1}
    assert main(["clean", output, cleaned, "--keep", "source == 'web' and status == 'ok'"]) == 0
    kept = ds.dataset(f"{cleaned}/kept", partitioning="hive").to_table()
    assert (kept["source"].to_pylist(), kept["key"].to_pylist()) == (["web", "web"], [0, 2])
    assert ds.dataset(f"{cleaned}/kept", format="parquet").schema.names == ["key", "text", "z"]


@pytest.mark.usefixtures("in_process")
def test_they_are_not_carried_into_shards_whose_path_has_them(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in", "web", ["Some words."])
    sets = options(tiny_bundle, "output.columns=[source]")
    assert main(["scan", str(tmp_path / "in"), str(tmp_path / "out"), *sets]) == 2
    assert "no column 'source' (it is part of the path, as it will be of OUTPUT" in capsys.readouterr().err
