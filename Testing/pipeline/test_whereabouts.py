"""Where the shared encoder thinks it is: geometry holds however a scan is stored; figures show the data."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from ct3d.cards import load_card
from ct3d.errors import InvalidRequest
from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume
from ct3d.pipeline.encoder_input import as_seen
from ct3d.pipeline.job import build_model
from ct3d.pipeline.whereabouts import VIEW_KJI, VIEW_MM, whereabouts
from ct3d.pipeline.whole_scan import crops_of
from ct3d.training import watch

SAMPLE = Path.home() / ".cache" / "ct3d" / "samples" / "slicerio" / "CTChest4.nrrd"


@pytest.fixture(scope="module")
def a_model():
    return build_model(load_card("threedme_tiny"))


@pytest.fixture(scope="module")
def a_scan():
    if not SAMPLE.is_file():
        pytest.skip("the sample slicerio is not here; `make test` fetches it")
    return read_volume(SAMPLE)[0]


@pytest.fixture(scope="module")
def found(a_model, a_scan):
    return whereabouts(a_scan, a_model)


def test_views_lie_in_the_scan_and_apart(found):
    assert len(found.centers_ras) >= 3
    voxels = (
        np.linalg.inv(found.seen.ijk_to_ras) @ np.c_[found.centers_ras, np.ones(len(found.centers_ras))].T
    )
    size = np.array(found.seen.array.shape[::-1])
    assert (voxels[:3].T > -1).all()
    assert (voxels[:3].T - size < 0).all()
    apart = np.abs(found.gaps_mm)[np.triu_indices(len(found.centers_ras), 1)] / (
        np.array(VIEW_KJI[::-1]) * VIEW_MM
    )
    assert (apart.max(1) >= 0.24).all()


def test_a_scan_stored_another_way_round_gives_the_same(found, a_model, a_scan):
    turn = np.diag([-1.0, 1.0, -1.0, 1.0])
    turn[:3, 3] = a_scan.array.shape[2] - 1, 0, a_scan.array.shape[0] - 1
    other = Volume(np.ascontiguousarray(a_scan.array[::-1, :, ::-1]), a_scan.ijk_to_ras @ turn)
    other = Volume(np.ascontiguousarray(other.array.transpose(1, 0, 2)), other.ijk_to_ras[:, [0, 2, 1, 3]])
    again = whereabouts(other, a_model)
    np.testing.assert_allclose(again.centers_ras, found.centers_ras, atol=1e-3)
    np.testing.assert_allclose(again.edges_mm, found.edges_mm, atol=0.5)
    np.testing.assert_allclose(again.slopes, found.slopes, atol=0.01)


def test_parts_that_face_each_other_are_nearer_than_those_that_look_away(found):
    assert len(found.pairs)
    near, far = (np.linalg.norm(found.chunks_ras[:, n] - found.chunks_ras[:, n + 1], axis=1) for n in (0, 2))
    assert (near < far).all()
    middle = found.chunks_ras.mean(1)
    np.testing.assert_allclose(middle, found.centers_ras[found.pairs].mean(1), atol=1e-6)


def test_scores_are_numbers_and_those_of_the_truth_are_perfect(found):
    scores = found.scores()
    assert all(math.isfinite(value) for value in scores.values())
    true = type(found)(**{**vars(found), "edges_mm": found.gaps_mm, "points_mm": found.centers_ras + 7})
    perfect = true.scores()
    assert all(abs(perfect[name]) < 1e-3 for name in perfect if name != "ranking")


def test_the_figures_are_given_what_was_found(found, tmp_path):
    matplotlib.use("Agg")
    true, guessed = watch.gap_points(found)
    n = len(found.centers_ras)
    assert len(true) == len(guessed) == n * (n - 1) // 2
    assert true[0] == pytest.approx(np.linalg.norm(found.centers_ras[1] - found.centers_ras[0]))
    start, end = watch.arrow_ends(found)
    np.testing.assert_allclose(end[0] - start[0], found.edges_mm[0, 1])
    files = watch.draw(found, tmp_path)
    assert [Path(each).name for each in files] == ["gap.png", "arrows.png", "parts.png"]
    assert all(Path(each).stat().st_size > 10_000 for each in files)


def test_a_volume_without_a_body_is_refused(a_model):
    empty = Volume(np.full((40, 40, 40), -1000, np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))
    with pytest.raises(InvalidRequest, match="No body"):
        whereabouts(empty, a_model)


def test_the_shipped_weights_fill_the_card_s_net(a_model):
    assert sum(each.numel() for each in a_model.parameters()) > 3.5e6
    assert all(torch.isfinite(each).all() for each in a_model.parameters())


def test_moving_the_body_by_a_patch_moves_its_cells_and_hardly_changes_them(a_model, found):
    image = torch.from_numpy(as_seen(found.seen.array))
    view = crops_of(image, np.array([(8, 24, 24), (16, 24, 24)]), VIEW_KJI)
    with torch.inference_mode():
        f8 = a_model.encoder(view, torch.full((2, 3), VIEW_MM)).f8
    here, moved = f8[0, :, 1:], f8[1, :, :-1]
    alike = torch.cosine_similarity(here, moved, dim=0)[1:-1, 1:-1, 1:-1]
    assert alike.mean() > 0.9
    assert not torch.allclose(here, moved, atol=1e-2)  # the ViT's places are those of the crop
