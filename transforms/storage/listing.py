"""Folders, globs and several inputs -> entries."""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rtdscan.transforms.errors import UserError
from rtdscan.transforms.storage.files import exists, seconds, stat
from rtdscan.transforms.storage.paths import escape, failure, is_local, local, printable, remote, scheme

SUFFIXES = (".parquet", ".parq", ".pq")
"""What a file must end with to be taken from a folder or by a glob; a file named outright is taken as it is."""

_HIDDEN = (".", "_")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that was found.

    Attributes:
        path: As `open_read` takes it.
        relative: Path below the folder that was asked for, `/` between parts; always printable.
        size: Bytes; 0 where it can't be looked at (a dangling link).
        version: Modification time: ns locally, seconds in a store; empty where it can't be looked at.
    """

    path: str
    relative: str
    size: int
    version: str


def list_files(root: str, *, suffix: str | tuple[str, ...] | None = None, hidden: bool = False) -> list[Entry]:
    """All files below a folder, at any depth.

    Names that begin with `.` or `_` are passed over, folders so called with all they hold. Links are followed; a link
    to a folder that it lies in is not. (HDFS: Beam lists the files of one folder only.)

    Args:
        root: A folder; need not exist.
        suffix: Only names that end so; letters of either case.
        hidden: Take those names too.

    Returns:
        Entries by `relative`, sorted; none if there is no such folder.

    Raises:
        RtdscanError: A folder can't be listed.
    """
    return _listed(root, suffix=suffix, pattern=("**",), hidden=hidden)


def glob_root(pattern: str) -> str:
    """The folder that an input lies in: a folder itself, a file's parent, of a glob all before its first pattern."""
    path = _absolute(pattern)
    if _is_file(path):
        return _parent(path)
    return _split(path)[0] if _is_glob(path) else path


def covers(pattern: str, folder: str) -> bool:
    """Whether an input takes in files of that folder, which need not exist."""
    path, folder = _absolute(pattern), _absolute(folder)
    if _is_file(path):
        return False
    root, parts = _split(path) if _is_glob(path) else (path, ["**"])
    if not _stem(folder).startswith(_stem(root)):
        return False
    below = _stem(folder).removeprefix(_stem(root)).rstrip("/")
    return _may_hold(parts, below.split("/")) if below else True


def expand(pattern: str) -> list[Entry]:
    """The Parquet files that an input names: a file, a folder, or a glob (`*`, `?`, `[…]`, and `**` for any depth).

    What exists under the very name wins over its reading as a glob. A glob that fits a folder stands for all in it.

    Returns:
        Entries with absolute paths, `relative` to `glob_root(pattern)`, sorted.

    Raises:
        UserError: It does not exist, matches nothing, or holds no Parquet file.
    """
    path = _absolute(pattern)
    expected = f"expected files ending in {', '.join(SUFFIXES)}; names that begin with . or _ are passed over"
    if _is_file(path):
        size, version = stat(path) or (0, "")
        return [Entry(path, printable(path.removeprefix(_stem(_parent(path)))), size, version)]
    if _is_glob(path):
        root, parts = _split(path)
        entries = _listed(root, suffix=SUFFIXES, pattern=parts)
        if not entries:
            raise UserError(f"{pattern} matches no Parquet file: {expected}")
        return entries
    entries = list_files(path, suffix=SUFFIXES)
    if entries:
        return entries
    if _is_folder(path):
        raise UserError(f"no Parquet files in {pattern}: {expected}")
    raise UserError(f"{pattern} does not exist: expected a Parquet file, a folder of them, or a glob")


def expand_all(inputs: Sequence[str]) -> tuple[str, list[Entry]]:
    """All files that several inputs name, each once.

    Returns:
        The deepest folder that all inputs' glob-free roots have in common, and the entries `relative` to it, sorted.

    Raises:
        UserError: As `expand`; no input at all; inputs on different file systems.
    """
    if not inputs or not all(inputs):
        raise UserError("no INPUT: expected a Parquet file, a folder of them, or a glob")
    root = _common([glob_root(pattern) for pattern in inputs])
    found = {entry.path: entry for pattern in inputs for entry in expand(pattern)}
    entries = [replace(entry, relative=printable(path.removeprefix(_stem(root)))) for path, entry in found.items()]
    return root, sorted(entries, key=lambda entry: entry.relative)


