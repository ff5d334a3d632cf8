import numpy as np
import pytest

from ct3d.training.retrieval_metrics import likeness, recall
from ct3d.training.text_metrics import is_same_place, is_same_text

FOUR = np.eye(4)


def test_each_finds_its_own_first_where_the_vectors_are_the_same():
    assert recall(FOUR, 3 * FOUR, ks=(1, 2)) == {"1": 100.0, "2": 100.0}


def test_recall_counts_how_many_lie_nearer_than_the_right_one():
    pool = FOUR[[1, 2, 3, 0]] + 0.1 * FOUR
    assert recall(FOUR, pool, ks=(1, 2)) == {"1": 0.0, "2": 100.0}


def test_a_clean_likeness_leaves_the_query_out_and_volumes_without_findings():
    features = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.01]])
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    assert likeness(features, labels, ks=(1,)) == {"1": pytest.approx(100 * (0.5 + 0.5 + 0.5) / 3)}
    assert likeness(features, labels, mode="compat", ks=(1,)) == {"1": 75.0}  # three find themselves


def test_an_empty_answer_is_right_in_compat_alone():
    assert is_same_place("", "heart", "compat")
    assert not is_same_place("", "heart")
    assert is_same_place("Lung/left lung", " lung/right lung")
    assert not is_same_text("lung", "lung/left lung")
