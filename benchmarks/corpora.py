"""Corpora to measure on: samples of a real one, and large ones made from its prose."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rtdscan.transforms.columns import find_text_column

EDIT_EVERY = 40
"""Words between two edits of repeated prose, so that no window of a copy equals one of another."""


def read_texts(path: Path, *, text: str | None = None, limit: int | None = None) -> Iterator[str]:
    """The texts of a Parquet file that are neither null nor empty, in order.

    Args:
        path: The file.
        text: Its text column, if there are several that could be.
        limit: Bytes of UTF-8 after which to stop, at the end of a text.
    """
    file = pq.ParquetFile(path)
    name = find_text_column(file.schema_arrow, text, where=str(path))
    size = 0
    for batch in file.iter_batches(batch_size=256, columns=[name]):
        for value in batch.column(0).to_pylist():
            if value and value.strip():
                yield value
                size += len(value.encode())
                if limit is not None and size >= limit:
                    return


def sample_rows(corpus: Path, target: Path, *, rows: int, text: str | None = None) -> list[str]:
    """Write a sample of a corpus: every n-th text, as columns `row` and `text` in one row group.

    Args:
        corpus: A Parquet file.
        target: The file to write.
        rows: Texts in the sample; all where there are fewer.
        text: The corpus' text column.

    Returns:
        The texts.
    """
    step = max(pq.read_metadata(corpus).num_rows // rows, 1)
    texts = [value for at, value in enumerate(read_texts(corpus, text=text)) if at % step == 0][:rows]
    write_rows(target, texts)
    return texts


def write_rows(target: Path, texts: Sequence[str]) -> None:
    """Write texts as one row group of columns `row` and `text`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"row": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.large_string())})
    pq.write_table(table, target, compression="zstd", row_group_size=max(len(texts), 1))


def edited(text: str, random: np.random.Generator) -> str:
    """The text with neighbouring words swapped here and there."""
    words = text.split(" ")
    if len(words) < 3:
        return f"{text} {random.integers(10**9)}"
    for at in random.integers(0, len(words) - 1, 1 + len(words) // EDIT_EVERY).tolist():
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def repeated(texts: Sequence[str], *, size: int, seed: int) -> Iterator[str]:
    """Edited copies of texts, `size` bytes of UTF-8 together (one text more or less)."""
    random = np.random.default_rng(seed)
    made = 0
    while made < size:
        for text in texts:
            copy = edited(text, random)
            made += len(copy.encode())
            yield copy
            if made >= size:
                return


def write_files(folder: Path, texts: Sequence[str], *, size: int, files: int) -> None:
    """A corpus of several files of equal size."""
    for number in range(files):
        write_rows(folder / f"part-{number:03}.parquet", list(repeated(texts, size=size // files, seed=number)))


def write_document(target: Path, texts: Sequence[str], *, size: int) -> None:
    """One document, in a file of its own."""
    write_rows(target, ["\n\n".join(repeated(texts, size=size, seed=1))])
