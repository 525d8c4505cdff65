"""What one visitor looks at: a query, a page of what it finds, a document of it."""

from dataclasses import dataclass, field, replace

from rtdscan.pipeline.finished.texts import Input
from rtdscan.pipeline.page.catalogue import CORPUS, Catalogue, Query, Row
from rtdscan.pipeline.page.judging import Verdicts
from rtdscan.pipeline.page.search import MOST, Found, search

ANY = "any"

Key = tuple[str, int]
"""A document: (file, row)."""

VERDICTS = (ANY, "none yet", "some", "disputed")
"""Documents by what people said about them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the controls say, in the order of the controls."""

    words: str = ""
    low: float = 0.0
    high: float = 1.0
    status: str = ANY
    decision: str = ANY
    column: str = ANY
    value: str | None = None
    verdicts: str = ANY
    order: str = "score"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """What is shown.

    Attributes:
        wanted: What was asked for.
        query: The same for the catalogue, with the verdicts of that time.
        offset: Documents before the page.
        total: Documents in all; of a search, those found so far.
        found: Of a search for words.
        rows: The page.
    """

    wanted: Wanted = field(default_factory=Wanted)
    query: Query = field(default_factory=Query)
    offset: int = 0
    total: int = 0
    found: Found | None = None
    rows: tuple[Row, ...] = ()

    @property
    def more(self) -> bool:
        """Whether a search can go on."""
        return self.found is not None and not self.found.ended


class Looking:
    """Views of a scan."""

    def __init__(self, catalogue: Catalogue, verdicts: Verdicts, *, rows: int, seconds: float) -> None:
        """Args: `rows` a page, and for how many seconds a search looks at a time; see ReviewConfig."""
        self.catalogue = catalogue
        self.verdicts = verdicts
        self._rows = rows
        self._seconds = seconds

    def begin(self, wanted: Wanted) -> View:
        """The first page of what is wanted.

        Raises:
            RtdscanError: Shards or verdicts can't be read.
        """
        self.catalogue.renew()
        self.verdicts.renew()
        query = self._query(wanted)
        if (wanted.words or "").strip():
            return self.search_on(View(wanted, query, found=Found()))
        return self.page(View(wanted, query, total=self.catalogue.count(query)), offset=0)

    def search_on(self, view: View) -> View:
        """Look through more texts."""
        source = Input(self.catalogue.finished)
        words = view.wanted.words.strip()
        found = search(self.catalogue, source, view.query, words, seconds=self._seconds, after=view.found)
        return self.page(replace(view, found=found, total=len(found.rows)), offset=view.offset)

    def page(self, view: View, *, offset: int) -> View:
        """Another page of the same."""
        offset = max(0, min(offset, (max(view.total, 1) - 1) // self._rows * self._rows))
        if view.found is not None:
            rows = view.found.rows[offset : offset + self._rows]
        else:
            rows = tuple(self.catalogue.page(view.query, offset=offset, limit=self._rows))
        return replace(view, offset=offset, rows=rows)

    def turn(self, view: View, by: int) -> View:
        """The page that many pages on."""
        return self.page(view, offset=view.offset + by * self._rows)

    def step(self, view: View, chosen: Key | None, by: int) -> tuple[View, Key | None]:
        """The next document or the one before, on another page where it must be; the same where none is left."""
        keys = [row.key for row in view.rows]
        at = keys.index(chosen) + by if chosen in keys else 0
        if at >= len(keys) and view.offset + len(keys) < view.total:
            view, at = self.turn(view, 1), 0
        elif at < 0 and view.offset > 0:
            view = self.turn(view, -1)
            at = len(view.rows) - 1
        return view, view.rows[at].key if 0 <= at < len(view.rows) else chosen

    def where(self, view: View) -> str:
        """Which documents the page shows, of how many, in words."""
        last = view.offset + len(view.rows)
        place = f"{view.offset + 1:,}–{last:,} of {view.total:,}" if view.rows else "0"
        if view.found is None:
            return f"{place} documents"
        found, shards = view.found, len(self.catalogue.shards)
        looked = f"{found.documents:,} texts looked through, {found.shards:,} of {shards:,} work units"
        unread = f"; {len(found.unread):,} files could not be read as they were scanned" if found.unread else ""
        full = f"; no more than {MOST} are listed" if len(found.rows) >= MOST else ""
        return f"{place} found; {looked}{full}{unread}"

    def _query(self, wanted: Wanted) -> Query:
        among = except_ = None
        if wanted.verdicts != ANY:
            counts = self.verdicts.by_document()
            if wanted.verdicts == "none yet":
                except_ = frozenset(counts)
            else:
                among = frozenset(key for key, n in counts.items() if wanted.verdicts == "some" or "disputed" in n)
        known = wanted.order in self.catalogue.orders()
        return Query(
            low=wanted.low,
            high=wanted.high,
            status=None if wanted.status == ANY else wanted.status,
            decision=None if wanted.decision == ANY else wanted.decision,
            column=None if wanted.column == ANY else wanted.column,
            value=wanted.value or None,
            among=among,
            except_=except_,
            order=wanted.order if known else CORPUS,
            descending=wanted.descending,
        )
