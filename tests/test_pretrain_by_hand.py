"""Training in numbers worked out by hand, on networks that are tables: losses, steps, seeds, the map, the refill."""

from dataclasses import replace
from math import exp, log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SPECIAL, tiny_tokenizer

from rtdscan.pipeline.training import feed, objective
from rtdscan.pipeline.training.embedding import fit_map
from rtdscan.pipeline.training.examples import Batch
from rtdscan.pipeline.training.feed import Plan, Position, block_batches
from rtdscan.pipeline.training.objective import SUMS, Counts, Objective
from rtdscan.pipeline.training.optimiser import Adam
from rtdscan.pipeline.training.refill import Refill
from rtdscan.pipeline.training.settings import ObjectiveSettings, OptimiserSettings, PretrainConfig

CPU = torch.device("cpu")
PAD, UNK, CLS, SEP, MASK = range(5)
A, B, C, D, E = range(5, 10)


class Table:
    """An encoder: layer k of a piece is a row of the k-th table, whatever is around it. Notes what it was given."""

    def __init__(self, *layers: torch.Tensor) -> None:
        self.layers = layers
        self.config = SimpleNamespace(hidden_size=layers[0].shape[1])
        self.given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, output_hidden_states: bool = False
    ) -> Any:
        self.given.append((input_ids, attention_mask))
        states = tuple(layer[input_ids] for layer in self.layers)
        return SimpleNamespace(last_hidden_state=states[-1], hidden_states=states if output_hidden_states else None)


def table(rows: dict[int, tuple[float, ...]], *, pieces: int = 10, other: float = 1e4) -> torch.Tensor:
    """A layer; pieces that are not told have numbers that nobody could overlook."""
    made = torch.full((pieces, len(next(iter(rows.values())))), other)
    for piece, row in rows.items():
        made[piece] = torch.tensor(row)
    return made


# --- the loss ---


LOGITS = {A: 1.0, B: -2.0, C: 0.5, D: -1.5, E: 3.0}

BATCH = Batch(
    ids_BT=np.array([[CLS, A, B, SEP, PAD, PAD], [CLS, C, A, D, SEP, PAD]], np.int32),
    lengths_B=np.array([4, 5], np.int32),
    labels_BT=np.array([[-1, 0, 1, -1, -1, -1], [-1, 0, 0, 0, -1, -1]], np.int8),
    picks_GN=np.array([[2, 0]], np.int32),
    picked_GN=np.array([[True, False]]),
    hidden_GN=np.array([[True, False]]),
    taught_R=np.array([0], np.int32),
    clean_RT=np.array([[CLS, A, C, SEP, PAD, PAD]], np.int32),
    clean_lengths_R=np.array([4], np.int32),
)
"""One damaged window, one whose second word (A) the generator replaces."""

INNER = (
    table({A: (1, 0), B: (1, 0)}),  # of the damaged window
    table({A: (0, 2), B: (0, 1)}),
    table({A: (2, 1), B: (1, 2)}),
)

TEACHER = table({CLS: (4, 1), A: (-3, 1), C: (0, 1), SEP: (-1, 1)})
"""The mean of all four is (0, 1)."""


def worked_out(*, layer: int = -1, frozen: bool = False, **weights: float) -> tuple[float, dict[str, float], Any]:
    """Loss, sums and networks for BATCH; the generator thinks E three times as likely as all others together."""
    logits_V = torch.log(torch.tensor([1.0] * 9 + [27.0]) / 36)
    discriminator = SimpleNamespace(
        electra=Table(*INNER[:2], torch.cat([INNER[2], table({k: (v,) for k, v in LOGITS.items()})], 1)),
        discriminator_predictions=lambda hidden: hidden[..., -1],
    )
    generator = SimpleNamespace(
        electra=Table(torch.zeros(10, 1)),
        generator_predictions=lambda hidden: hidden,
        generator_lm_head=lambda hidden: logits_V.expand(*hidden.shape[:2], 10),
    )
    networks: Any = SimpleNamespace(discriminator=discriminator, generator=generator, frozen=frozen)
    taught: Any = Table(TEACHER if layer in (0, 1, -2, -3) else torch.cat([TEACHER, torch.zeros(10, 1)], 1))
    chosen = ObjectiveSettings(**{"mlm": 0.0, "discriminator": 1e-30, "distil": 0.0, **weights})
    made = Objective(networks, chosen, teacher=taught, mask=MASK, embedding_layer=layer)
    loss, sums = made.loss(BATCH, Counts.of([BATCH]), device=CPU)
    return loss.item(), dict(zip(SUMS, sums.tolist(), strict=True)), networks


