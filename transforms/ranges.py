"""int8 ranges of a model, and whether int8 serves it: from the bundle, else found once a machine with packaged texts.

The texts are the demo corpus: English, clean and broken pages. Even ones make the ranges, odd ones are the trial.
What was found is kept in the user's cache by the digest of the model and of the texts.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rtdscan.transforms import storage
from rtdscan.transforms.bundle import RANGES_FILE, Bundle
from rtdscan.transforms.cgroups import usable_cores
from rtdscan.transforms.engines import Engine, load_engine
from rtdscan.transforms.engines.quantised import Ranges
from rtdscan.transforms.errors import EngineError, RtdscanError, UserError
from rtdscan.transforms.fetch import cache_directory
from rtdscan.transforms.forward import run_windows
from rtdscan.transforms.pieces import score_pieces
from rtdscan.transforms.settings import OutputSettings, ScoreSettings, Thresholds
from rtdscan.transforms.stored import PieceScores
from rtdscan.transforms.tokens import Piece, make_chunk

DEMO = Path(__file__).with_name("data") / "demo"

MOST_MOVED = 0.02
"""A word moves when its probability in int8 differs by more than this from that in float32."""

SHARE_MOVED = 0.001
"""Words of the trial that may move where `precision: auto` is to choose int8."""

PIECES_A_WORD = 2.0
"""Above, the packaged texts are not in the model's language, and tell nothing about it."""

RANGE_BYTES, TRIAL_BYTES = 96_000, 48_000
"""Text that ranges are found with, about 22,000 tokens, and text of the trial."""

METHOD = 1
"""Of finding ranges; another number, and what was cached counts no more."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What int8 does to the words of the packaged texts.

    Attributes:
        words: How many there are.
        moved: Share of them that move (MOST_MOVED).
        largest: By how much the word moves that moves most.
        pieces: Tokens a word.
    """

    words: int
    moved: float
    largest: float
    pieces: float

    @property
    def passed(self) -> bool:
        """Whether `auto` may choose int8."""
        return self.moved <= SHARE_MOVED and self.pieces <= PIECES_A_WORD

    def said(self) -> str:
        """For people."""
        if self.pieces > PIECES_A_WORD:
            return f"the packaged English texts can't try it: {self.pieces:.1f} tokens a word"
        said = f"{self.moved:.2%} of the words of the packaged texts move by more than {MOST_MOVED} against float32"
        return f"{said} ({SHARE_MOVED:.1%} may)"


def find_ranges(bundle: Bundle) -> Ranges:
    """The ranges of a model.

    Raises:
        UserError: The bundle holds those of another network.
    """
    file = bundle.path / RANGES_FILE
    if file.is_file():
        ranges = Ranges(file.read_bytes())
        if ranges.network != network_digest(bundle):
            raise UserError(
                f"{file}: belongs to other weights than those beside it; remove it (ranges are then found anew), or "
                "choose another `precision`"
            )
        return ranges
    kept = _kept(bundle, "safetensors")
    if kept.is_file():
        ranges = Ranges(kept.read_bytes())
        with suppress(EngineError):  # damaged: found anew
            ranges.inputs(bundle.config)
            return ranges
    ranges = measure_ranges(bundle, packaged_texts(0, RANGE_BYTES))
    _keep(kept, ranges.data)
    return ranges


def measure_ranges(bundle: Bundle, texts: Sequence[str]) -> Ranges:
    """Run the network in float32 on texts and watch the inputs of its linear layers.

    Args:
        bundle: The model.
        texts: Of the kind that will be scored; some ten thousand tokens.
    """
    from rtdscan.transforms.engines.meter import RangeMeter

    meter = RangeMeter(bundle, threads=usable_cores())
    pieces = [Piece(at, text) for at, text in enumerate(texts)]
    tokenizer, unknown = bundle.shared_tokenizer(), bundle.special.unk
    chunk = make_chunk(pieces, tokenizer=tokenizer, window=bundle.card.window, unknown=unknown)
    run_windows(chunk, engine=meter, special=bundle.special, tokens=1024)
    meter.close()
    return Ranges.of(meter.ranges(), network=network_digest(bundle))


def try_int8(bundle: Bundle) -> Trial:
    """Compare int8 with float32, word by word, on the packaged texts; or recall what came of it."""
    ranges = find_ranges(bundle)
    kept = _kept(bundle, f"{ranges.digest}.json")
    if kept.is_file():
        with suppress(ValueError, TypeError):  # damaged: found anew
            return Trial(**json.loads(kept.read_bytes()))
    texts, threads = packaged_texts(1, TRIAL_BYTES), usable_cores()
    exact = _scores(bundle, load_engine(bundle, engine="openvino", precision="float32", threads=threads), texts)
    quick = load_engine(bundle, engine="openvino", precision="int8", threads=threads, ranges=ranges)
    moved_W = np.abs(_probabilities(_scores(bundle, quick, texts)) - _probabilities(exact))
    words = int(exact.words_P.sum())
    trial = Trial(
        words=words,
        moved=float((moved_W > MOST_MOVED).mean()),
        largest=float(moved_W.max()),
        pieces=float(exact.tokens_P.sum() / words),
    )
    _keep(kept, json.dumps(asdict(trial)).encode())
    return trial


@lru_cache(maxsize=2)
def packaged_texts(rest: int, size: int) -> tuple[str, ...]:
    """Every second text of the demo corpus, from the even or the odd ones, evenly from all of it.

    Args:
        rest: 0 or 1.
        size: Bytes of UTF-8 at most, and no text more than a tenth of it.
    """
    texts = [
        text
        for file in sorted(DEMO.rglob("*.parquet"))
        for text in pq.read_table(file, columns=["text"])["text"].to_pylist()
        if text and text.strip() and len(text.encode()) <= size // 10
    ][rest::2]
    chosen, room = [], size
    for at in np.argsort(np.arange(len(texts)) * 0.6180339887 % 1).tolist():  # spread, and the same everywhere
        if len(texts[at].encode()) <= room:
            chosen.append(texts[at])
            room -= len(texts[at].encode())
    return tuple(chosen)


def network_digest(bundle: Bundle) -> str:
    """blake2b-128 hex digest of the weights."""
    with bundle.weights.open("rb") as file:
        digest = blake2b(digest_size=16)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _scores(bundle: Bundle, engine: Engine, texts: Sequence[str]) -> PieceScores:
    thresholds = Thresholds().or_else(bundle.card.thresholds.model_dump())
    settings = ScoreSettings(thresholds=thresholds, output=OutputSettings(words=True))
    pieces = [Piece(at, text) for at, text in enumerate(texts)]
    scores = score_pieces(pieces, bundle=bundle, engine=engine, lexicon=bundle.lexicon(), settings=settings)
    engine.close()
    return scores


def _probabilities(scores: PieceScores) -> NDArray[np.float32]:
    if scores.words is None:
        raise ValueError("scores without words")
    return scores.words.score


def _kept(bundle: Bundle, suffix: str) -> Path:
    parts: list[Any] = [METHOD, bundle.digest, RANGE_BYTES, TRIAL_BYTES, *packaged_texts(0, RANGE_BYTES)]
    key = blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
    return cache_directory() / "int8" / f"{key}.{suffix}"


def _keep(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; where that can't be done it is found anew each time."""
    with suppress(RtdscanError):
        storage.put_bytes(str(path), data)
