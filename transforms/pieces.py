"""Pieces of texts -> their scores: tokens, windows, the network, the readout."""

from collections.abc import Sequence

from rtdscan.transforms.bundle import Bundle
from rtdscan.transforms.engines import Engine
from rtdscan.transforms.forward import Known, run_windows
from rtdscan.transforms.lexicon import LEXICAL, LOOKED_UP, Lexicon, piece_features
from rtdscan.transforms.pace import OnTokens
from rtdscan.transforms.settings import ScoreSettings
from rtdscan.transforms.stored import PieceScores, piece_scores
from rtdscan.transforms.tokens import Piece, make_chunk
from rtdscan.transforms.words import codepoints


def score_pieces(
    pieces: Sequence[Piece],
    *,
    bundle: Bundle,
    engine: Engine,
    lexicon: Lexicon | None,
    settings: ScoreSettings,
    known: Known | None = None,
    on_tokens: OnTokens | None = None,
) -> PieceScores:
    """Score pieces; equal windows among them once.

    Args:
        pieces: The texts.
        bundle: The model.
        engine: What runs it.
        lexicon: The bundle's, where it has one.
        settings: Thresholds resolved.
        known: Windows that were scored before; these are added.
        on_tokens: Called now and then with the number of tokens scored since.
    """
    window = settings.window or bundle.card.window
    chunk = make_chunk(pieces, tokenizer=bundle.shared_tokenizer(), window=window, unknown=bundle.special.unk)
    forward = run_windows(
        chunk,
        engine=engine,
        special=bundle.special,
        tokens=settings.batch_tokens * settings.threads,
        known=known,
        on_tokens=on_tokens,
    )
    names = [name for name in bundle.card.readout.coefficients if name in LEXICAL]
    if lexicon is not None:
        names += [name for name in LOOKED_UP if name not in names]
    letters_WF = piece_features(
        names,
        codes_P=[codepoints(piece.text) for piece in pieces] if names else [],
        first_char_P=[piece.first_char for piece in pieces],
        words_P=chunk.words_P,
        start_W=chunk.start_W,
        end_W=chunk.end_W,
        lexicon=lexicon,
    )
    lexical = dict(zip(names, letters_WF.T, strict=True))
    return piece_scores(chunk, forward, card=bundle.card, settings=settings, lexical=lexical)
