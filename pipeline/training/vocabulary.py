"""A WordPiece vocabulary from texts of any language, the same for the same texts.

The trainer for WordPiece in `tokenizers` numbers its `##` letters in the order of a hash map, so ties between merges
break differently in each process (seen with 0.23: four runs, four vocabularies). The one for byte-pair encoding without
a prefix for continuations has no such order. So words get a mark in front, pairs are merged, and pieces without the
mark become `##` pieces: the same algorithm, deterministic.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MARK = "\u2581"


def train_vocabulary(texts: Iterable[str], *, size: int, lower_case: bool, alphabet: int) -> Tokenizer:
    """Train a tokenizer as of BERT.

    Args:
        texts: The corpus, or a sample of it.
        size: Pieces at most, special ones included.
        lower_case: Fold case and accents.
        alphabet: Characters that get pieces at most, the most frequent. Han characters are words of their own.

    Returns:
        A tokenizer with [CLS] … [SEP] around a text, truncation and padding off.
    """
    normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    words = pre_tokenizers.BertPreTokenizer()
    pairs = Tokenizer(models.BPE())
    pairs.normalizer = normalizers.Sequence([normalizers.Replace(_MARK, " "), normalizer])
    pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme="always", split=False)]
    )
    # Fewer than `size` of its pieces become pieces twice or not at all; what is too many is cut below.
    trainer = trainers.BpeTrainer(
        vocab_size=size * 2, limit_alphabet=alphabet + 1, min_frequency=2, show_progress=False
    )
    pairs.train_from_iterator(texts, trainer)
    found = sorted(pairs.get_vocab().items(), key=lambda item: item[1])
    pieces = dict.fromkeys(SPECIAL)
    letters = [piece for piece, _ in found if len(piece) == 1 and piece != _MARK]
    pieces |= dict.fromkeys(letters)
    pieces |= dict.fromkeys(f"##{letter}" for letter in letters if _continues(letter, normalizer, words))
    pieces |= dict.fromkeys(
        piece[1:] if piece.startswith(_MARK) else f"##{piece}" for piece, _ in found if len(piece) > 1
    )
    return bert_tokenizer(list(pieces)[: max(size, len(SPECIAL))], lower_case=lower_case)


def _continues(letter: str, normalizer: normalizers.Normalizer, words: pre_tokenizers.PreTokenizer) -> bool:
    """Whether the character can stand inside a word: Han characters and punctuation are always alone."""
    return len(words.pre_tokenize_str(normalizer.normalize_str(f"a{letter}"))) == 1


def bert_tokenizer(pieces: list[str], *, lower_case: bool) -> Tokenizer:
    """The tokenizer of BERT and ELECTRA with these pieces; their place is their id."""
    ids = {piece: at for at, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return tokenizer
