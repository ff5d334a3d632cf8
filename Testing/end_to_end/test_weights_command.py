"""`ct3d-assistant weights convert` as a person runs it; the conversion itself is tested in pipeline."""

import json
import subprocess

import pytest


@pytest.fixture(scope="module")
def a_worker_with_torch(worker_python):
    asked = [worker_python, "-c", "import torch, transformers, safetensors"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("needs a worker with torch")


def test_a_licence_is_asked_for_and_without_a_person_wanted_as_an_option(the_command, tmp_path):
    done = the_command("weights", "convert", tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "--license" in done.stderr
    done = the_command("weights", "convert", tmp_path, "--license", "MIT", stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "--source" in done.stderr


def test_a_folder_without_the_files_is_refused_with_those_that_are_wanted(
    the_command, a_worker_with_torch, tmp_path
):
    told = ["--license", "MIT", "--source", "nowhere"]
    done = the_command("--json", "weights", "convert", tmp_path, *told, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "trained_vlm_for_ct_rate" in json.loads(done.stdout)["error"]["message"]
    assert not (tmp_path / "out").exists()
