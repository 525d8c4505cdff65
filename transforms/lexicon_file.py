"""A lexicon as a file: `lexicon.parquet`, with `word`, lower case, or two with a space between that are listed as one
as well; `documents`, how many of `total` hold it; and `slip`, how likely it is a slip of another (see slips.py):
finding that out takes a third of a millisecond a word.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rtdscan.transforms.errors import UserError
from rtdscan.transforms.lexicon import Lexicon
from rtdscan.transforms.slips import Slips


@lru_cache(maxsize=2)
def shared_lexicon(path: Path, digest: str) -> Lexicon:
    """The lexicon of the model with this digest, read once a process."""
    return read_lexicon(path)


def read_lexicon(path: Path) -> Lexicon:
    """Read `lexicon.parquet`.

    Raises:
        UserError: It is not a lexicon.
    """
    table, total = read_counts(path)
    slip_E = table["slip"].to_numpy() if "slip" in table.column_names else None
    documents_E = table["documents"].to_numpy().astype(np.int64)
    return Lexicon.of(table["word"].to_pylist(), documents_E, total=total, slip_E=slip_E)


def read_counts(path: Path) -> tuple[pa.Table, int]:
    """A lexicon's table, `word`, `documents` and maybe `slip`, and the number of documents counted.

    Raises:
        UserError: It is not a lexicon.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: is not a lexicon that can be read ({' '.join(str(error).split())[:200]})") from error
    total = (table.schema.metadata or {}).get(b"documents", b"")
    missing = [name for name in ("word", "documents") if name not in table.column_names]
    if missing or not total.isdigit() or int(total) < 1:
        raise UserError(
            f"{path}: is not a lexicon; expected columns word and documents and, in the file's metadata, the number of "
            "`documents` counted; make one with `rtdscan lexicon`"
        )
    return table, int(total)


def write_lexicon(words: Iterable[str], documents: Iterable[int], *, total: int, sink: Any) -> None:
    """Write a lexicon, words in the order of their letters: the same counts give the same bytes.

    Args:
        words: Each once, lower case.
        documents: Documents that hold each.
        total: Documents counted.
        sink: Path or open file.
    """
    table = pa.table({"word": pa.array(words, pa.string()), "documents": pa.array(documents, pa.int32())})
    table = table.sort_by("word")
    slips = Slips(table["word"].to_pylist(), table["documents"].to_numpy(), total)
    slip_E = np.array([0.0 if " " in word else slips.of(word) for word in slips.words], dtype=np.float16)
    table = table.append_column("slip", pa.array(slip_E)).replace_schema_metadata({"documents": str(total)})
    pq.write_table(table, sink, compression="zstd", compression_level=19, use_dictionary=False)
