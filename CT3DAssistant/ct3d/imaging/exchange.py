"""Arrays beside the wire: uncompressed .npy files, named by content, opened memory-mapped."""

import contextlib
import errno
import hashlib
import re
import tempfile
from collections.abc import Container, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from ct3d.errors import DiskFull, InvalidRequest
from ct3d.imaging.volume import Volume
from ct3d.protocol.tasks import ArrayRef, VolumeRef

T = TypeVar("T")
Bites = Generator[None, None, T]
BITE = 8 << 20  # bytes: some 10 ms to hash, some 5 ms to write
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}


def content_hash(array: np.ndarray) -> str:
    """sha256 of dtype, shape and values in C order."""
    return last(_hashing(np.ascontiguousarray(array)))


def store_array(array: np.ndarray, folder: Path) -> ArrayRef:
    """Write an array once: the same content is never written twice.

    Raises:
        DiskFull: if the folder can't take it; nothing half-written stays.
    """
    return last(storing_array(array, folder))


def storing_array(array: np.ndarray, folder: Path) -> Bites[ArrayRef]:
    """`store_array` in bites of a few milliseconds, for a thread that must not block."""
    array = np.ascontiguousarray(array)
    digest = yield from _hashing(array)
    ref = ArrayRef(digest, tuple(array.shape), array.dtype.str)
    path = _path(ref, folder)
    if path.exists():
        return ref
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            part = file.name
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            for bite in _bites(array):
                file.write(bite)
                yield
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


def remove_arrays(folder: Path, *, keep: Container[str] = ()) -> None:
    """Remove the arrays of a folder, and what was left half-written, but for those with these hashes.

    What somebody still has mapped stays readable to him; a system that can't remove it then lets it lie. Call
    it only while nothing is being stored there.
    """
    for path in (*Path(folder).glob("*.npy"), *Path(folder).glob("*.part")):
        if path.stem not in keep:
            with contextlib.suppress(OSError):
                path.unlink()


def store_volume(volume: Volume, folder: Path) -> VolumeRef:
    """Write a volume's voxels beside the wire; its affine travels in the reference."""
    return VolumeRef(store_array(volume.array, folder), volume.geometry.ijk_to_ras)


def open_volume(ref: VolumeRef, folder: Path) -> Volume:
    """The volume of a reference; its array is memory-mapped and read-only."""
    return Volume(open_array(ref.array, folder), np.array(ref.ijk_to_ras, float))


def _hashing(array: np.ndarray) -> Bites[str]:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    for bite in _bites(array):
        digest.update(bite)
        yield
    return digest.hexdigest()


def _bites(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of a C-contiguous array, BITE at a time."""
    flat = array.reshape(-1).view(np.uint8).data
    return (flat[start : start + BITE] for start in range(0, len(flat), BITE))


def last(bites: Bites[T]) -> T:
    """Do all bites; gives what they return."""
    while True:
        try:
            next(bites)
        except StopIteration as end:
            result: T = end.value
            return result


def _path(ref: ArrayRef, folder: Path) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", ref.sha256):
        raise InvalidRequest("An array is named by its sha256, 64 hexadecimal digits. Send the volume again.")
    return Path(folder) / f"{ref.sha256}.npy"
