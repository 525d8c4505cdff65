"""Run all windows of a chunk through the network: equal windows once, longest first, in batches that fill the budget.

A window that the network can't take fails alone: a batch that raises is halved until the culprit is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.batches import SPECIAL_TOKENS, Batch, fill, plan_batches, scatter
from rtdscan.transforms.bundle import SpecialIds
from rtdscan.transforms.engines import Engine
from rtdscan.transforms.errors import EngineError
from rtdscan.transforms.pace import OnTokens
from rtdscan.transforms.tokens import Chunk
from rtdscan.transforms.windows import Windows


@dataclass(frozen=True, slots=True)
class Forward:
    """What the network says of a chunk.

    Attributes:
        logit_N: Logit of each token, from the window that owns it.
        pooled_BD: Sum over the tokens that each window owns of their hidden states.
        failed: Numbers of the windows that the network could not take, and why.
    """

    logit_N: NDArray[np.float32]
    pooled_BD: NDArray[np.float32]
    failed: dict[int, str]


Key = tuple[int, int, bytes]
"""What makes two windows equal: the tokens they own, counted from their start, and all of their tokens."""

MOST_KNOWN = 8192
"""Windows that are remembered: 2 kB each at D = 384. A unit of the default size has about as many."""


class Known:
    """Windows that the network ran over in earlier chunks of a unit, and what it said of them."""

    def __init__(self) -> None:
        """Know nothing."""
        self._said: dict[Key, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def get(self, key: Key) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Logits of the tokens that the window owns, and its pooled sum; None if it is new."""
        return self._said.get(key)

    def add(self, key: Key, logit_T: NDArray[np.float32], pooled_D: NDArray[np.float32]) -> None:
        """Remember a window, if there is room: what repeats is seen early."""
        if len(self._said) < MOST_KNOWN:
            self._said[key] = logit_T.copy(), pooled_D.copy()


def run_windows(
    chunk: Chunk,
    *,
    engine: Engine,
    special: SpecialIds,
    tokens: int,
    known: Known | None = None,
    on_tokens: OnTokens | None = None,
) -> Forward:
    """Run the chunk's windows.

    Args:
        chunk: Tokens and windows.
        engine: The network.
        special: Ids of [CLS], [SEP] and padding.
        tokens: Budget of a batch, padding included.
        known: Windows of other chunks; those of this one are added.
        on_tokens: Called after each batch with the tokens that its windows own, and at the end with those of windows
            that repeat.
    """
    windows = chunk.windows
    first_U, unique_B, keys = equal_windows(chunk.ids_N, windows)
    unique = Windows(
        start_B=windows.start_B[first_U],
        end_B=windows.end_B[first_U],
        own_start_B=windows.own_start_B[first_U],
        own_end_B=windows.own_end_B[first_U],
    )
    logit_N = np.zeros(len(chunk.ids_N), dtype=np.float32)
    pooled_UD = np.zeros((len(first_U), engine.dims), dtype=np.float32)
    failed: dict[int, str] = {}
    new_K = _recall(known, keys, unique, logit_N, pooled_UD)
    plan = plan_batches((unique.end_B - unique.start_B + SPECIAL_TOKENS)[new_K], tokens=tokens)
    pending = [Batch(new_K[batch.rows_B], batch.length) for batch in plan][::-1]
    left = len(chunk.ids_N)
    while pending:
        batch = pending.pop()
        filled = fill(batch, chunk.ids_N, unique, pad=special.pad, cls=special.cls, sep=special.sep)
        try:
            logits_BT, pooled_BD = engine.forward(filled.ids_BT, filled.lengths_B, filled.weights_BT)
        except EngineError:  # no window's fault
            raise
        except Exception as error:
            pending.extend(_halved(batch, error, engine=engine, special=special, failed=failed))
            continue
        bad_B = _not_finite(logits_BT, pooled_BD, filled.weights_BT)
        if bad_B.any():
            logits_BT, pooled_BD = (np.where(bad_B[:, None], np.float32(0), out) for out in (logits_BT, pooled_BD))
            failed |= dict.fromkeys(batch.rows_B[bad_B].tolist(), "the network gave a number that is not finite")
        scatter(batch, logits_BT, unique, out_N=logit_N)
        pooled_UD[batch.rows_B] = pooled_BD
        scored = int(np.count_nonzero(filled.weights_BT))
        left -= scored
        if on_tokens is not None:
            on_tokens(scored)
    if known is not None:
        for at in new_K.tolist():
            if at not in failed:
                own = slice(int(unique.own_start_B[at]), int(unique.own_end_B[at]))
                known.add(keys[at], logit_N[own], pooled_UD[at])
    _copy_repeats(windows, first_U, unique_B, logit_N)
    if on_tokens is not None and left:
        on_tokens(left)
    return Forward(
        logit_N=logit_N,
        pooled_BD=pooled_UD[unique_B],
        failed={int(at): failed[int(unique_B[at])] for at in np.flatnonzero(np.isin(unique_B, list(failed)))},
    )


