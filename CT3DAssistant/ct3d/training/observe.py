"""A pretraining run to look at: the three figures of `watch` about one held-out CT, and the curve as events.

Apart from train_threedme, because not every machine that trains has SimpleITK, matplotlib and tensorboard.
"""

import copy
import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from ct3d.imaging.volume import Volume
from ct3d.models.threedme import HIGH_HU
from ct3d.pipeline.whereabouts import whereabouts
from ct3d.training.corpus import Corpus, from_bytes
from ct3d.training.loop import CURVE
from ct3d.training.watch import draw

FIGURES, EVENTS = "watch", "tensorboard"


def observe(net: nn.Module, held_out: Corpus, out: Path, *, since: int, step: int) -> None:
    """Draw how well a net knows where it is in the first held-out CT, and hand all to TensorBoard.

    PNGs go to watch/STEP of the run's folder. Events in its tensorboard: every line of the curve by its own
    names, the figures and what they tell as watch/NAME.

    Args:
        net: with encoder and spatial head; a copy in the processor's memory looks.
        out: the run's folder.
        since: up to which step events are there already; later ones, of a run that was stopped, become void.
        step: where the run is.
    """
    found = whereabouts(volume_of(held_out, 0), copy.deepcopy(net).cpu().eval())
    folder = out / FIGURES / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(out / EVENTS), purge_step=since + 1) as board:
        for file in map(Path, draw(found, folder)):
            board.add_image(f"{FIGURES}/{file.stem}", plt.imread(file), step, dataformats="HWC")
        for name, value in found.scores().items():
            board.add_scalar(f"{FIGURES}/{name}", value, step)
        for line in _curve(out / CURVE, since):
            at = line.pop("step")
            for name, value in line.items():
                board.add_scalar(name, value, at)


def volume_of(corpus: Corpus, n: int) -> Volume:
    """A study of a corpus in HU; air outside the body."""
    hu = HIGH_HU * from_bytes(corpus.voxels[n, 0].cpu()).numpy()
    return Volume(np.rint(hu).astype(np.int16), np.diag([*corpus.spacing_mm[n, ::-1].astype(float), 1.0]))


def _curve(path: Path, since: int) -> list[dict[str, float]]:
    """Lines of steps after `since`."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["step"] > since]
