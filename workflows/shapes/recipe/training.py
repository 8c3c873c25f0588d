"""What the recipes share: optimisers, schedule, and a run that can stop anywhere and go on."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

#: What a checkpoint says about its making: command, batch, threads.
Facts = dict[str, str | int]


def optimisers(networks: Iterable[nn.Module], blocks: Iterable[nn.Module], lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the transformer blocks, AdamW for everything else."""
    inside = {id(p) for block in blocks for p in block.parameters() if p.ndim == 2}
    trained = [p for network in networks for p in network.parameters() if p.requires_grad]
    matrices = [p for p in trained if id(p) in inside]
    decayed = [p for p in trained if id(p) not in inside and p.ndim >= 2]
    plain = [p for p in trained if p.ndim < 2]
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
        lr=lr,
        betas=(0.9, 0.98),
    )
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    return [muon, adamw]


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, a plateau, and a linear way to zero over the last three tenths.

    The plateau does not depend on `steps`: a run may be shortened or prolonged while it is there.
    """
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / (0.3 * steps))


@dataclass
class Run:
    """A training run: what is saved, how long it is, where it stands; `facts` go into the checkpoint as they are."""

    path: Path
    networks: dict[str, nn.Module]
    optimisers: list[torch.optim.Optimizer]
    steps: int
    peak_lr: float
    facts: Facts
    step: int = 0
    seconds: float = 0.0

    def resume(self) -> None:
        """Continue from the checkpoint at `path`, if there is one."""
        if not self.path.exists():
            return
        saved = torch.load(self.path, weights_only=True)
        for name, network in self.networks.items():
            network.load_state_dict(saved["networks"][name])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.step, self.seconds = saved["step"], saved["seconds"]
        print(f"resumed at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint by rename, so that a kill leaves the former one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
            "facts": self.facts,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def train(self, loss_of: Callable[[int], Tensor], save_every: float = 120.0) -> None:
        """Take the remaining steps; `loss_of(step)` makes a batch and returns its loss."""
        started = saved = time.perf_counter()
        before = self.seconds
        running = float("nan")
        while self.step < self.steps:
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(self.step, self.steps, self.peak_lr)
                optimiser.zero_grad(set_to_none=True)
            loss = loss_of(self.step)
            loss.backward()  # type: ignore[no-untyped-call]
            for optimiser in self.optimisers:
                optimiser.step()
            self.step += 1
            self.seconds = before + time.perf_counter() - started
            running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
            if self.step % 50 == 0:
                print(f"step {self.step}/{self.steps}  loss {running:.4f}  {self.seconds:.0f} s", flush=True)
            if time.perf_counter() - saved > save_every:
                self.save()
                saved = time.perf_counter()
        self.save()
