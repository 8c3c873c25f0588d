"""Numbers that are fetched from a device: who waits for which copy."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wilss.models.devices import Fetched


class Event:
    """What torch.cuda.Event does, written down."""

    def __init__(self) -> None:
        self.recorded: list[Any] = []
        self.waits = 0
        EVENTS.append(self)

    def record(self, stream: Any = "of the current device") -> None:
        self.recorded.append(stream)

    def synchronize(self) -> None:
        self.waits += 1


EVENTS: list[Event] = []


def test_the_copy_of_a_second_gpu_is_waited_for_on_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which need not be the current device: another one's stream has nothing to wait for."""
    EVENTS.clear()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"of {device}")
    there: Any = SimpleNamespace(detach=lambda: torch.arange(3), is_cuda=True, device=torch.device("cuda:1"))
    fetched = Fetched(there)
    (event,) = EVENTS
    assert (event.recorded, event.waits) == (["of cuda:1"], 0)
    assert fetched.numbers() == [0, 1, 2]
    assert event.waits == 1
