"""Reports and questions as token sequences for HSENet's language model.

Source: HSENet (arXiv 2506.09634), data sets of YanzhaoShi/HSENet @ c7198f3, re-derived from their behaviour:
no chat template, no separator between the last visual token and the question, a space before the answer. The
ending token is learned where it fits, though its attention is 0; what is too long is cut without one.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

IGNORED = -100
LEFT_OUT = re.compile(r"""["'()]""")  # of reports


class Sample(NamedTuple):
    """One training sequence, each (T,) int64."""

    ids: np.ndarray
    labels: np.ndarray
    attention_mask: np.ndarray


def plain_report(text: str) -> str:
    """A report as it is learned: without quotes and parentheses."""
    return LEFT_OUT.sub("", text)


def sample(
    encode: Callable[[str], list[int]],
    question: str,
    answer: str,
    *,
    visual: tuple[int, int],
    bos: int,
    eos: int,
    length: int,
) -> Sample:
    """BOS, the places of the visual tokens, the question, the answer, its end, and padding.

    Args:
        encode: text → ids, without special tokens.
        question: as a person would write it.
        answer: what the model is to write.
        visual: id that stands for a visual token, and how many there are.
        bos, eos: ids; padding is eos.
        length: of the sequence.
    """
    asked = [bos] + [visual[0]] * visual[1] + encode(question)
    read = (asked + encode(f" {answer}"))[:length]
    learned = read + [eos] if len(read) < length else read
    start = min(len(asked), length)
    ids, labels = np.full(length, eos), np.full(length, IGNORED)
    ids[: len(learned)] = learned
    labels[start : len(learned)] = learned[start:]
    return Sample(ids, labels, (np.arange(length) < len(read)).astype(np.int64))
