"""Task "check": what the guard says of a person's sentences, on real and made-up cases."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from ct3d.case import Case, Sentence
from ct3d.errors import InvalidRequest, TaskCancelled
from ct3d.pipeline.check import evidence_of, run
from ct3d.pipeline.evidence import check
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.report import run as write
from ct3d.protocol.tasks import CheckParams, ReportParams

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(GOLDEN.glob("case_*.json"))
SENTENCES = tomllib.loads((GOLDEN / "sentences.toml").read_text(encoding="utf-8"))


def read_case(path: Path) -> Case:
    return Case.from_json(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def the_made_up_case(tmp_path_factory) -> Case:
    case = read_case(GOLDEN / "case_made_up.json")
    job = LocalJob(tmp_path_factory.mktemp("exchange"))
    return replace(case, sentences=write(ReportParams(case, card=""), job).sentences)


@pytest.fixture
def judge(the_made_up_case, tmp_path):
    """Function: a person's sentence → the sentence as the check gives it back."""

    def judged(text: str, **more) -> Sentence:
        own = Sentence("lungs.own", "lungs", text, (), "unsupported", "person", "", **more)
        case = replace(the_made_up_case, sentences=(*the_made_up_case.sentences, own))
        (sentence,) = run(CheckParams(case, ("lungs.own",)), LocalJob(tmp_path)).sentences
        return sentence

    return judged


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_programs_own_sentences_come_back_as_they_were(path, tmp_path):
    case = read_case(path)
    case = replace(case, sentences=write(ReportParams(case, card=""), LocalJob(tmp_path)).sentences)
    result = run(CheckParams(case), LocalJob(tmp_path))
    assert result.sentences == case.sentences
    assert result.step.counts == {"supported": len(case.sentences), "unsupported": 0, "contradicted": 0}


def test_a_persons_right_sentence_is_supported_and_linked(judge):
    sentence = judge("The left lung measures 1980 mL.")
    assert sentence.support == "supported"
    assert sentence.evidence == ("region/left_lung", "attribute/left_lung.volume")
    assert sentence.reasons == ()


def test_a_persons_wrong_number_is_contradicted_with_the_measured_one(judge):
    sentence = judge("The left lung measures 2980 mL.")
    assert sentence.support == "contradicted"
    assert sentence.evidence == ("region/left_lung", "attribute/left_lung.volume")
    (reason,) = sentence.reasons
    assert reason.startswith("number: volume of left lung is 1978.9 mL")


def test_what_a_radiologist_sees_and_nobody_measured_is_unsupported_not_contradicted(judge):
    sentence = judge("There is a healed fracture of the sixth rib.")
    assert (sentence.support, sentence.evidence) == ("unsupported", ())
    assert sentence.reasons


def test_a_denial_leads_to_where_it_was_looked_for():
    case = read_case(GOLDEN / "case_lidc_idri_0001.json")
    evidence = evidence_of("There is no pleural effusion candidate.", case)
    assert evidence == ("finding/pleural_effusion", "region/right_lung", "region/left_lung")


@pytest.mark.parametrize("text", SENTENCES["true"])
def test_the_evidence_that_is_found_is_enough_for_every_true_sentence(text, the_made_up_case):
    evidence = evidence_of(text, the_made_up_case)
    assert all(the_made_up_case.entry(each) for each in evidence)
    assert check(text, the_made_up_case, evidence).support == "supported"


@pytest.mark.parametrize("slot", SENTENCES["false"])
def test_no_false_sentence_is_supported(slot, judge):
    assert not [text for text in SENTENCES["false"][slot] if judge(text).support == "supported"]


def test_a_text_is_never_changed(judge):
    assert judge("teh left  lung").text == "teh left  lung"


def test_a_sentence_that_was_right_is_contradicted_once_the_mask_has_changed(the_made_up_case, tmp_path):
    attributes = tuple(
        replace(each, value=each.value * 1.5) if each.id == "left_lung.volume" else each
        for each in the_made_up_case.attributes
    )
    case = replace(the_made_up_case, attributes=attributes)
    result = run(CheckParams(case), LocalJob(tmp_path))
    wrong = [each for each in result.sentences if each.support != "supported"]
    assert wrong
    assert all("left lung" in each.text and each.support == "contradicted" for each in wrong)
    assert all("attribute/left_lung.volume" in each.evidence for each in wrong)


def test_an_edited_sentence_keeps_its_evidence_while_it_holds_by_it(the_made_up_case, tmp_path):
    (silent,) = [s for s in the_made_up_case.sentences if s.section == "mediastinum"]
    edited = replace(silent, text="Not assessed.", draft=silent.text)
    case = replace(the_made_up_case, sentences=(edited,))
    (sentence,) = run(CheckParams(case), LocalJob(tmp_path)).sentences
    assert (sentence.support, sentence.evidence) == ("supported", silent.evidence)


def test_the_models_own_words_that_were_turned_down_stay_on_record(judge):
    why = "model wrote 'x': word: 'x' is not something that was measured"
    sentence = judge("The left lung measures 2980 mL.", reasons=(why, "check: earlier"))
    assert sentence.reasons[0] == why
    assert "check: earlier" not in sentence.reasons


def test_removed_sentences_are_checked_only_when_asked_for(the_made_up_case, tmp_path):
    first, *rest = the_made_up_case.sentences
    case = replace(the_made_up_case, sentences=(replace(first, removed=True), *rest))
    assert len(run(CheckParams(case), LocalJob(tmp_path)).sentences) == len(rest)
    assert len(run(CheckParams(case, (first.id,)), LocalJob(tmp_path)).sentences) == 1


def test_an_unknown_sentence_is_said(the_made_up_case, tmp_path):
    with pytest.raises(InvalidRequest, match="lungs.99"):
        run(CheckParams(the_made_up_case, ("lungs.99",)), LocalJob(tmp_path))


def test_a_check_stops_between_sentences(the_made_up_case, tmp_path):
    job = LocalJob(tmp_path)
    job.cancelled = True
    with pytest.raises(TaskCancelled):
        run(CheckParams(the_made_up_case), job)
