"""Child processes that may die at any moment: every unit is done once, or the scan ends with an error. Never a hang."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import workers
from hypothesis import given
from hypothesis import strategies as st
from workers import make_job, make_unit

from rtdscan.pipeline.launchers import local
from rtdscan.pipeline.launchers.cores import share_out
from rtdscan.pipeline.launchers.local import run_local, unit_lists
from rtdscan.transforms.errors import EngineError, RtdscanError
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done
from rtdscan.transforms.settings import ScoreSettings

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def player(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Workers are those of tests/workers.py; afterwards none is left."""

    def play(name: str) -> None:
        monkeypatch.setattr(local, "_work", getattr(workers, name))

    play("play")
    yield play
    assert multiprocessing.active_children() == []


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def outcomes(done: list[Done]) -> dict[str, str]:
    """Outcome by file; fails when a unit was reported twice."""
    found = {one.shard.split("/")[1]: one.outcome for one in done}
    assert len(found) == len(done)
    return found


def lists_of(job: Job) -> list[list[str]]:
    return [line.split("|") for line in (Path(job.output) / "lists.txt").read_text().splitlines()]


# Lists


sizes = st.lists(st.integers(0, 3 << 20), max_size=200)


@given(sizes, st.integers(1, 8))
def test_lists_are_short_and_hold_every_unit_once(sizes: list[int], n: int) -> None:
    units = [make_unit(f"{at}", text_bytes=size) for at, size in enumerate(sizes)]
    lists = list(unit_lists(units, workers=n))
    flat = [unit for short in lists for unit in short]
    assert sorted(flat, key=id) == sorted(units, key=id)
    assert [unit.text_bytes for unit in flat] == sorted(sizes, reverse=True)
    for short in lists:
        assert 1 <= len(short) <= local.LIST_UNITS
        assert len(short) == 1 or sum(unit.text_bytes for unit in short) <= local.LIST_MB * 2**20


def test_a_small_corpus_keeps_all_workers_busy() -> None:
    units = [make_unit(f"{at}", text_bytes=1000) for at in range(32)]
    assert [len(short) for short in unit_lists(units, workers=2)] == [4] * 8


@pytest.mark.parametrize(
    ("workers", "sizes", "expected"),
    [
        (2, [4], (1, 2)),
        (2, [4, 4], (2, 1)),
        (2, [4, 1], (1, 2)),  # 2.75 instead of 4
        (2, [4, 4, 4], (1, 2)),  # 1.65 turns instead of 2
        (2, [4] * 11, (2, 1)),  # 6.05 turns instead of 6
        (16, [4] * 17, (5, 3)),  # 4 turns of .4 instead of 2
        (16, [4] * 16, (16, 1)),
        (9, [8, 9, 7, 7], (4, 2)),
        (4, [0, 0], (2, 2)),
        (1, [4, 4], (1, 1)),
        (2, [4] * 17, (2, 1)),
    ],
)
def test_few_units_get_the_cores_that_would_be_idle(workers: int, sizes: list[int], expected: tuple[int, int]) -> None:
    assert share_out(workers, sizes) == expected


def test_lists_get_shorter_towards_the_end() -> None:
    units = [make_unit(f"{at}", text_bytes=1 << 20) for at in range(60)]
    units += [make_unit(f"small {at}", text_bytes=1 << 16) for at in range(64)]
    # 64 MiB for two workers: 4 MiB a list while an eighth of the rest is more, then an eighth of it, at least 1/8.
    megabytes = [sum(unit.text_bytes for unit in short) / 2**20 for short in unit_lists(units, workers=2)]
    assert megabytes[:9] == [4.0] * 8 + [4.0]
    assert megabytes[9:13] == [3.0, 3.0, 2.0, 2.0]
    assert megabytes[-2] == 0.125
    assert 0 < megabytes[-1] <= 0.125
    assert sorted(megabytes, reverse=True) == megabytes


# Undisturbed


def test_every_unit_is_done_once_and_told_as_it_is_done(job: Job) -> None:
    units = [make_unit(f"write {at}") for at in range(100)]
    told: list[Done] = []
    done = run_local(units, job, workers=3, on_done=told.append)
    assert told == done
    assert outcomes(done) == {unit.file.relative: "scored" for unit in units}
    pids = {one.worker for one in done}
    assert 2 <= len(pids) <= 3
    assert not list(Path(job.output, ".attempts").rglob("*.json"))


