"""What a person did, kept outside the scene, so that nothing is lost when the application ends unexpectedly.

One JSON file per scan in the user's own folder, named after the hash of the scan's voxels, rewritten whole
after every change. It holds the case: no voxels, no file names, nothing from a DICOM header, and not who
signed. What a person typed is in it as typed.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ct3d.cards import weights_folder
from ct3d.case import Action, Answer, Case, PointReview, Step
from ct3d.errors import DiskFull, InvalidRequest
from ct3d.protocol.codec import decode
from CT3DAssistantLib.exports.files import write_file
from CT3DAssistantLib.landmark_review import found_anew, review_of
from CT3DAssistantLib.landmark_sets import cards_of, named
from CT3DAssistantLib.redraft import with_drafted
from CT3DAssistantLib.review import act

KEPT_DAYS = 30
KEPT_FILES = 50
PRIVATE = 0o700


def recovery_folder() -> Path:
    """This user's own folder of kept cases, shared by all installations."""
    return weights_folder().parent / "recovery"


@dataclass(frozen=True)
class Kept:
    """A case as it was after a person's last change."""

    path: Path
    case: Case

    @property
    def changed_utc(self) -> str:
        """When the person last did something."""
        return last_change(self.case)

    @property
    def changed_local(self) -> str:
        """The same as the clock on the wall shows it: time, and date where it wasn't today."""
        at = datetime.strptime(self.changed_utc, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).astimezone()
        is_today = at.date() == datetime.now(UTC).astimezone().date()
        return at.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")


@dataclass(frozen=True)
class Recovery:
    """The kept cases in one folder.

    Attributes:
        folder: made when it is needed.
    """

    folder: Path

    def keep(self, case: Case) -> Path | None:
        """Write the case after a person's change; None where there is nothing of a person, or no hash.

        An earlier file whose actions aren't all in this case is another history of the same scan: it is put
        aside under its time, never overwritten.

        Raises:
            DiskFull: if the folder can't take it.
        """
        if not case.actions or not case.input.sha256:
            return None
        path = self.folder / f"{case.input.sha256}.json"
        try:
            self.folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            self._put_aside(path, case)
            self._prune(spared=path)
        except OSError as error:
            raise DiskFull(f"{self.folder} can't be written ({error.strerror}). Free space there.") from error
        return write_file(path, _unsigned(case).to_json())

    def find(self, sha256: str) -> tuple[Kept, ...]:
        """What is kept of a scan, the latest first; files that can't be read are left alone and left out."""
        found = (self._read(path) for path in self.folder.glob(f"{sha256}*.json")) if sha256 else ()
        return tuple(sorted(filter(None, found), key=lambda kept: kept.changed_utc, reverse=True))

    def offer(self, case: Case) -> Kept | None:
        """The latest kept case of the same scan in which a person did what this case doesn't know of."""
        return next((kept for kept in self.find(case.input.sha256) if _not_in(case, kept.case.actions)), None)

    def _put_aside(self, path: Path, case: Case) -> None:
        kept = _actions_in(path)
        if _not_in(case, kept):
            stamp = max(action.at_utc for action in kept).replace(":", "").replace("-", "")
            path.replace(path.with_name(f"{path.stem}.{stamp}.json"))

    def _prune(self, spared: Path) -> None:
        """Remove files older than KEPT_DAYS, and the oldest above KEPT_FILES."""
        others = [(each.stat().st_mtime, each) for each in self.folder.glob("*.json") if each != spared]
        oldest = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).timestamp()
        newest_first = sorted(others, reverse=True)
        for n, (written, path) in enumerate(newest_first):
            if written < oldest or n >= KEPT_FILES - 1:
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Kept | None:
        try:
            case = Case.from_json(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, InvalidRequest):
            return None
        return Kept(path, case) if case.actions else None


def restored(case: Case, kept: Case) -> Case:
    """The case with what a person did in the kept one, as if its tasks had run again over the kept one.

    What the program found is this case's. A verdict comes back where its point lies as it did (see
    `found_anew`), unless the landmark was decided here too; landmarks of a card that wasn't run here come
    back whole. Sentences that a person touched come back, unless the sentence of the same fact was touched
    here too; so do questions and answers. A signature doesn't.
    """
    merged = found_anew(kept, named(case).landmarks)
    reviews = (_later(review_of(case, each.id), review_of(merged, each.id)) for each in merged.landmarks)
    actions = sorted((*merged.actions, *_not_in(merged, case.actions)), key=lambda action: action.at_utc)
    whole = replace(
        case,
        landmarks=merged.landmarks,
        provenance=(*_steps_of_others(kept, case), *case.provenance),
        reviews=tuple(each for each in reviews if each != PointReview(each.landmark)),
        answers=_all_answers(kept, case),
        actions=tuple(actions),
    )
    return act(_with_sentences(whole, kept), "restore", "case", f"work until {last_change(kept)}")


def _steps_of_others(kept: Case, case: Case) -> tuple[Step, ...]:
    """The steps of cards that placed landmarks in the kept case only."""
    here, back = cards_of(case), cards_of(kept)
    steps = (step for step in kept.provenance if step.task == "landmarks")
    return tuple(step for step in steps if step.card in back and step.card not in here)


def last_change(case: Case) -> str:
    """When a person last did something, UTC."""
    return max(action.at_utc for action in case.actions)


def _later(here: PointReview, kept: PointReview) -> PointReview:
    """What is decided here stays; what is not comes from the kept case."""
    first, second = here if here.verdict != "open" else kept, here if here.second else kept
    return replace(first, second=second.second, second_ras=second.second_ras, second_utc=second.second_utc)


def _with_sentences(case: Case, kept: Case) -> Case:
    """The case with the report of the kept one, over which this case's own sentences were drafted anew."""
    if case.sentences == kept.sentences:
        return replace(
            case, report_state=_unsigned(kept).report_state if case.signature is None else case.report_state
        )
    here = [each for each in case.sentences if each.is_touched]
    facts = {(each.section, each.floor) for each in here if each.floor}
    base = tuple(
        each for each in kept.sentences if not each.is_touched or (each.section, each.floor) not in facts
    )
    known = {(each.section, each.text, each.removed) for each in base if each.is_touched}
    fresh = tuple(each for each in case.sentences if (each.section, each.text, each.removed) not in known)
    return with_drafted(replace(case, sentences=base, report_state="edited", signature=None), fresh)


def _all_answers(kept: Case, case: Case) -> tuple[Answer, ...]:
    known = {(each.question, each.text) for each in kept.answers}
    answers = (*kept.answers, *(each for each in case.answers if (each.question, each.text) not in known))
    return tuple(replace(each, id=f"answer_{n}") for n, each in enumerate(answers, start=1))


def _not_in(case: Case, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """What a person did that a case doesn't know of."""
    known = {(action.at_utc, action.verb, action.target) for action in case.actions}
    return tuple(each for each in actions if (each.at_utc, each.verb, each.target) not in known)


def _actions_in(path: Path) -> tuple[Action, ...]:
    """The actions in a kept file, without the rest of it; none where there is no file, or a broken one."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        return decode(tuple[Action, ...], kept["actions"], "actions")
    except (OSError, ValueError, KeyError, TypeError, InvalidRequest):
        return ()


def _unsigned(case: Case) -> Case:
    """The case without the name of who signed it."""
    state = "reviewed" if case.report_state == "signed" else case.report_state
    actions = tuple(replace(each, detail="") if each.target == "report" else each for each in case.actions)
    return replace(case, report_state=state, signature=None, actions=actions)
