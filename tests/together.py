"""Files of tests that one worker of pytest-xdist takes, since each worker would start for itself what they ask.

That is a process with all imports behind it, off which they fork others, and a server of objects.
"""

from xdist.scheduler import LoadFileScheduling

__all__ = ["TOGETHER", "ByWhatTheyAsk"]

#: Files, or folders of them.
TOGETHER = (
    "tests/faults/test_points.py",
    "tests/faults/test_security.py",
    "tests/faults/test_train_processes.py",
    "tests/faults/test_train_kills.py",
    "tests/faults/test_panet_kills.py",
    "tests/faults/test_semi_kills.py",
    "tests/faults/test_parts.py",
    "tests/faults/test_races.py",
    "tests/faults/test_readers.py",
    "tests/faults/test_supports.py",
    "tests/objects/",
)


class ByWhatTheyAsk(LoadFileScheduling):  # type: ignore[misc]  # a class of no known type
    """A worker takes a file as a whole; those of `TOGETHER` go to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return "together" if nodeid.startswith(TOGETHER) else str(super()._split_scope(nodeid))
