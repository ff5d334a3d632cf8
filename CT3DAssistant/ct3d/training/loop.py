"""One plain training run: step, average, log, save; a resumed run goes on bit for bit as if never stopped.

Over several processes (torch.distributed) gradients are averaged, and the first process alone writes.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ct3d.training.distributed import average_gradients, rank

STATE, PLACE, CURVE = "state.safetensors", "state.json", "curve.jsonl"


@dataclass(frozen=True)
class Schedule:
    """How long, how fast.

    The rate rises over `warm_up` steps and falls to 0 along a cosine. H3DE-Net's own schedule (Adam 1e-3,
    x 0.98 an epoch, batch 4, 200 epochs) is for a GPU and ten times the samples.
    """

    steps: int
    batch: int = 2
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 5e-4
    warm_up: int = 100
    average: float = 0.998  # of the running mean of the weights, which is what is kept in the end; 0: none
    average_from: float = 0.4  # share of the steps after which it runs; until then it is the net itself
    largest_gradient: float = 1.0  # norm
    accumulate: int = 1  # batches whose gradients make one step
    is_bf16: bool = True

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class Run:
    """A net on its way.

    Args:
        net: moved nowhere; trained where it lies. Parameters without a gradient stay as they are, and are
            not in the state.
        loss_of: batch → its loss; all its chance must come from that number, or from torch's generator where
            there is a seed. A step has `accumulate` batches.
        folder: where state and curve are kept; a state that lies there is gone on from.
        seed: of torch's generator, set anew for every batch (dropout); None: it is left alone.
    """

    def __init__(
        self,
        net: nn.Module,
        loss_of: Callable[[int], Tensor],
        schedule: Schedule,
        folder: Path,
        *,
        seed: int | None = None,
    ):
        self.net, self.loss_of, self.schedule, self.folder = net, loss_of, schedule, Path(folder)
        self.seed = seed
        self.trained = {name: each for name, each in net.named_parameters() if each.requires_grad}
        self.average = None
        if schedule.average:
            self.average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(schedule.average))
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), schedule.learning_rate, schedule.betas, weight_decay=schedule.weight_decay
        )
        self.step = 0
        self.seconds = 0.0  # at work, over all sittings
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / PLACE).is_file():
            self._resume()

    def go(self, until: int, *, log_every: int = 25, save_every: int = 250) -> None:
        """Train up to a step."""
        losses, began = [], time.perf_counter()
        while self.step < until:
            losses.append(self._one())
            if self.step % log_every == 0:
                self.log(loss=sum(losses) / len(losses), rate=self.schedule.rate(self.step - 1))
                losses.clear()
            if self.step % save_every == 0 or self.step == until:
                now = time.perf_counter()
                self.seconds, began = self.seconds + now - began, now
                self.save()

    def log(self, **values: float) -> None:
        """A line of the curve."""
        if rank():
            return
        line = {"step": self.step, **{name: round(value, 6) for name, value in values.items()}}
        with (self.folder / CURVE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Keep everything that the next step depends on."""
        if rank():
            return
        parts = {"net": self._changing()}
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
        for n, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{n}.{name}": value for name, value in state.items()}
        part = self.folder / f"{STATE}.part"
        save_file({name: value.contiguous() for name, value in tensors.items()}, part)
        part.replace(self.folder / STATE)
        place = {"step": self.step, "seconds": round(self.seconds, 1)}
        (self.folder / PLACE).write_text(json.dumps(place), encoding="utf-8")

    def _changing(self) -> dict[str, Tensor]:
        """Of the net's state what training changes: trained parameters, and buffers."""
        fixed = {name for name, _ in self.net.named_parameters(remove_duplicate=False)} - self.trained.keys()
        return {name: value for name, value in self.net.state_dict().items() if name not in fixed}

    def _one(self) -> float:
        rate = self.schedule.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.net.train()
        loss = sum(
            self._learn(self.step * self.schedule.accumulate + n) for n in range(self.schedule.accumulate)
        )
        average_gradients(self.trained.values())
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.schedule.largest_gradient)
        if norm.isfinite():
            self.optimizer.step()
        else:
            self.log(skipped=1)  # bfloat16 overflowed somewhere; the weights stay as they are
        self.optimizer.zero_grad(set_to_none=True)
        self._average()
        self.step += 1
        return loss.item()

    def _learn(self, batch: int) -> Tensor:
        """Add a batch's gradients; gives its share of the step's loss."""
        if self.seed is not None:
            chance = np.random.SeedSequence((self.seed, batch, rank()))
            torch.manual_seed(int(chance.generate_state(1)[0]))
        loss = self.loss_of(batch) / self.schedule.accumulate
        loss.backward()
        return loss.detach()

    def _average(self) -> None:
        if self.average is None:
            return
        if self.step < self.schedule.average_from * self.schedule.steps:
            self.average.n_averaged.zero_()  # the next update copies
        self.average.update_parameters(self.net)

    def _resume(self) -> None:
        place = json.loads((self.folder / PLACE).read_text(encoding="utf-8"))
        self.step, self.seconds = place["step"], place["seconds"]
        tensors = load_file(self.folder / STATE)
        self.net.load_state_dict({**self.net.state_dict(), **_part(tensors, "net")})
        if self.average is not None:
            self.average.load_state_dict(_part(tensors, "average"))
        state = self.optimizer.state_dict()
        for name, value in _part(tensors, "optimizer").items():
            n, _, word = name.partition(".")
            state["state"].setdefault(int(n), {})[word] = value
        self.optimizer.load_state_dict(state)
        self._trim_curve()

    def _trim_curve(self) -> None:
        """Forget what was logged after the last save: it will be done again."""
        if rank():
            return
        path = self.folder / CURVE
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
