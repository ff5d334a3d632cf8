"""Case: everything that was found in one CT volume, as one versioned JSON object.

Every result of every task lands here; report, chat, panels and exports read only from here. A Case never
holds voxels: a Region names the layer and label of its mask, and the masks travel beside it (exchange folder,
.seg.nrrd, scene).

Evidence is a string "kind/id" that names an entry of the same case: "region/left_lung",
"attribute/left_lung.volume", "landmark/carina", "finding/emphysema". Positions are RAS millimetres.
"""

import json
from dataclasses import dataclass, field
from typing import Literal

from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode, encode

FORMAT = 1

REPORT_REGIONS = {  # id → title, in the order of the report
    "lungs": "Lungs",
    "large_airways": "Large airways",
    "mediastinum": "Mediastinum",
    "heart_great_vessels": "Heart and great vessels",
    "upper_abdomen": "Upper abdomen",
    "bones": "Bones",
}
SECTIONS = REPORT_REGIONS | {"impression": "Impression"}  # of the report
RESEARCH_USE = "Research use only. Not for clinical use."
MODEL_WROTE = ("model wrote ", "model_second_draw wrote ")  # how a reason about a model's own words begins

Point = tuple[float, float, float]
Side = Literal["left", "right", "both", "midline", "none"]


@dataclass(frozen=True)
class Geometry:
    """Grid of a volume."""

    shape_kji: tuple[int, int, int]
    spacing_kji_mm: tuple[float, float, float]
    ijk_to_ras: tuple[tuple[float, float, float, float], ...]  # 4x4, millimetres


@dataclass(frozen=True)
class Input:
    """The volume that was read: its content hash and grid. Never a name or number of a patient."""

    sha256: str
    geometry: Geometry
    title: str = "CT"
    notes: tuple[str, ...] = ()  # what reading the files had to mend


@dataclass(frozen=True)
class InputReport:
    """What one model saw of the volume."""

    card: str
    orientation_from: str  # axis letters of I, J, K, e.g. "LPS"
    orientation_to: str
    shape_from_kji: tuple[int, int, int]
    shape_to_kji: tuple[int, int, int]
    spacing_from_kji_mm: tuple[float, float, float]
    spacing_to_kji_mm: tuple[float, float, float]
    crop_from_kji: tuple[tuple[int, int], ...]  # (first, past last) per axis of the input that was kept
    value_range: tuple[float, float] | None  # HU; None: not clipped
    clipped_share: float  # share of voxels outside value_range
    coverage: dict[str, float] = field(default_factory=dict)  # what of the body the scan shows, 0 to 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Region:
    """One mask: an organ, a report region or a lesion candidate."""

    id: str
    title: str  # as a report says it: "left lung"
    kind: Literal["organ", "report_region", "lesion"]
    layer: str  # name of the mask layer
    label: int  # value in that layer
    presence: Literal["whole", "cut", "absent"]  # cut: the field of view ends inside it
    confidence: float  # 0 to 1
    side: Side = "none"
    report_region: str = ""  # key of REPORT_REGIONS
    note: str = ""


@dataclass(frozen=True)
class Attribute:
    """One measurement of one mask, on the native grid."""

    id: str  # "<region>.<name>"
    region: str
    name: str  # "volume", "mean_hu", "long_diameter", "emphysema_index", "zone", …
    title: str  # as a report says it: "volume"
    value: float | None  # None: the value is said in words
    unit: str  # "mL", "mm", "HU", "%", ""
    words: str = ""  # categorical value: "left lower zone"


@dataclass(frozen=True)
class Landmark:
    """A named point. A missing one keeps its entry, without a position."""

    id: str
    title: str
    definition: str
    presence: Literal["present", "missing", "outside"]  # outside: beyond the field of view
    confidence: float
    position_ras: Point | None = None
    radius_mm: float | None = None  # radius that holds the true place in 90 %; None: not calibrated
    region: str = ""
    note: str = ""
    card: str = ""  # id of the card that placed it; "": that of the case's last step "landmarks"


@dataclass(frozen=True)
class Finding:
    """A statement about the scan that holds, may hold, doesn't hold, or was not assessed."""

    id: str
    title: str
    state: Literal["present", "possible", "absent", "not_assessed"]
    probability: float | None  # None: this source gives no probability
    evidence: tuple[str, ...]
    report_region: str
    why: str  # the rule and the numbers, in words
    source: str  # card id


@dataclass(frozen=True)
class Sentence:
    """One sentence of the draft report, tied to what supports it."""

    id: str
    section: str  # key of REPORT_REGIONS or "impression"
    text: str
    evidence: tuple[str, ...]
    support: Literal["supported", "unsupported", "contradicted"]
    origin: Literal["measured", "model", "model_second_draw", "person"]
    floor: str  # the deterministic sentence of the same facts
    reasons: tuple[str, ...] = ()  # why the model's own words, or the text as it stands, were turned down
    draft: str = ""  # the program's own text, once a person has changed it; "" for a person's new sentence
    removed: bool = False  # a person struck it out; it stays here and leaves the report
    kept: bool = False  # a person lets it stand although the guard turns it down

    @property
    def is_touched(self) -> bool:
        """Whether a person wrote, changed or removed it."""
        return bool(self.draft) or self.removed or self.origin == "person"

    @property
    def turned_down(self) -> tuple[str, ...]:
        """Those reasons that are about the model's own words; the others are about the text as it stands."""
        return tuple(each for each in self.reasons if each.startswith(MODEL_WROTE))


@dataclass(frozen=True)
class Scope:
    """What of the scan a question is about."""

    kind: Literal["scan", "region", "slices", "box"] = "scan"
    region: str = ""
    range_ras_mm: tuple[float, ...] = ()  # slices: (S low, S high); box: (R0, R1, A0, A1, S0, S1)
    note: str = ""  # what to know of it: "around a turned ROI"


