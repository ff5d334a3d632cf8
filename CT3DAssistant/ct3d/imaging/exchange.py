"""Arrays beside the wire: uncompressed .npy files, named by content, opened memory-mapped."""

import errno
import hashlib
import re
import tempfile
from pathlib import Path

import numpy as np

from ct3d.errors import DiskFull, InvalidRequest
from ct3d.imaging.volume import Volume
from ct3d.protocol.tasks import ArrayRef, VolumeRef

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}


def content_hash(array: np.ndarray) -> str:
    """sha256 of dtype, shape and values in C order."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def store_array(array: np.ndarray, folder: Path) -> ArrayRef:
    """Write an array once: the same content is never written twice.

    Raises:
        DiskFull: if the folder can't take it; nothing half-written stays.
    """
    array = np.ascontiguousarray(array)
    ref = ArrayRef(content_hash(array), tuple(array.shape), array.dtype.str)
    path = _path(ref, folder)
    if path.exists():
        return ref
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            part = file.name
            np.lib.format.write_array(file, array, allow_pickle=False)
        Path(part).replace(path)
    except OSError as error:
        if part:
            Path(part).unlink(missing_ok=True)
        if error.errno in FULL:
            raise DiskFull(
                f"The folder {folder} can't take {array.nbytes >> 20} MB more. Free space there."
            ) from error
        raise
    return ref


def open_array(ref: ArrayRef, folder: Path) -> np.ndarray:
    """The array of a reference, read-only and memory-mapped.

    Raises:
        InvalidRequest: if the file is not there or is not what the reference says.
    """
    path = _path(ref, folder)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidRequest(
            f"The array {ref.sha256[:12]} can't be read ({error}). Send the volume again."
        ) from error
    if array.shape != ref.shape or array.dtype.str != ref.dtype:
        raise InvalidRequest(f"The array {ref.sha256[:12]} has another shape or type. Send the volume again.")
    return array


def store_volume(volume: Volume, folder: Path) -> VolumeRef:
    """Write a volume's voxels beside the wire; its affine travels in the reference."""
    return VolumeRef(store_array(volume.array, folder), volume.geometry.ijk_to_ras)


def open_volume(ref: VolumeRef, folder: Path) -> Volume:
    """The volume of a reference; its array is memory-mapped and read-only."""
    return Volume(open_array(ref.array, folder), np.array(ref.ijk_to_ras, float))


def _path(ref: ArrayRef, folder: Path) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", ref.sha256):
        raise InvalidRequest("An array is named by its sha256, 64 hexadecimal digits. Send the volume again.")
    return Path(folder) / f"{ref.sha256}.npy"
