"""Two processes that pretrain together learn what one learns alone, and write it once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from two_ranks_threedme import RECIPE, corpus, learned, problem, run

from ct3d.errors import InvalidRequest
from ct3d.training import train_threedme
from ct3d.training.loop import CURVE
from ct3d.training.train_threedme import WEIGHTS, train

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCES = Path(__file__).parents[2] / "CT3DAssistant"


@pytest.fixture(scope="module")
def a_folder_of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, Path(__file__).with_name("two_ranks_threedme.py")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [subprocess.Popen([*command, str(rank), folder], env=environment) for rank in (0, 1)]
    assert [each.wait(timeout=300) for each in processes] == [0, 0]
    return folder


def test_with_half_of_the_studies_each_two_find_the_loss_and_gradients_of_one(a_folder_of_two):
    alone = learned(*problem())
    assert {"masked", "spatial", "encoder.patches.weight", "decoder.out.weight"} <= alone.keys()
    for rank in (0, 1):
        found = load_file(a_folder_of_two / f"{rank}.safetensors")
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


def test_two_processes_write_once_what_one_would_have_written(a_folder_of_two, tmp_path):
    run(tmp_path)
    together, alone = a_folder_of_two / "run", tmp_path
    assert sorted(each.name for each in together.iterdir()) == sorted(each.name for each in alone.iterdir())
    both = [(each / CURVE).read_text("utf-8").splitlines() for each in (together, alone)]
    for first, second in zip(*both, strict=True):
        assert json.loads(first) == pytest.approx(json.loads(second), rel=0.02)
    assert load_file(together / WEIGHTS).keys() == load_file(alone / WEIGHTS).keys()


def test_studies_that_cant_be_shared_alike_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(train_threedme, "ranks", lambda: 3)
    with pytest.raises(InvalidRequest, match="3 processes"):
        train(RECIPE, corpus(), corpus(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
