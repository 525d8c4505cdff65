"""Training, part by part: ELECTRA's traps, the optimiser, the feed, checkpoints. Whole runs: test_pretrain_run.py."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import ENGLISH, SPECIAL, tiny_tokenizer

from rtdscan.pipeline.options import describe
from rtdscan.pipeline.training import checkpoint, objective
from rtdscan.pipeline.training.corpus import Corpus, open_corpus
from rtdscan.pipeline.training.examples import Batch, Maker, Recipe, padded, pick_positions, recipe_of, special_id
from rtdscan.pipeline.training.feed import Feed, Plan, Position
from rtdscan.pipeline.training.models import Networks, build, build_teacher
from rtdscan.pipeline.training.objective import SUMS, Counts, Objective
from rtdscan.pipeline.training.optimiser import Adam, decays, layer_of, learning_rate
from rtdscan.pipeline.training.settings import CHANGEABLE, OptimiserSettings, PretrainConfig, flat
from rtdscan.pipeline.training.start import find_start
from rtdscan.pipeline.training.vocabulary import train_vocabulary
from rtdscan.transforms.errors import UserError

CPU = torch.device("cpu")


def config_of(bundle: Path, **changes: dict[str, Any]) -> PretrainConfig:
    """Options for the tiny bundle of the tests; a section's changes by its name."""
    values: dict[str, Any] = {
        "start": str(bundle),
        "dropout": 0.0,
        "precision": "float32",
        "feed": {"window": 32, "batch_tokens": 256, "shuffle_mb": 0.01},
    }
    for name, change in changes.items():
        values[name] = {**values.get(name, {}), **change}
    return PretrainConfig.model_validate(values)


def networks_of(config: PretrainConfig) -> Networks:
    torch.manual_seed(0)
    start = find_start(config.start, shape=config.shape)
    return build(config, start, vocab=tiny_tokenizer().get_vocab_size(), attention="eager")


def sentences(count: int, *, seed: int = 0, words: int = 12) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(ENGLISH.split(), words)) + "." for _ in range(count)]


def write_corpus(path: Path, texts: list[str | None], *, rows: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path, row_group_size=rows)
    return path


def maker_of(config: PretrainConfig) -> Maker:
    return Maker(recipe_of(config, tiny_tokenizer()))


def batch_of(config: PretrainConfig, texts: list[str], *, number: int = 0) -> Batch:
    maker = maker_of(config)
    return maker.batch(maker.windows(texts, np.random.default_rng(0)), seed=0, number=number)


# --- the optimiser ---


def test_warm_up_and_decay() -> None:
    chosen = OptimiserSettings(lr=1.0, warmup=4, final=0.1)
    # rise: 1/4, 2/4, 3/4, 1, 1 …; decay: 1 - 0.9 * step / 10
    expected = [0.25 * 1.0, 0.5 * 0.91, 0.75 * 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19]
    assert [learning_rate(step, steps=10, settings=chosen) for step in range(10)] == pytest.approx(expected)
    assert learning_rate(0, steps=10, settings=chosen.model_copy(update={"warmup": 0})) == 1.0


def test_electras_adam_has_no_bias_correction() -> None:
    """By hand: gradient 0.5 twice, rate 0.1, decay 0.01.

    m1 = 0.1 * 0.5 = 0.05              v1 = 0.001 * 0.25 = 0.00025       m1 / (sqrt(v1) + 1e-6) = 3.162078
    p1 = 1 * (1 - 0.1 * 0.01) - 0.1 * 3.162078 = 0.682792
    m2 = 0.9 * 0.05 + 0.05 = 0.095     v2 = 0.999 * v1 + v1 = 0.00049975   m2 / (sqrt(v2) + 1e-6) = 4.249409
    p2 = 0.682792 * 0.999 - 0.4249409 = 0.257168
    """
    weight = torch.nn.Parameter(torch.ones(1, 1))
    adam = Adam([("dense.weight", weight)], OptimiserSettings(kind="electra", weight_decay=0.01), layers=1)
    for expected in (0.682792, 0.257168):
        weight.grad = torch.full((1, 1), 0.5)
        adam.step(0.1)
        assert weight.item() == pytest.approx(expected, abs=2e-6)


