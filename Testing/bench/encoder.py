"""What a look of the shared encoder costs: a forward pass beside peers, and its graph branch as volumes grow.

Profile "tiny" with random weights of one seed, fp32. CPU seconds hold on a machine that others use too, wall
seconds don't; all nets of a process take turns, so that what else runs slows all alike. Peak memory is
of a process of its own for each net, what the bench itself imports included (no_net).
Peers: a plain ViT of the same width, depth and patches, out of PyTorch's own layers, and MONAI's 3D ResNet-10
down to its last map at stride 16. MONAI's own transformers need einops, which isn't pinned here.
"""

import json
import os
import resource
import statistics
from collections.abc import Callable

import torch
from monai.networks.nets import resnet10
from torch import Tensor, nn

from bench.hsenet import machine
from bench.landmarks import apart, clocked
from ct3d.models.layers import Size3
from ct3d.models.threedme import PATCH, Config, Encoder

SIZE: Size3 = (64, 96, 96)  # voxels along D, H, W
GRAPH_SIZES: tuple[Size3, ...] = ((32, 48, 48), (64, 96, 96), (64, 192, 192))
THREADS = (1, 2)
RUNS = 9
SPACING_MM = torch.full((1, 3), 3.0)


def measure() -> dict:
    """By threads, CPU and wall seconds of each net; peak memory of each; the graph branch by size."""
    found = {"machine": apart(machine) | {"runs": RUNS}}
    for threads in THREADS:
        found[f"forward_threads_{threads}"] = beside_ours(apart(forward, threads))
    found["graph_threads_1"] = by_voxel(apart(graph))  # with two, small volumes cost little but waiting
    found["peak_rss_mb"] = {name: apart(peak_mb, name) for name in ("no_net", *NETS)}
    return found | {"load_average_after": os.getloadavg()[0]}


class Vit(nn.Module):
    """Patches, learned places, pre-norm blocks: (B, 1, D, H, W) → (B, N, dim)."""

    def __init__(self):
        super().__init__()
        config = Config()
        block = nn.TransformerEncoderLayer(
            config.dim,
            config.heads,
            4 * config.dim,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.patches = nn.Conv3d(1, config.dim, PATCH, PATCH)
        self.places = nn.Parameter(torch.zeros(1, cells(SIZE), config.dim))
        norm = nn.LayerNorm(config.dim)
        self.blocks = nn.TransformerEncoder(block, config.depth, norm, enable_nested_tensor=False)

    def forward(self, volume: Tensor) -> Tensor:
        return self.blocks(self.patches(volume).flatten(2).transpose(1, 2) + self.places)


class Ours(nn.Module):
    """The shared encoder at 3 mm."""

    def __init__(self):
        super().__init__()
        self.net = Encoder()

    def forward(self, volume: Tensor) -> Tensor:
        return self.net(volume, SPACING_MM).f8


class Resnet(nn.Module):
    """MONAI's ResNet-10 with a first step of 2 along all axes, without its head."""

    def __init__(self):
        super().__init__()
        self.net = resnet10(n_input_channels=1, conv1_t_stride=2, feed_forward=False)

    def forward(self, volume: Tensor) -> Tensor:
        return self.net(volume)


NETS: dict[str, Callable[[], nn.Module]] = {"ours": Ours, "vit": Vit, "monai_resnet10": Resnet}


def forward(threads: int) -> dict:
    """Name → seconds of every net's forward pass."""
    volume = torch.rand(1, 1, *SIZE)
    nets = {name: built(name) for name in NETS}
    acts = {name: lambda net=net: net(volume) for name, net in nets.items()}
    return in_turns(acts, threads) | {
        "millions_of_numbers": {name: millions(each) for name, each in nets.items()}
    }


def graph() -> dict:
    """Size → seconds of the graph branch alone."""
    net = built("ours").net
    volumes = {"x".join(map(str, size)): torch.rand(1, 1, *size) for size in GRAPH_SIZES}
    return in_turns({name: lambda each=each: net.local(each) for name, each in volumes.items()}, 1)


def in_turns(acts: dict[str, Callable[[], object]], threads: int) -> dict:
    """Median and least CPU seconds, median wall seconds of each act, after one to warm up."""
    torch.set_num_threads(threads)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in acts}
    with torch.inference_mode():
        for turn in range(RUNS + 1):
            for name, act in acts.items():
                taken = clocked(act)
                if turn:
                    seconds[name].append(taken)
    return {name: numbers(*zip(*each)) for name, each in seconds.items()}


def numbers(cpu_s: tuple[float, ...], wall_s: tuple[float, ...]) -> dict:
    """Of the runs."""
    return {
        "cpu_s": round(statistics.median(cpu_s), 3),
        "cpu_s_least": round(min(cpu_s), 3),
        "wall_s": round(statistics.median(wall_s), 3),
    }


def beside_ours(found: dict) -> dict:
    """How many of our CPU seconds each peer takes."""
    for name in NETS:
        found[name]["times_ours"] = round(found[name]["cpu_s"] / found["ours"]["cpu_s"], 2)
    return found


def by_voxel(found: dict) -> dict:
    """CPU seconds for a million voxels at each size, and the largest size's beside the smallest's."""
    for size, each in zip(GRAPH_SIZES, found.values()):
        each["cpu_s_per_million_voxels"] = round(each["cpu_s"] / (cells(size) * PATCH**3 / 1e6), 3)
    costs = [each["cpu_s_per_million_voxels"] for each in found.values()]
    return found | {"largest_to_smallest": round(costs[-1] / costs[0], 2)}


def peak_mb(name: str) -> int:
    """Of a process that makes one net and looks once, or that has none."""
    torch.set_num_threads(THREADS[-1])
    if name in NETS:
        with torch.inference_mode():
            built(name)(torch.rand(1, 1, *SIZE))
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def built(name: str) -> nn.Module:
    """Its net with weights of one seed."""
    torch.manual_seed(0)
    return NETS[name]().eval()


def cells(size: Size3) -> int:
    """Patches of a volume."""
    return size[0] * size[1] * size[2] // PATCH**3


def millions(net: nn.Module) -> float:
    """Numbers in a net."""
    return round(sum(each.numel() for each in net.parameters()) / 1e6, 2)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
