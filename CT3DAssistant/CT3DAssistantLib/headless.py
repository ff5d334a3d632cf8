"""A scene and its module logics on the slicer-core wheel: no Qt, no application, no display.

Sessions are independent: nothing of the `slicer` package is patched, so several live in one process. Code of
this project gets the scene as an argument and runs unchanged inside Slicer.
"""

import tempfile
from dataclasses import dataclass

import slicer
import vtk

LOGICS = {  # name under which the application logic knows it → class
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}


@dataclass(frozen=True, eq=False)
class Session:
    """A scene with the logics that observe it. Keep it for as long as the scene is in use."""

    scene: slicer.vtkMRMLScene
    application: slicer.vtkSlicerApplicationLogic
    logics: dict[str, slicer.vtkMRMLAbstractLogic]
    cache: tempfile.TemporaryDirectory  # where scene bundles are unpacked; gone with the session

    def close(self) -> None:
        """Empty the scene, so that its memory is given back, and remove the cache."""
        self.scene.Clear(1)
        self.cache.cleanup()


def boot() -> Session:
    """A new, empty session with the default colours, slice orientations and crosshair of the application."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    logics = {"Colors": application.GetColorLogic()}
    logics["Colors"].SetMRMLScene(scene)
    logics["Colors"].AddDefaultColorNodes()
    application.SetModuleLogic("Colors", logics["Colors"])  # else every volume load prints an error
    for name, kind in LOGICS.items():
        logics[name] = getattr(slicer, kind)()
        logics[name].SetMRMLScene(scene)
        logics[name].SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logics[name])
    cache = tempfile.TemporaryDirectory(prefix="ct3d-scene-")
    logics |= _remote_io(scene, application, cache.name)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    return Session(scene, application, logics, cache)


def _remote_io(scene, application, cache_dir: str) -> dict[str, slicer.vtkMRMLAbstractLogic]:
    """What vtkMRMLScene needs to read an .mrb file."""
    remote, files = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    for logic in (remote, files):
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
    remote.GetCacheManager().SetRemoteCacheDirectory(cache_dir)
    files.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    return {"RemoteIO": remote, "DataIO": files}
