"""OUTPUT: whose it is, which shards belong in it, what the manifest says."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.pipeline.contexts import SpanInContext
from rtdscan.pipeline.output import is_output, remove_stale, write_manifest
from rtdscan.pipeline.owned import check, claim
from rtdscan.pipeline.printing import shown
from rtdscan.pipeline.summary import in_context
from rtdscan.transforms import storage
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.records import MANIFEST, BadFile, Done, InputFile, WorkUnit


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with files at two depths."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.parquet", "deep/b.parquet"):
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


def refused(output: object, *inputs: object) -> str:
    with pytest.raises(UserError) as error:
        check(str(output), [str(path) for path in inputs])
    return str(error.value)


# Whose it is


def test_checking_touches_nothing_and_claiming_marks(tmp_path: Path, inputs: Path) -> None:
    output = tmp_path / "new" / "out"
    check(str(output), [str(inputs)])
    assert not output.parent.exists()
    claim(str(output), [str(inputs)])
    assert is_output(str(output))
    before = (output / ".rtdscan.json").stat()
    claim(str(output), [str(inputs)])
    assert (output / ".rtdscan.json").stat() == before
    assert json.loads((output / ".rtdscan.json").read_text()) == {"format": 1, "inputs": [str(inputs)]}


def test_one_input_has_many_spellings(tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = str(tmp_path / "out")
    claim(output, [str(inputs), str(inputs / "a.parquet")])
    monkeypatch.chdir(inputs)
    for spelt in (["a.parquet", "."], [f"{inputs}/", "../in/a.parquet"], [f"file://{inputs}", "./a.parquet", "."]):
        check(output, spelt)
    assert "belongs to another INPUT" in refused(output, "a.parquet")


def test_a_glob_that_the_shell_expands_is_told_to_be_quoted(tmp_path: Path, inputs: Path) -> None:
    output = tmp_path / "out"
    names = [str(tmp_path / f"{number}.parquet") for number in range(9)]
    claim(str(output), names)
    told = refused(output, *names[:8])
    assert "add --moved, and quote a glob or name its folder" in told
    assert f"({', '.join(names[:3])} and 6 more), not {', '.join(names[:3])} and 5 more;" in told
    claim(str(output), names[:8], moved=True)
    check(str(output), names[:8])


@pytest.mark.parametrize("left", ["", ".lock", ".tmp-0a1b2c3d-17-ffff"])
def test_an_empty_folder_may_be_taken(tmp_path: Path, inputs: Path, left: str) -> None:
    """Also one where a scan was killed before it put its marker."""
    output = tmp_path / "out"
    output.mkdir()
    if left:
        (output / left).write_bytes(b"{}")
    claim(str(output), [str(inputs)])
    assert is_output(str(output))


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b"null", b'{"inputs": 7}', b"\xff", b"{}"])
def test_a_damaged_marker_is_nobodys(tmp_path: Path, inputs: Path, marker: bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".rtdscan.json").write_bytes(marker)
    assert ".rtdscan.json is damaged" in refused(tmp_path / "out", inputs)


def test_what_is_no_folder(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert f"{tmp_path}/file is a file; name a folder" in refused(tmp_path / "file", inputs)
    assert f"{tmp_path}/file is a file; name a folder" in refused(tmp_path / "file" / "deep" / "out", inputs)
    assert "gone is a link to nothing; name a folder" in refused(tmp_path / "gone", inputs)


# Apart from INPUT


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("in", "in"),
        ("in", "in/out"),
        ("in/", "in/deep/out"),
        (".", "out"),
        ("in/*", "in/out"),
        ("in/d*/*.parquet", "in/deep"),
        ("in/**/*.parquet", "in/x/out"),
        ("in/*.parquet", "in"),
        ("in", "link/out"),  # link -> in
        ("link", "in/out"),
        ("link/*", "in/out"),
        ("in", "in/through/out"),  # through -> elsewhere, and links are followed
    ],
)
def test_output_that_would_be_read_as_input(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("in")
    (inputs / "through").symlink_to(tmp_path / "elsewhere")
    assert f"OUTPUT {output} lies inside INPUT {pattern}" in refused(output, pattern)
    assert "lies inside INPUT" in refused(tmp_path / output, tmp_path / pattern)


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("in/a.parquet", "in/out"),
        ("in/*.parquet", "in/out"),
        ("in/d*/*.parquet", "in/out"),
        ("in/*/*.parquet", "out"),
        ("in", "in2"),
        ("in", "in/../out"),
    ],
)
def test_output_beside_what_is_read(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    check(output, [pattern])


@pytest.mark.parametrize(
    "pattern", ["out/in", "out/in/a.parquet", "out/in/*.parquet", "out/*.parquet", "link/a.parquet"]
)
def test_input_inside_output(tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.chdir(tmp_path)
    claim("out", ["elsewhere"])
    inputs.rename(tmp_path / "out" / "in")
    (tmp_path / "link").symlink_to("out/in")
    assert "lies inside" in refused("out", pattern)


NAMES = st.sampled_from(["a", "ab", "b", "x.parquet", "y.parquet"])
PARTS = st.sampled_from(["a", "a*", "*", "**", "?", "*.parquet"])


@given(pattern=st.lists(PARTS, min_size=1, max_size=3), folder=st.lists(NAMES, min_size=1, max_size=3))
def test_covers_what_listing_would_find(
    tmp_path_factory: pytest.TempPathFactory, pattern: list[str], folder: list[str]
) -> None:
    """Whatever an input finds in a folder, it covers the folder, or lies inside it."""
    root = tmp_path_factory.mktemp("covers")
    given_pattern = "/".join([str(root), *pattern])
    covered = storage.covers(given_pattern, str(root.joinpath(*folder)))
    inside = Path(storage.glob_root(given_pattern)).is_relative_to(root.joinpath(*folder))
    for name in ("a", "ab", "b", "x.parquet"):  # folders and files of names that patterns like
        made = root.joinpath(*folder, name)
        made.mkdir(parents=True)
        (made / "y.parquet").write_bytes(b"")
    (root.joinpath(*folder) / "z.parquet").write_bytes(b"")
    try:
        found = [e for e in storage.expand(given_pattern) if Path(e.path).is_relative_to(root.joinpath(*folder))]
    except UserError:
        found = []
    assert covered or inside or not found


# Shards


def unit(relative: str, first_row: int = 0) -> WorkUnit:
    return WorkUnit(InputFile(f"/in/{relative}", relative, 1, "1", ""), 0, first_row, first_row, 5, 50)


def test_only_shards_of_no_unit_are_removed(tmp_path: Path) -> None:
    kept = [unit("a.parquet"), unit("_b/ü c.parquet"), unit("a.parquet", 5)]
    shards = [*kept, unit("a.parquet", 10), unit("gone.parquet"), unit("bad.parquet"), unit("bad.parquet2")]
    for one in shards:
        storage.put_bytes(str(tmp_path / one.shard), b"")
    (tmp_path / "attributes" / "notes.txt").write_bytes(b"")
    bad = BadFile("/in/bad.parquet", "bad.parquet", "cut short")
    assert remove_stale(str(tmp_path), kept, bad_files=[bad]) == 3
    left = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "attributes").rglob("*.*") if path.is_file()}
    assert left == {*(one.shard for one in kept), unit("bad.parquet").shard, "attributes/notes.txt"}
    folders = {path.name for path in (tmp_path / "attributes").iterdir()}
    assert folders == {"a.parquet", "_b", "bad.parquet", "notes.txt"}, "those of files that have gone stayed"
    assert remove_stale(str(tmp_path), kept, bad_files=[bad]) == 0
    assert remove_stale(str(tmp_path / "nothing"), kept) == 0


def test_files_of_others_are_no_shards(tmp_path: Path) -> None:
    """A folder that was linked under attributes/ lost its Parquet files."""
    others = tmp_path / "others"
    others.mkdir()
    (others / "keep.parquet").write_bytes(b"")
    storage.put_bytes(str(tmp_path / "out" / unit("gone.parquet").shard), b"")
    (tmp_path / "out" / "attributes" / "extra").symlink_to(others)
    assert remove_stale(str(tmp_path / "out"), []) == 1
    assert (others / "keep.parquet").exists()


def test_a_manifest_has_a_row_a_unit_and_a_row_a_bad_file(tmp_path: Path) -> None:
    units = [unit("a.parquet"), unit("b.parquet")]
    done = {units[0].shard: Done(units[0].shard, "bad", "", 1.5, "torn", "here:1")}
    bad = [BadFile("/in/\\xff.parquet", "\\xff.parquet", "not Parquet")]
    write_manifest(str(tmp_path), units=units, done=done, stamps={}, bad_files=bad)
    found = pq.read_table(tmp_path / "manifest.parquet")
    assert found.schema.equals(MANIFEST)
    rows = found.to_pylist()
    assert [(row["file"], row["status"], row["reason"]) for row in rows] == [
        ("a.parquet", "bad", "torn"),
        ("b.parquet", "current", None),
        ("\\xff.parquet", "bad", "not Parquet"),
    ]
    assert [row["row_group"] for row in rows] == [0, 0, None]
    assert [row["shard"] for row in rows] == [None] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.parquet"]


def test_an_empty_manifest_keeps_its_schema(tmp_path: Path) -> None:
    write_manifest(str(tmp_path), units=[], done={}, stamps={}, bad_files=[])
    found = pq.read_table(tmp_path / "manifest.parquet")
    assert found.num_rows == 0
    assert found.schema.equals(MANIFEST)
    assert pa.types.is_int64(found.schema.field("first_row").type)
    assert os.listdir(tmp_path) == ["manifest.parquet"]


def test_the_worst_spans_are_told_with_how_sure_a_suggestion_is() -> None:
    span = SpanInContext(
        "a.parquet", 7, 0.98, "He saw ", "teh", " house", suggestions=("the", "ten"), sure=(0.97, 0.02)
    )
    assert str(in_context(span)) == "  0.980  …He saw [teh] house…  → the 0.97  (a.parquet row 7)"
    assert "→" not in str(in_context(replace(span, suggestions=(), sure=())))


def test_names_are_shown_without_control_characters() -> None:
    """They may come from anybody: a terminal obeyed the escape sequences in an id."""
    assert shown("a\x1b[31m\n\u202eb é 中 'x' \\") == "a\\x1b[31m\\n\\u202eb é 中 'x' \\"
    assert shown("\udcff") == "\\udcff"
    assert shown("a" * 500, most=5) == "aaaaa…"
