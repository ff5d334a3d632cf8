"""Slice pictures of a case without any graphics library of the machine: numpy samples, pillow draws.

Slicer's own Python carries pillow, with what pydicom needs; panels import this file in a button's handler.

Radiological convention: the patient's right is on the left of axial and coronal pictures, the front on the
left of sagittal ones. Planes are those of the patient (RAS), also where the scan itself is oblique.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ct3d.case import RESEARCH_USE, Case, Point, Region
from ct3d.imaging.exchange import Bites, last
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk
from CT3DAssistantLib.place import Place, Places, PointIn, in_layers
from CT3DAssistantLib.terminology import segment_term
from CT3DAssistantLib.windows import SOFT, Window, window_of

# plane → direction toward the right of the picture, toward its foot (RAS), and the letters of its edges
PLANES = {
    "axial": ((-1, 0, 0), (0, -1, 0), "RLAP"),
    "coronal": ((-1, 0, 0), (0, 0, -1), "RLSI"),
    "sagittal": ((0, -1, 0), (0, 0, -1), "APSI"),
}
ACROSS = {"axial": (2, "S"), "coronal": (1, "A"), "sagittal": (0, "R")}  # RAS axis the plane lies across
INK, SHADE, MARK = (235, 238, 242), (0, 0, 0), (255, 214, 64)
BAND_PIXELS = 1 << 14  # sampled at once


@dataclass(frozen=True)
class View:
    """What a picture shows: a plane through a point.

    Attributes:
        field_mm: side of the square shown around the point; None: the whole scan.
        size_px: longer side of the picture.
    """

    plane: str
    ras: Point
    window: Window = SOFT
    field_mm: float | None = None
    size_px: int = 640


class Slice:
    """A plane through a volume, sampled on square pixels.

    Attributes:
        shape: (rows, columns) of the picture.
        pixel_mm: side of a pixel.
    """

    def __init__(self, volume: Volume, view: View):
        self.volume, self.view = volume, view
        self.right, self.down = (np.array(axis, float) for axis in PLANES[view.plane][:2])
        self.origin, sides_mm = self._frame()
        self.pixel_mm = max(sides_mm) / view.size_px
        columns, rows = (max(1, int(np.ceil(side / self.pixel_mm))) for side in sides_mm)
        self.shape = (rows, columns)

    def _frame(self) -> tuple[np.ndarray, tuple[float, float]]:
        """Top left corner in RAS, and width and height in millimetres."""
        ras = np.array(self.view.ras)
        if self.view.field_mm:
            half = self.view.field_mm / 2
            return ras - half * (self.right + self.down), (self.view.field_mm,) * 2
        k, j, i = self.volume.array.shape
        corners = ras_from_ijk(
            list(product((-0.5, i - 0.5), (-0.5, j - 0.5), (-0.5, k - 0.5))), self.volume.ijk_to_ras
        )
        across = np.abs(np.cross(self.right, self.down))
        low_x, low_y = (corners @ self.right).min(), (corners @ self.down).min()
        width, height = np.ptp(corners @ self.right), np.ptp(corners @ self.down)
        return ras * across + low_x * self.right + low_y * self.down, (float(width), float(height))

    def pixel_of(self, ras: Point) -> tuple[float, float]:
        """Column and row at which a point lies (or onto which it falls along the plane's normal)."""
        away = np.array(ras) - self.origin
        return float(away @ self.right) / self.pixel_mm, float(away @ self.down) / self.pixel_mm

    def sampling(
        self, layers: Mapping[str, np.ndarray]
    ) -> Bites[tuple[np.ndarray, dict[tuple[str, int], np.ndarray]]]:
        """(rows, columns) HU, and by layer and label the share of each pixel that carries it; in bites."""
        hu, shares, row = np.empty(self.shape), {}, 0
        for band in self.bands():
            rows = slice(row, row + band.shape[0])
            row = rows.stop
            hu[rows] = band.hu()
            for name, layer in layers.items():
                yield
                for label, share in band.shares(layer).items():
                    shares.setdefault((name, label), np.zeros(self.shape))[rows] = share
            yield
        return hu, shares

    def bands(self) -> Iterator["Band"]:
        """The picture from top to bottom, in parts that are sampled in some 10 ms each."""
        rows, columns = self.shape
        for first in range(0, rows, max(1, BAND_PIXELS // columns)):
            yield Band(self, first, min(rows, first + max(1, BAND_PIXELS // columns)))


class Band:
    """Some rows of a slice, with the voxels around each of their pixels."""

    def __init__(self, cut: Slice, first: int, past: int):
        self.volume, self.shape = cut.volume, (past - first, cut.shape[1])
        down, right = np.meshgrid(np.arange(first, past) + 0.5, np.arange(cut.shape[1]) + 0.5, indexing="ij")
        points = cut.origin + cut.pixel_mm * (right[..., None] * cut.right + down[..., None] * cut.down)
        kji = ijk_from_ras(points.reshape(-1, 3), self.volume.ijk_to_ras)[:, ::-1]
        size = np.array(self.volume.array.shape)
        self._inside = np.all((kji > -0.5 - 1e-6) & (kji < size - 0.5 + 1e-6), axis=1)
        low = np.floor(kji + 1e-6).astype(int)
        share = (kji - low).astype(np.float32).clip(0, 1)
        self._indices, self._weights = [], []  # per neighbour: flat index of each pixel's, and its weight
        for step in product((0, 1), repeat=3):
            weight = np.prod([share[:, n] if up else 1 - share[:, n] for n, up in enumerate(step)], axis=0)
            if weight.max() > 1e-5:  # a plane through voxel centres has four neighbours, not eight
                near = np.clip(low + step, 0, size - 1)
                self._indices.append(np.ravel_multi_index(near.T, self.volume.array.shape))
                self._weights.append(weight)

    def hu(self) -> np.ndarray:
        """(rows, columns) HU, linearly interpolated; -1024 outside the volume."""
        flat = self.volume.array.reshape(-1)
        total = sum(w * flat[index] for index, w in zip(self._indices, self._weights, strict=True))
        return np.where(self._inside, total, -1024).reshape(self.shape)

    def shares(self, layer: np.ndarray) -> dict[int, np.ndarray]:
        """Per label that meets this band: (rows, columns), share of each neighbourhood that carries it."""
        flat = layer.reshape(-1)
        corners = [flat[index] for index in self._indices]
        labels = set(np.unique(np.concatenate([np.unique(corner) for corner in corners])).tolist()) - {0}
        masked = [weight * self._inside for weight in self._weights]
        return {
            label: sum(w * (c == label) for w, c in zip(masked, corners, strict=True)).reshape(self.shape)
            for label in labels
        }


def drawing_slice(
    volume: Volume,
    view: View,
    *,
    layers: Mapping[str, np.ndarray] | None = None,
    regions: tuple[Region, ...] = (),
    highlight: str = "",
    mark: bool = True,
) -> Bites[Image.Image]:
    """One annotated picture, in bites, for a thread that must not block: grey scale, region outlines, edge
    letters, scale bar, window and position.

    Args:
        layers: mask layers, (K, J, I) by name, on the volume's grid.
        regions: those to outline, later ones on top.
        highlight: id of the region that is filled too.
        mark: whether to draw a cross at the view's point.
    """
    cut = Slice(volume, view)
    needed = {region.layer for region in regions} & set(layers or {})
    hu, shares = yield from cut.sampling({name: layers[name] for name in sorted(needed)})
    grey = np.clip((hu - view.window.level_hu) / view.window.width_hu + 0.5, 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=2)
    shown = yield from _painting_regions(picture, shares, regions, highlight)
    image = Image.fromarray(picture.astype(np.uint8))
    yield
    draw = ImageDraw.Draw(image)
    if mark:
        _draw_mark(draw, cut.pixel_of(view.ras))
    _draw_letters(draw, image.size, PLANES[view.plane][2])
    _draw_scale(draw, image.size, cut.pixel_mm)
    _draw_legend(draw, shown, highlight)
    axis, letter = ACROSS[view.plane]
    position = f"{view.plane.capitalize()}  {letter} {view.ras[axis]:.1f} mm"
    window = f"W {view.window.width_hu:.0f}  L {view.window.level_hu:.0f}  {view.window.name}"
    _text(draw, (10, image.height - 10), f"{position}\n{window}", anchor="ld", size=13)
    _text(draw, (image.width - 10, 10), RESEARCH_USE, anchor="ra", size=13)
    return image


def drawing_place(
    case: Case, volume: Volume, layers: Mapping[str, np.ndarray], where: Place, *, size_px: int = 560
) -> Bites[Image.Image]:
    """The axial picture of a place, in bites: its region filled, lesions outlined, in its window."""
    entry = next((region for region in case.regions if region.id == where.region), None)
    drawn = tuple(r for r in case.regions if r.kind == "lesion" or r.id == where.region)
    field_mm = 140.0 if entry is not None and entry.kind == "lesion" else None
    view = View("axial", where.ras, window_of(entry), field_mm, size_px)
    return drawing_slice(volume, view, layers=layers, regions=drawn, highlight=where.region)


def key_pictures(case: Case, volume: Volume, layers: Mapping[str, np.ndarray]) -> dict[str, Image.Image]:
    """The case at one glance: three planes through its main place, organs and lesions outlined."""
    return last(drawing_keys(case, volume, layers))


def drawing_keys(
    case: Case, volume: Volume, layers: Mapping[str, np.ndarray], point_in: PointIn | None = None
) -> Bites[dict[str, Image.Image]]:
    """`key_pictures` in bites, for a thread that must not block.

    Args:
        point_in: finds points in regions; None: in the layers.
    """
    where = main_place(case, volume, point_in or in_layers(case, layers))
    yield
    drawn = tuple(r for r in case.regions if r.kind in ("organ", "lesion") and r.id != "body")
    entry = next((region for region in case.regions if region.id == where.region), None)
    view = View("axial", where.ras, window_of(entry))
    shared = {"layers": layers, "regions": drawn, "mark": bool(where.region)}
    pictures = {}
    for plane in PLANES:
        pictures[plane] = yield from drawing_slice(volume, replace(view, plane=plane), **shared)
    return pictures


def main_place(case: Case, volume: Volume, point_in: PointIn) -> Place:
    """Where to look first: the first lesion, else the carina, else the lungs, else the middle of the scan."""
    places = Places(case, point_in)
    lesions = [f"region/{region.id}" for region in case.regions if region.kind == "lesion"]
    for evidence in (*lesions, "landmark/carina", "region/right_lung", "region/left_lung"):
        if found := places.of(evidence):
            return found
    middle = (np.array(volume.array.shape[::-1]) - 1) / 2
    ras = ras_from_ijk(middle[None], volume.ijk_to_ras)[0]
    return Place(tuple(float(x) for x in ras), "middle of the scan")


def _painting_regions(picture, shares, regions, highlight) -> Bites[list[Region]]:
    """Outline the regions in place; gives those that meet the plane."""
    shown = []
    for region in regions:
        share = shares.get((region.layer, region.label))
        if share is None or share.max() < 0.5:
            continue
        shown.append(region)
        box = _box(share)
        part, share = picture[box], share[box]
        color = np.array(segment_term(region).color, float)
        if region.id == highlight:
            _blend(part, color, (0.12 if region.kind == "lesion" else 0.25) * (share > 0.5))
            yield
        _blend(part, color, _outline(share, 2.2 if region.id == highlight else 1.5))
        yield
    return shown


def _box(share: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a picture that a region touches, with a margin for its outline."""
    spans = (np.flatnonzero(share.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, int(span[0]) - 4), int(span[-1]) + 5) for span in spans)
    return rows, columns


def _outline(share: np.ndarray, width_px: float) -> np.ndarray:
    """Opacity of an antialiased line along share = 0.5."""
    slope = np.hypot(*np.gradient(share)) if min(share.shape) > 1 else np.zeros_like(share)
    distance_px = np.abs(share - 0.5) / np.maximum(slope, 1e-3)
    return np.clip(width_px / 2 + 0.5 - distance_px, 0, 1)


def _blend(picture: np.ndarray, color: np.ndarray, opacity: np.ndarray) -> None:
    picture += opacity[..., None] * (color - picture)


def _draw_mark(draw, pixel) -> None:
    x, y = pixel
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        draw.line([(x + 16 * dx, y + 16 * dy), (x + 34 * dx, y + 34 * dy)], fill=MARK, width=2)


def _draw_letters(draw, size, letters) -> None:
    width, height = size
    left, right, top, bottom = letters
    middle_x, middle_y = width / 2, height / 2
    places = (left, (10, middle_y), "lm"), (right, (width - 10, middle_y), "rm")
    for letter, where, anchor in (
        *places,
        (top, (middle_x, 10), "ma"),
        (bottom, (middle_x, height - 10), "md"),
    ):
        _text(draw, where, letter, anchor=anchor, size=18)


def _draw_scale(draw, size, pixel_mm) -> None:
    width, height = size
    length_mm = next(mm for mm in (100, 50, 20, 10, 5, 2, 1) if mm / pixel_mm <= width / 4 or mm == 1)
    right, foot = width - 12, height - 14
    left = right - length_mm / pixel_mm
    for ink, thick in ((SHADE, 5), (INK, 2)):
        draw.line([(left, foot), (right, foot)], fill=ink, width=thick)
        for x in (left, right):
            draw.line([(x, foot - 5), (x, foot + 5)], fill=ink, width=thick)
    _text(draw, ((left + right) / 2, foot - 8), f"{length_mm} mm", anchor="md", size=12)


def _draw_legend(draw, regions, highlight) -> None:
    for n, region in enumerate(sorted(regions, key=lambda each: each.id != highlight)[:8]):
        y = 12 + 18 * n
        draw.rectangle([10, y, 20, y + 10], fill=segment_term(region).color, outline=SHADE)
        _text(draw, (27, y + 5), region.title, anchor="lm", size=12)


def _text(draw, where, text, *, anchor, size, fill=INK) -> None:
    font = ImageFont.load_default(size)
    if "\n" in text:
        for n, line in enumerate(reversed(text.split("\n"))):
            _text(draw, (where[0], where[1] - n * (size + 4)), line, anchor=anchor, size=size, fill=fill)
        return
    draw.text(
        where,
        text,
        font=font,
        fill=fill,
        anchor=anchor,
        stroke_width=2 if size > 15 else 1,
        stroke_fill=SHADE,
    )
