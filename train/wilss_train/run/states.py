"""The state of a training run on disk: all that is needed to resume with the same bits, the last two kept.

    state/step-000120/networks.safetensors    weights and statistics of all trained networks
                      optimiser.pt            momentum and what the log has summed up; loads with `weights_only`
                      state.json              where it stands, and digests of the two files

A state is written under a temporary name, fsynced and renamed, so there is never half of one under its own name.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from wilss.digests import digest_of_file
from wilss.disk import BUILDING_SUFFIX, built_beside, remove_tree
from wilss.errors import CheckpointError, first_line

from ..run_folder import writing_to

_KEPT = 2
_NETWORKS, _OPTIMISER, _FACTS = "networks.safetensors", "optimiser.pt", "state.json"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """step: optimiser steps taken. networks: state dict of what is trained. optimiser: its state dict and others."""

    step: int
    networks: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]


def save_state(folder: Path, state: TrainingState) -> Path:
    """Write a state below `folder` and remove all but the last two.

    Raises CheckpointError where it cannot be written; then the older ones are intact.
    """
    path = folder / _name_of(state.step)
    with writing_to(path), built_beside(path) as building:
        building.mkdir()
        _write(building, state)
    for old in _paths(folder)[:-_KEPT]:
        remove_tree(old)
    return path


def _write(building: Path, state: TrainingState) -> None:
    from safetensors.torch import save

    networks = {name: tensor.detach().cpu().contiguous() for name, tensor in state.networks.items()}
    (building / _NETWORKS).write_bytes(save(networks))
    optimiser = io.BytesIO()
    torch.save(dict(state.optimiser), optimiser)  # to a file it would raise no OSError on a full disk
    (building / _OPTIMISER).write_bytes(optimiser.getbuffer())
    digests = {name: digest_of_file(building / name) for name in (_NETWORKS, _OPTIMISER)}
    (building / _FACTS).write_text(json.dumps({"step": state.step, "sha256": digests}), encoding="utf-8")


def latest_state(folder: Path) -> TrainingState | None:
    """The newest state that is whole; None where there is none at all.

    Raises CheckpointError where there are states and none of them is whole.
    """
    for left_over in folder.glob(f"*{BUILDING_SUFFIX}"):
        remove_tree(left_over)
    paths = _paths(folder)
    problems = []
    for path in reversed(paths):
        try:
            return _load(path)
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            RuntimeError,
            UnpicklingError,
            CheckpointError,
            OverflowError,
        ) as error:
            problems.append(f"{path}: {first_line(error)}")
    if problems:
        raise CheckpointError(f"no saved state is whole ({problems[0]}); start again with --overwrite.")
    return None


def _load(path: Path) -> TrainingState:
    from safetensors.torch import load_file

    facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
    if path.name != _name_of(int(facts["step"])):
        raise CheckpointError(f"{_FACTS} speaks of step {facts['step']}")
    for name in (_NETWORKS, _OPTIMISER):
        if digest_of_file(path / name) != facts["sha256"][name]:
            raise CheckpointError(f"{name} does not match its digest")
    return TrainingState(
        step=int(facts["step"]),
        networks=load_file(path / _NETWORKS),
        optimiser=torch.load(path / _OPTIMISER, weights_only=True, map_location="cpu"),
    )


def _name_of(step: int) -> str:
    return f"step-{step:09d}"


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if not path.suffix)


def latest_step(folder: Path) -> int:
    """The step of the state that `latest_state` gives; 0 where there is none."""
    state = latest_state(folder)
    return 0 if state is None else state.step
