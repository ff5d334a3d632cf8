"""The region panel, driven by clicks and keys over real analysed scenes and a real worker."""

import csv
import time

import numpy as np
import pytest
from hands import click, click_cell, click_header, press, reachable, slide
from screens import PANEL_WIDTH, cut_texts, grab
from slice_views import add_views, middle_of, views_of

NAME = 0
DEMO = "lidc_idri_0001"


@pytest.fixture
def a_region_panel(a_workspace, open_bundle, spin):
    """Opens an analysed sample with the panel and three slice views over it."""
    from CT3DAssistantLib.panels.region_panel import RegionPanel

    made = []

    def panel(name="slicerio"):
        if name:
            add_views(open_bundle(name).scene)
        made.append(RegionPanel(a_workspace))
        made[-1].widget.resize(PANEL_WIDTH, 900)
        made[-1].widget.show()
        made[-1].open()
        settle(made[-1], spin)
        return made[-1]

    yield panel
    for each in made:
        each.close()
        spin(lambda: not a_workspace.jobs)
        each.widget.hide()


def settle(panel, spin):
    client = panel.workspace.logic.client
    spin(lambda: not panel.workspace.jobs and not client.has_deliveries)


def masks_of(panel):
    from CT3DAssistantLib.ownership import node_of

    return node_of(panel.workspace.scene, panel.workspace.volume_node, "segmentation")


def row_of(panel, text):
    table = panel.ui.regionTable
    return next(n for n in range(table.rowCount) if table.item(n, NAME).text() == text)


def column(table, n):
    return [table.item(row, n).text() for row in range(table.rowCount)]


def edit(panel, segment="right_lung"):
    """Add a block to a segment, as the Segment Editor would."""
    import slicer

    node, image = masks_of(panel), slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment, image)
    i, _, j, _, k, _ = image.GetExtent()
    for offset in range(4):
        image.SetScalarComponentFromDouble(i + offset, j, k, 0, 1)
    assert slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, node, segment)


def test_regions_are_listed_in_groups_with_colour_tick_presence_and_confidence(a_region_panel):
    table = a_region_panel(DEMO).ui.regionTable
    names = column(table, NAME)
    assert [n for n in names if n in ("Lesion candidates", "Organs", "Report regions")] == [
        "Lesion candidates",
        "Organs",
        "Report regions",
    ]
    row = names.index("left lung nodule candidate")
    assert (table.item(row, 1).text(), table.item(row, 2).text()) == ("● whole", "95%")
    assert table.item(names.index("body"), 1).text() == "◐ cut"
    assert "imaged part only" in table.item(names.index("body"), NAME).toolTip()
    assert not table.item(row, NAME).icon().isNull()


def test_a_click_on_a_region_goes_there_and_brings_it_forward(a_region_panel):
    from CT3DAssistantLib.isolation import isolated_segment

    panel = a_region_panel(DEMO)
    click_cell(panel.ui.regionTable, row_of(panel, "left lung nodule candidate"), NAME)
    assert panel.workspace.selected == "region/nodule_1"
    assert isolated_segment(masks_of(panel)) == "nodule_1"
    where = panel.workspace.logic.place(panel.workspace.volume_node, "region/nodule_1").ras
    assert np.allclose(middle_of(views_of(panel.workspace.scene)[0]), where, atol=0.01)
    assert "longest axial diameter" in column(panel.ui.attributeTable, 1)
    assert panel.ui.isolateButton.text == "&Show all"
    click(panel.ui.isolateButton)
    assert isolated_segment(masks_of(panel)) == ""
    assert panel.workspace.selected == ""


def test_the_arrow_keys_walk_through_the_regions(a_region_panel):
    panel = a_region_panel()
    click_cell(panel.ui.regionTable, row_of(panel, "right lung"), NAME)
    press(panel.ui.regionTable, "Down")
    assert panel.workspace.selected == "region/left_lung"


