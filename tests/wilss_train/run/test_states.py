"""Saved states: whole or not there, the last two kept, the one before where the newest is damaged."""

import shutil
from pathlib import Path

import pytest
import torch

from wilss.digests import digest_of_file
from wilss.disk import files
from wilss.errors import CheckpointError
from wilss_train.run.states import TrainingState, latest_state, latest_step, save_state

FILES = ("networks.safetensors", "optimiser.pt", "state.json")


def state(step: int) -> TrainingState:
    networks = {"weight": torch.full((2, 3), float(step)), "count": torch.tensor(step)}
    optimiser = {
        "optimiser": {"state": {0: {"momentum_buffer": torch.ones(2) * step}}, "param_groups": []},
        "count": step,
    }
    return TrainingState(step=step, networks=networks, optimiser=optimiser)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert latest_state(tmp_path / "state") is None
    assert latest_step(tmp_path / "state") == 0
    saved = state(5)
    assert sorted(path.name for path in save_state(tmp_path / "state", saved).iterdir()) == sorted(FILES)
    found = latest_state(tmp_path / "state")
    assert found is not None
    assert found.step == latest_step(tmp_path / "state") == 5
    assert torch.equal(found.networks["weight"], saved.networks["weight"])
    assert found.networks["count"].shape == ()
    momentum = found.optimiser["optimiser"]["state"][0]["momentum_buffer"]
    assert torch.equal(momentum, torch.full((2,), 5.0))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 100):
        save_state(tmp_path, state(step))
    assert names(tmp_path) == ["step-000000010", "step-000000100"]
    assert latest_step(tmp_path) == 100


def test_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save_state(tmp_path, state(3))
    save_state(tmp_path, TrainingState(step=3, networks={"weight": torch.zeros(1)}, optimiser={}))
    found = latest_state(tmp_path)
    assert found is not None
    assert found.networks["weight"].shape == (1,)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, file: str, damage: str) -> None:
    for step in (1, 2):
        save_state(tmp_path, state(step))
    spoil(tmp_path / "step-000000002" / file, damage)
    assert latest_step(tmp_path) == 1
    spoil(tmp_path / "step-000000001" / file, damage)
    with pytest.raises(
        CheckpointError, match=r"no saved state is whole \(.*step-000000002.*\); start again with --over"
    ):
        latest_state(tmp_path)


def spoil(path: Path, damage: str) -> None:
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(bytes([*data[:9], data[9] ^ 1, *data[10:]]))


def test_facts_of_another_step_are_damage(tmp_path: Path) -> None:
    for step in (1, 2):
        save_state(tmp_path, state(step))
    facts = tmp_path / "step-000000002/state.json"
    facts.write_text(facts.read_text().replace('"step": 2', '"step": 7'))
    assert latest_step(tmp_path) == 1


def test_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    shutil.copytree(tmp_path / "step-000000001", tmp_path / "step-000000002.building")
    assert latest_step(tmp_path) == 1
    assert names(tmp_path) == ["step-000000001"]


def test_a_full_disk_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, state(1))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_tree", full)
    with pytest.raises(
        CheckpointError, match=r"cannot be written \(No space left on device\); free some space and run the same"
    ):
        save_state(tmp_path, state(2))
    assert names(tmp_path) == ["step-000000001"]
    assert latest_step(tmp_path) == 1


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    """Even with a digest that fits."""
    path = save_state(tmp_path, state(1))
    torch.save({"evil": shutil.rmtree}, path / "optimiser.pt")
    digest = digest_of_file(path / "optimiser.pt")
    text = (path / "state.json").read_text()
    old = text.split('"optimiser.pt": "')[1][:64]
    (path / "state.json").write_text(text.replace(old, digest))
    with pytest.raises(CheckpointError, match="no saved state is whole"):
        latest_state(tmp_path)
