import datetime
import os
import pickle
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtdscan.pipeline.finished.texts import _read_columns
from rtdscan.transforms import cutting, storage, units
from rtdscan.transforms.cleaning.files import read_rows
from rtdscan.transforms.cutting import cut, cut_file
from rtdscan.transforms.records import BadFile, InputFile, WorkUnit
from rtdscan.transforms.units import FileProblem, content_digest, read_footer, read_unit


def write(path, table, **options) -> storage.Entry:
    pq.write_table(table, path, **options)
    return storage.expand(str(path))[0]


def plan(entry, *, text_mb=4.0, columns=()) -> list[WorkUnit]:
    return cut_file(entry, text="text", columns=columns, text_mb=text_mb)[1]


def texts(count: int, *, size: int = 100) -> list[str | None]:
    rng = random.Random(count)
    return [None if row % 17 == 3 else rng.randbytes(rng.randrange(size)).hex() for row in range(count)]


# --- planning


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(0, 400), group=st.integers(1, 150), text_mb=st.sampled_from([0.0001, 0.001, 0.01, 1.0]))
def test_units_hold_every_row_once_in_order(tmp_path_factory, rows, group, text_mb):
    table = pa.table({"id": pa.array(range(rows), pa.int64()), "text": pa.array(texts(rows), pa.string())})
    entry = write(tmp_path_factory.getbasetemp() / "p.parquet", table, row_group_size=group)
    planned = plan(entry, text_mb=text_mb, columns=("id",))
    at = 0
    for unit in planned:
        assert unit.first_row == at
        assert unit.row_group == at // group
        assert unit.skip == at % group
        assert unit.rows > 0
        assert unit.skip + unit.rows <= group
        at += unit.rows
    assert at == rows
    read = [read_unit(unit, text="text", id="id") for unit in planned]
    if read:
        whole = pa.concat_tables(read)
        assert whole["id"].to_pylist() == list(range(rows))
        assert whole["text"].to_pylist() == [None if t is None else t.encode() for t in table["text"].to_pylist()]


def test_units_are_cut_by_the_size_of_the_text(tmp_path):
    rng = random.Random(0)
    # 1,000 texts of 4 + 2,096 bytes: 2.1 MB in plain pages. By half a MiB: 2.1 M / 524,288 = 4.005 -> 5 units.
    table = pa.table({"text": [rng.randbytes(1048).hex() for _ in range(1000)]})
    entry = write(tmp_path / "t.parquet", table, use_dictionary=False, compression="none")
    planned = plan(entry, text_mb=0.5)
    assert [unit.rows for unit in planned] == [200] * 5
    assert sum(unit.text_bytes for unit in planned) == pytest.approx(2_100_000, rel=0.005)
    assert len(plan(entry, text_mb=4.0)) == 1


def test_at_most_so_many_units_a_row_group(tmp_path):
    entry = write(tmp_path / "t.parquet", pa.table({"text": texts(1000)}))
    planned = plan(entry, text_mb=1e-6)
    assert len(planned) == cutting.UNITS_PER_ROW_GROUP
    assert {unit.rows for unit in planned} == {3, 4}  # 1000 / 256 = 3.9


def test_rows_bound_a_unit_where_the_footer_misleads(tmp_path):
    repeated = pa.table({"text": ["the same text over and over " * 10] * 20_000})
    entry = write(tmp_path / "r.parquet", repeated)
    assert read_footer(entry.path).metadata.row_group(0).column(0).total_uncompressed_size < 5_000
    assert len(plan(entry)) == 3  # 20,000 / 8,192 = 2.4
    plain = write(tmp_path / "p.parquet", pa.table({"text": ["x"] * 150_000}), use_dictionary=False)
    assert len(plan(plain)) == 3  # 150,000 / 65,536 = 2.3


@pytest.mark.parametrize("table", [pa.table({"text": pa.array([], pa.string())}), pa.table({"text": ["a"]}).slice(1)])
def test_no_rows_no_units(tmp_path, table):
    file, planned = cut_file(write(tmp_path / "e.parquet", table), text="text", text_mb=4)
    assert planned == []
    assert file.relative == "e.parquet"


def test_no_row_groups(tmp_path):
    with pq.ParquetWriter(tmp_path / "e.parquet", pa.schema({"text": pa.string()})):
        pass
    assert plan(storage.expand(f"{tmp_path}/e.parquet")[0]) == []


