"""Landmarks by a net of heat maps: one map a landmark, its highest place, and whether it is there at all.

Nothing but the volume goes in; the net slides over all of the body that the scan shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.special import expit
from torch import Tensor, nn

from ct3d.cards import HeatmapSpec, LandmarkSpec, ModelCard
from ct3d.case import Flag, Landmark
from ct3d.errors import InvalidRequest, WeightsCorrupt, WeightsMissing
from ct3d.imaging.plausibility import flags_of
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.models.h3denet import Config, HeatmapNet
from ct3d.models.heatmaps import peaks
from ct3d.pipeline.job import Job
from ct3d.pipeline.landmark_shape import SIGNS, signs
from ct3d.pipeline.landmarks import Placed
from ct3d.pipeline.net_view import View, view_of

PRESENT = 0.5  # presence probability from which a landmark counts as found
CERTAIN = 0.8  # below: the note says that the net isn't sure
FEWEST = 2  # found landmarks; a lone one is not believed
UNCALIBRATED = (2.0, -1.0)  # slope and offset: 0.5 midway between a map's background (-1) and its peak (2)
NAMED_KEYS = 3  # of what doesn't fit, in an error


@dataclass(frozen=True, eq=False)
class Found:
    """The highest place of each map, in the card's order, before anything is decided.

    Attributes:
        points_ras: (L, 3) mm.
        peaks: (L,) values of the maps there.
        signs: (L, 2), what the other landmarks say of each; 0 where the card has no shape.
        presence: (L,) probability that the landmark is in the scan.
        is_edge: (L,) bool, whether the place touches the edge of what the scan shows.
        view: what the net saw.
    """

    points_ras: np.ndarray
    peaks: np.ndarray
    signs: np.ndarray
    presence: np.ndarray
    is_edge: np.ndarray
    view: View


class LandmarkNet:
    """The landmark finder of a card whose model is a HeatmapNet; on the GPU where torch has one.

    Raises:
        InvalidRequest: the card's config makes no net of its landmarks.
        WeightsMissing: the card names no weights.
        WeightsCorrupt: the weights are not those of the card's net.
    """

    def __init__(self, card: ModelCard, weights_path: Path | None):
        if weights_path is None:
            raise WeightsMissing(f"{card.title} has no weights yet. Choose another model, or train it.")
        self.card = card
        self.net = load_weights(build_net(card), weights_path)
        self.net.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    @property
    def memory_bytes(self) -> int:
        """Of the net's numbers."""
        return sum(each.nbytes for each in self.net.state_dict().values())

    def place(self, volume: Volume, job: Job) -> Placed:
        """Every landmark of the card, missing ones included."""
        return place_with(self.net, self.card, volume, job)


def build_net(card: ModelCard) -> HeatmapNet:
    """The card's net with random weights, on the processor."""
    try:
        config = Config(**card.config)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The config of the card {card.id} makes no net: {error}. Mend it.") from error
    if config.landmarks != len(card.landmarks) or config.in_channels != 2:
        raise InvalidRequest(
            f"The net of the card {card.id} must have 2 input channels and {len(card.landmarks)} landmarks, "
            f"not {config.in_channels} and {config.landmarks}. Mend its config."
        )
    sizes = (len(card.landmarks), 3), (3, len(card.landmarks), len(card.landmarks))
    if card.shape and sizes != tuple(map(np.shape, (card.shape.places_mm, card.shape.covariance_mm2))):
        raise InvalidRequest(f"The shape of the card {card.id} must have a place a landmark. Mend it.")
    return HeatmapNet(config)


def load_weights(net: nn.Module, path: Path) -> nn.Module:
    """The net with the numbers of a safetensors file of any float type; no key may lack or be too many."""
    try:
        given = load_file(path)
    except SafetensorError as error:
        raise WeightsCorrupt(f"{path} is no safetensors file ({error}). Install it again.") from error
    wanted = net.state_dict()
    shapes = {key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape}
    problems = {
        "missing": wanted.keys() - given.keys(),
        "too many": given.keys() - wanted.keys(),
        "of another shape": shapes,
    }
    if any(problems.values()):
        told = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems.items() if keys)
        raise WeightsCorrupt(f"{path} doesn't fit the card's net ({told}). Install it again.")
    net.load_state_dict(given)
    return net


def place_with(net: nn.Module, card: ModelCard, volume: Volume, job: Job) -> Placed:
    """The card's landmarks by any net of its shape: (1, 2, D, H, W) → (1, L, D, H, W)."""
    found = search(net, card, volume, job)
    landmarks, flags = decided(card, found)
    numbers = next(net.parameters(), torch.zeros(0))
    dtype = str(numbers.dtype).removeprefix("torch.")
    return Placed(landmarks, flags, found.view.saw(card.id), numbers.device.type, dtype)


def decided(card: ModelCard, found: Found) -> tuple[tuple[Landmark, ...], tuple[Flag, ...]]:
    """What a person is told of what was found: every landmark of the card, and what to look at."""
    landmarks = tuple(map(_judged, card.landmarks, found.points_ras, found.presence, found.is_edge))
    if np.count_nonzero(found.presence >= PRESENT) < FEWEST:
        return tuple(map(_not_believed, landmarks)), (_elsewhere(card),)
    return landmarks, flags_of(landmarks, card.limits)


