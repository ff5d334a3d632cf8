"""Hidden voxels by lines between visible ones: exact where truth is linear, deaf to what is hidden."""

import numpy as np

from ct3d.imaging.volume import Volume
from ct3d.training.evaluate_threedme import mirrored
from ct3d.training.inpainting import linear

RNG = np.random.default_rng(0)


def test_a_ramp_between_visible_slices_is_filled_exactly():
    ramp = np.arange(9.0)[:, None, None] * np.ones((9, 6, 6))
    hidden = np.zeros(ramp.shape, bool)
    hidden[2:7] = True
    np.testing.assert_allclose(linear(ramp, hidden), ramp, atol=1e-9)


def test_hidden_voxels_are_not_looked_at_and_visible_ones_stay():
    image = RNG.normal(size=(8, 10, 12))
    hidden = RNG.random(image.shape) < 0.6
    other = np.where(hidden, 1e6, image)
    np.testing.assert_array_equal(linear(image, hidden), linear(other, hidden))
    np.testing.assert_array_equal(linear(image, hidden)[~hidden], image[~hidden])


def test_beyond_the_last_visible_voxel_its_value_goes_on():
    image = np.zeros((6, 4, 4))
    image[1] = 5.0
    hidden = np.ones(image.shape, bool)
    hidden[1] = False
    np.testing.assert_allclose(linear(image, hidden), 5.0)


def test_a_voxel_without_a_visible_one_along_any_axis_takes_the_nearest():
    image = np.zeros((5, 5, 5))
    image[0, 0, 0] = 7.0
    hidden = np.ones(image.shape, bool)
    hidden[0, 0, 0] = False
    np.testing.assert_allclose(linear(image, hidden), 7.0)


def test_mirroring_on_disk_turns_the_body_and_leaves_the_header():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    to_ras = np.array([[0, 0, 2.0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # I: P, J: S, K: R
    volume = Volume(array, to_ras)
    for axis, along in {"right": 0, "front": 2, "up": 1}.items():
        turned = mirrored(volume, axis)
        np.testing.assert_array_equal(turned.array, np.flip(array, along))
        np.testing.assert_array_equal(turned.ijk_to_ras, to_ras)
