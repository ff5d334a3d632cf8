"""One plain training run: step, average, log, save; a resumed run goes on bit for bit as if never stopped."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
    average: float = 0.998  # of the running mean of the weights, which is what is kept in the end
    average_from: float = 0.4  # share of the steps after which it runs; until then it is the net itself
    largest_gradient: float = 1.0  # norm
    is_bf16: bool = True

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class Run:
    """A net on its way.

    Args:
        net: moved nowhere; trained where it lies.
        loss_of: step → the loss of that step's batch; all its chance must come from the step.
        folder: where state and curve are kept; a state that lies there is gone on from.
    """

    def __init__(self, net: nn.Module, loss_of: Callable[[int], Tensor], schedule: Schedule, folder: Path):
        self.net, self.loss_of, self.schedule, self.folder = net, loss_of, schedule, Path(folder)
        self.average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(schedule.average))
        self.optimizer = torch.optim.AdamW(
            net.parameters(), schedule.learning_rate, schedule.betas, weight_decay=schedule.weight_decay
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
        line = {"step": self.step, **{name: round(value, 6) for name, value in values.items()}}
        with (self.folder / CURVE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Keep everything that the next step depends on."""
        parts = {"net": self.net.state_dict(), "average": self.average.state_dict()}
        tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
        for n, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{n}.{name}": value for name, value in state.items()}
        part = self.folder / f"{STATE}.part"
        save_file({name: value.contiguous() for name, value in tensors.items()}, part)
        part.replace(self.folder / STATE)
        place = {"step": self.step, "seconds": round(self.seconds, 1)}
        (self.folder / PLACE).write_text(json.dumps(place), encoding="utf-8")

    def _one(self) -> float:
        rate = self.schedule.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.net.train()
        loss = self.loss_of(self.step)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.largest_gradient)
        if norm.isfinite():
            self.optimizer.step()
        else:
            self.log(skipped=1)  # bfloat16 overflowed somewhere; the weights stay as they are
        self.optimizer.zero_grad(set_to_none=True)
        if self.step < self.schedule.average_from * self.schedule.steps:
            self.average.n_averaged.zero_()  # the next update copies
        self.average.update_parameters(self.net)
        self.step += 1
        return loss.item()

    def _resume(self) -> None:
        place = json.loads((self.folder / PLACE).read_text(encoding="utf-8"))
        self.step, self.seconds = place["step"], place["seconds"]
        tensors = load_file(self.folder / STATE)
        self.net.load_state_dict(_part(tensors, "net"))
        self.average.load_state_dict(_part(tensors, "average"))
        state = self.optimizer.state_dict()
        for name, value in _part(tensors, "optimizer").items():
            n, _, word = name.partition(".")
            state["state"].setdefault(int(n), {})[word] = value
        self.optimizer.load_state_dict(state)
        self._trim_curve()

    def _trim_curve(self) -> None:
        """Forget what was logged after the last save: it will be done again."""
        path = self.folder / CURVE
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
