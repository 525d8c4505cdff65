"""What goes wrong, as a user meets it: exit status, a line that says what to do, and what lies in OUTPUT afterwards."""

import json
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from corpora import Ran, attributes, metrics_of, options, run_here, shards, table, text, write_corpus
from tiny import make_tiny_bundle

from rtdscan.pipeline.__main__ import main
from rtdscan.transforms import storage
from rtdscan.transforms.errors import StoreError
from rtdscan.transforms.shards import read_stamp

pytestmark = pytest.mark.usefixtures("in_process")

LOCAL = "rtdscan.pipeline.launchers.local.run_local"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files, 82 rows."""
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


Scan = Callable[..., Ran]


@pytest.fixture
def scan(capsys: pytest.CaptureFixture[str], tiny_bundle: Path) -> Scan:
    """`scan(INPUT..., OUTPUT, *settings)`: settings are those with a `=`; `id` is not configured unless one says so."""

    def run(*words: object) -> Ran:
        paths = [str(word) for word in words if isinstance(word, Path) or "=" not in str(word)]
        sets = [str(word) for word in words if not isinstance(word, Path) and "=" in str(word)]
        capsys.readouterr()
        status = main(["scan", *paths, *options(tiny_bundle, "input.id=null", "report.enabled=false", *sets)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(status, out, err)

    return run


def snapshot(folder: Path) -> dict[str, bytes | str | None]:
    """All that lies below a folder, with what is in it."""
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(scan: Scan, tmp_path: Path) -> Callable[..., str]:
    """A scan that ends with status 2, one line, and not a byte changed."""

    def run(*words: object) -> str:
        before = snapshot(tmp_path)
        ran = scan(*words)
        assert ran.status == 2, ran
        assert ran.out == ""
        assert snapshot(tmp_path) == before
        return ran.told

    return run


def manifest(output: Path) -> list[dict[str, Any]]:
    return pq.read_table(output / "manifest.parquet").to_pylist()


def reasons(output: Path) -> dict[str, str]:
    """Bad files and units of the manifest, by file."""
    return {row["file"]: row["reason"] for row in manifest(output) if row["status"] == "bad"}


def units(output: Path) -> dict[str, int]:
    """Units by what became of them, as run.json tells it."""
    counts: dict[str, int] = json.loads((output / "run.json").read_text())["summary"]["units"]
    return counts


def whole(output: Path) -> None:
    """Nothing is half written: every shard can be read and says what it is, and no temporary is left."""
    found = shards(output) if (output / "attributes").exists() else {}
    for path in found:
        assert read_stamp(str(output / path)), path
        pq.read_table(output / path, partitioning=None)
    assert not list(output.rglob(".tmp-*"))
    assert not (output / ".attempts").exists()


# ---------------------------------------------------------------------------------------------------------------------
# INPUT


def test_input_that_is_not_there(refused: Callable[..., str], tmp_path: Path, output: Path) -> None:
    assert "missing does not exist: expected a Parquet file" in refused(tmp_path / "missing", output)
    assert "no.parquet does not exist" in refused(tmp_path / "no.parquet", output)
    assert "*.parquet matches no Parquet file" in refused(tmp_path / "*.parquet", output)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("hello")
    told = refused(tmp_path / "empty", output)
    assert "no Parquet files in" in told
    assert ".parquet, .parq, .pq" in told


def bad_files(folder: Path, corpus: Path) -> dict[str, str]:
    """Files that can't be scanned, with a part of what has to be said of them."""
    folder.mkdir(exist_ok=True)
    good = (corpus / "a.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(good[: len(good) // 2])
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "text.parquet").write_text("This is just some text that somebody gave a wrong name.\n" * 20)
    (folder / "gone.parquet").symlink_to(folder / "nowhere")
    write_encrypted(folder / "secret.parquet", plaintext_footer=False)
    pq.write_table(pa.table({"text": [1, 2]}), folder / "numbers.parquet")
    pq.write_table(pa.table({"body": ["a"]}), folder / "other.parquet")
    return {
        "cut.parquet": "cut short",
        "empty.parquet": "not Parquet: 0 bytes",
        "text.parquet": "not Parquet",
        "gone.parquet": "gone.parquet",
        "secret.parquet": "encrypted",
        "numbers.parquet": "column 'text' is int64, expected string or binary",
        "other.parquet": "no column 'text'; its columns: body (string)",
    }


