"""What a person makes of a report: pure functions, and what tasks leave of it."""

from dataclasses import replace

import pytest

pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from ct3d.case import Case, Sentence, Step  # noqa: E402
from ct3d.errors import InvalidRequest  # noqa: E402
from ct3d.protocol.tasks import CheckResult, FindingsResult, ReportResult  # noqa: E402
from CT3DAssistantLib.results import merge  # noqa: E402
from CT3DAssistantLib.review import (  # noqa: E402
    UNCHECKED,
    add_sentence,
    edit_sentence,
    holds_work,
    is_open,
    keep_sentence,
    mark_reviewed,
    remove_sentence,
    reopen,
    restore_sentence,
    sentence_of,
    sign,
    signature_holds,
    standing,
)
from CT3DAssistantLib.scene import report_text  # noqa: E402
from CT3DAssistantLib.worddiff import word_diff  # noqa: E402

AT = "2026-11-22T18:00:00Z"


def written(sentence_id: str, text: str, **more) -> Sentence:
    section = sentence_id.partition(".")[0]
    given = {"evidence": ("region/right_lung",), "support": "supported", "origin": "model", "floor": text}
    return Sentence(sentence_id, section, text, **(given | more))


@pytest.fixture
def a_case(a_phantom) -> Case:
    return replace(
        a_phantom.case,
        answers=(),
        sentences=(
            written("lungs.1", "The right lung measures 2 mL."),
            written("lungs.2", "There is no pleural effusion candidate."),
            written("bones.3", "Not assessed by these models.", origin="measured"),
        ),
    )


def checked(case: Case, sentence_id: str, support: str = "supported", *reasons: str) -> Case:
    """The case after the worker has looked at a sentence."""
    judged = replace(sentence_of(case, sentence_id), support=support, reasons=reasons)
    return merge(CheckResult((judged,), step("check")), case)


def step(task: str) -> Step:
    return Step(task, "a_card", "", "", "cpu", "float32", 0.1)


def signed(case: Case) -> Case:
    return sign(mark_reviewed(case), "A. Reader", at_utc=AT)


# one sentence


def test_an_edit_keeps_the_programs_text_and_waits_for_a_check(a_case):
    case = edit_sentence(a_case, "lungs.1", "  The right lung\nmeasures 3 mL. ", at_utc=AT)
    sentence = sentence_of(case, "lungs.1")
    assert (sentence.text, sentence.draft) == (
        "The right lung measures 3 mL.",
        "The right lung measures 2 mL.",
    )
    assert (sentence.support, sentence.reasons, sentence.origin) == ("unsupported", (UNCHECKED,), "model")
    assert case.report_state == "edited"
    (action,) = case.actions
    assert (action.at_utc, action.verb, action.target) == (AT, "edit", "sentence/lungs.1")
    assert action.detail == "The right lung measures 2 mL."


def test_a_second_edit_still_restores_to_the_programs_text(a_case):
    case = edit_sentence(edit_sentence(a_case, "lungs.1", "One."), "lungs.1", "Two.")
    case = restore_sentence(case, "lungs.1")
    assert sentence_of(case, "lungs.1").text == sentence_of(a_case, "lungs.1").text
    assert sentence_of(case, "lungs.1").draft == ""
    assert case.report_state == "draft"
    assert [action.verb for action in case.actions] == ["edit", "edit", "restore"]
    assert checked(case, "lungs.1").sentences == a_case.sentences


def test_typing_the_programs_own_words_is_a_restore(a_case):
    case = edit_sentence(a_case, "lungs.1", "One.")
    case = edit_sentence(case, "lungs.1", sentence_of(a_case, "lungs.1").text)
    assert not sentence_of(case, "lungs.1").is_touched


def test_an_edit_that_changes_nothing_is_no_deed(a_case):
    assert edit_sentence(a_case, "lungs.1", sentence_of(a_case, "lungs.1").text) is a_case


