"""The report panel, driven by clicks and keys over real cases, with a real worker for what is checked."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pace import assert_within, timed

WRONG = "The left lung has a volume of 5170 mL."
RIGHT = "The left lung has a volume of 3170 mL."
PROGRAM = "The left lung has a volume of 3170 mL and a mean attenuation of -820 HU."  # lungs.3 of slicerio


@pytest.fixture
def a_panel(open_bundle, spin, tmp_path):
    """Function: name of a sample → the panel over its analysed scene."""
    made = []

    def panel_over(name="slicerio"):
        panel = make_panel(open_bundle(name))
        panel.ui.folderEdit.currentPath = str(tmp_path)
        made.append(panel)
        return panel

    yield panel_over
    for panel in made:
        panel.close()
    spin(lambda: not any(panel.workspace.jobs for panel in made), within_s=10)


def make_panel(workspace):
    from CT3DAssistantLib.panels.report_panel import ReportPanel

    panel = ReportPanel(workspace)
    panel.widget.resize(350, 1200)
    panel.widget.show()
    panel.open()
    return panel


@pytest.fixture
def do(spin):
    """What a person does on a panel, each until its consequences are there."""
    return Hands(spin)


class Hands:
    def __init__(self, spin):
        self.spin = spin

    def settle(self, panel):
        self.spin(lambda: not panel.workspace.jobs)
        self.spin(lambda: not panel.workspace.logic.client.has_deliveries)

    def choose(self, panel, sentence_id):
        import hands

        hands.click_link(panel.ui.reportBrowser, f"sentence/{sentence_id}")
        self.settle(panel)

    def click(self, panel, button):
        import hands

        hands.click(getattr(panel.ui, button))
        self.settle(panel)

    def edit(self, panel, sentence_id, text):
        import hands

        self.choose(panel, sentence_id)
        hands.click(panel.ui.editButton)
        hands.type_text(panel.ui.textEdit, text)
        self.click(panel, "saveButton")

    def sign(self, panel, name="A. Reader"):
        import hands

        self.click(panel, "reviewButton")
        hands.type_text(panel.ui.nameEdit, name)
        self.click(panel, "signButton")


def sentence(panel, sentence_id):
    return next(each for each in panel.workspace.case.sentences if each.id == sentence_id)


def text_of(browser):
    return browser.plainText


def shown(widget):
    return not widget.isHidden()


# reading


def test_all_sections_are_shown_with_support_in_words_and_the_notice(a_panel):
    from ct3d.case import RESEARCH_USE, SECTIONS

    panel = a_panel()
    text = text_of(panel.ui.reportBrowser)
    for title in SECTIONS.values():
        assert title in text
    assert text.count("✓ supported") == len(panel.workspace.case.sentences) == 14
    assert "worded by the model" in text and "sentence from measurements" in text
    assert RESEARCH_USE in panel.ui.noticeLabel.text
    assert panel.ui.tallyLabel.text == "✓ 14 supported"
    assert panel.ui.stateTextLabel.text == "AI draft, not reviewed."


def test_a_click_on_a_sentence_moves_the_slices_and_shows_its_numbers(a_panel, do):
    import slicer

    panel = a_panel("lidc_idri_0001")
    red = panel.workspace.scene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    before = [red.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    do.choose(panel, "lungs.5")
    assert panel.workspace.selected == "region/nodule_1"
    assert [red.GetSliceToRAS().GetElement(row, 3) for row in range(3)] != before
    detail = panel.ui.detailLabel.text
    assert "28.4 mm" in detail and "69.0 HU" in detail and "left middle zone" in detail
    assert "Supported by measurements" in detail
    assert isinstance(red, slicer.vtkMRMLSliceNode)


def test_a_piece_of_evidence_in_the_detail_is_a_link(a_panel, do):
    panel = a_panel("lidc_idri_0001")
    do.choose(panel, "lungs.5")
    panel.ui.detailLabel.linkActivated.emit("finding/lung_nodule")
    do.settle(panel)
    assert panel.workspace.selected == "finding/lung_nodule"
    assert "▶ Lung nodule" in panel.ui.detailLabel.text
    assert "▶ A nodule candidate" in text_of(panel.ui.reportBrowser)  # the sentence stays the chosen one


def test_the_keyboard_alone_reaches_a_sentence(a_panel, do):
    import hands

    panel = a_panel()
    for _ in range(3):
        hands.press(panel.ui.reportBrowser, "Tab")
    hands.press(panel.ui.reportBrowser, "Return")
    do.settle(panel)
    assert panel.workspace.selected == "region/left_lung"  # of the third sentence
    hands.press(panel.ui.reportBrowser, "Tab")
    hands.press(panel.ui.reportBrowser, "Return")
    do.settle(panel)
    assert panel.workspace.selected == "region/left_lung"
    assert "▶ The emphysema index of the left lung" in text_of(panel.ui.reportBrowser)


def test_a_region_picked_elsewhere_lists_and_marks_its_sentences(a_panel, do):
    panel = a_panel()
    panel.workspace.select("region/left_lung")
    do.settle(panel)
    assert "◆ 7 sentences mention: left lung" in re.sub("<[^>]+>", "", panel.ui.mentionLabel.text)
    assert text_of(panel.ui.reportBrowser).count("◆") == 7
    panel.ui.mentionLabel.linkActivated.emit("sentence/lungs.4")
    do.settle(panel)
    assert "▶ The emphysema index of the left lung" in text_of(panel.ui.reportBrowser)
    panel.workspace.select("landmark/carina")
    do.settle(panel)
    assert "No sentence mentions" in panel.ui.mentionLabel.text  # outside this scan
    panel.workspace.select("")
    do.settle(panel)
    assert not shown(panel.ui.mentionLabel)


def test_a_report_region_marks_the_sentences_of_what_lies_in_it(a_panel, do):
    from CT3DAssistantLib.report_view import mentions

    case = a_panel().workspace.case
    found = {each.id for each in mentions(case, "region/lungs")}
    assert {"lungs.1", "lungs.3"} <= found
    assert [each.id for each in mentions(case, "attribute/left_lung.emphysema_index")] == [
        "lungs.4",
        "impression.14",
    ]


def test_the_place_in_the_text_stays_when_it_is_written_anew(a_panel, do):
    panel = a_panel()
    panel.widget.resize(350, 650)
    do.settle(panel)
    bar = panel.ui.reportBrowser.verticalScrollBar()
    bar.value = place = bar.maximum
    assert place > 0
    panel.workspace.select("region/left_lung")
    do.settle(panel)
    assert "◆" in text_of(panel.ui.reportBrowser)
    assert bar.value == place


def test_long_evidence_folds(a_panel, do):
    panel = a_panel()
    do.choose(panel, "impression.14")
    assert 'href="more"' in panel.ui.detailLabel.text
    panel.ui.detailLabel.linkActivated.emit("more")
    assert "Interlobular septal thickening" in panel.ui.detailLabel.text
    assert 'href="less"' in panel.ui.detailLabel.text


def test_without_a_case_the_panel_says_what_to_do(a_workspace, do):
    import hands

    panel = make_panel(a_workspace)
    do.settle(panel)
    assert "Analyse a CT first" in panel.ui.stateTextLabel.text
    for button in ("reviewButton", "addButton", "regenerateButton", "htmlButton", "pdfButton", "copyButton"):
        with pytest.raises(AssertionError, match="disabled"):
            hands.click(getattr(panel.ui, button))
    panel.close()


# changing


def test_a_wrong_number_is_contradicted_stops_the_review_and_clears_when_it_is_mended(a_panel, do):
    panel = a_panel()
    do.edit(panel, "lungs.3", WRONG)
    assert sentence(panel, "lungs.3").support == "contradicted"
    assert "✗ contradicted" in text_of(panel.ui.reportBrowser)
    assert "3167.1 mL, not 5170 mL" in panel.ui.detailLabel.text
    do.click(panel, "reviewButton")
    severity, told = panel.workspace.told[-1]
    assert severity == "error" and "contradicted by measurements" in told and WRONG in told
    assert panel.workspace.case.report_state == "edited"
    do.edit(panel, "lungs.3", RIGHT)
    assert sentence(panel, "lungs.3").support == "supported"
    assert panel.ui.tallyLabel.text == "✓ 14 supported"
    do.click(panel, "reviewButton")
    assert panel.workspace.case.report_state == "reviewed"


def test_a_contradicted_sentence_can_be_kept_on_purpose(a_panel, do):
    panel = a_panel()
    do.edit(panel, "lungs.3", WRONG)
    do.click(panel, "keepButton")
    assert sentence(panel, "lungs.3").kept
    assert "kept by a person" in text_of(panel.ui.reportBrowser)
    assert not shown(panel.ui.keepButton)
    do.click(panel, "reviewButton")
    assert panel.workspace.case.report_state == "reviewed"


def test_the_change_to_the_ai_text_is_shown_in_marks_not_only_in_color(a_panel, do):
    import hands

    panel = a_panel()
    do.choose(panel, "lungs.3")
    hands.click(panel.ui.editButton)
    assert panel.ui.textEdit.plainText == PROGRAM
    hands.type_text(panel.ui.textEdit, PROGRAM.replace("3170", "3171"))
    assert re.search(r"<s [^>]*> 3170</s><u [^>]*> 3171</u>", panel.ui.diffLabel.text)
    hands.press(panel.ui.textEdit, "Ctrl+Return")
    do.settle(panel)
    assert "edited by a person" in text_of(panel.ui.reportBrowser)
    assert "AI text" in panel.ui.detailLabel.text and "3171</u>" in panel.ui.detailLabel.text


def test_escape_leaves_the_sentence_as_it_was(a_panel, do):
    import hands

    panel = a_panel()
    do.choose(panel, "lungs.3")
    hands.click(panel.ui.editButton)
    hands.type_text(panel.ui.textEdit, "Something else.")
    hands.press(panel.ui.textEdit, "Esc")
    do.settle(panel)
    assert not shown(panel.ui.editBox)
    assert sentence(panel, "lungs.3").text == PROGRAM
    assert panel.workspace.case.actions == ()


def test_an_empty_sentence_is_refused_and_the_box_stays_open(a_panel, do):
    import hands

    panel = a_panel()
    do.choose(panel, "lungs.3")
    hands.click(panel.ui.editButton)
    hands.type_text(panel.ui.textEdit, " ")
    do.click(panel, "saveButton")
    assert "press Remove" in panel.workspace.told[-1][1]
    assert shown(panel.ui.editBox)


def test_a_sentence_is_removed_restored_and_added(a_panel, do):
    import hands

    panel = a_panel()
    do.choose(panel, "lungs.3")
    do.click(panel, "removeButton")
    assert "removed" in text_of(panel.ui.reportBrowser) and "1 removed" in panel.ui.tallyLabel.text
    assert PROGRAM not in report_node(panel).GetText()
    do.click(panel, "restoreButton")
    assert PROGRAM in report_node(panel).GetText()
    assert panel.workspace.case.report_state == "draft"
    hands.choose(panel.ui.sectionCombo, "Bones")
    hands.click(panel.ui.addButton)
    hands.type_text(panel.ui.textEdit, "There is a healed fracture of the sixth rib.")
    do.click(panel, "saveButton")
    own = sentence(panel, "bones.own")
    assert (own.support, own.origin) == ("unsupported", "person")
    assert "written by a person" in text_of(panel.ui.reportBrowser)
    assert "? unsupported" in text_of(panel.ui.reportBrowser)
    do.click(panel, "reviewButton")  # what nobody measured doesn't hinder a radiologist
    assert panel.workspace.case.report_state == "reviewed"


def report_node(panel):
    from CT3DAssistantLib.ownership import node_of

    return node_of(panel.workspace.scene, panel.workspace.volume_node, "report")


def test_what_was_typed_waits_while_another_volume_is_looked_at(a_panel, do):
    import hands

    panel = a_panel()
    workspace, node = panel.workspace, panel.workspace.volume_node
    do.choose(panel, "lungs.3")
    hands.click(panel.ui.editButton)
    hands.type_text(panel.ui.textEdit, "Half a sen")
    workspace.volume_node = None
    do.settle(panel)
    assert not shown(panel.ui.editBox)
    workspace.volume_node = node
    do.settle(panel)
    assert sentence(panel, "lungs.3").text == PROGRAM
    do.choose(panel, "lungs.3")
    hands.click(panel.ui.editButton)
    assert panel.ui.textEdit.plainText == "Half a sen"


# writing anew


def test_a_section_is_written_anew_and_what_a_person_touched_stays(a_panel, do, spin):
    import hands

    panel = a_panel()
    do.edit(panel, "lungs.3", RIGHT)
    do.choose(panel, "lungs.1")
    assert panel.ui.sectionCombo.currentText == "Lungs"
    before = panel.workspace.case
    hands.click(panel.ui.regenerateButton)
    assert panel.ui.regenerateButton.text == "Cancel"
    spin(lambda: "right lung" in panel.ui.draftLabel.text)
    assert shown(panel.ui.draftBar)
    do.settle(panel)
    assert panel.ui.regenerateButton.text == "Re&generate"
    assert not shown(panel.ui.draftBar)
    case = panel.workspace.case
    assert sentence(panel, "lungs.3").text == RIGHT
    assert len(case.sentences) == len(before.sentences)
    assert all(each.support == "supported" for each in case.sentences)
    steps = [next(s.finished_utc for s in each.provenance if s.task == "report") for each in (before, case)]
    assert steps[0] < steps[1]


def test_writing_anew_is_stopped_by_the_same_button(a_panel, do, spin):
    import hands

    panel = a_panel()
    before = panel.workspace.case
    hands.click(panel.ui.regenerateButton)
    spin(lambda: panel.ui.draftLabel.text != "")
    stopped = time.monotonic()
    hands.click(panel.ui.regenerateButton)
    spin(lambda: not panel.workspace.jobs, within_s=10)
    assert time.monotonic() - stopped < 2
    do.settle(panel)
    assert panel.workspace.told[-1][0] == "info" and "Stopped" in panel.workspace.told[-1][1]
    assert panel.workspace.case.sentences == before.sentences
    assert panel.ui.regenerateButton.text == "Re&generate"


def test_a_worker_that_dies_is_told_and_one_click_goes_on(a_panel, do, spin):
    import hands

    panel = a_panel()
    client = panel.workspace.logic.client
    hands.click(panel.ui.regenerateButton)
    spin(lambda: panel.ui.draftLabel.text != "")
    os.kill(client.worker.pid, signal.SIGKILL)
    do.settle(panel)
    assert panel.workspace.told[-1][0] == "error"
    assert "could not be written anew" in panel.workspace.told[-1][1]
    assert len(panel.workspace.case.sentences) == 14
    do.edit(panel, "lungs.3", RIGHT)  # starts another worker
    assert sentence(panel, "lungs.3").support == "supported"


# states


def test_a_report_is_signed_and_opened_again_by_any_change(a_panel, do):
    from CT3DAssistantLib.review import signature_holds
    from CT3DAssistantLib.settings import Settings

    panel = a_panel()
    assert not shown(panel.ui.signRow)
    do.sign(panel, "Dr. A. Reader")
    case = panel.workspace.case
    assert case.report_state == "signed" and signature_holds(case)
    assert "Signed by Dr. A. Reader" in panel.ui.stateTextLabel.text
    assert case.signature.sha256[:16] in panel.ui.stateTextLabel.text
    assert case.signature.sha256 in panel.ui.stateTextLabel.toolTip
    assert "● Signed" in panel.ui.stateLabel.text
    assert Settings().reader_name == "Dr. A. Reader"
    assert "Signed by Dr. A. Reader" in report_node(panel).GetText()
    do.choose(panel, "lungs.3")
    do.click(panel, "removeButton")
    assert panel.workspace.case.report_state == "edited"
    assert "open again" in panel.workspace.told[-1][1]
    assert "not reviewed" in panel.ui.stateTextLabel.text


def test_a_signature_needs_a_name(a_panel, do):
    panel = a_panel()
    panel.ui.nameEdit.text = ""
    do.click(panel, "reviewButton")
    do.click(panel, "signButton")
    assert "needs a name" in panel.workspace.told[-1][1]
    assert panel.workspace.case.report_state == "reviewed"


def test_a_review_is_taken_back(a_panel, do):
    panel = a_panel()
    do.click(panel, "reviewButton")
    do.click(panel, "reopenButton")
    assert panel.workspace.case.report_state == "draft"
    assert shown(panel.ui.reviewButton)


@pytest.mark.parametrize("state", ["draft", "edited", "reviewed", "signed"])
def test_each_state_survives_save_and_reload(state, a_panel, do, tmp_path):
    from CT3DAssistantLib.review import signature_holds
    from CT3DAssistantLib.scene import load_mrb, save_mrb

    panel = a_panel()
    if state != "draft":
        do.edit(panel, "lungs.3", RIGHT)
    if state in ("reviewed", "signed"):
        do.click(panel, "reviewButton")
    if state == "signed":
        panel.ui.nameEdit.text = "A. Reader"
        do.click(panel, "signButton")
    case, state_line = panel.workspace.case, panel.ui.stateTextLabel.text
    save_mrb(panel.workspace.scene, tmp_path / "state.mrb")
    panel.workspace.volume_node = None
    (panel.workspace.volume_node,) = load_mrb(panel.workspace.scene, tmp_path / "state.mrb")
    do.settle(panel)
    assert panel.workspace.case == case
    assert panel.workspace.case.report_state == state
    assert panel.ui.stateTextLabel.text == state_line
    assert signature_holds(panel.workspace.case) == (state == "signed")


def test_a_signed_report_is_read_in_another_process(a_panel, do, tmp_path):
    from CT3DAssistantLib.environment import PACKAGE_FOLDER
    from CT3DAssistantLib.scene import save_mrb

    panel = a_panel()
    do.sign(panel)
    save_mrb(panel.workspace.scene, tmp_path / "signed.mrb")
    code = (
        "from CT3DAssistantLib.headless import boot\n"
        "from CT3DAssistantLib.review import signature_holds\n"
        "from CT3DAssistantLib.scene import case_of, load_mrb\n"
        "session = boot()\nscene = session.scene\n"
        f"(node,) = load_mrb(scene, {str(tmp_path / 'signed.mrb')!r})\n"
        "case = case_of(scene, node)\nprint(case.signature.sha256, signature_holds(case))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE_FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == [panel.workspace.case.signature.sha256, "True"]


# exports


def exported(panel, do, button, kind):
    """Click an export button; gives the file, and the longest bite of work in seconds."""
    import hands

    client, longest = panel.workspace.logic.client, 0.0
    hands.click(getattr(panel.ui, button))
    while panel.workspace.jobs:
        began = time.process_time()
        client.poll()
        longest = max(longest, time.process_time() - began)
    do.settle(panel)
    (path,) = Path(panel.ui.folderEdit.currentPath).glob(f"report-*.{kind}")
    return path, longest


@timed
def test_a_page_with_pictures_is_written_in_bites_and_says_its_state(a_panel, do):
    panel = a_panel("lidc_idri_0001")
    do.edit(panel, "lungs.3", "The left lung has a volume of 1770 mL.")
    do.choose(panel, "lungs.6")
    do.click(panel, "removeButton")
    path, longest = exported(panel, do, "htmlButton", "html")
    page = path.read_text(encoding="utf-8")
    assert_within(longest, 0.15)
    assert page.count("data:image/webp") >= 10
    assert "Research use only" in page and '<div class="watermark"' in page
    assert "person&#x27;s changes, not reviewed" in page
    assert "<del>There is no pleural effusion candidate.</del>" in page
    assert re.search(r"<del>[^<]*attenuation of -821 HU\.</del>", page)
    assert "What people did" in page
    assert str(path) in panel.ui.exportLabel.text
    assert panel.workspace.told[-1] == ("info", f"The report is written: {path}")


def test_a_signed_page_has_no_watermark_and_carries_the_hash(a_panel, do):
    panel = a_panel()
    do.sign(panel)
    path, _ = exported(panel, do, "htmlButton", "html")
    page = path.read_text(encoding="utf-8")
    assert '<div class="watermark"' not in page
    assert "Signed report" in page
    assert page.count(panel.workspace.case.signature.sha256) >= 2


@timed
def test_a_pdf_is_written_page_by_page(a_panel, do):
    panel = a_panel()
    path, longest = exported(panel, do, "pdfButton", "pdf")
    data = path.read_bytes()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 1
    assert data.count(b"/Subtype /Image") >= 3
    assert_within(longest, 0.15)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_export_is_stopped_by_its_button_and_leaves_no_file(a_panel, do):
    import hands

    panel = a_panel("lidc_idri_0001")
    hands.click(panel.ui.htmlButton)
    for _ in range(30):
        panel.workspace.logic.client.poll()
    assert panel.ui.htmlButton.text == "Cancel"
    hands.click(panel.ui.htmlButton)
    do.settle(panel)
    assert "Stopped" in panel.workspace.told[-1][1]
    assert panel.ui.htmlButton.text == "&HTML"
    assert not list(Path(panel.ui.folderEdit.currentPath).iterdir())


@pytest.mark.parametrize("button", ["htmlButton", "pdfButton"])
def test_a_folder_that_cant_be_written_is_said(button, a_panel, do, tmp_path):
    import hands

    (tmp_path / "taken").write_text("mine")
    panel = a_panel()
    panel.ui.folderEdit.currentPath = str(tmp_path / "taken")
    hands.click(getattr(panel.ui, button))
    do.settle(panel)
    severity, told = panel.workspace.told[-1]
    assert severity == "error" and "taken" in told
    assert (tmp_path / "taken").read_text() == "mine"
    assert panel.ui.htmlButton.enabled and panel.ui.pdfButton.enabled


def test_the_text_on_the_clipboard_carries_notice_and_state(a_panel, do, the_double):
    application, qt = the_double
    panel = a_panel()
    do.choose(panel, "lungs.5")
    do.click(panel, "removeButton")
    do.click(panel, "copyButton")
    text = qt.QApplication.clipboard().text()
    assert text.startswith("Research use only. Not for clinical use.")
    assert "not reviewed" in text
    assert "LUNGS" in text and PROGRAM in text
    assert "no lung nodule candidate" not in text.split("IMPRESSION")[0]


# looks


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_at_350_pixels_in_any_state(dark, a_panel, do, tmp_path):
    import hands
    from screens import cut_texts, grab, palette

    with palette(dark=dark):
        panel = a_panel("lidc_idri_0001")

        def look(name):
            grab(panel.widget, tmp_path / f"report_{name}_{dark}.png", dark=dark)
            assert not cut_texts(panel.widget), name

        look("draft")
        do.edit(panel, "lungs.3", WRONG)
        look("contradicted")
        hands.click(panel.ui.editButton)
        look("editing")
        do.click(panel, "cancelEditButton")
        do.click(panel, "keepButton")
        do.click(panel, "reviewButton")
        look("reviewed")
        panel.ui.nameEdit.text = "Dr. Alexandra Papadopoulou-Featherstonehaugh"
        do.click(panel, "signButton")
        look("signed")