def test_adamw_is_the_one_of_torch() -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(3, 4)) for _ in range(2)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    adam = Adam([(f"{at}.weight", p) for at, p in enumerate(ours)], OptimiserSettings(clip=1e9), layers=1)
    torchs = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(3, 4)
            b.grad = a.grad.clone()
        adam.step(0.01)
        torchs.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_are_clipped_together() -> None:
    a, b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    adam = Adam([("a.weight", a), ("b.weight", b)], OptimiserSettings(kind="electra", clip=1.0), layers=1)
    assert adam.step(1.0).item() == pytest.approx(5.0)
    # Scaled to 0.6 and 0.8: m = 0.06 and 0.08.
    assert [m.item() for m in adam.state_dict()["mean"]] == pytest.approx([0.06, 0.08], rel=1e-5)


def test_biases_and_norms_do_not_decay(tiny_bundle: Path) -> None:
    networks = networks_of(config_of(tiny_bundle))
    before = {name: p.detach().clone() for name, p in networks.trained()}
    adam = Adam(networks.trained(), OptimiserSettings(weight_decay=0.5), layers=2)
    for _, parameter in networks.trained():
        parameter.grad = torch.zeros_like(parameter)
    adam.step(0.1)
    kept = {name for name, p in networks.trained() if torch.equal(p, before[name]) and before[name].abs().sum() > 0}
    shrunk = {name for name, p in networks.trained() if not torch.equal(p, before[name])}
    for name, parameter in networks.trained():
        if name in shrunk:
            torch.testing.assert_close(parameter.detach(), before[name] * 0.95)
    assert shrunk == {name for name, p in networks.trained() if p.dim() > 1}
    assert any("LayerNorm.weight" in name for name in kept)
    assert any(name.endswith("bias") for name in kept)
    assert not any(decays(name) for name in kept)


def test_lower_layers_learn_slower() -> None:
    depth = {
        "discriminator.electra.embeddings.word_embeddings.weight": 0,
        "discriminator.electra.encoder.layer.0.output.dense.weight": 1,
        "discriminator.electra.encoder.layer.11.output.dense.weight": 12,
        "discriminator.discriminator_predictions.dense.weight": 13,
    }
    assert {name: layer_of(name, layers=12) for name in depth} == depth
    chosen = OptimiserSettings(kind="electra", layer_decay=0.5, weight_decay=0, clip=1e9)
    low, high = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    adam = Adam([("x.encoder.layer.0.weight", low), ("head.weight", high)], chosen, layers=2)
    low.grad = high.grad = torch.ones(1)
    adam.step(0.1)
    assert low.item() == pytest.approx(high.item() * 0.25)  # two layers below the head


# --- the networks ---


def test_embeddings_are_tied_and_the_generator_is_narrow_not_shallow(tiny_bundle: Path) -> None:
    networks = networks_of(config_of(tiny_bundle))
    ours, theirs = networks.discriminator.electra.embeddings, networks.generator.electra.embeddings
    assert theirs.word_embeddings.weight is ours.word_embeddings.weight
    assert theirs.position_embeddings.weight is ours.position_embeddings.weight
    assert theirs.token_type_embeddings.weight is ours.token_type_embeddings.weight
    assert networks.generator.generator_lm_head.weight is ours.word_embeddings.weight
    parameters = [p for _, p in networks.trained()]
    assert len({id(p) for p in parameters}) == len(parameters)
    shape, narrow = networks.discriminator.config, networks.generator.config
    assert narrow.num_hidden_layers == shape.num_hidden_layers
    assert narrow.hidden_size < shape.hidden_size
    assert narrow.embedding_size == shape.embedding_size


def test_both_losses_train_the_shared_embeddings(tiny_bundle: Path) -> None:
    lengths = []
    for weights in ({"mlm": 0.0}, {"discriminator": 1e-9}):
        config = config_of(tiny_bundle, objective={"corrupted": 0.0, **weights})
        networks = networks_of(config)
        objective_of(config, networks).loss(*with_counts(batch_of(config, sentences(4))), device=CPU)[0].backward()
        lengths.append(networks.discriminator.electra.embeddings.word_embeddings.weight.grad.norm().item())
    assert min(lengths) > 1e-4


