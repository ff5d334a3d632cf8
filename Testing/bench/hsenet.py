"""HSENet's encoders and packer at native size, each run in four ways, and how soon a question is answered.

Weights are random, of one seed: the published ones are not needed for speed. Each way has a process of its
own, so that its peak memory (interpreter and PyTorch included, some 0.4 GB) is its own. All take turns, so
that what else runs on the machine slows all of them alike; CPU seconds hold on such a machine, wall seconds
don't. bfloat16 takes part in one round only: where the processor has none, it takes many times longer.
"""

import json
import multiprocessing
import os
import resource
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench import follow_up
from bench.landmarks import apart, clocked
from ct3d.models.hsenet import (
    Encoder,
    EncoderConfig,
    GuidedEncoder,
    PackerConfig,
    SpatialPacker,
    build_packer,
)
from ct3d.pipeline.hsenet_onnx import export_part
from ct3d.pipeline.onnx_part import OnnxPart

SUBJECTS = ("global_encoder", "guided_encoder", "packer")
WAYS = ("explicit", "ours", "bf16", "onnx")
THREADS = (1, 2)
RUNS = {"global_encoder": 3, "guided_encoder": 3, "packer": 15}
SLICES = 32
SIDE = 2048  # of the matrix product that tells the speed of the machine
SIZES = EncoderConfig()


def measure() -> dict:
    """Per net, number of threads and way: CPU and wall seconds, peak memory, how far the result is off."""
    found: dict = {"machine": apart(machine)}
    with tempfile.TemporaryDirectory() as name:
        for subject in SUBJECTS:
            apart(write_onnx, subject, Path(name))
            found[subject] = {f"threads_{n}": side_by_side(subject, n, Path(name)) for n in THREADS}
    return found | {"follow_up": follow_up.measure(), "load_average_after": os.getloadavg()[0]}


def side_by_side(subject: str, threads: int, folder: Path) -> dict:
    """All ways of one net, in turns."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for way in WAYS:
        pipes[way], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=serve, args=(subject, way, threads, folder, theirs)))
        processes[-1].start()
        pipes[way].recv()  # it is warm
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for turn in range(RUNS[subject]):
        for way, pipe in pipes.items():
            if turn == 0 or way != "bf16":
                pipe.send("run")
                seconds[way].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send("end")
    found = {way: pipes[way].recv() | numbers(seconds[way]) for way in WAYS}
    for process in processes:
        process.join()
    return {way: each | beside_explicit(each, found, subject, way, folder) for way, each in found.items()}


def serve(subject: str, way: str, threads: int, folder: Path, pipe) -> None:
    """Run a net once to warm up, then whenever told; at the end give the peak memory."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        net, given = in_way(way, subject, folder), inputs(subject)

        def act():
            return net(*given)

        np.save(result_path(subject, way, folder), act().float().numpy())
        pipe.send("warm")
        while pipe.recv() == "run":
            pipe.send(clocked(act))
    pipe.send({"peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)})


def in_way(way: str, subject: str, folder: Path) -> nn.Module:
    """The net, so run.

    explicit: attention as the paper's code has it, written here: every weight of it lies in memory, and a
    window's tokens all go through the maps of keys and values. ours: as the program runs it. bf16: ours in
    autocast. onnx: ours in ONNX Runtime.
    """
    if way == "onnx":
        return OnnxPart(folder / f"{subject}.onnx")
    net = net_of(subject)
    if way == "explicit":
        for block in getattr(net, "blocks", ()):
            block.attention = ExplicitAttention(block.attention)
        for name in ("reader", "guide"):
            if hasattr(net, name):
                setattr(net, name, ExplicitReader(getattr(net, name)))
    return Autocast(net) if way == "bf16" else net


class ExplicitAttention(nn.Module):
    """Self-attention of (B, N, dim): softmax(q k / sqrt(d)) v, heads side by side; no bias in q, k and v."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.heads, self.qkv, self.out = ours.heads, ours.qkv, ours.out

    def forward(self, x: Tensor) -> Tensor:
        batch, count, dim = x.shape
        split = self.qkv(x).reshape(batch, count, 3, self.heads, dim // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (dim // self.heads) ** -0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, count, dim))


class ExplicitReader(nn.Module):
    """Single-head attention of queries to values, the projected query added to what was read."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.query, self.key, self.value = ours.query, ours.key, ours.value
        self.output, self.norm = ours.output, ours.norm

    def forward(self, queries: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        asked = self.query(queries)
        logits = asked @ self.key(values).transpose(-1, -2)
        weights = (logits * asked.shape[-1] ** -0.5).softmax(-1)
        return self.norm(asked + self.output(weights @ self.value(values))), weights


class Autocast(nn.Module):
    """A net in bfloat16 where that is safe."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, *given) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(*given)


def net_of(subject: str) -> Encoder | SpatialPacker:
    """Its net with weights of one seed."""
    torch.manual_seed(0)
    if subject == "packer":
        return build_packer(PackerConfig()).eval()
    return (GuidedEncoder if subject == "guided_encoder" else Encoder)(SIZES).eval()


def inputs(subject: str) -> tuple:
    """What the net is given, of one seed."""
    chance = torch.Generator().manual_seed(0)
    if subject == "packer":
        d, h, w = SIZES.grid
        return torch.randn(1, d * h * w, SIZES.dim, generator=chance), SIZES.grid
    volume = torch.rand(1, SIZES.channels, *SIZES.image_size, generator=chance)
    return volume, torch.randn(1, SLICES, SIZES.dim, generator=chance)


def write_onnx(subject: str, folder: Path) -> None:
    """The net's file."""
    export_part(net_of(subject), SIZES, folder / f"{subject}.onnx")


def numbers(seconds: list[tuple[float, float]]) -> dict:
    """Of (CPU, wall) seconds of the runs."""
    cpu_s, wall_s = zip(*seconds)
    return {
        "cpu_s": round(statistics.median(cpu_s), 3),
        "cpu_s_least_most": [round(min(cpu_s), 3), round(max(cpu_s), 3)],
        "wall_s": round(statistics.median(wall_s), 3),
    }


def beside_explicit(one: dict, all_: dict, subject: str, way: str, folder: Path) -> dict:
    """How many times fewer CPU seconds than explicit attention, and the greatest difference of results."""
    ours, theirs = (np.load(result_path(subject, each, folder)) for each in (way, "explicit"))
    return {
        "times_fewer_cpu_s": round(all_["explicit"]["cpu_s"] / one["cpu_s"], 2),
        "relative_difference": float(f"{np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}"),
    }


def machine() -> dict:
    """What it was measured on, and what else ran there."""
    torch.set_num_threads(1)
    square = torch.rand(SIDE, SIDE)
    product_s = min(clocked(lambda: torch.mm(square, square))[0] for _ in range(6))
    able = torch.cpu.get_capabilities()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_average_before": os.getloadavg()[0],
        "matmul_gflops_one_thread": round(2 * SIDE**3 / product_s / 1e9, 1),
        "has_avx512": bool(able.get("avx512_f")),
        "has_bfloat16": bool(able.get("avx512_bf16") or able.get("amx_bf16")),  # else bf16 is emulated
        "torch": torch.__version__,
        "runs": RUNS,
    }


def result_path(subject: str, way: str, folder: Path) -> Path:
    """Where that way's result lies meanwhile."""
    return folder / f"{subject}_{way}.npy"


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
