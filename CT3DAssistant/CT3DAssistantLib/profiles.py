"""Profiles: which model card does which part of the work, chosen as one thing."""

import tomllib
from dataclasses import dataclass
from functools import cache

from ct3d.cards import ModelCard, load_card
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode
from CT3DAssistantLib.resources import resource_path


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

    @property
    def cards(self) -> dict[str, ModelCard]:
        """The cards by role, in the order of the work; a role without a card is left out."""
        ids = {role: getattr(self, role) for role in ("segment", "landmarks", "findings", "language")}
        return {role: load_card(card_id) for role, card_id in ids.items() if card_id}

    def card_of(self, task: str) -> str:
        """Id of the card that does a task; "" where it needs none."""
        cards = {"segment": self.segment, "landmarks": self.landmarks, "findings": self.findings}
        return cards.get(task, self.language if task in ("report", "answer") else "")


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
