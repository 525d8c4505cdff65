"""Spans and decisions: by hand, by cases."""

import numpy as np
import pyarrow as pa
import pytest

from rtdscan.transforms.presentation import IGNORABLE, exempt_words, mark_lists, merged, present
from rtdscan.transforms.settings import ScoreSettings, Thresholds
from rtdscan.transforms.words import codepoints, cut_words


def arrays(*marks: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start, end, score = zip(*marks, strict=True) if marks else ((), (), ())
    return np.array(start, np.int32), np.array(end, np.int32), np.array(score, np.float32)


def test_neighbours_merge_over_white_space_only() -> None:
    text = "teh  lettre, form him"
    marks = arrays((0, 3, 0.75), (5, 11, 0.5), (11, 12, 0.5), (13, 17, 0.875))
    assert list(merged(text, *marks)) == [(0, 17, 0.875)]
    apart = arrays((0, 3, 0.75), (13, 17, 0.5))  # "lettre," stands between
    assert list(merged(text, *apart)) == [(0, 3, 0.75), (13, 17, 0.5)]
    assert list(merged(text, *arrays())) == []


RESOLVED = Thresholds(floor=0.125, flag=0.5, review=0.25, drop=0.5, not_ok="drop")
TEXT = "Mail bob@example.org about Fooblatt 3.14!"


def told(settings: ScoreSettings, *, score: float | None = 0.3, words: int = 10):
    marks = [(5, 8, 0.5), (27, 35, 0.75), (36, 40, 0.25)] if score is not None else []
    lists = mark_lists(np.array([len(marks)]), *arrays(*marks))
    return present(lambda at: TEXT, scores=[score], n_words=[words], candidates=lists, settings=settings)


def test_flags_spans_and_decision() -> None:
    result = told(ScoreSettings(thresholds=RESOLVED))
    assert result.n_flagged.to_pylist() == [2]
    assert result.spans.to_pylist() == [
        [
            {"start": 5, "end": 8, "score": 0.5, "suggestions": [], "probabilities": []},
            {"start": 27, "end": 35, "score": 0.75, "suggestions": [], "probabilities": []},
        ]
    ]
    assert result.decision.to_pylist() == ["review"]


@pytest.mark.parametrize(
    ("settings", "flagged", "decision"),
    [
        ({"ignore": ("email",)}, 1, "review"),  # 0.3 - 0.5 / 10 = 0.25
        ({"allow": ("fooblatt",)}, 1, "keep"),  # 0.3 - 0.75 / 10 = 0.225
        ({"allow": ("about  FOOBLATT",)}, 1, "keep"),
        ({"allow": ("foo",)}, 2, "review"),
        ({"ignore": ("number",)}, 2, "review"),  # 0.3 - 0.25 / 10 = 0.275
        ({"ignore": ("email", "number"), "allow": ("fooblatt",)}, 0, "keep"),
    ],
)
def test_ignored_and_allowed_words(settings: dict, flagged: int, decision: str) -> None:
    result = told(ScoreSettings(thresholds=RESOLVED, **settings))
    assert result.n_flagged.to_pylist() == [flagged]
    assert result.decision.to_pylist() == [decision]


def test_no_score_no_verdict() -> None:
    result = told(ScoreSettings(thresholds=RESOLVED), score=None)
    assert result.n_flagged.to_pylist() == [None]
    assert result.spans.to_pylist() == [None]
    assert result.decision.to_pylist() == ["drop"]


def test_unresolved_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="resolved"):
        told(ScoreSettings())


@pytest.mark.parametrize(
    ("kind", "text", "hit", "missed"),
    [
        ("url", "see https://a.org/x?y=1 and www.b.de now", ["https://a.org/x?y=1", "www.b.de"], ["see", "now"]),
        ("email", "to j.doe+x@mail.example.com please", ["j.doe+x@mail.example.com"], ["to", "please"]),
        ("number", "paid $1,000 on 2nd at 10:30 for 50kg of B2 steel", ["1,000", "2nd", "10:30", "50kg"], ["B2", "of"]),
        (
            "code",
            "call foo_bar or fooBar(x) in `ls -l` <br> &nbsp; of 0x1f",
            ["foo_bar", "fooBar", "ls", "nbsp", "0x1f"],
            ["call", "of"],
        ),
    ],
)
def test_ignorable_kinds(kind: str, text: str, hit: list[str], missed: list[str]) -> None:
    for words, expected in ((hit, True), (missed, False)):
        start = np.array([text.index(word) for word in words], np.int32)
        end = start + np.array([len(word) for word in words], np.int32)
        assert exempt_words(text, start, end, ignore=(kind,), allow=()).tolist() == [expected] * len(words)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", sorted(IGNORABLE))
@pytest.mark.parametrize(
    "unit", ["a.", "1.", "(", "<a", "/a", "_", "a@", "`", "www.", "x" * 50, "1:", "a_", "$a(", "&"]
)
def test_hostile_texts_match_in_linear_time(kind: str, unit: str) -> None:
    text = unit * (100_000 // len(unit))
    assert sum(1 for _ in IGNORABLE[kind].finditer(text)) <= len(text)


def test_lists_keep_rows_apart() -> None:
    lists = mark_lists(np.array([0, 2, 0, 1]), *arrays((0, 1, 0.5), (2, 3, 0.5), (4, 5, 0.25)))
    assert [len(row) for row in lists.to_pylist()] == [0, 2, 0, 1]
    assert lists.to_pylist()[3] == [{"start": 4, "end": 5, "score": 0.25}]
    assert pa.types.is_list(lists.type)


@pytest.mark.parametrize(
    ("entry", "text", "covered"),
    [
        ("AT&T", "He left at&t for AT & T.", "at&t"),  # what is written without spaces, is meant without
        ("e-mail", "An E-Mail, e-mails and e - mail", "E-Mail"),
        ("node.js", "Use node.js. Or node.jsx", "node.js"),
        ("C++", "Not C, but C++ and C+", "C++"),
        ("O'Brein", "Says O’Brein here", "O’Brein"),
        ("New  York", "In new\nyork, not Newyork", "new\nyork"),
        ("New York", "Newer New York New", "New York"),
        ("米饭", "我吃米饭了米", "米饭"),
        ("snake_case", "a snake_case b", "snake_case"),
        ("l'hôtel de ville", "à l’hôtel de ville.", "l’hôtel de ville"),
    ],
)
def test_entries_that_are_cut_into_several_words_are_allowed(entry: str, text: str, covered: str) -> None:
    words = cut_words(codepoints(text), np.arange(len(text), dtype=np.int32))
    exempt = exempt_words(text, words.start_W, words.end_W, ignore=(), allow=(entry, "nothing else"))
    start = text.index(covered)
    told = [(s, e) for s, e, free in zip(words.start_W, words.end_W, exempt, strict=True) if free]
    assert told
    assert all(start <= s and e <= start + len(covered) for s, e in told)
    assert {at for s, e in told for at in range(s, e)} == {
        at for at in range(start, start + len(covered)) if not text[at].isspace()
    }


def test_of_several_allowed_phrases_the_longest_counts() -> None:
    text = "old new york times square"
    words = cut_words(codepoints(text), np.array([], dtype=np.int32))
    allow = ("new york", "new york times", "times square", "york old")
    exempt = exempt_words(text, words.start_W, words.end_W, ignore=(), allow=allow)
    assert exempt.tolist() == [False, True, True, True, False]
