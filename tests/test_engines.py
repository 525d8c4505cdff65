"""The engines give transformers' numbers, and a window the same bits whatever else is in its batch.

Key: B windows, T tokens, D hidden.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_tiny_bundle, tiny_vocabulary

from rtdscan.transforms import engines
from rtdscan.transforms.bundle import Bundle, load_bundle
from rtdscan.transforms.engines import SUPPORTED, Engine, load_engine, resolve
from rtdscan.transforms.engines.meter import RangeMeter
from rtdscan.transforms.engines.quantised import Ranges
from rtdscan.transforms.engines.torch import TorchEngine
from rtdscan.transforms.errors import EngineError, UserError
from rtdscan.transforms.infer import load_scorer
from rtdscan.transforms.ranges import network_digest
from rtdscan.transforms.scorer import Scorer
from rtdscan.transforms.settings import ScoreSettings

ALL = [
    pytest.param(
        name,
        precision,
        marks=pytest.mark.skipif(
            name == "openvino"
            and not {"bfloat16": engines.has_bfloat16(), "int8": engines.has_int8()}.get(precision, True),
            reason="not on this CPU",
        ),
    )
    for name, precisions in SUPPORTED.items()
    for precision in precisions
]

SHAPES: dict[str, dict[str, Any]] = {
    "usual": {},
    "projected": {"embedding_size": 16},
    "no prefix": {"prefix": ""},
    "float16 checkpoint": {"dtype": "float16"},
    "four heads, tanh gelu": {"num_attention_heads": 4, "hidden_act": "gelu_new", "num_hidden_layers": 3},
    "relu, wide": {"hidden_act": "relu", "hidden_size": 64, "embedding_size": 64, "intermediate_size": 96},
}

TOLERANCE = {
    ("torch", "float32"): 1e-5,
    ("torch", "bfloat16"): 0.08,
    ("openvino", "float32"): 5e-5,
    ("openvino", "bfloat16"): 0.15,
    ("openvino", "int8"): 0.8,
}
"""Largest difference from transformers in float32, in standard deviations of the logits or hidden states."""

TYPICAL = {"int8": 0.15}
"""The same of the root of the mean square; random networks of 32 channels are much worse to round than trained ones."""


def make_batch(
    lengths: list[int], *, width: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random windows; row i depends on the seed, i and its length alone, not on the rest of the batch."""
    width = width or max(lengths)
    ids_BT = np.zeros((len(lengths), width), np.int32)
    weights_BT = np.zeros((len(lengths), width), np.float32)
    for row, length in enumerate(lengths):
        random = np.random.default_rng([seed, row, length])
        ids_BT[row, :length] = random.integers(5, len(tiny_vocabulary()), length)
        ids_BT[row, 0], ids_BT[row, length - 1] = 2, 3
        weights_BT[row, 1 : length - 1] = random.integers(0, 2, length - 2)
    return ids_BT, np.array(lengths, np.int32), weights_BT


def start(bundle: Bundle, name: Any, precision: Any, *, seed: int = 0, threads: int = 1) -> Engine:
    """An engine; for int8 with ranges of random windows, longer than those that tests run."""
    ranges = None
    if precision == "int8":
        meter = RangeMeter(bundle, threads=1)
        longest = bundle.config.positions
        meter.forward(*make_batch([min(length, longest) for length in (3, 9, 17, 30, 48, 64, 96, 128)] * 6, seed=seed))
        ranges = Ranges.of(meter.ranges(), network=network_digest(bundle))
    return load_engine(bundle, engine=name, precision=precision, threads=threads, ranges=ranges)


@pytest.fixture(scope="module", params=[pytest.param(each.values, marks=each.marks) for each in ALL], ids="-".join)
def engine(request: pytest.FixtureRequest, tiny_bundle: Path) -> Engine:
    name, precision = request.param
    return start(load_bundle(str(tiny_bundle)), name, precision)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("name", "precision"), ALL)
