"""Texts -> all evidence about every word: the network runs once, everything after is arithmetic on arrays.

Words and logits are the scorer's own: the same pieces, windows and batches as in a scan.

Shapes: W words of all texts, F features, D documents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.language import doubt
from rtdscan.transforms.bundle import NETWORK, BundleCard
from rtdscan.transforms.documents import read_document
from rtdscan.transforms.forward import run_windows
from rtdscan.transforms.lexicon import LEXICAL, LISTED, Lexicon, piece_features
from rtdscan.transforms.readout import (
    DAMAGE_PROBABILITY,
    DEFAULT_COEFFICIENTS,
    INVISIBLE_PROBABILITY,
    sigmoid,
    text_levels,
    word_features,
)
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.tokens import Piece, make_chunk
from rtdscan.transforms.words import codepoints

CHUNK_CHARS = 1 << 19

OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about each word.

    Attributes:
        names: Features.
        document_W: Number of its text, ascending.
        start_W, end_W: Character offsets in the text, end exclusive.
        feature_WF: In the order of `names`.
        seen_W: Words that have a piece.
        damaged_W: Words that hold damage: their probability is fixed.
        tokens, unknown: Tokens of the texts, and those of them that are outside the vocabulary.
    """

    names: tuple[str, ...]
    document_W: NDArray[np.int64]
    start_W: NDArray[np.int64]
    end_W: NDArray[np.int64]
    feature_WF: NDArray[np.float32]
    seen_W: NDArray[np.bool_]
    damaged_W: NDArray[np.bool_]
    tokens: int = 0
    unknown: int = 0

    @property
    def doubt(self) -> str | None:
        """See `language.doubt`."""
        spelled = listed = 0
        if "unlisted" in self.names:
            spelled_W = (self.column("digit") == 0) & (self.column("mark") == 0)
            spelled, listed = int(spelled_W.sum()), int((spelled_W & (self.column("unlisted") == 0)).sum())
        return doubt(tokens=self.tokens, unknown=self.unknown, spelled=spelled, listed=listed)

    def __len__(self) -> int:
        """Number of words."""
        return len(self.document_W)

    def column(self, name: str) -> NDArray[np.float64]:
        """One feature."""
        return self.feature_WF[:, self.names.index(name)].astype(np.float64)

    def logit(self, coefficients: dict[str, float], intercept: float) -> NDArray[np.float64]:
        """The readout's logit of each word, before calibration."""
        z_W = np.full(len(self), intercept)
        for name, weight in coefficients.items():
            z_W += self.column(name) * weight
        return z_W

    def probability(self, card: BundleCard) -> NDArray[np.float64]:
        """As the scan gives it with this card."""
        readout, calibration = card.readout, card.calibration
        z_W = self.logit(readout.coefficients or DEFAULT_COEFFICIENTS, readout.intercept)
        return self.settled(sigmoid(calibration.slope * z_W + calibration.intercept))

    def settled(self, p_W: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities with those put in that the readout does not decide."""
        p_W = np.where(self.seen_W, p_W, INVISIBLE_PROBABILITY)
        return np.where(self.damaged_W, DAMAGE_PROBABILITY, p_W)

    def words(self, texts: Sequence[str]) -> list[str]:
        """The words as strings."""
        rows = zip(self.document_W.tolist(), self.start_W.tolist(), self.end_W.tolist(), strict=True)
        return [texts[document][start:end] for document, start, end in rows]


def gather(
    scorer: Scorer, texts: Sequence[str], *, lexicon: Lexicon | None, on_progress: OnProgress | None = None
) -> Evidence:
    """Run the network on texts and collect evidence.

    Args:
        scorer: The model; its readout and thresholds play no part.
        texts: D texts.
        lexicon: For the features that need one; they are left out without.
        on_progress: Called with the number of texts done.
    """
    lexical = tuple(name for name in LEXICAL if lexicon is not None or name not in LISTED)
    parts: list[Evidence] = []
    pieces: list[Piece] = []
    room = CHUNK_CHARS
    for at, text in enumerate(texts):
        document = read_document(memoryview(text.encode("utf-8", "replace")))
        if document.status == "ok":
            for piece in document.pieces(at):
                pieces.append(piece)
                room -= len(piece.text)
        if pieces and (room <= 0 or at == len(texts) - 1):
            parts.append(_of_pieces(scorer, pieces, lexicon=lexicon, lexical=lexical))
            pieces, room = [], CHUNK_CHARS
        if on_progress is not None and not pieces:
            on_progress(at + 1)
    return _joined(parts, names=(*NETWORK, *lexical))


def _of_pieces(
    scorer: Scorer, pieces: Sequence[Piece], *, lexicon: Lexicon | None, lexical: tuple[str, ...]
) -> Evidence:
    settings, special = scorer.settings, scorer.bundle.special
    window = settings.window or scorer.bundle.card.window
    chunk = make_chunk(pieces, tokenizer=scorer.bundle.shared_tokenizer(), window=window, unknown=special.unk)
    forward = run_windows(chunk, engine=scorer.engine, special=special, tokens=settings.batch_tokens * settings.threads)
    level_P = text_levels(forward.logit_N, pairs=chunk.pairs, words_T=chunk.words_P)
    network_WF, seen_W = word_features(
        NETWORK,
        logit_N=forward.logit_N,
        pairs=chunk.pairs,
        n_words=len(chunk.start_W),
        given={"level": np.repeat(level_P, chunk.words_P)},
    )
    letters_WF = piece_features(
        lexical,
        codes_P=[codepoints(piece.text) for piece in pieces],
        first_char_P=[piece.first_char for piece in pieces],
        words_P=chunk.words_P,
        start_W=chunk.start_W,
        end_W=chunk.end_W,
        lexicon=lexicon,
    )
    return Evidence(
        names=(*NETWORK, *lexical),
        document_W=np.repeat(chunk.document_P, chunk.words_P),
        start_W=chunk.start_W.astype(np.int64),
        end_W=chunk.end_W.astype(np.int64),
        feature_WF=np.concatenate([network_WF, letters_WF], axis=1).astype(np.float32),
        seen_W=seen_W,
        damaged_W=chunk.damaged_W,
        tokens=int(chunk.tokens_P.sum()),
        unknown=int(chunk.unknown_P.sum()),
    )


def _joined(parts: Sequence[Evidence], *, names: tuple[str, ...]) -> Evidence:
    if not parts:
        none, no = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        return Evidence(names, none, none, none, np.zeros((0, len(names)), dtype=np.float32), no, no)
    columns = ("document_W", "start_W", "end_W", "feature_WF", "seen_W", "damaged_W")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    tokens, unknown = (sum(getattr(part, name) for part in parts) for name in ("tokens", "unknown"))
    return Evidence(names, **joined, tokens=tokens, unknown=unknown)
