"""Folders, and writing a file whole or not at all, with the one error a person can act on."""

from collections.abc import Callable
from pathlib import Path

from ct3d.errors import DiskFull, InvalidRequest


def make_folder(folder: Path) -> Path:
    """A folder that can be written into, made with its parents.

    Raises:
        DiskFull: if it can't be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskFull(
            f"The folder {folder} can't be made ({error.strerror}). Choose another one."
        ) from error
    return Path(folder)


def write_file(path: Path, content: bytes | str) -> Path:
    """Write a file in place of an earlier one; text as UTF-8.

    Raises:
        DiskFull: if the folder can't take it; an earlier file stays.
    """
    data = content.encode() if isinstance(content, str) else content
    return write_with(path, lambda part: part.write_bytes(data))


def write_with(path: Path, write: Callable[[Path], object]) -> Path:
    """Have `write` make a file beside the path, then put it there. The name `write` gets ends like the
    path's.

    Raises:
        DiskFull: if nothing was written; an earlier file stays.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        if part.is_file():
            part.unlink()
        reason = error.strerror or error
        raise DiskFull(
            f"{path} can't be written ({reason}). Choose another folder or free space there."
        ) from error
    return path


def chosen_path(text: str, ending: str) -> Path:
    """A file that a person has named, with its ending where they left it out.

    Raises:
        InvalidRequest: if they named none, or a folder.
    """
    path = Path(text.strip()).expanduser()
    if not text.strip() or path.is_dir():
        raise InvalidRequest(
            f"Choose a file to write first, for example measurements{ending} in your folder."
        )
    return path if path.suffix else path.with_suffix(ending)
