"""How right and how fast the segmentation by rules is, on every CT that is here.

Truth is there for one case only: the demo CT's TotalSegmentator pseudo-labels. They are no expert truth.
Run as a script: `python -m bench.accuracy` with Testing and CT3DAssistant on the path.
"""

import csv
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from bench.scans import Loader, scans
from ct3d.cards import load_card
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline.anatomy_rules import AnatomyRules
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.landmark_rules import find_landmarks
from CT3DAssistantLib.samples import sample_folder

DEMO = "lidc_idri_0001"
BONES = ("vertebrae_", "rib_", "sternum", "scapula_", "clavicula_", "humerus_", "femur_", "hip_", "skull")
DICE_OF = {  # region → structures of the pseudo-labels
    "right_lung": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    "left_lung": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "airways": ("trachea",),
    "skeleton": BONES,
}
SHARE_OF = {  # rough report region → structures that should lie in it
    "heart_great_vessels": ("heart", "aorta", "superior_vena_cava", "pulmonary_vein"),
    "mediastinum": ("esophagus",),
    "upper_abdomen": ("liver", "spleen", "stomach", "pancreas", "kidney_left", "kidney_right"),
}


class WatchedJob(LocalJob):
    """A job that remembers the longest time between two looks at the cancel flag."""

    longest_s = 0.0

    def check(self) -> None:
        now = time.perf_counter()
        self.longest_s = max(self.longest_s, now - getattr(self, "last", now))
        self.last = now
        super().check()


def measure(openkbp: int = 3) -> dict:
    """Case → regions, landmarks, flags, seconds by stage, longest time without check; the demo's scores."""
    return {name: _case_or_reason(name, load) for name, load in scans(openkbp).items()}


def _case_or_reason(name: str, load: Loader) -> dict:
    try:
        return _case(name, load()[0])
    except ModuleNotFoundError as error:  # the worker doesn't need pydicom
        return {"skipped": f"{error.name} is not installed in this environment"}


def _case(name: str, volume: Volume) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        job = WatchedJob(Path(folder))
        masks = AnatomyRules(load_card("anatomy_rules")).segment(volume, job)
        stages = job.step("segment", None).stages
        started = time.perf_counter()
        card = load_card("anatomy_landmarks")
        points, more = find_landmarks(volume, masks.layers, masks.regions, card, LocalJob(Path(folder)))
        stages["landmarks"] = round(time.perf_counter() - started, 3)
    ml = {r.id: np.count_nonzero(masks.layers[r.layer] == r.label) * volume.voxel_ml for r in masks.regions}
    result = {
        "seconds": stages,
        "longest_without_check_s": round(job.longest_s, 2),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "regions": {r.id: (r.presence, round(ml[r.id], 1), r.confidence) for r in masks.regions},
        "landmarks": {p.id: p.position_ras or p.presence for p in points},
        "coverage": masks.saw.coverage,
        "flags": [flag.text for flag in (*masks.flags, *more)],
    }
    return result | ({"scores": demo_scores(volume, masks, points)} if name == DEMO else {})


def demo_scores(volume: Volume, masks, points) -> dict[str, float]:
    """Dice of organs, share of structures in rough regions and carina distance."""
    folder = sample_folder() / DEMO
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "mask.nii.gz")))
    with (folder / "structures.csv").open() as file:
        ids = {row["structure"]: int(row["id"]) for row in csv.DictReader(file)}
    where = {r.id: (r.layer, r.label) for r in masks.regions}
    scores = {}
    for region, prefixes in DICE_OF.items():
        truth = np.isin(labels, [n for name, n in ids.items() if name.startswith(prefixes)])
        found = masks.layers[where[region][0]] == where[region][1]
        both = np.count_nonzero(found & truth)
        scores[f"dice {region}"] = 2 * both / (np.count_nonzero(found) + np.count_nonzero(truth))
    for region, names in SHARE_OF.items():
        found = masks.layers[where[region][0]] == where[region][1]
        for name in names:
            truth = labels == ids[name]
            scores[f"share of {name} in {region}"] = np.count_nonzero(found & truth) / np.count_nonzero(truth)
    carina = next(p.position_ras for p in points if p.id == "carina")
    truth_ras = derived_carina(labels == ids["trachea"], volume.ijk_to_ras)
    scores["carina distance mm"] = float(np.linalg.norm(np.subtract(carina, truth_ras)))
    return {name: round(float(value), 3) for name, value in scores.items()}


def derived_carina(trachea: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """RAS place where a trachea divides: between the two parts of the highest slice with two large ones."""
    slices = range(len(trachea)) if ijk_to_ras[2, 2] < 0 else range(len(trachea) - 1, -1, -1)
    for k in slices:
        labels, count = ndimage.label(trachea[k])
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        if np.count_nonzero(sizes > 60) < 2:
            continue
        one, two = (np.argwhere(labels == n + 1) for n in np.argsort(-sizes)[:2])
        gap = np.linalg.norm(one[:, None] - two[None], axis=2)
        a, b = np.unravel_index(gap.argmin(), gap.shape)
        return ras_from_kji(np.array([[k, *((one[a] + two[b]) / 2)]]), ijk_to_ras)[0]
    raise ValueError("this mask doesn't divide")


def main() -> None:
    """Print what `measure` gives, case by case."""
    for name, load in scans(int(sys.argv[1]) if len(sys.argv) > 1 else 3).items():
        case = _case_or_reason(name, load)
        print(f"{name}: {sum(case.get('seconds', {}).values()):.1f} s")
        for key, value in case.items():
            rows = value.items() if isinstance(value, dict) else [("", value)]
            for entry, each in rows:
                print(f"    {key:24} {entry:36} {each}")


if __name__ == "__main__":
    main()
