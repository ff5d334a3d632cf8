"""Three people's first five minutes, by clicks and keys: real scene, real worker, demo CT."""

import shutil

import hands
import pytest
import slicer_double


class RealHands:
    """The walks' hands with real mouse and key events."""

    click = staticmethod(hands.click)
    click_header = staticmethod(hands.click)
    click_link = staticmethod(hands.click_link)
    type_text = staticmethod(hands.type_text)
    press = staticmethod(hands.press)


def make_slice_views():
    """Three slice nodes, as a layout of the application has them."""
    import slicer

    for name, orientation in {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}.items():
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        node.SetLayoutName(name)
        node.SetOrientation(orientation)
        node.SetDimensions(400, 400, 1)
        node.SetFieldOfView(300, 300, 1)


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("walks")


@pytest.fixture
def a_screen(the_double, worker_python, a_folder, monkeypatch, tmp_path):
    """The module's window over an empty scene, 350 wide."""
    from CT3DAssistantLib.selftest.walks import Screen

    application, qt = the_double
    qt.QSettings().setValue("CT3DAssistant/workerPython", str(worker_python))
    session = slicer_double.install(application, qt.QSettings())
    slicer_double.load_module()
    widget = slicer_double.open_widget()
    widget.parent.resize(350, 900)
    widget.enter()
    make_slice_views()
    screen = Screen(widget.window, RealHands(), a_folder)
    yield screen
    screen.close()
    slicer_double.uninstall(session)


def test_a_demo_giver_comes_from_an_empty_scene_to_an_answer(a_screen):
    from CT3DAssistantLib.selftest.walks import demo_giver

    demo_giver(a_screen)


def test_a_radiologist_comes_to_a_signed_and_exported_report(a_screen):
    from CT3DAssistantLib.selftest.walks import radiologist

    radiologist(a_screen)


def test_an_annotator_goes_through_all_landmarks_interrupted_and_resumed(
    a_screen, a_folder, an_analysed_bundle
):
    from CT3DAssistantLib.selftest.walks import annotator

    if not (a_folder / "signed.mrb").exists():  # where the radiologist's walk hasn't been
        shutil.copy(an_analysed_bundle(), a_folder / "signed.mrb")
    annotator(a_screen)


def test_the_walks_hands_of_the_application_work_too(a_screen, a_folder, an_analysed_bundle):
    from CT3DAssistantLib.selftest.hands import Hands
    from CT3DAssistantLib.selftest.walks import annotator

    a_screen.hands = Hands()
    shutil.copy(an_analysed_bundle(), a_folder / "signed.mrb")
    annotator(a_screen)
