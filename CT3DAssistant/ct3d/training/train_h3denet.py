"""Train landmarks of the head and neck on OpenKBP: H3DE-Net, or a baseline on the same windows.

    python -m ct3d.training.train_h3denet RECIPE --data FOLDER --out FOLDER

A recipe says everything that shapes the weights; its resolved form is saved beside them, with the list of
cases and the curve. Run the same line again to go on where a run was stopped.
"""

import argparse
import json
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.networks.nets import UNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ct3d.cards import ModelCard, load_card
from ct3d.imaging.files import read_volume
from ct3d.imaging.resample import resample
from ct3d.models.h3denet import Config, HeatmapNet
from ct3d.models.heatmaps import peaks
from ct3d.protocol.codec import decode
from ct3d.training import State
from ct3d.training.data import Grid, Looks, Window, Windows
from ct3d.training.loop import Run, Schedule
from ct3d.training.losses import heatmap_loss, place_loss
from ct3d.training.openkbp import LandmarkCase, cases, open_case
from ct3d.training.places import find_scan, find_start

WEIGHTS = "weights.safetensors"
NEGATIVE_MM = 3.0  # grid on which scans of other body parts are kept


@dataclass(frozen=True)
class Recipe:
    """What shapes the weights.

    Attributes:
        card: id of the card whose input, window and config the net is made for.
        net: the card's own, or MONAI's U-Net with the arguments in `config`.
        config: fields of the card's config that this run changes.
        radius_voxels: R of the target, see `losses.heatmap_target`.
        place_weight: of `losses.place_loss` beside `losses.heatmap_loss`.
        negatives: CTs that show no landmark once their top is left away, relative to the folder of data.
        negative_top_mm: what is left away of them: it may show the lower neck.
        start: weights to go on from, a file among the shipped or this user's own ones; "": random ones.
    """

    card: str
    seed: int
    schedule: Schedule
    net: Literal["h3denet", "unet"] = "h3denet"
    config: dict[str, Any] = field(default_factory=dict)
    radius_voxels: float = 5.0
    place_weight: float = 0.1
    looks: Looks = Looks()
    mirror_pairs: tuple[tuple[int, int], ...] = ((4, 5), (8, 9))
    negatives: tuple[str, ...] = ()
    negative_top_mm: float = 60.0
    evaluate_every: int = 500
    start: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a landmark net on OpenKBP.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds openkbp/")
    parser.add_argument("--samples", type=Path, default=Path.home() / ".cache" / "ct3d" / "samples")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="stop here; the same line without it goes on")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train(read_recipe(given.recipe), given.data, given.out, samples=given.samples, until=given.steps)


def read_recipe(path: Path) -> Recipe:
    """A recipe from its TOML file; unknown words are errors."""
    return decode(Recipe, tomllib.loads(path.read_text(encoding="utf-8")), f"recipe {path.name}")