@dataclass(frozen=True)
class Answer:
    """Question and answer, with what supports it; unsupported means: can't be told."""

    id: str
    question: str
    text: str
    evidence: tuple[str, ...]
    support: Literal["supported", "unsupported"]
    origin: Literal["measured", "model", "model_second_draw", "none"]
    scope: Scope = Scope()
    reasons: tuple[str, ...] = ()  # why it can't be told, or why the model's own words were turned down
    sentences: tuple[Sentence, ...] = ()  # of a model that read the scan, each judged by itself


@dataclass(frozen=True)
class Flag:
    """Something a person should look at: quality, plausibility, consistency."""

    id: str
    severity: Literal["info", "warning", "error"]
    text: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class AxisCheck:
    """Whether the body runs along an axis of the scan as its header says."""

    axis: Literal["right", "front", "up"]
    verdict: Literal["agrees", "mirrored", "untold"]
    margin: float  # how much better the scan fits as stored than mirrored; see `pipeline.whole_scan.margins`


@dataclass(frozen=True)
class ExpectedPlace:
    """Where a named place of the body should lie."""

    id: str
    title: str
    position_ras: Point
    radius_mm: float  # holds the true place in 90 % of the patients it was measured on
    level: str = ""  # of the spine: "C5"; "": it marks none


@dataclass(frozen=True)
class ScanCheck:
    """Where in the body a scan lies by the shared encoder: a check of the header, never a finding."""

    card: str
    axes: tuple[AxisCheck, ...]
    parts: tuple[str, ...]  # of the body, from the top: "neck", "chest"
    places: tuple[ExpectedPlace, ...] = ()  # those that lie in the scan

    @property
    def mirrored(self) -> tuple[str, ...]:
        """Axes along which the body runs against the header."""
        return tuple(each.axis for each in self.axes if each.verdict == "mirrored")

    @property
    def levels(self) -> tuple[str, ...]:
        """Highest and lowest level of the spine that places in the scan mark; none: fewer than two are."""
        marked = sorted((each for each in self.places if each.level), key=lambda each: -each.position_ras[2])
        levels = tuple(dict.fromkeys(each.level for each in marked))
        return (levels[0], levels[-1]) if len(levels) > 1 else ()


@dataclass(frozen=True)
class Step:
    """Provenance of one task's result."""

    task: str
    card: str
    card_sha256: str
    weights_sha256: str
    device: str
    dtype: str
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)  # seconds by stage
    seed: int | None = None
    prompts: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    finished_utc: str = ""
    counts: dict[str, int] = field(default_factory=dict)  # e.g. how many sentences of the model survived


@dataclass(frozen=True)
class PointReview:
    """What a person decided about one landmark; the landmark itself stays as the program found it.

    A second reader places points without seeing the first ones; both stay here.
    """

    landmark: str
    verdict: Literal["open", "accepted", "rejected", "moved", "undefined"] = "open"
    position_ras: Point | None = None  # where a person moved it
    decided_utc: str = ""
    second: Literal["", "placed", "undefined"] = ""
    second_ras: Point | None = None
    second_utc: str = ""


@dataclass(frozen=True)
class Action:
    """One thing a person did, for the record."""

    at_utc: str  # ISO 8601 with seconds and "Z"
    verb: (
        str  # "edit", "remove", "restore", "add", "review", "sign", "accept", "reject", "move", "undefine", …
    )
    target: str  # "sentence/<id>", "landmark/<id>", "report"
    detail: str = ""  # what it was before, where that matters


@dataclass(frozen=True)
class Signature:
    """Who signed the report, when, and the hash of what was signed."""

    name: str
    signed_utc: str
    sha256: str


@dataclass(frozen=True)
class Case:
    """All that was found in one CT volume, and what a person made of it."""

    input: Input
    regions: tuple[Region, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    landmarks: tuple[Landmark, ...] = ()
    findings: tuple[Finding, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    answers: tuple[Answer, ...] = ()
    flags: tuple[Flag, ...] = ()
    saw: tuple[InputReport, ...] = ()
    provenance: tuple[Step, ...] = ()
    report_state: Literal["draft", "edited", "reviewed", "signed"] = "draft"
    signature: Signature | None = None
    reviews: tuple[PointReview, ...] = ()
    actions: tuple[Action, ...] = ()  # of persons, in time order
    qc: ScanCheck | None = None  # None: no encoder looked
    notice: str = RESEARCH_USE
    format: int = FORMAT

    def entry(self, evidence: str) -> Region | Attribute | Landmark | Finding | None:
        """The entry that an evidence string names, or None."""
        kind, _, name = evidence.partition("/")
        entries: dict[str, tuple[Region | Attribute | Landmark | Finding, ...]] = {
            "region": self.regions,
            "attribute": self.attributes,
            "landmark": self.landmarks,
            "finding": self.findings,
        }
        return next((entry for entry in entries.get(kind, ()) if entry.id == name), None)

    def attributes_of(self, region: str) -> dict[str, Attribute]:
        """The measurements of one region, by name."""
        return {attribute.name: attribute for attribute in self.attributes if attribute.region == region}

    def to_json(self) -> str:
        """The case as indented JSON text."""
        return json.dumps(encode(self), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """A case from its JSON text.

        Raises:
            InvalidRequest: if the text is no case, or one of a later format.
        """
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            told = f"This is no case file ({error}). Choose a case.json written by this program."
            raise InvalidRequest(told) from error
        if isinstance(value, dict) and value.get("format", FORMAT) != FORMAT:
            raise InvalidRequest(
                f"This case has format {value['format']}, this program reads {FORMAT}. Update CT3DAssistant."
            )
        return decode(cls, value, "case")
