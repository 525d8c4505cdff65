"""The lexicon: hashes, features by hand, counting, merging, and the program."""

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_tiny_bundle, tiny_tokenizer

from rtdscan.pipeline.__main__ import PROGRAMS, main
from rtdscan.pipeline.detection.counting import WordCounts, count_words, merged
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.lexicon import (
    LEXICAL,
    Lexicon,
    lexical_features,
    piece_features,
)
from rtdscan.transforms.lexicon_file import read_counts, read_lexicon, write_lexicon
from rtdscan.transforms.word_hashes import character_table, folded, hash_strings, hash_words
from rtdscan.transforms.words import codepoints, cut_words

WORDS = st.text(st.sampled_from("aAbBcéÉß'’İı語0"), min_size=1, max_size=5)
NONE = np.zeros(0, dtype=np.int32)

hash_strings(["warm"])  # the table of characters is made once


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "lexicon", ("rtdscan.pipeline.lexicon", "word frequencies of a corpus"))


def features(text: str, lexicon: Lexicon | None, *names: str) -> dict[str, list[float]]:
    codes = codepoints(text)
    words = cut_words(codes, NONE)
    opening = np.arange(len(words)) == 0
    found = lexical_features(
        names, codes_C=codes, start_W=words.start_W, end_W=words.end_W, opening_W=opening, lexicon=lexicon
    )
    return {text[s:e]: row for s, e, row in zip(words.start_W, words.end_W, found.round(4).tolist(), strict=True)}


@given(st.lists(WORDS, min_size=1, max_size=20))
def test_hashes_are_equal_exactly_where_folded_words_are(words: list[str]) -> None:
    keys = hash_strings(words)
    for at, one in enumerate(words):
        for to, other in enumerate(words):
            assert (keys[at] == keys[to]) == (folded(one) == folded(other))


@given(st.text(max_size=30), st.lists(WORDS, min_size=1, max_size=4))
def test_a_hash_does_not_depend_on_where_the_word_stands(before: str, words: list[str]) -> None:
    text = before + " ".join(words)
    codes = codepoints(text)
    start = len(before) + np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    end = start + np.array([len(word) for word in words])
    assert hash_words(codes, start, end).tolist() == hash_strings(words).tolist()


def test_folding_of_words() -> None:
    assert folded("DON’T") == "don't"
    assert folded("Straße") == "straße"
    assert folded("İ") == "İ"
    lower = character_table().lower
    assert all(chr(lower[code]) == folded(chr(code)) for code in range(0x1F000))


def test_features_by_hand() -> None:
    lexicon = Lexicon.of(["the", "cat", "naïve"], np.array([98, 9, 0]), total=98)
    found = features("The the cat, Zzq naïve 3rd U2 NASA 42 iPhone! qat, Qat qats8", lexicon, *LEXICAL)
    names = list(LEXICAL)

    def value(word: str, name: str) -> float:
        return found[word][names.index(name)]

    assert value("The", "rarity") == value("the", "rarity") == pytest.approx(np.log(100 / 99), abs=1e-4)
    assert value("cat", "rarity") == pytest.approx(np.log(10), abs=1e-4)
    assert value("Zzq", "rarity") == pytest.approx(np.log(100), abs=1e-4)
    assert value("naïve", "rarity") == value("Zzq", "rarity")
    assert [word for word in found if value(word, "rarity_small")] == ["the", "cat", "naïve", "qat"]
    assert [word for word in found if value(word, "unlisted")] == ["Zzq", "NASA", "iPhone", "qat", "Qat"]
    assert [word for word in found if value(word, "title")] == ["The", "Zzq", "Qat"]
    assert [word for word in found if value(word, "upper")] == ["NASA"]
    assert [word for word in found if value(word, "digit")] == ["3rd", "U2", "42", "qats8"]
    assert [word for word in found if value(word, "mark")] == [",", "!"]
    assert [word for word in found if value(word, "non_ascii")] == ["naïve"]
    assert [word for word in found if value(word, "opening")] == ["The"]
    assert [word for word in found if value(word, "again")] == ["the"]
    assert [word for word in found if value(word, "slip")] == ["qat"]
    assert [word for word in found if value(word, "slip_title")] == ["Qat"]
    assert value("Qat", "slip_title") == value("qat", "slip"), "one slip away from cat, like it"
    assert not any(value(word, "seam") for word in found), "a list without pairs says nothing of them"
    assert value("qat", "slip") == pytest.approx(lexicon.slips.of("qat"), abs=1e-4)
    assert value("naïve", "length") == pytest.approx(np.log(5), abs=1e-4)
    assert value("3rd", "rarity") == 0.0


