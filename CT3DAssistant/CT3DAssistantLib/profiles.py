"""Profiles: which model card does which part of the work, chosen as one thing."""

import tomllib
from dataclasses import dataclass, replace
from functools import cache

from ct3d.cards import ModelCard, load_card, load_cards
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode
from CT3DAssistantLib.resources import resource_path

ROLES = (
    "segment",
    "encoder",
    "landmarks",
    "findings",
    "language",
    "report",
    "answer",
)  # in the order of the work


@dataclass(frozen=True)
class Profile:
    """One card per role, by id.

    Attributes:
        id: its name in a saved scene.
        title: what a person chooses by.
        when: one line on when to use it.
        language: "" for no language model: the report then has the sentences of the measurements.
        gpu: whether one of its models can use a GPU; the rules never do.
        needs: packages that the worker's Python must have beyond those that every worker has.
        encoder: card of a shared encoder that checks where in the body a scan lies; "": nothing checks it.
        report, answer: cards whose models read the scan itself; "": the language model has their work.
    """

    id: str
    title: str
    when: str
    segment: str
    landmarks: str
    findings: str
    language: str
    gpu: bool
    needs: tuple[str, ...] = ()
    encoder: str = ""
    report: str = ""
    answer: str = ""

    @property
    def cards(self) -> dict[str, ModelCard]:
        """The cards by role, in the order of the work; a role without a card is left out."""
        ids = {role: getattr(self, role) for role in ROLES}
        return {role: load_card(card_id) for role, card_id in ids.items() if card_id}

    def does(self, task: str) -> bool:
        """Whether a task is part of its analyses; "locate" only where there is a card for it."""
        return task != "locate" or bool(self.encoder)

    def card_of(self, task: str) -> str:
        """Id of the card that does a task; "" where it needs none."""
        cards = {"segment": self.segment, "landmarks": self.landmarks, "findings": self.findings}
        cards["locate"] = self.encoder
        cards |= {"report": self.report or self.language, "answer": self.answer or self.language}
        return cards.get(task, "")

    def reads_scan(self, task: str) -> bool:
        """Whether the card of "report" or "answer" has a model that reads the scan itself."""
        return bool({"report": self.report, "answer": self.answer}.get(task))

    def reading(self, *, report: str = "", answer: str = "") -> "Profile":
        """The same with other cards of models that read the scan; "" keeps what there is.

        Raises:
            InvalidRequest: a card isn't there, or has another role.
        """
        for role, card_id in {"report": report, "answer": answer}.items():
            if card_id and load_card(card_id).role != role:
                fitting = ", ".join(card.id for card in load_cards() if card.role == role)
                raise InvalidRequest(f"{card_id} is no card of the role {role!r}. Choose one of: {fitting}.")
        return replace(self, report=report or self.report, answer=answer or self.answer)


@cache
def profiles() -> dict[str, Profile]:
    """All profiles by id, the default first."""
    table = tomllib.loads(resource_path("Profiles.toml").read_text("utf-8"))
    return {name: decode(Profile, {"id": name, **value}, f"profile {name}") for name, value in table.items()}


def profile_of(profile_id: str) -> Profile:
    """The profile with this id; "" gives the default.

    Raises:
        InvalidRequest: if there is none; names what there is.
    """
    if profile_id and profile_id not in profiles():
        raise InvalidRequest(
            f"There is no model profile {profile_id!r}. Choose one of: {', '.join(profiles())}."
        )
    return profiles()[profile_id or next(iter(profiles()))]
