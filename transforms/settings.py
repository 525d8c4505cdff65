"""What a user can choose about scoring and about corrupting: typed trees, from which --help, the README's reference and
errors come."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rtdscan.transforms.errors import UserError

Share = Annotated[float, Field(ge=0.0, le=1.0)]

EngineName = Literal["auto", "openvino", "torch"]
Precision = Literal["auto", "int8", "bfloat16", "float32"]
Device = Literal["auto", "cpu", "cuda"]
Decision = Literal["keep", "review", "drop"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
Ignorable = Literal["url", "email", "number", "code"]


class Section(BaseModel):
    """A group of options. Frozen; an unknown key is an error; every field carries its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Thresholds(Section):
    """When a word is a candidate or flagged, and when a document is reviewed or dropped. Probabilities.

    Of a pair that is given, floor is at most flag, and review at most drop.
    """

    floor: Share | None = Field(
        default=None,
        description="words at or above this are stored as candidates; default: the bundle's, at most `flag`",
    )
    flag: Share | None = Field(default=None, description="words at or above this are flagged; default: the bundle's")
    review: Share | None = Field(
        default=None,
        description="documents scored this or more, ignored and allowed words apart, are `review`;"
        " default: the bundle's, at most `drop`",
    )
    drop: Share | None = Field(
        default=None,
        description="documents scored this or more, ignored and allowed words apart, are `drop`;"
        " default: the bundle's, at least `review`",
    )
    not_ok: Decision = Field(
        default="review", description="decision for rows without a score (empty, null, invalid, failed)"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Thresholds":
        for low, high in (("floor", "flag"), ("review", "drop")):
            below, above = getattr(self, low), getattr(self, high)
            if below is not None and above is not None and below > above:
                raise PydanticCustomError(
                    "rtdscan",
                    "thresholds.{low} is {below}; expected at most thresholds.{high}, which is {above}",
                    {"key": ("thresholds", low), "low": low, "below": below, "high": high, "above": above},
                )
        return self

    def or_else(self, own: Mapping[str, float]) -> "Thresholds":
        """These, and where one is not given the model's own; of a pair the one that is given moves the other along.

        Args:
            own: The model's floor, flag, review and drop.

        Returns:
            Thresholds, all given: floor <= flag and review <= drop.

        Raises:
            UserError: The lower one of a pair is given alone, above the model's other: who wants to flag fewer words
                means `flag`, and what he means by `floor` can't be told.
        """
        told = {**own, **self.model_dump(exclude_none=True)}
        if self.floor is None:
            told["floor"] = min(told["floor"], told["flag"])
        if told["floor"] > told["flag"]:
            raise UserError(
                f"thresholds.floor is {self.floor}; expected at most thresholds.flag, which is {told['flag']}, the "
                "model's: words below the floor are not kept, so give the flag too"
            )
        if self.review is None:
            told["review"] = min(told["review"], told["drop"])
        if self.drop is None:
            told["drop"] = max(told["review"], told["drop"])
        return Thresholds(**told)


class OutputSettings(Section):
    """What an attribute row holds besides the fixed columns."""

    words: bool = Field(default=False, description="add `words`: every word with its offsets and probability")
    tokens: bool = Field(default=False, description="add `tokens`: every token with its offsets and probability")
    columns: tuple[str, ...] = Field(default=(), description="input columns to carry along")
    embedding: Literal["float16", "float32", "none"] = Field(
        default="float16", description="type of the document embedding"
    )


class Limits(Section):
    """Bounds that keep one document from taking a worker with it."""

    document_tokens: int = Field(
        default=50_000_000, ge=1, description="tokens of a document past this are not scored; its status is `truncated`"
    )


class SuggestSettings(Section):
    """What may have been meant where words are flagged; from words of the bundle's lexicon that are near in letters."""

    top_k: int = Field(default=3, ge=0, description="suggestions of a span at most; 0: none are made")
    in_context: bool = Field(
        default=False,
        description="both networks read the best in their place: better; at 0.7% flagged words as dear as the scan",
    )
    least: Share = Field(default=0.02, description="probability below which nothing is suggested")

    @property
    def reads(self) -> bool:
        """Whether candidates are read in their context."""
        return self.top_k > 0 and self.in_context


class ScoreSettings(Section):
    """All that a Scorer needs besides texts."""

    model: str = Field(
        default="default", description="bundle or ELECTRA directory, hub name@revision, s3:// or gs:// URL"
    )
    engine: EngineName = Field(default="auto", description="what runs the network")
    precision: Precision = Field(default="auto", description="number format of the network's arithmetic")
    device: Device = Field(
        default="auto", description="where torch runs the network; auto: cuda where there is a CUDA device, else cpu"
    )
    window: int | None = Field(
        default=None, ge=8, description="tokens of a window, special tokens included; default: the bundle's, else 128"
    )
    batch_tokens: int = Field(
        default=4096, ge=64, description="tokens of a batch at most, for each thread, padding included"
    )
    threads: int = Field(
        default=1,
        ge=1,
        description="threads of the network in a worker; with workers: auto more where few units leave cores idle",
    )
    thresholds: Thresholds = Thresholds()
    ignore: tuple[Ignorable, ...] = Field(
        default=(),
        description="kinds of words that are never flagged nor decide; they stay in `candidates` and `score`;"
        " acts without a rescan",
    )
    allow: tuple[str, ...] = Field(
        default=(),
        description="words never flagged, case-insensitive; in a config file or --set also a file, a word a line",
    )
    suggest: SuggestSettings = SuggestSettings()
    output: OutputSettings = OutputSettings()
    limits: Limits = Limits()


GENERATOR = "generator"
"""The kind of error that a generator model makes; only where one is at hand."""

DEFAULT_KINDS: dict[str, float] = {
    "spelling": 4, "keyboard": 2, "phonetic": 2, "letters": 3,
    "agreement": 2, "article": 2, "preposition": 2, "tense": 2, "confusable": 2, "apostrophe": 1, "punctuation": 1,
    "wrong_word": 3, "real_word": 2, "synonym": 2, "repeated": 1, "swapped": 1, "missing": 1, "split": 1, "joined": 1,
    "shuffled": 0.5, "foreign": 0.3, "gibberish": 0.3, "boilerplate": 0.7,
    "ocr_light": 1.5, "ocr_medium": 1.5, "ocr_heavy": 1,
    "mojibake": 0.7, "entities": 0.5, "replacement": 0.5, "markup": 0.7,
}  # fmt: skip
"""All kinds of errors that transforms/corruption makes, with the shares by which they are drawn.

Weighted to what people do; a third is machines' damage."""


class MixtureSettings(Section):
    """How texts are corrupted for training and measuring."""

    kinds: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default=DEFAULT_KINDS,
        description=f"weight of each kind of error; kinds: {', '.join(DEFAULT_KINDS)}, {GENERATOR}",
    )
    clean: Share = Field(default=0.1, description="share of texts that are left as they are")
    most: int = Field(default=3, ge=1, description="kinds of errors in one text at most")
    rate: tuple[Share, Share] = Field(
        default=(0.005, 0.1),
        description="share of a text's words that goes wrong: drawn between these, evenly by logarithm",
    )
    sentence_rate: tuple[Share, Share] = Field(
        default=(0.05, 0.4),
        description="the same for kinds that act on sentences (shuffled, foreign, gibberish, boilerplate)",
    )

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: dict[str, float]) -> dict[str, float]:
        unknown = [kind for kind in kinds if kind not in DEFAULT_KINDS and kind != GENERATOR]
        if unknown:
            raise ValueError(
                f"no such kind of error: {', '.join(unknown)}; there are {', '.join(DEFAULT_KINDS)}, {GENERATOR}"
            )
        if endless := [kind for kind, weight in kinds.items() if weight == float("inf")]:
            raise ValueError(f"the weight of {', '.join(endless)} has no end; expected a finite number")
        if not any(kinds.values()):
            raise ValueError("at least one kind needs a weight above 0")
        return kinds

    @model_validator(mode="after")
    def _ranges(self) -> "MixtureSettings":
        for name in ("rate", "sentence_rate"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: {low} to {high} is no range above 0")
        return self
