"""Surfaces of segments for the 3D views, made in bites of some ten milliseconds.

The application's own conversion takes seconds for a chest and blocks the window meanwhile. Here each mask is
thinned to about 2 mm, smoothed and contoured, a segment after the other. When a person edits a segment, the
application replaces its surface by a fine one.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from ct3d.errors import InvalidRequest
from ct3d.imaging.exchange import BITE, Bites
from CT3DAssistantLib.ownership import array_of, bounding_box
from CT3DAssistantLib.scene import mask_image, matrix_of

GRID_MM = 2.0  # masks finer than half of this are thinned
SMALL = 1 << 20  # voxels; a smaller mask keeps its own grid
LARGE = 4 << 20  # blocks; more take longer than a bite may
FULL = 200  # grey value of a place wholly inside; half of it is the surface
SMOOTH_VOXELS = 0.8  # standard deviation
QUICK = {"Conversion method": "1", "SurfaceNets smoothing": "1"}  # the application's own way, 5 times faster

SegmentationNode = slicer.vtkMRMLSegmentationNode


def has_surfaces(node: SegmentationNode) -> bool:
    """Whether the segments of a node have surfaces."""
    return node.GetSegmentation().ContainsRepresentation(surface_name())


def adding_surfaces(node: SegmentationNode) -> Iterator[float]:
    """Give every segment that has none its surface and show them; yields the share done, after each bite.

    Raises:
        InvalidRequest: if the node leaves its scene meanwhile.
    """
    segmentation = node.GetSegmentation()
    for name, value in QUICK.items():
        segmentation.SetConversionParameter(name, value)
    names = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    for n, name in enumerate(names):
        if node.GetScene() is None:
            raise InvalidRequest("The regions were removed from the scene. Analyse the volume again.")
        segment = segmentation.GetSegment(name)
        if segment is not None and segment.GetRepresentation(surface_name()) is None:
            surface = yield from _at(n / len(names), _making_surface(node, name))
            if segmentation.GetSegment(name) is segment:  # a person may have removed it meanwhile
                segment.AddRepresentation(surface_name(), surface)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(surface_name())
    node.GetDisplayNode().SetVisibility3D(True)


def remove_surfaces(node: SegmentationNode) -> None:
    """Take the surfaces away again."""
    node.GetSegmentation().RemoveRepresentation(surface_name())


def surface_name() -> str:
    """Name of the representation."""
    return slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def _at(share: float, bites: Bites[vtk.vtkPolyData]) -> Any:
    while True:
        try:
            next(bites)
        except StopIteration as end:
            return end.value
        yield share


def _making_surface(node: SegmentationNode, name: str) -> Bites[vtk.vtkPolyData]:
    image = mask_image(node, name)
    if image is None:
        return vtk.vtkPolyData()
    array, label = array_of(image), node.GetSegmentation().GetSegment(name).GetLabelValue()
    matrix = matrix_of(image)
    factor = _factor(array, np.linalg.norm(matrix[:3, :3], axis=0)[::-1])
    shares = yield from _thinning(array, label, factor)
    box = bounding_box(shares)
    if box is None:
        return vtk.vtkPolyData()
    yield
    grey = _smoothed(np.pad(shares[box], 2))
    yield
    return _contour(grey, matrix @ _to_voxels(box, factor))


def _factor(array: np.ndarray, spacing_kji_mm: np.ndarray) -> tuple[int, int, int]:
    """How many voxels of each axis (K, J, I) become one."""
    if array.size <= SMALL:
        return 1, 1, 1
    factor = np.maximum(1, (GRID_MM / spacing_kji_mm).astype(int))
    while np.prod(array.shape / factor) > LARGE:
        factor[(factor * spacing_kji_mm).argmin()] += 1
    k, j, i = (int(n) for n in factor)
    return k, j, i


def _thinning(array: np.ndarray, label: int, factor: tuple[int, int, int]) -> Bites[np.ndarray]:
    """Per block of voxels: the share that carries the label, 0 to FULL."""
    shares = np.zeros([-(-n // f) for n, f in zip(array.shape, factor, strict=True)], np.uint8)
    step = max(1, BITE // 2 // array[0].size // factor[0])
    for k in range(0, len(shares), step):
        mask = array[k * factor[0] : (k + step) * factor[0]] == label
        if mask.any():
            shares[k : k + step] = _block_means(mask, factor)
        yield
    return shares


def _block_means(mask: np.ndarray, factor: tuple[int, int, int]) -> np.ndarray:
    short = [(0, -n % f) for n, f in zip(mask.shape, factor, strict=True)]
    padded = np.pad(mask, short) if any(past for _, past in short) else mask
    offsets = list(np.ndindex(*factor))
    total = np.zeros([n // f for n, f in zip(padded.shape, factor, strict=True)], np.uint16)
    for offset in offsets:
        total += padded[tuple(slice(o, None, f) for o, f in zip(offset, factor, strict=True))]
    return (total * (FULL / len(offsets))).astype(np.uint8)


def _to_voxels(box: tuple[slice, slice, slice], factor: tuple[int, int, int]) -> np.ndarray:
    """4x4, from (i, j, k) of the padded blocks to voxels of the mask."""
    matrix = np.diag([*map(float, factor[::-1]), 1.0])
    first = np.array([part.start - 2 for part in box])[::-1]
    scale = np.array(factor[::-1])
    matrix[:3, 3] = first * scale + (scale - 1) / 2
    return matrix


def _smoothed(values: np.ndarray) -> vtk.vtkImageData:
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(values.ravel(), deep=True))
    smooth = vtk.vtkImageGaussianSmooth()
    smooth.SetInputData(image)
    smooth.SetStandardDeviation(SMOOTH_VOXELS)
    smooth.Update()
    return smooth.GetOutput()


def _contour(grey: vtk.vtkImageData, to_ras: np.ndarray) -> vtk.vtkPolyData:
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(grey)
    contour.SetValue(0, FULL / 2)
    contour.ComputeScalarsOff()
    contour.ComputeNormalsOn()
    transform = vtk.vtkTransform()
    transform.SetMatrix(slicer.util.vtkMatrixFromArray(to_ras))
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetTransform(transform)
    placed.SetInputConnection(contour.GetOutputPort())
    if np.linalg.det(to_ras[:3, :3]) > 0:
        placed.Update()
        return placed.GetOutput()
    turned = vtk.vtkReverseSense()  # a mirrored grid would show the inside
    turned.SetInputConnection(placed.GetOutputPort())
    turned.Update()
    return turned.GetOutput()
