"""What notes about dead workers lead to: care, blame, an end; and never a crash over a note."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workers import make_job, make_unit

from rtdscan.transforms import attempts
from rtdscan.transforms.attempts import CAREFUL_AFTER, GIVE_UP_AFTER, Attempt, after_death, parse_note
from rtdscan.transforms.infer import score_documents
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import DocumentBatch
from rtdscan.transforms.scorer import OnDocument
from rtdscan.transforms.settings import ScoreSettings, Thresholds

ROWS = 10
UNIT = make_unit("a", rows=ROWS)

rows = st.integers(0, ROWS - 1)
noted = st.builds(
    Attempt,
    unit=st.just(UNIT.shard),
    deaths=st.integers(0, 99),
    unexplained=st.integers(0, 99),
    failed=st.sets(rows).map(lambda found: tuple(sorted(found))),
    row=st.none() | rows,
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, settings=ScoreSettings(thresholds=Thresholds(floor=0.1)))


def note(attempt: Attempt) -> bytes:
    return json.dumps(asdict(attempt)).encode()


def only_note(job: Job) -> Path:
    (path,) = Path(job.output, ".attempts", job.run).iterdir()
    return path


# Deaths


@given(st.lists(st.none() | rows, max_size=30))
def test_every_death_counts_and_every_row_in_progress_is_blamed(deaths: list[int | None]) -> None:
    attempt = Attempt(UNIT.shard)
    for at, row in enumerate(deaths):
        assert attempt.deaths == at
        assert attempt.careful == (at >= CAREFUL_AFTER)
        attempt = after_death(Attempt(attempt.unit, attempt.deaths, attempt.unexplained, attempt.failed, row))
        assert attempt.row is None
    assert attempt.failed == tuple(sorted({row for row in deaths if row is not None}))
    since = next((at for at, row in enumerate(reversed(deaths)) if row is not None), len(deaths))
    assert attempt.unexplained == since
    assert attempt.hopeless == (since >= GIVE_UP_AFTER)


def test_a_unit_without_a_note_is_begun_lightly(job: Job) -> None:
    assert not attempts.begun(job, UNIT)
    assert attempts.begin(job, UNIT) == Attempt(UNIT.shard)
    assert attempts.begun(job, UNIT)
    attempts.end(job, UNIT)
    assert not attempts.begun(job, UNIT)
    assert attempts.begin(job, UNIT).deaths == 0


def test_two_deaths_make_careful_the_third_is_the_rows_fault(job: Job) -> None:
    assert [attempts.begin(job, UNIT).careful for _ in range(3)] == [False, False, True]
    attempt = attempts.current(job, UNIT)
    assert attempt == Attempt(UNIT.shard, deaths=2, unexplained=2)
    attempts.note_row(job, UNIT, attempt, 4)
    assert attempts.begin(job, UNIT) == Attempt(UNIT.shard, deaths=3, failed=(4,))
    attempts.note_row(job, UNIT, attempts.current(job, UNIT), 7)
    attempts.note_row(job, UNIT, attempts.current(job, UNIT), None)  # it went well
    assert attempts.begin(job, UNIT) == Attempt(UNIT.shard, deaths=4, unexplained=1, failed=(4,))


def test_deaths_between_documents_end(job: Job) -> None:
    begun = 0
    while not (attempt := attempts.begin(job, UNIT)).hopeless:
        begun += 1
        if attempt.careful:  # all documents go well; it dies when it writes, say
            for row in (0, 1, None):
                attempts.note_row(job, UNIT, attempts.current(job, UNIT), row)
    assert begun == GIVE_UP_AFTER


def test_scoring_with_care_keeps_what_is_known_of_earlier_deaths(job: Job) -> None:
    class Poisoned:
        def with_settings(self, settings: object) -> "Poisoned":
            return self

        def score_rows(self, rows: pa.Table, *, on_document: OnDocument, **rest: Any) -> None:
            on_document(3)
            raise SystemExit

    for _ in range(4):
        attempts.begin(job, UNIT)
    batch = DocumentBatch(UNIT, job.fingerprint(UNIT, text=""), "scored", pa.table({"text": ["a"]}), careful=True)
    with pytest.raises(SystemExit):
        score_documents(batch, scorer=Poisoned(), job=job)
    assert attempts.current(job, UNIT) == Attempt(UNIT.shard, deaths=3, unexplained=3, row=3)


def test_a_unit_of_nothing_but_poison_ends(job: Job) -> None:
    failed: tuple[int, ...] = ()
    for _ in range(CAREFUL_AFTER + ROWS):
        attempt = attempts.begin(job, UNIT)
        assert not attempt.hopeless
        left = [row for row in range(ROWS) if row not in attempt.failed]
        if attempt.careful and left:
            attempts.note_row(job, UNIT, attempt, left[0])
        failed = attempt.failed
    assert attempts.begin(job, UNIT).failed == (*failed, ROWS - 1) == tuple(range(ROWS))


def test_units_have_notes_of_their_own(job: Job) -> None:
    other = make_unit("b")
    attempts.begin(job, UNIT)
    assert attempts.begin(job, other).deaths == 0
    attempts.end(job, other)
    assert attempts.begun(job, UNIT)


def test_notes_of_another_run_do_not_count(job: Job, tmp_path: Path) -> None:
    earlier = make_job(tmp_path, run="earlier")
    for _ in range(5):
        attempts.begin(earlier, UNIT)
    assert not attempts.begun(job, UNIT)
    assert attempts.begin(job, UNIT) == Attempt(UNIT.shard)
    attempts.forget(job.output)
    assert not attempts.begun(earlier, UNIT)
    assert not Path(job.output, ".attempts").exists()


# Notes


@given(noted)
def test_a_note_says_what_was_written(attempt: Attempt) -> None:
    assert parse_note(note(attempt), UNIT) == attempt


def test_a_note_of_a_name_that_is_not_utf_8(job: Job) -> None:
    unit = make_unit("caf\udce9")
    attempts.begin(job, unit)
    assert attempts.begin(job, unit) == Attempt(unit.shard, deaths=1, unexplained=1)


@settings(max_examples=20)
@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_note(data: bytes) -> None:
    assert parse_note(data, UNIT) == Attempt(UNIT.shard)


@settings(max_examples=20)
@given(st.fixed_dictionaries({name: anything | st.just(UNIT.shard) for name in asdict(Attempt("a"))}))
def test_fields_of_any_kind_are_read_as_far_as_they_make_sense(fields: dict[str, object]) -> None:
    found = parse_note(json.dumps(fields | {"unit": UNIT.shard}).encode(), UNIT)
    assert parse_note(note(found), UNIT) == found
    assert found.deaths >= 0
    assert found.row is None or 0 <= found.row < ROWS
    assert all(0 <= row < ROWS for row in found.failed)


@given(noted, st.integers(0, 200))
def test_a_note_that_breaks_off_is_no_row(attempt: Attempt, size: int) -> None:
    whole = note(attempt)
    assert parse_note(whole[: min(size, len(whole) - 1)], UNIT) == Attempt(UNIT.shard)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b'{"unit": "attributes/other"}'])
def test_a_note_that_can_not_be_read_counts_as_a_death(job: Job, data: bytes) -> None:
    attempts.begin(job, UNIT)
    only_note(job).write_bytes(data)
    assert attempts.begin(job, UNIT) == Attempt(UNIT.shard, deaths=1, unexplained=1)
