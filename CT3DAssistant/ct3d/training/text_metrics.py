"""How near an answer about a place is to the reference.

Source: HSENet (arXiv 2506.09634), VQA evaluation of YanzhaoShi/HSENet @ c7198f3. In "compat" the first part
of an answer counts as right wherever it stands in the reference, so an empty answer is right too. In "clean"
the first parts must be the same.
"""

from typing import Literal

Mode = Literal["compat", "clean"]


def is_same_place(answer: str, reference: str, mode: Mode = "clean") -> bool:
    """Whether the place is in the right part of the body: paths like "lung/left lung/lower lobe"."""
    answer, reference = answer.strip().lower(), reference.strip().lower()
    first = answer.split("/")[0]
    return first in reference if mode == "compat" else first == reference.split("/")[0]


def is_same_text(answer: str, reference: str) -> bool:
    """Whether they are the same but for case and outer spaces."""
    return answer.strip().lower() == reference.strip().lower()
