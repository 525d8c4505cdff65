"""The model of the page: loaded once, used by one request at a time."""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from rtdscan.pipeline.page.settings import ReviewConfig
from rtdscan.transforms.cgroups import usable_cores
from rtdscan.transforms.errors import RtdscanError, UserError

if TYPE_CHECKING:
    from rtdscan.transforms.scorer import Scorer

MOST_CHARS = 20_000
"""Characters of a text that is tried: a page, not a corpus."""


@dataclass(frozen=True, slots=True)
class State:
    """What there is to say about the model.

    Attributes:
        state: idle, loading, ready, failed.
        name: What it is called, or what was asked for.
        digest, engine, precision, device: Once it is ready.
        flag: The threshold it flags words at.
        seconds: Time that loading took.
        notes: Warnings of the model; why it failed.
    """

    state: Literal["idle", "loading", "ready", "failed"]
    name: str
    digest: str = ""
    engine: str = ""
    precision: str = ""
    device: str = ""
    flag: float | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """A scored text.

    Attributes:
        text: The text.
        row: Its attributes, with `words` and `tokens`.
        flag: Threshold at which `spans` were made.
        seconds: Time it took.
    """

    text: str
    row: dict[str, Any]
    flag: float
    seconds: float


class Model:
    """A Scorer behind a lock."""

    def __init__(self, config: ReviewConfig) -> None:
        """Nothing is loaded yet."""
        self._config = config
        self._lock = threading.Lock()
        self._scorer: Scorer | None = None
        self.state = State("idle", config.model)

    def load(self) -> State:
        """Load it, if that has not been done; others wait. What went wrong is in the state."""
        with self._lock:
            if self._scorer is None:
                self._load()
        return self.state

    def _load(self) -> None:
        self.state = State("loading", self._config.model)
        began = time.monotonic()
        try:
            self._scorer = scorer = _scorer(self._config)
        except RtdscanError as error:
            self.state = State("failed", self._config.model, notes=(str(error),))
            return
        except Exception as error:  # a damaged model can raise anything; the page must say so and go on
            self.state = State("failed", self._config.model, notes=(f"{type(error).__name__}: {error}",))
            return
        self.state = State(
            "ready",
            scorer.bundle.name,
            digest=scorer.bundle.digest,
            engine=str(scorer.settings.engine),
            precision=str(scorer.settings.precision),
            device=str(getattr(scorer.engine, "device", "cpu")),
            flag=scorer.settings.thresholds.flag,
            seconds=time.monotonic() - began,
            notes=scorer.bundle.warnings,
        )

    def score(self, text: str, *, flag: float | None = None) -> Tried:
        """Score a text.

        Args:
            text: The text.
            flag: Threshold of its spans; default: the model's.

        Raises:
            UserError: It is empty or too long, or there is no model.
        """
        if not text.strip():
            raise UserError("There is no text to score: write or paste a sentence first.")
        if len(text) > MOST_CHARS:
            raise UserError(
                f"The text has {len(text):,} characters; this page scores up to {MOST_CHARS:,}. Use `rtdscan scan`."
            )
        state = self.load()
        with self._lock:
            if self._scorer is None:
                raise UserError(f"There is no model to score with: {'; '.join(state.notes)}")
            settings = self._scorer.settings
            flag = settings.thresholds.flag if flag is None else flag
            floor = min(settings.thresholds.floor or 0.0, flag or 0.0)
            thresholds = settings.thresholds.model_copy(update={"flag": flag, "floor": floor})
            scorer = self._scorer.with_settings(settings.model_copy(update={"thresholds": thresholds}))
            began = time.monotonic()
            # A form gives lone surrogates back where someone pasted half a character.
            text = text.encode("utf-8", "replace").decode("utf-8")
            row = scorer.score(pa.table({"text": pa.array([text], pa.large_string())})).to_pylist()[0]
        return Tried(text, row, float(flag or 0.0), time.monotonic() - began)


def _scorer(config: ReviewConfig) -> "Scorer":
    from rtdscan.transforms.scorer import Scorer
    from rtdscan.transforms.settings import OutputSettings, ScoreSettings, SuggestSettings

    settings = ScoreSettings(
        model=config.model,
        engine=config.engine,
        precision=config.precision,
        window=config.window,
        threads=config.threads or usable_cores(),
        suggest=SuggestSettings(top_k=5, in_context=True),
        output=OutputSettings(words=True, tokens=True, embedding="none"),
    )
    return Scorer.load(config.model, settings=settings)
