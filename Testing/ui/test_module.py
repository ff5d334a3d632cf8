"""The module as the application sets it up: scripts, window, scenes, reload; real worker, real scene."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer_double

from ct3d.errors import InvalidRequest, TaskCancelled, WorkerLost

SAMPLE = "slicerio"
DENSER_HU = 50
HERE = Path(__file__).parent


@pytest.fixture
def the_module(the_double, worker_python, tmp_path):
    """CT3DAssistant.py loaded into the stand-in application, with this test's own settings file."""
    application, qt = the_double
    qt.QSettings().setValue("CT3DAssistant/workerPython", str(worker_python))
    session = slicer_double.install(application, qt.QSettings())
    before = slicer_double.our_modules()
    yield slicer_double.load_module()
    slicer_double.uninstall(session)
    sys.modules |= before  # a reload has put others in their place


@pytest.fixture
def a_logic(the_module):
    return the_module.CT3DAssistantLogic()


@pytest.fixture
def a_ct(a_sample):
    """Reads a sample into the application's scene."""
    import slicer

    from ct3d.imaging.files import read_volume
    from CT3DAssistantLib.scene import add_volume

    def read(name="CT"):
        volume, notes = read_volume(a_sample(SAMPLE))
        return add_volume(slicer.mrmlScene, volume, name=name, notes=notes)

    return read


@pytest.fixture
def turn(the_double):
    """Turns the event loop until something holds."""

    def until(is_true, within_s=60.0):
        deadline = time.monotonic() + within_s
        while not is_true():
            the_double[0].processEvents()
            time.sleep(0.001)
            assert time.monotonic() < deadline, "it never came to pass"

    return until


@pytest.fixture
def open_case(the_module, an_analysed_bundle):
    """Reads the analysed sample into the application's scene, beside what is there; gives the volume."""
    import slicer

    from CT3DAssistantLib.scene import load_mrb

    def opened():
        before = set(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
        volumes = load_mrb(slicer.mrmlScene, an_analysed_bundle(SAMPLE), clear=False)
        return next(node for node in volumes if node not in before)

    return opened


@pytest.fixture
def open_denser(open_case):
    """The analysed sample once more, every voxel 50 HU denser."""
    import slicer

    def opened():
        node = open_case()
        slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node) + DENSER_HU)
        return node

    return opened


def test_a_script_analyses_asks_and_exports_without_the_window(a_logic, a_ct, tmp_path):
    from CT3DAssistantLib.profiles import profiles

    a_logic.workspace.profile = next(each for each in profiles().values() if not each.language)
    threads, heard, node = threading.active_count(), [], a_ct()
    case = a_logic.analyze(node, onProgress=lambda progress: heard.append(progress.fraction))
    assert case.regions and case.landmarks and case.attributes and case.findings and case.sentences
    assert heard == sorted(heard) and heard[-1] > 0.9
    asked = a_logic.ask(node, "How large is the right lung?")
    assert asked.answers[-1].text and a_logic.case(node) == asked
    names = {path.name for path in a_logic.export(node, tmp_path / "out")}
    assert {"case.json", "report.html", "regions.seg.nrrd", "landmarks.mrk.json", "case.mrb"} <= names
    assert threading.active_count() == threads
    assert not {"torch", "transformers", "xllamacpp"} & set(sys.modules)


def test_a_script_may_go_on_and_look_at_the_job_later(a_logic, open_case, turn):
    job = a_logic.findLandmarks(open_case(), waitForCompletion=False)
    assert not job.done
    turn(lambda: job.done)
    assert job.result().landmarks


def test_what_goes_wrong_reaches_the_script_as_its_typed_error(a_logic, a_ct):
    with pytest.raises(InvalidRequest, match="Analyse it first"):
        a_logic.ask(a_ct(), "How large is the heart?")


def test_all_logics_share_one_worker_and_one_workspace(the_module):
    first, second = the_module.CT3DAssistantLogic(), the_module.CT3DAssistantLogic()
    assert first.workspace is second.workspace
    first.close()
    assert second.workspace is first.workspace  # a new one


def test_the_application_ends_the_worker_and_removes_the_exchange_folder(a_logic, turn):
    import slicer

    job = a_logic.sitting.client.connect()
    turn(lambda: job.done)
    pid, folder = job.result().pid, a_logic.sitting.exchange.path
    slicer.app.emit("aboutToQuit()")
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_script_that_waits_hears_that_the_application_ends(a_logic, a_ct, the_double):
    import slicer

    _, qt = the_double
    qt.QTimer.singleShot(300, lambda: slicer.app.emit("aboutToQuit()"))
    with pytest.raises(TaskCancelled):
        a_logic.analyze(a_ct())


