"""NIfTI-1 files seen without ITK, for what its reader passes over.

That reader takes a spacing of 0 as 1 mm, fills a cut file with zeros, and makes NaN 0 HU, which is water.
"""

import gzip
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ct3d.errors import InvalidRequest

NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


@dataclass(frozen=True)
class Nifti:
    """Where the voxels of one file lie and how they are stored.

    Attributes:
        shape_kji: slowest axis first; may have more or fewer than three.
        voxel: type and byte order as stored; void for types that are left to the reader.
        start: offset of the first voxel, in bytes.
        slope, intercept: of the scaling; a slope of 0 or NaN means none.
    """

    path: Path
    shape_kji: tuple[int, ...]
    voxel: np.dtype
    start: int
    slope: float
    intercept: float

    @property
    def length(self) -> int:
        """Bytes that the file must hold, unpacked."""
        return self.start + math.prod(self.shape_kji) * self.voxel.itemsize

    def voxels(self) -> np.ndarray:
        """(K, J, I), scaled, NaN and infinity kept."""
        array = np.empty(self.shape_kji[-3:], self.voxel)
        with _unpacked(self.path) as file:
            file.seek(self.start)
            rest = memoryview(array.data).cast("B")
            while piece := file.read(min(1 << 20, len(rest))):
                rest[: len(piece)] = piece
                rest = rest[len(piece) :]
        if not math.isfinite(self.slope) or self.slope == 0 or (self.slope, self.intercept) == (1, 0):
            return array  # a slope of 0 or NaN means: as stored
        array = array.astype(np.float32)
        array *= np.float32(self.slope)
        array += np.float32(self.intercept)
        return array


def check_nifti(path: Path) -> Nifti | None:
    """The header of a whole NIfTI-1 file; None for what is left to the reader (NIfTI-2, or no NIfTI)."""
    try:
        with _unpacked(path) as file:
            header = file.read(352)
    except (OSError, EOFError) as error:
        raise InvalidRequest(f"{path} is cut short or no NIfTI file. Copy or export it again.") from error
    if len(header) < 348 or (order := _byte_order(header)) is None:
        return None
    axes, *size = struct.unpack_from(f"{order}8h", header, 40)
    code, bits = struct.unpack_from(f"{order}2h", header, 70)
    spacing = struct.unpack_from(f"{order}3f", header, 80)
    start, slope, intercept = struct.unpack_from(f"{order}3f", header, 108)
    axes = max(1, min(axes, 7))
    if not all(math.isfinite(each) and each > 0 for each in spacing[:axes]):
        raise InvalidRequest(
            f"The voxel spacing in the header of {path} is zero, negative or no number. Export the CT again."
        )
    kind = NIFTI_TYPES.get(code, f"V{max(1, bits // 8)}")
    shape = tuple(max(1, n) for n in size[:axes][::-1])
    nifti = Nifti(path, shape, np.dtype(kind).newbyteorder(order), int(start), slope, intercept)
    if _length_of(path, nifti.length) < nifti.length:
        raise InvalidRequest(f"{path} is cut short: voxels are missing. Copy or export it again.")
    return nifti


def _byte_order(header: bytes) -> Literal["<", ">"] | None:
    """Of a NIfTI-1 header, which begins with its length; None where it is something else."""
    if header[:4] == struct.pack("<i", 348):
        return "<"
    return ">" if header[:4] == struct.pack(">i", 348) else None


def _unpacked(path):
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _length_of(path, needed):
    """Bytes of content; of a gzip file from its last four bytes where they agree, else by unpacking it."""
    if not path.name.lower().endswith(".gz"):
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        if struct.unpack("<I", file.read(4))[0] == needed % 2**32:
            return needed
    try:
        with gzip.open(path, "rb") as file:
            return sum(len(piece) for piece in iter(lambda: file.read(1 << 20), b""))
    except (OSError, EOFError):
        return 0