def _recall(
    known: Known | None,
    keys: list[Key],
    unique: Windows,
    logit_N: NDArray[np.float32],
    pooled_UD: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Fill in what is known; the numbers of the windows that are new."""
    new: list[int] = []
    for at, key in enumerate(keys):
        said = known.get(key) if known is not None else None
        if said is None:
            new.append(at)
        else:
            logit_N[int(unique.own_start_B[at]) : int(unique.own_end_B[at])], pooled_UD[at] = said
    return np.array(new, dtype=np.int64)


def equal_windows(ids_N: NDArray[np.int32], windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Key]]:
    """Find windows that hold the same tokens and own the same of them.

    Returns:
        first_U: the first window of each kind, in order; unique_B: the kind of each window; each kind's key.
    """
    kinds: dict[Key, int] = {}
    first: list[int] = []
    unique_B = np.empty(len(windows.start_B), dtype=np.int64)
    own_start_B = (windows.own_start_B - windows.start_B).tolist()
    own_end_B = (windows.own_end_B - windows.start_B).tolist()
    spans = zip(windows.start_B.tolist(), windows.end_B.tolist(), own_start_B, own_end_B, strict=True)
    for at, (start, end, own_start, own_end) in enumerate(spans):
        key = (own_start, own_end, ids_N[start:end].tobytes())
        kind = kinds.setdefault(key, len(first))
        if kind == len(first):
            first.append(at)
        unique_B[at] = kind
    return np.array(first, dtype=np.int64), unique_B, list(kinds)


def _copy_repeats(
    windows: Windows, first_U: NDArray[np.int64], unique_B: NDArray[np.int64], logit_N: NDArray[np.float32]
) -> None:
    source_B = first_U[unique_B]
    for at in np.flatnonzero(source_B != np.arange(len(source_B))).tolist():
        source = int(source_B[at])
        own = slice(int(windows.own_start_B[source]), int(windows.own_end_B[source]))
        logit_N[int(windows.own_start_B[at]) : int(windows.own_end_B[at])] = logit_N[own]


def _halved(
    batch: Batch, error: Exception, *, engine: Engine, special: SpecialIds, failed: dict[int, str]
) -> Sequence[Batch]:
    """The batch in two halves; or, of a single window, a note that it failed, if the engine itself still works."""
    if len(batch.rows_B) > 1:
        middle = len(batch.rows_B) // 2
        return [Batch(rows, batch.length) for rows in (batch.rows_B[middle:], batch.rows_B[:middle])]
    probe = np.array([[special.cls, special.sep]], dtype=np.int32)
    try:
        engine.forward(probe, np.array([2], dtype=np.int32), np.ones((1, 2), dtype=np.float32))
    except Exception as broken:
        raise EngineError(f"engine {engine.name} ({engine.precision}) stopped working: {broken}") from error
    failed[int(batch.rows_B[0])] = f"the network failed on it: {type(error).__name__}"
    return []


def _not_finite(
    logits_BT: NDArray[np.float32], pooled_BD: NDArray[np.float32], weights_BT: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Windows with a number that is not finite, padding aside."""
    bad_BT = ~np.isfinite(logits_BT) & (weights_BT > 0)
    bad_B: NDArray[np.bool_] = np.any(bad_BT, axis=1) | np.any(~np.isfinite(pooled_BD), axis=1)
    return bad_B
