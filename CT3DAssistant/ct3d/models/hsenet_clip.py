"""HSENet's alignment of volumes with reports: stage 1, and stage 2 with the first as its frozen teacher.

Source: arXiv 2506.09634; re-derived from the behaviour of YanzhaoShi/HSENet @ c7198f3.
Kept, because the published weights depend on it: the logit scale is used as it is, not exponentiated (an
effective temperature of about 0.376 at its start); the class tokens of projected sequences are compared.
Differs: the relation loss takes its step as an argument; the teacher never leaves evaluation, so its targets
carry no dropout (in the reference they do); gathering across ranks is the caller's (`training.distributed`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.hsenet import (
    ENCODER_NAMES,
    Encoder,
    EncoderConfig,
    GuidedEncoder,
    convert_encoder,
    under,
)
from ct3d.models.layers import original

RELATION_WEIGHT, RELATION_STEPS = 0.1, 5000  # at step 0; from this step on it is 0
TEACHER = "stage1_pretrained_CLIP."  # in the reference's files

Gather = Callable[[Tensor], Tensor]  # (B, dim) of this rank → (all, dim) of all ranks, with gradient


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of a contrastive model.

    Attributes:
        encoder: of volumes.
        is_guided: whether slices guide it (stage 2).
        text: fields of transformers' BertConfig that differ from bert-base.
    """

    encoder: EncoderConfig = EncoderConfig()
    is_guided: bool = False
    text: dict[str, Any] = field(default_factory=dict)


class Logits(NamedTuple):
    """(B, B): each volume against all reports, and each report against all volumes."""

    per_image: Tensor
    per_text: Tensor


class Contrastive(nn.Module):
    """Volumes and reports in one space of `encoder.dim` numbers.

    The text encoder is a BERT with random weights until a state is loaded; nothing is downloaded.
    """

    def __init__(self, config: ClipConfig):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.config = config
        dim = config.encoder.dim
        self.vision = (GuidedEncoder if config.is_guided else Encoder)(config.encoder)
        self.text = BertModel(BertConfig(**config.text))
        self.vision_projection = nn.Linear(dim, dim)
        self.text_projection = nn.Linear(self.text.config.hidden_size, dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def image_features(self, volume: Tensor, slices: Tensor | None = None) -> Tensor:
        """(B, 1 + N, dim) of length 1; the first, of the class token, stands for the volume."""
        return F.normalize(self.vision_projection(self.vision(volume, slices)), dim=-1)

    def text_features(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T, dim) of length 1; the first stands for the report."""
        hidden = self.text(input_ids=ids, attention_mask=attention_mask).last_hidden_state
        return F.normalize(self.text_projection(hidden), dim=-1)

    def pair(self, volume: Tensor, slices: Tensor | None, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, dim) of the volumes and of the reports."""
        return self.image_features(volume, slices)[:, 0], self.text_features(ids, mask)[:, 0]


def logits_of(images: Tensor, texts: Tensor, scale: Tensor) -> Logits:
    """Cosines times the scale, of (B, dim) features of length 1."""
    per_image = scale * images @ texts.T
    return Logits(per_image, per_image.T)


def contrastive_loss(logits: Logits) -> Tensor:
    """The mean of both cross-entropies; pair n belongs together."""
    labels = torch.arange(len(logits.per_image), device=logits.per_image.device)
    return (F.cross_entropy(logits.per_image, labels) + F.cross_entropy(logits.per_text, labels)) / 2


def relation_loss(student: Logits, teacher: Logits) -> Tensor:
    """How far the student's logits are from the teacher's: mean squares, averaged over both directions."""
    pairs = zip(student, teacher)
    return sum(F.mse_loss(one, other.detach()) for one, other in pairs) / 2


def relation_weight(step: int | None) -> float:
    """0.1 at step 0, falling to 0 at step 5000; 0 without a step, as in evaluation."""
    return 0.0 if step is None else max(0.0, RELATION_WEIGHT * (1 - step / RELATION_STEPS))


class Stage2(nn.Module):
    """A guided student and its frozen teacher of stage 1, on the same volumes and reports."""

    def __init__(self, student: Contrastive, teacher: Contrastive):
        super().__init__()
        self.student, self.teacher = student, teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Stage2":
        """The teacher stays as it is."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self,
        volume: Tensor,
        slices: Tensor,
        ids: Tensor,
        mask: Tensor,
        *,
        step: int | None,
        gather: Gather = lambda x: x,
    ) -> Tensor:
        """The loss: contrastive, plus the relation to the teacher at this step's weight."""
        student, teacher = self.both_logits(volume, slices, ids, mask, gather)
        return contrastive_loss(student) + relation_weight(step) * relation_loss(student, teacher)

    def both_logits(
        self, volume: Tensor, slices: Tensor, ids: Tensor, mask: Tensor, gather: Gather = lambda x: x
    ) -> tuple[Logits, Logits]:
        """The student's and the teacher's logits; both use the student's scale, as the reference does."""
        scale = self.student.logit_scale
        own = logits_of(*map(gather, self.student.pair(volume, slices, ids, mask)), scale)
        with torch.no_grad():
            taught = logits_of(*map(gather, self.teacher.pair(volume, None, ids, mask)), scale)
        return own, taught


PARTS = {  # ours: the reference's
    "vision.": "vision_encoder.",
    "text.": "language_encoder.",
    "vision_projection.": "mm_vision_proj.",
    "text_projection.": "mm_language_proj.",
}


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A contrastive model's keys of the reference (without a teacher's) under the names of `Contrastive`."""
    parts = {ours: under(state, theirs) for ours, theirs in PARTS.items()}
    parts["vision."] = convert_encoder(parts["vision."])
    known = {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}
    others = (*PARTS.values(), TEACHER)
    return known | {name: value for name, value in state.items() if not name.startswith(others)}


def original_key(name: str) -> str:
    """The reference's key of one of `Contrastive`'s."""
    prefix = next((each for each in PARTS if name.startswith(each)), "")
    rest = name.removeprefix(prefix)
    return PARTS.get(prefix, "") + (original(rest, ENCODER_NAMES) if prefix == "vision." else rest)
