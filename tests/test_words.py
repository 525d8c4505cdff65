import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from rtdscan.transforms.words import codepoints, cut_words, is_damage, sentence_ends, token_words

NASTY = [
    *"aZéß0 9'’.,:_-!?\"()$ \n\t",
    "\r\n",
    "\u0301",  # combining acute
    "\u0307",
    "\u00a0",
    "\u2028",
    "\u3000",
    "\x00",
    "\x7f",
    "\ufffd",
    "\ue000",  # private use
    "\u0378",  # unassigned
    "\ud800",  # lone surrogates
    "\udfff",
    "\u200b",
    "\ufeff",
    "\u200f",
    "\u00ad",
    "\u200d",
    "\ufe0f",
    *"שלום",
    *"مرحبا",
    *"你好。！世界",
    *"สวัสดีครับ",
    *"ひらカー",
    *"안녕",
    *"👩👍🏽🇩🇪❤⚡",
    "\u20e3",
]
texts = st.one_of(
    st.lists(st.sampled_from(NASTY), max_size=40).map("".join), st.text(st.characters(exclude_categories=()))
)


def starts(at: list[int]) -> np.ndarray:
    return np.array(at, dtype=np.int32)


def cut(text: str, tokens: list[int] | None = None) -> list[str]:
    words = cut_words(codepoints(text), starts(tokens or []))
    return [text[start:end] for start, end in zip(words.start_W.tolist(), words.end_W.tolist(), strict=True)]


def is_invisible(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or unicodedata.name(char, "").startswith(
        ("VARIATION SELECTOR", "COMBINING GRAPHEME JOINER")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \r\n\u2028\u00a0", []),
        ("Don't pay $3.14!", ["Don't", "pay", "$", "3.14", "!"]),
        ("rock’n’roll 'tis dogs' 'quoted'", ["rock’n’roll", "'", "tis", "dogs", "'", "'", "quoted", "'"]),
        ("1,000 at 10:30, 1.2.3 x.y 5'6", ["1,000", "at", "10:30", ",", "1.2.3", "x", ".", "y", "5", "'", "6"]),
        ("foo_bar a__b _emphasis_ __", ["foo_bar", "a__b", "_", "emphasis", "_", "_", "_"]),
        ("ok... m²", ["ok", ".", ".", ".", "m²"]),
        ("ab\x00cd caf\ufffd \ufffd's caf\ufffd's", ["ab\x00cd", "caf\ufffd", "\ufffd", "'", "s", "caf\ufffd's"]),
        ("\x00 . \ue000 \ud800 x\udc00y \u0378", ["\x00", ".", "\ue000", "\ud800", "x\udc00y", "\u0378"]),
        ("!\x00!", ["!", "\x00", "!"]),
        ("\u200b \ufeffBOM hel\u200blo \u200f. so\u00adft", ["\ufeffBOM", "hel\u200blo", ".", "so\u00adft"]),
        ("cafe\u0301's !\u0301 \u0301a", ["cafe\u0301's", "!\u0301", "\u0301a"]),
        (
            "hi👍🏽👍 👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3",
            ["hi", "👍🏽", "👍", "👩\u200d👩\u200d👧", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3"],
        ),
        ("🇩🇪🇫🇷🇩 🇪", ["🇩🇪", "🇫🇷", "🇩", "🇪"]),
        ("שלום, עולם", ["שלום", ",", "עולם"]),
        ("مَرْحَبًا ٣٫١٤؟", ["مَرْحَبًا", "٣٫١٤", "؟"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        ("a\r\nb\tc", ["a", "b", "c"]),
    ],
)
def test_words_of_spaced_scripts(text: str, expected: list[str]) -> None:
    assert cut(text) == expected
    assert cut(text, list(range(len(text)))) == expected  # tokens have no say here


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("我爱NLP和2024年。", [0, 1, 2, 5, 6, 10, 11], ["我", "爱", "NLP", "和", "2024", "年", "。"]),
        ("我们爱", [0, 2], ["我们", "爱"]),
        ("我们爱", [], ["我们爱"]),
        ("\ufffd我们", [1, 2], ["\ufffd", "我", "们"]),  # what comes before the first token is not lost
        ("我\ufffd们", [0, 2], ["我\ufffd", "们"]),
        ("สวัสดีครับ abc", [0, 3, 6, 11], ["สวั", "สดี", "ครับ", "abc"]),
        ("ดี", [0, 1], ["ดี"]),  # a token that starts at a mark does not tear it off
        ("カタカナ語", [0, 4], ["カタカナ", "語"]),
        (" 你好", [0, 2], ["你", "好"]),  # a token that starts at white space
    ],
)
def test_words_of_scripts_without_spaces_are_cut_at_tokens(text: str, tokens: list[int], expected: list[str]) -> None:
    assert cut(text, tokens) == expected


@given(texts, st.lists(st.integers(0, 60), max_size=10))
def test_words_are_disjoint_without_white_space_and_lose_nothing(text: str, tokens: list[int]) -> None:
    words = cut_words(codepoints(text), starts(sorted(tokens)))
    assert words.start_W.dtype == words.end_W.dtype == np.int32
    assert (words.start_W < words.end_W).all()
    assert (words.end_W[:-1] <= words.start_W[1:]).all()
    covered = set()
    for start, end in zip(words.start_W.tolist(), words.end_W.tolist(), strict=True):
        assert not any(char.isspace() for char in text[start:end])
        assert not all(is_invisible(char) for char in text[start:end])
        covered.update(range(start, end))
    assert all(at in covered or char.isspace() or is_invisible(char) for at, char in enumerate(text))


@given(texts, texts)
def test_words_do_not_depend_on_what_is_beyond_white_space(left: str, right: str) -> None:
    assert cut(f"{left}\n{right}") == cut(left) + cut(right)


@given(texts)
def test_a_word_alone_is_the_same_word(text: str) -> None:
    for word in cut(text):
        assert cut(word) == [word]


def test_a_long_word_is_one_word() -> None:
    text = "a" * 10_000 + " " + "字" * 10_000
    assert [len(word) for word in cut(text)] == [10_000, 10_000]
    assert len(cut(text, list(range(20_001)))) == 10_001


def test_codepoints_are_string_offsets() -> None:
    text = "a\ud83d👍\U0010ffff"  # a lone high surrogate before a pair's worth
    assert codepoints(text).tolist() == [ord(char) for char in text]


@given(texts)
def test_damage_is_what_no_text_should_hold(text: str) -> None:
    assert is_damage(codepoints("é²😀ー\u200b\n")).tolist() == [False] * 6
    assert is_damage(codepoints("\x00\ufffd\ue000\ud800\x9d\uffff")).all()
    damage = is_damage(codepoints(text))
    for char, damaged in zip(text, damage.tolist(), strict=True):
        assert damaged <= (unicodedata.category(char) in ("Cc", "Cn", "Co", "Cs") or char == "\ufffd")


@given(texts, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=15))
def test_tokens_belong_to_the_words_they_share_a_character_with(text: str, tokens: list[tuple[int, int]]) -> None:
    spans = [(min(start, len(text)), min(start + size, len(text))) for start, size in sorted(tokens)]
    start_T, end_T = starts([s for s, _ in spans]), starts([e for _, e in spans])
    codes = codepoints(text)
    words = cut_words(codes, start_T)
    token_P, word_P = token_words(words, start_T, end_T, codes)
    expected = [
        (t, w)
        for t, (start, end) in enumerate(spans)
        for w, (first, past) in enumerate(zip(words.start_W.tolist(), words.end_W.tolist(), strict=True))
        if max(start, first) < min(end, past)
    ]
    assert list(zip(token_P.tolist(), word_P.tolist(), strict=True)) == expected


