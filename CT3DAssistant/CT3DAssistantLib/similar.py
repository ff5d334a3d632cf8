"""A folder of CTs as an index of cases: what lies there, read one by one; the worker encodes and keeps them.

The report of a CT is a text file beside it: `scan.txt` for `scan.nii.gz`, `exam.txt` for the DICOM folder
`exam`.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct3d.client.client import Client
from ct3d.errors import InvalidRequest, TaskFailed
from ct3d.imaging.dicom import FEWEST_SLICES, is_dicom, list_series
from ct3d.imaging.exchange import remove_arrays, store_volume
from ct3d.imaging.files import SUFFIXES, ending_of, read_volume
from ct3d.protocol.tasks import IndexParams

NO_CT = (".seg.nrrd",)  # masks that the program itself writes


@dataclass(frozen=True)
class Found:
    """A CT in a folder.

    Attributes:
        path: a file, or a folder of DICOM files.
        series: uid, of a DICOM folder.
    """

    path: Path
    series: str | None = None

    @property
    def report(self) -> Path:
        """Where its report lies, if it has one."""
        name = self.path.name
        stem = name if self.series else name[: len(name) - len(ending_of(name))]
        return self.path.with_name(f"{stem}.txt")


@dataclass(frozen=True)
class Indexed:
    """What came of a folder: how many CTs were added, got a report, or were there; and what couldn't be read.

    Attributes:
        skipped: path → why.
    """

    added: int
    reports: int
    known: int
    skipped: dict[str, str]


def index_folder(
    client: Client,
    exchange: Path,
    folder: Path,
    *,
    index: Path,
    card: str,
    note: Callable[[str], None],
    on_progress: Callable[[Any], None] | None = None,
) -> Indexed:
    """Take every CT of a folder, and below it, into an index; what is there already isn't encoded again.

    Args:
        client, exchange: a worker, and the folder of its arrays.
        index: folder of the index.
        card: id of a card of the role "retrieve".
        note: called with a line about each CT.

    Raises:
        InvalidRequest: no CT is there, or the index was made with another card.
        AssistantError: the worker can't encode at all, e.g. for want of weights.
    """
    states, skipped = [], {}
    for found in cts_in(folder, skipped):
        try:
            volume, text = read_volume(found.path, series=found.series)[0], _report(found)
        except InvalidRequest as error:
            skipped[str(found.path)] = str(error)
            note(f"Skipped {found.path}: {error}")
            continue
        ref = store_volume(volume, exchange)
        params = IndexParams(str(index), card, ref, str(found.path), text)
        job = client.submit("index", params, on_progress)
        try:
            states.append(client.wait(job).state)
        except TaskFailed as error:
            skipped[str(found.path)] = str(error)
        remove_arrays(exchange)
        note(f"{found.path}: {skipped.get(str(found.path)) or states[-1]}")
    if not states and not skipped:
        raise InvalidRequest(f"There is no CT in {folder}. Give a folder of NIfTI, NRRD, MHA or DICOM files.")
    return Indexed(*(states.count(each) for each in ("added", "report", "known")), skipped)


def cts_in(folder: Path, skipped: dict[str, str]) -> Iterator[Found]:
    """The CTs in a folder and below it, by path; DICOM folders that can't be read are noted in `skipped`."""
    if not folder.is_dir():
        raise InvalidRequest(f"There is no folder {folder}. Check the path.")
    for place in sorted((folder, *(each for each in folder.rglob("*") if each.is_dir()))):
        files = sorted(each for each in place.iterdir() if each.is_file())
        images = [each for each in files if each.name.lower().endswith(SUFFIXES)]
        yield from (Found(each) for each in images if not each.name.lower().endswith(NO_CT))
        others = [each for each in files if each not in images and each.suffix != ".txt"]
        if any(is_dicom(each) for each in others):
            yield from _series_in(place, skipped)


def card_of_index(index: Path) -> str:
    """Id of the card that an index was made with.

    Raises:
        InvalidRequest: there is no index.
    """
    path = index / "index.json"
    if not path.is_file():
        raise InvalidRequest(f"There is no index at {index}. Make one with `ct3d-assistant index`.")
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["card"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} is damaged. Make a new index.") from error


def _series_in(place: Path, skipped: dict[str, str]) -> Iterator[Found]:
    try:
        series = list_series(place)
    except InvalidRequest as error:
        skipped[str(place)] = str(error)
        return
    yield from (
        Found(place, each.uid) for each in series if each.modality == "CT" and each.slices >= FEWEST_SLICES
    )


def _report(found: Found) -> str:
    if not found.report.is_file():
        return ""
    try:
        return found.report.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{found.report} is no text in UTF-8. Save it as such.") from error
