"""Where views lie: geometry, heads and losses mean what they say."""

import itertools
import math

import numpy as np
import pytest
import torch

from ct3d.models.spatial_ssl import (
    CHUNK,
    HeadConfig,
    SpatialHead,
    chunk_offset,
    chunk_starts,
    cycle_loss,
    gap_loss,
    gap_matrix,
    layout,
    likeness_loss,
    route_loss,
    routes,
    vector_loss,
)
from ct3d.training.corpus import Corpus, Study, as_bytes
from ct3d.training.progressive_masking import Masking
from ct3d.training.views import Layout, Variety, ViewSampler

SMALL = HeadConfig(dim=16, chunk_dim=6, hidden=8, view_dim=8, edge_dim=8)


@pytest.fixture
def places():
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def a_head():
    torch.manual_seed(0)
    return SpatialHead(SMALL)


def test_gaps_are_antisymmetric_and_add_up(places):
    gaps = gap_matrix(places)
    torch.testing.assert_close(gaps[:, 1, 3], places[:, 3] - places[:, 1])
    torch.testing.assert_close(gaps, -gaps.transpose(1, 2))
    assert not torch.diagonal(gaps, dim1=1, dim2=2).any()
    for i, j, k in itertools.permutations(range(5), 3):
        torch.testing.assert_close(gaps[:, i, j] + gaps[:, j, k], gaps[:, i, k])
    assert torch.linalg.matrix_rank(gaps[0, ..., 0], atol=1e-5) <= 2
    torch.testing.assert_close(gap_matrix(places + 7), gaps, atol=1e-5, rtol=1e-5)


def test_a_layout_gives_places_back_up_to_a_shift_and_its_doubt_is_none(places):
    found, doubt = layout(gap_matrix(places))
    torch.testing.assert_close(found, places - places.mean(1, keepdim=True), atol=1e-5, rtol=1e-5)
    assert doubt.max() < 1e-5
    _, doubt = layout(gap_matrix(places) + torch.randn(4, 5, 5, 3))
    assert doubt.min() > 0.1


def test_mirroring_an_axis_turns_the_sign_of_that_component_alone(places):
    turned = places * torch.tensor([1.0, -1.0, 1.0])
    torch.testing.assert_close(gap_matrix(turned), gap_matrix(places) * torch.tensor([1.0, -1.0, 1.0]))


def test_a_body_stored_at_two_spacings_has_the_same_gaps_in_mm():
    still = Variety((4.0, 4.0001), rotation_deg=0, stretch=0, offset_hu=0, gain=0, noise_hu=0)
    found = []
    for spacing in (4.0, 2.0):
        k, j, i = spacing * np.indices((int(192 / spacing),) * 3)  # mm
        study = Study("a", as_bytes(-500 + 2 * k + j + i, np.ones(k.shape, bool)), np.full(3, spacing), False)
        corpus = Corpus([study])
        corpus.body_points = np.random.default_rng(0).integers(8, 40, (1, 99, 3)) * int(4 / spacing)
        sampler = ViewSampler(corpus, variety=still, masking=Masking(), masked_views=0, seed=1)
        found.append(sampler.sample(0, Layout((16, 16, 16), views=3, studies=8), 0.5))
    coarse, fine = found
    inside = (coarse.body > 0.999) & (fine.body > 0.999)
    torch.testing.assert_close(
        coarse.image[inside], fine.image[inside], rtol=0, atol=0.01
    )  # the same anatomy
    gaps = [gap_matrix(each.places_mm) for each in found]
    torch.testing.assert_close(*gaps)
    assert gaps[0].abs().max() > 30


def test_another_order_of_views_is_another_order_of_predictions_and_the_same_losses(a_head):
    f8, order = torch.randn(2, 4, 16, 2, 3, 3), torch.tensor([2, 0, 3, 1])
    truth = gap_matrix(torch.randn(2, 4, 3))
    views = a_head.views(f8)
    edges, gaps = a_head.edges(views), a_head.gaps(views)
    other = a_head.edges(a_head.views(f8[:, order]))
    torch.testing.assert_close(other, edges[:, order][:, :, order])
    there = truth[:, order][:, :, order]
    for loss, value in ((vector_loss, edges), (route_loss, edges), (gap_loss, gaps)):
        torch.testing.assert_close(loss(value[:, order][:, :, order], there), loss(value, truth))
    torch.testing.assert_close(cycle_loss(other), cycle_loss(edges))


