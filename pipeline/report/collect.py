"""All that the report shows, as one value."""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from rtdscan.pipeline.config import ReportSettings
from rtdscan.pipeline.finished.folder import Finished
from rtdscan.pipeline.finished.texts import Input
from rtdscan.pipeline.output import read_baseline
from rtdscan.pipeline.report.counts import Counts, count
from rtdscan.pipeline.report.rows import Group, Rows, read_rows
from rtdscan.pipeline.report.words import FlaggedWords, WorstDocument, flagged_words, worst_documents
from rtdscan.transforms.drift import Baseline
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.gates import Verdict, compared, judge, parse_gates

GROUP_WORDS = 500
"""Groups with fewer words are not ranked: one flagged word would put them on top."""

GROUPS_SHOWN = 12
PROBLEMS_SHOWN = 5
VERDICTS_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Grouped:
    """Documents by the values of a column.

    Attributes:
        column: Its name.
        groups: (value, sums), highest share of flagged words first; small groups after the others.
        values: How many values there are.
        whole: Whether all rows were counted; else those of a sample of shards.
    """

    column: str
    groups: tuple[tuple[str, Group], ...]
    values: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the report shows.

    Attributes:
        finished: The scan.
        settings: What is to be shown.
        made_at: When the report was made, UTC.
        rows, counts, worst, words, grouped: See there; words is None where no text may be shown or none can be read.
        missing: Columns of `report.by` that could not be read.
        verdicts: Of the gates, those that say no first.
        n_verdicts: How many there are.
        baseline: The accepted run, None where there is none.
        drift: Measures against it, see `gates.compared`.
        problems: Why texts or columns could not be read from INPUT: some of them, (file, reason).
        n_problems: In how many files.
    """

    finished: Finished
    settings: ReportSettings
    made_at: datetime
    rows: Rows
    counts: Counts
    worst: tuple[WorstDocument, ...]
    words: FlaggedWords | None
    grouped: tuple[Grouped, ...]
    missing: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    n_verdicts: int
    baseline: Baseline | None
    drift: dict[str, dict[str, Any]]
    problems: tuple[tuple[str, str], ...]
    n_problems: int


def collect(finished: Finished, settings: ReportSettings) -> Findings:
    """Read what the report shows.

    Raises:
        UserError: A column of `report.by` is the text.
        RtdscanError: A shard is missing or damaged.
    """
    if finished.run["text"] in settings.by:
        raise UserError(f"report.by: {finished.run['text']} is the text column; name columns with few values")
    source = Input(finished)
    counted = finished.tally.by
    rows = read_rows(finished, source, by=[name for name in settings.by if name not in counted])
    worst = tuple(worst_documents(finished, source, text=settings.text))
    words = flagged_words(finished, source) if settings.text else None
    baseline = read_baseline(finished.output)
    verdicts = judge(parse_gates(finished.run["config"].get("gates", {})), finished.judged, baseline)
    verdicts = tuple(sorted(verdicts, key=lambda verdict: verdict.verdict != "failed"))
    every = {column: {value: Group.of(tally) for value, tally in counted[column].items()} for column in counted}
    problems = sorted(source.problems.items())
    return Findings(
        finished=finished,
        settings=settings,
        made_at=datetime.now(timezone.utc),
        rows=rows,
        counts=count(finished),
        worst=worst,
        words=words if words is None or words.spans or not problems else None,
        grouped=tuple(
            _grouped(name, (every | rows.groups)[name], whole=name in counted or rows.shards == rows.of)
            for name in dict.fromkeys([*settings.by, *counted])
            if name in every or name in rows.groups
        ),
        missing=tuple(name for name in settings.by if name not in every and name not in rows.groups),
        verdicts=verdicts[:VERDICTS_SHOWN],
        n_verdicts=len(verdicts),
        baseline=baseline,
        drift=compared(finished.judged, baseline) if baseline else {},
        problems=tuple(problems[:PROBLEMS_SHOWN]),
        n_problems=len(problems),
    )


def _grouped(column: str, groups: dict[str, Group], *, whole: bool) -> Grouped:
    def rank(item: tuple[str, Group]) -> tuple[bool, float, str]:
        value, group = item
        return group.words < GROUP_WORDS, -group.share, value

    return Grouped(column, tuple(sorted(groups.items(), key=rank)[:GROUPS_SHOWN]), len(groups), whole)
