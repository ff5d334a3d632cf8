"""What is costly to make and worth keeping between jobs, models first; the longest unused goes first."""

import dataclasses
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from ct3d.cards import ModelCard

T = TypeVar("T")


class ModelStore:
    """Values by key, up to a budget of bytes.

    One value larger than the whole budget is kept beside them, until another as large comes: it is in use,
    and making it anew for each job costs more.
    """

    def __init__(self, budget_bytes: int):
        self.budget_bytes = budget_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Estimated size of all that is kept."""
        return sum(size for _, size in self._kept.values())

    def model(self, card: ModelCard, build: Callable[[], Any]) -> Any:
        """The card's model; built anew when the card's text (its weights' checksum included) has changed."""
        return self.remember(("model", card.id, card.sha256), build)

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if it isn't kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value = make()
        self._kept[key] = (value, size_of(value))
        self._make_room()
        return value

    def clear(self) -> None:
        """Drop everything, as after a want of memory."""
        while self._kept:
            self._drop(next(iter(self._kept)))

    def _make_room(self) -> None:
        small = [each for each, (_, size) in self._kept.items() if size <= self.budget_bytes]
        large = [each for each in self._kept if each not in small]
        for each in large[:-1]:
            self._drop(each)
        while sum(self._kept[each][1] for each in small) > self.budget_bytes:
            self._drop(small.pop(0))

    def _drop(self, key: Hashable) -> None:
        value, _ = self._kept.pop(key)
        if hasattr(value, "close"):
            value.close()


def size_of(value: Any) -> int:
    """Bytes of a value: its `memory_bytes` if it has one, else of the arrays, images and modules in it."""
    if hasattr(value, "memory_bytes"):
        return int(value.memory_bytes)
    if hasattr(value, "nbytes"):  # numpy, torch
        return int(value.nbytes)
    if hasattr(value, "GetSizeOfPixelComponent"):  # SimpleITK
        components = value.GetNumberOfPixels() * value.GetNumberOfComponentsPerPixel()
        return components * value.GetSizeOfPixelComponent()
    if callable(getattr(value, "parameters", None)):  # torch.nn.Module
        return sum(each.nbytes for each in value.parameters())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(size_of, value))
    return sys.getsizeof(value)
