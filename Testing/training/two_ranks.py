"""One of two processes that share a batch: two_ranks.py RANK FOLDER.

Writes the loss and the parameters' gradients, averaged over ranks, to FOLDER/RANK.safetensors. `problem` is
what both processes, and the single one of the test, are given.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from ct3d.models.hsenet import EncoderConfig
from ct3d.models.hsenet_clip import ClipConfig, Contrastive, Stage2
from ct3d.training.distributed import gather

ENCODER = EncoderConfig((4, 16, 16), (2, 8, 8), 1, 16, 1, 2, 24)
TEXT = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT |= {"intermediate_size": 24, "max_position_embeddings": 16}
BATCH, STEP = 6, 1000


def problem() -> tuple[Stage2, tuple[torch.Tensor, ...]]:
    """A tiny stage 2 in double precision and evaluation, and a batch: volume, slices, ids, mask."""
    torch.manual_seed(0)
    student, teacher = (Contrastive(ClipConfig(ENCODER, guided, TEXT)) for guided in (True, False))
    volume, slices = torch.rand(BATCH, 1, 4, 16, 16), torch.rand(BATCH, 5, 16)
    ids = torch.randint(0, 32, (BATCH, 7))
    batch = volume.double(), slices.double(), ids, torch.ones_like(ids)
    return Stage2(student.double(), teacher.double()).eval(), batch


def main(rank: int, folder: Path) -> None:
    """Half of the batch."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model, batch = problem()
    half = [each[rank * BATCH // 2 : (rank + 1) * BATCH // 2] for each in batch]
    loss = model(*half, step=STEP, gather=gather)
    loss.backward()
    found = {"loss": loss.detach()}
    for name, each in model.student.named_parameters():
        if each.grad is not None:
            dist.all_reduce(each.grad)
            found[name] = each.grad / 2
    save_file(found, folder / f"{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
