"""Questions: what is asked, about what; a follow-up ("and on the left?") takes the rest from before."""

import re
import tomllib
from dataclasses import dataclass, field, replace
from functools import cache

from ct3d.pipeline.statements import Reading, Statement, read
from ct3d.pipeline.words import read_prompt
from ct3d.protocol.tasks import Turn

FAR_ENOUGH = 3  # earlier questions that a follow-up may lean on
GOES_ON = re.compile(r"(and|or|what about|how about|same|also)\b")


@dataclass(frozen=True)
class Question:
    """One question, read."""

    asks: str  # count, where, size, summary, describe, yes_no, attribute or ""
    statement: Statement  # the thing asked about, with side, zone, numbers
    attributes: tuple[str, ...] = ()
    others: tuple[Statement, ...] = ()  # further things that it names
    strange: tuple[str, ...] = field(default=())  # words that a case can't answer


def read_question(text: str, history: tuple[Turn, ...] = ()) -> Question:
    """The question, completed from the latest earlier questions where it names nothing itself."""
    question = _read(text)
    if not history:
        return question
    before = read_question(history[-1].question, history[-FAR_ENOUGH:-1])
    if not question.statement.kind and question.asks != "summary":
        return _completed(question, before)
    return _same_of(question, before) if goes_on(text) else question


def goes_on(text: str) -> bool:
    """Whether a question begins as one that leans on the one before: "and on the left?"."""
    return GOES_ON.match(text.strip().lower()) is not None


def _read(text: str) -> Question:
    for phrase, plain in _table()["means"].items():
        text = re.sub(rf"\b{phrase}\b", plain, text, flags=re.IGNORECASE)
    reading = read(text, forgive_typos=True)
    named = [statement for statement in reading.statements if statement.kind]
    loose = [statement for statement in reading.statements if not statement.kind]
    attributes = tuple(dict.fromkeys(name for each in reading.statements for name in each.attributes))
    for statement in named:
        statement.subject = _table()["part_of"].get(statement.subject, statement.subject)
    main = named[0] if named else (loose[0] if loose else Statement())
    return Question(_asks(text, attributes), main, attributes, tuple(named[1:]), _strange(reading))


def _same_of(question: Question, before: Question) -> Question:
    """What was asked before, of what this one names: "And of the left lung?"."""
    if question.attributes or question.asks not in ("", "describe") or not before.statement.kind:
        return question
    return replace(question, asks=before.asks, attributes=before.attributes)


def _completed(question: Question, before: Question) -> Question:
    """The earlier question about what this one names."""
    own, old = question.statement, before.statement
    statement = replace(
        old,
        sides=own.sides or (set() if own.zones else old.sides),
        zones=own.zones or (set() if own.sides else old.zones),
        numbers=own.numbers,
        superlative=own.superlative or old.superlative,
        states=own.states,
    )
    if question.attributes or question.asks in ("count", "where", "size"):
        return replace(question, statement=statement, others=before.others)
    return replace(before, statement=statement, strange=question.strange)


def _asks(text: str, attributes: tuple[str, ...]) -> str:
    plain = " ".join(re.findall(r"[a-z']+", text.lower()))
    for asks, phrases in _table()["asks"].items():
        if asks in ("summary", "describe", "yes_no") and attributes:
            return "attribute"
        if any(re.search(rf"\b{phrase}\b", plain) for phrase in phrases):
            return asks
    return "attribute" if attributes else ""


def _strange(reading: Reading) -> tuple[str, ...]:
    plain = set(_table()["words"]["plain"])
    return tuple(words for _, words in reading.strange if words not in plain and "no unit" not in words)


@cache
def _table() -> dict:
    return tomllib.loads(read_prompt("questions.toml"))