def test_shouted_words_are_words_in_small_letters() -> None:
    lexicon = Lexicon.of(["the", "received", "house"], np.array([98, 50, 60]), total=98)
    names = ("slip", "misspelt")
    found = features("I RECIEVED HOSUE; RECIEVED. a HOSUE A recieved Recieved THI OF HOSUES", lexicon, *names)
    told = {word: tuple(value > 0 for value in values) for word, values in found.items()}
    # The last of equal words is told here: HOSUE beside one capital, RECIEVED beside a full stop, THI with three.
    no, both, slip = (False, False), (True, True), (True, False)
    assert told["HOSUES"] == slip
    assert told["recieved"] == both
    assert told["Recieved"] == told["HOSUE"] == told["RECIEVED"] == told["THI"] == no
    found = features("I RECIEVED HOSUE", lexicon, *names)
    small = features("i recieved hosue", lexicon, *names)
    assert found["RECIEVED"] == small["recieved"] != [0.0, 0.0]
    assert found["HOSUE"] == small["hosue"] != [0.0, 0.0]
    codes = codepoints("HOSUE HOSUE")
    two = {"codes_C": codes, "start_W": np.array([0, 6]), "end_W": np.array([5, 11]), "lexicon": lexicon}
    assert lexical_features(["slip"], **two, opening_W=np.array([True, False])).all()
    assert not lexical_features(["slip"], **two, opening_W=np.array([True, True])).any(), "words of two texts"


def test_seams_by_hand() -> None:
    counts = {"myself": 79, "my": 90, "self": 20, "my self": 3, "into": 99, "in to": 29, "away": 9, "a way": 19}
    lexicon = Lexicon.of(list(counts), np.array(list(counts.values())), total=100)
    text = "My self, in to a way; my  self my\nself in my self to"
    codes = codepoints(text)
    words = cut_words(codes, NONE)
    given_ = {"codes_C": codes, "start_W": words.start_W, "end_W": words.end_W, "lexicon": lexicon}
    opening = np.arange(len(words)) == 0
    seam = lexical_features(["seam"], **given_, opening_W=opening)[:, 0]
    told = {at: round(value, 4) for at, value in enumerate(seam.tolist()) if value}
    my_self, in_to = round(math.log(80 / 4), 4), round(math.log(100 / 30), 4)
    # 0 1 My self; 3 4 in to; 5 6 a way, which is the more frequent; two spaces and a line's end part; 13 14 my self.
    assert told == {0: my_self, 1: my_self, 3: in_to, 4: in_to, 13: my_self, 14: my_self}
    opening[1] = True
    assert lexical_features(["seam"], **given_, opening_W=opening)[0] == 0.0, "words of two texts are no neighbours"


@given(st.lists(st.text(st.sampled_from("aB ,1é"), max_size=12), min_size=1, max_size=5))
def test_joined_texts_have_the_features_of_each(texts: list[str]) -> None:
    """To the bit: a word's features never depend on its neighbours in a unit."""
    lexicon = Lexicon.of(["a", "ab", "aé", "a b"], np.array([5, 2, 8, 1]), total=10)
    codes, start, end, opening, alone = [], [], [], [], []
    base, counts, bases = 0, [], []
    for text in texts:
        own = codepoints(text)
        words = cut_words(own, NONE)
        first = np.arange(len(words)) == 0
        given_ = {"codes_C": own, "start_W": words.start_W, "end_W": words.end_W, "opening_W": first}
        alone.append(lexical_features(LEXICAL, **given_, lexicon=lexicon))
        codes.append(own), opening.append(first), start.append(words.start_W + base), end.append(words.end_W + base)
        base += len(own)
        counts.append(len(words))
        bases.append(base - len(own))
    flat = {"codes_C": np.concatenate(codes), "start_W": np.concatenate(start), "end_W": np.concatenate(end)}
    together = lexical_features(LEXICAL, **flat, opening_W=np.concatenate(opening), lexicon=lexicon)
    assert together.tobytes() == np.concatenate(alone).tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.transforms.lexicon.BLOCK_CHARS", 7)
        pieces = piece_features(
            LEXICAL,
            codes_P=codes,
            first_char_P=list(range(len(texts))),
            words_P=np.array(counts),
            start_W=np.concatenate([s - b + at for at, (s, b) in enumerate(zip(start, bases, strict=True))]),
            end_W=np.concatenate([e - b + at for at, (e, b) in enumerate(zip(end, bases, strict=True))]),
            lexicon=lexicon,
        )
    assert pieces.tobytes() == together.tobytes()