def test_units_are_small_and_travel(tmp_path):
    unit = plan(write(tmp_path / "t.parquet", pa.table({"text": ["a"]})))[0]
    assert pickle.loads(pickle.dumps(unit)) == unit
    assert unit.shard == "attributes/t.parquet/rg00000-row000000000.parquet"
    assert unit.file == InputFile(
        path=f"{tmp_path}/t.parquet", relative="t.parquet", size=os.path.getsize(tmp_path / "t.parquet"),
        version=str(os.stat(tmp_path / "t.parquet").st_mtime_ns), footer=read_footer(f"{tmp_path}/t.parquet").digest,
    )  # fmt: skip


# --- footers


def test_footer_tells_what_pyarrow_tells(tmp_path):
    table = pa.table({"text": pa.array(["a"], pa.large_string()), "v": pa.array(["x"]).dictionary_encode()})
    entry = write(tmp_path / "t.parquet", table)
    footer = read_footer(entry.path)
    assert footer.metadata.equals(pq.read_metadata(entry.path))
    assert footer.schema.equals(pq.read_schema(entry.path))
    assert footer.digest != read_footer(write(tmp_path / "u.parquet", table.slice(0, 0)).path).digest
    assert len(footer.digest) == 32


def test_a_footer_longer_than_the_first_read(tmp_path):
    table = pa.table({f"column {at:04}": [at] for at in range(1500)})
    entry = write(tmp_path / "wide.parquet", table)
    footer = read_footer(entry.path)
    assert footer.metadata.serialized_size > units._TAIL_BYTES
    assert footer.metadata.equals(pq.read_metadata(entry.path))


# --- what is wrong with a file


def bad(path, **options) -> str:
    planned = cut(storage.expand(str(path))[0], text="text", text_mb=4, **options)
    assert isinstance(planned, BadFile)
    assert planned.relative == path.name
    assert str(path) in planned.reason
    assert "\n" not in planned.reason
    return planned.reason


def test_files_that_are_not_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"")
    assert "is not Parquet: 0 bytes" in bad(path)
    path.write_bytes(b"a,b\n1,2\n" * 5)
    assert "is not Parquet" in bad(path)
    path.write_bytes(b"PAR1" + b"\0" * 40 + b"\x10\0\0\0PAR1")
    assert "cannot read" in bad(path)
    path.write_bytes(b"PAR1" + b"\0" * 40 + b"\xff\xff\0\0PAR1")
    assert "it says its footer has 65535 bytes, but the file has 52" in bad(path)
    path.write_bytes(b"PAR1" + b"\0" * 40 + b"\x10\0\0\0PARE")
    assert "is encrypted" in bad(path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    found = cut(storage.expand(str(tmp_path))[0], text="text", text_mb=4)
    assert isinstance(found, BadFile)
    assert "No such file" in found.reason


def test_every_cut_is_noticed(tmp_path):
    entry = write(tmp_path / "t.parquet", pa.table({"text": texts(50)}))
    data = storage.read_bytes(entry.path)
    for length in range(0, len(data), 97):
        storage.put_bytes(entry.path, data[:length])
        reason = bad(tmp_path / "t.parquet")
        assert ("cut short" in reason) == (length >= 12)


def test_files_of_another_schema(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"body": ["a"], "n": [1]}), path)
    assert "no column 'text'; its columns: body (string), n (int64)" in bad(path)
    pq.write_table(pa.table({"text": [1]}), path)
    assert "column 'text' is int64" in bad(path)
    pq.write_table(pa.table({"text": ["a"]}), path)
    assert "no column 'id'; its columns: text (string)" in bad(path, id="id")


def test_a_damaged_page_names_the_unit(tmp_path):
    entry = write(tmp_path / "t.parquet", pa.table({"text": texts(100)}), row_group_size=50, compression="zstd")
    data = bytearray(storage.read_bytes(entry.path))
    chunk = read_footer(entry.path).metadata.row_group(1).column(0)
    start = chunk.dictionary_page_offset
    data[start : start + 200] = os.urandom(200)
    storage.put_bytes(entry.path, bytes(data))
    first, second = plan(storage.expand(entry.path)[0])
    assert read_unit(first, text="text").num_rows == 50
    with pytest.raises(FileProblem, match=r"t\.parquet, row group 1, rows 50 to 99"):
        read_unit(second, text="text")


