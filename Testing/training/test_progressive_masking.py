"""What is hidden: as much as the schedule says, in blocks of that size, the same for the same chance."""

import numpy as np
import pytest

from ct3d.training.progressive_masking import BLOCKS, Masking, hidden

GRID = (8, 12, 12)
DONE = np.linspace(0, 1, 101)


def chance(seed=0):
    return np.random.default_rng(seed)


def test_the_ratio_rises_from_the_first_to_the_last_and_rests_at_the_end():
    ratios = [Masking().ratio(done) for done in DONE]
    assert (np.diff(ratios) >= 0).all()
    assert (ratios[0], ratios[-1]) == (0.40, 0.75)
    assert ratios[90] == ratios[100]


def test_blocks_grow_on_average_and_never_at_once():
    chances = np.array([Masking().block_chances(done) for done in DONE])
    np.testing.assert_allclose(chances.sum(1), 1)
    sizes = chances @ np.array(BLOCKS)
    assert (np.diff(sizes) >= -1e-12).all()
    assert np.diff(sizes).max() < 0.6
    assert (sizes[0], sizes[-1]) == (1, 4)


@pytest.mark.parametrize("done", [0.0, 0.3, 0.55, 0.8, 1.0])
def test_exactly_as_many_tokens_are_hidden_as_the_ratio_says(done):
    masking = Masking()
    for seed in range(20):
        mask = masking.sample(GRID, done, chance(seed))
        assert mask.shape == GRID
        assert mask.sum() == round(masking.ratio(done) * mask.size)


@pytest.mark.parametrize("block", [(1, 1, 1), (2, 2, 2), (4, 4, 4), (2, 12, 12), (8, 3, 12)])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_hidden_is_whole_blocks_but_for_one(block, seed):
    mask = hidden(GRID, 500, block, chance(seed))
    assert mask.sum() == 500
    fewest = min(cut_blocks(mask, block, phase) for phase in np.ndindex(*block))
    assert fewest <= 1


def cut_blocks(mask, block, phase):
    index = [(axis + shift) // size for axis, shift, size in zip(np.indices(mask.shape), phase, block)]
    number = np.ravel_multi_index(index, [axis.max() + 1 for axis in index]).ravel()
    share = np.bincount(number, mask.ravel()) / np.maximum(np.bincount(number), 1)
    return int(((share > 0) & (share < 1)).sum())


def test_a_slab_leaves_no_token_of_its_planes_visible():
    mask = hidden(GRID, 6 * 144, (2, 12, 12), chance(3))
    hidden_planes = mask.all((1, 2)).sum()
    assert hidden_planes >= 4  # a slab may be cut, and one at the end may be thin
    assert mask.any((1, 2)).sum() <= hidden_planes + 2


def test_slabs_come_up_late_in_training():
    def slabs(done):
        masks = [Masking(slabs=1.0).sample(GRID, done, chance(seed)) for seed in range(60)]
        return sum(any(mask.all(axes).any() for axes in ((1, 2), (0, 2), (0, 1))) for mask in masks)

    assert slabs(0.0) == 0
    assert slabs(1.0) == 60


def test_the_same_chance_hides_the_same():
    masking = Masking()
    assert (masking.sample(GRID, 0.7, chance((1, 5))) == masking.sample(GRID, 0.7, chance((1, 5)))).all()
    assert (masking.sample(GRID, 0.7, chance((1, 5))) != masking.sample(GRID, 0.7, chance((1, 6)))).any()


def test_fixed_masking_hides_the_last_ratio_in_single_tokens_from_the_start():
    fixed = Masking(is_progressive=False)
    assert {fixed.ratio(done) for done in DONE} == {0.75}
    assert {fixed.block_chances(done) for done in DONE} == {(1.0, 0.0, 0.0)}
