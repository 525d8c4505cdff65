"""A file's footer is parsed once for consecutive units of it."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rtdscan.pipeline.finished.texts import _read_columns
from rtdscan.transforms import footers, storage
from rtdscan.transforms.cleaning.files import read_rows
from rtdscan.transforms.cutting import cut_file
from rtdscan.transforms.records import WorkUnit
from rtdscan.transforms.units import FileProblem, content_digest, read_unit


def units_of(path, table: pa.Table) -> list[WorkUnit]:
    pq.write_table(table, path, row_group_size=2)
    return cut_file(storage.expand(str(path))[0], text="text", text_mb=4.0)[1]


@pytest.fixture
def corpus(tmp_path) -> tuple[list[WorkUnit], list[WorkUnit]]:
    """Two files of three units each; the second one's text is a dictionary, which is opened in another way."""
    words = pa.array(["one", "two", "three", None, "five", "six"])
    return (
        units_of(tmp_path / "a.parquet", pa.table({"text": words, "n": range(6)})),
        units_of(tmp_path / "b.parquet", pa.table({"n": range(6, 12), "text": words.dictionary_encode()})),
    )


@pytest.fixture
def parsed(monkeypatch) -> list[str]:
    """Files whose footer was parsed, as they were."""
    names = []

    class Counting(pq.ParquetFile):
        def __init__(self, source, *, metadata=None, **options):
            super().__init__(source, metadata=metadata, **options)
            if metadata is None:
                names.append("b" if self.schema_arrow.names[0] == "n" else "a")

    monkeypatch.setattr(footers.pq, "ParquetFile", Counting)
    monkeypatch.setattr(footers, "_last", None)
    return names


def fresh(unit: WorkUnit, read) -> pa.Table:
    """As a process reads it that read nothing before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footers, "_last", None)
        return read(unit)


def test_every_unit_parsed_the_whole_footer(corpus, parsed):
    """A file of 3,000 row groups and 32 columns took as long to open, for each of them, as to score."""
    a, b = corpus
    readers = (
        lambda unit: read_unit(unit, text="text", columns=["n"]),
        lambda unit: _read_columns(unit, ["n", "text"]),
        lambda unit: read_rows(unit, text="text", digest=content_digest(read_unit(unit, text="text"))),
    )
    for read in readers:
        expected = [fresh(unit, read) for unit in (*a, *b)]
        footers._last = None
        parsed.clear()
        assert [read(unit) for unit in (*a, *b)] == expected
        assert parsed == ["a", "b"]
    assert read_unit(a[0], text="text") == fresh(a[0], lambda unit: read_unit(unit, text="text"))
    assert parsed[2:3] == ["a"]  # one footer is kept, the last


def test_threads_read_their_own_files(corpus):
    a, b = corpus
    mixed = [unit for pair in zip(a, b, strict=True) for unit in pair] * 4
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda unit: read_unit(unit, text="text", columns=["n"])["n"].to_pylist(), mixed))
    assert found == [list(range(start, start + 2)) for start in (0, 6, 2, 8, 4, 10)] * 4


def test_a_kept_footer_is_not_taken_for_that_of_a_changed_file(corpus, tmp_path):
    a, _ = corpus
    read_unit(a[0], text="text")
    again = units_of(tmp_path / "a.parquet", pa.table({"text": ["longer texts than before"] * 8}))
    with pytest.raises(FileProblem, match="has changed since the plan was made"):
        read_unit(a[1], text="text")
    assert [read_unit(unit, text="text").num_rows for unit in again] == [2] * 4
