"""Shares out the cores of one machine."""

import os

WORKER_GB = 1.5
"""Memory that `workers: auto` reckons with for each worker process."""


def default_workers() -> int:
    """Worker processes: a core each, as far as memory goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return max(1, min(cores, int(memory / WORKER_GB)))


def share_out(workers: int, *, units: int) -> tuple[int, int]:
    """With fewer units than workers, more cores for each.

    Args:
        workers: That there may be, of a core each.
        units: That are to be done; one or more.

    Returns:
        Worker processes, and threads of each.
    """
    used = min(workers, units)
    return used, workers // used