def _listed(
    root: str, *, suffix: str | tuple[str, ...] | None, pattern: Sequence[str], hidden: bool = False
) -> list[Entry]:
    if is_local(root):
        found = _walk(str(local(root)), (), frozenset(), pattern, hidden=hidden)
    else:
        found = _listed_remotely(root, hidden=hidden)
    kept = (
        entry
        for entry in found
        if (suffix is None or entry.relative.lower().endswith(suffix)) and _fits(pattern, entry.relative.split("/"))
    )
    return sorted(kept, key=lambda entry: entry.relative)


def _walk(
    folder: str, parts: tuple[str, ...], above: frozenset[tuple[int, int]], pattern: Sequence[str], *, hidden: bool
) -> Iterator[Entry]:
    """Files below a folder; `above` are the folders on the way to it, so that a link into them ends there."""
    try:
        here = os.stat(folder)
        with os.scandir(folder) as listing:
            children = list(listing)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise failure("list", folder, error) from error
    if (here.st_dev, here.st_ino) in above:
        return
    above |= {(here.st_dev, here.st_ino)}
    for child in children:
        below = (*parts, printable(child.name))
        if (not hidden and child.name.startswith(_HIDDEN)) or not _may_hold(pattern, below):
            continue
        if _is_directory(child):
            yield from _walk(child.path, below, above, pattern, hidden=hidden)
        elif child.is_symlink() or child.is_file():  # no pipe or device; a dangling link is told of as a bad file
            size, version = stat(child.path) or (0, "")
            yield Entry(child.path, "/".join(below), size, version)


def _is_directory(child: "os.DirEntry[str]") -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link to itself
        return False


def _listed_remotely(root: str, *, hidden: bool = False) -> Iterator[Entry]:
    stem = _stem(root)
    for found in remote("list", root, lambda systems: systems.match([escape(stem) + "**"])[0].metadata_list):
        relative = found.path.removeprefix(stem)
        seen = hidden or not any(part.startswith(_HIDDEN) for part in relative.split("/"))
        if relative and not relative.endswith("/") and seen:
            yield Entry(found.path, relative, found.size_in_bytes, seconds(found))


def _fits(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the path, or a folder on the way to it, fits the pattern."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_fits(pattern[1:], parts[at:]) for at in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(pattern[1:], parts[1:])


def _may_hold(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether something at or below `parts` may still fit; folders where nothing can are not listed."""
    for wanted, part in zip(pattern, parts, strict=False):
        if wanted == "**":
            return True
        if not fnmatch.fnmatchcase(part, wanted):
            return False
    return True


def _common(roots: Sequence[str]) -> str:
    schemes = {scheme(root) for root in roots}
    if len(schemes) > 1:
        names = ", ".join(sorted(name or "local" for name in schemes))
        raise UserError(f"inputs lie on different file systems ({names}): scan them one by one")
    start = schemes.pop()
    # By parts: s3://b/data and s3://b/data2 have s3://b in common.
    split = [root.removeprefix(start).split("/") for root in roots]
    shared = 0
    while all(len(parts) > shared and parts[shared] == split[0][shared] for parts in split):
        shared += 1
    return start + "/".join(split[0][:shared]) or "/"


def _absolute(path: str) -> str:
    if is_local(path):
        return os.path.abspath(local(path))
    return scheme(path) + path.removeprefix(scheme(path)).rstrip("/")


def _stem(folder: str) -> str:
    """A folder as the beginning of the paths in it."""
    return folder if folder.endswith("/") else f"{folder}/"


def _parent(path: str) -> str:
    start = scheme(path)
    return start + path.removeprefix(start).rpartition("/")[0] or "/"


def _is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[") and not _is_folder(path)


def _split(pattern: str) -> tuple[str, list[str]]:
    """A glob's folder, all before its first pattern, and the rest; a local folder of that very name is no pattern."""
    parts = pattern.split("/")
    first = next(at for at in range(len(parts)) if _is_pattern("/".join(parts[: at + 1])))
    return "/".join(parts[:first]) or "/", parts[first:]


def _is_pattern(path: str) -> bool:
    last = path.rpartition("/")[2]
    return any(mark in last for mark in "*?[") and not (is_local(path) and local(path).is_dir())


def _is_file(path: str) -> bool:
    if is_local(path):
        return local(path).is_file()
    bucket, _, rest = path.removeprefix(scheme(path)).partition("/")
    return bool(bucket and rest) and exists(path)


def _is_folder(path: str) -> bool:
    return local(path).is_dir() if is_local(path) else next(_listed_remotely(path), None) is not None
