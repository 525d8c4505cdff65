"""A scan that is killed, whole or in part, at any moment: run again it ends as if nothing had happened.

Real processes and real signals. A poison that kills its worker comes from a sitecustomize.py on the scan's PYTHONPATH.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from corpora import attributes, options, shards, table
from tiny import tiny_vocabulary
from workers import make_job, make_unit

from rtdscan.pipeline.__main__ import main
from rtdscan.transforms import attempts
from rtdscan.transforms.attempts import Attempt

KILLS = 20
UNITS = 240
POISON = "moon"  # a piece of the tiny tokenizer, in none of the other texts

DIE_AT_START = "os.kill(os.getpid(), signal.SIGKILL)"
NO_MEMORY = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))"
ENGINES = {
    "torch": """
    from rtdscan.transforms.engines.torch import TorchEngine as Engine""",
    "openvino": """
    from rtdscan.transforms.engines.openvino import OpenVinoEngine as Engine""",
}
"""Name -> code of a hook that names its class."""

ENGINE = "openvino" if find_spec("openvino") else "torch"
"""Of scans whose workers are started again and again: without torch a start costs half."""

DIE_OF_POISON = f"""
    forward = Engine.forward
    def poisoned(self, ids_BT, lengths_B, weights_BT):
        if (ids_BT == {tiny_vocabulary()[POISON]}).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return forward(self, ids_BT, lengths_B, weights_BT)
    Engine.forward = poisoned
"""
HANG = """
    import time
    forward, calls = Engine.forward, []
    def hanging(self, *args):
        calls.append(1)
        time.sleep(600 if len(calls) > 20 else 0)
        return forward(self, *args)
    Engine.forward = hanging
"""


@dataclass(frozen=True)
class Running:
    """A scan in a session of its own.

    Attributes:
        process: The launcher.
        output: OUTPUT.
        said: File of its stderr.
    """

    process: "subprocess.Popen[bytes]"
    output: Path
    said: Path

    def workers(self) -> list[int]:
        """Process numbers of the workers that live, while the scan goes on."""
        assert self.process.poll() is None, self.said.read_text()
        return [pid for pid, parent, line in processes() if parent == self.process.pid and "spawn_main" in line]

    def session(self) -> list[int]:
        """Process numbers of all that belongs to the scan."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,sess=,stat="], capture_output=True, text=True, check=True)
        lines = [line.split() for line in listed.stdout.splitlines()]
        return [int(pid) for pid, session, stat in lines if int(session) == self.process.pid and stat[0] != "Z"]

    def until_shards(self, n: int) -> None:
        """Wait until there are so many shards, or the scan has ended."""
        until(lambda: len(paths_of(self.output)) >= n or self.process.poll() is not None)

    def wait(self, seconds: float = 60) -> int:
        """Exit status; nothing of the session may outlive it by more than five seconds."""
        status = self.process.wait(timeout=seconds)
        until(lambda: not self.session(), seconds=5)
        return status


@dataclass(frozen=True)
class Case:
    """A corpus and an undisturbed scan of it."""

    corpus: Path
    expected: Path
    bundle: Path
    engine: str = "torch"

    @contextmanager
    def scanning(self, output: Path, *sets: str, hook: str = "") -> Iterator[Running]:
        """Scan in a session of its own; what is left of it in the end is killed.

        Args:
            output: OUTPUT.
            sets: More options.
            hook: Code that each worker runs before anything else.
        """
        folder = output.with_name(f"{output.name} process")
        folder.mkdir(exist_ok=True)
        body = f"import sys\nif '--multiprocessing-fork' in sys.orig_argv:\n    import os, signal\n    {hook.strip()}\n"
        (folder / "sitecustomize.py").write_text(body if hook else "")
        command = [sys.executable, "-m", "rtdscan.pipeline", "scan", str(self.corpus), str(output)]
        with open(folder / "stderr", "ab") as said:
            process = subprocess.Popen(
                [*command, *options(self.bundle, f"engine={self.engine}", "workers=2", *sets)],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
                start_new_session=True,
            )
        running = Running(process, output, folder / "stderr")
        try:
            yield running
        finally:
            for pid in running.session():
                os.kill(pid, signal.SIGKILL)
            process.wait()

    def scan_here(self, output: Path, *sets: str) -> dict[str, int]:
        """Scan in this process (needs the fixture `in_process`); returns units by outcome."""
        assert main(["scan", str(self.corpus), str(output), *options(self.bundle, f"engine={self.engine}", *sets)]) == 0
        return json.loads((output / "run.json").read_text())["summary"]["units"]


