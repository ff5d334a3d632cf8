"""The pictures of docs/: each panel as a walk leaves it, beside the slice and 3D views of the same scene.

Run by `make pictures`. The panels are drawn by PySide6, which stands in for Slicer's Qt. The views are drawn
by Slicer's own displayable managers, without the application.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import pythonqt_double
import slicer
import slicer_double
import vtk
from PIL import Image
from pythonqt_double import unwrap

HEIGHT, SIDE, GAP = 900, 448, 4
LAYOUT = {"Red": ("Axial", 0, 0), "Green": ("Coronal", 0, 1), "Yellow": ("Sagittal", 1, 1)}
MANAGERS_2D = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
)
MANAGERS_3D = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
)


class Renderer:
    """One offscreen view over a displayable node."""

    def __init__(self, session, factory_class, managers):
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(SIDE, SIDE)
        self.renderer = vtk.vtkRenderer()
        self.renderer.SetUseDepthPeeling(False)  # software rendering loses translucent surfaces with it
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        factory = factory_class.GetInstance()
        factory.SetMRMLApplicationLogic(session.application)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(factory, self.renderer)

    def picture(self) -> Image.Image:
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        pixels = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        return Image.fromarray(pixels.reshape(height, width, -1)[::-1, :, :3].copy())


class SliceRenderer(Renderer):
    """A slice view with the image of its slice logic behind."""

    def __init__(self, session, name, orientation):
        super().__init__(session, slicer.vtkMRMLSliceViewDisplayableManagerFactory, MANAGERS_2D)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(session.application)
        session.application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(session.scene)
        node = self.logic.AddSliceNode(name)
        node.SetOrientation(orientation)
        self.group.SetMRMLDisplayableNode(node)
        self.logic.ResizeSliceNode(SIDE, SIDE)
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self.mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)

    def picture(self):
        connection = self.logic.GetImageDataConnection()
        if connection:
            self.mapper.SetInputConnection(connection)
        return super().picture()


class Renderer3D(Renderer):
    """The 3D view."""

    def __init__(self, session):
        super().__init__(session, slicer.vtkMRMLThreeDViewDisplayableManagerFactory, MANAGERS_3D)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(session.application)
        session.application.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(session.scene)
        node = self.logic.AddViewNode("1")
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        self.group.SetMRMLDisplayableNode(node)

    def picture(self):
        self.renderer.ResetCamera()
        self.renderer.GetActiveCamera().Zoom(1.3)
        self.renderer.ResetCameraClippingRange()
        return super().picture()


class Camera:
    """Takes the pictures: the module's window at its left, four views at its right."""

    def __init__(self, session, screen, parent, folder):
        self.screen, self.parent, self.folder = screen, parent, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.slices = {name: SliceRenderer(session, name, way) for name, (way, *_) in LAYOUT.items()}
        self.view_3d = Renderer3D(session)

    def fit(self):
        for each in self.slices.values():
            each.logic.FitSliceToBackground()

    def take(self, name: str) -> None:
        """One picture of everything."""
        self.screen.turn()
        side = 2 * SIDE + 2 * GAP
        whole = Image.new("RGB", (350 + side, HEIGHT), "#202020")
        panel = self.folder / "panel.png"
        self.parent.grab().save(str(panel))
        with Image.open(panel) as drawn:
            whole.paste(drawn.convert("RGB"), (0, 0))
        panel.unlink()
        for key, (_way, row, column) in LAYOUT.items():
            whole.paste(self.slices[key].picture(), self._place(row, column))
        whole.paste(self.view_3d.picture(), self._place(1, 0))
        whole.save(self.folder / f"{name}.jpg", quality=88, optimize=True)

    def _place(self, row, column):
        return 350 + GAP + column * (SIDE + GAP), row * (SIDE + GAP)


def main() -> None:
    """Walk through the module with the demo CT and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker-python", required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    application, qt = pythonqt_double.install()
    settings = Path(tempfile.mkdtemp())
    qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
    qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, str(settings))
    qt.QSettings().setValue("CT3DAssistant/workerPython", str(Path(arguments.worker_python).absolute()))
    session = slicer_double.install(application, qt.QSettings())
    slicer_double.load_module()
    widget = slicer_double.open_widget()
    parent = unwrap(widget.parent)
    parent.resize(350, HEIGHT)
    widget.enter()
    take_all(session, widget.window, parent, arguments.out)
    slicer_double.uninstall(session)


def take_all(session, window, parent, out) -> None:
    """The pictures in the order of the tutorial."""
    from module_window import RealHands

    from CT3DAssistantLib.selftest import walks

    screen = walks.Screen(window, RealHands(), Path(tempfile.mkdtemp()))
    screen.ui("report", "folderEdit").currentPath = "reports"  # no folder of this machine on a picture
    camera = Camera(session, screen, parent, out)
    walks.load_sample(screen)
    camera.fit()
    camera.take("case")
    walks.analyze(screen)
    screen.unfold("region")
    screen.click("region", "surfaceButton")
    screen.wait_idle()
    screen.unfold("report")
    nodule = next(each for each in screen.case.sentences if "region/nodule_1" in each.evidence)
    walks.look_up(screen, nodule.id)
    camera.take("report")
    walks.ask(screen, "How large is the nodule?")
    walks.ask(screen, "Is there a liver metastasis?")
    camera.take("ask")
    screen.unfold("region")
    screen.workspace.select("region/nodule_1")
    camera.take("regions")
    screen.workspace.select("")
    camera.fit()
    screen.unfold("landmark")
    screen.hands.press(screen.ui("landmark", "queueTable"), "N")
    screen.hands.press(screen.ui("landmark", "queueTable"), "A")
    camera.take("landmarks")
    screen.workspace.select("")
    camera.fit()
    screen.unfold("finding")
    camera.take("findings")
    screen.unfold("saw")
    camera.take("saw")
    screen.unfold("model")
    screen.wait_idle()
    screen.ui("model", "pythonPath").currentPath = ""
    camera.take("models")
    print(screen.told, file=sys.stderr)
    screen.close()


if __name__ == "__main__":
    main()
