"""The report after a task has run over it: what a person touched stays, the rest follows the task."""

from dataclasses import replace

from ct3d.case import SECTIONS, Case, Sentence
from CT3DAssistantLib.review import free_id, settled


def with_checked(case: Case, checked: tuple[Sentence, ...]) -> Case:
    """The case with what a check found, where the text is still the one that was checked.

    A signed report stays as it was signed.
    """
    if case.report_state == "signed":
        return case
    found = {(each.id, each.text): each for each in checked}
    sentences = []
    for sentence in case.sentences:
        new = found.get((sentence.id, sentence.text), sentence)
        more = {"support": new.support, "evidence": new.evidence, "reasons": new.reasons}
        sentences.append(replace(sentence, **more))
    return replace(case, sentences=tuple(sentences))


def with_drafted(
    case: Case, drafted: tuple[Sentence, ...], sections: tuple[str, ...] = (), *, at_utc: str = ""
) -> Case:
    """The case with sections written anew; what a person touched stays.

    Of the program's own sentences of those sections nothing stays. A new one is left out where a person has
    touched the sentence of the same fact (the same floor). If that changes a report that was reviewed or
    signed, it is open again.

    Args:
        sections: that were written, those without a sentence too; (): those of the new sentences.
    """
    rewritten = set(sections) or {sentence.section for sentence in drafted}
    sentences: list[Sentence] = []
    for section in SECTIONS:
        old = _of(case.sentences, section)
        sentences += _redrafted(old, _of(drafted, section)) if section in rewritten else old
    if tuple(sentences) == case.sentences:
        return case
    return settled(replace(case, sentences=tuple(sentences)), "the report was written anew", at_utc)


def _of(sentences: tuple[Sentence, ...], section: str) -> list[Sentence]:
    return [sentence for sentence in sentences if sentence.section == section]


def _redrafted(old: list[Sentence], drafted: list[Sentence]) -> list[Sentence]:
    """One section: new sentences for the facts that no person touched, and the touched in their places."""
    touched = [sentence for sentence in old if sentence.is_touched]
    floors = {sentence.floor for sentence in touched} - {""}
    taken = {sentence.id for sentence in touched}
    section = []
    for sentence in drafted:
        if sentence.floor not in floors:
            section.append(replace(sentence, id=free_id(sentence.id, taken)))
            taken.add(section[-1].id)
    for sentence in touched:
        section.insert(old.index(sentence), sentence)
    return section
