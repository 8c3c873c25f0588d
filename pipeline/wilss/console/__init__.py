"""What the command lines of both verbs share: manners, exit codes, progress, tables. Only here is click at home.

Importing this is quick: what is heavy comes with the commands, when they run.
"""

from .common_options import add_manners, is_quiet, version_option
from .options import batch_size_option, device_option, manifest_option
from .progress import ProgressDisplay
from .results import FINISHED_WITH_FAILURES, tell_failures, write_json
from .running import run
from .tables import aligned, percent

__all__ = [
    "FINISHED_WITH_FAILURES",
    "ProgressDisplay",
    "add_manners",
    "aligned",
    "batch_size_option",
    "device_option",
    "is_quiet",
    "manifest_option",
    "percent",
    "run",
    "tell_failures",
    "version_option",
    "write_json",
]
