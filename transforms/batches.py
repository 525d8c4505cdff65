"""Windows -> padded batches under a token budget, and values back to where they belong.

    windows of many documents, as ranges of one flat array of token ids (`windows.join_windows`)
      plan_batches   which windows go together: sorted by length, so little is padding
      fill           one batch as the arrays that an engine takes
      scatter        the engine's values back to the flat array, for the tokens that each window owns

Shapes: N tokens of all documents, W windows of all documents, B windows of a batch, T padded length of a batch.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.windows import Windows

_Scalar = TypeVar("_Scalar", bound=np.generic)

SPECIAL_TOKENS = 2
"""[CLS] before and [SEP] after the tokens of a window."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows that go through the network together.

    Attributes:
        rows_B: Indices into the list of windows.
        length: T, tokens of a row with special tokens and padding.
    """

    rows_B: NDArray[np.int64]
    length: int


class Filled(NamedTuple):
    """What an engine takes.

    Attributes:
        ids_BT: [CLS] tokens [SEP] padding.
        lengths_B: Tokens of a row, special tokens included, padding not.
        weights_BT: 1 at tokens that the window owns, else 0.
    """

    ids_BT: NDArray[np.int32]
    lengths_B: NDArray[np.int32]
    weights_BT: NDArray[np.float32]


def plan_batches(length_W: NDArray[np.int32], *, tokens: int, multiple: int = 8) -> list[Batch]:
    """Decide which windows go together.

    Args:
        length_W: Tokens of each window, special tokens included.
        tokens: Budget of a batch, padding included; a single window may exceed it.
        multiple: Lengths are padded up to a multiple of this.

    Returns:
        Batches in which every window occurs once, the longest first, so that a lack of memory shows at once. Windows of
        one length keep their order.
    """
    order_W = np.argsort(-length_W.astype(np.int64), kind="stable")
    batches = []
    first = 0
    while first < len(order_W):
        length = -(-int(length_W[order_W[first]]) // multiple) * multiple
        rows = max(1, tokens // max(length, 1))
        batches.append(Batch(rows_B=order_W[first : first + rows], length=length))
        first += rows
    return batches


def fill(batch: Batch, ids_N: NDArray[np.int32], windows: Windows, *, pad: int, cls: int, sep: int) -> Filled:
    """Lay the windows of a batch out as rows.

    Args:
        batch: One of `plan_batches`, or any choice of windows that its length has room for.
        ids_N: Ids of all tokens.
        windows: All windows, as ranges of `ids_N`.
        pad, cls, sep: Ids of the special tokens.

    Raises:
        ValueError: A window is longer than the batch.
    """
    token_BT, inside_BT = _places(batch, windows)
    length_B = (windows.end_B - windows.start_B)[batch.rows_B] + np.int32(SPECIAL_TOKENS)
    if len(length_B) and length_B.max() > batch.length:
        raise ValueError(f"a window of {length_B.max()} tokens in a batch of length {batch.length}: expected it to fit")
    ids_BT = np.full(token_BT.shape, pad, dtype=np.int32)
    ids_BT[inside_BT] = ids_N[token_BT[inside_BT]]
    ids_BT[:, 0] = cls
    ids_BT[np.arange(len(length_B)), length_B - 1] = sep
    return Filled(ids_BT=ids_BT, lengths_B=length_B, weights_BT=_owned(batch, windows, token_BT).astype(np.float32))


def scatter(batch: Batch, value_BT: NDArray[_Scalar], windows: Windows, *, out_N: NDArray[_Scalar]) -> None:
    """Put the values of a batch where they belong; afterwards all batches, in whatever order, have filled `out_N`.

    Args:
        batch: The batch that was filled.
        value_BT: A value a position; those of special tokens, padding and tokens that are not owned are not looked at.
        windows: All windows, as ranges of `out_N`.
        out_N: One value a token of all documents; written at the tokens that the batch's windows own.
    """
    token_BT, _ = _places(batch, windows)
    owned_BT = _owned(batch, windows, token_BT)
    out_N[token_BT[owned_BT]] = value_BT[owned_BT]


def _places(batch: Batch, windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The token that stands at each position, and whether one does."""
    start_B1 = windows.start_B[batch.rows_B, None]
    token_BT = start_B1 + np.arange(-1, batch.length - 1, dtype=np.int64)
    return token_BT, (token_BT >= start_B1) & (token_BT < windows.end_B[batch.rows_B, None])


def _owned(batch: Batch, windows: Windows, token_BT: NDArray[np.int64]) -> NDArray[np.bool_]:
    own_start_B1 = windows.own_start_B[batch.rows_B, None]
    return (token_BT >= own_start_B1) & (token_BT < windows.own_end_B[batch.rows_B, None])
