import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ct3d.training import State
from ct3d.training.anchors import anchor_loss, anchor_positives, near_cells, reference_proposals
from ct3d.training.losses import heatmap_loss, heatmap_target, place_loss

RADIUS = 4.0
SHAPE = (14, 12, 10)
UNKNOWN, MISSING, PRESENT = State.UNKNOWN, State.MISSING, State.PRESENT


def states(*values) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.int8)


@pytest.fixture
def some_points():
    return torch.tensor([[[6.3, 5.1, 4.8], [2.0, 9.7, 7.2], [11.0, 3.0, 5.0]]])


@pytest.fixture
def some_maps():
    random = torch.Generator().manual_seed(0)
    return (torch.randn((1, 3, *SHAPE), generator=random) - 1).requires_grad_()


def gradient(loss: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, of)[0]


def test_the_target_is_two_at_the_landmark_and_minus_one_beyond_the_radius(some_points):
    target = heatmap_target(some_points.round(), SHAPE, RADIUS)
    assert target[0, 2, 11, 3, 5] == 2
    assert_close(target[0, 2, 7, 3, 5], torch.tensor(2 * np.exp(-5.0), dtype=torch.float32))  # d = R
    assert (target[0, 2, :7] == -1).all()
    assert ((target == -1) | (target > 0.0134)).all()


def test_a_missing_landmark_has_a_map_of_background():
    points = torch.tensor([[[-1000.0] * 3, [torch.nan] * 3]])
    assert (heatmap_target(points, SHAPE, RADIUS) == -1).all()


def test_the_loss_is_that_of_every_landmark_written_out(some_maps, some_points):
    target = heatmap_target(some_points, SHAPE, RADIUS)
    terms = []
    for values, wanted in zip(some_maps[0], target[0]):
        positive = wanted >= 0
        hardest = values[~positive].sort(descending=True).values[: int(positive.sum())]
        terms.append(
            F.smooth_l1_loss(values[positive], wanted[positive])
            + F.smooth_l1_loss(hardest, torch.full_like(hardest, -1.0))
        )
    missing = some_maps[0, 0].flatten().sort(descending=True).values[: int(RADIUS**3 / 8)]
    terms[0] = F.smooth_l1_loss(missing, torch.full_like(missing, -1.0))
    loss = heatmap_loss(some_maps, some_points, states(MISSING, PRESENT, PRESENT), RADIUS)
    assert_close(loss, torch.stack(terms).mean())


def test_an_unknown_landmark_gets_no_gradient_at_all_and_does_not_count(some_maps, some_points):
    some_points[0, 1] = torch.nan
    masked = heatmap_loss(some_maps, some_points, states(PRESENT, UNKNOWN, MISSING), RADIUS)
    assert (gradient(masked, some_maps)[0, 1] == 0).all()
    alone = heatmap_loss(some_maps[:, ::2], some_points[:, ::2], states(PRESENT, MISSING), RADIUS)
    assert_close(masked, alone)


def test_a_batch_of_which_nothing_is_known_has_a_loss_of_zero_and_no_gradient(some_maps, some_points):
    loss = heatmap_loss(some_maps, some_points, states(UNKNOWN, UNKNOWN, UNKNOWN), RADIUS)
    assert loss == 0
    assert (gradient(loss, some_maps) == 0).all()


def test_a_missing_landmark_is_pushed_down_where_it_is_answered_loudest(some_maps, some_points):
    count = int(RADIUS**3 / 8)
    loss = heatmap_loss(some_maps, some_points, states(MISSING, UNKNOWN, UNKNOWN), RADIUS)
    pushed = gradient(loss, some_maps)[0, 0].flatten() > 0
    assert pushed.sum() == count
    assert pushed.nonzero().flatten().tolist() == sorted(
        some_maps[0, 0].flatten().topk(count).indices.tolist()
    )


def test_hard_negatives_are_never_voxels_of_the_target(some_maps, some_points):
    with torch.no_grad():
        some_maps += 10 * (heatmap_target(some_points, SHAPE, RADIUS) >= 0)  # loudest where it should be
    loss = heatmap_loss(some_maps, some_points, states(PRESENT, PRESENT, PRESENT), RADIUS)
    is_positive = heatmap_target(some_points, SHAPE, RADIUS) >= 0
    pull = gradient(loss, some_maps)
    assert_close(pull[is_positive].sum(), torch.tensor(1.0))  # each voxel's share of three means, once
    assert (pull[~is_positive] != 0).sum() <= is_positive.sum()


def test_a_perfect_net_has_no_loss(some_points):
    perfect = heatmap_target(some_points, SHAPE, RADIUS)
    assert heatmap_loss(perfect, some_points, states(PRESENT, PRESENT, PRESENT), RADIUS) == 0