def test_an_edit_keeps_why_the_models_own_words_were_turned_down(a_case):
    why = "model wrote 'x': word: 'x' is not something that was measured"
    case = replace(a_case, sentences=(replace(a_case.sentences[0], reasons=(why,)), *a_case.sentences[1:]))
    case = restore_sentence(edit_sentence(case, "lungs.1", "One."), "lungs.1")
    assert sentence_of(case, "lungs.1").reasons == (why, UNCHECKED)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_edit_is_refused(text, a_case):
    with pytest.raises(InvalidRequest, match="Remove"):
        edit_sentence(a_case, "lungs.1", text)


def test_a_removed_sentence_leaves_the_report_and_comes_back(a_case):
    case = remove_sentence(a_case, "lungs.2")
    assert "effusion" not in report_text(case)
    assert [each.id for each in standing(case)] == ["lungs.1", "bones.3"]
    assert len(case.sentences) == 3
    with pytest.raises(InvalidRequest, match="removed"):
        edit_sentence(case, "lungs.2", "Again.")
    with pytest.raises(InvalidRequest, match="removed already"):
        remove_sentence(case, "lungs.2")
    case = restore_sentence(case, "lungs.2")
    assert case.sentences == a_case.sentences  # its words never changed: what the guard said still holds
    with pytest.raises(InvalidRequest, match="nothing to restore"):
        restore_sentence(case, "lungs.2")


def test_a_persons_sentence_is_the_last_of_its_section(a_case):
    case = add_sentence(add_sentence(a_case, "lungs", "Mine."), "lungs", "Mine too.")
    assert [(each.id, each.text) for each in case.sentences[2:4]] == [
        ("lungs.own", "Mine."),
        ("lungs.own_2", "Mine too."),
    ]
    assert case.sentences[2].origin == "person"
    case = edit_sentence(case, "lungs.own", "Mine, better.")
    assert sentence_of(case, "lungs.own").draft == ""
    with pytest.raises(InvalidRequest, match="nothing to restore"):
        restore_sentence(case, "lungs.own")
    assert sentence_of(restore_sentence(remove_sentence(case, "lungs.own"), "lungs.own"), "lungs.own")


def test_an_unknown_section_or_sentence_is_said(a_case):
    with pytest.raises(InvalidRequest, match="impression"):
        add_sentence(a_case, "liver", "Mine.")
    with pytest.raises(InvalidRequest, match="no longer"):
        edit_sentence(a_case, "lungs.99", "Mine.")


# states


def test_a_report_goes_from_draft_to_signed(a_case):
    case = checked(edit_sentence(a_case, "lungs.1", "One."), "lungs.1", "unsupported", "word: 'One'")
    case = mark_reviewed(case)  # an unsupported sentence is no hindrance
    assert case.report_state == "reviewed"
    case = sign(case, " A.  Reader ", at_utc=AT)
    assert case.report_state == "signed"
    assert (case.signature.name, case.signature.signed_utc) == ("A. Reader", AT)
    assert len(case.signature.sha256) == 64
    assert signature_holds(case)
    assert signature_holds(Case.from_json(case.to_json()))
    assert [action.verb for action in case.actions] == ["edit", "review", "sign"]


def test_only_what_is_reviewed_is_signed_and_only_by_name(a_case):
    with pytest.raises(InvalidRequest, match="not reviewed"):
        sign(a_case, "A. Reader")
    with pytest.raises(InvalidRequest, match="name"):
        sign(mark_reviewed(a_case), "  ")
    with pytest.raises(InvalidRequest, match="signed already"):
        sign(signed(a_case), "B. Reader")
    with pytest.raises(InvalidRequest, match="signed already"):
        mark_reviewed(signed(a_case))
    with pytest.raises(InvalidRequest, match="open already"):
        reopen(a_case)
    with pytest.raises(InvalidRequest, match="no report"):
        mark_reviewed(replace(a_case, sentences=()))