@pytest.fixture
def drawn_e(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator's sample is E, everywhere."""
    monkeypatch.setattr(objective, "sample", lambda logits_GNV: torch.full(logits_GNV.shape[:2], E))


def softplus(x: float) -> float:
    return log(1 + exp(x))


@pytest.mark.usefixtures("drawn_e")
def test_special_pieces_and_padding_cost_nothing() -> None:
    """-log p of what is right: softplus(logit) for what belongs, softplus(-logit) for what does not."""
    loss, sums, networks = worked_out(discriminator=3.0)
    noise = softplus(LOGITS[A]) + softplus(-LOGITS[B])
    generated = softplus(LOGITS[C]) + softplus(-LOGITS[E]) + softplus(LOGITS[D])
    assert sums["noise"] == pytest.approx(noise)
    assert sums["gen"] == pytest.approx(generated)
    assert loss == sums["loss"] == pytest.approx(3 * (noise + generated) / 5)
    told = {name: sums[name] for name in sums if name.startswith(("noise_", "gen_"))}
    assert told == {
        "noise_n": 2, "noise_replaced": 1, "noise_flagged": 1, "noise_found": 0,  # A is flagged and belongs
        "gen_n": 3, "gen_replaced": 1, "gen_flagged": 2, "gen_found": 1,  # C and E; E was put there
    }  # fmt: skip
    ((ids_BT, attend_BT),) = networks.discriminator.electra.given
    assert ids_BT.tolist() == [[CLS, A, B, SEP, PAD, PAD], [CLS, C, E, D, SEP, PAD]]
    assert attend_BT.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
    ((ids_GT, attend_GT),) = networks.generator.electra.given
    assert ids_GT.tolist() == [[CLS, C, MASK, D, SEP, PAD]]
    assert attend_GT.tolist() == [[1, 1, 1, 1, 1, 0]]


@pytest.mark.usefixtures("drawn_e")
def test_the_generators_loss_is_of_what_was_picked() -> None:
    """A was there, whose probability is 1 / 36."""
    loss, sums, _ = worked_out(mlm=2.0)
    assert loss == pytest.approx(2 * log(36))
    assert {name: sums[name] for name in sums if name.startswith("mlm_")} == {
        "mlm_n": 1, "mlm_hidden": 1, "mlm_right": 0,
    }  # fmt: skip
    assert sums["mlm"] == pytest.approx(log(36))
    assert worked_out(mlm=2.0, frozen=True)[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("drawn_e")
@pytest.mark.parametrize(("layer", "distance"), [(0, 1.0), (1, 0.0), (-2, 0.0), (-3, 1.0)])
def test_the_chosen_layer_is_taught_with_its_weight(layer: int, distance: float) -> None:
    """1 - the cosine between (0, 1) and the mean of A and B, without special pieces: (1, 0) or (0, 1.5)."""
    loss, sums, _ = worked_out(layer=layer, distil=5.0)
    assert sums["distil"] == pytest.approx(distance, abs=1e-6)
    assert sums["distil_n"] == 1
    assert loss == pytest.approx(5 * distance, abs=1e-5)


@pytest.mark.usefixtures("drawn_e")
def test_the_last_layer_is_taught_where_none_is_chosen() -> None:
    """(1.5, 1.5, -0.5), the logits being its third dimension, and (0, 1, 0): cosine 1.5 / sqrt(4.75)."""
    for layer in (-1, 2):
        loss, _, networks = worked_out(layer=layer, distil=5.0)
        assert loss == pytest.approx(5 * (1 - 1.5 / 4.75**0.5))
        assert len(networks.discriminator.electra.given) == 1


# --- the optimiser ---


NAMES = ("x.embeddings.weight", "x.encoder.layer.0.weight", "x.encoder.layer.1.weight", "head.weight")
"""Of a network of two layers: three, two and one below the head."""


def adam_of(values: float, **changes: Any) -> tuple[Adam, list[torch.nn.Parameter]]:
    weights = [torch.nn.Parameter(torch.full((1,), values)) for _ in NAMES]
    chosen = OptimiserSettings(kind="electra", clip=1e9, **changes)
    return Adam(zip(NAMES, weights, strict=True), chosen, layers=2), weights


def test_the_head_learns_at_the_full_rate() -> None:
    """m / (sqrt(v) + eps) of the first step is 0.1 / (0.001 ** 0.5 + 1e-6) = 3.162178."""
    adam, weights = adam_of(0.0, layer_decay=0.5, weight_decay=0)
    for weight in weights:
        weight.grad = torch.ones(1)
    adam.step(0.1)
    expected = [-0.1 * 3.162178 * scale for scale in (0.125, 0.25, 0.5, 1)]
    assert [weight.item() for weight in weights] == pytest.approx(expected, rel=1e-6)


def test_lower_layers_decay_slower_too() -> None:
    adam, weights = adam_of(1.0, layer_decay=0.5, weight_decay=0.2)
    for weight in weights:
        weight.grad = torch.zeros(1)
    adam.step(0.1)
    expected = [1 - 0.1 * 0.2 * scale for scale in (0.125, 0.25, 0.5, 1)]
    assert [weight.item() for weight in weights] == pytest.approx(expected, rel=1e-6)


def test_a_state_goes_on_and_only_with_the_parameters_it_is_of() -> None:
    def follow(adam: Adam, weights: list[torch.nn.Parameter], gradient: float) -> list[float]:
        for at, weight in enumerate(weights):
            weight.grad = torch.full((1,), gradient * (at + 1))
        adam.step(0.1)
        return [weight.item() for weight in weights]

    whole, broken = adam_of(1.0), adam_of(1.0)
    for adam, weights in (whole, broken):
        follow(adam, weights, 0.5)
    state = broken[0].state_dict()
    assert state["names"] == list(NAMES)
    again, weights = adam_of(broken[1][0].item())
    for weight, before in zip(weights, broken[1], strict=True):
        weight.data.copy_(before.data)
    again.load_state_dict(state)
    assert follow(again, weights, -0.25) == follow(*whole, -0.25)
    assert again.state_dict()["steps"] == 2
    for names in (NAMES[::-1], NAMES[:-1], ("x.embedding.weight", *NAMES[1:])):
        with pytest.raises(ValueError, match=f"of {len(names)} parameters, expected 4"):
            again.load_state_dict({**state, "names": list(names)})


# --- the feed's seeds ---


def test_every_block_of_every_epoch_has_chances_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units are numbers here, each one text and one window; two batches a block."""
    monkeypatch.setattr(feed, "read_texts", lambda unit, *, text: [unit])

    class Notes:
        drawn: set[int]
        made: list[tuple[int, int, tuple[int, ...]]]

        def __init__(self) -> None:
            self.drawn, self.made = set(), []

        def windows(self, texts: list[int], rng: np.random.Generator) -> list[int]:
            self.drawn.add(int(rng.integers(1 << 62)))
            return texts

        def arrange(self, windows: list[int], rng: np.random.Generator) -> list[np.ndarray]:
            return [np.arange(3), np.arange(3, len(windows))]

        def batch(self, windows: list[int], *, seed: int, number: int) -> None:
            self.made.append((seed, number, tuple(windows)))

    units: Any = tuple(range(16))
    maker: Any = Notes()
    starts = [Position(epoch, block) for epoch in (0, 1, 2) for block in (0, 1)]
    for seed in (3, 4):
        plan = Plan(units, "text", None, seed)  # type: ignore[arg-type]
        assert plan.blocks == 2
        for start in starts:
            after = [position for _, position in block_batches(plan, maker, start)]
            assert after == [replace(start, batch=1), plan.after(start)]
    assert len(maker.drawn) == 2 * len(starts)
    numbers = [(p.epoch << 56) + (p.block << 28) + batch for p in starts for batch in (0, 1)]
    assert [made[:2] for made in maker.made] == [(seed, number) for seed in (3, 4) for number in numbers]
    orders = [sum((made[2] for made in maker.made[at : at + 4]), ()) for at in range(0, len(maker.made), 4)]
    assert all(sorted(order) == list(units) for order in orders)
    assert len(set(orders)) == 6  # two seeds, three epochs
    (_, number, windows) = maker.made[-1]
    list(block_batches(plan, maker, Position(2, 1, 1)))  # resumed
    assert maker.made[-1] == (4, number, windows)
    assert [plan.after(at) for at in (Position(2, 0, 1), Position(2, 1))] == [Position(2, 1), Position(3)]


# --- the embedding's map ---


def test_a_map_by_hand() -> None:
    """Windows less their mean (5, 7): (1, 0), (-1, 0), (1, 2), (-1, -2); told (1, 0), (-1, 0), (0, 1), (0, -1).

    Gram [[4, 4], [4, 8]], its mean variance 6, half of it the ridge: [[7, 4], [4, 11]], determinant 61.
    [[11, -4], [-4, 7]] / 61 x [[2, 2], [0, 4]] = [[22, 6], [-8, 20]] / 61.
    """
    tokenizer = tiny_tokenizer()
    a, b, c, d, e = (tokenizer.token_to_id(word) for word in ("air", "book", "city", "dark", "east"))
    pieces = tokenizer.get_vocab_size()
    state = table({a: (6, 7), b: (4, 7), c: (6, 9), d: (3, 4), e: (5, 6)}, pieces=pieces)  # d and e together: (4, 5)
    words = {a: (2, -1), b: (-5, -1), c: (0, 0), d: (1, -1), e: (-1, -3)}
    told = table({CLS: (3, 4), SEP: (-3, -3), **words}, pieces=pieces)  # the special ones together: (0, 1)
    other = torch.full_like(state, -1e4)
    config = PretrainConfig.model_validate(
        {"export": {"embedding_layer": 1, "embedding_windows": 4, "embedding_ridge": 0.5}}
    )
    encoder = Table(other, state, other)
    discriminator = SimpleNamespace(electra=encoder, config=encoder.config, eval=lambda: None)
    texts = ["air", "book", "", "city", "dark east", "never read"]
    made = fit_map(discriminator, Table(told), texts, tokenizer=tokenizer, config=config, device=CPU)
    np.testing.assert_allclose(made.mean_D, [5, 7], rtol=1e-6)
    np.testing.assert_allclose(made.weight_DD, np.array([[22, 6], [-8, 20]]) / 61, rtol=1e-5)


# --- what refills texts ---


def refill_of(logits: dict[str, float]) -> Refill:
    """A generator that thinks the same of each place; what is not told it does not think of."""
    tokenizer = tiny_tokenizer()
    pieces = [tokenizer.id_to_token(at) for at in range(tokenizer.get_vocab_size())]
    logits_V = torch.tensor([logits.get(piece, -1e9) for piece in pieces])
    network: Any = SimpleNamespace(
        electra=lambda input_ids: SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 1)),
        generator_predictions=lambda hidden: hidden,
        generator_lm_head=lambda hidden: logits_V.expand(len(hidden), -1),
    )
    bundle: Any = SimpleNamespace(
        special=SimpleNamespace(unk=UNK, cls=CLS, sep=SEP, mask=MASK),
        card=SimpleNamespace(window=1 << 20),
        config=SimpleNamespace(positions=1 << 20),
    )
    goes_on_V = np.array([piece.startswith("##") for piece in pieces])
    return Refill(network, tokenizer, bundle, goes_on_V, np.array([piece[0] != "[" for piece in pieces]))


def test_refilled_pieces_are_drawn_not_chosen() -> None:
    """Some 1,500 draws: 0.04 is three standard deviations."""
    shares = {"good": 0.6, "bad": 0.3, "sun": 0.1}
    refill = refill_of({word: log(share) for word, share in shares.items()})
    drawn = [piece for _, _, piece in refill(["the " * 10_000], [7])[0]]
    assert len(drawn) / 10_000 == pytest.approx(0.15, abs=0.01)
    for word, share in shares.items():
        assert drawn.count(word) / len(drawn) == pytest.approx(share, abs=0.04)


def test_words_are_refilled_with_words_and_endings_with_endings() -> None:
    refill = refill_of({"[MASK]": 90, "[PAD]": 80, "##ly": 60, "sun": 30})
    assert SPECIAL[MASK] == "[MASK]"
    text = "playing " * 400
    made = refill([text], [7])[0]
    assert len(made) > 50
    assert {(start % 8, end - start, new) for start, end, new in made} == {(0, 4, "sun"), (4, 3, "ly")}