@pytest.mark.parametrize(
    ("unit", "expected"), [("count 1", [10, 25, 0]), ("halfway 1", [10, 25, 0, 10, 25, 0]), ("write 1", [0])]
)
def test_it_is_told_how_far_units_under_way_are(job: Job, unit: str, expected: list[int]) -> None:
    told: list[int] = []
    run_local([make_unit(unit)], job, workers=1, on_tokens=told.append)
    assert told == expected, "what is done counts no more, nor what a worker that died had scored"


def test_a_child_tells_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe()
    teller = local._Teller(theirs)
    teller.scored(5)
    teller.scored(7)  # too soon
    monkeypatch.setattr(local, "PACE_SECONDS", 0.0)
    teller.scored(1)
    done = Done("shard", "scored", "f", 0.0, "", "here")
    teller.done(done)
    teller.scored(2)
    assert [ours.recv() for _ in range(4)] == [5, 13, done, 2]
    assert not ours.poll()


def test_no_more_workers_than_lists(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Job] = []
    start = local._start
    monkeypatch.setattr(local, "_start", lambda job: started.append(job) or start(job))
    assert len(run_local([make_unit("write 1"), make_unit("write 2")], job, workers=50)) == 2
    assert len(started) == 2
    assert run_local([], job, workers=4) == []
    assert len(started) == 2


# Deaths


@pytest.mark.slow
def test_workers_killed_at_random_are_replaced(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "DEATHS_AT_START", 1000)  # some die before they are ready
    units = [make_unit(f"write {at}") for at in range(200)]
    dice, kills = random.Random(7), 0

    def kill_one_of_them(done: Done) -> None:
        nonlocal kills
        children = [child.pid for child in multiprocessing.active_children() if child.pid]
        if kills < 8 and dice.random() < 0.2 and children:
            os.kill(dice.choice(children), signal.SIGKILL)
            kills += 1

    done = run_local(units, job, workers=4, on_done=kill_one_of_them)
    assert kills == 8
    assert outcomes(done) == {unit.file.relative: "scored" for unit in units}


def test_the_unit_that_was_begun_is_tried_alone_and_the_rest_as_a_list(job: Job) -> None:
    units = [make_unit(f"{'once' if at == 2 else 'write'} {at}", text_bytes=0) for at in range(5)]
    assert set(outcomes(run_local(units, job, workers=1)).values()) == {"scored"}
    assert lists_of(job) == [["write 0", "write 1", "once 2", "write 3", "write 4"], ["once 2"], ["write 3", "write 4"]]


def test_a_message_that_breaks_off_is_a_death(job: Job) -> None:
    units = [make_unit("torn 1"), make_unit("write 2")]
    assert outcomes(run_local(units, job, workers=1)) == {"torn 1": "scored", "write 2": "scored"}


@pytest.mark.parametrize("kind", ["poison", pytest.param("vanish", marks=pytest.mark.slow)])
def test_a_unit_that_always_kills_is_given_up(job: Job, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(local, "DEATHS_OF_UNIT", 3)
    units = [make_unit(f"{kind if at == 3 else 'write'} {at}") for at in range(6)]
    done = run_local(units, job, workers=2)
    assert outcomes(done) == {unit.file.relative: "bad" if unit is units[3] else "scored" for unit in units}
    (bad,) = (one for one in done if one.outcome == "bad")
    assert bad.reason == "3 workers died over it (killed by signal 9)"


@pytest.mark.slow
def test_a_scan_of_nothing_but_poison_ends(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "DEATHS_OF_UNIT", 2)
    assert set(outcomes(run_local([make_unit(f"poison {at}") for at in range(2)], job, workers=2)).values()) == {"bad"}


# Failing starts


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        pytest.param("die_at_once", "killed by signal 9", marks=pytest.mark.slow),
        ("say_and_die", "MemoryError: no room for the model"),
    ],
)
def test_workers_that_never_start_end_the_scan(
    tmp_path: Path, player: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, name: str, cause: str
) -> None:
    player(name)
    monkeypatch.setattr(local, "DEATHS_AT_START", 2)
    # More than a pipe holds: whoever hands it to a process that is dead must not wait for it to be read.
    job = make_job(tmp_path, settings=ScoreSettings(allow=tuple(f"word{at}" for at in range(100_000))))
    with pytest.raises(RtdscanError, match=f"workers die while starting .{cause}.; .* try --set workers=1"):
        run_local([make_unit(f"write {at}") for at in range(9)], job, workers=2)


