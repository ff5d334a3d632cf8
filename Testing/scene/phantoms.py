"""A labelled phantom on an oblique, flipped, anisotropic grid, and its case."""

from dataclasses import dataclass

import numpy as np

from ct3d.case import (
    Answer,
    Attribute,
    Case,
    Finding,
    Flag,
    Input,
    InputReport,
    Landmark,
    Region,
    Sentence,
    Step,
)
from ct3d.imaging.exchange import content_hash
from ct3d.imaging.volume import Volume, ras_from_ijk

SPACING_IJK_MM = (0.8, 1.1, 2.5)
SHAPE_KJI = (24, 40, 56)
BALLS_RAS = {  # region id → centre, millimetres from the phantom's centre, and radius
    "right_lung": ((11.0, 2.0, 3.0), 8.0),
    "left_lung": ((-11.0, -1.0, -3.0), 7.0),
    "nodule_1": ((-13.0, -2.0, -4.0), 3.2),
}


@dataclass(frozen=True, eq=False)
class Phantom:
    """A volume, the masks in it, the case over it, and where its parts truly are."""

    volume: Volume
    layers: dict[str, np.ndarray]
    case: Case
    centers_ras: dict[str, np.ndarray]

    def mask(self, region_id: str) -> np.ndarray:
        region = next(each for each in self.case.regions if each.id == region_id)
        return self.layers[region.layer] == region.label


def oblique(around_s: float, around_r: float) -> np.ndarray:
    """Rotation with the first and the third axis flipped."""
    c, s = np.cos(around_s), np.sin(around_s)
    d, t = np.cos(around_r), np.sin(around_r)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, d, -t], [0, t, d]])
    return turn @ np.diag([-1.0, 1.0, -1.0])


def make_phantom(directions: np.ndarray, shift: tuple[float, float, float]) -> Phantom:
    matrix = np.eye(4)
    matrix[:3, :3] = directions * SPACING_IJK_MM
    middle = (np.array(SHAPE_KJI[::-1]) - 1) / 2
    matrix[:3, 3] = np.array(shift) - matrix[:3, :3] @ middle
    k, j, i = np.indices(SHAPE_KJI)
    points = ras_from_ijk(np.stack([i, j, k], axis=-1).reshape(-1, 3), matrix)
    centers = {name: np.array(shift) + offset for name, (offset, _) in BALLS_RAS.items()}
    inside = {
        name: (np.linalg.norm(points - centers[name], axis=1) <= radius).reshape(SHAPE_KJI)
        for name, (_, radius) in BALLS_RAS.items()
    }
    organs, lesions, report = (np.zeros(SHAPE_KJI, np.uint8) for _ in range(3))
    organs[inside["right_lung"]], organs[inside["left_lung"]] = 1, 2
    lesions[inside["nodule_1"]] = 1
    report[organs > 0] = 1
    body = np.ones(SHAPE_KJI, np.uint8)
    body[0] = 0
    noise = np.random.default_rng(7).integers(-20, 20, SHAPE_KJI)
    tissue = np.where(lesions > 0, 30, np.where(organs > 0, -850, 40))
    array = np.where(body > 0, tissue, -1000) + noise
    volume = Volume(array.astype(np.int16), matrix)
    layers = {"body": body, "organs": organs, "report_regions": report, "lesions": lesions}
    return Phantom(volume, layers, make_case(volume, centers), centers)


def make_case(volume: Volume, centers: dict[str, np.ndarray]) -> Case:
    regions = (
        Region("body", "body", "organ", "body", 1, "cut", 0.99),
        Region("right_lung", "right lung", "organ", "organs", 1, "whole", 0.97, "right", "lungs"),
        Region("left_lung", "left lung", "organ", "organs", 2, "whole", 0.96, "left", "lungs"),
        Region("airways", "trachea and main bronchi", "organ", "organs", 3, "absent", 0.0),
        Region("lungs", "Lungs", "report_region", "report_regions", 1, "whole", 0.95, "both", "lungs"),
        Region("nodule_1", "nodule 1", "lesion", "lesions", 1, "whole", 0.8, "left", "lungs"),
    )
    attributes = (
        Attribute("right_lung.volume", "right_lung", "volume", "volume", 2.1446605851, "mL"),
        Attribute("nodule_1.long_diameter", "nodule_1", "long_diameter", "longest axial diameter", 6.4, "mm"),
        Attribute("nodule_1.zone", "nodule_1", "zone", "zone", None, "", "left lower zone"),
    )
    nodule = tuple(float(x) for x in centers["nodule_1"])
    landmarks = (
        Landmark("nodule_1_center", "centre of nodule 1", "Centroid of the mask.", "present", 0.8, nodule),
        Landmark("carina", "carina", "Lowest point of the bifurcation.", "missing", 0.0, note="No airways."),
        Landmark("trachea_top", "top of the trachea", "Highest slice.", "outside", 0.0),
    )
    found = ("region/nodule_1", "attribute/nodule_1.long_diameter")
    findings = (
        Finding("lung_nodule", "lung nodule", "present", 0.8, found, "lungs", "6.4 mm", "findings_rules"),
        Finding("emphysema", "emphysema", "not_assessed", None, (), "lungs", "", "findings_rules"),
    )
    text = "A nodule of 6.4 mm lies in the left lower zone."
    sentences = (
        Sentence("s1", "lungs", text, (*found, "finding/lung_nodule"), "supported", "measured", text),
        Sentence(
            "s2", "large_airways", "No <b>airways</b> were found.", (), "unsupported", "model", "", ("x",)
        ),
    )
    answers = (Answer("answer_1", "Where?", "On the left.", ("region/nodule_1",), "supported", "measured"),)
    grid, spacing = volume.array.shape, volume.spacing_kji_mm
    crop = tuple((0, n) for n in grid)
    saw = InputReport(
        "anatomy_rules", "LPS", "RAS", grid, grid, spacing, spacing, crop, None, 0.0, {"lungs": 1.0}
    )
    step = Step("segment", "anatomy_rules", "a" * 64, "", "cpu", "float32", 1.5, {"read": 0.5})
    return Case(
        Input(content_hash(volume.array), volume.geometry),
        regions,
        attributes,
        landmarks,
        findings,
        sentences,
        answers,
        (Flag("cut", "warning", "The field of view ends inside the body.", ("region/body",)),),
        (saw,),
        (step,),
    )


def show_all(scene, phantom: Phantom, name: str = "CT"):
    """The phantom's volume in a scene, with everything that its case makes there; gives the volume node."""
    from CT3DAssistantLib.scene import (
        add_attributes,
        add_landmarks,
        add_report,
        add_segmentation,
        add_volume,
        save_case,
    )

    node = add_volume(scene, phantom.volume, name=name, notes=("A note.",))
    save_case(scene, node, phantom.case)
    add_segmentation(scene, node, phantom.layers, phantom.case.regions)
    add_landmarks(scene, node, phantom.case.landmarks)
    add_attributes(scene, node, phantom.case.attributes)
    add_report(scene, node, phantom.case)
    return node
