"""Moves the slice and 3D views and brings segments forward; MRML only, so it works without a window too."""

import json
from itertools import product
from typing import Any

import numpy as np
import slicer

from ct3d.case import Point
from CT3DAssistantLib.isolation import ISOLATED, isolate, restore
from CT3DAssistantLib.model_input import input_nodes
from CT3DAssistantLib.ownership import MODULE, node_of, nodes_of_class
from CT3DAssistantLib.place import Place
from CT3DAssistantLib.windows import SOFT, Window

WINDOWED = f"{MODULE}.window"  # attribute of a volume's display node: grey scale before and during
POINT_FILL = 0.0  # a point must not lie under paint

Node = slicer.vtkMRMLNode
VolumeNode = slicer.vtkMRMLScalarVolumeNode
SegmentationNode = slicer.vtkMRMLSegmentationNode


class Views:
    """The slice and 3D views of a scene."""

    def __init__(self, scene: slicer.vtkMRMLScene):
        self.scene = scene

    def jump(self, ras: Point) -> None:
        """Centre every slice view on a point, RAS millimetres; the crosshair goes there too."""
        mode = slicer.vtkMRMLSliceNode.CenteredJumpSlice
        slicer.vtkMRMLSliceNode.JumpAllSlices(self.scene, *ras, mode)
        for crosshair in self._nodes("vtkMRMLCrosshairNode"):
            crosshair.SetCrosshairRAS(*ras)

    def zoom(self, ras: Point, size_mm: float) -> None:
        """Centre every slice view on a point and show this many millimetres around it."""
        for view in self._nodes("vtkMRMLSliceNode"):
            width, height, depth = view.GetFieldOfView()
            scale = size_mm / min(width, height)
            view.SetFieldOfView(width * scale, height * scale, depth)
        self.jump(ras)

    def fit(self, volume_node: VolumeNode) -> None:
        """Show the whole volume in every slice view."""
        corners = _corners(volume_node)
        for view in self._nodes("vtkMRMLSliceNode"):
            axes = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, :2]
            across = np.ptp(corners @ axes, axis=0)
            width, height, depth = view.GetFieldOfView()
            scale = float(max(across[0] / width, across[1] / height))
            view.SetFieldOfView(width * scale, height * scale, depth)
            view.JumpSliceByCentering(*(float(x) for x in corners.mean(axis=0)))

    def center_3d(self, ras: Point) -> None:
        """Have every 3D view turn about a point; direction and distance of the look stay."""
        for camera in self._nodes("vtkMRMLCameraNode"):
            away = np.array(camera.GetPosition()) - camera.GetFocalPoint()
            was_modifying = camera.StartModify()
            camera.SetFocalPoint(*(float(x) for x in ras))
            camera.SetPosition(*(float(x) for x in ras + away))
            camera.EndModify(was_modifying)

    def is_shown(self, volume_node: VolumeNode) -> bool:
        """Whether a slice view shows this volume, or what a model saw of it."""
        ours = {node.GetID() for node in (volume_node, *input_nodes(self.scene, volume_node))}
        shown = {
            name
            for view in self._nodes("vtkMRMLSliceCompositeNode")
            for name in (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID())
        }
        return bool(ours & shown)

    def show_volume(self, volume_node: VolumeNode, *, fit: bool = True) -> None:
        """Put a volume into all slice views, below what else they show."""
        if volume_node.GetDisplayNode() is None:
            volume_node.CreateDefaultDisplayNodes()
            _set_window(volume_node.GetDisplayNode(), SOFT)
        for view in self._nodes("vtkMRMLSliceCompositeNode"):
            view.SetBackgroundVolumeID(volume_node.GetID())
        for selection in self._nodes("vtkMRMLSelectionNode"):
            selection.SetActiveVolumeID(volume_node.GetID())
        if fit:
            self.fit(volume_node)

    def show_beside(self, node: VolumeNode, volume_node: VolumeNode) -> None:
        """Put what was made of a volume into the slice views: same place, same grey scale, true voxels."""
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        display, theirs = node.GetDisplayNode(), volume_node.GetDisplayNode()
        if theirs is not None:
            display.SetAutoWindowLevel(False)
            display.SetWindowLevel(theirs.GetWindow(), theirs.GetLevel())
        display.SetInterpolate(False)
        self.show_volume(node, fit=not self.is_shown(volume_node))

    def background(self) -> VolumeNode | None:
        """The volume that all slice views show; None where there is none, or not the same in all."""
        shown = {view.GetBackgroundVolumeID() for view in self._nodes("vtkMRMLSliceCompositeNode")}
        return self.scene.GetNodeByID(shown.pop() or "") if len(shown) == 1 else None

    def isolate(self, node: SegmentationNode, segment_id: str) -> bool:
        """Show one segment strongly and dim the others; False where the node has no such segment."""
        return isolate(node, segment_id)

    def restore(self, node: SegmentationNode | None = None) -> None:
        """Show a segmentation, or all, as they were before `isolate`; the volumes' grey scales too."""
        for each in [node] if node else self._marked("vtkMRMLSegmentationNode", ISOLATED):
            restore(each)
        for display in self._marked("vtkMRMLScalarVolumeDisplayNode", WINDOWED):
            _restore_window(display)

    def show(self, volume_node: VolumeNode | None, place: Place | None) -> None:
        """Jump to a place and bring its segment forward, in the grey scale it is read in; None brings back
        what the person had. Other volumes' segmentations stay as they are.
        """
        self.restore()
        if volume_node is None or place is None:
            return
        if not self.is_shown(volume_node):
            self.show_volume(volume_node)
        node = node_of(self.scene, volume_node, "segmentation")
        if node is not None and place.segment:
            isolate(node, place.segment, **({"fill": POINT_FILL} if place.is_point else {}))
        _lend_window(volume_node, place.window)
        self.jump(place.ras)
        self.center_3d(place.ras)

    def _nodes(self, kind: str) -> list[Any]:
        return nodes_of_class(self.scene, kind)

    def _marked(self, kind: str, attribute: str) -> list[Any]:
        return [node for node in self._nodes(kind) if node.GetAttribute(attribute) is not None]


def _corners(volume_node: VolumeNode) -> np.ndarray:
    """The eight corners (8, 3) of a volume's box, RAS millimetres."""
    bounds = [0.0] * 6
    volume_node.GetRASBounds(bounds)
    return np.array(list(product(bounds[0:2], bounds[2:4], bounds[4:6])))


def _lend_window(volume_node: VolumeNode, window: Window) -> None:
    """A grey scale in which the place can be read, where the present one isn't; remembers the present one."""
    display = volume_node.GetDisplayNode()
    if display is None or window.serves(display.GetWindow(), display.GetLevel()):
        return
    before = [int(display.GetAutoWindowLevel()), display.GetWindow(), display.GetLevel()]
    _set_window(display, window)
    display.SetAttribute(WINDOWED, json.dumps([before, [window.width_hu, window.level_hu]]))


def _restore_window(display: Any) -> None:
    """Give back the remembered grey scale, unless a person has chosen another meanwhile."""
    (was_auto, *before), during = json.loads(display.GetAttribute(WINDOWED))
    display.RemoveAttribute(WINDOWED)
    if [display.GetWindow(), display.GetLevel()] == during:
        display.SetWindowLevel(*before)
        display.SetAutoWindowLevel(bool(was_auto))


def _set_window(display: Any, window: Window) -> None:
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(window.width_hu, window.level_hu)