def test_the_parameter_node_and_the_cases_are_never_mistaken_for_each_other(a_logic, open_case):
    import slicer

    from CT3DAssistantLib.ownership import parameter_node, parameter_nodes

    node = open_case()
    parameters = a_logic.getParameterNode()
    assert parameters.parameterNode is not parameter_node(slicer.mrmlScene, node)
    assert parameters.parameterNode not in parameter_nodes(slicer.mrmlScene)
    assert a_logic.getParameterNode().parameterNode is parameters.parameterNode
    a_logic.workspace.volume_node = node
    assert a_logic.getParameterNode().inputVolume is node
    for keep_singletons in (0, 1):
        slicer.mrmlScene.Clear(keep_singletons)
        assert a_logic.getParameterNode().inputVolume is None
        assert not parameter_nodes(slicer.mrmlScene)


def test_the_parameter_node_refers_to_what_the_chosen_volume_has(a_logic, a_ct, open_case, turn):
    import slicer

    from CT3DAssistantLib.ownership import node_of, parameter_node

    node, other = open_case(), a_ct("Other")
    workspace, scene = a_logic.workspace, slicer.mrmlScene
    workspace.volume_node = node
    turn(lambda: workspace.state.caseNode is not None)
    assert workspace.state.caseNode is parameter_node(scene, node)
    assert workspace.state.segmentation is node_of(scene, node, "segmentation")
    assert workspace.state.landmarks is node_of(scene, node, "landmarks")
    workspace.volume_node = other
    turn(lambda: workspace.state.caseNode is None)
    assert workspace.state.segmentation is None and workspace.state.landmarks is None


def test_the_window_is_set_up_without_a_main_window(the_module, turn):
    from CT3DAssistantLib.panels import PANELS

    widget = slicer_double.open_widget()
    assert len(widget.window.panels) == len(PANELS), widget.window.ui.messageLabel.text
    assert "Not for clinical use" in widget.window.ui.bannerLabel.text
    widget.enter()
    widget.exit()
    widget.cleanup()


def test_a_section_that_cannot_be_made_is_told_and_the_others_come(the_module, monkeypatch):
    from CT3DAssistantLib.panels import PANELS, window

    monkeypatch.setattr(window, "PANELS", ("no_such_panel:NoSuchPanel", *PANELS[:2]))
    made = slicer_double.open_widget().window
    assert list(made.panels) == ["case", "report"]
    assert made.ui.messageLabel.text.startswith("Error: The section NoSuchPanel can't be shown.")


def test_messages_can_be_read_copied_and_dismissed(the_module, the_double):
    _, qt = the_double
    window = slicer_double.open_widget().window
    bar, history = window.ui.messageBar, window.ui.historyText
    window.onDismiss()
    window.workspace.tell("The worker ended.\nIts last lines:\nKilled", "error")
    assert bar.isVisible() and window.ui.messageLabel.text == "Error: The worker ended. …"
    window.workspace.tell("Stopped.", "info")
    assert window.ui.messageLabel.text == "Note: Stopped."
    window.ui.historyButton.click()
    assert history.isVisible() and "Killed" in history.plainText and "Note: Stopped." in history.plainText
    window.ui.copyButton.click()
    assert qt.QApplication.clipboard().text() == history.plainText
    window.ui.dismissButton.click()
    assert not bar.isVisible()


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_of_the_window_is_cut_at_350_pixels(the_module, open_case, turn, tmp_path, dark):
    from screens import cut_texts, grab, palette

    with palette(dark=dark):
        widget = slicer_double.open_widget()
        window, workspace = widget.window, widget.logic.workspace
        workspace.volume_node = open_case()
        job = widget.logic.measure(workspace.volume_node, waitForCompletion=False)
        workspace.tell(
            r"C:\Users\somebody\AppData\Local\ct3d\weights\model.gguf is damaged. Install it again.",
            "error",
        )
        for panel in window.panels.values():
            panel.widget.collapsed = True
        assert grab(widget.parent, tmp_path / "window.png", dark=dark).stat().st_size > 5000
        assert cut_texts(widget.parent) == []
        banner = window.ui.banner
        widget.parent.resize(350, 500)
        for panel in window.panels.values():
            panel.widget.collapsed = False
        turn(lambda: job.done and window.ui.scrollArea.verticalScrollBar().maximum > 0)
        assert banner.isVisible() and banner.y == 0  # above what scrolls
        across = window.ui.scrollArea.horizontalScrollBar()
        turn(lambda: across.maximum == 0, 5)  # nothing is wider than the window


def test_what_runs_is_shown_and_can_be_stopped(the_module, open_case, turn):
    widget = slicer_double.open_widget()
    ui, node = widget.window.ui, open_case()
    assert not ui.busyRow.isVisible()
    job = widget.logic.measure(node, waitForCompletion=False)
    assert ui.busyRow.isVisible() and node.GetName() in ui.busyLabel.text
    ui.stopButton.click()
    turn(lambda: job.done and not ui.busyRow.isVisible())
    assert isinstance(job.error, TaskCancelled)


