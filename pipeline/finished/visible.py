"""Text that shows what it holds: control, bidirectional and invisible characters as signs with their names.

A page that quotes a hostile corpus must neither run it nor let it reorder, hide or overprint what stands beside it.
Markup is not this module's business: Jinja escapes it.
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

SIGNS = 40
"""Signs that a text is given at most; what comes after is replaced by U+FFFD. Bounds the page's size."""

MARKS = 4
"""Combining marks on one letter that are shown; more overprint the lines above."""

_NAMES = {
    0x7F: "DEL", 0x85: "NEL", 0xAD: "SHY", 0x61C: "ALM", 0x180E: "MVS", 0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ",
    0x200E: "LRM", 0x200F: "RLM", 0x2028: "LS", 0x2029: "PS", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF",
    0x202D: "LRO", 0x202E: "RLO", 0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
    0xFEFF: "BOM",
}  # fmt: skip
_CONTROLS = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
]  # fmt: skip
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0}
"""Letters and marks that are drawn as nothing."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of plain text, or a sign for what can't be shown.

    Attributes:
        text: What is drawn.
        title: The sign's explanation; empty for plain text.
    """

    text: str
    title: str = ""


@lru_cache(maxsize=10_000)
def pieces(text: str) -> tuple[Piece, ...]:
    """A text as pieces, in order."""
    found: list[Piece] = []
    plain: list[str] = []
    at, signs = 0, 0
    while at < len(text):
        end = _run(text, at)
        if end == at:
            plain.append(text[at])
            at += 1
            continue
        signs += 1
        if signs > SIGNS:
            plain.append("\ufffd")
        else:
            found += [Piece("".join(plain)), _sign(text, at, end)]
            plain = []
        at = end
    return tuple(piece for piece in (*found, Piece("".join(plain))) if piece.text)


def shortened(text: str, most: int) -> str:
    """A text of at most about `most` characters: its beginning, how many were left out, its end."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 4
    return f"{text[:head]}[… {len(text) - head - tail:,} characters …]{text[-tail:]}"


def suggested(word: str) -> str:
    """A suggestion to be read: a space, which "&nbsp;" stands for, as an open box."""
    return word if word.strip() else "␣"


def _run(text: str, at: int) -> int:
    """Where the sign that begins here ends; `at` itself where there is none. Repeated characters are one sign."""
    if text[at] == "\r" and text[at : at + 2] == "\r\n":
        return at + 2
    if _is_mark(text[at]):
        end = at
        while end < len(text) and _is_mark(text[end]):
            end += 1
        return end if end - at > MARKS else at
    if not _needs_sign(text, at):
        return at
    end = at + 1
    while end < len(text) and text[end] == text[at]:
        end += 1
    return end


def _sign(text: str, at: int, end: int) -> Piece:
    character, count = text[at], end - at
    if character in "\r\n":
        return Piece("↵", "line break" if count == 1 or text[at:end] == "\r\n" else f"{count} line breaks")
    if _is_mark(character) and ord(character) not in _INVISIBLE:
        return Piece(f"+{count} marks", f"{count} combining marks")
    code = ord(character)
    name = _CONTROLS[code] if code < 0x20 else _NAMES.get(code, f"U+{code:04X}")
    title = f"U+{code:04X} {unicodedata.name(character, 'control character')}"
    return Piece(name if count == 1 else f"{name}×{count:,}", title)


def _needs_sign(text: str, at: int) -> bool:
    character = text[at]
    if character == "\t" or unicodedata.category(character) == "Zs":
        return False
    if character in "\u200c\u200d":  # they belong to the spelling of many languages, and to emoji
        around = text[max(at - 1, 0) : at] + text[at + 1 : at + 2]
        return len(around) < 2 or any(c.isascii() or unicodedata.category(c) in ("Cc", "Cf") for c in around)
    return ord(character) in _INVISIBLE or unicodedata.category(character) in ("Cc", "Cf", "Cn", "Cs", "Zl", "Zp")


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me")
