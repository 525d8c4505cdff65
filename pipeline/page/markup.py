"""HTML of what the page shows. Whatever comes from a corpus, a path or a model goes through `shown`: it runs nothing,
reorders nothing and hides nothing."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from rtdscan.pipeline.finished.visible import pieces, shortened, suggested
from rtdscan.pipeline.page.catalogue import MEASURES, Query, Row
from rtdscan.pipeline.page.documents import Mark, Shown
from rtdscan.pipeline.page.trying import State, Tried

LONGEST = 400
"""Characters of one word that are shown."""

WHOLE = 20_000
"""Characters of a document that is shown whole; of a longer one the AROUND characters on each side of a mark."""

AROUND = 300

TOKENS = 3_000
"""Tokens in the table."""

SUGGESTIONS = 5

_TEMPLATE = {ord("{"): "&#123;", ord("}"): "&#125;", ord("$"): "&#36;", ord("`"): "&#96;"}
"""What the page's own template language would read as code."""

_ICONS = {"right": "✓", "wrong": "✗", "unsure": "?", "disputed": "⇄"}


def template(name: str) -> str:
    """A script, style or template of the page, as text."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def shown(text: object, most: int = 300) -> Markup:
    """Any text, as HTML; line breaks stay."""
    lines = shortened(str(text), most).replace("\r\n", "\n").split("\n")
    return Markup("\n").join(_line(line) for line in lines)


def _line(line: str) -> Markup:
    parts: list[Markup] = []
    for piece in pieces.__wrapped__(line):  # not cached: these are whole documents
        text = Markup(str(escape(piece.text)).translate(_TEMPLATE))
        parts.append(Markup('<i class="sign" title="{}">{}</i>').format(piece.title, text) if piece.title else text)
    return Markup("").join(parts)


def plain(value: object) -> str:
    """Text for a script to show as text: signs instead of what can't be seen."""
    return "".join(piece.text for piece in pieces.__wrapped__(shortened(str(value), 80)))


def data(value: object) -> Markup:
    """Any value as JSON between the quotes of an attribute: exact, for scripts, never shown as it is."""
    return Markup(str(escape(json.dumps(value, ensure_ascii=True))).translate(_TEMPLATE))


def notice(sentence: str, *, kind: str = "note") -> Markup:
    """A sentence for the reader; kind: note, problem, good."""
    return (
        Markup('<p class="notice {}" role="status">{}</p>').format(kind, shown(sentence, 1000))
        if sentence
        else _NOTHING
    )


_NOTHING = Markup("")


# ---------------------------------------------------------------------------------------------------------------------
# Try


def model_state(state: State) -> Markup:
    """What there is to say about the model, in a line."""
    says = {"idle": "not loaded", "loading": "loading …", "ready": "ready", "failed": "not to be had"}
    facts = [fact for fact in (state.engine, state.precision, state.device) if fact]
    if state.flag is not None:
        facts.append(f"flags at {state.flag:.3f}")
    if state.digest:
        facts.append(f"digest {state.digest[:12]}")
    if state.state == "ready":
        facts.append(f"loaded in {state.seconds:.1f} s")
    told = Markup("").join(Markup('<span class="fact">{}</span>').format(shown(fact)) for fact in facts)
    notes = Markup("").join(notice(note, kind="problem" if state.state == "failed" else "note") for note in state.notes)
    head = Markup(
        '<div class="model" data-state="{}"><i class="lamp"></i><b>{}</b><span class="says">{}</span>{}</div>'
    )
    return head.format(state.state, shown(state.name, 100), says[state.state], told) + notes


def words(tried: Tried) -> Markup:
    """The text, each word with its probability; scripts mark those above the slider's threshold."""
    if tried.row["status"] not in ("ok", "truncated") or not tried.row["words"]:
        reason = tried.row["reason"] or "it has no words"
        return notice(f"Nothing was scored: {tried.row['status']}, {reason}.", kind="problem")
    parts, at = [], 0
    for word in tried.row["words"]:
        parts += [shown(tried.text[at : word["start"]], WHOLE), _word(tried.text, word)]
        at = word["end"]
    parts.append(shown(tried.text[at:], WHOLE))
    n, score = len(tried.row["words"]), tried.row["score"]
    told = Markup(
        '<p class="tally"><b class="over">0</b> of {} words at or above <b class="limit"></b>'
        '<span class="fact">score of the text {:.3f}</span><span class="fact">{:.0f} ms</span></p>'
    ).format(f"{n:,}", score or 0, tried.seconds * 1000)
    return told + Markup('<div class="text words" dir="auto">{}</div>{}{}').format(
        Markup("").join(parts), _SCALE, _suggestions(tried)
    )


_SCALE = Markup('<p class="scale" aria-hidden="true"><span>fits</span><i></i><span>does not belong</span></p>')


