"""Whole runs of `rtdscan pretrain`: what comes out, resuming, killing, Chinese. Part by part: test_pretrain.py."""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tiny import CHINESE, ENGLISH

from rtdscan.pipeline import pretrain as program
from rtdscan.pipeline.config import load_config
from rtdscan.pipeline.training import checkpoint, loop
from rtdscan.pipeline.training import run as run_module
from rtdscan.pipeline.training.models import load_generator
from rtdscan.pipeline.training.recorder import CLOCK, Recorder, read_metrics, summarise
from rtdscan.pipeline.training.run import Outcome, find_device, pretrain
from rtdscan.pipeline.training.settings import PretrainConfig
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.embedding import EmbeddingMap
from rtdscan.transforms.errors import BusyError, RtdscanError, UserError
from rtdscan.transforms.lexicon import LEXICON_FILE
from rtdscan.transforms.lexicon_file import write_lexicon
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import OutputSettings, ScoreSettings
from rtdscan.transforms.storage import lock

CONFIGS = Path(__file__).parent.parent / "configs"

TINY = {
    "steps": 24,
    "dropout": 0.1,
    "threads": 1,
    "log_every": 3,
    "shape": {"layers": 2, "dims": 32, "heads": 2, "inner": 64, "embedding": 16, "positions": 64},
    "vocabulary": {"size": 400, "alphabet": 300, "mb": 1},
    "feed": {"window": 32, "batch_tokens": 256, "shuffle_mb": 0.01},
    "optimiser": {"lr": 0.002, "warmup": 4},
    "checkpoint": {"every": 7},
}
"""Two layers of 32, from scratch; with dropout, so that the generators of chance matter."""


def tiny_config(**changes: Any) -> PretrainConfig:
    values: dict[str, Any] = dict(TINY)
    for name, change in changes.items():
        old = values.get(name)
        values[name] = {**old, **change} if isinstance(old, dict) else change
    return PretrainConfig.model_validate(values)


