"""A training run stopped and resumed is the run that was never stopped."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ct3d.training.loop import CURVE, STATE, Run, Schedule

SCHEDULE = Schedule(steps=12, warm_up=3, is_bf16=False)


@pytest.fixture
def a_run(tmp_path):
    """Makes a run in a folder of that name: a small net, chance from the step alone."""

    def make(name):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.GELU(), nn.Conv3d(4, 1, 1))

        def loss_of(step):
            seen = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(step))
            return (net(seen) - seen.flip(2)).square().mean()

        return Run(net, loss_of, SCHEDULE, tmp_path / name)

    return make


def test_a_resumed_run_ends_bit_for_bit_where_the_whole_run_ends(a_run, tmp_path):
    a_run("whole").go(12, log_every=4, save_every=4)
    a_run("parts").go(5, log_every=4, save_every=4)
    a_run("parts").go(12, log_every=4, save_every=4)
    whole, parts = (load_file(tmp_path / name / STATE) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_was_logged_after_the_last_save_is_logged_once(a_run, tmp_path):
    run = a_run("stopped")
    run.go(4, log_every=2, save_every=4)
    run.go(7, log_every=2, save_every=100)  # saves at its end
    (tmp_path / "stopped" / "state.json").write_text('{"step": 4, "seconds": 1.0}')
    a_run("stopped").go(8, log_every=2, save_every=4)
    lines = (tmp_path / "stopped" / CURVE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 8]


def test_the_average_is_the_net_at_first_and_runs_behind_it_later(a_run, tmp_path):
    run = a_run("average")
    run.go(5)
    assert torch.equal(run.net.state_dict()["0.weight"], run.average.module.state_dict()["0.weight"])
    run.go(12)
    last, average = run.net.state_dict(), run.average.module.state_dict()
    assert not torch.equal(last["0.weight"], average["0.weight"])
    kept = load_file(tmp_path / "average" / STATE)
    assert torch.equal(kept["average.module.0.weight"], average["0.weight"])


def test_a_step_whose_gradient_overflows_changes_nothing_and_is_told(tmp_path):
    net = nn.Linear(2, 1)

    def loss_of(step):
        return net(torch.ones(1, 2)).square().mean() * (float("inf") if step == 1 else 1.0)

    run = Run(net, loss_of, SCHEDULE, tmp_path)
    run.go(1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run.go(2)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    run.go(3)
    assert not torch.equal(before["weight"], net.weight) and net.weight.isfinite().all()
    lines = [json.loads(line) for line in (tmp_path / CURVE).read_text().splitlines()]
    assert [line["step"] for line in lines if "skipped" in line] == [1]


def test_the_rate_rises_then_falls_to_nothing():
    rates = [SCHEDULE.rate(step) for step in range(13)]
    assert rates[0] < rates[2] and max(rates) == rates[2] and rates[12] == pytest.approx(0)
    assert sorted(rates[2:], reverse=True) == rates[2:]


def a_line(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))


def squares(net, rows):
    return net(rows).square().mean()


def test_batches_that_accumulate_make_the_step_of_one_large_batch(tmp_path):
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    plain = dict(steps=1, warm_up=0, is_bf16=False, average=0.0)
    large, parts = a_line(1), a_line(1)
    Run(large, lambda _: squares(large, rows), Schedule(**plain), tmp_path / "large").go(1)
    halves = rows.chunk(2)
    run = Run(parts, lambda n: squares(parts, halves[n]), Schedule(**plain, accumulate=2), tmp_path / "parts")
    run.go(1)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(large.parameters(), parts.parameters()))


def test_what_is_not_trained_stays_and_is_not_kept_twice(tmp_path):
    net = a_line(2)
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    schedule = Schedule(steps=4, warm_up=0, is_bf16=False, average=0.0)
    Run(net, lambda _: squares(net, torch.ones(2, 4)), schedule, tmp_path).go(2)
    assert torch.equal(net[0].weight, before)
    assert not [name for name in load_file(tmp_path / STATE) if ".0.weight" in name]
    again = a_line(2)
    again[0].requires_grad_(False)
    resumed = Run(again, lambda _: squares(again, torch.ones(2, 4)), schedule, tmp_path)
    assert resumed.step == 2
    assert torch.equal(again[1].weight, net[1].weight)


def test_a_seed_makes_dropout_the_same_in_a_resumed_run(tmp_path):
    def run(name):
        torch.manual_seed(5)
        net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))
        schedule = Schedule(steps=4, warm_up=0, is_bf16=False, average=0.0)
        return Run(net, lambda _: squares(net, torch.ones(3, 4)), schedule, tmp_path / name, seed=7)

    run("whole").go(4)
    run("parts").go(2)
    torch.rand(3)  # whatever else draws in between
    run("parts").go(4)
    whole, parts = (load_file(tmp_path / name / STATE) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
