import numpy as np
import pytest

from ct3d.training.label_metrics import crg, label_scores

TRUTH = np.zeros((4, 3), bool)
TRUTH[0, 0] = TRUTH[1, 0] = TRUTH[2, 1] = True  # 3 of 12
NAMES = ("nodule", "effusion", "emphysema")


def test_naming_nothing_and_naming_everything_score_a_third_and_the_truth_1():
    found = label_scores(TRUTH, TRUTH, NAMES)["crg"]
    assert found == {
        "reports": 1.0,
        "naming_nothing": pytest.approx(1 / 3),
        "naming_everything": pytest.approx(1 / 3),
    }


def test_a_hit_weighs_as_much_more_than_a_false_alarm_as_findings_are_rarer():
    one_hit, one_alarm = np.zeros_like(TRUTH), np.zeros_like(TRUTH)
    one_hit[0, 0] = one_alarm[3, 2] = True
    assert crg(one_hit, TRUTH) == pytest.approx(4.5 / (9 + 1.5))  # w 1.5: 1.5 - 3
    assert crg(one_alarm, TRUTH) == pytest.approx(4.5 / (9 + 5.5))


def test_there_is_no_crg_where_nothing_or_everything_is_there():
    assert crg(TRUTH, np.zeros_like(TRUTH)) is None
    assert crg(TRUTH, np.ones_like(TRUTH)) is None


def test_scores_are_told_for_each_finding_pooled_and_averaged_over_those_that_occur():
    named = np.zeros_like(TRUTH)
    named[0, 0] = named[3, 0] = named[2, 1] = True
    found = label_scores(named, TRUTH, NAMES)
    assert found["labels"]["nodule"] == {"count": 2, "precision": 50.0, "recall": 50.0, "f1": 50.0}
    assert found["labels"]["effusion"]["f1"] == 100.0
    assert found["labels"]["emphysema"]["f1"] is None
    assert found["mean_of_labels"]["f1"] == 75.0
    assert found["pooled"]["f1"] == pytest.approx(200 * 2 / 6)
