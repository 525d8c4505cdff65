"""What learners of English, and people in a hurry, get wrong between words that are each spelt right."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from rtdscan.transforms.corruption.edits import WORD, Corrupted, Edit, amount, apply, change_words, like, pick
from rtdscan.transforms.corruption.wordlist import FUNCTION_WORDS, NAME_CAPITAL, common, frequency

AGREEMENT = (
    "is are|was were|has have|does do|isn't aren't|wasn't weren't|hasn't haven't|doesn't don't|this these|much many|"
    "man men|woman women|child children|person people|its their|am is"
)
PREPOSITIONS = "in on at of for to by with from into about over under through between after before against"
CONFUSABLES = (
    "their there they're|its it's|your you're|to too|two too|then than|whose who's|lose loose|affect effect|"
    "accept except|were where we're|of off|quite quiet|passed past|weather whether|advice advise|principal principle|"
    "peace piece|here hear|new knew|no know|now know|by buy|right write|brake break|complement compliment|"
    "desert dessert|later latter|led lead|wich which|who whom|less fewer|amount number|lay lie|rise raise|site sight|"
    "role roll|plain plane|threw through|though through|though thought|breath breathe|cloths clothes|everyday daily|"
    "every ever|choose chose|aloud allowed|board bored|bare bear|cite site|council counsel|device devise|find fined|"
    "flour flower|forth fourth|hole whole|heal heel|hour our|knows nose|mail male|meat meet|one won|our are|"
    "pair pear|poor pour|practice practise|rain reign|sale sail|sea see|seen scene|sent scent|some sum|son sun|"
    "stair stare|stationary stationery|steal steel|tail tale|wait weight|waist waste|way weigh|weak week|wear where|"
    "would wood|cause because"
)
SLIPS = "as has|his is|and an|you your|the they|the then|on one|form from|an and|in an|or our|for four|than that"
"""Small words that slip in for one another. They are so many that they would crowd out the confusables: see _SLIP."""

IRREGULAR = (
    "go goes went gone going|be is was been|do does did done|have has had having|take takes took taken taking|"
    "make makes made making|come comes came coming|see sees saw seen seeing|get gets got gotten|"
    "give gives gave given giving|know knows knew known|think thinks thought|find finds found|"
    "write writes wrote written writing|begin began begun|become becomes became becoming|grow grows grew grown|"
    "show shows showed shown|run runs ran running|say says said saying|tell tells told|leave leaves left|"
    "keep keeps kept|hold holds held|bring brings brought|speak speaks spoke spoken|break breaks broke broken|"
    "choose chooses chose chosen|drive drives drove driven|eat eats ate eaten|fall falls fell fallen|"
    "fly flies flew flown|forget forgot forgotten|rise rises rose risen|sing sings sang sung|swim swam swum|"
    "throw threw thrown|wear wore worn|win wins won|draw draws drew drawn|lie lay lain|buy buys bought|"
    "build builds built|feel feels felt|fight fights fought|lead leads led|lose loses lost|meet meets met|"
    "pay pays paid|send sends sent|sit sits sat|stand stands stood|teach teaches taught|"
    "understand understands understood|spend spends spent|will would|can could|may might"
)
_SLIP = 0.2
"""Share of the slips that are taken when a word is drawn that could be one."""

_INSERTED = 0.35
"""Share of the article errors that put one where none was; the rest are exchanged or left out, half and half."""

_ARTICLE = re.compile(r"\b(?:[Aa]n?|[Tt]he)\b(?=\s+\w)")
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")


def _exchange(groups: str) -> Mapping[str, tuple[str, ...]]:
    """ "a b|c d e" -> each word with the others of its groups."""
    found: dict[str, list[str]] = {}
    for group in groups.split("|"):
        members = group.split()
        for member in members:
            found.setdefault(member, []).extend(other for other in members if other != member)
    return {word: tuple(dict.fromkeys(others)) for word, others in found.items()}


_AGREEMENT, _CONFUSABLES, _TENSES = _exchange(AGREEMENT), _exchange(CONFUSABLES), _exchange(IRREGULAR)
_PREPOSITIONS, _SLIPS = _exchange(PREPOSITIONS), _exchange(SLIPS)


def agreement(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Number and person: "they was", "a houses", "he walk"."""
    return change_words(text, rng, rate, kind="agreement", change=_disagreeing)


