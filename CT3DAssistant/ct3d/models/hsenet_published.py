"""HSENet's released files: which keys each must hold, and all of them as one state of `HSENet`, by name.

Source: key names and shapes of the files of YanzhaoShi/HSENet @ c7198f3 (stage-2 CLIP; packers and LoRA of a
fine-tuned language model, in PEFT's names) and of a plain causal language model of transformers.
Differs: the reference copies the encoders by their place in the list of keys, and errors are swallowed there;
LoRA is merged into the language model (in float32); the four added tokens are left out, for nothing that is
read or written uses their embeddings.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ct3d.models.hsenet import PACKER_NAMES, build_packer, under
from ct3d.models.hsenet_clip import TEACHER, Contrastive, original_key
from ct3d.models.hsenet_vlm import PROJECTORS, STAGE1, STAGE2, Config, convert
from ct3d.models.layers import original
from ct3d.models.slice_encoder import NAMES, SliceEncoder

State = Mapping[str, Tensor]

PEFT = "base_model.model."
LORA = re.compile(r"(.+)\.lora_([AB])\.default\.weight")
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Lora:
    """What was learned of the language model: W + alpha / rank · B A for these matrices of every layer."""

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")

    def __post_init__(self):
        object.__setattr__(self, "targets", tuple(self.targets))


def clip_keys(model: Contrastive, teacher: Contrastive | None = None) -> Shapes:
    """Keys and shapes of a CLIP file; with a teacher that of stage 2."""
    shapes = {original_key(name): tuple(value.shape) for name, value in model.state_dict().items()}
    return shapes | {TEACHER + name: shape for name, shape in (clip_keys(teacher) if teacher else {}).items()}


def trunk_keys(trunk: SliceEncoder) -> Shapes:
    """Keys and shapes of BiomedCLIP's trunk."""
    return {original(name, NAMES): tuple(value.shape) for name, value in trunk.state_dict().items()}


def adapted_keys(config: Config, language: Shapes, lora: Lora) -> Shapes:
    """Keys and shapes of an MRG or VQA file: packers, and LoRA of a language model of these matrices.

    Unless one is shared there are two packers, even where only one encoder is used.
    """
    with torch.device("meta"):
        packer = build_packer(config.packer).state_dict()
    shapes = {
        PEFT + prefix + original(name, PACKER_NAMES): tuple(value.shape)
        for prefix in PROJECTORS[: 1 if config.is_packer_shared else 2]
        for name, value in packer.items()
    }
    for name, shape in language.items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] in lora.targets:
            out, into = shape
            shapes[f"{PEFT}{module}.lora_A.default.weight"] = (lora.rank, into)
            shapes[f"{PEFT}{module}.lora_B.default.weight"] = (out, lora.rank)
    return shapes


def language_keys(language: nn.Module, given: State) -> Shapes:
    """Keys and shapes of a language model's files; where it shares it, the output matrix may be left out."""
    shapes = {name: tuple(value.shape) for name, value in language.state_dict().items()}
    if language.config.tie_word_embeddings and HEAD not in given:
        shapes.pop(HEAD)
    return shapes


def misfits(given: State, wanted: Shapes) -> Iterator[str]:
    """What keeps a file from being taken, a line each, by the file's own name of the key."""
    for name in sorted(wanted.keys() - given.keys()):
        yield f"missing {name}"
    for name in sorted(given.keys() - wanted.keys()):
        yield f"unexpected {name}"
    for name in sorted(given.keys() & wanted.keys()):
        if tuple(given[name].shape) != wanted[name]:
            yield f"{name} has the shape {tuple(given[name].shape)}, not {wanted[name]}"


def assembled(clip: State, adapted: State, language: State, config: Config, lora: Lora) -> dict[str, Tensor]:
    """The state of `HSENet(config, language model)`, of files without misfits.

    Args:
        clip: the stage-2 file: it holds both encoders.
        adapted: the MRG or VQA file: packers, and LoRA of the language model.
        language: of the base model, in transformers' names.
        config: of the vision side.
        lora: what of the language model was adapted.
    """
    ours = under(adapted, PEFT)
    packers = {name: value for name, value in ours.items() if name.startswith(PROJECTORS)}
    adapters = {name: value for name, value in ours.items() if name not in packers}
    towers = {STAGE1 + name: value for name, value in under(clip, f"{TEACHER}vision_encoder.").items()}
    towers |= {STAGE2 + name: value for name, value in under(clip, "vision_encoder.").items()}
    base = {HEAD: language[EMBEDDING], **language}
    return convert({**towers, **packers, **merged(base, adapters, lora)}, config)


def merged(language: State, adapters: State, lora: Lora) -> dict[str, Tensor]:
    """A language model's state with what was learned added to it."""
    state = dict(language)
    modules = {found[1] for found in map(LORA.fullmatch, adapters) if found}
    for module in sorted(modules):
        into, out = (adapters[f"{module}.lora_{side}.default.weight"].float() for side in "AB")
        whole = state[f"{module}.weight"]
        state[f"{module}.weight"] = (whole.float() + lora.alpha / lora.rank * out @ into).to(whole.dtype)
    return state