def _word(text: str, word: dict[str, float]) -> Markup:
    start, end, p = int(word["start"]), int(word["end"]), float(word["score"])
    return Markup(
        '<span class="w" style="--p:{:.3f}" data-p="{:.6f}" data-tip="{:.3f}" tabindex="-1">{}</span>'
    ).format(p, p, p, shown(text[start:end], LONGEST))


def _suggestions(tried: Tried) -> Markup:
    """Words that could stand in place of flagged ones, where the scan made some."""
    rows = [
        Markup('<li><span class="from">{}</span> <span class="arrow">→</span> {}</li>').format(
            shown(tried.text[span["start"] : span["end"]], 80), _choices(span)
        )
        for span in tried.row["spans"] or ()
        if span.get("suggestions")
    ]
    if not rows:
        return _NOTHING
    return Markup('<div class="instead"><h4>Instead</h4><ul>{}</ul></div>').format(Markup("").join(rows))


def _choices(span: Mapping[str, Any]) -> Markup:
    words, sure = span["suggestions"][:SUGGESTIONS], span.get("probabilities") or ()
    told = [Markup(" <small>{:.2f}</small>").format(p) for p in sure]
    return Markup(" ").join(
        Markup("<bdi>{}</bdi>{}").format(shown(suggested(word), 40), after)
        for word, after in zip_longest(words, told[: len(words)], fillvalue="")
    )


def tokens(tried: Tried) -> Markup:
    """Every token with its offsets and probability."""
    found = tried.row["tokens"] or []
    rows = Markup("").join(
        Markup(
            '<tr style="--p:{:.3f}"><td class="piece"><bdi>{}</bdi></td><td class="r">{}–{}</td>'
            '<td class="r p">{:.3f}</td></tr>'
        ).format(
            token["score"],
            shown(tried.text[token["start"] : token["end"]], 80),
            token["start"],
            token["end"],
            token["score"],
        )
        for token in found[:TOKENS]
    )
    more = f"{len(found) - TOKENS:,} more tokens are not shown." if len(found) > TOKENS else ""
    head = Markup('<thead><tr><th>piece</th><th class="r">characters</th><th class="r">probability</th></tr></thead>')
    table = Markup('<div class="scroll"><table class="tokens">{}<tbody>{}</tbody></table></div>')
    return table.format(head, rows) + notice(more)


# ---------------------------------------------------------------------------------------------------------------------
# Look


