"""Statements: what a sentence says about what; numbers, sides and negations bound to what they belong to.

Rules of binding, in short. A modifier right before a subject belongs to it ("left lung", "12 mm nodule"); any
other belongs to the last subject named. An organ after "in" or "of" behind a finding is its place, not a new
subject. "No" reaches to the end of the clause, "not" back to the last subject. Clauses end at ";", "."
and "but".
"""

from dataclasses import dataclass, field, replace

from ct3d.pipeline.words import Mention, Number, mentions

SUBJECTS = ("organ", "finding", "landmark")
MODIFIERS = ("side", "zone", "hedge", "superlative", "more")
PLACE_WORDS = ("in", "of", "within", "at", "from", "to", "on")
UNIT_OF = {
    "volume": "mL",
    "mean_hu": "HU",
    "sd_hu": "HU",
    "emphysema_index": "%",
    "long_diameter": "mm",
    "short_diameter": "mm",
    "mean_diameter": "mm",
    "distance_to_carina": "mm",
    "pleura_distance": "mm",
    "z_low": "mm",
    "z_high": "mm",
    "position_r": "mm",
    "position_a": "mm",
    "position_s": "mm",
}


@dataclass
class Statement:
    """One subject and what is said about it."""

    kind: str = ""  # organ, finding, landmark; "": no subject was named
    subject: str = ""
    index: int | None = None  # "nodule 2"
    count: int | None = None  # "two nodules"
    sides: set[str] = field(default_factory=set)
    said_sides: list[str] = field(default_factory=list)  # the same, in the order of the words
    zones: set[str] = field(default_factory=set)
    places: list[str] = field(default_factory=list)  # organs that a finding is said to be in
    numbers: list[tuple[Number, str]] = field(
        default_factory=list
    )  # with the attribute's name, "" where not said
    attributes: list[str] = field(default_factory=list)
    states: set[str] = field(default_factory=set)  # not_assessed, cut, absent, whole
    negated: bool = False
    hedged: bool = False
    superlative: str = ""
    more: bool = False  # "further", "other"


@dataclass(frozen=True)
class Reading:
    """A sentence, read."""

    statements: tuple[Statement, ...]
    strange: tuple[tuple[str, str], ...]  # (slot, words) that no measurement can support


def read(text: str, *, forgive_typos: bool = False) -> Reading:
    """The statements of one or more sentences, or what a question asks about."""
    reader = _Reader(mentions(text, forgive_typos=forgive_typos))
    for place in range(len(reader.found)):
        reader.take(place)
    reader.end_clause()
    if "respectively" in text.lower():
        reader.done = _shared_out(reader.done)
    return Reading(tuple(reader.done), tuple(reader.strange))


