"""Questions about a case with known values; no language model but where one is asked to word."""

from dataclasses import replace
from pathlib import Path

import pytest

from ct3d.case import Case, PointReview, Scope
from ct3d.errors import InvalidRequest
from ct3d.pipeline.answer import CANNOT_TELL, run
from ct3d.pipeline.evidence import check
from ct3d.pipeline.job import LocalJob
from ct3d.protocol.messages import BACK
from ct3d.protocol.tasks import AnswerParams, Turn

GOLDEN = Path(__file__).parents[1] / "golden"

TOLD = [  # question, what the answer must hold, an entry that it must lean on
    ("What is the volume of the right lung?", ["2340 mL", "right"], "attribute/right_lung.volume"),
    ("How big is the left lung?", ["1980 mL", "left"], "attribute/left_lung.volume"),
    ("volume of both lungs", ["2340 mL", "1980 mL"], "attribute/left_lung.volume"),
    ("What is the mean attenuation of the left lung?", ["-815 HU"], "attribute/left_lung.mean_hu"),
    ("What is the mean HU of the right lung?", ["-822 HU"], "attribute/right_lung.mean_hu"),
    ("How dense is the right lung in hounsfield?", ["-822 HU"], "attribute/right_lung.mean_hu"),
    ("Which lung is larger?", ["2340 mL", "1980 mL"], "attribute/right_lung.volume"),
    ("Whats the volumne of the rigth lung?", ["2340 mL", "right"], "attribute/right_lung.volume"),
    ("Is the right lung volume more than 2 liters?", ["Yes.", "2340 mL"], "attribute/right_lung.volume"),
    ("What is the emphysema index of the right lung?", ["3%"], "attribute/right_lung.emphysema_index"),
    ("emphysema index", ["3%", "0%"], "attribute/left_lung.emphysema_index"),
    ("Is there emphysema?", ["No emphysema"], "finding/emphysema"),
    ("How many nodules are there?", ["six"], "region/nodule_1"),
    ("How many nodules are in the left lung?", ["three", "left"], "region/nodule_1"),
    ("How many nodule candidates on the right?", ["three", "right"], "region/nodule_2"),
    ("number of nodules in the right lower zone", ["one"], "region/nodule_5"),
    ("Are there any nodules?", ["Yes.", "23 mm", "left lower zone"], "region/nodule_1"),
    ("Is there a nodule in the left lower zone?", ["Yes.", "left lower zone"], "region/nodule_1"),
    ("Is there a mass?", ["nodule candidate", "23 mm"], "region/nodule_1"),
    ("Do you see a nodule in the right lower zone?", ["Yes.", "4 mm"], "region/nodule_5"),
    ("Where is the largest nodule?", ["left lower zone"], "attribute/nodule_1.zone"),
    ("On which side is the biggest nodule?", ["left"], "region/nodule_1"),
    ("Where are the nodules?", ["left lower zone", "right upper zone"], "region/nodule_2"),
    ("is nodule 2 on the right?", ["Yes.", "right upper zone"], "region/nodule_2"),
    ("How big is the largest nodule?", ["23 mm", "18 mm"], "attribute/nodule_1.long_diameter"),
    ("size of the smallest nodule", ["4 mm"], "attribute/nodule_5.long_diameter"),
    (
        "What is the size of the nodule in the right upper zone?",
        ["7 mm", "right"],
        "attribute/nodule_2.long_diameter",
    ),
    ("What is the short diameter of the largest nodule?", ["18 mm"], "attribute/nodule_1.short_diameter"),
    ("What is the density of the largest nodule?", ["25 HU"], "attribute/nodule_1.mean_hu"),
    ("What is the volume of the largest nodule?", ["4.1 mL"], "attribute/nodule_1.volume"),
    ("How far is the largest nodule from the carina?", ["51 mm"], "attribute/nodule_1.distance_to_carina"),
    ("Is the nodule larger than 20 mm?", ["Yes.", "23 mm"], "attribute/nodule_1.long_diameter"),
    ("Is the largest nodule bigger than 3 cm?", ["No.", "23 mm"], "attribute/nodule_1.long_diameter"),
    ("Is there a pleural effusion?", ["possible", "right"], "region/effusion_right"),
    (
        "Is there a pleural effusion on the left?",
        ["No pleural effusion candidate", "left"],
        "finding/pleural_effusion",
    ),
    ("Which side is the effusion?", ["right"], "region/effusion_right"),
    ("How large is the effusion?", ["120 mL"], "attribute/effusion_right.volume"),
    ("How much fluid is there?", ["120 mL"], "attribute/effusion_right.volume"),
    ("How many effusions are there?", ["one"], "region/effusion_right"),
    (
        "Where is the carina?",
        ["carina", "R 1, A 20, S -120 mm", "110 mm caudal to the right lung apex"],
        "landmark/right_lung_apex",
    ),
    ("Where is the right lung apex?", ["R 40, A 20, S -10 mm", "110 mm cranial"], "landmark/carina"),
    ("Is the carina seen?", ["The carina is identified."], "landmark/carina"),
    ("Is the left lung base seen?", ["not identified"], "landmark/left_lung_base"),
    ("Is the left lung completely in the field of view?", ["completely"], "region/left_lung"),
    ("Is the skeleton completely imaged?", ["only partly"], "region/skeleton"),
    ("What is the mean density of the bones?", ["412 HU", "imaged part"], "attribute/skeleton.mean_hu"),
    ("What is the volume of the trachea?", ["47 mL", "main bronchi"], "attribute/airways.volume"),
    ("Describe the left lung.", ["1980 mL", "-815 HU", "0%"], "attribute/left_lung.mean_hu"),
    ("Summarize the findings.", ["six nodule candidates", "120 mL", "Not assessed"], "region/nodule_1"),
    ("Tell me about the effusion", ["120 mL", "right"], "region/effusion_right"),
]
NOT_TOLD = [
    "Is there lymphadenopathy?",
    "Is there pneumonia?",
    "Is the nodule malignant?",
    "Is the heart enlarged?",
    "Has the nodule grown since the prior scan?",
    "What should I do about the nodule?",
    "How is the liver?",
    "What is the volume of the liver?",
    "What is the patient's age?",
    "Is there a fracture?",
    "Are the airways patent?",
    "Is there a coronary calcification?",
    "Is the nodule spiculated?",
    "What is the diameter of the right lung?",
    "What is the weather?",
    "",
]


