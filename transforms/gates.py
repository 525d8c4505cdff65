"""Gates: bounds on metrics -> verdicts.

    gates:
      flagged_share: {max: 0.05}                          # of the whole corpus
      by_source: {metric: drop_share, max: 0.2, by: source}   # for each value of a column of the user's
      drift.psi_score: {max: 0.25}                        # against the accepted run

A gate says no only where it has a number. Where it has none (no baseline, no documents) it says that, and passes. One
gate nobody needs to name: where documents were tried and all failed, the answer is no (NOTHING_SCORED).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from rtdscan.transforms.drift import LITTLE, MEASURES, MUCH, OF_SCORES, Baseline, drift
from rtdscan.transforms.errors import UserError

if TYPE_CHECKING:
    from rtdscan.transforms.tally import Tally

METRICS: dict[str, str | None] = {
    "rows": None,
    "documents": None,
    "words": None,
    "tokens": None,
    "flagged": None,
    "flagged_share": "words",
    "mean_score": "documents",
    "expected_share": "words",
    "unknown_share": "tokens",
    "drop_share": "rows",
    "review_share": "rows",
    "empty_share": "rows",
    "null_share": "rows",
    "invalid_share": "rows",
    "truncated_share": "rows",
    "failed_share": "rows",
}
"""What `Tally.metrics()` has -> the count that it is a share or mean of; None for counts."""

BAD_INPUTS = "bad_inputs"

DRIFT = "drift."

ALL_METRICS = (*METRICS, BAD_INPUTS, *(DRIFT + name for name in MEASURES))

UNNAMED = "not among the values that are counted by name, gone or not"
TOGETHER = "values that are not counted by name: a bound on each can't be put to their sum"

Outcome = Literal["passed", "failed", "no baseline", "not comparable", "no data"]


@dataclass(frozen=True, slots=True)
class Gate:
    """Bounds on one metric.

    Attributes:
        metric: One of ALL_METRICS.
        max, min: Bounds, both inclusive; None: unbounded.
        by: Column of the user's; the bounds then hold for each of its values. None: for the whole corpus.
    """

    metric: str
    max: float | None = None
    min: float | None = None
    by: str | None = None

    @property
    def bound(self) -> str:
        """In words."""
        parts = [(">=", self.min), ("<=", self.max)]
        return " and ".join(f"{sign} {value:g}" for sign, value in parts if value is not None)

    def holds(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.max is None or value <= self.max) and (self.min is None or value >= self.min)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says.

    Attributes:
        gate: Its name.
        metric, bound, by: As in Gate.
        of: The value of column `by` that it is about; None for the whole corpus.
        value: The metric; None where there is no number.
        verdict: What follows.
        note: What a person should know: why there is no number, what the value usually means.
    """

    gate: str
    metric: str
    bound: str
    by: str | None
    of: str | None
    value: float | None
    verdict: Outcome
    note: str = ""


NOTHING_SCORED = Verdict("scored", "documents", ">= 1", None, None, 0, "failed", "all with text failed")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is judged.

    Attributes:
        tally: Of the whole corpus.
        model: Name of the bundle.
        model_digest: Digest of the bundle.
        scoring: Digest of all that changes scores (see records.Fingerprint).
        bad_inputs: Files and units that could not be read.
    """

    tally: "Tally"
    model: str
    model_digest: str
    scoring: str
    bad_inputs: int


class GateError(ValueError):
    """A gate that makes no sense; `key` is the way to it below `gates`."""

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        """Keep where it is."""
        super().__init__(message)
        self.key = key


def parse_gates(values: Mapping[str, Any]) -> dict[str, Gate]:
    """Gates as people write them.

    Args:
        values: By name: `max`, `min` or both; `metric`, where the name is not one; `by`. `false` switches a gate off.
            `drift: {psi_score: …}` is the same as `drift.psi_score: …`.

    Raises:
        GateError: With the key.
    """
    gates: dict[str, Gate] = {}
    for name, bounds in in_full(values).items():
        if isinstance(bounds, Gate):
            gates[name] = bounds
        elif bounds is not False:
            gates[name] = _parse((name,), name, bounds)
    return gates


def in_full(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each gate under its full name: `drift.psi_score: …` where it was `drift: {psi_score: …}`.

    Raises:
        GateError: A gate is given twice, once in each spelling.
    """
    named: dict[str, Any] = {}
    for name, bounds in values.items():
        nested = name == DRIFT[:-1] and isinstance(bounds, Mapping)
        for key, value in [((name, inner), bounds[inner]) for inner in bounds] if nested else [((name,), bounds)]:
            full, *option = full_key(key)
            if option:  # of a gate that is called `drift`
                named.setdefault(full, {})[option[0]] = value
            elif full in named:
                raise GateError(key, f"gate {full} is given twice")
            else:
                named[full] = value
    return named


