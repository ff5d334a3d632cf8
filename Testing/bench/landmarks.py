"""H3DE-Net on one thread: both full-size nets, and the shipped one on a whole case, run in five ways.

CPU seconds hold on a machine that others use too; wall seconds don't. Each way has a process of its own, so
that its peak memory (interpreter and PyTorch included, some 0.3 GB) is its own.
"""

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.scans import SHARED, openkbp_volume
from ct3d.cards import find_weights, load_card
from ct3d.errors import WeightsMissing
from ct3d.imaging.files import read_volume
from ct3d.models.convolutions import Convolution, InstanceNorm, Mix
from ct3d.models.h3denet import AnchorNet, Config, HeatmapNet
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.landmark_net import build_net, load_weights, search
from ct3d.pipeline.onnx_part import OnnxPart, export
from CT3DAssistantLib.samples import sample_scan

FULL_SIZE = {"heatmap_net": HeatmapNet, "anchor_net": AnchorNet}  # 128 x 128 x 64, 14 landmarks
SHAPE = (1, 1, 128, 128, 64)
CARD = "h3denet_headneck"
WAYS = ("eager", "plain", "channels_last", "bf16", "onnx")
REFERENCE_CPU_S = {"heatmap_net": 4.1, "anchor_net": 2.2}  # the released code, the quicker of its times
REFERENCE_GFLOPS = 85.0  # of one thread's fp32 matrix product where they were taken
SIDE = 2048  # of that product
RUNS = 5


def measure() -> dict:
    """Per net and way: CPU and wall seconds, peak memory, and how far its result is from eager's."""
    subjects = (*FULL_SIZE, "shipped_net")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {subject: {way: run(subject, way, folder) for way in WAYS} for subject in subjects}
        for subject, ways in found.items():
            for way, numbers in ways.items():
                numbers["times_eager"] = round(numbers["cpu_s"] / ways["eager"]["cpu_s"], 2)
                numbers["greatest_difference"] = difference(subject, way, folder)
    found["shipped_net"] |= {"weights": weights_of_card()[1], "case": case_path().name}
    return found | {"against_reference": {name: against_reference(name, found[name]) for name in FULL_SIZE}}


def run(subject: str, way: str, folder: Path) -> dict:
    """One measurement in fresh processes; the ONNX file is written in one of its own."""
    if way == "onnx":
        apart(write_onnx, subject, folder)
    return apart(timed, subject, way, folder)


def apart(work: Callable, *arguments) -> dict | None:
    """What a function of this module gives in a new process."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_send, args=(work, arguments, theirs))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    return found


def write_onnx(subject: str, folder: Path) -> None:
    """The subject's net, for the one size of input that it is given."""
    shape = (1, 2, *load_card(CARD).heatmaps.window_kji) if subject == "shipped_net" else SHAPE
    export(net_of(subject), {"x": torch.zeros(shape)}, folder / f"{subject}.onnx")


def timed(subject: str, way: str, folder: Path) -> dict:
    """Seconds of a run after one to warm up, in turns with a matrix product: the speed of the machine."""
    torch.set_num_threads(1)
    seconds, product_s = [], []
    with torch.inference_mode():
        act = task(subject, in_way(way, subject, folder), folder)
        np.save(result_path(subject, way, folder), act())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        square = torch.rand(SIDE, SIDE)
        torch.mm(square, square)
        for _ in range(RUNS):
            product_s.append(clocked(lambda: torch.mm(square, square))[0])
            seconds.append(clocked(act))
    cpu_s, wall_s = zip(*seconds)
    return {
        "cpu_s": round(min(cpu_s), 3),
        "cpu_s_median": round(statistics.median(cpu_s), 3),
        "wall_s": round(min(wall_s), 3),
        "peak_rss_mb": round(peak / 1024),
        "matmul_gflops": round(2 * SIDE**3 / min(product_s) / 1e9, 1),
    }


