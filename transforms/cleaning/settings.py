"""What a user can choose about cleaning: a typed tree, from which --help, the README's reference and errors come."""

from typing import Any, Literal

from pydantic import Field, field_validator

from rtdscan.transforms.settings import DECISIONS, Decision, Section, Share

SpanAction = Literal["none", "mask", "remove"]
PersonalKind = Literal["email", "phone", "ssn", "iban", "card", "cn_id"]


class DuplicateSettings(Section):
    """Which documents are rejected because an earlier one says the same."""

    exact: bool = Field(
        default=False, description="reject documents whose text is equal, to the byte, to an earlier kept one"
    )
    near: Share | None = Field(
        default=None,
        description="reject documents whose embedding has at least this cosine with that of an earlier kept one",
    )
    overlap: Share = Field(
        default=0.5,
        description="and at least this share of word triples in common (Jaccard, by MinHash); 0: cosine alone",
    )
    center: bool = Field(
        default=True, description="subtract the corpus' mean embedding before cosines are taken (from 100 documents on)"
    )
    limit: int = Field(
        default=200_000,
        ge=1,
        description="documents among which near duplicates may be looked for; time grows with the square",
    )

    @property
    def sketches(self) -> bool:
        """Whether word triples are compared."""
        return self.near is not None and self.overlap > 0


class SpanSettings(Section):
    """What is done with flagged spans in kept documents."""

    action: SpanAction = Field(default="none", description="what is done with flagged spans in kept documents")
    above: Share = Field(default=0.0, description="only with spans whose score is at or above this")
    mask: str = Field(default="[MASK]", description="what stands for a masked span")
    replace: bool = Field(default=False, description="write the top suggestion instead, where a span has one")
    replace_above: Share = Field(default=0.9, description="only in spans whose score is at or above this")
    replace_sure: Share = Field(default=0.8, description="only by suggestions whose probability is at or above this")


class PersonalSettings(Section):
    """Personal data that are masked in kept documents."""

    kinds: tuple[PersonalKind, ...] = Field(
        default=(), description="personal data that are masked in kept documents; phone needs the extra `phones`"
    )
    mask: str = Field(
        default="[{kind}]", description="what stands for them; {kind} is EMAIL, PHONE, SSN, IBAN, CARD or CN_ID"
    )
    phone_region: str | None = Field(
        default=None, description="country of phone numbers without +, such as US; default: only those with + are found"
    )

    @field_validator("phone_region")
    @classmethod
    def _region(cls, region: str | None) -> str | None:
        if region is not None and not (len(region) == 2 and region.isascii() and region.isalpha() and region.isupper()):
            raise ValueError(
                f"personal.phone_region is {region!r}; expected a country in two capitals (ISO 3166), such as US"
            )
        return region


class ChangeSettings(Section):
    """What is listed of each change."""

    text: bool = Field(
        default=True, description="changes/ quotes what stood there and replacements; false: places and kinds only"
    )


class CleanSettings(Section):
    """All that decides what is kept, rejected and changed."""

    keep: str | tuple[Decision, ...] = Field(
        default=("keep", "review"), description="decisions whose rows are kept, or an expression on attribute columns"
    )
    duplicates: DuplicateSettings = DuplicateSettings()
    spans: SpanSettings = SpanSettings()
    personal: PersonalSettings = PersonalSettings()
    changes: ChangeSettings = ChangeSettings()

    @field_validator("keep", mode="before")
    @classmethod
    def _decisions(cls, keep: Any) -> Any:
        """`keep` or `keep, review`, as text, are decisions too."""
        words = tuple(word.strip() for word in keep.split(",")) if isinstance(keep, str) else ()
        return words if words and set(words) <= set(DECISIONS) else keep

    @property
    def edits(self) -> bool:
        """Whether texts are changed at all."""
        return self.spans.action != "none" or self.spans.replace or bool(self.personal.kinds)

    @property
    def marks(self) -> bool:
        """Whether duplicates are looked for."""
        return self.duplicates.exact or self.duplicates.near is not None
