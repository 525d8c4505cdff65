"""What machines leave in prose: tags, character references, templates, escapes, UTF-8 that was read as something else,
invisible characters in words.

No sentence needs them, whatever its words say, and the network cannot tell: a tag is made of marks that are each
frequent. Found in 7 of 37,876 articles of an encyclopedia (soft hyphens where a printed line once ended), 2 of 14,545
e-mails and reviews, 5 of 1,441 documents of other kinds (four manuals that name tags), and 53 of 7,087 Chinese ones
(`-{zh-cn:米; zh-tw:公尺}-`). Who scans manuals or code has `ignore: [code]`.
"""

import html
import re
from collections.abc import Callable
from functools import cache
from html.entities import html5
from typing import cast

_ELEMENTS = (
    "a abbr acronym address applet area article aside audio b base basefont bdi bdo big blink blockquote body br "
    "button canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em "
    "embed fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr "
    "html i iframe img input ins kbd label legend li link main map mark marquee menu meta meter nav nobr noframes "
    "noscript object ol optgroup option output p param picture pre progress q rp rt ruby s samp script search "
    "section select slot small source span strike strong style sub summary sup svg table tbody td template "
    "textarea tfoot th thead time title tr track tt u ul var video wbr gallery nowiki ref references"
)
"""Of HTML, current and obsolete (html.spec.whatwg.org, sections 4 and 16),
and four of MediaWiki. <mailto:a@b.c> is no tag."""

# Every repetition is bounded: texts are hostile, matching stays linear.
_ATTRIBUTE = r"""\s{1,9}[\w:.-]{1,40}\s?=\s?(?:"[^"<>]{0,400}"|'[^'<>]{0,400}'|[^\s"'<>=]{1,200})"""
_LATIN = "A-Za-z\u00c0-\u024f"
_WITHIN_WORDS = {
    mark: re.compile(rf"(?<=[{_LATIN}]){mark}(?=[{_LATIN}])") for mark in "\u00ad\u200b\u200e\u200f\u2060\ufeff"
}

_QUOTED = re.compile(r"(?:=[CE][0-9A-F](?:=[89AB][0-9A-F]){1,2}){1,9}")  # quoted-printable, beyond ASCII
_CODE_POINT = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED_AT_MOST = 4
# A byte of UTF-8 beyond ASCII is never alone, and by no codec of the West is it Han or kana.
_PERHAPS_MISREAD = re.compile(r"[\u0080-\u2dff]{2,100}")

# What a text must have for a pattern to be searched (most have nothing of it), and the pattern.
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("<", rf"</?(?:{'|'.join(_ELEMENTS.split())})(?:{_ATTRIBUTE}){{0,20}}\s?/?>"),
    ("<", r"<!--(?:[^-]|-(?!->)){0,400}-->|<!--|<!\[CDATA\[|<!DOCTYPE\b[^<>]{0,300}>"),
    ("<", r"<\?(?:php|xml)\b(?:[^?<>]|\?(?!>)){0,400}\?>"),
    ("]", r"\]\]>"),
    ("{", r"\{\{ ?#?/?[A-Za-z][^{}\n]{0,400}\}\}"),  # {{reflist}}, {{ page.title }}
    ("-{", r"-\{[^{}\n]{0,400}\}-"),  # variants of Chinese: -{zh-cn:米; zh-tw:公尺}-
    ("{", r"(?a:[#.]?[\w-]{0,40}\w) ?\{\s?[a-z-]{2,30}: ?[^{};\n]{1,200};[^{}\n]{0,400}\}"),  # p { margin: 0; }
    ("{", r"\bfunction ?\w{0,40}\([\w ,]{0,80}\) ?\{"),
    ("$", r"""\$\((?:document|window|function|this|'[^'()\n]{1,80}'|"[^"()\n]{1,80}")\)(?:\.\w{1,30})?"""),
    ("[", r"(?<!\w)\[\[[A-Za-z:][^\[\]\n]{0,300}\]\]"),
    ("[", r"\[(?:edit|citation needed|clarification needed|dead link)\]"),
    ("[", r"\[/(?:b|i|u|s|url|img|quote|code|size|color|list|center)\]"),
    ("[", r"\[(?:url|img|quote)\]|\[(?:url|quote|size|color)=[^\[\]\n]{1,200}\]"),
    ('="', r'\b(?:style|class|href|src)="[^"<>\n]{0,300}"'),
    ("\\", r"\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|(?<!:)\\[nrt](?![A-Za-z])|(?<!:)\\n(?=(?-i:[A-Z][a-z]))"),
    ("%20", r"(?<!\S)(?:[\w-]{0,60}[^\W\d])?%20[\w%-]{0,120}(?![^\s.,;:!?)])"),  # in no address
    ("=", rf"""=3D(?=["'])|{_QUOTED.pattern}"""),
    # Between Latin letters alone: elsewhere these characters have a use.
    *((mark, pattern.pattern) for mark, pattern in _WITHIN_WORDS.items()),
    ("\u25a1", rf"(?<=[{_LATIN}])\u25a1|\u25a1(?=[{_LATIN}])"),
)

