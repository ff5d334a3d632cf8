"""What the region list and the panel of the model's input say, without a window."""

from dataclasses import replace

import pytest

pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from ct3d.cards import InputSpec, load_card  # noqa: E402
from ct3d.case import Attribute  # noqa: E402
from ct3d.imaging.prepare import prepare  # noqa: E402
from CT3DAssistantLib.region_rows import as_text, field_mm, groups_of, measurements, ordered  # noqa: E402
from CT3DAssistantLib.saw_rows import cautions, changes, coverage_of, expected_of  # noqa: E402


@pytest.fixture
def some_rows(a_phantom):
    values = ((9.5, "mm"), (1200.0, "mL"), (80.25, "mL"), (-850.0, "HU"), (-90.0, "HU"))
    numbers = [
        Attribute(f"left_lung.{n}", "left_lung", str(n), f"m{n}", value, unit)
        for n, (value, unit) in enumerate(values)
    ]
    said = Attribute("left_lung.side", "left_lung", "side", "side", None, "", "left")
    return measurements(replace(a_phantom.case, attributes=(said, *numbers)))


def test_numbers_are_ordered_by_size_within_a_unit_and_words_come_last_both_ways(some_rows):
    up = [row.text for row in ordered(some_rows, 2, descending=False)]
    assert up == ["-850 HU", "-90.0 HU", "80.2 mL", "1,200 mL", "9.5 mm", "left"]
    down = [row.text for row in ordered(some_rows, 2, descending=True)]
    assert down == [*reversed(up[:-1]), "left"]


def test_names_are_ordered_as_words(some_rows):
    assert [row.title for row in ordered(some_rows, 1, descending=True)] == [
        "side",
        "m4",
        "m3",
        "m2",
        "m1",
        "m0",
    ]


def test_what_is_copied_keeps_every_digit(some_rows):
    lines = as_text(some_rows).splitlines()
    assert lines[0] == "region\tmeasurement\tvalue\tunit"
    assert "left lung\tm2\t80.25\tmL" in lines
    assert "left lung\tside\tleft\t" in lines


def test_groups_hold_every_region_once_lesions_first(a_phantom):
    groups = groups_of(a_phantom.case)
    assert [title for title, _ in groups] == ["Lesion candidates", "Organs", "Report regions"]
    assert sorted(r.id for _, regions in groups for r in regions) == sorted(
        r.id for r in a_phantom.case.regions
    )


def test_one_region_has_only_its_own_measurements(a_phantom):
    assert {row.region for row in measurements(a_phantom.case, "nodule_1")} == {"nodule 1"}


@pytest.mark.parametrize(
    ("volume_ml", "least", "most"), [(None, 100, 200), (0.3, 100, 100), (2000.0, 300, 400)]
)
def test_a_region_is_shown_with_its_surroundings(volume_ml, least, most):
    assert least <= field_mm(volume_ml) <= most


def said(rows):
    return {row.title: (row.scan, row.model) for row in rows}


def test_what_a_model_will_see_is_what_it_then_saw(a_phantom):
    spec = load_card("anatomy_rules").input
    _, way_back = prepare(a_phantom.volume, spec)
    before, after = said(expected_of(a_phantom.volume, spec)), said(changes(way_back.saw("anatomy_rules")))
    assert before["Counted toward"] == after["Counted toward"]
    assert before["Voxel size, mm"] == after["Voxel size, mm"] == ("0.80 × 1.10 × 2.50", "2.00 × 2.00 × 2.00")
    assert before["Voxels"][0] == after["Voxels"][0] == "56 × 40 × 24"


def test_a_cut_is_told_by_slices_rows_and_columns_from_one(a_phantom):
    saw = replace(
        a_phantom.case.saw[0], shape_from_kji=(24, 40, 56), crop_from_kji=((2, 20), (0, 40), (5, 56))
    )
    assert said(changes(saw))["Cut"] == ("whole scan", "slices 3 to 20 of 24; columns 6 to 56 of 56")


def test_what_is_left_as_scanned_is_said_so(a_phantom):
    (_, _, _, cut, values) = changes(a_phantom.case.saw[0])
    assert cut.model == "nothing cut off"
    assert values.model == "as scanned"


def test_a_scan_that_cuts_the_lungs_or_is_no_hu_is_warned_of(a_phantom):
    spec = InputSpec(spacing_mm=(2.0, 2.0, 2.0))
    whole = a_phantom.case.saw[0]
    assert cautions(whole, spec) == ()
    (told,) = cautions(replace(whole, coverage={"lungs": 0.62, "upper_abdomen": 0.3}), spec)
    assert "Only 62% of the lungs" in told
    (told,) = cautions(replace(whole, value_range=(0.0, 1.0), clipped_share=0.8), spec)
    assert "HU" in told
    (told,) = cautions(replace(whole, spacing_from_kji_mm=(10.0, 0.7, 0.7)), spec)
    assert "10 mm apart" in told
    assert cautions(whole, None) == ()


def test_body_parts_are_said_in_words_and_percent(a_phantom):
    saw = replace(a_phantom.case.saw[0], coverage={"lungs": 1.0, "upper_abdomen": 0.834})
    assert coverage_of(saw) == (("lungs", 100), ("upper abdomen", 83))
