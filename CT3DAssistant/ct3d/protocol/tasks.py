"""Every task the worker can do: its parameters, its result and where it lives.

Arrays never travel in a message: an ArrayRef names a file in the exchange folder by its content hash.
"""

from dataclasses import dataclass
from typing import Literal

from ct3d.case import (
    Answer,
    Attribute,
    Case,
    ExpectedPlace,
    Finding,
    Flag,
    InputReport,
    Landmark,
    Region,
    ScanCheck,
    Scope,
    Sentence,
    Step,
)


@dataclass(frozen=True)
class ArrayRef:
    """An uncompressed .npy file in the exchange folder: <sha256>.npy, the hash of dtype, shape and values."""

    sha256: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class VolumeRef:
    """A scalar volume: array (K, J, I) in HU, 4x4 affine from (i, j, k) to RAS millimetres."""

    array: ArrayRef
    ijk_to_ras: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class MaskLayer:
    """One label map (K, J, I) uint8 on the volume's grid; layers may overlap, labels of one layer don't."""

    name: str
    array: ArrayRef


@dataclass(frozen=True)
class SegmentParams:
    """Find regions in a volume."""

    volume: VolumeRef
    card: str = "anatomy_rules"


@dataclass(frozen=True)
class SegmentResult:
    """Masks on the native grid and what each label is."""

    layers: tuple[MaskLayer, ...]
    regions: tuple[Region, ...]
    saw: InputReport
    step: Step
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class LocateParams:
    """Ask a shared encoder where in the body a volume lies."""

    volume: VolumeRef
    card: str = "threedme_tiny"


@dataclass(frozen=True)
class LocateResult:
    """What its coordinate head says beside the header."""

    check: ScanCheck
    step: Step
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class LandmarkParams:
    """Find the card's landmarks in a volume; a card of rules needs its masks, one of a net looks at none."""

    volume: VolumeRef
    layers: tuple[MaskLayer, ...] = ()
    regions: tuple[Region, ...] = ()
    card: str = "anatomy_landmarks"
    expected: tuple[ExpectedPlace, ...] = ()  # where landmarks of these ids should lie


@dataclass(frozen=True)
class LandmarkResult:
    """Every landmark of the card, missing ones included."""

    landmarks: tuple[Landmark, ...]
    step: Step
    flags: tuple[Flag, ...] = ()
    saw: InputReport | None = None  # None: the card's model saw masks, no voxels


@dataclass(frozen=True)
class MeasureParams:
    """Measure every mask on the native grid."""

    volume: VolumeRef
    layers: tuple[MaskLayer, ...]
    regions: tuple[Region, ...]
    landmarks: tuple[Landmark, ...] = ()


@dataclass(frozen=True)
class MeasureResult:
    """Measurements, each tied to its mask."""

    attributes: tuple[Attribute, ...]
    step: Step
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class FindingsParams:
    """Derive findings from what the case has measured."""

    case: Case
    card: str = "findings_rules"


@dataclass(frozen=True)
class FindingsResult:
    """The card's whole list of findings, those not assessed included."""

    findings: tuple[Finding, ...]
    step: Step
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class ReportParams:
    """Word the case as a draft report, or have a card's model read the volume. temperature 0 is greedy."""

    case: Case
    card: str = "smollm2_135m"
    sections: tuple[str, ...] = ()  # empty: all
    seed: int = 0
    temperature: float = 0.0
    volume: VolumeRef | None = None  # for a card whose model reads scans


@dataclass(frozen=True)
class ReportResult:
    """Checked sentences in reading order."""

    sentences: tuple[Sentence, ...]
    step: Step
    flags: tuple[Flag, ...] = ()
    saw: InputReport | None = None  # None: the card's model saw what was measured, no voxels
    sections: tuple[str, ...] = ()  # written anew, empty ones too; none: those of the sentences


@dataclass(frozen=True)
class CheckParams:
    """Compare sentences as they stand with the case."""

    case: Case
    sentences: tuple[str, ...] = ()  # ids; empty: all that stand


@dataclass(frozen=True)
class CheckResult:
    """The sentences with support, evidence and reasons anew; never with another text."""

    sentences: tuple[Sentence, ...]
    step: Step


