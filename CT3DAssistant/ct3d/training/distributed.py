"""One batch over several processes: features of all ranks, with their gradients."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Which of the processes this is; 0 where there is one."""
    return dist.get_rank() if _are_many() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _are_many() else 1


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Give every rank the mean of all ranks' gradients, in place; nothing where there is one process.

    A parameter that has none on this rank counts as 0; one that has none on any rank is left without.
    """
    if not _are_many():
        return
    parameters = list(parameters)
    counts = torch.tensor([float(each.grad is not None) for each in parameters], device=parameters[0].device)
    dist.all_reduce(counts)
    for each in (each for each, count in zip(parameters, counts.tolist()) if count):
        if each.grad is None:
            each.grad = torch.zeros_like(each)
        dist.all_reduce(each.grad)
        each.grad /= dist.get_world_size()


def _are_many() -> bool:
    return dist.is_available() and dist.is_initialized()


def gather(features: Tensor) -> Tensor:
    """(B, dim) of this rank → (ranks · B, dim) of all ranks in their order; every rank needs as many.

    Gradients flow back to the rank that a feature came from, summed over the ranks' losses. Where every rank
    computes the loss of the whole batch, and parameters' gradients are averaged over ranks afterwards (as
    DistributedDataParallel does), they equal those of one process with the whole batch. Without a process
    group the features are given back.

    The reference's option of local labels, wrong on every rank but the first, is left out.
    """
    if not _are_many():
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
