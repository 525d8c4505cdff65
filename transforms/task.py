"""What a Ray task does with a list of units: as a local child does, but it may be repeated on another node.

Ray repeats a task whose worker or node died, and tells nobody. So the task keeps a diary beside the notes of
transforms/attempts.py: how often it was begun, which units are done and by whom, and its worker's last words. A
repeated task goes on where the diary ends.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rtdscan.transforms import attempts, storage
from rtdscan.transforms.errors import AT_FAULT, EngineError
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit

IDLE_TRIES = 6
"""Times that a task may be begun without beginning a unit. Ray counts none that it killed to free memory."""

_PREPARED: set[tuple[str, str]] = set()
"""Settings and bundle that were tried out in this process."""


@dataclass(frozen=True, slots=True)
class Task:
    """A list of units for one Ray task.

    Attributes:
        name: Of its diary; no other task of the run has it.
        units: What to scan.
        job: The resolved scan.
    """

    name: str
    units: tuple[WorkUnit, ...]
    job: Job


@dataclass(frozen=True, slots=True)
class Diary:
    """What is known of a task, whatever happened to its workers.

    Attributes:
        tries: Times that it was begun.
        done: Results so far.
        words: Why the last worker gave up; empty where it could not say.
    """

    tries: int = 0
    done: tuple[Done, ...] = ()
    words: str = ""


def run_task(task: Task) -> tuple[Done, ...]:
    """Scan what is left of a list, in this process.

    Returns:
        One result a unit, those of earlier tries included.

    Raises:
        RtdscanError: A step failed, or workers die before they begin a unit.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # errors come back as exceptions
    diary = read_diary(task)
    told = {done.shard for done in diary.done}
    left = [unit for unit in task.units if unit.shard not in told]
    if diary.tries >= IDLE_TRIES and not told and not any(attempts.begun(task.job, unit) for unit in left):
        cause = diary.words or "killed; is there enough memory?"
        raise EngineError(f"{diary.tries} workers died before they began a unit ({cause})")
    diary = replace(diary, tries=diary.tries + 1, words="")
    _write(task, diary)

    def note(done: Done) -> None:
        nonlocal diary
        diary = replace(diary, done=(*diary.done, done))
        _write(task, diary)

    try:
        from rtdscan.transforms.child import prepare, run_units

        key = (task.job.settings.model_dump_json(), task.job.bundle_digest)
        if key not in _PREPARED:
            prepare(task.job)
            _PREPARED.add(key)
        if left:
            run_units(left, task.job, on_done=note)
    except AT_FAULT as error:
        _write(task, replace(diary, words=f"{type(error).__name__}: {error}"))
        os._exit(1)
    return diary.done


def read_diary(task: Task) -> Diary:
    """What a task's diary says; nothing where there is none, or it can't be read."""
    data = storage.read_bytes(_diary_path(task))
    try:
        fields = json.loads(data or b"")
        return _parse(fields)
    except (ValueError, TypeError, KeyError):
        return Diary()


def mark_path(job: Job) -> str:
    """A file that the launcher writes, so that a node can tell whether it sees the launcher's OUTPUT."""
    return storage.join(job.output, ".attempts", job.run, "launcher")


def _parse(fields: Mapping[str, Any]) -> Diary:
    return Diary(int(fields["tries"]), tuple(Done(**done) for done in fields["done"]), str(fields["words"]))


def _write(task: Task, diary: Diary) -> None:
    storage.put_bytes(_diary_path(task), json.dumps(asdict(diary)).encode())


def _diary_path(task: Task) -> str:
    return storage.join(task.job.output, ".attempts", task.job.run, f"{task.name}.task")
