"""Shares out the cores of one machine."""

import os
from collections.abc import Sequence
from heapq import heapreplace
from pathlib import Path

from rtdscan.transforms.cgroups import memory_limit, usable_cores

WORKER_GB = 1.5
"""Memory that `workers: auto` reckons with for each worker process."""

SERIAL = 0.1
"""Share of a unit's time that is not shared by threads: with two, 400 articles took .55 of the time."""

MANY = 8
"""Units for each worker from which on nothing is to be won."""

WORTH_IT = 0.95
"""Share of the time at which fewer workers with more threads are chosen: the sizes are estimates."""


def default_workers(root: Path = Path("/")) -> int:
    """Worker processes: a core each, as far as memory goes; of both what the container may use, if this is one.

    Args:
        root: Where /proc and /sys are.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = memory_limit(root)
    memory = memory if allowed is None else min(memory, allowed)
    return max(1, min(usable_cores(root), int(memory / 2**30 / WORKER_GB)))


def share_out(workers: int, sizes: Sequence[int]) -> tuple[int, int]:
    """How many units are done at a time, by how many cores each, so that all end soon.

    With many units a core each is best. With few, some cores would have nothing to do at the end: three units of a size
    on two cores take two turns one by one and, reckoned so, 1.65 if both cores work on each (three files of 150
    articles that differ in size: 47.6 s instead of 50.8).

    Args:
        workers: That there may be, of a core each.
        sizes: Of the units that are to be done, one or more.

    Returns:
        Worker processes, and threads of each.
    """
    plain = min(workers, len(sizes))
    if len(sizes) > MANY * workers:
        return plain, 1
    turns = {used: _turns(sizes, used) * _share(workers // used) for used in range(plain, 0, -1)}
    best = min(turns, key=turns.__getitem__)
    used = best if turns[best] < WORTH_IT * turns[plain] else plain
    return used, workers // used


def _turns(sizes: Sequence[int], workers: int) -> int:
    """When the last worker ends, if each that is free takes the largest unit that is left."""
    ends = [0] * workers
    for size in sorted(sizes, reverse=True):
        heapreplace(ends, ends[0] + max(size, 1))
    return max(ends)


def _share(threads: int) -> float:
    """Time that a unit takes with so many threads, of what it takes with one (Amdahl)."""
    return SERIAL + (1 - SERIAL) / threads
