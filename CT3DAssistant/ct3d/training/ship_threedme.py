"""Make of a pretraining run what is shipped: one file of weights with the net for sides, known to its card.

    python -m ct3d.training.ship_threedme --run FOLDER --corpus corpus.npz --version 0.3.0

Numbers are kept in 16 bits; the run's curve and resolved recipe lie beside them. What the card says of places
and limits goes with the weights: run calibrate_threedme next.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ct3d.cards import cards_folder, load_card, shipped_weights_folder
from ct3d.training.card_file import with_values
from ct3d.training.corpus import Corpus, load
from ct3d.training.loop import CURVE
from ct3d.training.program import ended
from ct3d.training.sides import train_sides
from ct3d.training.train_threedme import RESOLVED, WEIGHTS


def main(argv: list[str] | None = None) -> int:
    """Ship a run; gives the exit code."""
    parser = argparse.ArgumentParser(description="Make of a pretraining run what is shipped.")
    parser.add_argument("--run", type=Path, required=True, help="what train_threedme wrote")
    parser.add_argument("--corpus", type=Path, required=True, help="what the run learned from")
    parser.add_argument("--version", required=True)
    parser.add_argument("--card", default="threedme_tiny")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    torch.set_num_threads(given.threads)
    card = load_card(given.card)
    pretrained = load_file(given.run / WEIGHTS)
    own = Corpus([each for each in load(given.corpus) if not each.is_held_out])
    sides = {f"sides.{name}": each for name, each in train_sides(own).state_dict().items()}
    out = shipped_weights_folder() / f"{card.id}-{given.version}.safetensors"
    save_file({name: each.half().contiguous() for name, each in (pretrained | sides).items()}, out)
    for kept in (CURVE, RESOLVED):
        shutil.copy(given.run / kept, out.with_suffix(f".{kept}"))
    content = out.read_bytes()
    values = {
        "file": out.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "megabytes": round(len(content) / 2**20, 1),
    }
    path = cards_folder() / f"{card.id}.toml"
    path.write_text(with_values(path.read_text("utf-8"), "weights", values), encoding="utf-8")
    return values


if __name__ == "__main__":
    raise SystemExit(main())
