"""Every error has a code of its own, and the tree in the docstring tells the truth."""

import re

import pytest

from ct3d import errors
from ct3d.errors import AssistantError, TaskFailed, error_of

KINDS = AssistantError.__subclasses__()


def test_every_code_is_unique_and_in_the_range_of_json_rpc():
    codes = [kind.code for kind in (AssistantError, *KINDS)]
    assert len(set(codes)) == len(codes)
    assert all(-32768 <= code <= -32000 for code in codes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_wire_as_itself(kind):
    received = error_of(kind.code, "what and what to do")
    assert type(received) is kind
    assert str(received) == "what and what to do"


def test_an_unknown_code_is_a_failed_task():
    assert type(error_of(12345, "?")) is TaskFailed
    assert type(error_of(AssistantError.code, "?")) is TaskFailed


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = {name: int(code) for name, code in re.findall(r"── (\w+)\s+(-\d+)", errors.__doc__)}
    assert drawn == {kind.__name__: kind.code for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_when_it_is_raised_and_how_the_command_line_ends(kind):
    assert kind.__doc__
    assert 1 <= kind.exit_code <= 255