def test_closing_the_scene_ends_an_analysis_within_a_second(the_module, a_ct, open_case, turn):
    import slicer

    widget = slicer_double.open_widget()
    node = a_ct()
    widget.logic.workspace.volume_node = node
    job = widget.logic.analyze(node, waitForCompletion=False)
    heard = []
    job.add_done_callback(heard.append)
    turn(lambda: widget.logic.sitting.client.worker is not None)
    began = time.monotonic()
    slicer.mrmlScene.Clear()
    turn(lambda: heard)
    assert time.monotonic() - began < 1.0
    assert isinstance(job.error, TaskCancelled)
    assert widget.logic.workspace.volume_node is None and widget.logic.workspace.case is None
    assert widget.logic.measure(open_case()).attributes  # the next scene


def test_a_volume_that_is_removed_ends_its_analysis_with_the_reason(a_logic, a_ct, open_case, turn):
    import slicer

    node, other = a_ct(), open_case()
    job = a_logic.analyze(node, waitForCompletion=False)
    goes_on = a_logic.measure(other, waitForCompletion=False)
    turn(lambda: a_logic.sitting.client.worker is not None)
    began = time.monotonic()
    slicer.mrmlScene.RemoveNode(node)
    turn(lambda: job.done)
    assert time.monotonic() - began < 1.0
    with pytest.raises(InvalidRequest, match="removed from the scene"):
        job.result()
    turn(lambda: goes_on.done)
    assert goes_on.result().attributes


def test_two_volumes_that_are_worked_on_at_the_same_time_never_mix(a_logic, open_case, open_denser, turn):
    first, second = open_case(), open_denser()
    verbs = (a_logic.measure, a_logic.findLandmarks, a_logic.measure)
    jobs = [verb(node, waitForCompletion=False) for verb in verbs for node in (second, first)]
    a_logic.workspace.volume_node = first
    turn(lambda: all(job.done for job in jobs))
    for job in jobs:
        job.result()
    means = [a_logic.case(node).attributes_of("right_lung")["mean_hu"].value for node in (first, second)]
    assert means[1] - means[0] == pytest.approx(DENSER_HU, abs=0.01)
    hashes = {a_logic.case(node).input.sha256 for node in (first, second)}
    assert len(hashes) == 1  # of what was analysed, before one was made denser


def test_the_exchange_folder_keeps_what_the_last_volume_needs_and_no_more(
    a_logic, open_case, open_denser, turn
):
    def arrays():
        return {path.name: path.stat() for path in a_logic.sitting.exchange.path.glob("*.npy")}

    def voxels_mb(node):
        return slicer.util.arrayFromVolume(node).nbytes / 1e6

    import slicer

    first, second = open_case(), open_denser()
    a_logic.measure(first)
    turn(lambda: not a_logic.sitting.client.is_busy)
    after_first = arrays()
    a_logic.measure(second)
    turn(lambda: not a_logic.sitting.client.is_busy)
    after_second = arrays()
    assert len(after_second) == len(after_first)  # one volume's, and its masks
    assert len(after_first.keys() - after_second.keys()) == 1  # the first volume's voxels have gone
    a_logic.findLandmarks(second)
    turn(lambda: not a_logic.sitting.client.is_busy)
    assert {name: stat.st_mtime_ns for name, stat in arrays().items()} == {
        name: stat.st_mtime_ns for name, stat in after_second.items()
    }  # nothing was written anew
    total_mb = sum(stat.st_size for stat in arrays().values()) / 1e6
    assert total_mb < voxels_mb(second) * 4  # voxels of 16 bit, a few layers of 8


def test_reloading_the_module_ends_the_worker_and_takes_the_new_code(the_module, open_case, turn):
    import slicer

    node = open_case()
    widget = slicer_double.open_widget()
    widget.logic.workspace.volume_node = node
    job = widget.logic.sitting.client.connect()
    turn(lambda: job.done)
    old = sys.modules["CT3DAssistantLib.workspace"]
    widget.onReload()
    assert not Path(f"/proc/{job.result().pid}").exists()
    assert sys.modules["CT3DAssistantLib.workspace"] is not old
    new = slicer.modules.CT3DAssistantWidget
    assert new is not widget and new.logic.workspace.volume_node is node
    assert new.logic.workspace.case.sentences


def test_no_process_of_a_panel_outlives_the_module(the_module):
    widget = slicer_double.open_widget()
    heard = []
    widget.window.panels["model"].open()  # has the weights compared with their checksums
    (chore,) = widget.logic.workspace.jobs
    chore.add_done_callback(heard.append)
    widget.logic.close()
    assert chore.done and heard == [chore] and isinstance(chore.error, TaskCancelled)
    assert not slicer_double._running()


