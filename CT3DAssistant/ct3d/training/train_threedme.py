"""Pretrain the shared encoder on unlabelled CT: hidden voxels and the places of views, in the same step.

    python -m ct3d.training.train_threedme RECIPE --corpus corpus.npz --out FOLDER [--watch]
    accelerate launch -m ct3d.training.train_threedme …   (several GPUs)

A recipe says everything that shapes the weights; its resolved form is saved beside them, with the list of
studies and the curve. Run the same line again to go on where a run was stopped. Of several processes each
encodes its own share of a step's studies; all know all features, so the losses are those of one process.
"""

import argparse
import json
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ct3d.errors import InvalidRequest
from ct3d.models.spatial_ssl import (
    UNIT_MM,
    Follower,
    HeadConfig,
    SpatialHead,
    band_shares,
    cycle_loss,
    gap_loss,
    gap_matrix,
    likeness_loss,
    route_loss,
    vector_loss,
    watched,
)
from ct3d.models.threedme import PATCH, Config, Decoder, Encoder, Features
from ct3d.protocol.codec import decode
from ct3d.training.corpus import Corpus, load
from ct3d.training.distributed import gather, rank, ranks
from ct3d.training.loop import Run, Schedule
from ct3d.training.places import find_start
from ct3d.training.program import ended
from ct3d.training.progressive_masking import Masking
from ct3d.training.reconstruction import masked_error, reconstruction_loss
from ct3d.training.views import Layout, Variety, Views, ViewSampler

WEIGHTS = "weights.safetensors"
RESOLVED = "recipe.json"  # beside them
OBJECTIVES = ("masked", "spatial")  # as Weight names them
USED = ("f4", "f8", "spacing_mm")  # of the features, by the losses
CELL_BODY = 0.25  # share of a cell that must be body for its place to count
HELD_OUT_STEP = 1 << 30  # where the chance of held-out views begins


@dataclass(frozen=True)
class Weight:
    """What each part of the loss counts; 0 leaves its work undone. After sections 5 and 6.5 [R]."""

    masked: float = 1.0
    spatial: float = 0.2
    gap: float = 1.0
    vector: float = 1.0
    route: float = 0.5
    cycle: float = 0.25
    likeness: float = 0.5
    cells: float = 1.0  # ours: the point of every cell, not of whole views alone
    bands: float = 0.0  # ours: in which bands of the body every cell of the fine map lies


@dataclass(frozen=True)
class Recipe:
    """What shapes the weights.

    Attributes:
        config: fields of the encoder's config that differ from "tiny".
        masked_views: how many of a study's views are hidden in part.
        aux_is_ema: whether all views but each study's first are seen by a running mean of the encoder, which
            they don't train, as in the author's code.
        layouts: what a step sees; each comes up in its share of the steps.
        start: weights to go on from, see `places.find_start`; "": random ones.
    """

    seed: int
    schedule: Schedule
    config: dict[str, Any] = field(default_factory=dict)
    masking: Masking = Masking()
    variety: Variety = Variety()
    layouts: tuple[Layout, ...] = (Layout(),)
    masked_views: int = 1
    aux_is_ema: bool = False
    weight: Weight = Weight()
    evaluate_every: int = 500
    start: str = ""


class Pretrained(nn.Module):
    """The encoder with both heads that pretraining needs.

    Args:
        aux_is_ema: see Recipe; in evaluation the encoder sees all views.
    """

    def __init__(self, config: Config, *, aux_is_ema: bool = False):
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.spatial = SpatialHead(HeadConfig(dim=config.dim, chunk_dim=config.stem[1]))
        self.aux = Follower(self.encoder) if aux_is_ema else None

    def forward(self, views: Views) -> Features:
        """Features of all views (B · V, …)."""
        if self.aux is None or not self.training:
            return _seen(self.encoder, views)
        main, others = views.cut(views=slice(1)), views.cut(views=slice(1, None))
        pairs = zip(*(vars(each).values() for each in (_seen(self.encoder, main), _seen(self.aux, others))))
        batch = len(views.image)
        return Features(*(_joined(*pair, batch) for pair in pairs))

    def guess(self, features: Features, views: Views) -> Tensor:
        """(B, V, 1, D, H, W), as far as features tell."""
        return self.decoder(features.f8).float().view(views.image.shape)


