"""Run a command as its own process and measure it: wall time, CPU time and memory of its whole process tree."""

import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import psutil

ROOT = Path(__file__).resolve().parent.parent
INTERVAL = 0.2
"""Seconds between two looks at the memory."""

MB = 10**6


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command used.

    Attributes:
        seconds: Wall time.
        cpu: CPU seconds, user and system, of the process and all that it started and waited for.
        tree: Bytes: largest sum of resident memory over the tree, as sampled. Pages that processes share (libraries)
            count once a process.
        processes: Bytes: peak resident memory of each process by role ("main", "child"), the largest where there are
            several; as the kernel remembers it, so that nothing is missed between two looks.
        stdout: What it printed.
    """

    seconds: float
    cpu: float
    tree: int
    processes: dict[str, int] = field(default_factory=dict)
    stdout: str = ""


class CommandFailed(Exception):
    """A measured command did not end with status 0."""


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command from the repository's root and wait for it; one at a time.

    Args:
        command: Program and arguments.
        environment: Added to the environment.

    Raises:
        CommandFailed: With the end of what it wrote to stderr.
    """
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(environment or {})}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before, started = _children_cpu(), monotonic()
        process = subprocess.Popen(list(command), stdout=out, stderr=err, cwd=ROOT, env=env)
        watch = _Watch(process.pid)
        watch.start()
        try:
            status = process.wait()
            seconds, cpu = monotonic() - started, _children_cpu() - before
        finally:
            process.kill()
            watch.done.set()
            watch.join()
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read().decode(), err.read().decode()
    if status != 0:
        raise CommandFailed(f"{shlex.join(command)}: exit status {status}\n{stderr[-3000:]}")
    return Usage(seconds=seconds, cpu=cpu, tree=watch.tree, processes=watch.processes, stdout=stdout)


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module with this very interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def machine() -> str:
    """CPU, cores, memory and versions, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = ("apache-beam", "torch", "transformers", "tokenizers", "pyarrow")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in _cpuinfo("flags")]
    return (
        f"{_cpuinfo('model name') or platform.processor()} ({', '.join(flags) or 'no bfloat16'}), {cores} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB; {platform.system()}, Python {platform.python_version()}, "
        f"{versions}"
    )


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows, the first one the head, as aligned text; the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    lines = []
    for first, *others in cells:
        numbers = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *numbers]).rstrip())
    return "\n".join(lines)


class _Watch(threading.Thread):
    """Looks at a process tree's memory until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.tree = 0
        self.processes: dict[str, int] = {}
        self._pid = pid

    def run(self) -> None:
        while not self.done.wait(INTERVAL):
            try:
                main = psutil.Process(self._pid)
                sizes = {"main": [_memory(main)], "child": [_memory(child) for child in main.children(recursive=True)]}
            except psutil.NoSuchProcess:
                continue
            self.tree = max(self.tree, sum(now for looked in sizes.values() for now, _ in looked))
            for role, looked in sizes.items():
                self.processes[role] = max([self.processes.get(role, 0), *(peak for _, peak in looked)])


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes now and at most so far; 0 of a process that has gone."""
    try:
        now = int(process.memory_info().rss)
        status = Path(f"/proc/{process.pid}/status")
        if not status.exists():
            return now, now
        peak = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
    except (psutil.Error, OSError):
        return 0, 0
    return now, max(now, int(peak.split()[1]) * 1024) if peak else now


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