def test_predicted_gaps_have_no_bias_and_are_antisymmetric(a_head):
    assert a_head.gap.bias is None
    gaps = a_head.gaps(torch.randn(2, 3, 8))
    torch.testing.assert_close(gaps, -gaps.transpose(1, 2))
    assert not torch.diagonal(gaps, dim1=1, dim2=2).any()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_route_visits_each_view_once(count):
    found = routes(count)
    assert len(found) == count * math.factorial(count - 1)
    assert all(sorted(route) == list(range(count)) for route in found)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_over_points_every_route_telescopes_so_its_squared_loss_is_only_a_multiple(count):
    points, truth = torch.randn(2, count, 3).mul(0.1), torch.randn(2, count, 3).mul(0.1)
    edges, gaps = gap_matrix(points), gap_matrix(truth)
    pairs = [(i, j) for i in range(count) for j in range(count)]
    with_diagonal = torch.stack([edges[:, i, j] - gaps[:, i, j] for i, j in pairs]).abs()
    vectors = torch.where(with_diagonal < 1, 0.5 * with_diagonal.square(), with_diagonal - 0.5).mean()
    torch.testing.assert_close(route_loss(edges, gaps), count / (count - 1) * vectors)
    assert cycle_loss(edges) < 1e-5


def test_edges_with_a_curl_are_seen_by_the_cycles_and_their_gradient_takes_it_away():
    gaps = gap_matrix(torch.randn(1, 3, 3))
    curl = torch.zeros(1, 3, 3, 3)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        curl[0, i, j], curl[0, j, i] = 0.1, -0.1
    edges = (gaps + curl).requires_grad_()
    assert vector_loss(edges, gaps) < 0.01
    before = cycle_loss(edges)
    assert before > 0.2
    before.backward()
    assert cycle_loss(edges.detach() - 0.1 * edges.grad) < before


@pytest.mark.parametrize("view", [(8, 12, 12), (4, 6, 8), (16, 24, 32)])
def test_chunks_stay_in_their_views_and_far_ones_are_farther_apart(view):
    chance = torch.Generator().manual_seed(1)
    toward = torch.randn(500, 3, generator=chance) * 20
    offset, k = chunk_offset(toward, view)
    start = torch.tensor([(side - CHUNK) // 2 for side in view])
    for move in (offset, -offset):
        assert (start + move >= 0).all()
        assert (start + move + CHUNK <= torch.tensor(view)).all()
    near, far = ((toward + sign * 2 * k[:, None] * toward).norm(dim=-1) for sign in (-1, 1))
    assert (near <= far).all()


def test_in_a_view_of_a_chunks_size_nothing_moves_and_no_pair_is_judged():
    offset, k = chunk_offset(torch.tensor([[5.0, 0.0, 3.0]]), (CHUNK,) * 3)
    assert not offset.any()
    assert k.item() == 0
    starts, margins = chunk_starts(torch.tensor([[[0.0, 0, 0], [99, 0, 0]]]), torch.ones(1, 3), (CHUNK,) * 3)
    assert (len(starts), len(margins)) == (0, 0)


def test_axes_are_not_confused_in_a_view_that_is_no_cube():
    centers = torch.tensor([[[0.0, 0, 0], [0, 0, 100.0]]])
    starts, _ = chunk_starts(centers, torch.tensor([[4.0, 4.0, 4.0]]), (6, 8, 12))
    near_first, near_second, far_first, far_second = starts.tolist()
    assert near_first == [0, 0, 1, 2, 8]  # the last chunk along W, toward the other view
    assert near_second == [0, 1, 1, 2, 0]
    assert (far_first, far_second) == ([0, 0, 1, 2, 0], [0, 1, 1, 2, 8])


def test_views_that_overlap_are_left_out():
    centers = torch.tensor([[[0.0, 0, 0], [0, 0, 20.0]]])  # 5 cells apart, views 8 wide
    f4 = torch.randn(1, 2, 6, 8, 8, 8)
    loss, ranked = likeness_loss(SpatialHead(SMALL), f4, centers, torch.full((1, 3), 4.0))
    assert (loss.item(), ranked.item()) == (0, 0)


def test_likeness_equals_chunks_cut_by_hand(a_head):
    f4 = torch.randn(2, 2, 6, 8, 8, 8)
    centers = torch.tensor([[[0.0, 0, 0], [40, 0, 0]], [[0.0, 0, 0], [0, -60, 8]]])
    loss, _ = likeness_loss(a_head, f4, centers, torch.full((2, 3), 4.0))
    by_hand = []
    for b in range(2):
        toward = (centers[b, 1] - centers[b, 0]) / 4
        k = (2 / toward.abs().clamp_min(1e-6)).min()
        move = (k * toward).round().int().tolist()

        def cut(view, sign, b=b, move=move):
            at = [2 + sign * m for m in move]
            part = f4[b, view, :, at[0] : at[0] + 4, at[1] : at[1] + 4, at[2] : at[2] + 4]
            return a_head.chunk(part[None]).flatten()

        near = torch.cosine_similarity(cut(0, 1), cut(1, -1), dim=0)
        far = torch.cosine_similarity(cut(0, -1), cut(1, 1), dim=0)
        margin = 0.2 * (1 + 2 * k - (1 - 2 * k).abs()) * toward.norm() * 4 / 100
        by_hand.append((margin - near + far).clamp_min(0))
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
