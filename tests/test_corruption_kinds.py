"""Each family by hand: what becomes of a text is one of the results written here, and more than one of them occurs."""

import html
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtdscan.transforms.corruption import REGISTRY, Corrupted
from rtdscan.transforms.corruption.debris import LINES, boilerplate_line
from rtdscan.transforms.corruption.edits import words_of
from rtdscan.transforms.corruption.foreign import _sentence_spans
from rtdscan.transforms.corruption.spelling import ADJACENT
from rtdscan.transforms.corruption.wording import synonym
from rtdscan.transforms.corruption.wordlist import (
    FUNCTION_WORDS,
    band,
    common,
    frequency,
    known,
    misspellings,
    nearest,
    neighbours,
    part,
    peers,
    related,
    sentences,
)

PROSE = (
    "The government decided that separate accounts of the meeting should be written before the end of the year. "
    "Nobody believed that the new system would work without considerable knowledge of modern equipment. "
    "They walked through the garden and their children played near the old house until it was dark."
)


def outcomes(name: str, text: str, rate: float = 1.0, seeds: int = 120) -> set[str]:
    return {REGISTRY[name].corrupt(text, np.random.default_rng(seed), rate).text for seed in range(seeds)}


def results(name: str, text: str, rate: float, seeds: int = 20) -> list[Corrupted]:
    return [REGISTRY[name].corrupt(text, np.random.default_rng(seed), rate) for seed in range(seeds)]


def test_letters() -> None:
    # "lamp": a letter doubled, missing, or swapped with the next, never the first one; none that is a word.
    doubled, missing, swapped = {"llamp", "laamp", "lammp"}, {"lmp", "lap", "lam"}, {"lmap", "lapm"}
    expected = {wrong for wrong in doubled | missing | swapped if not known(wrong)}
    assert outcomes("letters", "lamp") - {"lamp"} == expected
    assert {"lmap", "lapm", "lammp"} <= expected
    assert not {"lap", "lmp"} & expected  # a word; and an abbreviation on the list


def test_keyboard() -> None:
    assert set(ADJACENT["g"]) == set("ftyhbv")
    assert set(ADJACENT["q"]) == set("wa")
    assert all(letter in ADJACENT[other] for letter, others in ADJACENT.items() for other in others)
    # "quilt": the replaced or added key lies next to one that was meant.
    for wrong in outcomes("keyboard", "quilt") - {"quilt"}:
        added = len(wrong) - 5
        at = next(
            i for i, letter in enumerate(wrong) if wrong[:i] + "quilt"[i : i + 1 - added] + wrong[i + 1 :] == "quilt"
        )
        near = {"quilt"[i] for i in (at, at - 1) if 0 <= i < 5}
        assert any(wrong[at] in ADJACENT[letter] for letter in near), wrong


def test_phonetic() -> None:
    assert {"fotograph", "photografph", "photograf"} & outcomes("phonetic", "photograph")
    assert "seperate" in outcomes("phonetic", "separate")


def test_spelling_comes_from_the_list() -> None:
    assert outcomes("spelling", "separate", seeds=300) == set(misspellings()["separate"])
    assert "Seperate" in outcomes("spelling", "Separate", seeds=300)
    assert outcomes("spelling", "zyxw") == {"zyxw"}
    assert not any(known(wrong) for wrongs in misspellings().values() for wrong in wrongs)


@pytest.mark.parametrize("name", ["spelling", "keyboard", "phonetic", "letters"])
def test_a_misspelling_is_no_word(name: str) -> None:
    wrong = [result.text[span.start : span.end] for result in results(name, PROSE, 0.3) for span in result.spans]
    assert len(wrong) > 100
    assert not any(known(word) for word in wrong)


def test_ocr() -> None:
    # "burn": b>h, b>6 is not likely; u>n n>u rn>m rn>nn. One confusion.
    assert outcomes("ocr_light", "burn") == {"hurn", "bnrn", "buru", "bum", "bunn"}
    lengths = {
        name: np.mean([result.text != PROSE and _edits(result) for result in results(name, PROSE, 0.5)])
        for name in ("ocr_light", "ocr_medium", "ocr_heavy")
    }
    assert lengths["ocr_light"] < lengths["ocr_medium"] < lengths["ocr_heavy"]