def test_a_tick_shows_and_hides_a_region_and_survives_isolation(a_region_panel):
    panel = a_region_panel()
    display = masks_of(panel).GetDisplayNode()
    click_cell(panel.ui.regionTable, row_of(panel, "skeleton"), NAME)
    press(panel.ui.regionTable, "Space")
    assert not display.GetSegmentVisibility("skeleton")
    panel.workspace.select("")
    assert not display.GetSegmentVisibility("skeleton")  # the person's own choice
    click_cell(panel.ui.regionTable, row_of(panel, "skeleton"), NAME)
    panel.workspace.select("")
    assert not display.GetSegmentVisibility("skeleton")


def test_the_fill_of_all_or_of_one_region_follows_the_slider(a_region_panel):
    panel = a_region_panel()
    display = masks_of(panel).GetDisplayNode()
    slide(panel.ui.opacitySlider, 30)
    assert display.GetOpacity2DFill() == pytest.approx(0.3)
    assert panel.ui.opacityValue.text == "30 %"
    click_cell(panel.ui.regionTable, row_of(panel, "right lung"), NAME)
    click(panel.ui.oneCheck)
    slide(panel.ui.opacitySlider, 80)
    assert display.GetSegmentOpacity2DFill("right_lung") == pytest.approx(0.8)
    assert display.GetOpacity2DFill() == pytest.approx(0.3)


def test_centre_on_zooms_to_the_regions_size(a_region_panel):
    panel = a_region_panel(DEMO)
    click_cell(panel.ui.regionTable, row_of(panel, "left lung nodule candidate"), NAME)
    click(panel.ui.centerButton)
    for view in views_of(panel.workspace.scene):
        assert min(view.GetFieldOfView()[:2]) == pytest.approx(100.0)
    camera = panel.workspace.scene.GetFirstNodeByClass("vtkMRMLCameraNode")
    where = panel.workspace.logic.place(panel.workspace.volume_node, "region/nodule_1").ras
    assert np.allclose(camera.GetFocalPoint(), where)


def test_surfaces_come_in_bites_and_a_click_stops_them(a_region_panel, spin):
    from CT3DAssistantLib.surfaces import has_surfaces

    panel = a_region_panel(DEMO)
    click(panel.ui.surfaceButton)
    client, longest = panel.workspace.logic.client, 0.0
    while panel.workspace.jobs:
        began = time.perf_counter()
        client.poll()
        longest = max(longest, time.perf_counter() - began)
    print(f"\nlongest bite of the surfaces of the demo CT: {1000 * longest:.0f} ms")
    assert has_surfaces(masks_of(panel))
    assert masks_of(panel).GetDisplayNode().GetPreferredDisplayRepresentationName3D() == "Closed surface"
    assert panel.ui.surfaceButton.text == "Hide 3&D"
    click(panel.ui.surfaceButton)
    assert not has_surfaces(masks_of(panel))
    click(panel.ui.surfaceButton)
    for _ in range(20):
        client.poll()
    click(panel.ui.surfaceButton)
    settle(panel, spin)
    assert panel.ui.surfaceButton.text in ("Show 3&D", "Hide 3&D")
    assert panel.workspace.told[-1] == ("info", "Stopped.")


def test_a_heading_sorts_numbers_by_size_and_the_third_click_brings_back_the_order(a_region_panel):
    panel = a_region_panel()
    table = panel.ui.attributeTable
    given = [column(table, n) for n in range(3)]
    click_header(table, 2)
    volumes = [float(v.split()[0].replace(",", "")) for v in column(table, 2) if v.endswith(" mL")]
    assert len(volumes) == 11
    assert volumes == sorted(volumes)
    assert table.horizontalHeaderItem(2).text().endswith("▲")
    click_header(table, 2)
    volumes = [float(v.split()[0].replace(",", "")) for v in column(table, 2) if v.endswith(" mL")]
    assert volumes == sorted(volumes, reverse=True)
    click_header(table, 2)
    assert [column(table, n) for n in range(3)] == given


def test_a_row_of_the_measurements_selects_its_evidence_and_others_select_the_row(a_region_panel):
    panel = a_region_panel()
    heard = []
    panel.workspace.on_select.append(heard.append)
    click_cell(panel.ui.attributeTable, 0, 1)
    assert heard == ["attribute/body.volume"]
    panel.workspace.select("attribute/right_lung.mean_hu")
    table = panel.ui.attributeTable
    assert table.item(table.currentRow(), 1).text() == "mean attenuation"
    assert panel.ui.regionTable.currentRow() == row_of(panel, "right lung")


