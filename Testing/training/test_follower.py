"""The running mean of the encoder that sees all but the first view, for who wants the author's way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_pretraining import SMALL, a_study, stopped
from torch import nn

from ct3d.models.spatial_ssl import Follower, momentum
from ct3d.training.corpus import Corpus
from ct3d.training.loop import Schedule
from ct3d.training.train_threedme import (
    WEIGHTS,
    Pretrained,
    Recipe,
    Weight,
    config_of,
    losses,
    sampler_of,
    step_loss,
    train,
)
from ct3d.training.views import Layout

RECIPE = Recipe(
    seed=3,
    schedule=Schedule(4, warm_up=2, is_bf16=False, average=0.5, average_from=0.2),
    config=SMALL,
    layouts=(Layout((32, 32, 32), views=3, studies=2),),
    aux_is_ema=True,
    evaluate_every=2,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def a_net():
    torch.manual_seed(0)
    return Pretrained(config_of(RECIPE), aux_is_ema=True)


@pytest.fixture(scope="module")
def a_sampler():
    return sampler_of(RECIPE, Corpus([a_study(shape=(72, 56, 60))]))


def test_it_goes_all_the_way_at_first_half_of_it_at_step_100_and_never_stands_still():
    assert [momentum(step) for step in (0, 100, 300, 10**6, 10**9)] == [1, 0.5, 0.25, 1e-4, 1e-4]


def test_it_copies_at_the_first_step_then_follows_and_buffers_become_its():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    after = Follower(net)
    nn.init.constant_(net[0].weight, 4.0)
    after.follow(net, 0)
    assert torch.equal(after.net[0].weight, net[0].weight)
    nn.init.constant_(net[0].weight, 6.0)
    net[1].running_mean += 7
    after.follow(net, 100)
    assert (after.net[0].weight == 5).all()
    assert torch.equal(after.net[1].running_mean, net[1].running_mean)


def test_it_gives_what_the_net_gives_but_has_no_gradient_and_nothing_to_train():
    net = nn.Linear(2, 3)
    after, x = Follower(net), torch.randn(4, 2, requires_grad=True)
    torch.testing.assert_close(after(x), net(x))
    assert not after(x).requires_grad
    assert list(after.parameters()) == []
    assert after.state_dict().keys() == {"net.weight", "net.bias"}


def test_the_first_view_trains_the_encoder_and_the_others_dont(a_net, a_sampler):
    views = a_sampler.sample(0, RECIPE.layouts[0], 0.5)
    f8 = a_net(views).f8.unflatten(0, (2, 3))
    others, first = (
        torch.autograd.grad(part.sum(), a_net.encoder.patches.weight, allow_unused=True, retain_graph=True)[0]
        for part in (f8[:, 1:], f8[:, 0])
    )
    assert others is None or not others.any()
    assert first.abs().sum() > 0


def test_in_evaluation_the_encoder_sees_all_views(a_net, a_sampler):
    nn.init.zeros_(a_net.aux.net.patches.weight)
    views = a_sampler.sample(0, RECIPE.layouts[0], 0.5)
    with torch.no_grad():
        here = a_net.train()(views).f8.unflatten(0, (2, 3))
        there = a_net.eval()(views).f8.unflatten(0, (2, 3))
    torch.testing.assert_close(here[:, 0], there[:, 0])
    assert not torch.allclose(here[:, 1:], there[:, 1:])


def test_the_order_of_views_is_the_same_to_the_loss_only_while_mean_and_encoder_are_one(a_net, a_sampler):
    recipe = replace(RECIPE, weight=Weight(masked=0), masked_views=0)
    views = sampler_of(recipe, a_sampler.corpus).sample(0, RECIPE.layouts[0], 0.5)
    order = np.array([2, 0, 1])
    turned = {name: getattr(views, name)[:, order] for name in ("image", "body", "hidden", "centers_mm")}
    turned = replace(views, **turned)
    plain = Pretrained(config_of(RECIPE))
    plain.load_state_dict(a_net.state_dict(), strict=False)
    with torch.no_grad():
        first, second, without = (
            losses(net, each, recipe)["spatial"].item()
            for net, each in ((a_net, views), (a_net, turned), (plain, views))
        )
        assert first == pytest.approx(second, abs=1e-5)
        assert first == pytest.approx(without, abs=1e-5)
        nn.init.zeros_(a_net.aux.net.join.weight)
        first, second = (losses(a_net, each, recipe)["spatial"].item() for each in (views, turned))
    assert abs(first - second) > 1e-4


def test_a_step_lets_it_follow_before_it_looks(a_net, a_sampler):
    nn.init.ones_(a_net.encoder.patches.bias)
    nn.init.zeros_(a_net.aux.net.patches.bias)
    for step, value in ((300, 0.25), (0, 1.0)):
        step_loss(a_net, a_sampler, RECIPE, step)
        assert (a_net.aux.net.patches.bias == value).all()


def test_a_stopped_run_keeps_it_and_the_weights_that_are_shipped_dont_hold_it(tmp_path):
    own, held_out = Corpus([a_study()]), Corpus([a_study("other/1")])
    train(RECIPE, own, held_out, tmp_path / "whole")
    stopped(RECIPE, own, held_out, tmp_path / "parts", 2)
    train(RECIPE, own, held_out, tmp_path / "parts")
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert first.keys() == Pretrained(config_of(RECIPE)).state_dict().keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
