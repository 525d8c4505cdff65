"""What a user can choose about measuring and calibrating."""

from typing import Annotated

from pydantic import Field

from rtdscan.transforms.settings import EngineName, Precision, Section

Rate = Annotated[float, Field(gt=0.0, lt=1.0)]


class LabelledSettings(Section):
    """What is read."""

    text: str | None = Field(
        default=None,
        description="text column, `a.b` for a nested one; default: the only text column, or text/content/document",
    )
    documents: int | None = Field(
        default=None,
        ge=1,
        description="so many documents that are not blank, drawn at random from LABELLED; default: all",
    )


class MeasuringConfig(Section):
    """What is read, and how the network runs on it."""

    input: LabelledSettings = LabelledSettings()
    engine: EngineName = Field(default="auto", description="what runs the network")
    precision: Precision = Field(default="auto", description="number format of the network's arithmetic")
    window: int | None = Field(default=None, ge=8, description="tokens of a window; default: the bundle's")
    batch_tokens: int = Field(
        default=4096, ge=64, description="tokens of a batch at most, for each thread, padding included"
    )
    threads: int | None = Field(default=None, ge=1, description="threads of the network; default: one for each core")


class EvaluateConfig(MeasuringConfig):
    """All options of `rtdscan evaluate`."""

    draws: int = Field(default=200, ge=0, description="bootstrap draws for the 95 % intervals; 0: no intervals")
    dictionary: str = Field(
        default="en_US",
        description="Hunspell dictionary of the spelling checker: en_US, or a path without .aff and .dic",
    )


class CalibrateConfig(MeasuringConfig):
    """All options of `rtdscan calibrate`."""

    precisions: tuple[Rate, ...] = Field(
        default=(0.5, 0.8, 0.9, 0.95), description="precisions to find a threshold for"
    )
    ridge: float = Field(
        default=30.0, ge=0, allow_inf_nan=False, description="how strongly the readout is kept near the model's own"
    )
    folds: int = Field(default=5, ge=2, description="parts of the cross-validation, by documents")


class LexiconConfig(Section):
    """All options of `rtdscan lexicon`."""

    text: str | None = Field(
        default=None,
        description="text column, `a.b` for a nested one; default: the only text column, or text/content/document",
    )
    words: int = Field(default=60_000, ge=1, description="words to list at most, the most frequent")
    least: int = Field(default=5, ge=1, description="documents that must hold a word")
    memory_words: int = Field(
        default=4_000_000, ge=1_000, description="words to count at once; when there are more, the rarest are forgotten"
    )
