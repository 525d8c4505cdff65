"""A list of units as a Ray task: repeated it goes on where it ended, and the launcher takes a hopeless one apart."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workers import make_job, make_unit

from rtdscan.transforms import attempts, task
from rtdscan.transforms.errors import AT_FAULT, EngineError, RtdscanError
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit
from rtdscan.transforms.task import Task, read_diary, run_task


class Died(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    def die(status: int) -> None:
        raise Died

    monkeypatch.setattr(os, "_exit", die)
    monkeypatch.setattr(task, "_PREPARED", set())
    return make_job(tmp_path)


def scanned(unit: WorkUnit) -> Done:
    return Done(unit.shard, "scored", "f", 1.0, "", "here:1")


def runs(
    monkeypatch: pytest.MonkeyPatch, *, dies_at: str = "", error: type[BaseException] = Died, unfit: bool = False
) -> dict[str, list[Any]]:
    """Replace what a worker does: it scores units one by one and dies at one of them, or while it prepares."""
    seen: dict[str, list[Any]] = {"prepared": [], "units": []}

    def prepare(job: Job) -> None:
        seen["prepared"].append(job)
        if unfit:
            raise error("no room")

    def run_units(units: Sequence[WorkUnit], job: Job, *, on_done: Callable[[Done], None]) -> None:
        for unit in units:
            attempts.begin(job, unit)
            if unit.file.relative == dies_at:
                raise error("no room")
            seen["units"].append(unit.file.relative)
            attempts.end(job, unit)
            on_done(scanned(unit))

    monkeypatch.setattr("rtdscan.transforms.child.prepare", prepare)
    monkeypatch.setattr("rtdscan.transforms.child.run_units", run_units)
    return seen


def test_a_repeated_task_goes_on_where_it_ended(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    units = tuple(make_unit(name) for name in "abc")
    repeated = Task("1", units, job)
    runs(monkeypatch, dies_at="b")
    with pytest.raises(Died):
        run_task(repeated)
    assert read_diary(repeated).done == (scanned(units[0]),)
    assert attempts.begun(job, units[1])
    seen = runs(monkeypatch)
    assert run_task(repeated) == tuple(map(scanned, units))
    assert seen["units"] == ["b", "c"]
    assert read_diary(repeated).tries == 2
    assert run_task(repeated) == tuple(map(scanned, units)), "its answer was lost: nothing is done again"
    assert seen["units"] == ["b", "c"]


def test_a_model_is_tried_out_once_a_process(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = runs(monkeypatch)
    for name in "12":
        run_task(Task(name, (make_unit(name),), job))
    assert len(seen["prepared"]) == 1


@pytest.mark.parametrize("error", AT_FAULT)
def test_a_process_at_fault_dies_with_a_word(job: Job, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    runs(monkeypatch, dies_at="a", error=error)
    dying = Task("1", (make_unit("a"),), job)
    with pytest.raises(Died):
        run_task(dying)
    assert read_diary(dying).words == f"{error.__name__}: no room"


def test_workers_that_never_begin_a_unit_end_the_scan(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, error=MemoryError, unfit=True)
    idle = Task("1", (make_unit("a"),), job)
    for _ in range(task.IDLE_TRIES):
        with pytest.raises(Died):
            run_task(idle)
    with pytest.raises(EngineError, match=r"6 workers died before they began a unit \(MemoryError: no room\)"):
        run_task(idle)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"tries": 1}', b'{"tries": 1, "words": "", "done": [{}]}'])
def test_a_damaged_diary_is_none(job: Job, data: bytes) -> None:
    damaged = Task("1", (make_unit("a"),), job)
    path = Path(job.output, ".attempts", job.run, "1.task")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert read_diary(damaged) == task.Diary()


# What the launcher does once Ray has given a task up


@pytest.fixture
def scan(job: Job) -> Any:
    pytest.importorskip("ray")
    from rtdscan.pipeline.launchers import ray_driver

    told: list[Any] = []
    cluster = SimpleNamespace(job=job, workers=None, room=lambda: 2)
    scan = ray_driver._Scan(cluster, SimpleNamespace(send=told.append), [])  # type: ignore[arg-type]
    return SimpleNamespace(scan=scan, told=told)


def crashed() -> Exception:
    from ray.exceptions import WorkerCrashedError

    return WorkerCrashedError()


def test_what_was_begun_goes_on_alone(job: Job, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    units = tuple(make_unit(name) for name in "abcd")
    given_up = Task("1", units, job)
    runs(monkeypatch, dies_at="b")
    with pytest.raises(Died):
        run_task(given_up)
    scan.scan._try_again(given_up, crashed())
    assert list(scan.scan._lists) == [[units[1]], list(units[2:])]
    done, word = scan.told
    assert done == scanned(units[0])
    assert f"it was at {units[1].shard}; others go on" in word


def test_a_unit_over_which_workers_die_for_ever_is_bad(job: Job, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtdscan.pipeline.launchers.ray_driver import ROUNDS

    unit = make_unit("a")
    attempts.begin(job, unit)
    for round_ in range(ROUNDS + 1):
        scan.scan._try_again(Task(str(round_), (unit,), job), crashed())
    assert [one.outcome for one in scan.told if isinstance(one, Done)] == ["bad"]
    assert len(scan.scan._lists) == ROUNDS


def test_tasks_that_never_begin_end_the_scan(job: Job, scan: Any) -> None:
    idle = Task("1", (make_unit("a"),), job)
    scan.scan._try_again(idle, crashed())
    assert list(scan.scan._lists) == [[make_unit("a")]]
    with pytest.raises(RtdscanError, match=r"Ray gave up a task \(WorkerCrashedError: The worker died"):
        scan.scan._try_again(idle, crashed())


def test_an_error_that_is_no_death_ends_the_scan(job: Job, scan: Any) -> None:
    from ray.exceptions import RaySystemError

    with pytest.raises(RtdscanError, match=r"Ray gave up a task \(RaySystemError: System error: odd"):
        scan.scan._try_again(Task("1", (make_unit("a"),), job), RaySystemError("odd"))