def _edits(result: Corrupted) -> float:
    """Mean edit distance of the spans."""
    return float(np.mean([_distance(result.text[span.start : span.end], span.original) for span in result.spans]))


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_grammar() -> None:
    assert outcomes("agreement", "are") == {"is"}
    assert outcomes("agreement", "houses") == {"house"}
    assert outcomes("agreement", "city") == {"cities"}
    assert outcomes("agreement", "the") == {"the"}
    assert outcomes("tense", "walked") == {"walk", "walks", "walking"}
    assert outcomes("tense", "Stopped") == {"Stop", "Stops", "Stopping"}
    assert outcomes("tense", "went") == {"go", "goes", "gone", "going"}
    assert outcomes("confusable", "their") == {"there", "they're"}
    assert outcomes("confusable", "It’s") == {"Its"}
    assert outcomes("apostrophe", "don't") == {"dont", "do'nt"}
    assert {"book's", "books"} == outcomes("apostrophe", "books")
    assert {"in", "of", "between"} < outcomes("preposition", "under") < FUNCTION_WORDS | {"against"}
    # "The cat": exchanged, or gone with the capital kept and "Cat" marked.
    assert outcomes("article", "The cat", rate=0.5) == {"The cat", "A cat", "An cat", "Cat"}
    gone = next(result for result in results("article", "He saw the cat", 0.25, 99) if result.text == "He saw cat")
    assert [(span.start, span.end, span.original) for span in gone.spans] == [(7, 10, "the cat")]


def test_wording() -> None:
    assert outcomes("repeated", "big red", rate=0.5) == {"big big red"}
    assert outcomes("swapped", "Big red dog", rate=0.3) >= {"Red big dog", "Big dog red"}
    assert outcomes("missing", "on the table", rate=0.3) >= {"the table", "on table"}
    assert outcomes("joined", "big red", rate=0.5) == {"bigred"}
    assert outcomes("joined", "can not", rate=0.5) == {"can not"}  # "cannot" is a word
    assert outcomes("split", "pencil") == {"pencil", "p encil", "pe ncil", "pen cil", "penc il", "penci l"}
    # Scripts without spaces: characters are the words.
    assert outcomes("swapped", "中文", rate=0.5) == {"文中"}
    assert outcomes("repeated", "中文", rate=0.5) == {"中中文"}
    assert outcomes("missing", "中文", rate=0.5) == {"文"}


@given(text=st.text("中文字典，a \n", max_size=30), seed=st.integers(0, 9), name=st.sampled_from(("missing", "joined")))
@example(text="中文字典", seed=0, name="missing")
@example(text="a 中文字典", seed=0, name="joined")
def test_what_is_gone_marks_one_character_in_chinese_not_the_clause(text: str, seed: int, name: str) -> None:
    made = REGISTRY[name].corrupt(text, np.random.default_rng(seed), 0.1)
    for span in made.spans:
        assert len(re.findall("[中文字典]", made.text[span.start : span.end])) <= 1


def test_words_are_split_at_seams_most() -> None:
    """Where both parts are words, seven times in ten and whatever the other places give."""
    texts = Counter(result.text for result in results("split", "into", 1.0, 400))
    assert set(texts) == {"in to", "i nto", "int o"}
    assert texts["in to"] / 400 == pytest.approx(0.7 + 0.3 / 3, abs=0.07)
    pencils = [result.text for result in results("split", "pencil", 1.0, 400)]
    assert sum(text != "pencil" for text in pencils) / 400 == pytest.approx(0.15, abs=0.06)


def test_a_slip_gives_another_frequent_word() -> None:
    assert outcomes("real_word", "From") == {"Form"}
    assert {"two", "town", "too", "toy"} <= outcomes("real_word", "tow", seeds=400)
    assert outcomes("real_word", "antidisestablishmentarian") == {"antidisestablishmentarian"}
    assert outcomes("real_word", "x1") == {"x1"}
    for result in results("real_word", PROSE, 0.2):
        for span in result.spans:
            wrong, right = result.text[span.start : span.end].lower(), span.original.lower()
            assert common(wrong, 10_000)
            assert _distance(wrong, right) <= 2  # two letters in the wrong order are two


def test_punctuation() -> None:
    assert outcomes("punctuation", "don't", rate=1.0, seeds=400) >= {"don;t", "don`t", "don´t"}
    assert {"a,, b", "a. b", "a; b"} <= outcomes("punctuation", "a, b", rate=0.5)
    assert outcomes("punctuation", "a (b) c", rate=0.34) >= {"a 9b) c", "a (b0 c", "a (b)) c"}
    assert {"wo.rd", "w,ord", "wor;d"} <= outcomes("punctuation", "word", seeds=600)
    for result in results("punctuation", PROSE, 0.2):
        for span in result.spans:
            assert _distance(result.text[span.start : span.end], span.original) <= 2


def test_a_wrong_word_is_of_the_same_band_and_part() -> None:
    list_ = frequency()
    pairs = [
        (result.text[span.start : span.end].lower(), span.original.lower())
        for result in results("wrong_word", PROSE, 0.2)
        for span in result.spans
    ]
    assert len(pairs) > 100
    for wrong, right in pairs:
        assert part(wrong) == part(right)
        assert band(int(list_.documents_W[list_.rank[wrong]])) == band(int(list_.documents_W[list_.rank[right]]))
        assert not related(wrong, right)
    # Words of no list change places with others of the text, names with names.
    assert outcomes("wrong_word", "Xqzt Wvbk", rate=0.5) == {"Wvbk Wvbk", "Xqzt Xqzt"}