def test_dropout_is_on_while_training_only(tiny_bundle: Path) -> None:
    config = PretrainConfig(start=str(tiny_bundle), dropout=0.3, feed=config_of(tiny_bundle).feed)
    networks = networks_of(config)
    ids = torch.tensor([[2, 30, 31, 32, 3]])
    networks.train()
    assert not torch.equal(networks.discriminator(ids).logits, networks.discriminator(ids).logits)
    networks.eval()
    assert torch.equal(networks.discriminator(ids).logits, networks.discriminator(ids).logits)


def test_written_masks_were_taken_for_masks(tiny_bundle: Path) -> None:
    (window,) = maker_of(config_of(tiny_bundle)).windows(["we go [MASK] the house"], np.random.default_rng(0))
    assert SPECIAL.index("[MASK]") not in window.ids


def test_a_start_of_another_shape_is_told(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"feed\.window is 300, but the network has only 128 positions"):
        networks_of(config_of(tiny_bundle, feed={"window": 300}))
    with pytest.raises(UserError, match="no_such_package is not installed"):
        find_start("package:no_such_package", shape=PretrainConfig().shape)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="expected electra or bert"):
        find_start(str(tmp_path), shape=PretrainConfig().shape)
    with pytest.raises(UserError, match=r"nothing would|no generator\.model"):
        networks_of(config_of(tiny_bundle, generator={"frozen": True}))