def document_list(
    rows: Sequence[Row],
    query: Query,
    *,
    counts: dict[tuple[str, int], dict[str, int]],
    chosen: tuple[str, int] | None,
) -> Markup:
    """A page of documents; a script tells which one was clicked."""
    if not rows:
        return Markup('<p class="empty">No document fits. Widen the filters, or clear the search.</p>')
    heads = [("", "document"), ("n_words", "words"), ("n_flagged", "flagged"), ("score", "score")]
    head = Markup("").join(_head(name, title, query) for name, title in heads)
    worst = max((row.score or 0 for row in rows), default=0) or 1
    body = Markup("").join(_row(row, counts.get(row.key, {}), chosen=row.key == chosen, worst=worst) for row in rows)
    return Markup(
        '<div class="list"><table class="documents"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, body)


def _head(name: str, title: str, query: Query) -> Markup:
    if name not in MEASURES:
        return Markup("<th>{}</th>").format(title)
    arrow = (" ↓" if query.descending else " ↑") if query.order == name else ""
    return Markup('<th class="r {}"><button type="button" data-sort="{}" title="sort by {}">{}{}</button></th>').format(
        "length" if name == "n_words" else "", name, MEASURES[name], title, arrow
    )


def _row(row: Row, counts: dict[str, int], *, chosen: bool, worst: float) -> Markup:
    name = shown(row.id, 80) if row.id is not None else Markup("row {}").format(f"{row.row:,}")
    place = shown(f"{row.shard.file}, row {row.row:,}" if row.id is not None else row.shard.file, 120)
    state = row.status if row.status != "ok" else row.decision
    score = "–" if row.score is None else f"{row.score:.3f}"
    flagged = "–" if row.n_flagged is None else f"{row.n_flagged:,}"
    badges = Markup("").join(
        Markup('<span class="badge {}" title="{} {}">{}{}</span>').format(word, n, word, _ICONS[word], n)
        for word, n in counts.items()
    )
    snippet = (
        Markup('<div class="snippet" dir="auto">{}</div>').format(shown(row.snippet, 300)) if row.snippet else _NOTHING
    )
    return Markup(
        '<tr tabindex="0" role="button" class="{}" data-file="{}" data-row="{}"><td>'
        '<div class="name"><i class="dot {}" title="{}"></i><span>'
        '<bdi>{}</bdi>{}</span></div><div class="place"><bdi>{}</bdi></div>{}</td>'
        '<td class="r length">{}</td><td class="r">{}</td>'
        '<td class="r"><span class="meter" style="--p:{:.4f}">{}</span></td></tr>'
    ).format(
        "chosen" if chosen else "", data(row.shard.file), row.row, state, state, name, badges, place, snippet,
        f"{row.n_words:,}", flagged, (row.score or 0) / worst, score,
    )  # fmt: skip


def document(found: Shown, *, reviewer: str, names: dict[str, object], time: int) -> Markup:
    """A document with its marks; scripts move between them and tell what was judged.

    Args:
        found: The document.
        reviewer: Whose verdicts are their own.
        names: Carried columns with the document's values.
        time: Differs each time it is shown, so that the page takes what it is given.
    """
    row = found.attributes
    title = shown(names["id"], 200) if names.get("id") is not None else Markup("row {}").format(f"{found.row:,}")
    facts = [f"{found.shard.file}, row {found.row:,}", *(f"{k}: {v}" for k, v in names.items() if k != "id")]
    facts += [f"{row['n_words']:,} words", f"score {row['score']:.3f}" if row["score"] is not None else "no score"]
    facts.append(row["decision"] if row["status"] == "ok" else f"{row['status']}: {row['reason'] or ''}")
    told = Markup("").join(Markup('<span class="fact"><bdi>{}</bdi></span>').format(shown(fact, 160)) for fact in facts)
    hidden = f"{found.hidden:,} more marks of lower probability are not shown." if found.hidden else ""
    if found.text is None:
        body = notice(
            f"The text can't be shown: {found.why}. What is left are the places and probabilities of its marks;"
            " verdicts need the text.",
            kind="problem",
        ) + _places(found)
    elif not found.text.strip():
        body = notice("The text is empty.")
    else:
        body = Markup('<div class="text marked" dir="auto">{}</div>').format(
            _marked(found.text, found, reviewer=reviewer)
        )
        if not found.marks:
            body += notice("No word of this document is flagged.")
    head = Markup('<header><h3><bdi>{}</bdi></h3><p class="facts">{}</p></header>').format(title, told)
    frame = Markup(
        '<article class="document" data-file="{}" data-row="{}" data-judge="{}" data-time="{}">{}{}{}</article>'
    )
    able = int(found.text is not None and bool(found.marks))
    return frame.format(data(found.shard.file), found.row, able, time, head, body, notice(hidden))


def _marked(text: str, found: Shown, *, reviewer: str) -> Markup:
    parts, at = [], 0
    whole = len(text) <= WHOLE
    for mark in found.marks:
        if mark.start < at:  # never: marks do not overlap
            continue
        parts += [_between(text, at, mark.start, whole=whole), _mark(text, mark, found, reviewer=reviewer)]
        at = mark.end
    parts.append(_between(text, at, len(text), whole=whole))
    return Markup("").join(parts)


def _between(text: str, start: int, end: int, *, whole: bool) -> Markup:
    """What stands between two marks; in a long document its ends only."""
    if whole or end - start <= 2 * AROUND + 100:
        return Markup("").join(_part(part) for part in _by_length(text[start:end]))
    left, right = (0 if start == 0 else AROUND), (0 if end == len(text) else AROUND)
    gap = Markup('<span class="gap">[… {} characters …]</span>').format(f"{end - start - left - right:,}")
    return shown(text[start : start + left], WHOLE) + gap + shown(text[end - right : end], WHOLE)


def _part(text: str) -> Markup:
    return shown(text, LONGEST if len(text) > LONGEST and not re.search(r"\s", text) else WHOLE)


def _by_length(text: str) -> list[str]:
    """The text in parts: words that are longer than LONGEST, and what stands between them."""
    return [part for part in re.split(rf"(\S{{{LONGEST + 1},}})", text) if part]


def _mark(text: str, mark: Mark, found: Shown, *, reviewer: str) -> Markup:
    people = found.said.get((mark.start, mark.end), {})
    mine = people[reviewer].verdict if reviewer in people else ""
    others = [[plain(name), verdict.verdict] for name, verdict in people.items() if name != reviewer]
    classes = f"{'flag' if mark.flagged else 'candidate'} {mine}"
    return Markup(
        '<mark class="{}" tabindex="0" style="--p:{:.3f}" data-start="{}" data-end="{}" data-p="{:.3f}" data-mine="{}" '
        'data-others="{}" data-suggestions="{}">{}</mark>'
    ).format(
        classes, mark.score, mark.start, mark.end, mark.score, mine, data(others),
        data(_named(mark)), shown(text[mark.start : mark.end], LONGEST),
    )  # fmt: skip


def _named(mark: Mark) -> list[str]:
    """Suggestions as the bar under a document names them."""
    sure = [f" {p:.2f}" for p in mark.sure]
    words = mark.suggestions[:SUGGESTIONS]
    return [plain(suggested(word)) + after for word, after in zip_longest(words, sure[: len(words)], fillvalue="")]


def _places(found: Shown) -> Markup:
    rows = Markup("").join(
        Markup('<tr><td>characters {}–{}</td><td class="r">{:.3f}</td></tr>').format(m.start, m.end, m.score)
        for m in found.marks
    )
    return Markup('<table class="tokens">{}</table>').format(rows) if found.marks else _NOTHING
