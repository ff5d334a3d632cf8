import tomllib

import pytest

from ct3d.errors import InvalidRequest
from ct3d.training.card_file import with_landmark_values, with_table

CARD = """card = 1
id = "x"  # a remark
source = [
  "one",
  "two",
]

[measured]
date = "never"

[measured.old]
mre_mm = 99.0

[[landmarks]]
id = "a"
title = "first"
radius_mm = 1.0

[[landmarks]]
id = "b"
title = "second"
"""


def test_landmark_values_are_set_and_every_other_line_stays():
    text = with_landmark_values(CARD, {"a": {"radius_mm": 7.5}, "b": {"presence": [2.0, -1.5]}})
    assert set(CARD.splitlines()) - set(text.splitlines()) == {"radius_mm = 1.0"}
    assert set(text.splitlines()) - set(CARD.splitlines()) == {"radius_mm = 7.5", "presence = [2.0, -1.5]"}
    assert [each.get("radius_mm") for each in tomllib.loads(text)["landmarks"]] == [7.5, None]


def test_a_table_is_replaced_with_all_below_it():
    table = {"date": "2026-01-01", "cases": 3, "all": {"sdr": {"2": 0.5, "2.5": 0.75}, "ok": True}}
    value = tomllib.loads(with_table(CARD, "measured", table))
    assert value["measured"] == table
    assert value["source"] == ["one", "two"]
    assert [each["id"] for each in value["landmarks"]] == ["a", "b"]


def test_writing_the_same_again_changes_nothing():
    once = with_table(CARD, "measured", {"cases": 3})
    assert with_table(once, "measured", {"cases": 3}) == once


def test_a_landmark_that_the_card_does_not_have_is_refused():
    with pytest.raises(InvalidRequest, match="no landmark 'c'. It has: a, b"):
        with_landmark_values(CARD, {"c": {"radius_mm": 1.0}})


def test_a_value_over_several_lines_is_refused_and_not_torn():
    with pytest.raises(InvalidRequest, match="by hand"):
        with_landmark_values(
            CARD.replace("radius_mm = 1.0", "presence = [\n1.0,\n2.0]"), {"a": {"presence": [1.0, 2.0]}}
        )
