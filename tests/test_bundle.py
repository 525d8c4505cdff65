"""A model is found, looked through and told apart from what only resembles one."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file
from tiny import make_tiny_bundle, tiny_tokenizer, tiny_vocabulary

from rtdscan.transforms import storage
from rtdscan.transforms.bundle import DEFAULT, BundleCard, load_bundle
from rtdscan.transforms.electra import read_weights, tensor_shapes
from rtdscan.transforms.errors import RtdscanError, UserError
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings

TEXT = "The résumé of a Quick fox, don't stop; 我们在中国 x\ufffdy"


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(path: Path, edit: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    save_file(edit(load_file(path / "model.safetensors")), path / "model.safetensors")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "model")


def test_default_bundle_is_complete() -> None:
    bundle = load_bundle("default")
    assert (bundle.config.layers, bundle.config.dims, bundle.card.window) == (6, 384, 128)
    assert bundle.warnings == ()
    assert (bundle.path / "README.md").is_file()
    assert bundle.tokenizer().encode("the").ids == [bundle.special.cls, 1996, bundle.special.sep]  # bert-base-uncased


def test_loading_needs_no_heavy_library(tiny_bundle: Path) -> None:
    code = (
        "import sys; from rtdscan.transforms.bundle import load_bundle; load_bundle(sys.argv[1]).tokenizer();"
        "print([m for m in ('torch', 'transformers', 'apache_beam', 'pyarrow', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_card_fields_and_their_defaults(tmp_path: Path) -> None:
    path = make_tiny_bundle(
        tmp_path / "model", window=64, card={"calibration": {"slope": 2.0}, "thresholds": {"flag": 0.7}}
    )
    card = load_bundle(str(path)).card
    assert (card.window, card.calibration.slope, card.calibration.intercept) == (64, 2.0, 0.0)
    assert card.thresholds.model_dump() == {"floor": 0.05, "flag": 0.7, "review": 0.05, "drop": 0.2}
    assert BundleCard.model_validate_json(card.model_dump_json()) == card


def test_bundle_can_go_to_another_process(model: Path) -> None:
    bundle = load_bundle(str(model))
    assert pickle.loads(pickle.dumps(bundle)) == bundle


def test_plain_directory_gets_defaults_and_a_warning(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "plain", plain=True, max_position_embeddings=48)
    bundle = load_bundle(f"file://{path}")
    assert bundle.name == "plain"
    assert (bundle.card.calibration.slope, bundle.card.calibration.intercept) == (1.0, 0.0)
    assert bundle.card.window == 48  # 128, but there are only 48 positions
    (warning,) = bundle.warnings
    assert "not calibrated" in warning
    assert "rtdscan calibrate" in warning


def test_a_bundle_that_nobody_calibrated_is_told_as_such(tmp_path: Path) -> None:
    """A bundle as `pretrain` writes it dropped whole corpora by thresholds that were guesses, without a word."""
    path = make_tiny_bundle(tmp_path / "model", card=BundleCard(name="fresh").model_dump(mode="json"))
    (warning,) = load_bundle(str(path)).warnings
    assert "not calibrated" in warning
    edit_json(path / "bundle.json", calibration={"slope": 0.9}, thresholds={"review": 0.01, "drop": 0.04})
    assert load_bundle(str(path)).warnings == (), "as `calibrate` leaves it where no precision is reached"


@pytest.mark.parametrize("lower_case", [True, False])
def test_vocabulary_file_gives_the_tokenizer_of_transformers(model: Path, lower_case: bool) -> None:
    from transformers import BertTokenizer

    pieces = sorted(tiny_vocabulary(), key=tiny_vocabulary().__getitem__)
    (model / "tokenizer.json").unlink()
    (model / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (model / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower_case}))
    ours = load_bundle(str(model)).tokenizer().encode(TEXT, add_special_tokens=False).ids
    theirs = BertTokenizer(tiny_vocabulary(), do_lower_case=lower_case).encode(TEXT, add_special_tokens=False)
    assert ours == theirs
    assert (ours == tiny_tokenizer().encode(TEXT, add_special_tokens=False).ids) is lower_case


def test_a_vocabulary_with_a_line_separator_as_a_piece_keeps_its_numbers(model: Path) -> None:
    pieces = sorted(tiny_vocabulary(), key=tiny_vocabulary().__getitem__)
    odd = next(at for at, piece in enumerate(pieces) if piece.isalpha() and len(piece) > 3)
    pieces[odd] = "\u2028"
    (model / "tokenizer.json").unlink()
    (model / "vocab.txt").write_bytes(("\r\n".join(pieces) + "\r\n").encode())
    tokenizer = load_bundle(str(model)).tokenizer()
    assert [tokenizer.token_to_id(piece) for piece in pieces] == list(range(len(pieces)))


def test_tokenizer_neither_cuts_nor_pads(model: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(model / "tokenizer.json"))
    assert len(load_bundle(str(model)).tokenizer().encode("a b c d e f", add_special_tokens=False).ids) == 6
    assert len(load_bundle(str(model)).tokenizer().encode("a", add_special_tokens=False).ids) == 1


def test_a_tokenizer_to_change_is_not_the_one_that_is_shared(model: Path) -> None:
    bundle = load_bundle(str(model))
    shared, own = bundle.shared_tokenizer(), bundle.tokenizer()
    own.enable_truncation(2)
    own.enable_padding(length=9)
    assert load_bundle(str(model)).shared_tokenizer() is shared
    assert len(shared.encode("a b c d e f", add_special_tokens=False).ids) == 6
    tiny_tokenizer().save(str(model / "tokenizer.json"), pretty=False)  # other bytes, another digest
    assert load_bundle(str(model)).shared_tokenizer() is not shared


def test_written_masks_were_taken_for_masks(model: Path) -> None:
    tokens = load_bundle(str(model)).tokenizer().encode("a [MASK] b[SEP] c", add_special_tokens=False).tokens
    assert "".join(tokens).replace("##", "") == "a[mask]b[sep]c"


# --- the digest ------------------------------------------------------------------------------------------------------


def test_digest_is_of_content_not_of_place(tmp_path: Path) -> None:
    one, two = (load_bundle(str(make_tiny_bundle(tmp_path / name))) for name in ("one", "two"))
    assert one.digest == two.digest
    assert len(one.digest) == 32
    assert load_bundle(str(make_tiny_bundle(tmp_path / "other", seed=1))).digest != one.digest


CHANGES: dict[str, Callable[[Path], object]] = {
    "window": lambda path: edit_json(path / "bundle.json", window=33),
    "readout": lambda path: edit_json(path / "bundle.json", readout={"coefficients": {"mean": 1.0}, "intercept": 0}),
    "calibration": lambda path: edit_json(path / "bundle.json", calibration={"slope": 1.5}),
    "embedding layer": lambda path: edit_json(path / "bundle.json", embedding_layer=1),
    "lexicon": lambda path: (path / "lexicon.txt").write_text("the 5\n"),
    "tokenizer": lambda path: edit_json(path / "tokenizer.json", decoder=None),
    "activation": lambda path: edit_json(path / "config.json", hidden_act="relu"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_digest_tells_what_changes_scores(model: Path, change: Callable[[Path], object]) -> None:
    before = load_bundle(str(model)).digest
    change(model)
    assert load_bundle(str(model)).digest != before


def test_digest_leaves_thresholds_and_card_alone(model: Path) -> None:
    before = load_bundle(str(model)).digest
    edit_json(model / "bundle.json", thresholds={"flag": 0.9}, name="else", metrics={"auroc": 0.9}, training={"a": 1})
    edit_json(model / "config.json", dtype="float16", hidden_dropout_prob=0.1)
    (model / "README.md").write_text("new")
    assert load_bundle(str(model)).digest == before


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["electra.", ""])
def test_weights_are_read_as_stored(tmp_path: Path, prefix: str) -> None:
    path = make_tiny_bundle(tmp_path / "model", prefix=prefix, embedding_size=16)
    bundle = load_bundle(str(path))
    weights = read_weights(bundle.weights, bundle.config)
    expected = {name.removeprefix("electra."): array for name, array in load_file(bundle.weights).items()}
    assert weights.keys() == expected.keys() == tensor_shapes(bundle.config).keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, expected[name])


def test_weights_that_are_no_numbers(model: Path) -> None:
    """Each document failed, and the scan ended as if all were well."""
    edit_weights(
        model, lambda all_: {k: v * (np.nan if k.endswith("predictions.dense.bias") else 1) for k, v in all_.items()}
    )
    bundle = load_bundle(str(model))
    with pytest.raises(UserError, match=r"dense\.bias holds numbers that are not finite"):
        read_weights(bundle.weights, bundle.config)


def test_bfloat16_and_old_names_are_read(model: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    exact = {name: torch.from_numpy(array).bfloat16() for name, array in load_file(model / "model.safetensors").items()}
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in exact.items()
    }
    save_torch(renamed, model / "model.safetensors")
    bundle = load_bundle(str(model))
    weights = read_weights(bundle.weights, bundle.config)
    for name, tensor in exact.items():
        np.testing.assert_array_equal(weights[name.removeprefix("electra.")], tensor.float().numpy())


# --- what is refused, and in which words -----------------------------------------------------------------------------


def _without_head(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights.items() if "discriminator" not in name}


def _as_generator(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("discriminator", "generator"): array for name, array in weights.items()}


def _wrapped(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"module.{name}": array for name, array in weights.items()}


def _wrapped_encoder(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("electra.", "discriminator.", 1): array for name, array in weights.items()}


def _first_layer_only(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights.items() if "layer.1." not in name}


def _add_generator(path: Path) -> None:
    (path / "generator").mkdir()


def _shard(path: Path) -> None:
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    (path / "model.safetensors.index.json").write_text("{}")


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _drop_mask(path: Path) -> None:
    tokens = json.loads((path / "tokenizer.json").read_text())
    tokens["added_tokens"] = [token for token in tokens["added_tokens"] if token["content"] != "[MASK]"]
    tokens["model"]["vocab"] = {"[X]" if k == "[MASK]" else k: v for k, v in tokens["model"]["vocab"].items()}
    (path / "tokenizer.json").write_text(json.dumps(tokens))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda path: (path / "config.json").unlink(), "has no config.json"),
    "config is not JSON": (lambda path: (path / "config.json").write_text("{"), "is not JSON"),
    "config is a list": (lambda path: (path / "config.json").write_text("[]"), "expected a JSON object"),
    "BERT": (lambda path: edit_json(path / "config.json", model_type="bert"), "model_type is 'bert'"),
    "generator by config": (
        lambda path: edit_json(path / "config.json", architectures=["ElectraForMaskedLM"]),
        "generator",
    ),
    "generator by weights": (lambda path: edit_weights(path, _as_generator), "generator's weights"),
    "no head": (lambda path: edit_weights(path, _without_head), "no discriminator_predictions"),
    "a layer is missing": (lambda path: edit_weights(path, _first_layer_only), "holds no encoder.layer.1."),
    "pickle": (
        lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"),
        "only safetensors is read, never pickle; to convert",
    ),
    "several files": (_shard, "its weights are in several files; save it as one"),
    "wrapped": (lambda path: edit_weights(path, _wrapped), "begin with `module.`: save it without"),
    "wrapped encoder": (lambda path: edit_weights(path, _wrapped_encoder), "begin with `discriminator.`: save it"),
    "truncated weights": (lambda path: _shorten(path / "model.safetensors"), "damaged"),
    "garbage weights": (lambda path: (path / "model.safetensors").write_bytes(b"PK\x03\x04" * 99), "damaged"),
    "empty weights": (lambda path: (path / "model.safetensors").write_bytes(b""), "damaged"),
    "other shapes": (
        lambda path: edit_json(path / "config.json", intermediate_size=65),
        r"intermediate.dense.weight is \[64, 32\], by config.json it should be \[65, 32\]",
    ),
    "heads": (lambda path: edit_json(path / "config.json", num_attention_heads=3), "can't be split among 3"),
    "config without end": (lambda path: (path / "config.json").write_text('{"a":' * 100_000), "is not JSON"),
    "too many layers": (lambda path: edit_json(path / "config.json", num_hidden_layers=10**9), "expected 1000 at most"),
    "layers": (lambda path: edit_json(path / "config.json", num_hidden_layers="two"), "num_hidden_layers is 'two'"),
    "activation": (lambda path: edit_json(path / "config.json", hidden_act="swish"), "expected one of gelu"),
    "positions": (
        lambda path: edit_json(path / "config.json", position_embedding_type="relative_key"),
        "expected 'absolute'",
    ),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), "has no tokenizer"),
    "broken tokenizer": (lambda path: (path / "tokenizer.json").write_text("{}"), "is not a tokenizer"),
    "no [MASK] for its generator": (
        lambda path: (_drop_mask(path), _add_generator(path)),
        r"the tokenizer has no \[MASK\]",
    ),
    "unknown field": (lambda path: edit_json(path / "bundle.json", treshold=1), "treshold: Extra inputs"),
    "other format": (lambda path: edit_json(path / "bundle.json", format=2), "format: Input should be 1"),
    "threshold": (
        lambda path: edit_json(path / "bundle.json", thresholds={"flag": 50}),
        r"thresholds.flag: .* less than or equal to 1 \(it is 50\)",
    ),
    "long window": (lambda path: edit_json(path / "bundle.json", window=512), "only 128 positions"),
    "embedding layer": (lambda path: edit_json(path / "bundle.json", embedding_layer=3), "expected -3 to 2"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(model: Path, change: Callable[[Path], object], message: str) -> None:
    load_bundle(str(model))
    change(model)
    with pytest.raises(UserError, match=message) as caught:
        load_bundle(str(model))
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_without_mask_scores_the_same(model: Path) -> None:
    table = pa.table({"text": ["the house is by the river"]})
    settings = ScoreSettings(engine="torch", precision="float32")
    before = Scorer.load(str(model), settings=settings).score(table)["score"]
    _drop_mask(model)
    assert Scorer.load(str(model), settings=settings).score(table)["score"] == before


def test_refuses_a_vocabulary_smaller_than_the_tokenizers(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "model", vocab_size=100)
    with pytest.raises(UserError, match="vocab_size 100: they belong to different models"):
        load_bundle(str(path))


@pytest.mark.parametrize("name", ["no-such-model", "./no/such", "google/electra-small-discriminator"])
def test_unknown_model(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="NAME@REVISION") as caught:
        load_bundle(name)
    assert f"model {name}: " in str(caught.value)


def test_a_file_is_no_model(model: Path) -> None:
    with pytest.raises(UserError, match="is a file; give the directory"):
        load_bundle(str(model / "model.safetensors"))


# --- from elsewhere --------------------------------------------------------------------------------------------------


def test_hub_without_network_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"owner/none@abc: can't be had from the Hugging Face hub \(.+\)") as caught:
        load_bundle("owner/none@abc")
    assert "\n" not in str(caught.value)


def test_hub_is_asked_for_a_revision_and_needed_files_only(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(name: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (model / "bundle.json").unlink()
    bundle = load_bundle("owner/some-model@refs/pr/3")
    assert (asked["name"], asked["revision"]) == ("owner/some-model", "refs/pr/3")
    assert "model.safetensors" in asked["patterns"]
    assert not [pattern for pattern in asked["patterns"] if "bin" in pattern or pattern == "*"]
    assert bundle.name == "owner/some-model@refs/pr/3"


@pytest.fixture
def store(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An object store "s3://bucket/model", in fact the directory `model`; the cache is empty."""
    list_files, open_read = storage.list_files, storage.open_read
    monkeypatch.setattr(storage, "list_files", lambda url: list_files(str(model)) if "bucket/model" in url else [])
    monkeypatch.setattr(storage, "open_read", open_read)
    monkeypatch.setenv("RTDSCAN_CACHE", str(tmp_path / "cache"))
    return model


