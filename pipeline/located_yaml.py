"""YAML that remembers in which line each key stands, and refuses what YAML lets pass: a key given twice."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from rtdscan.transforms.errors import UserError

Key = tuple[str | int, ...]
"""Where a value stands in the tree: names of sections and options, numbers of list items."""


def dotted(key: Key) -> str:
    """`("a", "b", 1)` as `a.b[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def read_text(path: Path, what: str) -> str:
    """A UTF-8 file, or a UserError that begins with `what`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{what}: {getattr(error, 'strerror', None) or error}") from error


def parse(text: str, place: Callable[[int], str]) -> tuple[Any, dict[Key, str]]:
    """Parse one YAML document, plain types only.

    Args:
        text: The document.
        place: Turns a line number into the words that name the place in messages.

    Returns:
        The value (None for an empty text), and the place of each key and list item in it.

    Raises:
        UserError: Not YAML, a key given twice, or a key that is not text (`on:` and `no:` are booleans in YAML).
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        places = dict(_places(node, (), place))
        return loader.construct_document(node), places
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
        raise UserError(f"{place(mark.line + 1 if mark else 1)}: not valid YAML: {why}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{place(1)}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"{place(1)}: nested too deeply") from error


def _places(node: Any, key: Key, place: Callable[[int], str]) -> Iterator[tuple[Key, str]]:
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*key, number), place(item.start_mark.line + 1)
            yield from _places(item, (*key, number), place)
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.tag == "tag:yaml.org,2002:merge":
                continue
            if name.tag != "tag:yaml.org,2002:str":
                raise UserError(f"{place(line)}: a key must be text; put {name.value} into quotes")
            here = (*key, name.value)
            if name.value in first:
                raise UserError(f"{place(line)}: {dotted(here)} is given twice, first in line {first[name.value]}")
            first[name.value] = line
            yield here, place(line)
            yield from _places(value, here, place)
