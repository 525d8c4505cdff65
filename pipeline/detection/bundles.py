"""A bundle with something changed: as a new directory, or in place."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtdscan.transforms import storage
from rtdscan.transforms.bundle import DEFAULT, Bundle, load_bundle
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.units import read_footer


def check_output(bundle: Bundle, output: str | None, *, in_place: bool = False) -> Path:
    """Where the changed bundle goes; fails before the work, not after it.

    Args:
        bundle: The one to change.
        output: Directory to make; None with `in_place`.
        in_place: Change the bundle where it is.

    Raises:
        UserError: Both or neither are given, or the directory is there already.
    """
    if in_place == (output is not None):
        raise UserError("give either --output DIRECTORY, for a new bundle, or --in-place")
    if output is None:
        if bundle.path == DEFAULT:
            raise UserError("--in-place would change the model that ships with the program; give --output DIRECTORY")
        return bundle.path
    if not storage.is_local(output):
        raise UserError(f"--output {output}: expected a local directory; copy it to the store afterwards")
    path = Path(storage.local(output))
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"--output {output}: is there already; name a new directory, or change the model --in-place")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--output {output}: the folder {path.absolute().parent} does not exist")
    return path


def check_lexicon(output: str, inputs: Sequence[str]) -> None:
    """That a lexicon takes no file's place but another lexicon's: `lexicon data/*.parquet` names a corpus' last file.

    Args:
        output: Where the lexicon, or the bundle with it, is to be written.
        inputs: Files, folders, globs of the corpus.

    Raises:
        UserError: The output is one of the inputs' files, or a Parquet file of something else; or an input is missing.
    """
    expected = "expected a new name, or a lexicon to replace; name OUTPUT after the inputs"
    _, entries = storage.expand_all(inputs)
    here = _resolved(output)
    if any(_resolved(entry.path) == here for entry in entries):
        raise UserError(f"OUTPUT {output}: is one of the files to be counted, and would be overwritten; {expected}")
    if not output.endswith(".parquet") or not storage.exists(output):
        return
    try:
        metadata = read_footer(output).metadata
        columns, total = metadata.schema.names, (metadata.metadata or {}).get(b"documents", b"")
    except RtdscanError as error:
        raise UserError(f"OUTPUT {output}: is there already, and is not a lexicon ({error}); {expected}") from error
    if not {"word", "documents"} <= set(columns) or not total.isdigit():
        raise UserError(
            f"OUTPUT {output}: is there already, and is not a lexicon (its columns: {', '.join(columns)}); {expected}"
        )


def _resolved(path: str) -> str:
    return str(storage.local(path).resolve()) if storage.is_local(path) else path


def card_of(bundle: Bundle) -> dict[str, Any]:
    """bundle.json as a dictionary, with all fields."""
    return bundle.card.model_copy(update={"name": bundle.card.name or bundle.name}).model_dump(mode="json")


def write_bundle(
    bundle: Bundle, path: Path, *, card: Mapping[str, Any], files: Mapping[str, bytes], section: tuple[str, str]
) -> Bundle:
    """Write the bundle with another card and further files.

    A new directory appears whole or not at all. In place each file does, bundle.json last.

    Args:
        bundle: The bundle as it is.
        path: Directory to make, or the bundle's own.
        card: bundle.json.
        files: Name -> content.
        section: Heading and text of a section of the model card (README.md); replaces one of the same heading.

    Returns:
        The new bundle, loaded.
    """
    readme = bundle.path / "README.md"
    old = readme.read_text(encoding="utf-8") if readme.is_file() else f"# {card['name']}\n"
    written = {
        **files,
        "README.md": with_section(old, *section).encode(),
        "bundle.json": (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    if path == bundle.path:
        for name, data in written.items():
            storage.put_bytes(str(path / name), data)
        return load_bundle(str(path))
    making = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
    try:
        for item in sorted(bundle.path.iterdir()):
            if item.is_dir() and not item.name.startswith("."):
                shutil.copytree(item, making / item.name)
            elif item.is_file() and item.name not in written:
                shutil.copyfile(item, making / item.name)
        for name, data in written.items():
            (making / name).write_bytes(data)
        making.chmod(0o755)
        os.replace(making, path)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return load_bundle(str(path))


def with_section(readme: str, heading: str, text: str) -> str:
    """A model card with a section `## heading`, in place of the one there was, else at the end."""
    mark = f"## {heading}\n"
    before, found, rest = readme.partition(mark)
    after = ""
    if found:
        lines = rest.splitlines(keepends=True)
        next_ = next((at for at, line in enumerate(lines) if line.startswith(("# ", "## "))), len(lines))
        after = "".join(lines[next_:])
    body = f"{before.rstrip()}\n\n{mark}\n{text.strip()}\n"
    return body + (f"\n{after}" if after else "")
