from dataclasses import replace

import numpy as np
import pytest

from ct3d.case import REPORT_REGIONS, Attribute, Case, Geometry, Input, Region
from ct3d.pipeline.findings import LABELS, run
from ct3d.pipeline.job import LocalJob
from ct3d.protocol.tasks import FindingsParams

AFFINE = tuple(tuple(float(x) for x in row) for row in np.eye(4))


def a_case(*, index=(0.5, 0.5), presence=("whole", "whole"), thickness=1.0, lesions=()):
    """Two measured lungs (right, left) of 2 and 1 L, and lesion candidates."""
    geometry = Geometry((100, 512, 512), (thickness, 0.7, 0.7), AFFINE)
    lungs = [
        Region(f"{side}_lung", f"{side} lung", "organ", "organs", n + 1, presence[n], 0.9, side, "lungs")
        for n, side in enumerate(("right", "left"))
    ]
    attributes = []
    for n, lung in enumerate(lungs):
        if lung.presence != "absent":
            attributes += [
                a_number(lung.id, "volume", 2000.0 - 1000.0 * n, "mL"),
                a_number(lung.id, "emphysema_index", index[n], "%"),
            ]
    attributes += [a_number(lesion.id, "volume", 5.0, "mL") for lesion in lesions]
    return Case(Input("0" * 64, geometry), (*lungs, *lesions), tuple(attributes))


def a_number(region, name, value, unit):
    return Attribute(f"{region}.{name}", region, name, name, value, unit)


def a_candidate(region_id, confidence, side="left"):
    return Region(region_id, "candidate", "lesion", "lesions", 1, "whole", confidence, side, "lungs")


@pytest.fixture
def find(tmp_path):
    def findings_of(case):
        result = run(FindingsParams(case), LocalJob(tmp_path))
        assert result.step.card == "findings_rules"
        return {finding.id: finding for finding in result.findings}

    return findings_of


def test_all_eighteen_labels_are_answered_in_order_and_none_has_a_probability(find):
    found = find(a_case())
    assert list(found) == list(LABELS)
    assert len(found) == 18
    assert all(finding.probability is None and finding.why for finding in found.values())
    assert all(finding.report_region in REPORT_REGIONS for finding in found.values())


def test_what_no_rule_measures_is_not_assessed(find):
    with_rule = {"emphysema", "lung_nodule", "pleural_effusion"}
    others = [finding for name, finding in find(a_case()).items() if name not in with_rule]
    assert {finding.state for finding in others} == {"not_assessed"}


@pytest.mark.parametrize(
    ("index", "state"),
    [
        ((0.4, 0.4), "absent"),
        ((3.0, 3.0), "not_assessed"),
        ((6.0, 6.0), "possible"),
        ((20.0, 20.0), "present"),
    ],
)
def test_the_emphysema_index_decides_the_state_of_emphysema(find, index, state):
    finding = find(a_case(index=index))["emphysema"]
    assert finding.state == state
    assert f"{index[0]:.1f} %" in finding.why
    assert finding.evidence == ("attribute/right_lung.emphysema_index", "attribute/left_lung.emphysema_index")


def test_the_emphysema_index_of_both_lungs_is_weighted_by_their_volumes(find):
    assert "5.0 %" in find(a_case(index=(6.0, 3.0)))["emphysema"].why  # (2 L of 6 % + 1 L of 3 %) / 3 L


@pytest.mark.parametrize("presence", [("cut", "whole"), ("whole", "absent"), ("absent", "absent")])
def test_emphysema_is_neither_claimed_nor_ruled_out_where_a_lung_is_cut_or_missing(find, presence):
    for index in ((0.1, 0.1), (30.0, 30.0)):
        assert find(a_case(index=index, presence=presence))["emphysema"].state == "not_assessed"


def test_thick_slices_leave_emphysema_not_assessed(find):
    finding = find(a_case(index=(0.1, 0.1), thickness=5.0))["emphysema"]
    assert finding.state == "not_assessed"
    assert "5 mm" in finding.why


@pytest.mark.parametrize(
    ("confidence", "state"), [(0.95, "present"), (0.6, "possible"), (0.2, "not_assessed")]
)
def test_a_nodule_candidate_decides_by_its_confidence_and_is_the_evidence(find, confidence, state):
    case = a_case(lesions=(a_candidate("nodule_1", confidence),))
    finding = find(case)["lung_nodule"]
    assert finding.state == state
    assert ("region/nodule_1" in finding.evidence) == (state != "not_assessed")
    assert all(case.entry(evidence) for evidence in finding.evidence)


def test_an_effusion_candidate_is_never_more_than_possible(find):
    case = a_case(lesions=(a_candidate("effusion_left", 1.0),))
    finding = find(case)["pleural_effusion"]
    assert finding.state == "possible"
    assert finding.evidence == ("region/effusion_left", "attribute/effusion_left.volume")
    assert "left" in finding.why


def test_no_candidate_rules_out_neither_nodule_nor_effusion(find):
    found = find(a_case())
    assert found["lung_nodule"].state == found["pleural_effusion"].state == "not_assessed"
    assert "excludes none" in found["lung_nodule"].why
    assert "100 mL" in found["pleural_effusion"].why


def test_without_lungs_nothing_is_assessed(find):
    found = find(a_case(presence=("absent", "absent")))
    assert {finding.state for finding in found.values()} == {"not_assessed"}
    assert "No lung" in found["lung_nodule"].why


def test_a_measurement_that_is_missing_leaves_the_finding_not_assessed(find):
    case = replace(a_case(), attributes=())
    assert find(case)["emphysema"].state == "not_assessed"
