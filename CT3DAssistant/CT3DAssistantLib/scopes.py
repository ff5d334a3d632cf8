"""Scopes: what of the scan a question is about, from what a person has chosen in the scene, and in words."""

import numpy as np
import slicer

from ct3d.case import Case, Point, Region, Scope
from ct3d.errors import InvalidRequest

ROI = "vtkMRMLMarkupsROINode"
SLICE = "vtkMRMLSliceNode"
TURNED = "around a turned ROI"
NEW_ROI_MM = 60.0  # edge of an ROI that is made here
STRAIGHT = 1e-3  # how far the axes of an ROI may lie off R, A and S


def scope_of_roi(node: slicer.vtkMRMLMarkupsROINode | None) -> Scope:
    """The box of an ROI in RAS millimetres; of a turned one, the box around it along R, A and S.

    Raises:
        InvalidRequest: if there is no ROI, or it has no size yet.
    """
    if node is None:
        raise InvalidRequest("No ROI is chosen. Choose one, or press New ROI and drag it where you want.")
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    if not all(high > low for low, high in zip(bounds[::2], bounds[1::2], strict=True)):
        raise InvalidRequest(
            f"The ROI {node.GetName()!r} has no size yet. Draw it in a slice view, then ask."
        )
    note = TURNED if is_turned(node) else ""
    return Scope("box", range_ras_mm=tuple(round(float(x), 2) for x in bounds), note=note)


def is_turned(node: slicer.vtkMRMLMarkupsROINode) -> bool:
    """Whether an ROI's axes aren't those of R, A and S."""
    matrix = slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix())[:3, :3]
    axes = np.abs(matrix / np.linalg.norm(matrix, axis=0))
    return bool(np.abs(axes - axes.round()).max() > STRAIGHT)


def scope_of_slices(low_mm: float, high_mm: float) -> Scope:
    """The axial slices between two heights (S, millimetres), in either order."""
    return Scope("slices", range_ras_mm=tuple(sorted((float(low_mm), float(high_mm)))))


def regions_to_choose(case: Case) -> list[Region]:
    """What a question can be limited to: lesions, organs, parts of the report, and last the body."""
    rank = {"lesion": 0, "organ": 1, "report_region": 2}
    return sorted(
        (each for each in case.regions if each.presence != "absent"),
        key=lambda each: (each.id == "body", rank[each.kind]),
    )


def region_name(region: Region, case: Case) -> str:
    """A region's title, with its number where others have the same title."""
    same = [each for each in case.regions if each.title == region.title]
    if len(same) < 2:
        return region.title
    return f"{region.title} ({region.kind.replace('_', ' ')} {region.id.rpartition('_')[2]})"


def scope_words(scope: Scope, case: Case) -> str:
    """What of the scan an answer is about: "whole scan", "left lung", "slices S -126 to -104 mm"."""
    if scope.kind == "scan":
        return "whole scan"
    if scope.kind == "region":
        region = case.entry(f"region/{scope.region}")
        return region_name(region, case) if isinstance(region, Region) else scope.region
    axes = "S" if scope.kind == "slices" else "RAS"
    ends = zip(axes, scope.range_ras_mm[::2], scope.range_ras_mm[1::2], strict=True)
    ranges = ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in ends)
    note = f" ({scope.note})" if scope.note else ""
    return f"{'slices' if scope.kind == 'slices' else 'box'} {ranges} mm{note}"


def heights_of(volume_node: slicer.vtkMRMLScalarVolumeNode) -> tuple[float, float]:
    """The lowest and the highest S of a volume, millimetres."""
    bounds = [0.0] * 6
    volume_node.GetRASBounds(bounds)
    return float(bounds[4]), float(bounds[5])


def axial_height(scene: slicer.vtkMRMLScene) -> float:
    """S of the slice that the axial slice view shows, millimetres.

    Raises:
        InvalidRequest: if no slice view is axial.
    """
    return _shown(scene, 2, "axial")


def crosshair(scene: slicer.vtkMRMLScene) -> Point:
    """Where the three slices that the views show cross, RAS millimetres.

    Raises:
        InvalidRequest: if one of the three directions has no slice view.
    """
    views = ("sagittal", "coronal", "axial")
    return tuple(_shown(scene, axis, view) for axis, view in enumerate(views))


def _shown(scene, axis: int, view: str) -> float:
    """Where a slice view cuts an axis of RAS; of several views, the one that does it most squarely."""
    nodes = [scene.GetNthNodeByClass(n, SLICE) for n in range(scene.GetNumberOfNodesByClass(SLICE))]
    matrices = [slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()) for node in nodes]
    squareness = [abs(matrix[axis, 2]) / np.linalg.norm(matrix[:3, 2]) for matrix in matrices]
    if not nodes or max(squareness) < 0.5:
        raise InvalidRequest(f"No slice view is {view}. Choose a layout that has one, or type the numbers.")
    return float(matrices[int(np.argmax(squareness))][axis, 3])


def add_roi(scene: slicer.vtkMRMLScene, center: Point) -> slicer.vtkMRMLMarkupsROINode:
    """A box of 6 cm around a point, with handles to drag."""
    node = scene.AddNewNodeByClass(ROI, scene.GenerateUniqueName("Question ROI"))
    node.CreateDefaultDisplayNodes()
    node.SetCenter(*center)
    node.SetSize(NEW_ROI_MM, NEW_ROI_MM, NEW_ROI_MM)
    return node