def full_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """A way below `gates` as `in_full` spells it: `("drift", "psi_score", "max")` -> `("drift.psi_score", "max")`."""
    if key[:1] == (DRIFT[:-1],) and len(key) > 1 and key[1] not in _keys():
        return (DRIFT + str(key[1]), *key[2:])
    return key


def _keys() -> list[str]:
    return [field.name for field in fields(Gate)]


def _parse(key: tuple[str, ...], name: str, bounds: Any) -> Gate:
    where = f"gates.{name}"
    known = _keys()
    if not isinstance(bounds, Mapping):
        raise GateError(key, f"{where} is not a mapping; expected bounds such as {{max: 0.05}}, or false for none")
    for option, value in bounds.items():
        here = f"{where}.{option}"
        if option not in known:
            raise GateError((*key, option), f"unknown key {here}; a gate has {', '.join(known)}")
        if option in ("max", "min"):
            if value is not None and (isinstance(value, bool | str) or not isinstance(value, int | float)):
                raise GateError((*key, option), f"{here} is not a number; expected number or null")
            if value is not None and not math.isfinite(value):
                raise GateError((*key, option), f"{here} is {value}; expected a finite number")
        elif value is not None and not isinstance(value, str):
            raise GateError((*key, option), f"{here} is not text; expected text or null")
    gate = Gate(**{"metric": name, **{option: value for option, value in bounds.items() if value is not None}})
    if gate.metric not in ALL_METRICS:
        said = f"{where}.metric is {gate.metric}" if "metric" in bounds else f"{where} has no metric of that name"
        raise GateError((*key, "metric"), f"{said}; expected `metric: …` with one of {', '.join(ALL_METRICS)}")
    if gate.max is None and gate.min is None:
        raise GateError(key, f"{where} has no bound; expected max, min or both")
    if gate.max is not None and gate.min is not None and gate.max < gate.min:
        raise GateError((*key, "max"), f"{where}.max is {gate.max:g}, below its min, {gate.min:g}")
    if gate.by and gate.metric in (BAD_INPUTS, "drift.embedding_shift"):
        what = "bad inputs are not counted" if gate.metric == BAD_INPUTS else "mean embeddings are not kept"
        raise GateError((*key, "by"), f"{where}: {what} by column; leave out `by`")
    return gate


def judge(gates: Mapping[str, Gate], run: Run, baseline: Baseline | None) -> tuple[Verdict, ...]:
    """The verdicts of all gates, in their order; of a gate `by` a column one for each value. NOTHING_SCORED comes last,
    where it holds and no other says no.

    Args:
        gates: By name.
        run: The run.
        baseline: The accepted run; None where there is none yet.

    Raises:
        UserError: A gate is `by` a column by which the run was not counted.
    """
    verdicts = tuple(verdict for name, gate in gates.items() for verdict in _judge(name, gate, run, baseline))
    broken = run.tally.statuses.get("failed") and not run.tally.documents
    return (*verdicts, NOTHING_SCORED) if broken and passed(verdicts) else verdicts


def passed(verdicts: tuple[Verdict, ...]) -> bool:
    """Whether no gate says no."""
    return all(verdict.verdict != "failed" for verdict in verdicts)


def compared(run: Run, baseline: Baseline) -> dict[str, dict[str, Any]]:
    """All measures of drift for JSON: value, what chance explains, and whether it can be compared at all."""
    measures = drift(run.tally, baseline.tally)
    why = _incomparable(run, baseline)
    return {
        name: {**asdict(measure), "comparable": not (why and name in OF_SCORES), "note": note_of(name, measure.value)}
        for name, measure in measures.items()
    }


def note_of(measure: str, value: float | None) -> str:
    """How a measure's value is usually read."""
    if value is None or not measure.startswith("psi"):
        return ""
    read = "no change to speak of" if value < LITTLE else "some change" if value < MUCH else "another population"
    return f"{read} (usual bounds {LITTLE:g} and {MUCH:g})"


