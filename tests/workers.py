"""Workers that play the scan without Beam or a network: they start in a third of a second. Units say what to do.

The first word of a unit's file tells what its worker does: `write` its shard and a note; die over it always, with a
note (`poison`) or without one (`vanish`); die `once`; die once within a message (`torn`); report an `error`; write for
ever (`slow`); tell that 10 and then 25 tokens are scored (`count`), or die once after that (`halfway`).
"""

import os
import signal
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path

from rtdscan.transforms import attempts, storage
from rtdscan.transforms.errors import EngineError
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, InputFile, WorkUnit
from rtdscan.transforms.settings import ScoreSettings


def make_unit(name: str, *, text_bytes: int = 1000, rows: int = 10, row_group: int = 0, first_row: int = 0) -> WorkUnit:
    """A unit of a file that is not there."""
    file = InputFile(path=f"/nowhere/{name}", relative=name, size=1, version="1", footer="f")
    return WorkUnit(file=file, row_group=row_group, skip=0, first_row=first_row, rows=rows, text_bytes=text_bytes)


def make_job(output: Path, *, run: str = "run", settings: ScoreSettings | None = None) -> Job:
    """A job that nobody resolved."""
    settings = settings or ScoreSettings()
    return Job(output=str(output), run=run, text="text", id=None, settings=settings, bundle_digest="b")


def play(pipe: "Connection", launcher: int) -> None:
    """In place of `local._work`."""
    job: Job = pipe.recv()
    pipe.send(None)
    while True:
        try:
            units = pipe.recv()
        except EOFError:
            return
        with open(Path(job.output) / "lists.txt", "a") as log:
            log.write("|".join(unit.file.relative for unit in units) + "\n")
        for unit in units:
            _play(pipe, job, unit)
        pipe.send(None)


def play_alone(pipe: "Connection", launcher: int) -> None:
    """As `play`, but only one of the workers survives its start."""
    try:
        (Path(os.environ["RTDSCAN_TEST_FOLDER"]) / "alone").mkdir()
    except FileExistsError:
        die()
    play(pipe, launcher)


def die_at_once(pipe: "Connection", launcher: int) -> None:
    """Don't even read the job."""
    die()


def say_and_die(pipe: "Connection", launcher: int) -> None:
    """As a worker without memory."""
    pipe.send("MemoryError: no room for the model")


def say_mask(pipe: "Connection", launcher: int) -> None:
    """Tell which signals are held back."""
    pipe.send(str(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))


def die() -> None:
    """What the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def _play(pipe: "Connection", job: Job, unit: WorkUnit) -> None:
    kind = unit.file.relative.partition(" ")[0]
    shard = Path(job.output) / unit.shard
    if kind == "vanish":
        die()
    attempts.begin(job, unit)
    if kind == "poison":
        die()
    if kind == "error":
        pipe.send(EngineError("the engine stopped working"))
    if kind in ("count", "halfway"):
        pipe.send(10)
        pipe.send(25)
    if kind in ("once", "torn", "halfway") and _first_time(Path(job.output), unit):
        if kind == "torn":
            os.write(pipe.fileno(), struct.pack("!i", 1000) + b"half a mess")
        die()
    if kind == "slow":
        storage.put(str(shard), lambda sink: time.sleep(600))
    time.sleep(0.002)
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_text("done")
    attempts.end(job, unit)
    pipe.send(Done(unit.shard, "scored", "f", 0.0, "", f"here:{os.getpid()}"))


def _first_time(folder: Path, unit: WorkUnit) -> bool:
    try:
        (folder / f"seen {unit.file.relative}").mkdir()
    except FileExistsError:
        return False
    return True
