"""The shared encoder: nothing leaks, parts are what they say, and branches reach as far as they should."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from ct3d.models.deformable import DeformableAttention, cell_places
from ct3d.models.graph3d import GraphBlock, grid_difference, window_difference
from ct3d.models.threedme import BASE, Config, Decoder, Encoder, position_code

SMALL = Config(dim=48, depth=2, heads=6, stem=(8, 12, 24), window=(3, 3, 3), decoder_dim=32)
MAPS = ("f2", "f4", "f8", "f16", "tokens", "z")
SIZE = (32, 48, 64)


@pytest.fixture
def an_encoder():
    torch.manual_seed(0)
    net = Encoder(SMALL).eval()
    torch.nn.init.normal_(net.read.offsets.weight, std=0.05)  # as after training: places depend on the query
    torch.nn.init.normal_(net.read.weights.weight, std=0.05)
    return net


@pytest.fixture
def a_volume():
    return torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def a_mask():
    tokens = torch.rand(2, 1, *(n // 8 for n in SIZE), generator=torch.Generator().manual_seed(2)) < 0.6
    for axis in (2, 3, 4):
        tokens = tokens.repeat_interleave(8, axis)
    return tokens


SPACING_MM = torch.tensor([[3.0, 1.5, 1.5], [4.0, 4.0, 4.0]])


def test_hidden_voxels_change_no_feature_on_any_level_and_no_guess(an_encoder, a_volume, a_mask):
    noise = torch.where(a_mask, torch.randn_like(a_volume), a_volume)
    torch.manual_seed(0)
    decoder = Decoder(SMALL)
    with torch.no_grad():
        first, second = (an_encoder.encode(each, SPACING_MM, a_mask) for each in (a_volume, noise))
        for name in MAPS:
            assert torch.equal(getattr(first, name), getattr(second, name)), name
        assert torch.equal(decoder(first.f8), decoder(second.f8))


def test_a_mask_that_cuts_patches_leaks_nothing_either(an_encoder, a_volume):
    mask = torch.rand(a_volume.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    noise = torch.where(mask, torch.randn_like(a_volume), a_volume)
    with torch.no_grad():
        first, second = (an_encoder.encode(each, SPACING_MM, mask) for each in (a_volume, noise))
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in MAPS)


def test_visible_voxels_do_change_features(an_encoder, a_volume, a_mask):
    other = torch.where(a_mask, a_volume, a_volume.flip(-1))
    with torch.no_grad():
        first, second = (an_encoder.encode(each, SPACING_MM, a_mask) for each in (a_volume, other))
    assert all(not torch.equal(getattr(first, name), getattr(second, name)) for name in MAPS)


def test_the_pyramid_has_the_shapes_of_its_strides_and_knows_its_places_in_mm(an_encoder, a_volume):
    with torch.no_grad():
        features = an_encoder(a_volume, SPACING_MM)
    assert features.f2.shape == (2, 16, 24, 32, 8)
    assert features.f4.shape == (2, 12, 8, 12, 16)
    assert features.f8.shape == (2, 48, 4, 6, 8)
    assert features.f16.shape == (2, 48, 2, 3, 4)
    assert features.tokens.shape == (2, 4 * 6 * 8, 48)
    assert features.z.shape == (2, 48)
    first = features.grid_mm(8)[
        0, 0, 0, 0
    ]  # the first cell's middle is voxel 3.5; the volume's is 15.5, 23.5, 31.5
    torch.testing.assert_close(first, torch.tensor([-12 * 3.0, -20 * 1.5, -28 * 1.5]))


def test_sides_that_hold_no_whole_cells_are_refused(an_encoder):
    with pytest.raises(ValueError, match="multiples of 16"):
        an_encoder(torch.zeros(1, 1, 32, 40, 48), SPACING_MM[:1])


def test_positions_are_told_in_mm_not_in_cells(an_encoder, a_volume):
    with torch.no_grad():
        near, far = (an_encoder.wide(a_volume[:1], torch.full((1, 3), mm)) for mm in (2.0, 4.0))
    assert not torch.allclose(near, far)
    code = position_code(torch.tensor([[10.0, 0.0, -5.0]]), 48)
    assert code.shape == (1, 48)
    assert torch.equal(code, position_code(torch.tensor([[10.0, 0.0, -5.0]]), 48))


def test_every_parameter_of_encoder_and_decoder_gets_a_gradient(a_volume, a_mask):
    torch.manual_seed(0)
    encoder, decoder = Encoder(SMALL), Decoder(SMALL)
    features = encoder(a_volume, SPACING_MM, a_mask)
    loss = decoder(features.f8).square().mean() + sum(
        getattr(features, name).square().mean() for name in MAPS
    )
    loss.backward()
    without = [
        name
        for part in (encoder, decoder)
        for name, each in part.named_parameters()
        if each.grad is None or not each.grad.abs().sum()
    ]
    assert without == []


def test_the_two_profiles_have_the_sizes_of_the_note():
    tiny = Encoder()
    assert sum(each.numel() for each in tiny.blocks.parameters()) == pytest.approx(2.7e6, rel=0.02)
    assert (BASE.dim, BASE.depth, BASE.stem, BASE.graph_depth) == (384, 12, (48, 96, 192), (2, 4))


# deformable attention, on a grid that is no cube

GRID = (3, 5, 7)


def reader(levels=1, points=1, heads=1, dim=6):
    torch.manual_seed(0)
    part = DeformableAttention(dim, (dim,) * levels, heads=heads, points=points)
    with torch.no_grad():
        for linear in (*part.values, part.out):
            linear.weight.copy_(torch.eye(dim))
            linear.bias.zero_()
    return part


def some_map(batch=1, dim=6, grid=GRID):
    return torch.randn(batch, *grid, dim, generator=torch.Generator().manual_seed(4))


CUBE_MM = [torch.ones(1, 3)]


def test_attention_that_looks_nowhere_else_gives_the_map_itself():
    part, given = reader(), some_map()
    torch.nn.init.zeros_(part.offsets.bias)
    found = part(torch.randn(1, 105, 6), cell_places(GRID), [given], CUBE_MM)
    torch.testing.assert_close(found.view(given.shape), given)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_offset_of_one_cell_is_a_roll_by_one(axis):
    part, given = reader(), some_map()
    part.offsets.bias.data = torch.eye(3)[axis]
    found = part(torch.randn(1, 105, 6), cell_places(GRID), [given], CUBE_MM).view(given.shape)
    inside = GRID[axis] - 1
    rolled = given.roll(-1, 1 + axis)
    torch.testing.assert_close(
        found.narrow(1 + axis, 0, inside), rolled.narrow(1 + axis, 0, inside), rtol=1e-5, atol=1e-5
    )


def test_attention_equals_a_loop_over_queries_heads_levels_and_points():
    torch.manual_seed(5)
    part = DeformableAttention(12, (4, 8), heads=6, points=2)
    for each in part.parameters():
        torch.nn.init.normal_(each, std=0.3)
    maps = [some_map(2, 4), some_map(2, 8, (2, 4, 3))]
    cells = [
        torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]]),
        torch.tensor([[4.0, 2.0, 2.0], [2.0, 2.0, 2.0]]),
    ]
    queries, places = torch.randn(2, 5, 12), torch.rand(5, 3)
    with torch.no_grad():
        found = part(queries, places, maps, cells)
        for b, n in itertools.product(range(2), range(5)):
            torch.testing.assert_close(found[b, n], by_loop(part, queries[b, n], places[n], b, maps, cells))


def by_loop(part, query, place, b, maps, cells):
    weights = part.weights(query).view(6, -1).softmax(-1).view(6, 2, 2)
    offsets = part.offsets(query).view(6, 2, 2, 3)
    read = torch.zeros(12)
    for h, level, p in itertools.product(range(6), range(2), range(2)):
        value = part.values[level](maps[level][b])[..., 2 * h : 2 * h + 2]
        step = cells[level][b].prod() ** (1 / 3) / cells[level][b]
        at = place * torch.tensor(value.shape[:3]) - 0.5 + offsets[h, level, p] * step
        read[2 * h : 2 * h + 2] += weights[h, level, p] * trilinear(value, at)
    return part.out(read)


def trilinear(value, at):
    total = torch.zeros(value.shape[-1])
    low = at.floor().long()
    for corner in itertools.product((0, 1), repeat=3):
        cell = low + torch.tensor(corner)
        if all(0 <= c < n for c, n in zip(cell.tolist(), value.shape[:3])):
            total += (1 - (at - cell).abs()).prod() * value[tuple(cell.tolist())]
    return total


def test_weights_of_a_head_sum_to_one_and_queries_may_come_in_any_order():
    part = reader(levels=2, points=3, heads=3)
    torch.nn.init.normal_(part.offsets.weight, std=0.01)
    torch.nn.init.zeros_(part.offsets.bias)
    ones = [torch.ones(1, *GRID, 6)] * 2
    queries, places = torch.randn(1, 4, 6), torch.full((4, 3), 0.5)
    found = part(queries, places, ones, CUBE_MM * 2)
    torch.testing.assert_close(found, torch.ones(1, 4, 6))
    maps, order = [some_map(), some_map()], torch.tensor([2, 0, 3, 1])
    places = torch.rand(4, 3)
    here = part(queries, places, maps, CUBE_MM * 2)
    torch.testing.assert_close(part(queries[:, order], places[order], maps, CUBE_MM * 2), here[:, order])


def test_a_gradient_reaches_the_offsets_and_heads_start_along_the_three_planes():
    part = DeformableAttention(12, (12,), heads=6, points=4)
    part(torch.randn(1, 105, 12), cell_places(GRID), [some_map(dim=12)], CUBE_MM).square().sum().backward()
    assert part.offsets.weight.grad.abs().sum() > 0
    start = part.offsets.bias.detach().view(6, 4, 3)
    assert [tuple(each) for each in start[:, 1].int().tolist()] == [
        (2, 0, 0), (-2, 0, 0), (0, 2, 0), (0, -2, 0), (0, 0, 2), (0, 0, -2),
    ]  # fmt: skip


def test_steps_are_as_long_in_mm_on_every_axis_of_a_grid_with_thick_slices():
    part, given = reader(), some_map()
    part.offsets.bias.data = torch.tensor([1.0, 0.0, 0.0])
    thick = [torch.tensor([[8.0, 1.0, 1.0]])]  # a step is 2 mm here, a quarter of a slice
    found = part(torch.randn(1, 105, 6), cell_places(GRID), [given], thick).view(given.shape)
    torch.testing.assert_close(found[:, 0], 0.75 * given[:, 0] + 0.25 * given[:, 1])


# graph


def neighbours(x, reach=1):
    """(B, D, H, W, 27, C), -inf beyond the grid."""
    padded = F.pad(x, (0, 0, *(reach,) * 6), value=-math.inf)
    windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)
    return windows.flatten(-3).movedim(-1, -2)


def test_grid_edges_are_a_max_pool_and_equal_the_gathered_neighbours():
    x = some_map(2, 5)
    found = grid_difference(x)
    torch.testing.assert_close(found, neighbours(x).amax(-2) - x)
    assert (found >= 0).all()
    torch.testing.assert_close(grid_difference(x + 3), found)
    assert not grid_difference(torch.full_like(x, 2.5)).any()


def test_nearest_neighbours_equal_an_exhaustive_search_in_the_window():
    x, window = some_map(2, 6, (5, 8, 9)), (3, 5, 5)
    found = window_difference(x, 4, 2, window)
    unit = F.normalize(x, dim=-1)
    places = list(itertools.product(range(5), range(8), range(9)))
    for b, (k, j, i) in itertools.product(range(2), places[::17]):
        near = [p for p in places if all(abs(a - c) <= w // 2 for a, c, w in zip(p, (k, j, i), window))]
        near.sort(key=lambda p: (p != (k, j, i), -(unit[b, k, j, i] @ unit[(b, *p)]).item()))
        chosen = torch.stack([x[(b, *p)] for p in near[:8:2]])
        torch.testing.assert_close(found[b, k, j, i], (chosen - x[b, k, j, i]).amax(0))


def test_a_cell_is_its_own_nearest_so_that_messages_are_never_negative():
    x = some_map(1, 6, (4, 6, 7))
    assert (window_difference(x, 3, 1, (3, 3, 3)) >= 0).all()
    assert not window_difference(x, 1, 1, (5, 7, 7)).any()
    torch.testing.assert_close(window_difference(torch.ones_like(x), 3, 1, (3, 3, 3)), torch.zeros_like(x))


def test_the_choice_of_neighbours_carries_no_gradient_but_their_values_do():
    x = some_map(1, 6, (3, 4, 4)).requires_grad_()
    window_difference(x, 3, 1, (3, 3, 3)).sum().backward()
    assert x.grad.abs().sum() > 0
    assert x.grad.sum().abs() < 1e-4  # what one cell gains another gives


def test_turning_the_grid_turns_what_a_block_gives():
    torch.manual_seed(0)
    block, x = GraphBlock(6, k=4, window=(3, 3, 3)), some_map(1, 6, (4, 4, 5))
    with torch.no_grad():
        torch.testing.assert_close(block(x.flip(1)), block(x).flip(1))
        torch.testing.assert_close(block(x.transpose(1, 2)), block(x).transpose(1, 2))


# reach


def touched(first, past, level, reach=0):
    """Cells of the next map that see some of these through a convolution 3 wide of stride 2."""
    return max(0, -(-(first - 1) // 2) - reach), past // 2 + 1 + reach


def test_one_voxel_changes_the_graph_branch_only_as_far_as_it_reaches_and_the_other_everywhere(an_encoder):
    volume = torch.rand(1, 1, 64, 96, 96) * 2 - 1
    at = (30, 41, 52)
    other = volume.clone()
    other[(0, 0, *at)] += 1
    with torch.no_grad():
        before, after = (an_encoder.local(each) for each in (volume, other))
        wide = [an_encoder.wide(each, SPACING_MM[:1]) for each in (volume, other)]
    boxes = [(v, v + 1) for v in at]
    for n, (first, second) in enumerate(zip(before, after)):
        grown = (0, 2, 2)[n]  # two blocks of the 26 neighbours; two of a window of 3 cells
        boxes = [touched(a, b, n, grown) for a, b in boxes]
        changed = (first != second).any(-1)[0]
        outside = torch.ones_like(changed)
        outside[tuple(slice(a, b) for a, b in boxes)] = False
        assert changed.any()
        assert not (changed & outside).any(), n
    assert ((wide[0] - wide[1]).abs().amax(-1) > 0).all()


def test_moving_the_volume_by_one_patch_moves_the_graph_branch_by_one_cell(an_encoder):
    big = torch.rand(1, 1, 144, 32, 48) * 2 - 1
    with torch.no_grad():
        here = an_encoder.local(big[:, :, :128])[2]
        there = an_encoder.local(big[:, :, 8:136])[2]
    torch.testing.assert_close(
        there[:, 4:11], here[:, 5:12], rtol=1e-4, atol=1e-5
    )  # both ends are out of reach
