"""What is learned of a batch: ELECTRA's two losses over generated and damaged windows, and the embeddings' distance.

    clean windows -> mask -> generator -> sample -> windows with replaced pieces ┐
    damaged windows (made by the feed) ──────────────────────────────────────────┴-> discriminator -> belongs or not
                                                                                                └ mean -> embedding

No gradient goes through the samples. A sample that equals the original is an original: its label is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtdscan.pipeline.training.examples import Batch
from rtdscan.pipeline.training.models import Networks
from rtdscan.pipeline.training.settings import ObjectiveSettings

SUMS = (
    "loss", "steps", "pieces", "gradient",
    "mlm", "mlm_n", "mlm_hidden", "mlm_right",
    "gen", "gen_n", "gen_replaced", "gen_flagged", "gen_found",
    "noise", "noise_n", "noise_replaced", "noise_flagged", "noise_found",
    "distil", "distil_n",
)  # fmt: skip
"""What is added up between two lines of metrics. `mlm_right`: of the pieces shown as [MASK], those whose likeliest
filling is the original. `gen` and `noise`: the discriminator's loss, pieces, pieces that do not
belong, pieces with a probability above one half, and those that are both, in generated and in damaged windows."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of a whole step, by which the sums of its batches are divided: so k batches are one that is k times as
    large."""

    picked: int
    labelled: int
    taught: int

    @staticmethod
    def of(batches: Sequence[Batch]) -> "Counts":
        """Of the batches of a step."""
        return Counts(
            picked=sum(int(batch.picked_GN.sum()) for batch in batches),
            labelled=sum(int((batch.labels_BT >= 0).sum()) for batch in batches),
            taught=sum(len(batch.taught_R) for batch in batches),
        )


class Objective:
    """The loss of a batch.

    Args:
        networks: What is trained.
        settings: Weights of the parts.
        teacher: Frozen encoder, where `settings.distil` is above 0.
        mask: Id of [MASK].
        embedding_layer: Layer whose mean is the embedding; -1: the last.
    """

    def __init__(
        self,
        networks: Networks,
        settings: ObjectiveSettings,
        *,
        teacher: nn.Module | None,
        mask: int,
        embedding_layer: int = -1,
    ) -> None:
        """Keep what every batch needs."""
        self._networks = networks
        self._settings = settings
        self._teacher = teacher
        self._mask = mask
        self._layer = embedding_layer

    def loss(self, batch: Batch, counts: Counts, *, device: torch.device) -> tuple[Tensor, Tensor]:
        """Run both networks.

        Returns:
            The loss, to be differentiated (already a share of the step's), and the batch's SUMS, detached.
        """
        chosen = self._settings
        sums = dict.fromkeys(SUMS, torch.zeros((), device=device))
        ids_BT, labels_BT = _tensor(batch.ids_BT, device).long(), _tensor(batch.labels_BT, device)
        lengths_B = _tensor(batch.lengths_B, device)
        attend_BT = (torch.arange(ids_BT.shape[1], device=device) < lengths_B[:, None]).long()
        if len(batch.picks_GN):
            ids_BT, labels_BT, generated = self._generate(batch, ids_BT, labels_BT, attend_BT)
            sums |= generated
        if chosen.discriminator:
            sums |= self._discriminate(batch, ids_BT, labels_BT, attend_BT)
        loss: Tensor = (
            (0.0 if self._networks.frozen else chosen.mlm) * sums["mlm"] / max(counts.picked, 1)
            + chosen.discriminator * (sums["noise"] + sums["gen"]) / max(counts.labelled, 1)
            + chosen.distil * sums["distil"] / max(counts.taught, 1)
        )
        sums |= {"loss": loss, "pieces": lengths_B.sum()}
        return loss, torch.stack([sums[name].detach().double() for name in SUMS])

    def _generate(
        self, batch: Batch, ids_BT: Tensor, labels_BT: Tensor, attend_BT: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Mask, predict, sample, replace. Returns pieces and labels with the samples in, and SUMS of it."""
        device, noisy = ids_BT.device, batch.noisy
        picks_GN = _tensor(batch.picks_GN, device).long()
        picked_GN, hidden_GN = _tensor(batch.picked_GN, device), _tensor(batch.hidden_GN, device)
        clean_GT, attend_GT = ids_BT[noisy:], attend_BT[noisy:]
        wanted_GN = clean_GT.gather(1, picks_GN)
        seen_GT = _put(clean_GT, picks_GN, torch.full_like(wanted_GN, self._mask), hidden_GN)
        generator: Any = self._networks.generator
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._networks.frozen):
            hidden_GTD = generator.electra(input_ids=seen_GT, attention_mask=attend_GT).last_hidden_state
            index_GND = picks_GN[:, :, None].expand(-1, -1, hidden_GTD.shape[2])
            predicted = generator.generator_predictions(hidden_GTD.gather(1, index_GND))
            logits_GNV = generator.generator_lm_head(predicted).float()
            mlm_GN = F.cross_entropy(logits_GNV.flatten(0, 1), wanted_GN.flatten(), reduction="none").view_as(wanted_GN)
        made_GT = _put(clean_GT, picks_GN, sample(logits_GNV.detach()), picked_GN)
        labels_GT = torch.where(labels_BT[noisy:] < 0, labels_BT[noisy:], (made_GT != clean_GT).to(labels_BT.dtype))
        sums = {
            "mlm": (mlm_GN * picked_GN).sum(),
            "mlm_n": picked_GN.sum(),
            "mlm_hidden": hidden_GN.sum(),
            "mlm_right": ((logits_GNV.argmax(-1) == wanted_GN) & hidden_GN).sum(),
        }
        return torch.cat([ids_BT[:noisy], made_GT]), torch.cat([labels_BT[:noisy], labels_GT]), sums

    def _discriminate(self, batch: Batch, ids_BT: Tensor, labels_BT: Tensor, attend_BT: Tensor) -> dict[str, Tensor]:
        """Tell what belongs, and how far the embeddings are from the teacher's. Returns SUMS of it."""
        network: Any = self._networks.discriminator
        taught = self._teacher is not None and len(batch.taught_R) > 0
        inner = taught and self._layer != -1
        out = network.electra(input_ids=ids_BT, attention_mask=attend_BT, output_hidden_states=inner)
        logits_BT = network.discriminator_predictions(out.last_hidden_state).float()
        counted_BT = labels_BT >= 0
        bce_BT = F.binary_cross_entropy_with_logits(logits_BT, labels_BT.clamp(min=0).float(), reduction="none")
        wrong_BT, flagged_BT = labels_BT == 1, (logits_BT > 0) & counted_BT
        sums = {}
        for kind, rows in (("noise", slice(0, batch.noisy)), ("gen", slice(batch.noisy, None))):
            sums[kind] = (bce_BT[rows] * counted_BT[rows]).sum()
            sums[f"{kind}_n"] = counted_BT[rows].sum()
            sums[f"{kind}_replaced"] = wrong_BT[rows].sum()
            sums[f"{kind}_flagged"] = flagged_BT[rows].sum()
            sums[f"{kind}_found"] = (flagged_BT & wrong_BT)[rows].sum()
        if taught:
            hidden_BTD = out.hidden_states[self._layer] if inner else out.last_hidden_state
            sums["distil"] = self._distance(batch, hidden_BTD, counted_BT)
            sums["distil_n"] = torch.tensor(len(batch.taught_R), device=hidden_BTD.device)
        return sums

    def _distance(self, batch: Batch, hidden_BTD: Tensor, counted_BT: Tensor) -> Tensor:
        """Sum over R windows of how far the embedding of the damaged window is from the teacher's of the clean one."""
        assert self._teacher is not None
        device = hidden_BTD.device
        rows_R = _tensor(batch.taught_R, device).long()
        # As a scan does: the mean over all pieces but the special ones.
        student_RD = pool(hidden_BTD[rows_R].float(), counted_BT[rows_R])
        clean_RT = _tensor(batch.clean_RT, device).long()
        lengths_R = _tensor(batch.clean_lengths_R, device)
        attend_RT = torch.arange(clean_RT.shape[1], device=device) < lengths_R[:, None]
        with torch.no_grad():
            taught_RTD = self._teacher(input_ids=clean_RT, attention_mask=attend_RT.long()).last_hidden_state
            # As sentence-transformers does, special pieces included.
            teacher_RD = pool(taught_RTD.float(), attend_RT)
        return distance(student_RD, teacher_RD)