class _Kms(encryption.KmsClient):  # type: ignore[misc]
    """Keeps keys by not hiding them."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, master: str) -> bytes:
        return key.hex().encode()

    def unwrap_key(self, wrapped: bytes, master: str) -> bytes:
        return bytes.fromhex(wrapped.decode())


def write_encrypted(path: Path, *, plaintext_footer: bool) -> None:
    config = encryption.EncryptionConfiguration(
        footer_key="footer", column_keys={"text": ["text"]}, plaintext_footer=plaintext_footer
    )
    properties = encryption.CryptoFactory(_Kms).file_encryption_properties(encryption.KmsConnectionConfig(), config)
    with pq.ParquetWriter(path, table(0, 9).schema, encryption_properties=properties) as writer:
        writer.write_table(table(0, 9))


def test_input_where_nothing_can_be_read(refused: Callable[..., str], corpus: Path, output: Path) -> None:
    folder = corpus.parent / "bad"
    for name, part in bad_files(folder, corpus).items():
        told = refused(folder / name, output, "input.text=text")
        assert name in told
        assert part in told
    assert "none of the 7 files can be scanned" in refused(folder, output, "input.text=text")


@pytest.mark.parametrize("schema", ["missing", "not text", "several", "none", "nested"])
def test_text_column_that_is_not_clear(refused: Callable[..., str], tmp_path: Path, output: Path, schema: str) -> None:
    columns: dict[str, Any] = {"key": [1], "title": ["a"], "body": ["b"], "price": [1.5]}
    listed = "key (int64), title (string), body (string), price (double)"
    setting, wrong = {
        "missing": ("input.text=txt", "has no column 'txt'"),
        "not text": ("input.text=price", "column 'price' is double, expected string or binary"),
        "several": ("input.text=null", "has 2 string columns: name the text column by input.text"),
        "none": ("input.text=null", "has no string column: name the text column by input.text"),
        "nested": ("input.text=doc.txt", "has no column 'doc.txt'"),
    }[schema]
    if schema == "none":
        columns, listed = {"key": [1], "raw": [b"x"]}, "key (int64), raw (binary)"
    if schema == "nested":
        columns, listed = {"doc": [{"text": "a", "n": 1}]}, "doc.text (string), doc.n (int64)"
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    told = refused(tmp_path / "a.parquet", output, setting)
    assert f"{tmp_path}/a.parquet" in told
    assert wrong in told
    assert f"its columns: {listed}" in told


def test_other_columns_that_are_wrong(refused: Callable[..., str], corpus: Path, output: Path) -> None:
    listed = "its columns: key (uint32), source (dictionary<values=string, indices=int32, ordered=0>), text (string)"
    for setting in ("input.id=url", "output.columns=[source, url]"):
        told = refused(corpus, output, setting)
        assert "has no column 'url'" in told
        assert listed in told
    folder = corpus.parent / "attribute"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"], "score": [1.0], "id": [7], "embedding": [0]}), folder / "a.parquet")
    assert "output.columns: score is the name of an attribute" in refused(folder, output, "output.columns=[score]")
    without = ("output.columns=[embedding]", "output.embedding=none")
    assert "output.columns: embedding is the name of an attribute" in refused(folder, output, *without)
    assert "output.columns: id is the name" in refused(folder, output, "input.id=id", "output.columns=[id]")
    assert "output.columns: id " in refused(folder, output, "output.columns=[id, id]")


def test_nested_text_is_found_and_scored(scan: Scan, tmp_path: Path, output: Path) -> None:
    rows = [{"doc": {"text": text(1), "title": "a"}, "n": 1}, {"doc": None, "n": 2}, {"doc": {"text": None}, "n": 3}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert scan(tmp_path / "a.parquet", output, "input.id=n").status == 0
    assert json.loads((output / "run.json").read_text())["text"] == "doc.text"
    found = attributes(output)
    assert found["status"].to_pylist() == ["ok", "null", "null"]
    assert found["id"].to_pylist() == [1, 2, 3]


def test_no_rows_and_no_row_groups(scan: Scan, tmp_path: Path, output: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(table(0, 0), folder / "rows.parquet")
    pq.ParquetWriter(folder / "groups.parquet", table(0, 0).schema).close()
    assert pq.read_metadata(folder / "groups.parquet").num_row_groups == 0
    ran = scan(folder, output)
    assert (ran.status, ran.err) == (0, "")
    assert "documents  0 (none)" in ran.out
    run = json.loads((output / "run.json").read_text())
    assert run["files"] == 2
    assert run["summary"]["metrics"]["rows"] == 0
    assert manifest(output) == []
    assert "rtdscan_rows 0.0" in metrics_of(output)
    pq.write_table(table(0, 3), folder / "rows.parquet")
    assert scan(folder, output).status == 0
    assert attributes(output).num_rows == 3


# ---------------------------------------------------------------------------------------------------------------------
# Texts


def test_rows_that_cannot_be_scored_stay(scan: Scan, tmp_path: Path, output: Path) -> None:
    texts = [text(1).encode(), None, b"", " \n\t\u3000".encode(), "naïve café".encode("latin-1"), text(2).encode()]
    texts += ["“quoted”".encode("cp1252"), "words".encode("utf-16"), text(3).encode("utf-8")[:-1] + b"\xe6", b"\0\0"]
    pq.write_table(pa.table({"raw": pa.array(texts, pa.binary())}), tmp_path / "a.parquet")
    ran = scan(tmp_path / "a.parquet", output, "input.text=raw")
    assert (ran.status, ran.err) == (0, "")
    found = attributes(output)
    status = found["status"].to_pylist()
    assert status == ["ok", "null", "empty", "empty", *["invalid"], "ok", *["invalid"] * 3, status[9]]
    assert status[9] in ("ok", "empty")
    assert found["row"].to_pylist() == list(range(10))
    told = found["reason"].to_pylist()
    assert told[1:5] == [
        "the text is null",
        "no text",
        "nothing but white space",
        "byte 0xef at offset 2 is not valid UTF-8",
    ]
    assert told[6].startswith("byte 0x93 at offset 0 ")
    for row in found.to_pylist():
        if row["status"] != "ok":
            assert (row["score"], row["spans"], row["decision"]) == (None, None, "review")
            assert row["reason"]
            assert row["embedding"] == [None] * 32
    alone = tmp_path / "alone.parquet"
    pq.write_table(pa.table({"raw": pa.array([texts[0], texts[5]], pa.binary())}), alone)
    assert scan(alone, tmp_path / "out2", "input.text=raw").status == 0
    assert attributes(tmp_path / "out2")["score"].to_pylist() == [found["score"][0].as_py(), found["score"][5].as_py()]


def unchecked(values: list[bytes]) -> pa.Array:
    """Strings whose bytes nobody looked at, as careless writers store them."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


