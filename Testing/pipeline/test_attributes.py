from dataclasses import replace

import numpy as np
import pytest

from ct3d.case import Landmark, Region
from ct3d.imaging.exchange import store_array, store_volume
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_kji
from ct3d.pipeline.attributes import axial_diameters, height_mm, measure, run, zone_of
from ct3d.pipeline.job import LocalJob
from ct3d.protocol.tasks import MaskLayer, MeasureParams


@pytest.fixture
def a_job(tmp_path):
    return LocalJob(tmp_path)


def turned(degrees, axis):
    """3x3 rotation about R (0), A (1) or S (2)."""
    angle = np.deg2rad(degrees)
    one, other = [n for n in range(3) if n != axis]
    turn = np.eye(3)
    turn[[one, one, other, other], [one, other, one, other]] = (
        np.cos(angle),
        -np.sin(angle),
        np.sin(angle),
        np.cos(angle),
    )
    return turn


GRIDS = {  # name → columns of I, J, K in RAS, and spacing (i, j, k) in mm
    "fine": (np.eye(3), (0.7, 0.7, 1.0)),
    "flipped": (np.diag([-1.0, -1.0, 1.0]), (0.8, 0.8, 2.5)),
    "left-handed": (np.diag([-1.0, 1.0, 1.0]), (0.7, 0.7, 2.5)),
    "oblique in the slice": (turned(30, 2), (0.7, 1.1, 2.0)),
    "sagittal slices": (np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), (0.9, 1.2, 1.5)),
}


def grid_of(name, shape_kji):
    turn, spacing = GRIDS[name]
    grid = np.eye(4)
    grid[:3, :3] = turn * spacing
    grid[:3, 3] = (12.0, -30.0, 55.0) - grid[:3, :3] @ ((np.array(shape_kji[::-1]) - 1) / 2)
    return grid


def points_of(grid, shape_kji):
    kji = np.stack(np.indices(shape_kji), axis=-1).reshape(-1, 3)
    return ras_from_kji(kji, grid).reshape(*shape_kji, 3) - (12.0, -30.0, 55.0)


def ellipsoid(grid, shape_kji, radii_mm):
    return np.linalg.norm(points_of(grid, shape_kji) / radii_mm, axis=3) <= 1


def in_plane(name):
    """The larger spacing of the two axes that are not the head-foot one."""
    turn, spacing = GRIDS[name]
    return max(np.delete(spacing, np.abs(turn[2]).argmax()))


def a_region(region_id, kind="organ", **more):
    more = {"layer": "organs", "label": 1, "presence": "whole", "confidence": 1.0, "side": "left"} | more
    return Region(region_id, region_id.replace("_", " "), kind, **more)


def values_of(attributes, region):
    return {
        each.name: each.value if each.unit else each.words for each in attributes if each.region == region
    }


@pytest.mark.parametrize("name", GRIDS)
def test_a_sphere_measures_its_diameter_and_volume_on_every_grid(name, a_job):
    shape = (60, 70, 80)
    grid = grid_of(name, shape)
    mask = ellipsoid(grid, shape, (12.0, 12.0, 12.0)).astype(np.uint8)
    volume = Volume(np.where(mask, 30, -850).astype(np.int16), grid)
    attributes, flags = measure(
        volume, {"lesions": mask}, (a_region("nodule_1", "lesion", layer="lesions"),), (), a_job
    )
    found = values_of(attributes, "nodule_1")
    pixel = in_plane(name)
    assert found["long_diameter"] == pytest.approx(24.0, abs=pixel)  # half a voxel at either end
    assert found["short_diameter"] == pytest.approx(24.0, abs=1.5 * pixel)
    assert found["volume"] == pytest.approx(
        4 / 3 * np.pi * 1.2**3, rel=0.03
    )  # voxels of 1 to 2 mm3 on 7.2 mL
    assert found["z_high"] - found["z_low"] == pytest.approx(24.0, abs=max(GRIDS[name][1]))
    assert (found["z_high"] + found["z_low"]) / 2 == pytest.approx(55.0, abs=max(GRIDS[name][1]) / 2)
    assert found["mean_hu"] == 30.0
    assert found["sd_hu"] == 0.0
    assert flags == ()


