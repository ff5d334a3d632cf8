"""The report as a person left it, as a page for a browser or for paper; in bites, with progress.

Files are named by the scan's content, never by a node's name, which may be a patient's.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ct3d.case import Case
from ct3d.errors import InvalidRequest
from ct3d.imaging.volume import Volume
from CT3DAssistantLib.errand import Steps
from CT3DAssistantLib.exports.figures import drawing_figures
from CT3DAssistantLib.exports.files import make_folder, write_file
from CT3DAssistantLib.exports.html import report_html
from CT3DAssistantLib.exports.paper import footer_text, paper_html, png_url
from CT3DAssistantLib.ownership import node_of
from CT3DAssistantLib.pictures import drawing_keys
from CT3DAssistantLib.place import PointIn
from CT3DAssistantLib.scene import case_of, in_segments, on_grid_of, reading_layers, volume_from_node

NO_3D = "No 3D picture in this export; the command line draws one."
WritePdf = Callable[[Path, str, str], Generator[Any, None, Path]]

Scene = slicer.vtkMRMLScene
VolumeNode = slicer.vtkMRMLScalarVolumeNode


def exporting_page(scene: Scene, volume_node: VolumeNode, folder: Path) -> Steps:
    """Write report-….html with its pictures; the result is its path.

    Raises:
        InvalidRequest: if the volume has no case.
        DiskFull: if the folder can't take it.
    """
    path = report_path(make_folder(folder), _case(scene, volume_node), ".html")
    case, volume, layers, point_in = yield from _reading(scene, volume_node)
    figures = yield from drawing_figures(case, volume, layers, point_in=point_in)
    text = report_html(_case(scene, volume_node), figures, notes=(NO_3D,))
    yield
    return write_file(path, text)


def exporting_paper(scene: Scene, volume_node: VolumeNode, folder: Path, write: WritePdf) -> Steps:
    """Write report-….pdf with the key pictures; the result is its path.

    Args:
        write: puts simple HTML, and a line at each page's foot, on paper; in bites.

    Raises:
        InvalidRequest: if the volume has no case.
        DiskFull: if the folder can't take it.
    """
    path = report_path(make_folder(folder), _case(scene, volume_node), ".pdf")
    case, volume, layers, point_in = yield from _reading(scene, volume_node)
    yield 0.2
    keys = yield from drawing_keys(case, volume, layers, point_in)
    pictures = {}
    for plane, image in keys.items():
        yield 0.7
        pictures[plane] = png_url(image)
    case = _case(scene, volume_node)
    return (yield from write(path, paper_html(case, pictures), footer_text(case)))


def report_path(folder: Path, case: Case, suffix: str) -> Path:
    """Where a case's report goes: "report-1a2b3c4d.html"."""
    return Path(folder) / f"report-{case.input.sha256[:8]}{suffix}"


def _case(scene: Scene, volume_node: VolumeNode) -> Case:
    """The case as it is now: a person may change it while pictures are drawn."""
    case = case_of(scene, volume_node)
    if case is None:
        raise InvalidRequest("There is no analysis of this volume yet. Analyse it first.")
    return case


def _reading(
    scene: Scene, volume_node: VolumeNode
) -> Generator[None, None, tuple[Case, Volume, dict[str, np.ndarray], PointIn]]:
    volume = volume_from_node(volume_node)
    case, node = on_grid_of(_case(scene, volume_node), volume), node_of(scene, volume_node, "segmentation")
    drawn = tuple(region for region in case.regions if region.layer != "body")
    if node is None:
        return case, volume, {}, lambda _region: None
    return case, volume, (yield from reading_layers(node, volume, drawn)), in_segments(node)
