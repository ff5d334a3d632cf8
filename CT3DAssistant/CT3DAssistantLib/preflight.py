"""The pre-flight card: what to know about a volume, the machine and the models before an analysis starts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from ct3d.cards import ModelCard, shipped_weights_folder, weights_folder
from ct3d.case import RESEARCH_USE
from ct3d.client.client import Client, Job
from ct3d.errors import AssistantError, InvalidRequest
from ct3d.imaging.check import check_ct
from ct3d.imaging.volume import Volume, nearest_axes
from ct3d.protocol.messages import HelloResult
from ct3d.protocol.tasks import EstimateParams, EstimateResult
from CT3DAssistantLib.environment import NEEDED
from CT3DAssistantLib.overview import duration
from CT3DAssistantLib.profiles import Profile

State = Literal["ok", "warning", "stop", "wait"]
STEPS = ("segment", "locate", "landmarks", "measure", "findings", "report")
THICK_MM = 5.0  # thicker slices miss small nodules
SHORT_MM = 200.0  # along the body; a chest is longer
ASK_MODELS = "Open Models to install it."


@dataclass(frozen=True)
class Line:
    """One line of the card.

    Attributes:
        state: "stop": the analysis can't run; "wait": not known yet.
        models: whether the Models section can mend it.
    """

    topic: str
    state: State
    text: str
    models: bool = False


class Preflight:
    """The card of one volume and profile; its lines fill in as the worker answers.

    Args:
        on_change: called when the lines have changed.
    """

    def __init__(self, on_change: Callable[[], None]):
        self._on_change = on_change
        self._round = 0
        self.clear()

    def clear(self) -> None:
        """No volume."""
        self._round += 1  # answers to earlier questions come to nothing
        self._volume: tuple[Line, ...] = ()
        self._profile: Profile | None = None
        self._worker: HelloResult | None = None
        self._need: EstimateResult | None = None
        self._error: AssistantError | None = None

    def look(self, client: Client, read: Callable[[], Volume], profile: Profile) -> None:
        """Judge the volume now, and ask the worker for the rest."""
        self.clear()
        self._profile = profile
        try:
            volume = read()
        except InvalidRequest as error:
            self._volume = (Line("Volume", "stop", str(error)),)
            return
        self._volume = volume_lines(volume)
        asked = questions(profile, volume)
        client.connect().add_done_callback(partial(self._greeted, self._round, client, asked))

    @property
    def lines(self) -> tuple[Line, ...]:
        """The card from top to bottom; empty without a volume."""
        if self._profile is None:
            return ()
        device = worker_line(self._error) if self._error else device_line(self._worker, self._profile)
        need = () if device.state == "stop" else need_lines(self._need)
        return (*self._volume, device, *need, *profile_lines(self._profile))

    @property
    def can_run(self) -> bool:
        """Whether nothing forbids the analysis."""
        return bool(self._volume) and not any(line.state == "stop" for line in self.lines)

    @property
    def banner(self) -> str:
        """What must not be overlooked: that the work is done without a GPU, and how long it takes."""
        if self._worker is None or self._need is None or self._profile is None:
            return ""
        device = self._worker.device
        if device.kind != "cpu" and self._profile.gpu:
            return ""
        return f"Runs on the processor, not on a GPU: about {duration(self._need.seconds)} for this volume."

    def _greeted(self, asked_in: int, client: Client, asked: tuple[EstimateParams, ...], job: Job) -> None:
        if asked_in != self._round:
            return
        self._error = job.error
        if job.error is None:
            self._worker = job.result()
            needs = [client.submit("estimate", each) for each in asked]
            needs[-1].add_done_callback(partial(self._estimated, asked_in, needs))
        self._on_change()

    def _estimated(self, asked_in: int, jobs: list[Job], _last: Job) -> None:
        if asked_in != self._round:
            return
        self._error = next((job.error for job in jobs if job.error), None)
        if self._error is None:
            self._need = whole_need(job.result() for job in jobs)
        self._on_change()


def volume_lines(volume: Volume) -> tuple[Line, ...]:
    """Field of view and values."""
    return _field_of_view(volume), _values(volume)


def _field_of_view(volume: Volume) -> Line:
    (k, j, i), spacing = volume.array.shape, volume.spacing_kji_mm
    extent = dict(zip(nearest_axes(volume.ijk_to_ras), np.multiply(spacing, (k, j, i))[::-1], strict=True))
    thick = spacing[2 - nearest_axes(volume.ijk_to_ras).index(2)]
    text = f"{extent[0]:.0f} x {extent[1]:.0f} x {extent[2]:.0f} mm (across, front to back, along the body); "
    text += f"{k} slices of {i} x {j}, {spacing[2]:.2f} x {spacing[1]:.2f} x {spacing[0]:.2f} mm."
    notes = []
    if extent[2] < SHORT_MM:
        notes.append("Shorter than a chest: what lies outside can't be judged.")
    if thick > THICK_MM:
        notes.append(f"Slices are {thick:.1f} mm thick: small nodules can be missed.")
    return Line("Field of view", "warning" if notes else "ok", " ".join((text, *notes)))


def _values(volume: Volume) -> Line:
    try:
        notes = check_ct(volume)
    except InvalidRequest as error:
        return Line("HU values", "stop", str(error))
    told = "They look like Hounsfield units of a CT."
    return Line("HU values", "warning", " ".join(notes)) if notes else Line("HU values", "ok", told)


def device_line(worker: HelloResult | None, profile: Profile) -> Line:
    """What the models run on; None: the worker hasn't said hello yet."""
    if worker is None:
        return Line("Device", "wait", "Asking the worker what it runs on.")
    missing = [name for name in (*NEEDED, *profile.needs) if name not in worker.versions]
    if missing:
        told = f"The worker's Python lacks {', '.join(missing)}. {ASK_MODELS}"
        return Line("Device", "stop", told, models=True)
    device = worker.device
    if device.kind == "cpu":
        return Line("Device", "warning", f"No GPU: processor {device.name}, {device.threads} threads.")
    told = f"{device.name}, {gigabytes(device.memory_mb)}, {device.dtype}."
    if not profile.gpu:
        told += f" The models of this profile run on the processor ({device.threads} threads)."
    return Line("Device", "ok" if profile.gpu else "warning", told)


