"""What a reviewer of landmarks points with and looks at: the 90 % sphere, the place under the mouse, masks.

Nodes made here are helpers: hidden from editors and never saved.
"""

from typing import Any

import numpy as np
import slicer
import vtk

from ct3d.case import Point, Region
from ct3d.errors import InvalidRequest
from CT3DAssistantLib.ownership import MODULE, array_of, nodes_of_class
from CT3DAssistantLib.plausibility import OffMask, around, is_off
from CT3DAssistantLib.scene import mask_image

HELPER = f"{MODULE}.helper"  # attribute of our own nodes that aren't saved: which one it is
RADIUS_COLOR, RADIUS_OPACITY = (1.0, 0.75, 0.1), 0.25
PLANES = ("Red", "Green", "Yellow")  # slice views that cross in one point, where the layout has them


def show_radius(scene: slicer.vtkMRMLScene, ras: Point | None, radius_mm: float | None) -> None:
    """Draw the sphere that holds the true place in 90 %, in slices and 3D; none without a known radius."""
    if ras is None or radius_mm is None:
        for node in helpers(scene, "vtkMRMLModelNode", "radius"):
            node.GetDisplayNode().SetVisibility(False)
        return
    node = helper(scene, "vtkMRMLModelNode", "radius", "90 % radius")
    ball = vtk.vtkSphereSource()
    ball.SetCenter(*ras)
    ball.SetRadius(radius_mm)
    ball.SetThetaResolution(48)
    ball.SetPhiResolution(24)
    ball.Update()
    node.SetAndObservePolyData(ball.GetOutput())
    display = node.GetDisplayNode()
    display.SetColor(*RADIUS_COLOR)
    display.SetOpacity(RADIUS_OPACITY)
    display.SetVisibility2D(True)
    display.SetSliceIntersectionThickness(2)
    display.SetVisibility(True)


def pointed_at(scene: slicer.vtkMRMLScene) -> Point:
    """Where the mouse points in a view, RAS millimetres; else where the slice views cross; in a scene without
    slice views, where the crosshair was put last.

    Raises:
        InvalidRequest: if none of them says a place.
    """
    crosshairs = nodes_of_class(scene, "vtkMRMLCrosshairNode")
    for crosshair in crosshairs:
        ras = [0.0, 0.0, 0.0]
        if crosshair.GetCursorPositionRAS(ras):
            return float(ras[0]), float(ras[1]), float(ras[2])
    places = [crosshair.GetCrosshairRAS() for crosshair in crosshairs]
    if scene.GetFirstNodeByClass("vtkMRMLSliceNode") is None and any(map(any, places)):
        right, anterior, superior = (float(x) for x in next(filter(any, places)))
        return right, anterior, superior
    return _crossing(scene)


def _crossing(scene: slicer.vtkMRMLScene) -> Point:
    views = nodes_of_class(scene, "vtkMRMLSliceNode")
    views.sort(key=lambda view: view.GetLayoutName() not in PLANES)
    planes = [slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS()) for view in views[:3]]
    normals = np.array([plane[:3, 2] for plane in planes])
    if len(planes) < 3 or abs(np.linalg.det(normals)) < 0.1:
        raise InvalidRequest(
            "The slice views don't cross in one point. Point at the place in a view and press M, or choose a "
            "layout with an axial, a coronal and a sagittal view."
        )
    along = [plane[:3, 2] @ plane[:3, 3] for plane in planes]
    right, anterior, superior = (float(x) for x in np.linalg.solve(normals, along))
    return right, anterior, superior


def off_masks(node: slicer.vtkMRMLSegmentationNode, regions: tuple[Region, ...]) -> OffMask:
    """Tells whether points lie off the segments of a node; reads only the voxels around a point."""
    known = {region.id for region in regions if region.presence != "absent"}

    def off_mask(region: str, ras: Point, within_mm: float) -> bool | None:
        image = mask_image(node, region) if region in known else None
        if image is None:
            return None
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        ijk_to_ras = slicer.util.arrayFromVTKMatrix(matrix)
        ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ image.GetExtent()[0::2]
        array, label = array_of(image), node.GetSegmentation().GetSegment(region).GetLabelValue()
        box = around(array.shape, ijk_to_ras, ras, within_mm)
        ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ [each.start for each in box[::-1]]
        return is_off(array[box] == label, ijk_to_ras, ras, within_mm)

    return off_mask


def helper(scene: slicer.vtkMRMLScene, kind: str, role: str, name: str) -> Any:
    for node in helpers(scene, kind, role):
        return node
    node = slicer.vtkMRMLModelNode() if kind == "vtkMRMLModelNode" else slicer.vtkMRMLMarkupsFiducialNode()
    node.SetName(name)
    node.SetAttribute(HELPER, role)
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetSaveWithScene(False)
    return node


def helpers(scene: slicer.vtkMRMLScene, kind: str, role: str) -> list[Any]:
    return [node for node in nodes_of_class(scene, kind) if node.GetAttribute(HELPER) == role]