@pytest.mark.parametrize("form", ["string", "large_string", "dictionary"])
def test_string_columns_that_are_not_utf8(scan: Scan, tmp_path: Path, output: Path, form: str) -> None:
    values = unchecked([b"caf\xe9 au lait", text(1).encode(), b"\xff\xfe"])
    if form == "large_string":
        values = values.cast(pa.binary()).cast(pa.large_binary()).view(pa.large_string())
    if form == "dictionary":
        values = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), values)
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    ran = scan(tmp_path / "a.parquet", output)
    assert (ran.status, ran.err) == (0, "")
    assert attributes(output)["status"].to_pylist() == ["invalid", "ok", "invalid"]


def test_ids_and_carried_columns_that_are_not_utf8(scan: Scan, tmp_path: Path, output: Path) -> None:
    names = unchecked([b"caf\xe9", b"plain", b"\xff"])
    pq.write_table(pa.table({"text": [text(n) for n in range(3)], "name": names}), tmp_path / "a.parquet")
    ran = scan(tmp_path / "a.parquet", output, "input.id=name", "output.columns=[name]")
    assert (ran.status, ran.err) == (0, "")
    found = attributes(output)
    assert found["id"].cast(pa.binary()).to_pylist() == [b"caf\xe9", b"plain", b"\xff"]


