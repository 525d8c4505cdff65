"""Child processes of a launcher: a pipe to each, no signal that is for the launcher alone, and an end when it ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any


def start_child(
    target: "Callable[[Connection[Any, Any], int], None]", *, name: str
) -> "tuple[SpawnProcess, Connection[Any, Any]]":
    """Start a process.

    Args:
        target: What it runs, given its end of the pipe and the launcher's process number; it calls `settle` first.
        name: Of the process.

    Returns:
        The process, and the launcher's end of the pipe, which ends when the process does.

    Raises:
        OSError: It can't be started.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=[theirs, os.getpid()], name=name, daemon=True)
    try:
        with undisturbed():
            process.start()
    finally:
        theirs.close()  # so that the pipe ends when the child does
    return process, ours


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while a process is started; the child inherits that and lets them through."""
    resource_tracker.ensure_running()  # or `start` does it, which lets both through again (Python 3.10 and 3.11)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def settle(launcher: int) -> None:
    """What a child does first: leave Ctrl-C to the launcher, let SIGTERM through, and end when the launcher is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    end_with(launcher)


def end_with(parent: int) -> None:
    """End this process when its parent is gone: a child would wait for ever on a pipe that it holds open itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