def wordpiece() -> Tokenizer:
    pieces = [
        "[UNK]",
        *"abcdefghijklmnopqrstuvwxyz0123456789'.,:_!?$",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
    ]
    vocabulary = {piece: at for at, piece in enumerate([*pieces, "don", "##ing", "你", "好"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["don't stop walking, the word is in 你好 there"] * 20, trainer)
    return tokenizer


TOKENIZERS = {"wordpiece": wordpiece(), "byte_level": byte_level()}


def pairs(tokenizer: Tokenizer, text: str) -> tuple[list[str], list[tuple[str, str]]]:
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    start_T, end_T = starts([s for s, _ in offsets]), starts([e for _, e in offsets])
    codes = codepoints(text)
    words = cut_words(codes, start_T)
    token_P, word_P = token_words(words, start_T, end_T, codes)
    word_of = [text[s:e] for s, e in zip(words.start_W.tolist(), words.end_W.tolist(), strict=True)]
    return word_of, [(text[slice(*offsets[t])], word_of[w]) for t, w in zip(token_P, word_P, strict=True)]


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_pieces_of_real_tokenizers_lie_inside_their_words(name: str) -> None:
    text = "Don't stop wàlking,  the ca\x00t 3.14 你好 e\u0301te\u0301\r\nfoo_bar!"
    words, found = pairs(TOKENIZERS[name], text)
    assert {"Don't", "wàlking", "ca\x00t", "3.14", "e\u0301te\u0301", "foo_bar"} <= set(words)
    assert {word for _, word in found} == set(words)
    assert all(piece.strip() in word for piece, word in found)
    assert any(piece != word for piece, word in found)


@given(
    st.lists(st.sampled_from([*"abz09'.,:_!?$ \n", "é", "don't", "你", "好", "\x00", "\ufffd"]), max_size=30).map(
        "".join
    )
)
def test_every_piece_of_a_real_tokenizer_finds_its_word(text: str) -> None:
    for name, tokenizer in TOKENIZERS.items():
        words, found = pairs(tokenizer, text)
        deleted = {word for word in words if is_damage(codepoints(word)).all()}
        assert {word for _, word in found} >= set(words) - deleted
        if name == "wordpiece":  # byte-level pieces may hold several marks, as in "!?"
            assert all(piece in word for piece, word in found)


@pytest.mark.parametrize(
    ("text", "marked"),  # ends of sentences are followed by | in the text
    [
        ('He said "no."| Then (yes.)| ok...| 3.14 e.g|\n', None),
        ("Really?!| No: x.y is fine.|", None),
        ("line|  \r\n\r\n  next line|\nlast", None),
        ("\n\n", None),
        ("他说：“好。”|你好！！|吗？|好", None),
        ("„Nein.“| Doch.|", None),
        ("好。|“好”", None),
        ("...", [2]),
        ("", []),
    ],
)
def test_sentence_ends(text: str, marked: list[int] | None) -> None:
    if marked is None:
        parts = text.split("|")
        marked = (np.cumsum([len(part) for part in parts[:-1]]) - 1).tolist()
    assert np.flatnonzero(sentence_ends(codepoints(text.replace("|", "")))).tolist() == marked


@given(texts)
def test_sentences_end_at_visible_characters(text: str) -> None:
    end_C = sentence_ends(codepoints(text))
    assert len(end_C) == len(text)
    assert not any(text[at].isspace() for at in np.flatnonzero(end_C))
