"""Open a Parquet file with the footer that was parsed for its unit before.

Units of a list are mostly of one file, and a footer tells of all row groups: parsed for each of them, a file of n row
groups costs n². One of 3,000 row groups and 32 columns has a footer of 10 MB, which takes 0.1 s to parse and 90 MB.
"""

from typing import Any

import pyarrow.parquet as pq

from rtdscan.transforms.records import InputFile

_last: tuple[InputFile, pq.FileMetaData] | None = None


def open_parquet(source: Any, file: InputFile, **options: Any) -> pq.ParquetFile:
    """Open a file. Its footer is read unless the process opened the same file, of the same size and time, last.

    Args:
        source: The file, open for random reading.
        file: Which it is. Whether it still is that one the caller has to look.
        options: As pq.ParquetFile takes them.
    """
    global _last
    last = _last  # another thread may replace it
    if last is not None and last[0] == file:
        return pq.ParquetFile(source, metadata=last[1], **options)
    _last = last = None  # a footer may take 100 MB: never keep one while the next is parsed
    opened = pq.ParquetFile(source, **options)
    _last = file, opened.metadata
    return opened
