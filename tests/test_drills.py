"""What `make test` takes of a test, and what it leaves; which files one worker takes."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.drills import forms, leave_few, turns
from tests.together import TOGETHER

TESTS = Path(__file__).parent
#: Who imports these forks processes.
FORKS = re.compile(r"^from tests\.faults\.(killing import|train_cli import.*\bfork)", re.MULTILINE)


class Case:
    """An item of pytest as far as marks go."""

    def __init__(self, *marks: Any) -> None:
        self.marks = list(marks)

    def get_closest_marker(self, name: str) -> Any:
        return next((one.mark for one in self.marks if one.name == name), None)

    def add_marker(self, mark: Any) -> None:
        self.marks.append(mark)


@pytest.mark.parametrize(
    ("cases", "count", "left"),
    [(9, 3, [0, 4, 8]), (10, 4, [0, 3, 6, 9]), (5, 1, [0]), (3, 3, [0, 1, 2]), (2, 5, [0, 1]), (1, 2, [0])],
)
def test_few_cases_stay_spread_evenly(cases: int, count: int, left: list[int]) -> None:
    items: list[Any] = [Case(pytest.mark.few(count)) for _ in range(cases)]
    leave_few(items)
    assert [place for place, item in enumerate(items) if item.get_closest_marker("wide") is None] == left


def test_without_the_mark_all_stay() -> None:
    items: list[Any] = [Case(), Case()]
    leave_few(items)
    assert not [item for item in items if item.marks]


def test_turns_and_forms_mark_what_is_not_short() -> None:
    for divided, name in ((turns([1, 2, (3, 4)], short=[2]), "long"), (forms([1, 2, (3, 4)], short=[2]), "wide")):
        assert [(one.values, [mark.name for mark in one.marks]) for one in divided] == [
            ((2,), []), ((1,), [name]), ((3, 4), [name]),
        ]  # fmt: skip


def test_whoever_forks_processes_does_so_in_one_worker() -> None:
    """Each worker would import everything once more for the process off which they are forked."""
    sources = {f"tests/{path.relative_to(TESTS).as_posix()}": path for path in TESTS.rglob("test_*.py")}
    forking = {name for name, path in sources.items() if FORKS.search(path.read_text(encoding="utf-8"))}
    assert len(forking) > 5
    assert not [name for name in forking if not name.startswith(TOGETHER)]
    assert not [place for place in TOGETHER if not any(name.startswith(place) for name in sources)]
