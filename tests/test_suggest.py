"""Suggestions: words near in letters, ranked by hand-made lexicons, judged in context by a stand-in and by a scorer."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.candidates import AROUND, FILLED, IN_CONTEXT, in_place, like
from rtdscan.transforms.near import FEATURES, LONGEST, NearWords
from rtdscan.transforms.records import SPAN
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings, SuggestSettings, Thresholds
from rtdscan.transforms.suggest import (
    BY_CONTEXT,
    BY_GENERATOR,
    BY_LETTERS,
    JUDGED,
    Ranking,
    Suggester,
    Suggestion,
    add_suggestions,
)

COUNTS = {
    "the": 900, "then": 300, "they": 400, "a": 950, "lot": 80, "it": 800, "it's": 100, "its": 200, "their": 300,
    "there": 350, "before": 250, "be": 700, "for": 800, "receive": 50, "received": 60, "letter": 40, "house": 90,
    "horse": 30, "x": 20,
}  # fmt: skip
WORDS = NearWords.of(COUNTS, total=1000, corrections=[("recieved", "received"), ("teh", "the"), ("teh", "nowhere")])


def near(written: str) -> dict[str, dict[str, float]]:
    return {one.text: dict(zip(FEATURES, one.features, strict=True)) for one in WORDS.near(written)}


def test_features_by_hand() -> None:
    found = near("Teh")
    # One swap of neighbours; 3 letters; 900 of 1,000 documents.
    assert found["the"] == {
        "distance": pytest.approx(1 / math.sqrt(3)),
        "first": 0.0,
        "apostrophe": 0.0,
        "doubled": 0.0,
        "vowels": 1.0,  # "th" in both
        "letters": 1.0,
        "listed": 1.0,
        "split": 0.0,
        "rarity": pytest.approx(math.log(1002 / 901)),
    }
    assert "nowhere" not in found  # the list of misspellings knows it, the lexicon does not


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("alot", "a lot"),  # joined
        ("be for", "before"),  # split
        ("its", "it's"),
        ("it’s", "its"),  # a curly apostrophe
        ("there", "their"),
        ("the the", "the"),  # repeated
        ("recieved", "received"),
        ("RECIEVED", "received"),
        ("hous", "house"),
    ],
)
def test_what_was_meant_is_among_them(written: str, meant: str) -> None:
    assert meant in near(written)


@pytest.mark.parametrize("written", ["", "  ", "3.14", "x1", "你好", "hou$e", "z" * (LONGEST + 1), "\x00", "'"])
def test_nothing_is_suggested_for_what_is_no_word(written: str) -> None:
    assert not near(written)


def test_single_letters_do_not_stand_alone() -> None:
    assert "x lot" not in near("xlot")


@given(st.text(max_size=50))
def test_never_itself_and_never_an_error(written: str) -> None:
    found = near(written)
    assert " ".join(written.lower().replace("’", "'").split()) not in found
    assert all(math.isfinite(value) for features in found.values() for value in features.values())


@given(
    st.lists(st.lists(st.floats(-20, 20), min_size=2, max_size=2), max_size=12),
    st.floats(-5, 5),
)
def test_probabilities_leave_room_for_none(rows: list[list[float]], none: float) -> None:
    p_C = Ranking((1.0, -0.5), none).probabilities(np.array(rows).reshape(-1, 2))
    assert (p_C >= 0).all()
    assert p_C.sum() <= 1 + 1e-12


def test_softmax_by_hand() -> None:
    # Scores 0 and log 2, none of them log 1 = 0: odds 1 : 2 : 1.
    p_C = Ranking((1.0,), 0.0).probabilities(np.array([[0.0], [math.log(2)]]))
    np.testing.assert_allclose(p_C, [0.25, 0.5])


@pytest.mark.parametrize(
    ("written", "meant", "expected"),
    [
        ("Teh", "the", "The"),
        ("TEH", "the", "THE"),
        ("teh", "the", "the"),
        ("im", "i'm", "I'm"),
        ("I", "in", "In"),
        ("iwas", "i was", "I was"),
        ("Andi", "and i", "And I"),
    ],
)
def test_case_is_that_of_what_was_written(written: str, meant: str, expected: str) -> None:
    assert like(written, meant) == expected


@given(st.text(alphabet="ab \n", max_size=400), st.data())
def test_a_candidate_stands_where_it_is_said_to(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 10)))
    there, (first, last) = in_place(text, start, end, "CANDIDATE")
    assert there[first:last] == "CANDIDATE"
    assert max(first, len(there) - last) <= AROUND
    assert text[:start].endswith(there[:first])
    assert text[end:].startswith(there[last:])


def test_the_best_comes_first_and_few_are_given() -> None:
    suggester = Suggester(WORDS, SuggestSettings(top_k=2))
    (found,) = suggester.suggest([("Teh house", 0, 3)])
    assert found[0].text == "The"
    assert len(found) <= 2
    assert found == sorted(found, key=lambda one: -one.probability)
    assert not Suggester(WORDS, SuggestSettings(least=1.0)).suggest([("Teh house", 0, 3)])[0]


@pytest.mark.parametrize(
    ("span", "meant"),
    [
        ("recieved  hous,", "received  house,"),  # word by word, what lies between stays
        ("be for", "before"),
        ("the the", "the"),
        ("(be for,", "(before,"),  # these marks were lost
        ("“the the”", "“the”"),
        ("(hous", "(house"),
        ("“hous”", "“house”"),
        ("用recieved系，", "用received系，"),  # among Han, where each character is a word
    ],
)
def test_spans_of_several_words(span: str, meant: str) -> None:
    text = f"It was {span} then."
    (found,) = Suggester(WORDS, SuggestSettings()).suggest([(text, 7, 7 + len(span))])
    assert found[0].text == meant


@pytest.mark.parametrize("span", ["&hous;", "{{hous}}", "x1 hous", "hous\ufffd", "<hous>", "hous_e", "42"])
def test_damage_is_no_slip(span: str) -> None:
    assert Suggester(WORDS, SuggestSettings(least=0.0)).suggest([(span, 0, len(span))]) == [[]]


def test_escapes_say_what_they_stand_for() -> None:
    suggester = Suggester(WORDS, SuggestSettings(top_k=1))
    text = "A caf&eacute; in a &lt;b&gt; and\u00a0R&amp;D"
    spans = ["caf&eacute;", "&eacute;", "R&amp;D", "&amp;", "&lt;b&gt;", "&lt;b&gt; and"]
    found = suggester.suggest([(text, text.index(span), text.index(span) + len(span)) for span in spans])
    assert [[one.text for one in those] for those in found] == [["café"], ["é"], ["R&D"], ["&"], [], []]
    assert Suggester(WORDS, SuggestSettings(top_k=0)).suggest([("&amp;", 0, 5)]) == [[]]


@pytest.mark.parametrize(
    ("span", "meant"),
    [
        ("caf&eacute; &amp;", ["café &"]),
        ("re\u00adceived  let\u00adter", ["received  letter"]),
        ("cafÃ© dÃ©jÃ\u00a0", ["café déjà"]),
        ("cafÃ© dÃ©jÃ", ["café déjà"]),  # before a space, as such words are cut
        ("&nbsp;", [" "]),  # nothing in its place would join the words beside it
        ("caf&eacute;&nbsp;", ["café "]),
        ("recieved caf&eacute;", []),
        ("caf&eacute; recieved", []),
        ("&lt;b&gt; &amp;", []),
    ],
)
def test_damaged_neighbours_lost_what_each_stands_for(span: str, meant: list[str]) -> None:
    (found,) = Suggester(WORDS, SuggestSettings()).suggest([(f"The {span} there", 4, 4 + len(span))])
    assert [one.text for one in found] == meant


def test_context_overrules_letters() -> None:
    asked: list[str] = []

    def judge(texts: Sequence[str], places: Sequence[tuple[int, int]]) -> np.ndarray:
        asked.extend(texts)
        said = [text[start:end] for text, (start, end) in zip(texts, places, strict=True)]
        return np.array([[-9.0 if word == "horse" else 9.0, 0.0] for word in said])

    letters = Suggester(WORDS, SuggestSettings())
    context = Suggester(WORDS, SuggestSettings(in_context=True), judge=judge)
    text = "He rode a hoxse home."
    place = (text, text.index("hoxse"), text.index("hoxse") + 5)
    assert letters.suggest([place])[0][0].text == "house"  # three times as frequent
    assert [one.text for one in context.suggest([place])[0]] == ["horse"]
    assert "He rode a horse home." in asked
    assert len(asked) <= JUDGED


def test_one_coefficient_for_each_feature() -> None:
    assert len(BY_LETTERS.weights) == len(FEATURES)
    assert len(BY_CONTEXT.weights) == len(FEATURES) + len(IN_CONTEXT)
    assert len(BY_GENERATOR.weights) == len(FEATURES) + len(FILLED) + len(IN_CONTEXT)


def test_spans_keep_everything_else() -> None:
    spans = pa.array(
        [
            [{"start": 0, "end": 3, "score": 0.5, "suggestions": [], "probabilities": []}],
            None,
            [],
            [
                {"start": 2, "end": 6, "score": 0.75, "suggestions": [], "probabilities": []},
                {"start": 7, "end": 9, "score": 1.0, "suggestions": [], "probabilities": []},
            ],
        ],
        pa.list_(SPAN),
    )
    texts = {0: "teh end", 3: "a hous 42"}
    told = add_suggestions(spans, texts.__getitem__, Suggester(WORDS, SuggestSettings(top_k=1)))
    told.validate(full=True)
    expected = spans.to_pylist()
    expected[0][0]["suggestions"], expected[3][0]["suggestions"] = ["the"], ["house"]
    for span, found in ((row[0], told[at][0].as_py()) for at, row in ((0, expected[0]), (3, expected[3]))):
        assert [0.5 < p <= 1 for p in found["probabilities"]] == [True]
        span["probabilities"] = found["probabilities"]
    assert told.to_pylist() == expected
    assert told.type == spans.type


TEXTS = [
    "We wrote teh letter before noon.",
    "The house is their on the hill, and the the door is open.",
    None,
    "",
    "His freind wil bring alot of bread tomorow.",
    "Nothing is wrong here.",
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    settings = ScoreSettings(
        suggest=SuggestSettings(in_context=True), thresholds=Thresholds(flag=0.1), engine="torch", precision="float32"
    )
    return Scorer.load(settings=settings)


def suggested(scorer: Scorer, texts: Sequence[str | None]) -> list[list[tuple[str, tuple[str, ...]]]]:
    table = pa.table({"text": pa.array(texts, pa.string())})
    rows = zip(texts, scorer.score(table)["spans"].to_pylist(), strict=True)
    return [
        [((text or "")[s["start"] : s["end"]], tuple(s["suggestions"])) for s in spans or ()] for text, spans in rows
    ]


def test_the_bundled_model_suggests_what_was_meant(scorer: Scorer) -> None:
    first = " ".join(those[0] for row in suggested(scorer, TEXTS) for _, those in row if those).split()
    assert {"the", "friend", "tomorrow"} <= set(first)


def test_suggestions_do_not_depend_on_the_neighbours(scorer: Scorer) -> None:
    together = suggested(scorer, TEXTS)
    assert sum(map(len, together)) > 3
    assert together == [suggested(scorer, [text])[0] for text in TEXTS]


def test_other_thresholds_give_what_a_fresh_scan_gives(scorer: Scorer) -> None:
    rows = pa.table({"text": pa.array([t.encode() if t is not None else None for t in TEXTS], pa.large_binary())})
    strict = scorer.with_settings(scorer.settings.model_copy(update={"thresholds": Thresholds(flag=0.9)}))
    before = strict.score_rows(rows)
    assert before.column("spans") != scorer.score_rows(rows).column("spans")
    assert scorer.rewrite(before, rows).equals(scorer.score_rows(rows))


def test_a_span_that_stays_keeps_its_suggestions(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every other word that was allowed, all suggestions in context were made again: as dear as a scan."""
    rows = pa.table({"text": pa.array([t.encode() if t is not None else None for t in TEXTS], pa.large_binary())})
    strict = scorer.with_settings(scorer.settings.model_copy(update={"thresholds": Thresholds(flag=0.9)}))
    before, fresh = strict.score_rows(rows), scorer.score_rows(rows)
    asked: list[tuple[str, int, int]] = []
    suggest = Suggester.suggest

    def counting(self: Suggester, places: Sequence[tuple[str, int, int]]) -> list[list[Suggestion]]:
        asked.extend(places)
        return suggest(self, places)

    monkeypatch.setattr(Suggester, "suggest", counting)

    def places(attributes: pa.Table) -> set[tuple[int, int, int]]:
        spans = enumerate(attributes["spans"].to_pylist())
        return {(row, span["start"], span["end"]) for row, those in spans for span in those or ()}

    assert scorer.rewrite(before, rows, hold=True).equals(fresh)
    assert 0 < len(asked) == len(places(fresh) - places(before)) < len(places(fresh))
    asked.clear()
    assert scorer.rewrite(fresh, rows, hold=True).equals(fresh)
    assert not asked
    scorer.rewrite(fresh, rows)
    assert len(asked) == len(places(fresh))


def test_a_model_without_a_lexicon_suggests_nothing(tiny_bundle: Path) -> None:
    bundle = load_bundle(str(tiny_bundle))
    assert bundle.lexicon() is None
    settings = ScoreSettings(thresholds=Thresholds(flag=0.0), engine="torch", precision="float32")
    spans = Scorer.from_bundle(bundle, settings=settings).score(pa.table({"text": ["teh house"]}))["spans"][0].as_py()
    assert spans
    assert all(span["suggestions"] == [] for span in spans)


def test_switched_off(scorer: Scorer) -> None:
    plain = scorer.with_settings(scorer.settings.model_copy(update={"suggest": SuggestSettings(top_k=0)}))
    assert all(not those for row in suggested(plain, TEXTS) for _, those in row)
