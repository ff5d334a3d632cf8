"""Where a scan lies: places by a map over all cells, orientation by the scan against its mirror images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ct3d.cards import Anchor, PositionSpec, load_card
from ct3d.case import ExpectedPlace, Landmark
from ct3d.errors import InvalidRequest, TaskCancelled
from ct3d.imaging.exchange import store_volume
from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume
from ct3d.pipeline import locate
from ct3d.pipeline.chest_look import LOOK_KJI, LOOK_MM, LUNG_HU
from ct3d.pipeline.encoder_input import body_view
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.pipeline.landmarks import far_off
from ct3d.pipeline.whole_scan import (
    AXES,
    chest_looks,
    encoded,
    margins,
    points_mm,
    side_margin,
    slopes,
    whole_scan,
)
from ct3d.protocol.tasks import LocateParams
from ct3d.training.calibrate_threedme import NEVER

SAMPLE = Path.home() / ".cache" / "ct3d" / "samples" / "slicerio" / "CTChest4.nrrd"
SPEC = PositionSpec("made up", (0.1, 0.1, 0.1), parts={"neck": 50.0, "chest": -60.0, "abdomen": -1000.0})


@pytest.fixture(scope="module")
def a_scan():
    if not SAMPLE.is_file():
        pytest.skip("the sample slicerio is not here; `make test` fetches it")
    return read_volume(SAMPLE)[0]


@pytest.fixture(scope="module")
def a_model():
    return build_model(load_card("threedme_tiny"))


class KeepingJob(LocalJob):
    """Remembers as the worker does, and counts what it had to make."""

    def __init__(self, folder):
        super().__init__(folder)
        self.kept, self.made = {}, 0

    def remember(self, key, make):
        if key not in self.kept:
            self.made += 1
            self.kept[key] = make()
        return self.kept[key]


@pytest.fixture
def a_job(tmp_path):
    return KeepingJob(tmp_path)


@pytest.fixture(scope="module")
def cells():
    """Synthetic cells (RAS mm), and points of a head that is off by a turn, a scale and a shift."""
    rng = np.random.default_rng(0)
    there = rng.uniform(-100, 100, (400, 3))
    linear = np.array([[0.6, 0.1, 0.0], [0.0, 0.8, -0.1], [0.05, 0.0, 0.7]])
    return there @ linear + [40.0, 80.0, 10.0], there, linear


def test_a_place_is_found_through_the_map_that_fits_all_cells(cells):
    points, there, linear = cells
    wanted = np.array([[12.0, -30.0, 55.0], [0.0, 40.0, -70.0]])
    np.testing.assert_allclose(locate.placed(points, there, wanted @ linear + [40, 80, 10]), wanted, atol=0.5)


def test_only_places_that_lie_in_the_scan_are_told(cells):
    points, there, linear = cells
    anchors = {
        name: Anchor(name, tuple(np.array(at) @ linear + [40, 80, 10]), 20.0, "T5")
        for name, at in {"inside": (5.0, 5.0, 5.0), "above": (0.0, 0.0, 190.0)}.items()
    }
    found = locate.places(points, there, anchors)
    assert [each.id for each in found] == ["inside"]
    assert found[0].position_ras == pytest.approx((5, 5, 5), abs=0.5)
    assert (found[0].radius_mm, found[0].level) == (20.0, "T5")


def test_slopes_are_negative_along_a_mirrored_axis(cells):
    _, there, _ = cells
    np.testing.assert_allclose(slopes(there * [1, -0.5, 0.7] + 3, there), [1, -0.5, 0.7], atol=1e-9)


def test_a_verdict_needs_its_margin():
    told = locate.verdicts(np.array([0.05, -0.3, 0.4]), SPEC)
    assert [each.verdict for each in told] == ["untold", "mirrored", "agrees"]
    assert [each.axis for each in told] == ["right", "front", "up"]


def test_margins_change_sign_where_the_volume_is_mirrored_on_disk(a_scan, a_model):
    for n, axis in enumerate(AXES):
        turned = np.ascontiguousarray(np.flip(a_scan.array, 2 - _along(a_scan, n)))
        own, other = (margins_of(a_model, each) for each in (a_scan, Volume(turned, a_scan.ijk_to_ras)))
        assert own[n] > 1e-3, axis
        assert own[n] == pytest.approx(-other[n], abs=0.25 * abs(own[n]) + 0.02), axis


def test_sides_are_told_from_looks_at_the_chest_alone(a_scan):
    view = whole_scan(a_scan).coarse
    looks = chest_looks(view)
    assert looks.shape[1:] == (1, *LOOK_KJI)
    assert 2 <= len(looks) <= 4  # half a look of 128 mm apart, over some 240 mm of lungs
    assert all((each < LUNG_HU / 1000).float().mean() > 0.1 for each in looks)
    assert looks.max() > 0.3  # bone


def test_where_no_chest_is_shown_its_sides_are_not_told(a_model):
    hu = np.full((30, 40, 40), -1000, np.int16)
    hu[:, 6:34, 6:34] = 40
    assert side_margin(a_model, whole_scan(Volume(hu, np.diag([5.0, 5.0, 5.0, 1.0])))) == 0.0


def test_the_mirror_image_of_a_scan_is_looked_at_the_other_way_round(a_scan):
    turned = np.ascontiguousarray(np.flip(a_scan.array, 2 - _along(a_scan, 0)))
    own, other = (
        chest_looks(body_view(each, (LOOK_MM,) * 3)) for each in (a_scan, Volume(turned, a_scan.ijk_to_ras))
    )
    assert (own - other.flip(-1)).abs().mean() < 0.25 * (own - other.flip(-1).roll(1, -1)).abs().mean()


def test_an_axis_that_is_never_judged_stays_untold_however_large_its_margin():
    spec = replace(SPEC, least_margins=(NEVER, 0.1, 0.1))
    for margin in (50.0, -50.0):
        assert locate.verdicts(np.array([margin, 0.5, 0.5]), spec)[0].verdict == "untold"


def test_a_scan_stored_another_way_round_has_the_same_margins(a_scan, a_model):
    turn = np.diag([-1.0, 1.0, -1.0, 1.0])
    turn[:3, 3] = a_scan.array.shape[2] - 1, 0, a_scan.array.shape[0] - 1
    other = Volume(np.ascontiguousarray(a_scan.array[::-1, :, ::-1]), a_scan.ijk_to_ras @ turn)
    np.testing.assert_allclose(margins_of(a_model, other), margins_of(a_model, a_scan), atol=0.01)


def test_the_task_tells_axes_parts_and_places_and_encodes_a_volume_once(a_scan, a_job, tmp_path):
    params = LocateParams(store_volume(a_scan, tmp_path))
    first = locate.run(params, a_job)
    assert [each.axis for each in first.check.axes] == list(AXES)
    assert "chest" in first.check.parts
    assert all(each.radius_mm > 0 for each in first.check.places)
    assert first.step.task == "locate"
    assert first.step.weights_sha256
    assert locate.run(params, a_job).check == first.check
    assert a_job.made == 1


def test_an_upside_down_scan_is_told_with_what_to_do(a_scan, a_job, tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "margins", lambda *_: np.array([0.9, 0.9, -0.9]))
    flags = locate.run(LocateParams(store_volume(a_scan, tmp_path)), a_job).flags
    assert [each.id for each in flags] == ["position_orientation"]
    assert "upside down" in flags[0].text
    assert "Check the orientation" in flags[0].text


def test_swapped_sides_are_told_with_what_else_looks_so(a_scan, a_job, tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "margins", lambda *_: np.array([-4.0, 0.9, 0.9]))
    (flag,) = locate.run(LocateParams(store_volume(a_scan, tmp_path)), a_job).flags
    assert "left and right swapped" in flag.text
    assert "situs inversus" in flag.text


def test_a_card_without_a_coordinate_head_is_refused(a_scan, a_job, tmp_path):
    with pytest.raises(InvalidRequest, match="shared encoder"):
        locate.run(LocateParams(store_volume(a_scan, tmp_path), "anatomy_rules"), a_job)


def test_a_stop_is_heeded_between_looks(a_scan, a_job, a_model):
    a_job.cancelled = True
    scan = whole_scan(a_scan)
    with pytest.raises(TaskCancelled):
        margins(a_model, scan, points_mm(a_model, scan, encoded(a_model, scan)), a_job.check)


def test_a_landmark_far_from_where_it_should_lie_is_told_and_not_moved():
    expected = (ExpectedPlace("carina", "carina", (0.0, 0.0, 0.0), 30.0),)
    point = Landmark("carina", "Carina", "", "present", 0.9, (0.0, 0.0, 70.0))
    (flag,) = far_off((point,), expected)
    assert "70 mm" in flag.text
    assert flag.evidence == ("landmark/carina",)
    assert not far_off((replace(point, position_ras=(0.0, 50.0, 0.0)),), expected)
    assert not far_off((replace(point, presence="missing", position_ras=None),), expected)
    assert not far_off((point,), (replace(expected[0], radius_mm=80.0),))


def test_the_shipped_card_names_places_and_limits():
    spec = load_card("threedme_tiny").position
    assert {"larynx_centroid", "brainstem_inferior_end", "esophagus_superior_end"} <= spec.anchors.keys()
    assert all(each.radius_mm > 0 for each in spec.anchors.values())
    heights = list(spec.parts.values())
    assert heights == sorted(heights, reverse=True)
    assert all(each > 0 for each in spec.least_margins)
    ups = [
        spec.anchors[name].place_mm[2]
        for name in ("brainstem_inferior_end", "larynx_centroid", "esophagus_superior_end")
    ]
    assert ups == sorted(ups, reverse=True)


def margins_of(model, volume):
    scan = whole_scan(volume)
    with torch.inference_mode():
        return margins(model, scan, points_mm(model, scan, encoded(model, scan)))


def _along(volume, direction):
    return int(np.abs(volume.ijk_to_ras[direction, :3]).argmax())
