"""One scan at a time: a kernel lock locally, an expiring lease elsewhere."""

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rtdscan.transforms.errors import BusyError, RtdscanError
from rtdscan.transforms.storage.files import make_folder, put_bytes, read_bytes, remove
from rtdscan.transforms.storage.paths import failure, is_local, join, local

LOCK = ".lock"
LEASE_SECONDS = 120.0
"""A lease that was not renewed for this long is stale; it is renewed four times as often."""
SETTLE_SECONDS = 1.0
"""Between writing a lease and looking whose it is: of two that begin at once both write, and the last one has it."""


@contextmanager
def lock(output: str) -> Iterator[None]:
    """Hold OUTPUT for one scan; makes the folder.

    Locally a kernel lock on OUTPUT/.lock: it goes with the process, however that dies. (A child that was forked keeps
    it while it lives: start children by spawn.) Elsewhere, and on file systems without locks, a lease that expires.

    Raises:
        BusyError: Somebody else holds it.
        RtdscanError: OUTPUT can't be written to.
    """
    path = join(output, LOCK)
    handle = _kernel_lock(output, path) if is_local(path) else None
    if handle is None:
        with _lease(output, path):
            yield
        return
    try:
        with suppress(OSError):  # no space for a name: the lock holds all the same
            os.ftruncate(handle, 0)
            os.pwrite(handle, _claim(""), 0)
        yield
    finally:
        with suppress(OSError):  # must not hide what happened inside
            os.ftruncate(handle, 0)
        os.close(handle)


def _kernel_lock(output: str, path: str) -> int | None:
    """The handle that holds the lock; None where the file system has no locks."""
    try:
        make_folder(local(output))
        # No link is followed: what it points to would be emptied.
        handle = os.open(local(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise failure("write", path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _busy(output, _holder(path), "wait for it or stop it") from error
        if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            return None
        raise failure("lock", path, error) from error
    return handle


@contextmanager
def _lease(output: str, path: str) -> Iterator[None]:
    """Best effort: no file system of Beam's has a conditional put. Whole puts keep the output sound without it."""
    token = uuid.uuid4().hex
    holder = _holder(path)
    if time.time() - holder["renewed"] < LEASE_SECONDS:
        raise _busy(output, holder, f"if it was killed, try again in {LEASE_SECONDS:.0f} s")
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, token, done), name="rtdscan-lease", daemon=True)
    try:  # from the put on: who is stopped while the lease settles takes it away, too
        put_bytes(path, _claim(token))
        time.sleep(SETTLE_SECONDS)
        holder = _holder(path)
        if holder.get("token") != token:
            raise _busy(output, holder, "both began at the same moment")
        thread.start()
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
        with suppress(RtdscanError):
            if _holder(path).get("token") == token:
                remove(path)


def _renew(path: str, token: str, done: threading.Event) -> None:
    while not done.wait(LEASE_SECONDS / 4):
        try:
            if _holder(path).get("token", token) != token:
                logging.getLogger(__name__).warning("%s: another scan has taken over; this one goes on", path)
                return
            put_bytes(path, _claim(token))
        except RtdscanError as error:  # the next try may do
            logging.getLogger(__name__).warning("%s", error)


def _claim(token: str) -> bytes:
    now = time.time()
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    claim = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "renewed": now, "token": token}
    return json.dumps(claim).encode()


def _holder(path: str) -> dict[str, Any]:
    try:
        holder = json.loads(read_bytes(path) or b"{}")
    except ValueError:  # being written
        holder = None
    known = isinstance(holder, dict) and type(holder.get("renewed")) in (int, float)
    return holder if known else {"renewed": 0.0}


def _busy(output: str, holder: dict[str, Any], advice: str) -> BusyError:
    who = "process {} on {} since {}".format(*(holder.get(key, "?") for key in ("pid", "host", "since")))
    return BusyError(f"{output} is busy: {who} is writing into it; {advice}")
