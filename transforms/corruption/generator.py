"""Samples of a generator model (ELECTRA's own noise). The model stays outside: here it is a function."""

from collections.abc import Callable, Sequence

from rtdscan.transforms.corruption.edits import Corrupted, Edit, apply

Replacement = tuple[int, int, str]
"""Characters [start, end) of the text, and what the generator puts there."""

Sample = Callable[[Sequence[str], Sequence[int]], Sequence[Sequence[Replacement]]]
"""(texts, a seed for each) -> replacements for each text. A text's must not depend on the others in the call, so that
batching changes nothing. A sample equal to what stood there may be among them: it is no error and gets no label."""


def generated(texts: Sequence[str], *, sample: Sample, seeds: Sequence[int]) -> list[Corrupted]:
    """Texts with a generator's samples in them.

    Args:
        texts: The texts before.
        sample: Masks, samples and decodes.
        seeds: One for each text.

    Raises:
        ValueError: `sample` returned another number of texts than it was given, or offsets outside of one.
    """
    samples = sample(texts, seeds)
    if len(samples) != len(texts):
        raise ValueError(f"the generator returned samples for {len(samples)} texts; it was given {len(texts)}")
    corrupted = []
    for text, replacements in zip(texts, samples, strict=True):
        for start, end, _ in replacements:
            if not 0 <= start <= end <= len(text):
                raise ValueError(f"the generator replaced characters {start} to {end} of a text of {len(text)}")
        corrupted.append(apply(text, (Edit(start, end, new, "generator") for start, end, new in replacements)))
    return corrupted
