import pytest
import torch
from torch.testing import assert_close

from ct3d.models.heatmaps import anchor_candidates, anchor_points, peaks, reference_heatmap_points
from ct3d.training.losses import heatmap_target

SHAPE = (36, 34, 38)


@pytest.fixture
def some_points():
    """Places of 40 landmarks, all of whose surroundings lie in the volume."""
    random = torch.Generator().manual_seed(0)
    return 5 + torch.rand((1, 40, 3), generator=random) * (torch.tensor(SHAPE) - 11)


def noise(maps: torch.Tensor, amount: float) -> torch.Tensor:
    return amount * torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("radius", [5, 8, 12, 20])
def test_a_perfect_maps_peak_is_found_to_a_ten_thousandth_of_a_voxel(some_points, radius):
    found = peaks(heatmap_target(some_points, SHAPE, radius)).points_kji
    assert (found - some_points).norm(dim=-1).max() < 1e-4


@pytest.mark.parametrize("radius", [5, 6, 8, 10])
def test_a_noisy_maps_peak_is_found_to_a_twentieth_of_a_voxel(some_points, radius):
    maps = heatmap_target(some_points, SHAPE, radius)
    errors = (peaks(maps + noise(maps, 0.05)).points_kji - some_points).norm(dim=-1)
    assert errors.mean() < 0.03
    assert errors.quantile(0.95) < 0.06


def test_a_peak_at_the_border_is_not_drawn_inward():
    points = torch.tensor([[[0.0, 0.3, 37.0], [35.0, 16.4, 20.0], [0.2, 33.0, 0.4]]])
    assert_close(peaks(heatmap_target(points, SHAPE, 8)).points_kji, points.double(), atol=1e-4, rtol=0)


def test_a_peak_beyond_the_border_is_answered_on_it():
    points = torch.tensor([[[-0.4, 10.0, 10.0], [20.0, 20.0, 39.5]]])
    found = peaks(heatmap_target(points, SHAPE, 8)).points_kji
    assert_close(found[0, 0], torch.tensor([0.0, 10, 10], dtype=torch.float64), atol=1e-4, rtol=0)
    assert_close(found[0, 1], torch.tensor([20.0, 20, 37], dtype=torch.float64), atol=1e-4, rtol=0)


def test_the_height_is_the_highest_voxels_and_the_spread_grows_with_doubt(some_points):
    sharp, broad = (peaks(heatmap_target(some_points, SHAPE, radius)) for radius in (5, 10))
    assert (sharp.peak > 1.3).all()
    assert (sharp.peak <= 2).all()
    assert (broad.spread > 1.5 * sharp.spread).all()
    two = heatmap_target(some_points[:, :1], SHAPE, 5).maximum(
        0.9 * heatmap_target(some_points[:, 1:2], SHAPE, 5)
    )
    assert peaks(two).spread > 2 * sharp.spread[0, 0]


def test_the_higher_of_two_blobs_wins_and_is_not_mixed_with_the_other():
    points = torch.tensor([[[10.0, 10.0, 10.0], [25.2, 25.4, 25.0]]])
    low, high = heatmap_target(points, SHAPE, 6).unbind(1)
    found = peaks(torch.maximum(0.8 * low, high)[:, None]).points_kji
    assert_close(found[0, 0], points[0, 1].double(), atol=1e-3, rtol=0)


