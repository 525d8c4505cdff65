"""All of a run's state, written whole or not at all: a folder made aside, flushed to the disk and renamed."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

STATE = "state.pt"
_NAME = "step-{:09d}"


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint; then remove older ones.

    Args:
        folder: Where checkpoints lie.
        step: Steps that are done.
        state: Tensors, numbers, text, in lists and dicts.
        keep: How many to keep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".half-*"):
        shutil.rmtree(left)
    aside = folder / f".half-{os.getpid()}"
    aside.mkdir()
    with (aside / STATE).open("wb") as file:
        torch.save({**state, "step": step, "random": _random_state()}, file)
        file.flush()
        os.fsync(file.fileno())
    final = folder / _NAME.format(step)
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    for old in found(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def found(folder: Path) -> list[Path]:
    """Checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).is_file())


def load_newest(folder: Path, *, map_location: str = "cpu") -> tuple[dict[str, Any] | None, list[str]]:
    """The newest checkpoint that can be read.

    Returns:
        Its state, None if there is none; and why newer ones can't be used.
    """
    problems: list[str] = []
    for path in reversed(found(folder)):
        try:
            state: dict[str, Any] = torch.load(path / STATE, map_location=map_location, weights_only=True)
            return state, problems
        except Exception as error:  # torch raises many types for a damaged file
            problems.append(f"checkpoint {path} cannot be read ({' '.join(str(error).split())[:200]})")
    return None, problems


def restore_random(state: dict[str, Any]) -> None:
    """Set torch's generators to where they stood when `state` was saved; training draws from no others that go on."""
    saved = state["random"]
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] and torch.cuda.is_available() and len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(saved["cuda"])


def _random_state() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