def worker_line(error: AssistantError) -> Line:
    """In place of the device where no worker starts."""
    reason = str(error).splitlines()[0]
    return Line(
        "Device", "stop", f"{reason} Open Models to find or install the worker's Python.", models=True
    )


def questions(profile: Profile, volume: Volume) -> tuple[EstimateParams, ...]:
    """What to ask the worker's `estimate` for, to know what the whole analysis needs."""
    shape = tuple(int(n) for n in volume.array.shape)
    return tuple(EstimateParams(step, profile.card_of(step), shape) for step in filter(profile.does, STEPS))


def whole_need(needs: Iterable[EstimateResult]) -> EstimateResult:
    """The need of all steps together: their times added, the memory of the hungriest."""
    needs = tuple(needs)
    worst = max(needs, key=lambda need: (not need.fits, need.memory_mb))
    return replace(worst, seconds=sum(need.seconds for need in needs), fits=all(need.fits for need in needs))


def need_lines(need: EstimateResult | None) -> tuple[Line, ...]:
    """Memory and time; None: not known yet."""
    if need is None:
        return Line("Memory", "wait", "Estimating."), Line("Time", "wait", "Estimating.")
    told = f"About {gigabytes(need.memory_mb)} needed, {gigabytes(need.available_mb)} free."
    memory = Line("Memory", "ok" if need.fits else "stop", " ".join((told, *need.notes)))
    return memory, Line("Time", "ok", f"About {duration(need.seconds)}.")


def profile_lines(profile: Profile) -> tuple[Line, ...]:
    """The model profile with its licences, weights that are missing, and the notice."""
    cards = profile.cards.values()
    licences = ", ".join(dict.fromkeys(card.license for card in cards))
    missing = [card for card in cards if not has_weights(card)]
    text = f"{profile.title}. Licence: {licences}."
    if missing:
        text += f" Weights are missing: {', '.join(card.title for card in missing)}. Without them no report "
        text += "is written. Fetch or import them under Models, or choose the Floor profile there."
        if any(card.obtain for card in missing):
            text += " The card says how to get and convert what isn't fetched there."
    state: State = "warning" if missing else "ok"
    return Line("Models", state, text, models=bool(missing)), Line("Use", "ok", RESEARCH_USE)


def has_weights(card: ModelCard) -> bool:
    """Whether the card's weights file lies here, or it needs none; its content isn't read."""
    places = (shipped_weights_folder(), weights_folder())
    if card.weights is None:
        return not card.obtain
    return any((place / card.weights.file).is_file() for place in places)


def gigabytes(megabytes: float) -> str:
    """An amount of memory: "713 MB", "3.4 GB"."""
    return f"{megabytes:.0f} MB" if megabytes < 1024 else f"{megabytes / 1024:.1f} GB"
