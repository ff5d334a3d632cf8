"""What a person makes of the report: pure functions on Case, each noted with its time.

The report goes draft → edited → reviewed → signed.

- Whoever changes a sentence makes it "edited" ("draft" where nothing of a person is left) and voids a review
  or a signature.
- "Reviewed" says that a person vouches for every sentence. It is refused while one stands that the
  measurements contradict, or that was changed and not compared with them yet, unless the person said of that
  sentence that it stays (`keep_sentence`). An unsupported sentence is no hindrance: a radiologist sees more
  than was measured.
- Only what is reviewed can be signed. The signature's hash covers the sentences, those removed included, the
  findings, the input's hash, the signer's name and the time.
"""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

from ct3d.case import SECTIONS, Action, Case, Sentence, Signature
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import encode

STATES = {
    "draft": "AI draft, not reviewed.",
    "edited": "AI draft with a person's changes, not reviewed.",
    "reviewed": "Reviewed by a person, not signed.",
    "signed": "Signed.",
}
UNCHECKED = "check: it was changed and has not been compared with the measurements yet"


def utc_now() -> str:
    """The time as actions and signatures hold it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def edit_sentence(case: Case, sentence_id: str, text: str, *, at_utc: str = "") -> Case:
    """Replace a sentence's text; the program's own text restores the sentence.

    Raises:
        InvalidRequest: if there is no such sentence, it is removed, or there is no text.
    """
    sentence, text = sentence_of(case, sentence_id), _clean(text)
    if sentence.removed:
        raise InvalidRequest("This sentence is removed. Restore it, then edit it.")
    if text == sentence.text:
        return case
    if text == sentence.draft:
        return restore_sentence(case, sentence_id, at_utc=at_utc)
    draft = "" if sentence.origin == "person" else sentence.draft or sentence.text
    changed = _unchecked(replace(sentence, text=text, draft=draft))
    return _changed(case, changed, "edit", sentence.text, at_utc)


def remove_sentence(case: Case, sentence_id: str, *, at_utc: str = "") -> Case:
    """Strike a sentence out of the report; it stays in the case.

    Raises:
        InvalidRequest: if there is no such sentence, or it is removed already.
    """
    sentence = sentence_of(case, sentence_id)
    if sentence.removed:
        raise InvalidRequest("This sentence is removed already. Restore it to have it back.")
    return _changed(case, replace(sentence, removed=True), "remove", sentence.text, at_utc)


def restore_sentence(case: Case, sentence_id: str, *, at_utc: str = "") -> Case:
    """Back to the program's text; a person's own sentence that was removed stands again.

    Raises:
        InvalidRequest: if there is no such sentence, or nothing to restore.
    """
    sentence = sentence_of(case, sentence_id)
    if not sentence.draft and not sentence.removed:
        raise InvalidRequest("This sentence is as it was written. There is nothing to restore.")
    restored = replace(sentence, removed=False)
    if sentence.draft:
        restored = _unchecked(replace(restored, text=sentence.draft, draft=""))
    return _changed(case, restored, "restore", sentence.text, at_utc)


def add_sentence(case: Case, section: str, text: str, *, at_utc: str = "") -> Case:
    """Put a person's own sentence at the end of a section; it is the last of that section's sentences.

    Raises:
        InvalidRequest: if there is no such section, or no text.
    """
    if section not in SECTIONS:
        raise InvalidRequest(f"There is no section {section!r}. Choose one of: {', '.join(SECTIONS)}.")
    sentence_id = free_id(f"{section}.own", {each.id for each in case.sentences})
    added = Sentence(
        sentence_id, section, _clean(text), (), "unsupported", "person", floor="", reasons=(UNCHECKED,)
    )
    case = replace(case, sentences=in_order((*case.sentences, added)))
    return _noted(case, "add", f"sentence/{sentence_id}", at_utc=at_utc)


def keep_sentence(case: Case, sentence_id: str, *, at_utc: str = "") -> Case:
    """Let a sentence stand that the guard turns down, or has not seen yet.

    Raises:
        InvalidRequest: if there is no such sentence, or nothing speaks against it.
    """
    sentence = sentence_of(case, sentence_id)
    if not is_open(sentence):
        raise InvalidRequest("Nothing speaks against this sentence. It stands as it is.")
    case = _with(case, replace(sentence, kept=True))
    return act(case, "keep", f"sentence/{sentence_id}", "; ".join(sentence.reasons), at_utc)


def mark_reviewed(case: Case, *, at_utc: str = "") -> Case:
    """A person has read every sentence and vouches for it.

    Raises:
        InvalidRequest: if there is no sentence, one is still open, or it is reviewed already.
    """
    if case.report_state in ("reviewed", "signed"):
        raise InvalidRequest(f"The report is {case.report_state} already. Reopen it to change it.")
    if not standing(case):
        raise InvalidRequest("There is no report to review. Analyse the volume, or add a sentence.")
    _refuse_open(case)
    return act(replace(case, report_state="reviewed"), "review", "report", at_utc=at_utc)


def sign(case: Case, name: str, *, at_utc: str = "") -> Case:
    """Put a person's name to a reviewed report.

    Raises:
        InvalidRequest: if there is no name, or the report isn't reviewed.
    """
    name, at_utc = " ".join(name.split()), at_utc or utc_now()
    if case.report_state == "signed":
        raise InvalidRequest("The report is signed already. Reopen it to change it and sign anew.")
    if case.report_state != "reviewed":
        raise InvalidRequest("The report is not reviewed yet. Read it and press Mark reviewed, then sign.")
    if not name:
        raise InvalidRequest("A signature needs a name. Enter yours.")
    _refuse_open(case)
    signature = Signature(name, at_utc, hash_of(case, name, at_utc))
    signed = replace(case, report_state="signed", signature=signature)
    return act(signed, "sign", "report", f"{name}, sha256 {signature.sha256}", at_utc)


def reopen(case: Case, *, why: str = "", at_utc: str = "") -> Case:
    """Take a review or a signature back.

    Raises:
        InvalidRequest: if the report is neither reviewed nor signed.
    """
    if case.report_state not in ("reviewed", "signed"):
        raise InvalidRequest("The report is open already. Edit its sentences, then mark it reviewed.")
    was = case.report_state
    if signature := case.signature:
        was = f"signed by {signature.name} at {signature.signed_utc}, sha256 {signature.sha256}"
    detail = "; ".join(filter(None, (why, f"was {was}")))
    state = "edited" if any(each.is_touched for each in case.sentences) else "draft"
    return act(replace(case, report_state=state, signature=None), "reopen", "report", detail, at_utc)


def signature_holds(case: Case) -> bool:
    """Whether the report is signed, and still is what was signed."""
    signature = case.signature
    if case.report_state != "signed" or signature is None:
        return False
    return signature.sha256 == hash_of(case, signature.name, signature.signed_utc)


def hash_of(case: Case, name: str, signed_utc: str) -> str:
    """sha256 of what a person signs, as canonical JSON."""
    signed = {
        "name": name,
        "signed_utc": signed_utc,
        "input": case.input.sha256,
        "sentences": encode(case.sentences),
        "findings": encode(case.findings),
        "notice": case.notice,
    }
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def state_text(case: Case, digits: int = 64) -> str:
    """How far the report is reviewed, in one line, for the window and every export.

    Args:
        digits: of the signature's hash.
    """
    signature = case.signature
    if case.report_state == "signed" and signature is not None:
        by = f"{signature.name}, {signature.signed_utc.replace('T', ' ').replace('Z', ' UTC')}"
        broken = (
            "" if signature_holds(case) else " It was changed after signing: the signature does not hold."
        )
        end = "\u2026" if digits < len(signature.sha256) else "."
        return f"Signed by {by}, sha256 {signature.sha256[:digits]}{end}{broken}"
    return STATES[case.report_state]


def standing(case: Case) -> tuple[Sentence, ...]:
    """The sentences of the report, those removed left out."""
    return tuple(each for each in case.sentences if not each.removed)


def is_open(sentence: Sentence) -> bool:
    """Whether a person must still decide on a sentence before the report can be reviewed."""
    unsettled = sentence.support == "contradicted" or UNCHECKED in sentence.reasons
    return unsettled and not sentence.removed and not sentence.kept


def sentence_of(case: Case, sentence_id: str) -> Sentence:
    """The sentence with this id.

    Raises:
        InvalidRequest: if there is none.
    """
    for sentence in case.sentences:
        if sentence.id == sentence_id:
            return sentence
    raise InvalidRequest("This sentence is no longer in the report. Choose one that is shown.")


def in_order(sentences: tuple[Sentence, ...]) -> tuple[Sentence, ...]:
    """Sentences in the order of the report's sections; within a section as they come."""
    order = list(SECTIONS)
    return tuple(sorted(sentences, key=lambda each: order.index(each.section)))