def test_object_store_is_copied_once_and_as_a_whole(store: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (store / "pytorch_model.bin").write_bytes(b"huge")
    here = load_bundle(str(store))
    bundle = load_bundle("s3://bucket/model")
    assert bundle.digest == here.digest
    assert bundle.path.parent == tmp_path / "cache" / "models"
    assert sorted(p.name for p in bundle.path.iterdir()) == [
        "bundle.json", "config.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    monkeypatch.setattr(storage, "open_read", None)
    assert load_bundle("s3://bucket/model/") == bundle  # nothing is read again
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_all_that_the_bundled_model_has_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {path.relative_to(DEFAULT).as_posix() for path in DEFAULT.rglob("*") if path.is_file()}
    list_files = storage.list_files
    monkeypatch.setattr(storage, "list_files", lambda url: list_files(str(DEFAULT)))
    monkeypatch.setenv("RTDSCAN_CACHE", str(tmp_path / "cache"))
    bundle = load_bundle("s3://bucket/model")
    copied = {path.relative_to(bundle.path).as_posix() for path in bundle.path.rglob("*") if path.is_file()}
    assert copied == there
    assert bundle.digest == load_bundle("default").digest


def test_object_store_with_a_new_model_is_copied_again(store: Path) -> None:
    before = load_bundle("s3://bucket/model")
    edit_json(store / "bundle.json", window=40)
    after = load_bundle("s3://bucket/model")
    assert (before.card.window, after.card.window) == (32, 40)
    assert before.path != after.path


def test_object_store_that_breaks_leaves_nothing_behind(store: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def broken(path: str) -> Any:
        raise RtdscanError(f"can't read {path}: connection reset")

    monkeypatch.setattr(storage, "open_read", broken)
    with pytest.raises(UserError, match=r"model s3://bucket/model: can't be copied .* connection reset"):
        load_bundle("s3://bucket/model")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_object_store_without_the_model(store: Path) -> None:
    with pytest.raises(UserError, match="s3://bucket/nothing: there is no such directory"):
        load_bundle("s3://bucket/nothing")


def test_two_processes_that_fetch_at_once_agree(store: Path, monkeypatch: Any) -> None:
    open_read = storage.open_read
    raced = []

    def read(path: str) -> Any:
        if not raced:  # while the first fetches, the second fetches all of it
            raced.append(True)
            raced.append(load_bundle("s3://bucket/model"))
        return open_read(path)

    monkeypatch.setattr(storage, "open_read", read)
    bundle = load_bundle("s3://bucket/model")
    assert raced[1] == bundle
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]
    shutil.rmtree(bundle.path)
