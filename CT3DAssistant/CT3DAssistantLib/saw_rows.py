"""What a model saw of a scan, in words and rows: what was changed, what was imaged, what to beware."""

from collections.abc import Iterable
from dataclasses import dataclass

from ct3d.cards import InputSpec
from ct3d.case import Geometry, InputReport
from ct3d.imaging.volume import Volume

THICK = 2.5  # times the model's own spacing; thicker slices hide what the model was made to see
MUCH_CLIPPED = 0.5  # share of the voxels
NEEDED = ("lungs",)  # body parts that a chest CT should show whole
IMAGED = 0.9  # share of such a part below which a person is warned
DIRECTIONS = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}
PARTS = {"lungs": "lungs", "upper_abdomen": "upper abdomen"}


@dataclass(frozen=True)
class Change:
    """One row: a property of the scan, and the same of the model's input.

    Attributes:
        tip: what it means, for somebody who doesn't resample for a living.
    """

    title: str
    scan: str
    model: str
    tip: str


def changes(saw: InputReport) -> tuple[Change, ...]:
    """How the scan was turned, resampled, cut and clipped on its way to the model."""
    return (
        _orientation(saw.orientation_from, saw.orientation_to),
        _size(_by(saw.shape_from_kji, "d"), _by(saw.shape_to_kji, "d")),
        _spacing(_by(saw.spacing_from_kji_mm, ".2f"), _by(saw.spacing_to_kji_mm, ".2f")),
        _crop(saw),
        _values(saw),
    )


def expected(geometry: Geometry, orientation: str, spec: InputSpec) -> tuple[Change, ...]:
    """The same for a model that has not seen the scan yet, from its card."""
    native = "as the scan"
    return (
        _orientation(orientation, spec.orientation),
        _size(_by(geometry.shape_kji, "d"), _by(spec.spatial_shape, "d") if spec.spatial_shape else native),
        _spacing(
            _by(geometry.spacing_kji_mm, ".2f"), _by(spec.spacing_mm, ".2f") if spec.spacing_mm else native
        ),
        Change(
            "Values", "as scanned", _range(spec.value_range), "Values outside are set to the nearest end."
        ),
    )


def expected_of(volume: Volume, spec: InputSpec) -> tuple[Change, ...]:
    """`expected` for a volume."""
    return expected(volume.geometry, volume.orientation, spec)


def cautions(saw: InputReport, spec: InputSpec | None) -> tuple[str, ...]:
    """Where the scan lies outside what the model was made for, in sentences; none: nowhere."""
    told = [
        f"Only {share:.0%} of the {part_name(part)} lie within the scan: what is said is of that part."
        for part, share in saw.coverage.items()
        if part in NEEDED and share < IMAGED
    ]
    thickest = max(saw.spacing_from_kji_mm)
    if spec is not None and spec.spacing_mm is not None and thickest > THICK * max(spec.spacing_mm):
        told.append(
            f"Slices are {thickest:.3g} mm apart, the model works at {max(spec.spacing_mm):.3g} mm: "
            "what lies between two slices was interpolated, and small findings can be missed."
        )
    if saw.clipped_share > MUCH_CLIPPED:
        told.append(
            f"{saw.clipped_share:.0%} of the voxels lie outside the model's range of values. "
            "Check that the scan's values are HU."
        )
    return tuple(told)


def coverage_of(saw: InputReport) -> tuple[tuple[str, int], ...]:
    """(body part, percent of it within the scan)."""
    return tuple((part_name(part), round(100 * share)) for part, share in saw.coverage.items())


def part_name(part: str) -> str:
    """A body part in words."""
    return PARTS.get(part, part.replace("_", " "))


def _orientation(scan: str, model: str) -> Change:
    tip = "Toward which side of the patient rows, columns and slices are counted.\n"
    return Change("Counted toward", _toward(scan), _toward(model), tip + f"{scan} → {model}")


def _toward(letters: str) -> str:
    return ", ".join(DIRECTIONS.get(letter, letter) for letter in letters)


def _size(scan: str, model: str) -> Change:
    return Change("Voxels", scan, model, "Columns × rows × slices.")


def _spacing(scan: str, model: str) -> Change:
    return Change("Voxel size, mm", scan, model, "Width × height × distance of slices.")


def _crop(saw: InputReport) -> Change:
    tip = "Which columns, rows and slices of the scan the model's input covers."
    kept = list(zip(saw.crop_from_kji, saw.shape_from_kji, strict=True))
    if all(part == (0, size) for part, size in kept):
        return Change("Cut", "whole scan", "nothing cut off", tip)
    names = ("slices", "rows", "columns")
    parts = [
        f"{name} {first + 1} to {past} of {size}"
        for name, ((first, past), size) in zip(names, kept, strict=True)
        if (first, past) != (0, size)
    ]
    return Change("Cut", "whole scan", "; ".join(parts), tip)


def _range(value_range: tuple[float, float] | None) -> str:
    return "as scanned" if value_range is None else "{:.0f} to {:.0f} HU".format(*value_range)


def _values(saw: InputReport) -> Change:
    if saw.value_range is None:
        return Change("Values", "as scanned", "as scanned", "No value was changed.")
    told = f"{saw.clipped_share:.1%} of the voxels lay outside and were set to the nearest end."
    tip = f"{told} Mostly that is the rim around the scanner's round field of view."
    clipped = f"{_range(saw.value_range)}; {saw.clipped_share:.0%} of the voxels were outside"
    return Change("Values", "as scanned", clipped, tip)


def _by(values_kji: Iterable[float], form: str) -> str:
    """Numbers in the order that a person says them: columns, rows, slices."""
    return " × ".join(format(value, form) for value in tuple(values_kji)[::-1])
