"""Besides: in which bands fine cells lie, and which of a chest and its mirror image is which."""

import hashlib
import shutil
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ct3d.cards import cards_folder
from ct3d.errors import InvalidRequest
from ct3d.imaging.volume import Volume
from ct3d.models.side_net import SideNet
from ct3d.models.spatial_ssl import BAND_MM, BANDS, UNIT_MM, band_shares
from ct3d.models.threedme import Features
from ct3d.pipeline.whole_scan import side_margin, whole_scan
from ct3d.training import ship_threedme
from ct3d.training.corpus import Corpus, Study, as_bytes, save
from ct3d.training.loop import Schedule
from ct3d.training.progressive_masking import Masking
from ct3d.training.sides import told, train_sides
from ct3d.training.train_threedme import (
    WEIGHTS,
    Cells,
    Pretrained,
    Recipe,
    Weight,
    bands_loss,
    begin_from,
    config_of,
    losses,
    only,
    sampler_of,
)
from ct3d.training.views import Layout, Variety, ViewSampler

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"dim": 48, "depth": 1, "stem": [8, 12, 24], "window": [3, 3, 3], "decoder_dim": 32}
STILL = Variety((4.0, 4.0001), rotation_deg=0, stretch=0, offset_hu=0, gain=0, noise_hu=0)
CHEST = Layout((16, 32, 32), views=1, studies=2, is_chest=True)
LUNG_SLICES = 12  # of a synthetic chest, from the lowest


def hu_of(number, *, has_chest=True):
    """A synthetic body (K, J, I) of 4 mm: soft tissue, two lungs below, a heart in the left one (low I)."""
    rng = np.random.default_rng(number)
    hu = np.full((36, 40, 48), 40)
    if has_chest:
        front, back, wide = rng.integers(0, 4, 3)
        hu[:LUNG_SLICES, 6 + back : 34 - front, 4:20] = hu[:LUNG_SLICES, 6 + back : 34 - front, 28:44] = -850
        hu[:LUNG_SLICES, 20:32, 10 - wide : 20] = 40
    return hu


def a_study(number, *, has_chest=True, is_mirrored=False):
    hu = hu_of(number, has_chest=has_chest)
    voxels = as_bytes(hu[:, :, ::-1] if is_mirrored else hu, np.ones(hu.shape, bool))
    return Study(f"synthetic/{number}", voxels, np.array([4.0, 4, 4]), False)


@pytest.fixture
def a_corpus():
    return Corpus([a_study(n, has_chest=n == 1) for n in range(3)])


@pytest.fixture
def a_recipe():
    return Recipe(
        seed=1,
        schedule=Schedule(60, learning_rate=2e-3, warm_up=2, is_bf16=False),
        config=SMALL,
        variety=Variety((3.5, 4.5)),
        layouts=(CHEST,),
        masked_views=0,
        weight=Weight(masked=0, spatial=1, bands=1),
    )


def test_a_place_belongs_to_the_bands_about_it_and_beyond_all_to_the_outermost():
    places = torch.tensor([0.0, 0.37, -1.2, 9.0, -9.0])
    shares = band_shares(places)
    torch.testing.assert_close(shares.sum(-1), torch.ones(5))
    middles = (torch.arange(BANDS) - (BANDS - 1) / 2) * BAND_MM / UNIT_MM
    torch.testing.assert_close((shares * middles).sum(-1)[:3], places[:3], atol=0.02, rtol=0)
    assert shares[3].argmax() == BANDS - 1
    assert shares[4].argmax() == 0


def test_views_of_chests_lie_at_levels_of_lungs_and_of_no_other_study(a_corpus):
    assert [len(points) > 0 for points in a_corpus.chest_points] == [False, True, False]
    assert a_corpus.chest_points[1][:, 0].max() < LUNG_SLICES
    sampler = ViewSampler(a_corpus, variety=STILL, masking=Masking(), masked_views=0, seed=0)
    views = sampler.sample(3, replace(CHEST, studies=6), 0.5)
    assert (views.centers_mm[:, 0, 0] < 4 * LUNG_SLICES).all()
    assert len(views.centers_mm[:, 0, 0].unique()) > 2
    assert (views.centers_mm[:, 0, 1:] - views.centers_mm[0, 0, 1:]).abs().max() < 1e-3


