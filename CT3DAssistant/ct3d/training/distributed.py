"""One batch over several processes: features of all ranks, with their gradients."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather(features: Tensor) -> Tensor:
    """(B, dim) of this rank → (ranks · B, dim) of all ranks in their order; every rank needs as many.

    Gradients flow back to the rank that a feature came from, summed over the ranks' losses. Where every rank
    computes the loss of the whole batch, and parameters' gradients are averaged over ranks afterwards (as
    DistributedDataParallel does), they equal those of one process with the whole batch. Without a process
    group the features are given back.

    The reference's option of local labels, wrong on every rank but the first, is left out.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return features
    return _Gather.apply(features)


class _Gather(torch.autograd.Function):
    """all_gather whose backward sums what all ranks have to say to this rank's part."""

    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        ctx.count = len(features)
        parts = [torch.empty_like(features) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        first = dist.get_rank() * ctx.count
        return gradient[first : first + ctx.count]