def test_a_landmark_at_a_corner_or_just_outside_is_learnt_from_what_is_seen_of_it():
    points = torch.tensor([[[0.0, 0.0, 0.0], [-2.0, 5.0, 5.0], [30.0, 5.0, 5.0]]])
    perfect = heatmap_target(points, SHAPE, RADIUS)
    assert (perfect[0, 1] >= 0).any()
    assert (perfect[0, 2] == -1).all()
    assert heatmap_loss(perfect, points, states(PRESENT, PRESENT, PRESENT), RADIUS) == 0


def test_a_sphere_that_fills_the_whole_map_leaves_no_negatives_and_no_nan():
    points = torch.full((1, 1, 3), 1.0)
    maps = torch.zeros((1, 1, 3, 3, 3), requires_grad=True)
    loss = heatmap_loss(maps, points, states(PRESENT), RADIUS)
    assert loss > 0
    assert gradient(loss, maps).isfinite().all()


def test_every_sample_of_a_batch_counts_by_its_own_states(some_maps, some_points):
    maps, points = torch.cat([some_maps, some_maps + 1]), torch.cat([some_points, some_points.flip(1)])
    of_both = torch.cat([states(PRESENT, UNKNOWN, MISSING), states(MISSING, PRESENT, PRESENT)])
    parts = [heatmap_loss(maps[b : b + 1], points[b : b + 1], of_both[b : b + 1], RADIUS) for b in (0, 1)]
    assert_close(heatmap_loss(maps, points, of_both, RADIUS), (2 * parts[0] + 3 * parts[1]) / 5)


def test_half_precision_maps_give_a_loss_in_single_precision(some_maps, some_points):
    loss = heatmap_loss(some_maps.bfloat16(), some_points, states(PRESENT, MISSING, PRESENT), RADIUS)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    "given",
    [
        torch.ones((1, 3), dtype=torch.bool),
        torch.ones((1, 3)),
        torch.ones((1, 2), dtype=torch.int8),
        states(2, 0, 1),
    ],
)
def test_states_that_could_be_misread_are_refused(some_maps, some_points, given):
    with pytest.raises(ValueError, match=r"[Ss]tates"):
        heatmap_loss(some_maps, some_points, given, RADIUS)


def test_a_present_landmark_without_a_place_is_refused(some_maps, some_points):
    some_points[0, 1] = torch.nan
    with pytest.raises(ValueError, match="finite place"):
        heatmap_loss(some_maps, some_points, states(PRESENT, PRESENT, PRESENT), RADIUS)


def test_the_loss_of_a_training_window_takes_a_small_part_of_a_second():
    maps = torch.randn((1, 11, 80, 64, 64), requires_grad=True)
    points = torch.rand((1, 11, 3)) * torch.tensor([80.0, 64.0, 64.0])
    given = torch.ones((1, 11), dtype=torch.int8)
    started = time.process_time()
    heatmap_loss(maps, points, given, 8.0).backward()
    assert time.process_time() - started < 0.5  # measured: 0.02


