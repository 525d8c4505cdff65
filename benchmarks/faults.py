"""Random faults over a scan, then the same command again, then every byte compared.

    python -m benchmarks.faults --faults 20 --seed 1 --runners local service ray

Each trial scans a small corpus into a new OUTPUT, does one thing to it at a random moment, and if the scan did not end
well runs the same command again. A scan that neither ends nor writes a shard for `--patience` seconds is a hang.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.models import make_model
from benchmarks.services import build_wheel, kill_session, make_environment, serving, session

ENGINE = "openvino" if find_spec("openvino") else "torch"
"""Its workers start in half the time, and in most of these scans some start again."""

FILES, ROWS = 4, 60
RAY_MEMORY = 80 << 20
UNITS_MB = 0.002
WORDS = (
    "the", "old", "house", "stood", "at", "end", "of", "a", "road", "and", "nobody", "had", "lived", "there", "for"
)  # fmt: skip


@dataclass
class Scan:
    """A scan that runs.

    Attributes:
        process: The launcher, leader of a session.
        output: OUTPUT.
        workers: Sessions beside the launcher's whose processes work for it.
        nodes: Processes whose grandchildren and children work for it, each perhaps in a session of its own.
        undo: What a fault left to be put right before the next scan.
    """

    process: "subprocess.Popen[bytes]"
    output: Path
    corpus: Path
    workers: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    undo: list[Callable[[], object]] = field(default_factory=list)

    def pids(self) -> list[int]:
        """The launcher's and workers' processes, the launcher first."""
        of_sessions = {pid for leader in (self.process.pid, *self.workers) for pid in session(leader)}
        return sorted(of_sessions | set(self._tasks()))

    def victims(self) -> list[int]:
        """Processes that score: children of the launcher, or of the pool."""
        if self.nodes:
            return self._tasks()
        commands = {pid: _command(pid) for pid in self.pids() if pid not in {self.process.pid, *self.workers}}
        # Not "tracker" alone: the command of a spawned worker has `tracker_fd=`.
        return [pid for pid, command in commands.items() if command and b"resource_tracker" not in command]

    def _tasks(self) -> list[int]:
        """Processes of nodes that run a task; Ray names them after it."""
        found = (child for node in self.nodes for child in psutil.Process(node).children(recursive=True))
        return [child.pid for child in found if _command(child.pid).startswith(b"ray::run_on_node")]


@dataclass(frozen=True)
class Runner:
    """How to scan.

    Attributes:
        sets: Options.
        beam: Beam options, after `--`.
        workers, nodes: As in Scan.
    """

    sets: tuple[str, ...] = ()
    beam: tuple[str, ...] = ()
    workers: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()


@contextmanager
def local(folder: Path) -> Iterator[Runner]:
    """Child processes."""
    yield Runner(sets=("workers=2",))


@contextmanager
def service(folder: Path) -> Iterator[Runner]:
    """Beam's job service and a worker pool in an environment of its own."""
    shared = folder.parent / "environment"
    if not shared.exists():
        make_environment(shared, build_wheel(folder.parent / "wheel"))
    with serving(folder / "services", shared / "bin" / "python", quiet=True) as services:
        yield Runner(("runner=PortableRunner",), tuple(services.arguments), (services.pool.pid,))