def test_the_old_widgets_of_a_module_that_was_loaded_anew_choose_nothing_any_more(the_module, a_ct, turn):
    import slicer

    first, second = a_ct(), a_ct()
    widget = slicer_double.open_widget()
    widget.logic.workspace.volume_node = first
    selector = widget.window.panels["case"].ui.volumeSelector
    turn(lambda: selector.currentNode() is first)
    widget.onReload()
    workspace = slicer.modules.CT3DAssistantWidget.logic.workspace
    workspace.volume_node = second
    slicer.mrmlScene.RemoveNode(first)
    turn(lambda: selector.currentNode() is None)
    assert workspace.volume_node is second
    widget.enter()  # nor do they mind that the person comes and goes
    widget.exit()


@pytest.mark.parametrize("is_entered", [True, False])
def test_a_module_that_is_loaded_anew_while_it_is_shown_knows_that_the_person_is_there(
    the_module, is_entered
):
    import qt

    layout = qt.QVBoxLayout()
    parent = SimpleNamespace(isEntered=is_entered, layout=lambda: layout)
    widget = the_module.CT3DAssistantWidget(parent)
    widget.setup()
    assert widget.window.panels["landmark"]._is_here is is_entered
    widget.cleanup()


def test_a_killed_worker_is_told_and_the_next_click_works(the_module, open_case, turn):
    widget = slicer_double.open_widget()
    workspace = widget.logic.workspace
    workspace.volume_node = open_case()
    before = workspace.case
    job = widget.logic.measure(workspace.volume_node, waitForCompletion=False)
    turn(lambda: widget.logic.sitting.client.worker is not None)
    os.kill(widget.logic.sitting.client.worker.pid, signal.SIGKILL)
    turn(lambda: job.done)
    assert any(isinstance(error, WorkerLost) for error in job.errors.values()) or job.error is None
    assert workspace.case.sentences == before.sentences
    assert widget.logic.measure(workspace.volume_node).attributes


def test_a_saved_scene_comes_back_in_a_new_process(the_module, open_case, turn, tmp_path):
    import slicer

    from CT3DAssistantLib.scene import save_mrb

    widget = slicer_double.open_widget()
    workspace = widget.logic.workspace
    workspace.volume_node = open_case()
    workspace.state.profile = "rules"
    turn(lambda: workspace.state.caseNode is not None)
    save_mrb(slicer.mrmlScene, tmp_path / "saved.mrb")
    code = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(slicer_double.CODE)!r}]
import pythonqt_double, slicer_double
application, qt = pythonqt_double.install()
session = slicer_double.install(application, qt.QSettings())
slicer_double.load_module()
widget = slicer_double.open_widget()
from CT3DAssistantLib.scene import load_mrb
import slicer
load_mrb(slicer.mrmlScene, {str(tmp_path / "saved.mrb")!r})
application.processEvents()
workspace = widget.logic.workspace
state = workspace.state
assert state.inputVolume is workspace.volume_node is not None
assert state.profile == "rules", state.profile
assert state.caseNode and state.segmentation and state.landmarks
print("CASE", workspace.case.to_json())
slicer_double.uninstall(session)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.partition("CASE ")[2].strip() == workspace.case.to_json()


def test_the_samples_are_registered_once_and_a_click_loads_one(the_module, a_sample, turn):
    import slicer

    a_sample(SAMPLE)
    sources = slicer.modules.sampleDataSources["CT3DAssistant"]
    slicer.modules.CT3DAssistantInstance.registerSamples()
    assert len(sources) == len({source.sampleName for source in sources}) > 1
    assert all(Path(source.thumbnailFileName).is_file() for source in sources)
    source = next(each for each in sources if each.sampleName == SAMPLE)
    began = time.monotonic()
    source.customDownloader(source)
    assert time.monotonic() - began < 1.0  # it opens the window, and reads meanwhile
    workspace = slicer.modules.CT3DAssistantWidget.logic.workspace
    turn(lambda: workspace.volume_node is not None)
    assert workspace.volume_node.GetImageData().GetDimensions() == (128, 128, 34)


def test_the_self_test_runs_its_walks_over_the_modules_own_window(the_module, monkeypatch):
    from CT3DAssistantLib.selftest import walks

    walked = []

    def walk(screen):
        """A walk of one step."""
        walked.append(screen)
        assert screen.window.panels["landmark"]._is_here, "keys work only where the person is"

    monkeypatch.setattr(walks, "WALKS", (walk, walk))
    the_module.CT3DAssistantTest().runTest()
    assert len(walked) == 2