@pytest.fixture(scope="module")
def the_made_up_case():
    return Case.from_json((GOLDEN / "case_made_up.json").read_text(encoding="utf-8"))


@pytest.fixture
def ask(the_made_up_case, tmp_path):
    def ask(question, **more):
        return run(AnswerParams(the_made_up_case, question, card="", **more), LocalJob(tmp_path)).answer

    return ask


@pytest.mark.parametrize(("question", "parts", "evidence"), TOLD)
def test_a_question_is_answered_with_its_evidence(question, parts, evidence, ask, the_made_up_case):
    answer = ask(question)
    assert answer.support == "supported", answer.reasons
    assert not [part for part in parts if part not in answer.text], answer.text
    assert evidence in answer.evidence
    plain = answer.text.removeprefix("Yes. ").removeprefix("No. ")
    assert check(plain, the_made_up_case).support == "supported", answer.text


@pytest.mark.parametrize("question", NOT_TOLD)
def test_what_nothing_supports_is_not_told(question, ask):
    answer = ask(question)
    assert answer.text == CANNOT_TELL == "This can't be told from this scan with these models."
    assert answer.support == "unsupported"
    assert answer.reasons
    assert not answer.evidence


def test_a_follow_up_takes_what_it_does_not_say_from_before(ask):
    first = (Turn("What is the volume of the right lung?", "2340 mL"),)
    assert "1980 mL" in ask("and on the left?", history=first).text
    second = (*first, Turn("and the mean attenuation?", "-822 HU"))
    assert "-822 HU" in ask("and the mean attenuation?", history=first).text
    assert "-815 HU" in ask("And of the left lung?", history=second).text
    left = Scope("region", "left_lung")
    assert "three" in ask("And here?", history=(Turn("How many nodules are there?", "six"),), scope=left).text
    assert "three" in ask("and on the right?", history=(Turn("How many nodules are there?", "six"),)).text


