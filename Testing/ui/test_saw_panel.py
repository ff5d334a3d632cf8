"""What the model saw, driven by clicks with a real worker."""

import numpy as np
import pytest
from hands import click
from screens import PANEL_WIDTH, cut_texts, grab
from slice_views import add_views, background_of


@pytest.fixture
def a_saw_panel(a_workspace, open_bundle, spin):
    """Opens an analysed sample with the panel and three slice views over it."""
    from CT3DAssistantLib.panels.saw_panel import SawPanel

    made = []

    def panel(name="slicerio"):
        if name:
            workspace = open_bundle(name)
            workspace.views.show_volume(workspace.volume_node)
        made.append(SawPanel(a_workspace))
        made[-1].widget.resize(PANEL_WIDTH, 500)
        made[-1].widget.show()
        made[-1].open()
        settle(made[-1], spin)
        return made[-1]

    add_views(a_workspace.scene)
    yield panel
    for each in made:
        each.close()
        spin(lambda: not a_workspace.jobs)
        each.widget.hide()


def settle(panel, spin):
    client = panel.workspace.logic.client
    spin(lambda: not panel.workspace.jobs and not client.has_deliveries)


def rows_of(panel):
    table = panel.ui.sawTable
    return {
        table.item(n, 0).text(): (table.item(n, 1).text(), table.item(n, 2).text())
        for n in range(table.rowCount)
    }


def shown_in(panel):
    """The volume that all slice views show."""
    (name,) = background_of(panel.workspace.scene)
    return panel.workspace.scene.GetNodeByID(name)


def test_it_says_in_words_how_the_scan_was_changed(a_saw_panel):
    panel = a_saw_panel("lidc_idri_0001")
    rows = rows_of(panel)
    assert rows["Counted toward"] == ("left, front, feet", "right, front, head")
    assert rows["Voxels"] == ("512 × 512 × 133", "180 × 180 × 167")
    assert rows["Voxel size, mm"] == ("0.70 × 0.70 × 2.50", "2.00 × 2.00 × 2.00")
    assert rows["Cut"] == ("whole scan", "nothing cut off")
    assert rows["Values"][1].startswith("-1024 to 3071 HU; 22%")
    assert panel.ui.cautionRow.isHidden()
    assert "saw the chosen scan" in panel.ui.stateLabel.text


def test_thick_slices_are_warned_of_with_what_they_hide(a_saw_panel):
    panel = a_saw_panel()
    assert not panel.ui.cautionRow.isHidden()
    assert "Slices are 10 mm apart" in panel.ui.cautionLabel.text
    assert "missed" in panel.ui.cautionLabel.text


def test_the_input_is_shown_in_the_same_window_and_compared_by_one_button(a_saw_panel, spin):
    panel = a_saw_panel()
    workspace, ui = panel.workspace, panel.ui
    assert not ui.compareButton.enabled
    workspace.volume_node.GetDisplayNode().SetWindowLevel(1234.0, -567.0)
    click(ui.showButton)
    assert ui.showButton.text == "Cancel"
    settle(panel, spin)
    seen = shown_in(panel)
    assert seen.GetName() == "CT as Anatomy by rules saw it"
    assert np.allclose(seen.GetSpacing(), 2.0)
    display = seen.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel(), display.GetInterpolate()) == (1234.0, -567.0, 0)
    assert "W 1234 L -567 HU" in ui.shownLabel.text
    assert workspace.volume_node is not seen
    click(ui.compareButton)
    assert shown_in(panel) is workspace.volume_node
    assert ui.shownLabel.isHidden()
    click(ui.compareButton)
    assert shown_in(panel) is seen
    click(ui.showButton)
    settle(panel, spin)
    assert shown_in(panel) is seen  # used again
    assert [severity for severity, _ in workspace.told] == []


def test_a_sentence_clicked_meanwhile_jumps_and_leaves_the_input_in_the_views(a_saw_panel, spin):
    panel = a_saw_panel()
    click(panel.ui.showButton)
    settle(panel, spin)
    seen = shown_in(panel)
    panel.workspace.select("region/right_lung")
    assert shown_in(panel) is seen


def test_making_the_input_is_cancelled_by_the_same_button(a_saw_panel, spin):
    panel = a_saw_panel()
    click(panel.ui.showButton)
    click(panel.ui.showButton)
    settle(panel, spin)
    assert panel.workspace.told == [("info", "Stopped.")]
    assert panel.ui.showButton.text == "&Show this input"
    assert shown_in(panel) is panel.workspace.volume_node


def test_before_any_analysis_it_says_what_the_model_would_get(a_saw_panel, spin, a_sitting, a_sample):
    panel = a_saw_panel("")
    assert "Choose a CT" in panel.ui.stateLabel.text
    panel.workspace.volume_node = a_sitting.open(a_sample("slicerio"))
    settle(panel, spin)
    assert "has not seen" in panel.ui.stateLabel.text
    assert rows_of(panel)["Voxel size, mm"][1] == "2.00 × 2.00 × 2.00"
    click(panel.ui.showButton)
    settle(panel, spin)
    assert rows_of(panel)["Voxels"][1] == "195 × 195 × 170"
    assert panel.workspace.case is None


def test_nothing_is_cut_and_pictures_are_written(a_saw_panel, spin, tmp_path):
    panel = a_saw_panel()
    click(panel.ui.showButton)
    settle(panel, spin)
    for dark in (False, True):
        assert grab(panel.widget, tmp_path / f"saw_{dark}.png", dark=dark).stat().st_size > 3000
        assert cut_texts(panel.widget) == []
