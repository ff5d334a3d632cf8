import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ct3d.training import State
from ct3d.training.conformal import conformal_radii, coverage, landmark_scales, left_out_coverage, proportion
from ct3d.training.metrics import (
    Scored,
    auroc,
    landmark_metrics,
    pooled_metrics,
    presence_metrics,
    radial_errors,
    rank_correlation,
    reference_errors,
    reference_hits,
)

NAN, INF = np.nan, np.inf


@pytest.fixture
def a_study():
    """Errors of 40 volumes and 5 landmarks, each of its own scale; a fifth without truth."""
    random = np.random.default_rng(3)
    steps = random.normal(size=(40, 5, 3)) * np.array([1, 1.5, 2, 3, 4])[None, :, None]
    errors = np.linalg.norm(steps, axis=-1)
    errors[random.random(errors.shape) < 0.2] = NAN
    return errors


def test_an_error_is_a_distance_in_mm_along_each_axis_own_spacing():
    truth = np.array([[[10.0, 10, 10], [NAN, 1, 1], [0, 0, 0]]])
    placed = np.array([[[13.0, 10, 12], [1, 1, 1], [NAN, 0, 0]]])
    assert_allclose(radial_errors(truth, placed, np.array([1.0, 1, 2])), [[5.0, NAN, INF]])
    assert_allclose(radial_errors(truth, placed)[0, 0], 13**0.5)


def test_the_mean_and_the_deviation_are_those_on_paper():
    errors = np.array([[1.0, 4.0], [3.0, NAN], [NAN, NAN]])
    metrics = landmark_metrics(Scored(("a", "b"), errors))
    first = metrics["landmarks"]["a"]
    assert (first["n"], first["mre_mm"]) == (2, 2.0)
    assert first["sd_mm"] == pytest.approx(2**0.5, abs=1e-4)  # ((1-2)² + (3-2)²) / (2 - 1)
    assert first["sd_mm_compat"] == 1.0  # ... / (3 volumes - 1)
    assert metrics["pooled"]["mre_mm"] == pytest.approx(8 / 3, abs=1e-4)
    assert metrics["pooled"]["per_volume"] == {"n": 2, "mre_mm": 2.75, "sd_mm": 0.3536}


def test_a_hit_is_an_error_up_to_the_distance_and_an_unplaced_landmark_never_is():
    metrics = pooled_metrics(np.array([[2.0, 2.001, INF, NAN]]), (2.0, 4.0))
    assert (metrics["n"], metrics["not_placed"]) == (3, 1)
    assert [metrics["sdr"][d]["inside"] for d in ("2", "4")] == [1, 2]
    assert metrics["mre_mm"] == pytest.approx(2.0005)


def test_complete_volumes_are_told_from_those_that_lack_a_landmark():
    errors = np.array([[1.0, 3.0], [5.0, NAN], [7.0, NAN]])
    states = np.array([[1, 1], [1, State.MISSING], [1, State.UNKNOWN]])
    metrics = landmark_metrics(Scored(("a", "b"), errors, states))
    assert (metrics["complete"]["volumes"], metrics["complete"]["mre_mm"]) == (1, 2.0)
    assert (metrics["incomplete"]["volumes"], metrics["incomplete"]["mre_mm"]) == (2, 6.0)


def test_an_unknown_landmark_is_in_no_score_of_presence():
    states = np.array([[State.PRESENT, State.MISSING, State.UNKNOWN]] * 2)
    errors = np.array([[1.0, NAN, NAN]] * 2)
    sure = np.array([[0.9, 0.1, 0.0]] * 2)
    presence = landmark_metrics(Scored(("a", "b", "c"), errors, states, sure))["presence"]
    assert (presence["n"], presence["auroc"], presence["f1"], presence["f1_of_absence"]) == (4, 1.0, 1.0, 1.0)


def test_the_area_under_the_curve_counts_ties_half():
    is_present = np.array([True, True, False, False])
    assert auroc(is_present, np.array([0.9, 0.5, 0.5, 0.1])) == 3.5 / 4
    assert auroc(is_present, np.full(4, 0.3)) == 0.5


def test_the_area_under_the_curve_is_that_of_all_pairs():
    random = np.random.default_rng(0)
    is_present, score = random.random(200) < 0.3, random.integers(0, 20, 200)
    pairs = score[is_present][:, None] - score[~is_present][None]
    assert auroc(is_present, score) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_there_is_no_area_without_both_classes():
    assert presence_metrics(np.ones(3, bool), np.array([0.2, 0.6, 0.7]))["auroc"] is None


