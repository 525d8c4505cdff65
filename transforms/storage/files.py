"""Look at, read, write and remove single files, locally and through Beam's file systems."""

import errno
import io
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa

from rtdscan.transforms.errors import StoreError
from rtdscan.transforms.storage.paths import escape, failure, is_local, is_stores, local, remote

TEMPORARY = ".tmp-"
"""What temporary files begin with; they go on with host, process and a random part, and end in no suffix."""

_ABANDONED_SECONDS = 86_400
_PLAIN = "uncompressed"
"""Beam's name for: don't decompress by the look of the name."""


def exists(path: str) -> bool:
    """Whether there is a file (or, locally, a folder)."""
    if is_local(path):
        return local(path).exists()
    return bool(remote("look at", path, lambda systems: systems.exists(path)))


def stat(path: str) -> tuple[int, str] | None:
    """(size, version) as in Entry; None if there is no such file."""
    if not is_local(path):
        if not exists(path):
            return None
        found = remote("look at", path, lambda systems: systems.get_filesystem(path).metadata(path))
        return found.size_in_bytes, seconds(found)
    try:
        facts = os.stat(local(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise failure("look at", path, error) from error
    return facts.st_size, str(facts.st_mtime_ns)


def seconds(found: Any) -> str:
    """The version of a file in a store. Whole seconds: S3 lists milliseconds, but of one object it tells seconds."""
    return str(int(found.last_updated_in_seconds or 0))


@contextmanager
def open_read(path: str) -> Iterator[Any]:
    """A file for random reading, as pyarrow takes it.

    Not a memory map: its pages count as the process's memory, and a file cut short under it is a SIGBUS.

    Raises:
        RtdscanError: It can't be opened.
    """
    if is_local(path):
        try:
            source = pa.OSFile(os.fsencode(local(path)), "rb")
        except OSError as error:
            raise failure("read", path, error) from error
        with source:
            yield source
        return
    stream = remote("read", path, lambda systems: systems.open(path, compression_type=_PLAIN))
    with pa.PythonFile(stream, mode="r") as source:
        try:
            yield source
        except Exception as error:
            if not is_stores(error):
                raise
            raise StoreError(str(failure("read", path, error))) from error


def read_bytes(path: str) -> bytes | None:
    """The whole file; None if there is none."""
    if is_local(path):
        try:
            return local(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise failure("read", path, error) from error
    if not exists(path):
        return None
    with open_read(path) as source:
        return bytes(source.read())


def put_bytes(path: str, data: bytes) -> None:
    """Write a file; whole or not at all, folders are made."""
    put(path, lambda sink: sink.write(data))


def put(path: str, write: Callable[[Any], object]) -> None:
    """Write a file by a function of a binary sink; whole or not at all, folders are made.

    Locally: temporary file in the same folder, fsync, rename, fsync of the folder; when anything fails the temporary is
    removed and the old file stays. Elsewhere everything is serialised in memory first: an exception inside an upload
    stream of Beam's S3 file system completes the upload.

    Raises:
        RtdscanError: Permission, no space …, with path and cause. Whatever else `write` raises passes through.
    """
    if not is_local(path):
        buffer = io.BytesIO()
        write(buffer)
        remote("write", path, lambda systems: _upload(systems, path, buffer.getvalue()))
        return
    target = local(path)
    temporary = target.parent / f"{TEMPORARY}{_host()}-{os.getpid()}-{uuid.uuid4().hex}"
    try:
        make_folder(target.parent)
        try:
            with open(temporary, "xb") as sink:
                write(sink)
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync(target.parent)
    except OSError as error:
        raise failure("write", path, error) from error


def _upload(systems: Any, path: str, data: bytes) -> None:
    sink = systems.create(path, compression_type=_PLAIN)
    sink.write(data)
    sink.close()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, on the disk too; raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """A new name is only on the disk once its folder is."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may be written to but not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that can't, and need not
            raise
    finally:
        os.close(handle)


def remove(path: str, *, within: str | None = None) -> None:
    """Remove a file; nothing happens if there is none.

    Args:
        path: The file.
        within: A folder around it, of which folders that are empty then are removed, too (where there are folders).
    """
    if not is_local(path):
        if exists(path):
            remote("remove", path, lambda systems: systems.delete([path]))
        return
    try:
        local(path).unlink(missing_ok=True)
    except NotADirectoryError:
        pass
    except OSError as error:
        raise failure("remove", path, error) from error
    if within is not None:
        root = local(within)
        folders = [folder for folder in local(path).parents if folder.is_relative_to(root) and folder != root]
        with suppress(OSError):  # not empty, a link, or not ours to remove: it may stay
            for folder in folders:
                folder.rmdir()


def remove_tree(path: str) -> None:
    """Remove a folder and all in it; of a link only the link. Nothing happens if there is none."""
    if not is_local(path):
        everything = escape(path.rstrip("/") + "/") + "**"
        found = remote("list", path, lambda systems: systems.match([everything])[0].metadata_list)
        if found:
            remote("remove", path, lambda systems: systems.delete([entry.path for entry in found]))
        return
    try:
        if local(path).is_symlink():
            local(path).unlink()
        elif local(path).exists():
            shutil.rmtree(local(path))
    except OSError as error:
        raise failure("remove", path, error) from error


def clean_temporaries(root: str) -> int:
    """Remove what killed processes of this machine left half written (of other machines: what is older than a day).

    Returns:
        How many files were removed; 0 in a store, where there are no temporaries.
    """
    if not is_local(root):
        return 0
    removed = 0
    for folder, _, names in os.walk(local(root)):
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(TEMPORARY) and _is_left_over(path):
                remove(path)
                removed += 1
    return removed


def _is_left_over(path: str) -> bool:
    host, _, rest = os.path.basename(path).removeprefix(TEMPORARY).partition("-")
    pid = rest.partition("-")[0]
    if host == _host() and pid.isdigit() and not _is_alive(int(pid)):
        return True
    facts = stat(path)
    return facts is not None and time.time() - int(facts[1]) / 1e9 > _ABANDONED_SECONDS


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether it is dead and only its parent has not looked yet; an orphan in a container may stay so for ever."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # no such file system, or gone meanwhile
        return False
    return state in (b"Z", b"X")


def _host() -> str:
    """A short name of this machine: a number of a process means nothing on another one."""
    return blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
