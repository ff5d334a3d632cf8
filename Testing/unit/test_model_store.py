"""What the worker keeps between jobs, within its budget."""

from dataclasses import dataclass

import numpy as np
import pytest
import SimpleITK as sitk

from ct3d.worker.model_store import ModelStore, size_of

MB = 1 << 20


@dataclass(frozen=True)
class Held:
    a: np.ndarray
    b: tuple


def a_megabyte():
    return np.zeros(MB, np.uint8)


def test_a_value_is_made_once():
    store, made = ModelStore(MB), []
    for _ in range(3):
        store.remember("key", lambda: made.append(1))
    assert made == [1]


def test_the_longest_unused_goes_first():
    store = ModelStore(2 * MB)
    first = store.remember("first", a_megabyte)
    store.remember("second", a_megabyte)
    store.remember("first", a_megabyte)
    store.remember("third", a_megabyte)
    assert store.held_bytes == 2 * MB
    assert store.remember("first", a_megabyte) is first


def test_a_value_beyond_the_budget_is_kept_beside_small_ones_until_another_as_large_comes():
    store = ModelStore(MB // 2)
    small = store.remember("small", bytes)
    large = store.remember("large", a_megabyte)
    assert store.remember("small", bytes) is small
    assert store.remember("large", a_megabyte) is large
    store.remember("other", a_megabyte)
    assert store.remember("large", a_megabyte) is not large
    assert store.remember("small", bytes) is small


def test_what_goes_is_closed():
    class Closing:
        memory_bytes = MB
        closed = False

        def close(self):
            self.closed = True

    store = ModelStore(MB)
    first = store.remember("first", Closing)
    second = store.remember("second", Closing)
    assert (first.closed, second.closed) == (True, False)
    store.clear()
    assert second.closed
    assert store.held_bytes == 0


def test_a_value_that_cannot_be_made_leaves_nothing():
    store = ModelStore(MB)
    with pytest.raises(ZeroDivisionError):
        store.remember("key", lambda: 1 / 0)
    assert store.remember("key", lambda: 5) == 5


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (np.zeros(10, np.int16), 20),
        ({"a": np.zeros(10, np.uint8), "b": [np.zeros(5, np.uint8)]}, 15),
        (Held(np.zeros(4, np.uint8), (np.zeros(3, np.uint8),)), 7),
        (sitk.Image([4, 5, 6], sitk.sitkInt16), 240),
    ],
)
def test_sizes_are_of_the_numbers_inside(value, size):
    assert size_of(value) == size
