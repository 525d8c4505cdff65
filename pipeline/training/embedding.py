"""Fit the map from a discriminator's hidden states to a sentence encoder's embeddings, without touching either.

Ridge regression in closed form. Measured on the bundled model (its third of six layers, all-MiniLM-L6-v2 as teacher,
9,000 windows) by benchmarks/embeddings.py: accuracy of the five nearest neighbours' source .772 (the teacher itself
.781); documents with 5 % of their words changed are found among 1,441 at precision .95 with recall .998. Without a map
the first model's third layer gave .761 and .943, its last .738 and .002. Teaching the network while it trained on
instead cost .02 of average precision in 3 million pieces.

Key: B windows of a batch, T pieces, N windows, D hidden of the discriminator and of the teacher.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from rtdscan.pipeline.training.examples import special_id
from rtdscan.pipeline.training.objective import pool
from rtdscan.pipeline.training.settings import PretrainConfig
from rtdscan.transforms.embedding import EmbeddingMap
from rtdscan.transforms.errors import UserError

TEXT_MB = 0.01
"""Megabytes of text that are read for a window: one window is taken of each text, and few texts are longer."""

ROWS = 32


def check_map(discriminator: Any, teacher: Any, *, windows: int) -> None:
    """See before a training that the map can be fitted after it, from so many windows at most.

    Raises:
        UserError: The teacher is of another width, or there are fewer windows than dimensions.
    """
    width, wanted = discriminator.config.hidden_size, teacher.config.hidden_size
    if width != wanted:
        raise UserError(f"export.embedding_windows: the teacher has {wanted} dimensions, the model {width}; not equal")
    if windows < width:
        raise UserError(
            f"export.embedding_windows: {windows} windows, one of a text, are too few for {width} dimensions"
        )


def fit_map(
    discriminator: Any,
    teacher: Any,
    texts: Iterable[str],
    *,
    tokenizer: Tokenizer,
    config: PretrainConfig,
    device: torch.device,
) -> EmbeddingMap:
    """Fit on the beginnings of texts.

    Args:
        discriminator: As trained, an ElectraForPreTraining.
        teacher: From `models.build_teacher`.
        texts: Clean; one window is taken of each.
        tokenizer: Of both.
        config: `export.embedding_layer`, `embedding_windows`, `embedding_ridge` and `feed.window`.
        device: Of both.

    Raises:
        UserError: There are fewer windows than dimensions.
    """
    width = discriminator.config.hidden_size
    discriminator.eval()
    hidden, taught = [], []
    windows = islice(_windows(texts, tokenizer, window=config.feed.window), config.export.embedding_windows)
    while rows := list(islice(windows, ROWS)):
        ids_BT, attend_BT = _batch(rows, pad=special_id(tokenizer, "PAD"), device=device)
        counted_BT = attend_BT.clone()
        counted_BT[:, 0] = False
        counted_BT[torch.arange(len(rows)), attend_BT.sum(1) - 1] = False
        with torch.inference_mode():
            out = discriminator.electra(input_ids=ids_BT, attention_mask=attend_BT.long(), output_hidden_states=True)
            state_BTD = out.hidden_states[config.export.embedding_layer].float()
            weight_BT = counted_BT.float()
            hidden.append((torch.einsum("btd,bt->bd", state_BTD, weight_BT) / weight_BT.sum(1)[:, None]).cpu())
            said_BTD = teacher(input_ids=ids_BT, attention_mask=attend_BT.long()).last_hidden_state
            taught.append(pool(said_BTD.float(), attend_BT).cpu())
    if sum(map(len, hidden)) < width:
        raise UserError(f"export.embedding_windows: {sum(map(len, hidden))} windows are too few for {width} dimensions")
    x_ND, y_ND = torch.cat(hidden).double().numpy(), torch.cat(taught).double().numpy()
    mean_D = x_ND.mean(0)
    x_ND = x_ND - mean_D
    gram_DD = x_ND.T @ x_ND
    gram_DD += config.export.embedding_ridge * np.trace(gram_DD) / width * np.eye(width)
    weight_DD = np.linalg.solve(gram_DD, x_ND.T @ (y_ND - y_ND.mean(0)))
    return EmbeddingMap(mean_D.astype(np.float32), weight_DD.astype(np.float32))


def _windows(texts: Iterable[str], tokenizer: Tokenizer, *, window: int) -> Iterator[list[int]]:
    first, last = special_id(tokenizer, "CLS"), special_id(tokenizer, "SEP")
    for text in texts:
        ids = tokenizer.encode(text[: 20 * window], add_special_tokens=False).ids[: window - 2]
        if ids:
            yield [first, *ids, last]


def _batch(rows: list[list[int]], *, pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) < lengths[:, None]