@pytest.mark.parametrize("name", ["fine", "flipped", "oblique in the slice"])
def test_an_ellipsoid_measures_its_two_axial_axes(name):
    shape = (40, 90, 90)
    grid = grid_of(name, shape)
    long, short = axial_diameters(ellipsoid(grid, shape, (16.0, 9.0, 12.0)), grid)
    pixel = in_plane(name)
    assert long == pytest.approx(32.0, abs=pixel)
    assert short == pytest.approx(
        18.0, abs=1.5 * pixel
    )  # its direction wavers by a pixel across the long axis


def test_a_box_measures_its_exact_extents():
    mask = np.zeros((6, 20, 30), bool)
    mask[1:5, 4:14, 3:27] = True  # 4 x 10 x 24 voxels
    grid = np.diag([0.5, 0.8, 3.0, 1.0])
    long, _ = axial_diameters(mask, grid)
    assert height_mm(mask, grid) == pytest.approx((1.5, 13.5))
    # middles of the faces: corner points are half a voxel short in one of the two directions
    assert long == pytest.approx(np.hypot(24 * 0.5, 9 * 0.8), abs=0.05)


def test_one_voxel_measures_one_spacing():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    long, short = axial_diameters(mask, np.diag([0.5, 0.8, 3.0, 1.0]))
    assert long == pytest.approx(0.8)
    assert short == pytest.approx(0.5)


def test_the_height_of_a_tilted_mask_is_that_of_its_highest_and_lowest_voxel():
    shape = (20, 25, 30)
    grid = grid_of("fine", shape)
    grid[:3, :3] = turned(25, 0) @ grid[:3, :3]
    mask = np.random.default_rng(0).random(shape) > 0.999
    levels = ras_from_kji(np.argwhere(mask), grid)[:, 2]
    half = np.abs(grid[2, :3]).sum() / 2
    assert height_mm(mask, grid) == pytest.approx((levels.min() - half, levels.max() + half))


def test_mean_and_spread_are_those_of_the_voxels_under_the_mask(a_job):
    array = np.random.default_rng(0).normal(40, 12, (10, 11, 12)).astype(np.float32)
    mask = (np.random.default_rng(1).random(array.shape) > 0.5).astype(np.uint8)
    attributes, _ = measure(Volume(array, np.eye(4)), {"organs": mask}, (a_region("skeleton"),), (), a_job)
    found = values_of(attributes, "skeleton")
    assert found["mean_hu"] == pytest.approx(array[mask == 1].mean(), abs=1e-3)
    assert found["sd_hu"] == pytest.approx(array[mask == 1].std(), abs=1e-3)
    assert found["volume"] == pytest.approx(mask.sum() / 1000)


def test_the_rim_of_a_lesion_which_is_partly_air_does_not_count_in_its_density(a_job):
    shape, grid = (40, 60, 60), np.diag([0.8, 0.8, 1.0, 1.0])
    grid[:3, 3] = (12.0, -30.0, 55.0) - np.diag(grid)[:3] * (np.array(shape[::-1]) - 1) / 2
    mask, core = (ellipsoid(grid, shape, (radius,) * 3) for radius in (10.0, 8.5))
    hu = np.where(core, 60, -400).astype(np.int16)
    lesion = a_region("nodule_1", kind="lesion", layer="lesions")
    layers = {"lesions": mask.astype(np.uint8)}
    attributes, _ = measure(Volume(hu, grid), layers, (lesion,), (), a_job)
    values = values_of(attributes, "nodule_1")
    assert values["mean_hu"] == 60
    assert values["sd_hu"] == 0


def test_the_emphysema_index_is_the_share_of_lung_below_minus_950(a_job):
    array = np.full((10, 10, 10), -860, np.int16)
    array[:2] = -980
    array[2] = -950  # not below
    mask = np.ones(array.shape, np.uint8)
    attributes, _ = measure(Volume(array, np.eye(4)), {"organs": mask}, (a_region("left_lung"),), (), a_job)
    assert values_of(attributes, "left_lung")["emphysema_index"] == pytest.approx(20.0)


