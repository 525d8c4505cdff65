import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.columns import (
    as_binary,
    as_table,
    find_column,
    find_text_column,
    get_column,
    is_string_like,
    leaves,
    read_column,
)
from rtdscan.transforms.errors import UserError

TEXT = pa.string()
DOC = pa.struct([("lang", TEXT), ("text", TEXT)])
NESTED = pa.table(
    {
        "m": pa.array([[("k", 1)], [], None], pa.map_(TEXT, pa.int64())),
        "doc": pa.array([{"lang": "en", "text": "a"}, None, {"lang": "de", "text": None}], DOC),
        "l": pa.array([[{"x": 1, "y": 2}], None, []], pa.list_(pa.struct([("x", pa.int8()), ("y", pa.int8())]))),
        "doc.text": ["A", "B", "C"],
        "deep": pa.array([{"a": {"b.c": "x"}}, {"a": None}, None], pa.struct([("a", pa.struct([("b.c", TEXT)]))])),
    }
)


@pytest.mark.parametrize(
    ("fields", "wanted", "found"),
    [
        ({"id": pa.int64(), "body": TEXT}, None, "body"),
        ({"id": TEXT, "content": pa.large_string(), "x": TEXT}, None, "content"),
        ({"document": TEXT, "content": TEXT, "text": TEXT}, None, "text"),
        ({"id": TEXT, "text": pa.dictionary(pa.int32(), TEXT)}, None, "text"),
        ({"raw": pa.binary(), "body": pa.string_view()}, None, "body"),
        ({"raw": pa.binary(), "body": TEXT}, "raw", "raw"),
        ({"raw": pa.dictionary(pa.int8(), pa.binary())}, "raw", "raw"),
        ({"raw": pa.binary_view()}, "raw", "raw"),
        ({"id": pa.int64(), "doc": DOC}, None, "doc.text"),
        ({"id": pa.int64(), "doc": pa.struct([("body", TEXT), ("n", pa.int8())])}, None, "doc.body"),
        ({"doc": DOC, "title": TEXT}, None, "title"),  # what lies inside structs only where there is nothing else
        ({"doc": DOC, "title": TEXT}, "doc.lang", "doc.lang"),
        # As pandas writes a column in which all is None:
        ({"id": TEXT, "text": pa.null()}, "text", "text"),
        ({"id": TEXT, "text": pa.null()}, None, "text"),
        ({"content": TEXT, "text": pa.null()}, None, "content"),
        ({"body": TEXT, "url": pa.null()}, None, "body"),
        ({"n": pa.int8(), "doc": pa.struct([("text", pa.null())])}, None, "doc.text"),
        ({"raw": pa.json_(pa.large_string()), "title": TEXT}, "raw", "raw"),
        ({"raw": pa.json_(), "title": TEXT}, None, "title"),
    ],
)
def test_the_text_column_is_found(fields, wanted, found):
    assert find_text_column(pa.schema(fields), wanted, where="x.parquet") == found


@pytest.mark.parametrize(
    ("fields", "wanted", "message"),
    [
        ({"id": TEXT, "body": TEXT}, None, "2 string columns: name the text column by input.text"),
        ({"raw": pa.binary(), "n": pa.int64()}, None, r"no string column: .*raw \(binary\), n \(int64\)"),
        ({"n": pa.int64()}, "n", r"column 'n' is int64, expected string or binary; its columns: n \(int64\)"),
        (
            {"l": pa.list_(TEXT)},
            "l",
            r"column 'l' is list<.*binary \(lists are not read: join or explode them first\);",
        ),
        (
            {"l": pa.list_(TEXT), "n": pa.int64()},
            None,
            r"no string column \(lists are not read: join or explode them f",
        ),
        ({"l": pa.list_(pa.int8()), "raw": pa.binary()}, None, "no string column: name the text column by input.text"),
        ({"doc": DOC}, "doc", "column 'doc' is struct<"),
        ({"a": TEXT}, "b", r"no column 'b'; its columns: a \(string\)"),
        ({"doc": DOC}, "doc.nope", r"no column 'doc.nope'; its columns: doc.lang \(string\), doc.text \(string\)"),
        ({"url": pa.null(), "n": pa.int64()}, None, r"no string column: .*url \(null\)"),
        ({}, None, "its columns: none"),
        ({f"c{i}": pa.int8() for i in range(25)}, None, "c19 .*, and 5 more"),
    ],
)
def test_errors_name_file_column_type_and_columns(fields, wanted, message):
    with pytest.raises(UserError, match=message) as caught:
        find_text_column(pa.schema(fields), wanted, where="corpus/x.parquet")
    assert str(caught.value).startswith("corpus/x.parquet")
    assert "\n" not in str(caught.value)


def test_what_names_the_text_column_is_told_as_the_caller_knows_it():
    with pytest.raises(UserError, match="name the text column by text=;"):
        find_text_column(pa.schema({"a": TEXT, "b": TEXT}), None, where="the table", told_by="text=")


