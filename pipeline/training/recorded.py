"""The stream of batches from files: made once where the corpus and cores are, replayed beside a GPU that has neither.

A file holds the batches of one block as safetensors; pieces as 16 bits where the vocabulary allows it. Replaying begins
again at the first file after the last: what was recorded is an epoch, or several (then with other noise in each).
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from rtdscan.pipeline.training.examples import Batch, Maker, Recipe
from rtdscan.pipeline.training.feed import Plan, Position, block_batches
from rtdscan.transforms.errors import UserError

NOTE = "feed.json"
_FILES = "epoch*-block*.safetensors"
_FIELDS = tuple(field.name for field in dataclasses.fields(Batch))
_WIDE = ("ids_BT", "clean_RT")


def digest_of(recipe: Recipe) -> str:
    """Of all that changes batches."""
    fields = {**dataclasses.asdict(dataclasses.replace(recipe, mixture=None)), "mixture": recipe.mixture.model_dump()}  # type: ignore[arg-type]
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def record(folder: Path, plan: Plan, *, epochs: int = 1) -> int:
    """Write the batches of whole epochs, in place of what was recorded there before; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTE).unlink(missing_ok=True)  # first: what is left of two recordings must not be read as one
    for before in folder.glob(_FILES):
        before.unlink()
    maker, count = Maker(plan.recipe), 0
    small = maker.tokenizer.get_vocab_size() <= 1 << 16
    for epoch in range(epochs):
        for block in range(plan.blocks):
            arrays = {}
            for number, batch in enumerate(block_batches(plan, maker, Position(epoch, block))):
                for name in _FIELDS:
                    array = getattr(batch, name)
                    arrays[f"{number:06d}.{name}"] = array.astype(np.uint16) if small and name in _WIDE else array
            save_file(arrays, folder / f"epoch{epoch:04d}-block{block:06d}.safetensors")
            count += len(arrays) // len(_FIELDS)
    (folder / NOTE).write_text(json.dumps({"recipe": digest_of(plan.recipe), "batches": count}), encoding="utf-8")
    return count


class RecordedFeed:
    """Iterate over what `record` wrote, for ever, as Feed does.

    Args:
        folder: Where it was written.
        recipe: What the run expects.
        start: Where to begin; `block` counts files, `epoch` rounds through all of them.

    Raises:
        UserError: There is nothing, or it was recorded with other options.
    """

    def __init__(self, folder: Path, *, recipe: Recipe, start: Position | None = None) -> None:
        """Find the files."""
        self._files = sorted(folder.glob(_FILES))
        self._start = start or Position()
        note = folder / NOTE
        noted = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        if not self._files or not noted.get("batches"):
            raise UserError(
                f"feed.recorded {folder}: holds no recorded batches; "
                "rtdscan.pipeline.training.run.record_batches makes them"
            )
        if noted["recipe"] != digest_of(recipe):
            raise UserError(f"feed.recorded {folder}: was recorded with other feed, objective or corruption options")

    def __iter__(self) -> Iterator[tuple[Batch, Position]]:
        """From `start` on, without end."""
        at = self._start
        while True:
            arrays = load_file(self._files[at.block])
            count = 1 + max((int(name[:6]) for name in arrays), default=-1)
            following = Position(at.epoch, at.block + 1) if at.block + 1 < len(self._files) else Position(at.epoch + 1)
            for number in range(at.batch, count):
                fields = {name: arrays[f"{number:06d}.{name}"] for name in _FIELDS}
                fields |= {name: fields[name].astype(np.int32) for name in _WIDE}
                yield Batch(**fields), following if number + 1 == count else Position(at.epoch, at.block, number + 1)
            at = following
