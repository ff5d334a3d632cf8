"""A case in a few words: how its analysis went, and what of it a person has made."""

from ct3d.case import Case, ScanCheck
from CT3DAssistantLib.chain import TITLES
from CT3DAssistantLib.logic import left_of
from CT3DAssistantLib.profiles import Profile

AXES = {"up": "up–down", "front": "front–back", "right": "left–right"}
FAILED = "_failed"  # ends the id of a flag that notes a step which broke


def summary(case: Case) -> str:
    """One line: time, findings, and what to look at."""
    counts = {state: sum(each.state == state for each in case.findings) for state in ("present", "possible")}
    warnings = sum(flag.severity != "info" and not flag.id.endswith(FAILED) for flag in case.flags)
    seconds = sum(step.seconds for step in case.provenance if step.task != "answer")
    parts = [f"Analysed in {duration(seconds)}"]
    if case.findings:
        parts.append(f"findings: {counts['present']} present, {counts['possible']} possible")
    parts.append(f"{warnings} thing{'s' * (warnings != 1)} to look at" if warnings else "no warnings")
    return "; ".join(parts) + "."


def range_words(check: ScanCheck) -> str:
    """What of the body a scan shows, and whether its header agrees: "neck, with about C5 to C6 in it"."""
    span = f", with about {' to '.join(check.levels)} in it" if check.levels else ""  # there may be more
    agrees = [AXES[each.axis] for each in check.axes if each.verdict == "agrees"]
    against = [AXES[each.axis] for each in check.axes if each.verdict == "mirrored"]
    untold = [AXES[each.axis] for each in check.axes if each.verdict == "untold"]
    told = {"agrees with the header": agrees, "CONTRADICTS the header": against, "can't be told": untold}
    verdicts = "; ".join(f"{', '.join(axes)}: {words}" for words, axes in told.items() if axes)
    parts = " and ".join(filter(None, (", ".join(check.parts[:-1]), *check.parts[-1:])))
    return f"Shows {parts or 'no part that it knows'}{span}. Orientation: {verdicts}."


def broken_steps(case: Case) -> tuple[tuple[str, str], ...]:
    """(title, message) of each step that broke."""
    broken = [flag for flag in case.flags if flag.id.endswith(FAILED)]
    return tuple((TITLES.get(flag.id.removesuffix(FAILED), flag.id), flag.text) for flag in broken)


def steps_left(case: Case, profile: Profile) -> tuple[str, ...]:
    """Titles of the steps that `logic.resume` would do with a profile."""
    return tuple(TITLES[task] for task in left_of(case) if profile.does(task))


def persons_work(case: Case | None) -> str:
    """What of a case a person has made, in words; "" where nobody has touched it."""
    if case is None:
        return ""
    counts = {
        "changed sentence": sum(bool(each.draft) or each.origin == "person" for each in case.sentences),
        "removed sentence": sum(each.removed for each in case.sentences),
        "reviewed landmark": sum(each.verdict != "open" or bool(each.second) for each in case.reviews),
    }
    parts = [f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count]
    if case.signature:
        parts.append(f"the signature of {case.signature.name}")
    if not parts and (case.actions or case.report_state != "draft"):
        parts.append("a review")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as a person says it: "8 s", "1 min 20 s", "2 h 5 min"; never broken over two lines."""
    whole = round(seconds)
    if whole < 60:
        told = f"{whole} s"
    elif whole < 3600:
        told = f"{whole // 60} min {whole % 60} s"
    else:
        told = f"{whole // 3600} h {whole % 3600 // 60} min"
    return told.replace(" ", "\N{NO-BREAK SPACE}")
