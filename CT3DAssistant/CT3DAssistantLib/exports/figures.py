"""The pictures of a report: key pictures, and one per place that a piece of evidence leads to."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ct3d.case import Case
from ct3d.imaging.volume import Volume
from CT3DAssistantLib.pictures import key_pictures, picture_of
from CT3DAssistantLib.place import Place, Places, in_layers


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
    keys = keys or key_pictures(case, volume, layers)
    key = [Figure(f"key-{plane}", f"{plane.capitalize()} plane", data_url(keys[plane])) for plane in keys]
    if picture_3d is not None:
        with Image.open(picture_3d) as image:
            key.append(Figure("key-3d", "3D, seen from the front", data_url(image.convert("RGB"))))
    places: dict[Place, str] = {}
    search = Places(case, in_layers(case, layers))
    found = {evidence: search.of(evidence) for evidence in cited(case)}
    for where in found.values():
        if where is not None:
            places.setdefault(where, f"place-{len(places) + 1}")
    drawn = [
        Figure(name, each.title, data_url(picture_of(case, volume, layers, each)))
        for each, name in places.items()
    ]
    return Figures(
        tuple(key), tuple(drawn), {evidence: places[each] for evidence, each in found.items() if each}
    )


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
    image.save(buffer, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