@dataclass(frozen=True)
class Turn:
    """One earlier question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class AnswerParams:
    """Answer a question about the case, or have a card's model look at the volume itself."""

    case: Case
    question: str
    history: tuple[Turn, ...] = ()
    scope: Scope = Scope()
    card: str = "smollm2_135m"
    seed: int = 0
    temperature: float = 0.0
    volume: VolumeRef | None = None  # for a card whose model reads scans
    layers: tuple[MaskLayer, ...] = ()  # for such a card, where the scope is a region


@dataclass(frozen=True)
class AnswerResult:
    """One checked answer."""

    answer: Answer
    step: Step
    saw: InputReport | None = None  # None: the card's model saw what was measured, no voxels


@dataclass(frozen=True)
class WarmUpParams:
    """Load the language model and have it read what every wording begins with; answers then start at once."""

    card: str = "smollm2_135m"


@dataclass(frozen=True)
class WarmUpResult:
    """The model stays loaded while memory allows."""

    step: Step


@dataclass(frozen=True)
class PrepareParams:
    """Show what a card's model sees of a volume."""

    volume: VolumeRef
    card: str = "anatomy_rules"


@dataclass(frozen=True)
class PrepareResult:
    """The model's input, in HU, and what was changed on the way there."""

    volume: VolumeRef
    saw: InputReport
    step: Step


@dataclass(frozen=True)
class IndexParams:
    """Take one CT into an index of cases; what is there already isn't encoded again."""

    index: str  # its folder on this machine; made where it isn't there
    card: str
    volume: VolumeRef
    source: str  # where the CT lies, as a search will tell it
    text: str = ""  # its report


@dataclass(frozen=True)
class IndexResult:
    """Whether the CT is new there; "report": it was known, and its report is new."""

    state: Literal["added", "report", "known"]
    step: Step


@dataclass(frozen=True)
class RetrieveParams:
    """Find the cases of an index that are most like a CT, or like a sentence; one of the two."""

    index: str
    card: str
    volume: VolumeRef | None = None
    text: str = ""
    count: int = 5


@dataclass(frozen=True)
class Hit:
    """One case of an index, and the cosine of its volume with what was looked for, -1 to 1."""

    source: str
    score: float
    text: str


@dataclass(frozen=True)
class RetrieveResult:
    """The nearest cases, the nearest first."""

    hits: tuple[Hit, ...]
    cases: int  # in the index
    step: Step
    saw: InputReport | None = None  # None: a sentence was looked for


@dataclass(frozen=True)
class EstimateParams:
    """What a task would need on this machine, before it runs."""

    task: str
    card: str
    shape_kji: tuple[int, int, int]


@dataclass(frozen=True)
class EstimateResult:
    """Pre-flight estimate; fits is False where the machine has too little memory."""

    memory_mb: float
    seconds: float
    available_mb: float
    device: str
    fits: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """How a task is asked, what comes back, and the function that does it (imported by name)."""

    params: type
    result: type
    entry: str


TASKS = {
    "segment": Task(SegmentParams, SegmentResult, "ct3d.pipeline.segment:run"),
    "locate": Task(LocateParams, LocateResult, "ct3d.pipeline.locate:run"),
    "landmarks": Task(LandmarkParams, LandmarkResult, "ct3d.pipeline.landmarks:run"),
    "measure": Task(MeasureParams, MeasureResult, "ct3d.pipeline.attributes:run"),
    "findings": Task(FindingsParams, FindingsResult, "ct3d.pipeline.findings:run"),
    "report": Task(ReportParams, ReportResult, "ct3d.pipeline.report:run"),
    "check": Task(CheckParams, CheckResult, "ct3d.pipeline.check:run"),
    "answer": Task(AnswerParams, AnswerResult, "ct3d.pipeline.answer:run"),
    "warm_up": Task(WarmUpParams, WarmUpResult, "ct3d.pipeline.warm_up:run"),
    "prepare": Task(PrepareParams, PrepareResult, "ct3d.pipeline.prepare_input:run"),
    "index": Task(IndexParams, IndexResult, "ct3d.pipeline.retrieve:take_in"),
    "retrieve": Task(RetrieveParams, RetrieveResult, "ct3d.pipeline.retrieve:run"),
    "estimate": Task(EstimateParams, EstimateResult, "ct3d.pipeline.estimate:run"),
}
