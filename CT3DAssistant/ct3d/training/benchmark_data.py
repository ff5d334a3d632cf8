"""What `benchmark_threedme` is made of: patients of OpenKBP, three chests, and frozen features of them.

Data: OpenKBP's contours are experts'. The demo CT's labels are TotalSegmentator's, which no expert drew.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ct3d.imaging.files import read_volume
from ct3d.imaging.resample import resample_onto
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_kji
from ct3d.models.adaptation import freeze
from ct3d.models.threedme import LOW_HU, MULTIPLE, Encoder, Features
from ct3d.pipeline.encoder_input import BodyView, as_seen, body_view
from ct3d.pipeline.whole_scan import crops_of
from ct3d.training import State
from ct3d.training.build_corpus import with_air
from ct3d.training.openkbp import LandmarkCase, cases, open_case, organs_of
from ct3d.training.probe_threedme import SPACING_MM, Patient, mean_shape, patient, shift_mm

CROP_KJI = (48, 64, 64)
CROPS = 6  # of a patient
LUNGS, AIRWAYS = 1, 2
STRUCTURES = {  # of the demo CT: TotalSegmentator's ids
    "left_upper_lobe": (10,),
    "left_lower_lobe": (11,),
    "right_upper_lobe": (12,),
    "right_lower_lobe": (14,),
    "heart": (51,),
    "aorta": (52,),
    "back_muscles": (86, 87),
    "vertebrae": tuple(range(25, 51)),
    "ribs": tuple(range(92, 116)),
    "scapulae": (71, 72),
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A patient of OpenKBP.

    Attributes:
        window: about the organs.
        crops: (n, 1, D, H, W) in [-1, 1], anywhere in the body.
        states: (n, L) of State: whether a landmark lies in a crop.
        heights_mm: (n,) of the crops' middles above the mean of all landmarks, brought together by shifts.
    """

    window: Patient
    crops: Tensor
    states: Tensor
    heights_mm: Tensor


@dataclass(frozen=True, eq=False)
class Scan:
    """A whole chest CT: image (1, 1, D, H, W) in [-1, 1], and labels (D/2, H/2, W/2) int64, -1 not known."""

    image: Tensor
    labels: Tensor


class Material(NamedTuple):
    """What tasks are made of; `structures`: (D/4, H/4, W/4) int64 of the demo CT, 0: none of STRUCTURES."""

    own: list[Subject]
    held_out: list[Subject]
    chests: list[Scan]
    demo: Scan
    structures: Tensor


class Kept:
    """A frozen encoder's features of the material; each image is looked at once, in half precision after."""

    def __init__(self, net: Encoder, material: Material):
        self.net, self.material = freeze(net), material
        self.seen: dict[tuple[int, bool], Features | Tensor] = {}

    @torch.no_grad()
    def features(self, image: Tensor) -> Features:
        """Of a window or a scan, which the material holds."""
        key = (id(image), False)
        if key not in self.seen:
            found = self.net.encode(image, torch.full((1, 3), SPACING_MM))
            self.seen[key] = Features(*(each.half() for each in vars(found).values()))
        return Features(*(each.float() for each in vars(self.seen[key]).values()))

    @torch.no_grad()
    def tokens(self, crops: Tensor, *, upside_down: bool = False) -> Tensor:
        """(n, N, dim) of crops, or of the same mirrored along their first axis."""
        key = (id(crops), upside_down)
        if key not in self.seen:
            image = crops.flip(2) if upside_down else crops
            self.seen[key] = self.net.encode(image, torch.full((len(crops), 3), SPACING_MM)).tokens.half()
        return self.seen[key].float()


def read(data: Path, samples: Path, train: int, held_out: int) -> Material:
    """Everything that tasks need, patients with all organs drawn first."""
    paths = cases(data / "openkbp" / "train")
    paths = sorted(paths, key=lambda path: not organs_of(path)[1].all())[:train]
    others = cases(data / "openkbp" / "validation")[:held_out]
    shape = mean_shape([open_case(path).landmarks_ras for path in paths])
    demo, structures = demo_chest(samples)
    return Material(
        own=[subject(path, shape) for path in paths],
        held_out=[subject(path, shape) for path in others],
        chests=[cip_chest(data), slicerio_chest(samples)],
        demo=demo,
        structures=structures,
    )


def subject(path: Path, shape: np.ndarray) -> Subject:
    """A patient of OpenKBP; shape: (L, 3) mm, the mean landmarks that heights are told by."""
    case = open_case(path)
    view = body_view(with_air(case), (SPACING_MM,) * 3, case.known)
    crops, corners = random_crops(view, np.random.default_rng(zlib.crc32(case.id.encode())))
    middles = ras_from_kji(corners + (np.array(CROP_KJI) - 1) / 2, view.seen.ijk_to_ras)
    height_mm = shift_mm(case.landmarks_ras, shape)[2]
    heights = torch.from_numpy(middles[:, 2] - height_mm).float()
    return Subject(patient(path), crops, states_of(case, view, corners), heights)


