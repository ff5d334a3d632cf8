"""What small heads make of the shared encoder's frozen features: eight tasks on real CT, each with its score.

    python -m ct3d.training.benchmark_threedme --data FOLDER --weights NAME=FILE … --out benchmark.json

Nothing of the encoder is trained. Patients that are scored were never seen, in pretraining or by a head.
`random` is the same net with random weights, another draw each seed; for pretrained weights a seed draws the
patients, and the heads' first weights. See `benchmark_tasks` for the tasks.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ct3d.training.benchmark_data import Kept, Material, read
from ct3d.training.benchmark_tasks import TASKS
from ct3d.training.probe_threedme import encoder, spread
from ct3d.training.program import ended


def main(argv: list[str] | None = None) -> int:
    """Measure every kind of features; gives the exit code."""
    parser = argparse.ArgumentParser(description="Small heads on frozen features.")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds openkbp/ and others")
    parser.add_argument("--samples", type=Path, default=Path.home() / ".cache" / "ct3d" / "samples")
    parser.add_argument("--weights", nargs="*", default=[], help="NAME=FILE, of pretraining")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--train", type=int, default=40, help="patients that heads may learn from")
    parser.add_argument("--held-out", type=int, default=33)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    return ended(lambda: _run(given))


def _run(given):
    material = read(given.data, given.samples, given.train, given.held_out)
    named = {"random": None} | dict(each.split("=", 1) for each in given.weights)
    result = about(given, material)
    for name, file in named.items():
        kept = looks(file, material, given.seeds)
        rows = result["features"][name] = {}
        for task in given.tasks:
            rows[task] = scored(task, kept)
            given.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


def about(given: argparse.Namespace, material: Material) -> dict[str, Any]:
    """What stands beside the scores."""
    return {
        "data": "OpenKBP (expert contours); chests of CIP and slicerio; LIDC-IDRI-0001 (pseudo-labels)",
        "patients": {"learned_from": len(material.own), "scored": len(material.held_out)},
        "tasks": {name: TASKS[name].__doc__.splitlines()[0] for name in given.tasks},
        "seeds": given.seeds,
        "date": date.today().isoformat(),
        "features": {},
    }


def looks(file: str | None, material: Material, seeds: int) -> list[Kept]:
    """One for each seed: nets with random weights differ, a pretrained one is the same each time."""
    if file is None:
        return [Kept(encoder(None, seed), material) for seed in range(seeds)]
    return [Kept(encoder(file, 0), material)] * seeds


def scored(task: str, kept: list[Kept]) -> dict[str, Any]:
    """A task's scores over all seeds, and the seconds that it took, first looks included."""
    started = time.perf_counter()
    found = [TASKS[task](each, seed) for seed, each in enumerate(kept)]
    keys = [key for key in found[0] if all(key in each for each in found)]
    scores = {key: spread([each[key] for each in found]) for key in keys}
    return scores | {"seconds": round(time.perf_counter() - started)}


if __name__ == "__main__":
    raise SystemExit(main())
