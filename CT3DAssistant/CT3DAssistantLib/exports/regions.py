"""Masks of a case as regions.seg.nrrd: Slicer's segmentation file, with names, codes and colours."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import slicer

from ct3d.case import Case
from CT3DAssistantLib.exports.files import write_with
from CT3DAssistantLib.scene import write_segments


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
