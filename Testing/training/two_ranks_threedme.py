"""One of two processes that pretrain together: two_ranks_threedme.py RANK FOLDER.

Writes the loss and the parameters' gradients, averaged over ranks, to FOLDER/RANK.safetensors; then trains
into FOLDER/run. `problem` and `run` are what both processes, and the single one of the test, are given.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from test_pretraining import SMALL

from ct3d.training.corpus import Corpus, Study, as_bytes
from ct3d.training.distributed import average_gradients
from ct3d.training.loop import Schedule
from ct3d.training.train_threedme import Pretrained, Recipe, Weight, config_of, losses, sampler_of, train
from ct3d.training.views import Layout, Views

RECIPE = Recipe(
    seed=5,
    schedule=Schedule(4, warm_up=1, is_bf16=False, average=0.5, average_from=0.2),
    config=SMALL,
    layouts=(
        Layout((32, 32, 32), views=3, studies=4),
        Layout((32, 32, 32), views=1, studies=4),  # which leaves heads of pairs without a gradient
    ),
    weight=Weight(bands=1.0),
    evaluate_every=1,
)


def corpus() -> Corpus:
    """Two synthetic bodies of different size, so that no two studies have as much body."""
    studies = []
    for n, shape in enumerate(((96, 50, 60), (60, 40, 44))):
        k, j, i = np.indices(shape)
        studies.append(
            Study(f"synthetic/{n}", as_bytes(-300 + 3 * k + j + i, i > 9), np.full(3, 4.0), bool(n))
        )
    return Corpus(studies)


def problem() -> tuple[Pretrained, Views]:
    """A tiny net and a step's views."""
    torch.manual_seed(0)
    return Pretrained(config_of(RECIPE)), sampler_of(RECIPE, corpus()).sample(7, RECIPE.layouts[0], 0.5)


def learned(net: Pretrained, views: Views) -> dict[str, torch.Tensor]:
    """The parts of a step's loss, and every parameter's gradient."""
    parts = losses(net, views, RECIPE)
    sum(parts.values()).backward()
    named = dict(net.named_parameters())
    average_gradients(named.values())
    gradients = {name: each.grad for name, each in named.items() if each.grad is not None}
    return gradients | {name: each.detach() for name, each in parts.items()}


def run(folder: Path) -> None:
    """A few steps, each with an evaluation."""
    train(RECIPE, corpus(), corpus(), folder)


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    save_file(learned(*problem()), folder / f"{rank}.safetensors")
    run(folder / "run")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
