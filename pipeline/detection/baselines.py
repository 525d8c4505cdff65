"""What simple programs say of the same words: a spelling checker, and how rare a word is.

Both see a word without its context. The spelling checker is Hunspell, through chunspell (MIT; Hunspell: MPL 1.1, GPL
2.0 or LGPL 2.1; it bundles the en_US dictionary of SCOWL). Any other dictionary is a pair of files, *.aff and *.dic.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtdscan.pipeline.detection.evidence import Evidence
from rtdscan.transforms.corruption.wordlist import frequency
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.lexicon import Lexicon, lexical_features
from rtdscan.transforms.words import codepoints

SPELLING, RARITY = "Hunspell", "word rarity (English)"

ENGLISH = "en_US"
"""The dictionary that is bundled."""

FOREIGN = "left out, since they know English only, and the text may be in another language"

INSTALL = "the spelling checker was left out: chunspell is not installed (pip install 'rtdscan[evaluate]')"


@dataclass(frozen=True, slots=True)
class Baselines:
    """Scores of simple detectors.

    Attributes:
        scores: Name -> score_W, higher for words that look wrong.
        notes: What was left out, and why.
    """

    scores: dict[str, NDArray[np.float64]]
    notes: tuple[str, ...]


def baseline_scores(evidence: Evidence, texts: Sequence[str], *, dictionary: str) -> Baselines:
    """Ask the simple detectors.

    Args:
        evidence: The words.
        texts: Where they stand.
        dictionary: "en_US", or the path of a Hunspell dictionary without .aff and .dic.

    Returns:
        Without those that know English where the words may be of another language.
    """
    english = evidence.doubt is None
    ours = dictionary == ENGLISH
    spelling = f"{SPELLING} ({Path(dictionary).name})"
    notes = [] if english else [f"{FOREIGN}: {', '.join([spelling, RARITY] if ours else [RARITY])}"]
    # Not numpy's strings: an array of those gives every word the room of the longest.
    numbers: dict[str, int] = {}
    each = (numbers.setdefault(word, len(numbers)) for word in evidence.words(texts))
    which_W = np.fromiter(each, dtype=np.int64, count=len(evidence))
    unique = list(numbers)
    scores: dict[str, NDArray[np.float64]] = {}
    if (english or not ours) and has_hunspell():
        scores[spelling] = misspelled(unique, dictionary=dictionary)[which_W]
    elif english or not ours:
        notes.append(INSTALL)
    if english:
        scores[RARITY] = rarity(unique)[which_W]
    return Baselines(scores, tuple(notes))


def has_hunspell() -> bool:
    """Whether the spelling checker is installed."""
    return importlib.util.find_spec("hunspell") is not None


def misspelled(words: Sequence[str], *, dictionary: str) -> NDArray[np.float64]:
    """1 for words that are not in the dictionary, 0 for those that are, and for marks and numbers.

    Raises:
        UserError: There is no such dictionary.
    """
    import hunspell  # type: ignore[import-untyped]

    if dictionary == ENGLISH:
        checker = hunspell.Hunspell(ENGLISH)
    else:
        path = Path(dictionary)
        if not all(path.with_name(f"{path.name}{suffix}").is_file() for suffix in (".aff", ".dic")):
            raise UserError(f"dictionary {dictionary}: there are no files {path.name}.aff and {path.name}.dic")
        checker = hunspell.Hunspell(path.name, hunspell_data_dir=str(path.parent))
    return np.array([_is_wrong(checker, word) for word in words], dtype=np.float64)


def _is_wrong(checker: "object", word: str) -> bool:
    if not any(character.isalpha() for character in word):
        return False
    try:
        return not checker.spell(word.replace("’", "'"))  # type: ignore[attr-defined]
    except UnicodeEncodeError:  # a character that the dictionary's encoding does not have
        return True


def rarity(words: Sequence[str]) -> NDArray[np.float64]:
    """Surprise at a document that holds the word, by the reference list of English that ships; 0 for numbers, marks."""
    listed = frequency()
    lexicon = Lexicon.of(listed.words, listed.documents_W, total=listed.total)
    end_W = np.cumsum(np.fromiter(map(len, words), dtype=np.int64, count=len(words)))
    start_W = np.concatenate([[0], end_W[:-1]])
    codes_C = codepoints("".join(words))
    opening_W = np.ones(len(words), dtype=bool)
    return lexical_features(
        ("rarity",), codes_C=codes_C, start_W=start_W, end_W=end_W, opening_W=opening_W, lexicon=lexicon
    )[:, 0]
