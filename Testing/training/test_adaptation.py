"""Adaptation: the encoder stays as it was, what is added starts from it, and small heads learn from it."""

import copy

import pytest
import torch
import torch.nn.functional as F

from ct3d.models.adaptation import (
    BUDGET,
    AttentionPool,
    LandmarkHead,
    PyramidHead,
    add_adapters,
    add_lora,
    freeze,
    merge_lora,
    nearest_prototype,
    prototypes,
    trained_share,
)
from ct3d.models.heatmaps import peaks
from ct3d.models.threedme import Config, Encoder, Features
from ct3d.training.losses import place_loss

SMALL = Config(dim=48, depth=1, stem=(8, 12, 24), window=(3, 3, 3), decoder_dim=32)
SIZE = (32, 48, 32)
SPACING_MM = torch.full((1, 3), 3.0)
MAPS = ("f2", "f4", "f8", "f16", "tokens", "z")


@pytest.fixture
def an_encoder():
    torch.manual_seed(0)
    return Encoder(SMALL).eval()


@pytest.fixture
def a_volume():
    return torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def balls():
    """Six volumes with a bright ball each, its middle in voxels, and its mask at stride 2."""
    centers = torch.tensor(
        [[9.5, 14, 14], [22, 33, 18], [13, 25, 20], [20, 18, 11], [11, 30, 15], [21, 21, 17.5]]
    )
    volumes = torch.stack([ball(each) for each in centers])
    return volumes, centers, (F.avg_pool3d(volumes, 2)[:, 0] > -0.2).long()


def ball(center):
    axes = torch.meshgrid(*(torch.arange(n) for n in SIZE), indexing="ij")
    return torch.where((torch.stack(axes, -1) - center).norm(dim=-1) < 6.5, 0.3, -0.7)[None]


def seen(encoder, volume):
    with torch.no_grad():
        return encoder.encode(volume, SPACING_MM.expand(len(volume), 3))


def some(features, rows):
    return Features(*(each[rows] for each in vars(features).values()))


def learn(head, loss_of, steps=60, rate=1e-2):
    optimizer = torch.optim.Adam(head.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in head.parameters())
    head.eval()


def perturbed(encoder):
    """The encoder with what was added as after training."""
    for each in encoder.parameters():
        if each.requires_grad:
            torch.nn.init.normal_(each, std=0.05)
    return encoder


@pytest.mark.parametrize("add", [add_lora, add_adapters])
def test_what_is_added_changes_nothing_until_it_has_learned(an_encoder, a_volume, add):
    before = seen(freeze(an_encoder), a_volume)
    same = seen(add(an_encoder), a_volume)
    assert all(torch.equal(getattr(before, name), getattr(same, name)) for name in MAPS)
    other = seen(perturbed(an_encoder), a_volume)
    assert all((getattr(other, name) - getattr(before, name)).abs().max() > 1e-3 for name in MAPS[1:])


def test_lora_moves_queries_keys_and_values_each_by_its_own_part(an_encoder):
    plain = an_encoder.blocks[0].attention.qkv
    lora = add_lora(an_encoder).blocks[0].attention.qkv
    x = torch.randn(5, 48)
    torch.nn.init.normal_(lora.b[1].data)
    moved = (lora(x) - plain(x)).view(5, 3, 48).abs().amax((0, 2))
    assert moved[1] > 0.1
    assert moved[0] == moved[2] == 0


def test_merged_lora_gives_the_same_and_loads_into_a_plain_encoder(an_encoder, a_volume):
    perturbed(add_lora(an_encoder))
    before = seen(an_encoder, a_volume)
    plain = Encoder(SMALL).eval()
    plain.load_state_dict(merge_lora(an_encoder).state_dict())
    after = seen(plain, a_volume)
    for name in MAPS:
        torch.testing.assert_close(getattr(after, name), getattr(before, name), atol=1e-5, rtol=1e-5)
    assert not any(each.requires_grad for each in an_encoder.parameters())