class _Reader:
    """Walks through the mentions once, left to right."""

    def __init__(self, found: list[Mention]):
        self.found = found
        self.done: list[Statement] = []
        self.strange: list[tuple[str, str]] = []
        self._start_clause()

    def take(self, place: int) -> None:
        mention = self.found[place]
        step = getattr(self, f"_{mention.kind}", None)
        if mention.kind in SUBJECTS:
            self._subject(mention, place)
        elif mention.kind in MODIFIERS:
            self._modifier(mention, place)
        elif step is not None:
            step(mention, place)

    def end_clause(self) -> None:
        if self.pending != Statement() or (self.states and not self.clause):
            self.clause.append(self.pending)
        for statement in self.clause:
            statement.states |= self.states
        self.done += self.clause
        self._start_clause()

    def _start_clause(self):
        self.clause: list[Statement] = []
        self.pending = Statement()
        self.states: set[str] = set()
        self.fresh: list[str] = []  # attributes named since the last number
        self.negates = False

    def _stop(self, _mention, _place):
        self.end_clause()

    def _subject(self, mention, place):
        if mention.kind == "organ" and self._is_place(place):
            self._add_pending_to(self.clause[-1])
            self.clause[-1].places.append(mention.value)
            return
        joined = place > 0 and self.found[place - 1].text in ("and", "or", "nor", ",") and self.clause
        hedged = self.pending.hedged or "candidate" in mention.text or bool(joined and self.clause[-1].hedged)
        more = {"kind": mention.kind, "subject": mention.value, "hedged": hedged}
        self.clause.append(replace(self.pending, **more, negated=self.negates or self.pending.negated))
        self.pending = Statement()

    def _is_place(self, place):
        """Whether the organ here is where the last finding is said to be."""
        if not self.clause or self.clause[-1].kind != "finding":
            return False
        before = place - 1
        while before >= 0 and (
            self.found[before].kind in MODIFIERS or self.found[before].text in ("the", "a", "and")
        ):
            before -= 1
        return before >= 0 and self.found[before].text in PLACE_WORDS

    def _add_pending_to(self, statement):
        statement.sides |= self.pending.sides
        statement.zones |= self.pending.zones
        statement.numbers += self.pending.numbers
        self.pending = Statement()

    def _modifier(self, mention, place):
        target = self._target(place)
        if mention.kind == "side":
            target.sides.add(mention.value)
            target.said_sides.append(mention.value)
        elif mention.kind == "zone":
            target.zones.add(mention.value)
        elif mention.kind == "hedge":
            target.hedged = True
        elif mention.kind == "superlative":
            target.superlative = mention.value
        else:
            target.more = True

    def _target(self, place):
        return self.pending if self._leads_to_subject(place) or not self.clause else self.clause[-1]

    def _leads_to_subject(self, place):
        """Whether only modifiers lie between here and the next subject."""
        place += 1
        while place < len(self.found):
            mention = self.found[place]
            after = self.found[place + 1].kind if place + 1 < len(self.found) else ""
            joins_sides = mention.text in ("and", "or") and after == "side"
            if mention.kind not in (*MODIFIERS, "number") and not joins_sides and mention.text != "sided":
                return mention.kind in SUBJECTS
            place += 1
        return False

    def _number(self, mention, place):
        number = mention.number
        if number.unit:
            self._target(place).numbers.append((number, self._attribute_of(number)))
        elif self._leads_to_subject(place) and number.value == int(number.value):
            self.pending.count = int(number.value)
        elif self.clause and place > 0 and self.found[place - 1].kind == "finding":
            self.clause[-1].index = int(number.value)
        else:
            self.strange.append(("number", f"{mention.text} has no unit"))

    def _attribute_of(self, number):
        """The attribute named for this number; one of another unit too: that is the mistake to find."""
        fitting = [name for name in self.fresh if UNIT_OF[name] == number.unit]
        name = (fitting or self.fresh or [""])[-1]
        if number.dimension == 2:
            return "short_diameter"
        if name:
            self.fresh.remove(name)
        return name

    def _attribute(self, mention, place):
        before = self.found[place - 1] if place else None
        last = self.clause[-1] if self.clause else self.pending
        last.attributes.append(mention.value)
        if "distance" in mention.value and before is not None and before.kind == "number" and last.numbers:
            last.numbers[-1] = (last.numbers[-1][0], mention.value)  # "54 mm from the carina"
        else:
            self.fresh.append(mention.value)

    def _relation(self, mention, place):
        """ "74 mm caudal to the carina": a number between the heights of two landmarks."""
        other = next((each.value for each in self.found[place + 1 :] if each.kind == "landmark"), "")
        if other and self.clause and self.clause[-1].numbers:
            number, _ = self.clause[-1].numbers[-1]
            self.clause[-1].numbers[-1] = (number, f"{mention.value} {other}")
        else:
            self.strange.append(("place", mention.text))

    def _negation(self, mention, _place):
        if mention.value == "after" and self.clause:
            self.clause[-1].negated = True
        else:
            self.negates = True

    def _state(self, mention, _place):
        self.states.add(mention.value)

    def _compare(self, mention, _place):
        if mention.value != "~":  # its number would have taken it
            self.strange.append(("comparison", mention.text))

    def _banned(self, mention, _place):
        self.strange.append((mention.value, mention.text))

    def _unknown(self, mention, _place):
        if mention.text not in "!?":
            self.strange.append(("word", mention.text))


def _shared_out(statements: list[Statement]) -> list[Statement]:
    """Give the n-th number to the n-th subject or side, as in "… measure 3 and 2 mL, respectively"."""
    named = [statement for statement in statements if statement.kind]
    if len(named) == 1 and len(named[0].said_sides) == 2:
        named = [replace(named[0], sides={side}) for side in named[0].said_sides]
        numbers = list(named[0].numbers)
    else:
        numbers = [number for statement in named for number in statement.numbers]
    return [replace(each, numbers=numbers[place :: len(named)]) for place, each in enumerate(named)]