_RULES = tuple((needed, re.compile(pattern, re.IGNORECASE)) for needed, pattern in _PATTERNS)
_REFERENCE = re.compile(r"&(?:amp;){0,3}(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|([A-Za-z][A-Za-z0-9]{1,31}));")


def residues(text: str) -> list[tuple[int, int]]:
    """Where a text holds such things: start and end of each, ascending, disjoint.

    HTML's character references are those of the standard ("&amp;", "&#8217;", also escaped twice: "&amp;nbsp;").
    """
    found = [span for needed, pattern in _RULES if needed in text for span in _spans(pattern, text)]
    if "&" in text:
        references = ((match.span(), match[1]) for match in _REFERENCE.finditer(text))
        found += [span for span, name in references if name is None or f"{name};" in html5]
    return _united(found if text.isascii() else [*found, *_misread(text)])


def mended(text: str) -> str | None:
    """A text, a few words at most, with what machines wrote for characters turned back into these.

    References ("caf&eacute;"), "\\u00e9", quoted-printable and "cafÃ©" are read, invisible characters are taken out.

    Returns:
        None where nothing is to be turned back, or where a tag, a template or a character that no text should hold is
        left.
    """
    new = text
    for _ in range(_ESCAPED_AT_MOST):
        new = _REFERENCE.sub(lambda match: html.unescape(match[0]), new)
    new = _CODE_POINT.sub(lambda match: chr(int(match[1], 16)), new)
    new = _QUOTED.sub(lambda match: bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace"), new)
    for pattern in _WITHIN_WORDS.values():
        new = pattern.sub("", new)
    if not new.isascii():
        new = _fix_encoding()(new)
    if new == text:
        return None
    new = new.replace("\u00a0", " ")
    return new if new.isprintable() and "\ufffd" not in new and not residues(new) else None


def _misread(text: str) -> list[tuple[int, int]]:
    """Where characters make no sense together and do once their bytes are read as UTF-8: "â€™" is "’", "Ã©" is "é".

    By ftfy (Speer 2019, https://doi.org/10.5281/zenodo.2591652), whose rules were made to leave right text alone.
    """
    suspects = _spans(_PERHAPS_MISREAD, text)
    if not suspects:
        return []
    from ftfy.badness import BADNESS_RE  # when it is needed first: 0.1 s

    fix, found = _fix_encoding(), []
    for start, end in suspects:
        around = text[max(start - 1, 0) : end + 1]
        if BADNESS_RE.search(around) and fix(text[start:end]) != text[start:end]:
            found.append((start, end))
    return found


@cache
def _fix_encoding() -> Callable[[str], str]:
    from ftfy import fix_encoding

    return cast(Callable[[str], str], fix_encoding)


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in pattern.finditer(text)]


def _united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that overlap as one."""
    united: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if united and start < united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united
