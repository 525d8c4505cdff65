"""Columns that are part of a path, as Hive and Spark write them: `source=web/lang=en/part-0.parquet`.

Their values are texts; `__HIVE_DEFAULT_PARTITION__` stands for null, and what is percent-encoded is decoded. They are
looked for below INPUT alone, where OUTPUT's folders have them, too. A column in the file of the same name wins.
"""

from urllib.parse import unquote

import pyarrow as pa

from rtdscan.transforms.columns import find_column

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions(relative: str) -> dict[str, str | None]:
    """Columns that the folders of a path are, and their values; of equal names the innermost.

    Args:
        relative: Path of a file below INPUT's root.
    """
    named = [folder.partition("=") for folder in relative.split("/")[:-1]]
    return {unquote(name): None if value == _NULL else unquote(value) for name, sign, value in named if name and sign}


def partition_fields(relative: str, schema: pa.Schema) -> "list[pa.Field[pa.StringType]]":
    """The columns that a path adds to those of a schema."""
    return [pa.field(name, pa.string()) for name in partitions(relative) if find_column(schema, name) is None]


def with_partitions(schema: pa.Schema, relative: str) -> pa.Schema:
    """A file's schema with the columns behind its own that its path adds."""
    return pa.schema([*schema, *partition_fields(relative, schema)])


def partition_values(relative: str, name: str, *, rows: int) -> pa.StringArray:
    """The values of such a column, one a row.

    Raises:
        KeyError: The path has none of that name.
    """
    return pa.repeat(pa.scalar(partitions(relative)[name], pa.string()), rows)


def add_partitions(rows: pa.Table, relative: str) -> pa.Table:
    """Rows of a file with the columns behind them that its path adds."""
    for field in partition_fields(relative, rows.schema):
        rows = rows.append_column(field, partition_values(relative, field.name, rows=rows.num_rows))
    return rows
