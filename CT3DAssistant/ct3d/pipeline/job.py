"""What a task may ask of the one who runs it: cards, models, arrays, progress, streamed text, cancel."""

import os
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ct3d.cards import ModelCard, find_weights, load_card
from ct3d.case import Step
from ct3d.errors import TaskCancelled
from ct3d.imaging.exchange import open_array, open_volume, store_array
from ct3d.imaging.volume import Volume
from ct3d.protocol.messages import streamed
from ct3d.protocol.tasks import ArrayRef, VolumeRef

T = TypeVar("T")


class Job(Protocol):
    """One asking of one task."""

    def card(self, card_id: str) -> ModelCard:
        """The model card with this id."""

    def model(self, card: ModelCard) -> Any:
        """The card's model, built once and kept while memory allows."""

    def volume(self, ref: VolumeRef) -> Volume:
        """The volume of a reference, memory-mapped."""

    def array(self, ref: ArrayRef) -> np.ndarray:
        """The array of a reference, memory-mapped."""

    def store(self, array: np.ndarray) -> ArrayRef:
        """Put an array beside the wire for the host to open."""

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """A value that is costly to make, kept while memory allows; the key says all it depends on."""

    def stage(self, name: str, fraction: float) -> None:
        """A stage begins at this share of the whole (0 to 1); raises TaskCancelled if stopped."""

    def emit(self, piece: str) -> None:
        """Stream a piece of text, see `streamed`; raises TaskCancelled if the person stopped."""

    def check(self) -> None:
        """Raise TaskCancelled if the person stopped. Call at least twice a second."""

    def step(self, task: str, card: ModelCard | None, **more: Any) -> Step:
        """The provenance record of this job, with its timings; `more` are further fields of Step."""


class BaseJob:
    """Job over a local exchange folder; subclasses say where progress and text go, and what cancels."""

    device = "cpu"
    dtype = "float32"

    def __init__(self, exchange_dir: Path, weights_dirs: tuple[Path, ...] = ()):
        self.exchange_dir = Path(exchange_dir)
        self.weights_dirs = weights_dirs
        self.started = time.perf_counter()
        self.stages: list[tuple[str, float]] = []

    def card(self, card_id: str) -> ModelCard:
        return load_card(card_id)

    def model(self, card: ModelCard) -> Any:
        return build_model(card, self.weights_dirs)

    def volume(self, ref: VolumeRef) -> Volume:
        return open_volume(ref, self.exchange_dir)

    def array(self, ref: ArrayRef) -> np.ndarray:
        return open_array(ref, self.exchange_dir)

    def store(self, array: np.ndarray) -> ArrayRef:
        return store_array(array, self.exchange_dir)

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:  # noqa: ARG002, for subclasses that keep
        return make()

    def stage(self, name: str, fraction: float) -> None:
        self.check()
        self.stages.append((name, time.perf_counter()))
        self.on_progress(name, fraction)

    def emit(self, piece: str) -> None:
        self.check()
        self.on_text(piece)

    def check(self) -> None:
        if self.is_cancelled():
            raise TaskCancelled("Stopped. Nothing was changed; start again when you like.")

    def step(self, task: str, card: ModelCard | None, **more: Any) -> Step:
        now = time.perf_counter()
        starts = [start for _, start in self.stages] + [now]
        stages: dict[str, float] = {}
        for (name, start), end in zip(self.stages, starts[1:], strict=True):
            stages[name] = round(stages.get(name, 0.0) + end - start, 3)
        return Step(
            task=task,
            card=card.id if card else "",
            card_sha256=card.sha256 if card else "",
            weights_sha256=card.weights.sha256 if card and card.weights else "",
            device=more.pop("device", self.device),
            dtype=more.pop("dtype", self.dtype),
            seconds=round(now - self.started, 3),
            stages=stages,
            versions=library_versions(),
            finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        )

    def on_progress(self, name: str, fraction: float) -> None:
        """Where progress goes."""

    def on_text(self, piece: str) -> None:
        """Where streamed text goes."""

    def is_cancelled(self) -> bool:
        """Whether the person has stopped this job."""
        return False


class LocalJob(BaseJob):
    """A job in this process, for tests and experiments; remembers the stages and the text."""

    def __init__(self, exchange_dir: Path, weights_dirs: tuple[Path, ...] = ()):
        super().__init__(exchange_dir, weights_dirs)
        self.text = ""
        self.cancelled = False

    def on_text(self, piece: str) -> None:
        self.text = streamed(self.text, piece)

    def is_cancelled(self) -> bool:
        return self.cancelled


def build_model(card: ModelCard, weights_dirs: tuple[Path, ...] = ()) -> Any:
    """Import the card's entry and build it: `entry(card, weights_path)`."""
    module, _, name = card.entry.partition(":")
    return getattr(import_module(module), name)(card, find_weights(card, weights_dirs))


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape a result, of those installed here."""
    names = ("numpy", "scipy", "SimpleITK", "torch", "monai", "transformers", "onnxruntime", "xllamacpp")
    versions = {name: _version(name) for name in names}
    return {name: version for name, version in versions.items() if version}


def _version(name: str) -> str:
    found = [each for each in metadata.distributions(name=name)]
    return found[0].version if found else ""


def threads() -> int:
    """Processor threads this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
