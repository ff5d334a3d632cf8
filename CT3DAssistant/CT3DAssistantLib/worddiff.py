"""What a person changed in a text, word by word."""

import difflib
import re
from dataclasses import dataclass
from typing import Literal

WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class Piece:
    """A part of a changed text: words that stayed, were struck or were put in."""

    kind: Literal["same", "struck", "inserted"]
    text: str


def word_diff(before: str, after: str) -> tuple[Piece, ...]:
    """What turns one text into the other, in whole words; "same" and "inserted" together give `after`."""
    old, new = WORD.findall(before), WORD.findall(after)
    matcher = difflib.SequenceMatcher(None, [each.strip() for each in old], [each.strip() for each in new])
    pieces = []
    for kind, a, b, c, d in matcher.get_opcodes():
        struck, put_in = "".join(old[a:b]), "".join(new[c:d])
        if kind == "equal":
            pieces.append(Piece("same", put_in))
            continue
        pieces += [Piece("struck", struck)] if struck else []
        pieces += [Piece("inserted", put_in)] if put_in else []
    return tuple(pieces)