def write_bert(folder: Path, *, seed: int = 0) -> Any:
    """A tiny BERT as sentence encoders are stored: no prefix, a pooler, vocab.txt."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    vocabulary = tiny_tokenizer().get_vocab()
    bert = BertModel(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64,
        )
    ).eval()  # fmt: skip
    bert.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=lambda piece: vocabulary[piece])))
    return bert


def test_a_bert_becomes_a_discriminator_with_the_same_hidden_states(tmp_path: Path) -> None:
    bert = write_bert(tmp_path)
    networks = networks_of(config_of(tmp_path)).eval()
    ids = torch.tensor([[2, 30, 31, 32, 3]])
    with torch.no_grad():
        theirs = bert(ids).last_hidden_state
        ours = networks.discriminator.electra(ids).last_hidden_state
    torch.testing.assert_close(ours, theirs)
    start = find_start(str(tmp_path), shape=PretrainConfig().shape)
    assert start.tokenizer is not None
    assert start.tokenizer.encode("good day").ids == tiny_tokenizer().encode("good day").ids


def test_weights_of_several_models_are_averaged(tiny_bundle: Path, tmp_path: Path) -> None:
    from tiny import make_tiny_bundle

    others = [make_tiny_bundle(tmp_path / f"other{seed}", seed=seed) for seed in (1, 2)]
    shape = PretrainConfig().shape
    name = "electra.encoder.layer.0.output.dense.weight"
    a, b, c = (find_start(str(path), shape=shape).weights[name] for path in (tiny_bundle, *others))
    mean = find_start(str(tiny_bundle), shape=shape, average=tuple(map(str, others))).weights[name]
    torch.testing.assert_close(mean, (a + b + c) / 3)
    wider = make_tiny_bundle(tmp_path / "wider", intermediate_size=128)
    with pytest.raises(UserError, match="another shape"):
        find_start(str(tiny_bundle), shape=shape, average=(str(wider),))


# --- the objective ---


def objective_of(config: PretrainConfig, networks: Networks, teacher: Any = None) -> Objective:
    return Objective(networks, config.objective, teacher=teacher, mask=SPECIAL.index("[MASK]"))


def with_counts(batch: Batch) -> tuple[Batch, Counts]:
    return batch, Counts.of([batch])


def sums_of(vector: torch.Tensor) -> dict[str, float]:
    return dict(zip(SUMS, vector.tolist(), strict=True))


@given(st.lists(st.integers(2, 66), min_size=1, max_size=40), st.integers(0, 99))
def test_fifteen_percent_are_picked_and_85_percent_of_them_masked(lengths: list[int], seed: int) -> None:
    lengths_G = np.array(lengths, np.int32)
    picks_GN, picked_GN, hidden_GN = pick_positions(
        lengths_G, width=72, masked=0.15, as_mask=0.85, rng=np.random.default_rng(seed)
    )
    for row, length in enumerate(lengths):
        chosen = picks_GN[row][picked_GN[row]].tolist()
        # round(0.15 * pieces), at least one, never [CLS] (0) or [SEP] (the last)
        assert len(set(chosen)) == len(chosen) == min(max(round(0.15 * (length - 2)), 1), length - 2)
        assert all(0 < at < length - 1 for at in chosen)
    assert not (hidden_GN & ~picked_GN).any()


def test_the_share_of_masks() -> None:
    _, picked_GN, hidden_GN = pick_positions(
        np.full(2000, 102, np.int32), width=104, masked=0.15, as_mask=0.85, rng=np.random.default_rng(0)
    )
    assert picked_GN.sum() == 2000 * 15
    assert hidden_GN.sum() / picked_GN.sum() == pytest.approx(0.85, abs=0.01)  # 5 standard deviations


def test_the_generator_sees_masks_where_they_are_meant(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tiny_bundle, objective={"corrupted": 0.0})
    networks = networks_of(config)
    batch = batch_of(config, sentences(8))
    seen = []
    forward = networks.generator.electra.forward
    monkeypatch.setattr(
        networks.generator.electra, "forward", lambda **given: seen.append(given["input_ids"]) or forward(**given)
    )
    objective_of(config, networks).loss(*with_counts(batch), device=CPU)
    changed_GT = seen[0].numpy() != batch.ids_BT
    assert changed_GT.sum() == batch.hidden_GN.sum() > 0
    assert (seen[0].numpy()[changed_GT] == SPECIAL.index("[MASK]")).all()


def test_a_sample_equal_to_the_original_is_an_original(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tiny_bundle, objective={"corrupted": 0.0})
    networks = networks_of(config)
    batch = batch_of(config, ["good " * 20] * 4)
    good, bad = (tiny_tokenizer().token_to_id(word) for word in ("good", "bad"))
    for drawn, replaced in ((good, 0), (bad, int(batch.picked_GN.sum()))):
        monkeypatch.setattr(objective, "sample", lambda logits, drawn=drawn: torch.full(logits.shape[:-1], drawn))
        sums = sums_of(objective_of(config, networks).loss(*with_counts(batch), device=CPU)[1])
        assert sums["gen_replaced"] == replaced
        assert sums["gen_n"] == 4 * 20
    assert replaced > 4


def test_samples_follow_the_generators_distribution() -> None:
    torch.manual_seed(0)
    shares = torch.tensor([0.6, 0.3, 0.1])
    drawn = objective.sample(shares.log().expand(20_000, 1, 3)).flatten().bincount(minlength=3) / 20_000
    torch.testing.assert_close(drawn, shares, atol=0.015, rtol=0)


def test_no_gradient_goes_through_the_samples(tiny_bundle: Path) -> None:
    config = config_of(tiny_bundle, objective={"corrupted": 0.0, "mlm": 0.0})
    networks = networks_of(config)
    objective_of(config, networks).loss(*with_counts(batch_of(config, sentences(4))), device=CPU)[0].backward()
    own = [p for name, p in networks.generator.named_parameters() if "encoder" in name or "predictions" in name]
    assert own
    assert all(p.grad is None or not p.grad.any() for p in own)
    assert networks.discriminator.electra.encoder.layer[0].output.dense.weight.grad.any()


def test_the_loss_is_one_mlm_and_fifty_discriminator(tiny_bundle: Path) -> None:
    config = config_of(tiny_bundle)
    networks = networks_of(config)
    batch = batch_of(config, sentences(8))
    assert 0 < batch.noisy < 8
    sums = sums_of(objective_of(config, networks).loss(*with_counts(batch), device=CPU)[1])
    counted = int((batch.labels_BT >= 0).sum())
    assert sums["gen_n"] + sums["noise_n"] == counted
    assert sums["mlm_n"] == batch.picked_GN.sum()
    expected = sums["mlm"] / sums["mlm_n"] + 50 * (sums["gen"] + sums["noise"]) / counted
    assert sums["loss"] == pytest.approx(expected, rel=1e-5)


def test_special_pieces_and_padding_are_not_counted(tiny_bundle: Path) -> None:
    batch = batch_of(config_of(tiny_bundle), [*sentences(3), "good."])
    ids = {name: SPECIAL.index(f"[{name}]") for name in ("CLS", "SEP", "PAD")}
    special_BT = np.isin(batch.ids_BT, list(ids.values()))
    assert (batch.ids_BT == ids["PAD"]).any()
    assert ((batch.labels_BT == -1) == special_BT).all()


def test_damaged_windows_carry_the_labels_of_their_spans(tiny_bundle: Path) -> None:
    config = config_of(
        tiny_bundle, objective={"corrupted": 1.0}, corruption={"kinds": {"repeated": 1}, "clean": 0, "rate": (0.1, 0.2)}
    )
    batch = batch_of(config, sentences(6))
    assert batch.noisy == 6
    tokenizer = tiny_tokenizer()
    originals = {tuple(tokenizer.encode(text).ids[1:-1]) for text in sentences(6)}
    for ids_T, labels_T, length in zip(batch.ids_BT, batch.labels_BT, batch.lengths_B, strict=True):
        kept = tuple(ids_T[1 : length - 1][labels_T[1 : length - 1] == 0].tolist())
        assert labels_T[1 : length - 1].sum() > 0
        assert kept in originals  # without what was repeated it is the sentence again


def test_damaged_windows_lost_the_end_of_their_sentence(tiny_bundle: Path) -> None:
    """Cut at the width of a full window, they taught that a missing end means damage."""
    config = config_of(
        tiny_bundle,
        feed={"short": 0.0, "batch_tokens": 1 << 16},
        objective={"corrupted": 0.5},
        corruption={"kinds": {"repeated": 1}, "clean": 0, "rate": (0.2, 0.3)},
    )
    maker, full = maker_of(config), tiny_tokenizer().token_to_id(".")
    windows = maker.windows(
        [" ".join(sentences(40, seed=seed, words=5)) for seed in range(8)], np.random.default_rng(0)
    )
    assert sum(window.ids[-1] == full for window in windows) > 0.9 * len(windows)
    batch = maker.batch(windows, seed=0, number=0)
    longer, _ = maker._damaged(windows, size=1000, seed=0, number=0)
    assert sum(len(ids_T) > 30 for ids_T in longer) > len(windows) / 2  # most need more than there is
    last_B = batch.ids_BT[np.arange(len(windows)), batch.lengths_B - 2]
    assert batch.noisy > 20
    assert (last_B[: batch.noisy] == full).mean() > 0.9
    assert (batch.labels_BT[: batch.noisy] == 1).any(axis=1).mean() > 0.9
    for ids_T, labels_T, length in zip(batch.ids_BT, batch.labels_BT, batch.lengths_B, strict=True):
        assert length <= 32
        assert ((labels_T >= 0) == ((np.arange(len(ids_T)) > 0) & (np.arange(len(ids_T)) < length - 1))).all()


def test_two_batches_of_a_step_are_one_of_twice_the_size(tiny_bundle: Path) -> None:
    config = config_of(tiny_bundle, objective={"corrupted": 1.0}, corruption={"rate": (0.2, 0.3)})
    batch = batch_of(config, sentences(8))
    none_R = np.zeros(0, np.int32)

    def rows(first: int, last: int) -> Batch:
        return replace(
            batch, ids_BT=batch.ids_BT[first:last], lengths_B=batch.lengths_B[first:last],
            labels_BT=batch.labels_BT[first:last], taught_R=none_R,
        )  # fmt: skip

    gradients = []
    for parts in ([rows(0, 8)], [rows(0, 3), rows(3, 8)]):
        networks = networks_of(config)
        for part in parts:
            objective_of(config, networks).loss(part, Counts.of(parts), device=CPU)[0].backward()
        gradients.append(networks.discriminator.electra.encoder.layer[0].output.dense.weight.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


def test_the_teacher_sees_clean_windows_and_is_not_trained(tiny_bundle: Path) -> None:
    config = config_of(tiny_bundle, objective={"distil": 1.0, "distil_share": 1.0, "corrupted": 1.0})
    networks = networks_of(config)
    start = find_start(config.start, shape=config.shape)
    teacher = build_teacher(config, start, tokenizer=tiny_tokenizer(), attention="eager")
    batch = batch_of(config, sentences(6))
    tokenizer = tiny_tokenizer()
    clean = {tuple(tokenizer.encode(text).ids) for text in sentences(6)}
    lengths = batch.clean_lengths_R.tolist()
    assert {tuple(ids[:n].tolist()) for ids, n in zip(batch.clean_RT, lengths, strict=True)} == clean
    loss, vector = objective_of(config, networks, teacher).loss(*with_counts(batch), device=CPU)
    loss.backward()
    assert sums_of(vector)["distil_n"] == 6
    assert sums_of(vector)["distil"] > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(name.startswith("teacher") for name in networks.state_dict())


def test_distance_of_embeddings() -> None:
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert objective.distance(a, a).item() == 0
    assert objective.distance(a, b).item() == pytest.approx(1.0)  # cosines 1 and 0
    wide = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert objective.distance(a, wide).item() == 0  # other widths: only the windows' cosines to each other count
    assert objective.distance(b, wide).item() == pytest.approx(1.0)  # 2 of 4 cosines differ by 1: mean 0.5 in each row


# --- the feed ---


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """60 documents that can be told apart, some empty ones, in two files of several row groups."""
    folder = tmp_path_factory.mktemp("corpus")
    texts: list[str | None] = [f"{n} {text}" for n, text in enumerate(sentences(60), 100)]
    write_corpus(folder / "a.parquet", [*texts[:30], None, "", "  "])
    write_corpus(folder / "b.parquet", texts[30:])
    return open_corpus([str(folder)], text=None, licence="license", unit_mb=0.0001)


def plan_of(corpus: Corpus, config: PretrainConfig, **changes: Any) -> Plan:
    recipe = replace(recipe_of(config, tiny_tokenizer()), **changes)
    return Plan(corpus.units, corpus.text, recipe, config.seed)


def take(feed: Feed, count: int) -> list[tuple[Batch, Position]]:
    stream = iter(feed)
    taken = [next(stream) for _ in range(count)]
    feed.close()
    return taken


def epoch_of(feed: Feed) -> list[Batch]:
    batches = []
    for batch, position in feed:
        batches.append(batch)
        if position.epoch:
            break
    feed.close()
    return batches


def same(a: Batch, b: Batch) -> bool:
    names = Batch.__dataclass_fields__
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def windows_of(batches: list[Batch]) -> "Counter[str]":
    tokenizer = tiny_tokenizer()
    return Counter(tokenizer.decode(ids) for batch in batches for ids in batch.ids_BT.tolist())


def test_an_epoch_has_every_document_once(corpus: Corpus, tiny_bundle: Path) -> None:
    plan = plan_of(corpus, config_of(tiny_bundle), corrupted=0.0, short=0.0)
    assert plan.blocks > 2
    epochs = [epoch_of(Feed(plan, start=Position(epoch))) for epoch in (0,)]
    found = windows_of(epochs[0])
    tokenizer = tiny_tokenizer()
    expected = [f"{n} {text}" for n, text in enumerate(sentences(60), 100)]
    assert found == Counter(tokenizer.decode(tokenizer.encode(text).ids) for text in expected)
    again = windows_of([batch for batch, _ in take(Feed(plan, start=Position(1)), len(epochs[0]))])
    assert again == found
    order = [batch.ids_BT.tolist() for batch in epochs[0]]
    assert order != [batch.ids_BT.tolist() for batch, _ in take(Feed(plan, start=Position(1)), len(order))]


def test_short_windows_lose_nothing(corpus: Corpus, tiny_bundle: Path) -> None:
    long, short = (
        epoch_of(Feed(plan_of(corpus, config_of(tiny_bundle), corrupted=0.0, short=share))) for share in (0.0, 1.0)
    )
    pieces = [Counter(np.concatenate([b.ids_BT.ravel() for b in batches]).tolist()) for batches in (long, short)]
    for special in ("[CLS]", "[SEP]", "[PAD]"):
        for counter in pieces:
            del counter[SPECIAL.index(special)]
    assert pieces[0] == pieces[1]
    assert sum(len(b.ids_BT) for b in short) > 1.3 * sum(len(b.ids_BT) for b in long)


def test_batches_keep_to_the_budget(corpus: Corpus, tiny_bundle: Path) -> None:
    batches = epoch_of(Feed(plan_of(corpus, config_of(tiny_bundle), corrupted=0.0)))
    assert max(batch.ids_BT.size for batch in batches) <= 256
    assert {batch.ids_BT.shape[1] % 8 for batch in batches} == {0}
    assert len(batches) > 5


def test_what_damage_adds_to_the_budget_has_a_bound(tiny_bundle: Path) -> None:
    """The option said that a batch never has more than the budget."""
    config = config_of(
        tiny_bundle, objective={"corrupted": 1.0}, corruption={"kinds": {"repeated": 1}, "clean": 0, "rate": (0.2, 0.3)}
    )
    maker, rng = maker_of(config), np.random.default_rng(0)
    windows = maker.windows(sentences(60), rng)
    batches = []
    for rows in maker.arrange(windows, rng):
        chosen = [windows[at] for at in rows.tolist()]
        longest = 2 + max(len(window.ids) for window in chosen)
        batches.append(maker.batch(chosen, seed=0, number=0))
        assert len(chosen) * padded(longest, 8) <= 256
        assert batches[-1].ids_BT.shape[1] <= padded(min(32, longest + longest // 4 + 8), 8)
    assert max(batch.ids_BT.size for batch in batches) > 256


def test_a_feed_resumes_exactly(corpus: Corpus, tiny_bundle: Path) -> None:
    plan = plan_of(corpus, config_of(tiny_bundle), batch_tokens=64)
    whole = take(Feed(plan), 40)
    assert whole[-1][1].epoch > 0
    assert {after.batch for _, after in whole} > {0, 1, 2}
    for at in (0, 1, 12, 22, 30):
        rest = take(Feed(plan, start=whole[at][1]), min(39 - at, 16))
        for (a, after_a), (b, after_b) in zip(whole[at + 1 :], rest, strict=False):
            assert same(a, b)
            assert after_a == after_b


def test_processes_make_the_same_batches_as_a_thread(corpus: Corpus, tiny_bundle: Path) -> None:
    plan = plan_of(corpus, config_of(tiny_bundle))
    assert plan.blocks > 2
    start = Position(0, 1, 1)
    a, b = take(Feed(plan, start=start), 12), take(Feed(plan, start=start, workers=2), 12)
    assert all(same(x, y) and at_x == at_y for (x, at_x), (y, at_y) in zip(a, b, strict=True))


def test_a_corpus_without_text_ends_with_a_message(tmp_path: Path, tiny_bundle: Path) -> None:
    path = write_corpus(tmp_path / "a.parquet", ["", None, " "])
    empty = open_corpus([str(path)], text=None, licence="license", unit_mb=1)
    with pytest.raises(UserError, match="no text in column text"):
        next(iter(Feed(plan_of(empty, config_of(tiny_bundle)))))
    write_corpus(path, [])
    with pytest.raises(UserError, match="holds no rows"):
        open_corpus([str(path)], text=None, licence="license", unit_mb=1)
    path.write_bytes(b"nonsense, not Parquet")
    with pytest.raises(UserError, match="take the file out"):
        open_corpus([str(path)], text=None, licence="license", unit_mb=1)


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        (pa.array(["mit", None, "mit"]), {"mit": 2, "none": 1}),
        (pa.array(["mit", "x", "mit"]).dictionary_encode(), {"mit": 2, "x": 1}),
        (pa.array([b"mit", b"\xff", None]), {"mit": 1, "\ufffd": 1, "none": 1}),
        (pa.nulls(3), {"none": 3}),
        (pa.array([["mit", "apache"], ["mit", "apache"], None]), {"mit, apache": 2, "none": 1}),
        (pa.array([["mit"], [], ["mit"]], pa.large_list(pa.large_string())), {"mit": 2, "": 1}),
        (pa.array([1, 2, 2]), None),
        (pa.array([True, None, False]), None),
        (pa.array([0, 1, 2], pa.timestamp("ms")), None),
        (pa.array([[1], [2], None]), None),
        (pa.array([{"a": "mit"}, None, {"a": "mit"}]), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_licence_column_that_is_no_text_ended_training(
    tmp_path: Path, values: pa.Array, counted: dict[str, int] | None
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", "two", "three"], "license": values}), path, row_group_size=2)
    corpus = open_corpus([str(path)], text="text", licence="license", unit_mb=1)
    assert len(corpus.units) == 2
    assert corpus.licences == (counted or {})
    note = f"input.license: column license is {values.type} in {path}, not text; its values are not counted"
    assert corpus.notes == (() if counted else (note.replace("list<item:", "list<element:"),))


@pytest.mark.timeout(30)
def test_a_panic_of_the_tokenizer_left_the_trainer_waiting(
    corpus: Corpus, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        """As pyo3's: not an Exception."""

    monkeypatch.setattr(Maker, "windows", MagicMock(side_effect=PanicException("index out of bounds")))
    with pytest.raises(PanicException, match="out of bounds"):
        next(iter(Feed(plan_of(corpus, config_of(tiny_bundle)))))


