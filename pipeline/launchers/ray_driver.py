"""The process that talks to Ray: joins a cluster, hands out lists of units as tasks, a few at a time.

It is a child of the launcher because Ray's own code waits for minutes where nobody answers, writes to the terminal, and
ends the process that it runs in when the cluster goes away.
"""

import logging
import os
import pickle
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

from rtdscan.pipeline.launchers import ray_node
from rtdscan.pipeline.launchers.children import settle
from rtdscan.pipeline.launchers.local import unit_lists
from rtdscan.pipeline.sections import RaySettings
from rtdscan.transforms import attempts, storage
from rtdscan.transforms.errors import RtdscanError
from rtdscan.transforms.job import Job
from rtdscan.transforms.records import Done, WorkUnit
from rtdscan.transforms.task import Task, mark_path, read_diary

RETRIES = 5
"""Times that Ray repeats a task whose worker or node died, before the launcher takes its list apart."""

ROUNDS = 5
"""Times that a unit is handed out again after that, alone; then it is given up as bad."""

LOOK_SECONDS = 2.0
"""Between two looks at the cluster's nodes."""

KNOCK_SECONDS = 10.0
"""For the head to answer at all."""

ANSWER_SECONDS = 10.0
"""For nodes to tell whether they can take part."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the launcher asks for.

    Attributes:
        job: The resolved scan.
        settings: `ray` of the config.
        workers: Tasks that may run at once; None: as many as the cluster has room for.
    """

    job: Job
    settings: RaySettings
    workers: int | None


def drive(pipe: "Connection[Any, Any]", launcher: int) -> None:
    """What the child does.

    Args:
        pipe: In: a Request, then a list of units. Out: None when the cluster was joined, None when it was found fit,
            each Done, and None in the end; or an RtdscanError; or a line for the log.
        launcher: Process to end with.
    """
    settle(launcher)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)  # Ray's C++ writes here
    with suppress(EOFError, OSError):  # the launcher is gone
        try:
            request: Request = pipe.recv()
            cluster = _Cluster(request)
            cluster.join()
            pipe.send(None)
            cluster.find_fit()
            pipe.send(None)
            _Scan(cluster, pipe, pipe.recv()).run()
            pipe.send(None)
        except RtdscanError as error:
            pipe.send(error)
        except (EOFError, OSError):
            raise
        except Exception as error:
            line = " ".join(str(error).split())[:500]
            pipe.send(RtdscanError(f"Ray failed: {type(error).__name__}: {line}"))
    os._exit(0)  # Ray ends what is left of the job when its driver is gone; its own farewell can take long


