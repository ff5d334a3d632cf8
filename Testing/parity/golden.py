"""Vectors of the reference codes: which cases a folder holds, and of which kind each is.

A case is an array file (npz, or safetensors called io or …_io) with what belongs to it: settings (json) and
weights (safetensors), found by their names beside it; a settings file that belongs to no array file is a case
of its own. Nothing is listed by name here: a folder with other cases, seeds and sizes is read the same way.
What a case is, is told by its content: the one kind (`@kind(...)`) that fits it; a case that fits none is a
failure.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[2]
COMMITTED = REPOSITORY / "Testing" / "golden"
FAMILIES = ("h3denet", "hsenet")  # folders of vectors whose networks are here already
PROSE = {".md", ".txt", ".py"}  # beside the vectors, not of them
WHOLE = ""  # the only part of a case without sub-cases


@dataclass(frozen=True)
class Case:
    """One case; files that it doesn't have are None."""

    id: str
    settings_file: Path | None
    arrays_file: Path | None = None
    weights_file: Path | None = None
    other_files: tuple[Path, ...] = ()  # beside an io.safetensors: more weights, a tokenizer
    _opened: set[Path] = field(default_factory=set, compare=False)
    stray_file: Path | None = None  # a file that belongs to no case: always a failure

    @cached_property
    def settings(self) -> Mapping:
        """What the json says, {} without one."""
        return json.loads(self.settings_file.read_text(encoding="utf-8")) if self.settings_file else {}

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """What the array file holds, {} without one."""
        if self.arrays_file is None:
            return {}
        if self.arrays_file.suffix == ".safetensors":
            return load_arrays(self.arrays_file)
        with np.load(self.arrays_file, allow_pickle=False) as arrays:
            return dict(arrays)

    @cached_property
    def weights(self) -> Mapping:
        """Name → tensor of the safetensors, {} without one."""
        return load_file(self.weights_file) if self.weights_file else {}

    @property
    def cls(self) -> str | None:
        """The reference's class that made the case, where the settings name it."""
        return self.settings.get("cls") if isinstance(self.settings, dict) else None

    def file(self, name: str) -> Path:
        """Another file of the case; a check asks for each of them, see `unread`."""
        (path,) = (each for each in self.other_files if each.name == name)
        self._opened.add(path)
        return path

    def other_weights(self, name: str) -> Mapping:
        """Name → tensor of another safetensors file of the case."""
        return load_file(self.file(name))

    @property
    def unread(self) -> list[str]:
        """Other files that no check has asked for."""
        return [each.name for each in self.other_files if each not in self._opened]

    def holds(self, *names: str) -> bool:
        """Whether arrays of all these names are there."""
        return set(names) <= self.arrays.keys()


class Comparison:
    """Asserts that results are those of the reference, and remembers how far each was off."""

    def __init__(self):
        self.deviations: list[str] = []

    def __call__(self, what: str, got, want, *, atol: float | None = None, rtol: float | None = None) -> None:
        """Greatest absolute difference at most atol; or, divided by want's greatest magnitude, at most rtol.

        got, want: numbers, numpy arrays or tensors of equal shape; NaN equals nothing.
        """
        got, want = as_array(got), as_array(want)
        assert got.shape == want.shape, f"{what} has the shape {got.shape}, the reference's {want.shape}"
        assert (atol is None) != (rtol is None), f"{what} needs either atol or rtol"
        off = float(np.abs(got - want).max(initial=0.0))
        if rtol is not None:
            off /= max(float(np.abs(want).max(initial=0.0)), np.finfo(np.float32).tiny)
        bound, unit = (atol, "") if rtol is None else (rtol, " relative")
        self.deviations.append(f"{what} {off:.1e}")
        assert off <= bound, f"{what} is off by {off:.3g}{unit}, allowed is {bound:.0e}"

    def same(self, what: str, got, want) -> None:
        """Equal, value by value, in shape and numbers."""
        self(what, got, want, atol=0.0)


Check = Callable[[Case, str, Comparison], None]


@dataclass(frozen=True)
class Kind:
    """What a case can be: `fits` tells by its content, `parts` names its sub-cases, `check` compares one."""

    name: str
    fits: Callable[[Case], bool]
    parts: Callable[[Case], Iterable[str]]
    check: Check


