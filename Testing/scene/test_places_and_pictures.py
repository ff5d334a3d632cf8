"""Where evidence lies, and slice pictures in radiological convention."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("PIL", reason="needs pillow")

from ct3d.imaging.exchange import last  # noqa: E402
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk  # noqa: E402
from CT3DAssistantLib.pictures import PLANES, Slice, View, drawing_slice, key_pictures  # noqa: E402
from CT3DAssistantLib.place import place  # noqa: E402
from CT3DAssistantLib.windows import SOFT  # noqa: E402


def sampled(volume, view, **layers):
    """HU of a slice, and the share of its pixels that carry a label, by layer and label."""
    return last(Slice(volume, view).sampling(layers))


def test_a_regions_place_lies_inside_its_mask(a_phantom):
    for region_id in ("right_lung", "left_lung", "lungs", "nodule_1", "body"):
        where = place(a_phantom.case, a_phantom.layers, f"region/{region_id}")
        i, j, k = np.round(ijk_from_ras(np.array([where.ras]), a_phantom.volume.ijk_to_ras)[0]).astype(int)
        assert a_phantom.mask(region_id)[k, j, i], region_id
        assert (where.segment, where.region) == (region_id, region_id)


def test_a_balls_place_is_its_centre(a_phantom):
    where = place(a_phantom.case, a_phantom.layers, "region/right_lung")
    assert np.linalg.norm(np.array(where.ras) - a_phantom.centers_ras["right_lung"]) < 2.5
    assert where.offsets_mm == {"axial": where.ras[2], "coronal": where.ras[1], "sagittal": where.ras[0]}


def test_attributes_and_findings_lead_to_their_regions(a_phantom):
    lesion = place(a_phantom.case, a_phantom.layers, "region/nodule_1")
    for evidence in ("attribute/nodule_1.zone", "finding/lung_nodule"):
        assert place(a_phantom.case, a_phantom.layers, evidence) == lesion


@pytest.mark.parametrize(
    "evidence",
    ["landmark/carina", "region/airways", "finding/emphysema", "region/unknown", "nonsense", ""],
)
def test_what_is_not_there_has_no_place(evidence, a_phantom):
    assert place(a_phantom.case, a_phantom.layers, evidence) is None


def test_a_finding_that_names_itself_has_no_place(a_phantom):
    circle = replace(a_phantom.case.findings[0], evidence=("finding/lung_nodule",))
    assert place(replace(a_phantom.case, findings=(circle,)), a_phantom.layers, "finding/lung_nodule") is None


@pytest.mark.parametrize(
    ("plane", "direction_ras", "edge"),
    [
        ("axial", (-1, 0, 0), "right"),  # the patient's left is on the right of the picture
        ("axial", (0, 1, 0), "top"),
        ("coronal", (1, 0, 0), "left"),
        ("coronal", (0, 0, 1), "top"),
        ("sagittal", (0, 1, 0), "left"),
        ("sagittal", (0, 0, -1), "foot"),
    ],
)
def test_a_bright_spot_appears_on_the_side_a_radiologist_expects(plane, direction_ras, edge, a_phantom):
    matrix = a_phantom.volume.ijk_to_ras
    middle = ras_from_ijk((np.array([a_phantom.volume.array.shape[::-1]]) - 1) / 2, matrix)[0]
    spot = middle + 11.0 * np.array(direction_ras)
    k, j, i = np.indices(a_phantom.volume.array.shape)
    points = ras_from_ijk(np.stack([i, j, k], -1).reshape(-1, 3), matrix)
    bright = (np.linalg.norm(points - spot, axis=1) < 4).reshape(k.shape)
    volume = Volume(np.where(bright, 1000, -1000).astype(np.int16), matrix)
    hu, _ = sampled(volume, View(plane, tuple(middle), size_px=200))
    rows, columns = np.nonzero(hu > 0)
    down, right = rows.mean() / hu.shape[0] - 0.5, columns.mean() / hu.shape[1] - 0.5
    measured = {"right": right, "left": -right, "top": -down, "foot": down}[edge]
    assert measured > 0.08
    assert abs(down if edge in ("left", "right") else right) < 0.03


def test_a_ball_stays_round_on_an_anisotropic_grid(a_phantom):
    where = tuple(a_phantom.centers_ras["right_lung"])
    for plane in PLANES:
        _, shares = sampled(
            a_phantom.volume, View(plane, where, size_px=300), organs=a_phantom.layers["organs"]
        )
        share = shares["organs", 1]
        rows, columns = np.nonzero(share > 0.5)
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.12), plane


def test_a_pixel_has_the_size_it_says(a_phantom):
    where = tuple(a_phantom.centers_ras["right_lung"])
    cut = Slice(a_phantom.volume, view := View("axial", where, size_px=300))
    _, shares = sampled(a_phantom.volume, view, organs=a_phantom.layers["organs"])
    area_mm2 = (shares["organs", 1] > 0.5).sum() * cut.pixel_mm**2
    assert area_mm2 == pytest.approx(np.pi * 8.0**2, rel=0.06)


def test_a_point_is_marked_where_it_lies(a_phantom):
    where = tuple(a_phantom.centers_ras["nodule_1"])
    x, y = Slice(a_phantom.volume, view := View("coronal", where, size_px=300)).pixel_of(where)
    _, shares = sampled(a_phantom.volume, view, lesions=a_phantom.layers["lesions"])
    rows, columns = np.nonzero(shares["lesions", 1] > 0.5)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((x, y), abs=3)


def test_outside_the_volume_is_air(a_phantom):
    where = tuple(a_phantom.centers_ras["right_lung"])
    hu, _ = sampled(a_phantom.volume, View("axial", where, field_mm=400.0, size_px=100))
    assert hu[0, 0] == -1024
    assert hu.shape == (100, 100)


def test_the_key_pictures_show_the_lesion_in_its_color(a_phantom):
    pictures = key_pictures(a_phantom.case, a_phantom.volume, a_phantom.layers)
    assert set(pictures) == {"axial", "coronal", "sagittal"}
    for plane, image in pictures.items():
        away = np.abs(np.asarray(image).astype(int) - (144, 238, 144)).sum(axis=2)
        assert (away[20:] < 60).sum() > 40, plane


def test_a_picture_without_regions_is_grey_where_nothing_is_written(a_phantom):
    where = tuple(a_phantom.centers_ras["right_lung"])
    view = View("axial", where, SOFT, size_px=400)
    image = np.asarray(last(drawing_slice(a_phantom.volume, view, mark=False))).astype(int)
    assert np.ptp(image[150:250, 100:300], axis=2).max() == 0
