"""The Findings panel, driven by clicks and keys, over analysed scans."""

import csv
import io
from dataclasses import replace

import pytest

from ct3d.case import Flag


@pytest.fixture
def a_finding_panel(the_double, open_bundle, spin):
    """Opens an analysed sample with the panel over it."""
    from CT3DAssistantLib.panels.finding_panel import FindingPanel

    made = []

    def panel(name="lidc_idri_0001"):
        made.append(FindingPanel(open_bundle(name)))
        made[-1].widget.resize(350, 700)
        made[-1].widget.show()
        made[-1].open()
        spin()
        return made[-1]

    yield panel
    for each in made:
        each.widget.hide()


@pytest.fixture
def clipboard(the_double):
    from PySide6.QtWidgets import QApplication

    return QApplication.clipboard()


def cells(panel):
    """The table as a person reads it."""
    table = panel.ui.findingTable
    columns = range(table.columnCount)
    return [tuple(table.item(row, column).text() for column in columns) for row in range(table.rowCount)]


def of_all_states(case):
    """The case with one finding of every state, one of them with a probability."""
    given = {
        "emphysema": {"state": "absent"},
        "pleural_effusion": {"state": "possible"},
        "cardiomegaly": {"state": "possible", "probability": 0.62},
    }
    changed = (replace(each, **given.get(each.id, {})) for each in case.findings)
    return replace(case, findings=tuple(changed))


def doubtful(case):
    """The case with a sentence that doesn't hold and three flags."""
    wrong = {"support": "contradicted", "reasons": ("number: volume of right lung is 1984.4 mL, not 900 mL",)}
    first = replace(case.sentences[0], text="The right lung has a volume of 900 mL.", **wrong)
    flags = (
        Flag("a", "info", "The skeleton is cut by the field of view.", ("region/skeleton",)),
        Flag("b", "warning", "The carina lies above the arch.", ("landmark/carina",)),
        Flag("c", "error", "A step failed."),
    )
    return replace(case, sentences=(first, *case.sentences[1:]), flags=flags)


def test_only_what_was_assessed_is_listed_and_the_rest_is_summed_up(a_finding_panel):
    from hands import click

    panel = a_finding_panel()
    assert cells(panel) == [("\u25cf Present", "Lung nodule", "not given")]
    assert panel.ui.unassessedLabel.text == "17 labels were not assessed."
    click(panel.ui.unassessedCheck)
    shown = cells(panel)
    assert len(shown) == 18
    assert shown[0][1] == "Lung nodule"
    assert {row[0] for row in shown[1:]} == {"\u2013 Not assessed"}
    assert {row[2] for row in shown[1:]} == {"not assessed"}


def test_findings_are_sorted_by_state_and_only_a_given_probability_is_shown(a_finding_panel, spin):
    panel = a_finding_panel()
    panel.workspace.change(of_all_states)
    spin(lambda: panel.ui.findingTable.rowCount == 4)
    assert cells(panel) == [
        ("\u25cf Present", "Lung nodule", "not given"),
        ("\u25d0 Possible", "Cardiomegaly", "62%"),
        ("\u25d0 Possible", "Pleural effusion", "not given"),
        ("\u25cb Absent", "Emphysema", "not given"),
    ]


def test_a_click_or_enter_shows_the_evidence_and_the_reason(a_finding_panel):
    from hands import click, click_cell, press

    panel = a_finding_panel()
    heard = []
    panel.workspace.on_select.append(heard.append)
    click_cell(panel.ui.findingTable, 0, 1)
    assert heard == ["finding/lung_nodule"]
    detail = panel.ui.detailLabel.text
    assert "1 candidate by shape" in detail and "Source: Findings by rules" in detail
    assert 'href="region/nodule_1"' in detail
    click(panel.ui.unassessedCheck)
    assert panel.ui.findingTable.currentRow() == 0
    click_cell(panel.ui.findingTable, 0, 0)
    press(panel.ui.findingTable, "Down")
    assert heard == ["finding/lung_nodule"] * 2  # walking through only explains
    assert "No rule or model of this installation assesses it." in panel.ui.detailLabel.text
    press(panel.ui.findingTable, "Up")
    press(panel.ui.findingTable, "Return")
    assert heard == ["finding/lung_nodule"] * 3


def test_a_finding_that_was_chosen_elsewhere_is_highlighted(a_finding_panel, spin):
    panel = a_finding_panel()
    panel.workspace.select("finding/lung_nodule")
    assert panel.ui.findingTable.currentRow() == 0
    assert "Lung nodule" in panel.ui.detailLabel.text


def test_what_needs_a_look_is_listed_the_worst_first_and_its_links_select(a_finding_panel, spin):
    from hands import click_link

    panel = a_finding_panel()
    assert "found nothing" in panel.ui.checksLabel.text
    assert panel.ui.checksBrowser.isHidden()
    panel.workspace.change(doubtful)
    spin(lambda: not panel.ui.checksBrowser.isHidden())
    text = panel.ui.checksBrowser.plainText
    words = ("\u2717 Contradicted", "not 900 mL", "\u2717 Error", "\u26a0 Warning", "Note")
    places = [text.index(word) for word in words]
    assert places == sorted(places)
    assert "1 sentence that is not supported, 1 error, 1 warning, 1 note" in panel.ui.checksLabel.text
    heard = []
    panel.workspace.on_select.append(heard.append)
    sentence = panel.workspace.case.sentences[0]
    click_link(panel.ui.checksBrowser, f"sentence/{sentence.id}")
    click_link(panel.ui.checksBrowser, "landmark/carina")
    assert heard == [sentence.evidence[0], "landmark/carina"]


def test_the_table_is_copied_as_text_and_as_csv(a_finding_panel, spin, clipboard):
    from hands import click

    panel = a_finding_panel()
    panel.workspace.change(of_all_states)
    spin(lambda: panel.ui.findingTable.rowCount == 4)
    click(panel.ui.copyTextButton)
    text = clipboard.text()
    assert text.startswith("Research use only. Not for clinical use.")
    assert text.count("not assessed") == 14 and "62%" in text
    click(panel.ui.copyCsvButton)
    rows = list(csv.DictReader(io.StringIO(clipboard.text())))
    assert len(rows) == 18
    assert {row["notice"] for row in rows} == {"Research use only. Not for clinical use."}
    given = {row["finding"]: row["probability"] for row in rows if row["probability"]}
    assert given == {"Cardiomegaly": "0.62"}


def test_without_a_case_nothing_is_claimed(a_workspace, the_double, spin):
    from CT3DAssistantLib.panels.finding_panel import FindingPanel

    panel = FindingPanel(a_workspace)
    panel.widget.show()
    panel.open()
    assert panel.ui.unassessedLabel.text == "There are no findings yet."
    assert not panel.ui.copyCsvButton.enabled
    assert not a_workspace.told
    panel.widget.hide()


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut(dark, a_finding_panel, spin, tmp_path):
    from hands import click, click_cell
    from screens import cut_texts, grab, palette

    with palette(dark=dark):
        panel = a_finding_panel()
        panel.workspace.change(of_all_states)
        panel.workspace.change(doubtful)
        spin(lambda: not panel.ui.checksBrowser.isHidden())
        click_cell(panel.ui.findingTable, 0, 1)
        grab(panel.widget, tmp_path / f"findings_{dark}.png", dark=dark)
        assert not cut_texts(panel.widget)
        click(panel.ui.unassessedCheck)
        grab(panel.widget, tmp_path / f"findings_all_{dark}.png", dark=dark)
        assert not cut_texts(panel.widget)