def test_text_in_another_language_is_doubted(
    scan: Scan, tmp_path: Path, output: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    greek = "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί."
    pq.write_table(pa.table({"text": [greek, text(1)]}), tmp_path / "a.parquet")
    ran = scan(tmp_path / "a.parquet", output)
    assert ran.status == 0
    metrics = json.loads((output / "run.json").read_text())["summary"]["metrics"]
    assert metrics["unknown_share"] > 0.1
    doubt = f"{metrics['unknown_share']:.0%} of tokens are outside the model's vocabulary: is the text in the model's"
    assert f"warning: {doubt}" in ran.out
    assert (
        main(["scan", str(tmp_path / "a.parquet"), str(output), "--json", *options(tiny_bundle, "input.id=null")]) == 0
    )
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning.startswith(doubt)
    pq.write_table(pa.table({"text": [text(1), text(2)]}), tmp_path / "a.parquet")
    assert "warning" not in scan(tmp_path / "a.parquet", output).out


# ---------------------------------------------------------------------------------------------------------------------
# Names


def test_equal_names_spaces_unicode_and_links(scan: Scan, tmp_path: Path, output: Path) -> None:
    root = tmp_path / "in put"
    names = ["x/same.parquet", "y/same.parquet", "a b/ü ⊙.parquet", "rg00000-row000000000.parquet/same.parquet"]
    for at, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(10 * at, 5, odd=False), root / name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pq.write_table(table(100, 5, odd=False), elsewhere / "real.parquet")
    (root / "file.parquet").symlink_to(elsewhere / "real.parquet")
    (root / "folder").symlink_to(elsewhere)
    (root / "x" / "round").symlink_to(root)
    ran = scan(root, output, "input.id=key")
    assert (ran.status, ran.err) == (0, "")
    files = {row["file"] for row in manifest(output)}
    assert files == {*names, "file.parquet", "folder/real.parquet"}
    found = attributes(output)
    assert sorted(found["id"].to_pylist()) == sorted(
        [*(10 * at + n for at in range(4) for n in range(5)), *(2 * list(range(100, 105)))]
    )
    before = shards(output)
    assert scan(root, output, "input.id=key").status == 0
    assert units(output) == {"current": len(before)}
    (root / "file.parquet").unlink()
    assert scan(root, output, "input.id=key").status == 0
    removed = set(before) - set(shards(output))
    assert removed == {path for path in before if "/file.parquet/" in path}
    assert removed


def test_names_that_are_not_utf8(scan: Scan, tmp_path: Path) -> None:
    root, output = tmp_path / "in\udcff", tmp_path / "out\udcfe"
    root.mkdir()
    pq.write_table(table(0, 5), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(root / "\udce9t\udce9.parquet")
    (root / "bad\udcff.parquet").write_bytes(b"no")
    ran = scan(root, output)
    assert ran.status == 1
    assert "bad\\xff.parquet is not Parquet" in ran.told
    ran = scan(root, output, "on_bad_file=quarantine")
    assert ran.status == 0
    assert f"output: {tmp_path}/out\\xfe" in ran.out
    output = output.rename(tmp_path / "out")  # pyarrow itself cannot read below such a name
    assert {row["file"] for row in manifest(output)} == {"\\xe9t\\xe9.parquet", "bad\\xff.parquet"}
    assert attributes(output).num_rows == 5
    assert units(output)["current"] == 1
    assert json.loads((output / "run.json").read_text())["inputs"] == [f"{tmp_path}/in\\xff"]


# ---------------------------------------------------------------------------------------------------------------------
# Some of many files are bad


def damage(path: Path, *, row_group: int) -> None:
    """Flip bytes inside the text column of a row group."""
    chunk = pq.read_metadata(path).row_group(row_group).column(2)
    assert chunk.path_in_schema == "text"
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    for at in range(start + 40, start + chunk.total_compressed_size - 8, 3):
        data[at] ^= 0x55
    path.write_bytes(data)


def test_bad_files_among_good_ones(
    scan: Scan, corpus: Path, output: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scan(corpus, tmp_path / "clean").status == 0
    expected = shards(tmp_path / "clean")
    told = {f"bad/{name}": part for name, part in bad_files(corpus / "bad", corpus).items()}
    shutil.copy(corpus / "a.parquet", corpus / "torn.parquet")
    damage(corpus / "torn.parquet", row_group=1)
    write_encrypted(corpus / "veiled.parquet", plaintext_footer=True)
    told |= {"torn.parquet": ", row group 1, rows ", "veiled.parquet": "has encrypted columns: decrypt it first"}

    ran = scan(corpus, output)
    assert ran.status == 1
    assert "all that could be read is done" in ran.told
    assert "repair or remove what is bad and run the same command again" in ran.told
    assert "on_bad_file=quarantine" in ran.told
    assert "more, see manifest.parquet" in ran.told
    listed = reasons(output)
    assert set(listed) == set(told)
    for name, part in told.items():
        assert part in listed[name]
        assert Path(name).name in listed[name]
        assert listed[name] in ran.out
    good = shards(output)
    assert {path: data for path, data in good.items() if "torn" not in path} == expected
    whole(output)
    assert not (output / "run.json").exists()
    prometheus = metrics_of(output)
    bad_rows = [row for row in manifest(output) if row["status"] == "bad"]
    assert f"rtdscan_bad_inputs {len(bad_rows):.1f}" in prometheus
    assert "rtdscan_finished 0.0" in prometheus
    # Of the torn file the sound row group is there.
    rows_of_torn = [row for row in manifest(output) if row["file"] == "torn.parquet"]
    assert {row["row_group"] for row in rows_of_torn if row["status"] == "scored"} == {0}
    assert {row["row_group"] for row in rows_of_torn if row["status"] == "bad"} == {1}
    assert all(row["shard"] is None for row in bad_rows)

    assert main(["scan", str(corpus), str(output), "--json", *options(tiny_bundle, "input.id=null")]) == 1
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert summary["finished"] is False
    assert {Path(bad["path"]).relative_to(corpus).as_posix() for bad in summary["bad"]} == set(told)
    assert len(err.splitlines()) == 1

    ran = scan(corpus, output, "on_bad_file=quarantine")
    assert ran.status == 0
    assert "left out: " in ran.told
    assert f"(and {len(bad_rows) - 1} more, see manifest.parquet)" in ran.told
    assert units(output) == {
        "bad": len([row for row in bad_rows if row["row_group"] is not None]),
        "current": len(good),
    }
    assert reasons(output) == listed
    run = json.loads((output / "run.json").read_text())
    assert [bad["reason"] for bad in run["summary"]["bad"]] == [
        *(row["reason"] for row in bad_rows if row["row_group"] is None),
        *(row["reason"] for row in bad_rows if row["row_group"] is not None),
    ]
    assert "rtdscan_finished 1.0" in metrics_of(output)

    shutil.rmtree(corpus / "bad")
    (corpus / "veiled.parquet").unlink()
    shutil.copy(corpus / "a.parquet", corpus / "torn.parquet")
    ran = scan(corpus, output)
    assert (ran.status, ran.err) == (0, "")
    done = units(output)
    assert reasons(output) == {}
    # The repaired file's time changed: what was scored of it is kept.
    assert done == {
        "scored": sum(1 for row in bad_rows if row["file"] == "torn.parquet"),
        "restamped": len([row for row in rows_of_torn if row["status"] == "scored"]),
        "current": len(expected),
    }
    assert attributes(output).num_rows == 82 + 40
    whole(output)


def test_what_was_scored_before_a_file_went_bad(scan: Scan, corpus: Path, output: Path) -> None:
    """Its old shards stay, but the run does not count them; also where the worst spans are to be shown."""
    assert scan(corpus, output).status == 0
    before, good = shards(output), (corpus / "a.parquet").read_bytes()
    damage(corpus / "a.parquet", row_group=0)
    ran = scan(corpus, output, "log.text=true")
    assert ran.status == 1
    assert "a.parquet, row group 0" in ran.told
    assert set(shards(output)) == set(before)
    bad = [row for row in manifest(output) if row["status"] == "bad"]
    assert {row["shard"] for row in bad} == {None}
    assert "rtdscan_rows 57.0" in metrics_of(output)  # 82 without the 25 of the row group
    (corpus / "a.parquet").write_bytes(good[:-9])
    assert scan(corpus, output).status == 1
    assert set(shards(output)) == set(before)
    (corpus / "a.parquet").write_bytes(good)
    assert scan(corpus, output).status == 0
    assert "scored" not in units(output)
    assert attributes(output).num_rows == 82


def test_a_finished_output_held_shards_of_files_that_had_gone_bad(
    scan: Scan, corpus: Path, output: Path, tmp_path: Path
) -> None:
    """Of other thresholds and columns: who read attributes/** got rows that no manifest named, or an error."""
    old = ("on_bad_file=quarantine", "output.columns=[source]")
    assert scan(corpus, output, *old).status == 0
    before = set(shards(output))
    good = {name: (corpus / name).read_bytes() for name in ("a.parquet", "news item/b.parquet")}
    damage(corpus / "a.parquet", row_group=0)
    (corpus / "news item" / "b.parquet").write_bytes(b"PAR1")
    assert scan(corpus, output, "thresholds.flag=0.7").status == 1
    assert set(shards(output)) == before, "unfinished: nothing is lost"
    assert scan(corpus, output, "on_bad_file=quarantine", "thresholds.flag=0.7").status == 0
    assert set(shards(output)) == {row["shard"] for row in manifest(output) if row["shard"]}
    summary = json.loads((output / "run.json").read_text())["summary"]
    assert attributes(output).num_rows == summary["metrics"]["rows"] == 15 + 12
    assert "source" not in attributes(output).column_names
    for name, data in good.items():
        (corpus / name).write_bytes(data)
    assert scan(corpus, output, "thresholds.flag=0.7").status == 0
    assert units(output)["scored"] >= 3
    assert scan(corpus, tmp_path / "fresh", "thresholds.flag=0.7").status == 0
    assert shards(output) == shards(tmp_path / "fresh")


def test_a_run_that_could_not_be_written_is_not_finished(
    scan: Scan, corpus: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """metrics.prom said `rtdscan_finished 1` when the disk filled before run.json."""

    def full(path: str, data: bytes) -> None:
        if path.endswith("run.json"):
            raise StoreError(f"cannot write {path}: No space left on device")
        put(path, data)

    put = storage.put_bytes
    monkeypatch.setattr(storage, "put_bytes", full)
    assert scan(corpus, output).status == 1
    assert not (output / "run.json").exists()
    assert "rtdscan_finished 0.0" in metrics_of(output)
    monkeypatch.setattr(storage, "put_bytes", put)
    assert scan(corpus, output).status == 0
    assert "rtdscan_finished 1.0" in metrics_of(output)


def test_a_damaged_shard_is_scored_again_when_it_is_needed(scan: Scan, corpus: Path, output: Path) -> None:
    """Its footer is sound, so nobody looks at its rows until other thresholds want them."""
    assert scan(corpus, output).status == 0
    path = output / sorted(shards(output))[0]
    data = bytearray(path.read_bytes())
    for at in range(10, 400, 3):
        data[at] ^= 0x55
    path.write_bytes(data)
    assert scan(corpus, output, "thresholds.flag=0.7").status == 0
    assert units(output)["scored"] == 1
    whole(output)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    rows = table(500, 30)
    pq.write_table(rows, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


CHANGES = {
    "grew": (append, "has changed since the plan was made"),
    "replaced": (replace, "has changed since the plan was made"),
    "deleted": (Path.unlink, "has gone since the plan was made"),
}


@pytest.mark.parametrize(
    ("change", "when"),
    [("grew", "while it was read"), ("replaced", "before"), ("replaced", "while it was read"), ("deleted", "before")],
)
def test_a_file_that_changes_under_the_scan(
    scan: Scan, corpus: Path, output: Path, monkeypatch: pytest.MonkeyPatch, change: str, when: str
) -> None:
    victim = corpus / "news item" / "b.parquet"
    act, said = CHANGES[change]

    @contextmanager
    def open_read(path: str) -> Iterator[Any]:
        with opened(path) as source:
            if path == str(victim) and victim.stat().st_mtime_ns == planned:
                act(victim)
            yield source

    opened, planned = storage.open_read, victim.stat().st_mtime_ns

    def launch(*args: Any, **rest: Any) -> Any:
        if when == "before":
            act(victim)
        else:
            monkeypatch.setattr("rtdscan.transforms.storage.open_read", open_read)
        return run_here(*args, **rest)

    monkeypatch.setattr(LOCAL, launch)
    ran = scan(corpus, output)
    assert ran.status == 1
    assert f"{victim} {said}" in ran.told
    assert "run again" in ran.told
    assert set(reasons(output)) == {"news item/b.parquet"}
    assert {row["status"] for row in manifest(output) if row["file"] != "news item/b.parquet"} == {"scored"}
    assert not (output / "run.json").exists()
    whole(output)
    monkeypatch.setattr(LOCAL, run_here)
    monkeypatch.setattr("rtdscan.transforms.storage.open_read", opened)
    if change == "grew":
        victim.write_bytes(victim.read_bytes()[:-4])  # what was appended is no Parquet
    ran = scan(corpus, output)
    assert (ran.status, ran.err) == (0, "")
    rows = 0 if change == "deleted" else 30
    assert attributes(output).num_rows == 52 + rows


# ---------------------------------------------------------------------------------------------------------------------
# OUTPUT


def test_output_that_is_not_ours(
    refused: Callable[..., str], scan: Scan, corpus: Path, output: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"meow")
    assert f"{photos} holds files that are not an rtdscan output; choose another" in refused(corpus, photos)
    assert "is a file; name a folder" in refused(corpus, photos / "cat.jpg")
    assert scan(corpus, output).status == 0
    other = write_corpus(tmp_path / "other")
    told = refused(other, output)
    assert f"{output} belongs to another INPUT ({corpus}), not {other}" in told
    assert "choose another OUTPUT, or delete it" in told
    assert f"{output} lies inside INPUT" in refused(tmp_path, output).replace("OUTPUT ", "")
    assert "lies inside INPUT" in refused(corpus, corpus / "out")
    assert "lies inside OUTPUT" in refused(corpus, tmp_path)
    assert "OUTPUT" in refused(corpus)


def test_wrong_usage_leaves_a_finished_output_alone(
    refused: Callable[..., str], scan: Scan, corpus: Path, output: Path, tmp_path: Path
) -> None:
    assert scan(corpus, output).status == 0
    assert "thresholds.flag" in refused(corpus, output, "thresholds.flag=2")
    assert "no_such_key" in refused(corpus, output, "no_such_key=1")
    assert "has no column 'url'" in refused(corpus, output, "output.columns=[url]")
    assert "runner" in refused(corpus, output, "runner=DaskRunner")
    assert "model" in refused(corpus, output, f"model={tmp_path}")
    assert scan(corpus, output).status == 0
    assert set(units(output)) == {"current"}


def test_models_that_will_not_do(refused: Callable[..., str], corpus: Path, output: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"model {empty}: has no config.json" in refused(corpus, output, f"model={empty}")
    bert = make_tiny_bundle(tmp_path / "bert")
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"model_type": "bert", "architectures": ["BertModel"]}))
    assert "model_type is 'bert', expected 'electra'" in refused(corpus, output, f"model={bert}")
    (bert / "config.json").write_text(json.dumps(config | {"architectures": ["ElectraForMaskedLM"]}))
    assert "discriminator" in refused(corpus, output, f"model={bert}")  # that was a generator
    pickled = make_tiny_bundle(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "has no model.safetensors" in refused(corpus, output, f"model={pickled}")
    assert "no such directory" in refused(corpus, output, f"model={tmp_path}/nowhere/at all")


def test_a_busy_output(scan: Scan, corpus: Path, output: Path, tmp_path: Path) -> None:
    with storage.lock(str(output)):
        before = snapshot(tmp_path)
        ran = scan(corpus, output)
        assert ran.status == 4
        assert f"{output} is busy: process {os.getpid()} on {socket.gethostname()} since 20" in ran.told
        assert "wait for it or stop it" in ran.told
        assert ran.out == ""
        assert snapshot(tmp_path) == before
    assert scan(corpus, output).status == 0


def test_a_busy_output_is_told_before_planning(
    scan: Scan, corpus: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scan(corpus, output).status == 0
    monkeypatch.setattr("rtdscan.pipeline.scanning.make_plan", lambda *args, **rest: pytest.fail("planned"))
    with storage.lock(str(output)):
        assert scan(corpus, output).status == 4


@contextmanager
def mounted(folder: Path, *flags: str) -> Iterator[Path]:
    """A small file system of its own; skips where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *flags, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("may not mount a tmpfs here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if not shutil.which("mount"):
        pytest.skip("there is no mount")
    with mounted(tmp_path / "disk", "-o", "size=600k") as folder:
        yield folder


def test_a_full_disk(scan: Scan, corpus: Path, small_disk: Path, tmp_path: Path) -> None:
    output, ballast = small_disk / "out", small_disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(520_000))
    ran = scan(corpus, output)
    assert ran.status == 1
    assert f"cannot write {output}/" in ran.told
    assert "No space left on device; free some space and run it again" in ran.told
    assert not (output / "run.json").exists()
    written = len(shards(output))
    assert written > 0
    assert not list(output.rglob(".tmp-*"))
    for path in shards(output):
        assert read_stamp(str(output / path)), path
    ballast.unlink()
    ran = scan(corpus, output)
    assert (ran.status, ran.err) == (0, "")
    assert units(output)["current"] == written
    whole(output)
    assert scan(corpus, tmp_path / "fresh").status == 0
    assert shards(output) == shards(tmp_path / "fresh")


def test_a_disk_that_is_full_from_the_start(scan: Scan, corpus: Path, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(2**20))
    ran = scan(corpus, small_disk / "out")
    assert ran.status == 1
    assert "No space left on device; free some space" in ran.told
    (small_disk / "ballast").unlink()
    assert scan(corpus, small_disk / "out").status == 0


def test_a_limit_on_the_size_of_files(scan: Scan, corpus: Path, output: Path) -> None:
    """As a full disk, where nobody may mount one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        ran = scan(corpus, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.status == 1
    assert f"cannot write {output}/attributes/" in ran.told
    assert "File too large; raise the limit on the size of files (ulimit -f) and run it again" in ran.told
    assert not (output / "run.json").exists()
    assert not list(output.rglob(".tmp-*"))
    assert scan(corpus, output).status == 0
    whole(output)


def test_an_output_that_cannot_be_written_to(scan: Scan, corpus: Path, tmp_path: Path) -> None:
    ran = scan(corpus, "/proc/1/out")
    assert ran.status == 1
    assert "cannot write /proc/1/out" in ran.told
    locked = tmp_path / "locked"
    if os.geteuid():
        locked.mkdir(mode=0o555)
        ran = scan(corpus, locked / "out")
        assert "Permission denied; check its permissions" in ran.told
    else:
        with mounted(locked, "-o", "ro"):
            ran = scan(corpus, locked / "out")
        assert "Read-only file system; choose a folder that can be written to" in ran.told
    assert ran.status == 1
    assert f"{locked}/out" in ran.told


def test_an_output_that_became_read_only(scan: Scan, corpus: Path, small_disk: Path) -> None:
    output = small_disk / "out"
    subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    assert scan(corpus, output).status == 0
    before = snapshot(output)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ran = scan(corpus, output)
    assert ran.status == 1
    assert "Read-only file system" in ran.told
    assert snapshot(output) == before


def test_ctrl_c(scan: Scan, corpus: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done stays, and the next run does the rest."""

    def interrupted(todo: Any, job: Any, **rest: Any) -> Any:
        run_here(todo[:3], job, **rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(LOCAL, interrupted)
    ran = scan(corpus, output)
    assert ran.status == 1
    assert ran.told == "rtdscan: interrupted; run the same command again to resume"
    assert not (output / "run.json").exists()
    monkeypatch.setattr(LOCAL, run_here)
    assert scan(corpus, output).status == 0
    assert units(output)["current"] == 3


def test_an_error_in_a_worker_is_one_line(
    scan: Scan, corpus: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam wraps it into pages of tracebacks."""

    def broken(*args: object, **rest: object) -> None:
        raise RuntimeError("out of luck\nand of lines")

    monkeypatch.setattr("rtdscan.transforms.infer.score_documents", broken)
    ran = scan(corpus, output)
    assert ran.status == 1
    assert "of luck" in ran.told or "of lines" in ran.told
    assert len(ran.told) < 300
    assert not (output / "run.json").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Privacy


MARKER = "Zyxwvut"


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """Texts that all hold a marker: good, not UTF-8, blank but for it, in a torn page."""
    folder = tmp_path / "marked"
    folder.mkdir()
    texts = [f"{MARKER} {text(n)} {MARKER.lower()}" for n in range(20)]
    data = [*(t.encode() for t in texts), f"{MARKER} é".encode("latin-1"), MARKER.encode(), None]
    rows = pa.table({"key": range(23), "source": ["s"] * 23, "text": pa.array(data, pa.binary())})
    for name in ("a.parquet", "torn.parquet"):
        pq.write_table(rows, folder / name)
    damage(folder / "torn.parquet", row_group=0)
    return folder


def told_by(output: Path) -> str:
    """All that OUTPUT says anywhere, but for the report: that is there to quote, unless `report.text` forbids it."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name != "report.html"]
    tables = [pq.read_table(path, partitioning=None) for path in files if path.suffix == ".parquet"]
    plain = [path.read_text() for path in files if path.suffix != ".parquet"]
    stamps = [str(table.schema.metadata) for table in tables]
    return "".join([*plain, *stamps, *(str(table.to_pydict()) for table in tables), *map(str, files)])


def test_nothing_quotes_the_documents(
    marked: Path, output: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for more in ([], ["--json"]):
        sets = options(tiny_bundle, "input.text=text", "thresholds.flag=0.06", "thresholds.floor=0.05")
        assert main(["scan", str(marked), str(output), *more, *sets]) == 1
        out, err = capfd.readouterr()
        assert "torn.parquet" in out
        assert MARKER.lower() not in (out + err + caplog.text).lower()
        assert MARKER.lower() not in told_by(output).lower()
        assert sum(filter(None, attributes(output)["n_flagged"].to_pylist())) > 20
    assert scan_shows_text(marked, output, tiny_bundle, capfd)  # the marker is there to be found


def scan_shows_text(marked: Path, output: Path, bundle: Path, capfd: pytest.CaptureFixture[str]) -> bool:
    """Whether the scan quotes documents once it may."""
    main(
        ["scan", str(marked), str(output), *options(bundle, "input.text=text", "log.text=true", "thresholds.flag=0.06")]
    )
    return MARKER.lower() in capfd.readouterr().out.lower()


def test_an_engine_that_fails_does_not_quote(
    scan: Scan, marked: Path, output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Documents on which the network fails are marked, without what it said of them."""
    from rtdscan.transforms.engines.torch import TorchEngine

    forward = TorchEngine.forward

    def failing(self: Any, ids_BT: Any, lengths_B: Any, weights_BT: Any) -> Any:
        if lengths_B.max() > 12:
            raise ValueError(f"cannot digest {MARKER}")
        return forward(self, ids_BT, lengths_B, weights_BT)

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(TorchEngine, "forward", failing)
    (marked / "torn.parquet").unlink()
    ran = scan(marked, output, "input.text=text")
    assert ran.status == 0
    found = attributes(output)
    assert set(found["status"].to_pylist()) >= {"failed", "invalid", "null", "ok"}
    assert "the network failed on it: ValueError" in found["reason"].to_pylist()
    assert MARKER not in ran.out + ran.err + caplog.text + told_by(output)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whoever leaves this machine, or asks for a name outside it, is noted and stopped."""
    calls: list[object] = []

    def guard(name: str) -> None:
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, *args: Any) -> Any:
            address = args[-1]
            if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
                calls.append(address)
                raise OSError(f"the test allows no connection, but {address} was asked for")
            return original(self, *args)

        monkeypatch.setattr(socket.socket, name, guarded)

    def resolve(host: Any, *args: Any, **rest: Any) -> Any:
        if host not in (None, "", "127.0.0.1", "::1", "localhost", socket.gethostname()):
            calls.append(host)
            raise OSError(f"the test allows no look-up, but {host} was asked for")
        return looked_up(host, *args, **rest)

    looked_up = socket.getaddrinfo
    for name in ("connect", "connect_ex", "sendto"):
        guard(name)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return calls


def test_a_scan_opens_no_connection(scan: Scan, corpus: Path, output: Path, no_network: list[object]) -> None:
    with pytest.raises(OSError, match="no connection"), socket.socket() as one:
        one.connect(("192.0.2.1", 80))
    with pytest.raises(OSError, match="no look-up"):
        socket.create_connection(("example.org", 80))
    assert no_network == [("192.0.2.1", 80), "example.org"]
    no_network.clear()
    assert scan(corpus, output).status == 0
    assert scan(corpus, output, "thresholds.flag=0.9", "output.words=true").status == 0
    assert no_network == []


# ---------------------------------------------------------------------------------------------------------------------
# As processes: one for each exit status that is not 0 (tests/test_scan.py has one for that)


def command(bundle: Path, *words: object, workers: int = 1) -> list[str]:
    paths = [str(word) for word in words if "=" not in str(word)]
    sets = options(bundle, "input.id=null", f"workers={workers}", *(str(word) for word in words if "=" in str(word)))
    return [sys.executable, "-m", "rtdscan.pipeline", "scan", *paths, *sets]


def process(bundle: Path, *words: object, workers: int = 1) -> Ran:
    done = subprocess.run(
        command(bundle, *words, workers=workers), capture_output=True, text=True, timeout=100, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_status_1_of_a_process(tmp_path: Path, tiny_bundle: Path, output: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(table(0, 5), folder / "a.parquet")
    (folder / "b.parquet").write_bytes(b"not Parquet at all")
    ran = process(tiny_bundle, folder, output, "engine=openvino")
    assert ran.status == 1
    assert f"{folder}/b.parquet is not Parquet; all that could be read is done" in ran.told
    assert ", 1 worker " in ran.out
    assert attributes(output).num_rows == 5
    assert list(reasons(output)) == ["b.parquet"]
    whole(output)


def test_status_2_of_a_process(corpus: Path, tiny_bundle: Path, output: Path) -> None:
    ran = process(tiny_bundle, corpus, output, "thresholds.flga=0.5")
    assert ran.status == 2
    assert "--set thresholds.flga" in ran.told
    assert "thresholds.flag" in ran.told
    assert ran.out == ""
    assert not output.exists()


def test_status_4_of_a_process(corpus: Path, tiny_bundle: Path, output: Path) -> None:
    with storage.lock(str(output)):
        ran = process(tiny_bundle, corpus, output)
    assert ran.status == 4
    assert f"{output} is busy: process {os.getpid()} on " in ran.told
    assert ran.out == ""


# ---------------------------------------------------------------------------------------------------------------------
# Slow


@pytest.fixture
def long_corpus(tmp_path: Path) -> Path:
    """Enough for a scan to be in the middle of it."""
    folder = tmp_path / "long"
    folder.mkdir()
    for at in range(4):
        rows = {"text": [" ".join(text(at * 1000 + row + more) for more in range(60)) for row in range(40)]}
        pq.write_table(pa.table(rows), folder / f"{at}.parquet")
    return folder


def started(bundle: Path, corpus: Path, output: Path, *, workers: int = 2) -> "subprocess.Popen[str]":
    """A scan that has begun to write."""
    child = subprocess.Popen(
        command(bundle, corpus, output, "unit.text_mb=0.02", workers=workers),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(output.glob("attributes/*/*.parquet")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids: list[int], *, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_scan_that_is_ended(
    scan: Scan, long_corpus: Path, output: Path, tiny_bundle: Path, how: signal.Signals
) -> None:
    child = started(tiny_bundle, long_corpus, output)
    workers = children(child.pid)
    assert len(workers) >= 2
    ran = scan(long_corpus, output)
    assert ran.status == 4
    assert f"process {child.pid} on " in ran.told
    child.send_signal(how)
    _, err = child.communicate(timeout=30)
    assert gone(workers)
    if how != signal.SIGKILL:
        assert child.returncode == 1
        assert err.splitlines()[-1] == "rtdscan: interrupted; run the same command again to resume"
        assert all(line.startswith("rtdscan: ") for line in err.splitlines())
    assert not (output / "run.json").exists()
    ran = scan(long_corpus, output, "unit.text_mb=0.02")  # at once: a killed scan leaves no lock
    assert (ran.status, ran.err) == (0, "")
    done = units(output)
    assert done["current"] > 0
    assert done["scored"] > 0
    assert attributes(output).num_rows == 160
    whole(output)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_full_disk_with_workers(long_corpus: Path, small_disk: Path, tiny_bundle: Path) -> None:
    output = small_disk / "out"
    ran = process(tiny_bundle, long_corpus, output, "unit.text_mb=0.02", workers=2)
    assert ran.status == 1
    assert "No space left on device; free some space and run it again" in ran.told
    assert not (output / "run.json").exists()
    assert not list(output.rglob(".tmp-*"))
    written = len(shards(output))
    assert written > 0
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    assert process(tiny_bundle, long_corpus, output, "unit.text_mb=0.02", workers=2).status == 0
    assert units(output)["current"] == written
    whole(output)


@pytest.mark.slow
def test_a_document_of_200_mb(tmp_path: Path, tiny_bundle: Path, output: Path) -> None:
    """Memory stays bounded, the document is marked, and its neighbours are scored."""
    size = 200 * 2**20
    huge = ("The old house stood at the end of the road. " * 1000 + "\n") * (size // 44_001)
    path = tmp_path / "huge.parquet"
    pq.write_table(pa.table({"text": [text(1), huge, text(2)]}), path, compression="zstd")
    del huge
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]).returncode;"
        "print(done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    words = command(tiny_bundle, path, output, "limits.document_tokens=50000")
    small = command(tiny_bundle, path, tmp_path / "small", "limits.document_tokens=50000")
    pq.write_table(pa.table({"text": [text(1), text(2)]}), tmp_path / "small.parquet")
    small[small.index(str(path))] = str(tmp_path / "small.parquet")
    peaks = []
    for one in (small, words):
        done = subprocess.run(
            [sys.executable, "-c", code, *one], capture_output=True, text=True, timeout=200, check=True
        )
        status, peak = done.stdout.split()[-2:]
        assert status == "0", done.stderr
        peaks.append(int(peak) * 1024)
    found = attributes(output)
    assert found["status"].to_pylist() == ["ok", "truncated", "ok"]
    assert found["n_chars"].to_pylist()[1] > 0.99 * size
    assert 50_000 >= found["n_tokens"].to_pylist()[1] > 49_000
    assert peaks[1] - peaks[0] < 6 * size, peaks
