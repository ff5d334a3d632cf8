"""Train HSENet: align volumes with reports (stage 1, stage 2), then write reports or answer questions.

    python -m ct3d.training.train_hsenet RECIPE --data INDEX --out FOLDER [--cards FOLDER]
    accelerate launch -m ct3d.training.train_hsenet …   (several GPUs)

A recipe says everything that shapes the weights. The result is a weights file and a card as `weights convert`
makes them (no card for an ablation, whose net the shipped card doesn't describe). Copy both to the weights
folder to use them. Run the same line again to go on where a run was stopped.
"""

import argparse
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from ct3d.cards import ModelCard, cards_folder, load_card
from ct3d.errors import InvalidRequest, WeightsCorrupt
from ct3d.models.hsenet_clip import Stage2, contrastive_loss, logits_of
from ct3d.models.hsenet_vlm import language_loss
from ct3d.pipeline.hsenet_convert import write_card, write_weights
from ct3d.pipeline.hsenet_reader import (
    LANGUAGE,
    TOKENIZER,
    VOCABULARY,
    built_aligner,
    built_reader,
    config_of,
    fill_buffers,
    language_of,
    opened,
    sliced,
    tokenizer_of,
    word_pieces_of,
)
from ct3d.protocol.codec import decode
from ct3d.training.distributed import gather, rank, ranks
from ct3d.training.loop import Run, Schedule
from ct3d.training.places import find_start
from ct3d.training.prompts import plain_report, sample
from ct3d.training.report_data import KEPT, Looks, Pair, Scans, look_at, read_index

WAYS = 8  # in which the plane of the slices may lie
ORDER = 1 << 40  # tells the chance of an epoch's order from that of a batch


