"""The head-and-neck card with its tiny net and random weights: python tiny_card.py FOLDER writes both."""

import hashlib
import sys
import tomllib
from pathlib import Path

import torch
from safetensors.torch import save_file

from ct3d.cards import cards_folder, load_card
from ct3d.pipeline.landmark_net import build_net
from ct3d.training.card_file import with_table

ID = "h3denet_headneck"
WEIGHTS = "tiny.safetensors"


def write_tiny_card(folder: Path) -> Path:
    """The card's file; its weights lie beside it."""
    path = folder / f"{ID}.toml"
    text = (cards_folder() / path.name).read_text(encoding="utf-8")
    text = with_table(text, "config", tomllib.loads(text)["tiny"])
    path.write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    numbers = build_net(load_card(ID, folder)).state_dict()
    save_file({name: value.half().contiguous() for name, value in numbers.items()}, folder / WEIGHTS)
    checksum = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    text = with_table(text, "weights", {"file": WEIGHTS, "sha256": checksum})
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write_tiny_card(Path(sys.argv[1])))
