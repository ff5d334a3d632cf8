"""A model that reads the scan, from the scene and from the command line; its weights are made up."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ct3d.case import Case, Scope
from ct3d.errors import InvalidRequest
from ct3d.imaging.exchange import content_hash
from ct3d.imaging.files import read_volume, write_volume
from ct3d.imaging.volume import Volume, right_handed
from ct3d.protocol.tasks import RetrieveParams

TESTS = Path(__file__).resolve().parents[1]
CASE = TESTS / "golden" / "case_made_up.json"
REPORTS, ANSWERS = "hsenet_ct_rate", "hsenet_radgenome"


@pytest.fixture(autouse=True)
def at_home(a_home_with_hsenet, the_command, monkeypatch):
    monkeypatch.setenv("HOME", str(a_home_with_hsenet))
    monkeypatch.setitem(the_command.environment, "HOME", str(a_home_with_hsenet))


def a_scan(seed=0):
    """Left-handed, as many files are; in a scene its slices run the other way."""
    array = np.full((24, 40, 44), -1000, np.int16)
    array[2:22, 5:35, 4:40] = np.random.default_rng(seed).integers(-900, 100, (20, 30, 36))
    return Volume(array, np.diag([-2.0, 2.0, 3.0, 1.0]))


def case_of_scan(volume):
    volume = right_handed(volume)
    case = Case.from_json(CASE.read_text(encoding="utf-8"))
    sha256 = content_hash(volume.array)
    return replace(case, input=replace(case.input, sha256=sha256, geometry=volume.geometry), answers=())


def low_mask():
    mask = np.zeros((24, 40, 44), np.uint8)
    mask[3:5, 7:30, 7:12] = 1
    return mask


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory):
    """A CT, and beside it what `analyze` would have written of it: case and masks."""
    from CT3DAssistantLib.exports.regions import write_regions

    folder = tmp_path_factory.mktemp("analysed")
    write_volume(folder / "scan.nii.gz", a_scan())
    case = case_of_scan(read_volume(folder / "scan.nii.gz")[0])
    (folder / "case.json").write_text(case.to_json(), encoding="utf-8")
    write_regions(folder / "regions.seg.nrrd", case, {"organs": low_mask()})
    return folder


def told(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_command_line_writes_a_report_and_answers_from_the_scan(the_command, a_folder):
    scan = ["--volume", a_folder / "scan.nii.gz"]
    report = told(the_command("--json", "report", a_folder, "--card", REPORTS, *scan))
    texts = {each["text"]: each["support"] for each in report["sentences"] if each["origin"] == "model"}
    assert texts == {
        "The right lung has a volume of 2340 mL.": "supported",
        "There is severe pneumonia.": "unsupported",
    }
    assert report["saw"]["card"] == REPORTS and report["flags"][0]["id"] == "report_unsupported"
    done = the_command("ask", a_folder, "what is there ?", "--card", ANSWERS, *scan, "--region", "right_lung")
    assert done.returncode == 0, done.stderr
    assert "A: ? " in done.stdout
    assert f"What {ANSWERS} saw of the scan:" in done.stderr and "44 × 40 × 24" in done.stderr
    case = Case.from_json((a_folder / "case.json").read_text(encoding="utf-8"))
    assert {each.card for each in case.saw} >= {REPORTS, ANSWERS}
    assert case.answers[-1].scope == Scope("region", "right_lung")
    assert case.provenance[-1].counts["visual_tokens_seen"] == 4
    assert {each.origin for each in case.sentences} == {"model"}


def test_without_the_scan_or_with_a_card_of_another_role_it_says_what_to_give(the_command, a_folder):
    done = the_command("report", a_folder, "--card", REPORTS)
    assert done.returncode == 2 and "Give the volume, too" in done.stderr
    done = the_command("analyze", a_folder / "scan.nii.gz", "--report-card", ANSWERS)
    assert done.returncode == 2 and REPORTS in done.stderr


@pytest.fixture
def a_folder_of_cts(tmp_path):
    """Four CTs in two folders, one of them twice, with reports; one file is broken."""
    folder = tmp_path / "cts"
    (folder / "more").mkdir(parents=True)
    for n, place in enumerate((folder, folder, folder / "more", folder / "more")):
        write_volume(place / f"scan {n}.nii.gz", a_scan(n))
        (place / f"scan {n}.txt").write_text(f"Report {n}: no effusion.\n", encoding="utf-8")
    write_volume(folder / "zweimal.nrrd", a_scan(0))
    whole = (folder / "scan 1.nii.gz").read_bytes()
    (folder / "broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder


def test_a_folder_becomes_an_index_that_goes_on_after_a_kill_and_finds_a_ct_first(
    the_command, a_folder_of_cts, tmp_path
):
    out = tmp_path / "index"
    words = ["index", a_folder_of_cts, "--card", "hsenet_clip_stage1", "--out", out]
    start = [*the_command.start, *map(str, words)]
    with subprocess.Popen(start, env=the_command.environment, stderr=subprocess.PIPE, text=True) as killed:
        while ": added" not in killed.stderr.readline():
            assert killed.poll() is None
        killed.kill()
    files = sorted((out / "cases").glob("*.safetensors"))
    assert 1 <= len(files) < 4
    done = told(the_command("--json", *words))["done"]
    assert done["added"] == 4 - len(files) and done["known"] == len(files) + 1  # one CT lies there twice
    assert list(done["skipped"]) == [str(a_folder_of_cts / "broken.nii.gz")]
    query = ["--volume", a_folder_of_cts / "more" / "scan 3.nii.gz", "-n", 2]
    found = the_command("retrieve", out, *query)
    assert found.stdout.startswith(" 1.000  ") and "2 of 4 cases, by hsenet_clip_stage1" in found.stdout
    assert "scan 3.nii.gz\n        Report 3: no effusion." in found.stdout
    scores = told(the_command("evaluate", "retrieval", out))
    assert (scores["count"], scores["volume_to_report"]["5"]) == (4, 100)


def test_a_report_that_is_new_is_added_and_another_card_refused(worker_python, a_folder_of_cts, tmp_path):
    from CT3DAssistantLib.session import WorkerOnly
    from CT3DAssistantLib.similar import index_folder

    where = {"index": tmp_path / "index", "card": "hsenet_clip_stage2", "note": str}
    with WorkerOnly(worker_python) as sitting:
        client, exchange = sitting.client, sitting.exchange.path
        first = index_folder(client, exchange, a_folder_of_cts, **where)
        assert (first.added, first.known, len(first.skipped)) == (4, 1, 1)
        assert not list(exchange.glob("*.npy"))
        (a_folder_of_cts / "more" / "scan 2.txt").write_text("Another report.", encoding="utf-8")
        (a_folder_of_cts / "scan 1.txt").write_bytes(b"\xff\xfe no text")
        again = index_folder(client, exchange, a_folder_of_cts, **where)
        assert (again.added, again.reports, again.known, len(again.skipped)) == (0, 1, 3, 2)
        find = RetrieveParams(str(tmp_path / "index"), "hsenet_clip_stage2", text="no effusion", count=9)
        result = client.wait(client.submit("retrieve", find))
        assert (result.cases, len(result.hits), result.saw) == (4, 4, None)
        assert "Another report." in {hit.text for hit in result.hits}
        assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
        with pytest.raises(InvalidRequest, match="made with card 'hsenet_clip_stage2' and not"):
            index_folder(client, exchange, a_folder_of_cts, **{**where, "card": "hsenet_clip_stage1"})
        with pytest.raises(InvalidRequest, match="one of the two"):
            client.wait(client.submit("retrieve", replace(find, text="")))
        with pytest.raises(InvalidRequest, match="role 'retrieve'"):
            client.wait(client.submit("retrieve", replace(find, card=REPORTS)))
        damaged = next((tmp_path / "index" / "cases").iterdir())
        damaged.write_bytes(b"cut")
        with pytest.raises(InvalidRequest, match="is damaged"):
            client.wait(client.submit("retrieve", find))


def test_what_no_index_can_be_made_of_is_refused(the_command, tmp_path):
    (tmp_path / "empty").mkdir()
    for words, why in {
        ("index", tmp_path / "empty", "--out", tmp_path / "out"): "no CT",
        ("index", tmp_path / "nowhere", "--out", tmp_path / "out"): "no folder",
        ("retrieve", tmp_path / "empty", "--text", "x"): "no index",
        ("evaluate", "vqa"): "FILE.jsonl",
        ("evaluate", "report", tmp_path / "none"): "no file",
    }.items():
        done = the_command(*words)
        assert done.returncode == 2 and why in done.stderr, done.stderr


def test_texts_are_scored_into_one_object_on_screen_and_in_a_file(the_command, tmp_path):
    lines = [{"reference": "no effusion", "text": "no effusion"}, {"reference": "a nodule", "text": "a mass"}]
    (tmp_path / "reports.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    done = the_command("evaluate", "report", tmp_path / "reports.jsonl", "--out", tmp_path / "scores.json")
    found = told(done)
    assert found == json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert found["count"] == 2 and set(found["texts"]) == {"compat", "clean"}


def test_in_a_scene_report_and_answer_show_what_the_model_saw(worker_python, a_home_with_hsenet):
    from CT3DAssistantLib.conversation import conversation_text
    from CT3DAssistantLib.scene import add_segmentation, add_volume, save_case
    from CT3DAssistantLib.session import Sitting

    with Sitting(worker_python, "hsenet") as sitting:
        node = add_volume(sitting.scene, a_scan())
        case = case_of_scan(a_scan())
        save_case(sitting.scene, node, case)
        add_segmentation(sitting.scene, node, {"organs": low_mask()}, case.regions)
        texts = []
        case = sitting.finish(sitting.logic.draft_report(node, on_text=texts.append))
        assert len(texts) == 13 and len(case.sentences) == 2
        case = sitting.finish(sitting.logic.ask(node, "what ?", scope=Scope("region", "right_lung")))
        assert [each.card for each in case.saw if each.card.startswith("hsenet")] == [REPORTS, ANSWERS]
        assert case.provenance[-1].counts["visual_tokens_seen"] == 4
        assert "0 of 1 sentences borne out" in conversation_text(case)
        assert case.answers[-1].sentences[0].support == "unsupported"
