"""Volumes with reports and questions: an index of JSON lines, its builder, and random looks at what it names.

    python -m ct3d.training.report_data FOLDER --out index.jsonl

takes every CT of a folder that has NAME.txt (its report) or NAME.json (a list of {"question", "answer"})
beside it. A line of the index: {"id", "volume", "report", "questions", "split"}; paths are relative to it.

What a look does to the volume it does to the slices that guide the second encoder; the reference leaves these
as they were (hsenet.md section 2.5).
"""

import argparse
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from ct3d.errors import InvalidRequest
from ct3d.imaging.files import ending_of, read_volume
from ct3d.pipeline.ct_rate import Recipe, Shape, see
from ct3d.protocol.codec import decode, encode
from ct3d.training.json_lines import read_lines

KEPT = 512  # prepared scans in memory


@dataclass(frozen=True)
class Question:
    """What is asked about a scan, and what is to be answered."""

    question: str
    answer: str


@dataclass(frozen=True)
class Pair:
    """One line of an index."""

    id: str
    volume: str
    report: str = ""
    questions: tuple[Question, ...] = ()
    split: Literal["train", "validation"] = "train"


@dataclass(frozen=True)
class Looks:
    """How a look may differ from the scan; chances and the reference's amounts.

    Quarter turns lie in the plane of the slices. Mirrors are 0 unless asked for: a mirrored scan contradicts
    the left and right of its report.
    """

    turn: float = 0.5
    mirror: float = 0.0  # along each in-plane axis
    scale: float = 0.5
    shift: float = 0.5
    amount: float = 0.1  # of scale and shift, the most


def read_index(path: Path) -> list[Pair]:
    """All pairs, with absolute paths.

    Raises:
        InvalidRequest: a line is none, an id comes twice, or a volume isn't there; says which.
    """
    pairs: dict[str, Pair] = {}
    for pair in read_lines(path, Pair):
        place = path.parent / pair.volume
        if pair.id in pairs or not place.exists():
            why = "its id came before" if pair.id in pairs else f"there is no {place}"
            raise InvalidRequest(f"The pair {pair.id!r} of {path}: {why}. Mend it.")
        pairs[pair.id] = replace(pair, volume=str(place))
    return list(pairs.values())


def build(folder: Path, out: Path) -> list[Pair]:
    """Write the index of a folder; gives its pairs.

    Raises:
        InvalidRequest: no CT in it has a report or questions beside it.
    """
    pairs = []
    for path in sorted(folder.rglob("*")):
        ending = ending_of(path.name)
        stem = path.with_name(path.name[: len(path.name) - len(ending)])
        texts = [stem.with_name(stem.name + each) for each in (".txt", ".json")]
        if ending and any(each.is_file() for each in texts):
            report = texts[0].read_text(encoding="utf-8").strip() if texts[0].is_file() else ""
            asked = json.loads(texts[1].read_text(encoding="utf-8")) if texts[1].is_file() else []
            questions = decode(tuple[Question, ...], asked, str(texts[1]))
            name = stem.relative_to(folder).as_posix()
            pairs.append(Pair(name, str(path.resolve()), report, questions))
    if not pairs:
        raise InvalidRequest(f"No CT in {folder} has a report beside it. Put NAME.txt beside NAME.nii.gz.")
    lines = (json.dumps(encode(each), ensure_ascii=False) for each in pairs)
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return pairs


class Scans:
    """What HSENet sees of the pairs' volumes, made as at inference and kept."""

    def __init__(self, recipe: Recipe, shape: Shape):
        self.see = lru_cache(KEPT)(lambda path: self._see(path, recipe, shape))

    def _see(self, path, recipe, shape):
        seen = see(read_volume(path)[0], "training", recipe, shape)
        return seen.volume, seen.slices


def look_at(
    volume: np.ndarray, slices: np.ndarray, looks: Looks, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[int, bool, bool]]:
    """A random look.

    Args:
        volume: (D, H, W) in [0, 1], axes z, x, y.
        slices: (S, h, w) uint8, each x, y turned 90 degrees clockwise (see ct_rate).

    Returns:
        Both, turned and mirrored alike, the volume's values scaled and shifted; and which of the eight ways
        the plane was moved, for features of slices to be kept by.
    """
    turns = int(rng.integers(1, 4)) if rng.random() < looks.turn else 0
    mirrors = rng.random(2) < looks.mirror
    moved = _moved(volume, turns, mirrors)
    upright = _moved(np.rot90(slices, 1, axes=(1, 2)), turns, mirrors)
    if rng.random() < looks.scale:
        moved = moved * np.float32(1 + rng.uniform(-looks.amount, looks.amount))
    if rng.random() < looks.shift:
        moved = moved + np.float32(rng.uniform(-looks.amount, looks.amount))
    turned = np.ascontiguousarray(np.rot90(upright, -1, axes=(1, 2)))
    return np.ascontiguousarray(moved), turned, (turns, bool(mirrors[0]), bool(mirrors[1]))


def _moved(array, turns, mirrors):
    moved = np.rot90(array, turns, axes=(1, 2))
    for axis, is_mirrored in zip((1, 2), mirrors):
        moved = np.flip(moved, axis) if is_mirrored else moved
    return moved


def main() -> None:
    parser = argparse.ArgumentParser(description="Make an index of CTs, reports and questions.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    build(arguments.folder, arguments.out)


if __name__ == "__main__":
    main()
