"""From voxels to points by a net: geometry with an oracle, verdicts, weights, and real scans."""

import hashlib
import json
import threading
import time
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from landmark_oracle import Oracle, a_ruler, grid, oracle_card
from pace import assert_within, timed
from safetensors.torch import save_file
from torch import nn

from ct3d.cards import LandmarkLimits, LandmarkShape, Weights, load_card
from ct3d.errors import InvalidRequest, TaskCancelled, WeightsCorrupt, WeightsMissing
from ct3d.imaging.exchange import store_volume
from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume, ijk_from_ras
from ct3d.pipeline import landmarks, prepare_input
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.pipeline.landmark_net import LandmarkNet, build_net, load_weights, place_with, search
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.tasks import LandmarkParams, LandmarkResult, PrepareParams

POINTS = {
    "brainstem_centroid": (3.3, 2.2, 41.1),
    "right_parotid_centroid": (42.3, 11.1, 10.7),
    "left_parotid_centroid": (-45.2, 20.4, 8.9),
    "larynx_centroid": (2.1, 30.6, -51.4),
}
STIFF = (tuple(tuple(row) for row in 4.0 * np.eye(4)),) * 3  # mm²: the points hardly vary
NOWHERE = (np.nan, np.nan, np.nan)
EXACT_MM = 0.02  # positions are rounded to 0.01 mm along each axis
SHOWN_MM = 0.05  # how far a shown value may lie beside its place: float32 on a ruler of 1e6


