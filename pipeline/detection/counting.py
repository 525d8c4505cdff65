"""A corpus -> in how many of its documents each word occurs; streaming, in bounded memory.

Shapes: C characters, W words, D documents of a batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rtdscan.transforms.lexicon import neighbours, spelled
from rtdscan.transforms.word_hashes import Hashes, folded, hash_strings
from rtdscan.transforms.words import codepoints, cut_words

_FIRST_UNSPACED = 0x0E00
"""Scripts without spaces (Thai, Chinese, …) lie above."""


@dataclass
class WordCounts:
    """Documents by word.

    Attributes:
        memory_words: Words to hold at once. When there are more, `forgotten` is raised by one, and those that can't be
            in more documents than that are dropped: their count and what was forgotten before it began (lossy counting,
            G. Manku and R. Motwani, 2002). No count, 0 included, is too low by more than `forgotten`.
        joined_E: Hashes of words, ascending: count two words with a space between that are one of these when written as
            one, and nothing else. None: count words.
        documents: Documents counted.
        forgotten: See above.
    """

    memory_words: int
    joined_E: NDArray[np.uint64] | None = None
    documents: int = 0
    forgotten: int = 0
    _count: dict[int, int] = field(default_factory=dict)
    _word: dict[int, str] = field(default_factory=dict)
    _missed: dict[int, int] = field(default_factory=dict)  # `forgotten` when the word came, where above 0

    def add(self, texts: Sequence[str], *, tokenizer: Tokenizer) -> None:
        """Count the words of texts, each once a text.

        Args:
            texts: Documents.
            tokenizer: Cuts words where a script has no spaces, as in a scan.
        """
        joined = "\n".join(texts)  # no word reaches over white space
        codes_C = codepoints(joined)
        words = cut_words(codes_C, _token_starts(texts, codes_C, tokenizer))
        kept_W = spelled(codes_C, words.start_W, words.end_W)
        start_W, end_W = words.start_W[kept_W], words.end_W[kept_W]
        hashes = Hashes.of(codes_C)
        if self.joined_E is not None:
            left = neighbours(codes_C, start_W, end_W)
            as_one = hashes.joined(start_W[left], end_W[left], start_W[left + 1], end_W[left + 1])
            left = left[np.isin(as_one, self.joined_E)]
            start_W, end_W = start_W[left], end_W[left + 1]
        key_W = hashes.words(start_W, end_W)
        length_D = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        document_W = np.searchsorted(np.cumsum(length_D + 1), start_W, side="right")
        order = np.lexsort((document_W, key_W))
        key, document = key_W[order], document_W[order]
        fresh = np.ones(len(key), dtype=bool)
        fresh[1:] = (key[1:] != key[:-1]) | (document[1:] != document[:-1])
        keys, at, counts = np.unique(key[fresh], return_index=True, return_counts=True)
        first = order[fresh][at]
        for key_, count, word in zip(keys.tolist(), counts.tolist(), first.tolist(), strict=True):
            if key_ in self._count:
                self._count[key_] += count
            else:
                self._count[key_] = count
                self._word[key_] = joined[start_W[word] : end_W[word]]
                if self.forgotten:
                    self._missed[key_] = self.forgotten
        self.documents += len(texts)
        while len(self._count) > self.memory_words:
            self._forget()

    def most_frequent(self, words: int, *, least: int) -> tuple[list[str], NDArray[np.int64]]:
        """The words of most documents, at least `least`, and how many documents each is in."""
        ranked = sorted(
            ((-count, folded(self._word[key])) for key, count in self._count.items() if count >= least),
        )[:words]
        return [word for _, word in ranked], np.array([-count for count, _ in ranked], dtype=np.int64)

    def _forget(self) -> None:
        self.forgotten += 1
        missed = self._missed
        self._count = {key: count for key, count in self._count.items() if count + missed.get(key, 0) > self.forgotten}
        self._word = {key: self._word[key] for key in self._count}
        self._missed = {key: documents for key, documents in missed.items() if key in self._count}


def count_words(
    batches: Iterable[Sequence[str]],
    *,
    tokenizer: Tokenizer,
    memory_words: int,
    written_as_one: Sequence[str] | None = None,
) -> WordCounts:
    """Count the words of a corpus.

    Args:
        batches: Its texts.
        tokenizer: See `WordCounts.add`.
        memory_words: Bound of memory, about 250 bytes a word.
        written_as_one: Count where the corpus writes one of these as two words, and nothing else.
    """
    joined_E = None if written_as_one is None else np.unique(hash_strings(written_as_one))
    counts = WordCounts(memory_words, joined_E)
    for texts in batches:
        if texts:
            counts.add(texts, tokenizer=tokenizer)
    return counts


def merged(
    words: Sequence[str],
    documents_W: NDArray[np.int64],
    *,
    total: int,
    old: Sequence[str],
    old_documents: NDArray[np.int64],
    old_total: int,
) -> tuple[list[str], NDArray[np.int64]]:
    """Two lists as one: of each word the larger share of documents, in documents of `old_total`.

    A name that recurs in a corpus is then as little surprising as its corpus makes it, and the rest of the language
    stays as the larger list has it.
    """
    found = dict(zip(old, old_documents.tolist(), strict=True))
    for word, documents in zip(words, documents_W.tolist(), strict=True):
        scaled = max(1, round(documents / total * old_total))
        found[word] = max(found.get(word, 0), scaled)
    return list(found), np.array(list(found.values()), dtype=np.int64)


def _token_starts(texts: Sequence[str], codes_C: NDArray[np.uint32], tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Where tokens start; asked only where words depend on it."""
    none = np.zeros(0, dtype=np.int32)
    if not len(codes_C) or int(codes_C.max()) < _FIRST_UNSPACED:
        return none
    every = np.arange(len(codes_C), dtype=np.int32)
    cut = np.setdiff1d(cut_words(codes_C, every).start_W, cut_words(codes_C, none).start_W, assume_unique=True)
    past_D = np.cumsum([len(text) + 1 for text in texts])
    # Few texts hold a script without spaces, and tokenising costs more than all the rest.
    these = np.unique(np.searchsorted(past_D, cut, side="right")).tolist()
    encodings = tokenizer.encode_batch([texts[at] for at in these], add_special_tokens=False)
    starts = [
        start + int(past_D[at]) - len(texts[at]) - 1
        for at, encoding in zip(these, encodings, strict=True)
        for start, _ in encoding.offsets
    ]
    return np.array(starts, dtype=np.int32)
