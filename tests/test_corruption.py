"""What every kind of corruption keeps, whatever the text; and composition and mixtures of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rtdscan.transforms.corruption import REGISTRY, Corrupted, Edit, Span, apply, compose
from rtdscan.transforms.corruption.edits import inside_word, words_of
from rtdscan.transforms.corruption.generator import generated
from rtdscan.transforms.corruption.mixture import Mixture
from rtdscan.transforms.settings import DEFAULT_KINDS, GENERATOR, MixtureSettings

ENGLISH = (
    "The children's definition of photography wasn't usually accepted, because people believe that separate accounts "
    "were maintained by the government. He walked to the café in São Paulo with considerable knowledge & modern "
    'equipment, "tools" as they\'re called.\n\nIn March 1994 the Committee has decided on a new system of rules for '
    "their houses. It depends on the weather, then. The results of the second report are written into a book."
)
PIECES = st.sampled_from((
    "the", "The", "don't", "is", "houses", "café", "a", " ", " ", "\n", "\n\n", ". ", ", ",
    "😀", "👩‍👩‍👧", "e\u0301", "\u0301", "中文", "日本語の", "ไทย", "שלום", "हिन्दी", "\ud800",
    "\udfff", "\x00", "\u200b", "\ufffd", "&", "<b>", '"', "'", "’", "ß", "İ", "ﬁ", "²",
    "_", "12", "x" * 40, "\r\n",
))  # fmt: skip
TEXTS = st.one_of(
    st.text(st.characters(), max_size=60),  # lone surrogates among them
    st.lists(PIECES, max_size=30).map("".join),
    st.lists(PIECES, max_size=30).map(" ".join),
    st.just(ENGLISH),
)
KINDS = pytest.mark.parametrize("name", REGISTRY)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def check(corrupted: Corrupted, before: str) -> None:
    """The spans are sorted, disjoint, inside, not empty, each of them changed; the rest is the text before."""
    at = 0
    for span in corrupted.spans:
        assert at <= span.start < span.end <= len(corrupted.text)
        assert corrupted.text[span.start : span.end] != span.original
        at = span.end
    assert corrupted.restored() == before


@KINDS
@given(text=TEXTS, seed=st.integers(0, 2**32), rate=st.floats(0, 1))
def test_unlabelled_text_is_unchanged(name: str, text: str, seed: int, rate: float) -> None:
    corrupted = REGISTRY[name].corrupt(text, rng(seed), rate)
    check(corrupted, text)
    assert all(span.kind == name for span in corrupted.spans)
    assert (corrupted.text == text) == (not corrupted.spans)
    assert corrupted == REGISTRY[name].corrupt(text, rng(seed), rate)


@KINDS
@given(text=TEXTS, seed=st.integers(0, 2**32))
def test_spans_cover_whole_words(name: str, text: str, seed: int) -> None:
    corrupted = REGISTRY[name].corrupt(text, rng(seed), 0.3)
    for span in corrupted.spans:
        assert not inside_word(corrupted.text, span.start)
        assert not inside_word(corrupted.text, span.end)


@KINDS
def test_seeds_differ_and_rate_counts(name: str) -> None:
    results = [REGISTRY[name].corrupt(ENGLISH, rng(seed), 0.25) for seed in range(12)]
    assert len({result.text for result in results}) > 3
    assert REGISTRY[name].corrupt(ENGLISH, rng(0), 0.0) == Corrupted(ENGLISH)
    for nothing in ("", " ", "\n\t ", "…"):
        assert REGISTRY[name].corrupt(nothing, rng(0), 1.0) == Corrupted(nothing)


@pytest.mark.parametrize("name", [name for name, kind in REGISTRY.items() if kind.level == "word"])
def test_rate_is_the_share_of_words(name: str) -> None:
    text = " ".join([ENGLISH] * 5)
    words = len(words_of(text))
    spans = [len(REGISTRY[name].corrupt(text, rng(seed), 0.01).spans) for seed in range(40)]
    # Mean of 40 draws of about 3.4; two edits may fall into one span.
    assert np.mean(spans) == pytest.approx(0.01 * words, rel=0.15)


@given(
    text=TEXTS, names=st.lists(st.sampled_from(sorted(REGISTRY)), min_size=2, max_size=4), seed=st.integers(0, 2**32)
)
def test_composition_is_exact(text: str, names: list[str], seed: int) -> None:
    chance, done = rng(seed), Corrupted(text)
    for name in names:
        done = compose(done, REGISTRY[name].corrupt(done.text, chance, 0.3))
        check(done, text)


@given(text=st.text("ab c", max_size=12), data=st.data())
def test_arbitrary_edits_compose(text: str, data: st.DataObject) -> None:
    def edits(over: str) -> st.SearchStrategy[list[Edit]]:
        offsets = st.tuples(st.integers(0, len(over)), st.integers(0, len(over))).map(sorted)
        return st.lists(
            st.builds(lambda at, new: Edit(at[0], at[1], new, "x"), offsets, st.text("ab c", max_size=3)), max_size=4
        )

    first = apply(text, data.draw(edits(text)))
    check(first, text)
    second = apply(first.text, data.draw(edits(first.text)))
    both = compose(first, second)
    assert both.text == second.text
    check(both, text)


def test_apply_by_hand() -> None:
    text = "He lives in the house."
    # A letter: the whole word is marked.
    assert apply(text, [Edit(4, 5, "o", "letters")]) == Corrupted(
        "He loves in the house.", (Span(3, 8, "letters", "lives"),)
    )
    # A word gone: its right neighbour is marked. "He lives in house." has "house" at 12.
    assert apply(text, [Edit(12, 16, "", "missing")]) == Corrupted(
        "He lives in house.", (Span(12, 17, "missing", "the house"),)
    )
    # A space gone: both words.
    assert apply(text, [Edit(11, 12, "", "joined")]) == Corrupted(
        "He lives inthe house.", (Span(9, 14, "joined", "in the"),)
    )
    # A mark that becomes an apostrophe makes one word of two.
    assert apply('a "b"c', [Edit(4, 5, "'", "marks")]) == Corrupted("a \"b'c", (Span(3, 6, "marks", 'b"c'),))
    # A word inserted: it alone, with its space.
    assert apply(text, [Edit(11, 11, " in", "repeated")]) == Corrupted(
        "He lives in in the house.", (Span(11, 14, "repeated", ""),)
    )
    # Two edits in one word are one span, the second span is shifted by the first (+1).
    two = apply(text, [Edit(4, 4, "x", "a"), Edit(7, 8, "y", "b"), Edit(16, 17, "m", "c")])
    assert two == Corrupted("He lxivey in the mouse.", (Span(3, 9, "a", "lives"), Span(17, 22, "c", "house")))
    # Nothing changed, nothing to the right, overlap: no label.
    assert apply(text, [Edit(3, 8, "lives", "a"), Edit(21, 22, "", "b")]) == Corrupted(text)
    assert len(apply(text, [Edit(3, 8, "dwelt", "a"), Edit(5, 9, "q", "b")]).spans) == 1


def test_compose_by_hand() -> None:
    first = apply("one two three", [Edit(4, 7, "tow", "letters")])
    # Undone: no span is left.
    assert compose(first, apply(first.text, [Edit(4, 7, "two", "x")])) == Corrupted("one two three")
    # Joined with its neighbour: one span with what stood there at the very first, of the kind that covers more.
    both = compose(first, apply(first.text, [Edit(7, 8, "", "joined")]))
    assert both == Corrupted("one towthree", (Span(4, 12, "joined", "two three"),))
    # Before it: its span moves by two.
    assert compose(first, apply(first.text, [Edit(0, 3, "eight", "x")])).spans == (
        Span(0, 5, "x", "one"),
        Span(6, 9, "letters", "two"),
    )


def test_labels_of_words() -> None:
    corrupted = Corrupted("He lives in in the house", (Span(3, 8, "x", "lived"), Span(11, 14, "y", "")))
    starts, ends = zip(*words_of(corrupted.text), strict=True)
    assert corrupted.labels(starts, ends).tolist() == [False, True, False, True, False, False]
    assert Corrupted("a b").labels([0, 2], [1, 3]).tolist() == [False, False]


MIXED = Mixture(MixtureSettings(clean=0.2, rate=(0.02, 0.2)))


@given(text=TEXTS, seed=st.integers(0, 2**40), index=st.integers(0, 2**40))
def test_a_mixture_is_a_function_of_text_seed_and_index(text: str, seed: int, index: int) -> None:
    corrupted = MIXED.corrupt(text, seed=seed, index=index)
    check(corrupted, text)
    assert corrupted == MIXED.corrupt(text, seed=seed, index=index)


def test_mixture_uses_every_kind_and_leaves_some_texts_clean() -> None:
    done = MIXED.corrupt_all([ENGLISH] * 800, seed=3, first=100)
    assert done[7] == MIXED.corrupt(ENGLISH, seed=3, index=107)
    assert done != MIXED.corrupt_all([ENGLISH] * 800, seed=4, first=100)
    assert {span.kind for corrupted in done for span in corrupted.spans} == set(REGISTRY)
    clean = sum(not corrupted.spans for corrupted in done) / 800
    assert 0.18 < clean < 0.4  # 0.2 chosen, and more where a small rate comes to nothing


def masked(texts: list[str], seeds: list[int]) -> list[list[tuple[int, int, str]]]:
    """A generator that puts "so" for the first word of each text, and the right one for the second."""
    return [[(0, 3, "so"), (4, 4 + seed * 0 + 3, text[4:7])] for text, seed in zip(texts, seeds, strict=True)]


def test_generator_samples() -> None:
    text = "one two three"
    expected = Corrupted("so two three", (Span(0, 2, GENERATOR, "one"),))
    assert generated([text], sample=masked, seeds=[1]) == [expected]
    mixture = Mixture(MixtureSettings(kinds={GENERATOR: 1.0}, clean=0), sample=masked)
    assert mixture.corrupt_all([text, text], seed=0) == [expected, expected]
    with pytest.raises(ValueError, match="characters 0 to 3 of a text of 1"):
        generated(["a"], sample=masked, seeds=[1])
    with pytest.raises(ValueError, match="there is no generator"):
        Mixture(MixtureSettings(kinds={GENERATOR: 1.0}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kinds": {"typo": 1}}, "no such kind of error: typo; there are spelling"),
        ({"kinds": {"spelling": 0}}, "at least one kind"),
        ({"rate": (0.2, 0.1)}, "rate: 0.2 to 0.1 is no range"),
        ({"rates": (0.1, 0.2)}, "Extra inputs"),
    ],
)
def test_wrong_settings(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MixtureSettings.model_validate(wrong)


def test_settings_name_every_kind() -> None:
    assert set(DEFAULT_KINDS) == set(REGISTRY)