def test_equals_transformers(tmp_path: Path, shape: dict[str, Any], name: str, precision: str) -> None:
    from transformers import ElectraForPreTraining

    path = make_tiny_bundle(tmp_path / "model", seed=3, plain=True, **shape)
    model = ElectraForPreTraining.from_pretrained(path, dtype=torch.float32).eval()
    ids_BT, lengths_B, weights_BT = make_batch([3, 30, 17, 30, 9, 21])
    mask_BT = np.arange(30) < lengths_B[:, None]
    with torch.inference_mode():
        expected = model(
            torch.from_numpy(ids_BT).long(), attention_mask=torch.from_numpy(mask_BT).long(), output_hidden_states=True
        )
    for layer in (-1, 0, 1):
        make_tiny_bundle(path, seed=3, card={"embedding_layer": layer}, **shape)
        engine = start(load_bundle(str(path)), name, precision, seed=1)
        logits_BT, pooled_BD = engine.forward(ids_BT, lengths_B, weights_BT)
        hidden_BTD = expected.hidden_states[layer].numpy().astype(np.float64)
        sums_BD = (hidden_BTD * weights_BT[..., None]).sum(1)
        tolerance = TOLERANCE[name, precision]
        spread = expected.logits.numpy()[mask_BT].std()
        away = logits_BT[mask_BT] - expected.logits.numpy()[mask_BT]
        assert np.sqrt(np.square(away).mean()) <= TYPICAL.get(precision, tolerance) * spread
        assert logits_BT.dtype == pooled_BD.dtype == np.float32
        np.testing.assert_allclose(
            logits_BT[mask_BT], expected.logits.numpy()[mask_BT], rtol=0, atol=tolerance * spread
        )
        scale = np.maximum(weights_BT.sum(1), 1)[:, None]  # a sum of many has the error of many
        np.testing.assert_allclose(pooled_BD / scale, sums_BD / scale, rtol=0, atol=tolerance)
        assert spread > 0.5  # else agreement would mean little


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_window_gets_the_same_bits_in_any_batch(engine: Engine, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(3, 48), min_size=2, max_size=64))
    ids_BT, lengths_B, weights_BT = make_batch(lengths)
    logits_BT, pooled_BD = engine.forward(ids_BT, lengths_B, weights_BT)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, unique=True))
    width = data.draw(st.integers(max(lengths[row] for row in chosen), 64))
    again = [_widen(array[chosen], width) for array in (ids_BT, weights_BT)]
    logits_again, pooled_again = engine.forward(again[0], lengths_B[chosen], again[1])
    for at, row in enumerate(chosen):
        n = lengths[row]
        np.testing.assert_array_equal(logits_again[at, :n], logits_BT[row, :n])
        np.testing.assert_array_equal(pooled_again[at], pooled_BD[row])


def _widen(array_BT: np.ndarray, width: int) -> np.ndarray:
    # Padding is filled with ids and weights that would change something, were they looked at.
    return np.pad(array_BT[:, :width], ((0, 0), (0, max(0, width - array_BT.shape[1]))), constant_values=7)


@pytest.mark.parametrize(("name", "precision"), [each for each in ALL if each.values[0] == "openvino"])
def test_openvino_gives_the_same_bits_with_any_number_of_threads(tiny_bundle: Path, name: str, precision: str) -> None:
    """The local runner counts on it (scanning._spread)."""
    bundle = load_bundle(str(tiny_bundle))
    one, three = (start(bundle, name, precision, threads=threads) for threads in (1, 3))
    for seed in range(3):
        lengths = np.random.default_rng(seed).integers(3, 128, 100).tolist()  # 16 and more groups
        batch = make_batch(lengths, seed=seed)
        there_BT = np.arange(max(lengths)) < batch[1][:, None]
        (logits_BT, pooled_BD), (logits_again, pooled_again) = one.forward(*batch), three.forward(*batch)
        np.testing.assert_array_equal(logits_again[there_BT], logits_BT[there_BT])
        np.testing.assert_array_equal(pooled_again, pooled_BD)


