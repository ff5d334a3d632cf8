"""The guard: sentences about a case by hand, and every floor sentence with one slot changed."""

import re
import tomllib
from pathlib import Path

import pytest

from ct3d.case import Case
from ct3d.pipeline.evidence import check
from ct3d.pipeline.facts import facts_of

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(GOLDEN.glob("case_*.json"))
SENTENCES = tomllib.loads((GOLDEN / "sentences.toml").read_text(encoding="utf-8"))
FALSE = [(slot, text) for slot, texts in SENTENCES["false"].items() for text in texts]


def read_case(path: Path) -> Case:
    return Case.from_json(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def the_made_up_case():
    return read_case(GOLDEN / "case_made_up.json")


def mutants(sentence: str):
    """(what was changed, sentence): one side, number, unit, negation or organ changed at a time."""
    if re.search(r"\b(left|right)\b", sentence):
        swap = {"left": "right", "right": "left"}
        yield "side", re.sub(r"\b(left|right)\b", lambda side: swap[side[0]], sentence)
    for number in re.finditer(r"\d+(\.\d+)?", sentence):
        other = f"{float(number[0]) * 1.4 + 3:.0f}"
        yield "number", sentence[: number.start()] + other + sentence[number.end() :]
    for unit, wrong in (("mL", "mm"), ("mm", "mL"), ("HU", "mL"), ("%", " HU"), ("mm", "cm"), ("mL", "L")):
        if re.search(rf"\d ?{unit}", sentence):
            yield "unit", sentence.replace(unit, wrong)
    yield from denied(sentence)
    for organ in ("right lung", "left lung", "skeleton", "trachea and main bronchi"):
        if organ in sentence:
            yield "organ", sentence.replace(organ, "liver")


def denied(sentence: str):
    if sentence.startswith("No ") and "candidate" not in sentence:
        yield "negation", sentence[3].upper() + sentence[4:-1] + " is present."
    elif sentence.startswith(("A ", "One ")):
        yield "negation", "No " + sentence.split(" ", 1)[1]
    elif " is identified" in sentence:
        yield "negation", sentence.replace(" is identified", " is not identified")


def test_at_least_sixty_true_and_sixty_false_sentences_are_tried():
    assert len(SENTENCES["true"]) >= 60
    assert len(FALSE) >= 60


@pytest.mark.parametrize("sentence", SENTENCES["true"])
def test_a_true_sentence_passes(sentence, the_made_up_case):
    assert check(sentence, the_made_up_case).support == "supported", check(sentence, the_made_up_case).reasons


@pytest.mark.parametrize(("slot", "sentence"), FALSE)
def test_a_false_sentence_is_flagged(slot, sentence, the_made_up_case):
    assert check(sentence, the_made_up_case).support != "supported"


@pytest.mark.parametrize("sentence", SENTENCES["false"]["side"] + SENTENCES["false"]["negation"])
def test_a_wrong_side_or_negation_is_contradicted_not_just_unsupported(sentence, the_made_up_case):
    assert check(sentence, the_made_up_case).support == "contradicted"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_floor_sentence_of_a_case_passes_with_its_own_evidence(path):
    case = read_case(path)
    for fact in facts_of(case):
        assert fact.evidence, fact.floor
        assert all(case.entry(each) for each in fact.evidence), fact.floor
        verdict = check(fact.floor, case, fact.evidence)
        assert verdict.support == "supported", (fact.floor, verdict.reasons)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_floor_sentence_with_one_slot_changed_is_flagged(path):
    case = read_case(path)
    tried = [(fact, slot, text) for fact in facts_of(case) for slot, text in mutants(fact.floor)]
    passed = [
        (slot, text) for fact, slot, text in tried if check(text, case, fact.evidence).support == "supported"
    ]
    assert len(tried) >= 15
    assert not passed


def test_a_true_sentence_is_unsupported_by_evidence_of_something_else(the_made_up_case):
    verdict = check("The left lung measures 1980 mL.", the_made_up_case, ("region/right_lung",))
    assert verdict.support == "unsupported"


@pytest.mark.parametrize(
    ("sentence", "slot"),
    [
        ("The right lung measures 2430 mL.", "number"),
        ("A nodule candidate of 23 mm lies in the right lower zone.", "side"),
        ("The right lung has a volume of 2340 HU.", "unit"),
        ("The lungs are clear.", "judgement"),
        ("The liver measures 1500 mL.", "organ"),
        ("The nodule is unchanged.", "change"),
    ],
)
def test_the_reason_names_the_slot(sentence, slot, the_made_up_case):
    reasons = check(sentence, the_made_up_case).reasons
    assert any(reason.startswith(f"{slot}:") for reason in reasons), reasons