def main(argv: list[str] | None = None) -> int:
    """Pretrain; gives the exit code."""
    parser = argparse.ArgumentParser(description="Pretrain the shared encoder.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, help="made by ct3d.training.build_corpus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", choices=list(OBJECTIVES), help="leave the other objective out; what is hidden stays hidden"
    )
    parser.add_argument("--device", help="if not the one that accelerate chooses")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="at every evaluation, draw the first held-out CT into OUT/watch and fill OUT/tensorboard; needs "
        "SimpleITK, matplotlib and tensorboard",
    )
    given = parser.parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    torch.set_num_threads(given.threads)
    recipe = decode(Recipe, tomllib.loads(given.recipe.read_text("utf-8")), str(given.recipe))
    if given.only:
        recipe = only(recipe, given.only)
    accelerator = Accelerator()
    device = given.device or accelerator.device
    studies = load(given.corpus)
    own, held_out = (
        Corpus([each for each in studies if each.is_held_out == wanted], device) for wanted in (False, True)
    )
    train(recipe, own, held_out, given.out, watch=given.watch)


def train(recipe: Recipe, own: Corpus, held_out: Corpus, out: Path, *, watch: bool = False) -> Pretrained:
    """Run a recipe, or go on with it; gives the averaged weights, which are saved as WEIGHTS.

    Args:
        watch: whether every evaluation is drawn, see `observe`.

    Raises:
        InvalidRequest: there are studies of a step that the processes can't share alike.
    """
    if watch:
        from ct3d.training.observe import observe  # needs what not every machine that trains has
    if any(each.studies % ranks() for each in recipe.layouts):
        raise InvalidRequest(f"{ranks()} processes can't share the studies of a step alike. Start fewer.")
    torch.manual_seed(recipe.seed)
    net = Pretrained(config_of(recipe), aux_is_ema=recipe.aux_is_ema).to(own.voxels.device)
    if recipe.start:
        begin_from(net, load_file(find_start(recipe.start)))
    sampler = sampler_of(recipe, own)
    run = Run(net, lambda step: step_loss(net, sampler, recipe, step), recipe.schedule, out)
    if not rank():
        _describe(recipe, net, own, held_out, out)
    others = sampler_of(recipe, held_out)
    while run.step < recipe.schedule.steps:
        since = run.step
        until = min(recipe.schedule.steps, (run.step // recipe.evaluate_every + 1) * recipe.evaluate_every)
        run.go(until, save_every=recipe.evaluate_every)
        if not rank():
            run.log(**evaluate(run.average.module, others, recipe))
            if watch:
                observe(run.average.module, held_out, out, since=since, step=run.step)
    net = run.average.module
    if not rank():
        named = {name: each for name, each in net.state_dict().items() if not name.startswith("aux.")}
        save_file({name: each.contiguous() for name, each in named.items()}, out / WEIGHTS)
    return net


def only(recipe: Recipe, objective: str) -> Recipe:
    """The recipe with one of OBJECTIVES alone."""
    left_out = {name: 0.0 for name in OBJECTIVES if name != objective}
    return replace(recipe, weight=replace(recipe.weight, **left_out))


def begin_from(net: Pretrained, given: dict[str, Tensor]) -> None:
    """Take over weights; older ones had no decoder or not all heads, which then stay random."""
    later = ("decoder.", "aux.", "spatial.band.")
    own = {name: each for name, each in net.state_dict().items() if name.startswith(later)}
    net.load_state_dict(own | {name: each for name, each in given.items() if not name.startswith("sides.")})


def config_of(recipe: Recipe) -> Config:
    """The encoder's sizes."""
    return decode(Config, recipe.config, "config")


def sampler_of(recipe: Recipe, corpus: Corpus) -> ViewSampler:
    """Views of a corpus as the recipe wants them."""
    return ViewSampler(
        corpus,
        variety=recipe.variety,
        masking=recipe.masking,
        masked_views=recipe.masked_views,
        seed=recipe.seed,
    )


def step_loss(net: Pretrained, sampler: ViewSampler, recipe: Recipe, step: int) -> Tensor:
    """The loss of a step."""
    rng = np.random.default_rng((recipe.seed, step, 1))
    shares = np.array([each.share for each in recipe.layouts])
    layout = recipe.layouts[int(rng.choice(len(shares), p=shares / shares.sum()))]
    views = sampler.sample(step, layout, step / recipe.schedule.steps)
    if net.aux is not None:
        net.aux.follow(net.encoder, step)
    return sum(losses(net, views, recipe).values())


def losses(net: Pretrained, views: Views, recipe: Recipe) -> dict[str, Tensor]:
    """The weighted parts of the loss, of all processes' shares of the views."""
    device, share = views.image.device, len(views.image) // ranks()
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.schedule.is_bf16):
        features = net(views.cut(slice(rank() * share, (rank() + 1) * share)))
        features = replace(features, **{name: gather(getattr(features, name)) for name in USED})
        weight, parts = recipe.weight, {}
        if weight.masked:
            guess = net.guess(features, views)
            parts["masked"] = weight.masked * reconstruction_loss(
                guess, views.image, views.hidden, views.body
            )
        if weight.spatial:
            parts["spatial"] = weight.spatial * _spatial(net.spatial, features, views, weight)[0]
    return parts


def _seen(encoder, views):
    """An encoder's features of all views (B · V, …)."""
    spacing = views.spacing_mm.to(views.image.device).repeat_interleave(views.image.shape[1], 0)
    return encoder(views.image.flatten(0, 1), spacing, views.hidden.flatten(0, 1))


def _joined(main, others, batch):
    """(B, …) of the first views and (B · (V - 1), …) of the others → (B · V, …)."""
    return torch.cat([main.unflatten(0, (batch, 1)), others.unflatten(0, (batch, -1))], 1).flatten(0, 1)


@dataclass(frozen=True)
class Cells:
    """Cells of one stride of all views, study by study.

    Attributes:
        places: (B, N, 3) where they lie along S, A, R in the study, whichever way it was mirrored, 100 mm.
        weight: (B, N, 1), 1 where the body fills enough of them, 0 elsewhere.
    """

    places: Tensor
    weight: Tensor

    @classmethod
    def of(cls, features: Features, views: Views, stride: int) -> "Cells":
        """Cells of the maps that the encoder gave of views."""
        batch, device = len(views.image), views.image.device
        grid_mm = features.grid_mm(stride).unflatten(0, (batch, -1))
        places = (grid_mm + views.centers_mm.to(device)[:, :, None, None, None]) / UNIT_MM
        places = (places * views.signs.to(device)[:, None, None, None, None]).flatten(1, 4)
        share = F.avg_pool3d(views.body.flatten(0, 1), stride).view(batch, -1, 1)
        return cls(places, (share > CELL_BODY).float())

    def middle(self, values: Tensor) -> Tensor:
        """(B, 1, C) mean of cells' values (B, N, C) over the body."""
        return (values * self.weight).sum(1, keepdim=True) / self.weight.sum(1, keepdim=True).clamp_min(1)


def _spatial(head, features, views, weight):
    """The second objective; and what of it a person can watch."""
    batch, count = views.image.shape[:2]
    truth = (views.places_mm / UNIT_MM).to(views.image.device)
    gaps = gap_matrix(truth)
    seen = head.views(features.f8).float().unflatten(0, (batch, count))
    edges, points = head.edges(seen).float(), head.points(seen).float()
    f4 = features.f4.float().unflatten(0, (batch, count))
    alike, ranked = likeness_loss(head, f4, views.centers_mm, 4 * views.spacing_mm)
    loss = weight.likeness * alike
    if count > 1:
        loss = loss + weight.gap * gap_loss(head.gaps(seen).float(), gaps)
        loss = loss + weight.vector * (vector_loss(edges, gaps) + vector_loss(gap_matrix(points), gaps))
        loss = loss + weight.route * route_loss(edges, gaps) + weight.cycle * cycle_loss(edges)
    cells, points_of_cells = Cells.of(features, views, PATCH), head.cells(features.f8).float()
    loss = loss + weight.cells * cells_loss(points_of_cells, cells)
    if weight.bands:
        fine = Cells.of(features, views, PATCH // 2)
        found = head.bands(features.f4).float()
        loss = loss + weight.bands * bands_loss(found, fine, points_of_cells, cells)
    return loss, {"edges": edges, "points": points, "truth": truth, "ranking": ranked}


def cells_loss(points: Tensor, cells: Cells) -> Tensor:
    """Smooth L1 of every body cell's point (B · V, D, H, W, 3), after each study's middle is taken away."""
    points = points.reshape(*cells.weight.shape[:2], 3)
    apart = (points - cells.middle(points)) - (cells.places - cells.middle(cells.places))
    error = F.smooth_l1_loss(apart, torch.zeros_like(apart), reduction="none", beta=0.3)
    return (error * cells.weight).sum() / (3 * cells.weight.sum()).clamp_min(1)


def bands_loss(logits: Tensor, fine: Cells, points: Tensor, coarse: Cells) -> Tensor:
    """Cross-entropy of the bands (B · V, D, H, W, 3, BANDS) of every body cell of the fine map.

    Where a study lies in the body's frame nobody told: it is taken from the points of its coarse cells
    (B · V, D, H, W, 3), on average, which learn nothing here.
    """
    points = points.detach().reshape(*coarse.weight.shape[:2], 3)
    shift = coarse.middle(points) - coarse.middle(coarse.places)
    shares = band_shares(fine.places + shift)
    error = -(shares * logits.reshape(shares.shape).log_softmax(-1)).sum(-1)
    return (error * fine.weight).sum() / (3 * fine.weight.sum()).clamp_min(1)


@torch.inference_mode()
def evaluate(net: Pretrained, sampler: ViewSampler, recipe: Recipe, steps: int = 12) -> dict[str, float]:
    """On held-out studies, the same views every time: what a person can watch, in mm, degrees and HU."""
    net.eval()
    found: dict[str, list[Tensor]] = {name: [] for name in ("edges", "points", "truth", "ranking")}
    errors, layout = [], replace(recipe.layouts[0], views=3)
    for step in range(steps):
        views = sampler.sample(HELD_OUT_STEP + step, layout, done=1.0)
        features = net(views)
        if recipe.weight.masked:
            guess = net.guess(features, views)
            errors.append(masked_error(guess, views.image, views.hidden, views.body).item())
        if recipe.weight.spatial:
            for name, value in _spatial(net.spatial, features, views, recipe.weight)[1].items():
                found[name].append(value.cpu())
    net.train()
    scores = {"held_out_hu": float(np.mean(errors))} if errors else {}
    if recipe.weight.spatial:
        scores |= spatial_scores(*(torch.cat(found[name]) for name in ("edges", "points", "truth")))
        scores["ranking"] = torch.stack(found["ranking"]).mean().item()
    return scores


def spatial_scores(edges: Tensor, points: Tensor, truth: Tensor) -> dict[str, float]:
    """Of edges (N, V, V, 3), points and true places (N, V, 3), all in 100 mm."""
    gaps, by_points = gap_matrix(truth), gap_matrix(points)
    lengths, degrees, ends = watched(edges, gaps)
    upper = torch.triu(torch.ones(edges.shape[1:3], dtype=torch.bool), 1)
    return {
        "gap_error_mm": UNIT_MM * lengths.median().item(),
        "edge_error_mm": UNIT_MM * (edges - gaps)[:, upper].norm(dim=-1).median().item(),
        "point_error_mm": UNIT_MM * (by_points - gaps)[:, upper].norm(dim=-1).median().item(),
        "arrow_error_deg": degrees.median().item(),
        "closure_mm": UNIT_MM * ends.median().item(),
    }


def _describe(recipe, net, own, held_out, out):
    """Beside the weights: the recipe as it was resolved, and what it was run on."""
    more = {
        "parameters": sum(each.numel() for each in net.parameters()),
        "studies": own.ids,
        "held_out": held_out.ids,
        "processes": ranks(),
        "torch": torch.__version__,
        "device": str(own.voxels.device),
    }
    (out / RESOLVED).write_text(json.dumps({**asdict(recipe), **more}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
