import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training.synthetic_headneck import write_case

TINY_CARD = Path(__file__).resolve().parents[1] / "training" / "tiny_card.py"


@pytest.fixture(scope="module")
def a_folder_of_cases(tmp_path_factory):
    """Two cases; letters beyond ASCII in the folder's name."""
    folder = tmp_path_factory.mktemp("fälle 1")
    for number in (1, 2):
        write_case(folder, number)
    return folder


@pytest.fixture(scope="module")
def a_tiny_card(worker_python, the_command, tmp_path_factory):
    """File of the card with a tiny net, made by the worker's Python; skipped where that has no torch."""
    asked = [worker_python, "-c", "import torch, monai, safetensors"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("needs a worker with torch")
    folder = tmp_path_factory.mktemp("card")
    done = subprocess.run(
        [worker_python, TINY_CARD, folder], env=the_command.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def options(data, card):
    return ["--data", data, "--card", card, "--weights-folder", card.parent, "--crops", 1]


def test_one_json_object_is_printed_and_written_and_progress_goes_elsewhere(
    the_command, a_folder_of_cases, a_tiny_card, tmp_path
):
    out = tmp_path / "new folder" / "measured.json"
    done = the_command("evaluate", "landmarks", *options(a_folder_of_cases, a_tiny_card), "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads(out.read_text(encoding="utf-8")) == found
    assert found["cases"]["names"] == ["pt_1", "pt_2"]
    assert found["card_id"] == "h3denet_headneck"
    assert "4 of 4: pt_2" in done.stderr


def test_quiet_prints_the_object_and_nothing_else_and_paths_may_be_relative(
    the_command, a_folder_of_cases, a_tiny_card
):
    card = os.path.relpath(a_tiny_card, a_folder_of_cases.parent)
    words = ["--quiet", "evaluate", "landmarks", *options(a_folder_of_cases.name, Path(card))]
    done = the_command(*words, cwd=a_folder_of_cases.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["cases"]["count"] == 2


def test_what_can_not_be_used_is_refused_as_by_every_other_command(
    the_command, a_folder_of_cases, a_tiny_card, tmp_path
):
    refused = {
        2: options(tmp_path, a_tiny_card),
        3: ["--data", a_folder_of_cases, "--card", a_tiny_card],
    }
    words = {2: "no .npz case", 3: "not on this machine"}
    for code, given in refused.items():
        done = the_command("--json", "evaluate", "landmarks", *given)
        assert done.returncode == code
        assert words[code] in json.loads(done.stdout)["error"]["message"]


def test_a_python_without_torch_is_told_what_it_lacks(the_command, a_folder_of_cases):
    start = [each if each != the_command.start[-1] else sys.executable for each in the_command.start]
    if (
        subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode
        == 0
    ):
        pytest.skip("this Python has torch")
    words = [*start, "--json", "evaluate", "landmarks", "--data", a_folder_of_cases]
    done = subprocess.run(words, env=the_command.environment, capture_output=True, text=True)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "InvalidRequest"
    assert "has no package" in error["message"] and "requirements-torch.txt" in error["message"]


def test_an_installation_without_the_training_code_says_so(the_command, a_folder_of_cases, tmp_path):
    installed = tmp_path / "installed"
    shutil.copytree(
        Path(the_command.environment["PYTHONPATH"]), installed, ignore=shutil.ignore_patterns("training")
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    words = [*the_command.start, "--json", "evaluate", "landmarks", "--data", a_folder_of_cases]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "not part of this installation" in json.loads(done.stdout)["error"]["message"]


def test_where_a_scan_lies_is_told_beside_its_header(the_command, worker_python, a_sample):
    if subprocess.run([worker_python, "-c", "import torch"], capture_output=True, check=False).returncode:
        pytest.skip("needs a worker with torch")
    done = the_command("--json", "locate", a_sample("slicerio"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {each["axis"] for each in told["check"]["axes"]} == {"right", "front", "up"}
    assert "chest" in told["check"]["parts"]
    assert told["step"]["card"] == "threedme_tiny"
