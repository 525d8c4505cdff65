"""Adam with decoupled weight decay, with and without bias correction; which weights decay; the learning rate.

With it, it is AdamW (Loshchilov and Hutter). Without it, it is the optimizer of ELECTRA and BERT
(optimization.py, AdamWeightDecayOptimizer): m and v start at 0 and are used as they are, so the first steps are
(1 - beta1) / sqrt(1 - beta2) = 3.2 times as long as with it, which is what the warm-up is for.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rtdscan.pipeline.training.settings import OptimiserSettings


def learning_rate(step: int, *, steps: int, settings: OptimiserSettings) -> float:
    """The learning rate of a step: rises linearly over `warmup` steps, and decays linearly over all of them.

    Both at once, as in ELECTRA's optimization.py: lr * min(1, (step + 1) / warmup) * (1 - (1 - final) * step / steps).

    Args:
        step: From 0.
        steps: Of the whole run.
        settings: lr, warmup, final.
    """
    rise = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    return settings.lr * rise * (1 - (1 - settings.final) * step / max(steps, 1))


def decays(name: str) -> bool:
    """Whether a parameter decays: biases and norms never do (ELECTRA: exclude_from_weight_decay)."""
    return not (name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name)


def layer_of(name: str, *, layers: int) -> int:
    """How deep a parameter lies: 0 the embeddings, 1 … the encoder's layers, layers + 1 what comes after them."""
    found = re.search(r"encoder\.layer\.(\d+)\.", name)
    if found:
        return int(found[1]) + 1
    return 0 if ".embeddings" in name else layers + 1


class Adam:
    """The optimiser.

    Args:
        parameters: By name, each once.
        settings: Rates and decays.
        layers: Of the encoders, for `layer_decay`.
    """

    def __init__(
        self, parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimiserSettings, *, layers: int
    ) -> None:
        """Begin with empty memories."""
        named = list(parameters)
        self.names = [name for name, _ in named]
        self.parameters: list[Tensor] = [parameter for _, parameter in named]
        self._settings = settings
        self._corrected = settings.kind == "adamw"
        top = layers + 1
        self._scales = [settings.layer_decay ** (top - layer_of(name, layers=layers)) for name in self.names]
        self._decays = [settings.weight_decay if decays(name) else 0.0 for name in self.names]
        self._mean = [torch.zeros_like(p) for p in self.parameters]
        self._square = [torch.zeros_like(p) for p in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> Tensor:
        """Clip the gradients, follow them, forget them.

        Args:
            rate: Learning rate of this step.

        Returns:
            Norm of all gradients together before clipping.
        """
        chosen = self._settings
        norm = nn.utils.clip_grad_norm_(self.parameters, chosen.clip)
        self._steps += 1
        if all(p.grad is not None for p in self.parameters):
            used = list(range(len(self.parameters)))
        else:  # a step of damaged windows only gives the generator nothing
            used = [at for at, p in enumerate(self.parameters) if p.grad is not None]
        parameters = [self.parameters[at] for at in used]
        gradients = [p.grad for p in parameters if p.grad is not None]
        mean, square = [self._mean[at] for at in used], [self._square[at] for at in used]
        torch._foreach_lerp_(mean, gradients, 1 - chosen.beta1)
        torch._foreach_mul_(square, chosen.beta2)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - chosen.beta2)
        below = torch._foreach_sqrt(square)
        if self._corrected:
            torch._foreach_div_(below, (1 - chosen.beta2**self._steps) ** 0.5)
        torch._foreach_add_(below, chosen.epsilon)
        ahead = 1 / (1 - chosen.beta1**self._steps) if self._corrected else 1.0
        torch._foreach_mul_(parameters, [1 - rate * self._scales[at] * self._decays[at] for at in used])
        torch._foreach_addcdiv_(parameters, mean, below, [-rate * self._scales[at] * ahead for at in used])
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on."""
        return {"names": self.names, "mean": self._mean, "square": self._square, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was taken."""
        if state["names"] != self.names:
            raise ValueError(f"optimiser state of {len(state['names'])} parameters, expected {len(self.names)}")
        for own, saved in zip([*self._mean, *self._square], [*state["mean"], *state["square"]], strict=True):
            own.copy_(saved)
        self._steps = state["steps"]
