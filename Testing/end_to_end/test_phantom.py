"""A chest made of ellipsoids, of known places in RAS, on an oblique, flipped, anisotropic grid."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from ct3d.imaging.volume import Volume, ras_from_kji

LUNG_CENTRES_RAS = {"right_lung": (75.0, 0.0, 0.0), "left_lung": (-75.0, 0.0, 0.0)}
LUNG_RADII_MM = (46.0, 62.0, 92.0)
NODULE_RAS, NODULE_RADIUS_MM = (-80.0, 8.0, -22.0), 11.0
SPACING_IJK_MM = (1.3, 1.1, 2.4)


def rotation() -> np.ndarray:
    """15 degrees about S after 10 about R, with the second voxel axis flipped: left-handed too."""
    a, b = np.deg2rad((15.0, 10.0))
    about_s = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_r = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_s @ about_r @ np.diag([-1.0, 1.0, 1.0])


def a_phantom() -> Volume:
    """Body, ribs, spine, lungs, trachea with two main bronchi, a nodule, and noise; synthetic."""
    shape_ijk = np.array([300, 270, 110])
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, :3] = rotation() * SPACING_IJK_MM
    ijk_to_ras[:3, 3] = -ijk_to_ras[:3, :3] @ ((shape_ijk - 1) / 2)
    kji = np.indices(tuple(shape_ijk[::-1]), dtype=np.float32)
    r, a, s = np.tensordot(ijk_to_ras[:3, :3].astype(np.float32), kji[::-1], 1) + ijk_to_ras[:3, 3].reshape(
        3, 1, 1, 1
    ).astype(np.float32)

    hu = np.full(r.shape, -1000, np.float32)
    hu[(r / 165) ** 2 + (a / 115) ** 2 < 1] = 40
    wall = (r / 127) ** 2 + (a / 80) ** 2
    hu[(wall > 1) & (wall < 1.2) & (s % 22 < 9) & (np.abs(s) < 110)] = 400  # ribs
    for centre in LUNG_CENTRES_RAS.values():
        hu[ellipsoid((r, a, s), centre, LUNG_RADII_MM)] = -850
    hu[tube((r, a, s), (0, -15, 40), (0, -15, 200), 9)] = -1000
    for side in (-1, 1):
        hu[tube((r, a, s), (0, -15, 40), (side * 45, -15, 8), 7)] = -1000
    hu[tube((r, a, s), (0, -85, -300), (0, -85, 300), 16)] = 350
    hu[ellipsoid((r, a, s), NODULE_RAS, (NODULE_RADIUS_MM,) * 3)] = 40
    hu += np.random.default_rng(0).normal(0, 12, hu.shape)
    return Volume(hu.astype(np.int16), ijk_to_ras)


def ellipsoid(ras, centre, radii):
    return sum(((x - c) / radius) ** 2 for x, c, radius in zip(ras, centre, radii, strict=True)) < 1


def tube(ras, start, end, radius):
    start, along = np.array(start, np.float32), np.subtract(end, start).astype(np.float32)
    from_start = [x - c for x, c in zip(ras, start, strict=True)]
    share = sum(x * c for x, c in zip(from_start, along, strict=True)) / (along @ along)
    share = np.clip(share, 0, 1)
    return sum((x - share * c) ** 2 for x, c in zip(from_start, along, strict=True)) < radius**2


@pytest.fixture(scope="module")
def an_analysed_phantom(worker_python, tmp_path_factory):
    """(case, layers, volume, folder of exports) after worker and scene."""
    from CT3DAssistantLib.exports.bundle import export_case
    from CT3DAssistantLib.scene import add_volume, layers_of, volume_from_node
    from CT3DAssistantLib.session import Sitting

    out = tmp_path_factory.mktemp("phantom")
    with Sitting(worker_python) as sitting:
        node = add_volume(sitting.scene, a_phantom())
        case = sitting.finish(sitting.logic.analyze(node))
        export_case(sitting.scene, node, out, with_3d=False)
        yield case, layers_of(sitting.scene, node), volume_from_node(node), out


def half_a_voxel_mm() -> float:
    return float(np.linalg.norm(SPACING_IJK_MM)) / 2


@pytest.mark.parametrize("lung", LUNG_CENTRES_RAS)
def test_a_lung_lies_where_it_was_drawn(an_analysed_phantom, lung):
    case, layers, volume, _ = an_analysed_phantom
    region = case.entry(f"region/{lung}")
    found = ras_from_kji(np.argwhere(layers[region.layer] == region.label), volume.ijk_to_ras)
    assert np.linalg.norm(found.mean(axis=0) - LUNG_CENTRES_RAS[lung]) < half_a_voxel_mm() + 1.0
    size = 4 / 3 * np.pi * np.prod(LUNG_RADII_MM) / 1000
    assert case.attributes_of(lung)["volume"].value == pytest.approx(size, rel=0.05)


def test_the_nodule_lies_where_it_was_drawn_in_case_points_and_file(an_analysed_phantom):
    case, _, _, out = an_analysed_phantom
    landmark = case.entry("landmark/nodule_1_center")
    assert np.linalg.norm(np.subtract(landmark.position_ras, NODULE_RAS)) < half_a_voxel_mm()
    assert case.entry("region/nodule_1").side == "left"
    markup = json.loads((out / "landmarks.mrk.json").read_text(encoding="utf-8"))["markups"][0]
    assert markup["coordinateSystem"] == "LPS"
    point = next(each for each in markup["controlPoints"] if each["label"] == landmark.title)
    assert np.allclose(np.array(point["position"]) * (-1, -1, 1), landmark.position_ras, atol=1e-3)


def test_masks_and_points_come_back_from_the_scene_bundle(an_analysed_phantom):
    from CT3DAssistantLib.headless import boot
    from CT3DAssistantLib.scene import case_of, layers_of, load_mrb, volume_from_node

    case, layers, volume, out = an_analysed_phantom
    session = boot()
    (node,) = load_mrb(session.scene, out / "case.mrb")
    assert case_of(session.scene, node) == case
    again = layers_of(session.scene, node)
    assert all((again[name] == layers[name]).all() for name in layers)
    assert np.allclose(volume_from_node(node).ijk_to_ras, volume.ijk_to_ras, atol=1e-3)
    session.close()


def test_the_segmentation_file_holds_the_lung_where_it_was_drawn(an_analysed_phantom):
    case, _, _, out = an_analysed_phantom
    image = sitk.ReadImage(str(out / "regions.seg.nrrd"))
    keys = image.GetMetaDataKeys()
    names = {image.GetMetaData(key): key.split("_")[0] for key in keys if key.endswith("_ID")}
    segment = names["left_lung"]
    layer, label = (int(image.GetMetaData(f"{segment}_{field}")) for field in ("Layer", "LabelValue"))
    array = sitk.GetArrayFromImage(image)
    array = array[..., layer] if array.ndim == 4 else array
    ijk = np.argwhere(array == label)[:, ::-1].mean(axis=0)
    lps = image.TransformContinuousIndexToPhysicalPoint(ijk)
    assert (
        np.linalg.norm(np.array(lps) * (-1, -1, 1) - LUNG_CENTRES_RAS["left_lung"]) < half_a_voxel_mm() + 1.0
    )
