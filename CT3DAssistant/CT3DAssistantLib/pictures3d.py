"""The 3D picture of a case: organs, lesions and landmarks through Slicer's displayable managers, offscreen.

It is drawn in a process of its own: on a machine without a graphics library VTK may abort, and the host must
not. The body's surface is never drawn, so no face can be seen.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import slicer
import vtk
from PIL import Image, ImageDraw, ImageFont

from ct3d.case import RESEARCH_USE, Case
from ct3d.errors import TaskFailed
from CT3DAssistantLib.headless import Session, boot
from CT3DAssistantLib.landmark_review import reviewed_points
from CT3DAssistantLib.scene import write_points, write_segments

MANAGERS = (
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
)
NO_GL = (
    "No 3D picture: this machine has no EGL or OSMesa library. Install one: Debian, Ubuntu "
    "`apt install libegl1 libgl1-mesa-dri` (or `libosmesa6`); Fedora `dnf install mesa-libEGL "
    "mesa-dri-drivers`. All else is complete."
)
GL_MISSING_CODE = 3
GRID_MM = 1.4  # masks finer than this are thinned first: the surfaces get a quarter of the triangles
KILLED = 9  # the signal; not in the signal module on Windows
TIMEOUT_S = 120
BACKGROUND = (0.07, 0.08, 0.10)


def picture_3d(
    case: Case, layers: Mapping[str, np.ndarray], path: Path, *, python: str = sys.executable
) -> str | None:
    """Draw the case into a PNG file; gives None, or in words why there is no picture.

    Args:
        layers: mask layers, (K, J, I) by name.
        path: PNG file to write.
        python: interpreter that has slicer-core.
    """
    with tempfile.TemporaryDirectory(prefix="ct3d-3d-") as folder:
        _hand_over(case, layers, Path(folder))
        command = [python, "-m", __name__, folder, str(Path(path).resolve())]
        package_dir = Path(__file__).parents[1]
        try:
            ran = subprocess.run(
                command, cwd=package_dir, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"No 3D picture: drawing took more than {TIMEOUT_S} s. All else is complete."
    if ran.returncode == 0:
        _say_research_use(Path(path))
        return None
    if ran.returncode == -KILLED:
        return (
            "No 3D picture: the system ended the drawing, probably for want of memory. All else is complete."
        )
    if (
        ran.returncode == GL_MISSING_CODE or ran.returncode < 0
    ):  # VTK crashes where it finds no graphics library
        return NO_GL
    last = (ran.stderr.strip().splitlines() or [f"code {ran.returncode}"])[-1]
    return f"No 3D picture: {last}. All else is complete."


def _say_research_use(path: Path) -> None:
    with Image.open(path) as drawn:
        image = drawn.convert("RGB")
    font = ImageFont.load_default(13)
    ImageDraw.Draw(image).text((10, image.height - 10), RESEARCH_USE, (200, 205, 212), font, anchor="ld")
    image.save(path)


def _hand_over(case: Case, layers: Mapping[str, np.ndarray], folder: Path) -> None:
    (folder / "case.json").write_text(case.to_json(), encoding="utf-8")
    for name, step in {"organs": _steps(case), "lesions": (1, 1, 1)}.items():
        if name in layers:
            k, j, i = step
            np.save(folder / f"{name}.npy", np.ascontiguousarray(layers[name][::k, ::j, ::i]))


def _steps(case: Case) -> tuple[int, int, int]:
    return tuple(max(1, round(GRID_MM / mm)) for mm in case.input.geometry.spacing_kji_mm)


def draw(folder: Path, path: Path) -> tuple:
    """Draw what `picture_3d` handed over, in the process of its own; gives all that must outlive the call."""
    case = Case.from_json((folder / "case.json").read_text(encoding="utf-8"))
    session = boot()
    for name, step in {"organs": _steps(case), "lesions": (1, 1, 1)}.items():
        if (folder / f"{name}.npy").is_file():
            _add_surfaces(session, case, np.load(folder / f"{name}.npy"), name, step)
    points = session.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.CreateDefaultDisplayNodes()
    write_points(points, tuple(each for each in reviewed_points(case) if each.position_ras))
    _style(points.GetDisplayNode())
    return session, _render(session, path)


def _add_surfaces(
    session: Session, case: Case, layer: np.ndarray, name: str, step: tuple[int, int, int]
) -> None:
    node = session.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    matrix = np.array(case.input.geometry.ijk_to_ras) @ np.diag([*step[::-1], 1])
    regions = tuple(r for r in case.regions if r.kind in ("organ", "lesion") and r.id != "body")
    write_segments(node, {name: layer}, tuple(r for r in regions if r.layer == name), matrix)
    segmentation = node.GetSegmentation()
    segmentation.SetConversionParameter("Smoothing factor", "0.5")
    segmentation.SetConversionParameter("Decimation factor", "0.3")
    node.CreateClosedSurfaceRepresentation()


def _style(display) -> None:
    display.SetGlyphTypeFromString("CrossDot2D")
    display.SetUseGlyphScale(False)
    display.SetGlyphSize(7.0)
    display.SetTextScale(2.2)
    display.SetSelectedColor(1.0, 0.84, 0.25)
    display.SetOccludedVisibility(True)
    display.SetOccludedOpacity(0.5)


def _render(session: Session, path: Path, size: int = 760) -> tuple:
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(size, size)
    if not window.SupportsOpenGL():
        raise SystemExit(GL_MISSING_CODE)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.Initialize()
    group = _managers(session, renderer)
    node = _view_node(session)
    group.SetMRMLDisplayableNode(node)
    renderer.SetUseDepthPeeling(False)  # translucent surfaces disappear with it under software rendering
    camera = session.scene.GetFirstNodeByClass("vtkMRMLCameraNode")
    camera.RotateTo(slicer.vtkMRMLCameraNode.Anterior)
    renderer.ResetCamera()
    renderer.GetActiveCamera().Azimuth(18)
    renderer.GetActiveCamera().Zoom(1.35)
    renderer.ResetCameraClippingRange()
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputConnection(grab.GetOutputPort())
    writer.Write()
    if not path.is_file():
        raise TaskFailed(f"{path} can't be written. Choose another folder")
    return window, interactor, group


def _managers(session: Session, renderer) -> "slicer.vtkMRMLDisplayableManagerGroup":
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(session.application)
    for name in MANAGERS:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    return group


def _view_node(session: Session) -> "slicer.vtkMRMLViewNode":
    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(session.application)
    session.application.GetViewLogics().AddItem(logic)
    logic.SetMRMLScene(session.scene)
    node = logic.AddViewNode("1")
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    node.SetBackgroundColor(*BACKGROUND)
    node.SetBackgroundColor2(*BACKGROUND)
    node.SetOrientationMarkerType(node.OrientationMarkerTypeCube)
    node.SetOrientationMarkerSize(node.OrientationMarkerSizeSmall)
    return node


if __name__ == "__main__":
    alive = draw(Path(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # the managers' destructors crash outside the application; the picture is written
