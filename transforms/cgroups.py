"""What a container may use of its machine: limits of memory and CPU time, from control groups of version 1 and 2.

A process is in a group of /proc/self/cgroup; the group and all above it limit it. In a container the path may be one of
the host, of which only the mount point is seen, and that is then the container's own group: what is not there is passed
over.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cores(root: Path = Path("/")) -> int:
    """Cores whose time this process may use, one at least.

    Args:
        root: Where /proc and /sys are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = cpu_limit(root)
    return cores if allowed is None else max(1, min(cores, int(allowed)))


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may use; None where nothing limits it.

    Args:
        root: Where /proc and /sys are.
    """
    values = [_number(folder / name) for folder, name in _files(root, "memory", "memory.max", "memory.limit_in_bytes")]
    return min((value for value in values if value is not None), default=None)


def cpu_limit(root: Path = Path("/")) -> float | None:
    """CPUs whose time this process may use (quota by period); None where nothing limits it.

    Args:
        root: Where /proc and /sys are.
    """
    values = [_cpus(folder, name) for folder, name in _files(root, "cpu", "cpu.max", "cpu.cfs_quota_us")]
    return min((value for value in values if value is not None), default=None)


def _files(root: Path, controller: str, second: str, first: str) -> Iterator[tuple[Path, str]]:
    """The folders of this process's groups and of all above them, with the name of the limit in version 2 or 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # "0::/path"; beside version 1 it is mounted in a folder of its own
            found = [(mounted, second), (mounted / "unified", second)]
        elif controller in controllers.split(","):  # "4:cpu,cpuacct:/path"
            found = [(mounted / controllers, first), (mounted / controller, first)]
        else:
            continue
        parts = PurePosixPath(path).parts[1:]
        inside = () if ".." in parts else parts  # above what is mounted
        for top, name in found:
            for depth in range(len(inside), -1, -1):
                yield top.joinpath(*inside[:depth]), name


def _cpus(folder: Path, name: str) -> float | None:
    if name == "cpu.max":
        quota, _, period = _read(folder / name).partition(" ")
    else:
        quota, period = _read(folder / name), _read(folder / "cpu.cfs_period_us")
    # No quota is "max" in version 2 and -1 in version 1.
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text.isdigit() else None  # "max"; in version 1 no limit is more than any machine has


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # no such limit, or not here
        return ""