def _judge(name: str, gate: Gate, run: Run, baseline: Baseline | None) -> Iterator[Verdict]:
    if gate.by is None:
        yield _verdict(name, gate, None, run, run.tally, baseline, baseline.tally if baseline else None)
        return
    from rtdscan.transforms.tally import OTHER, surely_absent

    if gate.by not in run.tally.by and run.tally.rows:
        raise UserError(
            f"gates.{name}: this OUTPUT was not counted by {gate.by}; scan it again with this config (no network runs)"
        )
    values = run.tally.by.get(gate.by, {})
    before = baseline.tally.by.get(gate.by, {}) if baseline else {}
    counts = METRICS.get(gate.metric, "") is None
    # A source that sends nothing any more has no shares to judge, but its counts are 0.
    gone = {value for value in before if value not in (*values, OTHER)} if counts else set()
    judged = sorted({*values, *gone})
    for value in judged:
        if counts and (value == OTHER or (value in gone and not surely_absent(value, values))):
            note = TOGETHER if value == OTHER else UNNAMED
            yield Verdict(name, gate.metric, gate.bound, gate.by, value, None, "no data", note)
        else:
            now = values.get(value, run.tally.zero())
            yield _verdict(name, gate, value, run, now, baseline, before.get(value))
    if not judged:
        yield Verdict(name, gate.metric, gate.bound, gate.by, None, None, "no data", "no rows")


def _verdict(
    name: str, gate: Gate, of: str | None, run: Run, now: "Tally", baseline: Baseline | None, base: "Tally | None"
) -> Verdict:
    value: float | None
    outcome: Outcome
    if gate.metric.startswith(DRIFT):
        value, outcome, note = _drifted(gate, of, run, now, baseline, base)
    elif gate.metric == BAD_INPUTS:
        value, outcome, note = run.bad_inputs, "passed", ""
    else:
        metrics = now.metrics()
        part_of = METRICS[gate.metric]
        value = metrics[gate.metric] if part_of is None or metrics[part_of] else None
        outcome, note = ("passed", "") if value is not None else ("no data", f"no {part_of}")
    if value is not None and not gate.holds(value):
        outcome = "failed"
    return Verdict(name, gate.metric, gate.bound, gate.by, of, value, outcome, note)


def _drifted(
    gate: Gate, of: str | None, run: Run, now: "Tally", baseline: Baseline | None, base: "Tally | None"
) -> tuple[float | None, Outcome, str]:
    """A measure of drift, the outcome before bounds are looked at, and a note."""
    measure = gate.metric.removeprefix(DRIFT)
    if baseline is None:
        return None, "no baseline", "no run was accepted yet: rtdscan accept OUTPUT"
    if measure in OF_SCORES and (why := _incomparable(run, baseline)):
        return None, "not comparable", why
    if base is None:
        return None, "no baseline", _unmet(gate.by or "", of or "", baseline)
    found = drift(now, base)[measure]
    if found.value is None:
        return None, "no data", "no embeddings" if measure == "embedding_shift" else "no documents"
    notes = [note_of(measure, found.value)]
    if found.chance is not None:
        few = gate.max is not None and found.chance > gate.max and found.chance >= found.value
        notes.append(f"{'too few documents: ' if few else ''}chance alone gives up to {found.chance:.2g}")
    if measure in OF_SCORES and run.scoring != baseline.scoring:
        notes.append("scored with other settings than the accepted run")
    return found.value, "passed", "; ".join(filter(None, notes))


def _unmet(by: str, value: str, baseline: Baseline) -> str:
    """Why the accepted run has no numbers of a value of a column."""
    from rtdscan.transforms.tally import OTHER, surely_absent

    if by not in baseline.tally.by:
        return f"the accepted run was not counted by {by}"
    if value == OTHER:
        return "the accepted run counted every value by name"
    return "new" if surely_absent(value, baseline.tally.by[by]) else "the accepted run did not count it by name"


def _incomparable(run: Run, baseline: Baseline) -> str:
    """Why scores of the two can't be compared; empty where they can."""
    if baseline.model_digest is None:
        return "" if run.scoring == baseline.scoring else "the accepted run, unfinished, was scored in another way"
    if run.model_digest == baseline.model_digest:
        return ""
    return (
        f"scored by another model: {run.model} {run.model_digest[:8]}, accepted {baseline.model}"
        f" {baseline.model_digest[:8]}; accept a run of this model"
    )
