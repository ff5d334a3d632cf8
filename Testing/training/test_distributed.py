"""Two processes that share a batch find the loss and the gradients of one that has it all."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from two_ranks import STEP, problem

from ct3d.training.distributed import gather

SOURCES = Path(__file__).parents[2] / "CT3DAssistant"


def test_loss_and_gradients_of_two_processes_are_those_of_one(tmp_path):
    command = [sys.executable, Path(__file__).with_name("two_ranks.py")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [subprocess.Popen([*command, str(rank), tmp_path], env=environment) for rank in (0, 1)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    model, batch = problem()
    loss = model(*batch, step=STEP)
    loss.backward()
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(found.pop("loss"), loss.detach(), rtol=0, atol=1e-6)
        own = {name: each.grad for name, each in model.student.named_parameters() if each.grad is not None}
        assert found.keys() == own.keys()
        for name, gradient in own.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6, msg=name)


def test_a_lone_process_keeps_its_features():
    features = torch.rand(3, 4)
    assert gather(features) is features