def test_f1_at_a_threshold_counts_what_is_called_present():
    truth = np.array([True, True, True, False, False])
    presence = presence_metrics(truth, np.array([0.9, 0.5, 0.2, 0.6, 0.1]), 0.5)
    assert presence["counts"] == {
        "true_present": 2,
        "false_present": 1,
        "true_absent": 1,
        "false_absent": 1,
    }
    assert presence["f1"] == pytest.approx(4 / 6, abs=1e-4)
    assert (presence["f1_of_absence"], presence["accuracy"]) == (0.5, 0.6)


def test_rank_correlation_knows_order_only_and_shares_ranks_of_ties():
    assert rank_correlation(np.array([1.0, 2, 3, 9]), np.array([1.0, 8, 27, 1e6])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(0.75**0.5)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5.0)))


def test_the_interval_of_a_share_is_wilsons():
    assert proportion(8, 10) == {"n": 10, "inside": 8, "share": 0.8, "wilson95": [0.4902, 0.9433]}
    assert proportion(0, 5)["wilson95"][0] == 0.0
    assert proportion(0, 0)["share"] is None


def test_the_metrics_become_json_even_of_nothing(a_study):
    names = tuple("abcde")
    for errors in (a_study, np.full((3, 5), NAN), a_study[:0], np.full((1, 5), INF)):
        radii = np.arange(1.0, 6.0)
        metrics = landmark_metrics(Scored(names, errors, None, np.ones(errors.shape), radii))
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_radii_hold_nine_in_ten_of_the_errors_that_they_come_from(a_study):
    held = coverage(a_study, conformal_radii(a_study))
    assert held["n"] == np.isfinite(a_study).sum()
    assert held["inside"] == np.ceil((held["n"] + 1) * 0.9)


def test_a_radius_is_the_plain_conformal_quantile_where_scales_are_equal():
    errors = np.arange(1.0, 20.0)[:, None]  # n = 19: rank ceil(20 · 0.9) = 18
    assert_allclose(conformal_radii(errors, np.ones(1)), [18.0])


def test_a_landmark_that_is_hard_to_place_has_a_larger_radius(a_study):
    assert (np.diff(conformal_radii(a_study)) > 0).all()


def test_radii_hold_nine_in_ten_of_new_cases_too():
    random = np.random.default_rng(0)
    spread = np.array([1, 2, 4])[None, :, None]
    known, new = (np.linalg.norm(random.normal(size=(n, 3, 3)) * spread, axis=-1) for n in (60, 20_000))
    assert coverage(new, conformal_radii(known))["share"] == pytest.approx(0.9, abs=0.04)


def test_cases_left_out_are_held_about_as_often_but_not_by_their_own_errors(a_study):
    assert left_out_coverage(a_study)["share"] == pytest.approx(0.9, abs=0.05)
    outlier = np.vstack([np.ones((20, 5)), np.full((1, 5), 50.0)])
    assert left_out_coverage(outlier)["inside"] == 100  # none of the outlier's five


def test_a_landmark_seen_once_takes_most_of_its_scale_from_the_others():
    errors = np.column_stack([np.full(20, 2.0), [100.0] + [NAN] * 19])
    assert_allclose(landmark_scales(errors), [2.0, (100 + 5 * 2) / 6])


def test_too_few_errors_give_no_radius():
    with pytest.raises(ValueError, match="Take more cases"):
        conformal_radii(np.ones((8, 1)))  # ceil(9 · 0.9) = 9 > 8


def test_many_unplaced_landmarks_give_no_radius():
    with pytest.raises(ValueError, match="Take more cases"):
        conformal_radii(np.array([[1.0]] * 80 + [[INF]] * 20))


def test_the_references_error_and_hits_leave_out_what_has_no_truth():
    truth = np.array([[[10.0, 10, 10], [-1000, -1000, -1000]]])
    placed = np.array([[[10.0, 10, 12.5], [5, 5, 5]]])
    errors = reference_errors(truth, placed, np.ones((1, 3)))
    assert_allclose(errors, [[2.5, -1]])
    assert reference_hits(errors).tolist() == [[0, 0], [1, 0], [1, 0], [1, 0]] + [[1, 0]] * 4