@pytest.mark.parametrize("add", [freeze, add_lora, add_adapters])
def test_the_encoders_own_weights_are_the_same_bytes_after_training(an_encoder, a_volume, add):
    before = copy.deepcopy(an_encoder.state_dict())
    add(an_encoder)
    head = AttentionPool(48, 2)
    added = [each for each in an_encoder.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW([*head.parameters(), *added], 1e-2, weight_decay=0.1)
    for _ in range(3):
        tokens = an_encoder.encode(a_volume, SPACING_MM.expand(2, 3)).tokens
        optimizer.zero_grad()
        F.cross_entropy(head(tokens), torch.tensor([0, 1])).backward()
        optimizer.step()
    assert bool(added) == (add is not freeze)
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in added)
    after = {name.replace(".base.", "."): value for name, value in an_encoder.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("add", [freeze, add_lora, add_adapters])
@pytest.mark.parametrize(
    "head", [AttentionPool(192, 11), PyramidHead(Config(), 8), LandmarkHead(Config(), 11)]
)
def test_whatever_is_trained_is_at_most_a_twentieth_of_encoder_and_head(add, head):
    assert 0 < trained_share(add(Encoder(Config())), head) <= BUDGET
    assert sum(each.numel() for each in head.parameters()) < 400_000


def test_lora_and_adapters_of_the_tiny_encoder_have_55_thousand_numbers_each():
    counts = [
        sum(each.numel() for each in add(Encoder(Config())).parameters() if each.requires_grad)
        for add in (add_lora, add_adapters)
    ]
    assert counts == [6 * 3 * 2 * 8 * 192, 6 * (2 * 24 * 192 + 24 + 192)]


def test_a_pyramid_head_learns_to_draw_a_ball_from_four_others(an_encoder, balls):
    volumes, _, masks = balls
    features = seen(freeze(an_encoder), volumes)
    own, head = some(features, slice(4)), PyramidHead(SMALL, 2, width=16)
    assert head(own).shape == (4, 2, 16, 24, 16)
    weight = torch.tensor([1.0, 10])
    learn(head, lambda: F.cross_entropy(head(own), masks[:4], weight))
    with torch.no_grad():
        drawn = head(some(features, slice(4, 6))).argmax(1)
    dice = 2 * (drawn * masks[4:]).sum() / (drawn.sum() + masks[4:].sum())
    assert dice > 0.8


def test_a_landmark_head_learns_where_a_ball_lies_and_whether_there_is_one(an_encoder, balls):
    volumes, centers, _ = balls
    volumes = torch.cat([volumes, volumes.amin((2, 3, 4), keepdim=True).expand_as(volumes)])
    features = seen(freeze(an_encoder), volumes)
    cells = ((centers - 1.5) / 4)[:, None]
    states = torch.ones(4, 1, dtype=torch.int8)
    there = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])[:, None]
    rows, head = [0, 1, 2, 3, 6, 7, 8, 9], LandmarkHead(SMALL, 1, width=16)

    def loss():
        maps, presence = head(some(features, rows))
        return place_loss(maps[:4], cells[:4], states, 4.0) + F.binary_cross_entropy_with_logits(
            presence, there
        )

    learn(head, loss)
    with torch.no_grad():
        maps, presence = head(some(features, [4, 5, 10, 11]))
    assert maps.shape == (4, 1, 8, 12, 8)
    found = 4 * peaks(maps[:2]).points_kji[:, 0] + 1.5
    assert (found - centers[4:]).norm(dim=-1).max() < 4  # voxels: one cell
    assert ((presence[:, 0] > 0) == torch.tensor([True, True, False, False])).all()


def test_presence_is_judged_at_the_peaks_of_maps_that_it_doesnt_raise(an_encoder, a_volume):
    head = LandmarkHead(SMALL, 3)
    torch.nn.init.normal_(head.judge)
    head(seen(an_encoder, a_volume))[1].sum().backward()
    assert head.maps.weight.grad is None
    assert head.judge.grad[:, -1].abs().min() > 0


def test_an_attention_pool_learns_in_which_half_a_ball_lies(an_encoder):
    chance = torch.Generator().manual_seed(4)
    is_far = torch.arange(48) % 2
    centers = 8 + 16 * torch.rand(48, 3, generator=chance) + torch.tensor([0.0, 16, 0]) * is_far[:, None]
    volumes = torch.stack([ball(each) for each in centers])
    tokens, head = seen(freeze(an_encoder), volumes).tokens, AttentionPool(48, 2)
    learn(head, lambda: F.cross_entropy(head(tokens[:32]), is_far[:32]))
    with torch.no_grad():
        told = head(tokens[32:]).argmax(-1)
    assert (told == is_far[32:]).float().mean() > 0.9


def test_an_attention_pool_doesnt_care_about_the_order_of_tokens():
    head, tokens = AttentionPool(48, 4), torch.randn(3, 20, 48)
    torch.testing.assert_close(head(tokens), head(tokens[:, torch.randperm(20)]), atol=1e-6, rtol=1e-5)


def test_prototypes_are_means_of_known_cells_and_a_class_without_any_is_never_told():
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    labels = torch.tensor([0, 0, 1, 2, 1, -1, 2, 0]).view(2, 1, 2, 2)
    features = (3 * directions[labels.clamp_min(0)]).movedim(-1, 1)
    features[1, :, 0, 0, 1] = 100.0  # not known, so it counts for nothing
    means = prototypes(features, labels, 4)
    torch.testing.assert_close(means[:3], 3 * directions)
    assert means[3].isnan().all()
    told = nearest_prototype(0.1 * features, means)  # size doesn't matter
    assert (told == labels)[labels >= 0].all()
