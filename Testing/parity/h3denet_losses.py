"""H3DE-Net's targets, losses, decoders, metrics and crops against the reference's vectors."""

import numpy as np
import torch
from parity.golden import Case, Comparison, kind

from ct3d.models.heatmaps import anchor_candidates, anchor_points, reference_heatmap_points
from ct3d.training import State
from ct3d.training.anchors import reference_anchor_loss, reference_proposals
from ct3d.training.crops import center_crop, random_crop
from ct3d.training.losses import heatmap_loss, heatmap_target, reference_heatmap_loss
from ct3d.training.metrics import reference_errors, reference_hits

LOSS = 1e-5  # relative
DECODED = 1e-6  # voxels or mm
SINGLE = 5e-7  # what single precision keeps of numbers up to 2


@kind("heat-map loss", fits=lambda case: case.holds("landmarks", "target", "pred"))
def check_heatmap_loss(case: Case, _part: str, compare: Comparison) -> None:
    """Target, the reference's loss and gradient in its order of ties, the intended loss, and ours."""
    landmarks, target = torch.tensor(case.arrays["landmarks"]), torch.tensor(case.arrays["target"])
    maps = torch.tensor(case.arrays["pred"], requires_grad=True)
    compare(
        "target", heatmap_target(landmarks, tuple(target.shape[2:]), case.settings["R"]), target, atol=SINGLE
    )
    order = orders_of_background(case)
    loss = reference_heatmap_loss(maps, target, order)
    compare("loss", loss, case.settings["loss_reference"], rtol=LOSS)
    if "grad_pred" in case.arrays:
        (pull,) = torch.autograd.grad(loss, maps)
        compare("gradient", pull, case.arrays["grad_pred"], rtol=LOSS)
    intended = reference_heatmap_loss(maps, target, order, is_intended=True)
    compare("intended", intended, case.settings["loss_intended"], rtol=LOSS)
    ours, theirs = product_loss(case, maps, landmarks)
    compare("product", ours, theirs, rtol=LOSS)


def orders_of_background(case: Case) -> dict[tuple[int, int], torch.Tensor]:
    """(sample, landmark) → the reference's order of background voxels."""
    found = {}
    for name in case.arrays:
        if name.startswith("neg_idx_"):
            sample, landmark = map(int, name.removeprefix("neg_idx_").split("_"))
            found[sample, landmark] = torch.tensor(case.arrays[name]).long()
    return found


