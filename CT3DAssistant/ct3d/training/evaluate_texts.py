"""Measure written reports, answers, and retrieval, from a file of JSON lines; prints one JSON object.

    python -m ct3d.training.evaluate_texts report|vqa|retrieval FILE

One object a line; unknown keys are errors; "id" may name a line and changes nothing.

* report: "reference" and "text", as the radiologist and the model wrote them; where both are known, "truth"
  and "named": the findings of the scan and of the text, by the names of `label_metrics.CT_RATE`.
* vqa: "reference" and "text"; "question", for the reader; "kind", a word by which scores are split. Answers
  of the kind "place" are paths like "lung/left lung/lower lobe" and are scored as such, too.
* retrieval: "volume" and, where there is a report, "text": vectors of one length; "labels": 0 and 1, the
  findings, of all lines or of none. Or FILE is an index that `ct3d-assistant index` made.

"compat" is what the reference prints, "clean" what the words mean: see text_metrics and retrieval_metrics.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ct3d.errors import InvalidRequest
from ct3d.training.json_lines import read_lines
from ct3d.training.label_metrics import CT_RATE, label_scores
from ct3d.training.program import ended
from ct3d.training.retrieval_metrics import likeness, recall
from ct3d.training.text_metrics import place_scores, text_scores

MODES = ("compat", "clean")
PLACE = "place"


@dataclass(frozen=True)
class ReportLine:
    """One report."""

    reference: str
    text: str
    id: str = ""
    truth: tuple[str, ...] | None = None
    named: tuple[str, ...] | None = None


@dataclass(frozen=True)
class AnswerLine:
    """One answer."""

    reference: str
    text: str
    id: str = ""
    question: str = ""
    kind: str = ""


@dataclass(frozen=True)
class VectorLine:
    """One case as a contrastive model places it."""

    volume: tuple[float, ...]
    text: tuple[float, ...] | None = None
    id: str = ""
    labels: tuple[int, ...] | None = None


def main(argv: list[str] | None = None) -> int:
    """Run one evaluation; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    given = _parser().parse_args(argv)
    measures = {"report": of_reports, "vqa": of_answers, "retrieval": of_retrieval}
    return ended(lambda: measures[given.what](given.file))


def of_reports(path: Path) -> dict[str, Any]:
    """Text scores of all reports, and scores of their findings where lines tell them."""
    lines = read_lines(path, ReportLine)
    told = [each for each in lines if each.truth is not None and each.named is not None]
    findings = None
    if told:
        named, truth = (_table([getattr(each, key) for each in told]) for key in ("named", "truth"))
        findings = {"count": len(told), **label_scores(named, truth)}
    return {"what": "report", "count": len(lines), "texts": _texts(lines), "findings": findings}


def of_answers(path: Path) -> dict[str, Any]:
    """Text scores of all answers and of each kind, and scores of places."""
    lines = read_lines(path, AnswerLine)
    kinds = {}
    for kind in dict.fromkeys(each.kind for each in lines):
        some = [each for each in lines if each.kind == kind]
        kinds[kind] = {"count": len(some), "texts": _texts(some)}
        if kind == PLACE:
            kinds[kind]["places"] = {mode: place_scores(_pairs(some), mode) for mode in MODES}
    return {"what": "vqa", "count": len(lines), "texts": _texts(lines), "kinds": kinds}


def of_retrieval(path: Path) -> dict[str, Any]:
    """R@k of volumes and reports, and how alike the findings of near volumes are, where lines tell them."""
    lines = _index(path) if path.is_dir() else read_lines(path, VectorLine)
    if len({len(each) for line in lines for each in (line.volume, line.text) if each is not None}) != 1:
        raise InvalidRequest(f"The vectors in {path} have different lengths. Give those of one model.")
    paired = [each for each in lines if each.text is not None]
    found: dict[str, Any] = {"what": "retrieval", "count": len(lines), "with_report": len(paired)}
    if paired:
        volumes, texts = (np.array([getattr(each, key) for each in paired]) for key in ("volume", "text"))
        found["volume_to_report"], found["report_to_volume"] = recall(volumes, texts), recall(texts, volumes)
    labels = [each.labels for each in lines]
    if any(each is not None for each in labels):
        if None in labels or len(set(map(len, labels))) != 1:
            raise InvalidRequest(f"Only some lines of {path} have labels, or not as many. Give all theirs.")
        volumes, table = np.array([each.volume for each in lines]), np.array(labels)
        found["alike"] = {mode: likeness(volumes, table, mode=mode) for mode in MODES}
    return found


def _index(folder: Path) -> list[VectorLine]:
    from ct3d.pipeline.case_index import entries

    texts = [(each.volume, each.text_vector, each.source) for each in entries(folder)]
    return [
        VectorLine(tuple(volume), None if text is None else tuple(text), source)
        for volume, text, source in texts
    ]


def _texts(lines: Sequence[ReportLine | AnswerLine]) -> dict[str, dict[str, float]]:
    return {mode: text_scores(_pairs(lines), mode) for mode in MODES}


def _pairs(lines):
    return [(each.text, each.reference) for each in lines]


def _table(named: list[tuple[str, ...]]) -> np.ndarray:
    """(N, F) of 0 and 1."""
    if strange := sorted({name for names in named for name in names} - set(CT_RATE)):
        raise InvalidRequest(f"There is no finding {strange[0]!r}. Choose of: {', '.join(CT_RATE)}.")
    return np.array([[name in names for name in CT_RATE] for names in named])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["report", "vqa", "retrieval"])
    parser.add_argument("file", type=Path, help="JSON lines; for retrieval also the folder of an index")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