def test_a_huge_document_is_cut_without_loss(tiny_bundle: Path) -> None:
    text = " ".join(sentences(60) * 80)
    assert len(text) > 1 << 18
    windows = maker_of(config_of(tiny_bundle)).windows([text], np.random.default_rng(0))
    ids = np.concatenate([window.ids for window in windows])
    assert np.array_equal(ids, tiny_tokenizer().encode(text, add_special_tokens=False).ids)
    assert "".join(window.text for window in windows).replace(" ", "") == text.replace(" ", "")


# --- the vocabulary ---


def test_a_vocabulary_is_the_same_for_the_same_texts() -> None:
    texts = sentences(300)
    made = [train_vocabulary(texts, size=300, lower_case=True, alphabet=100).to_str() for _ in range(4)]
    assert len(set(made)) == 1
    vocabulary = json.loads(made[0])["model"]["vocab"]
    assert list(vocabulary)[:5] == list(SPECIAL)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert len(vocabulary) == 300


def test_a_vocabulary_knows_its_corpus_in_any_script() -> None:
    texts = ["Das Wetter ist schön, nicht wahr?", "今天天气很好。明天也好。", "Погода хорошая"] * 3
    tokenizer = train_vocabulary(texts, size=400, lower_case=False, alphabet=200)
    for text in texts:
        encoding = tokenizer.encode(text)
        assert "[UNK]" not in encoding.tokens
        assert tokenizer.decode(encoding.ids).replace(" ", "") == text.replace(" ", "")
    assert tokenizer.encode("今天好").tokens == ["[CLS]", "今", "天", "好", "[SEP]"]
    assert "##天" not in tokenizer.get_vocab()
    assert "Wetter" in tokenizer.get_vocab()
    assert "[UNK]" in tokenizer.encode("ظ").tokens
    folded = train_vocabulary(texts, size=400, lower_case=True, alphabet=200)
    assert folded.encode("SCHÖN").ids == folded.encode("schon").ids