def turned(axis: int, degrees: float) -> np.ndarray:
    """Rotation about the R, A or S axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    one, other = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = c
    matrix[one, other], matrix[other, one] = -s, s
    return matrix


@pytest.fixture
def a_job(tmp_path):
    return LocalJob(tmp_path)


@pytest.fixture
def placed_by_oracle(a_job):
    """Function: volume, points and changes of the card → what is placed, by id, and the oracle."""

    def place(volume, points=POINTS, **card):
        card = oracle_card(points, **card)
        oracle = Oracle(list(points.values()), volume, card)
        placed = place_with(oracle, card, volume, a_job)
        return {each.id: each for each in placed.landmarks}, placed, oracle

    return place


def off_mm(landmarks, points=POINTS) -> float:
    """Largest distance of a placed landmark from its true place."""
    return max(np.linalg.norm(np.subtract(landmarks[name].position_ras, points[name])) for name in points)


def is_exact(landmarks, oracle) -> bool:
    return off_mm(landmarks) < EXACT_MM and oracle.shift_mm < SHOWN_MM


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [30, -30, 77])
def test_turning_the_grid_of_a_volume_moves_no_landmark(placed_by_oracle, axis, degrees):
    volume = a_ruler(*grid(turned(axis, degrees)))
    found, _, oracle = placed_by_oracle(volume)
    assert is_exact(found, oracle)


def test_turning_a_volume_about_all_axes_moves_no_landmark(placed_by_oracle):
    turn = turned(0, 30) @ turned(1, 30) @ turned(2, 30)
    found, _, oracle = placed_by_oracle(a_ruler(*grid(turn, (2.1, 2.7, 7.0))))
    assert is_exact(found, oracle)


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_flipping_axes_moves_no_landmark_left_handed_grids_included(placed_by_oracle, signs):
    found, _, oracle = placed_by_oracle(a_ruler(*grid(np.diag(signs), (2.5, 3.0, 4.0))))
    assert is_exact(found, oracle)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_permuting_axes_moves_no_landmark(placed_by_oracle, order):
    found, _, oracle = placed_by_oracle(a_ruler(*grid(np.eye(3)[:, order], (4.0, 3.0, 2.5))))
    assert is_exact(found, oracle)


@pytest.mark.parametrize("spacing", [(5.0, 5, 5), (1.7, 1.7, 1.7), (1.2, 1.2, 5), (2, 6, 3), (3, 3, 10)])
def test_another_spacing_moves_no_landmark(placed_by_oracle, spacing):
    found, _, oracle = placed_by_oracle(a_ruler(*grid(spacing=spacing, half_extent_mm=95)))
    assert is_exact(found, oracle)


def test_windows_and_the_whole_volume_at_once_give_the_same_places(placed_by_oracle):
    volume = a_ruler(*grid(turned(2, 30)))
    by_window, _, oracle = placed_by_oracle(volume)
    at_once, _, whole = placed_by_oracle(volume, window_kji=(128, 128, 128))
    assert oracle.windows > 20
    assert whole.windows == 1
    assert off_mm(by_window, {name: each.position_ras for name, each in at_once.items()}) < EXACT_MM


def test_a_volume_that_is_smaller_than_the_window_is_seen_whole(placed_by_oracle):
    points = {"brainstem_centroid": (3.3, 2.2, 11.1), "larynx_centroid": (-6.0, 9.0, -12.5)}
    found, _, oracle = placed_by_oracle(a_ruler(*grid(half_extent_mm=45)), points)
    assert oracle.windows == 4  # 18 voxels: padded along K, two windows each along J and I
    assert off_mm(found, points) < EXACT_MM
    found, _, oracle = placed_by_oracle(a_ruler(*grid(half_extent_mm=35)), points)
    assert oracle.windows == 1
    assert off_mm(found, points) < EXACT_MM


def test_of_a_single_slice_nothing_is_certain(placed_by_oracle):
    affine, (_, rows, columns) = grid()
    affine[2, 3] = POINTS["brainstem_centroid"][2]
    found, placed, _ = placed_by_oracle(a_ruler(affine, (1, rows, columns)))
    assert {each.presence for each in found.values()} <= {"outside", "missing"}
    assert placed.flags[0].id == "landmarks_body_part"  # one map alone has its peak there


def test_a_point_beyond_the_field_of_view_is_outside_or_missing_and_has_no_place(placed_by_oracle):
    volume = a_ruler(*grid())
    top = int(ijk_from_ras([POINTS["brainstem_centroid"]], volume.ijk_to_ras)[0, 2]) - 1
    cut = Volume(volume.array[:top], volume.ijk_to_ras)
    found, _, _ = placed_by_oracle(cut)
    assert found["brainstem_centroid"].presence == "outside"
    assert found["brainstem_centroid"].position_ras is None
    assert "ends" in found["brainstem_centroid"].note
    assert off_mm(found, {name: POINTS[name] for name in POINTS if name != "brainstem_centroid"}) < EXACT_MM
    far = Volume(volume.array[: top - 10], volume.ijk_to_ras)
    found, _, _ = placed_by_oracle(far)
    assert found["brainstem_centroid"].presence == "missing"
    assert found["brainstem_centroid"].confidence < 0.05
    assert found["larynx_centroid"].presence == "present"


def test_the_edge_of_the_body_is_not_the_edge_of_the_field_of_view(placed_by_oracle):
    points = {"brainstem_centroid": (3.3, 2.2, 79.0), "larynx_centroid": (68.0, 9.0, -12.5)}  # on its skin
    found, _, _ = placed_by_oracle(a_ruler(*grid(half_extent_mm=130)), points)
    assert {each.presence for each in found.values()} == {"present"}
    assert off_mm(found, points) < EXACT_MM


def test_a_landmark_that_is_not_there_keeps_its_entry(placed_by_oracle):
    points = {**POINTS, "larynx_centroid": NOWHERE}
    found, placed, _ = placed_by_oracle(a_ruler(*grid()), points)
    missing = found["larynx_centroid"]
    assert (missing.presence, missing.position_ras, missing.radius_mm) == ("missing", None, None)
    assert missing.definition
    assert missing.confidence < 0.01
    assert "0.00" in missing.note
    assert list(found) == list(POINTS)
    assert placed.flags == ()


def test_a_present_landmark_has_the_radius_of_the_card_and_its_probability(placed_by_oracle):
    found, _, _ = placed_by_oracle(a_ruler(*grid()))
    for landmark in found.values():
        assert landmark.presence == "present"
        assert landmark.radius_mm == 7.5
        assert 0.99 < landmark.confidence <= 1
        assert landmark.note == ""


def test_a_scan_of_another_part_of_the_body_gives_no_point_and_says_so(placed_by_oracle):
    found, placed, _ = placed_by_oracle(a_ruler(*grid()), dict.fromkeys(POINTS, NOWHERE))
    assert {each.presence for each in found.values()} == {"missing"}
    assert max(each.confidence for each in found.values()) < 0.01
    (flag,) = placed.flags
    assert flag.severity == "info"
    assert "doesn't seem to show the head and neck" in flag.text


def test_a_lone_landmark_is_not_believed(placed_by_oracle):
    points = {**dict.fromkeys(POINTS, NOWHERE), "larynx_centroid": POINTS["larynx_centroid"]}
    found, placed, _ = placed_by_oracle(a_ruler(*grid()), points)
    lone = found["larynx_centroid"]
    assert (lone.presence, lone.position_ras, lone.confidence) == ("missing", None, 0.0)
    assert "none of the others" in lone.note
    assert len(placed.flags) == 1


def test_the_others_can_speak_against_a_landmark_and_move_no_point(placed_by_oracle):
    volume = a_ruler(*grid())
    true = LandmarkShape("a test", (3.0, 0.0), tuple(POINTS.values()), STIFF)
    wrong = replace(
        true, places_mm=(*true.places_mm[:3], (2.1, 30.6, -180.0))
    )  # the larynx far below the scan
    found, _, _ = placed_by_oracle(volume, shape=true)
    assert {each.presence for each in found.values()} == {"present"}
    assert off_mm(found) < EXACT_MM
    found, _, _ = placed_by_oracle(volume, shape=wrong)
    assert found["larynx_centroid"].presence == "missing"
    assert off_mm(found, {name: POINTS[name] for name in list(POINTS)[:3]}) < EXACT_MM


def test_a_shape_without_a_place_for_each_landmark_is_refused(a_tiny_card):
    shape = LandmarkShape("a test", (0.0,) * 2, ((0.0,) * 3,) * 4, STIFF)
    with pytest.raises(InvalidRequest, match="a place a landmark"):
        build_net(replace(a_tiny_card[0], shape=shape))


def test_swapped_sides_are_flagged_by_the_limits_of_the_card(a_job):
    right, left = "right_parotid_centroid", "left_parotid_centroid"
    card = replace(oracle_card(POINTS), limits=LandmarkLimits("a test", pairs=((right, left),)))
    volume = a_ruler(*grid())
    swapped = {**POINTS, right: POINTS[left], left: POINTS[right]}
    plain, bad = (
        place_with(Oracle(list(points.values()), volume, card), card, volume, a_job).flags
        for points in (POINTS, swapped)
    )
    assert plain == ()
    assert len(bad) == 1
    assert bad[0].evidence == (f"landmark/{right}", f"landmark/{left}")


def test_a_card_without_calibration_says_so_at_each_landmark(a_job):
    card = oracle_card(POINTS)
    card = replace(card, landmarks=tuple(replace(each, presence=None) for each in card.landmarks))
    volume = a_ruler(*grid())
    placed = place_with(Oracle(list(POINTS.values()), volume, card), card, volume, a_job)
    assert all("not calibrated" in each.note for each in placed.landmarks)


def test_what_the_net_saw_is_recorded_with_its_crop(placed_by_oracle):
    volume = a_ruler(*grid(spacing=(4.0, 2.0, 2.0), half_extent_mm=150))
    _, placed, _ = placed_by_oracle(volume)
    assert placed.saw.spacing_to_kji_mm == (5.0, 5.0, 5.0)
    assert placed.saw.orientation_to == "RAS"
    (k0, k1), (j0, j1), (i0, i1) = placed.saw.crop_from_kji
    assert 190 <= (k1 - k0) * 2.0 <= 220  # the body's 160 mm and 20 mm on both sides, in whole voxels
    assert 150 <= (j1 - j0) * 2.0 <= 180
    assert 170 <= (i1 - i0) * 4.0 <= 204
    assert any("body" in note for note in placed.saw.notes)


class Slow(nn.Module):
    """Takes its time for every window."""

    def forward(self, x):
        time.sleep(0.1)
        return torch.zeros(1, len(POINTS), *x.shape[2:])


@timed
def test_a_stopped_job_ends_within_a_second(a_job):
    volume = a_ruler(*grid())
    stopped = []

    def stop():
        stopped.append(time.perf_counter())
        a_job.cancelled = True

    timer = threading.Timer(1.0, stop)
    timer.start()
    with pytest.raises(TaskCancelled):
        place_with(Slow(), oracle_card(POINTS), volume, a_job)
    assert_within(time.perf_counter() - stopped[0], 1.0, "stopping")
    timer.join()


def test_progress_grows_to_the_end(a_job, placed_by_oracle):
    told = []
    a_job.on_progress = lambda name, fraction: told.append((name, fraction))
    _, _, oracle = placed_by_oracle(a_ruler(*grid()))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1
    assert [name for name, _ in told].count("heat maps") == oracle.windows


@pytest.fixture(scope="module")
def a_tiny_card(tmp_path_factory):
    """The shipped card with its tiny net, random weights in fp16, and the folder of those."""
    card = load_card("h3denet_headneck")
    card = replace(card, config=card.tiny, heatmaps=replace(card.heatmaps, window_kji=(32, 24, 24)))
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    state = {name: value.half() for name, value in build_net(card).state_dict().items()}
    save_file(state, folder / "tiny.safetensors")
    sha256 = hashlib.sha256((folder / "tiny.safetensors").read_bytes()).hexdigest()
    return replace(card, weights=Weights("tiny.safetensors", sha256)), folder


@pytest.fixture(scope="module")
def a_tiny_net(a_tiny_card) -> LandmarkNet:
    card, folder = a_tiny_card
    return LandmarkNet(card, folder / card.weights.file)


def noise(shape, dtype, low, high) -> Volume:
    values = np.random.default_rng(1).uniform(low, high, shape).astype(dtype)
    return Volume(values, np.diag([-3.0, -3.0, 3.0, 1.0]))


def test_the_same_scan_gives_the_same_result_twice(a_tiny_net, a_job):
    volume = noise((30, 60, 50), np.int16, -1000, 1500)
    first, second = (a_tiny_net.place(volume, a_job) for _ in range(2))
    assert first == second
    assert len(first.landmarks) == 11
    assert a_tiny_net.memory_bytes > 10_000


@pytest.mark.parametrize(
    "volume",
    [
        noise((9, 20, 20), np.uint16, 0, 4000),
        noise((9, 20, 20), np.uint8, 0, 255),
        noise((9, 20, 20), np.float64, 0, 1),
        noise((9, 20, 20), np.int32, -1e6, 1e6),
        noise((1, 20, 20), np.int16, -1000, 1000),
        noise((1, 1, 1), np.int16, 40, 41),
        Volume(np.full((9, 20, 20), np.nan, np.float32), np.eye(4)),
        Volume(np.full((9, 20, 20), -3024, np.int16), np.eye(4)),
        Volume(np.full((9, 20, 20), -1000, np.int16), np.eye(4)),
    ],
    ids=["uint16", "uint8", "0 to 1", "huge", "one slice", "one voxel", "no numbers", "padding", "air"],
)
def test_whatever_the_values_are_the_result_is_made_of_numbers(a_tiny_net, a_job, volume):
    placed = a_tiny_net.place(volume, a_job)
    text = json.dumps(encode(placed.landmarks), allow_nan=False)
    assert len(json.loads(text)) == 11
    assert all(0 <= each.confidence <= 1 for each in placed.landmarks)


def test_a_hole_of_no_numbers_changes_nothing_far_from_it(a_job):
    volume = a_ruler(*grid(turned(2, 30)))
    card = oracle_card(POINTS)
    oracle = Oracle(list(POINTS.values()), volume, card)
    volume.array[40:44, 40:44, 60:64] = np.nan
    found = search(oracle, card, volume, a_job)
    assert np.isfinite(found.points_ras).all()
    np.testing.assert_allclose(found.points_ras, list(POINTS.values()), atol=EXACT_MM)


class CardJob(LocalJob):
    """A job that knows one card more."""

    def __init__(self, folder, card, weights_dir):
        super().__init__(folder, (weights_dir,))
        self.own = card

    def card(self, card_id):
        return self.own if card_id == self.own.id else super().card(card_id)


def test_the_task_runs_a_net_of_its_card_and_its_result_survives_the_wire(a_tiny_card, tmp_path):
    card, folder = a_tiny_card
    volume = noise((30, 40, 40), np.int16, -1000, 1500)
    params = LandmarkParams(store_volume(volume, tmp_path), card=card.id)
    result = landmarks.run(params, CardJob(tmp_path, card, folder))
    assert decode(LandmarkResult, encode(result)) == result
    assert [each.id for each in result.landmarks] == [each.id for each in card.landmarks]
    assert {each.card for each in result.landmarks} == {card.id}
    assert result.saw.card == card.id
    assert result.saw.shape_from_kji == (30, 40, 40)
    assert result.step.weights_sha256 == card.weights.sha256
    assert result.step.device in ("cpu", "cuda")
    assert {"resample", "heat maps", "points"} <= set(result.step.stages)


def test_what_is_shown_as_the_model_s_input_is_what_its_net_sees(a_tiny_card, a_tiny_net, tmp_path):
    volume = a_ruler(*grid(spacing=(4.0, 3.0, 3.0), half_extent_mm=130))
    job = CardJob(tmp_path, *a_tiny_card)
    shown = prepare_input.run(PrepareParams(store_volume(volume, tmp_path), a_tiny_card[0].id), job)
    assert shown.saw == a_tiny_net.place(volume, job).saw
    assert job.volume(shown.volume).array.shape == shown.saw.shape_to_kji


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("head.bias"), r"1 missing: head\.bias"),
        (lambda state: state.update(more=torch.zeros(2)), "1 too many: more"),
        (lambda state: state.update({"head.bias": torch.zeros(3)}), r"1 of another shape: head\.bias"),
        (lambda state: [state.pop(key) for key in list(state)[:9]], "9 missing: .*, …"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_their_keys(a_tiny_card, tmp_path, change, words):
    card, _ = a_tiny_card
    state = {name: value.half() for name, value in build_net(card).state_dict().items()}
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsCorrupt, match=words):
        load_weights(build_net(card), tmp_path / "w.safetensors")


def test_a_file_that_is_no_safetensors_is_refused(a_tiny_card, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"pickle" * 100)
    with pytest.raises(WeightsCorrupt, match="no safetensors"):
        LandmarkNet(a_tiny_card[0], tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("config", "words"),
    [({"landmarks": 12}, "11 landmarks"), ({"in_channels": 1}, "2 input channels"), ({"wings": 2}, "wings")],
)
def test_a_card_whose_config_makes_no_net_is_refused(a_tiny_card, config, words):
    card, _ = a_tiny_card
    with pytest.raises(InvalidRequest, match=words):
        build_net(replace(card, config={**card.config, **config}))


def test_a_card_without_weights_says_that_there_are_none(a_tiny_card):
    with pytest.raises(WeightsMissing, match="no weights"):
        LandmarkNet(replace(a_tiny_card[0], weights=None), None)


@pytest.fixture(scope="session")
def the_shipped_net() -> LandmarkNet:
    """The card's own net; skipped while its weights are not here."""
    try:
        return build_model(load_card("h3denet_headneck"))
    except WeightsMissing as error:
        pytest.skip(str(error))


def test_a_chest_ct_has_no_landmark_of_head_and_neck(the_shipped_net, a_sample, a_job):
    placed = the_shipped_net.place(read_volume(a_sample("lidc_idri_0001"))[0], a_job)
    assert {each.presence for each in placed.landmarks} == {"missing"}
    assert max(each.confidence for each in placed.landmarks) <= 0.5
    assert [flag.id for flag in placed.flags] == ["landmarks_body_part"]
