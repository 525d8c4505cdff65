"""The HTML: one file, no script, nothing from a network. What comes from the corpus goes through `visible`."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from rtdscan.pipeline.finished.visible import pieces, shortened
from rtdscan.pipeline.report.collect import GROUP_WORDS, Findings
from rtdscan.pipeline.report.plots import drift_figures, length_figure, score_figure
from rtdscan.pipeline.report.words import FlaggedWord
from rtdscan.transforms.records import STATUSES
from rtdscan.transforms.settings import DECISIONS

TEMPLATES = Path(__file__).parent / "templates"

TEXT_CHARS = 300
"""Characters of a name, an id, a reason … that are shown."""

CONFIG_CHARS = 20_000


ALLOW_TIMES = 3
"""How often a word must have been flagged to be taken for a name."""

CAPITALISED = "capitalised"

MEASURES = {
    "psi_score": "PSI of scores",
    "ks_score": "KS of scores",
    "psi_length": "PSI of lengths",
    "ks_length": "KS of lengths",
    "embedding_shift": "shift of the mean embedding",
}
"""Measures of drift as people call them."""


@cache
def _environment() -> Environment:
    """One a process: it keeps the template that it has compiled."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "title_text": _title_text,
        "count": _count,
        "percent": _percent,
        "score": _score,
        "duration": _duration,
        "day": _day,
        "number": _number,
    }
    return environment


def render(findings: Findings, *, key: str) -> str:
    """The page.

    Args:
        findings: What it shows.
        key: Digest of what it was made from; it carries it.
    """
    finished, tally = findings.finished, findings.finished.tally
    thresholds = finished.thresholds
    template = _environment().get_template("report.html.j2")
    return template.render(
        key=key,
        f=findings,
        run=finished.run,
        summary=finished.run["summary"],
        tally=tally,
        metrics=tally.metrics(),
        thresholds=thresholds,
        scores=_plot(score_figure(findings.rows, thresholds=thresholds)),
        lengths=_plot(length_figure(findings.rows, thresholds=thresholds)),
        drifted=[_plot(one) for one in drift_figures(tally, findings.baseline.tally)] if findings.baseline else [],
        decisions=[(name, tally.decisions.get(name, 0)) for name in DECISIONS],
        statuses=[(name, tally.statuses.get(name, 0)) for name in STATUSES if tally.statuses.get(name)],
        outcomes=list(findings.counts.outcomes.items()),
        group_words=GROUP_WORDS,
        measures=MEASURES,
        names=[_looks(word) for word in findings.words.words] if findings.words else [],
        allow=_allow(findings),
        config=_config(finished.run["config"]),
        corpus=_corpus(finished.run["inputs"]),
    )


def visible(text: object, most: int = TEXT_CHARS, lines: bool = False) -> Markup:
    """Any text as HTML that neither runs nor reorders nor hides anything.

    Args:
        text: Anything.
        most: Characters that are shown; of a longer text its beginning and end.
        lines: Keep line breaks as they are.
    """
    if lines:
        return Markup("\n").join(visible(line, most) for line in str(text)[:most].splitlines())
    parts = []
    for piece in pieces(shortened(str(text), most)):
        parts.append(
            Markup('<i class="sign" title="{}">{}</i>').format(piece.title, piece.text)
            if piece.title
            else escape(piece.text)
        )
    return Markup("").join(parts)


def _title_text(text: object) -> str:
    """Text where no markup can stand: titles and hints."""
    return "".join(piece.text for piece in pieces(shortened(str(text), TEXT_CHARS)))


def _plot(svg: str) -> Markup:
    return Markup(svg)  # matplotlib's, of numbers and our own labels only


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.3g}"


def _percent(share: float) -> str:
    """A share as people write it: 12.3 %, 0.38 %."""
    if 0 < share < 0.0001:
        return "< 0.01\u202f%"
    digits = 0 if share in (0, 1) else 1 if share >= 0.1 else 2
    return f"{100 * share:.{digits}f}\u202f%"


def _score(score: float) -> str:
    return f"{score:.3f}" if score >= 0.001 or score == 0 else "< 0.001"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.{2 if seconds < 1 else 1 if seconds < 10 else 0}f}\u202fs"
    if seconds < 5400:
        return f"{seconds / 60:.0f}\u202fmin"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,}\u202fh {minutes}\u202fmin"


def _day(when: str | datetime) -> str:
    """`21 November 2026, 11:02 UTC`, of a time in UTC."""
    time = datetime.fromisoformat(when) if isinstance(when, str) else when
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def _corpus(inputs: list[str]) -> str:
    """What to call the corpus: the last part of its path that says something."""
    parts = [part for part in inputs[0].split("/") if part and not set(part) & set("*?[")]
    return (parts[-1] if parts else inputs[0]) + (f" and {len(inputs) - 1} more" if len(inputs) > 1 else "")


def _looks(word: FlaggedWord) -> str:
    """What a reader should know before taking a word for an error."""
    if any(character.isdigit() for character in word.word):
        return "has digits"
    if word.times >= ALLOW_TIMES and word.capital >= 0.8 * word.times:
        return CAPITALISED
    return ""


def _allow(findings: Findings) -> str:
    """Words that look like names, as an `allow` list in YAML."""
    if findings.words is None:
        return ""
    names = [word.word for word in findings.words.words if _looks(word) == CAPITALISED]
    plain = [name for name in names if name.isprintable() and len(name) < 40 and " " not in name]
    return yaml.safe_dump({"allow": plain}, allow_unicode=True, sort_keys=False) if plain else ""


def _config(config: Mapping[str, Any]) -> str:
    """The resolved options; a word list by its length only: it may hold words of the corpus."""
    shown = dict(config)
    if shown.get("allow"):
        shown["allow"] = f"{len(shown['allow']):,} words"
    return yaml.safe_dump(shown, allow_unicode=True, sort_keys=False, width=100)[:CONFIG_CHARS]