def test_a_contradicted_sentence_stops_the_review_until_it_is_kept_removed_or_mended(a_case):
    case = edit_sentence(a_case, "lungs.1", "The right lung measures 9 mL.")
    with pytest.raises(InvalidRequest, match="not checked"):
        mark_reviewed(case)
    case = checked(case, "lungs.1", "contradicted", "number: volume of right lung is 2.1 mL, not 9 mL")
    with pytest.raises(InvalidRequest, match="contradicted by measurements.*9 mL"):
        mark_reviewed(case)
    kept = keep_sentence(case, "lungs.1")
    assert mark_reviewed(kept).report_state == "reviewed"
    assert kept.actions[-1].detail.startswith("number: volume of right lung is 2.1 mL")
    assert mark_reviewed(remove_sentence(case, "lungs.1"))
    assert mark_reviewed(checked(restore_sentence(case, "lungs.1"), "lungs.1"))
    again = edit_sentence(kept, "lungs.1", "The right lung measures 8 mL.")
    assert is_open(sentence_of(again, "lungs.1"))  # what was kept was another text
    with pytest.raises(InvalidRequest, match="Nothing speaks against"):
        keep_sentence(a_case, "lungs.1")


@pytest.mark.parametrize(
    "change",
    [
        lambda case: edit_sentence(case, "lungs.1", "One."),
        lambda case: remove_sentence(case, "lungs.1"),
        lambda case: add_sentence(case, "bones", "Mine."),
    ],
)
def test_any_change_after_signing_opens_the_report_and_says_so(change, a_case):
    case = change(signed(a_case))
    assert (case.report_state, case.signature) == ("edited", None)
    assert [action.verb for action in case.actions][-1] == "reopen"
    assert "signed by A. Reader at 2026-11-22T18:00:00Z, sha256" in case.actions[-1].detail
    assert "signed" not in report_text(case).lower().replace("not signed", "")


@pytest.mark.parametrize("close", [mark_reviewed, signed])
def test_reopening_by_hand_leaves_the_sentences(close, a_case):
    case = reopen(close(a_case))
    assert (case.report_state, case.signature, case.sentences) == ("draft", None, a_case.sentences)
    assert case.actions[-1].verb == "reopen"


def test_a_change_of_a_reviewed_report_opens_it(a_case):
    case = remove_sentence(mark_reviewed(a_case), "lungs.1")
    assert case.report_state == "edited"
    assert case.actions[-1].detail == "remove sentence/lungs.1; was reviewed"


@pytest.mark.parametrize("field", ["name", "time", "text", "removed", "finding", "input"])
def test_a_signature_holds_for_exactly_what_was_signed(field, a_case):
    case = signed(a_case)
    first, *rest = case.sentences
    changes = {
        "name": {"signature": replace(case.signature, name="B. Reader")},
        "time": {"signature": replace(case.signature, signed_utc="2026-11-23T18:00:00Z")},
        "text": {"sentences": (replace(first, text="The right lung measures 2 L."), *rest)},
        "removed": {"sentences": (replace(first, removed=True), *rest)},
        "finding": {"findings": (replace(case.findings[0], state="absent"), *case.findings[1:])},
        "input": {"input": replace(case.input, sha256="0" * 64)},
    }
    assert signature_holds(case)
    assert not signature_holds(replace(case, **changes[field]))


def test_a_forged_report_says_that_its_signature_does_not_hold(a_case):
    case = signed(a_case)
    forged = replace(case, sentences=case.sentences[1:])
    assert "does not hold" in report_text(forged)
    assert "does not hold" not in report_text(case)
    assert f"Signed by A. Reader, 2026-11-22 18:00:00 UTC, sha256 {case.signature.sha256}" in report_text(
        case
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda case: case, "AI draft, not reviewed."),
        (lambda case: remove_sentence(case, "lungs.1"), "person's changes, not reviewed"),
        (mark_reviewed, "Reviewed by a person, not signed."),
    ],
)
def test_the_text_says_how_far_it_is_reviewed(make, words, a_case):
    text = report_text(make(a_case))
    assert words in text
    assert text.startswith("Research use only")


# what tasks leave of it


