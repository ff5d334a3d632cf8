"""Arrays beside the wire: stored once, checked when opened, nothing half-written."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ct3d.errors import DiskFull, InvalidRequest
from ct3d.imaging import exchange
from ct3d.imaging.exchange import content_hash, open_array, open_volume, store_array, store_volume
from ct3d.imaging.volume import Volume
from ct3d.protocol.tasks import ArrayRef


@pytest.fixture
def an_array():
    return np.random.default_rng(0).integers(-1024, 3071, (7, 11, 13), np.int16)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8", ">i2", "?"])
def test_an_array_comes_back_bit_by_bit_read_only_and_mapped(tmp_path, dtype):
    array = np.random.default_rng(1).integers(0, 2, (5, 4, 3)).astype(dtype)
    ref = store_array(array, tmp_path)
    opened = open_array(ref, tmp_path)
    np.testing.assert_array_equal(opened, array)
    assert opened.dtype == array.dtype
    assert isinstance(opened, np.memmap)
    assert not opened.flags.writeable


def test_the_same_content_is_written_once(tmp_path, an_array):
    first = store_array(an_array, tmp_path)
    written = (tmp_path / f"{first.sha256}.npy").stat().st_mtime_ns
    assert store_array(np.asfortranarray(an_array), tmp_path) == first
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [written]


def test_shape_and_type_are_part_of_the_content(an_array):
    hashes = {
        content_hash(each) for each in (an_array, an_array.reshape(11, 7, 13), an_array.view(np.uint16))
    }
    assert len(hashes) == 3


def test_a_view_with_steps_is_stored_as_it_reads(tmp_path, an_array):
    view = an_array[::-1, ::2, 1:]
    np.testing.assert_array_equal(open_array(store_array(view, tmp_path), tmp_path), view)


def test_a_volume_keeps_its_affine_exactly(tmp_path, an_array):
    affine = np.array([[0.7, 0.1, 0, -180.3], [-0.1, 0.7, 0, 1 / 3], [0, 0, 1.25, 1e-7], [0, 0, 0, 1]])
    ref = store_volume(Volume(an_array, affine), tmp_path)
    opened = open_volume(ref, tmp_path)
    np.testing.assert_array_equal(opened.ijk_to_ras, affine)
    np.testing.assert_array_equal(opened.array, an_array)


@pytest.mark.parametrize("keep", [0, 60, 200])
def test_a_truncated_file_is_refused(tmp_path, an_array, keep):
    ref = store_array(an_array, tmp_path)
    path = tmp_path / f"{ref.sha256}.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidRequest, match="Send the volume again"):
        open_array(ref, tmp_path)


def test_a_file_that_is_gone_is_said(tmp_path, an_array):
    ref = store_array(an_array, tmp_path)
    (tmp_path / f"{ref.sha256}.npy").unlink()
    with pytest.raises(InvalidRequest, match="Send the volume again"):
        open_array(ref, tmp_path)


def test_a_file_of_another_shape_is_refused(tmp_path, an_array):
    ref = store_array(an_array, tmp_path)
    np.save(tmp_path / f"{ref.sha256}.npy", an_array[:3])
    with pytest.raises(InvalidRequest, match="another shape"):
        open_array(ref, tmp_path)


def test_a_file_of_objects_is_never_unpickled(tmp_path, an_array):
    ref = store_array(an_array, tmp_path)
    np.save(tmp_path / f"{ref.sha256}.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidRequest):
        open_array(ref, tmp_path)


@pytest.mark.parametrize("name", ["../secret", "a" * 63, "A" * 64, "/etc/passwd", "0" * 64 + "\n"])
def test_a_reference_that_is_no_hash_names_no_file(tmp_path, name):
    with pytest.raises(InvalidRequest, match="sha256"):
        open_array(ArrayRef(name, (1,), "<i2"), tmp_path)


def test_a_folder_that_is_gone_is_a_full_disk(tmp_path, an_array):
    with pytest.raises(DiskFull, match="Free space"):
        store_array(an_array, tmp_path / "gone")


def test_a_disk_that_is_really_full_takes_nothing_half(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(DiskFull, match="Free space"):
            store_array(np.arange(1 << 20), tmp_path)
        assert not list(tmp_path.iterdir())
        store_array(np.arange(1 << 10), tmp_path)  # what fits is still taken
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_broken_write_leaves_nothing_behind(tmp_path, an_array, monkeypatch):
    def breaks(file, array, **_):
        file.write(b"half")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(exchange.np.lib.format, "write_array_header_1_0", breaks)
    with pytest.raises(OSError, match="Input/output"):
        store_array(an_array, tmp_path)
    assert not list(Path(tmp_path).iterdir())
