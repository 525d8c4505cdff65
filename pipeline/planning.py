"""What a scan has to do, from the files' footers only: the first step of `scan` and of `plan`."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from rtdscan.transforms import storage
from rtdscan.transforms.columns import find_text_column, get_column
from rtdscan.transforms.cutting import cut
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.records import BadFile, InputFile, WorkUnit
from rtdscan.transforms.units import FileProblem, read_footer

COARSE = 1.5
"""How many times as large as was asked for a sample may be before that is told."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scan has to do.

    Attributes:
        root: The folder that all inputs have in common; `relative` paths lie below it.
        text: Name or path of the text column.
        schema: Arrow schema of the first good file.
        types: Types of the id and of the carried and counted columns, as in the first file that has each.
        absent: The same of those that some files lack, where they are null.
        files: The good files, by `relative`.
        units: The units to scan, by file and row; those of the sample.
        bad: Files that can't be scanned.
        every: The units of the whole input. A shard that belongs to none of them is stale; one that belongs to a unit
            outside the sample is not.
        sample: Share of the rows that was asked for.
        told: What a user should know of columns that not all files have, or not of one type, a line each.
    """

    root: str
    text: str
    schema: pa.Schema
    types: dict[str, pa.DataType]
    absent: dict[str, pa.DataType]
    files: tuple[InputFile, ...]
    units: tuple[WorkUnit, ...]
    bad: tuple[BadFile, ...]
    every: tuple[WorkUnit, ...]
    sample: float = 1.0
    told: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know: `told`; a sample much larger than was asked for, since units are not divided."""
        rows, wanted = sum(unit.rows for unit in self.units), self.sample * sum(unit.rows for unit in self.every)
        if rows <= COARSE * wanted:
            return self.told
        share = rows / sum(unit.rows for unit in self.every)
        return (
            f"the sample is {share:.1%} of the rows instead of {self.sample:.2%}, for it is made of whole units:"
            " a lower unit.text_mb makes smaller ones",
            *self.told,
        )


def make_plan(
    inputs: Sequence[str],
    *,
    text: str | None = None,
    id: str | None = None,
    columns: Sequence[str] = (),
    counted: Sequence[str] = (),
    text_mb: float = 4.0,
    sample: float = 1.0,
    threads: int = 8,
) -> Plan:
    """Find the input's files and cut them into units.

    Args:
        inputs: Files, folders, globs.
        text: Text column; None: found in the first readable file (see `columns.find_text_column`).
        id: Id column, if any.
        columns: Columns to carry along; null where a file lacks one that others have.
        counted: Columns that will be read too, but not carried along; may be part of the path.
        text_mb: MiB of text a unit.
        sample: Share of the rows to scan; see `sample_units`.
        threads: Footers read at a time.

    Raises:
        UserError: Nothing was found, no file can be scanned, a column is in none, or it is not clear which one is the
            text.
    """
    root, entries = storage.expand_all(inputs)
    text = text or _find_text(entries)
    options: dict[str, Any] = {"text": text, "id": id, "carried": columns, "counted": counted, "text_mb": text_mb}
    with ThreadPoolExecutor(threads) as pool:
        planned = list(pool.map(lambda entry: cut(entry, **options), entries))
    bad = tuple(one for one in planned if isinstance(one, BadFile))
    good = [one for one in planned if not isinstance(one, BadFile)]
    if not good:
        others = f" (none of the {len(bad)} files can be scanned)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0].reason}{others}")
    units = [unit for _, of_file, _ in good for unit in of_file]
    first = good[0][0].path
    schema = read_footer(first).schema
    types, absent, told = {}, {}, []
    for name in good[0][2]:
        there = [(file.relative, type_) for file, _, of in good if (type_ := of[name]) is not None]
        if not there:
            try:
                get_column(schema, name, where=storage.printable(first))
            except UserError as error:
                raise UserError(f"{error} (none of {len(good):,} files has it)" if len(good) > 1 else error) from error
        types[name] = there[0][1]
        if len(there) < len(good):
            absent[name] = types[name]
            lacking = next(file.relative for file, _, of in good if of[name] is None)
            n = len(good) - len(there)
            told.append(f"{n:,} of {len(good):,} files have no column {name}, which is null there ({lacking})")
        if name not in counted or name in columns:
            told += _mixed([(file.relative, of[name]) for file, of_file, of in good if of_file], name)
    return Plan(
        root=root,
        text=text,
        schema=schema,
        types=types,
        absent=absent,
        files=tuple(file for file, _, _ in good),
        units=sample_units(units, sample=sample),
        bad=bad,
        every=tuple(units),
        sample=sample,
        told=tuple(told),
    )


def _mixed(types: Sequence[tuple[str, pa.DataType | None]], name: str) -> Iterator[str]:
    """What to say of a column that is not of one type in all files; texts are read as such however Arrow holds them."""
    first: dict[str, str] = {}
    for file, type_ in ((file, type_) for file, type_ in types if type_ is not None):
        first.setdefault(str(type_).replace("large_", "").replace("_view", ""), file)
    if len(first) > 1:
        of_files = ", ".join(f"{type_} in {file}" for type_, file in first.items())
        yield f"{name} is {of_files}: some readers refuse such an OUTPUT"


def _find_text(entries: Sequence[storage.Entry]) -> str:
    problems = []
    for entry in entries:
        try:
            schema = read_footer(entry.path).schema
        except FileProblem as problem:
            problems.append(problem)
            continue
        return find_text_column(schema, None, where=storage.printable(entry.path))
    others = f" (none of the {len(entries)} files can be scanned)" if len(entries) > 1 else ""
    raise UserError(f"{problems[0]}{others}") from problems[0]


def sample_units(units: Sequence[WorkUnit], *, sample: float) -> tuple[WorkUnit, ...]:
    """Whole units that hold about this share of the rows, the same ones every time.

    Units are taken by the blake2b hash of their shard's path until their rows reach the share, at least one. So a
    smaller sample is part of a larger one, and shards made for it serve the larger one.

    Args:
        units: All units.
        sample: Above 0; from 1 on all units are taken.

    Returns:
        The sample, in the order of `units`.
    """
    wanted = sample * sum(unit.rows for unit in units)
    taken: set[str] = set()
    rows = 0
    for unit in sorted(units, key=_by_lot):
        if rows >= wanted and taken:
            break
        taken.add(unit.shard)
        rows += unit.rows
    return tuple(unit for unit in units if unit.shard in taken)


def _by_lot(unit: WorkUnit) -> bytes:
    return blake2b(unit.shard.encode(), digest_size=16).digest()
