"""Masks of a case as regions.seg.nrrd: Slicer's segmentation file, with names, codes and colours."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import slicer

from ct3d.case import Case
from ct3d.errors import InvalidRequest
from ct3d.imaging.volume import Volume
from CT3DAssistantLib.exports.files import write_with
from CT3DAssistantLib.scene import layers_from_segmentation, write_segments


def write_regions(path: Path, case: Case, layers: Mapping[str, np.ndarray]) -> Path:
    """Write every region that has voxels as one segment; overlapping layers stay apart.

    Args:
        path: ends in .seg.nrrd.
        layers: (K, J, I) uint8 by name.

    Raises:
        DiskFull: if the file can't be written.
    """
    node = slicer.vtkMRMLSegmentationNode()
    write_segments(node, layers, case.regions, np.array(case.input.geometry.ijk_to_ras))
    return write_segmentation(path, node)


def read_regions(path: Path, case: Case) -> dict[str, np.ndarray]:
    """The mask layers of a case, (K, J, I) uint8 by name on its grid, from a file of `write_regions`.

    Raises:
        InvalidRequest: there is no such file.
    """
    if not path.is_file():
        raise InvalidRequest(
            f"There are no masks at {path}. Give a folder that `ct3d-assistant analyze` wrote."
        )
    scene, storage = slicer.vtkMRMLScene(), slicer.vtkMRMLSegmentationStorageNode()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage.SetFileName(str(path))
    storage.ReadData(node)
    grid = case.input.geometry
    empty = Volume(np.broadcast_to(np.int16(0), grid.shape_kji), np.array(grid.ijk_to_ras))
    return layers_from_segmentation(node, empty, case.regions)


def write_segmentation(path: Path, node: slicer.vtkMRMLSegmentationNode) -> Path:
    """Write a segmentation node as it is, a person's edits included.

    Raises:
        DiskFull: if the file can't be written.
    """
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetCompressionParameter("gzip_fastest")

    def write(part: Path) -> None:
        storage.SetFileName(str(part))
        storage.WriteData(node)

    return write_with(path, write)
