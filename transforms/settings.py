"""What a user can choose about scoring: one typed tree, from which --help, the README's reference and errors come."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]

EngineName = Literal["auto", "openvino", "torch"]
Precision = Literal["auto", "int8", "bfloat16", "float32"]
Decision = Literal["keep", "review", "drop"]
Ignorable = Literal["url", "email", "number", "code"]


class Section(BaseModel):
    """A group of options. Frozen; an unknown key is an error; every field carries its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Thresholds(Section):
    """When a word is a candidate or flagged, and when a document is reviewed or dropped. Probabilities."""

    floor: Share | None = Field(
        None, description="words at or above this are stored as candidates; default: the bundle's"
    )
    flag: Share | None = Field(None, description="words at or above this are flagged; default: the bundle's")
    review: Share | None = Field(
        None, description="documents whose score is at or above this are `review`; default: the bundle's"
    )
    drop: Share | None = Field(
        None, description="documents whose score is at or above this are `drop`; default: the bundle's"
    )
    not_ok: Decision = Field("review", description="decision for rows without a score (empty, null, invalid, failed)")


class OutputSettings(Section):
    """What an attribute row holds besides the fixed columns."""

    words: bool = Field(False, description="add `words`: every word with its offsets and probability")
    tokens: bool = Field(False, description="add `tokens`: every token with its offsets and probability")
    columns: tuple[str, ...] = Field((), description="input columns to carry along")
    embedding: Literal["float16", "float32", "none"] = Field("float16", description="type of the document embedding")


class Limits(Section):
    """Bounds that keep one document from taking a worker with it."""

    document_tokens: int = Field(
        50_000_000, ge=1, description="tokens of a document past this are not scored; its status is `truncated`"
    )


class ScoreSettings(Section):
    """All that a Scorer needs besides texts."""

    model: str = Field("default", description="bundle or ELECTRA directory, hub name@revision, s3:// or gs:// URL")
    engine: EngineName = Field("auto", description="what runs the network")
    precision: Precision = Field("auto", description="number format of the network's arithmetic")
    window: int | None = Field(
        None, ge=8, description="tokens of a window, special tokens included; default: the bundle's, else 128"
    )
    batch_tokens: int = Field(4096, ge=64, description="tokens of a batch at most, padding included")
    threads: int = Field(1, ge=1, description="threads of the network in each worker process")
    thresholds: Thresholds = Thresholds()
    ignore: tuple[Ignorable, ...] = Field(
        (), description="kinds of words that are never flagged; they stay in `candidates`; acts without a rescan"
    )
    allow: tuple[str, ...] = Field(
        (), description="words that are never flagged, case-insensitive, or one file with a word a line"
    )
    output: OutputSettings = OutputSettings()
    limits: Limits = Limits()