def train(recipe: Recipe, data: Path, out: Path, *, samples: Path, until: int | None = None) -> Path:
    """Run a recipe to its end, or to a step; gives the file of averaged fp16 weights."""
    card = load_card(recipe.card)
    own = [open_case(path) for path in cases(data / "openkbp" / "train")]
    held_out = [open_case(path) for path in cases(data / "openkbp" / "validation")]
    negatives = [read_negative(find_scan(name, data, samples), recipe) for name in recipe.negatives]
    grid = grid_of(card, recipe)
    windows = Windows(own, negatives, grid=grid, looks=recipe.looks, seed=recipe.seed)
    torch.manual_seed(recipe.seed)
    net = build(recipe, card)
    if recipe.start:
        net.load_state_dict(load_file(find_start(recipe.start)))
    schedule = recipe.schedule
    run = Run(net, lambda step: _loss(net, _batch(windows, step, schedule), recipe), schedule, out)
    _describe(recipe, net, own, out)
    fixed = _fixed_windows(held_out, grid, recipe.seed)
    until = schedule.steps if until is None else until
    while run.step < until:
        run.go(min(until, (run.step // recipe.evaluate_every + 1) * recipe.evaluate_every))
        run.log(**evaluate(run.average.module, fixed, recipe), seconds=run.seconds)
    state = {name: value.half() for name, value in run.average.module.state_dict().items()}
    save_file(state, out / WEIGHTS)
    return out / WEIGHTS


def grid_of(card: ModelCard, recipe: Recipe) -> Grid:
    """The windows that the card's net sees."""
    return Grid(
        card.input.spacing_mm[0], card.heatmaps.window_kji, card.input.value_range, recipe.mirror_pairs
    )


def build(recipe: Recipe, card: ModelCard) -> nn.Module:
    """The recipe's net, with random weights."""
    if recipe.net == "unet":
        return UNet(3, 2, len(card.landmarks), norm="instance", **recipe.config)
    return HeatmapNet(decode(Config, {**card.config, **recipe.config}, f"config of {card.id}"))


def read_negative(path: Path, recipe: Recipe) -> LandmarkCase:
    """A CT of another body part, its top left away; no landmark of the card lies in it."""
    volume = resample(read_volume(path)[0], spacing_kji_mm=(NEGATIVE_MM,) * 3)
    known = np.ones(volume.array.shape, bool)
    known[-round(recipe.negative_top_mm / NEGATIVE_MM) :] = False
    none = np.full((len(load_card(recipe.card).landmarks), 3), np.nan)
    return LandmarkCase(path.stem, volume, known, none, np.zeros(len(none), bool))


def evaluate(net: nn.Module, fixed: list[Window], recipe: Recipe) -> dict[str, float]:
    """Loss and mean error in mm on held-out windows about the truth: for the curve alone."""
    net.eval()
    losses, errors = [], []
    with torch.inference_mode():
        for window in fixed:
            maps = _maps(net, window.image[None], recipe.schedule)
            losses.append(
                heatmap_loss(maps, window.points_kji[None], window.states[None], recipe.radius_voxels)
            )
            there = window.states == State.PRESENT
            apart = (peaks(maps)[0][0] - window.points_kji)[there].norm(dim=-1)
            errors += (apart * float(window.ijk_to_ras[0, 0])).tolist()
    return {"held_out_loss": float(np.mean(losses)), "held_out_error_mm": float(np.mean(errors))}


def _batch(windows: Windows, step: int, schedule: Schedule) -> list[Window]:
    return [windows.sample(step * schedule.batch + n) for n in range(schedule.batch)]


def _loss(net: nn.Module, batch: list[Window], recipe: Recipe) -> Tensor:
    maps = _maps(net, torch.stack([each.image for each in batch]), recipe.schedule)
    truth = torch.stack([each.points_kji for each in batch]), torch.stack([each.states for each in batch])
    shape, place = (loss(maps, *truth, recipe.radius_voxels) for loss in (heatmap_loss, place_loss))
    return shape + recipe.place_weight * place


def _maps(net, image, schedule):
    with torch.autocast(image.device.type, torch.bfloat16, enabled=schedule.is_bf16):
        return net(image).float()


def _fixed_windows(held_out, grid, seed):
    still = Looks(0.0, 0.0, 0.0, 0.0, 0.0, mirror=0.0, cut=0.0, gain=0.0, offset_hu=0.0, noise_hu=0.0)
    still = replace(still, unknown_kept=1.0, outline=0.0)
    return [Windows([case], [], grid=grid, looks=still, seed=seed).sample(0) for case in held_out]


def _describe(recipe, net, own, out):
    """Beside the weights: the recipe as it was resolved, and what it was run on."""
    more = {
        "parameters": sum(each.numel() for each in net.parameters()),
        "cases": [each.id for each in own],
        "torch": torch.__version__,
    }
    (out / "recipe.json").write_text(json.dumps({**asdict(recipe), **more}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