def test_the_alphabet_keeps_the_most_frequent_characters() -> None:
    tokenizer = train_vocabulary(["aaaa bbb cc d"] * 5, size=100, lower_case=True, alphabet=2)
    assert {"a", "b"} <= set(tokenizer.get_vocab())
    assert not {"c", "d"} & set(tokenizer.get_vocab())


# --- checkpoints and options ---


def test_a_checkpoint_is_whole_or_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"tensor": torch.full((2,), float(step))}, keep=2)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["step-000000002", "step-000000003"]
    (tmp_path / ".half-1").mkdir()
    (tmp_path / "step-000000009").mkdir()  # nothing in it: somebody's
    newest = tmp_path / "step-000000003" / checkpoint.STATE
    newest.write_bytes(newest.read_bytes()[:-100])
    state, problems = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["tensor"].tolist() == [2.0, 2.0]
    assert len(problems) == 1
    assert "step-000000003" in problems[0]
    checkpoint.save(tmp_path, 3, {}, keep=2)
    assert not (tmp_path / ".half-1").exists()


def test_chance_goes_on_where_it_stood(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {}, keep=1)
    expected = torch.rand(3)
    torch.rand(1)
    state, _ = checkpoint.load_newest(tmp_path)
    assert state is not None
    checkpoint.restore_random(state)
    assert torch.equal(torch.rand(3), expected)


def test_every_option_is_documented_and_known_by_its_name() -> None:
    options = describe(PretrainConfig)
    assert all(len(option.description) > 10 for option in options)
    assert {option.key for option in options} == set(flat(PretrainConfig()))
    assert set(flat(PretrainConfig())) >= CHANGEABLE


def test_special_ids_are_told_when_missing() -> None:
    with pytest.raises(UserError, match=r"no \[NO\]"):
        special_id(tiny_tokenizer(), "NO")


def test_a_recipe_can_be_sent_to_a_process(tiny_bundle: Path) -> None:
    import pickle

    recipe = recipe_of(config_of(tiny_bundle), tiny_tokenizer())
    assert isinstance(recipe, Recipe)
    assert pickle.loads(pickle.dumps(recipe)) == recipe
