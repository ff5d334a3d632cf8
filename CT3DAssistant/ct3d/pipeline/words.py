"""Words with a meaning: a sentence or question as a list of mentions (organs, sides, numbers, negations).

The vocabulary is Resources/Prompts/words.toml. Nothing here knows a case.
"""

import difflib
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ct3d.cards import cards_folder

TO_BASE = {"mL": ("mL", 1.0), "L": ("mL", 1000.0), "mm": ("mm", 1.0), "cm": ("mm", 10.0), "HU": ("HU", 1.0)}
TO_BASE["%"] = ("%", 1.0)
LONGEST = 7  # words of the longest phrase
NUMBER = re.compile(r"-?\d+(?:\.\d+)?$")
POINT = re.compile(r"\bR (-?\d+), A (-?\d+), S (-?\d+) mm\b")
TOKEN = re.compile(r"-?\d+(?:\.\d+)?|[^\W\d_]+[²³\d]?(?:'[a-z]+)?|[%,;:()?!]|\.")


@dataclass(frozen=True)
class Number:
    """A number as said: value and half of its last digit, in the base unit (mL, mm, HU, %)."""

    value: float
    slack: float
    unit: str  # "" where none was said; "other" where no measurement has it
    dimension: int = 0  # 1, 2 in "23 x 18 mm"; 0 else
    range_end: str = ""  # "low", "high" in "4 to 7 mm"
    compare: str = ""  # "<", ">", "~"


@dataclass(frozen=True)
class Mention:
    """A phrase of the vocabulary, a number, or an unknown word."""

    kind: str  # a section of words.toml, "number" or "unknown"
    value: str
    text: str
    number: Number | None = None


def prompts_folder() -> Path:
    """Where prompts and vocabularies lie, in the source tree and installed alike."""
    return cards_folder().with_name("Prompts")


def read_prompt(name: str) -> str:
    """The text of one file of the prompts' folder."""
    return (prompts_folder() / name).read_text(encoding="utf-8").strip()


@cache
def vocabulary() -> dict[tuple[str, ...], tuple[str, str]]:
    """(words of a phrase) → (kind, value), plurals included."""
    table = tomllib.loads(read_prompt("words.toml"))
    known: dict[tuple[str, ...], tuple[str, str]] = {}
    plurals: dict[tuple[str, ...], tuple[str, str]] = {}
    for kind, entries in table.items():
        for value, phrases in entries.items():
            for phrase in phrases:
                words = tuple(TOKEN.findall(phrase))
                known[words] = (kind, value)
                if kind in ("organ", "finding", "landmark", "attribute", "unit", "zone"):
                    plurals[(*words[:-1], _plural(words[-1]))] = (kind, value)
    return {**plurals, **known}


def mentions(text: str, *, forgive_typos: bool = False) -> list[Mention]:
    """What a text mentions, in reading order; words that claim nothing are kept as kind "plain"."""
    words = _tokens(text)
    known = vocabulary()
    if forgive_typos:
        words = [word if _is_known(word) else _nearest(word) for word in words]
    found: list[Mention] = []
    place = 0
    while place < len(words):
        size = next((n for n in range(LONGEST, 0, -1) if tuple(words[place : place + n]) in known), 0)
        phrase = words[place : place + max(size, 1)]
        found.append(_mention(phrase, known.get(tuple(phrase))))
        place += len(phrase)
    return _with_units(found)


def _mention(phrase, meaning):
    text = " ".join(phrase)
    if meaning is None and NUMBER.match(text):
        return Mention("number", text, text, Number(float(text), _slack(text), ""))
    if meaning is None:
        return Mention("unknown", text, text)
    kind, value = meaning
    if kind == "number":
        return Mention("number", value, text, Number(float(value), 0.0, ""))
    return Mention(kind, value, text)


def _with_units(found: list[Mention]) -> list[Mention]:
    """Numbers joined with their units; "23 x 18 mm", "4 to 7 mm" and "3 and 4 mm" share one."""
    whole: list[Mention] = []
    for mention in found:
        before = whole[-1] if whole else None
        if (
            mention.kind == "unit"
            and before is not None
            and before.kind == "number"
            and not before.number.unit
        ):
            whole[-1] = _in_unit(before, mention.value)
            _share_unit(whole, mention.value)
        elif mention.kind == "number" and before is not None and before.kind == "compare":
            whole[-1] = replace(mention, number=replace(mention.number, compare=before.value))
        else:
            whole.append(mention)
    return whole


def _share_unit(whole, unit):
    """Give the unit of the last number to the ones that it is joined with, right to left."""
    while len(whole) >= 3 and whole[-2].text in ("x", "by", "to", "and", ",") and whole[-3].kind == "number":
        last, join, first = whole[-1], whole[-2].text, whole[-3]
        if first.number.unit:
            return
        first = _in_unit(first, unit)
        between = len(whole) >= 4 and whole[-4].text == "between"
        if join in ("x", "by"):
            first = replace(first, number=replace(first.number, dimension=1))
            last = replace(last, number=replace(last.number, dimension=2))
        elif join == "to" or (join == "and" and between):
            low, high = sorted((first, last), key=lambda each: each.number.value)
            first = replace(low, number=replace(low.number, range_end="low"))
            last = replace(high, number=replace(high.number, range_end="high"))
        whole[-3:] = [first, last]  # the joining word has said what it had to
        return


def _in_unit(mention, unit):
    base, factor = TO_BASE.get(unit, ("other", 1.0))
    number = mention.number
    if base == "mL" and factor == 1.0 and number.value >= 100 and number.value % 10 == 0:
        number = replace(number, slack=5.0)  # mL are rounded to ten from 100 on
    number = replace(number, value=number.value * factor, slack=number.slack * factor, unit=base)
    return replace(mention, text=f"{mention.text} {unit}", number=number)


def _slack(text):
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def _tokens(text: str) -> list[str]:
    text = POINT.sub(r"coordinate r \1 mm coordinate a \2 mm coordinate s \3 mm", text)
    text = text.lower().replace("\u2212", "-").replace("\u00d7", " x ").replace("\u2019", "'")
    text = re.sub(r"(\d)[ \u202f\u00a0](?=\d{3}\b)", r"\1", text)
    text = re.sub(r"(\d),(?=\d{3}\b)", r"\1", text)
    text = re.sub(r"(\d)\s*[-\u2013]\s*(?=\d)", r"\1 to ", text)
    text = re.sub(r"(?<=[a-z\d])[-/\u2013](?=[a-z])", " ", text)
    text = re.sub(r"(\d)x(\d)", r"\1 x \2", text)
    text = re.sub(r"(\d)(?=[a-zµ%])", r"\1 ", text)
    text = text.replace("~", " about ").replace(" < ", " less than ").replace(" > ", " more than ")
    return TOKEN.findall(text)


def _plural(word):
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch")) else "s")


@cache
def _single_words() -> frozenset[str]:
    return frozenset(word for phrase in vocabulary() for word in phrase)


def _is_known(word):
    return word in _single_words() or len(word) < 5 or NUMBER.match(word)


def _nearest(word):
    near = difflib.get_close_matches(word, sorted(_single_words()), n=1, cutoff=0.8)
    return near[0] if near else word
