"""Slice views and a camera in a scene without a window, as the application has them."""

import numpy as np

PLANES = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


def add_views(scene):
    """Three slice views of 400 x 300 pixels and a camera in front of the patient; gives the scene."""
    for name, orientation in PLANES.items():
        view = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetLayoutName(name)
        view.SetDimensions(400, 300, 1)
        view.SetFieldOfView(400.0, 300.0, 1.0)
        view.SetOrientation(orientation)
        scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", name).SetLayoutName(name)
    camera = scene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetPosition(0, 500, 0)
    camera.SetFocalPoint(0, 0, 0)
    return scene


def views_of(scene) -> list:
    """The slice nodes, axial first."""
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceNode") for n in range(len(PLANES))]


def middle_of(view) -> np.ndarray:
    """RAS of the middle of a slice view."""
    width, height, _ = view.GetDimensions()
    return np.array(view.GetXYToRAS().MultiplyPoint((width / 2, height / 2, 0, 1)))[:3]


def background_of(scene) -> set[str]:
    """IDs of the volumes that the slice views show."""
    from CT3DAssistantLib.ownership import nodes_of_class

    return {node.GetBackgroundVolumeID() for node in nodes_of_class(scene, "vtkMRMLSliceCompositeNode")}
