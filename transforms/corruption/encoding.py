"""Text that went through the wrong codec, was escaped once too often, or lost its characters on the way."""

import html.entities
import re

import numpy as np

from rtdscan.transforms.corruption.edits import Corrupted, Edit, amount, apply, pick, words_of

CODECS = ("cp1252", "cp1252", "cp1252", "latin-1", "cp1251", "cp437", "mac_roman")
"""Codecs by which UTF-8 is taken for something else; the Western one of Windows leads by far."""

CURLY = {"'": "’", '"': "“”", "-": "–—"}
"""What a typesetter makes of ASCII marks; mojibake mostly shows there."""

CONTROLS = "\x00\x02\x07\x08\x0b\x0c\x1a\x1b\x7f\x85\x92\x93\x94\xad\u200b\u200e\ufeff"
LOST = ("\ufffd", "\ufffd", "\ufffd", "\ufffd\ufffd", "?", "??", "□")

_BEYOND = re.compile(r"[^\x00-\x7f\s]+|(?<=\w)['-](?=\w)|(?<!\w)[\"'](?=\w)|(?<=[\w.,])\"")
_SPECIAL = re.compile(r"[&<>\"]|[^\x00-\x7f\s\ud800-\udfff]|(?<=\w)'(?=\w)")
_SPACE = re.compile(r"(?<=\w) (?=\w)")
_LOSABLE = re.compile(r"[^\x00-\x7f\s]|(?<=\w)['\"-]")


def mojibake(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """UTF-8 read as another encoding: "cafÃ©", "donâ€™t", "wordÂ\\xa0". Once in a while twice."""
    wanted = amount(rng, rate * len(words_of(text)))
    if not wanted:
        return Corrupted(text)
    codec = pick(rng, CODECS)
    twice = rng.random() < 0.1
    edits = [
        Edit(start, end, _misread(_typeset(text[start:end], rng), codec, twice), "mojibake")
        for start, end in _drawn(rng, _BEYOND, text, wanted)
    ]
    # A hard space ("Â" before it) is what is left where there is neither accent nor quotation mark.
    places = _drawn(rng, _SPACE, text, wanted - len(edits))
    return apply(
        text, [*edits, *(Edit(start, end, _misread("\xa0", codec, twice), "mojibake") for start, end in places)]
    )


def entities(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """HTML entities left in: "&amp;", "&#39;", "&eacute;", "&nbsp;"; sometimes escaped twice."""
    wanted = amount(rng, rate * len(words_of(text)))
    if not wanted:
        return Corrupted(text)
    style, twice = rng.random(), rng.random() < 0.2
    edits = [
        Edit(start, end, _escaped(text[start:end], style, twice), "entities")
        for start, end in _drawn(rng, _SPECIAL, text, wanted)
    ]
    left = _drawn(rng, _SPACE, text, wanted - len(edits))
    return apply(text, [*edits, *(Edit(start, end, _escaped("\xa0", style, twice), "entities") for start, end in left)])


def replacement(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Characters lost (U+FFFD, question marks, boxes) and control characters that came in."""
    words = words_of(text)
    wanted = amount(rng, rate * len(words))
    if not wanted:
        return Corrupted(text)
    lost = pick(rng, LOST)
    control = rng.random() < 0.3
    edits = [] if control else [Edit(a, b, lost, "replacement") for a, b in _drawn(rng, _LOSABLE, text, wanted)]
    for index in rng.permutation(len(words))[: wanted - len(edits)].tolist():
        start, end = words[index]
        at = start + int(rng.random() * (end - start))
        if control:
            at = max(at, min(start + 1, end))  # inside the word, where there is an inside
            edits.append(Edit(at, at, pick(rng, CONTROLS), "replacement"))
        else:
            edits.append(Edit(at, at + 1, lost, "replacement"))
    return apply(text, edits)


def _drawn(rng: np.random.Generator, pattern: re.Pattern[str], text: str, count: int) -> list[tuple[int, int]]:
    """`count` places where the pattern is found, or as many as there are; drawn by chance."""
    if count <= 0:
        return []
    places = [match.span() for match in pattern.finditer(text)]
    if len(places) <= count:
        return places
    return [places[index] for index in rng.permutation(len(places))[:count].tolist()]


def _typeset(old: str, rng: np.random.Generator) -> str:
    return pick(rng, CURLY[old]) if old in CURLY else old


def _misread(old: str, codec: str, twice: bool) -> str:
    for _ in range(1 + twice):
        data = old.encode("utf-8", "surrogatepass")
        try:
            old = data.decode(codec)
        except UnicodeDecodeError:  # five bytes mean nothing in cp1252, and browsers read them so
            old = data.decode("latin-1")
    return old


def _escaped(old: str, style: float, twice: bool) -> str:
    name = html.entities.codepoint2name.get(ord(old))
    number = f"&#{ord(old)};" if style < 0.85 else f"&#x{ord(old):x};"
    entity = f"&{name};" if name and style < 0.6 else number
    return entity.replace("&", "&amp;") if twice else entity
