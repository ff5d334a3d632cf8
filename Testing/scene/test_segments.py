"""Segments, terminology and colours."""

import re

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from phantoms import show_all  # noqa: E402
from pydicom.sr._concepts_dict import concepts  # noqa: E402

from ct3d.cards import load_cards  # noqa: E402
from ct3d.case import REPORT_REGIONS, Region  # noqa: E402
from CT3DAssistantLib.ownership import array_of, node_of  # noqa: E402
from CT3DAssistantLib.terminology import Code, landmark_term, segment_term  # noqa: E402

ORGANS = ("body", "right_lung", "left_lung", "airways", "skeleton")
LESIONS = ("nodule_1", "nodule_12", "effusion_right", "effusion_left")
LANDMARKS = ["nodule_1_center", *(each.id for card in load_cards() for each in card.landmarks)]
SNOMED = [(code, meaning) for entry in concepts["SCT"].values() for code, (meaning, _) in entry.items()]
SLICERS_OWN = {"123037004", "49755003"}  # categories whose wording is Slicer's, not the dictionary's


def a_region(region_id: str, kind: str, side: str = "none") -> Region:
    return Region(region_id, region_id, kind, "layer", 1, "whole", 1.0, side)


def every_term():
    yield from (segment_term(a_region(each, "organ")) for each in ORGANS)
    yield from (segment_term(a_region(each, "report_region")) for each in REPORT_REGIONS)
    yield from (segment_term(a_region(each, "lesion", "left")) for each in LESIONS)


def words(code: Code) -> set[str]:
    return set(code.meaning.lower().removeprefix("entire ").split())


def test_every_code_is_in_the_snomed_dictionary_of_dicom_under_the_same_name():
    codes = [code for t in every_term() for code in (t.category, t.type, t.modifier, t.anatomy, t.side)]
    codes += [code for each in LANDMARKS for code in (landmark_term(each).code, landmark_term(each).modifier)]
    for code in {code for code in codes if code.value} - {c for c in codes if c.value in SLICERS_OWN}:
        names = [set(re.findall(r"\w+", meaning.lower())) for value, meaning in SNOMED if value == code.value]
        assert any(words(code) <= name for name in names), code


def test_slicer_reads_the_terminology_tag_as_it_was_meant():
    entry = slicer.vtkSlicerTerminologyEntry()
    term = segment_term(a_region("nodule_3", "lesion", "right"))
    assert slicer.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(term.serialized, entry)
    assert entry.GetCategoryObject().GetCodeValue() == "49755003"
    assert entry.GetTypeObject().GetCodeMeaning() == "Nodule"
    assert entry.GetRegionObject().GetCodeMeaning() == "Lung"
    assert entry.GetRegionModifierObject().GetCodeMeaning() == "Right"


def test_right_and_left_differ_in_code():
    right, left = (segment_term(a_region(each, "organ")) for each in ("right_lung", "left_lung"))
    assert right.type == left.type
    assert (right.modifier.meaning, left.modifier.meaning) == ("Right", "Left")


def test_a_region_that_no_table_names_is_coded_by_its_kind():
    assert segment_term(a_region("spleen", "organ")).type.meaning == "Anatomical Structure"
    assert segment_term(a_region("cyst_4", "lesion")).type.meaning == "Lesion"
    assert landmark_term("left_nipple") is None


def test_there_is_one_coded_segment_per_region_with_voxels_under_the_regions_id(a_session, a_phantom):
    node = node_of(a_session.scene, show_all(a_session.scene, a_phantom), "segmentation")
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["body", "right_lung", "left_lung", "lungs", "nodule_1"]  # airways are absent
    lung = segmentation.GetSegment("right_lung")
    assert lung.GetName() == "right lung"
    assert lung.GetTerminology().endswith("~^^~^^")
    assert "SCT^39607008^Lung~SCT^24028007^Right" in lung.GetTerminology()
    assert np.allclose(np.array(lung.GetColor()) * 255, (197, 165, 145))


def test_layers_overlap_and_their_segments_keep_all_their_voxels(a_session, a_phantom):
    volume_node = show_all(a_session.scene, a_phantom)
    node = node_of(a_session.scene, volume_node, "segmentation")
    for region_id in ("left_lung", "lungs", "nodule_1"):
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(region_id, image)
        i, j, k = (slice(first, last + 1) for first, last in zip(*[iter(image.GetExtent())] * 2))
        mask = np.zeros_like(a_phantom.layers["body"], bool)
        mask[k, j, i] = array_of(image) > 0
        assert np.array_equal(mask, a_phantom.mask(region_id)), region_id


def test_body_and_report_regions_start_hidden(a_session, a_phantom):
    node = node_of(a_session.scene, show_all(a_session.scene, a_phantom), "segmentation")
    shown = {each: node.GetDisplayNode().GetSegmentVisibility(each) for each in ("body", "lungs", "nodule_1")}
    assert shown == {"body": False, "lungs": False, "nodule_1": True}
