"""Dataclasses to JSON and strictly back."""

import dataclasses
import json
import random
import time
import types
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pace import assert_within, timed

from ct3d.case import Attribute, Case, Landmark
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.messages import MAX_LINE_BYTES, HelloParams, HelloResult, Progress, Text
from ct3d.protocol.tasks import TASKS, EstimateParams

KINDS = {task.params for task in TASKS.values()} | {task.result for task in TASKS.values()}
KINDS |= {Case, HelloParams, HelloResult, Progress, Text}
WORDS = ("", "left lung", "Größe", "\u2028", '"\\', "肺", "\x00", "\n")


def some(kind, dice: random.Random):
    """A random value of a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: some(hints[field.name], dice) for field in dataclasses.fields(kind)})
    if origin is Literal:
        return dice.choice(arguments)
    if origin in (Union, types.UnionType):
        return some(dice.choice(arguments), dice)
    if origin is tuple and arguments[-1] is Ellipsis:
        return tuple(some(arguments[0], dice) for _ in range(dice.randrange(3)))
    if origin is tuple:
        return tuple(some(each, dice) for each in arguments)
    if origin is dict:
        return {f"{dice.choice(WORDS)}{n}": some(arguments[1], dice) for n in range(dice.randrange(3))}
    makers = {
        bool: lambda: dice.random() < 0.5,
        int: lambda: dice.randrange(-(10**12), 10**12),
        float: lambda: dice.uniform(-1, 1) * 10 ** dice.randrange(-300, 300),
        str: lambda: dice.choice(WORDS),
        types.NoneType: lambda: None,
    }
    return makers[kind]()


def through_json(value):
    return json.loads(json.dumps(encode(value), allow_nan=False))


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__))
def test_whatever_can_be_said_comes_back_equal(kind):
    dice = random.Random(kind.__name__)
    for _ in range(30):
        value = some(kind, dice)
        assert decode(kind, through_json(value)) == value


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__))
def test_an_unknown_key_anywhere_on_top_is_refused(kind):
    value = through_json(some(kind, random.Random(1)))
    with pytest.raises(InvalidRequest, match="unknown key 'surprise'"):
        decode(kind, {**value, "surprise": 1})


def test_a_missing_key_is_named():
    with pytest.raises(InvalidRequest, match="lacks the key 'card'"):
        decode(EstimateParams, {"task": "segment", "shape_kji": [1, 2, 3]})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, True),
        (int, 1.0),
        (int, "1"),
        (float, True),
        (float, "1.0"),
        (float, float("nan")),
        (float, float("inf")),
        (float, 10**400),
        (bool, 1),
        (str, 1),
        (str, None),
        (tuple[int, ...], "123"),
        (tuple[int, ...], {"0": 1}),
        (tuple[int, int, int], [1, 2]),
        (tuple[int, int, int], [1, 2, 3, 4]),
        (tuple[float, ...], [1.0, None]),
        (dict[str, float], [1.0]),
        (dict[str, float], {"a": "b"}),
        (Literal["left", "right"], "both"),
        (Literal["left", "right"], True),
        (float | None, "none"),
        (Text, ["job", "piece"]),
        (Text, None),
    ],
)
def test_a_value_of_another_type_is_refused(kind, value):
    with pytest.raises(InvalidRequest):
        decode(kind, value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", object(), Text])
def test_what_has_no_json_form_is_refused(value):
    with pytest.raises(InvalidRequest):
        encode((1, [value]))


def test_an_error_names_the_place():
    wrong = {**encode(Attribute("a.volume", "a", "volume", "volume", 1.0, "mL")), "value": "big"}
    whole = through_json(some(Case, random.Random(3)))
    with pytest.raises(InvalidRequest, match=r"case\.attributes\[0\]\.value should be a finite number"):
        decode(Case, {**whole, "attributes": [wrong]}, "case")


@timed
def test_a_case_of_a_large_scan_is_coded_fast_and_fits_a_line():
    """117 regions of ten measurements each; a poll of the host has to decode it."""
    attributes = tuple(
        Attribute(f"region_{r}.a{n}", f"region_{r}", f"a{n}", "mean attenuation", 1.5 * n, "HU")
        for r in range(117)
        for n in range(10)
    )
    case = dataclasses.replace(some(Case, random.Random(4)), attributes=attributes)
    text = json.dumps(encode(case))
    assert len(text) < MAX_LINE_BYTES / 10
    value, began = json.loads(text), time.process_time()
    assert decode(Case, value) == case
    assert_within(time.process_time() - began, 0.1, "reading a case")


def test_the_case_itself_reads_only_its_own_format():
    case = some(Case, random.Random(5))
    case = dataclasses.replace(case, format=1)
    assert Case.from_json(case.to_json()) == case
    with pytest.raises(InvalidRequest, match="format 2"):
        Case.from_json(case.to_json().replace('"format": 1', '"format": 2'))
    with pytest.raises(InvalidRequest, match="no case file"):
        Case.from_json(case.to_json()[:-20])


def test_evidence_names_an_entry():
    case = dataclasses.replace(
        some(Case, random.Random(6)),
        landmarks=(Landmark("carina", "carina", "", "present", 0.9, (0.0, 0.0, 0.0)),),
    )
    assert case.entry("landmark/carina").title == "carina"
    assert case.entry("landmark/apex") is None
    assert case.entry("nonsense") is None
