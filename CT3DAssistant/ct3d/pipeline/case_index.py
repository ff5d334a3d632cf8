"""An index of cases on disk: for each CT the vector of its volume, that of its report, and where it lies.

    INDEX/index.json              the card, the checksum of its weights, the recipe that prepares a scan
    INDEX/cases/<key>.safetensors one case: "volume" and, with a report, "text" (dim,) float32; its metadata
                                  holds "source" and "text"

A case's key is the hash of its voxels and grid. Each file is written whole or not at all, so indexing may be
killed at any time and goes on where it was.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ct3d.cards import ModelCard
from ct3d.errors import DiskFull, InvalidRequest
from ct3d.protocol.tasks import VolumeRef

FORMAT = 1
HEAD, CASES = "index.json", "cases"


@dataclass(frozen=True, eq=False)
class Entry:
    """One case of an index.

    Attributes:
        source: where its CT lies.
        text: its report; "" for none.
        volume: (dim,) float32 of length 1.
        text_vector: the same of the report; None without one.
    """

    source: str
    text: str
    volume: np.ndarray
    text_vector: np.ndarray | None = None


def key_of(volume: VolumeRef) -> str:
    """What a case is known by."""
    return hashlib.sha256(f"{volume.array.sha256}{volume.ijk_to_ras}".encode()).hexdigest()


def refuse_others(folder: Path, card: ModelCard) -> None:
    """Check that an index, if there is one, was made with this card and these weights.

    Raises:
        InvalidRequest: it was made with others, or is none.
    """
    if not (folder / HEAD).is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InvalidRequest(f"{folder} holds other files and no index. Choose an empty or a new folder.")
        return
    made, wanted = _head(folder), _head_of(card)
    if off := [name for name in wanted if made.get(name) != wanted[name]]:
        told = ", ".join(f"{name} {made.get(name)!r} and not {wanted[name]!r}" for name in off)
        raise InvalidRequest(
            f"The index {folder} was made with {told}: its vectors don't compare. "
            f"Use --card {made.get('card')} with those weights, or make a new index."
        )


def start_index(folder: Path, card: ModelCard) -> None:
    """Make an empty index where there is none; see `refuse_others`, which comes first."""
    if not (folder / HEAD).is_file():
        _write(folder / CASES, None, b"")
        _write(folder, HEAD, json.dumps(_head_of(card), indent=1).encode())


def entry_of(folder: Path, key: str) -> Entry | None:
    """The case with this key; None where there is none."""
    path = folder / CASES / f"{key}.safetensors"
    return _read(path) if path.is_file() else None


def keep(folder: Path, key: str, entry: Entry) -> None:
    """Write a case, in place of what there is of it.

    Raises:
        DiskFull: the folder can't take it.
    """
    vectors = {"volume": np.ascontiguousarray(entry.volume, np.float32)}
    if entry.text_vector is not None:
        vectors["text"] = np.ascontiguousarray(entry.text_vector, np.float32)
    texts = {"source": entry.source, "text": entry.text}
    _write(folder / CASES, f"{key}.safetensors", save(vectors, metadata=texts))


def entries(folder: Path) -> list[Entry]:
    """All cases of an index.

    Raises:
        InvalidRequest: there is no index, it holds nothing, or one of its files is damaged.
    """
    if not (folder / HEAD).is_file():
        raise InvalidRequest(f"There is no index at {folder}. Make one with `ct3d-assistant index`.")
    found = [_read(path) for path in sorted((folder / CASES).glob("*.safetensors"))]
    if not found:
        raise InvalidRequest(f"The index {folder} is empty. Fill it with `ct3d-assistant index`.")
    return found


def _head_of(card: ModelCard) -> dict[str, Any]:
    weights = card.weights.sha256 if card.weights else ""
    recipe = card.input.recipe if card.input else "clean"
    return {"format": FORMAT, "card": card.id, "weights_sha256": weights, "recipe": recipe}


def _head(folder):
    try:
        head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidRequest(f"{folder / HEAD} is damaged ({error}). Make a new index.") from error
    return head if isinstance(head, dict) else {}


def _read(path):
    try:
        with safe_open(path, "np") as file:
            texts, names = file.metadata() or {}, file.keys()
            text_vector = file.get_tensor("text") if "text" in names else None
            return Entry(texts["source"], texts["text"], file.get_tensor("volume"), text_vector)
    except (SafetensorError, KeyError) as error:
        raise InvalidRequest(f"{path} is damaged ({error}). Delete it and index its CT again.") from error


def _write(folder: Path, name: str | None, content: bytes) -> None:
    """Make a folder, and in it a file, whole or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if name is not None:
            part = folder / f"{name}.part"
            part.write_bytes(content)
            part.replace(folder / name)
    except OSError as error:
        raise DiskFull(f"{folder} can't take the index ({error.strerror}). Free space there.") from error