def test_synonyms() -> None:
    assert {"frequently", "usually", "sometimes"} & set(neighbours()["often"])
    for result in results("synonym", PROSE, 0.2):
        for span in result.spans:
            assert result.text[span.start : span.end].lower() in neighbours()[span.original.lower()]
    # In this plane "cat" and "dog" point nearly the same way, "tax" the opposite one (the mean is 0).
    near = nearest(
        ["cat", "dog", "tax", "fee"], np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]]), count=1
    )
    assert near == {"cat": ("dog",), "dog": ("cat",), "tax": ("fee",), "fee": ("tax",)}
    assert synonym("Cat", np.random.default_rng(0), 1.0, near=near).text == "Dog"
    # The mean taken off and the forms of one word left out.
    assert nearest(["walk", "walked", "tax"], np.array([[1.0, 0.1], [1.0, -0.1], [-2.0, 0.0]]), count=1) == {}


def test_encoding() -> None:
    # "é" is C3 A9 in UTF-8: "Ã©" in cp1252 and latin-1, "Г©" in cp1251, "├⌐" in cp437, "√©" in mac_roman.
    once = {"cafÃ©", "cafГ©", "caf├⌐", "caf√©"}
    assert once < outcomes("mojibake", "café")
    assert all(_undone(text) == "café" for text in outcomes("mojibake", "café") - once)
    assert "donâ€™t" in outcomes("mojibake", "don't")
    assert "a Â\xa0b".replace(" Â", "Â") in outcomes("mojibake", "a b", rate=0.5)
    assert {"R&amp;D", "R&#38;D", "R&#x26;D", "R&amp;amp;D"} <= outcomes("entities", "R&D", rate=0.5)
    assert all(html.unescape(html.unescape(text)) == "café" for text in outcomes("entities", "café"))
    assert {"caf\ufffd", "caf?"} <= outcomes("replacement", "café")


def _undone(text: str) -> str:
    """Mojibake made twice, undone."""
    for codec in ("cp1252", "latin-1", "cp1251", "cp437", "mac_roman"):
        try:
            return text.encode(codec).decode().encode(codec).decode()
        except UnicodeError:
            continue
    return text


def test_debris() -> None:
    rng = np.random.default_rng(0)
    lines = [boilerplate_line(rng) for _ in range(500)]
    assert not any("{" in line or "}" in line for line in lines)
    assert len(set(lines)) > 6 * len(LINES)
    for result in results("markup", PROSE, 0.1):
        assert result.spans
        assert "{{{" not in result.text
        assert "{n" not in result.text
        assert "{d" not in result.text


def test_foreign_and_shuffled() -> None:
    text = "One two three. Four five six. Seven eight."
    every = {sentence for those in sentences().values() for sentence in those}
    for result in results("foreign", text, 0.4):
        for span in result.spans:
            inserted = result.text[span.start : span.end].strip()
            assert any(inserted in sentence for sentence in every)
            assert result.text[span.start - 1] == "."
    for result in results("gibberish", text, 0.4):
        words = [result.text[span.start : span.end].split() for span in result.spans]
        assert not any(common(word, 5000) and len(word) > 4 for those in words for word in those)
    for result in results("shuffled", text, 0.4):
        assert sorted(result.text) == sorted(text)
        assert sorted(result.text[a:b] for a, b in words_of(result.text)) == sorted(
            text[a:b] for a, b in words_of(text)
        )


def test_sentences() -> None:
    text = 'He said "no." Then he\nleft! A heading\n\nThe end。中文。 --- .'
    assert [text[a:b] for a, b in _sentence_spans(text)] == [
        'He said "no."',
        "Then he\nleft!",
        "A heading",
        "The end。",
        "中文。",
    ]


def test_word_lists() -> None:
    list_ = frequency()
    assert len(list_.words) == len(set(list_.words)) == 60_000
    assert set(list_.words[:3]) == {"the", "in", "a"}
    assert (np.diff(list_.documents_W) <= 0).all()
    assert list_.documents_W[0] <= list_.total
    assert int(list_.capital_W[list_.rank["london"]]) > 90 > 20 > int(list_.capital_W[list_.rank["table"]])
    assert known("Don’t")
    assert not known("definately")
    assert common("a")
    assert not common("q")
    assert set(list_.words) >= FUNCTION_WORDS
    assert sum(len(those) for those in peers().values()) > 30_000
    assert related("walk", "walked")
    assert related("city", "cities")
    assert not related("separate", "several")
