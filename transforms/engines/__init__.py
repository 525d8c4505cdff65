"""Engines run the network. `resolve` says which one this machine has, `load_engine` starts it.

Key: B windows, T tokens of the longest window, D hidden.

All engines give the same numbers within a stated tolerance (tests/test_engines.py), and each gives a window the same
numbers, to the bit on one type of CPU, whatever else is in the batch and however wide it is padded. int8 only where its
ranges are static.
"""

import importlib.util
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from rtdscan.transforms.electra import Network
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import Device, EngineName, Precision

if TYPE_CHECKING:
    from rtdscan.transforms.engines.quantised import Ranges

SUPPORTED: dict[str, tuple[str, ...]] = {"openvino": ("int8", "bfloat16", "float32"), "torch": ("bfloat16", "float32")}
"""Precisions of each engine, fastest first."""


class Engine(Protocol):
    """A loaded network. Several threads may call it; a forked child may not call openvino's.

    Attributes:
        name: "torch" or "openvino".
        precision: "float32", "bfloat16" or "int8".
        dims: D, size of `forward`'s second result.
    """

    name: str
    precision: str
    dims: int

    def forward(
        self, ids_BT: NDArray[np.int32], lengths_B: NDArray[np.int32], weights_BT: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network on a batch of windows.

        Args:
            ids_BT: Token ids, [CLS] and [SEP] included; past a row's length anything that is an id.
            lengths_B: Tokens of each window, 1 to T.
            weights_BT: What each token counts in its window's sum; past a row's length ignored.

        Returns:
            logits_BT: Log odds that a token was replaced; past a row's length any value.
            pooled_BD: Sum over a window's tokens of weight * hidden state at the bundle's embedding layer.

        Raises:
            MemoryError: The batch is too large for the device's memory; a smaller one may not be.
        """

    def close(self) -> None:
        """Give back the network's memory; `forward` can't be called any more."""


_DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")
"""One of these is there where NVIDIA's driver is; the last with WSL."""


def resolve(*, engine: EngineName, precision: Precision, device: Device = "auto") -> tuple[str, str]:
    """What `auto` means on this machine.

    Args:
        engine: As asked for.
        precision: As asked for.
        device: As asked for. That it is there is up to who runs the network, which may be another machine.

    Returns:
        Engine and precision, neither of them "auto": torch where there is a CUDA device, else openvino where it is
        installed, else torch; bfloat16 where the processor has instructions for it, else float32. int8 is up to the
        model, not to the machine alone: see resolved.resolve_settings.

    Raises:
        UserError: What was asked for is not there.
    """
    name = engine if engine != "auto" else _best_engine(device)
    if (name, device) == ("openvino", "cuda"):
        raise UserError("engine openvino: runs on CPUs only, but device is cuda; choose engine torch, or device cpu")
    if precision != "auto" and precision not in SUPPORTED[name]:
        raise UserError(f"engine {name}: can't run {precision}; choose `precision` from {', '.join(SUPPORTED[name])}")
    if not _installed(name):
        raise UserError(f"engine {name}: the package {name} is not installed; install it or choose another `engine`")
    if precision != "auto":
        if (name, precision) == ("openvino", "bfloat16") and not has_bfloat16():
            raise UserError("engine openvino: this CPU has no bfloat16 instructions; choose precision float32")
        if precision == "int8" and not has_int8():
            raise UserError(
                "engine openvino: this CPU has no int8 dot products (VNNI); choose precision bfloat16 or float32"
            )
        return name, precision
    fast = has_bfloat16() or (name == "torch" and _runs_on(device) == "cuda")
    return name, "bfloat16" if fast else "float32"


def load_engine(
    bundle: Network,
    *,
    engine: EngineName,
    precision: Precision,
    threads: int,
    ranges: "Ranges | None" = None,
    device: Device = "auto",
) -> Engine:
    """Start an engine.

    Args:
        bundle: The model.
        engine: As asked for; "auto" is resolved on this machine.
        precision: As asked for; "auto" is resolved on this machine.
        threads: Threads of the network on a CPU.
        ranges: Of the network's activations; needed for int8.
        device: As asked for; "auto" is a CUDA device where there is one.

    Raises:
        UserError: What was asked for is not there.
    """
    name, resolved = resolve(engine=engine, precision=precision, device=device)
    if name == "torch":
        from rtdscan.transforms.engines.torch import TorchEngine

        return TorchEngine(bundle, precision=resolved, threads=threads, device=device_of(name, device))
    from rtdscan.transforms.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(bundle, precision=resolved, threads=threads, ranges=ranges)


def device_of(engine: str, device: Device) -> str | None:
    """Where this machine runs the network: "cpu" or "cuda" with torch, None with another engine, which has no choice.

    Raises:
        UserError: cuda was asked for, and there is none.
    """
    if engine != "torch":
        return None
    if device == "cuda" and not has_cuda():
        raise UserError(
            "engine torch: device is cuda, but there is no CUDA device; it needs NVIDIA's driver and a CUDA build of"
            " PyTorch; choose device auto or cpu"
        )
    return _runs_on(device)


def _runs_on(device: Device) -> str:
    return device if device != "auto" else "cuda" if has_cuda() else "cpu"


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (x86 only: elsewhere it is not known, so False)."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpu_flags())


def has_int8() -> bool:
    """Whether this CPU has dot products of 8-bit integers (as above)."""
    return not {"avx512_vnni", "avx_vnni", "amx_int8"}.isdisjoint(_cpu_flags())


def usual_precision() -> Precision:
    """What `precision: auto` comes to with the bundled model on this CPU, with openvino."""
    return "int8" if has_int8() else "bfloat16" if has_bfloat16() else "float32"


def _cpu_flags() -> list[str]:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return []
    return next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()


def has_cuda() -> bool:
    """Whether torch sees a CUDA device. Imports torch only where the driver is."""
    if not any(Path(path).exists() for path in _DRIVERS) and platform.system() != "Windows":
        return False
    if not _installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def _best_engine(device: Device) -> str:
    if _runs_on(device) == "cuda":
        return "torch"
    return "openvino" if _installed("openvino") else "torch"


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
