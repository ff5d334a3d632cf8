"""How the shipped weights were made and measured. Never installed; nothing above imports it."""

from enum import IntEnum


class State(IntEnum):
    """What is known of one landmark in one training volume. Three states, never two.

    The numbers are chosen so that no truth value and no comparison with 0 mixes them up by accident: a tensor
    of them is int8, and a boolean one is refused.
    """

    UNKNOWN = -1  # nobody annotated it: out of the loss and out of the score
    MISSING = 0  # known not to be in this field of view: a hard negative
    PRESENT = 1  # in this field of view, at a known place