def test_a_lexicon_is_needed_only_for_what_it_knows() -> None:
    assert features("Ab", None, "title", "again") == {"Ab": [1.0, 0.0]}
    with pytest.raises(ValueError, match="need a lexicon"):
        features("Ab", None, "rarity")
    empty = Lexicon.of([], np.zeros(0, np.int64), total=8)
    assert features("ab", empty, "rarity", "unlisted") == {"ab": [pytest.approx(np.log(10), abs=1e-4), 1.0]}


def test_a_lexicon_survives_its_file(tmp_path: Path) -> None:
    one, two = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_lexicon(["über", "a"], [3, 7], total=9, sink=one)
    write_lexicon(["a", "über"], [7, 3], total=9, sink=two)
    assert one.read_bytes() == two.read_bytes(), "the same counts, the same digest"
    lexicon, expected = read_lexicon(one), Lexicon.of(["a", "über"], np.array([7, 3]), total=9)
    assert lexicon.total == 9
    assert lexicon.key_E.tolist() == expected.key_E.tolist()
    assert lexicon.rarity_E.tolist() == expected.rarity_E.tolist()


def test_slips_of_listed_words_are_found_out_when_the_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.parquet"
    words = {"the": 80, "teh": 2, "cat": 30, "cot": 9}
    write_lexicon(words, words.values(), total=100, sink=path)
    text = "the teh cat cot caat Teh"
    looked_up = read_lexicon(path)
    met = Lexicon.of(list(words), np.array(list(words.values())), total=100)
    assert (looked_up.slip_E is not None, met.slip_E is None) == (True, True)
    found, expected = features(text, looked_up, "slip"), features(text, met, "slip")
    assert expected["teh"] > expected["the"] > [0.0]
    assert expected["Teh"] == [0.0]
    for word in expected:
        assert found[word] == pytest.approx(expected[word], rel=1e-3), "float16 in the file"


def test_what_is_no_lexicon_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    pq.write_table(pa.table({"word": ["a"], "documents": [1]}), tmp_path / "no-total")
    pq.write_table(pa.table({"words": ["a"]}).replace_schema_metadata({"documents": "3"}), tmp_path / "no-word")
    for name in ("junk", "no-total", "no-word", "missing"):
        with pytest.raises(UserError, match="lexicon"):
            read_lexicon(tmp_path / name)


@given(st.lists(st.text(st.sampled_from("abA '\n"), max_size=15), max_size=12))
def test_counting_is_that_of_a_loop(texts: list[str]) -> None:
    expected: Counter[str] = Counter()
    for text in texts:
        words = cut_words(codepoints(text), NONE)
        spans = zip(words.start_W.tolist(), words.end_W.tolist(), strict=True)
        expected.update({folded(text[s:e]) for s, e in spans if any(c.isalpha() for c in text[s:e])})
    counts = count_words([texts[:5], texts[5:]], tokenizer=tiny_tokenizer(), memory_words=1000)
    words, documents = counts.most_frequent(100, least=1)
    assert dict(zip(words, documents.tolist(), strict=True)) == dict(expected)
    assert counts.documents == len(texts)
    assert documents.tolist() == sorted(documents.tolist(), reverse=True)


@given(st.lists(st.text(st.sampled_from("abA '\n"), max_size=15), max_size=12))
def test_counting_pairs_is_that_of_a_loop(texts: list[str]) -> None:
    listed = ["ab", "aa", "a'b", "bab"]
    expected: Counter[str] = Counter()
    for text in texts:
        words = cut_words(codepoints(text), NONE)
        spans = list(zip(words.start_W.tolist(), words.end_W.tolist(), strict=True))
        pairs = {text[a:d] for (a, b), (c, d) in pairwise(spans) if text[b:c] == " "}
        expected.update({folded(pair) for pair in pairs if folded(pair.replace(" ", "")) in listed})
    batches = [texts[:5], texts[5:]]
    counts = count_words(batches, tokenizer=tiny_tokenizer(), memory_words=1000, written_as_one=listed)
    words_, documents = counts.most_frequent(100, least=1)
    assert dict(zip(words_, documents.tolist(), strict=True)) == dict(expected)