def processes() -> list[tuple[int, int, str]]:
    """(pid, parent, command line) of everything that runs."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [(int(line[0]), int(line[1]), line[2]) for line in lines if len(line) == 3]


def until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def paths_of(output: Path) -> list[Path]:
    return list((output / "attributes").rglob("rg*.parquet"))


def check_unfinished(output: Path) -> None:
    """What lies in OUTPUT after a kill: whole shards, and no sign that it is finished."""
    assert not (output / "run.json").exists()
    assert not (output / "manifest.parquet").exists()
    for path in paths_of(output):
        pq.read_table(path, partitioning=None).validate(full=True)


def check_finished(output: Path, expected: Path) -> None:
    """The same bytes as in an undisturbed scan, the same manifest, and nothing left over."""
    assert shards(output) == shards(expected)
    same = ["file", "row_group", "first_row", "rows", "shard", "fingerprint", "documents", "tokens", "words", "flagged"]
    found, wanted = (pq.read_table(folder / "manifest.parquet") for folder in (output, expected))
    assert found.select(same).equals(wanted.select(same))
    assert set(found["status"].to_pylist()) <= {"scored", "current"}
    assert attributes(output).num_rows == sum(found["rows"].to_pylist())
    names = {str(path.relative_to(output)) for path in output.rglob("*")}
    assert names == {str(path.relative_to(expected)) for path in expected.rglob("*")}
    assert not [name for name in names if ".tmp-" in name or ".attempts" in name]


def make_case(folder: Path, bundle: Path, *, rows: int, engine: str = "torch") -> Case:
    """Three files in two folders, ten rows a unit, scanned without disturbance."""
    from corpora import run_here

    (folder / "corpus" / "more").mkdir(parents=True)
    for at, name in enumerate(("a", "b", "more/c")):
        part = table(at * rows, rows)
        short = pa.array([text and text[:100] for text in part["text"].to_pylist()], pa.string())
        pq.write_table(part.set_column(2, "text", short), folder / "corpus" / f"{name}.parquet", row_group_size=200)
    case = Case(folder / "corpus", folder / "expected", bundle, engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        assert case.scan_here(case.expected) == {"scored": len(paths_of(case.expected))}
    return case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Case:
    """A case of many units."""
    case = make_case(tmp_path_factory.mktemp("case"), tiny_bundle, rows=1200, engine=ENGINE)
    assert len(paths_of(case.expected)) >= UNITS
    return case


@pytest.fixture(scope="module")
def small_case(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Case:
    """A case of few units."""
    return make_case(tmp_path_factory.mktemp("small"), tiny_bundle, rows=30)


# The whole scan


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_scan_killed_whole_again_and_again_ends_as_if_undisturbed(case: Case, tmp_path: Path) -> None:
    dice, output = random.Random(20), tmp_path / "out"
    status, kills, shards_at_kills = -signal.SIGKILL, 0, set()
    while status == -signal.SIGKILL:
        before = len(paths_of(output))
        with case.scanning(output, f"workers={1 + kills % 2}") as running:
            if kills < KILLS:
                early = kills % 4 == 3  # while it starts; otherwise once it has made some progress
                new = 0 if early else dice.randrange(1, UNITS // (2 * KILLS))
                running.until_shards(before + new)
                time.sleep(dice.uniform(0, 3 if early else 0.03))
                if running.process.poll() is None:
                    os.killpg(running.process.pid, signal.SIGKILL)
                    kills += 1
                    shards_at_kills.add(len(paths_of(output)))
            status = running.wait()
        if status == -signal.SIGKILL:
            check_unfinished(output)
    assert (status, kills) == (0, KILLS), running.said.read_text()
    assert len(shards_at_kills) >= KILLS / 2  # it came further between kills
    check_finished(output, case.expected)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("in_process")
def test_a_launcher_that_is_told_to_end_takes_its_workers_along(
    case: Case, tmp_path: Path, end: signal.Signals
) -> None:
    output = tmp_path / "out"
    with case.scanning(output, hook=f"{ENGINES[ENGINE]}{HANG}") as running:  # they don't look at their pipe
        running.until_shards(5)
        assert len(running.workers()) == 2
        if end == signal.SIGINT:
            os.killpg(running.process.pid, end)  # as a terminal does
        else:
            running.process.send_signal(end)
        status = running.wait(20)
    said = running.said.read_text()
    if end == signal.SIGKILL:
        assert status == -end
    else:
        assert status == 1
        assert "rtdscan: interrupted; run the same command again to resume\n" in said
        assert not list(output.rglob(".tmp-*"))
    assert "Traceback" not in said
    check_unfinished(output)
    done = len(paths_of(output))
    assert 5 <= done < UNITS
    assert case.scan_here(output)["current"] == done
    check_finished(output, case.expected)


@pytest.mark.usefixtures("in_process")
def test_what_killed_another_run_is_no_documents_fault(small_case: Case, tmp_path: Path) -> None:
    output = tmp_path / "out"
    small_case.scan_here(output)
    (output / "run.json").unlink()
    earlier = make_job(output, run="earlier")
    for row in pq.read_table(output / "manifest.parquet").to_pylist():
        unit = make_unit(row["file"], row_group=row["row_group"], first_row=row["first_row"], rows=row["rows"])
        assert unit.shard == row["shard"]
        attempts.note_row(earlier, unit, Attempt(unit.shard, deaths=9, unexplained=9, failed=(0,)), 1)
        (output / unit.shard).unlink()
    small_case.scan_here(output)
    check_finished(output, small_case.expected)


# Workers


@pytest.mark.slow
def test_workers_that_are_killed_are_replaced(case: Case, tmp_path: Path) -> None:
    dice, output = random.Random(3), tmp_path / "out"
    killed: set[int] = set()
    with case.scanning(output) as running:
        running.until_shards(5)
        workers = running.workers()
        for pid in workers:
            os.kill(pid, signal.SIGINT)  # Ctrl-C is for the launcher
        running.until_shards(20)
        assert running.workers() == workers
        for kill in range(5):
            running.until_shards(len(paths_of(output)) + dice.randrange(15, 30))
            time.sleep(dice.uniform(0, 0.1))
            workers = running.workers()
            for pid in workers if kill == 3 else [dice.choice(workers)]:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        assert running.wait(120) == 0, running.said.read_text()
    assert len(killed) >= 5
    check_finished(output, case.expected)


@pytest.mark.parametrize(
    ("hook", "cause"),
    [
        pytest.param(DIE_AT_START, "killed by signal 9", id="killed"),
        pytest.param(NO_MEMORY, "", id="no memory", marks=pytest.mark.slow),
    ],
)
def test_workers_that_can_not_start_end_the_scan(small_case: Case, tmp_path: Path, hook: str, cause: str) -> None:
    with small_case.scanning(tmp_path / "out", hook=hook) as running:
        assert running.wait(60) == 1
    said = running.said.read_text()
    assert f"rtdscan: workers die while starting ({cause}" in said
    assert said.endswith("run the same command again\n")
    check_unfinished(tmp_path / "out")


# Poison


def poisoned(first: int, rows: int, *, at: dict[int, str]) -> pa.Table:
    texts = table(first, rows)["text"].to_pylist()
    for row, text in at.items():
        texts[row] = text
    return table(first, rows).set_column(2, "text", pa.array(texts, pa.string()))


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_documents_that_kill_their_worker_are_marked_and_no_others(tiny_bundle: Path, tmp_path: Path) -> None:
    corpus, output, expected = tmp_path / "corpus", tmp_path / "out", tmp_path / "expected"
    corpus.mkdir()
    twice = f"The same {POISON} in two rows."
    a = poisoned(0, 60, at={2: f"The {POISON} is full.", 15: f"And so. {'word and ' * 50}{POISON}."})
    b = poisoned(60, 40, at={25: twice, 33: twice})
    pq.write_table(a, corpus / "a.parquet", row_group_size=20)
    pq.write_table(b, corpus / "b.parquet", row_group_size=20)
    case = Case(corpus, expected, tiny_bundle, ENGINE)
    sets = ["unit.text_mb=1"]
    assert case.scan_here(expected, *sets) == {"scored": 5}  # one a row group
    with case.scanning(output, *sets, hook=f"{ENGINES[ENGINE]}{DIE_OF_POISON}") as running:
        assert running.wait(180) == 0, running.said.read_text()
    found, wanted = attributes(output), attributes(expected)
    failed = pc.equal(found["status"], "failed")
    assert found.filter(failed)["id"].to_pylist() == [2, 15, 85, 93]
    assert set(found.filter(failed)["reason"].to_pylist()) == {"it killed its worker"}
    assert found.filter(pc.invert(failed)).equals(wanted.filter(pc.invert(failed)))
    assert found["row"].equals(wanted["row"])
    clean = {name: data for name, data in shards(output).items() if "a.parquet/rg00000" not in name}
    clean = {name: data for name, data in clean.items() if "b.parquet/rg00001" not in name}
    assert len(clean) == 3
    assert clean.items() <= shards(expected).items()
    assert not (output / ".attempts").exists()
