"""A home folder with HSENet's small cards and weights: python -m pipeline.hsenet_home FOLDER.

The card of reports says SAID whatever it sees: its language model's embeddings make each word follow on the
one before. All else is random.
"""

import sys
from pathlib import Path

import torch
from pipeline.hsenet_release import FILES, WORDS, random_states, small_cards, write_release, write_words

from ct3d.pipeline.hsenet_convert import convert_folder

SAID = "The right lung has a volume of 2340 mL. There is severe pneumonia."
TOLD = {"license_": "made up", "source": "made up"}
GROWTH = 2.5  # of a word's embedding over the one before; above 2 the next word is the likeliest


def make_home(home: Path) -> Path:
    """Write cards and weights where a program with this home folder finds them."""
    weights, cards = home / ".cache" / "ct3d" / "weights", small_cards(home / "shipped")
    states = random_states()
    convert_folder(write_release(home / "release", states), weights, cards=cards, **TOLD)
    told = {**states, "language": talking(states["language"]), "reports": without_effect(states["reports"])}
    told.pop("answers")
    release = write_release(home / "talking", told)
    write_words((release / FILES["language"]).parent, spoken_words())
    convert_folder(release, weights, cards=cards, **TOLD)
    return home


def spoken_words() -> list[str]:
    """The vocabulary: what ends a text, the last word of the prompt, the words of SAID, and others."""
    words = ["end", "presented?", *SAID.split()]
    return words + [word for word in WORDS if word not in words][: len(WORDS) - len(words)]


def talking(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A language model in which each word of SAID follows on the one before, and then the end."""
    still = ("o_proj.weight", "down_proj.weight")  # nothing of what stands before has an influence
    state = {name: value * 0 if name.endswith(still) else value for name, value in state.items()}
    embedding = torch.zeros_like(state["model.embed_tokens.weight"])
    for place, word in enumerate([*range(1, 2 + len(SAID.split())), 0]):
        embedding[word, place : place + 2] = GROWTH**place
    norms = {name: torch.ones_like(value) for name, value in state.items() if "norm" in name}
    return {**state, **norms, "model.embed_tokens.weight": embedding}


def without_effect(adapters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Adapters that change nothing of the language model."""
    return {name: value * 0 if ".lora_B." in name else value for name, value in adapters.items()}


if __name__ == "__main__":
    make_home(Path(sys.argv[1]))