def search(
    net: nn.Module, card: ModelCard, volume: Volume, job: Job, has_data: np.ndarray | None = None
) -> Found:
    """Where each landmark's map is highest, whatever its presence.

    Args:
        net: see `place_with`.
        card: says how the net sees the volume, and how its peaks become probabilities.
        volume: on its native grid.
        job: told of the progress, and asked before each window whether the person stopped.
        has_data: (K, J, I) bool, see `view_of`.
    """
    job.stage("resample", 0.05)
    view = view_of(volume, card, has_data)
    maps = slide(net, view.network_input, card.heatmaps, job)
    job.stage("points", 0.95)
    points_kji, heights = _decoded(maps, job)
    nearest = np.clip(np.rint(points_kji).astype(int), 0, np.array(view.seen.array.shape) - 1)
    points_ras = ras_from_kji(points_kji, view.seen.ijk_to_ras)
    slopes, offsets = np.transpose([spec.presence or UNCALIBRATED for spec in card.landmarks])
    told, weights = np.zeros((len(points_ras), len(SIGNS))), np.zeros(len(SIGNS))
    if card.shape:
        told = signs(points_ras, heights, view.known, view.seen.ijk_to_ras, card.shape)
        weights = np.array(card.shape.weights)
    return Found(
        points_ras,
        heights,
        told,
        expit(slopes * heights + offsets + told @ weights),
        view.is_edge[tuple(nearest.T)],
        view,
    )


def slide(net: nn.Module, given: np.ndarray, spec: HeatmapSpec, job: Job) -> Tensor:
    """The net's maps over the whole input, blended where windows overlap.

    Args:
        net: see `place_with`.
        given: (2, K, J, I); beyond it all is unknown.
        spec: size and overlap of the windows.

    Returns:
        (1, L, K, J, I) float32 on the processor, so that a GPU holds one window at a time.
    """
    device = next(net.parameters(), torch.zeros(0)).device
    shares = _shares(given.shape[1:], spec)

    def look(window: Tensor) -> Tensor:
        job.stage("heat maps", 0.1 + 0.85 * next(shares))
        return net(window)

    with torch.inference_mode():
        return sliding_window_inference(
            torch.from_numpy(given)[None],
            spec.window_kji,
            sw_batch_size=1,
            predictor=look,
            overlap=spec.overlap,
            mode="gaussian",
            cval=0.0,
            sw_device=device,
            device="cpu",
        )


def _shares(shape: tuple[int, ...], spec: HeatmapSpec) -> Iterator[float]:
    """What share of the windows is done, before each of them."""
    count = 1
    for size, window in zip(shape, spec.window_kji):
        step = max(1, int(window * (1 - spec.overlap)))
        count *= max(0, -(-(size - window) // step)) + 1
    return (n / count for n in range(count))


def _decoded(maps: Tensor, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Places (L, 3) in the order k, j, i and heights (L,); map by map, for the decoder's copies are large."""
    found = []
    for one in maps.split(1, dim=1):
        job.check()
        found.append(peaks(one))
    points, heights = (
        torch.cat([getattr(each, name) for each in found], 1) for name in ("points_kji", "peak")
    )
    return points[0].numpy(), heights[0].numpy()


def _judged(spec: LandmarkSpec, point_ras: np.ndarray, presence: float, is_edge: bool) -> Landmark:
    common: dict[str, Any] = {"id": spec.id, "title": spec.title, "definition": spec.definition}
    common |= {"confidence": round(float(presence), 3), "region": spec.region}
    told = "" if spec.presence else " This probability is not calibrated."
    if presence < PRESENT:
        note = f"Presence probability {presence:.2f}: beyond the scan, absent in this patient, or overlooked."
        return Landmark(**common, presence="missing", note=note + told)
    if is_edge:
        note = "The net's map is highest where the scan ends: the true place lies there or beyond."
        return Landmark(**common, presence="outside", note=note + told)
    x, y, z = (round(float(each), 2) for each in point_ras)
    common |= {"position_ras": (x, y, z), "radius_mm": spec.radius_mm}
    note = "" if presence >= CERTAIN else f"Uncertain: presence probability {presence:.2f}."
    return Landmark(**common, presence="present", note=(note + told).strip())


def _not_believed(landmark: Landmark) -> Landmark:
    """The same landmark as missing, for the scan doesn't seem to show the part of the body."""
    if landmark.presence == "missing":
        return landmark
    note = f"The net saw it with probability {landmark.confidence:.2f}, but none of the others: not believed."
    return Landmark(
        landmark.id, landmark.title, landmark.definition, "missing", 0.0, region=landmark.region, note=note
    )


def _elsewhere(card: ModelCard) -> Flag:
    part = card.heatmaps.body_part
    return Flag(
        "landmarks_body_part",
        "info",
        f"None of the {part} landmarks of this card was found: this scan doesn't seem to show the {part}.",
    )


def _some(keys: set[str]) -> str:
    more = ", …" if len(keys) > NAMED_KEYS else ""
    return ", ".join(sorted(keys)[:NAMED_KEYS]) + more
