"""Whether an unlisted word may be a slip of a listed one."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.near import FEATURES, LONGEST, NearWords, _letters, _letters_of
from rtdscan.transforms.one_slip import Shortened
from rtdscan.transforms.slips import NONE, WEIGHTS, Slips
from rtdscan.transforms.word_hashes import hash_strings

COUNTS = {"the": 900, "house": 90, "horse": 30, "received": 60, "zebra": 1}
SLIPS = Slips(list(COUNTS), np.array(list(COUNTS.values())), 1000)


def test_the_score_by_hand() -> None:
    # One swap in three letters of a word in 900 of 1,000 documents; the shipped list knows it.
    features = {"distance": 1 / math.sqrt(3), "vowels": 1, "letters": 1, "listed": 1, "rarity": math.log(1002 / 901)}
    score = sum(WEIGHTS[FEATURES.index(name)] * value for name, value in features.items())
    assert SLIPS.of("teh") == pytest.approx(score - NONE)
    assert SLIPS.of("TEH") == SLIPS.of("teh")


def test_the_likeliest_word_counts() -> None:
    alone = Slips(["horse"], np.array([30]), 1000)
    assert SLIPS.of("hoise") > alone.of("hoise") > 0, "house is near as well, and more frequent"
    assert SLIPS.of("recieved") > SLIPS.of("zebrra"), "a listed slip of a frequent word"


def test_a_listed_word_has_its_own_frequency_for_it() -> None:
    more, less = (Slips([*COUNTS, "teh"], np.array([*COUNTS.values(), n]), 1000) for n in (300, 3))
    assert SLIPS.of("teh") > less.of("teh") > more.of("teh") >= 0.0
    own = WEIGHTS[FEATURES.index("rarity")] * (math.log(1002) - math.log(1002 / 4))
    assert less.of("teh") == pytest.approx(SLIPS.of("teh") + own)
    assert SLIPS.of("horse") > SLIPS.of("house"), "the more frequent of both is meant more often"


def test_known_misspellings_by_hand() -> None:
    counts = {**COUNTS, "acheive": 30, "achieve": 250, "heart": 100}
    slips = Slips(list(counts), np.array(list(counts.values())), 1000)
    words = ["recieved", "Recieved", "acheive", "teh", "haert", "received", "reqeived", "seperate"]
    # Of five letters and fewer nothing is said; acheive is in too many documents; separate is not listed at all; what
    # is not on the list is none.
    assert slips.misspelt(hash_strings(words)).tolist() == [math.log(8 / 5)] * 2 + [0.0] * 6
    rare = Slips(list(counts), np.array([*COUNTS.values(), 24, 250, 100]), 1000)  # 251 / 25 > 10
    assert rare.misspelt(hash_strings(["acheive"])).tolist() == [math.log(7 / 5)]
    assert Slips(["a"], np.array([1]), 9).misspelt(hash_strings(words)).tolist() == [0.0] * 8, "another language"


@pytest.mark.parametrize("word", ["zhang", "x", "", "3rd", "你好", "h0use", "q" * (LONGEST + 1)])
def test_what_is_near_nothing_is_no_slip(word: str) -> None:
    assert SLIPS.of(word) == 0.0


@given(st.text(max_size=50))
def test_any_text_has_a_finite_score(word: str) -> None:
    assert 0.0 <= SLIPS.of(word) < 100


@given(st.one_of(st.sampled_from([*COUNTS, "teh", "hause", "thehouse", "recieved"]), st.text("aehorsu'ct", max_size=9)))
def test_fewer_comparisons_find_the_same(word: str) -> None:
    scores = [sum(w * f for w, f in zip(WEIGHTS, one.features, strict=True)) for one in SLIPS.near.near(word)]
    unlisted = math.log(1002)
    least = NONE - WEIGHTS[-1] * (unlisted - SLIPS.near.rarity.get(word, unlisted))
    assert SLIPS.of(word) == pytest.approx(max([least, *scores]) - least)


@given(st.text("abcdehorsu'", min_size=4, max_size=7))
def test_a_name_is_compared_with_words_one_slip_away(word: str) -> None:
    one_away = [
        sum(w * f for w, f in zip(WEIGHTS, near.features, strict=True))
        for near in SLIPS.near.near(word)
        if near.features[0] * math.sqrt(len(word)) < 1.5 and " " not in near.text
    ]
    assert SLIPS.of_names([word])[0] == pytest.approx(max([NONE, *one_away]) - NONE)


def test_a_name_that_is_a_known_slip() -> None:
    received, hoise, other = SLIPS.of_names(["Recieved", "Hoise", "Hxisz"])
    assert received == SLIPS.of("recieved") > 0
    assert hoise == SLIPS.of("hoise") > 0
    assert other == 0.0


@given(st.lists(st.text("HhousetTec' 好", max_size=8), max_size=8))
def test_names_together_are_as_names_alone(words: list[str]) -> None:
    fresh = Slips(SLIPS.words, SLIPS.documents_E, SLIPS.total)
    assert fresh.of_names(words) == [SLIPS.of_names([word])[0] for word in words]


def test_so_many_names_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtdscan.transforms.slips.REMEMBERED", 4)
    slips = Slips(list(COUNTS), np.array(list(COUNTS.values())), 1000)
    words = [f"{letter}ouse" for letter in "abcdefg"]
    for first in range(6):
        assert slips.of_names(words[first : first + 2]) == SLIPS.of_names(words[first : first + 2])
        assert len(slips._names) <= 4
    assert slips.of_names(words) == SLIPS.of_names(words), "more at once than are remembered"


def test_what_another_thread_forgets_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    slips = Slips(list(COUNTS), np.array(list(COUNTS.values())), 1000)
    slips.of_names(["recieved"])
    compare = NearWords.best_one_slip_away

    def forgetting(*args: Any, **named: Any) -> Any:
        slips._names.clear()
        return compare(*args, **named)

    monkeypatch.setattr(NearWords, "best_one_slip_away", forgetting)
    assert slips.of_names(["recieved", "hoise"]) == [*SLIPS.of_names(["recieved"]), *SLIPS.of_names(["hoise"])]


WORD = st.text("abcé'", max_size=6)


@given(st.lists(WORD, max_size=20), st.lists(WORD, max_size=6))
def test_no_word_one_slip_away_is_missed(listed: list[str], words: list[str]) -> None:
    near = Shortened.of(listed).near(words)
    for at, word in enumerate(words):
        assert {number for number, other in enumerate(listed) if OSA.distance(word, other) <= 1} <= {
            number for asked, number in near if asked == at
        }


def test_few_others_are_found() -> None:
    listed = ["house", "horse", "hours", "mouse", "souse", "our"]
    assert Shortened.of(listed).near(["house", "huose", "xyz"]) == {
        *((0, number) for number in (0, 1, 2, 3, 4)),  # "hours" is two slips away: both become "hous"
        *((1, number) for number in (0, 1)),
    }


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5))
def test_letters_of_one_word_are_those_of_many(words: list[str]) -> None:
    assert _letters(words).tolist() == [int(_letters_of(word)) for word in words]


def test_no_words_no_slips() -> None:
    assert Slips([], np.zeros(0, np.int64), 8).of("teh") == 0.0


def test_misspellings_stand_out_from_rare_words_with_the_shipped_lexicon() -> None:
    lexicon = load_bundle("default").lexicon()
    assert lexicon is not None
    wrong = ["definately", "becuase", "tommorow", "goverment", "freind"]
    rare = ["glomerular", "kubelet", "haiku", "ptarmigan", "quokka"]
    assert min(map(lexicon.slips.of, wrong)) > max(map(lexicon.slips.of, rare))