def test_words_of_scripts_without_spaces_are_those_of_the_scan() -> None:
    texts = ["plain “quoted” text", "我们学校 and 中国", "我是学生"]
    tokenizer = tiny_tokenizer()
    expected: Counter[str] = Counter()
    for text in texts:
        starts = np.array([start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets], np.int32)
        words = cut_words(codepoints(text), starts)
        spans = zip(words.start_W.tolist(), words.end_W.tolist(), strict=True)
        expected.update({text[s:e] for s, e in spans if text[s:e].isalpha()})
    counts = count_words([texts], tokenizer=tokenizer, memory_words=1000)
    words, documents = counts.most_frequent(100, least=1)
    assert dict(zip(words, documents.tolist(), strict=True)) == dict(expected)
    assert expected["我"] == 2


def test_memory_is_bounded_and_frequent_words_survive() -> None:
    counts = WordCounts(memory_words=1000)
    for batch in range(30):
        counts.add(
            [f"always here {' '.join(_letters(200 * batch + at) for at in range(200))}"], tokenizer=tiny_tokenizer()
        )
        assert len(counts._count) <= 1000
        assert len(counts._word) == len(counts._count)
    words, documents = counts.most_frequent(2, least=1)
    assert words == ["always", "here"]
    assert counts.forgotten >= 1
    assert 30 - counts.forgotten <= documents.min() <= 30


def test_no_count_is_too_low_by_more_than_was_forgotten() -> None:
    """A word that came late was dropped again and again: 172 documents too low where 26 were promised."""
    rng = np.random.default_rng(0)
    counts, true = WordCounts(memory_words=200), Counter[str]()
    for batch in range(150):
        texts = []
        for at in range(10):
            words = {_letters(int(number)) for number in 40 * batch + rng.integers(80, size=8)}
            words |= {"late"} if batch >= 60 and at % 5 == 0 else set()
            words |= {"seldom"} if batch % 10 == 3 and at == 7 else set()
            true.update(words)
            texts.append(" ".join(sorted(words)))
        counts.add(texts, tokenizer=tiny_tokenizer())
    words, documents = counts.most_frequent(100_000, least=1)
    found = dict(zip(words, documents.tolist(), strict=True))
    assert len(counts._missed) <= len(counts._count) <= 200
    assert counts.forgotten >= 8
    assert max(true[word] - found.get(word, 0) for word in true) <= counts.forgotten
    assert all(found[word] <= true[word] for word in found)
    assert found["late"] > 100


def _letters(number: int) -> str:
    return "q" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


def test_of_two_lists_the_larger_share_counts() -> None:
    words, documents = merged(
        ["acme", "the", "rare"], np.array([5, 1, 1]), total=10,
        old=["the", "cat"], old_documents=np.array([900, 30]), old_total=1000,
    )  # fmt: skip
    assert dict(zip(words, documents.tolist(), strict=True)) == {"the": 900, "cat": 30, "acme": 500, "rare": 100}


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    texts = [f"the Acme house {_letters(at)}" for at in range(12)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "corpus.parquet")
    return str(tmp_path / "corpus.parquet")


