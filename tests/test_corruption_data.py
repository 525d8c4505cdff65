"""The demo corpus and the word lists are what their READMEs say."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rtdscan.transforms.corruption import REGISTRY, Corrupted, Span
from rtdscan.transforms.corruption.wordlist import WORDS

DEMO = WORDS.parent / "demo"
FILES = sorted(DEMO.rglob("*.parquet"))


def readme_table(path: Path, column: int) -> dict[str, str]:
    """First cell of each row of the tables of a README -> the cell of a column."""
    rows = [line.strip("| ").split(" | ") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return {name: cells[column - 1] for row in rows if len(row) > column for name, *cells in [row]}


def test_demo_spans_are_exact_and_a_third_has_errors() -> None:
    rows = [row for file in FILES for row in pq.read_table(file).to_pylist()]
    assert len(rows) == len({row["id"] for row in rows}) == 300
    planted = [row for row in rows if row["planted"]]
    assert len(planted) == 100
    assert sum(len(row["planted"]) for row in planted) == 220
    kinds = Counter(span["kind"] for row in planted for span in row["planted"])
    assert set(kinds) == set(REGISTRY) - {"shuffled", "punctuation", "real_word"}  # the last two came later
    for row in planted:
        corrupted = Corrupted(row["text"], tuple(Span(**span) for span in row["planted"]))
        assert all(row["text"][span.start : span.end] != span.original for span in corrupted.spans)
        assert len(corrupted.restored()) <= 2000
    texts = {row["id"]: row["text"] for row in rows}
    assert texts["rtdscan:null"] is None
    assert texts["rtdscan:empty"] == ""
    assert texts["rtdscan:white-space"].isspace()


def test_demo_is_small_permissive_and_has_several_units() -> None:
    assert sum(file.stat().st_size for file in FILES) < 400_000
    assert {file.parent.name for file in FILES} == {"books", "web"}
    assert pq.read_metadata(DEMO / "web" / "pages.parquet").num_row_groups == 4
    licences = {licence for file in FILES for licence in pq.read_table(file)["license"].to_pylist()}
    assert not [licence for licence in licences if "SA" in licence]


def test_demo_readme_counts() -> None:
    rows = readme_table(DEMO / "README.md", 1)
    sources = Counter(source for file in FILES for source in pq.read_table(file)["source"].to_pylist())
    for file in FILES:
        assert rows[f"`{file.relative_to(DEMO)}`"] == str(pq.read_metadata(file).num_rows)
    said = {
        name: int(count)
        for names, counts in rows.items()
        for name, count in zip(names.split(", "), counts.split(", "), strict=False)
        if name in sources
    }
    assert said == sources


@pytest.mark.parametrize("name", ["frequency", "misspellings", "neighbours"])
def test_word_lists_are_small_and_counted(name: str) -> None:
    file = WORDS / f"{name}.parquet"
    assert file.stat().st_size < 600_000
    assert readme_table(WORDS / "README.md", 1)[f"`{file.name}`"].replace(",", "") == str(
        pq.read_metadata(file).num_rows
    )
