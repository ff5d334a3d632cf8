"""Real CTs for the pipeline's tests, segmented once a session; skipped where a sample is not here."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from ct3d.cards import load_card
from ct3d.imaging.files import read_volume
from ct3d.imaging.resample import resample
from ct3d.imaging.volume import Volume
from ct3d.pipeline.anatomy_rules import AnatomyRules
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.landmark_rules import find_landmarks


class Segmented:
    """A CT, its masks, and landmarks read off them."""

    def __init__(self, volume: Volume, folder):
        job = LocalJob(folder)
        self.volume = volume
        self.masks = AnatomyRules(load_card("anatomy_rules")).segment(volume, job)
        card = load_card("anatomy_landmarks")
        found, flags = find_landmarks(volume, self.masks.layers, self.masks.regions, card, job)
        self.landmarks = {each.id: each for each in found}
        self.flags = {flag.id: flag for flag in (*self.masks.flags, *flags)}
        self.regions = {region.id: region for region in self.masks.regions}

    def mask(self, region_id: str) -> np.ndarray:
        region = self.regions[region_id]
        return self.masks.layers[region.layer] == region.label


def series(folder) -> Volume:
    """A folder that holds one plain DICOM series, read without pydicom, which the worker doesn't need."""
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(files)
    directions = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps = np.vstack([np.column_stack([directions, image.GetOrigin()]), (0, 0, 0, 1)])
    return Volume(sitk.GetArrayFromImage(image).astype(np.int16), np.diag([-1.0, -1, 1, 1]) @ lps)


@pytest.fixture(scope="session")
def segmented_sample(a_sample, tmp_path_factory):
    """Function: a sample's name, and another file beside its own CT where wanted → Segmented."""
    done = {}

    def segment(name: str, beside: str = "") -> Segmented:
        path = a_sample(name) if not beside else a_sample(name).parent / beside
        if path not in done:
            volume = series(path) if path.is_dir() else read_volume(path)[0]
            done[path] = Segmented(volume, tmp_path_factory.mktemp(name))
        return done[path]

    return segment


@pytest.fixture(scope="session")
def the_demo_case(segmented_sample) -> Segmented:
    return segmented_sample("lidc_idri_0001")


@pytest.fixture(scope="session")
def the_pseudo_labels(a_sample):
    """Function: structure names → mask on the demo CT's grid. TotalSegmentator made them; no expert did."""
    folder = a_sample("lidc_idri_0001").parent
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "mask.nii.gz")))
    with (folder / "structures.csv").open() as file:
        ids = {row["structure"]: int(row["id"]) for row in csv.DictReader(file)}

    def mask(*prefixes: str) -> np.ndarray:
        return np.isin(labels, [n for name, n in ids.items() if name.startswith(prefixes)])

    return mask


@pytest.fixture(scope="session")
def the_coarse_demo_ct(a_sample) -> Volume:
    """The demo CT at 3 mm, axes toward R, A, S: for tests that need no detail."""
    return resample(read_volume(a_sample("lidc_idri_0001"))[0], spacing_kji_mm=(3.0, 3.0, 3.0))