def random_crops(view: BodyView, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Crops (n, 1, D, H, W) about random places of the body, and their first voxels (n, 3).

    They lie within the scan where it is large enough, so that its cut ends don't tell where one is.
    """
    inside, size = np.argwhere(view.body), np.array(CROP_KJI)
    spare = np.array(view.body.shape) - size
    middles = inside[rng.integers(len(inside), size=CROPS)]
    corners = np.clip(middles - size // 2, np.minimum(spare, 0), np.maximum(spare, 0))
    return crops_of(torch.from_numpy(as_seen(view.seen.array)), corners, CROP_KJI), corners


def states_of(case: LandmarkCase, view: BodyView, corners: np.ndarray) -> Tensor:
    """(n, L) of State: whether each landmark lies in each crop."""
    points_kji = ijk_from_ras(case.landmarks_ras, view.seen.ijk_to_ras)[:, ::-1] - corners[:, None]
    is_in = ((points_kji >= -0.5) & (points_kji < np.array(CROP_KJI) - 0.5)).all(-1)
    states = np.where(is_in, State.PRESENT, State.MISSING)
    states[np.isnan(points_kji).any(-1)] = State.UNKNOWN
    return torch.from_numpy(states)


def chest(volume: Volume) -> BodyView:
    """A CT's body at SPACING_MM, padded by air to sides that the encoder takes."""
    view = body_view(volume, (SPACING_MM,) * 3)
    padding = [(0, -n % MULTIPLE) for n in view.body.shape]
    hu = np.pad(view.seen.array, padding, constant_values=LOW_HU)
    return BodyView(Volume(hu, view.seen.ijk_to_ras), np.pad(view.body, padding))


def labels_on(view: BodyView, given: Volume, stride: int) -> np.ndarray:
    """(D, H, W) / stride of a label map, at the middles of a view's cells."""
    cells = np.diag([stride] * 3 + [1.0])
    cells[:3, 3] = (stride - 1) / 2
    shape = tuple(n // stride for n in view.body.shape)
    return resample_onto(given, view.seen.ijk_to_ras @ cells, shape, is_label=True).array


def scan_of(view: BodyView, labels: np.ndarray) -> Scan:
    """A view before the encoder, with labels at stride 2."""
    image = torch.from_numpy(as_seen(view.seen.array))[None, None]
    return Scan(image, torch.from_numpy(labels.astype(np.int64)))


def chest_and_labels(image: Path, labels: Path) -> tuple[BodyView, Volume]:
    """A CT as `chest` gives it, and the label map that lies on the same grid in another file."""
    volume = read_volume(image)[0]
    return chest(volume), Volume(sitk.GetArrayFromImage(sitk.ReadImage(str(labels))), volume.ijk_to_ras)


def cip_chest(data: Path) -> Scan:
    """The chest of the Chest Imaging Platform; its labels are region + 256 · type."""
    folder = data / "cip_ct64_chest"
    view, labels = chest_and_labels(folder / "ct.nii.gz", folder / "labels_cip.nii.gz")
    given = labels_on(view, labels, 2)
    region, kind = given % 256, given // 256
    is_lung = (region >= 9) & (region <= 14) & (kind != 2)  # left and right, upper to lower; vessels included
    return scan_of(view, np.where(kind == 2, AIRWAYS, np.where(is_lung, LUNGS, 0)))


def slicerio_chest(samples: Path) -> Scan:
    """The chest of slicerio; what isn't labelled in the body may be airway, so it isn't known."""
    folder = samples / "slicerio"
    view, labels = chest_and_labels(folder / "CTChest4.nrrd", folder / "Segmentation.seg.nrrd")
    given = labels_on(view, labels, 2)
    lungs = np.where((given == 5) | (given == 6), LUNGS, 0)
    return scan_of(view, np.where((given == 0) & view.body[::2, ::2, ::2], -1, lungs))


def demo_chest(samples: Path) -> tuple[Scan, Tensor]:
    """LIDC-IDRI-0001 with lungs and airways, and its STRUCTURES at stride 4; all pseudo-labels."""
    folder = samples / "lidc_idri_0001"
    view, labels = chest_and_labels(folder / "cxr.nii.gz", folder / "mask.nii.gz")
    fine, coarse = (labels_on(view, labels, stride) for stride in (2, 4))
    lungs = np.where((fine >= 10) & (fine <= 14), LUNGS, np.where(fine == 16, AIRWAYS, 0))
    structures = np.zeros(coarse.shape, np.int64)
    for n, ids in enumerate(STRUCTURES.values(), 1):
        structures[np.isin(coarse, ids)] = n
    return scan_of(view, lungs), torch.from_numpy(structures)
