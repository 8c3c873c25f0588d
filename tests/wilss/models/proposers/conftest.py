"""The tiny networks, made once: transformers takes seconds to load its classes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wilss.models.proposers import tiny_networks


@pytest.fixture(scope="session")
def network_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By the word of `regions:`, and `dinov3` for EoMT's other form."""
    root = tmp_path_factory.mktemp("networks")
    makers: dict[str, Callable[[Path], Path]] = {
        "sam2": tiny_networks.sam2,
        "eomt": tiny_networks.eomt,
        "dinov3": lambda folder: tiny_networks.eomt(folder, dinov3=True),
        "sam3": tiny_networks.sam3,
        "tracker": tiny_networks.sam3_tracker,
    }
    return {name: make(root / name) for name, make in makers.items()}
