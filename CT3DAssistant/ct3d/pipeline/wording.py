"""Wording: one table of ways to say a fact; the first way is the floor, all ways are the grammar of a model.

A template is text with slots "{name}" and ways "(a|b)", which may nest. It becomes a sentence, a GBNF grammar
for llama.cpp, or a pattern that tells whether freely written text is one of the ways.
"""

import re
import tomllib
from functools import cache

from ct3d.pipeline.words import read_prompt

PART = re.compile(r"[()|]|[^()|]+")
INNERMOST = re.compile(r"\(([^()|]*)(?:\|[^()|]*)*\)")


def template(*keys: str) -> str:
    """The template of a sentence that is put together from entries of wording.toml."""
    return "".join(_table()[key] for key in keys) + "."


def has_ways(text: str) -> bool:
    """Whether there is more than one way to say it."""
    return "|" in text


def first_way(text: str, slots: dict[str, str]) -> str:
    """The sentence that takes the first of every choice."""
    while "(" in text:
        text = INNERMOST.sub(r"\1", text)
    return text.format(**slots)


def grammar(text: str, slots: dict[str, str]) -> str:
    """GBNF whose root is exactly the sentences of a template."""
    return "root ::= " + " ".join(
        part if part in "()|" else _quoted(part.format(**slots)) for part in _parts(text)
    )


def is_a_way(text: str, slots: dict[str, str], sentence: str) -> bool:
    """Whether a sentence is one that the template allows."""
    parts = ("(?:" if part == "(" else part for part in _parts(text))
    pattern = "".join(
        part if part in ("(?:", ")", "|") else re.escape(part.format(**slots)) for part in parts
    )
    return re.fullmatch(pattern, sentence) is not None


def may_become_a_way(text: str, slots: dict[str, str], beginning: str) -> bool:
    """Whether a sentence that is still being written is the beginning of one that the template allows."""
    return any(way.format(**slots).startswith(beginning) for way in ways(text))


@cache
def ways(text: str) -> tuple[str, ...]:
    """The templates without choices that a template stands for."""
    group = INNERMOST.search(text)
    if group is None:
        return (text,)
    begin, end = group.span()
    return tuple(
        way for choice in group[0][1:-1].split("|") for way in ways(text[:begin] + choice + text[end:])
    )


def _parts(text: str) -> list[str]:
    return PART.findall(text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


@cache
def _table() -> dict[str, str]:
    return tomllib.loads(read_prompt("wording.toml"))