@contextmanager
def ray(folder: Path) -> Iterator[Runner]:
    """A Ray cluster of a head without CPUs and two nodes of one CPU."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": RAY_MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=RAY_MEMORY) for _ in range(2)]
        raylets = tuple(int(node.all_processes["raylet"][0].process.pid) for node in nodes)
        yield Runner(("runner=ray", f"ray.address={cluster.address}", "ray.memory_per_task=0.5"), nodes=raylets)
    finally:
        cluster.shutdown()


RUNNERS: dict[str, Callable[[Path], AbstractContextManager[Runner]]] = {"local": local, "service": service, "ray": ray}
"""Name -> what it takes; another runner is another entry."""


def kill_worker(scan: Scan, dice: random.Random) -> None:
    """SIGKILL for a process that scores, as soon as there is one."""
    while scan.process.poll() is None:
        if victims := scan.victims():
            with suppress(ProcessLookupError):
                return os.kill(dice.choice(victims), signal.SIGKILL)
        time.sleep(0.02)


def kill_all(scan: Scan, dice: random.Random) -> None:
    """SIGKILL for the launcher and all its children at once."""
    kill_session(scan.process.pid)


def stop_and_continue(scan: Scan, dice: random.Random) -> None:
    """A process stands still for three seconds."""
    pid = dice.choice(scan.victims() or scan.pids())
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(pid, signal.SIGCONT)


def full_disk(scan: Scan, dice: random.Random) -> None:
    """From here on no process can write more than some bytes into a file."""
    room = dice.choice([0, 100, 3000])
    for pid in scan.pids():
        with suppress(ProcessLookupError):
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, before[1]))
            scan.undo.append(lambda pid=pid, before=before: _unlimit(pid, before))  # type: ignore[misc]


def unreadable_file(scan: Scan, dice: random.Random) -> None:
    """A file of INPUT is cut short; it is whole again for the next scan."""
    path = dice.choice(sorted(scan.corpus.glob("*.parquet")))
    data, facts = path.read_bytes(), path.stat()

    def mend() -> None:
        path.write_bytes(data)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    scan.undo.append(mend)
    path.write_bytes(data[: dice.randrange(1, len(data))])


def slow_storage(scan: Scan, dice: random.Random) -> None:
    """All processes stand still now and then, as they do when they wait for a disk."""
    for _ in range(10):
        pids = scan.pids()
        for wanted in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, wanted)
            time.sleep(dice.uniform(0.05, 0.3))


FAULTS = {
    one.__name__.replace("_", " "): one
    for one in (kill_worker, kill_all, stop_and_continue, full_disk, unreadable_file, slow_storage)
}


@dataclass
class Row:
    """What became of the trials of one fault on one runner."""

    tried: int = 0  # of those that were disturbed before they had ended
    unharmed: int = 0
    hangs: int = 0
    lost_rows: int = 0
    double_rows: int = 0
    other_bytes: int = 0
    unfinished: int = 0
    slowest: float = 0.0


def main() -> int:
    """Run the trials, print the table; exit status 1 where a scan hung or a row was lost, doubled or differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=12, help="trials of each runner")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=sorted(FAULTS), default=sorted(FAULTS))
    parser.add_argument("--runners", nargs="+", choices=sorted(RUNNERS), default=["local", "service"])
    parser.add_argument("--patience", type=float, default=40.0, help="seconds without a shard that make a hang")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table: dict[tuple[str, str], Row] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, corpus = make_model("tiny", folder / "model"), folder / "corpus"
        write_corpus(corpus, seed=args.seed)
        expected = folder / "expected"
        if _start(corpus, expected, model, Runner()).wait() != 0:
            raise RuntimeError("the undisturbed scan failed")
        for runner in args.runners:
            dice = random.Random(args.seed)
            names = [name for _ in range(args.faults) for name in dice.sample(sorted(args.only), len(args.only))]
            for number, fault in enumerate(names[: args.faults]):
                place = folder / runner / str(number)
                shutil.copytree(corpus, place / "corpus")
                row = table.setdefault((runner, fault), Row())
                trial(RUNNERS[runner], fault, place, model, expected, row, dice, patience=args.patience)
                print(f"{runner} {number + 1}/{args.faults}: {fault}", file=sys.stderr)
    print(
        json.dumps([{"runner": r, "fault": f, **vars(row)} for (r, f), row in table.items()])
        if args.json
        else show(table)
    )
    return int(
        any(row.hangs + row.lost_rows + row.double_rows + row.other_bytes + row.unfinished for row in table.values())
    )


