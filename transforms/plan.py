"""PlanUnits: input files -> work units, by their footers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput

from rtdscan.transforms.records import BadFile
from rtdscan.transforms.storage import Entry
from rtdscan.transforms.units import plan_units

BAD = "bad"
"""Tag of files that can't be scanned."""


@dataclass(eq=False, kw_only=True)
class PlanUnits(beam.PTransform):
    """Entry -> WorkUnit, with files that can't be scanned as BadFile under the tag `bad`.

    Attributes:
        text: Name or path of the text column.
        columns: Others that will be read.
        text_mb: MiB of uncompressed text a unit.
    """

    text: str
    columns: tuple[str, ...] = ()
    text_mb: float = 4.0

    def expand(self, entries: "beam.PCollection[Entry]") -> DoOutputsTuple:
        """Wire `plan_units`."""
        return entries | "Plan" >> beam.ParDo(_Plan(self.text, self.columns, self.text_mb)).with_outputs(
            BAD, main="units"
        )


class _Plan(beam.DoFn):
    def __init__(self, text: str, columns: tuple[str, ...], text_mb: float) -> None:
        self._text, self._columns, self._text_mb = text, columns, text_mb

    def process(self, entry: Entry) -> Iterator[Any]:
        planned = plan_units(entry, text=self._text, columns=self._columns, text_mb=self._text_mb)
        if isinstance(planned, BadFile):
            yield TaggedOutput(BAD, planned)
        else:
            yield from planned[1]