def test_chests_that_are_not_there_are_asked_for_in_words(a_corpus):
    none = Corpus([a_study(0, has_chest=False)])
    sampler = ViewSampler(none, variety=STILL, masking=Masking(), masked_views=0, seed=0)
    with pytest.raises(InvalidRequest, match="shows a chest"):
        sampler.sample(0, CHEST, 0.5)


def features_of(views, dim=8):
    """Features with nothing in them, as of an encoder."""
    batch, grid = views.image.shape[0] * views.image.shape[1], [n // 4 for n in views.image.shape[3:]]
    empty = [torch.zeros((batch, dim, *(n // half for n in grid))) for half in (1, 2, 4)]
    spacing = views.spacing_mm.repeat_interleave(views.image.shape[1], 0)
    return Features(torch.zeros(0), *empty, torch.zeros(0), torch.zeros(0), spacing)


def test_bands_are_those_of_the_frame_that_the_points_lie_in(a_corpus):
    sampler = ViewSampler(a_corpus, variety=STILL, masking=Masking(), masked_views=0, seed=0)
    views = sampler.sample(0, Layout((16, 32, 32), views=2, studies=2), 0.5)
    features = features_of(views)
    coarse, fine = (Cells.of(features, views, stride) for stride in (8, 4))
    shift = torch.tensor([0.5, -0.2, 0.1])
    logits = band_shares(fine.places + shift).clamp_min(1e-30).log()
    least = bands_loss(logits, fine, coarse.places + shift, coarse)
    noise = torch.randn(coarse.places.shape, generator=torch.Generator().manual_seed(0))
    noise -= coarse.middle(noise)
    torch.testing.assert_close(bands_loss(logits, fine, coarse.places + shift + noise, coarse), least)
    assert bands_loss(logits, fine, coarse.places + 3 * shift, coarse) > least + 0.1
    elsewhere = replace(views, centers_mm=views.centers_mm + 70)
    moved = [Cells.of(features, elsewhere, stride) for stride in (8, 4)]
    torch.testing.assert_close(bands_loss(logits, moved[1], coarse.places + shift, moved[0]), least)


def test_a_mirrored_cell_lies_where_its_image_does(a_corpus):
    found = []
    for mirror in ((0.0, 0.0, 0.0), (1.0, 1.0, 0.0)):
        sampler = ViewSampler(a_corpus, variety=STILL, masking=Masking(), masked_views=0, seed=0)
        views = sampler.sample(0, Layout((16, 32, 32), views=2, studies=2, mirror_kji=mirror), 0.5)
        grid = 2, 2, 4, 8, 8, 3  # B, V and the fine map
        found.append(Cells.of(features_of(views), views, 4).places.view(grid))
    torch.testing.assert_close(found[1].flip(2, 3), found[0], atol=1e-4, rtol=0)


def test_one_objective_alone_leaves_the_rest_of_a_recipe(a_recipe):
    alone = only(replace(a_recipe, weight=Weight(bands=1)), "masked")
    assert (alone.weight.masked, alone.weight.spatial) == (1.0, 0.0)
    assert replace(alone, weight=a_recipe.weight) == a_recipe


def test_bands_shape_the_fine_map_and_leave_the_points_alone(a_corpus, a_recipe):
    net = Pretrained(config_of(a_recipe))
    views = sampler_of(a_recipe, a_corpus).sample(0, CHEST, 0.5)
    weight = Weight(0, 1, *[0] * 5, cells=0, bands=1)
    losses(net, views, replace(a_recipe, weight=weight))["spatial"].backward()
    assert net.spatial.band.weight.grad.abs().sum() > 0
    assert next(net.encoder.stem.parameters()).grad.abs().sum() > 0
    assert not net.spatial.point.weight.grad.abs().sum()


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_sides_are_learned_and_told_of_chests_never_seen_through_the_products_own_look(is_mirrored):
    chests = Corpus([a_study(n, is_mirrored=is_mirrored) for n in range(6)])
    net = train_sides(chests, steps=80, layout=replace(CHEST, shape_kji=(16, 48, 64), studies=4))
    model = SimpleNamespace(sides=net)
    for number in (101, 102, 103):
        hu = np.pad(hu_of(number), 2, constant_values=-1000).astype(np.int16)
        both = (hu, np.ascontiguousarray(hu[:, :, ::-1]))
        found = [side_margin(model, whole_scan(Volume(each, np.diag([4.0, 4, 4, 1])))) for each in both]
        assert found[0] * (-1 if is_mirrored else 1) > 0.1
        assert found[1] == pytest.approx(-found[0], abs=0.01)
    assert all((value > 0) != is_mirrored for value in told(net, [a_study(104)]).values())


def test_without_a_chest_no_sides_can_be_learned():
    with pytest.raises(InvalidRequest, match="shows a chest"):
        train_sides(Corpus([a_study(0, has_chest=False)]))


def test_weights_from_before_there_were_these_heads_can_be_gone_on_from(a_recipe):
    net, older = (Pretrained(config_of(a_recipe)) for _ in range(2))
    given = {
        k: v for k, v in older.state_dict().items() if not k.startswith(("spatial.band", "spatial.side"))
    }
    begin_from(net, given | {"sides.tell.weight": torch.zeros(1)})
    assert torch.equal(net.spatial.point.weight, older.spatial.point.weight)
    del given["spatial.point.weight"]
    with pytest.raises(RuntimeError, match="point"):
        begin_from(net, given)


def test_the_net_for_sides_says_the_opposite_of_the_mirror_image():
    net, looks = SideNet(), torch.randn(3, 1, 16, 24, 32)
    assert net(looks).shape == (3,)
    torch.testing.assert_close(net.margins(looks.flip(-1)), -net.margins(looks))


def test_what_is_shipped_is_one_file_in_16_bits_that_its_card_knows(a_recipe, tmp_path, monkeypatch):
    net = Pretrained(config_of(a_recipe))
    run, weights, cards = (tmp_path / name for name in ("run", "weights", "cards"))
    for folder in (run, weights, cards):
        folder.mkdir()
    save_file(net.state_dict(), run / WEIGHTS)
    for name in ("curve.jsonl", "recipe.json"):
        (run / name).write_text(name)
    save([a_study(n) for n in range(2)], tmp_path / "corpus.npz")
    shutil.copy(cards_folder() / "threedme_tiny.toml", cards)
    monkeypatch.setattr(ship_threedme, "shipped_weights_folder", lambda: weights)
    monkeypatch.setattr(ship_threedme, "cards_folder", lambda: cards)
    monkeypatch.setattr(ship_threedme, "train_sides", lambda _: SideNet())
    words = ["--run", run, "--corpus", tmp_path / "corpus.npz", "--version", "9.9.9"]
    assert ship_threedme.main([str(each) for each in words]) == 0
    shipped = weights / "threedme_tiny-9.9.9.safetensors"
    given = load_file(shipped)
    assert {each.dtype for each in given.values()} == {torch.float16}
    assert {name.split(".")[0] for name in given} == {"encoder", "decoder", "spatial", "sides"}
    told = tomllib.loads((cards / "threedme_tiny.toml").read_text("utf-8"))["weights"]
    assert told["file"] == shipped.name
    assert told["sha256"] == hashlib.sha256(shipped.read_bytes()).hexdigest()
    assert shipped.with_suffix(".curve.jsonl").read_text() == "curve.jsonl"
    assert shipped.with_suffix(".recipe.json").is_file()
