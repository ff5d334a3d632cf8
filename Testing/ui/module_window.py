"""The module's window before a person: stand-in application, real scene, real worker, real mouse and keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hands
import slicer_double

SIZE = 350, 900


class RealHands:
    """The walks' hands with real mouse and key events."""

    click = staticmethod(hands.click)
    click_header = staticmethod(hands.click)
    click_link = staticmethod(hands.click_link)
    type_text = staticmethod(hands.type_text)
    press = staticmethod(hands.press)


@contextmanager
def open_window(the_double: Any, worker_python: Path, folder: Path, profile: str = "") -> Iterator[Any]:
    """A walk's Screen over an empty scene with three slice views; the worker ends with it.

    Args:
        the_double: (application, qt) of pythonqt_double.
        folder: where the person saves.
        profile: id of the model profile to choose; "" leaves the default.
    """
    from CT3DAssistantLib.selftest.walks import Screen

    application, qt = the_double
    qt.QSettings().setValue("CT3DAssistant/workerPython", str(worker_python))
    session = slicer_double.install(application, qt.QSettings())
    slicer_double.load_module()
    widget = slicer_double.open_widget()
    widget.parent.resize(*SIZE)
    widget.enter()
    make_slice_views()
    screen = Screen(widget.window, RealHands(), folder)
    screen.workspace.state.profile = profile
    try:
        yield screen
    finally:
        screen.close()
        slicer_double.uninstall(session)


def make_slice_views() -> None:
    """Three slice nodes, as a layout of the application has them."""
    import slicer

    for name, orientation in {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}.items():
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        node.SetLayoutName(name)
        node.SetOrientation(orientation)
        node.SetDimensions(400, 400, 1)
        node.SetFieldOfView(300, 300, 1)
