"""`workers: auto` in a container: as many as it may use, not as many as the machine has."""

import os
from pathlib import Path

import pytest

from rtdscan.pipeline.launchers.cores import default_workers
from rtdscan.transforms.cgroups import cpu_limit, memory_limit, usable_cores

GIB = 2**30


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A folder with /proc/self/cgroup and files below /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": files[name] for name in files}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


V1 = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc"


@pytest.mark.parametrize(
    ("groups", "files", "memory", "cpus"),
    [
        pytest.param("0::/", {"memory.max": f"{3 * GIB}", "cpu.max": "250000 100000"}, 3 * GIB, 2.5, id="container"),
        pytest.param("0::/", {"memory.max": "max", "cpu.max": "max 100000"}, None, None, id="no limits"),
        pytest.param("0::/", {}, None, None, id="the root of a machine has no such files"),
        pytest.param(
            "0::/slice/pod/box",
            {
                "slice/pod/box/memory.max": "max",
                "slice/pod/memory.max": f"{2 * GIB}",
                "slice/memory.max": f"{9 * GIB}",
                "slice/pod/box/cpu.max": "200000 100000",
                "slice/cpu.max": "50000 100000",
            },
            2 * GIB,
            0.5,
            id="groups above",
        ),
        pytest.param("0::/../../other", {"memory.max": f"{GIB}"}, GIB, None, id="a path above what is mounted"),
        pytest.param(
            V1,
            {
                "memory/docker/abc/memory.limit_in_bytes": f"{4 * GIB}",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "150000",
                "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "50000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4 * GIB,
            3.0,
            id="version 1",
        ),
        pytest.param(
            V1,
            {
                "memory/memory.limit_in_bytes": f"{GIB}",
                "cpu/cpu.cfs_quota_us": "100000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            GIB,
            1.0,
            id="version 1: the path is the host's, the mount the container's",
        ),
        pytest.param(
            "4:memory:/a\n0::/a",
            {"memory/a/memory.limit_in_bytes": f"{5 * GIB}", "unified/a/cpu.max": "300000 100000"},
            5 * GIB,
            3.0,
            id="both versions",
        ),
        pytest.param("0::/", {"memory.max": "odd", "cpu.max": "1 0"}, None, None, id="nothing that is a limit"),
    ],
)
def test_limits(tmp_path: Path, groups: str, files: dict[str, str], memory: int | None, cpus: float | None) -> None:
    root = machine(tmp_path, groups, files)
    assert (memory_limit(root), cpu_limit(root)) == (memory, cpus)


def test_no_control_groups(tmp_path: Path) -> None:
    assert (memory_limit(tmp_path), cpu_limit(tmp_path)) == (None, None)


@pytest.mark.parametrize(
    ("memory", "cpu", "workers"),
    [
        ("max", "max 100000", 16),
        (f"{4 * GIB}", "max 100000", 2),  # 1.5 GB each
        (f"{GIB}", "max 100000", 1),
        ("max", "350000 100000", 3),
        ("max", "50000 100000", 1),
        (f"{64 * GIB}", "3200000 100000", 16),  # more than there is
    ],
)
def test_workers_are_not_more_than_the_container_may_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, cpu: str, workers: int
) -> None:
    """A pod with a limit of 4 GiB on a node of 16 cores started 16 workers, and was killed for its memory."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 64 * GIB // 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert default_workers(machine(tmp_path, "0::/", {"memory.max": memory, "cpu.max": cpu})) == workers


def test_cores_where_no_affinity_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no sched_getaffinity; `evaluate` ended with a traceback there."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert usable_cores(tmp_path) == 12
    assert usable_cores(machine(tmp_path, "0::/", {"cpu.max": "50000 100000"})) == 1
