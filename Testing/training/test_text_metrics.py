import pytest

pytest.importorskip("sacrebleu", reason="it is in requirements-train.txt")
pytest.importorskip("nltk", reason="it is in requirements-train.txt")

from ct3d.training.text_metrics import (
    bleu_precisions,
    corpus_bleu,
    group_of,
    meteor,
    place_scores,
    rouge_1,
    rouge_l,
    text_scores,
)

SAME = [("The lungs are clear today.", "The lungs are clear today.")]
SHORT = ("no nodule", "there is no nodule in the lung")  # 2 of 7 words, all right


def test_a_text_that_is_the_reference_scores_full_marks():
    for mode in ("compat", "clean"):
        found = text_scores(SAME, mode)
        assert found.pop("meteor_without_synonyms") > 99  # its penalty for one chunk of five is 0.4 %
        assert list(found.values()) == [pytest.approx(100.0)] * 6


def test_what_the_reference_calls_bleu_does_not_mind_how_much_was_left_out():
    assert bleu_precisions([SHORT])["bleu_1"] == 100.0
    assert corpus_bleu([SHORT])["bleu_1"] == pytest.approx(100 * 2.718281828 ** (1 - 7 / 2))


def test_what_the_reference_calls_bleu_4_counts_a_text_of_three_words_as_0():
    pairs = [*SAME, ("no effusion seen", "no effusion seen")]
    assert bleu_precisions(pairs)["bleu_4"] == 50.0
    assert corpus_bleu(pairs)["bleu_4"] == pytest.approx(100.0)


def test_rouge_l_counts_words_in_order_and_rouge_1_in_any():
    assert rouge_l("clear are the lungs", "the lungs are clear") == 0.5  # "the lungs"
    assert rouge_1("clear are the lungs", "The lungs are clear.") == 1.0
    assert rouge_l(
        "the lungs are clear . no effusion", "The lungs are clear. There is no pleural effusion."
    ) == (pytest.approx(0.8))
    assert rouge_l("", "heart") == 0.0


def test_meteor_takes_words_of_one_stem_for_the_same_but_no_synonyms():
    assert meteor("small nodules", "small nodule") > 0.9
    assert meteor("tiny nodule", "small nodule") < 0.6
    assert meteor("", "heart") == 0.0


def test_a_place_belongs_to_its_first_part_and_in_compat_to_the_first_group_that_it_names():
    assert (group_of("abdomen/bone"), group_of("abdomen/bone", "compat")) == ("abdomen", "bone")
    assert group_of("spine") == "others"


def test_the_mean_of_groups_counts_a_rare_one_as_much_as_a_common_one():
    pairs = [("lung/left lung", "lung/left lung")] * 3 + [("lung", "heart")]
    found = place_scores(pairs)
    assert (found["major_class"], found["exact"]) == (75.0, 75.0)
    assert found["mean_of_groups"]["major_class"] == 50.0
    assert found["groups"]["heart"] == {"count": 1, "major_class": 0.0, "exact": 0.0}


def test_an_empty_answer_counts_as_right_in_compat_alone():
    pairs = [("", "heart")]
    assert place_scores(pairs, "compat")["major_class"] == 100.0
    assert place_scores(pairs)["major_class"] == 0.0
