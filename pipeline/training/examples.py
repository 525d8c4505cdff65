"""Texts -> windows -> batches of arrays, with noise and masks. Plain numpy: it runs beside the network, in threads or
processes, and every number follows from the texts and the seed.

A window is cut as a scan cuts it: it never crosses documents and ends at the end of a sentence where there is one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rtdscan.pipeline.training.settings import PretrainConfig
from rtdscan.transforms.corruption.mixture import Mixture
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import MixtureSettings
from rtdscan.transforms.windows import cut_windows, split_pieces, token_boundaries
from rtdscan.transforms.words import codepoints

Ints = NDArray[np.int32]
Flags = NDArray[np.bool_]

STATIC_ROWS = 16
"""From so many windows on, the number of noisy ones in a batch is rounded, not drawn: few shapes to compile for."""

SHORTEST = 5
"""Pieces of the shortest of the short windows, as in ELECTRA's build_pretraining_dataset.py."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes batches of windows, besides texts and seed; picklable.

    Attributes:
        tokenizer: The tokenizer as JSON.
        window, batch_tokens, pad_to, short: See FeedSettings.
        masked, as_mask, corrupted: See ObjectiveSettings.
        taught: Share of the windows shown to the teacher; 0: no teacher.
        mixture: How windows are damaged.
    """

    tokenizer: str
    window: int
    batch_tokens: int
    pad_to: int
    short: float
    masked: float
    as_mask: float
    corrupted: float
    taught: float
    mixture: MixtureSettings


def recipe_of(config: PretrainConfig, tokenizer: Tokenizer) -> Recipe:
    """What the feed has to know of the options."""
    feed, objective = config.feed, config.objective
    return Recipe(
        tokenizer=tokenizer.to_str(),
        window=feed.window,
        batch_tokens=feed.batch_tokens,
        pad_to=feed.pad_to,
        short=feed.short,
        masked=objective.masked,
        as_mask=objective.as_mask,
        # A generator alone learns from clean windows only.
        corrupted=objective.corrupted if objective.discriminator else 0.0,
        taught=objective.distil_share if objective.distil and objective.discriminator else 0.0,
        mixture=config.corruption,
    )


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one document: its pieces (special ones not among them) and its text."""

    ids: Ints
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one step (or a part of one). The first K of B windows are noisy, G = B - K follow.

    Attributes:
        ids_BT: Pieces with [CLS] … [SEP], then padding; noisy windows are damaged already, the others clean.
        lengths_B: Pieces of each, special ones included.
        labels_BT: 1 does not belong, 0 belongs; -1: not counted (special pieces and padding). 0 in clean windows.
        picks_GN: Positions that the generator fills in; 0 where there are fewer.
        picked_GN: Which of them count.
        hidden_GN: Which of them it sees as [MASK].
        taught_R: Windows that are shown to the teacher.
        clean_RT, clean_lengths_R: Those windows before any damage.
    """

    ids_BT: Ints
    lengths_B: Ints
    labels_BT: NDArray[np.int8]
    picks_GN: Ints
    picked_GN: Flags
    hidden_GN: Flags
    taught_R: Ints
    clean_RT: Ints
    clean_lengths_R: Ints

    @property
    def noisy(self) -> int:
        """K."""
        return len(self.ids_BT) - len(self.picks_GN)


class Maker:
    """Makes windows and batches by a recipe; holds the tokenizer."""

    def __init__(self, recipe: Recipe) -> None:
        """Load the tokenizer."""
        self.recipe = recipe
        self.tokenizer = Tokenizer.from_str(recipe.tokenizer)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True  # as in a scan
        self._cls, self._sep, self._pad = (special_id(self.tokenizer, name) for name in ("CLS", "SEP", "PAD"))
        self._mixture = Mixture(recipe.mixture)

    def windows(self, texts: Sequence[str], rng: np.random.Generator) -> list[Window]:
        """All windows of some documents, in order. Every piece of every document is in exactly one."""
        size = self.recipe.window - 2
        short_D = rng.random(len(texts)) < self.recipe.short
        size_D = np.where(short_D, rng.integers(min(SHORTEST, size), size + 1, len(texts)), size)
        windows: list[Window] = []
        for pieces in _groups(texts):
            encoded = self.tokenizer.encode_batch([text for _, text in pieces], add_special_tokens=False)
            for (document, text), encoding in zip(pieces, encoded, strict=True):
                ids_T = np.array(encoding.ids, dtype=np.int32)
                if len(ids_T):
                    offsets_T2 = np.array(encoding.offsets, dtype=np.int32)
                    windows += _cut(text, ids_T, offsets_T2, size=int(size_D[document]))
        return windows

    def arrange(self, windows: Sequence[Window], rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Which windows make which batch: about equal lengths together, as many as the budget holds, in random order.

        The budget is for windows as they are; what damage adds is known only once a batch is made. On English prose
        batches end up 8 % above it on average, those of full windows never: their width is the window.

        Returns:
            Numbers of windows, a batch each; every window is in exactly one.
        """
        pad_to, budget = self.recipe.pad_to, self.recipe.batch_tokens
        order_W = rng.permutation(len(windows))
        padded_W = np.array([padded(len(windows[at].ids) + 2, pad_to) for at in order_W.tolist()], dtype=np.int64)
        longest_first_W = np.argsort(-padded_W, kind="stable")
        batches = []
        start = 0
        while start < len(windows):
            rows = max(1, budget // int(padded_W[longest_first_W[start]]))
            batches.append(order_W[longest_first_W[start : start + rows]])
            start += rows
        return [batches[at] for at in rng.permutation(len(batches)).tolist()]

    def batch(self, windows: Sequence[Window], *, seed: int, number: int) -> Batch:
        """A batch of these windows; `seed` and `number`, the batch's own, decide all that is random in it."""
        rng = np.random.default_rng((seed, number))
        rows = [windows[at] for at in rng.permutation(len(windows)).tolist()]
        share = 0.5 if len(rows) >= STATIC_ROWS else float(rng.random())
        noisy = int(self.recipe.corrupted * len(rows) + share)
        longest = max(len(row.ids) for row in rows) + 2
        # Damage makes windows longer. Cutting them at the batch's width would teach that a missing end means damage, so
        # there is room; and what needs more ends where a scan would end it, at the end of a sentence.
        room = min(self.recipe.window, longest + longest // 4 + self.recipe.pad_to)
        ids, labels = self._damaged(rows[:noisy], size=room - 2, seed=seed, number=number)
        ids += [row.ids for row in rows[noisy:]]
        labels += [np.zeros(len(row.ids), dtype=np.int8) for row in rows[noisy:]]
        width = padded(max(longest, *(len(row) + 2 for row in ids)), self.recipe.pad_to)
        ids_BT, lengths_B = self._padded_rows(ids, width)
        labels_BT = np.full(ids_BT.shape, -1, dtype=np.int8)
        for at, label_T in enumerate(labels):
            labels_BT[at, 1 : len(label_T) + 1] = label_T
        taught_R = self._taught(len(rows), rng)
        clean_RT, clean_lengths_R = self._padded_rows([rows[at].ids for at in taught_R.tolist()], width)
        picks_GN, picked_GN, hidden_GN = pick_positions(
            lengths_B[noisy:], width=width, masked=self.recipe.masked, as_mask=self.recipe.as_mask, rng=rng
        )
        return Batch(
            ids_BT=ids_BT,
            lengths_B=lengths_B,
            labels_BT=labels_BT,
            picks_GN=picks_GN,
            picked_GN=picked_GN,
            hidden_GN=hidden_GN,
            taught_R=taught_R,
            clean_RT=clean_RT,
            clean_lengths_R=clean_lengths_R,
        )

    def _damaged(
        self, rows: Sequence[Window], *, size: int, seed: int, number: int
    ) -> tuple[list[Ints], list[NDArray[np.int8]]]:
        """Pieces and labels of windows after the mixture went over their texts; of more than `size` the first one."""
        done = [self._mixture.corrupt(row.text, seed=seed, index=(number << 20) + at) for at, row in enumerate(rows)]
        encoded = self.tokenizer.encode_batch([corrupted.text for corrupted in done], add_special_tokens=False)
        ids, labels = [], []
        for corrupted, encoding in zip(done, encoded, strict=True):
            ids_T = np.array(encoding.ids, dtype=np.int32)
            offsets_T2 = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
            if len(ids_T) > size:
                ids_T = next(_cut(corrupted.text, ids_T, offsets_T2, size=size)).ids
                offsets_T2 = offsets_T2[: len(ids_T)]
            ids.append(ids_T)
            labels.append(corrupted.labels(offsets_T2[:, 0], offsets_T2[:, 1]).astype(np.int8))
        return ids, labels

    def _taught(self, rows: int, rng: np.random.Generator) -> Ints:
        count = int(self.recipe.taught * rows + (0.5 if rows >= STATIC_ROWS else rng.random()))
        return np.sort(rng.permutation(rows)[:count]).astype(np.int32)

    def _padded_rows(self, ids: Sequence[Ints], width: int) -> tuple[Ints, Ints]:
        ids_BT = np.full((len(ids), width), self._pad, dtype=np.int32)
        for at, row in enumerate(ids):
            ids_BT[at, 0] = self._cls
            ids_BT[at, 1 : len(row) + 1] = row
            ids_BT[at, len(row) + 1] = self._sep
        return ids_BT, np.array([len(row) + 2 for row in ids], dtype=np.int32)


def pick_positions(
    lengths_G: Ints, *, width: int, masked: float, as_mask: float, rng: np.random.Generator
) -> tuple[Ints, Flags, Flags]:
    """Choose what the generator has to fill in.

    As ELECTRA's pretrain_helpers.mask: a share of each window's pieces, rounded, at least one, [CLS] and [SEP] never;
    each is replaced by [MASK] with probability `as_mask` and else stays as it is.

    Returns:
        picks_GN, picked_GN, hidden_GN: as in Batch.
    """
    pieces_G = np.maximum(lengths_G - 2, 0)
    wanted_G = np.minimum(np.maximum(np.rint(masked * pieces_G).astype(np.int64), 1), pieces_G)
    key_GT = rng.random((len(lengths_G), width))
    column_T = np.arange(width)
    key_GT[(column_T < 1) | (column_T >= lengths_G[:, None] - 1)] = 2.0  # after all that may be picked
    most = max(1, round(masked * (width - 2)))
    picks_GN = np.argsort(key_GT, axis=1)[:, :most].astype(np.int32)
    picked_GN = np.arange(picks_GN.shape[1]) < wanted_G[:, None]
    hidden_GN = (rng.random(picks_GN.shape) < as_mask) & picked_GN
    return np.where(picked_GN, picks_GN, 0).astype(np.int32), picked_GN, hidden_GN


def special_id(tokenizer: Tokenizer, name: str) -> int:
    """Id of [CLS], [SEP], [PAD], [MASK]."""
    found: int | None = tokenizer.token_to_id(f"[{name}]")
    if found is None:
        raise UserError(f"the tokenizer has no [{name}]; expected that of a BERT or ELECTRA")
    return found


def folds_case(tokenizer: Tokenizer) -> bool | None:
    """Whether the tokenizer folds case; None where it does not say."""
    normalizer = json.loads(tokenizer.to_str()).get("normalizer") or {}
    return normalizer.get("lowercase")


def _groups(texts: Sequence[str], characters: int = 1 << 18) -> Iterator[list[tuple[int, str]]]:
    """Documents by number, huge ones in pieces, so many together that the tokenizer's answer stays small."""
    group: list[tuple[int, str]] = []
    room = characters
    for document, text in enumerate(texts):
        for part in _parts(text, characters):
            group.append((document, part))
            room -= len(part)
            if room <= 0:
                yield group
                group, room = [], characters
    if group:
        yield group


def _parts(text: str, characters: int) -> Iterator[str]:
    if len(text) <= characters:
        yield text
        return
    data = text.encode("utf-8", "replace")  # a lone surrogate
    for start, end in split_pieces(data, size=characters):
        yield data[start:end].decode("utf-8", "replace")


def _cut(text: str, ids_T: Ints, offsets_T2: Ints, *, size: int) -> Iterator[Window]:
    boundary_T = token_boundaries(codepoints(text), offsets_T2[:, 0])
    cut = cut_windows(len(ids_T), boundary_T, size=size, overlap=0)
    for start, end in zip(cut.start_B.tolist(), cut.end_B.tolist(), strict=True):
        yield Window(ids_T[start:end], text[offsets_T2[start, 0] : offsets_T2[end - 1, 1]])


def padded(length: int, multiple: int) -> int:
    """The next multiple."""
    return -(-length // multiple) * multiple
