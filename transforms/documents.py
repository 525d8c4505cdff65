"""A document as the scorer sees it: its bytes, whether they can be scored, and the pieces they are tokenised in."""

from collections.abc import Iterator
from dataclasses import dataclass

from rtdscan.transforms.records import Status
from rtdscan.transforms.tokens import Piece
from rtdscan.transforms.windows import split_pieces

PIECE_BYTES = 1 << 20
"""Longer documents are cut into pieces of about this (tokenising 10 MB at once takes 1.4 GB)."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text.

    Attributes:
        data: Its bytes; UTF-8 where status is `ok`.
        status: `ok` where it can be scored.
        reason: Why it can't; None where it can.
        n_chars: Unicode code points; 0 where the bytes are no text.
    """

    data: memoryview
    status: Status
    reason: str | None = None
    n_chars: int = 0

    @property
    def long(self) -> bool:
        """Whether it is tokenised in several pieces."""
        return len(self.data) > PIECE_BYTES

    def text(self) -> str:
        """The characters."""
        return str(self.data, "utf-8")

    def pieces(self, number: int) -> Iterator[Piece]:
        """The document as pieces, decoded one at a time."""
        first = 0
        for start, end in split_pieces(self.data, size=PIECE_BYTES):
            text = str(self.data[start:end], "utf-8")
            yield Piece(number, text, first)
            first += len(text)


def read_document(data: memoryview) -> Document:
    """Look at a document's bytes: are they UTF-8, is there anything but white space?"""
    n_chars, blank = 0, True
    try:
        for start, end in split_pieces(data, size=PIECE_BYTES):
            text = str(data[start:end], "utf-8")
            n_chars += len(text)
            blank = blank and not text.strip()
    except UnicodeDecodeError as error:
        byte = f"0x{error.object[error.start]:02x}"
        return Document(data, "invalid", f"byte {byte} at offset {start + error.start} is not valid UTF-8")
    if blank:
        return Document(data, "empty", "no text" if not n_chars else "nothing but white space", n_chars)
    return Document(data, "ok", None, n_chars)


def failed_document(data: memoryview, reason: str) -> Document:
    """A document that is not to be tried."""
    return Document(data, "failed", reason, len(str(data, "utf-8", "replace")))


NULL = Document(memoryview(b""), "null", "the text is null")
