"""Pretraining: views know their place, a run resumes bit for bit, and what can't be known isn't learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ct3d.errors import InvalidRequest
from ct3d.training.corpus import Corpus, Study, as_bytes, from_bytes, load, save
from ct3d.training.loop import Schedule
from ct3d.training.progressive_masking import Masking
from ct3d.training.train_threedme import WEIGHTS, Recipe, Weight, sampler_of, spatial_scores, train
from ct3d.training.views import Layout, Variety, ViewSampler

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"dim": 48, "depth": 1, "stem": [8, 12, 24], "window": [3, 3, 3], "decoder_dim": 32}
STILL = Variety((4.0, 4.0001), rotation_deg=0, stretch=0, offset_hu=0, gain=0, noise_hu=0)
LAYOUT = Layout((16, 16, 16), views=3, studies=2)


def a_study(name="synthetic/0", slope=(2.0, 0.0, 0.0), shape=(48, 40, 44)):
    """A synthetic body whose voxels say where they are: HU grow along the axes by `slope` a voxel."""
    k, j, i = np.indices(shape)
    hu = -300 + slope[0] * k + slope[1] * j + slope[2] * i
    return Study(name, as_bytes(hu, np.ones(hu.shape, bool)), np.array([4.0, 4, 4]), False)


@pytest.fixture
def a_recipe():
    return Recipe(
        seed=3,
        schedule=Schedule(6, warm_up=2, is_bf16=False, average=0.5, average_from=0.2),
        config=SMALL,
        layouts=(replace(LAYOUT, share=0.6), Layout((32, 32, 32), views=1, studies=2, share=0.4)),
        weight=Weight(bands=1.0),
        evaluate_every=3,
    )


def test_bytes_keep_hu_to_four_and_tell_what_is_no_body():
    hu = np.array([[[-1200.0, -1000, -3, 0, 41, 1000, 3000, 50]]])
    body = np.ones(hu.shape, bool)
    body[..., -1] = False
    back = 1000 * from_bytes(torch.from_numpy(as_bytes(hu, body)))
    np.testing.assert_allclose(back[0, 0], [-1000, -1000, -3, 0, 41, 1000, 1000, -1000], atol=4)


def test_a_corpus_survives_its_file_and_another_file_is_refused(tmp_path):
    study = a_study()
    save([study], tmp_path / "corpus.npz")
    again = load(tmp_path / "corpus.npz")[0]
    assert (again.id, again.is_held_out) == (study.id, False)
    assert (again.voxels == study.voxels).all()
    (tmp_path / "other.npz").write_bytes(b"no archive")
    with pytest.raises(InvalidRequest, match="build_corpus"):
        load(tmp_path / "other.npz")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_a_views_place_is_where_its_voxels_come_from_mirrored_or_not(axis, mirror):
    slope = np.eye(3)[axis] * 4
    sampler = ViewSampler(
        Corpus([a_study(slope=slope)]), variety=STILL, masking=Masking(), masked_views=1, seed=1
    )
    chances = [0.0, 0.0, 0.0]
    chances[axis] = mirror
    views = sampler.sample(0, replace(LAYOUT, studies=8, mirror_kji=tuple(chances)), 0.5)
    assert (views.signs[:, axis] == (-1 if mirror else 1)).all()
    inside = (views.body.flatten(2) > 0.999).all(-1)
    assert inside.any()
    seen_hu = 1000 * views.image.flatten(2).mean(-1)
    told_hu = -300 + views.places_mm[..., axis] / 4 * 4  # 4 HU a voxel of 4 mm
    np.testing.assert_allclose(seen_hu[inside], told_hu[inside], atol=4)
    step = views.image.diff(dim=3 + axis).flatten(2).median(-1).values[inside]  # along the view's own axis
    assert (step.sign() == (-1 if mirror else 1)).all()


def test_views_lie_in_the_body_and_half_a_view_apart_where_they_can():
    sampler = ViewSampler(Corpus([a_study()]), variety=STILL, masking=Masking(), masked_views=1, seed=2)
    views = sampler.sample(0, replace(LAYOUT, studies=16), 0.5)
    assert (views.body.flatten(2).amax(-1) > 0.999).all()
    for i, j in ((0, 1), (1, 2), (0, 2)):
        apart = (views.centers_mm[:, i] - views.centers_mm[:, j]).abs() / views.spacing_mm
        assert (apart.amax(-1) >= 8).all()


def test_the_first_view_alone_is_hidden_in_part_and_a_step_is_the_same_each_time():
    sampler = ViewSampler(Corpus([a_study()]), variety=Variety(), masking=Masking(), masked_views=1, seed=2)
    first, second = (sampler.sample(5, LAYOUT, 0.5) for _ in range(2))
    assert first.hidden[:, 0].any()
    assert not first.hidden[:, 1:].any()
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.hidden, second.hidden)
    assert not torch.equal(first.image, sampler.sample(6, LAYOUT, 0.5).image)


def test_a_run_that_was_stopped_gives_the_same_weights_bit_for_bit(a_recipe, tmp_path):
    own, held_out = Corpus([a_study(), a_study("synthetic/1", (0, 2, 1))]), Corpus([a_study("other/2")])
    train(a_recipe, own, held_out, tmp_path / "whole")
    half = replace(a_recipe, schedule=replace(a_recipe.schedule))
    stopped(half, own, held_out, tmp_path / "parts", 3)
    train(a_recipe, own, held_out, tmp_path / "parts")
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def stopped(recipe, own, held_out, out, step):
    """A run that ends at a step, as if the machine had gone away."""
    from ct3d.training import train_threedme

    class Gone(Exception):
        pass

    loss = train_threedme.step_loss

    def until(net, sampler, recipe, n):
        if n == step:
            raise Gone
        return loss(net, sampler, recipe, n)

    train_threedme.step_loss = until
    try:
        with pytest.raises(Gone):
            train(recipe, own, held_out, out)
    finally:
        train_threedme.step_loss = loss


def test_a_ramp_along_one_axis_teaches_that_axis_and_no_other(tmp_path):
    recipe = Recipe(
        seed=1,
        schedule=Schedule(
            200, learning_rate=3e-3, warm_up=10, is_bf16=False, average=0.9, average_from=0.5, weight_decay=0
        ),
        config=SMALL,
        variety=replace(STILL, spacing_mm=(4.0, 4.0001)),
        layouts=(replace(LAYOUT, studies=2),),
        masked_views=0,
        weight=Weight(masked=0, spatial=1, gap=0, likeness=0),
        evaluate_every=200,
    )
    own = Corpus([a_study(slope=(14, 0, 0), shape=(80, 80, 80))])
    among = own.body_points[0]
    inner = among[((among >= 12) & (among < 68)).all(-1)]  # a rim of the body would tell the other axes
    own.body_points = inner[None]
    net = train(recipe, own, own, tmp_path).eval()
    views = sampler_of(recipe, own).sample(1 << 20, replace(LAYOUT, studies=24), 1.0)
    with torch.no_grad():
        points = net.spatial.points(net.spatial.views(net(views).f8)).view(24, 3, 3)
    truth = views.places_mm / 100
    known = [r_squared(points[..., axis], truth[..., axis]) for axis in range(3)]
    assert known[0] > 0.99
    assert max(known[1:]) < 0.1
    others = r_squared(points[..., 0], truth[torch.randperm(24), ..., 0])
    assert others < 0.3  # with targets of other studies nothing is known


def r_squared(found, truth):
    found, truth = (each - each.mean(1, keepdim=True) for each in (found, truth))
    return 1 - ((found - truth).square().sum() / truth.square().sum()).item()


def test_scores_of_perfect_edges_are_zero():
    truth = torch.randn(5, 3, 3)
    edges = truth[:, None] - truth[:, :, None]
    scores = spatial_scores(edges, truth, truth)
    assert all(abs(value) < 0.05 for value in scores.values())
