"""Verdicts as the page has them: stored one by one, those of others read as they come."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from rtdscan.pipeline.detection.verdicts import FOLDER, Verdict, last_said, read_verdicts, settled, write_verdict
from rtdscan.transforms import storage

Said = Mapping[tuple[int, int], Mapping[str, Verdict]]
"""(start, end) -> reviewer -> what that person said last."""


class Verdicts:
    """All verdicts on a scan, without their texts. Several pages and machines may write at once."""

    def __init__(self, output: str) -> None:
        """Read what there is.

        Raises:
            RtdscanError: A file of verdicts is damaged.
        """
        self._output = output
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._documents: dict[tuple[str, int], list[Verdict]] = {}
        self._counts: dict[tuple[str, int], dict[str, int]] = {}
        self._stale: set[tuple[str, int]] = set()
        self._latest = datetime.min.replace(tzinfo=timezone.utc)
        self.renew()

    def renew(self) -> None:
        """Read what others have stored since."""
        with self._lock:
            entries = storage.list_files(storage.join(self._output, FOLDER), suffix=".parquet")
            new = [entry for entry in entries if entry.relative not in self._known]
            for verdict in read_verdicts([entry.path for entry in new], text=False):
                self._add(verdict)
            self._known |= {entry.relative for entry in new}

    def store(self, verdict: Verdict) -> Verdict:
        """Store a verdict; it is on the disk when this returns.

        Its time is that of the call, later than all that this page has seen: what is said last counts, whatever the
        clocks say.
        """
        with self._lock:
            at = max(datetime.now(timezone.utc), self._latest + timedelta(microseconds=1))
            verdict = replace(verdict, at=at)
            self._known.add(write_verdict(self._output, verdict))
            self._add(replace(verdict, text=""))
        return verdict

    def said(self, file: str, row: int, digest: str) -> Said:
        """What people say about a document, as long as its text is this one."""
        with self._lock:
            about = sorted(self._documents.get((file, row), ()), key=lambda verdict: verdict.at)
        return last_said(verdict for verdict in about if verdict.digest == digest)

    def by_document(self) -> dict[tuple[str, int], dict[str, int]]:
        """(file, row) -> how many stretches are right, wrong, unsure, disputed; documents without any left out."""
        with self._lock:
            for key in self._stale:
                about = sorted(self._documents[key], key=lambda verdict: verdict.at)
                counts: dict[str, int] = dict(Counter(settled(people.values()) for people in last_said(about).values()))
                if counts:
                    self._counts[key] = counts
                else:
                    self._counts.pop(key, None)
            self._stale.clear()
            return dict(self._counts)

    def _add(self, verdict: Verdict) -> None:
        self._documents.setdefault(key := (verdict.file, verdict.row), []).append(verdict)
        self._stale.add(key)
        self._latest = max(self._latest, verdict.at)
