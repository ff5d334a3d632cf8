"""The benchmark of small heads: cells meet their labels, none is learned from and scored, all tasks run."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.models.threedme import Config, Encoder, Features
from ct3d.pipeline.encoder_input import BodyView
from ct3d.training import State, benchmark_tasks, benchmark_threedme
from ct3d.training.benchmark_data import (
    CROP_KJI,
    STRUCTURES,
    Kept,
    Material,
    Scan,
    Subject,
    labels_on,
    random_crops,
    states_of,
)
from ct3d.training.benchmark_tasks import (
    BOX,
    GAP,
    TASKS,
    cut,
    dice_and_entropy,
    landmark_places,
    recall,
    slabs,
)
from ct3d.training.openkbp import LANDMARKS, ORGANS
from ct3d.training.probe_threedme import Patient

SMALL = Config(dim=48, depth=1, stem=(8, 12, 24), window=(3, 3, 3), decoder_dim=32)
STEPS = ("PYRAMID_STEPS", "LANDMARK_STEPS", "POOL_STEPS", "LINEAR_STEPS")


def a_window(rng, shape=(32, 48, 48)):
    """Noise with a brighter box for each organ; landmarks about the middle, one unknown."""
    organs = torch.zeros([n // 2 for n in shape], dtype=torch.int64)
    for n in range(len(ORGANS)):
        organs[2 * n : 2 * n + 2, 4:10, 4:10] = n + 1
    image = torch.from_numpy(rng.uniform(-1, -0.5, shape).astype(np.float32))[None, None]
    image += 0.1 * organs.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    middle = np.array([10.0, -20, 30])
    landmarks = middle + rng.uniform(-40, 40, (len(LANDMARKS), 3))
    landmarks[1] = np.nan
    return Patient(image, organs, np.ones(len(ORGANS), bool), middle, landmarks)


def a_subject(rng):
    states = torch.from_numpy(rng.integers(-1, 2, (4, len(LANDMARKS))))
    heights_mm = torch.tensor([70.0, 0, -60, -120])
    return Subject(a_window(rng), torch.rand(4, 1, 16, 32, 32) * 2 - 1, states, heights_mm)


def a_scan(shape=(32, 48, 48)):
    image = torch.rand(1, 1, *shape) * 2 - 1
    return Scan(image, torch.randint(-1, 3, [n // 2 for n in shape]))


@pytest.fixture
def a_material():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    structures = torch.randint(0, 1 + len(STRUCTURES), (24, 12, 12))
    own, held_out = ([a_subject(rng) for _ in range(count)] for count in (6, 2))
    return Material(own, held_out, [a_scan(), a_scan()], a_scan((96, 48, 48)), structures)


@pytest.fixture
def kept(a_material):
    torch.manual_seed(1)
    return Kept(Encoder(SMALL), a_material)


@pytest.fixture
def few_steps(monkeypatch):
    for name in STEPS:
        monkeypatch.setattr(benchmark_tasks, name, 2)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_finite_scores_twice_the_same_and_trains_nothing_of_the_encoder(kept, few_steps, task):
    before = {name: value.clone() for name, value in kept.net.state_dict().items()}
    scores = TASKS[task](kept, 0)
    assert scores == TASKS[task](kept, 0)
    assert all(np.isfinite(each) and each >= 0 for each in scores.values())
    assert all(each <= 1 for name, each in scores.items() if "mm" not in name)
    after = kept.net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_an_image_is_looked_at_once_and_its_mirror_image_for_itself(kept, monkeypatch):
    looks = []
    encode = kept.net.encode
    monkeypatch.setattr(kept.net, "encode", lambda *given: looks.append(1) or encode(*given))
    one = kept.material.own[0]
    first = kept.features(one.window.image)
    assert torch.equal(first.f4, kept.features(one.window.image).f4)
    upright, again, turned = (kept.tokens(one.crops, upside_down=each) for each in (False, False, True))
    assert torch.equal(upright, again)
    assert not torch.equal(upright, turned)
    assert len(looks) == 3


def test_a_box_of_features_is_the_same_place_on_all_strides():
    grid = (3, 5, 4)

    def places(factor):
        axes = [(torch.arange(n * factor) + 0.5) / factor for n in grid]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]

    f2 = places(8).movedim(1, -1)
    whole = Features(
        f2, places(4), places(2), places(1), torch.zeros(1, 9, 2), torch.zeros(1, 2), torch.ones(1, 3)
    )
    box = cut(whole, np.array([1, 2, 0]))
    middle = torch.tensor([1, 2, 0]) + torch.tensor(BOX) / 2
    for each in (box.f2.movedim(-1, 1), box.f4, box.f8, box.f16):
        torch.testing.assert_close(each.mean((0, 2, 3, 4)), middle)
    assert box.f16.shape[2:] == BOX


@pytest.mark.parametrize("seed", range(6))
def test_slabs_that_are_scored_lie_a_gap_from_those_that_are_learned_from(seed):
    own, other = (each.view(28, 2, 2)[:, 0, 0].nonzero() for each in slabs((28, 2, 2), seed))
    assert len(own) >= 6
    assert len(other) >= 6
    assert (own - other.T).abs().min() == GAP + 1


def test_landmarks_are_placed_in_cells_along_depth_height_and_width():
    window = a_window(np.random.default_rng(0))
    window.landmarks_ras[:4] = window.middle_ras + [[0, 0, 0], [np.nan] * 3, [-12, 24, 36], [0, 0, 55]]
    points, states = landmark_places(window)
    torch.testing.assert_close(points[0], torch.tensor([3.5, 5.5, 5.5]))
    torch.testing.assert_close(points[2], torch.tensor([6.5, 7.5, 4.5]))
    assert states[:4].tolist() == [State.PRESENT, State.UNKNOWN, State.PRESENT, State.MISSING]


def test_a_crop_shows_the_landmarks_that_it_is_told_to_show():
    body = np.ones((60, 70, 50), bool)  # narrower than a crop along the last axis
    affine = np.array([[3.0, 0, 0, -70], [0, 3, 0, 10], [0, 0, 3, -200], [0, 0, 0, 1]])
    hu = np.full(body.shape, -500, np.int16)
    marks = np.random.default_rng(1).integers(0, body.shape, (len(LANDMARKS), 3))
    hu[tuple(marks.T)] = 100 * np.arange(len(LANDMARKS))
    view = BodyView(Volume(hu, affine), body)
    crops, corners = random_crops(view, np.random.default_rng(2))
    points = ras_from_kji(marks, affine)
    points[3] = np.nan
    states = states_of(SimpleNamespace(landmarks_ras=points), view, corners)
    assert (states[:, 3] == State.UNKNOWN).all()
    for n in (0, 1, 2, 4, 5, 6):
        seen = (crops - n / 10).abs().flatten(1).amin(1) < 1e-3
        assert (seen == (states[:, n] == State.PRESENT)).all()
    assert (corners[:, :2] >= 0).all()
    assert (corners[:, :2] + CROP_KJI[:2] <= body.shape[:2]).all()


def test_a_cell_has_the_label_of_its_middle():
    body = np.ones((16, 16, 16), bool)
    view = BodyView(Volume(np.zeros(body.shape, np.int16), np.diag([3.0, 3, 3, 1])), body)
    fine = np.indices((48, 48, 48)).sum(0).astype(np.int16)  # at 1 mm: k + j + i
    first = np.diag([1.0, 1, 1, 1])
    first[:3, 3] = -1  # both grids begin at -1.5 mm
    labels = labels_on(view, Volume(fine, first), 4)
    k, j, i = np.indices(labels.shape)
    np.testing.assert_allclose(labels, 12 * (k + j + i) + 3 * 5.5, atol=2)


def test_the_loss_is_nothing_for_the_truth_and_doesnt_ask_about_what_isnt_known():
    labels = torch.tensor([0, 1, 2, -1]).view(1, 1, 2, 2)
    truth = 30.0 * torch.nn.functional.one_hot(labels.clamp_min(0), 4).movedim(-1, 1)
    assert dice_and_entropy(truth, labels) < 1e-6
    logits = torch.zeros_like(truth).requires_grad_()
    dice_and_entropy(logits, labels).backward()
    moved = logits.grad.abs().amax(1)
    assert ((moved > 0) == (labels >= 0)).all()


def test_recall_is_the_share_found():
    truth = torch.tensor([True, True, True, False])
    assert recall(torch.tensor([True, False, True, True]), truth) == pytest.approx(2 / 3)


def test_the_file_holds_every_kind_of_features_and_task_with_an_interval(
    a_material, few_steps, monkeypatch, tmp_path
):
    given = {}
    monkeypatch.setattr(benchmark_threedme, "read", lambda *_: a_material)
    monkeypatch.setattr(
        benchmark_threedme, "encoder", lambda file, seed: given.setdefault((file, seed), Encoder(SMALL))
    )
    out, tasks = tmp_path / "benchmark.json", ["upside_down", "chest_structures"]
    command = ["", "--data", "nowhere", "--weights", "own=own.safetensors", "--seeds", "2", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out), "--tasks", *tasks])
    threads = torch.get_num_threads()
    try:
        benchmark_threedme.main()
    finally:
        torch.set_num_threads(threads)
    result = json.loads(out.read_text())
    assert list(given) == [(None, 0), (None, 1), ("own.safetensors", 0)]
    assert list(result["features"]) == ["random", "own"]
    for kind in result["features"].values():
        assert list(kind) == tasks
        low, high = kind["upside_down"]["auroc"]["interval"]
        assert low <= kind["upside_down"]["auroc"]["mean"] <= high
