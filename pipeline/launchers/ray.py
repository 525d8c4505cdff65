"""Run a scan on a Ray cluster: short lists of units as tasks, which Ray repeats when a worker or a node dies.

What talks to Ray is a child process, see ray_driver.py; what Ray runs is transforms/task.py. Ray ends the tasks of a
driver that died.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from rtdscan.pipeline.launchers.children import start_child
from rtdscan.pipeline.launchers.ray_driver import Request, drive
from rtdscan.pipeline.sections import RaySettings
from rtdscan.transforms import attempts, storage
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit
from rtdscan.transforms.task import mark_path

JOIN_SECONDS = 25.0
"""For Ray to join a cluster, imports included; where nobody speaks its protocol it would try for minutes."""

EXIT_SECONDS = 5.0
"""What the child gets to exit once its work is done."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that was found fit, by way of the process that talks to it."""

    address: str
    process: SpawnProcess
    pipe: "Connection[Any, Any]"

    def hear(self, *, seconds: float | None = None) -> Any:
        """The next message; an error is raised.

        Args:
            seconds: How long to wait; None: as long as it takes.
        """
        try:
            if not self.pipe.poll(seconds):
                raise RtdscanError(
                    f"no answer from Ray at {self.address} within {seconds:.0f} s; is that the port of its head (6379"
                    " unless `ray start` was told otherwise), and this a machine of the cluster?"
                )
            message = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(EXIT_SECONDS)
            raise RtdscanError(
                f"the connection to the Ray cluster at {self.address} is lost (exit status {self.process.exitcode});"
                " when it is up again run the same command again"
            ) from error
        if isinstance(message, RtdscanError):
            raise message
        return message


@contextmanager
def joined(job: Job, *, settings: RaySettings, workers: int | None) -> Iterator[Cluster]:
    """A cluster for the duration of a scan. Nothing in OUTPUT has changed when this fails.

    Args:
        job: The resolved scan.
        settings: `ray` of the config.
        workers: Tasks that may run at once; None: as many as there is room for.

    Raises:
        RtdscanError: Nobody answers, there is no room for a task, or a node can't take part.
    """
    storage.put_bytes(mark_path(job), job.run.encode())  # not empty: Beam's S3 file system can't put nothing
    cluster = Cluster(settings.address, *start_child(drive, name="rtdscan-ray"))
    try:
        cluster.pipe.send(Request(_anywhere(job), settings, workers))
        cluster.hear(seconds=JOIN_SECONDS)
        cluster.hear()
        yield cluster
    finally:
        cluster.process.kill()  # its tasks end with it
        cluster.process.join(EXIT_SECONDS)
        cluster.pipe.close()
        with suppress(RtdscanError):  # must not hide what happened; the next scan tries again
            attempts.forget(job.output)
            storage.clean_temporaries(job.output)


def run_ray(
    units: Sequence[WorkUnit], cluster: Cluster, *, on_done: Callable[[Done], None] = lambda done: None
) -> list[Done]:
    """Scan units on a cluster.

    Args:
        units: What to scan.
        cluster: From `joined`.
        on_done: Called for every unit, once the list that it was handed out with is done.

    Returns:
        One result a unit.

    Raises:
        RtdscanError: A task failed with an error, or there is nobody left to run one.
    """
    done: list[Done] = []
    cluster.pipe.send([_found_anywhere(unit) for unit in units])
    while (message := cluster.hear()) is not None:
        if isinstance(message, str):
            logging.getLogger(__name__).warning(message)
        else:
            done.append(message)
            on_done(message)
    return done


def _anywhere(job: Job) -> Job:
    """The job with paths that mean the same whatever directory a worker was started in."""
    model = job.settings.model
    if model != "default" and storage.is_local(model) and Path(model.removeprefix("file://")).expanduser().is_dir():
        model = _absolute(str(Path(model.removeprefix("file://")).expanduser()))
    settings = job.settings.model_copy(update={"model": model})
    return replace(job, output=_absolute(job.output), settings=settings)


def _found_anywhere(unit: WorkUnit) -> WorkUnit:
    return replace(unit, file=replace(unit.file, path=_absolute(unit.file.path)))


def _absolute(path: str) -> str:
    return os.path.abspath(storage.local(path)) if storage.is_local(path) else path
