"""What a card's limits say of points: sides, order, distances; and nothing of what is missing."""

import pytest

from ct3d.cards import LandmarkLimits
from ct3d.case import Landmark
from ct3d.imaging.plausibility import complaints, flags_of

LIMITS = LandmarkLimits(
    basis="made up",
    pairs=(("ear_of_the_right", "ear_of_the_left"),),
    midline="nose",
    above=(("nose", "chin"),),
    in_front=(("nose", "neck"),),
    distances_mm={"nose chin": (50.0, 100.0)},
    height_difference_mm={"ear_of_the_right ear_of_the_left": 20.0},
    width_difference_mm={"ear_of_the_right ear_of_the_left": 15.0},
)
HEAD = {
    "ear_of_the_right": (70.0, 0.0, 0.0),
    "ear_of_the_left": (-70.0, 0.0, 0.0),
    "nose": (0.0, 90.0, 0.0),
    "chin": (0.0, 80.0, -70.0),
    "neck": (0.0, -40.0, -90.0),
}
TITLES = {name: name.replace("_", " ") for name in HEAD}


def said_of(points):
    return complaints(points, TITLES, LIMITS)


def test_a_plausible_head_gives_no_complaint_and_neither_does_one_without_points_or_limits():
    assert said_of(HEAD) == []
    assert said_of({}) == []
    assert complaints({"chin": (0.0, 0.0, 999.0)}, TITLES, LIMITS) == []
    assert complaints(HEAD | {"nose": (0.0, 90.0, -300.0)}, TITLES, None) == []


@pytest.mark.parametrize(
    ("moved", "about", "told"),
    [
        (
            {"ear_of_the_right": (-70.0, 0.0, 0.0), "ear_of_the_left": (70.0, 0.0, 0.0)},
            ("ear_of_the_right", "ear_of_the_left"),
            "sides swapped?",
        ),
        (
            {"ear_of_the_right": (-5.0, 0.0, 0.0)},
            ("ear_of_the_right", "nose"),
            "lies on the other side of the nose.",
        ),
        ({"nose": (0.0, 90.0, -75.0)}, ("nose", "chin"), "The nose lies no higher than the chin."),
        ({"neck": (0.0, 95.0, -90.0)}, ("nose", "neck"), "no further to the front than the neck."),
        ({"chin": (0.0, 90.0, -40.0)}, ("nose", "chin"), "are 40 mm apart; 50 to 100 mm is usual."),
        ({"chin": (0.0, 90.0, -130.0)}, ("nose", "chin"), "are 130 mm apart; 50 to 100 mm is usual."),
        (
            {"ear_of_the_left": (-70.0, 0.0, 21.0)},
            ("ear_of_the_right", "ear_of_the_left"),
            "differ by 21 mm in height; up to 20 mm is usual.",
        ),
        (
            {"ear_of_the_left": (-50.0, 0.0, 0.0)},
            ("ear_of_the_right", "ear_of_the_left"),
            "differ by 20 mm in distance from the midline; up to 15 mm is usual.",
        ),
    ],
)
def test_each_limit_that_is_broken_is_told_once_with_the_points_concerned(moved, about, told):
    found = said_of(HEAD | moved)
    assert [names for text, names in found if told in text] == [about], found


def test_swapped_sides_are_said_in_whole_sentences_and_not_twice():
    swapped = HEAD | {"ear_of_the_right": (-70.0, 0.0, 0.0), "ear_of_the_left": (70.0, 0.0, 0.0)}
    told = "The ear of the right lies to the patient's left of the ear of the left: sides swapped?"
    assert said_of(swapped) == [(told, ("ear_of_the_right", "ear_of_the_left"))]


@pytest.mark.parametrize("gone", HEAD)
def test_what_is_missing_is_never_complained_of(gone):
    far = {name: (0.0, 0.0, 0.0) for name in HEAD if name != gone}
    assert all(gone not in about for _, about in said_of(far))


def test_flags_name_the_landmarks_as_evidence_and_ask_a_person_to_look():
    landmarks = [Landmark(name, TITLES[name], "", "present", 1.0, ras) for name, ras in HEAD.items()]
    landmarks[2] = Landmark("nose", "nose", "", "present", 1.0, (0.0, 90.0, -75.0))
    missing = Landmark("chin", "chin", "", "missing", 0.0)
    (order, near) = flags_of(tuple(landmarks), LIMITS)
    assert order.severity == near.severity == "warning"
    assert order.evidence == ("landmark/nose", "landmark/chin")
    assert "no higher than the chin. Check" in order.text
    assert flags_of((*landmarks[:3], missing, landmarks[4]), LIMITS) == ()