def sample(logits_GNV: Tensor) -> Tensor:
    """Draw a piece from each distribution: the largest logit after Gumbel noise, -log(-log(u)), is added (ELECTRA)."""
    uniform_GNV = torch.rand_like(logits_GNV).clamp_(min=1e-9, max=1 - 1e-7)
    return (logits_GNV - torch.log(-torch.log(uniform_GNV))).argmax(-1)


def pool(hidden_RTD: Tensor, counted_RT: Tensor) -> Tensor:
    """Mean over the pieces that count, L2-normalised."""
    weight_RT1 = counted_RT[:, :, None].to(hidden_RTD.dtype)
    mean_RD = (hidden_RTD * weight_RT1).sum(1) / weight_RT1.sum(1).clamp(min=1)
    return F.normalize(mean_RD, dim=-1)


def distance(student_RD: Tensor, teacher_RD: Tensor) -> Tensor:
    """Sum of 1 - cosine where both have the same width; else how far the windows' cosines to each other differ."""
    if student_RD.shape == teacher_RD.shape:
        return (1 - (student_RD * teacher_RD).sum(-1)).sum()
    gap_RR = student_RD @ student_RD.T - teacher_RD @ teacher_RD.T
    return gap_RR.square().mean(-1).sum()


def _put(ids_GT: Tensor, picks_GN: Tensor, new_GN: Tensor, where_GN: Tensor) -> Tensor:
    """Copy with new pieces at the picked positions. What is not to be put lands in a column that is cut off again."""
    width = ids_GT.shape[1]
    wide = F.pad(ids_GT, (0, 1))
    index_GN = torch.where(where_GN, picks_GN, width)
    return wide.scatter(1, index_GN, new_GN)[:, :width]


def _tensor(array: "np.ndarray[Any, Any]", device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