def test_checksums_are_checked_where_there_are_some(tmp_path):
    table = pa.table({"text": ["aaaa", "bbbb"]})
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    entry = write(tmp_path / "t.parquet", table, **options)
    data = storage.read_bytes(entry.path)
    # Only the data page: the footer's statistics hold the same texts.
    end = read_footer(entry.path).metadata.row_group(0).column(0).total_compressed_size + 4
    storage.put_bytes(entry.path, data[:end].replace(b"bbbb", b"bbbc") + data[end:])
    with pytest.raises(FileProblem, match="checksum"):
        read_unit(plan(storage.expand(entry.path)[0])[0], text="text")


def test_a_file_of_the_same_size_was_told_by_its_size_alone(tmp_path):
    """ "9739 bytes then, 9739 now": what changed is the time at which it was written."""
    entry = write(tmp_path / "t.parquet", pa.table({"text": ["a"]}))
    [unit] = plan(entry)
    os.utime(entry.path, ns=(1, 1))
    said = rf"\({entry.size} bytes as then, but written at another time\): run again"
    with pytest.raises(FileProblem, match=said):
        read_unit(unit, text="text")
    with open(entry.path, "ab") as file:
        file.write(b"xx")
    with pytest.raises(FileProblem, match=rf"\({entry.size} bytes then, {entry.size + 2} now\): run again"):
        read_unit(unit, text="text")


def test_a_file_that_changed_or_went_since_the_plan(tmp_path):
    entry = write(tmp_path / "t.parquet", pa.table({"text": ["a"]}))
    [unit] = plan(entry)
    os.utime(entry.path, ns=(1, 1))
    with pytest.raises(FileProblem, match="has changed since the plan was made"):
        read_unit(unit, text="text")
    os.remove(entry.path)
    with pytest.raises(FileProblem, match="has gone since the plan was made"):
        read_unit(unit, text="text")


# --- reading

CARRIED = {
    "dict": pa.array(["x", "y", None] * 100).dictionary_encode(),
    "list": pa.array([[1, 2], None, []] * 100),
    "map": pa.array([[("k", 1)], None, []] * 100, pa.map_(pa.string(), pa.int64())),
    "view": pa.array(["long enough not to be inlined", None, "s"] * 100, pa.string_view()),
    "doc": pa.array([{"text": "inner", "lang": "en"}, None, {"text": None, "lang": "de"}] * 100),
    "when": pa.array([1, None, 3] * 100, pa.timestamp("us", tz="UTC")),
    "none": pa.nulls(300),
    "doc.lang": pa.array(["literal"] * 300),
}


def test_columns_keep_types_and_values(tmp_path):
    table = pa.table({"body": texts(300), **CARRIED})
    entry = write(tmp_path / "t.parquet", table, row_group_size=200)
    _, planned = cut_file(entry, text="doc.text", columns=("body", *CARRIED), text_mb=1e-5)
    assert len(planned) > 4
    read = [read_unit(unit, text="doc.text", id="body", columns=tuple(CARRIED)) for unit in planned]
    assert all(part["text"].num_chunks == 1 for part in read)
    whole = pa.concat_tables(read)
    assert whole.column_names == ["text", "id", *CARRIED]
    assert whole["text"].to_pylist() == [b"inner", None, None] * 100
    assert whole["id"].to_pylist() == table["body"].to_pylist()
    for name in CARRIED:
        assert whole.schema.field(name).type == table.schema.field(name).type, name
        assert whole[name].to_pylist() == table[name].to_pylist(), name


def test_a_file_of_null_texts_was_a_bad_file(tmp_path):
    """As pandas writes a column in which all is None."""
    entry = write(tmp_path / "n.parquet", pa.table({"id": [1, 2, 3], "text": pa.nulls(3)}), row_group_size=2)
    first, second = plan(entry, columns=("id",))
    rows = pa.concat_tables(read_unit(unit, text="text", id="id") for unit in (first, second))
    assert rows.equals(pa.table({"text": pa.nulls(3, pa.large_binary()), "id": [1, 2, 3]}))