def still_signed(case: Case, why: str) -> Case:
    """The case, opened again where it no longer is what was signed."""
    return case if case.signature is None or signature_holds(case) else reopen(case, why=why)


def holds_work(case: Case) -> bool:
    """Whether a person has put anything into this case that a new analysis would lose."""
    touched = any(sentence.is_touched for sentence in case.sentences)
    return bool(touched or case.actions or case.reviews or case.answers or case.report_state != "draft")


def act(case: Case, verb: str, target: str, detail: str = "", at_utc: str = "") -> Case:
    """The case with a person's deed on record."""
    return replace(case, actions=(*case.actions, Action(at_utc or utc_now(), verb, target, detail)))


def settled(case: Case, why: str, at_utc: str) -> Case:
    """The case in the state that its changed sentences leave it in."""
    if case.report_state in ("reviewed", "signed"):
        return reopen(case, why=why, at_utc=at_utc)
    touched = any(each.is_touched for each in case.sentences)
    return replace(case, report_state="edited" if touched else "draft")


def free_id(wanted: str, taken: set[str]) -> str:
    """An id like the wanted one that nothing has yet."""
    free, number = wanted, 2
    while free in taken:
        free, number = f"{wanted}_{number}", number + 1
    return free


def _clean(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise InvalidRequest("A sentence needs words. Write some, or press Remove to strike it out.")
    return text


def _unchecked(sentence: Sentence) -> Sentence:
    reasons = (*sentence.turned_down, UNCHECKED)
    return replace(sentence, support="unsupported", reasons=reasons, kept=False)


def _with(case: Case, changed: Sentence) -> Case:
    return replace(case, sentences=tuple(changed if e.id == changed.id else e for e in case.sentences))


def _changed(case: Case, changed: Sentence, verb: str, before: str, at_utc: str) -> Case:
    return _noted(_with(case, changed), verb, f"sentence/{changed.id}", before, at_utc)


def _noted(case: Case, verb: str, target: str, detail: str = "", at_utc: str = "") -> Case:
    return settled(act(case, verb, target, detail, at_utc), f"{verb} {target}", at_utc)


def _refuse_open(case: Case) -> None:
    unsettled = [each for each in case.sentences if is_open(each)]
    if unsettled:
        contradicted = sum(each.support == "contradicted" for each in unsettled)
        what = "contradicted by measurements" if contradicted else "not checked against the measurements yet"
        raise InvalidRequest(
            f"{contradicted or len(unsettled)} of the sentences: {what}. Edit or remove what is wrong, or "
            f'press Keep for what shall stand. The first: "{unsettled[0].text}"'
        )