@pytest.mark.parametrize(
    ("scope", "question", "part"),
    [
        (Scope("region", "left_lung"), "How many nodules are there?", "three"),
        (Scope("region", "left_lung"), "Is there a pleural effusion?", "No pleural effusion candidate"),
        (Scope("region", "right_lung"), "How large is the effusion?", "120 mL"),
        (Scope("region", "nodule_3"), "How big is the nodule?", "6 mm"),
        (Scope("region", "nodule_3"), "How big is it?", "6 mm"),
        (Scope("region", "left_lung"), "What is the volume?", "left lung is 1980 mL"),
        (Scope("region", "left_lung"), "mean attenuation", "-815 HU"),
        (Scope("region", "skeleton"), "How dense is it?", "412 HU"),
        (Scope("region", "lungs"), "What is the volume?", "right lung is 2340 mL"),
        (Scope("region", "left_lung"), "What is the volume of the right lung?", CANNOT_TELL),
        (Scope("slices", range_ras_mm=(-300.0, 0.0)), "What is the volume of the right lung?", "2340 mL"),
        (Scope("slices", range_ras_mm=(-100.0, -50.0)), "What is the volume of the right lung?", CANNOT_TELL),
        (Scope("slices", range_ras_mm=(-100.0, -50.0)), "How many nodules are there?", CANNOT_TELL),
        (
            Scope("box", range_ras_mm=(-9.0, 9.0, 0.0, 40.0, -130.0, -110.0)),
            "Is the carina seen?",
            "identified",
        ),
        (Scope("box", range_ras_mm=(-9.0, 9.0, 0.0, 40.0, -10.0, 0.0)), "Is the carina seen?", CANNOT_TELL),
    ],
)
def test_only_what_lies_in_the_scope_is_used(scope, question, part, ask):
    assert part in ask(question, scope=scope).text


def test_a_landmark_lies_where_a_person_moved_it(the_made_up_case, tmp_path):
    moved = PointReview("carina", "moved", (3.0, 21.0, -118.0))
    rejected = PointReview("right_lung_apex", "rejected")
    case = replace(the_made_up_case, reviews=(moved, rejected))
    job = LocalJob(tmp_path)
    answer = run(AnswerParams(case, "Where is the carina?", card=""), job).answer
    assert answer.text == "The carina is identified at R 3, A 21, S -118 mm."
    assert run(AnswerParams(case, "Where is the right lung apex?", card=""), job).answer.text == CANNOT_TELL


def test_a_scope_without_its_numbers_is_refused(ask):
    with pytest.raises(InvalidRequest, match="2 numbers"):
        ask("How many nodules are there?", scope=Scope("slices", range_ras_mm=(1.0,)))
    with pytest.raises(InvalidRequest, match="no region"):
        ask("How many nodules are there?", scope=Scope("region", "spleen"))


def test_only_the_checked_answer_is_streamed(the_made_up_case, tmp_path):
    job = LocalJob(tmp_path)
    result = run(AnswerParams(the_made_up_case, "How many nodules are there?", card=""), job)
    assert job.text == result.answer.text
    assert result.step.task == "answer"


class _ScriptedModel:
    """Says given sentences piece by piece, as a language runtime does."""

    takes_grammar = takes_visual = False
    dtype = device = "none"

    def __init__(self, *sentences):
        self.sentences = list(sentences)

    def write(self, _messages, *, on_piece, **_more):
        text = self.sentences.pop(0)
        pieces = [text[n : n + 4] for n in range(0, len(text), 4)]
        for piece in pieces:
            on_piece(piece)
        return text


@pytest.fixture
def describe(the_made_up_case, tmp_path):
    """Has the left lung described by a model that says these sentences; gives answer, pieces and text."""

    def describe(*sentences):
        job = LocalJob(tmp_path)
        job.model = lambda _card: _ScriptedModel(*sentences)
        pieces = []
        job.on_text = lambda piece: (pieces.append(piece), LocalJob.on_text(job, piece))
        result = run(AnswerParams(the_made_up_case, "Describe the left lung."), job)
        return result.answer, pieces, job.text

    return describe


VOLUME = "The left lung has a volume of 1980 mL and a mean attenuation of -815 HU."
INDEX = "The emphysema index in the left lung measures 0%."


def test_what_the_model_words_is_streamed_while_it_writes(describe):
    answer, pieces, text = describe(VOLUME, INDEX)
    assert text == answer.text == f"{VOLUME} {INDEX}"
    assert answer.origin == "model"
    assert not answer.reasons
    assert len(pieces) > len(answer.text) / 5
    assert not any(BACK in piece for piece in pieces)


def test_of_what_the_model_invents_nothing_is_streamed_but_what_it_has_in_common_with_the_truth(describe):
    invented = "The left lung has a volume of 1980 mL and a large effusion."
    answer, pieces, text = describe(invented, invented, INDEX)
    assert "effusion" not in "".join(pieces)
    assert text == answer.text
    assert answer.text.startswith("The left lung measures 1980 mL")  # the measured sentence stands instead
    assert any(piece.startswith(BACK) for piece in pieces)
    assert any("model wrote" in reason for reason in answer.reasons)