@dataclass(frozen=True)
class Lora:
    """Adapters of the language model; merged into it in the end."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """What shapes the weights.

    Attributes:
        card: whose net, input and weights layout this is.
        start: weights file to go on from, see `places.find_start`; brings tokenizer and language model.
        config: what of the card's [config] is different: ablations.
        towers: weights files of contrastive cards by the encoder that each gives ("global", "guided"); for
            stage 2 "teacher".
        fresh: beginnings of names whose numbers are drawn anew, in place of those of `start`.
        trained: beginnings of the names that are trained; all else stays as it is.
        prompts: one is drawn for each report.
        length: tokens of a text, prompt and visual tokens included.
        license, origin: of the weights, for their card, in words.
    """

    stage: Literal["stage1", "stage2", "report", "vqa"]
    card: str
    seed: int
    schedule: Schedule
    start: str
    config: dict[str, Any] = field(default_factory=dict)
    towers: dict[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    trained: tuple[str, ...] = ("net.",)
    lora: Lora | None = None
    looks: Looks = Looks()
    prompts: tuple[str, ...] = ("Can you summarize with findings the images presented?",)
    length: int = 800
    license: str = "not stated"
    origin: str = "trained with ct3d.training.train_hsenet"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train HSENet.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="an index, see ct3d.training.report_data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cards", type=Path, help="folder of cards, if not the shipped ones")
    parser.add_argument("--until", type=int, help="stop after this step; a later run goes on")
    given = parser.parse_args()
    recipe = decode(Recipe, tomllib.loads(given.recipe.read_text("utf-8")), str(given.recipe))
    train(recipe, read_index(given.data), given.out, cards=given.cards, until=given.until)


def train(
    recipe: Recipe, pairs: list[Pair], out: Path, *, cards: Path | None = None, until: int | None = None
) -> None:
    """Run a recipe, or go on with it; where it is through, weights and card are written to `out`.

    Args:
        cards: folder of the recipe's card; None: the shipped ones.
        until: a step to stop after.
    """
    cards = cards or cards_folder()
    card = load_card(recipe.card, cards)
    accelerator = Accelerator(mixed_precision="bf16" if recipe.schedule.is_bf16 else "no")
    card = replace(card, config={**card.config, **recipe.config})
    torch.manual_seed(recipe.seed)
    net, texts = build(recipe, card)
    net = net.to(accelerator.device)
    model = _Objective(recipe, card, net, texts, [each for each in pairs if each.split == "train"])
    run = Run(model, model.loss_of(accelerator), recipe.schedule, out, seed=recipe.seed)
    if not rank():
        _describe(recipe, pairs, out)
    run.go(min(until or recipe.schedule.steps, recipe.schedule.steps))
    if run.step == recipe.schedule.steps and not rank():
        weights = save(model.merged(), texts, out / f"{card.id}.safetensors")
        if not recipe.config:
            write_card(cards / f"{card.id}.toml", weights, license_=recipe.license, source=recipe.origin)


def build(recipe: Recipe, card: ModelCard) -> tuple[nn.ModuleDict, dict[str, str]]:
    """The net of a card with the recipe's numbers, and the texts of its weights file.

    Raises:
        WeightsCorrupt: a name lacks in `start` or has another shape, and isn't told to be fresh.
    """
    given, texts = opened(find_start(recipe.start))
    for tower, path in recipe.towers.items():
        vision = opened(find_start(path))[0]
        given |= {f"net.towers.{tower}.{k[11:]}": v for k, v in vision.items() if k.startswith("net.vision.")}
    if LANGUAGE in texts:
        net = built_reader(card.config, language_of(json.loads(texts[LANGUAGE])))
    else:
        net = built_aligner(card.config)
    net = _with_numbers(net)
    wanted = net.state_dict()
    known = {
        name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape
    }
    for name in [each for each in known if each.startswith(recipe.fresh or ("\0",))]:
        del known[name]
    off = [each for each in wanted.keys() - known.keys() if not each.startswith(recipe.fresh or ("\0",))]
    off = sorted(each for each in off if not each.endswith("lm_head.weight"))
    if off:
        raise WeightsCorrupt(f"{recipe.start} has no {', '.join(off[:5])} of this shape. Name it in `fresh`.")
    net.load_state_dict(known, strict=False)
    return net, texts


def _with_numbers(net: nn.Module) -> nn.Module:
    """A net that was built without numbers, with random ones."""
    for module in net.modules():
        for name, each in module._parameters.items():
            if each is not None and each.is_meta:
                module._parameters[name] = nn.Parameter(
                    nn.init.trunc_normal_(torch.empty(each.shape), std=0.02)
                )
    for module in net.modules():
        fill_buffers(module)
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()
    for part in ("language", "text"):
        if hasattr(net["net"], part):
            known = getattr(net["net"], part)
            known.apply(known._init_weights)
    if hasattr(net["net"], "logit_scale"):
        nn.init.constant_(net["net"].logit_scale, np.log(1 / 0.07))
    return net


class _Objective(nn.Module):
    """The net with what is trained of it set free, and the loss of any batch of its pairs."""

    def __init__(self, recipe: Recipe, card: ModelCard, net: nn.ModuleDict, texts, pairs: list[Pair]):
        super().__init__()
        self.recipe, self.net = recipe, net.requires_grad_(False)
        is_reader = TOKENIZER in texts
        self.tokenizer = tokenizer_of(texts[TOKENIZER]) if is_reader else _padding(texts[VOCABULARY], net)
        self.items = _items(recipe, pairs)
        self.config = config_of(card.config)
        self.scans = Scans(card.input.recipe, self.config.encoder.image_size)
        self.features: dict[tuple, Tensor] = {}
        for name, each in net.named_parameters():
            each.requires_grad_(name.startswith(recipe.trained) and not name.startswith("trunk."))
        if recipe.lora is not None:
            lora = recipe.lora
            adapters = LoraConfig(
                target_modules=list(lora.targets),
                task_type="CAUSAL_LM",
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
            )
            net["net"].language = get_peft_model(net["net"].language, adapters)
        self.teacher = None
        if recipe.stage == "stage2":
            self.teacher = Stage2(net["net"], _teacher(recipe, card))

    def train(self, mode: bool = True) -> "_Objective":
        """What is not trained stays in evaluation: no dropout there. Differs from the reference."""
        super().train(mode)
        for part in self.modules():
            if not any(each.requires_grad for each in part.parameters()):
                part.training = False
        return self

    def loss_of(self, accelerator: Accelerator) -> Callable[[int], Tensor]:
        """Batch → loss."""
        of_batch = self._aligned if self.recipe.stage in ("stage1", "stage2") else self._written

        def loss(batch: int) -> Tensor:
            with accelerator.autocast():
                return of_batch(batch, accelerator.device)

        return loss

    def merged(self) -> nn.ModuleDict:
        """The net with its adapters in its own weights."""
        if self.recipe.lora is not None:
            self.net["net"].language = self.net["net"].language.merge_and_unload()
        return self.net

    def _written(self, batch: int, device) -> Tensor:
        volumes, slices, rows = self._looks(batch, device)
        tokenizer, language = self.tokenizer, self.net["net"].language
        samples = [
            sample(
                lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                question,
                answer,
                visual=(0, self.config.visual_tokens),
                bos=language.config.bos_token_id,
                eos=language.config.eos_token_id,
                length=self.recipe.length,
            )
            for question, answer in rows
        ]
        ids, labels, mask = (torch.from_numpy(np.stack(each)).to(device) for each in zip(*samples))
        return language_loss(self.net["net"](volumes, slices, ids, mask), labels)

    def _aligned(self, batch: int, device) -> Tensor:
        volumes, slices, rows = self._looks(batch, device)
        found = self.tokenizer.encode_batch([answer for _, answer in rows])
        ids, mask = (
            torch.tensor([getattr(each, part) for each in found]) for part in ("ids", "attention_mask")
        )
        ids, mask = ids.to(device), mask.to(device)
        if self.teacher is not None:
            step = batch // self.recipe.schedule.accumulate
            return self.teacher(volumes, slices, ids, mask, step=step, gather=gather)
        pair = self.net["net"].pair(volumes, slices, ids, mask)
        return contrastive_loss(logits_of(*map(gather, pair), self.net["net"].logit_scale))

    def _looks(self, batch: int, device):
        """This rank's part of a batch: volumes (B, 1, D, H, W), slices' features or None, and texts."""
        size = self.recipe.schedule.batch
        first = (batch * ranks() + rank()) * size
        volumes, features, rows = [], [], []
        for n in range(first, first + size):
            rng = np.random.default_rng((self.recipe.seed, n))
            pair, question, answer = self._item(n, rng)
            volume, slices, way = look_at(*self.scans.see(pair.volume), self.recipe.looks, rng)
            volumes.append(torch.from_numpy(volume))
            features.append(self._features(pair, slices, way, device))
            rows.append((question, answer))
        seen = None if features[0] is None else torch.cat(features)
        return torch.stack(volumes)[:, None].to(device, torch.float32), seen, rows

    def _item(self, n: int, rng: np.random.Generator) -> tuple[Pair, str, str]:
        """Each item once an epoch, in a new order."""
        epoch, place = divmod(n, len(self.items))
        order = np.random.default_rng((self.recipe.seed, epoch, ORDER)).permutation(len(self.items))
        pair, question, answer = self.items[order[place]]
        return pair, question or str(rng.choice(self.recipe.prompts)), answer

    def _features(self, pair, slices, way, device):
        """(1, S, dim) of the slices as they were turned; made once for each of eight ways."""
        if "trunk" not in self.net:
            return None
        key = (pair.id, way)
        if key not in self.features:
            with torch.inference_mode():
                made = sliced(self.net["trunk"], slices, device, lambda: None)
            if len(self.features) == WAYS * KEPT:
                del self.features[next(iter(self.features))]
            self.features[key] = made.float().cpu()
        return self.features[key].to(device).clone()


def _items(recipe, pairs):
    """(pair, question or "", answer) of every text that is learned."""
    if recipe.stage == "vqa":
        found = [(each, asked.question, asked.answer) for each in pairs for asked in each.questions]
    elif recipe.stage == "report":
        found = [(each, "", plain_report(each.report)) for each in pairs if each.report]
    else:
        found = [(each, "-", plain_report(each.report)) for each in pairs if each.report]
    if not found:
        raise InvalidRequest(f"No training pair of the index has what {recipe.stage} learns. Add it there.")
    return found


def _teacher(recipe, card):
    """The model of stage 1 that stage 2 holds to."""
    if "teacher" not in recipe.towers:
        raise InvalidRequest("Stage 2 needs stage 1's weights. Name their file as [towers] teacher.")
    state, _ = opened(find_start(recipe.towers["teacher"]))
    net = _with_numbers(built_aligner({**card.config, "is_guided": False}))
    off = sorted(net.state_dict().keys() - state.keys())
    if off:
        raise WeightsCorrupt(f"{recipe.towers['teacher']} has no {', '.join(off[:5])}. Train stage 1 again.")
    net.load_state_dict({name: value for name, value in state.items() if name in net.state_dict()})
    return net["net"]


def _padding(vocabulary: str, net: nn.ModuleDict) -> Any:
    """The text encoder's tokenizer: cuts to its length, and pads a batch to its longest text."""
    tokenizer = word_pieces_of(vocabulary.split("\n"))
    tokenizer.enable_truncation(net["net"].text.config.max_position_embeddings)
    tokenizer.enable_padding()
    return tokenizer


def save(net: nn.Module, texts: dict[str, str], path: Path) -> Path:
    """A weights file as a card's model opens it; a head that is tied to the embedding is left out."""
    language = getattr(net["net"], "language", None)
    is_tied = language is not None and language.config.tie_word_embeddings
    named = net.state_dict().items()
    state = {name: value.cpu() for name, value in named if not (is_tied and name.endswith("lm_head.weight"))}
    return write_weights(state, texts, path)


def _describe(recipe, pairs, out):
    """Beside the weights: the recipe as it was resolved, and what it was run on."""
    more = {"pairs": [each.id for each in pairs], "processes": ranks(), "torch": torch.__version__}
    (out / "recipe.json").write_text(json.dumps({**asdict(recipe), **more}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