class _Cluster:
    """A Ray cluster, and what a task asks of its nodes."""

    def __init__(self, request: Request) -> None:
        self.job = request.job
        self.workers = request.workers
        self.settings = request.settings
        self.cpus = request.job.settings.threads
        self.memory = int(request.settings.memory_per_task * 2**30)
        self._remote: Any = None

    def join(self) -> None:
        """Connect."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import
        _knock(self.settings.address)
        import ray

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        try:
            ray.init(address=self.settings.address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _not_joined(self.settings.address, " ".join(str(error).split())[:500]) from error
        ray.cloudpickle.register_pickle_by_value(ray_node)
        self._remote = ray.remote(ray_node.run_on_node)

    def find_fit(self) -> None:
        """Wait for a node with room, look whether each such node can take part."""
        deadline = time.monotonic() + self.settings.wait_seconds
        while not self.room():
            if time.monotonic() > deadline:
                raise self.no_room()
            time.sleep(0.2)
        self._look_at_nodes()

    def room(self) -> int:
        """Tasks that the nodes have room for, whoever else uses them."""
        return sum(map(self._room_of, self._nodes()))

    def in_flight(self) -> int:
        """Tasks that may be with Ray at once."""
        wanted = self.settings.tasks_in_flight
        most = 2 * max(self.room(), 1) if wanted == "auto" else wanted
        return min(most, self.workers or most)

    def submit(self, task: Task) -> Any:
        """Hand a task to Ray."""
        options = {"num_cpus": self.cpus, "memory": self.memory or None, "max_retries": RETRIES}
        return self._remote.options(**options).remote(version("rtdscan"), mark_path(self.job), pickle.dumps(task))

    def no_room(self) -> RtdscanError:
        """What to say when no node can run a task."""
        told = [
            f"{node['NodeManagerAddress']}: {node['Resources'].get('CPU', 0):g} CPUs,"
            f" {node['Resources'].get('memory', 0) / 2**30:.1f} GB"
            for node in self._nodes()
        ]
        return RtdscanError(
            f"no node of the Ray cluster at {self.settings.address} has room for a task, which takes"
            f" {self._task_size()}; there are: {'; '.join(told)}."
            " Add a node, or ask for less; for nodes that take long to come raise ray.wait_seconds"
        )

    def all_taken(self) -> RtdscanError:
        """What to say when nodes have room, but others use it."""
        import ray

        free, there = ray.available_resources(), ray.cluster_resources()
        return RtdscanError(
            f"no task could begin within {self.settings.wait_seconds:g} s on the Ray cluster at"
            f" {self.settings.address}, where {free.get('CPU', 0):g} of {there.get('CPU', 0):g} CPUs and"
            f" {free.get('memory', 0) / 2**30:.1f} of {there.get('memory', 0) / 2**30:.1f} GB are free; a task takes"
            f" {self._task_size()}. Wait for those who use the rest, add a node, raise ray.wait_seconds, or, if enough"
            " is free, see why workers don't start: /tmp/ray/session_latest/logs"
        )

    def _task_size(self) -> str:
        cpus = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        return f"{cpus} (threads) and {self.settings.memory_per_task:g} GB (ray.memory_per_task)"

    def _nodes(self) -> list[dict[str, Any]]:
        import ray

        return [node for node in ray.nodes() if node["Alive"]]

    def _room_of(self, node: dict[str, Any]) -> int:
        resources = node["Resources"]
        room = int(resources.get("CPU", 0) // self.cpus)
        return min(room, int(resources.get("memory", 0) // self.memory)) if self.memory else room

    def _look_at_nodes(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        looks = []
        for node in self._nodes():
            if self._room_of(node):
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                remote = self._remote.options(num_cpus=0, scheduling_strategy=there)
                looks.append(remote.remote(version("rtdscan"), mark_path(self.job), None))
        late = looks
        deadline = time.monotonic() + min(ANSWER_SECONDS, self.settings.wait_seconds)
        while late and time.monotonic() < deadline:  # who is late is busy; its tasks look again
            ready, late = ray.wait(late, timeout=1)
            for look in ready:
                with suppress(ray.exceptions.RayError):  # it went away meanwhile
                    _checked(ray.get(look))
        for look in late:
            ray.cancel(look)


class _Scan:
    """The bookkeeping of one scan on a cluster."""

    def __init__(self, cluster: _Cluster, pipe: "Connection[Any, Any]", units: Sequence[WorkUnit]) -> None:
        self._cluster = cluster
        self._pipe = pipe
        self._lists = deque(unit_lists(units, workers=min(cluster.room(), cluster.workers or cluster.room()) or 1))
        self._tasks: dict[Any, Task] = {}
        self._given = 0
        self._rounds: Counter[str] = Counter()
        self._idle_ends = 0
        self._begun = False
        self._started = self._room_at = time.monotonic()

    def run(self) -> None:
        """Keep a few tasks with Ray until every unit is done."""
        import ray

        most, looked = self._cluster.in_flight(), time.monotonic()
        while self._lists or self._tasks:
            while self._lists and len(self._tasks) < most:
                self._give(self._lists.popleft())
            ready, _ = ray.wait(list(self._tasks), num_returns=1, timeout=LOOK_SECONDS)
            for reference in ready:
                self._take(reference, self._tasks.pop(reference))
            if time.monotonic() - looked > LOOK_SECONDS:
                self._watch()
                most, looked = self._cluster.in_flight(), time.monotonic()

    def _give(self, units: Sequence[WorkUnit]) -> None:
        task = Task(f"{self._given:06}", tuple(units), self._cluster.job)
        self._given += 1
        self._tasks[self._cluster.submit(task)] = task

    def _take(self, reference: Any, task: Task) -> None:
        import ray

        try:
            done = _checked(ray.get(reference))
        except ray.exceptions.RayError as error:
            self._try_again(task, error)
            return
        self._begun, self._idle_ends = True, 0
        for one in done:
            self._pipe.send(one)

    def _try_again(self, task: Task, error: Exception) -> None:
        """Ray gave a list up: what was begun goes on alone, so that it takes no other along."""
        diary = read_diary(task)
        told = {done.shard for done in diary.done}
        for done in diary.done:
            self._pipe.send(done)
        left = [unit for unit in task.units if unit.shard not in told]
        begun = [unit for unit in left if attempts.begun(self._cluster.job, unit)]
        cause = diary.words or f"{type(error).__name__}: {(str(error).strip() or 'no word').splitlines()[0]}"
        self._idle_ends = 0 if begun or told else self._idle_ends + 1
        if self._idle_ends >= 2 or not isinstance(error, _deaths()):
            raise RtdscanError(f"Ray gave up a task ({cause}); when it was put right run the same command again")
        where = ", ".join(storage.printable(unit.shard) for unit in begun) or "no unit"
        self._pipe.send(f"Ray gave up a task ({cause}), it was at {where}; others go on")
        for unit in begun:
            self._rounds[unit.shard] += 1
            if self._rounds[unit.shard] > ROUNDS:
                self._pipe.send(Done(unit.shard, "bad", "", 0.0, f"its workers died again and again ({cause})", ""))
            else:
                self._lists.appendleft([unit])
        if rest := [unit for unit in left if unit not in begun]:
            self._lists.append(rest)

    def _watch(self) -> None:
        """End the scan when there is nobody to do it: no node, or none whose CPUs are to be had."""
        now, wait = time.monotonic(), self._cluster.settings.wait_seconds
        if self._cluster.room():
            self._room_at = now
        elif now - self._room_at > wait:
            raise self._cluster.no_room()
        self._begun = self._begun or any(read_diary(task).tries for task in self._tasks.values())
        if not self._begun and now - self._started > wait:
            raise self._cluster.all_taken()


def _deaths() -> tuple[type[Exception], ...]:
    """What Ray raises when a worker or node died; all else is an error."""
    from ray import exceptions

    return (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError)


def _checked(answer: dict[str, Any]) -> list[Done]:
    """What a node answered.

    Raises:
        RtdscanError: It can't take part, or its task failed.
    """
    if answer["error"] is not None:
        raise RtdscanError(f"Ray node {answer['node']}: {answer['error']}")
    return [Done(**fields) for fields in answer["done"]]


def _knock(address: str) -> None:
    """Find out whether anybody answers: Ray would try for minutes."""
    host, _, port = (os.environ.get("RAY_ADDRESS", "") if address == "auto" else address).rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
    except OSError as error:
        raise _not_joined(address, error.strerror or str(error)) from error


def _not_joined(address: str, cause: str) -> RtdscanError:
    return RtdscanError(
        f"can't join the Ray cluster at {address}: {cause}; ray.address is host:port of its head (port 6379 unless"
        " `ray start` was told otherwise), and the scan is started on a machine of the cluster"
    )