def test_a_lesion_is_placed_by_the_thirds_of_its_lung_and_its_way_to_the_carina(a_job):
    organs = np.zeros((90, 30, 30), np.uint8)
    organs[:, 5:25, 5:25] = 1
    lesions = np.zeros_like(organs)
    lesions[10:15, 12:17, 12:17] = 1
    grid = np.diag([1.0, 1.0, 2.0, 1.0])
    lung, nodule = a_region("left_lung"), a_region("nodule_1", "lesion", layer="lesions")
    carina = Landmark("carina", "Carina", "", "present", 1.0, position_ras=(14.0, 14.0, 124.0))
    layers = {"organs": organs, "lesions": lesions}
    attributes, _ = measure(
        Volume(np.zeros(organs.shape, np.int16), grid), layers, (nodule, lung), (carina,), a_job
    )
    found = values_of(attributes, "nodule_1")
    assert found["zone"] == "left lower zone"
    assert found["side"] == "left"
    assert found["distance_to_carina"] == pytest.approx(100.0)  # its centre lies at S = 24
    assert found["pleura_distance"] == pytest.approx(7.0, abs=1.0)  # 12 - 5 voxels of 1 mm to the lung's edge
    assert [each.region for each in attributes][0] == "nodule_1"  # in the order of the regions


def test_no_zone_is_said_where_the_lung_is_cut_and_the_cut_lung_is_flagged(a_job):
    organs = np.ones((9, 9, 9), np.uint8)
    lesions = np.zeros_like(organs)
    lesions[4, 3:6, 3:6] = 1
    lung = a_region("left_lung", presence="cut")
    nodule = a_region("nodule_1", "lesion", layer="lesions")
    layers = {"organs": organs, "lesions": lesions}
    attributes, flags = measure(Volume(organs.astype(np.int16), np.eye(4)), layers, (lung, nodule), (), a_job)
    assert "zone" not in values_of(attributes, "nodule_1")
    assert "distance_to_carina" not in values_of(attributes, "nodule_1")
    assert [flag.id for flag in flags] == ["cut.left_lung"]
    assert "lower bound" in flags[0].text


def test_an_empty_mask_is_flagged_and_an_absent_region_passed_over(a_job):
    array = np.zeros((4, 4, 4), np.uint8)
    regions = (a_region("left_lung"), a_region("right_lung", presence="absent", label=2))
    attributes, flags = measure(
        Volume(array.astype(np.int16), np.eye(4)), {"organs": array}, regions, (), a_job
    )
    assert attributes == ()
    assert [flag.id for flag in flags] == ["empty.left_lung"]


def test_zones_are_thirds_from_below():
    assert [zone_of(level, 0.0, 90.0) for level in (-1.0, 29.0, 31.0, 61.0, 95.0)] == [
        "lower",
        "lower",
        "middle",
        "upper",
        "upper",
    ]


def test_the_task_measures_what_lies_beside_the_wire(a_job):
    grid = grid_of("flipped", (20, 40, 40))
    mask = ellipsoid(grid, (20, 40, 40), (10.0, 10.0, 10.0)).astype(np.uint8)
    volume = store_volume(Volume(np.where(mask, 25, -800).astype(np.int16), grid), a_job.exchange_dir)
    layer = MaskLayer("organs", store_array(mask, a_job.exchange_dir))
    result = run(MeasureParams(volume, (layer,), (a_region("left_lung"),)), a_job)
    assert values_of(result.attributes, "left_lung")["mean_hu"] == 25.0
    assert result.step.task == "measure"
    assert all(each.id == f"{each.region}.{each.name}" for each in result.attributes)


def test_a_moved_grid_moves_heights_and_nothing_else(a_job):
    shape = (20, 40, 40)
    grid = grid_of("flipped", shape)
    mask = ellipsoid(grid, shape, (10.0, 8.0, 12.0)).astype(np.uint8)
    moved = grid.copy()
    moved[2, 3] += 100.0
    assert ijk_from_ras(np.array([[12.0, -30.0, 155.0]]), moved) == pytest.approx(
        ijk_from_ras(np.array([[12.0, -30.0, 55.0]]), grid)
    )
    region = replace(a_region("nodule_1", "lesion"), side="right")
    one, other = (
        values_of(
            measure(Volume(mask.astype(np.int16), each), {"organs": mask}, (region,), (), a_job)[0],
            "nodule_1",
        )
        for each in (grid, moved)
    )
    assert other["z_low"] - one["z_low"] == pytest.approx(100.0)
    assert other["long_diameter"] == one["long_diameter"]
    assert other["volume"] == one["volume"]
