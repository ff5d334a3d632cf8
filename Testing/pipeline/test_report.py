"""The draft report: real weights for what the model words, a made-up writer for what must not get through."""

from dataclasses import replace
from pathlib import Path

import pytest

from ct3d.cards import load_card, weights_folder
from ct3d.case import REPORT_REGIONS, Case
from ct3d.errors import TaskCancelled
from ct3d.pipeline.answer import run as answer
from ct3d.pipeline.evidence import check
from ct3d.pipeline.facts import facts_of
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.pipeline.report import run
from ct3d.pipeline.wording import first_way, grammar, is_a_way, template
from ct3d.protocol.tasks import AnswerParams, ReportParams

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(GOLDEN.glob("case_*.json"))


def read_case(path: Path) -> Case:
    return Case.from_json(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def the_made_up_case():
    return read_case(GOLDEN / "case_made_up.json")


@pytest.fixture(scope="module")
def the_model():
    card = load_card("smollm2_135m")
    if not (weights_folder() / card.weights.file).is_file():
        pytest.skip(f"{card.weights.file} is not here; run `ct3d-assistant doctor --install`")
    return build_model(card)


class JobWith(LocalJob):
    """A job whose model is given."""

    def __init__(self, folder, model):
        super().__init__(folder)
        self.given = model

    def model(self, _card):
        return self.given


class Says:
    """A writer that says one thing first and another the second time."""

    dtype, device, takes_grammar, takes_visual = "none", "cpu", False, False

    def __init__(self, *texts):
        self.texts = texts
        self.asked = 0

    def write(self, _messages, **_more):
        self.asked += 1
        return self.texts[min(self.asked, len(self.texts)) - 1]


def bones(case, model, folder):
    """The one sentence of a section with one fact."""
    result = run(ReportParams(case, sections=("bones",)), JobWith(folder, model))
    (sentence,) = result.sentences
    return sentence, result.step


GOOD = "The imaged part of the skeleton shows a mean attenuation of 412 HU."
FLOOR = "The imaged part of the skeleton has a mean attenuation of 412 HU."


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_sentence_of_a_report_is_supported_and_has_evidence(path, the_model, tmp_path):
    case = read_case(path)
    result = run(ReportParams(case, temperature=0.7, seed=5), JobWith(tmp_path, the_model))
    assert not result.flags
    for sentence in result.sentences:
        assert sentence.support == "supported", sentence
        assert sentence.evidence
        assert all(case.entry(each) for each in sentence.evidence)
        assert check(sentence.text, case, sentence.evidence).support == "supported"
    assert {each.section for each in result.sentences} == {*REPORT_REGIONS, "impression"}


def test_the_report_says_each_fact_once_in_order_and_counts_whose_words_stand(
    the_made_up_case, the_model, tmp_path
):
    job = JobWith(tmp_path, the_model)
    result = run(ReportParams(the_made_up_case), job)
    assert [each.floor for each in result.sentences] == [fact.floor for fact in facts_of(the_made_up_case)]
    counts = result.step.counts
    assert counts["worded"] == counts["model"] + counts["model_second_draw"] + counts["floor"]
    assert counts["sentences"] == len(result.sentences) == counts["worded"] + counts["fixed"] + counts["late"]
    assert counts["model"] >= 1
    assert result.step.prompts
    assert result.step.dtype == "gguf"


def test_only_checked_sentences_are_streamed(the_made_up_case, the_model, tmp_path):
    job = JobWith(tmp_path, the_model)
    result = run(ReportParams(the_made_up_case, sections=("lungs", "bones")), job)
    assert "".join(job.text.split()) == "".join(
        ("Lungs" * (n == 0) + "Bones" * (sentence.section == "bones") + sentence.text).replace(" ", "")
        for n, sentence in enumerate(result.sentences)
    )


def test_the_same_seed_gives_the_same_report(the_made_up_case, the_model, tmp_path):
    params = ReportParams(the_made_up_case, sections=("bones", "large_airways"), temperature=1.0, seed=7)
    texts = [[each.text for each in run(params, JobWith(tmp_path, the_model)).sentences] for _ in range(2)]
    assert texts[0] == texts[1]


def test_a_good_sentence_of_the_model_stands(the_made_up_case, tmp_path):
    sentence, step = bones(the_made_up_case, Says(GOOD), tmp_path)
    assert (sentence.text, sentence.origin, sentence.floor) == (GOOD, "model", FLOOR)
    assert step.counts["model"] == 1


def test_a_failing_sentence_is_drawn_again_once(the_made_up_case, tmp_path):
    sentence, step = bones(the_made_up_case, Says("The skeleton is normal.", GOOD), tmp_path)
    assert (sentence.text, sentence.origin) == (GOOD, "model_second_draw")
    assert step.counts["model_second_draw"] == 1
    assert any("normal" in reason for reason in sentence.reasons)


@pytest.mark.parametrize(
    "text",
    [
        "The imaged part of the skeleton has a mean attenuation of 421 HU.",
        "The imaged part of the liver has a mean attenuation of 412 HU.",
        "The imaged part of the skeleton has a mean attenuation.",
        "The imaged part of the skeleton has a mean attenuation of 412 HU. No fracture.",
        "",
    ],
)
def test_after_two_failures_the_floor_stands_and_the_reasons_are_kept(text, the_made_up_case, tmp_path):
    model = Says(text)
    sentence, step = bones(the_made_up_case, model, tmp_path)
    assert (sentence.text, sentence.origin, sentence.support) == (FLOOR, "measured", "supported")
    assert model.asked == 2
    assert step.counts["floor"] == 1
    assert len(sentence.reasons) >= 2


def test_without_a_card_the_floor_is_the_report(the_made_up_case, tmp_path):
    result = run(ReportParams(the_made_up_case, card=""), LocalJob(tmp_path))
    assert all(each.text == each.floor and each.origin == "measured" for each in result.sentences)
    assert result.step.card == ""


def test_a_report_stops_between_tokens(the_made_up_case, the_model, tmp_path):
    job = JobWith(tmp_path, the_model)
    job.emit = lambda _piece: setattr(job, "cancelled", True)
    with pytest.raises(TaskCancelled):
        run(ReportParams(the_made_up_case), job)


def test_a_case_with_nothing_in_it_says_so_section_by_section(the_made_up_case, tmp_path):
    bare = replace(
        the_made_up_case, attributes=(), landmarks=(), findings=(), regions=the_made_up_case.regions[:1]
    )
    result = run(ReportParams(bare, card=""), LocalJob(tmp_path))
    assert {each.text for each in result.sentences} == {"Not assessed by these models."}
    assert all(each.support == "supported" and each.evidence for each in result.sentences)


def test_not_assessed_findings_are_listed_once(the_made_up_case, tmp_path):
    result = run(ReportParams(the_made_up_case, card=""), LocalJob(tmp_path))
    holding = [each for each in result.sentences if "lymphadenopathy" in each.text]
    assert len(holding) == 1
    assert holding[0].section == "impression"


def test_a_described_organ_is_worded_by_the_model_over_its_facts(the_made_up_case, the_model, tmp_path):
    result = answer(AnswerParams(the_made_up_case, "Describe the right lung."), JobWith(tmp_path, the_model))
    assert result.answer.origin in ("model", "model_second_draw")
    assert "2340 mL" in result.answer.text
    assert check(result.answer.text, the_made_up_case, result.answer.evidence).support == "supported"
    assert result.step.counts["worded"] >= 2


def test_a_template_is_its_first_way_its_grammar_and_its_pattern():
    text, slots = "The {name} (is|was (once|never)) seen", {"name": 'a "b" (c|d)'}
    assert first_way(text, slots) == 'The a "b" (c|d) is seen'
    assert (
        grammar(text, slots)
        == r'root ::= "The a \"b\" (c|d) " ( "is" | "was " ( "once" | "never" ) ) " seen"'
    )
    assert is_a_way(text, slots, 'The a "b" (c|d) was never seen')
    assert not is_a_way(text, slots, "The a was seen")
    assert not is_a_way(text, slots, 'The a "b" (c|d) is seen again')


def test_every_template_of_the_made_up_case_is_in_its_own_language(the_made_up_case):
    for fact in facts_of(the_made_up_case):
        assert is_a_way(fact.template, fact.slots, fact.floor)
    assert template("cut").endswith(".")
