"""The folder CLEANED: whose it is, what is stale in it, and what is written last."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rtdscan.pipeline.owned import absolute, check_apart, occupied
from rtdscan.transforms import storage
from rtdscan.transforms.cleaning.files import DUPLICATES_FILE
from rtdscan.transforms.cleaning.job import changes_path, hashes_path, kept_path, rejected_path
from rtdscan.transforms.cleaning.settings import CleanSettings
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.records import WorkUnit

MARKER = ".rtdscan-clean.json"
"""File that makes a folder a CLEANED of this program, and says of which OUTPUT."""

DONE = "clean.json"
"""Written last: no clean.json, not finished."""


def check(cleaned: str, output: str, inputs: Sequence[str], *, moved: bool = False) -> None:
    """Make sure that CLEANED is ours to write into, without touching it.

    Args:
        cleaned, output: The folders; CLEANED may not exist yet.
        inputs: INPUT of the scan.
        moved: Whether it may belong to another OUTPUT, which this is the new path of.

    Raises:
        UserError: It holds something else, belongs to another OUTPUT, or lies inside INPUT or OUTPUT or around them.
    """
    for path in inputs:
        check_apart(path, cleaned, written="CLEANED")
    if absolute(cleaned) == absolute(output):
        raise UserError(f"CLEANED {cleaned} is OUTPUT itself; choose another folder")
    check_apart(output, cleaned, read="OUTPUT", written="CLEANED")
    found = storage.read_bytes(storage.join(cleaned, MARKER))
    if found is None:
        if occupied(cleaned, name="CLEANED"):
            raise UserError(
                f"{cleaned} holds files that are not a cleaned corpus of rtdscan; choose another CLEANED or empty it"
            )
        return
    try:
        owner = str(json.loads(found)["output"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{storage.join(cleaned, MARKER)} is damaged; choose another CLEANED, or delete it") from error
    if owner != absolute(output) and not moved:
        raise UserError(
            f"{cleaned} belongs to another OUTPUT ({owner}), not {absolute(output)}; if that one has moved or is"
            " spelled otherwise, add --moved; else choose another CLEANED, or delete it"
        )


def claim(cleaned: str, output: str, inputs: Sequence[str], *, moved: bool = False) -> None:
    """Mark CLEANED as ours; call it with the lock held."""
    check(cleaned, output, inputs, moved=moved)
    if moved or not is_cleaned(cleaned):
        marker = {"format": 1, "output": absolute(output)}
        storage.put_bytes(storage.join(cleaned, MARKER), (json.dumps(marker) + "\n").encode())


def is_cleaned(path: str) -> bool:
    """Whether a cleaning wrote this folder."""
    return storage.exists(storage.join(path, MARKER))


def reopen(cleaned: str) -> None:
    """Take back the sign that CLEANED is finished, before anything in it changes."""
    storage.remove(storage.join(cleaned, DONE))


def remove_stale(cleaned: str, units: Sequence[WorkUnit], settings: CleanSettings) -> None:
    """Remove files that belong to no unit, and kinds of files that the settings no longer ask for."""
    wanted = {path(unit) for path in (kept_path, rejected_path) for unit in units}
    wanted |= {changes_path(unit) for unit in units} if settings.edits else set()
    wanted |= {hashes_path(unit) for unit in units} if settings.marks else set()
    for folder in ("kept", "rejected", "changes", ".hashes"):
        root = storage.join(cleaned, folder)
        for entry in storage.list_files(root, suffix=".parquet", hidden=True):
            if f"{folder}/{entry.relative}" not in wanted:
                storage.remove(entry.path, within=root)
    if not settings.marks:
        storage.remove(storage.join(cleaned, DUPLICATES_FILE))


def write_done(cleaned: str, record: Mapping[str, Any]) -> None:
    """Write clean.json; last of all."""
    storage.put_bytes(storage.join(cleaned, DONE), (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