@pytest.mark.parametrize(("told", "raised"), [("could not allocate", MemoryError), ("broke", RuntimeError)])
def test_openvino_goes_on_after_one_of_several_groups_failed(
    tiny_bundle: Path, told: str, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = start(load_bundle(str(tiny_bundle)), "openvino", "float32", threads=3)
    batch = make_batch(list(range(3, 128)))
    expected = engine.forward(*batch)

    class Failing:
        """Runs, and says that it failed."""

        def __init__(self, request: Any) -> None:
            self.request = request

        def start_async(self, *inputs: Any, **named: Any) -> None:
            self.request.start_async(*inputs, **named)

        def wait(self) -> None:
            self.request.wait()
            raise RuntimeError(told)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_requests", [*engine._requests[:2], Failing(engine._requests[2])])
        with pytest.raises(raised):
            engine.forward(*batch)
    for found, before in zip(engine.forward(*batch), expected, strict=True):  # no request is still at work
        np.testing.assert_array_equal(found, before)


def test_shipped_model_in_both_engines_and_alone() -> None:
    bundle = load_bundle("default")
    texts = ["He goes too school every day.", "The cat sat on the mat, and than it slept.", "Yes."] * 2
    rows = [encoding.ids for encoding in bundle.tokenizer().encode_batch(texts)]
    lengths_B = np.array([len(row) for row in rows], np.int32)
    ids_BT = np.array([row + [0] * (max(lengths_B) - len(row)) for row in rows], np.int32)
    weights_BT = np.ones(ids_BT.shape, np.float32)
    results = {}
    for name in SUPPORTED:
        engine = load_engine(bundle, engine=name, precision="float32", threads=1)
        logits_BT, pooled_BD = engine.forward(ids_BT, lengths_B, weights_BT)
        for row, length in enumerate(lengths_B):
            alone_1T, pooled_1D = engine.forward(ids_BT[[row], :length], lengths_B[[row]], weights_BT[[row], :length])
            np.testing.assert_array_equal(alone_1T[0], logits_BT[row, :length])
            np.testing.assert_array_equal(pooled_1D[0], pooled_BD[row])
        results[name] = np.concatenate([logits[:length] for logits, length in zip(logits_BT, lengths_B, strict=True)])
    np.testing.assert_allclose(results["openvino"], results["torch"], rtol=0, atol=2e-4)
    assert results["torch"][rows[0].index(bundle.tokenizer().token_to_id("too"))] > 0  # it finds the error


@pytest.mark.parametrize(("name", "unwanted"), [("openvino", "torch transformers"), ("torch", "transformers openvino")])
def test_a_worker_imports_one_library_and_calls_nobody(
    name: str, unwanted: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    code = f"""
import socket, sys, threading
def refuse(*args, **named):
    print("connects to", args)
    raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
import numpy as np
from rtdscan.transforms.bundle import load_bundle
from rtdscan.transforms.engines import load_engine
engine = load_engine(load_bundle({str(tiny_bundle)!r}), engine={name!r}, precision="float32", threads=1)
engine.forward(np.array([[2, 9, 3]], np.int32), np.array([3], np.int32), np.ones((1, 3), np.float32))
for thread in threading.enumerate():
    if thread is not threading.main_thread() and not thread.daemon:
        thread.join(5)
print([name for name in "{unwanted} apache_beam".split() if name in sys.modules])
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_empty_batch(engine: Engine) -> None:
    logits_BT, pooled_BD = engine.forward(
        *make_batch([5], width=8)[:1], np.array([5], np.int32), np.ones((1, 8), np.float32)
    )
    assert (logits_BT.shape, pooled_BD.shape) == ((1, 8), (1, engine.dims))
    nothing = np.zeros((0, 4), np.int32), np.zeros(0, np.int32), np.zeros((0, 4), np.float32)
    logits_BT, pooled_BD = engine.forward(*nothing)
    assert (logits_BT.shape, pooled_BD.shape) == ((0, 4), (0, engine.dims))


def test_longest_window_and_longer(engine: Engine) -> None:
    logits_BT, _ = engine.forward(*make_batch([128, 127]))
    assert np.isfinite(logits_BT).all()
    with pytest.raises(ValueError, match="129 tokens; the network has 128 positions"):
        engine.forward(*make_batch([129]))


def test_positions_need_be_no_multiple_of_anything(tmp_path: Path) -> None:
    bundle = load_bundle(str(make_tiny_bundle(tmp_path / "model", window=21, max_position_embeddings=21)))
    batch = make_batch([21, 17, 3])
    results = [
        load_engine(bundle, engine=name, precision="float32", threads=1).forward(*batch)[1] for name in SUPPORTED
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-3)


@pytest.mark.parametrize("name", SUPPORTED)
def test_threads_may_share_an_engine(name: str, tiny_bundle: Path) -> None:
    """OpenVINO's requests were busy when a second thread came."""
    engine = start(load_bundle(str(tiny_bundle)), name, "float32")
    batches = [make_batch(list(range(3, 128)), seed=seed) for seed in range(4)]
    expected = [engine.forward(*batch)[1] for batch in batches]
    found: list[Any] = [None] * 4
    together = threading.Barrier(4)

    def run(at: int) -> None:
        together.wait()
        for _ in range(4):
            found[at] = engine.forward(*batches[at])[1]

    threads = [threading.Thread(target=run, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, expected)


def test_a_forked_child_is_told_instead_of_waiting_for_ever(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the child sees it: no test forks a process that has threads."""
    engine = start(load_bundle(str(tiny_bundle)), "openvino", "float32")
    parent = os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: parent + 1)
        with pytest.raises(EngineError, match="fork; load the model in the child, or start children by spawn"):
            engine.forward(*make_batch([5]))
    assert engine.forward(*make_batch([5]))[1].any()


@pytest.mark.parametrize("name", SUPPORTED)
def test_closed_engine_says_so(name: str, tiny_bundle: Path) -> None:
    engine = load_engine(load_bundle(str(tiny_bundle)), engine=name, precision="float32", threads=1)
    engine.close()
    with pytest.raises(EngineError, match=f"engine {name}: was closed"):
        engine.forward(*make_batch([5]))


# --- choosing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "bfloat16", "cuda", "expected"),
    [
        ({"openvino", "torch"}, True, False, ("openvino", "bfloat16")),
        ({"openvino", "torch"}, False, False, ("openvino", "float32")),
        ({"openvino", "torch"}, False, True, ("torch", "bfloat16")),
        ({"torch"}, True, False, ("torch", "bfloat16")),
        ({"torch"}, False, False, ("torch", "float32")),
    ],
)
def test_auto_is_what_the_machine_has(
    installed: set[str], bfloat16: bool, cuda: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, installed, bfloat16=bfloat16, cuda=cuda)
    assert resolve(engine="auto", precision="auto") == expected


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize(
    ("installed", "bfloat16", "precision", "message"),
    [
        (set(), True, "auto", "is not installed"),
    ],
)
def test_what_is_asked_for_and_not_there_is_an_error(
    name: str, installed: set[str], bfloat16: bool, precision: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, installed, bfloat16=bfloat16)
    with pytest.raises(UserError, match=f"engine {name}: .*{message}"):
        load_engine(load_bundle("default"), engine=name, precision=precision, threads=1)


@pytest.mark.parametrize(
    ("engine", "device", "cuda", "expected"),
    [
        ("auto", "cuda", True, ("torch", "bfloat16")),
        (
            "auto",
            "cuda",
            False,
            ("torch", "bfloat16"),
        ),  # what is asked for; that there is none is told by the next test
        ("auto", "cpu", True, ("openvino", "float32")),
        ("torch", "cpu", True, ("torch", "float32")),
        ("torch", "auto", True, ("torch", "bfloat16")),
    ],
)
def test_the_device_decides_along(
    engine: Any, device: Any, cuda: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, {"openvino", "torch"}, bfloat16=False, cuda=cuda)
    assert resolve(engine=engine, precision="auto", device=device) == expected


def test_a_gpu_that_was_asked_for_is_never_a_cpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """configs/gpu.yaml said so, but torch took the CPU without a word."""
    _pretend(monkeypatch, {"openvino", "torch"}, bfloat16=False, cuda=False)
    bundle = load_bundle(str(tiny_bundle))
    with pytest.raises(UserError, match="device is cuda, but there is no CUDA device; it needs"):
        load_engine(bundle, engine="torch", precision="float32", threads=1, device="cuda")
    with pytest.raises(UserError, match="engine openvino: runs on CPUs only, but device is cuda"):
        load_engine(bundle, engine="openvino", precision="float32", threads=1, device="cuda")
    assert [engines.device_of("torch", device) for device in ("auto", "cpu")] == ["cpu", "cpu"]
    assert engines.device_of("openvino", "auto") is None
    load_engine(bundle, engine="torch", precision="float32", threads=1, device="cpu").close()


def test_a_worker_without_the_engine_of_the_scan_is_at_fault(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 1: the launcher has the engine, so the scan has begun; where it has not, nothing has (status 2)."""
    asked = ScoreSettings(model=str(tiny_bundle), engine="torch", precision="float32")
    digest = load_bundle(str(tiny_bundle)).digest
    _pretend(monkeypatch, {"openvino"}, bfloat16=False)
    with pytest.raises(UserError, match=r"^engine torch: the package torch is not installed"):
        Scorer.load(str(tiny_bundle), settings=asked)
    with pytest.raises(EngineError, match=r"^a worker can't run what .*: engine torch: the package torch is not"):
        load_scorer(asked.model_dump_json(), digest)


def test_torch_can_not_run_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "engine torch: can't run int8; choose `precision` from bfloat16, float32"
    with pytest.raises(UserError, match=told):
        load_engine(load_bundle("default"), engine="torch", precision="int8", threads=1)
    _pretend(monkeypatch, {"torch"}, bfloat16=True)
    with pytest.raises(UserError, match=told):
        load_engine(load_bundle("default"), engine="auto", precision="int8", threads=1)
    _pretend(monkeypatch, {"openvino"}, bfloat16=True)
    with pytest.raises(UserError, match=told):  # before that it is not installed: to install it would not help
        load_engine(load_bundle("default"), engine="torch", precision="int8", threads=1)


def test_a_graph_that_openvino_cannot_run_is_told() -> None:
    """Which ones it can differs from version to version: here rounding with a range a channel that stands alone."""
    from rtdscan.transforms.engines.openvino import compile_model
    from rtdscan.transforms.engines.openvino_graph import ops, ov

    rows = ops.parameter([-1, -1, 3], np.float32)
    low, high = (ops.constant(sign * np.arange(1, 4, dtype=np.float32)) for sign in (-1, 1))
    graph = ov.Model([ops.result(ops.fake_quantize(rows, low, high, low, high, 256))], [rows], "alone")
    with pytest.raises(EngineError, match=r"can't prepare this network in float32 \(.+\); choose another precision"):
        compile_model(graph, precision="float32", threads=1)


def test_int8_is_refused_where_the_cpu_or_the_ranges_lack(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(str(tiny_bundle))
    monkeypatch.setattr(engines, "has_int8", lambda: True)
    with pytest.raises(EngineError, match="int8 needs ranges of activations, but none were given"):
        load_engine(bundle, engine="openvino", precision="int8", threads=1)
    other = load_bundle(str(make_tiny_bundle(tmp_path / "other", num_hidden_layers=3)))
    meter = RangeMeter(other, threads=1)
    meter.forward(*make_batch([20, 20]))
    ranges = Ranges.of(meter.ranges(), network="")
    with pytest.raises(EngineError, match="belong to a network of another shape"):
        load_engine(bundle, engine="openvino", precision="int8", threads=1, ranges=ranges)
    with pytest.raises(EngineError, match="int8 ranges: damaged"):
        load_engine(other, engine="openvino", precision="int8", threads=1, ranges=Ranges(ranges.data[:-9]))
    monkeypatch.setattr(engines, "has_int8", lambda: False)
    with pytest.raises(UserError, match="no int8 dot products"):
        load_engine(other, engine="openvino", precision="int8", threads=1, ranges=ranges)


def test_openvino_never_runs_float32_for_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, {"openvino", "torch"}, bfloat16=False)
    with pytest.raises(UserError, match="no bfloat16 instructions; choose precision float32"):
        resolve(engine="openvino", precision="bfloat16")
    assert resolve(engine="torch", precision="bfloat16") == (
        "torch",
        "bfloat16",
    )  # slow, but it


def test_no_cuda_no_cuda(tiny_bundle: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(EngineError, match="no CUDA device"):
        TorchEngine(load_bundle(str(tiny_bundle)), precision="float32", threads=1, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.3)])
def test_cuda_gives_the_numbers_of_the_cpu(tiny_bundle: Path, precision: str, tolerance: float) -> None:
    bundle, batch = load_bundle(str(tiny_bundle)), make_batch([3, 30, 17, 30, 9, 21])
    here, _ = TorchEngine(bundle, precision="float32", threads=1, device="cpu").forward(*batch)
    there, _ = TorchEngine(bundle, precision=precision, threads=1, device="cuda").forward(*batch)
    np.testing.assert_allclose(there, here, rtol=0, atol=tolerance)


def test_out_of_memory_is_a_memory_error(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(load_bundle(str(tiny_bundle)), precision="float32", threads=1, device="cpu")

    def too_large(*args: Any) -> None:
        torch.empty(1 << 60)  # the real error, of an allocation that no machine can make

    monkeypatch.setattr(engine, "_run", too_large)
    with pytest.raises(MemoryError, match="5 tokens at once are too many"):
        engine.forward(*make_batch([5]))


def _pretend(monkeypatch: pytest.MonkeyPatch, installed: set[str], *, bfloat16: bool, cuda: bool = False) -> None:
    monkeypatch.setattr(engines, "has_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(engines, "has_cuda", lambda: cuda)
    monkeypatch.setattr(engines, "_installed", lambda name: name in installed)