def test_the_place_loss_is_the_cross_entropy_written_out(some_maps, some_points):
    loss = place_loss(some_maps, some_points, states(PRESENT, UNKNOWN, PRESENT), RADIUS)
    sigma = RADIUS * (0.2 / 24) ** 0.5
    cells = torch.stack(torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij"), -1)
    terms = []
    for n in (0, 2):
        target = torch.exp(-((cells - some_points[0, n]) ** 2).sum(-1) / (2 * sigma**2))
        chances = torch.log_softmax(6 * some_maps[0, n].flatten(), 0)
        terms.append(-(target / target.sum()).flatten() @ chances)
    assert_close(loss, sum(terms) / 2)


def test_the_place_loss_is_least_at_the_perfect_map(some_points):
    perfect = heatmap_target(some_points, SHAPE, RADIUS).requires_grad_()
    loss = place_loss(perfect, some_points, states(PRESENT, PRESENT, PRESENT), RADIUS)
    moved = place_loss(perfect.roll(1, 2), some_points, states(PRESENT, PRESENT, PRESENT), RADIUS)
    flat = place_loss(perfect * 0, some_points, states(PRESENT, PRESENT, PRESENT), RADIUS)
    assert loss < moved and loss < flat
    assert gradient(loss, perfect).abs().max() < 0.6  # of the 6 that a wrong voxel would get


def test_missing_and_unknown_landmarks_take_no_part_in_the_place_loss(some_maps, some_points):
    given = states(PRESENT, MISSING, UNKNOWN)
    slope = gradient(place_loss(some_maps, some_points, given, RADIUS), some_maps)
    assert slope[0, 0].abs().max() > 0 and not slope[0, 1:].any()
    none = place_loss(some_maps, some_points, states(MISSING, MISSING, UNKNOWN), RADIUS)
    assert none == 0 and not gradient(none, some_maps).any()


def test_cells_near_a_landmark_are_a_cube_without_its_rim():
    assert near_cells(torch.tensor([2.0, 0.4, 3.0]), (5, 5, 4), 1.0).tolist() == [[2, 0, 3], [2, 1, 3]]
    assert near_cells(torch.tensor([2.5, 1.0, 1.0]), (5, 5, 4), 0.5).tolist() == []  # exactly on the rim


def test_a_proposal_points_from_its_cell_to_the_landmark():
    table = reference_proposals(
        torch.tensor([[9.0, 4.0, 4.0], [-1000.0] * 3]), (8, 8, 8), anchors=(1.0,), rows=4
    )
    expected = [[2, 1, 1, 0.25, 0, 0, 0], [3, 1, 1, -0.75, 0, 0, 0], [0, 0, 0, 0, 0, 0, -2], [0] * 6 + [-100]]
    assert_close(table[0], torch.tensor(expected, dtype=torch.float64))


def test_more_positives_than_rows_are_refused():
    with pytest.raises(ValueError, match="more rows"):
        reference_proposals(torch.full((1, 3), 16.0), (8, 8, 8), anchors=(1.5,), rows=5)


@pytest.fixture
def a_grid():
    random = torch.Generator().manual_seed(1)
    return torch.randn((2, 4, 4, 3, 4, 3 + 3), generator=random).requires_grad_()


@pytest.fixture
def grid_points():
    return torch.tensor([[[6.0, 5, 4], [9, 9, 7], [2, 3, 5]], [[8, 2, 6], [5, 5, 5], [12, 8, 1]]])


def sum_of(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def test_an_unknown_landmarks_logits_get_no_gradient_from_the_anchor_loss(a_grid, grid_points):
    given = torch.tensor([[PRESENT, UNKNOWN, MISSING], [PRESENT, PRESENT, PRESENT]], dtype=torch.int8)
    pull = gradient(sum_of(anchor_loss(a_grid, grid_points, given)), a_grid)
    assert (pull[0, ..., 3 + 1] == 0).all()
    assert (pull[1, ..., 3 + 1] != 0).any()


def test_hard_negatives_of_one_sample_leave_another_samples_positives_alone(a_grid, grid_points):
    given = torch.tensor([[MISSING, PRESENT, PRESENT], [PRESENT, PRESENT, PRESENT]], dtype=torch.int8)
    with torch.no_grad():
        a_grid[1, ..., 3] += 20  # the loudest logits of landmark 0 are those of the sample that shows it
    hard = anchor_loss(a_grid, grid_points, given, hard_number=8)["hard_negative"]
    pull = gradient(hard, a_grid)
    assert (pull[1] == 0).all()
    assert (pull[0, ..., 3] > 0).sum() == 8 * 4


def test_a_cell_in_reach_of_two_landmarks_is_told_no_for_neither(a_grid, grid_points):
    grid_points[0, 1] = grid_points[0, 0]
    given = torch.tensor([[PRESENT, PRESENT, UNKNOWN], [UNKNOWN] * 3], dtype=torch.int8)
    assert anchor_loss(a_grid, grid_points, given)["negative"] == 0


def test_a_batch_without_a_present_landmark_has_a_finite_anchor_loss(a_grid, grid_points):
    for state in (MISSING, UNKNOWN):
        loss = sum_of(anchor_loss(a_grid, grid_points, torch.full((2, 3), int(state), dtype=torch.int8)))
        assert loss.isfinite()
        assert gradient(loss, a_grid).isfinite().all()


def test_the_anchor_losss_positives_are_the_references_proposals(grid_points):
    given = torch.ones((2, 3), dtype=torch.int8)
    at = anchor_positives(grid_points, given, (4, 4, 3))
    table = torch.stack([reference_proposals(each, (4, 4, 3)) for each in grid_points])
    b, a, row = (table[..., 6] >= 0).nonzero(as_tuple=True)
    theirs = {
        (*map(int, key), *table[key[0], key[1], key[2], [0, 1, 2, 6]].int().tolist())
        for key in zip(b, a, row)
    }
    ours = {
        (int(b), int(a), int(d), int(h), int(w), int(n)) for b, d, h, w, a, n in zip(*at.index, at.landmark)
    }
    assert {(b, a, *rest) for b, a, _, *rest in theirs} == ours
    assert len(ours) > 20