def test_a_section_written_anew_leaves_what_a_person_touched(a_case):
    case = edit_sentence(a_case, "lungs.1", "Edited.")
    case = add_sentence(remove_sentence(case, "lungs.2"), "lungs", "Mine.")
    anew = (
        written("lungs.1", "In other words: 2 mL.", floor="The right lung measures 2 mL."),
        written("lungs.2", "No effusion.", floor="There is no pleural effusion candidate."),
        written("lungs.3", "A new fact."),
    )
    case = merge(ReportResult(anew, step("report")), case)
    lungs = [each for each in case.sentences if each.section == "lungs"]
    assert [each.text for each in standing(replace(case, sentences=tuple(lungs)))] == [
        "Edited.",
        "Mine.",
        "A new fact.",
    ]
    assert [each.removed for each in lungs] == [False, True, False, False]
    assert case.sentences[-1] == a_case.sentences[-1]  # another section
    assert case.report_state == "edited"


def test_sentences_nobody_touched_are_replaced(a_case):
    case = merge(ReportResult((written("lungs.1", "New."),), step("report")), a_case)
    assert [each.text for each in case.sentences] == ["New.", "Not assessed by these models."]
    assert case.report_state == "draft"


def test_ids_stay_unique_when_facts_have_moved(a_case):
    case = edit_sentence(a_case, "lungs.2", "Edited.")
    anew = (written("lungs.1", "One."), written("lungs.2", "Two."), written("lungs.3", "Three."))
    case = merge(ReportResult(anew, step("report")), case)
    ids = [each.id for each in case.sentences]
    assert len(set(ids)) == len(ids) == 5
    assert sentence_of(case, "lungs.2").text == "Edited."


def test_writing_a_signed_report_anew_opens_it_only_if_it_changes(a_case):
    case = signed(a_case)
    same = merge(ReportResult(a_case.sentences, step("report")), case)
    assert signature_holds(same)
    other = merge(ReportResult((written("bones.3", "Other."),), step("report")), case)
    assert (other.report_state, other.signature) == ("draft", None)
    assert other.actions[-1].verb == "reopen"


def test_new_findings_under_a_signed_report_open_it(a_case):
    case = signed(a_case)
    findings = (replace(case.findings[0], state="absent"), *case.findings[1:])
    case = merge(FindingsResult(findings, step("findings")), case)
    assert (case.report_state, case.signature) == ("draft", None)
    assert "findings ran again" in case.actions[-1].detail


def test_a_check_judges_only_the_text_that_it_saw(a_case):
    seen = edit_sentence(a_case, "lungs.1", "One.")
    case = edit_sentence(seen, "lungs.1", "Two.")
    judged = replace(sentence_of(seen, "lungs.1"), support="supported", reasons=())
    case = merge(CheckResult((judged,), step("check")), case)
    assert sentence_of(case, "lungs.1").reasons == (UNCHECKED,)


def test_a_check_never_changes_a_signed_report(a_case):
    case = signed(a_case)
    assert checked(case, "lungs.1", "contradicted", "number: no").sentences == case.sentences
    assert signature_holds(checked(case, "lungs.1", "contradicted"))


def test_work_is_whatever_a_person_put_in(a_case, a_phantom):
    assert not holds_work(a_case)
    assert holds_work(replace(a_case, answers=a_phantom.case.answers))
    assert holds_work(mark_reviewed(a_case))
    undone = restore_sentence(edit_sentence(a_case, "lungs.1", "One."), "lungs.1")
    assert holds_work(undone)  # the record of what was done


# differences


def test_a_difference_is_told_in_whole_words():
    pieces = word_diff("A nodule of 6 mm lies on the left.", "A nodule of 8 mm lies on the left side.")
    assert [(each.kind, each.text) for each in pieces] == [
        ("same", "A nodule of"),
        ("struck", " 6"),
        ("inserted", " 8"),
        ("same", " mm lies on the"),
        ("struck", " left."),
        ("inserted", " left side."),
    ]


@pytest.mark.parametrize(("before", "after"), [("", "New."), ("Old.", ""), ("a b", "b a"), ("same", "same")])
def test_the_pieces_give_back_both_texts(before, after):
    pieces = word_diff(before, after)
    assert "".join(each.text for each in pieces if each.kind != "struck") == after
    struck = "".join(each.text for each in pieces if each.kind != "inserted")
    assert struck.split() == before.split()