def trial(
    runner: Callable[[Path], AbstractContextManager[Runner]],
    fault: str,
    place: Path,
    model: Path,
    expected: Path,
    row: Row,
    dice: random.Random,
    *,
    patience: float,
) -> None:
    """Scan, disturb, scan again if need be, compare; adds to `row`."""
    corpus, output = place / "corpus", place / "out"
    whole = len(_shards(expected))
    with runner(place) as how:
        scan = Scan(_start(corpus, output, model, how), output, corpus, how.workers, how.nodes)
        _until_shards(scan, dice.randrange(1, whole * 3 // 4))
        if scan.process.poll() is None:
            row.tried += 1
            FAULTS[fault](scan, dice)
        status = _end(scan, patience=patience)
        row.hangs += status is None
        row.unharmed += status == 0
        for undo in scan.undo:
            undo()
    if status != 0:
        began = time.monotonic()
        with runner(place / "again") as how:
            if _end(Scan(_start(corpus, output, model, how), output, corpus, how.workers), patience=patience) != 0:
                row.unfinished += 1
        row.slowest = max(row.slowest, time.monotonic() - began)
    compare(output, expected, row)


def compare(output: Path, expected: Path, row: Row) -> None:
    """Rows and bytes of what is there against what should be."""
    found, wanted = _shards(output), _shards(expected)
    row.lost_rows += sum(_rows(path) for name, path in wanted.items() if name not in found)
    row.double_rows += sum(_rows(path) for name, path in found.items() if name not in wanted)
    row.other_bytes += sum(_content(found[name]) != _content(wanted[name]) for name in found.keys() & wanted.keys())
    if not (output / "run.json").exists() or list(output.rglob(".tmp-*")):
        row.unfinished += 1
        return
    counted = json.loads((output / "run.json").read_text())["tally"]["rows"]
    row.double_rows += max(0, counted - FILES * ROWS)
    row.lost_rows += max(0, FILES * ROWS - counted)


def show(table: dict[tuple[str, str], Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| runner | fault | tried | scan ended well by itself | hangs | lost rows | double rows | shards that differ"
        " | slowest recovery |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (runner, fault), row in sorted(table.items()):
        recovery = f"{row.slowest:.0f} s" if row.slowest else ""
        cells = (runner, fault, row.tried, row.unharmed, row.hangs, row.lost_rows, row.double_rows, row.other_bytes)
        lines.append("| " + " | ".join(map(str, (*cells, recovery))) + " |")
    return "\n".join(lines)


def write_corpus(folder: Path, *, seed: int) -> None:
    """Small files of made-up sentences."""
    dice = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(FILES):
        texts = [" ".join(dice.choices(WORDS, k=dice.randint(20, 120))) + "." for _ in range(ROWS)]
        pq.write_table(pa.table({"text": texts}), folder / f"{number}.parquet", row_group_size=15)


def _start(corpus: Path, output: Path, model: Path, how: Runner) -> "subprocess.Popen[bytes]":
    options = [
        f"model={model}",
        f"engine={ENGINE}",
        "precision=float32",
        f"unit.text_mb={UNITS_MB}",
        "report.enabled=false",
    ]
    sets = [word for one in (*options, *how.sets) for word in ("--set", one)]
    beam = ["--", *how.beam] if how.beam else []
    command = [sys.executable, "-m", "rtdscan.pipeline", "scan", str(corpus), str(output), *sets, *beam]
    quiet = subprocess.DEVNULL  # no file: a full disk would stop what is said, too
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)


def _until_shards(scan: Scan, wanted: int) -> None:
    while scan.process.poll() is None and len(_shards(scan.output)) < wanted:
        time.sleep(0.02)


def _end(scan: Scan, *, patience: float) -> int | None:
    """The scan's exit status; None where it hung and was killed."""
    shards, since = -1, time.monotonic()
    while (status := scan.process.poll()) is None:
        if (there := len(_shards(scan.output))) != shards:
            shards, since = there, time.monotonic()
        if time.monotonic() - since > patience:
            kill_session(scan.process.pid)
            scan.process.wait()
            return None
        time.sleep(0.1)
    kill_session(scan.process.pid)
    return status


def _shards(output: Path) -> dict[str, Path]:
    return {str(path.relative_to(output)): path for path in output.rglob("*.parquet/*.parquet") if path.is_file()}


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _content(path: Path) -> tuple[object, bytes]:
    """Everything but the input's time, which the copies of the corpus have of their own."""
    table = pq.read_table(path, partitioning=None)
    stamp = json.loads(table.schema.metadata[b"rtdscan"])
    stamp["fingerprint"].pop("version")
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(), sink)
    return json.dumps(stamp, sort_keys=True), sink.getvalue().to_pybytes()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _unlimit(pid: int, before: tuple[int, int]) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


if __name__ == "__main__":
    sys.exit(main())
