"""Landmarks of a case as landmarks.mrk.json: Slicer's markups file, LPS inside, missing points included."""

from pathlib import Path

import slicer

from ct3d.case import Case
from CT3DAssistantLib.exports.files import write_with
from CT3DAssistantLib.scene import write_points


def write_landmarks(path: Path, case: Case) -> Path:
    """Write one control point per landmark, in the card's order.

    Raises:
        DiskFull: if the file can't be written.
    """
    node = slicer.vtkMRMLMarkupsFiducialNode()
    node.SetName("landmarks")
    write_points(node, case.landmarks)
    storage = slicer.vtkMRMLMarkupsJsonStorageNode()

    def write(part: Path) -> None:
        storage.SetFileName(str(part))
        storage.WriteData(node)

    return write_with(path, write)