def test_stretched_and_faint_blobs_are_found_as_well():
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij")
    at = (20.3, 15.6, 18.1)
    squared = sum(((x - p) / s) ** 2 for x, p, s in zip(axes, at, (1.2, 3.0, 2.0)))
    found = peaks((0.05 * torch.exp(-squared / 2))[None, None]).points_kji
    assert_close(found[0, 0], torch.tensor(at, dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_map_that_shows_nothing_still_answers_a_voxel_of_the_volume():
    random = torch.randn((2, 3, 5, 4, 1), generator=torch.Generator().manual_seed(2)) - 6
    for maps in (
        random,
        torch.full((2, 3, 5, 4, 1), -1.0),
        torch.zeros((2, 3, 5, 4, 1)),
        torch.ones((2, 3, 5, 4, 1)),
    ):
        found = peaks(maps)
        assert found.points_kji.isfinite().all()
        assert (found.points_kji >= 0).all()
        assert (found.points_kji <= torch.tensor([4, 3, 0])).all()
        assert found.spread.isfinite().all()
        assert_close(found.peak, maps.flatten(2).max(dim=2).values.double())


def test_the_answer_is_the_same_each_time_and_for_each_map_of_a_batch(some_points):
    maps = heatmap_target(some_points[:, :6], SHAPE, 7)
    maps = maps + noise(maps, 0.2)
    together, again = peaks(maps.reshape(2, 3, *SHAPE)), peaks(maps.reshape(2, 3, *SHAPE))
    assert torch.equal(together.points_kji, again.points_kji)
    alone = torch.cat([peaks(maps[:, n : n + 1]).points_kji for n in range(6)], dim=1)
    assert_close(together.points_kji.reshape(1, 6, 3), alone, atol=1e-9, rtol=0)


def test_the_references_point_is_the_mean_of_at_least_500_high_voxels():
    maps = torch.zeros((1, 2, 20, 20, 20))
    maps[0, 0, 2:12, 3:13, 4:9] = 1.0  # exactly 500, all the highest
    maps[0, 1, 5, 5, 5] = 1.0
    maps[0, 1, 8:18, 5:15, 10:15] = 0.5
    points = reference_heatmap_points(maps)
    assert points[0, 0].tolist() == [6.5, 7.5, 6.0]
    assert_close(points[0, 1], torch.tensor([12.5, 9.5, 12.0], dtype=torch.float64), atol=0.05, rtol=0)


def test_the_references_point_of_a_map_below_zero_is_the_mean_down_to_one_and_a_half_times():
    maps = torch.full((1, 1, 4, 4, 4), -1.0)
    maps[0, 0, 1, 1, 1], maps[0, 0, 1, 1, 3] = -0.1, -0.14
    assert reference_heatmap_points(maps)[0, 0].tolist() == [1, 1, 2]


def test_the_references_point_of_a_volume_of_few_voxels_is_found_and_not_waited_for():
    assert reference_heatmap_points(torch.ones((1, 1, 2, 2, 2)))[0, 0].tolist() == [0.5] * 3


def test_the_anchor_that_the_others_agree_with_wins():
    grid = torch.zeros((1, 6, 6, 6, 2, 3 + 1))
    grid[..., 3] = -10.0
    for cell, logit in (((1, 1, 1), 5.0), ((1, 1, 2), 4.0), ((1, 2, 1), 3.0), ((5, 5, 5), 9.0)):
        grid[(0, *cell, 1, 3)] = logit
    grid[0, 1, 1, 1, 1, 0] = 0.5
    candidates = anchor_candidates(grid, (0.5, 1.0), count=4)
    assert candidates.shape == (1, 1, 4, 3)
    nearest = 4 * (1 + torch.tanh(torch.tensor(0.5, dtype=torch.float64)))
    assert_close(candidates[0, 0, 0], torch.stack([nearest, nearest * 0 + 4, nearest * 0 + 4]))
    assert_close(candidates[0, 0, 3], torch.full((3,), 20.0, dtype=torch.float64))  # ordered by place
    sums = [(candidates[0, 0] - each).norm(dim=-1).sum() for each in candidates[0, 0]]
    assert_close(anchor_points(candidates)[0, 0], candidates[0, 0, int(torch.tensor(sums).argmin())])
    assert anchor_points(candidates)[0, 0, 0] < 10


def test_of_candidates_that_agree_alike_the_first_wins():
    candidates = torch.tensor([[[[0.0, 0, 0], [2.0, 0, 0]]]])
    assert anchor_points(candidates)[0, 0].tolist() == [0, 0, 0]
