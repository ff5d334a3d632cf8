"""The pictures of a report: key pictures, and one per place that a piece of evidence leads to."""

import base64
import io
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import (
    Image,
    WebPImagePlugin,  # noqa: F401  or the first save looks through all formats, for 0.1 s
)

from ct3d.case import Case
from ct3d.imaging.volume import Volume
from CT3DAssistantLib.pictures import drawing_keys, drawing_place
from CT3DAssistantLib.place import Places, PointIn, in_layers


@dataclass(frozen=True)
class Figure:
    """A picture in the report.

    Attributes:
        id: anchor in the page.
        title: what it shows.
        source: data URL of the image.
    """

    id: str
    title: str
    source: str


@dataclass(frozen=True)
class Figures:
    """All pictures of one report.

    Attributes:
        key: three planes and, where it could be drawn, the 3D picture.
        places: one per place, in the order of first use.
        of: evidence string → id of the figure that shows it; no entry where there is nothing to see.
    """

    key: tuple[Figure, ...]
    places: tuple[Figure, ...]
    of: Mapping[str, str]


def make_figures(
    case: Case,
    volume: Volume,
    layers: Mapping[str, np.ndarray],
    *,
    keys: Mapping[str, Image.Image] | None = None,
    picture_3d: Path | None = None,
) -> Figures:
    """Draw everything the report shows.

    Args:
        layers: mask layers, (K, J, I) by name.
        keys: the key pictures by plane, where they are drawn already.
        picture_3d: PNG file of the 3D picture, where there is one.
    """
    steps = drawing_figures(case, volume, layers, keys=keys, picture_3d=picture_3d)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def drawing_figures(
    case: Case,
    volume: Volume,
    layers: Mapping[str, np.ndarray],
    *,
    keys: Mapping[str, Image.Image] | None = None,
    picture_3d: Path | None = None,
    point_in: PointIn | None = None,
) -> Generator[float | None, None, Figures]:
    """`make_figures` in bites, for a thread that must not block; yields the share done after each picture.

    Args:
        point_in: finds points in regions; None: in the layers.
    """
    point_in = point_in or in_layers(case, layers)
    keys = keys or (yield from drawing_keys(case, volume, layers, point_in))
    key = []
    for plane in keys:
        yield
        key.append(Figure(f"key-{plane}", f"{plane.capitalize()} plane", data_url(keys[plane])))
    if picture_3d is not None:
        with Image.open(picture_3d) as image:
            key.append(Figure("key-3d", "3D, seen from the front", data_url(image.convert("RGB"))))
    yield 0.1
    search, found = Places(case, point_in), {}
    for evidence in cited(case):
        found[evidence] = search.of(evidence)
        yield
    wheres = tuple(dict.fromkeys(filter(None, found.values())))
    drawn = []
    for number, where in enumerate(wheres, 1):
        picture = yield from drawing_place(case, volume, layers, where)
        yield 0.1 + 0.9 * number / len(wheres)
        drawn.append(Figure(f"place-{number}", where.title, data_url(picture)))
    names = {where: figure.id for where, figure in zip(wheres, drawn, strict=True)}
    return Figures(tuple(key), tuple(drawn), {each: names[where] for each, where in found.items() if where})


def cited(case: Case) -> tuple[str, ...]:
    """Every evidence string a report of this case can link to, each once; lesions first."""
    lesions = [f"region/{region.id}" for region in case.regions if region.kind == "lesion"]
    said = [each for sentence in case.sentences for each in sentence.evidence]
    answered = [each for answer in case.answers for each in answer.evidence]
    found = [f"finding/{finding.id}" for finding in case.findings]
    reasons = [each for finding in case.findings for each in finding.evidence]
    flagged = [each for flag in case.flags for each in flag.evidence]
    regions = [f"region/{region.id}" for region in case.regions]
    points = [f"landmark/{landmark.id}" for landmark in case.landmarks]
    return tuple(dict.fromkeys((*lesions, *said, *answered, *found, *reasons, *flagged, *regions, *points)))


def data_url(image: Image.Image, quality: int = 82) -> str:
    """An image as a data URL, WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=1)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
