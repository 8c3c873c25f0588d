"""What a line of progress says, and that it says no rate of what was not made."""

import itertools

import pytest

from wilss.console import ProgressDisplay


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are shown; ten seconds pass between two looks at the clock."""
    shown: list[str] = []
    clock = itertools.count(0, 10)
    monkeypatch.setattr("wilss.console.progress.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("wilss.console.progress.click.echo", lambda line, err: shown.append(line))
    return shown


def test_a_run_that_finds_all_made_tells_no_rate(lines: list[str]) -> None:
    with ProgressDisplay() as display:
        display(24, 24)
    assert lines == ["24 of 24 images"]


def test_a_run_tells_its_own_rate_and_the_time_left(lines: list[str]) -> None:
    with ProgressDisplay() as display:
        display(4, 24)
        display(14, 24)
    first, second = lines
    assert first == "4 of 24 images"
    assert second.startswith("14 of 24 images, ")
    assert second.endswith(" s left")
