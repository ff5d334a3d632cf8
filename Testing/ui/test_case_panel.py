"""The case panel, driven by clicks: sample, pre-flight card, analysis, cancel, retry, reset."""

import numpy as np
import pytest


@pytest.fixture
def a_case_panel(a_workspace, spin):
    from CT3DAssistantLib.panels.case_panel import CasePanel

    panel = CasePanel(a_workspace)
    panel.widget.resize(350, 600)
    panel.widget.show()
    panel.open()
    yield panel
    panel.close()
    spin(lambda: not a_workspace.jobs)


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
