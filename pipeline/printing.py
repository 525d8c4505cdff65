"""Shows what came of a program whose work is done: a stdout that takes nothing changes neither that nor its status."""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rtdscan.transforms.errors import RtdscanError


@contextmanager
def after_work(*, kept: bool = True) -> Iterator[None]:
    """Print in here; where that fails, say so on stderr and go on. A reader that went away (`| head`) is no news.

    Args:
        kept: Whether the work is in files; else what is printed is all of it, and lost.

    Raises:
        RtdscanError: It can't be printed and is not kept.
    """
    try:
        yield
        if sys.stdout is not None:  # closed: `>&-`
            sys.stdout.flush()
    except SystemExit:  # rich's answer to a reader that went away
        pass
    except BrokenPipeError:
        _drop_stdout()
    except (OSError, RtdscanError) as error:
        _drop_stdout()
        why = getattr(error, "strerror", None) or error
        if not kept:
            raise RtdscanError(f"what came of it can't be shown: {why}") from error
        with suppress(OSError):  # stderr goes to the same full disk
            print(f"rtdscan: warning: what came of it can't be shown: {why}; the work is done", file=sys.stderr)


def shown(name: str, *, most: int = 300) -> str:
    """A name that comes from a corpus or a model, for a terminal: no escape sequences, no line breaks, not endless."""
    name = name if len(name) <= most else f"{name[:most]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def one_line(text: str) -> str:
    """Text that can do nothing to a terminal: no line breaks, no control or invisible characters."""
    return "".join(c if c.isprintable() else "␣" if c.isspace() else "�" for c in text)


def print_json(value: Any) -> None:
    """Print JSON in a line; characters that stdout's encoding lacks as escapes, so that it says the same; for numbers
    that are not finite, which JSON has no word for, null."""
    value = _finite(value)
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    print(text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def survive_encoding() -> None:
    """From here on a character that stdout's encoding lacks is a question mark instead of an exception."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors == "strict":
        reconfigure(errors="replace")


def _drop_stdout() -> None:
    """What it still holds goes nowhere: Python flushes it once more at its exit, with status 120 where that fails."""
    with suppress(OSError, ValueError, AttributeError):  # not a file, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
