"""What the report counts, sorts, samples and cuts, on input made by hand: every expected number is worked out here."""

from hashlib import blake2b
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rtdscan.pipeline.finished.excerpts import Excerpt, Stretch, in_context, make_excerpts
from rtdscan.pipeline.finished.folder import Shard
from rtdscan.pipeline.finished.visible import shortened
from rtdscan.pipeline.report import counts, rows, words
from rtdscan.pipeline.report.collect import _grouped
from rtdscan.pipeline.report.counts import Counts, File, Worker, count
from rtdscan.pipeline.report.rows import SCORE_EDGES_E, Group, Rows
from rtdscan.pipeline.report.words import Context, FlaggedWord, FlaggedWords
from rtdscan.transforms.records import MANIFEST
from rtdscan.transforms.tally import NULL, OTHER, Worst

# Files, units and time


def unit(file: str, words: int, flagged: int, seconds: float = 0.0, worker: str | None = None) -> dict[str, Any]:
    status = "scored" if worker else "current"
    size = {"documents": words // 10, "words": words, "flagged": flagged, "tokens": 2 * words}
    return {"file": file, "status": status, "seconds": seconds, "worker": worker, **size}


def counted(*units: dict[str, Any]) -> Counts:
    return count(SimpleNamespace(manifest=pa.Table.from_pylist(list(units), schema=MANIFEST)))


def test_the_manifest_is_added_up_by_file_and_worker() -> None:
    found = counted(
        unit("low", 100, 1, 4.0, "w1"),
        unit("high", 100, 30, 1.0, "w2"),
        unit("empty", 0, 0, 2.0, "w2"),
        unit("high", 300, 50),  # 80 of 400 words
        unit("same/share", 50, 10),  # 20 %, too, of fewer words
        unit("same/share b", 50, 10, 4.0, "w1"),
        {"file": "torn", "status": "bad", "reason": "cut short"},
        {"file": "gone", "status": "bad"},
    )
    high = File("high", 40, 400, 80, 800, 1.0)
    same, other = File("same/share", 5, 50, 10, 100, 0.0), File("same/share b", 5, 50, 10, 100, 4.0)
    low = File("low", 10, 100, 1, 200, 4.0)
    assert found == Counts(
        files=7,
        worst=(high, same, other, low),
        median=0.2,  # of .2, .2, .2, .01
        slowest=(low, other, File("empty", 0, 0, 0, 0, 2.0), high),
        workers=(Worker("w1", 2, 300, 8.0), Worker("w2", 2, 200, 3.0)),
        n_workers=2,
        outcomes={"scored": 4, "current": 2, "bad": 2},
        seconds=11.0,
        bad=(("torn", "cut short"), ("gone", "")),
    )
    assert list(found.outcomes) == ["scored", "current", "bad"]
    assert high.share == 0.2
    assert File("empty", 0, 0, 0, 0, 0.0).share == 0.0


def test_the_median_is_of_files_with_words() -> None:
    assert counted(unit("a", 10, 1), unit("b", 10, 4), unit("empty", 0, 0)).median == 0.25
    assert counted(unit("a", 10, 1), unit("b", 10, 9), unit("c", 10, 3)).median == 0.3
    assert counted(unit("empty", 0, 0)).median is None


def test_lists_of_files_and_workers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FILES_SHOWN", "SLOWEST_SHOWN", "WORKERS_SHOWN", "BAD_SHOWN"):
        monkeypatch.setattr(counts, name, 2)
    units = [unit(f"f{n}", 10, n, float(n), f"w{n}") for n in range(1, 5)]
    bad = [{"file": f"b{n}", "status": "bad", "reason": "no"} for n in range(3)]
    found = counted(*units, *bad)
    assert [file.file for file in found.worst] == [file.file for file in found.slowest] == ["f4", "f3"]
    assert ([worker.worker for worker in found.workers], found.n_workers) == (["w4", "w3"], 4)
    assert found.bad == (("b0", "no"), ("b1", "no"))


# Rows


def splitmix64(seed: int, n: int) -> int:
    """The n-th number from a seed, as Vigna publishes it."""
    z = (seed + n * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_lots_are_splitmix64_of_the_row() -> None:
    """Other lots would be another sample: two reports of one scan would differ."""
    assert [splitmix64(1234567, n) for n in (1, 2)] == [6457827717110365317, 3203168211198807973]  # published
    seed = int.from_bytes(blake2b(b"a.parquet", digest_size=8).digest(), "little")
    numbers = [0, 1, 2, 2**40]
    assert rows._lots("a.parquet", np.array(numbers)).tolist() == [splitmix64(seed, n) for n in numbers]


def attributes(score: list[float | None], n_words: list[int], first: int = 0, **more: Any) -> pa.Table:
    column = {"row": range(first, first + len(score)), "score": pa.array(score, pa.float32()), "n_words": n_words}
    return pa.table({**column, **more})


def test_scores_are_counted_in_bins_and_sampled_by_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SAMPLE", 4)
    found, lots = Rows(), {}
    shards = {"a": [0.0, 1e-5, 1.0, None], "b": [0.5, 1.0, 0.09]}
    for file, score in shards.items():
        shard = Shard(f"attributes/{file}", file, 0, 10, len(score), 1, 1)
        rows._add(found, shard, attributes(score, [n + 1 for n in range(len(score))], first=10))
        lot_D = rows._lots(file, np.arange(10, 10 + len(score))).tolist()
        lots |= {lot: (n + 1, s) for n, (lot, s) in enumerate(zip(lot_D, score, strict=True)) if s is not None}
    # Twelve bins a decade: log10(.09) = -1.046 is in bin (4 - 1.046) * 12 = 35, log10(.5) = -.301 in 44.
    assert {at: n for at, n in enumerate(found.scores_E.tolist()) if n} == {0: 2, 35: 1, 44: 1, 47: 2}
    assert len(found.scores_E) == 48 == len(SCORE_EDGES_E) - 1
    assert found.rows == 7
    assert found.lot_S.tolist() == sorted(lots)[:4]
    expected = [lots[lot] for lot in sorted(lots)[:4]]
    assert found.words_S.tolist() == [n for n, _ in expected]
    assert found.score_S.tolist() == pytest.approx([score for _, score in expected])


def test_groups_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: dict[str, Group] = {}
    decisions = ["keep", "drop", "review", "review", "drop"]
    more = {"n_flagged": [1, None, 2, 0, 1], "decision": decisions}
    table = attributes([0.5, None, 0.25, 0.125, 0.75], [4, 0, 3, 2, 1], **more)
    rows._add_groups(groups, pa.chunked_array([["x", "y", "x"], [None, "y"]]), table, name="of")
    assert groups == {
        "x": Group(rows=2, documents=2, words=7, flagged=3, score=0.75, review=1, drop=0),
        "y": Group(rows=2, documents=1, words=1, flagged=1, score=0.75, review=0, drop=2),
        NULL: Group(rows=1, documents=1, words=2, flagged=0, score=0.125, review=1, drop=0),
    }
    assert groups["x"].share == 3 / 7
    assert Group().share == 0.0
    monkeypatch.setattr(rows, "VALUES", 3)
    rows._add_groups(groups, pa.array(["x", "new", "newer", "x", "y"]), table, name="of")
    assert {value: group.rows for value, group in groups.items()} == {"x": 4, "y": 3, NULL: 1, OTHER: 2}
    assert groups[OTHER] == Group(rows=2, documents=1, words=3, flagged=2, score=0.25, review=1, drop=1)


def test_groups_of_few_words_are_not_ranked() -> None:
    groups = {f"g{n:02d}": Group(words=1000, flagged=n) for n in range(13)}
    groups |= {"few": Group(words=499, flagged=499), "b": Group(words=500, flagged=5), "a": Group(words=500, flagged=5)}
    found = _grouped("of", groups, whole=True)
    best = ["g12", "g11", "a", "b", "g10", "g09", "g08", "g07", "g06", "g05", "g04", "g03"]  # a, b, g10: 1 %
    assert ([value for value, _ in found.groups], found.values, found.whole) == (best, 16, True)
    ranked = _grouped("of", {"few": groups["few"], "g00": groups["g00"]}, whole=False).groups
    assert [value for value, _ in ranked] == ["g00", "few"]


# Words


def test_a_word_is_counted_by_times_and_by_documents() -> None:
    found: dict[str, FlaggedWord] = {}
    texts = ["Teh teh cat", "a teh", "the  TEH\nteh", "x teh"]
    places = [[(0, 3), (4, 7)], [(2, 5)], [(5, 8), (9, 12)], [(2, 5)]]
    for row, (text, spans) in enumerate(zip(texts, places, strict=True)):
        row_ = {"row": row, "n_chars": len(text), "spans": [{"start": s, "end": e, "score": 0.5} for s, e in spans]}
        words._count(found, row_, lambda start, end, text=text: text[start:end], file="f")
    (word,) = found.values()
    assert dict(word.forms) == {"Teh": 1, "teh": 4, "TEH": 1}
    assert (word.times, word.documents, word.score_sum, word.capital, word.word) == (6, 4, 3.0, 2, "teh")
    assert word.contexts == [Context("", "Teh", " teh cat", 0.5, "f", 0), Context("a ", "teh", "", 0.5, "f", 1)]


def test_a_tie_between_spellings_is_broken_by_letters() -> None:
    word = FlaggedWord()
    word.forms.update(["b", "a", "a", "b", "c"])
    assert word.word == "a"


def test_a_word_is_told_apart_by_its_first_sixty_characters() -> None:
    found: dict[str, FlaggedWord] = {}
    text = "x" * 100 + " " + "x" * 60 + "y"
    spans = [{"start": 0, "end": 100, "score": 0.5}, {"start": 101, "end": 162, "score": 0.5}]
    row = {"row": 0, "n_chars": 162, "spans": spans}
    words._count(found, row, lambda start, end: text[start:end], file="f")
    assert {key: (word.times, word.documents) for key, word in found.items()} == {"x" * 60: (2, 1)}


class Flagged:
    """A finished scan of shards whose rows are texts, every letter but `.` a flagged span; OUTPUT and INPUT in one."""

    output = "out"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shards: dict[str, list[str]], *, gone: str = "") -> None:
        self.texts_of, self.gone = shards, gone
        self.tally = SimpleNamespace(worst=())
        monkeypatch.setattr(words, "read_columns", lambda output, shard, columns: self.rows(shard).select(columns))

    def shards(self) -> list[Shard]:
        return [Shard(f"s/{f}", f, 0, 100, len(t), 10, sum(map(len, t))) for f, t in self.texts_of.items()]

    def texts(self, shard: Shard) -> pa.Array | None:
        return None if shard.file == self.gone else pa.array(self.texts_of[shard.file], pa.large_binary())

    def rows(self, shard: Shard) -> pa.Table:
        made = [
            {
                "row": 100 + n,
                "n_chars": len(text),
                "n_words": len(text),
                "n_flagged": len(text) - text.count("."),
                "decision": "drop",
                "spans": [{"start": at, "end": at + 1, "score": 0.9} for at, c in enumerate(text) if c != "."],
                "candidates": [{"start": at, "end": at + 1, "score": 0.2} for at in range(len(text))],
            }
            for n, text in enumerate(self.texts_of[shard.file])
        ]
        return pa.Table.from_pylist(made)

    def words(self) -> FlaggedWords:
        return words.flagged_words(self, self)


def told(found: FlaggedWords) -> list[tuple[str, int, int]]:
    return [(word.word, word.times, word.documents) for word in found.words]


def test_words_are_sorted_by_times_then_documents_then_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Flagged(monkeypatch, {"b": ["dd.cc", ".", "caae"], "a": ["bbaaa", "f"]})
    found = scan.words()
    assert told(found) == [("a", 5, 2), ("c", 3, 2), ("b", 2, 1), ("d", 2, 1)]
    assert (found.spans, found.documents, found.whole) == (14, 4, True)
    assert [(c.file, c.row) for c in found.words[0].contexts] == [("a", 100), ("b", 102)], "in the order of files"
    monkeypatch.setattr(words, "WORDS_SHOWN", 2)
    assert told(scan.words()) == [("a", 5, 2), ("c", 3, 2)]


def test_what_is_not_counted_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = {"a": ["aa", "bb"], "b": ["aab", ".."]}
    found = Flagged(monkeypatch, shards, gone="b").words()
    assert (told(found), found.spans, found.documents, found.whole) == ([("a", 2, 1), ("b", 2, 1)], 4, 2, False)
    scan = Flagged(monkeypatch, {**shards, "c": ["."]})
    scan.texts_of["c"] = [""]  # nothing flagged: nothing to be read
    assert scan.words().whole
    monkeypatch.setattr(words, "SPANS_READ", 7)
    assert scan.words().whole, "all that there are"
    monkeypatch.setattr(words, "SPANS_READ", 5)
    found = scan.words()
    assert (told(found), found.spans, found.documents, found.whole) == ([("a", 3, 2), ("b", 2, 1)], 5, 3, False)


def test_shards_are_drawn_by_lot_until_there_are_tokens_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Flagged(monkeypatch, {name: [name * 2] for name in "abcd"})  # 10 tokens each
    by_lot = [shard.file for shard in sorted(scan.shards(), key=lambda shard: shard.lot)]
    for tokens, n in ((1, 1), (19, 1), (20, 2), (39, 3), (40, 4)):
        monkeypatch.setattr(words, "TOKENS_READ", tokens)
        found = scan.words()
        assert ([word.word for word in found.words], found.whole) == (sorted(by_lot[:n]), n == 4)


def test_the_worst_documents_come_worst_first(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Flagged(monkeypatch, {"a": ["ab", "..."], "b": ["c.", "d"]})
    worst = [(0.5, "b", 101), (0.9, "b", 100), (0.5, "a", 101), (0.5, "a", 100), (0.9, "b", 102), (0.9, "b", 99)]
    scan.tally = SimpleNamespace(worst=[Worst(*one, id=f"id{one[2]}") for one in worst])
    found = words.worst_documents(scan, scan, text=True)
    told = [(one.score, one.file, one.row, one.id, one.words, one.flagged, one.weak) for one in found]
    assert told == [
        (0.9, "b", 100, "id100", 2, 1, False),
        (0.5, "a", 100, "id100", 2, 2, False),
        (0.5, "a", 101, "id101", 3, 0, True),
        (0.5, "b", 101, "id101", 1, 1, False),
    ]
    marks = [[s.text for e in one.excerpts for s in e.stretches if s.score is not None] for one in found]
    assert marks == [["c"], ["a", "b"], [".", ".", "."], ["d"]], "candidates where nothing is flagged"
    assert [one.excerpts for one in words.worst_documents(scan, scan, text=False)] == [()] * 4


# Excerpts

TEXT = "aaa " * 250
"""A space at 3, 7, … 999."""


def span(start: int, end: int, score: float = 0.9) -> dict[str, Any]:
    return {"start": start, "end": end, "score": score}


def excerpts(*spans: dict[str, Any], n: int = 9, text: str = TEXT) -> tuple[Excerpt, ...]:
    return make_excerpts(lambda start, end: text[start:end], spans, n_chars=len(text), n=n)


def test_an_excerpt_begins_and_ends_with_a_word() -> None:
    # 90 characters before 500 is 410, in a word that begins at 408; after 503 it is 593, in one that begins at 592.
    between = Stretch(TEXT[412:500]), Stretch("aaa", 0.9), Stretch(TEXT[503:591])
    assert excerpts(span(500, 503)) == (Excerpt(True, True, between),)
    assert excerpts(span(0, 3)) == (Excerpt(False, True, (Stretch("aaa", 0.9), Stretch(TEXT[3:91]))),)
    assert excerpts(span(996, 1000)) == (Excerpt(True, False, (Stretch(TEXT[908:996]), Stretch("aaa ", 0.9))),)
    assert excerpts(span(90, 91))[0].more_before is False
    assert excerpts(span(91, 92))[0].more_before is True
    # A word that is longer than half of the context is cut, not left out.
    long = "x" * 300
    whole = Stretch("x" * 90), Stretch("xx", 0.9), Stretch("x" * 90)
    assert excerpts(span(150, 152), text=long) == (Excerpt(True, True, whole),)


def test_contexts_that_touch_become_one() -> None:
    two = excerpts(span(500, 503), span(683, 686))  # 503 + 90 = 593 = 683 - 90
    assert [[s.text for s in e.stretches] for e in two] == [
        [TEXT[412:500], "aaa", TEXT[503:683], TEXT[683:686], TEXT[686:775]]
    ]
    assert [len(e.stretches) for e in excerpts(span(500, 503), span(684, 687))] == [3, 3]
    inner = excerpts(span(400, 503, 0.1), span(520, 523, 0.9), n=1)
    assert [s.text for s in inner[0].stretches if s.score] == ["aaa"], "the longer one reaches out of the context"


def test_the_best_spans_are_chosen_and_shown_in_order() -> None:
    far = [span(100, 103, 0.5), span(400, 403, 0.9), span(700, 703, 0.5), span(900, 903, 0.1)]
    for n, expected in ((1, [400]), (2, [100, 400]), (3, [100, 400, 700]), (9, [100, 400, 700, 900])):
        found = excerpts(*[{**one, "suggestions": [f"{one['start']}"]} for one in far], n=n)
        assert [s.suggestions[0] for e in found for s in e.stretches if s.score] == [f"{at}" for at in expected]


def test_an_excerpt_has_twelve_marks_and_three_suggestions_at_most() -> None:
    many = [span(at, at + 3) for at in range(400, 460, 4)]  # 15
    (found,) = excerpts(*many, n=15)
    assert [s.score for s in found.stretches].count(0.9) == 12
    # After the twelfth, at 444 to 447: to the end of the context, 456 + 3 + 90 = 549, in a word that begins at 548.
    assert found.stretches[-1] == Stretch(TEXT[447:547])
    given = {"suggestions": ["a", "b", "c", "d"], "probabilities": [0.4, 0.3, 0.2, 0.1]}
    (found,) = excerpts({**span(500, 503), **given})
    assert (found.stretches[1].suggestions, found.stretches[1].sure) == (("a", "b", "c"), (0.4, 0.3, 0.2))


def test_a_span_in_context() -> None:
    def cut(start: int, end: int, around: int) -> tuple[str, str, str]:
        return in_context(lambda s, e: TEXT[s:e], span(start, end), n_chars=len(TEXT), around=around)

    assert cut(500, 503, 10) == ("aaa aaa ", "aaa", " aaa aaa")  # without the "a" of a word at either end
    assert cut(0, 3, 10) == ("", "aaa", " aaa aaa")
    assert cut(996, 999, 10) == ("aaa aaa ", "aaa", " ")


def test_a_long_text_is_shortened_in_the_middle() -> None:
    text = "".join(chr(0x100 + n) for n in range(2000))
    assert shortened(text, 12) == f"{text[:8]}[… 1,989 characters …]{text[-3:]}"
    assert shortened(text[:12], 12) == text[:12]
    assert shortened(text[:13], 12) == f"{text[:8]}[… 2 characters …]{text[10:13]}"
