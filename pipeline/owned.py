"""Whose a folder is that a program writes into: it holds nothing of anybody else's and lies apart from what is read."""

import json
import os
from collections.abc import Iterable, Sequence

from rtdscan.pipeline.output import MARKER, count_shards, list_shards
from rtdscan.transforms import storage
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.records import WorkUnit
from rtdscan.transforms.storage.files import TEMPORARY


def check(output: str, inputs: Sequence[str], *, moved: bool = False) -> None:
    """Make sure that OUTPUT is ours to write into, without touching it.

    Args:
        output: The folder; it may not exist yet.
        inputs: INPUT as given.
        moved: Whether it may belong to another INPUT, which these are the new paths of.

    Raises:
        UserError: It holds something else, or belongs to another INPUT, or lies inside INPUT or around it.
    """
    for path in inputs:
        check_apart(path, output)
    found = storage.read_bytes(storage.join(output, MARKER))
    if found is None:
        if occupied(output):
            raise UserError(f"{output} holds files that are not an rtdscan output; choose another OUTPUT or empty it")
        return
    owners, wanted = _owners(found, output), _owned_by(inputs)
    if owners != wanted and not moved:
        glob = ", and quote a glob or name its folder, that it is one INPUT every time" if len(inputs) > 1 else ""
        raise UserError(
            f"{output} belongs to another INPUT ({_few(owners)}), not {_few(wanted)}; if that one has moved or is"
            f" spelled otherwise, add --moved{glob}; else choose another OUTPUT, or delete it"
        )


def claim(output: str, inputs: Sequence[str], *, moved: bool = False, units: Iterable[WorkUnit] = ()) -> None:
    """Mark OUTPUT as ours; call it with the lock held, so that of two scans one has it.

    Args:
        output, inputs, moved: As in `check`.
        units: All units of INPUT. An OUTPUT that has moved along with none of them is that of another corpus.

    Raises:
        UserError: As `check`; or none of the shards would stay.
    """
    check(output, inputs, moved=moved)
    found, wanted = storage.read_bytes(storage.join(output, MARKER)), _owned_by(inputs)
    if found is not None and _owners(found, output) == wanted:
        return
    if found is not None and list_shards(output) and not count_shards(output, {unit.shard for unit in units}):
        raise UserError(f"{output} has no shard of any file of {_few(wanted)}: another corpus; choose another OUTPUT")
    marker = {"format": 1, "inputs": wanted}
    storage.put_bytes(storage.join(output, MARKER), (json.dumps(marker, indent=1) + "\n").encode())


def check_apart(path: str, output: str, *, read: str = "INPUT", written: str = "OUTPUT") -> None:
    """Refuse an OUTPUT that the next scan would read as INPUT, and one around INPUT; by way of links too.

    Args:
        path, output: What is read and what is written.
        read, written: What they are called.
    """
    for one, other in {(path, output), (_resolved(path), _resolved(output))}:
        if storage.covers(one, other):
            raise UserError(
                f"{written} {output} lies inside {read} {path}: its shards would be read as input; move it out"
            )
        if absolute(one).startswith(f"{absolute(other).rstrip('/')}/"):
            raise UserError(f"{read} {path} lies inside {written} {output}; choose another {written}")


def occupied(output: str, *, name: str = "OUTPUT") -> bool:
    """Whether a folder that is not marked as ours holds anything.

    Raises:
        UserError: It is no folder and can't become one.
    """
    if not storage.is_local(output):
        return bool(storage.list_files(output))
    folder = storage.local(output).absolute()
    there = next((path for path in (folder, *folder.parents) if path.exists() or path.is_symlink()), folder)
    if not there.is_dir():
        wrong = "is a link to nothing" if there.is_symlink() and not there.exists() else "is a file"
        raise UserError(f"{name} {output}: {there} {wrong}; name a folder")
    # What a scan leaves that was killed before it put its marker.
    return there == folder and any(
        name != storage.LOCK and not name.startswith(TEMPORARY) for name in os.listdir(folder)
    )


def absolute(path: str) -> str:
    """A path that means the same from any working directory."""
    return storage.printable(os.path.abspath(storage.local(path))) if storage.is_local(path) else path.rstrip("/")


def _owned_by(inputs: Sequence[str]) -> list[str]:
    return sorted({absolute(path) for path in inputs})


def _few(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _owners(marker: bytes, output: str) -> list[str]:
    """The INPUT that a marker names."""
    try:
        owners = json.loads(marker)["inputs"]
        return sorted(map(str, owners))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{storage.join(output, MARKER)} is damaged, so nobody knows whose {output} is; choose another OUTPUT, or"
            " delete that file and all beside it"
        ) from error


def _resolved(path: str) -> str:
    return os.path.realpath(storage.local(path)) if storage.is_local(path) else path