def write_corpus(path: Path, words: list[str], *, between: str = " ", end: str = ".", documents: int = 120) -> Path:
    """Sentences in which a word is mostly followed by its neighbour in the list: something to learn."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(documents):
        at = int(rng.integers(len(words)))
        chosen = [words[(at + step) % len(words)] for step in range(int(rng.integers(8, 60)))]
        texts.append(between.join(chosen) + end)
    path.parent.mkdir(parents=True, exist_ok=True)
    licences = ["CC0-1.0", "MIT"] * (documents // 2)
    pq.write_table(pa.table({"text": texts, "license": licences}), path, row_group_size=40)
    return path


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without matplotlib: a picture takes longer than a run. Only the run of `finished` draws its curves."""
    monkeypatch.setattr(run_module, "draw_curves", lambda folder: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "a.parquet", ENGLISH.split()[:40])


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run of 24 steps, undisturbed."""
    model = tmp_path_factory.mktemp("models") / "whole"
    return model, pretrain([str(corpus)], str(model), tiny_config())


def told(model: Path) -> list[dict[str, Any]]:
    """The metrics but for the time they took."""
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in read_metrics(model)]


def assert_same_result(model: Path, other: Path) -> None:
    """The curve and the weights, to the bit."""
    assert told(model) == told(other)
    for name in ("model.safetensors", "generator/model.safetensors", "tokenizer.json"):
        assert (model / name).read_bytes() == (other / name).read_bytes(), name


# --- what comes out ---


def test_a_run_writes_a_bundle_and_its_story(finished: tuple[Path, Outcome]) -> None:
    model, outcome = finished
    assert outcome.steps == 24
    assert not outcome.finished_before
    names = {path.name for path in model.iterdir() if not path.name.startswith(".")}
    assert names == {
        "README.md", "bundle.json", "config.json", "curves.png", "events", "generator", "metrics.jsonl",
        "model.safetensors", "pretrain.json", "tokenizer.json",
    }  # fmt: skip
    assert (model / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((model / "events").iterdir())
    lines = read_metrics(model)
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert {"mlm_loss", "gen_loss", "noise_loss", "learning_rate", "pieces_per_second"} <= lines[0].keys()
    bundle = load_bundle(str(model))
    assert bundle.card.window == 32
    assert bundle.card.lower_case is True
    assert bundle.card.training["data"]["licences"] == {"CC0-1.0": 60, "MIT": 60}
    card = (model / "README.md").read_text()
    assert "| MIT | 60 |" in card
    assert str(model.parent) not in card + (model / "bundle.json").read_text()


def test_the_bundle_is_what_transformers_loads_and_scan_uses(finished: tuple[Path, Outcome]) -> None:
    from transformers import ElectraForPreTraining

    model, _ = finished
    network, report = ElectraForPreTraining.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    text = " ".join(ENGLISH.split()[:12])
    encoding = load_bundle(str(model)).tokenizer().encode(text)
    with torch.no_grad():
        logits_T = network.eval()(torch.tensor([encoding.ids])).logits[0]
    assert logits_T.isfinite().all()
    scores = Scorer.load(str(model)).score(pa.table({"text": [text, "xq zzv"]}))
    assert scores["status"].to_pylist() == ["ok", "ok"]
    assert scores["n_tokens"].to_pylist()[0] == len(encoding.ids) - 2


def test_the_generator_is_stored_without_what_it_shares(finished: tuple[Path, Outcome]) -> None:
    model, _ = finished
    stored = load_file(model / "generator" / "model.safetensors")
    assert not any("embeddings." in name or name == "generator_lm_head.weight" for name in stored)
    generator = load_generator(model / "generator")
    shared = load_file(model / "model.safetensors")["electra.embeddings.word_embeddings.weight"].float()
    assert torch.equal(generator.electra.embeddings.word_embeddings.weight, shared)
    assert generator.generator_lm_head.weight is generator.electra.embeddings.word_embeddings.weight
    assert generator.config.num_hidden_layers == 2


def test_the_loss_falls(tmp_path: Path) -> None:
    """Each document repeats one of 12 words: who looks at the neighbours knows what is masked, and what is wrong."""
    words = ENGLISH.split()[:12]
    texts = [" ".join([words[at % 12]] * (10 + at % 15)) for at in range(120)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=40)
    config = tiny_config(
        steps=135, log_every=27, dropout=0.0, optimiser={"lr": 0.005, "warmup": 10}, precision="float32",
        corruption={"kinds": {"letters": 1}}, shape={"layers": 1}, checkpoint={"every": 135},
    )  # fmt: skip
    pretrain([str(tmp_path / "a.parquet")], str(tmp_path / "model"), config)
    lines = read_metrics(tmp_path / "model")
    assert lines[0]["mlm_loss"] > 2.485 > lines[-1]["mlm_loss"]  # log 12: knowing the words, not the neighbours
    assert lines[-1]["mlm_accuracy"] > 2 / 12
    assert lines[-1]["gen_loss"] < 0.42 < lines[0]["gen_loss"]  # 0.42: the entropy of "15 % are replaced"
    assert lines[-1]["noise_recall"] > 0.8
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]


def test_continue_from_a_bundle_with_teacher_and_generator(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    start, _ = finished
    config = tiny_config(
        start=str(start), steps=2, objective={"distil": 1.0}, export={"weights": "float32", "name": "second"}
    )
    pretrain([str(corpus)], str(tmp_path / "b"), config)
    assert load_bundle(str(tmp_path / "b")).name == "second"
    assert read_metrics(tmp_path / "b")[-1]["distance"] < 0.5  # it begins as its own teacher, but for the damage
    # With no steps the start comes out as it was, generator and lexicon included.
    listed = shutil.copytree(start, tmp_path / "listed")
    write_lexicon(["the", "house"], [3, 2], total=4, sink=listed / LEXICON_FILE)
    outcome = pretrain([str(corpus)], str(tmp_path / "c"), tiny_config(start=str(listed), steps=0))
    assert any("`rtdscan lexicon` adds" in note for note in outcome.notes)
    assert (tmp_path / "c" / LEXICON_FILE).read_bytes() == (listed / LEXICON_FILE).read_bytes()
    assert not (tmp_path / "b" / LEXICON_FILE).exists()
    for name in ("model.safetensors", "generator/model.safetensors"):
        ours, theirs = load_file(tmp_path / "c" / name), load_file(start / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name


def test_embeddings_are_mapped_to_those_of_a_teacher(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    start, _ = finished
    export = {"embedding_windows": 100, "embedding_layer": -1}
    config = tiny_config(start=str(start), steps=0, export=export)
    pretrain([str(corpus)], str(tmp_path / "mapped"), config)
    mapped = EmbeddingMap.read(tmp_path / "mapped", dims=32)
    assert mapped is not None
    texts = pq.read_table(corpus)["text"].to_pylist()[:40]
    plain, told = (_embeddings(model, texts) for model in (start, tmp_path / "mapped"))
    # Its own teacher: what is mapped is its embedding less the mean, but for ridge and special pieces.
    centred = plain - plain.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.mean(np.sum(centred * told, axis=1)) > 0.6 > np.mean(np.sum(plain * told, axis=1)) + 0.1


def test_too_few_windows_for_the_map_are_told_before_training(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, _ = finished
    monkeypatch.setattr("rtdscan.pipeline.training.run.train", lambda *args: pytest.fail("was trained"))
    few = tiny_config(start=str(start), steps=2, export={"embedding_windows": 5})
    with pytest.raises(UserError, match="5 windows, one of a text, are too few for 32 dimensions"):
        pretrain([str(corpus)], str(tmp_path / "few"), few)
    assert not (tmp_path / "few" / "pretrain.json").exists()


def _embeddings(model: Path, texts: list[str]) -> np.ndarray:
    settings = ScoreSettings(engine="torch", precision="float32", output=OutputSettings(embedding="float32"))
    scored = Scorer.load(str(model), settings=settings).score(pa.table({"text": texts}))
    return np.array(scored["embedding"].to_pylist())


def test_a_generator_made_before_can_be_frozen(corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    start, _ = finished
    alone = tiny_config(
        start=str(start), steps=3, objective={"discriminator": 0}, generator={"model": "start"}, feed={"short": 0.0}
    )
    pretrain([str(corpus)], str(tmp_path / "generator"), alone)
    assert "noise_loss" not in read_metrics(tmp_path / "generator")[-1]
    with pytest.raises(UserError, match="generator"):
        load_bundle(str(tmp_path / "generator"))
    before = {name: t.clone() for name, t in load_generator(tmp_path / "generator").state_dict().items()}
    frozen = tiny_config(start=str(start), steps=3, generator={"model": str(tmp_path / "generator"), "frozen": True})
    pretrain([str(corpus)], str(tmp_path / "model"), frozen)
    line = read_metrics(tmp_path / "model")[-1]
    assert line["mlm_accuracy"] >= 0
    assert not (tmp_path / "model" / "generator").exists()
    after = load_generator(tmp_path / "generator").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert str(tmp_path) not in (tmp_path / "model" / "bundle.json").read_text()


def test_a_generator_of_low_rank_is_learned_beside_a_discriminator_that_stays(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    start, _ = finished
    config = tiny_config(
        start=str(start),
        steps=24,
        log_every=6,
        objective={"discriminator": 0, "corrupted": 0},
        generator={"model": "start", "rank": 2},
        optimiser={"lr": 0.02},
    )
    pretrain([str(corpus)], str(tmp_path / "made"), config)
    lines = read_metrics(tmp_path / "made")
    assert lines[-1]["mlm_loss"] < lines[0]["mlm_loss"]
    own = load_file(tmp_path / "made" / "model.safetensors")
    assert not any("embeddings" in name or name.endswith("lm_head.weight") for name in own)
    assert {tuple(t.shape) for name, t in own.items() if name.endswith("lora_A")} == {(2, 32), (2, 64)}
    assert all(t.any() for t in own.values())

    pair = tmp_path / "pair"
    shutil.copytree(start, pair)
    shutil.rmtree(pair / "generator")
    (pair / "generator").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "made" / name, pair / "generator" / name)
    tensors = load_generator(pair / "generator").state_dict()
    shared = load_file(start / "model.safetensors")["electra.embeddings.word_embeddings.weight"].float()
    assert torch.equal(tensors["generator_lm_head.weight"], shared)
    # It serves to train the model further, at once and without its folder's neighbours being asked for.
    frozen = tiny_config(start=str(pair), steps=2, generator={"model": "own", "frozen": True})
    pretrain([str(corpus)], str(tmp_path / "model"), frozen)
    assert read_metrics(tmp_path / "model")[-1]["mlm_loss"] == pytest.approx(lines[-1]["mlm_loss"], abs=1.0)
    with pytest.raises(UserError, match="folder above"):
        load_generator(tmp_path / "made")
    shutil.rmtree(pair / "generator")
    with pytest.raises(UserError, match="`own` needs"):
        pretrain([str(corpus)], str(tmp_path / "other"), frozen)


def test_changes_of_low_rank_begin_where_a_generator_was(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    start, _ = finished
    recipe: dict[str, Any] = {"start": str(start), "objective": {"discriminator": 0, "corrupted": 0}}
    first = tiny_config(**recipe, steps=6, generator={"model": "start", "rank": 2}, optimiser={"lr": 0.02})
    pair = tmp_path / "pair"
    shutil.copytree(start, pair)
    shutil.rmtree(pair / "generator")
    pretrain([str(corpus)], str(pair / "generator"), first)
    pretrain(
        [str(corpus)],
        str(tmp_path / "again"),
        tiny_config(**recipe, steps=0, generator={"model": str(pair / "generator"), "rank": 2}),
    )
    before, taken = (load_file(f / "model.safetensors") for f in (pair / "generator", tmp_path / "again"))
    assert taken.keys() == before.keys()
    for name in before:
        if name.endswith("lora_A"):
            up = name.replace("lora_A", "lora_B")
            change, expected = taken[up].float() @ taken[name].float(), before[up].float() @ before[name].float()
            assert (change - expected).norm() < 0.02 * expected.norm()  # stored as float16
        elif not name.endswith("lora_B"):
            assert torch.equal(taken[name], before[name])
    narrow = tiny_config(**recipe, generator={"model": "own", "rank": 2})
    with pytest.raises(UserError, match="deep and wide"):
        pretrain([str(corpus)], str(tmp_path / "narrow"), narrow)


def test_low_rank_is_for_a_finished_discriminator(corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    start, _ = finished
    for changes in (
        {"generator": {"rank": 2, "model": "start"}},
        {"generator": {"rank": 2}, "objective": {"discriminator": 0}},
    ):
        with pytest.raises(UserError, match=r"generator\.rank"):
            pretrain([str(corpus)], str(tmp_path / "model"), tiny_config(start=str(start), **changes))


def test_the_generator_is_no_kind_of_damage_in_training(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"objective\.corrupted"):
        pretrain([str(corpus)], str(tmp_path / "model"), tiny_config(corruption={"kinds": {"generator": 1}}))


def test_from_scratch_with_the_vocabulary_and_embeddings_of_a_model(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    teacher = str(finished[0])
    config = tiny_config(
        steps=2, shape={"dims": 48}, vocabulary={"model": teacher}, objective={"distil": 1.0, "teacher": teacher}
    )
    pretrain([str(corpus)], str(tmp_path / "model"), config)
    assert (tmp_path / "model" / "tokenizer.json").read_text() == (finished[0] / "tokenizer.json").read_text()
    assert read_metrics(tmp_path / "model")[-1]["distance"] > 0
    assert teacher not in (tmp_path / "model" / "bundle.json").read_text()
    for wrong, said in (
        ({"objective": {"distil": 1.0}}, "scratch has no teacher"),
        ({"objective": {"distil": 1.0, "teacher": teacher}, "vocabulary": {"size": 100}}, "another vocabulary"),
        ({"export": {"embedding_layer": 3}}, "so expected -3 to 2"),
    ):
        with pytest.raises(UserError, match=said):
            pretrain([str(corpus)], str(tmp_path / "again"), tiny_config(steps=2, **wrong))
    # None of them took the folder.
    assert pretrain([str(corpus)], str(tmp_path / "again"), tiny_config(steps=2)).steps == 2


def test_chinese_from_scratch(tmp_path: Path) -> None:
    words = list(dict.fromkeys(CHINESE))[:60]
    path = write_corpus(tmp_path / "zh.parquet", words, between="", end="。")
    shipped = load_config(PretrainConfig, files=[CONFIGS / "pretrain-chinese.yaml"])
    config = tiny_config(log_every=6, corruption=shipped.corruption.model_dump(), optimiser={"lr": 0.005})
    pretrain([str(path)], str(tmp_path / "model"), config)
    lines = read_metrics(tmp_path / "model")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["noise_replaced"] > 0
    bundle = load_bundle(str(tmp_path / "model"))
    text = "".join(words[5:25]) + "。"
    encoding = bundle.tokenizer().encode(text, add_special_tokens=False)
    assert encoding.tokens == list(text)
    row = Scorer.load(str(tmp_path / "model")).score(pa.table({"text": [text]})).to_pylist()[0]
    assert (row["status"], row["unk_share"], row["n_words"]) == ("ok", 0.0, 21)


# --- again ---


def test_a_finished_run_says_so(corpus: Path, finished: tuple[Path, Outcome]) -> None:
    model, first = finished
    before = (model / "model.safetensors").stat().st_mtime_ns
    again = pretrain([str(corpus)], str(model), tiny_config(checkpoint={"every": 5}, feed={"workers": 2}))
    assert again.finished_before
    assert (again.steps, again.pieces) == (first.steps, first.pieces)
    assert (model / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_killed_after_its_bundle_kept_its_checkpoints_for_good(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(folder: Path) -> None:
        raise MemoryError

    model = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_clean_up", dies)
        with pytest.raises(MemoryError):
            pretrain([str(corpus)], str(model), tiny_config())
    assert (model / "bundle.json").is_file()
    assert {"checkpoints", "vocabulary.json"} <= {path.name for path in model.iterdir()}
    assert pretrain([str(corpus)], str(model), tiny_config()).finished_before
    assert not {"checkpoints", "vocabulary.json"} & {path.name for path in model.iterdir()}
    assert_same_result(model, finished[0])


def test_a_model_of_another_run_is_left_alone(corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    model, _ = finished
    with pytest.raises(UserError, match=r"made with optimiser\.lr: 0\.002, now it is 0\.1"):
        pretrain([str(corpus)], str(model), tiny_config(optimiser={"lr": 0.1}))
    other = write_corpus(tmp_path / "b.parquet", ["other", "words"])
    with pytest.raises(UserError, match="begun on another INPUT"):
        pretrain([str(other)], str(model), tiny_config())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds thesis\.txt"):
        pretrain([str(corpus)], str(tmp_path / "mine"), tiny_config())
    with pytest.raises(UserError, match="local folder"):
        pretrain([str(corpus)], "s3://bucket/model", tiny_config())
    with pytest.raises(UserError, match="no GPU"):
        find_device("cuda:7")


def test_padding_past_the_networks_positions_left_a_folder_that_refused_better_options(
    corpus: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    message = r"feed\.pad_to is 48: windows of 60 pieces are padded to 96, but the network has only 64 positions"
    with pytest.raises(UserError, match=message):
        pretrain([str(corpus)], str(model), tiny_config(steps=1, feed={"window": 60, "pad_to": 48}))
    assert not (model / "pretrain.json").exists()
    assert pretrain([str(corpus)], str(model), tiny_config(steps=1, feed={"window": 60, "pad_to": 32})).steps == 1


def test_positions_of_a_generator_and_a_teacher_are_counted_too(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """`finished` has 64 positions; what is trained here has 128."""
    more = {"shape": {"positions": 128}, "feed": {"window": 96}, "vocabulary": {"model": str(finished[0])}}
    for what, change in (
        ("generator.model", {"generator": {"model": str(finished[0] / "generator")}}),
        ("objective.teacher", {"objective": {"distil": 1.0, "teacher": str(finished[0])}}),
    ):
        with pytest.raises(UserError, match=rf"feed\.window is 96, but {what}.* has only 64 positions"):
            pretrain([str(corpus)], str(tmp_path / "model"), tiny_config(**more, **change))


def test_one_run_at_a_time(corpus: Path, tmp_path: Path) -> None:
    with lock(str(tmp_path / "model")), pytest.raises(BusyError):
        pretrain([str(corpus)], str(tmp_path / "model"), tiny_config())


@pytest.mark.parametrize("at", [pytest.param(2, marks=pytest.mark.slow), 7, pytest.param(17, marks=pytest.mark.slow)])
def test_a_run_that_was_cut_off_resumes_to_the_bit(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """As a kill, but within this process: nothing is written after step `at`. The real one: the slow test below."""
    step = loop._step

    def dies(run: loop.Run, feed: Any) -> None:
        if run.state.step == at:
            raise MemoryError
        step(run, feed)

    model = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", dies)
        with pytest.raises(MemoryError):
            pretrain([str(corpus)], str(model), tiny_config())
    torch.rand(3)  # somebody else uses the generator of chance in between
    outcome = pretrain([str(corpus)], str(model), tiny_config())
    assert outcome.resumed_from == at // 7 * 7
    assert_same_result(model, finished[0])


INTERRUPTED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_pretrain_run import tiny_config
from rtdscan.pipeline.training import checkpoint, loop
from rtdscan.pipeline.training.run import pretrain
from rtdscan.transforms.errors import RtdscanError

step = loop._step
def interrupted(run, feed):
    step(run, feed)
    if run.state.step == 10:
        os.kill(os.getpid(), signal.SIGTERM)

loop._step = interrupted
try:
    pretrain([sys.argv[2]], sys.argv[3], tiny_config())
except RtdscanError as error:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    sys.exit(f"{error.exit_status}: {error}")
"""