_kinds: dict[str, Kind] = {}
KINDS: Mapping[str, Kind] = MappingProxyType(_kinds)


def kind(
    name: str,
    *,
    fits: Callable[[Case], bool],
    parts: Callable[[Case], Iterable[str]] = lambda _case: (WHOLE,),
) -> Callable[[Check], Check]:
    """Decorator of a check(case, part, compare): registers it as what such cases are compared by."""

    def register(check: Check) -> Check:
        assert name not in _kinds, f"two kinds are called {name!r}"
        _kinds[name] = Kind(name, fits, parts, check)
        return check

    return register


def made_by(*classes: str) -> Callable[[Case], bool]:
    """For `fits`: cases of these reference classes."""
    return lambda case: case.cls in classes


def kind_of(case: Case) -> Kind | None:
    """The one kind that fits a case; None where none does. Two are an error of the kinds."""
    fitting = [each for each in KINDS.values() if case.stray_file is None and each.fits(case)]
    assert len(fitting) < 2, f"{case.id} fits {' and '.join(each.name for each in fitting)}"
    return fitting[0] if fitting else None


def golden_folder() -> Path:
    """Where the vectors lie: CT3D_GOLDEN, else ../shared/golden beside the repository."""
    return Path(os.environ.get("CT3D_GOLDEN") or REPOSITORY.parent / "shared" / "golden")


def cases_in(root: Path, label: str) -> list[Case]:
    """All cases of the known families under a folder, by name; none where it isn't there."""
    folders = sorted(
        {path.parent for family in FAMILIES for path in (root / family).rglob("*") if path.is_file()}
    )
    return [
        case
        for folder in folders
        for case in cases_of(folder, f"{label}:{folder.relative_to(root).as_posix()}")
    ]


def cases_of(folder: Path, prefix: str) -> list[Case]:
    """The cases whose files lie in that folder itself."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix not in PROSE]
    tensors = [path for path in files if path.suffix == ".safetensors" and is_io(path)]
    if tensors:
        return [tensor_case(path, files, prefix) for path in tensors]
    arrays = [path for path in files if path.suffix == ".npz"]
    cases = [
        Case(
            id=prefix if path.stem == "io" else f"{prefix}/{path.stem}",
            settings_file=companion(path, files, ".json"),
            arrays_file=path,
            weights_file=companion(path, files, ".safetensors"),
        )
        for path in arrays
    ]
    used = {path for case in cases for path in (case.settings_file, case.arrays_file, case.weights_file)}
    return cases + [lone_case(path, prefix) for path in files if path not in used]


def is_io(path: Path) -> bool:
    """Whether a safetensors file holds inputs and outputs, by its name."""
    return path.stem == "io" or path.stem.endswith("_io")


def tensor_case(path: Path, files: list[Path], prefix: str) -> Case:
    """A case whose arrays lie in a safetensors file; what else the folder holds belongs to it."""
    named = {each.name: each for each in files}
    settings, weights = named.get("config.json"), named.get("weights.safetensors")
    used = {settings, weights, *(each for each in files if each.suffix == ".safetensors" and is_io(each))}
    return Case(
        id=prefix if path.stem == "io" else f"{prefix}/{path.stem}",
        settings_file=settings,
        arrays_file=path,
        weights_file=weights,
        other_files=tuple(each for each in files if each not in used),
    )


def companion(arrays: Path, files: list[Path], suffix: str) -> Path | None:
    """The file of that suffix of an array file: of the same name, else the one that the folder shares."""
    own = arrays.with_suffix(suffix)
    if own in files:
        return own
    shared = [path for path in files if path.suffix == suffix and path.with_suffix(".npz") not in files]
    if len(shared) == 1:
        return shared[0]
    named = [path for path in shared if path.stem in arrays.stem]
    return max(named, key=lambda path: len(path.stem), default=None)


def lone_case(path: Path, prefix: str) -> Case:
    """A file without arrays: settings are a case, anything else is astray."""
    is_settings = path.suffix == ".json"
    return Case(
        id=f"{prefix}/{path.stem if is_settings else path.name}",
        settings_file=path if is_settings else None,
        stray_file=None if is_settings else path,
    )


def as_array(value) -> np.ndarray:
    """A number, array or tensor as doubles; whole numbers stay exact far beyond any index here."""
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(value, np.float64)
