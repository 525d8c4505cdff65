"""Flagged words with what stands around them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rtdscan.pipeline.finished.visible import shortened, suggested

AROUND = 90
"""Characters of context on each side, cut back to white space where there is some."""

LONGEST = 160
"""Characters of a marked stretch that are shown."""

MARKS = 12
"""Marks in one excerpt at most."""

SUGGESTIONS = 3

Text = Callable[[int, int], str]
"""Characters from a position to another, end exclusive."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of an excerpt.

    Attributes:
        text: Its characters, a long one shortened.
        score: Probability of flagged words; None for what stands around them.
        suggestions: What could stand there instead, best first.
        sure: How probable each is; empty where a scan did not tell.
    """

    text: str
    score: float | None = None
    suggestions: tuple[str, ...] = ()
    sure: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A stretch of a document: whether there is more before and after it, and its parts."""

    more_before: bool
    more_after: bool
    stretches: tuple[Stretch, ...]


def make_excerpts(text: Text, spans: Sequence[dict[str, Any]], *, n_chars: int, n: int) -> tuple[Excerpt, ...]:
    """The worst spans of a document in their context; contexts that touch become one.

    Args:
        text: Reads the document.
        spans: Its spans or candidates, in order.
        n_chars: Characters of the document.
        n: Spans to show, those with the highest scores; others that stand near are marked too.

    Returns:
        In the order of the document.
    """
    chosen = sorted(sorted(spans, key=lambda span: (-span["score"], span["start"]))[:n], key=lambda s: s["start"])
    windows: list[tuple[int, int]] = []
    for span in chosen:
        start, end = max(0, span["start"] - AROUND), min(n_chars, span["end"] + AROUND)
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((start, end))
    return tuple(_excerpt(text, spans, start, end, n_chars) for start, end in windows)


def in_context(text: Text, span: dict[str, Any], *, n_chars: int, around: int = AROUND) -> tuple[str, str, str]:
    """(before, words, after) of one span."""
    start, end = max(0, span["start"] - around), min(n_chars, span["end"] + around)
    return (
        _from_space(text(start, span["start"]), cut=start > 0),
        text(span["start"], span["end"]),
        _to_space(text(span["end"], end), cut=end < n_chars),
    )


def _excerpt(text: Text, spans: Sequence[dict[str, Any]], start: int, end: int, n_chars: int) -> Excerpt:
    inside = [span for span in spans if span["start"] >= start and span["end"] <= end][:MARKS]
    parts: list[Stretch] = []
    at = start
    for span in inside:
        before = text(at, span["start"])
        if at == start and start > 0:
            before = _from_space(before, cut=True)
        suggestions = tuple(shortened(suggested(word), 40) for word in (span.get("suggestions") or ())[:SUGGESTIONS])
        sure = tuple(span.get("probabilities") or ())[: len(suggestions)]
        words = shortened(text(span["start"], span["end"]), LONGEST)
        parts += [Stretch(shortened(before, 4 * AROUND)), Stretch(words, span["score"], suggestions, sure)]
        at = span["end"]
    last_end = min(end, at + 2 * AROUND)
    parts.append(Stretch(_to_space(text(at, last_end), cut=last_end < n_chars)))
    return Excerpt(start > 0, last_end < n_chars, tuple(part for part in parts if part.text))


def _from_space(text: str, *, cut: bool) -> str:
    """Without the word that was cut at the beginning."""
    first = next((at for at, character in enumerate(text) if character.isspace()), -1) if cut else -1
    return text[first + 1 :] if 0 <= first < len(text) // 2 else text


def _to_space(text: str, *, cut: bool) -> str:
    """Without the word that was cut at the end."""
    last = next((at for at in range(len(text) - 1, -1, -1) if text[at].isspace()), -1) if cut else -1
    return text[:last] if last > len(text) // 2 else text