def task(subject: str, net: nn.Module, folder: Path) -> Callable[[], np.ndarray]:
    """What is timed: a forward pass → maps, or the whole search in a case → points (L, 3), mm."""
    if subject in FULL_SIZE:
        given = torch.from_numpy(np.random.default_rng(0).random(SHAPE, np.float32))
        return lambda: net(given).float().numpy()
    card, volume = load_card(CARD), case()
    return lambda: search(net, card, volume, LocalJob(folder)).points_ras


def in_way(way: str, subject: str, folder: Path) -> nn.Module:
    """The subject's net, so run.

    eager: as the program runs it. plain: PyTorch's own layers and layout, joined maps. channels_last: plain,
    weights and input with channels innermost. bf16: eager in autocast. onnx: eager's export in ONNX Runtime.
    """
    if way == "onnx":
        return OnnxPart(folder / f"{subject}.onnx")
    net = net_of(subject)
    if way in ("plain", "channels_last"):
        for layer in net.modules():
            if isinstance(layer, Convolution | InstanceNorm | Mix):
                layer.fused = False
    if way == "channels_last":
        net = net.to(memory_format=torch.channels_last_3d)
        return Before(net, lambda x: x.contiguous(memory_format=torch.channels_last_3d))
    return Autocast(net) if way == "bf16" else net


class Before(nn.Module):
    """A net whose input is first changed."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.change(x))


class Autocast(nn.Module):
    """A net in bfloat16 where that is safe; its result in float32."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x).float()


def net_of(subject: str) -> nn.Module:
    """Its net, the full-size ones with weights of one seed."""
    torch.manual_seed(0)
    if subject in FULL_SIZE:
        return FULL_SIZE[subject](Config()).eval()
    net, (weights, _) = build_net(load_card(CARD)), weights_of_card()
    return (load_weights(net, weights) if weights else net).eval()


def weights_of_card() -> tuple[Path | None, str]:
    """The shipped weights, and in words which ones are used."""
    with suppress(WeightsMissing):
        if path := find_weights(load_card(CARD)):
            return path, path.name
    return None, "random, of one seed"


def case_path() -> Path:
    """An OpenKBP patient where the data lie beside us, else the demo CT."""
    return next(iter(sorted(SHARED.glob("openkbp/validation/pt_*.npz"))), None) or sample_scan(
        "lidc_idri_0001"
    )


def case():
    """The volume of that case."""
    path = case_path()
    return openkbp_volume(path) if path.suffix == ".npz" else read_volume(path)[0]


def difference(subject: str, way: str, folder: Path) -> float:
    """Greatest from eager's: in a map's value, or of a landmark's place in mm."""
    ours, eager = (np.load(result_path(subject, each, folder)) for each in (way, "eager"))
    off = np.abs(ours - eager) if subject in FULL_SIZE else np.linalg.norm(ours - eager, axis=1)
    return float(f"{off.max():.1e}")


def against_reference(name: str, ways: dict) -> dict:
    """Eager's CPU seconds beside those that the released code would take at this machine's speed."""
    gflops, ours = ways["eager"]["matmul_gflops"], ways["eager"]["cpu_s"]
    predicted = REFERENCE_CPU_S[name] * REFERENCE_GFLOPS / gflops
    return {
        "predicted_cpu_s": round(predicted, 2),
        "ours_cpu_s": ours,
        "times_fewer": round(predicted / ours, 2),
        "times_fewer_by_the_median": round(predicted / ways["eager"]["cpu_s_median"], 2),
    }


def clocked(act: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of an action."""
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return time.process_time() - cpu, time.perf_counter() - wall


def result_path(subject: str, way: str, folder: Path) -> Path:
    """Where that way's result lies meanwhile."""
    return folder / f"{subject}_{way}.npy"


def _send(work, arguments, pipe):
    pipe.send(work(*arguments))
    pipe.close()


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