def test_one_worker_that_starts_is_enough(
    job: Job, tmp_path: Path, player: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTDSCAN_TEST_FOLDER", str(tmp_path))
    player("play_alone")
    monkeypatch.setattr(local, "DEATHS_AT_START", 2)
    done = run_local([make_unit(f"write {at}") for at in range(40)], job, workers=3)
    assert len(outcomes(done)) == 40
    assert len({one.worker for one in done}) == 1


def test_a_process_that_can_not_be_started_ends_the_scan(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", refuse)
    with pytest.raises(RtdscanError, match=r"can't start a worker process: .*temporarily unavailable"):
        run_local([make_unit("write 1")], job, workers=2)


def test_where_no_more_processes_can_be_started_the_first_ones_do_the_work(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = local._start, 0

    def start_one(job: Job) -> local._Worker:
        nonlocal started
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started += 1
        return start(job)

    monkeypatch.setattr(local, "_start", start_one)
    assert len(outcomes(run_local([make_unit(f"write {at}") for at in range(9)], job, workers=4))) == 9


# Other ends


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (EngineError("no CUDA"), (RtdscanError, "^no CUDA$")),
        (ValueError("odd"), (RtdscanError, "^ValueError: odd$")),
        (MemoryError(), (MemoryError, "^MemoryError$")),
        (pa.ArrowMemoryError("malloc of size 64 failed"), (MemoryError, "^ArrowMemoryError: malloc of size 64")),
    ],
)
def test_what_goes_wrong_in_the_graph_comes_back_in_one_line(
    job: Job, monkeypatch: pytest.MonkeyPatch, raised: Exception, told: tuple[type[Exception], str]
) -> None:
    from rtdscan.transforms.child import run_units

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("rtdscan.transforms.attempts.begin", fail)
    monkeypatch.setattr("rtdscan.transforms.infer.ScorerHandler.load_model", lambda handler: handler)
    with pytest.raises(told[0], match=told[1]):
        run_units([make_unit("write 1")], job)


def test_a_worker_that_is_killed_leaves_no_temporary_folder(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at in the midst of a unit, when it may be killed."""
    from rtdscan.transforms.child import run_units

    there: list[list[Path]] = []

    def look(*_: object) -> None:
        there.append(list(tmp_path.glob("temporary/*")))
        raise EngineError("seen")

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("rtdscan.transforms.attempts.begin", look)
    monkeypatch.setattr("rtdscan.transforms.infer.ScorerHandler.load_model", lambda handler: handler)
    with pytest.raises(RtdscanError, match="seen"):
        run_units([make_unit("write 1")], job)
    assert there == [[]]


def test_an_error_ends_the_scan_with_its_message(job: Job) -> None:
    units = [make_unit(f"{'error' if at == 5 else 'write'} {at}") for at in range(40)]
    with pytest.raises(EngineError, match="the engine stopped working"):
        run_local(units, job, workers=2)


def test_an_interrupted_scan_leaves_nothing_half_written(job: Job) -> None:
    def interrupt(done: Done) -> None:
        while not list(Path(job.output).rglob(".tmp-*")):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local([make_unit(name, text_bytes=0) for name in ("write 1", "slow 2")], job, workers=1, on_done=interrupt)
    assert [path.name for path in Path(job.output, "attributes").rglob("rg*")] == ["rg00000-row000000000.parquet"]
    assert not list(Path(job.output).rglob(".tmp-*"))


INTERRUPTED = """
import os, signal
from rtdscan.pipeline.launchers.children import undisturbed
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us may ignore it
before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
try:
    with undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
        print("held back")
    print("never let through")
except KeyboardInterrupt:
    print("let through", signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before)
"""


def test_starting_holds_signals_back_but_not_for_long() -> None:
    # A process of its own: native libraries of other tests leave signal stacks behind on which a signal ends badly.
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["held back", "let through True"]


def test_a_child_is_started_with_signals_held_back(job: Job, player: Callable[[str], None]) -> None:
    player("say_mask")
    with pytest.raises(RtdscanError, match=r"SIGINT.*SIGTERM"):
        run_local([make_unit("write 1")], job, workers=1)