def article(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """The wrong article, one too few (its right neighbour is marked) or one too many."""
    wanted = amount(rng, rate * _words(text))
    edits: list[Edit] = []
    if wanted:
        there = [match.span() for match in _ARTICLE.finditer(text)]
        inserted = amount(rng, wanted * _INSERTED)
        edits = [
            _article(text, start, end, rng)
            for start, end in (there[at] for at in rng.permutation(len(there))[: wanted - inserted].tolist())
        ]
        edits += _inserted_articles(text, rng, wanted - len(edits) if there else 0)
    return apply(text, edits)


def preposition(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Another preposition: "depends of"."""
    return change_words(text, rng, rate, kind="preposition", change=lambda word, rng: _other(word, rng, _PREPOSITIONS))


def tense(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Another form of the verb: "has went", "he walking"."""
    return change_words(text, rng, rate, kind="tense", change=_retensed)


def confusable(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Words taken for one another: their/there/they're, its/it's, then/than."""
    return change_words(text, rng, rate, kind="confusable", change=_confused)


def apostrophe(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """One left out ("dont"), one too many ("two book's"), one in the wrong place ("do'nt")."""
    return change_words(text, rng, rate, kind="apostrophe", change=_misplaced)


def _words(text: str) -> int:
    return sum(1 for _ in WORD.finditer(text))


def _other(word: str, rng: np.random.Generator, groups: Mapping[str, tuple[str, ...]]) -> str | None:
    others = groups.get(word.lower().replace("’", "'"))
    return like(word, pick(rng, others)) if others else None


def _confused(word: str, rng: np.random.Generator) -> str | None:
    wrong = _other(word, rng, _CONFUSABLES)
    return wrong if wrong or rng.random() > _SLIP else _other(word, rng, _SLIPS)


def _disagreeing(word: str, rng: np.random.Generator) -> str | None:
    lower = word.lower()
    if lower in _AGREEMENT:
        return _other(word, rng, _AGREEMENT)
    if lower in FUNCTION_WORDS or not _plain(lower):
        return None
    return _first_common(word, _other_numbers(lower))


def _other_numbers(lower: str) -> Iterable[str]:
    """Plural for singular and singular for plural; the same endings serve verbs."""
    if lower.endswith("ies"):
        yield lower[:-3] + "y"
    if lower.endswith(("ses", "xes", "zes", "ches", "shes")):
        yield lower[:-2]
    if lower.endswith("s"):
        if not lower.endswith(("ss", "us", "is")):
            yield lower[:-1]
        return
    if lower.endswith("y"):
        yield lower[:-1] + "ies"
    yield lower + "es"
    yield lower + "s"


def _retensed(word: str, rng: np.random.Generator) -> str | None:
    lower = word.lower()
    if lower in _TENSES:
        return _other(word, rng, _TENSES)
    forms = _verb_forms(lower) if lower not in FUNCTION_WORDS and _plain(lower) else []
    return _first_common(word, (forms[at] for at in rng.permutation(len(forms)).tolist()))


def _verb_forms(lower: str) -> list[str]:
    """All forms of a regular verb, from the one in -ed or -ing; some may be no words. Empty for other words."""
    if lower.endswith("ied"):
        return [lower[:-3] + "y", lower[:-3] + "ies", lower[:-3] + "ying"]
    if not lower.endswith(("ed", "ing")):
        return []
    stem = lower[: -2 if lower.endswith("ed") else -3]
    bases = [stem, stem + "e"]
    if len(stem) > 3 and stem[-1] == stem[-2]:  # "stopp"
        bases.append(stem[:-1])
    base = next((base for base in bases if len(base) > 2 and _lowercase(base)), None)
    return [] if base is None else [base, base + "s", stem + "ing", stem + "ed"]


def _plain(lower: str) -> bool:
    """A word of the language, no name: its number and tense can be wrong."""
    return len(lower) > 2 and lower.isascii() and lower.isalpha() and _lowercase(lower)


def _lowercase(lower: str) -> bool:
    rank = frequency().rank.get(lower)
    return rank is not None and int(frequency().capital_W[rank]) < NAME_CAPITAL


def _first_common(word: str, forms: Iterable[str]) -> str | None:
    lower = word.lower()
    return next(
        (like(word, form) for form in forms if form != lower and common(form, 40_000) and _lowercase(form)), None
    )


def _article(text: str, start: int, end: int, rng: np.random.Generator) -> Edit:
    word = text[start:end]
    if rng.random() < 0.5:
        wrong = {"a": ("an", "the"), "an": ("a", "a", "the"), "the": ("a", "an")}[word.lower()]
        return Edit(start, end, like(word, pick(rng, wrong)), "article")
    after = end
    while text[after].isspace():
        after += 1
    if word[0].isupper():  # the sentence still begins with a capital
        return Edit(start, after + 1, text[after].upper(), "article")
    return Edit(start, after, "", "article")


def _inserted_articles(text: str, rng: np.random.Generator, count: int) -> list[Edit]:
    """Articles before words in lower case that no article, and no other word of that kind, precedes."""
    edits: list[Edit] = []
    for _ in range(4 * count):
        match = WORD.search(text, int(rng.random() * len(text)))
        match = match and WORD.search(text, match.end())
        if not match or len(edits) == count:
            break
        word = match[0]
        if text[match.start() - 1] == " " and word not in FUNCTION_WORDS and word.islower() and _plain(word):
            before = text[max(match.start() - 9, 0) : match.start() - 1].rpartition(" ")[2].lower()
            if before not in ("a", "an", "the", "and", "or"):
                edits.append(Edit(match.start(), match.start(), pick(rng, ("the ", "the ", "a ", "an ")), "article"))
    return edits


def _misplaced(word: str, rng: np.random.Generator) -> str | None:
    match = _APOSTROPHE.search(word)
    if match:
        at = match.start()
        if rng.random() < 0.8 or at < 2:
            return word[:at] + word[at + 1 :]
        return word[: at - 1] + match[0] + word[at - 1] + word[at + 1 :]
    # "book's" for "books" is rarer than "dont": most words end in no s, so this has to be held back.
    if word.endswith("s") and len(word) > 3 and word[-2] not in "siu" and _plain(word) and rng.random() < 0.3:
        return word[:-1] + "'s"
    return None
