"""Attribute rows by filter, order and page: DuckDB over the shards, which reads the columns and row groups it needs.

DuckDB tells neither `score` from `Score` nor a carried column from its own `filename`, so queries call columns by their
place in the shards: c0, c1, …
"""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from rtdscan.pipeline.finished.folder import Shard, read_columns, read_finished
from rtdscan.pipeline.output import RUN
from rtdscan.transforms import storage
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.partitions import partitions

FILE = "\0file"
"""The input file, as a column to filter by; no carried column is called so."""

PATH = "\0path:"
"""Begins the names of columns that are part of the input file's path (source=web/part.parquet)."""

CORPUS = "\0corpus"
"""The order of the corpus."""

MEASURES = {"score": "score", "max_score": "worst word", "n_flagged": "flagged words", "n_words": "length"}
"""Columns to sort by, and what people call them."""

VALUES = 200
"""Values of a column that are offered."""

_SHOWN = ("row", "status", "decision", "score", "max_score", "n_flagged", "n_words")
_OWN = {
    *_SHOWN, "reason", "n_chars", "n_tokens", "n_windows", "unk_share", "candidates", "spans", "embedding", "words",
    "tokens",
}  # fmt: skip

_PLACE = "p.number"
"""Place of a row's shard in the corpus; DuckDB itself keeps the order of files only where it joins nothing."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which documents, in which order.

    Attributes:
        low, high: Range of scores; documents without a score are among all, and in no narrower range.
        status, decision: Of one kind only.
        column, value: A carried column, `id`, FILE or one of PATH, and the value it has, as text.
        among, except_: Only these documents, or all but these: (file, row).
        order: CORPUS, or a column.
        descending: Highest first.
    """

    low: float = 0.0
    high: float = 1.0
    status: str | None = None
    decision: str | None = None
    column: str | None = None
    value: str | None = None
    among: frozenset[tuple[str, int]] | None = None
    except_: frozenset[tuple[str, int]] | None = None
    order: str = "score"
    descending: bool = True

    @property
    def narrow(self) -> bool:
        """Whether some documents are left out for what stands in their row."""
        return bool(
            self.low > 0
            or self.high < 1
            or self.status
            or self.decision
            or (self.column and not _is_of_files(self.column) and self.value)
            or self.among is not None
            or self.except_
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A document in the list."""

    shard: Shard
    row: int
    id: str | None
    status: str
    decision: str
    score: float | None
    max_score: float | None
    n_flagged: int | None
    n_words: int
    snippet: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """(file, row)."""
        return self.shard.file, self.row


class Catalogue:
    """The documents of a finished scan."""

    def __init__(self, output: str) -> None:
        """Open OUTPUT.

        Raises:
            UserError: It is not a finished scan, or not in a folder of this machine.
        """
        if not storage.is_local(output):
            raise UserError(f"rtdscan review reads scans from local folders; copy {output} to one first")
        self.output = output
        self._lock = threading.Lock()
        quiet = {"autoinstall_known_extensions": False, "autoload_known_extensions": False, "memory_limit": "1GB"}
        self._database = duckdb.connect(config=quiet)
        self._open()

    def _open(self) -> None:
        """Read what does not grow with the documents: run.json, the manifest, one schema."""
        version, finished = storage.stat(storage.join(self.output, RUN)), read_finished(self.output)
        shards = tuple(finished.shards())
        types: dict[str, pa.DataType] = {}
        if shards:
            with storage.open_read(storage.join(self.output, shards[0].path)) as source:
                types = {field.name: field.type for field in pq.read_schema(source)}
        # Nothing fails from here on: what could not be read leaves all as it was, and the next look tries again.
        self._version, self.finished, self.shards = version, finished, shards
        root = str(storage.local(self.output).absolute())
        self._paths = {f"{root}/{shard.path}": shard for shard in self.shards}
        names = [name for name in types if name not in _OWN and not pa.types.is_nested(types[name])]
        self._alias = {name: f"c{at}" for at, name in enumerate(types)}
        self.carried: tuple[str, ...] = tuple(names)
        in_path = dict.fromkeys(name for shard in self.shards for name in partitions(shard.file))
        self._in_path = tuple(PATH + name for name in in_path if name not in types)
        self.has_id = "id" in types

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def renew(self) -> None:
        """Open it again where another scan has finished since."""
        with self._lock:
            if storage.stat(storage.join(self.output, RUN)) != self._version:
                self._open()

    @property
    def rows(self) -> int:
        """Documents in all."""
        return sum(shard.rows for shard in self.shards)

    def orders(self) -> dict[str, str]:
        """Column -> what to call an order by it."""
        return {CORPUS: "place in the corpus", **MEASURES, **{name: name for name in self.carried}}

    def filters(self) -> list[tuple[str, str]]:
        """Columns to filter by, each after what to call it."""
        file = "input file" if "file" in self.carried else "file"
        in_path = [(name.removeprefix(PATH), name) for name in self._in_path]
        return [(file, FILE), *((name, name) for name in self.carried), *in_path]

    def count(self, query: Query) -> int:
        """Documents that a query finds."""
        query = replace(query, order=CORPUS, descending=True)
        if not query.narrow:
            return sum(shard.rows for shard in self._shards(query))
        (found,) = self._fetch("count(*)", query, self._shards(query), "")
        return int(found[0])

    def page(self, query: Query, *, offset: int, limit: int) -> list[Row]:
        """Some documents of a query, in its order."""
        shards = self._shards(query)
        if query.order == CORPUS and not query.narrow:  # only the shards that hold the page
            shards, offset = _around(shards, offset, limit)
        return self._rows(query, shards, f"limit {int(limit)} offset {int(offset)}")

    def inside(self, query: Query, shards: Sequence[Shard]) -> list[Row]:
        """All documents of a query in some shards, in the order of the corpus."""
        wanted = {shard.path for shard in self._shards(query)}
        chosen = [shard for shard in shards if shard.path in wanted]
        return self._rows(replace(query, order=CORPUS), chosen)

    def values(self, column: str) -> list[str]:
        """Values of a column, the most frequent first; files in the order of the corpus."""
        if column == FILE:
            return list(dict.fromkeys(shard.file for shard in self.shards))[:VALUES]
        if _is_of_files(column):
            found: Counter[str | None] = Counter()
            for shard in self.shards:
                found[_of_file(shard, column)] += shard.rows
            return [value for value, _ in found.most_common() if value is not None][:VALUES]
        what = f"{self._named(column)}::varchar, count(*)"
        rows = self._fetch(what, Query(), self.shards, f"group by 1 order by 2 desc, 1 limit {VALUES}")
        return [value for value, _ in rows if value is not None]

    def attributes(self, shard: Shard, row: int) -> dict[str, Any]:
        """All attributes of a document but its embedding and words."""
        names = [*_SHOWN, "reason", "n_chars", "candidates", "spans", *self.carried]
        found: dict[str, Any] = read_columns(self.output, shard, names).slice(row - shard.first_row, 1).to_pylist()[0]
        return found

    def shard_of(self, file: str, row: int) -> Shard:
        """The shard that holds a document.

        Raises:
            UserError: There is no such document.
        """
        for shard in self.shards:
            if shard.file == file and 0 <= row - shard.first_row < shard.rows:
                return shard
        raise UserError(f"There is no row {row:,} of {file} in this scan any more; the list shows what there is.")

    def _shards(self, query: Query) -> list[Shard]:
        """Shards that can hold what a query asks for."""
        shards = list(self.shards)
        if query.column and _is_of_files(query.column) and query.value:
            shards = [shard for shard in shards if _of_file(shard, query.column) == query.value]
        if query.among is not None:
            files = {file for file, _ in query.among}
            shards = [shard for shard in shards if shard.file in files]
        return shards

    def _named(self, name: str, more: Iterable[str] = ()) -> str:
        """What a query calls a carried column, or one of some more."""
        known = (*more, *self.carried)
        if name not in known:
            raise UserError(f"There is no column {name!r} in this scan; there are {', '.join(known)}.")
        return self._alias[name]

    def _rows(self, query: Query, shards: Sequence[Shard], end: str = "") -> list[Row]:
        if not shards:
            return []
        id_ = f"{self._alias['id']}::varchar" if self.has_id else "null"
        what = ", ".join(["s.path", id_, *(self._alias[name] for name in _SHOWN)])
        order = f"{_PLACE}, {self._alias['row']}"
        if query.order != CORPUS:
            name = self._named(query.order, MEASURES)
            order = f"{name} {'desc' if query.descending else 'asc'} nulls last, {order}"
        end = f"order by {order} {end}"
        return [
            Row(self._paths[path], row, id_, status, decision, score, worst, flagged, words)
            for path, id_, row, status, decision, score, worst, flagged, words in self._fetch(what, query, shards, end)
        ]

    def _fetch(self, what: str, query: Query, shards: Sequence[Shard], end: str) -> list[tuple[Any, ...]]:
        if not shards:
            return [(0,)] if what == "count(*)" else []
        root = str(storage.local(self.output).absolute())
        paths = [_escaped(f"{root}/{shard.path}") for shard in shards]
        cursor = self._database.cursor()
        try:
            where, values = self._where(query, cursor)
            if _PLACE in end:
                numbered = {"path": [f"{root}/{shard.path}" for shard in shards], "number": range(len(shards))}
                cursor.register("places", pa.table(numbered))
                where = f"join places as p on p.path = s.path {where}"
            own = "path"
            while own in {name.lower() for name in self._alias}:
                own += "_"
            source = f"read_parquet(?, filename = '{own}', hive_partitioning = false)"
            names = ", ".join([*self._alias.values(), "path"])
            asked = cursor.execute(f"select {what} from {source} as s({names}) {where} {end}", [paths, *values])
            rows: list[tuple[Any, ...]] = asked.fetchall()
            return rows
        except duckdb.Error as error:
            reason = str(error).splitlines()[0][:300]
            raise RtdscanError(f"cannot read the shards of {self.output}: {reason}") from error
        finally:
            cursor.close()

    def _where(self, query: Query, cursor: duckdb.DuckDBPyConnection) -> tuple[str, list[Any]]:
        terms: list[str] = []
        values: list[Any] = []
        if query.low > 0 or query.high < 1:
            terms.append(f"{self._alias['score']} between ?::float and ?::float")
            values += [query.low, query.high]
        for name, value in (("status", query.status), ("decision", query.decision)):
            if value:
                terms.append(f"{self._alias[name]} = ?")
                values.append(value)
        if query.column and not _is_of_files(query.column) and query.value:
            terms.append(f"{self._named(query.column)}::varchar = ?")
            values.append(query.value)
        for named, keys, kind in (("among", query.among, "semi"), ("except_", query.except_, "anti")):
            if keys is not None:
                cursor.register(f"{named}_keys", self._keys(keys))
                negated = "not " if kind == "anti" else ""
                same = f'k.path = s.path and k."row" = s.{self._alias["row"]}'
                terms.append(f"{negated}exists (select 1 from {named}_keys as k where {same})")
        return ("where " + " and ".join(terms) if terms else ""), values

    def _keys(self, keys: Iterable[tuple[str, int]]) -> pa.Table:
        files: dict[str, list[int]] = {}
        for file, row in keys:
            files.setdefault(file, []).append(row)
        paths: list[str] = []
        rows: list[int] = []
        for path, shard in self._paths.items():
            for row in files.get(shard.file, ()):
                if 0 <= row - shard.first_row < shard.rows:
                    paths.append(path)
                    rows.append(row)
        return pa.table({"path": pa.array(paths, pa.string()), "row": pa.array(rows, pa.int64())})


def _is_of_files(column: str) -> bool:
    """Whether all rows of a file have one value of it."""
    return column == FILE or column.startswith(PATH)


def _of_file(shard: Shard, column: str) -> str | None:
    return shard.file if column == FILE else partitions(shard.file).get(column.removeprefix(PATH))


def _around(shards: Sequence[Shard], offset: int, limit: int) -> tuple[list[Shard], int]:
    """The shards that hold rows offset to offset + limit, and the offset within them."""
    first, kept, skipped = 0, [], 0
    for shard in shards:
        if first + shard.rows <= offset:
            skipped += shard.rows
        elif first < offset + limit:
            kept.append(shard)
        first += shard.rows
    return kept, offset - skipped


def _escaped(path: str) -> str:
    """A path as a pattern of DuckDB's that matches only itself."""
    return "".join(f"[{character}]" if character in "[*?" else character for character in path)