@pytest.mark.parametrize("frame", [pl.DataFrame, pa.record_batch])
def test_data_frames_are_tables(frame):
    assert as_table(frame({"text": ["a", "b"]})).to_pydict() == {"text": ["a", "b"]}


def test_what_is_no_table_is_told():
    with pytest.raises(TypeError, match=r"expected a pyarrow\.Table or a data frame, found dict"):
        as_table({"text": ["a"]})
    with pytest.raises(
        TypeError, match=r"found ChunkedArray; put a column into a table"
    ):  # a Series was an ArrowInvalid
        as_table(pa.chunked_array([["a"]]))


def test_two_columns_of_one_name_are_refused():
    schema = pa.schema([("t", TEXT), ("t", TEXT), ("u", TEXT)])
    with pytest.raises(UserError, match="several columns called 't'"):
        get_column(schema, "t", where="x")
    assert find_column(schema, "u").path == (2,)


def test_a_part_of_the_path_is_no_column():
    with pytest.raises(UserError, match=r"no column 'source' \(it is part of the path, .*Hive.*\); its columns: t"):
        get_column(pa.schema([("t", TEXT)]), "source", where="corpus/source=web/x.parquet")
    with pytest.raises(UserError, match=r"no column 'url'; its columns: t"):
        get_column(pa.schema([("t", TEXT)]), "url", where="corpus/source=web/x.parquet")


def test_binary_is_no_string():
    assert not is_string_like(pa.binary())
    assert not is_string_like(pa.dictionary(pa.int32(), pa.binary()))


def test_leaves_are_counted_as_parquet_counts_them(tmp_path):
    pq.write_table(NESTED, tmp_path / "n.parquet")
    parquet = pq.ParquetFile(tmp_path / "n.parquet")
    paths = [parquet.schema.column(at).path for at in range(parquet.metadata.num_columns)]
    # By hand: m.key, m.value, doc.lang, doc.text (inside doc), l.x, l.y, "doc.text" itself, deep.
    assert len(paths) == 8
    expected = {"m": 0, "doc": 2, "doc.lang": 2, "l": 4, "doc.text": 6, "deep.a.b.c": 7}
    for name, index in expected.items():
        assert get_column(parquet.schema_arrow, name, where="x").leaf_index(parquet.schema_arrow) == index
        assert paths[index].startswith(name)
    inner = NESTED.drop_columns(["doc.text"]).schema
    assert get_column(inner, "doc.text", where="x").leaf_index(inner) == 3
    assert [name for name, _ in leaves(NESTED.schema)] == ["m", "doc.lang", "doc.text", "l", "doc.text", "deep.a.b.c"]


@pytest.mark.parametrize("form", [lambda t: t, lambda t: t.to_batches()[0], lambda t: t.slice(0, 3)])
def test_columns_are_read_by_name_and_by_path(form):
    assert read_column(form(NESTED), "doc.text").to_pylist() == ["A", "B", "C"]
    assert read_column(form(NESTED), "doc.lang").to_pylist() == ["en", None, "de"]
    assert read_column(form(NESTED), "deep.a.b.c").to_pylist() == ["x", None, None]
    without = NESTED.drop_columns(["doc.text"])
    assert read_column(form(without), "doc.text").to_pylist() == ["a", None, None]


TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.large_string()), pa.json_(),
]  # fmt: skip


@given(texts=st.lists(st.none() | st.text(max_size=5), max_size=12), type_=st.sampled_from(TYPES), data=st.data())
def test_texts_become_the_same_bytes_whatever_their_type(texts, type_, data):
    expected = [None if text is None else text.encode() for text in texts]
    array = pa.array(texts, pa.string())
    array = array.dictionary_encode().cast(type_) if pa.types.is_dictionary(type_) else array.cast(type_)
    assert as_binary(array).type == pa.large_binary()
    assert as_binary(array).to_pylist() == expected
    cut = data.draw(st.integers(0, len(texts)))
    assert as_binary(array.slice(cut)).to_pylist() == expected[cut:]
    chunked = pa.chunked_array([array.slice(0, cut), array.slice(cut)], type=array.type)
    assert as_binary(chunked).to_pylist() == expected


def test_nulls_without_a_type_are_null_texts():
    assert as_binary(pa.nulls(2)).equals(pa.nulls(2, pa.large_binary()))


def test_no_chunks():
    assert as_binary(pa.chunked_array([], TEXT)).equals(pa.array([], pa.large_binary()))


@pytest.mark.parametrize("encode", [lambda a: a, lambda a: a.dictionary_encode(), lambda a: pa.chunked_array([a, a])])
def test_bytes_that_are_not_utf8_stay_as_they_are(encode):
    bad = pa.array([b"\xff\xfe", None, b"ok"]).view(pa.string())
    assert as_binary(encode(bad)).to_pylist()[:3] == [b"\xff\xfe", None, b"ok"]
