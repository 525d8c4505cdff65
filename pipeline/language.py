"""Whether a text may be in another language than its model's.

A vocabulary with the letters of a language has pieces for all of its words; a lexicon has not. Of English .94 (an
encyclopedia) to .998 of the words are in the bundled one, of French .65, of German .46, of Russian .13, of Chinese .01.
"""

from rtdscan.transforms.tally import Tally

UNKNOWN = 0.1
"""Share of tokens outside the model's vocabulary from which on there is doubt."""

LISTED = 0.85
"""Share of words in the model's lexicon below which there is doubt."""

LEAST_WORDS = 200
"""Words that the second share takes."""


def doubt(*, tokens: int, unknown: int, spelled: int, listed: int) -> str | None:
    """A sentence where the text may be in another language; None where nothing speaks for it.

    Args:
        tokens, unknown: Tokens, and those outside the vocabulary.
        spelled, listed: Words with letters and no digit, and those in the lexicon; 0 where the model has none.
    """
    reasons = []
    if unknown and unknown / tokens >= UNKNOWN:
        reasons.append(f"{unknown / tokens:.0%} of tokens are outside the model's vocabulary")
    if spelled >= LEAST_WORDS and listed / spelled < LISTED:
        reasons.append(f"only {listed / spelled:.0%} of words are in the model's lexicon")
    if not reasons:
        return None
    return (
        f"{', and '.join(reasons)}: is the text in the model's language? If not, scores and flags mean little: take a "
        'model of that language (README, "Train one"); if so, give the model a lexicon of such text (`rtdscan lexicon`)'
    )


def doubt_of(tally: Tally) -> str | None:
    """The same of a scan."""
    return doubt(tokens=tally.tokens, unknown=tally.unknown, spelled=tally.spelled, listed=tally.listed)