def test_measurements_are_copied_and_saved_with_all_their_digits(a_region_panel, tmp_path, the_double):
    _, qt = the_double
    panel = a_region_panel(DEMO)
    panel.workspace.select("region/nodule_1")
    click(panel.ui.copyButton)
    rows = [line.split("\t") for line in qt.QApplication.clipboard().text().splitlines()]
    assert rows[0] == ["region", "measurement", "value", "unit"]
    assert ["left lung nodule candidate", "volume", "6.135", "mL"] in rows
    click(panel.ui.saveButton)
    assert panel.workspace.told[-1][0] == "error"
    assert "Choose a file" in panel.workspace.told[-1][1]
    panel.ui.pathEdit.currentPath = str(tmp_path / "mine")
    click(panel.ui.saveButton)
    with (tmp_path / "mine.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(panel.workspace.case.attributes)


def test_edited_masks_are_told_of_measured_again_and_kept(a_region_panel, spin):
    from CT3DAssistantLib.ownership import is_edited

    panel = a_region_panel()
    assert panel.ui.stateRow.isHidden()
    edit(panel)
    panel.enter()
    settle(panel, spin)
    assert not panel.ui.stateRow.isHidden()
    assert "Measure again" in panel.ui.stateLabel.text
    mine, before = masks_of(panel), panel.workspace.case
    click(panel.ui.measureButton)
    assert panel.ui.measureButton.text == "Cancel"
    settle(panel, spin)
    assert panel.ui.measureButton.text == "&Measure again"
    assert panel.ui.stateRow.isHidden()
    after = panel.workspace.case
    grown = [case.attributes_of("right_lung")["volume"].value for case in (before, after)]
    assert grown[1] > grown[0]
    assert masks_of(panel) is mine
    assert is_edited(mine)  # still the person's own: finding regions anew keeps it


def test_measuring_is_cancelled_by_the_same_button(a_region_panel, spin):
    panel = a_region_panel()
    before = panel.workspace.case.attributes
    click(panel.ui.measureButton)
    began = time.monotonic()
    click(panel.ui.measureButton)
    settle(panel, spin)
    assert time.monotonic() - began < 5.0
    assert panel.workspace.case.attributes == before
    assert panel.workspace.told[-1][0] == "info"


def test_finding_regions_anew_asks_before_a_case_is_replaced(a_region_panel):
    panel = a_region_panel()
    click(panel.ui.findButton)
    assert "replaces the present one" in panel.ui.askLabel.text
    click(panel.ui.noButton)
    assert panel.ui.askRow.isHidden()
    assert not panel.workspace.jobs


def test_nothing_is_cut_and_pictures_are_written(a_region_panel, tmp_path):
    panel = a_region_panel(DEMO)
    for dark in (False, True):
        assert grab(panel.widget, tmp_path / f"regions_{dark}.png", dark=dark).stat().st_size > 5000
    assert cut_texts(panel.widget) == []
    panel.workspace.select("region/nodule_1")
    grab(panel.widget, tmp_path / "nodule.png")
    assert cut_texts(panel.widget) == []


def test_without_a_case_it_says_what_to_do(a_region_panel):
    panel = a_region_panel("")
    assert "Analyze" in panel.ui.emptyLabel.text
    assert not panel.ui.findButton.enabled
    assert panel.ui.regionTable.isHidden()
    assert reachable(panel.ui.emptyLabel)


def test_the_panel_keeps_up_when_a_region_is_deleted_in_the_segment_editor(a_region_panel, spin):
    panel = a_region_panel()
    masks_of(panel).GetSegmentation().RemoveSegment("right_lung")
    panel.enter()
    settle(panel, spin)
    click_cell(panel.ui.regionTable, row_of(panel, "right lung"), NAME)
    click(panel.ui.centerButton)
    assert "no place" in panel.workspace.told[-1][1]
