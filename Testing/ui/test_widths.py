"""Long names and paths widen no panel: it stays within the narrow window beside the views."""

from pathlib import Path

import pytest

UI = sorted((Path(__file__).resolve().parents[2] / "Resources" / "UI").glob("*Panel.ui"))
LONG = "a_long_name_without_any_space_in_it_" * 4
WIDTH = 350


@pytest.fixture
def slicer(the_double):
    import slicer

    return slicer


def fill(slicer, root):
    """Put long paths and nodes with long names into whatever takes them."""
    scene = slicer.vtkMRMLScene()
    filled = 0
    for widget in slicer.util.findChildren(root):
        if widget.inherits("ctkPathLineEdit"):
            widget.currentPath = f"/{LONG}/{LONG}"
            filled += 1
        if widget.inherits("qMRMLNodeComboBox"):
            for kind in widget.nodeTypes:
                node = scene.AddNewNodeByClass(kind, LONG)
            widget.setMRMLScene(scene)
            widget.setCurrentNode(node)
            filled += 1
    return filled


@pytest.mark.parametrize("ui_file", UI, ids=lambda path: path.stem)
def test_a_panel_stays_narrow_whatever_names_and_paths_are_in_it(slicer, ui_file):
    root = slicer.util.loadUI(str(ui_file))
    fill(slicer, root)
    root.collapsed = False
    assert root.minimumSizeHint.width() <= WIDTH
    root.delete()


@pytest.mark.parametrize("kind", ["ctkPathLineEdit", "qMRMLNodeComboBox"])
def test_a_field_alone_is_as_wide_as_what_is_in_it(slicer, kind):
    import ctk

    field = getattr(ctk if kind.startswith("ctk") else slicer, kind)()
    if kind == "qMRMLNodeComboBox":
        field.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert fill(slicer, field) == 1
    assert field.minimumSizeHint.width() > WIDTH
    field.delete()
