"""Panels on the PySide6 double of PythonQt, over the real MRML scene and a real worker process."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
try:
    import PySide6.QtWidgets  # noqa: F401
except ImportError as error:  # not installed, or without the graphics libraries it needs
    NO_WIDGETS = f"the panels' tests need PySide6 ({error})"
else:
    NO_WIDGETS = ""


class SkippedModule(pytest.Module):
    """A test file that can't even be imported without PySide6."""

    def collect(self):
        pytest.skip(NO_WIDGETS, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    """Skip the whole folder, visibly, where PySide6 is missing."""
    return SkippedModule.from_parent(parent, path=module_path) if NO_WIDGETS else None


@pytest.fixture(scope="session")
def the_double():
    """(application, qt) with PythonQt's rules; `import qt, ctk` work after it."""
    import pythonqt_double

    return pythonqt_double.install()


@pytest.fixture(autouse=True)
def no_vtk_errors(capfd):
    """VTK prints its errors and goes on; a test must not."""
    yield
    printed = capfd.readouterr()
    assert "ERR|" not in printed.err, printed.err


@pytest.fixture(scope="session")
def an_analysed_bundle(the_double, a_sample, worker_python, tmp_path_factory, request):
    """Gives the .mrb of a sample's whole analysis by name; each is analysed once, by a real worker."""
    from CT3DAssistantLib.scene import save_mrb
    from CT3DAssistantLib.session import Sitting

    folder = Path(request.config.getoption("--bundles") or tmp_path_factory.mktemp("bundles"))

    def bundle(name="lidc_idri_0001"):
        path = folder / f"{name}.mrb"
        if not path.exists():
            with Sitting(worker_python) as sitting:
                sitting.finish(sitting.logic.analyze(sitting.open(a_sample(name))))
                save_mrb(sitting.scene, path)
        return path

    return bundle


@pytest.fixture
def a_sitting(the_double, worker_python):
    """An empty scene and a client whose worker starts when it is needed."""
    from CT3DAssistantLib.session import Sitting

    with Sitting(worker_python) as sitting:
        yield sitting


@pytest.fixture
def a_workspace(a_sitting):
    """A workspace over an empty scene; what panels say is kept in `.told`."""
    from CT3DAssistantLib.workspace import Workspace

    state = SimpleNamespace(inputVolume=None, segmentation=None, landmarks=None, caseNode=None, profile="")
    workspace = Workspace(a_sitting.logic, state, later=lambda call: a_sitting.client.deliver(call))
    workspace.told = []
    workspace.on_tell.append(lambda text, severity: workspace.told.append((severity, text)))
    yield workspace
    workspace.close()


@pytest.fixture
def open_bundle(a_workspace, an_analysed_bundle):
    """Reads a sample's analysed scene into the workspace and chooses its volume; gives the workspace."""
    from CT3DAssistantLib.scene import load_mrb

    def opened(name="lidc_idri_0001"):
        (node,) = load_mrb(a_workspace.scene, an_analysed_bundle(name))
        a_workspace.volume_node = node
        a_workspace.logic.client.poll()
        return a_workspace

    return opened


@pytest.fixture
def spin(a_sitting, the_double):
    """Lets the event loop and the client work until a condition holds: `spin(lambda: job.done)`."""
    import time

    application, _ = the_double

    def spin_until(is_true=lambda: True, within_s=120.0):
        deadline = time.monotonic() + within_s
        while True:
            application.processEvents()
            a_sitting.client.poll(0.01)
            if is_true():
                return
            assert time.monotonic() < deadline, "it never came to pass"

    return spin_until