def test_the_program_makes_a_file(tmp_path: Path, corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "own.parquet"
    assert main(["lexicon", corpus, str(output), "--alone", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["words"] == 3
    table, total = read_counts(output)
    assert total == 12
    assert table.to_pylist() == [{"word": w, "documents": 12, "slip": 0.0} for w in ("acme", "house", "the")]


def test_the_program_counts_what_is_written_as_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["Myself, I see my self"] * 6 + ["myself"] * 4 + ["in my self-made house"] * 2
    pq.write_table(pa.table({"text": texts}), tmp_path / "corpus.parquet")
    output = tmp_path / "own.parquet"
    assert main(["lexicon", str(tmp_path / "corpus.parquet"), str(output), "--alone", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["words"], told["listed"], told["pairs"]) == (5, 5, 1)
    table, _ = read_counts(output)
    assert dict(zip(table["word"].to_pylist(), table["documents"].to_pylist(), strict=True)) == {
        "i": 6, "my": 8, "my self": 8, "myself": 10, "see": 6, "self": 8,
    }  # fmt: skip


def test_the_program_makes_a_bundle(tmp_path: Path, corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_bundle(tmp_path / "model")
    write_lexicon(["the", "cat"], [60, 6], total=60, sink=model / "lexicon.parquet")
    before = load_bundle(str(model))
    assert main(["lexicon", corpus, str(tmp_path / "new"), "--model", str(model)]) == 0
    told = capsys.readouterr()
    assert "4 words; 3 are in 5 or more of 12 documents" in told.out
    assert "rtdscan calibrate" in told.err
    after = load_bundle(str(tmp_path / "new"))
    assert after.digest != before.digest, "a lexicon changes scores"
    table, total = read_counts(after.path / "lexicon.parquet")
    assert total == 60
    assert dict(zip(*(table[name].to_pylist() for name in ("word", "documents")), strict=True)) == {
        "the": 60, "cat": 6, "acme": 60, "house": 60,
    }  # fmt: skip
    assert "## Lexicon" in (after.path / "README.md").read_text()
    assert main(["lexicon", corpus, str(tmp_path / "alone"), "--model", str(model), "--alone"]) == 0
    assert read_counts(tmp_path / "alone" / "lexicon.parquet")[1] == 12


def test_what_a_corpus_or_memory_does_not_give_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three texts gave a lexicon without a word of them, too little memory one with wrong counts, both in silence."""
    output = str(tmp_path / "own.parquet")
    pq.write_table(pa.table({"text": ["the Acme house"] * 3}), tmp_path / "few.parquet")
    assert main(["lexicon", str(tmp_path / "few.parquet"), output, "--alone"]) == 0
    told = capsys.readouterr().err
    assert "no word is in 5 or more of the 3 documents" in told
    assert "too low" not in told
    texts = [" ".join(["always", *(_letters(20 * at + word) for word in range(20))]) for at in range(100)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "many.parquet", row_group_size=20)
    args = ["lexicon", str(tmp_path / "many.parquet"), output, "--alone", "--json"]
    for least, missing in ((1, True), (1000, False)):
        assert main([*args, "--set", "memory_words=1000", "--set", f"least={least}"]) == 0
        found = capsys.readouterr()
        assert json.loads(found.out)["forgotten"] > 0
        assert "counts may be too low by up to" in found.err
        assert ("may be missing" in found.err) == missing
    assert main([*args]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)["forgotten"] == 0
    assert "warning" not in found.err


def test_the_program_refuses(tmp_path: Path, corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(make_tiny_bundle(tmp_path / "model"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for args, word in (
        ([corpus], "expected INPUT and OUTPUT"),
        ([corpus, str(tmp_path / "full")], "is there already"),
        ([corpus, str(tmp_path / "no" / "new")], "does not exist"),
        ([str(tmp_path / "nothing"), str(tmp_path / "new")], "nothing"),
        ([corpus, str(tmp_path / "new"), "--set", "least=0"], "least"),
    ):
        assert main(["lexicon", *args, "--model", model]) == 2
        assert word in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_file_of_the_corpus_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lexicon data/*.parquet` without OUTPUT: the last file of the corpus stood in its place."""
    model = str(make_tiny_bundle(tmp_path / "model"))
    (tmp_path / "data").mkdir()
    files = [str(tmp_path / "data" / f"{name}.parquet") for name in "abc"]
    for name in files:
        pq.write_table(pa.table({"id": [1, 2], "text": ["precious corpus", "row two"]}), name)
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    pq.write_table(pa.table({"word": ["a"], "documents": [1]}), tmp_path / "lists.parquet")
    (tmp_path / "link.parquet").symlink_to(files[2])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    own, folder = ["--model", model, "--alone", "--set", "least=1"], str(tmp_path / "data")
    for paths, word in (
        (files, "is not a lexicon (its columns: id, text)"),
        ([folder, files[2]], "is one of the files to be counted"),
        ([f"{folder}/*.parquet", f"{folder}/../data/c.parquet"], "is one of the files to be counted"),
        ([folder, str(tmp_path / "link.parquet")], "is one of the files to be counted"),
        ([folder, str(tmp_path / "junk.parquet")], "is not a lexicon"),
        ([folder, str(tmp_path / "lists.parquet")], "is not a lexicon"),
    ):
        assert main(["lexicon", *paths, *own]) == 2, paths
        told = capsys.readouterr().err
        assert word in told
        assert "name OUTPUT after the inputs" in told
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before
    for _ in range(2):  # a lexicon may take a lexicon's place
        assert main(["lexicon", *files, str(tmp_path / "own.parquet"), *own]) == 0
    assert main(["lexicon", str(tmp_path / "own.parquet"), str(tmp_path / "own.parquet"), *own]) == 2
