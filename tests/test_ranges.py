"""int8: how a layer is rounded, where ranges come from, and when `auto` takes it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from corpora import options, write_corpus
from tiny import make_tiny_bundle

from rtdscan.pipeline.__main__ import main
from rtdscan.transforms import engines, ranges, resolved
from rtdscan.transforms.bundle import RANGES_FILE, load_bundle
from rtdscan.transforms.engines.quantised import Ranges, input_sizes, map_input, quantise
from rtdscan.transforms.errors import EngineError, UserError
from rtdscan.transforms.ranges import Trial, find_ranges, packaged_texts, try_int8
from rtdscan.transforms.resolved import resolve_settings
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import OutputSettings, ScoreSettings

needs_int8 = pytest.mark.skipif(not engines.has_int8(), reason="not on this CPU")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ranges, "RANGE_BYTES", 9_000)
    monkeypatch.setattr(ranges, "TRIAL_BYTES", 5_000)
    monkeypatch.setenv("RTDSCAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "int8"


# --- arithmetic ------------------------------------------------------------------------------------------------------


def eight_bits(
    rows_NC: np.ndarray, range_3C: np.ndarray, weight_OC: np.ndarray, bias_O: np.ndarray, copies: int
) -> Any:
    """What the graph of an int8 layer computes."""
    mapped = map_input(range_3C, weight_OC, copies=copies)
    layer = quantise(weight_OC, bias_O, mapped)
    y_NC = np.clip((rows_NC - mapped.centre_C) / mapped.half_C, -1, 1)
    y_NJ = (np.rint((y_NC + 1) * 127.5) / 127.5 - 1)[:, mapped.channel_J]
    return y_NJ @ layer.weight_OJ.T.astype(np.float64) * layer.scale_O + layer.bias_O


@pytest.mark.parametrize("copies", [0, 8])
def test_a_rounded_layer_is_close_and_copies_help_against_outliers(copies: int) -> None:
    random = np.random.default_rng(0)
    rows_NC = random.normal(0.3, 1.0, (500, 24)).astype(np.float32)
    rows_NC[:, 5] = np.where(np.arange(500) % 100 == 0, 80, 0)  # one token in a hundred, as trained networks have it
    weight_OC, bias_O = random.normal(size=(2, 16, 24)).astype(np.float32)[0], random.normal(size=16).astype(np.float32)
    range_3C = np.stack([rows_NC.min(0), rows_NC.max(0), rows_NC.mean(0)])
    exact_NO = rows_NC @ weight_OC.T + bias_O
    away = {n: np.abs(eight_bits(rows_NC, range_3C, weight_OC, bias_O, n) - exact_NO).mean() for n in (0, copies)}
    assert away[copies] < 0.12 * exact_NO[:, :].std()
    if copies:
        assert away[copies] < 0.4 * away[0]
        assert map_input(range_3C, weight_OC, copies=copies).copies_C[5] == copies + 1


def test_rounding_moves_no_mean() -> None:
    """The bias takes up what rounding the weights does to a mean input: 0 inputs of 8 bits would be exact."""
    random = np.random.default_rng(1)
    weight_OC, bias_O = random.normal(size=(8, 12)).astype(np.float32), random.normal(size=8).astype(np.float32)
    mean_C = random.normal(size=12).astype(np.float32)
    mapped = map_input(np.stack([mean_C - 3, mean_C + 1, mean_C]), weight_OC)
    layer = quantise(weight_OC, bias_O, mapped)
    y_C = (mean_C - mapped.centre_C) / mapped.half_C
    np.testing.assert_allclose(
        layer.weight_OJ @ y_C * layer.scale_O + layer.bias_O, weight_OC @ mean_C + bias_O, atol=1e-4
    )


def test_ranges_round_trip_and_say_whose_they_are(tiny_bundle: Path) -> None:
    shape = load_bundle(str(tiny_bundle)).config
    seen = {
        name: np.tile(np.array([[-1.5], [2.25], [0.125]], np.float32), size)
        for name, size in input_sizes(shape).items()
    }
    found = Ranges.of(seen, network="abc")
    assert found.network == "abc"
    assert {name: array.tolist() for name, array in found.inputs(shape).items()} == {
        k: v.tolist() for k, v in seen.items()
    }
    assert found.digest == Ranges.of(dict(reversed(seen.items())), network="abc").digest
    assert found.digest != Ranges.of({**seen, next(iter(seen)): next(iter(seen.values())) * 2}, network="abc").digest
    assert Ranges(b"no").network == ""
    seen[next(iter(seen))][0] = 3.0
    with pytest.raises(EngineError, match="not a range"):
        Ranges.of(seen, network="abc").inputs(shape)


# --- where they come from --------------------------------------------------------------------------------------------


def test_packaged_texts_are_two_lots_from_all_of_the_demo() -> None:
    made, tried = packaged_texts(0, 96_000), packaged_texts(1, 48_000)
    assert 80_000 < sum(len(text.encode()) for text in made) <= 96_000
    assert 40_000 < sum(len(text.encode()) for text in tried) <= 48_000
    assert not set(made) & set(tried)


def test_ranges_are_found_once_and_the_same_again(
    cache: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(str(tiny_bundle))
    found = find_ranges(bundle)
    (kept,) = cache.iterdir()
    assert kept.read_bytes() == found.data
    kept.unlink()
    assert find_ranges(bundle) == found
    with monkeypatch.context() as patch:
        patch.setattr(ranges, "measure_ranges", lambda *args: pytest.fail("were found before"))
        assert find_ranges(bundle) == found
    for damaged in (b"", found.data[:100], found.data[:-8]):
        kept.write_bytes(damaged)
        assert find_ranges(bundle) == found


def test_a_cache_that_can_not_be_written_does_no_harm(
    cache: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("RTDSCAN_CACHE", str(tmp_path / "file"))
    bundle = load_bundle(str(tiny_bundle))
    assert find_ranges(bundle) == find_ranges(bundle)
    assert not cache.exists()


def test_a_bundle_brings_its_own_ranges_but_not_another_networks(cache: Path, tmp_path: Path) -> None:
    bundle = load_bundle(str(make_tiny_bundle(tmp_path / "model")))
    found = find_ranges(bundle)
    (bundle.path / RANGES_FILE).write_bytes(found.data)
    cache.rename(tmp_path / "away")
    assert find_ranges(bundle) == found
    assert not cache.exists()
    make_tiny_bundle(bundle.path, seed=5)
    with pytest.raises(UserError, match=r"int8.safetensors: belongs to other weights .* remove it"):
        find_ranges(load_bundle(str(bundle.path)))


def test_ranges_do_not_change_the_bundle_but_int8_scores(tmp_path: Path, cache: Path) -> None:
    bundle = load_bundle(str(make_tiny_bundle(tmp_path / "model")))
    (bundle.path / RANGES_FILE).write_bytes(find_ranges(bundle).data)
    assert load_bundle(str(bundle.path)).digest == bundle.digest


# --- choosing --------------------------------------------------------------------------------------------------------


@needs_int8
def test_the_trial_is_made_once(cache: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(str(tiny_bundle))
    trial = try_int8(bundle)
    assert trial.words > 500
    assert 0 < trial.largest <= 1
    assert 0 <= trial.moved <= 1
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(ranges, "load_engine", lambda *args, **named: pytest.fail("was tried before"))
    assert try_int8(bundle) == trial


@pytest.mark.parametrize(
    ("trial", "passed"),
    [
        (Trial(words=1000, moved=0.001, largest=0.3, pieces=1.2), True),
        (Trial(words=1000, moved=0.0011, largest=0.03, pieces=1.2), False),
        (Trial(words=1000, moved=0.0, largest=0.0, pieces=2.1), False),  # not the model's language
    ],
)
def test_auto_takes_int8_where_the_trial_passes(
    trial: Trial, passed: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(str(tiny_bundle))
    monkeypatch.setattr(resolved, "resolve", lambda *args, **named: ("openvino", "bfloat16"))
    monkeypatch.setattr(resolved, "has_int8", lambda: True)
    monkeypatch.setattr(resolved, "try_int8", lambda bundle: trial)
    settings = resolve_settings(ScoreSettings(), bundle)
    assert settings.precision == ("int8" if passed else "bfloat16")
    assert trial.said() in (resolved.why_precision("auto", settings, bundle) or "")
    assert resolved.why_precision("int8", settings, bundle) is None
    for int8 in (True, False):  # what was measured on labelled words goes before the trial
        carded = replace(bundle, card=bundle.card.model_copy(update={"int8": int8}))
        assert resolve_settings(ScoreSettings(), carded).precision == ("int8" if int8 else "bfloat16")
    monkeypatch.setattr(resolved, "has_int8", lambda: False)
    assert resolve_settings(ScoreSettings(), bundle).precision == "bfloat16"


# --- all together ----------------------------------------------------------------------------------------------------


@needs_int8
def test_a_text_scores_the_same_in_any_company(cache: Path, tiny_bundle: Path) -> None:
    texts = [text for text in packaged_texts(0, 9_000) if len(text) > 40]
    assert len(texts) > 5
    settings = ScoreSettings(engine="openvino", precision="int8")
    one = Scorer.load(str(tiny_bundle), settings=settings)
    narrow = Scorer.load(str(tiny_bundle), settings=settings.model_copy(update={"batch_tokens": 64}))
    together = one.score(pa.table({"text": texts}))
    assert together.drop_columns("row") == narrow.score(pa.table({"text": texts})).drop_columns("row")
    for at in (0, len(texts) // 2, len(texts) - 1):
        alone = narrow.score(pa.table({"text": [texts[at]]}))
        assert alone.drop_columns("row") == together.slice(at, 1).drop_columns("row").combine_chunks()


@needs_int8
def test_workers_use_the_launchers_ranges(
    cache: Path, tmp_path: Path, scan: Callable[..., dict[str, int]], in_process: None
) -> None:
    assert set(scan("precision=int8")) == {"scored"}
    assert set(scan("precision=int8")) == {"current"}
    bundle = load_bundle(str(tmp_path / "model"))
    data = find_ranges(bundle)
    wider = {name: array * np.float32(1.5) for name, array in data.inputs(bundle.config).items()}
    (bundle.path / RANGES_FILE).write_bytes(Ranges.of(wider, network=data.network).data)
    assert set(scan("precision=int8")) == {"scored"}  # other ranges, other scores
    assert set(scan("precision=float32")) == {"scored"}
    (bundle.path / RANGES_FILE).unlink()
    assert set(scan("precision=float32")) == {"current"}  # which ranges play no part


@pytest.fixture
def scan(tmp_path: Path) -> Callable[..., dict[str, int]]:
    """Scan a small corpus; units by outcome."""
    model, corpus, output = make_tiny_bundle(tmp_path / "model"), write_corpus(tmp_path / "in"), tmp_path / "out"

    def run(*sets: str) -> dict[str, int]:
        assert main(["scan", str(corpus), str(output), *options(model, "engine=openvino", *sets)]) == 0
        run = json.loads((output / "run.json").read_text())
        units: dict[str, int] = run["summary"]["units"]
        return units

    return run


@needs_int8
def test_the_shipped_model_brings_ranges_of_its_own(cache: Path) -> None:
    """Were it changed without them: `python -m benchmarks.precisions LABELLED --write`."""
    bundle = load_bundle("default")
    assert bundle.card.int8 is not None
    assert (bundle.path / RANGES_FILE).is_file()
    settings = ScoreSettings(engine="openvino", output=OutputSettings(words=True))
    texts = pa.table({"text": packaged_texts(1, 9_000)})
    exact, quick = (
        Scorer.load(settings=settings.model_copy(update={"precision": precision})).score(texts)["words"].to_pylist()
        for precision in ("float32", "int8")
    )
    moved_W = np.abs(
        [a["score"] - b["score"] for x, y in zip(exact, quick, strict=True) for a, b in zip(x, y, strict=True)]
    )
    assert len(moved_W) > 1000
    assert 0 < moved_W.mean() < 0.002
    assert (moved_W > 0.02).mean() < 0.01
    assert not cache.exists()