@pytest.mark.slow
def test_a_signal_leaves_a_checkpoint(corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    """In a process of its own: libraries of other tests leave an alternate signal stack behind that can't be used."""
    model = tmp_path / "model"
    command = [sys.executable, "-c", INTERRUPTED, str(Path(__file__).parent), str(corpus), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "1: " in done.stderr
    assert "stopped after step 10 of 24; run the same command again" in done.stderr
    assert pretrain([str(corpus)], str(model), tiny_config()).resumed_from == 10
    assert_same_result(model, finished[0])


def test_a_loss_that_is_no_number_ends_the_run(corpus: Path, tmp_path: Path) -> None:
    wild = tiny_config(optimiser={"lr": 1e30, "warmup": 0}, log_every=1)
    with pytest.raises(RtdscanError, match=r"not a number any more at step \d+: lower optimiser\.lr"):
        pretrain([str(corpus)], str(tmp_path / "model"), wild)


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_checkpoints_of_nothing_pushed_out_the_good_ones(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The loss is no number from step 6 on; the next line of metrics would be after step 20."""
    step = loop._step

    def breaks(run: loop.Run, feed: Any) -> None:
        step(run, feed)
        if run.state.step == 6:
            broken = run.state.sums if what == "loss" else next(run.networks.parameters()).data
            broken.view(-1)[0] = float("nan" if what == "loss" else "inf")

    monkeypatch.setattr(loop, "_step", breaks)
    model = tmp_path / "model"
    with pytest.raises(RtdscanError, match="not a number any more at step 6: lower"):
        pretrain([str(corpus)], str(model), tiny_config(log_every=20, checkpoint={"every": 2, "keep": 2}))
    assert [path.name for path in checkpoint.found(model / "checkpoints")] == ["step-000000002", "step-000000004"]


PROCESS = """
import sys
from rtdscan.pipeline import __main__ as main
main.PROGRAMS["pretrain"] = ("rtdscan.pipeline.pretrain", "")
sys.exit(main.main(sys.argv[1:]))
"""


def command(corpus: Path, model: Path, config: Path) -> list[str]:
    return [sys.executable, "-c", PROCESS, "pretrain", str(corpus), str(model), "--config", str(config), "--json"]


@pytest.mark.slow
def test_killed_at_random_steps_and_resumed_it_is_the_undisturbed_run(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps({**TINY, "steps": 120, "log_every": 2}))  # JSON is YAML
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = subprocess.run(command(corpus, whole, config), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rng = random.Random(time.time_ns())
    kills = sorted(rng.sample(range(5, 110), 3))
    for step in kills:
        process = subprocess.Popen(command(corpus, broken, config), env=env, stderr=subprocess.PIPE)
        while process.poll() is None and (read_metrics(broken) or [{"step": 0}])[-1]["step"] < step:
            time.sleep(0.002)
        assert process.poll() is None, f"finished before it could be killed at {step}"
        process.kill()
        process.communicate()
    assert not (broken / "bundle.json").exists()
    done = subprocess.run(command(corpus, broken, config), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed_from"] > 0
    assert_same_result(broken, whole)


# --- the program ---


def test_the_program_prints_what_became_of_it(
    corpus: Path, finished: tuple[Path, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(TINY))
    parser = argparse.ArgumentParser()
    program.add_arguments(parser)
    args = parser.parse_args([str(corpus), str(finished[0])])
    args.config, args.set, args.json = [config], [], False
    assert program.run(args) == 0
    assert "is finished (24 steps); nothing to do" in capsys.readouterr().out
    args.json = True
    assert program.run(args) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 24


def test_a_corpus_that_is_far_too_small_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run on one row ended with status 0 and no word of it. Its one window is a batch, so a step is an epoch."""
    pq.write_table(pa.table({"text": ["the house"]}), tmp_path / "one.parquet")
    (tmp_path / "config.yaml").write_text(json.dumps({**TINY, "steps": 11, "log_every": 11}))
    parser = argparse.ArgumentParser()
    program.add_arguments(parser)
    args = parser.parse_args([str(tmp_path / "one.parquet"), str(tmp_path / "model")])
    args.config, args.set, args.json = [tmp_path / "config.yaml"], [], False
    assert program.run(args) == 0
    told = capsys.readouterr()
    assert "next: `rtdscan lexicon`" in told.out
    assert "; the corpus was read 11.0 times" in told.out
    assert "the corpus was read 11.0 times: too small" in told.err


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("pretrain-*.yaml")), ids=lambda path: path.stem)
def test_config_files_load_and_are_commented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    config = load_config(PretrainConfig, files=[path])
    assert config.optimiser.warmup < config.steps or config.steps == 0
    assert text.startswith("# ")
    assert f"--config configs/{path.name}" in text
    keys = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert sum("#" in line for line in keys) >= len(keys) / 2


def test_the_three_configs_are_there() -> None:
    assert {path.stem for path in CONFIGS.glob("pretrain-*.yaml")} >= {
        "pretrain-small", "pretrain-gpu", "pretrain-chinese",
    }  # fmt: skip
    assert "configs/pretrain-small.yaml" in program.HELP


def test_metrics_are_means_and_shares() -> None:
    sums = torch.zeros(len(run_module.State.fresh().sums), dtype=torch.float64)
    from rtdscan.pipeline.training.objective import SUMS

    for name, value in {
        "loss": 30, "steps": 2, "gradient": 3, "mlm": 12, "mlm_n": 4, "mlm_hidden": 3, "mlm_right": 1,
        "noise": 5, "noise_n": 10, "noise_replaced": 4, "noise_flagged": 3, "noise_found": 2,
    }.items():  # fmt: skip
        sums[SUMS.index(name)] = value
    assert summarise(sums) == pytest.approx(
        {
            "loss": 15, "gradient": 1.5, "mlm_loss": 3, "mlm_accuracy": 1 / 3, "noise_loss": 0.5,
            "noise_replaced": 0.4, "noise_precision": 2 / 3, "noise_recall": 0.5,
        }
    )  # fmt: skip


def test_metrics_of_a_killed_process_are_forgotten(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1.0} for step in (5, 10, 15)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 20, "lo')
    recorder = Recorder(tmp_path, step=10)
    recorder.write({"step": 15, "loss": 2.0})
    recorder.close()
    assert read_metrics(tmp_path) == [*lines[:2], {"step": 15, "loss": 2.0}]