def product_loss(case: Case, maps: torch.Tensor, landmarks: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Our default and the intended loss, over the landmarks that are there: where the two have one rule."""
    items = [item for item in case.settings["per_item"] if item["n_pos"]]
    states = torch.full(maps.shape[:2], int(State.UNKNOWN), dtype=torch.int8)
    for item in items:
        states[item["b"], item["c"]] = State.PRESENT
    theirs = float(np.mean([item["pos"] + item["neg_intended"] for item in items]))
    return heatmap_loss(maps, landmarks, states, case.settings["R"]), theirs


@kind("anchor loss", fits=lambda case: case.holds("landmarks", "proposals", "proposal_map"))
def check_anchor_loss(case: Case, _part: str, compare: Comparison) -> None:
    """Proposals of the landmarks, then the loss of the recorded proposals: its terms, sum and gradient."""
    settings, proposals = case.settings, torch.tensor(case.arrays["proposals"])
    grid = torch.tensor(case.arrays["proposal_map"], requires_grad=True)
    ours = [
        propose(case, each, tuple(grid.shape[1:4]), proposals.shape[2]) for each in case.arrays["landmarks"]
    ]
    compare("proposals", torch.stack(ours), proposals, atol=SINGLE)
    terms = reference_anchor_loss(
        grid,
        proposals,
        hard_number=settings["hard_num"],
        hard_weight=settings["lambda_hnm"],
        regular_weight=settings["lambda_noobj"],
    )
    loss = torch.stack(list(terms.values())).sum()
    compare("loss", loss, settings["loss"], rtol=LOSS)
    for name, value in settings["components"].items():
        compare(name, terms[name], value, rtol=LOSS)
    (pull,) = torch.autograd.grad(loss, grid)
    compare("gradient", pull, case.arrays["grad"], rtol=LOSS)


def propose(case: Case, landmarks: np.ndarray, shape: tuple[int, int, int], rows: int) -> torch.Tensor:
    """Our table for one sample, by the case's settings."""
    anchors, stride = tuple(case.settings["anchors"]), case.settings["shrink"]
    return reference_proposals(torch.tensor(landmarks), shape, anchors=anchors, stride=stride, rows=rows)


@kind("heat-map decode", fits=lambda case: case.holds("decoded_all"))
def check_heatmap_decode(case: Case, _part: str, compare: Comparison) -> None:
    """The reference's points, and what it measures on them."""
    name = next(name for name in case.arrays if name.startswith("heatmap"))
    points = reference_heatmap_points(torch.tensor(case.arrays[name]).float())
    compare("points", points, case.arrays["decoded_all"], atol=DECODED)
    compare_metrics(case, points.numpy(), compare)


@kind("anchor decode", fits=lambda case: case.holds("proposal_map", "candidates", "voted"))
def check_anchor_decode(case: Case, _part: str, compare: Comparison) -> None:
    """The candidates in their order, the one voted for, and what the reference measures on it."""
    settings, grid = case.settings, torch.tensor(case.arrays["proposal_map"])
    anchors, count = tuple(settings["anchors"]), settings["select_number"]
    candidates = anchor_candidates(grid, anchors, stride=settings["shrink"], count=count)
    theirs = case.arrays["candidates"]
    compare("candidates", candidates.reshape(theirs.shape), theirs, atol=DECODED)
    voted = anchor_points(candidates)
    compare("voted", voted.reshape(case.arrays["voted"].shape), case.arrays["voted"], atol=DECODED)
    compare_metrics(case, voted.numpy(), compare)


def compare_metrics(case: Case, points: np.ndarray, compare: Comparison) -> None:
    """Errors in mm and counts of hits, as the reference stores them."""
    errors = reference_errors(case.arrays["landmarks"], points, case.arrays["spacing"])
    compare("mm", errors, case.arrays["mre"], atol=DECODED)
    compare.same("hits", reference_hits(errors), case.arrays["hits"])


def names_of_crops(case: Case) -> list[str]:
    """Prefixes of the crops' arrays: fits for fits_img, fits_center_img and so on."""
    ends = ("_center_img", "_random_img")
    return sorted({name.removesuffix(end) for name in case.arrays for end in ends if name.endswith(end)})


@kind("crops", fits=lambda case: bool(names_of_crops(case)), parts=names_of_crops)
def check_crops(case: Case, part: str, compare: Comparison) -> None:
    """The crop by the landmarks' centre, the one at random from the same numbers, and the proposals in it."""
    volume, landmarks = case.arrays[f"{part}_img"], case.arrays[f"{part}_lm"]
    settings, size = case.settings, tuple(case.settings["size"])
    if f"{part}_center_img" in case.arrays:
        compare_crop(case, f"{part}_center", center_crop(volume, landmarks, size), compare)
    if f"{part}_random_img" in case.arrays:
        random = np.random.RandomState(settings["seed"])
        found = random_crop(volume, landmarks, size, random, settings["min_rate"])
        compare_crop(case, f"{part}_random", found, compare)


def compare_crop(case: Case, name: str, found: tuple[np.ndarray, np.ndarray], compare: Comparison) -> None:
    """Voxels, points, and the proposals of the points where they are recorded."""
    crop, points = found
    what = name.rpartition("_")[2]
    compare.same(f"{what} voxels", crop, case.arrays[f"{name}_img"])
    compare(f"{what} points", points, case.arrays[f"{name}_lm"], atol=DECODED)
    theirs = case.arrays.get(f"{name}_proposals")
    if theirs is not None:
        cells = tuple(int(width / case.settings["shrink"]) for width in crop.shape)
        compare(f"{what} proposals", propose(case, points, cells, theirs.shape[1]), theirs, atol=SINGLE)