def test_timestamps_of_spark_came_out_in_another_century(tmp_path):
    # 9999-12-31 is 253,402,214,400 s after 1970: in nanoseconds more than 2**63, which began again in 1816.
    when = [datetime.datetime(9999, 12, 31), None, datetime.datetime(1066, 10, 14, 9)]
    table = pa.table({"text": ["a", "b", "c"], "when": pa.array(when, pa.timestamp("us"))})
    entry = write(tmp_path / "a.parquet", table, use_deprecated_int96_timestamps=True)
    assert pq.read_table(tmp_path / "a.parquet")["when"].cast(pa.timestamp("us"), safe=False).to_pylist() != when
    (unit,) = plan(entry)
    read = read_unit(unit, text="text", columns=("when",))
    assert read["when"].to_pylist() == when
    assert _read_columns(unit, ["when"])["when"].to_pylist() == when
    digest = content_digest(read)
    rows = read_rows(unit, text="text", digest=digest)
    assert rows["when"].to_pylist() == when
    footer = read_footer(entry.path).schema  # what attribute columns are planned by
    types = {footer.field("when").type, read["when"].type, rows["when"].type, rows.schema.field("when").type}
    assert types == {pa.timestamp("us")}


def test_invalid_utf8_arrives_as_it_was_stored(tmp_path):
    stored = pa.array([b"\xff\xfe", b"ok", None])
    entry = write(tmp_path / "t.parquet", pa.table({"text": stored.view(pa.string())}))
    [unit] = plan(entry)
    assert read_unit(unit, text="text")["text"].to_pylist() == stored.to_pylist()


# --- digests

TEXTS = st.lists(st.none() | st.binary(max_size=6), max_size=10)


@given(values=TEXTS, cut=st.integers(0, 10), type_=st.sampled_from([pa.binary(), pa.large_binary(), pa.binary_view()]))
def test_digest_knows_neither_chunks_nor_slices_nor_types(values, cut, type_):
    digest = content_digest(pa.array(values, pa.large_binary()))
    array = pa.array([b"before", *values, None], type_).slice(1, len(values))
    assert content_digest(array) == digest
    chunked = pa.chunked_array([array.slice(0, cut), array.slice(cut)], type_)
    assert content_digest(chunked) == digest
    assert content_digest(pa.table({"text": chunked})) == digest


@given(a=TEXTS, b=TEXTS)
def test_other_texts_other_digest(a, b):
    same = content_digest(pa.array(a, pa.binary())) == content_digest(pa.array(b, pa.binary()))
    assert same == (a == b)


def test_digest_sees_borders_nulls_and_nothing_below_nulls():
    digests = {
        content_digest(pa.array(v, pa.binary())) for v in ([b"ab", b""], [b"a", b"b"], [b"ab", None], [b"ab"], [])
    }
    assert len(digests) == 5
    data = pa.array([b"ab", b"secret"])
    hidden = pa.Array.from_buffers(pa.binary(), 2, [pa.py_buffer(b"\x01"), *data.buffers()[1:]])
    assert hidden.to_pylist() == [b"ab", None]
    assert content_digest(hidden) == content_digest(pa.array([b"ab", None]))


# --- memory

PEAK = """
import sys
from rtdscan.transforms import cutting, storage, units
planned = cutting.cut(storage.expand(sys.argv[1])[0], text="text", text_mb=4)[1]
now = {l.split(":")[0]: int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS")}["VmRSS"]
open("/proc/self/clear_refs", "w").write("5")
rows = units.read_unit(planned[-1], text="text")
peak = {l.split(":")[0]: int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")}["VmHWM"]
print((peak - now) // 1024, rows.num_rows)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")
@pytest.mark.parametrize("repeated", [False, True])
def test_a_huge_row_group_is_streamed(tmp_path, repeated):
    rng = random.Random(0)
    blob = rng.randbytes(1 << 20).hex()
    few = [blob[at : at + 2600] for at in range(0, 260_000, 2600)]
    column = (
        few * 1500 if repeated else [blob[at : at + 2600] for at in (rng.randrange(2_000_000) for _ in range(150_000))]
    )
    entry = write(tmp_path / "big.parquet", pa.table({"text": column}), compression="zstd", row_group_size=150_000)
    done = subprocess.run([sys.executable, "-c", PEAK, entry.path], capture_output=True, text=True, check=True)
    peak, rows = map(int, done.stdout.split())
    # 390 MB of text; a unit is 4 MB of it (21 MB where the footer misleads). Measured: 45 MB, 65 MB.
    assert 1000 < rows < 8193
    assert peak < 120
